//! Passwords: rules, hashes, sign-in.
//!
//! What is stored for an account: an Argon2id hash (or, until the next sign-in, a hash of another system) and a
//! SCRAM-SHA-256 secret. Either alone opens the account for PLAIN; SCRAM needs its secret.
//!
//! A bulk import stores the SCRAM secret only and the Argon2id hash follows at the first sign-in. That is no weaker
//! moment: the SCRAM secret has to lie beside the hash anyway for as long as SCRAM is offered, and a thief of the
//! database would attack that one. Its cost is `HashCost::scram_iterations` rounds of PBKDF2-HMAC-SHA-256 with a
//! random salt for each account.

mod app_password;
mod hash;
mod md5_crypt;
mod rules;
mod sign_in;
#[cfg(test)]
mod tests;

pub(crate) use sign_in::SignIn;

use crate::change::{HashCost, NewPassword};
use crate::error::{Error, HashFault};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD},
};
use hash::Hash;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use twinpost_sasl::{ScramSecret, prepare_stored};

/// What is stored to check an account's password.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    /// Argon2id, or a hash of another system until it is replaced.
    pub hash: Option<String>,
    /// Fingerprint of the hash that was imported: the same one imported again changes nothing.
    pub origin: Option<String>,
    pub scram: Option<Scram>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// A SCRAM secret with its text form `iterations:salt:stored_key:server_key` (Base64).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Scram(pub ScramSecret);

/// How an exported SCRAM secret begins.
pub(crate) const SCRAM_SCHEME: &str = "{SCRAM-SHA-256}";

/// More rounds would make a sign-in an attack on the machine; the client in `twinpost-sasl` has the same limit.
pub(crate) const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

impl std::fmt::Display for Scram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ScramSecret { salt, iterations, stored_key, server_key } = &self.0;
        write!(f, "{iterations}:{}:{}:{}", BASE64.encode(salt), BASE64.encode(stored_key), BASE64.encode(server_key))
    }
}

impl std::str::FromStr for Scram {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().ok_or(());
        let iterations: u32 = next()?.parse().map_err(|_| ())?;
        let salt = BASE64.decode(next()?).map_err(|_| ())?;
        let key = |text: &str| -> Result<[u8; 32], ()> { BASE64.decode(text).map_err(|_| ())?.try_into().map_err(|_| ()) };
        let (stored_key, server_key) = (key(next()?)?, key(next()?)?);
        if iterations == 0 || iterations > SCRAM_ITERATIONS_MAX || salt.is_empty() {
            return Err(());
        }
        Ok(Self(ScramSecret { salt, iterations, stored_key, server_key }))
    }
}

impl Scram {
    /// A new secret with a random salt.
    pub(crate) fn of(password: &str, iterations: u32) -> Self {
        let salt: [u8; 16] = rand::random();
        Self(ScramSecret::from_password(password, &salt, iterations))
    }
    /// The password is the one this secret was made of.
    pub(crate) fn opens(&self, password: &str) -> bool {
        let made = ScramSecret::from_password(password, &self.0.salt, self.0.iterations);
        made.stored_key.ct_eq(&self.0.stored_key).into()
    }
}

impl Credential {
    /// Of a plain password, complete. Slow.
    pub(crate) fn of(password: &str, cost: HashCost) -> Result<Self, Error> {
        let scram = Some(Scram::of(password, cost.scram_iterations));
        Ok(Self { hash: Some(argon2_hash(password, cost)?), origin: None, scram })
    }
    /// Of a plain password in a bulk import: the Argon2id hash follows at the first sign-in.
    pub(crate) fn quick(password: &str, cost: HashCost) -> Self {
        Self { hash: None, origin: None, scram: Some(Scram::of(password, cost.scram_iterations)) }
    }
    /// This imported hash is where this credential came from.
    pub(crate) fn came_from(&self, hash: &str) -> bool {
        self.origin.as_deref() == Some(fingerprint(hash).as_str())
    }
    /// The password opens it. Slow.
    pub(crate) fn opens(&self, password: &str) -> bool {
        match (&self.hash, &self.scram) {
            (Some(text), _) => Hash::parse(text).is_ok_and(|hash| hash.opens(password)),
            (None, Some(scram)) => scram.opens(password),
            (None, None) => false,
        }
    }
    /// It is not what a new password would get: make it again now that the password is known.
    pub(crate) fn is_outdated(&self, cost: HashCost) -> bool {
        let current = format!("$argon2id$v=19$m={},t={},p=1$", cost.memory_kib, cost.passes);
        !self.hash.as_ref().is_some_and(|h| h.starts_with(&current))
            || self.scram.as_ref().is_none_or(|s| s.0.iterations != cost.scram_iterations)
    }
}

