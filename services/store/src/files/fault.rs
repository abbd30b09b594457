//! A simulated disk that loses power.
//!
//! Contract: as long as nothing is ordered it is a file system in memory. It remembers for each file what was synced and
//! what was not. [`FaultFiles::power_on`] shows what is left after a power cut: everything that was synced, and of the
//! rest whatever a disk may make of it, drawn from the seed: each write kept, lost, cut at any byte or kept in some of its
//! sectors, later ones without earlier ones, lengths with and without their bytes; each unsynced name made, changed,
//! removed or not. After an injected failure of a sync the bytes it should have covered stay readable and never become
//! durable by a later sync, as Linux does it. The same seed and the same calls give the same disk.
//!
//! Failure classes: those that were ordered ([`FaultFiles::cut_at`], [`FaultFiles::fail`], [`FaultFiles::set_capacity`]).

use super::{DiskFile, Files, Mode};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Random numbers that a seed replays (SplitMix64; the constants are those of its authors, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// From a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        // The bias of the remainder does not matter to a test.
        self.bits().checked_rem(limit).unwrap_or(0)
    }
    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// [`DiskFile::read_at`]
    Read,
    /// [`DiskFile::write_at`]
    Write,
    /// [`DiskFile::sync_data`] and [`Files::sync_dir`]
    Sync,
    /// [`DiskFile::set_len`]
    SetLen,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Len(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(PathBuf, usize),
    Gone(PathBuf),
    Moved(PathBuf, PathBuf, usize),
}

#[derive(Debug)]
struct Disk {
    rng: Rng,
    ops: u64,
    cut_at: Option<u64>,
    off: bool,
    capacity_bytes: Option<u64>,
    /// Kind -> (calls still to go through, calls to fail then).
    faults: BTreeMap<FaultKind, (u64, u64)>,
    inodes: Vec<Inode>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<NameChange>,
}

/// A simulated disk; clones are the same disk.
#[derive(Clone)]
pub struct FaultFiles(Arc<Mutex<Disk>>);

impl fmt::Debug for FaultFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.0.lock();
        write!(f, "FaultFiles({} files, {} operations, off: {})", disk.names.len(), disk.ops, disk.off)
    }
}

struct FaultFile {
    disk: FaultFiles,
    inode: usize,
}

impl fmt::Debug for FaultFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultFile({})", self.inode)
    }
}

fn size(n: u64) -> io::Result<usize> {
    usize::try_from(n).ok().filter(|n| *n <= 1 << 32).ok_or_else(|| io::Error::new(ErrorKind::FileTooLarge, "beyond 4 GiB"))
}

fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..][..bytes.len()].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(content, *offset as usize, bytes),
            Self::Len(bytes) => content.resize(*bytes as usize, 0),
        }
    }

    /// What the disk made of it without a sync.
    fn apply_torn(&self, content: &mut Vec<u8>, rng: &mut Rng) {
        match self {
            Self::Len(_) => {
                if !rng.one_in(2) {
                    self.apply(content);
                }
            }
            Self::Write { offset, bytes } => {
                let offset = *offset as usize;
                match rng.below(5) {
                    0 => {}
                    1 => put(content, offset, bytes),
                    2 => put(content, offset, &bytes[..rng.below(bytes.len() as u64 + 1) as usize]),
                    // Some of its sectors; in the last case the length arrived with the first of them.
                    how => {
                        if how == 4 && content.len() < offset + bytes.len() {
                            content.resize(offset + bytes.len(), 0);
                        }
                        let mut at = 0;
                        while at < bytes.len() {
                            let next = ((offset + at) / SECTOR_BYTES + 1) * SECTOR_BYTES - offset;
                            let next = next.min(bytes.len());
                            if rng.one_in(2) {
                                put(content, offset + at, &bytes[at..next]);
                            }
                            at = next;
                        }
                    }
                }
            }
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Set(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Gone(path) => {
            names.remove(path);
        }
        NameChange::Moved(from, to, inode) => {
            names.remove(from);
            names.insert(to.clone(), *inode);
        }
    }
}

impl Disk {
    fn off() -> io::Error {
        io::Error::other("the power of the simulated disk is off")
    }

    /// Counts a call that may change something. True: the power goes in the middle of it.
    fn begin(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(Self::off());
        }
        self.ops += 1;
        if self.cut_at.is_some_and(|at| self.ops >= at) {
            self.off = true;
        }
        Ok(self.off)
    }

    fn fails(&mut self, kind: FaultKind) -> io::Result<()> {
        let Some((skip, times)) = self.faults.get_mut(&kind) else { return Ok(()) };
        if *skip > 0 {
            *skip -= 1;
            return Ok(());
        }
        if *times == 0 {
            return Ok(());
        }
        *times -= 1;
        // EIO
        Err(io::Error::from_raw_os_error(5))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|n| self.inodes[*n].now.len() as u64).sum()
    }

    /// How many of `bytes` at `offset` the disk can still take.
    fn room(&self, inode: usize, offset: u64, bytes: u64) -> u64 {
        let Some(capacity) = self.capacity_bytes else { return bytes };
        let len = self.inodes[inode].now.len() as u64;
        let free = capacity.saturating_sub(self.used_bytes());
        (len.max(offset) + free).saturating_sub(offset.max(len)).saturating_add(len.saturating_sub(offset)).min(bytes)
    }

    fn change(&mut self, inode: usize, change: Change) {
        let inode = &mut self.inodes[inode];
        change.apply(&mut inode.now);
        inode.pending.push(change);
    }

    fn full() -> io::Error {
        io::Error::from(ErrorKind::StorageFull)
    }
}

