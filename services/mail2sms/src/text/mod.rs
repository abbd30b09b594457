//! A mail's words as a text message would say them.
//!
//! Contract: any bytes; at most [`TEXT_MAX_CHARS`] characters come out; no control character but the line feed. Work is linear in the
//! bytes that are looked at, and those are bounded.

mod flowed;
mod html;
mod lines;
mod mime;
mod plain;
mod quotes;
mod signature;

pub(crate) use plain::{punctuation, tidy};

use crate::settings::{SubjectLine, Text};
use twinpost_message::{Envelope, Parsed};

/// Most characters of a text. 255 parts hold 39,015 at most: what is longer can only be refused.
pub const TEXT_MAX_CHARS: usize = 40_000;

/// Most characters of a subject or name that are used.
const LINE_MAX_CHARS: usize = 500;

/// The text of a mail: its own words, with subject and last line as the settings say. Empty when there is nothing to say.
pub(crate) fn of_mail(mail: &[u8], parsed: &Parsed, settings: &Text) -> String {
    let subject = one_line(&parsed.envelope.subject_text);
    let own = own_words(mail, parsed, settings);
    let has_text = own.chars().any(|c| !c.is_whitespace());
    let with_subject = match settings.subject {
        SubjectLine::Never => false,
        SubjectLine::Always => true,
        SubjectLine::IfNoText => !has_text,
    };
    let mut text = String::new();
    if with_subject && !subject.is_empty() {
        text.push_str(without_marks(&subject));
    }
    if has_text {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&own);
    }
    // A last line alone is no message.
    if let Some(footer) = settings.footer.as_deref().filter(|_| !text.is_empty()) {
        let footer = footer_line(footer, &parsed.envelope);
        if !footer.is_empty() {
            text.push('\n');
            text.push_str(&footer);
        }
    }
    text
}

/// The words of a mail without subject and last line.
fn own_words(mail: &[u8], parsed: &Parsed, settings: &Text) -> String {
    let forwarded = is_forward(&parsed.envelope.subject_text);
    let raw = mime::text_of(
        mail,
        &parsed.root,
        mime::Cut { quotes: settings.cut_quotes && !forwarded, signature: settings.cut_signature },
    );
    let text = plain::clean(&raw);
    let text = if settings.cut_quotes { quotes::cut(&text, forwarded) } else { text };
    let text = if settings.cut_signature { signature::cut(&text).to_owned() } else { text };
    tidy(&text, TEXT_MAX_CHARS)
}

/// The sender of a mail for people: name and address of From.
pub(crate) fn author(envelope: &Envelope) -> (String, String) {
    let Some(from) = Envelope::mailboxes(&envelope.from).next() else { return (String::new(), String::new()) };
    let address = if from.host.is_empty() { from.local.clone() } else { format!("{}@{}", from.local, from.host) };
    let name = from.name.as_deref().map(twinpost_message::words::decode).unwrap_or_default();
    (one_line(name.trim().trim_matches('"')), one_line(&address))
}

fn footer_line(template: &str, envelope: &Envelope) -> String {
    let (name, address) = author(envelope);
    let shown = if name.is_empty() { &address } else { &name };
    // In one pass, so that a name that reads {address} stays a name.
    let mut line = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        line.push_str(&rest[..at]);
        rest = &rest[at..];
        let (put, len) = match rest {
            r if r.starts_with("{name}") => (shown.as_str(), "{name}".len()),
            r if r.starts_with("{address}") => (address.as_str(), "{address}".len()),
            _ => ("{", 1),
        };
        line.push_str(put);
        rest = &rest[len..];
    }
    line.push_str(rest);
    one_line(&line)
}

/// One line, bounded, without what a telephone cannot show.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = tidy(&plain::clean(text), LINE_MAX_CHARS);
    if line.contains('\n') {
        line = line.replace('\n', " ");
    }
    line
}

/// An SMS as lines of a mail: each ends with a line feed, empty ones stay, control characters go; at most so many characters.
pub(crate) fn message_lines(text: &str, chars_max: usize) -> String {
    let clean = plain::clean(text);
    let mut out: String = clean.chars().take(chars_max).collect();
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

const FORWARD_MARKS: [&str; 8] = ["fwd:", "fw:", "转发:", "转发：", "轉寄:", "轉寄：", "wg:", "轉發:"];
const REPLY_MARKS: [&str; 9] = ["re:", "re：", "回复:", "回复：", "答复:", "答复：", "回覆:", "回覆：", "aw:"];

fn mark<'m>(marks: &[&'m str], subject: &str) -> Option<&'m str> {
    let starts = |m: &&str| subject.get(..m.len()).is_some_and(|head| head.to_lowercase() == **m);
    marks.iter().copied().find(|m| starts(m))
}

fn is_forward(subject: &str) -> bool {
    mark(&FORWARD_MARKS, subject.trim_start()).is_some()
}

/// A subject without `Re:`, `回复:`, `Fwd:` ... in front.
pub(crate) fn without_marks(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some(m) = mark(&REPLY_MARKS, rest).or_else(|| mark(&FORWARD_MARKS, rest)) {
        let behind = rest[m.len()..].trim_start();
        if behind.is_empty() {
            break;
        }
        rest = behind;
    }
    rest
}

/// Entry point for random input: bounded, no control characters.
///
/// # Panics
/// When the contract of this module is broken: that is what it looks for.
pub fn fuzz(data: &[u8]) {
    let parsed = Parsed::parse(data);
    for cut in [true, false] {
        let footer = cut.then(|| "-- {name} <{address}>".to_owned());
        let settings = Text { subject: SubjectLine::Always, cut_signature: cut, cut_quotes: cut, plain_punctuation: cut, footer };
        let text = of_mail(data, &parsed, &settings);
        assert!(text.chars().count() <= TEXT_MAX_CHARS + 2 * LINE_MAX_CHARS + 2);
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        assert_eq!(text, text.trim());
    }
}

#[cfg(test)]
mod tests;
