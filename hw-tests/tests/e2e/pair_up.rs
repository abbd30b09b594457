//! `twinpost up` with two nodes: what starts, what is said, what stays when a node loses its power, and who runs the rack.

use crate::node::{Node, alive, program, wait_for};
use crate::programs::run;
use crate::two::{Two, session_of, signal_to};
use nix::sys::signal::Signal;
use std::process::Command;

const BEN: &str = "ben@school.example";

#[test]
fn two_nodes_start_settle_and_one_takes_over_when_the_other_loses_its_power() {
    let two = Two::new();
    let mut up = two.up("up", &[]);
    let (active, standby) = two.settled(&mut up);
    println!("node {active} serves, node {standby} stands by; folder {}", two.dir().display());

    let endpoints = two.endpoints().unwrap();
    for node in ["a", "b"] {
        let leader = two.pid(node, "node").expect("a node");
        let expected: &[&str] =
            if node == active { &["mail", "modem", "node", "pair", "sms"] } else { &["modem", "node", "pair", "sms"] };
        wait_for("all parts of the node", || {
            let mut names: Vec<String> = two.pids(node).into_iter().map(|(name, _)| name).collect();
            names.sort();
            (names == expected).then_some(())
        });
        for (part, pid) in two.pids(node) {
            assert!(alive(pid), "{part} of node {node}");
            assert_eq!(session_of(pid), Some(leader), "{part} of node {node} is in the session of its node");
        }
    }
    assert!(alive(endpoints["pair"]["witness"]["pid"].as_u64().expect("a witness")));
    assert_eq!(endpoints["pair"]["rack"]["pid"], up.pid());
    assert_eq!(endpoints["pair"]["storage"]["driver"], "shared");
    assert_eq!(endpoints["modems"].as_array().map(Vec::len), Some(2));
    let links = &two.shown();
    for link in ["eth1", "lan", "serial"] {
        for way in ["a>b", "b>a"] {
            assert!(links[link][way]["passed"].as_u64() > Some(0), "nothing crossed {link} {way}: {links}");
        }
    }
    let data = |node: &str| two.dir().join(node).join("data").symlink_metadata().is_ok();
    assert!(data(active) && !data(standby), "only the active has the mail");
    let said = up.log();
    for part in
        ["Twinpost is running on", "active: the service address is here", "standby", "kill -9", "--only", "pair standby", BEN]
    {
        assert!(said.contains(part), "`up` does not say {part:?}:\n{said}");
    }
    assert_eq!(two.ctl(&["status"]).code, 0);

    println!("what runs already is not started twice");
    let pid = two.pid("a", "node").unwrap().to_string();
    let refused = two.up_in_vain(&["--only", "a"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains(&pid) && refused.err.contains("runs already"), "{refused:?}");
    let refused = two.up_in_vain(&["--nodes", "1"]);
    assert!(refused.code == 1 && refused.err.contains("--only a"), "{refused:?}");

    println!("kill -9 of every process of node {active}: node {standby} answers, with the mail");
    two.send(BEN, "before");
    let old = two.pull_the_plug(active);
    wait_for("the other node on the service address", || (two.active() == Some(standby) && two.banner()).then_some(()));
    assert_eq!(two.count(BEN, "before"), 1);
    two.send(BEN, "after");
    two.wait_for_dark(active, &old);
    up.still_runs();
    let sentence = format!("node {active} is down");
    wait_for("the sentence of `up`", || up.log().contains(&sentence).then_some(()));
    assert!(up.log().contains(&format!("--only {active}")), "{}", up.log());

    println!("node {active} comes back by `up --only {active}`, as a standby");
    let mut back = two.up("back", &["--only", active]);
    assert_eq!(two.settled(&mut back), (standby, active));
    assert_eq!((two.count(BEN, "before"), two.count(BEN, "after")), (1, 1));

    println!("the first `up` ends: the node of the other takes over, and the rack goes to it");
    let status = up.end_by(Signal::SIGINT);
    assert_eq!(status.code(), Some(0), "{status}\n{}", up.log());
    wait_for("the rack in other hands", || {
        (two.endpoints()?.pointer("/pair/rack/pid")?.as_u64()? == u64::from(back.pid())).then_some(())
    });
    wait_for("the node that is left on the service address", || (two.active() == Some(active) && two.banner()).then_some(()));
    assert_eq!((two.count(BEN, "before"), two.count(BEN, "after")), (1, 1));
    assert_eq!(two.shown()["pid"], back.pid());
    let last = two.pids(active);
    assert_eq!(back.end_by(Signal::SIGTERM).code(), Some(0), "{}", back.log());
    assert!(two.pids("a").is_empty() && two.pids("b").is_empty());
    assert!(last.iter().all(|(_, pid)| !alive(*pid)), "{last:?}");
}

#[test]
fn a_node_that_stands_still_is_reset_by_its_watchdog_and_starts_again() {
    let two = Two::new();
    let mut up = two.up("up", &[]);
    let (active, standby) = two.settled(&mut up);
    two.send(BEN, "before");
    let old = two.pids(active);
    println!("every process of node {active} stands still for longer than its watchdog waits");
    two.rack(&format!("pause {active}"));
    wait_for("the other node on the service address", || (two.active() == Some(standby) && two.banner()).then_some(()));
    wait_for("the reset node", || two.pid(active, "node").filter(|pid| old.iter().all(|(_, old)| old != pid)));
    assert!(up.log().contains("the watchdog was not fed in time"), "{}", up.log());
    assert_eq!(two.settled(&mut up), (standby, active), "it comes back as the standby");
    assert_eq!(two.count(BEN, "before"), 1);

    println!("the power of node {standby} is switched off, read back, and switched on again");
    let old = two.pids(standby);
    assert_eq!(two.rack(&format!("power {standby} read")).trim(), "ok on");
    two.rack(&format!("power {standby} off"));
    assert_eq!(two.rack(&format!("power {standby} read")).trim(), "ok off");
    assert!(old.iter().all(|(_, pid)| !alive(*pid)), "off was read back, and something of the node runs: {old:?}");
    wait_for("the other node on the service address", || (two.active() == Some(active) && two.banner()).then_some(()));
    two.rack(&format!("power {standby} on"));
    assert_eq!(two.settled(&mut up), (active, standby));
    assert_eq!(two.count(BEN, "before"), 1);
}

#[test]
fn a_node_alone_becomes_a_pair_and_keeps_its_mail_and_its_people() {
    let mut node = Node::start();
    node.mx().mail("you@elsewhere.example", &[BEN], b"Subject: alone\r\n\r\nx\r\n").unwrap();
    let (accounts, ca) = (node.endpoints()["accounts"].clone(), std::fs::read(node.ca()).unwrap());
    let refused = run(Command::new(program()).arg("up").arg("--dir").arg(node.dir()).args(["--only", "a"]), b"");
    assert!(refused.code == 1 && refused.err.contains("--nodes 2"), "{refused:?}");
    node.stop();
    let two = Two::of(node);
    let mut up = two.up("up", &[]);
    two.settled(&mut up);
    let endpoints = two.endpoints().unwrap();
    assert_eq!(endpoints["accounts"], accounts);
    assert_eq!(std::fs::read(endpoints["ca"].as_str().unwrap()).unwrap(), ca, "clients know this authority");
    assert_eq!(two.count(BEN, "alone"), 1);
}

#[test]
fn a_killed_node_process_takes_the_whole_node_with_it_and_a_killed_up_both() {
    let two = Two::new();
    let mut up = two.up("up", &[]);
    let (active, standby) = two.settled(&mut up);
    println!("kill -9 of `twinpost node` of the standby alone");
    let old = two.pids(standby);
    signal_to(two.pid(standby, "node").unwrap(), Signal::SIGKILL);
    two.wait_for_dark(standby, &old);
    up.still_runs();
    assert_eq!(two.active(), Some(active), "the other node does not care");
    println!("kill -9 of `up`: nothing stays behind");
    let old = two.pids(active);
    up.end_by(Signal::SIGKILL);
    wait_for("the end of the orphans", || old.iter().all(|(_, pid)| !alive(*pid)).then_some(()));
    println!("the next `up` starts both");
    let mut up = two.up("again", &[]);
    two.settled(&mut up);
}
