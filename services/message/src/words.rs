//! Encoded words of headers (RFC 2047, language suffix of RFC 2231 5).
//!
//! Contract: text in, text out; what is not an encoded word stays. Words that follow each other in one charset are joined as
//! bytes before decoding: many mailers cut a two-byte character between two words, which RFC 2047 5 forbids and readers repair.

use crate::{charset, decode};
use std::borrow::Cow;

/// Longest encoded text of one word: RFC 2047 2 allows 75 bytes, mailers write whole file names. A bound keeps the search
/// for its end linear.
const WORD_MAX_BYTES: usize = 4096;

struct Word<'a> {
    charset: &'a str,
    bytes: Vec<u8>,
    /// Length of the word in the text.
    len: usize,
}

/// Decodes all encoded words of an unfolded header text.
#[must_use]
pub fn decode(text: &str) -> Cow<'_, str> {
    let Some(first) = text.find("=?") else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    out.push_str(&text[..first]);
    let mut rest = &text[first..];
    let mut pending: Option<(&str, Vec<u8>)> = None;
    while !rest.is_empty() {
        // White space between two encoded words is not shown (RFC 2047 6.2).
        let blank = if pending.is_some() { rest.len() - rest.trim_start().len() } else { 0 };
        if let Some(word) = word(&rest[blank..]) {
            match &mut pending {
                Some((charset, bytes)) if charset.eq_ignore_ascii_case(word.charset) => bytes.extend(word.bytes),
                _ => {
                    flush(&mut out, pending.take());
                    pending = Some((word.charset, word.bytes));
                }
            }
            rest = &rest[blank + word.len..];
            continue;
        }
        flush(&mut out, pending.take());
        // Plain text up to what may be the next word; at least one character, so that this ends.
        let skip = rest.chars().next().map_or(1, char::len_utf8);
        let end = rest[skip..].find("=?").map_or(rest.len(), |n| n + skip);
        out.push_str(&rest[..end]);
        rest = &rest[end..];
    }
    flush(&mut out, pending);
    Cow::Owned(out)
}

fn flush(out: &mut String, pending: Option<(&str, Vec<u8>)>) {
    if let Some((charset, bytes)) = pending {
        // A line break or NUL inside an encoded word must not become one in a header.
        out.extend(charset::decode(&bytes, Some(charset)).chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
}

/// The encoded word that `text` begins with. Spaces inside a Q word are taken: some mailers write them.
fn word(text: &str) -> Option<Word<'_>> {
    let inner = text.strip_prefix("=?")?;
    let (charset, inner) = inner.split_once('?')?;
    if charset.is_empty() || charset.len() > 64 || !charset.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    let (coding, inner) = inner.split_once('?')?;
    let end = memchr::memmem::find(&inner.as_bytes()[..inner.len().min(WORD_MAX_BYTES)], b"?=")?;
    let coded = &inner[..end];
    let bytes = match coding {
        "B" | "b" => decode::base64(coded.as_bytes()),
        "Q" | "q" => decode::quoted_printable(coded.replace('_', " ").as_bytes()),
        _ => return None,
    };
    let len = "=?".len() + charset.len() + 1 + coding.len() + 1 + end + "?=".len();
    Some(Word { charset: charset.split('*').next().unwrap_or(charset), bytes, len })
}

/// Length of the encoded word that `text` begins with: an address parser must not look for commas inside.
pub(crate) fn word_len(text: &str) -> Option<usize> {
    word(text).map(|word| word.len)
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = decode(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2047_section_8() {
        for (coded, shown) in [
            ("=?US-ASCII?Q?Keith_Moore?=", "Keith Moore"),
            ("=?ISO-8859-1?Q?Keld_J=F8rn_Simonsen?=", "Keld Jørn Simonsen"),
            (
                "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
                "If you can read this you understand the example.",
            ),
            ("Nathaniel Borenstein (=?iso-8859-8?b?7eXs+SDv4SDp7Oj08A==?=)", "Nathaniel Borenstein (םולש ןב ילטפנ)"),
            ("(=?ISO-8859-1?Q?a?=)", "(a)"),
            ("(=?ISO-8859-1?Q?a?= b)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a?=  =?ISO-8859-1?Q?b?=)", "(ab)"),
            ("(=?ISO-8859-1?Q?a_b?=)", "(a b)"),
            ("(=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=)", "(a b)"),
        ] {
            assert_eq!(decode(coded), shown);
        }
    }

    #[test]
    fn words_of_the_field() {
        for (coded, shown) in [
            ("=?gb2312?B?1tC5+g==?=", "中国"),
            // One character cut between two words.
            ("=?gb2312?B?1tC5?= =?GB2312?B?+g==?=", "中国"),
            ("=?utf-8?B?5Lit5Zs=?= =?utf-8?B?vQ==?=", "中国"),
            ("=?big5?B?pKSw6g==?=", "中國"),
            ("=?ISO-2022-JP?B?GyRCRnxLXBsoQg==?=", "日本"),
            ("=?utf-8*zh?Q?=E4=B8=AD?=", "中"),
            ("=?utf-8?Q?a b?= c", "a b c"),
            ("=?utf-8?Q?a?=x =?utf-8?Q?b?=", "ax b"),
            ("=?utf-8?X?a?= =? =?? =?a?b", "=?utf-8?X?a?= =? =?? =?a?b"),
            ("=?utf-8?B?DQpCY2M6IGE=?=", "  Bcc: a"),
        ] {
            assert_eq!(decode(coded), shown);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "(=\\?|\\?=|\\?|utf-8|[bqBQ]|\\PC){0,30}") { let _ = decode(&text); }
    }
}
