//! Reading records, from any thread.
//!
//! Contract: a read is one positioned read of the file and a checksum; it takes no lock that a writer holds over I/O.
//! At most [`OPEN_FILES_MAX`] packs are held open. Errors are told apart as [`super::PackError`] says; none of them
//! concerns another record.

use super::head;
use super::record::{EncodedRecord, Fault, HEADER_BYTES, Header, PLAIN_BYTES_MAX, Seal};
use super::scan::Scan;
use super::{Location, PackError, PackInfo};
use crate::files::{DiskFile, Files, Mode};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use twinpost_message::BodyHash;

/// Packs held open at once: 128 GiB of mail at the default size.
const OPEN_FILES_MAX: usize = 512;

/// An open pack.
#[derive(Debug)]
pub struct PackFile {
    pub file: Arc<dyn DiskFile>,
    pub seal: Seal,
}

#[derive(Debug, Default)]
struct OpenPacks {
    files: BTreeMap<u32, Arc<PackFile>>,
    /// Numbers are not used again, so a reader that opened a pack just before it was removed cannot keep it, and its
    /// space, for ever.
    retired: BTreeSet<u32>,
}

/// What writer and readers of a folder have in common.
#[derive(Debug)]
pub struct Shared {
    pub files: Arc<dyn Files>,
    pub dir: PathBuf,
    open: RwLock<OpenPacks>,
    /// The pack that is being written and its synced end.
    writing: Mutex<Option<(u32, u64)>>,
}

impl Shared {
    pub fn new(files: Arc<dyn Files>, dir: PathBuf) -> Self {
        Self { files, dir, open: RwLock::default(), writing: Mutex::default() }
    }
    pub fn path(&self, pack: u32) -> PathBuf {
        self.dir.join(format!("{pack:08}.pack"))
    }
    pub fn set_writing(&self, writing: Option<(u32, u64)>) {
        *self.writing.lock() = writing;
    }
    pub fn keep(&self, pack: u32, file: PackFile) -> Arc<PackFile> {
        let file = Arc::new(file);
        let mut open = self.open.write();
        if open.retired.contains(&pack) {
            return file;
        }
        if open.files.len() >= OPEN_FILES_MAX {
            // The oldest pack is the least likely to be read next.
            open.files.pop_first();
        }
        open.files.insert(pack, Arc::clone(&file));
        file
    }
    /// The pack is gone, for good.
    pub fn retired(&self, pack: u32) {
        let mut open = self.open.write();
        open.files.remove(&pack);
        open.retired.insert(pack);
    }

    /// Numbers of all packs, oldest first.
    pub fn numbers(&self) -> io::Result<Vec<u32>> {
        let number = |name: &String| name.strip_suffix(".pack").filter(|n| n.len() >= 8)?.parse().ok().filter(|n| *n > 0);
        let mut packs: Vec<u32> = self.files.list(&self.dir)?.iter().filter_map(number).collect();
        packs.sort_unstable();
        Ok(packs)
    }

    /// `Ok(None)`: there is no such pack.
    pub fn open(&self, pack: u32) -> Result<Option<Arc<PackFile>>, PackError> {
        if let Some(file) = self.open.read().files.get(&pack) {
            return Ok(Some(Arc::clone(file)));
        }
        let io = |source| PackError::Io { what: "open", pack, source };
        let file = match self.files.open(&self.path(pack), Mode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        let seal = head::read(&*file, pack).map_err(io)?.ok_or(PackError::Head { pack })?;
        Ok(Some(self.keep(pack, PackFile { file, seal })))
    }
}

/// Reads records. Cheap to clone, for any thread.
#[derive(Clone, Debug)]
pub struct PackReader {
    shared: Arc<Shared>,
}

impl PackReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// A reader of a folder without a writer in this process: for looking at packs from outside, at rest or in a copy.
    #[must_use]
    pub fn at_rest(files: Arc<dyn Files>, dir: &Path) -> Self {
        Self { shared: Arc::new(Shared::new(files, dir.to_owned())) }
    }

    /// The random bits that tell this pack from every other one of its number.
    ///
    /// # Errors
    /// [`PackError::NoPack`], [`PackError::Head`], [`PackError::Io`].
    pub fn seal(&self, pack: u32) -> Result<u64, PackError> {
        Ok(self.shared.open(pack)?.ok_or(PackError::NoPack { pack })?.seal.0)
    }

