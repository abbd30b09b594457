//! Power cuts in the middle of updates: afterwards each node runs one of the two versions, and the update can be given again and ends well.
//!
//! The moments are those of docs/update-format.md. `make test` takes one by lot, `make soak` all; `TWINPOST_SEED` repeats a lot.

use crate::ground::{Ground, Outcome, Scenario, check, ms};
use crate::update::{
    NEEDS, UPDATE_LIMIT, begin, begun, bring_both, by_firmware, first, install, machine_status, next, plug, until_update,
    update_status, version,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use twinpost_rig::console::BOOT_PATIENCE;
use twinpost_rig::wait::{until, until_told};
use twinpost_rig::{NODES, Pair, Rig, Stand, other};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "the_power_goes_at_a_moment_of_an_update", needs: NEEDS, long: true, run: by_lot },
        Scenario { name: "the_power_goes_at_every_moment_of_an_update", needs: NEEDS, long: true, run: every },
        Scenario { name: "the_power_of_both_goes_between_the_nodes_of_an_update", needs: NEEDS, long: true, run: between },
    ]
}

/// When the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// The bundle is being verified: nothing is changed yet.
    Verifying,
    /// Chunks are being written.
    Writing,
    /// What was written is being read back.
    ReadingBack,
    /// The boot entries are being made visible, disk by disk.
    Arming,
    /// Everything is written, nothing was tried.
    Written,
    /// Firmware, loader and kernel of the first counted start.
    Counted,
    /// The new version is being judged.
    Trial,
    /// It was kept just now.
    Kept,
}

const MOMENTS: [Moment; 8] = [
    Moment::Verifying,
    Moment::Writing,
    Moment::ReadingBack,
    Moment::Arming,
    Moment::Written,
    Moment::Counted,
    Moment::Trial,
    Moment::Kept,
];

fn lots(pair: &Pair<Stand>) -> StdRng {
    let seed = std::env::var("TWINPOST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    pair.rig.timeline().say(&format!("TWINPOST_SEED={seed}"));
    StdRng::seed_from_u64(seed)
}

fn by_lot(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, _) = ground.pair()?;
    let mut lots = lots(pair);
    let moment = MOMENTS[lots.random_range(0..MOMENTS.len())];
    cut(ground, moment, &mut lots)
}

fn every(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (pair, _) = ground.pair()?;
    let mut lots = lots(pair);
    for moment in MOMENTS {
        cut(ground, moment, &mut lots)?;
    }
    Ok(())
}

/// The share of a kind of work that an order has told of last.
fn share(text: &str, what: &str) -> Option<f64> {
    let steps = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of = |step: Value| {
        let progress = &step["progress"];
        let known = progress["what"]["en"].as_str().is_some_and(|known| known.starts_with(what));
        known.then(|| progress["done"].as_f64().unwrap_or(0.0) / progress["of"].as_f64().unwrap_or(1.0).max(1.0))
    };
    steps.filter_map(of).next_back()
}

/// How often the firmware of a node has handed over to a boot loader.
fn starts(pair: &Pair<Stand>, node: &str) -> usize {
    let log = pair.rig.timeline().folder().join(format!("{node}-console.log"));
    let text = std::fs::read(log).unwrap_or_default();
    let word = b"BdsDxe: starting";
    text.windows(word.len()).filter(|window| window == word).count()
}

