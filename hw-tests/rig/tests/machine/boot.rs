//! Two nodes boot, settle who serves, and mail goes in and out by the service address.

use crate::ground::{Ground, Outcome, Scenario, check};
use serde_json::json;
use std::time::Duration;
use twinpost_rig::pair::{DOMAIN, PEOPLE};
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, NODES, Rig, other};

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario { name: "both_nodes_boot_and_settle_who_serves", needs: &[], long: false, run: settles },
        Scenario { name: "mail_goes_in_and_out_by_the_service_address", needs: &[], long: false, run: mail },
        Scenario { name: "a_planned_switch_keeps_every_message", needs: &[], long: false, run: planned },
    ]
}

fn settles(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    let mut boots = Vec::new();
    for node in NODES {
        let status = pair.status(node).ok_or("no status")?;
        check(status["active"] == active, || format!("node {node} thinks that {} serves", status["active"]))?;
        let links = status["links"].as_array().cloned().unwrap_or_default();
        for name in ["eth1", "lan", "serial"] {
            let link = links.iter().find(|link| link["name"] == name);
            check(link.is_some_and(|link| link["state"] == "up"), || format!("node {node}: link {name} is {link:?}"))?;
        }
        check(status["watchdog"]["open"] == true, || format!("node {node}: watchdog {}", status["watchdog"]))?;
        // Without one that software can stop, a bench may have none.
        let witness = !pair.rig.can(Capability::Witness) || status["witness"]["reachable"] == true;
        check(witness, || format!("node {node}: witness {}", status["witness"]))?;
        check(!status["fencing"].is_null(), || format!("node {node} has no power switch"))?;
        let machine = pair.rig.console(node).json("node status")?;
        let (init, boot_ms, memory) = (&machine["init"], &machine["boot"]["took_ms"], &machine["memory"]);
        boots.push(json!({ "node": node, "init": init, "boot_ms": boot_ms, "memory": memory }));
    }
    ground.figure("boot", json!(boots));
    Ok(())
}

fn mail(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    let id = format!("in.{:x}@elsewhere.example", rand::random::<u64>());
    pair.send(PEOPLE[0], &id, "hello")?;
    until_told(pair.rig.timeline(), "the message in the mailbox", Duration::from_secs(30), || {
        pair.mailbox(PEOPLE[0]).ok().filter(|found| found.get(&id) == Some(&1))
    })?;
    let refused = pair.send(&format!("nobody@{DOMAIN}"), &id, "hello");
    check(refused.is_err_and(|e| e.to_string().contains("550")), || "an unknown recipient is refused".to_owned())?;
    let verified = pair.rig.console(active).well_within("store verify", Duration::from_secs(120))?;
    pair.rig.timeline().note("rig", &verified);
    Ok(())
}

fn planned(ground: &mut Ground) -> Outcome {
    ground
        .taken_over("planned switch", |scene| Ok(scene.pair.rig.console(scene.active).well("pair standby --yes").map(drop)?))?;
    let (pair, active) = ground.pair()?;
    let status = pair.status(other(active)).ok_or("no status")?;
    check(status["active"] == active, || format!("both know who serves: {status}"))
}
