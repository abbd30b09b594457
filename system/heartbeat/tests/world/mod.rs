//! Two nodes and what is around them: links, disks, mirrored storage or an array, address rule, watchdog, power switch, witness.
//!
//! The model checker explores this world and the simulator walks it at random; both drive the same `step`. Between two ticks
//! messages arrive at once; being late is a fault (a held frame comes whenever the explorer likes, older than others: delay and
//! reordering in one). A *stalled* pair daemon does not run while its kernel and services do; a *frozen* machine does nothing at
//! all, its own clock included, until it resumes or its hardware watchdog resets it.
#![allow(dead_code, reason = "each test uses its part of the world")]

pub mod normal;
pub mod storage;
pub mod wire;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use twinpost_heartbeat::*;
use wire::{Count, Sim};

/// An address rule that a switched-off rule lets live for ever.
pub const FOR_EVER: u32 = u32::MAX;

/// Something around the nodes that is not as it must be, so that a test sees that it must.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Twist {
    None,
    /// The witness gives a reign away although the other's lease is fresh.
    WitnessForgetsLeases,
    /// Bytes of the serial line are believed whatever the hash says.
    BytesAreBelieved,
    /// A record is written over the one before, in one slot.
    OneSlot,
    /// "Stored" is said before the disk has it.
    StoredTooEarly,
    /// The driver says that the peer has every byte when a resync begins, not when it ends.
    HalfIsWhole,
    /// A stop that failed is said to have gone well.
    StopIsBelieved,
}

/// What no step changes.
#[derive(Clone, Debug)]
pub struct Config {
    pub set: [Settings; 2],
    pub rules: Rules,
    pub twist: Twist,
}

/// Shared by all states of an exploration and no part of what makes them differ.
#[derive(Clone, Debug)]
pub struct Fixed(Arc<Config>);

impl PartialEq for Fixed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Fixed {}

impl std::hash::Hash for Fixed {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Deref for Fixed {
    type Target = Config;
    fn deref(&self) -> &Config {
        &self.0
    }
}

impl DerefMut for Fixed {
    fn deref_mut(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.0)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub on: bool,
    pub core: State,
    pub stalled: bool,
    pub frozen: bool,
    /// Off, but its kernel answers: nobody listens here.
    pub refuses: bool,
    /// Time that the daemon has not yet heard of.
    pub lag_ms: u32,
    pub rule_ms: u32,
    pub watchdog_ms: u32,
    pub writes: Writes,
    pub promoted: bool,
    pub allow_resync: bool,
    /// As the active: a resync into the peer is under way.
    pub resync: bool,
    /// What the daemon was last told of the mirror.
    pub told: bool,
    /// The next promotion, the next stop fails.
    pub promote_fails: bool,
    pub stop_fails: bool,
    /// Its services could not be stopped.
    pub runs_on: bool,
    /// An active told it in this boot that its data is current.
    pub granted: bool,
    /// On disk: the writes, one bit each; whether they are a mix of two states; what was kept aside; the record.
    pub data: u64,
    pub partial: bool,
    pub aside: u64,
    pub disk: Option<Record>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Witness {
    /// Each node's way to it.
    pub up: [bool; 2],
    pub reign: u32,
    pub holder: usize,
    /// Age of the last renewal to each node.
    pub renewed_ms: [u32; 2],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub fixed: Fixed,
    pub nodes: [Node; 2],
    /// `[link][from]`.
    pub cut: [[bool; 2]; 3],
    /// No frame of this node arrives, on no link, though the mirror works (a filter that somebody set).
    pub deaf: [bool; 2],
    pub lose: [bool; 2],
    /// Catch the next frame of this node.
    pub catch: [bool; 2],
    pub held: [Option<Frame>; 2],
    pub again: [bool; 2],
    pub witness: Witness,
    pub array: storage::Array,
    /// What each node gets from the other's power switch cannot be read back.
    pub fence_lies: [bool; 2],
    /// Carrier and modem lines look dead although the peer lives: cables pulled.
    pub unplugged: bool,
    pub acked: u64,
    pub written: u32,
    pub faults: u32,
    /// Reigns under which each node served, one bit each.
    pub served: [u64; 2],
    /// The drivers found diverged data and stay apart until one side gives way.
    pub split: bool,
    /// An array was taken by a node that nobody had granted it to.
    pub unright: bool,
    /// Only in the simulator.
    pub sim: Option<Box<Sim>>,
}

pub fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

/// What follows from an event and is still to be done.
pub type Queue = heapless::Deque<(usize, Event), 64>;

fn idle(record: Option<Record>, position: u64, watchdog_ms: u32) -> Node {
    Node {
        on: true,
        core: State::start(record, position),
        stalled: false,
        frozen: false,
        refuses: false,
        lag_ms: 0,
        rule_ms: 0,
        watchdog_ms,
        writes: Writes::Held,
        promoted: false,
        allow_resync: false,
        resync: false,
        told: false,
        promote_fails: false,
        stop_fails: false,
        runs_on: false,
        granted: false,
        data: 0,
        partial: false,
        aside: 0,
        disk: record,
    }
}

impl World {
    pub fn new(set: Settings, rules: Rules) -> Self {
        Self::twisted(set, rules, Twist::None)
    }

