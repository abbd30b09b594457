//! What a board is: the parts of a machine and the role of each.

use crate::dmi::Match;
use crate::place::{PciPath, UsbPort};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// An enumeration that is written as words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $variant:ident = $text:literal ),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $( $(#[$vdoc])* #[serde(rename = $text)] $variant, )+ }
        impl $name {
            /// All, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// As it is written in a board file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $( $text => Ok(Self::$variant), )+
                    _ => Err(format!("{text:?} is not one of {}", [$(concat!("\"", $text, "\"")),+].join(", "))),
                }
            }
        }
    };
}

words!(/// What a network port is for; also the name that the interface gets.
    NicRole { /// The site's network.
        Lan = "lan", /// The crossover cable to the peer (eth1 of the design).
        Pair = "pair" });
words!(/// What a serial port is for.
    SerialRole { /// The menu.
        Console = "console", /// The null-modem cable to the peer.
        Heartbeat = "heartbeat", /// The modem for text messages.
        Modem = "modem" });
words!(/// Flow control of a serial port.
    Flow { /// None.
        None = "none", /// RTS and CTS.
        RtsCts = "rts-cts" });
words!(/// What a disk bay is wired to.
    Controller { /// The bay is a virtual disk of its own PCI function.
        VirtioBlk = "virtio-blk", /// A SATA port of an AHCI (or other libata) controller; ports count from 0 as AHCI does.
        Ahci = "ahci", /// A phy of a SAS controller, without an expander.
        SasPhy = "sas-phy", /// A slot of an enclosure behind a SAS expander.
        SasSlot = "sas-slot", /// An NVMe drive of its own PCI function.
        Nvme = "nvme" });
words!(/// A watchdog that a kernel driver drives.
    WatchdogDriver { /// Intel 6300ESB, as QEMU emulates it.
        I6300esb = "i6300esb", /// Intel's chip sets.
        ItcoWdt = "iTCO_wdt", /// AMD's chip sets.
        Sp5100Tco = "sp5100_tco", /// HPE iLO.
        Hpwdt = "hpwdt", /// A management controller by IPMI.
        IpmiWatchdog = "ipmi_watchdog", /// The firmware's watchdog table (WDAT).
        WdatWdt = "wdat_wdt", /// Winbond and Nuvoton Super I/O.
        W83627hf = "w83627hf_wdt", /// ITE Super I/O.
        It87 = "it87_wdt", /// The kernel alone: it does not help when the kernel hangs.
        Softdog = "softdog" });

impl WatchdogDriver {
    /// The module's parameter for the time in seconds, and the seconds that the hardware can count, as the drivers in Linux 6.1 say
    /// (drivers/watchdog, drivers/char/ipmi).
    #[must_use]
    pub fn parameter(self) -> (&'static str, std::ops::RangeInclusive<u64>) {
        match self {
            Self::I6300esb => ("heartbeat", 1..=2046),
            // Version 1 of the TCO counts in units of 0.6 s up to 38 s, later ones to 613; what all can.
            Self::ItcoWdt => ("heartbeat", 4..=38),
            Self::Sp5100Tco => ("heartbeat", 1..=65535),
            // 16 bits of 1/128 s.
            Self::Hpwdt => ("soft_margin", 1..=511),
            Self::IpmiWatchdog => ("timeout", 1..=6553),
            // The firmware's table says what it can; the driver refuses what it cannot.
            Self::WdatWdt => ("timeout", 1..=255),
            Self::W83627hf => ("timeout", 1..=255),
            Self::It87 => ("timeout", 1..=65535),
            Self::Softdog => ("soft_margin", 1..=65535),
        }
    }
}

impl WatchdogDriver {
    /// What the watchdog calls itself (/sys/class/watchdog/*/identity), of drivers that do not say on which device it is.
    pub(crate) fn identity(self) -> Option<&'static str> {
        match self {
            Self::I6300esb => Some("i6300ESB timer"),
            Self::Softdog => Some("Software Watchdog"),
            Self::W83627hf => Some("W83627HF Watchdog"),
            Self::It87 => Some("IT87 WDT"),
            Self::ItcoWdt | Self::Sp5100Tco | Self::Hpwdt | Self::IpmiWatchdog | Self::WdatWdt => None,
        }
    }
}

/// A network port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its function.
    pub pci: PciPath,
    /// Which port, where one function has several (the kernel's `dev_port`).
    pub port: u32,
    /// As it is printed on the case.
    pub label: String,
}

/// Where a serial port is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SerialPlace {
    /// An I/O address of the PC: 0x3f8.
    Io(u16),
    /// A PCI function, and which of its ports from 0.
    Pci(PciPath, u32),
    /// The name of the ACPI device, as `\_SB_.PCI0.LPCB.UAR1`.
    Acpi(String),
    /// A USB device: controller, socket, and number of the interface.
    Usb(PciPath, UsbPort, u8),
}

