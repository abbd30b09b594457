//! The network of a node in a real namespace of the kernel: names, addresses, routes, VLAN, and what stays untouched.
//!
//! Needs root and iproute2; without root it says so in one line.

#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::print_stdout, reason = "a test program")]

use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use twinpost_node::render::Fault;
use twinpost_node::render::network::{Plan, Port, apply};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// A namespace with two cards, eth0 and eth1, whose other ends are in a second one.
struct World {
    name: String,
}

fn ip(args: &str) -> String {
    let output = Command::new("ip").args(args.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl World {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("left out: the network of a node in namespaces needs root");
            return None;
        }
        let name = format!("tpn{}x{}", std::process::id(), WORLDS.fetch_add(1, Ordering::Relaxed));
        let world = Self { name };
        let n = &world.name;
        for side in ["n", "o"] {
            ip(&format!("netns add {n}{side}"));
        }
        for card in ["eth0", "eth1"] {
            ip(&format!("-n {n}n link add {card} type veth peer name far-{card} netns {n}o"));
            ip(&format!("-n {n}o link set far-{card} up"));
        }
        Some(world)
    }

    fn ip(&self, args: &str) -> String {
        ip(&format!("-n {}n {args}", self.name))
    }

    fn apply(&self, plan: &Plan) -> Vec<Fault> {
        let file = std::fs::File::open(format!("/run/netns/{}n", self.name)).unwrap();
        thread::scope(|scope| {
            let done = scope.spawn(move || {
                setns(file.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                // /proc/sys/net is the one of the thread's namespace.
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(apply(plan, Path::new("/proc/sys/net")))
            });
            done.join().unwrap()
        })
    }

    fn addresses(&self, of: &str) -> Vec<String> {
        let text = self.ip(&format!("-o addr show dev {of}"));
        let mut all: Vec<String> = text.lines().filter_map(|l| l.split_whitespace().nth(3)).map(str::to_owned).collect();
        all.retain(|a| !a.starts_with("fe80"));
        all.sort();
        all
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for side in ["n", "o"] {
            let _ = Command::new("ip").args(["netns", "del", &format!("{}{side}", self.name)]).stderr(Stdio::null()).status();
        }
    }
}

fn address(text: &str) -> (IpAddr, u8) {
    let (ip, prefix) = text.split_once('/').unwrap();
    (ip.parse().unwrap(), prefix.parse().unwrap())
}

fn wanted() -> Plan {
    Plan {
        ports: vec![
            Port {
                now: "eth1".to_owned(),
                name: "lan".to_owned(),
                mtu: Some(1400),
                slaac: false,
                addresses: vec![address("192.0.2.11/24"), address("2001:db8::11/64")],
                gateways: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                ..Port::default()
            },
            Port {
                now: "eth0".to_owned(),
                name: "pair".to_owned(),
                addresses: vec![address("169.254.77.1/30")],
                ..Port::default()
            },
        ],
    }
}

/// The same after the ports have their names.
fn again(mut plan: Plan) -> Plan {
    for port in &mut plan.ports {
        port.now = if port.vlan.is_some() { "lan-port".to_owned() } else { port.name.clone() };
    }
    plan
}

#[test]
fn ports_get_their_names_addresses_and_routes_and_a_second_time_changes_nothing() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.apply(&wanted()), []);
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
    assert_eq!(world.addresses("pair"), ["169.254.77.1/30"]);
    assert!(world.ip("link show lan").contains("mtu 1400"));
    let routes = |w: &World| (w.ip("route show default"), w.ip("-6 route show default"));
    let (v4, v6) = routes(&world);
    assert!(v4.contains("via 192.0.2.1 dev lan") && v4.contains("src 192.0.2.11"), "{v4}");
    assert!(v6.contains("via 2001:db8::1 dev lan"), "{v6}");
    let switch = ip(&format!("netns exec {}n cat /proc/sys/net/ipv6/conf/lan/accept_ra", world.name));
    assert_eq!(switch.trim(), "0");
    let before = (world.ip("-o addr show"), routes(&world));
    assert_eq!(world.apply(&again(wanted())), []);
    assert_eq!((world.ip("-o addr show"), routes(&world)), before);
}

