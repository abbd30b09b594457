//! From a wish and what is set to what shall hold, with every reason against it.

use super::Wish;
use crate::api::Text;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use twinpost_board::{NicRole, Roles, SerialRole};
use twinpost_config::NodeDocument;

type Net = (IpAddr, u8);

/// Everything that shall hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    /// `a` or `b`; none: a node alone.
    pub letter: Option<String>,
    pub lan: Vec<Net>,
    pub gateways: Vec<IpAddr>,
    pub dns: Vec<IpAddr>,
    pub ntp: Vec<String>,
    pub service: Vec<Net>,
    pub peer_lan: Option<IpAddr>,
    pub cable: Option<(IpAddr, IpAddr)>,
    /// None: as it is.
    pub search: Option<String>,
    pub host_name: Option<String>,
    pub witness: Option<Option<SocketAddr>>,
    pub power: Option<Power>,
    pub power_user: Option<String>,
    pub power_password: bool,
    pub power_ca: bool,
    pub takeover: Option<String>,
    pub sms_domain: Option<String>,
    pub sms_numbers: Vec<String>,
    pub vlan: Option<u32>,
    pub mtu: Option<u32>,
}

/// The switch of the peer's power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Power {
    pub driver: &'static str,
    pub at: String,
}

struct Reasons<'a>(&'a mut Vec<Text>);

impl Reasons<'_> {
    fn add(&mut self, en: impl Into<String>, zh: impl Into<String>) {
        self.0.push(Text::new(en, zh));
    }
    fn address(&mut self, text: &str) -> Option<IpAddr> {
        let address = text.trim().parse().ok();
        if address.is_none() {
            self.add(
                format!("{text:?} is not an address, as 192.0.2.1 or 2001:db8::1"),
                format!("{text:?} 不是地址，例如 192.0.2.1"),
            );
        }
        address
    }
    fn net(&mut self, text: &str) -> Option<Net> {
        let wrong = (
            format!("{text:?} is not an address with its prefix length, as 192.0.2.11/24"),
            format!("{text:?} 不是带前缀长度的地址，例如 192.0.2.11/24"),
        );
        let parsed =
            text.trim().split_once('/').and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
        let Some((ip, bits)) = parsed.filter(|(ip, bits)| *bits > 0 && *bits <= if ip.is_ipv4() { 32 } else { 128 }) else {
            self.add(wrong.0, wrong.1);
            return None;
        };
        let ends = match ip {
            IpAddr::V4(ip) => bits < 31 && [first(ip, bits), last(ip, bits)].contains(&ip),
            IpAddr::V6(_) => false,
        };
        if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ends {
            self.add(
                format!("{ip}/{bits} cannot be the address of a machine (it is a network's, a broadcast, loopback or multicast address)"),
                format!("{ip}/{bits} 不能作为主机地址（网络地址、广播、环回或组播）"),
            );
            return None;
        }
        Some((ip, bits))
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0)
}

fn first(ip: Ipv4Addr, bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(ip.to_bits() & mask(bits))
}

fn last(ip: Ipv4Addr, bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(ip.to_bits() | !mask(bits))
}

fn same_net(ip: IpAddr, (net, bits): Net) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => first(ip, bits) == first(net, bits),
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            let shift = 128 - u32::from(bits.min(128));
            ip.to_bits().checked_shr(shift) == net.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

/// The address next to this node's: a has the lower one.
fn neighbour(letter: &str, (ip, bits): Net) -> Option<IpAddr> {
    let IpAddr::V4(ip) = ip else { return None };
    let next = Ipv4Addr::from_bits(if letter == "a" { ip.to_bits().checked_add(1)? } else { ip.to_bits().checked_sub(1)? });
    let sound = first(next, bits) == first(ip, bits) && ![first(ip, bits), last(ip, bits)].contains(&next);
    sound.then_some(IpAddr::V4(next))
}

fn is_domain(text: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}

