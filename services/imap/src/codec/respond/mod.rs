//! Responses: facts to bytes.
//!
//! Contract: every function appends to a buffer, allocates nothing else, and writes a complete element of the grammar
//! (RFC 9051 9) whatever the text in it: no text can end a string or a line. `utf8` says that the client enabled IMAP4rev2 or
//! UTF8=ACCEPT: then names and quoted strings are UTF-8, else names are modified UTF-7 and text beyond ASCII goes into a
//! literal, where RFC 3501 allows any octet but NUL. Failure classes: none.

mod fetch;
mod mailbox;
mod search;
mod structure;

pub use crate::algorithm::ranges::put_u64 as number;
pub use fetch::{FlagText, binary_label, preview, section_label};
pub use mailbox::{ListLine, list, metadata, metadata_names, status};
pub use search::{Esearch, append_uid, copy_uid, esearch, search, sort, thread, vanished};
pub use structure::{body_structure, envelope};

use crate::codec::name;
use std::fmt;
use twinpost_message::{BodyId, Flags, MailboxId};

/// Strings up to this length are quoted when they can be; longer ones are literals (RFC 9051 4.3 sets no limit, but lines
/// have one).
const QUOTED_MAX_BYTES: usize = 4096;

/// What a byte asks of a string: 0 plain, 1 to be escaped, 2 beyond ASCII, 3 only in a literal, 4 nowhere (NUL).
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = match i {
            0 => 4,
            0x22 | 0x5c => 1,
            0x20..=0x7e => 0,
            0x80..=0xff => 2,
            _ => 3,
        };
        i += 1;
    }
    table
};

/// A string: quoted if it can be, else a literal. NUL is left out: no IMAP string may hold it.
pub fn string(text: &[u8], utf8: bool, out: &mut Vec<u8>) {
    let mut worst = 0u8;
    let mut escapes = false;
    for b in text {
        let class = CLASS[usize::from(*b)];
        escapes |= class == 1;
        worst = worst.max(class);
    }
    let quoted = text.len() <= QUOTED_MAX_BYTES && (worst <= 1 || (worst == 2 && utf8 && std::str::from_utf8(text).is_ok()));
    if quoted {
        out.push(b'"');
        if escapes {
            for b in text {
                if CLASS[usize::from(*b)] == 1 {
                    out.push(b'\\');
                }
                out.push(*b);
            }
        } else {
            out.extend_from_slice(text);
        }
        out.push(b'"');
    } else if worst == 4 {
        let clean: Vec<u8> = text.iter().copied().filter(|b| *b != 0).collect();
        literal(&clean, out);
    } else {
        literal(text, out);
    }
}

/// A string, or NIL.
pub fn nstring(text: Option<&str>, utf8: bool, out: &mut Vec<u8>) {
    match text {
        Some(text) => string(text.as_bytes(), utf8, out),
        None => out.extend_from_slice(b"NIL"),
    }
}

/// The announcement of a literal (RFC 9051 4.3); the bytes follow.
pub fn literal_head(size_bytes: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    number(out, size_bytes as u64);
    out.extend_from_slice(b"}\r\n");
}

/// A literal.
pub fn literal(bytes: &[u8], out: &mut Vec<u8>) {
    literal_head(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Bytes that may hold NUL: a literal, or a literal8 if they do (RFC 3516 4.2).
pub fn binary(bytes: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(0, bytes).is_some() {
        out.push(b'~');
    }
    literal(bytes, out);
}

/// A mailbox name as `astring`. Always quoted: some clients do not expect atoms.
pub fn mailbox(name: &str, utf8: bool, out: &mut Vec<u8>) {
    if utf8 || name.is_ascii() && !name.contains('&') && !name.bytes().any(|b| b.is_ascii_control()) {
        return string(name.as_bytes(), utf8, out);
    }
    let mut wire = Vec::with_capacity(name.len() * 2);
    name::encode(name, false, &mut wire);
    string(&wire, false, out);
}

/// `"17-Jul-1996 02:44:25 +0000"` (RFC 9051 9 `date-time`), always in UTC. The day has two characters.
pub fn date_time(unix_s: i64, out: &mut Vec<u8>) {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (day, second) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400));
    let (year, month, day) = civil(day);
    let two = |n: i64, out: &mut Vec<u8>| {
        let n = u8::try_from(n.rem_euclid(100)).unwrap_or(0);
        out.extend_from_slice(&[b'0' + n / 10, b'0' + n % 10]);
    };
    out.push(b'"');
    two(day, out);
    out.push(b'-');
    let at = usize::try_from((month - 1) * 3).unwrap_or(0);
    out.extend_from_slice(&MONTHS[at..at + 3]);
    out.push(b'-');
    // The grammar knows four digits.
    let year = year.clamp(0, 9999);
    two(year / 100, out);
    two(year, out);
    out.push(b' ');
    two(second / 3600, out);
    out.push(b':');
    two(second / 60 % 60, out);
    out.push(b':');
    two(second % 60, out);
    out.extend_from_slice(b" +0000\"");
}

