//! What the firewall lets in, as elements of the sets of its static rules.
//!
//! Contract: the rules themselves are the image's (`/etc/nftables.conf`, table `inet twinpost`) and drop what no set names. The sets:
//! `lan_tcp` (inet_service) ports open to everybody on the LAN; `peer4`, `peer6` (ipv4_addr, ipv6_addr) the peer's addresses on cable and
//! LAN; `peer_tcp`, `peer_udp` (inet_service) ports open to those alone. The file is for `nft -f` and replaces the elements at once.

use super::files::peers;
use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use twinpost_config::{Document, NodeDocument, StorageDriver};

/// Where the elements are.
pub const FIREWALL_FILE: &str = "/run/twinpost/nftables.conf";

/// What is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// TCP ports open to everybody on the LAN.
    pub lan_tcp: BTreeSet<u16>,
    /// The peer's addresses.
    pub peer4: BTreeSet<Ipv4Addr>,
    /// The peer's addresses.
    pub peer6: BTreeSet<Ipv6Addr>,
    /// TCP ports open to the peer.
    pub peer_tcp: BTreeSet<u16>,
    /// UDP ports open to the peer.
    pub peer_udp: BTreeSet<u16>,
}

/// What the documents ask for.
#[must_use]
pub fn opened(node: &NodeDocument, document: Option<&Document>) -> Opened {
    let mut opened = Opened::default();
    if let Some(document) = document {
        let network = &document.network;
        let lists = [
            &network.smtp,
            &network.submission,
            &network.submissions,
            &network.lmtp,
            &network.imap,
            &network.imaps,
            &network.pop3,
            &network.pop3s,
        ];
        let outside = |at: &&SocketAddr| !at.ip().is_loopback();
        opened.lan_tcp = lists.into_iter().flatten().filter(outside).map(SocketAddr::port).collect();
    }
    let pair = &node.pair;
    if !pair.enabled {
        return opened;
    }
    for ip in peers(node) {
        match ip {
            IpAddr::V4(ip) => drop(opened.peer4.insert(ip)),
            IpAddr::V6(ip) => drop(opened.peer6.insert(ip)),
        }
    }
    let port = |at: Option<SocketAddr>| at.map(|at| at.port());
    opened.peer_udp = [port(pair.eth1.bind), port(pair.lan.bind)].into_iter().flatten().collect();
    opened.peer_tcp.extend(port(pair.channel.bind));
    if pair.storage.driver == StorageDriver::Drbd {
        // DRBD listens on one side's port and connects to the other's.
        opened.peer_tcp.extend([port(pair.storage.bind), port(pair.storage.peer)].into_iter().flatten());
    }
    opened
}

/// The file for `nft -f`.
#[must_use]
pub fn elements(opened: &Opened) -> String {
    fn set<T: Display>(text: &mut String, name: &str, all: &BTreeSet<T>) {
        let _ = writeln!(text, "flush set inet twinpost {name}");
        if !all.is_empty() {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "add element inet twinpost {name} {{ {} }}", all.join(", "));
        }
    }
    let mut text =
        String::from("# Elements of the sets of table inet twinpost, from the documents. Made at each boot and each setup.\n");
    set(&mut text, "lan_tcp", &opened.lan_tcp);
    set(&mut text, "peer4", &opened.peer4);
    set(&mut text, "peer6", &opened.peer6);
    set(&mut text, "peer_tcp", &opened.peer_tcp);
    set(&mut text, "peer_udp", &opened.peer_udp);
    text
}
