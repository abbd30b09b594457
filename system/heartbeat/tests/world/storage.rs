//! Disks of the world: the state file, the mirror, the array.

use twinpost_heartbeat::*;

use super::wire::Count;
use super::{Queue, Twist, World};

/// One copy of the data, and who may write it. Its driver keeps the reign beside the reservation.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Array {
    pub holder: Option<usize>,
    /// Waits for a lock.
    pub waits: [bool; 2],
    pub reign: u32,
    /// Has not yet heard that its disks were taken.
    pub unheard: [bool; 2],
}

impl World {
    /// Where one array holds the data, only its holder writes and answers.
    pub fn disk_is_of(&self, n: usize) -> bool {
        !self.fixed.set[n].reservation || self.array.holder == Some(n)
    }

    /// A state file.
    pub fn store(&mut self, n: usize, record: Record, queue: &mut Queue) {
        let Some(sim) = self.sim.as_mut().filter(|sim| sim.slow_ms > 0) else {
            self.nodes[n].disk = Some(record);
            Self::push(queue, n, Event::Stored(record.writes));
            return;
        };
        sim.counts[Count::SlowStore as usize] += 1;
        let left = sim.pending[n].map_or(sim.slow_ms, |(left, _)| left);
        sim.pending[n] = Some((left, record));
        if self.fixed.twist == Twist::StoredTooEarly {
            Self::push(queue, n, Event::Stored(record.writes));
        }
    }

    /// Comes to an end.
    pub fn slow_disk(&mut self, n: usize, ms: u32) {
        if !self.awake(n) {
            return;
        }
        let Some(sim) = &mut self.sim else { return };
        match &mut sim.pending[n] {
            Some((left, record)) if *left <= ms => {
                let record = *record;
                sim.pending[n] = None;
                self.nodes[n].disk = Some(record);
                self.event(n, Event::Stored(record.writes));
            }
            Some((left, _)) => *left -= ms,
            None => {}
        }
    }

    /// The power went while a state file was being written. Two slots in turn: the torn one is none, the one before is the truth.
    pub fn tear(&mut self, n: usize) {
        let Some(sim) = &mut self.sim else { return };
        if let Some((left, record)) = sim.pending[n].take() {
            let old = self.nodes[n].disk.map_or([0; RECORD_BYTES], |record| record.encode());
            let at = (left as usize * 7 + 1) % RECORD_BYTES;
            let torn = &record.encode()[..at];
            self.nodes[n].disk = if self.fixed.twist == Twist::OneSlot {
                let mut slot = old;
                slot[..at].copy_from_slice(torn);
                newest_record([&slot, &[]])
            } else {
                newest_record([&old, torn])
            };
            sim.counts[Count::Torn as usize] += 1;
        }
    }

    pub fn promote(&mut self, n: usize, queue: &mut Queue) -> bool {
        if self.fixed.set[n].reservation {
            if self.fixed.set[n].reservation_excludes && self.array.holder == Some(1 - n) {
                return false;
            }
            self.take(n, queue);
            self.array.reign = self.array.reign.max(self.nodes[n].core.record.reign);
            Self::push(queue, n, Event::Position(u64::from(self.array.reign)));
        }
        let node = &mut self.nodes[n];
        node.promoted = true;
        (node.told, node.allow_resync, node.resync) = (false, false, false);
        true
    }

    pub fn demote(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.promoted = false;
        (node.told, node.allow_resync, node.resync) = (false, false, false);
        if self.array.holder == Some(n) {
            self.array.holder = None;
        }
    }

    /// A lock is gone with its processes; a reservation of a disk outlives its holder.
    pub fn freed_by_crash(&mut self, n: usize) {
        self.array.waits[n] = false;
        self.array.unheard[n] = false;
        if self.fixed.set[n].reservation_excludes && self.array.holder == Some(n) {
            self.array.holder = None;
        }
    }

    fn take(&mut self, n: usize, queue: &mut Queue) {
        if self.array.holder == Some(1 - n) {
            self.count(Count::Preempted);
            self.array.unheard[1 - n] = !self.awake(1 - n);
            Self::push(queue, 1 - n, Event::Reservation(false));
        }
        self.array.holder = Some(n);
        self.array.waits[n] = false;
        self.array.unheard[n] = false;
    }

    pub fn reserve(&mut self, n: usize, queue: &mut Queue) {
        let refused = self.fixed.set[n].reservation_excludes && self.array.holder == Some(1 - n);
        if refused {
            self.array.waits[n] = true;
        } else {
            self.take(n, queue);
            Self::push(queue, n, Event::Position(u64::from(self.array.reign)));
        }
        Self::push(queue, n, Event::Reservation(!refused));
    }

