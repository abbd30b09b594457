//! Health decides who serves, while both could.
//!
//! Contract: the active hands over exactly as by [`Order::Standby`], and only when that would be followed; nothing is decided on
//! a moment's difference, and a node that just took over keeps the services for a while, so that two nodes with the same loose cable
//! do not pass them to and fro.

use core::cmp::Ordering;

use crate::frame::{Flags, Frame, NodeState};
use crate::orders::{Order, reasons};
use crate::settings::Settings;
use crate::state::{Alarm, Phase, State};
use crate::step::Mind;

/// A node keeps the services so many times `prefer_after_ms` after it took them over.
const KEEPS: u32 = 6;

/// Time passes.
pub(crate) fn pass(s: &mut State, set: &Settings, ms: u32) {
    if set.prefer_after_ms == 0 || s.phase != Phase::Active {
        return;
    }
    s.active_ms = s.active_ms.saturating_add(ms).min(set.prefer_after_ms.saturating_mul(KEEPS));
    if let Some(worse) = &mut s.worse_ms {
        *worse = worse.saturating_add(ms).min(set.prefer_after_ms);
    }
}

/// This node against its peer, as far as the difference is clear.
fn compare(s: &State, set: &Settings, peer: &Frame) -> Ordering {
    let gateway = s.ping.cmp(&peer.flags.has(Flags::PING));
    let health =
        if set.health.abs_diff(peer.health) < Settings::HEALTH_STEP { Ordering::Equal } else { set.health.cmp(&peer.health) };
    match (gateway, health) {
        (Ordering::Less, Ordering::Greater) | (Ordering::Greater, Ordering::Less) => Ordering::Equal,
        (Ordering::Equal, health) => health,
        (gateway, _) => gateway,
    }
}

/// An active looks at its peer.
pub(crate) fn govern(mind: &mut Mind<'_>) {
    let set = mind.set;
    if set.prefer_after_ms == 0 || mind.s.phase != Phase::Active {
        return;
    }
    let peer = mind.s.peer_within(set.lease_ms).filter(|peer| peer.state == NodeState::StandbyEligible);
    if !peer.is_some_and(|peer| compare(&mind.s, set, &peer).is_lt()) {
        mind.s.worse_ms = None;
        return;
    }
    let worse = *mind.s.worse_ms.get_or_insert(0);
    let kept = mind.s.active_ms >= set.prefer_after_ms.saturating_mul(KEEPS);
    if worse >= set.prefer_after_ms && kept && reasons(&mind.s, set, Order::Standby).is_empty() {
        mind.s.worse_ms = None;
        mind.alarm(Alarm::Healthier);
        mind.drain();
    }
}
