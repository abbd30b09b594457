//! Tables of the device mapper: what a leg, the joined root, or the root over one leg looks like to the kernel.
//!
//! Sources: Documentation/admin-guide/device-mapper/verity.rst, linear.rst, dm-log.rst of Linux; the parameters of `mirror` are in the head of
//! drivers/md/dm-raid1.c ("mirror_ctr").

use crate::cmdline::Cmdline;

/// Sectors of 512 bytes in a block of the root.
pub const SECTORS_A_BLOCK: u64 = 8;
/// SHA-256 sums in a block of 4096 bytes.
const HASHES_A_BLOCK: u64 = 128;
/// Sectors of a region of the mirror; reads are split at its borders, nothing is ever resynchronised.
const REGION_SECTORS: u64 = 8192;

/// A device as `major:minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    /// Major number: the driver's.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl Number {
    /// Reads `major:minor`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// One line of a device mapper table; it covers the whole device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Size of the device in sectors.
    pub sectors: u64,
    /// Name of the target: at most 15 bytes.
    pub target: &'static str,
    /// Its parameters.
    pub parameters: String,
}

/// Blocks that the data and its hash tree take in a partition.
#[must_use]
pub fn slot_blocks(data_blocks: u64) -> u64 {
    let mut all = data_blocks;
    let mut level = data_blocks;
    // verity.rst, "Hash Tree": each level holds the hashes of the blocks below; the hash of the top block is the root hash (of a single
    // data block that block's own).
    while level > 1 {
        level = level.div_ceil(HASHES_A_BLOCK);
        all += level;
    }
    all
}

/// A slot partition that is verified block by block as it is read; a wrong block is a read error.
#[must_use]
pub fn verity(partition: Number, root: &Cmdline) -> Table {
    // verity.rst: <version> <dev> <hash_dev> <data_block_size> <hash_block_size> <num_data_blocks> <hash_start_block> <algorithm> <digest> <salt>
    let Cmdline { root_hash, salt, data_blocks, .. } = root;
    Table {
        sectors: data_blocks * SECTORS_A_BLOCK,
        target: "verity",
        parameters: format!("1 {partition} {partition} 4096 4096 {data_blocks} {data_blocks} sha256 {root_hash} {salt}"),
    }
}

/// The root over its legs: of one leg a plain pass through, so that another can be joined later by exchanging the table; of more a mirror
/// that reads from the first and goes on with the next when that fails. `None` without legs.
#[must_use]
pub fn root(legs: &[Number], data_blocks: u64) -> Option<Table> {
    let sectors = data_blocks * SECTORS_A_BLOCK;
    let [first, others @ ..] = legs else { return None };
    if others.is_empty() {
        return Some(Table { sectors, target: "linear", parameters: format!("{first} 0") });
    }
    let mut region = REGION_SECTORS;
    // mirror_ctr wants a power of two that is not larger than the device.
    while region > sectors {
        region /= 2;
    }
    // dm-log.rst: `core` keeps its marks in memory; `nosync`: all legs are equal already (each is verified).
    let devices = legs.iter().map(|leg| format!(" {leg} 0")).collect::<String>();
    let parameters = format!("core 2 {region} nosync {}{devices} 1 handle_errors", legs.len());
    Some(Table { sectors, target: "mirror", parameters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(minor: u32) -> Number {
        Number { major: 254, minor }
    }

    #[test]
    fn the_tables_are_those_of_the_kernels_documentation() {
        let text = format!("twinpost.slot=a twinpost.root=sha256:{}:aabb:1000", "1f".repeat(32));
        let table = verity(number(2), &Cmdline::parse(&text).unwrap());
        assert_eq!((table.sectors, table.target), (8000, "verity"));
        assert_eq!(table.parameters, format!("1 254:2 254:2 4096 4096 1000 1000 sha256 {} aabb", "1f".repeat(32)));
        assert_eq!(root(&[], 9), None);
        assert_eq!(root(&[number(0)], 10), Some(Table { sectors: 80, target: "linear", parameters: "254:0 0".into() }));
        let two = root(&[number(0), number(1)], 20_000).unwrap();
        assert_eq!(two.parameters, "core 2 8192 nosync 2 254:0 0 254:1 0 1 handle_errors");
        assert_eq!(root(&[number(0), number(1)], 10).unwrap().parameters, "core 2 64 nosync 2 254:0 0 254:1 0 1 handle_errors");
    }

    #[test]
    fn the_hash_tree_takes_what_veritysetup_gives_it() {
        // `veritysetup format --no-superblock` of files of these sizes: length of the hash file in blocks.
        for (data, hashes) in [(1, 0), (2, 1), (128, 1), (129, 3), (16_384, 129), (16_385, 132)] {
            assert_eq!(slot_blocks(data), data + hashes, "{data}");
        }
    }

    proptest! {
        #[test]
        fn a_mirror_has_a_region_the_kernel_takes(blocks in 1u64..4_000_000, legs in 2u32..5) {
            let table = root(&(0..legs).map(number).collect::<Vec<_>>(), blocks).unwrap();
            let region: u64 = table.parameters.split(' ').nth(2).unwrap().parse().unwrap();
            prop_assert!(region.is_power_of_two() && region >= 8 && region <= table.sectors);
        }
    }
}
