//! The parts of the running machine by their roles.

use crate::board::{Bay, Flow, NicRole, SerialPlace, SerialRole, Source, TpmVersion, Unit, WatchdogDriver};
use crate::place::PciPath;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What has which role now. Written into `/run/twinpost/boot.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Roles {
    /// Full name of the board.
    pub board: String,
    /// Network ports that have a role, whether they are there or not.
    pub interfaces: Vec<Interface>,
    /// Serial ports that have a role.
    pub serial: Vec<SerialNow>,
    /// Disk bays in the order of their numbers.
    pub bays: Vec<BayNow>,
    /// The hardware watchdog.
    pub watchdog: Option<WatchdogNow>,
    /// Sensors.
    pub sensors: Vec<SensorNow>,
    /// Power supplies.
    pub supplies: Vec<SupplyNow>,
    /// The TPM's device.
    pub tpm: Option<(TpmVersion, Option<PathBuf>)>,
    /// The buzzer: module, and its input device.
    pub buzzer: Option<(String, Option<PathBuf>)>,
    /// What should be there and is not, or what nobody knows, in words a person can act on.
    pub missing: Vec<Missing>,
}

/// Something that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The part: `bay.2`, `nic.pair`, `serial.modem`, `watchdog`.
    pub part: String,
    /// What is missing and where to look, in English.
    pub en: String,
    /// The same in Chinese.
    pub zh: String,
}

/// A network port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its role, which becomes its name.
    pub role: NicRole,
    /// As it is printed on the case.
    pub label: String,
    /// Where it is.
    pub pci: PciPath,
    /// Which port, where one function has several.
    pub port: u32,
    /// Its name now; none: it is not there.
    pub name: Option<String>,
    /// Hardware address.
    pub mac: Option<String>,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialNow {
    /// Its role.
    pub role: SerialRole,
    /// As it is printed on the case.
    pub label: String,
    /// Where it is.
    pub place: SerialPlace,
    /// The same for people.
    pub at: String,
    /// Its device; none: it is not there.
    pub device: Option<PathBuf>,
    /// Speed in bit/s.
    pub baud: u32,
    /// Flow control.
    pub flow: Flow,
}

/// A disk bay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BayNow {
    /// From 1.
    pub number: u32,
    /// As it is printed on the case.
    pub label: String,
    /// The connector: `AHCI 00:1f.2 port 2`.
    pub connector: String,
    /// The disk in it, `/dev/sda`; none: it is empty, or the disk does not answer.
    pub device: Option<PathBuf>,
    /// The file of its light: 1 switches it on.
    pub led: Option<PathBuf>,
    /// The firmware boots from here.
    pub boot: bool,
}

impl BayNow {
    pub(crate) fn of(bay: &Bay, device: Option<PathBuf>, led: Option<PathBuf>, boot: bool) -> Self {
        Self { number: bay.number, label: bay.label.clone(), connector: bay.connector(), device, led, boot }
    }
}

/// The hardware watchdog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchdogNow {
    /// Its driver, a kernel module.
    pub driver: WatchdogDriver,
    /// Time in seconds.
    pub timeout_s: u64,
    /// What the module is loaded with: `heartbeat=10`.
    pub parameters: Vec<String>,
    /// Its device, once the module is loaded.
    pub device: Option<PathBuf>,
}

/// A sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SensorNow {
    /// What it measures.
    pub name: String,
    /// Where the reading comes from.
    pub source: Source,
    /// The file with the reading, for hwmon.
    pub file: Option<PathBuf>,
    /// Unit.
    pub unit: Unit,
    /// Below is a warning.
    pub low: Option<f64>,
    /// Above is a warning.
    pub high: Option<f64>,
    /// Danger.
    pub critical: Option<f64>,
}

/// A power supply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyNow {
    /// Its name.
    pub name: String,
    /// As it is printed on the case.
    pub label: String,
    /// What tells its state.
    pub source: Option<Source>,
    /// The file with the reading, for hwmon.
    pub file: Option<PathBuf>,
}

impl Interface {
    /// Where it is, for people: `PCI 00:07.0`.
    #[must_use]
    pub fn at(&self) -> String {
        at(&self.pci, self.port)
    }
}

pub(crate) fn at(pci: &PciPath, port: u32) -> String {
    if port == 0 { format!("PCI {pci}") } else { format!("PCI {pci} port {port}") }
}

impl Roles {
    /// The interface of this role, if its port is there.
    #[must_use]
    pub fn interface(&self, role: NicRole) -> Option<&Interface> {
        self.interfaces.iter().find(|i| i.role == role && i.name.is_some())
    }
    /// The serial port of this role, if it is there.
    #[must_use]
    pub fn serial(&self, role: SerialRole) -> Option<&SerialNow> {
        self.serial.iter().find(|s| s.role == role && s.device.is_some())
    }
    /// The bay of this number.
    #[must_use]
    pub fn bay(&self, number: u32) -> Option<&BayNow> {
        self.bays.iter().find(|b| b.number == number)
    }
}
