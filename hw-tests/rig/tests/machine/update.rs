//! Starts by firmware and boot loader with a verified root, and updates of both nodes from a USB stick.
//!
//! `TWINPOST_NEXT` is the folder of a second image: a later release, signed by a key that the first one trusts. `make test` builds it.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use twinpost_rig::console::BOOT_PATIENCE;
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, NODES, Pair, Qemu, Rig, Start, other};

/// An update of both nodes: two times writing, restarting, proving.
const UPDATE_LIMIT: Duration = Duration::from_secs(900);

pub fn all() -> Vec<Scenario> {
    const NEEDS: &[Capability] = &[Capability::Uefi, Capability::CutPower, Capability::CorruptDisk];
    vec![
        Scenario { name: "both_nodes_start_by_firmware_with_a_verified_root", needs: NEEDS, long: true, run: firmware },
        Scenario { name: "an_update_that_nobody_trusted_signed_is_refused", needs: NEEDS, long: true, run: untrusted },
        Scenario { name: "an_update_brings_both_nodes_and_mail_goes_on", needs: NEEDS, long: true, run: good },
        Scenario { name: "a_damaged_slot_is_refused_and_the_other_one_starts", needs: NEEDS, long: true, run: damaged },
    ]
}

/// The folder of the later release.
fn next() -> Result<PathBuf, Box<dyn std::error::Error>> {
    let folder = std::env::var_os("TWINPOST_NEXT").ok_or("TWINPOST_NEXT names no second image (`make test` builds it)")?;
    Ok(PathBuf::from(folder))
}

/// A stick with one file on it.
fn stick(folder: &Path, bundle: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let content = folder.join("stick");
    let _ = std::fs::remove_dir_all(&content);
    std::fs::create_dir_all(&content)?;
    std::fs::copy(bundle, content.join("update.twinpost"))?;
    let image = folder.join("stick.img");
    let bytes = std::fs::metadata(bundle)?.len() + (32 << 20);
    std::fs::File::create(&image)?.set_len(bytes)?;
    let made = Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-d"]).arg(&content).arg(&image).output()?;
    check(made.status.success(), || format!("mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr)))?;
    Ok(image)
}

fn machine_status(pair: &Pair<Qemu>, node: &str) -> Option<Value> {
    pair.rig.console(node).attend(Duration::from_secs(2)).ok()?;
    pair.rig.console(node).json("node status").ok()
}

/// Starts each node by its firmware, the standby first.
fn by_firmware(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    for node in [other(active), active] {
        if pair.rig.machine(node).options().start == Start::Uefi {
            continue;
        }
        pair.rig.power(node, false)?;
        pair.rig.machine(node).choose(|options| {
            options.start = Start::Uefi;
            options.usb = true;
        });
        pair.rig.power(node, true)?;
        pair.rig.console(node).attend(BOOT_PATIENCE)?;
        pair.settled()?;
    }
    Ok(())
}

fn firmware(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, _) = ground.pair()?;
    for node in NODES {
        let status = machine_status(pair, node).ok_or("no status")?;
        let legs = status["init"]["legs"].as_array().cloned().unwrap_or_default();
        let whole = legs.len() == 2 && legs.iter().all(|leg| leg["ok"] == true);
        check(whole, || format!("node {node} verifies its root on both disks: {}", status["init"]))?;
    }
    let sending = pair.load("firmware")?;
    sending.more(10, Duration::from_secs(60))?;
    let load = sending.end();
    pair.find_all(&load)?;
    Ok(())
}

/// What `update install --usb` answers on a node with this bundle in its USB port.
fn install(ground: &mut Ground, node: &str, bundle: &Path) -> Result<twinpost_rig::Answer, Box<dyn std::error::Error>> {
    let folder = ground.folder().to_owned();
    let (pair, _) = ground.pair()?;
    let image = stick(&folder, bundle)?;
    pair.rig.machine(node).plug_stick(&image)?;
    // The kernel needs a moment to find it; an order that finds none says so.
    let answer = until_told(pair.rig.timeline(), "an answer to the update", UPDATE_LIMIT, || {
        let answer = pair.rig.console(node).order_within("--json update install --usb --yes", UPDATE_LIMIT);
        match answer {
            Ok(answer) if answer.exit != 0 && answer.text.contains("no USB stick") => None,
            // The node that serves restarts last, and its console with it.
            other => Some(other),
        }
    })?;
    Ok(answer.unwrap_or_default())
}

fn untrusted(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, active) = ground.pair()?;
    let before = machine_status(pair, active).ok_or("no status")?["version"].clone();
    // One byte of the signed part is another one.
    let bundle = ground.folder().join("forged.twinpost");
    let mut bytes = std::fs::read(next()?.join("update.twinpost"))?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&bundle, bytes)?;
    let answer = install(ground, active, &bundle)?;
    check(answer.exit != 0, || format!("a changed bundle was taken: {}", answer.text))?;
    let (pair, _) = ground.pair()?;
    pair.rig.machine(active).pull_stick()?;
    let after = machine_status(pair, active).ok_or("no status")?["version"].clone();
    check(before == after, || format!("version {after} runs now"))
}

fn good(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let bundle = next()?.join("update.twinpost");
    let wanted: Value = serde_json::from_slice(&std::fs::read(next()?.join("image.json"))?)?;
    let version = wanted["version"].clone();
    let (pair, active) = ground.pair()?;
    let sending = pair.load("update")?;
    sending.more(10, Duration::from_secs(60))?;
    let load = sending.end();
    let answer = install(ground, active, &bundle)?;
    let pair = ground.living().ok_or("no pair")?;
    for node in NODES {
        until_told(pair.rig.timeline(), &format!("version {version} on node {node} ({})", answer.text), UPDATE_LIMIT, || {
            machine_status(pair, node).filter(|status| status["version"] == version)
        })?;
    }
    pair.settled()?;
    let more = pair.load("updated")?;
    more.more(10, Duration::from_secs(60))?;
    let after = more.end();
    pair.find_all(&load)?;
    pair.find_all(&after)?;
    Ok(())
}

fn damaged(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, active) = ground.pair()?;
    let node = other(active);
    let slot = machine_status(pair, node).ok_or("no status")?["slot"].as_str().unwrap_or_default().to_owned();
    pair.rig.power(node, false)?;
    for bay in [0, 1] {
        pair.rig.machine(node).damage(bay, &format!("twinpost-{slot}"))?;
    }
    pair.rig.power(node, true)?;
    let status = until_told(pair.rig.timeline(), "the node on its other slot", UPDATE_LIMIT, || {
        machine_status(pair, node).filter(|status| status["slot"] != slot.as_str())
    })?;
    pair.rig.timeline().note("rig", &status["init"].to_string());
    pair.settled()?;
    ground.used_up();
    Ok(())
}
