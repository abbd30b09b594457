//! Placement records into rows.
//!
//! Contract: transactions are applied in the order of their numbers, each once; the end state of a row is what the last one that
//! touched it says. Memory holds some ten thousand rows at once.

use super::{Plan, RebuildReport, blocking};
use crate::Error;
use crate::db::{Shape, Tx, Value, Writer, in_list};
use crate::pack::PackReader;
use crate::placement::{self, ChangeRow, Fact, Log, MessageRow, Piece};
use crate::types::ChangeKind;
use crate::writer::batch::{BODY, CHANGE, MESSAGE, SPOOL, SPOOL_RCPT, TRASH};
use std::collections::{BTreeMap, HashMap};
use twinpost_message::BodyHash;
use twinpost_sql::Database;

/// Rows that are gathered before they are written.
const HELD_MAX: usize = 20_000;

const NAMED: Shape = Shape {
    row: "(?,?,0,0,0,?,0,0,?)",
    // A body that was forgotten and came again has a new number.
    tail: " ON CONFLICT (hash) DO UPDATE SET id = excluded.id, size_bytes = excluded.size_bytes",
    ..BODY
};
const CHANGED: Shape = Shape { tail: " ON CONFLICT (modseq) DO NOTHING", ..CHANGE };
const DELETED: Shape = Shape { tail: " ON CONFLICT (id) DO NOTHING", ..TRASH };
const SPOOLED: Shape = Shape { tail: " ON CONFLICT (id) DO UPDATE SET held = excluded.held", ..SPOOL };
const RCPT: Shape = Shape { row: "(?,?,?,?,?,?,?,?,?,?,?,?)", tail: " ON CONFLICT (spool, n) DO NOTHING", ..SPOOL_RCPT };
/// An attempt that a snapshot has counted already is not counted twice.
const TRIED: Shape = Shape {
    head: "UPDATE spool_rcpt SET state = v.column3, next_try_s = v.column4, \
           attempts = attempts + CASE WHEN v.column5 > COALESCE(last_try_s, -1) THEN 1 ELSE 0 END, \
           last_try_s = COALESCE(v.column5, last_try_s), reply_code = v.column6, reply_text = v.column7, \
           delay_told = CASE WHEN v.column8 = 1 THEN 1 ELSE delay_told END FROM (VALUES ",
    row: "(CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),CAST(? AS BIGINT),\
          CAST(? AS TEXT),CAST(? AS BIGINT))",
    tail: ") AS v WHERE spool_rcpt.spool = v.column1 AND spool_rcpt.n = v.column2",
};
const KEYWORD: &str = "INSERT INTO keyword (mailbox, place, name) VALUES ($1, $2, $3) \
                       ON CONFLICT (mailbox, place) DO UPDATE SET name = excluded.name";
const ACCOUNT: &str = "INSERT INTO account (id, domain, size_bytes, messages, furnished) VALUES ($1, $2, 0, 0, $3) \
                       ON CONFLICT (id) DO UPDATE SET domain = excluded.domain, furnished = excluded.furnished";
const MAILBOX: &str = "INSERT INTO mailbox (id, account, name, uid_validity, uid_next, highest_modseq, messages, unseen, deleted, \
                       size_bytes, special_use, created_s) VALUES ($1, $2, $3, $4, $5, $6, 0, 0, 0, 0, $7, $8) \
                       ON CONFLICT (id) DO UPDATE SET name = excluded.name, uid_next = excluded.uid_next, \
                       highest_modseq = excluded.highest_modseq, special_use = excluded.special_use";
/// While a snapshot is brought up to date, a name can be taken by a mailbox whose renaming comes later. Names hold no `#n` by
/// themselves often enough to matter: one that keeps it had its renaming lost.
const FREE_NAME: &str = "UPDATE mailbox SET name = name || '#' || id WHERE account = $1 AND name = $2 AND id <> $3";
const SUBSCRIBE: &str = "INSERT INTO subscription (account, name) VALUES ($1, $2) ON CONFLICT (account, name) DO NOTHING";
const ANNOTATE: &str = "INSERT INTO annotation (account, mailbox, entry, value) VALUES ($1, $2, $3, $4) \
                        ON CONFLICT (account, mailbox, entry) DO UPDATE SET value = excluded.value";

struct Replay<'a> {
    db: &'a Database,
    writer: &'a Writer,
    /// None only between two.
    tx: Option<Tx>,
    bodies: HashMap<BodyHash, (i64, u32)>,
    messages: BTreeMap<(i64, i64), Option<MessageRow>>,
    changes: BTreeMap<i64, (ChangeRow, i64)>,
    statements: usize,
    uid_validity: u32,
}

