//! Which part goes next by which way.

use super::message::Message;
use super::{Desk, Effect, Express, Flight, Pending, WaySpec, part_number};
use crate::api::{Class, Reason, SmsState, Status};
use crate::book::{Draft, Job, Op, PartState};
use crate::reasons;
use crate::settings::Pace;
use crate::transport::Parcel;
use std::time::Duration;

/// One way, as the desk sees it.
#[derive(Debug)]
pub(super) struct WayDesk {
    pub spec: WaySpec,
    /// Says that it can send.
    ready: bool,
    /// Why it cannot, or why it rests.
    trouble: Option<Reason>,
    /// It refused for a reason of its own though it said that it was ready.
    rest_until: i64,
    /// It has not been able to send since then.
    unable_since: Option<i64>,
    /// Parts with it.
    flying: usize,
    /// It sends our TP-MR: known once it has answered with one.
    pub honours_mr: Option<bool>,
    /// It had a part accepted at that time.
    pub proved_ms: Option<i64>,
    bucket: Bucket,
}

/// Parts that people and notices may send.
#[derive(Debug)]
struct Bucket {
    /// In thousandths of a part.
    tokens: i64,
    most: i64,
    /// Thousandths of a part a millisecond, times a thousand.
    per_second: i64,
    at_ms: i64,
}

impl Bucket {
    fn new(pace: &Pace, now: i64) -> Bucket {
        let share = 100 - i64::from(pace.alarm_share_percent.min(95));
        let per_minute = i64::from(pace.parts_per_minute.max(1)) * share / 100;
        let most = i64::from(pace.burst_parts.max(1)) * 1000;
        Bucket { tokens: most, most, per_second: (per_minute * 1000 / 60).max(1), at_ms: now }
    }

    fn level(&self, now: i64) -> i64 {
        let passed = (now - self.at_ms).clamp(0, 86_400_000);
        (self.tokens + passed * self.per_second / 1000).min(self.most)
    }

    fn has(&self, now: i64) -> bool {
        self.level(now) >= 1000
    }

    fn take(&mut self, now: i64) {
        self.tokens = self.level(now) - 1000;
        self.at_ms = now;
    }

    /// When there is a whole part again.
    fn next(&self, now: i64) -> i64 {
        let lacking = (1000 - self.level(now)).max(0);
        now + (lacking * 1000 + self.per_second - 1) / self.per_second
    }
}

impl WayDesk {
    pub(super) fn new(spec: WaySpec, pace: &Pace, now: i64) -> WayDesk {
        WayDesk {
            spec,
            ready: false,
            trouble: None,
            rest_until: 0,
            unable_since: Some(now),
            flying: 0,
            honours_mr: None,
            proved_ms: None,
            bucket: Bucket::new(pace, now),
        }
    }

    fn able(&self, now: i64) -> bool {
        self.ready && self.rest_until <= now
    }

    fn free(&self, now: i64) -> bool {
        self.able(now) && self.flying < self.spec.window
    }

    pub(super) fn shift(&mut self, by_ms: i64) {
        self.rest_until = self.rest_until.saturating_add(by_ms);
        self.unable_since = self.unable_since.map(|at| at.saturating_add(by_ms));
        self.bucket.at_ms = self.bucket.at_ms.saturating_add(by_ms);
    }

    pub(super) fn landed(&mut self) {
        self.flying = self.flying.saturating_sub(1);
    }

    /// It has proved that it sends.
    pub(super) fn works(&mut self) {
        if self.ready {
            self.unable_since = None;
            self.trouble = None;
        }
    }

    /// It refused for a reason of its own: nothing is given to it for a while.
    pub(super) fn rest(&mut self, now: i64, pace: &Pace, reason: Reason) {
        self.rest_until = now + millis(pace.rest);
        self.unable_since.get_or_insert(now);
        self.trouble = Some(reason);
    }
}

impl Desk {
    /// A way says that it can send, or why not.
    pub(crate) fn way(&mut self, now: i64, way: usize, ready: bool, trouble: Reason) {
        let Some(w) = self.ways.get_mut(way) else { return };
        if ready {
            if !w.ready {
                w.rest_until = 0;
            }
            if w.rest_until <= now {
                w.unable_since = None;
            }
            w.trouble = None;
        } else {
            w.unable_since.get_or_insert(now);
            w.trouble = Some(trouble);
        }
        w.ready = ready;
        self.settle(now);
    }

