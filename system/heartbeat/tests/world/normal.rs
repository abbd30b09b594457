//! Equal situations as equal values, so that the model checker meets each of them once.
//!
//! Contract: nothing that a rule reads is changed in a way that the rule could tell. Three kinds of things go: what only people read
//! (alarms told, announcements, replays counted), what a rule reads only up to a limit or only with means that this pair does not
//! have, and the absolute size of numbers that are only compared. `tests/model.rs` walks the world with and without this and
//! compares all that can be seen.

use twinpost_heartbeat::*;

use super::World;

impl World {
    pub fn normalise(&mut self) {
        for n in 0..2 {
            self.forget_what_no_rule_reads(n);
        }
        for n in 0..2 {
            self.rank(n, Self::sequences);
            self.rank(n, Self::boots);
        }
        self.close_gaps();
    }

    fn forget_what_no_rule_reads(&mut self, n: usize) {
        let set = self.fixed.set[n];
        let held = self.held[1 - n].is_some();
        let node = &mut self.nodes[n];
        let core = &mut node.core;
        (core.replays, core.told, core.proof, core.checked, core.announce) = (0, false, None, false, (0, 0));
        if let Some(disk) = &mut node.disk
            && core.stored
        {
            (disk.writes, core.record.writes) = (1, 1);
        }
        // Only evidence asks how long the LAN is silent, and only up to a lease. (The serial line is as fast as the others here.)
        let silent_ms = core.link_silent_ms[Link::Lan.index()].min(set.lease_ms);
        core.link_silent_ms = [0, if set.evidence { silent_ms } else { 0 }, 0];
        core.up_ms = core.up_ms.min(set.first_contact_ms.max(set.lease_ms + set.margin_ms));
        if let Some(peer) = &mut core.peer {
            peer.silent_ms = peer.silent_ms.min(set.lease_ms + set.margin_ms);
            // Of the peer's frame only what it is, its data and its ballot are read again; how it was carried is not.
            peer.frame = Frame { link: Link::Eth1, boot: 0, seq: 0, echo_boot: 0, echo_seq: 0, lease_ms: 0, ..peer.frame };
        }
        if !core.settling && !matches!(core.phase, Phase::Store | Phase::Promote) {
            core.prior = (0, false);
        }
        if core.phase != Phase::Wait {
            core.wait_left_ms = 0;
        }
        if let Some((_, age_ms)) = &mut core.renew {
            *age_ms = (*age_ms).min(set.keepalive_ms);
        }
        if !set.leases() {
            // No lease is kept, and none is asked about.
            (core.lease_left_ms, core.ask, core.renew, core.granted_age_ms) = (0, None, None, 0);
            self.witness.renewed_ms = [0; 2];
        }
        if !held {
            // Whatever comes now was sent later than anything that came. What the peer asked in is what is echoed.
            core.last_seq = [0; 3];
            if !set.leases() {
                core.newest_seq = 0;
            }
        }
    }

    /// Numbers of node `n` that only grow and are only compared are replaced by their rank.
    fn rank(&mut self, n: usize, each: Places) {
        let mut values = heapless::Vec::<u32, 24>::new();
        each(self, n, &mut |value| {
            if let Err(at) = values.binary_search(value) {
                assert!(values.insert(at, *value).is_ok(), "so many places hold no number of a node");
            }
        });
        let rank = |value: u32| if value == 0 { 0 } else { 1 + values.binary_search(&value).map_or(0, |i| i as u32) };
        each(self, n, &mut |value| *value = rank(*value));
    }

    /// Every place that holds a sequence counted by node `n`.
    fn sequences(&mut self, n: usize, f: &mut dyn FnMut(&mut u32)) {
        let (left, right) = self.nodes.split_at_mut(1);
        let (own, peer) = if n == 0 { (&mut left[0].core, &mut right[0].core) } else { (&mut right[0].core, &mut left[0].core) };
        f(&mut own.seq);
        own.ask.iter_mut().chain(&mut own.renew).for_each(|(seq, _)| f(seq));
        peer.last_seq.iter_mut().for_each(&mut *f);
        f(&mut peer.newest_seq);
        self.held[n].iter_mut().for_each(|frame| f(&mut frame.seq));
        self.held[1 - n].iter_mut().for_each(|frame| f(&mut frame.echo_seq));
    }

