//! Delivery status notices: RFC 3461 (what is asked), 3462 (the envelope of a report), 3464 (its machine part).
//!
//! A report is about one message and any number of recipients with the same action, goes to the sender with the null
//! reverse-path, and carries a sentence for a person before the fields for a machine. Nobody is told about a message that
//! came with the null sender.

use crate::client::reply::enhanced;
use crate::client::utf8_xtext;
use crate::courier::Kind;
use crate::spool::{Reply, Ret};
use std::fmt::Write;
use twinpost_message::header::header_values;
use twinpost_message::{Address, TraceId};

/// RFC 3464 2.3.3
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not delivered yet.
    Delayed,
    /// Delivered into the mailbox.
    Delivered,
    /// Handed to a server that cannot report by itself.
    Relayed,
    /// Put to the members of a list or alias.
    Expanded,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::Delivered => "delivered",
            Self::Relayed => "relayed",
            Self::Expanded => "expanded",
        }
    }
}

/// One recipient of a report.
#[derive(Clone, Debug)]
pub struct About {
    /// Its address.
    pub address: Address,
    /// ORCPT, decoded (`rfc822;name@host`).
    pub orcpt: Option<String>,
    /// The reply that decided, with the host that gave it if any.
    pub reply: Reply,
    /// Host that gave the reply.
    pub host: Option<String>,
    /// It went by a courier, which names its answers so.
    pub courier: Option<Kind>,
    /// The reply in the sender's own language.
    pub words: Option<String>,
    /// Until when it is tried, for delays (seconds since 1970 UTC).
    pub retry_until_s: Option<i64>,
}

/// What a report says.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// Our host name.
    pub host_name: &'a str,
    /// The sender that is told.
    pub sender: &'a Address,
    /// What happened.
    pub action: Action,
    /// To whom.
    pub about: &'a [About],
    /// ENVID.
    pub envid: Option<&'a str>,
    /// RET.
    pub ret: Option<Ret>,
    /// When the message came, seconds since 1970 UTC.
    pub arrived_s: i64,
    /// Now.
    pub now_s: i64,
    /// The message.
    pub original: &'a [u8],
    /// Name of the message in the logs.
    pub about_trace: TraceId,
    /// Name of the report in the logs.
    pub trace: TraceId,
}

/// A returned message larger than this is cut to its header, whatever RET says.
const RETURN_MAX_BYTES: usize = 1 << 20;

/// `4.2.2` or `5.1.1` of a reply; a guess by its first digit when it has none (RFC 3463).
#[must_use]
pub fn status(reply: &Reply, action: Action) -> String {
    let said = enhanced(&reply.text);
    let class = match action {
        // RFC 3463 2: 4.x.x beside a failure says that a later try of the sender's may succeed; it was given up for time.
        Action::Failed => match (reply.code, said) {
            (400..=499, _) => "4",
            (0, Some(said)) if said.starts_with('4') => "4",
            _ => "5",
        },
        Action::Delayed => "4",
        Action::Delivered | Action::Relayed | Action::Expanded => "2",
    };
    match said {
        Some(said) => format!("{class}{}", &said[1..]),
        // RFC 3463 3.5: delivery time expired.
        None if action == Action::Failed && class == "4" => "4.4.7".to_owned(),
        None => format!("{class}.0.0"),
    }
}

/// A header value without anything that could begin another header, and short enough for one line (RFC 5322 2.1.1).
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text[..text.floor_char_boundary(900)].to_owned()
}

/// For fields that are ASCII (RFC 3464 2.1.1).
fn ascii(text: &str) -> String {
    clean(text).chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// An address as it can stand in a header: only a local part beyond ASCII needs UTF-8 there.
fn shown(address: &Address) -> String {
    if address.needs_smtputf8() { address.to_string() } else { address.to_ascii_domain() }
}

/// The returned message can be part of a mail: no line ends but CRLF, no NUL, no line that is too long.
fn is_mail(bytes: &[u8]) -> bool {
    let mut start = 0;
    let whole_lines = memchr::memchr2_iter(b'\r', b'\n', bytes).all(|at| match bytes[at] {
        b'\r' => bytes.get(at + 1) == Some(&b'\n') && at - std::mem::replace(&mut start, at + 2) <= 998,
        _ => at > 0 && bytes[at - 1] == b'\r',
    });
    whole_lines && bytes.len().saturating_sub(start) <= 998 && memchr::memchr(0, bytes).is_none()
}

/// The original's Message-ID, so that the report stands in its thread (RFC 5322 3.6.4).
fn message_id(header: &[u8]) -> Option<String> {
    let id = header_values(header, "Message-ID", None).into_iter().next()?;
    let fits = id.starts_with('<') && id.ends_with('>') && id.len() <= 250 && id.bytes().all(|b| b.is_ascii_graphic());
    fits.then_some(id)
}

/// RFC 5322 3.3, in UTC.
#[must_use]
pub fn date(seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    at.format(&time::format_description::well_known::Rfc2822).unwrap_or_default()
}

fn header_end(message: &[u8]) -> usize {
    memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 2)
}

