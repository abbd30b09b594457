//! Whether equal bytes on both sides are one delivery.

use twinpost_message::TraceId;

/// Bytes of a message that are looked at: our own field stands above all others.
const LOOK_BYTES: usize = 16 << 10;

/// The trace id in the first Received field of a message. `id` and 13 characters of our alphabet: see `TraceId`.
pub(crate) fn trace(message: &[u8]) -> Option<TraceId> {
    let head = &message[..message.len().min(LOOK_BYTES)];
    let mut lines = head.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).peekable();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            return None;
        }
        if !line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:")) {
            continue;
        }
        let mut field = line[9..].to_vec();
        while let Some(more) = lines.next_if(|l| l.first().is_some_and(|b| matches!(b, b' ' | b'\t'))) {
            field.extend_from_slice(more);
        }
        let text = String::from_utf8_lossy(&field);
        let mut words = text.split(|c: char| c.is_ascii_whitespace() || c == ';').filter(|w| !w.is_empty());
        return words.find(|w| w.eq_ignore_ascii_case("id")).and_then(|_| words.next()).and_then(|id| id.parse().ok());
    }
    None
}

/// Takes any bytes as a message.
pub fn fuzz(data: &[u8]) {
    let found = trace(data);
    let mut above = b"Received: from x by y with ESMTP\r\n\tid 0123456789abc;\r\n\tdate\r\n".to_vec();
    above.extend_from_slice(data);
    assert_eq!(trace(&above), "0123456789abc".parse().ok(), "what stands above counts, whatever is below");
    assert_eq!(trace(data), found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_received_field_names_the_delivery() {
        let id = TraceId(0x1234_5678);
        let mail = format!(
            "Return-Path: <a@b.example>\r\nReceived: from c ([192.0.2.1])\r\n\tby mx.example with ESMTPS\r\n\t(TLSv1.3)\r\n\tid {id}\r\n\tfor \
             <x@y.example>;\r\n\tSun, 1 Jan 2023 00:00:00 +0000\r\nReceived: from q id 0000000000000\r\n\r\nbody"
        );
        assert_eq!(trace(mail.as_bytes()), Some(id));
        assert_eq!(trace(b"Subject: x\r\n\r\nReceived: from c id 0123456789abc"), None);
        assert_eq!(trace(b"Received: from another program with id 4711\r\n\r\n"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(data in prop::collection::vec(any::<u8>(), 0..400)) {
            fuzz(&data);
        }
    }
}