    pub fn twisted(set: Settings, rules: Rules, twist: Twist) -> Self {
        let config = Config { set: [Settings { node: 0, ..set }, Settings { node: 1, ..set }], rules, twist };
        Self {
            fixed: Fixed(Arc::new(config)),
            nodes: [idle(None, 0, set.watchdog_ms), idle(None, 0, set.watchdog_ms)],
            cut: [[false; 2]; 3],
            deaf: [false; 2],
            lose: [false; 2],
            catch: [false; 2],
            held: [None; 2],
            again: [false; 2],
            witness: Witness { up: [true; 2], reign: 0, holder: 0, renewed_ms: [u32::MAX; 2] },
            array: storage::Array::default(),
            fence_lies: [false; 2],
            unplugged: false,
            acked: 0,
            written: 0,
            faults: 0,
            served: [0; 2],
            split: false,
            unright: false,
            sim: None,
        }
    }

    pub fn count(&mut self, what: Count) {
        if let Some(sim) = &mut self.sim {
            sim.counts[what as usize] += 1;
        }
    }

    pub fn serves(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.on && !node.frozen && node.promoted && node.rule_ms > 0 && self.disk_is_of(n)
    }

    /// Both answer, or one does while services of the other that could not be stopped go on.
    pub fn two_serve(&self) -> bool {
        let runs = |n: usize| self.serves(n) || self.nodes[n].runs_on;
        (self.serves(0) && runs(1)) || (self.serves(1) && runs(0))
    }

    /// A serving node lacks an acknowledged write.
    pub fn lost(&self) -> bool {
        (0..2).any(|n| self.serves(n) && (self.acked & !self.nodes[n].data != 0 || self.nodes[n].partial))
    }

    /// An acknowledged write is nowhere any more.
    pub fn destroyed(&self) -> bool {
        self.nodes.iter().fold(self.acked, |left, node| left & !node.aside & if node.partial { u64::MAX } else { !node.data })
            != 0
    }

    /// One reign, two nodes that served in it.
    pub fn reign_of_two(&self) -> bool {
        self.served[0] & self.served[1] != 0
    }

    /// Who serves now has served in its reign.
    pub fn note(&mut self) {
        for n in 0..2 {
            if self.serves(n) {
                self.served[n] |= 1_u64.checked_shl(self.nodes[n].core.reign()).unwrap_or(0);
            }
        }
    }

    pub fn crash(&mut self, n: usize) {
        self.tear(n);
        let node = &mut self.nodes[n];
        (node.on, node.promoted, node.rule_ms, node.writes) = (false, false, 0, Writes::Held);
        (node.stalled, node.frozen, node.lag_ms, node.refuses) = (false, false, 0, false);
        (node.told, node.allow_resync, node.resync, node.granted) = (false, false, false, false);
        (node.promote_fails, node.stop_fails, node.runs_on) = (false, false, false);
        // Nothing of the mind outlives a crash.
        node.core = State::start(None, 0);
        self.freed_by_crash(n);
    }

