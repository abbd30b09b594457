//! From roles to what the running kernel has.
//!
//! Contract: a part is found by its connector alone. What is not there is told with its label, its connector and what to do. Nothing is
//! opened, switched or written here.

use crate::board::{Bay, Board, Careful, Controller, Led, Nic, NicRole, SerialPlace, SerialRole, Source, WatchdogDriver};
use crate::place::{PciAddress, PciPath};
use crate::roles::{BayNow, Interface, Missing, Roles, SensorNow, SerialNow, SupplyNow, WatchdogNow, at};
use crate::sys::{Device, Sys, attribute};
use std::path::{Path, PathBuf};

impl Board {
    /// Finds the parts of this machine under this /sys.
    #[must_use]
    pub fn resolve(&self, sys: &Path) -> Roles {
        self.find(sys, Free::Left)
    }

    /// The same for an installer: where the board does not say which bays it has, every disk of the machine is one, blank ones too. What
    /// becomes of them is decided by a person, who sees them named.
    #[must_use]
    pub fn resolve_to_install(&self, sys: &Path) -> Roles {
        self.find(sys, Free::Shown)
    }

    fn find(&self, sys: &Path, free: Free) -> Roles {
        let sys = Sys::new(sys);
        let found = Found {
            net: sys.devices("class/net").into_iter().filter(|d| !d.way.is_empty()).collect(),
            block: sys.devices("class/block").into_iter().filter(|d| !d.entry.join("partition").exists()).collect(),
            tty: sys.devices("class/tty"),
            pci: sys.devices("bus/pci/devices").into_iter().map(|d| d.way).collect(),
            sys,
        };
        let mut roles = Roles { board: self.full_name(), ..Roles::default() };
        found.network(self, &mut roles);
        found.serial_ports(self, &mut roles);
        found.disks(self, free, &mut roles);
        found.watchdog(self, &mut roles);
        found.readings(self, &mut roles);
        if let Some(version) = self.tpm {
            let device = found.sys.devices("class/tpm").first().map(|d| Path::new("/dev").join(&d.name));
            if device.is_none() {
                roles.say(
                    "tpm",
                    "the TPM does not answer: it may be switched off in the firmware's setup",
                    "TPM 没有响应：可能在固件设置中被关闭",
                );
            }
            roles.tpm = Some((version, device));
        }
        if let Some(module) = &self.buzzer {
            let event =
                found.sys.devices("class/input").into_iter().find(|d| d.name.starts_with("event") && d.folders.contains(module));
            roles.buzzer = Some((module.clone(), event.map(|d| Path::new("/dev/input").join(d.name))));
        }
        roles
    }
}

/// Disks of an unknown machine that do not carry Twinpost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Free {
    Left,
    Shown,
}

impl Roles {
    fn say(&mut self, part: impl Into<String>, en: impl Into<String>, zh: impl Into<String>) {
        self.missing.push(Missing { part: part.into(), en: en.into(), zh: zh.into() });
    }
}

struct Found {
    sys: Sys,
    net: Vec<Device>,
    /// Whole disks.
    block: Vec<Device>,
    tty: Vec<Device>,
    /// The way to every PCI function.
    pci: Vec<Vec<PciAddress>>,
}

impl Found {
    fn has_function(&self, path: &PciPath) -> bool {
        self.pci.iter().any(|way| path.is(way))
    }

    fn nic(&self, nic: &Nic) -> Option<&Device> {
        self.net.iter().find(|d| nic.pci.is(&d.way) && d.number("dev_port").unwrap_or(0) == u64::from(nic.port))
    }

