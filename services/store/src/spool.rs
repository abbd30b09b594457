//! The outbound queue as the store keeps it: entries with their envelope, recipients with their state.
//!
//! Contract: an entry comes in the commit of its delivery and goes in the commit that makes its last recipient final, so
//! a recipient is never lost and never tried after it was delivered (but for the one duplicate that SMTP cannot exclude:
//! a stop between the remote 250 and the commit). Claims are in memory: one process owns the queue, and after its end
//! everything is due again.

use crate::db::{self, Row, Value};
use crate::{Delivery, Error, Store};
use std::collections::HashMap;
use twinpost_message::{AccountId, Address, BodyId, QueueId, TraceId};

/// RFC 3461 4.3: how much of the message a failure report returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header.
    Headers,
}

/// RFC 3461 4.1: which reports the sender wants. None of the bits with `NEVER` unset is the default (failure, delay).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify(pub u8);

impl Notify {
    /// `NEVER`
    pub const NEVER: u8 = 1;
    /// `SUCCESS`
    pub const SUCCESS: u8 = 2;
    /// `FAILURE`
    pub const FAILURE: u8 = 4;
    /// `DELAY`
    pub const DELAY: u8 = 8;

    /// This report is wanted. RFC 3461 4.1: without NOTIFY failures are reported and delays may be.
    #[must_use]
    pub fn wants(self, report: u8) -> bool {
        if self.0 == 0 { report & (Self::FAILURE | Self::DELAY) != 0 } else { self.0 & report != 0 }
    }
}

/// A recipient of a new entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRcpt {
    /// The address.
    pub address: Address,
    /// ORCPT as it came, `rfc822;a@b` (still xtext-decoded once).
    pub orcpt: Option<String>,
    /// NOTIFY.
    pub notify: Notify,
}

/// A new entry of the queue; its body comes from the delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSpool {
    /// Reverse-path; none is the null sender.
    pub sender: Option<Address>,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID, decoded.
    pub envid: Option<String>,
    /// The envelope or header needs SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// The body came as 8BITMIME or BINARYMIME.
    pub eight_bit: bool,
    /// RFC 8689 REQUIRETLS.
    pub require_tls: bool,
    /// Not tried until released.
    pub held: bool,
    /// The account that signed in to send it.
    pub account: Option<AccountId>,
    /// When it is given up, seconds since 1970 UTC.
    pub expires_s: i64,
    /// First try, seconds since 1970 UTC.
    pub next_try_s: i64,
    /// Recipients.
    pub rcpts: Vec<NewRcpt>,
}

/// Where a recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RcptState {
    /// To be tried.
    Waiting,
    /// Delivered.
    Delivered,
    /// Given up or refused.
    Failed,
}

/// What the other side said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// SMTP code; 0 when there was no reply (no connection).
    pub code: u16,
    /// Its text with the enhanced code, or what went wrong. Cut at 1,000 bytes.
    pub text: String,
}

/// A recipient of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolRcpt {
    /// Its number in the entry.
    pub n: u32,
    /// The address.
    pub address: Address,
    /// ORCPT.
    pub orcpt: Option<String>,
    /// NOTIFY.
    pub notify: Notify,
    /// Where it stands.
    pub state: RcptState,
    /// Tries so far.
    pub attempts: u32,
    /// Next try, seconds since 1970 UTC.
    pub next_try_s: i64,
    /// Last try.
    pub last_try_s: Option<i64>,
    /// Last reply.
    pub reply: Reply,
    /// A delay was reported to the sender.
    pub delay_told: bool,
}

/// An entry of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolEntry {
    /// Its number, never used again.
    pub id: QueueId,
    /// The message.
    pub body: BodyId,
    /// Its size in bytes.
    pub size_bytes: u32,
    /// Reverse-path; none is the null sender.
    pub sender: Option<Address>,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID.
    pub envid: Option<String>,
    /// Needs SMTPUTF8.
    pub smtputf8: bool,
    /// Has bytes above 127.
    pub eight_bit: bool,
    /// REQUIRETLS.
    pub require_tls: bool,
    /// Not tried until released.
    pub held: bool,
    /// Its name in logs.
    pub trace: TraceId,
    /// The account that sent it.
    pub account: Option<AccountId>,
    /// When it came, seconds since 1970 UTC.
    pub created_s: i64,
    /// When it is given up.
    pub expires_s: i64,
    /// All recipients, by number.
    pub rcpts: Vec<SpoolRcpt>,
}

/// What a try did for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RcptUpdate {
    /// Number of the recipient in its entry.
    pub n: u32,
    /// Where it stands now.
    pub state: RcptState,
    /// When to try again, when it waits.
    pub next_try_s: i64,
    /// When it was tried; none when it was not (for example expired, or told of a delay).
    pub tried_s: Option<i64>,
    /// What the other side said.
    pub reply: Reply,
    /// A delay was reported to the sender with this update.
    pub delay_told: bool,
}

