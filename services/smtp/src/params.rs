//! Parameters of MAIL and RCPT (RFC 5321 4.1.1.11) and xtext (RFC 3461 4).
//!
//! Contract: any bytes in, a value or one refusal out; a parameter given twice, empty or with a wrong value is 501, an
//! unknown one 555 (RFC 5321 4.1.1.11).

use crate::{Refusal, path};
use twinpost_message::Address;

/// Which bytes the client says the body holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Body {
    /// ASCII lines.
    #[default]
    SevenBit,
    /// Lines of any bytes (RFC 6152).
    EightBit,
    /// Any bytes; line ends mean nothing (RFC 3030). Comes by BDAT only.
    Binary,
}

/// What a failure report carries back (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

/// When the sender wants reports about a recipient (RFC 3461 4.1). All false is NEVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// On delivery.
    pub success: bool,
    /// On failure.
    pub failure: bool,
    /// On delay.
    pub delay: bool,
}

/// ORCPT: the recipient as the first sender wrote it (RFC 3461 4.2, RFC 6533 3), decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// `rfc822`, `utf-8`, ... in lower case.
    pub kind: String,
    /// The address, decoded.
    pub address: String,
}

/// Parameters of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParams {
    /// SIZE= in bytes (RFC 1870).
    pub size_bytes: Option<u64>,
    /// BODY=.
    pub body: Body,
    /// SMTPUTF8 (RFC 6531 3.4).
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded.
    pub envid: Option<String>,
    /// AUTH=: who first submitted the message; `Some(None)` is `<>`, unknown (RFC 4954 5). A claim, not a proof.
    pub submitter: Option<Option<Address>>,
}

/// Parameters of RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptParams {
    /// NOTIFY=.
    pub notify: Option<Notify>,
    /// ORCPT=.
    pub original: Option<OriginalRecipient>,
}

fn wrong(text: &'static str) -> Refusal {
    Refusal::new(501, (5, 4), text)
}
fn unknown() -> Refusal {
    Refusal::new(555, (5, 4), "parameter not recognized or not implemented")
}

/// Sets a parameter once.
fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong("parameter given twice")),
    }
}

/// The words of a parameter list as (KEYWORD, value).
fn words(text: &str) -> impl Iterator<Item = Result<(String, Option<&str>), Refusal>> {
    text.split(' ').filter(|w| !w.is_empty()).map(|word| {
        let (key, value) = word.split_once('=').map_or((word, None), |(k, v)| (k, Some(v)));
        // esmtp-keyword and esmtp-value, RFC 5321 4.1.2; RFC 6531 3.3 lets values hold UTF-8.
        let fits = key.starts_with(|c: char| c.is_ascii_alphanumeric())
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && value.is_none_or(|v| !v.is_empty() && !v.chars().any(char::is_control));
        if fits { Ok((key.to_ascii_uppercase(), value)) } else { Err(wrong("parameters are written KEYWORD=value")) }
    })
}

impl MailParams {
    /// Parses what follows the path of MAIL.
    ///
    /// # Errors
    /// The reply to give.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (mut size, mut body, mut smtputf8, mut ret) = (None, None, None, None);
        let (mut envid, mut submitter) = (None, None);
        for word in words(text) {
            match word? {
                // RFC 1870 3: at most 20 digits. What does not fit 64 bits is larger than any limit.
                (key, Some(v)) if key == "SIZE" => {
                    if v.len() > 20 || !v.bytes().all(|b| b.is_ascii_digit()) {
                        return Err(wrong("SIZE takes a number of bytes"));
                    }
                    once(&mut size, v.parse().unwrap_or(u64::MAX))?;
                }
                (key, Some(v)) if key == "BODY" => {
                    let kind = match v.to_ascii_uppercase().as_str() {
                        "7BIT" => Body::SevenBit,
                        "8BITMIME" => Body::EightBit,
                        "BINARYMIME" => Body::Binary,
                        _ => return Err(wrong("BODY takes 7BIT, 8BITMIME or BINARYMIME")),
                    };
                    once(&mut body, kind)?;
                }
                (key, None) if key == "SMTPUTF8" => once(&mut smtputf8, ())?,
                (key, Some(v)) if key == "RET" => {
                    let kind = match v.to_ascii_uppercase().as_str() {
                        "FULL" => Ret::Full,
                        "HDRS" => Ret::Headers,
                        _ => return Err(wrong("RET takes FULL or HDRS")),
                    };
                    once(&mut ret, kind)?;
                }
                (key, Some(v)) if key == "ENVID" => {
                    // RFC 3461 4.4: at most 100 characters, printable after decoding.
                    let id = decode_xtext(v).filter(|_| v.len() <= 100);
                    once(&mut envid, id.ok_or_else(|| wrong("ENVID takes xtext of at most 100 characters"))?)?;
                }
                (key, Some(v)) if key == "AUTH" => {
                    let who = match v {
                        "<>" => None,
                        v => {
                            let text = decode_xtext(v).filter(|_| v.len() <= 500);
                            let who = text.and_then(|t| Address::parse(&t).ok());
                            Some(who.ok_or_else(|| wrong("AUTH takes <> or an address in xtext"))?)
                        }
                    };
                    once(&mut submitter, who)?;
                }
                (key, _) if ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH"].contains(&key.as_str()) => {
                    return Err(wrong("value missing, or given where none belongs"));
                }
                _ => return Err(unknown()),
            }
        }
        Ok(Self { size_bytes: size, body: body.unwrap_or_default(), smtputf8: smtputf8.is_some(), ret, envid, submitter })
    }
}

