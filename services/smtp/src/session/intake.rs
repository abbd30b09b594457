//! DATA and BDAT: a message comes in, is looked at, and goes to the backend.

use super::transaction::{shown_recipients, shown_sender};
use super::{Event, Next, Session};
use crate::data::{Fault, Framing, Reader};
use crate::reply::{put, put_plain};
use crate::{Body, Message, Outcome, Refusal, Role, Verdict, authors, header, received};
use std::ops::Range;
use twinpost_message::{Address, TraceId};

/// A message on its way in.
pub(super) struct Intake {
    reader: Reader,
    message: Message,
    /// Return-Path and Received: where the client's own text begins.
    head_bytes: usize,
}

/// The BDAT that is running.
pub(super) struct Chunk {
    size_bytes: u64,
    left_bytes: u64,
    last: bool,
    /// Its octets are thrown away and this is the reply: octets that were announced must never be read as commands.
    refusal: Option<Refusal>,
}

/// A message that grows is moved: begin with room for most, without trusting an announced size too far.
const FIRST_ROOM_BYTES: u64 = 16 << 10;
const FIRST_ROOM_MAX_BYTES: u64 = 256 << 10;
/// How much of a message that will be refused is read before the connection is cut.
const PATIENCE_BYTES: u64 = 16 << 20;

impl<R> Session<R> {
    pub(super) fn begin_data(&mut self, out: &mut Vec<u8>) -> Next {
        match self.may_begin(false) {
            Ok(()) => {
                put_plain(out, 354, "send the message, end with CRLF.CRLF");
                Next::Stamp
            }
            Err(refusal) => self.out_of_order(&refusal, out),
        }
    }

    pub(super) fn begin_chunk(&mut self, size_bytes: u64, last: bool, out: &mut Vec<u8>) -> Next {
        let refusal = self.may_begin(true).err();
        let limit = self.transaction.as_ref().map_or(self.settings.size_max_bytes, |t| t.size_max_bytes);
        if size_bytes > limit.saturating_add(PATIENCE_BYTES) {
            self.counts.errors += 1;
            self.end_transaction();
            Refusal::too_large().put(out, false);
            return Next::Close;
        }
        let begun = self.transaction.as_ref().is_some_and(|t| t.intake.is_some());
        let start = refusal.is_none() && !begun;
        self.chunk = Some(Chunk { size_bytes, left_bytes: size_bytes, last, refusal });
        match (start, size_bytes) {
            (true, _) => Next::Stamp,
            (false, 0) => self.end_chunk(out),
            (false, _) => Next::Chunk,
        }
    }

    /// The order of commands before a message (RFC 5321 4.1.4, RFC 3030 2 and 3).
    fn may_begin(&self, chunked: bool) -> Result<(), Refusal> {
        let order = |text| Err(Refusal::new(503, (5, 1), text));
        let Some(t) = self.transaction.as_deref() else { return order("MAIL and RCPT first") };
        if t.chunk_failed {
            return order("an earlier chunk was refused; RSET first");
        }
        if !chunked && t.intake.is_some() {
            return order("the message comes by BDAT already");
        }
        if !chunked && t.envelope.mail.params.body == Body::Binary {
            return order("BODY=BINARYMIME comes by BDAT only");
        }
        match (t.tokens.is_empty(), t.refused_count > 0) {
            (false, _) => Ok(()),
            (true, true) if self.settings.role != Role::Lmtp => Err(Refusal::new(554, (5, 1), "no valid recipients")),
            // RFC 2033 4.2 asks for 503 here.
            (true, _) => order("no valid recipients: RCPT first"),
        }
    }

