//! The file system on a block device, and the few bytes before it in which the volume remembers its reign.
//!
//! Contract: [`Volume::mount`] mounts a checked file system or says what is wrong with it; [`Volume::unmount`] kills nobody and says
//! who is in the way. [`Header`] is written only while nothing is mounted.
//!
//! The header: ext4 leaves the first 1024 bytes of its device alone (they are for boot loaders). The reign stands there as one line of
//! text, so it is mirrored and moved with the data like any other block, and a standby can read it from its own disk without the volume.
//! A mounted ext4 has a copy of that block in memory and may write it back, which is why the header is only written before the mount.

use crate::{Error, Program, lock, program};
use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the header.
const HEADER_BYTES: usize = 256;
/// What a disk reads and writes at once.
const BLOCK_BYTES: usize = 4096;
const MAGIC: &str = "twinpost-volume";

/// What the volume remembers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Last reign under which it was mounted.
    pub reign: u32,
    /// Node of that reign.
    pub by: String,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let text = format!("{MAGIC} reign={} by={}", self.reign, self.by);
        let text = format!("{text} check={:08x}", crc32c::crc32c(text.as_bytes()));
        let mut out = [b' '; HEADER_BYTES];
        let len = text.len().min(HEADER_BYTES - 1);
        out[..len].copy_from_slice(&text.as_bytes()[..len]);
        out[HEADER_BYTES - 1] = b'\n';
        out
    }

    /// `None`: none was ever written, or it is torn: a volume without a memory is taken as it is.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes.get(..HEADER_BYTES)?).ok()?.trim_end();
        let (body, check) = text.rsplit_once(" check=")?;
        if u32::from_str_radix(check, 16).ok()? != crc32c::crc32c(body.as_bytes()) {
            return None;
        }
        let body = body.strip_prefix(MAGIC)?.strip_prefix(" reign=")?;
        let (reign, by) = body.split_once(" by=")?;
        Some(Self { reign: reign.parse().ok()?, by: by.to_owned() })
    }

    /// Parser of a header, for tests with arbitrary bytes.
    pub fn fuzz(data: &[u8]) {
        if let Some(header) = Self::decode(data)
            && header.by.len() < 128
        {
            assert_eq!(Self::decode(&header.encode()), Some(header), "a header survives its bytes");
        }
    }

    /// From a disk that the kernel writes beside us: past the page cache, which would show an old block for ever.
    pub fn read(disk: &Path) -> Result<Self, Error> {
        let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap_or(0);
        let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(disk);
        // Some file systems (tests) cannot do without the cache.
        let mut file = open(direct).or_else(|_| open(0)).map_err(Error::io("open", disk))?;
        let mut room = vec![0; 2 * BLOCK_BYTES];
        let start = room.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        let block = &mut room[start..start + BLOCK_BYTES];
        let mut len = 0;
        while len < BLOCK_BYTES {
            match file.read(&mut block[len..]) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", disk)(error)),
            }
        }
        Ok(Self::decode(&block[..len]).unwrap_or_default())
    }

    /// Durably, before the mount.
    pub fn write(&self, device: &Path) -> Result<(), Error> {
        let mut file = OpenOptions::new().read(true).write(true).open(device).map_err(Error::io("open", device))?;
        // Writes that this node let fail when it gave up are reported to whoever syncs the device next, and only once: not to us.
        let _ = file.sync_all();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&self.encode()))
            .and_then(|()| file.sync_all())
            .map_err(Error::io("write the reign to", device))
    }

    /// Whether a node may have the volume under this reign.
    pub fn allows(&self, node: &str, asked: u32) -> Result<(), Error> {
        let same_node = self.by == node || self.by.is_empty();
        if asked > self.reign || (asked == self.reign && same_node) {
            return Ok(());
        }
        Err(Error::Stale { asked, known: self.reign, by: self.by.clone() })
    }
}

/// A block device and where it is mounted.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The block device.
    pub device: PathBuf,
    /// Where it belongs.
    pub at: PathBuf,
    /// Who works in it, when that is another user than this program's.
    pub owner: Option<(u32, u32)>,
    /// The kernel's table of mounts.
    pub mountinfo: PathBuf,
    /// `fsck.ext4`.
    pub fsck: Program,
    /// `mkfs.ext4`.
    pub mkfs: Program,
    /// `mount`.
    pub mount: Program,
    /// `umount`.
    pub umount: Program,
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| Error::Unfit { path: path.into(), why: "is not UTF-8".into() })
}

