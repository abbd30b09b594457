//! The threads beside the driver: one looks at the lock file now and then, one waits in the kernel while another holds the lock.
//!
//! Contract: neither ever holds the lock longer than the settings say without a promote. Both end with the driver; the waiting one
//! only when the kernel wakes it, for a blocked `flock(2)` cannot be called back.

use super::{Holding, Inner};
use crate::lock::{self, Description, Record, Use};
use crate::{Error, Event};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Free space is looked at every so many rounds.
const SPACE_ROUNDS: u32 = 32;

pub(super) fn start(inner: Arc<Inner>) -> Result<(), Error> {
    let path = inner.settings.lock();
    let look = move || {
        let mut round = 0_u32;
        while !inner.closed.load(Ordering::SeqCst) {
            let wake = look(&inner, round);
            round = round.wrapping_add(1);
            let state = inner.state();
            if inner.closed.load(Ordering::SeqCst) {
                break;
            }
            let _ = inner.changed.wait_timeout(state, wake);
        }
        // The driver is gone; its lock goes with it, and the file says so.
        if let Holding::Offered { lock, .. } = std::mem::replace(&mut inner.state().holding, Holding::Nothing) {
            inner.give_back(lock);
        }
    };
    std::thread::Builder::new().name("volume-watch".into()).spawn(look).map_err(Error::io("start a thread for", path))?;
    Ok(())
}

/// One look; how long until the next.
fn look(inner: &Arc<Inner>, round: u32) -> Duration {
    let settings = &inner.settings;
    let mut wake = Duration::from_millis(settings.watch_ms.max(1).into());
    let mut state = inner.state();
    match &state.holding {
        Holding::Offered { until, .. } => {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return wake.min(left);
            }
            if let Holding::Offered { lock, .. } = std::mem::replace(&mut state.holding, Holding::Nothing) {
                drop(state);
                inner.give_back(lock);
                tracing::info!("the lock of the mail volume was not used and is given back");
            }
            return wake;
        }
        Holding::Active { fd, .. } => {
            let lock = Description::of(fd, &settings.lock());
            let lost = !lock.and_then(|lock| lock.in_place()).unwrap_or(true);
            if lost && !state.lost {
                state.lost = true;
                state.watch_trouble = "the lock file was removed or replaced under this node".into();
                drop(state);
                tracing::error!(path = %settings.lock().display(), "the lock file was removed or replaced: the volume is not guarded");
                inner.tell(Event::Reservation(false));
                return wake;
            }
            if round.is_multiple_of(SPACE_ROUNDS) {
                let free = rustix::fs::statvfs(&settings.root).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize));
                state.free_bytes = free;
            }
            return wake;
        }
        Holding::Nothing | Holding::Releasing => {}
    }
    drop(state);
    // Without the lock: read outside of the state, disks can be slow.
    match lock::read(&settings.lock()) {
        Ok(record) => {
            let wait = news(inner, record);
            if wait && !inner.yielding.load(Ordering::SeqCst) {
                start_waiting(inner);
            }
        }
        Err(error) => {
            let mut state = inner.state();
            let text = error.to_string();
            if state.watch_trouble != text {
                tracing::warn!(%error, "the lock of the mail volume cannot be read");
                state.watch_trouble = text;
            }
            wake *= 4;
        }
    }
    wake
}

/// Takes in what the file says; whether somebody holds the volume.
fn news(inner: &Inner, record: Record) -> bool {
    let mut state = inner.state();
    if !matches!(state.holding, Holding::Nothing | Holding::Releasing) {
        return false;
    }
    let held = record.usage == Use::Held;
    if held && record.user != inner.settings.node {
        // The other has it: what was handed over has arrived.
        inner.yielding.store(false, Ordering::SeqCst);
    }
    let moved = (record.reign > state.record.reign).then_some(record.reign);
    let wait = held && !state.waiting;
    state.record = record;
    state.watch_trouble.clear();
    drop(state);
    if let Some(reign) = moved {
        inner.tell(Event::Position(reign.into()));
    }
    wait
}

fn start_waiting(inner: &Arc<Inner>) {
    inner.state().waiting = true;
    let waiter = Arc::clone(inner);
    let spawned = std::thread::Builder::new().name("volume-wait".into()).spawn(move || {
        let came = wait(&waiter);
        waiter.state().waiting = false;
        match came {
            Ok(true) => {
                tracing::info!("the mail volume has lost its holder; this node has the lock");
                // The core weighs a lock by the reign that stands beside it.
                let reign = waiter.state().record.reign;
                waiter.tell(Event::Position(reign.into()));
                waiter.tell(Event::Reservation(true));
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot wait for the lock of the mail volume"),
        }
    });
    if let Err(error) = spawned {
        inner.state().waiting = false;
        tracing::warn!(%error, "no thread to wait for the lock of the mail volume");
    }
}

/// Waits for the end of the holder; whether the lock is now offered to the core.
fn wait(inner: &Inner) -> Result<bool, Error> {
    let lock = Description::open(&inner.settings.lock())?;
    if !lock.lock(true)? {
        return Ok(false);
    }
    if inner.closed.load(Ordering::SeqCst) || inner.yielding.load(Ordering::SeqCst) {
        return Ok(false);
    }
    {
        let state = inner.state();
        if !matches!(state.holding, Holding::Nothing) {
            return Ok(false);
        }
    }
    // Given back in order by its holder: a planned switch, and the core of this node asks when it wants it. A holder that ended in any
    // other way left its word behind.
    if lock.record()?.usage != Use::Held {
        return Ok(false);
    }
    inner.offer(lock, Instant::now() + Duration::from_millis(inner.settings.offer_ms.into()));
    Ok(true)
}
