//! What a person asks: which board is this, why, and what has which role.

use crate::board::Controller;
use crate::inventory::inventory;
use crate::load::{Boards, Detected};
use crate::roles::Roles;
use std::fmt::Write;
use std::path::Path;

/// The board of this machine in words: what the firmware says, why each board fits or not, every role and everything that is missing.
#[must_use]
pub fn explain(detected: &Detected, roles: &Roles, boards_dir: &Path, sys: &Path) -> String {
    let mut out = String::new();
    let board = &detected.board;
    let _ = writeln!(out, "board: {} ({})", board.full_name(), board.title);
    if detected.unknown {
        let _ = writeln!(out, "  no board fits this machine: only what can do no harm is used");
    }
    if detected.changed {
        let _ = writeln!(out, "  with the administrator's changes");
    }
    let _ = writeln!(out, "\nfirmware says:");
    for (field, text) in &detected.dmi.0 {
        let _ = writeln!(out, "  {field} = {text:?}");
    }
    let _ = writeln!(out, "\nboards looked at:");
    if let Ok(choice) = Boards::load_all(boards_dir).matching(&detected.dmi) {
        for verdict in choice.verdicts {
            let mark = if verdict.weight.is_some() { "fits" } else { "does not fit" };
            let _ = writeln!(out, "  {}: {mark}: {}", verdict.name, verdict.why.trim_start_matches("fits "));
        }
    }
    let nothing = || "-".to_owned();
    let _ = writeln!(out, "\nroles:");
    for port in &roles.interfaces {
        let name = port.name.clone().unwrap_or_else(nothing);
        let _ = writeln!(out, "  {:<10} {name:<12} {} ({})", port.role.as_str(), port.label, port.at());
    }
    for port in &roles.serial {
        let device = port.device.as_ref().map_or_else(nothing, |d| d.display().to_string());
        let _ = writeln!(
            out,
            "  {:<10} {device:<12} {} ({}), {} bit/s, flow control {}",
            port.role.as_str(),
            port.label,
            port.at,
            port.baud,
            port.flow
        );
    }
    for bay in &roles.bays {
        let device = bay.device.as_ref().map_or_else(nothing, |d| d.display().to_string());
        let _ = writeln!(out, "  {:<10} {device:<12} {} ({})", format!("bay {}", bay.number), bay.label, bay.connector);
    }
    if let Some(watchdog) = &roles.watchdog {
        let device = watchdog.device.as_ref().map_or_else(nothing, |d| d.display().to_string());
        let _ = writeln!(out, "  {:<10} {device:<12} {}, {} s", "watchdog", watchdog.driver, watchdog.timeout_s);
    }
    for (title, list) in [
        ("missing", roles.missing.iter().map(|m| &m.en).collect::<Vec<_>>()),
        ("not known of this machine", board.unknown.iter().collect()),
        ("faults of the data", detected.faults.iter().collect()),
    ] {
        if !list.is_empty() {
            let _ = writeln!(out, "\n{title}:");
            for line in list.iter().flat_map(|text| text.lines()) {
                let _ = writeln!(out, "  {line}");
            }
        }
    }
    has(&mut out, sys);
    out
}

/// What the machine has, with a role or without.
fn has(out: &mut String, sys: &Path) {
    let all = inventory(sys);
    let _ = writeln!(out, "\nthis machine has:");
    for nic in &all.nics {
        let link = match nic.link {
            Some(true) => "link",
            Some(false) => "no link",
            None => "switched off",
        };
        let port = if nic.port == 0 { String::new() } else { format!(" port {}", nic.port) };
        let mac = nic.mac.as_deref().unwrap_or("-");
        let _ = writeln!(out, "  {:<12} network port, pci = \"{}\"{port}, {mac}, {link}", nic.name, nic.pci);
    }
    for serial in &all.serials {
        let _ = writeln!(out, "  {:<12} serial port, {}", serial.device.display().to_string(), serial.at);
    }
    for disk in &all.disks {
        let port = match disk.controller {
            Controller::VirtioBlk | Controller::Nvme => String::new(),
            _ => format!(" port {}", disk.port),
        };
        let _ =
            writeln!(out, "  {:<12} disk, {} pci = \"{}\"{port}", disk.device.display().to_string(), disk.controller, disk.pci);
    }
}
