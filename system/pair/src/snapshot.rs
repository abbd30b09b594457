//! How everything is, as the heart's thread sees it at one moment.

use crate::api::{Alarm, Dropped, FailBack, Leaving, Switch, Text};
use twinpost_heartbeat::{State, Writes};

/// A copy for whoever asks.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The mind.
    pub(crate) state: State,
    /// What the heart works with now.
    pub(crate) heart: twinpost_heartbeat::Settings,
    /// In the order of [`twinpost_heartbeat::Link::ALL`].
    pub(crate) links: [LinkSnapshot; 3],
    /// Of this daemon.
    pub(crate) up_ms: u64,
    /// This node is what it is for so long.
    pub(crate) since_ms: u64,
    /// The peer is what it is for so long.
    pub(crate) peer_since_ms: u64,
    /// The peer was not heard for so long, exactly.
    pub(crate) peer_silent_ms: Option<u64>,
    /// The longest stall.
    pub(crate) stall_max_ms: u64,
    /// Of this node.
    pub(crate) last_switch: Option<Switch>,
    /// Newest last.
    pub(crate) alarms: Vec<Alarm>,
    /// As told to the storage last.
    pub(crate) writes: Option<Writes>,
    /// `stopped`, `starting`, `up`, `failing`, `stopping`.
    pub(crate) services: &'static str,
    /// What the last bad check said.
    pub(crate) services_why: Option<String>,
    /// What the power switch said last.
    pub(crate) fence_said: Option<&'static str>,
    /// The watchdog takes what it is fed.
    pub(crate) watchdog_open: bool,
    /// In force.
    pub(crate) fail_back: FailBack,
    /// The peer went down by a person's order.
    pub(crate) away: Option<Leaving>,
}

/// One path.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkSnapshot {
    pub(crate) on: bool,
    pub(crate) heard_ms: Option<u64>,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) dropped: Dropped,
    pub(crate) trouble: Option<Text>,
}
