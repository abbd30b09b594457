//! A pair under load that is watched: the ground of the tests with faults.
//!
//! Contract: outside clients send mail from the start to the end and remember every 250; [`crate::pair_watch`] looks on; at the end each
//! acknowledged message is found by IMAP and the store is verified. Faults are made as a person or a machine makes them: signals to
//! processes that `endpoints.json` names, orders to the rack, `twinpost ctl`.
//!
//! Failure classes: the service does not come back within the harness's patience, two nodes serve, mail is lost or doubled; the timeline
//! follows.

use crate::imap::Imap;
use crate::kill::Load;
use crate::node::{alive, wait_for};
use crate::pair_watch::{Timeline, Watch, greets};
use crate::smtp::Smtp;
use crate::two::{Two, Up, signal_to};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PEOPLE: [&str; 3] = ["ben@school.example", "anna@school.example", "zhang.wei@school.example"];
/// How many clients send.
const CLIENTS: u64 = 4;
/// A client rests so long after each message: what is tested is the order of things and not the speed.
const REST: Duration = Duration::from_millis(40);

/// The pair and what is around it.
pub struct World {
    /// The `up` that runs the rack is the first. They end before the folder goes.
    ups: Vec<Up>,
    /// The pair.
    pub two: Two,
    load: Arc<Load>,
    clients: Vec<JoinHandle<()>>,
    watch: Option<Watch>,
    timeline: Timeline,
    smtp: SocketAddr,
}

