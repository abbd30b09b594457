//! Envelope and MIME structure of a message in one pass over its lines (RFC 5322, 2045, 2046).
//!
//! Contract: [`Parsed::parse`] takes any bytes, never fails and never panics. Work is bounded: each line is looked at once for a
//! header end or a boundary; nesting, number of parts, fields of a header and length of a value have limits. Bodies are not
//! decoded here, but for the first words of the text (the preview).
//!
//! A scanner of our own and not a parser crate: those decode every body as they go, which costs more than all the rest of
//! taking a message in, and they do not keep header values as they were written, which ENVELOPE wants.

use crate::header::{Field, fields, raw_text};
use crate::section::Section;
use crate::{Addr, ContentDisposition, Envelope, Parsed, Part, PartBody, addresses, date, params, preview, subject, words};
use memchr::{memchr, memchr_iter};

/// Deepest nesting of parts; what is deeper stays a leaf.
const DEPTH_MAX: usize = 50;
/// Most parts of one message; the bytes of others stay in the message, but they have no number.
const PARTS_MAX: usize = 1000;
/// Most fields of one header that are looked at.
const FIELDS_MAX: usize = 2000;
/// Most ids that are kept of References: the oldest one (it names the thread) and the newest.
const REFERENCES_MAX: usize = 100;
/// Longest message id that is kept.
const ID_MAX_BYTES: usize = 998;

impl Parsed {
    /// Parses a message. Offsets beyond 4 GiB do not occur: the size limit of a message is far below.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(u32::MAX as usize)];
        let mut scan = Scan { bytes, boundaries: Boundaries::default(), parts: 0 };
        let (root, header, _) = scan.entity(0, Default::default(), 0);
        let charset = root.param("charset").map(str::to_owned);
        let envelope = header.envelope(charset.as_deref());
        let id = envelope.message_id.as_deref().and_then(|text| ids(text).next());
        let references = header.references(&envelope);
        let (base_subject, is_reply) = subject::base(&envelope.subject_text);
        let sent = envelope.date.as_deref().and_then(date::parse);
        let thread = thread(references.first().or(id.as_ref()).map_or(bytes, String::as_bytes));
        let preview = preview::of(bytes, &root);
        Self {
            preview,
            thread,
            id,
            references,
            base_subject,
            is_reply,
            sent_s: sent.map(|(at, _)| at),
            sent_zone_min: sent.map_or(0, |(_, zone)| zone),
            has_attachment: has_attachment(&root, false),
            envelope,
            root,
        }
    }
}

/// 63 bits, so that SQL keeps it in a signed column.
fn thread(name: &[u8]) -> u64 {
    let hash = blake3::hash(name);
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(first) >> 1
}

/// A file that the sender attached: said so, or named and no part of how the text looks (an inline picture of HTML).
fn has_attachment(part: &Part, in_related: bool) -> bool {
    match &part.body {
        PartBody::Multipart(parts) => parts.iter().any(|p| has_attachment(p, in_related || part.subtype == "related")),
        PartBody::Message(_) => true,
        PartBody::Leaf => part.is_attachment() || (part.kind != "text" && part.file_name().is_some() && !in_related),
    }
}

/// Message ids in angle brackets, bare, quoting undone (RFC 5256 3: `<"a"@b>` and `<a@b>` are one).
fn ids(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let open = rest.find('<')?;
            rest = &rest[open + 1..];
            let close = rest.find(['>', '<'])?;
            let inner = &rest[..close];
            if rest[close..].starts_with('<') {
                rest = &rest[close..];
                continue;
            }
            rest = &rest[close + 1..];
            let id: String = inner.chars().filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\\')).collect();
            if !id.is_empty() && id.len() <= ID_MAX_BYTES {
                return Some(id);
            }
        }
    })
}

/// Where a part ended.
#[derive(Clone, Copy)]
enum Stop {
    /// The message ended.
    End,
    /// A boundary line, of the multipart at this level of the stack.
    Boundary { level: usize, close: bool, line: usize, next: usize },
}

