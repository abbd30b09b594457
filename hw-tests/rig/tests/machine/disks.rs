//! Disks that go, and disks that come.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::Value;
use std::time::Duration;
use twinpost_rig::pair::SETTLE;
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, NewDisk, Pair, Rig, Stand};

const NEEDS: &[Capability] = &[Capability::PullDisk, Capability::InsertDisk];
/// As large as the disks that a rig starts with.
const SIZE: u64 = 2 << 30;
/// The second bay, as the board names it.
const BAY: &str = "2";

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_disk_is_pulled_and_a_new_one_takes_its_place", needs: NEEDS, long: true, run: replaced },
        Scenario { name: "both_disks_of_the_active_are_lost_and_the_peer_serves", needs: NEEDS, long: false, run: both },
    ]
}

fn list(pair: &Pair<Stand>, node: &str) -> Option<Value> {
    pair.rig.console(node).json("disks list").ok()
}

/// What the list says of the mail's array.
fn mail(list: &Value) -> Option<Value> {
    let arrays = if list["arrays"].is_array() { &list["arrays"] } else { &list["arrays"]["running"] };
    arrays.as_array()?.iter().find(|array| array["array"] == "mail").cloned()
}

/// Whether the array of the mail has all its members, and none of them is being filled.
fn whole(list: &Value) -> bool {
    mail(list).is_some_and(|mail| mail["degraded"] == 0 && mail["action"].is_null())
}

/// Whether a disk is in the bay.
fn filled(list: &Value, bay: &str) -> bool {
    list["bays"].as_array().into_iter().flatten().any(|found| found["name"] == bay && !found["disk"].is_null())
}

fn replaced(ground: &mut Ground) -> Outcome {
    ground.under_load("disk", |scene| {
        let (pair, node) = (scene.pair, scene.active);
        let before = list(pair, node).ok_or("no list of disks")?;
        check(whole(&before), || format!("the array is whole at first: {before}"))?;
        pair.rig.pull_disk(node, 2)?;
        until_told(pair.rig.timeline(), "a degraded array", Duration::from_secs(60), || {
            list(pair, node).filter(|list| !whole(list))
        })?;
        scene.stays(15)?;

        // A disk that is too small, and one that holds somebody's files, are refused.
        for (disk, why) in [(NewDisk::Blank(SIZE / 4), "too small"), (NewDisk::Foreign(SIZE), "foreign")] {
            pair.rig.insert_disk(node, 2, disk)?;
            until_told(pair.rig.timeline(), "the new disk is seen", Duration::from_secs(60), || {
                list(pair, node).filter(|list| filled(list, BAY))
            })?;
            let answer = pair.rig.console(node).order_within(&format!("disks replace {BAY} --yes"), Duration::from_secs(60))?;
            check(answer.exit != 0, || format!("a {why} disk was taken: {}", answer.text))?;
            pair.rig.pull_disk(node, 2)?;
        }
        pair.rig.insert_disk(node, 2, NewDisk::Blank(SIZE))?;
        until_told(pair.rig.timeline(), "the new disk is taken", Duration::from_secs(60), || {
            pair.rig
                .console(node)
                .order_within(&format!("disks replace {BAY} --yes"), Duration::from_secs(120))
                .ok()
                .filter(|a| a.exit == 0)
        })?;
        until_told(pair.rig.timeline(), "the rebuilt array", SETTLE, || list(pair, node).filter(whole))?;
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
