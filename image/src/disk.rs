//! The disk image: partition table, EFI system partition and slot A, as one sparse file that a disk or a USB medium starts from.
//!
//! Contract: partitions lie where [`twinpost_disks::layout`] has them on every system disk; identifiers follow from the version (UUIDv5), times
//! are the release's, so equal inputs give equal bytes. Slot B is empty; what follows the slots is made by the node itself. The installer
//! medium is the same image with another command line in its kernel image.
//! Failure classes: [`Error::Program`] for mkfs.vfat and mtools, [`Error::TooBig`] when something does not fit its partition, [`Error::Io`].

use crate::{Error, Result, error::io};
use gpt::partition_types::{EFI, LINUX_FS};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use twinpost_disks::layout::{ESP, Layout, MIB};
use uuid::Uuid;

const SECTOR_BYTES: u64 = 512;
/// Space of names for UUIDv5: every identifier of the product's disks is derived below it.
const NAMES: Uuid = Uuid::from_u128(0x7d2f_6a51_90c4_4d0e_9b1f_5b6a_7e21_3c84);

/// systemd-boot's settings (loader.conf(5)): no menu unless a key is held, no editing of the command line.
pub const LOADER_CONF: &str = "timeout 0\nconsole-mode keep\neditor no\n";

/// What goes onto the disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskInputs<'a> {
    /// Version of the release; identifiers are derived from it.
    pub version: &'a str,
    /// Time of every file of the ESP and sequence of the release (SOURCE_DATE_EPOCH).
    pub epoch_s: u64,
    /// systemd-boot as shipped (`systemd-bootx64.efi`).
    pub boot_manager: &'a [u8],
    /// Kernel images of the ESP: name below `EFI/Linux` (`twinpost-<sequence>-a.efi`) and content.
    pub kernels: &'a [(String, Vec<u8>)],
    /// Content of slot A: squashfs with its hash tree.
    pub slot_a: &'a Path,
    /// Content of slot B, for images of tests; a product image has none.
    pub slot_b: Option<&'a Path>,
}

/// An identifier that follows from version and purpose.
#[must_use]
pub fn identifier(version: &str, purpose: &str) -> Uuid {
    Uuid::new_v5(&NAMES, format!("{version}/{purpose}").as_bytes())
}

/// Size of the image: the system partitions and room for both tables.
#[must_use]
pub fn image_bytes() -> u64 {
    Layout::default().system_end() + MIB
}

/// Name of a slot's kernel image on the ESP; the boot manager starts the highest sequence first.
#[must_use]
pub fn kernel_name(sequence: u64, slot: crate::Slot) -> String {
    format!("twinpost-{sequence}-{}.efi", slot.letter())
}

/// Writes the disk image to `out`, which appears only when it is whole.
///
/// # Errors
/// As the module says.
pub fn build(inputs: &DiskInputs<'_>, out: &Path) -> Result<()> {
    let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::tempdir_in(folder).map_err(io("cannot make a folder in", folder))?;
    let esp = work.path().join("esp");
    build_esp(inputs, work.path(), &esp)?;
    let path = work.path().join("disk");
    let mut disk = File::options().read(true).write(true).create_new(true).open(&path).map_err(io("cannot create", &path))?;
    disk.set_len(image_bytes()).map_err(io("cannot size", &path))?;
    write_table(inputs.version, &mut disk)?;
    let places = Layout::default().system();
    for (place, source) in places.iter().zip([Some(esp.as_path()), Some(inputs.slot_a), inputs.slot_b]) {
        let Some(source) = source else { continue };
        let length = source.metadata().map_err(io("cannot read", source))?.len();
        if length > place.bytes {
            let report = format!("{} does not fit its partition", source.display());
            return Err(Error::TooBig { what: "content of a partition", bytes: length, limit: place.bytes, report });
        }
        copy_sparse(source, &mut disk, place.start_bytes).map_err(io("cannot copy into the disk image", source))?;
    }
    disk.sync_all().map_err(io("cannot write", &path))?;
    std::fs::rename(&path, out).map_err(io("cannot put in place", out))
}

