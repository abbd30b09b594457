//! The texts of the documents. What stands in them already stays, with its comments.

use super::check::Whole;
use crate::render::DEVICES;
use std::net::{IpAddr, SocketAddr};
use toml_edit::{Array, DocumentMut, Item, Table, Value, value};
use twinpost_board::{NicRole, Roles, SerialRole};

/// Ports of the pair, as the manual has them.
const CABLE_HEARTBEAT: u16 = 6940;
const LAN_HEARTBEAT: u16 = 6941;
const CHANNEL: u16 = 6943;
const MIRROR: u16 = 7789;

const NODE_BEGUN: &str = "\
# What belongs to this node alone, written by `twinpost ctl setup`. What both nodes share is in appliance.toml.
# All keys: docs/configuration.md, \"node.toml\".
version = 1

[node]

[lan]
";

const APPLIANCE_BEGUN: &str = "\
# What both nodes of the pair share; it is copied to the peer. Begun by `twinpost ctl setup`.
# All keys: docs/configuration.md.
version = 1

[node]
";

/// A document that is sound TOML, or a new one: the caller has had it read before.
pub(super) fn edit(text: &str, begun: &str) -> DocumentMut {
    let text = if text.trim().is_empty() { begun } else { text };
    text.parse().unwrap_or_default()
}

/// The table of this name, `pair.eth1`, made where it is missing.
pub(super) fn table<'d>(document: &'d mut DocumentMut, path: &str) -> Option<&'d mut Table> {
    let mut at = document.as_table_mut();
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let last = names.peek().is_none();
        let item = at.entry(name).or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(!last);
            Item::Table(table)
        });
        // What a person wrote as `lan = { .. }` becomes a table of its own, so that it can be added to.
        if let Item::Value(Value::InlineTable(inline)) = item {
            *item = Item::Table(std::mem::take(inline).into_table());
        }
        at = item.as_table_mut()?;
        if last {
            at.set_implicit(false);
        }
    }
    Some(at)
}

fn set(document: &mut DocumentMut, path: &str, key: &str, to: impl Into<Value>) {
    let Some(table) = table(document, path) else { return };
    let mut to: Value = to.into();
    match table.get_mut(key) {
        Some(Item::Value(there)) => {
            if there.to_string().trim() == to.to_string().trim() {
                return;
            }
            // The comment behind it stays.
            *to.decor_mut() = there.decor().clone();
            *there = to;
        }
        _ => drop(table.insert(key, value(to))),
    }
}

fn texts<T: ToString>(all: &[T]) -> Array {
    all.iter().map(ToString::to_string).collect()
}

fn nets(all: &[(IpAddr, u8)]) -> Array {
    all.iter().map(|(ip, bits)| format!("{ip}/{bits}")).collect()
}

/// `node.toml`.
pub(super) fn node(text: &str, whole: &Whole, roles: &Roles) -> String {
    let mut document = edit(text, NODE_BEGUN);
    let d = &mut document;
    if let Some(letter) = &whole.letter {
        set(d, "node", "name", letter.as_str());
    }
    set(d, "lan", "addresses", nets(&whole.lan));
    set(d, "lan", "gateways", texts(&whole.gateways));
    set(d, "lan", "dns", texts(&whole.dns));
    set(d, "lan", "ntp", texts(&whole.ntp));
    if let Some(search) = &whole.search {
        set(d, "lan", "search", search.as_str());
    }
    for (key, number) in [("vlan", whole.vlan), ("mtu", whole.mtu)] {
        match number {
            None => {}
            Some(0) => set(d, "lan", key, ""),
            Some(number) => set(d, "lan", key, i64::from(number)),
        }
    }
    let Some((own, peer)) = whole.cable else { return document.to_string() };

    set(d, "pair", "enabled", true);
    if let Some(gateway) = whole.gateways.first() {
        set(d, "pair", "gateway", gateway.to_string());
    }
    let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
    set(d, "pair.eth1", "bind", at(own, CABLE_HEARTBEAT));
    set(d, "pair.eth1", "peer", at(peer, CABLE_HEARTBEAT));
    set(d, "pair.eth1", "interface", NicRole::Pair.as_str());
    let lan = whole.peer_lan.and_then(|peer| Some((whole.lan.iter().find(|(ip, _)| ip.is_ipv4() == peer.is_ipv4())?.0, peer)));
    if let Some((own, peer)) = lan {
        set(d, "pair.lan", "bind", at(own, LAN_HEARTBEAT));
        set(d, "pair.lan", "peer", at(peer, LAN_HEARTBEAT));
        set(d, "pair.lan", "interface", NicRole::Lan.as_str());
    }
    match roles.serial.iter().find(|port| port.role == SerialRole::Heartbeat) {
        Some(port) => {
            set(d, "pair.serial", "port", format!("{DEVICES}/heartbeat"));
            set(d, "pair.serial", "baud", i64::from(port.baud));
        }
        None => set(d, "pair.serial", "port", ""),
    }
    set(d, "pair.channel", "bind", at(own, CHANNEL));
    set(d, "pair.channel", "peer", at(peer, CHANNEL));
    set(d, "pair.storage", "driver", "drbd");
    set(d, "pair.storage", "bind", at(own, MIRROR));
    set(d, "pair.storage", "peer", at(peer, MIRROR));
    if !whole.service.is_empty() {
        set(d, "pair.address", "interface", NicRole::Lan.as_str());
        set(d, "pair.address", "addresses", nets(&whole.service));
    }
    match &roles.watchdog {
        Some(watchdog) => {
            set(d, "pair.watchdog", "device", format!("{DEVICES}/watchdog"));
            set(d, "pair.watchdog", "timeout", format!("{} s", watchdog.timeout_s));
        }
        None => set(d, "pair.watchdog", "device", ""),
    }
    if let Some(power) = &whole.power {
        set(d, "pair.power", "driver", power.driver);
        set(d, "pair.power", "at", power.at.as_str());
    }
    if let Some(user) = &whole.power_user {
        set(d, "pair.power", "user", user.as_str());
    }
    if whole.power_password {
        set(d, "pair.power", "password_file", "power-password");
    }
    if whole.power_ca {
        set(d, "pair.power", "ca_file", "power-ca.pem");
    }
    match &whole.witness {
        None => {}
        Some(None) => set(d, "pair.witness", "engine", "none"),
        Some(Some(address)) => {
            set(d, "pair.witness", "engine", "twinpost");
            set(d, "pair.witness", "address", address.to_string());
        }
    }
    document.to_string()
}

/// The appliance document.
pub(super) fn appliance(text: &str, whole: &Whole, roles: &Roles) -> String {
    let new = text.trim().is_empty();
    let mut document = edit(text, APPLIANCE_BEGUN);
    let d = &mut document;
    if let Some(name) = &whole.host_name {
        set(d, "node", "host_name", name.as_str());
    }
    if let Some(takeover) = &whole.takeover {
        set(d, "pair", "takeover", takeover.as_str());
    }
    // Both nodes have the modem at the same role; whether one is plugged in is told by an alarm, not by this.
    if new && roles.serial.iter().any(|port| port.role == SerialRole::Modem) {
        set(d, "sms", "enabled", true);
        set(d, "sms", "port", format!("{DEVICES}/modem"));
    }
    if let Some(domain) = &whole.sms_domain {
        set(d, "sms", "domains", texts(&[domain]));
    }
    if !whole.sms_numbers.is_empty() {
        set(d, "sms.orders", "numbers", texts(&whole.sms_numbers));
    }
    document.to_string()
}