/// Raw values of the fields that matter; the first of each name counts.
#[derive(Default)]
struct Header<'a> {
    date: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    from: Option<&'a [u8]>,
    sender: Option<&'a [u8]>,
    reply_to: Option<&'a [u8]>,
    to: Option<&'a [u8]>,
    cc: Option<&'a [u8]>,
    bcc: Option<&'a [u8]>,
    in_reply_to: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    references: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    content_id: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    md5: Option<&'a [u8]>,
    disposition: Option<&'a [u8]>,
    language: Option<&'a [u8]>,
    location: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Self {
        let mut header = Self::default();
        for field in fields(bytes).take(FIELDS_MAX) {
            header.take(&field);
        }
        header
    }

    fn take(&mut self, field: &Field<'a>) {
        let mut lower = [0u8; 25];
        let Some(name) = lower.get_mut(..field.name.len()) else { return };
        name.copy_from_slice(field.name);
        name.make_ascii_lowercase();
        let slot = match &*name {
            b"date" => &mut self.date,
            b"subject" => &mut self.subject,
            b"from" => &mut self.from,
            b"sender" => &mut self.sender,
            b"reply-to" => &mut self.reply_to,
            b"to" => &mut self.to,
            b"cc" => &mut self.cc,
            b"bcc" => &mut self.bcc,
            b"in-reply-to" => &mut self.in_reply_to,
            b"message-id" => &mut self.message_id,
            b"references" => &mut self.references,
            b"content-type" => &mut self.kind,
            b"content-transfer-encoding" => &mut self.encoding,
            b"content-id" => &mut self.content_id,
            b"content-description" => &mut self.description,
            b"content-md5" => &mut self.md5,
            b"content-disposition" => &mut self.disposition,
            b"content-language" => &mut self.language,
            b"content-location" => &mut self.location,
            _ => return,
        };
        slot.get_or_insert(field.raw);
    }

    /// RFC 9051 7.5.2
    fn envelope(&self, charset: Option<&str>) -> Envelope {
        let text = |raw: Option<&[u8]>| raw.map(|raw| raw_text(raw, charset));
        let list =
            |raw: Option<&[u8]>| -> Vec<Addr> { raw.map_or_else(Vec::new, |raw| addresses::parse_list(&raw_text(raw, charset))) };
        let subject = text(self.subject);
        let from = list(self.from);
        // RFC 9051 7.5.2: absent or empty Sender and Reply-To are the From addresses.
        let or_from = |addrs: Vec<Addr>| if addrs.is_empty() { from.clone() } else { addrs };
        Envelope {
            date: text(self.date),
            subject_text: subject.as_deref().map_or_else(String::new, |raw| words::decode(raw).into_owned()),
            subject,
            sender: or_from(list(self.sender)),
            reply_to: or_from(list(self.reply_to)),
            to: list(self.to),
            cc: list(self.cc),
            bcc: list(self.bcc),
            in_reply_to: text(self.in_reply_to),
            message_id: text(self.message_id),
            from,
        }
    }

    /// RFC 5256 3: References, else the first id of In-Reply-To.
    fn references(&self, envelope: &Envelope) -> Vec<String> {
        let mut list: Vec<String> = self.references.map_or_else(Vec::new, |raw| ids(&raw_text(raw, None)).collect());
        if list.len() > REFERENCES_MAX {
            list.drain(1..=list.len() - REFERENCES_MAX);
        }
        if list.is_empty() {
            list.extend(envelope.in_reply_to.as_deref().and_then(|text| ids(text).next()));
        }
        list
    }
}

/// What a part is when it does not say (RFC 2045 5.2, RFC 2046 5.1.5).
#[derive(Clone, Copy, Default)]
enum Unsaid {
    #[default]
    Text,
    Message,
}

/// The boundaries that end or part what is being read, outermost first. Sorted too: a message of dashes, nested deeply, must
/// not cost a comparison with each of them on every line.
#[derive(Default)]
struct Boundaries {
    stack: Vec<Vec<u8>>,
    /// Levels of the stack in the order of their bytes, and of their level among equal ones.
    sorted: Vec<usize>,
}

impl Boundaries {
    fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    /// Opens a level, and says which.
    fn push(&mut self, boundary: Vec<u8>) -> usize {
        let level = self.stack.len();
        let at = self.sorted.partition_point(|l| self.stack[*l] <= boundary);
        self.sorted.insert(at, level);
        self.stack.push(boundary);
        level
    }

    /// Closes this level and those inside.
    fn close(&mut self, level: usize) {
        self.stack.truncate(level);
        self.sorted.retain(|l| *l < level);
    }

