//! The lexical level of the grammar: atoms, strings, numbers, dates, lists.
//!
//! Contract: each function reads one element and stands behind it, or gives a [`Fault`] and stands somewhere inside; no
//! function reads a byte twice more than a constant number of times, none panics. Failure class: [`Fault`].

use crate::codec::ast::{Day, ErrorKind, FlagList, MailboxName, SpecialUse};
use crate::codec::name;
use crate::codec::set::SequenceSet;
use std::borrow::Cow;
use twinpost_message::Flags;

/// Elements of one list at most, where no smaller limit stands beside the list.
pub(super) const LIST_MAX: usize = 1024;
/// Flags in one command at most.
const FLAGS_MAX: usize = 128;
/// Bytes of a keyword at most.
const KEYWORD_MAX_BYTES: usize = 255;

/// Why parsing stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub kind: ErrorKind,
    pub message: Cow<'static, str>,
}

pub(super) type Parse<T> = Result<T, Fault>;

pub(super) fn syntax<T>(message: &'static str) -> Parse<T> {
    Err(Fault { kind: ErrorKind::Syntax, message: Cow::Borrowed(message) })
}

pub(super) fn limit<T>(message: &'static str) -> Parse<T> {
    Err(Fault { kind: ErrorKind::Limit, message: Cow::Borrowed(message) })
}

/// A place in a command.
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    /// Names on the wire are UTF-8 (IMAP4rev2 or UTF8=ACCEPT enabled).
    utf8: bool,
}

