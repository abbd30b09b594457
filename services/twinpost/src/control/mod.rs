//! How `twinpost ctl` speaks to a running node: a Unix socket in the node's folder, readable by its owner only.
//!
//! One order a connection. The client sends one line of JSON ([`Request`]) and, if it says so, the bytes of a file; the
//! node answers with lines of JSON ([`Answer`]): any number of `progress`, then one `done` or `failed`.
//!
//! Failure classes: no socket or nobody behind it (the node is not running), a line that is not an order (refused, the
//! connection ends), the order itself is refused ([`Failure`]).

mod client;
mod office;
mod server;

pub use client::{CallError, call};
pub use office::{Office, Running};
pub use server::serve;

use crate::cli::Order;
use serde::{Deserialize, Serialize};

/// The longest line of a request in bytes.
const LINE_MAX: u64 = 1 << 20;
/// The largest attached file in bytes.
const ATTACHMENT_MAX: u64 = 256 << 20;

/// What a client asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Request {
    /// The order.
    pub order: Order,
    /// Who gives it, for the audit trail.
    pub actor: String,
    /// Bytes of the file that follows the line.
    #[serde(default)]
    pub attachment_bytes: u64,
}

/// What the node answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Long work goes on.
    Progress(Progress),
    /// The work is done; the value is what the order asked for.
    Done(serde_json::Value),
    /// The order was refused or failed.
    Failed(Failure),
}

/// How far long work is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub text: String,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when unknown.
    pub total: u64,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// A sentence for a person.
    pub message: String,
    /// Exit code of the command.
    pub exit: u8,
    /// What was found, when the order looked for faults.
    #[serde(default)]
    pub found: Option<serde_json::Value>,
}

impl Failure {
    /// Refused or failed with this sentence.
    pub fn because(message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), exit: crate::EXIT_FAILED, found: None }
    }
    /// Faults were found.
    pub fn faults(message: impl std::fmt::Display, found: serde_json::Value) -> Self {
        Self { message: message.to_string(), exit: crate::EXIT_FAULTS, found: Some(found) }
    }
}

/// Where long work tells how far it is; nobody may be listening.
pub type ProgressSender = tokio::sync::mpsc::UnboundedSender<Progress>;
