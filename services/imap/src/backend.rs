//! What the IMAP server needs of a store and a directory, in its own terms.
//!
//! Contract: every method that changes something returns after the commit, and what it changed is then already visible in the
//! watch of each mailbox it touched: the session computes what it must tell its client from that watch alone. Methods are
//! called from many sessions at once and may be dropped at any await. Mailbox names are UTF-8 with `/` between levels, never
//! begin or end with `/`, and `INBOX` (upper case) is always there.
//!
//! Failure classes: [`Refusal`]. Each variant becomes one response code; none ends the session.

use bytes::Bytes;
use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use tokio::sync::watch;
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, BodyId, Flags, MailboxId, ModSeq, Parsed, Uid, UidValidity};

/// Between the levels of a mailbox name.
pub const DELIMITER: char = '/';

/// Why the backend did not do it. The text of a variant is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such mailbox.
    #[error("there is no such mailbox")]
    NonExistent,
    /// A mailbox of this name exists.
    #[error("a mailbox of this name exists")]
    AlreadyExists,
    /// Deleting it would leave children without a parent.
    #[error("the mailbox has mailboxes below it")]
    HasChildren,
    /// The operation can never be done (deleting INBOX, a name that is not allowed).
    #[error("{0}")]
    Cannot(String),
    /// The account may not do this.
    #[error("{0}")]
    NoPermission(String),
    /// The account's or its domain's quota would be exceeded.
    #[error("the quota would be exceeded")]
    OverQuota,
    /// A limit that is not the quota: keywords of a mailbox, mailboxes of an account, annotations.
    #[error("{0}")]
    Limit(String),
    /// The message is larger than the account may store.
    #[error("the message is larger than this account may store")]
    TooBig,
    /// The disk is full: for now nothing can be stored; reading goes on.
    #[error("the server has no room for new mail at the moment")]
    DiskFull,
    /// The record of a body is damaged; an operator has been told.
    #[error("the stored message is damaged: {0}")]
    Damaged(String),
    /// The special use is taken by another mailbox.
    #[error("another mailbox has this special use")]
    UseTaken,
    /// For the moment not possible (take-over, maintenance); try again.
    #[error("the mail store is not available at the moment")]
    Unavailable,
    /// A fault of the server. The text goes to the log; the client is told to contact the administrator.
    #[error("{0}")]
    Internal(String),
}

/// Result of a backend call.
pub type Outcome<T> = Result<T, Refusal>;

/// Who signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub id: AccountId,
    /// Its primary address, for logs and GETQUOTA.
    pub address: Arc<str>,
    /// Largest message it may store, bytes (RFC 7889 APPENDLIMIT).
    pub append_limit_bytes: u32,
}

/// RFC 6154 special uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialUse {
    /// `\All`
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
    /// `\Important` (RFC 8457)
    Important,
}

impl SpecialUse {
    /// All of them.
    pub const EVERY: [Self; 8] =
        [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Junk, Self::Sent, Self::Trash, Self::Important];
    /// As an attribute: `\Sent`.
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
            Self::Important => "\\Important",
        }
    }
    /// From an attribute, with or without its backslash, in any case.
    #[must_use]
    pub fn parse(attribute: &str) -> Option<Self> {
        let name = attribute.strip_prefix('\\').unwrap_or(attribute);
        Self::EVERY.into_iter().find(|u| u.attribute()[1..].eq_ignore_ascii_case(name))
    }
}

/// One mailbox of an account with its counters, as LIST and STATUS show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its number (RFC 8474 MAILBOXID). Never used again.
    pub id: MailboxId,
    /// Its name.
    pub name: Arc<str>,
    /// Its special use.
    pub special_use: Option<SpecialUse>,
    /// On the list of subscriptions.
    pub subscribed: bool,
    /// Messages in it.
    pub messages: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Sum of the plain sizes, bytes.
    pub size_bytes: u64,
    /// The UID that the next message gets.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Highest change-log position that touched its messages.
    pub highest_modseq: ModSeq,
}

/// A message for APPEND.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The plain bytes.
    pub body: Bytes,
    /// System flags; keywords are by name.
    pub flags: Flags,
    /// Keywords, as the client wrote them.
    pub keywords: Vec<String>,
    /// INTERNALDATE, seconds since 1970 UTC; the time of the commit when absent.
    pub received_s: Option<i64>,
}

