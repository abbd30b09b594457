//! From a mail to the text that is sent: the checks at DATA, and the text that the courier submits. Both make it by the same
//! function of the same bytes, so what was accepted is what is sent.

use crate::automatic;
use crate::clock;
use crate::count;
use crate::policy::Policy;
use crate::refusal::{Fault, Refusal};
use crate::text;
use twinpost_message::Parsed;
use twinpost_message::header::fields;

/// Most characters of a subject that is kept for answers.
const SUBJECT_MAX_CHARS: usize = 200;
/// Most ids of References that are kept for answers: the first, which names the thread, and the newest.
const REFERENCES_MAX: usize = 10;
/// Longest id that is kept.
const ID_MAX_BYTES: usize = 250;

/// A text message that a mail becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The text.
    pub text: String,
    /// Short messages that it takes.
    pub parts: u8,
    /// It has characters outside the 7-bit alphabet.
    pub unicode: bool,
    /// The mail is marked urgent: it may pass quiet hours.
    pub urgent: bool,
    /// The mail itself asks for a receipt (Disposition-Notification-To, Return-Receipt-To).
    pub receipt_wanted: bool,
    /// Subject without `Re:`, for answers.
    pub subject: String,
    /// Message-ID, bare.
    pub message_id: Option<String>,
    /// References, bare, oldest first.
    pub references: Vec<String>,
}

/// Marks of urgent mail, as the mailers of the field write them.
pub(crate) fn is_urgent(header: &[u8]) -> bool {
    fields(header).any(|field| {
        let value = || field.text(None).trim().to_ascii_lowercase();
        if field.is("importance") || field.is("x-msmail-priority") {
            value() == "high"
        } else if field.is("priority") {
            value() == "urgent"
        } else {
            field.is("x-priority") && value().starts_with(['1', '2'])
        }
    })
}

impl Policy {
    /// The text that this mail becomes.
    ///
    /// # Errors
    /// The refusal to tell: automatic mail, no text, too long.
    pub fn outgoing(&self, mail: &[u8]) -> Result<Outgoing, Refusal> {
        let parsed = Parsed::parse(mail);
        let header = mail.get(..parsed.root.body_start as usize).unwrap_or_default();
        if let Some(kind) = automatic::kind_of(header) {
            return Err(kind.refusal());
        }
        let settings = &self.settings().text;
        let mut text = text::of_mail(mail, &parsed, settings);
        if text.is_empty() {
            return Err(empty());
        }
        if settings.plain_punctuation {
            text = count::cheapest(text);
        }
        let cost = count::cost(&text);
        let most = self.settings().parts_max;
        let Some(parts) = u8::try_from(cost.parts).ok().filter(|parts| *parts <= most) else {
            return Err(too_long(text.chars().count(), cost, most));
        };
        let receipt_wanted = fields(header).any(|f| f.is("disposition-notification-to") || f.is("return-receipt-to"));
        // They are written into a header again.
        let kept = |id: &String| id.len() <= ID_MAX_BYTES && id.bytes().all(|b| b.is_ascii_graphic() && !b"<>".contains(&b));
        let ids: Vec<String> = parsed.references.iter().filter(|id| kept(id)).cloned().collect();
        let newest = ids.len().saturating_sub(REFERENCES_MAX - 1).max(1);
        let references = ids.iter().enumerate().filter(|(n, _)| *n == 0 || *n >= newest).map(|(_, id)| id.clone()).collect();
        let subject = text::one_line(&parsed.envelope.subject_text);
        Ok(Outgoing {
            text,
            parts,
            unicode: cost.unicode,
            urgent: is_urgent(header),
            receipt_wanted,
            subject: text::without_marks(&subject).chars().take(SUBJECT_MAX_CHARS).collect(),
            message_id: parsed.id.filter(kept),
            references,
        })
    }

    /// When an ordinary text that comes now may go out: none means at once.
    #[must_use]
    pub fn not_before_s(&self, urgent: bool, now_s: i64) -> Option<i64> {
        let quiet = self.settings().quiet.as_ref().filter(|quiet| !(urgent && quiet.urgent_passes))?;
        quiet.hours.left_s(now_s, self.settings().zone_min).map(|left| now_s.saturating_add(left))
    }

    /// The day of quotas and statistics: days since 1970-01-01 by the site's clock.
    #[must_use]
    pub fn day(&self, now_s: i64) -> i64 {
        clock::day(now_s, self.settings().zone_min)
    }
}

fn empty() -> Refusal {
    // RFC 3463 3.7: X.6.1, media not supported.
    Refusal::new(
        Fault::Empty,
        554,
        (6, 1),
        "there is no text to send: pictures and attachments cannot go as a text message, signature and quoted text are left out: please write some words",
        "没有可以发送的文字：图片和附件无法作为短信发送，签名和引用的内容会被去掉，请写上几句话",
    )
}

