//! The engine: one task that owns the desk and brings it together with the book's thread, the ways, the clients and
//! the clock.
//!
//! Contract: everything that happens comes to the desk one after the other; what waits at the same moment is handled
//! in one go, so that its changes share one commit. Nothing here polls. No failure ends the engine but the end of the
//! book's thread.

mod asks;
mod inbound;
#[cfg(test)]
mod tests;

pub(crate) use asks::{Ask, EngineHandle};

use crate::api::{Event, State, Status};
use crate::book::{Book, BookHandle, Done, Job, Op};
use crate::clock::Clock;
use crate::desk::{Desk, Effect, WaySpec};
use crate::error::Error;
use crate::health::Health;
use crate::orders::{Gate, Orders};
use crate::reasons;
use crate::settings::Settings;
use crate::transport::{Inbound, Outcome, Transport};
use asks::{After, Waiter};
use inbound::Held;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Tags of the engine's own jobs begin here; the desk's are below.
const OWN: u64 = 1 << 62;
/// Housekeeping: old digests, old keys, incomplete messages.
const SWEEP_MS: i64 = 60_000;
/// How long parts on the wire are waited for when the process ends.
const LANDING: Duration = Duration::from_secs(20);
/// Inputs handled in one go.
const GO_MAX: usize = 256;

/// One way out with its name.
pub(crate) struct Named<T> {
    pub name: String,
    pub transport: Arc<T>,
    pub inbound: mpsc::Receiver<Inbound>,
}

/// What an order's task brings back.
#[derive(Debug)]
struct OrderDone {
    incoming: u64,
    to: String,
    text: String,
}

pub(crate) struct Engine<T, O> {
    settings: Arc<Settings>,
    desk: Desk,
    book: BookHandle,
    ways: Vec<(String, Arc<T>)>,
    states: Vec<watch::Receiver<crate::api::Way>>,
    orders: Arc<O>,
    gate: Option<Gate>,
    health: Health,
    clock: Clock,
    followers: HashMap<String, watch::Sender<Status>>,
    waiters: HashMap<u64, Waiter>,
    after: HashMap<u64, After>,
    next: u64,
    swept_ms: i64,
    pruned_ms: i64,
    incoming: u64,
    newest: u64,
    writable: bool,
    held: VecDeque<Held>,
    state: watch::Sender<State>,
    events: broadcast::Sender<Event>,
    arrivals: watch::Sender<u64>,
    sent_in: mpsc::UnboundedSender<(u64, Outcome)>,
    sent: mpsc::UnboundedReceiver<(u64, Outcome)>,
    done: mpsc::UnboundedReceiver<Done>,
    way_states: mpsc::Receiver<usize>,
    inbound: mpsc::Receiver<(usize, Inbound)>,
    ordered_in: mpsc::UnboundedSender<OrderDone>,
    ordered: mpsc::UnboundedReceiver<OrderDone>,
    asks: mpsc::Receiver<Ask>,
}

