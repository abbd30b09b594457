//! Bytes that nobody prints: frame keys, the witness key, public keys and randomness of the house's one TLS provider.
//!
//! Contract: a [`Secret`] shows nothing in `Debug`; on disk and on the wire it is 64 hexadecimal digits.
//!
//! Failure classes: text that is not such digits ([`serde::de::Error`]).

use crate::error::Error;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The provider of all TLS and randomness here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())).clone()
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0; N];
    match provider().secure_random.fill(&mut out) {
        Ok(()) => Ok(out),
        Err(why) => Err(Error::Crypto { what: "asking the system for randomness", why: format!("{why:?}") }),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        for nibble in [b >> 4, b & 15] {
            out.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
        }
        out
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// 32 secret bytes.
#[derive(Clone, Copy)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// New random bytes.
    ///
    /// # Errors
    /// [`Error::Crypto`] where the system has no randomness.
    pub fn new() -> Result<Self, Error> {
        Ok(Self(random()?))
    }
}

// Compared without an early end.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        blake3::Hash::from_bytes(self.0) == blake3::Hash::from_bytes(other.0)
    }
}
impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unhex(&text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| de::Error::custom("a key has 64 hexadecimal digits"))
    }
}

/// A public key as `SubjectPublicKeyInfo` (RFC 5280 4.1.2.7), the thing that is pinned.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// The key with this encoding. It is not looked into: a pin is compared, byte by byte.
    #[must_use]
    pub fn new(spki_der: Vec<u8>) -> Self {
        Self(spki_der)
    }

    /// DER of the `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// For people to compare: the first 80 bits of the key's BLAKE3 hash in groups of four digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digits = hex(&blake3::hash(&self.0).as_bytes()[..10]);
        let groups: Vec<&str> = (0..5).map(|i| &digits[i * 4..i * 4 + 4]).collect();
        groups.join("-")
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        unhex(&text).filter(|k| !k.is_empty() && k.len() <= 2048).map(Self).ok_or_else(|| de::Error::custom("not a public key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed_and_survive_their_text() -> Result<(), Error> {
        let one = Secret::new()?;
        assert_ne!(one, Secret::new()?, "two draws are two keys");
        assert_eq!(format!("{one:?}"), "Secret(..)");
        let text = serde_json::to_string(&one).expect("written");
        assert_eq!(serde_json::from_str::<Secret>(&text).expect("read"), one);
        for bad in ["\"\"", "\"zz\"", "\"00\"", "7", &format!("\"{}\"", "0".repeat(63)), &format!("\"{}\"", "é".repeat(32))] {
            assert!(serde_json::from_str::<Secret>(bad).is_err(), "{bad} is no key");
        }
        Ok(())
    }
}