    /// The processes die, the kernel stays.
    pub fn kill(&mut self, n: usize) {
        self.crash(n);
        self.nodes[n].refuses = true;
    }

    pub fn restart(&mut self, n: usize) {
        let old = &self.nodes[n];
        let (data, partial, aside) = (old.data, old.partial, old.aside);
        let position = if self.fixed.set[n].reservation { u64::from(self.array.reign) } else { u64::from(data.count_ones()) };
        let new = idle(old.disk, position, self.fixed.set[n].watchdog_ms);
        self.nodes[n] = Node { data, partial, aside, ..new };
        // Some drivers wait on the lock from the start.
        self.array.waits[n] = self.fixed.set[n].reservation_excludes;
        if partial {
            self.event(n, Event::Replication(Replication::CopyPartial));
        }
        if self.split {
            self.event(n, Event::Replication(Replication::Diverged));
        }
        self.event(n, Event::Tick);
        self.mirror();
    }

    pub fn resume(&mut self, n: usize) {
        (self.nodes[n].stalled, self.nodes[n].frozen) = (false, false);
        // What the driver said meanwhile lies before what the clock says.
        let partial = self.nodes[n].partial;
        if self.nodes[n].core.whole == partial {
            let word = if partial { Replication::CopyPartial } else { Replication::CopyWhole };
            self.event(n, Event::Replication(word));
        }
        self.event(n, Event::Tick);
        self.mirror();
    }

    pub fn heal(&mut self) {
        self.cut = [[false; 2]; 3];
        self.deaf = [false; 2];
        self.unplugged = false;
        self.mirror();
    }

    /// Time passes; `first` runs first.
    pub fn tick(&mut self, ms: u32, first: usize) {
        for age in &mut self.witness.renewed_ms {
            *age = age.saturating_add(ms).min(self.fixed.set[0].wait_ms());
        }
        for n in [first, 1 - first] {
            let node = &mut self.nodes[n];
            if !node.on {
                continue;
            }
            node.watchdog_ms = node.watchdog_ms.saturating_sub(ms);
            if self.fixed.set[n].watchdog_ms > 0 && node.watchdog_ms == 0 && (node.frozen || node.stalled) {
                self.count(Count::WatchdogReset);
                self.crash(n);
                continue;
            }
            if node.frozen {
                continue;
            }
            // The kernel's rule and the daemon go by the same clock.
            let ms = self.sim.as_ref().map_or(ms, |sim| ms.saturating_add_signed(sim.drift_ms[n]));
            if node.rule_ms != FOR_EVER {
                node.rule_ms = node.rule_ms.saturating_sub(ms);
            }
            node.lag_ms = node.lag_ms.saturating_add(ms).min(self.fixed.set[n].wait_ms().max(self.fixed.set[n].first_contact_ms));
            self.event(n, Event::Tick);
            self.slow_disk(n, ms);
        }
        self.lose = [false; 2];
        self.resync_goes_on();
        self.mirror();
    }

    /// A client writes to whoever answers.
    pub fn write(&mut self) {
        let bit = 1 << self.written;
        self.written += 1;
        for n in 0..2 {
            if !self.serves(n) {
                continue;
            }
            let one_copy = self.fixed.set[n].reservation;
            let connected = one_copy || self.connected();
            match self.nodes[n].writes {
                Writes::Held => {}
                Writes::Alone => {
                    self.nodes[n].data |= bit;
                    self.acked |= bit;
                    // While the peer is connected it is written there too.
                    if one_copy || (connected && self.nodes[n].told) {
                        self.nodes[1 - n].data |= bit;
                    }
                }
                Writes::Mirrored => {
                    // The local copy may have it although the answer never leaves: a tail that a release tells of.
                    self.nodes[n].data |= bit;
                    if connected {
                        self.nodes[1 - n].data |= bit;
                        self.acked |= bit;
                    }
                }
            }
        }
        self.positions();
        self.mirror();
    }

    pub fn awake(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.on && !node.stalled && !node.frozen
    }