/// RFC 9051 9 `ATOM-CHAR`; bytes above 127 are let through, old clients send raw names.
fn is_atom(b: u8) -> bool {
    !matches!(b, 0..=b' ' | 0x7f | b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

impl<'a> Cursor<'a> {
    /// At the start of a command; line end and spaces before it are dropped.
    pub fn new(command: &'a [u8], utf8: bool) -> Self {
        let line = command.strip_suffix(b"\n").unwrap_or(command);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self { rest: line, utf8 }
    }
    pub fn is_utf8(&self) -> bool {
        self.utf8
    }
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }
    fn advance(&mut self, n: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(n.min(self.rest.len()));
        self.rest = rest;
        head
    }
    /// Takes this byte if it is next.
    pub fn eat(&mut self, byte: u8) -> bool {
        let yes = self.peek() == Some(byte);
        if yes {
            self.advance(1);
        }
        yes
    }
    pub fn spaces(&mut self) -> bool {
        let n = self.rest.iter().take_while(|b| **b == b' ').count();
        self.advance(n);
        n > 0
    }
    /// At least one space; more are tolerated.
    pub fn sp(&mut self) -> Parse<()> {
        if self.spaces() { Ok(()) } else { syntax("a space is missing") }
    }
    pub fn expect(&mut self, byte: u8, message: &'static str) -> Parse<()> {
        if self.eat(byte) { Ok(()) } else { syntax(message) }
    }
    /// Nothing but spaces is left.
    pub fn end(&mut self) -> Parse<()> {
        self.spaces();
        if self.rest.is_empty() { Ok(()) } else { syntax("there is something behind the end of the command") }
    }
    pub fn at_end(&mut self) -> bool {
        self.rest.iter().all(|b| *b == b' ')
    }
    pub fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let n = self.rest.iter().take_while(|b| accept(**b)).count();
        self.advance(n)
    }
    pub fn atom(&mut self) -> Parse<&'a [u8]> {
        let atom = self.take_while(is_atom);
        if atom.is_empty() { syntax("a word is missing") } else { Ok(atom) }
    }
    /// A keyword of the grammar in capitals.
    pub fn word(&mut self) -> Parse<String> {
        let atom = self.atom()?;
        if atom.len() > 64 {
            return syntax("a word is too long");
        }
        Ok(text(atom).to_ascii_uppercase())
    }
    /// Takes this keyword if it is next, as a whole word.
    pub fn eat_word(&mut self, word: &str) -> bool {
        let n = word.len();
        let yes = self.rest.len() >= n
            && self.rest[..n].eq_ignore_ascii_case(word.as_bytes())
            && self.rest.get(n).is_none_or(|b| matches!(b, b' ' | b'(' | b')'));
        if yes {
            self.advance(n);
        }
        yes
    }
    /// Some text goes on as given, in any case, without being taken.
    pub fn looks_at(&self, start: &str) -> bool {
        self.rest.len() >= start.len() && self.rest[..start.len()].eq_ignore_ascii_case(start.as_bytes())
    }

    /// RFC 9051 4.3 quoted string; the quote is next.
    fn quoted(&mut self) -> Parse<Cow<'a, [u8]>> {
        self.advance(1);
        let plain = self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0));
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    self.advance(1);
                    // Only `"` and `\` may be quoted; Windows clients send paths with single backslashes.
                    match self.peek() {
                        Some(b @ (b'"' | b'\\')) => {
                            self.advance(1);
                            out.push(b);
                        }
                        Some(_) => out.push(b'\\'),
                        None => return syntax("a quoted string does not end"),
                    }
                }
                Some(b'\r' | b'\n' | 0) => return syntax("a quoted string holds a line end or NUL"),
                Some(_) => {
                    out.extend_from_slice(self.take_while(|b| !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)));
                }
                None => return syntax("a quoted string does not end"),
            }
        }
    }

    /// RFC 9051 4.3 literal; `{` or `~{` is next. The framer made sure that the bytes are there.
    fn literal(&mut self) -> Parse<&'a [u8]> {
        self.eat(b'~');
        self.expect(b'{', "a literal is missing")?;
        let digits = self.take_while(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 10 {
            return syntax("a literal has no size");
        }
        let size = digits.iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
        self.eat(b'+');
        self.expect(b'}', "the size of a literal does not end")?;
        self.eat(b'\r');
        self.expect(b'\n', "a literal is not at the end of its line")?;
        if self.rest.len() < size {
            return syntax("a literal is incomplete");
        }
        Ok(self.advance(size))
    }

    /// `string`: quoted or literal.
    pub fn string(&mut self) -> Parse<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{' | b'~') => self.literal().map(Cow::Borrowed),
            _ => syntax("a string is missing"),
        }
    }
    /// `astring`: a string or a word.
    pub fn astring(&mut self) -> Parse<Cow<'a, [u8]>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(Cow::Borrowed),
            Some(b'~') if self.rest.get(1) == Some(&b'{') => self.literal().map(Cow::Borrowed),
            _ => {
                let atom = self.take_while(|b| is_atom(b) || b == b']');
                if atom.is_empty() { syntax("a string is missing") } else { Ok(Cow::Borrowed(atom)) }
            }
        }
    }
    pub fn astring_text(&mut self) -> Parse<String> {
        self.astring().map(|s| text(&s))
    }
    /// `nstring`, as bytes; none for NIL.
    pub fn nstring(&mut self) -> Parse<Option<Cow<'a, [u8]>>> {
        if self.eat_word("NIL") { Ok(None) } else { self.astring().map(Some) }
    }
    pub fn mailbox(&mut self) -> Parse<MailboxName> {
        let bytes = self.astring()?;
        if bytes.contains(&0) || bytes.len() > 4 * name::NAME_MAX_BYTES {
            return Err(Fault { kind: ErrorKind::Cannot, message: Cow::Borrowed("this can not be a mailbox name") });
        }
        Ok(name::normalise(&name::decode(&bytes, self.utf8)))
    }
    /// `list-mailbox`: a name with wildcards.
    pub fn pattern(&mut self) -> Parse<String> {
        let bytes = match self.peek() {
            Some(b'"' | b'{') => self.string()?,
            _ => {
                let atom = self.take_while(|b| is_atom(b) || matches!(b, b']' | b'%' | b'*'));
                if atom.is_empty() {
                    return syntax("a pattern is missing");
                }
                Cow::Borrowed(atom)
            }
        };
        if bytes.len() > 4 * name::NAME_MAX_BYTES {
            return limit("a pattern is too long");
        }
        Ok(name::decode(&bytes, self.utf8))
    }

    pub fn number64(&mut self) -> Parse<u64> {
        let digits = self.take_while(|b| b.is_ascii_digit());
        if digits.is_empty() || digits.len() > 19 {
            return syntax("a number is missing or too large");
        }
        Ok(digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0')))
    }
    pub fn number(&mut self) -> Parse<u32> {
        match u32::try_from(self.number64()?) {
            Ok(n) => Ok(n),
            Err(_) => syntax("a number is too large"),
        }
    }
    pub fn nz_number(&mut self) -> Parse<u32> {
        match self.number()? {
            0 => syntax("a number must not be 0"),
            n => Ok(n),
        }
    }
    pub fn set(&mut self) -> Parse<SequenceSet> {
        let bytes = self.take_while(|b| matches!(b, b'0'..=b'9' | b':' | b',' | b'*' | b'$'));
        match SequenceSet::parse(bytes) {
            Some(set) => Ok(set),
            None => syntax("a sequence set is missing or wrong"),
        }
    }

    /// `( element *(SP element) )`; an empty list is let through, the caller refuses it where it makes no sense.
    pub fn list<T>(&mut self, max: usize, mut element: impl FnMut(&mut Self) -> Parse<T>) -> Parse<Vec<T>> {
        self.expect(b'(', "a list is missing")?;
        let mut out = Vec::new();
        self.spaces();
        while !self.eat(b')') {
            if out.len() == max {
                return limit("a list is too long");
            }
            let before = self.rest.len();
            out.push(element(self)?);
            if !self.spaces() && self.peek() != Some(b')') {
                return syntax("a list does not end");
            }
            if self.rest.len() == before {
                return syntax("a list does not end");
            }
        }
        Ok(out)
    }

    /// `date`: `1-Feb-1994` with or without quotes (RFC 9051 9).
    pub fn date(&mut self) -> Parse<Day> {
        let quoted = self.eat(b'"');
        self.spaces();
        let day = self.date_text()?;
        if quoted {
            self.expect(b'"', "a date does not end")?;
        }
        Ok(day)
    }
    fn date_text(&mut self) -> Parse<Day> {
        let day = self.number()?;
        self.expect(b'-', "a date is written 1-Feb-1994")?;
        let month = self.take_while(|b| b.is_ascii_alphabetic());
        const MONTHS: [&[u8]; 12] =
            [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
        let Some(month) = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month)) else {
            return syntax("a date is written 1-Feb-1994");
        };
        self.expect(b'-', "a date is written 1-Feb-1994")?;
        let year = self.number()?;
        if year > 9999 {
            return syntax("a date has no such year");
        }
        let month = time::Month::January.nth_next(u8::try_from(month).unwrap_or(0));
        let date =
            u8::try_from(day).ok().and_then(|d| time::Date::from_calendar_date(i32::try_from(year).unwrap_or(0), month, d).ok());
        match date {
            Some(date) => Ok(date.to_julian_day() - UNIX_EPOCH_JULIAN),
            None => syntax("a date does not exist"),
        }
    }
    /// `date-time`: `" 7-Feb-1994 21:52:25 -0800"`, as seconds since 1970 UTC.
    pub fn date_time(&mut self) -> Parse<i64> {
        const SHAPE: &str = "a date and time is written \"07-Feb-1994 21:52:25 -0800\"";
        self.expect(b'"', SHAPE)?;
        self.spaces();
        let day = self.date_text()?;
        self.sp()?;
        let hour = self.number()?;
        self.expect(b':', SHAPE)?;
        let minute = self.number()?;
        self.expect(b':', SHAPE)?;
        let second = self.number()?;
        self.sp()?;
        let west = match self.peek() {
            Some(b'-') => true,
            Some(b'+') => false,
            _ => return syntax(SHAPE),
        };
        self.advance(1);
        let zone = self.take_while(|b| b.is_ascii_digit());
        let [a, b, c, d] = zone else { return syntax(SHAPE) };
        let digit = |b: &u8| i64::from(b - b'0');
        let zone_s = (digit(a) * 10 + digit(b)) * 3600 + (digit(c) * 10 + digit(d)) * 60;
        if hour > 23 || minute > 59 || second > 60 || zone_s > 24 * 3600 {
            return syntax("a time does not exist");
        }
        self.expect(b'"', SHAPE)?;
        let local_s = i64::from(day) * 86_400 + i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Ok(if west { local_s + zone_s } else { local_s - zone_s })
    }

    /// One flag into a list (RFC 9051 2.3.2).
    pub fn flag(&mut self, list: &mut FlagList) -> Parse<()> {
        if self.eat(b'\\') {
            match self.word()?.as_str() {
                "SEEN" => list.system = list.system.with(Flags::SEEN),
                "ANSWERED" => list.system = list.system.with(Flags::ANSWERED),
                "FLAGGED" => list.system = list.system.with(Flags::FLAGGED),
                "DELETED" => list.system = list.system.with(Flags::DELETED),
                "DRAFT" => list.system = list.system.with(Flags::DRAFT),
                // RFC 9051 2.3.2: \Recent can not be set; system flags that we do not know can not be kept.
                _ => {}
            }
            return Ok(());
        }
        // RFC 9051 9 flag-keyword: an atom, strictly. It goes out again in responses where `]` and 8-bit bytes would break them.
        let keyword = self.take_while(|b| is_atom(b) && b.is_ascii());
        if keyword.is_empty() {
            return syntax("a flag is missing");
        }
        if keyword.len() > KEYWORD_MAX_BYTES || list.keywords.len() == FLAGS_MAX {
            return limit("too many or too long keywords");
        }
        let keyword = text(keyword);
        if !list.keywords.iter().any(|k| k.eq_ignore_ascii_case(&keyword)) {
            list.keywords.push(keyword);
        }
        Ok(())
    }
    /// `flag-list`.
    pub fn flag_list(&mut self) -> Parse<FlagList> {
        let mut flags = FlagList::default();
        self.list(LIST_MAX, |c| c.flag(&mut flags))?;
        Ok(flags)
    }
    /// `\Sent` and the like (RFC 6154 2).
    pub fn special_use(&mut self) -> Parse<SpecialUse> {
        self.expect(b'\\', "a special use is missing")?;
        match SpecialUse::parse(&self.word()?) {
            Some(special_use) => Ok(special_use),
            // RFC 6154 5.3: an attribute that is not supported is answered NO [USEATTR] by the session's rule for CANNOT.
            None => Err(Fault { kind: ErrorKind::Cannot, message: Cow::Borrowed("this special use is not known here") }),
        }
    }
}

const UNIX_EPOCH_JULIAN: i32 = 2_440_588;

/// Bytes as text: UTF-8, or else Latin-1.
pub(super) fn text(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| bytes.iter().map(|b| char::from(*b)).collect(), str::to_owned)
}
