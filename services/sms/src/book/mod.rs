//! The spool and journal on disk: what must be known again after a power cut.
//!
//! Contract: [`Book::apply`] carries a group of [`Op`]s out in one transaction that is on stable storage when it
//! returns (SQLite, WAL, `synchronous=FULL`); either all of the group is done or none. The book decides nothing but
//! whether a key is new and whether an incoming part is new; everything else is the desk's.
//! A part is written as [`PartState::Handed`] *before* it is given to a way, so a part that is not `Handed` after a
//! restart was certainly not on its way, and one that is may have been accepted.
//!
//! Failure classes: [`Error::Spool`] when opening; a failed [`Book::apply`] changed nothing and may be tried again.

mod inbox;
mod schema;
mod thread;

pub(crate) use inbox::{Body, Fragment, Stored};
pub(crate) use thread::{BookHandle, Done, Job};

use crate::api::{Class, Count, Incoming, Reason, SmsState};
use crate::error::Error;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::path::Path;

/// Where one part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PartState {
    /// Not given to a way.
    Planned = 0,
    /// Given to a way, or about to be: after a restart its outcome is unknown.
    Handed = 1,
    /// Accepted by the network.
    Accepted = 2,
    /// Reported as delivered.
    Delivered = 3,
    /// Refused for good, or reported as not delivered.
    Failed = 4,
}

impl PartState {
    fn from_number(n: i64) -> PartState {
        match n {
            0 => PartState::Planned,
            2 => PartState::Accepted,
            3 => PartState::Delivered,
            4 => PartState::Failed,
            // What cannot be read may have been sent: the careful side.
            _ => PartState::Handed,
        }
    }
}

/// How the network names an accepted part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reference {
    /// TP-Message-Reference.
    Mr(u8),
    /// SMPP `message_id`.
    Id(String),
}

/// One part as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartRow {
    pub state: PartState,
    /// The TP-MR that we write into the PDU, the same at each attempt.
    pub planned_mr: u8,
    /// Attempts of unknown outcome.
    pub unknowns: u8,
    /// Set once it is accepted.
    pub reference: Option<Reference>,
}

/// What a message is, and never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub key: String,
    pub digest: [u8; 32],
    pub class: Class,
    pub to: String,
    pub text: String,
    pub account: Option<String>,
    pub domain: Option<String>,
    pub report: bool,
    pub flash: bool,
    pub durable: bool,
    pub parts: u8,
    pub submitted_ms: i64,
    pub deadline_ms: i64,
}

/// A message as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub row: i64,
    /// `text` is empty when it was not kept.
    pub draft: Draft,
    /// For concatenation.
    pub reference: u16,
    pub state: SmsState,
    pub at_ms: i64,
    pub possible_duplicate: bool,
    pub way: Option<String>,
    pub reason: Option<Reason>,
    pub parts: Vec<PartRow>,
}

/// One change or question.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// Writes a message that is not known yet, with its first part handed out when `handed` (with that TP-MR).
    /// Answer: [`Answer::Admitted`].
    Admit { draft: Box<Draft>, way: Option<String>, handed: Option<u8> },
    /// Answer: [`Answer::Found`].
    Find { key: String },
    /// The new state of one part.
    Part { row: i64, number: u8, part: PartRow },
    /// The new state of a message.
    Message(Box<Change>),
    /// More of this.
    Count(Box<Count>),
    /// A part of an incoming message. Answer: [`Answer::Stored`].
    Fragment(Box<Fragment>),
    /// The way has been told that this part is stored (only for parts that are known until then).
    Confirmed { digest: [u8; 32] },
    /// Gives out incomplete messages whose first part came before `before_s`, and so many of the oldest that at most
    /// `most` parts wait. Answer: [`Answer::Given`].
    GiveOut { before_s: i64, most: u32 },
    /// Forget an incoming message. Answer: [`Answer::Taken`].
    Take { id: u64 },
    /// The order in this incoming message is being carried out.
    Begun { id: u64 },
    /// Answer: [`Answer::Listed`].
    List { after: u64, most: u32 },
    /// Answer: [`Answer::Counted`].
    Statistics { from_day: u32 },
    /// Forget ended messages older than `ended_ms`, digests older than `seen_s`, counts older than `day`.
    Prune { ended_ms: i64, seen_s: i64, day: u32 },
    /// The clock was set: what waits keeps its remaining time.
    Shift { by_ms: i64 },
}

