//! A disk in each node, mirrored by DRBD 8.4 in the kernel, driven through drbd-utils 9.
//!
//! Contract: DRBD holds every write until both disks have it (protocol C), and holds all writes when the peer is gone until our handler
//! says that it is fenced (`resource-and-stonith`). The handler says so only while the core says [`Writes::Alone`], or while a promote runs,
//! which the core starts only with a proof. A copy is overwritten only when the core of the *source* allowed it, and
//! never while the target is active or holds diverged data that was not kept aside. A blank copy is never the source: DRBD makes a copy
//! without a history the target, and this driver forces a role only on a copy that is whole (the administrator's word on an old one).
//!
//! Position: DRBD's own generation identifiers are random and say only "same" or "ancestor"; they cannot be compared as numbers on two
//! nodes that do not talk. So the position is the reign that stands in the [header](crate::Header) of the volume: it is mirrored
//! with the data, grows with every promote, is equal on copies that are equal, and can be read from the own disk at any time. 0 is a
//! blank copy; a copy that DRBD marked as outdated is one behind its header, so that of two with the same header the other one serves. Two blank copies that are connected count as whole: one of them is promoted and makes the file system.
//!
//! A node that gives up while writes are held (it lost its peer and found no proof) lets the held writes fail: the disk is
//! detached, the queue resumed (every held write ends with an error; none was ever answered), the volume unmounted and the disk attached again.
//! No generation was begun, so the other node's copy is the successor and the blocks in question are copied back from there.
//!
//! Failure classes: the peer still holds the role (passes), a copy that is not whole (passes with a resync), diverged data (a person), a
//! damaged file system (a person), a program that fails.

mod aside;
mod config;
mod events;
mod handler;
mod keeper;
mod roles;

pub use config::{Host, Programs, Settings};
pub use events::{Disk, View, fuzz as fuzz_events};
pub use handler::{Ask, FENCED, REFUSED, run as run_handler, run_kernel_helper};

use crate::volume::{Header, Volume, check_name};
use crate::{EVENTS_MAX, Error, Event, Role, Storage, StorageStatus};
use futures_util::future::BoxFuture;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use twinpost_heartbeat::{Replication, Writes};

/// A program that only talks to the kernel.
const SHORT: Duration = Duration::from_secs(10);

/// How long an order is repeated while DRBD shakes hands.
const TRANSIENT: Duration = Duration::from_secs(3);

/// What this node does with the volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// Does not write: nobody may become primary but through a promote.
    Standby,
    /// Becomes primary with the core's proof.
    Promoting,
    /// Active, and how writes are answered.
    Active(Writes),
    /// Gives up.
    Demoting,
}

impl Mode {
    const fn active(self) -> bool {
        matches!(self, Self::Active(_))
    }
}

#[derive(Debug, Default)]
struct State {
    header: Header,
    position: u64,
    /// Both sides changed without each other; this side's data was not kept aside.
    diverged: bool,
    /// Last word to the core.
    told: Option<Replication>,
    /// The core was told that this active's copy failed.
    told_lost: bool,
    /// Handlers of `fence-peer` that wait.
    waiting: u32,
    /// Blocks to copy when the resync began, in KiB.
    resync_kib: u64,
    done_percent: Option<f32>,
    trouble: String,
    verifying: bool,
    /// The copy left the mirror for good; a start of the daemon brings it back.
    left: bool,
    verified: Option<u64>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    volume: Volume,
    view: watch::Sender<View>,
    mode: watch::Sender<Mode>,
    /// The core allows the peer's copy to be overwritten from this one.
    permit: watch::Sender<bool>,
    operation: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
}

/// The driver.
#[derive(Debug)]
pub struct Drbd {
    inner: Arc<Inner>,
    receiver: Mutex<Option<mpsc::Receiver<Event>>>,
    /// Ends with the driver.
    _tasks: JoinSet<()>,
}

