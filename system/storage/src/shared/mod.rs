//! A folder that both nodes reach, guarded by a lock file: the pair on one machine.
//!
//! Contract: who holds the lock has the volume. The kernel gives the lock back the moment the last process that inherited it is gone
//! ([`Storage::lock_fd`]), so a killed node frees it at once and a stopped one keeps it: the lock *excludes* and never
//! preempts, and asking for it can harm nobody. The reign is written into the lock file, durably, before a promote answers,
//! and never goes down. The "mount" is a symbolic link. There is one copy of the data, so the peer has every byte by construction.
//!
//! The lock can come unasked: a thread waits in the kernel for the end of the other holder and tells
//! [`Event::Reservation`]`(true)` within microseconds. It must then be kept, because it is the proof that the other does not write; but
//! a core that cannot use it (not eligible, maintenance) must not keep it from the other node. So it is given back
//! after [`Settings::offer_ms`] unless a promote takes it, and the thread does not wait again before somebody has *held* the
//! volume: two idle nodes do not hand the lock to and fro. A lock that its holder gave back in order is not offered either: that is a
//! planned switch, and the core that is to have it asks by itself. `Reservation(false)` is told only to an active node, when the lock
//! file was removed or replaced under it.
//!
//! Failure classes: the other has the lock (passes), a reign that is not above the file's (the core asks with a higher one), a folder
//! that cannot guard anything (a person), I/O.

mod folder;
mod watch;

pub(crate) use folder::{make_folder, sync_folder};

use crate::lock::{self, Description, Record, Use};
use crate::{EVENTS_MAX, Error, Event, Role, Storage, StorageStatus};
use futures_util::future::BoxFuture;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use twinpost_heartbeat::{Replication, Writes};

/// Where the folder is and how patient the driver is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Name of this node: letters, digits, `.`, `_`, `-`; up to 64.
    pub node: String,
    /// The shared folder, made by [`prepare`]: `lock` and `data` are in it.
    pub root: PathBuf,
    /// Where the volume is to appear on this node (`<node>/data`).
    pub mount: PathBuf,
    /// A lock that came unasked is given back after this.
    pub offer_ms: u32,
    /// A lock that was asked for as a proof is given back after this: the core stores its reign meanwhile.
    pub reserve_ms: u32,
    /// How long a promote waits for a lock that is on its way: processes that were just killed, an offer to the other node.
    pub patience_ms: u32,
    /// How long a demote waits for the last process that inherited the lock.
    pub release_ms: u32,
    /// How often the lock file is looked at.
    pub watch_ms: u32,
}

impl Settings {
    /// With the defaults: 3 s, 5 s, 2 s, 3 s, 200 ms.
    pub fn new(node: impl Into<String>, root: impl Into<PathBuf>, mount: impl Into<PathBuf>) -> Self {
        Self {
            node: node.into(),
            root: root.into(),
            mount: mount.into(),
            offer_ms: 3000,
            reserve_ms: 5000,
            patience_ms: 2000,
            release_ms: 3000,
            watch_ms: 200,
        }
    }

    fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }
}

/// Makes the shared folder: the lock file and room for the data. Once, by whoever makes the pair; leaves what is there alone. No driver
/// does this by itself: an empty folder where the volume should be mounted looks the same, and a lock in it guards nothing.
pub fn prepare(root: &Path) -> Result<(), Error> {
    folder::make_folder(root)?;
    lock::local_only(root)?;
    let path = root.join("lock");
    lock::create(&path)?;
    let probe = Description::open(&path)?;
    if probe.lock(false)? {
        probe.excludes()?;
    }
    let data = root.join("data");
    // Once there was a reign, a missing data folder is a loss and not a beginning.
    if lock::read(&path)?.reign == 0 && std::fs::symlink_metadata(&data).is_err() {
        folder::make_folder(&data)?;
    }
    folder::sync_folder(root)
}

/// What this node has of the lock.
#[derive(Debug)]
enum Holding {
    Nothing,
    /// The lock, without the volume, until then.
    Offered {
        lock: Description,
        until: Instant,
    },
    Active {
        fd: Arc<OwnedFd>,
        reign: u32,
    },
    /// Let go by the driver; a process that inherited it may still hold it.
    Releasing,
}

