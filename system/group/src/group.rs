//! Start, stop, restart and checks of the whole group.
//!
//! Contract: operations are carried out one at a time, in tasks of their own (a caller that goes away leaves nothing half done); a stop
//! cuts a start short. What was started is in [`Work`] from that moment until it is proven gone.

use std::{
    future::Future,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout_at},
};

use crate::{
    Error, GroupEvent, Run, Service, ServiceState, ServiceStatus, Settings, ahead,
    life::{Birth, Life},
    rounds,
    spawn::Spawner,
    systemd::{self, Control, Unit},
};

/// Events wait here for the daemon. Checks that find no room are dropped (the next comes in a second), deaths wait.
const EVENTS: usize = 64;
/// A service that is not essential is restarted after this, then twice as long each time.
const REVIVE_FIRST: Duration = Duration::from_secs(1);
const REVIVE_LAST: Duration = Duration::from_secs(30);
/// One that ran for so long starts from the first again.
const REVIVE_FORGET: Duration = Duration::from_secs(60);
const CGROUPS: &str = "/sys/fs/cgroup";

/// The services that run while this node is active. A clone is the same group.
#[derive(Clone, Debug)]
pub struct Group(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    spawner: Spawner,
    pub(crate) events: mpsc::Sender<GroupEvent>,
    inherit: Mutex<Option<Arc<OwnedFd>>>,
    /// How many stops were asked for.
    pub(crate) stops: watch::Sender<u64>,
    pub(crate) work: tokio::sync::Mutex<Work>,
    /// Services that can wait are to be there ahead; also stirred when one of them ended.
    pub(crate) ahead: watch::Sender<bool>,
    table: Mutex<Vec<ServiceStatus>>,
    pub(crate) checking: watch::Sender<bool>,
    pub(crate) check_now: Arc<Notify>,
    /// Odd while an operation runs; a round of checks counts only if this did not change meanwhile.
    pub(crate) epoch: AtomicU64,
}

/// What is there, by the index of its service.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) running: Vec<Option<Running>>,
    /// Started ahead and not told to serve yet.
    pub(crate) waiting: Vec<Option<Unit>>,
    /// What a predecessor left was looked for.
    cleared: bool,
    /// Started and not stopped since.
    pub(crate) wanted: bool,
}

#[derive(Debug)]
pub(crate) enum Running {
    Child(Life),
    Unit(Unit),
}

impl Running {
    const fn pid(&self) -> u32 {
        match self {
            Self::Child(life) => life.pid,
            Self::Unit(unit) => unit.pid,
        }
    }

    fn how(&self) -> Option<String> {
        match self {
            Self::Child(life) => life.how(),
            Self::Unit(unit) => unit.how(),
        }
    }

    async fn over(&self) -> String {
        match self {
            Self::Child(life) => life.over().await,
            Self::Unit(unit) => unit.over().await,
        }
    }

    fn ask(&self) {
        match self {
            Self::Child(life) => life.ask(),
            Self::Unit(unit) => unit.ask(),
        }
    }

    async fn end(&mut self, grace: Duration, limit: Duration) -> Result<(), Error> {
        match self {
            Self::Child(life) => life.end(grace, limit).await,
            Self::Unit(unit) => unit.end(grace, limit).await,
        }
    }
}

impl Group {
    /// A group that does not run yet, and what happens in it. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Settings`]: no marker, two services of one name, an empty command.
    pub fn new(settings: Settings) -> Result<(Self, mpsc::Receiver<GroupEvent>), Error> {
        examine(&settings)?;
        let runtime = Handle::try_current().map_err(|e| Error::Settings(e.to_string()))?;
        let spawner = Spawner::new(runtime).map_err(|e| Error::Settings(format!("no thread: {e}")))?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let since = Instant::now();
        let table = settings.services.iter().map(|service| ServiceStatus {
            name: service.name.clone(),
            state: ServiceState::Stopped,
            pid: None,
            deaths: 0,
            why: String::new(),
            since,
        });
        let none = || settings.services.iter().map(|_| ());
        let work = Work {
            running: none().map(|()| None).collect(),
            waiting: none().map(|()| None).collect(),
            cleared: false,
            wanted: false,
        };
        let inner = Arc::new(Inner {
            table: Mutex::new(table.collect()),
            spawner,
            events,
            inherit: Mutex::new(None),
            stops: watch::channel(0).0,
            work: tokio::sync::Mutex::new(work),
            ahead: watch::channel(false).0,
            checking: watch::channel(false).0,
            check_now: Arc::new(Notify::new()),
            epoch: AtomicU64::new(0),
            settings,
        });
        tokio::spawn(rounds::watch_over(Arc::downgrade(&inner)));
        tokio::spawn(ahead::keep(Arc::downgrade(&inner)));
        Ok((Self(inner), receiver))
    }

