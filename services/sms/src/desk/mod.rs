//! The desk: decides which part goes when and by which way, and what follows from each outcome. Pure: no I/O, no
//! clock, no randomness; time, commits and outcomes come in, jobs for the book and parcels for the ways go out.
//!
//! Contract: a part is given to a way only after the book has written it as handed out; what happened is told
//! ([`Effect::Publish`], [`Effect::Reply`], [`Effect::Confirm`]) only after the book has written it. So a restart at any
//! moment finds either a part that certainly did not leave, or one that is sent again and marked as a possible
//! duplicate, or one that is never sent again. Alarms are the exception that the disk may force: one that the book
//! refuses is sent from memory.
//!
//! Order: class (alarm, notice, person), then fairness between accounts within the class, then age. Before each part
//! the choice is made anew, so an alarm goes between two parts of a long text. Failure classes: those of
//! [`crate::transport::Outcome`]; a message's own trouble delays that message only, a way's trouble delays all of
//! that way and counts as nobody's attempt.

mod message;
mod outcome;
mod pick;
mod report;
#[cfg(test)]
mod tests;

pub(crate) use message::status_of_record;

use crate::api::{Answer, Class, Count, QueueEntry, SmsState, Status, Waiting};
use crate::book::{self, Draft, Job, Op, Record, Reference};
use crate::reasons;
use crate::settings::{Limits, Pace};
use crate::transport::{Parcel, Token};
use message::Message;
use pick::WayDesk;
use report::Early;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Numbers whose last TP-MRs are remembered.
const RECENT_NUMBERS: usize = 8192;
/// So many of each.
const RECENT_EACH: usize = 64;

/// What the desk wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Write this.
    Job(Job),
    /// Give this part to a way; its outcome comes back under the flight's number.
    Send { way: usize, flight: u64, parcel: Parcel },
    /// Answer the client.
    Reply { ticket: u64, answer: Answer },
    /// Tell those who follow the key.
    Publish(Status),
    /// What was received is stored.
    Confirm { way: usize, token: Token },
}

/// One way as the desk has to know it from the start.
#[derive(Debug, Clone)]
pub(crate) struct WaySpec {
    pub name: String,
    pub window: usize,
}

/// What waits for a commit.
#[derive(Debug)]
enum Pending {
    Admit(Box<Admission>),
    Hand { flight: u64 },
    Then(Vec<Effect>),
}

#[derive(Debug)]
struct Admission {
    ticket: u64,
    draft: Draft,
    express: Option<Express>,
}

/// A way that is kept free for a message whose first part is written as handed out together with the message.
#[derive(Debug, Clone, Copy)]
struct Express {
    way: usize,
    flight: u64,
    mr: u8,
}

/// A part that is with a way, or about to be.
#[derive(Debug, Clone, Copy)]
struct Flight {
    way: usize,
    message: u64,
    part: usize,
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Desk {
    pace: Pace,
    limits: Limits,
    /// Prefix, ways in order of preference; longest prefix first.
    routes: Vec<(String, Vec<usize>)>,
    ways: Vec<WayDesk>,
    messages: HashMap<u64, Message>,
    keys: HashMap<Arc<str>, u64>,
    /// May go now: class, place, message.
    turn: BTreeSet<(Class, u64, u64)>,
    /// May go later.
    later: BTreeSet<(i64, u64)>,
    /// Given up then.
    deadlines: BTreeSet<(i64, u64)>,
    /// Accepted; the report is waited for until then.
    reports: BTreeSet<(i64, u64)>,
    /// Accepted parts whose report is waited for.
    awaiting: HashMap<(usize, Reference), Vec<(u64, usize)>>,
    early: VecDeque<Early>,
    flights: HashMap<u64, Flight>,
    pending: HashMap<u64, Pending>,
    /// Messages on their way into the book, and unfinished ones, by class.
    entering: [u32; 3],
    unfinished: [u32; 3],
    /// The place up to which each account has been served, by class.
    served: HashMap<(Class, Option<Arc<str>>), u64>,
    place: [u64; 3],
    next: u64,
    mr: u8,
    recent_mrs: HashMap<Arc<str>, VecDeque<u8>>,
    effects: VecDeque<Effect>,
    /// The process ends: nothing more is given to a way.
    closing: bool,
    /// Changes of this turn, and what follows once they are written.
    ops: Vec<Op>,
    then: Vec<Effect>,
}

impl Desk {
    /// An empty desk. `last_mr`: the TP-MR that was used last. Every way is unable until [`Desk::way`] says otherwise.
    pub(crate) fn new(
        pace: Pace,
        limits: Limits,
        ways: Vec<WaySpec>,
        routes: Vec<(String, Vec<usize>)>,
        last_mr: u8,
        now: i64,
    ) -> Desk {
        let mut routes = routes;
        routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let ways = ways.into_iter().map(|w| WayDesk::new(w, &pace, now)).collect();
        Desk {
            pace,
            limits,
            routes,
            ways,
            messages: HashMap::new(),
            keys: HashMap::new(),
            turn: BTreeSet::new(),
            later: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            reports: BTreeSet::new(),
            awaiting: HashMap::new(),
            early: VecDeque::new(),
            flights: HashMap::new(),
            pending: HashMap::new(),
            entering: [0; 3],
            unfinished: [0; 3],
            served: HashMap::new(),
            place: [0; 3],
            next: 1,
            mr: last_mr,
            recent_mrs: HashMap::new(),
            effects: VecDeque::new(),
            closing: false,
            ops: Vec::new(),
            then: Vec::new(),
        }
    }

