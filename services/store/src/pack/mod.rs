//! Packs: append-only files of records, one writer, any number of readers.
//!
//! Contract: [`PackSet::append`] places records, [`PackSet::sync`] makes all that were appended durable; a location may be
//! written into the index only after the sync that followed its append. A record that was synced is read back byte for
//! byte, or its reader gets an error that says what happened to it: [`PackError::Missing`] (the pack is gone),
//! [`PackError::Torn`] (the pack ends before it, or it was never written), [`PackError::Damaged`] (other bytes are there).
//! Nothing half-written is ever returned as a record. Everything here blocks: call it where blocking is allowed.
//!
//! Failure classes: [`PackError::Full`] leaves the set as it was before the call and passes when there is space again;
//! [`PackError::Sync`] means that all appends since the last good sync are void (their locations must be thrown away, the
//! records appended anew): the pack is closed for writing at its last synced end and the next append makes a new one,
//! because after a failed fsync the kernel may report success for pages that never reached the disk. A damaged record
//! concerns itself only: reading and scanning go on behind it.
//!
//! [`PackSet`] and [`PackReader`] are also the whole interface that the store knows, so an object store can stand behind
//! it: see [`crate::files`]. The format on disk is described in docs/pack-format.md.

mod head;
mod reader;
pub mod record;
mod scan;
mod tail;
#[cfg(test)]
mod tests;

pub use reader::PackReader;
pub use record::{EncodedRecord, Fault, Header, Kind};
pub use scan::{Found, Scan, fuzz};
pub use tail::ScanReport;

use crate::files::{DiskFile, Files, Mode};
use reader::{PackFile, Shared};
use record::{HEADER_BYTES, Seal};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Number of the pack, from 1.
    pub pack: u32,
    /// Where its header starts, in bytes from the start of the file.
    pub offset: u64,
    /// Header and payload, in bytes.
    pub stored_bytes: u32,
}

impl Location {
    /// First byte behind the record.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.stored_bytes))
    }
}

/// How packs are written.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// A new pack is begun before a batch that would grow the newest one beyond this. A batch that is larger than this
    /// gets a pack of its own. Default 256 MiB.
    pub max_bytes: u64,
    /// Space is reserved, and the file lengthened, in steps of this size. Default 16 MiB.
    ///
    /// A file that grows with each batch makes each fdatasync write its new length into the journal of the file system;
    /// lengthened in advance it has only data to write (measured on ext4: 0.16 ms against 0.12 ms for 10 KB, on a disk
    /// where a sync is cheap). `FALLOC_FL_KEEP_SIZE` would save the blocks but not the length; writing zero bytes in
    /// advance measured the same as `fallocate` and writes everything twice. A full disk shows itself at a step, before
    /// a record is half written.
    pub allocate_bytes: u64,
    /// New mail leaves so much of the disk free, or a twentieth of it where that is less: the index, the search index and a compaction
    /// need room to grow and to shrink, and a program that starts needs some to start at all. Default 64 MiB.
    pub keep_free_bytes: u64,
    /// What the index points to: the newest pack with a row and the end of its last record. `Some((0, 0))`: an index
    /// without rows. `None`: no index, so every record and every torn one may have been promised to somebody.
    pub known_end: Option<(u32, u64)>,
}

impl PackOptions {
    /// What new mail leaves free on a disk of so many bytes.
    #[must_use]
    pub fn kept_free(&self, total_bytes: u64) -> u64 {
        self.keep_free_bytes.min(total_bytes / KEPT_SHARE)
    }
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { max_bytes: 256 << 20, allocate_bytes: 16 << 20, keep_free_bytes: 64 << 20, known_end: None }
    }
}

/// On a small disk one part of so many is kept free.
const KEPT_SHARE: u64 = 20;