impl Notice<'_> {
    fn sentence(&self) -> (&'static str, &'static str) {
        match self.action {
            Action::Failed => (
                "Your message could not be delivered",
                "Your message could not be delivered to the recipients below. It will not be tried again.",
            ),
            Action::Delayed => (
                "Your message is delayed",
                "Your message has not been delivered to the recipients below yet. It will be tried again; you need not send it again.",
            ),
            Action::Delivered => {
                ("Your message was delivered", "Your message was delivered to the recipients below, as you asked to be told.")
            }
            Action::Relayed => (
                "Your message was handed on",
                "Your message was handed on for the recipients below to a server that sends no delivery notices. You will hear nothing more unless it fails.",
            ),
            Action::Expanded => (
                "Your message was handed to a group",
                "Your message was handed to the members of the groups below. You will hear nothing more about them.",
            ),
        }
    }

    /// The report as a message, with CRLF.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let (subject, sentence) = self.sentence();
        let boundary = format!("report-{}", self.trace);
        // RFC 6533 3: the form with UTF-8 goes only to those who use UTF-8 in addresses themselves.
        let utf8 = self.sender.needs_smtputf8();
        let header = &self.original[..header_end(self.original)];
        let reference = message_id(header).map_or(String::new(), |id| format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{trace}@{host}>\r\n{reference}\
             Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{sentence}\r\n",
            host = self.host_name,
            to = shown(self.sender),
            date = date(self.now_s),
            trace = self.trace,
        );
        for about in self.about {
            let _ = write!(text, "\r\n  {}\r\n", about.address);
            if !about.reply.text.is_empty() {
                let code = if about.reply.code == 0 { String::new() } else { format!("{} ", about.reply.code) };
                let host = about.host.as_deref().map_or(String::new(), |h| format!("{h} said: "));
                let _ = write!(text, "    {host}{code}{}\r\n", clean(&about.reply.text));
            }
            if let Some(words) = &about.words {
                let _ = write!(text, "    {}\r\n", clean(words));
            }
            if let Some(until) = about.retry_until_s {
                let _ = write!(text, "    It is tried until {}.\r\n", date(until));
            }
        }
        let _ = write!(text, "\r\nThe number of your message in the logs of {} is {}.\r\n", self.host_name, self.about_trace);
        // RFC 3464 2.1, RFC 6533 for addresses beyond ASCII.
        let kind = if utf8 { "message/global-delivery-status" } else { "message/delivery-status" };
        let encoding = if utf8 { "Content-Transfer-Encoding: 8bit\r\n" } else { "" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n{encoding}\r\n");
        if let Some(envid) = self.envid {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", ascii(envid));
        }
        let _ = write!(text, "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n", self.host_name, date(self.arrived_s));
        for about in self.about {
            self.fields(about, utf8, &mut text);
        }
        let mut message = text.into_bytes();
        self.returned(header, &boundary, &mut message);
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        message
    }

    /// RFC 3464 2.3: the fields of one recipient.
    fn fields(&self, about: &About, utf8: bool, text: &mut String) {
        let free = |value: &str| if utf8 { clean(value) } else { ascii(value) };
        text.push_str("\r\n");
        // Writing to a String cannot fail.
        if let Some((kind, original)) = about.orcpt.as_deref().and_then(|o| o.split_once(';')) {
            // RFC 6533 3: in an ASCII report such an address stands in its ASCII form.
            let original = if original.is_ascii() || utf8 { clean(original) } else { utf8_xtext(original) };
            let _ = write!(text, "Original-Recipient: {};{original}\r\n", ascii(kind));
        }
        let (kind, address) = match about.address.needs_smtputf8() {
            false => ("rfc822", about.address.to_ascii_domain()),
            true if utf8 => ("utf-8", about.address.to_string()),
            true => ("utf-8", utf8_xtext(&about.address.to_string())),
        };
        let _ = write!(
            text,
            "Final-Recipient: {kind}; {address}\r\nAction: {}\r\nStatus: {}\r\n",
            self.action.name(),
            status(&about.reply, self.action)
        );
        if let Some(host) = &about.host {
            let _ = write!(text, "Remote-MTA: {}; {}\r\n", about.courier.map_or("dns", |c| c.mta), ascii(host));
        }
        if about.reply.code != 0 {
            let _ = write!(text, "Diagnostic-Code: smtp; {} {}\r\n", about.reply.code, free(&about.reply.text));
        } else if !about.reply.text.is_empty() {
            // RFC 3464 2.3.6: the type says whose words these are.
            let kind = about.courier.map_or("x-twinpost", |c| c.diagnostic);
            let _ = write!(text, "Diagnostic-Code: {kind}; {}\r\n", free(&about.reply.text));
        }
        if matches!(self.action, Action::Failed | Action::Delayed) {
            let _ = write!(text, "Last-Attempt-Date: {}\r\n", date(self.now_s));
        }
        let _ = write!(text, "Final-Log-ID: {}\r\n", self.about_trace);
        if let Some(until) = about.retry_until_s {
            let _ = write!(text, "Will-Retry-Until: {}\r\n", date(until));
        }
    }

    /// RFC 3461 6.2: the whole message only for failures, and only if asked or not asked at all.
    fn returned(&self, header: &[u8], boundary: &str, message: &mut Vec<u8>) {
        let whole = self.action == Action::Failed
            && self.ret != Some(Ret::Headers)
            && self.original.len() <= RETURN_MAX_BYTES
            && is_mail(self.original);
        // RFC 6533 4: a header with UTF-8 makes it the international type.
        let kind = match (whole, header.is_ascii() || std::str::from_utf8(header).is_err()) {
            (true, true) => "message/rfc822",
            (true, false) => "message/global",
            (false, true) => "text/rfc822-headers",
            (false, false) => "message/global-headers",
        };
        let repaired;
        let returned = if whole {
            self.original
        } else if is_mail(header) {
            header
        } else {
            repaired = header_lines(header);
            &repaired
        };
        let eight = if returned.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
        message.extend_from_slice(format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{eight}\r\n").as_bytes());
        message.extend_from_slice(returned);
        if !message.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
    }
}

