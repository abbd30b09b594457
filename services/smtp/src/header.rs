//! The header of a message as the server must know it: how many hops, what is missing, what must go.
//!
//! Contract: one pass over the header, no copy; the text is only changed by [`Header::edit`]. A header that is broken is
//! still mail: where the first line stands that is no field, the body begins.

use crate::{Refusal, Settings};
use memchr::memchr;
use std::ops::Range;

/// What was found in a header. Positions count from the start of the text that was scanned.
#[derive(Debug, Default)]
pub struct Header {
    /// It has Date.
    pub has_date: bool,
    /// It has Message-ID.
    pub has_message_id: bool,
    /// Values of the From fields.
    pub from: Vec<Range<usize>>,
    /// Values of the Sender fields.
    pub sender: Vec<Range<usize>>,
    /// Whole fields to take out.
    drop: Vec<Range<usize>>,
    /// The body begins here without an empty line before it.
    open_at: Option<usize>,
}

/// Reads the header of `text`.
///
/// # Errors
/// 554 for a header over the limits, 554 5.4.6 for a message that goes in a circle.
pub fn scan(text: &[u8], settings: &Settings) -> Result<Header, Refusal> {
    let mut header = Header::default();
    let (mut at, mut fields, mut received) = (0, 0, 0);
    while at < text.len() && !text[at..].starts_with(b"\r\n") {
        let start = at;
        at = line_end(text, at);
        while matches!(text.get(at), Some(b' ' | b'\t')) {
            at = line_end(text, at);
        }
        if at > settings.header_max_bytes {
            return Err(Refusal::new(554, (6, 0), "the header of the message is too large"));
        }
        let field = &text[start..at];
        let colon = memchr(b':', field);
        let Some(colon) = colon.filter(|c| is_name(field[..*c].trim_ascii_end())) else {
            // An mbox line that a script forgot to take off is neither header nor body.
            if start == 0 && (field.starts_with(b"From ") || field.starts_with(b">From ")) {
                header.drop.push(start..at);
                continue;
            }
            header.open_at = Some(start);
            break;
        };
        fields += 1;
        if fields > settings.header_fields_max {
            return Err(Refusal::new(554, (6, 0), "the header of the message has too many fields"));
        }
        let name = field[..colon].trim_ascii_end();
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        let value = start + colon + 1..at;
        match name.len() {
            3 if is(b"Bcc") && settings.drop_bcc => header.drop.push(start..at),
            4 if is(b"Date") => header.has_date = true,
            4 if is(b"From") => header.from.push(value),
            6 if is(b"Sender") => header.sender.push(value),
            8 if is(b"Received") => received += 1,
            10 if is(b"Message-ID") => header.has_message_id = true,
            10 if is(b"Resent-Bcc") && settings.drop_bcc => header.drop.push(start..at),
            // RFC 5321 4.4: only the last server writes it; one that came along is somebody else's.
            11 if is(b"Return-Path") => header.drop.push(start..at),
            _ => {}
        }
    }
    if received > settings.received_max {
        // RFC 5321 6.3
        return Err(Refusal::new(554, (4, 6), "too many Received fields: this message goes in a circle"));
    }
    Ok(header)
}

fn line_end(text: &[u8], from: usize) -> usize {
    memchr(b'\n', &text[from..]).map_or(text.len(), |n| from + n + 1)
}

/// RFC 5322 3.6.8: printable ASCII without colon and blank.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| matches!(b, b'!'..=b'~'))
}

impl Header {
    /// Changes the message: takes the fields out that must go, puts `added` in front, closes a header that runs into its
    /// body. The scanned text begins at `at` in `bytes`.
    pub fn edit(&self, bytes: &mut Vec<u8>, at: usize, added: &[u8]) {
        if let Some(open_at) = self.open_at {
            bytes.splice(at + open_at..at + open_at, *b"\r\n");
        }
        for range in self.drop.iter().rev() {
            bytes.drain(at + range.start..at + range.end);
        }
        if !added.is_empty() {
            bytes.splice(at..at, added.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, added: &str) -> String {
        let header = scan(text.as_bytes(), &Settings::submission("mx.example")).unwrap();
        let mut bytes = format!("Received: x\r\n{text}").into_bytes();
        header.edit(&mut bytes, 13, added.as_bytes());
        String::from_utf8(bytes).unwrap().split_off(13)
    }

    #[test]
    fn what_must_go_goes_and_what_is_added_comes_first() {
        assert_eq!(
            edited(
                "To: a@x\r\nbcc: s@x,\r\n t@x\r\nResent-Bcc : u@x\r\nSubject: hi\r\n\r\nBcc: in the body\r\n",
                "Date: now\r\n"
            ),
            "Date: now\r\nTo: a@x\r\nSubject: hi\r\n\r\nBcc: in the body\r\n"
        );
        assert_eq!(edited("Return-Path: <x@y>\r\nTo: a@x\r\n\r\n", ""), "To: a@x\r\n\r\n");
        assert_eq!(edited("From a@x Sat Nov 21\r\nTo: a@x\r\n\r\nb\r\n", ""), "To: a@x\r\n\r\nb\r\n");
    }

    #[test]
    fn a_header_that_runs_into_its_body_is_closed() {
        assert_eq!(edited("hello world\r\n", "Date: now\r\n"), "Date: now\r\n\r\nhello world\r\n");
        assert_eq!(edited("To: a@x\r\nhello world\r\n", ""), "To: a@x\r\n\r\nhello world\r\n");
        assert_eq!(edited("", "Date: now\r\n"), "Date: now\r\n");
    }

    #[test]
    fn limits() {
        let settings = Settings::mx("mx.example");
        let refused = |text: String| scan(text.as_bytes(), &settings).map(|_| ()).map_err(|r| (r.code(), r.detail()));
        let tail = "To: a@x\r\n\r\nbody\r\n";
        assert_eq!(refused("Received: by x\r\n".repeat(50) + tail), Ok(()));
        assert_eq!(refused("Received: by x\r\n".repeat(51) + tail), Err((554, (4, 6))));
        assert_eq!(refused("received: by x\r\n".repeat(51)), Err((554, (4, 6))));
        assert_eq!(refused("X: y\r\n".repeat(1001) + tail), Err((554, (6, 0))));
        assert_eq!(refused(format!("X: {}\r\n{tail}", "y".repeat(300_000))), Err((554, (6, 0))));
        assert_eq!(refused(format!("X: y\r\n\r\n{}", "Received: by x\r\n".repeat(99))), Ok(()));
    }

    proptest::proptest! {
        #[test]
        fn any_text(text in "([A-Za-z-]{0,8}[: ]{0,2}[a-z]{0,6}(\r\n[ \t]?)?){0,20}") {
            let header = scan(text.as_bytes(), &Settings::submission("mx.example"));
            if let Ok(header) = header {
                let mut bytes = text.clone().into_bytes();
                header.edit(&mut bytes, 0, b"X: y\r\n");
                proptest::prop_assert!(bytes.starts_with(b"X: y\r\n"));
            }
        }
    }
}