/// The outcome of a try, and the reports that it makes, in one commit. An entry whose recipients are all final goes.
#[derive(Clone, Debug)]
pub struct SpoolUpdate {
    /// The entry.
    pub id: QueueId,
    /// Its recipients that changed.
    pub rcpts: Vec<RcptUpdate>,
    /// Messages that come in the same commit: delivery reports, local deliveries.
    pub deliver: Vec<Delivery>,
}

/// What an operator does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolAction {
    /// Not tried until released.
    Hold,
    /// Tried as planned.
    Release,
    /// Tried now: every waiting recipient is due at this time (seconds since 1970 UTC).
    Retry(i64),
    /// Gone, without report.
    Drop,
}

/// Which entries to list. All that are given must hold.
#[derive(Clone, Debug, Default)]
pub struct SpoolFilter {
    /// Only those behind this one (for paging).
    pub after: Option<QueueId>,
    /// Sender contains this text.
    pub sender: Option<String>,
    /// A recipient contains this text.
    pub rcpt: Option<String>,
    /// Held, or not held.
    pub held: Option<bool>,
    /// Sent by this account.
    pub account: Option<AccountId>,
    /// By trace id.
    pub trace: Option<TraceId>,
}

impl RcptState {
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Waiting => 0,
            Self::Delivered => 1,
            Self::Failed => 2,
        }
    }
    fn of(number: i64) -> Self {
        match number {
            0 => Self::Waiting,
            1 => Self::Delivered,
            _ => Self::Failed,
        }
    }
}

impl Ret {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

const ENTRY: &str = "SELECT id, body, size_bytes, sender, ret, envid, smtputf8, eight_bit, require_tls, held, trace, account, \
                     created_s, expires_s FROM spool WHERE id";
const RCPT: &str = "SELECT spool, n, address, orcpt, notify, state, attempts, next_try_s, last_try_s, reply_code, reply_text, \
                    delay_told FROM spool_rcpt WHERE spool";

fn address(text: &str, what: &str) -> Result<Address, Error> {
    Address::parse(text).map_err(|e| Error::Index(format!("{what} {text:?} in the queue: {e}")))
}

fn entry(row: &Row) -> Result<SpoolEntry, Error> {
    Ok(SpoolEntry {
        id: QueueId(row.int(0)?),
        body: BodyId(row.int(1)?),
        size_bytes: row.u32(2)?,
        sender: row.opt_text(3)?.map(|t| address(&t, "sender")).transpose()?,
        ret: row.opt_text(4)?.map(|t| if t == "FULL" { Ret::Full } else { Ret::Headers }),
        envid: row.opt_text(5)?,
        smtputf8: row.bool(6)?,
        eight_bit: row.bool(7)?,
        require_tls: row.bool(8)?,
        held: row.bool(9)?,
        trace: TraceId(row.uint(10)?),
        account: row.opt_int(11)?.map(AccountId),
        created_s: row.int(12)?,
        expires_s: row.int(13)?,
        rcpts: Vec::new(),
    })
}

fn rcpt(row: &Row) -> Result<SpoolRcpt, Error> {
    Ok(SpoolRcpt {
        n: row.u32(1)?,
        address: address(&row.text(2)?, "recipient")?,
        orcpt: row.opt_text(3)?,
        notify: Notify(u8::try_from(row.int(4)?).unwrap_or(0)),
        state: RcptState::of(row.int(5)?),
        attempts: row.u32(6)?,
        next_try_s: row.int(7)?,
        last_try_s: row.opt_int(8)?,
        reply: Reply { code: u16::try_from(row.int(9)?).unwrap_or(0), text: row.text(10)? },
        delay_told: row.bool(11)?,
    })
}

impl Store {
    async fn spool_entries(&self, ids: &[i64]) -> Result<Vec<SpoolEntry>, Error> {
        let list: Vec<Value> = ids.iter().map(|id| Value::Int(*id)).collect();
        let db = &self.inner.db;
        let mut entries = db::fetch_in(db, ENTRY, &[], &list, "").await?.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let mut rcpts: HashMap<i64, Vec<SpoolRcpt>> = HashMap::new();
        for row in db::fetch_in(db, RCPT, &[], &list, "").await? {
            rcpts.entry(row.int(0)?).or_default().push(rcpt(&row)?);
        }
        for entry in &mut entries {
            entry.rcpts = rcpts.remove(&entry.id.0).unwrap_or_default();
            entry.rcpts.sort_by_key(|r| r.n);
        }
        // An entry that went between the two reads has no recipients any more.
        entries.retain(|e| !e.rcpts.is_empty());
        entries.sort_by_key(|e| e.id);
        Ok(entries)
    }