/// Where appended messages went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// UIDVALIDITY of the mailbox.
    pub uid_validity: UidValidity,
    /// Their UIDs in the order in which they were given.
    pub uids: Vec<Uid>,
}

/// Where copied or moved messages went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// Old and new UID of each message that was still there, in rising order of the old one.
    pub pairs: Vec<(Uid, Uid)>,
}

/// How flags are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagMode {
    /// The flags become exactly these.
    Replace,
    /// These are set.
    Add,
    /// These are cleared.
    Remove,
}

/// A flag change of some messages, one commit.
#[derive(Clone, Debug)]
pub struct FlagChange {
    /// Which messages, rising. Those that are gone are passed over.
    pub uids: Vec<Uid>,
    /// How.
    pub mode: FlagMode,
    /// System flags.
    pub flags: Flags,
    /// Keywords by name; those that the mailbox does not have yet are made, unless the mode is `Remove`.
    pub keywords: Vec<String>,
    /// RFC 7162 3.1.3: leave each message alone whose modseq is above this.
    pub unchanged_since: Option<ModSeq>,
}

/// What a flag change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagsChanged {
    /// Messages left alone because of `unchanged_since`, rising.
    pub modified: Vec<Uid>,
    /// Messages that were no longer there, rising.
    pub missing: Vec<Uid>,
}

/// What was removed from a mailbox after a modseq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vanished {
    /// These UIDs, rising.
    Known(Vec<Uid>),
    /// The memory does not reach back that far: whatever is not there must be told (RFC 7162 3.2.5.1).
    Forgotten,
}

/// An annotation entry (RFC 5464): its name in lower case and its value.
pub type Annotation = (String, Bytes);

/// Use and limits of an account (RFC 9208).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes stored.
    pub bytes: u64,
    /// Bytes allowed; none: without limit.
    pub bytes_limit: Option<u64>,
    /// Messages stored.
    pub messages: u64,
    /// Messages allowed; none: without limit.
    pub messages_limit: Option<u64>,
    /// Mailboxes there are.
    pub mailboxes: u64,
    /// Mailboxes allowed; none: without limit.
    pub mailboxes_limit: Option<u64>,
}

/// Where a text is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TextField {
    /// `Subject:`
    Subject,
    /// `From:`
    From,
    /// `To:`
    To,
    /// `Cc:`
    Cc,
    /// `Bcc:`
    Bcc,
    /// The decoded text parts.
    Body,
    /// Headers and decoded text parts.
    Text,
}

/// What the index knows of one text query over one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextHits {
    /// Bodies that match, or may match, sorted.
    pub bodies: Vec<BodyId>,
    /// Each of `bodies` matches for certain (a substring match as RFC 9051 6.4.4 wants). Otherwise the session confirms each
    /// against the message itself.
    pub exact: bool,
    /// Messages that came into a mailbox at or before this position are in the index: one that is not in `bodies` does not
    /// match. Later ones are scanned by the session.
    pub indexed_to: ModSeq,
}

