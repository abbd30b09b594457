//! What a machine has, whether a board names it or not: for the person who writes its board or its changes.
//!
//! Contract: each part with the connector by which it is found again, in the words of a board file. What is on no connector that a board can
//! name (a bridge, a loop device, a virtual terminal) is left out.

use crate::board::{Controller, SerialPlace};
use crate::place::{PciPath, UsbPort};
use crate::resolve::{ata_port, sas_phy, sas_slot, whole_name};
use crate::sys::{Device, Sys, attribute};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Everything that could have a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Network ports.
    pub nics: Vec<FoundNic>,
    /// Serial ports.
    pub serials: Vec<FoundSerial>,
    /// Disks.
    pub disks: Vec<FoundDisk>,
}

/// A network port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundNic {
    /// Its name now.
    pub name: String,
    /// Where it is.
    pub pci: PciPath,
    /// Which port of the function.
    pub port: u32,
    /// Hardware address.
    pub mac: Option<String>,
    /// Whether it has a link; none: it is switched off.
    pub link: Option<bool>,
}

/// A serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSerial {
    /// `/dev/ttyS1`.
    pub device: PathBuf,
    /// Where it is.
    pub at: SerialPlace,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDisk {
    /// `/dev/sda`.
    pub device: PathBuf,
    /// What it is on.
    pub controller: Controller,
    /// That controller, or the drive's own function.
    pub pci: PciPath,
    /// Port, phy or slot; 0 where the function is the drive.
    pub port: u32,
}

/// Looks through this /sys.
#[must_use]
pub fn inventory(sys: &Path) -> Inventory {
    let sys = Sys::new(sys);
    Inventory {
        nics: sys.devices("class/net").iter().filter_map(nic).collect(),
        serials: serials(&sys),
        disks: sys.devices("class/block").iter().filter_map(disk).collect(),
    }
}

fn nic(device: &Device) -> Option<FoundNic> {
    Some(FoundNic {
        name: device.name.clone(),
        pci: PciPath::of(&device.way)?,
        port: device.number("dev_port").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        mac: device.attribute("address"),
        link: device.number("carrier").map(|carrier| carrier == 1),
    })
}

fn serials(sys: &Sys) -> Vec<FoundSerial> {
    let mut found: Vec<FoundSerial> = Vec::new();
    for device in sys.devices("class/tty") {
        let Some(at) = serial_place(&device, &found) else { continue };
        found.push(FoundSerial { device: Path::new("/dev").join(&device.name), at });
    }
    found
}

fn serial_place(device: &Device, before: &[FoundSerial]) -> Option<SerialPlace> {
    let usb = device.folders.iter().rev().find_map(|folder| {
        let (socket, rest) = folder.split_once(':')?;
        let (bus, port) = socket.split_once('-')?;
        bus.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
        Some((port.parse::<UsbPort>().ok()?, rest.split_once('.')?.1.parse::<u8>().ok()?))
    });
    if let Some((port, interface)) = usb {
        return Some(SerialPlace::Usb(PciPath::of(&device.way)?, port, interface));
    }
    if !device.name.starts_with("ttyS") || device.number("type") == Some(0) {
        return None;
    }
    if let Some(pci) = PciPath::of(&device.way) {
        let earlier = before.iter().filter(|s| matches!(&s.at, SerialPlace::Pci(other, _) if *other == pci)).count();
        return Some(SerialPlace::Pci(pci, u32::try_from(earlier).ok()?));
    }
    match device.number("port").and_then(|io| u16::try_from(io).ok()).filter(|io| *io > 0) {
        Some(io) => Some(SerialPlace::Io(io)),
        None => attribute(&device.entry.join("device/firmware_node/path")).map(SerialPlace::Acpi),
    }
}

fn disk(device: &Device) -> Option<FoundDisk> {
    if device.entry.join("partition").exists() {
        return None;
    }
    let pci = PciPath::of(&device.way)?;
    let (controller, port) = if device.name.starts_with("vd") {
        (Controller::VirtioBlk, 0)
    } else if device.name.starts_with("nvme") {
        (Controller::Nvme, 0)
    } else if let Some(port) = ata_port(device) {
        (Controller::Ahci, port)
    } else if let Some(port) = sas_phy(device) {
        (Controller::SasPhy, port)
    } else {
        (Controller::SasSlot, sas_slot(device)?)
    };
    Some(FoundDisk { device: Path::new("/dev").join(whole_name(&device.name)), controller, pci, port: u32::try_from(port).ok()? })
}
