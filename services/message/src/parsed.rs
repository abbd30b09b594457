//! What is known of a message once it was parsed at arrival: kept in the index, so that nothing parses a body to list a
//! mailbox. Stored with postcard behind a version byte; any change of a type here needs a new [`Parsed::VERSION`].
//!
//! Contract: building never fails (see `mime`); reading stored bytes of another version or damaged ones gives `None`, and
//! the caller parses the message again.

use serde::{Deserialize, Serialize};

/// Everything a mailbox list, a thread view, `ENVELOPE`, `BODYSTRUCTURE`, `PREVIEW` and a part fetch need.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsed {
    /// RFC 9051 7.5.2 ENVELOPE, decoded or raw as its fields say.
    pub envelope: Envelope,
    /// The MIME tree with byte offsets into the plain message.
    pub root: Part,
    /// First words of the text, decoded, white space folded, at most 200 characters (RFC 8970).
    pub preview: String,
    /// Thread that the message belongs to (RFC 8474 THREADID): a hash of the first Message-ID that its References name,
    /// else of In-Reply-To, else of its own Message-ID, else of the body itself. Needs no look-up, and is the same on every node.
    pub thread: u64,
    /// Its own Message-ID, bare: without brackets and quoting (RFC 5256 3, normalised). None when absent or unreadable.
    pub id: Option<String>,
    /// Ids that References names, bare, oldest first; the first id of In-Reply-To when References names none
    /// (RFC 5256 3, REFERENCES). Its own id is not among them.
    pub references: Vec<String>,
    /// Base subject of RFC 5256 2.1 (decoded), for SORT and THREAD.
    pub base_subject: String,
    /// The subject began with a reply or forward mark (RFC 5256 2.1).
    pub is_reply: bool,
    /// `Date:` as seconds since 1970 UTC; none when absent or unreadable.
    pub sent_s: Option<i64>,
    /// The `Date:` zone, minutes east of UTC (SENTBEFORE and so on disregard time and zone, RFC 9051 6.4.4).
    pub sent_zone_min: i16,
    /// A part that a person would call an attachment exists.
    pub has_attachment: bool,
}

/// RFC 9051 7.5.2. Text fields hold the raw header value, unfolded, encoded words not decoded (clients do that); bytes that
/// are not UTF-8 were read in the message's own charset, or what they look like (see `charset`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Raw `Date:` value.
    pub date: Option<String>,
    /// Raw `Subject:` value.
    pub subject: Option<String>,
    /// Decoded subject, for people, logs, SORT and search.
    pub subject_text: String,
    /// `From:`
    pub from: Vec<Addr>,
    /// `Sender:`; the From addresses when absent (RFC 9051 7.5.2).
    pub sender: Vec<Addr>,
    /// `Reply-To:`; the From addresses when absent.
    pub reply_to: Vec<Addr>,
    /// `To:`
    pub to: Vec<Addr>,
    /// `Cc:`
    pub cc: Vec<Addr>,
    /// `Bcc:`
    pub bcc: Vec<Addr>,
    /// Raw `In-Reply-To:` value.
    pub in_reply_to: Option<String>,
    /// Raw `Message-ID:` value, with brackets.
    pub message_id: Option<String>,
}

impl Parsed {
    /// First byte of the stored form. Counts up whenever a type in here changes.
    pub const VERSION: u8 = 1;

    /// The stored form: version byte, then postcard.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut start = Vec::with_capacity(1024);
        start.push(Self::VERSION);
        postcard::to_extend(self, start).expect("a Vec takes all and these types have no failing serializer")
    }

    /// Reads the stored form. `None` for another version or damage: parse the message again.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            Some((&Self::VERSION, rest)) => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }
}

impl Envelope {
    /// Every mailbox of an address list, members of groups too.
    pub fn mailboxes(list: &[Addr]) -> impl Iterator<Item = &Mailbox> {
        list.iter().flat_map(|addr| match addr {
            Addr::Mailbox(mailbox) => std::slice::from_ref(mailbox),
            Addr::Group(group) => group.members.as_slice(),
        })
    }
}