fn write_table(version: &str, disk: &mut File) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Error::Format { what: "partition table".to_owned(), why: error.to_string() };
    let last = u32::try_from(image_bytes() / SECTOR_BYTES - 1).unwrap_or(u32::MAX);
    gpt::mbr::ProtectiveMBR::with_lb_size(last).overwrite_lba0(disk).map_err(|error| failed(&error))?;
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .create_from_device(disk, Some(identifier(version, "disk")))
        .map_err(|error| failed(&error))?;
    let mut partitions = table.partitions().clone();
    for (number, place) in (1u32..).zip(Layout::default().system()) {
        let part_type_guid = if place.name == ESP { EFI } else { LINUX_FS };
        let partition = gpt::partition::Partition {
            part_type_guid,
            part_guid: identifier(version, &place.name),
            first_lba: place.start_bytes / SECTOR_BYTES,
            last_lba: (place.start_bytes + place.bytes) / SECTOR_BYTES - 1,
            flags: 0,
            name: place.name,
        };
        partitions.insert(number, partition);
    }
    table.update_partitions(partitions).map_err(|error| failed(&error))?;
    table.write().map_err(|error| failed(&error))?;
    Ok(())
}

/// The ESP as a file system image of its own.
fn build_esp(inputs: &DiskInputs<'_>, work: &Path, esp: &Path) -> Result<()> {
    let bytes = Layout::default().esp_bytes;
    // Half a mebibyte covers the tables of the file system and the folders.
    let content = inputs.boot_manager.len() + inputs.kernels.iter().map(|(_, kernel)| kernel.len()).sum::<usize>();
    if content as u64 + 2 * MIB > bytes {
        let report = "kernel images and boot manager together do not fit the EFI system partition".to_owned();
        return Err(Error::TooBig { what: "content of the EFI system partition", bytes: content as u64, limit: bytes, report });
    }
    let file = File::create(esp).map_err(io("cannot create", esp))?;
    file.set_len(bytes).map_err(io("cannot size", esp))?;
    // FAT keeps a volume number of 32 bits; clusters of 1 KiB are the largest at which 96 MiB still count as FAT32.
    let volume = format!("{:08x}", identifier(inputs.version, "esp-volume").as_fields().0);
    run(
        inputs.epoch_s,
        Command::new("mkfs.vfat").args(["--invariant", "-F", "32", "-s", "2", "-n", "TWINPOST", "-i", &volume]).arg(esp),
    )?;
    let folders = ["::EFI", "::EFI/BOOT", "::EFI/Linux", "::loader"];
    run(inputs.epoch_s, Command::new("mmd").arg("-i").arg(esp).args(folders))?;
    let mut files =
        vec![("EFI/BOOT/BOOTX64.EFI".to_owned(), inputs.boot_manager), ("loader/loader.conf".to_owned(), LOADER_CONF.as_bytes())];
    files.extend(inputs.kernels.iter().map(|(name, kernel)| (format!("EFI/Linux/{name}"), kernel.as_slice())));
    for (number, (name, content)) in files.iter().enumerate() {
        let path = work.join(format!("file{number}"));
        let mut file = File::create(&path).map_err(io("cannot create", &path))?;
        file.write_all(content).map_err(io("cannot write", &path))?;
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(inputs.epoch_s);
        file.set_modified(time).map_err(io("cannot set the time of", &path))?;
        run(inputs.epoch_s, Command::new("mcopy").args(["-m", "-i"]).arg(esp).arg(&path).arg(format!("::{name}")))?;
    }
    Ok(())
}

