//! One SQL text, two engines: SQLite for the appliance, PostgreSQL for the large size.
//!
//! Contract: statements are written once, in the subset that both speak, with `$1` parameters; the macros of this crate
//! run one body of code on whichever engine is open. SQLite runs in WAL mode with `synchronous = FULL`: a commit that
//! returned is on the disk. There is one writing connection and a pool of readers, so a writer never meets `SQLITE_BUSY`.
//! PostgreSQL runs with its own durable default (`synchronous_commit = on`, asserted at open).
//!
//! What differs is only in types of columns (`{blob}`, `{id}`, `{key}`, `{clustered}`) and is filled in by [`Database::migrate`].
//!
//! The common subset: `INSERT ... ON CONFLICT`, `RETURNING`, `UPDATE ... FROM (VALUES ...) AS v` whose columns both call
//! `column1`, `column2` (cast them for PostgreSQL: `CAST($1 AS BIGINT)`), partial indexes, `BIGINT`, `TEXT`, `{blob}`.

#[cfg(feature = "testing")]
pub mod testing;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The pool of whichever engine is open.
#[derive(Clone, Debug)]
pub enum Pool {
    /// SQLite.
    Sqlite(SqlitePool),
    /// PostgreSQL.
    Postgres(PgPool),
}

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A SQLite file; made when absent (its folder must exist).
    Sqlite(PathBuf),
    /// A `postgres://` address; `schema` keeps the tables of one user of the database apart and is made when absent.
    Postgres {
        /// `postgres://user@host/database` or with `?host=/socket/dir`.
        url: String,
        /// Name of the schema: letters, digits and `_`.
        schema: String,
    },
}

/// An open database: one writer, many readers.
#[derive(Clone, Debug)]
pub struct Database {
    writer: Pool,
    readers: Pool,
}

