//! Faults of a pair under load, one kind a test: killed, stalled, cut off, garbled, reset, fenced, slow.
//!
//! Each ends with [`World::finish`]: every 250 is found once, and never two nodes served. The clock cannot be set back here (the
//! machine's clock is everybody's, and no namespace covers it): the pair measures by CLOCK_BOOTTIME, and the simulator's drift tests
//! show that.

use crate::kill::seed;
use crate::pair_world::World;
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP};
use std::time::{Duration, Instant};

/// The service did not move, and nobody was disconnected. An active that loses its peer goes on under a new reign of its own.
#[track_caller]
fn stayed(world: &World, active: &str, mail: Option<u64>, why: &str) {
    assert_eq!((world.two.active(), world.two.pid(active, "mail")), (Some(active), mail), "{why}");
}

const ALL: [&str; 3] = ["eth1", "lan", "serial"];
/// How long things stand still: this is the fault itself, not a wait.
const STALL: Duration = Duration::from_secs(5);

#[test]
fn kill_of_the_whole_active_three_times() {
    let mut world = World::start(seed());
    for _ in 0..3 {
        let (active, standby) = world.settled();
        world.more_mail(10);
        let old = world.two.pids(active);
        let since = world.pull_the_plug(active);
        world.serves(standby, since);
        world.more_mail(10);
        world.put_back(active, &old);
    }
    world.finish();
}

#[test]
fn stalls_shorter_than_the_watchdog() {
    let mut world = World::start(seed());
    let (active, _) = world.settled();
    let leader = world.two.pid(active, "node");
    world.signal_all(active, SIGSTOP);
    std::thread::sleep(STALL);
    world.signal_all(active, SIGCONT);
    world.more_mail(10);
    world.settled();
    assert_eq!(world.two.pid(active, "node"), leader, "a watchdog of 10 s does not reset a node that stood still for 5 s");

    let (active, _) = world.settled();
    world.signal_part(active, "pair", SIGSTOP);
    std::thread::sleep(STALL);
    world.signal_part(active, "pair", SIGCONT);
    world.more_mail(10);

    let (active, _) = world.settled();
    let mail = world.signal_part(active, "mail", SIGSTOP);
    world.until("another mail process", || ["a", "b"].iter().find_map(|n| world.two.pid(n, "mail").filter(|pid| *pid != mail)));
    world.more_mail(10);
    world.say(&format!("mail of node {active} stood still: node {} serves", world.someone_serves()));
    world.finish();
}

#[test]
fn kills_of_single_processes() {
    let mut world = World::start(seed());
    let (active, standby) = world.settled();
    let reign = world.reign(active);
    let old = world.signal_part(active, "sms", SIGKILL);
    world.until("another sms process", || world.two.pid(active, "sms").filter(|pid| *pid != old));
    world.more_mail(5);
    let mut mail = world.signal_part(active, "mail", SIGKILL);
    for restart in 1..=2 {
        let next = world.until("a restart in place", || world.two.pid(active, "mail").filter(|pid| *pid != mail));
        world.more_mail(5);
        assert_eq!((world.two.active(), world.reign(active)), (Some(active), reign), "restart {restart} is in place");
        assert_eq!(world.signal_part(active, "mail", SIGKILL), next);
        mail = next;
    }
    let since = Instant::now();
    world.say("three times quickly: the pair switches");
    world.serves(standby, since);
    assert!(world.reign(standby) > reign);

    let (active, _) = world.settled();
    let pair = world.signal_part(active, "pair", SIGKILL);
    world.until("another pair process", || world.two.pid(active, "pair").filter(|pid| *pid != pair));
    world.more_mail(10);
    world.finish();
}

#[test]
fn cables_cut() {
    let mut world = World::start(seed());
    let (active, standby) = world.settled();
    let (reign, mail) = (world.reign(active), world.two.pid(active, "mail"));
    for way in ["a>b", "b>a"] {
        world.rack(&format!("cut eth1 {way}"));
        let deaf = if way == "a>b" { "b" } else { "a" };
        world.link(deaf, "eth1", "silent");
        world.more_mail(20);
        stayed(&world, active, mail, "one way of one cable is no reason to switch");
        assert_eq!(world.reign(active), reign, "nor for a new reign");
        world.rack("mend all");
        world.link(deaf, "eth1", "up");
    }

    world.say("all cables, with a witness: no switch");
    world.cut(&ALL);
    world.peer_is(active, "silent");
    world.peer_is(standby, "silent");
    world.more_mail(100);
    stayed(&world, active, mail, "who serves goes on");
    world.rack("mend all");
    assert_eq!(world.settled(), (active, standby));
    stayed(&world, active, mail, "and stays when the peer is heard again");

    world.say("all cables, then the active dies: the lock is the proof");
    world.cut(&ALL);
    world.peer_is(standby, "silent");
    world.more_mail(10);
    let old = world.two.pids(active);
    let since = world.pull_the_plug(active);
    world.serves(standby, since);
    world.put_back(active, &old);
    world.peer_is(active, "unheard");
    world.more_mail(20);
    assert_eq!(world.two.active(), Some(standby), "a node that starts and hears nobody does not serve");
    world.rack("mend all");
    assert_eq!(world.settled(), (standby, active));

    world.say("all cables and the witness: the lock alone says who serves");
    let (active, standby, mail) = (standby, active, world.two.pid(standby, "mail"));
    world.signal_witness(SIGSTOP);
    world.cut(&ALL);
    world.peer_is(active, "silent");
    world.peer_is(standby, "silent");
    world.more_mail(100);
    stayed(&world, active, mail, "the lock is proof enough");
    let old = world.two.pids(active);
    let since = world.pull_the_plug(active);
    world.serves(standby, since);
    world.more_mail(10);
    world.signal_witness(SIGCONT);
    world.rack("mend all");
    world.put_back(active, &old);
    assert_eq!(world.settled(), (standby, active));
    world.finish();
}

