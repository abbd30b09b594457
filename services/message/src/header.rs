//! Header fields as ranges of the message (RFC 5322 2.2), and their raw text.
//!
//! Contract: any bytes; a line without a colon is passed over, folding is undone, CRLF and bare LF both end a line. The
//! iterator stops at the end of the slice that it is given: finding the empty line is the scanner's part (`mime`).

use crate::{charset, words};
use memchr::memchr;

/// Longest field value that is read, in bytes; the rest of a longer one is not looked at.
pub(crate) const VALUE_MAX_BYTES: usize = 64 * 1024;

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name as written, without white space before the colon.
    pub name: &'a [u8],
    /// Its value as written, folds and final line break included.
    pub raw: &'a [u8],
    /// The whole field: name, colon, value, line break.
    pub whole: &'a [u8],
}

impl<'a> Field<'a> {
    /// The name equals this one, whatever the case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
    /// The value, unfolded, not decoded; bytes that are not UTF-8 are read in `charset`, or what they look like.
    #[must_use]
    pub fn text(&self, charset: Option<&str>) -> String {
        raw_text(self.raw, charset)
    }
    /// The value, unfolded, its encoded words decoded (RFC 2047).
    #[must_use]
    pub fn decoded(&self, charset: Option<&str>) -> String {
        let raw = self.text(charset);
        words::decode(&raw).into_owned()
    }
}

/// The fields of a header, in order.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Iterates over the fields of `header` (which may end with its empty line).
#[must_use]
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        loop {
            let bytes = self.rest;
            if bytes.is_empty() || is_empty_line(bytes) {
                self.rest = &[];
                return None;
            }
            let end = field_end(bytes);
            let (whole, rest) = bytes.split_at(end);
            self.rest = rest;
            // A name is printable ASCII (RFC 5322 2.2); a line that begins with white space here continues nothing.
            let Some(colon) = memchr(b':', whole) else { continue };
            let name = whole[..colon].trim_ascii_end();
            if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) {
                return Some(Field { name, raw: &whole[colon + 1..], whole });
            }
        }
    }
}

fn is_empty_line(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n")
}

/// Length of the first field with its continuation lines and line break.
fn field_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(n) = memchr(b'\n', &bytes[at..]) {
        at += n + 1;
        if !matches!(bytes.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
    bytes.len()
}

/// Unfolded text of a raw value: line breaks gone (RFC 5322 2.2.3), outer white space gone, control characters gone.
pub(crate) fn raw_text(raw: &[u8], charset: Option<&str>) -> String {
    let raw = raw[..raw.len().min(VALUE_MAX_BYTES)].trim_ascii();
    if raw.iter().all(|b| *b >= b' ' || *b == b'\t') {
        return charset::header_text(raw, charset);
    }
    let plain: Vec<u8> = raw.iter().copied().filter(|b| *b >= b' ' || matches!(b, b'\t' | 0x1b)).collect();
    charset::header_text(&plain, charset)
}

/// The unfolded, undecoded values of all fields of this name, in order.
#[must_use]
pub fn header_values(header: &[u8], name: &str, charset: Option<&str>) -> Vec<String> {
    fields(header).filter(|f| f.is(name)).map(|f| f.text(charset)).collect()
}

/// The decoded values of all fields of this name, in order (RFC 2047).
#[must_use]
pub fn header_values_decoded(header: &[u8], name: &str, charset: Option<&str>) -> Vec<String> {
    fields(header).filter(|f| f.is(name)).map(|f| f.decoded(charset)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_are_undone_and_bad_lines_passed_over() {
        let header = b"From x\r\nSubject: one\r\n\ttwo\r\n : no name\r\nX-A:b\nSubject : three\r\n\r\nSubject: body";
        let names: Vec<_> = fields(header).map(|f| String::from_utf8_lossy(f.name).into_owned()).collect();
        assert_eq!(names, ["Subject", "X-A", "Subject"]);
        // The line ` : no name` is a fold of the subject, as its first byte says.
        assert_eq!(header_values(header, "subject", None), ["one\ttwo : no name", "three"]);
    }
}
