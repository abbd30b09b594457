//! Disks and partitions as the kernel knows them.
//!
//! Contract: reads sysfs only; a disk that goes away while it is looked at is one that is not there. Failure classes: no such disk.

use crate::{Error, Machine, Port, device, table};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// More partitions than this on one disk are not looked at.
const PARTITIONS_MAX: usize = 128;

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name in the kernel: `sda`.
    pub name: String,
    /// Its node.
    pub device: PathBuf,
    /// Size.
    pub bytes: u64,
    /// Logical block size.
    pub sector_bytes: u32,
    /// It turns.
    pub rotational: bool,
    /// Maker and model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// It can write zeros without being sent them.
    pub writes_zeros: bool,
    /// Devices that stand on the whole disk, or it is mounted as a whole.
    pub held: bool,
    /// By their place.
    pub parts: Vec<Part>,
}

impl Block {
    /// By the name in the table.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.label == name)
    }
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name in the kernel: `sda1`.
    pub name: String,
    /// Its node.
    pub device: PathBuf,
    /// Number in the table.
    pub index: u32,
    /// Name in the table.
    pub label: String,
    /// First byte.
    pub start_bytes: u64,
    /// Size.
    pub bytes: u64,
    /// An array or a device mapper stands on it, or it is mounted.
    pub held: bool,
}

/// A file of sysfs without white space at its ends; empty when there is none.
pub fn text(path: impl AsRef<Path>) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..bytes.len().min(64 * 1024)]).trim().to_owned()
}

/// A number in sysfs.
pub fn number(path: impl AsRef<Path>) -> Option<u64> {
    text(path).parse().ok()
}

fn has_entries(folder: impl AsRef<Path>) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut list| list.next().is_some())
}

/// SPC-4 7.8.17: page 80h, the serial number behind a header of 4 bytes.
fn vpd_serial(path: impl AsRef<Path>) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let serial = String::from_utf8_lossy(bytes.get(4..)?).trim_matches(|c: char| c == '\0' || c.is_whitespace()).to_owned();
    (!serial.is_empty()).then_some(serial)
}

/// Printable ASCII only, at most 80 characters: these words come from the disk.
fn tidy(said: &str) -> String {
    let shown = said.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect::<String>();
    let mut shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    shown.truncate(80);
    shown
}

/// The value of `NAME=value` in a uevent file.
pub fn uevent(folder: &Path, name: &str) -> Option<String> {
    let all = text(folder.join("uevent"));
    all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
}

impl Machine {
    /// Folder of a block device in sysfs.
    pub(crate) fn class_block(&self, name: &str) -> PathBuf {
        self.paths.sys.join("class/block").join(name)
    }

    /// What the kernel knows of a whole disk. May read its partition table.
    pub(crate) async fn find(&self, device: &Path) -> Result<Block, Error> {
        let (machine, device) = (self.clone(), device.to_owned());
        device::blocking(&device.clone(), move || machine.block(&device)).await
    }