#[test]
fn serial_alone_at_19200_garbled_and_without_a_witness() {
    let changes = [("baud = 115200", "baud = 19200"), ("engine = \"twinpost\"", "engine = \"none\"")];
    let mut world = World::changed(seed(), &changes);
    let (active, standby) = world.settled();
    let mail = world.two.pid(active, "mail");
    assert_eq!(world.two.shown()["serial_ends"]["a"]["bit_s"], 19_200);
    world.cut(&["eth1", "lan"]);
    world.rack("garble serial 0.005");
    for node in [active, standby] {
        world.link(node, "eth1", "silent");
        world.link(node, "lan", "silent");
    }
    world.more_mail(200);
    stayed(&world, active, mail, "the serial cable keeps the pair");
    world.until("garbled bytes", || (world.two.shown()["serial"]["a>b"]["garbled"].as_u64() > Some(0)).then_some(()));
    world.until("an eligible standby over the serial cable", || {
        let status = world.two.status(active)?;
        status["nodes"].as_array()?.iter().any(|n| n["name"] == standby && n["eligible"] == true).then_some(())
    });
    world.switch(standby);
    world.more_mail(20);

    world.say("one byte in fifty is changed: hardly a frame passes, and nobody switches");
    let mail = world.two.pid(standby, "mail");
    world.rack("garble serial 0.02");
    world.more_mail(200);
    stayed(&world, standby, mail, "a frame that is not heard is no proof");
    world.rack("mend all");
    assert_eq!(world.settled(), (standby, active));

    world.say("all cables without a witness: the active goes on by its lock");
    world.cut(&ALL);
    world.peer_is(standby, "silent");
    world.peer_is(active, "silent");
    world.more_mail(100);
    stayed(&world, standby, mail, "the lock is proof enough");
    let old = world.two.pids(standby);
    let since = world.pull_the_plug(standby);
    world.serves(active, since);
    world.rack("mend all");
    world.put_back(standby, &old);
    world.finish();
}

#[test]
fn a_short_watchdog_resets_a_node_that_stands_still() {
    let mut world = World::changed(seed(), &[("timeout = \"10 s\"", "timeout = \"2 s\"")]);
    let (active, standby) = world.settled();
    let leader = world.two.pid(active, "node");
    let since = Instant::now();
    world.signal_all(active, SIGSTOP);
    world.serves(standby, since);
    world.until("the node that was reset", || world.two.pid(active, "node").filter(|pid| Some(*pid) != leader));
    assert_eq!(world.settled(), (standby, active), "it comes back as the standby");
    world.finish();
}

#[test]
fn the_power_switch_ends_a_node_that_stands_still() {
    let changes =
        [("driver = \"none\"\nat", "driver = \"relay\"\non_after = \"1 s\"\nat"), ("timeout = \"10 s\"", "timeout = \"60 s\"")];
    let mut world = World::changed(seed(), &changes);
    let (active, standby) = world.settled();
    let leader = world.two.pid(active, "node");
    let since = Instant::now();
    world.signal_all(active, SIGSTOP);
    world.serves(standby, since);
    let switch = world.until("the end of the takeover", || {
        let switch = world.two.status(standby)?["last_switch"].clone();
        (switch["to"] == standby && switch["from"] == active).then_some(switch)
    });
    // A node without power lets go of the lock, which may be known before the switch has read the outlet back.
    let proof = switch["proof"].as_str().unwrap_or_default();
    assert!(["fenced", "reservation"].contains(&proof), "{switch}");
    world.until("the switch's own word", || (world.two.status(standby)?["fencing"]["last"] == "off").then_some(()));
    world.until("the power is on again", || world.two.pid(active, "node").filter(|pid| Some(*pid) != leader));
    assert_eq!(world.settled(), (standby, active));
    world.finish();
}

#[test]
fn a_planned_switch_and_a_kill_with_a_slow_disk() {
    let changes = [("[sms]\nenabled", "[store]\nslow_fsync = \"50 ms\"\n\n[sms]\nenabled")];
    let mut world = World::changed(seed(), &changes);
    for _ in 0..2 {
        let (_, standby) = world.settled();
        world.switch(standby);
        world.more_mail(10);
    }
    let (active, standby) = world.settled();
    let old = world.two.pids(active);
    let since = world.pull_the_plug(active);
    world.serves(standby, since);
    world.put_back(active, &old);
    world.finish();
}
