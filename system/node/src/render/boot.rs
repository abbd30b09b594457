//! `twinpost boot`: from a machine that has its root file system to one that has its names, its disks and its network.
//!
//! Contract: runs once, before the network and the services, as root. Board by the firmware's words; ports named and switched on while the
//! arrays are put together; the state volume; then everything that the documents on it say. Writes `boot.json` whatever happens, and returns
//! what is in it. It never fails: a part that is missing, a document with faults, a program that says no is a [`Fault`] in the report.
//!
//! What does not come up within its time is left out: a boot waits for a slow disk, not for ever.

use super::{Facts, Fault, devices, files, host_name, network, write};
use crate::api::{BOOT_REPORT, INIT_REPORT, NODE_FOLDER, Text};
use crate::filter;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use twinpost_board::{BOARDS_DIR, Board, CHANGES_FILE, Detected, Dmi, NicRole, Roles, SerialRole, detect};
use twinpost_config::{Document, NodeDocument};
use twinpost_disks::{Array, Arrays, Machine, Mounted, Port, StateVolume};
use twinpost_storage::Program;

/// How long a boot waits for parts that the board names: a spinning disk needs ten seconds from power-on to its first answer.
const PARTS_WAIT: Duration = Duration::from_secs(10);
/// How long for the link of an unknown machine's LAN: 1000BASE-T negotiates for two to four seconds.
const LINK_WAIT: Duration = Duration::from_secs(6);
/// Between two looks at /sys, which tells nobody when something appears.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Loading a module, binding a folder.
const PROGRAM_WAIT: Duration = Duration::from_secs(10);

/// Where everything is: replaced by tests.
#[derive(Clone, Debug)]
pub struct Sys {
    /// Root of what is written: /etc, /run.
    pub root: PathBuf,
    /// sysfs.
    pub sys: PathBuf,
    /// procfs.
    pub proc: PathBuf,
    /// Device nodes.
    pub dev: PathBuf,
    /// Boards of the image.
    pub boards: PathBuf,
    /// Where the state volume is mounted.
    pub state: PathBuf,
    /// Folder of the node.
    pub node: PathBuf,
    /// The administrator's changes of the board.
    pub changes: PathBuf,
    /// The report.
    pub report: PathBuf,
    /// The report of the first program.
    pub init_report: PathBuf,
    /// `modprobe`.
    pub modprobe: Program,
    /// `udevadm`.
    pub udevadm: Program,
    /// `mount`.
    pub mount: Program,
    /// `systemctl`.
    pub systemctl: Program,
    /// `nft`.
    pub nft: Program,
    /// How long to wait for parts that are not there yet.
    pub parts_wait: Duration,
    /// Set the kernel's host name and network.
    pub kernel: bool,
}

impl Default for Sys {
    fn default() -> Self {
        Self {
            root: "/".into(),
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
            boards: BOARDS_DIR.into(),
            state: "/state".into(),
            node: NODE_FOLDER.into(),
            changes: CHANGES_FILE.into(),
            report: BOOT_REPORT.into(),
            init_report: INIT_REPORT.into(),
            modprobe: Program::new("modprobe"),
            udevadm: Program::new("udevadm"),
            mount: Program::new("mount"),
            systemctl: Program::new("systemctl"),
            nft: Program::new("nft"),
            parts_wait: PARTS_WAIT,
            kernel: true,
        }
    }
}

impl Sys {
    /// The disks of this machine, by these roles.
    #[must_use]
    pub fn machine(&self, roles: &Roles) -> Machine {
        let mut machine = Machine::new(ports(roles));
        machine.paths.sys.clone_from(&self.sys);
        machine.paths.dev.clone_from(&self.dev);
        machine.paths.proc.clone_from(&self.proc);
        machine.paths.state.clone_from(&self.state);
        machine
    }

    /// Board and roles as they are now.
    #[must_use]
    pub fn look(&self) -> (Detected, Roles) {
        let detected = detect(&self.sys, &self.boards, Some(&self.changes));
        let roles = self.resolve(&detected.board);
        (detected, roles)
    }

