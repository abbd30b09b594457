//! The protocol as a state machine: lines and data go in, replies come out, and what to do [`Next`].
//!
//! Contract: no socket, no clock, no waiting. The driver calls the one method that the last [`Next`] names, appends
//! nothing to `out` by itself, and sends `out` when no more complete commands wait (RFC 2920 3.2). The replies depend on
//! the bytes only, not on how they were cut into packets. Each command gets exactly one reply; a refused one changes
//! nothing.
//!
//! Failure classes: bad commands (500 to 503, counted, 421 when too many), refusals of the backend (passed on), text
//! that is refused ([`data::Fault`](crate::data::Fault), at its end).

mod intake;
mod sign_in;
mod transaction;

use crate::command::{self, Command};
use crate::reply::{put, put_plain};
use crate::{AuthOffer, Client, Envelope, Refusal, Role, Settings, Tls};
use std::net::SocketAddr;
use std::sync::Arc;
use transaction::Transaction;
use twinpost_message::{Address, TraceId};
use twinpost_sasl::{Bindings, Mechanism};

/// What the session waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line: [`Session::line`] or [`Session::broken_line`].
    Line,
    /// A sign-in, to be driven by `twinpost_sasl::authenticate`: [`Session::signed_in`].
    Auth {
        /// As the client wrote it.
        mechanism: String,
        /// Initial response in base64.
        initial: Option<Vec<u8>>,
    },
    /// Does anything wait unread behind STARTTLS? [`Session::start_tls`].
    StartTls,
    /// Send what is queued, then the TLS handshake: [`Session::tls_started`].
    Handshake,
    /// The backend's opinion of [`Session::envelope`]'s sender: [`Session::mail_answer`].
    Mail,
    /// The backend's opinion of [`Session::candidate`]: [`Session::recipient_answer`].
    Recipient,
    /// A message begins: [`Session::stamp`].
    Stamp,
    /// Dot-stuffed text: [`Session::data`].
    Data,
    /// Counted octets: [`Session::chunk`].
    Chunk,
    /// May the account write as these? [`Session::authors_answer`].
    Authors(Vec<Address>),
    /// The filter's opinion of [`Session::message`]: [`Session::judged`].
    Judge,
    /// Deliver [`Session::take_delivery`]: [`Session::delivered`].
    Deliver,
    /// Send what is queued and close.
    Close,
}

/// A line that the reader of lines could not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenLine {
    /// Longer than the limit.
    TooLong,
    /// Ended by LF alone.
    BareLf,
}

/// What is worth a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was committed.
    Accepted {
        /// Its name.
        trace: TraceId,
        /// Envelope sender, empty for the null sender.
        from: String,
        /// The first recipients.
        to: String,
        /// Its size as stored.
        bytes: usize,
        /// Recipients refused on the way.
        refused: u32,
    },
    /// A transaction ended without a message being taken.
    Refused {
        /// Its name, 0 when it did not come to the data.
        trace: TraceId,
        /// Envelope sender.
        from: String,
        /// The recipient that was refused first, or the first recipients.
        to: String,
        /// The first refusal.
        reply: Refusal,
        /// How many refusals.
        count: u32,
    },
    /// Somebody signed in.
    SignedIn {
        /// The account's address.
        address: String,
    },
}

/// What a session did, for its one line in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Command lines.
    pub commands: u32,
    /// Bad ones.
    pub errors: u32,
    /// Refused recipients.
    pub refused_recipients: u32,
    /// Failed sign-ins.
    pub failed_sign_ins: u32,
    /// Transactions begun.
    pub transactions: usize,
    /// Messages taken.
    pub accepted: u32,
}

/// One connection's conversation. `R` is the backend's token of a recipient.
pub struct Session<R> {
    settings: Arc<Settings>,
    client: Client,
    bindings: Bindings,
    tls_offered: bool,
    transaction: Option<Box<Transaction<R>>>,
    chunk: Option<intake::Chunk>,
    counts: Counts,
    /// MAIL was refused: the commands that were pipelined behind it are refused too, but are no faults.
    mail_refused: bool,
    events: Vec<Event>,
}

impl<R> Session<R> {
    /// A fresh session; `tls_offered`: STARTTLS can be done. Begins with [`Session::greet`].
    #[must_use]
    pub fn new(settings: Arc<Settings>, peer: SocketAddr, tls_offered: bool) -> Self {
        let client = Client { role: settings.role, peer, helo: String::new(), extended: false, tls: None, identity: None };
        Self {
            settings,
            client,
            bindings: Bindings::NONE,
            tls_offered,
            transaction: None,
            chunk: None,
            counts: Counts::default(),
            mail_refused: false,
            events: Vec::new(),
        }
    }