/// Everything that shall hold, and what to mind; none when something of it cannot be.
pub(super) fn whole(wish: &Wish, now: &NodeDocument, roles: &Roles, reasons: &mut Vec<Text>) -> (Option<Whole>, Vec<Text>) {
    let mut r = Reasons(reasons);
    let mut notes = Vec::new();
    let letter = wish.node.clone().or_else(|| now.node.name.clone());
    if let Some(letter) = letter.as_deref().filter(|l| !["a", "b"].contains(l)) {
        r.add(format!("{letter:?}: the nodes of a pair are a and b"), format!("{letter:?}：双机的节点是 a 和 b"));
    }
    let lan: Vec<Net> = match &wish.lan {
        Some(text) => text.split(',').filter_map(|one| r.net(one)).collect(),
        None => now.lan.addresses.clone(),
    };
    if lan.is_empty() && wish.lan.is_none() {
        r.add(
            "the address of this node in the LAN is missing: --lan 192.0.2.11/24",
            "缺少本节点的局域网地址：--lan 192.0.2.11/24",
        );
    }
    let gateways: Vec<IpAddr> = match &wish.gateway {
        Some(text) => text.split(',').filter_map(|one| r.address(one)).collect(),
        None => now.lan.gateways.clone(),
    };
    for gateway in &gateways {
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if !link_local && !lan.is_empty() && !lan.iter().any(|net| same_net(*gateway, *net)) {
            r.add(
                format!("the gateway {gateway} is in none of this node's networks: nothing could reach it"),
                format!("网关 {gateway} 不在本节点的网络内"),
            );
        }
        if lan.iter().any(|(ip, _)| ip == gateway) {
            r.add(format!("{gateway} cannot be the gateway and this node"), format!("{gateway} 不能同时是网关和本节点"));
        }
    }
    let service: Vec<Net> = match wish.service.as_slice() {
        [] => now.pair.address.addresses.clone(),
        wished => wished.iter().filter_map(|one| r.net(one)).collect(),
    };
    let peer_lan = match (&wish.peer, &letter) {
        (Some(text), _) => r.address(text),
        (None, Some(letter)) => {
            // A peer that was named once stays; one that was the neighbour goes along with this node's address.
            let old = now.pair.lan.peer.map(|at| at.ip()).filter(|_| wish.lan.is_none());
            old.or_else(|| lan.iter().find_map(|net| neighbour(letter, *net)))
        }
        (None, None) => None,
    };
    for (ip, _) in &service {
        let other = if lan.iter().any(|(own, _)| own == ip) {
            Some(("this node's own address", "本节点自己的地址"))
        } else if gateways.contains(ip) {
            Some(("the gateway's", "网关的地址"))
        } else if peer_lan == Some(*ip) {
            Some(("the peer's", "对端的地址"))
        } else {
            None
        };
        if let Some((en, zh)) = other {
            r.add(
                format!("the service address {ip} is {en}: it must be one of its own"),
                format!("服务地址 {ip} 是{zh}：必须是单独的地址"),
            );
        } else if !lan.is_empty() && !lan.iter().any(|net| same_net(*ip, *net)) {
            r.add(
                format!("the service address {ip} is in none of this node's networks: the LAN could not find it"),
                format!("服务地址 {ip} 不在本节点的网络内"),
            );
        }
    }
    if let Some(peer) = peer_lan {
        if lan.iter().any(|(own, _)| *own == peer) {
            r.add(format!("{peer} cannot be the peer and this node"), format!("{peer} 不能同时是对端和本节点"));
        }
        if gateways.contains(&peer) {
            r.add(
                format!("the peer's address would be {peer}, the gateway's: name it with --peer"),
                format!("对端地址将是网关地址 {peer}：请用 --peer 指定"),
            );
        }
    }
    let dns: Vec<IpAddr> = match wish.dns.as_slice() {
        [] => now.lan.dns.clone(),
        wished => wished.iter().filter_map(|one| r.address(one)).collect(),
    };
    let ntp = if wish.ntp.is_empty() { now.lan.ntp.clone() } else { wish.ntp.clone() };
    let names = [("--domain", &wish.domain), ("--host-name", &wish.host_name), ("--sms-domain", &wish.sms_domain)];
    for (which, name) in names {
        if let Some(name) = name.as_deref().filter(|name| !is_domain(name)) {
            r.add(
                format!("{which}: {name:?} is not a domain name, as school.example"),
                format!("{which}：{name:?} 不是域名，例如 school.example"),
            );
        }
    }
    let witness = match wish.witness.as_deref() {
        None => None,
        Some("none" | "") => Some(None),
        Some(text) => match text.parse() {
            Ok(at) => Some(Some(at)),
            Err(_) => {
                r.add(
                    format!("--witness: {text:?} is not an address with port, as 192.0.2.7:6945"),
                    format!("--witness：{text:?} 不是带端口的地址，例如 192.0.2.7:6945"),
                );
                None
            }
        },
    };
    let power = wish.power.as_deref().and_then(|text| power(text, &mut r));
    parts(letter.as_deref(), roles, &mut r, &mut notes);
    let cable = letter.as_deref().map(|letter| {
        let [a, b] = [1, 2].map(|host| IpAddr::from([169, 254, 77, host]));
        let (own, peer) = if letter == "a" { (a, b) } else { (b, a) };
        match now.pair.cable.address {
            // The administrator's own choice on the cable; its peer stands beside it already.
            Some((own, _)) => (own, now.pair.eth1.peer.map_or(peer, |at| at.ip())),
            None => (own, peer),
        }
    });
    let whole = Whole {
        host_name: wish.host_name.clone().or_else(|| wish.domain.as_ref().map(|domain| format!("mail.{domain}"))),
        search: wish.domain.clone(),
        letter,
        lan,
        gateways,
        dns,
        ntp,
        service,
        peer_lan,
        cable,
        witness,
        power,
        power_user: wish.power_user.clone(),
        power_password: wish.power_password.is_some() || wish.power_password_file.is_some(),
        power_ca: wish.power_ca_file.is_some(),
        takeover: wish.takeover.clone(),
        sms_domain: wish.sms_domain.clone(),
        sms_numbers: wish.sms_number.clone(),
        vlan: wish.vlan,
        mtu: wish.mtu,
    };
    (Some(whole), notes)
}

