//! What a client can ask: the commands of IMAP as types.
//!
//! Contract: a value of these types is well formed (numbers in range, names normalised, lists within the limits of the
//! parser); whether the session's state, rights or extensions allow it is for the session to say. Mailbox names are UTF-8,
//! NFC, with `/` between levels and `INBOX` in capitals, whatever the wire form was.
//!
//! Failure class: [`CommandError`], a tagged refusal; nothing else.

pub use crate::SpecialUse;
use crate::codec::set::SequenceSet;
use std::fmt;
use twinpost_message::Flags;

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

/// SEARCH, and the search part of SORT and THREAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Answer in UIDs.
    pub uid: bool,
    /// `RETURN (..)` (RFC 9051 6.4.4); none: the old answer of RFC 3501 (in rev2 an empty RETURN).
    pub returns: Option<ReturnOptions>,
    /// The program; strings are already decoded from their CHARSET.
    pub program: SearchKey,
}

/// RFC 9051 6.4.4; RFC 9394.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReturnOptions {
    /// `MIN`
    pub min: bool,
    /// `MAX`
    pub max: bool,
    /// `ALL`, also for an empty list
    pub all: bool,
    /// `COUNT`
    pub count: bool,
    /// `SAVE` (RFC 5182)
    pub save: bool,
    /// `PARTIAL` (RFC 9394)
    pub partial: Option<PartialRange>,
}

/// `1:500` (first 500), `-1:-500` (last 500) (RFC 9394 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialRange {
    /// Counted from the end.
    pub from_end: bool,
    /// First position, from 1.
    pub first: u32,
    /// Last position, not below `first`.
    pub last: u32,
}

/// A day: days since 1 January 1970.
pub type Day = i32;

/// RFC 9051 6.4.4. A list of keys is [`SearchKey::And`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    /// `ALL`
    All,
    /// All of these.
    And(Vec<SearchKey>),
    /// `OR`
    Or(Box<SearchKey>, Box<SearchKey>),
    /// `NOT`, and the `UN...` keys.
    Not(Box<SearchKey>),
    /// Sequence numbers, or `$` (RFC 5182).
    Sequence(SequenceSet),
    /// `UID`
    Uid(SequenceSet),
    /// `SEEN`, `ANSWERED`, `FLAGGED`, `DELETED`, `DRAFT`: this system flag is set.
    Flag(Flags),
    /// `KEYWORD`, or a system flag that we do not keep.
    Keyword(String),
    /// `RECENT` (RFC 3501): never true here; `NEW` contains it and `OLD` denies it.
    Recent,
    /// `FROM`, `TO`, `CC`, `BCC`: part of one of the addresses.
    Address(AddressField, String),
    /// `SUBJECT`
    Subject(String),
    /// `HEADER`: field name in lower case, text (empty: the field exists).
    Header(String, String),
    /// `BODY`
    Body(String),
    /// `TEXT`
    Text(String),
    /// `BEFORE`
    Before(DateField, Day),
    /// `ON`
    On(DateField, Day),
    /// `SINCE`
    Since(DateField, Day),
    /// `LARGER`, bytes
    Larger(u32),
    /// `SMALLER`, bytes
    Smaller(u32),
    /// `OLDER`, seconds (RFC 5032)
    Older(u32),
    /// `YOUNGER`, seconds (RFC 5032)
    Younger(u32),
    /// `MODSEQ` (RFC 7162 3.1.5): this or higher
    ModSeq(u64),
    /// `SAVEDATESUPPORTED` (RFC 8514): always true here
    SaveDateSupported,
    /// `EMAILID` (RFC 8474)
    EmailId(String),
    /// `THREADID` (RFC 8474)
    ThreadId(String),
}

/// Address headers that SEARCH names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressField {
    /// `FROM`
    From,
    /// `TO`
    To,
    /// `CC`
    Cc,
    /// `BCC`
    Bcc,
}

/// Which date a date key looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateField {
    /// INTERNALDATE (`BEFORE`)
    Received,
    /// `Date:` header (`SENTBEFORE`)
    Sent,
    /// SAVEDATE (`SAVEDBEFORE`, RFC 8514)
    Saved,
}

/// RFC 5256 3, RFC 5957.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// `REVERSE`
    pub reverse: bool,
    /// By what.
    pub by: SortBy,
}

/// RFC 5256 3, RFC 5957 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// `ARRIVAL`
    Arrival,
    /// `CC`
    Cc,
    /// `DATE`
    Date,
    /// `FROM`
    From,
    /// `SIZE`
    Size,
    /// `SUBJECT`
    Subject,
    /// `TO`
    To,
    /// `DISPLAYFROM`
    DisplayFrom,
    /// `DISPLAYTO`
    DisplayTo,
}