/// A header that is none by its line ends or lengths, made readable.
fn header_lines(header: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(header.len() + 64);
    for line in header.split(|b| matches!(b, b'\r' | b'\n')).filter(|l| !l.is_empty()) {
        lines.extend(line.iter().take(900).map(|b| if *b == 0 { b'?' } else { *b }));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(text: &str) -> About {
        About {
            address: Address::parse("b@y.example").unwrap(),
            orcpt: Some("rfc822;B@y.example".into()),
            reply: Reply { code: 550, text: text.into() },
            host: Some("mx.y.example".into()),
            courier: None,
            words: None,
            retry_until_s: None,
        }
    }

    fn notice(action: Action, about: &[About], ret: Option<Ret>, original: &[u8]) -> String {
        let sender = Address::parse("a@x.example").unwrap();
        let notice = Notice {
            host_name: "mail.x.example",
            sender: &sender,
            action,
            about,
            envid: Some("Q1"),
            ret,
            arrived_s: 0,
            now_s: 60,
            original,
            about_trace: TraceId(7),
            trace: TraceId(8),
        };
        String::from_utf8_lossy(&notice.build()).into_owned()
    }

    const ORIGINAL: &[u8] = b"Subject: s\r\n\r\nsecret body\r\n";

    #[test]
    fn a_failure_returns_the_message_and_a_delay_only_its_header() {
        let failed = notice(Action::Failed, &[about("5.1.1 no such user")], None, ORIGINAL);
        for line in [
            "Original-Envelope-Id: Q1",
            "Original-Recipient: rfc822;B@y.example",
            "Final-Recipient: rfc822; b@y.example",
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Remote-MTA: dns; mx.y.example",
            "secret body",
        ] {
            assert!(failed.contains(line), "{line} is missing in {failed}");
        }
        assert!(!notice(Action::Failed, &[about("no")], Some(Ret::Headers), ORIGINAL).contains("secret body"));
        assert!(!notice(Action::Delayed, &[about("no")], Some(Ret::Full), ORIGINAL).contains("secret body"));
    }

    #[test]
    fn a_reply_cannot_add_a_header() {
        let text = notice(Action::Failed, &[about("5.1.1 no\r\nAction: delivered\r\n\r\n--x")], None, ORIGINAL);
        assert!(!text.contains("\r\nAction: delivered"));
    }

    #[test]
    fn the_status_fits_the_action() {
        let reply = |text: &str| Reply { code: 0, text: text.into() };
        assert_eq!(status(&reply("4.4.1 no connection"), Action::Failed), "4.4.1");
        assert_eq!(status(&reply("go away"), Action::Failed), "5.0.0");
        let coded = |code, text: &str| Reply { code, text: text.into() };
        assert_eq!(status(&coded(450, "try later"), Action::Failed), "4.4.7");
        assert_eq!(status(&coded(550, "4.7.1 odd"), Action::Failed), "5.7.1");
        assert_eq!(status(&coded(450, "5.1.1 odd"), Action::Delayed), "4.1.1");
        assert_eq!(status(&reply("2.1.5 ok"), Action::Relayed), "2.1.5");
        assert_eq!(status(&reply("5.1.1234 x"), Action::Failed), "5.0.0");
    }

    proptest::proptest! {
        #[test]
        fn any_reply_and_message_make_a_report_whose_parts_end(text in "\\PC{0,100}", original in proptest::collection::vec(0u8..=255, 0..300)) {
            let report = notice(Action::Failed, &[about(&text)], None, &original);
            proptest::prop_assert!(report.ends_with("--\r\n"));
        }
    }
}
