//! One disk array attached to both nodes, guarded by its own persistent reservations.
//!
//! Contract: who holds the reservation has the volume, and the array refuses every write of the other node. Unlike a lock
//! file a reservation can be taken from a living holder; the loser's writes fail from that moment and it hears of it within
//! [`Settings::watch_ms`] as [`Event::Reservation`]`(false)`. The core asks for it only when it has grounds to take over. There is one copy of the
//! data, so the peer has every byte by construction. The reign stands in the keys and, durably, in the volume's header.
//!
//! No array with two attachments was at hand when this was written: the tests run against a simulated `sg_persist` that keeps SPC-4's rules
//! (registration, reservation, preemption, unit attentions) in a file. What real arrays add to the rules is untried.
//!
//! Failure classes: the other was faster (passes), the reservation was taken away (the core stops), an array without reservations or with keys
//! of another cluster (a person), a damaged file system (a person), a program that fails.

mod persist;

pub use persist::{Found, Key, fuzz as fuzz_persist};

use crate::volume::{Header, Volume, check_name};
use crate::{EVENTS_MAX, Error, Event, Program, Role, Storage, StorageStatus};
use futures_util::future::BoxFuture;
use persist::Persist;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use twinpost_heartbeat::{Replication, Writes};

/// The programs that the driver runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Programs {
    /// `sg_persist`.
    pub sg_persist: Program,
    /// `fsck.ext4`.
    pub fsck: Program,
    /// `mkfs.ext4`.
    pub mkfs: Program,
    /// `mount`.
    pub mount: Program,
    /// `umount`.
    pub umount: Program,
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            sg_persist: Program::new("sg_persist"),
            fsck: Program::new("fsck.ext4"),
            mkfs: Program::new("mkfs.ext4"),
            mount: Program::new("mount"),
            umount: Program::new("umount"),
        }
    }
}

/// Which disk, and how patient the driver is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Name of this node.
    pub node: String,
    /// Its number, 0 or 1: the other way round on the peer.
    pub number: u8,
    /// The disk, the same one on both nodes: `/dev/disk/by-id/...`.
    pub device: PathBuf,
    /// Where the volume is mounted while this node is active.
    pub mount: PathBuf,
    /// User and group of the program that works in the volume, when it is not the daemon's own.
    pub owner: Option<(u32, u32)>,
    /// The kernel's table of mounts.
    pub mountinfo: PathBuf,
    /// How often the array is asked.
    pub watch_ms: u32,
    /// A reservation that no promote follows is given back after this.
    pub reserve_ms: u32,
    /// A mount or a demote.
    pub limit: Duration,
    /// The file-system check.
    pub check: Duration,
    /// Programs.
    pub programs: Programs,
}

