//! Carries out a plan, step by step.
//!
//! Contract: the plan is made again first, and if it is not the same nothing is done. Each step can be repeated and leaves the disks, if it
//! is cut, so that the next plan for the same order begins with what is missing. While it works udev leaves the disks alone (they are
//! locked as systemd's "Locking Block Device Access" asks), so that no partition comes and goes beside it.
//!
//! Failure classes: refused; changed; a step that failed, by the error of its device or program.

use crate::assemble::shown;
use crate::copy::{Range, copy};
use crate::install::{self, Medium};
use crate::layout::{MIB, Place};
use crate::plan::ENDS_BYTES;
use crate::sysfs::Block;
use crate::table::Table;
use crate::{Array, ArrayStatus, Error, Machine, MemberState, OnProgress, Order, Partition, Plan, Progress, Step, Text, device};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use uuid::Uuid;

const WIPE: Duration = Duration::from_secs(60);
/// Progress is told not more often.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// How often a rebuild is looked at when the kernel says nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A rebuild that neither runs nor waits for its turn after this time will not begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// From the beginning of a member to some way into the array's data.
const HEAD_BYTES: u64 = 130 * MIB;
/// Zeros are asked for in parts, so that progress can be told.
const ZERO_PART_BYTES: u64 = 1 << 30;

/// Tells how far a step is.
struct Teller<'a> {
    to: OnProgress<'a>,
    what: Text,
    step: usize,
    steps: usize,
    last: Mutex<Option<Instant>>,
}

impl Teller<'_> {
    fn tell(&self, done: u64, of: u64) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if done < of && last.is_some_and(|last| now.duration_since(last) < TELL_EVERY) {
            return;
        }
        *last = Some(now);
        (self.to)(Progress { what: self.what.clone(), step: self.step, steps: self.steps, done, of });
    }
}

fn words(step: &Step) -> Text {
    match step {
        Step::Wipe { bay } => Text::new(format!("bay {bay}: erasing what the disk held"), format!("插槽 {bay}：擦除原有数据")),
        Step::Table { bay, .. } => {
            Text::new(format!("bay {bay}: writing the partition table"), format!("插槽 {bay}：写入分区表"))
        }
        Step::Copy { to, partition, .. } => {
            Text::new(format!("bay {to}: copying {partition} and reading it back"), format!("插槽 {to}：复制并校验 {partition}"))
        }
        Step::Create { array, .. } => {
            let name = array.name();
            Text::new(format!("making array {name}"), format!("创建阵列 {name}"))
        }
        Step::Clean { array } => {
            let name = array.name();
            Text::new(format!("array {name}: forgetting members that are gone"), format!("阵列 {name}：移除已不存在的成员"))
        }
        Step::Forget { bay } => {
            Text::new(format!("bay {bay}: erasing old members of arrays"), format!("插槽 {bay}：清除旧的阵列成员信息"))
        }
        Step::Add { array, bay, .. } => {
            let name = array.name();
            Text::new(format!("array {name}: taking in the disk of bay {bay}"), format!("阵列 {name}：加入插槽 {bay} 的磁盘"))
        }
        Step::Root { bay } => {
            Text::new(format!("bay {bay}: joining the running system"), format!("插槽 {bay}：加入运行中的系统"))
        }
        Step::Rebuild { array } => {
            let name = array.name();
            Text::new(format!("array {name}: copying to the new member"), format!("阵列 {name}：正在向新成员复制数据"))
        }
    }
}

/// A partition table with these places: entries that stay keep their identity.
fn merge(old: Option<&Table>, places: &[Place]) -> (Table, Vec<Place>) {
    let mut fresh = Vec::new();
    let partitions: Vec<Partition> = (1..)
        .zip(places)
        .map(|(number, place)| {
            let same = |entry: &&Partition| {
                (&entry.name, entry.start_bytes, entry.bytes) == (&place.name, place.start_bytes, place.bytes)
            };
            let guid = old.and_then(|old| old.partitions.iter().find(same)).map(|entry| entry.guid);
            if guid.is_none() {
                fresh.push(place.clone());
            }
            let guid = guid.unwrap_or_else(Uuid::new_v4);
            Partition { number, name: place.name.clone(), guid, start_bytes: place.start_bytes, bytes: place.bytes }
        })
        .collect();
    let guid = old.filter(|_| fresh.len() < places.len()).map_or_else(Uuid::new_v4, |old| old.guid);
    (Table { guid, partitions }, fresh)
}

