//! Settings of the adapters that a reload changes while they work.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use twinpost_config::{Document, OverQuota};

/// What the document wishes of mail on its way in and out, as it is now.
#[derive(Debug, Default)]
pub struct Wishes {
    expire_s: AtomicU64,
    commit_timeout_ms: AtomicU64,
    over_quota_later: AtomicBool,
}

impl Wishes {
    /// As this document says.
    pub fn of(document: &Document) -> Self {
        let wishes = Self::default();
        wishes.take(document);
        wishes
    }

    /// From now on as this document says.
    pub fn take(&self, document: &Document) {
        self.expire_s.store(document.queue.expire.0.as_secs(), Ordering::Relaxed);
        let commit_timeout_ms = u64::try_from(document.smtp.commit_timeout.0.as_millis()).unwrap_or(u64::MAX);
        self.commit_timeout_ms.store(commit_timeout_ms, Ordering::Relaxed);
        self.over_quota_later.store(document.smtp.over_quota == OverQuota::Defer, Ordering::Relaxed);
    }

    /// How long mail for other sites is tried.
    pub fn expire(&self) -> Duration {
        Duration::from_secs(self.expire_s.load(Ordering::Relaxed))
    }

    /// How long a client waits for its mail to be on stable storage.
    pub fn commit_timeout(&self) -> Duration {
        Duration::from_millis(self.commit_timeout_ms.load(Ordering::Relaxed))
    }

    /// Mail for a full mailbox is answered "later" instead of "no".
    pub fn over_quota_later(&self) -> bool {
        self.over_quota_later.load(Ordering::Relaxed)
    }
}
