//! Quotas: taken when a mail is accepted, settled when its texts have gone.
//!
//! What a killed process took and never settled counts until the end of the day, and no longer.

use super::audit::{self, AuditLine};
use super::statistics::{COUNT, Counts};
use super::{Kind, Ledger, State, int, unsigned};
use crate::error::Error;
use crate::number::Number;
use crate::outgoing::Outgoing;
use twinpost_sql::{read, transaction};

/// Whose usage a row counts.
#[derive(Clone, Copy)]
enum Scope {
    Account = 0,
    Domain = 1,
    /// Notices of an account: texts, not parts.
    Notices = 2,
}

/// Who pays for some texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    /// Account or outside sender, in its one form.
    pub who: String,
    /// Its domain.
    pub domain: String,
    /// Day of the site.
    pub day: i64,
    /// Parts a day of the sender.
    pub account_most: Option<u32>,
    /// Parts a day of its domain.
    pub domain_most: Option<u32>,
    /// Notices a day of the account; only for notices.
    pub notices_most: Option<u32>,
}

/// A quota has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaFull {
    /// The domain's quota; else the sender's own.
    pub of_domain: bool,
    /// Parts (of notices: texts) a day.
    pub most: u32,
    /// Of these still free.
    pub left: u32,
}

/// What a reservation ended in.
pub(crate) type Reserved = Result<(), QuotaFull>;

/// Parts of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Accepted, on their way.
    pub reserved: u64,
    /// Sent.
    pub used: u64,
}

/// Texts that room is wanted for.
pub(crate) struct Wanted<'a> {
    pub kind: Kind,
    pub charge: &'a Charge,
    pub trace: &'a str,
    pub numbers: &'a [Number],
    /// Whose inbox an answer goes to.
    pub answers_to: &'a str,
    pub mail: &'a Outgoing,
    pub now_s: i64,
}

/// What became of one text.
pub(crate) struct Ended<'a> {
    pub kind: Kind,
    pub trace: &'a str,
    pub number: &'a Number,
    /// All of it has gone, or arrived.
    pub well: bool,
    /// Short messages that the network took.
    pub parts: u8,
    pub detail: &'a str,
    pub now_s: i64,
}

const OPEN_USAGE: &str =
    "INSERT INTO sms_usage (scope, who, day, reserved, used) VALUES ($1, $2, $3, 0, 0) ON CONFLICT (scope, who, day) DO NOTHING";
const TAKE: &str =
    "UPDATE sms_usage SET reserved = reserved + $1 WHERE scope = $2 AND who = $3 AND day = $4 AND reserved + used + $1 <= $5";
const LEFT: &str = "SELECT reserved + used FROM sms_usage WHERE scope = $1 AND who = $2 AND day = $3";
const USE: &str = "UPDATE sms_usage SET reserved = reserved - $1, used = used + $2 WHERE scope = $3 AND who = $4 AND day = $5";
const INSERT: &str = "INSERT INTO sms_text (trace, number, kind, who, domain, answers_to, day, made_s, reserved, parts, state, subject, message_id, refs) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, $10, $11, $12) ON CONFLICT (trace, number, kind) DO NOTHING";