/// Updates the standby alone to the version that it does not run, cuts its power at that moment, and then brings the update to a good end.
fn cut(ground: &mut Ground, moment: Moment, lots: &mut StdRng) -> Outcome {
    let folder = ground.folder().to_owned();
    let images = [first()?, next()?];
    let (pair, active) = ground.pair()?;
    let node = other(active);
    let timeline = pair.rig.timeline();
    let running = machine_status(pair, node).ok_or("no status")?["version"].clone();
    let (image, words) = if running == version(&images[0])?.as_str() {
        (&images[1], "--this-node")
    } else {
        (&images[0], "--this-node --downgrade")
    };
    let wanted = version(image)?;
    timeline.say(&format!("the power of node {node} goes: {moment:?}, on the way from {running} to {wanted}"));
    let begun = Instant::now();
    plug(pair, node, &folder, &image.join("update.twinpost"))?;
    let reached = |what: &'static str, at: f64| move |text: &str| share(text, what).is_some_and(|share| share >= at);
    let part = lots.random_range(0.05..0.85);
    match moment {
        Moment::Verifying => begin(pair, node, words, reached("verifying", 0.0))?,
        Moment::Writing => begin(pair, node, words, reached("writing", part))?,
        Moment::ReadingBack => begin(pair, node, words, reached("reading back", part))?,
        Moment::Arming => begin(pair, node, words, reached("reading back", 0.9))?,
        Moment::Written | Moment::Counted | Moment::Trial | Moment::Kept => write(pair, node, words)?,
    }
    let before = starts(pair, node);
    if matches!(moment, Moment::Counted | Moment::Trial | Moment::Kept) {
        pair.rig.console(node).well("power reboot --yes")?;
    }
    match moment {
        Moment::Counted => {
            until(timeline, "the counted start", BOOT_PATIENCE, || (starts(pair, node) > before).then_some(()))?;
        }
        Moment::Trial => {
            until_update(pair, node, "the trial", |status| status["version"] == wanted.as_str() && status["on_trial"] == true)?;
        }
        Moment::Kept => {
            until_update(pair, node, "it is kept", |status| status["version"] == wanted.as_str() && status["on_trial"] == false)?;
        }
        _ => {}
    }
    // Anywhere between this moment and the next.
    let span = if matches!(moment, Moment::Arming | Moment::Counted) { 4000 } else { 600 };
    std::thread::sleep(Duration::from_millis(lots.random_range(0..span)));
    pair.rig.power(node, false)?;
    let struck = Instant::now();
    pair.rig.power(node, true)?;
    let status = until_told(timeline, &format!("node {node} after the power cut"), UPDATE_LIMIT, || update_status(pair, node))?;
    let found = status["version"].clone();
    check(found == running || found == wanted.as_str(), || format!("node {node} runs version {found}"))?;
    let back = struck.elapsed();
    pair.settled()?;
    if found == wanted.as_str() {
        check(matches!(moment, Moment::Arming | Moment::Written | Moment::Counted | Moment::Trial | Moment::Kept), || {
            format!("it ran version {found} before it was written")
        })?;
    } else {
        check(moment != Moment::Kept, || "a version that was kept is gone".to_owned())?;
        until_update(pair, node, "nothing is on trial", |status| status["on_trial"] == false)?;
        plug(pair, node, &folder, &image.join("update.twinpost"))?;
        write(pair, node, words)?;
        pair.rig.console(node).well("power reboot --yes")?;
    }
    until_update(pair, node, "it is kept at last", |status| {
        status["version"] == wanted.as_str()
            && status["on_trial"] == false
            && status["details"]["record"]["attempt"]["stage"] == "committed"
    })?;
    ground.pair()?;
    let figure = json!({ "moment": format!("{moment:?}"), "after": found, "back_ms": ms(back), "took_ms": ms(begun.elapsed()) });
    ground.figure("power cut in an update", figure);
    Ok(())
}

/// Installs on this node alone, to the end.
fn write(pair: &Pair<Stand>, node: &str, words: &str) -> Outcome {
    let answer = install(pair, node, words)?;
    check(answer.exit == 0, || format!("it was not installed: {}", answer.text))
}

/// Both nodes lose their power when the first has the new version and the second has not: the plan goes on by itself.
fn between(ground: &mut Ground) -> Outcome {
    by_firmware(ground)?;
    let (folder, image) = (ground.folder().to_owned(), next()?);
    let wanted = version(&image)?;
    let (pair, active) = ground.pair()?;
    let node = other(active);
    if NODES.iter().any(|one| machine_status(pair, one).is_some_and(|status| status["version"] == wanted.as_str())) {
        bring_both(pair, active, &folder, &first()?, "--downgrade")?;
    }
    let (pair, active) = ground.pair()?;
    let node = if node == active { other(active) } else { node };
    plug(pair, active, &folder, &image.join("update.twinpost"))?;
    begin(pair, active, "", begun)?;
    until_update(pair, node, "the first node keeps the new version", |status| {
        status["version"] == wanted.as_str() && status["on_trial"] == false
    })?;
    cut_both(pair, &[node, active])?;
    for one in NODES {
        until_update(pair, one, "the new version is kept", |status| {
            status["version"] == wanted.as_str() && status["on_trial"] == false && status["both"]["stage"]["stage"] != "aborted"
        })?;
    }
    pair.settled()?;
    let sending = pair.load("after the cut")?;
    sending.more(10, Duration::from_secs(60))?;
    let load = sending.end();
    pair.find_all(&load)?;
    Ok(())
}

fn cut_both(pair: &Pair<Stand>, nodes: &[&str]) -> Outcome {
    for on in [false, true] {
        for node in nodes {
            pair.rig.power(node, on)?;
        }
    }
    Ok(())
}
