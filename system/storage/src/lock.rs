//! The lock file of a shared volume: who has it and in which reign.
//!
//! Contract: the lock is `flock(2)` on one open file description. Whoever inherits a descriptor of it holds the lock too, so the
//! lock is free when the last process that has one is gone, be it by `kill -9`; a stopped process keeps it. What is written in the file
//! excludes nobody; it is for people and keeps the reign from going down. It is two slots of [`SLOT_BYTES`], written in turn by
//! whoever holds the lock, so that a torn write leaves the slot before. Readers need no lock.
//!
//! Failure classes: a file system that cannot lock ([`Error::NoLocks`]), both slots destroyed ([`Error::Unfit`]; one torn slot is normal after a
//! power cut), I/O.

use crate::Error;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 256;
const FILE_BYTES: usize = 2 * SLOT_BYTES;
/// First word of a slot.
const MAGIC: &str = "twinpost-lock";
/// Longest node name.
const NAME_MAX: usize = 64;

/// What the lock is held for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Use {
    /// Given back.
    #[default]
    Free,
    /// Came unasked, or was asked for as a proof; nothing is written to the volume.
    Offered,
    /// The volume is mounted.
    Held,
}

impl Use {
    const ALL: [(Self, &'static str); 3] = [(Self::Free, "free"), (Self::Offered, "offered"), (Self::Held, "held")];
}

/// What is written in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Grows with every write.
    pub writes: u64,
    /// Highest reign under which the volume was ever mounted.
    pub reign: u32,
    /// Node of that reign, empty before the first.
    pub by: String,
    /// What the lock was last taken for. A crash leaves `Held` behind with nobody holding it.
    pub usage: Use,
    /// Node that did so.
    pub user: String,
    /// Its process.
    pub pid: u32,
}

impl Record {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let usage = Use::ALL.iter().find(|(usage, _)| *usage == self.usage).map_or("free", |(_, word)| word);
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
        let mut text = format!(
            "{MAGIC} writes={} reign={} by={} use={usage} user={} pid={}",
            self.writes,
            self.reign,
            name(&self.by),
            name(&self.user),
            self.pid
        );
        let check = crc32c::crc32c(text.as_bytes());
        let _ = write!(text, " check={check:08x}");
        let mut slot = [b' '; SLOT_BYTES];
        let bytes = text.as_bytes();
        let len = bytes.len().min(SLOT_BYTES - 1);
        slot[..len].copy_from_slice(&bytes[..len]);
        slot[SLOT_BYTES - 1] = b'\n';
        slot
    }

    fn decode(slot: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(slot).ok()?.trim_end();
        let (body, check) = text.rsplit_once(" check=")?;
        if u32::from_str_radix(check, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let mut words = body.split(' ');
        if words.next() != Some(MAGIC) {
            return None;
        }
        let mut record = Self::default();
        for word in words {
            let (key, value) = word.split_once('=')?;
            let name = || if value == "-" { String::new() } else { value.to_owned() };
            match key {
                "writes" => record.writes = value.parse().ok()?,
                "reign" => record.reign = value.parse().ok()?,
                "by" => record.by = name(),
                "use" => record.usage = Use::ALL.iter().find(|(_, word)| *word == value)?.0,
                "user" => record.user = name(),
                "pid" => record.pid = value.parse().ok()?,
                // A later version may say more.
                _ => {}
            }
        }
        Some(record)
    }
}

/// Parser of the file's content, for tests with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    if let Ok(record) = newest(data) {
        let again = Record::decode(&record.encode());
        assert!(record.by.len() + record.user.len() > SLOT_BYTES / 2 || again == Some(record), "a record survives its slot");
    }
}

/// The newest whole slot. An empty file is a lock that was never taken.
fn newest(bytes: &[u8]) -> Result<Record, ()> {
    if bytes.is_empty() {
        return Ok(Record::default());
    }
    bytes.chunks(SLOT_BYTES).take(2).filter_map(Record::decode).max_by_key(|record| record.writes).ok_or(())
}

/// Whether a name can stand in a record.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
    !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(|c| good(c) || c == '-') && name.starts_with(good)
}

/// Makes a lock file that nobody ever took; leaves an existing one alone.
pub fn create(path: &Path) -> Result<(), Error> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // Room for both slots now: a disk that is full later still takes a new reign.
            let mut bytes = [b' '; FILE_BYTES];
            bytes[..SLOT_BYTES].copy_from_slice(&Record::default().encode());
            file.write_all_at(&bytes, 0).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("create", path)(error)),
    }
}

/// What the file says, without any lock.
pub fn read(path: &Path) -> Result<Record, Error> {
    let file = OpenOptions::new().read(true).custom_flags(nofollow()).open(path).map_err(|error| missing(path, error))?;
    read_from(&file, path)
}

