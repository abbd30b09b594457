//! What callers hand to the store and get back: deliveries, mailboxes, flags, changes.

use crate::OverQuota;
use crate::spool::NewSpool;
use bytes::Bytes;
use std::sync::Arc;
use twinpost_message::{
    AccountId, BodyHash, BodyId, DomainId, Flags, MailboxId, ModSeq, Parsed, QueueId, TraceId, Uid, UidValidity,
};

/// Between the levels of a mailbox name.
pub const SEPARATOR: char = '/';
/// The mailbox that every account has.
pub const INBOX: &str = "INBOX";

/// A message after the work that needs no lock and no disk: hashed, compressed, parsed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub(crate) inner: Arc<PreparedBody>,
}

#[derive(Debug)]
pub(crate) struct PreparedBody {
    pub record: crate::pack::record::EncodedRecord,
    pub hash: BodyHash,
    pub size_bytes: u32,
    pub thread: u64,
    pub parsed: Arc<Parsed>,
    pub parsed_blob: Vec<u8>,
}

impl Prepared {
    /// Identity of the plain bytes.
    #[must_use]
    pub fn hash(&self) -> BodyHash {
        self.inner.hash
    }
    /// Size of the plain message in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.inner.size_bytes
    }
    /// What was parsed.
    #[must_use]
    pub fn parsed(&self) -> &Arc<Parsed> {
        &self.inner.parsed
    }
}

/// A limit on what is stored; none is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Sum of message sizes, in bytes.
    pub size_bytes: Option<u64>,
    /// Number of messages.
    pub messages: Option<u64>,
}

/// Limits that a delivery must keep, as the directory has them now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Of the account.
    pub account: Quota,
    /// Of its domain, all accounts together.
    pub domain: Quota,
}

/// What is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Sum of message sizes, in bytes. A body shared by many mailboxes counts in each.
    pub size_bytes: u64,
    /// Number of messages.
    pub messages: u64,
}

impl Usage {
    pub(crate) fn over(&self, quota: &Quota, add_bytes: u64, add_messages: u64) -> (bool, bool) {
        (
            quota.size_bytes.is_some_and(|most| self.size_bytes.saturating_add(add_bytes) > most),
            quota.messages.is_some_and(|most| self.messages.saturating_add(add_messages) > most),
        )
    }
}

impl Limits {
    /// Which limit would break if this were added to these.
    #[must_use]
    pub fn broken_by(&self, account: &Usage, domain: &Usage, add_bytes: u64, add_messages: u64) -> Option<OverQuota> {
        let (bytes, messages) = account.over(&self.account, add_bytes, add_messages);
        let (domain_bytes, domain_messages) = domain.over(&self.domain, add_bytes, add_messages);
        if bytes {
            Some(OverQuota::AccountBytes)
        } else if messages {
            Some(OverQuota::AccountMessages)
        } else if domain_bytes {
            Some(OverQuota::DomainBytes)
        } else if domain_messages {
            Some(OverQuota::DomainMessages)
        } else {
            None
        }
    }
}

/// Where in an account a delivery goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Folder {
    /// INBOX.
    #[default]
    Inbox,
    /// This mailbox if the account has it, else INBOX.
    Named(String),
}

/// One local recipient.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose mailbox.
    pub account: AccountId,
    /// The account's domain, for its quota.
    pub domain: DomainId,
    /// Which mailbox.
    pub folder: Folder,
    /// Flags that the message arrives with.
    pub flags: FlagNames,
    /// Limits to keep.
    pub limits: Limits,
    /// The recipient's address as the sender gave it, for the queue when the target is over quota.
    pub recipient: twinpost_message::Address,
}

/// What becomes of targets that are over quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverQuotaPolicy {
    /// Each is refused in the answer.
    #[default]
    Refuse,
    /// Each becomes a recipient of the delivery's queue entry and is tried again from there. Needs `Delivery::spool`.
    Spool,
}

