//! The words of the channel: what one node asks the other, and what it answers.
//!
//! Contract: JSON objects named by `ask`. A field that is not known is ignored, a request that is not known is refused politely ([`Refusal::unknown`]),
//! so that versions N and N+1 understand each other: new fields have defaults, new requests are refused by the older node.
//!
//! Failure classes: none; see [`crate::Error`] for calls.

use crate::pair::{About, KeyStep, Letter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::time::Duration;
use twinpost_config::history::Offer;

/// The version that this code speaks. It grows when something is added.
pub const PROTOCOL: u32 = 1;
/// The oldest version that this code still understands.
pub const OLDEST_PROTOCOL: u32 = 1;

/// First message of both sides of a connection, the client's first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Version that the sender speaks, see [`PROTOCOL`].
    pub protocol: u32,
    /// The oldest that it understands.
    #[serde(default)]
    pub oldest: u32,
    /// Number of the pair.
    pub cluster: u32,
    /// The sender's letter.
    pub node: Letter,
    /// The sender.
    #[serde(flatten)]
    pub about: About,
}

/// What a node asks the other.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Become standby: hand over as in a planned switch.
    Standby {
        /// Who wants it and why, for the log.
        #[serde(default)]
        why: String,
    },
    /// The node's status as its control socket tells it.
    Status,
    /// A generation of the configuration with its ancestry; answered by [`Answer::Config`].
    ConfigOffer(Box<Offer>),
    /// The other node's newest generation; answered by [`Answer::ConfigIs`].
    ConfigGet,
    /// An order of the administrator, given at the other node (`maintenance`, `resync`, ...).
    Order {
        /// Its name.
        name: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Value,
    },
    /// The other node's clock.
    Time,
    /// Versions of the other node.
    Version,
    /// Please fetch this file from the asking node, see [`crate::Channel::fetch`].
    Receive {
        /// Name as the asking node's handler knows it.
        name: String,
        /// What for, as `merge`.
        #[serde(default)]
        purpose: String,
    },
    /// A step of a change of the frame keys. The channel answers it itself.
    Keys(KeyStep),
    /// The other node drives a change of the frame keys (only node a drives). The channel answers it itself.
    RotateKeys,
    /// Size and hash of a file. The channel answers it from the path that the handler names.
    File {
        /// Name as the handler knows it.
        name: String,
    },
    /// A piece of a file; follows the answer as raw bytes. The channel answers it itself.
    Read {
        /// Name as the handler knows it.
        name: String,
        /// First byte.
        offset: u64,
        /// How many at most.
        bytes: u32,
        /// BLAKE3 of the whole file as announced: another content is refused.
        hash: String,
    },
}

impl Request {
    /// Names of all requests of this version.
    pub const NAMES: [&'static str; 12] = [
        "standby",
        "status",
        "config_offer",
        "config_get",
        "order",
        "time",
        "version",
        "receive",
        "keys",
        "rotate_keys",
        "file",
        "read",
    ];

    /// How long a call waits for its answer unless told otherwise.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        match self {
            Self::Status | Self::Time | Self::Version => Duration::from_secs(3),
            Self::Standby { .. } | Self::Order { .. } => Duration::from_secs(60),
            // A file is read once for its hash before the answer leaves.
            Self::File { .. } => Duration::from_secs(600),
            Self::ConfigOffer(_)
            | Self::ConfigGet
            | Self::Receive { .. }
            | Self::Keys(_)
            | Self::RotateKeys
            | Self::Read { .. } => Duration::from_secs(15),
        }
    }
}

/// What a node answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done, or under way where the request says so.
    Done,
    /// To [`Request::Status`] and [`Request::Order`]: whatever the handler tells.
    Told(Value),
    /// To [`Request::ConfigOffer`].
    Config(Box<twinpost_config::history::Received>),
    /// To [`Request::ConfigGet`]; `None` where there is no document yet.
    ConfigIs(Option<Box<Offer>>),
    /// To [`Request::Time`].
    Time {
        /// Milliseconds since 1970.
        unix_ms: u64,
        /// Milliseconds since the machine started.
        up_ms: u64,
    },
    /// To [`Request::Version`].
    Version(About),
    /// To [`Request::File`].
    File {
        /// Size.
        bytes: u64,
        /// BLAKE3, 64 hexadecimal digits.
        hash: String,
    },
    /// To [`Request::Read`]; the bytes follow.
    Piece {
        /// First byte.
        offset: u64,
    },
}

/// Why a node will not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: every reason, a sentence each.
    pub reasons: Vec<String>,
}

/// Classes of [`Refusal`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request is not known to this version of the node.
    Unknown,
    /// The request is known and makes no sense.
    Malformed,
    /// The node will not now.
    Refused,
    /// What was asked for is not there.
    NotFound,
    /// What was asked for is not any more what was announced: start over.
    Changed,
    /// Too many requests at once.
    Busy,
    /// No answer within the caller's limit.
    Late,
    /// It was tried and failed.
    Failed,
    /// A kind of a newer version.
    #[serde(other)]
    Other,
}

impl Refusal {
    /// With one reason.
    #[must_use]
    pub fn new(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self { kind, reasons: vec![reason.into()] }
    }

    /// For a request that this version does not know.
    #[must_use]
    pub fn unknown(what: &str) -> Self {
        let what: String = what.chars().take(40).collect();
        Self::new(RefusalKind::Unknown, format!("this version of the node does not know the request `{what}`; upgrade it"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return f.write_str("no reason given");
        }
        f.write_str(&self.reasons.join("; "))
    }
}

impl std::error::Error for Refusal {}
