//! Real-time priority and locked memory, where permitted.
//!
//! Contract: best effort; what is not permitted is one line in the log. A pair daemon that waits behind a busy backup, or for a page
//! of its own to come back from the disk that has just died, is late, and being late is what its peer takes for death.
//! Memory is locked as it is touched (`MCL_ONFAULT`): locking all of it would fill every thread's stack. With a limit on locked memory
//! it is left alone: a later allocation would then fail.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// In the middle of the range: above everything ordinary, below the kernel's own.
const PRIORITY: u8 = 50;

/// Gives the calling thread real-time priority. The thread must start no process: it would inherit.
pub(crate) fn raise_thread() {
    let Ok(priority) = ThreadPriorityValue::try_from(PRIORITY) else { return };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(priority), policy) {
        Ok(()) => tracing::info!(priority = PRIORITY, "the heart runs with real-time priority"),
        Err(e) => tracing::info!(error = ?e, "the heart runs without real-time priority: not permitted"),
    }
}

/// Keeps this process's memory from being swapped.
pub(crate) fn lock_memory() {
    if getrlimit(Resource::Memlock).current.is_some() && !rustix::process::geteuid().is_root() {
        tracing::info!("memory is not locked: the limit on locked memory does not permit it");
        return;
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => tracing::info!("memory is locked"),
        Err(e) => tracing::info!(error = %e, "memory is not locked: not permitted"),
    }
}
