//! The real machine: EFI system partitions that are mounted for as long as they are written, partitions of slots found by their names, the record on the state volume.
//!
//! Contract: nothing is found by a device name that was remembered: the caller says which disk is in which bay now. A slot's partition is opened for itself alone when it is written, so that the
//! one that runs, which the kernel holds, cannot be. After a sync the cache does not answer for what was written any more.
//!
//! Failure classes: [`Error::Io`], [`Error::Form`] (no slot on the kernel's command line); a disk without our partitions is a [`Medium`] that says so.

mod efi;

pub use efi::{VARIABLES, boot_once, selected};

use crate::error::{Error, io_error};
use crate::platform::{Esp, Listed, Medium, Platform, Running, SlotDevice};
use crate::release::{self, Release};
use crate::slot::Slot;
use crate::text::Text;
use rustix::fs::{Advice, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const ESP_PARTITION: &str = "twinpost-esp";
const ENTRIES: &str = "EFI/Linux";
const RECORD: &str = "update.json";
const RECORD_MAX_BYTES: u64 = 4 << 20;

/// A bay that the system boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemDisk {
    /// As it is printed on the machine.
    pub bay: String,
    /// The disk in it (`/dev/sda`), or why there is none.
    pub device: Result<PathBuf, Text>,
}

/// This machine.
#[derive(Clone, Debug)]
pub struct Linux {
    /// Its bays.
    pub disks: Vec<SystemDisk>,
    /// Where the record is: `/state/system`.
    pub state: PathBuf,
    /// Where partitions are mounted: `/run/twinpost/esp`.
    pub mounts: PathBuf,
    /// `/usr/lib/twinpost/release.json`
    pub release: PathBuf,
    /// `/proc/cmdline`
    pub cmdline: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
}

impl Linux {
    /// As the image has it.
    #[must_use]
    pub fn new(disks: Vec<SystemDisk>) -> Self {
        Self {
            disks,
            state: "/state/system".into(),
            mounts: "/run/twinpost/esp".into(),
            release: release::PATH.into(),
            cmdline: "/proc/cmdline".into(),
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }

    /// Unmounts what a program that was killed left mounted. Call it before anything else is done.
    pub fn tidy(&self) {
        for entry in std::fs::read_dir(&self.mounts).into_iter().flatten().flatten() {
            let _ = unmount(entry.path(), UnmountFlags::DETACH);
            let _ = std::fs::remove_dir(entry.path());
        }
    }

    /// The partition of this name on a disk.
    fn partition(&self, disk: &Path, name: &str) -> Result<PathBuf, Text> {
        let folder = self.sys.join("class/block").join(disk.file_name().unwrap_or_default());
        let none = || {
            let disk = disk.display();
            Text::new(format!("{disk} has no partition {name}"), format!("{disk} 没有分区 {name}"))
        };
        let wanted = format!("PARTNAME={name}");
        for child in std::fs::read_dir(folder).map_err(|_| none())?.flatten() {
            let uevent = std::fs::read_to_string(child.path().join("uevent")).unwrap_or_default();
            if uevent.lines().any(|line| line == wanted) {
                return Ok(self.dev.join(child.file_name()));
            }
        }
        Err(none())
    }

    fn media<T>(&self, partition: &str, open: impl Fn(&str, PathBuf) -> Result<T, Text>) -> Vec<Medium<T>> {
        let of = |disk: &SystemDisk| {
            let device = disk.device.clone().and_then(|device| self.partition(&device, partition));
            Medium { bay: disk.bay.clone(), medium: device.and_then(|device| open(&disk.bay, device)) }
        };
        self.disks.iter().map(of).collect()
    }
}

impl Platform for Linux {
    fn running(&self) -> Result<Running, Error> {
        let cmdline = std::fs::read_to_string(&self.cmdline).map_err(io_error("read", &self.cmdline))?;
        let Some(slot) = Slot::running(&cmdline) else {
            let why = "it does not say which slot runs (twinpost.slot=)".to_owned();
            return Err(Error::Form { what: self.cmdline.display().to_string(), why });
        };
        Ok(Running { slot, release: Release::read(&self.release)? })
    }

