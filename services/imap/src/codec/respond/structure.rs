//! ENVELOPE and BODYSTRUCTURE (RFC 9051 7.5.2) from what was parsed at arrival.

use super::{nstring, number, string};
use twinpost_message::{Addr, ContentDisposition, Envelope, Mailbox, Param, Part, PartBody};

/// `(date subject from sender reply-to to cc bcc in-reply-to message-id)`.
pub fn envelope(e: &Envelope, utf8: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    nstring(e.date.as_deref(), utf8, out);
    out.push(b' ');
    nstring(e.subject.as_deref(), utf8, out);
    for list in [&e.from, &e.sender, &e.reply_to, &e.to, &e.cc, &e.bcc] {
        out.push(b' ');
        addresses(list, utf8, out);
    }
    out.push(b' ');
    nstring(e.in_reply_to.as_deref(), utf8, out);
    out.push(b' ');
    nstring(e.message_id.as_deref(), utf8, out);
    out.push(b')');
}

fn addresses(list: &[Addr], utf8: bool, out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for addr in list {
        match addr {
            Addr::Mailbox(m) => address(m, utf8, out),
            Addr::Group(g) => {
                // RFC 9051 7.5.2: a group begins with a NIL host and its name, and ends with NIL for both.
                out.extend_from_slice(b"(NIL NIL ");
                string(g.name.as_bytes(), utf8, out);
                out.extend_from_slice(b" NIL)");
                for m in &g.members {
                    address(m, utf8, out);
                }
                out.extend_from_slice(b"(NIL NIL NIL NIL)");
            }
        }
    }
    out.push(b')');
}

/// Host and mailbox are never NIL: that would be a group.
fn address(m: &Mailbox, utf8: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    nstring(m.name.as_deref(), utf8, out);
    out.extend_from_slice(b" NIL ");
    string(m.local.as_bytes(), utf8, out);
    out.push(b' ');
    string(m.host.as_bytes(), utf8, out);
    out.push(b')');
}

/// What stands where the grammar wants a body and the message has none: an empty text.
const EMPTY_BODY: &[u8] = b"(\"text\" \"plain\" NIL NIL NIL \"7bit\" 0 0)";

/// BODYSTRUCTURE, or with `extended` false BODY. Recursion is as deep as the MIME tree, which the parser bounds.
pub fn body_structure(part: &Part, extended: bool, utf8: bool, out: &mut Vec<u8>) {
    out.push(b'(');
    if part.kind == "multipart" || matches!(part.body, PartBody::Multipart(_)) {
        match &part.body {
            PartBody::Multipart(parts) if !parts.is_empty() => {
                for p in parts {
                    body_structure(p, extended, utf8, out);
                }
            }
            _ => out.extend_from_slice(EMPTY_BODY),
        }
        out.push(b' ');
        word(&part.subtype, "mixed", utf8, out);
        if extended {
            out.push(b' ');
            params(&part.params, utf8, out);
            tail(part, utf8, out);
        }
        out.push(b')');
        return;
    }
    word(&part.kind, "text", utf8, out);
    out.push(b' ');
    word(&part.subtype, "plain", utf8, out);
    out.push(b' ');
    params(&part.params, utf8, out);
    for text in [&part.content_id, &part.description] {
        out.push(b' ');
        nstring(text.as_deref(), utf8, out);
    }
    out.push(b' ');
    word(&part.encoding, "7bit", utf8, out);
    out.push(b' ');
    number(out, u64::from(part.body_bytes()));
    let is_message = part.kind == "message" && matches!(part.subtype.as_str(), "rfc822" | "global");
    if is_message {
        out.push(b' ');
        match &part.body {
            PartBody::Message(inner) => {
                envelope(&inner.0, utf8, out);
                out.push(b' ');
                body_structure(&inner.1, extended, utf8, out);
            }
            PartBody::Leaf | PartBody::Multipart(_) => {
                envelope(&Envelope::default(), utf8, out);
                out.push(b' ');
                out.extend_from_slice(EMPTY_BODY);
            }
        }
    }
    if is_message || part.kind == "text" || part.kind.is_empty() {
        out.push(b' ');
        number(out, u64::from(part.lines));
    }
    if extended {
        out.push(b' ');
        nstring(part.md5.as_deref(), utf8, out);
        tail(part, utf8, out);
    }
    out.push(b')');
}

