//! An SMS that came in, as a mail (RFC 5322).
//!
//! Contract: any text and number; the message is ASCII but for a UTF-8 local part of its recipient. The same SMS always gives the
//! same Message-ID, so a second delivery after a crash can be told by it.
//!
//! It carries no Auto-Submitted (RFC 3834 5): a person wrote it, and filters that put automatic mail aside must not hide it. What keeps it from
//! going round is [`crate::automatic::LOOP_HEADER`] and its null envelope sender.

use crate::automatic::LOOP_HEADER;
use crate::clock;
use crate::ledger::Route;
use crate::number::Number;
use crate::policy::Policy;
use crate::settings::Language;
use crate::text;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Write as _;
use twinpost_message::Address;

/// Most characters of an SMS that are taken: 255 parts hold fewer.
const TEXT_MAX_CHARS: usize = text::TEXT_MAX_CHARS;
/// A service centre's time stamp that differs more from our clock is not believed.
const STAMP_OFF_MAX_S: i64 = 7 * 86_400;
/// Longest line that goes as it is (RFC 5322 2.1.1 allows 998).
const LINE_MAX_BYTES: usize = 900;

/// A message that a telephone sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// Its number at the modem process.
    pub id: u64,
    /// Number or name of the sender.
    pub from: String,
    /// The text.
    pub text: String,
    /// Time stamp of the service centre; 0: none.
    pub sent_s: i64,
    /// When it reached us.
    pub received_s: i64,
}

/// A mail to deliver. Its envelope sender is the null sender: nobody wants a report about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The only recipient.
    pub to: Address,
    /// The message, with CRLF.
    pub message: Vec<u8>,
    /// It answers somebody's text; else it is a stray one.
    pub answer: bool,
}

/// The mail that an SMS becomes.
pub(crate) fn mail(policy: &Policy, sms: &Incoming, number: Option<&Number>, to: &Address, route: Option<&Route>) -> Mail {
    let domain = policy.reply_domain().unwrap_or("localhost");
    let shown = number.map_or_else(|| text::one_line(&sms.from), |n| policy.plan().shown(n).to_owned());
    let shown = if shown.is_empty() { "SMS".to_owned() } else { shown };
    // Answering this address sends a text back; to a name nobody can answer.
    let local = number.map_or("no-reply", Number::as_str);
    let from = Address::new(local, domain).map_or_else(|_| format!("{local}@localhost"), |a| a.to_ascii_domain());
    let zh = policy.settings().language == Language::ZhCn;
    let subject = match route.map(|r| r.subject.as_str()).filter(|s| !s.is_empty()) {
        Some(subject) => format!("Re: {subject}"),
        None if zh => format!("来自 {shown} 的短信"),
        None => format!("SMS from {shown}"),
    };
    let believed = sms.sent_s > 0 && sms.sent_s.abs_diff(sms.received_s) < STAMP_OFF_MAX_S.unsigned_abs();
    let date = clock::rfc_5322(if believed { sms.sent_s } else { sms.received_s }, policy.settings().zone_min);
    let mut head = String::with_capacity(1024);
    let mut put = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    let author = if zh { format!("{shown} (短信)") } else { format!("{shown} (SMS)") };
    put("From", &format!("{}\r\n <{from}>", phrase(&author)));
    put("To", &to.to_ascii_domain());
    put("Subject", &unstructured(&subject));
    put("Date", &date);
    put("Message-ID", &format!("<{}@{domain}>", name(sms), domain = ascii_domain(domain)));
    if let Some(route) = route.filter(|r| !r.message_id.is_empty()) {
        // RFC 5322 3.6.4
        put("In-Reply-To", &format!("<{}>", route.message_id));
        let mut ids: Vec<String> = route.references.iter().map(|id| format!("<{id}>")).collect();
        ids.push(format!("<{}>", route.message_id));
        put("References", &ids.join("\r\n "));
    }
    put(LOOP_HEADER, if route.is_some() { "answer" } else { "stray" });
    put("MIME-Version", "1.0");
    put("Content-Type", "text/plain; charset=utf-8");
    let text = text::message_lines(&sms.text, TEXT_MAX_CHARS);
    let plain = text.is_ascii() && text.lines().all(|l| l.len() <= LINE_MAX_BYTES);
    put("Content-Transfer-Encoding", if plain { "7bit" } else { "base64" });
    head.push_str("\r\n");
    let lines = text.replace('\n', "\r\n");
    if plain {
        head.push_str(&lines);
    } else {
        let coded = STANDARD.encode(&lines);
        // RFC 2045 6.8: 76 characters a line; base64 is ASCII.
        for line in coded.as_bytes().chunks(76) {
            head.extend(line.iter().map(|b| char::from(*b)));
            head.push_str("\r\n");
        }
    }
    Mail { to: to.clone(), message: head.into_bytes(), answer: route.is_some() }
}

fn ascii_domain(domain: &str) -> String {
    Address::new("x", domain).map_or_else(|_| "localhost".to_owned(), |a| a.to_ascii_domain()[2..].to_owned())
}

/// A name that differs for each SMS and is the same for the same one: left side of its Message-ID.
pub(crate) fn name(sms: &Incoming) -> String {
    // FNV-1a: both nodes of a pair number their messages from 1, so number and words have to tell them apart.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in sms.from.bytes().chain([0]).chain(sms.text.bytes()).chain(sms.sent_s.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut id = String::new();
    let _ = write!(id, "sms.{}.{}.{hash:016x}", sms.id, sms.received_s);
    id
}

