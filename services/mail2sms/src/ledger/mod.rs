//! What the gateway remembers: texts on their way, usage, routes of answers, notice rules, statistics, audit lines. In SQL, on SQLite and
//! PostgreSQL alike.
//!
//! Contract: a call that returned has committed. A quota is taken before a mail is accepted and settled when its texts have
//! gone, so two mails at once never exceed it. Settling twice changes nothing the second time. Times come in; days are numbers since
//! 1970-01-01 by the site's clock. Names of people come in their one form (see `sender::key`).
//! Failure class: [`Error::Database`]; nothing of that call was kept.

mod answers;
mod audit;
mod rules;
mod statistics;
#[cfg(test)]
mod tests;
mod usage;

pub use audit::{AuditLine, AuditQuery};
pub use statistics::{Counts, Row, StatisticsBy, StatisticsQuery};
pub use usage::{QuotaFull, Usage};

pub(crate) use answers::Route;
pub(crate) use usage::{Charge, Ended, Wanted};

use crate::error::Error;
use crate::notice::Rule;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use twinpost_sql::{Database, Location, Migration};

/// Readers of the database.
const READERS: u32 = 4;

const MIGRATIONS: &[Migration] = &[(
    1,
    "CREATE TABLE sms_text (id {id}, trace TEXT NOT NULL, number TEXT NOT NULL, kind BIGINT NOT NULL, who TEXT NOT NULL, domain TEXT NOT NULL, answers_to TEXT NOT NULL, day BIGINT NOT NULL, made_s BIGINT NOT NULL, reserved BIGINT NOT NULL, parts BIGINT NOT NULL, state BIGINT NOT NULL, subject TEXT NOT NULL, message_id TEXT NOT NULL, refs TEXT NOT NULL, answered_s BIGINT);
CREATE UNIQUE INDEX sms_text_key ON sms_text (trace, number, kind);
CREATE INDEX sms_text_number ON sms_text (number, id);
CREATE INDEX sms_text_made ON sms_text (made_s);
CREATE TABLE sms_usage (scope BIGINT NOT NULL, who TEXT NOT NULL, day BIGINT NOT NULL, reserved BIGINT NOT NULL, used BIGINT NOT NULL, PRIMARY KEY (scope, who, day)) {clustered};
CREATE TABLE sms_statistics (day BIGINT NOT NULL, who TEXT NOT NULL, domain TEXT NOT NULL, texts BIGINT NOT NULL, parts BIGINT NOT NULL, failed BIGINT NOT NULL, delivered BIGINT NOT NULL, not_delivered BIGINT NOT NULL, answers BIGINT NOT NULL, notices BIGINT NOT NULL, PRIMARY KEY (day, who)) {clustered};
CREATE TABLE sms_rule (account TEXT NOT NULL, name TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (account, name)) {clustered};
CREATE TABLE sms_audit (id {id}, at_s BIGINT NOT NULL, event TEXT NOT NULL, who TEXT NOT NULL, trace TEXT NOT NULL, number TEXT NOT NULL, parts BIGINT NOT NULL, detail TEXT NOT NULL);
CREATE INDEX sms_audit_who ON sms_audit (who, id);
CREATE INDEX sms_audit_at ON sms_audit (at_s);
CREATE INDEX sms_audit_trace ON sms_audit (trace);
",
)];

/// Why a text is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Somebody's mail to a number.
    Mail,
    /// A notice of new mail.
    Notice,
}

impl Kind {
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Mail => 0,
            Self::Notice => 1,
        }
    }
}

/// Where a text stands; 0 is reserved, as it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Sent = 1,
    Failed = 2,
    Delivered = 3,
    NotDelivered = 4,
}

/// The open ledger; clones share everything.
#[derive(Clone, Debug)]
pub struct Ledger {
    db: Database,
    /// Rules are asked for with every mail that arrives, so they are kept in memory.
    rules: Arc<RwLock<HashMap<String, Arc<[Rule]>>>>,
}

impl Ledger {
    /// Opens the ledger here; makes or upgrades its tables.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub async fn open(location: &Location) -> Result<Self, Error> {
        let db = Database::open(location, READERS).await?;
        db.migrate("mail2sms", MIGRATIONS).await?;
        let ledger = Self { db, rules: Arc::default() };
        ledger.refresh().await?;
        Ok(ledger)
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.db.close().await;
    }
}

pub(crate) fn int(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