/// What can go wrong with packs.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The pack of the record is not there.
    #[error("pack {} is missing: the record at {} in it cannot be read", .0.pack, .0.offset)]
    Missing(Location),
    /// The record was never written whole.
    #[error("the record at {} in pack {} is torn: the pack has no more bytes there", .0.offset, .0.pack)]
    Torn(Location),
    /// Other bytes are where the record was.
    #[error("the record at {} in pack {} is damaged: {fault}", location.offset, location.pack)]
    Damaged {
        /// Where.
        location: Location,
        /// What is wrong.
        fault: Fault,
    },
    /// A pack cannot be understood at all.
    #[error("pack {pack} is damaged: neither copy of its head can be read")]
    Head {
        /// Which.
        pack: u32,
    },
    /// The pack that was asked for does not exist.
    #[error("there is no pack {pack}")]
    NoPack {
        /// Which.
        pack: u32,
    },
    /// The disk is full; nothing was appended.
    #[error("no space left on the disk for {bytes} more bytes of mail: {source}")]
    Full {
        /// How much was to be written.
        bytes: u64,
        /// Why.
        source: io::Error,
    },
    /// What was appended since the last sync is lost.
    #[error("pack {pack} could not be made durable from byte {from} on: {source}")]
    Sync {
        /// Which.
        pack: u32,
        /// End of what is durable.
        from: u64,
        /// Why.
        source: io::Error,
    },
    /// A record beyond the limit.
    #[error("a record of {bytes} bytes is beyond the limit of {limit_bytes}")]
    TooLarge {
        /// Its plain length.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// The newest pack cannot be retired while it is being written.
    #[error("pack {pack} is being written and cannot be retired")]
    Active {
        /// Which.
        pack: u32,
    },
    /// Anything else that a disk answers.
    #[error("cannot {what} pack {pack}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which pack; 0 for the folder.
        pack: u32,
        /// Why.
        source: io::Error,
    },
}

impl PackError {
    /// The disk is full: answer "try again later", and try again.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

/// A pack and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackInfo {
    /// Number.
    pub pack: u32,
    /// Bytes up to the end of its last record; of packs that are no longer written, the length of the file.
    pub bytes: u64,
}

/// The pack that is being written.
#[derive(Debug)]
struct Active {
    pack: u32,
    file: Arc<dyn DiskFile>,
    seal: Seal,
    /// End of the last record.
    end: u64,
    /// End of what is durable.
    synced: u64,
    /// End of what is reserved.
    allocated: u64,
}

/// The one writer of a folder of packs.
#[derive(Debug)]
pub struct PackSet {
    shared: Arc<Shared>,
    options: PackOptions,
    active: Option<Active>,
    next: u32,
    /// Appends that were lost with a pack before their sync: that pack and its synced end. Told once, at the next call.
    void: Option<(u32, u64)>,
}

impl PackSet {
    /// Opens the packs of a folder, makes it when absent, and clears away what a power cut left half-written behind
    /// `options.known_end` in the newest pack. Bytes before that end are never touched.
    ///
    /// # Errors
    /// [`PackError::Io`]. Damage is no error here: it is told in the report, and mail goes into a new pack.
    pub fn open(files: Arc<dyn Files>, dir: &Path, options: PackOptions) -> Result<(Self, ScanReport), PackError> {
        let io = |what, source| PackError::Io { what, pack: 0, source };
        files.create_dir(dir).map_err(|e| io("make the folder of", e))?;
        let shared = Arc::new(Shared::new(files, dir.to_owned()));
        let (report, next, active) = tail::recover(&shared, &options)?;
        if let Some(a) = &active {
            shared.set_writing(Some((a.pack, a.synced)));
        }
        Ok((Self { shared, options, active, next, void: None }, report))
    }

    /// A reader of all packs, for any thread.
    #[must_use]
    pub fn reader(&self) -> PackReader {
        PackReader::new(Arc::clone(&self.shared))
    }

    /// Appends a batch with one vectored write and says where each record will be after [`PackSet::sync`]. The whole
    /// batch goes into one pack.
    ///
    /// # Errors
    /// [`PackError::TooLarge`], [`PackError::Full`], [`PackError::Io`]: none of the batch was appended.
    /// [`PackError::Sync`]: a pack had to be finished first and could not; all appends since the last sync are void.
    pub fn append(&mut self, records: &[&EncodedRecord]) -> Result<Vec<Location>, PackError> {
        records.iter().try_for_each(|r| r.check())?;
        let total: u64 = records.iter().map(|r| r.stored_bytes() as u64).sum();
        self.tell_void()?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let mut active = match self.active.take() {
            Some(a) if a.end == head::DATA_START || a.end + total <= self.options.max_bytes => a,
            full => {
                self.active = full;
                self.roll()?;
                self.create()?
            }
        };
        let written = self.write(&mut active, records, total);
        match written {
            Err(ref e) if !e.is_full() => self.abandon(&active),
            _ => self.active = Some(active),
        }
        written
    }