fn read_from(file: &File, path: &Path) -> Result<Record, Error> {
    let mut bytes = [0; FILE_BYTES];
    // Three tries: a writer may be between its slots on a file system without atomic small writes.
    for _ in 0..3 {
        let mut len = 0;
        while len < FILE_BYTES {
            match file.read_at(&mut bytes[len..], len as u64) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", path)(error)),
            }
        }
        if let Ok(record) = newest(&bytes[..len]) {
            return Ok(record);
        }
    }
    Err(Error::Unfit {
        path: path.into(),
        why: "is not a lock file of this program, or was destroyed. If you are sure that no node uses the volume, remove it and \
              make it anew"
            .into(),
    })
}

fn nofollow() -> i32 {
    i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0)
}

fn missing(path: &Path, error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::NotFound {
        // Making one here would be wrong: the folder of a volume that is not mounted looks just like this, and a lock in it guards nothing.
        return Error::Unfit { path: path.into(), why: "the lock file is missing: is the shared folder there?".into() };
    }
    Error::io("open", path)(error)
}

/// An open file description of the lock file, locked or not.
#[derive(Debug)]
pub struct Description {
    file: File,
    path: PathBuf,
}

impl Description {
    /// A description of its own, not yet locked.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(nofollow())
            .open(path)
            .map_err(|error| missing(path, error))?;
        Ok(Self { file, path: path.into() })
    }

    /// Takes the lock; `false`: another description has it (only without `wait`), or the file was replaced meanwhile.
    pub fn lock(&self, wait: bool) -> Result<bool, Error> {
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        loop {
            match rustix::fs::flock(&self.file, how) {
                Ok(()) => return self.in_place(),
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(errno) => return Err(refusal(&self.path, errno)),
            }
        }
    }

    /// Whether the path still names this file: somebody may have removed it, and a second lock file would let two in.
    pub fn in_place(&self) -> Result<bool, Error> {
        let mine = self.file.metadata().map_err(Error::io("look at", &self.path))?;
        match std::fs::symlink_metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("look at", &self.path)(error)),
        }
    }

    /// Whether a lock here keeps others out at all: with this one locked, a second description must be refused.
    pub fn excludes(&self) -> Result<(), Error> {
        if Self::open(&self.path)?.lock(false)? {
            let why = "two processes can lock the same file at once".into();
            return Err(Error::NoLocks { path: self.path.clone(), why });
        }
        Ok(())
    }

    /// What the file says.
    pub fn record(&self) -> Result<Record, Error> {
        read_from(&self.file, &self.path)
    }

    /// Writes the next record into the older slot. Only for a holder of the lock. `durable`: on disk when this returns.
    pub fn write(&self, change: impl FnOnce(&mut Record), durable: bool) -> Result<Record, Error> {
        let mut record = self.record()?;
        record.writes += 1;
        record.pid = std::process::id();
        change(&mut record);
        let mut first = [0; SLOT_BYTES];
        let first = self.file.read_exact_at(&mut first, 0).ok().and_then(|()| Record::decode(&first));
        // The slot that does not hold the newest record.
        let slot = u64::from(first.is_some_and(|first| first.writes + 1 == record.writes));
        self.file.write_all_at(&record.encode(), slot * SLOT_BYTES as u64).map_err(Error::io("write", &self.path))?;
        if durable {
            self.file.sync_data().map_err(Error::io("make durable", &self.path))?;
        }
        Ok(record)
    }

    /// The descriptor, to be inherited.
    pub fn into_fd(self) -> OwnedFd {
        self.file.into()
    }

    /// From the descriptor: the same description, so the same lock.
    pub fn of(fd: &OwnedFd, path: &Path) -> Result<Self, Error> {
        let file = fd.try_clone().map_err(Error::io("hold", path))?.into();
        Ok(Self { file, path: path.into() })
    }
}

fn refusal(path: &Path, errno: Errno) -> Error {
    let folder = path.parent().unwrap_or(path);
    match errno {
        Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK | Errno::INVAL => {
            Error::NoLocks { path: folder.into(), why: format!("its file system has no locks ({errno})") }
        }
        errno => Error::io("lock", path)(errno.into()),
    }
}

/// Magic numbers of statfs(2) of file systems whose locks are the word of another machine: a node that hangs for a minute loses such a lock
/// without hearing of it, and writes on.
const REMOTE: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x7375_7245, "Coda"),
    (0x564C, "NCP"),
];

/// Refuses a network file system.
pub fn local_only(folder: &Path) -> Result<(), Error> {
    let found = rustix::fs::statfs(folder).map_err(|errno| Error::io("look at", folder)(errno.into()))?;
    // The type is signed on some machines; the number is what counts.
    #[allow(
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "f_type's type differs by machine, its low 32 bits do not"
    )]
    remote(found.f_type as u64 & 0xFFFF_FFFF).map_or(Ok(()), |name| {
        let why = format!("it lies on {name}, whose locks can be lost without a word");
        Err(Error::NoLocks { path: folder.into(), why })
    })
}