/// Year, month, day of a day number since 1970 in the proleptic Gregorian calendar: the year is counted from March, so that
/// the leap day is its last.
fn civil(day: i64) -> (i64, i64, i64) {
    let since_march_0000 = day.saturating_add(719_468);
    let era = since_march_0000.div_euclid(146_097);
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// `(\Seen $Forwarded)` (RFC 9051 2.3.2); `keywords` are the mailbox's names by bit.
pub fn flags(flags: Flags, keywords: &[String], out: &mut Vec<u8>) {
    const SYSTEM: [&[u8]; 5] = [b"\\Seen", b"\\Answered", b"\\Flagged", b"\\Deleted", b"\\Draft"];
    out.push(b'(');
    let before = out.len();
    let mut bits = flags.0;
    while bits != 0 {
        let bit = bits.trailing_zeros();
        bits &= bits - 1;
        let name: Option<&[u8]> = match bit.checked_sub(Flags::KEYWORD_SHIFT) {
            None => SYSTEM.get(bit as usize).copied(),
            Some(i) => keywords.get(i as usize).map(String::as_bytes),
        };
        if let Some(name) = name {
            if out.len() > before {
                out.push(b' ');
            }
            out.extend_from_slice(name);
        }
    }
    out.push(b')');
}

/// A metadata value (RFC 5464 5): a string, or a literal8 when it holds NUL. Text beyond ASCII is a literal.
pub fn value(bytes: &[u8], out: &mut Vec<u8>) {
    if memchr::memchr(0, bytes).is_some() { binary(bytes, out) } else { string(bytes, false, out) }
}

/// An object identifier (RFC 8474 4): a letter that says of what, and digits. Its `Display` is the wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectId {
    /// MAILBOXID: `F` and the number.
    Mailbox(MailboxId),
    /// EMAILID: `M` and the number of the body. Equal bodies have one id, in every mailbox.
    Email(BodyId),
    /// THREADID: `T` and 16 hexadecimal digits.
    Thread(u64),
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mailbox(id) => write!(f, "F{id}"),
            Self::Email(id) => write!(f, "M{id}"),
            Self::Thread(id) => write!(f, "T{id:016x}"),
        }
    }
}

/// MAILBOXID (RFC 8474 4.1).
#[must_use]
pub fn mailbox_id(id: MailboxId) -> ObjectId {
    ObjectId::Mailbox(id)
}
/// EMAILID (RFC 8474 5.1).
#[must_use]
pub fn email_id(id: BodyId) -> ObjectId {
    ObjectId::Email(id)
}
/// THREADID (RFC 8474 5.2).
#[must_use]
pub fn thread_id(thread: u64) -> ObjectId {
    ObjectId::Thread(thread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn strings_are_quoted_or_literals() {
        assert_eq!(written(|o| string(b"a\"b\\c", false, o)), r#""a\"b\\c""#);
        assert_eq!(written(|o| string(b"", false, o)), "\"\"");
        assert_eq!(written(|o| string("ü".as_bytes(), false, o)), "{2}\r\nü");
        assert_eq!(written(|o| string("ü".as_bytes(), true, o)), "\"ü\"");
        assert_eq!(written(|o| string(b"a\r\n\0b", true, o)), "{4}\r\na\r\nb");
        assert_eq!(written(|o| nstring(None, true, o)), "NIL");
        assert_eq!(written(|o| mailbox("学校", false, o)), "\"&W2ZoIQ-\"");
        assert_eq!(written(|o| mailbox("学校", true, o)), "\"学校\"");
        assert_eq!(written(|o| mailbox("a&b", false, o)), "\"a&-b\"");
        assert_eq!(written(|o| binary(b"a\0", o)), "~{2}\r\na\0");
    }

    #[test]
    fn dates_flags_and_ids() {
        // RFC 9051 7.5.2
        assert_eq!(written(|o| date_time(837_571_465, o)), "\"17-Jul-1996 02:44:25 +0000\"");
        assert_eq!(written(|o| date_time(951_782_400, o)), "\"29-Feb-2000 00:00:00 +0000\"");
        assert_eq!(written(|o| date_time(-1, o)), "\"31-Dec-1969 23:59:59 +0000\"");
        let keywords = vec!["$Junk".to_owned(), "work".to_owned()];
        let f = Flags::SEEN.with(Flags::DRAFT).with(Flags::keyword(1)).with(Flags::keyword(9));
        assert_eq!(written(|o| flags(f, &keywords, o)), "(\\Seen \\Draft work)");
        assert_eq!(written(|o| flags(Flags(0), &keywords, o)), "()");
        assert_eq!(thread_id(0xab).to_string(), "T00000000000000ab");
        assert_eq!(email_id(BodyId(17)).to_string(), "M17");
    }

    proptest! {
        #[test]
        fn a_date_agrees_with_the_time_crate(s in -62_135_596_800i64..253_402_300_799) {
            let t = time::OffsetDateTime::from_unix_timestamp(s).unwrap();
            let want = format!("\"{:02}-{}-{:04} {:02}:{:02}:{:02} +0000\"", t.day(), &t.month().to_string()[..3], t.year(), t.hour(), t.minute(), t.second());
            prop_assert_eq!(written(|o| date_time(s, o)), want);
        }
        #[test]
        fn any_time(s: i64) { written(|o| date_time(s, o)); }

        /// A string is read again by the parser of commands as what it was (but for NUL).
        #[test]
        fn a_string_survives(text: Vec<u8>, utf8: bool) {
            let mut line = b"a LOGIN ".to_vec();
            string(&text, utf8, &mut line);
            line.extend_from_slice(b" x\r\n");
            let command = crate::codec::parse::parse(&line, utf8).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let clean: Vec<u8> = text.into_iter().filter(|b| *b != 0).collect();
            let want = std::str::from_utf8(&clean).map_or_else(|_| clean.iter().map(|b| char::from(*b)).collect(), str::to_owned);
            prop_assert_eq!(command.request, crate::codec::ast::Request::Login { user: want, password: "x".into() });
        }
    }
}
