//! The superblock that md writes to each member, version 1.2.
//!
//! Contract: [`Super::parse`] takes any bytes; what it returns has the magic number, the right version and the right checksum. Source: the
//! kernel's `include/uapi/linux/raid/md_p.h`, `struct mdp_superblock_1`.

use crate::{Error, device};
use std::fs::File;
use std::path::Path;
use uuid::Uuid;

/// Where it lies in a member (version 1.2).
pub const OFFSET: u64 = 4096;
/// It and its table of roles never need more.
const BYTES: usize = 4096;
const MAGIC: u32 = 0xa92b_4efc;
const FIXED: usize = 256;
const ROLES_MAX: usize = (BYTES - FIXED) / 2;

/// What a member says of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Super {
    /// Of the array.
    pub array: Uuid,
    /// `twinpost:state`.
    pub name: String,
    /// 1 for RAID1.
    pub level: i32,
    /// Disks that the array should have.
    pub raid_disks: u32,
    /// Size of the part used for data, in bytes.
    pub component_bytes: u64,
    /// Where the data begins.
    pub data_offset_bytes: u64,
    /// Of this member.
    pub device: Uuid,
    /// Counts changes of the array; a member that was away has fewer.
    pub events: u64,
    /// What this member does: its place in the array, or `None` for a spare or a faulty one.
    pub role: Option<u16>,
    /// Places that are filled, as this member last knew it.
    pub filled: u32,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn uuid_at(bytes: &[u8], at: usize) -> Uuid {
    Uuid::from_slice(&bytes[at..at + 16]).unwrap_or_default()
}

/// The sum of all 32-bit words without the field of the sum itself.
fn checksum(bytes: &[u8], roles: usize) -> u32 {
    let len = FIXED + 2 * roles;
    let words = bytes[..len / 4 * 4].chunks_exact(4).enumerate();
    let mut sum: u64 = words.filter(|(n, _)| *n != 216 / 4).map(|(_, word)| u64::from(u32_at(word, 0))).sum();
    if len % 4 == 2 {
        sum += u64::from(u16_at(bytes, len - 2));
    }
    // Folding may carry once more; the kernel lets that carry go.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
    let folded = (sum as u32).wrapping_add((sum >> 32) as u32);
    folded
}

impl Super {
    /// From the bytes at [`OFFSET`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < FIXED || u32_at(bytes, 0) != MAGIC || u32_at(bytes, 4) != 1 {
            return None;
        }
        let roles = usize::try_from(u32_at(bytes, 220)).ok().filter(|n| *n <= ROLES_MAX)?;
        if bytes.len() < FIXED + 2 * roles || u32_at(bytes, 216) != checksum(bytes, roles) {
            return None;
        }
        let role_of = |number: usize| (number < roles).then(|| u16_at(bytes, FIXED + 2 * number)).filter(|role| *role < 0xfffd);
        let mut places: Vec<u16> = (0..roles).filter_map(role_of).collect();
        places.sort_unstable();
        places.dedup();
        let name = &bytes[32..64];
        let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
        Some(Self {
            array: uuid_at(bytes, 16),
            name: String::from_utf8_lossy(name).into_owned(),
            level: i32::from_le_bytes([bytes[72], bytes[73], bytes[74], bytes[75]]),
            raid_disks: u32_at(bytes, 92),
            component_bytes: u64_at(bytes, 80).saturating_mul(512),
            data_offset_bytes: u64_at(bytes, 128).saturating_mul(512),
            device: uuid_at(bytes, 168),
            events: u64_at(bytes, 200),
            role: usize::try_from(u32_at(bytes, 160)).ok().and_then(role_of),
            filled: u32::try_from(places.len()).unwrap_or(u32::MAX),
        })
    }

    /// Of a member; `None` when it has none.
    pub fn read(member: &Path) -> Result<Option<Self>, Error> {
        Self::read_in(&device::open(member)?, member, 0)
    }

    /// Of a member that begins at `start` of a disk.
    pub fn read_in(file: &File, path: &Path, start: u64) -> Result<Option<Self>, Error> {
        let bytes = device::read_at(file, start + OFFSET, BYTES).map_err(Error::io("read", path))?;
        Ok(Self::parse(&bytes))
    }

    /// It last ran without the other member.
    #[must_use]
    pub const fn alone(&self) -> bool {
        self.role.is_some() && self.filled < self.raid_disks
    }
}

