//! The world as a stateright model: what may happen next, what must hold.
#![allow(dead_code, reason = "each test uses its part of the model")]

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};
use twinpost_heartbeat::{Event, Link, Order, Phase, Rules, Settings};

use crate::world::{Twist, World};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Do {
    Tick {
        first: usize,
    },
    Write,
    /// Power cut.
    Crash(usize),
    /// The processes die, the kernel lives on and refuses.
    Kill(usize),
    Restart(usize),
    Stall(usize),
    Freeze(usize),
    Resume(usize),
    CutAll,
    CutOneWay {
        from: usize,
    },
    CutLink(Link),
    /// Frames filtered, the mirror not.
    Filter {
        from: usize,
    },
    Unplug,
    Heal,
    Lose(usize),
    Hold(usize),
    HoldTwice(usize),
    Arrive(usize),
    WitnessDown,
    /// This node does not reach the witness.
    WitnessAway(usize),
    WitnessUp,
    SwitchLies,
    /// To this node only.
    SwitchLiesTo(usize),
    /// Somebody makes up that nobody listens at the peer of this node.
    ForgeGone(usize),
    PromoteFails(usize),
    StopFails(usize),
    /// A planned switch is ordered.
    Standby(usize),
    Diverged,
    Unwell(usize),
    Well(usize),
    Force(usize),
    GiveWay(usize),
}

/// Which of them a kind of pair meets.
pub mod allow {
    use super::{Do, Link};

    pub fn plain(what: Do) -> bool {
        !matches!(what, Do::Unplug | Do::SwitchLiesTo(_) | Do::Unwell(_) | Do::Force(_) | Do::Filter { .. } | Do::Diverged)
    }

    /// With every cable pulled at once, evidence is wrong.
    pub fn unplugged(what: Do) -> bool {
        matches!(what, Do::Unplug) || plain(what)
    }

    pub fn health(what: Do) -> bool {
        !matches!(
            what,
            Do::Diverged
                | Do::HoldTwice(_)
                | Do::Filter { .. }
                | Do::Force(_)
                | Do::Unplug
                | Do::ForgeGone(_)
                | Do::SwitchLies
                | Do::SwitchLiesTo(_)
        )
    }

    pub fn links(what: Do) -> bool {
        matches!(
            what,
            Do::CutAll | Do::CutOneWay { .. } | Do::CutLink(_) | Do::Filter { .. } | Do::Lose(_) | Do::Hold(_) | Do::ForgeGone(_)
        )
    }

    /// What the mutants need, so that they are found soon.
    pub fn few(what: Do) -> bool {
        matches!(
            what,
            Do::Crash(_)
                | Do::Kill(_)
                | Do::Stall(_)
                | Do::Freeze(_)
                | Do::CutAll
                | Do::WitnessDown
                | Do::Standby(_)
                | Do::StopFails(_)
        )
    }

    pub fn freezes(what: Do) -> bool {
        matches!(what, Do::Freeze(0) | Do::Filter { .. })
    }

    pub fn apart(what: Do) -> bool {
        matches!(what, Do::CutAll | Do::WitnessAway(1) | Do::SwitchLiesTo(0))
    }

    pub fn lapses(what: Do) -> bool {
        matches!(what, Do::CutAll | Do::WitnessDown | Do::CutLink(Link::Eth1))
    }

    pub fn force(what: Do) -> bool {
        matches!(what, Do::Crash(_) | Do::CutAll | Do::Force(_) | Do::Diverged)
    }
}

/// What an exploration is about, beside what always holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Never two, nothing lost.
    Safe,
    /// Node 0 serves all the time.
    Keeps,
    /// Nothing destroyed (an administrator may bring about the rest).
    Kept,
}

pub struct Pair {
    pub start: World,
    pub faults: u32,
    pub writes: u32,
    pub progress: bool,
    pub promise: Promise,
    pub allows: fn(Do) -> bool,
}

/// Ticks in which a healed pair must be whole again.
const RECOVERY: u32 = 70;

impl Pair {
    fn repairs(&self, w: &World, out: &mut Vec<Do>) {
        out.extend([Do::Tick { first: 0 }, Do::Tick { first: 1 }]);
        if w.written < self.writes && (w.serves(0) || w.serves(1)) {
            out.push(Do::Write);
        }
        for n in 0..2 {
            let node = &w.nodes[n];
            if !node.on {
                out.push(Do::Restart(n));
            } else if node.stalled || node.frozen {
                out.push(Do::Resume(n));
            } else if node.core.phase == Phase::Conflict && self.promise == Promise::Kept {
                out.push(Do::GiveWay(n));
            }
            if w.held[n].is_some() {
                out.push(Do::Arrive(n));
            }
            if node.on && !node.core.ping {
                out.push(Do::Well(n));
            }
        }
        if w.unplugged || w.cut != [[false; 2]; 3] || w.deaf != [false; 2] {
            out.push(Do::Heal);
        }
        if w.witness.up != [true; 2] {
            out.push(Do::WitnessUp);
        }
    }

