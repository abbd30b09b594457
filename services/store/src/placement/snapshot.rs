//! The whole index as logs, written beside running mail.
//!
//! Contract: when it is written, everything that the packs say of transactions up to its begin is dead. Rows are read page
//! by page while mail changes them; each later change has a log of its own behind the begin, which is replayed over it.

use super::{ChangeRow, Fact, MailboxRow, MessageRow, Part, Writer, record};
use crate::db::{self, Row, Value};
use crate::pack::record::encode_placement;
use crate::types::ChangeKind;
use crate::writer::state::{MAILBOX, Mailbox};
use crate::writer::{Alone, Intake, Op, hash_of};
use crate::{Error, Store};

/// Rows that are read at once.
const PAGE_ROWS: usize = 4_000;

/// Key in `meta`: the pack in which the last whole snapshot begins.
pub(crate) const KEY: &str = "snapshot_pack";

/// A table: its rows behind a key in the order of the key, how many columns from the first are the key, and what they say.
struct Table {
    /// Its first columns are the key.
    sql: &'static str,
    key: &'static [Key],
    put: fn(&mut Writer, &Row) -> Result<(), Error>,
}

#[derive(Clone, Copy)]
enum Key {
    Int,
    Text,
    Blob,
}

impl Key {
    /// Before the first row.
    fn first(self) -> Value {
        match self {
            Self::Int => Value::Int(i64::MIN),
            Self::Text => "".into(),
            Self::Blob => Value::Blob(Vec::new()),
        }
    }
    /// Of a row.
    fn of(self, row: &Row, column: usize) -> Result<Value, Error> {
        Ok(match self {
            Self::Int => row.int(column)?.into(),
            Self::Text => row.text(column)?.into(),
            Self::Blob => row.blob(column)?.into(),
        })
    }
}

fn ints(row: &Row, n: usize) -> Result<Vec<i64>, Error> {
    (0..n).map(|i| row.int(i)).collect()
}

fn text(value: Option<String>) -> Value {
    value.into()
}

/// A row of the change log: its number, kind, account, mailbox, UID and body.
fn change(r: &Row) -> Result<ChangeRow, Error> {
    let row = ints(r, 6)?;
    Ok(ChangeRow { kind: row[1], account: row[2], mailbox: row[3], uid: row[4], body: row[5], modseq: row[0] })
}

const TABLES: &[Table] = &[
    Table {
        sql: "SELECT id, domain, furnished FROM account WHERE id > $1",
        key: &[Key::Int],
        put: |w, r| {
            w.fact(Fact::Account { id: r.int(0)?, domain: r.int(1)?, furnished: r.bool(2)? });
            Ok(())
        },
    },
    Table {
        sql: "SELECT mailbox, place, name FROM keyword WHERE (mailbox, place) > ($1, $2)",
        key: &[Key::Int, Key::Int],
        put: |w, r| {
            w.fact(Fact::Keyword { mailbox: r.int(0)?, place: r.int(1)?, name: r.text(2)? });
            Ok(())
        },
    },
    Table {
        sql: "SELECT account, name FROM subscription WHERE (account, name) > ($1, $2)",
        key: &[Key::Int, Key::Text],
        put: |w, r| {
            w.fact(Fact::Subscription { account: r.int(0)?, name: r.text(1)?, subscribed: true });
            Ok(())
        },
    },
    Table {
        sql: "SELECT account, mailbox, entry, value FROM annotation WHERE (account, mailbox, entry) > ($1, $2, $3)",
        key: &[Key::Int, Key::Int, Key::Text],
        put: |w, r| {
            let (account, mailbox, entry) = (r.int(0)?, r.int(1)?, r.text(2)?);
            w.fact(Fact::Annotation { account, mailbox, entry, value: Some(r.blob(3)?) });
            Ok(())
        },
    },
    Table {
        sql: "SELECT id, hash, size_bytes FROM body WHERE id > $1",
        key: &[Key::Int],
        put: |w, r| {
            w.fact(Fact::Body { id: r.int(0)?, hash: hash_of(&r.blob(1)?)?, size_bytes: r.u32(2)? });
            Ok(())
        },
    },
    Table {
        sql: "SELECT m.mailbox, m.uid, x.account, m.body, m.flags, m.modseq, m.received_s, m.saved_s, m.size_bytes FROM message m \
              JOIN mailbox x ON x.id = m.mailbox WHERE (m.mailbox, m.uid) > ($1, $2)",
        key: &[Key::Int, Key::Int],
        put: |w, r| {
            let row = ints(r, 9)?;
            let kind = ChangeKind::Added.number();
            let change = ChangeRow { kind, account: row[2], mailbox: row[0], uid: row[1], body: row[3], modseq: row[5] };
            w.message(&MessageRow { change, flags: row[4], received_s: row[6], saved_s: row[7], size_bytes: row[8] });
            Ok(())
        },
    },
    // What went: a client that was away asks for it (RFC 7162 3.2.5).
    Table {
        sql: "SELECT c.modseq, c.kind, c.account, c.mailbox, c.uid, c.body FROM change c JOIN mailbox x ON x.id = c.mailbox \
              WHERE c.kind = 3 AND c.modseq > $1",
        key: &[Key::Int],
        put: |w, r| {
            w.change(&change(r)?);
            Ok(())
        },
    },
    Table {
        sql: "SELECT id, account, mailbox_name, uid, body, flags, received_s, saved_s, size_bytes, deleted_s FROM trash WHERE id > $1",
        key: &[Key::Int],
        put: |w, r| {
            let mut row: Vec<Value> = vec![r.int(0)?.into(), r.int(1)?.into(), r.text(2)?.into()];
            for i in 3..10 {
                row.push(r.int(i)?.into());
            }
            w.fact(Fact::Trash(row));
            Ok(())
        },
    },
    Table {
        sql: "SELECT id, body, size_bytes, sender, ret, envid, smtputf8, eight_bit, require_tls, held, trace, account, created_s, \
              expires_s FROM spool WHERE id > $1",
        key: &[Key::Int],
        put: |w, r| {
            let mut row: Vec<Value> = ints(r, 3)?.into_iter().map(Value::Int).collect();
            for i in 3..6 {
                row.push(text(r.opt_text(i)?));
            }
            for i in 6..11 {
                row.push(r.int(i)?.into());
            }
            row.extend([r.opt_int(11)?.into(), r.int(12)?.into(), r.int(13)?.into()]);
            w.fact(Fact::Spool(row));
            Ok(())
        },
    },
    Table {
        sql: "SELECT spool, n, address, orcpt, notify, state, attempts, next_try_s, last_try_s, reply_code, reply_text, delay_told \
              FROM spool_rcpt WHERE (spool, n) > ($1, $2)",
        key: &[Key::Int, Key::Int],
        put: |w, r| {
            let mut row: Vec<Value> = vec![r.int(0)?.into(), r.int(1)?.into(), r.text(2)?.into(), text(r.opt_text(3)?)];
            for i in 4..8 {
                row.push(r.int(i)?.into());
            }
            row.extend([r.opt_int(8)?.into(), r.int(9)?.into(), r.text(10)?.into(), r.int(11)?.into()]);
            w.fact(Fact::Rcpt(row));
            Ok(())
        },
    },
    Table {
        sql: "SELECT key, at_s FROM merged WHERE key > $1",
        key: &[Key::Blob],
        put: |w, r| {
            let key = r.blob(0)?.try_into().map_err(|_| Error::Index("a key of merged mail is not 16 bytes".to_owned()))?;
            w.fact(Fact::Merged(key, r.int(1)?));
            Ok(())
        },
    },
];