    /// Roles as they are now. An installer sees the disks of an unknown machine, too.
    fn resolve(&self, board: &Board) -> Roles {
        if self.medium().is_some() { board.resolve_to_install(&self.sys) } else { board.resolve(&self.sys) }
    }

    /// The medium that this start of the machine comes from, when it is an installer's.
    #[must_use]
    pub fn medium(&self) -> Option<PathBuf> {
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&self.init_report).ok()?).ok()?;
        let leg = report["legs"].as_array()?.iter().find(|leg| leg["ok"] == true)?;
        let disk = leg["disk"].as_str().filter(|_| report["install"] == true)?;
        Some(self.dev.join(disk))
    }
}

/// The bays as the crate of the disks wants them.
#[must_use]
pub fn ports(roles: &Roles) -> Vec<Port> {
    let port = |bay: &twinpost_board::BayNow| Port {
        bay: bay.number.to_string(),
        label: bay.label.clone(),
        led: bay.led.clone(),
        device: bay.device.clone(),
    };
    roles.bays.iter().map(port).collect()
}

/// What a boot found and did; `/run/twinpost/boot.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootReport {
    /// Full name of the board.
    pub board: String,
    /// Its name for people.
    pub title: String,
    /// No board fits this machine.
    pub board_unknown: bool,
    /// The administrator's changes of the board hold.
    pub board_changed: bool,
    /// What the firmware says.
    pub dmi: Dmi,
    /// What has which role.
    pub roles: Roles,
    /// The arrays.
    pub disks: Arrays,
    /// The state volume.
    pub state: StateVolume,
    /// This is the installer; the medium that it was started from.
    #[serde(default)]
    pub installer: Option<PathBuf>,
    /// This node's letter; none before a setup.
    pub node: Option<String>,
    /// There is an appliance document without faults.
    pub set_up: bool,
    /// The machine's name.
    pub host_name: String,
    /// What a person should know.
    pub faults: Vec<Fault>,
    /// How long it took.
    pub took_ms: u64,
}

/// Documents of a node, or their defaults with the faults told.
#[must_use]
pub fn documents(node: &Path, faults: &mut Vec<Fault>) -> (NodeDocument, Option<Document>) {
    let mut told = |error: &twinpost_config::Error| {
        faults.push(Fault::new("document", None, error.to_string(), format!("配置有误：{error}")));
    };
    let own = twinpost_config::load_node(node).map_err(|error| told(&error)).unwrap_or_default();
    let path = node.join("appliance.toml");
    // Before a setup there is none.
    let document = path.exists().then(|| twinpost_config::load(&path).map_err(|error| told(&error)).ok()).flatten();
    (own, document)
}