/// What changes of a message.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub row: i64,
    pub state: SmsState,
    pub at_ms: i64,
    pub possible_duplicate: bool,
    pub way: Option<String>,
    pub reason: Option<Reason>,
    /// Still of interest after a restart: waits for its turn, or for a report.
    pub open: bool,
    /// The text is not needed any more.
    pub forget_text: bool,
}

/// What an [`Op`] answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Nothing,
    Admitted {
        new: bool,
        record: Box<Record>,
    },
    Found(Option<Box<Record>>),
    Stored(Stored),
    Given(Vec<Incoming>),
    /// Incoming messages, and whether an order in each was begun.
    Listed(Vec<(Incoming, bool)>),
    Counted(Vec<Count>),
    /// Whether it was there.
    Taken(bool),
}

/// The database.
pub(crate) struct Book {
    db: Connection,
}

impl Book {
    /// Opens or makes the database in this folder. Nobody else can have it open.
    pub(crate) fn open(folder: &Path) -> Result<Book, Error> {
        let path = folder.join("spool.sqlite");
        let fail = |what: String| Error::Spool { path: path.clone(), what };
        std::fs::create_dir_all(folder).map_err(|e| fail(e.to_string()))?;
        let mut db = Connection::open(&path).map_err(|e| fail(e.to_string()))?;
        db.execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA foreign_keys = OFF; PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 4194304;",
        )
        .map_err(|e| fail(format!("{e} (another `twinpost sms` may have it open)")))?;
        db.set_prepared_statement_cache_capacity(64);
        schema::prepare(&mut db).map_err(fail)?;
        Ok(Book { db })
    }

    /// Carries the operations out, all or none.
    pub(crate) fn apply(&mut self, ops: &[Op]) -> Result<Vec<Answer>, rusqlite::Error> {
        let change = self.db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(ops.len());
        for op in ops {
            answers.push(carry_out(&change, op)?);
        }
        change.commit()?;
        Ok(answers)
    }

    /// What was open when the process ended: kept messages that wait, and messages whose report is waited for.
    /// Messages whose text was not kept come when they are submitted again.
    pub(crate) fn open_messages(&mut self, most: u32) -> Result<Vec<Record>, rusqlite::Error> {
        let mut find = self.db.prepare(&format!(
            "SELECT {COLUMNS} FROM message WHERE open = 1 AND (text IS NOT NULL OR state = {}) ORDER BY id LIMIT ?1",
            state_number(SmsState::Accepted)
        ))?;
        let mut records = find.query_map([most], record)?.collect::<Result<Vec<_>, _>>()?;
        for r in &mut records {
            r.parts = parts(&self.db, r.row)?;
        }
        Ok(records)
    }

    /// The TP-MR that was written last.
    pub(crate) fn last_mr(&self) -> Result<u8, rusqlite::Error> {
        let mr: i64 = self.db.query_row("SELECT value FROM meta WHERE name = 'mr'", [], |r| r.get(0))?;
        Ok(mr.to_le_bytes()[0])
    }

    /// Number and TP-MR of the parts that went out lately, oldest first.
    pub(crate) fn recent_mrs(&self) -> Result<Vec<(String, u8)>, rusqlite::Error> {
        let mut find = self.db.prepare(
            "SELECT recipient, planned_mr FROM (SELECT m.id, m.recipient, p.planned_mr FROM message m JOIN part p \
             ON p.message = m.id WHERE p.state <> 0 OR p.unknowns > 0 ORDER BY m.id DESC LIMIT 20000) ORDER BY id",
        )?;
        find.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect()
    }

    /// How many incoming messages wait to be taken.
    pub(crate) fn incoming_waiting(&self) -> Result<u64, rusqlite::Error> {
        let n: i64 = self.db.query_row("SELECT count(*) FROM incoming", [], |r| r.get(0))?;
        Ok(n.unsigned_abs())
    }

    /// When the oldest part of an incomplete message came.
    #[cfg(test)]
    pub(crate) fn fragments_waiting(&self) -> Result<u64, rusqlite::Error> {
        let n: i64 = self.db.query_row("SELECT count(*) FROM fragment", [], |r| r.get(0))?;
        Ok(n.unsigned_abs())
    }
}

