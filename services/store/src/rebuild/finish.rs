//! What follows from the rows: references, counters, usage, the next numbers; and recovered mail.

use super::bodies::Unplaced;
use super::{RECOVERED, RebuildReport, last_number, number};
use crate::Error;
use crate::db::{self, Shape, Tx, Value};
use crate::types::ChangeKind;
use crate::writer::batch::{BODY, CHANGE, MESSAGE};
use crate::writer::now_s;
use std::path::Path;
use twinpost_message::{BodyHash, Flags};
use twinpost_sql::Database;

/// UIDs left free in each mailbox when some may have been given that the packs do not tell.
pub(super) const UIDS_FREE: u32 = 10_000;
/// Numbers left free for the same reason.
const NUMBERS_FREE: u64 = 1_000_000;

/// Here a place that is taken is a fault.
const PLACED: Shape = Shape { tail: "", ..MESSAGE };
const LOST: Shape = Shape { row: "(?,?,0,0,0,?,0,0,?)", ..BODY };

const CLEAN: [&str; 4] = [
    "DELETE FROM message WHERE mailbox NOT IN (SELECT id FROM mailbox)",
    "DELETE FROM keyword WHERE mailbox NOT IN (SELECT id FROM mailbox)",
    "DELETE FROM annotation WHERE mailbox <> 0 AND mailbox NOT IN (SELECT id FROM mailbox)",
    "DELETE FROM spool_rcpt WHERE spool NOT IN (SELECT id FROM spool)",
];
const USES: &str = "(SELECT body, size_bytes FROM message UNION ALL SELECT body, size_bytes FROM trash UNION ALL \
                    SELECT body, size_bytes FROM spool) AS all_uses";

/// Mail in mailboxes that nothing tells of: the record of their making is damaged. Those that were deleted took theirs along.
const ORPHANS: &str = "SELECT m.body, CAST(MAX(b.size_bytes) AS BIGINT) FROM message m JOIN body b ON b.id = m.body WHERE b.pack > 0 \
                       AND m.mailbox NOT IN (SELECT id FROM mailbox) GROUP BY m.body ORDER BY m.body";

pub(super) async fn run(
    db: &Database,
    writer: &db::Writer,
    mut unplaced: Vec<Unplaced>,
    report: &mut RebuildReport,
) -> Result<(), Error> {
    for row in db::fetch(db, ORPHANS, vec![]).await? {
        unplaced.push(Unplaced { body: row.int(0)?, size_bytes: row.u32(1)? });
    }
    let mut tx = Tx::begin(writer).await?;
    for sql in CLEAN {
        tx.run(sql, vec![]).await?;
    }
    tx.commit().await?;
    drop(tx);
    recover(db, writer, &unplaced).await?;
    report.recovered = unplaced.len() as u64;
    lost(db, writer).await?;
    let mut tx = Tx::begin(writer).await?;
    tx.run(
        format!(
            "UPDATE body SET refs = c.n FROM (SELECT body, COUNT(*) AS n FROM {USES} GROUP BY body) AS c WHERE c.body = body.id"
        ),
        vec![],
    )
    .await?;
    tx.run("DELETE FROM body WHERE refs = 0", vec![]).await?;
    count(&mut tx).await?;
    if !report.complete {
        let sql = "UPDATE mailbox SET uid_next = uid_next + $1 WHERE uid_next < 4000000000";
        tx.run(sql, vec![UIDS_FREE.into()]).await?;
    }
    tx.commit().await?;
    drop(tx);
    // The last row of the log says where to go on.
    let last = last_number(db).await? + if report.complete { 1 } else { NUMBERS_FREE };
    let mut tx = Tx::begin(writer).await?;
    let kind = ChangeKind::MailboxAttributes.number();
    put(&mut tx, vec![], vec![[last.cast_signed(), 0, 0, kind, 0, 0, now_s()]]).await?;
    tx.commit().await?;
    drop(tx);
    report.mailboxes = number(db, "SELECT COUNT(*) FROM mailbox").await?;
    report.messages = number(db, "SELECT COUNT(*) FROM message").await?;
    report.queue_entries = number(db, "SELECT COUNT(*) FROM spool").await?;
    report.damaged_bodies = number(db, "SELECT COUNT(*) FROM body WHERE pack = 0").await?;
    Ok(())
}

/// Bodies that nothing places, where an operator finds them.
async fn recover(db: &Database, writer: &db::Writer, unplaced: &[Unplaced]) -> Result<(), Error> {
    if unplaced.is_empty() {
        return Ok(());
    }
    let now = now_s();
    let rows = db::fetch(db, "SELECT id, uid_next FROM mailbox WHERE account = 0 AND name = $1", vec![RECOVERED.into()]).await?;
    let known = rows.first().map(|r| Ok::<_, Error>((r.int(0)?, r.u32(1)?))).transpose()?;
    let mut last = last_number(db).await?;
    let mut next = || {
        last += 1;
        last.cast_signed()
    };
    let mut tx = Tx::begin(writer).await?;
    let (found, first) = match known {
        Some((id, uid_next)) => {
            let sql = "SELECT COALESCE(MAX(uid), 0) FROM change WHERE mailbox = $1";
            let used = tx.fetch(sql, vec![id.into()]).await?.first().map_or(Ok(0), |r| r.u32(0))?;
            (id, uid_next.max(used.saturating_add(1)))
        }
        None => {
            let id = next();
            mailbox(&mut tx, id, next(), 0, RECOVERED, now).await?;
            (id, 1)
        }
    };
    let (mut messages, mut changes) = (Vec::new(), Vec::new());
    for (uid, u) in (first..).zip(unplaced) {
        let modseq = next();
        let kind = ChangeKind::Added.number();
        messages.push([found, uid.into(), u.body, 0, modseq, now, now, u.size_bytes.into()]);
        changes.push([modseq, 0, found, kind, uid.into(), u.body, now]);
    }
    put(&mut tx, messages, changes).await?;
    tx.commit().await
}