impl Machine {
    /// Does what a plan says.
    pub async fn carry_out(&self, plan: &Plan, progress: OnProgress<'_>) -> Result<(), Error> {
        self.carry_out_some(plan, usize::MAX, progress).await
    }

    /// The first steps of a plan only: what a power cut leaves, for tests.
    #[doc(hidden)]
    pub async fn carry_out_some(&self, plan: &Plan, most: usize, progress: OnProgress<'_>) -> Result<(), Error> {
        let now = self.plan(&plan.order).await;
        if !now.possible() {
            return Err(Error::Refused(Box::new(now)));
        }
        if !plan.same(&now) {
            return Err(Error::Changed(Box::new(now)));
        }
        let mut locks = Vec::new();
        for disk in &now.disks {
            locks.push(lock(disk.disk.device.clone()).await?);
        }
        let steps = now.steps.len();
        for (number, step) in (1..).zip(&now.steps).take(most) {
            let teller = Teller { to: progress, what: words(step), step: number, steps, last: Mutex::default() };
            tracing::info!(step = number, steps, what = %teller.what.en, "disks");
            teller.tell(0, 0);
            self.step(step, &now.order, &teller).await?;
        }
        drop(locks);
        Ok(())
    }

    async fn in_bay(&self, bay: &str) -> Result<Block, Error> {
        let port = self.ports.iter().find(|port| port.bay == bay);
        let device = port.and_then(|port| port.device.as_ref());
        self.find(device.ok_or_else(|| Error::Missing(format!("there is no disk in bay {bay}")))?).await
    }

    pub(crate) async fn part_in_bay(&self, bay: &str, name: &str) -> Result<PathBuf, Error> {
        let block = self.in_bay(bay).await?;
        let part = block.part(name).map(|part| part.device.clone());
        part.ok_or_else(|| Error::Missing(format!("the disk in bay {bay} has no partition {name}")))
    }

    fn running(&self, array: Array) -> Result<ArrayStatus, Error> {
        self.array_status(array).ok_or_else(|| Error::Missing(format!("array {} does not run", array.name())))
    }

    async fn step(&self, step: &Step, order: &Order, teller: &Teller<'_>) -> Result<(), Error> {
        match step {
            Step::Wipe { bay } => self.wipe(&self.in_bay(bay).await?).await,
            Step::Table { bay, places } => self.table(&self.in_bay(bay).await?, places).await,
            Step::Copy { from, to, partition } => {
                let target = self.in_bay(to).await?;
                let target = target.part(partition).ok_or_else(|| Error::Missing(format!("{partition} in bay {to}")))?;
                let (from_path, start, patch) = match (from, order) {
                    (None, Order::Install { source, .. }) => {
                        let medium = Medium::open(source)?;
                        let entry = crate::layout::named(&medium.table.partitions, partition);
                        let entry = entry.ok_or_else(|| Error::Missing(format!("{partition} on the medium")))?;
                        (medium.path.clone(), entry.start_bytes, true)
                    }
                    (Some(bay), _) => (self.part_in_bay(bay, partition).await?, 0, false),
                    (None, _) => return Err(Error::Missing(format!("a source of {partition}"))),
                };
                let (to_path, bytes) = (target.device.clone(), target.bytes);
                self.copy(from_path, start, to_path, bytes, patch, teller).await
            }
            Step::Create { array, bays } => self.create_array(*array, bays, teller).await,
            Step::Clean { array } => self.clean(&self.running(*array)?).await,
            Step::Forget { bay } => self.forget(&self.in_bay(bay).await?).await,
            Step::Add { array, bay, whole } => {
                let member = self.part_in_bay(bay, array.partition()).await?;
                let status = self.running(*array)?;
                if *whole {
                    self.clean(&status).await?;
                    self.add(&shown(&status.device), &shown(&member)).await
                } else {
                    self.take_back(&status, &member).await
                }
            }
            Step::Root { bay } => self.join_root(bay).await,
            Step::Rebuild { array } => self.rebuild(*array, teller).await,
        }
    }

