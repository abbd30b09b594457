//! What a disk holds.
//!
//! Contract: a disk is blank only if nothing at all was found on it: no table, no signature that util-linux knows (`wipefs`), and zeros
//! wherever it was looked at. Whatever cannot be read is not blank. Reads only.

use crate::md_super::{self, Super};
use crate::sysfs::Block;
use crate::table::{self, Table};
use crate::{Array, Bay, Disk, Error, Holds, Machine, Member, MemberState, Partition, Port, Twinpost, Whose, device, layout};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

const LIMIT: Duration = Duration::from_secs(60);
/// At most so many findings are told.
const FINDINGS_MAX: usize = 12;

/// What was read of a Twinpost disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    pub table: Table,
    /// Superblocks of its members.
    pub state: Option<Super>,
    pub mail: Option<Super>,
    pub generation: Option<u64>,
}

impl System {
    pub const fn of(&self, array: Array) -> Option<&Super> {
        match array {
            Array::State => self.state.as_ref(),
            Array::Mail => self.mail.as_ref(),
        }
    }

    pub fn partition(&self, name: &str) -> Option<&Partition> {
        layout::named(&self.table.partitions, name)
    }
}

/// A superblock that is one of our arrays.
fn ours(found: Super, array: Array) -> Option<Super> {
    let name = found.name.rsplit_once(':').map_or(found.name.as_str(), |(_, name)| name);
    (name == array.name() && found.level == 1).then_some(found)
}

/// The table and the members of a Twinpost disk; `None` when it is something else.
pub fn read_system(path: &Path, sector_bytes: u32) -> Result<Option<System>, Error> {
    let Some(table) = table::read(path, sector_bytes)? else { return Ok(None) };
    if layout::named(&table.partitions, layout::ESP).is_none() || layout::named(&table.partitions, layout::SLOT_A).is_none() {
        return Ok(None);
    }
    let file = device::open(path)?;
    let member = |array: Array| -> Result<Option<(u64, Super)>, Error> {
        let Some(partition) = layout::named(&table.partitions, array.partition()) else { return Ok(None) };
        let found = Super::read_in(&file, path, partition.start_bytes)?.and_then(|found| ours(found, array));
        Ok(found.map(|found| (partition.start_bytes, found)))
    };
    let (state, mail) = (member(Array::State)?, member(Array::Mail)?);
    let generation = match &mail {
        Some((start, found)) => md_super::drbd_generation(&file, path, *start, found)?,
        None => None,
    };
    Ok(Some(System { state: state.map(|(_, found)| found), mail: mail.map(|(_, found)| found), generation, table }))
}

/// `TYPE "LABEL"` of each finding of `wipefs --json`.
fn findings(said: &str) -> Option<Vec<String>> {
    if said.trim().is_empty() {
        return Some(Vec::new());
    }
    let said: Value = serde_json::from_str(said).ok()?;
    let rows = said["signatures"].as_array()?;
    let mut out: Vec<String> = Vec::new();
    for row in rows.iter().take(64) {
        let kind = row["type"].as_str().unwrap_or("unknown signature");
        let label = row["label"].as_str().filter(|label| !label.is_empty());
        let label = label.map_or(String::new(), |label| format!(" \"{}\"", label.escape_debug()));
        let finding = format!("{}{label}", kind.escape_debug());
        if !out.contains(&finding) {
            out.push(finding);
        }
    }
    Some(out)
}

/// The parser with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    if let Ok(said) = std::str::from_utf8(data) {
        assert!(findings(said).is_none_or(|found| found.len() <= 64));
    }
}

impl Machine {
    /// Signatures on a disk or a partition.
    pub(crate) async fn signatures(&self, path: &Path) -> Result<Vec<String>, Error> {
        let shown = path.display().to_string();
        let answer = self.programs.wipefs.run(&["--json", "--output", "TYPE,LABEL,OFFSET", &shown], LIMIT).await?;
        let nonsense = answer.nonsense(&answer.stdout);
        let said = answer.ok()?;
        findings(&said).ok_or_else(|| nonsense.into())
    }

