//! What is signed.

use super::{CHUNK_BYTES, PARTS, SLOT, SLOT_MAX_BYTES, UKI_MAX_BYTES};
use crate::error::Error;
use crate::release::Release;
use crate::slot::Slot;
use serde::{Deserialize, Serialize};

/// Longest name of a version, a commit, a board.
const WORD_MAX_BYTES: usize = 100;
const MAX_BOARDS: usize = 64;

/// The manifest: JSON. The bytes in the file are what is signed; there is no canonical form that two programs could disagree about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always `twinpost`: another appliance may use the form with its own keys.
    pub product: String,
    /// The version that it brings.
    pub release: Release,
    /// Smallest sequence of a running system that it can be installed from.
    #[serde(default)]
    pub from_sequence: u64,
    /// Boards that it is for; empty: any.
    #[serde(default)]
    pub boards: Vec<String>,
    /// What follows in the file, in this order.
    pub parts: Vec<Part>,
}

/// One part of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `slot`, `uki-a`, `uki-b`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of each chunk of 1 MiB, 64 hexadecimal digits.
    pub chunks: Vec<String>,
}

impl Manifest {
    /// Reads and checks a manifest: sizes, limits, hashes. Unknown fields are ignored, unknown parts are not.
    ///
    /// # Errors
    /// [`Error::Manifest`]
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|e| Error::Manifest(e.to_string()))?;
        manifest.check()?;
        Ok(manifest)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |why: String| Err(Error::Manifest(why));
        if self.product != "twinpost" {
            return wrong(format!("it is for the product {:.40?}", self.product));
        }
        let release = &self.release;
        let words = [&release.version, &release.commit, &release.built].into_iter().chain(&self.boards);
        for word in words {
            if word.len() > WORD_MAX_BYTES || word.chars().any(char::is_control) {
                return wrong(format!("the word {word:.40?} is too long or not printable"));
            }
        }
        if release.version.is_empty() || release.sequence == 0 {
            return wrong("it has no version or no sequence".to_owned());
        }
        if self.boards.len() > MAX_BOARDS {
            return wrong(format!("more than {MAX_BOARDS} boards"));
        }
        if !self.parts.iter().map(|part| part.name.as_str()).eq(PARTS) {
            return wrong(format!("its parts are not {}", PARTS.join(", ")));
        }
        for part in &self.parts {
            let limit = if part.name == SLOT { SLOT_MAX_BYTES } else { UKI_MAX_BYTES };
            if part.bytes == 0 || part.bytes > limit {
                return wrong(format!("{} has {} bytes, allowed are 1 to {limit}", part.name, part.bytes));
            }
            if part.bytes.div_ceil(CHUNK_BYTES as u64) != part.chunks.len() as u64 {
                return wrong(format!("{} has {} bytes and {} hashes", part.name, part.bytes, part.chunks.len()));
            }
            if let Some(bad) = part.chunks.iter().find(|hash| blake3::Hash::from_hex(hash.as_bytes()).is_err()) {
                return wrong(format!("{bad:.70?} is no hash"));
            }
        }
        Ok(())
    }

    /// A part by its name. Every name of [`PARTS`] is there: [`Manifest::parse`] saw to it.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == name)
    }

    /// The name of the part that holds the boot entry of a slot.
    #[must_use]
    pub const fn uki(slot: Slot) -> &'static str {
        match slot {
            Slot::A => "uki-a",
            Slot::B => "uki-b",
        }
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

impl Part {
    /// The facts of these bytes.
    #[must_use]
    pub fn of(name: &str, content: &[u8]) -> Self {
        let chunks = content.chunks(CHUNK_BYTES).map(|chunk| blake3::hash(chunk).to_hex().to_string()).collect();
        Self { name: name.to_owned(), bytes: content.len() as u64, chunks }
    }

    /// The hash of a chunk.
    pub(crate) fn hash(&self, chunk: usize) -> Option<blake3::Hash> {
        self.chunks.get(chunk).and_then(|hex| blake3::Hash::from_hex(hex.as_bytes()).ok())
    }

    /// Length of a chunk in bytes.
    pub(crate) fn chunk_bytes(&self, chunk: usize) -> usize {
        let left = self.bytes.saturating_sub(chunk as u64 * CHUNK_BYTES as u64);
        usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)
    }
}
