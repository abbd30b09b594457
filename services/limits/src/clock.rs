//! The limiter's clock: the system's monotonic one, or one that a test turns.

use governor::nanos::Nanos;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since the limiter began. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The monotonic clock of the system, from now.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System(Instant::now()))
    }
    /// A clock that stands still until [`Clock::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self(Kind::Manual(Arc::new(AtomicU64::new(0))))
    }
    /// Turns a manual clock (and all its clones) on.
    ///
    /// # Panics
    /// On the system's clock: nobody turns that.
    pub fn advance(&self, by: Duration) {
        match &self.0 {
            Kind::System(_) => panic!("the system's clock turns by itself"),
            Kind::Manual(nanos) => {
                nanos.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
    }
    /// Time since its beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        match &self.0 {
            Kind::System(start) => start.elapsed(),
            Kind::Manual(nanos) => Duration::from_nanos(nanos.load(Ordering::Relaxed)),
        }
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        self.elapsed().into()
    }
}
