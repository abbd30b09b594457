//! The tables about the pair: what both nodes agree on (in the appliance document, which is copied to the peer), and what
//! belongs to one node (`node.toml` beside it, which is not).

use crate::schema::{Faults, section};
use crate::value::{Span, StorageDriver, SwitchDriver, TakeoverRule, WitnessEngine};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

type Net = (IpAddr, u8);

section! {
    /// What both nodes of a pair agree on.
    PairRules {
        /// Which proofs let a node take over: "proof" (the peer's word, its power read back as off, the witness, the reservation) or
        /// "evidence" (also: no carrier, no modem lines and a silent LAN mean that the peer has no power).
        takeover: TakeoverRule = "\"proof\"";
        /// Node that serves whenever it can; none: whoever serves goes on.
        fail_back: Option<String> = "\"\"";
        /// The preferred node must have been current for so long before it takes the service back.
        fail_back_after: Span = "\"10 min\"", in "1 s" ..= "7 d";
        /// An active whose LAN is worse than its peer's for so long hands over; 0 ms: never.
        prefer_after: Span = "\"10 s\"", in "0 ms" ..= "1 h";
        /// Between two heartbeats on eth1 and LAN.
        keepalive: Span = "\"200 ms\"", in "20 ms" ..= "10 s";
        /// Between two heartbeats on the serial line.
        serial_keepalive: Span = "\"500 ms\"", in "50 ms" ..= "30 s";
        /// Silence after which a standby asks for a release.
        warn: Span = "\"400 ms\"", in "40 ms" ..= "30 s";
        /// Life of a lease; silence after which other proofs than a release are looked for.
        lease: Span = "\"800 ms\"", in "80 ms" ..= "60 s";
        /// Added to lease and watchdog before a winner at the witness serves.
        margin: Span = "\"100 ms\"", in "10 ms" ..= "10 s";
        /// After a start, how long a node waits for its peer before one that holds the newest data looks for a proof.
        first_contact: Span = "\"30 s\"", in "1 s" ..= "1 h";
        /// A service that does not answer its check from outside within this is late. Late is not broken: the machine may be busy.
        check_limit: Span = "\"5 s\"", in "200 ms" ..= "60 s";
        /// A service that was only late for so long, without one good check, counts as hung and is started again. One that refuses connections,
        /// closes them or answers wrongly, or whose process ended, is started again at once.
        hung_after: Span = "\"15 s\"", in "1 s" ..= "10 min";
    }
}

section! {
    /// `node.toml`: what belongs to this node alone.
    NodeDocument {
        /// Version of this document's form.
        version: u32 = "1", in "1" ..= "1";
        tables {
        /// Who this node is.
        [node]: NodeIdentity;
        /// Its port on the site's network. On the image only; elsewhere the system's own settings hold.
        [lan]: Lan;
        /// The menu on the screen and on the serial console.
        [console]: Console;
        /// Its side of the pair.
        [pair]: Pair;
        }
    }
}

section! {
    /// Who this node is.
    NodeIdentity {
        /// Name of the node inside the pair; none: the appliance document's.
        name: Option<String> = "\"\"";
    }
}

section! {
    /// Its side of the pair.
    Pair {
        /// This node has a peer. Identity and keys are made by `twinpost ctl pair pairing`.
        enabled: bool = "false";
        /// Address of the gateway, whose answer to a ping is a hint which node sees the network; none: no ping.
        gateway: Option<String> = "\"\"";
        tables {
        /// The network port of the crossover cable. On the image only.
        [cable]: PairCable;
        /// Heartbeats over the crossover cable.
        [eth1]: PairLink;
        /// The path through the LAN.
        [lan]: PairLink;
        /// The null-modem cable.
        [serial]: PairSerial;
        /// The trusted channel for orders and configuration, over eth1.
        [channel]: PairChannel;
        /// The mail volume.
        [storage]: PairStorage;
        /// The address that moves.
        [address]: PairAddress;
        /// The hardware watchdog.
        [watchdog]: PairWatchdog;
        /// The switch of the peer's power.
        [power]: PairPower;
        /// A third party that knows who may serve.
        [witness]: PairWitness;
        }
    }
}