    fn network(&self, board: &Board, roles: &mut Roles) {
        for (role, nic) in &board.nics {
            let device = self.nic(nic);
            let at = at(&nic.pci, nic.port);
            if device.is_none() {
                let (en, zh) = if self.has_function(&nic.pci) {
                    ("the card is there, but no driver of this image took it", "网卡存在，但此系统没有驱动")
                } else {
                    (
                        "no card is there; is the port switched off in the firmware's setup?",
                        "该位置没有网卡；是否在固件设置中被关闭？",
                    )
                };
                roles.say(
                    format!("nic.{role}"),
                    format!("network port {role} (label '{}'): nothing at {at}: {en}", nic.label),
                    format!("网口 {role}（标签“{}”）：{at} 处没有设备：{zh}", nic.label),
                );
            }
            roles.interfaces.push(interface(*role, &nic.label, nic.pci.clone(), nic.port, device));
        }
        if board.careful.lan_first_with_link && !board.nics.contains_key(&NicRole::Lan) {
            self.lan_by_link(roles);
        }
        if board.careful != Careful::default() && !board.nics.contains_key(&NicRole::Pair) {
            roles.say(
                "nic.pair",
                "nobody has said which port the crossover cable is in: `twinpost ctl setup --part nic.pair=PORT` (`twinpost ctl board explain` lists the ports)",
                "尚未指定哪个网口接对端直连线：`twinpost ctl setup --part nic.pair=网口`（`twinpost ctl board explain` 列出网口）",
            );
        }
    }

    /// The careful board's LAN.
    fn lan_by_link(&self, roles: &mut Roles) {
        let taken: Vec<&str> = roles.interfaces.iter().filter_map(|i| i.name.as_deref()).collect();
        let mut ports: Vec<&Device> = self.net.iter().filter(|d| !taken.contains(&d.name.as_str())).collect();
        // What is called lan already (lan-port below a VLAN) was chosen earlier in this life of the kernel: it stays.
        let is_lan = |d: &Device| [NicRole::Lan.as_str(), "lan-port"].contains(&d.name.as_str());
        ports.sort_by_key(|d| (!is_lan(d), d.way.clone(), d.number("dev_port").unwrap_or(0)));
        let chosen = ports.iter().find(|d| is_lan(d) || d.number("carrier") == Some(1));
        let chosen = chosen.or(if ports.len() == 1 { ports.first() } else { None }).copied();
        match chosen.and_then(|device| Some((device, PciPath::of(&device.way)?))) {
            Some((device, pci)) => {
                let port = device.number("dev_port").and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
                roles.interfaces.push(interface(NicRole::Lan, "first port with a link", pci, port, Some(device)));
            }
            None if ports.is_empty() => {
                roles.say("nic.lan", "no network card was found that this image has a driver for", "没有找到此系统支持的网卡");
            }
            None => {
                let names: Vec<&str> = ports.iter().map(|d| d.name.as_str()).collect();
                let names = names.join(", ");
                roles.say(
                    "nic.lan",
                    format!(
                        "no network port has a link ({names}): plug the LAN's cable in, or name the port with `twinpost ctl setup --part nic.lan=PORT`"
                    ),
                    format!("没有网口有链路（{names}）：请插上局域网网线，或用 `twinpost ctl setup --part nic.lan=网口` 指定"),
                );
            }
        }
    }

    fn tty_at(&self, place: &SerialPlace) -> Option<&Device> {
        // A port of the table without a chip behind it has type 0 (PORT_UNKNOWN).
        let real = |d: &&Device| d.number("type") != Some(0);
        match place {
            SerialPlace::Io(address) => self.tty.iter().filter(real).find(|d| d.number("port") == Some(u64::from(*address))),
            SerialPlace::Pci(path, port) => {
                let mut ports =
                    self.tty.iter().filter(real).filter(|d| path.is(&d.way) && !d.folders.iter().any(|f| f.starts_with("usb")));
                ports.nth(usize::try_from(*port).ok()?)
            }
            SerialPlace::Acpi(name) => {
                let named = |d: &&Device| attribute(&d.entry.join("device/firmware_node/path")).as_ref() == Some(name);
                self.tty.iter().filter(real).find(named)
            }
            SerialPlace::Usb(controller, port, interface) => self.tty.iter().find(|d| {
                controller.is(&d.way)
                    && d.folders.iter().any(|folder| {
                        // 1-2:1.0 is interface 0 of configuration 1 of the device 1-2.
                        folder.split_once(':').is_some_and(|(device, rest)| {
                            port.is(device) && rest.split_once('.').is_some_and(|(_, i)| i.parse() == Ok(*interface))
                        })
                    })
            }),
        }
    }

