//! From a text to the user data of one or more parts.
//!
//! Contract: the parts, read one after the other, give the text again, character by character (with `simplify`: its plain form). No part
//! cuts an escape or a surrogate pair; none cuts what a reader sees as one character, unless that alone is longer than a part. The cheapest
//! alphabet is taken: fewest parts, then default before national before UCS-2, then fewest units. All in constant memory; time grows with
//! the text (with many languages allowed up to some ten times).
//! Failure class: `TooLong`, with the parts it would take.

use core::fmt;

use heapless::Vec;

use crate::alphabet::{Code, Language, Languages, Tables};
use crate::cluster::{self, Boundaries};
use crate::dcs::{Class, Coding, Dcs};
use crate::header::{Concatenation, Element, Ports};
use crate::simplify::simplify;
use crate::user_data::{USER_DATA_MAX, UserData};

/// Size of the reference that ties parts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reference {
    /// 8 bits: every mobile knows it; 153 septets or 67 UCS-2 units a part.
    #[default]
    Eight,
    /// 16 bits: mixed up less often; 152 septets or 66 UCS-2 units a part.
    Sixteen,
}

/// How to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Size of the reference; 8 bits.
    pub reference: Reference,
    /// Languages whose 7-bit tables may be used; none. A mobile that does not know a table shows other letters without a warning: allow a
    /// language where its country's mobiles know it.
    pub languages: Languages,
    /// Most parts, 1 to 255; 255.
    pub parts_max: u8,
    /// Typographic characters may become plain ones when that saves parts; no.
    pub simplify: bool,
    /// Application ports in every part; none.
    pub ports: Option<Ports>,
}

impl Default for Options {
    fn default() -> Self {
        Self { reference: Reference::Eight, languages: Languages::NONE, parts_max: 255, simplify: false, ports: None }
    }
}

/// The alphabet chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// 7 bits, with these tables.
    Septets(Tables),
    /// 16 bits.
    Ucs2,
}

/// What a text costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Parts; can be over 255, then it cannot be sent.
    pub parts: u32,
    /// Alphabet.
    pub alphabet: Alphabet,
    /// Septets (an escaped character has two) or 16-bit units of the text, headers not counted.
    pub units: u32,
    /// Units that the last part has still room for.
    pub units_left: u16,
    /// Whether plain forms stand in for typographic characters.
    pub simplified: bool,
}

/// The text takes more parts than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Parts that it would take.
    pub parts: u32,
    /// Parts allowed.
    pub parts_max: u8,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the text takes {} short messages, {} are allowed", self.parts, self.parts_max)
    }
}

impl core::error::Error for TooLong {}

/// What `text` costs. An empty text takes one part.
#[must_use]
pub fn count(text: &str, options: &Options) -> Count {
    choose(text, options).1
}

/// Chooses the alphabet and counts the parts.
///
/// # Errors
/// `TooLong`.
pub fn segment<'a>(text: &'a str, options: &Options) -> Result<Segments<'a>, TooLong> {
    let (plan, count) = choose(text, options);
    let parts_max = options.parts_max.max(1);
    match u8::try_from(count.parts) {
        Ok(total) if total <= parts_max => Ok(Segments { text, plan, count, total }),
        _ => Err(TooLong { parts: count.parts, parts_max }),
    }
}

/// A text that is ready to be cut.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    text: &'a str,
    plan: Plan,
    count: Count,
    total: u8,
}

impl<'a> Segments<'a> {
    /// What it costs.
    #[must_use]
    pub fn count(&self) -> Count {
        self.count
    }

    /// Number of parts.
    #[must_use]
    pub fn total(&self) -> u8 {
        self.total
    }

    /// TP-DCS for every part.
    #[must_use]
    pub fn dcs(&self, class: Option<Class>) -> Dcs {
        match self.plan.alphabet {
            Alphabet::Septets(_) => Dcs::new(Coding::Septets, class),
            Alphabet::Ucs2 => Dcs::new(Coding::Ucs2, class),
        }
    }

