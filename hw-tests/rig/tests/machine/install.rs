//! One machine and its disks: the installer on a USB stick, and disks that are exchanged while the system runs from them.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::Value;
use std::time::Duration;
use twinpost_rig::console::BOOT_PATIENCE;
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, NewDisk, Qemu, Rig, Start};

const NODE: &str = "a";
const SIZE: u64 = 2 << 30;
/// Both disks written and read back, without KVM.
const INSTALL_LIMIT: Duration = Duration::from_secs(400);

pub fn all() -> Vec<Scenario> {
    const NEEDS: &[Capability] = &[Capability::Uefi, Capability::PullDisk, Capability::InsertDisk];
    vec![
        Scenario { name: "the_installer_writes_both_disks_and_either_starts", needs: NEEDS, long: true, run: installs },
        Scenario { name: "every_disk_is_exchanged_and_the_system_runs_on", needs: &NEEDS[1..], long: true, run: exchanged },
    ]
}

/// A person at the console: types, and reads what comes after it.
struct Person<'a> {
    rig: &'a Qemu,
    read: usize,
}

impl Person<'_> {
    fn line(&self) -> String {
        let log = self.rig.timeline().folder().join(format!("{NODE}-console.log"));
        String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
    }

    /// Types a line and waits for these words.
    fn types(&mut self, line: &str, words: &str, patience: Duration) -> Outcome {
        self.read = self.line().len();
        check(self.rig.console(NODE).type_in(format!("{line}\r").as_bytes()), || "the line takes nothing".to_owned())?;
        let from = self.read;
        until_told(self.rig.timeline(), &format!("{words:?} on the console"), patience, || {
            self.line().get(from..).filter(|said| said.contains(words)).map(drop)
        })?;
        Ok(())
    }
}

fn status(rig: &Qemu) -> Result<Value, Box<dyn std::error::Error>> {
    rig.console(NODE).attend(BOOT_PATIENCE)?;
    Ok(rig.console(NODE).json("node status")?)
}

/// Which disks the root is read from.
fn legs(status: &Value) -> usize {
    status["init"]["legs"].as_array().into_iter().flatten().filter(|leg| leg["ok"] == true).count()
}

/// Waits until both arrays have all their members.
fn whole(rig: &Qemu) -> Outcome {
    until_told(rig.timeline(), "whole arrays", INSTALL_LIMIT, || {
        let list = rig.console(NODE).json("disks list").ok()?;
        let arrays = list["arrays"].as_array()?;
        (arrays.len() == 2 && arrays.iter().all(|array| array["degraded"] == 0 && array["action"].is_null())).then_some(())
    })?;
    Ok(())
}

/// The bays that the running system is read from.
fn root(rig: &Qemu) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let list = rig.console(NODE).json("disks list")?;
    let legs = list["root"].as_array().into_iter().flatten().filter(|leg| leg["good"] == true);
    let mut bays: Vec<String> = legs.filter_map(|leg| leg["bay"].as_str()).map(str::to_owned).collect();
    bays.sort();
    Ok(bays)
}

fn exchanged(ground: &mut Ground) -> Outcome {
    let rig = ground.apart("exchange")?;
    let console = rig.console(NODE);
    rig.power(NODE, true)?;
    console.attend(BOOT_PATIENCE)?;
    check(root(&rig)? == ["1"], || "it was started from the disk that has a system".to_owned())?;
    console.well_within("--json disks init --yes", INSTALL_LIMIT)?;
    whole(&rig)?;
    check(root(&rig)? == ["1", "2"], || "the second disk carries the running system, too".to_owned())?;
    for (bay, other) in [(1, "2"), (2, "1")] {
        rig.pull_disk(NODE, bay)?;
        until_told(rig.timeline(), "the root on one disk", Duration::from_secs(60), || {
            root(&rig).ok().filter(|bays| *bays == [other])
        })?;
        rig.insert_disk(NODE, bay, NewDisk::Blank(SIZE))?;
        until_told(rig.timeline(), "the new disk is taken", Duration::from_secs(60), || {
            let words = format!("--json disks replace {bay} --yes --wait");
            console.order_within(&words, INSTALL_LIMIT).ok().filter(|answer| answer.exit == 0)
        })?;
        whole(&rig)?;
        check(root(&rig)? == ["1", "2"], || format!("the disk in bay {bay} carries the running system at once"))?;
    }
    // Not one of the disks that it was started from is left.
    let status = status(&rig)?;
    check(status["version"].is_string(), || format!("it answers: {status}"))
}

