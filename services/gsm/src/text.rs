//! From user data back to text.
//!
//! Contract: every input gives characters; halves of surrogate pairs read as U+FFFD, a lone escape as a space. Pairs and escapes that
//! a careless sender cut between two parts are put together again when the parts go through one `Reader`. Nothing fails.

use core::fmt;

use crate::alphabet::{ESCAPE, Tables};
use crate::dcs::{Coding, Dcs};
use crate::septet::Septets;
use crate::user_data::UserData;

/// Reads the parts of a message one after the other.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    /// The last part ended with an escape.
    escape: bool,
    /// The last part ended with the first half of a surrogate pair.
    half: Option<u16>,
}

impl Reader {
    /// At the beginning of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The characters of the next part. Take them all before the next call.
    pub fn part<'a>(&'a mut self, dcs: Dcs, data: &'a UserData) -> impl Iterator<Item = char> + 'a {
        let mut units = Units::new(dcs, data);
        let mut waiting = None;
        core::iter::from_fn(move || waiting.take().or_else(|| self.next(&mut units, &mut waiting)))
    }

    /// What an unfinished escape or pair at the end of the message reads as.
    pub fn end(&mut self) -> Option<char> {
        let state = core::mem::take(self);
        match state {
            Self { half: Some(_), .. } => Some(char::REPLACEMENT_CHARACTER),
            Self { escape: true, .. } => Some(' '),
            Self { .. } => None,
        }
    }

    fn next(&mut self, units: &mut Units<'_>, waiting: &mut Option<char>) -> Option<char> {
        match units {
            Units::Septets(septets, tables) => loop {
                let septet = septets.next()?;
                if self.escape {
                    self.escape = false;
                    return Some(tables.escaped(septet));
                }
                if septet != ESCAPE {
                    let c = tables.plain(septet);
                    // A half pair of a part before, in another coding, is not to be completed here.
                    return if self.half.take().is_some() { replace(waiting, c) } else { Some(c) };
                }
                self.escape = true;
            },
            Units::Utf16(octets) => loop {
                // An escape at the end of a part before, in another coding.
                if core::mem::take(&mut self.escape) && octets.len() > 0 {
                    return Some(' ');
                }
                let unit = match *octets.next()? {
                    [high, low] => u16::from_be_bytes([high, low]),
                    // An odd octet at the end is nothing.
                    _ => return None,
                };
                let c = char::from_u32(u32::from(unit));
                match (self.half.take(), unit, c) {
                    (Some(high), 0xDC00..=0xDFFF, _) => return char::decode_utf16([high, unit]).next()?.ok(),
                    (Some(_), 0xD800..=0xDBFF, _) => {
                        self.half = Some(unit);
                        return Some(char::REPLACEMENT_CHARACTER);
                    }
                    (None, 0xD800..=0xDBFF, _) => self.half = Some(unit),
                    (Some(_), _, Some(c)) => return replace(waiting, c),
                    (None, _, Some(c)) => return Some(c),
                    (_, _, None) => return Some(char::REPLACEMENT_CHARACTER),
                }
            },
            Units::None => None,
        }
    }
}

/// A replacement character now, `c` next.
fn replace(waiting: &mut Option<char>, c: char) -> Option<char> {
    *waiting = Some(c);
    Some(char::REPLACEMENT_CHARACTER)
}

#[derive(Clone, Debug)]
enum Units<'a> {
    Septets(Septets<'a>, Tables),
    Utf16(core::slice::Chunks<'a, u8>),
    None,
}

impl<'a> Units<'a> {
    fn new(dcs: Dcs, data: &'a UserData) -> Self {
        match dcs.coding() {
            _ if dcs.compressed() => Self::None,
            Coding::Septets => Self::Septets(data.septets(), data.info().tables),
            Coding::Ucs2 => Self::Utf16(data.payload().chunks(2)),
            Coding::Octets => Self::None,
        }
    }
}

/// The text of one part: an iterator, and printable.
#[derive(Clone, Debug)]
pub struct Text<'a> {
    units: Units<'a>,
    reader: Reader,
    waiting: Option<char>,
    ended: bool,
}

impl<'a> Text<'a> {
    pub(crate) fn new(dcs: Dcs, data: &'a UserData) -> Self {
        Self { units: Units::new(dcs, data), reader: Reader::new(), waiting: None, ended: false }
    }
}

impl Iterator for Text<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        if let Some(c) = self.waiting.take() {
            return Some(c);
        }
        if self.ended {
            return None;
        }
        if let Some(c) = self.reader.next(&mut self.units, &mut self.waiting) {
            return Some(c);
        }
        self.ended = true;
        self.reader.end()
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        self.clone().try_for_each(|c| f.write_char(c))
    }
}