/// One message for any number of mailboxes and for the outbound queue, in one commit.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The message.
    pub body: Prepared,
    /// Its name in logs.
    pub trace: TraceId,
    /// INTERNALDATE of the copies, seconds since 1970 UTC.
    pub received_s: i64,
    /// Local mailboxes.
    pub targets: Vec<Target>,
    /// Queue entry; none is made when it has no recipients (and none was over quota).
    pub spool: Option<NewSpool>,
    /// What becomes of targets that are over quota.
    pub over_quota: OverQuotaPolicy,
}

/// What became of one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In this mailbox.
    Stored {
        /// The mailbox.
        mailbox: MailboxId,
        /// Its UID there.
        uid: Uid,
    },
    /// Refused.
    OverQuota(OverQuota),
    /// Over quota, and put into the queue.
    Spooled(OverQuota),
}

/// What became of a delivery. It is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// In the order of the targets.
    pub outcomes: Vec<Outcome>,
    /// The queue entry.
    pub queue: Option<QueueId>,
    /// The stored body; none when every target was refused.
    pub body: Option<BodyId>,
}

/// System flags, and keywords by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagNames {
    /// System flags; keyword bits here are passed over.
    pub system: Flags,
    /// Keywords; upper and lower case are the same (RFC 9051 2.3.2).
    pub keywords: Vec<String>,
}

impl FlagNames {
    /// Only system flags.
    #[must_use]
    pub fn system(system: Flags) -> Self {
        Self { system, keywords: Vec::new() }
    }
}

/// One message of an APPEND.
#[derive(Clone, Debug)]
pub struct AppendMessage {
    /// The message.
    pub body: Prepared,
    /// Flags that it arrives with.
    pub flags: FlagNames,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: i64,
}

/// APPEND of one or more messages: all or none (RFC 3502), and REPLACE (RFC 8508).
#[derive(Clone, Debug)]
pub struct Append {
    /// Where to.
    pub mailbox: MailboxId,
    /// The messages.
    pub messages: Vec<AppendMessage>,
    /// Limits to keep.
    pub limits: Limits,
    /// A message that goes in the same commit.
    pub replace: Option<(MailboxId, Uid)>,
}

/// What an APPEND made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// UIDVALIDITY of the mailbox.
    pub uid_validity: UidValidity,
    /// New UIDs in the order of the messages.
    pub uids: Vec<Uid>,
    /// Bodies in the order of the messages.
    pub bodies: Vec<BodyId>,
    /// HIGHESTMODSEQ of the mailbox behind it.
    pub modseq: ModSeq,
}

/// What a STORE does with the flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagAction {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
}

/// A change of flags.
#[derive(Clone, Debug)]
pub struct SetFlags {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Which messages; UIDs that are gone are passed over.
    pub uids: Vec<Uid>,
    /// What to do.
    pub action: FlagAction,
    /// With which flags.
    pub flags: FlagNames,
    /// RFC 7162 3.1.3: a message with a higher modseq stays as it is.
    pub unchanged_since: Option<ModSeq>,
}

/// What a change of flags did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagsSet {
    /// Messages whose flags are different now.
    pub changed: Vec<Uid>,
    /// Messages that UNCHANGEDSINCE held back (`MODIFIED`).
    pub modified: Vec<Uid>,
    /// HIGHESTMODSEQ of the mailbox behind it.
    pub modseq: ModSeq,
}

/// What an expunge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expunged {
    /// Gone now.
    pub uids: Vec<Uid>,
    /// HIGHESTMODSEQ of the mailbox behind it.
    pub modseq: ModSeq,
}

/// COPY or MOVE.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// From here.
    pub from: MailboxId,
    /// Which messages; UIDs that are gone are passed over.
    pub uids: Vec<Uid>,
    /// To here.
    pub to: MailboxId,
    /// Limits of the account that `to` belongs to; a move within one account needs none.
    pub limits: Limits,
    /// The messages leave `from` in the same commit.
    pub remove: bool,
}

/// What a COPY or MOVE did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// Old and new UID of each message, in rising order.
    pub pairs: Vec<(Uid, Uid)>,
    /// HIGHESTMODSEQ of the mailbox that they came from, behind it.
    pub modseq: ModSeq,
}

