//! Content-Transfer-Encodings (RFC 2045 6): base64, quoted-printable, and the plain ones.
//!
//! Contract: any bytes decode to something, never longer than they were; characters that do not belong are passed over, as
//! RFC 2045 6.8 asks. Only an encoding with an unknown name is refused: guessing there would give wrong bytes.

use crate::Part;
use std::borrow::Cow;

/// The part's Content-Transfer-Encoding is not one that can be undone (RFC 3516 4.3: UNKNOWN-CTE).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the part is in an unknown transfer encoding {0:?}")]
pub struct UnknownEncoding(pub String);

/// The bytes of a part's body with the transfer encoding undone (RFC 9051 6.4.5, BINARY). `message` is the whole message that
/// the part was parsed from.
///
/// # Errors
/// [`UnknownEncoding`] when the encoding's name is not known.
pub fn decode_part<'a>(message: &'a [u8], part: &Part) -> Result<Cow<'a, [u8]>, UnknownEncoding> {
    let body = message.get(part.body_start as usize..part.body_end as usize).unwrap_or_default();
    decode_body(body, &part.encoding)
}

/// Undoes a transfer encoding by its lower-case name.
///
/// # Errors
/// [`UnknownEncoding`] when the name is not known.
pub fn decode_body<'a>(body: &'a [u8], encoding: &str) -> Result<Cow<'a, [u8]>, UnknownEncoding> {
    match encoding {
        "" | "7bit" | "8bit" | "binary" => Ok(Cow::Borrowed(body)),
        "base64" => Ok(Cow::Owned(base64(body))),
        "quoted-printable" => Ok(Cow::Owned(quoted_printable(body))),
        other => Err(UnknownEncoding(other.to_owned())),
    }
}

const INVALID: u8 = 0xff;
const BASE64: [u8; 256] = {
    let mut table = [INVALID; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < 64 {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table
};

/// Value of a base64 digit.
pub(crate) fn base64_value(digit: u8) -> Option<u8> {
    let value = BASE64[usize::from(digit)];
    (value != INVALID).then_some(value)
}

/// Decodes base64, passing over what is not of its alphabet. Padding ends a group, not the data: concatenated encodings
/// occur in mail.
#[must_use]
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3 + 3);
    let (mut group, mut digits) = (0u32, 0u8);
    let mut rest = bytes;
    loop {
        // Whole groups without anything foreign: nearly all of every encoded body.
        while digits == 0 && rest.len() >= 4 {
            let value = [rest[0], rest[1], rest[2], rest[3]].map(|b| BASE64[usize::from(b)]);
            if (value[0] | value[1] | value[2] | value[3]) & 0xc0 != 0 {
                break;
            }
            let [a, b, c, d] = value.map(u32::from);
            let [_, x, y, z] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
            out.extend_from_slice(&[x, y, z]);
            rest = &rest[4..];
        }
        let Some((&byte, behind)) = rest.split_first() else { break };
        rest = behind;
        match BASE64[usize::from(byte)] {
            INVALID if byte == b'=' => flush(&mut out, &mut group, &mut digits),
            INVALID => {}
            value => {
                group = group << 6 | u32::from(value);
                digits += 1;
                if digits == 4 {
                    flush(&mut out, &mut group, &mut digits);
                }
            }
        }
    }
    flush(&mut out, &mut group, &mut digits);
    out
}

fn flush(out: &mut Vec<u8>, group: &mut u32, digits: &mut u8) {
    let bytes = (*group << (6 * (4 - u32::from(*digits)))).to_be_bytes();
    let whole = usize::from(digits.saturating_sub(1)); // 2 digits hold 1 byte, 3 hold 2, 4 hold 3; 1 holds none
    out.extend_from_slice(&bytes[1..=whole]);
    (*group, *digits) = (0, 0);
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// Decodes quoted-printable (RFC 2045 6.7). `=` that begins no code stays as it is.
#[must_use]
pub fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr::memchr2(b'=', b'\n', rest) {
        if rest[at] == b'\n' {
            // White space at the end of a line was added on the way (rule 3).
            let line = &rest[..at];
            let (text, end): (_, &[u8]) = match line.strip_suffix(b"\r") {
                Some(text) => (text, b"\r\n"),
                None => (line, b"\n"),
            };
            let kept = text.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |n| n + 1);
            out.extend_from_slice(&text[..kept]);
            out.extend_from_slice(end);
            rest = &rest[at + 1..];
            continue;
        }
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest {
            [high, low, behind @ ..] if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = behind;
            }
            _ => {
                // Soft line break: `=`, white space, line end (rule 5), or the end of the data.
                let blank = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
                match rest.get(blank) {
                    Some(b'\n') => rest = &rest[blank + 1..],
                    None => rest = &[],
                    Some(_) => out.push(b'='),
                }
            }
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Entry point for random input.
pub fn fuzz(data: &[u8]) {
    assert!(base64(data).len() <= data.len());
    assert!(quoted_printable(data).len() <= data.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_vectors_and_what_mail_makes_of_them() {
        for (coded, plain) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9v\r\nYmFy\r\n", "foobar"),
            ("Zm 9v!YmF", "fooba"),
            ("Zg==Zg==", "ff"),
            ("Z", ""),
        ] {
            assert_eq!(String::from_utf8_lossy(&base64(coded.as_bytes())), plain, "{coded}");
        }
    }

    #[test]
    fn quoted_printable_lines() {
        // The first is the example of RFC 2045 6.7.
        for (coded, plain) in [
            (
                "Now's the time =\r\nfor all folk to come=\r\n to the aid of their country.",
                "Now's the time for all folk to come to the aid of their country.",
            ),
            ("a=3D=e9 \t\r\nb=  \r\nc", "a=\u{e9}\r\nbc"),
            ("100= % =4", "100= % =4"),
            ("end=", "end"),
        ] {
            let want: Vec<u8> = plain.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            assert_eq!(quoted_printable(coded.as_bytes()), want, "{coded:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) { fuzz(&data); }
    }
}
