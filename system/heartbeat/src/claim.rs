//! How a reign is won, and how one gives it up.
//!
//! Contract: a node becomes active only through [`prove`], and [`prove`] only runs for a claim whose grounds still hold.
//!
//! Why two never serve without any clock: a claim asks for a *ballot*, a reign above every reign that the claimant knows and never
//! asked for twice in a boot. A peer that promises it is not active, gives up its own claim and its eligibility; from then on
//! it becomes active only through a claim of its own with a higher ballot, which needs the same promise back. A promise is told in
//! every later frame, so a lost frame costs time only; a late one finds no claim with its ballot; one from before a restart
//! names an old boot. That is the "release" of HA.md. Fenced, reservation and evidence stand for a peer that has no power or no disk and
//! so comes back without eligibility. The witness compares the reigns themselves.

use crate::array;
use crate::frame::{Flags, Frame, Link, NodeState};
use crate::state::{Alarm, Claim, Effect, FenceAnswer, Grounds, Peer, Phase, Proof};
use crate::step::Mind;

/// Takes in an authentic frame.
pub(crate) fn heard(mind: &mut Mind<'_>, frame: &Frame) {
    let s = &mut mind.s;
    let link = frame.link.index();
    if frame.node == mind.set.node || frame.boot == 0 {
        return;
    }
    // Replays: boot ids only grow, sequences grow within a boot and a link.
    if frame.boot < s.peer_boot || (frame.boot == s.peer_boot && frame.seq <= s.last_seq[link]) {
        s.replays = s.replays.saturating_add(1);
        return;
    }
    if s.gone {
        // Somebody does listen. If it did all the time (one socket of several is closed), that hint is not taken again and again.
        s.gone = false;
        s.gone_deaf_ms = if frame.boot == s.peer_boot { mind.set.first_contact_ms } else { 0 };
    }
    if frame.boot > s.peer_boot {
        (s.peer_boot, s.last_seq, s.newest_seq, s.peer) = (frame.boot, [0; 3], 0, None);
        (s.record.peer_boot, s.dirty) = (frame.boot, true);
        s.send_left_ms = [0; 3];
    }
    s.last_seq[link] = frame.seq;
    s.link_silent_ms[link] = 0;
    if frame.echo_boot > s.record.boot {
        // The peer knows a later boot of this node than its own record does: the record was lost. Go on above it.
        (s.record.boot, s.dirty, s.live) = (frame.echo_boot.saturating_add(1), true, false);
        return;
    }
    if frame.echo_boot != s.record.boot {
        return;
    }
    // A slower link brings old news: a sign of life of the link, nothing more.
    if frame.seq < s.newest_seq {
        return;
    }
    s.newest_seq = frame.seq;
    s.peer = Some(Peer { frame: *frame, silent_ms: 0 });
    s.lapsed &= !mind.rules.lapse_ends || (frame.reign <= s.record.reign && !frame.state.is_active());
    if frame.state == NodeState::StandbyIneligible {
        // Left to the peer, which cannot: its promotion failed, or it lacks data.
        s.yield_left_ms = s.yield_left_ms.min(mind.set.retry_ms);
    }
    array::heard(mind, frame);
    lease(mind, frame);
    if mind.s.phase == Phase::Boot {
        // Wait-for-all: the peer is here, and what it says was written for this boot.
        mind.s.phase = Phase::Standby;
    }
    if meets_conflict(mind, frame) {
        return;
    }
    if frame.state.is_active() {
        heard_active(mind, frame);
    }
    if frame.flags.has(Flags::CLAIM) {
        heard_claim(mind, frame);
    }
    heard_promise(mind, frame);
}

fn lease(mind: &mut Mind<'_>, frame: &Frame) {
    let s = &mut mind.s;
    if let Some((ask, age)) = s.ask
        && s.is_active()
        && frame.lease_ms > 0
        && frame.echo_seq >= ask
    {
        s.ask = None;
        let granted = u32::from(frame.lease_ms).min(mind.set.lease_ms);
        s.lease_left_ms = s.lease_left_ms.max(granted.saturating_sub(age));
    }
}