fn installs(ground: &mut Ground) -> Outcome {
    let rig = ground.apart("install")?;
    let (console, machine) = (rig.console(NODE), rig.machine(NODE));
    let stick = rig.settings().image.folder.join("installer.img");
    check(stick.exists(), || format!("{} is not there", stick.display()))?;
    for (bay, disk) in [(1, NewDisk::Blank(SIZE)), (2, NewDisk::Foreign(SIZE))] {
        rig.pull_disk(NODE, bay)?;
        rig.insert_disk(NODE, bay, disk)?;
    }
    machine.choose(|options| {
        options.start = Start::Uefi;
        options.stick = Some(stick);
    });
    rig.power(NODE, true)?;
    let installer = status(&rig)?;
    check(installer["installer"].is_string(), || format!("it says that it is the installer: {installer}"))?;

    // Nothing of a node is done here, and somebody's disk is not written before it is named.
    let refused = console.order("disks init --yes")?;
    check(refused.exit != 0 && refused.text.contains("installer"), || format!("disks init: {}", refused.text))?;
    let refused = console.order("disks install --yes")?;
    check(refused.exit != 0 && refused.text.contains("--erase"), || format!("disks install: {}", refused.text))?;
    let list = console.json("disks list")?;
    let disk = list["bays"].as_array().into_iter().flatten().find(|bay| bay["name"] == "2").map(|bay| &bay["disk"]);
    let serial = disk.and_then(|disk| disk["serial"].as_str()).ok_or("bay 2 has no disk")?.to_owned();

    // By the menu, as a person does it; a word that is not the right one does nothing.
    let (mut person, soon) = (Person { rig: &rig, read: 0 }, Duration::from_secs(60));
    for (word, then, patience) in [("yes", "nothing was done", soon), (serial.as_str(), "Restart now?", INSTALL_LIMIT)] {
        person.types("1", "Bays to install to", soon)?;
        person.types("", "Serial numbers", soon)?;
        person.types(&serial, &format!("Type {serial} to go on"), soon)?;
        person.types(word, then, patience)?;
    }
    // The stick goes when the machine does.
    let qmp = machine.qmp()?;
    let from = qmp.events();
    console.type_in(b"y\r");
    qmp.event("RESET", from, Duration::from_secs(120))?;
    machine.pull_stick()?;
    machine.choose(|options| options.stick = None);
    console.forget();

    let node = status(&rig)?;
    check(node["installer"].is_null() && legs(&node) == 2, || format!("a node, from both disks: {node}"))?;
    check(node["boot"]["state"]["made"] == true, || format!("its state volume is new: {}", node["boot"]["state"]))?;
    console.well_within("--json disks init --yes", INSTALL_LIMIT)?;
    whole(&rig)?;
    let _ = console.order_within("power off --yes", Duration::from_secs(8));
    check(machine.ended_within(Duration::from_secs(120)), || "it does not switch itself off".to_owned())?;

    rig.pull_disk(NODE, 1)?;
    rig.power(NODE, true)?;
    console.forget();
    let node = status(&rig)?;
    let state = &node["boot"]["state"];
    check(legs(&node) == 1, || format!("from the second disk alone: {}", node["init"]))?;
    check(state["mounted"] == "persistent" && state["made"] == false, || format!("with what it remembers: {state}"))?;
    let degraded = node["arrays"].as_array().into_iter().flatten().all(|array| array["degraded"] == 1);
    check(degraded, || format!("it says that a disk is missing: {}", node["arrays"]))
}