    fn esps(&self) -> Result<Vec<Medium<Box<dyn Esp>>>, Error> {
        Ok(self.media(ESP_PARTITION, |bay, device| {
            let plain: String = bay.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            MountedEsp::mount(&device, &self.mounts, &plain).map(|esp| Box::new(esp) as Box<dyn Esp>).map_err(|e| {
                let device = device.display();
                Text::new(format!("{device} cannot be mounted: {e}"), format!("无法挂载 {device}：{e}"))
            })
        }))
    }

    fn slots(&self, slot: Slot) -> Result<Vec<Medium<Box<dyn SlotDevice>>>, Error> {
        Ok(self.media(slot.partition(), |_, device| {
            Partition::open(&device).map(|partition| Box::new(partition) as Box<dyn SlotDevice>).map_err(|e| {
                let device = device.display();
                Text::new(format!("{device} cannot be opened: {e}"), format!("无法打开 {device}：{e}"))
            })
        }))
    }

    fn load(&self) -> Result<Option<Vec<u8>>, Error> {
        let path = self.state.join(RECORD);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("open", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(RECORD_MAX_BYTES).read_to_end(&mut bytes).map_err(io_error("read", &path))?;
        Ok(Some(bytes))
    }

    fn store(&self, record: &[u8]) -> Result<(), Error> {
        replace(&self.state.join(RECORD), record)
    }
}

/// Replaces a file whole, on stable storage; makes its folder.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(io_error("create", &new))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(io_error("write", &new))?;
    std::fs::rename(&new, path).map_err(io_error("rename into place", path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync the folder", folder))
}

/// Forgets what the cache holds of a file that was synced: the next read asks the disk.
fn forget(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
}

/// See [`Esp`]. Unmounted when dropped.
struct MountedEsp {
    root: PathBuf,
    folder: PathBuf,
}

impl MountedEsp {
    /// Each has a mount of its own: somebody may look while another writes for minutes. The kernel has the file system only once.
    fn mount(device: &Path, folder: &Path, bay: &str) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let root = folder.join(format!("{bay}.{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&root)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
        if let Err(error) = mount(device, &root, c"vfat", flags, c"umask=0077") {
            let _ = std::fs::remove_dir(&root);
            return Err(error.into());
        }
        let esp = Self { folder: root.join(ENTRIES), root };
        std::fs::create_dir_all(&esp.folder)?;
        Ok(esp)
    }
}

impl Drop for MountedEsp {
    fn drop(&mut self) {
        if let Err(e) = unmount(&self.root, UnmountFlags::empty()) {
            tracing::warn!(path = %self.root.display(), error = %e, "a boot partition is still in use and stays mounted until it is not");
            let _ = unmount(&self.root, UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir(&self.root);
    }
}

impl Esp for MountedEsp {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            let facts = entry.metadata()?;
            if let (true, Ok(name)) = (facts.is_file(), entry.file_name().into_string()) {
                files.push(Listed { name, bytes: facts.len() });
            }
        }
        Ok(files)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let facts = rustix::fs::statvfs(&self.folder)?;
        Ok(facts.f_bavail * facts.f_frsize)
    }

    fn read(&self, name: &str, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut file = File::open(self.folder.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        let mut filled = 0;
        while filled < into.len() {
            match file.read(&mut into[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    fn create(&mut self, name: &str) -> io::Result<()> {
        File::create(self.folder.join(name)).map(drop)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().append(true).open(self.folder.join(name))?.write_all(bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let file = File::open(self.folder.join(name))?;
        file.sync_all()?;
        forget(&file)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.folder.join(name))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        // The folder's blocks and the allocation table first, then the order to the disk to empty its cache.
        let folder = File::open(&self.folder)?;
        rustix::fs::syncfs(&folder)?;
        folder.sync_all()
    }
}

/// See [`SlotDevice`].
struct Partition {
    path: PathBuf,
    read: File,
    write: Option<File>,
}

impl Partition {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), read: File::open(path)?, write: None })
    }

    fn writable(&mut self) -> io::Result<&File> {
        match self.write {
            Some(ref file) => Ok(file),
            None => {
                let exclusive = i32::try_from(OFlags::EXCL.bits()).map_err(io::Error::other)?;
                let file = OpenOptions::new().write(true).custom_flags(exclusive).open(&self.path)?;
                Ok(self.write.insert(file))
            }
        }
    }
}

impl SlotDevice for Partition {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn bytes(&self) -> io::Result<u64> {
        (&self.read).seek(SeekFrom::End(0))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.writable()?.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &self.write {
            file.sync_all()?;
        }
        forget(&self.read)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read.read_exact_at(into, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(dir: &Path) -> Linux {
        let at = |name: &str| dir.join(name);
        let disks = vec![
            SystemDisk { bay: "1".into(), device: Ok("/dev/vda".into()) },
            SystemDisk { bay: "2".into(), device: Err(Text::new("no disk", "没有磁盘")) },
        ];
        let (sys, dev) = (at("sys"), at("dev"));
        for (name, label) in [("vda1", "twinpost-esp"), ("vda2", "twinpost-a"), ("vda3", "twinpost-b")] {
            let folder = sys.join("class/block/vda").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("uevent"), format!("DEVNAME={name}\nPARTN=1\nPARTNAME={label}\n")).unwrap();
        }
        std::fs::create_dir_all(&dev).unwrap();
        std::fs::write(dev.join("vda3"), vec![7; 5000]).unwrap();
        std::fs::write(at("cmdline"), "quiet twinpost.slot=a\n").unwrap();
        std::fs::write(at("release.json"), r#"{"version":"1","sequence":9}"#).unwrap();
        Linux {
            disks,
            state: at("state/system"),
            mounts: at("esp"),
            release: at("release.json"),
            cmdline: at("cmdline"),
            sys,
            dev,
        }
    }

    #[test]
    fn what_runs_and_what_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let running = machine.running().unwrap();
        assert_eq!((running.slot, running.release.sequence), (Slot::A, 9));
        assert_eq!(machine.load().unwrap(), None);
        for content in [&b"one"[..], b"two"] {
            machine.store(content).unwrap();
            assert_eq!(machine.load().unwrap().as_deref(), Some(content));
        }
        std::fs::write(dir.path().join("cmdline"), "quiet").unwrap();
        assert!(matches!(machine.running(), Err(Error::Form { .. })));
    }

    #[test]
    fn the_partition_of_a_slot_is_found_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        let mut media = machine.slots(Slot::B).unwrap();
        assert!(media.pop().unwrap().medium.is_err_and(|why| why.en == "no disk"));
        let mut slot = media.pop().unwrap().medium.unwrap();
        assert_eq!(slot.bytes().unwrap(), 5000);
        slot.write(4000, &[1; 1000]).unwrap();
        slot.sync().unwrap();
        let mut read = [0; 2];
        slot.read(3999, &mut read).unwrap();
        assert_eq!(read, [7, 1]);
        assert!(slot.read(4999, &mut read).is_err(), "behind the end");
        let media = machine.slots(Slot::A).unwrap();
        assert!(media[0].medium.as_ref().is_err_and(|why| why.en.contains("vda2")), "no such device");
    }

    #[test]
    fn the_folder_of_the_entries() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(ENTRIES);
        std::fs::create_dir_all(&folder).unwrap();
        let mut esp = std::mem::ManuallyDrop::new(MountedEsp { root: dir.path().into(), folder });
        esp.create("x.new").unwrap();
        esp.append("x.new", b"abc").unwrap();
        esp.append("x.new", b"def").unwrap();
        esp.sync("x.new").unwrap();
        esp.rename("x.new", "x").unwrap();
        esp.sync_folder().unwrap();
        assert_eq!(esp.list().unwrap(), [Listed { name: "x".into(), bytes: 6 }]);
        let mut read = [0; 4];
        assert_eq!((esp.read("x", 4, &mut read).unwrap(), &read[..2]), (2, &b"ef"[..]));
        assert!(esp.free_bytes().unwrap() > 0);
        esp.remove("x").unwrap();
        assert!(esp.list().unwrap().is_empty());
    }
}