    /// A message begins: the time, and the name it will have. Writes what stands above it.
    pub fn stamp(&mut self, unix_s: i64, trace: TraceId, out: &mut Vec<u8>) -> Next {
        let Some(t) = self.transaction.as_deref_mut() else { return Next::Line };
        t.envelope.trace = trace;
        t.envelope.received_s = unix_s;
        let framing = match (&self.chunk, t.envelope.mail.params.body) {
            (None, _) => Framing::Dots,
            (Some(_), Body::Binary) => Framing::Binary,
            (Some(_), _) => Framing::Counted,
        };
        let expected = self.chunk.as_ref().map(|c| c.size_bytes).or(t.envelope.mail.params.size_bytes);
        let room = expected.map_or(FIRST_ROOM_BYTES, |n| n.min(FIRST_ROOM_MAX_BYTES)) + 1024;
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or(0));
        received::put_return_path(&mut bytes, t.envelope.mail.sender.as_ref(), t.envelope.mail.params.smtputf8);
        let return_path_bytes = bytes.len();
        received::put_received(&mut bytes, &self.client, &t.envelope, &self.settings);
        let head_bytes = bytes.len();
        let reader = Reader::new(framing, self.settings.bare_line_ends, t.size_max_bytes, self.settings.text_line_max_bytes);
        let message = Message { bytes, return_path_bytes, quarantine: false };
        t.intake = Some(Intake { reader, message, head_bytes });
        match &self.chunk {
            None => Next::Data,
            Some(Chunk { left_bytes: 0, .. }) => self.end_chunk(out),
            Some(_) => Next::Chunk,
        }
    }

    /// Memory that the message holds now.
    #[must_use]
    pub fn transit_bytes(&self) -> usize {
        self.transaction.as_deref().and_then(|t| t.intake.as_ref()).map_or(0, |i| i.message.bytes.capacity())
    }

    /// There is no memory for the message: the rest is read but not kept, and its end is answered 452.
    pub fn no_room(&mut self) {
        if let Some(Intake { reader, message, .. }) = self.transaction.as_deref_mut().and_then(|t| t.intake.as_mut()) {
            reader.fail(Fault::NoRoom, &mut message.bytes);
        }
    }

    /// A piece of dot-stuffed text. Returns how much of it was taken.
    pub fn data(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Next) {
        let Some(t) = self.transaction.as_deref_mut() else { return (0, Next::Line) };
        let Some(intake) = t.intake.as_mut() else { return (0, Next::Line) };
        let (taken, ended) = intake.reader.push(input, &mut intake.message.bytes);
        if ended {
            return (taken, self.end_message(out));
        }
        if intake.reader.seen_bytes() > t.size_max_bytes.saturating_add(PATIENCE_BYTES) {
            t.note(String::new, &Refusal::too_large());
            self.counts.errors += 1;
            self.end_transaction();
            Refusal::too_large().put(out, false);
            return (taken, Next::Close);
        }
        (taken, Next::Data)
    }

    /// A piece of counted octets. Returns how much of it belonged to the chunk.
    pub fn chunk(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Next) {
        let Some(chunk) = &mut self.chunk else { return (0, Next::Line) };
        let taken = usize::try_from(chunk.left_bytes).unwrap_or(usize::MAX).min(input.len());
        chunk.left_bytes -= taken as u64;
        let left_bytes = chunk.left_bytes;
        if chunk.refusal.is_none()
            && let Some(intake) = self.transaction.as_deref_mut().and_then(|t| t.intake.as_mut())
        {
            intake.reader.push(&input[..taken], &mut intake.message.bytes);
        }
        (taken, if left_bytes == 0 { self.end_chunk(out) } else { Next::Chunk })
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Next {
        let Some(chunk) = self.chunk.take() else { return Next::Line };
        if let Some(refusal) = chunk.refusal {
            return self.out_of_order(&refusal, out);
        }
        let Some(t) = self.transaction.as_deref_mut() else { return Next::Line };
        let Some(intake) = t.intake.as_mut() else { return Next::Line };
        if chunk.last {
            intake.reader.finish(&mut intake.message.bytes);
            return self.end_message(out);
        }
        if let Some(fault) = intake.reader.fault() {
            let refusal = fault.refusal();
            t.chunk_failed = true;
            t.intake = None;
            t.note(String::new, &refusal);
            self.refuse(&refusal, out);
            return Next::Line;
        }
        self.say(250, (0, 0), &format!("{} octets received", chunk.size_bytes), out)
    }

    /// The text is complete: what is wrong with it, what it lacks, who wrote it.
    fn end_message(&mut self, out: &mut Vec<u8>) -> Next {
        match self.examine() {
            Ok(Some(authors)) => Next::Authors(authors),
            Ok(None) => Next::Judge,
            Err(refusal) => self.refuse_message(&refusal, out),
        }
    }

    fn examine(&mut self) -> Result<Option<Vec<Address>>, Refusal> {
        let Some(t) = self.transaction.as_deref_mut() else { return Err(Refusal::trouble()) };
        let Some(intake) = t.intake.as_mut() else { return Err(Refusal::trouble()) };
        if let Some(fault) = intake.reader.fault() {
            return Err(fault.refusal());
        }
        let text = &intake.message.bytes[intake.head_bytes..];
        let found = header::scan(text, &self.settings)?;
        let params = &mut t.envelope.mail.params;
        if params.body == Body::SevenBit && !text.is_ascii() {
            params.body = Body::EightBit;
        }
        let mut ask = None;
        if self.settings.check_author && self.client.identity.is_some() {
            let all = authors_of(text, &found.from, &found.sender)?;
            if all.is_empty() && t.envelope.mail.sender.is_none() {
                return Err(Refusal::new(554, (6, 0), "the message has no From field"));
            }
            // Without From the envelope sender is written there, and that was checked at MAIL.
            ask = (!all.is_empty()).then_some(all);
        }
        let mut added = Vec::new();
        if self.settings.complete_header {
            let (date, id, from) = (found.has_date, found.has_message_id, !found.from.is_empty());
            received::put_missing(&mut added, date, id, from, &t.envelope, &self.settings.host);
        }
        found.edit(&mut intake.message.bytes, intake.head_bytes, &added);
        Ok(ask)
    }

    /// The backend's answer about the authors.
    pub fn authors_answer(&mut self, answer: Result<(), Refusal>, out: &mut Vec<u8>) -> Next {
        match answer {
            Ok(()) => Next::Judge,
            Err(refusal) => self.refuse_message(&refusal, out),
        }
    }

    /// The message for the filter, from Received on.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        self.transaction.as_deref().and_then(|t| t.intake.as_ref()).map_or(&[], |i| i.message.relayed())
    }

    /// The filter's opinion.
    pub fn judged(&mut self, verdict: Verdict, out: &mut Vec<u8>) -> Next {
        match verdict {
            Verdict::Accept { headers, quarantine } => {
                if let Some(intake) = self.transaction.as_deref_mut().and_then(|t| t.intake.as_mut()) {
                    let message = &mut intake.message;
                    message.quarantine = quarantine;
                    if !headers.is_empty() {
                        let at = message.return_path_bytes;
                        message.bytes.splice(at..at, headers.concat().into_bytes());
                    }
                }
                Next::Deliver
            }
            Verdict::Refuse(refusal) => self.refuse_message(&refusal, out),
        }
    }

    /// What to deliver: the backend's tokens and the message. The envelope stays for the log.
    pub fn take_delivery(&mut self) -> (Vec<R>, Message) {
        let Some(t) = self.transaction.as_deref_mut() else { return Default::default() };
        let message = t.intake.as_mut().map(|i| std::mem::take(&mut i.message)).unwrap_or_default();
        (std::mem::take(&mut t.tokens), message)
    }

    /// How the delivery of `bytes` ended.
    pub fn delivered(&mut self, outcome: Outcome, bytes: usize, out: &mut Vec<u8>) -> Next {
        let Some(mut t) = self.transaction.take() else { return Next::Line };
        let (trace, utf8) = (t.envelope.trace, t.envelope.mail.params.smtputf8);
        let each = match outcome {
            Outcome::Each(each) if each.len() == t.envelope.recipients.len() => each,
            // A backend that miscounts has not proved that it stored anything.
            Outcome::Each(_) => vec![Err(Refusal::trouble()); t.envelope.recipients.len()],
            Outcome::All(one) if self.settings.role == Role::Lmtp => vec![one; t.envelope.recipients.len()],
            Outcome::All(one) => vec![one],
        };
        if self.settings.role == Role::Lmtp {
            // RFC 2033 4.2: one reply for each recipient accepted, in their order.
            for (answer, rcpt) in each.iter().zip(&t.envelope.recipients) {
                match answer {
                    Ok(()) if utf8 => put(out, 250, (1, 5), &format!("<{}> stored as {trace}", rcpt.address), utf8),
                    Ok(()) => put(out, 250, (1, 5), &format!("<{}> stored as {trace}", rcpt.address.to_ascii_domain()), utf8),
                    Err(refusal) => refusal.put(out, utf8),
                }
            }
        } else if let (Some(Err(refusal)), true) = (each.first(), each.iter().all(Result::is_err)) {
            refusal.put(out, utf8);
        } else {
            put(out, 250, (0, 0), &format!("accepted as {trace}"), utf8);
        }
        let taken = each.iter().any(Result::is_ok);
        if taken {
            self.counts.accepted = self.counts.accepted.saturating_add(1);
            let (from, to) = (shown_sender(&t.envelope), shown_recipients(&t.envelope));
            self.events.push(Event::Accepted { trace, from, to, bytes, refused: t.refused_count });
            (t.refused, t.refused_count) = (None, 0);
        }
        for (i, answer) in each.iter().enumerate() {
            if let Err(refusal) = answer {
                let whom = if taken { t.envelope.recipients.get(i).map(|r| r.address.to_string()) } else { None };
                t.note(|| whom.unwrap_or_default(), refusal);
            }
        }
        self.transaction = Some(t);
        self.end_transaction();
        Next::Line
    }

    /// The text is refused: one reply, or in LMTP one for each recipient (RFC 2033 4.2).
    fn refuse_message(&mut self, refusal: &Refusal, out: &mut Vec<u8>) -> Next {
        let lmtp = self.settings.role == Role::Lmtp;
        let count = self.transaction.as_ref().map_or(1, |t| if lmtp { t.tokens.len().max(1) } else { 1 });
        for _ in 0..count {
            self.refuse(refusal, out);
        }
        if let Some(t) = self.transaction.as_deref_mut() {
            t.note(String::new, refusal);
        }
        self.end_transaction();
        Next::Line
    }
}

/// Everybody in From and Sender. Two From fields are refused: which one a reader sees is anybody's guess.
fn authors_of(text: &[u8], from: &[Range<usize>], sender: &[Range<usize>]) -> Result<Vec<Address>, Refusal> {
    if from.len() > 1 || sender.len() > 1 {
        return Err(Refusal::new(554, (6, 0), "the message has more than one From or Sender field")); // RFC 5322 3.6
    }
    let mut all = Vec::new();
    for value in from.iter().chain(sender) {
        let parsed = authors::parse(&text[value.clone()]);
        all.extend(parsed.ok_or_else(|| Refusal::new(554, (6, 0), "the From or Sender field cannot be understood"))?);
    }
    all.sort();
    all.dedup();
    Ok(all)
}
