//! Places inside a machine: a PCI path, a port of a USB controller.
//!
//! Contract: a place names a connector that stays where it is when cards are added and kernels change; so a device behind a bridge is
//! named by the way to it, not by the bus number that the firmware happens to give. Text that cannot be a place is refused with what
//! would be one.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most bridges on the way to a device, and most hubs.
const DEPTH_MAX: usize = 8;

/// One PCI function as the kernel names it: `0000:00:1f.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PciAddress {
    /// 0 on all but large machines.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// 0 to 31.
    pub device: u8,
    /// 0 to 7.
    pub function: u8,
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u16> {
    let sound = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    sound.then(|| u16::from_str_radix(text, 16).ok()).flatten()
}

/// `1f.2`: PCI has 32 devices on a bus and 8 functions in a device (PCI Local Bus Specification 3.0, 3.2.2.3.4).
fn device_function(text: &str) -> Option<(u8, u8)> {
    let (device, function) = text.split_once('.')?;
    let device = u8::try_from(hex(device, 1..=2)?).ok().filter(|d| *d < 32)?;
    let function = u8::try_from(hex(function, 1..=1)?).ok().filter(|f| *f < 8)?;
    Some((device, function))
}

impl PciAddress {
    /// `0000:00:1f.2` or `00:1f.2`.
    fn parse(text: &str) -> Option<Self> {
        let (rest, last) = text.rsplit_once(':')?;
        let (device, function) = device_function(last)?;
        let (domain, bus) = match rest.split_once(':') {
            Some((domain, bus)) => (hex(domain, 4..=4)?, bus),
            None => (0, rest),
        };
        Some(Self { domain, bus: u8::try_from(hex(bus, 2..=2)?).ok()?, device, function })
    }

    /// A folder of /sys/devices: only the kernel's own, full spelling.
    pub(crate) fn of_folder(name: &str) -> Option<Self> {
        (name.len() == 12).then(|| Self::parse(name)).flatten()
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.domain != 0 {
            write!(f, "{:04x}:", self.domain)?;
        }
        write!(f, "{:02x}:{:02x}.{:x}", self.bus, self.device, self.function)
    }
}

/// The way to a PCI function: `00:1f.2`, or through bridges `00:1c.4/00.0`, whose later parts have no bus number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PciPath {
    first: PciAddress,
    behind: Vec<(u8, u8)>,
}

impl PciPath {
    /// The path of a device that was found, by the way to it.
    pub(crate) fn of(way: &[PciAddress]) -> Option<Self> {
        let (first, behind) = way.split_first()?;
        Some(Self { first: *first, behind: behind.iter().map(|at| (at.device, at.function)).collect() })
    }

    /// A pattern (fnmatch) for the folders of the way below /sys/devices: bus numbers behind bridges are open.
    #[must_use]
    pub fn glob(&self) -> String {
        let PciAddress { domain, bus, device, function } = self.first;
        let mut glob = format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}");
        for (device, function) in &self.behind {
            glob.push_str(&format!("/{domain:04x}:*:{device:02x}.{function:x}"));
        }
        glob
    }

    /// Whether the functions on the way to a device, from the root on, are this path.
    pub(crate) fn is(&self, way: &[PciAddress]) -> bool {
        let Some(start) = way.len().checked_sub(self.behind.len() + 1) else { return false };
        way[start] == self.first
            && way[start + 1..]
                .iter()
                .zip(&self.behind)
                .all(|(at, (device, function))| (at.device, at.function) == (*device, *function))
    }
}

impl FromStr for PciPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no PCI address: write bus:device.function as \"00:1f.2\" (bus 00 to ff, device 00 to 1f, function 0 to 7), and \
                 behind a bridge the way to it, as \"00:1c.4/00.0\""
            )
        };
        let mut parts = text.split('/');
        let first = parts.next().and_then(PciAddress::parse).ok_or_else(wrong)?;
        let behind: Option<Vec<_>> = parts.map(device_function).collect();
        let behind = behind.filter(|b| b.len() <= DEPTH_MAX).ok_or_else(wrong)?;
        Ok(Self { first, behind })
    }
}

