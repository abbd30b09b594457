//! Copies partitions and reads back what was written.
//!
//! Contract: the target holds what the source held, on the disk and not only in memory, when the call returns. Parts that are all zero are
//! not sent but made by the disk, where it can; what it made itself is not read back. Failure classes: a disk that does not read or write; a disk that does not give back what it was given.

use crate::{Error, device};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const STEP_BYTES: u64 = 4 << 20;

/// Part of a disk, of an image or a partition.
pub struct Range<'a> {
    /// Open.
    pub file: &'a File,
    /// For errors.
    pub path: &'a Path,
    /// First byte.
    pub start: u64,
}

/// Copies so many bytes. `change` may alter each part of at most 4 MiB, given its offset. Progress is told in bytes, of twice the size: written,
/// then read back.
pub fn copy(from: &Range<'_>, to: &Range<'_>, bytes: u64, change: &dyn Fn(&mut [u8]), tell: &dyn Fn(u64)) -> Result<(), Error> {
    let mut digest = blake3::Hasher::new();
    let mut made_by_disk = std::collections::BTreeSet::new();
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(STEP_BYTES.min(bytes - at)).unwrap_or(0);
        let mut part = device::read_at(from.file, from.start + at, len).map_err(Error::io("read", from.path))?;
        if part.len() < len {
            // An image may end within its last partition: what is not there is zero.
            part.resize(len, 0);
        }
        change(&mut part);
        if device::is_zero(&part) {
            if device::punch(to.file, to.start + at, len as u64) {
                made_by_disk.insert(at);
            } else {
                device::zero(to.file, to.path, to.start + at, len as u64, false, &|_| ())?;
            }
        } else {
            to.file.write_all_at(&part, to.start + at).map_err(Error::io("write", to.path))?;
            digest.update(&at.to_le_bytes()).update(&part);
        }
        at += len as u64;
        tell(at);
    }
    to.file.sync_all().map_err(Error::io("write", to.path))?;
    let mut back = blake3::Hasher::new();
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(STEP_BYTES.min(bytes - at)).unwrap_or(0);
        if made_by_disk.contains(&at) {
            at += len as u64;
            continue;
        }
        let part = device::read_at(to.file, to.start + at, len).map_err(Error::io("read", to.path))?;
        if part.len() < len {
            return Err(Error::NotAsWritten { path: to.path.into() });
        }
        if !device::is_zero(&part) {
            back.update(&at.to_le_bytes()).update(&part);
        }
        at += len as u64;
        tell(bytes + at);
    }
    if back.finalize() == digest.finalize() { Ok(()) } else { Err(Error::NotAsWritten { path: to.path.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn all_of_it_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        let mut data = vec![0; 9 << 20];
        data[100] = 1;
        data[(9 << 20) - 1] = 2;
        std::fs::write(&one, &data).unwrap();
        std::fs::write(&two, vec![7; 12 << 20]).unwrap();
        let (from, to) = (device::open(&one).unwrap(), device::open_rw(&two).unwrap());
        let (from, to) = (Range { file: &from, path: &one, start: 0 }, Range { file: &to, path: &two, start: 1 << 20 });
        let told = Mutex::new(Vec::new());
        copy(&from, &to, 9 << 20, &|_| (), &|done| told.lock().unwrap().push(done)).unwrap();
        let found = std::fs::read(&two).unwrap();
        assert!(found[1 << 20..10 << 20] == data[..], "the copy differs");
        assert!(found[..1 << 20].iter().chain(&found[10 << 20..]).all(|byte| *byte == 7), "something beside it was touched");
        assert_eq!(told.lock().unwrap().last(), Some(&(18 << 20)));
        // A source that ends early is zero from there on.
        copy(&from, &to, 10 << 20, &|_| (), &|_| ()).unwrap();
        assert!(device::is_zero(&std::fs::read(&two).unwrap()[10 << 20..11 << 20]));
    }

    #[test]
    fn a_target_that_is_too_short_is_not_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one");
        std::fs::write(&path, b"x").unwrap();
        let from = device::open(&path).unwrap();
        let null = Path::new("/dev/null");
        let to = std::fs::OpenOptions::new().read(true).write(true).open(null).unwrap();
        let (from, to) = (Range { file: &from, path: &path, start: 0 }, Range { file: &to, path: null, start: 0 });
        assert!(copy(&from, &to, 4096, &|_| (), &|_| ()).is_err(), "a disk that forgets");
    }
}