    /// What children made from now on hold open: the storage's lock, which is free only when the daemon *and* all of them are
    /// gone. [`Group::stop`] lets go of it when it succeeds; a start that fails keeps it for the
    /// next try. Never unlock it explicitly (that would unlock it for all): close it.
    pub fn inherit(&self, lock: Option<Arc<OwnedFd>>) {
        *held(&self.0.inherit) = lock;
    }

    /// Ends what a predecessor of the same marker left running (a daemon that was killed, whose children did not notice). [`Group::start`]
    /// and [`Group::stop`] do it too, when it was not done yet; a standby does it when it starts.
    ///
    /// # Errors
    /// Something is left.
    pub async fn clear(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        task(async move { inner.clear(&mut *inner.work.lock().await).await }).await
    }

    /// Services that can wait are started ahead and kept there, until [`Group::start`] tells them to serve or [`Group::stop`] ends them. Only while
    /// the data is not mounted: a process that is being made then would keep a view of it.
    pub fn ready(&self) {
        self.0.ahead.send_replace(true);
    }

    /// Starts what does not run, in order, each when the one before answers. Running already is success.
    ///
    /// # Errors
    /// Why a service did not come up; everything begun was stopped again, unless the error says [`Error::unverified`], or
    /// [`Error::Stopped`].
    pub async fn start(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        let cut = inner.stops.subscribe();
        task(async move {
            let mut work = inner.lock(&cut).await?;
            let _busy = Busy::new(&inner);
            inner.start(&mut work, cut).await
        })
        .await
    }

    /// Stops everything in reverse and proves that nothing is left. Not running is success.
    ///
    /// # Errors
    /// The first that could not be proven gone; the others were stopped all the same. It may be tried again.
    pub async fn stop(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        inner.stops.send_modify(|count| *count += 1);
        task(async move {
            let mut work = inner.work.lock().await;
            let _busy = Busy::new(&inner);
            inner.stop(&mut work).await?;
            // Not where a failed start is cleaned up: the next try needs it.
            held(&inner.inherit).take();
            Ok(())
        })
        .await
    }

    /// In place: stops and starts the essential services that died or fail their checks; if none does, all of them.
    ///
    /// # Errors
    /// As [`Group::start`]; [`Error::Stopped`] also when the group was not started.
    pub async fn restart(&self) -> Result<(), Error> {
        let inner = Arc::clone(&self.0);
        let cut = inner.stops.subscribe();
        task(async move {
            let mut work = inner.lock(&cut).await?;
            if !work.wanted {
                return Err(Error::Stopped);
            }
            let _busy = Busy::new(&inner);
            for index in inner.ill(&work).into_iter().rev() {
                inner.end(&mut work, index).await?;
            }
            inner.start(&mut work, cut).await
        })
        .await
    }

    /// Checks at once and then every [`Settings::check_every`]; each round is told as [`GroupEvent::Checked`]. Rounds that fall
    /// into a start, stop or restart are left out; the next comes right after it.
    pub fn check_on(&self) {
        self.0.checking.send_replace(true);
        self.0.check_now.notify_one();
    }

    /// No more checks.
    pub fn check_off(&self) {
        self.0.checking.send_replace(false);
    }

    /// Main process of each service that runs; not of those that wait.
    #[must_use]
    pub fn pids(&self) -> Vec<(String, u32)> {
        let serve = |s: &&ServiceStatus| s.state != ServiceState::Waiting;
        held(&self.0.table).iter().filter(serve).filter_map(|s| Some((s.name.clone(), s.pid?))).collect()
    }

    /// For people.
    #[must_use]
    pub fn status(&self) -> Vec<ServiceStatus> {
        held(&self.0.table).clone()
    }
}

