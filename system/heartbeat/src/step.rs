//! One step of a node's mind.
//!
//! Contract: [`step`] takes a state, the time that passed on the node's monotonic clock since the step before, and what happened;
//! it gives the next state and what the daemon must do, in order. Time is taken in *before* the event, so that a frame that lay in a
//! buffer during a stall never finds a lease that is older than it looks. How a reign is won is in `claim`.
//!
//! What the daemon owes: a [`Event::Tick`] at least every `keepalive_ms / 2`; every effect of a step carried out before the
//! effects of the next; an answer to each effect that names one, for the newest request only.

use crate::array;
use crate::claim;
use crate::frame::{Flags, Frame, Link, NodeState};
use crate::orders::{MAINTENANCE_MAX_MS, Order, reasons};
use crate::settings::{Rules, Settings};
use crate::state::{Alarm, Effect, Effects, Event, Mirror, Phase, Proof, Replication, State, Writes};

/// HA.md "failed services restart in place first (2 times)".
const RESTARTS: u8 = 2;
/// So often the number of restarts doubles while services fail on both nodes in turn: 2, 4, 8, ... 64.
const PASSES_MAX: u8 = 5;
/// Restarts in place, and services passed to the peer, are forgotten after ten minutes.
const RESTART_MEMORY_MS: u32 = 600_000;

/// The next state and what to do, with every safety rule in force.
#[must_use]
pub fn step(settings: &Settings, state: &State, elapsed_ms: u32, event: Event) -> (State, Effects) {
    step_with(&Rules::ALL, settings, state, elapsed_ms, event)
}

/// [`step`] with rules that tests may switch off.
#[doc(hidden)]
#[must_use]
pub fn step_with(rules: &Rules, settings: &Settings, state: &State, elapsed_ms: u32, event: Event) -> (State, Effects) {
    let mut mind = Mind { s: *state, set: settings, rules, out: Effects::new() };
    if !rules.forget_eligibility && !mind.s.live && mind.s.record.eligible {
        (mind.s.eligible, mind.s.phase) = (true, Phase::Standby);
    }
    if !mind.s.live {
        array::told(&mut mind);
    }
    let seen = mind.seen();
    mind.pass(elapsed_ms);
    mind.hear(event);
    mind.govern(event == Event::Tick);
    // What the peer decides on is told at once, not at the next keepalive.
    if mind.seen() != seen {
        mind.s.send_left_ms = [0; 3];
    }
    mind.store();
    mind.send();
    (mind.s, mind.out)
}

/// A state that is being changed.
pub(crate) struct Mind<'a> {
    pub(crate) s: State,
    pub(crate) set: &'a Settings,
    pub(crate) rules: &'a Rules,
    pub(crate) out: Effects,
}

