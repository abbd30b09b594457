//! Parts of a message by their IMAP numbers (RFC 9051 6.4.5), as ranges of its bytes.
//!
//! Contract: nothing is parsed or copied here but for HEADER.FIELDS; `None` means that the message has no such section.

use crate::header::fields;
use crate::{Envelope, Parsed, Part, PartBody};
use std::ops::Range;

/// What of a part is meant (RFC 9051 6.4.5, section-text).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// `BODY[]`, `BODY[1.2]`: the whole message, or the body of the part.
    Whole,
    /// `HEADER`: of the message, or of the message that the part holds. Its empty line belongs to it.
    Header,
    /// `TEXT`: the body behind that header.
    Text,
    /// `MIME`: the header of the part itself.
    Mime,
}

/// A part by its number.
#[derive(Clone, Copy, Debug)]
pub enum Node<'p> {
    /// The empty number: the message itself.
    Root(&'p Parsed),
    /// A part. When it is a message, its envelope and structure are in `part.body`.
    Part(&'p Part),
}

impl<'p> Node<'p> {
    /// The message that this is or holds.
    #[must_use]
    pub fn message(self) -> Option<(&'p Envelope, &'p Part)> {
        match self {
            Self::Root(parsed) => Some((&parsed.envelope, &parsed.root)),
            Self::Part(part) => match &part.body {
                PartBody::Message(inner) => Some((&inner.0, &inner.1)),
                PartBody::Leaf | PartBody::Multipart(_) => None,
            },
        }
    }

    /// The part numbered `number` (from 1) inside of this one. A message that is no multipart has one part, its body.
    fn child(self, number: u32) -> Option<&'p Part> {
        let of = |part: &'p Part| match &part.body {
            PartBody::Multipart(parts) => parts.get((number as usize).checked_sub(1)?),
            PartBody::Leaf | PartBody::Message(_) => None,
        };
        match (self.message(), self) {
            (Some((_, root)), _) => match root.body {
                PartBody::Multipart(_) => of(root),
                PartBody::Leaf | PartBody::Message(_) => (number == 1).then_some(root),
            },
            (None, Self::Part(part)) => of(part),
            (None, Self::Root(_)) => None,
        }
    }
}

impl Parsed {
    /// The part at this number, `[]` being the message.
    #[must_use]
    pub fn node(&self, path: &[u32]) -> Option<Node<'_>> {
        path.iter().try_fold(Node::Root(self), |node, number| node.child(*number).map(Node::Part))
    }

    /// The part at this number as a part: for `[]` the root, else the part.
    #[must_use]
    pub fn part(&self, path: &[u32]) -> Option<&Part> {
        Some(match self.node(path)? {
            Node::Root(parsed) => &parsed.root,
            Node::Part(part) => part,
        })
    }

    /// Where a section stands in the message.
    #[must_use]
    pub fn section(&self, path: &[u32], section: Section) -> Option<Range<usize>> {
        let node = self.node(path)?;
        let range = |from: u32, to: u32| from as usize..to as usize;
        Some(match (section, node) {
            (Section::Whole, Node::Root(parsed)) => range(0, parsed.root.body_end),
            (Section::Whole, Node::Part(part)) => range(part.body_start, part.body_end),
            (Section::Mime, Node::Part(part)) => range(part.header_start, part.body_start),
            (Section::Mime, Node::Root(_)) => return None,
            (Section::Header, node) => {
                let root = node.message()?.1;
                range(root.header_start, root.body_start)
            }
            (Section::Text, node) => {
                let root = node.message()?.1;
                range(root.body_start, root.body_end)
            }
        })
    }
}

