//! The pair under every order of faults that a budget allows (stateright). One ms of the settings is one tick here.
//!
//! An ordinary run exhausts the faults that `kinds` names, with progress from every state in which all faults are spent:
//! two for each kind of pair (release only 215,456 different states, power switch 285,984, evidence 289,771, witness 797,236, lock
//! 120,138, array 149,404 when this was written; the test prints them), one where health decides.
//! `TWINPOST_SOAK=1` goes on up to five faults for safety alone, each kind until `TWINPOST_STATES` steps (20 million if not given)
//! are reached, and says where it stopped. `TWINPOST_FAULTS=n TWINPOST_KIND=witness` explores one.
#![allow(clippy::print_stdout, reason = "state counts are what this test is for")]

mod pair;
mod world;

use pair::{Pair, Promise, allow, explore, given, settings, whole};
use twinpost_heartbeat::{Rules, Settings};
use world::{Twist, World, random};

struct Kind {
    name: &'static str,
    set: Settings,
    allows: fn(pair::Do) -> bool,
    /// Exhausted in an ordinary run.
    faults: u32,
}

fn kinds() -> [Kind; 7] {
    let set = settings();
    [
        Kind { name: "release only", set, allows: allow::plain, faults: 2 },
        Kind { name: "power switch", set: Settings { fencing: true, ..set }, allows: allow::plain, faults: 2 },
        Kind { name: "evidence", set: Settings { evidence: true, ..set }, allows: allow::plain, faults: 2 },
        Kind { name: "witness", set: Settings { witness: true, ..set }, allows: allow::plain, faults: 2 },
        Kind {
            name: "lock that excludes, with a witness",
            set: Settings { reservation: true, reservation_excludes: true, witness: true, ..set },
            allows: allow::plain,
            faults: 2,
        },
        Kind { name: "array that preempts", set: Settings { reservation: true, ..set }, allows: allow::plain, faults: 2 },
        Kind {
            name: "health decides",
            set: Settings { prefer_after_ms: 2, fencing: true, ..set },
            allows: allow::health,
            faults: 1,
        },
    ]
}

#[test]
fn every_kind_of_pair_holds() {
    let soak = given("TWINPOST_SOAK").is_some();
    let only = std::env::var("TWINPOST_KIND").ok();
    for kind in kinds().into_iter().filter(|kind| only.as_deref().is_none_or(|name| kind.name.contains(name))) {
        let pair = |faults, progress| Pair {
            start: whole(kind.set, Rules::ALL, Twist::None),
            faults,
            writes: 2,
            progress,
            promise: Promise::Safe,
            allows: kind.allows,
        };
        if let Some(faults) = given("TWINPOST_FAULTS") {
            assert!(explore(kind.name, pair(faults as u32, false), usize::MAX), "{}: not exhausted", kind.name);
            continue;
        }
        assert!(explore(kind.name, pair(kind.faults, true), usize::MAX), "{}: not exhausted", kind.name);
        if soak {
            let states = given("TWINPOST_STATES").unwrap_or(20_000_000) as usize;
            for faults in kind.faults + 1..=5 {
                if !explore(kind.name, pair(faults, false), states) {
                    println!("{}: stopped at the limit of {states} states with {faults} faults", kind.name);
                    break;
                }
            }
        }
    }
}

/// Nobody but a standby that cannot hear calls for a switch: with a witness that both reach, no loss of frames moves the services.
#[test]
fn a_healthy_active_that_the_witness_hears_keeps_the_services() {
    let set = Settings { witness: true, ..settings() };
    let pair = |twist| Pair {
        start: whole(set, Rules::ALL, twist),
        faults: 2,
        writes: 1,
        progress: false,
        promise: Promise::Keeps,
        allows: allow::links,
    };
    assert!(explore("links fail, the witness is there", pair(Twist::None), usize::MAX));
    pair::caught("the witness forgets leases", &pair(Twist::WitnessForgetsLeases), "a healthy active keeps the services");
}

/// Whatever an administrator forces, and whichever copy then gives way: no answered message is destroyed.
#[test]
fn force_destroys_nothing() {
    for (name, set) in [("by force", settings()), ("by force, with a power switch", Settings { fencing: true, ..settings() })] {
        let pair = Pair {
            start: whole(set, Rules::ALL, Twist::None),
            faults: 2,
            writes: 3,
            progress: false,
            promise: Promise::Kept,
            allows: allow::force,
        };
        assert!(explore(name, pair, usize::MAX));
    }
}

/// The model looks at states as `normalise` leaves them. Nothing that can be seen may depend on that.
#[test]
fn normal_form_changes_nothing_that_can_be_seen() {
    use stateright::Model;
    let seen = |w: &World| {
        [0, 1].map(|n| {
            let node = &w.nodes[n];
            let core = &node.core;
            (
                node.on,
                w.serves(n),
                core.phase,
                core.mirror,
                core.eligible,
                node.data,
                node.partial,
                core.record.unshared,
                core.claim.is_some(),
            )
        })
    };
    let mut dice = given("TWINPOST_SEED").unwrap_or(0x2545_F491);
    println!("TWINPOST_SEED={dice}");
    for kind in kinds() {
        for _ in 0..60 {
            let pair = Pair {
                start: whole(kind.set, Rules::ALL, Twist::None),
                faults: 40,
                writes: 20,
                progress: false,
                promise: Promise::Safe,
                allows: kind.allows,
            };
            let mut plain = pair.start.clone();
            let mut normal = pair.start.clone();
            let mut did = Vec::new();
            for _ in 0..120 {
                let mut actions = Vec::new();
                pair.actions(&plain, &mut actions);
                // Mostly time, or nothing ever comes to an end.
                let at = if random(&mut dice).is_multiple_of(3) {
                    random(&mut dice) % actions.len() as u64
                } else {
                    random(&mut dice) % 2
                };
                let action = actions[at as usize];
                did.push(action);
                pair.act(&mut plain, action);
                pair.act(&mut normal, action);
                normal.normalise();
                assert_eq!(seen(&plain), seen(&normal), "{}: after {did:?}\n{plain:#?}\n{normal:#?}", kind.name);
                assert!(!plain.two_serve() && !plain.lost() && !plain.unright, "{}: after {did:?}", kind.name);
            }
        }
    }
}

#[test]
fn an_active_renews_before_a_standby_claims() {
    // Real times, a witness that takes a while to answer: from any moment of a cut on, the lease there is fresh when the claim comes.
    let set = Settings { witness: true, ..Settings::default() };
    for phase in 0..10 {
        for cut in [[true, true], [true, false], [false, true]] {
            let mut w = whole(set, Rules::ALL, Twist::None);
            for _ in 0..phase {
                w.tick(20, 0);
            }
            w.deaf = cut;
            for _ in 0..500 {
                w.tick(20, 0);
                assert!(w.serves(0) && !w.serves(1), "cut {cut:?} after {phase} ticks");
            }
        }
    }
}
