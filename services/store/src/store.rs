//! The store as callers see it: opened once, cloned freely, closed at the end.
//!
//! Contract: a change that was answered is on the disk. Changes go to the one writer; reads do not wait for it. A second
//! process on the same folder is refused by a lock that dies with its owner.

use crate::Error;
use crate::db;
use crate::files::{Files, RealFiles};
use crate::live::Live;
use crate::pack::record;
use crate::pack::{PackOptions, PackReader, PackSet, ScanReport};
use crate::placement::arrival;
use crate::placement::outbox::Outbox;
use crate::reads::{BytesWeight, ParsedWeight, parsed_blob};
use crate::spool::{SpoolAction, SpoolUpdate};
use crate::types::{
    Annotation, Append, Appended, Delivered, Delivery, Expunged, FlagsSet, Notice, Prepared, PreparedBody, SetFlags, SpecialUse,
    Transfer, Transferred,
};
use crate::writer::state::{Recent, State};
use crate::writer::{Alone, Answer, Committer, Intake, Op, Packer, Published, Work};
use bytes::Bytes;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, BodyHash, DomainId, MailboxId, ModSeq, Parsed, QueueId, Uid};
use twinpost_sql::{Database, Location};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder: the lock, the packs in `packs/`, and SQLite's file unless `index` says otherwise.
    pub dir: PathBuf,
    /// Where the index is; none is `index.sqlite` in the folder.
    pub index: Option<Location>,
    /// The file layer under the packs.
    pub files: Arc<dyn Files>,
    /// Bytes of a pack before the next one is begun.
    pub pack_bytes: u64,
    /// How long expunged mail can be brought back, in seconds; 0: not at all. Default 14 days.
    pub undelete_s: i64,
    /// Slept behind each commit of the index before anything is answered. Zero, but for benchmarks: with
    /// [`crate::files::SlowFiles`] under the packs it shows the store on a disk that needs milliseconds for a sync.
    pub commit_delay: Duration,
    /// Reading connections of the index.
    pub readers: u32,
    /// Bytes of bodies kept in memory. Default 64 MiB.
    pub body_cache_bytes: u64,
    /// Bytes of parsed messages kept in memory, about. Default 64 MiB.
    pub parsed_cache_bytes: u64,
    /// Holds some megabytes of the disk while it is open, and uses them to open when nothing else is free. Default: no.
    pub room_for_a_start: bool,
}

impl Options {
    /// A store in this folder with SQLite and the defaults.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            index: None,
            files: Arc::new(RealFiles),
            pack_bytes: PackOptions::default().max_bytes,
            undelete_s: 14 * 86_400,
            commit_delay: Duration::ZERO,
            readers: 4,
            body_cache_bytes: 64 << 20,
            parsed_cache_bytes: 64 << 20,
            room_for_a_start: false,
        }
    }
}

/// An open store. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub dir: PathBuf,
    pub room_for_a_start: bool,
    pub db: Database,
    /// The way in for changes; its connection waits here between batches.
    pub writer: db::Writer,
    pub reader: PackReader,
    pub opened: ScanReport,
    pub published: Arc<Published>,
    pub outbox: Arc<Outbox>,
    pub bodies: quick_cache::sync::Cache<twinpost_message::BodyId, Bytes, BytesWeight>,
    pub damaged: Arc<Mutex<HashSet<BodyHash>>>,
    /// Two claims at once would look at the same rows.
    pub claiming: tokio::sync::Mutex<()>,
    pub intake: mpsc::Sender<Intake>,
    pub work: mpsc::Sender<Work>,
}

/// The lock file. The system lets go of it when its owner ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its drop")] Flock<File>);

