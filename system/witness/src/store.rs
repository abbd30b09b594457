//! The register on the disk: two copies in one file, each with a checksum.
//!
//! Contract: [`Store::write`] returns after both copies are on the disk; the copy that is known good is overwritten last. So at any moment of
//! a crash at least one copy holds the last acknowledged record or a newer one, and one copy may even rot without a loss. The file has
//! its full size from the start: a full disk does not stop a register (on file systems that write in place).
//!
//! Failure classes: a failed write leaves the record that was acknowledged in force, and the next write begins again with both copies.
//! A file of which no copy is whole is [`Error::Damaged`]: what was won is unknown, and that is never taken for "nothing".

use crate::error::Error;
use crate::register::Record;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const SLOT_BYTES: usize = 64;
/// Copies lie in different blocks, so that one torn block hits one of them.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];
const FILE_BYTES: u64 = 8192;
const MAGIC: [u8; 4] = *b"TPW1";

/// Where the copies lie. Tests put a disk with faults here.
pub(crate) trait Medium: Send {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
    /// Whether this is still what lies at `path`.
    fn lies_at(&self, path: &Path) -> bool;
}

impl Medium for File {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }

    fn lies_at(&self, path: &Path) -> bool {
        let there = std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        self.metadata().is_ok_and(|own| there.is_ok_and(|there| there == (own.dev(), own.ino())))
    }
}

fn encode(cluster: u32, count: u64, record: &Record) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(&MAGIC);
    slot[4..8].copy_from_slice(&cluster.to_be_bytes());
    slot[8..16].copy_from_slice(&count.to_be_bytes());
    slot[16..20].copy_from_slice(&record.reign.to_be_bytes());
    slot[20] = record.holder;
    slot[24..28].copy_from_slice(&record.longest_ms[0].to_be_bytes());
    slot[28..32].copy_from_slice(&record.longest_ms[1].to_be_bytes());
    let sum = blake3::hash(&slot[..32]);
    slot[32..].copy_from_slice(sum.as_bytes());
    slot
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

fn decode(cluster: u32, slot: &[u8; SLOT_BYTES]) -> Option<(u64, Record)> {
    let whole = blake3::hash(&slot[..32]).as_bytes() == &slot[32..];
    if !whole || slot[..4] != MAGIC || word(&slot[4..8]) != cluster || slot[20] > 1 || slot[21..24] != [0; 3] {
        return None;
    }
    let count = u64::from(word(&slot[8..12])) << 32 | u64::from(word(&slot[12..16]));
    let longest_ms = [word(&slot[24..28]), word(&slot[28..32])];
    Some((count, Record { reign: word(&slot[16..20]), holder: slot[20], longest_ms }))
}

/// Reads any bytes as a copy of the register. Entry point of property tests.
pub fn fuzz(data: &[u8]) {
    let mut slot = [0; SLOT_BYTES];
    let n = data.len().min(SLOT_BYTES);
    slot[..n].copy_from_slice(&data[..n]);
    if let Some((count, record)) = decode(word(&slot[4..8]), &slot) {
        assert_eq!(encode(word(&slot[4..8]), count, &record), slot, "what is read is what was written");
    }
}

/// An open register file.
pub(crate) struct Store<M = File> {
    medium: M,
    path: PathBuf,
    cluster: u32,
    count: u64,
    /// The copy that is known to be whole and newest: overwritten last.
    good: usize,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |why| Error::File { doing, path: path.to_owned(), why }
}

fn path_of(dir: &Path, cluster: u32) -> PathBuf {
    dir.join(format!("{cluster:08x}.reign"))
}

/// Makes the names in the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

/// An empty register, unless there is one that can be read.
pub(crate) fn make(dir: &Path, cluster: u32) -> Result<(), Error> {
    let path = path_of(dir, cluster);
    match Store::open(dir, cluster) {
        Ok(_) => return Ok(()),
        Err(Error::Damaged { .. }) => {
            // Kept for people to look at.
            std::fs::rename(&path, path.with_extension("damaged")).map_err(failed("set aside", &path))?;
        }
        Err(Error::File { why, .. }) if why.kind() == io::ErrorKind::NotFound => {}
        Err(other) => return Err(other),
    }
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        // Zeros are written, not a hole: the blocks are this file's from now on.
        file.write_all_at(&[0; FILE_BYTES as usize], 0)?;
        for offset in SLOT_OFFSETS {
            file.write_all_at(&encode(cluster, 1, &Record::default()), offset)?;
        }
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_folder(&path)
    };
    write().map_err(failed("make the register", &path))
}

/// Whether a readable register of `cluster` lies in `dir`.
#[must_use]
pub fn is_enrolled(dir: &Path, cluster: u32) -> bool {
    Store::open(dir, cluster).is_ok()
}

impl Store<File> {
    pub(crate) fn open(dir: &Path, cluster: u32) -> Result<(Self, Record), Error> {
        let path = path_of(dir, cluster);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed("open the register", &path))?;
        Self::on(file, path, cluster)
    }
}

impl<M: Medium> Store<M> {
    pub(crate) fn on(medium: M, path: PathBuf, cluster: u32) -> Result<(Self, Record), Error> {
        let mut found: Option<(u64, Record, usize)> = None;
        let mut unreadable = None;
        for (index, offset) in SLOT_OFFSETS.into_iter().enumerate() {
            let mut slot = [0; SLOT_BYTES];
            match medium.read(offset, &mut slot) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(why) => {
                    unreadable = Some(why);
                    continue;
                }
            }
            if let Some((count, record)) = decode(cluster, &slot)
                && found.is_none_or(|(newest, ..)| count > newest)
            {
                found = Some((count, record, index));
            }
        }
        match found {
            Some((count, record, good)) => Ok((Self { medium, path, cluster, count, good }, record)),
            None => Err(match unreadable {
                Some(why) => Error::File { doing: "read the register", path, why },
                None => Error::Damaged { path, what: "neither of its two copies is whole" },
            }),
        }
    }

    /// Returns when both copies are on the disk.
    pub(crate) fn write(&mut self, record: &Record) -> Result<(), Error> {
        if !self.medium.lies_at(&self.path) {
            // What is written into a file that has no name is forgotten with this process.
            return Err(Error::Damaged { path: self.path.clone(), what: "the file was replaced or removed" });
        }
        // Above every count that a failed write may have left behind.
        self.count = self.count.saturating_add(1);
        let slot = encode(self.cluster, self.count, record);
        let other = 1 - self.good;
        for (index, offset) in [(other, SLOT_OFFSETS[other]), (self.good, SLOT_OFFSETS[self.good])] {
            self.medium.write(offset, &slot).map_err(failed("write the register", &self.path))?;
            self.medium.sync().map_err(failed("make durable the register", &self.path))?;
            self.good = index;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