    /// What the kernel knows of a whole disk. May read its partition table.
    pub(crate) fn block(&self, device: &Path) -> Result<Block, Error> {
        let gone = || Error::Missing(format!("there is no disk {}", device.display()));
        let real = std::fs::canonicalize(device).map_err(|_| gone())?;
        let name = real.file_name().and_then(|name| name.to_str()).ok_or_else(gone)?.to_owned();
        let folder = self.class_block(&name);
        let bytes = number(folder.join("size")).ok_or_else(gone)?.saturating_mul(512);
        let about = folder.join("device");
        let serial = [text(folder.join("serial")), text(about.join("serial"))].into_iter().find(|serial| !serial.is_empty());
        let serial = serial.or_else(|| vpd_serial(about.join("vpd_pg80"))).unwrap_or_default();
        let model = match (tidy(&text(about.join("vendor"))), tidy(&text(about.join("model")))) {
            // libata names itself as the maker; virtio names the maker by a number.
            (vendor, model) if vendor.is_empty() || vendor == "ATA" || vendor.starts_with("0x") => model,
            (vendor, model) => format!("{vendor} {model}").trim().to_owned(),
        };
        let (mut parts, mounted) = (Vec::new(), self.mounted());
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten().take(4096) {
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let at = entry.path();
            let Some(index) = number(at.join("partition")) else { continue };
            let sectors = |what: &str| number(at.join(what)).unwrap_or(0).saturating_mul(512);
            let id = text(at.join("dev"));
            parts.push(Part {
                device: self.paths.dev.join(&part),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                label: uevent(&at, "PARTNAME").unwrap_or_default(),
                start_bytes: sectors("start"),
                bytes: sectors("size"),
                held: has_entries(at.join("holders")) || mounted.contains(&id),
                name: part,
            });
            if parts.len() == PARTITIONS_MAX {
                break;
            }
        }
        parts.sort_by_key(|part| part.start_bytes);
        let device = self.paths.dev.join(&name);
        let sector_bytes = number(folder.join("queue/logical_block_size")).and_then(|n| u32::try_from(n).ok()).unwrap_or(512);
        // The kernel knows names only of partitions that it found by itself, not of those that it was told of while the disk was in use.
        if parts.iter().any(|part| part.label.is_empty())
            && let Ok(Some(table)) = table::read(&device, sector_bytes)
        {
            for part in &mut parts {
                let entry =
                    table.partitions.iter().find(|entry| (entry.number, entry.start_bytes) == (part.index, part.start_bytes));
                part.label = entry.map(|entry| entry.name.clone()).unwrap_or_default();
            }
        }
        Ok(Block {
            device,
            bytes,
            sector_bytes,
            rotational: number(folder.join("queue/rotational")) == Some(1),
            model: if model.is_empty() && name.starts_with("vd") { "virtio disk".into() } else { model },
            serial: tidy(&serial),
            writes_zeros: number(folder.join("queue/write_zeroes_max_bytes")).is_some_and(|most| most > 0),
            held: has_entries(folder.join("holders")) || mounted.contains(&text(folder.join("dev"))),
            parts,
            name,
        })
    }

    /// The disk of each bay; bays whose disk went away are empty.
    pub(crate) async fn blocks(&self) -> Vec<(&Port, Option<Block>)> {
        let mut out = Vec::new();
        for port in &self.ports {
            let block = match &port.device {
                Some(device) => self.find(device).await.ok(),
                None => None,
            };
            out.push((port, block));
        }
        out
    }

    /// The bay of a partition or disk, by the kernel's name.
    pub(crate) fn bay_of(&self, name: &str) -> Option<String> {
        let real = std::fs::canonicalize(self.class_block(name)).ok()?;
        let own = real.file_name()?.to_str()?.to_owned();
        let above = real.parent()?.file_name()?.to_str()?.to_owned();
        self.ports.iter().find_map(|port| {
            let device = std::fs::canonicalize(port.device.as_ref()?).ok()?;
            let disk = device.file_name()?.to_str()?;
            (disk == own || disk == above).then(|| port.bay.clone())
        })
    }

    /// Device numbers of what is mounted.
    fn mounted(&self) -> BTreeSet<String> {
        let table = std::fs::read_to_string(self.paths.proc.join("self/mountinfo")).unwrap_or_default();
        // proc(5): the third field is the device.
        table.lines().filter_map(|line| line.split(' ').nth(2).map(str::to_owned)).collect()
    }
}