/// A new password after its checks; the slow part is left to the caller.
pub(crate) enum Pending {
    Ready(Credential),
    Password(String),
}

impl Pending {
    /// Applies the rules. Readable passwords from another system (`{PLAIN}` in a hash) are taken as they are: their
    /// owners have them already.
    pub(crate) fn of(new: &NewPassword, names: &[&str], min_chars: usize) -> Result<Self, Error> {
        Ok(match new {
            NewPassword::None => Self::Ready(Credential::default()),
            NewPassword::Plain(password) => {
                rules::check_password(password, names, min_chars)?;
                Self::Password(password.clone())
            }
            NewPassword::Hash(text) if text.trim().starts_with(SCRAM_SCHEME) => {
                let scram: Scram = text.trim()[SCRAM_SCHEME.len()..].parse().map_err(|()| HashFault::Damaged)?;
                Self::Ready(Credential { hash: None, origin: None, scram: Some(scram) })
            }
            NewPassword::Hash(text) => match Hash::parse(text)? {
                Hash::Plain(password) if password.len() > rules::PASSWORD_MAX_BYTES => return Err(HashFault::Damaged.into()),
                Hash::Plain(password) => Self::Password(password),
                hash => {
                    let origin = Some(fingerprint(text));
                    Self::Ready(Credential { hash: Some(hash.into_text()), origin, scram: None })
                }
            },
        })
    }
}

/// Argon2id with a random salt, as a PHC string.
fn argon2_hash(password: &str, cost: HashCost) -> Result<String, Error> {
    let refused = |why: String| Error::Value { what: "the cost of password hashes", why };
    let params = Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|e| refused(e.to_string()))?;
    let salt: [u8; 16] = rand::random();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let prepared = prepare_stored(password);
    let hash = argon2.hash_password_with_salt(prepared.as_bytes(), &salt).map_err(|e| refused(e.to_string()))?;
    Ok(hash.to_string())
}

/// A hash of this cost that no password has: random, and made at no cost, for a start shall not take the time of a sign-in.
fn nobody_s_hash(cost: HashCost) -> Result<String, Error> {
    // Refuses what no hash could be made with.
    let refused = |why: String| Error::Value { what: "the cost of password hashes", why };
    Params::new(cost.memory_kib, cost.passes, 1, None).map_err(|e| refused(e.to_string()))?;
    let (salt, hash): ([u8; 16], [u8; 32]) = (rand::random(), rand::random());
    let text = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    Ok(format!("$argon2id$v=19$m={},t={},p=1${}${}", cost.memory_kib, cost.passes, text(&salt), text(&hash)))
}

/// Half a digest of an imported hash is enough to know it again.
fn fingerprint(hash: &str) -> String {
    hex(&keyed(b"imported hash", &[hash.trim().as_bytes()])[..16])
}

pub(crate) fn keyed(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length (RFC 2104)");
    parts.iter().for_each(|p| mac.update(p));
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

/// Any bytes through every parser of this crate that reads foreign text; none may panic.
pub fn fuzz(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _ = Hash::parse(&text);
    let _ = text.parse::<Scram>();
    let _ = crate::normal::domain(&text);
    let _ = crate::normal::address(&text);
    let _ = text.parse::<crate::Services>();
    crate::bulk::fuzz(data);
}
