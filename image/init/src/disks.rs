//! Which partitions are legs of the slot, from what the kernel says of its block devices.
//!
//! Contract: pure; the caller reads `/sys`. A partition counts by its name in the partition table (PARTNAME), on any disk.

use std::collections::BTreeSet;
use std::path::Path;
use twinpost_mapper::Number;

/// More disks than that are not joined: the product has two bays, the rest is for machines in repair.
pub const MAX_LEGS: usize = 4;

/// A partition that may hold the slot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Partition {
    /// Connected by USB: an installer or something that a person plugged in. Sorts behind the disks of the machine.
    pub usb: bool,
    /// Kernel name: `vda2`.
    pub device: String,
    /// Kernel name of its disk: `vda`.
    pub disk: String,
    /// Number.
    pub number: Number,
    /// Size in sectors of 512 bytes.
    pub sectors: u64,
}

impl Partition {
    /// Reads the text of `/sys/class/block/<device>/uevent`, with the folder's real path and the text of `size`; `None` when it is not a
    /// partition called `name`.
    #[must_use]
    pub fn parse(name: &str, real: &Path, uevent: &str, size: &str) -> Option<Self> {
        let field = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        if field("DEVTYPE") != Some("partition") || field("PARTNAME") != Some(name) {
            return None;
        }
        let number = Number { major: field("MAJOR")?.parse().ok()?, minor: field("MINOR")?.parse().ok()? };
        let disk = real.parent()?.file_name()?.to_str()?.to_owned();
        // .../pci0000:00/0000:00:14.0/usb2/2-1/...: the bus is a folder of the path.
        let usb = real
            .iter()
            .filter_map(|part| part.to_str())
            .any(|part| part.strip_prefix("usb").is_some_and(|n| n.parse::<u8>().is_ok()));
        Some(Self { usb, device: field("DEVNAME")?.to_owned(), disk, number, sectors: size.trim().parse().ok()? })
    }
}

/// A leg that was tried.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Leg {
    /// Kernel name of the partition.
    pub device: String,
    /// Kernel name of its disk.
    pub disk: String,
    /// Whether it is part of the root.
    pub ok: bool,
    /// Why not, in plain words; empty when it is.
    pub why: String,
}

/// What to do next while disks appear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Look again for disks.
    Wait,
    /// Start with the good legs.
    Start,
    /// No good leg came in time.
    GiveUp,
}

/// Milliseconds of patience. The longest is what a large controller needs until its disks spin.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a first slot partition of any kind.
    pub first_ms: u64,
    /// After a good leg, for another one.
    pub second_ms: u64,
    /// After the last damaged leg, when there is no good one.
    pub after_bad_ms: u64,
}

/// Patience of the product.
pub const PATIENCE: Patience = Patience { first_ms: 45_000, second_ms: 2_000, after_bad_ms: 5_000 };

/// How far the search is. All times in milliseconds on one clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Search {
    /// Since the start of the search.
    pub since_start_ms: u64,
    /// Good legs.
    pub good: usize,
    /// Since the first good one.
    pub since_good_ms: u64,
    /// Damaged ones.
    pub bad: usize,
    /// Since the last damaged one.
    pub since_bad_ms: u64,
    /// Disks appear by themselves for a while after their driver is loaded (the list's `late` ones).
    pub slow: bool,
    /// Installer: one leg is enough.
    pub install: bool,
}

impl Search {
    /// Decides.
    #[must_use]
    pub fn next(&self, patience: Patience) -> Next {
        if self.good > 0 {
            let enough = self.install || self.good + self.bad >= 2 || !self.slow || self.since_good_ms >= patience.second_ms;
            return if enough { Next::Start } else { Next::Wait };
        }
        if self.bad > 0 {
            // Two damaged ones are the whole machine; one alone may have a healthy neighbour that is slower.
            let over = self.since_bad_ms >= patience.after_bad_ms || (self.bad >= 2 && !self.slow);
            return if over { Next::GiveUp } else { Next::Wait };
        }
        if self.since_start_ms >= patience.first_ms { Next::GiveUp } else { Next::Wait }
    }
}