    /// What the disk is to Twinpost; `None`: nothing.
    pub(crate) async fn system(&self, block: &Block) -> Result<Option<System>, Error> {
        let (path, sector_bytes) = (block.device.clone(), block.sector_bytes);
        device::blocking(&block.device, move || read_system(&path, sector_bytes)).await
    }

    async fn foreign(&self, block: &Block) -> Result<Holds, Error> {
        let mut what = Vec::new();
        for found in self.signatures(&block.device).await? {
            // A protective MBR beside a GPT is no finding of its own.
            if found != "PMBR" {
                what.push(found);
            }
        }
        for part in block.parts.iter().take(FINDINGS_MAX) {
            let found = self.signatures(&part.device).await?.join(", ");
            let name = if part.label.is_empty() { String::new() } else { format!(" \"{}\"", part.label.escape_debug()) };
            let found = if found.is_empty() { "no known file system".into() } else { found };
            what.push(format!("partition {}{name}: {found}, {}", part.index, layout::size(part.bytes)));
        }
        if what.is_empty() {
            let (path, bytes) = (block.device.clone(), block.bytes);
            let blank = device::blocking(&block.device, move || {
                device::looks_blank(&device::open(&path)?, 0, bytes).map_err(Error::io("read", path))
            });
            if blank.await? {
                return Ok(Holds::Blank);
            }
            what.push("data in a form that is not known here".into());
        }
        what.truncate(FINDINGS_MAX);
        Ok(Holds::Foreign { what })
    }

    /// Looks at a disk. `own`: the arrays of this node.
    pub(crate) async fn holds(&self, block: &Block, own: &[Uuid]) -> Holds {
        let unreadable = |error: Error| Holds::Unreadable { why: error.to_string() };
        match self.system(block).await {
            Ok(Some(system)) => {
                let arrays = [system.state.as_ref(), system.mail.as_ref()].map(|found| found.map(|found| found.array));
                let whose = if arrays.iter().flatten().any(|array| own.contains(array)) {
                    Whose::ThisNode
                } else if arrays.iter().flatten().next().is_some() {
                    Whose::Another
                } else if block.in_use() {
                    Whose::ThisNode
                } else {
                    Whose::NoData
                };
                let mut partitions = system.table.partitions;
                partitions.sort_by_key(|partition| partition.start_bytes);
                Holds::Twinpost(Twinpost {
                    whose,
                    disk_guid: system.table.guid,
                    partitions,
                    state_array: arrays[0],
                    mail_array: arrays[1],
                    mail_generation: system.generation,
                })
            }
            Ok(None) => self.foreign(block).await.unwrap_or_else(unreadable),
            Err(error) => unreadable(error),
        }
    }

    /// Every bay, the disk in it and what it holds. Reads a little of each disk; asks for SMART where `health` says so.
    pub async fn list(&self, health: bool) -> Vec<Bay> {
        let arrays = self.arrays();
        let own = self.own_arrays(&arrays).await;
        let mut out = Vec::new();
        for (port, block) in self.blocks().await {
            let disk = match block {
                Some(block) => Some(self.disk(port, &block, &arrays, &own, health).await),
                None => None,
            };
            out.push(Bay { name: port.bay.clone(), label: port.label.clone(), led: port.led.is_some(), disk });
        }
        out
    }