#[test]
fn another_address_takes_the_old_ones_place_and_the_service_address_stays() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.apply(&wanted()), []);
    // As the pair's driver of the service address adds it: without our mark (iproute2 here cannot write marks).
    world.ip("addr add 192.0.2.100/24 dev lan");
    let mut plan = again(wanted());
    plan.ports[0].addresses = vec![address("192.0.2.12/24")];
    plan.ports[0].gateways = vec!["192.0.2.2".parse().unwrap()];
    assert_eq!(world.apply(&plan), []);
    assert_eq!(world.addresses("lan"), ["192.0.2.100/24", "192.0.2.12/24"]);
    assert!(world.ip("route show default").contains("via 192.0.2.2 dev lan"));
    assert_eq!(world.ip("route show default").lines().count(), 1);
    assert_eq!(world.ip("-6 route show default"), "");
}

#[test]
fn ports_that_have_each_others_names_change_them() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.apply(&wanted()), []);
    let macs =
        |w: &World| ["lan", "pair"].map(|p| w.ip(&format!("-br link show {p}")).split_whitespace().nth(2).map(str::to_owned));
    let [lan, pair] = macs(&world);
    let mut plan = wanted();
    (plan.ports[0].now, plan.ports[1].now) = ("pair".to_owned(), "lan".to_owned());
    assert_eq!(world.apply(&plan), []);
    assert_eq!(macs(&world), [pair, lan]);
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
    assert_eq!(world.addresses("pair"), ["169.254.77.1/30"]);
    // A stranger with one of the names gives way.
    world.ip("link set pair down");
    world.ip("link set pair name eth9");
    world.ip("link add pair type veth peer name far-pair");
    plan = again(wanted());
    plan.ports[1].now = "eth9".to_owned();
    assert_eq!(world.apply(&plan), []);
    assert_eq!(world.addresses("pair"), ["169.254.77.1/30"]);
    assert!(world.ip("link show").contains("other"), "{}", world.ip("link show"));
}

#[test]
fn a_vlan_carries_the_addresses_and_goes_again() {
    let Some(world) = World::new() else { return };
    let card = format!("-n {}n link add link eth0 name v type vlan id 9", world.name);
    let tried = Command::new("ip").args(card.split(' ')).stderr(Stdio::null()).status();
    if !tried.is_ok_and(|status| status.success()) {
        println!("left out: a VLAN: the kernel of this machine has none");
        return;
    }
    world.ip("link del v");
    let mut plan = wanted();
    plan.ports[0].vlan = Some(7);
    assert_eq!(world.apply(&plan), []);
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
    assert_eq!(world.addresses("lan-port"), Vec::<String>::new());
    assert!(world.ip("-d link show lan").contains("vlan protocol 802.1Q id 7"));
    plan = again(plan);
    plan.ports[0].vlan = Some(8);
    assert_eq!(world.apply(&plan), []);
    assert!(world.ip("-d link show lan").contains("vlan protocol 802.1Q id 8"));
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
    plan.ports[0].vlan = None;
    assert_eq!(world.apply(&plan), []);
    assert!(!world.ip("-d link show lan").contains("802.1Q"));
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
}

#[test]
fn a_port_that_is_gone_is_told_and_the_other_is_set_up() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.apply(&wanted()), []);
    world.ip("link del pair");
    let faults = world.apply(&again(wanted()));
    assert!(!faults.is_empty() && faults.iter().all(|f| f.text.en.contains("no interface pair")), "{faults:?}");
    assert_eq!(world.addresses("lan"), ["192.0.2.11/24", "2001:db8::11/64"]);
}
