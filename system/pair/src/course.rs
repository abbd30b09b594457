//! How a takeover went, step by step.
//!
//! Contract: follows the phases of the heart; times come from outside. Each step ends where the next begins, so that the sum is
//! the whole outage as clients saw it from here: from the last sign of life of the node before (or from the moment it began to hand over)
//! to the first good check from outside.

use crate::api::{Steps, Switch};
use twinpost_heartbeat::Phase;

/// One takeover under way.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    begun_ms: u64,
    last_ms: u64,
    /// Who served before.
    pub(crate) from: Option<String>,
    steps: Steps,
}

impl Course {
    /// A reign was asked for at `now_ms`; the service was last seen at `seen_ms`.
    pub(crate) fn begin(seen_ms: u64, now_ms: u64, from: Option<String>) -> Self {
        let seen_ms = seen_ms.min(now_ms);
        let steps = Steps { detected_ms: now_ms - seen_ms, ..Steps::default() };
        Self { begun_ms: seen_ms, last_ms: now_ms, from, steps }
    }

    fn lap(&mut self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(std::mem::replace(&mut self.last_ms, now_ms))
    }

    /// The heart came into this phase.
    pub(crate) fn entered(&mut self, phase: Phase, now_ms: u64) {
        match phase {
            Phase::Store => self.steps.proof_ms += self.lap(now_ms),
            Phase::Promote => self.steps.stored_ms += self.lap(now_ms),
            Phase::Active => self.steps.promoted_ms += self.lap(now_ms),
            _ => {}
        }
    }

    /// The address is here for the first time.
    pub(crate) fn address(&mut self, now_ms: u64) {
        if self.steps.address_ms == 0 && self.steps.services_ms == 0 {
            self.steps.address_ms = self.lap(now_ms);
        }
    }

    /// The services run (again).
    pub(crate) fn services(&mut self, now_ms: u64) {
        self.steps.services_ms += self.lap(now_ms);
    }

    /// A check from outside was good: the end.
    pub(crate) fn checked(mut self, now_ms: u64, at: i64, to: String, reign: u32, proof: &str) -> Switch {
        self.steps.checked_ms = self.lap(now_ms);
        let took_ms = now_ms.saturating_sub(self.begun_ms);
        Switch { at, from: self.from, to, reign, proof: proof.to_owned(), took_ms, steps: self.steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_are_the_whole() {
        let mut course = Course::begin(1000, 1400, Some("a".to_owned()));
        course.entered(Phase::Claim, 1400);
        course.entered(Phase::Store, 1410);
        course.entered(Phase::Promote, 1430);
        course.entered(Phase::Active, 1500);
        course.address(1501);
        course.address(1580);
        course.services(1700);
        let switch = course.checked(1750, 0, "b".to_owned(), 2, "reservation");
        let s = switch.steps;
        let sum = s.detected_ms + s.proof_ms + s.stored_ms + s.promoted_ms + s.address_ms + s.services_ms + s.checked_ms;
        assert_eq!((switch.took_ms, sum), (750, 750));
        assert_eq!((s.detected_ms, s.proof_ms, s.stored_ms, s.promoted_ms), (400, 10, 20, 70));
        assert_eq!((s.address_ms, s.services_ms, s.checked_ms), (1, 199, 50));
    }
}
