//! Parts of a machine that its board does not know, or knows otherwise: named by a person by their devices of the moment, kept by their connectors.

use super::documents::{edit, table};
use crate::api::Text;
use crate::render::boot::Sys;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};
use twinpost_board::{Detected, Inventory, NicRole, Roles, SerialPlace, SerialRole, detect_with, inventory};

const BEGUN: &str = "# This machine's ports, where its board does not know them: docs/manual/boards.md. Written by `twinpost ctl setup --part`.\n\n";

/// The file of changes with what was wished, and the board and roles that it makes; `None`: nothing was wished.
pub(super) fn changed(sys: &Sys, wished: &[String], reasons: &mut Vec<Text>) -> Option<(String, Detected, Roles)> {
    if wished.is_empty() {
        return None;
    }
    let before = std::fs::read_to_string(&sys.changes).unwrap_or_default();
    let mut document = edit(&before, "");
    let all = inventory(&sys.sys);
    for one in wished {
        if let Err(reason) = part(&mut document, one, &all) {
            reasons.push(reason);
        }
    }
    let head = if before.trim().is_empty() { BEGUN } else { "" };
    let text = format!("{head}{document}");
    let detected = detect_with(&sys.sys, &sys.boards, Some((&sys.changes, &text)));
    if !detected.changed {
        let file = sys.changes.display().to_string();
        reasons.extend(detected.faults.iter().filter(|fault| fault.contains(&file)).map(Text::same));
    }
    let roles = detected.board.resolve(&sys.sys);
    Some((text, detected, roles))
}

/// An unknown machine's LAN was found by its link: from its setup on it is named, and not looked for again.
pub(super) fn found_lan(sys: &Sys, text: Option<&str>, detected: &Detected, roles: &Roles) -> Option<String> {
    if !detected.board.careful.lan_first_with_link || detected.board.nics.contains_key(&NicRole::Lan) {
        return None;
    }
    let lan = roles.interface(NicRole::Lan)?;
    let before = text.map_or_else(|| std::fs::read_to_string(&sys.changes).unwrap_or_default(), str::to_owned);
    let mut document = edit(&before, "");
    let table = table(&mut document, "nic.lan")?;
    table.insert("pci", value(lan.pci.to_string()));
    if lan.port != 0 {
        table.insert("port", value(i64::from(lan.port)));
    }
    let head = if before.trim().is_empty() { BEGUN } else { "" };
    Some(format!("{head}{document}"))
}

