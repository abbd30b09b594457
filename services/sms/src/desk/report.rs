//! Delivery reports.
//!
//! Contract: a report belongs to the accepted part with its reference and number. One that comes before the answer to
//! its part waits a little for it; one that belongs to an attempt of unknown outcome settles that attempt: the part
//! was accepted. All others are confirmed and told in the log.

use super::{Desk, Effect};
use crate::api::SmsState;
use crate::book::{PartState, Reference};
use crate::number::same_phone;
use crate::transport::{Fate, Report, Token};

/// Reports kept for answers that may still come.
const EARLY_MAX: usize = 64;
/// For so long.
const EARLY_MS: i64 = 300_000;
/// A report is waited for so much longer than the message was valid.
const GRACE_MS: i64 = 3_600_000;

/// A report that came before the answer to its part.
#[derive(Debug)]
pub(super) struct Early {
    way: usize,
    at_ms: i64,
    report: Report,
}

impl Desk {
    /// A delivery report came in. It is confirmed once what follows from it is written.
    pub(crate) fn report(&mut self, now: i64, way: usize, report: Report, token: Token) {
        if let Some((id, n)) = self.part_of(way, &report) {
            self.reported(now, id, n, report.fate);
        } else if let Some((id, n)) = self.doubtful_part_of(way, &report) {
            // An attempt of unknown outcome was accepted after all: no second attempt.
            tracing::info!(trace = %self.messages[&id].key, part = n + 1, "a report settles an unknown outcome: accepted");
            self.settle_doubt(now, way, id, n, &report);
        } else {
            self.early.retain(|e| now - e.at_ms < EARLY_MS);
            if self.early.len() >= EARLY_MAX {
                self.early.pop_front();
            }
            tracing::debug!(to = %report.to, "a delivery report for no known part");
            self.early.push_back(Early { way, at_ms: now, report });
        }
        self.then.push(Effect::Confirm { way, token });
        self.settle(now);
    }

    fn part_of(&self, way: usize, report: &Report) -> Option<(u64, usize)> {
        let parts = self.awaiting.get(&(way, report.reference.clone()))?;
        // The latest: a reference of eight bits comes round.
        parts.iter().rev().copied().find(|(id, _)| self.is_number_of(*id, report))
    }

    fn doubtful_part_of(&self, way: usize, report: &Report) -> Option<(u64, usize)> {
        let Reference::Mr(mr) = report.reference else { return None };
        if self.ways.get(way)?.honours_mr != Some(true) {
            return None;
        }
        let in_doubt = self.later.iter().map(|(_, id)| *id).chain(self.turn.iter().map(|(_, _, id)| *id));
        in_doubt.filter(|id| self.is_number_of(*id, report)).find_map(|id| {
            let m = &self.messages[&id];
            let fits = |p: &super::message::Part| {
                p.row.state == PartState::Planned && p.row.unknowns > 0 && p.numbered && p.row.planned_mr == mr
            };
            (m.report && m.way == Some(way)).then(|| m.parts.iter().position(fits)).flatten().map(|n| (id, n))
        })
    }

    fn is_number_of(&self, id: u64, report: &Report) -> bool {
        self.messages.get(&id).is_some_and(|m| same_phone(&m.to, &report.to))
    }

    fn settle_doubt(&mut self, now: i64, way: usize, id: u64, n: usize, report: &Report) {
        if let Some(m) = self.messages.get_mut(&id) {
            // As if it were under way, so that the usual path lands it.
            m.flying += 1;
            m.parts[n].row.reference = Some(report.reference.clone());
        }
        self.landed(id, n, PartState::Accepted);
        self.count(now, id, |c| c.parts = 1);
        self.awaiting.entry((way, report.reference.clone())).or_default().push((id, n));
        let m = &self.messages[&id];
        if m.next_planned().is_none() {
            self.turn.remove(&(m.class, m.fair, id));
            self.later.remove(&(m.due_ms, id));
        }
        self.all_parts_gone(now, id);
        self.reported(now, id, n, report.fate.clone());
    }

