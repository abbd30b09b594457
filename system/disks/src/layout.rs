//! Where the partitions of a system disk lie.
//!
//! Contract: every system disk is divided in the same way; sizes are whole MiB and every partition begins on one. The same disk size
//! gives the same layout. A little of the end stays free, so that a disk of the same class but some megabytes smaller can replace it.

use crate::{Partition, Text};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A mebibyte.
pub const MIB: u64 = 1 << 20;
/// A gibibyte.
pub const GIB: u64 = 1 << 30;
/// EFI system partition.
pub const ESP: &str = "twinpost-esp";
/// Slot A.
pub const SLOT_A: &str = "twinpost-a";
/// Slot B.
pub const SLOT_B: &str = "twinpost-b";
/// Member of the array `state`.
pub const STATE: &str = "twinpost-state";
/// Member of the array `mail`.
pub const MAIL: &str = "twinpost-mail";
/// Those that the disk image holds and an installer copies.
pub const SYSTEM: [&str; 3] = [ESP, SLOT_A, SLOT_B];

/// Sizes. The defaults are the product's; tests of small disks change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// EFI system partition.
    pub esp_bytes: u64,
    /// Each slot.
    pub slot_bytes: u64,
    /// State partition of a disk below [`Layout::large_bytes`].
    pub state_small_bytes: u64,
    /// State partition of a larger disk.
    pub state_large_bytes: u64,
    /// From this size on a disk is large.
    pub large_bytes: u64,
    /// A mail partition is at least so large.
    pub mail_min_bytes: u64,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            esp_bytes: 96 * MIB,
            slot_bytes: 160 * MIB,
            state_small_bytes: 256 * MIB,
            state_large_bytes: 4 * GIB,
            large_bytes: 16 * GIB,
            mail_min_bytes: 128 * MIB,
        }
    }
}

/// A partition to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Name.
    pub name: String,
    /// First byte.
    pub start_bytes: u64,
    /// Size.
    pub bytes: u64,
}

impl Layout {
    /// State partition of a disk of this size.
    #[must_use]
    pub const fn state_bytes(&self, disk_bytes: u64) -> u64 {
        if disk_bytes < self.large_bytes { self.state_small_bytes } else { self.state_large_bytes }
    }

    /// First byte behind the slots.
    #[must_use]
    pub const fn system_end(&self) -> u64 {
        MIB + self.esp_bytes + 2 * self.slot_bytes
    }

    /// Up to where partitions may go: before the second table and a margin of a thousandth, at most 1 GiB.
    #[must_use]
    pub const fn end(disk_bytes: u64) -> u64 {
        let margin = if disk_bytes / 1000 < GIB { disk_bytes / 1000 } else { GIB };
        let margin = if margin < MIB { MIB } else { margin };
        disk_bytes.saturating_sub(margin) / MIB * MIB
    }

    /// The smallest disk that a node can use.
    #[must_use]
    pub const fn min_disk_bytes(&self) -> u64 {
        let used = self.system_end() + self.state_small_bytes + self.mail_min_bytes;
        // The margin of a disk of that size, rounded up.
        used + used / 999 + 2 * MIB
    }

    /// The system partitions: what the disk image holds.
    #[must_use]
    pub fn system(&self) -> Vec<Place> {
        let mut start_bytes = MIB;
        [(ESP, self.esp_bytes), (SLOT_A, self.slot_bytes), (SLOT_B, self.slot_bytes)]
            .into_iter()
            .map(|(name, bytes)| {
                let place = Place { name: name.to_owned(), start_bytes, bytes };
                start_bytes += bytes;
                place
            })
            .collect()
    }

    /// All five, with the mail partition as large as it can be. An error names both sizes.
    pub fn whole(&self, disk_bytes: u64) -> Result<Vec<Place>, TooSmall> {
        self.with(disk_bytes, self.state_bytes(disk_bytes), None)
    }

    /// All five, with a state partition of this size and a mail partition of at least the smallest, or of exactly `mail_bytes`.
    pub fn with(&self, disk_bytes: u64, state_bytes: u64, mail_bytes: Option<u64>) -> Result<Vec<Place>, TooSmall> {
        let mut places = self.system();
        let state_start = self.system_end();
        let mail_start = state_start + state_bytes;
        let wanted = mail_bytes.unwrap_or(self.mail_min_bytes);
        if mail_start + wanted > Self::end(disk_bytes) {
            // With the margin, a thousandth, rounded up.
            let needs_bytes = mail_start + wanted;
            return Err(TooSmall { has_bytes: disk_bytes, needs_bytes: needs_bytes + (needs_bytes / 999).clamp(MIB, GIB) + MIB });
        }
        let mail_bytes = mail_bytes.unwrap_or(Self::end(disk_bytes) - mail_start);
        places.push(Place { name: STATE.into(), start_bytes: state_start, bytes: state_bytes });
        places.push(Place { name: MAIL.into(), start_bytes: mail_start, bytes: mail_bytes });
        Ok(places)
    }
}

