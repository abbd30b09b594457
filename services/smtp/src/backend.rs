//! What the SMTP server needs of a mail system, in its own terms.
//!
//! Contract: a method is asked once for each command and answers yes or a [`Refusal`]; `deliver` answers yes only after
//! the commit to stable storage. Methods are called from many sessions at once. A call may be dropped at any await
//! except `deliver`, which always runs to its end.
//!
//! Failure classes: refusals of the one command (the session goes on). A backend that cannot work answers 451
//! ([`Refusal::trouble`]) or 452 ([`Refusal::disk_full`]); there is no other error.

use crate::{MailParams, RcptParams, Refusal, Role};
use std::future::Future;
use std::net::SocketAddr;
use twinpost_message::{Address, TraceId};
use twinpost_sasl::{Accounts, Identity};

/// The other end of a session, as far as it is known.
#[derive(Clone, Debug)]
pub struct Client {
    /// By which door it came.
    pub role: Role,
    /// Its address.
    pub peer: SocketAddr,
    /// The name it gave, unproven; empty before the greeting.
    pub helo: String,
    /// It greeted with EHLO or LHLO.
    pub extended: bool,
    /// TLS of the connection.
    pub tls: Option<Tls>,
    /// Who signed in.
    pub identity: Option<Identity>,
}

/// TLS of a connection, for Received and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `TLSv1.3`
    pub version: String,
    /// `TLS_AES_256_GCM_SHA384`
    pub cipher: String,
}

/// MAIL: the sender and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// None is the null sender of reports (RFC 5321 4.5.5).
    pub sender: Option<Address>,
    /// The parameters. After the data `body` says what came: 8-bit lines that were not announced are named so.
    pub params: MailParams,
}

/// RCPT: a recipient and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcpt {
    /// The address.
    pub address: Address,
    /// The parameters.
    pub params: RcptParams,
}

/// Everything around a message.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Its name in logs and in Received. 0 until the data begins.
    pub trace: TraceId,
    /// When the data began, seconds since 1970. 0 until then.
    pub received_s: i64,
    /// MAIL.
    pub mail: Mail,
    /// The recipients accepted, in the order of RCPT.
    pub recipients: Vec<Rcpt>,
}

/// The bytes to store, CRLF lines (except with [`Body::Binary`](crate::Body::Binary)).
///
/// They begin with `Return-Path:` (RFC 5321 4.4), so that one stored body serves every mailbox; what goes out to other
/// servers begins after it.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Length of the Return-Path field with its CRLF.
    pub return_path_bytes: usize,
    /// The filter wants it kept apart from the inbox.
    pub quarantine: bool,
}

impl Message {
    /// The message without Return-Path, to be relayed.
    #[must_use]
    pub fn relayed(&self) -> &[u8] {
        &self.bytes[self.return_path_bytes..]
    }
}

/// MAIL is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MailAccepted {
    /// A smaller limit than the listener's, for instance of the account that signed in.
    pub size_max_bytes: Option<u64>,
}

/// How a delivery ended. `Ok` means committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// One answer for all.
    All(Result<(), Refusal>),
    /// One for each recipient, in their order. LMTP passes them on (RFC 2033 4.2). SMTP has one answer only: 250 as soon
    /// as one is `Ok`, so there the backend must report the others to the sender by itself.
    Each(Vec<Result<(), Refusal>>),
}

/// The mail system behind the server.
pub trait Backend: Send + Sync + 'static {
    /// The directory for AUTH.
    type Accounts: Accounts;
    /// What the backend wants to find again at delivery: which mailbox, which route. Small: a session may hold thousands.
    type Recipient: Send + Sync + 'static;

    /// The directory for AUTH.
    fn accounts(&self) -> &Self::Accounts;

    /// MAIL. On submission this is where the account's right to the envelope sender is checked
    /// ([`Refusal::not_owner`]); the null sender is open to all (receipts, RFC 8098 3).
    fn mail_from(&self, client: &Client, mail: &Mail) -> impl Future<Output = Result<MailAccepted, Refusal>> + Send;

    /// RCPT: relaying, unknown, suspended, over quota (`mail.params.size_bytes` is what the client announced), recipients
    /// an hour. `earlier` are those accepted in this transaction.
    fn recipient(
        &self,
        client: &Client,
        mail: &Mail,
        recipient: &Rcpt,
        earlier: &[Self::Recipient],
    ) -> impl Future<Output = Result<Self::Recipient, Refusal>> + Send;

    /// The account that signed in (`client.identity`) owns all these addresses, found in From and Sender. Asked only
    /// where [`Settings::check_author`](crate::Settings::check_author) is set.
    fn may_send_as(&self, client: &Client, authors: &[Address]) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Stores the message and answers after the commit. `recipients` has the tokens in the order of
    /// `envelope.recipients`. The same mailbox may be there twice (a client repeats a name, two aliases meet): it gets one
    /// copy.
    fn deliver(
        &self,
        client: &Client,
        envelope: &Envelope,
        recipients: Vec<Self::Recipient>,
        message: Message,
    ) -> impl Future<Output = Outcome> + Send;
}

/// The seam for SPF, DKIM, DMARC, spam and virus checks, Sieve: asked after the backend has said yes.
///
/// Contract: a filter never changes the message's own bytes; it may put header fields in front (which is where
/// Authentication-Results belongs, RFC 8601 5). It bounds its own time; a session waits for it. A filter that cannot
/// decide says [`Verdict::Refuse`] with a 4yz code, or accepts: that choice is its setting, not ours.
pub trait Filter: Send + Sync + 'static {
    /// At RCPT, after the backend accepted: greylisting, block lists, SPF by recipient.
    fn recipient(&self, client: &Client, mail: &Mail, recipient: &Rcpt) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// At the end of the data, before it is stored. `message` begins with our Received field.
    fn message(&self, client: &Client, envelope: &Envelope, message: &[u8]) -> impl Future<Output = Verdict> + Send;
}

/// What the filter thinks of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept {
        /// Header fields to put in front, each with its CRLF and folded as it shall be.
        headers: Vec<String>,
        /// Keep it apart from the inbox.
        quarantine: bool,
    },
    /// Refuse it, for now or for good.
    Refuse(Refusal),
}

impl Verdict {
    /// Take it as it is.
    pub const ACCEPT: Self = Self::Accept { headers: Vec::new(), quarantine: false };
}

/// The filter that filters nothing: every recipient and message that the backend takes is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct AcceptAll;

impl Filter for AcceptAll {
    async fn recipient(&self, _: &Client, _: &Mail, _: &Rcpt) -> Result<(), Refusal> {
        Ok(())
    }
    async fn message(&self, _: &Client, _: &Envelope, _: &[u8]) -> Verdict {
        Verdict::ACCEPT
    }
}
