//! The telephones of a node's simulated modem: what they received, and orders to the modem.

use crate::node::{Node, wait_for};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// The simulated modem of a node, from outside.
pub struct Phones {
    record: PathBuf,
    control: PathBuf,
    /// Domain of the numbers.
    pub domain: String,
}

impl Node {
    /// A new node whose simulated modem answers at once; its modem is ready.
    pub fn start_with_modem() -> Self {
        let node = Self::start_with(crate::node::own_address(), &["--modem", "instant"]);
        node.wait_for_modem();
        node
    }

    /// Waits until texts can go.
    pub fn wait_for_modem(&self) {
        wait_for("a modem that is ready", || {
            let state = self.ctl(&["--json", "sms", "status"]);
            let state: Value = serde_json::from_str(&state.out).ok()?;
            (state["ways"][0]["condition"] == "ready").then_some(())
        });
    }

    /// The telephones that it reaches.
    pub fn phones(&self) -> Phones {
        let endpoints = self.endpoints();
        let modem = &endpoints["modems"][0];
        assert_eq!(modem["node"], "a", "{endpoints}");
        let path = |key: &str| PathBuf::from(modem[key].as_str().unwrap_or_else(|| panic!("no {key} in {modem}")));
        Phones {
            record: path("record"),
            control: path("control"),
            domain: endpoints["sms_domain"].as_str().expect("endpoints.json names the SMS domain").to_owned(),
        }
    }
}

impl Phones {
    /// The address of a number.
    pub fn at(&self, number: &str) -> String {
        format!("{number}@{}", self.domain)
    }

    /// All that was received.
    pub fn received(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        // The last line may be on its way.
        text.split_inclusive('\n')
            .filter(|l| l.ends_with('\n'))
            .map(|l| serde_json::from_str(l).expect("a line is JSON"))
            .collect()
    }

    /// Waits for texts of which this is so; gives the first.
    pub fn wait(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(&format!("a text on a phone: {what}"), || self.received().into_iter().find(|one| is(one)))
    }

    /// Waits for this text.
    pub fn wait_for_text(&self, text: &str) -> Value {
        self.wait(text, |one| one["text"] == text)
    }

    /// An order to the modem; gives its answer.
    pub fn order(&self, order: &str) -> String {
        let mut stream = wait_for("the modem's control socket", || UnixStream::connect(&self.control).ok());
        stream.write_all(format!("{order}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            assert!(!line.starts_with("error: "), "{order}: {line}");
            if line == "ok" {
                break;
            }
            answer.push_str(&line);
            answer.push('\n');
        }
        answer
    }
}
