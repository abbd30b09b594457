//! The one owner of the heart's state.
//!
//! Contract: one thread with a runtime of its own runs [`Engine::run`], so that nothing else delays it. Every event is taken in after the time
//! that passed was measured; effects are carried out strictly in order: frames at once, everything slow by a worker ([`crate::workers`])
//! whose answer comes back as an event. A tick comes at least every half keepalive, before anything else that waits. The wall
//! clock is not read.
//!
//! Failure classes: [`Ended::SelfFenced`]; everything else is told to people and goes on.

pub(crate) mod away;
mod effects;
mod hearing;
mod inputs;
mod watching;

use crate::alarms::Board;
use crate::api::FailBack;
use crate::clock;
use crate::course::Course;
use crate::input::Input;
use crate::links::sides::Sides;
use crate::settings::Settings;
use crate::watchdog::Watchdog;
use crate::workers::Workers;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use twinpost_group::Group;
use twinpost_heartbeat::{Event, Reasons, State, Writes, step};

/// How the thread ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As it was told to.
    Orderly,
    /// Its owner is gone: everything stops where it is.
    Killed,
    /// Something did not stop.
    SelfFenced,
}

/// A planned end that waits for the peer.
struct Leaving {
    reply: oneshot::Sender<bool>,
    left_ms: u64,
    /// Since when this node does not serve any more.
    idle_since_ms: Option<u64>,
}

/// See the module.
pub(crate) struct Engine {
    set: Arc<Settings>,
    heart: twinpost_heartbeat::Settings,
    state: State,
    start_ms: u64,
    last_ms: u64,
    stall_max_ms: u64,
    sides: Sides,
    workers: Workers,
    group: Arc<Group>,
    watchdog: Option<Watchdog>,
    notified_ms: u64,
    notify_every_ms: Option<u64>,
    board: Board,
    course: Option<Course>,
    pending: VecDeque<Event>,
    refused: Option<Reasons>,
    /// The newest order to the service group.
    group_order: u64,
    checking: bool,
    services: &'static str,
    services_why: Option<String>,
    writes: Option<Writes>,
    fence_said: Option<&'static str>,
    fail_back: FailBack,
    peer_eligible_since_ms: Option<u64>,
    address_failures: u32,
    /// What the storage could not do.
    storage_trouble: Option<&'static str>,
    /// This node serves from the peer's copy: its own failed.
    copy_lost: bool,
    watching: watching::Watching,
    changed: Arc<watch::Sender<u64>>,
    leaving: Option<Leaving>,
    away: Option<away::Away>,
    /// The peer's start in which it was switched off by order, for those who give power and for the disk.
    peer_off: watch::Sender<Option<u32>>,
    /// No step any more, only the watchdog is fed: its owner stops everything by hand. Until then.
    frozen_until_ms: Option<u64>,
    ended: Option<Ended>,
}

/// What the thread is given.
pub(crate) struct Start {
    pub(crate) set: Arc<Settings>,
    pub(crate) heart: twinpost_heartbeat::Settings,
    pub(crate) state: State,
    pub(crate) workers: Workers,
    pub(crate) group: Arc<Group>,
    pub(crate) board: Board,
    pub(crate) fail_back: FailBack,
    pub(crate) peer_off: watch::Sender<Option<u32>>,
    pub(crate) inputs: mpsc::Receiver<Input>,
    pub(crate) changed: Arc<watch::Sender<u64>>,
    pub(crate) kill: CancellationToken,
}