impl Lock {
    pub fn take(dir: &Path) -> Result<Self, Error> {
        let fault = |e: std::io::Error| Error::Open { dir: dir.to_owned(), source: Arc::new(e) };
        // Durably: mail can be acknowledged a moment after the first start.
        RealFiles.create_dir(dir).map_err(fault)?;
        let file = File::options().read(true).write(true).create(true).truncate(false).open(dir.join("lock")).map_err(fault)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Over what is there, and cut behind it: a full disk has no room for a block that was let go of first.
                let written = lock.rewind().and_then(|()| write!(lock, "{}", std::process::id()));
                match written.and_then(|()| lock.stream_position()).and_then(|end| lock.set_len(end)) {
                    // Who owns it is for people; the lock itself needs no room.
                    Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                        tracing::warn!(dir = %dir.display(), "the disk is full: mail can be read, new mail is put off");
                    }
                    written => written.map_err(fault)?,
                }
                Ok(Self(lock))
            }
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                // What cannot be read is an owner that did not say who it is.
                let _ = file.read_to_string(&mut pid);
                Err(Error::Locked { dir: dir.to_owned(), pid: pid.trim().parse().unwrap_or(0) })
            }
            Err((_, errno)) => Err(fault(errno.into())),
        }
    }
}

/// Operations that wait for the writer; more wait at their callers.
const WAITING_MAX: usize = 1024;

impl Store {
    /// Opens a store; makes it when the folder is empty.
    ///
    /// # Errors
    /// [`Error::Locked`] names the process that has it open; [`Error::IndexLost`] and [`Error::IndexDamaged`] say what to do;
    /// [`Error::Open`], [`Error::Database`], [`Error::Pack`].
    pub async fn open(options: Options) -> Result<Self, Error> {
        let dir = options.dir.clone();
        Box::pin(Self::begin(options)).await.map_err(|e| e.at_open(&dir))
    }

    async fn begin(options: Options) -> Result<Self, Error> {
        let lock = Arc::new(Lock::take(&options.dir)?);
        if options.room_for_a_start {
            let dir = options.dir.clone();
            let _ = tokio::task::spawn_blocking(move || crate::ballast::at_open(&dir)).await;
        }
        let index = options.index.clone().unwrap_or_else(|| Location::Sqlite(options.dir.join("index.sqlite")));
        let db = Database::open(&index, options.readers).await?;
        db.migrate("store", crate::schema::STEPS).await?;
        let known_end =
            db::fetch(&db, "SELECT pack, place + stored_bytes FROM body ORDER BY pack DESC, place DESC LIMIT 1", vec![]).await?;
        let known_end = known_end.first().map_or(Ok((0, 0)), |r| Ok::<_, Error>((r.u32(0)?, r.uint(1)?)))?;
        let writer = db::Writer::new(&db, &index)?;
        let fresh = first_time(&db).await?;
        // Without an index nothing says which records matter: all of them.
        let known_end = (!fresh).then_some(known_end);
        let pack_options = PackOptions { max_bytes: options.pack_bytes, known_end, ..PackOptions::default() };
        let (files, dir) = (options.files.clone(), options.dir.join("packs"));
        let opened = tokio::task::spawn_blocking(move || PackSet::open(files, &dir, pack_options)).await;
        let (mut packs, opened) = opened.map_err(|_| Error::Closed)?.map_err(|e| Error::pack("open the packs", e))?;
        for (pack, from, bytes) in &opened.damage {
            tracing::error!(pack, from, bytes, "a pack is damaged: run `twinpost ctl store verify`");
        }
        if opened.cut_bytes > 0 {
            tracing::info!(bytes = opened.cut_bytes, "cut a torn tail that no message points to");
        }
        if fresh && opened.packs > 0 {
            return Err(Error::IndexLost { dir: options.dir.clone(), packs: opened.packs });
        }
        name(&writer, &options.dir).await?;
        let last = last_number(&db).await?;
        let uid_validity = db::fetch(&db, "SELECT value FROM meta WHERE key = 'uid_validity'", vec![]).await?;
        let uid_validity = uid_validity.first().map_or(Ok(0), |r| r.text(0).map(|t| t.parse().unwrap_or(0)))?;
        let published = Arc::new(published(&options, last));
        let last_pack = packs.packs().map_err(|e| Error::pack("list the packs", e))?.last().map_or(0, |p| p.pack);
        let outbox = Arc::new(Outbox::load(&db, packs.synced_end().unwrap_or((last_pack, i64::MAX.cast_unsigned()))).await?);
        if outbox.has_ended() {
            // Before the first change: a later loss of the index must not take the old end for the end.
            let mark = tokio::task::spawn_blocking(move || {
                let written = packs.append(&[&arrival::opened()]).and_then(|_| packs.sync());
                (packs, written)
            });
            let written;
            (packs, written) = mark.await.map_err(|_| Error::Closed)?;
            match written {
                Ok(()) => outbox.reopened(),
                // A full disk: mail can be read. The first change writes more than this, or nothing.
                Err(error) => tracing::warn!(%error, "the packs could not be marked as open"),
            }
        }
        let damaged = Arc::new(Mutex::new(HashSet::new()));
        let (intake, intake_rx) = mpsc::channel(WAITING_MAX);
        let (work, work_rx) = mpsc::channel(WAITING_MAX);
        let reader = packs.reader();
        let packer = Packer {
            _lock: lock.clone(),
            db: db.clone(),
            writer: writer.clone(),
            reader: db::Reader::new(&db, &index),
            packs,
            intake: intake_rx,
            outbox: outbox.clone(),
            work: work.clone(),
            turns: Arc::new(Semaphore::new(1)),
            known: Recent::new(100_000),
            damaged: damaged.clone(),
        };
        let committer = Committer {
            _lock: lock,
            db: db.clone(),
            writer: writer.clone(),
            commit_delay: options.commit_delay,
            work: work_rx,
            published: published.clone(),
            outbox: outbox.clone(),
            state: State::new(),
            last,
            uid_validity,
            undelete_s: options.undelete_s,
        };
        thread("store-packs", &options.dir, move |runtime| runtime.block_on(packer.run()))?;
        thread("store-index", &options.dir, move |runtime| runtime.block_on(committer.run()))?;
        if !db.is_postgres() {
            tokio::spawn(checkpoint(db.clone(), published.head.subscribe()));
        }
        let bodies = weighted(options.body_cache_bytes, 10_000, BytesWeight);
        let claiming = tokio::sync::Mutex::new(());
        let room_for_a_start = options.room_for_a_start;
        let inner = Inner {
            dir: options.dir,
            room_for_a_start,
            db,
            writer,
            reader,
            opened,
            published,
            outbox,
            bodies,
            damaged,
            claiming,
            intake,
            work,
        };
        let store = Self { inner: Arc::new(inner) };
        // Mail of a program that wrote no placement records.
        if store.inner.outbox.committed() == 0 && known_end.is_some_and(|end| end != (0, 0)) {
            store.snapshot_index().await?;
        }
        store.keep_room().await;
        Ok(store)
    }

