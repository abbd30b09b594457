//! From which bays the running system itself is read, and a disk that takes part in it again.
//!
//! Contract: what the first program made at the start is changed on the running node by the same means ([`twinpost_mapper::root`]): a disk that was
//! replaced is read from as soon as it holds the slot. A machine whose root is none of ours (an installer, a developer's) has no legs, and
//! nothing is done there. Failure classes: the slot on the disk is not what runs; the kernel refuses ([`Error::Root`]).

use crate::{Error, Machine, device};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use twinpost_mapper::{Cmdline, Mapper, Number, root};

/// A disk that the system was or is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootLeg {
    /// Name of the partition in the kernel; empty when its disk is gone.
    pub device: String,
    /// The bay of its disk; `None` when it was pulled.
    pub bay: Option<String>,
    /// It is read from, or can be.
    pub good: bool,
}

impl Machine {
    fn mapper(&self) -> Option<(Mapper, Cmdline)> {
        let control = self.paths.dev.join("mapper/control");
        let cmdline = std::fs::read_to_string(self.paths.proc.join("cmdline")).ok()?;
        let cmdline = Cmdline::parse(&cmdline).ok().filter(|cmdline| !cmdline.install)?;
        Some((Mapper::open_at(&control).ok()?, cmdline))
    }

    /// The disks that the system is read from; empty: its root is none of ours.
    #[must_use]
    pub fn root_legs(&self) -> Vec<RootLeg> {
        let Some((mapper, _)) = self.mapper() else { return Vec::new() };
        let legs = root::look(&mapper, &self.paths.sys).unwrap_or_else(|error| {
            tracing::warn!(%error, "the root cannot be asked about");
            None
        });
        legs.into_iter().flatten().map(|leg| self.leg(leg.partition, leg.good)).collect()
    }

    fn leg(&self, partition: Number, good: bool) -> RootLeg {
        let folder = self.paths.sys.join("dev/block").join(partition.to_string()).canonicalize().unwrap_or_default();
        let name = |path: Option<&std::path::Path>| path.and_then(|path| path.file_name()?.to_str().map(str::to_owned));
        let disk = name(folder.parent());
        let here = |device: &PathBuf| device.file_name().and_then(|name| name.to_str()).map(str::to_owned) == disk;
        let bay = self.ports.iter().find(|port| disk.is_some() && port.device.as_ref().is_some_and(here));
        RootLeg { device: name(Some(&folder)).unwrap_or_default(), bay: bay.map(|port| port.bay.clone()), good }
    }

    /// Whether the system should be read from the disk of this bay and is not.
    pub(crate) fn root_lacks(&self, bay: &str) -> bool {
        let legs = self.root_legs();
        !legs.is_empty() && !legs.iter().any(|leg| leg.good && leg.bay.as_deref() == Some(bay))
    }

    /// Lets the system be read from the disk of this bay, too.
    pub(crate) async fn join_root(&self, bay: &str) -> Result<(), Error> {
        let Some((mapper, cmdline)) = self.mapper() else { return Ok(()) };
        let slot = self.part_in_bay(bay, &cmdline.partition()).await?;
        let (sys, bay) = (self.paths.sys.clone(), bay.to_owned());
        device::blocking(&slot.clone(), move || {
            let name = slot.file_name().unwrap_or_default();
            let folder = sys.join("class/block").join(name);
            let number = Number::parse(&crate::sysfs::text(folder.join("dev")));
            let number = number.ok_or_else(|| Error::Missing(format!("the number of {}", slot.display())))?;
            let sectors = crate::sysfs::number(folder.join("size")).unwrap_or(0);
            let joined = root::join(&mapper, &sys, &cmdline, number, sectors)
                .map_err(|source| Error::Root { bay: bay.clone(), source })?;
            if joined {
                tracing::info!(bay, slot = %slot.display(), "the running system is read from this disk, too");
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_leg_is_named_by_the_bay_of_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let part = folder.path().join("devices/pci0000:00/0000:00:06.0/virtio3/block/vdb/vdb2");
        std::fs::create_dir_all(&part).unwrap();
        std::fs::create_dir_all(folder.path().join("dev/block")).unwrap();
        symlink(&part, folder.path().join("dev/block/254:18")).unwrap();
        let port = |bay: &str, device: &str| Port { bay: bay.into(), device: Some(device.into()), ..Port::default() };
        let mut machine = Machine::new(vec![port("1", "/dev/vda"), port("2", "/dev/vdb")]);
        machine.paths.sys = folder.path().into();
        machine.paths.proc = folder.path().into();
        let leg = |minor| machine.leg(Number { major: 254, minor }, true);
        assert_eq!(leg(18), RootLeg { device: "vdb2".into(), bay: Some("2".into()), good: true });
        assert_eq!(leg(2), RootLeg { device: String::new(), bay: None, good: true }, "its disk was pulled");
        assert!(machine.root_legs().is_empty() && !machine.root_lacks("2"), "a developer's machine");
    }
}
