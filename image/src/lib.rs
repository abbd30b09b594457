//! Builds the appliance image from its recipe: packages -> tree -> squashfs with verity -> initramfs, kernel image, disk image.
//!
//! Contract: the same recipe, binary, base archive and epoch give the same bytes. Each stage takes data and gives data or one file; what a
//! stage made is kept under a name made from its inputs (BLAKE3), so that a change of our own program repeats only what depends on it.
//! Failure classes are in [`Error`]; a failed build leaves the last good output as it was.
//!
//! `modules`, `initramfs`, `uki`, `disk` and `pvh` know only [`Tree`] and bytes; [`build`] strings the stages together.

pub mod disk;
mod error;
pub mod initramfs;
pub mod modules;
pub mod pvh;
mod tree;
pub mod uki;

pub use error::{Error, Result};
pub use tree::{Content, Entry, Kind, Tree};

use std::path::{Path, PathBuf};

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
    /// Folder of what earlier builds made.
    pub cache: PathBuf,
    /// Fetch the packages again even if an earlier base archive fits the recipe.
    pub fresh: bool,
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

/// What the stages after the squashfs work on: the finished tree, the kernel taken from it, and the slot.
#[derive(Debug)]
pub struct Stage<'a> {
    /// What the build started from.
    pub inputs: &'a Inputs,
    /// The finished tree of the root file system (with `usr/lib/modules/<release>`; `boot` is not in it).
    pub tree: &'a Tree,
    /// Kernel release, the folder name below `usr/lib/modules`.
    pub kernel_release: String,
    /// The kernel as the distribution ships it (bzImage with EFI stub).
    pub vmlinuz: Vec<u8>,
    /// `usr/lib/os-release` of the image.
    pub os_release: String,
    /// The slot image: squashfs, then the hash tree.
    pub slot_image: &'a Path,
    /// How the command line names the root.
    pub root: Root,
    /// Folder for what the stage makes.
    pub out: &'a Path,
}
