//! The appliance document: one TOML file that says how a node is set up.
//!
//! Contract: every key has a type, a unit, limits, a default and a sentence; a key that is not known is refused with
//! file, line and key; all faults of a document are told at once, and a document with a fault changes nothing. The
//! reference in docs/configuration.md is made from the same table that reads the file, so the two cannot differ.
//!
//! Why no derive of serde here: serde stops at the first fault and knows no lines. A person who repairs a file by a
//! support call wants the whole list.
//!
//! Failure classes: the file cannot be read ([`Error::Read`]); it is not TOML or holds faults ([`Error::Faults`]).

mod document;
pub mod history;
mod pair;
mod reference;
mod schema;
mod sms;
mod value;

pub use document::{Directory, Document, Imap, Limits, Log, Network, Node, Pop3, Queue, SmartHost, Smtp, Store, Tls};
pub use pair::{
    Console, Lan, NodeDocument, NodeIdentity, Pair, PairAddress, PairCable, PairChannel, PairLink, PairPower, PairRules,
    PairSerial, PairStorage, PairWatchdog, PairWitness,
};
pub use reference::markdown;
pub use schema::{Fault, Faults, KeyDoc, join, refuse_unknown};
pub use sms::{Smpp, Sms, SmsGateway, SmsNumbers, SmsOrders};
pub use value::{
    BareLineEnds, BytesSize, DatabaseAddress, DayHours, HostPort, LogForm, OverQuota, SmartHostTls, SmsLanguage, SmsReports,
    SmsSenders, SmsSubject, Span, StorageDriver, SwitchDriver, TakeoverRule, WitnessEngine, ZoneOffset,
};

use std::path::{Path, PathBuf};

/// Why a document could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The document holds these faults; each line names file, line and key.
    #[error("{0}")]
    Faults(Faults),
}

/// Name of the file beside the appliance document that holds what belongs to one node.
pub const NODE_FILE: &str = "node.toml";

/// Reads and checks the document in this file. The node's name is taken from the `node.toml` beside it, if there is one.
///
/// # Errors
/// [`Error::Read`], or [`Error::Faults`] with every fault at once.
pub fn load(path: &Path) -> Result<Document, Error> {
    let mut document = parse(&text_of(path)?, &path.display().to_string())?;
    if let Some(name) = load_node(path.parent().unwrap_or(Path::new(".")))?.node.name {
        document.node.name = name;
    }
    Ok(document)
}

/// Reads and checks `node.toml` in this folder; without one, all defaults: a node alone.
///
/// # Errors
/// [`Error::Read`], or [`Error::Faults`] with every fault at once.
pub fn load_node(folder: &Path) -> Result<NodeDocument, Error> {
    let path = folder.join(NODE_FILE);
    match text_of(&path) {
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(NodeDocument::default()),
        text => parse_node(&text?, &path.display().to_string()),
    }
}

