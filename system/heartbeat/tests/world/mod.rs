//! Two nodes and what is around them: links, disks, mirrored storage, address rule, watchdog, power switch, witness.
//!
//! The model checker explores this world and the simulator walks it at random; both drive the same `step`. Between two ticks
//! messages arrive at once; being late is a fault (a held frame comes whenever the explorer likes, older than others: delay and
//! reordering in one). A *stalled* pair daemon does not run while its kernel and services do; a *frozen* machine does nothing at
//! all, its own clock included, until it resumes or its hardware watchdog resets it.
#![allow(dead_code, reason = "each test uses its part of the world")]

use twinpost_heartbeat::*;

/// An address rule that a switched-off rule lets live for ever.
pub const FOR_EVER: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    pub on: bool,
    pub core: State,
    pub stalled: bool,
    pub frozen: bool,
    /// Time that the daemon has not yet heard of.
    pub lag_ms: u32,
    pub rule_ms: u32,
    pub watchdog_ms: u32,
    pub writes: Writes,
    pub promoted: bool,
    pub allow_resync: bool,
    /// What the daemon was last told of the mirror.
    pub told: bool,
    /// On disk: the writes, one bit each, and the record.
    pub data: u64,
    pub disk: Option<Record>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Witness {
    pub up: bool,
    pub reign: u32,
    pub holder: usize,
    /// Age of the last renewal to each node.
    pub renewed_ms: [u32; 2],
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub set: [Settings; 2],
    pub rules: Rules,
    pub nodes: [Node; 2],
    /// `[link][from]`.
    pub cut: [[bool; 2]; 3],
    pub lose: [bool; 2],
    /// Catch the next frame of this node.
    pub catch: [bool; 2],
    pub held: [Option<Frame>; 2],
    pub again: [bool; 2],
    pub witness: Witness,
    pub fence_lies: bool,
    /// Carrier and modem lines look dead although the peer lives: cables pulled.
    pub unplugged: bool,
    pub acked: u64,
    pub written: u32,
    pub faults: u32,
    /// Random loss in percent and its generator, 0 for none.
    pub loss: u64,
    pub seed: u64,
    pub garbled: u32,
    /// What each node's clock gains in a tick.
    pub drift_ms: [i32; 2],
    /// How long a state file takes, 0 for no time; a crash before tears it.
    pub slow_ms: u32,
    pub pending: [Option<(u32, Record)>; 2],
    pub torn: u32,
}

pub fn random(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    seed.wrapping_mul(0x2545_F491_4F6C_DD1D)
}

fn idle(record: Option<Record>, data: u64, watchdog_ms: u32) -> Node {
    Node {
        on: true,
        core: State::start(record, u64::from(data.count_ones())),
        stalled: false,
        frozen: false,
        lag_ms: 0,
        rule_ms: 0,
        watchdog_ms,
        writes: Writes::Held,
        promoted: false,
        allow_resync: false,
        told: false,
        data,
        disk: record,
    }
}

impl World {
    pub fn new(set: Settings, rules: Rules) -> Self {
        Self {
            set: [Settings { node: 0, ..set }, Settings { node: 1, ..set }],
            rules,
            nodes: [idle(None, 0, set.watchdog_ms), idle(None, 0, set.watchdog_ms)],
            cut: [[false; 2]; 3],
            lose: [false; 2],
            catch: [false; 2],
            held: [None; 2],
            again: [false; 2],
            witness: Witness { up: true, reign: 0, holder: 0, renewed_ms: [u32::MAX; 2] },
            fence_lies: false,
            unplugged: false,
            acked: 0,
            written: 0,
            faults: 0,
            loss: 0,
            seed: 1,
            garbled: 0,
            drift_ms: [0; 2],
            slow_ms: 0,
            pending: [None; 2],
            torn: 0,
        }
    }

    pub fn serves(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.on && !node.frozen && node.promoted && node.rule_ms > 0
    }

    pub fn two_serve(&self) -> bool {
        self.serves(0) && self.serves(1)
    }

    /// A serving node lacks an acknowledged write.
    pub fn lost(&self) -> bool {
        (0..2).any(|n| self.serves(n) && self.acked & !self.nodes[n].data != 0)
    }

    fn connected(&self) -> bool {
        let eth1 = self.cut[Link::Eth1.index()];
        let both = |f: fn(&Node) -> bool| self.nodes.iter().all(f);
        !eth1[0] && !eth1[1] && both(|node| node.on && !node.frozen) && !both(|node| node.promoted)
    }

