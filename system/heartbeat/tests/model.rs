//! The pair under every order of faults that a budget allows (stateright), and its mutants: each safety rule switched off must be
//! caught. One ms of the settings is one tick here. `TWINPOST_SOAK=1` takes the bigger budget.
#![allow(clippy::print_stdout, reason = "state counts and counterexamples are what this test is for")]

mod world;

use stateright::{Checker, Model, Property};
use twinpost_heartbeat::{Link, Rules, Settings};
use world::World;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Do {
    Tick { first: usize },
    Write,
    Crash(usize),
    Restart(usize),
    Stall(usize),
    Freeze(usize),
    Resume(usize),
    CutAll,
    CutOneWay { from: usize },
    CutLink(Link),
    Unplug,
    Heal,
    Lose(usize),
    Hold(usize),
    HoldTwice(usize),
    Arrive(usize),
    WitnessDown,
    WitnessUp,
    SwitchLies,
}

struct Pair {
    start: World,
    faults: u32,
    writes: u32,
    progress: bool,
    unplug: bool,
}

/// Ticks in which a healed pair must be whole again.
const RECOVERY: u32 = 60;

impl Model for Pair {
    type State = World;
    type Action = Do;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, w: &World, out: &mut Vec<Do>) {
        out.extend([Do::Tick { first: 0 }, Do::Tick { first: 1 }]);
        if w.written < self.writes && (w.serves(0) || w.serves(1)) {
            out.push(Do::Write);
        }
        let fault = w.faults < self.faults;
        for n in 0..2 {
            let node = &w.nodes[n];
            if !node.on {
                out.push(Do::Restart(n));
            } else if node.stalled || node.frozen {
                out.push(Do::Resume(n));
            } else if fault {
                out.extend([Do::Crash(n), Do::Stall(n), Do::Freeze(n), Do::Lose(n)]);
            }
            if w.held[n].is_some() {
                out.push(Do::Arrive(n));
            } else if fault && !w.catch[n] {
                out.extend([Do::Hold(n), Do::HoldTwice(n)]);
            }
        }
        if w.unplugged || w.cut != [[false; 2]; 3] {
            out.push(Do::Heal);
        }
        if !w.witness.up {
            out.push(Do::WitnessUp);
        }
        if fault {
            out.extend([Do::CutAll, Do::CutOneWay { from: 0 }, Do::CutOneWay { from: 1 }]);
            out.extend(Link::ALL.into_iter().filter(|link| !w.cut[link.index()][0]).map(Do::CutLink));
            if w.set[0].witness && w.witness.up {
                out.push(Do::WitnessDown);
            }
            if w.set[0].fencing && !w.fence_lies {
                out.push(Do::SwitchLies);
            }
            if self.unplug && !w.unplugged {
                out.push(Do::Unplug);
            }
        }
    }

    fn next_state(&self, last: &World, action: Do) -> Option<World> {
        let mut w = last.clone();
        match action {
            Do::Tick { first } => w.tick(1, first),
            Do::Write => w.write(),
            Do::Restart(n) => w.restart(n),
            Do::Resume(n) => w.resume(n),
            Do::Heal => w.heal(),
            Do::Arrive(n) => w.release(n),
            Do::WitnessUp => w.witness.up = true,
            fault => {
                w.faults += 1;
                match fault {
                    Do::Crash(n) => w.crash(n),
                    Do::Stall(n) => w.nodes[n].stalled = true,
                    Do::Freeze(n) => w.nodes[n].frozen = true,
                    Do::CutAll => w.cut = [[true; 2]; 3],
                    Do::CutOneWay { from } => w.cut.iter_mut().for_each(|link| link[from] = true),
                    Do::CutLink(link) => w.cut[link.index()] = [true; 2],
                    Do::Unplug => (w.unplugged, w.cut) = (true, [[true; 2]; 3]),
                    Do::Lose(n) => w.lose[n] = true,
                    Do::Hold(n) => w.catch[n] = true,
                    Do::HoldTwice(n) => (w.catch[n], w.again[n]) = (true, true),
                    Do::WitnessDown => w.witness.up = false,
                    Do::SwitchLies => w.fence_lies = true,
                    other => unreachable!("{other:?} is no fault"),
                }
                w.mirror();
            }
        }
        w.normalise();
        (w != *last).then_some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two that serve", |_, w: &World| !w.two_serve()),
            Property::always("never an acknowledged write lost", |_, w: &World| !w.lost()),
            // Bounded, and therefore sound: from here everything is repaired and the pair is whole within 60 ticks.
            Property::always("progress once faults heal", |pair: &Self, w: &World| {
                !pair.progress || w.faults < pair.faults || w.written < pair.writes || w.recovers(1, RECOVERY)
            }),
            Property::sometimes("the peer takes over", |_, w: &World| w.serves(1)),
        ]
    }

    fn within_boundary(&self, w: &World) -> bool {
        w.nodes.iter().all(|node| node.core.record.reign < 14 && node.core.claimed < 16)
    }
}