/// Disposition, language and location: the end of both kinds of extension data.
fn tail(part: &Part, utf8: bool, out: &mut Vec<u8>) {
    out.push(b' ');
    match &part.disposition {
        Some(ContentDisposition { kind, params: list }) => {
            out.push(b'(');
            string(kind.as_bytes(), utf8, out);
            out.push(b' ');
            params(list, utf8, out);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    match part.language.as_slice() {
        [] => out.extend_from_slice(b"NIL"),
        [one] => string(one.as_bytes(), utf8, out),
        many => {
            out.push(b'(');
            for (i, l) in many.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                string(l.as_bytes(), utf8, out);
            }
            out.push(b')');
        }
    }
    out.push(b' ');
    nstring(part.location.as_deref(), utf8, out);
}

fn word(text: &str, default: &str, utf8: bool, out: &mut Vec<u8>) {
    string(if text.is_empty() { default } else { text }.as_bytes(), utf8, out);
}

fn params(list: &[Param], utf8: bool, out: &mut Vec<u8>) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for (i, (name, value)) in list.iter().enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        if utf8 || value.is_ascii() {
            string(name.as_bytes(), utf8, out);
            out.push(b' ');
            string(value.as_bytes(), utf8, out);
        } else {
            // The value is decoded; a client of RFC 3501 gets it back in the form of RFC 2231 4, which is ASCII.
            let mut text = Vec::with_capacity(name.len() + 1);
            text.extend_from_slice(name.as_bytes());
            text.push(b'*');
            string(&text, false, out);
            text.clear();
            text.extend_from_slice(b"UTF-8''");
            for b in value.bytes() {
                if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_') {
                    text.push(b);
                } else {
                    let hex = b"0123456789ABCDEF";
                    text.extend_from_slice(&[b'%', hex[usize::from(b >> 4)], hex[usize::from(b & 15)]]);
                }
            }
            out.push(b' ');
            string(&text, false, out);
        }
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use twinpost_message::Parsed;

    fn shown(message: &str, utf8: bool) -> (String, String) {
        let parsed = Parsed::parse(message.replace('\n', "\r\n").as_bytes());
        let (mut e, mut b) = (Vec::new(), Vec::new());
        envelope(&parsed.envelope, utf8, &mut e);
        body_structure(&parsed.root, true, utf8, &mut b);
        (String::from_utf8(e).unwrap(), String::from_utf8(b).unwrap())
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 9051 8
        let (e, b) = shown(
            "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\nFrom: Terry Gray <gray@cac.washington.edu>\nSubject: IMAP4rev2 WG mtg summary and minutes\n\
             To: imap@cac.washington.edu\ncc: minutes@CNRI.Reston.VA.US, John Klensin <KLENSIN@MIT.EDU>\nMessage-Id: <B27397-0100000@cac.washington.edu>\n\
             MIME-Version: 1.0\nContent-Type: TEXT/PLAIN; CHARSET=US-ASCII\n\nline\nline\n",
            false,
        );
        let gray = "((\"Terry Gray\" NIL \"gray\" \"cac.washington.edu\"))";
        assert_eq!(
            e,
            format!(
                "(\"Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\" \"IMAP4rev2 WG mtg summary and minutes\" {gray} {gray} {gray} \
                 ((NIL NIL \"imap\" \"cac.washington.edu\")) ((NIL NIL \"minutes\" \"CNRI.Reston.VA.US\")(\"John Klensin\" NIL \"KLENSIN\" \"MIT.EDU\")) \
                 NIL NIL \"<B27397-0100000@cac.washington.edu>\")"
            )
        );
        assert_eq!(b.to_lowercase(), "(\"text\" \"plain\" (\"charset\" \"us-ascii\") nil nil \"7bit\" 12 2 nil nil nil nil)");
    }

    #[test]
    fn groups_parts_and_file_names() {
        let (e, b) = shown(
            "From: a@b\nTo: Class 3: x@y, z@y;, undisclosed:;\nContent-Type: multipart/mixed; boundary=q\n\n--q\nContent-Type: text/html\n\n<p>\n--q\n\
             Content-Type: application/pdf\nContent-Disposition: attachment; filename*=UTF-8''%E9%80%9A%20x\nContent-Transfer-Encoding: base64\n\nAAAA\n--q\n\
             Content-Type: message/rfc822\n\nSubject: in\n\nhi\n--q--\n",
            false,
        );
        assert!(e.contains("((NIL NIL \"Class 3\" NIL)(NIL NIL \"x\" \"y\")(NIL NIL \"z\" \"y\")(NIL NIL NIL NIL)(NIL NIL \"undisclosed\" NIL)(NIL NIL NIL NIL))"), "{e}");
        assert!(b.contains("(\"attachment\" (\"filename*\" \"UTF-8''%E9%80%9A%20x\"))"), "{b}");
        assert!(b.contains("(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 17 (NIL \"in\" NIL NIL NIL NIL NIL NIL NIL NIL) (\"text\" \"plain\" "), "{b}");
        assert!(b.ends_with(" \"mixed\" (\"boundary\" \"q\") NIL NIL NIL)"), "{b}");
        let (_, b) = shown("Content-Type: application/x; name*=UTF-8''%E9%80%9A\n\nx", true);
        assert!(b.contains("(\"name\" \"通\")"), "{b}");
        let (_, b) = shown("Content-Type: multipart/mixed; boundary=q\n\nnothing", true);
        assert!(b.starts_with("(\"text\" \"plain\""), "{b}");
    }

    /// Counts the elements of a list at depth 1 and checks that it ends where it should.
    fn elements(bytes: &[u8]) -> usize {
        let (mut i, mut depth, mut count, mut space) = (0, 0i32, 0, true);
        while i < bytes.len() {
            match bytes[i] {
                b'(' => {
                    count += usize::from(depth == 1 && space);
                    depth += 1;
                    space = true;
                }
                b')' => depth -= 1,
                b'"' => {
                    count += usize::from(depth == 1);
                    i += 1;
                    while bytes[i] != b'"' {
                        assert!(bytes[i] != b'\r' && bytes[i] != b'\n' && bytes[i] != 0);
                        i += 1 + usize::from(bytes[i] == b'\\');
                    }
                }
                b'{' => {
                    count += usize::from(depth == 1);
                    let end = i + bytes[i..].iter().position(|b| *b == b'}').unwrap();
                    i = end + 2 + std::str::from_utf8(&bytes[i + 1..end]).unwrap().parse::<usize>().unwrap();
                }
                b' ' => space = true,
                _ => {
                    count += usize::from(depth == 1 && matches!(bytes[i - 1], b' ' | b'('));
                }
            }
            assert!(depth > 0 || i + 1 == bytes.len(), "ends at {i} of {}", bytes.len());
            i += 1;
        }
        assert_eq!(depth, 0);
        count
    }

    proptest! {
        #[test]
        fn whatever_a_message_says_the_answer_is_well_formed(
            lines in prop::collection::vec(prop_oneof![
                prop::sample::select(vec!["Subject: \"(\\ {3}", "From: \"a\\\"b\" <x@y>, g: h@i;", "To: \u{7f}\u{1}ü <>", "Content-Type: multipart/mixed; boundary=b", "Content-Type: message/rfc822",
                    "", "--b", "--b--", "Content-Disposition: x; filename=\"a\"; b*=UTF-8''%00%0d%0a", "Content-Language: a, b", "Content-ID: )"]).prop_map(str::to_owned),
                any::<String>()
            ], 0..25), utf8: bool) {
            let parsed = Parsed::parse(lines.join("\r\n").as_bytes());
            let mut out = Vec::new();
            envelope(&parsed.envelope, utf8, &mut out);
            prop_assert_eq!(elements(&out), 10);
            for extended in [false, true] {
                out.clear();
                body_structure(&parsed.root, extended, utf8, &mut out);
                elements(&out);
            }
        }
    }
}
