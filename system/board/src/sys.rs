//! Reading /sys: devices of a class, with the way to each through the machine.
//!
//! Contract: everything is optional; what cannot be read is absent. The root is given, so that a test's folder is as good as the kernel's.

use crate::place::PciAddress;
use std::path::{Path, PathBuf};

/// Devices of a class that are looked at.
const DEVICES_MAX: usize = 10_000;
/// Longest attribute read.
const ATTRIBUTE_MAX: u64 = 4096;

pub(crate) struct Sys {
    root: PathBuf,
}

/// A device of a class.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    /// `eth0`, `sda`, `ttyS1`.
    pub name: String,
    /// Its entry in the class, through which its attributes are read.
    pub entry: PathBuf,
    /// Its real folder.
    pub path: PathBuf,
    /// Names of the folders on the way to it.
    pub folders: Vec<String>,
    /// PCI functions on the way to it.
    pub way: Vec<PciAddress>,
}

impl Device {
    /// An attribute; none when it cannot be read or is empty.
    pub(crate) fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.entry.join(name))
    }
    /// An attribute that is a number, decimal or with 0x.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let text = self.attribute(name)?;
        match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        }
    }
    /// The folder on the way whose name this holds for, with all above it.
    pub(crate) fn ancestor(&self, is: impl Fn(&str) -> bool) -> Option<&Path> {
        self.path.ancestors().find(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&is))
    }
}

/// An attribute by its path.
pub(crate) fn attribute(path: &Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(ATTRIBUTE_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// `ttyS2` before `ttyS10`.
fn natural(name: &str) -> (String, u64, String) {
    let head = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (head.to_owned(), name[head.len()..].parse().unwrap_or(0), name.to_owned())
}

impl Sys {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.canonicalize().unwrap_or_else(|_| root.to_owned()) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Devices of a class (`class/net`) or of a bus (`bus/pci/devices`), in the order of their names.
    pub(crate) fn devices(&self, of: &str) -> Vec<Device> {
        let Ok(entries) = std::fs::read_dir(self.root.join(of)) else { return Vec::new() };
        let mut devices: Vec<Device> =
            entries.flatten().take(DEVICES_MAX).filter_map(|entry| self.device(&entry.path())).collect();
        devices.sort_by_cached_key(|d| natural(&d.name));
        devices
    }

    fn device(&self, entry: &Path) -> Option<Device> {
        let path = entry.canonicalize().ok()?;
        let folders: Vec<String> =
            path.strip_prefix(&self.root).ok()?.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        let way = folders.iter().filter_map(|f| PciAddress::of_folder(f)).collect();
        Some(Device { name: entry.file_name()?.to_str()?.to_owned(), entry: entry.to_owned(), path, folders, way })
    }
}