    /// The plain bytes of a record. Blocks for one read of the disk, or none when the kernel still has the bytes.
    ///
    /// # Errors
    /// [`PackError::Missing`], [`PackError::Torn`], [`PackError::Damaged`], [`PackError::Head`], [`PackError::Io`].
    pub fn read(&self, location: Location) -> Result<Bytes, PackError> {
        let (header, payload) = self.fetch(location)?;
        header.open(&payload).map_err(|fault| PackError::Damaged { location, fault })
    }

    /// Reads a record and compares its bytes with the hash that names it, too: what `verify` does.
    ///
    /// # Errors
    /// As [`PackReader::read`].
    pub fn check(&self, location: Location) -> Result<Header, PackError> {
        let (header, payload) = self.fetch(location)?;
        let damaged = |fault| PackError::Damaged { location, fault };
        let plain = header.open(&payload).map_err(damaged)?;
        if BodyHash::of(&plain) != header.id {
            return Err(damaged(Fault::Identity));
        }
        Ok(header)
    }

    /// A record as it is stored, to be appended to another pack without work (compaction). Its bytes are checked.
    ///
    /// # Errors
    /// As [`PackReader::read`].
    pub fn read_stored(&self, location: Location) -> Result<EncodedRecord, PackError> {
        let (header, payload) = self.fetch(location)?;
        header.open(&payload).map_err(|fault| PackError::Damaged { location, fault })?;
        Ok(EncodedRecord::stored(header, payload))
    }

    fn fetch(&self, location: Location) -> Result<(Header, Bytes), PackError> {
        let Location { pack, offset, stored_bytes } = location;
        let damaged = |fault| PackError::Damaged { location, fault };
        if stored_bytes < HEADER_BYTES as u32 || stored_bytes > PLAIN_BYTES_MAX + HEADER_BYTES as u32 {
            return Err(damaged(Fault::Length));
        }
        let open = self.shared.open(pack)?.ok_or(PackError::Missing(location))?;
        let mut bytes = vec![0; stored_bytes as usize];
        let n = open.file.read_at(&mut bytes, offset).map_err(|source| PackError::Io { what: "read", pack, source })?;
        if n < bytes.len() || bytes[..HEADER_BYTES] == [0; HEADER_BYTES] {
            return Err(PackError::Torn(location));
        }
        let header = Header::parse(&bytes, open.seal, offset).map_err(damaged)?;
        if header.stored_bytes() != stored_bytes {
            return Err(damaged(Fault::Length));
        }
        Ok((header, Bytes::from(bytes).slice(HEADER_BYTES..)))
    }

    /// Goes through a pack from its start, and on behind damage. The newest pack is shown up to its synced end.
    ///
    /// # Errors
    /// [`PackError::NoPack`], [`PackError::Head`] and [`PackError::Io`], when there is nothing to begin with.
    pub fn scan(&self, pack: u32) -> Result<Scan, PackError> {
        let open = self.shared.open(pack)?.ok_or(PackError::NoPack { pack })?;
        let len = open.file.len().map_err(|source| PackError::Io { what: "measure", pack, source })?;
        let end = match *self.shared.writing.lock() {
            Some((writing, synced)) if writing == pack => synced.min(len),
            _ => len,
        };
        Ok(Scan::new(pack, open, head::DATA_START, end))
    }

    /// All packs, oldest first.
    ///
    /// # Errors
    /// [`PackError::Io`].
    pub fn packs(&self) -> Result<Vec<PackInfo>, PackError> {
        let numbers = self.shared.numbers().map_err(|source| PackError::Io { what: "list", pack: 0, source })?;
        let writing = *self.shared.writing.lock();
        let mut packs = Vec::with_capacity(numbers.len());
        for pack in numbers {
            let bytes = match writing {
                Some((n, synced)) if n == pack => synced,
                _ => match self.shared.files.open(&self.shared.path(pack), Mode::Read).and_then(|f| f.len()) {
                    Ok(bytes) => bytes,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                    Err(source) => return Err(PackError::Io { what: "measure", pack, source }),
                },
            };
            packs.push(PackInfo { pack, bytes });
        }
        Ok(packs)
    }
}