    pub(crate) async fn disk(
        &self,
        port: &Port,
        block: &Block,
        arrays: &[crate::ArrayStatus],
        own: &[Uuid],
        health: bool,
    ) -> Disk {
        let holds = self.holds(block, own).await;
        let all = arrays.iter().flat_map(|status| status.members.iter().cloned());
        let mut members: Vec<Member> = all.filter(|member| member.bay.as_deref() == Some(port.bay.as_str())).collect();
        if let Holds::Twinpost(found) = &holds {
            for (array, id) in [(Array::State, found.state_array), (Array::Mail, found.mail_array)] {
                let belongs = id.is_some_and(|id| own.contains(&id));
                if belongs && !members.iter().any(|member| member.array == array) {
                    let device = block.part(array.partition()).map(|part| part.name.clone()).unwrap_or_default();
                    members.push(Member { array, device, bay: Some(port.bay.clone()), state: MemberState::Outside });
                }
            }
        }
        let health = if health { self.health(&block.device).await } else { None };
        Disk {
            device: block.device.clone(),
            serial: block.serial.clone(),
            model: block.model.clone(),
            bytes: block.bytes,
            sector_bytes: block.sector_bytes,
            rotational: block.rotational,
            health,
            holds,
            in_use: block.in_use(),
            members,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{GIB, Layout, entries};
    use crate::md_super::tests::{encode, example};
    use crate::sysfs::tests::Fake;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    async fn holds(fake: &Fake, n: usize, own: &[Uuid]) -> Holds {
        let block = fake.machine.blocks().await[n].1.clone().unwrap();
        fake.machine.holds(&block, own).await
    }

    #[tokio::test]
    async fn blank_foreign_and_unknown() {
        let mut fake = Fake::new();
        let blank = fake.disk("vda", 64 << 20);
        assert_eq!(holds(&fake, 0, &[]).await, Holds::Blank);
        device::open_rw(&blank).unwrap().write_all_at(b"secret", (64 << 20) - 7).unwrap();
        assert!(matches!(holds(&fake, 0, &[]).await, Holds::Foreign { what } if what[0].contains("not known")));

        let ext4 = fake.disk("vdb", 64 << 20);
        let made = std::process::Command::new("mkfs.ext4").args(["-q", "-L", "Backup"]).arg(&ext4).output().unwrap();
        assert!(made.status.success());
        assert_eq!(holds(&fake, 1, &[]).await, Holds::Foreign { what: vec!["ext4 \"Backup\"".into()] });

        let table = Table {
            guid: Uuid::new_v4(),
            partitions: entries(&[layout::Place { name: "data".into(), start_bytes: 1 << 20, bytes: 1 << 20 }]),
        };
        let foreign = fake.disk("vdc", 64 << 20);
        table::write(&foreign, 512, &table).unwrap();
        fake.show("vdc", &table.partitions);
        std::fs::File::create(fake.machine.paths.dev.join("vdc1")).unwrap().set_len(1 << 20).unwrap();
        let found = holds(&fake, 2, &[]).await;
        assert!(
            matches!(&found, Holds::Foreign { what } if what[0] == "gpt" && what[1].contains("partition 1 \"data\"")),
            "{found:?}"
        );

        std::fs::remove_file(fake.machine.paths.dev.join("vdc1")).unwrap();
        assert!(matches!(holds(&fake, 2, &[]).await, Holds::Unreadable { .. }), "what cannot be read is not blank");
    }

    #[tokio::test]
    async fn a_twinpost_disk_and_whose() {
        let mut fake = Fake::new();
        let device = fake.disk("vda", 2 * GIB);
        let table = Table { guid: Uuid::new_v4(), partitions: entries(&Layout::default().whole(2 * GIB).unwrap()) };
        table::write(&device, 512, &table).unwrap();
        let whose = |found: Holds| match found {
            Holds::Twinpost(found) => found.whose,
            other => panic!("{other:?}"),
        };
        assert_eq!(whose(holds(&fake, 0, &[]).await), Whose::NoData);
        let file = device::open_rw(&device).unwrap();
        let start = table.partitions[3].start_bytes;
        file.write_all_at(&encode(&example(7, 8, 1, 0, 1), 0, &[0]), start + md_super::OFFSET).unwrap();
        assert_eq!(whose(holds(&fake, 0, &[]).await), Whose::Another);
        assert_eq!(whose(holds(&fake, 0, &[Uuid::from_u128(7)]).await), Whose::ThisNode);
        let bays = fake.machine.list(false).await;
        assert_eq!((bays.len(), bays[0].label.as_str(), bays[0].disk.as_ref().unwrap().members.len()), (1, "DISK 1", 0));
    }

    #[test]
    fn words_of_wipefs() {
        let said = r#"{"signatures":[{"type":"ext4","label":"x\u001b","offset":"0x438"},{"type":"ext4","label":"x\u001b","offset":"0x1"}]}"#;
        assert_eq!(findings(said).unwrap(), ["ext4 \"x\\u{1b}\""]);
        assert_eq!(findings("").unwrap(), Vec::<String>::new());
        assert_eq!(findings("oops"), None);
    }

    proptest! {
        #[test]
        fn any_words(said in "\\PC{0,200}") {
            fuzz(said.as_bytes());
        }
    }
}