    /// The parts, with this reference (its low 8 bits where 8 are used); always the same ones, so a later part can be sent alone after
    /// a restart. A single part carries no reference.
    #[must_use]
    pub fn parts(&self, reference: u16) -> Parts<'a> {
        Parts { segments: *self, reference, at: 0, number: 0 }
    }
}

/// One part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// 1 to the total.
    pub number: u8,
    /// Parts in all.
    pub total: u8,
    /// The piece of the text.
    pub text: &'a str,
    /// User data for the PDU.
    pub data: UserData,
}

/// Iterator of `Segments::parts`.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    segments: Segments<'a>,
    reference: u16,
    at: usize,
    number: u8,
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let Segments { text, plan, total, .. } = self.segments;
        if self.number >= total {
            return None;
        }
        self.number += 1;
        let rest = text.get(self.at..)?;
        let end = if total == 1 { rest.len() } else { plan.fill(rest, plan.capacity(true))?.0 };
        let text = rest.get(..end)?;
        self.at += end;
        let concatenation = (total > 1).then_some(Concatenation {
            wide: plan.reference == Reference::Sixteen,
            reference: match plan.reference {
                Reference::Eight => self.reference & 0xFF,
                Reference::Sixteen => self.reference,
            },
            total,
            number: self.number,
        });
        let mut data = UserData::with_header(&plan.elements(concatenation))?;
        let fits = match plan.alphabet {
            Alphabet::Septets(tables) if plan.simplified => data.push_codes(text.chars().flat_map(|c| codes(tables, c))),
            Alphabet::Septets(tables) => {
                let finder = tables.finder();
                data.push_codes(text.chars().filter_map(|c| finder.code(c)))
            }
            Alphabet::Ucs2 => data.push_units(text.chars()),
        };
        debug_assert!(fits, "fill() took only what has room");
        Some(Part { number: self.number, total, text, data })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.segments.total - self.number);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Parts<'_> {}

/// An alphabet with all that decides how much a part holds.
#[derive(Clone, Copy, Debug)]
struct Plan {
    alphabet: Alphabet,
    simplified: bool,
    reference: Reference,
    ports: Option<Ports>,
}

