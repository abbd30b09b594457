//! The `interface` driver on a real link: two nodes and a third host in network namespaces, joined by a bridge.
//!
//! Needs root, iproute2 and nftables; without root it says so in one line. A node is this program in its namespace (`node`), driven by
//! lines, so that it can be stopped and killed. The third host's sockets are made in its namespace and used from here.

#![allow(missing_docs, reason = "a test program")]
#![allow(clippy::print_stdout, reason = "a test program; the node answers on standard output")]

mod link;

use std::{
    io::Read as _,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use link::{LONG, V4, V6, World, comes_back, connect, echo, ip, now_us, root, until};
use nix::sys::signal::{Signal, kill};
use twinpost_address::{Address as _, Interface, Settings};

/// Not a test by itself: with `NODE` in the environment, this is a node that obeys lines.
#[test]
fn node() {
    let Ok(addresses) = std::env::var("NODE") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Box::pin(async {
        let addresses = addresses.split(',').map(|a| a.parse().unwrap()).collect();
        let mut settings = Settings::new("eth0", addresses);
        settings.probe = std::env::var("PROBE_MS").ok().map(|ms| Duration::from_millis(ms.parse().unwrap()));
        settings.peer_mac = std::env::var("PEER_MAC").ok().map(|text| {
            let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
            bytes.try_into().unwrap()
        });
        let (driver, mut notices) = match Interface::new(settings).await {
            Ok(made) => made,
            Err(error) => return println!("= err {error}"),
        };
        let driver = Arc::new(driver);
        println!("= ready");
        let (sender, mut lines) = tokio::sync::mpsc::channel(16);
        thread::spawn(move || {
            for line in std::io::stdin().lines() {
                sender.blocking_send(line.unwrap()).unwrap();
            }
        });
        let mut keeping: Option<tokio::task::JoinHandle<()>> = None;
        while let Some(line) = lines.recv().await {
            let words: Vec<&str> = line.split(' ').collect();
            let ms = |at: usize| Duration::from_millis(words[at].parse().unwrap());
            let answer = match words[0] {
                "up" => {
                    let (at, since) = (now_us(), Instant::now());
                    let result = driver.up(Some(ms(1)), since).await;
                    result.map(|()| format!("{at} {}", since.elapsed().as_micros())).map_err(|e| e.to_string())
                }
                "late" => {
                    let (at, since) = (now_us(), Instant::now());
                    let (at, since) = (at - u64::try_from(ms(2).as_micros()).unwrap(), since.checked_sub(ms(2)).unwrap());
                    driver.up(Some(ms(1)), since).await.map(|()| at.to_string()).map_err(|e| e.to_string())
                }
                "keep" => {
                    let (driver, lease, every) = (Arc::clone(&driver), ms(1), ms(2));
                    driver.up(Some(lease), Instant::now()).await.unwrap();
                    keeping = Some(tokio::spawn(async move {
                        let mut tick = tokio::time::interval(every);
                        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                        loop {
                            tick.tick().await;
                            let _ = driver.up(Some(lease), Instant::now()).await;
                        }
                    }));
                    Ok(String::new())
                }
                "release" => {
                    keeping.take().unwrap().abort();
                    Ok(String::new())
                }
                "down" => driver.down().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "announce" => driver.announce().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "uninstall" => driver.uninstall().await.map(|()| String::new()).map_err(|e| e.to_string()),
                "status" => Ok(format!("{:?}", driver.status())),
                "notice" => Ok(format!("{:?}", notices.recv().await)),
                "carrier" => {
                    let wanted = words[1] == "true";
                    Ok(driver.carrier().wait_for(|now| *now == wanted).await.unwrap().to_string())
                }
                "renewals" => {
                    let mut took: Vec<_> = Vec::new();
                    for _ in 0..words[1].parse().unwrap() {
                        let begun = Instant::now();
                        driver.up(Some(Duration::from_secs(1)), begun).await.unwrap();
                        took.push(begun.elapsed().as_micros());
                    }
                    took.sort_unstable();
                    Ok(format!("median {} us, p99 {} us", took[took.len() / 2], took[took.len() * 99 / 100]))
                }
                other => Err(format!("what is {other}?")),
            };
            match answer {
                Ok(text) => println!("= ok {text}"),
                Err(text) => println!("= err {text}"),
            }
        }
    }));
}

