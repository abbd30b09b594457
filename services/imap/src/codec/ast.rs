//! What a client can ask: the commands of IMAP as types.
//!
//! Contract: a value of these types is well formed (numbers in range, names normalised, lists within the limits of the
//! parser); whether the session's state, rights or extensions allow it is for the session to say. Mailbox names are UTF-8,
//! NFC, with `/` between levels and `INBOX` in capitals, whatever the wire form was.
//!
//! Failure class: [`CommandError`], a tagged refusal; nothing else.

mod messages;

pub use crate::SpecialUse;
use crate::codec::set::SequenceSet;
pub use messages::{
    AddressField, DateField, Day, Fetch, FetchItem, FlagList, PartialRange, ReturnOptions, Search, SearchKey, Section,
    SectionWhat, SortBy, SortKey, Store, StoreAction, ThreadAlgorithm,
};
use std::fmt;

/// A complete command (RFC 9051 2.2.1). APPEND and REPLACE come as [`AppendStart`] instead: their messages are streamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The client's tag.
    pub tag: String,
    /// What it asks.
    pub request: Request,
}

/// Why a command was not understood; the text for the tagged answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// The tag when it could be read, else none (answer untagged `* BAD`).
    pub tag: Option<String>,
    /// Answer NO with this code, or BAD.
    pub kind: ErrorKind,
    /// Text for the client, ASCII, no line break.
    pub message: String,
}

/// How a refusal is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `BAD`: the syntax is wrong or the command unknown.
    Syntax,
    /// `NO [BADCHARSET (US-ASCII UTF-8)]` (RFC 9051 6.4.4).
    BadCharset,
    /// `NO [LIMIT]` (RFC 9051 7.1): well formed, but with too many elements or nested too deep.
    Limit,
    /// `NO [CANNOT]`: a name that can not be a mailbox (RFC 9051 7.1).
    Cannot,
    /// `NO [TOOBIG]`: a literal over the limit (RFC 7888 4, RFC 4469).
    TooBig,
}

/// A mailbox name: UTF-8 in NFC, `/` between levels, first level `INBOX` in capitals (RFC 9051 5.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(pub(crate) String);