fn remote(magic: u64) -> Option<&'static str> {
    REMOTE.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// Names and ids of processes that hold a lock of this file, for people. Best effort: a process of another user is not seen.
pub fn holders(path: &Path) -> String {
    let Ok(file) = std::fs::metadata(path) else { return String::new() };
    let inode = format!(":{} ", file.ino());
    let mut found = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return String::new() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(infos) = std::fs::read_dir(process.path().join("fdinfo")) else { continue };
        // proc(5): a `lock:` line stands in the fdinfo of the descriptions that hold the lock, and nowhere else.
        let holds = infos.flatten().take(4096).any(|info| {
            std::fs::read_to_string(info.path()).is_ok_and(|text| {
                text.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK") && line.contains(&inode))
            })
        });
        if holds {
            found.push(crate::program::name_of(pid));
            if found.len() == 8 {
                break;
            }
        }
    }
    found.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        create(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn two_descriptions_exclude_each_other_and_a_clone_is_the_same_lock() {
        let (_folder, path) = folder();
        let one = Description::open(&path).unwrap();
        let two = Description::open(&path).unwrap();
        assert!(one.lock(false).unwrap());
        assert!(!two.lock(false).unwrap());
        one.excludes().unwrap();
        let inherited = one.into_fd();
        let child = inherited.try_clone().unwrap();
        drop(inherited);
        assert!(!two.lock(false).unwrap(), "the description lives on in its clone");
        assert!(holders(&path).contains(&std::process::id().to_string()), "{}", holders(&path));
        drop(child);
        assert!(two.lock(false).unwrap());
    }

    #[test]
    fn records_alternate_and_a_torn_slot_leaves_the_one_before() {
        let (_folder, path) = folder();
        let lock = Description::open(&path).unwrap();
        for reign in 1..8 {
            lock.write(|record| (record.reign, record.by) = (reign, "a".into()), true).unwrap();
            assert_eq!((read(&path).unwrap().reign, read(&path).unwrap().writes), (reign, u64::from(reign)));
        }
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(whole.len(), FILE_BYTES);
        let newest_slot = whole.chunks(SLOT_BYTES).position(|slot| Record::decode(slot).unwrap().reign == 7).unwrap();
        for cut in 1..SLOT_BYTES - 1 {
            let mut torn = whole.clone();
            torn[newest_slot * SLOT_BYTES..newest_slot * SLOT_BYTES + cut].fill(0);
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(read(&path).unwrap().reign, 6, "torn after {cut} bytes");
            let again = Description::open(&path).unwrap().write(|record| record.reign += 3, false).unwrap();
            assert_eq!((again.reign, read(&path).unwrap().reign), (9, 9), "written over the torn slot");
        }
        std::fs::write(&path, b"rubbish").unwrap();
        assert!(matches!(read(&path), Err(Error::Unfit { .. })));
        assert!(
            matches!(Description::open(&path).unwrap().write(|_| (), true), Err(Error::Unfit { .. })),
            "rubbish is never overwritten"
        );
    }

    #[test]
    fn a_replaced_lock_file_is_noticed() {
        let (_folder, path) = folder();
        let old = Description::open(&path).unwrap();
        assert!(old.lock(false).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!old.in_place().unwrap());
        assert!(matches!(Description::open(&path), Err(Error::Unfit { .. })), "none is made by itself");
        create(&path).unwrap();
        assert!(!old.in_place().unwrap());
        assert!(!old.lock(false).unwrap(), "a lock on the old file is no lock");
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let (folder, path) = folder();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(Description::open(&link).is_err());
    }

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(remote(0x6969), Some("NFS"));
        assert_eq!(remote(0xFF53_4D42), Some("CIFS"));
        assert_eq!(remote(0xEF53), None, "ext4");
        assert!(matches!(refusal(Path::new("/x/lock"), Errno::NOLCK), Error::NoLocks { path, .. } if path == Path::new("/x")));
        assert!(matches!(refusal(Path::new("/x/lock"), Errno::IO), Error::Io { .. }));
    }

    #[test]
    fn names() {
        assert!(is_name("a") && is_name("node-2.example"));
        for bad in ["", "-", "-a", "a b", "a=b", "ä", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_record_survives_its_slot(writes: u64, reign: u32, pid: u32, by in "[a-z][a-z0-9.-]{0,63}", user in "([a-z][a-z0-9.-]{0,40})?", n in 0usize..3) {
            let record = Record { writes, reign, by, usage: Use::ALL[n].0, user, pid };
            prop_assert_eq!(Record::decode(&record.encode()), Some(record));
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            fuzz(&data);
        }

        #[test]
        fn a_flipped_bit_is_noticed(bit in 0usize..8 * 60, reign: u32) {
            let record = Record { reign, by: "a".into(), ..Record::default() };
            let mut slot = record.encode();
            slot[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Record::decode(&slot).is_none_or(|read| read == record));
        }
    }
}