impl Block {
    /// Something of the running system stands on the disk.
    pub fn in_use(&self) -> bool {
        self.held || self.parts.iter().any(|part| part.held)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    /// A machine whose disks are files and whose sysfs is a folder.
    pub(crate) struct Fake {
        _folder: tempfile::TempDir,
        pub machine: Machine,
    }

    impl Fake {
        pub(crate) fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let mut machine = Machine::new(Vec::new());
            for (path, name) in [
                (&mut machine.paths.sys, "sys"),
                (&mut machine.paths.dev, "dev"),
                (&mut machine.paths.proc, "proc"),
                (&mut machine.paths.state, "state"),
            ] {
                *path = fs::canonicalize(folder.path()).unwrap().join(name);
                fs::create_dir_all(&*path).unwrap();
            }
            fs::create_dir_all(machine.paths.proc.join("self")).unwrap();
            fs::write(machine.paths.proc.join("self/mountinfo"), "").unwrap();
            fs::create_dir_all(machine.paths.sys.join("class/block")).unwrap();
            Self { _folder: folder, machine }
        }

        /// A disk of so many bytes in the next bay.
        pub(crate) fn disk(&mut self, name: &str, bytes: u64) -> PathBuf {
            let device = self.machine.paths.dev.join(name);
            fs::File::create(&device).unwrap().set_len(bytes).unwrap();
            let folder = self.machine.class_block(name);
            fs::create_dir_all(folder.join("queue")).unwrap();
            fs::create_dir_all(folder.join("holders")).unwrap();
            for (file, text) in
                [("size", (bytes / 512).to_string()), ("serial", format!("S-{name}")), ("dev", format!("254:{name}"))]
            {
                fs::write(folder.join(file), text + "\n").unwrap();
            }
            let bay = (self.machine.ports.len() + 1).to_string();
            let label = format!("DISK {bay}");
            self.machine.ports.push(Port { bay, label, led: None, device: Some(device.clone()) });
            device
        }

        /// What the kernel would show of a table.
        pub(crate) fn show(&self, name: &str, partitions: &[crate::Partition]) {
            for partition in partitions {
                let part = format!("{name}{}", partition.number);
                let folder = self.machine.class_block(name).join(&part);
                fs::create_dir_all(folder.join("holders")).unwrap();
                for (file, text) in [
                    ("partition", partition.number.to_string()),
                    ("start", (partition.start_bytes / 512).to_string()),
                    ("size", (partition.bytes / 512).to_string()),
                    ("dev", format!("254:{part}")),
                    ("uevent", format!("MAJOR=254\nPARTN={}\nPARTNAME={}", partition.number, partition.name)),
                ] {
                    fs::write(folder.join(file), text + "\n").unwrap();
                }
                let link = self.machine.class_block(&part);
                let _ = fs::remove_file(&link);
                std::os::unix::fs::symlink(&folder, link).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_disk_by_its_bay() {
        let mut fake = Fake::new();
        let device = fake.disk("vda", 1 << 30);
        let partitions = crate::layout::entries(&crate::layout::Layout::default().system());
        fake.show("vda", &partitions);
        let block = fake.machine.block(&device).unwrap();
        assert_eq!((block.bytes, block.serial.as_str(), block.sector_bytes), (1 << 30, "S-vda", 512));
        assert_eq!(block.part("twinpost-a").map(|part| (part.index, part.name.as_str())), Some((2, "vda2")));
        assert_eq!(fake.machine.bay_of("vda2").as_deref(), Some("1"));
        fs::write(fake.machine.class_block("vda2").join("uevent"), "PARTN=2\n").unwrap();
        assert_eq!(fake.machine.block(&device).unwrap().part("twinpost-a"), None);
        table::write(&device, 512, &table::Table { guid: uuid::Uuid::nil(), partitions }).unwrap();
        assert_eq!(fake.machine.block(&device).unwrap().part("twinpost-a").unwrap().name, "vda2", "by the table");
        assert_eq!(fake.machine.bay_of("vda").as_deref(), Some("1"));
        assert_eq!(fake.machine.bay_of("vdb1"), None);
        assert!(!block.in_use());
        fs::write(fake.machine.paths.proc.join("self/mountinfo"), "36 35 254:vda2 / /x rw - ext4 /dev/vda2 rw\n").unwrap();
        assert!(fake.machine.block(&device).unwrap().in_use());
        fake.machine.ports[0].device = Some("/dev/no-such-disk".into());
        assert!(fake.machine.blocks().await[0].1.is_none());
    }

    #[test]
    fn words_of_a_disk_are_cleaned() {
        assert_eq!(tidy("  QEMU \u{1b}[2J  HARDDISK\0"), "QEMU [2J HARDDISK");
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("page"), b"\0\x80\0\x08  WD-1234\0").unwrap();
        assert_eq!(vpd_serial(folder.path().join("page")).as_deref(), Some("WD-1234"));
        assert_eq!(vpd_serial(folder.path().join("none")), None);
    }
}
