//! SEARCH over one mailbox (RFC 9051 6.4.4): what a program says of a message from as little as is known of it.
//!
//! Contract: [`Program::decide`] answers yes, no, or "not with what you gave me". The session asks three times at most: with
//! the entries of the list alone, then with what was parsed at arrival for those that are left, then with the body bytes. Two
//! answers with different knowledge never contradict each other, but where the full-text index and the message differ. With
//! the body it always answers. Pure: `now_s` comes from the caller.
//!
//! Failure classes: none; a message whose body is damaged is whatever the caller gives for it.

use crate::algorithm::ranges::Ranges;
use crate::backend::{TextField, TextHits};
use crate::codec::ast::{AddressField, DateField, SearchKey};
use crate::codec::respond::{email_id, thread_id};
use std::cell::OnceCell;
use std::fmt::Write as _;
use twinpost_message::search_text::search_text_within;
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{Addr, Envelope, Flags, Mailbox, Needle, Parsed, header, words};

const DAY_S: i64 = 86_400;
/// Bytes of decoded text of one message that a scan looks at: beyond every size that SMTP takes.
const SCAN_MAX_BYTES: usize = 256 * 1024 * 1024;

/// What is known of one message.
#[derive(Debug)]
pub struct Facts<'a> {
    seq: u32,
    entry: &'a Entry,
    parsed: Option<&'a Parsed>,
    body: Option<&'a [u8]>,
    texts: OnceCell<Texts>,
}

/// Folded texts of a body, made once however many keys look at them.
#[derive(Debug)]
struct Texts {
    headers: String,
    body: String,
}

impl<'a> Facts<'a> {
    /// The entry of the list, with its sequence number.
    #[must_use]
    pub fn listed(seq: u32, entry: &'a Entry) -> Self {
        Self { seq, entry, parsed: None, body: None, texts: OnceCell::new() }
    }
    /// And what was parsed at arrival.
    #[must_use]
    pub fn parsed(seq: u32, entry: &'a Entry, parsed: &'a Parsed) -> Self {
        Self { parsed: Some(parsed), ..Self::listed(seq, entry) }
    }
    /// And the plain bytes.
    #[must_use]
    pub fn whole(seq: u32, entry: &'a Entry, parsed: &'a Parsed, body: &'a [u8]) -> Self {
        Self { body: Some(body), ..Self::parsed(seq, entry, parsed) }
    }

    fn texts(&self) -> Option<&Texts> {
        let (parsed, body) = (self.parsed?, self.body?);
        Some(self.texts.get_or_init(|| {
            let text = search_text_within(body, parsed, SCAN_MAX_BYTES, SCAN_MAX_BYTES);
            Texts { headers: twinpost_message::fold(&text.headers), body: twinpost_message::fold(&text.body) }
        }))
    }
}

/// Messages with their sequence numbers, rising.
pub type Messages = Vec<(u32, Entry)>;

/// How much a program may have to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Entries of the list.
    Entry,
    /// What was parsed at arrival.
    Parsed,
    /// The body bytes.
    Body,
}

/// A search program made ready for one state of one mailbox.
#[derive(Debug)]
pub struct Program {
    root: Node,
    texts: Vec<TextKey>,
}

#[derive(Debug)]
struct TextKey {
    field: TextField,
    text: String,
    needle: Needle,
    hits: Option<TextHits>,
}

#[derive(Debug)]
enum Node {
    Const(bool),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Seqs(Ranges),
    Uids(Ranges),
    Flags(Flags),
    /// The field's time is in this half-open interval of seconds.
    Time(DateField, i64, i64),
    /// The day that the sender wrote is in this half-open interval of days.
    SentDay(i64, i64),
    /// Size is in this half-open interval of bytes.
    Size(u64, u64),
    ModSeq(u64),
    Email(String),
    Thread(String),
    Header(String, Box<Needle>),
    Text(usize),
}

impl Program {
    /// Prepares a program. `saved` is what `$` means, as UIDs; `now_s` is the time for OLDER and YOUNGER.
    #[must_use]
    pub fn new(key: &SearchKey, snapshot: &Snapshot, saved: &Ranges, now_s: i64) -> Self {
        let mut texts = Vec::new();
        let root = Build { snapshot, saved, now_s, texts: &mut texts }.node(key);
        Self { root, texts }
    }