/// Whether a disk can have the partitions of another one: no margin is needed then, only room for the second table.
pub fn fits(disk_bytes: u64, places: &[Place]) -> Result<(), TooSmall> {
    let end = places.iter().map(|place| place.start_bytes + place.bytes).max().unwrap_or(0);
    if end + MIB > disk_bytes { Err(TooSmall { has_bytes: disk_bytes, needs_bytes: end + MIB }) } else { Ok(()) }
}

/// As places: what a table holds.
#[must_use]
pub fn places(partitions: &[Partition]) -> Vec<Place> {
    let place = |of: &Partition| Place { name: of.name.clone(), start_bytes: of.start_bytes, bytes: of.bytes };
    partitions.iter().map(place).collect()
}

/// A disk that cannot hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// Its size.
    pub has_bytes: u64,
    /// What it needs.
    pub needs_bytes: u64,
}

impl TooSmall {
    /// For people.
    #[must_use]
    pub fn text(self) -> Text {
        let (has, needs) = (size(self.has_bytes), size(self.needs_bytes));
        Text::new(
            format!("the disk has {has} ({} bytes) and at least {needs} ({} bytes) are needed", self.has_bytes, self.needs_bytes),
            format!("磁盘容量为 {has}（{} 字节），至少需要 {needs}（{} 字节）", self.has_bytes, self.needs_bytes),
        )
    }
}

/// A size for people, as disk makers count: `4.0 TB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes, 0);
    let mut tenths = 0;
    while value >= 1000 && unit + 1 < UNITS.len() {
        tenths = value % 1000 / 100;
        value /= 1000;
        unit += 1;
    }
    if unit == 0 { format!("{value} bytes") } else { format!("{value}.{tenths} {}", UNITS[unit]) }
}

/// Looks up a partition by its name.
#[must_use]
pub fn named<'a>(partitions: &'a [Partition], name: &str) -> Option<&'a Partition> {
    partitions.iter().find(|partition| partition.name == name)
}

/// As entries of a table, with fresh GUIDs.
#[must_use]
pub fn entries(places: &[Place]) -> Vec<Partition> {
    let numbered = (1..).zip(places);
    numbered
        .map(|(number, place)| Partition {
            number,
            name: place.name.clone(),
            guid: Uuid::new_v4(),
            start_bytes: place.start_bytes,
            bytes: place.bytes,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn product_sizes() {
        let layout = Layout::default();
        let small = layout.whole(2 * GIB).unwrap();
        let shown: Vec<_> = small.iter().map(|p| (p.name.as_str(), p.start_bytes / MIB, p.bytes / MIB)).collect();
        assert_eq!(
            shown,
            [(ESP, 1, 96), (SLOT_A, 97, 160), (SLOT_B, 257, 160), (STATE, 417, 256), (MAIL, 673, 2045 - 673)],
            "2 GiB with a margin of a thousandth"
        );
        let large = layout.whole(4_000_787_030_016).unwrap();
        assert_eq!(large[3].bytes, 4 * GIB);
        let end = large[4].start_bytes + large[4].bytes;
        assert!(4_000_787_030_016 - end >= GIB && 4_000_787_030_016 - end < GIB + 2 * MIB, "at most 1 GiB stays free");
    }

    #[test]
    fn a_slightly_smaller_disk_replaces() {
        let layout = Layout::default();
        let first = layout.whole(500_107_862_016).unwrap();
        assert_eq!(fits(500_107_862_016 - 100 * MIB, &first), Ok(()));
        let error = fits(250_059_350_016, &first).unwrap_err().text();
        assert!(error.en.contains("250.0 GB") && error.en.contains("499.6 GB"), "{error}");
    }

    proptest! {
        #[test]
        fn in_order_aligned_and_within(disk in 0u64..(1 << 45)) {
            let layout = Layout::default();
            match layout.whole(disk) {
                Ok(places) => {
                    let mut end = MIB;
                    for place in &places {
                        prop_assert_eq!(place.start_bytes, end, "without a gap");
                        prop_assert_eq!(place.bytes % MIB, 0);
                        end += place.bytes;
                    }
                    prop_assert!(end + MIB <= disk);
                    prop_assert_eq!(layout.with(disk, places[3].bytes, Some(places[4].bytes)), Ok(places));
                }
                Err(error) => {
                    prop_assert!(disk < layout.min_disk_bytes(), "{disk}");
                    prop_assert!(error.has_bytes < error.needs_bytes && layout.whole(error.needs_bytes).is_ok());
                }
            }
            if disk >= layout.min_disk_bytes() {
                prop_assert!(layout.whole(disk).is_ok());
            }
        }
    }
}