#[derive(Debug)]
struct State {
    holding: Holding,
    /// As last read.
    record: Record,
    /// Of the last operation.
    trouble: String,
    /// Of the last look at the lock file.
    watch_trouble: String,
    free_bytes: Option<u64>,
    /// A thread waits in the kernel.
    waiting: bool,
    /// The lock file was replaced under an active node.
    lost: bool,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    state: Mutex<State>,
    changed: Condvar,
    /// One operation after the other.
    operation: Mutex<()>,
    closed: AtomicBool,
    /// A demote is giving the lock to the other: this node's own waiting thread lets it pass.
    yielding: AtomicBool,
    events: mpsc::Sender<Event>,
}

/// The driver.
#[derive(Debug)]
pub struct Shared {
    inner: Arc<Inner>,
    receiver: Mutex<Option<mpsc::Receiver<Event>>>,
}

impl Shared {
    /// Starts the driver. A folder that is missing or unfit is not an error here: it may come, and each call says what is wrong.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        if !lock::is_name(&settings.node) {
            let why = format!("node name {:?} must be of letters, digits, '.', '_' and '-'", settings.node);
            return Err(Error::Unfit { path: settings.mount, why });
        }
        // A link that a killed node left behind: nothing of this node may write there now.
        if let Err(error) = folder::unlink(&settings.data(), &settings.mount) {
            tracing::warn!(%error, "the link of an earlier run stays");
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let record = lock::read(&settings.lock()).unwrap_or_default();
        let state = State {
            holding: Holding::Nothing,
            record,
            trouble: String::new(),
            watch_trouble: String::new(),
            free_bytes: None,
            waiting: false,
            lost: false,
        };
        let inner = Arc::new(Inner {
            settings,
            state: Mutex::new(state),
            changed: Condvar::new(),
            operation: Mutex::new(()),
            closed: AtomicBool::new(false),
            yielding: AtomicBool::new(false),
            events,
        });
        watch::start(Arc::clone(&inner))?;
        Ok(Self { inner, receiver: Mutex::new(Some(receiver)) })
    }

    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Error>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let task = move || {
                let _one = inner.operation.lock().unwrap_or_else(PoisonError::into_inner);
                let done = work(&inner);
                let mut state = inner.state();
                state.trouble = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
                drop(state);
                done
            };
            tokio::task::spawn_blocking(task).await.map_err(|_| Error::Stopped)?
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        self.inner.changed.notify_all();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: Event) {
        // The reader is gone only when the daemon ends.
        let _ = self.events.blocking_send(event);
    }

    fn held(&self) -> Error {
        let path = self.settings.lock();
        let record = lock::read(&path).unwrap_or_default();
        let mut by = lock::holders(&path);
        if by.is_empty() {
            by = format!("process {}", record.pid);
        }
        if record.usage != Use::Free {
            by = format!("node {}, {by}", record.user);
        }
        Error::Held { what: path, by }
    }

    /// The lock on a description of its own; waits up to `patience` for one that is on its way. `None`: another has it.
    fn take(&self, patience: Duration) -> Result<Option<Description>, Error> {
        let path = self.settings.lock();
        let end = Instant::now() + patience;
        lock::local_only(&self.settings.root)?;
        loop {
            let mut state = self.state();
            match std::mem::replace(&mut state.holding, Holding::Nothing) {
                Holding::Offered { lock, .. } => {
                    if lock.in_place()? {
                        return Ok(Some(lock));
                    }
                }
                other => state.holding = other,
            }
            let lock = Description::open(&path)?;
            if lock.lock(false)? {
                return Ok(Some(lock));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            // Woken at once by the waiting thread; a look every few ms finds what nobody waits for.
            let _ = self.changed.wait_timeout(state, left.min(Duration::from_millis(5)));
        }
    }

    /// A reign is good if it is above the file's, or the same one of the same node.
    fn check_reign(&self, record: &Record, asked: u32) -> Result<(), Error> {
        let same_node = record.by == self.settings.node || record.by.is_empty();
        if asked > record.reign || (asked == record.reign && same_node) {
            return Ok(());
        }
        Err(Error::Stale { asked, known: record.reign, by: record.by.clone() })
    }

    fn promote(&self, reign: u32) -> Result<(), Error> {
        let settings = &self.settings;
        self.yielding.store(false, Ordering::SeqCst);
        let active = match &self.state().holding {
            Holding::Active { fd, reign: known } if *known == reign => {
                return Description::of(fd, &settings.lock()).and_then(|lock| self.still(&lock));
            }
            Holding::Active { fd, .. } => Some(Description::of(fd, &settings.lock())?),
            _ => None,
        };
        let again = active.is_some();
        let lock = match active {
            Some(lock) => {
                self.still(&lock)?;
                lock
            }
            None => self.take(Duration::from_millis(settings.patience_ms.into()))?.ok_or_else(|| self.held())?,
        };
        let record = match self.mount(&lock, reign) {
            Ok(record) => record,
            Err(error) => {
                if !again {
                    self.give_back(lock);
                }
                return Err(error);
            }
        };
        let mut state = self.state();
        if let Holding::Active { reign: known, .. } = &mut state.holding {
            *known = reign;
        } else {
            state.holding = Holding::Active { fd: Arc::new(lock.into_fd()), reign };
        }
        // The thread that looks at the file may have seen the new reign first, and told of it.
        let news = record.reign > state.record.reign;
        (state.record, state.lost) = (record, false);
        state.watch_trouble.clear();
        drop(state);
        self.changed.notify_all();
        tracing::info!(reign, path = %settings.mount.display(), "this node has the mail volume");
        if news {
            self.tell(Event::Position(reign.into()));
        }
        Ok(())
    }

    /// Promoted already: the lock file and the link are still there.
    fn still(&self, lock: &Description) -> Result<(), Error> {
        if !lock.in_place()? {
            return Err(Error::Unfit { path: self.settings.lock(), why: "was replaced while this node held it".into() });
        }
        folder::link(&self.settings.data(), &self.settings.mount)
    }

    fn mount(&self, lock: &Description, reign: u32) -> Result<Record, Error> {
        let settings = &self.settings;
        lock.excludes()?;
        let record = lock.record()?;
        self.check_reign(&record, reign)?;
        folder::adopt(&settings.data(), &settings.mount, record.reign > 0)?;
        let node = settings.node.clone();
        let record = lock.write(
            |record| {
                (record.reign, record.by, record.user) = (reign, node.clone(), node);
                record.usage = Use::Held;
            },
            true,
        )?;
        folder::link(&settings.data(), &settings.mount)?;
        Ok(record)
    }

    /// Gives a lock back that nothing was written under.
    fn give_back(&self, lock: Description) {
        let node = self.settings.node.clone();
        match lock.write(|record| (record.usage, record.user) = (Use::Free, node), false) {
            Ok(record) => self.state().record = record,
            Err(error) => tracing::warn!(%error, "the lock was given back without a note in it"),
        }
        drop(lock);
    }

    fn demote(&self) -> Result<(), Error> {
        let settings = &self.settings;
        self.yielding.store(true, Ordering::SeqCst);
        folder::unlink(&settings.data(), &settings.mount)?;
        let mut state = self.state();
        match std::mem::replace(&mut state.holding, Holding::Releasing) {
            Holding::Active { fd, .. } => {
                drop(state);
                self.give_back(Description::of(&fd, &settings.lock())?);
                drop(fd);
            }
            Holding::Offered { lock, .. } => {
                state.holding = Holding::Nothing;
                drop(state);
                self.give_back(lock);
                return Ok(());
            }
            Holding::Nothing => {
                state.holding = Holding::Nothing;
                drop(state);
                // Processes of an earlier run of this node may still write.
                match lock::read(&settings.lock()) {
                    Ok(record) if record.usage == Use::Held && record.user == settings.node => {}
                    // No lock file, nothing mounted: there is nothing to give up.
                    _ => return Ok(()),
                }
            }
            Holding::Releasing => drop(state),
        }
        self.verify_released()?;
        self.state().holding = Holding::Nothing;
        tracing::info!("this node gave the mail volume up");
        Ok(())
    }

    /// Whether nobody who inherited this node's lock is left: it can be taken, or the other node has taken it.
    fn verify_released(&self) -> Result<(), Error> {
        let path = self.settings.lock();
        let end = Instant::now() + Duration::from_millis(self.settings.release_ms.into());
        loop {
            let probe = Description::open(&path)?;
            if probe.lock(false)? {
                if probe.record()?.usage == Use::Held {
                    self.give_back(probe);
                }
                return Ok(());
            }
            let record = lock::read(&path)?;
            if record.usage != Use::Free && record.user != self.settings.node {
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let mut by = lock::holders(&path);
                if by.is_empty() {
                    by = "a process that inherited it".into();
                }
                return Err(Error::Busy { what: path, by });
            }
            let state = self.state();
            let _ = self.changed.wait_timeout(state, left.min(Duration::from_millis(5)));
        }
    }

    /// No reign is refused here: the core puts its claim above the reign beside the lock once it has the lock, and the promote checks it.
    fn reserve(&self) -> Result<bool, Error> {
        let settings = &self.settings;
        self.yielding.store(false, Ordering::SeqCst);
        if matches!(self.state().holding, Holding::Active { .. }) {
            return Ok(true);
        }
        // A probe of the other node holds the lock for microseconds: look twice before saying no.
        let Some(lock) = self.take(Duration::from_millis(20))? else { return Ok(false) };
        if let Err(error) = lock.excludes().and_then(|()| lock.record()) {
            self.give_back(lock);
            return Err(error);
        }
        let until = Instant::now() + Duration::from_millis(settings.reserve_ms.into());
        self.offer(lock, until);
        Ok(true)
    }

    /// Keeps a lock for a promote to come.
    fn offer(&self, lock: Description, until: Instant) {
        let node = self.settings.node.clone();
        let written = lock.write(|record| (record.usage, record.user) = (Use::Offered, node), false);
        let mut state = self.state();
        match written {
            Ok(record) => state.record = record,
            Err(error) => state.trouble = error.to_string(),
        }
        state.holding = Holding::Offered { lock, until };
        drop(state);
        self.changed.notify_all();
    }
}

