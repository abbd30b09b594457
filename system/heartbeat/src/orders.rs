//! Orders of the administrator, each followed or refused with all reasons at once.
//!
//! Contract: [`reasons`] changes nothing, so that a page can show beforehand what an order would meet.

use crate::frame::{Flags, NodeState};
use crate::settings::Settings;
use crate::state::{Mirror, Phase, State};

/// An order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Order {
    /// This node becomes standby, its peer takes over.
    Standby,
    /// This node takes over: the daemon sends [`Order::Standby`] to the peer; here only the refusals are found.
    Takeover,
    /// Nothing is taken over or handed over by itself until the time is over.
    Maintenance {
        /// At most a week is taken.
        for_ms: u32,
    },
    /// Ends it.
    MaintenanceEnd,
    /// Take over without a proof; what may be missing was told. The administrator answers for the peer being off.
    Force,
    /// In a conflict: this node's data is kept aside and then overwritten by the peer's.
    GiveWay,
}

/// Why an order is not followed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum Reason {
    /// This node is not active.
    NotActive = 1,
    /// This node is active already.
    AlreadyActive = 2,
    /// The peer was not heard.
    PeerSilent = 4,
    /// The peer does not hold every byte.
    PeerNotCurrent = 8,
    /// This node does not hold every byte.
    NotCurrent = 16,
    /// A maintenance runs.
    Maintenance = 32,
    /// A conflict waits for an answer.
    Conflict = 64,
    /// A switch is under way.
    Busy = 128,
    /// There is no conflict.
    NoConflict = 256,
    /// This copy is in the middle of a resync.
    Resync = 512,
    /// The peer is active: two would serve.
    PeerActive = 1024,
    /// No maintenance runs.
    NoMaintenance = 2048,
    /// A duration of nothing, or of more than a week.
    Duration = 4096,
}

impl Reason {
    const ALL: [Self; 13] = [
        Self::NotActive,
        Self::AlreadyActive,
        Self::PeerSilent,
        Self::PeerNotCurrent,
        Self::NotCurrent,
        Self::Maintenance,
        Self::Conflict,
        Self::Busy,
        Self::NoConflict,
        Self::Resync,
        Self::PeerActive,
        Self::NoMaintenance,
        Self::Duration,
    ];
}

/// A set of [`Reason`]s.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reasons(u16);

impl Reasons {
    /// No reason: the order can be followed.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each reason once.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL.into_iter().filter(move |reason| self.0 & *reason as u16 != 0)
    }

    fn add(&mut self, reason: Reason, holds: bool) {
        if holds {
            self.0 |= reason as u16;
        }
    }
}

/// One week.
pub(crate) const MAINTENANCE_MAX_MS: u32 = 7 * 24 * 3600 * 1000;

/// Every reason why `order` cannot be followed now.
#[must_use]
pub fn reasons(state: &State, settings: &Settings, order: Order) -> Reasons {
    let mut out = Reasons::default();
    let peer = state.peer_within(settings.lease_ms);
    let busy = matches!(
        state.phase,
        Phase::Claim | Phase::Wait | Phase::Store | Phase::Promote | Phase::Stop | Phase::Demote | Phase::Fenced
    );
    match order {
        Order::Standby => {
            out.add(Reason::NotActive, state.phase != Phase::Active && !busy);
            out.add(Reason::PeerSilent, peer.is_none());
            out.add(
                Reason::PeerNotCurrent,
                state.mirror != Mirror::Synced || peer.is_none_or(|peer| peer.state != NodeState::StandbyEligible),
            );
            out.add(Reason::Conflict, peer.is_some_and(|peer| peer.state == NodeState::Conflict));
            out.add(Reason::Maintenance, state.maintenance_left_ms > 0);
            out.add(Reason::Busy, busy);
        }
        Order::Takeover => {
            out.add(Reason::AlreadyActive, state.phase == Phase::Active);
            out.add(Reason::PeerSilent, peer.is_none());
            out.add(Reason::NotCurrent, !state.eligible && state.phase != Phase::Active);
            out.add(Reason::Resync, !state.whole);
            out.add(Reason::Conflict, state.phase == Phase::Conflict);
            out.add(Reason::Maintenance, state.maintenance_left_ms > 0);
            out.add(Reason::Busy, busy);
        }
        Order::Maintenance { for_ms } => out.add(Reason::Duration, for_ms == 0 || for_ms > MAINTENANCE_MAX_MS),
        Order::MaintenanceEnd => out.add(Reason::NoMaintenance, state.maintenance_left_ms == 0),
        Order::Force => {
            out.add(Reason::AlreadyActive, state.phase == Phase::Active);
            out.add(Reason::PeerActive, peer.is_some_and(|peer| peer.state.is_active()));
            // A claim that finds no proof is exactly what is forced; later steps end by themselves.
            out.add(Reason::Busy, busy && state.phase != Phase::Claim);
            out.add(Reason::Resync, !state.whole);
        }
        Order::GiveWay => {
            out.add(Reason::NoConflict, state.phase != Phase::Conflict);
            out.add(Reason::PeerSilent, peer.is_none());
            out.add(Reason::PeerNotCurrent, peer.is_some_and(|peer| peer.flags.has(Flags::INCONSISTENT)));
        }
    }
    out
}