impl Ledger {
    /// Takes room for a text to each number, or for none. The same text (trace, number, kind) a second time costs nothing more.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn reserve(&self, wanted: &Wanted<'_>) -> Result<Reserved, Error> {
        let &Wanted { kind, charge, trace, numbers, answers_to, mail, now_s } = wanted;
        let refs = mail.references.join(" ");
        let message_id = mail.message_id.as_deref().unwrap_or_default();
        let parts = i64::from(mail.parts);
        let line = |number: &Number, full: bool| AuditLine {
            at_s: now_s,
            event: if full {
                "quota"
            } else if kind == Kind::Notice {
                "notice"
            } else {
                "accepted"
            }
            .to_owned(),
            who: charge.who.clone(),
            trace: trace.to_owned(),
            number: number.to_string(),
            parts: parts.unsigned_abs(),
            ..AuditLine::default()
        };
        transaction!(self.db, tx => {
            let mut new = 0;
            for number in numbers {
                let row = sqlx::query(INSERT).bind(trace).bind(number.as_str()).bind(kind.number()).bind(&charge.who);
                let row = row.bind(&charge.domain).bind(answers_to).bind(charge.day).bind(now_s).bind(parts);
                let row = row.bind(&mail.subject).bind(message_id).bind(&refs).execute(&mut *tx).await?;
                if row.rows_affected() == 1 {
                    new += 1;
                    audit::write!(tx, line(number, false));
                }
            }
            // Always in this order, so that two at once wait for each other instead of locking each other out.
            let mut full = None;
            for (scope, who, most, take) in charge.scopes(kind, new, parts) {
                sqlx::query(OPEN_USAGE).bind(scope as i64).bind(who).bind(charge.day).execute(&mut *tx).await?;
                let limit = most.map_or(i64::MAX, i64::from);
                let row = sqlx::query(TAKE).bind(take).bind(scope as i64).bind(who).bind(charge.day).bind(limit);
                if row.execute(&mut *tx).await?.rows_affected() == 0 {
                    let now: (i64,) = sqlx::query_as(LEFT).bind(scope as i64).bind(who).bind(charge.day).fetch_one(&mut *tx).await?;
                    let most = most.unwrap_or(u32::MAX);
                    let left = u32::try_from(i64::from(most) - now.0).unwrap_or(0);
                    full = Some(QuotaFull { of_domain: matches!(scope, Scope::Domain), most, left });
                    break;
                }
            }
            if let Some(full) = full {
                drop(tx);
                return Ok(Err(full));
            }
            tx.commit().await?;
            Ok(Ok(()))
        })
    }

    /// Gives back what a mail reserved that was not taken after all, or was canceled: all its texts that have not gone.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn release(&self, trace: &str) -> Result<(), Error> {
        let sql = "DELETE FROM sms_text WHERE trace = $1 AND kind = 0 AND state = 0 RETURNING who, domain, day, reserved";
        transaction!(self.db, tx => {
            let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(sql).bind(trace).fetch_all(&mut *tx).await?;
            if let Some((who, domain, day, _)) = rows.first() {
                let sum: i64 = rows.iter().map(|r| r.3).sum();
                for (scope, who) in [(Scope::Account, who), (Scope::Domain, domain)] {
                    sqlx::query(USE).bind(sum).bind(0i64).bind(scope as i64).bind(who).bind(day).execute(&mut *tx).await?;
                }
            }
            tx.commit().await?;
        });
        Ok(())
    }

    /// The text has gone (so many parts) or has failed (so many parts had gone by then). Whose it was; none: it is not known, or was settled before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn settle(&self, ended: &Ended<'_>) -> Result<Option<String>, Error> {
        let &Ended { kind, trace, number, well: sent, parts, detail, now_s } = ended;
        let sql = "UPDATE sms_text SET state = $1, parts = $2 WHERE trace = $3 AND number = $4 AND kind = $5 AND state = 0 RETURNING who, domain, day, reserved";
        let (state, parts) = (if sent { State::Sent } else { State::Failed }, i64::from(parts));
        type Row = (String, String, i64, i64);
        transaction!(self.db, tx => {
            let row = sqlx::query_as(sql).bind(state as i64).bind(parts).bind(trace).bind(number.as_str()).bind(kind.number());
            let row: Option<Row> = row.fetch_optional(&mut *tx).await?;
            let Some((who, domain, day, reserved)) = row else {
                drop(tx);
                return Ok(None);
            };
            let scopes: &[(Scope, &String)] = match kind {
                Kind::Mail => &[(Scope::Account, &who), (Scope::Domain, &domain)],
                Kind::Notice => &[(Scope::Domain, &domain)],
            };
            for (scope, who) in scopes {
                let row = sqlx::query(USE).bind(reserved).bind(parts).bind(*scope as i64).bind(*who).bind(day);
                row.execute(&mut *tx).await?;
            }
            let counts = Counts {
                texts: u64::from(sent && kind == Kind::Mail),
                parts: unsigned(parts),
                failed: u64::from(!sent),
                notices: u64::from(sent && kind == Kind::Notice),
                ..Counts::default()
            };
            super::statistics::count!(tx, day, &who, &domain, counts);
            let line = AuditLine {
                at_s: now_s,
                event: if sent { "sent" } else { "failed" }.to_owned(),
                who: who.clone(),
                trace: trace.to_owned(),
                number: number.to_string(),
                parts: unsigned(parts),
                detail: detail.to_owned(),
                ..AuditLine::default()
            };
            audit::write!(tx, line);
            tx.commit().await?;
            Ok(Some(who))
        })
    }

    /// The network's report on a text that has gone. Whose it was; none: it is not known, or was reported before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn reported(&self, ended: &Ended<'_>) -> Result<Option<String>, Error> {
        let &Ended { kind, trace, number, well: delivered, detail, now_s, .. } = ended;
        let sql = "UPDATE sms_text SET state = $1 WHERE trace = $2 AND number = $3 AND kind = $4 AND state = 1 RETURNING who, domain, day, parts";
        let state = if delivered { State::Delivered } else { State::NotDelivered };
        type Row = (String, String, i64, i64);
        transaction!(self.db, tx => {
            let row = sqlx::query_as(sql).bind(state as i64).bind(trace).bind(number.as_str()).bind(kind.number());
            let row: Option<Row> = row.fetch_optional(&mut *tx).await?;
            let Some((who, domain, day, parts)) = row else {
                drop(tx);
                return Ok(None);
            };
            let counts =
                Counts { delivered: u64::from(delivered), not_delivered: u64::from(!delivered), ..Counts::default() };
            super::statistics::count!(tx, day, &who, &domain, counts);
            let line = AuditLine {
                at_s: now_s,
                event: if delivered { "delivered" } else { "not-delivered" }.to_owned(),
                who: who.clone(),
                trace: trace.to_owned(),
                number: number.to_string(),
                parts: unsigned(parts),
                detail: detail.to_owned(),
                ..AuditLine::default()
            };
            audit::write!(tx, line);
            tx.commit().await?;
            Ok(Some(who))
        })
    }

    /// What an account (or outside sender) used on a day.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn usage_of_account(&self, who: &str, day: i64) -> Result<Usage, Error> {
        self.usage(Scope::Account, who, day).await
    }
    /// What a domain used on a day.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub async fn usage_of_domain(&self, domain: &str, day: i64) -> Result<Usage, Error> {
        self.usage(Scope::Domain, domain, day).await
    }

    async fn usage(&self, scope: Scope, who: &str, day: i64) -> Result<Usage, Error> {
        let sql = "SELECT reserved, used FROM sms_usage WHERE scope = $1 AND who = $2 AND day = $3";
        let row: Option<(i64, i64)> =
            read!(self.db, c => sqlx::query_as(sql).bind(scope as i64).bind(who).bind(day).fetch_optional(c).await?);
        Ok(row.map_or_else(Usage::default, |(reserved, used)| Usage { reserved: unsigned(reserved), used: unsigned(used) }))
    }

    /// Forgets what is older than these moments: texts (their answers find no way then) and audit lines made before, usage and statistics of
    /// days before.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub(crate) async fn prune(&self, texts_s: i64, audit_s: i64, usage_day: i64, statistics_day: i64) -> Result<u64, Error> {
        let steps = [
            ("DELETE FROM sms_text WHERE made_s < $1", texts_s),
            ("DELETE FROM sms_audit WHERE at_s < $1", audit_s),
            ("DELETE FROM sms_usage WHERE day < $1", usage_day),
            ("DELETE FROM sms_statistics WHERE day < $1", statistics_day),
        ];
        transaction!(self.db, tx => {
            let mut gone = 0;
            for (sql, before) in steps {
                gone += sqlx::query(sql).bind(before).execute(&mut *tx).await?.rows_affected();
            }
            tx.commit().await?;
            Ok(gone)
        })
    }
}

impl Charge {
    /// What is taken from which quota for so many new texts.
    fn scopes(&self, kind: Kind, texts: usize, parts: i64) -> Vec<(Scope, &str, Option<u32>, i64)> {
        let all = int(texts).saturating_mul(parts);
        let domain = (Scope::Domain, self.domain.as_str(), self.domain_most, all);
        match kind {
            Kind::Mail => vec![(Scope::Account, self.who.as_str(), self.account_most, all), domain],
            // An account's notices have a quota of their own, so that they do not keep it from writing.
            Kind::Notice => vec![(Scope::Notices, self.who.as_str(), self.notices_most, int(texts)), domain],
        }
    }
}