impl MailboxName {
    /// A name from normal text: NFC, INBOX in capitals, one trailing `/` dropped. Never fails; whether it may be created
    /// is another question ([`crate::codec::name::creatable`]).
    #[must_use]
    pub fn new(text: &str) -> Self {
        crate::codec::name::normalise(text)
    }
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// It is INBOX itself (RFC 9051 5.1).
    #[must_use]
    pub fn is_inbox(&self) -> bool {
        self.0 == "INBOX"
    }
    /// The text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All commands. `uid` means that the command came with the prefix `UID`: its set (if it has one) and its answer are UIDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// RFC 9051 6.1.1.
    Capability,
    /// RFC 9051 6.1.2.
    Noop,
    /// RFC 9051 6.1.3.
    Logout,
    /// RFC 9051 6.2.1.
    StartTls,
    /// RFC 9051 6.2.2 with initial response (RFC 4959): base64 text as sent, `=` given as the empty text.
    Authenticate {
        /// Mechanism in capitals.
        mechanism: String,
        /// Initial response in base64.
        initial: Option<String>,
    },
    /// RFC 9051 6.2.3.
    Login {
        /// User name.
        user: String,
        /// Password.
        password: String,
    },
    /// RFC 5161: names in capitals.
    Enable(Vec<String>),
    /// RFC 2971; empty for `NIL`.
    Id(Vec<(String, Option<String>)>),
    /// RFC 9051 6.3.2 and 6.3.3.
    Select(Select),
    /// RFC 9051 6.3.4, RFC 6154 5.1.
    Create {
        /// New name.
        mailbox: MailboxName,
        /// The client wrote a trailing `/`: names below it will follow.
        parent_only: bool,
        /// `USE` attributes asked for.
        special_use: Vec<SpecialUse>,
    },
    /// RFC 9051 6.3.5.
    Delete(MailboxName),
    /// RFC 9051 6.3.6.
    Rename {
        /// Old name.
        from: MailboxName,
        /// New name.
        to: MailboxName,
    },
    /// RFC 9051 6.3.7.
    Subscribe(MailboxName),
    /// RFC 9051 6.3.8.
    Unsubscribe(MailboxName),
    /// RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154, and RFC 3501 6.3.9 LSUB.
    List(List),
    /// RFC 9051 6.3.10.
    Namespace,
    /// RFC 9051 6.3.11.
    Status {
        /// Mailbox.
        mailbox: MailboxName,
        /// What is asked.
        items: Vec<StatusItem>,
    },
    /// RFC 9051 6.3.13; ends by a line `DONE` that the session reads.
    Idle,
    /// RFC 3501 6.4.1.
    Check,
    /// RFC 9051 6.4.1.
    Close,
    /// RFC 9051 6.4.2.
    Unselect,
    /// RFC 9051 6.4.3, and `UID EXPUNGE` (6.4.9) when a set is there.
    Expunge {
        /// UIDs of `UID EXPUNGE`.
        uids: Option<SequenceSet>,
    },
    /// RFC 9051 6.4.4, RFC 4731.
    Search(Search),
    /// RFC 5256 3, RFC 5267.
    Sort {
        /// Keys, first the most important.
        keys: Vec<SortKey>,
        /// What is to be sorted.
        search: Search,
    },
    /// RFC 5256 3.
    Thread {
        /// Algorithm.
        algorithm: ThreadAlgorithm,
        /// What is to be threaded; no return options.
        search: Search,
    },
    /// RFC 9051 6.4.5.
    Fetch(Fetch),
    /// RFC 9051 6.4.6.
    Store(Store),
    /// RFC 9051 6.4.7.
    Copy {
        /// By UID.
        uid: bool,
        /// Messages.
        set: SequenceSet,
        /// Target.
        mailbox: MailboxName,
    },
    /// RFC 9051 6.4.8.
    Move {
        /// By UID.
        uid: bool,
        /// Messages.
        set: SequenceSet,
        /// Target.
        mailbox: MailboxName,
    },
    /// RFC 9208 4.1.1.
    GetQuota(String),
    /// RFC 9208 4.1.2.
    GetQuotaRoot(MailboxName),
    /// RFC 9208 4.1.3.
    SetQuota {
        /// Quota root.
        root: String,
        /// Resource names in capitals with limits in the resource's unit.
        limits: Vec<(String, u64)>,
    },
    /// RFC 5464 4.2.
    GetMetadata(GetMetadata),
    /// RFC 5464 4.3; value none removes the entry.
    SetMetadata {
        /// Mailbox; none is the server (`""`).
        mailbox: Option<MailboxName>,
        /// Entry names in lower case with their values.
        entries: Vec<(String, Option<Vec<u8>>)>,
    },
    /// RFC 5465 3.
    Notify(Notify),
    /// RFC 4978; mechanism in capitals.
    Compress(String),
}

/// SELECT or EXAMINE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Mailbox.
    pub mailbox: MailboxName,
    /// EXAMINE (RFC 9051 6.3.3).
    pub read_only: bool,
    /// `CONDSTORE` (RFC 7162 3.1.8).
    pub condstore: bool,
    /// `QRESYNC` (RFC 7162 3.2.5).
    pub qresync: Option<Qresync>,
}

/// What the client remembers (RFC 7162 3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qresync {
    /// Last known UIDVALIDITY.
    pub uid_validity: u32,
    /// Last known mod-sequence.
    pub modseq: u64,
    /// Known UIDs; none means all.
    pub known_uids: Option<SequenceSet>,
    /// Known sequence numbers and the UIDs that they had.
    pub seq_match: Option<(SequenceSet, SequenceSet)>,
}

/// LIST or LSUB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// LSUB (RFC 3501 6.3.9).
    pub lsub: bool,
    /// Reference name (may be empty).
    pub reference: String,
    /// Patterns with `*` and `%`, decoded like names.
    pub patterns: Vec<String>,
    /// Came with the extended syntax (RFC 5258): an empty pattern is then no special question.
    pub extended: bool,
    /// Selection options.
    pub select: ListSelect,
    /// Return options.
    pub returns: ListReturn,
}

/// RFC 5258 3.1, RFC 6154 5.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelect {
    /// `SUBSCRIBED`
    pub subscribed: bool,
    /// `REMOTE`: no remote mailboxes exist here.
    pub remote: bool,
    /// `RECURSIVEMATCH`
    pub recursive_match: bool,
    /// `SPECIAL-USE`
    pub special_use: bool,
}