const COLUMNS: &str = "id, key, digest, class, recipient, account, domain, report, flash, durable, text, submitted_ms, \
    deadline_ms, reference, state, at_ms, possible_duplicate, way, reason";

fn carry_out(db: &Connection, op: &Op) -> Result<Answer, rusqlite::Error> {
    match op {
        Op::Admit { draft, way, handed } => admit(db, draft, way.as_deref(), *handed),
        Op::Find { key } => Ok(Answer::Found(find(db, key)?.map(Box::new))),
        Op::Part { row, number, part } => {
            let (mr, remote) = columns_of(part.reference.as_ref());
            db.prepare_cached(
                "UPDATE part SET state = ?3, planned_mr = ?4, unknowns = ?5, mr = ?6, remote = ?7 \
                 WHERE message = ?1 AND number = ?2",
            )?
            .execute(params![row, number, part.state as i64, part.planned_mr, part.unknowns, mr, remote])?;
            if part.state == PartState::Handed {
                remember_mr(db, part.planned_mr)?;
            }
            Ok(Answer::Nothing)
        }
        Op::Message(change) => {
            let reason = change.reason.as_ref().map(|r| serde_json::to_string(r).unwrap_or_default());
            db.prepare_cached(
                "UPDATE message SET state = ?2, at_ms = ?3, possible_duplicate = ?4, way = ?5, reason = ?6, open = ?7, \
                 text = CASE WHEN ?8 THEN NULL ELSE text END WHERE id = ?1",
            )?
            .execute(params![
                change.row,
                state_number(change.state),
                change.at_ms,
                change.possible_duplicate,
                change.way,
                reason,
                change.open,
                change.forget_text
            ])?;
            Ok(Answer::Nothing)
        }
        Op::Count(c) => {
            let n = |v: u64| i64::try_from(v).unwrap_or(i64::MAX);
            db.prepare_cached(
                "INSERT INTO statistics VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT DO UPDATE SET sent = sent + excluded.sent, parts = parts + excluded.parts, \
                 failed = failed + excluded.failed, delivered = delivered + excluded.delivered, \
                 not_delivered = not_delivered + excluded.not_delivered, duplicates = duplicates + excluded.duplicates",
            )?
            .execute(params![
                c.day,
                c.account,
                c.domain,
                class_number(c.class),
                n(c.sent),
                n(c.parts),
                n(c.failed),
                n(c.delivered),
                n(c.not_delivered),
                n(c.duplicates)
            ])?;
            Ok(Answer::Nothing)
        }
        Op::Fragment(fragment) => inbox::store(db, fragment).map(Answer::Stored),
        Op::Confirmed { digest } => {
            db.prepare_cached("DELETE FROM seen WHERE digest = ?1 AND until_confirmed = 1")?.execute(params![&digest[..]])?;
            Ok(Answer::Nothing)
        }
        Op::GiveOut { before_s, most } => inbox::give_out(db, *before_s, *most).map(Answer::Given),
        Op::Take { id } => {
            let n = db.prepare_cached("DELETE FROM incoming WHERE id = ?1")?.execute(params![signed(*id)])?;
            Ok(Answer::Taken(n > 0))
        }
        Op::Begun { id } => {
            db.prepare_cached("UPDATE incoming SET begun = 1 WHERE id = ?1")?.execute(params![signed(*id)])?;
            Ok(Answer::Nothing)
        }
        Op::List { after, most } => inbox::list(db, *after, *most).map(Answer::Listed),
        Op::Statistics { from_day } => statistics(db, *from_day).map(Answer::Counted),
        Op::Prune { ended_ms, seen_s, day } => {
            db.execute(
                "DELETE FROM part WHERE message IN (SELECT id FROM message WHERE at_ms < ?1 AND (open = 0 OR text IS NULL))",
                params![ended_ms],
            )?;
            db.execute("DELETE FROM message WHERE at_ms < ?1 AND (open = 0 OR text IS NULL)", params![ended_ms])?;
            db.execute("DELETE FROM seen WHERE at_s < ?1", params![seen_s])?;
            db.execute("DELETE FROM statistics WHERE day < ?1", params![day])?;
            Ok(Answer::Nothing)
        }
        Op::Shift { by_ms } => {
            db.execute(
                "UPDATE message SET submitted_ms = submitted_ms + ?1, deadline_ms = deadline_ms + ?1, at_ms = at_ms + ?1 \
                 WHERE open = 1",
                params![by_ms],
            )?;
            db.execute("UPDATE fragment SET received_s = received_s + ?1 / 1000", params![by_ms])?;
            Ok(Answer::Nothing)
        }
    }
}