fn settings() -> Settings {
    Settings {
        keepalive_ms: 1,
        serial_keepalive_ms: 1,
        warn_ms: 2,
        lease_ms: 3,
        watchdog_ms: 2,
        margin_ms: 1,
        first_contact_ms: 4,
        retry_ms: 2,
        announce_ms: 1,
        ..Settings::default()
    }
}

fn witness() -> Settings {
    Settings { witness: true, ..settings() }
}

fn switch() -> Settings {
    Settings { fencing: true, ..settings() }
}

fn evidence() -> Settings {
    Settings { evidence: true, ..settings() }
}

/// A pair that is whole: node 0 serves, node 1 is eligible, one write is on both.
fn whole(set: Settings, rules: Rules) -> World {
    let mut w = World::new(set, rules);
    for n in 0..2 {
        w.restart(n);
    }
    for _ in 0..20 {
        w.tick(1, 0);
    }
    assert!(w.serves(0) && w.nodes[1].core.eligible, "a cold start of both ends in a whole pair: {w:#?}");
    w.write();
    assert_eq!(w.acked, 1, "and it takes mail");
    w.normalise();
    w
}

fn soak() -> bool {
    std::env::var_os("TWINPOST_SOAK").is_some()
}

/// One fault (three in a soak; `TWINPOST_FAULTS` sets it) with all that can follow, to the last state.
fn holds(name: &str, set: Settings) {
    let given = std::env::var("TWINPOST_FAULTS").ok().and_then(|value| value.parse().ok());
    let faults: u32 = given.unwrap_or(if soak() { 3 } else { 1 });
    explore(name, set, faults, usize::MAX, true);
    if given.is_none() && !soak() {
        // Two faults breadth first, as far as an ordinary run has time: safety alone.
        explore(name, set, 2, 400_000, false);
    }
}

fn explore(name: &str, set: Settings, faults: u32, states: usize, progress: bool) {
    let pair = Pair { start: whole(set, Rules::ALL), faults, writes: 2, progress, unplug: false };
    let checker = pair.checker().threads(2).target_state_count(states).spawn_bfs().join();
    println!(
        "{name}: {} states, {} of them different, {faults} faults, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    for property in ["never two that serve", "never an acknowledged write lost", "progress once faults heal"] {
        if let Some(path) = checker.discovery(property) {
            let steps: Vec<_> = path.clone().into_actions();
            let last = path.into_states().pop();
            panic!("{name}: {property} does not hold after {steps:?}\n{last:#?}");
        }
    }
    assert!(
        name == "release only" || states != usize::MAX || checker.discovery("the peer takes over").is_some(),
        "{name}: the model reaches a takeover"
    );
}

/// The mutant must break a property within the budget; its way there is printed.
fn caught(name: &str, set: Settings, rules: Rules, faults: u32, unplug: bool) {
    let pair = Pair { start: whole(set, rules), faults, writes: 2, progress: false, unplug };
    let checker = pair
        .checker()
        .threads(2)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .target_state_count(3_000_000)
        .spawn_bfs()
        .join();
    let broken = ["never two that serve", "never an acknowledged write lost"]
        .into_iter()
        .find_map(|property| checker.discovery(property).map(|path| (property, path.into_actions())));
    let Some((property, steps)) = broken else {
        panic!("{name}: not caught in {} states", checker.unique_state_count());
    };
    println!("{name}: \"{property}\" breaks after {} states:", checker.unique_state_count());
    for step in steps {
        println!("    {step:?}");
    }
}

#[test]
fn witness_holds() {
    holds("witness", witness());
}

#[test]
fn power_switch_holds() {
    holds("power switch", switch());
}

#[test]
fn evidence_holds_while_cables_are_in() {
    holds("evidence", evidence());
}

#[test]
fn release_only_holds() {
    let pair = settings();
    holds("release only", pair);
}

#[test]
fn mutant_no_wait_for_all_after_boot() {
    caught("no wait-for-all after boot", switch(), Rules { wait_for_all: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_unread_power_switch() {
    caught("unread power switch", switch(), Rules { read_power_back: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_answers_before_the_peer_has_the_bytes() {
    caught("answers before the peer has the bytes", switch(), Rules { peer_has_bytes: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_no_self_stop_on_a_stall() {
    // Without a hardware watchdog, or it would end the stall before it hurts.
    let set = Settings { watchdog_ms: 0, ..witness() };
    caught("no self-stop on a stall", set, Rules { address_expires: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_no_stop_at_the_lease_end() {
    caught("no stop at the lease end", witness(), Rules { stop_at_lease_end: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_waits_less_than_lease_and_watchdog() {
    caught("waits less than lease + watchdog", witness(), Rules { wait_out_lease: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_ping_as_a_vote() {
    caught("ping as a vote", switch(), Rules { ping_is_no_proof: false, ..Rules::ALL }, 2, false);
}

#[test]
fn mutant_eligibility_kept_over_boot() {
    caught("eligibility kept over boot", switch(), Rules { forget_eligibility: false, ..Rules::ALL }, 2, false);
}

/// Not a rule of ours but of the setting: with every cable pulled, evidence is wrong. That is why `takeover = "proof"` exists.
#[test]
fn evidence_is_wrong_when_all_cables_are_pulled() {
    caught("evidence with all cables pulled", evidence(), Rules::ALL, 1, true);
}
