//! The dialogue with another server: RFC 5321 as a client, over a [`Stream`].
//!
//! Contract: one call of [`Connection::send`] is one transaction; it says for each recipient what the other side said last.
//! A recipient counts as delivered only when the end of data was answered 2yz. A connection that broke in the middle leaves
//! its recipients deferred, except that nothing is known when it breaks after the end of data: then too they are tried
//! again (the one duplicate that SMTP cannot exclude, RFC 1047).

use crate::Settings;
use crate::spool::{Entry, Recipient, Reply, Ret};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use std::time::Duration;
use twinpost_sasl::{Bindings, Password, client as sasl};
use twinpost_wire::{ClientTls, LineEnds, Stream};

/// Longest line of a reply that is read (RFC 5321 4.5.3.1.5 says 512; others send more).
const REPLY_LINE_MAX: usize = 4096;
/// Most lines of one reply.
const REPLY_LINES_MAX: usize = 200;

/// Why a connection is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be made or broke; with what was being done.
    Broken(String),
    /// The other side refused the session.
    Refused(Reply),
    /// TLS was tried and failed; without TLS it may go.
    Tls(String),
}

impl Trouble {
    /// As the reply that goes into the records.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::Broken(text) => Reply { code: 0, text: format!("4.4.2 {text}") },
            Self::Refused(reply) => reply.clone(),
            Self::Tls(text) => Reply { code: 0, text: format!("4.7.5 {text}") },
        }
    }
    /// The other side said no for good.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(reply) if reply.code >= 500)
    }
}

/// What EHLO offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// RFC 2920
    pub pipelining: bool,
    /// RFC 6152
    pub eight_bit: bool,
    /// RFC 6531
    pub smtputf8: bool,
    /// RFC 3461
    pub dsn: bool,
    /// RFC 3207
    pub starttls: bool,
    /// RFC 1870: largest message, 0 for no stated limit.
    pub size_bytes: Option<u64>,
    /// RFC 4954
    pub auth: Vec<String>,
}

impl Offers {
    /// From the lines of an EHLO reply, without codes.
    #[must_use]
    pub fn parse(lines: &[String]) -> Self {
        let mut offers = Self::default();
        for line in lines.iter().skip(1) {
            let mut words = line.split_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "PIPELINING" => offers.pipelining = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.smtputf8 = true,
                "DSN" => offers.dsn = true,
                "STARTTLS" => offers.starttls = true,
                "SIZE" => offers.size_bytes = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "AUTH" => offers.auth = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        offers
    }
}

/// How TLS is used on a connection.
#[derive(Clone)]
pub enum TlsUse {
    /// Not at all.
    Never,
    /// When offered, unverified.
    Opportunistic(ClientTls),
    /// Verified for this name, by STARTTLS; nothing is sent without it.
    Required(ClientTls),
    /// Verified for this name, from the first byte.
    Implicit(ClientTls),
}

/// One connection that is ready for a transaction.
pub struct Connection {
    stream: Stream,
    /// Name of the other side, for records.
    pub host: String,
    offers: Offers,
    reply_timeout: Duration,
    data_timeout: Duration,
    /// Transactions done.
    pub used: u32,
}

fn broken(doing: &str, error: &dyn std::fmt::Display) -> Trouble {
    Trouble::Broken(format!("{doing}: {error}"))
}

impl Connection {
    /// Greets the server at the other end of `stream`.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn greet(
        stream: Stream,
        host: &str,
        tls: &TlsUse,
        credentials: Option<&(String, String)>,
        settings: &Settings,
    ) -> Result<Self, Trouble> {
        let mut connection = Self {
            stream,
            host: host.to_owned(),
            offers: Offers::default(),
            reply_timeout: settings.reply_timeout,
            data_timeout: settings.data_timeout,
            used: 0,
        };
        if let TlsUse::Implicit(config) = tls {
            connection.handshake(config).await?;
        }
        let (greeting, _) = connection.reply(connection.reply_timeout, "waiting for the greeting").await?;
        // RFC 5321 3.1: 554 means no service here; 4yz: not now.
        if greeting.code / 100 != 2 {
            return Err(Trouble::Refused(greeting));
        }
        connection.hello(&settings.host_name).await?;
        match tls {
            TlsUse::Opportunistic(config) | TlsUse::Required(config) if connection.offers.starttls => {
                let (reply, _) = connection.command("STARTTLS\r\n", "STARTTLS").await?;
                if reply.code != 220 {
                    return Err(Trouble::Tls(format!("the server offers STARTTLS and answers {} {}", reply.code, reply.text)));
                }
                connection.handshake(config).await?;
                // RFC 3207 4.2: everything said before TLS is forgotten.
                connection.hello(&settings.host_name).await?;
            }
            TlsUse::Required(_) => {
                return Err(Trouble::Broken("the server offers no STARTTLS, and without it nothing is sent".to_owned()));
            }
            _ => {}
        }
        if let Some((user, password)) = credentials {
            connection.sign_in(user, password).await?;
        }
        Ok(connection)
    }

