//! USB sticks: file systems on disks that were plugged in, for support bundles and updates.
//!
//! Contract: only disks on the USB bus that say that they are removable or were not there as a bay of the machine; only FAT, exFAT and ext2/3/4, found by their own marks; never a
//! partition of ours. Mounted without programs, devices and set-user-ID, read-only where nothing is written, and unmounted when dropped.
//!
//! Failure classes: [`Error::None`] with what was looked at, [`Error::Mount`], [`Error::Io`].

use crate::api::Text;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Where sticks are mounted.
pub const MOUNTS: &str = "/run/twinpost/usb";
/// Disks and partitions looked at.
const LOOKS_MAX: usize = 64;

/// Why there is no stick.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// None with a file system that is known.
    #[error("no USB stick with a file system was found (FAT, exFAT, ext4); looked at: {0}")]
    None(String),
    /// It cannot be mounted.
    #[error("cannot mount {device}: {source}")]
    Mount {
        /// The partition.
        device: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It cannot be read or written.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// For people.
    #[must_use]
    pub fn text(&self) -> Text {
        let zh = match self {
            Self::None(seen) => format!("没有找到带文件系统（FAT、exFAT、ext4）的 U 盘；已检查：{seen}"),
            Self::Mount { device, source } => format!("无法挂载 {}：{source}", device.display()),
            Self::Io { what, path, source } => format!("对 {} 的操作失败（{what}）：{source}", path.display()),
        };
        Text::new(self.to_string(), zh)
    }
}

/// What a file system calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// FAT12, FAT16, FAT32.
    Fat,
    /// exFAT.
    ExFat,
    /// ext2, ext3, ext4.
    Ext,
}

impl Kind {
    /// By the first 2 KiB.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let at = |from: usize, mark: &[u8]| head.get(from..from + mark.len()) == Some(mark);
        if at(3, b"EXFAT   ") {
            Some(Self::ExFat)
        } else if at(510, &[0x55, 0xaa]) && (at(82, b"FAT32   ") || at(54, b"FAT1")) {
            Some(Self::Fat)
        } else if at(1080, &[0x53, 0xef]) {
            Some(Self::Ext)
        } else {
            None
        }
    }

    const fn driver(self) -> (&'static CStr, Option<&'static CStr>) {
        match self {
            Self::Fat => (c"vfat", Some(c"umask=0077")),
            Self::ExFat => (c"exfat", Some(c"umask=0077")),
            Self::Ext => (c"ext4", None),
        }
    }
}

/// A partition with a file system on a stick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its device.
    pub device: PathBuf,
    /// What is on it.
    pub kind: Kind,
}

/// All of them, in the order of their names. `bays` are the machine's own disks, which are never a stick.
///
/// # Errors
/// [`Error::None`]
pub fn find(sys: &Path, dev: &Path, bays: &[PathBuf]) -> Result<Vec<Found>, Error> {
    let mut names = Vec::new();
    let mut disks: Vec<PathBuf> =
        std::fs::read_dir(sys.join("block")).into_iter().flatten().flatten().map(|e| e.path()).collect();
    disks.sort();
    for disk in disks.iter().take(LOOKS_MAX) {
        let Some(name) = disk.file_name().and_then(|name| name.to_str()) else { continue };
        if bays.iter().any(|bay| bay.file_name() == disk.file_name()) || !is_stick(disk) {
            continue;
        }
        names.push(name.to_owned());
        let mut parts: Vec<String> = std::fs::read_dir(disk)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|child| child.path().join("partition").exists() && !is_ours(&child.path()))
            .filter_map(|child| child.file_name().into_string().ok())
            .collect();
        parts.sort();
        names.extend(parts.into_iter().take(LOOKS_MAX));
    }
    let look = |name: &String| {
        let device = dev.join(name);
        let mut head = [0; 2048];
        File::open(&device).ok()?.read_exact_at(&mut head, 0).ok()?;
        Kind::of(&head).map(|kind| Found { device, kind })
    };
    let found: Vec<Found> = names.iter().filter_map(look).collect();
    if found.is_empty() {
        return Err(Error::None(if names.is_empty() { "-".to_owned() } else { names.join(", ") }));
    }
    Ok(found)
}

fn is_stick(disk: &Path) -> bool {
    let removable = std::fs::read_to_string(disk.join("removable")).is_ok_and(|text| text.trim() == "1");
    // The folder in /sys/block is a link into the tree of buses.
    let usb = std::fs::canonicalize(disk)
        .is_ok_and(|path| path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb")));
    // Drives for discs are removable too and have no partitions of ours.
    usb || (removable && !disk.file_name().is_some_and(|name| name.to_string_lossy().starts_with("sr")))
}

fn is_ours(partition: &Path) -> bool {
    let uevent = std::fs::read_to_string(partition.join("uevent")).unwrap_or_default();
    uevent.lines().any(|line| line.starts_with("PARTNAME=twinpost-"))
}

/// A stick that is mounted; unmounted when dropped, or with the result by [`Stick::close`].
#[derive(Debug)]
pub struct Stick {
    /// Where its files are.
    pub root: PathBuf,
    /// Its device.
    pub device: PathBuf,
    open: bool,
}

impl Stick {
    /// Mounts it.
    ///
    /// # Errors
    /// [`Error::Mount`]
    pub fn mount(found: &Found, mounts: &Path, write: bool) -> Result<Self, Error> {
        let fail = |source: io::Error| Error::Mount { device: found.device.clone(), source };
        let root = mounts.join(found.device.file_name().unwrap_or_default());
        std::fs::create_dir_all(&root).map_err(fail)?;
        let _ = unmount(&root, UnmountFlags::DETACH);
        let mut flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        if !write {
            flags |= MountFlags::RDONLY;
        }
        let (driver, options) = found.kind.driver();
        mount(&found.device, &root, driver, flags, options).map_err(|e| fail(e.into()))?;
        Ok(Self { root, device: found.device.clone(), open: true })
    }

    /// Room for new files, in bytes.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        rustix::fs::statvfs(&self.root).map_or(0, |facts| facts.f_bavail * facts.f_frsize)
    }

    /// Everything is on the stick: it may be pulled out.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn close(mut self) -> Result<(), Error> {
        let fail = |source: io::Error| Error::Io { what: "finish writing to", path: self.device.clone(), source };
        File::open(&self.root).and_then(|root| Ok(rustix::fs::syncfs(&root)?)).map_err(fail)?;
        self.open = false;
        unmount(&self.root, UnmountFlags::empty()).map_err(|e| fail(e.into()))
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        if self.open {
            let _ = unmount(&self.root, UnmountFlags::DETACH);
        }
    }
}