    /// Whether so many bytes of new mail leave what is kept free. What the newest pack has reserved is used up first.
    ///
    /// # Errors
    /// [`PackError::Full`].
    pub fn room_for(&self, bytes: u64) -> Result<(), PackError> {
        if self.active.as_ref().is_some_and(|active| active.end + bytes <= active.allocated) {
            return Ok(());
        }
        // A disk that does not say how full it is says so when it is.
        let Ok(room) = self.shared.files.room(&self.shared.dir) else { return Ok(()) };
        if room.free >= bytes.saturating_add(self.options.kept_free(room.total)) {
            return Ok(());
        }
        Err(PackError::Full {
            bytes,
            source: io::Error::new(io::ErrorKind::StorageFull, "the rest is kept for the service itself"),
        })
    }

    fn write(&self, active: &mut Active, records: &[&EncodedRecord], total: u64) -> Result<Vec<Location>, PackError> {
        let mut places = Vec::with_capacity(records.len());
        let mut headers: Vec<[u8; HEADER_BYTES]> = Vec::with_capacity(records.len());
        let mut offset = active.end;
        for record in records {
            let header = record.header();
            headers.push(header.to_bytes(active.seal, offset));
            places.push(Location { pack: active.pack, offset, stored_bytes: header.stored_bytes() });
            offset += u64::from(header.stored_bytes());
        }
        let mut parts = Vec::with_capacity(records.len() * 2);
        for (header, record) in headers.iter().zip(records) {
            parts.push(IoSlice::new(header));
            if !record.payload().is_empty() {
                parts.push(IoSlice::new(record.payload()));
            }
        }
        self.reserve(active, active.end + total);
        match active.file.write_at(&parts, active.end) {
            Ok(()) => {
                active.end += total;
                active.allocated = active.allocated.max(active.end);
                Ok(places)
            }
            Err(source) => {
                // What was written of the batch must not be found by a later scan behind shorter records.
                let cut = active.file.set_len(active.end);
                active.allocated = active.end;
                if cut.is_ok() && source.kind() == io::ErrorKind::StorageFull {
                    return Err(PackError::Full { bytes: total, source });
                }
                Err(PackError::Io { what: "append to", pack: active.pack, source })
            }
        }
    }

    /// Lengthens the file ahead of the records. That this fails is no fault: the write itself then tells, and on an
    /// almost full disk it may still fit where a whole step does not.
    fn reserve(&self, active: &mut Active, end: u64) {
        if end <= active.allocated || self.options.allocate_bytes == 0 {
            return;
        }
        let step = self.options.allocate_bytes;
        let target = end.div_ceil(step).saturating_mul(step).min(self.options.max_bytes.max(end));
        if active.file.allocate(active.allocated, target - active.allocated).is_ok() {
            active.allocated = target;
        }
    }

    /// Makes everything that was appended durable, with one fdatasync.
    ///
    /// # Errors
    /// [`PackError::Sync`]: all appends since the last success are void, see the contract of the module.
    pub fn sync(&mut self) -> Result<(), PackError> {
        self.tell_void()?;
        let Some(active) = self.active.as_mut().filter(|a| a.synced < a.end) else {
            return Ok(());
        };
        match active.file.sync_data() {
            Ok(()) => {
                active.synced = active.end;
                self.shared.set_writing(Some((active.pack, active.synced)));
                Ok(())
            }
            Err(source) => {
                let (pack, from) = (active.pack, active.synced);
                if let Some(active) = self.active.take() {
                    self.abandon(&active);
                }
                self.void = None;
                Err(PackError::Sync { pack, from, source })
            }
        }
    }

    /// A failed append closed the pack while earlier appends were still waiting for their sync.
    fn tell_void(&mut self) -> Result<(), PackError> {
        match self.void.take() {
            None => Ok(()),
            Some((pack, from)) => {
                let source = io::Error::other("a later append to it failed, so it was closed");
                Err(PackError::Sync { pack, from, source })
            }
        }
    }

