//! The queue at work: claims what is due, keeps to the limits of each destination, writes down what became of it.
//!
//! One task an entry; it splits the recipients by destination and tries the destinations beside each other. A destination
//! that cannot be reached rests, longer each time, so that mail for a dead server costs one attempt and not a thousand.

mod destination;

use crate::client::Trouble;
use crate::dns::Dns;
use crate::dsn::{About, Action, Notice};
use crate::schedule::{Next, after_deferral};
use crate::spool::{Entry, Recipient, RecipientUpdate, Reply, Report, Spool, SpoolFault, State, Update};
use crate::{Settings, route};
use bytes::Bytes;
use destination::Destinations;
pub use destination::Status as DestinationStatus;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use twinpost_message::TraceId;

/// Pause after a fault of the store.
const FAULT_PAUSE: Duration = Duration::from_secs(5);
/// Longest sleep without a look at the spool: guards against a clock that was set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The outbound queue.
pub struct Queue<S, D> {
    spool: S,
    destinations: Destinations<D>,
    settings: Settings,
    entries: Arc<Semaphore>,
    wake: Notify,
}

/// What became of one recipient, before it is put into words for the spool and the sender.
struct Fate {
    recipient: Recipient,
    state: State,
    reply: Reply,
    host: Option<String>,
    /// The other side reports success by itself.
    reported_there: bool,
    /// Not tried before this time (seconds since 1970 UTC), whatever the schedule says.
    not_before_s: Option<i64>,
    /// Somebody was asked; a destination that rests is not an attempt.
    tried: bool,
}

fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

impl<S: Spool, D: Dns> Queue<S, D> {
    /// A queue over this spool.
    ///
    /// # Errors
    /// A sentence: the settings of TLS cannot be used.
    pub fn new(spool: S, dns: D, settings: Settings) -> Result<Arc<Self>, String> {
        let destinations = Destinations::new(dns, settings.clone())?;
        let entries = Arc::new(Semaphore::new(settings.claims));
        Ok(Arc::new(Self { spool, destinations, settings, entries, wake: Notify::new() }))
    }

    /// Something may be due earlier than known (an operator said "retry").
    pub fn wake(&self) {
        self.destinations.forget_rests();
        self.wake.notify_one();
    }

    /// Destinations that are in use or rest.
    pub fn destinations(&self) -> Vec<DestinationStatus> {
        self.destinations.status(now_s())
    }

    /// Runs until the token is cancelled; tries that are on their way then may end.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        while !stop.is_cancelled() {
            let pause = match self.round(&tasks, &stop).await {
                Ok(pause) => pause,
                Err(fault) => {
                    tracing::error!(%fault, "the queue cannot read what waits; it tries again");
                    FAULT_PAUSE
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
                () = self.spool.changed() => {}
                () = self.wake.notified() => {}
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
            if free == 0 {
                // All places are taken: the next one that is free wakes the loop.
                return Ok(LOOK_EVERY);
            }
            let entries = self.spool.claim(now_s(), free.min(64)).await?;
            if entries.is_empty() {
                let due = self.spool.next_due_s().await?;
                let wait = due.map_or(LOOK_EVERY, |at| Duration::from_secs(u64::try_from(at - now_s()).unwrap_or(0)));
                return Ok(wait.clamp(Duration::from_millis(50), LOOK_EVERY));
            }
            for entry in entries {
                let Ok(place) = self.entries.clone().try_acquire_owned() else {
                    self.spool.unclaim(entry.id);
                    continue;
                };
                let (queue, stop) = (self.clone(), stop.clone());
                tasks.spawn(async move {
                    queue.attempt(entry, &stop).await;
                    drop(place);
                    queue.wake.notify_one();
                });
            }
        }
    }

