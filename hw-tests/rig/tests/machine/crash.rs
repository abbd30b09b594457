//! The active loses its power, its kernel, its time.

use crate::ground::{Ground, Outcome, Scenario, check, ms};
use serde_json::json;
use std::time::{Duration, Instant};
use twinpost_rig::pair::TAKEOVER;
use twinpost_rig::wait::until;
use twinpost_rig::{Capability, Rig, other};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "the_active_loses_its_power_under_load", needs: &[Capability::CutPower], long: false, run: power },
        Scenario { name: "the_active_s_kernel_panics", needs: &[Capability::KernelPanic], long: false, run: panics },
        Scenario { name: "the_active_stands_still_for_five_seconds", needs: &[Capability::Stall], long: false, run: stalls },
        Scenario { name: "both_nodes_lose_their_power_at_once", needs: &[Capability::CutPower], long: true, run: both },
        Scenario {
            name: "a_kernel_that_hangs_is_reset_by_the_watchdog",
            needs: &[Capability::KernelPanic],
            long: true,
            run: watchdog,
        },
        Scenario { name: "twenty_power_cuts_of_the_active", needs: &[Capability::CutPower], long: true, run: rounds },
    ]
}

/// Gives the node its power back if it has none, and waits until the pair is whole.
fn back(ground: &mut Ground, node: &str) -> Outcome {
    let pair = ground.living().ok_or("no pair")?;
    if !pair.rig.has_power(node)? {
        pair.rig.power(node, true)?;
    }
    ground.pair().map(drop)
}

fn cut(ground: &mut Ground, name: &str) -> Outcome {
    let (_, active) = ground.pair()?;
    ground.taken_over(name, |scene| Ok(scene.pair.rig.power(scene.active, false)?))?;
    back(ground, active)
}

fn power(ground: &mut Ground) -> Outcome {
    cut(ground, "power of the active")
}

fn rounds(ground: &mut Ground) -> Outcome {
    for _ in 0..20 {
        cut(ground, "power of the active, rounds")?;
    }
    Ok(())
}

fn panics(ground: &mut Ground) -> Outcome {
    let (_, active) = ground.pair()?;
    ground.taken_over("kernel panic of the active", |scene| Ok(scene.pair.rig.panic(scene.active)?))?;
    back(ground, active)
}

fn stalls(ground: &mut Ground) -> Outcome {
    let (_, active) = ground.pair()?;
    let stalled = Duration::from_secs(5);
    let figure = ground.under_load("stall", |scene| {
        let rig = &scene.pair.rig;
        let struck = Instant::now();
        rig.stall(scene.active)?;
        let seen = until(rig.timeline(), "five seconds", stalled + TAKEOVER, || {
            (struck.elapsed() >= stalled).then(|| scene.observers.first_banner(scene.standby, struck))
        })?;
        // Fenced meanwhile, it is off and does not go on: that is the peer's right.
        if rig.has_power(scene.active)? {
            rig.go_on(scene.active)?;
        }
        let figure = match seen {
            Some(heard) => json!({ "banner_ms": ms(heard.duration_since(struck)) }),
            None => scene.served_by_peer(struck)?,
        };
        Ok(figure)
    })?;
    ground.figure("takeover: stall of the active for 5 s", figure);
    back(ground, active)
}

fn both(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    let sending = pair.load("blackout")?;
    sending.more(20, Duration::from_secs(60))?;
    for node in [active, other(active)] {
        pair.rig.power(node, false)?;
    }
    for node in [active, other(active)] {
        pair.rig.power(node, true)?;
    }
    pair.settled()?;
    sending.more(5, Duration::from_secs(120))?;
    let load = sending.end();
    pair.find_all(&load)?;
    Ok(())
}

fn watchdog(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    // A kernel that panics and is told to stay so: nothing but the watchdog brings this machine back.
    let rig = &pair.rig;
    rig.machine(other(active)).choose(|options| options.words = "panic=0".to_owned());
    rig.power(other(active), false)?;
    rig.power(other(active), true)?;
    let (pair, active) = ground.pair()?;
    if pair.rig.machine(active).options().words.is_empty() {
        pair.rig.console(active).well("pair standby --yes")?;
    }
    let (pair, active) = ground.pair()?;
    check(!pair.rig.machine(active).options().words.is_empty(), || "the machine that stays in its panic serves".to_owned())?;
    // Its switch is out of reach: else the peer would fence it long before the watchdog bites.
    pair.rig.cable(active, twinpost_rig::Cable::Switch, twinpost_rig::Fault::Pulled)?;
    let qmp = pair.rig.machine(active).qmp()?;
    let from = qmp.events();
    ground.taken_over("watchdog", |scene| Ok(scene.pair.rig.panic(scene.active)?))?;
    qmp.event("WATCHDOG", from, Duration::from_secs(120))?;
    let pair = ground.living().ok_or("no pair")?;
    pair.rig.cable(active, twinpost_rig::Cable::Switch, twinpost_rig::Fault::None)?;
    pair.rig.machine(active).choose(|options| options.words = String::new());
    back(ground, active)
}
