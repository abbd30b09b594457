//! One copy of the data that two nodes can reach: an array with exclusive reservations, or a directory with a lock.
//!
//! Contract: a reservation is a proof only for a claim whose grounds hold, and on an array it is the only proof beside the peer's own
//! word and the administrator's: fencing and evidence merely say that it can be had now. Two kinds: one that *preempts* takes the
//! disks from a living holder, so it is asked for as late as a power switch is used; one that *excludes* (a lock) is given only when
//! no process of the peer that may write is left, so asking costs nothing and is done as soon as the peer is missed, and at the
//! moment of the grant, so that a driver may wait on it. Either way the storage is promoted under it, so nobody else writes, and
//! no lease of a witness is needed.
//!
//! There is no mirror that could be lost. An active that no longer hears its peer writes down that it is alone, so that it may start
//! alone after a boot, until the array itself says that somebody wrote later: beside the reservation stands the last reign, which
//! the driver tells as the position. That both wrote it down, one after the other, is no conflict.

use crate::claim::{self, prove, seeks, silent_ms, warn_ms};
use crate::frame::Frame;
use crate::state::{Alarm, Effect, Grounds, Mirror, Phase, Proof, Replication, Writes};
use crate::step::Mind;

/// Whether `proof` is one here. If not, it lets ask for the reservation now.
pub(crate) fn accepts(mind: &mut Mind<'_>, proof: Proof) -> bool {
    if !mind.set.reservation || matches!(proof, Proof::Release | Proof::Reservation | Proof::Forced) {
        return true;
    }
    if mind.s.reserve_left_ms == 0 {
        reserve(mind);
    }
    false
}

/// The driver told the last reign on the array: before the first frame, or later.
pub(crate) fn told(mind: &mut Mind<'_>) {
    if !mind.set.reservation || holds(mind) {
        return;
    }
    if mind.s.phase == Phase::Conflict && !mind.s.live {
        // A node without a record and with data need not ask whose they are.
        mind.s.phase = Phase::Boot;
    }
    if mind.s.record.unshared && last_reign(mind) > mind.s.record.reign {
        (mind.s.record.unshared, mind.s.dirty) = (false, true);
    }
}

/// What this node wrote alone is where the active writes now.
pub(crate) fn heard(mind: &mut Mind<'_>, frame: &Frame) {
    if mind.set.reservation && mind.s.record.unshared && !holds(mind) && frame.state.is_active() {
        (mind.s.record.unshared, mind.s.dirty) = (false, true);
    }
}

/// This node became eligible: a driver that can wait on the lock does so from now on.
pub(crate) fn granted(mind: &mut Mind<'_>) {
    if mind.set.reservation_excludes {
        reserve(mind);
    }
}

pub(crate) fn reserve(mind: &mut Mind<'_>) {
    (mind.s.reserving, mind.s.reserve_left_ms) = (true, mind.set.retry_ms);
    mind.push(Effect::Reserve);
}

/// Asks for a lock: at once when the peer is missed, and again as soon as the last answer is a keepalive old.
pub(crate) fn ask(mind: &mut Mind<'_>, grounds: Grounds) {
    let missed = mind.s.gone || silent_ms(mind) >= warn_ms(mind);
    if mind.set.reservation_excludes && grounds != Grounds::Agreed && missed && mind.s.reserve_left_ms == 0 {
        reserve(mind);
    }
}

/// The array's own word.
pub(crate) fn reservation(mind: &mut Mind<'_>, mine: bool) {
    let answer = core::mem::take(&mut mind.s.reserving);
    let excludes = mind.set.reservation_excludes;
    mind.s.reserve_left_ms = mind.s.reserve_left_ms.min(mind.set.keepalive_ms);
    if mine {
        if excludes && !seeks(mind) {
            unasked(mind);
        }
        if seeks(mind) {
            above_the_array(mind);
            prove(mind, Proof::Reservation);
        } else if !holds(mind) {
            unreserve(mind);
        }
    } else if mind.s.address && mind.set.reservation && !(excludes && answer) {
        // The disks belong to the peer: nothing that this node says is true any more. (A lock that was refused before this node came to
        // it by other means is no loss.)
        mind.s.mirror = Mirror::Alone;
        mind.push(Effect::Writes(Writes::Held));
        mind.stop(Alarm::Deposed);
        (mind.s.record.unshared, mind.s.dirty) = (false, true);
    }
}

/// The lock came while nothing was asked: what would be asked for now?
fn unasked(mind: &mut Mind<'_>) {
    let s = &mind.s;
    let free = matches!(s.phase, Phase::Boot | Phase::Standby | Phase::Claim) && s.live && s.whole && s.maintenance_left_ms == 0;
    let grounds = if s.eligible || !mind.rules.reservation_needs_right {
        Grounds::Eligible
    } else if claim::newest(mind) {
        Grounds::Newest
    } else {
        return;
    };
    if free {
        claim::start(mind, grounds);
    }
}

/// Reign of the last that was promoted on the array.
pub(crate) fn last_reign(mind: &Mind<'_>) -> u32 {
    if mind.set.reservation { u32::try_from(mind.s.position).unwrap_or(u32::MAX - 1) } else { 0 }
}

/// No reign is used twice: the array knows the last one, though its holder was never heard.
fn above_the_array(mind: &mut Mind<'_>) {
    let least = last_reign(mind).saturating_add(1);
    if let Some(claim) = &mut mind.s.claim {
        claim.ballot = claim.ballot.max(least);
        mind.s.claimed = mind.s.claimed.max(claim.ballot);
    }
}

/// On the way to serving, serving, or not yet done with it.
fn holds(mind: &Mind<'_>) -> bool {
    matches!(mind.s.phase, Phase::Store | Phase::Promote | Phase::Active | Phase::Stop | Phase::Demote)
}

/// The peer may need the lock.
pub(crate) fn unreserve(mind: &mut Mind<'_>) {
    if mind.set.reservation_excludes {
        mind.push(Effect::Unreserve);
    }
}

/// An active that lost its peer, by the driver's word or because it is silent: nothing is missing here, and nothing is asked for.
pub(crate) fn alone(mind: &mut Mind<'_>) {
    let s = &mut mind.s;
    (s.replication, s.resync_allowed, s.settling, s.claim) = (Replication::Lost, false, false, None);
    if s.phase != Phase::Active || s.mirror == Mirror::Alone {
        return;
    }
    s.mirror = Mirror::Alone;
    s.dirty |= !s.record.unshared;
    s.record.unshared = true;
    mind.push(Effect::Writes(Writes::Alone));
}

/// An active on an array that no longer hears its peer.
pub(crate) fn govern_active(mind: &mut Mind<'_>) {
    if mind.set.reservation && mind.s.mirror != Mirror::Alone && silent_ms(mind) >= mind.set.lease_ms {
        alone(mind);
    }
}

/// An array is complete at any time; nobody is there to be granted what it holds while the peer is silent.
pub(crate) fn misses_peer(mind: &Mind<'_>) -> bool {
    mind.set.reservation && silent_ms(mind) >= mind.set.lease_ms
}