    async fn attempt(&self, entry: Entry, stop: &CancellationToken) {
        let now = now_s();
        let due: Vec<Recipient> = entry.recipients.iter().filter(|r| r.next_try_s <= now).cloned().collect();
        let message = match self.spool.body(&entry).await {
            Ok(message) => message,
            Err(fault) => {
                tracing::error!(trace = %entry.trace, queue = %entry.id, %fault, "the message cannot be read; its recipients wait");
                let reply = Reply {
                    code: 0,
                    text: "4.3.0 the message cannot be read from the store; an operator has been told".to_owned(),
                };
                let fates = due.into_iter().map(|r| Fate {
                    recipient: r,
                    state: State::Waiting,
                    reply: reply.clone(),
                    host: None,
                    reported_there: false,
                    not_before_s: None,
                    tried: true,
                });
                return self.settle(&entry, fates.collect(), &Bytes::new(), now).await;
            }
        };
        let mut fates = Vec::with_capacity(due.len());
        let mut elsewhere: BTreeMap<String, Vec<Recipient>> = BTreeMap::new();
        for recipient in due {
            match self.spool.deliver_here(&entry, &recipient).await {
                Some((state, reply)) => {
                    fates.push(Fate {
                        recipient,
                        state,
                        reply,
                        host: None,
                        reported_there: false,
                        not_before_s: None,
                        tried: true,
                    });
                }
                None => elsewhere.entry(self.destinations.key(recipient.address.domain())).or_default().push(recipient),
            }
        }
        let tries = elsewhere.into_iter().map(|(key, recipients)| self.try_destination(&entry, key, recipients, &message, stop));
        for tried in futures_util::future::join_all(tries).await {
            fates.extend(tried);
        }
        self.settle(&entry, fates, &message, now_s()).await;
    }

    async fn try_destination(
        &self,
        entry: &Entry,
        key: String,
        recipients: Vec<Recipient>,
        message: &Bytes,
        stop: &CancellationToken,
    ) -> Vec<Fate> {
        let all = |recipients: Vec<Recipient>,
                   state: State,
                   reply: &Reply,
                   host: Option<&str>,
                   not_before_s: Option<i64>,
                   tried: bool| {
            let fate = |recipient| Fate {
                recipient,
                state,
                reply: reply.clone(),
                host: host.map(str::to_owned),
                reported_there: false,
                not_before_s,
                tried,
            };
            recipients.into_iter().map(fate).collect::<Vec<_>>()
        };
        let place = tokio::select! {
            place = self.destinations.enter(&key, now_s()) => place,
            () = stop.cancelled() => {
                let reply = Reply { code: 0, text: "4.3.2 the server is stopping".to_owned() };
                return all(recipients, State::Waiting, &reply, None, Some(now_s()), false);
            }
        };
        let mut place = match place {
            Ok(place) => place,
            Err(rest) => {
                let reply = Reply { code: 0, text: format!("4.4.1 {key} rests after a failure: {}", rest.reason) };
                return all(recipients, State::Waiting, &reply, None, Some(rest.until_s), false);
            }
        };
        let refs: Vec<&Recipient> = recipients.iter().collect();
        // A connection that was kept may have been closed by the other side meanwhile: then a new one is made, once.
        let mut fresh = false;
        let outcome = loop {
            let mut connection = match place.connection(fresh).await {
                Ok(connection) => connection,
                Err(no_route) => break Err((no_route, None)),
            };
            let host = connection.host.clone();
            let kept = connection.used > 0;
            match connection.send(entry, &refs, message).await {
                Ok(replies) => {
                    let reports = connection.reports();
                    place.give_back(connection).await;
                    break Ok((replies, host, reports));
                }
                Err(_) if kept && !fresh => fresh = true,
                Err(trouble) => break Err((from_trouble(&trouble), Some(host))),
            }
        };
        match outcome {
            Ok((replies, host, reports)) => {
                place.worked();
                let fates = recipients.into_iter().zip(replies).map(|(recipient, reply)| {
                    let state = match reply.code / 100 {
                        2 => State::Delivered,
                        5 => State::Failed,
                        _ => State::Waiting,
                    };
                    Fate {
                        recipient,
                        state,
                        reply,
                        host: Some(host.clone()),
                        reported_there: reports,
                        not_before_s: None,
                        tried: true,
                    }
                });
                fates.collect()
            }
            Err((no_route, host)) => {
                let reply = Reply { code: if host.is_none() { 0 } else { no_route.code }, text: no_route.text };
                if no_route.permanent {
                    return all(recipients, State::Failed, &reply, host.as_deref(), None, true);
                }
                let until_s = place.failed(&reply.text, now_s());
                all(recipients, State::Waiting, &reply, host.as_deref(), Some(until_s), true)
            }
        }
    }

