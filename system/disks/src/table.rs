//! GPT partition tables: read, written, and told to the kernel.
//!
//! Contract: [`read`] takes any disk; a table that is not whole at either end is none. [`write()`] replaces the table with the given
//! entries, in order, with its second copy at the very end of the disk. [`Machine::write_table`] returns when the kernel shows exactly these
//! partitions and their nodes are there, also while other partitions of the disk are in use.
//!
//! Failure classes: a disk that does not read or write; a partition that is in use and would move. Source: UEFI 2.10 chapter 5.3.

use crate::sysfs::Block;
use crate::{Error, Machine, Partition, device, layout};
use gpt::disk::LogicalBlockSize;
use gpt::partition_types;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// `partx` only talks to the kernel.
const LIMIT: Duration = Duration::from_secs(30);
/// Nodes come at once; a machine under load may be slow.
const NODE_LIMIT: Duration = Duration::from_secs(20);

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Of the disk.
    pub guid: Uuid,
    /// In the order of their numbers.
    pub partitions: Vec<Partition>,
}

fn sector(bytes: u32) -> LogicalBlockSize {
    if bytes == 4096 { LogicalBlockSize::Lb4096 } else { LogicalBlockSize::Lb512 }
}

/// A header that the library can take: it expects entries of 128 bytes, and a hostile disk could ask for billions of them.
fn sane(header: &[u8]) -> bool {
    let word = |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    // UEFI 2.10 table 5-5: number of entries at 80, their size at 84.
    header.get(..8) == Some(b"EFI PART") && word(84) == 128 && (1..=1024).contains(&word(80))
}

/// The table of a disk or an image, `None` when it has none.
pub fn read(path: &Path, sector_bytes: u32) -> Result<Option<Table>, Error> {
    let file = device::open(path)?;
    let size = sector(sector_bytes);
    let step: u64 = size.into();
    let io = Error::io("read", path);
    let end = std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).map_err(io)?;
    if end < 68 * step {
        return Ok(None);
    }
    let header = |at: u64| device::read_at(&file, at, 512).map_err(Error::io("read", path));
    let (first, second) = (header(step)?, header(end / step * step - step)?);
    // Either both can be taken by the library or it must not look at the other.
    let usable = |bytes: &[u8]| sane(bytes) || !bytes.starts_with(b"EFI PART");
    if !(sane(&first) || sane(&second)) || !usable(&first) || !usable(&second) {
        return Ok(None);
    }
    let Ok(disk) = gpt::GptConfig::new().writable(false).logical_block_size(size).open_from_device(&file) else {
        return Ok(None);
    };
    let mut partitions = Vec::new();
    for (number, entry) in disk.partitions() {
        let (Ok(start_bytes), Ok(bytes)) = (entry.bytes_start(size), entry.bytes_len(size)) else { return Ok(None) };
        if start_bytes.checked_add(bytes).is_none_or(|last| last > end) {
            return Ok(None);
        }
        partitions.push(Partition { number: *number, name: entry.name.clone(), guid: entry.part_guid, start_bytes, bytes });
    }
    Ok(Some(Table { guid: *disk.guid(), partitions }))
}

fn kind(name: &str) -> partition_types::Type {
    match name {
        layout::ESP => partition_types::EFI,
        layout::STATE | layout::MAIL => partition_types::LINUX_RAID,
        _ => partition_types::LINUX_FS,
    }
}

/// Writes a table, durably. The entries must be numbered from 1 without a gap.
pub fn write(path: &Path, sector_bytes: u32, table: &Table) -> Result<(), Error> {
    let error = |why: String| Error::Table { what: "write", path: path.into(), why };
    let size = sector(sector_bytes);
    let step: u64 = size.into();
    let file = device::open_rw(path)?;
    let end = std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).map_err(Error::io("read", path))?;
    let mut entries = BTreeMap::new();
    for (number, partition) in (1..).zip(&table.partitions) {
        let aligned = partition.start_bytes % step == 0 && partition.bytes % step == 0 && partition.bytes > 0;
        if partition.number != number || !aligned {
            return Err(error(format!("entry {} is not in order", partition.name)));
        }
        entries.insert(
            number,
            gpt::partition::Partition {
                part_type_guid: kind(&partition.name),
                part_guid: partition.guid,
                first_lba: partition.start_bytes / step,
                last_lba: (partition.start_bytes + partition.bytes) / step - 1,
                flags: 0,
                name: partition.name.clone(),
            },
        );
    }
    let protective = gpt::mbr::ProtectiveMBR::with_lb_size(u32::try_from(end / step - 1).unwrap_or(u32::MAX));
    protective.overwrite_lba0(&mut &file).map_err(|e| error(e.to_string()))?;
    let config = gpt::GptConfig::new().writable(true).logical_block_size(size).change_partition_count(true);
    let mut disk = config.create_from_device(&file, Some(table.guid)).map_err(|e| error(e.to_string()))?;
    disk.update_partitions(entries).map_err(|e| error(e.to_string()))?;
    disk.write().map_err(|e| error(e.to_string()))?;
    file.sync_all().map_err(Error::io("write", path))?;
    match read(path, sector_bytes)? {
        Some(found) if found == *table => Ok(()),
        _ => Err(Error::NotAsWritten { path: path.into() }),
    }
}

