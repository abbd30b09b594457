//! Time in milliseconds since 1970 that never jumps by itself: the monotonic clock on a base of the wall clock. When
//! somebody sets the wall clock (an appliance without a battery starts in 1970 until NTP answers), the jump is told,
//! so that everything that waits keeps its remaining time.

use std::time::{SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A difference below it is drift, and is taken silently with the next jump.
const JUMP_MS: i64 = 5_000;

#[derive(Debug)]
pub(crate) struct Clock {
    base_ms: i64,
    base: Instant,
    /// Follow the wall clock. Tests with a virtual clock do not.
    wall: bool,
}

impl Clock {
    pub(crate) fn new(wall: bool) -> Clock {
        Clock { base_ms: wall_ms(), base: Instant::now(), wall }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.base_ms.saturating_add(i64::try_from(self.base.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// By how much the wall clock was set since the last call; this clock follows it.
    pub(crate) fn jumped(&mut self) -> Option<i64> {
        if !self.wall {
            return None;
        }
        let by = wall_ms() - self.now_ms();
        if by.abs() < JUMP_MS {
            return None;
        }
        self.base_ms = self.base_ms.saturating_add(by);
        Some(by)
    }
}

fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}
