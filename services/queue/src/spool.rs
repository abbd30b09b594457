//! What the queue needs of the place where messages wait.

use bytes::Bytes;
use std::future::Future;
use twinpost_message::{AccountId, Address, QueueId, TraceId};

/// RFC 3461 4.3: how much of the message a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

/// RFC 3461 4.1: which reports the sender wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// NOTIFY stood in the command; without it failures are reported and delays may be.
    pub given: bool,
    /// Success is reported.
    pub success: bool,
    /// Failure is reported.
    pub failure: bool,
    /// Delay is reported.
    pub delay: bool,
}

impl Default for Notify {
    fn default() -> Self {
        Self { given: false, success: false, failure: true, delay: true }
    }
}

impl Notify {
    /// The value of the NOTIFY parameter, when one was given.
    #[must_use]
    pub fn parameter(self) -> Option<String> {
        let list: Vec<&str> = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")]
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, n)| *n)
            .collect();
        self.given.then(|| if list.is_empty() { "NEVER".to_owned() } else { list.join(",") })
    }
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// To be tried again.
    Waiting,
    /// Delivered, or handed on.
    Delivered,
    /// Given up.
    Failed,
}

/// What the other side said last; code 0 when there was no reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// SMTP code.
    pub code: u16,
    /// Text with its enhanced code, or what went wrong.
    pub text: String,
}

/// A recipient that waits.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Its number in the entry.
    pub n: u32,
    /// Its address.
    pub address: Address,
    /// ORCPT, decoded.
    pub orcpt: Option<String>,
    /// Which reports the sender wants.
    pub notify: Notify,
    /// Tries so far.
    pub attempts: u32,
    /// When it is due, seconds since 1970 UTC.
    pub next_try_s: i64,
    /// The sender was told of the delay.
    pub delay_told: bool,
}

/// A message that waits, with the recipients that wait.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number.
    pub id: QueueId,
    /// Its name in every log line.
    pub trace: TraceId,
    /// Bytes of the message.
    pub size_bytes: u32,
    /// Reverse-path; none is the null sender, which is told nothing.
    pub sender: Option<Address>,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, decoded.
    pub envid: Option<String>,
    /// Needs SMTPUTF8.
    pub smtputf8: bool,
    /// Has bytes above 127.
    pub eight_bit: bool,
    /// The account that sent it.
    pub account: Option<AccountId>,
    /// When it came, seconds since 1970 UTC.
    pub created_s: i64,
    /// When it is given up, seconds since 1970 UTC.
    pub expires_s: i64,
    /// Recipients in state waiting.
    pub recipients: Vec<Recipient>,
}

/// What a try did for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientUpdate {
    /// Its number in the entry.
    pub n: u32,
    /// Where it stands now.
    pub state: State,
    /// When to try again, when it waits.
    pub next_try_s: i64,
    /// When it was tried; none when it was not.
    pub tried_s: Option<i64>,
    /// What the other side said.
    pub reply: Reply,
    /// The sender is told of the delay with this update.
    pub delay_told: bool,
}

/// A delivery status notice, ready to be delivered.
#[derive(Clone, Debug)]
pub struct Report {
    /// To whom.
    pub to: Address,
    /// The message.
    pub message: Vec<u8>,
    /// Its own name in the logs.
    pub trace: TraceId,
}

/// The outcome of a try: one commit.
#[derive(Clone, Debug)]
pub struct Update {
    /// The entry.
    pub id: QueueId,
    /// What became of its recipients.
    pub recipients: Vec<RecipientUpdate>,
    /// What the sender is told.
    pub reports: Vec<Report>,
}

/// The spool cannot be read or written; nothing changed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the queue's store: {0}")]
pub struct SpoolFault(pub String);

/// Where messages wait. Claims hold until the entry is updated or given back; they end with the process.
pub trait Spool: Send + Sync + 'static {
    /// Claims entries with a recipient due at `now_s`, oldest first, at most `most`.
    fn claim(&self, now_s: i64, most: usize) -> impl Future<Output = Result<Vec<Entry>, SpoolFault>> + Send;
    /// Gives an entry back untried.
    fn unclaim(&self, id: QueueId);
    /// When the next unclaimed entry is due, seconds since 1970 UTC.
    fn next_due_s(&self) -> impl Future<Output = Result<Option<i64>, SpoolFault>> + Send;
    /// Resolves when something came that may be due earlier than known.
    fn changed(&self) -> impl Future<Output = ()> + Send;
    /// The plain bytes of an entry's message.
    fn body(&self, entry: &Entry) -> impl Future<Output = Result<Bytes, SpoolFault>> + Send;
    /// Stores the outcome and delivers its reports, in one commit, and ends the claim.
    fn update(&self, update: Update) -> impl Future<Output = Result<(), SpoolFault>> + Send;
    /// The recipient is one of this site: delivers it here. None: it is not of this site.
    fn deliver_here(&self, entry: &Entry, recipient: &Recipient) -> impl Future<Output = Option<(State, Reply)>> + Send;
}