fn admit(db: &Connection, d: &Draft, way: Option<&str>, handed: Option<u8>) -> Result<Answer, rusqlite::Error> {
    if let Some(record) = find(db, &d.key)? {
        return Ok(Answer::Admitted { new: false, record: Box::new(record) });
    }
    db.prepare_cached(
        "INSERT INTO message (key, digest, class, recipient, account, domain, report, flash, durable, text, \
         submitted_ms, deadline_ms, reference, state, at_ms, possible_duplicate, way, reason, open) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 0, ?13, ?11, 0, ?14, NULL, 1)",
    )?
    .execute(params![
        d.key,
        &d.digest[..],
        class_number(d.class),
        d.to,
        d.account,
        d.domain,
        d.report,
        d.flash,
        d.durable,
        d.durable.then_some(&d.text),
        d.submitted_ms,
        d.deadline_ms,
        state_number(SmsState::Queued),
        way
    ])?;
    let row = db.last_insert_rowid();
    // The row's number is the concatenation reference: it differs between messages that could meet in one phone.
    let bytes = row.to_le_bytes();
    let reference = u16::from_le_bytes([bytes[0], bytes[1]]);
    let mut insert =
        db.prepare_cached("INSERT INTO part (message, number, state, planned_mr, unknowns) VALUES (?1, ?2, ?3, ?4, 0)")?;
    let mut rows = Vec::with_capacity(usize::from(d.parts));
    for number in 1..=d.parts {
        let (state, planned_mr) = match handed {
            Some(mr) if number == 1 => (PartState::Handed, mr),
            _ => (PartState::Planned, 0),
        };
        insert.execute(params![row, number, state as i64, planned_mr])?;
        rows.push(PartRow { state, planned_mr, unknowns: 0, reference: None });
    }
    if let Some(mr) = handed {
        remember_mr(db, mr)?;
    }
    let record = Record {
        row,
        draft: d.clone(),
        reference,
        state: SmsState::Queued,
        at_ms: d.submitted_ms,
        possible_duplicate: false,
        way: way.map(str::to_owned),
        reason: None,
        parts: rows,
    };
    Ok(Answer::Admitted { new: true, record: Box::new(record) })
}

fn remember_mr(db: &Connection, mr: u8) -> Result<(), rusqlite::Error> {
    db.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'mr'")?.execute(params![mr]).map(|_| ())
}

fn find(db: &Connection, key: &str) -> Result<Option<Record>, rusqlite::Error> {
    let mut find = db.prepare_cached(&format!("SELECT {COLUMNS} FROM message WHERE key = ?1"))?;
    let Some(mut found) = find.query_row([key], record).optional()? else { return Ok(None) };
    found.parts = parts(db, found.row)?;
    found.draft.parts = u8::try_from(found.parts.len()).unwrap_or(u8::MAX);
    Ok(Some(found))
}

