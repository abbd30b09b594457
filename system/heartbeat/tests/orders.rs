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
fn in_maintenance_nothing_switches_until_it_ends() {
    let mut w = whole();
    w.event(1, Event::Order(Order::Maintenance { for_ms: 5000 }));
    w.crash(0);
    w.set[1].fencing = true;
    run(&mut w, 40);
    assert!(!w.serves(1));
    run(&mut w, 40);
    assert!(w.serves(1), "it ends by itself");
}

#[test]
fn diverged_data_is_never_overwritten_without_a_word() {
    let mut w = whole();
    // Node 0 goes on alone by fencing its peer, then the administrator forces node 1.
    w.set[0].fencing = true;
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
