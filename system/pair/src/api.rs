//! What is spoken on the control socket of `twinpost pair`: JSON lines, one object a line, at most [`LINE_MAX_BYTES`].
//!
//! Contract: a client writes one [`Request`] a line and reads one [`Answer`] a line. [`Request::Watch`] is answered by a stream of
//! [`Answer::Status`], the present one first and then one at each change, until the client writes another request or closes. An
//! order is followed ([`Answer::Done`]: it is under way, its end is seen in the status) or refused with *all* reasons.
//! Everything for people is there in English and in Chinese ([`Text`]).
//!
//! Failure classes: a line that is no request is answered by [`Answer::Error`] and the connection stays; a line that is too long is
//! answered so too, and the connection is closed.

use serde::{Deserialize, Serialize};
pub use twinpost_storage::StorageStatus;

/// Longest line in either direction, in bytes, line end included.
pub const LINE_MAX_BYTES: usize = 256 * 1024;
/// Alarms kept.
pub const ALARMS_MAX: usize = 100;

/// One request, one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Answer: [`Answer::Status`].
    Status,
    /// A stream of [`Answer::Status`].
    Watch,
    /// This node hands over to its peer.
    Standby,
    /// This node takes over; the peer is asked to hand over.
    Takeover,
    /// Nothing is taken over or handed over by itself, on either node.
    Maintenance {
        /// For so long, at most a week; none ends it.
        for_s: Option<u64>,
    },
    /// Where the service goes back to when both nodes are well.
    FailBack {
        /// The rule; kept over restarts, and told to the peer.
        rule: FailBack,
    },
    /// The active lets the peer's copy be overwritten from its own. Refused while the peer holds what this node lacks.
    Resync,
    /// This node takes over without a proof. Without `confirm` nothing happens but the answer, which says what may be lost.
    Force {
        /// The administrator has read what may be missing, and answers for the peer being off.
        confirm: bool,
    },
    /// In a conflict: this node's data is kept aside for the merge, then overwritten by the peer's.
    GiveWay,
    /// This node goes down by a person's order: the other is told, so that it neither gives this node its power back nor calls for help.
    Leaving {
        /// Whether it comes back by itself.
        what: Leaving,
    },
    /// About diverged data.
    Conflict {
        /// What is wanted.
        what: Conflict,
    },
    /// Offers a pairing: the answer shows a code for the other node.
    PairOffer,
    /// Joins the node that offers.
    PairJoin {
        /// Its address and port.
        address: String,
        /// What it shows.
        code: String,
    },
    /// Forgets the peer.
    Unpair,
    /// About the appliance document that is copied between the nodes. Answer: [`Answer::Told`].
    Config {
        /// What is wanted.
        what: ConfigAsk,
    },
    /// What an order would do, and everything that stands against it; changes nothing. Answer: [`Answer::Preview`].
    Preview {
        /// The order.
        order: OrderName,
    },
    /// An order for `twinpost system` of the other node: passed on over the trusted channel. Answer: [`Answer::Passed`].
    System {
        /// As the socket of `twinpost system` takes it.
        order: serde_json::Value,
        /// It may take so long.
        limit_s: u64,
    },
    /// An order for the mail process of the other node, which serves: passed on over the trusted channel. Answer: [`Answer::Passed`].
    Mail {
        /// As the control socket of the mail process takes it.
        order: serde_json::Value,
    },
    /// Tells people something that another part of this node noticed: kept and passed on like the daemon's own alarms.
    Alarm {
        /// How bad it is.
        severity: Severity,
        /// For programs: `array_degraded` ...
        code: String,
        /// What happened, what it means, what to do.
        text: Text,
    },
}

impl Request {
    /// Whether any program of the node may ask it: what is asked, and the planned switch, which an administrator may order by telephone. All
    /// else is for the user of the daemon (and root).
    #[must_use]
    pub const fn for_every_part(&self) -> bool {
        matches!(self, Self::Status | Self::Watch | Self::Preview { .. } | Self::Standby | Self::Takeover)
    }
}

/// How a node goes down by a person's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leaving {
    /// It stays off until somebody switches it on.
    Off,
    /// It starts again.
    Restart,
}