/// Runs a program with the release's time as "now" (mtools and mkfs.vfat take it from SOURCE_DATE_EPOCH) and UTC.
fn run(epoch_s: u64, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| Error::Program { program: program.clone(), why };
    // mtools checks that the image has whole tracks of an imagined drive; the ESP of a GPT has none.
    command.env("SOURCE_DATE_EPOCH", epoch_s.to_string()).env("TZ", "UTC").env("LC_ALL", "C").env("MTOOLS_SKIP_CHECK", "1");
    let output = command.output().map_err(|error| failed(format!("cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(format!("failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// Copies a file to a place of the image; blocks of zeros stay holes.
fn copy_sparse(source: &Path, disk: &mut File, start: u64) -> std::io::Result<()> {
    let mut source = File::open(source)?;
    let mut block = vec![0; 64 << 10];
    let mut at = start;
    loop {
        let mut length = 0;
        while length < block.len() {
            match source.read(&mut block[length..])? {
                0 => break,
                n => length += n,
            }
        }
        if length == 0 {
            return Ok(());
        }
        if block[..length].iter().any(|byte| *byte != 0) {
            disk.seek(SeekFrom::Start(at))?;
            disk.write_all(&block[..length])?;
        }
        at += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folder: &Path, name: &str, version: &str, kernel: usize) -> Result<std::path::PathBuf> {
        let slot = folder.join("slot");
        std::fs::write(&slot, vec![0x5a; 300_000]).unwrap();
        let kernels = [(kernel_name(1_700_000_000, crate::Slot::A), vec![1; kernel])];
        let inputs = DiskInputs {
            version,
            epoch_s: 1_700_000_001,
            boot_manager: b"MZ boot",
            kernels: &kernels,
            slot_a: &slot,
            slot_b: None,
        };
        let out = folder.join(name);
        build(&inputs, &out)?;
        Ok(out)
    }

    #[test]
    fn equal_inputs_give_equal_bytes_and_the_parts_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = make(folder.path(), "a.img", "1.2.3", 70_000).unwrap();
        let second = make(folder.path(), "b.img", "1.2.3", 70_000).unwrap();
        assert!(std::fs::read(&first).unwrap() == std::fs::read(&second).unwrap(), "two builds differ");
        let disk = gpt::GptConfig::new().open(&first).unwrap();
        let names = disk.partitions().values().map(|p| p.name.clone()).collect::<Vec<_>>();
        assert_eq!(names, ["twinpost-esp", "twinpost-a", "twinpost-b"]);
        assert_eq!(disk.guid(), &identifier("1.2.3", "disk"));
        assert_eq!(disk.partitions()[&2].part_guid, identifier("1.2.3", "twinpost-a"));
        assert_ne!(identifier("1.2.3", "disk"), identifier("1.2.4", "disk"));
        let bytes = std::fs::read(&first).unwrap();
        let start = usize::try_from(disk.partitions()[&2].first_lba * SECTOR_BYTES).unwrap();
        assert!(bytes[start..start + 300_000].iter().all(|b| *b == 0x5a) && bytes[start + 300_000] == 0);
        let image = format!("{}@@{}", first.display(), disk.partitions()[&1].first_lba * SECTOR_BYTES);
        let list = Command::new("mdir").args(["-i", &image, "-b", "-/", "::"]).output().expect("mtools are installed");
        let list = String::from_utf8(list.stdout).unwrap();
        for name in ["::/EFI/BOOT/BOOTX64.EFI", "::/EFI/Linux/twinpost-1700000000-a.efi", "::/loader/loader.conf"] {
            assert!(list.contains(name), "{name} in {list}");
        }
        // Nothing but whole files is left in the folder.
        let mut left =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
        left.sort();
        assert_eq!(left, ["a.img", "b.img", "slot"]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = make(folder.path(), "a.img", "1", 95 << 20).unwrap_err();
        assert!(error.to_string().contains("EFI system partition"), "{error}");
        assert!(!folder.path().join("a.img").exists());
    }
}
