//! Orders and the states that only people lead to: planned switch, maintenance, services that fail, conflict.

mod world;

use twinpost_heartbeat::*;
use world::World;

/// Node 0 serves, node 1 is eligible, one message is on both.
fn whole() -> World {
    let mut w = World::new(Settings { first_contact_ms: 3000, ..Settings::default() }, Rules::ALL);
    (0..2).for_each(|n| w.restart(n));
    run(&mut w, 30);
    w.write();
    assert!(w.serves(0) && w.nodes[1].core.eligible);
    w
}

fn run(w: &mut World, ticks: u32) {
    for _ in 0..ticks {
        w.tick(100, 0);
        assert!(!w.two_serve() && !w.lost());
    }
}

#[test]
fn a_planned_switch_takes_less_than_a_second() {
    let mut w = whole();
    w.event(0, Event::Order(Order::Standby));
    run(&mut w, 9);
    assert!(w.serves(1) && !w.serves(0));
    run(&mut w, 20);
    assert!(w.nodes[0].core.eligible, "and the pair is whole the other way round");
}

#[test]
fn services_restart_twice_and_then_the_pair_switches() {
    let mut w = whole();
    for _ in 0..2 {
        w.event(0, Event::Checked(false));
        assert!(w.serves(0));
    }
    w.event(0, Event::Checked(false));
    run(&mut w, 9);
    assert!(w.serves(1));
}

#[test]
fn services_that_fail_on_both_nodes_are_passed_less_and_less_often() {
    let mut w = whole();
    let (mut served, mut passed_after, mut checks) = (0, Vec::new(), 0);
    // Twenty minutes; each start of the services takes three seconds and fails.
    for tick in 0..12_000 {
        run(&mut w, 1);
        let Some(active) = (0..2).find(|&n| w.serves(n)) else { continue };
        if active != served {
            passed_after.push(std::mem::take(&mut checks));
            served = active;
        }
        if tick % 30 == 0 {
            checks += 1;
            w.event(active, Event::Checked(false));
        }
    }
    assert_eq!(
        passed_after,
        [3, 3, 5, 5, 9, 9, 17, 17, 33, 33, 65, 65, 65, 65],
        "each tries twice as often before it gives up again"
    );
    // Good services for ten minutes: what was is forgotten.
    w.event(served, Event::Checked(true));
    run(&mut w, 6_100);
    assert_eq!((w.nodes[0].core.passes, w.nodes[1].core.passes), (0, 0));
}

#[test]
fn in_maintenance_nothing_switches_until_it_ends() {
    let mut w = whole();
    w.event(1, Event::Order(Order::Maintenance { for_ms: 5000 }));
    w.crash(0);
    w.fixed.set[1].fencing = true;
    run(&mut w, 40);
    assert!(!w.serves(1));
    run(&mut w, 40);
    assert!(w.serves(1), "it ends by itself");
}

#[test]
fn diverged_data_is_never_overwritten_without_a_word() {
    let mut w = whole();
    // Node 0 goes on alone by fencing its peer, then the administrator forces node 1.
    w.fixed.set[0].fencing = true;
    w.cut = [[true; 2]; 3];
    w.mirror();
    w.crash(1);
    run(&mut w, 30);
    w.write();
    w.crash(0);
    w.restart(1);
    run(&mut w, 5);
    w.event(1, Event::Order(Order::Force));
    w.acked = 0;
    w.write();
    let (left, right) = (w.nodes[0].data, w.nodes[1].data);
    assert_ne!(left, right);
    w.heal();
    w.restart(0);
    run(&mut w, 50);
    assert_eq!(w.nodes[0].core.node_state(), NodeState::Conflict);
    assert_eq!((w.nodes[0].data, w.nodes[1].data), (left, right), "both keep what they have");
    w.event(0, Event::Order(Order::GiveWay));
    w.event(0, Event::Replication(Replication::CopyWhole));
    run(&mut w, 30);
    assert!(w.nodes[0].core.eligible && w.serves(1));
}

#[test]
fn a_promotion_that_fails_leaves_the_reign_to_the_peer() {
    let mut w = whole();
    w.nodes[1].promote_fails = true;
    w.event(0, Event::Order(Order::Standby));
    run(&mut w, 5);
    assert!(!w.serves(1) && w.nodes[1].disk.is_some_and(|record| !record.unshared), "nothing was written under the new reign");
    run(&mut w, 15);
    assert!(w.serves(0), "the one that could goes on");
    run(&mut w, 20);
    assert!(w.nodes[1].core.eligible);
}

#[test]
fn a_stop_that_fails_ends_in_cutting_its_own_power() {
    let mut w = whole();
    w.fixed.set[1].fencing = true;
    w.nodes[0].stop_fails = true;
    w.event(0, Event::Order(Order::Standby));
    assert!(!w.nodes[0].on, "power is cut before anything else can happen");
    run(&mut w, 20);
    assert!(w.serves(1));
}

#[test]
fn a_copy_that_is_half_overwritten_takes_over_nothing() {
    let mut w = whole();
    w.fixed.set[0].fencing = true;
    w.crash(1);
    run(&mut w, 20);
    w.write();
    w.restart(1);
    for _ in 0..20 {
        if w.nodes[0].resync {
            break;
        }
        w.tick(100, 0);
    }
    assert!(w.nodes[0].resync && w.nodes[1].partial, "a resync is under way");
    w.crash(0);
    w.fixed.set[1].fencing = true;
    run(&mut w, 60);
    assert!(!w.serves(1));
    assert!(reasons(&w.nodes[1].core, &w.fixed.set[1], Order::Force).iter().any(|reason| reason == Reason::Resync));
    w.restart(0);
    run(&mut w, 60);
    assert!(w.serves(0) && w.nodes[1].core.eligible, "the resync went on from its start");
}