/// HA.md "when two nodes meet with diverged data". Both say that they hold writes which the other may lack.
fn meets_conflict(mind: &mut Mind<'_>, frame: &Frame) -> bool {
    let both = mind.s.record.unshared && frame.flags.has(Flags::UNSHARED);
    // The other gave way: its copy is to be overwritten.
    mind.s.diverged &= !frame.flags.has(Flags::INCONSISTENT);
    match mind.s.phase {
        Phase::Standby | Phase::Claim if both => conflict(mind),
        Phase::Conflict if !both && !mind.s.diverged && mind.s.record.writes > 0 && mind.s.record.reign > 0 => {
            mind.s.phase = Phase::Standby;
        }
        _ => {}
    }
    mind.s.phase == Phase::Conflict && !frame.state.is_active()
}

/// Waits for the administrator.
pub(crate) fn conflict(mind: &mut Mind<'_>) {
    if mind.s.phase != Phase::Conflict {
        mind.s.claim = None;
        mind.s.phase = Phase::Conflict;
        withdraw_eligibility(mind);
        mind.alarm(Alarm::Conflict);
    }
}

/// HA.md "withdrawn at once".
pub(crate) fn withdraw_eligibility(mind: &mut Mind<'_>) {
    mind.s.dirty |= mind.s.record.eligible;
    mind.s.lapsed &= !mind.rules.lapse_ends;
    (mind.s.eligible, mind.s.record.eligible) = (false, false);
}

fn heard_active(mind: &mut Mind<'_>, frame: &Frame) {
    let s = &mut mind.s;
    if s.is_active() {
        // Never two: the lower reign goes.
        let older = (s.record.reign, frame.node) < (frame.reign, mind.set.node);
        if older && s.address {
            mind.stop(Alarm::Deposed);
        }
        return;
    }
    match s.phase {
        Phase::Claim => {
            (s.claim, s.phase) = (None, Phase::Standby);
        }
        Phase::Standby => {}
        // Won at the witness or proven: the other is on its way down, or its frame was on its way.
        _ => return,
    }
    // An answer at once keeps the active's lease young over a slow link.
    s.send_left_ms[frame.link.index()] = 0;
    let current = frame.flags.has(Flags::GRANT) && s.whole && !s.record.unshared && frame.reign >= s.record.reign;
    if current && (!s.eligible || s.record.reign != frame.reign) {
        (s.eligible, s.record.eligible) = (true, true);
        (s.record.reign, s.dirty) = (frame.reign, true);
        array::granted(mind);
    } else if !current && s.eligible {
        withdraw_eligibility(mind);
    }
}

/// This node's data against the frame's: whole, reign, position, and who was alone (it promises nothing, so it must be the one).
fn data_order(mind: &Mind<'_>, frame: &Frame) -> core::cmp::Ordering {
    let mine = (mind.s.whole, mind.s.record.reign, mind.s.position, mind.s.record.unshared);
    mine.cmp(&(!frame.flags.has(Flags::INCONSISTENT), frame.reign, frame.position, frame.flags.has(Flags::UNSHARED)))
}

/// Which of two idle nodes should serve. The ping is a hint between equals, HA.md "never a proof".
fn better(mind: &Mind<'_>, frame: &Frame) -> bool {
    let hint = (mind.s.ping, frame.node).cmp(&(frame.flags.has(Flags::PING), mind.set.node));
    data_order(mind, frame).then(hint).is_gt()
}

fn heard_claim(mind: &mut Mind<'_>, frame: &Frame) {
    let won = frame.flags.has(Flags::WON);
    match mind.s.phase {
        // The witness decided; what this node still does, it must not.
        Phase::Active | Phase::Stop if won && frame.ballot > mind.s.record.reign && mind.s.address => mind.stop(Alarm::Deposed),
        Phase::Standby | Phase::Claim | Phase::Conflict => {}
        _ => return,
    }
    if mind.s.is_active() || (mind.s.phase == Phase::Conflict && !frame.state.is_active()) {
        return;
    }
    let above = frame.ballot >= mind.s.promised && frame.ballot > mind.s.record.reign;
    let bound = won || frame.state.is_active();
    let willing = if bound {
        true
    } else if mind.s.phase == Phase::Claim {
        !better(mind, frame)
    } else {
        // HA.md "a standby that hears of newer data than its own does not take over, it hands over": ours is newer, it will.
        data_order(mind, frame).is_le()
    };
    if !above || !willing || mind.s.record.unshared {
        return;
    }
    mind.s.promised = frame.ballot;
    mind.s.promising = true;
    if mind.s.phase == Phase::Claim {
        (mind.s.claim, mind.s.phase) = (None, Phase::Standby);
    }
    withdraw_eligibility(mind);
}

