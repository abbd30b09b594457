//! SCRAM-SHA-256 on the server's side (RFC 5802, RFC 7677), with and without channel binding.

use crate::{Bindings, Failure, MESSAGE_MAX_BYTES, Mechanism, Step, prepare};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// What a server keeps of a password: enough to check a proof, not enough to sign in elsewhere (RFC 5802 3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramSecret {
    /// Salt, random, at least 16 bytes for new secrets.
    pub salt: Vec<u8>,
    /// PBKDF2 rounds. RFC 7677 4 asks for 4096 or more.
    pub iterations: u32,
    /// `H(HMAC(SaltedPassword, "Client Key"))`
    pub stored_key: [u8; 32],
    /// `HMAC(SaltedPassword, "Server Key")`
    pub server_key: [u8; 32],
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScramSecret({} rounds)", self.iterations)
    }
}

impl ScramSecret {
    /// Rounds for new secrets: the least that RFC 7677 4 allows costs clients on small devices least; the secrets file
    /// itself is protected by the directory.
    pub const ITERATIONS: u32 = 4096;

    /// Makes the secret of a password. The password goes through SASLprep where that is possible.
    #[must_use]
    pub fn from_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        let keys = Keys::derive(password, salt, iterations);
        Self { salt: salt.to_vec(), iterations, stored_key: sha256(&keys.client), server_key: keys.server }
    }

    /// Makes the secret of a password with a fresh random salt and [`ScramSecret::ITERATIONS`].
    #[must_use]
    pub fn generate(password: &str) -> Self {
        let salt: [u8; 16] = rand::random();
        Self::from_password(password, &salt, Self::ITERATIONS)
    }

    /// A secret that no password opens, the same each time for one `user` and `key`: what an unknown user gets, so that
    /// a guesser cannot tell which accounts exist (RFC 5802 9). `key` is a random value of the installation.
    #[must_use]
    pub fn fake(user: &str, key: &[u8]) -> Self {
        let mut salt = hmac(key, &[b"salt", user.as_bytes()]).to_vec();
        salt.truncate(16);
        Self {
            salt,
            iterations: Self::ITERATIONS,
            stored_key: hmac(key, &[b"stored", user.as_bytes()]),
            server_key: hmac(key, &[b"server", user.as_bytes()]),
        }
    }
}

/// Client key and server key of a password.
pub(crate) struct Keys {
    pub(crate) client: [u8; 32],
    pub(crate) server: [u8; 32],
}

impl Keys {
    pub(crate) fn derive(password: &str, salt: &[u8], iterations: u32) -> Self {
        let password = crate::prepare_stored(password);
        let salted = pbkdf2(password.as_bytes(), salt, iterations);
        Self { client: hmac(&salted, &[b"Client Key"]), server: hmac(&salted, &[b"Server Key"]) }
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)")
}

pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

pub(crate) fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// `Hi` of RFC 5802 2.2: PBKDF2 (RFC 8018 5.2) with HMAC-SHA-256 and one block.
fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let mac = keyed(password);
    let mut first = mac.clone();
    first.update(salt);
    first.update(&1u32.to_be_bytes());
    let mut round: [u8; 32] = first.finalize().into_bytes().into();
    let mut sum = round;
    for _ in 1..iterations {
        let mut next = mac.clone();
        next.update(&round);
        round = next.finalize().into_bytes().into();
        sum = xor(&sum, &round);
    }
    sum
}

/// Most rounds a client accepts from a server: more would be an attack on its processor.
pub(crate) const ITERATIONS_MAX: u32 = 1_000_000;

pub(crate) struct Server {
    plus: bool,
    bindings: Bindings,
    nonce: String,
    state: State,
}

enum State {
    First,
    Secret(First),
    Final { first: First, secret: ScramSecret, server_first: String },
    Over,
}

/// What the client's first message said.
struct First {
    gs2_header: String,
    binding: Option<Vec<u8>>,
    authzid: Option<String>,
    user: String,
    bare: String,
    client_nonce: String,
}

impl Server {
    pub(crate) fn new(plus: bool, bindings: Bindings, nonce: &[u8]) -> Self {
        Self { plus, bindings, nonce: BASE64.encode(nonce), state: State::First }
    }

    #[cfg(test)]
    pub(crate) fn with_text_nonce(plus: bool, bindings: Bindings, nonce: &str) -> Self {
        Self { plus, bindings, nonce: nonce.to_owned(), state: State::First }
    }

    fn mechanism(&self) -> Mechanism {
        if self.plus { Mechanism::ScramSha256Plus } else { Mechanism::ScramSha256 }
    }

    fn syntax(&self, what: &'static str) -> Failure {
        Failure::Syntax { mechanism: self.mechanism(), what }
    }

