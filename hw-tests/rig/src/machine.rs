//! One machine: a QEMU process with the parts of the board `qemu-pc`.
//!
//! Contract: what the power switch, the bays and the cables of a real machine do is done to the process: off is `kill -9`, on starts it again on the
//! same disks, a bay is a PCI place whose disk is unplugged and plugged. The machine ends with the rig.
//!
//! Failure classes: QEMU is missing or refuses (its words are in the error), the monitor does not answer.

use crate::accel::Accel;
use crate::image::Image;
use crate::space::{Space, end};
use crate::timeline::{Timeline, lock};
use crate::{Error, Qmp, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long QEMU may take to open its monitor.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a guest may take to give a disk up.
const UNPLUG_LIMIT: Duration = Duration::from_secs(30);
/// PCI places of the bays (board `qemu-pc`).
const BAY_PLACES: [&str; 2] = ["5", "6"];

/// How a machine starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// The kernel of this slot (0: a, 1: b), without firmware.
    Kernel(usize),
    /// UEFI firmware, and what the disk's boot loader chooses.
    Uefi,
}

/// What can be chosen for the next start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// How it starts.
    pub start: Start,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Further words for the kernel (only without firmware).
    pub words: String,
    /// Seconds added to the right time.
    pub clock_offset_s: i64,
    /// It has a USB port.
    pub usb: bool,
    /// A stick that is in it when the machine gets power, to be started from; it is not written.
    pub stick: Option<PathBuf>,
    /// Every write is logged beside the disk (`blklogwrites`), for a power cut that loses what was not flushed.
    pub log_writes: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            start: Start::Kernel(0),
            memory_mib: 768,
            words: String::new(),
            clock_offset_s: 0,
            usb: false,
            stick: None,
            log_writes: false,
        }
    }
}

/// What is in a bay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// Its file, qcow2.
    pub file: PathBuf,
    /// Its serial number.
    pub serial: String,
    /// The file is raw and not qcow2.
    pub raw: bool,
}

#[derive(Debug)]
struct Running {
    child: Child,
    qmp: Arc<Qmp>,
}

/// See the module.
#[derive(Debug)]
pub struct Machine {
    name: &'static str,
    number: usize,
    image: Image,
    accel: Accel,
    space: Space,
    /// Sockets.
    sockets: PathBuf,
    /// Disks and logs.
    folder: PathBuf,
    timeline: Timeline,
    bays: Mutex<[Option<Disk>; 2]>,
    /// Names of block devices never come again.
    plugs: Mutex<u32>,
    options: Mutex<Options>,
    running: Mutex<Option<Running>>,
    /// Held while the power changes.
    switch: Mutex<()>,
}

/// What all machines of a rig have.
pub(crate) struct Ground<'a> {
    pub image: &'a Image,
    pub accel: Accel,
    pub space: &'a Space,
    pub sockets: &'a Path,
    pub folder: &'a Path,
    pub timeline: &'a Timeline,
}

impl Machine {
    pub(crate) fn new(name: &'static str, number: usize, ground: &Ground<'_>, bays: [Option<Disk>; 2]) -> Self {
        Self {
            name,
            number,
            image: ground.image.clone(),
            accel: ground.accel,
            space: ground.space.clone(),
            sockets: ground.sockets.to_owned(),
            folder: ground.folder.to_owned(),
            timeline: ground.timeline.clone(),
            bays: Mutex::new(bays),
            plugs: Mutex::new(0),
            options: Mutex::default(),
            running: Mutex::default(),
            switch: Mutex::default(),
        }
    }

    /// The socket of one of its lines: `console`, `heartbeat`, `modem`, `qmp`.
    #[must_use]
    pub fn socket(&self, line: &str) -> PathBuf {
        self.sockets.join(format!("{}.{line}", self.name))
    }

    fn eth1(&self, number: usize) -> PathBuf {
        self.sockets.join(format!("eth1.{number}"))
    }

    /// What counts from the next start on.
    pub fn choose(&self, change: impl FnOnce(&mut Options)) {
        change(&mut lock(&self.options));
    }

    /// What counts from the next start on, as it is now.
    #[must_use]
    pub fn options(&self) -> Options {
        lock(&self.options).clone()
    }