impl Machine {
    /// Writes a table and waits until the kernel has it. Other partitions of the disk may be in use.
    pub(crate) async fn write_table(&self, block: &Block, table: &Table) -> Result<Block, Error> {
        let (path, sector_bytes, wanted) = (block.device.clone(), block.sector_bytes, table.clone());
        device::blocking(&block.device, move || write(&path, sector_bytes, &wanted)).await?;
        self.reread(block, table).await
    }

    /// Tells the kernel of a table that stands on the disk.
    pub(crate) async fn reread(&self, block: &Block, table: &Table) -> Result<Block, Error> {
        let shown = block.device.display().to_string();
        let now = self.find(&block.device).await?;
        let known = |block: &Block, partition: &Partition| {
            let wanted = (partition.number, partition.start_bytes, partition.bytes);
            block.parts.iter().any(|part| (part.index, part.start_bytes, part.bytes) == wanted)
        };
        // Read anew, the kernel learns the names too; a disk in use can only be told of what changed.
        let mut said = String::new();
        if now.in_use() || self.programs.blockdev.run(&["--rereadpt", &shown], LIMIT).await?.code != Some(0) {
            for partition in table.partitions.iter().filter(|partition| !known(&now, partition)) {
                let number = partition.number.to_string();
                said.push_str(&self.programs.partx.run(&["--update", "--nr", &number, &shown], LIMIT).await?.stderr);
            }
        }
        let now = self.find(&block.device).await?;
        if let Some(missing) = table.partitions.iter().find(|partition| !known(&now, partition)) {
            let why = format!("the kernel does not show partition {}: {said}", missing.name);
            return Err(Error::Table { what: "put in force", path: block.device.clone(), why });
        }
        for part in now.parts.clone() {
            device::blocking(&block.device, move || device::wait_for_node(&part.device, NODE_LIMIT)).await?;
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Layout, MIB, entries};
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    fn disk(bytes: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn written_and_read() {
        for sector_bytes in [512, 4096] {
            let (_folder, path) = disk(2 << 30);
            assert_eq!(read(&path, sector_bytes).unwrap(), None);
            let partitions = entries(&Layout::default().whole(2 << 30).unwrap());
            let mut table = Table { guid: Uuid::new_v4(), partitions };
            write(&path, sector_bytes, &table).unwrap();
            assert_eq!(read(&path, sector_bytes).unwrap().as_ref(), Some(&table));
            // The disk is larger than the image that was written to it: the second copy moves to its end.
            let file = device::open_rw(&path).unwrap();
            file.set_len(3 << 30).unwrap();
            table.partitions[4].bytes += 900 * MIB;
            write(&path, sector_bytes, &table).unwrap();
            assert_eq!(read(&path, sector_bytes).unwrap().as_ref(), Some(&table));
            file.write_all_at(&[0; 4096], u64::from(sector_bytes)).unwrap();
            assert_eq!(read(&path, sector_bytes).unwrap().as_ref(), Some(&table), "by the second copy");
        }
    }

    #[test]
    fn other_programs_read_it() {
        let (_folder, path) = disk(2 << 30);
        let partitions = entries(&Layout::default().whole(2 << 30).unwrap());
        write(&path, 512, &Table { guid: Uuid::new_v4(), partitions }).unwrap();
        let mut partx = std::process::Command::new("partx");
        let said = partx.args(["--raw", "--noheadings", "-o", "NR,START,SECTORS,NAME"]).arg(&path).output().unwrap().stdout;
        let said = String::from_utf8(said).unwrap();
        let second = said.lines().nth(1).unwrap();
        assert_eq!(second.split_whitespace().collect::<Vec<_>>(), ["2", "198656", "327680", "twinpost-a"], "{said}");
    }

    #[test]
    fn hostile_tables_are_none() {
        let (_folder, path) = disk(64 << 20);
        let table = Table {
            guid: Uuid::new_v4(),
            partitions: entries(&[layout::Place { name: "x".into(), start_bytes: MIB, bytes: MIB }]),
        };
        write(&path, 512, &table).unwrap();
        let file = device::open_rw(&path).unwrap();
        file.write_all_at(&64u32.to_le_bytes(), 512 + 84).unwrap();
        assert_eq!(read(&path, 512).unwrap(), None, "another size of entries");
        file.write_all_at(&u32::MAX.to_le_bytes(), 512 + 80).unwrap();
        assert_eq!(read(&path, 512).unwrap(), None, "four thousand million entries");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_table(data in proptest::collection::vec(any::<u8>(), 1024), flips in proptest::collection::vec((0usize..34 * 512, any::<u8>()), 0..8)) {
            let (_folder, path) = disk(1 << 20);
            let file = device::open_rw(&path).unwrap();
            file.write_all_at(&data, 512).unwrap();
            prop_assert_eq!(read(&path, 512).unwrap(), None);
            let place = layout::Place { name: "x".into(), start_bytes: MIB / 2, bytes: 4096 };
            write(&path, 512, &Table { guid: Uuid::nil(), partitions: entries(&[place]) }).unwrap();
            for (at, byte) in flips {
                file.write_all_at(&[byte], at as u64).unwrap();
                file.write_all_at(&[byte], (1 << 20) - 1 - at as u64).unwrap();
            }
            let _ = read(&path, 512).unwrap();
        }
    }
}