impl Drbd {
    /// Writes the resource file, listens for the handlers and starts to watch. The resource is brought up in the background. Must be called
    /// inside a tokio runtime.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        check_name(&settings.this.name, &settings.mount)?;
        let text = settings.render()?;
        for folder in [Some(settings.state.as_path()), settings.config.parent(), settings.socket.parent()].into_iter().flatten() {
            crate::shared::make_folder(folder)?;
        }
        write_private(&settings.config, &text)?;
        let listener = handler::listen(&settings.socket)?;
        let programs = &settings.programs;
        let volume = Volume {
            device: settings.device.clone(),
            at: settings.mount.clone(),
            owner: settings.owner,
            mountinfo: settings.mountinfo.clone(),
            fsck: programs.fsck.clone(),
            mkfs: programs.mkfs.clone(),
            mount: programs.mount.clone(),
            umount: programs.umount.clone(),
        };
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let inner = Arc::new(Inner {
            settings,
            volume,
            view: watch::Sender::new(View::default()),
            mode: watch::Sender::new(Mode::Standby),
            permit: watch::Sender::new(false),
            operation: tokio::sync::Mutex::new(()),
            state: Mutex::default(),
            events,
        });
        let mut tasks = JoinSet::new();
        let (names, answering) = (handler::Names::of(&inner.settings), Arc::clone(&inner));
        tasks.spawn(handler::serve(listener, names, move |ask| {
            let inner = Arc::clone(&answering);
            async move { inner.answer(ask).await }
        }));
        tasks.spawn(keeper::watch(Arc::clone(&inner)));
        tasks.spawn(keeper::keep(Arc::clone(&inner)));
        Ok(Self { inner, receiver: Mutex::new(Some(receiver)), _tasks: tasks })
    }

    /// Makes this node's disk a blank copy: once, when a node joins a pair. Destroys what is on the disk, so it is refused when the disk holds a
    /// copy already, unless `even_so`.
    pub async fn make_blank(&self, even_so: bool) -> Result<(), Error> {
        let _one = self.inner.operation.lock().await;
        self.inner.make_blank(even_so).await
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    // A full disk is no reason not to start with what stands there.
    if std::fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let new = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .map_err(Error::io("write", &new))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io("write", &new))?;
    std::fs::rename(&new, path).map_err(Error::io("put in place", path))
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> Mode {
        *self.mode.borrow()
    }

    async fn tell(&self, event: Event) {
        // The reader is gone only when the daemon ends.
        let _ = self.events.send(event).await;
    }

    /// `drbdadm` with this resource's file.
    async fn drbdadm(&self, args: &[&str]) -> Result<String, Error> {
        self.drbdadm_within(args, SHORT).await
    }

    async fn drbdadm_within(&self, args: &[&str], limit: Duration) -> Result<String, Error> {
        let config = self.settings.config.to_str().unwrap_or_default();
        let all: Vec<&str> =
            ["-c", config].into_iter().chain(args.iter().copied()).chain([self.settings.resource.as_str()]).collect();
        let end = Instant::now() + TRANSIENT;
        loop {
            match self.settings.programs.drbdadm.ok(&all, limit).await {
                // SS_IN_TRANSIENT_STATE: a handshake is under way; "retry after next state change", says the module.
                Err(Error::Program { stderr, .. }) if stderr.contains("(-18)") && Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                // Already so, and the events have not said it yet: connecting (102), or no connection to cut (162).
                Err(Error::Program { stderr, .. })
                    if (args[0] == "connect" && stderr.contains("(102)"))
                        || (args[0] == "disconnect" && stderr.contains("(162)")) =>
                {
                    return Ok(String::new());
                }
                done => return done,
            }
        }
    }

    /// Tells the core what the mirror is, if that is news.
    async fn tell_mirror(&self) {
        let (mut word, founding, lost) = {
            let view = self.view.borrow();
            if !view.complete {
                return;
            }
            let active = self.mode().active();
            let word = if active { view.of_active() } else { view.of_standby() };
            // `on-io-error detach`: DRBD serves the volume from the peer's copy, and nothing else would tell of it.
            (word, !active && view.may_be_founded(), active && view.disk == Disk::Diskless)
        };
        if std::mem::replace(&mut self.state().told_lost, lost) != lost {
            self.tell(Event::OwnCopyLost(lost)).await;
        }
        // Two blank copies that hear each other are equal: whoever serves first makes them what they become. A blank copy alone is none.
        if founding && self.blank().await.unwrap_or(false) {
            word = Replication::CopyWhole;
        }
        let news = self.state().told.replace(word) != Some(word);
        if news {
            self.tell(Event::Replication(word)).await;
        }
    }

    /// Tells an active's core again what the mirror is. That it is lost is what the core believes unless told otherwise; said again it would
    /// take back what the core has allowed since.
    async fn repeat_mirror(&self) {
        let word = self.view.borrow().of_active();
        let lost = word == Replication::Lost;
        self.state().told = lost.then_some(word);
        if !lost {
            self.tell_mirror().await;
        }
    }

    /// Reads the position anew and tells it, if that is news.
    async fn tell_position(&self) -> Result<u64, Error> {
        let position = self.read_position().await?;
        let news = std::mem::replace(&mut self.state().position, position) != position;
        if news {
            self.tell(Event::Position(position)).await;
        }
        Ok(position)
    }

    async fn read_position(&self) -> Result<u64, Error> {
        // A whole copy has a history; of any other the generation must be asked.
        let whole = {
            let view = self.view.borrow();
            view.complete && view.of_standby() == Replication::CopyWhole
        };
        if !whole && self.blank().await? {
            return Ok(0);
        }
        let header = self.read_header().await?;
        // After both nodes lost their power, DRBD makes the copy of the one that did not write the target of that which did, and marks it
        // outdated when they meet: all that was acknowledged is on both, but from now on only the other one can serve without
        // beginning a second history. So it says that it is behind, and the other one is chosen.
        let outdated = self.view.borrow().disk == Disk::Outdated && !self.mode().active();
        let position = u64::from(header.reign.saturating_sub(u32::from(outdated)));
        self.state().header = header;
        Ok(position)
    }

    async fn read_header(&self) -> Result<Header, Error> {
        let disk = self.settings.this.disk.clone();
        tokio::task::spawn_blocking(move || Header::read(&disk)).await.map_err(|_| Error::Stopped)?
    }

    /// Whether this copy has no history: its generation is the one that only blank copies have.
    async fn blank(&self) -> Result<bool, Error> {
        // drbdmeta(8): UUID_JUST_CREATED is 4; the flags behind the fourth colon do not matter.
        let said = self.drbdadm(&["get-gi"]).await?;
        let current = said.trim().split(':').next().unwrap_or_default();
        let current = u64::from_str_radix(current, 16)
            .map_err(|_| Error::Answer { command: "drbdadm get-gi".into(), said: crate::program::shorten(&said) })?;
        // The lowest bit says "was primary".
        Ok(current & !1 == 4)
    }
}