/// Replays everything of the plan.
pub(super) async fn run(
    db: &Database,
    writer: &Writer,
    reader: &PackReader,
    plan: &Plan,
    end: Option<u64>,
    report: &mut RebuildReport,
) -> Result<(), Error> {
    let mut replay = Replay {
        db,
        writer,
        tx: Some(Tx::begin(writer).await?),
        bodies: HashMap::new(),
        messages: BTreeMap::new(),
        changes: BTreeMap::new(),
        statements: 0,
        uid_validity: 0,
    };
    let mut applied = plan.begin;
    for location in &plan.records {
        let (reader, location) = (reader.clone(), *location);
        let read = blocking(move || reader.read(location)).await?;
        // It was read a moment ago: the disk fails.
        let record = placement::decode(&read.map_err(|e| Error::pack("read a placement record", e))?).map_err(Error::Index)?;
        for log in &record.logs {
            if record.part.is_none() {
                if log.is_end() || log.seq <= applied {
                    continue;
                }
                report.missing_transactions += log.seq - applied - 1;
                report.transactions += 1;
                applied = log.seq;
            }
            replay.log(log, record.part.is_some(), report).await?;
        }
    }
    replay.flush().await?;
    let sql = "INSERT INTO meta (key, value) VALUES ('uid_validity', $1)";
    let validity = replay.uid_validity.to_string();
    replay.tx()?.run(sql, vec![validity.into()]).await?;
    if applied > 0 {
        replay
            .tx()?
            .run("INSERT INTO placement (seq, log) VALUES ($1, $2)", vec![applied.into(), Value::Blob(Vec::new())])
            .await?;
    }
    replay.tx()?.commit().await?;
    if report.missing_transactions > 0 {
        let missing = report.missing_transactions;
        report.fault(format!("{missing} transactions are missing: their placement records are damaged."));
    }
    report.complete = end == Some(applied) && report.faults_total == 0;
    Ok(())
}