    /// Level and length of the longest boundary that `text` begins with; among equal ones the innermost.
    fn longest_in(&self, text: &[u8]) -> Option<(usize, usize)> {
        let (mut below, mut within) = (self.sorted.as_slice(), text);
        loop {
            below = &below[..below.partition_point(|l| self.stack[*l].as_slice() <= within)];
            let level = *below.last()?;
            let boundary = &self.stack[level];
            if within.starts_with(boundary) {
                return Some((level, boundary.len()));
            }
            // It is below the text and no beginning of it, so it is smaller at the first byte that differs; a beginning of
            // the text that lies below it ends before that byte.
            let common = boundary.iter().zip(within).take_while(|(a, b)| a == b).count();
            within = &within[..common];
        }
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    /// Boundaries of the multiparts that are open.
    boundaries: Boundaries,
    parts: usize,
}

impl<'a> Scan<'a> {
    /// The entity (header and body) that begins at `start`.
    fn entity(&mut self, start: usize, unsaid: Unsaid, depth: usize) -> (Part, Header<'a>, Stop) {
        self.parts += 1;
        let (body_start, stopped) = self.header_end(start);
        let header = Header::read(&self.bytes[start..body_start]);
        let mut part = part(&header, unsaid);
        part.header_start = offset(start);
        part.body_start = offset(body_start);
        let (body, stop) = match stopped {
            Some(stop) => (PartBody::Leaf, stop),
            None => self.body(&mut part, body_start, depth),
        };
        let body_end = self.end_of(stop, body_start);
        part.body_end = offset(body_end);
        part.body = body;
        if matches!(part.body, PartBody::Leaf) {
            shown_as_leaf(&mut part);
        }
        if part.kind == "text" || matches!(part.body, PartBody::Message(_)) {
            part.lines = offset(memchr_iter(b'\n', &self.bytes[body_start..body_end]).count());
        }
        (part, header, stop)
    }

    fn body(&mut self, part: &mut Part, start: usize, depth: usize) -> (PartBody, Stop) {
        let room = depth < DEPTH_MAX && self.parts < PARTS_MAX;
        let plain = matches!(part.encoding.as_str(), "7bit" | "8bit" | "binary");
        if part.kind == "multipart" && room {
            let boundary = part.param("boundary").unwrap_or_default().trim_end();
            // RFC 2046 5.1.1 allows 70 characters; be kind, with a limit.
            if !boundary.is_empty() && boundary.len() <= 255 {
                let unsaid = if part.subtype == "digest" { Unsaid::Message } else { Unsaid::Text };
                let (parts, stop) = self.multipart(boundary.as_bytes().to_vec(), start, unsaid, depth);
                let body = if parts.is_empty() { PartBody::Leaf } else { PartBody::Multipart(parts) };
                return (body, stop);
            }
        }
        // RFC 2046 5.2.1: no encoding but 7bit, 8bit, binary. `message/global` (RFC 6532 3.7) may be encoded; then it is a file.
        if part.kind == "message" && matches!(part.subtype.as_str(), "rfc822" | "global") && room && plain {
            let (inner, header, stop) = self.entity(start, Unsaid::Text, depth + 1);
            let envelope = header.envelope(inner.param("charset"));
            return (PartBody::Message(Box::new((envelope, inner))), stop);
        }
        (PartBody::Leaf, self.boundary_from(start))
    }

    fn multipart(&mut self, boundary: Vec<u8>, start: usize, unsaid: Unsaid, depth: usize) -> (Vec<Part>, Stop) {
        let own = self.boundaries.push(boundary);
        let mut parts = Vec::new();
        let mut stop = self.boundary_from(start); // the preamble
        loop {
            match stop {
                Stop::Boundary { level, close: false, next, .. } if level == own => {
                    stop = if self.parts < PARTS_MAX {
                        let (part, _, stop) = self.entity(next, unsaid, depth + 1);
                        parts.push(part);
                        stop
                    } else {
                        self.boundary_from(next)
                    };
                }
                Stop::Boundary { level, close: true, next, .. } if level == own => {
                    self.boundaries.close(own);
                    stop = self.boundary_from(next); // the epilogue
                    break;
                }
                // RFC 2046 5.1.2: an outer boundary ends the inner parts, their own end missing.
                _ => break,
            }
        }
        self.boundaries.close(own);
        (parts, stop)
    }

