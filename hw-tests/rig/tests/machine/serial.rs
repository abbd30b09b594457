//! The null-modem cable: garbled, pulled, plugged into the wrong port.

use crate::ground::{Ground, Outcome, Scenario, check};
use std::time::Duration;
use twinpost_rig::{Cable, Capability, Fault, NODES, Rig};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_garbled_serial_line_changes_nothing", needs: &[Capability::GarbleSerial], long: false, run: garbled },
        Scenario {
            name: "serial_cables_in_the_wrong_ports_are_noticed_and_mail_goes_on",
            needs: &[Capability::SwapSerial],
            long: false,
            run: swapped,
        },
    ]
}

/// What a node's links say of the serial line.
fn link(status: &serde_json::Value) -> serde_json::Value {
    let links = status["links"].as_array().cloned().unwrap_or_default();
    links.into_iter().find(|link| link["name"] == "serial").unwrap_or_default()
}

fn garbled(ground: &mut Ground) -> Outcome {
    ground.under_load("garbled serial", |scene| {
        let rig = &scene.pair.rig;
        let before = link(&scene.pair.status(scene.active).ok_or("no status")?);
        for node in NODES {
            rig.cable(node, Cable::Serial, Fault::Garbled(0.02))?;
        }
        scene.stays(20)?;
        let sum = |link: &serde_json::Value| {
            link["dropped"].as_object().map_or(0, |dropped| dropped.values().filter_map(serde_json::Value::as_u64).sum::<u64>())
        };
        let after = scene.pair.until_status(scene.active, "dropped frames are counted", Duration::from_secs(60), |status| {
            sum(&link(status)) > sum(&before)
        })?;
        check(after["active"] == scene.active, || format!("node {} serves now", after["active"]))?;
        for node in NODES {
            rig.cable(node, Cable::Serial, Fault::None)?;
        }
        scene.whole_again().map(drop)
    })
}

fn swapped(ground: &mut Ground) -> Outcome {
    ground.under_load("swapped serial", |scene| {
        let rig = &scene.pair.rig;
        rig.swap_serial(scene.active, true)?;
        scene.stays(12)?;
        let status = scene.pair.until_status(scene.active, "the serial link is down", Duration::from_secs(60), |status| {
            link(status)["state"] != "up"
        })?;
        check(status["active"] == scene.active, || format!("node {} serves now", status["active"]))?;
        rig.swap_serial(scene.active, false)?;
        scene.pair.until_status(scene.active, "the serial link is up", Duration::from_secs(60), |status| {
            link(status)["state"] == "up"
        })?;
        scene.whole_again().map(drop)
    })
}