    /// The process ends: nothing more is given to a way.
    pub(crate) fn close_shop(&mut self) {
        self.closing = true;
    }

    /// Parts are with ways, or commits are waited for.
    pub(crate) fn busy(&self) -> bool {
        !self.flights.is_empty() || !self.pending.is_empty()
    }

    /// The TP-MRs that went out before the start, oldest first.
    pub(crate) fn remember_mrs(&mut self, sent: Vec<(String, u8)>) {
        for (to, mr) in sent {
            if self.recent_mrs.len() > RECENT_NUMBERS {
                return;
            }
            let recent = self.recent_mrs.entry(to.into()).or_default();
            if recent.len() >= RECENT_EACH {
                recent.pop_front();
            }
            recent.push_back(mr);
        }
    }

    /// What the book had open when the process ended.
    pub(crate) fn restore(&mut self, now: i64, records: Vec<Record>) {
        for record in records {
            let text: Arc<str> = record.draft.text.as_str().into();
            self.adopt(now, record, text);
        }
        self.settle(now);
    }

    /// A client hands in a message that was checked already.
    pub(crate) fn submit(&mut self, now: i64, ticket: u64, draft: Draft) {
        if let Some(id) = self.keys.get(draft.key.as_str()) {
            let m = &self.messages[id];
            let answer = if m.digest == draft.digest {
                Answer::Status(self.status_now(now, m))
            } else {
                Answer::Refused { reason: reasons::key_of_another() }
            };
            self.effects.push_back(Effect::Reply { ticket, answer });
            return;
        }
        let most = if draft.class == Class::Alarm { self.limits.alarms } else { self.limits.queue };
        if self.waiting_of(draft.class) >= most {
            self.effects.push_back(Effect::Reply { ticket, answer: Answer::Refused { reason: reasons::queue_full() } });
            return;
        }
        self.entering[draft.class as usize] += 1;
        let express = self.express(now, &draft);
        let op = Op::Admit {
            draft: Box::new(draft.clone()),
            way: express.map(|e| self.ways[e.way].spec.name.clone()),
            handed: express.map(|e| e.mr),
        };
        let tag = self.number();
        self.pending.insert(tag, Pending::Admit(Box::new(Admission { ticket, draft, express })));
        self.effects.push_back(Effect::Job(Job { tag, ops: vec![op], must: false }));
        self.settle(now);
    }

    /// The book has done (or refused) a job.
    pub(crate) fn committed(&mut self, now: i64, tag: u64, result: Result<Vec<book::Answer>, String>) {
        match self.pending.remove(&tag) {
            Some(Pending::Admit(admission)) => self.admitted(now, *admission, result),
            Some(Pending::Hand { flight }) => match result {
                Ok(_) => self.take_off(now, flight),
                Err(what) => self.grounded(now, flight, &what),
            },
            Some(Pending::Then(effects)) => self.effects.extend(effects),
            None => {}
        }
        self.settle(now);
    }