    /// The other end.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }
    /// Channel bindings of the connection.
    #[must_use]
    pub fn bindings(&self) -> &Bindings {
        &self.bindings
    }
    /// Passwords may be shown on this connection.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.client.tls.is_some() || self.settings.auth == AuthOffer::Always
    }
    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }
    /// A log line is due.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }
    /// The log lines that are due.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + use<'_, R> {
        self.events.drain(..)
    }
    /// The transaction's envelope.
    #[must_use]
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_deref().map(|t| &t.envelope)
    }
    /// Nothing is lost when the session ends now: no message is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.transaction.as_ref().is_none_or(|t| t.intake.is_none())
    }

    /// The first words (RFC 5321 3.1). With TLS from the start [`Session::tls_started`] comes before.
    pub fn greet(&mut self, out: &mut Vec<u8>) -> Next {
        let word = if self.settings.role == Role::Lmtp { "LMTP" } else { "ESMTP" };
        put_plain(out, 220, &format!("{} {word} ready", self.settings.host));
        Next::Line
    }

    /// The longest line that [`Session::line`] takes now, without its CRLF.
    #[must_use]
    pub fn line_max_bytes(&self) -> usize {
        let (command, auth) = (self.settings.command_line_max_bytes, self.settings.auth_line_max_bytes);
        let max = if self.auth_open() && self.client.identity.is_none() { command.max(auth) } else { command };
        max.saturating_sub(2)
    }

    /// A command line without its CRLF.
    pub fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Next {
        if line.len() + 2 > self.settings.command_line_max_bytes && !is_auth(line) {
            return self.broken_line(BrokenLine::TooLong, out);
        }
        self.counts.commands = self.counts.commands.saturating_add(1);
        match command::parse(line) {
            Ok(command) => self.command(command, out),
            Err(refusal) if line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT")) => {
                // How many octets follow is unknown: whatever they are, they must not be read as commands.
                self.counts.errors += 1;
                self.refuse(&refusal, out);
                Next::Close
            }
            Err(refusal) => self.bad(&refusal, out),
        }
    }

    /// A line that could not be read.
    pub fn broken_line(&mut self, fault: BrokenLine, out: &mut Vec<u8>) -> Next {
        self.counts.commands = self.counts.commands.saturating_add(1);
        let refusal = match fault {
            BrokenLine::TooLong => Refusal::new(500, (5, 2), "line too long"), // RFC 5321 4.5.3.1.9
            BrokenLine::BareLf => Refusal::new(500, (5, 2), "lines end with CRLF"), // RFC 5321 2.3.8
        };
        self.bad(&refusal, out)
    }

    fn command(&mut self, command: Command<'_>, out: &mut Vec<u8>) -> Next {
        let lmtp = self.settings.role == Role::Lmtp;
        match command {
            // RFC 2033 4.1: LHLO instead of HELO and EHLO.
            Command::Helo(_) | Command::Ehlo(_) if lmtp => {
                self.bad(&Refusal::new(500, (5, 1), "this is LMTP: greet with LHLO"), out)
            }
            Command::Lhlo(_) if !lmtp => self.bad(&Refusal::new(500, (5, 1), "this is SMTP: greet with EHLO"), out),
            Command::Helo(name) => {
                self.greeted(name, false);
                put_plain(out, 250, &self.settings.host);
                Next::Line
            }
            Command::Ehlo(name) | Command::Lhlo(name) => {
                self.greeted(name, true);
                self.put_extensions(out);
                Next::Line
            }
            Command::Mail { path, params } => self.mail(path, params, out),
            Command::Rcpt { path, params } => self.rcpt(path, params, out),
            Command::Data => self.begin_data(out),
            Command::Bdat { size_bytes, last } => self.begin_chunk(size_bytes, last, out),
            Command::Rset => {
                self.end_transaction();
                self.say(250, (0, 0), "reset", out)
            }
            // RFC 5321 3.5.3, 7.3: whether the address exists is told at RCPT only, where it is counted.
            Command::Vrfy => self.say(252, (5, 0), "cannot verify; send mail and see", out),
            Command::Expn => self.bad(&Refusal::new(502, (5, 1), "EXPN is not done here"), out),
            Command::Help => self.say(214, (0, 0), "see RFC 5321; EHLO lists what this server can do", out),
            Command::Noop => self.say(250, (0, 0), "ok", out),
            Command::Quit => {
                self.end_transaction();
                put(out, 221, (0, 0), "bye", false);
                Next::Close
            }
            Command::StartTls => self.ask_tls(out),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial, out),
            Command::NotImplemented => self.bad(&Refusal::new(502, (5, 1), "command not implemented"), out),
            Command::OtherProtocol => {
                // What follows is chosen by somebody else (a page in a browser): take no line of it.
                self.counts.errors += 1;
                put(out, 421, (7, 0), "this is SMTP", false);
                Next::Close
            }
        }
    }

    /// RFC 5321 4.1.4: a greeting clears everything, like RSET.
    fn greeted(&mut self, name: &str, extended: bool) {
        self.end_transaction();
        name.clone_into(&mut self.client.helo);
        self.client.extended = extended;
    }

    fn put_extensions(&self, out: &mut Vec<u8>) {
        let s = &self.settings;
        let mut lines = vec![s.host.clone(), "PIPELINING".to_owned(), format!("SIZE {}", s.size_max_bytes)];
        lines.extend(["8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME", "ENHANCEDSTATUSCODES", "DSN"].map(String::from));
        if self.tls_offered && self.client.tls.is_none() {
            lines.push("STARTTLS".to_owned());
        }
        if self.auth_open() && self.client.identity.is_none() {
            let names: Vec<_> = Mechanism::offered(self.is_private(), &self.bindings).map(Mechanism::name).collect();
            lines.push(format!("AUTH {}", names.join(" ")));
        }
        lines.push(format!("LIMITS RCPTMAX={} MAILMAX={}", s.recipients_max, s.messages_max)); // RFC 9422 4
        lines.push("HELP".to_owned());
        let last = lines.len() - 1;
        for (i, line) in lines.iter().enumerate() {
            out.extend_from_slice(if i == last { b"250 " } else { b"250-" });
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }

    fn ask_tls(&mut self, out: &mut Vec<u8>) -> Next {
        if self.client.tls.is_some() {
            return self.bad(&Refusal::new(503, (5, 1), "TLS is on already"), out);
        }
        if !self.tls_offered {
            return self.bad(&Refusal::new(502, (5, 1), "STARTTLS is not offered here"), out);
        }
        Next::StartTls
    }

    /// Whether bytes wait behind STARTTLS. They came in the clear, perhaps from somebody in between, and would be read as
    /// if they had come inside TLS (RFC 3207 4.2, CVE-2011-0411): such a session ends.
    pub fn start_tls(&mut self, bytes_behind: bool, out: &mut Vec<u8>) -> Next {
        if bytes_behind {
            self.counts.errors += 1;
            put(out, 554, (5, 1), "commands behind STARTTLS in the clear", false);
            return Next::Close;
        }
        put(out, 220, (0, 0), "go ahead", false);
        Next::Handshake
    }

    /// TLS is on. RFC 3207 4.2: everything known from before is forgotten.
    pub fn tls_started(&mut self, tls: Tls, bindings: Bindings) -> Next {
        self.end_transaction();
        self.client.helo.clear();
        self.client.extended = false;
        self.client.identity = None;
        self.client.tls = Some(tls);
        self.bindings = bindings;
        Next::Line
    }

    /// The session must end now: 421 (RFC 5321 3.8).
    pub fn bye(&mut self, reason: Bye, out: &mut Vec<u8>) -> Next {
        self.end_transaction();
        let (detail, text) = match reason {
            Bye::Shutdown => ((3, 2), "service shutting down, try again later"),
            Bye::Silence => ((4, 2), "nothing came for too long"),
            Bye::Busy => ((7, 0), "too many connections or commands from your address, try again later"),
        };
        put(out, 421, detail, text, false);
        Next::Close
    }

    /// The connection is gone: closes the open transaction for the log.
    pub fn closed(&mut self) {
        self.end_transaction();
    }

    /// A reply that is neither error nor part of a transaction.
    fn say(&self, code: u16, detail: (u16, u16), text: &str, out: &mut Vec<u8>) -> Next {
        put(out, code, detail, text, false);
        Next::Line
    }

    /// A command of a transaction that is not open: a fault only when the client could know (RFC 2920 3.1).
    fn out_of_order(&mut self, refusal: &Refusal, out: &mut Vec<u8>) -> Next {
        let all_refused = self.transaction.as_ref().is_some_and(|t| t.tokens.is_empty() && t.refused_count > 0);
        if self.mail_refused || all_refused {
            self.refuse(refusal, out);
            return Next::Line;
        }
        self.bad(refusal, out)
    }

    /// A bad command: counted.
    fn bad(&mut self, refusal: &Refusal, out: &mut Vec<u8>) -> Next {
        self.counts.errors += 1;
        if self.counts.errors >= self.settings.errors_max {
            self.end_transaction();
            put(out, 421, (7, 0), "too many errors", false);
            return Next::Close;
        }
        self.refuse(refusal, out);
        Next::Line
    }

    fn refuse(&self, refusal: &Refusal, out: &mut Vec<u8>) {
        refusal.put(out, self.transaction.as_ref().is_some_and(|t| t.envelope.mail.params.smtputf8));
    }
}

/// An AUTH line, which with its initial response may be longer than others (RFC 4954 4).
fn is_auth(line: &[u8]) -> bool {
    line.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "))
}

/// Why the server ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bye {
    /// The server stops (421 4.3.2).
    Shutdown,
    /// The client was silent (421 4.4.2).
    Silence,
    /// The limiter says no (421 4.7.0).
    Busy,
}

#[cfg(test)]
mod tests;