    fn serial_ports(&self, board: &Board, roles: &mut Roles) {
        for (role, serial) in &board.serials {
            let device = self.tty_at(&serial.at).map(|d| Path::new("/dev").join(&d.name));
            // An unknown machine need not have the serial line that is tried for the menu.
            let guessed = board.careful != Careful::default() && *role == SerialRole::Console;
            if device.is_none() && !guessed {
                let (en, zh) = match &serial.at {
                    SerialPlace::Usb(..) => ("is it plugged in there, and has it power?", "是否插在该接口并已通电？"),
                    _ => ("is the port switched off in the firmware's setup?", "是否在固件设置中被关闭？"),
                };
                roles.say(
                    format!("serial.{role}"),
                    format!("serial port {role} (label '{}'): nothing at {}: {en}", serial.label, serial.at),
                    format!("串口 {role}（标签“{}”）：{} 处没有设备：{zh}", serial.label, serial.at),
                );
            }
            roles.serial.push(SerialNow {
                role: *role,
                label: serial.label.clone(),
                place: serial.at.clone(),
                at: serial.at.to_string(),
                device,
                baud: serial.baud,
                flow: serial.flow,
            });
        }
        if board.careful != Careful::default() && !board.serials.contains_key(&SerialRole::Heartbeat) {
            roles.say(
                "serial.heartbeat",
                "nobody has said which serial port the null-modem cable is in: `twinpost ctl setup --part serial.heartbeat=PORT`",
                "尚未指定哪个串口接零调制解调器线：`twinpost ctl setup --part serial.heartbeat=串口`",
            );
        }
    }

    fn disk_in(&self, bay: &Bay) -> Option<String> {
        let here = |d: &&Device| bay.pci.is(&d.way);
        let disk = match bay.controller {
            Controller::VirtioBlk => self.block.iter().filter(here).find(|d| d.name.starts_with("vd")),
            Controller::Nvme => self.block.iter().filter(here).find(|d| d.name.starts_with("nvme")),
            Controller::Ahci => self.block.iter().filter(here).find(|d| ata_port(d) == Some(u64::from(bay.port))),
            Controller::SasPhy => self.block.iter().filter(here).find(|d| sas_phy(d) == Some(u64::from(bay.port))),
            Controller::SasSlot => self.block.iter().filter(here).find(|d| sas_slot(d) == Some(u64::from(bay.port))),
        };
        disk.map(|d| whole_name(&d.name))
    }

    fn led_of(&self, bay: &Bay) -> Option<PathBuf> {
        match bay.led.as_ref()? {
            Led::Class(name) => Some(self.sys.root().join("class/leds").join(name).join("brightness")).filter(|p| p.exists()),
            Led::Enclosure => {
                let enclosures = self.sys.devices("class/enclosure");
                let slots = enclosures
                    .iter()
                    .filter(|e| bay.pci.is(&e.way))
                    .flat_map(|e| std::fs::read_dir(&e.path).into_iter().flatten());
                let slot = slots
                    .flatten()
                    .map(|s| s.path())
                    .find(|s| attribute(&s.join("slot")).and_then(|n| n.parse::<u32>().ok()) == Some(bay.port))?;
                Some(slot.join("locate")).filter(|p| p.exists())
            }
        }
    }

    fn disks(&self, board: &Board, free: Free, roles: &mut Roles) {
        for bay in &board.bays {
            let device = self.disk_in(bay).map(|name| Path::new("/dev").join(name));
            if device.is_none() {
                let gone = matches!(bay.controller, Controller::Ahci | Controller::SasPhy | Controller::SasSlot)
                    && !self.has_function(&bay.pci);
                let (en, zh) = if gone {
                    (
                        "the controller itself is not there: is it switched off, or in RAID mode, in the firmware's setup?",
                        "控制器不存在：是否在固件设置中被关闭或设为 RAID 模式？",
                    )
                } else {
                    ("is a disk in the bay, pushed in to the stop?", "盘位中是否有硬盘并已插到底？")
                };
                roles.say(
                    format!("bay.{}", bay.number),
                    format!("bay {} (label '{}'): nothing on {}: {en}", bay.number, bay.label, bay.connector()),
                    format!("盘位 {}（标签“{}”）：{} 上没有硬盘：{zh}", bay.number, bay.label, bay.connector()),
                );
            }
            roles.bays.push(BayNow::of(bay, device, self.led_of(bay), board.boot.contains(&bay.number)));
        }
        if board.careful.own_disks {
            self.own_disks(free, roles);
        }
    }