    /// One event and everything that follows from it at once.
    pub fn event(&mut self, n: usize, event: Event) {
        let mut queue = Queue::new();
        let _ = queue.push_back((n, event));
        for _ in 0..400 {
            let Some((n, event)) = queue.pop_front() else { return };
            if !self.awake(n) {
                continue;
            }
            if let Event::Frame(frame) = &event {
                let fresh = frame.echo_boot == self.nodes[n].core.record.boot;
                self.nodes[n].granted |= fresh && frame.flags.has(Flags::GRANT);
            }
            let lag = std::mem::take(&mut self.nodes[n].lag_ms);
            let before = self.nodes[n].core.phase;
            let newest = self.nodes[n].core.record.unshared;
            let config = &self.fixed.0;
            let (core, effects) = step_with(&config.rules, &config.set[n], &self.nodes[n].core, lag, event);
            self.nodes[n].core = core;
            let took = core.phase == Phase::Store && before != Phase::Store && core.proof == Some(Proof::Reservation);
            self.unright |= took && !newest && !self.nodes[n].granted;
            for effect in effects {
                self.effect(n, effect, &mut queue);
            }
        }
        panic!("a step never settles: {:?}", queue.front());
    }

    pub fn push(queue: &mut Queue, n: usize, event: Event) {
        let full = queue.push_back((n, event)).is_err();
        assert!(!full, "more follows from one event than anything should cause: {queue:#?}");
    }

    fn effect(&mut self, n: usize, effect: Effect, queue: &mut Queue) {
        let lease_ms = self.fixed.set[0].lease_ms;
        let node = &mut self.nodes[n];
        match effect {
            Effect::Send(frame) => {
                if let Some(frame) = self.carry(n, frame, queue) {
                    Self::push(queue, 1 - n, Event::Frame(frame));
                }
            }
            Effect::Store(record) => self.store(n, record, queue),
            Effect::Promote => {
                let fails = std::mem::take(&mut node.promote_fails);
                if fails {
                    self.count(Count::PromoteFailed);
                }
                let done = !fails && self.promote(n, queue);
                Self::push(queue, n, Event::Promoted(done));
            }
            Effect::Demote => {
                self.demote(n);
                Self::push(queue, n, Event::Demoted(true));
            }
            Effect::Address { expires_ms } => node.rule_ms = expires_ms.unwrap_or(FOR_EVER),
            Effect::AddressDown => node.rule_ms = 0,
            Effect::StartServices | Effect::RestartServices => Self::push(queue, n, Event::ServicesUp),
            Effect::StopServices => {
                let fails = std::mem::take(&mut node.stop_fails);
                node.runs_on = fails;
                if fails {
                    self.count(Count::StopFailed);
                }
                Self::push(queue, n, Event::ServicesStopped(!fails || self.fixed.twist == Twist::StopIsBelieved));
            }
            Effect::Check => Self::push(queue, n, Event::Checked(true)),
            Effect::Writes(writes) => node.writes = writes,
            Effect::Resync if self.fixed.set[n].reservation => {
                Self::push(queue, n, Event::Replication(Replication::Complete));
            }
            Effect::Resync => node.allow_resync = true,
            Effect::FeedWatchdog => node.watchdog_ms = self.fixed.set[n].watchdog_ms,
            Effect::SelfFence => self.crash(n),
            Effect::Fence => {
                let answer = if self.fence_lies[n] { FenceAnswer::Unread } else { FenceAnswer::Off };
                if !self.fence_lies[n] {
                    self.crash(1 - n);
                }
                Self::push(queue, n, Event::Fence(answer));
            }
            Effect::WitnessClaim { knows, new } if self.witness.up[n] => {
                let witness = &mut self.witness;
                let other_ms = witness.renewed_ms[1 - n];
                let answer = if (witness.reign > knows && witness.holder != n) || witness.reign >= new {
                    Event::WitnessLost { reign: witness.reign }
                } else if other_ms < lease_ms && self.fixed.twist != Twist::WitnessForgetsLeases {
                    self.count(Count::WitnessHeld);
                    Event::WitnessHeld { left_ms: lease_ms - other_ms }
                } else {
                    (witness.reign, witness.holder) = (new, n);
                    Event::WitnessWon { reign: new, granted_ms: other_ms }
                };
                Self::push(queue, n, answer);
            }
            Effect::WitnessRenew { reign, ask } if self.witness.up[n] => {
                if self.witness.reign > reign && self.witness.holder != n {
                    Self::push(queue, n, Event::WitnessLost { reign: self.witness.reign });
                } else {
                    self.witness.renewed_ms[n] = 0;
                    Self::push(queue, n, Event::WitnessRenewed(ask));
                }
            }
            Effect::KeepAside => {
                node.aside |= node.data;
                (node.partial, self.split) = (true, false);
                Self::push(queue, n, Event::SetAside);
            }
            Effect::Reserve => self.reserve(n, queue),
            Effect::Unreserve => self.unreserve(n),
            Effect::Alarm(alarm) => match alarm {
                Alarm::Healthier => self.count(Count::Healthier),
                Alarm::Conflict => self.count(Count::Conflict),
                Alarm::LeaseEnded => self.count(Count::LeaseEnded),
                Alarm::TookOver(proof) => self.count(Count::of(proof)),
                _ => {}
            },
            Effect::WitnessClaim { .. } | Effect::WitnessRenew { .. } | Effect::Announce | Effect::Refused(_) => {}
        }
    }