/// `nic.pair=eth1`, `serial.modem=/dev/ttyUSB2`, `bay.2=/dev/sdb,lower left`, `serial.heartbeat=none`.
fn part(document: &mut DocumentMut, wished: &str, all: &Inventory) -> Result<(), Text> {
    let wrong = || {
        Text::new(
            format!(
                "--part {wished:?}: write ROLE=DEVICE or ROLE=DEVICE,LABEL, as nic.pair=eth1, serial.modem=/dev/ttyUSB2, bay.1=/dev/sda,left; none for DEVICE: there is none"
            ),
            format!(
                "--part {wished:?}：请写 角色=设备 或 角色=设备,标签，例如 nic.pair=eth1、serial.modem=/dev/ttyUSB2、bay.1=/dev/sda,left；设备为 none 表示没有"
            ),
        )
    };
    let (role, rest) = wished.split_once('=').ok_or_else(wrong)?;
    let (device, label) = rest.split_once(',').map_or((rest, None), |(device, label)| (device, Some(label.trim())));
    let (kind, which) = role.trim().split_once('.').ok_or_else(wrong)?;
    let (device, name) = (device.trim(), device.trim().trim_start_matches("/dev/"));
    let is = |path: &std::path::Path| path.strip_prefix("/dev").is_ok_and(|p| p == std::path::Path::new(name));
    let none = device == "none";
    let missing = |has: Vec<String>| {
        let has = if has.is_empty() { "-".to_owned() } else { has.join(", ") };
        Text::new(
            format!("--part {role}: there is no {device:?} that could be it; this machine has {has}"),
            format!("--part {role}：没有可用的 {device:?}；此机器有 {has}"),
        )
    };
    let mut fresh = Table::new();
    match kind {
        "nic" => {
            which.parse::<NicRole>().map_err(|_| wrong())?;
            if !none {
                let found = all.nics.iter().find(|nic| nic.name == name);
                let found = found.ok_or_else(|| missing(all.nics.iter().map(|nic| nic.name.clone()).collect()))?;
                fresh.insert("pci", value(found.pci.to_string()));
                if found.port != 0 {
                    fresh.insert("port", value(i64::from(found.port)));
                }
            }
        }
        "serial" => {
            which.parse::<SerialRole>().map_err(|_| wrong())?;
            if !none {
                let found = all.serials.iter().find(|serial| is(&serial.device));
                let found = found.ok_or_else(|| missing(all.serials.iter().map(|s| s.device.display().to_string()).collect()))?;
                serial(&mut fresh, &found.at);
            }
        }
        "bay" => {
            let number: i64 = which.parse().ok().filter(|n| (1..=99).contains(n)).ok_or_else(wrong)?;
            fresh.insert("number", value(number));
            if !none {
                let found = all.disks.iter().find(|disk| is(&disk.device));
                let found = found.ok_or_else(|| missing(all.disks.iter().map(|d| d.device.display().to_string()).collect()))?;
                fresh.insert("label", value(label.map_or_else(|| format!("bay {number}"), str::to_owned)));
                fresh.insert("controller", value(found.controller.as_str()));
                fresh.insert("pci", value(found.pci.to_string()));
                if !matches!(found.controller.as_str(), "virtio-blk" | "nvme") {
                    fresh.insert("port", value(i64::from(found.port)));
                }
            }
        }
        _ => return Err(wrong()),
    }
    if none {
        fresh.insert("fitted", value(false));
    } else if let Some(label) = label.filter(|_| kind != "bay") {
        fresh.insert("label", value(label));
    }
    if kind == "bay" {
        put_bay(document, fresh).ok_or_else(wrong)
    } else {
        let table = table(document, &format!("{kind}.{which}")).ok_or_else(wrong)?;
        if !same(table, &fresh) {
            *table = fresh;
        }
        Ok(())
    }
}

fn serial(table: &mut Table, at: &SerialPlace) {
    match at {
        SerialPlace::Io(io) => {
            // As people write it: hexadecimal.
            let text = format!("{io:#x}");
            let item = text.parse::<toml_edit::Value>().map_or_else(|_| value(i64::from(*io)), Item::Value);
            table.insert("io", item);
        }
        SerialPlace::Pci(pci, port) => {
            table.insert("pci", value(pci.to_string()));
            table.insert("port", value(i64::from(*port)));
        }
        SerialPlace::Acpi(name) => drop(table.insert("acpi", value(name.as_str()))),
        SerialPlace::Usb(pci, port, interface) => {
            table.insert("pci", value(pci.to_string()));
            table.insert("usb", value(port.to_string()));
            table.insert("interface", value(i64::from(*interface)));
        }
    }
}

/// Puts a bay in the place of the one with its number.
fn put_bay(document: &mut DocumentMut, fresh: Table) -> Option<()> {
    let number = fresh.get("number")?.as_integer();
    let bays = document.entry("bay").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new())).as_array_of_tables_mut()?;
    if bays.iter().any(|bay| same(bay, &fresh)) {
        return Some(());
    }
    bays.retain(|bay| bay.get("number").and_then(Item::as_integer) != number);
    bays.push(fresh);
    Some(())
}

/// What stands in the file already stays where it stands: the same wish again changes nothing.
fn same(there: &Table, fresh: &Table) -> bool {
    there.to_string().trim() == fresh.to_string().trim()
}
