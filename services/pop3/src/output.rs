//! Messages as POP3 sends them: dot-stuffed, ended by a line with a dot (RFC 1939 3).

use bytes::Bytes;
use memchr::memmem::Finder;
use std::sync::OnceLock;

/// Where POP3 output goes: pieces in order, large ones without a copy.
pub(crate) trait Sink {
    fn bytes(&mut self, bytes: Bytes);
    fn slice(&mut self, bytes: &[u8]);
}

impl Sink for twinpost_wire::Stream {
    fn bytes(&mut self, bytes: Bytes) {
        self.queue_bytes(bytes);
    }
    fn slice(&mut self, bytes: &[u8]) {
        self.queue(bytes);
    }
}

/// Sends a message and the final dot. A line that begins with a dot gets another one, also behind a bare LF: clients
/// that take it for a line end would otherwise see the end of the message there.
pub(crate) fn message(body: &Bytes, sink: &mut impl Sink) {
    static LINE_DOT: OnceLock<Finder<'static>> = OnceLock::new();
    let finder = LINE_DOT.get_or_init(|| Finder::new(b"\n."));
    if body.first() == Some(&b'.') {
        sink.slice(b".");
    }
    let mut sent = 0;
    for at in finder.find_iter(body) {
        // Up to and with the dot; the next piece begins with it again.
        sink.bytes(body.slice(sent..at + 2));
        sent = at + 1;
    }
    sink.bytes(body.slice(sent..));
    sink.slice(if body.is_empty() || body.ends_with(b"\r\n") { b".\r\n" } else { b"\r\n.\r\n" });
}

/// The header, the empty line, and `lines` lines of the body (RFC 1939 7 TOP): the length of that beginning.
pub(crate) fn top(body: &[u8], lines: u32) -> usize {
    let mut at = 0;
    let mut in_body = false;
    let mut left = lines;
    for end in memchr::memchr_iter(b'\n', body) {
        if in_body && left == 0 {
            return at;
        }
        let line = &body[at..end];
        at = end + 1;
        if in_body {
            left -= 1;
        } else {
            in_body = line.is_empty() || line == b"\r";
        }
    }
    if in_body && left == 0 { at } else { body.len() }
}

pub(crate) fn fuzz(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let mut out = Collected::default();
    message(&body, &mut out);
    for lines in [0, 1, u32::MAX] {
        message(&body.slice(..top(data, lines)), &mut out);
    }
}

#[derive(Default)]
pub(crate) struct Collected(pub(crate) Vec<u8>);
impl Sink for Collected {
    fn bytes(&mut self, bytes: Bytes) {
        self.0.extend_from_slice(&bytes);
    }
    fn slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(body: &[u8]) -> Vec<u8> {
        let mut out = Collected::default();
        message(&Bytes::copy_from_slice(body), &mut out);
        out.0
    }

    /// What a client makes of it: lines up to the dot, the stuffed dot taken away.
    fn received(sent: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = sent;
        loop {
            let end = memchr::memchr(b'\n', rest).expect("the end comes") + 1;
            let (line, after) = rest.split_at(end);
            if line == b".\r\n" {
                assert!(after.is_empty(), "the end is the end");
                return out;
            }
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            rest = after;
        }
    }

    #[test]
    fn dots_are_stuffed() {
        assert_eq!(sent(b".\r\n..a\r\nb.\r\n.\r\n"), b"..\r\n...a\r\nb.\r\n..\r\n.\r\n");
        assert_eq!(sent(b"no end"), b"no end\r\n.\r\n");
        assert_eq!(sent(b""), b".\r\n");
        assert_eq!(sent(b"a\n.\nb\r\n"), b"a\n..\nb\r\n.\r\n");
    }

    #[test]
    fn top_counts_body_lines() {
        let body = b"A: b\r\nC: d\r\n\r\n1\r\n2\r\n3";
        assert_eq!(&body[..top(body, 0)], b"A: b\r\nC: d\r\n\r\n");
        assert_eq!(&body[..top(body, 2)], b"A: b\r\nC: d\r\n\r\n1\r\n2\r\n");
        assert_eq!(top(body, 3), body.len());
        assert_eq!(top(body, u32::MAX), body.len());
        assert_eq!(top(b"only: header\r\n", 0), 14);
        assert_eq!(top(b"\r\nbody\r\n", 0), 2);
    }

    proptest! {
        #[test]
        fn a_client_gets_the_message(lines in prop::collection::vec("[.a]{0,4}", 0..20), ends in prop::bool::ANY) {
            let mut body = lines.join("\r\n");
            if ends || body.is_empty() { body.push_str("\r\n"); }
            let mut expected = body.clone();
            if !expected.ends_with("\r\n") { expected.push_str("\r\n"); }
            prop_assert_eq!(received(&sent(body.as_bytes())), expected.as_bytes());
        }
    }
}
