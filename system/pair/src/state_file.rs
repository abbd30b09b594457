//! The record of the heart on disk: two slots, written in turn.
//!
//! Contract: [`StateFile::store`] returns `Ok` when the record is on stable storage. The slot that holds the newest record is never the
//! one that is written, so that a torn write or a power cut leaves the record before it. Slots are made at the first start with
//! their full length: later writes need no new blocks, and a partition that filled up since does not stop a takeover. One daemon
//! at a time: the folder is locked.
//!
//! Failure classes: [`Error::State`] (the folder cannot be used), [`Error::AlreadyServed`]; a failed store is the caller's: what is not
//! stored is not acted on.

use crate::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use twinpost_heartbeat::{RECORD_BYTES, Record, newest_record};

/// What the slots held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A node that never ran.
    Fresh,
    /// The newest record; `torn`: the other slot is damaged, as after a power cut during a write.
    Record { record: Record, torn: bool },
    /// There was a record and it cannot be read any more.
    Lost,
}

/// The two slots.
#[derive(Debug)]
pub(crate) struct StateFile {
    slots: [PathBuf; 2],
    newest: usize,
    _lock: File,
}

impl StateFile {
    /// Makes the folder and the slots where they are missing, and reads them.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Found), Error> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::State { what, path, source }
        };
        std::fs::create_dir_all(dir).map_err(fail("make the folder", dir))?;
        let lock_path = dir.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(fail("open the lock", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::AlreadyServed(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(fail("lock", &lock_path)(source)),
        }
        let slots = [dir.join("state.0"), dir.join("state.1")];
        let mut bytes: [Vec<u8>; 2] = Default::default();
        let mut made = false;
        for (slot, held) in slots.iter().zip(&mut bytes) {
            match File::open(slot) {
                Ok(file) => {
                    file.take(4 * RECORD_BYTES as u64).read_to_end(held).map_err(fail("read the state file", slot))?;
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    // A full disk is met again at the first store, which tells people.
                    made |= make_slot(slot).is_ok();
                }
                Err(e) => return Err(fail("open the state file", slot)(e)),
            }
        }
        if made {
            File::open(dir).and_then(|d| d.sync_all()).map_err(fail("sync the folder", dir))?;
        }
        let found = newest_record([&bytes[0], &bytes[1]]);
        let empty = bytes.each_ref().map(|held| held.iter().all(|&byte| byte == 0));
        let newest = usize::from(found.is_some() && Record::decode(&bytes[0]) != found);
        let found = match found {
            Some(record) => Found::Record { record, torn: Record::decode(&bytes[1 - newest]).is_none() && !empty[1 - newest] },
            None if empty == [true; 2] => Found::Fresh,
            None => Found::Lost,
        };
        Ok((Self { slots, newest, _lock: lock }, found))
    }

    /// Puts the record into the older slot, on stable storage.
    pub(crate) fn store(&mut self, record: &Record) -> io::Result<()> {
        let slot = 1 - self.newest;
        let path = &self.slots[slot];
        let file = match OpenOptions::new().write(true).open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                make_slot(path)?;
                let dir = path.parent().unwrap_or(Path::new("."));
                File::open(dir)?.sync_all()?;
                OpenOptions::new().write(true).open(path)?
            }
            other => other?,
        };
        file.write_all_at(&record.encode(), 0)?;
        file.set_len(RECORD_BYTES as u64)?;
        file.sync_all()?;
        self.newest = slot;
        Ok(())
    }
}

fn make_slot(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.write_all_at(&[0; RECORD_BYTES], 0)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(writes: u32) -> Record {
        Record { writes, boot: writes * 3, reign: 7, unshared: writes.is_multiple_of(2), eligible: false, peer_boot: 9 }
    }

    #[test]
    fn the_newest_record_survives_a_torn_write_of_either_slot() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut file, found) = StateFile::open(dir.path()).expect("opens");
        assert_eq!(found, Found::Fresh);
        // Numbers that jump (a newer record overtook one that waited) must not hit the newest slot.
        for writes in [1, 2, 4, 6, 7, 8, 10] {
            file.store(&record(writes)).expect("stored");
            let older = std::fs::read(&file.slots[1 - file.newest]).expect("there");
            let torn = file.slots[1 - file.newest].clone();
            std::fs::write(&torn, [1, 2, 3]).expect("torn");
            drop(file);
            let (again, found) = StateFile::open(dir.path()).expect("opens");
            assert_eq!(found, Found::Record { record: record(writes), torn: true });
            file = again;
            std::fs::write(&torn, older).expect("mended");
        }
    }

    #[test]
    fn damaged_slots_are_no_fresh_node() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(StateFile::open(dir.path()).expect("opens"));
        assert_eq!(StateFile::open(dir.path()).expect("opens").1, Found::Fresh, "zeros are a node that never ran");
        std::fs::write(dir.path().join("state.0"), b"TPR1 and then nothing").expect("written");
        assert_eq!(StateFile::open(dir.path()).expect("opens").1, Found::Lost);
    }

    #[test]
    fn one_daemon_a_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        let (_file, _) = StateFile::open(dir.path()).expect("opens");
        assert!(matches!(StateFile::open(dir.path()), Err(Error::AlreadyServed(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_in_the_slots_are_read(a in proptest::collection::vec(any::<u8>(), 0..90), b in proptest::collection::vec(any::<u8>(), 0..90)) {
            let dir = tempfile::tempdir().expect("a folder");
            std::fs::write(dir.path().join("state.0"), &a).expect("written");
            std::fs::write(dir.path().join("state.1"), &b).expect("written");
            let (mut file, _) = StateFile::open(dir.path()).expect("opens");
            file.store(&record(5)).expect("stored");
            drop(file);
            let (_, found) = StateFile::open(dir.path()).expect("opens");
            let read = matches!(found, Found::Record { record: read, .. } if read == record(5));
            prop_assert!(read);
        }
    }
}
