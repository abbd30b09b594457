//! What clients ask of the engine, and what follows when the book has answered.

use super::inbound::Held;
use super::{Engine, as_ms};
use crate::api::{Answer, Count, Event, Incoming, QueueEntry, ResetStep, SmsState, State, Status};
use crate::book::{self, Draft, Op};
use crate::desk::status_of_record;
use crate::orders::Orders;
use crate::reasons;
use crate::settings::Settings;
use crate::transport::Transport;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// One question of a client.
#[derive(Debug)]
pub(crate) enum Ask {
    Submit { draft: Box<Draft>, reply: oneshot::Sender<Answer> },
    Cancel { key: String, reply: oneshot::Sender<Answer> },
    Follow { key: String, reply: oneshot::Sender<Option<watch::Receiver<Status>>> },
    Queue { most: usize, reply: oneshot::Sender<(Vec<QueueEntry>, u32)> },
    State { reply: oneshot::Sender<State> },
    List { after: u64, most: u32, reply: oneshot::Sender<Vec<Incoming>> },
    Take { id: u64, reply: oneshot::Sender<Answer> },
    Reset { step: Option<ResetStep>, reply: oneshot::Sender<Answer> },
    Statistics { days: u32, reply: oneshot::Sender<Vec<Count>> },
}

/// The clients' end. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EngineHandle {
    pub asks: mpsc::Sender<Ask>,
    /// At each change of a way or a trouble.
    pub state: watch::Receiver<State>,
    pub events: broadcast::Sender<Event>,
    /// The highest id of an incoming message; changes with each.
    pub arrivals: watch::Receiver<u64>,
    pub settings: Arc<Settings>,
}

/// Who waits for a ticket's answer.
#[derive(Debug)]
pub(super) enum Waiter {
    Client(oneshot::Sender<Answer>),
    /// The answer to an order: the incoming message is done when the answer is in the queue.
    Order {
        incoming: u64,
    },
}

/// What follows when the book has done a job of the engine's own.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    Cancel(oneshot::Sender<Answer>),
    Follow(oneshot::Sender<Option<watch::Receiver<Status>>>),
    List(oneshot::Sender<Vec<Incoming>>),
    Take(Option<oneshot::Sender<Answer>>),
    Statistics(oneshot::Sender<Vec<Count>>),
    Stored(Held),
    Given,
    OrdersLeft,
    Switch { incoming: u64, from: String, language: crate::orders::Language },
}

impl<T: Transport, O: Orders> Engine<T, O> {
    pub(super) fn asked(&mut self, ask: Ask) {
        let now = self.clock.now_ms();
        match ask {
            Ask::Submit { mut draft, reply } => {
                // The client's task has no clock: the draft begins now, and ends a validity later.
                let validity = draft.deadline_ms - draft.submitted_ms;
                draft.submitted_ms = now;
                draft.deadline_ms = now.saturating_add(validity);
                let ticket = self.ticket(Waiter::Client(reply));
                self.desk.submit(now, ticket, *draft);
            }
            Ask::Cancel { key, reply } => match self.desk.cancel(now, &key) {
                Some(status) => {
                    let _ = reply.send(Answer::Status(status));
                }
                None => self.own_job(vec![Op::Find { key }], false, After::Cancel(reply)),
            },
            Ask::Follow { key, reply } => match self.desk.status(now, &key) {
                Some(status) => {
                    let _ = reply.send(Some(self.follower(status)));
                }
                None => self.own_job(vec![Op::Find { key }], false, After::Follow(reply)),
            },
            Ask::Queue { most, reply } => {
                let _ = reply.send(self.desk.queue(now, most));
            }
            Ask::State { reply } => {
                let _ = reply.send(self.state_now());
            }
            Ask::List { after, most, reply } => {
                self.own_job(vec![Op::List { after, most }], false, After::List(reply));
            }
            Ask::Take { id, reply } => self.own_job(vec![Op::Take { id }], false, After::Take(Some(reply))),
            Ask::Reset { step, reply } => {
                let modems = self.ways.iter().filter(|(_, w)| w.kind() == crate::api::Kind::Modem);
                for (name, transport) in modems {
                    tracing::warn!(way = %name, ?step, "reset by order");
                    let transport = transport.clone();
                    tokio::spawn(async move { transport.reset(step.unwrap_or(ResetStep::Attention)).await });
                }
                let _ = reply.send(Answer::Done);
            }
            Ask::Statistics { days, reply } => {
                let today = u32::try_from(now / as_ms(std::time::Duration::from_secs(86_400))).unwrap_or(0);
                let from_day = today.saturating_sub(days.clamp(1, 400) - 1);
                self.own_job(vec![Op::Statistics { from_day }], false, After::Statistics(reply));
            }
        }
    }

