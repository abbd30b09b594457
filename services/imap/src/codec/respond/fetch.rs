//! FETCH responses (RFC 9051 7.5.2 and extensions), item by item.

use super::{binary, body_structure, date_time, email_id, envelope, flags, literal, literal_head, number, string, thread_id};
use crate::codec::ast::{Section, SectionWhat};
use twinpost_message::{BodyId, Envelope, Flags, ModSeq, Part, Uid};

/// A FETCH response that is being written: `begin`, items in any order, `end`. It does not hold the buffer, so that a session
/// can hand on large literals without copying them: see [`FetchResponse::section_head`].
#[derive(Clone, Copy, Debug)]
pub struct FetchResponse {
    empty: bool,
    utf8: bool,
}

/// The last flags written, as text: in a listing the same few sets come again and again.
#[derive(Clone, Debug, Default)]
pub struct FlagText {
    flags: Flags,
    text: Vec<u8>,
}

impl FlagText {
    /// `(\Seen work)`. `keywords` must be the same list for the life of this value.
    pub fn write(&mut self, these: Flags, keywords: &[String], out: &mut Vec<u8>) {
        if self.text.is_empty() || self.flags != these {
            self.text.clear();
            flags(these, keywords, &mut self.text);
            self.flags = these;
        }
        out.extend_from_slice(&self.text);
    }
}

impl FetchResponse {
    /// `* 23 FETCH (`
    #[must_use]
    pub fn begin(seq: u32, utf8: bool, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(b"* ");
        number(out, u64::from(seq));
        out.extend_from_slice(b" FETCH (");
        Self { empty: true, utf8 }
    }
    /// `)` and the line end.
    pub fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b")\r\n");
    }
    /// No item was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty
    }
    fn name(&mut self, name: &[u8], out: &mut Vec<u8>) {
        if !self.empty {
            out.push(b' ');
        }
        self.empty = false;
        out.extend_from_slice(name);
    }
    /// `FLAGS (..)`
    pub fn flags(&mut self, flags: Flags, keywords: &[String], text: &mut FlagText, out: &mut Vec<u8>) {
        self.name(b"FLAGS ", out);
        text.write(flags, keywords, out);
    }
    /// `UID 17`
    pub fn uid(&mut self, uid: Uid, out: &mut Vec<u8>) {
        self.name(b"UID ", out);
        number(out, u64::from(uid.0));
    }
    /// `INTERNALDATE ".."`
    pub fn internal_date(&mut self, received_s: i64, out: &mut Vec<u8>) {
        self.name(b"INTERNALDATE ", out);
        date_time(received_s, out);
    }
    /// `SAVEDATE ".."` (RFC 8514 4.2)
    pub fn save_date(&mut self, saved_s: i64, out: &mut Vec<u8>) {
        self.name(b"SAVEDATE ", out);
        date_time(saved_s, out);
    }
    /// `RFC822.SIZE 44827`
    pub fn size(&mut self, size_bytes: u32, out: &mut Vec<u8>) {
        self.name(b"RFC822.SIZE ", out);
        number(out, u64::from(size_bytes));
    }
    /// `MODSEQ (624140003)` (RFC 7162 3.1.4.2)
    pub fn modseq(&mut self, modseq: ModSeq, out: &mut Vec<u8>) {
        self.name(b"MODSEQ (", out);
        number(out, modseq.0);
        out.push(b')');
    }
    /// `EMAILID (M17)` (RFC 8474 5.1)
    pub fn email_id(&mut self, body: BodyId, out: &mut Vec<u8>) {
        self.name(b"EMAILID (", out);
        email_id(body, out);
        out.push(b')');
    }
    /// `THREADID (T00..)` (RFC 8474 5.2)
    pub fn thread_id(&mut self, thread: u64, out: &mut Vec<u8>) {
        self.name(b"THREADID (", out);
        thread_id(thread, out);
        out.push(b')');
    }
    /// `PREVIEW ".."` (RFC 8970 4)
    pub fn preview(&mut self, text: &str, out: &mut Vec<u8>) {
        self.name(b"PREVIEW ", out);
        string(text.as_bytes(), self.utf8, out);
    }
    /// `ENVELOPE (..)`
    pub fn envelope(&mut self, value: &Envelope, out: &mut Vec<u8>) {
        self.name(b"ENVELOPE ", out);
        envelope(value, self.utf8, out);
    }
    /// `BODY (..)` without extension data
    pub fn body(&mut self, root: &Part, out: &mut Vec<u8>) {
        self.name(b"BODY ", out);
        body_structure(root, false, self.utf8, out);
    }
    /// `BODYSTRUCTURE (..)`
    pub fn body_structure(&mut self, root: &Part, out: &mut Vec<u8>) {
        self.name(b"BODYSTRUCTURE ", out);
        body_structure(root, true, self.utf8, out);
    }
    /// `BODY[..]<origin> {n}` with its bytes, NIL when the part does not exist. `origin` is the first byte of a partial fetch.
    pub fn section(&mut self, section: &Section, origin: Option<u32>, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        self.section_name(section, origin, out);
        match bytes {
            Some(bytes) => literal(bytes, out),
            None => out.extend_from_slice(b"NIL"),
        }
    }
    /// As [`FetchResponse::section`], but the caller sends the `size_bytes` bytes itself right behind what is in `out`.
    pub fn section_head(&mut self, section: &Section, origin: Option<u32>, size_bytes: usize, out: &mut Vec<u8>) {
        self.section_name(section, origin, out);
        literal_head(size_bytes, out);
    }
    fn section_name(&mut self, section: &Section, origin: Option<u32>, out: &mut Vec<u8>) {
        self.name(b"BODY[", out);
        part_numbers(&section.part, out);
        let names = match &section.what {
            SectionWhat::All => None,
            what => {
                if !section.part.is_empty() {
                    out.push(b'.');
                }
                let (word, names): (&[u8], _) = match what {
                    SectionWhat::Header => (b"HEADER", None),
                    SectionWhat::Text => (b"TEXT", None),
                    SectionWhat::Mime => (b"MIME", None),
                    SectionWhat::HeaderFields(names) => (b"HEADER.FIELDS", Some(names)),
                    SectionWhat::HeaderFieldsNot(names) => (b"HEADER.FIELDS.NOT", Some(names)),
                    SectionWhat::All => (b"", None),
                };
                out.extend_from_slice(word);
                names
            }
        };
        if let Some(names) = names {
            out.extend_from_slice(b" (");
            for (i, name) in names.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                // A field name is an atom but for these (RFC 5322 2.2): clients compare what they sent.
                if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
                    out.extend_from_slice(name.as_bytes());
                } else {
                    string(name.as_bytes(), false, out);
                }
            }
            out.push(b')');
        }
        out.push(b']');
        put_origin(origin, out);
    }
    /// `RFC822`, `RFC822.HEADER`, `RFC822.TEXT` (RFC 3501 7.4.2): the announcement; the caller sends the bytes behind it.
    pub fn rfc822_head(&mut self, name: &str, size_bytes: usize, out: &mut Vec<u8>) {
        self.name(name.as_bytes(), out);
        out.push(b' ');
        literal_head(size_bytes, out);
    }
    /// `BINARY[..]<origin>` with decoded bytes, a literal8 when they hold NUL (RFC 3516 4.3); NIL when the part does not exist.
    pub fn binary(&mut self, part: &[u32], origin: Option<u32>, bytes: Option<&[u8]>, out: &mut Vec<u8>) {
        self.name(b"BINARY[", out);
        part_numbers(part, out);
        out.push(b']');
        put_origin(origin, out);
        match bytes {
            Some(bytes) => binary(bytes, out),
            None => out.extend_from_slice(b"NIL"),
        }
    }
    /// `BINARY.SIZE[..] 20`
    pub fn binary_size(&mut self, part: &[u32], size_bytes: usize, out: &mut Vec<u8>) {
        self.name(b"BINARY.SIZE[", out);
        part_numbers(part, out);
        out.extend_from_slice(b"] ");
        number(out, size_bytes as u64);
    }
}

