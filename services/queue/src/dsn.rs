//! Delivery status notices: RFC 3461 (what is asked), 3462 (the envelope of a report), 3464 (its machine part).
//!
//! A report is about one message and any number of recipients with the same action, goes to the sender with the null
//! reverse-path, and carries a sentence for a person before the fields for a machine. Nobody is told about a message that
//! came with the null sender.

use crate::spool::{Reply, Ret};
use std::fmt::Write;
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
    let first = reply.text.split_whitespace().next().unwrap_or_default();
    let parts: Vec<&str> = first.split('.').collect();
    let is_status = parts.len() == 3
        && matches!(parts[0], "2" | "4" | "5")
        && parts[1..].iter().all(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()));
    let class = match action {
        Action::Failed => "5",
        Action::Delayed => "4",
        Action::Delivered | Action::Relayed | Action::Expanded => "2",
    };
    // RFC 3464 2.3.4: the class of the status must fit the action; a 4.x.x that expired has failed for good.
    if is_status { format!("{class}.{}.{}", parts[1], parts[2]) } else { format!("{class}.0.0") }
}

/// A header value without anything that could begin another header.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(900).collect()
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
        let utf8 = !self.sender.to_string().is_ascii()
            || self.about.iter().any(|a| !a.address.to_string().is_ascii() || !a.reply.text.is_ascii());
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {date}\r\nMessage-ID: <{trace}@{host}>\r\n\
             Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type={kind};\r\n boundary=\"{boundary}\"\r\n\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{sentence}\r\n",
            host = self.host_name,
            to = self.sender,
            date = date(self.now_s),
            trace = self.trace,
            kind = "delivery-status",
        );
        for about in self.about {
            let _ = write!(text, "\r\n  {}\r\n", about.address);
            if !about.reply.text.is_empty() {
                let code = if about.reply.code == 0 { String::new() } else { format!("{} ", about.reply.code) };
                let host = about.host.as_deref().map_or(String::new(), |h| format!("{h} said: "));
                let _ = write!(text, "    {host}{code}{}\r\n", clean(&about.reply.text));
            }
            if let Some(until) = about.retry_until_s {
                let _ = write!(text, "    It is tried until {}.\r\n", date(until));
            }
        }
        let _ = write!(text, "\r\nThe number of your message in the logs of {} is {}.\r\n", self.host_name, self.about_trace);
        // RFC 3464 2.1, RFC 6533 for addresses beyond ASCII.
        let kind = if utf8 { "message/global-delivery-status" } else { "message/delivery-status" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n\r\n");
        if let Some(envid) = self.envid {
            let _ = write!(text, "Original-Envelope-Id: {}\r\n", clean(envid));
        }
        let _ = write!(text, "Reporting-MTA: dns; {}\r\nArrival-Date: {}\r\n", self.host_name, date(self.arrived_s));
        for about in self.about {
            text.push_str("\r\n");
            if let Some(orcpt) = &about.orcpt {
                let _ = write!(text, "Original-Recipient: {}\r\n", clean(orcpt));
            }
            let kind = if about.address.to_string().is_ascii() { "rfc822" } else { "utf-8" };
            let _ = write!(
                text,
                "Final-Recipient: {kind}; {}\r\nAction: {}\r\nStatus: {}\r\n",
                about.address,
                self.action.name(),
                status(&about.reply, self.action)
            );
            if let Some(host) = &about.host {
                let _ = write!(text, "Remote-MTA: dns; {}\r\n", clean(host));
            }
            if about.reply.code != 0 {
                let _ = write!(text, "Diagnostic-Code: smtp; {} {}\r\n", about.reply.code, clean(&about.reply.text));
            } else if !about.reply.text.is_empty() {
                let _ = write!(text, "Diagnostic-Code: x-twinpost; {}\r\n", clean(&about.reply.text));
            }
            if let Some(until) = about.retry_until_s {
                let _ = write!(text, "Will-Retry-Until: {}\r\n", date(until));
            }
        }
        // RFC 3461 6.2: the whole message only for failures, and only if asked or not asked at all.
        let whole = self.action == Action::Failed && self.ret != Some(Ret::Headers) && self.original.len() <= RETURN_MAX_BYTES;
        let (kind, returned) = if whole {
            ("message/rfc822", self.original)
        } else {
            ("text/rfc822-headers", &self.original[..header_end(self.original)])
        };
        let eight = if returned.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
        let _ = write!(text, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n{eight}\r\n");
        let mut message = text.into_bytes();
        message.extend_from_slice(returned);
        if !message.ends_with(b"\r\n") {
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        message
    }
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
        assert_eq!(status(&reply("4.4.1 no connection"), Action::Failed), "5.4.1");
        assert_eq!(status(&reply("go away"), Action::Failed), "5.0.0");
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