/// Text of a header field: encoded words where it is not plain ASCII (RFC 2047), folded.
fn unstructured(text: &str) -> String {
    let fits = |word: &str| word.len() <= LINE_MAX_BYTES && !word.contains("=?");
    if text.is_ascii() && text.split(' ').all(fits) && text.len() <= LINE_MAX_BYTES { text.to_owned() } else { words(text) }
}

/// A display name: quoted, or encoded words.
fn phrase(text: &str) -> String {
    if text.is_ascii() && text.len() <= LINE_MAX_BYTES {
        format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        words(text)
    }
}

/// Encoded words, each with whole characters (RFC 2047 5), short enough that the first fits behind a field's name (RFC 2047 2: 76).
fn words(text: &str) -> String {
    const BYTES: usize = 36;
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(rest.floor_char_boundary(BYTES));
        if !out.is_empty() {
            out.push_str("\r\n ");
        }
        let _ = write!(out, "=?utf-8?B?{}?=", STANDARD.encode(word));
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use twinpost_message::{Envelope, Parsed, charset, decode_part};

    fn policy(language: Language) -> Policy {
        let domains = vec!["短信.example".to_owned()];
        Policy::new(Settings { domains, language, ..Settings::default() }).expect("sound")
    }
    fn read(mail: &Mail) -> (Parsed, String) {
        let parsed = Parsed::parse(&mail.message);
        let bytes = decode_part(&mail.message, &parsed.root).expect("a known encoding").into_owned();
        let text = charset::decode(&bytes, parsed.root.param("charset")).into_owned();
        (parsed, text)
    }
    fn number() -> Number {
        Number::from_canonical("+8613800138000").expect("canonical")
    }
    fn route() -> Route {
        Route {
            id: 1,
            who: "anna@school.example".to_owned(),
            domain: "school.example".to_owned(),
            answers_to: "anna@school.example".to_owned(),
            subject: "明天的家长会".repeat(9),
            message_id: "2@school.example".to_owned(),
            references: vec!["1@school.example".to_owned()],
        }
    }
    fn anna() -> Address {
        Address::parse("anna@school.example").expect("an address")
    }

    #[test]
    fn an_answer_reads_as_one() {
        let sms = Incoming {
            id: 7,
            from: "+8613800138000".to_owned(),
            text: "好的\n谢谢".to_owned(),
            sent_s: 1_795_330_000,
            received_s: 1_795_330_800,
        };
        let mail = mail(&policy(Language::ZhCn), &sms, Some(&number()), &anna(), Some(&route()));
        assert!(mail.answer && mail.message.is_ascii());
        assert!(mail.message.split(|b| *b == b'\n').all(|line| line.len() <= 78), "{}", String::from_utf8_lossy(&mail.message));
        let (parsed, text) = read(&mail);
        assert_eq!(text, "好的\r\n谢谢\r\n");
        let envelope = &parsed.envelope;
        assert_eq!(envelope.subject_text, format!("Re: {}", route().subject));
        let from = Envelope::mailboxes(&envelope.from).next().expect("a From");
        let back = Address::new(&from.local, &from.host).expect("an address");
        assert_eq!((back.local(), back.domain()), ("+8613800138000", "短信.example"));
        assert_eq!(text::author(envelope).0, "13800138000 (短信)");
        assert_eq!(parsed.references, ["1@school.example", "2@school.example"]);
        assert_eq!(envelope.in_reply_to.as_deref(), Some("<2@school.example>"));
        assert_eq!(parsed.sent_s, Some(1_795_330_000));
        assert!(parsed.id.is_some_and(|id| id.starts_with("sms.7.1795330800.")));
    }

    #[test]
    fn a_stray_one_says_who_wrote() {
        let sms = Incoming {
            id: 8,
            from: "Bank\r\nBcc: x".to_owned(),
            text: "code 1234\nbye".to_owned(),
            sent_s: 5,
            received_s: 1_795_330_800,
        };
        let mail = mail(&policy(Language::En), &sms, None, &anna(), None);
        let (parsed, text) = read(&mail);
        assert_eq!((text.as_str(), mail.answer), ("code 1234\r\nbye\r\n", false));
        assert_eq!(parsed.envelope.subject_text, "SMS from Bank Bcc: x");
        assert!(parsed.envelope.bcc.is_empty());
        // The stamp of 1970 is not believed.
        assert_eq!(parsed.sent_s, Some(1_795_330_800));
    }

    #[test]
    fn ids_differ_by_message_and_not_by_chance() {
        let sms = Incoming { id: 1, from: "1".to_owned(), text: "a".to_owned(), sent_s: 1, received_s: 2 };
        assert_eq!(name(&sms), name(&sms.clone()));
        assert_ne!(name(&sms), name(&Incoming { text: "b".to_owned(), ..sms.clone() }));
    }

    proptest::proptest! {
        #[test]
        fn any_sms_is_a_mail_with_its_words(from in "\\PC{0,20}|[\r\n:\"\\\\]{0,9}", text in "(\\PC|\n){0,300}", sent_s: i64, received_s: i64) {
            let sms = Incoming { id: 1, from, text: text.clone(), sent_s, received_s };
            let mail = mail(&policy(Language::ZhCn), &sms, None, &anna(), None);
            proptest::prop_assert!(mail.message.is_ascii());
            let (parsed, read) = read(&mail);
            proptest::prop_assert!(parsed.envelope.bcc.is_empty() && parsed.id.is_some() && parsed.sent_s.is_some());
            let want = crate::text::message_lines(&text, TEXT_MAX_CHARS);
            proptest::prop_assert_eq!(read.replace("\r\n", "\n"), want);
        }
    }
}