impl FaultFiles {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            rng: Rng::new(seed),
            ops: 0,
            cut_at: None,
            off: false,
            capacity_bytes: None,
            faults: BTreeMap::new(),
            inodes: Vec::new(),
            dirs: BTreeSet::from([PathBuf::from("/")]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
        })))
    }

    /// Calls so far that may change something.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.0.lock().ops
    }

    /// Cuts the power in the middle of the call with this number (see [`FaultFiles::ops`]): it fails, and all later ones.
    pub fn cut_at(&self, op: u64) {
        self.0.lock().cut_at = Some(op);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.0.lock().off = true;
    }

    /// The power is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.lock().off
    }

    /// Lets `skip` calls of this kind through and fails the `times` following ones with EIO. A failed write leaves any
    /// part of its bytes, a failed sync makes some of the bytes durable and the others never.
    pub fn fail(&self, kind: FaultKind, skip: u64, times: u64) {
        self.0.lock().faults.insert(kind, (skip, times));
    }

    /// The disk takes no more than this many bytes; `None`: any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity_bytes = bytes;
    }

    /// Bytes in all files.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.0.lock().used_bytes()
    }

    /// Turns bytes of a file over, on the platter, as age does.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn damage(&self, path: &Path, offset: u64, bytes: usize) -> io::Result<()> {
        let mut disk = self.0.lock();
        let inode = *disk.names.get(path).ok_or(ErrorKind::NotFound)?;
        let Inode { now, durable, .. } = &mut disk.inodes[inode];
        for content in [now, durable] {
            content.iter_mut().skip(size(offset)?).take(bytes).for_each(|b| *b ^= 0x55);
        }
        Ok(())
    }

    /// What is left after a power cut, as a disk of its own with all orders forgotten. Handles of the old one stay dead.
    #[must_use]
    pub fn power_on(&self) -> Self {
        let mut guard = self.0.lock();
        let disk = &mut *guard;
        disk.off = true;
        let mut rng = Rng::new(disk.rng.bits());
        // Some cuts lose everything that was not synced and some nothing; most do each thing for each write.
        let mood = rng.below(8);
        let mut names = disk.durable_names.clone();
        for change in &disk.pending_names {
            if mood == 1 || (mood > 1 && rng.one_in(2)) {
                apply_name(&mut names, change);
            }
        }
        let inodes = disk
            .inodes
            .iter()
            .map(|inode| {
                let mut content = inode.durable.clone();
                for change in &inode.pending {
                    match mood {
                        0 => {}
                        1 => change.apply(&mut content),
                        _ => change.apply_torn(&mut content, &mut rng),
                    }
                }
                Inode { now: content.clone(), durable: content, pending: Vec::new() }
            })
            .collect();
        Self(Arc::new(Mutex::new(Disk {
            rng,
            ops: 0,
            cut_at: None,
            off: false,
            capacity_bytes: None,
            faults: BTreeMap::new(),
            inodes,
            dirs: disk.dirs.clone(),
            durable_names: names.clone(),
            names,
            pending_names: Vec::new(),
        })))
    }
}