section! {
    /// Its port on the site's network. Addresses are set here and nowhere else: there is no DHCP, because the address of a mail server stands in
    /// other machines' settings, and because the pair is to come up when nobody answers.
    Lan {
        /// Addresses of this node with their prefix lengths: "192.0.2.11/24", "2001:db8::11/64". They stay with the node; the service addresses
        /// are in [pair.address].
        addresses: Vec<Net> = "[]";
        /// Where everything beyond the LAN goes: one address of IPv4 and one of IPv6 at most.
        gateways: Vec<IpAddr> = "[]";
        /// Name servers, in their order.
        dns: Vec<IpAddr> = "[]";
        /// Domain that is added to names without a dot; none: nothing is added.
        search: Option<String> = "\"\"";
        /// Time servers, names or addresses, in their order. Empty: this node's own clock.
        ntp: Vec<String> = "[]";
        /// IPv6 addresses and gateways by router advertisement (RFC 4862) beside those above.
        slaac: bool = "true";
        /// Largest packet; none: the card's own.
        mtu: Option<u32> = "\"\"", in "1280" ..= "9216";
        /// Number of the VLAN (IEEE 802.1Q) that the addresses are in; none: packets without a tag.
        vlan: Option<u32> = "\"\"", in "1" ..= "4094";
    }
}

section! {
    /// The menu on the screen and on the serial console.
    Console {
        /// A line at the prompt may be an order, the words of `twinpost ctl`. Who is at the machine is trusted as far as with its disks.
        orders: bool = "true";
    }
}

section! {
    /// The network port of the crossover cable.
    PairCable {
        /// Address of this node on the cable with its prefix length; none: 169.254.77.1/30 on node a, 169.254.77.2/30 on node b.
        address: Option<Net> = "\"\"";
        /// Largest packet; none: the card's own.
        mtu: Option<u32> = "\"\"", in "1280" ..= "9216";
    }
}

section! {
    /// A path for heartbeats by UDP.
    PairLink {
        /// Address and port of this node; none: this path is not used.
        bind: Option<SocketAddr> = "\"\"";
        /// Address and port of the peer.
        peer: Option<SocketAddr> = "\"\"";
        /// Network interface, whose carrier is watched; none: it is not.
        interface: Option<String> = "\"\"";
    }
}

section! {
    /// The null-modem cable.
    PairSerial {
        /// Serial port; a path that does not begin with / lies in the node's folder. None: there is no cable.
        port: Option<PathBuf> = "\"\"";
        /// Speed in bit/s.
        baud: u32 = "115200", in "9600" ..= "921600";
    }
}

section! {
    /// The trusted channel for orders and configuration, over eth1.
    PairChannel {
        /// Address and port of this node.
        bind: Option<SocketAddr> = "\"\"";
        /// Address and port of the peer.
        peer: Option<SocketAddr> = "\"\"";
    }
}

section! {
    /// The mail volume.
    PairStorage {
        /// "shared": a folder that both nodes see, guarded by a lock file; "array": a dual-attached array with SCSI-3 reservations;
        /// "drbd": a disk in each node, mirrored.
        driver: StorageDriver = "\"drbd\"";
        /// Folder of "shared"; a path that does not begin with / lies in the node's folder.
        root: PathBuf = "\"../shared\"";
        /// Name of the DRBD resource.
        resource: String = "\"mail\"";
        /// Device of the file system: the DRBD device, or the array's.
        device: PathBuf = "\"/dev/drbd0\"";
        /// Device below DRBD.
        disk: PathBuf = "\"/dev/md/mail\"";
        /// Address and port of this node for the mirror, on eth1.
        bind: Option<SocketAddr> = "\"\"";
        /// Address and port of the peer for the mirror.
        peer: Option<SocketAddr> = "\"\"";
    }
}