fn examine(settings: &Settings) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::Settings(why));
    if settings.marker.is_empty() || settings.marker.contains('\0') {
        return wrong("the marker is empty or holds NUL".to_owned());
    }
    for (index, service) in settings.services.iter().enumerate() {
        let name = &service.name;
        if name.is_empty() || name.contains([':', '\0', '=']) {
            return wrong(format!("\"{}\" is no name of a service", name.escape_default()));
        }
        if settings.services[..index].iter().any(|other| other.name == *name) {
            return wrong(format!("two services are named {name}"));
        }
        match &service.run {
            Run::Child { command, .. } if command.first().is_none_or(String::is_empty) => {
                return wrong(format!("{name} has no command"));
            }
            Run::Unit { unit, .. } if unit.is_empty() || unit.starts_with('-') => {
                return wrong(format!("{name} has no unit"));
            }
            Run::Child { .. } | Run::Unit { .. } => {}
        }
    }
    Ok(())
}

/// Carries on when the caller goes away.
async fn task<T: Send + 'static>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    match tokio::spawn(Box::pin(work) as BoxFuture<'static, Result<T, Error>>).await {
        Ok(result) => result,
        Err(error) => Err(Error::Task(error.to_string())),
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these is replaced whole; a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An operation runs.
struct Busy<'a>(&'a Inner);

impl<'a> Busy<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.epoch.fetch_add(1, Ordering::AcqRel);
        Self(inner)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.epoch.fetch_add(1, Ordering::AcqRel);
        self.0.check_now.notify_one();
    }
}

