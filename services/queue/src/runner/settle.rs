//! Fates into updates, reports and log lines.

use super::{Queue, Round, now_s};
use crate::courier::{Courier, Kind};
use crate::dns::Dns;
use crate::dsn::{About, Action, Notice};
use crate::schedule::{Next, after_deferral};
use crate::spool::{Entry, Recipient, RecipientUpdate, Reply, Report, Spool, State, Update};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use twinpost_message::TraceId;

/// Writes of an outcome that are tried after the stop.
const WRITES_AFTER_STOP: usize = 3;

/// What a recipient that goes on waiting waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Somebody was asked: the schedule says when again.
    Tried,
    /// The same, but not before this time (seconds since 1970 UTC).
    TriedThenRests(i64),
    /// Somebody was asked and named the time of the next try (seconds since 1970 UTC).
    TriedUntil(i64),
    /// Nobody was asked: its destination rests until then. That is no attempt.
    Rests(i64),
    /// It has not had its turn, which comes then: it is not given up for that.
    NotYet(i64),
}

/// What became of one recipient, before it is put into words for the spool and the sender.
pub(super) struct Fate {
    pub recipient: Recipient,
    pub state: State,
    pub reply: Reply,
    pub host: Option<String>,
    /// It went by the courier.
    pub courier: Option<Kind>,
    /// The reply in the sender's own language.
    pub words: Option<String>,
    /// It arrived: on this site, or the courier has word of it.
    pub here: bool,
    /// The other side reports success by itself.
    pub reported_there: bool,
    pub wait: Wait,
}

impl Fate {
    /// All of these wait for the same reason.
    pub fn all(recipients: Vec<Recipient>, reply: &Reply, host: Option<&str>, wait: Wait) -> Vec<Self> {
        let fate = |recipient| Self {
            recipient,
            state: State::Waiting,
            reply: reply.clone(),
            host: host.map(str::to_owned),
            courier: None,
            words: None,
            here: false,
            reported_there: false,
            wait,
        };
        recipients.into_iter().map(fate).collect()
    }
}

/// Reports in the making: recipients by what happened to them.
#[derive(Default)]
struct Told {
    failed: Vec<About>,
    delayed: Vec<About>,
    relayed: Vec<About>,
    delivered: Vec<About>,
}

impl<S: Spool, D: Dns, C: Courier> Queue<S, D, C> {
    /// Writes down those that were delivered, and gives back the others.
    pub(super) async fn settle_delivered(&self, round: &Round<'_>, fates: Vec<Fate>) -> Vec<Fate> {
        let (delivered, others): (Vec<_>, Vec<_>) = fates.into_iter().partition(|f| f.state == State::Delivered);
        if !delivered.is_empty() {
            round.written.lock().extend(delivered.iter().map(|f| f.recipient.n));
            self.settle(round.entry, delivered, round.stop).await;
        }
        others
    }

    /// Writes the fates down, with the reports they make, and logs one line each.
    pub(super) async fn settle(&self, entry: &Entry, fates: Vec<Fate>, stop: &CancellationToken) {
        let now = now_s();
        let mut told = Told::default();
        let recipients = fates.into_iter().map(|fate| self.outcome(entry, fate, now, &mut told)).collect();
        let mut reports = Vec::new();
        let Told { failed, delayed, relayed, delivered } = told;
        // RFC 5321 6.1: no report about a message that had no return path.
        if let Some(sender) = entry
            .sender
            .as_ref()
            .filter(|_| !(failed.is_empty() && delayed.is_empty() && relayed.is_empty() && delivered.is_empty()))
        {
            // A report without the message in it is better than none.
            let message = self.spool.body(entry).await.unwrap_or_default();
            let kinds = [
                (Action::Failed, failed),
                (Action::Delayed, delayed),
                (Action::Relayed, relayed),
                (Action::Delivered, delivered),
            ];
            for (action, about) in kinds.into_iter().filter(|(_, about)| !about.is_empty()) {
                reports.push(self.report(entry, sender, action, &about, &message, now));
            }
        }
        self.write(entry, Update { id: entry.id, recipients, reports }, stop).await;
    }

