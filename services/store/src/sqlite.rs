//! SQLite on the thread that asks: connections that the two threads of the writer call directly.
//!
//! Contract: a [`Slot`] keeps one connection between uses and opens it when there is none. [`Held`] has it for one
//! transaction; dropped before [`Held::commit`], the transaction is rolled back. Everything here blocks, a commit for as
//! long as the disk needs: only the writer's own threads come here, and opening.
//!
//! Why not sqlx here: it hands each statement to a thread of the connection and waits to be woken. A commit of one message was
//! nine such round trips, and on a machine with busy processors each waits for a time slice (4 ms was seen), while the
//! statements themselves take microseconds.
//!
//! Failure classes: a full disk is told apart ([`Error::DiskFull`]); after any fault the transaction is rolled back, and a
//! connection that cannot do that is closed, which does it too.

use crate::Error;
use crate::db::{Row, Value};
use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement, ToSql};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 256;

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Write,
    Read,
}

/// A place for one connection. Clones are the same place.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    what_for: Use,
    idle: Arc<Mutex<Option<Connection>>>,
}

impl Slot {
    pub fn new(path: &Path, what_for: Use) -> Self {
        Self { path: path.to_owned(), what_for, idle: Arc::default() }
    }

    /// The connection, without a transaction. A second taker gets a second connection.
    pub fn take(&self) -> Result<Held, Error> {
        let idle = self.idle.lock().take();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(|e| Error::sqlite("open the index", e))?,
        };
        Ok(Held { connection: Some(connection), slot: self.clone() })
    }

    /// Closes the connection that waits here.
    pub fn close(&self) {
        drop(self.idle.lock().take());
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(Duration::from_secs(30))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // The same promises as `twinpost_sql`: what was committed is on the disk.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", false)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        match self.what_for {
            Use::Write => {
                connection.pragma_update(None, "cache_size", -32_768)?;
                connection.pragma_update(None, "wal_autocheckpoint", 8000)?;
            }
            Use::Read => {
                connection.pragma_update(None, "cache_size", -8_192)?;
                connection.pragma_update(None, "query_only", true)?;
            }
        }
        Ok(connection)
    }
}

/// A connection in use.
#[derive(Debug)]
pub(crate) struct Held {
    /// None only while it is dropped.
    connection: Option<Connection>,
    slot: Slot,
}

impl Held {
    fn connection(&self) -> Result<&Connection, Error> {
        self.connection.as_ref().ok_or(Error::Closed)
    }

    pub fn begin(&mut self) -> Result<(), Error> {
        let sql = if self.slot.what_for == Use::Write { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.run("begin a change of the index", sql, &[]).map(drop)
    }

    /// Err: nothing was kept.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.run("commit a change of the index", "COMMIT", &[]).map(drop)
    }

    /// Runs a statement; answers how many rows it touched.
    pub fn run(&mut self, what: &'static str, sql: &str, args: &[Value]) -> Result<u64, Error> {
        let run = |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            bind(&mut statement, args)?;
            statement.raw_execute()
        };
        run(self.connection()?).map(|n| n as u64).map_err(|e| Error::sqlite(what, e))
    }

    /// Runs a statement with nameless parameters once a row.
    pub fn many(&mut self, what: &'static str, sql: &str, rows: &[Vec<Value>]) -> Result<(), Error> {
        let run = |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            for row in rows {
                for (i, arg) in row.iter().enumerate() {
                    statement.raw_bind_parameter(i + 1, arg)?;
                }
                statement.raw_execute()?;
            }
            Ok(())
        };
        run(self.connection()?).map_err(|e| Error::sqlite(what, e))
    }

    pub fn fetch(&mut self, sql: &str, args: &[Value]) -> Result<Vec<Row>, Error> {
        let run = |connection: &Connection| {
            let mut statement = connection.prepare_cached(sql)?;
            bind(&mut statement, args)?;
            let columns = statement.column_count();
            let mut rows = statement.raw_query();
            let mut out = Vec::new();
            while let Some(row) = rows.next()? {
                out.push(Row::Cells((0..columns).map(|i| row.get(i)).collect::<Result<_, _>>()?));
            }
            Ok(out)
        };
        run(self.connection()?).map_err(|e| Error::sqlite("read the index", e))
    }

    /// The rows of `head = key` for each key, as of one moment.
    pub fn fetch_each(&mut self, head: &str, keys: &[Value]) -> Result<Vec<Row>, Error> {
        let sql = format!("{head} = ?");
        if let [key] = keys {
            return self.fetch(&sql, std::slice::from_ref(key));
        }
        self.begin()?;
        let mut rows = Vec::new();
        for key in keys {
            rows.append(&mut self.fetch(&sql, std::slice::from_ref(key))?);
        }
        self.commit()?;
        Ok(rows)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        // A full disk makes SQLite roll back by itself.
        if !connection.is_autocommit()
            && let Err(error) = connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a change of the index could not be undone: its connection is closed");
            return;
        }
        *self.slot.idle.lock() = Some(connection);
    }
}