    /// Where the body begins: behind the first empty line. Without one the header ends with its part.
    fn header_end(&self, start: usize) -> (usize, Option<Stop>) {
        let mut line = start;
        loop {
            if let Some(stop) = self.boundary_at(line) {
                return (self.end_of(stop, start), Some(stop));
            }
            match self.bytes.get(line..) {
                Some([b'\n', ..]) => return (line + 1, None),
                Some([b'\r', b'\n', ..]) => return (line + 2, None),
                _ => {}
            }
            match memchr(b'\n', &self.bytes[line..]) {
                Some(n) => line += n + 1,
                None => return (self.bytes.len(), Some(Stop::End)),
            }
        }
    }

    /// The next boundary line at `start` (a line's first byte) or behind.
    fn boundary_from(&self, start: usize) -> Stop {
        if self.boundaries.is_empty() {
            return Stop::End;
        }
        if let Some(stop) = self.boundary_at(start) {
            return stop;
        }
        memchr_iter(b'\n', &self.bytes[start..]).find_map(|n| self.boundary_at(start + n + 1)).unwrap_or(Stop::End)
    }

    /// The line here is a boundary of an open multipart. RFC 2046 5.1.1 compares the beginning of the line only; among several
    /// (one a prefix of another) the longest is meant.
    fn boundary_at(&self, line: usize) -> Option<Stop> {
        let rest = self.bytes.get(line..)?.strip_prefix(b"--")?;
        let (level, len) = self.boundaries.longest_in(rest)?;
        let close = rest[len..].starts_with(b"--");
        let next = memchr(b'\n', rest).map_or(self.bytes.len(), |n| line + 2 + n + 1);
        Some(Stop::Boundary { level, close, line, next })
    }

