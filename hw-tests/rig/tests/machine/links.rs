//! Cables of the network: crossover, LAN, everything.

use crate::ground::{Ground, Outcome, Scenario, check};
use std::time::{Duration, Instant};
use twinpost_rig::pair::TAKEOVER;
use twinpost_rig::wait::until_told;
use twinpost_rig::{Cable, Capability, Fault, Rig};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "the_crossover_cable_is_pulled_the_mirror_catches_up_and_the_peer_serves_all_mail",
            needs: &[Capability::CutEth1],
            long: false,
            run: eth1,
        },
        Scenario {
            name: "the_active_s_lan_cable_is_pulled_and_the_peer_serves",
            needs: &[Capability::CutLan],
            long: false,
            run: lan,
        },
        Scenario {
            name: "all_cables_of_the_active_are_pulled_and_the_witness_decides",
            needs: &[Capability::CutLan, Capability::CutEth1, Capability::CutSerial, Capability::Witness],
            long: false,
            run: isolated,
        },
        Scenario {
            name: "all_cables_are_pulled_without_a_witness_and_never_two_serve",
            needs: &[Capability::CutLan, Capability::CutEth1, Capability::CutSerial, Capability::Witness, Capability::CutSwitch],
            long: true,
            run: alone,
        },
    ]
}

fn eth1(ground: &mut Ground) -> Outcome {
    let meanwhile = ground.under_load("eth1", |scene| {
        let rig = &scene.pair.rig;
        rig.cable(scene.active, Cable::Eth1, Fault::Pulled)?;
        scene.stays(20)?;
        let status = scene.pair.until_status(scene.active, "it is alone", TAKEOVER, |status| {
            let own = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|n| n["name"] == scene.active).cloned());
            own.is_some_and(|own| own["state"] == "alone")
        })?;
        let peer = status["nodes"].as_array().and_then(|nodes| nodes.iter().find(|n| n["name"] == scene.standby).cloned());
        check(peer.is_some_and(|peer| peer["eligible"] == false), || {
            format!("a standby without the mirror is eligible: {status}")
        })?;
        // What is written now is on one side only.
        scene.stays(20)?;
        scene.pair.until_status(scene.active, "the peer's copy is behind", TAKEOVER, |status| {
            let storage = &status["storage"];
            let apart = storage["out_of_sync_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
            storage["connection"] != "Connected" && storage["peer_disk"] != "UpToDate" && apart
        })?;
        rig.cable(scene.active, Cable::Eth1, Fault::None)?;
        let active = scene.whole_again()?;
        check(active == scene.active, || format!("node {active} serves now"))?;
        let storage = scene.pair.storage(active);
        check(storage["out_of_sync_bytes"] == 0 && storage["peer_disk"] == "UpToDate", || format!("caught up: {storage}"))?;
        Ok(scene.sending.load())
    })?;
    ground.taken_over("planned switch to a mirror that caught up", |scene| {
        Ok(scene.pair.rig.console(scene.active).well("pair standby --yes").map(drop)?)
    })?;
    let (pair, _) = ground.pair()?;
    pair.find_all(&meanwhile)?;
    Ok(())
}

fn lan(ground: &mut Ground) -> Outcome {
    ground.taken_over("LAN cable of the active", |scene| Ok(scene.pair.rig.cable(scene.active, Cable::Lan, Fault::Pulled)?))?;
    let pulled = twinpost_rig::other(served(ground)?);
    ground.mend(pulled)?;
    ground.pair().map(drop)
}

/// Who serves now, though its peer is not well.
fn served(ground: &mut Ground) -> Result<&'static str, Box<dyn std::error::Error>> {
    let pair = ground.living().ok_or("no pair")?;
    let found = until_told(pair.rig.timeline(), "who serves", TAKEOVER, || {
        twinpost_rig::NODES.into_iter().find(|node| pair.status_now(node).is_some_and(|status| status["active"] == *node))
    })?;
    Ok(found)
}

fn pull_all(scene: &crate::ground::Scene<'_>) -> Outcome {
    let rig = &scene.pair.rig;
    rig.cable(scene.active, Cable::Eth1, Fault::Pulled)?;
    rig.cable(scene.active, Cable::Serial, Fault::Pulled)?;
    Ok(rig.cable(scene.active, Cable::Lan, Fault::Pulled)?)
}

fn isolated(ground: &mut Ground) -> Outcome {
    ground.taken_over("all cables of the active, with witness and switch", pull_all)?;
    let cut_off = twinpost_rig::other(served(ground)?);
    ground.mend(cut_off)?;
    // The switch has taken its power; a person puts it back on.
    let pair = ground.living().ok_or("no pair")?;
    if !pair.rig.has_power(cut_off)? {
        pair.rig.power(cut_off, true)?;
    }
    ground.pair().map(drop)
}

fn alone(ground: &mut Ground) -> Outcome {
    ground.under_load("no witness", |scene| {
        let rig = &scene.pair.rig;
        rig.witness(false)?;
        for node in twinpost_rig::NODES {
            rig.cable(node, Cable::Switch, Fault::Pulled)?;
        }
        pull_all(scene)?;
        // No proof: the standby must not serve, however long it hears nothing. Ten leases are long.
        let from = Instant::now();
        let status = scene.pair.until_status(scene.standby, "it has looked for a proof in vain", TAKEOVER, |status| {
            status["active"] != scene.standby && from.elapsed() > Duration::from_secs(10)
        })?;
        check(scene.observers.first_banner(scene.standby, from).is_none(), || format!("it serves without a proof: {status}"))?;
        // First the nodes hear each other, then there are proofs again: so nobody is switched off who has just come back.
        scene.mend(scene.active)?;
        scene.pair.until_status(scene.standby, "it hears its peer", TAKEOVER, |status| {
            let links = status["links"].as_array().cloned().unwrap_or_default();
            links.iter().filter(|link| link["state"] == "up").count() == 3
        })?;
        for node in twinpost_rig::NODES {
            rig.cable(node, Cable::Switch, Fault::None)?;
        }
        rig.witness(true)?;
        scene.whole_again().map(drop)
    })
}