impl<T: Transport, O: Orders> Engine<T, O> {
    /// Opens the book and takes up what it has. `wall`: follow the wall clock.
    pub(crate) fn open(
        settings: Arc<Settings>,
        ways: Vec<Named<T>>,
        orders: O,
        wall: bool,
    ) -> Result<(Engine<T, O>, EngineHandle), Error> {
        let routes = routes(&settings)?;
        let folder = settings.folder.clone();
        let fail = |what: String| Error::Spool { path: folder.clone(), what };
        let mut book = Book::open(&settings.folder)?;
        let clock = Clock::new(wall);
        let now = clock.now_ms();
        let open =
            book.open_messages(settings.limits.queue.saturating_add(settings.limits.reports)).map_err(|e| fail(e.to_string()))?;
        let last_mr = book.last_mr().map_err(|e| fail(e.to_string()))?;
        let recent = book.recent_mrs().map_err(|e| fail(e.to_string()))?;
        let incoming = book.incoming_waiting().map_err(|e| fail(e.to_string()))?;
        let specs = ways.iter().map(|w| WaySpec { name: w.name.clone(), window: w.transport.window().max(1) }).collect();
        let mut desk = Desk::new(settings.pace.clone(), settings.limits.clone(), specs, routes, last_mr, now);
        if !open.is_empty() || incoming > 0 {
            tracing::info!(messages = open.len(), incoming, "taken up from the SMS spool");
        }
        desk.remember_mrs(recent);
        desk.restore(now, open);
        let (done_in, done) = mpsc::unbounded_channel();
        let book = BookHandle::start(book, done_in).map_err(|e| fail(e.to_string()))?;
        let (sent_in, sent) = mpsc::unbounded_channel();
        let (ordered_in, ordered) = mpsc::unbounded_channel();
        let (way_states_in, way_states) = mpsc::channel(64);
        let (inbound_in, inbound) = mpsc::channel(64);
        let (asks_in, asks) = mpsc::channel(256);
        let (events, _) = broadcast::channel(64);
        let (arrivals, arrivals_out) = watch::channel(0);
        let pace = &settings.pace;
        let health = Health::new(as_ms(pace.trouble_after), as_ms(pace.recovered_after));
        let mut named = Vec::new();
        let mut states = Vec::new();
        for (n, way) in ways.into_iter().enumerate() {
            states.push(way.transport.state());
            listen(n, way.transport.state(), way.inbound, way_states_in.clone(), inbound_in.clone());
            named.push((way.name, way.transport));
        }
        let state = State { ways: Vec::new(), waiting: desk.waiting(), incoming, spool_writable: true, troubles: Vec::new() };
        let (state, state_out) = watch::channel(state);
        let gate = settings.orders.clone().map(|o| Gate::new(o, settings.country.clone()));
        let handle = EngineHandle {
            asks: asks_in,
            state: state_out,
            events: events.clone(),
            arrivals: arrivals_out,
            settings: settings.clone(),
        };
        let mut engine = Engine {
            settings,
            desk,
            book,
            ways: named,
            states,
            orders: Arc::new(orders),
            gate,
            health,
            clock,
            followers: HashMap::new(),
            waiters: HashMap::new(),
            after: HashMap::new(),
            next: OWN,
            swept_ms: now,
            pruned_ms: 0,
            incoming,
            newest: 0,
            writable: true,
            held: VecDeque::new(),
            state,
            events,
            arrivals,
            sent_in,
            sent,
            done,
            way_states,
            inbound,
            ordered_in,
            ordered,
            asks,
        };
        for way in 0..engine.ways.len() {
            engine.way_changed(way);
        }
        engine.orders_left_over();
        Ok((engine, handle))
    }