    /// The careful board's bays: disks that carry our partitions already; for an installer, all. What is plugged in by USB is no bay.
    fn own_disks(&self, free: Free, roles: &mut Roles) {
        let usb = |disk: &&Device| {
            let bus = |folder: &String| folder.strip_prefix("usb").is_some_and(|n| n.parse::<u8>().is_ok());
            disk.folders.iter().any(bus)
        };
        // An empty card reader or drive is a disk without a size.
        let empty = |disk: &&Device| disk.number("size").unwrap_or(0) == 0;
        let ours = |disk: &&Device| {
            let parts = std::fs::read_dir(&disk.path).into_iter().flatten().flatten();
            parts
                .take(1000)
                .filter_map(|part| attribute(&part.path().join("uevent")))
                .any(|u| u.lines().any(|l| l.starts_with("PARTNAME=twinpost-")))
        };
        let mut disks: Vec<&Device> = match free {
            Free::Left => self.block.iter().filter(|d| !d.way.is_empty() && !usb(d)).filter(ours).collect(),
            Free::Shown => self.block.iter().filter(|d| !d.way.is_empty() && !usb(d) && !empty(d)).collect(),
        };
        disks.sort_by_key(|d| (d.way.clone(), ata_port(d), d.path.clone()));
        for (number, disk) in (1..).zip(&disks) {
            let at = disk.way.last().map(ToString::to_string).unwrap_or_default();
            let connector = ata_port(disk).map_or_else(|| format!("PCI {at}"), |port| format!("AHCI {at} port {port}"));
            roles.bays.push(BayNow {
                number,
                label: format!("{connector} (label unknown)"),
                connector,
                device: Some(Path::new("/dev").join(whole_name(&disk.name))),
                led: None,
                boot: true,
            });
        }
        if free == Free::Shown {
            roles.say(
                "bay",
                "the bays of this machine are unknown: all its disks are shown; know them by their serial numbers",
                "未知此机器的盘位：列出全部硬盘，请以序列号辨认",
            );
            return;
        }
        roles.say(
            "bay",
            format!(
                "the bays of this machine are unknown: only the disks that carry Twinpost already are used ({}). Name the bays with `twinpost ctl setup --part bay.1=DISK`",
                disks.len()
            ),
            format!("未知此机器的盘位：只使用已装有 Twinpost 的硬盘（{} 个）。请用 `twinpost ctl setup --part bay.1=硬盘` 指定盘位", disks.len()),
        );
    }

    fn watchdog(&self, board: &Board, roles: &mut Roles) {
        let Some(watchdog) = &board.watchdog else { return };
        let module = watchdog.driver.as_str();
        let loaded = self.sys.root().join("module").join(module).exists();
        let all = self.sys.devices("class/watchdog");
        let module_of = |d: &Device| {
            let module = d.entry.join("device/driver/module").canonicalize().ok()?;
            Some(module.file_name()?.to_str()?.replace('-', "_"))
        };
        // Some drivers (i6300esb among them, in Linux 6.1) do not say on which device their watchdog is: then its identity tells, or that there
        // is no other.
        let by_module = all.iter().find(|d| module_of(d).as_deref() == Some(module));
        let nameless = || all.iter().filter(|d| module_of(d).is_none());
        let by_identity = || {
            let identity = watchdog.driver.identity()?;
            nameless().find(|d| d.attribute("identity").as_deref() == Some(identity))
        };
        let alone = || nameless().next().filter(|_| loaded && all.len() == 1 && watchdog.driver.identity().is_none());
        let device = by_module.or_else(by_identity).or_else(alone);
        let mut device = device.map(|d| Path::new("/dev").join(&d.name));
        // This one is older than the kernel's class of watchdogs and has the miscellaneous device alone.
        let misc = self.sys.root().join("class/misc/watchdog").exists() && loaded;
        if device.is_none() && watchdog.driver == WatchdogDriver::IpmiWatchdog && misc {
            device = Some("/dev/watchdog".into());
        }
        // Before its module is loaded nobody knows.
        if device.is_none() && loaded {
            roles.say(
                "watchdog",
                format!(
                    "the watchdog driver {module} is loaded and found no watchdog: is it switched off in the firmware's setup?"
                ),
                format!("看门狗驱动 {module} 已加载但未找到看门狗：是否在固件设置中被关闭？"),
            );
        }
        let (name, _) = watchdog.driver.parameter();
        let further = watchdog.parameters.iter().map(|(name, value)| format!("{name}={value}"));
        roles.watchdog = Some(WatchdogNow {
            driver: watchdog.driver,
            timeout_s: watchdog.timeout_s,
            parameters: std::iter::once(format!("{name}={}", watchdog.timeout_s)).chain(further).collect(),
            device,
        });
    }

