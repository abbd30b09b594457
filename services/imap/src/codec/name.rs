//! Mailbox names: modified UTF-7 of IMAP4rev1 (RFC 3501 5.1.3) and UTF-8 of IMAP4rev2, normal form, names that may exist.
//!
//! Contract: any bytes in, no panic. A name that is not valid modified UTF-7 is taken as it stands (it can then be listed
//! and deleted); [`creatable`] says what may be made new. Failure class: [`NameError`].

use super::ast::MailboxName;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Bytes of a name in UTF-8 at most.
pub const NAME_MAX_BYTES: usize = 1024;
/// Levels of a name at most.
pub const LEVELS_MAX: usize = 32;

/// Why a name can not be given to a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or an empty level (`a//b`).
    #[error("a mailbox name needs text on each level")]
    Empty,
    /// More than [`NAME_MAX_BYTES`] or [`LEVELS_MAX`].
    #[error("the mailbox name is too long")]
    TooLong,
    /// Control characters, `*` or `%`, or a level that would be taken for a path.
    #[error("the mailbox name holds a character that is not allowed")]
    Character,
}

/// Normal form of a name: NFC (RFC 9051 5.1), first level INBOX in capitals, one trailing `/` dropped.
#[must_use]
pub(super) fn normalise(text: &str) -> MailboxName {
    let text = match text.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => text,
    };
    let mut name = if is_nfc(text) { text.to_owned() } else { text.nfc().collect() };
    // RFC 9051 5.1: INBOX in any case is INBOX; its children are taken with it.
    let first = name.find('/').unwrap_or(name.len());
    if name[..first].eq_ignore_ascii_case("INBOX") {
        name.replace_range(..first, "INBOX");
    }
    MailboxName(name)
}

/// The name may be given to a new mailbox.
///
/// # Errors
/// [`NameError`] says why not.
pub fn creatable(name: &MailboxName) -> Result<(), NameError> {
    let text = name.as_str();
    if text.len() > NAME_MAX_BYTES || text.split('/').count() > LEVELS_MAX {
        return Err(NameError::TooLong);
    }
    if text.split('/').any(str::is_empty) {
        return Err(NameError::Empty);
    }
    // RFC 9051 5.1: no control characters, no U+2028 and U+2029 (RFC 5198), no wildcards.
    let bad = |c: char| c.is_control() || matches!(c, '*' | '%' | '\u{2028}' | '\u{2029}' | '\u{fffd}');
    if text.chars().any(bad) || text.split('/').any(|l| l == "." || l == "..") {
        return Err(NameError::Character);
    }
    Ok(())
}

/// A name or pattern from the wire as text. `utf8`: the client enabled IMAP4rev2 or UTF8=ACCEPT, so that `&` is `&`.
#[must_use]
pub fn decode(bytes: &[u8], utf8: bool) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // Old clients send Latin-1; a name has to have some reading.
        Err(_) => bytes.iter().map(|b| char::from(*b)).collect(),
    };
    if utf8 || !text.contains('&') {
        return text;
    }
    from_utf7(&text).unwrap_or(text)
}

/// Appends the wire form of a name, not quoted: UTF-8, or modified UTF-7 (RFC 3501 5.1.3).
pub fn encode(name: &str, utf8: bool, out: &mut Vec<u8>) {
    if utf8 || name.bytes().all(|b| matches!(b, 0x20..=0x25 | 0x27..=0x7e)) {
        out.extend_from_slice(name.as_bytes());
        return;
    }
    let mut shifted: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut shifted, out);
            out.push(u8::try_from(u32::from(c)).unwrap_or(b'?'));
            if c == '&' {
                out.push(b'-');
            }
        } else {
            shifted.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut shifted, out);
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