/// What a mailbox row says here.
pub(crate) fn mailbox(m: &Mailbox) -> Fact {
    Fact::Mailbox(MailboxRow {
        id: m.id.0,
        account: m.account.0,
        name: m.name.clone(),
        uid_validity: m.uid_validity.0,
        uid_next: m.uid_next.0,
        highest_modseq: m.highest_modseq.0,
        special_use: m.special_use.map(|u| u.name().to_owned()),
        created_s: m.created_s,
    })
}

/// Parts on their way into the packs.
struct Parts<'a> {
    store: &'a Store,
    part: Part,
    first_pack: Option<u32>,
}

impl Parts<'_> {
    async fn write(&mut self, writer: Writer, last: bool) -> Result<(), Error> {
        if writer.is_empty() && !last {
            return Ok(());
        }
        self.part.last = last;
        let log = writer.finish(self.part.begin, 0);
        let record = encode_placement(&record(Some(self.part), &[log]));
        self.part.n += 1;
        let places = self.store.ask_packs(|answer| Intake::Copy(vec![record], answer)).await??;
        if self.first_pack.is_none() {
            self.first_pack = places.first().map(|p| p.pack);
        }
        Ok(())
    }
}

impl Store {
    /// Writes the whole index into the packs as placement records; what they said before is dead then.
    pub(crate) async fn snapshot_index(&self) -> Result<(), Error> {
        let mark = self.inner.outbox.mark();
        let begin = mark.committed;
        let db = &self.inner.db;
        let id = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let mut parts = Parts { store: self, part: Part { begin, id, n: 0, last: false }, first_pack: None };
        let mut writer = Writer::default();
        for row in db::fetch(db, "SELECT value FROM meta WHERE key = 'uid_validity'", vec![]).await? {
            writer.fact(Fact::UidValidity(row.text(0)?.parse().unwrap_or(0)));
        }
        let mut from = 0;
        loop {
            let rows = db::fetch(db, format!("{MAILBOX}id > $1 ORDER BY id LIMIT {PAGE_ROWS}"), vec![Value::Int(from)]).await?;
            for row in &rows {
                let m = Mailbox::read(row)?;
                from = m.id.0;
                writer.fact(mailbox(&m));
            }
            parts.write(std::mem::take(&mut writer), false).await?;
            if rows.len() < PAGE_ROWS {
                break;
            }
        }
        for table in TABLES {
            let order = (1..=table.key.len()).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
            let sql = format!("{} ORDER BY {order} LIMIT {PAGE_ROWS}", table.sql);
            let mut at: Vec<Value> = table.key.iter().map(|k| k.first()).collect();
            loop {
                let rows = db::fetch(db, sql.clone(), at.clone()).await?;
                for row in &rows {
                    (table.put)(&mut writer, row)?;
                }
                parts.write(std::mem::take(&mut writer), false).await?;
                let Some(row) = rows.last().filter(|_| rows.len() == PAGE_ROWS) else { break };
                for (i, (key, at)) in table.key.iter().zip(&mut at).enumerate() {
                    *at = key.of(row, i)?;
                }
            }
        }
        // The last number given, whatever it was for: none is given twice.
        let sql = "SELECT modseq, kind, account, mailbox, uid, body FROM change ORDER BY modseq DESC LIMIT 1";
        for row in db::fetch(db, sql, vec![]).await? {
            writer.change(&change(&row)?);
        }
        // In the last part: the logs of what it decides went into the packs with an earlier one.
        writer.fact(Fact::Decided(mark.decided.0, mark.decided.1));
        parts.write(writer, true).await?;
        let value = parts.first_pack.unwrap_or(0).to_string();
        self.ask_behind(|answer| Op::Alone(Alone::Note { key: KEY, value, answer })).await
    }
}