/// RFC 6154, RFC 8457.
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
    /// `\Important`
    Important,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    /// Every use.
    pub const EVERY: [Self; 8] =
        [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Important, Self::Junk, Self::Sent, Self::Trash];

    /// Its attribute without the backslash.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Archive => "Archive",
            Self::Drafts => "Drafts",
            Self::Flagged => "Flagged",
            Self::Important => "Important",
            Self::Junk => "Junk",
            Self::Sent => "Sent",
            Self::Trash => "Trash",
        }
    }
    /// The use with this attribute name, in any case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::EVERY.into_iter().find(|u| u.name().eq_ignore_ascii_case(name))
    }
}

/// A mailbox and its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxInfo {
    /// Its identity, also RFC 8474 MAILBOXID. Survives a rename.
    pub id: MailboxId,
    /// Whose.
    pub account: AccountId,
    /// Full name, levels divided by [`SEPARATOR`].
    pub name: String,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// HIGHESTMODSEQ.
    pub highest_modseq: ModSeq,
    /// MESSAGES.
    pub messages: u32,
    /// UNSEEN.
    pub unseen: u32,
    /// DELETED.
    pub deleted: u32,
    /// SIZE in bytes.
    pub size_bytes: u64,
    /// Special use.
    pub special_use: Option<SpecialUse>,
    /// The account subscribed to its name.
    pub subscribed: bool,
    /// When it was made, seconds since 1970 UTC.
    pub created_s: i64,
}

/// Kinds of rows in the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// A message came.
    Added,
    /// Its flags changed.
    Flags,
    /// It went.
    Expunged,
    /// A mailbox was made.
    MailboxCreated,
    /// A mailbox has another name.
    MailboxRenamed,
    /// A mailbox went with its messages.
    MailboxDeleted,
    /// Special use or subscription changed.
    MailboxAttributes,
    /// Annotations changed.
    Annotations,
    /// A queue entry came (`body` is set).
    Spooled,
    /// Everything of an account went.
    AccountDeleted,
}

impl ChangeKind {
    const EVERY: [Self; 10] = [
        Self::Added,
        Self::Flags,
        Self::Expunged,
        Self::MailboxCreated,
        Self::MailboxRenamed,
        Self::MailboxDeleted,
        Self::MailboxAttributes,
        Self::Annotations,
        Self::Spooled,
        Self::AccountDeleted,
    ];
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Added => 1,
            Self::Flags => 2,
            Self::Expunged => 3,
            Self::MailboxCreated => 4,
            Self::MailboxRenamed => 5,
            Self::MailboxDeleted => 6,
            Self::MailboxAttributes => 7,
            Self::Annotations => 8,
            Self::Spooled => 9,
            Self::AccountDeleted => 10,
        }
    }
    pub(crate) fn of(number: i64) -> Option<Self> {
        Self::EVERY.into_iter().find(|k| k.number() == number)
    }
}

/// One row of the change log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its position.
    pub modseq: ModSeq,
    /// Whose (0: nobody's, a queue entry).
    pub account: AccountId,
    /// Which mailbox (0: none).
    pub mailbox: MailboxId,
    /// What happened.
    pub kind: ChangeKind,
    /// Which message (0: none).
    pub uid: Uid,
    /// Its body (0: none).
    pub body: BodyId,
    /// When, seconds since 1970 UTC.
    pub at_s: i64,
}

/// What happened in an account, for sessions that have another mailbox open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Messages of this mailbox came, went or changed.
    Mailbox(MailboxId),
    /// The list of mailboxes, their names, uses or subscriptions.
    List,
    /// Annotations.
    Annotations,
}

/// Where an annotation belongs and what it says (RFC 5464).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The mailbox; none is the server.
    pub mailbox: Option<MailboxId>,
    /// Entry name in lower case, `/private/comment`.
    pub entry: String,
    /// Its value; none removes it.
    pub value: Option<Bytes>,
}

/// A message that was expunged and can still be brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Name of this entry for [`crate::Store::restore`].
    pub id: i64,
    /// Name of the mailbox that it was in.
    pub mailbox_name: String,
    /// Its UID there.
    pub uid: Uid,
    /// Its body.
    pub body: BodyId,
    /// Size in bytes.
    pub size_bytes: u32,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: i64,
    /// When it was expunged, seconds since 1970 UTC.
    pub deleted_s: i64,
}
