//! What follows from each outcome of a part, and how messages end.

use super::pick::millis;
use super::{Desk, Flight};
use crate::api::{Class, Reason, SmsState};
use crate::book::{PartState, Reference};
use crate::reasons;
use crate::transport::{Blame, Outcome};

impl Desk {
    /// A way says what became of a part.
    pub(crate) fn sent(&mut self, now: i64, flight: u64, outcome: Outcome) {
        let Some(Flight { way, message: id, part: n }) = self.flights.remove(&flight) else { return };
        self.ways[way].landed();
        match outcome {
            Outcome::Accepted(reference) => self.accepted(now, way, id, n, &reference),
            Outcome::Refused(Blame::Message, reason) => {
                self.ways[way].works();
                self.landed(id, n, PartState::Failed);
                self.close(now, id, SmsState::Failed, Some(reason));
            }
            Outcome::Refused(Blame::Duplicate, reason) => self.held_already(now, way, id, n, reason),
            Outcome::Refused(Blame::Moment, reason) => {
                self.ways[way].works();
                self.landed(id, n, PartState::Planned);
                self.later(now, id, reason);
            }
            Outcome::Refused(Blame::Unclear, mut reason) => {
                self.ways[way].works();
                self.landed(id, n, PartState::Planned);
                if self.messages[&id].attempts >= self.pace.unclear_max {
                    reason.permanent = true;
                    self.close(now, id, SmsState::Failed, Some(reason));
                } else {
                    self.later(now, id, reason);
                }
            }
            Outcome::Refused(Blame::Way, reason) => self.way_refused(now, way, id, n, reason),
            Outcome::NotSent(reason) => {
                self.ways[way].rest(now, &self.pace, reason.clone());
                self.back(now, id, n, reason);
            }
            Outcome::Unknown(reason) => self.unknown(now, id, n, reason),
        }
        self.settle(now);
    }

    fn accepted(&mut self, now: i64, way: usize, id: u64, n: usize, reference: &Reference) {
        self.ways[way].works();
        self.ways[way].proved_ms = Some(now);
        let planned = self.messages[&id].parts[n].row.planned_mr;
        if let Reference::Mr(mr) = *reference {
            // Once seen to put its own in its place, it is never trusted again: one of 256 fits by chance.
            let honoured = self.ways[way].honours_mr != Some(false) && mr == planned;
            self.ways[way].honours_mr = Some(honoured);
        }
        if let Some(m) = self.messages.get_mut(&id) {
            m.parts[n].row.reference = Some(reference.clone());
        }
        self.landed(id, n, PartState::Accepted);
        self.count(now, id, |c| c.parts = 1);
        if self.messages[&id].report {
            self.await_part(now, way, id, n, reference);
        }
        // A report that came before the answer may have ended it.
        if self.messages.contains_key(&id) {
            self.all_parts_gone(now, id);
        }
    }

    /// The service centre has it from an attempt whose outcome was unknown.
    // TS 23.040 9.2.3.22: SM Rejected-Duplicate SM
    fn held_already(&mut self, now: i64, way: usize, id: u64, n: usize, reason: Reason) {
        let part = &self.messages[&id].parts[n].row;
        if part.unknowns > 0 && self.ways[way].honours_mr == Some(true) {
            let reference = Reference::Mr(part.planned_mr);
            self.accepted(now, way, id, n, &reference);
            return;
        }
        // It holds another message under this reference: another one is taken.
        if let Some(m) = self.messages.get_mut(&id) {
            m.parts[n].numbered = false;
        }
        self.landed(id, n, PartState::Planned);
        self.later(now, id, reason);
    }

    /// The way blames itself. If it has taken other messages since it did so for this one the first time, it is this
    /// message's trouble after all (a barred prefix, say); so a single number never holds up the queue.
    fn way_refused(&mut self, now: i64, way: usize, id: u64, n: usize, reason: Reason) {
        let proved = self.ways[way].proved_ms;
        self.landed(id, n, PartState::Planned);
        let Some(m) = self.messages.get_mut(&id) else { return };
        if m.way_refused.is_some_and(|since| proved.is_some_and(|p| p >= since)) {
            if reason.permanent {
                self.close(now, id, SmsState::Failed, Some(reason));
            } else {
                self.later(now, id, reason);
            }
            return;
        }
        m.way_refused = Some(now);
        let mut reason = reason;
        reason.permanent = false;
        self.ways[way].rest(now, &self.pace, reason.clone());
        // After the rest somebody else goes first.
        self.wait_until(now, id, now + millis(self.pace.rest) + 1, reason);
    }