    fn admitted(&mut self, now: i64, admission: Admission, result: Result<Vec<book::Answer>, String>) {
        let Admission { ticket, draft, express } = admission;
        self.entering[draft.class as usize] -= 1;
        let parts = draft.parts;
        let (record, volatile) = match result {
            Ok(answers) => match answers.into_iter().next() {
                Some(book::Answer::Admitted { new: true, record }) => (*record, false),
                Some(book::Answer::Admitted { new: false, record }) => {
                    self.release(express);
                    let answer = self.known(now, *record, &draft);
                    self.effects.push_back(Effect::Reply { ticket, answer });
                    return;
                }
                other => {
                    self.release(express);
                    let text = format!("the book answered {other:?} to a new message");
                    self.effects.push_back(Effect::Reply { ticket, answer: Answer::Error { text } });
                    return;
                }
            },
            // Perhaps a broken disk is what the alarm is about.
            Err(_) if draft.class == Class::Alarm => (volatile_record(&draft, self.next, express), true),
            Err(what) => {
                self.release(express);
                self.effects.push_back(Effect::Reply { ticket, answer: Answer::Refused { reason: reasons::disk(&what) } });
                return;
            }
        };
        let key = draft.key.clone();
        let text: Arc<str> = draft.text.into();
        let id = self.number();
        let mut m = Message::from_record(record, text, express.map(|e| e.way), volatile);
        m.fair = self.place_for(&m);
        self.keys.insert(m.key.clone(), id);
        self.deadlines.insert((m.deadline_ms, id));
        self.unfinished[m.class as usize] += 1;
        if express.is_some() {
            m.flying = 1;
            m.parts[0].numbered = true;
            self.set_state(&mut m, now, SmsState::Sending, None);
        }
        if m.next_planned().is_some() {
            self.turn.insert((m.class, m.fair, id));
        }
        self.messages.insert(id, m);
        self.effects.push_back(Effect::Reply { ticket, answer: Answer::Accepted { key, parts, stored: !volatile } });
        if let Some(e) = express {
            self.flights.insert(e.flight, Flight { way: e.way, message: id, part: 0 });
            self.take_off(now, e.flight);
        }
    }

    /// A second submit of a key that only the book knew.
    fn known(&mut self, now: i64, record: Record, draft: &Draft) -> Answer {
        if record.draft.digest != draft.digest {
            return Answer::Refused { reason: reasons::key_of_another() };
        }
        let open = matches!(record.state, SmsState::Queued | SmsState::Sending | SmsState::Waiting);
        if !open || usize::from(draft.parts) != record.parts.len() {
            return Answer::Status(status_of_record(&record, false));
        }
        let id = match self.keys.get(draft.key.as_str()) {
            Some(id) => *id,
            None => self.adopt(now, record, draft.text.as_str().into()),
        };
        match self.messages.get(&id) {
            Some(m) => Answer::Status(self.status_now(now, m)),
            // It was found to be over in the very moment of taking it up; the next question finds it in the book.
            None => Answer::Refused { reason: reasons::expired(None) },
        }
    }

    /// Takes a message from the book up again. Parts that were handed out when the process ended have an unknown outcome.
    fn adopt(&mut self, now: i64, record: Record, text: Arc<str>) -> u64 {
        let way = record.way.as_ref().and_then(|name| self.ways.iter().position(|w| w.spec.name == *name));
        let id = self.number();
        let mut m = Message::from_record(record, text, way, false);
        self.keys.insert(m.key.clone(), id);
        if m.state == SmsState::Accepted {
            self.messages.insert(id, m);
            self.await_reports(id);
            return id;
        }
        m.fair = self.place_for(&m);
        let last_reason = m.reason.take();
        let worst = m.take_unknown();
        self.set_state(&mut m, now, SmsState::Queued, None);
        self.deadlines.insert((m.deadline_ms, id));
        self.unfinished[m.class as usize] += 1;
        self.turn.insert((m.class, m.fair, id));
        self.messages.insert(id, m);
        if let Some(row) = self.messages[&id].row {
            for n in 0..self.messages[&id].parts.len() {
                self.write_part(row, id, n);
            }
        }
        if self.messages[&id].parts.iter().any(|p| p.row.state == book::PartState::Failed && p.row.reference.is_none()) {
            // It had failed already when the process ended, and the end was not written.
            let reason = last_reason.unwrap_or_else(|| reasons::unknown_too_often(worst));
            self.close(now, id, SmsState::Failed, Some(reason));
        } else if worst > self.pace.unknown_max {
            self.close(now, id, SmsState::Failed, Some(reasons::unknown_too_often(worst)));
        } else if self.messages[&id].next_planned().is_none() {
            self.all_parts_gone(now, id);
        }
        id
    }