    pub(super) fn ticket(&mut self, waiter: Waiter) -> u64 {
        self.next += 1;
        self.waiters.insert(self.next, waiter);
        self.next
    }

    pub(super) fn reply(&mut self, ticket: u64, answer: Answer) {
        match self.waiters.remove(&ticket) {
            // A client that has gone asks again with the same key.
            Some(Waiter::Client(reply)) => drop(reply.send(answer)),
            Some(Waiter::Order { incoming }) => {
                if let Answer::Refused { reason } = &answer {
                    tracing::error!(incoming, reason = %reason.text, "the answer to an order cannot be sent");
                }
                self.own_job(vec![Op::Take { id: incoming }], true, After::Take(None));
            }
            None => {}
        }
    }

    fn follower(&mut self, status: Status) -> watch::Receiver<Status> {
        if let Some(follower) = self.followers.get(&status.key) {
            return follower.subscribe();
        }
        let key = status.key.clone();
        let more = status.more;
        let (follower, receiver) = watch::channel(status);
        if more {
            self.followers.insert(key, follower);
        }
        receiver
    }

    pub(super) fn own_done(&mut self, now: i64, after: After, result: Result<Vec<book::Answer>, String>) {
        if let After::Stored(held) = after {
            return self.stored(now, held, result);
        }
        let failed = result.as_ref().err().cloned();
        let answer = result.ok().and_then(|mut answers| answers.pop());
        match (after, answer) {
            (After::Cancel(reply), Some(book::Answer::Found(record))) => {
                let answer = match record {
                    Some(record) => Answer::Status(status_of_record(&record, false)),
                    None => Answer::Error { text: "no such key".into() },
                };
                let _ = reply.send(answer);
            }
            (After::Follow(reply), Some(book::Answer::Found(record))) => {
                // It may have come to the desk while the book searched.
                let status = record.map(|r| match self.desk.status(now, &r.draft.key) {
                    Some(status) => status,
                    None => left_over(&r),
                });
                let receiver = status.map(|s| self.follower(s));
                let _ = reply.send(receiver);
            }
            (After::List(reply), Some(book::Answer::Listed(found))) => {
                let messages = found.into_iter().map(|(m, _)| m).filter(|m| !self.is_order(m));
                let _ = reply.send(messages.collect());
            }
            (After::Take(reply), Some(book::Answer::Taken(there))) => {
                if there {
                    self.incoming = self.incoming.saturating_sub(1);
                }
                if let Some(reply) = reply {
                    let _ = reply.send(Answer::Done);
                }
            }
            (After::Take(reply), _) => {
                if let Some(reply) = reply {
                    let text = failed.unwrap_or_else(|| "the spool did not say whether it was done".into());
                    let _ = reply.send(Answer::Error { text });
                }
            }
            (After::Statistics(reply), Some(book::Answer::Counted(counts))) => {
                let _ = reply.send(counts);
            }
            (After::Given, Some(book::Answer::Given(given))) => {
                for message in given {
                    self.arrived(now, &message);
                }
            }
            (After::OrdersLeft, Some(book::Answer::Listed(found))) => self.take_up_orders(now, found),
            (After::Switch { incoming, from, language }, Some(_)) => self.carry_out_switch(incoming, from, language),
            // Dropped replies tell the client that it failed; everything else is tried again by its own schedule.
            (_, _) => {
                if let Some(what) = failed {
                    tracing::error!(error = %what, "the SMS spool did not do a job");
                }
            }
        }
    }
}

/// The status of a message that is in the book and not on the desk.
fn left_over(record: &book::Record) -> Status {
    let waits = matches!(record.state, SmsState::Queued | SmsState::Sending | SmsState::Waiting);
    let mut status = status_of_record(record, waits);
    if waits {
        status.state = SmsState::Waiting;
        status.reason = Some(reasons::restarted());
    }
    status
}