/// Boots the node.
pub async fn boot(sys: &Sys) -> BootReport {
    let began = Instant::now();
    let mut faults = Vec::new();
    let net = sys.proc.join("sys/net");

    // The state volume, and with it the administrator's changes, is not there yet.
    let ((first, roles), guarded) = tokio::join!(parts(sys), filter::guard(&sys.nft));
    faults.extend(guarded.fault.map(|text| Fault::new("firewall", None, text.en, text.zh)));
    let machine = sys.machine(&roles);
    // Without a filter the LAN is left alone: its port stays off.
    let allowed = |mut plan: network::Plan| {
        plan.ports.retain(|port| guarded.lan || port.name != NicRole::Lan.as_str());
        plan
    };
    let bare = allowed(network::bare(&roles));
    let installer = sys.medium();
    let ((disks, state), bare_faults) = tokio::join!(
        async {
            if installer.is_some() {
                // The disks of the machine are free to be written.
                return (Arrays::default(), machine.open_state_of_installer().await);
            }
            let disks = machine.assemble().await;
            let state = machine.open_state().await;
            (disks, state)
        },
        async { if sys.kernel { network::apply(&bare, &net).await } else { Vec::new() } }
    );
    faults.extend(bare_faults);
    for fault in disks.faults.iter().chain(&state.faults) {
        faults.push(Fault {
            code: fault.code.clone(),
            part: fault.bay.as_ref().map(|bay| format!("bay.{bay}")),
            text: Text::new(&fault.text.en, &fault.text.zh),
        });
    }
    if state.mounted == Mounted::Volatile && installer.is_none() && !faults.iter().any(|f| f.code == "state_volatile") {
        let (en, zh) = state.reason.as_ref().map_or(("", ""), |r| (r.en.as_str(), r.zh.as_str()));
        let en = format!("what this node remembers is in memory only and gone at the next boot: {en}");
        faults.push(Fault::new("state_volatile", None, en, format!("节点状态仅保存在内存中，重启后丢失：{zh}")));
    }

    if state.mounted == Mounted::Persistent {
        faults.extend(finish_reset(&sys.state, &disks).await);
    }

    let (detected, mut roles) = sys.look();
    // Other bays may hold other members.
    let disks = if installer.is_some() || sys.machine(&roles).ports == machine.ports {
        disks
    } else {
        sys.machine(&roles).assemble().await
    };
    if sys.kernel && roles.interface(NicRole::Lan).is_none() && detected.board.careful.lan_first_with_link {
        roles = wait_for_link(sys, &detected).await;
    }
    for fault in &detected.faults {
        faults.push(Fault::new("board_data", None, format!("board: {fault}"), format!("主板数据：{fault}")));
    }
    if detected.unknown && !detected.changed {
        let (vendor, product) = (detected.dmi.field("sys_vendor"), detected.dmi.field("product_name"));
        faults.push(Fault::new(
            "board_unknown",
            None,
            format!("this machine ({vendor} {product}) is not known: only what can do no harm is used (docs/manual/boards.md)"),
            format!("未知机型（{vendor} {product}）：只使用不会造成损害的部件（docs/manual/boards.md）"),
        ));
    }
    if first.board.full_name() != detected.board.full_name() {
        tracing::info!(from = first.board.full_name(), to = detected.board.full_name(), "the administrator chose another board");
    }

    let (node, document) = documents(&sys.node, &mut faults);
    let id = machine_id(sys, &state, &mut faults);
    faults.extend(keep_journal(sys, &state).await);
    let mut all = files(Facts { node: &node, document: document.as_ref(), machine_id: id.as_deref() });
    if let Some(rules) = devices::rules(&roles) {
        all.insert(devices::RULES_FILE.into(), rules);
    }
    faults.extend(write(&sys.root, &all));
    if sys.kernel {
        if let Err(errno) = nix::unistd::sethostname(host_name(&node)) {
            faults.push(Fault::new(
                "file",
                None,
                format!("cannot set the host name: {errno}"),
                format!("无法设置主机名：{errno}"),
            ));
        }
        faults.extend(network::apply(&allowed(network::plan(&node, &roles)), &net).await);
    }
    faults.extend(watchdog(sys, &detected, &mut roles).await);
    // Names may have changed, and the watchdog has its device.
    roles = sys.resolve(&detected.board);
    faults.extend(devices::link(&sys.dev, &roles));
    faults.extend(menus(sys, &roles).await);
    for missing in &roles.missing {
        faults.push(Fault::new("part_missing", Some(&missing.part), &missing.en, &missing.zh));
    }
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let report = BootReport {
        board: detected.board.full_name(),
        title: detected.board.title.clone(),
        board_unknown: detected.unknown,
        board_changed: detected.changed,
        dmi: detected.dmi,
        roles,
        disks,
        state,
        installer,
        node: node.node.name.clone(),
        set_up: document.is_some(),
        host_name: host_name(&node),
        faults,
        took_ms,
    };
    save(sys, &report);
    report
}

/// A factory reset that was ordered before this start, before anything is read of the state volume and while nothing replicates.
async fn finish_reset(state: &Path, disks: &Arrays) -> Option<Fault> {
    let (state, mail) = (state.to_owned(), disks.of(Array::Mail).map(|array| array.device.clone()));
    let done = tokio::task::spawn_blocking(move || crate::reset::complete(&state, mail.as_deref())).await;
    match done {
        Ok(Ok(Some(done))) if done.marker.mail && !done.mail_erased => Some(Fault::new(
            "reset_mail",
            None,
            "the node was reset, but it has no mail array that could be opened: the mail on its disks was not erased",
            "节点已恢复出厂设置，但没有可打开的邮件阵列：磁盘上的邮件未被清除",
        )),
        Ok(Ok(_)) => None,
        Ok(Err(why)) => why.reasons().into_iter().next().map(|text| {
            let (en, zh) = (text.en, text.zh);
            Fault::new(
                "reset_failed",
                None,
                format!("the factory reset is not complete, the next start goes on with it: {en}"),
                format!("恢复出厂设置未完成，下次启动时继续：{zh}"),
            )
        }),
        Err(why) => {
            Some(Fault::new("reset_failed", None, format!("the factory reset ended: {why}"), format!("恢复出厂设置中断：{why}")))
        }
    }
}