/// The other node.
pub fn other(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

impl World {
    /// A pair as `make run` makes it.
    pub fn start(seed: u64) -> Self {
        let two = Two::new();
        let mut up = two.up("up", &[]);
        two.settled(&mut up);
        Self::over(two, up, seed)
    }

    /// The same after its documents were changed: each pair of texts is replaced in `node.toml` and `appliance.toml` of both nodes, and
    /// must be found in one of them.
    pub fn changed(seed: u64, changes: &[(&str, &str)]) -> Self {
        let two = Two::new();
        let mut up = two.up("up", &[]);
        two.settled(&mut up);
        assert_eq!(up.end_by(Signal::SIGTERM).code(), Some(0), "{}", up.log());
        for node in ["a", "b"] {
            for (old, new) in changes {
                let mut found = false;
                for document in ["node.toml", "appliance.toml"] {
                    let path = two.dir().join(node).join(document);
                    let text = std::fs::read_to_string(&path).unwrap();
                    found |= text.contains(old);
                    std::fs::write(&path, text.replacen(old, new, 1)).unwrap();
                }
                assert!(found, "{old:?} stands in no document of node {node}");
            }
        }
        let mut up = two.up("up", &[]);
        two.settled(&mut up);
        Self::over(two, up, seed)
    }

    fn over(two: Two, up: Up, seed: u64) -> Self {
        let timeline = Timeline::new();
        let watch = Some(Watch::start(&two, timeline.clone()));
        let (load, smtp) = (Load::resting(REST), two.at("smtp"));
        let clients = (0..CLIENTS)
            .map(|c| {
                let load = load.clone();
                std::thread::spawn(move || {
                    load.client(&format!("p{c}"), seed ^ c, &PEOPLE, "sender@elsewhere.example", &|| Smtp::open(smtp));
                })
            })
            .collect();
        let world = Self { ups: vec![up], two, load, clients, watch, timeline, smtp };
        world.more_mail(10);
        world
    }

    /// Says what happens, on the terminal and in the timeline.
    pub fn say(&self, text: &str) {
        self.timeline.note(&format!("*** {text}"));
        println!("{text}");
    }

    /// Waits for the event; a wait in vain shows the timeline.
    #[track_caller]
    pub fn until<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        wait_for(what, ask)
    }

    /// How many messages are acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.load.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many more 250.
    #[track_caller]
    pub fn more_mail(&self, messages: usize) {
        let goal = self.acknowledged() + messages;
        self.until("more acknowledged messages", || (self.acknowledged() >= goal).then_some(()));
    }

    /// Waits until one node serves and the other may take over; active and standby.
    #[track_caller]
    pub fn settled(&mut self) -> (&'static str, &'static str) {
        let found = self.two.settled(&mut self.ups[0]);
        self.timeline.note(&format!("settled: node {} serves", found.0));
        found
    }

    /// Waits until this node serves; says how long it took.
    #[track_caller]
    pub fn serves(&self, node: &str, since: Instant) {
        self.until(&format!("node {node} on the service address"), || {
            (self.two.active() == Some(if node == "a" { "a" } else { "b" }) && greets(self.smtp)).then_some(())
        });
        self.say(&format!("node {node} answers after {:.2} s", since.elapsed().as_secs_f64()));
    }

    /// The node that serves, as soon as there is one.
    #[track_caller]
    pub fn someone_serves(&self) -> &'static str {
        self.until("a node on the service address", || {
            let node = self.two.active()?;
            greets(self.smtp).then_some(node)
        })
    }

    /// `kill -9` of every process of a node; nothing is left afterwards.
    pub fn pull_the_plug(&self, node: &str) -> Instant {
        self.say(&format!("kill -9 of every process of node {node}"));
        let since = Instant::now();
        self.two.pull_the_plug(node);
        since
    }

    /// The processes of a node that was killed are gone, and it is started alone.
    pub fn put_back(&mut self, node: &'static str, old: &[(String, u64)]) {
        self.two.wait_for_dark(node, old);
        self.say(&format!("`up --only {node}`"));
        let start = || self.two.up(&format!("only-{node}"), &["--only", node]);
        let mut up = start();
        // The `up` that ran it before may still be ending: then this one refuses, and is called again as a person would.
        self.until("the node that was put back", || {
            if up.has_ended() {
                up = start();
            }
            self.two.pid(node, "node").filter(|pid| alive(*pid))
        });
        self.ups.push(up);
    }

    /// A signal to every process of a node.
    pub fn signal_all(&self, node: &str, signal: Signal) {
        self.say(&format!("{signal} to every process of node {node}"));
        for (_, pid) in self.two.pids(node) {
            signal_to(pid, signal);
        }
    }

    /// A signal to one process of a node.
    pub fn signal_part(&self, node: &str, part: &str, signal: Signal) -> u64 {
        let pid = self.until(&format!("{part} of node {node}"), || self.two.pid(node, part).filter(|pid| alive(*pid)));
        self.say(&format!("{signal} to {part} of node {node}"));
        signal_to(pid, signal);
        pid
    }

    /// A signal to one process of a node if it runs.
    pub fn try_signal(&self, node: &str, part: &str, signal: Signal) -> bool {
        let Some(pid) = self.two.pid(node, part).filter(|pid| alive(*pid)) else { return false };
        self.say(&format!("{signal} to {part} of node {node}"));
        signal_to(pid, signal);
        true
    }

    /// A signal to these processes.
    pub fn signal_pids(&self, pids: &[u64], signal: Signal) {
        self.timeline.note(&format!("{signal} to {pids:?}"));
        for pid in pids {
            signal_to(*pid, signal);
        }
    }

    /// A signal to the witness.
    pub fn signal_witness(&self, signal: Signal) {
        let pid = self.until("a witness", || self.two.endpoints()?.pointer("/pair/witness/pid")?.as_u64());
        self.say(&format!("{signal} to the witness"));
        signal_to(pid, signal);
    }

    /// The node that serves, if one does before this time is over.
    pub fn service_within(&self, time: Duration) -> Option<&'static str> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(node) = self.two.active().filter(|_| greets(self.smtp)) {
                return Some(node);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// Whether so many messages are acknowledged before this time is over.
    pub fn mail_within(&self, messages: usize, time: Duration) -> bool {
        let (goal, end) = (self.acknowledged() + messages, Instant::now() + time);
        while Instant::now() < end {
            if self.acknowledged() >= goal {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// An order to the rack.
    #[track_caller]
    pub fn rack(&self, line: &str) {
        self.say(&format!("rack: {line}"));
        self.two.rack(line);
    }

    /// Cuts these cables.
    pub fn cut(&self, links: &[&str]) {
        for link in links {
            self.rack(&format!("cut {link}"));
        }
    }

    /// What the daemon of a node says.
    #[track_caller]
    pub fn status(&self, node: &str) -> Value {
        self.until("an answer of the daemon", || self.two.status(node))
    }

    /// The reign, as the daemon of a node knows it.
    #[track_caller]
    pub fn reign(&self, node: &str) -> u64 {
        self.status(node)["reign"].as_u64().expect("a number")
    }

    /// Waits until a node sees a link in this state.
    #[track_caller]
    pub fn link(&self, node: &str, link: &str, state: &str) {
        self.until(&format!("{link} {state} as node {node} sees it"), || {
            let status = self.two.status(node)?;
            let found = status["links"].as_array()?.iter().find(|l| l["name"] == link)?["state"] == state;
            found.then_some(())
        });
    }

    /// Waits until a node says that its peer is in this state.
    #[track_caller]
    pub fn peer_is(&self, node: &str, state: &str) {
        self.until(&format!("the peer of node {node} is {state}"), || {
            let status = self.two.status(node)?;
            let found = status["nodes"].as_array()?.iter().find(|n| n["name"] != node)?["state"] == state;
            found.then_some(())
        });
    }

    /// A planned switch; the other serves afterwards.
    #[track_caller]
    pub fn switch(&self, to: &str) {
        self.say(&format!("planned switch to node {to}"));
        let since = Instant::now();
        self.two.ctl(&["pair", "standby", "--yes"]).well();
        self.serves(to, since);
    }

    /// Everything is mended and settles; every 250 is looked for, and the watchers say what they saw.
    #[track_caller]
    pub fn finish(mut self) {
        self.rack("mend all");
        let (active, standby) = self.settled();
        self.more_mail(20);
        self.load.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        let ca = self.two.endpoints().expect("it is there")["ca"].as_str().unwrap().to_owned();
        let mut boxes: HashMap<&str, HashMap<String, usize>> = HashMap::new();
        for person in PEOPLE {
            let password = self.two.password(person);
            let mut imap = Imap::open(self.two.at("imaps"), ca.as_ref(), person, &password).expect("the password is right");
            boxes.insert(person, imap.message_ids("INBOX"));
        }
        self.load.check(&boxes);
        self.two.ctl(&["store", "verify"]).well();
        for node in [active, standby] {
            let status = self.status(node);
            assert_eq!(status["active"], active, "{status:#}");
        }
        self.watch.take().expect("it watches since the start").end();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.load.stop.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            println!("--- timeline\n{}", self.timeline.last(150));
            for node in ["a", "b"] {
                let status = self.two.status(node).map(|s| format!("{}\n{}", s["sentence"], s["alarms"]));
                println!("--- node {node} says: {}", status.unwrap_or_default());
            }
        }
    }
}