#[test]
fn what_the_driver_finds_diverged_stays_a_conflict_until_one_gives_way() {
    let mut w = whole();
    w.fixed.set[0].fencing = true;
    w.diverge();
    run(&mut w, 30);
    assert_eq!(w.nodes[1].core.node_state(), NodeState::Conflict, "frames of the active do not end it");
    assert!(w.serves(0));
    w.event(1, Event::Order(Order::GiveWay));
    assert_eq!(w.nodes[1].aside, w.nodes[0].data, "kept for the merge");
    run(&mut w, 30);
    assert!(w.nodes[1].core.eligible);
}

#[test]
fn the_healthier_node_takes_over_once() {
    let mut w = whole();
    for n in 0..2 {
        w.fixed.set[n].prefer_after_ms = 1000;
    }
    run(&mut w, 80);
    assert!(w.serves(0), "equals stay where they are");
    w.event(0, Event::Ping(false));
    run(&mut w, 9);
    assert!(w.serves(0), "not on a moment's difference");
    run(&mut w, 15);
    assert!(w.serves(1));
    // Now the other loses its gateway too, and a cable is loose: nobody flaps.
    w.event(1, Event::Ping(false));
    w.event(0, Event::Ping(true));
    run(&mut w, 30);
    assert!(w.serves(1), "who just took over keeps it for a while");
    w.event(1, Event::Ping(true));
    run(&mut w, 100);
    assert!(w.serves(1));
}

#[test]
fn a_sick_active_stays_where_its_peer_may_not_take_over() {
    let mut w = whole();
    for n in 0..2 {
        w.fixed.set[n].prefer_after_ms = 1000;
    }
    run(&mut w, 80);
    w.event(0, Event::Order(Order::Maintenance { for_ms: 60_000 }));
    w.event(0, Event::Ping(false));
    run(&mut w, 50);
    assert!(w.serves(0));
}

#[test]
fn a_lock_is_taken_the_moment_it_is_free() {
    let set = Settings { first_contact_ms: 3000, reservation: true, reservation_excludes: true, ..Settings::default() };
    let mut w = World::new(set, Rules::ALL);
    (0..2).for_each(|n| w.restart(n));
    run(&mut w, 30);
    w.write();
    assert!(w.serves(0) && w.nodes[1].core.eligible && w.array.waits[1]);
    w.kill(0);
    w.mirror();
    assert!(w.serves(1), "no time passed");
    // What was off comes back as a standby, and the lock comes to it only with a right.
    w.restart(0);
    run(&mut w, 20);
    assert!(w.nodes[0].core.eligible && w.serves(1));
}

#[test]
fn an_active_whose_lease_ended_serves_again_when_the_witness_is_back() {
    let set = Settings { first_contact_ms: 3000, witness: true, ..Settings::default() };
    let mut w = World::new(set, Rules::ALL);
    (0..2).for_each(|n| w.restart(n));
    run(&mut w, 30);
    assert!(w.serves(0));
    w.witness.up = [false; 2];
    w.crash(1);
    w.mirror();
    run(&mut w, 15);
    assert!(!w.serves(0), "its lease ended");
    w.witness.up = [true; 2];
    run(&mut w, 40);
    assert!(w.serves(0), "nobody else can have the newest data");
}

/// Found by the simulator: between a lease and the serial line's warning a claim was taken up and dropped at every event.
#[test]
fn a_dropped_claim_rests() {
    let mut w = whole();
    // A hint that frames belie is not listened to for a while; then both stand by, and the peer dies.
    w.event(0, Event::PeerGone);
    run(&mut w, 3);
    assert!(w.nodes[0].core.gone_deaf_ms > 0);
    w.nodes[1].promote_fails = true;
    w.event(0, Event::Order(Order::Standby));
    run(&mut w, 5);
    w.kill(1);
    for _ in 0..40 {
        w.tick(50, 0);
        let claimed = w.nodes[0].core.claimed;
        for _ in 0..50 {
            w.event(0, Event::PeerGone);
        }
        assert!(w.nodes[0].core.claimed <= claimed + 1, "at most one claim, however often an event comes");
    }
}

#[test]
fn a_shared_volume_that_says_complete_to_an_active_without_a_peer_writes_no_record_after_another() {
    let set = Settings { first_contact_ms: 3000, reservation: true, reservation_excludes: true, ..Settings::default() };
    let mut w = World::new(set, Rules::ALL);
    (0..2).for_each(|n| w.restart(n));
    run(&mut w, 30);
    let active = usize::from(w.serves(1));
    w.crash(1 - active);
    run(&mut w, 20);
    let writes = w.nodes[active].core.record.writes;
    for _ in 0..50 {
        // The driver of a folder says so whenever it is told how writes are answered.
        w.event(active, Event::Replication(Replication::Complete));
        run(&mut w, 1);
    }
    assert!(w.serves(active) && w.nodes[active].core.mirror == Mirror::Alone);
    assert_eq!(w.nodes[active].core.record.writes, writes);
    w.restart(1 - active);
    run(&mut w, 40);
    assert!(w.nodes[1 - active].core.eligible, "with its peer back it grants again");
}
