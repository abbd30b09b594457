//! The file systems of a disk that is in no running machine: partition, member of the array, file system, files.
//!
//! Contract: works on a raw image of one system disk and changes it (the journal of the file system is replayed, as a node would do). Each member of
//! the mirror must hold all that was promised, so one disk is enough to read; what is written must be written to all members. The layout is
//! the product's (docs/manual/disks.md): partition `twinpost-mail`, an md member with metadata 1.2 (linux/raid/md_p.h), in it DRBD with its
//! own data at the end, in it ext4 from the first byte; `twinpost-state` the same without DRBD. `e2fsck` and `debugfs` do the rest in
//! user space on a copy of the file system, so neither root nor a kernel module is needed.
//!
//! Failure classes: something is not where the layout has it; a file system that e2fsck does not mend: an error with what the program said.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
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

/// The partition with the mail.
pub const MAIL: &str = "twinpost-mail";
/// The file that fills a file system.
const FILLER: &str = "filler";

/// Where the file system in a partition begins on this disk, in bytes.
///
/// # Errors
/// No such partition, no member of an array in it.
fn file_system_at(disk: &Path, name: &str) -> io::Result<u64> {
    let table = gpt::GptConfig::new().open(disk).map_err(|e| wrong(format!("{}: {e}", disk.display())))?;
    let partition = table.partitions().values().find(|partition| partition.name == name);
    let start = partition.ok_or_else(|| wrong(format!("the disk has no partition {name}")))?.first_lba * SECTOR;
    let file = File::open(disk)?;
    let mut magic = [0; 4];
    file.read_exact_at(&mut magic, start + MD_AT)?;
    if u32::from_le_bytes(magic) != MD_MAGIC {
        return Err(wrong(format!("the partition {name} is no member of an array")));
    }
    let mut offset = [0; 8];
    file.read_exact_at(&mut offset, start + MD_AT + MD_DATA_OFFSET)?;
    Ok(start + u64::from_le_bytes(offset) * SECTOR)
}

/// Where the super block of ext4 lies in its file system, and how long the part of it that is read here is.
const SUPER: (u64, usize) = (1024, 0x154);
/// `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal has to be replayed.
const NEEDS_RECOVERY: u32 = 4;
/// Read and written at once.
const PIECE: usize = 1 << 20;

/// A file system on a disk.
struct Found {
    /// Where it begins, in bytes.
    at: u64,
    /// How long it is.
    bytes: u64,
    /// It was unmounted.
    clean: bool,
}

fn find(disk: &Path, partition: &str) -> io::Result<Found> {
    let at = file_system_at(disk, partition)?;
    let mut block = [0; SUPER.1];
    File::open(disk)?.read_exact_at(&mut block, at + SUPER.0)?;
    let word = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    // `struct ext4_super_block`: s_magic, s_log_block_size, s_blocks_count_lo and _hi, s_feature_incompat.
    let block_bytes = 1024_u64.checked_shl(word(0x18)).filter(|bytes| *bytes <= 65_536);
    match (u16::from_le_bytes([block[0x38], block[0x39]]), block_bytes) {
        (0xef53, Some(block_bytes)) => {
            let blocks = u64::from(word(0x150)) << 32 | u64::from(word(4));
            Ok(Found { at, bytes: blocks.saturating_mul(block_bytes), clean: word(0x60) & NEEDS_RECOVERY == 0 })
        }
        _ => Err(wrong(format!("{}: partition {partition} holds no ext4", disk.display()))),
    }
}

/// Each piece of a range, and what is in it.
fn pieces(file: &File, at: u64, bytes: u64, mut each: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    while done < bytes {
        let count = usize::try_from(bytes - done).unwrap_or(PIECE).min(PIECE);
        file.read_exact_at(&mut buffer[..count], at + done)?;
        each(done, &buffer[..count])?;
        done += count as u64;
    }
    Ok(())
}

/// Copies the file system of a partition into a file of its own: e2fsck cannot replay the journal of one inside of an image.
fn carve(disk: &Path, partition: &str, to: &Path) -> io::Result<()> {
    let found = find(disk, partition)?;
    let out = File::create(to)?;
    out.set_len(found.bytes)?;
    pieces(&File::open(disk)?, found.at, found.bytes, |at, piece| {
        if piece.iter().any(|byte| *byte != 0) { out.write_all_at(piece, at) } else { Ok(()) }
    })
}

/// Brings the file system of a partition to what the file holds; what is equal is not written.
fn put_back(from: &Path, disk: &Path, partition: &str) -> io::Result<()> {
    let at = file_system_at(disk, partition)?;
    let out = File::options().read(true).write(true).open(disk)?;
    let file = File::open(from)?;
    let mut there = vec![0; PIECE];
    pieces(&file, 0, file.metadata()?.len(), |done, piece| {
        let there = &mut there[..piece.len()];
        out.read_exact_at(there, at + done)?;
        if there == piece { Ok(()) } else { out.write_all_at(piece, at + done) }
    })
}