impl Inner {
    pub(crate) async fn lock(&self, cut: &watch::Receiver<u64>) -> Result<tokio::sync::MutexGuard<'_, Work>, Error> {
        let work = self.work.lock().await;
        if cut.has_changed().unwrap_or(true) { Err(Error::Stopped) } else { Ok(work) }
    }

    pub(crate) fn tell(&self, index: usize, change: impl FnOnce(&mut ServiceStatus)) {
        let mut table = held(&self.table);
        let status = &mut table[index];
        let before = status.state;
        change(status);
        if status.state != before {
            status.since = Instant::now();
        }
    }

    pub(crate) async fn clear(&self, work: &mut Work) -> Result<(), Error> {
        if work.cleared {
            return Ok(());
        }
        let services = &self.settings.services;
        if services.iter().any(|s| matches!(s.run, Run::Child { .. })) {
            let grace = services.iter().map(|s| s.stop_grace).max().unwrap_or_default();
            Life::left_by_a_predecessor(&self.settings.marker).end(grace, self.settings.kill_limit).await?;
        }
        for service in services.iter().rev() {
            if let Run::Unit { unit, .. } = &service.run {
                let control = self.control(service, unit);
                systemd::stop(&control, "", service.stop_grace, self.settings.kill_limit).await?;
            }
        }
        work.cleared = true;
        Ok(())
    }

    async fn start(self: &Arc<Self>, work: &mut Work, mut cut: watch::Receiver<u64>) -> Result<(), Error> {
        self.clear(work).await?;
        work.wanted = true;
        self.ahead.send_replace(false);
        for index in 0..self.settings.services.len() {
            let service = &self.settings.services[index];
            if work.running[index].as_ref().is_some_and(|running| running.how().is_none()) {
                continue;
            }
            let begun = match self.end(work, index).await {
                Ok(()) => self.begin(work, index, &mut cut).await,
                Err(error) => Err(error),
            };
            match begun {
                Ok(()) => {}
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(error) if !service.essential && !error.unverified() => {
                    tracing::warn!(service = service.name, %error, "not essential: tried again later");
                    self.tell(index, |s| (s.state, s.pid, s.why) = (ServiceState::Died, None, error.to_string()));
                    self.revive(index, REVIVE_FIRST);
                }
                Err(error) => {
                    tracing::error!(service = service.name, %error, "start failed");
                    self.stop(work).await?;
                    self.tell(index, |s| s.why = error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Starts one and waits until it answers.
    async fn begin(self: &Arc<Self>, work: &mut Work, index: usize, cut: &mut watch::Receiver<u64>) -> Result<(), Error> {
        let service = &self.settings.services[index];
        let begun = Instant::now();
        self.tell(index, |s| (s.state, s.pid, s.why) = (ServiceState::Starting, None, String::new()));
        let deadline = tokio::time::Instant::now() + service.start_limit;
        let running = match &service.run {
            Run::Child { command, env, dir } => {
                let inherit = held(&self.inherit).clone();
                let birth = Birth { name: &service.name, command, env, dir: dir.as_deref(), marker: &self.settings.marker };
                Running::Child(Life::begin(&self.spawner, birth, inherit, self.undertaker(index)).await?)
            }
            Run::Unit { unit, waits: None } => Running::Unit(self.begin_unit(index, unit, service.start_limit, cut).await?),
            Run::Unit { unit, waits: Some(waits) } => self.begin_told(work, index, unit, waits, deadline, cut).await?,
        };
        let pid = running.pid();
        let running = work.running[index].insert(running);
        self.tell(index, |s| s.pid = Some(pid));
        let _ = self.events.try_send(GroupEvent::Up { name: service.name.clone(), pid });
        if !service.essential {
            self.tell(index, |s| s.state = ServiceState::Up);
            if let Some(how) = running.how() {
                self.tell(index, |s| (s.state, s.pid, s.why) = (ServiceState::Died, None, how));
            }
            tracing::info!(service = service.name, pid, "started");
            return Ok(());
        }
        let mut why = "no check was made".to_owned();
        let ready = timeout_at(deadline, async {
            tokio::select! {
                biased;
                _ = cut.changed() => Err(Error::Stopped),
                how = running.over() => Err(Error::Ended { name: service.name.clone(), how }),
                () = rounds::answers(service, &mut why) => Ok(()),
            }
        });
        match ready.await {
            Ok(result) => result?,
            Err(_) => {
                let limit_ms = service.start_limit.as_millis();
                return Err(Error::NotReady { name: service.name.clone(), limit_ms, why });
            }
        }
        self.tell(index, |s| s.state = ServiceState::Up);
        // If it ended in this very moment, its undertaker may still have seen a start.
        if let Some(how) = running.how() {
            return Err(Error::Ended { name: service.name.clone(), how });
        }
        let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(service = service.name, pid, took_ms, "answers");
        Ok(())
    }

    /// Starts a unit and waits for its job.
    pub(crate) async fn begin_unit(
        self: &Arc<Self>,
        index: usize,
        unit: &str,
        limit: Duration,
        cut: &mut watch::Receiver<u64>,
    ) -> Result<Unit, Error> {
        let service = &self.settings.services[index];
        let begun = tokio::select! {
            biased;
            _ = cut.changed() => {
                self.abandon(service, unit).await?;
                return Err(Error::Stopped);
            }
            begun = Unit::begin(self.control(service, unit), limit, self.undertaker(index)) => begun,
        };
        match begun {
            Ok(unit) => Ok(unit),
            Err(error) => {
                // A job that failed or hangs may have left processes.
                self.abandon(service, unit).await?;
                Err(match error {
                    Error::Systemctl { name, why, .. } => Error::Ended { name, how: why },
                    other => other,
                })
            }
        }
    }

    /// A unit whose start was cut short: its job may go on in systemd, so it is stopped here and now.
    pub(crate) async fn abandon(&self, service: &Service, unit: &str) -> Result<(), Error> {
        systemd::stop(&self.control(service, unit), "", service.stop_grace, self.settings.kill_limit).await
    }

    async fn stop(&self, work: &mut Work) -> Result<(), Error> {
        work.wanted = false;
        self.ahead.send_replace(false);
        let mut first = self.clear(work).await;
        for index in (0..work.running.len()).rev() {
            let ended = self.end(work, index).await;
            let ended = ended.and(self.dismiss(work, index).await);
            if let Err(error) = &ended {
                tracing::error!(%error, "stop could not be verified");
            }
            first = first.and(ended);
        }
        first
    }

    /// Ends one that is there, running or dead: what it left is looked for either way.
    async fn end(&self, work: &mut Work, index: usize) -> Result<(), Error> {
        let Some(running) = &mut work.running[index] else { return Ok(()) };
        let service = &self.settings.services[index];
        running.ask();
        self.tell(index, |s| s.state = ServiceState::Stopping);
        match running.end(service.stop_grace, self.settings.kill_limit).await {
            Ok(()) => {
                work.running[index] = None;
                self.tell(index, |s| (s.state, s.pid) = (ServiceState::Stopped, None));
                Ok(())
            }
            Err(error) => {
                self.tell(index, |s| (s.state, s.why) = (ServiceState::Unverified, error.to_string()));
                Err(error)
            }
        }
    }

    /// Whom a restart in place is for.
    fn ill(&self, work: &Work) -> Vec<usize> {
        let essential = || (0..work.running.len()).filter(|&i| self.settings.services[i].essential);
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let ill: Vec<usize> = essential()
            .filter(|&i| {
                matches!(table[i].state, ServiceState::Died | ServiceState::Failing)
                    || work.running[i].as_ref().is_none_or(|running| running.how().is_some())
            })
            .collect();
        if ill.is_empty() { essential().collect() } else { ill }
    }

    /// What is done when a service ends unasked.
    fn undertaker(self: &Arc<Self>, index: usize) -> impl FnOnce(String) -> BoxFuture<'static, ()> + Send + 'static {
        let inner = Arc::downgrade(self);
        move |how| {
            Box::pin(async move {
                if let Some(inner) = inner.upgrade() {
                    inner.died(index, how).await;
                }
            })
        }
    }

    async fn died(self: Arc<Self>, index: usize, how: String) {
        let Service { name, essential, .. } = &self.settings.services[index];
        let mut waited = false;
        self.tell(index, |s| {
            waited = s.state == ServiceState::Waiting;
            if waited {
                (s.state, s.pid, s.why) = (ServiceState::Stopped, None, how.clone());
            }
        });
        if waited {
            tracing::warn!(service = name, how, "the one that waited ended");
            self.ahead.send_modify(|_| {});
            return;
        }
        let (mut starting, mut ran, mut deaths) = (false, Duration::ZERO, 0);
        self.tell(index, |s| {
            starting = s.state == ServiceState::Starting;
            ran = s.since.elapsed();
            s.deaths = if ran > REVIVE_FORGET { 1 } else { s.deaths.saturating_add(1) };
            deaths = s.deaths;
            (s.state, s.pid, s.why) = (ServiceState::Died, None, how.clone());
        });
        tracing::warn!(service = name, how, essential, "ended unasked");
        // While it starts, the start itself tells.
        if !starting {
            let _ = self.events.send(GroupEvent::Died { name: name.clone(), how, essential: *essential }).await;
        }
        if !essential {
            let wait = REVIVE_FIRST.saturating_mul(1 << (deaths - 1).min(5)).min(REVIVE_LAST);
            self.revive(index, wait);
        }
    }

    /// Starts one that is not essential again, unless the group is stopped meanwhile.
    fn revive(self: &Arc<Self>, index: usize, wait: Duration) {
        let inner = Arc::downgrade(self);
        let mut cut = self.stops.subscribe();
        // A trait object, since starting may lead here again.
        let again: BoxFuture<'static, ()> = Box::pin(async move {
            tokio::select! {
                _ = cut.changed() => return,
                () = sleep(wait) => {}
            }
            let Some(inner) = inner.upgrade() else { return };
            let Ok(mut work) = inner.lock(&cut).await else { return };
            let gone = work.running[index].as_ref().is_none_or(|running| running.how().is_some());
            if work.wanted && gone {
                let begun = match inner.end(&mut work, index).await {
                    Ok(()) => inner.begin(&mut work, index, &mut cut).await,
                    Err(error) => Err(error),
                };
                match begun {
                    Ok(()) | Err(Error::Stopped) => {}
                    Err(error) => {
                        tracing::warn!(service = inner.settings.services[index].name, %error, "not essential: tried again later");
                        inner.tell(index, |s| (s.state, s.why) = (ServiceState::Died, error.to_string()));
                        inner.revive(index, (wait * 2).min(REVIVE_LAST));
                    }
                }
            }
        });
        tokio::spawn(again);
    }

    fn control(&self, service: &Service, unit: &str) -> Control {
        Control {
            name: service.name.clone(),
            unit: unit.to_owned(),
            systemctl: self.settings.systemctl.clone(),
            cgroups: PathBuf::from(CGROUPS),
        }
    }
}
