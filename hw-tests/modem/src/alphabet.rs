//! 3GPP TS 23.038: the 7-bit alphabet, its extension, the national tables, packing of septets, and UCS-2.
//!
//! Decoding takes any bytes and never fails: what has no meaning becomes a space (an escape that leads nowhere, 6.2.1.1) or U+FFFD
//! (half a surrogate pair). Encoding says `None` when a character is not in the table.

use crate::national;

/// 23.038 6.2.1, in the order of the code. 0x1B is the escape.
pub(crate) const DEFAULT: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";

/// 23.038 6.2.1.1: codes after an escape.
pub(crate) const EXTENSION: [(u8, char); 10] = [
    (0x0a, '\u{c}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2f, '\\'),
    (0x3c, '['),
    (0x3d, '~'),
    (0x3e, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

const ESCAPE: u8 = 0x1b;

/// The national language of a locking or single shift (23.038 6.2.1.2.4); 0 is the default alphabet.
pub type Language = u8;

/// Unpacks `septets` 7-bit codes, after `fill_bits` bits that only pad a header to a septet boundary (23.038 6.1.2.1, 23.040 9.2.3.24).
/// Stops early when the octets end.
#[must_use]
pub fn unpack(octets: &[u8], septets: usize, fill_bits: usize) -> Vec<u8> {
    let bits = octets.len() * 8;
    let fitting = bits.saturating_sub(fill_bits) / 7;
    (0..septets.min(fitting))
        .map(|n| {
            let at = fill_bits + n * 7;
            let low = u16::from(octets[at / 8]);
            let high = octets.get(at / 8 + 1).map_or(0, |o| u16::from(*o));
            (((high << 8 | low) >> (at % 8)) & 0x7f) as u8
        })
        .collect()
}

/// Packs 7-bit codes behind `fill_bits` zero bits.
#[must_use]
pub fn pack(codes: &[u8], fill_bits: usize) -> Vec<u8> {
    let mut out = vec![0u8; (fill_bits + codes.len() * 7).div_ceil(8)];
    for (n, code) in codes.iter().enumerate() {
        let at = fill_bits + n * 7;
        let bits = u16::from(code & 0x7f) << (at % 8);
        out[at / 8] |= bits as u8;
        if let Some(next) = out.get_mut(at / 8 + 1) {
            *next |= (bits >> 8) as u8;
        }
    }
    out
}

/// The text of 7-bit codes under a locking and a single shift table.
#[must_use]
pub fn decode(codes: &[u8], locking: Language, single: Language) -> String {
    let mut text = String::with_capacity(codes.len());
    let mut codes = codes.iter().copied();
    while let Some(code) = codes.next() {
        if code != ESCAPE {
            text.push(national::locking(locking, code));
            continue;
        }
        match codes.next() {
            // 6.2.1.1: "In the event that an MS receives a code where a symbol is not represented in the above table then the MS
            // shall display the character shown in the main table"; an escape behind an escape is reserved: a space.
            Some(ESCAPE) | None => text.push(' '),
            Some(code) => text.push(national::single(single, code).unwrap_or_else(|| national::locking(locking, code))),
        }
    }
    text
}

/// The codes of `text` in the default alphabet with its extension; `None` when a character is in neither.
#[must_use]
pub fn encode(text: &str) -> Option<Vec<u8>> {
    let mut codes = Vec::with_capacity(text.len());
    for c in text.chars() {
        if let Some((code, _)) = EXTENSION.iter().find(|(_, e)| *e == c) {
            codes.extend([ESCAPE, *code]);
        } else {
            let code = DEFAULT.chars().position(|d| d == c && d != '\u{1b}')?;
            codes.push(code as u8);
        }
    }
    Some(codes)
}

/// UCS-2 as phones use it today: UTF-16, high octet first (23.038 6.2.3). An odd octet at the end is dropped.
#[must_use]
pub fn decode_ucs2(octets: &[u8]) -> String {
    let units = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The octets of `text` in UTF-16, high octet first.
#[must_use]
pub fn encode_ucs2(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}
