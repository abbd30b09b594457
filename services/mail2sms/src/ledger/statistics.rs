//! Numbers by account, domain and day.

use super::{Ledger, unsigned};
use crate::error::Error;
use twinpost_sql::read;

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Texts that the network took.
    pub texts: u64,
    /// Short messages that the network took, notices included.
    pub parts: u64,
    /// Texts and notices that failed.
    pub failed: u64,
    /// Texts that the network reported as delivered.
    pub delivered: u64,
    /// Texts that the network reported as not delivered.
    pub not_delivered: u64,
    /// Answers that came back as mail.
    pub answers: u64,
    /// Notices of new mail.
    pub notices: u64,
}

/// One line of statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Account, domain, or empty when counted by day.
    pub name: String,
    /// Day since 1970-01-01; none when counted over all days.
    pub day: Option<i64>,
    /// The numbers.
    pub counts: Counts,
}

/// What a line of statistics stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatisticsBy {
    /// An account or outside sender.
    #[default]
    Account,
    /// A domain.
    Domain,
    /// A day.
    Day,
}

/// Which statistics to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsQuery {
    /// First day.
    pub from_day: i64,
    /// Last day, included.
    pub to_day: i64,
    /// Only of this domain.
    pub domain: Option<String>,
    /// Only of this account.
    pub account: Option<String>,
    /// What to add up.
    pub by: StatisticsBy,
}

pub(super) const COUNT: &str = "INSERT INTO sms_statistics (day, who, domain, texts, parts, failed, delivered, not_delivered, answers, notices) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (day, who) DO UPDATE SET texts = sms_statistics.texts + excluded.texts, parts = sms_statistics.parts + excluded.parts, failed = sms_statistics.failed + excluded.failed, delivered = sms_statistics.delivered + excluded.delivered, not_delivered = sms_statistics.not_delivered + excluded.not_delivered, answers = sms_statistics.answers + excluded.answers, notices = sms_statistics.notices + excluded.notices";

/// Adds to the numbers of a day inside an open transaction.
macro_rules! count {
    ($tx:ident, $day:expr, $who:expr, $domain:expr, $counts:expr) => {{
        let c: $crate::ledger::Counts = $counts;
        let mut row = sqlx::query(COUNT).bind($day).bind($who).bind($domain);
        for n in [c.texts, c.parts, c.failed, c.delivered, c.not_delivered, c.answers, c.notices] {
            row = row.bind($crate::ledger::int(n));
        }
        row.execute(&mut *$tx).await?;
    }};
}
pub(super) use count;

impl Ledger {
    /// Statistics, at most 10,000 lines.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn statistics(&self, query: &StatisticsQuery) -> Result<Vec<Row>, Error> {
        let (name, day) = match query.by {
            StatisticsBy::Account => ("who", "CAST(-1 AS BIGINT)"),
            StatisticsBy::Domain => ("domain", "CAST(-1 AS BIGINT)"),
            StatisticsBy::Day => ("''", "day"),
        };
        let group = if query.by == StatisticsBy::Day { "day" } else { name };
        let sums: Vec<String> = ["texts", "parts", "failed", "delivered", "not_delivered", "answers", "notices"]
            .iter()
            .map(|column| format!("CAST(SUM({column}) AS BIGINT)"))
            .collect();
        let sql = format!(
            "SELECT {name}, {day}, {} FROM sms_statistics WHERE day >= $1 AND day <= $2 AND ($3 = '' OR domain = $3) AND ($4 = '' OR who = $4) GROUP BY {group} ORDER BY {group} LIMIT 10000",
            sums.join(", ")
        );
        let (domain, account) = (query.domain.clone().unwrap_or_default(), query.account.clone().unwrap_or_default());
        type Sums = (String, i64, i64, i64, i64, i64, i64, i64, i64);
        let rows: Vec<Sums> = read!(self.db, c => {
            let ask = sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(query.from_day).bind(query.to_day).bind(domain).bind(account);
            ask.fetch_all(c).await?
        });
        let row = |(name, day, texts, parts, failed, delivered, not_delivered, answers, notices)| Row {
            name,
            day: (day >= 0).then_some(day),
            counts: Counts {
                texts: unsigned(texts),
                parts: unsigned(parts),
                failed: unsigned(failed),
                delivered: unsigned(delivered),
                not_delivered: unsigned(not_delivered),
                answers: unsigned(answers),
                notices: unsigned(notices),
            },
        };
        Ok(rows.into_iter().map(row).collect())
    }
}
