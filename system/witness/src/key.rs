//! The key of a cluster, and how a cluster becomes known to a witness.
//!
//! Contract: a key file is 64 hex digits and a line end, mode 0600. Requests and answers are hashed with keys *derived* from it, so that
//! neither can be sent back as the other. [`enrol`] makes the register before the key: a key without a register therefore means that the register
//! was lost, and the witness refuses instead of beginning anew.

use crate::error::Error;
use crate::store;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Shared by the two nodes of a cluster and their witness.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Key {
    /// A new one from the system's random numbers.
    #[must_use]
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Reads a key file.
    ///
    /// # Errors
    /// The file cannot be read or does not hold 64 hex digits.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let file = std::fs::File::open(path).map_err(|why| Error::File { doing: "read the key", path: path.to_owned(), why })?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, 256), &mut text).map_err(|why| Error::File {
            doing: "read the key",
            path: path.to_owned(),
            why,
        })?;
        Self::parse(text.trim()).ok_or_else(|| Error::Key { path: path.to_owned(), what: "it must be 64 hex digits" })
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        Some(Self(key))
    }

    /// The 64 hex digits, for the other node or the witness. Handle it like a password.
    #[must_use]
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// Writes a key file, mode 0600, whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |why| Error::File { doing: "write the key", path: path.to_owned(), why };
        let new = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(format!("{}\n", self.to_hex()).as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        std::fs::rename(&new, path).map_err(failed)?;
        store::sync_folder(path).map_err(failed)
    }

    pub(crate) fn for_requests(&self) -> [u8; 32] {
        blake3::derive_key("twinpost witness v1 request", &self.0)
    }

    pub(crate) fn for_answers(&self) -> [u8; 32] {
        blake3::derive_key("twinpost witness v1 answer", &self.0)
    }
}

pub(crate) fn key_path(dir: &Path, cluster: u32) -> PathBuf {
    dir.join(format!("{cluster:08x}.key"))
}

/// The cluster that a key file's name stands for.
pub(crate) fn cluster_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".key")?;
    if name.len() == 8 { u32::from_str_radix(name, 16).ok() } else { None }
}

/// Makes a cluster known to the witness whose folder is `dir`: an empty register if there is none that can be read, then the key. A
/// running witness sees it by itself. Enrolling a known cluster again changes its key and keeps its register; only a *damaged* register is
/// replaced by an empty one, which is the administrator's word that neither node is active on the old one's strength.
///
/// # Errors
/// The folder or the files cannot be written.
pub fn enrol(dir: &Path, cluster: u32, key: &Key) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|why| Error::File { doing: "make the folder", path: dir.to_owned(), why })?;
    store::make(dir, cluster)?;
    key.save(&key_path(dir, cluster))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = key_path(dir.path(), 0xfeed_0001);
        let key = Key::generate();
        key.save(&path).unwrap();
        assert_eq!(Key::load(&path).unwrap(), key);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(cluster_of(&path), Some(0xfeed_0001));
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    #[test]
    fn refuses_what_is_no_key() {
        for text in ["", "00", &"g".repeat(64), &"0".repeat(65), &"é".repeat(32)] {
            assert!(Key::parse(text).is_none(), "{text}");
        }
        assert_ne!(Key::from([1; 32]).for_requests(), Key::from([1; 32]).for_answers());
    }
}