/// Binds by number: SQLite takes `$2` for a name, and numbers names as they come.
fn bind(statement: &mut Statement<'_>, args: &[Value]) -> rusqlite::Result<()> {
    for index in 1..=statement.parameter_count() {
        let number = statement.parameter_name(index).and_then(|name| name.get(1..)?.parse().ok()).unwrap_or(index);
        let arg = args.get(number.wrapping_sub(1)).ok_or(rusqlite::Error::InvalidParameterCount(args.len(), number))?;
        statement.raw_bind_parameter(index, arg)?;
    }
    Ok(())
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(v) => ValueRef::Integer(*v),
            Self::Text(v) => ValueRef::Text(v.as_bytes()),
            Self::Blob(v) => ValueRef::Blob(v),
            Self::NoInt | Self::NoText => ValueRef::Null,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Slot, Slot) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index.sqlite");
        let (write, read) = (Slot::new(&path, Use::Write), Slot::new(&path, Use::Read));
        write.take().unwrap().run("test", "CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT)", &[]).unwrap();
        (dir, write, read)
    }

    #[test]
    fn parameters_are_bound_by_their_number() {
        let (_dir, write, _) = place();
        let mut held = write.take().unwrap();
        held.run("test", "INSERT INTO t (b, a) VALUES ($2, $1)", &[Value::Int(1), Value::from("x")]).unwrap();
        let n = held.run("test", "UPDATE t SET b = $2 || $2 WHERE a = $1", &[Value::Int(1), Value::from("y")]).unwrap();
        assert_eq!(n, 1);
        let rows = held.fetch("SELECT b, a, NULL, NULL FROM t WHERE a = ?", &[Value::Int(1)]).unwrap();
        assert_eq!((rows.len(), rows[0].text(0).unwrap(), rows[0].int(1).unwrap()), (1, "yy".to_owned(), 1));
        assert_eq!((rows[0].opt_int(2).unwrap(), rows[0].opt_text(3).unwrap()), (None, None));
        assert!(rows[0].int(0).is_err() && rows[0].int(7).is_err());
        assert!(held.fetch("SELECT b FROM t WHERE a = $2", &[Value::Int(1)]).is_err(), "a parameter is missing");
    }

    #[test]
    fn what_is_dropped_uncommitted_is_undone_and_the_connection_stays() {
        let (_dir, write, read) = place();
        let rows: Vec<Vec<Value>> = (0..5i64).map(|n| vec![n.into(), Value::NoText]).collect();
        let count = || read.take().unwrap().fetch("SELECT a FROM t", &[]).unwrap().len();
        let mut held = write.take().unwrap();
        held.begin().unwrap();
        held.many("test", "INSERT INTO t VALUES (?, ?)", &rows).unwrap();
        assert_eq!(count(), 0);
        drop(held);
        let mut held = write.take().unwrap();
        held.begin().unwrap();
        held.many("test", "INSERT INTO t VALUES (?, ?)", &rows).unwrap();
        assert!(held.many("test", "INSERT INTO t VALUES (?, ?)", &rows).is_err(), "the keys are taken");
        drop(held);
        assert_eq!(count(), 0);
        let mut held = write.take().unwrap();
        held.begin().unwrap();
        held.many("test", "INSERT INTO t VALUES (?, ?)", &rows[..3]).unwrap();
        held.commit().unwrap();
        drop(held);
        assert_eq!(count(), 3);
        let keys = [Value::Int(2), Value::Int(9), Value::Int(0)];
        assert_eq!(read.take().unwrap().fetch_each("SELECT a FROM t WHERE a", &keys).unwrap().len(), 2);
        assert!(read.take().unwrap().run("test", "DELETE FROM t", &[]).is_err(), "it only reads");
    }
}
