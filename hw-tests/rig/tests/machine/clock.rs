//! A node whose clock is wrong by a year.

use crate::ground::{Ground, Outcome, Scenario, check};
use twinpost_rig::{Capability, Rig, other};

pub fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "a_standby_whose_clock_is_wrong_by_a_year_joins_and_takes_over",
        needs: &[Capability::SetClock, Capability::CutPower],
        long: true,
        run: year,
    }]
}

fn year(ground: &mut Ground) -> Outcome {
    let (pair, active) = ground.pair()?;
    let node = other(active);
    pair.rig.power(node, false)?;
    pair.rig.clock_offset(node, -365 * 86_400)?;
    pair.rig.power(node, true)?;
    let (_, active) = ground.pair()?;
    check(active != node, || "the node that came last serves".to_owned())?;
    ground.taken_over("planned switch to a clock that is wrong by a year", |scene| {
        Ok(scene.pair.rig.console(scene.active).well("pair standby --yes").map(drop)?)
    })?;
    let (pair, _) = ground.pair()?;
    pair.rig.clock_offset(node, 0)?;
    pair.rig.power(node, false)?;
    pair.rig.power(node, true)?;
    ground.pair().map(drop)
}
