//! The 7-bit alphabets of 3GPP TS 23.038: default, extension and the national language tables.
//!
//! Contract: a character has a code of one or two septets in a pair of tables, or none; every septet has a character. Nothing here
//! fails or allocates. The search tables are made at compile time from `tables`.

use crate::tables as t;

/// The septet that announces a character of the single shift (or extension) table. TS 23.038 6.2.1.
pub const ESCAPE: u8 = 0x1B;

/// A national language of TS 23.038 annex A, with the identifier of TS 23.038 6.2.1.2.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Language {
    /// Turkish: both tables.
    Turkish = 1,
    /// Spanish: a single shift table only.
    Spanish = 2,
    /// Portuguese: both tables.
    Portuguese = 3,
    /// Bengali and Assamese: both tables.
    Bengali = 4,
    /// Gujarati: both tables.
    Gujarati = 5,
    /// Hindi: both tables.
    Hindi = 6,
    /// Kannada: both tables.
    Kannada = 7,
    /// Malayalam: both tables.
    Malayalam = 8,
    /// Oriya (Odia): both tables.
    Oriya = 9,
    /// Punjabi: both tables.
    Punjabi = 10,
    /// Tamil: both tables.
    Tamil = 11,
    /// Telugu: both tables.
    Telugu = 12,
    /// Urdu: both tables.
    Urdu = 13,
}

impl Language {
    /// All of them, in the order of their identifiers.
    pub const ALL: [Self; 13] = [
        Self::Turkish,
        Self::Spanish,
        Self::Portuguese,
        Self::Bengali,
        Self::Gujarati,
        Self::Hindi,
        Self::Kannada,
        Self::Malayalam,
        Self::Oriya,
        Self::Punjabi,
        Self::Tamil,
        Self::Telugu,
        Self::Urdu,
    ];

    /// The language of an identifier; `None` for the reserved ones.
    #[must_use]
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id).checked_sub(1)?).copied()
    }

    /// National language identifier. TS 23.038 6.2.1.2.4.
    #[must_use]
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// Whether a locking shift table exists. TS 23.038 A.3.2 is void: Spanish has none.
    #[must_use]
    pub const fn has_locking(self) -> bool {
        !matches!(self, Self::Spanish)
    }
}

/// A set of languages whose tables may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Languages(u16);

impl Languages {
    /// None: only the default alphabet and its extension.
    pub const NONE: Self = Self(0);
    /// All thirteen.
    pub const ALL: Self = Self(0x3FFE);

    /// This set and one language more.
    #[must_use]
    pub const fn with(self, language: Language) -> Self {
        Self(self.0 | 1 << language.id())
    }

    /// Whether the language is in the set.
    #[must_use]
    pub const fn contains(self, language: Language) -> bool {
        self.0 & (1 << language.id()) != 0
    }

    /// Whether the set has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The languages of the set, in the order of their identifiers.
    pub fn iter(self) -> impl Iterator<Item = Language> {
        Language::ALL.into_iter().filter(move |language| self.contains(*language))
    }
}

impl FromIterator<Language> for Languages {
    fn from_iter<I: IntoIterator<Item = Language>>(languages: I) -> Self {
        languages.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Where a character stands in a pair of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// In the main (default or locking shift) table: one septet.
    Plain(u8),
    /// In the extension or single shift table: escape and this septet.
    Escaped(u8),
}

impl Code {
    /// Septets taken: 1 or 2.
    #[must_use]
    pub const fn septets(self) -> u16 {
        match self {
            Self::Plain(_) => 1,
            Self::Escaped(_) => 2,
        }
    }
}

/// A pair of tables: the main table and the one behind the escape. The default is TS 23.038 6.2.1 with 6.2.1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tables {
    /// Locking shift table in place of the default alphabet; `Spanish`, which has none, means the default alphabet.
    pub locking: Option<Language>,
    /// Single shift table in place of the extension table.
    pub single: Option<Language>,
}

impl Tables {
    /// The default alphabet and its extension table.
    pub const DEFAULT: Self = Self { locking: None, single: None };

    /// The code of a character; `None` when neither table has it (U+001B never has one).
    #[must_use]
    pub fn code(self, c: char) -> Option<Code> {
        self.finder().code(c)
    }

    /// Finds many characters: looks the tables up once.
    pub(crate) fn finder(self) -> Finder {
        Finder { plain: &LOCKING[slot(self.locking)], shifted: &SINGLE[slot(self.single)] }
    }

    /// Whether the main table has the character.
    pub(crate) fn has_plain(self, c: char) -> bool {
        LOCKING[slot(self.locking)].find(u32::from(c)).is_some()
    }

    /// Whether the table behind the escape has the character.
    pub(crate) fn has_shifted(self, c: char) -> bool {
        SINGLE[slot(self.single)].find(u32::from(c)).is_some()
    }

    /// The character of a septet of the main table. A position without character reads as a space. `ESCAPE` too: the caller
    /// looks for it first.
    #[must_use]
    pub fn plain(self, septet: u8) -> char {
        character(MAIN[slot(self.locking)][usize::from(septet & 0x7F)]).unwrap_or(' ')
    }