    /// Ends the writer behind everything that was sent before, and closes the files. Later operations get [`Error::Closed`].
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        if self.inner.intake.send(Intake::Close(done)).await.is_ok() {
            // An error says that it had ended already.
            let _ = ended.await;
        }
        self.inner.intake.closed().await;
        self.inner.work.closed().await;
        self.inner.writer.close();
        self.inner.db.close().await;
    }

    /// What opening found at the end of the packs.
    #[must_use]
    pub fn opened(&self) -> &ScanReport {
        &self.inner.opened
    }

    /// The folder of the store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Hash, compression and parsing of a message: work for the caller's task, before it asks the writer for anything.
    #[must_use]
    pub fn prepare(bytes: &Bytes) -> Prepared {
        let parsed = Parsed::parse(bytes);
        let record = record::encode_bytes(bytes);
        Prepared {
            inner: Arc::new(PreparedBody {
                hash: record.id(),
                record,
                size_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                thread: parsed.thread,
                parsed_blob: parsed_blob(&parsed),
                parsed: Arc::new(parsed),
            }),
        }
    }

    pub(crate) async fn ask<T>(&self, make: impl FnOnce(Answer<T>) -> Op) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let op = make(answer);
        let sent = if op.has_body() {
            self.inner.intake.send(Intake::Op(op)).await.is_ok()
        } else {
            self.inner.work.send(Work::Op(op)).await.is_ok()
        };
        if !sent {
            return Err(Error::Closed);
        }
        answered.await.map_err(|_| Error::Closed)?
    }

    /// As `ask`, behind everything that stage 1 has been given before.
    pub(crate) async fn ask_behind<T>(&self, make: impl FnOnce(Answer<T>) -> Op) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.inner.intake.send(Intake::Op(make(answer))).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    pub(crate) async fn ask_packs<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Intake) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.inner.intake.send(make(answer)).await.map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)
    }

    /// One message into any number of mailboxes and the queue, in one commit. Accounts that the store does not know yet
    /// get their INBOX with it.
    ///
    /// # Errors
    /// A full disk ([`Error::is_disk_full`]) or another fault of the store: then nothing was stored. Quotas are told in
    /// the answer, target by target.
    pub async fn deliver(&self, delivery: Delivery) -> Result<Delivered, Error> {
        self.ask(|a| Op::Deliver(Box::new(delivery), a)).await
    }

    /// APPEND, MULTIAPPEND and REPLACE: all or nothing.
    ///
    /// # Errors
    /// [`Error::NoMailbox`], [`Error::OverQuota`], [`Error::NoMessage`] (the one to replace is gone); faults of the store.
    pub async fn append(&self, append: Append) -> Result<Appended, Error> {
        self.ask(|a| Op::Append(Box::new(append), a)).await
    }

    /// Changes flags.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; [`Error::TooMany`] keywords; faults of the store.
    pub async fn set_flags(&self, set: SetFlags) -> Result<FlagsSet, Error> {
        self.ask(|a| Op::SetFlags(set, a)).await
    }

    /// Removes these messages; with `only_deleted` those of them that have `\Deleted` at that moment.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; faults of the store.
    pub async fn expunge(&self, mailbox: MailboxId, uids: Vec<Uid>, only_deleted: bool) -> Result<Expunged, Error> {
        self.ask(|answer| Op::Expunge { mailbox, uids, only_deleted, answer }).await
    }

    /// COPY or MOVE.
    ///
    /// # Errors
    /// [`Error::NoMailbox`], [`Error::OverQuota`]; faults of the store.
    pub async fn transfer(&self, transfer: Transfer) -> Result<Transferred, Error> {
        self.ask(|a| Op::Transfer(transfer, a)).await
    }

    /// Makes what a new account finds: INBOX, and Drafts, Sent, Junk, Trash, Archive with their special use, subscribed.
    /// Once only: what the account deletes stays deleted. Cheap when done.
    ///
    /// # Errors
    /// Faults of the store.
    pub async fn open_account(&self, account: AccountId, domain: DomainId) -> Result<(), Error> {
        let sql = "SELECT domain, furnished FROM account WHERE id = $1";
        if let Some(row) = db::fetch(&self.inner.db, sql, vec![account.0.into()]).await?.first()
            && row.int(0)? == domain.0
            && row.bool(1)?
        {
            return Ok(());
        }
        self.ask(|answer| Op::Furnish { account, domain, answer }).await
    }

    /// Makes a mailbox, and those above it that are missing.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Exists`], [`Error::TooMany`]; faults of the store.
    pub async fn create(&self, account: AccountId, name: &str, special_use: Option<SpecialUse>) -> Result<MailboxId, Error> {
        let name = name.to_owned();
        self.ask(|answer| Op::Create { account, name, special_use, answer }).await
    }

    /// Renames a mailbox with its children. INBOX gives its messages to the new name and stays (RFC 9051 6.3.6).
    ///
    /// # Errors
    /// [`Error::NoMailbox`], [`Error::Name`], [`Error::Exists`]; faults of the store.
    pub async fn rename(&self, mailbox: MailboxId, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|answer| Op::Alone(Alone::Rename { mailbox, name, answer })).await
    }

    /// Deletes a mailbox; its messages can be brought back, its children stay.
    ///
    /// # Errors
    /// [`Error::NoMailbox`], [`Error::Inbox`]; faults of the store.
    pub async fn delete(&self, mailbox: MailboxId) -> Result<(), Error> {
        self.ask(|answer| Op::Alone(Alone::Delete { mailbox, answer })).await
    }

    /// Subscribes an account to a name, or ends it.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::TooMany`]; faults of the store.
    pub async fn subscribe(&self, account: AccountId, name: &str, subscribed: bool) -> Result<(), Error> {
        let name = name.to_owned();
        self.ask(|answer| Op::Subscribe { account, name, subscribed, answer }).await
    }

    /// Sets the special use of a mailbox.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; faults of the store.
    pub async fn set_special_use(&self, mailbox: MailboxId, special_use: Option<SpecialUse>) -> Result<(), Error> {
        self.ask(|answer| Op::SpecialUse { mailbox, special_use, answer }).await
    }

    /// Sets and removes annotations, all or none.
    ///
    /// # Errors
    /// [`Error::NoMailbox`], [`Error::TooMany`]; faults of the store.
    pub async fn annotate(&self, account: AccountId, annotations: Vec<Annotation>) -> Result<(), Error> {
        self.ask(|answer| Op::Annotate { account, annotations, answer }).await
    }

    /// Watches a mailbox: the current snapshot, and each later one. Loads it when nobody has.
    ///
    /// # Errors
    /// [`Error::NoMailbox`]; faults of the store.
    pub async fn watch(&self, mailbox: MailboxId) -> Result<watch::Receiver<Arc<Snapshot>>, Error> {
        for _ in 0..8 {
            if let Some(watch) = self.inner.published.live.watch(mailbox) {
                return Ok(watch);
            }
            // The long read happens here; the writer only adds what came meanwhile.
            let loaded = crate::writer::load(&self.inner.db, mailbox).await?;
            self.ask(|a| Op::Attach(mailbox, Some(loaded), a)).await?;
        }
        Err(Error::Closed)
    }

    /// The current snapshot of a mailbox.
    ///
    /// # Errors
    /// As [`Store::watch`].
    pub async fn snapshot(&self, mailbox: MailboxId) -> Result<Arc<Snapshot>, Error> {
        if let Some(snapshot) = self.inner.published.live.current(mailbox) {
            return Ok(snapshot);
        }
        Ok(self.watch(mailbox).await?.borrow().clone())
    }

    /// Hears of every change in an account. One that is too slow gets `Lagged` and looks itself.
    #[must_use]
    pub fn listen(&self, account: AccountId) -> broadcast::Receiver<Notice> {
        self.inner.published.live.listen(account)
    }

    /// The last position of the change log, and each later one.
    #[must_use]
    pub fn head(&self) -> watch::Receiver<ModSeq> {
        self.inner.published.head.subscribe()
    }

    /// Changes when the queue got an entry, or an entry changed.
    #[must_use]
    pub fn spool_changes(&self) -> watch::Receiver<u64> {
        self.inner.published.spooled.subscribe()
    }

    /// The outcome of a try. Gives the claim back.
    ///
    /// # Errors
    /// [`Error::NoQueueEntry`] when it was dropped meanwhile: then nothing was delivered either; faults of the store: the
    /// entry stays claimed, so that nothing is sent twice; repeat the update.
    pub async fn spool_update(&self, update: SpoolUpdate) -> Result<Vec<Delivered>, Error> {
        let id = update.id;
        let outcome = self.ask(|a| Op::SpoolUpdate(Box::new(update), a)).await;
        if matches!(outcome, Err(Error::NoQueueEntry(_))) {
            self.spool_unclaim(id);
        }
        outcome
    }

    /// Delivers a message of the queue to a recipient of this site, once however often it is asked for, whatever stops in between:
    /// the copies and the note of them are one commit. The claim stays; [`Store::spool_update`] must follow. None: it was
    /// delivered before.
    ///
    /// # Errors
    /// [`Error::NoQueueEntry`] when it was dropped, or the recipient waits no more; faults of the store.
    pub async fn spool_deliver(&self, id: QueueId, n: u32, delivery: Delivery) -> Result<Option<Delivered>, Error> {
        let delivery = Box::new(delivery);
        self.ask(|answer| Op::SpoolDeliver { id, n, delivery, answer }).await
    }

    /// What an operator does with an entry.
    ///
    /// # Errors
    /// [`Error::NoQueueEntry`]; faults of the store.
    pub async fn spool_action(&self, id: QueueId, action: SpoolAction) -> Result<(), Error> {
        self.ask(|a| Op::SpoolAction(id, action, a)).await
    }

    /// Brings expunged messages back into the mailbox that they were in; it is made again when it is gone.
    ///
    /// # Errors
    /// Faults of the store. Messages that are no longer there are passed over.
    pub async fn restore(&self, account: AccountId, ids: Vec<i64>) -> Result<Vec<(MailboxId, Uid)>, Error> {
        self.ask(|answer| Op::Alone(Alone::Restore { account, ids, answer })).await
    }

    /// Forgets expunged mail that was deleted before this time; answers how many messages.
    ///
    /// # Errors
    /// Faults of the store.
    pub async fn purge(&self, before_s: i64) -> Result<u64, Error> {
        let mut all = 0;
        loop {
            match self.ask(|answer| Op::Alone(Alone::Purge { before_s, answer })).await? {
                0 => return Ok(all),
                n => all += n,
            }
        }
    }

    /// Removes everything of an account, at once and for good.
    ///
    /// # Errors
    /// Faults of the store.
    pub async fn delete_account(&self, account: AccountId) -> Result<(), Error> {
        self.ask(|answer| Op::Alone(Alone::DeleteAccount { account, answer })).await
    }
}