/// Files of a stick (its top folder, and folders there) whose names end so, the newest first.
#[must_use]
pub fn files(stick: &Stick, end: &str) -> Vec<PathBuf> {
    files_in(&stick.root, end)
}

fn files_in(root: &Path, end: &str) -> Vec<PathBuf> {
    let list = |folder: &Path| -> Vec<std::fs::DirEntry> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().take(1000).collect()
    };
    let mut found = Vec::new();
    let mut look = |entry: &std::fs::DirEntry| {
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        if let Ok(facts) = entry.metadata()
            && facts.is_file()
            && name.ends_with(end)
            && !name.starts_with('.')
        {
            found.push((facts.modified().ok(), entry.path()));
        }
    };
    for entry in list(root) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path()).iter().for_each(&mut look);
        } else {
            look(&entry);
        }
    }
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: Option<Kind>) -> Vec<u8> {
        let mut head = vec![0; 4096];
        let mut put = |at: usize, mark: &[u8]| head[at..at + mark.len()].copy_from_slice(mark);
        match kind {
            Some(Kind::Fat) => {
                put(510, &[0x55, 0xaa]);
                put(82, b"FAT32   ");
            }
            Some(Kind::ExFat) => put(3, b"EXFAT   "),
            Some(Kind::Ext) => put(1080, &[0x53, 0xef]),
            // A partition table alone is no file system.
            None => put(510, &[0x55, 0xaa]),
        }
        head
    }

    #[test]
    fn sticks_among_the_disks() {
        let dir = tempfile::tempdir().unwrap();
        let (sys, dev) = (dir.path().join("sys"), dir.path().join("dev"));
        std::fs::create_dir_all(&dev).unwrap();
        std::fs::create_dir_all(sys.join("block")).unwrap();
        let disk = |name: &str, bus: &str, parts: &[(&str, &str, Option<Kind>)]| {
            let real = sys.join("devices").join(bus).join(name);
            std::fs::create_dir_all(&real).unwrap();
            std::fs::write(dev.join(name), head(None)).unwrap();
            for (part, label, kind) in parts {
                std::fs::create_dir_all(real.join(part)).unwrap();
                std::fs::write(real.join(part).join("partition"), "1").unwrap();
                std::fs::write(real.join(part).join("uevent"), format!("PARTNAME={label}\n")).unwrap();
                std::fs::write(dev.join(part), head(*kind)).unwrap();
            }
            std::os::unix::fs::symlink(&real, sys.join("block").join(name)).unwrap();
        };
        disk("vda", "pci0/virtio1", &[("vda1", "data", Some(Kind::Ext))]);
        disk("sda", "pci0/usb1/1-1", &[("sda1", "twinpost-esp", Some(Kind::Fat)), ("sda2", "x", None)]);
        assert!(matches!(find(&sys, &dev, &[]), Err(Error::None(seen)) if seen == "sda, sda2"));
        disk("sdb", "pci0/usb1/1-2", &[("sdb1", "KINGSTON", Some(Kind::ExFat))]);
        std::fs::write(dev.join("sdb"), head(None)).unwrap();
        disk("sdc", "pci0/usb2/2-2", &[]);
        std::fs::write(dev.join("sdc"), head(Some(Kind::Fat))).unwrap();
        let found = find(&sys, &dev, &[]).unwrap();
        let told: Vec<_> = found.iter().map(|f| (f.device.file_name().unwrap().to_str().unwrap(), f.kind)).collect();
        assert_eq!(told, [("sdb1", Kind::ExFat), ("sdc", Kind::Fat)]);
        let without = find(&sys, &dev, &["/dev/sdb".into()]).unwrap();
        assert_eq!(without.len(), 1, "a disk of a bay is no stick");
    }

    #[test]
    fn files_by_their_end_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("twinpost")).unwrap();
        let at = |seconds| std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        for (name, seconds) in [("old.tpu", 10), ("twinpost/NEW.TPU", 20), ("other.txt", 30), (".x.tpu", 40)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(at(seconds)).unwrap();
        }
        let found = files_in(dir.path(), ".tpu");
        assert_eq!(found, [dir.path().join("twinpost/NEW.TPU"), dir.path().join("old.tpu")]);
    }
}