/// Of the partitions that were not tried yet those to be tried now, in their order: the machine's own disks before USB; for an installer USB
/// first. A stick is left alone in a normal start as long as a disk of the machine is good.
#[must_use]
pub fn candidates(mut found: Vec<Partition>, tried: &BTreeSet<String>, good: usize, install: bool) -> Vec<Partition> {
    found.retain(|partition| !tried.contains(&partition.device));
    found.sort();
    if install {
        found.sort_by_key(|partition| !partition.usb);
        found.truncate(1);
    } else if good > 0 || found.iter().any(|partition| !partition.usb) {
        found.retain(|partition| !partition.usb);
    }
    found.truncate(MAX_LEGS.saturating_sub(good));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::PathBuf;

    const UEVENT: &str = "MAJOR=254\nMINOR=2\nDEVNAME=vda2\nDEVTYPE=partition\nDISKSEQ=3\nPARTN=2\nPARTNAME=twinpost-a\n";

    fn partition(device: &str, usb: bool) -> Partition {
        Partition { usb, device: device.into(), disk: device[..3].into(), number: Number { major: 8, minor: 1 }, sectors: 100 }
    }

    #[test]
    fn a_partition_is_known_by_its_name_in_the_table() {
        let path = PathBuf::from("/sys/devices/pci0000:00/0000:00:05.0/virtio1/block/vda/vda2");
        let found = Partition::parse("twinpost-a", &path, UEVENT, "327680\n").unwrap();
        assert_eq!((found.device.as_str(), found.disk.as_str(), found.sectors, found.usb), ("vda2", "vda", 327_680, false));
        assert_eq!(found.number, Number { major: 254, minor: 2 });
        assert_eq!(Partition::parse("twinpost-b", &path, UEVENT, "1"), None);
        assert_eq!(Partition::parse("twinpost", &path, UEVENT, "1"), None);
        assert_eq!(Partition::parse("twinpost-a", &path, &UEVENT.replace("partition", "disk"), "1"), None);
        let usb = PathBuf::from("/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sda/sda2");
        assert!(Partition::parse("twinpost-a", &usb, UEVENT, "1").unwrap().usb);
    }

    #[test]
    fn usb_is_the_last_resort_and_the_installers_first() {
        let found = || vec![partition("sdc2", true), partition("sdb2", false), partition("sda2", false)];
        let names = |list: Vec<Partition>| list.into_iter().map(|p| p.device).collect::<Vec<_>>();
        let none = BTreeSet::new();
        assert_eq!(names(candidates(found(), &none, 0, false)), ["sda2", "sdb2"]);
        let tried = BTreeSet::from(["sda2".to_owned(), "sdb2".to_owned()]);
        assert!(candidates(found(), &tried, 1, false).is_empty(), "a good disk is enough");
        assert_eq!(names(candidates(found(), &tried, 0, false)), ["sdc2"], "only damaged disks: a stick may save the day");
        assert_eq!(names(candidates(found(), &none, 0, true)), ["sdc2"]);
        assert_eq!(names(candidates(vec![partition("sda2", false)], &none, 0, true)), ["sda2"], "an installer on a disk");
    }

    #[test]
    fn a_second_leg_is_waited_for_only_where_one_may_still_come() {
        let search = Search { good: 1, ..Search::default() };
        assert_eq!(search.next(PATIENCE), Next::Start, "all disks are there");
        let slow = Search { slow: true, ..search };
        assert_eq!(slow.next(PATIENCE), Next::Wait);
        assert_eq!(Search { good: 2, ..slow }.next(PATIENCE), Next::Start);
        assert_eq!(Search { bad: 1, ..slow }.next(PATIENCE), Next::Start);
        assert_eq!(Search { since_good_ms: 2_000, ..slow }.next(PATIENCE), Next::Start);
        assert_eq!(Search { install: true, ..slow }.next(PATIENCE), Next::Start);
        assert_eq!(Search { bad: 1, slow: true, ..Search::default() }.next(PATIENCE), Next::Wait);
        assert_eq!(Search { bad: 2, ..Search::default() }.next(PATIENCE), Next::GiveUp);
        assert_eq!(Search { since_start_ms: 45_000, ..Search::default() }.next(PATIENCE), Next::GiveUp);
    }

    proptest! {
        #[test]
        fn no_search_waits_for_ever(good in 0usize..3, bad in 0usize..3, slow: bool, install: bool) {
            let search = Search { since_start_ms: 45_000, good, since_good_ms: 45_000, bad, since_bad_ms: 45_000, slow, install };
            let next = search.next(PATIENCE);
            prop_assert_ne!(next, Next::Wait);
            prop_assert_eq!(next == Next::Start, good > 0);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,100}", path in "[/a-z0-9]{0,40}") {
            let _ = Partition::parse("twinpost-a", Path::new(&path), &text, &text);
            let _ = Partition::parse("twinpost-a", Path::new(&path), &format!("{UEVENT}{text}"), &text);
        }
    }
}
