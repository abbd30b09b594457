//! One copy of the data that two nodes can reach: an array with exclusive reservations, or a directory with a lock.
//!
//! Contract: a reservation is a proof only for a claim whose grounds hold. Two kinds: one that *preempts* takes the disks from a living
//! holder, so it is asked for as late as a power switch is used; one that *excludes* (a lock) is given only when no process of the
//! peer that may write is left, so asking costs nothing and is done as soon as the peer is missed, and at the moment of the
//! grant, so that a driver may wait on it.
//!
//! There is no mirror that could be lost. What stands for it is the peer's voice: an active that no longer hears its peer writes
//! down that it is alone, so that it may start alone after a boot, and its own hold on the array is the proof for that. Both may
//! have written that down, one after the other: with one copy that is no conflict, and the active is right.

use crate::claim::{self, prove, seeks, silent_ms, start as claim_start, warn_ms};
use crate::frame::Frame;
use crate::state::{Alarm, Effect, Grounds, Mirror, Phase, Replication, Writes};
use crate::step::Mind;

/// A node without a record and with data does not have to ask whose they are.
pub(crate) fn start(mind: &mut Mind<'_>) {
    if mind.set.reservation && mind.s.phase == Phase::Conflict && !mind.s.live {
        mind.s.phase = Phase::Boot;
    }
}

/// What this node wrote alone is where the active writes now.
pub(crate) fn heard(mind: &mut Mind<'_>, frame: &Frame) {
    let s = &mut mind.s;
    let idle = matches!(s.phase, Phase::Boot | Phase::Standby | Phase::Claim | Phase::Conflict);
    if mind.set.reservation && s.record.unshared && idle && frame.state.is_active() {
        (s.record.unshared, s.dirty) = (false, true);
    }
}

/// This node became eligible: a driver that can wait on the lock does so from now on.
pub(crate) fn granted(mind: &mut Mind<'_>) {
    if mind.set.reservation_excludes {
        reserve(mind);
    }
}

fn reserve(mind: &mut Mind<'_>) {
    (mind.s.reserving, mind.s.reserve_left_ms) = (true, mind.set.retry_ms);
    mind.push(Effect::Reserve);
}

/// Asks for a lock: at once when the peer is missed, and again as soon as the last answer is a keepalive old.
pub(crate) fn ask(mind: &mut Mind<'_>, grounds: Grounds) {
    let missed = mind.s.gone || silent_ms(mind) >= warn_ms(mind) || grounds == Grounds::Mirror;
    if missed && mind.s.reserve_left_ms == 0 {
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
            prove(mind, crate::state::Proof::Reservation);
        } else if excludes && !holds(mind) {
            unreserve(mind);
        }
    } else if mind.s.address && mind.set.reservation && !(excludes && answer) {
        // The disks belong to the peer: nothing that this node says is true any more. (A lock that was refused before this node came to
        // it by other means is no loss.)
        mind.s.mirror = Mirror::Alone;
        mind.push(Effect::Writes(Writes::Held));
        mind.stop(Alarm::Deposed);
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
        claim_start(mind, grounds);
    }
}

/// No reign is used twice: the array knows the last one, though its holder was never heard.
fn above_the_array(mind: &mut Mind<'_>) {
    let last = u32::try_from(mind.s.position).unwrap_or(u32::MAX - 1);
    if let Some(claim) = &mut mind.s.claim {
        claim.ballot = claim.ballot.max(last.saturating_add(1));
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

/// An active on an array that no longer hears its peer.
pub(crate) fn govern_active(mind: &mut Mind<'_>) {
    let granted = matches!(mind.s.mirror, Mirror::Resync | Mirror::Granting | Mirror::Synced);
    if mind.set.reservation && granted && silent_ms(mind) >= mind.set.lease_ms {
        mind.replication(Replication::Lost);
    }
}