impl Drbd {
    fn run<'a, T: Send + 'a>(
        &'a self,
        work: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, Error>> {
        Box::pin(async move {
            let _one = self.inner.operation.lock().await;
            let done = work.await;
            self.inner.state().trouble = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
            done
        })
    }
}

impl Storage for Drbd {
    fn events(&self) -> mpsc::Receiver<Event> {
        let taken = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.unwrap_or_else(|| mpsc::channel(1).1)
    }

    fn path(&self) -> &Path {
        &self.inner.settings.mount
    }

    fn promote(&self, reign: u32) -> BoxFuture<'_, Result<(), Error>> {
        self.run(self.inner.promote(reign))
    }

    fn demote(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.run(self.inner.demote())
    }

    /// Does not wait for another operation: a promote that hangs in held writes is freed by this very word.
    fn writes(&self, how: Writes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let inner = &self.inner;
            let active = inner.mode.send_if_modified(|mode| {
                let change = matches!(mode, Mode::Promoting | Mode::Active(_));
                if change {
                    *mode = Mode::Active(how);
                }
                change
            });
            if active && how == Writes::Alone {
                inner.repeat_mirror().await;
            }
            Ok(())
        })
    }

    fn allow_resync(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.run(async {
            let inner = &self.inner;
            if !inner.mode().active() {
                return Err(Error::Refused("only an active node's copy is the source of a resync".into()));
            }
            inner.permit.send_replace(true);
            if inner.view.borrow().stands_alone() {
                inner.drbdadm(&["connect"]).await?;
            }
            inner.repeat_mirror().await;
            Ok(())
        })
    }

    /// A mirror has no reservation.
    fn reserve(&self, _reign: u32) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn keep_aside(&self) -> BoxFuture<'_, Result<PathBuf, Error>> {
        self.run(self.inner.keep_aside())
    }

    fn leave(&self) -> BoxFuture<'_, Result<bool, Error>> {
        self.run(self.inner.leave())
    }

    fn position(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.run(async {
            if self.inner.mode().active() {
                return Ok(self.inner.state().position);
            }
            self.inner.tell_position().await
        })
    }

    fn verify(&self) -> BoxFuture<'_, Result<bool, Error>> {
        self.run(async {
            let inner = &self.inner;
            if !inner.view.borrow().mirrored() {
                return Ok(false);
            }
            inner.drbdadm(&["verify"]).await?;
            let mut state = inner.state();
            (state.verifying, state.verified) = (true, None);
            Ok(true)
        })
    }

    fn status(&self) -> StorageStatus {
        let view = self.inner.view.borrow().clone();
        let mode = self.inner.mode();
        let state = self.inner.state();
        let role = match mode {
            _ if !view.complete => Role::Unknown,
            Mode::Standby => Role::Standby,
            Mode::Active(_) => Role::Active,
            Mode::Promoting | Mode::Demoting => Role::Changing,
        };
        let (sentence, sentence_zh) = roles::sentence(&view, mode, state.diverged, state.done_percent);
        let settings = &self.inner.settings;
        let counted = || events::out_of_sync_kib(&std::fs::read_to_string(&settings.table).ok()?, settings.minor);
        let apart = if view.connected() { None } else { counted() };
        StorageStatus {
            driver: "drbd".into(),
            role,
            reign: state.header.reign,
            holder: state.header.by.clone(),
            position: state.position,
            connection: view.connection,
            disk: view.disk_word,
            peer_disk: view.peer_disk_word,
            done_percent: state.done_percent,
            out_of_sync_bytes: apart.or(view.out_of_sync_kib).map(|kib| kib.saturating_mul(1024)),
            free_bytes: None,
            sentence,
            sentence_zh,
            trouble: state.trouble.clone(),
        }
    }
}
