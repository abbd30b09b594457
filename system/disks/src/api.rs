//! The words of this crate: ports, disks, what they hold, arrays, plans and their refusals. No input or output here.

use crate::layout::Place;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use uuid::Uuid;

/// A sentence for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// English.
    pub en: String,
    /// Chinese.
    pub zh: String,
}

impl Text {
    /// Both languages.
    pub fn new(en: impl Into<String>, zh: impl Into<String>) -> Self {
        Self { en: en.into(), zh: zh.into() }
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.en)
    }
}

/// What the board says of one disk bay now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name in orders: `1`.
    pub bay: String,
    /// What is printed on the case.
    pub label: String,
    /// File in sysfs that switches the lamp (`0` or `1`), where there is one.
    pub led: Option<PathBuf>,
    /// The whole disk that is there now.
    pub device: Option<PathBuf>,
}

/// A bay and what is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bay {
    /// Name in orders.
    pub name: String,
    /// What is printed on the case.
    pub label: String,
    /// Whether its lamp can be switched.
    pub led: bool,
    /// `None`: empty.
    pub disk: Option<Disk>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// `/dev/sda`.
    pub device: PathBuf,
    /// Empty when the disk does not say.
    pub serial: String,
    /// Maker and model.
    pub model: String,
    /// Size.
    pub bytes: u64,
    /// Bytes that it reads and writes at once, as it says: 512 or 4096.
    pub sector_bytes: u32,
    /// It has turning platters.
    pub rotational: bool,
    /// What the disk says of itself, when it was asked and answered.
    pub health: Option<Health>,
    /// What is on it.
    pub holds: Holds,
    /// The running system reads or writes it: a slot, an array, a mount.
    pub in_use: bool,
    /// Its part in the arrays of this node.
    pub members: Vec<Member>,
}

/// SMART, as far as `smartctl --json` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The disk's own overall word; `None`: it gives none.
    pub passed: Option<bool>,
    /// Degrees Celsius.
    pub temperature_c: Option<i64>,
    /// Hours under power.
    pub power_on_hours: Option<u64>,
    /// Share of a flash disk's life that is used up.
    pub used_percent: Option<u64>,
    /// Sectors that were replaced.
    pub reallocated_sectors: Option<u64>,
    /// Sectors that could not be read and wait to be rewritten.
    pub pending_sectors: Option<u64>,
}

/// What a disk holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Holds {
    /// No table, no file system, zeros at both ends and wherever it was looked at in between.
    Blank,
    /// The partition table of a Twinpost node.
    Twinpost(Twinpost),
    /// Anything else: one line a finding, for people.
    Foreign {
        /// `ext4 "Backup" (whole disk)`, `partition 2: ntfs "Data", 200 GB` ...
        what: Vec<String>,
    },
    /// It could not be read.
    Unreadable {
        /// Why not.
        why: String,
    },
}

/// Whose Twinpost disk it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// Member of this node's arrays, or the disk that it was booted from.
    ThisNode,
    /// Holds arrays that this node does not know: of another node, or of this one before it was installed anew.
    Another,
    /// System partitions only, no data.
    NoData,
}

/// A Twinpost disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twinpost {
    /// Whose.
    pub whose: Whose,
    /// Of the partition table.
    pub disk_guid: Uuid,
    /// In the order of their place.
    pub partitions: Vec<Partition>,
    /// The array of which its `twinpost-state` is a member.
    pub state_array: Option<Uuid>,
    /// The array of which its `twinpost-mail` is a member.
    pub mail_array: Option<Uuid>,
    /// DRBD's generation of the copy of the mail volume, where there is one. Equal or related on the disks of one pair.
    pub mail_generation: Option<u64>,
}

/// An entry of a partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Number.
    pub number: u32,
    /// Name in the table.
    pub name: String,
    /// Of the entry.
    pub guid: Uuid,
    /// First byte.
    pub start_bytes: u64,
    /// Size.
    pub bytes: u64,
}

/// The two arrays of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Array {
    /// The state volume.
    State,
    /// Below DRBD.
    Mail,
}

impl Array {
    /// Both, in the order in which they are assembled.
    pub const ALL: [Self; 2] = [Self::State, Self::Mail];

