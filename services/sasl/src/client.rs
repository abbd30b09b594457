//! The client's side, for the queue's smart host: PLAIN, LOGIN and SCRAM-SHA-256.
//!
//! Contract: pure. The caller chooses a mechanism that the server offers ([`choose`]), sends [`Client::initial`] with
//! the command, answers each challenge with [`Client::step`], and after the server's success asks [`Client::finish`]
//! whether the server proved itself too.

use crate::scram::{ITERATIONS_MAX, Keys, hmac, is_nonce, sha256, xor};
use crate::{Bindings, Failure, Mechanism, Password, prepare_stored};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use subtle::ConstantTimeEq;

/// The best mechanism among those the server offers: SCRAM first, PLAIN and LOGIN only where `private` (TLS).
pub fn choose<'a>(offered: impl Iterator<Item = &'a str>, private: bool, bindings: &Bindings) -> Option<Mechanism> {
    let offered: Vec<Mechanism> = offered.filter_map(Mechanism::parse).collect();
    Mechanism::offered(private, bindings).find(|m| offered.contains(m))
}

/// One sign-in on the client's side.
pub struct Client {
    mechanism: Mechanism,
    user: String,
    password: Password,
    bindings: Bindings,
    nonce: String,
    state: State,
}

enum State {
    Start,
    LoginPassword,
    /// client-first-message-bare, GS2 header with binding data
    First {
        bare: String,
        binding: Vec<u8>,
    },
    Final {
        server_signature: [u8; 32],
    },
    Done,
    Over,
}

impl Client {
    /// Begins a sign-in. `bindings` are those of the connection (empty without TLS).
    #[must_use]
    pub fn new(mechanism: Mechanism, user: String, password: Password, bindings: Bindings) -> Self {
        let nonce: [u8; 18] = rand::random();
        Self::with_nonce(mechanism, user, password, bindings, BASE64.encode(nonce))
    }

    pub(crate) fn with_nonce(mechanism: Mechanism, user: String, password: Password, bindings: Bindings, nonce: String) -> Self {
        Self { mechanism, user, password, bindings, nonce, state: State::Start }
    }

    /// The initial response to send with the command; `None` where the server speaks first (LOGIN).
    pub fn initial(&mut self) -> Option<Vec<u8>> {
        match self.mechanism {
            Mechanism::Login => None,
            Mechanism::Plain => {
                // RFC 4616 2
                self.state = State::Done;
                Some(format!("\0{}\0{}", prepare_stored(&self.user), prepare_stored(self.password.reveal())).into_bytes())
            }
            Mechanism::ScramSha256 | Mechanism::ScramSha256Plus => {
                let (header, data) = self.gs2();
                let name = prepare_stored(&self.user).replace('=', "=3D").replace(',', "=2C");
                let bare = format!("n={name},r={}", self.nonce);
                let message = format!("{header}{bare}").into_bytes();
                let mut binding = header.into_bytes();
                binding.extend_from_slice(&data);
                self.state = State::First { bare, binding };
                Some(message)
            }
        }
    }

    fn gs2(&self) -> (String, Vec<u8>) {
        if self.mechanism == Mechanism::ScramSha256Plus {
            if let Some(data) = &self.bindings.exporter {
                return ("p=tls-exporter,,".to_owned(), data.clone());
            }
            if let Some(data) = &self.bindings.server_end_point {
                return ("p=tls-server-end-point,,".to_owned(), data.clone());
            }
        }
        // RFC 5802 6: "y" says that we could bind and saw no -PLUS offered; the server knows whether that is true.
        (if self.bindings.is_empty() { "n,," } else { "y,," }.to_owned(), Vec::new())
    }

    /// Answers a challenge (decoded).
    ///
    /// # Errors
    /// [`Failure`]: send `*` to cancel, the server is not what it should be.
    pub fn step(&mut self, challenge: &[u8]) -> Result<Vec<u8>, Failure> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Start if self.mechanism == Mechanism::Login => {
                self.state = State::LoginPassword;
                Ok(self.user.clone().into_bytes())
            }
            State::Start if challenge.is_empty() => self.initial().ok_or(Failure::Over),
            State::LoginPassword => {
                self.state = State::Done;
                Ok(self.password.reveal().as_bytes().to_vec())
            }
            State::First { bare, binding } => self.server_first(challenge, &bare, &binding),
            State::Final { server_signature } => {
                self.server_final(challenge, &server_signature)?;
                Ok(Vec::new())
            }
            State::Start | State::Done | State::Over => Err(Failure::Over),
        }
    }

    fn syntax(&self, what: &'static str) -> Failure {
        Failure::Syntax { mechanism: self.mechanism, what }
    }

    fn server_first(&mut self, challenge: &[u8], bare: &str, binding: &[u8]) -> Result<Vec<u8>, Failure> {
        let text = std::str::from_utf8(challenge).map_err(|_| self.syntax("not UTF-8"))?;
        let mut parts = text.split(',');
        let nonce = parts.next().and_then(|p| p.strip_prefix("r=")).ok_or_else(|| self.syntax("no nonce"))?;
        if !is_nonce(nonce) || nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(self.syntax("another nonce"));
        }
        let salt = parts
            .next()
            .and_then(|p| p.strip_prefix("s="))
            .and_then(|s| BASE64.decode(s).ok())
            .ok_or_else(|| self.syntax("no salt"))?;
        let rounds: u32 = parts
            .next()
            .and_then(|p| p.strip_prefix("i="))
            .and_then(|i| i.parse().ok())
            .filter(|i| (1..=ITERATIONS_MAX).contains(i))
            .ok_or_else(|| self.syntax("no iteration count, or an unreasonable one"))?;
        let keys = Keys::derive(self.password.reveal(), &salt, rounds);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(binding));
        let auth_message = format!("{bare},{text},{without_proof}");
        let signature = hmac(&sha256(&keys.client), &[auth_message.as_bytes()]);
        let proof = xor(&keys.client, &signature);
        self.state = State::Final { server_signature: hmac(&keys.server, &[auth_message.as_bytes()]) };
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes())
    }

    fn server_final(&mut self, message: &[u8], expected: &[u8; 32]) -> Result<(), Failure> {
        let text = std::str::from_utf8(message).map_err(|_| self.syntax("not UTF-8"))?;
        if text.starts_with("e=") {
            return Err(Failure::ServerError);
        }
        let signature = text.strip_prefix("v=").and_then(|v| BASE64.decode(v.split(',').next()?).ok());
        if !signature.is_some_and(|s| bool::from(s.ct_eq(expected))) {
            return Err(Failure::ServerProof);
        }
        self.state = State::Done;
        Ok(())
    }

    /// After the server's success. `additional` is the data that came with it, if the protocol carries it there.
    ///
    /// # Errors
    /// [`Failure::ServerProof`] when the server said yes without a proof of its own.
    pub fn finish(&mut self, additional: Option<&[u8]>) -> Result<(), Failure> {
        match (std::mem::replace(&mut self.state, State::Over), additional) {
            (State::Done, _) => Ok(()),
            (State::Final { server_signature }, Some(data)) => self.server_final(data, &server_signature),
            _ => Err(Failure::ServerProof),
        }
    }
}