impl Engine {
    /// Runs to the end, on a runtime of the calling thread. `maintenance_left_ms`: of one that began before a restart.
    pub(crate) async fn run(start: Start, maintenance_left_ms: u32) -> Ended {
        let Start { set, heart, state, workers, group, board, fail_back, peer_off, mut inputs, changed, kill } = start;
        let (tell, mut news) = mpsc::channel(crate::links::sides::NEWS_MAX);
        let now_ms = clock::now_ms();
        let away = peer_off.borrow().map(|boot| away::Away::kept(boot, now_ms));
        let mut engine = Engine {
            sides: Sides::open(&set, &tell),
            watchdog: set.watchdog.as_deref().map(Watchdog::new),
            notified_ms: 0,
            // Half of what systemd grants (sd_watchdog_enabled(3)).
            notify_every_ms: sd_notify::watchdog_enabled().and_then(|every| u64::try_from(every.as_millis() / 2).ok()),
            set,
            heart,
            state,
            start_ms: now_ms,
            last_ms: now_ms,
            stall_max_ms: 0,
            workers,
            group,
            board,
            course: None,
            pending: VecDeque::new(),
            refused: None,
            group_order: 0,
            checking: false,
            services: "stopped",
            services_why: None,
            writes: None,
            fence_said: None,
            fail_back,
            peer_eligible_since_ms: None,
            address_failures: 0,
            storage_trouble: None,
            copy_lost: false,
            watching: watching::Watching::new(now_ms),
            changed,
            leaving: None,
            away,
            peer_off,
            frozen_until_ms: None,
            ended: None,
        };
        drop(tell);
        engine.event(Event::Tick);
        if maintenance_left_ms > 0 {
            engine.event(Event::Order(twinpost_heartbeat::Order::Maintenance { for_ms: maintenance_left_ms }));
        }
        // Less than half a keepalive, so that a timer that is a little late is early enough.
        let every = Duration::from_millis(u64::from(engine.heart.keepalive_ms * 2 / 5).max(2));
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = kill.cancelled() => return Ended::Killed,
                _ = tick.tick() => engine.tick(),
                input = inputs.recv() => match input {
                    Some(input) => engine.input(input),
                    None => return Ended::Killed,
                },
                Some(news) = news.recv() => engine.news(news),
            }
            if let Some(ended) = engine.ended {
                if ended == Ended::Orderly
                    && let Some(watchdog) = engine.watchdog.take()
                {
                    watchdog.close();
                }
                return ended;
            }
        }
    }

    fn tick(&mut self) {
        if let Some(until_ms) = self.frozen_until_ms {
            if clock::now_ms() < until_ms {
                self.feed();
            }
            return;
        }
        self.event(Event::Tick);
        self.watch();
    }

    /// Takes an event in, and those that follow from carrying out its effects.
    fn event(&mut self, event: Event) {
        if self.frozen_until_ms.is_some() || self.ended.is_some() {
            return;
        }
        self.pending.push_back(event);
        while let Some(event) = self.pending.pop_front() {
            self.step(event);
        }
    }

    fn step(&mut self, event: Event) {
        // First the time, then the event: a frame that lay in a buffer during a stall is as old as the stall.
        let taken_in = Instant::now();
        let now_ms = clock::now_ms();
        let elapsed_ms = now_ms.saturating_sub(std::mem::replace(&mut self.last_ms, now_ms));
        if elapsed_ms >= u64::from(self.heart.warn_ms) {
            self.stall_max_ms = self.stall_max_ms.max(elapsed_ms);
            tracing::warn!(
                stalled_ms = elapsed_ms,
                "the pair daemon did not run: the machine was suspended, stopped or overloaded"
            );
        }
        let before = self.state;
        let (state, effects) = step(&self.heart, &before, u32::try_from(elapsed_ms).unwrap_or(u32::MAX), event);
        self.state = state;
        self.follow(&before, event, now_ms);
        for effect in effects {
            self.carry_out(effect, taken_in, now_ms);
        }
        self.tell_changes(now_ms);
        let took_ms = clock::now_ms().saturating_sub(now_ms);
        if took_ms >= u64::from(self.heart.keepalive_ms) {
            self.stall_max_ms = self.stall_max_ms.max(took_ms);
            tracing::warn!(took_ms, ?event, "a step of the pair daemon took long");
        }
    }

    /// The node cuts its own power: everything that it runs dies at once, and the watchdog starves.
    fn self_fence(&mut self) {
        for (name, pid) in self.group.pids() {
            let killed = i32::try_from(pid).map(|pid| {
                let pid = nix::unistd::Pid::from_raw(pid);
                // Each service leads a process group of its own.
                nix::sys::signal::killpg(pid, nix::sys::signal::Signal::SIGKILL)
            });
            tracing::error!(service = %name, pid, killed = ?killed, "killed, for this node cuts its own power");
        }
        self.ended = Some(Ended::SelfFenced);
    }

    fn feed(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            match watchdog.feed() {
                Ok(()) => {
                    if self.board.over("watchdog") {
                        tracing::info!("the watchdog takes what it is fed again");
                    }
                }
                Err(e) => {
                    let path = self.set.watchdog.clone().unwrap_or_default();
                    self.board.lasting("watchdog", || crate::words::watchdog_gone(&path, &e));
                }
            }
        }
        if let Some(every_ms) = self.notify_every_ms
            && self.last_ms.saturating_sub(self.notified_ms) >= every_ms
        {
            self.notified_ms = self.last_ms;
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}
