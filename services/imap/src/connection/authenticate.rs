//! LOGIN and AUTHENTICATE.

use super::{Link, Ran, closing, too_slow};
use crate::backend::Backend;
use crate::codec::frame::FrameLimits;
use crate::session::answer::{Answer, Stop, refused};
use crate::session::gone;
use crate::session::out::Sink;
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use twinpost_sasl::{Accounts, Attempt, Channel, Denied, Identity, Outcome, Password, authenticate, sign_in};
use twinpost_wire::{LineEnds, ReadError, Stream};

/// RFC 4954 4 and its like: an answer to a challenge.
const ANSWER_MAX_BYTES: usize = 12_288;

/// The challenges of AUTHENTICATE on the connection (RFC 9051 6.2.2).
struct Challenges<'a> {
    stream: &'a mut Stream,
    stop: &'a CancellationToken,
    /// The last moment for all answers together.
    until: Instant,
}

impl Channel for Challenges<'_> {
    type Error = Stop;
    async fn challenge(&mut self, base64: &str) -> Result<Vec<u8>, Stop> {
        self.stream.queue(format!("+ {base64}\r\n").as_bytes());
        Sink::flush(self.stream).await?;
        let within = self.until.saturating_duration_since(Instant::now());
        let read = tokio::select! {
            biased;
            read = self.stream.read_line(ANSWER_MAX_BYTES, LineEnds::Tolerant, within) => read,
            () = self.stop.cancelled() => return Err(closing()),
        };
        match read {
            Ok(Some(line)) => Ok(line.to_vec()),
            Ok(None) => Err(gone(io::ErrorKind::UnexpectedEof)),
            // Not base64 either: the exchange ends with BAD.
            Err(error) if error.is_recoverable() => Ok(b"!".to_vec()),
            Err(ReadError::TimedOut) => Err(too_slow()),
            Err(error) => Err(Stop::Io(io::Error::other(error))),
        }
    }
}

impl<B: Backend, A: Accounts + 'static> Link<B, A> {
    /// RFC 9051 6.2.3.
    pub(super) async fn login(&mut self, tag: &str, user: &str, password: String) -> Ran<()> {
        if !self.connection().private {
            // RFC 9051 6.2.3, 11.1: not even looked at.
            self.answer(tag, &Answer::no("PRIVACYREQUIRED", "Passwords are taken over TLS only"));
            return Ok(());
        }
        let peer = self.stream.peer_addr().ip();
        let guard = self.shared.limiter.guard(peer).telling("imap");
        let outcome = sign_in(&*self.shared.accounts, &guard, user, &Password::new(password), "imap", peer).await;
        self.signed_in(tag, outcome, "LOGIN").await
    }

    /// RFC 9051 6.2.2, RFC 4959.
    pub(super) async fn authenticate(&mut self, tag: &str, mechanism: &str, initial: Option<String>) -> Ran<()> {
        let peer = self.stream.peer_addr().ip();
        let guard = self.shared.limiter.guard(peer).telling("imap");
        let initial = initial.map(|text| if text.is_empty() { "=".to_owned() } else { text });
        let attempt = Attempt {
            mechanism,
            initial: initial.as_deref().map(str::as_bytes),
            private: self.connection().private,
            bindings: self.bindings(),
            service: "imap",
            peer,
        };
        let until = Instant::now() + self.patience()?;
        let mut challenges = Challenges { stream: &mut self.stream, stop: &self.stop, until };
        let outcome = authenticate(&*self.shared.accounts, &guard, attempt, &mut challenges).await?;
        self.signed_in(tag, outcome, mechanism).await
    }

    async fn signed_in(&mut self, tag: &str, outcome: Outcome, how: &str) -> Ran<()> {
        let answer = match outcome {
            Outcome::Accepted(identity) => match self.enter(identity, how).await {
                // RFC 9051 7.1 CAPABILITY: spares the client a question.
                Ok(()) => Answer::ok("Signed in").with_code(format!("CAPABILITY {}", self.capabilities())),
                Err(answer) => answer,
            },
            Outcome::Denied { user, reason } => {
                if reason == Denied::Credentials {
                    self.auth_failures += 1;
                }
                tracing::debug!(peer = %self.stream.peer_addr(), user, %reason, "IMAP sign-in refused");
                denied(reason)
            }
            Outcome::Cancelled => Answer::bad("Cancelled"),
            Outcome::Encoding => Answer::bad("That was not base64"),
            Outcome::Mechanism => Answer { code: None, ..Answer::no("", "This mechanism is not offered here") },
            Outcome::Privacy => Answer::no("PRIVACYREQUIRED", "Passwords are taken over TLS only"),
            Outcome::Broken(_) => {
                self.auth_failures += 1;
                Answer::no("AUTHENTICATIONFAILED", "The exchange was not what the mechanism asks for")
            }
        };
        self.answer(tag, &answer);
        if self.auth_failures >= self.session.settings.auth_failures_max {
            return Err(Stop::Bye(None, Cow::Borrowed("Too many failed sign-ins")));
        }
        Ok(())
    }

    async fn enter(&mut self, identity: Identity, how: &str) -> Result<(), Answer> {
        let account = self.shared.backend.account(identity.account).await.map_err(|e| refused(&e))?;
        let Some(seat) = self.shared.seat(account.id) else {
            tracing::info!(account = %account.address, peer = %self.stream.peer_addr(), "too many IMAP connections of one account");
            return Err(Answer::no("LIMIT", "Too many connections of this account at once"));
        };
        tracing::info!(
            account = %account.address,
            peer = %self.stream.peer_addr(),
            tls = self.stream.is_tls(),
            mechanism = how,
            "IMAP sign-in"
        );
        self.seat = Some(seat);
        self.session.account = Some(Arc::new(account));
        let limit = self.session.settings.command_max_bytes;
        self.framer.set_limits(FrameLimits { command_max_bytes: limit, literal_max_bytes: limit as u64 });
        Ok(())
    }
}

/// RFC 5530 3: each reason has its code; name and password are never told apart.
fn denied(reason: Denied) -> Answer {
    match reason {
        Denied::Credentials => Answer::no("AUTHENTICATIONFAILED", "Wrong name or password"),
        Denied::Suspended => Answer::no("CONTACTADMIN", "The account is suspended; please ask your administrator"),
        Denied::Service => Answer::no("AUTHORIZATIONFAILED", "This account may not use IMAP"),
        Denied::ActAs => Answer::no("AUTHORIZATIONFAILED", "You may not act as somebody else"),
        Denied::Unavailable => Answer::no("UNAVAILABLE", "Signing in is not possible at the moment"),
        Denied::TooMany { .. } => Answer::no("LIMIT", reason.to_string()),
    }
}
