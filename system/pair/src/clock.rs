//! Time since the machine started.
//!
//! Contract: `CLOCK_BOOTTIME`, which no one can set and which counts while the machine is suspended. Were it to stand still
//! during a suspend (as `CLOCK_MONOTONIC` does), a resumed active would believe in a lease that ended hours ago. The wall clock
//! is read for people only (when something happened); setting it changes nothing that this crate decides.

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine started.
#[must_use]
pub(crate) fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1000);
    whole.saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Seconds since 1970, for people.
#[must_use]
pub(crate) fn wall_s() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

/// Which start of the machine this is; empty where the kernel does not tell.
#[must_use]
pub(crate) fn machine_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
