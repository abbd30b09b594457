//! Builds the appliance image from its recipe: packages -> tree -> squashfs with verity -> initramfs, kernel image, disk image.
//!
//! Contract: the same recipe, binary, base archive and epoch give the same bytes. Each stage takes data and gives data or one file; what a
//! stage made is kept under a name made from its inputs (BLAKE3), so that a change of our own program repeats only what depends on it.
//! Failure classes are in [`Error`]; a failed build leaves the last good output as it was.
//!
//! `modules`, `initramfs`, `uki`, `disk` and `pvh` know only [`Tree`] and bytes; [`build`] strings the stages together.

mod base;
mod build;
mod cache;
mod check;
pub mod crates;
pub mod disk;
pub mod elf;
mod error;
pub mod glob;
pub mod initramfs;
pub mod kernel;
mod lay;
pub mod licence;
mod loader;
pub mod manifest;
pub mod modules;
pub mod packages;
mod program;
mod progress;
pub mod pvh;
pub mod recipe;
pub mod sbom;
pub mod size;
pub mod squash;
mod strip;
mod toml;
mod tree;
pub mod uki;
pub mod verity;

pub use build::{build, slot};
pub use error::{Error, Result};
pub use manifest::Manifest;
pub use progress::{Progress, Timing};
pub use tree::{Content, Entry, Kind, Tree};

use std::path::PathBuf;

/// What a build starts from, besides the recipe in the repository.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// Root of the repository (`image/`, `board/` are below it).
    pub repository: PathBuf,
    /// The twinpost program to put into the image; a stripped copy goes in.
    pub binary: PathBuf,
    /// The initramfs program, static.
    pub init: PathBuf,
    /// Name of the profile: the folder of the outputs and what `image.json` calls it.
    pub profile: String,
    /// Seconds since 1970 that every time in the image has, and the sequence number of the release (SOURCE_DATE_EPOCH).
    pub epoch_s: u64,
    /// Version of the release.
    pub version: String,
    /// Commit of the release.
    pub commit: String,
    /// No older image than this sequence may be installed over this one; 0: any may.
    pub floor: u64,
    /// Public keys (file name `x.pub`, PEM text) that the image takes updates from.
    pub trusted: Vec<(String, String)>,
    /// Private key (PKCS #8 PEM) that signs the update; none: no update is made.
    pub signing_key: Option<PathBuf>,
    /// How long a node gives it to be well, seconds; none: what the node has.
    pub patience_s: Option<u32>,
    /// What of it does not work, on purpose.
    pub broken: Option<Broken>,
    /// Folder of what earlier builds made.
    pub cache: PathBuf,
    /// Fetch the packages again even if an earlier base archive fits the recipe.
    pub fresh: bool,
}

impl Inputs {
    /// What the image says of itself, in `release.json` and in the update.
    #[must_use]
    pub fn release(&self) -> twinpost_update::Release {
        twinpost_update::Release {
            version: self.version.clone(),
            commit: self.commit.clone(),
            sequence: self.epoch_s,
            built: iso8601(self.epoch_s),
            floor: self.floor,
            patience_s: self.patience_s,
        }
    }
}

/// What does not work in an image that is broken on purpose: the tests install it as an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The kernel finds no first program, and panics.
    Boot,
    /// The pair daemon ends at once: the node has no part in its pair.
    Pair,
    /// The mail process ends at once: as a standby nothing is wrong with the node.
    Mail,
}

/// A slot: its name, and with it the partition, the command line and the kernel image it boots from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Partition `twinpost-a`.
    A,
    /// Partition `twinpost-b`.
    B,
}

impl Slot {
    /// `a` or `b`, as on the command line and in names.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

/// The verified root as the kernel command line names it: `twinpost.root=sha256:<roothash>:<salt>:<data blocks>`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Root {
    /// Hex of the SHA-256 at the top of the hash tree.
    pub roothash: String,
    /// Hex of the salt, 32 bytes.
    pub salt: String,
    /// Blocks of 4096 bytes of the squashfs; the hash tree starts at the block of this number.
    pub data_blocks: u64,
}

impl Root {
    /// The words of the kernel command line that say which slot and which root are to be booted.
    #[must_use]
    pub fn cmdline(&self, slot: Slot) -> String {
        format!("twinpost.slot={} twinpost.root=sha256:{}:{}:{}", slot.letter(), self.roothash, self.salt, self.data_blocks)
    }
}

/// A time as `2026-11-22T10:00:00Z`.
#[must_use]
pub fn iso8601(epoch_s: u64) -> String {
    let (days, second) = (epoch_s / 86_400, epoch_s % 86_400);
    // Days since 0000-03-01, in eras of 400 years, so that a leap day ends a year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_as_text() {
        // Values of date(1): `date -u -d @N +%FT%TZ`.
        for (epoch_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(super::iso8601(epoch_s), text);
        }
    }
}