impl fmt::Display for PciPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.behind.iter().try_for_each(|(device, function)| write!(f, "/{device:02x}.{function:x}"))
    }
}

impl From<PciPath> for String {
    fn from(path: PciPath) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for PciPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A socket of a USB controller, through hubs: `2` or `2.1`, as the kernel counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct UsbPort(Vec<u8>);

impl UsbPort {
    /// Whether a folder of /sys/devices (`1-2.1`) is the device in this socket, on whichever bus of its controller.
    pub(crate) fn is(&self, folder: &str) -> bool {
        folder.split_once('-').is_some_and(|(bus, port)| bus.bytes().all(|b| b.is_ascii_digit()) && port == self.to_string())
    }
}

impl FromStr for UsbPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ports: Option<Vec<u8>> =
            text.split('.').map(|p| p.parse().ok().filter(|n| *n > 0 && p.bytes().all(|b| b.is_ascii_digit()))).collect();
        ports
            .filter(|p| p.len() <= DEPTH_MAX)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no USB port: write \"2\", or behind a hub \"2.1\""))
    }
}

impl fmt::Display for UsbPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, port)| write!(f, "{}{port}", if i > 0 { "." } else { "" }))
    }
}

impl From<UsbPort> for String {
    fn from(port: UsbPort) -> Self {
        port.to_string()
    }
}

impl TryFrom<String> for UsbPort {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &str) -> Vec<PciAddress> {
        text.split('/').filter_map(PciAddress::of_folder).collect()
    }

    #[test]
    fn a_path_names_the_way_and_not_the_bus_behind_a_bridge() {
        let behind: PciPath = "00:1c.4/00.0".parse().expect("a path");
        assert!(behind.is(&way("0000:00:1c.4/0000:03:00.0")));
        assert!(behind.is(&way("0000:00:1c.4/0000:07:00.0")), "another bus number, the same socket");
        assert!(!behind.is(&way("0000:00:1c.4/0000:03:00.1")));
        assert!(!behind.is(&way("0000:00:1c.5/0000:03:00.0")));
        assert!(!behind.is(&way("0000:00:1c.4")));
        let plain: PciPath = "0000:03:00.0".parse().expect("a path");
        assert!(plain.is(&way("0000:00:1c.4/0000:03:00.0")) && !plain.is(&way("0000:03:00.0/0000:04:00.0")));
        assert_eq!(plain.to_string(), "03:00.0");
        assert_eq!(behind.glob(), "0000:00:1c.4/0000:*:00.0");
    }

    #[test]
    fn impossible_places_are_refused() {
        for text in [
            "",
            "00:20.0",
            "00:1f.8",
            "100:00.0",
            "00:1f",
            "0:1f.2",
            "00:1f.2/",
            "00:1f.2/20.0",
            "00:1g.2",
            "+0:1f.2",
            "00000:00:1f.2",
        ] {
            assert!(text.parse::<PciPath>().is_err(), "{text:?}");
        }
        for text in ["", "0", "2.", "2.0", "256", "a", "+1", "1.1.1.1.1.1.1.1.1"] {
            assert!(text.parse::<UsbPort>().is_err(), "{text:?}");
        }
        let port: UsbPort = "2.1".parse().expect("a port");
        assert!(port.is("1-2.1") && port.is("2-2.1") && !port.is("1-2.1.1") && !port.is("1-2.1:1.0"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_path_that_writes_itself_or_is_refused(text in "[0-9a-f:./]{0,24}") {
            if let Ok(path) = text.parse::<PciPath>() {
                proptest::prop_assert_eq!(path.to_string().parse::<PciPath>(), Ok(path));
            }
            if let Ok(port) = text.parse::<UsbPort>() {
                proptest::prop_assert_eq!(port.to_string().parse::<UsbPort>(), Ok(port));
            }
        }
    }
}
