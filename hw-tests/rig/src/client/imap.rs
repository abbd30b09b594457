//! An IMAP client that shows what the server said.

use super::line::Line;
use std::collections::HashMap;
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::Path;

/// An answer up to its tagged line.
#[derive(Debug)]
pub struct Answer {
    /// The tagged line without its tag: `OK ...`, `NO ...`, `BAD ...`.
    pub status: String,
    /// The untagged lines; literals stand in them as they came.
    pub lines: Vec<String>,
}

impl Answer {
    /// The command must have succeeded; gives the untagged lines.
    #[track_caller]
    pub fn ok(self) -> Vec<String> {
        assert!(self.status.starts_with("OK"), "{self:#?}");
        self.lines
    }
}

/// One session.
pub struct Imap {
    line: Line,
    tag: u32,
}

impl Imap {
    /// Connects with TLS and signs in; the error is the server's refusal.
    pub fn open(at: SocketAddr, ca: &Path, user: &str, password: &str) -> Result<Self> {
        Self::sign_in_on(Line::tls(at, ca)?, user, password)
    }

    /// Signs in on a connection that is not greeted yet.
    pub fn sign_in_on(mut line: Line, user: &str, password: &str) -> Result<Self> {
        line.line()?;
        let mut imap = Self { line, tag: 0 };
        let answer = imap.command(&format!("LOGIN \"{user}\" \"{password}\""))?;
        if answer.status.starts_with("OK") { Ok(imap) } else { Err(Error::other(answer.status)) }
    }

    /// One command.
    pub fn command(&mut self, text: &str) -> Result<Answer> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.line.send(format!("{tag} {text}\r\n").as_bytes())?;
        let mut lines = Vec::new();
        loop {
            let mut whole = self.line.line()?;
            while let Some(size) = literal(&whole) {
                whole.extend_from_slice(b"\r\n");
                whole.extend(self.line.exactly(size)?);
                whole.extend(self.line.line()?);
            }
            let whole = String::from_utf8_lossy(&whole).into_owned();
            match whole.strip_prefix(&tag) {
                Some(status) => return Ok(Answer { status: status.trim_start().to_owned(), lines }),
                None => lines.push(whole),
            }
        }
    }

    /// One command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, text: &str) -> Vec<String> {
        self.command(text).unwrap_or_else(|e| panic!("{text}: {e}")).ok()
    }

    /// Appends a message by a non-synchronizing literal (RFC 7888).
    pub fn append(&mut self, mailbox: &str, message: &[u8]) -> Result<Answer> {
        self.command(&format!(
            "APPEND \"{mailbox}\" {{{}+}}\r\n{}",
            message.len(),
            std::str::from_utf8(message).map_err(Error::other)?
        ))
    }

    /// Messages in a mailbox.
    #[track_caller]
    pub fn count(&mut self, mailbox: &str) -> u64 {
        let lines = self.ok(&format!("STATUS \"{mailbox}\" (MESSAGES)"));
        let text = lines.iter().find_map(|l| l.split_once("(MESSAGES ")).expect("STATUS answers").1;
        text.trim_end_matches(')').parse().expect("STATUS gives a number")
    }

    /// How often each Message-ID is in a mailbox.
    #[track_caller]
    pub fn message_ids(&mut self, mailbox: &str) -> HashMap<String, usize> {
        self.ok(&format!("EXAMINE \"{mailbox}\""));
        let mut found = HashMap::new();
        for line in self.ok("UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])") {
            if let Some(id) = line.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
                *found.entry(id.0.to_owned()).or_default() += 1;
            }
        }
        found
    }
}

/// The size of the literal that follows this line.
fn literal(line: &[u8]) -> Option<usize> {
    let open = line.strip_suffix(b"}")?;
    let at = open.iter().rposition(|b| *b == b'{')?;
    std::str::from_utf8(&open[at + 1..]).ok()?.parse().ok()
}