/// Rows of messages and of the change log.
pub(super) async fn put(tx: &mut Tx, messages: Vec<[i64; 8]>, changes: Vec<[i64; 7]>) -> Result<(), Error> {
    tx.many(PLACED, messages.into_iter().map(|row| row.map(Value::Int).to_vec()).collect()).await?;
    tx.many(CHANGE, changes.into_iter().map(|row| row.map(Value::Int).to_vec()).collect()).await
}

/// A new mailbox with these numbers.
pub(super) async fn mailbox(tx: &mut Tx, id: i64, modseq: i64, account: i64, name: &str, now: i64) -> Result<(), Error> {
    let validity = tx.fetch("SELECT value FROM meta WHERE key = 'uid_validity'", vec![]).await?;
    let validity = validity.first().map_or(Ok(0), |r| r.text(0).map(|t| t.parse::<u32>().unwrap_or(0)))?;
    let validity = validity.saturating_add(1).max(u32::try_from(now).unwrap_or(1));
    let sql = "INSERT INTO mailbox (id, account, name, uid_validity, uid_next, highest_modseq, messages, unseen, deleted, \
               size_bytes, special_use, created_s) VALUES ($1, $2, $3, $4, 1, 0, 0, 0, 0, 0, NULL, $5)";
    tx.run(sql, vec![id.into(), account.into(), name.into(), validity.into(), now.into()]).await?;
    tx.run("UPDATE meta SET value = $1 WHERE key = 'uid_validity'", vec![validity.to_string().into()]).await?;
    put(tx, vec![], vec![[modseq, account, id, ChangeKind::MailboxCreated.number(), 0, 0, now]]).await
}

/// Messages whose body is not known at all (the placement record that named it is damaged) get one that is shown as damaged.
async fn lost(db: &Database, writer: &db::Writer) -> Result<(), Error> {
    let sql = format!(
        "SELECT u.body, CAST(MAX(u.size_bytes) AS BIGINT) FROM (SELECT * FROM {USES}) AS u LEFT JOIN body b ON b.id = u.body \
         WHERE b.id IS NULL GROUP BY u.body"
    );
    let mut rows = Vec::new();
    for row in db::fetch(db, sql, vec![]).await? {
        let id = row.int(0)?;
        // A name that no message has.
        let hash = BodyHash::of(format!("the lost body {id} of a damaged placement record").as_bytes());
        rows.push(vec![id.into(), hash.0.to_vec().into(), row.int(1)?.into(), Value::Blob(Vec::new())]);
    }
    let mut tx = Tx::begin(writer).await?;
    tx.many(LOST, rows).await?;
    tx.commit().await
}

async fn count(tx: &mut Tx) -> Result<(), Error> {
    let (seen, deleted) = (Flags::SEEN.0, Flags::DELETED.0);
    let mailboxes = format!(
        "UPDATE mailbox SET messages = c.n, unseen = c.unseen, deleted = c.deleted, size_bytes = c.bytes FROM (SELECT mailbox, \
         COUNT(*) AS n, SUM(CASE WHEN flags & {seen} = 0 THEN 1 ELSE 0 END) AS unseen, \
         SUM(CASE WHEN flags & {deleted} <> 0 THEN 1 ELSE 0 END) AS deleted, SUM(size_bytes) AS bytes FROM message GROUP BY mailbox) AS c \
         WHERE c.mailbox = mailbox.id"
    );
    let statements = [
        mailboxes.as_str(),
        "UPDATE mailbox SET uid_next = c.uid + 1 FROM (SELECT mailbox, MAX(uid) AS uid FROM change GROUP BY mailbox) AS c \
         WHERE c.mailbox = mailbox.id AND c.uid >= mailbox.uid_next",
        // Message changes and the making of a mailbox count; its name and use do not (RFC 7162 3.1.2).
        "UPDATE mailbox SET highest_modseq = c.modseq FROM (SELECT mailbox, MAX(modseq) AS modseq FROM change WHERE kind < 5 \
         GROUP BY mailbox) AS c WHERE c.mailbox = mailbox.id AND c.modseq > mailbox.highest_modseq",
        "INSERT INTO account (id, domain, size_bytes, messages, furnished) SELECT DISTINCT account, 0, 0, 0, 0 FROM mailbox \
         WHERE account NOT IN (SELECT id FROM account)",
        "UPDATE account SET messages = c.n, size_bytes = c.bytes FROM (SELECT account, SUM(messages) AS n, SUM(size_bytes) AS bytes \
         FROM mailbox GROUP BY account) AS c WHERE c.account = account.id",
        "INSERT INTO domain (id, size_bytes, messages) SELECT domain, SUM(size_bytes), SUM(messages) FROM account GROUP BY domain",
    ];
    for sql in statements {
        tx.run(sql, vec![]).await?;
    }
    Ok(())
}

/// Names the new index, so that everyone who follows the change log begins anew.
pub(super) async fn name(writer: &db::Writer, dir: &Path, report: &RebuildReport) -> Result<(), Error> {
    tracing::info!(messages = report.messages, mailboxes = report.mailboxes, "the index was made again");
    crate::store::name(writer, dir).await
}