    fn unknown(&mut self, now: i64, id: u64, n: usize, reason: Reason) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        let part = &mut m.parts[n].row;
        part.unknowns = part.unknowns.saturating_add(1);
        let times = part.unknowns;
        tracing::warn!(trace = %m.key, part = n + 1, times, reason = %reason.text, "outcome unknown");
        self.landed(id, n, PartState::Planned);
        if times > self.pace.unknown_max {
            self.close(now, id, SmsState::Failed, Some(reasons::unknown_too_often(times)));
        } else {
            self.later(now, id, reason);
        }
    }

    /// A part is with nobody any more.
    pub(super) fn landed(&mut self, id: u64, n: usize, state: PartState) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        m.parts[n].row.state = state;
        m.flying -= 1;
        if let Some(row) = m.row {
            self.write_part(row, id, n);
        }
    }

    /// The message is tried again after a pause.
    fn later(&mut self, now: i64, id: u64, reason: Reason) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        let schedule = if m.class == Class::Alarm { &self.pace.alarm_retry } else { &self.pace.retry };
        let at = usize::try_from(m.attempts).unwrap_or(usize::MAX).min(schedule.len().saturating_sub(1));
        let pause = schedule.get(at).map_or(1000, |d| millis(*d));
        m.attempts = m.attempts.saturating_add(1);
        self.wait_until(now, id, now + pause, reason);
    }

    fn wait_until(&mut self, now: i64, id: u64, due_ms: i64, reason: Reason) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        self.turn.remove(&(m.class, m.fair, id));
        self.later.remove(&(m.due_ms, id));
        m.due_ms = due_ms;
        if m.state != SmsState::Waiting {
            m.at_ms = now;
        }
        m.state = SmsState::Waiting;
        m.reason = Some(reason);
        self.later.insert((m.due_ms, id));
        self.write_message(id, true);
        self.publish(now, id);
        self.end_if_closing(now, id);
    }

    /// Ends a message, now or as soon as nothing of it is with a way. What is accepted meanwhile counts.
    pub(super) fn close(&mut self, now: i64, id: u64, state: SmsState, reason: Option<Reason>) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        if m.closing.is_none() {
            m.closing = Some((state, reason));
        }
        self.turn.remove(&(m.class, m.fair, id));
        self.later.remove(&(m.due_ms, id));
        self.end_if_closing(now, id);
    }

    pub(super) fn end_if_closing(&mut self, now: i64, id: u64) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        if m.closing.is_none() {
            return;
        }
        // It was put back in its place or its pause by the way that returned it.
        self.turn.remove(&(m.class, m.fair, id));
        self.later.remove(&(m.due_ms, id));
        if m.flying == 0
            && let Some((state, reason)) = m.closing.take()
        {
            self.end(now, id, state, reason);
        }
    }

    /// Accepted, when every part is.
    pub(super) fn all_parts_gone(&mut self, now: i64, id: u64) {
        let m = &self.messages[&id];
        if m.unfinished() && usize::from(m.accepted()) == m.parts.len() && m.flying == 0 {
            if let Some(m) = self.messages.get_mut(&id) {
                m.closing = None;
            }
            self.end(now, id, SmsState::Accepted, None);
        } else {
            self.end_if_closing(now, id);
        }
    }

    /// The message is accepted, failed or taken back.
    fn end(&mut self, now: i64, id: u64, state: SmsState, reason: Option<Reason>) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        self.turn.remove(&(m.class, m.fair, id));
        self.later.remove(&(m.due_ms, id));
        self.deadlines.remove(&(m.deadline_ms, id));
        self.unfinished[m.class as usize] -= 1;
        m.state = state;
        m.at_ms = now;
        m.reason = reason;
        let waits = state == SmsState::Accepted && m.report;
        self.write_message(id, waits);
        match state {
            SmsState::Accepted => self.count(now, id, |c| c.sent = 1),
            SmsState::Failed => self.count(now, id, |c| c.failed = 1),
            _ => {}
        }
        self.tell_fate(id);
        self.publish(now, id);
        if waits {
            self.reports_for(now, id);
        } else {
            self.forget(id);
        }
    }

    /// One line tells the fate of a message.
    pub(super) fn tell_fate(&self, id: u64) {
        let m = &self.messages[&id];
        let fate = match m.state {
            SmsState::Accepted => "accepted",
            SmsState::Delivered => "delivered",
            SmsState::NotDelivered => "not delivered",
            SmsState::Failed => "failed",
            SmsState::Canceled => "canceled",
            SmsState::Queued | SmsState::Sending | SmsState::Waiting => "waits",
        };
        let way = m.way.map(|w| self.ways[w].spec.name.as_str());
        tracing::info!(
            trace = %m.key, to = %m.to, class = ?m.class, account = m.account.as_deref(), parts = m.parts.len(),
            accepted = m.accepted(), attempts = m.attempts, possible_duplicate = m.possible_duplicate, way,
            after_ms = m.at_ms - m.submitted_ms, reason = m.reason.as_ref().map(|r| r.text.as_str()), "{fate}"
        );
    }

    /// The message leaves the desk; the book keeps it.
    pub(super) fn forget(&mut self, id: u64) {
        self.stop_awaiting(id);
        if let Some(m) = self.messages.remove(&id) {
            self.keys.remove(&m.key);
        }
    }
}
