//! The two copies on a disk that tears, rots, fills and dies at any write.

use super::*;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

/// Bytes that survive, and when the power goes.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<Mutex<Vec<u8>>>,
    /// Writes until the power goes, and how many bytes of the last one arrive.
    dies: Option<(usize, usize)>,
    full: bool,
}

fn power_cut() -> io::Error {
    io::Error::other("power cut")
}

impl Medium for Disk {
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).unwrap();
        into.copy_from_slice(&self.bytes.lock().unwrap()[from..from + into.len()]);
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut arrives = bytes.len();
        let mut result = Ok(());
        match &mut self.dies {
            Some((0, _)) => return Err(power_cut()),
            Some((1, torn)) => {
                arrives = (*torn).min(bytes.len());
                self.dies = Some((0, 0));
                result = Err(power_cut());
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        let from = usize::try_from(offset).unwrap();
        self.bytes.lock().unwrap()[from..from + arrives].copy_from_slice(&bytes[..arrives]);
        result
    }

    fn sync(&mut self) -> io::Result<()> {
        if matches!(self.dies, Some((0, _))) { Err(power_cut()) } else { Ok(()) }
    }

    fn lies_at(&self, _: &Path) -> bool {
        true
    }
}

fn disk() -> Disk {
    let mut bytes = vec![0; FILE_BYTES as usize];
    for offset in SLOT_OFFSETS {
        let at = usize::try_from(offset).unwrap();
        bytes[at..at + SLOT_BYTES].copy_from_slice(&encode(7, 1, &Record::default()));
    }
    Disk { bytes: Arc::new(Mutex::new(bytes)), dies: None, full: false }
}

fn open(disk: &Disk) -> Result<(Store<Disk>, Record), Error> {
    Store::on(disk.clone(), PathBuf::from("register"), 7)
}

fn record(reign: u32) -> Record {
    Record { reign, holder: u8::from(reign % 2 == 1), longest_ms: [800, reign] }
}

proptest! {
    /// Power goes at any write, any number of times, and between two runs one copy may rot: nothing acknowledged is lost, nothing else appears.
    #[test]
    fn nothing_acknowledged_is_lost(
        lives in proptest::collection::vec((1..12usize, 0..=SLOT_BYTES, proptest::option::of((0..2usize, 0..SLOT_BYTES * 8))), 1..8),
    ) {
        let mut disk = disk();
        let (mut acknowledged, mut next) = (0, 1);
        for (writes, torn, rot) in lives {
            // Rot hits a disk at rest, after a whole write.
            let (mut store, found) = open(&disk).unwrap();
            prop_assert!(found.reign >= acknowledged && found.reign < next, "found {} of {acknowledged}", found.reign);
            prop_assert!(found.reign == 0 || found == record(found.reign));
            store.write(&record(next)).unwrap();
            (acknowledged, next) = (next, next + 1);
            drop(store);
            if let Some((slot, bit)) = rot {
                let at = usize::try_from(SLOT_OFFSETS[slot]).unwrap() + bit / 8;
                disk.bytes.lock().unwrap()[at] ^= 1 << (bit % 8);
            }
            disk.dies = Some((writes, torn));
            let (mut store, found) = open(&disk).unwrap();
            prop_assert_eq!(found, record(acknowledged));
            while store.write(&record(next)).is_ok() {
                (acknowledged, next) = (next, next + 1);
            }
            next += 1;
            disk.dies = None;
        }
        let (_, found) = open(&disk).unwrap();
        prop_assert!(found.reign >= acknowledged && found.reign < next);
    }

    #[test]
    fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..80)) {
        fuzz(&data);
        let mut slot = encode(3, 9, &record(4));
        for (byte, other) in slot.iter_mut().zip(&data) {
            *byte ^= other;
        }
        let same = data.iter().take(SLOT_BYTES).all(|byte| *byte == 0);
        prop_assert_eq!(decode(3, &slot).is_some(), same);
        fuzz(&slot);
    }
}

#[test]
fn a_full_disk_refuses_and_forgets_nothing() {
    let mut disk = disk();
    let (mut store, _) = open(&disk).unwrap();
    store.write(&record(1)).unwrap();
    store.medium.full = true;
    assert!(matches!(store.write(&record(2)), Err(Error::File { .. })));
    assert_eq!(open(&disk).unwrap().1, record(1));
    store.medium.full = false;
    store.write(&record(3)).unwrap();
    assert_eq!(open(&disk).unwrap().1, record(3));
    // Both copies gone: damaged, never empty.
    disk.bytes.lock().unwrap().fill(0);
    disk.full = false;
    assert!(matches!(open(&disk), Err(Error::Damaged { .. })));
}

#[test]
fn files_on_a_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_enrolled(dir.path(), 5));
    make(dir.path(), 5).unwrap();
    let (mut store, found) = Store::open(dir.path(), 5).unwrap();
    assert_eq!(found, Record::default());
    store.write(&record(8)).unwrap();
    // Making it again keeps it; another cluster's file is not taken for this one's.
    make(dir.path(), 5).unwrap();
    assert_eq!(Store::open(dir.path(), 5).unwrap().1, record(8));
    std::fs::copy(path_of(dir.path(), 5), path_of(dir.path(), 6)).unwrap();
    assert!(matches!(Store::open(dir.path(), 6), Err(Error::Damaged { .. })));
    // A damaged one is set aside by the administrator's order only, and whoever has it open notices.
    std::fs::write(path_of(dir.path(), 5), b"TPW1").unwrap();
    assert!(matches!(Store::open(dir.path(), 5), Err(Error::Damaged { .. })));
    make(dir.path(), 5).unwrap();
    assert_eq!(Store::open(dir.path(), 5).unwrap().1, Record::default());
    assert!(dir.path().join("00000005.damaged").exists());
    assert!(matches!(store.write(&record(9)), Err(Error::Damaged { .. })));
}
