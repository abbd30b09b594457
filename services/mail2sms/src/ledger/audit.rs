//! Audit lines: who, to, parts, outcome. Written in the transaction of what they tell of.

use super::{Ledger, unsigned};
use crate::error::Error;
use twinpost_sql::{read, transaction};

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditLine {
    /// Grows; 0 before it is written.
    pub id: i64,
    /// When.
    pub at_s: i64,
    /// `accepted`, `refused`, `sent`, `failed`, `delivered`, `not-delivered`, `notice`, `answer`, `stray`.
    pub event: String,
    /// Account or sender.
    pub who: String,
    /// Trace of the mail.
    pub trace: String,
    /// Number, or the address that was refused without its PIN.
    pub number: String,
    /// Short messages.
    pub parts: u64,
    /// Reason.
    pub detail: String,
}

/// Which lines to read, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this account or sender.
    pub who: Option<String>,
    /// Only older than this line: to read on.
    pub before_id: Option<i64>,
    /// How many, at most 10,000.
    pub limit: u32,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { who: None, before_id: None, limit: 100 }
    }
}

pub(super) const INSERT: &str =
    "INSERT INTO sms_audit (at_s, event, who, trace, number, parts, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)";

/// Longest detail that is kept.
const DETAIL_MAX_BYTES: usize = 500;

impl AuditLine {
    pub(super) fn bounded(mut self) -> Self {
        self.detail.truncate(self.detail.floor_char_boundary(DETAIL_MAX_BYTES));
        self
    }
}

/// Writes a line inside an open transaction.
macro_rules! write {
    ($tx:ident, $line:expr) => {{
        let line: $crate::ledger::AuditLine = $line;
        let line = line.bounded();
        let row = sqlx::query($crate::ledger::audit::INSERT).bind(line.at_s).bind(line.event).bind(line.who).bind(line.trace);
        row.bind(line.number).bind($crate::ledger::int(line.parts)).bind(line.detail).execute(&mut *$tx).await?;
    }};
}
pub(super) use write;

pub(super) const KNOWN: &str = "SELECT COUNT(*) FROM sms_audit WHERE trace = $1";

/// A line of this trace was written before; inside an open transaction.
macro_rules! known {
    ($tx:ident, $trace:expr) => {{
        let (n,): (i64,) = sqlx::query_as($crate::ledger::audit::KNOWN).bind($trace).fetch_one(&mut *$tx).await?;
        n > 0
    }};
}
pub(super) use known;

impl Ledger {
    /// Writes the first line of its trace; a second one is left out.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn note_once(&self, line: AuditLine) -> Result<(), Error> {
        transaction!(self.db, tx => {
            if known!(tx, &line.trace) {
                drop(tx);
            } else {
                write!(tx, line);
                tx.commit().await?;
            }
        });
        Ok(())
    }

    /// Writes a line of its own.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn note(&self, line: AuditLine) -> Result<(), Error> {
        transaction!(self.db, tx => {
            write!(tx, line);
            tx.commit().await?;
        });
        Ok(())
    }

    /// Lines, newest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditLine>, Error> {
        let sql = "SELECT id, at_s, event, who, trace, number, parts, detail FROM sms_audit WHERE id < $1 AND ($2 = '' OR who = $2) ORDER BY id DESC LIMIT $3";
        type Row = (i64, i64, String, String, String, String, i64, String);
        let (before, limit) = (query.before_id.unwrap_or(i64::MAX), i64::from(query.limit.min(10_000)));
        let who = query.who.clone().unwrap_or_default();
        let rows: Vec<Row> = read!(self.db, c => sqlx::query_as(sql).bind(before).bind(who).bind(limit).fetch_all(c).await?);
        let line = |(id, at_s, event, who, trace, number, parts, detail)| AuditLine {
            id,
            at_s,
            event,
            who,
            trace,
            number,
            parts: unsigned(parts),
            detail,
        };
        Ok(rows.into_iter().map(line).collect())
    }
}
