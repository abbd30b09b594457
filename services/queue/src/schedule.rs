//! When a recipient is tried again, told of and given up. Pure.

use crate::Settings;

/// What a deferral leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tried again at this time, seconds since 1970 UTC; the sender is told of the delay if `warn`.
    Retry {
        /// When.
        at_s: i64,
        /// A delay report is due.
        warn: bool,
    },
    /// Given up.
    Expired,
}

/// The next step for a recipient that was deferred at `now_s` after `attempts` tries (this one included). `spread` in 0..=1
/// moves the time by up to a tenth, so that messages that failed together do not come back together.
#[must_use]
pub fn after_deferral(
    settings: &Settings,
    now_s: i64,
    created_s: i64,
    expires_s: i64,
    attempts: u32,
    delay_told: bool,
    spread: f64,
) -> Next {
    if now_s >= expires_s {
        return Next::Expired;
    }
    let step = (attempts.max(1) as usize - 1).min(settings.retry.len().saturating_sub(1));
    let wait_s = settings.retry.get(step).map_or(3600.0, std::time::Duration::as_secs_f64);
    let wait_s = (wait_s * (1.0 + spread.clamp(0.0, 1.0) / 10.0)).max(1.0);
    // A last try at the moment of expiry beats giving up in the middle of a long pause.
    let at_s = (now_s + wait_s as i64).min(expires_s);
    let warn = !delay_told && now_s.saturating_sub(created_s) >= i64::try_from(settings.warn_after.as_secs()).unwrap_or(i64::MAX);
    Next::Retry { at_s, warn }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_schedule_is_followed_and_its_last_step_repeats() {
        let settings = Settings::default();
        let waits: Vec<i64> = (1..=9)
            .map(|n| match after_deferral(&settings, 1000, 1000, 10_000_000, n, false, 0.0) {
                Next::Retry { at_s, .. } => (at_s - 1000) / 60,
                Next::Expired => -1,
            })
            .collect();
        assert_eq!(waits, [2, 5, 15, 30, 60, 120, 240, 240, 240]);
    }

    #[test]
    fn a_delay_is_told_once_and_the_end_is_the_end() {
        let settings = Settings::default();
        let late = 1000 + 4 * 3600;
        assert!(matches!(after_deferral(&settings, late, 1000, 10_000_000, 3, false, 0.0), Next::Retry { warn: true, .. }));
        assert!(matches!(after_deferral(&settings, late, 1000, 10_000_000, 3, true, 0.0), Next::Retry { warn: false, .. }));
        assert_eq!(after_deferral(&settings, late, 1000, late, 3, true, 0.0), Next::Expired);
    }

    proptest! {
        #[test]
        fn a_retry_lies_in_the_future_and_not_behind_expiry(now in 0i64..1 << 40, age in 0i64..1 << 20, left in 1i64..1 << 20, attempts in 0u32..1000, spread in 0.0f64..1.0) {
            match after_deferral(&Settings::default(), now, now - age, now + left, attempts, false, spread) {
                Next::Retry { at_s, .. } => prop_assert!(at_s > now && at_s <= now + left),
                Next::Expired => prop_assert!(false, "not expired yet"),
            }
        }
    }
}