    /// The texts that a full-text index can answer; the index of each is the one for [`Program::set_hits`].
    pub fn text_keys(&self) -> impl Iterator<Item = (usize, TextField, &str)> {
        self.texts.iter().enumerate().filter(|(_, t)| !t.needle.is_empty()).map(|(i, t)| (i, t.field, t.text.as_str()))
    }

    /// What the full-text index answered to one of [`Program::text_keys`].
    pub fn set_hits(&mut self, index: usize, hits: TextHits) {
        if let Some(key) = self.texts.get_mut(index) {
            key.hits = Some(hits);
        }
    }

    /// What may be needed to decide every message without hits of the index.
    #[must_use]
    pub fn need(&self) -> Need {
        self.root.need(&self.texts)
    }

    /// The message matches; none: cannot be said without more. With [`Facts::whole`] it is always said.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> Option<bool> {
        self.root.decide(facts, &self.texts)
    }

    /// The first pass over the whole list: messages that match, and messages that need more.
    #[must_use]
    pub fn scan(&self, snapshot: &Snapshot) -> (Messages, Messages) {
        let (mut found, mut open) = (Vec::new(), Vec::new());
        for (seq, entry) in snapshot.iter_from(1) {
            match self.decide(&Facts::listed(seq, entry)) {
                Some(true) => found.push((seq, *entry)),
                Some(false) => {}
                None => open.push((seq, *entry)),
            }
        }
        (found, open)
    }
}

struct Build<'a> {
    snapshot: &'a Snapshot,
    saved: &'a Ranges,
    now_s: i64,
    texts: &'a mut Vec<TextKey>,
}

impl Build<'_> {
    fn node(&mut self, key: &SearchKey) -> Node {
        match key {
            SearchKey::All | SearchKey::SaveDateSupported => Node::Const(true),
            // RFC 9051 removed \Recent; here no message ever has it (RFC 3501 2.3.2 allows that).
            SearchKey::Recent => Node::Const(false),
            SearchKey::And(keys) => Node::And(self.by_cost(keys)),
            SearchKey::Or(a, b) => {
                let mut nodes = vec![self.node(a), self.node(b)];
                nodes.sort_by_key(|n| n.need(self.texts));
                Node::Or(nodes)
            }
            SearchKey::Not(key) => Node::Not(Box::new(self.node(key))),
            SearchKey::Sequence(set) => Node::Seqs(set.seqs_lenient(self.snapshot, self.saved)),
            SearchKey::Uid(set) => Node::Uids(set.uids(self.snapshot, self.saved)),
            SearchKey::Flag(flag) => Node::Flags(*flag),
            SearchKey::Keyword(name) => match self.snapshot.keywords.iter().position(|k| k.eq_ignore_ascii_case(name)) {
                Some(index) if index < Flags::KEYWORDS_MAX => Node::Flags(Flags::keyword(index)),
                _ => Node::Const(false),
            },
            SearchKey::Address(field, text) => {
                let field = match field {
                    AddressField::From => TextField::From,
                    AddressField::To => TextField::To,
                    AddressField::Cc => TextField::Cc,
                    AddressField::Bcc => TextField::Bcc,
                };
                self.text(field, text)
            }
            SearchKey::Subject(text) => self.text(TextField::Subject, text),
            SearchKey::Body(text) => self.text(TextField::Body, text),
            SearchKey::Text(text) => self.text(TextField::Text, text),
            SearchKey::Header(name, text) => match name.as_str() {
                "subject" => self.text(TextField::Subject, text),
                "from" => self.text(TextField::From, text),
                "to" => self.text(TextField::To, text),
                "cc" => self.text(TextField::Cc, text),
                "bcc" => self.text(TextField::Bcc, text),
                _ => Node::Header(name.clone(), Box::new(Needle::new(text))),
            },
            SearchKey::Before(field, day) => days(*field, i64::MIN, i64::from(*day)),
            SearchKey::On(field, day) => days(*field, i64::from(*day), i64::from(*day) + 1),
            SearchKey::Since(field, day) => days(*field, i64::from(*day), i64::MAX),
            SearchKey::Larger(n) => Node::Size(u64::from(*n) + 1, u64::MAX),
            SearchKey::Smaller(n) => Node::Size(0, u64::from(*n)),
            // RFC 5032 3: YOUNGER is within the last n seconds, OLDER is n seconds old or more.
            SearchKey::Older(n) => Node::Time(DateField::Received, i64::MIN, self.now_s.saturating_sub(i64::from(*n)) + 1),
            SearchKey::Younger(n) => Node::Time(DateField::Received, self.now_s.saturating_sub(i64::from(*n)), i64::MAX),
            SearchKey::ModSeq(n) => Node::ModSeq(*n),
            SearchKey::EmailId(id) => Node::Email(id.clone()),
            SearchKey::ThreadId(id) => Node::Thread(id.clone()),
        }
    }

    fn by_cost(&mut self, keys: &[SearchKey]) -> Vec<Node> {
        let mut nodes: Vec<Node> = keys.iter().map(|k| self.node(k)).collect();
        nodes.sort_by_key(|n| n.need(self.texts));
        nodes
    }

    fn text(&mut self, field: TextField, text: &str) -> Node {
        let same = self.texts.iter().position(|t| t.field == field && t.text == text);
        Node::Text(same.unwrap_or_else(|| {
            self.texts.push(TextKey { field, text: text.to_owned(), needle: Needle::new(text), hits: None });
            self.texts.len() - 1
        }))
    }
}

