//! The queue at work: claims what is due, keeps to the limits of each destination, writes down what became of it.
//!
//! One task an entry; it splits the recipients by destination and tries the destinations beside each other. A destination
//! that cannot be reached rests, longer each time, so that mail for a dead server costs one attempt and not a thousand.
//!
//! What was delivered is written down at once, transaction by transaction, so that a kill repeats no more than what was on
//! its way; deferrals and failures wait for the end of the entry's round, so that the sender gets one report and not fifty.
//! A message is read only when there is a place for it, so that memory is bounded by the connections and not by the claims.

mod destination;
mod errands;
mod settle;

use crate::Settings;
use crate::client::Trouble;
use crate::courier::{Courier, NoCourier};
use crate::dns::Dns;
use crate::route::NoRoute;
use crate::sevenbit::Message;
use crate::spool::{Entry, Recipient, RecipientUpdate, Reply, Spool, SpoolFault, State, Update};
use bytes::Bytes;
pub use destination::Status as DestinationStatus;
use destination::{Destinations, NoPlace};
use futures_util::FutureExt;
use parking_lot::Mutex;
use settle::{Fate, Wait};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use twinpost_message::QueueId;

/// Longest sleep without a look at the spool: guards against a clock that was set.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Entries claimed in one call.
const CLAIM_MAX: usize = 64;
/// How often idle connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause after a panic that could not even be written down.
const PANIC_PAUSE_S: i64 = 300;

/// The outbound queue.
pub struct Queue<S, D, C = NoCourier> {
    spool: S,
    destinations: Destinations<D>,
    courier: C,
    entries: Arc<Semaphore>,
    /// Entries that the courier may have at once.
    errands: Semaphore,
    /// The last turn given to an entry that found no room there (seconds since 1970 UTC), and how many have it.
    errand_turns: Mutex<(i64, i64)>,
    wake: Notify,
    at_work: Mutex<AtWork>,
}

/// Entries that tasks hold. A partial update ends the spool's claim, so that the spool may hand an entry out again while
/// its task still works on it: this list, and not the claim, keeps a recipient from being tried twice at once.
#[derive(Default)]
struct AtWork {
    /// The entries; true when the spool handed one out again, so that its claim has to be given back at the end.
    held: HashMap<QueueId, bool>,
    /// Entries that ended while a claim was under way: what the claim read of them may be old.
    ended: HashSet<QueueId>,
}

/// Ends an entry's stay in [`AtWork`], also when its task panics or is dropped.
struct Hold<'a, S: Spool, D: Dns, C: Courier>(&'a Queue<S, D, C>, QueueId);

impl<S: Spool, D: Dns, C: Courier> Drop for Hold<'_, S, D, C> {
    fn drop(&mut self) {
        let mut at_work = self.0.at_work.lock();
        at_work.ended.insert(self.1);
        if at_work.held.remove(&self.1) == Some(true) {
            self.0.spool.unclaim(self.1);
        }
    }
}

pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// What one entry's round works with.
struct Round<'a> {
    entry: &'a Entry,
    stop: &'a CancellationToken,
    /// Other destinations work beside: what is delivered is written down without waiting for them.
    alone: bool,
    /// Recipients whose fate is written down already.
    written: &'a Mutex<HashSet<u32>>,
}

impl<S: Spool, D: Dns> Queue<S, D> {
    /// A queue over this spool; all mail goes by SMTP.
    ///
    /// # Errors
    /// A sentence: the settings of TLS cannot be used.
    pub fn new(spool: S, dns: D, settings: Settings) -> Result<Arc<Self>, String> {
        Self::with_courier(spool, dns, NoCourier, settings)
    }
}

impl<S: Spool, D: Dns, C: Courier> Queue<S, D, C> {
    /// A queue over this spool; mail for the courier's domains goes by the courier.
    ///
    /// # Errors
    /// A sentence: the settings of TLS cannot be used.
    pub fn with_courier(spool: S, dns: D, courier: C, settings: Settings) -> Result<Arc<Self>, String> {
        let claims = settings.claims;
        let destinations = Destinations::new(dns, settings)?;
        let entries = Arc::new(Semaphore::new(claims.max(1)));
        let errands = Semaphore::new((claims / 2).max(1));
        let (wake, at_work) = (Notify::new(), Mutex::default());
        let errand_turns = Mutex::default();
        Ok(Arc::new(Self { spool, destinations, courier, entries, errands, errand_turns, wake, at_work }))
    }

