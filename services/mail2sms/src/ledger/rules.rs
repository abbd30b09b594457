//! Notice rules of accounts, in SQL and in memory.

use super::Ledger;
use crate::error::Error;
use crate::notice::Rule;
use std::collections::HashMap;
use std::sync::Arc;
use twinpost_sql::{read, transaction};

impl Ledger {
    /// The rules of an account, by name. From memory.
    #[must_use]
    pub fn rules(&self, account: &str) -> Arc<[Rule]> {
        self.rules.read().get(account).cloned().unwrap_or_default()
    }

    /// Reads the rules again: another process may have changed them.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let sql = "SELECT account, rule FROM sms_rule ORDER BY account, name";
        let rows: Vec<(String, String)> = read!(self.db, c => sqlx::query_as(sql).fetch_all(c).await?);
        let mut all: HashMap<String, Vec<Rule>> = HashMap::new();
        for (account, text) in rows {
            let rule = serde_json::from_str(&text).map_err(|e| Error::Damaged(format!("a notice rule of {account}: {e}")))?;
            all.entry(account).or_default().push(rule);
        }
        *self.rules.write() = all.into_iter().map(|(account, rules)| (account, rules.into())).collect();
        Ok(())
    }

    /// Writes a rule; one of the same name is replaced. False: the account has `most` rules already.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub(crate) async fn set_rule(&self, account: &str, rule: &Rule, most: u8) -> Result<bool, Error> {
        let text = serde_json::to_string(rule).map_err(|e| Error::Rule(e.to_string()))?;
        let count = "SELECT COUNT(*) FROM sms_rule WHERE account = $1 AND name <> $2";
        let put = "INSERT INTO sms_rule (account, name, rule) VALUES ($1, $2, $3) ON CONFLICT (account, name) DO UPDATE SET rule = excluded.rule";
        let written = transaction!(self.db, tx => {
            let (others,): (i64,) = sqlx::query_as(count).bind(account).bind(&rule.name).fetch_one(&mut *tx).await?;
            if others < i64::from(most) {
                sqlx::query(put).bind(account).bind(&rule.name).bind(text).execute(&mut *tx).await?;
                tx.commit().await?;
                true
            } else {
                drop(tx);
                false
            }
        });
        if written {
            self.refresh().await?;
        }
        Ok(written)
    }

    /// Removes a rule, or all of an account (`name` none). How many there were.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::Damaged`].
    pub(crate) async fn remove_rules(&self, account: &str, name: Option<&str>) -> Result<u64, Error> {
        let sql = "DELETE FROM sms_rule WHERE account = $1 AND ($2 = '' OR name = $2)";
        let gone = transaction!(self.db, tx => {
            let row = sqlx::query(sql).bind(account).bind(name.unwrap_or_default()).execute(&mut *tx).await?;
            tx.commit().await?;
            row.rows_affected()
        });
        self.refresh().await?;
        Ok(gone)
    }
}