fn days(field: DateField, from: i64, to: i64) -> Node {
    match field {
        DateField::Sent => Node::SentDay(from, to),
        // RFC 9051 6.4.4: "disregarding time and timezone": dates are shown in UTC here, so the day is the one of UTC.
        DateField::Received | DateField::Saved => Node::Time(field, from.saturating_mul(DAY_S), to.saturating_mul(DAY_S)),
    }
}

impl Node {
    fn need(&self, texts: &[TextKey]) -> Need {
        match self {
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().map(|n| n.need(texts)).max().unwrap_or(Need::Entry),
            Self::Not(node) => node.need(texts),
            Self::SentDay(..) | Self::Thread(_) => Need::Parsed,
            Self::Header(name, _) if in_envelope(name) => Need::Parsed,
            Self::Header(..) => Need::Body,
            Self::Text(i) => match texts[*i].field {
                TextField::Body | TextField::Text => Need::Body,
                TextField::Subject | TextField::From | TextField::To | TextField::Cc | TextField::Bcc => Need::Parsed,
            },
            Self::Const(_)
            | Self::Seqs(_)
            | Self::Uids(_)
            | Self::Flags(_)
            | Self::Time(..)
            | Self::Size(..)
            | Self::ModSeq(_)
            | Self::Email(_) => Need::Entry,
        }
    }

    /// Kleene's three values: an unknown part does not matter where another part decides.
    fn decide(&self, f: &Facts<'_>, texts: &[TextKey]) -> Option<bool> {
        match self {
            Self::Const(b) => Some(*b),
            Self::And(nodes) => all(nodes, f, texts, true),
            Self::Or(nodes) => all(nodes, f, texts, false),
            Self::Not(node) => node.decide(f, texts).map(|b| !b),
            Self::Seqs(set) => Some(set.contains(f.seq)),
            Self::Uids(set) => Some(set.contains(f.entry.uid.0)),
            Self::Flags(flags) => Some(f.entry.flags.contains(*flags)),
            Self::Time(field, from, to) => {
                let at = if *field == DateField::Saved { f.entry.saved_s } else { f.entry.received_s };
                Some(*from <= at && at < *to)
            }
            Self::SentDay(from, to) => f.parsed.map(|p| {
                // A message without a readable date was sent on no day.
                p.sent_s.is_some_and(|s| {
                    let day = s.saturating_add(i64::from(p.sent_zone_min) * 60).div_euclid(DAY_S);
                    *from <= day && day < *to
                })
            }),
            Self::Size(from, to) => Some((*from..*to).contains(&u64::from(f.entry.size_bytes))),
            Self::ModSeq(n) => Some(f.entry.modseq.0 >= *n),
            Self::Email(id) => Some(email_id(f.entry.body).to_string() == *id),
            Self::Thread(id) => f.parsed.map(|p| thread_id(p.thread).to_string() == *id),
            Self::Header(name, needle) => header_matches(name, needle, f),
            Self::Text(i) => texts[*i].decide(f),
        }
    }
}