impl Settings {
    /// With the defaults: 500 ms, 5 s, 10 s, 10 minutes.
    pub fn new(node: impl Into<String>, number: u8, device: impl Into<PathBuf>, mount: impl Into<PathBuf>) -> Self {
        Self {
            node: node.into(),
            number,
            device: device.into(),
            mount: mount.into(),
            owner: None,
            mountinfo: "/proc/self/mountinfo".into(),
            watch_ms: 500,
            reserve_ms: 5000,
            limit: Duration::from_secs(10),
            check: Duration::from_secs(600),
            programs: Programs::default(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Holding {
    Nothing,
    /// Reserved, until then.
    Reserved(Key, Instant),
    Active(Key),
    /// Was active; the array took it away.
    Lost(Key),
}

#[derive(Debug)]
struct State {
    holding: Holding,
    found: Found,
    header: Header,
    position: u64,
    trouble: String,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    persist: Persist,
    volume: Volume,
    operation: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
}

/// The driver.
#[derive(Debug)]
pub struct Array {
    inner: Arc<Inner>,
    receiver: Mutex<Option<mpsc::Receiver<Event>>>,
    /// Ends with the driver.
    _tasks: JoinSet<()>,
}

impl Array {
    /// Starts the driver. Must be called inside a tokio runtime.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        check_name(&settings.node, &settings.mount)?;
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
        let persist = Persist { program: programs.sg_persist.clone(), device: settings.device.clone() };
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let state = State {
            holding: Holding::Nothing,
            found: Found::default(),
            header: Header::default(),
            position: 0,
            trouble: String::new(),
        };
        let inner = Arc::new(Inner {
            settings,
            persist,
            volume,
            operation: tokio::sync::Mutex::new(()),
            state: Mutex::new(state),
            events,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(watch(Arc::clone(&inner)));
        Ok(Self { inner, receiver: Mutex::new(Some(receiver)), _tasks: tasks })
    }

    /// Makes the volume empty: once, when the pair is made. Destroys what is on the disk; refused while any node has it reserved.
    pub async fn make(&self) -> Result<(), Error> {
        let _one = self.inner.operation.lock().await;
        let found = self.inner.persist.look().await?;
        if found.holder.is_some() || !found.keys.is_empty() {
            return Err(Error::Held { what: self.inner.settings.device.clone(), by: "a node that has it reserved".into() });
        }
        self.inner.volume.make(self.inner.settings.check).await
    }

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

/// Asks the array now and then.
async fn watch(inner: Arc<Inner>) {
    let mut turn = tokio::time::interval(Duration::from_millis(inner.settings.watch_ms.max(1).into()));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        let Ok(_one) = inner.operation.try_lock() else { continue };
        if let Err(error) = inner.look().await {
            let text = error.to_string();
            let news = std::mem::replace(&mut inner.state().trouble, text.clone()) != text;
            if news {
                tracing::warn!(%error, "the array does not answer as it should");
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn tell(&self, event: Event) {
        // The reader is gone only when the daemon ends.
        let _ = self.events.send(event).await;
    }

    async fn look(&self) -> Result<(), Error> {
        let found = self.persist.look().await?;
        let holding = self.state().holding;
        let lost = match holding {
            Holding::Active(key) => (!found.is_only(key)).then_some(key),
            Holding::Reserved(key, until) => {
                if Instant::now() >= until {
                    self.persist.give_back(key).await?;
                    self.state().holding = Holding::Nothing;
                }
                None
            }
            Holding::Nothing | Holding::Lost(_) => None,
        };
        self.state().found = found;
        if let Some(key) = lost {
            tracing::error!("the array gave the mail volume to the other node");
            self.state().holding = Holding::Lost(key);
            self.tell(Event::Reservation(false)).await;
        }
        if matches!(holding, Holding::Nothing) {
            self.tell_position().await?;
        }
        Ok(())
    }

    async fn tell_position(&self) -> Result<u64, Error> {
        let device = self.settings.device.clone();
        let header = tokio::task::spawn_blocking(move || Header::read(&device)).await.map_err(|_| Error::Stopped)??;
        let position = u64::from(header.reign);
        let news = {
            let mut state = self.state();
            state.header = header;
            std::mem::replace(&mut state.position, position) != position
        };
        if news {
            self.tell(Event::Position(position)).await;
        }
        Ok(position)
    }

    /// No reign is refused here: the core puts its claim above the reign of the volume once it has the reservation, and the promote
    /// checks it.
    async fn reserve(&self, reign: u32) -> Result<bool, Error> {
        let key = Key { node: self.settings.number, reign };
        match self.state().holding {
            Holding::Active(held) | Holding::Reserved(held, _) if held.reign >= reign => return Ok(true),
            // Its own disks refuse it: the reservation is taken anew only after a demote.
            Holding::Lost(_) => return Ok(false),
            _ => {}
        }
        self.tell_position().await?;
        let active = matches!(self.state().holding, Holding::Active(_));
        let taken = self.persist.take(key).await?;
        if active {
            self.state().holding = if taken { Holding::Active(key) } else { Holding::Lost(key) };
        } else if taken {
            let until = Instant::now() + Duration::from_millis(self.settings.reserve_ms.into());
            self.state().holding = Holding::Reserved(key, until);
        }
        Ok(taken)
    }

    async fn promote(&self, reign: u32) -> Result<(), Error> {
        let was_active = match self.state().holding {
            Holding::Active(key) if key.reign > reign => {
                return Err(Error::Stale { asked: reign, known: key.reign, by: self.settings.node.clone() });
            }
            Holding::Active(key) => key.reign == reign,
            _ => false,
        };
        if was_active && self.volume.mounted()? {
            return Ok(());
        }
        if matches!(self.state().holding, Holding::Nothing) && self.volume.mounted()? {
            // Left by an earlier run of this node, whose reservation may be long gone.
            self.volume.unmount(self.settings.limit).await?;
        }
        self.tell_position().await?;
        let newest = self.persist.look().await?.newest();
        let (header, holding) = {
            let state = self.state();
            (state.header.clone(), state.holding)
        };
        let allowed = header.allows(&self.settings.node, reign).and_then(|()| match newest {
            Some(newest) if newest.reign > reign || (newest.reign == reign && newest.node != self.settings.number) => {
                Err(Error::Stale { asked: reign, known: newest.reign, by: format!("number {}", newest.node) })
            }
            _ => Ok(()),
        });
        if let Err(error) = allowed {
            if let Holding::Reserved(key, _) = holding {
                self.persist.give_back(key).await?;
                self.state().holding = Holding::Nothing;
            }
            return Err(error);
        }
        if !self.reserve(reign).await? {
            return Err(Error::Held { what: self.settings.device.clone(), by: "the other node, which was faster".into() });
        }
        let key = match self.state().holding {
            Holding::Active(key) | Holding::Reserved(key, _) | Holding::Lost(key) => key,
            Holding::Nothing => return Err(Error::Refused("the reservation was given back".into())),
        };
        // A reservation for a lower reign was asked for before: the keys must say the reign that counts.
        let wanted = Key { reign, ..key };
        if key != wanted && !self.persist.take(wanted).await? {
            return Err(Error::Held { what: self.settings.device.clone(), by: "the other node, which was faster".into() });
        }
        if let Err(error) = self.mount(reign).await {
            let undone = async {
                self.volume.unmount(self.settings.limit).await?;
                self.persist.give_back(wanted).await
            };
            match undone.await {
                Ok(()) => self.state().holding = Holding::Nothing,
                Err(undone) => {
                    self.state().holding = Holding::Active(wanted);
                    tracing::error!(error = %undone, "a promote that failed could not be undone");
                }
            }
            return Err(error);
        }
        self.state().holding = Holding::Active(wanted);
        tracing::info!(reign, path = %self.settings.mount.display(), "this node has the mail volume");
        let position = self.state().position;
        self.tell(Event::Position(position)).await;
        Ok(())
    }

    async fn mount(&self, reign: u32) -> Result<(), Error> {
        if !self.volume.mounted()? {
            let header = Header { reign, by: self.settings.node.clone() };
            let (device, written) = (self.settings.device.clone(), header.clone());
            tokio::task::spawn_blocking(move || written.write(&device)).await.map_err(|_| Error::Stopped)??;
            let mut state = self.state();
            (state.position, state.header) = (reign.into(), header);
        }
        self.volume.mount(false, self.settings.check, self.settings.limit).await
    }

    async fn demote(&self) -> Result<(), Error> {
        let end = Instant::now() + self.settings.limit;
        let mut pause = Duration::from_millis(20);
        while let Err(error) = self.volume.unmount(Duration::from_secs(3)).await {
            if Instant::now() >= end {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(500));
        }
        let holding = self.state().holding;
        let mut keys = Vec::new();
        match holding {
            Holding::Active(key) | Holding::Reserved(key, _) | Holding::Lost(key) => keys.push(key),
            Holding::Nothing => {
                // Left by an earlier run of this node.
                let found = self.persist.look().await?;
                keys.extend(
                    found.keys.iter().filter_map(|number| Key::of(*number)).filter(|key| key.node == self.settings.number),
                );
            }
        }
        for key in keys {
            self.persist.give_back(key).await?;
        }
        self.state().holding = Holding::Nothing;
        Ok(())
    }
}

impl Storage for Array {
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

    fn writes(&self, how: Writes) -> BoxFuture<'_, Result<(), Error>> {
        self.run(async move {
            let active = matches!(self.inner.state().holding, Holding::Active(_));
            if how == Writes::Alone && active {
                self.inner.tell(Event::Replication(Replication::Complete)).await;
            }
            Ok(())
        })
    }

    fn allow_resync(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.writes(Writes::Alone)
    }

    fn reserve(&self, reign: u32) -> BoxFuture<'_, Result<bool, Error>> {
        self.run(self.inner.reserve(reign))
    }

    /// There is one copy: nothing can diverge, and the data stays where it is.
    fn keep_aside(&self) -> BoxFuture<'_, Result<PathBuf, Error>> {
        Box::pin(async { Ok(self.inner.settings.mount.clone()) })
    }

    fn position(&self) -> BoxFuture<'_, Result<u64, Error>> {
        self.run(async {
            if matches!(self.inner.state().holding, Holding::Active(_)) {
                return Ok(self.inner.state().position);
            }
            self.inner.tell_position().await
        })
    }

    fn status(&self) -> StorageStatus {
        let state = self.inner.state();
        let holder = state.found.holder.and_then(Key::of);
        let (role, known) = match state.holding {
            Holding::Active(key) => (Role::Active, key.reign),
            Holding::Reserved(key, _) => (Role::Changing, key.reign),
            Holding::Lost(_) => (Role::Changing, 0),
            Holding::Nothing => (Role::Standby, 0),
        };
        let (sentence, sentence_zh) = match (role, holder) {
            (Role::Active, _) => ("This node has the mail volume.", "本节点持有邮件卷。"),
            (Role::Changing, _) => ("The mail volume is changing hands.", "邮件卷正在交接。"),
            (_, Some(_)) => ("The other node has the mail volume.", "另一节点持有邮件卷。"),
            (_, None) => ("No node has the mail volume.", "没有节点持有邮件卷。"),
        };
        StorageStatus {
            driver: "array".into(),
            role,
            reign: holder.map_or(0, |key| key.reign).max(state.header.reign).max(known),
            holder: state.header.by.clone(),
            position: state.position,
            sentence: sentence.into(),
            sentence_zh: sentence_zh.into(),
            trouble: state.trouble.clone(),
            ..StorageStatus::default()
        }
    }
}