/// RFC 5256 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadAlgorithm {
    /// `ORDEREDSUBJECT`
    OrderedSubject,
    /// `REFERENCES`
    References,
}

/// FETCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// By UID; the answer then has UID in any case.
    pub uid: bool,
    /// Messages.
    pub set: SequenceSet,
    /// Items in the client's order, macros (`ALL`, `FAST`, `FULL`) resolved.
    pub items: Vec<FetchItem>,
    /// `CHANGEDSINCE` (RFC 7162 3.1.4.1)
    pub changed_since: Option<u64>,
    /// `VANISHED` (RFC 7162 3.2.6)
    pub vanished: bool,
    /// `PARTIAL` (RFC 9394 3.3)
    pub partial: Option<PartialRange>,
}

/// RFC 9051 6.4.5 and extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchItem {
    /// `FLAGS`
    Flags,
    /// `UID`
    Uid,
    /// `INTERNALDATE`
    InternalDate,
    /// `RFC822.SIZE`
    Rfc822Size,
    /// `ENVELOPE`
    Envelope,
    /// `BODY` without section
    Body,
    /// `BODYSTRUCTURE`
    BodyStructure,
    /// `BODY[..]<..>` and `BODY.PEEK[..]<..>`
    Section {
        /// Does not set `\Seen`.
        peek: bool,
        /// What part.
        section: Section,
        /// First byte and number of bytes.
        partial: Option<(u32, u32)>,
    },
    /// `RFC822` (RFC 3501)
    Rfc822,
    /// `RFC822.HEADER` (RFC 3501)
    Rfc822Header,
    /// `RFC822.TEXT` (RFC 3501)
    Rfc822Text,
    /// `BINARY[..]<..>` and `BINARY.PEEK[..]<..>` (RFC 3516)
    Binary {
        /// Does not set `\Seen`.
        peek: bool,
        /// Part numbers; empty is the whole message.
        part: Vec<u32>,
        /// First byte and number of bytes, of the decoded part.
        partial: Option<(u32, u32)>,
    },
    /// `BINARY.SIZE[..]`
    BinarySize(Vec<u32>),
    /// `MODSEQ` (RFC 7162)
    ModSeq,
    /// `EMAILID` (RFC 8474)
    EmailId,
    /// `THREADID` (RFC 8474)
    ThreadId,
    /// `SAVEDATE` (RFC 8514)
    SaveDate,
    /// `PREVIEW` (RFC 8970)
    Preview {
        /// `(LAZY)`
        lazy: bool,
    },
}

impl FetchItem {
    /// Asking for it sets `\Seen` (RFC 9051 6.4.5).
    #[must_use]
    pub fn sets_seen(&self) -> bool {
        matches!(self, Self::Section { peek: false, .. } | Self::Binary { peek: false, .. } | Self::Rfc822 | Self::Rfc822Text)
    }
    /// Needs the body bytes, not only the index.
    #[must_use]
    pub fn needs_body(&self) -> bool {
        matches!(
            self,
            Self::Section { .. }
                | Self::Binary { .. }
                | Self::BinarySize(_)
                | Self::Rfc822
                | Self::Rfc822Header
                | Self::Rfc822Text
        )
    }
    /// Needs `Parsed` (and not only the entry of the list).
    #[must_use]
    pub fn needs_parsed(&self) -> bool {
        self.needs_body()
            || matches!(self, Self::Envelope | Self::Body | Self::BodyStructure | Self::ThreadId | Self::Preview { .. })
    }
}

/// RFC 9051 6.4.5.1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// Part numbers; empty is the message itself.
    pub part: Vec<u32>,
    /// What of it.
    pub what: SectionWhat,
}

/// The part specifier behind the numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SectionWhat {
    /// Nothing: all of the message, or the part's body.
    #[default]
    All,
    /// `HEADER`
    Header,
    /// `HEADER.FIELDS`: names as the client wrote them.
    HeaderFields(Vec<String>),
    /// `HEADER.FIELDS.NOT`
    HeaderFieldsNot(Vec<String>),
    /// `TEXT`
    Text,
    /// `MIME`; only behind part numbers.
    Mime,
}

/// STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// By UID.
    pub uid: bool,
    /// Messages.
    pub set: SequenceSet,
    /// `UNCHANGEDSINCE` (RFC 7162 3.1.3)
    pub unchanged_since: Option<u64>,
    /// Add, remove or replace.
    pub action: StoreAction,
    /// `.SILENT`
    pub silent: bool,
    /// The flags.
    pub flags: FlagList,
}

/// RFC 9051 6.4.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAction {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// System flags and keywords by name. `\Recent` and unknown system flags are dropped (RFC 9051 2.3.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagList {
    /// System flags.
    pub system: Flags,
    /// Keywords as the client wrote them, each once (compared without case).
    pub keywords: Vec<String>,
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
