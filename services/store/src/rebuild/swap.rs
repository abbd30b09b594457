//! The new index in the place of the old one.

use crate::Error;
use crate::db::{Tx, Writer};
use crate::writer::now_s;
use std::path::{Path, PathBuf};
use twinpost_sql::{Database, Location};

/// Tables of the store.
const TABLES: [&str; 15] = [
    "meta",
    "body",
    "account",
    "domain",
    "mailbox",
    "keyword",
    "message",
    "change",
    "trash",
    "subscription",
    "annotation",
    "spool",
    "spool_rcpt",
    "placement",
    "merged",
];

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// An empty place to make the new index in; what an interrupted rebuild left there goes.
pub(super) async fn prepare(dir: &Path, target: &Location) -> Result<Location, Error> {
    match target {
        Location::Sqlite(path) => {
            let work = with(path, ".rebuilding");
            for end in ["", "-wal", "-shm"] {
                match std::fs::remove_file(with(&work, end)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::Open { dir: dir.to_owned(), source: e.into() });
                    }
                    _ => {}
                }
            }
            Ok(Location::Sqlite(work))
        }
        Location::Postgres { url, schema } => {
            let work = format!("{schema}_rebuilding");
            let location = Location::Postgres { url: url.clone(), schema: work.clone() };
            let db = Database::open(&location, 1).await?;
            let mut tx = Tx::begin(&Writer::new(&db, &location)?).await?;
            tx.run(format!("DROP SCHEMA IF EXISTS {work} CASCADE"), vec![]).await?;
            tx.commit().await?;
            drop(tx);
            db.close().await;
            Ok(location)
        }
    }
}

/// Puts the new index in the place of the old one; answers where that is now.
pub(super) async fn exchange(
    dir: &Path,
    db: &Database,
    writer: &Writer,
    work: &Location,
    target: &Location,
) -> Result<Option<PathBuf>, Error> {
    match (work, target) {
        (Location::Sqlite(work), Location::Sqlite(path)) => {
            // The last connection to close folds the log into the file.
            writer.close();
            db.close().await;
            let (dir, work, path) = (dir.to_owned(), work.clone(), path.clone());
            super::blocking(move || rename(&work, &path).map_err(|e| Error::Open { dir, source: e.into() })).await?
        }
        (Location::Postgres { schema: work, .. }, Location::Postgres { schema, .. }) => {
            let mut tx = Tx::begin(writer).await?;
            tx.run(format!("CREATE SCHEMA IF NOT EXISTS {schema}"), vec![]).await?;
            for table in TABLES {
                tx.run(format!("DROP TABLE IF EXISTS {schema}.{table}"), vec![]).await?;
                tx.run(format!("ALTER TABLE {work}.{table} SET SCHEMA {schema}"), vec![]).await?;
            }
            // Other parts of the program may have tables there, too.
            let versions = format!("{schema}.schema_version");
            tx.run(format!("CREATE TABLE IF NOT EXISTS {versions} (name TEXT PRIMARY KEY, version BIGINT NOT NULL)"), vec![])
                .await?;
            let sql = format!(
                "INSERT INTO {versions} SELECT name, version FROM {work}.schema_version \
                 ON CONFLICT (name) DO UPDATE SET version = excluded.version"
            );
            tx.run(sql, vec![]).await?;
            tx.run(format!("DROP SCHEMA {work} CASCADE"), vec![]).await?;
            tx.commit().await?;
            drop(tx);
            Ok(None)
        }
        _ => Err(Error::Index("the new index was made on another engine than the old one".to_owned())),
    }
}

fn rename(work: &Path, path: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut old = with(path, &format!(".before-rebuild-{}", now_s()));
    for n in 2.. {
        if !old.exists() {
            break;
        }
        old = with(path, &format!(".before-rebuild-{}-{n}", now_s()));
    }
    let had = path.exists();
    // A log that stays means that the file is not all of it: a full disk, for one.
    if std::fs::metadata(with(work, "-wal")).is_ok_and(|log| log.len() > 0) {
        return Err(std::io::Error::other(format!("the log of {} could not be folded into it", work.display())));
    }
    // The file goes first: were its log gone, and the file here, a start in between would take an old state for the new one.
    for end in ["", "-wal", "-shm"] {
        match std::fs::rename(with(path, end), with(&old, end)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    std::fs::rename(work, path)?;
    if let Some(folder) = path.parent() {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(had.then_some(old))
}