fn save(sys: &Sys, report: &BootReport) {
    for fault in &report.faults {
        tracing::warn!(code = fault.code, part = fault.part.as_deref().unwrap_or(""), "{}", fault.text.en);
    }
    tracing::info!(
        board = report.board,
        node = report.node.as_deref().unwrap_or("-"),
        faults = report.faults.len(),
        took_ms = report.took_ms,
        "booted"
    );
    let text = serde_json::to_string_pretty(report).unwrap_or_default();
    if let Err(error) = files::write_one(&sys.report, &text) {
        tracing::error!(%error, path = %sys.report.display(), "the report of the boot cannot be written");
    }
}

/// The board and its parts, after those that are still being found have had their time.
async fn parts(sys: &Sys) -> (Detected, Roles) {
    let begun = Instant::now();
    let mut settled = false;
    loop {
        let (detected, roles) = sys.look();
        // What the kernel has found long before: serial ports, and what nobody has named.
        let slow = |part: &str| part.starts_with("bay.") || part == "nic.lan" || part == "nic.pair" || part == "serial.modem";
        let careful = detected.board.careful.lan_first_with_link;
        let waits = roles.missing.iter().any(|m| slow(&m.part) && !(careful && m.part.starts_with("nic.")));
        if !waits || begun.elapsed() >= sys.parts_wait {
            return (detected, roles);
        }
        if settled {
            tokio::time::sleep(LOOK_EVERY).await;
        } else {
            // Drivers are being loaded by udev: most of what is missing comes with them.
            let limit = format!("--timeout={}", sys.parts_wait.as_secs().max(1));
            if let Err(error) = sys.udevadm.run(&["settle", &limit], sys.parts_wait + PROGRAM_WAIT).await {
                tracing::warn!(%error, "could not wait for the drivers");
            }
            settled = true;
        }
    }
}

