//! Tables of the spool, and the upgrades from every version that was released.

use rusqlite::Connection;

/// The version that this program writes (`PRAGMA user_version`).
const VERSION: i64 = 1;

/// Version 1. States are the numbers of [`super::PartState`] and [`super::state_number`].
const TABLES: &str = "
CREATE TABLE message (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  digest BLOB NOT NULL,
  class INTEGER NOT NULL,
  recipient TEXT NOT NULL,
  account TEXT,
  domain TEXT,
  report INTEGER NOT NULL,
  flash INTEGER NOT NULL,
  durable INTEGER NOT NULL,
  text TEXT,
  submitted_ms INTEGER NOT NULL,
  deadline_ms INTEGER NOT NULL,
  reference INTEGER NOT NULL,
  state INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  possible_duplicate INTEGER NOT NULL,
  way TEXT,
  reason TEXT,
  open INTEGER NOT NULL
);
CREATE INDEX message_open ON message (id) WHERE open = 1;
CREATE INDEX message_age ON message (at_ms);
CREATE TABLE part (
  message INTEGER NOT NULL,
  number INTEGER NOT NULL,
  state INTEGER NOT NULL,
  planned_mr INTEGER NOT NULL,
  unknowns INTEGER NOT NULL,
  mr INTEGER,
  remote TEXT,
  PRIMARY KEY (message, number)
) WITHOUT ROWID;
CREATE TABLE incoming (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sender TEXT NOT NULL,
  text TEXT NOT NULL,
  sent_s INTEGER NOT NULL,
  received_s INTEGER NOT NULL,
  parts INTEGER NOT NULL,
  begun INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE fragment (
  id INTEGER PRIMARY KEY,
  sender TEXT NOT NULL,
  reference INTEGER NOT NULL,
  total INTEGER NOT NULL,
  number INTEGER NOT NULL,
  utf16 INTEGER NOT NULL,
  body BLOB NOT NULL,
  sent_s INTEGER NOT NULL,
  received_s INTEGER NOT NULL,
  UNIQUE (sender, reference, total, number)
);
CREATE INDEX fragment_age ON fragment (received_s);
CREATE TABLE seen (
  digest BLOB PRIMARY KEY,
  at_s INTEGER NOT NULL,
  until_confirmed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX seen_age ON seen (at_s);
CREATE TABLE statistics (
  day INTEGER NOT NULL,
  account TEXT NOT NULL,
  domain TEXT NOT NULL,
  class INTEGER NOT NULL,
  sent INTEGER NOT NULL,
  parts INTEGER NOT NULL,
  failed INTEGER NOT NULL,
  delivered INTEGER NOT NULL,
  not_delivered INTEGER NOT NULL,
  duplicates INTEGER NOT NULL,
  PRIMARY KEY (day, account, domain, class)
) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('mr', 0);
";

/// Makes the tables of an empty database; refuses one of a later program.
pub(super) fn prepare(db: &mut Connection) -> Result<(), String> {
    let text = |e: rusqlite::Error| e.to_string();
    let version: i64 = db.query_row("PRAGMA user_version", [], |r| r.get(0)).map_err(text)?;
    match version {
        0 => {
            let change = db.transaction().map_err(text)?;
            change.execute_batch(TABLES).map_err(text)?;
            change.pragma_update(None, "user_version", VERSION).map_err(text)?;
            change.commit().map_err(text)
        }
        VERSION => Ok(()),
        other => Err(format!("it was written by a later program (version {other}, this one knows {VERSION})")),
    }
}