    /// Writes the fates down, with the reports they make, and logs one line each.
    async fn settle(&self, entry: &Entry, fates: Vec<Fate>, message: &Bytes, now: i64) {
        let mut updates = Vec::with_capacity(fates.len());
        let (mut failed, mut delayed, mut relayed) = (Vec::new(), Vec::new(), Vec::new());
        let sender = entry.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string);
        for fate in fates {
            let Fate { recipient, mut state, reply, host, reported_there, not_before_s, tried } = fate;
            let attempts = recipient.attempts + u32::from(tried);
            let mut update = RecipientUpdate {
                n: recipient.n,
                state,
                next_try_s: now,
                tried_s: tried.then_some(now),
                reply: reply.clone(),
                delay_told: recipient.delay_told,
            };
            let mut about =
                About { address: recipient.address.clone(), orcpt: recipient.orcpt.clone(), reply, host, retry_until_s: None };
            if state == State::Waiting {
                match after_deferral(
                    &self.settings,
                    now,
                    entry.created_s,
                    entry.expires_s,
                    attempts,
                    recipient.delay_told,
                    rand::random::<f64>(),
                ) {
                    Next::Expired => {
                        state = State::Failed;
                        about.reply.text = format!("{} (given up after {} tries)", about.reply.text, attempts);
                    }
                    Next::Retry { at_s, warn } => {
                        update.next_try_s = not_before_s.map_or(at_s, |t| at_s.max(t)).min(entry.expires_s.max(now + 1));
                        if warn && recipient.notify.delay {
                            update.delay_told = true;
                            about.retry_until_s = Some(entry.expires_s);
                            delayed.push(about.clone());
                        }
                    }
                }
                update.state = state;
            }
            let verb = match state {
                State::Delivered => "delivered",
                State::Waiting => "deferred",
                State::Failed => "bounced",
            };
            tracing::info!(trace = %entry.trace, queue = %entry.id, from = %sender, to = %recipient.address, host = about.host.as_deref().unwrap_or("-"), code = about.reply.code, reply = %about.reply.text, attempts, age_s = now - entry.created_s, "{verb}");
            match state {
                State::Failed if recipient.notify.failure => failed.push(about),
                State::Delivered if recipient.notify.success && !reported_there => relayed.push(about),
                _ => {}
            }
            updates.push(update);
        }
        let reports = [(Action::Failed, failed), (Action::Delayed, delayed), (Action::Relayed, relayed)];
        let reports = reports
            .into_iter()
            .filter(|(_, about)| !about.is_empty())
            .filter_map(|(action, about)| self.report(entry, action, &about, message, now));
        let update = Update { id: entry.id, recipients: updates, reports: reports.collect() };
        loop {
            // The outcome is known here and nowhere else: it is written until it is written, or the process ends.
            match self.spool.update(update.clone()).await {
                Ok(()) => return,
                Err(fault) => {
                    tracing::error!(trace = %entry.trace, queue = %entry.id, %fault, "the outcome of a try cannot be written; it is tried again");
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
            }
        }
    }

    fn report(&self, entry: &Entry, action: Action, about: &[About], message: &Bytes, now_s: i64) -> Option<Report> {
        // RFC 5321 6.1: no report about a message that had no return path.
        let sender = entry.sender.as_ref()?;
        let trace = TraceId(rand::random());
        let notice = Notice {
            host_name: &self.settings.host_name,
            sender,
            action,
            about,
            envid: entry.envid.as_deref(),
            ret: entry.ret,
            arrived_s: entry.created_s,
            now_s,
            original: message,
            about_trace: entry.trace,
            trace,
        };
        tracing::info!(trace = %trace, about = %entry.trace, to = %sender, "reported to the sender: {action:?}");
        Some(Report { to: sender.clone(), message: notice.build(), trace })
    }
}

fn from_trouble(trouble: &Trouble) -> route::NoRoute {
    let reply = trouble.reply();
    route::NoRoute { permanent: trouble.is_permanent(), code: reply.code, text: reply.text }
}