/// Switches every port of an unknown machine on and waits until one has a link.
async fn wait_for_link(sys: &Sys, detected: &Detected) -> Roles {
    let folder = sys.sys.join("class/net");
    let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    // Ports of cards have a device; loopback and bridges have none.
    let names: Vec<String> =
        names.filter(|e| e.path().join("device").exists()).filter_map(|e| e.file_name().into_string().ok()).collect();
    if let Err(error) = network::raise(&names).await {
        tracing::warn!(%error, "a network port cannot be switched on");
    }
    let begun = Instant::now();
    loop {
        let roles = sys.resolve(&detected.board);
        if roles.interface(NicRole::Lan).is_some() || begun.elapsed() >= LINK_WAIT {
            return roles;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The identity of this installation for logs (machine-id(5)): made once, kept on the state volume.
fn machine_id(sys: &Sys, state: &StateVolume, faults: &mut Vec<Fault>) -> Option<String> {
    let sound =
        |text: String| Some(text.trim().to_owned()).filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let now = std::fs::read_to_string(sys.root.join("etc/machine-id")).ok().and_then(sound);
    if state.mounted == Mounted::Volatile {
        return now;
    }
    let kept = sys.state.join("system/machine-id");
    if let Some(id) = std::fs::read_to_string(&kept).ok().and_then(sound) {
        return Some(id);
    }
    // systemd made one for this boot: it is as good as any.
    let id = now.or_else(|| {
        let random = std::fs::read_to_string(sys.proc.join("sys/kernel/random/uuid")).ok()?;
        sound(random.replace('-', ""))
    })?;
    if let Err(error) = files::write_one(&kept, &format!("{id}\n")) {
        faults.push(Fault::new(
            "file",
            None,
            format!("cannot keep the machine's identity: {error}"),
            format!("无法保存机器标识：{error}"),
        ));
    }
    Some(id)
}

/// Logs go to the state volume: journald writes below /var/log/journal once that folder is there.
async fn keep_journal(sys: &Sys, state: &StateVolume) -> Vec<Fault> {
    let place = sys.root.join("var/log/journal");
    let from = sys.state.join("log/journal");
    let text = place.display().to_string();
    let mounted = std::fs::read_to_string(sys.proc.join("self/mountinfo"))
        .is_ok_and(|all| all.lines().any(|line| line.split(' ').nth(4) == Some(text.as_str())));
    if state.mounted == Mounted::Volatile || mounted {
        return Vec::new();
    }
    let made = std::fs::create_dir_all(&from).and_then(|()| std::fs::create_dir_all(&place)).map_err(|e| e.to_string());
    let from = from.display().to_string();
    let bound = match made {
        Ok(()) => sys.mount.ok(&["--bind", &from, &text], PROGRAM_WAIT).await.map(drop).map_err(|e| e.to_string()),
        Err(error) => Err(error),
    };
    let told = |error: String| {
        Fault::new("journal", None, format!("logs are kept in memory only: {error}"), format!("日志只保存在内存中：{error}"))
    };
    bound.map_err(told).err().into_iter().collect()
}

/// The image starts a menu on the screen and on ttyS0. Where the board has its menu on another port, that one is started too; and where ttyS0 has
/// another role, its menu must not come: it would speak to the peer, or to the modem.
async fn menus(sys: &Sys, roles: &Roles) -> Option<Fault> {
    const IMAGES: &str = "ttyS0";
    let name = |port: &twinpost_board::SerialNow| Some(port.device.as_ref()?.file_name()?.to_str()?.to_owned());
    let menu = roles.serial.iter().find(|port| port.role == SerialRole::Console).and_then(name);
    let taken = roles.serial.iter().any(|port| port.role != SerialRole::Console && name(port).as_deref() == Some(IMAGES));
    let mut outcome = Ok(());
    if taken {
        // The kernel's command line is the image's and names this port, too: the kernel lets go of it. Documentation/ABI/testing/sysfs-tty: console.
        let kernels = sys.sys.join("class/tty").join(IMAGES).join("console");
        if kernels.exists()
            && let Err(error) = std::fs::write(&kernels, "N")
        {
            tracing::warn!(%error, "the kernel goes on to speak on {IMAGES}, which has another role");
        }
        let unit = format!("twinpost-console@{IMAGES}.service");
        outcome = sys.systemctl.ok(&["mask", "--runtime", &unit], PROGRAM_WAIT).await.map(drop);
    }
    if let Some(menu) = menu.filter(|menu| menu != IMAGES) {
        let unit = format!("twinpost-console@{menu}.service");
        outcome = outcome.and(sys.systemctl.ok(&["--no-block", "start", &unit], PROGRAM_WAIT).await.map(drop));
    }
    let error = outcome.err()?;
    Some(Fault::new(
        "console",
        Some("serial.console"),
        format!("the menu on the serial line is not where it should be: {error}"),
        format!("串口菜单不在应有的端口：{error}"),
    ))
}

/// Loads the watchdog's driver with the board's time. It counts only once the pair daemon has opened it.
async fn watchdog(sys: &Sys, detected: &Detected, roles: &mut Roles) -> Option<Fault> {
    let wanted = roles.watchdog.clone()?;
    let module = wanted.driver.as_str();
    // Debian keeps watchdog drivers on its list of those that are not loaded by alias; by its name a module is loaded all the same.
    let mut arguments = vec![module];
    arguments.extend(wanted.parameters.iter().map(String::as_str));
    let loaded = sys.modprobe.ok(&arguments, PROGRAM_WAIT).await;
    *roles = sys.resolve(&detected.board);
    loaded.err().map(|error| {
        Fault::new(
            "watchdog",
            Some("watchdog"),
            format!("the watchdog {module} cannot be used: {error}"),
            format!("看门狗 {module} 无法使用：{error}"),
        )
    })
}
