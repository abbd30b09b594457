//! The mail of a disk that lost its power, without a machine around it: partition, member of the array, file system, files.
//!
//! Contract: works on a raw image of one system disk and changes it (the journal of the file system is replayed, as a node would do). Each member of
//! the mirror must hold all that was promised, so one disk is enough. The layout is the product's (docs/manual/disks.md): partition
//! `twinpost-mail`, an md member with metadata 1.2 (linux/raid/md_p.h), in it DRBD with its own data at the end, in it ext4 from
//! the first byte. `e2fsck` and `debugfs` do the rest in user space, so neither root nor a kernel module is needed.
//!
//! Failure classes: something is not where the layout has it; a file system that e2fsck does not mend: an error with what the program said.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// `MD_SB_MAGIC`.
const MD_MAGIC: u32 = 0xa92b_4efc;
/// Metadata 1.2 lies so far behind the start of the member.
const MD_AT: u64 = 4096;
/// `struct mdp_superblock_1`: `data_offset`, in sectors.
const MD_DATA_OFFSET: u64 = 128;
const SECTOR: u64 = 512;

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Where the file system of the mail begins on this disk, in bytes.
///
/// # Errors
/// No such partition, no member of an array in it.
pub fn mail_at(disk: &Path) -> io::Result<u64> {
    let table = gpt::GptConfig::new().open(disk).map_err(|e| wrong(format!("{}: {e}", disk.display())))?;
    let partition = table.partitions().values().find(|partition| partition.name == "twinpost-mail");
    let start = partition.ok_or_else(|| wrong("the disk has no partition twinpost-mail"))?.first_lba * SECTOR;
    let file = File::open(disk)?;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, start + MD_AT)?;
    if u32::from_le_bytes(magic) != MD_MAGIC {
        return Err(wrong("the partition twinpost-mail is no member of an array"));
    }
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, start + MD_AT + MD_DATA_OFFSET)?;
    Ok(start + u64::from_le_bytes(offset) * SECTOR)
}

/// Repairs the mail's file system on the disk as a node would, and copies its files into `to`; gives what e2fsck said.
///
/// # Errors
/// The layout is not there, the file system cannot be repaired, a program is missing.
pub fn extract_mail(disk: &Path, to: &Path) -> io::Result<String> {
    extract(disk, mail_at(disk)?, to)
}

fn extract(disk: &Path, at: u64, to: &Path) -> io::Result<String> {
    // Both programs take the place of a file system in its image this way.
    let mut device = OsString::from(disk);
    device.push(format!("?offset={at}"));
    let check = Command::new("/sbin/e2fsck").arg("-fy").arg(&device).output()?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    // e2fsck(8): 0 no errors, 1 errors corrected.
    if !matches!(check.status.code(), Some(0 | 1)) {
        return Err(wrong(format!("e2fsck cannot mend the file system: {said}{}", String::from_utf8_lossy(&check.stderr))));
    }
    std::fs::create_dir_all(to)?;
    let place = to.to_str().filter(|text| !text.contains('"')).ok_or_else(|| wrong("the folder's name is not plain text"))?;
    let dump = Command::new("/sbin/debugfs").arg("-R").arg(format!("rdump / \"{place}\"")).arg(&device).output()?;
    if !dump.status.success() {
        return Err(wrong(format!("debugfs: {}", String::from_utf8_lossy(&dump.stderr))));
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gpt::partition_types::LINUX_RAID;

    /// A system disk as `disks init` makes it, with one file in its mail.
    fn disk(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(48 << 20).unwrap();
        let mut table = gpt::GptConfig::new().writable(true).create(&path).unwrap();
        table.add_partition("twinpost-esp", 1 << 20, LINUX_RAID, 0, Some(2048)).unwrap();
        let id = table.add_partition("twinpost-mail", 40 << 20, LINUX_RAID, 0, Some(2048)).unwrap();
        let start = table.partitions()[&id].first_lba * SECTOR;
        table.write().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&MD_MAGIC.to_le_bytes(), start + MD_AT).unwrap();
        file.write_all_at(&2048u64.to_le_bytes(), start + MD_AT + MD_DATA_OFFSET).unwrap();
        let content = folder.join("content");
        std::fs::create_dir_all(content.join("store")).unwrap();
        std::fs::write(content.join("store/pack"), "mail").unwrap();
        let at = start + 2048 * SECTOR;
        let made = Command::new("/sbin/mkfs.ext4")
            .args(["-q", "-F", "-E", &format!("offset={at}"), "-d"])
            .arg(&content)
            .arg(&path)
            .arg("32M")
            .status()
            .unwrap();
        assert!(made.success());
        path
    }

    #[test]
    fn mail_is_found_and_copied_out() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        extract_mail(&disk, &folder.path().join("out")).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("out/store/pack")).unwrap(), "mail");
    }

    #[test]
    fn a_disk_without_mail_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
        gpt::GptConfig::new().writable(true).create(&path).unwrap().write().unwrap();
        assert!(extract_mail(&path, &folder.path().join("out")).unwrap_err().to_string().contains("no partition"));
    }
}