    async fn handshake(&mut self, config: &ClientTls) -> Result<(), Trouble> {
        let host = self.host.clone();
        self.stream.start_tls_client(config, &host, self.reply_timeout).await.map_err(|e| Trouble::Tls(e.to_string()))
    }

    async fn hello(&mut self, own: &str) -> Result<(), Trouble> {
        let (reply, lines) = self.command(&format!("EHLO {own}\r\n"), "EHLO").await?;
        if reply.code / 100 == 2 {
            self.offers = Offers::parse(&lines);
            return Ok(());
        }
        // RFC 5321 3.2: a server that does not know EHLO.
        if !(500..=504).contains(&reply.code) {
            return Err(Trouble::Refused(reply));
        }
        let (reply, _) = self.command(&format!("HELO {own}\r\n"), "HELO").await?;
        self.offers = Offers::default();
        if reply.code / 100 == 2 { Ok(()) } else { Err(Trouble::Refused(reply)) }
    }

    async fn sign_in(&mut self, user: &str, password: &str) -> Result<(), Trouble> {
        let bindings = Bindings { exporter: self.stream.channel_binding(), server_end_point: self.stream.server_end_point() };
        let chosen = sasl::choose(self.offers.auth.iter().map(String::as_str), self.stream.is_tls(), &bindings);
        let Some(mechanism) = chosen else {
            return Err(Trouble::Broken(format!(
                "the server offers no sign-in that can be used (it offers: {})",
                self.offers.auth.join(" ")
            )));
        };
        let mut client = sasl::Client::new(mechanism, user.to_owned(), Password::new(password.to_owned()), bindings);
        let initial = client.initial().map(|bytes| if bytes.is_empty() { "=".to_owned() } else { BASE64.encode(bytes) });
        let mut line = match initial {
            Some(initial) => format!("AUTH {mechanism} {initial}\r\n"),
            None => format!("AUTH {mechanism}\r\n"),
        };
        loop {
            let (reply, _) = self.command(&line, "AUTH").await?;
            match reply.code {
                334 => {
                    let challenge = BASE64.decode(reply.text.trim()).map_err(|e| broken("AUTH", &e))?;
                    match client.step(&challenge) {
                        Ok(answer) => line = format!("{}\r\n", BASE64.encode(answer)),
                        Err(failure) => {
                            let _ = self.command("*\r\n", "AUTH").await;
                            return Err(broken("AUTH", &failure));
                        }
                    }
                }
                235 => return client.finish(None).map_err(|e| broken("AUTH", &e)),
                // A wrong password is the operator's to mend: mail waits meanwhile, it does not bounce.
                code => {
                    return Err(Trouble::Refused(Reply {
                        code: if code >= 500 { 454 } else { code },
                        text: format!("4.7.8 sign-in to the smart host refused: {code} {}", reply.text),
                    }));
                }
            }
        }
    }

    async fn command(&mut self, line: &str, doing: &str) -> Result<(Reply, Vec<String>), Trouble> {
        self.stream.queue(line.as_bytes());
        self.stream.flush().await.map_err(|e| broken(doing, &e))?;
        self.reply(self.reply_timeout, doing).await
    }

    /// One reply: its code, its text in one line, and all lines without codes.
    async fn reply(&mut self, within: Duration, doing: &str) -> Result<(Reply, Vec<String>), Trouble> {
        let mut lines = Vec::new();
        loop {
            let line = self.stream.read_line(REPLY_LINE_MAX, LineEnds::Tolerant, within).await.map_err(|e| broken(doing, &e))?;
            let Some(line) = line else { return Err(Trouble::Broken(format!("{doing}: the server closed the connection"))) };
            let (code, last, text) = parse_reply_line(&line)
                .ok_or_else(|| Trouble::Broken(format!("{doing}: the server answered what is no SMTP reply")))?;
            lines.push(text);
            if last {
                return Ok((Reply { code, text: lines.join(" ") }, lines));
            }
            if lines.len() >= REPLY_LINES_MAX {
                return Err(Trouble::Broken(format!("{doing}: a reply of more than {REPLY_LINES_MAX} lines")));
            }
        }
    }