    /// Signatures first, where they are; then both ends, where tables are.
    async fn wipe(&self, block: &Block) -> Result<(), Error> {
        for part in block.parts.iter().rev() {
            self.programs.wipefs.ok(&["--all", "--quiet", &shown(&part.device)], WIPE).await?;
        }
        self.programs.wipefs.ok(&["--all", "--quiet", &shown(&block.device)], WIPE).await?;
        let (path, bytes) = (block.device.clone(), block.bytes);
        device::blocking(&block.device, move || {
            let file = device::open_rw(&path)?;
            let len = MIB.min(bytes);
            device::zero(&file, &path, 0, len, false, &|_| ())?;
            device::zero(&file, &path, bytes - len, len, false, &|_| ())
        })
        .await?;
        self.reread(block, &Table { guid: Uuid::nil(), partitions: Vec::new() }).await?;
        Ok(())
    }

    /// Signatures of the data partitions only.
    async fn forget(&self, block: &Block) -> Result<(), Error> {
        for part in [crate::layout::STATE, crate::layout::MAIL].into_iter().filter_map(|name| block.part(name)) {
            self.programs.wipefs.ok(&["--all", "--quiet", &shown(&part.device)], WIPE).await?;
        }
        Ok(())
    }

    async fn table(&self, block: &Block, places: &[Place]) -> Result<(), Error> {
        let old = self.system(block).await?;
        let (table, fresh) = merge(old.as_ref().map(|found| &found.table), places);
        let path = block.device.clone();
        // Before they are partitions: whatever lay there can then never be found as a member or a file system.
        device::blocking(&block.device, move || {
            let file = device::open_rw(&path)?;
            for place in fresh {
                let len = ENDS_BYTES.min(place.bytes);
                device::zero(&file, &path, place.start_bytes, len, false, &|_| ())?;
                device::zero(&file, &path, place.start_bytes + place.bytes - len, len, false, &|_| ())?;
            }
            Ok(())
        })
        .await?;
        self.write_table(block, &table).await?;
        Ok(())
    }

    async fn copy(
        &self,
        from: PathBuf,
        start: u64,
        to: PathBuf,
        bytes: u64,
        patch: bool,
        teller: &Teller<'_>,
    ) -> Result<(), Error> {
        let (sender, mut receiver) = tokio::sync::watch::channel(0);
        let path = to.clone();
        let work = device::blocking(&to, move || {
            let (source, target) = (device::open(&from)?, device::open_rw(&path)?);
            let source = Range { file: &source, path: &from, start };
            let target = Range { file: &target, path: &path, start: 0 };
            let change = |part: &mut [u8]| {
                if patch {
                    install::installed(part);
                }
            };
            copy(&source, &target, bytes, &change, &|done| {
                sender.send_replace(done);
            })
        });
        let tell = async {
            while receiver.changed().await.is_ok() {
                teller.tell(*receiver.borrow_and_update(), 2 * bytes);
            }
        };
        tokio::join!(work, tell).0
    }