    /// Writes garbage over the first 64 MiB of a partition of a disk (bay 0 or 1) while the machine is off.
    ///
    /// # Errors
    /// The machine is on, the disk has no such partition, or `qemu-io` refuses.
    pub fn damage(&self, bay: usize, partition: &str) -> Result<()> {
        let wrong = |what: &str| Error::Setting { what: format!("bay {} of node {}: {what}", bay + 1, self.name) };
        if self.is_on() {
            return Err(wrong("the machine is on"));
        }
        let disk = lock(&self.bays)[bay].clone().ok_or_else(|| wrong("it is empty"))?;
        let (first, bytes) = crate::partition::find(&disk, partition)?;
        crate::partition::fill(&disk, first, bytes.min(64 << 20), 0xa5)
    }

    /// Its disks as raw files, while it is off; that is what they are from then on.
    ///
    /// # Errors
    /// It is on, a bay is empty, or `qemu-img` refuses.
    pub(crate) fn raw_disks(&self) -> Result<Vec<PathBuf>> {
        let wrong = |what: &str| Error::Setting { what: format!("node {}: {what}", self.name) };
        if self.is_on() {
            return Err(wrong("it is on"));
        }
        let mut files = Vec::new();
        for bay in lock(&self.bays).iter_mut() {
            let disk = bay.as_mut().ok_or_else(|| wrong("a bay is empty"))?;
            if !disk.raw {
                let raw = disk.file.with_extension("raw");
                crate::partition::flatten(disk, &raw)?;
                let _ = std::fs::remove_file(&disk.file);
                (disk.file, disk.raw) = (raw, true);
            }
            files.push(disk.file.clone());
        }
        Ok(files)
    }

    /// What is in its bays.
    #[must_use]
    pub fn bays(&self) -> [Option<Disk>; 2] {
        lock(&self.bays).clone()
    }

    /// Whether it has power: its process runs.
    #[must_use]
    pub fn is_on(&self) -> bool {
        lock(&self.running).as_mut().is_some_and(|running| matches!(running.child.try_wait(), Ok(None)))
    }

