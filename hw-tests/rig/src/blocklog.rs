//! A disk that remembers every write in its order, and what a power cut leaves of it.
//!
//! QEMU's block driver `blklogwrites` writes each request to a log in the format of the kernel's dm-log-writes
//! (Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c): a super block, then for each request one sector with
//! its header and the data behind it. The log has the request before the disk has it, so the log's length when a client hears
//! its `250` bounds from above what that promise may rest on.
//!
//! A cut at a point of the log keeps every write before the last flush, and of the writes after it whatever the disk's cache had written
//! out: any subset, the last one perhaps in part. A write that a flush does not cover was promised to nobody.
//!
//! Failure classes: a log that ends in the middle of an entry is read up to there (the machine was killed); a log that is none is an error.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// `WRITE_LOG_MAGIC`.
const MAGIC: u64 = 0x006a_7366_7773_6872;
/// `WRITE_LOG_VERSION`.
const VERSION: u64 = 1;
/// All requests before this one are on the medium when it is answered.
const FLUSH: u64 = 1;
/// This request is on the medium when it is answered.
const FUA: u64 = 2;
/// The blocks need not be kept.
const DISCARD: u64 = 4;
/// A remark without data.
const MARK: u64 = 8;
/// Sector, number of sectors, flags, length of the data: four numbers of 64 bit, little-endian.
const ENTRY_BYTES: usize = 32;
/// No request of a guest is larger; a length above it is garbage.
const REQUEST_MAX_BYTES: u64 = 1 << 30;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Where it goes on the disk, in bytes.
    to: u64,
    /// Where its data are in the log, in bytes.
    at: u64,
    /// How many.
    bytes: u64,
    flags: u64,
    /// Where the log goes on behind it.
    end: u64,
}

/// The requests of one disk.
#[derive(Debug)]
pub struct Log {
    file: File,
    sector_bytes: u64,
    entries: Vec<Entry>,
}

/// What became of the writes at a cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Requests that were logged before the cut.
    pub requests: usize,
    /// Writes that no flush covered.
    pub unflushed: usize,
    /// How many of them did not reach the medium, whole or in part.
    pub dropped: usize,
}

impl Log {
    /// Reads the log of a machine that ended.
    ///
    /// # Errors
    /// The file cannot be read or is no log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let whole = file.metadata()?.len();
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0)?;
        let sector_bytes = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
        if number(&head, 0) != MAGIC || number(&head, 1) != VERSION || !sector_bytes.is_power_of_two() || sector_bytes < 512 {
            let what = format!("{} is no log of dm-log-writes, version {VERSION}", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let mut entries = Vec::new();
        let mut at = sector_bytes;
        while at + sector_bytes <= whole {
            let mut head = [0; ENTRY_BYTES];
            file.read_exact_at(&mut head, at)?;
            let (sector, sectors, flags) = (number(&head, 0), number(&head, 1), number(&head, 2));
            let Some(bytes) = sectors.checked_mul(sector_bytes).filter(|bytes| *bytes <= REQUEST_MAX_BYTES) else { break };
            let carried = if flags & (DISCARD | MARK) == 0 { bytes } else { 0 };
            let data = at + sector_bytes;
            // The space for an entry is there before its bytes are: the tail of a killed machine's log is zeros.
            let nothing = sectors == 0 && flags == 0;
            if nothing || data + carried > whole {
                break;
            }
            at = data + carried;
            entries.push(Entry { to: sector.saturating_mul(sector_bytes), at: data, bytes, flags, end: at });
        }
        Ok(Self { file, sector_bytes, entries })
    }

    /// How many requests it holds.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.entries.len()
    }

    /// How many flushes.
    #[must_use]
    pub fn flushes(&self) -> usize {
        self.entries.iter().filter(|entry| entry.flags & FLUSH != 0).count()
    }

    /// How many requests were whole in the log when it was so long, in bytes.
    #[must_use]
    pub fn requests_at(&self, log_bytes: u64) -> usize {
        self.entries.partition_point(|entry| entry.end <= log_bytes)
    }

    /// Writes on `disk`, which holds what the disk held when the log began, what a power cut after the first `requests` requests left there; `seed`
    /// chooses what the cache lost.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn cut(&self, disk: &File, requests: usize, seed: u64) -> io::Result<Cut> {
        let before = &self.entries[..requests.min(self.entries.len())];
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |at| at + 1);
        let mut chance = StdRng::seed_from_u64(seed);
        let mut cut = Cut { requests: before.len(), ..Cut::default() };
        let keep_of_ten = chance.random_range(0..=10u32);
        for (number, entry) in before.iter().enumerate() {
            if entry.flags & (DISCARD | MARK) != 0 || entry.bytes == 0 {
                continue;
            }
            let covered = number < flushed || entry.flags & FUA != 0;
            let mut bytes = entry.bytes;
            if !covered {
                cut.unflushed += 1;
                if !chance.random_ratio(keep_of_ten, 10) {
                    cut.dropped += 1;
                    // Sectors are whole; a request need not be.
                    bytes = chance.random_range(0..entry.bytes / self.sector_bytes) * self.sector_bytes;
                    if chance.random_bool(0.7) {
                        continue;
                    }
                }
            }
            self.copy(entry, bytes, disk)?;
        }
        Ok(cut)
    }

    fn copy(&self, entry: &Entry, bytes: u64, disk: &File) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut buffer, entry.at)?;
        disk.write_all_at(&buffer, entry.to)
    }
}

