//! A real bench, described by a file: two nodes with serial consoles and power switches.
//!
//! ```toml
//! service = "192.0.2.10"                 # the address that moves
//! settle_s = 600                         # the longest that its nodes take from power to a settled pair; 180 if not said
//! capabilities = ["cut_power", "reset"]  # what software can do here; the words of `Capability`
//! [nodes.a]
//! address = "192.0.2.11"
//! console = "/dev/ttyUSB0@115200"        # or "telnet:192.0.2.7:4001"
//! power = { driver = "redfish", at = "https://192.0.2.21", user = "bench", password_file = "a.password", ca_file = "bmc.pem" }
//! [nodes.b]
//! ...
//! [passwords]
//! "ben@school.example" = "..."
//! ```
//!
//! Contract: only what the file declares is done; the rest is [`Error::Cannot`], and its scenarios are counted as ignored. Power
//! goes through the product's own drivers: ipmi, redfish, relay. Paths in the file are relative to it.
//!
//! Failure classes: the file is wrong: the key is named; a switch or a console does not answer.

use crate::capability::{Capabilities, Capability};
use crate::console::Console;
use crate::pair::SETTLE;
use crate::rig::{Cable, Door, Fault, NODES, Rig, cannot};
use crate::{Error, Place, Result, Timeline};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use twinpost_fencing::{
    Ipmi, IpmiPassword, IpmiSettings, Power, PowerOff, PowerSwitch, Redfish, RedfishSettings, Relay, RelaySettings, Trust,
};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    service: IpAddr,
    settle_s: Option<u64>,
    capabilities: Vec<String>,
    nodes: BTreeMap<String, NodeDocument>,
    #[serde(default)]
    passwords: BTreeMap<String, String>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeDocument {
    address: IpAddr,
    console: String,
    power: Option<PowerDocument>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PowerDocument {
    driver: String,
    at: String,
    #[serde(default)]
    user: String,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default = "first_outlet")]
    outlet: u8,
}

fn first_outlet() -> u8 {
    1
}

/// See the module.
pub struct Bench {
    service: IpAddr,
    settle: Duration,
    addresses: [IpAddr; 2],
    consoles: [Console; 2],
    switches: [Option<Arc<dyn PowerSwitch>>; 2],
    capabilities: Capabilities,
    passwords: BTreeMap<String, String>,
    runtime: tokio::runtime::Runtime,
    timeline: Timeline,
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("capabilities", &self.capabilities).finish_non_exhaustive()
    }
}

/// The document as plain values.
fn plain(item: &toml_edit::Item) -> Result<serde_json::Value, String> {
    use serde_json::Value as Json;
    if let Some(table) = item.as_table_like() {
        let map: Result<serde_json::Map<String, Json>, String> =
            table.iter().map(|(key, item)| Ok((key.to_owned(), plain(item)?))).collect();
        return Ok(Json::Object(map?));
    }
    if let Some(list) = item.as_array() {
        let list: Result<Vec<Json>, String> = list.iter().map(|value| plain(&toml_edit::Item::Value(value.clone()))).collect();
        return Ok(Json::Array(list?));
    }
    if let Some(text) = item.as_str() {
        return Ok(text.into());
    }
    if let Some(number) = item.as_integer() {
        return Ok(number.into());
    }
    item.as_bool().map(Json::Bool).ok_or_else(|| "only texts, whole numbers, true, false, lists and tables are known".to_owned())
}

fn switch(power: &PowerDocument, folder: &Path) -> Result<Arc<dyn PowerSwitch>, String> {
    let within = |path: &PathBuf| folder.join(path);
    let password = || power.password_file.as_ref().map(within).ok_or_else(|| "password_file is missing".to_owned());
    Ok(match power.driver.as_str() {
        "ipmi" => Arc::new(Ipmi::new(IpmiSettings::new(&power.at, &power.user, IpmiPassword::File(password()?)))),
        "redfish" => {
            let trust = power.ca_file.as_ref().map(|file| Trust::Authorities(within(file)));
            let settings = RedfishSettings::new(&power.at, trust, &power.user, password()?);
            Arc::new(Redfish::new(settings).map_err(|e| e.to_string())?)
        }
        "relay" => Arc::new(Relay::new(RelaySettings::new(within(&PathBuf::from(&power.at)), power.outlet))),
        other => return Err(format!("driver {other:?}: write ipmi, redfish or relay")),
    })
}

