//! Whose text an SMS answers: the last one that went to its number.

use super::audit::{self, AuditLine};
use super::statistics::{COUNT, Counts};
use super::{Ledger, State};
use crate::error::Error;
use crate::number::Number;
use twinpost_sql::{read, transaction};

/// The text that an SMS answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub id: i64,
    pub who: String,
    pub domain: String,
    pub answers_to: String,
    pub subject: String,
    pub message_id: String,
    pub references: Vec<String>,
}

impl Ledger {
    /// The last text to this number since then that may have arrived.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn route(&self, number: &Number, since_s: i64) -> Result<Option<Route>, Error> {
        let sql = "SELECT id, who, domain, answers_to, subject, message_id, refs FROM sms_text WHERE number = $1 AND kind = 0 AND made_s >= $2 AND state <> $3 ORDER BY id DESC LIMIT 1";
        type Row = (i64, String, String, String, String, String, String);
        let row: Option<Row> = read!(self.db, c => {
            sqlx::query_as(sql).bind(number.as_str()).bind(since_s).bind(State::Failed as i64).fetch_optional(c).await?
        });
        Ok(row.map(|(id, who, domain, answers_to, subject, message_id, refs)| Route {
            id,
            who,
            domain,
            answers_to,
            subject,
            message_id,
            references: refs.split(' ').filter(|r| !r.is_empty()).map(str::to_owned).collect(),
        }))
    }

    /// An answer came: counts it, once for each name of an SMS, and lets the sender answer back without a PIN.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn answered(&self, route: &Route, name: &str, number: &Number, day: i64, now_s: i64) -> Result<(), Error> {
        let line = || AuditLine {
            at_s: now_s,
            event: "answer".to_owned(),
            who: route.who.clone(),
            trace: name.to_owned(),
            number: number.to_string(),
            detail: route.answers_to.clone(),
            ..AuditLine::default()
        };
        transaction!(self.db, tx => {
            if audit::known!(tx, name) {
                drop(tx);
                return Ok(());
            }
            let sql = "UPDATE sms_text SET answered_s = $1 WHERE id = $2";
            sqlx::query(sql).bind(now_s).bind(route.id).execute(&mut *tx).await?;
            super::statistics::count!(tx, day, &route.who, &route.domain, Counts { answers: 1, ..Counts::default() });
            audit::write!(tx, line());
            tx.commit().await?;
        });
        Ok(())
    }

    /// This number has sent this person an answer since then.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn has_answered(&self, number: &Number, who: &str, since_s: i64) -> Result<bool, Error> {
        let sql = "SELECT COUNT(*) FROM sms_text WHERE number = $1 AND kind = 0 AND who = $2 AND answered_s >= $3";
        let (n,): (i64,) = read!(self.db, c => {
            sqlx::query_as(sql).bind(number.as_str()).bind(who).bind(since_s).fetch_one(c).await?
        });
        Ok(n > 0)
    }
}
