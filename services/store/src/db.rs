//! Statements written once for both engines: values, rows and transactions without a type parameter.
//!
//! Contract: every statement is in the common subset that `twinpost_sql` describes. Many-row statements come in fixed
//! sizes ([`CHUNKS`]), so that the engine's cache of prepared statements holds them all. Failure classes: a full disk is
//! told apart from everything else ([`crate::Error::DiskFull`]); nothing here retries.

use crate::Error;
use crate::sqlite::{Held, Slot, Use};
use rusqlite::types::Value as Cell;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row as _};
use std::sync::Arc;
use twinpost_sql::{Database, Location, Pool};

/// A parameter. Nulls are typed, because PostgreSQL types them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    Blob(Vec<u8>),
    NoInt,
    NoText,
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u32> for Value {
    fn from(v: u32) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<u64> for Value {
    /// Flags and counters use at most 63 bits; thread numbers are stored as the same 64 bits.
    fn from(v: u64) -> Self {
        Self::Int(v.cast_signed())
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<Vec<u8>> for Value {
    fn from(v: Vec<u8>) -> Self {
        Self::Blob(v)
    }
}
impl From<&[u8]> for Value {
    fn from(v: &[u8]) -> Self {
        Self::Blob(v.to_vec())
    }
}
impl From<Option<i64>> for Value {
    fn from(v: Option<i64>) -> Self {
        v.map_or(Self::NoInt, Self::Int)
    }
}
impl From<Option<String>> for Value {
    fn from(v: Option<String>) -> Self {
        v.map_or(Self::NoText, Self::Text)
    }
}
impl From<Option<&str>> for Value {
    fn from(v: Option<&str>) -> Self {
        v.map_or(Self::NoText, |t| Self::Text(t.to_owned()))
    }
}

/// One row of an answer.
pub(crate) enum Row {
    Sqlite(sqlx::sqlite::SqliteRow),
    Postgres(sqlx::postgres::PgRow),
    Cells(Vec<Cell>),
}

macro_rules! column {
    ($self:expr, $i:expr, $t:ty, $($cell:pat => $value:expr),+) => {
        match $self {
            Row::Sqlite(r) => r.try_get::<$t, _>($i).map_err(|e| Error::sql("read a column", e)),
            Row::Postgres(r) => r.try_get::<$t, _>($i).map_err(|e| Error::sql("read a column", e)),
            Row::Cells(cells) => match cells.get($i) {
                $(Some($cell) => Ok($value),)+
                other => Err(Error::index(format!("column {} holds {other:?}", $i))),
            },
        }
    };
}

impl Row {
    pub fn int(&self, i: usize) -> Result<i64, Error> {
        column!(self, i, i64, Cell::Integer(v) => *v)
    }
    pub fn uint(&self, i: usize) -> Result<u64, Error> {
        Ok(self.int(i)?.cast_unsigned())
    }
    pub fn u32(&self, i: usize) -> Result<u32, Error> {
        u32::try_from(self.int(i)?).map_err(|_| Error::index(format!("column {i} holds a number beyond 32 bits")))
    }
    pub fn bool(&self, i: usize) -> Result<bool, Error> {
        Ok(self.int(i)? != 0)
    }
    pub fn text(&self, i: usize) -> Result<String, Error> {
        column!(self, i, String, Cell::Text(v) => v.clone())
    }
    pub fn blob(&self, i: usize) -> Result<Vec<u8>, Error> {
        column!(self, i, Vec<u8>, Cell::Blob(v) => v.clone())
    }
    pub fn opt_int(&self, i: usize) -> Result<Option<i64>, Error> {
        column!(self, i, Option<i64>, Cell::Integer(v) => Some(*v), Cell::Null => None)
    }
    pub fn opt_text(&self, i: usize) -> Result<Option<String>, Error> {
        column!(self, i, Option<String>, Cell::Text(v) => Some(v.clone()), Cell::Null => None)
    }
}

macro_rules! bound {
    ($sql:expr, $args:expr) => {{
        let mut q = sqlx::query(AssertSqlSafe($sql));
        for arg in $args {
            q = match arg {
                Value::Int(v) => q.bind(v),
                Value::Text(v) => q.bind(v),
                Value::Blob(v) => q.bind(v),
                Value::NoInt => q.bind(None::<i64>),
                Value::NoText => q.bind(None::<String>),
            };
        }
        q
    }};
}

/// Runs a query on a reading connection.
pub(crate) async fn fetch(db: &Database, sql: impl Into<Arc<str>>, args: Vec<Value>) -> Result<Vec<Row>, Error> {
    let sql: Arc<str> = sql.into();
    let rows = match db.readers() {
        Pool::Sqlite(p) => bound!(sql, args).fetch_all(p).await.map(|rows| rows.into_iter().map(Row::Sqlite).collect::<Vec<_>>()),
        Pool::Postgres(p) => bound!(sql, args).fetch_all(p).await.map(|rows| rows.into_iter().map(Row::Postgres).collect()),
    };
    rows.map_err(|e| Error::sql("read the index", e))
}

/// Where the writer's changes go.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    Sqlite(Slot),
    Postgres(sqlx::PgPool),
}

impl Writer {
    pub fn new(db: &Database, location: &Location) -> Result<Self, Error> {
        match (location, db.writer()) {
            (Location::Sqlite(path), _) => Ok(Self::Sqlite(Slot::new(path, Use::Write))),
            (_, Pool::Postgres(pool)) => Ok(Self::Postgres(pool.clone())),
            (Location::Postgres { .. }, Pool::Sqlite(_)) => Err(Error::Closed),
        }
    }

    /// Closes a connection that waits here.
    pub fn close(&self) {
        if let Self::Sqlite(slot) = self {
            slot.close();
        }
    }
}

/// What the writer reads before each batch.
#[derive(Debug)]
pub(crate) enum Reader {
    Sqlite(Slot),
    Postgres(Database),
}

impl Reader {
    pub fn new(db: &Database, location: &Location) -> Self {
        match location {
            Location::Sqlite(path) => Self::Sqlite(Slot::new(path, Use::Read)),
            Location::Postgres { .. } => Self::Postgres(db.clone()),
        }
    }

    /// The rows of `SELECT ... WHERE key` for any of these keys. Blocks on SQLite.
    pub async fn fetch_keys(&self, head: &'static str, keys: &[Value]) -> Result<Vec<Row>, Error> {
        match self {
            Self::Sqlite(slot) => slot.take()?.fetch_each(head, keys),
            Self::Postgres(db) => fetch_in(db, head, &[], keys, "").await,
        }
    }
}

/// A transaction of the writer. Dropped without [`Tx::commit`] it is rolled back. Blocks on SQLite.
pub(crate) enum Tx {
    Sqlite(Held),
    Postgres(Option<sqlx::Transaction<'static, sqlx::Postgres>>),
}

impl Tx {
    pub async fn begin(writer: &Writer) -> Result<Self, Error> {
        match writer {
            Writer::Sqlite(slot) => {
                let mut held = slot.take()?;
                held.begin()?;
                Ok(Self::Sqlite(held))
            }
            Writer::Postgres(p) => {
                let tx = p.begin().await.map_err(|e| Error::sql("begin a change of the index", e))?;
                Ok(Self::Postgres(Some(tx)))
            }
        }
    }

    /// Runs a statement; answers how many rows it touched.
    pub async fn run(&mut self, sql: impl Into<Arc<str>>, args: Vec<Value>) -> Result<u64, Error> {
        let sql: Arc<str> = sql.into();
        match self {
            Self::Sqlite(held) => held.run("change the index", &sql, &args),
            Self::Postgres(tx) => {
                let tx = tx.as_mut().ok_or(Error::Closed)?;
                let done = bound!(sql, args).execute(&mut **tx).await;
                done.map(|r| r.rows_affected()).map_err(|e| Error::sql("change the index", e))
            }
        }
    }

    pub async fn fetch(&mut self, sql: impl Into<Arc<str>>, args: Vec<Value>) -> Result<Vec<Row>, Error> {
        let sql: Arc<str> = sql.into();
        match self {
            Self::Sqlite(held) => held.fetch(&sql, &args),
            Self::Postgres(tx) => {
                let tx = tx.as_mut().ok_or(Error::Closed)?;
                let rows = bound!(sql, args).fetch_all(&mut **tx).await.map_err(|e| Error::sql("read the index", e))?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Err: nothing was kept, and the transaction is to be dropped.
    pub async fn commit(&mut self) -> Result<(), Error> {
        match self {
            Self::Sqlite(held) => held.commit(),
            Self::Postgres(tx) => {
                let done = tx.take().ok_or(Error::Closed)?.commit().await;
                done.map_err(|e| Error::sql("commit a change of the index", e))
            }
        }
    }

    /// Runs `head` + `(row), (row) ...` + `tail` over all rows: on PostgreSQL in as few statements as [`CHUNKS`] allows,
    /// on SQLite, where a statement costs no round trip, row by row. `row` is the shape of one row with `?` for each
    /// parameter, for example `(CAST(? AS BIGINT), ?)`.
    pub async fn many(&mut self, shape: Shape, rows: Vec<Vec<Value>>) -> Result<(), Error> {
        if let Self::Sqlite(held) = self {
            return held.many("change the index", &shape.text(1, true), &rows);
        }
        let mut rows = rows.into_iter();
        while rows.len() > 0 {
            let n = CHUNKS.iter().copied().find(|n| *n <= rows.len()).unwrap_or(1);
            let args: Vec<Value> = rows.by_ref().take(n).flatten().collect();
            self.run(shape.text(n, false), args).await?;
        }
        Ok(())
    }
}

/// Row counts of many-row statements. 512 rows of 9 columns stay below SQLite's 32,766 and PostgreSQL's 65,535 parameters.
pub(crate) const CHUNKS: [usize; 4] = [512, 64, 8, 1];

/// A many-row statement.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    pub head: &'static str,
    pub row: &'static str,
    pub tail: &'static str,
}

impl Shape {
    /// The text for `n` rows, made once. SQLite finds the name of a parameter by a walk through all of them, so that
    /// `$1` to `$4096` cost millions of steps at each execution: it gets nameless ones.
    pub fn text(self, n: usize, sqlite: bool) -> Arc<str> {
        type Texts = parking_lot::Mutex<std::collections::HashMap<(Shape, usize, bool), Arc<str>>>;
        static TEXTS: std::sync::OnceLock<Texts> = std::sync::OnceLock::new();
        let mut texts = TEXTS.get_or_init(Texts::default).lock();
        texts.entry((self, n, sqlite)).or_insert_with(|| self.write(n, sqlite)).clone()
    }

    fn write(self, n: usize, sqlite: bool) -> Arc<str> {
        let mut text = String::from(self.head);
        let mut number = 0;
        for i in 0..n {
            if i > 0 {
                text.push(',');
            }
            for (k, piece) in self.row.split('?').enumerate() {
                if k > 0 {
                    number += 1;
                    parameter(&mut text, number, sqlite);
                }
                text.push_str(piece);
            }
        }
        text.push_str(self.tail);
        text.into()
    }
}

fn parameter(text: &mut String, number: usize, sqlite: bool) {
    if sqlite {
        text.push('?');
    } else {
        text.push('$');
        text.push_str(&number.to_string());
    }
}

/// `head IN ($k, ...) tail` in padded sizes: the statement's text and its parameters for each piece of the list. The head
/// holds the fixed parameters as `$1`, `$2` in this order, each once; the tail holds none.
pub(crate) fn in_list(db: &Database, head: &str, fixed: &[Value], list: &[Value], tail: &str) -> Vec<(Arc<str>, Vec<Value>)> {
    let sqlite = !db.is_postgres();
    let mut head = head.to_owned();
    if sqlite {
        for k in 1..=fixed.len() {
            head = head.replace(&format!("${k}"), "?");
        }
    }
    let mut pieces = Vec::new();
    for piece in list.chunks(CHUNKS[0]) {
        let n = CHUNKS.iter().rev().copied().find(|n| *n >= piece.len()).unwrap_or(CHUNKS[0]);
        let mut text = String::with_capacity(head.len() + tail.len() + 6 * n + 8);
        text.push_str(&head);
        text.push_str(" IN (");
        for i in 0..n {
            if i > 0 {
                text.push(',');
            }
            parameter(&mut text, fixed.len() + i + 1, sqlite);
        }
        text.push_str(") ");
        text.push_str(tail);
        let last = piece[piece.len() - 1].clone();
        let pad = std::iter::repeat_n(last, n - piece.len());
        pieces.push((text.into(), fixed.iter().cloned().chain(piece.iter().cloned()).chain(pad).collect()));
    }
    pieces
}

/// Rows of `SELECT ... WHERE x IN (list)` on a reading connection.
pub(crate) async fn fetch_in(db: &Database, head: &str, fixed: &[Value], list: &[Value], tail: &str) -> Result<Vec<Row>, Error> {
    let mut rows = Vec::new();
    for (sql, args) in in_list(db, head, fixed, list, tail) {
        rows.append(&mut fetch(db, sql, args).await?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_number_their_parameters() {
        let shape = Shape { head: "INSERT INTO t VALUES ", row: "(?,CAST(? AS BIGINT))", tail: " RETURNING a" };
        assert_eq!(&*shape.text(1, false), "INSERT INTO t VALUES ($1,CAST($2 AS BIGINT)) RETURNING a");
        let two = "INSERT INTO t VALUES ($1,CAST($2 AS BIGINT)),($3,CAST($4 AS BIGINT)) RETURNING a";
        assert_eq!(&*shape.text(2, false), two);
        assert_eq!(&*shape.text(2, true), "INSERT INTO t VALUES (?,CAST(? AS BIGINT)),(?,CAST(? AS BIGINT)) RETURNING a");
    }

    #[tokio::test]
    async fn lists_are_padded_with_their_last_value() {
        for place in [twinpost_sql::testing::Place::sqlite(), twinpost_sql::testing::Place::postgres()] {
            let db = place.open().await;
            let list: Vec<Value> = (0..9i64).map(Value::Int).collect();
            let pieces = in_list(&db, "a = $1 AND b", &[Value::Int(7)], &list, "");
            assert_eq!(pieces.len(), 1);
            assert_eq!(pieces[0].1.len(), 65);
            assert!(pieces[0].0.ends_with(if db.is_postgres() { "$65) " } else { "?) " }));
            assert!(matches!(pieces[0].1[64], Value::Int(8)));
        }
    }
}