    pub fn crash(&mut self, n: usize) {
        if let Some((left, record)) = self.pending[n].take() {
            // Two slots in turn: the torn one is none, the one before is the truth.
            let old = self.nodes[n].disk.map_or([0; RECORD_BYTES], |record| record.encode());
            let torn = &record.encode()[..left as usize % RECORD_BYTES];
            self.nodes[n].disk = newest_record([&old, torn]);
            self.torn += 1;
        }
        let node = &mut self.nodes[n];
        (node.on, node.promoted, node.rule_ms, node.writes) = (false, false, 0, Writes::Held);
        (node.stalled, node.frozen, node.lag_ms) = (false, false, 0);
        (node.told, node.allow_resync) = (false, false);
        // Nothing of the mind outlives a crash.
        node.core = State::start(None, 0);
    }

    pub fn restart(&mut self, n: usize) {
        let node = &self.nodes[n];
        self.nodes[n] = idle(node.disk, node.data, self.set[n].watchdog_ms);
        self.event(n, Event::Tick);
        self.mirror();
    }

    pub fn resume(&mut self, n: usize) {
        (self.nodes[n].stalled, self.nodes[n].frozen) = (false, false);
        self.event(n, Event::Tick);
        self.mirror();
    }

    pub fn heal(&mut self) {
        self.cut = [[false; 2]; 3];
        self.unplugged = false;
        self.mirror();
    }

    /// Time passes; `first` runs first.
    pub fn tick(&mut self, ms: u32, first: usize) {
        for age in &mut self.witness.renewed_ms {
            *age = age.saturating_add(ms).min(self.set[0].wait_ms());
        }
        for n in [first, 1 - first] {
            let node = &mut self.nodes[n];
            if !node.on {
                continue;
            }
            node.watchdog_ms = node.watchdog_ms.saturating_sub(ms);
            if self.set[n].watchdog_ms > 0 && node.watchdog_ms == 0 && (node.frozen || node.stalled) {
                self.crash(n);
                continue;
            }
            let node = &mut self.nodes[n];
            if node.frozen {
                continue;
            }
            if node.rule_ms != FOR_EVER {
                node.rule_ms = node.rule_ms.saturating_sub(ms);
            }
            let ms = ms.saturating_add_signed(self.drift_ms[n]);
            node.lag_ms = node.lag_ms.saturating_add(ms).min(self.set[n].wait_ms().max(self.set[n].first_contact_ms));
            self.event(n, Event::Tick);
            self.disk(n, ms);
        }
        self.lose = [false; 2];
        self.mirror();
    }

    /// A slow disk comes to an end.
    fn disk(&mut self, n: usize, ms: u32) {
        if !self.awake(n) {
            return;
        }
        match &mut self.pending[n] {
            Some((left, record)) if *left <= ms => {
                let record = *record;
                self.pending[n] = None;
                self.nodes[n].disk = Some(record);
                self.event(n, Event::Stored(record.writes));
            }
            Some((left, _)) => *left -= ms,
            None => {}
        }
    }

    /// A client writes to whoever answers.
    pub fn write(&mut self) {
        let bit = 1 << self.written;
        self.written += 1;
        for n in 0..2 {
            if !self.serves(n) {
                continue;
            }
            match self.nodes[n].writes {
                Writes::Held => {}
                Writes::Alone => {
                    self.nodes[n].data |= bit;
                    self.acked |= bit;
                    // While the peer is connected it is written there too.
                    if self.connected() && self.nodes[n].told {
                        self.nodes[1 - n].data |= bit;
                    }
                }
                Writes::Mirrored => {
                    // The local copy may have it although the answer never leaves: a tail that a release tells of.
                    self.nodes[n].data |= bit;
                    if self.connected() {
                        self.nodes[1 - n].data |= bit;
                        self.acked |= bit;
                    }
                }
            }
        }
        self.positions();
        self.mirror();
    }

    fn positions(&mut self) {
        for n in 0..2 {
            let position = u64::from(self.nodes[n].data.count_ones());
            if self.nodes[n].on && self.nodes[n].core.position != position {
                self.event(n, Event::Position(position));
            }
        }
    }

