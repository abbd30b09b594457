//! The state volume: made at the first boot, opened at each one.
//!
//! Contract: [`Machine::open_state`] always ends with something mounted where the state volume belongs, and says what: the array's file system,
//! checked, or memory with the reason. A file system is made only on space that is blank beyond doubt, which this module made blank
//! itself when it made the partition; a damaged one is mended, never made anew. It grows by itself when the partition or the space
//! behind it is larger.
//!
//! Failure classes: no disk, a damaged array, a file system beyond repair, a failing program: all lead to memory.

use crate::assemble::{LIMIT, shown};
use crate::layout::{self, MIB, Place};
use crate::probe::System;
use crate::sysfs::Block;
use crate::table::Table;
use crate::{Array, ArrayStatus, Error, Fault, Machine, Mounted, StateVolume, Text, device};
use std::path::Path;
use std::time::Duration;

/// A damaged file system of some GiB.
const CHECK: Duration = Duration::from_secs(600);
/// Where copies of the superblock lie: blocks of 4 KiB, 32768 a group (mke2fs(8)).
const COPIES: [u64; 4] = [32_768, 98_304, 163_840, 229_376];
const BLOCK_BYTES: u64 = 4096;
const OPTIONS: &str = "noatime,nodev,nosuid,noexec,errors=remount-ro";
/// Smaller differences between a partition and what stands on it are left.
const SLACK_BYTES: u64 = 8 * MIB;

/// Why the volume cannot be used, in words for people.
struct Unusable(Text);

impl From<Error> for Unusable {
    fn from(error: Error) -> Self {
        Self(Text::new(error.to_string(), error.to_string()))
    }
}

impl From<twinpost_storage::Error> for Unusable {
    fn from(error: twinpost_storage::Error) -> Self {
        Error::from(error).into()
    }
}

fn unusable(en: impl Into<String>, zh: impl Into<String>) -> Unusable {
    Unusable(Text::new(en, zh))
}

/// ext4's superblock at the beginning of a device, as far as it matters here.
/// Source: the kernel's Documentation/filesystems/ext4/super.rst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ext4 {
    bytes: u64,
    /// It was found without errors so far. What its journal holds is taken in when it is mounted.
    sound: bool,
}

impl Ext4 {
    /// From the 1024 bytes at 1024.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes.get(56..58)? != [0x53, 0xef] {
            return None;
        }
        let (low, high, scale) = (word(4)?, word(336)?, word(24)?);
        // INCOMPAT_64BIT says whether the upper half counts.
        let high = if word(96)? & 0x80 == 0 { 0 } else { high };
        let blocks = u64::from(low) | u64::from(high) << 32;
        // s_state: 1 clean, 2 errors were found.
        let sound = *bytes.get(58)? & 3 == 1;
        (scale <= 6).then(|| Self { bytes: blocks.saturating_mul(1024 << scale), sound })
    }
}

/// The parser with arbitrary bytes.
pub fn fuzz(data: &[u8]) {
    let _ = Ext4::parse(data);
}

/// What stands on the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// A file system.
    Ext4(Ext4),
    /// Nothing at all.
    Blank,
    /// Something whose beginning is not readable as a file system.
    Broken,
}

fn look(path: &Path, bytes: u64) -> Result<Found, Error> {
    let file = device::open(path)?;
    let read = |at: u64, len: usize| device::read_at(&file, at, len).map_err(Error::io("read", path));
    if let Some(found) = Ext4::parse(&read(1024, 1024)?) {
        return Ok(Found::Ext4(found));
    }
    for copy in COPIES {
        if Ext4::parse(&read(copy * BLOCK_BYTES, 1024)?).is_some() {
            return Ok(Found::Broken);
        }
    }
    let blank = device::looks_blank(&file, 0, bytes).map_err(Error::io("read", path))?;
    Ok(if blank { Found::Blank } else { Found::Broken })
}

impl Machine {
    /// Mounts the state volume, made or grown if need be.
    pub async fn open_state(&self) -> StateVolume {
        let mut volume = StateVolume {
            mounted: Mounted::Persistent,
            reason: None,
            made: false,
            fsck: None,
            grown_bytes: None,
            faults: Vec::new(),
        };
        match self.mounted_state() {
            Some(kind) if kind == "tmpfs" => volume.mounted = Mounted::Volatile,
            Some(_) => {}
            None => {
                if let Err(Unusable(why)) = self.open_persistent(&mut volume).await {
                    self.open_volatile(&mut volume, why).await;
                }
            }
        }
        volume
    }