    /// New rules, from the next try on. How many entries and connections there may be at once stays as it was.
    ///
    /// # Errors
    /// A sentence: the settings of TLS cannot be used; the old ones stay.
    pub fn set_settings(&self, settings: Settings) -> Result<(), String> {
        self.destinations.set_settings(settings)
    }

    fn settings(&self) -> Arc<destination::Rules> {
        self.destinations.rules()
    }

    /// Something may be due earlier than known (an operator said "retry").
    pub fn wake(&self) {
        self.destinations.forget_rests();
        self.wake.notify_one();
    }

    /// Destinations that are in use or rest.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        self.destinations.status()
    }

    /// Runs until the token is cancelled. Then dialogues end before they hand a message over; a message on its way may take
    /// [`Settings::stop_grace`] longer. What was not delivered is due again.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            let pause = match self.round(&tasks, &stop).await {
                Ok(pause) => pause,
                Err(fault) => {
                    tracing::error!(%fault, "the queue cannot read what waits; it tries again");
                    self.settings().settings.fault_pause
                }
            };
            let pause = tokio::time::sleep(pause);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = &mut pause => break,
                    () = self.spool.changed() => break,
                    () = self.wake.notified() => break,
                    _ = sweep.tick() => self.destinations.sweep(),
                }
            }
        }
        tasks.close();
        tasks.wait().await;
        self.destinations.close().await;
    }

    /// Claims what is due and starts it; gives the time until the next look.
    async fn round(self: &Arc<Self>, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Duration, SpoolFault> {
        loop {
            let free = self.entries.available_permits();
            if free == 0 || stop.is_cancelled() {
                // All places are taken: the next one that is free wakes the loop.
                return Ok(LOOK_EVERY);
            }
            self.at_work.lock().ended.clear();
            let entries = self.spool.claim(now_s(), free.min(CLAIM_MAX)).await?;
            if entries.is_empty() {
                let due = self.spool.next_due_s().await?;
                let wait = due.map_or(LOOK_EVERY, |at| {
                    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
                    at.duration_since(SystemTime::now()).unwrap_or_default()
                });
                return Ok(wait.clamp(Duration::from_millis(50), LOOK_EVERY));
            }
            for entry in entries {
                let id = entry.id;
                {
                    let mut at_work = self.at_work.lock();
                    if let Some(again) = at_work.held.get_mut(&id) {
                        *again = true;
                        continue;
                    }
                    if at_work.ended.contains(&id) {
                        drop(at_work);
                        self.spool.unclaim(id);
                        continue;
                    }
                    at_work.held.insert(id, false);
                }
                let Ok(place) = self.entries.clone().try_acquire_owned() else {
                    self.spool.unclaim(id);
                    self.at_work.lock().held.remove(&id);
                    continue;
                };
                let (queue, stop) = (self.clone(), stop.clone());
                tasks.spawn(async move {
                    {
                        let _hold = Hold(&queue, id);
                        queue.guarded(&entry, &stop).await;
                    }
                    drop(place);
                    queue.wake.notify_one();
                });
            }
        }
    }

    /// One try of an entry. A panic in it is a fault of ours: the entry waits, and the others go on.
    async fn guarded(&self, entry: &Entry, stop: &CancellationToken) {
        let written = Mutex::default();
        if AssertUnwindSafe(Box::pin(self.attempt(entry, stop, &written))).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(trace = %entry.trace, queue = %entry.id, "the queue met a fault of its own with this message; its recipients wait");
        let now = now_s();
        // What was delivered before the fault stays so.
        let written = written.into_inner();
        let recipients =
            entry.recipients.iter().filter(|r| r.next_try_s <= now && !written.contains(&r.n)).map(|r| RecipientUpdate {
                n: r.n,
                state: State::Waiting,
                next_try_s: now + PANIC_PAUSE_S,
                tried_s: Some(now),
                reply: Reply { code: 0, text: "4.3.0 a fault of this server; an operator has been told".to_owned() },
                delay_told: r.delay_told,
            });
        let update = Update { id: entry.id, recipients: recipients.collect(), reports: Vec::new() };
        if AssertUnwindSafe(self.write(entry, update, stop)).catch_unwind().await.is_err() {
            self.spool.unclaim(entry.id);
        }
    }

    async fn attempt(&self, entry: &Entry, stop: &CancellationToken, written: &Mutex<HashSet<u32>>) {
        let now = now_s();
        let mut fates = Vec::new();
        let mut elsewhere: BTreeMap<String, Vec<Recipient>> = BTreeMap::new();
        let mut errands = Vec::new();
        for recipient in entry.recipients.iter().filter(|r| r.next_try_s <= now).cloned() {
            if self.courier.takes(&recipient.address.domain().to_ascii_lowercase()) {
                errands.push(recipient);
                continue;
            }
            match self.spool.deliver_here(entry, &recipient).await {
                Some((state, reply)) => {
                    fates.push(Fate {
                        recipient,
                        state,
                        reply,
                        host: None,
                        courier: None,
                        words: None,
                        here: true,
                        reported_there: false,
                        wait: Wait::Tried,
                    });
                }
                None => elsewhere.entry(self.destinations.key(recipient.address.domain())).or_default().push(recipient),
            }
        }
        let ways = elsewhere.len() + usize::from(!errands.is_empty());
        let round = Round { entry, stop, alone: ways == 1, written };
        if ways > 0 {
            fates = self.settle_delivered(&round, fates).await;
        }
        let tries = elsewhere.into_iter().map(|(key, recipients)| self.try_destination(&round, key, recipients));
        let (tried, carried) = tokio::join!(futures_util::future::join_all(tries), Box::pin(self.by_courier(&round, errands)));
        fates.extend(tried.into_iter().flatten());
        fates.extend(carried);
        if fates.is_empty() {
            return self.spool.unclaim(entry.id);
        }
        self.settle(entry, fates, stop).await;
    }

    /// Tries one destination; gives what is not written down yet.
    async fn try_destination(&self, round: &Round<'_>, key: String, recipients: Vec<Recipient>) -> Vec<Fate> {
        let place = tokio::select! {
            biased;
            () = round.stop.cancelled() => {
                return Fate::all(recipients, &Trouble::Stopping.reply(), None, Wait::NotYet(now_s()));
            }
            place = self.destinations.enter(&key, self.entries.available_permits()) => place,
        };
        let mut place = match place {
            Ok(place) => place,
            Err(NoPlace::Rests { until_s, reason }) => {
                let reply = Reply { code: 0, text: format!("4.4.1 {key} rests after a failure: {reason}") };
                return Fate::all(recipients, &reply, None, Wait::Rests(until_s));
            }
            Err(NoPlace::Busy { until_s }) => {
                let reply = Reply { code: 0, text: format!("4.4.5 as much as {key} takes at once is on its way") };
                return Fate::all(recipients, &reply, None, Wait::NotYet(until_s));
            }
        };
        let message = match self.message(round, &recipients).await {
            Ok(bytes) => Message::new(bytes),
            Err(fates) => return fates,
        };
        let mut fates = Vec::with_capacity(recipients.len());
        let mut open = recipients;
        let mut fresh = false;
        while !open.is_empty() {
            let connection = tokio::select! {
                biased;
                connection = place.connection(fresh) => connection,
                () = round.stop.cancelled() => {
                    fates.extend(Fate::all(open, &Trouble::Stopping.reply(), None, Wait::NotYet(now_s())));
                    break;
                }
            };
            let mut connection = match connection {
                Ok(connection) => connection,
                Err(no_route) => {
                    fates.extend(self.no_route(&place, open, no_route));
                    break;
                }
            };
            let later = open.split_off(connection.recipients_max().min(open.len()));
            let refs: Vec<&Recipient> = open.iter().collect();
            let began = Instant::now();
            let kept = connection.used > 0;
            let sent = connection.send(round.entry, &refs, &message, round.stop).await;
            let host = connection.host.clone();
            let reported_there = connection.reports();
            let mut undecided = Vec::new();
            let (mut decided, mut delivered) = (0, false);
            for (recipient, reply) in open.into_iter().zip(sent.replies) {
                let Some(reply) = reply else {
                    undecided.push(recipient);
                    continue;
                };
                decided += 1;
                let state = self.state(&reply);
                delivered |= state == State::Delivered;
                let host = Some(host.clone());
                fates.push(Fate {
                    recipient,
                    state,
                    reply,
                    host,
                    courier: None,
                    words: None,
                    here: false,
                    reported_there,
                    wait: Wait::Tried,
                });
            }
            undecided.extend(later);
            open = undecided;
            match sent.trouble {
                None => {
                    place.worked(began.elapsed().as_secs_f64());
                    place.give_back(connection).await;
                    fresh = false;
                }
                // One that was kept may have been closed by the other side meanwhile: that says nothing of the destination.
                Some(trouble) if kept && !fresh && decided == 0 && !sent.data_ended && trouble != Trouble::Stopping => {
                    fresh = true;
                }
                Some(Trouble::Stopping) => {
                    let wait = if sent.data_ended { Wait::Tried } else { Wait::NotYet(now_s()) };
                    fates.extend(Fate::all(open, &Trouble::Stopping.reply(), None, wait));
                    break;
                }
                Some(trouble) => {
                    let reply = trouble.reply();
                    // 421: the whole server goes, not this mail (RFC 5321 3.8).
                    let rest = match trouble {
                        Trouble::Refused(_) => Some(place.failed(&reply.text)),
                        _ => place.broke(&reply.text),
                    };
                    fates.extend(Fate::all(open, &reply, Some(&host), rest.map_or(Wait::Tried, Wait::TriedThenRests)));
                    break;
                }
            }
            if delivered && !(round.alone && open.is_empty()) {
                fates = self.settle_delivered(round, fates).await;
            }
        }
        fates
    }

    /// The bytes of the round's message; the recipients wait when it cannot be read.
    async fn message(&self, round: &Round<'_>, recipients: &[Recipient]) -> Result<Bytes, Vec<Fate>> {
        self.spool.body(round.entry).await.map_err(|fault| {
            tracing::error!(trace = %round.entry.trace, queue = %round.entry.id, %fault, "the message cannot be read; its recipients wait");
            let text = "4.3.0 the message cannot be read from the store; an operator has been told".to_owned();
            Fate::all(recipients.to_vec(), &Reply { code: 0, text }, None, Wait::Tried)
        })
    }

    /// No connection could be had for these.
    fn no_route(&self, place: &destination::Place<'_, D>, recipients: Vec<Recipient>, no_route: NoRoute) -> Vec<Fate> {
        let NoRoute { permanent, code, text, host } = no_route;
        let reply = Reply { code: if host.is_some() { code } else { 0 }, text };
        if permanent {
            let mut fates = Fate::all(recipients, &reply, host.as_deref(), Wait::Tried);
            fates.iter_mut().for_each(|f| f.state = State::Failed);
            return fates;
        }
        let until_s = place.failed(&reply.text);
        Fate::all(recipients, &reply, host.as_deref(), Wait::TriedThenRests(until_s))
    }

    /// RFC 5321 4.2.1
    fn state(&self, reply: &Reply) -> State {
        match reply.code {
            200..=299 => State::Delivered,
            // RFC 4954 6: the smart host wants another sign-in; the operator has to mend that, and the mail waits.
            530 | 534 | 535 | 538 if self.settings().settings.smart_host.is_some() => State::Waiting,
            500..=599 => State::Failed,
            _ => State::Waiting,
        }
    }
}

fn from_trouble(trouble: &Trouble, host: Option<&str>) -> NoRoute {
    let reply = trouble.reply();
    let said = matches!(trouble, Trouble::Refused(_));
    let host = if said { host.map(str::to_owned) } else { None };
    NoRoute { permanent: trouble.is_permanent(), code: reply.code, text: reply.text, host }
}