    /// What kernels see of each other: the mirror, carrier, modem lines.
    pub fn mirror(&mut self) {
        for n in 0..2 {
            let peer = &self.nodes[1 - n];
            let lines = peer.on && !self.unplugged;
            if self.awake(n) && self.nodes[n].core.carrier != lines {
                self.event(n, Event::Carrier(lines));
                self.event(n, Event::ModemLines(lines));
            }
        }
        let connected = self.connected();
        for n in 0..2 {
            if !self.nodes[n].promoted || !self.awake(n) {
                continue;
            }
            if connected && !self.nodes[n].told && self.nodes[n].allow_resync {
                self.nodes[1 - n].data = self.nodes[n].data;
                self.nodes[n].told = true;
                self.positions();
                self.event(n, Event::Replication(Replication::Complete));
            } else if !connected && self.nodes[n].told {
                (self.nodes[n].told, self.nodes[n].allow_resync) = (false, false);
                self.event(n, Event::Replication(Replication::Lost));
            }
        }
    }

    fn awake(&self, n: usize) -> bool {
        let node = &self.nodes[n];
        node.on && !node.stalled && !node.frozen
    }

    /// One event and everything that follows from it at once.
    pub fn event(&mut self, n: usize, event: Event) {
        let mut queue = std::collections::VecDeque::from([(n, event)]);
        for _ in 0..400 {
            let Some((n, event)) = queue.pop_front() else { return };
            if !self.awake(n) {
                continue;
            }
            let lag = std::mem::take(&mut self.nodes[n].lag_ms);
            let (core, effects) = twinpost_heartbeat::step_with(&self.rules, &self.set[n], &self.nodes[n].core, lag, event);
            self.nodes[n].core = core;
            for effect in effects {
                self.effect(n, effect, &mut queue);
            }
        }
        panic!("a step never settles: {:?}", queue.front());
    }

    fn effect(&mut self, n: usize, effect: Effect, queue: &mut std::collections::VecDeque<(usize, Event)>) {
        let node = &mut self.nodes[n];
        match effect {
            Effect::Send(frame) => {
                if let Some(frame) = self.carry(n, frame) {
                    queue.push_back((1 - n, Event::Frame(frame)));
                }
            }
            Effect::Store(record) if self.slow_ms > 0 => {
                let left = self.pending[n].map_or(self.slow_ms, |(left, _)| left);
                self.pending[n] = Some((left, record));
            }
            Effect::Store(record) => {
                node.disk = Some(record);
                queue.push_back((n, Event::Stored(record.writes)));
            }
            Effect::Promote => {
                node.promoted = true;
                (node.told, node.allow_resync) = (false, false);
                queue.push_back((n, Event::Promoted(true)));
            }
            Effect::Demote => {
                node.promoted = false;
                (node.told, node.allow_resync) = (false, false);
                queue.push_back((n, Event::Demoted(true)));
            }
            Effect::Address { expires_ms } => node.rule_ms = expires_ms.unwrap_or(FOR_EVER),
            Effect::AddressDown => node.rule_ms = 0,
            Effect::StartServices | Effect::RestartServices => queue.push_back((n, Event::ServicesUp)),
            Effect::StopServices => queue.push_back((n, Event::ServicesStopped(true))),
            Effect::Check => queue.push_back((n, Event::Checked(true))),
            Effect::Writes(writes) => node.writes = writes,
            Effect::Resync => node.allow_resync = true,
            Effect::FeedWatchdog => node.watchdog_ms = self.set[n].watchdog_ms,
            Effect::SelfFence => self.crash(n),
            Effect::Fence => {
                let answer = if self.fence_lies { FenceAnswer::Unread } else { FenceAnswer::Off };
                if !self.fence_lies {
                    self.crash(1 - n);
                }
                queue.push_back((n, Event::Fence(answer)));
            }
            Effect::WitnessClaim { knows, new } if self.witness.up => {
                let witness = &mut self.witness;
                let refused = (witness.reign > knows && witness.holder != n) || witness.reign >= new;
                if refused {
                    queue.push_back((n, Event::WitnessLost { reign: witness.reign }));
                } else {
                    (witness.reign, witness.holder) = (new, n);
                    queue.push_back((n, Event::WitnessWon { reign: new, granted_ms: witness.renewed_ms[1 - n] }));
                }
            }
            Effect::WitnessRenew { reign, ask } if self.witness.up => {
                if self.witness.reign > reign && self.witness.holder != n {
                    queue.push_back((n, Event::WitnessLost { reign: self.witness.reign }));
                } else {
                    self.witness.renewed_ms[n] = 0;
                    queue.push_back((n, Event::WitnessRenewed(ask)));
                }
            }
            Effect::KeepAside => queue.push_back((n, Event::SetAside)),
            Effect::WitnessClaim { .. }
            | Effect::WitnessRenew { .. }
            | Effect::Reserve
            | Effect::Unreserve
            | Effect::Announce
            | Effect::Alarm(_)
            | Effect::Refused(_) => {}
        }
    }

