//! The mirror: nodes whose data went apart on purpose.

use crate::ground::{Ground, Outcome, Scenario, check};
use std::time::Duration;
use twinpost_rig::pair::{PEOPLE, SETTLE, TAKEOVER};
use twinpost_rig::wait::until_told;
use twinpost_rig::{Capability, Rig, other};

pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "data_that_went_apart_is_a_conflict_and_is_merged_without_loss",
        needs: &[Capability::CutPower],
        long: true,
        run: conflict,
    }]
}

/// One node at a time serves, each alone and by a person's word, and each takes mail: that is how data goes apart.
fn conflict(ground: &mut Ground) -> Outcome {
    let (pair, first) = ground.pair()?;
    let second = other(first);
    let rig = &pair.rig;
    let sent = |tag: &str| format!("{tag}.{:x}@elsewhere.example", rand::random::<u64>());
    let (only_first, only_second) = (sent("first"), sent("second"));
    rig.power(second, false)?;
    pair.until_status(first, "it is alone", TAKEOVER, |status| {
        status["nodes"].as_array().into_iter().flatten().any(|n| n["name"] == first && n["state"] == "alone")
    })?;
    pair.send(PEOPLE[0], &only_first, "taken by the first alone")?;
    rig.power(first, false)?;
    // The second one knows nothing of that message, and is told to serve all the same.
    rig.power(second, true)?;
    rig.console(second).attend(twinpost_rig::console::BOOT_PATIENCE)?;
    until_told(rig.timeline(), "the forced takeover is accepted", SETTLE, || {
        rig.console(second).order("pair takeover --force --yes").ok().filter(|answer| answer.exit == 0)
    })?;
    pair.wait_banner(SETTLE)?;
    pair.send(PEOPLE[1], &only_second, "taken by the second alone")?;
    rig.power(first, true)?;
    let status = pair.until_status(second, "a conflict", SETTLE, |status| status.to_string().contains("conflict"))?;
    check(status["active"] == second, || format!("node {} serves now", status["active"]))?;
    rig.console(first).well_within("pair conflict give-way --yes", Duration::from_secs(120))?;
    let active = pair.settled()?;
    rig.console(active).well_within("pair conflict list", Duration::from_secs(120))?;
    rig.console(active).well_within("pair conflict merge", Duration::from_secs(240))?;
    for (person, id) in [(PEOPLE[0], &only_first), (PEOPLE[1], &only_second)] {
        until_told(rig.timeline(), &format!("{id} in the mailbox of {person}"), Duration::from_secs(60), || {
            pair.mailbox(person).ok().filter(|found| found.get(id) == Some(&1))
        })?;
    }
    Ok(())
}
