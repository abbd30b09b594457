//! The dialogue with another server: RFC 5321 as a client, over a [`Stream`].
//!
//! Contract: one call of [`Connection::send`] is one transaction; it says for each recipient what the other side decided,
//! and nothing for those that it left undecided. A recipient counts as delivered only when the end of data was answered
//! 2yz. What a server said before it broke off stays said: a 5yz is not asked for again. When the connection breaks after
//! the end of data nothing is known, and the recipients are tried again (the one duplicate that SMTP cannot exclude,
//! RFC 1047).

mod lines;
pub mod reply;

pub(crate) use lines::utf8_xtext;

use crate::Settings;
use crate::sevenbit::Message;
use crate::spool::{Entry, Recipient, Reply};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use reply::{Offers, ReplyLine, joined, too_many_recipients};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
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
    /// The other side refused the session, or ends it (421).
    Refused(Reply),
    /// TLS was tried and failed; without TLS it may go.
    Tls(String),
    /// It is ourselves.
    Loop(String),
    /// We are stopping.
    Stopping,
}

impl Trouble {
    /// As the reply that goes into the records.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::Broken(text) => Reply { code: 0, text: format!("4.4.2 {text}") },
            Self::Refused(reply) => reply.clone(),
            Self::Tls(text) => Reply { code: 0, text: format!("4.7.5 {text}") },
            Self::Loop(text) => Reply { code: 0, text: format!("5.4.6 {text}") },
            Self::Stopping => Reply { code: 0, text: "4.3.2 this server is stopping".to_owned() },
        }
    }
    /// It will be so at the next try too.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused(reply) if reply.code >= 500) || matches!(self, Self::Loop(_))
    }
}