/// AND (`want` true) and OR (`want` false): the other value decides at once.
fn all(nodes: &[Node], f: &Facts<'_>, texts: &[TextKey], want: bool) -> Option<bool> {
    let mut known = true;
    for node in nodes {
        match node.decide(f, texts) {
            Some(b) if b == want => {}
            Some(b) => return Some(b),
            None => known = false,
        }
    }
    known.then_some(want)
}

impl TextKey {
    fn decide(&self, f: &Facts<'_>) -> Option<bool> {
        let empty = self.needle.is_empty();
        if let Some(hits) = self.hits.as_ref().filter(|_| !empty) {
            let there = hits.bodies.binary_search(&f.entry.body).is_ok();
            if there && hits.exact {
                return Some(true);
            }
            // The entry came at its modseq or before: at or below the index's position it has been seen by the index.
            if !there && f.entry.modseq <= hits.indexed_to {
                return Some(false);
            }
        }
        match self.field {
            // RFC 9051 6.4.4: the empty string is in every text.
            TextField::Body | TextField::Text if empty => Some(true),
            TextField::Body => f.texts().map(|t| self.needle.matches_folded(&t.body)),
            TextField::Text => f.texts().map(|t| self.needle.matches_folded(&t.headers) || self.needle.matches_folded(&t.body)),
            TextField::Subject => f.parsed.map(|p| {
                let e = &p.envelope;
                e.subject.is_some()
                    && (self.needle.matches(&e.subject_text) || e.subject.as_deref().is_some_and(|s| self.needle.matches(s)))
            }),
            TextField::From => f.parsed.map(|p| self.in_addresses(&p.envelope.from)),
            TextField::To => f.parsed.map(|p| self.in_addresses(&p.envelope.to)),
            TextField::Cc => f.parsed.map(|p| self.in_addresses(&p.envelope.cc)),
            TextField::Bcc => f.parsed.map(|p| self.in_addresses(&p.envelope.bcc)),
        }
    }

    fn in_addresses(&self, list: &[Addr]) -> bool {
        if self.needle.is_empty() || list.is_empty() {
            return !list.is_empty();
        }
        // One text for the whole field, so that what a reader copies from it is found over a comma too.
        let mut text = String::new();
        for addr in list {
            if !text.is_empty() {
                text.push_str(", ");
            }
            match addr {
                Addr::Mailbox(m) => put_mailbox(m, &mut text),
                Addr::Group(g) => {
                    text.push_str(&words::decode(&g.name));
                    text.push(':');
                    for (i, m) in g.members.iter().enumerate() {
                        text.push_str(if i > 0 { ", " } else { " " });
                        put_mailbox(m, &mut text);
                    }
                    text.push(';');
                }
            }
        }
        self.needle.matches(&text)
    }
}

/// `Name <local@host>`, the name decoded.
fn put_mailbox(m: &Mailbox, text: &mut String) {
    if let Some(name) = &m.name {
        text.push_str(&words::decode(name));
        text.push(' ');
    }
    // Writing to a String does not fail.
    let _ = if m.host.is_empty() { write!(text, "<{}>", m.local) } else { write!(text, "<{}@{}>", m.local, m.host) };
}

/// Header fields whose raw text is in the envelope.
fn in_envelope(name: &str) -> bool {
    matches!(name, "message-id" | "in-reply-to" | "date")
}

fn header_matches(name: &str, needle: &Needle, f: &Facts<'_>) -> Option<bool> {
    let parsed = f.parsed?;
    let e: &Envelope = &parsed.envelope;
    let known = match name {
        "message-id" => &e.message_id,
        "in-reply-to" => &e.in_reply_to,
        "date" => &e.date,
        _ => {
            let head = f.body?.get(..parsed.root.body_start as usize).unwrap_or_default();
            // RFC 9051 6.4.4: a field of this name that holds the string, or any when the string is empty
            let charset = parsed.root.param("charset");
            return Some(header::fields(head).filter(|field| field.is(name)).any(|field| {
                needle.is_empty() || needle.matches(&field.decoded(charset)) || needle.matches(&field.text(charset))
            }));
        }
    };
    Some(known.as_ref().is_some_and(|text| needle.is_empty() || needle.matches(text)))
}

#[cfg(test)]
mod tests;