    /// Every place that holds a boot id of node `n`. Its own is the highest, and a start takes one above: ranks keep that.
    fn boots(&mut self, n: usize, f: &mut dyn FnMut(&mut u32)) {
        let (left, right) = self.nodes.split_at_mut(1);
        let (own, peer) = if n == 0 { (&mut left[0], &mut right[0]) } else { (&mut right[0], &mut left[0]) };
        f(&mut own.core.record.boot);
        own.disk.iter_mut().for_each(|record| f(&mut record.boot));
        f(&mut peer.core.peer_boot);
        f(&mut peer.core.record.peer_boot);
        peer.disk.iter_mut().for_each(|record| f(&mut record.peer_boot));
        self.held[n].iter_mut().for_each(|frame| f(&mut frame.boot));
        self.held[1 - n].iter_mut().for_each(|frame| f(&mut frame.echo_boot));
    }

    /// Reigns are compared and counted up by one: their order and the small gaps between them are all that matters.
    fn close_gaps(&mut self) {
        // The lowest that any rule could still meet: below it nothing is claimed, because a claim is above the claimant's own.
        let mut low = u32::MAX;
        // On an array the position is a reign too.
        let array = self.fixed.set[0].reservation;
        let position = |position: u64| if array { position as u32 } else { u32::MAX };
        for node in &self.nodes {
            low = low.min(node.disk.map_or(0, |record| record.reign));
            if node.on {
                low = low.min(node.core.record.reign).min(node.core.promised).min(position(node.core.position));
                low = low.min(node.core.peer.map_or(u32::MAX, |peer| peer.frame.reign.min(position(peer.frame.position))));
            }
            if node.core.settling || matches!(node.core.phase, Phase::Store | Phase::Promote) {
                low = low.min(node.core.prior.0);
            }
        }
        for frame in self.held.iter().flatten() {
            low = low.min(frame.reign).min(position(frame.position));
        }
        if self.fixed.set[0].witness {
            low = low.min(self.witness.reign);
        }
        for served in &mut self.served {
            *served &= u64::MAX.checked_shl(low).unwrap_or(0);
        }
        let mut values = heapless::Vec::<u32, 64>::new();
        self.reigns(array, &mut |reign| {
            if reign >= low.max(1)
                && let Err(at) = values.binary_search(&reign)
            {
                assert!(values.insert(at, reign).is_ok(), "so many places hold no reign");
            }
            reign
        });
        let mut new = heapless::Vec::<u32, 64>::new();
        for (i, &value) in values.iter().enumerate() {
            let next = if i == 0 { 1 } else { new[i - 1] + (value - values[i - 1]).min(GAP) };
            assert!(new.push(next).is_ok(), "as many as before");
        }
        self.reigns(array, &mut |reign| values.binary_search(&reign).map_or(0, |at| new[at]));
    }

    /// Every place that holds a reign.
    fn reigns(&mut self, array: bool, f: &mut dyn FnMut(u32) -> u32) {
        let position = |position: &mut u64, f: &mut dyn FnMut(u32) -> u32| {
            if array {
                *position = u64::from(f(*position as u32));
            }
        };
        for node in &mut self.nodes {
            node.disk.iter_mut().for_each(|record| record.reign = f(record.reign));
            let core = &mut node.core;
            for reign in [&mut core.record.reign, &mut core.promised, &mut core.claimed, &mut core.prior.0] {
                *reign = f(*reign);
            }
            core.claim.iter_mut().for_each(|claim| claim.ballot = f(claim.ballot));
            position(&mut core.position, f);
            for frame in core.peer.iter_mut().map(|peer| &mut peer.frame) {
                (frame.reign, frame.ballot) = (f(frame.reign), f(frame.ballot));
                position(&mut frame.position, f);
            }
        }
        for frame in self.held.iter_mut().flatten() {
            (frame.reign, frame.ballot) = (f(frame.reign), f(frame.ballot));
            position(&mut frame.position, f);
        }
        self.witness.reign = f(self.witness.reign);
        self.array.reign = f(self.array.reign);
        for served in &mut self.served {
            let mut left = std::mem::take(served);
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                *served |= 1_u64.checked_shl(f(bit)).unwrap_or(0);
            }
        }
    }
}

/// Every place of one kind of number of a node.
type Places = fn(&mut World, usize, &mut dyn FnMut(&mut u32));

/// No gap between reigns is told apart beyond this: a claim takes the next above what it knows, so in one action a node goes up by
/// few.
const GAP: u32 = 4;
