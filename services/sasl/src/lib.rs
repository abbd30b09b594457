//! Sign-in exchanges (SASL, RFC 4422) as pure state machines: PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.
//!
//! Contract: [`Exchange`] and [`client::Client`] take bytes and give [`Step`]s; they know no socket, no clock and no
//! account. [`authenticate`] drives an exchange for any protocol that can send a challenge and read an answer
//! ([`Channel`]), against any directory ([`Accounts`]), so SMTP, IMAP and POP3 share one order of events.
//!
//! Failure classes: the client's message is malformed ([`Failure`]: tell it so, the connection lives on); the
//! credentials are refused ([`Denied`]: say as little as the protocol allows); the directory cannot answer
//! ([`Denied::Unavailable`]: a temporary reply); the connection broke (the channel's own error).

mod accounts;
pub mod client;
mod plain;
mod prep;
mod scram;

pub use accounts::{Accounts, Attempt, Channel, Denied, Guard, Identity, Outcome, authenticate, sign_in};
pub use prep::{prepare, prepare_stored};
pub use scram::ScramSecret;

use std::fmt;

/// The mechanisms this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616. Only over TLS.
    Plain,
    /// The unregistered but common `LOGIN` (draft-murchison-sasl-login). Only over TLS.
    Login,
    /// RFC 7677.
    ScramSha256,
    /// RFC 7677 with channel binding (RFC 5802 6). Only over TLS.
    ScramSha256Plus,
}

impl Mechanism {
    /// Strongest first.
    pub const ALL: [Self; 4] = [Self::ScramSha256Plus, Self::ScramSha256, Self::Plain, Self::Login];

    /// The registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// By name, in any case (RFC 4422 3.1 names are upper case; clients are not always).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name().eq_ignore_ascii_case(name))
    }

    /// What to offer on a connection: mechanisms that show the password only where `private` (TLS, or plain text
    /// allowed by setting), `-PLUS` only where there is something to bind to.
    pub fn offered(private: bool, bindings: &Bindings) -> impl Iterator<Item = Self> + use<> {
        let plus = !bindings.is_empty();
        Self::ALL.into_iter().filter(move |m| match m {
            Self::Plain | Self::Login => private,
            Self::ScramSha256 => true,
            Self::ScramSha256Plus => plus,
        })
    }

    /// The client sends the first message (RFC 4422 5): an empty challenge goes out when it did not.
    #[must_use]
    pub fn client_first(self) -> bool {
        self != Self::Login
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Channel bindings that the connection offers (RFC 5056). Empty without TLS: then `-PLUS` is not offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    /// `tls-exporter` (RFC 9266): 32 bytes.
    pub exporter: Option<Vec<u8>>,
    /// `tls-server-end-point` (RFC 5929 4): a hash of the server's certificate.
    pub server_end_point: Option<Vec<u8>>,
}

impl Bindings {
    /// No binding at all.
    pub const NONE: Self = Self { exporter: None, server_end_point: None };

    /// Nothing to bind to.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.server_end_point.is_none()
    }

    fn named(&self, name: &str) -> Option<&[u8]> {
        match name {
            "tls-exporter" => self.exporter.as_deref(),
            "tls-server-end-point" => self.server_end_point.as_deref(),
            _ => None,
        }
    }
}

/// A password on its way to the check: not shown by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Wraps a password.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(...)")
    }
}

/// What the exchange wants next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes (base64 is the protocol's framing) and give the answer to [`Exchange::step`].
    Challenge(Vec<u8>),
    /// Look up the SCRAM secret of this user (a fake one for an unknown user, so that both look alike) and give it to
    /// [`Exchange::secret`].
    NeedSecret {
        /// Who signs in, after SASLprep.
        user: String,
    },
    /// Check this password.
    CheckPassword {
        /// Whom to act as; `None`: as oneself.
        authzid: Option<String>,
        /// Who signs in.
        user: String,
        /// The password, after SASLprep where that is possible.
        password: Password,
    },
    /// The client has proved that it knows the password. Send `server_final` as a last challenge (or as additional
    /// data of success) and await an empty answer.
    Proven {
        /// Who signed in.
        user: String,
        /// Whom to act as; `None`: as oneself.
        authzid: Option<String>,
        /// The server's proof.
        server_final: Vec<u8>,
    },
    /// The exchange is over.
    Failed(Failure),
}