    /// Works until `shutdown`; then waits for what is on the wire, and closes the book.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            self.act();
            tokio::select! {
                () = shutdown.cancelled() => break,
                more = self.step() => if !more { break },
            }
        }
        self.desk.close_shop();
        let landed = tokio::time::timeout(LANDING, async {
            loop {
                self.act();
                if !self.desk.busy() || !self.step().await {
                    return;
                }
            }
        });
        if landed.await.is_err() {
            tracing::warn!("the SMS process ends with parts on the wire: their outcome is unknown");
        }
        for (_, way) in &self.ways {
            way.stop().await;
        }
        let mut book = self.book;
        let closed = tokio::task::spawn_blocking(move || book.close()).await;
        if closed.is_err() {
            tracing::error!("the SMS spool could not be closed in order");
        }
    }

    /// Waits for something to happen, and handles it with all else that is there. `false`: the book's thread has ended.
    async fn step(&mut self) -> bool {
        let wake = self.next_wake();
        let hold_inbound = self.held.len() >= inbound::HELD_MAX;
        tokio::select! {
            done = self.done.recv() => match done {
                Some(done) => self.book_did(done),
                None => return false,
            },
            Some((flight, outcome)) = self.sent.recv() => self.desk.sent(self.clock.now_ms(), flight, outcome),
            Some(ask) = self.asks.recv() => self.asked(ask),
            Some(way) = self.way_states.recv() => self.way_changed(way),
            Some((way, inbound)) = self.inbound.recv(), if !hold_inbound => self.came_in(way, inbound),
            Some(order) = self.ordered.recv() => self.order_done(order),
            () = tokio::time::sleep(wake) => {}
        }
        // What else is there shares the commit.
        for _ in 0..GO_MAX {
            if let Ok(done) = self.done.try_recv() {
                self.book_did(done);
            } else if let Ok((flight, outcome)) = self.sent.try_recv() {
                self.desk.sent(self.clock.now_ms(), flight, outcome);
            } else if let Ok(ask) = self.asks.try_recv() {
                self.asked(ask);
            } else {
                break;
            }
        }
        if let Some(by) = self.clock.jumped() {
            tracing::warn!(by_s = by / 1000, "the clock was set: what waits keeps its remaining time");
            self.desk.shift(by);
            self.health.shift(by);
            self.swept_ms = self.swept_ms.saturating_add(by);
            self.own_job(vec![Op::Shift { by_ms: by }], true, After::Nothing);
        }
        let now = self.clock.now_ms();
        self.desk.tick(now);
        self.look_after(now);
        true
    }

    fn next_wake(&self) -> Duration {
        let now = self.clock.now_ms();
        let sweep = Some(self.swept_ms + SWEEP_MS);
        let wake = [self.desk.next_wake(now), self.health.next_wake(), self.held_wake(), sweep];
        let at = wake.into_iter().flatten().min().unwrap_or(now);
        Duration::from_millis(u64::try_from(at - now).unwrap_or(0))
    }

    /// Troubles, housekeeping, messages that wait for room.
    fn look_after(&mut self, now: i64) {
        self.health.incoming(now, self.incoming >= u64::from(self.settings.limits.incoming));
        let events = self.health.due(now);
        if !events.is_empty() {
            for event in events {
                if event.recovered {
                    tracing::info!(subject = %event.subject, "{}", event.text);
                } else {
                    tracing::warn!(subject = %event.subject, "{}", event.text);
                }
                // Nobody listens: the trouble stays in the state.
                let _ = self.events.send(event);
            }
            self.tell_state();
        }
        self.try_held(now);
        if now - self.swept_ms >= SWEEP_MS {
            self.swept_ms = now;
            self.followers.retain(|_, f| f.receiver_count() > 0);
            if let Some(gate) = &mut self.gate {
                gate.sweep(now);
            }
            let limits = &self.settings.limits;
            let before_s = now / 1000 - i64::try_from(limits.fragments_wait.as_secs()).unwrap_or(i64::MAX);
            let give_out = Op::GiveOut { before_s, most: limits.fragments };
            self.own_job(vec![give_out], false, After::Given);
            if now - self.pruned_ms >= 3_600_000 {
                self.pruned_ms = now;
                let keep_ms = i64::from(self.settings.limits.keep_days) * 86_400_000;
                let day = u32::try_from(now / 86_400_000 - 400).unwrap_or(0);
                let prune = Op::Prune { ended_ms: now - keep_ms, seen_s: now / 1000 - 3 * 86_400, day };
                self.own_job(vec![prune], false, After::Nothing);
            }
        }
    }

    /// Does what the desk wants.
    fn act(&mut self) {
        while let Some(effect) = self.desk.poll() {
            match effect {
                Effect::Job(job) => self.book.put(job),
                Effect::Send { way, flight, parcel } => {
                    let landing = Landing { flight, to: Some(self.sent_in.clone()) };
                    let transport = self.ways[way].1.clone();
                    tokio::spawn(async move {
                        let outcome = transport.send(parcel).await;
                        landing.with(outcome);
                    });
                }
                Effect::Reply { ticket, answer } => self.reply(ticket, answer),
                Effect::Publish(status) => self.publish(status),
                Effect::Confirm { way, token } => {
                    let transport = self.ways[way].1.clone();
                    tokio::spawn(async move { transport.confirm(token).await });
                }
            }
        }
    }

    fn publish(&mut self, status: Status) {
        tracing::debug!(trace = %status.key, state = ?status.state, accepted = status.accepted, of = status.parts, "status");
        if let Some(follower) = self.followers.get(&status.key) {
            let last = !status.more;
            let key = status.key.clone();
            follower.send_replace(status);
            if last {
                self.followers.remove(&key);
            }
        }
    }

    fn book_did(&mut self, done: Done) {
        let writable = !done.behind && done.result.is_ok();
        if writable != self.writable {
            self.writable = writable;
            self.health.spool(self.clock.now_ms(), writable);
            self.tell_state();
        }
        let now = self.clock.now_ms();
        if done.tag >= OWN {
            if let Some(after) = self.after.remove(&done.tag) {
                self.own_done(now, after, done.result);
            }
        } else {
            self.desk.committed(now, done.tag, done.result);
        }
    }

    fn own_job(&mut self, ops: Vec<Op>, must: bool, after: After) {
        self.next += 1;
        let tag = self.next;
        self.after.insert(tag, after);
        // The desk's jobs that came before go before.
        self.act();
        self.book.put(Job { tag, ops, must });
    }

    fn way_changed(&mut self, way: usize) {
        let now = self.clock.now_ms();
        let mut state = self.states[way].borrow_and_update().clone();
        state.name.clone_from(&self.ways[way].0);
        let trouble = reasons::way(&state.text, &state.zh);
        self.desk.way(now, way, reasons::sends(state.condition), trouble);
        self.health.way(now, &state);
        self.tell_state();
        // Those who follow a message that waits for this way learn it.
        for (key, follower) in &self.followers {
            if let Some(status) = self.desk.status(now, key) {
                follower.send_if_modified(|old| {
                    let new = old.state != status.state || old.reason != status.reason;
                    if new {
                        *old = status;
                    }
                    new
                });
            }
        }
    }

    fn state_now(&self) -> State {
        let ways = self
            .states
            .iter()
            .zip(&self.ways)
            .map(|(state, (name, _))| {
                let mut way = state.borrow().clone();
                way.name.clone_from(name);
                way
            })
            .collect();
        State {
            ways,
            waiting: self.desk.waiting(),
            incoming: self.incoming,
            spool_writable: self.writable,
            troubles: self.health.troubles(),
        }
    }

    fn tell_state(&self) {
        self.state.send_replace(self.state_now());
    }
}