fn too_long(chars: usize, cost: count::Cost, most: u8) -> Refusal {
    let parts = cost.parts;
    let one = if cost.unicode { 67 } else { 153 };
    let room = if most == 1 { if cost.unicode { 70 } else { 160 } } else { one * usize::from(most) };
    // A text that was cut has more of both.
    let (more_en, more_zh) = if chars >= text::TEXT_MAX_CHARS { ("more than ", "超过 ") } else { ("", " ") };
    // RFC 3463 3.4: X.3.4, message too big for system.
    Refusal::new(
        Fault::TooLong,
        552,
        (3, 4),
        format!(
            "the text is too long: it has {more_en}{chars} characters and would take {more_en}{parts} text messages, {most} are allowed (about {room} characters): please shorten it"
        ),
        format!(
            "内容太长：共{more_zh}{chars} 个字符，需要{more_zh}{parts} 条短信，最多允许 {most} 条（约 {room} 个字符），请缩短后再发"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Hours, Quiet, Settings};

    fn policy(change: impl FnOnce(&mut Settings)) -> Policy {
        let mut settings = Settings { domains: vec!["sms.example".to_owned()], parts_max: 2, ..Settings::default() };
        change(&mut settings);
        Policy::new(settings).expect("sound")
    }
    fn mail(header: &str, body: &str) -> Vec<u8> {
        format!("{header}Content-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n").into_bytes()
    }

    #[test]
    fn what_is_sent_and_kept() {
        let header = "Subject: Re: Trip\r\nMessage-ID: <a@x.example>\r\nReferences: <1@x.example> <2@x.example>\r\nX-Priority: 2\r\nDisposition-Notification-To: <a@x.example>\r\n";
        let sent = policy(|_| {}).outgoing(&mail(header, "It’s at eight.")).expect("fine");
        assert_eq!((sent.text.as_str(), sent.parts, sent.unicode), ("It's at eight.", 1, false));
        assert_eq!((sent.subject.as_str(), sent.message_id.as_deref()), ("Trip", Some("a@x.example")));
        assert_eq!(sent.references, ["1@x.example", "2@x.example"]);
        assert!(sent.urgent && sent.receipt_wanted);
        let kept = policy(|s| s.text.plain_punctuation = false).outgoing(&mail("", "It’s")).expect("fine");
        assert!(kept.unicode && kept.text == "It’s");
        let many: String = (0..40).map(|n| format!("<{n}@x.example> ")).collect();
        let sent = policy(|_| {}).outgoing(&mail(&format!("References: {many}\r\n"), "a")).expect("fine");
        assert_eq!(
            (sent.references.len(), sent.references[0].as_str(), sent.references[9].as_str()),
            (10, "0@x.example", "39@x.example")
        );
    }

    #[test]
    fn what_is_refused_and_in_which_words() {
        let refused = |mail: &[u8]| policy(|_| {}).outgoing(mail).expect_err("refused");
        let long = refused(&mail("", &"中".repeat(200)));
        assert_eq!((long.fault, long.code, long.enhanced().as_str()), (Fault::TooLong, 552, "5.3.4"));
        assert_eq!(
            long.sentence.en,
            "the text is too long: it has 200 characters and would take 3 text messages, 2 are allowed (about 134 characters): please shorten it"
        );
        assert_eq!(long.sentence.zh, "内容太长：共 200 个字符，需要 3 条短信，最多允许 2 条（约 134 个字符），请缩短后再发");
        assert!(policy(|_| {}).outgoing(&mail("", &"中".repeat(134))).is_ok());
        let endless = refused(&mail("", &"ab ".repeat(40_000)));
        assert!(
            endless.sentence.en.contains("more than 40000 characters") && endless.sentence.zh.contains("超过 40000 个"),
            "{endless}"
        );
        assert_eq!(refused(&mail("", "")).fault, Fault::Empty);
        assert_eq!(refused(b"Content-Type: image/png\r\n\r\nx").fault, Fault::Empty);
        for (header, fault) in [
            ("List-Id: <a.example>\r\n", Fault::List),
            ("Auto-Submitted: auto-replied\r\n", Fault::Automatic),
            ("X-Twinpost-Sms: answer\r\n", Fault::Loop),
        ] {
            assert_eq!(refused(&mail(header, "text")).fault, fault);
        }
    }

    #[test]
    fn ordinary_texts_wait_through_the_night() {
        let hours = Hours { from_min: 22 * 60, to_min: 7 * 60 };
        let at = |urgent_passes| policy(|s| s.quiet = Some(Quiet { hours, urgent_passes }));
        // 22:30 and 15:00 in China.
        let (night, day) = (1_795_357_800, 1_795_330_800);
        assert_eq!(at(true).not_before_s(false, night), Some(night + 8 * 3600 + 1800));
        assert_eq!((at(true).not_before_s(true, night), at(false).not_before_s(false, day)), (None, None));
        assert!(at(false).not_before_s(true, night).is_some() && policy(|_| {}).not_before_s(false, night).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_mail_is_a_text_of_allowed_length_or_refused(data: Vec<u8>) {
            if let Ok(sent) = policy(|s| s.text.subject = crate::settings::SubjectLine::Always).outgoing(&data) {
                proptest::prop_assert!((1..=2).contains(&sent.parts) && !sent.text.is_empty());
                proptest::prop_assert_eq!(count::cost(&sent.text).parts, u32::from(sent.parts));
            }
        }
    }
}
