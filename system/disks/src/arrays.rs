//! What the arrays are doing, from sysfs.
//!
//! Contract: nothing here waits for a disk or runs a program. An array is known by the names of its members' partitions, so neither its
//! number nor a link in `/dev` matters. Source: the kernel's Documentation/admin-guide/md.rst.

use crate::md_super::Super;
use crate::sysfs::{number, text, uevent};
use crate::{Action, Array, ArrayStatus, Machine, Member, MemberState, device};
use std::path::Path;
use uuid::Uuid;

fn member_state(said: &str, action: &str) -> MemberState {
    let words: Vec<&str> = said.split(',').collect();
    if words.contains(&"faulty") {
        MemberState::Faulty
    } else if words.contains(&"in_sync") {
        MemberState::InSync
    } else if matches!(action, "recover" | "resync") {
        MemberState::Rebuilding
    } else {
        MemberState::Spare
    }
}

/// `sync_completed` is `none`, `delayed` or `DONE / ALL` in sectors.
fn completed(said: &str) -> (u64, u64) {
    let Some((done, all)) = said.split_once('/') else { return (0, 0) };
    let bytes = |word: &str| word.trim().parse::<u64>().unwrap_or(0).saturating_mul(512);
    (bytes(done), bytes(all))
}

impl Machine {
    /// The arrays of this node that the kernel has.
    #[must_use]
    pub fn arrays(&self) -> Vec<ArrayStatus> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(self.paths.sys.join("class/block")).into_iter().flatten().flatten().take(65_536) {
            let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with("md")).map(str::to_owned) else {
                continue;
            };
            out.extend(self.array(&name, &entry.path()));
        }
        out.sort_by_key(|status| status.array);
        out
    }

    fn array(&self, name: &str, folder: &Path) -> Option<ArrayStatus> {
        let md = folder.join("md");
        let action = text(md.join("sync_action"));
        let (mut array, mut members) = (self.linked(name), Vec::new());
        for entry in std::fs::read_dir(&md).ok()?.flatten().take(1024) {
            let Some(device) = entry.file_name().to_str().and_then(|name| name.strip_prefix("dev-")).map(str::to_owned) else {
                continue;
            };
            let label = uevent(&self.class_block(&device), "PARTNAME");
            array = Array::ALL.into_iter().find(|array| label.as_deref() == Some(array.partition())).or(array);
            let state = member_state(&text(entry.path().join("state")), &action);
            members.push((device, state));
        }
        let array = array?;
        members.sort_by(|a, b| a.0.cmp(&b.0));
        let members = members
            .into_iter()
            .map(|(device, state)| Member { array, bay: self.bay_of(&device), device, state })
            .collect::<Vec<_>>();
        let (done_bytes, of_bytes) = completed(&text(md.join("sync_completed")));
        let short = |file: &str| number(md.join(file)).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let state = text(md.join("array_state"));
        // A stopped array keeps its folder for a while.
        if state.is_empty() || (state == "clear" && members.is_empty()) {
            return None;
        }
        let busy = !matches!(action.as_str(), "" | "idle" | "frozen");
        let action = busy.then(|| Action {
            what: action,
            done_bytes,
            of_bytes,
            bytes_s: number(md.join("sync_speed")).unwrap_or(0).saturating_mul(1024),
        });
        Some(ArrayStatus {
            array,
            device: self.paths.dev.join(name),
            bytes: number(folder.join("size")).unwrap_or(0).saturating_mul(512),
            disks: short("raid_disks"),
            degraded: short("degraded"),
            state,
            members,
            action,
            mismatch_sectors: number(md.join("mismatch_cnt")).unwrap_or(0),
        })
    }

    /// An array all of whose members are gone is known only by its link.
    fn linked(&self, name: &str) -> Option<Array> {
        Array::ALL.into_iter().find(|array| {
            let link = std::fs::read_link(self.paths.dev.join("md").join(array.name()));
            link.is_ok_and(|to| to.file_name().is_some_and(|file| file == name))
        })
    }

    /// One of them.
    #[must_use]
    pub fn array_status(&self, array: Array) -> Option<ArrayStatus> {
        self.arrays().into_iter().find(|status| status.array == array)
    }

    /// Identifiers of the arrays that run here.
    pub(crate) async fn own_arrays(&self, arrays: &[ArrayStatus]) -> Vec<Uuid> {
        let mut own = Vec::new();
        for member in arrays.iter().flat_map(|status| &status.members) {
            if member.state == MemberState::Faulty {
                continue;
            }
            let path = self.paths.dev.join(&member.device);
            let at = path.clone();
            if let Ok(Some(found)) = device::blocking(&path, move || Super::read(&at)).await
                && !own.contains(&found.array)
            {
                own.push(found.array);
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{GIB, Layout, entries};
    use crate::sysfs::tests::Fake;
    use std::fs;

    #[test]
    fn from_sysfs() {
        let mut fake = Fake::new();
        let partitions = entries(&Layout::default().whole(2 * GIB).unwrap());
        for name in ["vda", "vdb"] {
            fake.disk(name, 2 * GIB);
            fake.show(name, &partitions);
        }
        let md = fake.machine.class_block("md127").join("md");
        for (member, state) in [("vda5", "in_sync"), ("vdb5", "spare")] {
            fs::create_dir_all(md.join(format!("dev-{member}"))).unwrap();
            fs::write(md.join(format!("dev-{member}/state")), state).unwrap();
        }
        for (file, text) in [
            ("array_state", "active\n"),
            ("raid_disks", "2\n"),
            ("degraded", "1\n"),
            ("sync_action", "recover\n"),
            ("sync_completed", "1024 / 4096\n"),
            ("sync_speed", "512\n"),
            ("mismatch_cnt", "0\n"),
        ] {
            fs::write(md.join(file), text).unwrap();
        }
        fs::write(fake.machine.class_block("md127").join("size"), "4096\n").unwrap();
        let arrays = fake.machine.arrays();
        assert_eq!(arrays.len(), 1);
        let status = &arrays[0];
        assert!(status.works());
        assert_eq!((status.array, status.bytes, status.disks, status.degraded), (Array::Mail, 4096 * 512, 2, 1));
        let members: Vec<_> = status.members.iter().map(|m| (m.device.as_str(), m.bay.as_deref(), m.state)).collect();
        assert_eq!(members, [("vda5", Some("1"), MemberState::InSync), ("vdb5", Some("2"), MemberState::Rebuilding)]);
        let action = status.action.as_ref().unwrap();
        assert_eq!((action.done_bytes, action.of_bytes, action.bytes_s), (1024 * 512, 4096 * 512, 512 * 1024));

        for member in ["vda5", "vdb5"] {
            fs::remove_dir_all(md.join(format!("dev-{member}"))).unwrap();
        }
        assert!(fake.machine.arrays().is_empty(), "nobody knows whose it is");
        fs::create_dir_all(fake.machine.paths.dev.join("md")).unwrap();
        std::os::unix::fs::symlink("../md127", fake.machine.paths.dev.join("md/mail")).unwrap();
        fs::write(md.join("array_state"), "broken\n").unwrap();
        assert!(!fake.machine.arrays()[0].works());
    }

    #[test]
    fn words_of_the_kernel() {
        assert_eq!(completed("none"), (0, 0));
        assert_eq!(completed("delayed"), (0, 0));
        assert_eq!(completed("8 / 16"), (4096, 8192));
        assert_eq!(member_state("faulty,in_sync", "idle"), MemberState::Faulty);
        assert_eq!(member_state("in_sync,write_mostly", "recover"), MemberState::InSync);
        assert_eq!(member_state("spare", "idle"), MemberState::Spare);
    }
}