/// The generation of DRBD's copy that lies on an array, from one of its members: internal metadata of version 8.4, in the last 4 KiB
/// of the device. Source: drbd-utils, `struct md_on_disk_08`.
pub fn drbd_generation(file: &File, path: &Path, start: u64, member: &Super) -> Result<Option<u64>, Error> {
    let Some(last) = (member.component_bytes / 4096).checked_sub(1) else { return Ok(None) };
    let at = start.saturating_add(member.data_offset_bytes).saturating_add(last.saturating_mul(4096));
    let bytes = device::read_at(file, at, 512).map_err(Error::io("read", path))?;
    Ok(parse_drbd(&bytes))
}

fn parse_drbd(bytes: &[u8]) -> Option<u64> {
    let magic = u32::from_be_bytes(bytes.get(60..64)?.try_into().ok()?);
    let generation = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    // Whole, or as a crash of the primary left it.
    matches!(magic, 0x8374_026b | 0x8374_026c).then_some(generation)
}

/// Both parsers with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    if let Some(found) = Super::parse(data) {
        assert!(found.name.chars().count() <= 32 && found.filled as usize <= ROLES_MAX);
    }
    let _ = parse_drbd(data);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A superblock as md would write it.
    pub(crate) fn encode(found: &Super, number: u32, roles: &[u16]) -> Vec<u8> {
        let mut out = vec![0; BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &1u32.to_le_bytes());
        put(16, found.array.as_bytes());
        put(32, found.name.as_bytes());
        put(72, &found.level.to_le_bytes());
        put(80, &(found.component_bytes / 512).to_le_bytes());
        put(92, &found.raid_disks.to_le_bytes());
        put(128, &(found.data_offset_bytes / 512).to_le_bytes());
        put(160, &number.to_le_bytes());
        put(168, found.device.as_bytes());
        put(200, &found.events.to_le_bytes());
        put(220, &u32::try_from(roles.len()).unwrap().to_le_bytes());
        for (n, role) in roles.iter().enumerate() {
            put(FIXED + 2 * n, &role.to_le_bytes());
        }
        let sum = checksum(&out, roles.len());
        out[216..220].copy_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn example(array: u128, device: u128, events: u64, role: u16, filled: u32) -> Super {
        Super {
            array: Uuid::from_u128(array),
            name: "twinpost:state".into(),
            level: 1,
            raid_disks: 2,
            component_bytes: 255 << 20,
            data_offset_bytes: 1 << 20,
            device: Uuid::from_u128(device),
            events,
            role: Some(role),
            filled,
        }
    }

    #[test]
    fn reads_what_was_written() {
        let both = example(1, 2, 77, 1, 2);
        assert_eq!(Super::parse(&encode(&both, 1, &[0, 1, 0xffff])), Some(both.clone()));
        assert!(!both.alone());
        let alone = Super { filled: 1, ..both };
        let mut bytes = encode(&alone, 1, &[0xfffe, 1]);
        assert_eq!(Super::parse(&bytes), Some(alone.clone()));
        assert!(alone.alone());
        let spare = Super::parse(&encode(&alone, 0, &[0xfffe, 1])).unwrap();
        assert_eq!(spare.role, None);
        bytes[200] ^= 1;
        assert_eq!(Super::parse(&bytes), None, "a wrong sum");
    }

    proptest! {
        #[test]
        fn any_bytes(data in proptest::collection::vec(any::<u8>(), 0..5000)) {
            fuzz(&data);
        }

        #[test]
        fn any_bytes_behind_the_magic(mut data in proptest::collection::vec(any::<u8>(), 256..4096), roles in 0u32..4000) {
            data[..4].copy_from_slice(&MAGIC.to_le_bytes());
            data[4..8].copy_from_slice(&1u32.to_le_bytes());
            data[220..224].copy_from_slice(&roles.to_le_bytes());
            if let Some(roles) = usize::try_from(roles).ok().filter(|n| FIXED + 2 * n <= data.len()) {
                let sum = checksum(&data, roles);
                data[216..220].copy_from_slice(&sum.to_le_bytes());
                prop_assert_eq!(Super::parse(&data).is_some(), roles <= ROLES_MAX);
            }
            fuzz(&data);
        }
    }
}
