//! Hashes of passwords in the forms that other systems left behind.
//!
//! Contract: [`Hash::parse`] takes any text and says what it is or why not; what it accepts costs at most about a second
//! to check ([`HashFault::Cost`] otherwise): a list that somebody imports must not be able to stop the machine later.

use super::md5_crypt::md5_crypt;
use crate::error::HashFault;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params, PasswordVerifier};
use sha_crypt::{PasswordHashRef, ShaCrypt};
use subtle::ConstantTimeEq;
use twinpost_sasl::prepare_stored;

const ARGON2_MEMORY_MAX_KIB: u32 = 256 * 1024;
const ARGON2_WORK_MAX_KIB: u64 = 1024 * 1024;
const BCRYPT_COST_MAX: u32 = 14;
const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
const HASH_MAX_BYTES: usize = 600;

/// A hash whose form was checked.
pub(crate) enum Hash {
    Argon2(String),
    Md5Crypt(String),
    ShaCrypt(String),
    Bcrypt(String),
    /// No hash at all: the password.
    Plain(String),
}

impl Hash {
    pub(crate) fn parse(text: &str) -> Result<Self, HashFault> {
        let text = text.trim();
        if text.len() > HASH_MAX_BYTES {
            return Err(HashFault::Damaged);
        }
        let text = match text.strip_prefix('{').and_then(|t| t.split_once('}')) {
            None => text,
            Some((scheme, rest)) => match scheme.to_ascii_uppercase().as_str() {
                "PLAIN" | "CLEARTEXT" | "CLEAR" => {
                    return if rest.is_empty() { Err(HashFault::Damaged) } else { Ok(Self::Plain(rest.to_owned())) };
                }
                "CRYPT" | "MD5-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" | "BLF-CRYPT" | "ARGON2ID" | "ARGON2I" | "ARGON2" => rest,
                weak @ ("MD5" | "PLAIN-MD5" | "SMD5" | "SHA" | "SHA1" | "SSHA" | "SSHA256" | "SSHA512" | "SHA256" | "SHA512"
                | "LANMAN" | "NTLM" | "DES-CRYPT") => return Err(HashFault::Weak(format!("{{{weak}}}"))),
                _ => return Err(HashFault::Unknown),
            },
        };
        let (id, rest) = text.strip_prefix('$').and_then(|t| t.split_once('$')).ok_or(HashFault::Unknown)?;
        match id {
            "1" => check_md5(rest)?,
            "5" => check_sha(text, rest, 43)?,
            "6" => check_sha(text, rest, 86)?,
            "2a" | "2b" | "2y" => check_bcrypt(text, rest)?,
            "argon2id" | "argon2i" => check_argon2(text)?,
            _ => return Err(HashFault::Unknown),
        }
        let text = text.to_owned();
        Ok(match id {
            "1" => Self::Md5Crypt(text),
            "5" | "6" => Self::ShaCrypt(text),
            "argon2id" | "argon2i" => Self::Argon2(text),
            _ => Self::Bcrypt(text),
        })
    }

    /// The text without its `{SCHEME}`.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Argon2(t) | Self::Md5Crypt(t) | Self::ShaCrypt(t) | Self::Bcrypt(t) | Self::Plain(t) => t,
        }
    }

    /// The password is the one that was hashed: prepared (RFC 4013), which is how our own are made, or as it came.
    pub(crate) fn opens(&self, password: &str) -> bool {
        let prepared = prepare_stored(password);
        self.opens_bytes(prepared.as_bytes()) || (prepared != password && self.opens_bytes(password.as_bytes()))
    }

    fn opens_bytes(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text).is_ok_and(|h| Argon2::default().verify_password(password, &h).is_ok()),
            Self::Md5Crypt(text) => {
                let mut fields = text.splitn(4, '$').skip(2);
                let (Some(salt), Some(hash)) = (fields.next(), fields.next()) else { return false };
                md5_crypt(password, salt.as_bytes()).as_bytes().ct_eq(hash.as_bytes()).into()
            }
            Self::ShaCrypt(text) => {
                PasswordHashRef::new(text).is_ok_and(|h| ShaCrypt::default().verify_password(password, h).is_ok())
            }
            Self::Bcrypt(text) => bcrypt::verify(password, text).unwrap_or(false),
            Self::Plain(text) => text.as_bytes().ct_eq(password).into(),
        }
    }
}

fn is_crypt_text(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

fn whole(fits: bool) -> Result<(), HashFault> {
    if fits { Ok(()) } else { Err(HashFault::Damaged) }
}

fn check_md5(rest: &str) -> Result<(), HashFault> {
    let (salt, hash) = rest.split_once('$').ok_or(HashFault::Damaged)?;
    whole(salt.len() <= 8 && hash.len() == 22 && is_crypt_text(hash) && salt.bytes().all(|b| b.is_ascii_graphic()))
}

fn check_sha(text: &str, mut rest: &str, hash_chars: usize) -> Result<(), HashFault> {
    if let Some(with) = rest.strip_prefix("rounds=") {
        let (rounds, after) = with.split_once('$').ok_or(HashFault::Damaged)?;
        match rounds.parse::<u32>() {
            Ok(n) if n > SHA_CRYPT_ROUNDS_MAX => return Err(HashFault::Cost),
            Ok(n) if n >= 1000 => {}
            _ => return Err(HashFault::Damaged),
        }
        rest = after;
    }
    let (salt, hash) = rest.split_once('$').ok_or(HashFault::Damaged)?;
    whole(salt.len() <= 16 && salt.bytes().all(|b| b.is_ascii_graphic()))?;
    whole(hash.len() == hash_chars && is_crypt_text(hash) && PasswordHashRef::new(text).is_ok())
}

fn check_bcrypt(text: &str, rest: &str) -> Result<(), HashFault> {
    let (cost, rest) = rest.split_once('$').ok_or(HashFault::Damaged)?;
    let cost: u32 = cost.parse().map_err(|_| HashFault::Damaged)?;
    if cost > BCRYPT_COST_MAX {
        return Err(HashFault::Cost);
    }
    whole(cost >= 4 && rest.len() == 53 && is_crypt_text(rest) && text.parse::<bcrypt::HashParts>().is_ok())
}

fn check_argon2(text: &str) -> Result<(), HashFault> {
    let hash = PasswordHash::new(text).map_err(|_| HashFault::Damaged)?;
    let params = Params::try_from(&hash).map_err(|_| HashFault::Damaged)?;
    whole(hash.salt.is_some() && hash.hash.is_some())?;
    let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
    let bearable = params.m_cost() <= ARGON2_MEMORY_MAX_KIB && work <= ARGON2_WORK_MAX_KIB && params.p_cost() <= 64;
    if bearable { Ok(()) } else { Err(HashFault::Cost) }
}
