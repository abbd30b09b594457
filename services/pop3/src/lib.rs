//! POP3: a mailbox fetched and emptied (RFC 1939), with CAPA, STLS, SASL, PIPELINING, RESP-CODES and UTF8.
//!
//! Contract: [`session::Session`] is the protocol without sockets: it takes lines and gives [`session::Action`]s.
//! [`Server`] is the tokio side. Both know the mail system through [`Backend`] only. A maildrop is open in one session
//! at a time: the backend's guard is held by the session and dies with it, however it ends. Messages marked by `DELE`
//! go at `QUIT`, all in one commit; a session that ends otherwise deletes nothing (RFC 1939 6).
//!
//! Failure classes: the client's mistakes are answered with `-ERR` and counted (too many end the connection); the
//! backend's with `-ERR [SYS/TEMP]` or `[SYS/PERM]` (RFC 3206); a broken connection ends the session without a trace in
//! the mailbox.

mod output;
mod server;
pub mod session;

pub use server::Server;
pub use session::fuzz;

use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use twinpost_message::view::Snapshot;
use twinpost_message::{BodyId, MailboxId, Uid};
use twinpost_sasl::{Accounts, Identity};

/// An account's inbox, opened by one session.
pub struct Maildrop<G> {
    /// Held as long as the session lives: no other POP3 session opens the same maildrop.
    pub guard: G,
    /// The inbox.
    pub mailbox: MailboxId,
    /// Its messages as they were when it was opened; the session numbers them by it to its end (RFC 1939 5).
    pub snapshot: Arc<Snapshot>,
}

/// The mail system as POP3 sees it.
pub trait Backend: Accounts + Send + Sync + 'static {
    /// What keeps a maildrop locked; dropping it unlocks.
    type Guard: Send + Sync + 'static;

    /// Locks and opens the inbox of an account.
    fn open(&self, identity: &Identity) -> impl Future<Output = Result<Maildrop<Self::Guard>, BackendError>> + Send;

    /// Plain bytes of messages, in the order asked. Asked for a few messages at a time (at most
    /// [`READ_AHEAD_MESSAGES`]), in the order in which clients fetch them.
    fn bodies(&self, bodies: &[BodyId]) -> impl Future<Output = Vec<Result<Bytes, BackendError>>> + Send;

    /// Marks messages as `\Seen`: they were fetched whole and stay in the mailbox. Called once at the end of a session
    /// that fetched any, however it ends, so that IMAP and webmail show what was read by POP3 as read. The client is not
    /// told when it fails.
    fn seen(
        &self,
        identity: &Identity,
        mailbox: MailboxId,
        uids: &[Uid],
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes messages in one commit. UIDs that are gone already are passed over.
    fn expunge(
        &self,
        identity: &Identity,
        mailbox: MailboxId,
        uids: &[Uid],
    ) -> impl Future<Output = Result<(), BackendError>> + Send;
}

/// Messages asked of the backend at once.
pub const READ_AHEAD_MESSAGES: usize = 32;

/// The mail system could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// Another session has the maildrop open.
    #[error("the maildrop is open in another session")]
    InUse,
    /// The message was removed by another program meanwhile.
    #[error("the message is gone")]
    Gone,
    /// The stored message is damaged.
    #[error("the stored message is damaged")]
    Damaged,
    /// Not now; the text is for the log.
    #[error("{0}")]
    Unavailable(String),
}

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name in the greeting.
    pub host: String,
    /// Passwords may cross the wire without TLS. Only for closed networks.
    pub plain_text_sign_in: bool,
    /// Silence before sign-in.
    pub sign_in_idle: Duration,
    /// Silence after sign-in; RFC 1939 3 asks for 10 minutes at least.
    pub idle: Duration,
    /// A client that takes no byte of its answer for so long is left.
    pub write: Duration,
    /// For a TLS handshake.
    pub handshake: Duration,
    /// Wrong passwords on one connection before it is closed.
    pub failures_max: u32,
    /// Mistakes (unknown commands and the like) on one connection before it is closed.
    pub mistakes_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            plain_text_sign_in: false,
            sign_in_idle: Duration::from_mins(2),
            idle: Duration::from_mins(10),
            write: Duration::from_mins(2),
            handshake: Duration::from_secs(30),
            failures_max: 4,
            mistakes_max: 25,
        }
    }
}
