//! The pair in QEMU.
//!
//! Contract: two [`Machine`]s in a network namespace of their own: LAN (a bridge with this program on it as gateway, client, witness and
//! management controllers), crossover cable, null-modem cable, a modem with telephones for each node. Disks are overlays: what they lie over
//! stays as it is. When the rig goes, everything goes but the folder.
//!
//! Failure classes: no root, no QEMU, no image: [`Error`] says what is missing.

use crate::accel::Accel;
use crate::bmc::{Bmc, Mains};
use crate::capability::{Capabilities, Capability};
use crate::image::Image;
use crate::machine::{Disk, Ground, Machine, Start};
use crate::outside::Outside;
use crate::patch::{Patch, Wire};
use crate::rig::{Cable, Door, Fault, NODES, NewDisk, Rig, cannot};
use crate::space::{Space, end};
use crate::timeline::{Timeline, lock};
use crate::{Console, Error, Place, Result};
use serde_json::json;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use twinpost_hw_modem::{Handle, Line, Options as ModemOptions, Order, Simulator, Until};

/// The gateway: this program. Witness and management controllers are here too.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Its hardware address on the LAN.
const GATEWAY_MAC: &str = "52:54:00:00:00:fe";
/// The address that moves.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);
/// The port of the witness.
pub const WITNESS_PORT: u16 = 2696;
/// The port of the controller that switches node a; node b's is one more.
pub const BMC_PORT: u16 = 8001;

/// What the machines start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disks {
    /// The image on the first disk, a blank second one.
    Fresh,
    /// What is in the folder from the last time.
    Kept,
    /// What another rig left in this folder; it stays as it is.
    Over(PathBuf),
}

/// What a rig is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image.
    pub image: Image,
    /// The program, for the witness.
    pub program: PathBuf,
    /// Disks, logs, the witness's register.
    pub folder: PathBuf,
    /// Size of each system disk.
    pub disk_bytes: u64,
    /// How long a modem takes for a message.
    pub modem: twinpost_hw_modem::Timing,
}