/// Reads [`COLUMNS`]; the parts are read apart.
fn record(row: &Row<'_>) -> Result<Record, rusqlite::Error> {
    let id: i64 = row.get(0)?;
    let digest: Vec<u8> = row.get(2)?;
    let reason: Option<String> = row.get(18)?;
    let bytes = id.to_le_bytes();
    Ok(Record {
        row: id,
        draft: Draft {
            key: row.get(1)?,
            digest: <[u8; 32]>::try_from(digest.as_slice()).unwrap_or([0; 32]),
            class: class_from_number(row.get(3)?),
            to: row.get(4)?,
            account: row.get(5)?,
            domain: row.get(6)?,
            report: row.get(7)?,
            flash: row.get(8)?,
            durable: row.get(9)?,
            text: row.get::<_, Option<String>>(10)?.unwrap_or_default(),
            parts: 0,
            submitted_ms: row.get(11)?,
            deadline_ms: row.get(12)?,
        },
        reference: u16::from_le_bytes([bytes[0], bytes[1]]),
        state: state_from_number(row.get(14)?),
        at_ms: row.get(15)?,
        possible_duplicate: row.get(16)?,
        way: row.get(17)?,
        reason: reason.and_then(|r| serde_json::from_str(&r).ok()),
        parts: Vec::new(),
    })
}

fn parts(db: &Connection, row: i64) -> Result<Vec<PartRow>, rusqlite::Error> {
    db.prepare_cached("SELECT state, planned_mr, unknowns, mr, remote FROM part WHERE message = ?1 ORDER BY number")?
        .query_map([row], |r| {
            let mr: Option<u8> = r.get(3)?;
            let remote: Option<String> = r.get(4)?;
            Ok(PartRow {
                state: PartState::from_number(r.get(0)?),
                planned_mr: r.get(1)?,
                unknowns: r.get(2)?,
                reference: remote.map(Reference::Id).or(mr.map(Reference::Mr)),
            })
        })?
        .collect()
}

fn statistics(db: &Connection, from_day: u32) -> Result<Vec<Count>, rusqlite::Error> {
    let n = |r: &Row<'_>, i: usize| r.get::<_, i64>(i).map(i64::unsigned_abs);
    db.prepare_cached("SELECT * FROM statistics WHERE day >= ?1 ORDER BY day DESC, domain, account, class LIMIT 2000")?
        .query_map([from_day], |r| {
            Ok(Count {
                day: r.get(0)?,
                account: r.get(1)?,
                domain: r.get(2)?,
                class: class_from_number(r.get(3)?),
                sent: n(r, 4)?,
                parts: n(r, 5)?,
                failed: n(r, 6)?,
                delivered: n(r, 7)?,
                not_delivered: n(r, 8)?,
                duplicates: n(r, 9)?,
            })
        })?
        .collect()
}

fn columns_of(reference: Option<&Reference>) -> (Option<u8>, Option<&str>) {
    match reference {
        Some(Reference::Mr(mr)) => (Some(*mr), None),
        Some(Reference::Id(id)) => (None, Some(id)),
        None => (None, None),
    }
}

fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

fn class_number(class: Class) -> i64 {
    match class {
        Class::Alarm => 0,
        Class::Notice => 1,
        Class::Person => 2,
    }
}

fn class_from_number(n: i64) -> Class {
    match n {
        0 => Class::Alarm,
        1 => Class::Notice,
        _ => Class::Person,
    }
}

fn state_number(state: SmsState) -> i64 {
    match state {
        SmsState::Queued => 0,
        SmsState::Sending => 1,
        SmsState::Accepted => 2,
        SmsState::Delivered => 3,
        SmsState::NotDelivered => 4,
        SmsState::Failed => 5,
        SmsState::Waiting => 6,
        SmsState::Canceled => 7,
    }
}

fn state_from_number(n: i64) -> SmsState {
    match n {
        0 => SmsState::Queued,
        1 => SmsState::Sending,
        2 => SmsState::Accepted,
        3 => SmsState::Delivered,
        4 => SmsState::NotDelivered,
        5 => SmsState::Failed,
        7 => SmsState::Canceled,
        _ => SmsState::Waiting,
    }
}