impl Part {
    /// The value of a Content-Type parameter; `name` in lower case.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        find_param(&self.params, name)
    }
    /// The file name that the part gives itself: `filename` of its disposition, else `name` of its type.
    #[must_use]
    pub fn file_name(&self) -> Option<&str> {
        self.disposition.as_ref().and_then(|d| find_param(&d.params, "filename")).or_else(|| self.param("name"))
    }
    /// Size of the body in bytes as it stands in the message (encoded).
    #[must_use]
    pub fn body_bytes(&self) -> u32 {
        self.body_end.saturating_sub(self.body_start)
    }
    /// `kind/subtype` equal these.
    #[must_use]
    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.kind == kind && self.subtype == subtype
    }
    /// The sender wants it shown as an attachment.
    #[must_use]
    pub fn is_attachment(&self) -> bool {
        self.disposition.as_ref().is_some_and(|d| d.kind == "attachment")
    }
}

fn find_param<'p>(params: &'p [Param], name: &str) -> Option<&'p str> {
    params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// One entry of an address header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Addr {
    /// A mailbox.
    Mailbox(Mailbox),
    /// A named group (RFC 5322 3.4).
    Group(Group),
}

/// `Name <local@host>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Display name as written (encoded words kept).
    pub name: Option<String>,
    /// Part before `@`.
    pub local: String,
    /// Part behind `@`; empty when the header had none.
    pub host: String,
}

/// `Name: a@x, b@y;`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Name of the group.
    pub name: String,
    /// Its members.
    pub members: Vec<Mailbox>,
}

/// A MIME parameter, name in lower case, value decoded by RFC 2231.
pub type Param = (String, String);

/// One node of the MIME tree (RFC 2045). Offsets count bytes of the plain message from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Type in lower case, `text`.
    pub kind: String,
    /// Subtype in lower case, `plain`.
    pub subtype: String,
    /// Content-Type parameters.
    pub params: Vec<Param>,
    /// Content-ID as written.
    pub content_id: Option<String>,
    /// Content-Description as written.
    pub description: Option<String>,
    /// Content-Transfer-Encoding in lower case, `7bit` when absent.
    pub encoding: String,
    /// Content-MD5 as written.
    pub md5: Option<String>,
    /// Content-Disposition.
    pub disposition: Option<ContentDisposition>,
    /// Content-Language tags.
    pub language: Vec<String>,
    /// Content-Location.
    pub location: Option<String>,
    /// Where the part's header begins (for the root: 0). Always `header_start <= body_start <= body_end`, inside the
    /// body of the part around it.
    pub header_start: u32,
    /// Where its body begins: behind the empty line.
    pub body_start: u32,
    /// Where its body ends (before the line break that belongs to the next boundary).
    pub body_end: u32,
    /// Line breaks in the body (for text and message/rfc822; 0 elsewhere).
    pub lines: u32,
    /// What is inside.
    pub body: PartBody,
}

/// What a part holds. `multipart/*` that cannot be taken apart (no boundary, none found) is shown as a `text/plain` leaf,
/// an encoded or too deeply nested message or multipart as an `application/octet-stream` leaf: a multipart here always has
/// a part and a `message/rfc822` always its message, as the grammar of BODYSTRUCTURE wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartBody {
    /// Bytes.
    #[default]
    Leaf,
    /// `multipart/*`: its parts in order.
    Multipart(Vec<Part>),
    /// `message/rfc822` or `message/global`: the message inside.
    Message(Box<(Envelope, Part)>),
}

/// Content-Disposition (RFC 2183).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentDisposition {
    /// `inline`, `attachment`, ... in lower case.
    pub kind: String,
    /// Parameters.
    pub params: Vec<Param>,
}
