//! Bytes of a named charset into Unicode text.
//!
//! Contract: never fails; bytes that make no sense become U+FFFD. A charset that is unknown, absent or plainly wrong (UTF-8
//! under another name is common in Chinese mail) is guessed: UTF-8 if valid, GB 2312 if every high byte is part of a
//! two-byte pair of it, else windows-1252.

use encoding_rs::{BIG5, EUC_JP, EUC_KR, Encoding, GB18030, GBK, SHIFT_JIS, WINDOWS_1252};
use std::borrow::Cow;

/// Decodes text of a body part or an encoded word.
#[must_use]
pub fn decode<'a>(bytes: &'a [u8], charset: Option<&str>) -> Cow<'a, str> {
    let Some(label) = charset else { return guess(bytes) };
    let label = label.trim();
    if is_utf7(label) {
        return Cow::Owned(utf7(bytes));
    }
    match encoding(label) {
        Some(encoding) if encoding == encoding_rs::UTF_8 => {
            std::str::from_utf8(bytes).map_or_else(|_| guess_broken_utf8(bytes), Cow::Borrowed)
        }
        Some(encoding) => encoding.decode_with_bom_removal(bytes).0,
        None => guess(bytes),
    }
}

/// Decodes the raw bytes of a header: UTF-8 (RFC 6532), else the charset that the message names, else a guess.
pub(crate) fn header_text(bytes: &[u8], charset: Option<&str>) -> String {
    let named = || charset.and_then(encoding).filter(|e| *e != encoding_rs::UTF_8 && *e != WINDOWS_1252);
    if let Ok(text) = std::str::from_utf8(bytes) {
        // ISO-2022-JP is ASCII with escapes; raw in a header it can only be told by them.
        if memchr::memchr(0x1b, bytes).is_some() {
            return encoding_rs::ISO_2022_JP.decode_without_bom_handling(bytes).0.into_owned();
        }
        // Some GBK words are UTF-8 of Cyrillic or Arabic letters by chance (two bytes each): the charset of the body decides.
        let by_chance = !text.is_ascii() && text.chars().all(|c| c < '\u{800}');
        if let Some(encoding) = named().filter(|e| by_chance && [GBK, GB18030, BIG5, EUC_KR, EUC_JP].contains(e)) {
            return encoding.decode_without_bom_handling(bytes).0.into_owned();
        }
        return text.to_owned();
    }
    match named() {
        Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        None => guess(bytes).into_owned(),
    }
}

/// The encoding of a label, also of labels that mailers use beside the registered ones. `us-ascii` is none: a part that
/// says so and holds high bytes must be guessed.
fn encoding(label: &str) -> Option<&'static Encoding> {
    if label.eq_ignore_ascii_case("us-ascii") || label.eq_ignore_ascii_case("ascii") {
        return None;
    }
    Encoding::for_label_no_replacement(label.as_bytes()).or_else(|| {
        let lower = label.to_ascii_lowercase();
        let number = lower.trim_start_matches(|c: char| !c.is_ascii_digit());
        match number {
            "936" => Some(GBK),
            "950" => Some(BIG5),
            "932" => Some(SHIFT_JIS),
            "949" => Some(EUC_KR),
            _ if lower.starts_with("gb") || lower.contains("gbk") => Some(GBK),
            _ if lower.starts_with("big5") => Some(BIG5),
            _ if lower.starts_with("utf8") => Some(encoding_rs::UTF_8),
            _ => None,
        }
    })
}

fn guess(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) if looks_gb2312(bytes) => GBK.decode_without_bom_handling(bytes).0,
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0,
    }
}

/// Bytes that say they are UTF-8 and are not: a cut character or two (kept as UTF-8), or another charset under a wrong name.
fn guess_broken_utf8(bytes: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(bytes);
    let (bad, good) = text
        .chars()
        .filter(|c| !c.is_ascii())
        .fold((0, 0), |(bad, good), c| if c == char::REPLACEMENT_CHARACTER { (bad + 1, good) } else { (bad, good + 1) });
    if bad > good && bad > 1 { guess(bytes) } else { text }
}

/// Every run of high bytes is made of pairs of GB 2312 (EUC-CN). Western text has single high bytes between ASCII letters.
fn looks_gb2312(bytes: &[u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] < 0x80 {
            at += 1;
            continue;
        }
        match (bytes[at], bytes.get(at + 1)) {
            (0xa1..=0xa9 | 0xb0..=0xf7, Some(0xa1..=0xfe)) => at += 2,
            _ => return false,
        }
    }
    true
}

fn is_utf7(label: &str) -> bool {
    ["utf-7", "utf7", "unicode-1-1-utf-7", "x-utf-7"].iter().any(|name| label.eq_ignore_ascii_case(name))
}

/// RFC 2152.
fn utf7(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, behind)) = rest.split_first() {
        if first != b'+' {
            text.push(if first < 0x80 { char::from(first) } else { char::REPLACEMENT_CHARACTER });
            rest = behind;
            continue;
        }
        let len = behind.iter().take_while(|b| crate::decode::base64_value(**b).is_some()).count();
        let (run, after) = behind.split_at(len);
        // The `-` that ends a run is swallowed; `+-` is a plus.
        rest = after.strip_prefix(b"-").unwrap_or(after);
        if run.is_empty() {
            text.push('+');
            continue;
        }
        let raw = crate::decode::base64(run);
        let units = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        text.extend(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charsets_by_any_of_their_names() {
        let gbk: &[u8] = &[0xd6, 0xd0, 0xb9, 0xfa];
        for label in ["gb2312", "GBK", "gb18030", "cp936", "x-gbk", "MS936", "windows-936"] {
            assert_eq!(decode(gbk, Some(label)), "中国", "{label}");
        }
        assert_eq!(decode(&[0xa4, 0xa4, 0xb0, 0xea], Some("Big5")), "中國");
        assert_eq!(decode(&[0xa4, 0xa4, 0xb0, 0xea], Some("cp950")), "中國");
        assert_eq!(decode(b"\x1b$BF|K\\\x1b(B", Some("ISO-2022-JP")), "日本");
        assert_eq!(decode(&[0xc7, 0xd1], Some("ks_c_5601-1987")), "한");
        // GB 18030 four-byte form: 0x95328236 is U+20000.
        assert_eq!(decode(&[0x95, 0x32, 0x82, 0x36], Some("GB18030")), "\u{20000}");
        // RFC 2152 examples.
        assert_eq!(decode(b"A+ImIDkQ.", Some("utf-7")), "A\u{2262}\u{0391}.");
        assert_eq!(decode(b"Hi Mom -+Jjo--!", Some("UTF-7")), "Hi Mom -\u{263a}-!");
    }

    #[test]
    fn what_lies_about_its_charset_is_guessed() {
        assert_eq!(decode("中国".as_bytes(), None), "中国");
        assert_eq!(decode(&[0xd6, 0xd0, 0xb9, 0xfa], None), "中国");
        assert_eq!(decode(&[0xd6, 0xd0, 0xb9, 0xfa], Some("utf-8")), "中国");
        assert_eq!(decode(&[0xd6, 0xd0, 0xb9, 0xfa], Some("us-ascii")), "中国");
        assert_eq!(decode(b"caf\xe9 no", Some("x-unknown")), "café no");
        assert_eq!(header_text(&[0xa4, 0xa4, 0xb0, 0xea], Some("big5")), "中國");
    }
}
