//! How this node is, gathered for the judgement of [`twinpost_update::health`]: the pair daemon's word, the arrays, the boot's report, the units.

use super::{Settings, link, report};
use crate::render::boot::documents;
use serde_json::Value;
use std::path::Path;
use twinpost_config::StorageDriver;
use twinpost_disks::{ArrayStatus, Machine};
use twinpost_update::health::{Array, Facts, Fault, Part, Role};

/// Where systemd's units have their processes.
const CGROUPS: &str = "/sys/fs/cgroup/system.slice";

/// Everything now.
pub async fn gather(settings: &Settings, machine: &Machine) -> Facts {
    let boot = report::read(&settings.boot_report);
    // Faults of the documents are told by the boot and by who reads them; here they mean that nothing can be expected.
    let (node, document) = documents(&settings.node, &mut Vec::new());
    let paired = document.is_some() && node.pair.enabled;
    let pair = if paired { link::status(&settings.pair_socket()).await } else { None };
    let mut programs = Vec::new();
    if paired {
        programs.push(Part { name: "twinpost-pair".to_owned(), good: pair.is_some() });
    }
    if document.as_ref().is_some_and(|document| document.sms.enabled) {
        programs.push(Part { name: "twinpost-sms".to_owned(), good: runs("twinpost-sms.service") });
    }
    let up = pair.as_ref().is_some_and(|pair| pair.services == "up");
    let mirrored = paired && node.pair.storage.driver == StorageDriver::Drbd;
    Facts {
        role: role(paired, pair.as_ref()),
        arrays: machine.arrays().iter().map(array).collect(),
        state_volume: boot.pointer("/state/mounted").and_then(Value::as_str) == Some("persistent"),
        store: up,
        mirror: pair.as_ref().filter(|_| mirrored).map(|pair| !matches!(pair.disk.as_str(), "" | "Diskless" | "Failed")),
        // The pair daemon reads the banners over the service address, as clients do.
        ports: vec![Part { name: "mail".to_owned(), good: up }],
        programs,
        faults: faults(settings, &boot).into_iter().map(|(code, text)| fault(code, text)).collect(),
    }
}

/// What the boot found, and what is wrong now.
pub fn faults(settings: &Settings, boot: &Value) -> Vec<(String, crate::api::Text)> {
    let firewall = settings.firewall.fault().map(|text| ("firewall".to_owned(), text));
    let mut all = report::faults(boot);
    // One sentence is enough: the one that holds now.
    all.retain(|(code, _)| firewall.is_none() || code != "firewall");
    all.extend(firewall);
    all
}

fn fault(code: String, text: crate::api::Text) -> Fault {
    Fault { code, text: twinpost_update::Text::new(text.en, text.zh) }
}

fn role(paired: bool, pair: Option<&link::Pair>) -> Role {
    match pair {
        // A node of the image serves only as one of two: alone it waits for its peer to be named.
        None if !paired => Role::NotSetUp,
        None => Role::Unknown,
        Some(pair) if matches!(pair.state.as_str(), "" | "boot" | "taking_over") => Role::Unknown,
        Some(pair) if pair.serves() => Role::Serving,
        Some(_) => Role::Standby,
    }
}

fn array(status: &ArrayStatus) -> Array {
    let working = if status.works() { status.disks.saturating_sub(status.degraded) } else { 0 };
    Array { name: status.array.name().to_owned(), working, members: status.disks }
}

/// A unit has processes (cgroup v2, `cgroup.events`).
fn runs(unit: &str) -> bool {
    let events = std::fs::read_to_string(Path::new(CGROUPS).join(unit).join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_known_when_the_pair_says_so() {
        let pair = |state: &str, active: Option<&str>| link::Pair {
            node: "a".to_owned(),
            state: state.to_owned(),
            active: active.map(str::to_owned),
            ..link::Pair::default()
        };
        assert_eq!(role(false, None), Role::NotSetUp);
        assert_eq!(role(true, None), Role::Unknown, "a pair daemon that does not answer");
        assert_eq!(role(true, Some(&pair("boot", None))), Role::Unknown);
        assert_eq!(role(true, Some(&pair("standby", Some("b")))), Role::Standby);
        assert_eq!(role(true, Some(&pair("standby", None))), Role::Standby, "it waits for its peer, and knows it");
        assert_eq!(role(true, Some(&pair("alone", Some("a")))), Role::Serving);
    }
}