fn flush(units: &mut Vec<u16>, out: &mut Vec<u8>) {
    if units.is_empty() {
        return;
    }
    out.push(b'&');
    let (mut bits, mut have) = (0u32, 0u32);
    for unit in units.drain(..) {
        bits = (bits << 16) | u32::from(unit);
        have += 16;
        while have >= 6 {
            have -= 6;
            out.push(ALPHABET[((bits >> have) & 63) as usize]);
        }
        bits &= (1 << have) - 1;
    }
    if have > 0 {
        out.push(ALPHABET[((bits << (6 - have)) & 63) as usize]);
    }
    out.push(b'-');
}

/// Strict modified UTF-7; none if it is not.
fn from_utf7(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(amp) = rest.find('&') {
        out.push_str(&rest[..amp]);
        rest = &rest[amp + 1..];
        let end = rest.find('-')?;
        if end == 0 {
            out.push('&');
        } else {
            let (mut bits, mut have) = (0u32, 0u32);
            let mut units: Vec<u16> = Vec::with_capacity(end * 6 / 16);
            for b in rest[..end].bytes() {
                let digit = ALPHABET.iter().position(|a| *a == b)?;
                bits = (bits << 6) | u32::try_from(digit).ok()?;
                have += 6;
                if have >= 16 {
                    have -= 16;
                    units.push(u16::try_from((bits >> have) & 0xffff).ok()?);
                    bits &= (1 << have) - 1;
                }
            }
            // RFC 3501 5.1.3: padding is less than a digit, and zero
            if have >= 6 || bits != 0 {
                return None;
            }
            out.push_str(&String::from_utf16(&units).ok()?);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

/// Any bytes, both readings.
pub fn fuzz(data: &[u8]) {
    for utf8 in [false, true] {
        let name = normalise(&decode(data, utf8));
        let _ = creatable(&name);
        let mut wire = Vec::new();
        encode(name.as_str(), utf8, &mut wire);
        assert_eq!(decode(&wire, utf8), name.as_str(), "a name survives its wire form");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(name: &str) -> String {
        let mut out = Vec::new();
        encode(name, false, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn published_examples() {
        // RFC 3501 5.1.3
        assert_eq!(decode(b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", false), "~peter/mail/台北/日本語");
        assert_eq!(wire("~peter/mail/台北/日本語"), "~peter/mail/&U,BTFw-/&ZeVnLIqe-");
        // RFC 3501 5.1.3: superfluous shift and padding are not valid, the name is taken as it stands
        assert_eq!(decode(b"&Jjo!", false), "&Jjo!");
        assert_eq!(decode(b"&Jjo-!", false), "☺!");
        // seen in the wild
        assert_eq!(wire("已发送"), "&XfJT0ZAB-");
        assert_eq!(wire("Entwürfe & mehr"), "Entw&APw-rfe &- mehr");
        assert_eq!(decode(b"a&-b", true), "a&-b");
        assert_eq!(wire("😀"), "&2D3eAA-");
    }

    #[test]
    fn inbox_and_normal_form() {
        assert!(MailboxName::new("inBox").is_inbox());
        assert_eq!(MailboxName::new("inbox/Foo").as_str(), "INBOX/Foo");
        assert_eq!(MailboxName::new("inboxes").as_str(), "inboxes");
        assert_eq!(MailboxName::new("u\u{308}").as_str(), "ü");
        assert_eq!(MailboxName::new("a/").as_str(), "a");
        assert_eq!(creatable(&MailboxName::new("a//b")), Err(NameError::Empty));
        assert_eq!(creatable(&MailboxName::new("a*")), Err(NameError::Character));
        assert_eq!(creatable(&MailboxName::new("")), Err(NameError::Empty));
        assert_eq!(creatable(&MailboxName::new("学校/通知")), Ok(()));
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) { fuzz(&data); }
        #[test]
        fn any_text(text in "[&\\-A-Za-z台北😀+,/]{0,20}") {
            fuzz(text.as_bytes());
            prop_assert_eq!(decode(wire(&text).as_bytes(), false), text);
        }
    }
}