    /// `state`, `mail`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Mail => "mail",
        }
    }

    /// Name of its members in the partition table.
    #[must_use]
    pub const fn partition(self) -> &'static str {
        match self {
            Self::State => crate::layout::STATE,
            Self::Mail => crate::layout::MAIL,
        }
    }

    /// `/dev/md/state`.
    #[must_use]
    pub const fn device(self) -> &'static str {
        match self {
            Self::State => "/dev/md/state",
            Self::Mail => "/dev/md/mail",
        }
    }
}

/// A disk's part in an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which array.
    pub array: Array,
    /// Name of the partition's device: `sda5`.
    pub device: String,
    /// The bay of its disk; `None` when it was pulled.
    pub bay: Option<String>,
    /// What it does there.
    pub state: MemberState,
}

/// md(4): what a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Whole and used.
    InSync,
    /// Being filled.
    Rebuilding,
    /// Waits, or was thrown out.
    Faulty,
    /// Known to the array but not yet used.
    Spare,
    /// It has the metadata of this node's array but is not in it.
    Outside,
}

/// What an array is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayStatus {
    /// Which.
    pub array: Array,
    /// Device of the kernel: `/dev/md127`.
    pub device: PathBuf,
    /// Size.
    pub bytes: u64,
    /// Disks that it should have.
    pub disks: u32,
    /// How many of them are missing.
    pub degraded: u32,
    /// The kernel's word: `clean`, `active`, `readonly`, `broken`, `inactive` ...
    pub state: String,
    /// Members.
    pub members: Vec<Member>,
    /// What runs on it: a rebuild, a first synchronisation, a check.
    pub action: Option<Action>,
    /// Sectors in which the last check found the members different.
    pub mismatch_sectors: u64,
}

impl ArrayStatus {
    /// It can be read and written.
    #[must_use]
    pub fn works(&self) -> bool {
        !matches!(self.state.as_str(), "inactive" | "clear" | "broken" | "suspended") && self.degraded < self.disks
    }
}

/// Work of md on an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The kernel's word: `recover`, `resync`, `check`, `repair`.
    pub what: String,
    /// Done.
    pub done_bytes: u64,
    /// Of so much; 0 while it waits for its turn.
    pub of_bytes: u64,
    /// Speed now.
    pub bytes_s: u64,
}

/// What [`Machine::assemble`](crate::Machine::assemble) brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrays {
    /// Those that run.
    pub running: Vec<ArrayStatus>,
    /// What a person should know: degraded, a foreign member, diverged members ...
    pub faults: Vec<Fault>,
}

impl Arrays {
    /// One of them.
    #[must_use]
    pub fn of(&self, array: Array) -> Option<&ArrayStatus> {
        self.running.iter().find(|status| status.array == array)
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// For programs: `array_degraded`, `member_foreign`, `member_diverged`, `array_failed`, `state_volatile` ...
    pub code: String,
    /// The bay that it is about.
    pub bay: Option<String>,
    /// For people.
    pub text: Text,
}

/// How the state volume is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mounted {
    /// On the array.
    Persistent,
    /// In memory: what is written is gone at the next boot.
    Volatile,
}

/// The state volume after [`Machine::open_state`](crate::Machine::open_state).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateVolume {
    /// On disk or in memory.
    pub mounted: Mounted,
    /// Why it is in memory.
    pub reason: Option<Text>,
    /// Made at this boot: nothing of an earlier life is in it.
    pub made: bool,
    /// What the check mended, in its own words; `None`: nothing.
    pub fsck: Option<String>,
    /// It was made larger at this boot, to so many bytes.
    pub grown_bytes: Option<u64>,
    /// What a person should know.
    pub faults: Vec<Fault>,
}

/// What was asked of an init or an install.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Bays; empty: all of the board.
    pub bays: Vec<String>,
    /// Serial numbers of disks that hold something and may be erased.
    pub erase: Vec<String>,
    /// One disk is enough: the arrays stay without their second member.
    pub single: bool,
}

/// An order that a plan is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Order {
    /// Makes both disks system disks and the mail array on them.
    Init(Options),
    /// Takes the disk of a bay into the arrays.
    Replace {
        /// Which bay.
        bay: String,
        /// Serial numbers of disks that hold something and may be erased.
        erase: Vec<String>,
        /// Ends only when the arrays are whole.
        wait: bool,
    },
    /// Copies the system of a medium to disks.
    Install {
        /// The medium: a whole disk, or a disk image.
        source: PathBuf,
        /// To where.
        options: Options,
    },
}