    /// The ways that a number may take, in order of preference.
    fn ways_for(&self, to: &str) -> impl Iterator<Item = usize> + '_ {
        let route = self.routes.iter().find(|(prefix, _)| to.starts_with(prefix.as_str()));
        let all = if route.is_none() { self.ways.len() } else { 0 };
        route.into_iter().flat_map(|(_, ways)| ways.iter().copied()).chain(0..all)
    }

    fn patience(&self, class: Class) -> i64 {
        millis(if class == Class::Alarm { self.pace.alarm_patience } else { self.pace.patience })
    }

    /// Whether this way has been unable for so long that a message of this class goes on without it.
    fn given_up(&self, now: i64, way: usize, class: Class) -> bool {
        let w = &self.ways[way];
        !w.able(now) && w.unable_since.is_some_and(|since| now - since >= self.patience(class))
    }

    /// The way that this message would take now, whether or not there is room.
    fn way_of(&self, now: i64, to: &str, class: Class, begun_by: Option<usize>) -> Option<usize> {
        if let Some(way) = begun_by
            && !self.given_up(now, way, class)
        {
            return Some(way);
        }
        let mut last = begun_by;
        for way in self.ways_for(to) {
            if !self.given_up(now, way, class) {
                return Some(way);
            }
            last = last.or(Some(way));
        }
        last
    }

    /// The first message in order that may go by this way now.
    fn candidate(&self, now: i64, way: usize) -> Option<u64> {
        let people = self.ways[way].bucket.has(now);
        for &(class, _, id) in &self.turn {
            if class != Class::Alarm && !people {
                return None;
            }
            let m = &self.messages[&id];
            // What it began by another way has to land before it can begin again by this one.
            let elsewhere = m.flying > 0 && m.way != Some(way);
            if !elsewhere && self.way_of(now, &m.to, class, m.way.filter(|_| m.begun())) == Some(way) {
                return Some(id);
            }
        }
        None
    }

    /// Gives every free way its next parts.
    pub(super) fn pump(&mut self, now: i64) {
        if self.closing {
            return;
        }
        for way in 0..self.ways.len() {
            while self.ways[way].free(now) {
                let Some(id) = self.candidate(now, way) else { break };
                self.hand(now, id, way);
            }
        }
    }

    /// Writes the message's next part as handed out; it takes off when that is on disk.
    fn hand(&mut self, now: i64, id: u64, way: usize) {
        let m = &self.messages[&id];
        if m.way.is_some_and(|w| w != way) && m.begun() {
            self.begin_again(now, id);
        }
        let flight = self.number();
        let m = &self.messages[&id];
        let Some(n) = m.next_planned() else {
            // Nothing of it waits: it has no place in the order.
            self.turn.remove(&(m.class, m.fair, id));
            return;
        };
        let to = m.to.clone();
        let mr = if m.parts[n].numbered { m.parts[n].row.planned_mr } else { self.number_part(&to) };
        let Some(m) = self.messages.get_mut(&id) else { return };
        let part = &mut m.parts[n];
        part.row.state = PartState::Handed;
        part.numbered = true;
        part.row.planned_mr = mr;
        let first_mark = part.row.unknowns > 0 && !m.possible_duplicate;
        m.possible_duplicate |= part.row.unknowns > 0;
        let other_way = m.way != Some(way);
        m.way = Some(way);
        m.flying += 1;
        let was = m.state;
        m.state = SmsState::Sending;
        m.reason = None;
        if was != SmsState::Sending {
            m.at_ms = now;
        }
        if m.class != Class::Alarm {
            self.ways[way].bucket.take(now);
        }
        self.place[m.class as usize] = self.place[m.class as usize].max(m.fair);
        if m.next_planned().is_none() {
            self.turn.remove(&(m.class, m.fair, id));
        }
        self.ways[way].flying += 1;
        self.flights.insert(flight, Flight { way, message: id, part: n });
        if first_mark {
            self.count(now, id, |c| c.duplicates = 1);
        }
        // The mark is on disk before the second attempt leaves.
        if other_way || first_mark || was == SmsState::Waiting {
            self.write_message(id, true);
        }
        // What is written in this turn goes first, so that the book has it in order.
        let mut ops = std::mem::take(&mut self.ops);
        let m = &self.messages[&id];
        if let Some(row) = m.row {
            ops.push(Op::Part { row, number: part_number(n), part: m.parts[n].row.clone() });
        }
        if ops.is_empty() {
            self.take_off(now, flight);
            return;
        }
        let tag = self.number();
        self.pending.insert(tag, Pending::Hand { flight });
        self.effects.push_back(Effect::Job(Job { tag, ops, must: false }));
    }

    /// The part is written as handed out: it goes.
    pub(super) fn take_off(&mut self, now: i64, flight: u64) {
        let Some(&Flight { way, message: id, part: n }) = self.flights.get(&flight) else { return };
        if self.messages[&id].closing.is_some() {
            // It was taken back while the book wrote.
            self.flights.remove(&flight);
            self.ways[way].landed();
            self.landed(id, n, PartState::Planned);
            self.end_if_closing(now, id);
            return;
        }
        let more_follows = self.candidate(now, way).is_some();
        let m = &self.messages[&id];
        let part = &m.parts[n].row;
        let left_s = u32::try_from((m.deadline_ms - now).max(1000) / 1000).unwrap_or(u32::MAX);
        let parcel = Parcel {
            key: m.key.clone(),
            to: m.to.clone(),
            text: m.text.clone(),
            number: part_number(n),
            of: u8::try_from(m.parts.len()).unwrap_or(u8::MAX),
            reference: m.reference,
            mr: part.planned_mr,
            again: part.unknowns > 0,
            report: m.report,
            flash: m.flash,
            validity_s: left_s,
            more_follows,
        };
        self.effects.push_back(Effect::Send { way, flight, parcel });
        let status = self.status_now(now, &self.messages[&id]);
        self.effects.push_back(Effect::Publish(status));
    }

    /// The disk refused to note that the part is handed out. An alarm goes all the same.
    pub(super) fn grounded(&mut self, now: i64, flight: u64, what: &str) {
        let Some(&Flight { way, message: id, part: n }) = self.flights.get(&flight) else { return };
        if self.messages[&id].class == Class::Alarm {
            self.take_off(now, flight);
            return;
        }
        self.flights.remove(&flight);
        self.ways[way].landed();
        self.ways[way].rest(now, &self.pace, reasons::disk(what));
        self.back(now, id, n, reasons::disk(what));
        self.write_message(id, true);
    }

    /// A part comes back unsent, by nobody's fault: it keeps its place.
    pub(super) fn back(&mut self, now: i64, id: u64, n: usize, reason: Reason) {
        self.landed(id, n, PartState::Planned);
        let Some(m) = self.messages.get_mut(&id) else { return };
        if m.state != SmsState::Waiting {
            m.at_ms = now;
        }
        m.state = SmsState::Waiting;
        m.reason = Some(reason);
        self.turn.insert((m.class, m.fair, id));
        self.publish(now, id);
        self.end_if_closing(now, id);
    }

    /// Keeps a free way for a new message that would go at once.
    pub(super) fn express(&mut self, now: i64, draft: &Draft) -> Option<Express> {
        if self.closing {
            return None;
        }
        let ahead = self.turn.first().is_some_and(|(class, _, _)| *class <= draft.class);
        let way = self.way_of(now, &draft.to, draft.class, None)?;
        let w = &mut self.ways[way];
        if ahead || !w.free(now) || (draft.class != Class::Alarm && !w.bucket.has(now)) {
            return None;
        }
        if draft.class != Class::Alarm {
            w.bucket.take(now);
        }
        w.flying += 1;
        let mr = self.number_part(&draft.to.as_str().into());
        Some(Express { way, flight: self.number(), mr })
    }

    /// The message is not new after all: the way is free again.
    pub(super) fn release(&mut self, express: Option<Express>) {
        if let Some(e) = express {
            self.ways[e.way].landed();
        }
    }

    /// The way that it began by has been unable for long: everything goes again by another one. A phone may show parts
    /// of both.
    fn begin_again(&mut self, now: i64, id: u64) {
        self.stop_awaiting(id);
        let Some(m) = self.messages.get_mut(&id) else { return };
        let may_have_left = m.parts.iter().any(|p| p.row.unknowns > 0 || p.row.reference.is_some());
        let first_mark = may_have_left && !m.possible_duplicate;
        m.possible_duplicate |= may_have_left;
        for part in &mut m.parts {
            part.row.state = PartState::Planned;
            part.row.reference = None;
            part.numbered = false;
        }
        tracing::warn!(trace = %m.key, "begun again by another way");
        if let Some(row) = m.row {
            for n in 0..self.messages[&id].parts.len() {
                self.write_part(row, id, n);
            }
        }
        if first_mark {
            self.count(now, id, |c| c.duplicates = 1);
        }
    }

    /// When something about the ways changes by itself while messages wait.
    pub(super) fn ways_wake(&self, now: i64) -> Option<i64> {
        let mut wake: Option<i64> = None;
        let mut at = |t: i64| {
            if t > now {
                wake = Some(wake.map_or(t, |w| w.min(t)));
            }
        };
        for w in &self.ways {
            if w.ready {
                at(w.rest_until);
                at(w.bucket.next(now));
            }
            if let Some(since) = w.unable_since {
                at(since + self.patience(Class::Alarm));
                at(since + self.patience(Class::Person));
            }
        }
        wake
    }

    /// The status with what is true at the moment: a message in the queue waits when its way cannot send.
    pub(super) fn status_now(&self, now: i64, m: &Message) -> Status {
        let mut status = m.status();
        if m.flying == 0
            && matches!(m.state, SmsState::Queued | SmsState::Sending)
            && let Some(way) = self.way_of(now, &m.to, m.class, m.way.filter(|_| m.begun()))
            && !self.ways[way].able(now)
        {
            let w = &self.ways[way];
            let (text, zh) = reasons::condition(crate::api::Condition::Starting);
            status.state = SmsState::Waiting;
            status.reason = Some(w.trouble.clone().unwrap_or_else(|| reasons::way(text, zh)));
        }
        status
    }
}

pub(super) fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}
