//! The protocol crates' traits over the concrete store and directory. Here, and only here, both sides are known.

mod accounts;
mod imap;
mod pop3;
mod queue;
mod smtp;
mod wishes;

pub use accounts::SignIn;
pub use imap::ImapBackend;
pub use pop3::Pop3Backend;
pub use queue::StoreSpool;
pub use smtp::{SmtpBackend, report_delivery};
pub use wishes::Wishes;

use std::time::{SystemTime, UNIX_EPOCH};
use twinpost_store::{Limits, Quota};

/// Seconds since 1970 UTC.
pub fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// The directory's limits as the store counts them.
pub fn store_limits(limits: &twinpost_directory::Limits) -> Limits {
    Limits {
        account: Quota { size_bytes: limits.account_bytes, messages: limits.account_messages },
        domain: Quota { size_bytes: limits.domain_bytes, messages: limits.domain_messages },
    }
}