    pub(crate) fn step(&mut self, message: &[u8]) -> Step {
        let text = match std::str::from_utf8(message) {
            Ok(text) if text.len() <= MESSAGE_MAX_BYTES => text,
            Ok(_) => return Step::Failed(self.syntax("too long")),
            Err(_) => return Step::Failed(self.syntax("not UTF-8")),
        };
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => match self.client_first(text) {
                Ok(first) => {
                    let user = first.user.clone();
                    self.state = State::Secret(first);
                    Step::NeedSecret { user }
                }
                Err(failure) => Step::Failed(failure),
            },
            State::Final { first, secret, server_first } => {
                self.client_final(text, first, &secret, &server_first).unwrap_or_else(Step::Failed)
            }
            State::Secret(_) | State::Over => Step::Failed(Failure::Over),
        }
    }

    pub(crate) fn secret(&mut self, secret: ScramSecret) -> Step {
        let State::Secret(first) = std::mem::replace(&mut self.state, State::Over) else {
            return Step::Failed(Failure::Over);
        };
        // RFC 5802 7 server-first-message
        let server_first =
            format!("r={}{},s={},i={}", first.client_nonce, self.nonce, BASE64.encode(&secret.salt), secret.iterations);
        let challenge = server_first.clone().into_bytes();
        self.state = State::Final { first, secret, server_first };
        Step::Challenge(challenge)
    }

    fn client_first(&self, text: &str) -> Result<First, Failure> {
        // RFC 5802 7 client-first-message = gs2-header client-first-message-bare
        let mut parts = text.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(self.syntax("no GS2 header"));
        };
        // RFC 5802 6 channel binding
        let binding = match (flag, self.plus) {
            ("n", false) => None,
            ("y", false) if self.bindings.is_empty() => None,
            // The client believes that no -PLUS was offered, but it was: somebody took it out of the list.
            ("y", false) => return Err(Failure::Binding("the client did not see that channel binding was offered")),
            ("n" | "y", true) => return Err(Failure::Binding("a -PLUS mechanism without channel binding")),
            (flag, plus) => {
                let name = flag.strip_prefix("p=").ok_or_else(|| self.syntax("unknown GS2 flag"))?;
                if !plus {
                    return Err(Failure::Binding("channel binding needs the -PLUS mechanism"));
                }
                Some(self.bindings.named(name).ok_or(Failure::Binding("unknown type of channel binding"))?.to_vec())
            }
        };
        let authzid = match authzid {
            "" => None,
            a => {
                let name = a.strip_prefix("a=").ok_or_else(|| self.syntax("GS2 authzid"))?;
                Some(self.name(name)?)
            }
        };
        let mut attributes = bare.split(',');
        let user = match attributes.next().and_then(|a| a.strip_prefix("n=")) {
            Some(name) => self.name(name)?,
            // RFC 5802 5.1 m=: an extension that this server must understand and does not
            None if bare.starts_with("m=") => return Err(self.syntax("mandatory extension")),
            None => return Err(self.syntax("no user name")),
        };
        let client_nonce = match attributes.next().and_then(|a| a.strip_prefix("r=")) {
            Some(nonce) if is_nonce(nonce) => nonce.to_owned(),
            _ => return Err(self.syntax("no nonce")),
        };
        let gs2_header = text[..text.len() - bare.len()].to_owned();
        Ok(First { gs2_header, binding, authzid, user, bare: bare.to_owned(), client_nonce })
    }

    /// A saslname (RFC 5802 5.1): `=2C` and `=3D` stand for comma and equals sign; no other `=` is allowed.
    fn name(&self, text: &str) -> Result<String, Failure> {
        let mut name = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('=') {
            name.push_str(&rest[..at]);
            name.push(match rest.get(at..at + 3) {
                Some("=2C") => ',',
                Some("=3D") => '=',
                _ => return Err(self.syntax("bad = in a name")),
            });
            rest = &rest[at + 3..];
        }
        name.push_str(rest);
        if name.is_empty() || name.contains('\0') {
            return Err(self.syntax("empty name"));
        }
        prepare(&name).map(std::borrow::Cow::into_owned).map_err(|()| Failure::Prohibited)
    }

    fn client_final(&self, text: &str, first: First, secret: &ScramSecret, server_first: &str) -> Result<Step, Failure> {
        // RFC 5802 7 client-final-message; the proof is always its last attribute
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or_else(|| self.syntax("no proof"))?;
        let mut attributes = without_proof.split(',');
        let binding = attributes
            .next()
            .and_then(|a| a.strip_prefix("c="))
            .and_then(|c| BASE64.decode(c).ok())
            .ok_or_else(|| self.syntax("no channel binding"))?;
        let nonce = attributes.next().and_then(|a| a.strip_prefix("r=")).ok_or_else(|| self.syntax("no nonce"))?;
        if nonce.strip_prefix(first.client_nonce.as_str()) != Some(self.nonce.as_str()) {
            return Err(self.syntax("another nonce"));
        }
        let mut expected = first.gs2_header.into_bytes();
        expected.extend_from_slice(first.binding.as_deref().unwrap_or_default());
        if !bool::from(binding.ct_eq(&expected)) {
            return Err(Failure::Binding("the client is bound to another channel"));
        }
        let proof: [u8; 32] =
            BASE64.decode(proof).ok().and_then(|p| p.try_into().ok()).ok_or_else(|| self.syntax("the proof is not 32 bytes"))?;
        // RFC 5802 3
        let auth_message = format!("{},{server_first},{without_proof}", first.bare);
        let signature = hmac(&secret.stored_key, &[auth_message.as_bytes()]);
        let client_key = xor(&proof, &signature);
        if !bool::from(sha256(&client_key).ct_eq(&secret.stored_key)) {
            return Err(Failure::Proof);
        }
        let server_signature = hmac(&secret.server_key, &[auth_message.as_bytes()]);
        Ok(Step::Proven {
            user: first.user,
            authzid: first.authzid,
            server_final: format!("v={}", BASE64.encode(server_signature)).into_bytes(),
        })
    }
}

/// `printable` of RFC 5802 7: visible ASCII without the comma.
pub(crate) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}
