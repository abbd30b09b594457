//! The packet filter as the kernel has it: is it there, does it drop what no rule names, does it let in what the documents say.
//!
//! Contract: [`guard`] is a boot's: it says whether anything may be switched on towards the LAN, and loads the image's fallback, which lets nobody in, when
//! the rules themselves are not there. [`keep`] is the running node's: it loads rules and sets again when they are not as they should be. Neither ever
//! makes a filter looser than the rules of the image.
//!
//! Failure classes: `nft` does not run or refuses, or what it lists is not what was loaded: a sentence in both languages.

use crate::api::Text;
use crate::render::files::write_one;
use crate::render::firewall::{Opened, elements};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use twinpost_storage::Program;

/// The rules of the image.
const RULES: &str = "/etc/nftables.conf";
/// The same table without anything that could fail, and without anybody from the LAN.
const CLOSED: &str = "/usr/share/twinpost/closed.nft";
const LIMIT: Duration = Duration::from_secs(15);

/// What the kernel has.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loaded {
    /// No filter of ours: everything would come in.
    Nothing,
    /// The fallback: nobody comes in from the LAN.
    Closed,
    /// The rules, and what their sets let in.
    Rules(Opened),
}

/// What `nft --json list table inet twinpost` prints.
fn read(listed: &str) -> Loaded {
    let Ok(listed) = serde_json::from_str::<Value>(listed) else { return Loaded::Nothing };
    let objects = || listed["nftables"].as_array().map(Vec::as_slice).unwrap_or_default().iter().take(4096);
    let drops = objects()
        .filter_map(|object| object.get("chain"))
        .any(|chain| chain["name"] == "input" && chain["hook"] == "input" && chain["policy"] == "drop");
    if !drops {
        return Loaded::Nothing;
    }
    let set = |name: &str| objects().filter_map(|object| object.get("set")).find(|set| set["name"] == name);
    let elements = |name: &str| {
        let list = set(name).and_then(|set| set["elem"].as_array()).map(Vec::as_slice).unwrap_or_default();
        // An element with more to it is an object around its value.
        list.iter().map(|element| element.pointer("/elem/val").unwrap_or(element)).collect::<Vec<_>>()
    };
    if set("lan_tcp").is_none() {
        return Loaded::Closed;
    }
    let ports = |name: &str| -> BTreeSet<u16> {
        elements(name).into_iter().filter_map(Value::as_u64).filter_map(|port| u16::try_from(port).ok()).collect()
    };
    let addresses = |name: &str| elements(name).into_iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>();
    Loaded::Rules(Opened {
        lan_tcp: ports("lan_tcp"),
        peer4: addresses("peer4").iter().filter_map(|ip| ip.parse().ok()).collect(),
        peer6: addresses("peer6").iter().filter_map(|ip| ip.parse().ok()).collect(),
        peer_tcp: ports("peer_tcp"),
        peer_udp: ports("peer_udp"),
    })
}

async fn look(nft: &Program) -> Loaded {
    match nft.ok(&["--json", "list", "table", "inet", "twinpost"], LIMIT).await {
        Ok(answer) => read(&answer),
        Err(_) => Loaded::Nothing,
    }
}

async fn load(nft: &Program, file: &str) -> Result<(), String> {
    nft.ok(&["-f", file], LIMIT).await.map(drop).map_err(|error| error.to_string())
}

/// What a boot may do towards the LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// The LAN may be switched on: whatever is there lets nobody in by mistake.
    pub lan: bool,
    /// What a person should know.
    pub fault: Option<Text>,
}

/// Before any port is switched on.
pub async fn guard(nft: &Program) -> Guarded {
    match look(nft).await {
        Loaded::Rules(_) => return Guarded { lan: true, fault: None },
        Loaded::Closed => {}
        Loaded::Nothing => {
            let tried = load(nft, CLOSED).await;
            if look(nft).await == Loaded::Nothing {
                let why = tried.err().unwrap_or_default();
                let fault = Text::new(
                    format!("there is no packet filter ({why}): the LAN stays switched off"),
                    format!("没有包过滤规则（{why}）：局域网口保持关闭"),
                );
                return Guarded { lan: false, fault: Some(fault) };
            }
        }
    }
    let why = load(nft, RULES).await.err();
    match (look(nft).await, why) {
        (Loaded::Rules(_), _) => Guarded { lan: true, fault: None },
        (_, why) => {
            let why = why.unwrap_or_default();
            let fault = Text::new(
                format!("the rules of the packet filter cannot be loaded ({why}): nobody is let in from the LAN"),
                format!("无法加载包过滤规则（{why}）：不允许任何来自局域网的访问"),
            );
            Guarded { lan: true, fault: Some(fault) }
        }
    }
}