/// Why an exchange ended without a decision on the password, or with a wrong proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The client's message does not follow the mechanism's syntax.
    #[error("the client's message is not a {mechanism} message: {what}")]
    Syntax {
        /// Mechanism.
        mechanism: Mechanism,
        /// What was wrong.
        what: &'static str,
    },
    /// The name or password holds characters that SASLprep forbids (RFC 4013).
    #[error("the name or the password holds a forbidden character")]
    Prohibited,
    /// Channel binding does not fit: another TLS session between (RFC 5802 6), an unknown type, or a client that was
    /// made to believe that the server has none (downgrade).
    #[error("channel binding failed: {0}")]
    Binding(&'static str),
    /// The proof is wrong: a wrong password.
    #[error("the proof is wrong")]
    Proof,
    /// A step came that the state does not expect: the caller's mistake, or the client went on after the end.
    #[error("the exchange is over")]
    Over,
    /// Client side: the server's signature is wrong: it does not know the password.
    #[error("the server could not prove that it knows the password")]
    ServerProof,
    /// Client side: the server refused (`e=` of RFC 5802 7).
    #[error("the server ended the exchange with an error")]
    ServerError,
}

/// Longest client message in bytes (decoded). RFC 4616 allows 255 for each of three parts; SCRAM needs less than 1 KB
/// with the longest names; more is an attack.
pub const MESSAGE_MAX_BYTES: usize = 4096;

/// One sign-in on the server's side.
pub struct Exchange(State);

enum State {
    Plain,
    Login(plain::Login),
    Scram(Box<scram::Server>),
    Over,
}

impl Exchange {
    /// Begins an exchange. `bindings` are all that the connection offers, whatever the mechanism: SCRAM without
    /// `-PLUS` needs to know them to see a downgrade.
    #[must_use]
    pub fn start(mechanism: Mechanism, bindings: Bindings) -> Self {
        let nonce: [u8; 18] = rand::random();
        Self::start_with_nonce(mechanism, bindings, &nonce)
    }

    fn start_with_nonce(mechanism: Mechanism, bindings: Bindings, nonce: &[u8]) -> Self {
        Self(match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::Login(plain::Login::default()),
            Mechanism::ScramSha256 => State::Scram(Box::new(scram::Server::new(false, bindings, nonce))),
            Mechanism::ScramSha256Plus => State::Scram(Box::new(scram::Server::new(true, bindings, nonce))),
        })
    }

    /// The first step when the client sent no initial response.
    pub fn first(&mut self) -> Step {
        match &mut self.0 {
            State::Login(login) => login.first(),
            State::Plain | State::Scram(_) => Step::Challenge(Vec::new()),
            State::Over => Step::Failed(Failure::Over),
        }
    }

    /// Takes a client message (the initial response or the answer to a challenge), decoded from base64.
    pub fn step(&mut self, message: &[u8]) -> Step {
        let step = match &mut self.0 {
            State::Plain => plain::plain(message),
            State::Login(login) => login.step(message),
            State::Scram(server) => server.step(message),
            State::Over => Step::Failed(Failure::Over),
        };
        self.end(step)
    }

    /// Answers [`Step::NeedSecret`].
    pub fn secret(&mut self, secret: ScramSecret) -> Step {
        let step = match &mut self.0 {
            State::Scram(server) => server.secret(secret),
            State::Plain | State::Login(_) | State::Over => Step::Failed(Failure::Over),
        };
        self.end(step)
    }

    fn end(&mut self, step: Step) -> Step {
        if matches!(step, Step::CheckPassword { .. } | Step::Proven { .. } | Step::Failed(_)) {
            self.0 = State::Over;
        }
        step
    }
}

/// Any bytes as client messages to every mechanism: must not panic.
pub fn fuzz(data: &[u8]) {
    for mechanism in Mechanism::ALL {
        let bindings = Bindings { exporter: Some(vec![7; 32]), server_end_point: None };
        let mut exchange = Exchange::start_with_nonce(mechanism, bindings, b"fuzz");
        for message in data.split(|b| *b == b'\n') {
            if let Step::NeedSecret { .. } = exchange.step(message) {
                exchange.secret(ScramSecret { salt: vec![1], iterations: 1, stored_key: [0; 32], server_key: [0; 32] });
            }
        }
        let mut client =
            client::Client::with_nonce(mechanism, "user".into(), Password::new("pencil"), Bindings::NONE, "nonce".into());
        for message in data.split(|b| *b == b'\n') {
            let _ = client.step(message);
        }
    }
}

#[cfg(test)]
mod tests;