impl Mind<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        let full = self.out.push(effect).is_err();
        debug_assert!(!full, "a step gives at most 24 effects");
    }

    pub(crate) fn alarm(&mut self, alarm: Alarm) {
        self.push(Effect::Alarm(alarm));
    }

    /// An alarm of a lasting trouble: once until it is over.
    pub(crate) fn alarm_once(&mut self, alarm: Alarm) {
        if !self.s.told {
            self.s.told = true;
            self.alarm(alarm);
        }
    }

    fn seen(&self) -> (NodeState, Flags, u32, u32) {
        let frame = self.frame(Link::Eth1);
        (frame.state, frame.flags, frame.ballot, frame.reign)
    }

    /// No age is told apart beyond this.
    fn age_cap_ms(&self) -> u32 {
        self.set.wait_ms().max(self.set.first_contact_ms)
    }

    fn pass(&mut self, ms: u32) {
        let cap = self.age_cap_ms();
        let s = &mut self.s;
        let maintained = s.maintenance_left_ms > 0;
        for left in [
            &mut s.lease_left_ms,
            &mut s.wait_left_ms,
            &mut s.yield_left_ms,
            &mut s.maintenance_left_ms,
            &mut s.announce.1,
            &mut s.gone_deaf_ms,
            &mut s.reserve_left_ms,
            &mut s.rest_left_ms,
        ] {
            *left = left.saturating_sub(ms);
        }
        for left in &mut s.send_left_ms {
            *left = left.saturating_sub(ms);
        }
        if let Some(claim) = &mut s.claim {
            claim.retry_left_ms = claim.retry_left_ms.saturating_sub(ms);
        }
        for age in [&mut s.granted_age_ms, &mut s.up_ms] {
            *age = age.saturating_add(ms).min(cap);
        }
        for (_, age) in s.ask.iter_mut().chain(&mut s.renew) {
            *age = age.saturating_add(ms).min(cap);
        }
        if let Some(peer) = &mut s.peer {
            peer.silent_ms = peer.silent_ms.saturating_add(ms).min(cap);
        }
        crate::health::pass(s, self.set, ms);
        if s.restarts > 0 || s.passes > 0 {
            s.restart_age_ms = s.restart_age_ms.saturating_add(ms);
            if s.restart_age_ms >= RESTART_MEMORY_MS {
                (s.restarts, s.passes, s.restart_age_ms) = (0, 0, 0);
            }
        }
        let maintenance_over = maintained && s.maintenance_left_ms == 0;
        for link in Link::ALL {
            let silent = &mut self.s.link_silent_ms[link.index()];
            let before = *silent;
            *silent = silent.saturating_add(ms).min(cap);
            if before < cap && *silent == cap {
                self.alarm(Alarm::LinkSilent(link));
            }
        }
        if maintenance_over {
            self.alarm(Alarm::MaintenanceEnded);
        }
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Tick | Event::SetAside if self.s.phase != Phase::Conflict => {}
            Event::Tick => {}
            Event::Frame(frame) => claim::heard(self, &frame),
            Event::Stored(writes) => {
                if writes == self.s.record.writes && !self.s.dirty {
                    (self.s.stored, self.s.live) = (true, true);
                }
            }
            Event::Promoted(done) => self.promoted(done),
            Event::Demoted(done) => self.demoted(done),
            Event::ServicesUp => {
                if self.s.phase == Phase::Active {
                    self.push(Effect::Check);
                }
            }
            Event::ServicesStopped(done) => self.stopped(done),
            Event::Checked(good) => self.checked(good),
            Event::Replication(word) => self.replication(word),
            Event::Position(position) => {
                self.s.position = position;
                array::told(self);
            }
            Event::Fence(answer) => claim::fence_answered(self, answer),
            Event::WitnessWon { reign, granted_ms } => claim::witness_won(self, reign, granted_ms),
            Event::WitnessLost { reign } => claim::witness_lost(self, reign),
            Event::WitnessHeld { left_ms } => {
                if let Some(claim) = &mut self.s.claim {
                    claim.retry_left_ms = left_ms.min(self.set.wait_ms());
                }
            }
            Event::WitnessRenewed(ask) => {
                if let Some((id, age)) = self.s.renew
                    && id == ask
                {
                    self.s.renew = None;
                    self.s.lease_left_ms = self.s.lease_left_ms.max(self.set.lease_ms.saturating_sub(age));
                }
            }
            Event::Reservation(mine) => array::reservation(self, mine),
            Event::PeerGone => self.s.gone = self.s.gone_deaf_ms == 0,
            Event::Carrier(up) => self.s.carrier = up,
            Event::ModemLines(up) => self.s.modem_lines = up,
            Event::Ping(answered) => self.s.ping = answered,
            Event::SetAside => {
                // The diverged data is safe for the merge: this copy may now be overwritten.
                (self.s.record.unshared, self.s.record.reign) = (false, 0);
                (self.s.whole, self.s.dirty, self.s.phase) = (false, true, Phase::Standby);
                self.s.diverged = false;
            }
            Event::Order(order) => self.order(order),
        }
    }

    fn order(&mut self, order: Order) {
        let refused = reasons(&self.s, self.set, order);
        if !refused.is_empty() {
            self.push(Effect::Refused(refused));
            return;
        }
        match order {
            Order::Standby => self.drain(),
            Order::Takeover => {}
            Order::Maintenance { for_ms } => self.s.maintenance_left_ms = for_ms.min(MAINTENANCE_MAX_MS),
            Order::MaintenanceEnd => self.s.maintenance_left_ms = 0,
            // HA.md "the administrator can force it, told what may be missing".
            Order::Force => claim::force(self),
            Order::GiveWay => self.push(Effect::KeepAside),
        }
    }

    /// Planned: clients are finished first, the lease is still kept.
    pub(crate) fn drain(&mut self) {
        self.s.phase = Phase::Stop;
        self.push(Effect::StopServices);
    }

    /// At once: nothing more is answered.
    pub(crate) fn stop(&mut self, why: Alarm) {
        if self.s.settling && self.s.mirror == Mirror::Held {
            (self.s.record.reign, self.s.record.unshared) = self.s.prior;
            self.s.dirty = true;
        }
        self.s.settling = false;
        self.s.claim = None;
        self.s.lapsed = why == Alarm::LeaseEnded;
        self.push(Effect::Writes(Writes::Held));
        self.push(Effect::AddressDown);
        self.s.address = false;
        if self.s.phase == Phase::Active {
            self.push(Effect::StopServices);
            self.s.phase = Phase::Stop;
        }
        self.alarm(why);
    }

    fn self_fence(&mut self) {
        // HA.md / issue: a failed stop ends in self-fencing, never in two.
        self.s.phase = Phase::Fenced;
        self.push(Effect::AddressDown);
        self.s.address = false;
        self.push(Effect::Writes(Writes::Held));
        self.alarm(Alarm::SelfFenced);
        self.push(Effect::SelfFence);
    }

    fn stopped(&mut self, done: bool) {
        if self.s.phase != Phase::Stop {
            return;
        }
        if !done {
            self.self_fence();
            return;
        }
        self.push(Effect::Writes(Writes::Held));
        self.push(Effect::AddressDown);
        self.s.address = false;
        self.push(Effect::Demote);
        self.s.phase = Phase::Demote;
    }

    fn demoted(&mut self, done: bool) {
        if self.s.phase != Phase::Demote {
            return;
        }
        if !done {
            self.self_fence();
            return;
        }
        let s = &mut self.s;
        (s.phase, s.mirror, s.replication) = (Phase::Standby, Mirror::Alone, Replication::Lost);
        (s.eligible, s.settling, s.claim, s.checked, s.restarts) = (false, false, None, false, 0);
        (s.lease_left_ms, s.ask, s.renew, s.resync_allowed, s.told) = (0, None, None, false, false);
        s.yield_left_ms = self.set.first_contact_ms;
    }

    /// HA.md "own reign stored -> storage promoted -> address -> announce -> services -> checked from outside -> alarm".
    fn promoted(&mut self, done: bool) {
        if self.s.phase != Phase::Promote {
            return;
        }
        let s = &mut self.s;
        if !done {
            // Nothing was written under the new reign: the peer may have it.
            (s.record.reign, s.record.unshared) = s.prior;
            (s.dirty, s.phase, s.eligible) = (true, Phase::Standby, false);
            s.yield_left_ms = self.set.first_contact_ms;
            self.alarm(Alarm::PromoteFailed);
            array::unreserve(self);
            return;
        }
        (s.phase, s.mirror, s.replication, s.address) = (Phase::Active, Mirror::Alone, Replication::Lost, true);
        (s.eligible, s.promising, s.told, s.resync_allowed) = (false, false, false, false);
        (s.worse_ms, s.active_ms, s.lapsed) = (None, 0, false);
        // 5 announcements, again after 1 s and 5 s.
        s.announce = (2, self.set.announce_ms);
        self.push(Effect::Writes(Writes::Alone));
        let expires_ms = self.rules.address_expires.then_some(self.set.lease_ms);
        self.push(Effect::Address { expires_ms });
        self.push(Effect::Announce);
        self.push(Effect::StartServices);
    }

    fn checked(&mut self, good: bool) {
        if self.s.phase != Phase::Active {
            return;
        }
        if good {
            if !self.s.checked {
                self.s.checked = true;
                self.alarm(Alarm::TookOver(self.s.proof.unwrap_or(Proof::Forced)));
            }
        } else if self.s.restarts < RESTARTS << self.s.passes {
            (self.s.restarts, self.s.restart_age_ms) = (self.s.restarts + 1, 0);
            self.push(Effect::RestartServices);
        } else if reasons(&self.s, self.set, Order::Standby).is_empty() {
            (self.s.passes, self.s.restart_age_ms) = ((self.s.passes + 1).min(PASSES_MAX), 0);
            self.alarm(Alarm::Switching);
            self.drain();
        } else {
            self.alarm_once(Alarm::ServicesFail);
            self.push(Effect::RestartServices);
        }
    }

    fn replication(&mut self, word: Replication) {
        match word {
            Replication::Lost if self.set.reservation => array::alone(self),
            Replication::Diverged if self.s.is_active() => self.alarm_once(Alarm::Conflict),
            Replication::Diverged => {
                self.s.diverged = true;
                claim::conflict(self);
            }
            Replication::CopyWhole => self.s.whole = true,
            Replication::CopyPartial => {
                self.s.whole = false;
                claim::withdraw_eligibility(self);
            }
            Replication::Behind | Replication::Complete => self.s.replication = word,
            Replication::Lost => {
                self.s.replication = word;
                self.s.resync_allowed = false;
                if !self.s.is_active() {
                    return;
                }
                match self.s.mirror {
                    Mirror::Synced => {
                        // The peer may know that it is current: no 250 until a proof (HA.md, first rule).
                        self.s.mirror = Mirror::Held;
                        self.push(Effect::Writes(if self.rules.peer_has_bytes { Writes::Held } else { Writes::Alone }));
                    }
                    Mirror::Granting => {
                        // Never granted: alone again, once "the peer may lack data" is back on disk.
                        self.s.mirror = Mirror::Alone;
                        (self.s.record.unshared, self.s.dirty, self.s.settling) = (true, true, true);
                        self.push(Effect::Writes(Writes::Held));
                    }
                    Mirror::Resync => self.s.mirror = Mirror::Alone,
                    Mirror::Alone | Mirror::Held => {}
                }
            }
        }
    }

    fn govern(&mut self, tick: bool) {
        match self.s.phase {
            Phase::Active => {
                array::govern_active(self);
                self.govern_active();
                crate::health::govern(self);
            }
            Phase::Store => {
                if self.s.stored && !self.s.dirty {
                    self.s.phase = Phase::Promote;
                    self.push(Effect::Promote);
                }
            }
            Phase::Boot | Phase::Standby | Phase::Claim | Phase::Wait => claim::govern_standby(self),
            Phase::Promote | Phase::Stop | Phase::Demote | Phase::Conflict | Phase::Fenced => {}
        }
        let lease = self.govern_lease();
        if tick && self.s.address && lease > 0 {
            let expires_ms = self.rules.address_expires.then_some(lease);
            self.push(Effect::Address { expires_ms });
        }
        // The hardware watchdog is fed only while this node may do what it does.
        if tick && self.s.phase != Phase::Fenced && (!self.s.address || lease > 0) {
            self.push(Effect::FeedWatchdog);
        }
    }

    /// How long this node may serve from now. HA.md "stops itself before the lease ends".
    fn govern_lease(&mut self) -> u32 {
        if !self.s.address || !self.s.needs_lease(self.set.leases()) || !self.rules.stop_at_lease_end {
            return self.set.lease_ms;
        }
        if self.s.lease_left_ms <= self.set.margin_ms / 2 {
            self.stop(Alarm::LeaseEnded);
            return 0;
        }
        // Early: at the witness this must be before the claim of a peer that merely cannot hear, which asks after lease + margin.
        if self.s.lease_left_ms <= self.set.lease_ms * 5 / 8 && self.s.renew.is_none_or(|(_, age)| age >= self.set.keepalive_ms) {
            self.s.seq = self.s.seq.saturating_add(1);
            self.s.renew = Some((self.s.seq, 0));
            self.push(Effect::WitnessRenew { reign: self.s.record.reign, ask: self.s.seq });
        }
        self.s.lease_left_ms
    }

    fn govern_active(&mut self) {
        let stored = self.s.stored && !self.s.dirty;
        if self.s.settling && stored {
            self.s.settling = false;
            if self.s.mirror == Mirror::Held {
                self.alarm(Alarm::Alone(self.s.proof.unwrap_or(Proof::Forced)));
            }
            (self.s.mirror, self.s.told) = (Mirror::Alone, false);
            self.push(Effect::Writes(Writes::Alone));
        }
        match (self.s.mirror, self.s.replication) {
            (Mirror::Alone, Replication::Behind) if !self.s.settling => self.s.mirror = Mirror::Resync,
            (Mirror::Alone | Mirror::Resync, Replication::Complete) if !self.s.settling && !array::misses_peer(self) => {
                // The peer has every byte. Before it is told so, this node's claim to the newest data must be gone from the disk:
                // the peer may take over the moment it knows, and this node must then not believe an old record.
                self.s.mirror = Mirror::Granting;
                (self.s.record.unshared, self.s.dirty) = (false, true);
                self.push(Effect::Writes(Writes::Mirrored));
            }
            (Mirror::Granting, _) if stored => {
                self.s.mirror = Mirror::Synced;
                // Counted from before the first grant leaves: the peer's compare-and-set can only come later.
                self.s.lease_left_ms = self.set.lease_ms;
                self.alarm(Alarm::Synced);
            }
            (Mirror::Held, Replication::Complete) if !self.s.settling => {
                (self.s.mirror, self.s.claim, self.s.told) = (Mirror::Synced, None, false);
                self.push(Effect::Writes(Writes::Mirrored));
            }
            (Mirror::Held, _) if !self.s.settling => claim::govern_mirror(self),
            _ => {}
        }
        if self.s.announce.0 > 0 && self.s.announce.1 == 0 {
            let left = self.s.announce.0 - 1;
            self.s.announce = (left, if left > 0 { self.set.announce_ms.saturating_mul(4) } else { 0 });
            self.push(Effect::Announce);
        }
        self.allow_resync();
    }

    /// HA.md "neither side is overwritten": the peer's copy only when it holds nothing that this one lacks.
    fn allow_resync(&mut self) {
        if self.s.mirror != Mirror::Alone || self.s.settling || self.s.resync_allowed {
            return;
        }
        let Some(peer) = self.s.peer_within(self.set.lease_ms) else { return };
        if peer.flags.has(Flags::UNSHARED) || peer.state == NodeState::Conflict {
            self.alarm_once(Alarm::Conflict);
        } else if matches!(peer.state, NodeState::StandbyIneligible | NodeState::StandbyEligible | NodeState::Maintenance) {
            self.s.resync_allowed = true;
            self.push(Effect::Resync);
        }
    }

    fn store(&mut self) {
        if self.s.dirty {
            (self.s.dirty, self.s.stored) = (false, false);
            self.s.record.writes = self.s.record.writes.saturating_add(1);
            self.push(Effect::Store(self.s.record));
        }
    }

    fn frame(&self, link: Link) -> Frame {
        let s = &self.s;
        let heard = s.peer.is_some();
        // A claiming node grants nothing: what it sent last is what its waiting time is counted from.
        let grants = s.phase == Phase::Standby && s.peer_within(self.set.lease_ms).is_some_and(|peer| peer.state.is_active());
        Frame {
            link,
            node: self.set.node,
            state: s.node_state(),
            boot: s.record.boot,
            seq: s.seq,
            echo_boot: s.peer_boot,
            echo_seq: if heard { s.newest_seq } else { 0 },
            reign: s.record.reign,
            ballot: s.claim.map_or(s.promised, |claim| claim.ballot),
            position: s.position,
            lease_ms: if grants { u16::try_from(self.set.lease_ms).unwrap_or(u16::MAX) } else { 0 },
            health: self.set.health,
            flags: Flags::default()
                .with(Flags::GRANT, s.is_active() && s.mirror == Mirror::Synced)
                .with(Flags::CLAIM, s.claim.is_some())
                .with(Flags::PROMISE, s.promising && s.claim.is_none() && matches!(s.phase, Phase::Standby | Phase::Conflict))
                .with(Flags::WON, s.phase == Phase::Wait)
                .with(Flags::UNSHARED, s.record.unshared)
                .with(Flags::INCONSISTENT, !s.whole)
                .with(Flags::PING, s.ping),
            config: self.set.config,
        }
    }

    fn send(&mut self) {
        if !self.s.live || self.s.phase == Phase::Fenced {
            return;
        }
        for link in Link::ALL {
            if self.s.send_left_ms[link.index()] > 0 || self.s.seq == u32::MAX {
                continue;
            }
            let period = if link == Link::Serial { self.set.serial_keepalive_ms } else { self.set.keepalive_ms };
            self.s.send_left_ms[link.index()] = period;
            self.s.seq += 1;
            let frame = self.frame(link);
            if frame.lease_ms > 0 {
                self.s.granted_age_ms = 0;
            }
            // One frame at a time asks for a lease; its age is what the answer is short of.
            if self.s.is_active() && self.s.ask.is_none_or(|(_, age)| age >= self.set.lease_ms / 2) {
                self.s.ask = Some((self.s.seq, 0));
            }
            self.push(Effect::Send(frame));
        }
    }
}
