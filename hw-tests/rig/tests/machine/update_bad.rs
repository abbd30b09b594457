//! Updates that are well signed and do not work: the node goes back by itself, says why, and the mail goes on meanwhile.
//!
//! `TWINPOST_BROKEN` is a folder with three images that are broken on purpose (`twinpost-image build --broken`): `boot`, `pair`, `mail`. `make soak` builds them.

use crate::ground::{Ground, Outcome, Scenario, check, ms};
use crate::update::{NEEDS, UPDATE_LIMIT, alarmed, begin, begun, by_firmware, first, follow, plug, until_update, version};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use twinpost_rig::Rig;
use twinpost_rig::wait::until_told;

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "an_update_that_does_not_boot_is_left_after_three_tries", needs: NEEDS, long: true, run: boot },
        Scenario { name: "an_update_whose_pair_daemon_is_ill_goes_back", needs: NEEDS, long: true, run: pair },
        Scenario { name: "an_update_that_cannot_serve_goes_back", needs: NEEDS, long: true, run: mail },
    ]
}

fn boot(ground: &mut Ground) -> Outcome {
    goes_back(ground, "boot", "did not start")
}

fn pair(ground: &mut Ground) -> Outcome {
    goes_back(ground, "pair", "twinpost-pair does not run")
}

fn mail(ground: &mut Ground) -> Outcome {
    goes_back(ground, "mail", "could not serve")
}

/// The update of both stops, its first node has the old version again and says why, and the second was never touched.
fn goes_back(ground: &mut Ground, what: &str, words: &str) -> Outcome {
    // Nodes that were never updated.
    ground.used_up();
    by_firmware(ground)?;
    let folder = ground.folder().to_owned();
    let image =
        std::env::var_os("TWINPOST_BROKEN").map(PathBuf::from).ok_or("TWINPOST_BROKEN names no broken images")?.join(what);
    let (bad, old) = (version(&image)?, version(&first()?)?);
    let figure = ground.under_load(&format!("bad update: {what}"), |scene| {
        let (pair, active, node) = (scene.pair, scene.active, scene.standby);
        let struck = Instant::now();
        plug(pair, active, &folder, &image.join("update.twinpost"))?;
        begin(pair, active, "", begun)?;
        let (seen, why) = follow(pair, &bad)?;
        let took = struck.elapsed();
        let why = why.ok_or("the update went well")?;
        check(why.contains(words), || format!("it stopped for another reason: {why}"))?;
        let status = until_update(pair, node, "the old version, and why", |status| {
            status["version"] == old.as_str() && status["details"]["record"]["attempt"]["stage"] == "returned"
        })?;
        let bad_slot = status["slots"].as_array().into_iter().flatten().find(|slot| slot["slot"] != status["slot"]);
        check(bad_slot.is_some_and(|slot| slot["state"] == "bad"), || format!("it may start again: {}", status["slots"]))?;
        check(status["on_trial"] == false, || "the old version is on trial".to_owned())?;
        until_update(pair, active, "it was never touched", |status| {
            status["version"] == old.as_str() && status["details"]["record"]["attempt"].is_null()
        })?;
        for code in ["update_returned", "pair_update_stopped"] {
            let told = until_told(pair.rig.timeline(), &format!("the alarm {code}"), UPDATE_LIMIT, || alarmed(pair, code))?;
            check(told.contains(&bad), || format!("{code} does not name the version: {told}"))?;
        }
        let serves = pair.settled()?;
        check(serves == active, || format!("node {serves} serves"))?;
        Ok(json!({ "took_ms": ms(took), "stages": seen }))
    })?;
    ground.figure(&format!("update goes back: {what}"), figure);
    // Its history is not that of a new node.
    ground.used_up();
    Ok(())
}