    /// Closes a pack that failed: nothing more goes into it.
    fn abandon(&mut self, active: &Active) {
        tracing::error!(pack = active.pack, synced = active.synced, end = active.end, "a pack failed: mail goes on in a new one");
        if active.synced < active.end {
            self.void = Some((active.pack, active.synced));
        }
        // Best effort: what the failed write left there is void. If the disk refuses, `known_end` says the same later.
        let _ = active.file.set_len(active.synced).and_then(|()| active.file.sync_data());
        self.shared.set_writing(None);
    }

    /// Finishes the newest pack: it is synced, trimmed to its records and never written again; the next append begins a
    /// new one. Compaction does this before it empties the newest pack.
    ///
    /// # Errors
    /// [`PackError::Sync`].
    pub fn roll(&mut self) -> Result<(), PackError> {
        self.sync()?;
        if let Some(active) = self.active.take() {
            // Before the next pack is made: opening clears the tail of the newest pack only, and a write that a full disk
            // cut short may still come back behind this end. If the disk refuses, a scan names what is there.
            let _ = active.file.set_len(active.end).and_then(|()| active.file.sync_data());
            self.shared.set_writing(None);
        }
        Ok(())
    }

    fn create(&mut self) -> Result<Active, PackError> {
        let pack = self.next;
        let Some(next) = pack.checked_add(1) else {
            return Err(PackError::Io { what: "number", pack, source: io::Error::other("all pack numbers are used") });
        };
        // A number is never tried twice: a file that failed once may come back after a power cut.
        self.next = next;
        let path = self.shared.path(pack);
        let seal = head::new_seal();
        let made = self.shared.files.open(&path, Mode::Create).and_then(|file| {
            head::write(&*file, pack, seal)?;
            file.sync_data()?;
            self.shared.files.sync_dir(&self.shared.dir)?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                let end = head::DATA_START;
                self.shared.keep(pack, PackFile { file: Arc::clone(&file), seal });
                self.shared.set_writing(Some((pack, end)));
                Ok(Active { pack, file, seal, end, synced: end, allocated: end })
            }
            Err(source) => {
                if source.kind() != io::ErrorKind::AlreadyExists {
                    let _ = self.shared.files.remove(&path);
                }
                if source.kind() == io::ErrorKind::StorageFull {
                    return Err(PackError::Full { bytes: head::DATA_START, source });
                }
                Err(PackError::Io { what: "make", pack, source })
            }
        }
    }

    /// The pack that is being written and the end of its last durable record; what the index notes as `known_end`.
    #[must_use]
    pub fn synced_end(&self) -> Option<(u32, u64)> {
        self.active.as_ref().map(|a| (a.pack, a.synced))
    }

    /// All packs, oldest first.
    ///
    /// # Errors
    /// [`PackError::Io`].
    pub fn packs(&self) -> Result<Vec<PackInfo>, PackError> {
        self.reader().packs()
    }

    /// Removes a pack that nothing points to any more. Readers that are in it finish; later ones get
    /// [`PackError::Missing`].
    ///
    /// # Errors
    /// [`PackError::Active`], [`PackError::NoPack`], [`PackError::Io`].
    pub fn retire(&mut self, pack: u32) -> Result<(), PackError> {
        if self.active.as_ref().is_some_and(|a| a.pack == pack) {
            return Err(PackError::Active { pack });
        }
        let removed = self.shared.files.remove(&self.shared.path(pack));
        self.shared.retired(pack);
        match removed {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(PackError::NoPack { pack }),
            Err(source) => Err(PackError::Io { what: "remove", pack, source }),
            Ok(()) => {
                let dir = &self.shared.dir;
                self.shared.files.sync_dir(dir).map_err(|source| PackError::Io { what: "remove for good", pack, source })
            }
        }
    }

    /// Finishes the newest pack as [`PackSet::roll`] does, and ends.
    ///
    /// # Errors
    /// [`PackError::Sync`].
    pub fn close(mut self) -> Result<(), PackError> {
        self.sync()?;
        if let Some(active) = self.active.take() {
            let _ = active.file.set_len(active.end);
        }
        Ok(())
    }
}