/// What came of a transaction.
#[derive(Debug)]
pub struct Sent {
    /// What the server decided, in the order of the recipients; none where it did not: because of `trouble`, or because it
    /// takes no more recipients in one transaction.
    pub replies: Vec<Option<Reply>>,
    /// The connection must not be used again.
    pub trouble: Option<Trouble>,
    /// The server may have the message.
    pub data_ended: bool,
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
    stop_grace: Duration,
    recipients_max: usize,
    /// A transaction was begun and not ended: the server may remember its sender.
    dirty: bool,
    /// Transactions done.
    pub used: u32,
    /// Its share of the connections that the queue may have.
    pub permit: Option<OwnedSemaphorePermit>,
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
            stop_grace: settings.stop_grace,
            recipients_max: settings.recipients.max(1),
            dirty: false,
            used: 0,
            permit: None,
        };
        if let TlsUse::Implicit(config) = tls {
            connection.handshake(config).await?;
        }
        let (greeting, _) = connection.reply(connection.reply_timeout, "waiting for the greeting").await?;
        // RFC 5321 3.1: 554 means no service here; 4yz: not now.
        if greeting.code / 100 != 2 {
            return Err(Trouble::Refused(greeting));
        }
        let name = connection.hello(&settings.host_name).await?;
        // RFC 5321 6.3: a server that calls itself by our name is ourselves, behind an address that we do not know as ours. A
        // smart host was chosen by a person, and names without a dot ("localhost") prove nothing.
        let own = settings.host_name.as_str();
        if settings.smart_host.is_none() && own.contains('.') && name.eq_ignore_ascii_case(own) {
            return Err(Trouble::Loop(format!("{host} ({}) answers with our own name, {own}", connection.stream.peer_addr())));
        }
        match tls {
            TlsUse::Opportunistic(config) | TlsUse::Required(config) if connection.offers.starttls => {
                let (reply, _) = connection.command("STARTTLS\r\n", "STARTTLS").await?;
                if reply.code != 220 {
                    return Err(Trouble::Tls(format!("the server offers STARTTLS and answers {} {}", reply.code, reply.text)));
                }
                connection.handshake(config).await?;
                // RFC 3207 4.2: everything said before TLS is forgotten. A server that breaks off here often dislikes what was
                // agreed in the handshake, which TLS 1.3 tells only now.
                connection.hello(own).await.map_err(|trouble| match trouble {
                    Trouble::Broken(why) => Trouble::Tls(why),
                    other => other,
                })?;
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

    /// Gives the name that the server calls itself by.
    async fn hello(&mut self, own: &str) -> Result<String, Trouble> {
        let (reply, lines) = self.command(&format!("EHLO {own}\r\n"), "EHLO").await?;
        let name = |lines: &[String]| lines.first().and_then(|l| l.split(' ').next()).unwrap_or_default().to_owned();
        if reply.code / 100 == 2 {
            self.offers = Offers::parse(&lines);
            return Ok(name(&lines));
        }
        // RFC 5321 3.2: a server that does not know EHLO.
        if !(500..=504).contains(&reply.code) {
            return Err(Trouble::Refused(reply));
        }
        let (reply, lines) = self.command(&format!("HELO {own}\r\n"), "HELO").await?;
        self.offers = Offers::default();
        if reply.code / 100 == 2 { Ok(name(&lines)) } else { Err(Trouble::Refused(reply)) }
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
                    let answer = BASE64
                        .decode(reply.text.trim())
                        .map_err(|e| e.to_string())
                        .and_then(|challenge| client.step(&challenge).map_err(|e| e.to_string()));
                    match answer {
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

    /// One reply: its code, its text in one line, and all lines without codes. All of it must be there within the time.
    ///
    /// # Errors
    /// [`Trouble`]; also when the reply is 421, with which a server ends the session at any point (RFC 5321 3.8).
    async fn reply(&mut self, within: Duration, doing: &str) -> Result<(Reply, Vec<String>), Trouble> {
        let end = Instant::now() + within;
        let mut lines = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.stream.read_line(REPLY_LINE_MAX, LineEnds::Tolerant, left).await.map_err(|e| broken(doing, &e))?;
            let Some(line) = line else { return Err(Trouble::Broken(format!("{doing}: the server closed the connection"))) };
            let line = ReplyLine::parse(&line)
                .ok_or_else(|| Trouble::Broken(format!("{doing}: the server answered what is no SMTP reply")))?;
            lines.push(line.text);
            if line.last {
                let reply = joined(line.code, &lines);
                return if reply.code == 421 { Err(Trouble::Refused(reply)) } else { Ok((reply, lines)) };
            }
            if lines.len() >= REPLY_LINES_MAX {
                return Err(Trouble::Broken(format!("{doing}: a reply of more than {REPLY_LINES_MAX} lines")));
            }
        }
    }

    /// Most recipients of one transaction here.
    #[must_use]
    pub fn recipients_max(&self) -> usize {
        self.offers.recipients_max.unwrap_or(usize::MAX).min(self.recipients_max)
    }

    /// It has done as much as the server allows a session (RFC 9422 4.1).
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.offers.transactions_max.is_some_and(|most| self.used >= most)
    }

    /// What this server cannot take, before anything is sent.
    fn unfit(&self, bytes: usize) -> Option<Reply> {
        // RFC 1870 6.1
        let most = self.offers.size_bytes.filter(|n| *n > 0)?;
        (bytes as u64 > most)
            .then(|| Reply { code: 552, text: format!("5.3.4 the message has {bytes} bytes, {} takes {most}", self.host) })
    }

    /// Sends the message to these recipients in one transaction. When `stop` is cancelled it ends before the message is
    /// handed over; a message on its way may take `stop_grace` longer.
    pub async fn send(&mut self, entry: &Entry, recipients: &[&Recipient], message: &Message, stop: &CancellationToken) -> Sent {
        let mut sent = Sent { replies: vec![None; recipients.len()], trouble: None, data_ended: false };
        if let Err(trouble) = self.transact(entry, recipients, message, stop, &mut sent).await {
            sent.trouble = Some(trouble);
        }
        sent
    }

    async fn transact(
        &mut self,
        entry: &Entry,
        recipients: &[&Recipient],
        message: &Message,
        stop: &CancellationToken,
        sent: &mut Sent,
    ) -> Result<(), Trouble> {
        // RFC 6531 3.2: SMTPUTF8 is needed for what is in the envelope or in the header, not because a client said so.
        let beyond_ascii = |r: &Recipient| r.address.needs_smtputf8();
        let sender_needs = entry.sender.as_ref().is_some_and(twinpost_message::Address::needs_smtputf8);
        let all_need = sender_needs || (entry.smtputf8 && message.utf8_header());
        let mut open = Vec::with_capacity(recipients.len());
        let bytes = match message.form(self.offers.eight_bit) {
            Ok(bytes) => bytes,
            Err(why) => {
                // RFC 6152 3: what cannot be converted goes back.
                let text = format!("5.6.3 {} takes no 8-bit mail, and the message cannot be converted: {why}", self.host);
                sent.replies.fill(Some(Reply { code: 554, text }));
                return Ok(());
            }
        };
        for (i, recipient) in recipients.iter().enumerate() {
            let utf8 = all_need || beyond_ascii(recipient);
            sent.replies[i] = if utf8 && !self.offers.smtputf8 {
                let text = format!("5.6.7 the message needs SMTPUTF8, which {} does not speak", self.host);
                Some(Reply { code: 550, text })
            } else {
                self.unfit(bytes.len())
            };
            if sent.replies[i].is_none() {
                open.push(i);
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let utf8 = self.offers.smtputf8 && (all_need || open.iter().any(|i| beyond_ascii(recipients[*i])));
        let mail = lines::mail(&self.offers, entry, bytes.len(), !bytes.is_ascii(), utf8);
        let rcpts: Vec<String> = open.iter().map(|i| lines::rcpt(&self.offers, recipients[*i], utf8)).collect();
        let accepted = tokio::select! {
            biased;
            accepted = self.envelope(&mail, &rcpts, &open, sent) => accepted?,
            () = stop.cancelled() => return Err(Trouble::Stopping),
        };
        if accepted.is_empty() {
            return Ok(());
        }
        if stop.is_cancelled() {
            return Err(Trouble::Stopping);
        }
        let grace = self.stop_grace;
        let end = tokio::select! {
            biased;
            end = self.data(bytes, &mut sent.data_ended) => end?,
            () = async { stop.cancelled().await; tokio::time::sleep(grace).await } => return Err(Trouble::Stopping),
        };
        for i in accepted {
            sent.replies[i] = Some(end.clone());
        }
        Ok(())
    }

    /// MAIL and RCPT. Puts refusals into `sent`, gives the recipients that were accepted.
    async fn envelope(&mut self, mail: &str, rcpts: &[String], open: &[usize], sent: &mut Sent) -> Result<Vec<usize>, Trouble> {
        if std::mem::take(&mut self.dirty) {
            // RFC 5321 4.1.1.5: what the last transaction left.
            self.command("RSET\r\n", "RSET").await?;
        }
        self.used += 1;
        self.dirty = true;
        let pipelining = self.offers.pipelining;
        if pipelining {
            // RFC 2920 3.1
            self.stream.queue(mail.as_bytes());
            for rcpt in rcpts {
                self.stream.queue(rcpt.as_bytes());
            }
            self.stream.flush().await.map_err(|e| broken("sending the envelope", &e))?;
        }
        let mail_reply = if pipelining {
            self.reply(self.reply_timeout, "MAIL FROM").await?.0
        } else {
            self.command(mail, "MAIL FROM").await?.0
        };
        let mail_taken = mail_reply.code / 100 == 2;
        let mut accepted = Vec::with_capacity(open.len());
        for (i, rcpt) in open.iter().zip(rcpts) {
            let reply = match (pipelining, mail_taken) {
                (true, _) => self.reply(self.reply_timeout, "RCPT TO").await?.0,
                (false, true) => self.command(rcpt, "RCPT TO").await?.0,
                (false, false) => Reply::default(),
            };
            if !mail_taken {
                // A refused sender is refused for each recipient.
                sent.replies[*i] = Some(mail_reply.clone());
            } else if reply.code / 100 == 2 {
                accepted.push(*i);
            } else if accepted.is_empty() || !too_many_recipients(&reply) {
                sent.replies[*i] = Some(reply);
            }
        }
        Ok(accepted)
    }

    async fn data(&mut self, message: &[u8], ended: &mut bool) -> Result<Reply, Trouble> {
        let (go, _) = self.command("DATA\r\n", "DATA").await?;
        if go.code != 354 {
            // RFC 5321 4.3.2: only 354 lets the message begin. Any other "yes" here has taken nothing.
            return if go.code >= 400 {
                Ok(go)
            } else {
                Err(Trouble::Broken(format!("DATA was answered {} {}", go.code, go.text)))
            };
        }
        for piece in stuffed(message) {
            self.stream.queue(piece);
            if self.stream.queued_bytes() > 1 << 16 {
                self.stream.flush().await.map_err(|e| broken("sending the message", &e))?;
            }
        }
        self.stream.queue(if message.ends_with(b"\r\n") || message.is_empty() { b".\r\n" } else { b"\r\n.\r\n" });
        *ended = true;
        self.stream.flush().await.map_err(|e| broken("sending the message", &e))?;
        let end = self.reply(self.data_timeout, "waiting for the answer to the message").await?.0;
        self.dirty = false;
        Ok(end)
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
    let lines = data.split(|b| *b == b'\n').filter_map(ReplyLine::parse).map(|l| l.text);
    let lines: Vec<String> = lines.take(REPLY_LINES_MAX).collect();
    let _ = (Offers::parse(&lines), too_many_recipients(&joined(452, &lines)));
    let text = String::from_utf8_lossy(data);
    let _ = (lines::xtext(&text), lines::utf8_xtext(&text));
    let whole: Vec<u8> = stuffed(data).flatten().copied().collect();
    // No line of what is sent is a lone dot, and taking the added dots out again gives the message.
    debug_assert!(memchr::memmem::find(&whole, b"\r\n.\r\n").is_none() && !whole.starts_with(b".\r\n"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