    fn carry(&mut self, n: usize, frame: Frame) -> Option<Frame> {
        if self.catch[n] {
            self.catch[n] = false;
            self.held[n] = Some(frame);
            return None;
        }
        if self.cut[frame.link.index()][n] || self.lose[n] {
            return None;
        }
        if self.loss == 0 {
            return Some(frame);
        }
        if random(&mut self.seed) % 100 < self.loss {
            return None;
        }
        self.through_wire(n, &frame)
    }

    /// Through the real codec; the serial line garbles and cuts.
    fn through_wire(&mut self, n: usize, frame: &Frame) -> Option<Frame> {
        let keys = Keys { current: [3; 32], next: None };
        let bytes = frame.encode(9, &keys);
        let mut decoder = Decoder::new(9, 1 - n as u8, keys);
        if frame.link != Link::Serial {
            return decoder.decode(frame.link, &bytes).ok();
        }
        let mut deframer = Deframer::new();
        let mut out = None;
        let garble = random(&mut self.seed) % 100 < 2 * self.loss;
        let at = (random(&mut self.seed) % ENCODED_BYTES as u64) as usize;
        for (i, mut byte) in encode_serial(&bytes).into_iter().enumerate() {
            if garble && i == at {
                match random(&mut self.seed) % 3 {
                    0 => continue,
                    1 => byte ^= 1 << (random(&mut self.seed) % 8),
                    _ => drop(deframer.push(random(&mut self.seed) as u8)),
                }
            }
            if let Some(bytes) = deframer.push(byte) {
                out = decoder.decode(Link::Serial, &bytes).ok();
            }
        }
        self.garbled += u32::from(out.is_none());
        if let Some(read) = &out {
            assert_eq!(read, frame, "what comes through is what was sent");
        }
        out
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
        let mut world = self.clone();
        world.heal();
        (world.witness.up, world.fence_lies) = (true, false);
        (world.held, world.catch, world.again) = ([None; 2], [false; 2], [false; 2]);
        world.loss = 0;
        for n in 0..2 {
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
            }
            let whole = |n: usize| world.serves(n) && world.nodes[n].core.mirror == Mirror::Synced;
            if (whole(0) && world.nodes[1].core.eligible) || (whole(1) && world.nodes[0].core.eligible) {
                return !world.lost() && !world.two_serve();
            }
        }
        false
    }

    /// Numbers that only grow are replaced by their rank, so that equal situations are equal values.
    pub fn normalise(&mut self) {
        for n in 0..2 {
            let mut values = Vec::with_capacity(16);
            self.sequences(n, &mut |seq| values.push(*seq));
            values.sort_unstable();
            values.dedup();
            let rank = |seq: u32| if seq == 0 { 0 } else { 1 + values.binary_search(&seq).map_or(0, |i| i as u32) };
            self.sequences(n, &mut |seq| *seq = rank(*seq));
            let node = &mut self.nodes[n];
            node.core.replays = 0;
            if let Some(disk) = &mut node.disk
                && node.core.stored
            {
                (disk.writes, node.core.record.writes) = (1, 1);
            }
            if let Some(peer) = &mut node.core.peer {
                peer.frame.link = Link::Eth1;
            }
            if let Some((_, age)) = &mut node.core.renew {
                *age = (*age).min(2);
            }
        }
    }

    /// Every place that holds a sequence counted by node `n`.
    fn sequences(&mut self, n: usize, f: &mut dyn FnMut(&mut u32)) {
        let (left, right) = self.nodes.split_at_mut(1);
        let (own, peer) = if n == 0 { (&mut left[0].core, &mut right[0].core) } else { (&mut right[0].core, &mut left[0].core) };
        f(&mut own.seq);
        own.ask.iter_mut().chain(&mut own.renew).for_each(|(seq, _)| f(seq));
        own.peer.iter_mut().for_each(|heard| f(&mut heard.frame.echo_seq));
        peer.last_seq.iter_mut().for_each(&mut *f);
        f(&mut peer.newest_seq);
        peer.peer.iter_mut().for_each(|heard| f(&mut heard.frame.seq));
        self.held[n].iter_mut().for_each(|frame| f(&mut frame.seq));
        self.held[1 - n].iter_mut().for_each(|frame| f(&mut frame.echo_seq));
    }
}
