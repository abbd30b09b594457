//! The addresses that this node has now.

use crate::Tongue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Each interface but the loopback with its addresses: `{"lan": {"up": true, "addresses": ["192.0.2.11/24"]}}`.
pub(crate) fn addresses() -> Result<Value, String> {
    let mut found: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    let list = nix::ifaddrs::getifaddrs().map_err(|error| format!("the addresses of this node cannot be read: {error}"))?;
    for entry in list {
        if entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK) {
            continue;
        }
        let (running, texts) = found.entry(entry.interface_name).or_default();
        *running |= entry.flags.contains(nix::net::if_::InterfaceFlags::IFF_RUNNING);
        let Some(address) = entry.address.as_ref().and_then(ip) else { continue };
        let prefix = entry.netmask.as_ref().and_then(ip).map_or(0, |mask| match mask {
            IpAddr::V4(mask) => mask.to_bits().count_ones(),
            IpAddr::V6(mask) => mask.to_bits().count_ones(),
        });
        texts.push(format!("{address}/{prefix}"));
    }
    Ok(found.into_iter().map(|(name, (up, addresses))| (name, json!({ "up": up, "addresses": addresses }))).collect())
}

fn ip(storage: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// They as rows of a page.
pub(crate) fn page(addresses: &Value, tongue: Tongue) -> String {
    let mut page = String::new();
    for (name, interface) in addresses.as_object().into_iter().flatten() {
        let cable = match interface["up"].as_bool() {
            Some(true) => "",
            _ => tongue.say(" (no cable)", "（未接网线）"),
        };
        let list: Vec<_> = interface["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let list = if list.is_empty() { "-".to_owned() } else { list.join(" ") };
        page.push_str(&format!("{name}{cable}: {list}\n"));
    }
    page
}