section! {
    /// The address that moves.
    PairAddress {
        /// Interface that gets the addresses; none: they are there anyway (loopback), and only the active binds them.
        interface: Option<String> = "\"\"";
        /// The service addresses with their prefix lengths: "192.0.2.10/24", "2001:db8::10/64".
        addresses: Vec<Net> = "[]";
    }
}

section! {
    /// The hardware watchdog.
    PairWatchdog {
        /// Its device, or a Unix datagram socket; a path that does not begin with / lies in the node's folder. None: there is none.
        device: Option<PathBuf> = "\"/dev/watchdog\"";
        /// It resets the node so long after it was fed last.
        timeout: Span = "\"10 s\"", in "500 ms" ..= "5 min";
    }
}

section! {
    /// The switch of the peer's power.
    PairPower {
        /// What it is: "none", "ipmi", "redfish", "relay" (docs/manual/power-switch.md) or "qmp" (a virtual machine).
        driver: SwitchDriver = "\"none\"";
        /// Where it is: host (ipmi), URL (redfish), serial port (relay) or socket (qmp) of the *peer's* switch.
        at: Option<String> = "\"\"";
        /// Outlet of a relay.
        outlet: u32 = "1", in "1" ..= "64";
        /// Name for ipmi and redfish.
        user: Option<String> = "\"\"";
        /// File with the password, readable by this program only.
        password_file: Option<PathBuf> = "\"\"";
        /// PEM file with the authority of redfish.
        ca_file: Option<PathBuf> = "\"\"";
        /// The peer's power is switched on again so long after it was switched off; 0 ms: it stays off.
        on_after: Span = "\"5 s\"", in "0 ms" ..= "1 h";
    }
}

section! {
    /// A third party that knows who may serve.
    PairWitness {
        /// "none", "twinpost" (`twinpost witness` on any machine) or "etcd".
        engine: WitnessEngine = "\"none\"";
        /// Address and port of a Twinpost witness.
        address: Option<SocketAddr> = "\"\"";
        /// URLs of an etcd cluster.
        etcd: Vec<String> = "[]";
        /// PEM file with the authority of etcd.
        ca_file: Option<PathBuf> = "\"\"";
    }
}

/// Rules between keys of the appliance document.
pub(crate) fn check_rules(rules: &PairRules, faults: &mut Faults) {
    let mut order = |key: &str, low: (&str, Span), high: (&str, Span)| {
        if low.1 >= high.1 {
            faults.add(None, key, format!("{} ({}) must be shorter than {} ({})", low.0, low.1, high.0, high.1));
        }
    };
    order("pair.keepalive", ("keepalive", rules.keepalive), ("warn", rules.warn));
    order("pair.warn", ("warn", rules.warn), ("lease", rules.lease));
    order("pair.serial_keepalive", ("serial_keepalive", rules.serial_keepalive), ("lease", rules.lease));
    order("pair.lease", ("lease", rules.lease), ("first_contact", rules.first_contact));
    order("pair.check_limit", ("check_limit", rules.check_limit), ("hung_after", rules.hung_after));
    if let Some(name) = rules.fail_back.as_deref().filter(|name| !["a", "b"].contains(name)) {
        faults.add(None, "pair.fail_back", format!("{name:?} is no node: write \"a\", \"b\" or \"\""));
    }
}

