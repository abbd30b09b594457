//! What comes to the heart from everyone else.

use crate::api::{Alarm, FailBack, Leaving};
use crate::settings::Changes;
use crate::snapshot::Snapshot;
use tokio::sync::oneshot;
use twinpost_group::GroupEvent;
use twinpost_heartbeat::{Event, Order, Reasons, Writes};

/// Inputs that may wait.
pub(crate) const INPUTS_MAX: usize = 1024;

/// One input.
pub(crate) enum Input {
    /// An event of the core, as it is.
    Event(Event),
    /// The record of this number could not be stored.
    StoreFailed { error: String },
    /// The address is here (told at each renewal that went through), or what stands against it.
    Address(Result<(), String>),
    /// What became of the newest order to the service group.
    Group { order: u64, outcome: GroupOutcome },
    /// The group noticed something.
    GroupEvent(GroupEvent),
    /// The storage did what it was told, or why not.
    Storage { what: &'static str, error: Option<String> },
    /// This node serves, and its own copy of the volume failed; or it is back.
    OwnCopyLost(bool),
    /// Writes are answered like this from now on.
    WritesAre(Writes),
    /// The power switch answered.
    Fence { said: &'static str, error: Option<String>, event: Event },
    /// This node's diverged data lies here.
    KeptAside(String),
    /// Carrier of eth1.
    Carrier(bool),
    /// The network beyond the LAN cable.
    Outside(bool),
    /// Settings that changed.
    Changes(Changes),
    /// How everything is.
    Look(oneshot::Sender<Box<Snapshot>>),
    /// An order; all reasons against it, none when it is followed.
    Order { order: Order, reply: oneshot::Sender<Reasons> },
    /// All reasons against an order that is not given.
    Weigh { order: Order, reply: oneshot::Sender<Reasons> },
    /// The rule for going back.
    FailBack(FailBack),
    /// The peer's copy may be overwritten, by the administrator's word.
    Resync,
    /// An alarm raised elsewhere; `lasting`: once until it is over.
    Alarm { alarm: Alarm, lasting: Option<&'static str> },
    /// It is over.
    Over(&'static str),
    /// The peer goes down by a person's order.
    PeerLeaves(Leaving),
    /// The orderly end: hand over if that is possible. The answer: whether this node still serves.
    Leave(oneshot::Sender<bool>),
    /// The end, after the watchdog was disarmed.
    End,
}

/// What became of an order to the service group.
#[derive(Debug)]
pub(crate) enum GroupOutcome {
    /// Every service answers.
    Up,
    /// A service did not come up.
    Failed(String),
    /// Nothing is left.
    Stopped,
    /// Something may be left.
    NotStopped(String),
}