/// The outcome of a flight, unknown when its task ends without one.
struct Landing {
    flight: u64,
    to: Option<mpsc::UnboundedSender<(u64, Outcome)>>,
}

impl Landing {
    fn with(mut self, outcome: Outcome) {
        if let Some(to) = self.to.take() {
            // The engine has ended: the part's outcome is found unknown at the next start.
            let _ = to.send((self.flight, outcome));
        }
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            let _ = to.send((self.flight, Outcome::Unknown(reasons::unknown("the way's task ended"))));
        }
    }
}

/// Brings a way's own doings to the engine.
fn listen(
    way: usize,
    mut state: watch::Receiver<crate::api::Way>,
    mut inbound: mpsc::Receiver<Inbound>,
    states: mpsc::Sender<usize>,
    messages: mpsc::Sender<(usize, Inbound)>,
) {
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            if states.send(way).await.is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(message) = inbound.recv().await {
            if messages.send((way, message)).await.is_err() {
                return;
            }
        }
    });
}

fn routes(settings: &Settings) -> Result<Vec<(String, Vec<usize>)>, Error> {
    let find = |name: &String| {
        settings
            .ways
            .iter()
            .position(|w| w.name == *name)
            .ok_or_else(|| Error::Settings(format!("a route names the way {name:?}, and there is none of that name")))
    };
    settings.routes.iter().map(|r| Ok((r.prefix.clone(), r.ways.iter().map(find).collect::<Result<Vec<_>, Error>>()?))).collect()
}

fn as_ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}