impl Storage for Shared {
    fn events(&self) -> mpsc::Receiver<Event> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn path(&self) -> &Path {
        &self.inner.settings.mount
    }

    fn promote(&self, reign: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.run(move |inner| inner.promote(reign))
    }

    fn demote(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.run(Inner::demote)
    }

    fn writes(&self, how: Writes) -> BoxFuture<'_, Result<(), Error>> {
        self.run(move |inner| {
            if how == Writes::Alone && matches!(inner.state().holding, Holding::Active { .. }) {
                inner.tell(Event::Replication(Replication::Complete));
            }
            Ok(())
        })
    }

    fn allow_resync(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.writes(Writes::Alone)
    }

    fn reserve(&self, _reign: u32) -> BoxFuture<'_, Result<bool, Error>> {
        self.run(Inner::reserve)
    }

    /// There is one copy: nothing can diverge, and the data stays where it is.
    fn keep_aside(&self) -> BoxFuture<'_, Result<PathBuf, Error>> {
        self.run(|inner| Ok(inner.settings.data()))
    }

    /// The reign in the lock file. Both nodes read the same one, so a node that lost its own records is as current as its peer: the
    /// daemon starts the core with position 0 then.
    fn position(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.run(|inner| {
            let record = lock::read(&inner.settings.lock())?;
            let position = record.reign.into();
            inner.state().record = record;
            Ok(position)
        })
    }

    fn status(&self) -> StorageStatus {
        let state = self.inner.state();
        let record = &state.record;
        let (role, reign) = match &state.holding {
            Holding::Active { reign, .. } => (Role::Active, *reign),
            Holding::Offered { .. } | Holding::Releasing => (Role::Changing, record.reign),
            Holding::Nothing => (Role::Standby, record.reign),
        };
        let other = record.usage == Use::Held && record.user != self.inner.settings.node;
        let (sentence, sentence_zh) = match role {
            Role::Active => ("This node has the mail volume.".to_owned(), "本节点持有邮件卷。".to_owned()),
            Role::Changing => ("The mail volume is changing hands.".to_owned(), "邮件卷正在交接。".to_owned()),
            Role::Standby | Role::Unknown if other => {
                (format!("Node {} has the mail volume.", record.user), format!("节点 {} 持有邮件卷。", record.user))
            }
            Role::Standby | Role::Unknown => ("No node has the mail volume.".to_owned(), "没有节点持有邮件卷。".to_owned()),
        };
        StorageStatus {
            driver: "shared".into(),
            role,
            reign,
            holder: record.by.clone(),
            position: record.reign.into(),
            free_bytes: state.free_bytes,
            sentence,
            sentence_zh,
            trouble: if state.watch_trouble.is_empty() { state.trouble.clone() } else { state.watch_trouble.clone() },
            ..StorageStatus::default()
        }
    }

    fn lock_fd(&self) -> Option<Arc<OwnedFd>> {
        match &self.inner.state().holding {
            Holding::Active { fd, .. } => Some(Arc::clone(fd)),
            _ => None,
        }
    }
}
