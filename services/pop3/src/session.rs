//! The protocol as a pure state machine: a line in, an [`Action`] out.

use crate::{BackendError, Settings};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use twinpost_message::view::{Entry, Snapshot};
use twinpost_message::{BodyId, Uid};
use twinpost_sasl::{Bindings, Denied, Mechanism, Outcome, Password};

/// Longest command line in bytes without its end. RFC 2449 4 allows 255; passwords and initial responses may be longer.
pub const LINE_MAX_BYTES: usize = 2048;

/// What the server has to do for a command.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this (whole lines, CRLF included).
    Reply(Cow<'static, str>),
    /// Check name and password, open the maildrop, and tell [`Session::opened`] or [`Session::refused`].
    SignIn {
        /// The name.
        user: String,
        /// The password.
        password: Password,
    },
    /// Drive a SASL exchange, then as for `SignIn`.
    Auth {
        /// Mechanism as the client wrote it.
        mechanism: String,
        /// Initial response in base64.
        initial: Option<Vec<u8>>,
    },
    /// Send the reply and start TLS; then tell [`Session::tls_started`].
    StartTls(&'static str),
    /// Send a message, or its header and `lines` lines of its body.
    Retrieve {
        /// Message number, from 1.
        seq: u32,
        /// Its UID.
        uid: Uid,
        /// Its body.
        body: BodyId,
        /// Octets of the whole message.
        size_bytes: u32,
        /// TOP.
        lines: Option<u32>,
    },
    /// Remove these, tell [`Session::expunged`], send its reply and close.
    Expunge(Vec<Uid>),
    /// Send this and close.
    Close(Cow<'static, str>),
}

/// The protocol's states (RFC 1939 3). UPDATE is the server's: it ends the session.
enum State {
    Authorization { user: Option<String> },
    Transaction { snapshot: Arc<Snapshot>, deleted: BTreeSet<u32> },
}

/// One session.
pub struct Session {
    settings: Arc<Settings>,
    state: State,
    tls: bool,
    tls_offered: bool,
    bindings: Bindings,
    failures: u32,
    mistakes: u32,
}

const OK: &str = "+OK\r\n";

fn reply(text: &'static str) -> Action {
    Action::Reply(Cow::Borrowed(text))
}

impl Session {
    /// A session begins. `tls_offered`: STLS is possible on this connection.
    #[must_use]
    pub fn new(settings: Arc<Settings>, tls_offered: bool) -> Self {
        Self {
            settings,
            state: State::Authorization { user: None },
            tls: false,
            tls_offered,
            bindings: Bindings::NONE,
            failures: 0,
            mistakes: 0,
        }
    }

    /// RFC 1939 4; without a time stamp, since APOP is not offered.
    #[must_use]
    pub fn greeting(&self) -> String {
        format!("+OK {} POP3 server ready\r\n", self.settings.host)
    }

    /// TLS has begun (by STLS, or before the greeting). What the client said before is forgotten (RFC 2595 4).
    pub fn tls_started(&mut self, bindings: Bindings) {
        self.tls = true;
        self.bindings = bindings;
        self.state = State::Authorization { user: None };
    }

    /// Passwords may cross this connection.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.tls || self.settings.plain_text_sign_in
    }

    /// The rules that it began with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Channel bindings of the connection.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }

    /// The session was ended by us, in the middle of what the client had to say.
    #[must_use]
    pub fn is_sent_away(&self) -> bool {
        self.failures >= self.settings.failures_max || self.mistakes >= self.settings.mistakes_max
    }

    /// The maildrop is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Transaction { .. })
    }

    /// The sign-in succeeded and the maildrop is open.
    pub fn opened(&mut self, snapshot: Arc<Snapshot>) -> String {
        let text = format!("+OK {} messages\r\n", snapshot.len());
        self.state = State::Transaction { snapshot, deleted: BTreeSet::new() };
        text
    }

    /// The sign-in came to nothing.
    pub fn refused(&mut self, outcome: &Outcome) -> Action {
        self.state = State::Authorization { user: None };
        let text: Cow<'static, str> = match outcome {
            // RFC 3206 4: [AUTH] tells the client to ask its user for another password; [SYS/...] not to.
            Outcome::Denied { reason, .. } => match reason {
                Denied::Credentials => "-ERR [AUTH] wrong name or password\r\n".into(),
                Denied::Suspended => "-ERR [AUTH] this account is suspended\r\n".into(),
                Denied::Service => "-ERR [AUTH] this account may not use POP3\r\n".into(),
                Denied::ActAs => "-ERR [AUTH] may not act as somebody else\r\n".into(),
                Denied::Unavailable => "-ERR [SYS/TEMP] sign-in is not possible now\r\n".into(),
                Denied::TooMany { retry_after } => {
                    format!("-ERR [SYS/TEMP] too many failed sign-ins, try again in {} s\r\n", retry_after.as_secs().max(1))
                        .into()
                }
            },
            Outcome::Cancelled => "-ERR cancelled\r\n".into(),
            Outcome::Encoding => "-ERR that is not base64\r\n".into(),
            Outcome::Mechanism => "-ERR this mechanism is not offered\r\n".into(),
            Outcome::Privacy => "-ERR [AUTH] only over TLS, use STLS first\r\n".into(),
            Outcome::Broken(failure) => format!("-ERR [AUTH] {failure}\r\n").into(),
            Outcome::Accepted(_) => "-ERR [SYS/TEMP] the maildrop cannot be opened now\r\n".into(),
        };
        if matches!(outcome, Outcome::Denied { .. } | Outcome::Broken(_)) {
            self.failures += 1;
            if self.failures >= self.settings.failures_max {
                return Action::Close(text);
            }
        }
        Action::Reply(text)
    }

    /// The sign-in succeeded, but the maildrop could not be opened.
    pub fn not_opened(&mut self, error: &BackendError) -> Action {
        self.state = State::Authorization { user: None };
        match error {
            // RFC 2449 8.1.1
            BackendError::InUse => reply("-ERR [IN-USE] the maildrop is open in another session\r\n"),
            BackendError::Gone | BackendError::Damaged => reply("-ERR [SYS/PERM] the maildrop cannot be opened\r\n"),
            BackendError::Unavailable(_) => reply("-ERR [SYS/TEMP] the maildrop cannot be opened now\r\n"),
        }
    }

    /// The message could not be read.
    #[must_use]
    pub fn not_read(error: &BackendError) -> &'static str {
        match error {
            BackendError::Gone => "-ERR this message was removed by another program\r\n",
            BackendError::Damaged => "-ERR [SYS/PERM] this message is damaged in the store\r\n",
            BackendError::InUse | BackendError::Unavailable(_) => "-ERR [SYS/TEMP] this message cannot be read now\r\n",
        }
    }

    /// How the removal at QUIT ended. RFC 1939 6: `-ERR` when some were not removed.
    #[must_use]
    pub fn expunged(result: &Result<(), BackendError>) -> &'static str {
        match result {
            Ok(()) => "+OK bye\r\n",
            Err(_) => "-ERR [SYS/TEMP] the deleted messages could not be removed\r\n",
        }
    }

    /// A line that could not be read as one.
    pub fn too_long(&mut self) -> Action {
        self.mistake("-ERR the line is too long\r\n")
    }

    fn mistake(&mut self, text: &'static str) -> Action {
        self.mistakes += 1;
        if self.mistakes >= self.settings.mistakes_max {
            return Action::Close("-ERR too many mistakes\r\n".into());
        }
        reply(text)
    }

    /// Takes one line without its end.
    pub fn line(&mut self, line: &[u8]) -> Action {
        // RFC 6856 2.2 UTF-8 in names and passwords; elsewhere only ASCII makes sense, and does.
        let Ok(line) = std::str::from_utf8(line) else { return self.mistake("-ERR that is not UTF-8\r\n") };
        if line.contains('\0') {
            return self.mistake("-ERR a NUL in a command\r\n");
        }
        let (keyword, rest) = match line.split_once(' ') {
            Some((keyword, rest)) => (keyword, Some(rest)),
            None => (line, None),
        };
        let argument = rest.map(|r| r.trim_end_matches(' ')).filter(|r| !r.is_empty());
        let mut upper = [0; 8];
        let keyword = match upper.get_mut(..keyword.len()) {
            Some(space) => {
                space.copy_from_slice(keyword.as_bytes());
                space.make_ascii_uppercase();
                &*space
            }
            None => b"",
        };
        match (keyword, argument) {
            (b"CAPA", None) => return Action::Reply(self.capabilities().into()),
            (b"NOOP", None) if self.is_open() => return reply(OK),
            (b"QUIT", None) => return self.quit(),
            _ => {}
        }
        match &mut self.state {
            State::Authorization { .. } => self.authorization(keyword, argument, rest),
            State::Transaction { .. } => self.transaction(keyword, argument),
        }
    }

    fn authorization(&mut self, keyword: &[u8], argument: Option<&str>, rest: Option<&str>) -> Action {
        match (keyword, argument) {
            (b"USER" | b"PASS", _) if !self.is_private() => reply("-ERR [AUTH] only over TLS, use STLS first\r\n"),
            // RFC 1939 7: the answer does not tell whether the user exists
            (b"USER", Some(name)) => {
                self.state = State::Authorization { user: Some(name.to_owned()) };
                reply(OK)
            }
            (b"PASS", Some(_)) => {
                let State::Authorization { user } = &mut self.state else { return reply(OK) };
                match (user.take(), rest) {
                    // RFC 1939 7: blanks belong to the password, also at its end
                    (Some(user), Some(password)) => Action::SignIn { user, password: Password::new(password) },
                    _ => self.mistake("-ERR USER first\r\n"),
                }
            }
            // RFC 5034 4
            (b"AUTH", Some(rest)) => {
                let mut words = rest.split_ascii_whitespace();
                let mechanism = words.next().unwrap_or_default().to_owned();
                let initial = words.next().map(|w| w.as_bytes().to_vec());
                match words.next() {
                    None => Action::Auth { mechanism, initial },
                    Some(_) => self.mistake("-ERR AUTH mechanism [initial-response]\r\n"),
                }
            }
            // Clients older than RFC 5034 ask for the list this way.
            (b"AUTH", None) => {
                let mut text = OK.to_owned();
                for mechanism in Mechanism::offered(self.is_private(), &self.bindings) {
                    let _ = write!(text, "{mechanism}\r\n");
                }
                text.push_str(".\r\n");
                Action::Reply(text.into())
            }
            // RFC 2595 4
            (b"STLS", None) if self.tls => self.mistake("-ERR TLS is on already\r\n"),
            (b"STLS", None) if self.tls_offered => Action::StartTls("+OK begin TLS\r\n"),
            (b"STLS", None) => self.mistake("-ERR TLS is not offered here\r\n"),
            // RFC 6856 2.1: messages and names are UTF-8 already
            (b"UTF8", None) => reply("+OK UTF-8 it is\r\n"),
            (b"USER", None) => self.mistake("-ERR USER name\r\n"),
            (b"PASS", None) => self.mistake("-ERR PASS password\r\n"),
            (b"STLS" | b"UTF8" | b"CAPA" | b"QUIT", Some(_)) => self.mistake("-ERR this command has no argument\r\n"),
            (b"STAT" | b"LIST" | b"RETR" | b"DELE" | b"NOOP" | b"RSET" | b"TOP" | b"UIDL", _) => {
                self.mistake("-ERR sign in first\r\n")
            }
            (b"APOP", _) => self.mistake("-ERR APOP is not offered; use AUTH\r\n"),
            _ => self.mistake("-ERR unknown command\r\n"),
        }
    }

    fn transaction(&mut self, keyword: &[u8], argument: Option<&str>) -> Action {
        let State::Transaction { snapshot, deleted } = &mut self.state else { return reply(OK) };
        match (keyword, argument) {
            // RFC 1939 5
            (b"STAT", None) => {
                let (count, octets) = totals(snapshot, deleted);
                Action::Reply(format!("+OK {count} {octets}\r\n").into())
            }
            (b"LIST", None) => {
                let (count, octets) = totals(snapshot, deleted);
                listing(snapshot, deleted, &format!("+OK {count} messages ({octets} octets)\r\n"), |out, e| {
                    let _ = write!(out, "{}", e.size_bytes);
                })
            }
            // RFC 1939 7
            (b"UIDL", None) => {
                let validity = snapshot.uid_validity;
                listing(snapshot, deleted, OK, |out, e| {
                    let _ = write!(out, "{validity}.{}", e.uid);
                })
            }
            (b"LIST", Some(n)) => match find(snapshot, deleted, n) {
                Ok((seq, entry)) => Action::Reply(format!("+OK {seq} {}\r\n", entry.size_bytes).into()),
                Err(text) => reply(text),
            },
            (b"UIDL", Some(n)) => match find(snapshot, deleted, n) {
                Ok((seq, e)) => Action::Reply(format!("+OK {seq} {}.{}\r\n", snapshot.uid_validity, e.uid).into()),
                Err(text) => reply(text),
            },
            (b"RETR", Some(n)) => match find(snapshot, deleted, n) {
                Ok((seq, e)) => Action::Retrieve { seq, uid: e.uid, body: e.body, size_bytes: e.size_bytes, lines: None },
                Err(text) => reply(text),
            },
            (b"TOP", Some(arguments)) => {
                let lines = arguments.split_once(' ').and_then(|(n, lines)| Some((n, number(lines.trim_start())?)));
                match lines.ok_or("-ERR TOP number lines\r\n").and_then(|(n, l)| Ok((find(snapshot, deleted, n)?, l))) {
                    Ok(((seq, e), lines)) => {
                        let (uid, body, size_bytes) = (e.uid, e.body, e.size_bytes);
                        Action::Retrieve { seq, uid, body, size_bytes, lines: Some(lines) }
                    }
                    Err(text) => reply(text),
                }
            }
            (b"DELE", Some(n)) => match find(snapshot, deleted, n) {
                Ok((seq, _)) => {
                    deleted.insert(seq);
                    reply("+OK goes at QUIT\r\n")
                }
                Err(text) => reply(text),
            },
            (b"RSET", None) => {
                deleted.clear();
                reply(OK)
            }
            (b"STAT" | b"RSET" | b"NOOP" | b"QUIT" | b"CAPA", Some(_)) => self.mistake("-ERR this command has no argument\r\n"),
            (b"RETR" | b"DELE" | b"TOP", None) => self.mistake("-ERR a message number is missing\r\n"),
            (b"USER" | b"PASS" | b"AUTH" | b"APOP" | b"STLS" | b"UTF8", _) => self.mistake("-ERR only before sign-in\r\n"),
            _ => self.mistake("-ERR unknown command\r\n"),
        }
    }

    /// RFC 1939 4 and 6: nothing is removed where no maildrop is open.
    fn quit(&mut self) -> Action {
        match &self.state {
            State::Transaction { snapshot, deleted } if !deleted.is_empty() => {
                Action::Expunge(deleted.iter().filter_map(|seq| Some(snapshot.at(*seq)?.uid)).collect())
            }
            State::Transaction { .. } | State::Authorization { .. } => Action::Close("+OK bye\r\n".into()),
        }
    }

    /// The next messages behind this one that are not marked: what a client most likely fetches next.
    pub fn following(&self, seq: u32) -> impl Iterator<Item = &Entry> {
        let parts = match &self.state {
            State::Transaction { snapshot, deleted } => Some((snapshot, deleted)),
            State::Authorization { .. } => None,
        };
        parts.into_iter().flat_map(move |(snapshot, deleted)| {
            snapshot.iter_from(seq.saturating_add(1)).filter(|(n, _)| !deleted.contains(n)).map(|(_, e)| e)
        })
    }

    /// RFC 2449 5
    fn capabilities(&self) -> String {
        let mut text =
            "+OK\r\nTOP\r\nUIDL\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\nPIPELINING\r\nEXPIRE NEVER\r\nUTF8 USER\r\n".to_owned();
        if !self.is_open() {
            if self.tls_offered && !self.tls {
                text.push_str("STLS\r\n");
            }
            if self.is_private() {
                text.push_str("USER\r\n");
            }
        }
        text.push_str("SASL");
        for mechanism in Mechanism::offered(self.is_private(), &self.bindings) {
            let _ = write!(text, " {mechanism}");
        }
        text.push_str("\r\nIMPLEMENTATION Twinpost\r\n.\r\n");
        text
    }
}