    fn outcome(&self, entry: &Entry, fate: Fate, now: i64, told: &mut Told) -> RecipientUpdate {
        let Fate { recipient, mut state, reply, host, courier, words, here, reported_there, wait } = fate;
        let tried = matches!(wait, Wait::Tried | Wait::TriedThenRests(_) | Wait::TriedUntil(_));
        let attempts = recipient.attempts.saturating_add(u32::from(tried));
        let mut update = RecipientUpdate {
            n: recipient.n,
            state,
            next_try_s: now,
            tried_s: tried.then_some(now),
            reply: reply.clone(),
            delay_told: recipient.delay_told,
        };
        let mut about =
            About { address: recipient.address, orcpt: recipient.orcpt, reply, host, courier, words, retry_until_s: None };
        if state == State::Waiting {
            let spread = rand::random::<f64>();
            let next = after_deferral(
                &self.settings().settings,
                now,
                entry.created_s,
                entry.expires_s,
                attempts,
                recipient.delay_told,
                spread,
            );
            let last_chance_s = entry.expires_s.max(now + 1);
            match (next, wait) {
                (_, Wait::NotYet(at_s)) => update.next_try_s = at_s,
                (Next::Expired, _) => {
                    state = State::Failed;
                    let text = if about.reply.text.is_empty() { "4.4.7 no answer" } else { &about.reply.text };
                    about.reply.text = format!("{text} (given up after {attempts} tries)");
                }
                (Next::Retry { at_s, warn }, wait) => {
                    let at_s = match wait {
                        Wait::TriedThenRests(until_s) => at_s.max(until_s),
                        Wait::Rests(until_s) | Wait::TriedUntil(until_s) => until_s.max(now + 1),
                        Wait::Tried | Wait::NotYet(_) => at_s,
                    };
                    update.next_try_s = at_s.min(last_chance_s);
                    if warn && recipient.notify.delay {
                        update.delay_told = true;
                        about.retry_until_s = Some(entry.expires_s);
                        told.delayed.push(about.clone());
                    }
                }
            }
            update.state = state;
            update.reply = about.reply.clone();
        }
        let verb = match state {
            State::Delivered => "delivered",
            State::Waiting => "deferred",
            State::Failed => "bounced",
        };
        let sender = entry.sender.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string);
        let host = about.host.as_deref().unwrap_or("-");
        let age_s = now.saturating_sub(entry.created_s);
        // A line is an outcome: what has not had its turn has none yet.
        if tried || state != State::Waiting {
            tracing::info!(trace = %entry.trace, queue = %entry.id, from = %sender, to = %about.address, host, code = about.reply.code, reply = %about.reply.text, attempts, age_s, "{verb}");
        } else {
            tracing::debug!(trace = %entry.trace, queue = %entry.id, from = %sender, to = %about.address, reply = %about.reply.text, attempts, age_s, "put off");
        }
        match state {
            State::Failed if recipient.notify.failure => told.failed.push(about),
            State::Delivered if recipient.notify.success && here => told.delivered.push(about),
            // RFC 3461 5.2.2: a server that speaks DSN reports by itself.
            State::Delivered if recipient.notify.success && !reported_there => told.relayed.push(about),
            _ => {}
        }
        update
    }

    /// The outcome is known here and nowhere else: it is written until it is written. After the stop only a few times: then
    /// the recipients are due again, and those that were delivered are sent twice rather than lost.
    pub(super) async fn write(&self, entry: &Entry, update: Update, stop: &CancellationToken) {
        let mut left = WRITES_AFTER_STOP;
        loop {
            match self.spool.update(update.clone()).await {
                Ok(()) => return,
                Err(fault) if stop.is_cancelled() && left == 0 => {
                    tracing::error!(trace = %entry.trace, queue = %entry.id, %fault, "the outcome of a try is not written: the server stops; it is tried again after the start");
                    return;
                }
                Err(fault) => {
                    tracing::error!(trace = %entry.trace, queue = %entry.id, %fault, "the outcome of a try cannot be written; it is tried again");
                    left -= usize::from(stop.is_cancelled());
                    tokio::select! {
                        () = tokio::time::sleep(self.settings().settings.fault_pause) => {}
                        () = stop.cancelled(), if !stop.is_cancelled() => {}
                    }
                }
            }
        }
    }

    fn report(
        &self,
        entry: &Entry,
        to: &twinpost_message::Address,
        action: Action,
        about: &[About],
        message: &Bytes,
        now_s: i64,
    ) -> Report {
        let trace = TraceId(rand::random());
        let notice = Notice {
            host_name: &self.settings().settings.host_name,
            sender: to,
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
        tracing::info!(trace = %trace, about = %entry.trace, to = %to, "reported to the sender: {action:?}");
        Report { to: to.clone(), message: notice.build(), trace }
    }
}