fn power(text: &str, r: &mut Reasons<'_>) -> Option<Power> {
    let (driver, at) = text.split_once(':').unwrap_or((text, ""));
    let known = ["none", "ipmi", "redfish", "relay", "qmp"].into_iter().find(|known| *known == driver);
    let sound = match known {
        Some("none") => at.is_empty(),
        Some("redfish") => at.starts_with("https://") || at.starts_with("http://"),
        Some("relay" | "qmp") => Path::new(at).is_absolute(),
        Some(_) => !at.is_empty() && !at.contains(char::is_whitespace),
        None => false,
    };
    if !sound {
        r.add(
            format!("--power: {text:?} is none of ipmi:HOST, redfish:https://HOST, relay:/dev/PORT, qmp:/SOCKET, none"),
            format!("--power：{text:?} 不是 ipmi:主机、redfish:https://主机、relay:/dev/端口、qmp:/套接字、none 之一"),
        );
        return None;
    }
    known.map(|driver| Power { driver, at: at.to_owned() })
}

/// What of the machine is needed, and what is only missed.
fn parts(letter: Option<&str>, roles: &Roles, r: &mut Reasons<'_>, notes: &mut Vec<Text>) {
    let missing = |part: &str| roles.missing.iter().find(|m| m.part == part);
    let mut needed = |part: &str, en: &str, zh: &str| match missing(part) {
        Some(missing) => r.add(&missing.en, &missing.zh),
        None => r.add(en, zh),
    };
    if roles.interface(NicRole::Lan).is_none() {
        needed(
            "nic.lan",
            "no network port has the role lan: name it in the board's changes",
            "没有网口的角色为 lan：请在主板更改中指定",
        );
    }
    if letter.is_none() {
        return;
    }
    if roles.interface(NicRole::Pair).is_none() {
        needed(
            "nic.pair",
            "no network port has the role pair: name it in the board's changes",
            "没有网口的角色为 pair：请在主板更改中指定",
        );
    }
    if roles.serial(SerialRole::Heartbeat).is_none() {
        notes.push(Text::new(
            "there is no serial port for the heartbeat: the nodes know of each other by the network alone",
            "没有用于心跳的串口：两个节点只能通过网络互相感知",
        ));
    }
    if roles.watchdog.is_none() {
        notes.push(Text::new(
            "this board has no hardware watchdog: a node that hangs must be switched off by the power switch",
            "此主板没有硬件看门狗：节点挂起时须由电源开关切断",
        ));
    }
}
