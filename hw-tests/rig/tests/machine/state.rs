//! The state volume: damaged on both disks, it is said and the mail stays.

use crate::ground::{Ground, Outcome, Scenario, check};
use twinpost_rig::pair::SETTLE;
use twinpost_rig::{Capability, Rig, other};

pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "a_damaged_state_volume_is_said_and_the_mail_stays",
        needs: &[Capability::CorruptDisk, Capability::CutPower],
        long: false,
        run: damaged,
    }]
}

fn damaged(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    let node = other(active);
    let sending = pair.load("state")?;
    sending.more(10, SETTLE)?;
    pair.rig.power(node, false)?;
    for bay in [1, 2] {
        pair.rig.machine(node).damage(bay - 1, "twinpost-state")?;
    }
    pair.rig.power(node, true)?;
    pair.rig.console(node).attend(twinpost_rig::console::BOOT_PATIENCE)?;
    let report = pair.rig.console(node).json("node status")?;
    let said = report["faults"].to_string().contains("state_volatile") && report["boot"]["state"]["mounted"] != "persistent";
    check(said, || format!("the node says nothing of it: {report}"))?;
    sending.more(10, SETTLE)?;
    let load = sending.end();
    pair.find_all(&load)?;
    ground.used_up();
    Ok(())
}