impl Volume {
    /// Whether something is mounted there.
    pub fn mounted(&self) -> Result<bool, Error> {
        let table = std::fs::read_to_string(&self.mountinfo).map_err(Error::io("read", &self.mountinfo))?;
        // proc(5): the fifth field is the mount point, with \040 for a space.
        let wanted = text(&self.at)?.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011");
        Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&wanted)))
    }

    /// Makes an empty file system. Destroys what was there.
    pub async fn make(&self, limit: Duration) -> Result<(), Error> {
        self.mkfs.ok(&["-q", "-F", "-L", "mail", text(&self.device)?], limit).await?;
        Ok(())
    }

    /// Checks the file system (replays its journal, mends what is safe to mend) and mounts it. `read_only`: without a trace but the
    /// replayed journal.
    pub async fn mount(&self, read_only: bool, check: Duration, limit: Duration) -> Result<(), Error> {
        if self.mounted()? {
            return Ok(());
        }
        let device = text(&self.device)?;
        let checked = self.fsck.run(&["-p", device], check).await?;
        // e2fsck(8): 1 mended, 2 mended and a reboot is due if it was mounted, 4 and above not mended or not done.
        match checked.code {
            Some(code @ 0..4) => {
                if code != 0 {
                    tracing::warn!(code, said = %program::shorten(&checked.stdout), "the file-system check mended the mail volume");
                }
            }
            Some(code @ 4..16) => {
                let said = program::shorten(&format!("{} {}", checked.stdout, checked.stderr));
                return Err(Error::Damaged { device: self.device.clone(), code, said });
            }
            _ => return Err(checked.error()),
        }
        std::fs::create_dir_all(&self.at).map_err(Error::io("create", &self.at))?;
        let options = if read_only { "ro,noatime,nodev,nosuid,noexec" } else { "noatime,nodev,nosuid,noexec,errors=remount-ro" };
        self.mount.ok(&["-t", "ext4", "-o", options, device, text(&self.at)?], limit).await?;
        if let Some((user, group)) = self.owner.filter(|_| !read_only) {
            // mkfs makes the root of the volume root's, and a volume from another image may know other numbers.
            std::os::unix::fs::chown(&self.at, Some(user), Some(group)).map_err(Error::io("give to its user", &self.at))?;
        }
        Ok(())
    }

    /// One try to unmount; what is in the way is an error. Kills nobody.
    pub async fn unmount(&self, limit: Duration) -> Result<(), Error> {
        if !self.mounted()? {
            return Ok(());
        }
        let done = self.umount.ok(&[text(&self.at)?], limit).await;
        if !self.mounted()? {
            return Ok(());
        }
        let by = users(&self.at);
        match done {
            Err(error) if by.is_empty() || error.lacks_program() => Err(error),
            _ => Err(Error::Busy { what: self.at.clone(), by }),
        }
    }
}

/// Names and ids of processes that use the mounted file system, for people.
pub fn users(at: &Path) -> String {
    let Ok(device) = std::fs::metadata(at).map(|about| about.dev()) else { return String::new() };
    let on = |path: PathBuf| std::fs::metadata(path).is_ok_and(|about| about.dev() == device);
    let Ok(processes) = std::fs::read_dir("/proc") else { return String::new() };
    let mut found = Vec::new();
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let path = process.path();
        let open = || std::fs::read_dir(path.join("fd")).is_ok_and(|list| list.flatten().take(4096).any(|fd| on(fd.path())));
        if on(path.join("cwd")) || on(path.join("exe")) || open() {
            found.push(program::name_of(pid));
            if found.len() == 8 {
                break;
            }
        }
    }
    found.join(", ")
}

/// Whether a name can stand in a header.
pub fn check_name(name: &str, at: &Path) -> Result<(), Error> {
    if lock::is_name(name) {
        return Ok(());
    }
    Err(Error::Unfit { path: at.into(), why: format!("node name {name:?} must be of letters, digits, '.', '_' and '-'") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_stays_before_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("disk");
        std::fs::write(&disk, vec![7; 8192]).unwrap();
        assert_eq!(Header::read(&disk).unwrap(), Header::default(), "rubbish is no header");
        let header = Header { reign: 9, by: "a".into() };
        header.write(&disk).unwrap();
        assert_eq!(Header::read(&disk).unwrap(), header);
        let bytes = std::fs::read(&disk).unwrap();
        assert_eq!(bytes.len(), 8192);
        assert!(bytes[HEADER_BYTES..].iter().all(|byte| *byte == 7), "nothing behind it was touched");
        assert!(header.allows("a", 9).is_ok() && header.allows("b", 10).is_ok());
        assert!(header.allows("b", 9).is_err() && header.allows("a", 8).is_err());
        assert_eq!(Header::read(&folder.path().join("short")).map_err(|e| e.to_string().contains("short")), Err(true));
        std::fs::write(&disk, "short").unwrap();
        assert_eq!(Header::read(&disk).unwrap(), Header::default());
    }

    proptest! {
        #[test]
        fn a_header_survives(reign: u32, by in "[a-z][a-z0-9._-]{0,63}") {
            let header = Header { reign, by };
            prop_assert_eq!(Header::decode(&header.encode()), Some(header));
        }

        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..600)) {
            Header::fuzz(&data);
        }
    }
}