    /// Takes a message back. `None`: not on the desk.
    pub(crate) fn cancel(&mut self, now: i64, key: &str) -> Option<Status> {
        let id = *self.keys.get(key)?;
        let mut before = self.messages[&id].clone();
        if before.unfinished() {
            self.close(now, id, SmsState::Canceled, None);
        }
        self.settle(now);
        self.status(now, key).or_else(|| {
            // Nothing of it was with a way: it has left the desk.
            self.set_state(&mut before, now, SmsState::Canceled, None);
            Some(before.status())
        })
    }

    /// The present status of a message that is on the desk.
    pub(crate) fn status(&self, now: i64, key: &str) -> Option<Status> {
        self.keys.get(key).and_then(|id| self.messages.get(id)).map(|m| self.status_now(now, m))
    }

    /// Time has passed: what is due goes, what is over ends.
    pub(crate) fn tick(&mut self, now: i64) {
        while let Some(&(due, id)) = self.later.first()
            && due <= now
        {
            self.later.pop_first();
            let m = &self.messages[&id];
            self.turn.insert((m.class, m.fair, id));
        }
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let reason = reasons::expired(self.messages[&id].reason.as_ref());
            self.close(now, id, SmsState::Failed, Some(reason));
        }
        self.reports_over(now);
        self.settle(now);
    }