#[test]
fn the_address_moves_and_the_third_host_follows() {
    if !root() {
        return;
    }
    let world = World::new();
    let (mut a, mut b) = (world.node("a", &[]), world.node("b", &[]));
    assert!(world.is_silent(V4) && world.is_silent(V6));
    a.ask("up 5000");
    world.answers(V4);
    world.answers(V6);
    assert_eq!((world.neighbour(V4), world.neighbour(V6)), (world.mac("a"), world.mac("a")));
    assert!(a.ask("status").contains("here: true"));

    a.ask("down");
    assert!(!world.addresses("a").contains(V4) && !world.addresses("a").contains(V6));
    b.ask("up 5000");
    assert_eq!((world.neighbour(V4), world.neighbour(V6)), (world.mac("a"), world.mac("a")), "nobody told it yet");
    b.ask("announce");
    // Nothing is sent by the third host here: it follows because it was told.
    until("ARP cache follows", || (world.neighbour(V4) == world.mac("b")).then_some(()));
    until("neighbour cache follows", || (world.neighbour(V6) == world.mac("b")).then_some(()));
    world.answers(V4);
    world.answers(V6);

    // Twice is once, also for what is not there.
    b.ask("up 5000");
    b.ask("down");
    b.ask("down");
    b.ask("announce");
    assert!(world.is_silent(V4) && world.is_silent(V6));
    assert!(b.refused("late 800 900").contains("ended 10"), "an old event renews nothing");
    b.ask("uninstall");
}

#[test]
fn a_lease_ends_by_itself_and_never_late() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    for address in [V4, V6] {
        let pinger = world.pinger(address);
        let (mut early, mut rounds) = (Vec::new(), 0);
        while early.len() < 6 {
            rounds += 1;
            assert!(rounds < 50, "{address} is hardly ever answered");
            let lease_ms = 100 + rounds % 6 * 7;
            let (end, answered) = pinger.during(|_| {
                // Every second one counts from an event that was taken in half a second ago.
                let (order, lease_ms) = if rounds % 2 == 0 {
                    (format!("up {lease_ms}"), lease_ms)
                } else {
                    (format!("late {} 500", lease_ms + 500), lease_ms + 500)
                };
                let since: u64 = a.ask(&order).split(' ').next().unwrap().parse().unwrap();
                // So that the third host need not ask, which it does once a second only.
                a.ask("announce");
                let end = since + lease_ms * 1000;
                until("the lease is long over", || (now_us() > end + 100_000).then_some(()));
                end
            });
            // On a machine that is very busy nothing may come through in so short a time; then nothing was shown.
            if answered.is_empty() {
                continue;
            }
            let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
            assert!(last <= end, "{address}: a ping sent {} us after the lease was answered", last - end);
            early.push((end - last) / 1000);
        }
        println!("{address}: the last answered ping was sent so many ms before the end of the lease: {early:?}");
        a.ask("down");
    }
}

#[test]
fn a_stalled_daemon_is_out_of_reach_for_established_connections_too() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 400 50");
    for address in [V4, V6] {
        let mut client = connect(&world, echo(&world, "a", address));
        assert!(comes_back(&mut client, 1, LONG));
        let pinger = world.pinger(address);
        let (stopped, answered) = pinger.during(|answered| {
            until("it is reached", || (!answered.lock().unwrap().is_empty()).then_some(()));
            let stopped = a.stall();
            until("the lease is long over", || (now_us() > stopped + 600_000).then_some(()));
            stopped
        });
        let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
        assert!(last <= stopped + 400_000, "{address} answered {} us after the lease", last - stopped - 400_000);
        // The service itself runs, the connection is established, and still no byte comes out.
        assert!(!comes_back(&mut client, 2, Duration::from_millis(500)), "{address}: established connection answered");
        assert!(world.addresses("a").contains(address), "the address is still on the interface");
        // A host that does not know the way hears nothing either: no answer to ARP or to a neighbour solicitation.
        assert!(world.is_silent(address));
        assert_eq!(world.neighbour(address), "", "{address}: the neighbour was resolved");

        kill(a.pid(), Signal::SIGCONT).unwrap();
        world.answers(address);
        let mut got = [0];
        client.set_read_timeout(Some(LONG)).unwrap();
        client.read_exact(&mut got).unwrap();
        assert_eq!(got[0], 2, "{address}: what was sent meanwhile arrives by TCP's own repetition");
    }
}

