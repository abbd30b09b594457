//! Keys that sign updates, and the set that a system trusts.
//!
//! Contract: Ed25519 (RFC 8032). A private key is a PKCS #8 PEM file, a public key a SubjectPublicKeyInfo PEM file (RFC 8410), so that any tool can make and
//! keep them. A system trusts the files `*.pub` of one folder of its own verified root; one good signature of one of them is enough.
//! Keys change without a mechanism of their own: an image carries the set for the *next* update, and a bundle may be signed by several keys, the old one and the new one.
//!
//! Failure classes: [`Error::Key`] (a file that is no key), [`Error::Io`].

use crate::error::{Error, io_error};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, VerifyingKey};
use std::fmt;
use std::io::Read as _;
use std::path::Path;

/// Keys that a system may trust at once.
pub const MAX_KEYS: usize = 16;
const MAX_FILE_BYTES: u64 = 16 << 10;

/// Names a public key: the first 8 bytes of its BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    fn of(key: &VerifyingKey) -> Self {
        let hash = blake3::hash(key.as_bytes());
        let mut id = [0; 8];
        id.copy_from_slice(&hash.as_bytes()[..8]);
        Self(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key. Shows nothing of itself.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id())
    }
}

impl SigningKey {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// [`Error::Io`] where there is none.
    pub fn generate() -> Result<Self, Error> {
        let path = Path::new("/dev/urandom");
        let mut seed = [0; 32];
        let mut source = std::fs::File::open(path).map_err(io_error("open", path))?;
        source.read_exact(&mut seed).map_err(io_error("read", path))?;
        Ok(Self::from_seed(&seed))
    }

    /// From 32 bytes that nobody else knows.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// From a PKCS #8 PEM text.
    ///
    /// # Errors
    /// [`Error::Key`]
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text);
        key.map(Self).map_err(|e| Error::Key { what: "(private)".to_owned(), why: e.to_string() })
    }

    /// Reads a PKCS #8 PEM file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Key`]
    pub fn read(path: &Path) -> Result<Self, Error> {
        let why = |e: Error| Error::Key { what: path.display().to_string(), why: e.to_string() };
        Self::from_pem(&read_small(path)?).map_err(why)
    }

    /// As a PKCS #8 PEM text: to be kept where only the person who releases can read it.
    ///
    /// # Errors
    /// [`Error::Key`]
    pub fn to_pem(&self) -> Result<String, Error> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        pem.map(|text| text.to_string()).map_err(|e| Error::Key { what: self.id().to_string(), why: e.to_string() })
    }

    /// The public half as PEM text: what goes into the image.
    ///
    /// # Errors
    /// [`Error::Key`]
    pub fn public_pem(&self) -> Result<String, Error> {
        let pem = self.0.verifying_key().to_public_key_pem(LineEnding::LF);
        pem.map_err(|e| Error::Key { what: self.id().to_string(), why: e.to_string() })
    }

    /// Names the public half.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId::of(&self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// The public keys that a system trusts.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<(KeyId, VerifyingKey)>);

impl Keys {
    /// Takes a public key from PEM text.
    ///
    /// # Errors
    /// [`Error::Key`]: no Ed25519 key, a weak one, or too many.
    pub fn add_pem(&mut self, what: &str, text: &str) -> Result<KeyId, Error> {
        let fail = |why: String| Error::Key { what: what.to_owned(), why };
        let key = VerifyingKey::from_public_key_pem(text).map_err(|e| fail(e.to_string()))?;
        // A point of small order verifies signatures that nobody made.
        if key.is_weak() {
            return Err(fail("it is a weak key".to_owned()));
        }
        let id = KeyId::of(&key);
        if !self.0.iter().any(|(known, _)| *known == id) {
            if self.0.len() >= MAX_KEYS {
                return Err(fail(format!("there are more than {MAX_KEYS} keys")));
            }
            self.0.push((id, key));
        }
        Ok(id)
    }

    /// All files `*.pub` of a folder, in the order of their names. A folder that is not there is an empty set: nothing is trusted.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Key`]
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let mut paths = Vec::new();
        match std::fs::read_dir(folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(io_error("list", folder)(e)),
            Ok(list) => {
                for entry in list {
                    let path = entry.map_err(io_error("list", folder))?.path();
                    if path.extension().is_some_and(|end| end == "pub") {
                        paths.push(path);
                    }
                }
            }
        }
        paths.sort();
        let mut keys = Self::default();
        for path in paths {
            keys.add_pem(&path.display().to_string(), &read_small(&path)?)?;
        }
        Ok(keys)
    }

    /// The public halves of these keys.
    #[must_use]
    pub fn of(keys: &[&SigningKey]) -> Self {
        Self(keys.iter().map(|key| (key.id(), key.0.verifying_key())).collect())
    }

    /// Their names.
    #[must_use]
    pub fn ids(&self) -> Vec<KeyId> {
        self.0.iter().map(|(id, _)| *id).collect()
    }

    /// Whether `signature` of `message` is by the trusted key of this name.
    pub(crate) fn verify(&self, id: KeyId, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        // RFC 8032 5.1.7, and stricter: neither small-order points nor a second encoding of the same signature.
        self.0.iter().any(|(known, key)| *known == id && key.verify_strict(message, &signature).is_ok())
    }
}

fn read_small(path: &Path) -> Result<String, Error> {
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(io_error("read", path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_their_files_and_strangers_are_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        assert_ne!(one.id(), two.id());
        std::fs::write(dir.path().join("release.pub"), one.public_pem().unwrap()).unwrap();
        std::fs::write(dir.path().join("notes.txt"), "no key").unwrap();
        std::fs::write(dir.path().join("private.pem"), one.to_pem().unwrap()).unwrap();
        let keys = Keys::load(dir.path()).unwrap();
        assert_eq!(keys.ids(), [one.id()]);
        let again = SigningKey::read(&dir.path().join("private.pem")).unwrap();
        let mut signature = again.sign(b"words");
        assert!(keys.verify(one.id(), b"words", &signature));
        assert!(!keys.verify(one.id(), b"other words", &signature));
        assert!(!keys.verify(two.id(), b"words", &two.sign(b"words")));
        assert!(!keys.verify(one.id(), b"words", &two.sign(b"words")));
        signature[63] ^= 1;
        assert!(!keys.verify(one.id(), b"words", &signature));
        assert!(!format!("{one:?}").contains("PRIVATE") && one.to_pem().unwrap().contains("PRIVATE KEY"));
    }

    /// RFC 8032 7.1, test 2.
    #[test]
    fn the_published_vector() {
        let seed = [
            0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a, 0x31,
            0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
        ];
        let key = SigningKey::from_seed(&seed);
        let signature = key.sign(&[0x72]);
        assert_eq!(signature[..8], [0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8]);
        assert!(Keys::of(&[&key]).verify(key.id(), &[0x72], &signature));
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_folder_trusts_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Keys::load(&dir.path().join("none")).unwrap().ids().is_empty());
        std::fs::write(dir.path().join("bad.pub"), "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").unwrap();
        assert!(matches!(Keys::load(dir.path()), Err(Error::Key { .. })));
    }
}
