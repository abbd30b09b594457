//! Partitions of a disk that is in no machine, looked at, written and spoiled from outside.
//!
//! Contract: reads the primary GPT (UEFI 2.10, 5.3) through `qemu-img`, whatever the disk's format; writes through `qemu-io`.
//!
//! Failure classes: no such partition, a program of qemu-utils refuses.

use crate::machine::Disk;
use crate::{Error, Result};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

const SECTOR: u64 = 512;
/// The protective MBR, the header and 128 entries.
const SECTORS: usize = 34;
/// What of a partition is written at once, or left out if it is blank.
const PIECE: u64 = 1 << 20;

fn format(disk: &Disk) -> &'static str {
    if disk.raw { "raw" } else { "qcow2" }
}

fn tool(program: &str, words: &[&str]) -> Result<()> {
    let what = format!("{program} {}", words.join(" "));
    let output = Command::new(program).args(words).output().map_err(Error::io(format!("{program} (package qemu-utils)")))?;
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    // qemu-io says what went wrong and ends well all the same.
    let failed = !output.status.success() || said.contains("failed") || said.contains("error");
    if failed { Err(Error::Tool { what, said }) } else { Ok(()) }
}

fn number(bytes: &[u8], at: usize, count: usize) -> u64 {
    bytes[at..at + count].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// First byte and length of a partition of this name.
///
/// # Errors
/// There is none.
pub(crate) fn find(disk: &Disk, name: &str) -> Result<(u64, u64)> {
    let folder = tempfile::tempdir().map_err(Error::io("a folder"))?;
    let copy = folder.path().join("table");
    let (from, to) = (format!("if={}", disk.file.display()), format!("of={}", copy.display()));
    tool("qemu-img", &["dd", "-U", "-f", format(disk), "-O", "raw", "bs=512", &format!("count={SECTORS}"), &from, &to])?;
    let bytes = std::fs::read(&copy).map_err(Error::io("the partition table"))?;
    named(&bytes, name).ok_or_else(|| Error::Setting { what: format!("{} has no partition {name}", disk.file.display()) })
}

fn named(table: &[u8], name: &str) -> Option<(u64, u64)> {
    let header = table.get(512..604).filter(|header| header.starts_with(b"EFI PART"))?;
    let (at, count, size) = (number(header, 72, 8), number(header, 80, 4), number(header, 84, 4));
    let wanted: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    (0..count.min(128)).find_map(|index| {
        let from = usize::try_from(at.checked_mul(SECTOR)?.checked_add(index * size)?).ok()?;
        let entry = table.get(from..from.checked_add(128)?)?;
        let (first, last) = (number(entry, 32, 8), number(entry, 40, 8));
        entry[56..].starts_with(&wanted).then_some((first * SECTOR, (last + 1).saturating_sub(first) * SECTOR))
    })
}

/// Writes one value over a range.
///
/// # Errors
/// `qemu-io` refuses.
pub(crate) fn fill(disk: &Disk, first: u64, bytes: u64, value: u8) -> Result<()> {
    let order = format!("write -P {value} {first} {bytes}");
    tool("qemu-io", &["-f", format(disk), "-c", &order, &disk.file.display().to_string()])
}

/// Writes all that a disk holds into a raw file.
///
/// # Errors
/// `qemu-img` refuses.
pub(crate) fn flatten(disk: &Disk, to: &Path) -> Result<()> {
    let (from, to) = (disk.file.display().to_string(), to.display().to_string());
    tool("qemu-img", &["convert", "-f", format(disk), "-O", "raw", &from, &to])
}

/// Writes what a partition of this name holds in a raw disk image over that of a disk; gives whether there was anything but zeros, which
/// are left out.
///
/// # Errors
/// One of them has no such partition, that of the disk has another length, or `qemu-io` refuses.
pub(crate) fn transplant(image: &Path, disk: &Disk, name: &str) -> Result<bool> {
    let failed = || Error::io(image.display().to_string());
    let file = File::open(image).map_err(failed())?;
    let mut table = vec![0; SECTORS * 512];
    file.read_exact_at(&mut table, 0).map_err(failed())?;
    let none = || Error::Setting { what: format!("{} has no partition {name}", image.display()) };
    let (from, bytes) = named(&table, name).ok_or_else(none)?;
    let (to, there) = find(disk, name)?;
    if bytes != there {
        let what = format!("partition {name} has {there} bytes on {} and {bytes} in the image", disk.file.display());
        return Err(Error::Setting { what });
    }
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for at in (0..bytes).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)) {
        let mut piece = vec![0; usize::try_from(PIECE.min(bytes - at)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut piece, from + at).map_err(failed())?;
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        match runs.last_mut() {
            Some((begin, run)) if *begin + run.len() as u64 == at => run.extend(piece),
            _ => runs.push((at, piece)),
        }
    }
    let folder = tempfile::tempdir().map_err(Error::io("a folder"))?;
    let part = folder.path().join("part");
    for (at, run) in &runs {
        std::fs::write(&part, run).map_err(Error::io(part.display().to_string()))?;
        let order = format!("write -q -s {} {} {}", part.display(), to + at, run.len());
        tool("qemu-io", &["-t", "unsafe", "-f", format(disk), "-c", &order, &disk.file.display().to_string()])?;
    }
    Ok(!runs.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{named, transplant};
    use crate::machine::Disk;
    use std::path::{Path, PathBuf};

    fn image(folder: &Path, name: &str, fill: &[(usize, u8)]) -> PathBuf {
        let path = folder.join(name);
        std::fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        let mut table = gpt::GptConfig::new().writable(true).create(&path).unwrap();
        for name in ["twinpost-a", "twinpost-b"] {
            table.add_partition(name, 4 << 20, gpt::partition_types::LINUX_FS, 0, Some(2048)).unwrap();
        }
        let starts: Vec<u64> = table.partitions().values().map(|partition| partition.first_lba * 512).collect();
        table.write().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in fill {
            bytes[usize::try_from(starts[0]).unwrap() + at] = *value;
        }
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_slot_is_written_over_that_of_another_disk() {
        let folder = tempfile::tempdir().unwrap();
        let new = image(folder.path(), "new", &[(0, 7), (3 << 20, 9)]);
        let old = image(folder.path(), "old", &[(1, 5), (2 << 20, 4)]);
        let disk = Disk { file: old, serial: "TP".to_owned(), raw: true };
        assert!(transplant(&new, &disk, "twinpost-a").unwrap());
        assert!(!transplant(&new, &disk, "twinpost-b").unwrap(), "a blank slot changes nothing");
        assert!(transplant(&new, &disk, "twinpost-c").unwrap_err().to_string().contains("twinpost-c"));
        let (from, _) = super::find(&disk, "twinpost-a").unwrap();
        let bytes = std::fs::read(&disk.file).unwrap();
        let at = |offset: usize| bytes[usize::try_from(from).unwrap() + offset];
        // The piece with the 5 is replaced whole; the blank piece with the 4 is left out.
        assert_eq!([at(0), at(1), at(2 << 20), at(3 << 20)], [7, 0, 4, 9]);
    }

    #[test]
    fn a_partition_is_found_by_its_name() {
        let mut table = vec![0u8; 34 * 512];
        table[512..520].copy_from_slice(b"EFI PART");
        table[512 + 72] = 2;
        table[512 + 80] = 128;
        table[512 + 84] = 128;
        for (index, name, first, last) in [(0, "twinpost-esp", 2048u64, 4095u64), (1, "twinpost-state", 4096, 8191)] {
            let at = 1024 + index * 128;
            table[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
            table[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
            for (place, unit) in name.encode_utf16().enumerate() {
                table[at + 56 + place * 2..at + 58 + place * 2].copy_from_slice(&unit.to_le_bytes());
            }
        }
        assert_eq!(named(&table, "twinpost-state"), Some((4096 * 512, 4096 * 512)));
        assert_eq!(named(&table, "twinpost"), None);
        assert_eq!(named(&table[..100], "twinpost-esp"), None);
        assert_eq!(named(&vec![0xff; 34 * 512], "twinpost-esp"), None);
    }
}
