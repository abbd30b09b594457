//! An SMTP client that says exactly what it is told to.

use super::line::Line;
use base64::Engine;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::Path;

/// A reply: its code and all its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code.
    pub code: u16,
    /// Text of all lines, without codes.
    pub text: String,
}

/// One session.
pub struct Smtp {
    /// The connection, for those who break the rules.
    pub line: Line,
}

impl Smtp {
    /// Connects, reads the greeting, says EHLO.
    pub fn open(peer: SocketAddr) -> Result<Self> {
        Self::greeted(Line::plain(peer)?)
    }

    /// The same with TLS from the first byte.
    pub fn open_tls(peer: SocketAddr, ca: &Path) -> Result<Self> {
        Self::greeted(Line::tls(peer, ca)?)
    }

    /// On a connection that is not greeted yet.
    pub fn greeted(line: Line) -> Result<Self> {
        let mut smtp = Self { line };
        let greeting = smtp.reply()?;
        if greeting.code != 220 {
            return Err(Error::other(format!("greeted with {greeting:?}")));
        }
        smtp.command("EHLO client.example")?;
        Ok(smtp)
    }

    /// Reads a reply.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut text = String::new();
        loop {
            let line = String::from_utf8_lossy(&self.line.line()?).into_owned();
            let code = line.get(..3).and_then(|c| c.parse().ok());
            let code = code.ok_or_else(|| Error::other(format!("not a reply: {line}")))?;
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(line.get(4..).unwrap_or_default());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, text });
            }
        }
    }

    /// One command and its reply.
    pub fn command(&mut self, text: &str) -> Result<Reply> {
        self.line.send(format!("{text}\r\n").as_bytes())?;
        self.reply()
    }

    /// AUTH PLAIN.
    pub fn sign_in(&mut self, user: &str, password: &str) -> Result<Reply> {
        let secret = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
        self.command(&format!("AUTH PLAIN {secret}"))
    }

    /// A whole transaction; gives the first refusal (after RSET), or the reply to the message.
    pub fn mail(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<Reply> {
        let mut commands = vec![format!("MAIL FROM:<{from}> SIZE={}", message.len())];
        commands.extend(to.iter().map(|to| format!("RCPT TO:<{to}>")));
        for command in commands {
            let reply = self.command(&command)?;
            if reply.code >= 300 {
                self.command("RSET")?;
                return Ok(reply);
            }
        }
        let reply = self.command("DATA")?;
        if reply.code != 354 {
            self.command("RSET")?;
            return Ok(reply);
        }
        self.line.send(&stuffed(message))?;
        self.reply()
    }
}

/// The message as DATA carries it (RFC 5321 4.5.2), with the end.
fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// A message of about this many bytes with this identifier and subject.
pub fn message(id: &str, subject: &str, bytes: usize) -> Vec<u8> {
    message_of("sender@elsewhere.example", id, subject, bytes)
}

/// The same of this author.
pub fn message_of(author: &str, id: &str, subject: &str, bytes: usize) -> Vec<u8> {
    let mut out = format!(
        "From: {author}\r\nTo: somebody@school.example\r\nSubject: {subject}\r\n\
         Message-ID: <{id}>\r\nDate: Mon, 02 Nov 2026 08:00:00 +0800\r\n\r\n"
    )
    .into_bytes();
    // Random text: no compression makes it small, and no two messages share a body.
    while out.len() < bytes {
        let random: [u8; 54] = std::array::from_fn(|_| rand::random());
        out.extend_from_slice(base64::engine::general_purpose::STANDARD.encode(random).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}