impl Files for FaultFiles {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut disk = self.0.lock();
        if disk.off {
            return Err(Disk::off());
        }
        let inode = match (disk.names.get(path).copied(), mode) {
            (Some(_), Mode::Create) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(inode), Mode::Read | Mode::Write) => inode,
            (None, Mode::Read | Mode::Write) => return Err(ErrorKind::NotFound.into()),
            (None, Mode::Create) => {
                if !path.parent().is_some_and(|dir| disk.dirs.contains(dir)) {
                    return Err(ErrorKind::NotFound.into());
                }
                let cut = disk.begin()?;
                disk.inodes.push(Inode::default());
                let inode = disk.inodes.len() - 1;
                disk.names.insert(path.to_owned(), inode);
                disk.pending_names.push(NameChange::Set(path.to_owned(), inode));
                if cut {
                    return Err(Disk::off());
                }
                inode
            }
        };
        Ok(Arc::new(FaultFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        let inode = *disk.names.get(from).ok_or(ErrorKind::NotFound)?;
        let cut = disk.begin()?;
        let change = NameChange::Moved(from.to_owned(), to.to_owned(), inode);
        apply_name(&mut disk.names, &change);
        disk.pending_names.push(change);
        if cut { Err(Disk::off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if !disk.off && !disk.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let cut = disk.begin()?;
        let change = NameChange::Gone(path.to_owned());
        apply_name(&mut disk.names, &change);
        disk.pending_names.push(change);
        if cut { Err(Disk::off()) } else { Ok(()) }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let disk = self.0.lock();
        if disk.off {
            return Err(Disk::off());
        }
        if !disk.dirs.contains(dir) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = disk.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(inside.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned())).collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if disk.off {
            return Err(Disk::off());
        }
        disk.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut guard = self.0.lock();
        let disk = &mut *guard;
        if disk.begin()? {
            return Err(Disk::off());
        }
        disk.fails(FaultKind::Sync)?;
        let here = |change: &NameChange| match change {
            NameChange::Set(path, _) | NameChange::Gone(path) => path.parent() == Some(dir),
            NameChange::Moved(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        };
        let (done, left) = std::mem::take(&mut disk.pending_names).into_iter().partition::<Vec<_>, _>(here);
        done.iter().for_each(|change| apply_name(&mut disk.durable_names, change));
        disk.pending_names = left;
        Ok(())
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk.0.lock();
        if disk.off {
            return Err(Disk::off());
        }
        disk.fails(FaultKind::Read)?;
        let now = &disk.inodes[self.inode].now;
        let from = size(offset)?.min(now.len());
        let bytes = buffer.len().min(now.len() - from);
        buffer[..bytes].copy_from_slice(&now[from..][..bytes]);
        Ok(bytes)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut disk = self.disk.0.lock();
        let mut bytes = parts.iter().flat_map(|p| p.iter().copied()).collect::<Vec<u8>>();
        size(offset + bytes.len() as u64)?;
        let cut = disk.begin()?;
        let fault = disk.fails(FaultKind::Write);
        let room = disk.room(self.inode, offset, bytes.len() as u64) as usize;
        let full = room < bytes.len();
        bytes.truncate(room);
        if fault.is_err() {
            let some = disk.rng.below(bytes.len() as u64 + 1);
            bytes.truncate(some as usize);
        }
        if !bytes.is_empty() {
            disk.change(self.inode, Change::Write { offset, bytes });
        }
        match (cut, fault, full) {
            (true, _, _) => Err(Disk::off()),
            (false, Err(e), _) => Err(e),
            (false, Ok(()), true) => Err(Disk::full()),
            (false, Ok(()), false) => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut guard = self.disk.0.lock();
        let disk = &mut *guard;
        if disk.begin()? {
            return Err(Disk::off());
        }
        let fault = disk.fails(FaultKind::Sync);
        let rng = &mut disk.rng;
        let Inode { durable, pending, .. } = &mut disk.inodes[self.inode];
        for change in pending.drain(..) {
            if fault.is_ok() {
                change.apply(durable);
            } else {
                change.apply_torn(durable, rng);
            }
        }
        fault
    }

    fn len(&self) -> io::Result<u64> {
        let disk = self.disk.0.lock();
        if disk.off { Err(Disk::off()) } else { Ok(disk.inodes[self.inode].now.len() as u64) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        size(bytes)?;
        let mut disk = self.disk.0.lock();
        let cut = disk.begin()?;
        disk.fails(FaultKind::SetLen)?;
        disk.change(self.inode, Change::Len(bytes));
        if cut { Err(Disk::off()) } else { Ok(()) }
    }

    fn allocate(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset + bytes;
        size(end)?;
        let mut disk = self.disk.0.lock();
        let cut = disk.begin()?;
        if disk.room(self.inode, offset, bytes) < bytes {
            return Err(Disk::full());
        }
        if end > disk.inodes[self.inode].now.len() as u64 {
            disk.change(self.inode, Change::Len(end));
        }
        if cut { Err(Disk::off()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(file: &dyn DiskFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_at(&[IoSlice::new(bytes)], offset)
    }

    fn content(disk: &FaultFiles, path: &str) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(path), Mode::Read).ok()?;
        let mut out = vec![0; file.len().ok()? as usize];
        file.read_at(&mut out, 0).ok()?;
        Some(out)
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_in_every_way() -> io::Result<()> {
        let (mut names, mut contents) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..300 {
            let disk = FaultFiles::new(seed);
            let a = disk.open(Path::new("/a"), Mode::Create)?;
            write(&*a, 0, b"kept")?;
            a.sync_data()?;
            disk.sync_dir(Path::new("/"))?;
            disk.open(Path::new("/b"), Mode::Create)?;
            write(&*a, 4, &[1; 600])?;
            write(&*a, 604, &[2; 600])?;
            let after = disk.power_on();
            assert!(write(&*a, 0, b"dead").is_err());
            let found = content(&after, "/a").expect("its name was synced");
            assert_eq!(found[..4], *b"kept", "seed {seed}");
            names.insert(content(&after, "/b").is_some());
            let second = found.get(604..).is_some_and(|rest| rest.contains(&2));
            let first = found[4..].contains(&1);
            contents.insert((first, second));
        }
        assert_eq!(names.len(), 2, "an unsynced name is there after some cuts and not after others");
        assert_eq!(contents.len(), 4, "either write survives without the other");
        Ok(())
    }

    #[test]
    fn a_failed_sync_is_never_made_good_by_the_next() -> io::Result<()> {
        let mut lost = 0;
        for seed in 0..100 {
            let disk = FaultFiles::new(seed);
            let a = disk.open(Path::new("/a"), Mode::Create)?;
            disk.sync_dir(Path::new("/"))?;
            disk.fail(FaultKind::Sync, 0, 1);
            write(&*a, 0, b"void")?;
            assert!(a.sync_data().is_err());
            a.sync_data()?;
            assert_eq!(content(&disk, "/a").as_deref(), Some(&b"void"[..]));
            lost += u32::from(content(&disk.power_on(), "/a").as_deref() != Some(b"void"));
        }
        assert!(lost > 10, "lost in {lost} of 100");
        Ok(())
    }

    #[test]
    fn a_full_disk_takes_what_fits() -> io::Result<()> {
        let disk = FaultFiles::new(1);
        let a = disk.open(Path::new("/a"), Mode::Create)?;
        disk.set_capacity(Some(10));
        write(&*a, 0, b"1234567")?;
        assert_eq!(write(&*a, 5, b"abcdefgh").map_err(|e| e.kind()), Err(ErrorKind::StorageFull));
        assert_eq!(content(&disk, "/a").as_deref(), Some(&b"12345abcde"[..]));
        assert_eq!(a.allocate(0, 11).map_err(|e| e.kind()), Err(ErrorKind::StorageFull));
        disk.set_capacity(None);
        a.allocate(0, 12)?;
        assert_eq!(content(&disk, "/a").as_deref(), Some(&b"12345abcde\0\0"[..]));
        Ok(())
    }

    #[test]
    fn the_same_seed_gives_the_same_disk() -> io::Result<()> {
        let run = |seed| -> io::Result<_> {
            let disk = FaultFiles::new(seed);
            let a = disk.open(Path::new("/a"), Mode::Create)?;
            disk.sync_dir(Path::new("/"))?;
            (0..20).try_for_each(|n| write(&*a, n * 700, &[n as u8 + 1; 700]))?;
            Ok(content(&disk.power_on(), "/a"))
        };
        assert_eq!(run(7)?, run(7)?);
        assert_ne!(run(7)?, run(8)?);
        Ok(())
    }
}
