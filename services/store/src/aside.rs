//! A store that was set aside because it diverged: looked at, never touched.
//!
//! Contract: nothing is written into its folder, not even a lock. What is looked at is a copy of its index in a working folder
//! of the caller's, if the copy is whole and as new as the packs; else an index made from the packs as `rebuild` does, mail of the
//! last moment included. Bodies are read from the packs where they lie. The folder must not change meanwhile.
//!
//! Failure classes: as [`Store::open`]; an index that cannot be used is no error but told ([`AsideIndex`]).

use crate::db::{self, fetch};
use crate::pack::{Found, Kind, PackReader, ScanReport};
use crate::placement;
use crate::placement::outbox::Outbox;
use crate::reads::BytesWeight;
use crate::store::{Inner, last_number, published, weighted};
use crate::{Error, Options, RebuildReport, Store, rebuild};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use twinpost_sql::{Database, Location};

/// Which index of a store that was set aside is looked at.
#[derive(Clone, Debug)]
pub enum AsideIndex {
    /// A copy of its own.
    Own,
    /// One made from the packs: why, and what was found.
    Made {
        /// What is wrong with its own.
        why: String,
        /// What the packs gave.
        report: Box<RebuildReport>,
    },
}

/// A store that was set aside.
#[derive(Debug)]
pub struct Aside {
    store: Store,
    index: AsideIndex,
    copy: PathBuf,
}

impl Aside {
    /// Looks at the store in `dir` by means of the working folder `work`, which is emptied of what an earlier look left there.
    /// `progress` hears how much is read of how much, in bytes, when an index must be made.
    ///
    /// # Errors
    /// [`Error::Open`] when there is no store in the folder or the working folder cannot be used; [`Error::DiskFull`] there;
    /// [`Error::Pack`], [`Error::Database`].
    pub async fn open(dir: &Path, work: &Path, progress: impl FnMut(u64, u64) + Send) -> Result<Self, Error> {
        let fault = |e: std::io::Error| Error::Open { dir: dir.to_owned(), source: Arc::new(e) };
        let options = Options { readers: 2, ..Options::new(dir) };
        let (own, packs) = (dir.join("index.sqlite"), dir.join("packs"));
        if !packs.is_dir() && !own.is_file() {
            return Err(fault(std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "there are neither packs nor an index of a store",
            )));
        }
        let copy = work.join("aside.sqlite");
        let reader = PackReader::at_rest(options.files.clone(), &packs);
        let tried = Self::copied(&own, &copy, &reader).await;
        let (db, index) = match tried {
            Ok(db) => (db, AsideIndex::Own),
            Err(error) if error.is_disk_full() => return Err(error),
            // Without packs there is nothing to make one of.
            Err(error) if !packs.is_dir() => return Err(error.at_open(dir)),
            Err(error) => {
                let why = error.at_open(dir).to_string();
                tracing::warn!(dir = %dir.display(), %why, "the index of a store that was set aside cannot be used; one is made from its packs");
                clear(&copy).map_err(fault)?;
                let location = Location::Sqlite(copy.clone());
                let db = Database::open(&location, 2).await?;
                db.migrate("store", crate::schema::STEPS).await?;
                let writer = db::Writer::new(&db, &location)?;
                let mut progress = progress;
                let report = Box::new(Box::pin(rebuild::make(&db, &writer, &reader, &options, &mut progress)).await?);
                writer.close();
                (db, AsideIndex::Made { why, report })
            }
        };
        let last = last_number(&db).await?;
        let inner = Inner {
            room_for_a_start: false,
            dir: dir.to_owned(),
            writer: db::Writer::new(&db, &Location::Sqlite(copy.clone()))?,
            reader,
            opened: ScanReport::default(),
            published: Arc::new(published(&options, last)),
            outbox: Arc::new(Outbox::load(&db, (0, 0)).await?),
            bodies: weighted(options.body_cache_bytes, 10_000, BytesWeight),
            damaged: Arc::new(Mutex::default()),
            claiming: tokio::sync::Mutex::new(()),
            // Nobody listens: every change is answered that the store is closed.
            intake: mpsc::channel(1).0,
            work: mpsc::channel(1).0,
            db,
        };
        Ok(Self { store: Store { inner: Arc::new(inner) }, index, copy })
    }

    /// For reading: every change is refused with [`Error::Closed`].
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Which index is looked at.
    #[must_use]
    pub fn index(&self) -> &AsideIndex {
        &self.index
    }

    /// Lets go of the working folder and takes away what is in it.
    ///
    /// # Errors
    /// [`Error::Open`] when it cannot be taken away.
    pub async fn close(self) -> Result<(), Error> {
        self.store.inner.writer.close();
        self.store.inner.db.close().await;
        clear(&self.copy).map_err(|e| Error::Open { dir: self.copy.clone(), source: Arc::new(e) })
    }

    /// A copy of the index, if all of it can be believed.
    async fn copied(own: &Path, copy: &Path, reader: &PackReader) -> Result<Database, Error> {
        let (from, to) = (own.to_owned(), copy.to_owned());
        let copied = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            clear(&to)?;
            std::fs::copy(&from, &to)?;
            match std::fs::copy(with(&from, "-wal"), with(&to, "-wal")) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        });
        copied.await.map_err(|_| Error::Closed)?.map_err(|e| match e.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::DiskFull { what: "copy an index" },
            _ => Error::Open { dir: own.to_owned(), source: Arc::new(e) },
        })?;
        let db = Database::open(&Location::Sqlite(copy.to_owned()), 2).await?;
        let usable = Self::usable(&db, reader).await;
        if usable.is_err() {
            db.close().await;
        }
        usable.map(|()| db)
    }

    async fn usable(db: &Database, reader: &PackReader) -> Result<(), Error> {
        for row in fetch(db, "PRAGMA integrity_check(1)", vec![]).await? {
            let said = row.text(0)?;
            if said != "ok" {
                return Err(Error::Index(said));
            }
        }
        db.migrate("store", crate::schema::STEPS).await?;
        if fetch(db, "SELECT value FROM meta WHERE key = 'uuid'", vec![]).await?.is_empty() {
            return Err(Error::Index("it is empty".to_owned()));
        }
        // A transaction is in the index before it is in the packs. If they know more, the index lost its log file.
        let rows = fetch(db, "SELECT COALESCE(MAX(seq), 0) FROM placement", vec![]).await?;
        let known = rows.first().map_or(Ok(0), |r| r.uint(0))?;
        let reader = reader.clone();
        let told = tokio::task::spawn_blocking(move || last_told(&reader)).await.map_err(|_| Error::Closed)?;
        if told > known {
            return Err(Error::Index(format!("it ends with transaction {known}, the packs go on to {told}")));
        }
        Ok(())
    }
}

/// The last transaction that the packs tell of, as far as they can be read. Blocks.
fn last_told(reader: &PackReader) -> u64 {
    for pack in reader.packs().unwrap_or_default().iter().rev() {
        let Ok(scan) = reader.scan(pack.pack) else { continue };
        let told = scan.filter_map(|found| match found {
            Found::Record { location, header } if header.kind == Kind::Placement => {
                let record = placement::decode(&reader.read(location).ok()?).ok()?;
                record.part.is_none().then(|| record.logs.iter().map(|log| log.seq).max()).flatten()
            }
            _ => None,
        });
        if let Some(last) = told.max().filter(|n| *n > 0) {
            return last;
        }
    }
    0
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn clear(path: &Path) -> std::io::Result<()> {
    for end in ["", "-wal", "-shm"] {
        match std::fs::remove_file(with(path, end)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}
