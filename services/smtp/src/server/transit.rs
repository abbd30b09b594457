//! How much memory all messages on their way in may hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The account of one server.
pub(super) struct Transit {
    used_bytes: AtomicUsize,
    max_bytes: AtomicUsize,
}

impl Transit {
    pub fn new(max_bytes: usize) -> Self {
        Self { used_bytes: AtomicUsize::new(0), max_bytes: AtomicUsize::new(max_bytes) }
    }
    pub fn set_max(&self, max_bytes: usize) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }
    /// An empty share, given back when it is dropped.
    pub fn share(&self) -> Held<'_> {
        Held { transit: self, bytes: 0 }
    }
}

/// One session's share.
pub(super) struct Held<'a> {
    transit: &'a Transit,
    bytes: usize,
}

impl Held<'_> {
    /// Makes the share this large. False, and unchanged, when there is no more.
    pub fn set(&mut self, bytes: usize) -> bool {
        let used = &self.transit.used_bytes;
        if let Some(more) = bytes.checked_sub(self.bytes).filter(|n| *n > 0) {
            let before = used.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.transit.max_bytes.load(Ordering::Relaxed) {
                used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_come_back() {
        let transit = Transit::new(100);
        let (mut a, mut b) = (transit.share(), transit.share());
        assert!(a.set(60) && !b.set(41) && b.set(40) && a.set(10) && b.set(90));
        drop(b);
        assert!(a.set(100) && !a.set(101));
        drop(a);
        assert_eq!(transit.used_bytes.load(Ordering::Relaxed), 0);
    }
}