    /// Where a body ends that stopped so: the line break before a boundary belongs to the boundary (RFC 2046 5.1.1).
    fn end_of(&self, stop: Stop, body_start: usize) -> usize {
        let Stop::Boundary { line, .. } = stop else { return self.bytes.len() };
        let before = &self.bytes[..line];
        let before = before.strip_suffix(b"\n").unwrap_or(before);
        let before = if before.len() < line { before.strip_suffix(b"\r").unwrap_or(before) } else { before };
        before.len().max(body_start)
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX) // `Parsed::parse` cuts at u32::MAX
}

/// A multipart or message that is not opened must not be named so: see [`PartBody`].
fn shown_as_leaf(part: &mut Part) {
    if part.kind == "multipart" {
        (part.kind, part.subtype) = ("text".into(), "plain".into());
        part.params.retain(|(name, _)| name == "charset");
    } else if part.kind == "message" && matches!(part.subtype.as_str(), "rfc822" | "global") {
        (part.kind, part.subtype) = ("application".into(), "octet-stream".into());
    }
}

/// The MIME fields of a header. Values of a broken Content-Type count as absent (RFC 2045 5.2).
fn part(header: &Header<'_>, unsaid: Unsaid) -> Part {
    let text = |raw: Option<&[u8]>| raw.map(|raw| raw_text(raw, None));
    let mut part = Part {
        content_id: text(header.content_id),
        description: text(header.description),
        md5: text(header.md5),
        location: text(header.location),
        language: text(header.language).map_or_else(Vec::new, |tags| {
            tags.split(',').map(str::trim).filter(|t| !t.is_empty()).take(32).map(str::to_owned).collect()
        }),
        disposition: text(header.disposition).and_then(|text| {
            let (kind, params) = params::value_and_params(&text);
            (!kind.is_empty()).then_some(ContentDisposition { kind, params })
        }),
        encoding: text(header.encoding).map_or_else(|| "7bit".to_owned(), |text| params::value_and_params(&text).0),
        ..Part::default()
    };
    // Names that mailers write for the plain ones; a client shown them could not decode the part.
    part.encoding = match part.encoding.as_str() {
        "" | "7-bit" | "7bits" | "none" => "7bit".to_owned(),
        "8-bit" | "8bits" => "8bit".to_owned(),
        _ => part.encoding,
    };
    if let Some(text) = text(header.kind) {
        let (value, params) = params::value_and_params(&text);
        if let Some((kind, subtype)) = value.split_once('/')
            && [kind.trim(), subtype.trim()].iter().all(|t| !t.is_empty() && t.bytes().all(is_token))
        {
            (part.kind, part.subtype, part.params) = (kind.trim().to_owned(), subtype.trim().to_owned(), params);
            return part;
        }
    }
    match unsaid {
        Unsaid::Message => (part.kind, part.subtype) = ("message".into(), "rfc822".into()),
        Unsaid::Text => {
            (part.kind, part.subtype) = ("text".into(), "plain".into());
            // RFC 2045 5.2
            part.params.push(("charset".into(), "us-ascii".into()));
        }
    }
    part
}

/// RFC 2045 5.1
fn is_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

/// Length of the header of a message, its empty line included; the whole length when there is none.
#[must_use]
pub fn header_len(bytes: &[u8]) -> usize {
    Scan { bytes, boundaries: Boundaries::default(), parts: 0 }.header_end(0).0
}

/// Entry point for random input: every offset lies where [`Part`] says.
///
/// # Panics
/// When a rule of [`Part`] is broken: that is what it looks for.
pub fn fuzz(data: &[u8]) {
    let parsed = Parsed::parse(data);
    assert_eq!(parsed.root.header_start, 0);
    assert_eq!(parsed.root.body_end as usize, data.len());
    check(&parsed.root);
    assert!(parsed.preview.chars().count() <= 200);
    numbers(&parsed, data, &mut Vec::new());
    assert_eq!(Parsed::from_bytes(&parsed.to_bytes()), Some(parsed));
}

/// Every part has its number, and its sections lie in the message.
fn numbers(parsed: &Parsed, data: &[u8], path: &mut Vec<u32>) {
    for section in [Section::Whole, Section::Header, Section::Text, Section::Mime] {
        if let Some(range) = parsed.section(path, section) {
            assert!(data.get(range).is_some(), "{path:?} {section:?}");
        }
    }
    path.push(0);
    assert!(parsed.node(path).is_none());
    for number in 1.. {
        if let Some(last) = path.last_mut() {
            *last = number;
        }
        if parsed.node(path).is_none() {
            break;
        }
        numbers(parsed, data, path);
    }
    path.pop();
}

fn check(part: &Part) {
    assert!(part.header_start <= part.body_start && part.body_start <= part.body_end, "{part:?}");
    let inside = |inner: &Part| {
        assert!(part.body_start <= inner.header_start && inner.body_end <= part.body_end, "{part:?}");
        check(inner);
    };
    match &part.body {
        PartBody::Leaf => assert!(part.kind != "multipart"),
        PartBody::Message(inner) => {
            inside(&inner.1);
            assert_eq!((inner.1.header_start, inner.1.body_end), (part.body_start, part.body_end));
        }
        PartBody::Multipart(parts) => {
            assert!(!parts.is_empty());
            parts.iter().for_each(inside);
            assert!(parts.windows(2).all(|two| two[0].body_end <= two[1].header_start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_longest_boundary_is_found(
            boundaries in prop::collection::vec("[ab]{1,4}", 0..8),
            closed in prop::option::of(0usize..8),
            text in "[abc]{0,6}",
        ) {
            let mut stack = Boundaries::default();
            boundaries.iter().for_each(|b| { stack.push(b.clone().into_bytes()); });
            let open = closed.map_or(boundaries.len(), |level| level.min(boundaries.len()));
            stack.close(open);
            let want = boundaries[..open].iter().enumerate().filter(|(_, b)| text.starts_with(*b)).map(|(level, b)| (b.len(), level)).max();
            prop_assert_eq!(stack.longest_in(text.as_bytes()), want.map(|(len, level)| (level, len)));
        }

        #[test]
        fn any_bytes(data: Vec<u8>) { fuzz(&data); }

        #[test]
        fn mail_shaped_bytes(data in "((Content-Type: (multipart/mixed|multipart/digest|message/rfc822|text/plain)(; boundary=[ab]{1,2})?|Subject: =\\?gbk\\?b\\?1tC5|References: <a@b> <c|Date: Mon, 1 Jan 2024|From: a <b|Content-Transfer-Encoding: (base64|8bit)|--[ab]{1,2}(--)?| x|中)?\r?\n|\r?\n){0,40}") {
            fuzz(data.as_bytes());
        }
    }
}