/// About the appliance document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigAsk {
    /// Whether both nodes have the same, and what differs.
    Show,
    /// Both changed it without each other: this node's stays.
    Ours,
    /// Both changed it without each other: the peer's stays.
    Theirs,
}

/// An order that can be previewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderName {
    /// [`Request::Standby`]
    Standby,
    /// [`Request::Takeover`]
    Takeover,
    /// [`Request::Maintenance`]
    Maintenance,
    /// [`Request::Maintenance`] without a time
    MaintenanceEnd,
    /// [`Request::Resync`]
    Resync,
    /// [`Request::Force`]
    Force,
    /// [`Request::GiveWay`]
    GiveWay,
}

/// About diverged data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    /// What differs.
    List,
    /// Merge what was kept aside into the mailboxes, message by message; nothing is deleted.
    Merge,
}

/// Where the service goes back to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum FailBack {
    /// Whoever serves goes on.
    #[default]
    Never,
    /// To this node.
    Node {
        /// Its name.
        node: String,
        /// Once it was current for so long without a break.
        after_s: u32,
    },
}

/// One answer, one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// How everything is.
    Status(Box<Status>),
    /// The order is followed.
    Done {
        /// What happens now.
        text: Text,
    },
    /// The order is not followed; nothing has changed.
    Refused {
        /// All reasons.
        reasons: Vec<Refusal>,
    },
    /// What an order would do.
    Preview {
        /// What happens, who is disconnected, how long.
        text: Text,
        /// Everything that stands against it now; empty when it can be done.
        reasons: Vec<Refusal>,
    },
    /// What was asked.
    Told {
        /// In words.
        text: Text,
    },
    /// What the program of the other node answered, as its own socket does.
    Passed {
        /// The answer.
        said: serde_json::Value,
    },
    /// A pairing is offered.
    Code {
        /// To be typed on the other node.
        code: String,
        /// How long it counts.
        valid_s: u32,
    },
    /// The request could not be understood or carried out.
    Error {
        /// What happened.
        text: Text,
    },
}

/// Words for people.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }
}

/// One reason of a refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs: `peer_silent`, `not_active` ...
    pub code: String,
    /// Why, and what to do.
    pub text: Text,
}

/// How the pair is, as this node sees it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// The whole in one sentence.
    pub sentence: String,
    /// The same in Chinese.
    pub sentence_zh: String,
    /// This node.
    pub node: String,
    /// The node that serves, as far as this node knows.
    pub active: Option<String>,
    /// The newest reign that this node knows of.
    pub reign: u32,
    /// Which proofs let a node take over: `proof` or `evidence`.
    pub takeover: String,
    /// Both nodes, in the order of their names.
    pub nodes: Vec<NodeStatus>,
    /// `eth1`, `lan`, `serial`.
    pub links: Vec<LinkStatus>,
    /// The mail volume.
    pub storage: Option<StorageStatus>,
    /// How writes are answered: `mirrored`, `held` or `alone`; none on a node that does not serve.
    pub writes: Option<String>,
    /// The service address is here.
    pub address: bool,
    /// The service group of this node.
    pub services: ServicesStatus,
    /// The third party; none when none is configured.
    pub witness: Option<WitnessStatus>,
    /// The peer's power switch; none when none is configured.
    pub fencing: Option<FencingStatus>,
    /// The hardware watchdog; none when none is configured.
    pub watchdog: Option<WatchdogStatus>,
    /// The trusted channel to the peer stands; none without one.
    pub channel: Option<bool>,
    /// A maintenance ends in so many seconds.
    pub maintenance_left_s: Option<u64>,
    /// The rule in force.
    pub fail_back: FailBack,
    /// How this node's last reign was won: `release`, `fenced`, `witness`, `reservation`, `evidence`, `forced`.
    pub proof: Option<String>,
    /// The last change of the active node in which this node took part.
    pub last_switch: Option<Switch>,
    /// The newest last.
    pub alarms: Vec<Alarm>,
    /// The daemon runs for so long.
    pub up_ms: u64,
    /// Longest time for which the daemon did not run although it should have.
    pub stall_max_ms: u64,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// `a` or `b`.
    pub name: String,
    /// `boot`, `standby`, `taking_over`, `active` (the peer has every byte), `alone`, `resync` (active, the peer is catching up),
    /// `draining`, `maintenance`, `conflict`; of the peer also `silent` (it was heard before) and `unheard`.
    pub state: String,
    /// A standby whose data is current: it may take over.
    pub eligible: bool,
    /// Reign of its data.
    pub reign: u32,
    /// Starts counted.
    pub boot: u32,
    /// How far its data is.
    pub position: u64,
    /// 0 (worst) to 255.
    pub health: u8,
    /// Generation of its configuration.
    pub config_generation: u32,
    /// Of the software; none when not known.
    pub version: Option<String>,
    /// In this state for so long.
    pub since_ms: u64,
    /// Not heard for so long; 0 for this node, none when never.
    pub silent_ms: Option<u64>,
}