#[test]
fn a_killed_daemon_leaves_nothing_reachable_and_its_successor_cleans_up() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 300 50");
    world.answers(V4);
    world.answers(V6);
    let pinger = world.pinger(V4);
    let (killed, answered) = pinger.during(|answered| {
        until("it is reached", || (!answered.lock().unwrap().is_empty()).then_some(()));
        let killed = a.kill_9();
        until("the lease is long over", || (now_us() > killed + 500_000).then_some(()));
        killed
    });
    let last = answered.iter().map(|(sent, _)| *sent).max().unwrap();
    assert!(last <= killed + 300_000, "answered {} us after the lease", last - killed - 300_000);
    assert!(world.is_silent(V6));
    let left = world.addresses("a");
    assert!(left.contains(V4) && left.contains(V6), "{left}");

    // A successor with other settings finds them by their mark.
    let mut a = world.node("a", &[("NODE", "192.0.2.20/24")]);
    let left = world.addresses("a");
    assert!(!left.contains(V4) && !left.contains(V6), "{left}");
    assert!(a.ask("notice").contains("Leftover { what: \"192.0.2.10/32"));
    assert!(a.ask("notice").contains("Leftover { what: \"2001:db8::10/128"));
    assert!(left.contains("192.0.2.11/24"), "the node's own address stays: {left}");
    a.ask("up 5000");
    world.answers("192.0.2.20");
}

#[test]
fn what_others_take_away_is_put_back() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    a.ask("keep 2000 20");
    ip(&format!("-n {} addr del {V4}/32 dev eth0", world.ns("a")));
    assert!(a.ask("notice").contains("service addresses on the interface"));
    world.answers(V4);

    let nft = |args: &[&str]| {
        let output = Command::new("ip").args(["netns", "exec", &world.ns("a"), "nft"]).args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    nft(&["flush", "ruleset"]);
    assert!(a.ask("notice").contains("rules of the service address"));
    nft(&["flush", "chain", "inet", "twinpost_pair", "output"]);
    assert!(a.ask("notice").contains("rules of the service address"), "a part missing is seen, too");
    assert!(nft(&["list", "ruleset"]).contains("ip saddr 192.0.2.10 ip saddr != @lease4 drop"));
    // Somebody else's table is none of our business.
    nft(&["add", "table", "inet", "firewall"]);
    world.answers(V4);
    world.answers(V6);
    a.ask("release");
    a.ask("down");
    assert!(nft(&["list", "tables"]).contains("inet firewall"));
    a.ask("uninstall");
    assert!(!nft(&["list", "tables"]).contains("twinpost_pair"));
}

#[test]
fn carrier_is_watched() {
    if !root() {
        return;
    }
    let world = World::new();
    let mut a = world.node("a", &[]);
    assert_eq!(a.ask("carrier true"), "true");
    ip(&format!("-n {} link set a0 down", world.ns("c")));
    assert_eq!(a.ask("carrier false"), "false");
    ip(&format!("-n {} link set a0 up", world.ns("c")));
    assert_eq!(a.ask("carrier true"), "true");
    // Gone altogether, and made anew with another index.
    a.ask("keep 2000 20");
    ip(&format!("-n {} link del a0", world.ns("c")));
    assert_eq!(a.ask("carrier false"), "false");
    ip(&format!("-n {0} link add a0 type veth peer name eth0 netns {1}", world.ns("c"), world.ns("a")));
    ip(&format!("-n {} link set a0 master br0 up", world.ns("c")));
    ip(&format!("-n {} link set eth0 up", world.ns("a")));
    assert_eq!(a.ask("carrier true"), "true");
    until("the address is on the new interface", || world.addresses("a").contains(V4).then_some(()));
    // The node's own addresses are its administrator's.
    ip(&format!("-n {} addr add 192.0.2.11/24 dev eth0", world.ns("a")));
    ip(&format!("-n {} addr add 2001:db8::11/64 dev eth0 nodad", world.ns("a")));
    world.answers(V4);
    world.answers(V6);
}

