//! Disks that go, and disks that come.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::Value;
use std::time::Duration;
use twinpost_rig::pair::SETTLE;
use twinpost_rig::wait::until;
use twinpost_rig::{Capability, NewDisk, Pair, Qemu, Rig};

const NEEDS: &[Capability] = &[Capability::PullDisk, Capability::InsertDisk];
/// As large as the disks that a rig starts with.
const SIZE: u64 = 2 << 30;

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_disk_is_pulled_and_a_new_one_takes_its_place", needs: NEEDS, long: false, run: replaced },
        Scenario { name: "both_disks_of_the_active_are_lost_and_the_peer_serves", needs: NEEDS, long: false, run: both },
    ]
}

fn list(pair: &Pair<Qemu>, node: &str) -> Option<Value> {
    pair.rig.console(node).json("disks list").ok()
}

/// Whether the array of the mail has all its members.
fn whole(list: &Value) -> bool {
    let arrays = list["arrays"].as_array().cloned().unwrap_or_default();
    let mail = arrays.iter().find(|array| array["name"].as_str().is_some_and(|name| name.contains("mail")));
    mail.is_some_and(|mail| ["ok", "clean", "whole", "active"].iter().any(|word| mail["state"] == *word))
}

fn replaced(ground: &mut Ground) -> Outcome {
    ground.under_load("disk", |scene| {
        let (pair, node) = (scene.pair, scene.active);
        let before = list(pair, node).ok_or("no list of disks")?;
        check(whole(&before), || format!("the array is whole at first: {before}"))?;
        pair.rig.pull_disk(node, 2)?;
        until(pair.rig.timeline(), "a degraded array", Duration::from_secs(60), || list(pair, node).filter(|list| !whole(list)))?;
        scene.stays(15)?;

        // A disk that is too small, and one that holds somebody's files, are refused.
        for (disk, why) in [(NewDisk::Blank(SIZE / 4), "too small"), (NewDisk::Foreign(SIZE), "foreign")] {
            pair.rig.insert_disk(node, 2, disk)?;
            until(pair.rig.timeline(), "the new disk is seen", Duration::from_secs(60), || {
                list(pair, node)?["bays"].as_array()?.iter().find(|bay| bay["bay"] == 2 || bay["name"] == "2").filter(|bay| !bay["disk"].is_null()).cloned()
            })?;
            let answer = pair.rig.console(node).order_within("disks replace 2 --yes", Duration::from_secs(60))?;
            check(answer.exit != 0, || format!("a {why} disk was taken: {}", answer.text))?;
            pair.rig.pull_disk(node, 2)?;
        }
        pair.rig.insert_disk(node, 2, NewDisk::Blank(SIZE))?;
        until(pair.rig.timeline(), "the new disk is taken", Duration::from_secs(60), || {
            pair.rig.console(node).order_within("disks replace 2 --yes", Duration::from_secs(120)).ok().filter(|a| a.exit == 0)
        })?;
        until(pair.rig.timeline(), "the rebuilt array", SETTLE, || list(pair, node).filter(whole))?;
        scene.stays(5)
    })
}

fn both(ground: &mut Ground) -> Outcome {
    ground.taken_over("both disks of the active", |scene| {
        scene.pair.rig.pull_disk(scene.active, 1)?;
        Ok(scene.pair.rig.pull_disk(scene.active, 2)?)
    })?;
    // A node without disks is a case for the workshop.
    ground.used_up();
    Ok(())
}