impl Settings {
    /// Disks of 2 GiB, modems that answer at once.
    #[must_use]
    pub fn new(image: Image, program: PathBuf, folder: PathBuf) -> Self {
        Self { image, program, folder, disk_bytes: 2 << 30, modem: twinpost_hw_modem::Timing::Instant }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Qemu {
    // The order is that of the end: machines before the network that they are in.
    machines: [Arc<Machine>; 2],
    consoles: [Console; 2],
    bmcs: [Bmc; 2],
    patch: Patch,
    outside: Outside,
    modems: [Handle; 2],
    witness: Mutex<Option<Child>>,
    settings: Settings,
    capabilities: Capabilities,
    timeline: Timeline,
    space: Space,
    _sockets: tempfile::TempDir,
}

fn index(node: &str) -> usize {
    usize::from(node == "b")
}

/// The power of a machine, for its controller. It knows both, since a cable is dark when one end has no power.
struct Switch {
    machines: [Arc<Machine>; 2],
    node: usize,
}

/// Switches a machine; the light on the crossover cable goes and comes with it, as on real ones.
fn switch(machines: &[Arc<Machine>; 2], node: usize, on: bool) -> Result<()> {
    if on {
        machines[node].on()?;
    } else {
        machines[node].off();
    }
    let peer = &machines[1 - node];
    if peer.is_on()
        && let Err(error) = peer.link("pair", on)
        && peer.is_on()
    {
        return Err(error);
    }
    Ok(())
}

impl Mains for Switch {
    fn is_on(&self) -> bool {
        self.machines[self.node].is_on()
    }
    fn switch(&self, on: bool) -> Result<()> {
        switch(&self.machines, self.node, on)
    }
}

/// A tool of the host that must succeed.
fn tool(program: &str, words: &[&str]) -> Result<String> {
    let what = format!("{program} {}", words.join(" "));
    let output = Command::new(program).args(words).output().map_err(Error::io(what.clone()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::Tool { what, said: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A disk over another one, or a blank one.
pub(crate) fn overlay(file: &Path, over: Option<(&Path, &str)>, bytes: Option<u64>) -> Result<()> {
    let _ = std::fs::remove_file(file);
    let (file, size) = (shown(file), bytes.map(|bytes| bytes.to_string()));
    let mut words = vec!["create", "-q", "-f", "qcow2"];
    let below = over.map(|(below, format)| (shown(below), format));
    if let Some((below, format)) = &below {
        words.extend(["-b", below, "-F", format]);
    }
    words.push(&file);
    words.extend(size.as_deref());
    tool("qemu-img", &words).map(drop)
}

pub(crate) fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            // Its socket is not part of the register.
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Qemu {
    /// Lays the cables and puts the disks in; no machine has power yet.
    ///
    /// # Errors
    /// Something of the host is missing or refuses.
    pub fn prepare(settings: Settings, disks: &Disks, timeline: Timeline) -> Result<Self> {
        let folder = settings.folder.clone();
        std::fs::create_dir_all(&folder).map_err(Error::io(shown(&folder)))?;
        let space = Space::new()?;
        let net = |words: &str| space.tool("ip", &words.split(' ').collect::<Vec<_>>()).map(drop);
        // An address of its own: otherwise it is the lowest of its ports', and changes with observers that come and go. A node then sends to one
        // that is gone until its kernel has probed in vain for 8 s.
        net(&format!("link add lan address {GATEWAY_MAC} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"))?;
        net(&format!("addr add {GATEWAY}/24 dev lan"))?;
        net("link set lan up")?;
        for number in [1, 2] {
            net(&format!("tuntap add dev tap{number} mode tap"))?;
            net(&format!("link set tap{number} master lan"))?;
            net(&format!("link set tap{number} up"))?;
        }
        let sockets = tempfile::Builder::new().prefix("tprig").tempdir().map_err(Error::io("a folder for sockets"))?;
        let accel = Accel::best(&settings.image.kernel);
        timeline.note("rig", &format!("image {} ({}), processors by {accel:?}", settings.image.version, settings.image.id));
        let ground = Ground {
            image: &settings.image,
            accel,
            space: &space,
            sockets: sockets.path(),
            folder: &folder,
            timeline: &timeline,
        };
        let mut machines = Vec::new();
        for (at, node) in NODES.into_iter().enumerate() {
            let bays = Self::bays(&settings, disks, node)?;
            machines.push(Arc::new(Machine::new(node, at + 1, &ground, bays)));
        }
        if let Disks::Over(base) = disks {
            let from = base.join("witness");
            if from.exists() {
                copy_folder(&from, &folder.join("witness")).map_err(Error::io("copy the witness's register"))?;
            }
        }
        let machines: [Arc<Machine>; 2] = machines.try_into().expect("there are two nodes");
        let (consoles, bmcs) = Self::attach(&space, &machines, &timeline)?;
        let modems = Self::modems(&settings, sockets.path())?;
        let mut ends: Vec<PathBuf> = Vec::new();
        for line in ["heartbeat", "modem"] {
            ends.extend(machines.iter().map(|machine| machine.socket(line)));
        }
        ends.extend(NODES.map(|node| sockets.path().join(format!("{node}.phone"))));
        let patch = Patch::new(ends, &timeline)?;
        patch.plug(HEARTBEAT, HEARTBEAT + 1);
        for at in 0..2 {
            patch.plug(MODEM_PORT + at, MODEM + at);
        }
        let outside = space.within(|| Outside::serve(GATEWAY, &timeline))??;
        let rig = Self {
            machines,
            consoles,
            bmcs,
            patch,
            outside,
            modems,
            witness: Mutex::new(None),
            settings,
            capabilities: Self::declared(),
            timeline,
            space,
            _sockets: sockets,
        };
        rig.witness(true)?;
        Ok(rig)
    }

    /// What such a rig can: known before there is one.
    #[must_use]
    pub fn declared() -> Capabilities {
        Capability::ALL.iter().copied().filter(|capability| *capability != Capability::ModemLines).collect()
    }

    fn bays(settings: &Settings, disks: &Disks, node: &str) -> Result<[Option<Disk>; 2]> {
        let mut bays = [None, None];
        for (at, bay) in bays.iter_mut().enumerate() {
            let name = format!("{node}-{}.qcow2", at + 1);
            let file = settings.folder.join(&name);
            match disks {
                Disks::Fresh if at == 0 => overlay(&file, Some((&settings.image.disk, "raw")), Some(settings.disk_bytes))?,
                Disks::Fresh => overlay(&file, None, Some(settings.disk_bytes))?,
                Disks::Kept => {}
                Disks::Over(base) => overlay(&file, Some((&base.join(&name), "qcow2")), None)?,
            }
            *bay = Some(Disk { file, serial: format!("TP-{}-{}", node.to_uppercase(), at + 1), raw: false });
        }
        Ok(bays)
    }

    fn attach(space: &Space, machines: &[Arc<Machine>; 2], timeline: &Timeline) -> Result<([Console; 2], [Bmc; 2])> {
        let (mut consoles, mut bmcs) = (Vec::new(), Vec::new());
        for (at, machine) in machines.iter().enumerate() {
            consoles.push(Console::listen(NODES[at], Place::Unix(machine.socket("console")), timeline)?);
            let mains = Arc::new(Switch { machines: machines.clone(), node: at });
            let port = BMC_PORT + if at == 0 { 0 } else { 1 };
            let bmc = space.within(|| {
                let listener = TcpListener::bind((GATEWAY, port)).map_err(Error::io("a port for a management controller"))?;
                Bmc::serve(listener, NODES[at], mains, timeline)
            })??;
            bmcs.push(bmc);
        }
        let consoles = consoles.try_into().expect("there are two nodes");
        Ok((consoles, bmcs.try_into().expect("there are two nodes")))
    }

    fn modems(settings: &Settings, sockets: &Path) -> Result<[Handle; 2]> {
        let mut modems = Vec::new();
        for (at, node) in NODES.into_iter().enumerate() {
            let options = ModemOptions {
                line: Line::Unix(sockets.join(format!("{node}.phone"))),
                record: Some(settings.folder.join(format!("{node}-phones.jsonl"))),
                timing: settings.modem,
                number: format!("+861380010050{}", at + 1),
                ..ModemOptions::default()
            };
            modems.push(Simulator::start(options).map_err(Error::io(format!("modem of node {node}")))?);
        }
        Ok(modems.try_into().expect("there are two nodes"))
    }

    /// A machine, for what only this rig can.
    #[must_use]
    pub fn machine(&self, node: &str) -> &Arc<Machine> {
        &self.machines[index(node)]
    }

    /// The network of the machines.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The simulated modem of a node.
    #[must_use]
    pub fn modem(&self, node: &str) -> &Handle {
        &self.modems[index(node)]
    }

    /// Fills the file system of a partition of nodes that are off ([`crate::recover::fill`]); nodes that share it (the mail) in one call.
    ///
    /// # Errors
    /// A node is on, or as [`crate::recover::fill`].
    pub fn fill(&self, nodes: &[&str], partition: &str, leave_bytes: Option<u64>) -> Result<()> {
        self.timeline.note("rig", &format!("{partition} of {nodes:?} is filled but for {leave_bytes:?} bytes"));
        let disks = self.raw_disks(nodes)?;
        crate::recover::fill(&disks, partition, leave_bytes).map_err(Error::io(format!("fill {partition}")))
    }

    /// Takes away what [`Qemu::fill`] wrote.
    ///
    /// # Errors
    /// The same.
    pub fn empty(&self, nodes: &[&str], partition: &str) -> Result<()> {
        self.timeline.note("rig", &format!("{partition} of {nodes:?} has room again"));
        let disks = self.raw_disks(nodes)?;
        crate::recover::empty(&disks, partition).map_err(Error::io(format!("empty {partition}")))
    }

    fn raw_disks(&self, nodes: &[&str]) -> Result<Vec<PathBuf>> {
        let disks: Result<Vec<_>> = nodes.iter().map(|node| self.machine(node).raw_disks()).collect();
        Ok(disks?.concat())
    }

    /// The mail server outside.
    #[must_use]
    pub fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Where the switch of a node's power is, for the peer that uses it.
    #[must_use]
    pub fn switch_address(&self, node: &str) -> SocketAddr {
        self.bmcs[index(node)].at()
    }

    /// Folder of the witness.
    #[must_use]
    pub fn witness_folder(&self) -> PathBuf {
        self.settings.folder.join("witness")
    }

    /// Makes a pair known to the witness.
    ///
    /// # Errors
    /// It refuses.
    pub fn enrol(&self, cluster: u64, key_file: &Path) -> Result<()> {
        let (dir, key) = (shown(&self.witness_folder()), shown(key_file));
        let program = shown(&self.settings.program);
        self.space.tool(&program, &["witness", "--dir", &dir, "--enrol", &cluster.to_string(), "--key-file", &key]).map(drop)
    }

    /// A new disk file of a node; its name is its serial number.
    fn fresh_disk(&self, node: &str, serial: &str, bytes: u64) -> Result<Disk> {
        let file = self.settings.folder.join(format!("{node}-{serial}.raw"));
        let _ = std::fs::remove_file(&file);
        let made = std::fs::File::create(&file).and_then(|made| made.set_len(bytes));
        made.map_err(Error::io(shown(&file)))?;
        Ok(Disk { file, serial: serial.to_owned(), raw: true })
    }
}

/// Numbers of the ends at the patch panel: of node a; those of node b are one more.
const HEARTBEAT: usize = 0;
const MODEM_PORT: usize = 2;
const MODEM: usize = 4;

impl Rig for Qemu {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    fn console(&self, node: &str) -> &Console {
        &self.consoles[index(node)]
    }

    fn address(&self, node: &str) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 9, 0, if node == "a" { 11 } else { 12 }))
    }

    fn service(&self) -> IpAddr {
        IpAddr::V4(SERVICE)
    }

    fn door(&self) -> Door {
        let space = self.space.clone();
        Box::new(move || space.enter())
    }

    fn power(&self, node: &str, on: bool) -> Result<()> {
        let firmware = self.machine(node).options().start == Start::Uefi;
        self.patch.firmware(HEARTBEAT + index(node), firmware);
        switch(&self.machines, index(node), on)
    }

    fn has_power(&self, node: &str) -> Result<bool> {
        Ok(self.machine(node).is_on())
    }

    fn reset(&self, node: &str) -> Result<()> {
        self.console(node).forget();
        self.machine(node).qmp()?.order("system_reset", serde_json::Value::Null).map(drop)
    }

    fn cable(&self, node: &str, cable: Cable, fault: Fault) -> Result<()> {
        let at = index(node);
        self.timeline.note("rig", &format!("cable {cable:?} of node {node}: {fault:?}"));
        let wire = match fault {
            Fault::None => Wire::Whole,
            Fault::Pulled => Wire::Cut,
            Fault::Garbled(share) => Wire::Garbled(share),
            Fault::Slow(rate) => Wire::Slow(rate),
        };
        let up = match fault {
            Fault::None => true,
            Fault::Pulled => false,
            _ if matches!(cable, Cable::Serial | Cable::Modem) => true,
            _ => return cannot("garble or slow down a network cable"),
        };
        match cable {
            Cable::Eth1 => {
                for machine in self.machines.iter().filter(|machine| machine.is_on()) {
                    machine.link("pair", up)?;
                }
            }
            Cable::Lan => self.machine(node).link("lan", up)?,
            Cable::Serial => {
                self.patch.wire(HEARTBEAT + at, wire);
                // A cable that is pulled is pulled for both directions.
                if matches!(fault, Fault::None | Fault::Pulled) {
                    self.patch.wire(HEARTBEAT + 1 - at, wire);
                }
            }
            Cable::Modem => {
                self.patch.wire(MODEM_PORT + at, wire);
                self.patch.wire(MODEM + at, wire);
            }
            Cable::Switch => self.bmcs[at].unplug(!up),
        }
        Ok(())
    }

    fn swap_serial(&self, node: &str, swapped: bool) -> Result<()> {
        let at = index(node);
        let peer = HEARTBEAT + 1 - at;
        if swapped {
            self.patch.plug(HEARTBEAT + at, MODEM + at);
            self.patch.plug(MODEM_PORT + at, peer);
        } else {
            self.patch.plug(MODEM_PORT + at, MODEM + at);
            self.patch.plug(HEARTBEAT + at, peer);
        }
        Ok(())
    }

    fn pull_disk(&self, node: &str, bay: usize) -> Result<()> {
        self.timeline.note("rig", &format!("the disk of bay {bay} of node {node} is pulled"));
        self.machine(node).pull(bay - 1).map(drop)
    }

    fn insert_disk(&self, node: &str, bay: usize, disk: NewDisk) -> Result<()> {
        self.timeline.note("rig", &format!("bay {bay} of node {node} gets {disk:?}"));
        let place = |serial: &str| self.settings.folder.join(format!("{node}-{serial}.raw"));
        let free = |begin: &str| {
            let number = (1..).find(|n| !place(&format!("{begin}{n}")).exists()).unwrap_or(1);
            format!("{begin}{number}")
        };
        let disk = match disk {
            NewDisk::Same => {
                let file = self.settings.folder.join(format!("{node}-{bay}.qcow2"));
                Disk { file, serial: format!("TP-{}-{bay}", node.to_uppercase()), raw: false }
            }
            NewDisk::Blank(bytes) => self.fresh_disk(node, &free("NEW-"), bytes)?,
            NewDisk::Foreign(bytes) => {
                let disk = self.fresh_disk(node, &free("OLD-"), bytes)?;
                tool("mkfs.ext4", &["-q", "-F", "-L", "somebody", &shown(&disk.file)])?;
                disk
            }
        };
        self.machine(node).insert(bay - 1, disk)
    }

    fn stall(&self, node: &str) -> Result<()> {
        self.machine(node).qmp()?.order("stop", serde_json::Value::Null).map(drop)
    }

    fn go_on(&self, node: &str) -> Result<()> {
        self.machine(node).qmp()?.order("cont", serde_json::Value::Null).map(drop)
    }

    fn panic(&self, node: &str) -> Result<()> {
        // A non-maskable interrupt, with the kernel told at its start to panic at one.
        self.console(node).forget();
        self.machine(node).qmp()?.order("inject-nmi", json!({})).map(drop)
    }

    fn clock_offset(&self, node: &str, offset_s: i64) -> Result<()> {
        self.machine(node).choose(|options| options.clock_offset_s = offset_s);
        Ok(())
    }

    fn kernel_words(&self, node: &str, words: &str) -> Result<()> {
        self.machine(node).choose(|options| words.clone_into(&mut options.words));
        Ok(())
    }

    fn witness(&self, on: bool) -> Result<()> {
        let mut witness = lock(&self.witness);
        if let Some(mut child) = witness.take() {
            end(&mut child);
        }
        self.timeline.note("rig", if on { "the witness starts" } else { "the witness stops" });
        if on {
            let folder = self.witness_folder();
            std::fs::create_dir_all(&folder).map_err(Error::io(shown(&folder)))?;
            let words =
                ["witness", "--dir", &shown(&folder), "--listen", &format!("{GATEWAY}:{WITNESS_PORT}")].map(str::to_owned);
            let log = self.timeline.folder().join("witness.log");
            *witness = Some(self.space.start(&shown(&self.settings.program), &words, &log)?);
        }
        Ok(())
    }

    fn hang_modem(&self, node: &str) -> Result<()> {
        self.timeline.note("rig", &format!("the modem of node {node} hangs"));
        let order = self.modem(node).order(Order::Hang(Until::Cfun));
        order.map_err(|said| Error::Tool { what: format!("modem of node {node}"), said })
    }

    fn phones(&self) -> Result<Vec<(String, String)>> {
        Ok(self.modems.iter().flat_map(Handle::received).map(|text| (text.number, text.text)).collect())
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        for node in NODES {
            self.machine(node).off();
        }
        if let Some(mut child) = lock(&self.witness).take() {
            end(&mut child);
        }
        let (bmcs, outside) = (&self.bmcs, &self.outside);
        let _ = self.space.within(|| {
            bmcs.iter().for_each(Bmc::end);
            outside.end();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::{Disks, Qemu, Settings};
    use crate::machine::Start;
    use crate::rig::{Cable, Fault, NewDisk, Rig};
    use crate::{Image, SWITCH_PASSWORD, SWITCH_USER, Timeline};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use twinpost_fencing::{Power, PowerOff, PowerSwitch, Redfish, RedfishSettings};

    /// An image with an empty disk: the firmware finds nothing to start, and that is enough for what is around it.
    fn blank(folder: &Path) -> Image {
        let disk = folder.join("disk.img");
        std::fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
        Image {
            kernel: disk.clone(),
            initrd: disk.clone(),
            disk,
            cmdline: [String::new(), String::new()],
            version: "none".to_owned(),
            id: "none".to_owned(),
            folder: folder.to_owned(),
        }
    }

    #[test]
    fn machines_without_a_system_have_power_cables_and_bays() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let timeline = Timeline::begin(&folder.path().join("log")).quiet();
        let mut settings = Settings::new(blank(folder.path()), "/bin/true".into(), folder.path().join("rig"));
        settings.disk_bytes = 64 << 20;
        let rig = Qemu::prepare(settings, &Disks::Fresh, timeline).unwrap();
        for node in ["a", "b"] {
            rig.machine(node).choose(|options| {
                options.start = Start::Uefi;
                options.memory_mib = 128;
            });
            rig.power(node, true).unwrap();
        }
        rig.cable("a", Cable::Lan, Fault::Pulled).unwrap();
        rig.cable("a", Cable::Eth1, Fault::Pulled).unwrap();
        rig.cable("a", Cable::Serial, Fault::Garbled(0.1)).unwrap();
        assert!(rig.cable("a", Cable::Lan, Fault::Slow(1)).is_err());
        rig.stall("a").unwrap();
        rig.go_on("a").unwrap();

        // The product's own driver, as node b uses it on node a.
        let file = folder.path().join("password");
        std::fs::write(&file, format!("{SWITCH_PASSWORD}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let base = format!("http://{}", rig.switch_address("a"));
        let (first, last) = rig
            .space()
            .within(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let switch = Redfish::new(RedfishSettings::new(base, None, SWITCH_USER, file)).unwrap();
                    (switch.read().await.unwrap(), switch.off().await.unwrap())
                })
            })
            .unwrap();
        assert_eq!((first, last), (Power::On, PowerOff::ReadBackOff));
        assert!(!rig.has_power("a").unwrap() && rig.has_power("b").unwrap());
        assert!(rig.machine("a").qmp().is_err());

        rig.pull_disk("a", 2).unwrap();
        assert!(rig.pull_disk("a", 2).is_err(), "the bay is empty");
        rig.insert_disk("a", 2, NewDisk::Foreign(16 << 20)).unwrap();
        assert!(rig.insert_disk("a", 2, NewDisk::Same).is_err(), "the bay is not empty");
        rig.power("a", true).unwrap();
        let pid = rig.machine("b").pid().unwrap();
        drop(rig);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