/// Lets e2fsck repair a file system; gives what it said.
fn mend(file: &Path) -> io::Result<String> {
    let check = Command::new("/sbin/e2fsck").arg("-fy").arg(file).output()?;
    let said = [check.stdout.as_slice(), check.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // e2fsck(8): 0 no errors, 1 errors corrected.
    if matches!(check.status.code(), Some(0 | 1)) { Ok(said) } else { Err(wrong(format!("e2fsck cannot mend it: {said}"))) }
}

/// Gives debugfs these orders; gives what it printed. It says what went wrong and ends well all the same.
fn debugfs(file: &Path, orders: &[String]) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("orders");
    std::fs::write(&list, orders.join("\n") + "\n")?;
    let done = Command::new("/sbin/debugfs").arg("-w").arg("-f").arg(&list).arg(file).output()?;
    // The first line there is its version.
    let errors = String::from_utf8_lossy(&done.stderr);
    let errors: Vec<&str> = errors.lines().filter(|line| !line.starts_with("debugfs ")).collect();
    if !done.status.success() || !errors.is_empty() {
        return Err(wrong(format!("debugfs: {}", errors.join("; "))));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Repairs the file system of a partition as a node would, and copies its files into `to`; gives what e2fsck said.
///
/// # Errors
/// The layout is not there, the file system cannot be repaired, a program is missing.
pub fn extract(disk: &Path, partition: &str, to: &Path) -> io::Result<String> {
    let file = disk.with_extension("carved");
    carve(disk, partition, &file)?;
    let said = mend(&file)?;
    std::fs::create_dir_all(to)?;
    let place = to.to_str().filter(|text| !text.contains('"')).ok_or_else(|| wrong("the folder's name is not plain text"))?;
    debugfs(&file, &[format!("rdump / \"{place}\"")])?;
    std::fs::remove_file(&file)?;
    Ok(said)
}

/// A number that debugfs tells of the file system.
fn told(stats: &str, name: &str) -> io::Result<u64> {
    let line = stats.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix(':')?.trim().parse().ok());
    line.ok_or_else(|| wrong(format!("debugfs does not tell {name:?}")))
}

/// Changes one file system that lies on all these disks: that which was unmounted last, in a copy that then comes on all of them.
fn change(disks: &[PathBuf], partition: &str, work: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut newest = disks.first().ok_or_else(|| wrong("no disk"))?;
    for disk in disks {
        if find(disk, partition)?.clean {
            newest = disk;
            break;
        }
    }
    let file = newest.with_extension("carved");
    carve(newest, partition, &file)?;
    mend(&file)?;
    work(&file)?;
    for disk in disks {
        put_back(&file, disk, partition)?;
    }
    std::fs::remove_file(&file)
}

/// Fills the file system of a partition that lies on all these disks with one file, so that so many bytes are left to ordinary users; with
/// none, not even what is reserved for root is left.
///
/// # Errors
/// The layout is not there, the file system cannot be repaired, there is no such room, a program is missing.
pub fn fill(disks: &[PathBuf], partition: &str, leave_bytes: Option<u64>) -> io::Result<()> {
    change(disks, partition, |file| {
        let stats = debugfs(file, &["stats -h".to_owned()])?;
        let block = told(&stats, "Block size")?;
        let keep = match leave_bytes {
            Some(bytes) => told(&stats, "Reserved block count")? + bytes / block,
            // The blocks of the file's own map.
            None => 8,
        };
        let blocks = told(&stats, "Free blocks")?.checked_sub(keep).filter(|blocks| *blocks > 0);
        let blocks = blocks.ok_or_else(|| wrong("the file system is full already"))?;
        let (last, bytes) = (blocks - 1, blocks * block);
        let orders =
            [format!("write /dev/null {FILLER}"), format!("fallocate {FILLER} 0 {last}"), format!("sif {FILLER} size {bytes}")];
        debugfs(file, &orders).map(drop)
    })
}

/// Takes the file of [`fill`] away.
///
/// # Errors
/// It is not there, or as [`fill`].
pub fn empty(disks: &[PathBuf], partition: &str) -> io::Result<()> {
    change(disks, partition, |file| debugfs(file, &[format!("rm {FILLER}")]).map(drop))
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
        extract(&disk, MAIL, &folder.path().join("out")).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("out/store/pack")).unwrap(), "mail");
    }

    #[test]
    fn a_file_system_is_filled_and_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let other = folder.path().join("other");
        std::fs::copy(&disk, &other).unwrap();
        // The other one was not unmounted: it is not the newer one.
        let at = find(&other, MAIL).unwrap().at + SUPER.0 + 0x60;
        let file = File::options().read(true).write(true).open(&other).unwrap();
        let mut flags = [0; 4];
        file.read_exact_at(&mut flags, at).unwrap();
        flags[0] |= 4;
        file.write_all_at(&flags, at).unwrap();
        assert!(!find(&other, MAIL).unwrap().clean);
        let disks = [other.clone(), disk.clone()];
        let free = |disk: &Path| {
            let file = folder.path().join("look");
            carve(disk, MAIL, &file).unwrap();
            assert!(mend(&file).unwrap().contains("Pass 5"));
            told(&debugfs(&file, &["stats -h".to_owned()]).unwrap(), "Free blocks").unwrap()
        };
        let before = free(&disk);
        fill(&disks, MAIL, Some(1 << 20)).unwrap();
        assert!(free(&disk) < before / 2 && free(&disk) == free(&other));
        assert!(fill(&disks, MAIL, Some(1 << 30)).is_err());
        empty(&disks, MAIL).unwrap();
        assert_eq!([free(&disk), free(&other)], [before; 2]);
        assert!(empty(&disks, MAIL).is_err(), "it is not there");
        fill(&disks, MAIL, None).unwrap();
        assert!(free(&disk) <= 8, "nothing is left");
        assert_eq!(std::fs::read(&disk).unwrap(), std::fs::read(&other).unwrap());
    }

    #[test]
    fn a_disk_without_mail_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        File::create(&path).unwrap().set_len(8 << 20).unwrap();
        gpt::GptConfig::new().writable(true).create(&path).unwrap().write().unwrap();
        assert!(extract(&path, MAIL, &folder.path().join("out")).unwrap_err().to_string().contains("no partition"));
    }
}