    /// When [`Desk::tick`] has to be called at the latest.
    pub(crate) fn next_wake(&self, now: i64) -> Option<i64> {
        let first = |set: &BTreeSet<(i64, u64)>| set.first().map(|(at, _)| *at);
        let mut wake = [first(&self.later), first(&self.deadlines), first(&self.reports)].into_iter().flatten().min();
        if !self.turn.is_empty() {
            wake = wake.into_iter().chain(self.ways_wake(now)).min();
        }
        wake
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What waits, in the order in which it will go.
    pub(crate) fn queue(&self, now: i64, most: usize) -> (Vec<QueueEntry>, u32) {
        let mut ids: Vec<u64> = self.turn.iter().map(|(_, _, id)| *id).take(most).collect();
        let mut flying: Vec<u64> = self.flights.values().map(|f| f.message).filter(|id| self.messages.contains_key(id)).collect();
        flying.sort_unstable();
        flying.dedup();
        flying.retain(|id| !ids.contains(id));
        flying.extend(ids);
        ids = flying;
        ids.extend(self.later.iter().map(|(_, id)| *id));
        ids.truncate(most);
        let entries = ids
            .iter()
            .filter_map(|id| self.messages.get(id))
            .map(|m| QueueEntry {
                status: self.status_now(now, m),
                class: m.class,
                to: m.to.to_string(),
                account: m.account.as_deref().map(str::to_owned),
                submitted_ms: m.submitted_ms,
                next_ms: m.due_ms.max(m.submitted_ms),
                deadline_ms: m.deadline_ms,
                attempts: m.attempts,
            })
            .collect();
        (entries, self.unfinished.iter().sum())
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> Waiting {
        let [alarms, notices, people] = self.unfinished;
        Waiting { alarms, notices, people }
    }

    /// The clock was set by so much: what is in memory keeps its remaining time. The book is told apart.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        let moved = |set: &BTreeSet<(i64, u64)>| set.iter().map(|(at, id)| (at.saturating_add(by_ms), *id)).collect();
        self.later = moved(&self.later);
        self.deadlines = moved(&self.deadlines);
        self.reports = moved(&self.reports);
        for m in self.messages.values_mut() {
            for at in [&mut m.submitted_ms, &mut m.deadline_ms, &mut m.at_ms, &mut m.due_ms] {
                *at = at.saturating_add(by_ms);
            }
        }
        for way in &mut self.ways {
            way.shift(by_ms);
        }
    }

    fn waiting_of(&self, class: Class) -> u32 {
        let of = |class: Class| self.unfinished[class as usize] + self.entering[class as usize];
        match class {
            Class::Alarm => of(Class::Alarm),
            Class::Notice | Class::Person => of(Class::Notice) + of(Class::Person),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A TP-MR that was not used lately to this number: a service centre that is asked to refuse duplicates knows
    /// messages by number and TP-MR, and eight bits come round while a phone is off.
    fn number_part(&mut self, to: &Arc<str>) -> u8 {
        if self.recent_mrs.len() > RECENT_NUMBERS {
            self.recent_mrs.clear();
        }
        let recent = self.recent_mrs.entry(to.clone()).or_default();
        let mut mr = self.mr;
        for _ in 0..=RECENT_EACH {
            mr = mr.wrapping_add(1);
            if !recent.contains(&mr) {
                break;
            }
        }
        if recent.len() >= RECENT_EACH {
            recent.pop_front();
        }
        recent.push_back(mr);
        self.mr = mr;
        mr
    }

    /// The place of a message among those of its class: each account's messages follow each other at the pace of
    /// their parts, so that one account's hundred messages do not go before another's one.
    fn place_for(&mut self, m: &Message) -> u64 {
        let begin = self.place[m.class as usize];
        if self.served.len() > 4096 {
            let place = self.place;
            self.served.retain(|(class, _), end| *end > place[*class as usize]);
        }
        let end = self.served.entry((m.class, m.account.clone())).or_insert(begin);
        let fair = begin.max(*end);
        *end = fair + m.parts.len() as u64;
        fair
    }

    fn set_state(&self, m: &mut Message, now: i64, state: SmsState, reason: Option<crate::api::Reason>) {
        if m.state != state {
            m.at_ms = now;
        }
        m.state = state;
        m.reason = reason;
    }

    /// Counts something of a message's account today.
    fn count(&mut self, now: i64, id: u64, what: impl FnOnce(&mut Count)) {
        let m = &self.messages[&id];
        let mut count = Count {
            day: u32::try_from(now.div_euclid(86_400_000)).unwrap_or(0),
            account: m.account.as_deref().unwrap_or_default().to_owned(),
            domain: m.domain.as_deref().unwrap_or_default().to_owned(),
            class: m.class,
            sent: 0,
            parts: 0,
            failed: 0,
            delivered: 0,
            not_delivered: 0,
            duplicates: 0,
        };
        what(&mut count);
        self.ops.push(Op::Count(Box::new(count)));
    }

    fn write_part(&mut self, row: i64, id: u64, n: usize) {
        let part = self.messages[&id].parts[n].row.clone();
        self.ops.push(Op::Part { row, number: part_number(n), part });
    }

    fn write_message(&mut self, id: u64, open: bool) {
        let m = &self.messages[&id];
        if let Some(row) = m.row {
            let way = m.way.map(|w| self.ways[w].spec.name.clone());
            self.ops.push(Op::Message(Box::new(m.change(row, way, open))));
        }
    }

    fn publish(&mut self, now: i64, id: u64) {
        let status = self.status_now(now, &self.messages[&id]);
        self.then.push(Effect::Publish(status));
    }

    /// Writes what has changed and gives free ways their next parts.
    fn settle(&mut self, now: i64) {
        self.flush();
        self.pump(now);
        self.flush();
    }

    fn flush(&mut self) {
        let then = std::mem::take(&mut self.then);
        if self.ops.is_empty() {
            self.effects.extend(then);
            return;
        }
        let ops = std::mem::take(&mut self.ops);
        let tag = self.number();
        self.pending.insert(tag, Pending::Then(then));
        self.effects.push_back(Effect::Job(Job { tag, ops, must: true }));
    }
}

fn part_number(n: usize) -> u8 {
    u8::try_from(n + 1).unwrap_or(u8::MAX)
}

/// The record of an alarm that the disk refused.
fn volatile_record(draft: &Draft, reference: u64, express: Option<Express>) -> Record {
    let planned = |n: u8| match express {
        Some(e) if n == 0 => (book::PartState::Handed, e.mr),
        _ => (book::PartState::Planned, 0),
    };
    let bytes = reference.to_le_bytes();
    Record {
        row: 0,
        draft: draft.clone(),
        reference: u16::from_le_bytes([bytes[0], bytes[1]]),
        state: SmsState::Queued,
        at_ms: draft.submitted_ms,
        possible_duplicate: false,
        way: None,
        reason: None,
        parts: (0..draft.parts)
            .map(|n| {
                let (state, planned_mr) = planned(n);
                book::PartRow { state, planned_mr, unknowns: 0, reference: None }
            })
            .collect(),
    }
}