    pub fn unreserve(&mut self, n: usize) {
        self.array.waits[n] = false;
        if self.array.holder == Some(n) && !self.nodes[n].promoted {
            self.array.holder = None;
        }
    }

    /// The array speaks by itself: a lock that is free goes to who waits for it; a resumed machine hears that its disks are gone.
    fn array_speaks(&mut self) {
        for n in 0..2 {
            if !self.awake(n) {
                continue;
            }
            if self.array.unheard[n] {
                self.array.unheard[n] = false;
                self.event(n, Event::Reservation(false));
            }
            if self.array.waits[n] && self.array.holder.is_none() {
                (self.array.holder, self.array.waits[n]) = (Some(n), false);
                self.count(Count::Unasked);
                self.event(n, Event::Position(u64::from(self.array.reign)));
                self.event(n, Event::Reservation(true));
            }
        }
    }

    pub fn connected(&self) -> bool {
        let eth1 = self.cut[Link::Eth1.index()];
        let both = |f: fn(&super::Node) -> bool| self.nodes.iter().all(f);
        !self.split && !eth1[0] && !eth1[1] && both(|node| node.on && !node.frozen) && !both(|node| node.promoted)
    }

    pub fn positions(&mut self) {
        for n in 0..2 {
            if self.fixed.set[n].reservation {
                continue;
            }
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
            let lines = (peer.on || peer.refuses) && !self.unplugged;
            if self.awake(n) && self.nodes[n].core.carrier != lines {
                self.event(n, Event::Carrier(lines));
                self.event(n, Event::ModemLines(lines));
            }
        }
        if self.fixed.set[0].reservation {
            self.array_speaks();
            self.note();
            return;
        }
        for n in 0..2 {
            if !self.nodes[n].promoted || !self.awake(n) {
                continue;
            }
            let (connected, node) = (self.connected(), &self.nodes[n]);
            if connected && !node.told && !node.resync && node.allow_resync {
                self.connect(n);
            } else if !connected && (node.told || node.resync) {
                if node.resync {
                    self.count(Count::ResyncBroken);
                }
                let node = &mut self.nodes[n];
                (node.told, node.resync, node.allow_resync) = (false, false, false);
                self.event(n, Event::Replication(Replication::Lost));
            }
        }
        self.note();
    }

    /// The active `n` meets the other copy.
    fn connect(&mut self, n: usize) {
        let peer = 1 - n;
        if self.nodes[peer].core.record.unshared && !self.nodes[peer].partial {
            // The other end does not let itself be overwritten while it is not known to hold nothing of its own.
            return;
        }
        if self.nodes[peer].data == self.nodes[n].data && !self.nodes[peer].partial {
            self.nodes[n].told = true;
            self.event(n, Event::Replication(Replication::Complete));
        } else if !self.nodes[peer].partial
            && self.acked & self.nodes[peer].data & !self.nodes[n].data & !self.nodes[peer].aside != 0
        {
            // Both copies were written alone: the driver connects no further.
            self.nodes[n].allow_resync = false;
            self.diverge();
        } else {
            (self.nodes[n].resync, self.nodes[peer].partial) = (true, true);
            self.count(Count::Resync);
            if self.fixed.twist == Twist::HalfIsWhole {
                self.event(n, Event::Replication(Replication::Complete));
                return;
            }
            self.event(peer, Event::Replication(Replication::CopyPartial));
            self.event(n, Event::Replication(Replication::Behind));
        }
    }

    /// The drivers say that the copies diverged, and part.
    pub fn diverge(&mut self) {
        self.split = true;
        self.count(Count::Diverged);
        for n in 0..2 {
            if self.nodes[n].on {
                self.event(n, Event::Replication(Replication::Diverged));
            }
        }
        self.mirror();
    }

    /// A resync takes a tick.
    pub fn resync_goes_on(&mut self) {
        for n in 0..2 {
            let peer = 1 - n;
            if self.nodes[n].resync && self.nodes[n].promoted && self.awake(n) && self.connected() {
                (self.nodes[peer].data, self.nodes[peer].partial) = (self.nodes[n].data, false);
                (self.nodes[n].resync, self.nodes[n].told) = (false, true);
                self.event(peer, Event::Replication(Replication::CopyWhole));
                self.positions();
                self.event(n, Event::Replication(Replication::Complete));
            }
        }
    }
}