    fn reading(&self, source: &Source) -> Option<PathBuf> {
        let Source::Hwmon(chip, channel) = source else { return None };
        let chip = self.sys.devices("class/hwmon").into_iter().find(|d| d.attribute("name").as_ref() == Some(chip))?;
        Some(chip.entry.join(format!("{channel}_input"))).filter(|file| file.exists())
    }

    fn readings(&self, board: &Board, roles: &mut Roles) {
        for sensor in &board.sensors {
            let file = self.reading(&sensor.source);
            if file.is_none() && matches!(sensor.source, Source::Hwmon(..)) {
                roles.say(
                    format!("sensor.{}", sensor.name),
                    format!("sensor '{}': there is no {}", sensor.name, sensor.source),
                    format!("传感器“{}”：没有 {}", sensor.name, sensor.source),
                );
            }
            let (low, high, critical) = (sensor.low, sensor.high, sensor.critical);
            roles.sensors.push(SensorNow {
                name: sensor.name.clone(),
                source: sensor.source.clone(),
                file,
                unit: sensor.unit,
                low,
                high,
                critical,
            });
        }
        for supply in &board.supplies {
            let file = supply.source.as_ref().and_then(|source| self.reading(source));
            roles.supplies.push(SupplyNow {
                name: supply.name.clone(),
                label: supply.label.clone(),
                source: supply.source.clone(),
                file,
            });
        }
    }
}

fn interface(role: NicRole, label: &str, pci: PciPath, port: u32, device: Option<&Device>) -> Interface {
    Interface {
        role,
        label: label.to_owned(),
        pci,
        port,
        name: device.map(|d| d.name.clone()),
        mac: device.and_then(|d| d.attribute("address")),
    }
}

/// The port from 0 of its AHCI controller that a disk is on. libata counts from 1 (`port_no`), in the order of the hardware's ports.
pub(crate) fn ata_port(disk: &Device) -> Option<u64> {
    let is_ata = |name: &str| name.strip_prefix("ata").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let folder = disk.ancestor(is_ata)?;
    let name = folder.file_name()?;
    let number: u64 = attribute(&folder.join("ata_port").join(name).join("port_no"))?.parse().ok()?;
    number.checked_sub(1)
}

/// The phy of its controller that a disk is on, without an expander between.
pub(crate) fn sas_phy(disk: &Device) -> Option<u64> {
    if disk.folders.iter().any(|f| f.starts_with("expander-")) {
        return None;
    }
    let port = disk.ancestor(|name| name.starts_with("port-"))?;
    let entries = std::fs::read_dir(port).ok()?.flatten();
    let phys = entries.filter_map(|e| e.file_name().to_str()?.strip_prefix("phy-")?.split_once(':')?.1.parse().ok());
    phys.min()
}

/// The slot of its enclosure that a disk is in, as the expander says.
pub(crate) fn sas_slot(disk: &Device) -> Option<u64> {
    let end = disk.ancestor(|name| name.starts_with("end_device-"))?;
    attribute(&end.join("sas_device").join(end.file_name()?).join("bay_identifier"))?.parse().ok()
}

/// With several paths to an NVMe drive the kernel shows each (`nvme0c0n1`, hidden) beside the whole (`nvme0n1`).
pub(crate) fn whole_name(name: &str) -> String {
    let path = || {
        let (controller, rest) = name.strip_prefix("nvme")?.split_once('c')?;
        let (_, namespace) = rest.split_once('n')?;
        Some(format!("nvme{controller}n{namespace}"))
    };
    path().unwrap_or_else(|| name.to_owned())
}
