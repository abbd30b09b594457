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

#[cfg(test)]
mod tests;

use super::{DiskFile, Files, Mode, Room};
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
    /// Unsynced changes with the number of their operation.
    pending: Vec<(u64, Change)>,
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
    pending_names: Vec<(u64, NameChange)>,
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
        inode.pending.push((self.ops, change));
    }

    fn change_name(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.pending_names.push((self.ops, change));
    }

    /// Makes the changes of a file up to this operation durable, or as a failed sync leaves them.
    fn sync(&mut self, inode: usize, until: u64, fails: bool) {
        let Inode { durable, pending, .. } = &mut self.inodes[inode];
        for (_, change) in pending.extract_if(.., |(op, _)| *op <= until) {
            if fails {
                change.apply_torn(durable, &mut self.rng);
            } else {
                change.apply(durable);
            }
        }
    }

    fn sync_names(&mut self, dir: &Path, until: u64) {
        let here = |change: &NameChange| match change {
            NameChange::Set(path, _) | NameChange::Gone(path) => path.parent() == Some(dir),
            NameChange::Moved(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        };
        for (_, change) in self.pending_names.extract_if(.., |(op, change)| *op <= until && here(change)) {
            apply_name(&mut self.durable_names, &change);
        }
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

    /// Makes durable what had been changed in a file up to operation `until` (see [`FaultFiles::ops`]): a sync that began
    /// then and ends now. Nothing happens when there is no such file.
    pub fn sync_until(&self, path: &Path, until: u64) {
        let mut disk = self.0.lock();
        if let Some(inode) = disk.names.get(path).copied() {
            disk.sync(inode, until, false);
        }
    }

    /// As [`FaultFiles::sync_until`], for the names in a folder.
    pub fn sync_dir_until(&self, dir: &Path, until: u64) {
        self.0.lock().sync_names(dir, until);
    }

    /// All files with their content.
    #[must_use]
    pub fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let disk = self.0.lock();
        disk.names.iter().map(|(path, inode)| (path.clone(), disk.inodes[*inode].now.clone())).collect()
    }

    /// What is left after a power cut, as a disk of its own with all orders forgotten. Handles of the old one stay dead.
    #[must_use]
    pub fn power_on(&self) -> Self {
        let seed = {
            let mut disk = self.0.lock();
            disk.off = true;
            disk.rng.bits()
        };
        self.after_cut(seed)
    }

    /// What a power cut would leave now, drawn from this seed, as a disk of its own. This one goes on.
    #[must_use]
    pub fn after_cut(&self, seed: u64) -> Self {
        let disk = self.0.lock();
        let mut rng = Rng::new(seed);
        // Some cuts lose everything that was not synced and some nothing; most do each thing for each write.
        let mood = rng.below(8);
        let mut names = disk.durable_names.clone();
        for (_, change) in &disk.pending_names {
            if mood == 1 || (mood > 1 && rng.one_in(2)) {
                apply_name(&mut names, change);
            }
        }
        let left = |inode: &Inode| {
            let mut content = inode.durable.clone();
            for (_, change) in &inode.pending {
                match mood {
                    0 => {}
                    1 => change.apply(&mut content),
                    _ => change.apply_torn(&mut content, &mut rng),
                }
            }
            Inode { now: content.clone(), durable: content, pending: Vec::new() }
        };
        let inodes = disk.inodes.iter().map(left).collect();
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
    fn room(&self, _dir: &Path) -> io::Result<Room> {
        let disk = self.0.lock();
        let total = disk.capacity_bytes.ok_or(ErrorKind::Unsupported)?;
        Ok(Room { free: total.saturating_sub(disk.used_bytes()), total })
    }

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
                disk.change_name(NameChange::Set(path.to_owned(), inode));
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
        disk.change_name(NameChange::Moved(from.to_owned(), to.to_owned(), inode));
        if cut { Err(Disk::off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if !disk.off && !disk.names.contains_key(path) {
            return Err(ErrorKind::NotFound.into());
        }
        let cut = disk.begin()?;
        disk.change_name(NameChange::Gone(path.to_owned()));
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
        let until = disk.ops;
        disk.sync_names(dir, until);
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
        let until = disk.ops;
        disk.sync(self.inode, until, fault.is_err());
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
