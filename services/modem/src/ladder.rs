//! The reset ladder: which steps there are, and how long to wait between rounds.
//!
//! Contract: pure. Steps go from mild to harsh; a round that helped nothing is followed by a pause that doubles.
//! No failure classes.

use std::time::Duration;

use crate::family::Dtr;
use crate::{ResetStep, Timing};

/// How far the ladder has been climbed without success.
#[derive(Debug, Default)]
pub(crate) struct Ladder {
    rounds: u32,
}

impl Ladder {
    /// The steps of a round, from `from` on. A step that this modem or board does not have is left out, but at least
    /// one step is there: the order of an administrator is followed by something.
    pub(crate) fn steps(from: ResetStep, dtr: Dtr, power: bool) -> Vec<ResetStep> {
        let all = [ResetStep::Attention, ResetStep::Restart, ResetStep::Dtr, ResetStep::Power];
        let there = |step: &ResetStep| match step {
            ResetStep::Attention | ResetStep::Restart => true,
            ResetStep::Dtr => dtr != Dtr::Ignored,
            ResetStep::Power => power,
        };
        let steps: Vec<ResetStep> = all.into_iter().filter(|s| *s >= from && there(s)).collect();
        if steps.is_empty() { vec![ResetStep::Restart] } else { steps }
    }

    /// A round is over and the modem is still silent: the pause before the next.
    pub(crate) fn failed(&mut self, timing: &Timing) -> Duration {
        let factor = 1u32 << self.rounds.min(16);
        self.rounds += 1;
        timing.ladder_min.saturating_mul(factor).min(timing.ladder_max)
    }

    /// The modem is ready.
    pub(crate) fn succeeded(&mut self) {
        self.rounds = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_grow_harsher() {
        use ResetStep::{Attention, Dtr as Lines, Power, Restart};
        assert_eq!(Ladder::steps(Attention, Dtr::HangsUp, true), [Attention, Restart, Lines, Power]);
        assert_eq!(Ladder::steps(Attention, Dtr::Ignored, false), [Attention, Restart]);
        assert_eq!(Ladder::steps(Lines, Dtr::Starts, true), [Lines, Power]);
        assert_eq!(Ladder::steps(Power, Dtr::Starts, false), [Restart], "no power switch: the best there is");
    }

    #[test]
    fn pauses_double_up_to_a_limit() {
        let timing = Timing::default();
        let mut ladder = Ladder::default();
        let pauses: Vec<u64> = (0..12).map(|_| ladder.failed(&timing).as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 600, 600, 600, 600, 600]);
        ladder.succeeded();
        assert_eq!(ladder.failed(&timing).as_secs(), 5);
    }
}