    fn breaks(&self, w: &World, out: &mut Vec<Do>) {
        let set = w.fixed.set[0];
        for n in 0..2 {
            let node = &w.nodes[n];
            if node.on && !node.stalled && !node.frozen {
                out.extend([Do::Crash(n), Do::Stall(n), Do::Freeze(n), Do::Lose(n), Do::ForgeGone(n), Do::Force(n)]);
                // Asking at once what else is asked a moment later: only a lock answers before.
                if set.reservation_excludes {
                    out.push(Do::Kill(n));
                }
                if !node.promote_fails && !node.promoted {
                    out.push(Do::PromoteFails(n));
                }
                if node.promoted {
                    out.push(Do::Standby(n));
                }
                if node.promoted && !node.stop_fails {
                    out.push(Do::StopFails(n));
                }
                if node.core.ping && set.prefer_after_ms > 0 {
                    out.push(Do::Unwell(n));
                }
            }
            if w.held[n].is_none() && !w.catch[n] {
                out.extend([Do::Hold(n), Do::HoldTwice(n)]);
            }
            if !w.deaf[n] {
                out.push(Do::Filter { from: n });
            }
        }
        out.extend([Do::CutAll, Do::CutOneWay { from: 0 }, Do::CutOneWay { from: 1 }]);
        out.extend(Link::ALL.into_iter().filter(|link| !w.cut[link.index()][0]).map(Do::CutLink));
        if set.leases() && w.witness.up == [true; 2] {
            out.extend([Do::WitnessDown, Do::WitnessAway(0), Do::WitnessAway(1)]);
        }
        if set.fencing && w.fence_lies == [false; 2] {
            out.extend([Do::SwitchLies, Do::SwitchLiesTo(0), Do::SwitchLiesTo(1)]);
        }
        if !w.unplugged {
            out.push(Do::Unplug);
        }
        if !set.reservation && !w.split {
            out.push(Do::Diverged);
        }
    }

    /// Carries `action` out.
    pub fn act(&self, w: &mut World, action: Do) {
        match action {
            Do::Tick { first } => w.tick(1, first),
            Do::Write => w.write(),
            Do::Restart(n) => w.restart(n),
            Do::Resume(n) => w.resume(n),
            Do::Heal => w.heal(),
            Do::Arrive(n) => w.release(n),
            Do::WitnessUp => w.witness.up = [true; 2],
            Do::Well(n) => w.event(n, Event::Ping(true)),
            Do::GiveWay(n) => w.event(n, Event::Order(Order::GiveWay)),
            fault => {
                w.faults += 1;
                match fault {
                    Do::Crash(n) => w.crash(n),
                    Do::Kill(n) => w.kill(n),
                    Do::Stall(n) => w.nodes[n].stalled = true,
                    Do::Freeze(n) => w.nodes[n].frozen = true,
                    Do::CutAll => w.cut = [[true; 2]; 3],
                    Do::CutOneWay { from } => w.cut.iter_mut().for_each(|link| link[from] = true),
                    Do::CutLink(link) => w.cut[link.index()] = [true; 2],
                    Do::Filter { from } => w.deaf[from] = true,
                    Do::Unplug => (w.unplugged, w.cut) = (true, [[true; 2]; 3]),
                    Do::Lose(n) => w.lose[n] = true,
                    Do::Hold(n) => w.catch[n] = true,
                    Do::HoldTwice(n) => (w.catch[n], w.again[n]) = (true, true),
                    Do::WitnessDown => w.witness.up = [false; 2],
                    Do::WitnessAway(n) => w.witness.up[n] = false,
                    Do::SwitchLies => w.fence_lies = [true; 2],
                    Do::SwitchLiesTo(n) => w.fence_lies[n] = true,
                    Do::ForgeGone(n) => w.event(n, Event::PeerGone),
                    Do::PromoteFails(n) => w.nodes[n].promote_fails = true,
                    Do::StopFails(n) => w.nodes[n].stop_fails = true,
                    Do::Standby(n) => w.event(n, Event::Order(Order::Standby)),
                    Do::Diverged => w.diverge(),
                    Do::Unwell(n) => w.event(n, Event::Ping(false)),
                    Do::Force(n) => w.event(n, Event::Order(Order::Force)),
                    other => unreachable!("{other:?} is no fault"),
                }
            }
        }
        w.mirror();
    }
}