fn heard_promise(mind: &mut Mind<'_>, frame: &Frame) {
    let Some(claim) = mind.s.claim else { return };
    if frame.flags.has(Flags::PROMISE) && frame.ballot == claim.ballot {
        prove(mind, Proof::Release);
    } else if claim.ballot <= frame.reign.max(frame.ballot) && !frame.flags.has(Flags::CLAIM) && mind.s.phase != Phase::Wait {
        // The peer knows a reign that high already: ask for a higher one.
        let retry_left_ms = claim.retry_left_ms;
        start(mind, claim.grounds);
        if let Some(claim) = &mut mind.s.claim {
            claim.retry_left_ms = retry_left_ms;
        }
    }
}

pub(crate) fn start(mind: &mut Mind<'_>, grounds: Grounds) {
    let array = array::last_reign(mind);
    let s = &mut mind.s;
    let peer = s.peer.map_or(0, |peer| peer.frame.reign.max(peer.frame.ballot));
    let ballot = s.record.reign.max(s.promised).max(s.claimed).max(peer).max(array).saturating_add(1);
    (s.claimed, s.promising) = (ballot, false);
    s.claim = Some(Claim { ballot, grounds, retry_left_ms: 0, off: None });
    if grounds != Grounds::Mirror {
        s.phase = Phase::Claim;
    }
}

/// The only way to a reign.
pub(crate) fn prove(mind: &mut Mind<'_>, proof: Proof) {
    if !array::accepts(mind, proof) {
        return;
    }
    let s = &mut mind.s;
    let Some(claim) = s.claim.take() else { return };
    s.prior = (s.record.reign, s.record.unshared);
    (s.record.reign, s.record.unshared, s.dirty) = (claim.ballot, true, true);
    (s.proof, s.lapsed) = (Some(proof), false);
    if claim.grounds == Grounds::Mirror {
        s.settling = true;
    } else {
        (s.phase, s.eligible, s.record.eligible) = (Phase::Store, false, false);
    }
}

/// The administrator's word.
pub(crate) fn force(mind: &mut Mind<'_>) {
    start(mind, Grounds::Newest);
    prove(mind, Proof::Forced);
}

pub(crate) fn silent_ms(mind: &Mind<'_>) -> u32 {
    mind.s.peer.map_or(mind.s.up_ms, |peer| peer.silent_ms)
}

/// Only the serial line left: its frames are rarer.
pub(crate) fn warn_ms(mind: &Mind<'_>) -> u32 {
    let fast = [Link::Eth1, Link::Lan].iter().any(|link| mind.s.link_silent_ms[link.index()] < mind.set.lease_ms);
    if fast { mind.set.warn_ms } else { mind.set.warn_ms.max(mind.set.serial_keepalive_ms.saturating_mul(2)) }
}

/// Boot, standby, claim, wait.
pub(crate) fn govern_standby(mind: &mut Mind<'_>) {
    if !mind.s.live {
        return;
    }
    match mind.s.phase {
        Phase::Boot | Phase::Standby => {
            consider(mind);
            // Only a lock is asked for in the same breath.
            if let (Phase::Claim, Some(claim)) = (mind.s.phase, mind.s.claim) {
                array::ask(mind, claim.grounds);
            }
        }
        Phase::Claim => {
            let silent = silent_ms(mind) >= mind.set.lease_ms;
            let lost = match mind.s.claim.map(|claim| claim.grounds) {
                Some(Grounds::Eligible) => !mind.s.eligible,
                Some(Grounds::Newest) => !mind.s.record.unshared && mind.rules.wait_for_all,
                Some(Grounds::Lapsed) => !mind.s.lapsed,
                Some(Grounds::Agreed) => silent,
                Some(Grounds::Mirror) | None => true,
            };
            let newer = !mind.s.gone && mind.s.peer_within(mind.set.warn_ms).is_some_and(|peer| data_order(mind, &peer).is_lt());
            if lost || newer || !mind.s.whole || mind.s.maintenance_left_ms > 0 {
                (mind.s.claim, mind.s.phase) = (None, Phase::Standby);
                mind.s.rest_left_ms = mind.set.keepalive_ms;
            } else {
                pursue(mind);
            }
        }
        Phase::Wait if mind.s.wait_left_ms == 0 => prove(mind, Proof::Witness),
        _ => {}
    }
}