    /// An array of partitions that hold nothing. Where both disks make zeros by themselves its members are equal from the beginning; else md
    /// copies one to the other in the background. Without that, blocks that were never written could differ: a read would give now this
    /// and now that, and each later check would count them as errors.
    async fn create_array(&self, array: Array, bays: &[String], teller: &Teller<'_>) -> Result<(), Error> {
        let (mut members, mut zeros) = (Vec::new(), bays.len() == 2);
        for bay in bays {
            let member = self.part_in_bay(bay, array.partition()).await?;
            let found = self.signatures(&member).await?;
            if !found.is_empty() {
                let found = found.join(", ");
                return Err(Error::Missing(format!("room for array {}: {} holds {found}", array.name(), member.display())));
            }
            members.push(member);
        }
        for (member, n) in members.iter().zip(0..) {
            zeros = zeros && self.zero_all(member, n, teller).await?;
        }
        if !zeros {
            // Where a mirror's metadata or a file system would be looked for, the array must read as new, whatever lay there before. mdadm lets the
            // data of a member begin within its first 128 MiB.
            for member in &members {
                let path = member.clone();
                device::blocking(member, move || {
                    let file = device::open_rw(&path)?;
                    let bytes =
                        std::io::Seek::seek(&mut &file, std::io::SeekFrom::End(0)).map_err(Error::io("measure", &path))?;
                    device::zero(&file, &path, 0, HEAD_BYTES.min(bytes), false, &|_| ())?;
                    let tail = ENDS_BYTES.min(bytes);
                    device::zero(&file, &path, bytes - tail, tail, false, &|_| ())
                })
                .await?;
            }
        }
        let members: Vec<String> = members.iter().map(|member| shown(member)).collect();
        self.create(array, &members, zeros).await
    }

    /// Zeros all over, if the disk makes them itself.
    async fn zero_all(&self, member: &Path, n: u64, teller: &Teller<'_>) -> Result<bool, Error> {
        let path = member.to_owned();
        let bytes = {
            let path = path.clone();
            device::blocking(member, move || {
                std::io::Seek::seek(&mut device::open(&path)?, std::io::SeekFrom::End(0)).map_err(Error::io("measure", &path))
            })
            .await?
        };
        let mut at = 0;
        while at < bytes {
            let len = ZERO_PART_BYTES.min(bytes - at);
            let path = path.clone();
            let done = device::blocking(member, move || device::zero(&device::open_rw(&path)?, &path, at, len, true, &|_| ()));
            if !done.await? {
                return Ok(false);
            }
            at += len;
            teller.tell(n * bytes + at, 2 * bytes);
        }
        Ok(true)
    }

    /// Ends when the array is whole.
    async fn rebuild(&self, array: Array, teller: &Teller<'_>) -> Result<(), Error> {
        let watch = crate::watch::Changes::new(&self.paths)?;
        let mut idle_since: Option<Instant> = None;
        loop {
            let status = self.running(array)?;
            if status.degraded == 0 && status.action.as_ref().is_none_or(|action| action.what == "check") {
                return Ok(());
            }
            match &status.action {
                Some(action) => {
                    idle_since = None;
                    teller.tell(action.done_bytes, action.of_bytes.max(action.done_bytes + 1));
                }
                None => {
                    let since = *idle_since.get_or_insert_with(Instant::now);
                    let waits = status.members.iter().any(|m| matches!(m.state, MemberState::Spare | MemberState::Rebuilding));
                    if !waits || since.elapsed() > BEGINS_WITHIN {
                        return Err(Error::NotRebuilt { array: array.name() });
                    }
                }
            }
            // The kernel tells of the end; how far it is must be looked at.
            let _ = tokio::time::timeout(LOOK_EVERY, watch.next()).await;
        }
    }
}

/// A lock on a whole disk for as long as the file is open.
async fn lock(device: PathBuf) -> Result<File, Error> {
    device::blocking(&device.clone(), move || {
        let file = device::open(&device)?;
        file.lock().map_err(Error::io("lock", &device))?;
        Ok(file)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{GIB, Layout, entries, places};

    #[test]
    fn entries_that_stay_keep_their_identity() {
        let whole = Layout::default().whole(2 * GIB).unwrap();
        let old = Table { guid: Uuid::from_u128(7), partitions: entries(&whole[..4]) };
        let (table, fresh) = merge(Some(&old), &whole);
        assert_eq!(
            (table.guid, &table.partitions[..4], places(&table.partitions)),
            (old.guid, &old.partitions[..], whole.clone())
        );
        assert_eq!(fresh, whole[4..]);
        let (table, fresh) = merge(None, &whole);
        assert_ne!(table.guid, old.guid);
        assert_eq!(fresh, whole);
        let other = Table { partitions: entries(&[Place { name: "x".into(), start_bytes: MIB, bytes: MIB }]), ..old.clone() };
        assert_ne!(merge(Some(&other), &whole).0.guid, old.guid, "nothing of it stays");
    }
}