impl Bench {
    /// Reads the file and listens at both consoles.
    ///
    /// # Errors
    /// The file is wrong.
    pub fn open(file: &Path, timeline: Timeline) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file.display().to_string()))?;
        let folder = file.parent().unwrap_or(Path::new("."));
        Self::read(&text, folder, timeline).map_err(|what| Error::Setting { what: format!("{}: {what}", file.display()) })
    }

    fn read(text: &str, folder: &Path, timeline: Timeline) -> Result<Self, String> {
        let table = text.parse::<toml_edit::DocumentMut>().map_err(|e| e.to_string())?;
        let document: Document = serde_json::from_value(plain(table.as_item())?).map_err(|e| e.to_string())?;
        let mut capabilities = Capabilities::new();
        for name in &document.capabilities {
            let known = || Capability::ALL.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ");
            capabilities.insert(Capability::named(name).ok_or_else(|| format!("capability {name:?}: there are {}", known()))?);
        }
        // What is declared must be there: a test that cannot do what it counts on is worse than one that is left out.
        let possible = [Capability::CutPower, Capability::Reset];
        if let Some(more) = capabilities.iter().find(|capability| !possible.contains(capability)) {
            return Err(format!("capability {more}: no software does that on a bench of this kind"));
        }
        let (mut addresses, mut consoles, mut switches) = (Vec::new(), Vec::new(), Vec::new());
        for node in NODES {
            let described = document.nodes.get(node).ok_or_else(|| format!("there is no [nodes.{node}]"))?;
            let place = Place::parse(&described.console).map_err(|e| format!("nodes.{node}.console: {e}"))?;
            let power = described.power.as_ref().map(|power| switch(power, folder)).transpose();
            let power = power.map_err(|e| format!("nodes.{node}.power: {e}"))?;
            if power.is_none() && !capabilities.is_empty() {
                return Err(format!("nodes.{node}.power is missing, and {capabilities:?} need it"));
            }
            addresses.push(described.address);
            consoles.push(Console::listen(node, place, &timeline).map_err(|e| e.to_string())?);
            switches.push(power);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self {
            service: document.service,
            settle: document.settle_s.map_or(SETTLE, Duration::from_secs),
            addresses: addresses.try_into().expect("there are two nodes"),
            consoles: consoles.try_into().expect("there are two nodes"),
            switches: switches.try_into().unwrap_or_else(|_| unreachable!("there are two nodes")),
            capabilities,
            passwords: document.passwords,
            runtime: runtime.map_err(|e| e.to_string())?,
            timeline,
        })
    }

    /// Passwords of accounts that are on the bench.
    #[must_use]
    pub fn passwords(&self) -> &BTreeMap<String, String> {
        &self.passwords
    }

    fn switch(&self, node: &str) -> Result<&Arc<dyn PowerSwitch>> {
        let none = || Error::Cannot { what: format!("switch node {node}") };
        self.switches[usize::from(node == "b")].as_ref().ok_or_else(none)
    }
}

fn failed(node: &str) -> impl Fn(twinpost_fencing::Error) -> Error {
    let what = format!("the power switch of node {node}");
    move |error| Error::Tool { what: what.clone(), said: error.to_string() }
}

impl Rig for Bench {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn console(&self, node: &str) -> &Console {
        &self.consoles[usize::from(node == "b")]
    }

    fn address(&self, node: &str) -> IpAddr {
        self.addresses[usize::from(node == "b")]
    }

    fn service(&self) -> IpAddr {
        self.service
    }

    fn settle_limit(&self) -> Duration {
        self.settle
    }

    fn door(&self) -> Door {
        // The machine that runs the tests stands on the bench's LAN.
        Box::new(|| Ok(()))
    }

    fn power(&self, node: &str, on: bool) -> Result<()> {
        let switch = self.switch(node)?;
        self.timeline.note(&format!("{node} power"), if on { "on" } else { "off" });
        self.console(node).forget();
        if on {
            return self.runtime.block_on(switch.on()).map_err(failed(node));
        }
        match self.runtime.block_on(switch.off()).map_err(failed(node))? {
            PowerOff::ReadBackOff => Ok(()),
            PowerOff::Unread => {
                Err(Error::Tool { what: format!("the power switch of node {node}"), said: "off was not read back".to_owned() })
            }
        }
    }

    fn has_power(&self, node: &str) -> Result<bool> {
        match self.runtime.block_on(self.switch(node)?.read()).map_err(failed(node))? {
            Power::On => Ok(true),
            Power::Off => Ok(false),
            Power::Unknown => {
                Err(Error::Tool { what: format!("the power switch of node {node}"), said: "neither on nor off".to_owned() })
            }
        }
    }

    fn reset(&self, node: &str) -> Result<()> {
        self.power(node, false)?;
        self.power(node, true)
    }

    fn cable(&self, node: &str, cable: Cable, _: Fault) -> Result<()> {
        cannot(&format!("pull the cable {cable:?} of node {node}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Bench;
    use crate::{Cable, Capability, Error, Fault, Rig, Timeline};

    const WHOLE: &str = r#"
service = "192.0.2.10"
settle_s = 600
capabilities = ["cut_power"]
[nodes.a]
address = "192.0.2.11"
console = "unix:/nowhere/a"
power = { driver = "redfish", at = "http://127.0.0.1:1", user = "x", password_file = "password" }
[nodes.b]
address = "192.0.2.12"
console = "/dev/null-b@19200"
power = { driver = "relay", at = "/nowhere/relay", outlet = 2 }
"#;

    fn open(text: &str) -> Result<Bench, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bench.toml");
        std::fs::write(&file, text).unwrap();
        Bench::open(&file, Timeline::begin(folder.path()).quiet())
    }

    #[test]
    fn a_bench_declares_what_it_can_and_does_no_more() {
        let bench = open(WHOLE).unwrap();
        assert!(bench.can(Capability::CutPower) && !bench.can(Capability::PullDisk));
        assert_eq!(bench.address("b").to_string(), "192.0.2.12");
        assert_eq!(bench.settle_limit().as_secs(), 600);
        assert!(matches!(bench.cable("a", Cable::Lan, Fault::Pulled), Err(Error::Cannot { .. })));
        assert!(matches!(bench.pull_disk("a", 1), Err(Error::Cannot { .. })));
        assert!(bench.power("a", false).is_err(), "nobody answers there");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, named) in [
            ("cut_power", "fly", "fly"),
            ("\"cut_power\"", "\"cut_power\", \"pull_disk\"", "pull_disk"),
            ("unix:/nowhere/a", "ttyS0", "nodes.a.console"),
            ("redfish", "magic", "nodes.a.power"),
            ("[nodes.b]", "[nodes.c]", "nodes.b"),
            ("service", "servce", "servce"),
        ] {
            let error = open(&WHOLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