    /// An accepted part's report is waited for; perhaps it is here already.
    pub(super) fn await_part(&mut self, now: i64, way: usize, id: u64, n: usize, reference: &Reference) {
        self.awaiting.entry((way, reference.clone())).or_default().push((id, n));
        self.early.retain(|e| now - e.at_ms < EARLY_MS);
        let here = self
            .early
            .iter()
            .position(|e| e.way == way && e.report.reference == *reference && same_phone(&self.messages[&id].to, &e.report.to));
        if let Some(early) = here.and_then(|at| self.early.remove(at)) {
            self.reported(now, id, n, early.report.fate);
        }
    }

    /// After a restart: every accepted part's report is waited for again.
    pub(super) fn await_reports(&mut self, id: u64) {
        let m = &self.messages[&id];
        let Some(way) = m.way else { return self.forget(id) };
        let parts: Vec<(usize, Reference)> = m
            .parts
            .iter()
            .enumerate()
            .filter(|(_, p)| p.row.state == PartState::Accepted)
            .filter_map(|(n, p)| p.row.reference.clone().map(|r| (n, r)))
            .collect();
        self.reports.insert((m.deadline_ms.saturating_add(GRACE_MS), id));
        for (n, reference) in parts {
            self.awaiting.entry((way, reference)).or_default().push((id, n));
        }
    }

    /// Every part is accepted: from now on only reports matter.
    pub(super) fn reports_for(&mut self, now: i64, id: u64) {
        let m = &self.messages[&id];
        self.reports.insert((m.deadline_ms.saturating_add(GRACE_MS), id));
        self.all_reported(now, id);
        while self.reports.len() > self.limits.reports as usize
            && let Some((_, oldest)) = self.reports.pop_first()
        {
            self.no_report(now, oldest);
        }
    }

    pub(super) fn reports_over(&mut self, now: i64) {
        while let Some(&(until, id)) = self.reports.first()
            && until <= now
        {
            self.reports.pop_first();
            self.no_report(now, id);
        }
    }

    /// No report came in time: `Accepted` was the last word.
    fn no_report(&mut self, now: i64, id: u64) {
        if let Some(m) = self.messages.get_mut(&id) {
            m.report = false;
            self.write_message(id, false);
            self.publish(now, id);
            self.forget(id);
        }
    }

    fn reported(&mut self, now: i64, id: u64, n: usize, fate: Fate) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        let (state, reason) = match fate {
            Fate::Delivered => (PartState::Delivered, None),
            Fate::Lost(reason) => (PartState::Failed, Some(reason)),
            Fate::Pending(reason) => {
                m.reason = Some(reason);
                return self.publish(now, id);
            }
        };
        m.parts[n].row.state = state;
        if reason.is_some() {
            m.reason = reason;
        }
        if let Some(row) = m.row {
            self.write_part(row, id, n);
        }
        self.all_reported(now, id);
    }

    /// The message's last word, when every part has its report, or one is lost.
    fn all_reported(&mut self, now: i64, id: u64) {
        let Some(m) = self.messages.get_mut(&id) else { return };
        if m.state != SmsState::Accepted {
            return;
        }
        let lost = m.parts.iter().any(|p| p.row.state == PartState::Failed);
        if !lost && !m.parts.iter().all(|p| p.row.state == PartState::Delivered) {
            return;
        }
        m.state = if lost { SmsState::NotDelivered } else { SmsState::Delivered };
        m.at_ms = now;
        if !lost {
            m.reason = None;
        }
        self.write_message(id, false);
        self.count(now, id, |c| if lost { c.not_delivered = 1 } else { c.delivered = 1 });
        self.tell_fate(id);
        self.publish(now, id);
        self.forget(id);
    }

    pub(super) fn stop_awaiting(&mut self, id: u64) {
        let Some(m) = self.messages.get(&id) else { return };
        self.reports.remove(&(m.deadline_ms.saturating_add(GRACE_MS), id));
        let Some(way) = m.way else { return };
        let references: Vec<Reference> = m.parts.iter().filter_map(|p| p.row.reference.clone()).collect();
        for reference in references {
            if let Some(parts) = self.awaiting.get_mut(&(way, reference.clone())) {
                parts.retain(|(of, _)| *of != id);
                if parts.is_empty() {
                    self.awaiting.remove(&(way, reference));
                }
            }
        }
    }
}