impl Plan {
    fn elements(&self, concatenation: Option<Concatenation>) -> Vec<Element<'static>, 4> {
        let tables = match self.alphabet {
            Alphabet::Septets(tables) => tables,
            Alphabet::Ucs2 => Tables::DEFAULT,
        };
        [
            concatenation.map(Element::Concatenation),
            self.ports.map(Element::Ports),
            tables.locking.map(Element::LockingShift),
            tables.single.map(Element::SingleShift),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Units that one part holds, of a single or a concatenated message.
    fn capacity(&self, concatenated: bool) -> u16 {
        // TS 23.040 9.2.3.24.1, .8, .15, .16, .3: octets of the elements
        let mut header = 0;
        if concatenated {
            header += if self.reference == Reference::Eight { 5 } else { 6 };
        }
        if self.ports.is_some() {
            header += 6;
        }
        if let Alphabet::Septets(Tables { locking, single }) = self.alphabet {
            header += 3 * (u16::from(locking.is_some()) + u16::from(single.is_some()));
        }
        if header > 0 {
            header += 1;
        }
        let octets = USER_DATA_MAX as u16 - header;
        match self.alphabet {
            Alphabet::Septets(_) => octets * 8 / 7,
            Alphabet::Ucs2 => octets / 2,
        }
    }

    /// Units of a character; `None` when the alphabet lacks it.
    fn units(&self, c: char) -> Option<u16> {
        match self.alphabet {
            Alphabet::Ucs2 => Some(c.len_utf16() as u16),
            Alphabet::Septets(tables) => tables.code(c).map(Code::septets).or_else(|| self.plain_units(tables, c)),
        }
    }

    /// Septets of the plain form of a character that has none itself.
    fn plain_units(&self, tables: Tables, c: char) -> Option<u16> {
        let plain = if self.simplified { simplify(c) } else { None };
        plain?.chars().try_fold(0, |sum, c| Some(sum + tables.code(c)?.septets()))
    }

    /// How far the beginning of a text fits, in octets of UTF-8, and the units of it. At least one character when there is any. `None` when
    /// the alphabet lacks a character of it.
    fn fill(&self, text: &str, capacity: u16) -> Option<(usize, u16)> {
        let (at, units, torn) = match self.alphabet {
            Alphabet::Ucs2 => scan(text, capacity, |c| Some(c.len_utf16() as u16)),
            Alphabet::Septets(tables) => {
                let finder = tables.finder();
                scan(text, capacity, |c| finder.code(c).map(Code::septets).or_else(|| self.plain_units(tables, c)))
            }
        }?;
        Some(if torn { self.fill_whole(text, capacity) } else { (at, units) })
    }

    /// The same where the border may tear something: walks over what belongs together.
    #[cold]
    fn fill_whole(&self, text: &str, capacity: u16) -> (usize, u16) {
        let mut boundaries = Boundaries::default();
        let mut units = 0;
        let mut good = (0, 0);
        for (at, c) in text.char_indices() {
            if boundaries.before(c) {
                good = (at, units);
            }
            let more = units + self.units(c).unwrap_or(1);
            if more > capacity {
                // What cannot stay together in a whole part is cut where the room ends.
                return if good.0 > 0 { good } else { (at, units) };
            }
            units = more;
        }
        (text.len(), units)
    }

    /// What a text costs in this alphabet; `None` when it lacks a character.
    fn measure(&self, text: &str) -> Option<Count> {
        let count = Count { parts: 1, alphabet: self.alphabet, units: 0, units_left: 0, simplified: self.simplified };
        let capacity = self.capacity(false);
        let (end, filled) = self.fill(text, capacity)?;
        if end == text.len() {
            return Some(Count { units: filled.into(), units_left: capacity - filled, ..count });
        }
        let capacity = self.capacity(true);
        let (mut parts, mut units, mut last, mut rest) = (0u32, 0u32, 0, text);
        while !rest.is_empty() {
            let (end, filled) = self.fill(rest, capacity)?;
            rest = &rest[end..];
            parts = parts.saturating_add(1);
            units = units.saturating_add(filled.into());
            last = filled;
        }
        Some(Count { parts, units, units_left: capacity - last, ..count })
    }
}

/// How far a text fits: octets, units, and whether the border there may tear what belongs together.
fn scan(text: &str, capacity: u16, units_of: impl Fn(char) -> Option<u16>) -> Option<(usize, u16, bool)> {
    let mut units = 0;
    let mut before = '\0';
    for (at, c) in text.char_indices() {
        let more = units + units_of(c)?;
        if more > capacity {
            return Some((at, units, !cluster::apart(before, c)));
        }
        units = more;
        before = c;
    }
    Some((text.len(), units, false))
}

/// The codes of a character or of its plain form.
fn codes(tables: Tables, c: char) -> impl Iterator<Item = Code> {
    let code = tables.code(c);
    let plain = if code.is_none() { simplify(c).unwrap_or("") } else { "" };
    code.into_iter().chain(plain.chars().filter_map(move |c| tables.code(c)))
}

fn choose(text: &str, options: &Options) -> (Plan, Count) {
    let plan = |alphabet, simplified| Plan { alphabet, simplified, reference: options.reference, ports: options.ports };
    let mut best: Option<(Plan, Count)> = None;
    let take = |best: &mut Option<(Plan, Count)>, plan: Plan, count: Count| {
        let better = best.as_ref().is_none_or(|(_, other)| count.parts < other.parts);
        if better {
            *best = Some((plan, count));
        }
    };
    let default = plan(Alphabet::Septets(Tables::DEFAULT), false);
    let plain = default.measure(text);
    if let Some(count) = plain {
        take(&mut best, default, count);
        if count.parts == 1 || options.languages.is_empty() {
            return (default, count);
        }
    }
    if !options.languages.is_empty() {
        let mut candidates: Vec<(u32, u32, Plan), SLOTS> = pairs(text, options.languages)
            .map(|(tables, units)| {
                let plan = plan(Alphabet::Septets(tables), false);
                let capacity = plan.capacity(units > u32::from(plan.capacity(false)));
                (units.div_ceil(u32::from(capacity)), units, plan)
            })
            .collect();
        candidates.sort_unstable_by_key(|(least, units, _)| (*least, *units));
        let mut national: Option<(Plan, Count)> = None;
        for (least, units, plan) in candidates {
            // Counting exactly is dear: only where it can win.
            let wins = |parts| national.as_ref().is_none_or(|(_, other)| (parts, units) < (other.parts, other.units));
            if let Some(count) = if wins(least) { plan.measure(text) } else { None }
                && wins(count.parts)
            {
                national = Some((plan, count));
            }
        }
        if let Some((plan, count)) = national {
            take(&mut best, plan, count);
        }
    }
    if plain.is_none() {
        let ucs2 = plan(Alphabet::Ucs2, false);
        if let Some(count) = ucs2.measure(text) {
            take(&mut best, ucs2, count);
        }
        if options.simplify && best.as_ref().is_some_and(|(_, count)| count.parts > 1) {
            let plain = plan(Alphabet::Septets(Tables::DEFAULT), true);
            if let Some(count) = plain.measure(text) {
                take(&mut best, plain, count);
            }
        }
    }
    best.expect("UCS-2 has every character, and where it was not measured the default alphabet had")
}

/// The default alphabet and thirteen languages.
const SLOTS: usize = 14;

/// For each main table of these languages the cheapest pair with it (the default pair left out) that has all characters of the text, with
/// the septets it takes.
fn pairs(text: &str, languages: Languages) -> impl Iterator<Item = (Tables, u32)> {
    let singles: Slots = core::iter::once(None).chain(languages.iter().map(Some)).collect();
    let lockings: Slots = singles.iter().copied().filter(|language| language.is_none_or(Language::has_locking)).collect();
    // For each main table the single shift tables, as bits, that are not ruled out yet. A pair costs the same with each of them.
    let mut alive = [u16::MAX >> (16 - singles.len()); SLOTS];
    alive[0] &= !1;
    let mut septets = [0u32; SLOTS];
    for c in text.chars() {
        let mut shifted = None;
        let mut any = 0;
        for ((locking, mask), sum) in lockings.iter().zip(&mut alive).zip(&mut septets).filter(|((_, mask), _)| **mask != 0) {
            let plain = Tables { locking: *locking, single: None }.has_plain(c);
            if !plain {
                *mask &= *shifted.get_or_insert_with(|| shift_tables_with(c, &singles));
            }
            any |= *mask;
            *sum = sum.saturating_add(if plain { 1 } else { 2 });
        }
        if any == 0 {
            break;
        }
    }
    (0..lockings.len()).filter_map(move |at| {
        // The lowest bit: without a single shift table when that will do, it saves its place in the header.
        let single = *singles.get(alive[at].trailing_zeros() as usize)?;
        Some((Tables { locking: lockings[at], single }, septets[at]))
    })
}

/// Languages to choose from; `None` is the default alphabet.
type Slots = Vec<Option<Language>, SLOTS>;

/// Those of the single shift tables that have the character.
fn shift_tables_with(c: char, singles: &Slots) -> u16 {
    let has = |single: &Option<Language>| Tables { locking: None, single: *single }.has_shifted(c);
    singles.iter().enumerate().fold(0, |mask, (slot, single)| mask | u16::from(has(single)) << slot)
}