impl RcptParams {
    /// Parses what follows the path of RCPT.
    ///
    /// # Errors
    /// The reply to give.
    pub fn parse(text: &str, smtputf8: bool) -> Result<Self, Refusal> {
        let (mut notify, mut original) = (None, None);
        for word in words(text) {
            match word? {
                (key, Some(v)) if key == "NOTIFY" => once(&mut notify, parse_notify(v)?)?,
                (key, Some(v)) if key == "ORCPT" => once(&mut original, parse_orcpt(v, smtputf8)?)?,
                (key, None) if ["NOTIFY", "ORCPT"].contains(&key.as_str()) => return Err(wrong("value missing")),
                _ => return Err(unknown()),
            }
        }
        Ok(Self { notify, original })
    }
}

fn parse_notify(text: &str) -> Result<Notify, Refusal> {
    let fault = || wrong("NOTIFY takes NEVER, or a list of SUCCESS, FAILURE and DELAY");
    let mut notify = Notify { success: false, failure: false, delay: false };
    // RFC 3461 4.1: NEVER stands alone.
    if text.eq_ignore_ascii_case("NEVER") {
        return Ok(notify);
    }
    for word in text.split(',') {
        let slot = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return Err(fault()),
        };
        if std::mem::replace(slot, true) {
            return Err(fault());
        }
    }
    Ok(notify)
}

fn parse_orcpt(text: &str, smtputf8: bool) -> Result<OriginalRecipient, Refusal> {
    let fault = || wrong("ORCPT takes type;xtext of at most 500 characters");
    let (kind, address) = text.split_once(';').ok_or_else(fault)?;
    if text.len() > 500 || kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(fault());
    }
    let kind = kind.to_ascii_lowercase();
    let address = if kind == "utf-8" { decode_utf8_address(address, smtputf8) } else { decode_xtext(address) };
    match address {
        Some(address) if !address.is_empty() => Ok(OriginalRecipient { kind, address }),
        _ => Err(fault()),
    }
}

/// xtext to text (RFC 3461 4): `+` and two upper-case hex digits stand for a byte. Only printable ASCII may come out:
/// the value is put into reports that others read.
#[must_use]
pub fn decode_xtext(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let b = match b {
            b'+' => {
                let digit = |b: u8| match b {
                    b'0'..=b'9' => Some(b - b'0'),
                    b'A'..=b'F' => Some(b - b'A' + 10),
                    _ => None,
                };
                digit(bytes.next()?)? << 4 | digit(bytes.next()?)?
            }
            b'!'..=b'~' if b != b'=' => b,
            _ => return None,
        };
        if !(b' '..=b'~').contains(&b) {
            return None;
        }
        plain.push(char::from(b));
    }
    Some(plain)
}

/// Text to xtext (RFC 3461 4).
#[must_use]
pub fn encode_xtext(text: &str) -> String {
    use std::fmt::Write as _;
    let mut coded = String::with_capacity(text.len());
    for b in text.bytes() {
        if matches!(b, b'!'..=b'~') && b != b'+' && b != b'=' {
            coded.push(char::from(b));
        } else {
            // Writing to a String does not fail.
            let _ = write!(coded, "+{b:02X}");
        }
    }
    coded
}