/// The `index`-th number of 64 bit.
fn number(bytes: &[u8], index: usize) -> u64 {
    bytes[index * 8..index * 8 + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// For property tests: no bytes in a log do harm.
pub fn fuzz(data: &[u8]) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("log");
    std::fs::write(&path, data)?;
    if let Ok(log) = Log::open(&path) {
        assert!(log.entries.iter().all(|entry| entry.end <= data.len() as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Maker(Vec<u8>);

    impl Maker {
        fn new() -> Self {
            let mut bytes = [MAGIC, VERSION, 0].iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>();
            bytes.extend(512u32.to_le_bytes());
            bytes.resize(512, 0);
            Self(bytes)
        }
        fn entry(&mut self, sector: u64, fill: &[u8], flags: u64) -> u64 {
            let start = self.0.len();
            for n in [sector, fill.len() as u64, flags, 0] {
                self.0.extend(n.to_le_bytes());
            }
            self.0.resize(start + 512, 0);
            for byte in fill {
                self.0.extend([*byte; 512]);
            }
            self.0.len() as u64
        }
        fn log(&self) -> (tempfile::TempDir, Log) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            std::fs::write(&path, &self.0).unwrap();
            let log = Log::open(&path).unwrap();
            (folder, log)
        }
    }

    fn disk(log: &Log, requests: usize, seed: u64) -> (Vec<u8>, Cut) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * 512).unwrap();
        let cut = log.cut(&file, requests, seed).unwrap();
        let mut bytes = vec![0; 8 * 512];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (bytes.chunks(512).map(|sector| sector[0]).collect(), cut)
    }

    #[test]
    fn what_a_flush_covers_stays_and_the_rest_is_chance() {
        let mut maker = Maker::new();
        maker.entry(0, &[1, 1], 0);
        let flushed = maker.entry(0, &[], FLUSH);
        maker.entry(0, &[2, 2], 0);
        maker.entry(4, &[3], FUA);
        let (_folder, log) = maker.log();
        assert_eq!((log.requests(), log.flushes()), (4, 1));
        assert_eq!(log.requests_at(flushed), 2);
        assert_eq!(log.requests_at(flushed - 1), 1);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let (sectors, cut) = disk(&log, 4, seed);
            assert_eq!(sectors[4], 3, "written through");
            assert_eq!(cut.unflushed, 1);
            seen.insert((sectors[0], sectors[1]));
        }
        // Old, half of the new and all of the new.
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(1, 1), (2, 1), (2, 2)]);
        assert_eq!(disk(&log, 2, 7).0, [1, 1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn the_torn_tail_of_a_log_is_left_out() {
        let mut maker = Maker::new();
        maker.entry(0, &[1], 0);
        maker.entry(1, &[2], 0);
        maker.0.truncate(maker.0.len() - 100);
        assert_eq!(maker.log().1.requests(), 1);
        let mut maker = Maker::new();
        maker.entry(0, &[1], 0);
        maker.0.resize(maker.0.len() + 4096, 0);
        assert_eq!(maker.log().1.requests(), 1);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, [0; 4096]).unwrap();
        assert!(Log::open(&path).is_err());
    }
}