#[test]
fn others_on_the_address() {
    if !root() {
        return;
    }
    let world = World::new();
    let add = |side: &str, address: &str| ip(&format!("-n {} addr add {address} dev eth0 nodad", world.ns(side)));
    let mac = world.mac("b");
    add("b", "192.0.2.10/32");
    {
        let mut a = world.node("a", &[("PROBE_MS", "150"), ("NODE", V4)]);
        assert_eq!(a.refused("up 5000"), format!("service address {V4} is used by another host, {mac}"));
        assert!(!world.addresses("a").contains(V4));
    }
    {
        // The peer's answer is an alarm: the proof counts.
        let mut a = world.node("a", &[("PROBE_MS", "150"), ("NODE", V4), ("PEER_MAC", &mac)]);
        a.ask("up 5000");
        assert_eq!(a.ask("notice"), format!("Some(Conflict {{ address: {V4}, mac: \"{mac}\", peer: true }})"));
        assert!(world.addresses("a").contains(V4));
        a.ask("down");
    }
    ip(&format!("-n {} addr del {V4}/32 dev eth0", world.ns("b")));
    add("b", "2001:db8::10/128");
    {
        let mut a = world.node("a", &[("PROBE_MS", "300")]);
        assert_eq!(a.refused("up 5000"), format!("service address {V6} is used by another host, {mac}"));
    }
    ip(&format!("-n {} addr del {V6}/128 dev eth0", world.ns("b")));
    {
        // Free: it comes, and whoever claims it later is told of.
        let mut a = world.node("a", &[("PROBE_MS", "100")]);
        a.ask("up 20000");
        let mut b = world.node("b", &[]);
        b.ask("up 20000");
        b.ask("announce");
        assert_eq!(a.ask("notice"), format!("Some(Conflict {{ address: {V4}, mac: \"{mac}\", peer: false }})"));
    }
}

#[test]
fn a_node_without_its_means_says_so() {
    if !root() {
        return;
    }
    let world = World::new();
    ip(&format!("-n {} link set eth0 name lan0", world.ns("a")));
    let a = world.node("a", &[]);
    assert!(a.first.starts_with("err interface eth0"), "{}", a.first);
}

/// Figures for the docs; nothing is asserted of them.
#[test]
fn figures() {
    if !root() {
        return;
    }
    let world = World::new();
    let (mut a, mut b) = (world.node("a", &[]), world.node("b", &[]));
    let pinger = world.pinger(V4);
    let (mut first, mut calls) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        for node in [&mut a, &mut b] {
            let ((at, took), answered) = pinger.during(|answered| {
                let up = node.ask("up 5000");
                node.ask("announce");
                let (at, took) = up.split_once(' ').unwrap();
                let at: u64 = at.parse().unwrap();
                until("an answer", || answered.lock().unwrap().iter().any(|(_, heard)| *heard > at).then_some(()));
                (at, took.parse::<u64>().unwrap())
            });
            first.push(answered.iter().map(|(_, heard)| *heard).filter(|heard| *heard > at).min().unwrap() - at);
            calls.push(took);
            node.ask("down");
        }
    }
    first.sort_unstable();
    calls.sort_unstable();
    println!("up to the first answered ping at a third host: median {} us, worst {} us of 20", first[10], first[19]);
    println!("the call of up itself: median {} us, worst {} us", calls[10], calls[19]);
    a.ask("up 5000");
    println!("a renewal: {}", a.ask("renewals 500"));
}
