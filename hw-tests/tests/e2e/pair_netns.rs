//! The pair with the appliance's address driver, in network namespaces: what a third host on the LAN hears of two nodes.
//!
//! Needs root; without it one line says what is left out.

use crate::netns::{Heard, World, other, root};
use crate::node::wait_for;
use crate::two::signal_to;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};

/// The lease of the documents, and one tick of the kernel's clock for the lists whose elements end.
const LEASE: Duration = Duration::from_millis(820);

#[test]
fn a_killed_active_is_followed_at_the_same_address_and_a_planned_switch_costs_one_reconnect() {
    if !root() {
        return;
    }
    let mut world = World::new();
    let active = world.settled();
    let standby = other(active);
    assert!(world.has_address(active) && !world.has_address(standby));
    let mut watched = world.watched();
    watched.acknowledge(30);
    assert_eq!(world.neighbour(), Some(active));

    println!("kill -9 of everything of node {active}");
    let killed = Instant::now();
    world.power_cut(active);
    let banner = watched.first_banner(standby, killed);
    println!("first banner of node {standby} {} ms after the kill", (banner - killed).as_millis());
    watched.acknowledge(30);
    // The observers go on until the lease is long over.
    watched.first_banner(standby, killed + LEASE + Duration::from_millis(500));
    assert_eq!(world.neighbour(), Some(standby), "the third host follows");
    if let Some(last) = watched.last_answer(active).filter(|s| s.heard > killed) {
        println!("the dead node's kernel answered last {} ms after the kill: {:?}", (last.heard - killed).as_millis(), last.what);
    }
    assert!(world.has_address(active), "nobody took the address from the dead node's kernel: only its lease has ended");
    watched.turns(&[active, standby]);
    watched.silent_since(active, killed + LEASE);

    world.start(active);
    assert_eq!(world.settled(), standby, "it comes back as the standby");
    assert!(!world.has_address(active), "what was left is removed");
    watched.acknowledge(10);

    println!("planned switch to node {active}");
    let (sessions, ordered) = (watched.sessions(), Instant::now());
    world.pair(&["standby", "--yes"]);
    let banner = watched.first_banner(active, ordered);
    let last = watched.seen().into_iter().filter(|s| s.node == standby && s.what == Heard::Banner).map(|s| s.heard).max();
    let silence = banner.saturating_duration_since(last.expect("it served"));
    println!("no banner for {} ms", silence.as_millis());
    // One client's first try may wait a second for its lost SYN while the others send.
    wait_for("three clients that reconnected", || (watched.sessions() - sessions >= 3).then_some(()));
    watched.acknowledge(30);
    assert_eq!(world.settled(), active);
    assert_eq!(watched.sessions() - sessions, 3, "each of three clients reconnected once");
    let load = watched.end();
    watched.turns(&[active, standby, active]);
    world.find_all(&load);
}

#[test]
fn the_address_of_a_stalled_daemon_is_out_of_reach_when_its_lease_ends() {
    if !root() {
        return;
    }
    let world = World::new();
    let active = world.settled();
    let mut watched = world.watched();
    watched.acknowledge(20);
    let daemon = world.daemon(active);
    println!("SIGSTOP of the pair daemon of node {active} for 5 s");
    signal_to(daemon, Signal::SIGSTOP);
    let stopped = Instant::now();
    // The stall is what is tested, so this time passes.
    std::thread::sleep(Duration::from_secs(5));
    let going_on = Instant::now();
    watched.silent_since(active, stopped + LEASE);
    signal_to(daemon, Signal::SIGCONT);
    let serves = wait_for("a node that serves", || {
        let seen = watched.seen();
        seen.iter().find(|s| s.what == Heard::Banner && s.asked > going_on).map(|s| s.node)
    });
    let now = world.settled();
    println!("node {serves} served first, {} ms after SIGCONT; node {now} serves", going_on.elapsed().as_millis());
    watched.acknowledge(30);
    let load = watched.end();
    let both = [active, now];
    watched.turns(if now == active { &both[..1] } else { &both });
    world.find_all(&load);
}

