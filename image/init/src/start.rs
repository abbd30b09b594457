//! The start: from the kernel's hand-over to systemd, or to a restart that says why.
//!
//! Contract: ends in one of two ways, within a minute: systemd runs on a root of which every block is checked as it is read, or the reason
//! stands on the console, the boot manager is asked for the other slot, and the machine restarts. Nothing waits without a limit.

use crate::console::Console;
use crate::disks::{self, Leg, Next, PATIENCE, Partition, Search};
use crate::loader::{self, Fallback};
use crate::machine::{self, Modules, Variables, uptime_ms};
use std::collections::BTreeSet;
use std::time::Duration;
use twinpost_mapper::{Cmdline, Mapper, Number, root, table};

/// Between two looks for disks.
const LOOK_MS: u64 = 5;
/// How long a message can be read before the machine restarts.
const MESSAGE: Duration = Duration::from_secs(8);
/// The same for an installer: a person stands there.
const INSTALL_MESSAGE: Duration = Duration::from_secs(60);

/// `/run/twinpost/init.json`: how this start went.
#[derive(Debug, serde::Serialize)]
struct Report<'a> {
    slot: char,
    install: bool,
    /// Every partition that was tried.
    legs: &'a [Leg],
    /// From the kernel's hand-over to systemd's start.
    took_ms: u64,
    /// From the kernel's start to the hand-over.
    kernel_ms: u64,
    /// What ended when, in milliseconds since the kernel's start.
    phases: &'a [(&'static str, u64)],
    /// Why the start before this one gave up, when it did.
    fallback: Option<Fallback>,
}

/// Starts the system; comes back only if the kernel refuses even a restart.
pub fn run() {
    let kernel_ms = uptime_ms();
    let base = machine::mount_base();
    let mut start = Start {
        console: Console::open(),
        modules: Modules::default(),
        phases: Vec::new(),
        kernel_ms,
        cmdline: None,
        legs: Vec::new(),
    };
    let why = match base.and_then(|()| start.prepare()) {
        // `prepare` ends in the new root.
        Ok(()) => machine::exec_systemd(),
        Err(why) => why,
    };
    start.give_up(&why);
}

struct Start {
    console: Console,
    modules: Modules,
    phases: Vec<(&'static str, u64)>,
    kernel_ms: u64,
    cmdline: Option<Cmdline>,
    legs: Vec<Leg>,
}

impl Start {
    fn prepare(&mut self) -> machine::Result<()> {
        let text = std::fs::read_to_string("/proc/cmdline").map_err(|error| format!("cannot read /proc/cmdline: {error}"))?;
        let cmdline = Cmdline::parse(&text)?;
        self.cmdline = Some(cmdline.clone());
        self.modules = Modules::read()?;
        // Disks first: while their controllers look for them, the rest is loaded. Two disks are all that a node has; only an installer
        // must know of more, to take the stick and none of them.
        let own = |partitions: Vec<Partition>| partitions.iter().filter(|partition| !partition.usb).count();
        while self.load_next() && (cmdline.install || own(machine::partitions(&cmdline.partition())) < 2) {}
        self.load_list("order");
        self.phase("modules");
        let mapper = Mapper::open().map_err(|error| error.to_string())?;
        let good = self.find_legs(&cmdline, &mapper)?;
        self.phase("legs");
        let table = table::root(&good, cmdline.data_blocks).ok_or("no leg of the root")?;
        let device = mapper.create(root::NAME, &table).map_err(|error| format!("cannot join the legs of the root: {error}"))?;
        machine::mount_root(device)?;
        self.phase("mounts");
        self.report(&cmdline)?;
        machine::switch_root()
    }

    fn load_list(&mut self, list: &str) {
        let Self { modules, console, .. } = self;
        modules.load_list(list, |why| console.note(&why));
    }

    fn load_next(&mut self) -> bool {
        let Self { modules, console, .. } = self;
        modules.load_next(|why| console.note(&why))
    }

    fn phase(&mut self, name: &'static str) {
        self.phases.push((name, uptime_ms()));
    }

    /// Waits for disks and makes the legs; the good ones.
    fn find_legs(&mut self, cmdline: &Cmdline, mapper: &Mapper) -> machine::Result<Vec<Number>> {
        let begun = uptime_ms();
        let (mut tried, mut good) = (BTreeSet::new(), Vec::new());
        let (mut last_good, mut last_bad) = (begun, begun);
        loop {
            let found = machine::partitions(&cmdline.partition());
            for partition in disks::candidates(found, &tried, good.len(), cmdline.install) {
                tried.insert(partition.device.clone());
                let name = format!("leg{}", tried.len());
                let why = match mapper.leg(&name, cmdline, partition.number, partition.sectors) {
                    Ok(number) => {
                        good.push(number);
                        last_good = uptime_ms();
                        String::new()
                    }
                    Err(why) => {
                        last_bad = uptime_ms();
                        self.console.tell(&format!("Twinpost: {} is not used: {why}", partition.device));
                        why.to_string()
                    }
                };
                self.legs.push(Leg { device: partition.device, disk: partition.disk, ok: why.is_empty(), why });
            }
            let now = uptime_ms();
            let search = Search {
                since_start_ms: now - begun,
                good: good.len(),
                since_good_ms: now - last_good,
                bad: self.legs.len() - good.len(),
                since_bad_ms: now - last_bad,
                slow: self.modules.more_disks(),
                install: cmdline.install,
            };
            match search.next(PATIENCE) {
                Next::Start => return Ok(good),
                Next::GiveUp => return Err(nothing_to_start(cmdline, &self.legs)),
                Next::Wait => {
                    std::thread::sleep(Duration::from_millis(LOOK_MS));
                    while self.load_next() {}
                }
            }
        }
    }

