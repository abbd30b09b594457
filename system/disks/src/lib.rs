//! Disks by bay: what they hold, partition tables, arrays, the state volume, and how a disk is taken in, replaced or installed.
//!
//! Contract: everything is addressed by bay, never by a device name that was remembered: the caller gives the ports as they are now
//! ([`Machine::new`]) before each order. What holds data is never overwritten unless its serial number was named: not by a first boot, not by
//! an init, not by a replacement, not by an installation. Each order that destroys something has a preview ([`Plan`]) and does exactly
//! what the preview says, or nothing ([`Error::Changed`]). Each step can be cut by a power failure: what it leaves is what the next plan
//! begins with. State is read from the kernel (sysfs) and from the metadata on the disks, never from text for people.
//!
//! Failure classes: refusals (all of them at once, in both languages); disks that changed since the preview; disks that do not read or write
//! (the step and the device are named); programs that fail. A state volume that cannot be mounted is no error: it is in memory then, and says why.

mod api;
mod arrays;
mod assemble;
mod carry;
mod copy;
mod device;
mod error;
mod health;
mod install;
pub mod layout;
mod md_super;
mod plan;
mod probe;
mod root;
mod see;
mod state;
mod sysfs;
pub mod table;
mod watch;
pub mod words;

pub use api::{
    Action, Array, ArrayEvent, ArrayStatus, Arrays, Bay, Disk, Fault, Health, Holds, Member, MemberState, Mounted, OnProgress,
    Options, Order, Partition, Plan, PlanDisk, Port, Progress, Refusal, StateVolume, Step, Text, Twinpost, Whose,
};
pub use error::Error;
pub use health::faults as health_faults;
pub use root::RootLeg;

use std::path::PathBuf;
use twinpost_board::{BayNow, Roles};
use twinpost_storage::Program;

/// Where the kernel shows things: replaced by tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// sysfs.
    pub sys: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// Where the state volume belongs.
    pub state: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into(), state: "/state".into() }
    }
}

/// The programs that are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `mdadm`.
    pub mdadm: Program,
    /// `blockdev`: lets the kernel read a partition table anew.
    pub blockdev: Program,
    /// `partx`: tells the kernel of a partition table of a disk that is in use.
    pub partx: Program,
    /// `wipefs`: finds and removes signatures.
    pub wipefs: Program,
    /// `smartctl`.
    pub smartctl: Program,
    /// `e2fsck`.
    pub e2fsck: Program,
    /// `mkfs.ext4`.
    pub mkfs: Program,
    /// `resize2fs`.
    pub resize2fs: Program,
    /// `mount`.
    pub mount: Program,
    /// `umount`.
    pub umount: Program,
}

impl Default for Programs {
    fn default() -> Self {
        let mut mdadm = Program::new("mdadm");
        // The links in /dev/md are made by mdadm itself, before it returns, and not by udev some time later.
        mdadm.env.push(("MDADM_NO_UDEV".into(), "1".into()));
        Self {
            mdadm,
            blockdev: Program::new("blockdev"),
            partx: Program::new("partx"),
            wipefs: Program::new("wipefs"),
            smartctl: Program::new("smartctl"),
            e2fsck: Program::new("e2fsck"),
            mkfs: Program::new("mkfs.ext4"),
            resize2fs: Program::new("resize2fs"),
            mount: Program::new("mount"),
            umount: Program::new("umount"),
        }
    }
}

/// The disks of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The bays as they are now.
    pub ports: Vec<Port>,
    /// Sizes of partitions.
    pub layout: layout::Layout,
    /// Where the kernel shows things.
    pub paths: Paths,
    /// What is run.
    pub programs: Programs,
}

impl Machine {
    /// The bays that the board resolved just now.
    #[must_use]
    pub fn of(roles: &Roles) -> Self {
        let port = |bay: &BayNow| Port {
            bay: bay.number.to_string(),
            label: bay.label.clone(),
            led: bay.led.clone(),
            device: bay.device.clone(),
        };
        Self::new(roles.bays.iter().map(port).collect())
    }

    /// Switches the lamp of a bay.
    pub fn locate(&self, bay: &str, on: bool) -> Result<(), Error> {
        let port = self.ports.iter().find(|port| port.bay == bay);
        let port = port.ok_or_else(|| Error::Missing(format!("there is no bay {bay}")))?;
        let led = port.led.as_ref().ok_or_else(|| Error::Missing(format!("the board says of no lamp at bay {bay}")))?;
        device::write_sysfs(led, if on { "1" } else { "0" })
    }

    /// With the product's sizes, paths and programs.
    #[must_use]
    pub fn new(ports: Vec<Port>) -> Self {
        Self { ports, layout: layout::Layout::default(), paths: Paths::default(), programs: Programs::default() }
    }
}

/// Every parser of this crate with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    install::installed(&mut data.to_vec());
    md_super::fuzz(data);
    health::fuzz(data);
    probe::fuzz(data);
    state::fuzz(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_the_board() {
        let bay = |number, device: Option<&str>| BayNow {
            number,
            label: format!("HDD{number}"),
            connector: "AHCI 00:1f.2 port 2".into(),
            device: device.map(PathBuf::from),
            led: None,
            boot: true,
        };
        let roles = Roles { bays: vec![bay(1, Some("/dev/sda")), bay(2, None)], ..Roles::default() };
        let mut machine = Machine::of(&roles);
        assert_eq!(machine.ports[0], Port { bay: "1".into(), label: "HDD1".into(), led: None, device: Some("/dev/sda".into()) });
        assert_eq!(machine.ports[1].device, None);
        assert!(machine.locate("2", true).unwrap_err().to_string().contains("no lamp"));
        let folder = tempfile::tempdir().unwrap();
        let led = folder.path().join("locate");
        std::fs::write(&led, "0").unwrap();
        machine.ports[1].led = Some(led.clone());
        machine.locate("2", true).unwrap();
        assert_eq!(std::fs::read_to_string(led).unwrap(), "1");
        assert!(machine.locate("3", true).is_err());
    }
}
