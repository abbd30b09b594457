//! What the server writes above a message: Return-Path, Received, and on submission what the client forgot.

use crate::{Client, Envelope, Role, Settings};
use std::io::Write as _;
use std::net::IpAddr;
use twinpost_message::Address;

/// `Sun, 22 Nov 2026 00:00:00 +0000` (RFC 5322 3.3). UTC: a node's zone may change, its history may not.
#[must_use]
pub fn date(unix_s: i64) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let t = time::OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{}, {} {} {:04} {:02}:{:02}:{:02} +0000",
        DAYS[usize::from(t.weekday().number_days_from_monday())],
        t.day(),
        MONTHS[usize::from(u8::from(t.month())) - 1],
        t.year(),
        t.hour(),
        t.minute(),
        t.second()
    )
}

/// Writes Return-Path (RFC 5321 4.4).
pub(crate) fn put_return_path(out: &mut Vec<u8>, sender: Option<&Address>, smtputf8: bool) {
    out.extend_from_slice(b"Return-Path: <");
    match sender {
        None => {}
        Some(a) if smtputf8 || a.domain().is_ascii() => put(out, format_args!("{a}")),
        Some(a) => out.extend_from_slice(a.to_ascii_domain().as_bytes()),
    }
    out.extend_from_slice(b">\r\n");
}

/// Writes Received (RFC 5321 4.4). The client's name is what it claims; what we know is its address.
pub(crate) fn put_received(out: &mut Vec<u8>, client: &Client, envelope: &Envelope, settings: &Settings) {
    let ip = match client.peer.ip() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    };
    put(out, format_args!("Received: from {} ({ip})\r\n\tby {} with {}", client.helo, settings.host, protocol(client, envelope)));
    if let Some(tls) = &client.tls {
        put(out, format_args!("\r\n\t({} {})", tls.version, tls.cipher));
    }
    put(out, format_args!("\r\n\tid {}", envelope.trace));
    // One recipient only: the others are nobody's business (RFC 5321 7.2).
    if let [only] = envelope.recipients.as_slice()
        && (envelope.mail.params.smtputf8 || !only.address.needs_smtputf8())
    {
        let address = &only.address;
        if address.domain().is_ascii() || envelope.mail.params.smtputf8 {
            put(out, format_args!("\r\n\tfor <{address}>"));
        } else {
            put(out, format_args!("\r\n\tfor <{}>", address.to_ascii_domain()));
        }
    }
    put(out, format_args!(";\r\n\t{}\r\n", date(envelope.received_s)));
}

/// The `with` word: RFC 3848, RFC 6531 4.3.
fn protocol(client: &Client, envelope: &Envelope) -> String {
    let base = match (client.role, client.extended, envelope.mail.params.smtputf8) {
        (Role::Lmtp, _, true) => "UTF8LMTP",
        (Role::Lmtp, _, false) => "LMTP",
        (_, true, true) => "UTF8SMTP",
        (_, true, false) => "ESMTP",
        (_, false, _) => return "SMTP".to_owned(),
    };
    let tls = if client.tls.is_some() { "S" } else { "" };
    let auth = if client.identity.is_some() { "A" } else { "" };
    format!("{base}{tls}{auth}")
}

/// Writes what a message submitted without Date, Message-ID or From lacks (RFC 6409 8.2, 8.3).
pub(crate) fn put_missing(out: &mut Vec<u8>, has_date: bool, has_id: bool, has_from: bool, envelope: &Envelope, host: &str) {
    if !has_date {
        put(out, format_args!("Date: {}\r\n", date(envelope.received_s)));
    }
    if !has_id {
        put(out, format_args!("Message-ID: <{}.{}@{host}>\r\n", envelope.trace, envelope.received_s));
    }
    if let (false, Some(sender)) = (has_from, &envelope.mail.sender) {
        put(out, format_args!("From: <{sender}>\r\n"));
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let wrote = out.write_fmt(text);
    debug_assert!(wrote.is_ok(), "writing to a Vec does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mail, MailParams, Rcpt, RcptParams, Tls};
    use twinpost_message::TraceId;

    #[test]
    fn dates() {
        assert_eq!(date(0), "Thu, 1 Jan 1970 00:00:00 +0000");
        assert_eq!(date(951_827_696), "Tue, 29 Feb 2000 12:34:56 +0000");
        assert_eq!(date(1_795_305_600), "Sun, 22 Nov 2026 00:00:00 +0000");
        assert_eq!(date(i64::MAX), date(0));
    }

    #[test]
    fn received_says_how_it_came() {
        let mut client = Client {
            role: Role::Mx,
            peer: "192.0.2.7:4000".parse().unwrap(),
            helo: "mail.example".into(),
            extended: true,
            tls: Some(Tls { version: "TLSv1.3".into(), cipher: "TLS13_AES_256_GCM_SHA384".into() }),
            identity: None,
        };
        let rcpt = |a: &str| Rcpt { address: Address::parse(a).unwrap(), params: RcptParams::default() };
        let mut envelope = Envelope {
            trace: TraceId(5),
            received_s: 0,
            mail: Mail { sender: None, params: MailParams::default() },
            recipients: vec![rcpt("a@x.example")],
        };
        let text = |client: &Client, envelope: &Envelope| {
            let mut out = Vec::new();
            put_received(&mut out, client, envelope, &Settings::mx("mx.example"));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            text(&client, &envelope),
            "Received: from mail.example ([192.0.2.7])\r\n\tby mx.example with ESMTPS\r\n\t(TLSv1.3 TLS13_AES_256_GCM_SHA384)\
             \r\n\tid 0000000000005\r\n\tfor <a@x.example>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n"
        );
        envelope.recipients.push(rcpt("b@x.example"));
        client.peer = "[2001:db8::1]:25".parse().unwrap();
        client.tls = None;
        let shown = text(&client, &envelope);
        assert!(!shown.contains("for <") && shown.contains("([IPv6:2001:db8::1])") && shown.contains("with ESMTP\r\n"));
        let words = |role, extended, utf8, tls: bool, auth: bool| {
            let mut client = client.clone();
            let mut envelope = envelope.clone();
            (client.role, client.extended, envelope.mail.params.smtputf8) = (role, extended, utf8);
            client.tls = tls.then(|| Tls { version: String::new(), cipher: String::new() });
            let account = twinpost_message::AccountId(1);
            client.identity = auth.then(|| twinpost_sasl::Identity { account, address: "a@x.example".into() });
            protocol(&client, &envelope)
        };
        assert_eq!(words(Role::Mx, false, false, false, false), "SMTP");
        assert_eq!(words(Role::Submission, true, false, true, true), "ESMTPSA");
        assert_eq!(words(Role::Submission, true, true, true, true), "UTF8SMTPSA");
        assert_eq!(words(Role::Submission, true, false, false, true), "ESMTPA");
        assert_eq!(words(Role::Lmtp, true, false, true, false), "LMTPS");
        assert_eq!(words(Role::Lmtp, true, true, false, false), "UTF8LMTP");
    }
}