/// What can go wrong with a database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or server could not be opened.
    #[error("cannot open the database {what}: {source}")]
    Open {
        /// File or server.
        what: String,
        /// Why.
        source: sqlx::Error,
    },
    /// A statement of a migration failed; nothing of that migration was kept.
    #[error("cannot bring the tables of {name} to version {version}: {source}")]
    Migrate {
        /// Whose tables.
        name: &'static str,
        /// Which step.
        version: i64,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables are newer than this program.
    #[error("the tables of {name} have version {found}, this program knows up to {known}: use the newer program")]
    TooNew {
        /// Whose tables.
        name: &'static str,
        /// Version in the database.
        found: i64,
        /// Newest version of this program.
        known: i64,
    },
    /// A name that cannot stand in SQL.
    #[error("{0:?} cannot be the name of a database schema: letters, digits and _ only")]
    SchemaName(String),
    /// The server is set to answer before data is on its disk.
    #[error("the PostgreSQL server runs with {setting} = {value}: a commit would not be durable")]
    NotDurable {
        /// Setting of the server.
        setting: &'static str,
        /// Its value.
        value: String,
    },
    /// Any other statement.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Runs the body with `$conn` bound to an executor for reading (`&SqlitePool` or `&PgPool`).
#[macro_export]
macro_rules! read {
    ($db:expr, $conn:ident => $body:expr) => {
        match $db.readers() {
            $crate::Pool::Sqlite($conn) => $body,
            $crate::Pool::Postgres($conn) => $body,
        }
    };
}

/// Runs the body with `$tx` bound to an open transaction on the writer: use `&mut *$tx` as executor, and end with
/// `$tx.commit().await`. Dropped without commit it is rolled back.
/// The body must not use `?` across the macro's match arms with different error types: both arms have `sqlx::Error`.
#[macro_export]
macro_rules! transaction {
    ($db:expr, $tx:ident => $body:expr) => {
        match $db.writer() {
            $crate::Pool::Sqlite(pool) => {
                #[allow(unused_mut)]
                let mut $tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                $body
            }
            $crate::Pool::Postgres(pool) => {
                #[allow(unused_mut)]
                let mut $tx = pool.begin().await?;
                $body
            }
        }
    };
}

/// One step of a schema: its number from 1 and its statements, separated by `;` at the end of a line. `{blob}` becomes
/// the engine's byte type, `{id}` a primary key that the engine counts up itself, `{key}` a 64-bit primary key that the program gives, `{clustered}` (behind the closing
/// bracket) keeps the rows in the order of the primary key where the engine can.
pub type Migration = (i64, &'static str);

impl Database {
    /// Opens the database with `readers` reading connections.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::SchemaName`], [`Error::NotDurable`].
    pub async fn open(location: &Location, readers: u32) -> Result<Self, Error> {
        match location {
            Location::Sqlite(path) => Self::open_sqlite(path, readers).await,
            Location::Postgres { url, schema } => Self::open_postgres(url, schema, readers).await,
        }
    }

    async fn open_sqlite(path: &Path, readers: u32) -> Result<Self, Error> {
        let fault = |source| Error::Open { what: path.display().to_string(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30))
            .foreign_keys(false)
            .statement_cache_capacity(512)
            .pragma("cache_size", "-32768")
            .pragma("wal_autocheckpoint", "8000")
            .pragma("temp_store", "memory");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.clone())
            .await
            .map_err(fault)?;
        let readers = SqlitePoolOptions::new()
            .max_connections(readers.max(1))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.pragma("query_only", "on").pragma("cache_size", "-16384"));
        Ok(Self { writer: Pool::Sqlite(writer), readers: Pool::Sqlite(readers) })
    }

    async fn open_postgres(url: &str, schema: &str, readers: u32) -> Result<Self, Error> {
        if schema.is_empty() || !schema.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(Error::SchemaName(schema.to_owned()));
        }
        let what = || url.rsplit('@').next().unwrap_or(url).to_owned();
        let fault = |source| Error::Open { what: what(), source };
        let options =
            PgConnectOptions::from_str(url).map_err(fault)?.options([("search_path", schema)]).statement_cache_capacity(512);
        let pool = |n| PgPoolOptions::new().max_connections(n).test_before_acquire(false).connect_lazy_with(options.clone());
        let (writer, readers) = (pool(2), pool(readers.max(1)));
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}"))).execute(&writer).await.map_err(fault)?;
        for setting in ["fsync", "synchronous_commit"] {
            let (value,): (String,) =
                sqlx::query_as("SELECT current_setting($1)").bind(setting).fetch_one(&writer).await.map_err(fault)?;
            if value == "off" {
                return Err(Error::NotDurable { setting, value });
            }
        }
        Ok(Self { writer: Pool::Postgres(writer), readers: Pool::Postgres(readers) })
    }

    /// The pool that reads.
    #[must_use]
    pub fn readers(&self) -> &Pool {
        &self.readers
    }
    /// The pool that writes.
    #[must_use]
    pub fn writer(&self) -> &Pool {
        &self.writer
    }
    /// The engine is PostgreSQL.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.writer, Pool::Postgres(_))
    }

    /// Brings the tables called `name` to the newest of these migrations, each in a transaction of its own.
    ///
    /// # Errors
    /// [`Error::Migrate`] names the step; [`Error::TooNew`] when the data was written by a later program.
    pub async fn migrate(&self, name: &'static str, steps: &[Migration]) -> Result<(), Error> {
        let make = "CREATE TABLE IF NOT EXISTS schema_version (name TEXT PRIMARY KEY, version BIGINT NOT NULL)";
        transaction!(self, tx => { sqlx::query(make).execute(&mut *tx).await?; tx.commit().await? });
        let sql = "SELECT version FROM schema_version WHERE name = $1";
        let row: Option<(i64,)> = read!(self, c => sqlx::query_as(sql).bind(name).fetch_optional(c).await?);
        let found = row.map_or(0, |r| r.0);
        let known = steps.last().map_or(0, |s| s.0);
        if found > known {
            return Err(Error::TooNew { name, found, known });
        }
        for (version, text) in steps.iter().filter(|s| s.0 > found) {
            self.migrate_one(name, *version, text).await.map_err(|source| Error::Migrate { name, version: *version, source })?;
            tracing::debug!(tables = name, version, "schema brought up");
        }
        Ok(())
    }

    async fn migrate_one(&self, name: &str, version: i64, text: &str) -> Result<(), sqlx::Error> {
        let (blob, id, key, clustered) = if self.is_postgres() {
            ("BYTEA", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY", "BIGINT PRIMARY KEY", "")
        } else {
            ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT", "INTEGER PRIMARY KEY", "WITHOUT ROWID")
        };
        let text = text.replace("{blob}", blob).replace("{id}", id).replace("{key}", key).replace("{clustered}", clustered);
        let note = "INSERT INTO schema_version (name, version) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET version = excluded.version";
        transaction!(self, tx => {
            for statement in text.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
                sqlx::query(AssertSqlSafe(statement.trim_end_matches(';').to_owned())).execute(&mut *tx).await?;
            }
            sqlx::query(note).bind(name).bind(version).execute(&mut *tx).await?;
            tx.commit().await
        })
    }

    /// Closes all connections; SQLite's log is folded into its file.
    pub async fn close(&self) {
        for pool in [&self.readers, &self.writer] {
            match pool {
                Pool::Sqlite(p) => p.close().await,
                Pool::Postgres(p) => p.close().await,
            }
        }
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use testing::Place;

    const STEPS: &[Migration] = &[(1, "CREATE TABLE t (id {id}, b {blob} NOT NULL);\n")];

    async fn a_commit_is_seen_and_a_rollback_is_not(place: &Place) {
        commit_and_roll_back(&place.open().await).await.expect("the database works");
    }

    async fn commit_and_roll_back(db: &Database) -> Result<(), Error> {
        db.migrate("t", STEPS).await?;
        db.migrate("t", STEPS).await?;
        transaction!(db, tx => {
            sqlx::query("INSERT INTO t (b) VALUES ($1)").bind(vec![1u8]).execute(&mut *tx).await?;
            tx.commit().await?;
        });
        transaction!(db, tx => {
            sqlx::query("INSERT INTO t (b) VALUES ($1)").bind(vec![2u8]).execute(&mut *tx).await?;
            drop(tx);
        });
        let rows: Vec<(i64, Vec<u8>)> = read!(db, c => sqlx::query_as("SELECT id, b FROM t").fetch_all(c).await?);
        assert_eq!(rows, [(1, vec![1])]);
        assert!(matches!(db.migrate("t", &[]).await, Err(Error::TooNew { found: 1, known: 0, .. })));
        Ok(())
    }

    on_both_engines!(a_commit_is_seen_and_a_rollback_is_not);
}