/// Of a running node: rules and sets as the documents have them now, loaded again where they are not. `file`: where the elements are written.
///
/// # Errors
/// What is wrong, and stays so.
pub async fn keep(nft: &Program, wanted: &Opened, file: &Path) -> Result<(), Text> {
    let now = look(nft).await;
    if now == Loaded::Rules(wanted.clone()) {
        return Ok(());
    }
    tracing::warn!(now = ?now, "the packet filter is not as it should be: it is loaded again");
    let mut failed = None;
    // Rules that are there keep their counters.
    if !matches!(now, Loaded::Rules(_)) {
        failed = load(nft, RULES).await.err();
    }
    // The documents may have changed since the last setup.
    failed = failed.or(write_one(file, &elements(wanted)).err().map(|error| format!("{}: {error}", file.display())));
    failed = failed.or(load(nft, &file.display().to_string()).await.err());
    let why = failed.unwrap_or_default();
    match look(nft).await {
        Loaded::Rules(opened) if opened == *wanted => Ok(()),
        Loaded::Rules(_) => Err(Text::new(
            format!("the packet filter does not let in what is set ({why})"),
            format!("包过滤放行的端口与设置不符（{why}）"),
        )),
        Loaded::Closed => Err(Text::new(
            format!("the rules of the packet filter cannot be loaded ({why}): nobody is let in from the LAN"),
            format!("无法加载包过滤规则（{why}）：不允许任何来自局域网的访问"),
        )),
        Loaded::Nothing => {
            let closed = load(nft, CLOSED).await;
            let (en, zh) = match closed {
                Ok(()) => ("nobody is let in from the LAN now", "现已禁止来自局域网的访问"),
                Err(_) => ("this node is open to its network", "本节点对网络没有防护"),
            };
            Err(Text::new(format!("there is no packet filter ({why}): {en}"), format!("没有包过滤规则（{why}）：{zh}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// As nft 1.0.6 lists it, shortened.
    const LISTED: &str = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "twinpost"}},
        {"set": {"family": "inet", "name": "lan_tcp", "table": "twinpost", "type": "inet_service", "elem": [25, 587]}},
        {"set": {"family": "inet", "name": "peer4", "table": "twinpost", "type": "ipv4_addr", "elem": ["169.254.77.2"]}},
        {"set": {"family": "inet", "name": "peer6", "table": "twinpost", "type": "ipv6_addr"}},
        {"set": {"family": "inet", "name": "peer_tcp", "table": "twinpost", "type": "inet_service", "elem": [6943]}},
        {"set": {"family": "inet", "name": "peer_udp", "table": "twinpost", "type": "inet_service", "elem": [{"elem": {"val": 6940, "comment": "x"}}]}},
        {"chain": {"family": "inet", "table": "twinpost", "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "POLICY"}}]}"#;

    fn opened() -> Opened {
        Opened {
            lan_tcp: [25, 587].into(),
            peer4: ["169.254.77.2".parse().unwrap()].into(),
            peer_tcp: [6943].into(),
            peer_udp: [6940].into(),
            ..Opened::default()
        }
    }

    #[test]
    fn what_the_kernel_has_is_read() {
        assert_eq!(read(&LISTED.replace("POLICY", "drop")), Loaded::Rules(opened()));
        assert_eq!(read(&LISTED.replace("POLICY", "accept")), Loaded::Nothing, "it lets everything in");
        assert_eq!(read(&LISTED.replace("POLICY", "drop").replace("lan_tcp", "other")), Loaded::Closed);
        assert_eq!(read(""), Loaded::Nothing);
    }

    /// An `nft` that loads a file by copying what its listing is.
    fn nft(folder: &std::path::Path, rules_load: bool, closed_loads: bool) -> Program {
        let script = folder.join("nft");
        let ok =
            |good: bool, what: &str| if good { format!("cp {what} $0.now") } else { "echo no module >&2; exit 1".to_owned() };
        let (rules, closed) = (ok(rules_load, "$0.rules"), ok(closed_loads, "$0.closed"));
        let text = format!(
            "#!/bin/sh\ncase \"$*\" in --json*) cat $0.now 2>/dev/null || exit 1;; *{CLOSED}) {closed};; *{RULES}) {rules};; esac\n"
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let rules = LISTED.replace("POLICY", "drop");
        std::fs::write(folder.join("nft.rules"), &rules).unwrap();
        std::fs::write(folder.join("nft.closed"), rules.replace("lan_tcp", "other")).unwrap();
        let _ = std::fs::remove_file(folder.join("nft.now"));
        Program::new(&script)
    }

    #[tokio::test]
    async fn without_rules_nobody_comes_in_and_without_a_filter_nothing_is_switched_on() {
        let folder = tempfile::tempdir().unwrap();
        let all = nft(folder.path(), true, true);
        assert_eq!(guard(&all).await, Guarded { lan: true, fault: None });
        let closed = nft(folder.path(), false, true);
        let guarded = guard(&closed).await;
        assert!(guarded.lan && guarded.fault.unwrap().en.contains("nobody is let in"));
        assert!(keep(&closed, &opened(), &folder.path().join("sets")).await.unwrap_err().en.contains("nobody is let in"));
        let none = nft(folder.path(), false, false);
        let guarded = guard(&none).await;
        assert!(!guarded.lan && guarded.fault.unwrap().en.contains("no module"));
        assert!(keep(&none, &opened(), &folder.path().join("sets")).await.unwrap_err().en.contains("open to its network"));
    }

    #[tokio::test]
    async fn a_filter_that_was_lost_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let all = nft(folder.path(), true, true);
        let sets = folder.path().join("sets");
        keep(&all, &opened(), &sets).await.unwrap();
        std::fs::remove_file(folder.path().join("nft.now")).unwrap();
        keep(&all, &opened(), &sets).await.unwrap();
        // A document that names another port: its elements are loaded. This `nft` takes none.
        let more = Opened { lan_tcp: [25, 587, 993].into(), ..opened() };
        assert!(keep(&all, &more, &sets).await.unwrap_err().en.contains("does not let in"));
        assert!(std::fs::read_to_string(&sets).unwrap().contains("lan_tcp { 25, 587, 993 }"));
    }

    proptest! {
        #[test]
        fn any_listing(text in "\\PC{0,200}", policy in "[a-z]{0,6}") {
            read(&text);
            read(&LISTED.replace("POLICY", &policy));
        }
    }
}