    /// What this server cannot take of this entry, before anything is sent.
    fn unfit(&self, entry: &Entry, recipient: &Recipient) -> Option<Reply> {
        let limit = self.offers.size_bytes.filter(|n| *n > 0);
        if limit.is_some_and(|most| u64::from(entry.size_bytes) > most) {
            return Some(Reply {
                code: 552,
                text: format!("5.3.4 the message has {} bytes, {} takes {}", entry.size_bytes, self.host, limit.unwrap_or(0)),
            });
        }
        let beyond_ascii =
            recipient.address.needs_smtputf8() || entry.sender.as_ref().is_some_and(twinpost_message::Address::needs_smtputf8);
        // RFC 6531 3.2: without SMTPUTF8 such mail must go back.
        if !self.offers.smtputf8 && (entry.smtputf8 || beyond_ascii) {
            return Some(Reply {
                code: 550,
                text: format!("5.6.7 the message needs SMTPUTF8, which {} does not speak", self.host),
            });
        }
        None
    }

    /// Sends the message to these recipients; the replies are in their order. On [`Trouble`] nothing is known to be delivered.
    ///
    /// # Errors
    /// [`Trouble`] when the connection broke; it must not be used again.
    pub async fn send(&mut self, entry: &Entry, recipients: &[&Recipient], message: &[u8]) -> Result<Vec<Reply>, Trouble> {
        self.used += 1;
        let mut replies: Vec<Option<Reply>> = recipients.iter().map(|r| self.unfit(entry, r)).collect();
        let open: Vec<usize> = (0..recipients.len()).filter(|i| replies[*i].is_none()).collect();
        if !open.is_empty() {
            let mail = self.mail_line(entry);
            let rcpts: Vec<String> = open.iter().map(|i| self.rcpt_line(recipients[*i])).collect();
            let (mail_reply, rcpt_replies) = self.envelope(&mail, &rcpts).await?;
            for (i, reply) in open.iter().zip(rcpt_replies) {
                // A refused sender is refused for each recipient.
                replies[*i] = Some(if mail_reply.code / 100 == 2 { reply } else { mail_reply.clone() });
            }
            let taken = replies.iter().flatten().filter(|r| r.code / 100 == 2).count();
            if taken > 0 {
                let end = self.data(message).await?;
                for reply in replies.iter_mut().flatten().filter(|r| r.code / 100 == 2) {
                    *reply = end.clone();
                }
            } else {
                let _ = self.command("RSET\r\n", "RSET").await?;
            }
        }
        Ok(replies.into_iter().map(Option::unwrap_or_default).collect())
    }

    async fn envelope(&mut self, mail: &str, rcpts: &[String]) -> Result<(Reply, Vec<Reply>), Trouble> {
        let mut replies = Vec::with_capacity(rcpts.len());
        if self.offers.pipelining {
            self.stream.queue(mail.as_bytes());
            for rcpt in rcpts {
                self.stream.queue(rcpt.as_bytes());
            }
            self.stream.flush().await.map_err(|e| broken("sending the envelope", &e))?;
            let (mail_reply, _) = self.reply(self.reply_timeout, "MAIL FROM").await?;
            for _ in rcpts {
                replies.push(self.reply(self.reply_timeout, "RCPT TO").await?.0);
            }
            return Ok((mail_reply, replies));
        }
        let (mail_reply, _) = self.command(mail, "MAIL FROM").await?;
        for rcpt in rcpts {
            replies.push(if mail_reply.code / 100 == 2 { self.command(rcpt, "RCPT TO").await?.0 } else { mail_reply.clone() });
        }
        Ok((mail_reply, replies))
    }

    async fn data(&mut self, message: &[u8]) -> Result<Reply, Trouble> {
        let (go, _) = self.command("DATA\r\n", "DATA").await?;
        if go.code != 354 {
            return Ok(go);
        }
        for piece in stuffed(message) {
            self.stream.queue(piece);
            if self.stream.queued_bytes() > 1 << 16 {
                self.stream.flush().await.map_err(|e| broken("sending the message", &e))?;
            }
        }
        self.stream.queue(if message.ends_with(b"\r\n") || message.is_empty() { b".\r\n" } else { b"\r\n.\r\n" });
        self.stream.flush().await.map_err(|e| broken("sending the message", &e))?;
        Ok(self.reply(self.data_timeout, "waiting for the answer to the message").await?.0)
    }

    fn mail_line(&self, entry: &Entry) -> String {
        let sender =
            entry.sender.as_ref().map(|s| if entry.smtputf8 { s.to_string() } else { s.to_ascii_domain() }).unwrap_or_default();
        let mut line = format!("MAIL FROM:<{sender}>");
        if self.offers.size_bytes.is_some() {
            line.push_str(&format!(" SIZE={}", entry.size_bytes));
        }
        if self.offers.eight_bit && entry.eight_bit {
            line.push_str(" BODY=8BITMIME");
        }
        if self.offers.smtputf8 && entry.smtputf8 {
            line.push_str(" SMTPUTF8");
        }
        if self.offers.dsn {
            if let Some(ret) = entry.ret {
                line.push_str(if ret == Ret::Full { " RET=FULL" } else { " RET=HDRS" });
            }
            if let Some(envid) = &entry.envid {
                line.push_str(&format!(" ENVID={}", xtext(envid)));
            }
        }
        line.push_str("\r\n");
        line
    }

