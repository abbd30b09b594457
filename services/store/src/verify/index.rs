//! Rows against rows. Each check is one statement, so it sees one state of the index however much mail comes.

use super::{FaultKind, VerifyFault, VerifyReport};
use crate::db::{self, Row};
use crate::{Error, Store};
use twinpost_message::Flags;

/// Rows that one check lists.
const ROWS_MAX: usize = 1_000;

/// A statement whose rows are faults, and how one reads.
struct Check {
    kind: FaultKind,
    sql: String,
    tell: fn(&Row) -> Result<String, Error>,
}

fn checks() -> Vec<Check> {
    let (seen, deleted) = (Flags::SEEN.0, Flags::DELETED.0);
    let check = |kind, sql: &str, tell| Check { kind, sql: sql.to_owned(), tell };
    vec![
        check(
            FaultKind::Dangling,
            "SELECT m.mailbox, m.uid, m.body, m.size_bytes, b.size_bytes, x.name, x.account FROM message m \
             LEFT JOIN body b ON b.id = m.body LEFT JOIN mailbox x ON x.id = m.mailbox \
             WHERE b.id IS NULL OR x.id IS NULL OR b.size_bytes <> m.size_bytes",
            |r| {
                let place = match r.opt_text(5)? {
                    Some(name) => format!("UID {} of {name:?} of account {}", r.int(1)?, r.int(6)?),
                    None => return Ok(format!("UID {} is in mailbox {}, which does not exist.", r.int(1)?, r.int(0)?)),
                };
                Ok(match r.opt_int(4)? {
                    Some(size) => format!("{place} says {} bytes, its body {} has {size}.", r.int(3)?, r.int(2)?),
                    None => format!("{place} names the body {}, which does not exist.", r.int(2)?),
                })
            },
        ),
        check(
            FaultKind::Dangling,
            "SELECT t.account, t.mailbox_name, t.uid, t.body FROM trash t LEFT JOIN body b ON b.id = t.body WHERE b.id IS NULL",
            |r| {
                let (name, uid) = (r.text(1)?, r.int(2)?);
                Ok(format!(
                    "Deleted mail of account {} (UID {uid} of {name:?}) names the body {}, which does not exist.",
                    r.int(0)?,
                    r.int(3)?
                ))
            },
        ),
        check(
            FaultKind::Dangling,
            "SELECT s.id, s.body FROM spool s LEFT JOIN body b ON b.id = s.body WHERE b.id IS NULL",
            |r| Ok(format!("The queue entry {} names the body {}, which does not exist.", r.int(0)?, r.int(1)?)),
        ),
        check(
            FaultKind::Dangling,
            "SELECT r.spool, r.n FROM spool_rcpt r LEFT JOIN spool s ON s.id = r.spool WHERE s.id IS NULL",
            |r| Ok(format!("Recipient {} belongs to the queue entry {}, which does not exist.", r.int(1)?, r.int(0)?)),
        ),
        check(
            FaultKind::Dangling,
            "SELECT s.id FROM spool s LEFT JOIN spool_rcpt r ON r.spool = s.id AND r.state = 0 WHERE r.spool IS NULL",
            |r| Ok(format!("The queue entry {} has no recipient that waits: it will never end.", r.int(0)?)),
        ),
        check(
            FaultKind::Dangling,
            "SELECT x.id, x.account, x.name FROM mailbox x LEFT JOIN account a ON a.id = x.account WHERE a.id IS NULL",
            |r| Ok(format!("The mailbox {:?} belongs to account {}, which has no row.", r.text(2)?, r.int(1)?)),
        ),
        check(
            FaultKind::Dangling,
            "SELECT k.mailbox, k.name FROM keyword k LEFT JOIN mailbox x ON x.id = k.mailbox WHERE x.id IS NULL",
            |r| Ok(format!("The keyword {:?} belongs to mailbox {}, which does not exist.", r.text(1)?, r.int(0)?)),
        ),
        check(
            FaultKind::Counter,
            "SELECT b.id, b.refs, CAST(COALESCE(c.n, 0) AS BIGINT) FROM body b LEFT JOIN (SELECT body, COUNT(*) AS n FROM \
             (SELECT body FROM message UNION ALL SELECT body FROM trash UNION ALL SELECT body FROM spool) AS all_uses GROUP BY body) AS c \
             ON c.body = b.id WHERE b.refs <> COALESCE(c.n, 0)",
            |r| Ok(format!("The stored message {} counts {} uses, there are {}.", r.int(0)?, r.int(1)?, r.int(2)?)),
        ),
        Check {
            kind: FaultKind::Counter,
            sql: format!(
                "SELECT x.account, x.name, x.messages, x.unseen, x.deleted, x.size_bytes, CAST(COALESCE(c.n, 0) AS BIGINT), \
                 CAST(COALESCE(c.unseen, 0) AS BIGINT), CAST(COALESCE(c.deleted, 0) AS BIGINT), CAST(COALESCE(c.bytes, 0) AS BIGINT) \
                 FROM mailbox x LEFT JOIN (SELECT mailbox, COUNT(*) AS n, SUM(CASE WHEN flags & {seen} = 0 THEN 1 ELSE 0 END) AS unseen, \
                 SUM(CASE WHEN flags & {deleted} <> 0 THEN 1 ELSE 0 END) AS deleted, SUM(size_bytes) AS bytes FROM message \
                 GROUP BY mailbox) AS c ON c.mailbox = x.id WHERE x.messages <> COALESCE(c.n, 0) OR x.unseen <> COALESCE(c.unseen, 0) \
                 OR x.deleted <> COALESCE(c.deleted, 0) OR x.size_bytes <> COALESCE(c.bytes, 0)"
            ),
            tell: |r| {
                let four = |from: usize| -> Result<String, Error> {
                    let (n, unseen, deleted, bytes) = (r.int(from)?, r.int(from + 1)?, r.int(from + 2)?, r.int(from + 3)?);
                    Ok(format!("{n} messages ({unseen} unseen, {deleted} deleted, {bytes} bytes)"))
                };
                Ok(format!("The mailbox {:?} of account {} counts {}, there are {}.", r.text(1)?, r.int(0)?, four(2)?, four(6)?))
            },
        },
        check(
            FaultKind::Order,
            "SELECT x.account, x.name, x.uid_next, x.highest_modseq, CAST(c.uid AS BIGINT), CAST(c.modseq AS BIGINT) FROM mailbox x \
             JOIN (SELECT mailbox, MAX(uid) AS uid, MAX(modseq) AS modseq FROM message GROUP BY mailbox) AS c ON c.mailbox = x.id \
             WHERE c.uid >= x.uid_next OR c.modseq > x.highest_modseq",
            |r| {
                let (next, highest, uid, modseq) = (r.int(2)?, r.int(3)?, r.int(4)?, r.int(5)?);
                Ok(format!(
                    "The mailbox {:?} of account {} has UIDNEXT {next} and HIGHESTMODSEQ {highest}, but holds UID {uid} and modseq {modseq}.",
                    r.text(1)?,
                    r.int(0)?
                ))
            },
        ),
        check(
            FaultKind::Order,
            "SELECT h.head, x.account, x.name, x.highest_modseq FROM mailbox x, (SELECT COALESCE(MAX(modseq), 0) AS head FROM change) AS h \
             WHERE x.highest_modseq > h.head",
            |r| {
                let (head, highest) = (r.int(0)?, r.int(3)?);
                Ok(format!(
                    "The mailbox {:?} of account {} is at modseq {highest}, the change log ends at {head}.",
                    r.text(2)?,
                    r.int(1)?
                ))
            },
        ),
        check(
            FaultKind::Counter,
            "SELECT a.id, a.messages, a.size_bytes, CAST(COALESCE(c.n, 0) AS BIGINT), CAST(COALESCE(c.bytes, 0) AS BIGINT) FROM account a \
             LEFT JOIN (SELECT x.account AS account, COUNT(*) AS n, SUM(m.size_bytes) AS bytes FROM message m \
             JOIN mailbox x ON x.id = m.mailbox GROUP BY x.account) AS c ON c.account = a.id \
             WHERE a.messages <> COALESCE(c.n, 0) OR a.size_bytes <> COALESCE(c.bytes, 0)",
            |r| {
                let (n, bytes, is_n, is_bytes) = (r.int(1)?, r.int(2)?, r.int(3)?, r.int(4)?);
                Ok(format!("Account {} counts {n} messages of {bytes} bytes, there are {is_n} of {is_bytes}.", r.int(0)?))
            },
        ),
        check(
            FaultKind::Counter,
            "SELECT d.id, d.messages, d.size_bytes, CAST(COALESCE(c.n, 0) AS BIGINT), CAST(COALESCE(c.bytes, 0) AS BIGINT) FROM domain d \
             LEFT JOIN (SELECT domain, SUM(messages) AS n, SUM(size_bytes) AS bytes FROM account GROUP BY domain) AS c ON c.domain = d.id \
             WHERE d.messages <> COALESCE(c.n, 0) OR d.size_bytes <> COALESCE(c.bytes, 0)",
            |r| {
                let (n, bytes, is_n, is_bytes) = (r.int(1)?, r.int(2)?, r.int(3)?, r.int(4)?);
                Ok(format!("Domain {} counts {n} messages of {bytes} bytes, its accounts have {is_n} of {is_bytes}.", r.int(0)?))
            },
        ),
    ]
}

pub(super) async fn check(store: &Store, report: &mut VerifyReport) -> Result<(), Error> {
    let db = &store.inner.db;
    for check in checks() {
        let rows = db::fetch(db, format!("{} LIMIT {}", check.sql, ROWS_MAX + 1), vec![]).await?;
        let more = rows.len() > ROWS_MAX;
        for row in rows.iter().take(ROWS_MAX) {
            report.add(VerifyFault::of_index(check.kind, (check.tell)(row)?));
        }
        if more {
            report.add(VerifyFault::of_index(check.kind, format!("There are more than {ROWS_MAX} faults of this sort.")));
        }
    }
    let sql = "SELECT (SELECT COUNT(*) FROM message), (SELECT COUNT(*) FROM mailbox), (SELECT COUNT(*) FROM spool)";
    if let Some(row) = db::fetch(db, sql, vec![]).await?.first() {
        (report.messages, report.mailboxes, report.queue_entries) = (row.uint(0)?, row.uint(1)?, row.uint(2)?);
    }
    Ok(())
}
