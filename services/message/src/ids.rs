//! Numbers and names that the parts hand to each other.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
    };
}

id!(/// An account of the directory. Never used again after the account is gone.
    AccountId(i64));
id!(/// A domain of the directory.
    DomainId(i64));
id!(/// A mailbox (folder) of one account. Never used again.
    MailboxId(i64));
id!(/// A stored body: one for each distinct message text, however many mailboxes hold it (RFC 8474 EMAILID).
    BodyId(i64));
id!(/// An entry of the outbound queue.
    QueueId(i64));
id!(/// Unique identifier of a message in its mailbox, from 1 (RFC 9051 2.3.1.1). 0 is never given.
    Uid(u32));
id!(/// UIDVALIDITY of a mailbox (RFC 9051 2.3.1.1), never 0.
    UidValidity(u32));
id!(/// Position in the change log: one growing number for the whole store, so that it serves as mod-sequence of every
    /// mailbox (RFC 7162 3) and as state of every account. Fits 63 bits; 0 means "before the first change".
    ModSeq(u64));

/// BLAKE3 hash of the plain bytes of a message: its identity in the packs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BodyHash(pub [u8; 32]);

impl BodyHash {
    /// Hash of these message bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BodyHash({self})")
    }
}

/// The name of one message in every log line and in its `Received` header: 13 characters of base 32 (Crockford
/// alphabet, lower case) over a 64-bit number that the receiver makes (time and random bits).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId(pub u64);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        (0..13).rev().try_for_each(|i| {
            let digit = (self.0 >> (5 * i)) & 31;
            write!(f, "{}", char::from(ALPHABET[usize::try_from(digit).unwrap_or(0)]))
        })
    }
}
impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl std::str::FromStr for TraceId {
    type Err = ();
    fn from_str(s: &str) -> Result<Self, ()> {
        const ALPHABET: &str = "0123456789abcdefghjkmnpqrstvwxyz";
        if s.len() != 13 {
            return Err(());
        }
        s.chars()
            .try_fold(0u64, |n, c| {
                let digit = ALPHABET.find(c.to_ascii_lowercase()).ok_or(())?;
                Ok((n << 5) | digit as u64)
            })
            .map(Self)
    }
}

/// Flags of one message as bits. Bits 0 to 4 are the system flags of RFC 9051 2.3.2; bits 5 to 62 are keywords, whose
/// names belong to the mailbox (`view::Snapshot::keywords[bit - 5]`), at most 58 of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flags(pub u64);

impl Flags {
    /// `\Seen`
    pub const SEEN: Self = Self(1);
    /// `\Answered`
    pub const ANSWERED: Self = Self(1 << 1);
    /// `\Flagged`
    pub const FLAGGED: Self = Self(1 << 2);
    /// `\Deleted`
    pub const DELETED: Self = Self(1 << 3);
    /// `\Draft`
    pub const DRAFT: Self = Self(1 << 4);
    /// First keyword bit.
    pub const KEYWORD_SHIFT: u32 = 5;
    /// How many keywords a mailbox can name.
    pub const KEYWORDS_MAX: usize = 58;

    /// All bits of `other` are set here.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// Bits of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Bits of self that are not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
    /// The flag of the keyword at this index of the mailbox's keyword list.
    ///
    /// # Panics
    /// If `index` is not below [`Flags::KEYWORDS_MAX`]; the list is never longer.
    #[must_use]
    pub fn keyword(index: usize) -> Self {
        assert!(index < Self::KEYWORDS_MAX, "keyword index {index} is beyond the list");
        Self(1 << (u32::try_from(index).unwrap_or(0) + Self::KEYWORD_SHIFT))
    }
}