/// Each stage of the writer has a thread of its own, which waits for the disk itself: a batch costs one waking of each,
/// and no task of the runtime stands behind a sync.
fn thread(name: &str, dir: &Path, work: impl FnOnce(&tokio::runtime::Handle) + Send + 'static) -> Result<(), Error> {
    let runtime = tokio::runtime::Handle::current();
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&runtime));
    started.map(drop).map_err(|e| Error::Open { dir: dir.to_owned(), source: Arc::new(e) })
}

pub(crate) fn published(options: &Options, last: u64) -> Published {
    Published {
        live: Live::default(),
        head: watch::Sender::new(ModSeq(last)),
        spooled: watch::Sender::new(0),
        usage_epoch: 0.into(),
        accounts: quick_cache::sync::Cache::new(100_000),
        domains: quick_cache::sync::Cache::new(20_000),
        places: quick_cache::sync::Cache::new(100_000),
        owners: quick_cache::sync::Cache::new(100_000),
        parsed: weighted(options.parsed_cache_bytes, 1500, ParsedWeight),
        claims: Mutex::default(),
    }
}

pub(crate) fn weighted<V: Clone, W: quick_cache::Weighter<twinpost_message::BodyId, V> + Clone>(
    bytes: u64,
    typical_bytes: usize,
    weighter: W,
) -> quick_cache::sync::Cache<twinpost_message::BodyId, V, W> {
    let items = usize::try_from(bytes).unwrap_or(usize::MAX) / typical_bytes;
    quick_cache::sync::Cache::with_weighter(items.max(16), bytes, weighter)
}