impl Model for Pair {
    type State = World;
    type Action = Do;

    fn init_states(&self) -> Vec<World> {
        vec![self.start.clone()]
    }

    fn actions(&self, w: &World, out: &mut Vec<Do>) {
        self.repairs(w, out);
        if w.faults < self.faults {
            let at = out.len();
            self.breaks(w, out);
            let mut i = at;
            while i < out.len() {
                if (self.allows)(out[i]) {
                    i += 1;
                } else {
                    out.swap_remove(i);
                }
            }
        }
    }

    fn next_state(&self, last: &World, action: Do) -> Option<World> {
        let mut w = last.clone();
        self.act(&mut w, action);
        w.normalise();
        (w != *last).then_some(w)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("never two that serve", |pair: &Self, w: &World| pair.promise == Promise::Kept || !w.two_serve()),
            Property::always("never an acknowledged write lost", |pair: &Self, w: &World| {
                pair.promise == Promise::Kept || !w.lost()
            }),
            Property::always("nothing answered is destroyed", |_, w: &World| !w.destroyed()),
            Property::always("no reign of two nodes", |pair: &Self, w: &World| {
                pair.promise == Promise::Kept || !w.reign_of_two()
            }),
            Property::always("an array is taken by right", |_, w: &World| !w.unright),
            Property::always("a healthy active keeps the services", |pair: &Self, w: &World| {
                pair.promise != Promise::Keeps || w.serves(0)
            }),
            // Bounded, and therefore sound: from here everything is repaired and the pair is whole within so many ticks.
            Property::always("progress once faults heal", |pair: &Self, w: &World| {
                !pair.progress || w.faults < pair.faults || w.written < pair.writes || w.recovers(1, RECOVERY)
            }),
            Property::sometimes("the peer takes over", |_, w: &World| w.serves(1)),
        ]
    }

    fn within_boundary(&self, w: &World) -> bool {
        w.nodes.iter().all(|node| node.core.record.reign < 60 && node.core.claimed < 60)
    }
}

/// A pair that is whole: node 0 serves, node 1 is eligible, one write is on both.
pub fn whole(set: Settings, rules: Rules, twist: Twist) -> World {
    let mut w = World::twisted(set, rules, twist);
    let tick_ms = (set.keepalive_ms / 2).max(1);
    for n in 0..2 {
        w.restart(n);
    }
    for _ in 0..20 + 6 * set.prefer_after_ms + set.first_contact_ms / tick_ms {
        w.tick(tick_ms, 0);
    }
    assert!(w.serves(0) && w.nodes[1].core.eligible, "a cold start of both ends in a whole pair: {w:#?}");
    w.write();
    assert_eq!(w.acked, 1, "and it takes mail");
    if tick_ms == 1 {
        w.normalise();
    }
    w
}

pub fn settings() -> Settings {
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

/// A number of the environment.
pub fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// Everything within the budget, breadth first; false if `states` ended it. A property that breaks ends the test with the way there.
pub fn explore(name: &str, pair: Pair, states: usize) -> bool {
    let (faults, progress, keeps) = (pair.faults, pair.progress, pair.promise == Promise::Keeps);
    let began = std::time::Instant::now();
    let checker = pair.checker().threads(2).target_state_count(states).spawn_bfs().join();
    println!(
        "{name}: {faults} faults{}: {} steps, {} different states, depth {}, {:.1} s",
        if progress { ", with progress" } else { "" },
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f32(),
    );
    for property in checker.model().properties() {
        if let (Expectation::Always, Some(path)) = (property.expectation, checker.discovery(property.name)) {
            let steps: Vec<_> = path.clone().into_actions();
            let last = path.into_states().pop();
            panic!("{name}: \"{}\" does not hold after {steps:?}\n{last:#?}", property.name);
        }
    }
    let exhausted = checker.state_count() < states;
    assert!(!exhausted || keeps || checker.discovery("the peer takes over").is_some(), "{name}: the model reaches a takeover");
    exhausted
}

/// The pair must break this property within the budget; the way there is printed.
pub fn caught(name: &str, pair: &Pair, property: &'static str) {
    let pair = Pair { start: pair.start.clone(), ..*pair };
    let checker = pair
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyOf([property].into()))
        .target_state_count(6_000_000)
        .spawn_bfs()
        .join();
    let Some(path) = checker.discovery(property) else {
        let others: Vec<_> = checker.discoveries().into_keys().collect();
        panic!("{name}: \"{property}\" does not break in {} states, but {others:?}", checker.unique_state_count());
    };
    println!("{name}: \"{property}\" breaks after {} states:", checker.unique_state_count());
    for step in path.into_actions() {
        println!("    {step:?}");
    }
}