/// What would be done: shown before it is done, and what is done is exactly this or nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is the answer to.
    pub order: Order,
    /// The disks that it is about.
    pub disks: Vec<PlanDisk>,
    /// In this order. Empty with no refusals: everything is there already.
    pub steps: Vec<Step>,
    /// All reasons why it cannot be done. Not empty: nothing is done.
    pub refusals: Vec<Refusal>,
    /// What to know beforehand.
    pub notes: Vec<Text>,
}

impl Plan {
    /// It can be carried out.
    #[must_use]
    pub fn possible(&self) -> bool {
        self.refusals.is_empty()
    }

    /// A later plan does the same to the same disks. Their temperature, or how far a rebuild is, does not matter.
    #[must_use]
    pub fn same(&self, later: &Self) -> bool {
        let disk = |of: &PlanDisk| (of.bay.clone(), of.disk.serial.clone(), of.disk.bytes, of.disk.holds.clone(), of.erased);
        let disks = |plan: &Self| plan.disks.iter().map(disk).collect::<Vec<_>>();
        self.order == later.order && self.steps == later.steps && disks(self) == disks(later) && self.refusals == later.refusals
    }
}

/// One disk of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanDisk {
    /// Bay.
    pub bay: String,
    /// The disk as it is now.
    pub disk: Disk,
    /// What is on it is destroyed.
    pub erased: bool,
    /// Its partitions afterwards: name and bytes.
    pub partitions: Vec<(String, u64)>,
    /// What becomes of it.
    pub becomes: Text,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs: `no_disk`, `too_small`, `holds_data`, `in_use` ...
    pub code: String,
    /// The bay that it is about.
    pub bay: Option<String>,
    /// Why, and what to do.
    pub text: Text,
}

/// One step of a plan. Each can be repeated: a power cut within it leaves what the next plan begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "step")]
pub enum Step {
    /// Removes all traces of what a disk held, at both ends and in its partitions.
    Wipe {
        /// Bay.
        bay: String,
    },
    /// Writes the partition table. The ends of partitions that are new are made zero before, so that nothing old can be found in them.
    Table {
        /// Bay.
        bay: String,
        /// Its partitions.
        places: Vec<Place>,
    },
    /// Copies a system partition and reads it back.
    Copy {
        /// Bay of the source; `None`: the medium of an installation.
        from: Option<String>,
        /// Bay.
        to: String,
        /// Name of the partition.
        partition: String,
    },
    /// Makes an array.
    Create {
        /// Which.
        array: Array,
        /// Bays of its members.
        bays: Vec<String>,
    },
    /// Throws members out that are faulty or gone.
    Clean {
        /// Which array.
        array: Array,
    },
    /// Removes what its data partitions say of arrays; the disk's slots are in use, so it cannot be wiped as a whole.
    Forget {
        /// Bay.
        bay: String,
    },
    /// Takes a disk into an array, which fills it.
    Add {
        /// Which array.
        array: Array,
        /// Bay.
        bay: String,
        /// All of it is copied. Else only what changed while it was away, where the array knows that: never for a member that was used on
        /// its own, whose own changes the array does not know.
        whole: bool,
    },
    /// Lets the running system be read from a disk, too.
    Root {
        /// Bay.
        bay: String,
    },
    /// Waits until an array is whole.
    Rebuild {
        /// Which array.
        array: Array,
    },
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub what: Text,
    /// Number of the step, from 1.
    pub step: usize,
    /// Of so many.
    pub steps: usize,
    /// Bytes done in this step.
    pub done: u64,
    /// Of so many; 0: not known.
    pub of: u64,
}

/// Called on progress, at most some times a second.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// A change of the arrays that a person should hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum ArrayEvent {
    /// Members are missing.
    Degraded {
        /// The array now.
        status: ArrayStatus,
    },
    /// A rebuild, a first synchronisation or a check began.
    Began {
        /// The array now.
        status: ArrayStatus,
    },
    /// All members are there and equal again.
    Whole {
        /// The array now.
        status: ArrayStatus,
    },
    /// It can no longer be used.
    Failed {
        /// Which.
        array: Array,
        /// The kernel's word, empty when it is gone.
        state: String,
    },
}
