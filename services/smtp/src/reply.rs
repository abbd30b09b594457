//! Replies: three digits, an enhanced status code, a text (RFC 5321 4.2, RFC 2034, RFC 3463).
//!
//! Contract: what is written to the wire is always well formed: no control characters, no line longer than the limit,
//! no bytes above 127 unless the client speaks SMTPUTF8 or the words are meant for a person ([`Refusal::also`]). A [`Refusal`] always carries a code of class 4 or 5.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

/// RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with code and CRLF.
const LINE_MAX_BYTES: usize = 512;

/// Subject and detail of an enhanced status code; its class is the first digit of the reply code (RFC 3463 2).
pub type Detail = (u16, u16);

/// A "no" of the server: for now (4yz) or for good (5yz).
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    code: u16,
    detail: Detail,
    text: Cow<'static, str>,
    own_language: Option<String>,
}

impl Refusal {
    /// A refusal with this reply code. A code outside 400 to 599 becomes 451: a refusal must never read as success.
    pub fn new(code: u16, detail: Detail, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code: if (400..600).contains(&code) { code } else { 451 }, detail, text: text.into(), own_language: None }
    }
    /// The same once more in the language of the person who signed in, behind the first and in UTF-8 whether SMTPUTF8 was asked
    /// for or not: clients ask for it only to send such addresses, and show any reply to the person. For people only, never
    /// for other servers (RFC 6531 3.7.4.1).
    #[must_use]
    pub fn also(mut self, text: impl Into<String>) -> Self {
        self.own_language = Some(text.into());
        self
    }
    /// The reply code, 400 to 599.
    #[must_use]
    pub fn code(&self) -> u16 {
        self.code
    }
    /// Subject and detail of the enhanced code.
    #[must_use]
    pub fn detail(&self) -> Detail {
        self.detail
    }
    /// The words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
    /// The client is asked to come again later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.code < 500
    }

    /// 550 5.1.1: no such mailbox here (RFC 3463 3.2).
    #[must_use]
    pub fn unknown_user() -> Self {
        Self::new(550, (1, 1), "no such mailbox here")
    }
    /// 550 5.7.1: the domain is not ours and the client may not relay.
    #[must_use]
    pub fn relay_denied() -> Self {
        Self::new(550, (7, 1), "relaying denied: this server does not serve that domain")
    }
    /// 550 5.2.1: the mailbox or its domain is suspended.
    #[must_use]
    pub fn suspended() -> Self {
        Self::new(550, (2, 1), "mailbox is disabled")
    }
    /// The mailbox is over its quota: 452 4.2.2 (the sender tries again) or 552 5.2.2 (the sender is told at once).
    #[must_use]
    pub fn over_quota(temporary: bool) -> Self {
        Self::new(if temporary { 452 } else { 552 }, (2, 2), "mailbox is full")
    }
    /// 552 5.3.4: larger than this server or this mailbox takes (RFC 1870 6).
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(552, (3, 4), "message is larger than allowed")
    }
    /// 452 4.5.3: no more recipients in this transaction (RFC 5321 4.5.3.1.10).
    #[must_use]
    pub fn too_many_recipients() -> Self {
        Self::new(452, (5, 3), "too many recipients; send the rest in another transaction")
    }
    /// 450 4.7.1: come back later (greylisting and rate limits).
    #[must_use]
    pub fn try_later() -> Self {
        Self::new(450, (7, 1), "try again later")
    }
    /// 553 5.7.1: the account signed in must not use this sender address.
    #[must_use]
    pub fn not_owner() -> Self {
        Self::new(553, (7, 1), "the account signed in may not send as this address")
    }
    /// 452 4.3.1: no room on the disk. The client keeps the message and tries again.
    #[must_use]
    pub fn disk_full() -> Self {
        Self::new(452, (3, 1), "insufficient system storage")
    }
    /// 451 4.3.0: something here failed; nothing was taken.
    #[must_use]
    pub fn trouble() -> Self {
        Self::new(451, (3, 0), "local error, nothing was accepted; try again later")
    }

    /// Writes the reply line.
    pub(crate) fn put(&self, out: &mut Vec<u8>, utf8: bool) {
        let start = out.len();
        put(out, self.code, self.detail, &self.text, utf8);
        // A line that is full has no room for a second sentence.
        if let Some(text) = &self.own_language
            && out.len() - start < LINE_MAX_BYTES
        {
            out.truncate(out.len() - 2);
            out.push(b' ');
            put_text(out, start, text, true);
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{}.{} {}", self.code, self.code / 100, self.detail.0, self.detail.1, self.text)
    }
}
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `code class.subject.detail text CRLF`. RFC 2034 4: class and first digit agree, so it is not given twice.
pub(crate) fn put(out: &mut Vec<u8>, code: u16, detail: Detail, text: &str, utf8: bool) {
    let start = out.len();
    let head = write!(out, "{code} {}.{}.{} ", code / 100, detail.0, detail.1);
    debug_assert!(head.is_ok(), "writing to a Vec does not fail");
    put_text(out, start, text, utf8);
}

/// `code text CRLF`: the greeting, the 3yz replies and those to EHLO have no enhanced code (RFC 2034 4).
pub(crate) fn put_plain(out: &mut Vec<u8>, code: u16, text: &str) {
    let start = out.len();
    let head = write!(out, "{code} ");
    debug_assert!(head.is_ok(), "writing to a Vec does not fail");
    put_text(out, start, text, false);
}

fn put_text(out: &mut Vec<u8>, start: usize, text: &str, utf8: bool) {
    for c in text.chars() {
        if out.len() - start + c.len_utf8() > LINE_MAX_BYTES - 2 {
            break;
        }
        // RFC 6531 3.7.4.1: non-ASCII replies only to those who asked for SMTPUTF8.
        let c = if c.is_control() || (!utf8 && !c.is_ascii()) { '?' } else { c };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sentence_stands_behind_the_first() {
        let mut line = Vec::new();
        Refusal::new(550, (1, 1), "no such number").also("没有这个号码").put(&mut line, false);
        assert_eq!(String::from_utf8_lossy(&line), "550 5.1.1 no such number 没有这个号码\r\n");
        line.clear();
        Refusal::new(550, (1, 1), "x".repeat(600)).also("没\r\n有").put(&mut line, false);
        assert!(line.len() <= LINE_MAX_BYTES && line.ends_with(b"\r\n") && std::str::from_utf8(&line).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_text_makes_one_clean_line(code in 0u16..1000, text in "\\PC{0,20}[\r\n\\x00-\\x20é]{0,9}\\PC{0,600}", utf8: bool) {
            let refusal = Refusal::new(code, (1, 2), text);
            proptest::prop_assert!((400..600).contains(&refusal.code()));
            let mut line = Vec::new();
            refusal.put(&mut line, utf8);
            proptest::prop_assert!(line.len() <= LINE_MAX_BYTES && line.ends_with(b"\r\n"));
            let body = &line[..line.len() - 2];
            proptest::prop_assert!(!body.iter().any(u8::is_ascii_control));
            proptest::prop_assert!(std::str::from_utf8(body).is_ok() && (utf8 || body.is_ascii()));
        }
    }
}
