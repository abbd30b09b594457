//! Names of devices by their role: `/dev/twinpost/modem` and so on.
//!
//! Documents name these and never `/dev/ttyUSB2`: the appliance document is the same on both nodes, whose kernels may count differently, and a
//! modem that was reset gets another number.

use super::Fault;
use std::fmt::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use twinpost_board::{Roles, SerialPlace};

/// The folder of the links.
pub const DEVICES: &str = "/dev/twinpost";

/// Rules of udev for what comes and goes: a USB modem that resets itself has its role's name again at once.
pub const RULES_FILE: &str = "/run/udev/rules.d/75-twinpost-roles.rules";

/// The rules (udev(7)); `None` when no role is on USB.
#[must_use]
pub fn rules(roles: &Roles) -> Option<String> {
    let mut text = String::from("# Roles on USB, by the way to their sockets. Made at each boot.\n");
    let begun = text.len();
    for port in &roles.serial {
        if let SerialPlace::Usb(controller, socket, interface) = &port.place {
            let way = controller.glob();
            let _ = writeln!(
                text,
                "SUBSYSTEM==\"tty\", DEVPATH==\"/devices/pci*/{way}/usb[0-9]*/[0-9]*-{socket}:*.{interface}/*\", SYMLINK+=\"twinpost/{}\"",
                port.role
            );
        }
    }
    (text.len() > begun).then_some(text)
}

/// Makes the links of all roles that have a device, and removes those of roles that have none; `dev` stands for /dev.
pub fn link(dev: &Path, roles: &Roles) -> Vec<Fault> {
    let folder = dev.join("twinpost");
    let serial = roles.serial.iter().map(|port| (port.role.as_str(), port.device.as_deref()));
    let watchdog = roles.watchdog.iter().map(|watchdog| ("watchdog", watchdog.device.as_deref()));
    let mut faults = Vec::new();
    for (role, device) in serial.chain(watchdog) {
        if let Err(error) = one(&folder, role, device) {
            let at = folder.join(role);
            faults.push(Fault::new(
                "file",
                Some(role),
                format!("cannot make the link {}: {error}", at.display()),
                format!("无法创建链接 {}：{error}", at.display()),
            ));
        }
    }
    faults
}

fn one(folder: &Path, role: &str, device: Option<&Path>) -> std::io::Result<()> {
    let place = folder.join(role);
    if device.is_some() && std::fs::read_link(&place).ok().as_deref() == device {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    let Some(device) = device else {
        return match std::fs::remove_file(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    // Never a moment without the name.
    let fresh = folder.join(format!(".{role}.new"));
    let _ = std::fs::remove_file(&fresh);
    symlink(device, &fresh)?;
    std::fs::rename(&fresh, place)
}