    fn rcpt_line(&self, recipient: &Recipient) -> String {
        let address = if self.offers.smtputf8 { recipient.address.to_string() } else { recipient.address.to_ascii_domain() };
        let mut line = format!("RCPT TO:<{address}>");
        if self.offers.dsn {
            if let Some(notify) = recipient.notify.parameter() {
                line.push_str(&format!(" NOTIFY={notify}"));
            }
            if let Some((kind, original)) = recipient.orcpt.as_deref().and_then(|o| o.split_once(';')) {
                line.push_str(&format!(" ORCPT={kind};{}", xtext(original)));
            }
        }
        line.push_str("\r\n");
        line
    }

    /// The server reports by itself (RFC 3461 5.2.2): success need not be reported by us.
    #[must_use]
    pub fn reports(&self) -> bool {
        self.offers.dsn
    }

    /// Says good-bye; nobody waits long for the answer.
    pub async fn quit(mut self) {
        self.stream.queue(b"QUIT\r\n");
        if self.stream.flush().await.is_ok() {
            let _ = self.reply(Duration::from_secs(2), "QUIT").await;
        }
        self.stream.shutdown().await;
    }
}

/// RFC 3461 4: `+` and hexadecimal for what cannot stand in a parameter.
fn xtext(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, b| {
        if (b'!'..=b'~').contains(&b) && b != b'+' && b != b'=' {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("+{b:02X}"));
        }
        out
    })
}

/// `250-text`, `250 text` or `250`: code, whether it is the last line, text.
fn parse_reply_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let code: u16 = std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()?;
    if !(200..=599).contains(&code) {
        return None;
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    Some((code, last, String::from_utf8_lossy(line.get(4..).unwrap_or_default()).trim_end().to_owned()))
}

/// The message in pieces, with a dot more before each line that begins with one (RFC 5321 4.5.2).
fn stuffed(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    let mut dot_due = message.first() == Some(&b'.');
    std::iter::from_fn(move || {
        if std::mem::take(&mut dot_due) {
            return Some(&b"."[..]);
        }
        if from >= message.len() {
            return None;
        }
        let end = memchr::memmem::find(&message[from..], b"\r\n.").map_or(message.len(), |at| from + at + 2);
        dot_due = end < message.len();
        let piece = &message[from..end];
        from = end;
        Some(piece)
    })
}

/// Entry point for fuzzing: reply lines, EHLO offers, dot-stuffing.
pub fn fuzz(data: &[u8]) {
    let _ = parse_reply_line(data);
    let text = String::from_utf8_lossy(data);
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let _ = Offers::parse(&lines);
    let whole: Vec<u8> = stuffed(data).flatten().copied().collect();
    // No line of what is sent is a lone dot, and taking the added dots out again gives the message.
    debug_assert!(memchr::memmem::find(&whole, b"\r\n.\r\n").is_none() && !whole.starts_with(b".\r\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offers_are_read_from_ehlo() {
        let lines =
            ["mx.example", "PIPELINING", "size 1000", "AUTH PLAIN SCRAM-SHA-256", "8BITMIME", "unknown"].map(str::to_owned);
        let offers = Offers::parse(&lines);
        assert!(offers.pipelining && offers.eight_bit && !offers.smtputf8);
        assert_eq!((offers.size_bytes, offers.auth.len()), (Some(1000), 2));
        assert_eq!(Offers::parse(&[]), Offers::default());
    }

    #[test]
    fn reply_lines_are_strict() {
        assert_eq!(parse_reply_line(b"250-x"), Some((250, false, "x".into())));
        assert_eq!(parse_reply_line(b"250"), Some((250, true, String::new())));
        for bad in [&b"25"[..], b"2500 x", b"abc x", b"", b"100 x", b"650 x"] {
            assert_eq!(parse_reply_line(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn xtext_as_in_rfc_3461() {
        assert_eq!(xtext("a+b=c d"), "a+2Bb+3Dc+20d");
    }

    proptest! {
        #[test]
        fn stuffing_comes_back(lines in prop::collection::vec("[.a]{0,3}", 0..8)) {
            let message = lines.iter().map(|l| format!("{l}\r\n")).collect::<String>();
            let sent: Vec<u8> = stuffed(message.as_bytes()).flatten().copied().collect();
            let sent = String::from_utf8(sent).unwrap();
            let back: String = sent.split_inclusive("\r\n").map(|l| l.strip_prefix('.').unwrap_or(l)).collect();
            prop_assert_eq!(back, message);
            prop_assert!(!sent.split("\r\n").any(|l| l == "."));
        }
        #[test]
        fn nothing_panics(data in prop::collection::vec(0u8..=255, 0..200)) {
            fuzz(&data);
        }
    }
}