    /// Claims entries that have a recipient due at `now_s` and are neither held nor claimed, oldest due first.
    /// Each must be given back: by [`Store::spool_update`] or by [`Store::spool_unclaim`].
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn spool_claim(&self, now_s: i64, most: usize) -> Result<Vec<SpoolEntry>, Error> {
        let _one_at_a_time = self.inner.claiming.lock().await;
        let claimed = self.inner.published.claims.lock().len();
        // Claimed entries are due as well and stand in front: look behind them.
        let sql = "SELECT r.spool FROM spool_rcpt AS r JOIN spool AS s ON s.id = r.spool \
                   WHERE r.state = 0 AND r.next_try_s <= $1 AND s.held = 0 GROUP BY r.spool ORDER BY MIN(r.next_try_s), r.spool LIMIT $2";
        let limit = i64::try_from(most.saturating_add(claimed)).unwrap_or(i64::MAX);
        let rows = db::fetch(&self.inner.db, sql, vec![now_s.into(), limit.into()]).await?;
        let mut ids = Vec::new();
        {
            let mut claims = self.inner.published.claims.lock();
            for row in rows {
                let id = row.int(0)?;
                if ids.len() < most && claims.insert(QueueId(id)) {
                    ids.push(id);
                }
            }
        }
        let entries = self.spool_entries(&ids).await;
        // What could not be read, or is gone meanwhile, is not claimed.
        let got: Vec<QueueId> = entries.as_ref().map(|e| e.iter().map(|e| e.id).collect()).unwrap_or_default();
        let mut claims = self.inner.published.claims.lock();
        for id in ids {
            if !got.contains(&QueueId(id)) {
                claims.remove(&QueueId(id));
            }
        }
        drop(claims);
        entries
    }

    /// Gives a claimed entry back untried.
    pub fn spool_unclaim(&self, id: QueueId) {
        self.inner.published.claims.lock().remove(&id);
    }

    /// The earliest time at which an unheld, unclaimed entry has a recipient due; none when nothing waits.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn spool_next_due_s(&self) -> Result<Option<i64>, Error> {
        let claims: Vec<QueueId> = self.inner.published.claims.lock().iter().copied().collect();
        let sql = "SELECT r.spool, MIN(r.next_try_s) FROM spool_rcpt AS r JOIN spool AS s ON s.id = r.spool \
                   WHERE r.state = 0 AND s.held = 0 GROUP BY r.spool ORDER BY MIN(r.next_try_s) LIMIT $1";
        let limit = i64::try_from(claims.len() + 1).unwrap_or(i64::MAX);
        for row in db::fetch(&self.inner.db, sql, vec![limit.into()]).await? {
            if !claims.contains(&QueueId(row.int(0)?)) {
                return Ok(Some(row.int(1)?));
            }
        }
        Ok(None)
    }

    /// Entries in the order of their numbers, at most `most`.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn spool_list(&self, filter: &SpoolFilter, most: usize) -> Result<Vec<SpoolEntry>, Error> {
        let mut sql = String::from("SELECT s.id FROM spool AS s WHERE s.id > $1");
        let mut args = vec![Value::Int(filter.after.map_or(0, |q| q.0))];
        let mut and = |condition: &str, value: Value| {
            args.push(value);
            sql.push_str(&condition.replace('?', &format!("${}", args.len())));
        };
        let like = |text: &str| {
            let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            Value::Text(format!("%{escaped}%"))
        };
        if let Some(text) = &filter.sender {
            and(" AND LOWER(s.sender) LIKE ? ESCAPE '\\'", like(text));
        }
        if let Some(text) = &filter.rcpt {
            let condition =
                " AND EXISTS (SELECT 1 FROM spool_rcpt AS r WHERE r.spool = s.id AND LOWER(r.address) LIKE ? ESCAPE '\\')";
            and(condition, like(text));
        }
        if let Some(held) = filter.held {
            and(" AND s.held = ?", held.into());
        }
        if let Some(account) = filter.account {
            and(" AND s.account = ?", account.0.into());
        }
        if let Some(trace) = filter.trace {
            and(" AND s.trace = ?", trace.0.into());
        }
        and(" ORDER BY s.id LIMIT ?", i64::try_from(most).unwrap_or(i64::MAX).into());
        let rows = db::fetch(&self.inner.db, sql, args).await?;
        let ids = rows.iter().map(|r| r.int(0)).collect::<Result<Vec<_>, _>>()?;
        self.spool_entries(&ids).await
    }

    /// One entry.
    ///
    /// # Errors
    /// [`Error::NoQueueEntry`]; faults of the index.
    pub async fn spool_entry(&self, id: QueueId) -> Result<SpoolEntry, Error> {
        self.spool_entries(&[id.0]).await?.pop().ok_or(Error::NoQueueEntry(id))
    }

    /// How many entries the queue holds.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn spool_len(&self) -> Result<u64, Error> {
        db::fetch(&self.inner.db, "SELECT COUNT(*) FROM spool", vec![]).await?.first().map_or(Ok(0), |r| r.uint(0))
    }
}
