//! A person switches a node off: nobody takes it for a fault, and nobody gives it its power back.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::Value;
use std::time::{Duration, Instant};
use twinpost_rig::pair::TAKEOVER;
use twinpost_rig::wait::{until, until_ok};
use twinpost_rig::{Capability, Pair, Rig, Stand, other};

/// An orderly end on one emulated core.
const OFF_LIMIT: Duration = Duration::from_secs(90);
/// Longer than a node that was fenced stays without power.
const STAYS: Duration = Duration::from_secs(12);

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a_standby_that_a_person_switches_off_stays_off",
            needs: &[Capability::CutPower],
            long: true,
            run: standby,
        },
        Scenario {
            name: "an_active_that_a_person_switches_off_hands_over_first",
            needs: &[Capability::CutPower],
            long: true,
            run: active,
        },
    ]
}

/// The order, and the end of the machine. The answer may be lost with the console.
fn off(pair: &Pair<Stand>, node: &str) -> Outcome {
    let _ = pair.rig.console(node).order_within("power off --yes", Duration::from_secs(8));
    let gone = || Ok((!pair.rig.has_power(node)?).then_some(()));
    Ok(until_ok(pair.rig.timeline(), &format!("the end of node {node}"), OFF_LIMIT, gone)?)
}

fn codes(status: &Value) -> Vec<&str> {
    status["alarms"].as_array().into_iter().flatten().filter_map(|alarm| alarm["code"].as_str()).collect()
}

/// It stays off, its peer says why, and nobody was alarmed.
fn stays_off(pair: &Pair<Stand>, node: &str, before: usize) -> Outcome {
    let since = Instant::now();
    until(pair.rig.timeline(), &format!("node {node} stays off"), STAYS + TAKEOVER, || (since.elapsed() >= STAYS).then_some(()))?;
    check(!pair.rig.has_power(node)?, || format!("node {node} got its power back"))?;
    let status = pair.status(other(node)).ok_or("no status")?;
    let of = status["nodes"].as_array().into_iter().flatten().find(|known| known["name"] == node);
    check(of.is_some_and(|known| known["state"] == "off"), || format!("node {node} is told as {of:?}"))?;
    let told = codes(&status);
    let new = &told[before.min(told.len())..];
    let loud = ["peer_silent", "link_silent", "alone", "mail_waits", "fence_failed"];
    check(new.contains(&"peer_off_by_order") && !new.iter().any(|code| loud.contains(code)), || {
        format!("people were told {new:?}")
    })
}

fn back(ground: &mut Ground, node: &str) -> Outcome {
    let pair = ground.living().ok_or("no pair")?;
    pair.rig.power(node, false)?;
    pair.rig.power(node, true)?;
    let (pair, _) = ground.pair()?;
    let status = pair.status(other(node)).ok_or("no status")?;
    let of = status["nodes"].as_array().into_iter().flatten().find(|known| known["name"] == node);
    check(of.is_some_and(|known| known["state"] != "off"), || format!("node {node} is back and told as {of:?}"))
}

fn standby(ground: &mut Ground) -> Outcome {
    let gone = ground.under_load("standby off", |scene| {
        let pair = scene.pair;
        let before = codes(&pair.status(scene.active).ok_or("no status")?).len();
        off(pair, scene.standby)?;
        stays_off(pair, scene.standby, before)?;
        Ok(scene.standby)
    })?;
    back(ground, gone)
}

fn active(ground: &mut Ground) -> Outcome {
    let gone = ground.under_load("active off", |scene| {
        let pair = scene.pair;
        let before = codes(&pair.status(scene.standby).ok_or("no status")?).len();
        off(pair, scene.active)?;
        pair.until_status(scene.standby, "it serves", TAKEOVER, |status| status["services"]["state"] == "up")?;
        stays_off(pair, scene.active, before)?;
        Ok(scene.active)
    })?;
    back(ground, gone)
}