/// RFC 6533 3: `\x{HEX}` stands for a character; UTF-8 itself may stand where SMTPUTF8 is in force.
fn decode_utf8_address(text: &str, smtputf8: bool) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(tail) = rest.strip_prefix("\\x{") {
            let (hex, tail) = tail.split_once('}')?;
            if !(2..=6).contains(&hex.len()) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
            if c.is_control() {
                return None;
            }
            plain.push(c);
            rest = tail;
            continue;
        }
        let fits =
            if c.is_ascii() { ('!'..='~').contains(&c) && !['\\', '+', '='].contains(&c) } else { smtputf8 && !c.is_control() };
        if !fits {
            return None;
        }
        plain.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(plain)
}

/// Runs the parsers on any bytes.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = (MailParams::parse(&text), RcptParams::parse(&text, true), RcptParams::parse(&text, false));
    let _ = path::split(&text);
    assert_eq!(decode_xtext(&encode_xtext("a+b=c d")).as_deref(), Some("a+b=c d"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_parameters() {
        let p =
            MailParams::parse("SIZE=1024 body=8bitmime SMTPUTF8 RET=HDRS ENVID=QQ314159+20x AUTH=e+3Dmc2@example.com").unwrap();
        assert_eq!((p.size_bytes, p.body, p.smtputf8, p.ret), (Some(1024), Body::EightBit, true, Some(Ret::Headers)));
        assert_eq!(p.envid.as_deref(), Some("QQ314159 x"));
        assert_eq!(p.submitter.flatten().map(|a| a.to_string()).as_deref(), Some("e=mc2@example.com"));
        assert_eq!(MailParams::parse("AUTH=<>").unwrap().submitter, Some(None));
        assert_eq!(MailParams::parse("SIZE=99999999999999999999").unwrap().size_bytes, Some(u64::MAX));
        for (text, code) in [
            ("SIZE", 501),
            ("SIZE=", 501),
            ("SIZE=-1", 501),
            ("SIZE=1 SIZE=1", 501),
            ("SIZE=999999999999999999999", 501),
            ("BODY=9BIT", 501),
            ("SMTPUTF8=1", 501),
            ("SMTPUTF8 SMTPUTF8", 501),
            ("RET=ALL", 501),
            ("ENVID=a+2", 501),
            ("ENVID=a+0A", 501),
            ("ENVID=a=b", 501),
            ("AUTH=nobody", 501),
            ("-X=1", 501),
            ("=1", 501),
            ("HOLDFOR=30", 555),
            ("NOTIFY=NEVER", 555),
        ] {
            assert_eq!(MailParams::parse(text).map_err(|r| r.code()), Err(code), "{text}");
        }
    }

    #[test]
    fn rcpt_parameters() {
        let p = RcptParams::parse("NOTIFY=success,DELAY ORCPT=rfc822;Bob+2B1@Example.COM", false).unwrap();
        assert_eq!(p.notify, Some(Notify { success: true, failure: false, delay: true }));
        assert_eq!(p.original, Some(OriginalRecipient { kind: "rfc822".into(), address: "Bob+1@Example.COM".into() }));
        let p = RcptParams::parse("ORCPT=utf-8;\\x{5F20}@x.example", false).unwrap();
        assert_eq!(p.original.unwrap().address, "张@x.example");
        assert!(RcptParams::parse("ORCPT=utf-8;张@x.example", true).is_ok());
        for (text, code) in [
            ("NOTIFY=", 501),
            ("NOTIFY", 501),
            ("NOTIFY=NEVER,SUCCESS", 501),
            ("NOTIFY=SUCCESS,SUCCESS", 501),
            ("NOTIFY=NEVER NOTIFY=NEVER", 501),
            ("ORCPT=rfc822", 501),
            ("ORCPT=;a", 501),
            ("ORCPT=rfc822;", 501),
            ("ORCPT=utf-8;\\x{A}@x", 501),
            ("ORCPT=utf-8;\\x{0A}@x", 501),
            ("ORCPT=utf-8;张@x.example", 501),
            ("SIZE=1", 555),
        ] {
            assert_eq!(RcptParams::parse(text, false).map_err(|r| r.code()), Err(code), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn xtext_round_trip(text in "[ -~]{0,60}") {
            proptest::prop_assert_eq!(decode_xtext(&encode_xtext(&text)), Some(text));
        }
        #[test]
        fn any_bytes(data in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            fuzz(&data);
        }
        #[test]
        fn near_misses(text in "(SIZE|BODY|RET|ENVID|AUTH|NOTIFY|ORCPT|SMTPUTF8)[=;]?[+\\\\x{}0-9A-Fa-f;,<>@. ]{0,20}") {
            fuzz(text.as_bytes());
        }
    }
}