fn text_of(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Reads and checks an appliance document; `name` stands for the file in messages.
///
/// # Errors
/// [`Error::Faults`] with every fault at once.
pub fn parse(text: &str, name: &str) -> Result<Document, Error> {
    parse_with(text, name, Document::check_whole)
}

/// Reads and checks what belongs to one node; `name` stands for the file in messages.
///
/// # Errors
/// [`Error::Faults`] with every fault at once.
pub fn parse_node(text: &str, name: &str) -> Result<NodeDocument, Error> {
    parse_with(text, name, NodeDocument::check_whole)
}

fn parse_with<S: schema::Section>(text: &str, name: &str, check: impl Fn(&S, &mut Faults)) -> Result<S, Error> {
    let mut faults = Faults::new(name, text);
    match text.parse::<toml_edit::Document<String>>() {
        Err(error) => faults.syntax(&error),
        Ok(file) => {
            let document = S::read(Some(file.as_table()), "", &mut faults);
            check(&document, &mut faults);
            if faults.is_empty() {
                return Ok(document);
            }
        }
    }
    Err(Error::Faults(faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(usize, String, String)> {
        match parse(text, "f.toml") {
            Err(Error::Faults(faults)) => faults.sorted().into_iter().map(|f| (f.line, f.key, f.message)).collect(),
            other => panic!("expected faults, found {other:?}"),
        }
    }

    #[test]
    fn an_empty_document_is_all_defaults() -> Result<(), Error> {
        let document = parse("", "f.toml")?;
        assert_eq!(document, Document::default());
        assert_eq!(document.smtp.max_message, BytesSize(50 << 20));
        assert_eq!(document.queue.retry.len(), 7);
        assert_eq!(document.tls.key, None);
        Ok(())
    }

    #[test]
    fn every_fault_is_told_at_once_with_line_and_key() {
        let text = "version = 1\n[smtp]\nmax_mesage = \"1 MiB\"\nmax_recipients = 5\nbare_line_ends = \"keep\"\n\n[queue]\nexpire = \"5 weeks\"\n\
                    [network]\nimap = [\"localhost:143\"]\n[node]\nname = 7\n[tls]\nkey = \"k.pem\"\n[nothing]\n";
        let list = faults(text);
        let brief: Vec<(usize, &str)> = list.iter().map(|(line, key, _)| (*line, key.as_str())).collect();
        assert_eq!(
            brief,
            [
                (0, "tls"),
                (3, "smtp.max_mesage"),
                (4, "smtp.max_recipients"),
                (5, "smtp.bare_line_ends"),
                (8, "queue.expire"),
                (10, "network.imap"),
                (12, "node.name"),
                (15, "nothing"),
            ]
        );
        assert!(list[1].2.contains("max_message"), "the nearest key is named: {}", list[1].2);
        assert!(list[2].2.contains("100 to 100000"), "the limits are named: {}", list[2].2);
    }

    #[test]
    fn faults_about_text_messages_name_line_and_key() {
        let text = "[sms]\nenabled = true\nport = 1\nbaud = 100\ndomains = [\"mail2sms\"]\n[sms.gateway]\nquiet = \"22-7\"\ntime_zone = \"8\"\n\
                    quotas = { \"a@x.example\" = -1 }\n[sms.gateway.groups]\nclass3a = \"1\"\n[sms.orders]\nnumbers = [\"13800138000\"]\n";
        let list = faults(text);
        let brief: Vec<(usize, &str)> = list.iter().map(|(line, key, _)| (*line, key.as_str())).collect();
        assert_eq!(
            brief,
            [
                (0, "sms.domains"),
                (0, "sms.orders.numbers"),
                (3, "sms.port"),
                (4, "sms.baud"),
                (7, "sms.gateway.quiet"),
                (8, "sms.gateway.time_zone"),
                (9, "sms.gateway.quotas"),
                (10, "sms.gateway.groups"),
            ]
        );
        let list = faults("[sms]\nenabled = true\nport = \"\"\n");
        assert_eq!((list.len(), list[0].1.as_str()), (1, "sms.port"), "no way for texts: {list:?}");
        let good =
            "[sms.gateway]\nquiet = \"22:00-07:00\"\ntime_zone = \"-03:30\"\n[sms.gateway.groups]\nclass3a = [\"1\", \"2\"]\n";
        let gateway = parse(good, "f.toml").map(|d| d.sms.gateway).unwrap_or_default();
        assert_eq!(gateway.quiet, Some(DayHours { from_min: 22 * 60, to_min: 7 * 60 }));
        assert_eq!((gateway.time_zone.minutes, gateway.groups["class3a"].len()), (-210, 2));
    }

    #[test]
    fn a_node_of_a_pair_says_what_it_lacks() {
        let list = |text: &str| match parse_node(text, "node.toml") {
            Err(Error::Faults(faults)) => faults.sorted().into_iter().map(|f| f.key).collect::<Vec<_>>(),
            other => panic!("expected faults, found {other:?}"),
        };
        assert_eq!(list("[pair]\nenabled = true\n"), ["node.name", "pair", "pair.storage"]);
        let half = "[node]\nname = \"c\"\n[pair]\nenabled = true\n[pair.eth1]\nbind = \"127.0.0.1:1\"\n[pair.storage]\ndriver = \"shared\"\n\
                    [pair.power]\ndriver = \"ipmi\"\n[pair.witness]\nengine = \"twinpost\"\n";
        assert_eq!(list(half), ["node.name", "pair.eth1", "pair.power.at", "pair.witness.address"]);
        assert_eq!(list("[smtp]\nmax_hops = 7\n"), ["smtp"], "what belongs to both nodes stands in the appliance document");
        let lan = "[lan]\naddresses = [\"10.9.0.11/24\", \"127.0.0.1/8\"]\ngateways = [\"10.8.0.1\", \"10.9.0.11\"]\nntp = [\"a b\"]\nmtu = 100\n[console]\norders = 1\n";
        assert_eq!(
            list(lan),
            ["lan.addresses", "lan.gateways", "lan.gateways", "lan.gateways", "lan.ntp", "lan.mtu", "console.orders"]
        );
        let sound = "[node]\nname = \"b\"\n[lan]\naddresses = [\"10.9.0.12/24\", \"2001:db8::12/64\"]\ngateways = [\"10.9.0.1\", \"fe80::1\"]\nvlan = 7\n";
        let node = parse_node(sound, "node.toml").expect("it is sound");
        assert_eq!(node.cable_address(), Some(("169.254.77.2".parse().expect("an address"), 30)));
        let alone = parse_node("", "node.toml").map(|n| (n.pair.enabled, n.node.name));
        assert!(matches!(alone, Ok((false, None))), "{alone:?}");
        assert_eq!(faults("[pair]\nwarn = \"1 s\"\nfail_back = \"c\"\n").len(), 2);
    }

    #[test]
    fn what_is_not_toml_is_told_with_its_line() {
        let list = faults("version = 1\n[smtp\n");
        assert_eq!(list[0].0, 2);
    }

    #[test]
    fn values_show_in_the_unit_they_were_written_in() {
        use value::Value;
        for text in ["50 MiB", "1 KiB", "7 B", "3 GiB"] {
            assert_eq!(BytesSize::from_text(&format!("\"{text}\"")).map(|s| s.to_string()).as_deref(), Ok(text));
        }
        for text in ["30 s", "5 min", "31 d", "250 ms", "4 h"] {
            assert_eq!(Span::from_text(&format!("\"{text}\"")).map(|s| s.to_string()).as_deref(), Ok(text));
        }
        assert!(BytesSize::from_text("\"99999999999 TiB\"").is_err());
    }

    #[test]
    fn the_reference_page_is_the_one_in_docs() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        if std::env::var_os("TWINPOST_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).expect("docs/ can be written");
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(page, markdown(), "docs/configuration.md is not what the table says: run `make docs`");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = parse(&text, "f.toml");
        }
        #[test]
        fn any_value_of_any_key_is_read_or_refused(key in "[a-z_]{1,12}", value in "\\PC{0,20}") {
            for section in ["smtp", "queue", "network", "limits", "store", "sms", "sms.gateway", "sms.numbers", "pair"] {
                let _ = parse(&format!("[{section}]\n{key} = {value}\nmax_message = {value}\n"), "f.toml");
            }
        }
    }
}