    /// The character of the septet that follows an escape.
    #[must_use]
    pub fn escaped(self, septet: u8) -> char {
        // TS 23.038 6.2.1.1 note 1: a second escape stands for a further table, none is defined: a space is shown.
        if septet & 0x7F == ESCAPE {
            return ' ';
        }
        // TS 23.038 6.2.1.1: without a character here, the one of the main table is shown.
        character(SHIFTED[slot(self.single)][usize::from(septet & 0x7F)]).unwrap_or_else(|| self.plain(septet))
    }
}

/// A pair of tables, ready to look characters up.
#[derive(Clone, Copy)]
pub(crate) struct Finder {
    plain: &'static Index,
    shifted: &'static Index,
}

impl Finder {
    #[inline]
    pub(crate) fn code(self, c: char) -> Option<Code> {
        match self.plain.find(u32::from(c)) {
            Some(septet) => Some(Code::Plain(septet)),
            None => self.shifted.find(u32::from(c)).map(Code::Escaped),
        }
    }
}

const fn slot(language: Option<Language>) -> usize {
    match language {
        Some(language) => language.id() as usize,
        None => 0,
    }
}

fn character(unit: u16) -> Option<char> {
    if unit == 0 { None } else { char::from_u32(u32::from(unit)) }
}

static MAIN: [&[u16; 128]; 14] = [
    &t::DEFAULT,
    &t::TURKISH,
    &t::DEFAULT,
    &t::PORTUGUESE,
    &t::BENGALI,
    &t::GUJARATI,
    &t::HINDI,
    &t::KANNADA,
    &t::MALAYALAM,
    &t::ORIYA,
    &t::PUNJABI,
    &t::TAMIL,
    &t::TELUGU,
    &t::URDU,
];

static SHIFTED: [&[u16; 128]; 14] = [
    &t::EXTENSION,
    &t::TURKISH_SINGLE,
    &t::SPANISH_SINGLE,
    &t::PORTUGUESE_SINGLE,
    &t::BENGALI_SINGLE,
    &t::GUJARATI_SINGLE,
    &t::HINDI_SINGLE,
    &t::KANNADA_SINGLE,
    &t::MALAYALAM_SINGLE,
    &t::ORIYA_SINGLE,
    &t::PUNJABI_SINGLE,
    &t::TAMIL_SINGLE,
    &t::TELUGU_SINGLE,
    &t::URDU_SINGLE,
];

/// Character to septet: directly below U+0100, by binary search above.
struct Index {
    low: [u8; 256],
    high: [(u16, u8); 128],
    high_len: usize,
}

/// No septet has this number.
const ABSENT: u8 = 0xFF;

impl Index {
    const fn new(table: &[u16; 128]) -> Self {
        let mut index = Self { low: [ABSENT; 256], high: [(0, 0); 128], high_len: 0 };
        let mut septet = 0u8;
        while septet < 128 {
            let unit = table[septet as usize];
            if unit != 0 && unit < 256 {
                // Of two positions with the same character (`*` in most single shift tables) the first is used.
                if index.low[unit as usize] == ABSENT {
                    index.low[unit as usize] = septet;
                }
            } else if unit != 0 {
                let mut at = index.high_len;
                while at > 0 && index.high[at - 1].0 > unit {
                    index.high[at] = index.high[at - 1];
                    at -= 1;
                }
                index.high[at] = (unit, septet);
                index.high_len += 1;
            }
            septet += 1;
        }
        index
    }

    #[inline]
    fn find(&self, c: u32) -> Option<u8> {
        if let Some(&septet) = self.low.get(c as usize) {
            return if septet == ABSENT { None } else { Some(septet) };
        }
        self.find_high(c)
    }

    fn find_high(&self, c: u32) -> Option<u8> {
        let unit = u16::try_from(c).ok()?;
        let high = self.high.get(..self.high_len)?;
        high.binary_search_by_key(&unit, |entry| entry.0).ok().map(|at| high[at].1)
    }
}

static LOCKING: [Index; 14] = [
    Index::new(&t::DEFAULT),
    Index::new(&t::TURKISH),
    Index::new(&t::DEFAULT),
    Index::new(&t::PORTUGUESE),
    Index::new(&t::BENGALI),
    Index::new(&t::GUJARATI),
    Index::new(&t::HINDI),
    Index::new(&t::KANNADA),
    Index::new(&t::MALAYALAM),
    Index::new(&t::ORIYA),
    Index::new(&t::PUNJABI),
    Index::new(&t::TAMIL),
    Index::new(&t::TELUGU),
    Index::new(&t::URDU),
];

static SINGLE: [Index; 14] = [
    Index::new(&t::EXTENSION),
    Index::new(&t::TURKISH_SINGLE),
    Index::new(&t::SPANISH_SINGLE),
    Index::new(&t::PORTUGUESE_SINGLE),
    Index::new(&t::BENGALI_SINGLE),
    Index::new(&t::GUJARATI_SINGLE),
    Index::new(&t::HINDI_SINGLE),
    Index::new(&t::KANNADA_SINGLE),
    Index::new(&t::MALAYALAM_SINGLE),
    Index::new(&t::ORIYA_SINGLE),
    Index::new(&t::PUNJABI_SINGLE),
    Index::new(&t::TAMIL_SINGLE),
    Index::new(&t::TELUGU_SINGLE),
    Index::new(&t::URDU_SINGLE),
];
