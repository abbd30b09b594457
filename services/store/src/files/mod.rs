//! The file layer: every byte of the packs goes to the disk through these traits.
//!
//! Contract: the least that a log-structured store needs from a file system, named so that each promise of durability is
//! visible at the call: [`DiskFile::sync_data`] makes the bytes of a file durable, [`Files::sync_dir`] its name. Nothing
//! else does. All calls block; the caller chooses the thread. The traits are object safe, so the store holds one
//! `Arc<dyn Files>` and tests put another disk under it:
//!
//! - [`RealFiles`]: the operating system;
//! - [`SlowFiles`]: another layer with a delay in every sync (a real disk or DRBD where the test machine has neither);
//! - [`FaultFiles`]: a simulated disk in memory that loses power, tears and reorders what was not synced, fills up and fails.
//!
//! Failure classes: `StorageFull` leaves earlier bytes as they are and may pass by itself; a failed sync is final for the
//! bytes it should have covered, because a kernel may mark the failed pages clean and report success the next time, so
//! the caller must write them again elsewhere; every other error is reported as it came.
//!
//! An object store stands behind the same reader and writer as follows. The packs use a narrow part of these traits:
//! files are made once, grow at the end, are never renamed and never change below a synced end. Such a layer gathers
//! `write_at` in memory, puts one part (or one object a batch) at `sync_data`, answers `read_at` by ranged reads, and makes
//! `sync_dir`, `allocate` empty: a put that returned is durable, name and all. `set_len` below a synced end occurs only when
//! [`crate::pack`] cuts a torn tail, and an object store has none, for a put is whole or absent.

mod fault;
mod real;
mod slow;

pub use fault::{FaultFiles, FaultKind, Rng};
pub use real::RealFiles;
pub use slow::SlowFiles;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    Create,
}

/// An open file. All positions are bytes from its start; there is no cursor, so one handle serves many threads.
pub trait DiskFile: Send + Sync + Debug {
    /// Reads into `buffer` at `offset` until it is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// Those of the disk.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all parts one after the other at `offset`, in one call of the system where it takes as much.
    ///
    /// # Errors
    /// Those of the disk; any part of the bytes may have been written then.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes the bytes (and the length needed to read them) durable: fdatasync.
    ///
    /// # Errors
    /// Those of the disk. The bytes written since the last success are in doubt for good: a later success says nothing of them.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Nothing in the file.
    ///
    /// # Errors
    /// Those of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zero bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Reserves disk space for the range and extends the length to its end if it is shorter; what was never written
    /// reads as zero bytes.
    ///
    /// # Errors
    /// `StorageFull` when the disk cannot hold the range; `Unsupported` when the file system cannot reserve.
    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()>;
}

/// A file system.
pub trait Files: Send + Sync + Debug {
    /// Opens or makes a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` as the mode says, and those of the disk.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, taking the place of one that has it. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// `NotFound`, and those of the disk.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Handles stay readable. Durable after [`Files::sync_dir`].
    ///
    /// # Errors
    /// `NotFound`, and those of the disk.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Names of the files in a folder, in no order. Names that are not UTF-8 are not ours and are left out.
    ///
    /// # Errors
    /// `NotFound`, and those of the disk.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder and those above it where they are missing, durably.
    ///
    /// # Errors
    /// Those of the disk.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable: created, renamed and removed ones.
    ///
    /// # Errors
    /// Those of the disk; the changes of names are in doubt then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// How much room there is where this folder lies.
    ///
    /// # Errors
    /// Those of the disk; `Unsupported` when it has no such number.
    fn room(&self, dir: &Path) -> io::Result<Room>;
}

/// Room on a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What this program may still use.
    pub free: u64,
    /// All of it.
    pub total: u64,
}