/// One path to the peer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `eth1`, `lan` or `serial`.
    pub name: String,
    /// `up` (frames come), `silent` (none comes) or `off` (not configured).
    pub state: String,
    /// Age of the last authentic frame; none when none came.
    pub heard_ms: Option<u64>,
    /// Frames that left.
    pub sent: u64,
    /// Authentic frames that came.
    pub received: u64,
    /// What came and was not taken.
    pub dropped: Dropped,
    /// What is wrong with it, if anything.
    pub trouble: Option<Text>,
}

/// Frames that were not taken, by class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// The hash fits no key.
    pub forged: u64,
    /// Seen before.
    pub replayed: u64,
    /// Another pair's.
    pub cluster: u64,
    /// Another version of the form.
    pub version: u64,
    /// Of the wrong length; garbled or cut on the serial line.
    pub cut: u64,
    /// From this very node: the same name on both sides, or an echo.
    pub own: u64,
    /// Authentic without a meaning, or from another link.
    pub meaning: u64,
}

/// The service group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServicesStatus {
    /// `stopped`, `starting`, `up` (checked from outside), `failing` or `stopping`.
    pub state: String,
    /// What the last check said, when it was bad.
    pub why: Option<String>,
    /// Restarts in place in the last ten minutes.
    pub restarts: u8,
    /// Running processes.
    pub pids: Vec<u32>,
    /// On a standby: a process is started ahead and waits to be told to serve.
    #[serde(default)]
    pub ready: bool,
}

/// The third party.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// It answers.
    pub reachable: bool,
}

/// The peer's power switch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FencingStatus {
    /// The driver's name.
    pub name: String,
    /// What it said last: `off`, `on`, `unread`, `failed`; none before the first use.
    pub last: Option<String>,
}

/// The hardware watchdog.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WatchdogStatus {
    /// It takes what it is fed.
    pub open: bool,
    /// It resets the node so long after the last feed.
    pub timeout_ms: u32,
}

/// One change of the active node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Switch {
    /// When it was complete, seconds since 1970.
    pub at: i64,
    /// Who served before, if that is known.
    pub from: Option<String>,
    /// Who serves since.
    pub to: String,
    /// The reign.
    pub reign: u32,
    /// By which proof.
    pub proof: String,
    /// From the last sign of life of the one before (or from the order) to the first good check from outside.
    pub took_ms: u64,
    /// What it consists of.
    pub steps: Steps,
}

/// Milliseconds of each step of a takeover; they follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Steps {
    /// Silence until a reign was asked for.
    pub detected_ms: u64,
    /// Until there was a proof.
    pub proof_ms: u64,
    /// Until the reign was on disk.
    pub stored_ms: u64,
    /// Until the storage was promoted.
    pub promoted_ms: u64,
    /// Until the address was here.
    pub address_ms: u64,
    /// Until the services ran.
    pub services_ms: u64,
    /// Until a check from outside was good.
    pub checked_ms: u64,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// Something works less well than it should.
    Warning,
    /// Mail stands or will stand; someone has to act.
    Serious,
}

/// Something that people must hear.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// Seconds since 1970.
    pub at: i64,
    /// For programs: `took_over`, `link_silent`, `serial_is_modem` ...
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// What happened, what it means, what to do.
    pub text: Text,
}