fn consider(mind: &mut Mind<'_>) {
    let s = &mind.s;
    if s.maintenance_left_ms > 0 || s.rest_left_ms > 0 || !s.whole {
        return;
    }
    if let Some(peer) = s.peer_within(warn_ms(mind))
        && !s.gone
    {
        let busy = peer.state == NodeState::TakingOver && !peer.flags.has(Flags::CLAIM);
        if peer.state.is_active() || peer.state == NodeState::Conflict || busy || data_order(mind, &peer).is_lt() {
            return;
        }
        if s.eligible {
            start(mind, Grounds::Eligible);
        } else if s.yield_left_ms == 0 && silent_ms(mind) < mind.set.lease_ms && better(mind, &peer) {
            start(mind, Grounds::Agreed);
        }
        return;
    }
    if s.eligible {
        start(mind, Grounds::Eligible);
    } else if newest(mind) {
        start(mind, Grounds::Newest);
    } else if s.lapsed && silent_ms(mind) >= mind.set.lease_ms && mind.set.witness && !mind.set.evidence && !mind.set.reservation
    {
        // Fenced this node would be off; released it would have promised; at the witness the reigns are compared. By evidence or by the
        // array alone the peer may serve without this node or the witness knowing: then it waits to hear it.
        start(mind, Grounds::Lapsed);
    }
}

/// HA.md "unless its own record shows that it holds the newest data (it was active alone in the last reign)".
pub(crate) fn newest(mind: &Mind<'_>) -> bool {
    let s = &mind.s;
    let waited = s.up_ms >= mind.set.first_contact_ms && silent_ms(mind) >= mind.set.lease_ms;
    waited && s.yield_left_ms == 0 && (s.record.unshared || (s.phase == Phase::Boot && !mind.rules.wait_for_all))
}

/// An active that lost its mirror.
pub(crate) fn govern_mirror(mind: &mut Mind<'_>) {
    if mind.s.claim.is_none() {
        start(mind, Grounds::Mirror);
    }
    pursue(mind);
}

/// The proofs that need no word of the peer.
fn pursue(mind: &mut Mind<'_>) {
    let Some(claim) = mind.s.claim else { return };
    let silent = silent_ms(mind);
    if claim.grounds == Grounds::Agreed {
        return;
    }
    if !mind.rules.gone_is_no_proof && mind.s.gone {
        return prove(mind, Proof::Evidence);
    }
    array::ask(mind, claim.grounds);
    if silent < mind.set.lease_ms {
        return;
    }
    // HA.md "evidence: eth1 carrier gone and the serial modem lines low and the LAN path silent for the waiting time".
    let dark = !mind.s.carrier && !mind.s.modem_lines && mind.s.link_silent_ms[Link::Lan.index()] >= mind.set.lease_ms;
    if mind.set.evidence && dark {
        peer_is_off(mind, Proof::Evidence);
        if mind.s.claim.is_none() {
            return;
        }
    }
    if !mind.rules.ping_is_no_proof && mind.s.ping {
        return prove(mind, Proof::Evidence);
    }
    if claim.retry_left_ms > 0 {
        return;
    }
    if claim.grounds == Grounds::Mirror {
        mind.alarm_once(Alarm::MailWaits);
    }
    // Both may be looking for a proof: the active shoots first.
    let head_start = if claim.grounds == Grounds::Mirror { 0 } else { mind.set.margin_ms };
    if silent < mind.set.lease_ms.saturating_add(head_start) {
        return;
    }
    if let Some(claim) = &mut mind.s.claim {
        claim.retry_left_ms = mind.set.retry_ms;
    }
    if mind.set.leases() {
        mind.push(Effect::WitnessClaim { knows: mind.s.record.reign, new: claim.ballot });
    }
    // Whoever merely was the last on an array, as far as it knows, takes it if it is free.
    if mind.set.fencing && !(mind.set.reservation && claim.grounds == Grounds::Newest) {
        mind.push(Effect::Fence);
    }
    if mind.set.reservation && !mind.set.reservation_excludes {
        array::reserve(mind);
    }
}

