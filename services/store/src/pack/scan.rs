//! Going through a pack record by record, and on behind damage.
//!
//! Contract: every record that is whole is found, whatever lies between; what is not a record is named by its range
//! and fault, once. Takes any bytes: never panics, never runs backwards, keeps one window of [`WINDOW_BYTES`] in memory.
//! Sectors that the disk cannot read count as damage of what lies in them. The end is the end of the file or the point
//! from which there are zero bytes only (reserved space).

use super::reader::PackFile;
use super::record::{Fault, HEADER_BYTES, Header, Kind, MAGIC};
use super::{Location, head};
use crate::files::{FaultFiles, Files, Mode};
use memchr::memmem;
use std::path::Path;
use std::sync::Arc;

/// Memory of a scan.
const WINDOW_BYTES: usize = 1 << 20;
/// The disk is asked again in pieces of this size where a larger read failed.
const SECTOR_BYTES: usize = 4096;

/// What a scan finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A record; its payload has the right checksum.
    Record {
        /// Where.
        location: Location,
        /// Its header.
        header: Header,
    },
    /// A range that holds no record.
    Damaged {
        /// In which pack.
        pack: u32,
        /// Where it starts.
        offset: u64,
        /// How long it is, up to the next record or the end.
        bytes: u64,
        /// What is wrong at its start.
        fault: Fault,
        /// The header, where only the payload is damaged.
        header: Option<Header>,
    },
}

/// An iterator over a pack, from [`super::PackReader::scan`].
#[derive(Debug)]
pub struct Scan {
    pack: u32,
    open: Arc<PackFile>,
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Ranges of the window that the disk could not read.
    unreadable: bool,
}

impl Scan {
    pub(super) fn new(pack: u32, open: Arc<PackFile>, start: u64, end: u64) -> Self {
        Self { pack, open, at: start, end, window: Vec::new(), window_at: 0, unreadable: false }
    }

    /// Up to `want` bytes at `at`, fewer only at the end. `want` is at most a window.
    fn bytes(&mut self, at: u64, want: usize) -> &[u8] {
        let want = want.min(usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX));
        let have = self.window_at + self.window.len() as u64;
        if at < self.window_at || at + want as u64 > have {
            self.fill(at);
        }
        let from = usize::try_from(at - self.window_at).unwrap_or(usize::MAX).min(self.window.len());
        &self.window[from..(from + want).min(self.window.len())]
    }

    fn fill(&mut self, at: u64) {
        let bytes = usize::try_from(self.end - at).unwrap_or(usize::MAX).min(WINDOW_BYTES);
        self.window.clear();
        self.window.resize(bytes, 0);
        self.window_at = at;
        self.unreadable = false;
        match self.open.file.read_at(&mut self.window, at) {
            // Shorter than it was when the scan began: cut meanwhile.
            Ok(n) if n < bytes => {
                self.window.truncate(n);
                self.end = at + n as u64;
            }
            Ok(_) => {}
            Err(_) => {
                for (i, sector) in self.window.chunks_mut(SECTOR_BYTES).enumerate() {
                    if self.open.file.read_at(sector, at + (i * SECTOR_BYTES) as u64).is_err() {
                        sector.fill(0);
                        self.unreadable = true;
                    }
                }
            }
        }
    }

    fn payload_crc(&mut self, mut at: u64, mut bytes: u64) -> Option<u32> {
        let mut sum = 0;
        while bytes > 0 {
            let want = usize::try_from(bytes).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES / 4);
            let some = self.bytes(at, want);
            if some.len() < want {
                return None;
            }
            sum = crc32c::crc32c_append(sum, some);
            at += want as u64;
            bytes -= want as u64;
        }
        Some(sum)
    }

    /// The next place from `at` on with a believable header, and whether there is anything but zero bytes before it.
    fn search(&mut self, mut at: u64) -> (Option<u64>, bool) {
        let finder = memmem::Finder::new(&MAGIC);
        let (seal, mut dirty) = (self.open.seal, false);
        while at < self.end {
            let some = self.bytes(at, WINDOW_BYTES / 2);
            let (bytes, found, written) = (some.len(), finder.find(some), some.iter().any(|b| *b != 0));
            if bytes == 0 {
                break;
            }
            dirty |= written || self.unreadable;
            if let Some(n) = found {
                at += n as u64;
                if Header::parse(self.bytes(at, HEADER_BYTES), seal, at).is_ok() {
                    return (Some(at), dirty);
                }
                at += 1;
            } else if at + bytes as u64 >= self.end {
                break;
            } else {
                // A magic number may lie across the end of this piece.
                at += (bytes - (MAGIC.len() - 1).min(bytes - 1)) as u64;
            }
        }
        (None, dirty)
    }

    fn damaged(&self, bytes: u64, fault: Fault, header: Option<Header>) -> Found {
        Found::Damaged { pack: self.pack, offset: self.at, bytes, fault, header }
    }
}