fn totals(snapshot: &Snapshot, deleted: &BTreeSet<u32>) -> (usize, u64) {
    let gone: u64 = deleted.iter().filter_map(|seq| snapshot.at(*seq)).map(|e| u64::from(e.size_bytes)).sum();
    let all: u64 = snapshot.iter().map(|e| u64::from(e.size_bytes)).sum();
    (snapshot.len() - deleted.len(), all - gone)
}

fn listing(snapshot: &Snapshot, deleted: &BTreeSet<u32>, head: &str, write: impl Fn(&mut String, &Entry)) -> Action {
    let mut text = String::with_capacity(head.len() + snapshot.len() * 20 + 3);
    text.push_str(head);
    for (seq, entry) in snapshot.iter_from(1).filter(|(seq, _)| !deleted.contains(seq)) {
        let _ = write!(text, "{seq} ");
        write(&mut text, entry);
        text.push_str("\r\n");
    }
    text.push_str(".\r\n");
    Action::Reply(text.into())
}

fn number(text: &str) -> Option<u32> {
    // `parse` would take a sign.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn find<'a>(snapshot: &'a Snapshot, deleted: &BTreeSet<u32>, text: &str) -> Result<(u32, &'a Entry), &'static str> {
    let seq = number(text).ok_or("-ERR that is not a message number\r\n")?;
    let entry = snapshot.at(seq).ok_or("-ERR no such message\r\n")?;
    if deleted.contains(&seq) { Err("-ERR this message is marked as deleted\r\n") } else { Ok((seq, entry)) }
}

/// Any lines to a session in both states: must not panic.
pub fn fuzz(data: &[u8]) {
    let settings = Arc::new(Settings { plain_text_sign_in: true, mistakes_max: u32::MAX, ..Settings::default() });
    let mut session = Session::new(settings, true);
    for line in data.split(|b| *b == b'\n') {
        match session.line(line) {
            Action::SignIn { .. } => drop(session.opened(Arc::default())),
            Action::StartTls(_) => session.tls_started(Bindings::NONE),
            _ => {}
        }
    }
    crate::output::fuzz(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    proptest! {
        #[test]
        fn any_lines(lines in prop::collection::vec(("(USER|PASS|AUTH|STLS|CAPA|LIST|UIDL|RETR|TOP|DELE|QUIT|\\PC{0,9}) ?[0-9a-z -]{0,9}", prop::bool::ANY), 0..40)) {
            let text: Vec<String> = lines.into_iter().map(|(l, lower)| if lower { l.to_lowercase() } else { l }).collect();
            super::fuzz(text.join("\n").as_bytes());
        }
        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..200)) {
            super::fuzz(&data);
        }
    }
}