fn part_numbers(part: &[u32], out: &mut Vec<u8>) {
    for (i, n) in part.iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        number(out, u64::from(*n));
    }
}

fn put_origin(origin: Option<u32>, out: &mut Vec<u8>) {
    if let Some(origin) = origin {
        out.push(b'<');
        number(out, u64::from(origin));
        out.push(b'>');
    }
    out.push(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ast::{FetchItem, Request};

    #[test]
    fn small_items() {
        let (mut out, mut text) = (Vec::new(), FlagText::default());
        let keywords = vec!["work".to_owned()];
        let mut r = FetchResponse::begin(23, false, &mut out);
        r.flags(Flags::SEEN.with(Flags::keyword(0)), &keywords, &mut text, &mut out);
        r.uid(Uid(4_294_967_295), &mut out);
        r.size(44_827, &mut out);
        r.modseq(ModSeq(99), &mut out);
        r.internal_date(0, &mut out);
        r.end(&mut out);
        let mut r = FetchResponse::begin(24, false, &mut out);
        r.flags(Flags::default(), &keywords, &mut text, &mut out);
        r.preview("Grüße", &mut out);
        r.email_id(BodyId(4), &mut out);
        r.binary(&[1, 2], Some(3), Some(b"a\0"), &mut out);
        r.binary_size(&[2], 7, &mut out);
        r.end(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "* 23 FETCH (FLAGS (\\Seen work) UID 4294967295 RFC822.SIZE 44827 MODSEQ (99) INTERNALDATE \"01-Jan-1970 00:00:00 +0000\")\r\n\
             * 24 FETCH (FLAGS () PREVIEW {7}\r\nGrüße EMAILID (M4) BINARY[1.2]<3> ~{2}\r\na\0 BINARY.SIZE[2] 7)\r\n"
        );
    }

    #[test]
    fn a_section_is_named_as_the_client_asked() {
        for asked in
            ["BODY[]", "BODY[1.2.MIME]", "BODY[4.1.HEADER.FIELDS.NOT (Date X-Y)]", "BODY[TEXT]", "BODY[3]", "BODY[2.HEADER]"]
        {
            let command = crate::codec::parse::parse(format!("a FETCH 1 {asked}").as_bytes(), false).unwrap();
            let Request::Fetch(fetch) = command.request else { panic!() };
            let FetchItem::Section { section, .. } = &fetch.items[0] else { panic!() };
            let mut out = Vec::new();
            let mut r = FetchResponse::begin(1, false, &mut out);
            r.section(section, Some(5), Some(b"x"), &mut out);
            r.section(section, None, None, &mut out);
            r.end(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("* 1 FETCH ({asked}<5> {{1}}\r\nx {asked} NIL)\r\n"));
        }
    }
}