#[test]
fn cables_are_pulled_one_after_the_other() {
    if !root() {
        return;
    }
    let mut world = World::new();
    let active = world.settled();
    let standby = other(active);
    let mut watched = world.watched();
    watched.acknowledge(20);
    let reign = |node: &str| world.status(node).expect("the daemon answers")["reign"].as_u64().unwrap();
    let first = reign(active);
    let link = |node: &str, link: &str, state: &str| {
        wait_for("the state of a link", || {
            let status = world.status(node)?;
            status["links"].as_array()?.iter().any(|l| l["name"] == link && l["state"] == state).then_some(())
        });
    };

    println!("eth1 is pulled, the LAN is there: nothing changes");
    world.eth1(standby, "down");
    link(active, "eth1", "silent");
    watched.acknowledge(30);
    assert_eq!((world.settled(), reign(active)), (active, first));
    world.eth1(standby, "up");
    link(active, "eth1", "up");
    // A node that took over keeps the services six times `prefer_after`, which is 1 s here.
    wait_for("the time in which a node keeps the services", || {
        let status = world.status(active)?;
        let since = status["nodes"].as_array()?.iter().find(|n| n["name"] == active)?["since_ms"].as_u64()?;
        (since > 6_500).then_some(())
    });

    println!("the LAN cable of node {active} is pulled, eth1 is there: node {standby} has the better LAN");
    let pulled = Instant::now();
    world.lan(active, "down");
    let banner = watched.first_banner(standby, pulled);
    println!("first banner of node {standby} {} ms after the cable was pulled", (banner - pulled).as_millis());
    assert!(reign(standby) > first);
    watched.acknowledge(30);
    world.lan(active, "up");
    link(active, "lan", "up");
    assert_eq!(world.settled(), standby, "a mended cable takes nothing back");
    watched.turns(&[active, standby]);

    println!("all cables of node {standby} are pulled: it still holds the mail volume, so node {active} must not serve");
    world.serial_cut(true);
    world.eth1(active, "down");
    world.lan(standby, "down");
    for name in ["eth1", "lan", "serial"] {
        link(active, name, "silent");
    }
    wait_for("the other node to ask for the volume", || {
        let status = world.status(active)?;
        status["nodes"].as_array()?.iter().any(|n| n["name"] == active && n["state"] == "taking_over").then_some(())
    });
    watched.turns(&[active, standby]);
    println!("the lonely node {standby} loses its power, too: the volume is free");
    let cut = Instant::now();
    world.power_cut(standby);
    let banner = watched.first_banner(active, cut);
    println!("first banner of node {active} {} ms later", (banner - cut).as_millis());
    watched.acknowledge(30);
    world.lan(standby, "up");
    world.eth1(active, "up");
    world.serial_cut(false);
    world.start(standby);
    assert_eq!(world.settled(), active);
    watched.acknowledge(10);
    let load = watched.end();
    watched.turns(&[active, standby, active]);
    world.find_all(&load);
}

#[test]
fn a_bad_cable_switches_nothing() {
    if !root() {
        return;
    }
    let world = World::new();
    let active = world.settled();
    let reign = |node: &str| world.status(node).expect("the daemon answers")["reign"].as_u64().unwrap();
    let before = reign(active);
    let mut watched = world.watched();
    watched.acknowledge(20);
    for (interface, link) in [("lan0", "lan"), ("eth1", "eth1")] {
        println!("one packet in five is lost on {link} for 20 s (ten minutes of it: `make bench`)");
        world.loss(Some(interface));
        // Time with loss is what is tested.
        std::thread::sleep(Duration::from_secs(if crate::fast() { 5 } else { 20 }));
        let lost = crate::netns::NODES.map(|node| world.lost(node));
        println!("lost packets on the way to a and b: {lost:?}");
        assert!(lost.iter().all(|lost| *lost > 10), "{lost:?}");
        world.loss(None);
        assert_eq!((world.settled(), reign(active)), (active, before), "nobody took over");
    }
    watched.acknowledge(10);
    let load = watched.end();
    watched.turns(&[active]);
    world.find_all(&load);
}