impl Iterator for Scan {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if self.at >= self.end {
                return None;
            }
            let (at, seal) = (self.at, self.open.seal);
            let fault = match Header::parse(self.bytes(at, HEADER_BYTES), seal, at) {
                Ok(header) => {
                    let location = Location { pack: self.pack, offset: at, stored_bytes: header.stored_bytes() };
                    if location.end() > self.end {
                        let found = self.damaged(self.end - at, Fault::Short, Some(header));
                        self.at = self.end;
                        return Some(found);
                    }
                    if header.kind == Kind::Gap {
                        self.at = location.end();
                        continue;
                    }
                    let sum = self.payload_crc(at + HEADER_BYTES as u64, u64::from(header.payload_bytes));
                    let found = if sum == Some(header.payload_crc) {
                        Found::Record { location, header }
                    } else {
                        self.damaged(u64::from(header.stored_bytes()), Fault::PayloadChecksum, Some(header))
                    };
                    self.at = location.end();
                    return Some(found);
                }
                Err(fault) => fault,
            };
            // The first byte itself cannot start a record; looked at again only to see whether it is zero.
            let first_is_zero = self.bytes(at, 1).iter().all(|b| *b == 0) && !self.unreadable;
            let (next, dirty) = self.search(at + 1);
            let until = next.unwrap_or(self.end);
            if next.is_none() && first_is_zero && !dirty {
                self.at = self.end;
                return None;
            }
            let found = self.damaged(until - at, fault, None);
            self.at = until;
            return Some(found);
        }
    }
}

/// Takes any bytes as the records of a pack and scans them: they are never believed to be records, and never panic.
/// The first byte chooses how much of them stands in a real pack behind a real record.
pub fn fuzz(data: &[u8]) {
    let files = Arc::new(FaultFiles::new(1));
    let path = Path::new("/p/00000001.pack");
    let seal = super::Seal(u64::from(data.first().copied().unwrap_or(0)));
    let Ok(file) = files.create_dir(Path::new("/p")).and_then(|()| files.open(path, Mode::Create)) else { return };
    let record = super::record::encode(data);
    let start = record.header().to_bytes(seal, head::DATA_START);
    let part = |bytes| [std::io::IoSlice::new(bytes)];
    let end = head::DATA_START + (start.len() + record.payload().len()) as u64;
    let written = file
        .write_at(&part(&start), head::DATA_START)
        .and_then(|()| file.write_at(&part(record.payload()), head::DATA_START + start.len() as u64))
        .and_then(|()| file.write_at(&part(data), end));
    let Ok(()) = written else { return };
    let total = end + data.len() as u64;
    let scan = |from| Scan::new(1, Arc::new(PackFile { file: Arc::clone(&file), seal }), from, total);
    let records = scan(head::DATA_START).filter(|f| matches!(f, Found::Record { .. })).count();
    assert_eq!(records, 1, "the real record is found, and nothing in the garbage behind it");
    // From a place that is no start of a record the scan finds its way, or the end.
    let mut last = head::DATA_START;
    for found in scan(head::DATA_START + 1) {
        let (Found::Record { location: Location { offset, .. }, .. } | Found::Damaged { offset, .. }) = found;
        assert!(offset > last, "a scan runs forward");
        last = offset;
    }
}