/// `HEADER.FIELDS` (or, with `not`, `HEADER.FIELDS.NOT`) of a header: the fields as they are written, in their order, and an
/// empty line (RFC 9051 6.4.5).
#[must_use]
pub fn header_fields<N: AsRef<str>>(header: &[u8], names: &[N], not: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(header.len().min(1024));
    for field in fields(header) {
        if names.iter().any(|name| field.is(name.as_ref())) != not {
            out.extend_from_slice(field.whole);
            if !field.whole.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode_part;

    /// The shape of the example in RFC 9051 6.4.5, each part holding its own number.
    const MAIL: &str = "From: root\r\nContent-Type: multipart/mixed; boundary=m\r\n\r\npreamble\r\n\
        --m\r\nContent-Type: text/plain\r\n\r\n[1]\r\n\
        --m\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nWzJd\r\n\
        --m\r\nContent-Type: message/rfc822\r\n\r\nFrom: three\r\nContent-Type: multipart/mixed; boundary=n\r\n\r\n\
        --n\r\n\r\n[3.1]\r\n--n\r\nContent-Type: application/octet-stream\r\n\r\n[3.2]\r\n--n--\r\n\
        --m\r\nContent-Type: multipart/mixed; boundary=o\r\n\r\n\
        --o\r\nContent-Type: image/gif\r\n\r\n[4.1]\r\n\
        --o\r\nContent-Type: message/rfc822\r\n\r\nFrom: four\r\nContent-Type: multipart/mixed; boundary=p\r\n\r\n\
        --p\r\nContent-Type: text/plain\r\n\r\n[4.2.1]\r\n\
        --p\r\nContent-Type: multipart/alternative; boundary=q\r\n\r\n\
        --q\r\nContent-Type: text/plain\r\n\r\n[4.2.2.1]\r\n--q\r\nContent-Type: text/richtext\r\n\r\n[4.2.2.2]\r\n--q--\r\n--p--\r\n--o--\r\n--m--\r\n";

    fn get(parsed: &Parsed, mail: &str, path: &[u32], section: Section) -> Option<String> {
        parsed.section(path, section).map(|range| mail[range].to_owned())
    }

    #[test]
    fn rfc_9051_section_6_4_5() {
        for mail in [MAIL.to_owned(), MAIL.replace("\r\n", "\n")] {
            let parsed = Parsed::parse(mail.as_bytes());
            for path in [&[1][..], &[3, 1], &[3, 2], &[4, 1], &[4, 2, 1], &[4, 2, 2, 1], &[4, 2, 2, 2]] {
                let name = path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
                assert_eq!(get(&parsed, &mail, path, Section::Whole), Some(format!("[{name}]")));
            }
            let two = parsed.part(&[2]).unwrap();
            assert_eq!(decode_part(mail.as_bytes(), two).unwrap(), &b"[2]"[..]);
            let header = |path| get(&parsed, &mail, path, Section::Header).map(|h| h.lines().next().unwrap().to_owned());
            assert_eq!(header(&[]).as_deref(), Some("From: root"));
            assert_eq!(header(&[3]).as_deref(), Some("From: three"));
            assert_eq!(header(&[4, 2]).as_deref(), Some("From: four"));
            assert_eq!(header(&[4]), None);
            assert_eq!(get(&parsed, &mail, &[], Section::Whole).as_deref(), Some(mail.as_str()));
            assert!(get(&parsed, &mail, &[3], Section::Text).unwrap().starts_with("--n"));
            assert_eq!(get(&parsed, &mail, &[4, 1], Section::Mime).unwrap().trim_end(), "Content-Type: image/gif");
            for path in [&[0][..], &[5], &[1, 1], &[3, 3], &[4, 2, 2, 3], &[u32::MAX]] {
                assert!(parsed.node(path).is_none(), "{path:?}");
            }
            let envelope = parsed.node(&[4, 2]).and_then(Node::message).unwrap().0;
            assert!(matches!(&envelope.from[..], [crate::Addr::Mailbox(m)] if m.local == "four"));
        }
    }

    #[test]
    fn a_message_of_one_part() {
        let mail = "Subject: a\r\nX: y\r\n\r\nbody\r\n";
        let parsed = Parsed::parse(mail.as_bytes());
        assert_eq!(get(&parsed, mail, &[1], Section::Whole).as_deref(), Some("body\r\n"));
        assert_eq!(get(&parsed, mail, &[1], Section::Mime).as_deref(), Some("Subject: a\r\nX: y\r\n\r\n"));
        assert_eq!(get(&parsed, mail, &[], Section::Text).as_deref(), Some("body\r\n"));
        assert!(parsed.node(&[1, 1]).is_none());
    }

    #[test]
    fn header_fields_by_name() {
        let header = b"Subject: a\r\n b\r\nTo: x\r\nsubject: c\r\n\r\n";
        assert_eq!(header_fields(header, &["SUBJECT"], false), b"Subject: a\r\n b\r\nsubject: c\r\n\r\n");
        assert_eq!(header_fields(header, &["SUBJECT"], true), b"To: x\r\n\r\n");
        assert_eq!(header_fields(b"To: x", &["to"], false), b"To: x\r\n\r\n");
        assert_eq!(header_fields(header, &["none"], false), b"\r\n");
    }
}