/// RFC 5258 3.2, RFC 5819, RFC 6154 5.2, RFC 9590 (METADATA).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReturn {
    /// `SUBSCRIBED`
    pub subscribed: bool,
    /// `CHILDREN`
    pub children: bool,
    /// `SPECIAL-USE`
    pub special_use: bool,
    /// `STATUS (..)`
    pub status: Option<Vec<StatusItem>>,
}

/// RFC 9051 6.3.11 and its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusItem {
    /// `MESSAGES`
    Messages,
    /// `RECENT` (RFC 3501 only; always 0)
    Recent,
    /// `UIDNEXT`
    UidNext,
    /// `UIDVALIDITY`
    UidValidity,
    /// `UNSEEN`
    Unseen,
    /// `DELETED`
    Deleted,
    /// `SIZE` (RFC 8438)
    Size,
    /// `HIGHESTMODSEQ` (RFC 7162)
    HighestModSeq,
    /// `APPENDLIMIT` (RFC 7889)
    AppendLimit,
    /// `MAILBOXID` (RFC 8474)
    MailboxId,
    /// `DELETED-STORAGE` (RFC 9208)
    DeletedStorage,
}

/// GETMETADATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetMetadata {
    /// Mailbox; none is the server (`""`).
    pub mailbox: Option<MailboxName>,
    /// Entry names in lower case.
    pub entries: Vec<String>,
    /// `MAXSIZE` in bytes.
    pub max_size_bytes: Option<u32>,
    /// `DEPTH`
    pub depth: Depth,
}

/// RFC 5464 4.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// `0`
    #[default]
    Zero,
    /// `1`
    One,
    /// `infinity`
    Infinity,
}

/// NOTIFY (RFC 5465 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// `NOTIFY NONE`
    None,
    /// `NOTIFY SET`
    Set {
        /// `STATUS`: report the state of the mailboxes at once.
        status: bool,
        /// What is wanted where.
        groups: Vec<EventGroup>,
    },
}

/// One group of NOTIFY SET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGroup {
    /// Which mailboxes.
    pub filter: MailboxFilter,
    /// Events; empty for `NONE`.
    pub events: Vec<NotifyEvent>,
}

/// RFC 5465 6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailboxFilter {
    /// `SELECTED`
    Selected,
    /// `SELECTED-DELAYED`
    SelectedDelayed,
    /// `INBOXES`
    Inboxes,
    /// `PERSONAL`
    Personal,
    /// `SUBSCRIBED`
    Subscribed,
    /// `SUBTREE`
    Subtree(Vec<MailboxName>),
    /// `MAILBOXES`
    Mailboxes(Vec<MailboxName>),
}

/// RFC 5465 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyEvent {
    /// `MessageNew` with the items to be fetched for the selected mailbox.
    MessageNew(Vec<FetchItem>),
    /// `MessageExpunge`
    MessageExpunge,
    /// `FlagChange`
    FlagChange,
    /// `AnnotationChange`
    AnnotationChange,
    /// `MailboxName`
    MailboxName,
    /// `SubscriptionChange`
    SubscriptionChange,
    /// `MailboxMetadataChange`
    MailboxMetadataChange,
    /// `ServerMetadataChange`
    ServerMetadataChange,
}

/// A literal as announced (RFC 9051 4.3, RFC 7888, RFC 3516).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal {
    /// Bytes that follow the line.
    pub size_bytes: u64,
    /// The client waits for `+` (no `{n+}`).
    pub sync: bool,
    /// `~{n}`: may hold NUL.
    pub binary: bool,
}

/// APPEND or REPLACE up to its first message literal. The session checks target and size, answers `+` when the literal is
/// synchronising, reads the literal itself, and asks [`crate::codec::frame::Framer`] for what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendStart {
    /// The client's tag.
    pub tag: String,
    /// Target mailbox.
    pub mailbox: MailboxName,
    /// REPLACE (RFC 8508): the message that the new one replaces.
    pub replace: Option<Replace>,
    /// The first message.
    pub item: AppendItem,
}

/// The message to be replaced (RFC 8508 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replace {
    /// `UID REPLACE`
    pub uid: bool,
    /// One number, or `*`.
    pub number: SequenceSet,
}

/// What stands before one message literal (RFC 9051 6.3.12, RFC 3502).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendItem {
    /// Flags.
    pub flags: FlagList,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: Option<i64>,
    /// `UTF8 (~{n}` (RFC 6855 4): a `)` follows the literal.
    pub utf8: bool,
    /// The literal.
    pub literal: Literal,
}