impl std::fmt::Display for SerialPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(address) => write!(f, "I/O {address:#x}"),
            Self::Pci(path, port) => write!(f, "PCI {path} port {port}"),
            Self::Acpi(name) => write!(f, "ACPI {name}"),
            Self::Usb(controller, port, interface) => write!(f, "USB {controller} port {port} interface {interface}"),
        }
    }
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    /// Where it is.
    pub at: SerialPlace,
    /// Speed in bit/s.
    pub baud: u32,
    /// Flow control.
    pub flow: Flow,
    /// As it is printed on the case.
    pub label: String,
}

/// A light beside a bay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Led {
    /// The locate light of the slot, by the enclosure's services (SES).
    Enclosure,
    /// A light under /sys/class/leds.
    Class(String),
}

/// A disk bay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bay {
    /// From 1; how people and commands name it.
    pub number: u32,
    /// As it is printed on the case.
    pub label: String,
    /// What it is wired to.
    pub controller: Controller,
    /// That controller, or the drive's own function.
    pub pci: PciPath,
    /// Port, phy or slot of it. 0 where the function is the drive.
    pub port: u32,
    /// Its light.
    pub led: Option<Led>,
}

impl Bay {
    /// The connector in words: `AHCI 00:1f.2 port 2`.
    #[must_use]
    pub fn connector(&self) -> String {
        let Self { pci, port, .. } = self;
        match self.controller {
            Controller::VirtioBlk => format!("PCI {pci}"),
            Controller::Ahci => format!("AHCI {pci} port {port}"),
            Controller::SasPhy => format!("SAS {pci} phy {port}"),
            Controller::SasSlot => format!("SAS {pci} slot {port}"),
            Controller::Nvme => format!("NVMe {pci}"),
        }
    }
}

/// The hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdog {
    /// Its driver.
    pub driver: WatchdogDriver,
    /// It resets the machine so long after it was fed last; whole seconds.
    pub timeout_s: u64,
    /// Further parameters of the module.
    pub parameters: BTreeMap<String, String>,
}

/// Where a reading comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A channel (`temp1`, `fan2`, `in0`) of a chip (`coretemp`) under /sys/class/hwmon.
    Hwmon(String, String),
    /// A sensor of the management controller by its name.
    Ipmi(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hwmon(chip, channel) => write!(f, "hwmon {chip} {channel}"),
            Self::Ipmi(name) => write!(f, "IPMI {name}"),
        }
    }
}

words!(/// What a sensor measures.
    Unit { /// Degrees Celsius.
        Celsius = "C", /// Turns a minute.
        Rpm = "rpm", /// Volts.
        Volt = "V", /// Watts.
        Watt = "W", /// Percent of what is possible.
        Percent = "%" });

/// A sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sensor {
    /// What it measures, for people.
    pub name: String,
    /// Where the reading comes from.
    pub source: Source,
    /// Its unit.
    pub unit: Unit,
    /// Below this is a warning.
    pub low: Option<f64>,
    /// Above this is a warning.
    pub high: Option<f64>,
    /// Above this (or below, for fans and voltages with `low`) the machine is in danger.
    pub critical: Option<f64>,
}

/// A power supply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supply {
    /// Its name, for people.
    pub name: String,
    /// As it is printed on the case.
    pub label: String,
    /// What tells its state; none: nothing does.
    pub source: Option<Source>,
}

words!(/// A trusted platform module.
    TpmVersion { /// TPM 1.2.
        V12 = "1.2", /// TPM 2.0.
        V20 = "2.0" });

/// What a board without a match may find out by itself, and no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Careful {
    /// The LAN is the port with a link that is first by its PCI address; without any link, the only port there is.
    pub lan_first_with_link: bool,
    /// Bays are the disks that already carry Twinpost's partitions.
    pub own_disks: bool,
}

/// A board, complete: bases, revision and the administrator's changes are merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    /// Name of its folder.
    pub name: String,
    /// The revision that matched.
    pub revision: Option<String>,
    /// Name for people.
    pub title: String,
    /// How it is recognised; any of them. None: it is never chosen by itself.
    pub matches: Vec<Match>,
    /// Network ports.
    pub nics: BTreeMap<NicRole, Nic>,
    /// Serial ports.
    pub serials: BTreeMap<SerialRole, Serial>,
    /// Disk bays in the order of their numbers.
    pub bays: Vec<Bay>,
    /// Bays that the firmware boots from.
    pub boot: Vec<u32>,
    /// The hardware watchdog.
    pub watchdog: Option<Watchdog>,
    /// Sensors.
    pub sensors: Vec<Sensor>,
    /// Power supplies.
    pub supplies: Vec<Supply>,
    /// Trusted platform module.
    pub tpm: Option<TpmVersion>,
    /// Module that makes the buzzer an input device: `pcspkr`.
    pub buzzer: Option<String>,
    /// What may be found out.
    pub careful: Careful,
    /// What is not publicly known of this machine.
    pub unknown: Vec<String>,
    /// Files it was read from, the base first.
    pub files: Vec<PathBuf>,
}

impl Board {
    /// With the revision: `qemu-pc`, `acme-1u rev-c`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match &self.revision {
            Some(revision) => format!("{} {revision}", self.name),
            None => self.name.clone(),
        }
    }
}
