//! The two places of the system on a disk.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A slot of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Partition `twinpost-a`.
    A,
    /// Partition `twinpost-b`.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// `a` or `b`, as the kernel command line and the names of the boot entries have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// The name of its partition on every system disk.
    #[must_use]
    pub const fn partition(self) -> &'static str {
        match self {
            Self::A => "twinpost-a",
            Self::B => "twinpost-b",
        }
    }

    /// The one that an update is written into.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// From `a` or `b`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.name() == name)
    }

    /// The slot that runs, by the word `twinpost.slot=` of a kernel command line. The last one counts, as the kernel has it.
    #[must_use]
    pub fn running(cmdline: &str) -> Option<Self> {
        cmdline.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix("twinpost.slot=")).and_then(Self::parse)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_slot_stands_on_the_command_line() {
        assert_eq!(Slot::running("quiet twinpost.slot=b twinpost.root=sha256:00:11:22\n"), Some(Slot::B));
        assert_eq!(Slot::running("twinpost.slot=a twinpost.slot=b"), Some(Slot::B));
        for none in ["", "twinpost.slot=", "twinpost.slot=c", "xtwinpost.slot=a"] {
            assert_eq!(Slot::running(none), None, "{none}");
        }
        for slot in Slot::ALL {
            assert_eq!((Slot::parse(slot.name()), slot.other().other()), (Some(slot), slot));
        }
    }
}