    /// Type of the file system that is mounted where the state volume belongs.
    fn mounted_state(&self) -> Option<String> {
        let table = std::fs::read_to_string(self.paths.proc.join("self/mountinfo")).ok()?;
        let wanted = self.paths.state.to_str()?;
        // proc(5): the fifth field is the mount point; the type follows a lone hyphen. What was mounted last is on top.
        let line = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(wanted))?;
        line.split_once(" - ")?.1.split(' ').next().map(str::to_owned)
    }

    async fn open_persistent(&self, volume: &mut StateVolume) -> Result<(), Unusable> {
        let mut running = self.assemble_array(Array::State, &[], &mut volume.faults).await;
        if running.is_none() {
            running = Some(self.first_boot().await?);
        }
        let Some(mut status) = running else { return Err(unusable("there is no array", "没有阵列")) };
        match self.grow_array(&status).await {
            Ok(true) => status = self.array_status(Array::State).unwrap_or(status),
            Ok(false) => {}
            Err(error) => volume.faults.push(not_grown(&error)),
        }
        let (path, bytes) = (status.device.clone(), status.bytes);
        let array = shown(&status.device);
        let found = device::blocking(&status.device, move || look(&path, bytes)).await?;
        match found {
            Found::Blank => {
                let args = ["-q", "-F", "-b", "4096", "-m", "1", "-L", "twinpost-state", &array];
                self.programs.mkfs.ok(&args, CHECK).await?;
                volume.made = true;
            }
            Found::Ext4(Ext4 { sound: true, .. }) => {}
            Found::Ext4(_) | Found::Broken => volume.fsck = self.check(&array, found == Found::Broken).await?,
        }
        std::fs::create_dir_all(&self.paths.state).map_err(Error::io("create", &self.paths.state))?;
        let state = shown(&self.paths.state);
        let mount = ["-t", "ext4", "-o", OPTIONS, &array, &state];
        let mounted = self.programs.mount.ok(&mount, LIMIT).await;
        match (mounted, found) {
            (Ok(_), _) => {}
            // It is not as sound as it says.
            (Err(_), Found::Ext4(Ext4 { sound: true, .. })) => {
                volume.fsck = self.check(&array, false).await?;
                self.programs.mount.ok(&mount, LIMIT).await?;
            }
            (Err(error), _) => return Err(error.into()),
        }
        if let Found::Ext4(Ext4 { bytes: has, .. }) = found
            && has + SLACK_BYTES < bytes
        {
            // ext4 grows while it is mounted.
            match self.programs.resize2fs.ok(&[&array], CHECK).await {
                Ok(_) => volume.grown_bytes = Some(bytes),
                Err(error) => volume.faults.push(not_grown(&error.into())),
            }
        }
        Ok(())
    }

    /// Of an installer: memory where the state volume belongs, no disk is touched, and nobody is told that it is gone at the next start.
    pub async fn open_state_of_installer(&self) -> StateVolume {
        let why = Text::new("this is the installer: it keeps nothing", "这是安装程序：不保存任何数据");
        let mut volume = StateVolume {
            mounted: Mounted::Volatile,
            reason: Some(why),
            made: false,
            fsck: None,
            grown_bytes: None,
            faults: Vec::new(),
        };
        if self.mounted_state().is_none()
            && let Err(error) = self.mount_memory().await
        {
            volume.faults.push(Fault { code: "state_volatile".into(), bay: None, text: error.texts().remove(0) });
        }
        volume
    }

    async fn mount_memory(&self) -> Result<(), Error> {
        std::fs::create_dir_all(&self.paths.state).map_err(Error::io("create", &self.paths.state))?;
        let args = ["-t", "tmpfs", "-o", "size=128m,mode=755,nodev,nosuid,noexec", "twinpost-state", &shown(&self.paths.state)];
        Ok(self.programs.mount.ok(&args, LIMIT).await.map(drop)?)
    }

    async fn open_volatile(&self, volume: &mut StateVolume, why: Text) {
        tracing::error!(why = %why.en, "the state volume cannot be used; state is in memory");
        if let Err(error) = self.mount_memory().await {
            tracing::error!(%error, "no file system in memory either");
        }
        volume.faults.push(Fault {
            code: "state_volatile".into(),
            bay: None,
            text: Text::new(
                format!(
                    "the state volume cannot be used ({}): settings and logs are kept in memory until the next boot only",
                    why.en
                ),
                format!("状态卷无法使用（{}）：设置与日志仅保存在内存中，重启后丢失", why.zh),
            ),
        });
        (volume.mounted, volume.reason) = (Mounted::Volatile, Some(why));
    }

    /// e2fsck(8): first what is safe, then everything, then by the copies of the superblock. What it did.
    async fn check(&self, array: &str, broken: bool) -> Result<Option<String>, Unusable> {
        let mut tries: Vec<Vec<String>> = Vec::new();
        if !broken {
            tries.push(vec!["-p".into()]);
            tries.push(vec!["-f".into(), "-y".into()]);
        }
        tries.extend(COPIES.map(|copy| ["-f", "-y", "-B", "4096", "-b", &copy.to_string()].map(str::to_owned).to_vec()));
        let mut said = String::new();
        for options in tries {
            let mut args: Vec<&str> = options.iter().map(String::as_str).collect();
            args.push(array);
            let answer = self.programs.e2fsck.run(&args, CHECK).await?;
            let words = short(&format!("{} {}", answer.stdout, answer.stderr));
            tracing::info!(?options, code = answer.code, said = %words, "check of the state volume");
            match answer.code {
                Some(0) if options.len() == 1 => return Ok(None),
                // 1: mended; 2: mended and a mounted one would need a reboot.
                Some(0..4) => return Ok(Some(words)),
                // 4 not mended, 8 not done: the next way.
                Some(4..16) => said = words,
                _ => return Err(Error::from(answer.error()).into()),
            }
        }
        Err(unusable(
            format!("its file system is damaged and could not be mended: {said}"),
            format!("其文件系统已损坏且无法修复：{said}"),
        ))
    }

    /// The array of a machine that never had one: on the disk that it was booted from.
    async fn first_boot(&self) -> Result<ArrayStatus, Unusable> {
        let mut disks = Vec::new();
        for (port, block) in self.blocks().await {
            let Some(block) = block else { continue };
            if let Ok(Some(system)) = self.system(&block).await {
                disks.push((port, block, system));
            }
        }
        if let Some((port, ..)) = disks.iter().find(|(.., system)| system.state.is_some()) {
            return Err(unusable(
                format!("the disk in bay {} has one, but it cannot be put together", port.bay),
                format!("插槽 {} 中的磁盘上有状态卷，但无法组装", port.bay),
            ));
        }
        // `false` sorts first: the disk in use.
        disks.sort_by_key(|(_, block, _)| !block.in_use());
        let Some((port, block, system)) = disks.into_iter().next() else {
            return Err(unusable("there is no system disk in any bay", "任何插槽中都没有系统磁盘"));
        };
        tracing::info!(bay = %port.bay, disk = %shown(&block.device), "first boot: the state volume is made");
        let block = self.state_partition(&block, &system).await?;
        let Some(part) = block.part(layout::STATE).cloned() else {
            return Err(unusable("its partition did not appear", "分区未出现"));
        };
        self.create(Array::State, &[shown(&part.device)], false).await?;
        self.array_status(Array::State).ok_or_else(|| unusable("its array did not start", "阵列未启动"))
    }

    /// The disk with a state partition that is blank.
    async fn state_partition(&self, block: &Block, system: &System) -> Result<Block, Unusable> {
        let path = block.device.clone();
        if let Some(partition) = system.partition(layout::STATE) {
            let (start, len) = (partition.start_bytes, partition.bytes);
            let blank = device::blocking(&block.device, move || {
                device::looks_blank(&device::open(&path)?, start, len).map_err(Error::io("read", path))
            });
            if !blank.await? {
                return Err(unusable(
                    "its partition holds something that is no state volume; nothing was changed",
                    "其分区中有非状态卷的数据；未作任何更改",
                ));
            }
            return Ok(self.reread(block, &system.table).await?);
        }
        let place = self.state_place(block, &system.table)?;
        let (start, len) = (place.start_bytes, place.bytes);
        // First blank, then in the table: a power cut between leaves free space, and whatever lay there before can never look like a volume.
        device::blocking(&block.device, move || device::zero(&device::open_rw(&path)?, &path, start, len, false, &|_| ()))
            .await?;
        let mut table = system.table.clone();
        let number = u32::try_from(table.partitions.len()).unwrap_or(u32::MAX).saturating_add(1);
        table.partitions.extend(layout::entries(&[place]).into_iter().map(|entry| crate::Partition { number, ..entry }));
        Ok(self.write_table(block, &table).await?)
    }

    fn state_place(&self, block: &Block, table: &Table) -> Result<Place, Unusable> {
        let used = table.partitions.iter().map(|partition| partition.start_bytes + partition.bytes).max().unwrap_or(0);
        let start_bytes = used.div_ceil(MIB) * MIB;
        let bytes = self.layout.state_bytes(block.bytes);
        if start_bytes + bytes > layout::Layout::end(block.bytes) {
            let error = layout::TooSmall { has_bytes: block.bytes, needs_bytes: start_bytes + bytes + 2 * MIB }.text();
            return Err(unusable(
                format!("there is no room for it on the disk: {}", error.en),
                format!("磁盘空间不足：{}", error.zh),
            ));
        }
        Ok(Place { name: layout::STATE.into(), start_bytes, bytes })
    }

    /// Lets the array fill its partitions, and the partitions the room behind them, up to the size that the disk calls for.
    async fn grow_array(&self, status: &ArrayStatus) -> Result<bool, Error> {
        let mut least = u64::MAX;
        let mut component = 0;
        for member in &status.members {
            let Some(bay) = &member.bay else { continue };
            let port = self.ports.iter().find(|port| port.bay == *bay).and_then(|port| port.device.as_ref());
            let Some(device) = port else { continue };
            let mut block = self.find(device).await?;
            let Some(system) = self.system(&block).await? else { continue };
            let wanted = self.layout.state_bytes(block.bytes);
            let Some(partition) = system.partition(layout::STATE).cloned() else { continue };
            let next = system.table.partitions.iter().map(|p| p.start_bytes).filter(|start| *start > partition.start_bytes).min();
            let room = next.unwrap_or(layout::Layout::end(block.bytes)).saturating_sub(partition.start_bytes) / MIB * MIB;
            if partition.bytes < wanted.min(room) {
                let mut table = system.table.clone();
                for entry in &mut table.partitions {
                    if entry.name == layout::STATE {
                        entry.bytes = wanted.min(room);
                    }
                }
                block = self.write_table(&block, &table).await?;
            }
            if let (Some(part), Some(found)) = (block.part(layout::STATE), &system.state) {
                least = least.min(part.bytes.saturating_sub(found.data_offset_bytes));
                component = found.component_bytes;
            }
        }
        if least == u64::MAX || component + SLACK_BYTES >= least {
            return Ok(false);
        }
        self.programs.mdadm.ok(&["--grow", &shown(&status.device), "--size=max"], LIMIT).await?;
        Ok(true)
    }

    /// Makes an array of one or two members; a second one that is not there yet is `missing`.
    pub(crate) async fn create(&self, array: Array, members: &[String], assume_clean: bool) -> Result<(), Error> {
        let (name, id) = (format!("--name={}", array.name()), format!("--uuid={}", self.new_array_id().simple()));
        let mut args = vec![
            "--create",
            array.device(),
            "--run",
            "--config=none",
            "--homehost=twinpost",
            &name,
            &id,
            "--metadata=1.2",
            "--level=1",
            "--raid-devices=2",
            "--bitmap=internal",
        ];
        if assume_clean {
            args.push("--assume-clean");
        }
        args.extend(members.iter().map(String::as_str));
        args.extend(std::iter::repeat_n("missing", 2usize.saturating_sub(members.len())));
        self.programs.mdadm.ok(&args, LIMIT).await?;
        Ok(())
    }
}

/// The last words of a program, on one line.
fn short(said: &str) -> String {
    const MAX: usize = 400;
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let skip = said.chars().count().saturating_sub(MAX);
    said.chars().skip(skip).collect()
}

fn not_grown(error: &Error) -> Fault {
    let text = Text::new(format!("the state volume could not be made larger: {error}"), format!("状态卷扩容失败：{error}"));
    Fault { code: "state_not_grown".into(), bay: None, text }
}
