//! Judges a `Submit` before it comes to the desk: on the client's own task, because cutting a text costs time.

use crate::api::{Class, KEY_MAX_BYTES, Reason, Submit, TEXT_MAX_BYTES};
use crate::book::Draft;
use crate::settings::{Limits, Pace};
use crate::{reasons, text};
use twinpost_gsm::Address;

/// Longest account or domain, in bytes.
const NAME_MAX_BYTES: usize = 320;

/// A message that can be sent, or why not.
pub(crate) fn draft(s: Submit, pace: &Pace, limits: &Limits, now_ms: i64) -> Result<Draft, Reason> {
    if s.key.is_empty() || s.key.len() > KEY_MAX_BYTES || !s.key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(reasons::bad_key());
    }
    let number = Address::parse(&s.to).map_err(|e| reasons::bad_number(&e.to_string()))?;
    if number.value().len() < 2 {
        return Err(reasons::bad_number("it has one digit only"));
    }
    if s.text.trim().is_empty() {
        return Err(reasons::empty_text());
    }
    let most = s.parts_max.unwrap_or(limits.parts).clamp(1, limits.parts.max(1));
    if s.text.len() > TEXT_MAX_BYTES {
        return Err(reasons::too_long(s.text.len().div_ceil(153), most));
    }
    let parts =
        text::parts(&s.text, most).map_err(|e| reasons::too_long(usize::try_from(e.parts).unwrap_or(usize::MAX), most))?;
    let validity = s.validity_s.map_or_else(
        || match s.class {
            Class::Alarm => pace.alarm_validity,
            Class::Notice => pace.notice_validity,
            Class::Person => pace.person_validity,
        },
        |s| std::time::Duration::from_secs(u64::from(s.max(1))),
    );
    let to = number.to_string();
    let mut hash = blake3::Hasher::new();
    hash.update(to.as_bytes());
    hash.update(&[0, u8::from(s.flash), u8::from(s.report)]);
    hash.update(s.text.as_bytes());
    let short = |name: Option<String>| name.filter(|n| n.len() <= NAME_MAX_BYTES);
    Ok(Draft {
        key: s.key,
        digest: *hash.finalize().as_bytes(),
        class: s.class,
        to,
        text: s.text,
        account: short(s.account),
        domain: short(s.domain),
        report: s.report,
        flash: s.flash,
        durable: s.durable,
        parts,
        submitted_ms: now_ms,
        deadline_ms: now_ms.saturating_add(i64::try_from(validity.as_millis()).unwrap_or(i64::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(to: &str, text: &str) -> Submit {
        Submit {
            key: "k".into(),
            class: Class::Person,
            to: to.into(),
            text: text.into(),
            validity_s: None,
            report: false,
            flash: false,
            durable: false,
            account: None,
            domain: None,
            parts_max: Some(2),
        }
    }

    fn judge(s: Submit) -> Result<Draft, Reason> {
        draft(s, &Pace::default(), &Limits::default(), 1_000)
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_a_reason() {
        assert_eq!(judge(submit("+86 138-0013 8000", "hi")).unwrap().to, "+8613800138000");
        for (to, text) in [("", "x"), ("12a4", "x"), ("5", "x"), ("123456789012345678901", "x"), ("10086", " \n")] {
            assert!(judge(submit(to, text)).unwrap_err().permanent, "{to} {text}");
        }
        let long = judge(submit("10086", &"水".repeat(135))).unwrap_err();
        assert!(long.text.contains("3 parts and 2 are allowed"), "{}", long.text);
        assert_eq!(judge(submit("10086", &"水".repeat(134))).unwrap().parts, 2);
        let mut key = submit("10086", "x");
        key.key = "a b".into();
        assert!(judge(key).is_err());
    }

    #[test]
    fn the_digest_tells_messages_apart() {
        let a = judge(submit("10086", "x")).unwrap();
        assert_eq!(a.digest, judge(submit("10086", "x")).unwrap().digest);
        assert_ne!(a.digest, judge(submit("10086", "y")).unwrap().digest);
        assert_ne!(a.digest, judge(submit("10010", "x")).unwrap().digest);
    }
}