    /// Writes the report, with what the start before this one left in the firmware's variables.
    fn report(&mut self, cmdline: &Cmdline) -> machine::Result<()> {
        let Self { modules, console, .. } = self;
        let variables = Variables::mount(modules, |why| console.note(&why));
        let fallback = variables.as_ref().and_then(|variables| Fallback::decode(&variables.read(loader::FALLBACK)?));
        if let (Some(variables), Some(fallback)) = (&variables, &fallback) {
            console.tell(&format!("Twinpost: slot {} could not be started before: {}", fallback.slot, fallback.why));
            // Told once. If it stays, the next start tells it again: better than never.
            if let Err(why) = variables.remove(loader::FALLBACK) {
                console.note(&why);
            }
        }
        self.phase("report");
        let now = uptime_ms();
        let report = Report {
            slot: cmdline.slot,
            install: cmdline.install,
            legs: &self.legs,
            took_ms: now - self.kernel_ms,
            kernel_ms: self.kernel_ms,
            phases: &self.phases,
            fallback,
        };
        let json = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
        let good = self.legs.iter().filter(|leg| leg.ok).map(|leg| leg.device.as_str()).collect::<Vec<_>>().join(" and ");
        self.console.note(&format!("slot {} from {good}; {}", cmdline.slot, String::from_utf8_lossy(&json)));
        std::fs::write("/run/twinpost/init.json", json).map_err(|error| format!("cannot write /run/twinpost/init.json: {error}"))
    }

    /// Says why, asks the boot manager for the other slot, restarts.
    fn give_up(&mut self, why: &str) {
        let slot = self.cmdline.as_ref().map(|cmdline| cmdline.slot);
        let install = self.cmdline.as_ref().is_some_and(|cmdline| cmdline.install);
        let next = match slot {
            Some(slot) if !install => self.choose_other(slot, why),
            _ => "The machine restarts.".to_owned(),
        };
        self.console.tell(&format!("\nTwinpost cannot start: {why}\n{next}\n"));
        std::thread::sleep(if install { INSTALL_MESSAGE } else { MESSAGE });
        machine::restart();
    }

    fn choose_other(&mut self, slot: char, why: &str) -> String {
        let Self { modules, console, .. } = self;
        let Some(variables) = Variables::mount(modules, |why| console.note(&why)) else {
            return "The machine restarts.".to_owned();
        };
        let read = |name: &str| variables.read(&format!("{name}-{}", loader::VENDOR));
        let texts = |name: &str| read(name).map(|file| loader::decode(&file)).unwrap_or_default();
        let counted = read("LoaderBootCountPath").is_some();
        let selected = texts("LoaderEntrySelected").into_iter().next();
        if let Err(why) = variables.write(loader::FALLBACK, &Fallback { slot, why: why.to_owned() }.encode()) {
            console.note(&why);
        }
        let Some(entry) = loader::other_entry(slot, &texts("LoaderEntries"), selected.as_deref(), counted) else {
            let who = if counted {
                "The boot manager counts its tries and takes the version before it after the last."
            } else {
                "There is no other version."
            };
            return format!("{who} The machine restarts.");
        };
        match variables.write(&format!("LoaderEntryOneShot-{}", loader::VENDOR), &loader::encode(&entry)) {
            Ok(()) => format!("The machine restarts with the other version ({entry})."),
            Err(why) => format!("The other version could not be chosen ({why}). The machine restarts."),
        }
    }
}

fn nothing_to_start(cmdline: &Cmdline, legs: &[Leg]) -> String {
    let partition = cmdline.partition();
    if legs.is_empty() {
        return format!("no disk has a partition {partition}. Are the disks in their bays?");
    }
    let list = legs.iter().map(|leg| format!("\n  {}: {}", leg.device, leg.why)).collect::<String>();
    format!("slot {} is damaged on every disk:{list}", cmdline.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_every_disk() {
        let text = format!("twinpost.slot=b twinpost.root=sha256:{}:-:9", "0".repeat(64));
        let cmdline = Cmdline::parse(&text).unwrap();
        assert!(nothing_to_start(&cmdline, &[]).contains("twinpost-b"));
        let leg = |device: &str| Leg { device: device.into(), disk: "x".into(), ok: false, why: "block 0".into() };
        let why = nothing_to_start(&cmdline, &[leg("vda3"), leg("vdb3")]);
        assert!(why.contains("vda3: block 0") && why.contains("vdb3: block 0"), "{why}");
    }
}