/// Whether a proof without the peer's word would be used now.
pub(crate) fn seeks(mind: &Mind<'_>) -> bool {
    let grounds = mind.s.claim.is_some_and(|claim| claim.grounds != Grounds::Agreed);
    grounds && (mind.s.phase == Phase::Claim || mind.s.phase == Phase::Wait || mind.s.phase == Phase::Active)
}

/// HA.md "fenced: the peer's power is off and that was *read back*".
pub(crate) fn fence_answered(mind: &mut Mind<'_>, answer: FenceAnswer) {
    if !seeks(mind) {
        return;
    }
    match answer {
        FenceAnswer::Off => {
            // On an array: it can be had now, whatever it said before.
            mind.s.reserve_left_ms = 0;
            peer_is_off(mind, Proof::Fenced);
        }
        FenceAnswer::Unread if !mind.rules.read_power_back => peer_is_off(mind, Proof::Fenced),
        FenceAnswer::Unread | FenceAnswer::Failed => mind.alarm_once(Alarm::FenceFailed),
    }
}

/// The peer does not serve. Whether it did since this node was current, with writes that this node lacks, only the witness can tell, if
/// there is one: the active may have gone on alone by its word, or the other standby may have won there. Then the fence spares
/// the waiting time and nothing else. Without a witness the active goes on alone only over a peer that it fenced or that promised.
fn peer_is_off(mind: &mut Mind<'_>, proof: Proof) {
    let asks = mind.set.leases() && mind.rules.witness_decides;
    match &mut mind.s.claim {
        Some(claim) if asks && mind.s.phase == Phase::Claim && matches!(claim.grounds, Grounds::Eligible | Grounds::Lapsed) => {
            claim.off = Some(proof);
        }
        _ => prove(mind, proof),
    }
}

/// The compare-and-set went through.
pub(crate) fn witness_won(mind: &mut Mind<'_>, reign: u32, granted_ms: u32) {
    let s = &mut mind.s;
    if let Some(claim) = s.claim
        && claim.ballot == reign
    {
        match s.phase {
            // Active, and the peer can no longer win: no one to wait for.
            Phase::Active => prove(mind, Proof::Witness),
            Phase::Claim if claim.off.is_some() => prove(mind, claim.off.unwrap_or(Proof::Witness)),
            Phase::Claim => {
                s.phase = Phase::Wait;
                let since_grant = s.granted_age_ms.min(granted_ms);
                s.wait_left_ms = if mind.rules.wait_out_lease { mind.set.wait_ms().saturating_sub(since_grant) } else { 0 };
            }
            _ => {}
        }
    } else if s.phase == Phase::Active && s.claim.is_none() && !s.settling && reign > s.record.reign {
        // The mirror came back meanwhile. The witness stands at this reign: take it, or the next comparison fails.
        (s.record.reign, s.dirty) = (reign, true);
    }
}

/// The peer was faster.
pub(crate) fn witness_lost(mind: &mut Mind<'_>, reign: u32) {
    if reign <= mind.s.record.reign {
        return;
    }
    match mind.s.phase {
        Phase::Active | Phase::Stop if mind.s.address => mind.stop(Alarm::Deposed),
        Phase::Claim => {
            (mind.s.claim, mind.s.phase) = (None, Phase::Standby);
            // Whatever its own record says: not asked again and again.
            mind.s.yield_left_ms = mind.set.first_contact_ms;
            withdraw_eligibility(mind);
        }
        Phase::Standby => withdraw_eligibility(mind),
        _ => {}
    }
}