    /// Number of its process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.running).as_ref().map(|running| running.child.id())
    }

    /// Its monitor.
    ///
    /// # Errors
    /// It has no power.
    pub fn qmp(&self) -> Result<Arc<Qmp>> {
        let off = || Error::Off { node: self.name.to_owned(), what: "its monitor".to_owned() };
        if self.is_on() { lock(&self.running).as_ref().map(|running| running.qmp.clone()).ok_or_else(off) } else { Err(off()) }
    }

    /// Switches it on, if it is not.
    ///
    /// # Errors
    /// QEMU does not start.
    pub fn on(&self) -> Result<()> {
        let _switch = lock(&self.switch);
        if self.is_on() {
            return Ok(());
        }
        for line in ["console", "heartbeat", "modem", "qmp"] {
            let _ = std::fs::remove_file(self.socket(line));
        }
        let _ = std::fs::remove_file(self.eth1(self.number));
        let words = self.words()?;
        let log = self.folder.join(format!("{}-qemu.log", self.name));
        self.timeline.note(&format!("{} power", self.name), "on");
        let mut child = self.space.start("qemu-system-x86_64", &words, &log)?;
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Ok(qmp) = Qmp::connect(&self.socket("qmp"), self.name, &self.timeline) {
                *lock(&self.running) = Some(Running { child, qmp: Arc::new(qmp) });
                return Ok(());
            }
            let ended = !matches!(child.try_wait(), Ok(None));
            if ended || Instant::now() >= deadline {
                end(&mut child);
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                let said = said.lines().rev().take(5).collect::<Vec<_>>().join("; ");
                return Err(Error::Tool { what: format!("QEMU of node {}", self.name), said });
            }
            // The pace of looking.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Takes its power away.
    pub fn off(&self) {
        let _switch = lock(&self.switch);
        let taken = lock(&self.running).take();
        if let Some(mut running) = taken {
            self.timeline.note(&format!("{} power", self.name), "off");
            end(&mut running.child);
        }
    }

    /// Waits until it has switched itself off.
    #[must_use]
    pub fn ended_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_on() {
            if Instant::now() >= deadline {
                return false;
            }
            // The pace of looking.
            std::thread::sleep(Duration::from_millis(20));
        }
        self.off();
        true
    }

    /// Pulls a cable of the network (`lan`, `pair`), or puts it in.
    ///
    /// # Errors
    /// It has no power, or the monitor refuses.
    pub fn link(&self, name: &str, up: bool) -> Result<()> {
        self.qmp()?.order("set_link", json!({ "name": format!("nic-{name}"), "up": up })).map(drop)
    }

    /// Pulls the disk of a bay (0 or 1) while it runs, or takes it out while it is off.
    ///
    /// # Errors
    /// The bay is empty, or the guest does not let go.
    pub fn pull(&self, bay: usize) -> Result<Disk> {
        let taken = lock(&self.bays)[bay].take();
        let disk = taken.ok_or_else(|| Error::Setting { what: format!("bay {} of node {} is empty", bay + 1, self.name) })?;
        if self.is_on() {
            let qmp = self.qmp()?;
            let from = qmp.events();
            qmp.order("device_del", json!({ "id": format!("bay{}", bay + 1) }))?;
            qmp.event_of("DEVICE_DELETED", &format!("bay{}", bay + 1), from, UNPLUG_LIMIT)?;
            let nodes = qmp.order("query-named-block-nodes", json!({ "flat": true }))?;
            let names: Vec<&str> = nodes.as_array().into_iter().flatten().filter_map(|n| n["node-name"].as_str()).collect();
            let of_bay = format!("disk{}-", bay + 1);
            for name in names.iter().filter(|name| name.starts_with(&of_bay)) {
                qmp.order("blockdev-del", json!({ "node-name": name }))?;
            }
        }
        Ok(disk)
    }

    /// Puts a disk into an empty bay.
    ///
    /// # Errors
    /// The bay is not empty, or QEMU refuses.
    pub fn insert(&self, bay: usize, disk: Disk) -> Result<()> {
        if lock(&self.bays)[bay].is_some() {
            return Err(Error::Setting { what: format!("bay {} of node {} is not empty", bay + 1, self.name) });
        }
        if self.is_on() {
            let qmp = self.qmp()?;
            let (block, device) = self.plug(bay, &disk);
            qmp.order("blockdev-add", block)?;
            qmp.order("device_add", device)?;
        }
        lock(&self.bays)[bay] = Some(disk);
        Ok(())
    }

    /// The log of the writes to the disk of a bay (0 or 1), if it is kept ([`Options::log_writes`]).
    #[must_use]
    pub fn writes(&self, bay: usize) -> PathBuf {
        self.folder.join(format!("{}-{}.writes", self.name, bay + 1))
    }

    /// Puts a stick with this content into the USB port of a running machine.
    ///
    /// # Errors
    /// It has no power or no USB port ([`Options::usb`]).
    pub fn plug_stick(&self, image: &Path) -> Result<()> {
        let qmp = self.qmp()?;
        let file = json!({ "driver": "file", "filename": image });
        qmp.order("blockdev-add", json!({ "node-name": "stick", "driver": "raw", "file": file }))?;
        let device =
            json!({ "driver": "usb-storage", "bus": "usb.0", "drive": "stick", "id": "stick-device", "removable": true });
        qmp.order("device_add", device).map(drop)
    }

    /// Pulls the stick out.
    ///
    /// # Errors
    /// There is none.
    pub fn pull_stick(&self) -> Result<()> {
        let qmp = self.qmp()?;
        let from = qmp.events();
        qmp.order("device_del", json!({ "id": "stick-device" }))?;
        qmp.event_of("DEVICE_DELETED", "stick-device", from, UNPLUG_LIMIT)?;
        qmp.order("blockdev-del", json!({ "node-name": "stick" })).map(drop)
    }

    /// The block device and the device of a disk in a bay.
    fn plug(&self, bay: usize, disk: &Disk) -> (Value, Value) {
        let plug = {
            let mut plugs = lock(&self.plugs);
            *plugs += 1;
            *plugs
        };
        let name = format!("disk{}-{plug}", bay + 1);
        // The host never loses its own power here: what the guest flushes has to reach the host's cache, and no further.
        let file = json!({ "driver": "file", "filename": disk.file, "discard": "unmap", "cache": { "no-flush": true } });
        let format = if disk.raw { "raw" } else { "qcow2" };
        let mut block = json!({ "node-name": name, "driver": format, "discard": "unmap", "file": file });
        if lock(&self.options).log_writes {
            let path = self.writes(bay);
            // The driver begins it anew, and wants it to be there.
            let _ = std::fs::File::create(&path);
            let log = json!({ "driver": "file", "filename": path });
            block["node-name"] = format!("{name}-data").into();
            block = json!({ "node-name": name, "driver": "blklogwrites", "file": block, "log": log, "log-sector-size": 512 });
        }
        let device = json!({
            "driver": "virtio-blk-pci", "drive": name, "id": format!("bay{}", bay + 1), "addr": BAY_PLACES[bay],
            "serial": disk.serial, "write-cache": "on",
        });
        (block, device)
    }

    fn words(&self) -> Result<Vec<String>> {
        let options = lock(&self.options).clone();
        let mut words: Vec<String> = ["-name", self.name, "-machine", "pc", "-smp", "1"].map(str::to_owned).into();
        let mut add = |parts: &[&str]| words.extend(parts.iter().map(ToString::to_string));
        add(&self.accel.words());
        add(&["-m", &options.memory_mib.to_string(), "-nodefaults", "-no-user-config", "-display", "none"]);
        match options.start {
            Start::Kernel(slot) => {
                let shared = "console=ttyS0,115200 panic=1 mitigations=off random.trust_cpu=on tsc=reliable no_timer_check unknown_nmi_panic=1";
                let line = format!("{} {shared} {}", self.image.cmdline[slot], options.words);
                add(&["-kernel", &text(&self.image.kernel)?, "-initrd", &text(&self.image.initrd)?, "-append", line.trim()]);
            }
            Start::Uefi => {
                let (code, vars) =
                    (Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"), self.folder.join(format!("{}-vars.fd", self.name)));
                if !vars.exists() {
                    let fresh = "/usr/share/OVMF/OVMF_VARS_4M.fd";
                    std::fs::copy(fresh, &vars).map_err(Error::io(format!("{fresh} (package ovmf)")))?;
                }
                add(&["-drive", &format!("if=pflash,format=raw,unit=0,readonly=on,file={}", text(code)?)]);
                add(&["-drive", &format!("if=pflash,format=raw,unit=1,file={}", text(&vars)?)]);
            }
        }
        for (bay, disk) in lock(&self.bays).iter().enumerate() {
            let Some(disk) = disk else { continue };
            let (block, mut device) = self.plug(bay, disk);
            if options.start == Start::Uefi {
                device["bootindex"] = (bay + 1).into();
            }
            add(&["-blockdev", &block.to_string(), "-device", &device.to_string()]);
        }
        let (mine, theirs) = (self.eth1(self.number), self.eth1(3 - self.number));
        let number = self.number;
        add(&["-netdev", &format!("tap,id=lan,ifname=tap{number},script=no,downscript=no")]);
        add(&["-device", &format!("virtio-net-pci,netdev=lan,id=nic-lan,romfile=,addr=7,mac=52:54:00:00:00:0{number}")]);
        let cable =
            format!("dgram,id=pair,local.type=unix,local.path={},remote.type=unix,remote.path={}", text(&mine)?, text(&theirs)?);
        add(&["-netdev", &cable]);
        add(&["-device", &format!("virtio-net-pci,netdev=pair,id=nic-pair,romfile=,addr=8,mac=52:54:00:00:01:0{number}")]);
        add(&["-device", "i6300esb,addr=9", "-action", "watchdog=reset", "-device", "virtio-rng-pci,addr=4"]);
        if options.usb || options.stick.is_some() {
            add(&["-device", "qemu-xhci,id=usb,addr=11"]);
        }
        if let Some(stick) = &options.stick {
            let file = json!({ "driver": "file", "filename": stick });
            let block = json!({ "node-name": "stick", "driver": "raw", "read-only": true, "file": file });
            add(&["-blockdev", &block.to_string()]);
            add(&["-device", "usb-storage,bus=usb.0,drive=stick,id=stick-device,removable=on,bootindex=0"]);
        }
        for (index, line) in ["console", "heartbeat", "modem"].iter().enumerate() {
            let log = if index == 0 {
                format!(",logfile={},logappend=on", text(&self.timeline.folder().join(format!("{}-console.log", self.name)))?)
            } else {
                String::new()
            };
            let socket = text(&self.socket(line))?;
            add(&["-chardev", &format!("socket,id={line},path={socket},server=on,wait=off{log}")]);
            add(&["-device", &format!("isa-serial,chardev={line},index={index}")]);
        }
        add(&["-qmp", &format!("unix:{},server=on,wait=off", text(&self.socket("qmp"))?)]);
        if options.clock_offset_s != 0 {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
            let then = now.saturating_add_signed(options.clock_offset_s);
            add(&["-rtc", &format!("base={},clock=host", date(then))]);
        }
        Ok(words)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.off();
    }
}

/// QEMU's options know no other bytes, and a comma ends one.
fn text(path: &Path) -> Result<String> {
    let plain = path.to_str().filter(|text| !text.contains(','));
    plain.map(str::to_owned).ok_or_else(|| Error::Setting { what: format!("{}: QEMU cannot be told this path", path.display()) })
}

/// Seconds since 1970 as QEMU's `-rtc base=` takes them, in UTC (days to civil: the proleptic Gregorian calendar).
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_as_qemu_takes_them() {
        // `date -u -d @N +%FT%T`
        assert_eq!(date(0), "1970-01-01T00:00:00");
        assert_eq!(date(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(date(1_795_342_735), "2026-11-22T10:18:55");
    }
}
