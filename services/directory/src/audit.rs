//! Reading the audit trail. Rows are written with the change that they tell of, in its transaction.

use crate::directory::Directory;
use crate::error::Error;
use crate::types::AuditEntry;
use twinpost_sql::read;

/// Which entries to read, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only of this domain, account, alias or group.
    pub subject: Option<String>,
    /// Only entries older than this one: to read on after a page.
    pub before_id: Option<i64>,
    /// How many, at most 10,000.
    pub limit: u32,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { subject: None, before_id: None, limit: 100 }
    }
}

impl Directory {
    /// Who changed what, newest first.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        let columns = "SELECT id, at_s, actor, action, subject, detail FROM audit WHERE id < $1";
        let sql = match query.subject {
            None => format!("{columns} ORDER BY id DESC LIMIT $2"),
            Some(_) => format!("{columns} AND subject = $3 ORDER BY id DESC LIMIT $2"),
        };
        let (before, limit) = (query.before_id.unwrap_or(i64::MAX), i64::from(query.limit.min(10_000)));
        type Row = (i64, i64, String, String, String, String);
        let rows: Vec<Row> = read!(self.inner.db, c => {
            let ask = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(before).bind(limit);
            match &query.subject {
                Some(subject) => ask.bind(subject.clone()).fetch_all(c).await?,
                None => ask.fetch_all(c).await?,
            }
        });
        let entry = |(id, at_s, actor, action, subject, detail)| AuditEntry { id, at_s, actor, action, subject, detail };
        Ok(rows.into_iter().map(entry).collect())
    }
}
