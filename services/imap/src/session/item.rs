//! One FETCH response: each item of one message as bytes.
//!
//! Contract: a section that the message does not have is NIL; a large one goes out as a slice of the stored body, not copied.
//! A damaged message is shown as a short text that names the damage, in the place of whatever part is asked for: clients then
//! list it, open it and go on, where an error would stop many of them at this message for good.

use super::fetch::Wanted;
use super::out::{Out, Sink};
use crate::algorithm::ranges::put_u64;
use crate::backend::Refusal;
use crate::codec::ast::{FetchItem, Section, SectionWhat};
use crate::codec::respond::{self, FlagText};
use bytes::Bytes;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use twinpost_message::view::Entry;
use twinpost_message::{Parsed, PartBody, Section as Place, decode_part, header_fields};

/// What was read of a message.
#[derive(Default)]
pub(super) struct Facts {
    pub parsed: Option<Arc<Parsed>>,
    pub body: Option<Bytes>,
    /// The body is a replacement; why.
    pub damage: Option<String>,
}

/// A message to be shown.
pub(super) struct Shown<'a> {
    pub seq: u32,
    pub entry: &'a Entry,
    pub facts: &'a Facts,
    pub keywords: &'a [String],
}

/// The text that stands for a message whose record is damaged.
pub(super) fn damaged(entry: &Entry, parsed: Option<&Arc<Parsed>>, why: &Refusal) -> Facts {
    let line = |name: &str, value: Option<&String>| {
        let value: String = value?.chars().filter(|c| !c.is_control()).collect();
        Some(format!("{name}: {value}\r\n"))
    };
    let envelope = parsed.map(|p| &p.envelope);
    let subject = envelope.map_or_else(String::new, |e| e.subject_text.chars().filter(|c| !c.is_control()).collect());
    let mut text = format!("Subject: [damaged message] {subject}\r\n");
    text.extend(line("Date", envelope.and_then(|e| e.date.as_ref())));
    text.extend(line("Message-ID", envelope.and_then(|e| e.message_id.as_ref())));
    text.push_str("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
    text.push_str(&format!(
        "This message cannot be shown: its record on the server is damaged.\r\n\r\nFault: {why}\r\nMessage: UID {}, body {}, {} bytes\r\n\r\n\
         Your administrator can look at it with \"twinpost ctl store verify\".\r\n",
        entry.uid, entry.body, entry.size_bytes
    ));
    let body = Bytes::from(text);
    let parsed = parsed.map_or_else(|| Arc::new(Parsed::parse(&body)), Arc::clone);
    Facts { parsed: Some(parsed), body: Some(body), damage: Some(why.to_string()) }
}

/// Writes `* n FETCH (..)`. True: a part's encoding is not known. A command may name hundreds of items: what they make goes out
/// between them, so that one message costs no more than one item beyond a chunk.
pub(super) async fn write_message<S: Sink>(
    wanted: &Wanted,
    shown: &Shown<'_>,
    flags: &mut FlagText,
    out: &mut Out<'_, S>,
) -> io::Result<bool> {
    let Shown { seq, entry, facts, keywords } = *shown;
    if let Some(why) = &facts.damage {
        tracing::warn!(uid = %entry.uid, body = %entry.body, %why, "a damaged message was shown");
        // RFC 5530 3 CORRUPTION
        out.line(&format!("* NO [CORRUPTION] Message {seq} (UID {}) is damaged", entry.uid));
    }
    let mut unknown = false;
    out.buf.extend_from_slice(b"* ");
    put_u64(&mut out.buf, u64::from(seq));
    out.buf.extend_from_slice(b" FETCH (");
    for (i, item) in wanted.items.iter().enumerate() {
        if i > 0 {
            out.buf.push(b' ');
        }
        match item {
            // Most of a listing: kept short.
            FetchItem::Flags => {
                out.buf.extend_from_slice(b"FLAGS ");
                flags.write(entry.flags, keywords, &mut out.buf);
            }
            FetchItem::Uid => number(&mut out.buf, "UID ", u64::from(entry.uid.0)),
            item => {
                unknown |= write_item(item, entry, facts, wanted, out);
                out.relieve().await?;
            }
        }
    }
    if wanted.seen.contains(&entry.uid) {
        if !wanted.items.contains(&FetchItem::Flags) {
            out.buf.extend_from_slice(b" FLAGS ");
            flags.write(entry.flags, keywords, &mut out.buf);
        }
        // RFC 7162 3.1.4.2: whatever changed the flags, the client learns the new position with them.
        if wanted.modes.condstore && !wanted.items.contains(&FetchItem::ModSeq) {
            out.buf.extend_from_slice(b" MODSEQ (");
            put_u64(&mut out.buf, entry.modseq.0);
            out.buf.push(b')');
        }
    }
    out.buf.extend_from_slice(b")\r\n");
    out.relieve().await?;
    Ok(unknown)
}

fn write_item<S: Sink>(item: &FetchItem, entry: &Entry, facts: &Facts, wanted: &Wanted, out: &mut Out<'_, S>) -> bool {
    let utf8 = wanted.modes.utf8;
    let buf = &mut out.buf;
    match item {
        FetchItem::Flags | FetchItem::Uid => {}
        FetchItem::Rfc822Size => number(buf, "RFC822.SIZE ", u64::from(entry.size_bytes)),
        FetchItem::ModSeq => {
            number(buf, "MODSEQ (", entry.modseq.0);
            buf.push(b')');
        }
        FetchItem::InternalDate => {
            buf.extend_from_slice(b"INTERNALDATE ");
            respond::date_time(entry.received_s, buf);
        }
        FetchItem::SaveDate => {
            buf.extend_from_slice(b"SAVEDATE ");
            respond::date_time(entry.saved_s, buf);
        }
        FetchItem::EmailId => buf.extend_from_slice(format!("EMAILID ({})", respond::email_id(entry.body)).as_bytes()),
        FetchItem::ThreadId => match &facts.parsed {
            Some(parsed) => buf.extend_from_slice(format!("THREADID ({})", respond::thread_id(parsed.thread)).as_bytes()),
            None => buf.extend_from_slice(b"THREADID NIL"),
        },
        FetchItem::Envelope => {
            buf.extend_from_slice(b"ENVELOPE ");
            match &facts.parsed {
                Some(parsed) => respond::envelope(&parsed.envelope, utf8, buf),
                None => buf.extend_from_slice(b"NIL"),
            }
        }
        FetchItem::Body | FetchItem::BodyStructure => {
            let extended = *item == FetchItem::BodyStructure;
            buf.extend_from_slice(if extended { b"BODYSTRUCTURE " } else { b"BODY " });
            match &facts.parsed {
                Some(parsed) => respond::body_structure(&parsed.root, extended, utf8, buf),
                None => buf.extend_from_slice(b"NIL"),
            }
        }
        FetchItem::Preview { .. } => {
            // RFC 8970 3.2: LAZY need not wait; it was made at arrival.
            buf.extend_from_slice(b"PREVIEW ");
            match &facts.parsed {
                Some(parsed) => respond::preview(&parsed.preview, buf),
                None => buf.extend_from_slice(b"NIL"),
            }
        }
        FetchItem::Section { section, partial, .. } => {
            respond::section_label(section, *partial, buf);
            buf.push(b' ');
            literal(cut(section_bytes(section, facts), *partial), false, out);
        }
        FetchItem::Rfc822 => named(b"RFC822 ", SectionWhat::All, facts, out),
        FetchItem::Rfc822Header => named(b"RFC822.HEADER ", SectionWhat::Header, facts, out),
        FetchItem::Rfc822Text => named(b"RFC822.TEXT ", SectionWhat::Text, facts, out),
        FetchItem::Binary { part, partial, .. } => {
            respond::binary_label("BINARY", part, *partial, buf);
            buf.push(b' ');
            let decoded = binary(part, facts);
            let unknown = decoded.is_err();
            literal(cut(decoded.unwrap_or_default(), *partial), true, out);
            return unknown;
        }
        FetchItem::BinarySize(part) => {
            respond::binary_label("BINARY.SIZE", part, None, buf);
            buf.push(b' ');
            let decoded = binary(part, facts);
            let unknown = decoded.is_err();
            put_u64(buf, decoded.ok().flatten().map_or(0, |b| b.len() as u64));
            return unknown;
        }
    }
    false
}

fn number(buf: &mut Vec<u8>, name: &str, n: u64) {
    buf.extend_from_slice(name.as_bytes());
    put_u64(buf, n);
}

fn named<S: Sink>(name: &[u8], what: SectionWhat, facts: &Facts, out: &mut Out<'_, S>) {
    out.buf.extend_from_slice(name);
    literal(section_bytes(&Section { part: Vec::new(), what }, facts), false, out);
}

/// A literal, or NIL; with `binary` a literal8 where NUL is inside (RFC 3516 4.2: `~{n}`).
fn literal<S: Sink>(bytes: Option<Bytes>, binary: bool, out: &mut Out<'_, S>) {
    let Some(bytes) = bytes else {
        out.buf.extend_from_slice(b"NIL");
        return;
    };
    if binary && memchr::memchr(0, &bytes).is_some() {
        out.buf.push(b'~');
    }
    out.buf.push(b'{');
    put_u64(&mut out.buf, bytes.len() as u64);
    out.buf.extend_from_slice(b"}\r\n");
    out.bytes(bytes);
}

/// RFC 9051 6.4.5: `<first.count>`; beyond the end is the empty string.
fn cut(bytes: Option<Bytes>, partial: Option<(u32, u32)>) -> Option<Bytes> {
    let (Some(bytes), Some((first, count))) = (&bytes, partial) else { return bytes };
    let from = (first as usize).min(bytes.len());
    let to = from.saturating_add(count as usize).min(bytes.len());
    Some(bytes.slice(from..to))
}

fn section_bytes(section: &Section, facts: &Facts) -> Option<Bytes> {
    let (parsed, body) = (facts.parsed.as_ref()?, facts.body.as_ref()?);
    if facts.damage.is_some() {
        return Some(replacement(section, body));
    }
    if section.part.is_empty() && section.what == SectionWhat::All {
        return Some(body.clone());
    }
    let (place, fields) = match &section.what {
        SectionWhat::All => (Place::Whole, None),
        SectionWhat::Header => (Place::Header, None),
        SectionWhat::Text => (Place::Text, None),
        SectionWhat::Mime => (Place::Mime, None),
        SectionWhat::HeaderFields(names) => (Place::Header, Some((names, false))),
        SectionWhat::HeaderFieldsNot(names) => (Place::Header, Some((names, true))),
    };
    let range = parsed.section(&section.part, place)?;
    if range.start > range.end || range.end > body.len() {
        return None;
    }
    let bytes = body.slice(range);
    Some(match fields {
        Some((names, not)) => Bytes::from(header_fields(&bytes, names, not)),
        None => bytes,
    })
}

/// Of a replacement: its header where a header is asked for, else its text; all of it for `BODY[]`.
fn replacement(section: &Section, body: &Bytes) -> Bytes {
    let split = memchr::memmem::find(body, b"\r\n\r\n").map_or(body.len(), |i| i + 4);
    match &section.what {
        SectionWhat::All if section.part.is_empty() => body.clone(),
        SectionWhat::All | SectionWhat::Text => body.slice(split..),
        SectionWhat::Header | SectionWhat::Mime => body.slice(..split),
        SectionWhat::HeaderFields(names) => Bytes::from(header_fields(&body[..split], names, false)),
        SectionWhat::HeaderFieldsNot(names) => Bytes::from(header_fields(&body[..split], names, true)),
    }
}

/// The decoded bytes of a part (RFC 3516 4.2); of a message or multipart the bytes as they are. `Err`: encoding not known.
fn binary(part: &[u32], facts: &Facts) -> Result<Option<Bytes>, ()> {
    let (Some(parsed), Some(body)) = (&facts.parsed, &facts.body) else { return Ok(None) };
    if facts.damage.is_some() {
        return Ok(Some(replacement(&Section { part: part.to_vec(), what: SectionWhat::All }, body)));
    }
    if part.is_empty() {
        return Ok(Some(body.clone()));
    }
    let Some(found) = parsed.part(part) else { return Ok(None) };
    let raw = || section_bytes(&Section { part: part.to_vec(), what: SectionWhat::All }, facts);
    if !matches!(found.body, PartBody::Leaf) {
        return Ok(raw());
    }
    match decode_part(body, found) {
        Ok(Cow::Borrowed(_)) => Ok(raw()),
        Ok(Cow::Owned(bytes)) => Ok(Some(Bytes::from(bytes))),
        Err(_) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ast::Request;
    use crate::session::Modes;
    use std::collections::HashSet;
    use twinpost_message::{BodyId, Flags, ModSeq, Uid};

    /// A client that takes all that is flushed; what was held for it at most.
    #[derive(Default)]
    struct Held {
        now: Vec<Bytes>,
        most_bytes: usize,
        sent: Vec<u8>,
    }

    impl Sink for Held {
        fn queue(&mut self, bytes: Bytes) {
            self.now.push(bytes);
            self.most_bytes = self.most_bytes.max(self.queued_bytes());
        }
        fn queued_bytes(&self) -> usize {
            self.now.iter().map(Bytes::len).sum()
        }
        async fn flush(&mut self) -> io::Result<()> {
            for bytes in self.now.drain(..) {
                self.sent.extend_from_slice(&bytes);
            }
            Ok(())
        }
    }

    const CHUNK_BYTES: usize = 32 * 1024;

    async fn shown(items: &str, body: &Bytes) -> Held {
        let command = crate::codec::parse::parse(format!("a FETCH 1 ({items})\r\n").as_bytes(), false).unwrap();
        let Request::Fetch(fetch) = command.request else { panic!("not a FETCH") };
        let facts = Facts { parsed: Some(Arc::new(Parsed::parse(body))), body: Some(body.clone()), damage: None };
        let size_bytes = u32::try_from(body.len()).unwrap();
        let entry = Entry {
            uid: Uid(1),
            flags: Flags::default(),
            modseq: ModSeq(1),
            body: BodyId(1),
            size_bytes,
            received_s: 0,
            saved_s: 0,
        };
        let wanted = Wanted { items: fetch.items, seen: HashSet::new(), modes: Modes::default() };
        let mut held = Held::default();
        let mut out = Out::new(&mut held, CHUNK_BYTES);
        let message = Shown { seq: 1, entry: &entry, facts: &facts, keywords: &[] };
        write_message(&wanted, &message, &mut FlagText::default(), &mut out).await.unwrap();
        out.flush().await.unwrap();
        held
    }

    #[tokio::test]
    async fn hundreds_of_items_of_one_message_are_not_held_together() {
        let encoded = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=".repeat(1000);
        let body = Bytes::from(format!("Subject: {}\r\nContent-Transfer-Encoding: base64\r\n\r\n{encoded}", "s".repeat(900)));
        let envelopes = shown(&["ENVELOPE"; 250].join(" "), &body).await;
        assert!(envelopes.sent.len() > 225_000);
        assert!(envelopes.most_bytes < 2 * CHUNK_BYTES, "{} bytes", envelopes.most_bytes);
        // Each is a decoded copy of its own.
        let parts: Vec<String> = (0..250).map(|n| format!("BINARY.PEEK[1]<{n}.20000>")).collect();
        let parts = shown(&parts.join(" "), &body).await;
        assert!(parts.sent.len() > 250 * 20_000);
        assert!(parts.most_bytes < 3 * CHUNK_BYTES, "{} bytes", parts.most_bytes);
    }

    #[tokio::test]
    async fn a_small_slice_does_not_keep_a_large_body() {
        let body = Bytes::from(format!("Subject: {}\r\n\r\n{}", "s".repeat(4000), "text ".repeat(100_000)));
        let within = |held: &Held| {
            let all = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
            held.now.iter().filter(|b| all.contains(&(b.as_ptr() as usize))).count()
        };
        for (section, kept) in [(SectionWhat::Header, 0), (SectionWhat::All, 1)] {
            let facts = Facts { parsed: Some(Arc::new(Parsed::parse(&body))), body: Some(body.clone()), damage: None };
            let mut held = Held::default();
            let mut out = Out::new(&mut held, CHUNK_BYTES);
            named(b"X ", section, &facts, &mut out);
            out.finish();
            assert_eq!(within(&held), kept, "a large section goes out without a copy, a small one as a copy");
        }
    }
}