    fn carry(&mut self, n: usize, frame: Frame, queue: &mut Queue) -> Option<Frame> {
        if self.catch[n] {
            self.catch[n] = false;
            self.held[n] = Some(frame);
            return None;
        }
        if self.cut[frame.link.index()][n] || self.lose[n] || self.deaf[n] {
            return None;
        }
        if self.nodes[1 - n].refuses && frame.link != Link::Serial {
            self.count(Count::PeerGone);
            Self::push(queue, n, Event::PeerGone);
            return None;
        }
        if self.sim.is_some() { self.through_wire(n, &frame) } else { Some(frame) }
    }

    /// The held frame of `n` arrives.
    pub fn release(&mut self, n: usize) {
        let frame = self.held[n];
        if !std::mem::take(&mut self.again[n]) {
            self.held[n] = None;
        }
        if let Some(frame) = frame {
            self.event(1 - n, Event::Frame(frame));
            self.mirror();
        }
    }

    /// Everything repaired: within `ticks` one node serves, takes mail, and the pair is whole.
    pub fn recovers(&self, ms: u32, ticks: u32) -> bool {
        self.recovery(ms, ticks, &mut |_| {})
    }

    /// The same, watched.
    pub fn recovery(&self, ms: u32, ticks: u32, watch: &mut dyn FnMut(&Self)) -> bool {
        let mut world = self.clone();
        world.heal();
        (world.witness.up, world.fence_lies) = ([true; 2], [false; 2]);
        (world.held, world.catch, world.again) = ([None; 2], [false; 2], [false; 2]);
        if let Some(sim) = &mut world.sim {
            sim.loss = 0;
        }
        for n in 0..2 {
            (world.nodes[n].promote_fails, world.nodes[n].stop_fails) = (false, false);
            if !world.nodes[n].on {
                world.restart(n);
            } else if world.nodes[n].stalled || world.nodes[n].frozen {
                world.resume(n);
            }
        }
        for tick in 0..ticks {
            world.tick(ms, (tick % 2) as usize);
            // A repair crew switches on what a power switch left off.
            for n in 0..2 {
                if !world.nodes[n].on {
                    world.restart(n);
                }
                // And an administrator ends a conflict.
                if world.nodes[n].core.phase == Phase::Conflict {
                    world.event(n, Event::Order(Order::GiveWay));
                    world.mirror();
                }
            }
            watch(&world);
            let whole = |n: usize| world.serves(n) && world.nodes[n].core.mirror == Mirror::Synced;
            if (whole(0) && world.nodes[1].core.eligible) || (whole(1) && world.nodes[0].core.eligible) {
                return !world.lost() && !world.two_serve();
            }
        }
        false
    }
}