/// Rules between keys of [lan].
fn check_lan(lan: &Lan, faults: &mut Faults) {
    for (ip, _) in &lan.addresses {
        if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
            faults.add(None, "lan.addresses", format!("{ip} cannot be the address of a node"));
        }
    }
    for gateway in &lan.gateways {
        let same_family = lan.addresses.iter().any(|(ip, _)| ip.is_ipv4() == gateway.is_ipv4());
        // A gateway of IPv6 is commonly reached by its link-local address.
        let link_local = matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let reached = link_local || lan.addresses.iter().any(|net| within(*gateway, *net));
        let slaac_knows = gateway.is_ipv6() && !same_family && lan.slaac;
        if !reached && !slaac_knows {
            faults.add(
                None,
                "lan.gateways",
                format!("{gateway} is in none of the networks of lan.addresses: nothing could reach it"),
            );
        }
        if lan.addresses.iter().any(|(ip, _)| ip == gateway) {
            faults.add(None, "lan.gateways", format!("{gateway} is this node's own address"));
        }
    }
    for (family, v4) in [("IPv4", true), ("IPv6", false)] {
        if lan.gateways.iter().filter(|gateway| gateway.is_ipv4() == v4).count() > 1 {
            faults.add(None, "lan.gateways", format!("there is more than one gateway of {family}"));
        }
    }
    for (key, count, most) in
        [("lan.dns", lan.dns.len(), 3), ("lan.ntp", lan.ntp.len(), 8), ("lan.addresses", lan.addresses.len(), 16)]
    {
        if count > most {
            faults.add(None, key, format!("{count} are named, at most {most} are used"));
        }
    }
    for server in lan.ntp.iter().chain(&lan.search) {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b".-:_".contains(&b);
        if server.is_empty() || server.len() > 253 || !server.bytes().all(sound) {
            let key = if lan.search.as_ref() == Some(server) { "lan.search" } else { "lan.ntp" };
            faults.add(None, key, format!("{server:?} is neither a name nor an address"));
        }
    }
}

/// Whether an address lies in a network.
fn within(ip: IpAddr, (net, bits): Net) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            (ip.to_bits() ^ net.to_bits()).checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            (ip.to_bits() ^ net.to_bits()).checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

impl NodeDocument {
    /// The address of the cable: as set, or by the node's letter.
    #[must_use]
    pub fn cable_address(&self) -> Option<(IpAddr, u8)> {
        let by_letter = |name: &str| match name {
            "a" => Some((IpAddr::from([169, 254, 77, 1]), 30)),
            "b" => Some((IpAddr::from([169, 254, 77, 2]), 30)),
            _ => None,
        };
        self.pair.cable.address.or_else(|| by_letter(self.node.name.as_deref()?))
    }

    /// Rules between keys.
    pub(crate) fn check_whole(&self, faults: &mut Faults) {
        let pair = &self.pair;
        check_lan(&self.lan, faults);
        if let Some(name) = self.node.name.as_deref().filter(|name| !["a", "b"].contains(name) && pair.enabled) {
            faults.add(None, "node.name", format!("{name:?}: the nodes of a pair are \"a\" and \"b\""));
        }
        if !pair.enabled {
            return;
        }
        if self.node.name.is_none() {
            faults.add(None, "node.name", "a node of a pair must say whether it is \"a\" or \"b\"");
        }
        for (name, link) in [("pair.eth1", &pair.eth1), ("pair.lan", &pair.lan)] {
            if link.bind.is_some() != link.peer.is_some() {
                faults.add(None, name, "bind and peer go together: one of them is missing");
            }
        }
        if pair.channel.bind.is_some() != pair.channel.peer.is_some() {
            faults.add(None, "pair.channel", "bind and peer go together: one of them is missing");
        }
        if pair.eth1.bind.is_none() && pair.lan.bind.is_none() && pair.serial.port.is_none() {
            faults.add(None, "pair", "no path to the peer: eth1, lan or serial is needed, better all three");
        }
        if pair.address.interface.is_some() && pair.address.addresses.is_empty() {
            faults.add(None, "pair.address.addresses", "the interface has no address to carry");
        }
        if pair.storage.driver == StorageDriver::Drbd && (pair.storage.bind.is_none() || pair.storage.peer.is_none()) {
            faults.add(None, "pair.storage", "drbd needs bind and peer for the mirror");
        }
        if pair.power.driver != SwitchDriver::None && pair.power.at.is_none() {
            faults.add(None, "pair.power.at", "the switch needs its place");
        }
        match pair.witness.engine {
            WitnessEngine::Twinpost if pair.witness.address.is_none() => {
                faults.add(None, "pair.witness.address", "the witness needs its address");
            }
            WitnessEngine::Etcd if pair.witness.etcd.is_empty() => {
                faults.add(None, "pair.witness.etcd", "at least one URL is needed");
            }
            _ => {}
        }
    }
}