impl Replay<'_> {
    fn tx(&mut self) -> Result<&mut Tx, Error> {
        self.tx.as_mut().ok_or(Error::Closed)
    }

    async fn log(&mut self, log: &Log, snapshot: bool, report: &mut RebuildReport) -> Result<(), Error> {
        for piece in log.pieces() {
            match piece {
                Ok(Piece::Message(m)) => {
                    self.messages.insert((m.change.mailbox, m.change.uid), Some(m));
                    let at_s = if snapshot { m.saved_s } else { log.at_s };
                    self.changes.entry(m.change.modseq).or_insert((m.change, at_s));
                }
                Ok(Piece::Change(c)) => {
                    if c.kind == ChangeKind::Expunged.number() {
                        self.messages.insert((c.mailbox, c.uid), None);
                    }
                    self.changes.entry(c.modseq).or_insert((c, log.at_s));
                }
                Ok(Piece::Fact(Fact::Body { id, hash, size_bytes })) => {
                    self.bodies.insert(hash, (id, size_bytes));
                }
                Ok(Piece::Fact(fact)) => self.fact(fact).await?,
                Err(why) => report.fault(format!("A placement record cannot be understood: {why}.")),
            }
        }
        if self.bodies.len() + self.messages.len() + self.changes.len() + self.statements > HELD_MAX {
            self.flush().await?;
            self.tx()?.commit().await?;
            // Let go first: there is one writing connection.
            self.tx = None;
            self.tx = Some(Tx::begin(self.writer).await?);
            self.statements = 0;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let bodies = std::mem::take(&mut self.bodies).into_iter();
        let bodies =
            bodies.map(|(hash, (id, size))| vec![id.into(), hash.0.to_vec().into(), size.into(), Value::Blob(Vec::new())]);
        self.tx()?.many(NAMED, bodies.collect()).await?;
        let mut gone: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
        let mut rows = Vec::new();
        for ((mailbox, uid), row) in std::mem::take(&mut self.messages) {
            match row {
                None => gone.entry(mailbox).or_default().push(uid.into()),
                Some(m) => rows.push(
                    [mailbox, uid, m.change.body, m.flags, m.change.modseq, m.received_s, m.saved_s, m.size_bytes]
                        .map(Value::Int)
                        .to_vec(),
                ),
            }
        }
        self.tx()?.many(MESSAGE, rows).await?;
        for (mailbox, uids) in gone {
            for (sql, args) in in_list(self.db, "DELETE FROM message WHERE mailbox = $1 AND uid", &[mailbox.into()], &uids, "") {
                self.tx()?.run(sql, args).await?;
            }
        }
        let changes = std::mem::take(&mut self.changes).into_values();
        let changes =
            changes.map(|(c, at_s)| [c.modseq, c.account, c.mailbox, c.kind, c.uid, c.body, at_s].map(Value::Int).to_vec());
        self.tx()?.many(CHANGED, changes.collect()).await
    }

    /// Runs statements whose only parameter is this number.
    async fn each(&mut self, id: i64, statements: &[&'static str]) -> Result<(), Error> {
        for sql in statements {
            self.tx()?.run(*sql, vec![id.into()]).await?;
        }
        Ok(())
    }

    async fn row(&mut self, shape: Shape, row: Vec<Value>) -> Result<(), Error> {
        if row.len() != shape.row.matches('?').count() {
            return Err(Error::Index(format!("a placement record has a row of {} columns for {:?}", row.len(), shape.head)));
        }
        self.tx()?.many(shape, vec![row]).await
    }

    async fn fact(&mut self, fact: Fact) -> Result<(), Error> {
        self.statements += 1;
        match fact {
            Fact::Body { id, hash, size_bytes } => drop(self.bodies.insert(hash, (id, size_bytes))),
            Fact::Mailbox(m) => {
                let name = m.name.as_str();
                self.tx()?.run(FREE_NAME, vec![m.account.into(), name.into(), m.id.into()]).await?;
                let mut row: Vec<Value> = vec![m.id.into(), m.account.into(), name.into(), m.uid_validity.into()];
                row.extend([m.uid_next.into(), m.highest_modseq.into(), m.special_use.into(), m.created_s.into()]);
                self.tx()?.run(MAILBOX, row).await?;
                self.uid_validity = self.uid_validity.max(m.uid_validity);
            }
            Fact::MailboxGone(id) => {
                self.flush().await?;
                let tables = [
                    "DELETE FROM message WHERE mailbox = $1",
                    "DELETE FROM keyword WHERE mailbox = $1",
                    "DELETE FROM annotation WHERE mailbox = $1",
                    "DELETE FROM mailbox WHERE id = $1",
                ];
                self.each(id, &tables).await?;
            }
            Fact::Keyword { mailbox, place, name } => {
                self.tx()?.run(KEYWORD, vec![mailbox.into(), place.into(), name.into()]).await?;
            }
            Fact::Account { id, domain, furnished } => {
                self.tx()?.run(ACCOUNT, vec![id.into(), domain.into(), furnished.into()]).await?;
            }
            Fact::AccountGone(id) => {
                let tables = [
                    "DELETE FROM trash WHERE account = $1",
                    "DELETE FROM subscription WHERE account = $1",
                    "DELETE FROM annotation WHERE account = $1",
                    "DELETE FROM account WHERE id = $1",
                ];
                self.each(id, &tables).await?;
            }
            Fact::Subscription { account, name, subscribed } => {
                let sql = if subscribed { SUBSCRIBE } else { "DELETE FROM subscription WHERE account = $1 AND name = $2" };
                self.tx()?.run(sql, vec![account.into(), name.into()]).await?;
            }
            Fact::Annotation { account, mailbox, entry, value } => {
                let mut args: Vec<Value> = vec![account.into(), mailbox.into(), entry.into()];
                let sql = match value {
                    Some(value) => {
                        args.push(value.into());
                        ANNOTATE
                    }
                    None => "DELETE FROM annotation WHERE account = $1 AND mailbox = $2 AND entry = $3",
                };
                self.tx()?.run(sql, args).await?;
            }
            Fact::Trash(row) => self.row(DELETED, row).await?,
            Fact::TrashGone(id) => self.each(id, &["DELETE FROM trash WHERE id = $1"]).await?,
            Fact::Spool(row) => self.row(SPOOLED, row).await?,
            Fact::Rcpt(row) => self.row(RCPT, row).await?,
            Fact::Tried(row) => self.row(TRIED, row).await?,
            Fact::Held { id, held } => {
                self.tx()?.run("UPDATE spool SET held = $2 WHERE id = $1", vec![id.into(), held.into()]).await?;
            }
            Fact::Retry { id, at_s } => {
                self.tx()?.run("UPDATE spool SET held = 0 WHERE id = $1", vec![id.into()]).await?;
                let sql = "UPDATE spool_rcpt SET next_try_s = $2 WHERE spool = $1 AND state = 0";
                self.tx()?.run(sql, vec![id.into(), at_s.into()]).await?;
            }
            Fact::SpoolGone(id) => {
                self.each(id, &["DELETE FROM spool_rcpt WHERE spool = $1", "DELETE FROM spool WHERE id = $1"]).await?;
            }
            Fact::UidValidity(last) => self.uid_validity = self.uid_validity.max(last),
            Fact::Merged(key, at_s) => {
                let sql = "INSERT INTO merged (key, at_s) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
                self.tx()?.run(sql, vec![key.to_vec().into(), at_s.into()]).await?;
            }
            // Looked at before.
            Fact::Arrival(_) | Fact::Decided(..) => {}
        }
        Ok(())
    }
}
