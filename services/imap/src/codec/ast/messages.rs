//! What a client can ask of the messages of the selected mailbox: SEARCH, SORT, THREAD, FETCH, STORE.

use crate::codec::set::SequenceSet;
use twinpost_message::Flags;

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