/// The index is new: it gets the store's name now. False in every later start.
async fn first_time(db: &Database) -> Result<bool, Error> {
    if !db::fetch(db, "SELECT value FROM meta WHERE key = 'uuid'", vec![]).await?.is_empty() {
        return Ok(false);
    }
    Ok(db::fetch(db, "SELECT 1 FROM change LIMIT 1", vec![]).await?.is_empty())
}

/// Names the index, so that it is no longer new.
pub(crate) async fn name(writer: &db::Writer, seed: &Path) -> Result<(), Error> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let text = format!("{} {} {now}", seed.display(), std::process::id());
    let uuid = BodyHash::of(text.as_bytes()).to_string();
    let mut tx = db::Tx::begin(writer).await?;
    let sql = "INSERT INTO meta (key, value) VALUES ('uuid', $1) ON CONFLICT (key) DO NOTHING";
    tx.run(sql, vec![uuid[..32].to_owned().into()]).await?;
    tx.commit().await
}

/// The highest number that was ever given.
pub(crate) async fn last_number(db: &Database) -> Result<u64, Error> {
    let sql = "SELECT COALESCE(MAX(n), 0) FROM (SELECT MAX(modseq) AS n FROM change UNION ALL SELECT MAX(id) FROM body \
               UNION ALL SELECT MAX(id) FROM mailbox UNION ALL SELECT MAX(id) FROM trash UNION ALL SELECT MAX(id) FROM spool) AS numbers";
    db::fetch(db, sql, vec![]).await?.first().map_or(Ok(0), |r| r.uint(0))
}

/// Folds SQLite's log into its file while others work, so that the writer seldom has to.
async fn checkpoint(db: Database, mut head: watch::Receiver<ModSeq>) {
    while head.changed().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(250)).await;
        head.mark_unchanged();
        match db::fetch(&db, "PRAGMA wal_checkpoint(PASSIVE)", vec![]).await {
            Ok(_) => {}
            Err(Error::Closed) => return,
            Err(error) => tracing::warn!(%error, "the log of the index could not be folded into its file"),
        }
    }
}
