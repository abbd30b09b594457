//! Parts of FETCH responses (RFC 9051 7.5.2 and extensions) that are more than a name and a number.

use super::{flags, number, string};
use crate::codec::ast::{Section, SectionWhat};
use twinpost_message::Flags;

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

/// `BODY[1.HEADER.FIELDS (DATE)]<0>`: how the answer names a section; of a partial fetch only the first byte is named. The
/// literal follows.
pub fn section_label(section: &Section, partial: Option<(u32, u32)>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"BODY[");
    part_numbers(&section.part, out);
    let (word, names): (&[u8], Option<&[String]>) = match &section.what {
        SectionWhat::All => (b"", None),
        SectionWhat::Header => (b"HEADER", None),
        SectionWhat::Text => (b"TEXT", None),
        SectionWhat::Mime => (b"MIME", None),
        SectionWhat::HeaderFields(names) => (b"HEADER.FIELDS", Some(names)),
        SectionWhat::HeaderFieldsNot(names) => (b"HEADER.FIELDS.NOT", Some(names)),
    };
    if !section.part.is_empty() && !word.is_empty() {
        out.push(b'.');
    }
    out.extend_from_slice(word);
    if let Some(names) = names {
        out.extend_from_slice(b" (");
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            // A field name is an atom but for some characters (RFC 5322 2.2): clients compare with what they sent.
            if name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
                out.extend_from_slice(name.as_bytes());
            } else {
                string(name.as_bytes(), false, out);
            }
        }
        out.push(b')');
    }
    out.push(b']');
    origin(partial, out);
}

/// `BINARY[1.2]<0>` and, with the name `BINARY.SIZE`, `BINARY.SIZE[1.2]` (RFC 3516 4.3).
pub fn binary_label(name: &str, part: &[u32], partial: Option<(u32, u32)>, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.push(b'[');
    part_numbers(part, out);
    out.push(b']');
    origin(partial, out);
}

/// The value of PREVIEW (RFC 8970 4): text in UTF-8 whatever was enabled, so beyond ASCII it is a literal.
pub fn preview(text: &str, out: &mut Vec<u8>) {
    string(text.as_bytes(), false, out);
}

fn part_numbers(part: &[u32], out: &mut Vec<u8>) {
    for (i, n) in part.iter().enumerate() {
        if i > 0 {
            out.push(b'.');
        }
        number(out, u64::from(*n));
    }
}

fn origin(partial: Option<(u32, u32)>, out: &mut Vec<u8>) {
    if let Some((first, _)) = partial {
        out.push(b'<');
        number(out, u64::from(first));
        out.push(b'>');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ast::{FetchItem, Request};

    #[test]
    fn small_parts() {
        let (mut out, mut text) = (Vec::new(), FlagText::default());
        let keywords = vec!["work".to_owned()];
        for f in [Flags::SEEN.with(Flags::keyword(0)), Flags::SEEN.with(Flags::keyword(0)), Flags::default()] {
            text.write(f, &keywords, &mut out);
        }
        preview("Grüße", &mut out);
        preview("Hi", &mut out);
        binary_label("BINARY", &[1, 2], Some((3, 9)), &mut out);
        binary_label("BINARY.SIZE", &[2], None, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "(\\Seen work)(\\Seen work)(){7}\r\nGrüße\"Hi\"BINARY[1.2]<3>BINARY.SIZE[2]");
    }

    #[test]
    fn a_section_is_named_as_the_client_asked() {
        for asked in [
            "BODY[]",
            "BODY[1.2.MIME]",
            "BODY[4.1.HEADER.FIELDS.NOT (Date X-Y)]<5>",
            "BODY[TEXT]",
            "BODY[3]<0>",
            "BODY[2.HEADER]",
            "BODY[HEADER.FIELDS (\"a(b\")]",
        ] {
            let command = format!("a FETCH 1 {}", asked.replace('>', ".7>"));
            let command = crate::codec::parse::parse(command.as_bytes(), false).unwrap();
            let Request::Fetch(fetch) = command.request else { panic!() };
            let FetchItem::Section { section, partial, .. } = &fetch.items[0] else { panic!() };
            let mut out = Vec::new();
            section_label(section, *partial, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), asked);
        }
    }
}