/// The store and directory as the IMAP server sees them.
pub trait Backend: Send + Sync + 'static {
    /// The account that a sign-in proved.
    fn account(&self, id: AccountId) -> impl Future<Output = Outcome<Account>> + Send;
    /// The account may still use IMAP (it was not suspended or deleted meanwhile). Microseconds: asked before each command.
    fn still_allowed(&self, account: AccountId) -> bool;
    /// Seconds since 1970 UTC: for INTERNALDATE and WITHIN. A backend of a test gives what it likes.
    fn now_s(&self) -> i64;

    /// All mailboxes with their counters, in any order.
    fn mailboxes(&self, account: AccountId) -> impl Future<Output = Outcome<Vec<MailboxInfo>>> + Send;
    /// One mailbox by its exact name.
    fn mailbox(&self, account: AccountId, name: &str) -> impl Future<Output = Outcome<Option<MailboxInfo>>> + Send;
    /// Makes a mailbox and those above it that are missing (RFC 9051 6.3.4).
    fn create(
        &self,
        account: AccountId,
        name: &str,
        special_use: Option<SpecialUse>,
    ) -> impl Future<Output = Outcome<MailboxId>> + Send;
    /// Deletes a mailbox with its messages. Its watch then shows `gone`.
    fn delete(&self, account: AccountId, mailbox: MailboxId) -> impl Future<Output = Outcome<()>> + Send;
    /// Renames a mailbox and all below it, making the levels above the new name. Renaming INBOX moves its messages into the
    /// new mailbox and leaves INBOX empty, with its children where they are (RFC 9051 6.3.6). The mailbox keeps its id and watch.
    fn rename(&self, account: AccountId, from: &str, to: &str) -> impl Future<Output = Outcome<()>> + Send;
    /// Puts a mailbox on the list of subscriptions, or takes it off.
    fn subscribe(&self, account: AccountId, name: &str, on: bool) -> impl Future<Output = Outcome<()>> + Send;
    /// Changes whenever anything of the account's mailboxes changed: the highest change-log position.
    fn changes(&self, account: AccountId) -> impl Future<Output = Outcome<watch::Receiver<ModSeq>>> + Send;

    /// The watch of a mailbox: always holds its newest committed state.
    fn open(
        &self,
        account: AccountId,
        mailbox: MailboxId,
    ) -> impl Future<Output = Outcome<watch::Receiver<Arc<Snapshot>>>> + Send;
    /// UIDs removed after `since`, of a mailbox (RFC 7162 3.2.5).
    fn vanished(&self, account: AccountId, mailbox: MailboxId, since: ModSeq) -> impl Future<Output = Outcome<Vanished>> + Send;

    /// Stores messages at the end of a mailbox: all or none (RFC 3502).
    fn append(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        messages: Vec<NewMessage>,
    ) -> impl Future<Output = Outcome<Appended>> + Send;
    /// Stores a message at the end of `mailbox` and removes message `old` of mailbox `source`, in one commit (RFC 8508).
    /// The quota counts the difference.
    fn replace(
        &self,
        account: AccountId,
        source: MailboxId,
        old: Uid,
        mailbox: MailboxId,
        message: NewMessage,
    ) -> impl Future<Output = Outcome<Appended>> + Send;
    /// Copies messages with their flags and dates; UIDs that are gone are passed over. All or none for the quota.
    fn copy(
        &self,
        account: AccountId,
        from: MailboxId,
        to: MailboxId,
        uids: &[Uid],
    ) -> impl Future<Output = Outcome<Copied>> + Send;
    /// Moves messages in one commit (RFC 6851); UIDs that are gone are passed over.
    fn move_to(
        &self,
        account: AccountId,
        from: MailboxId,
        to: MailboxId,
        uids: &[Uid],
    ) -> impl Future<Output = Outcome<Copied>> + Send;
    /// Changes flags in one commit. A message whose flags do not change gets no new modseq.
    fn store_flags(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        change: FlagChange,
    ) -> impl Future<Output = Outcome<FlagsChanged>> + Send;
    /// Removes those of these messages that bear `\Deleted` at the moment of the commit.
    fn expunge(&self, account: AccountId, mailbox: MailboxId, uids: &[Uid]) -> impl Future<Output = Outcome<()>> + Send;

    /// What was parsed at arrival, in the order of `bodies`. Cached; a damaged row is an error of its own.
    fn parsed(&self, account: AccountId, bodies: &[BodyId]) -> impl Future<Output = Outcome<Vec<Outcome<Arc<Parsed>>>>> + Send;
    /// The plain bytes, in the order of `bodies`. Also of messages that were expunged a moment ago. Callers ask for few at a time.
    fn bodies(&self, account: AccountId, bodies: &[BodyId]) -> impl Future<Output = Outcome<Vec<Outcome<Bytes>>>> + Send;
    /// What the full-text index knows; none: there is no index at the moment, everything is scanned.
    fn search_text(
        &self,
        account: AccountId,
        field: TextField,
        text: &str,
    ) -> impl Future<Output = Outcome<Option<TextHits>>> + Send;

    /// All annotations of a mailbox, or of the server as this account sees it (RFC 5464).
    fn annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
    ) -> impl Future<Output = Outcome<Vec<Annotation>>> + Send;
    /// Sets (or with none removes) annotations: all or none.
    fn set_annotations(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        entries: Vec<(String, Option<Bytes>)>,
    ) -> impl Future<Output = Outcome<()>> + Send;
    /// Use and limits of the account.
    fn usage(&self, account: AccountId) -> impl Future<Output = Outcome<Usage>> + Send;
}

/// UIDs as ranges, for large answers.
#[must_use]
pub fn uid_ranges(uids: &[Uid]) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for uid in uids {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(uid.0) => *last = *last.start()..=uid.0,
            _ => ranges.push(uid.0..=uid.0),
        }
    }
    ranges
}
