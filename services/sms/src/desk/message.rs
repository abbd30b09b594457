//! One message on the desk, and what is told about it.

use crate::api::{Class, Reason, SmsState, Status};
use crate::book::{Change, PartRow, PartState, Record, Reference};
use std::sync::Arc;

/// One part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub row: PartRow,
    /// `planned_mr` was chosen: a part keeps it at each attempt.
    pub numbered: bool,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Its row in the book; none: an alarm that the disk refused.
    pub row: Option<i64>,
    pub key: Arc<str>,
    pub digest: [u8; 32],
    pub to: Arc<str>,
    pub text: Arc<str>,
    pub class: Class,
    pub account: Option<Arc<str>>,
    pub domain: Option<Arc<str>>,
    pub report: bool,
    pub flash: bool,
    pub submitted_ms: i64,
    pub deadline_ms: i64,
    pub reference: u16,
    pub parts: Vec<Part>,
    pub state: SmsState,
    pub at_ms: i64,
    pub possible_duplicate: bool,
    /// The way that its first part took.
    pub way: Option<usize>,
    pub reason: Option<Reason>,
    /// The way blamed itself when this message was refused, at that time.
    pub way_refused: Option<i64>,
    /// Temporary failures so far.
    pub attempts: u32,
    /// Not before.
    pub due_ms: i64,
    /// Its place among messages of its class.
    pub fair: u64,
    /// Parts with a way, or about to be given to one.
    pub flying: u32,
    /// It ends so as soon as nothing of it flies.
    pub closing: Option<(SmsState, Option<Reason>)>,
}

impl Message {
    /// From the book. `text`: the text that was kept, or that came with a second `Submit`.
    pub(super) fn from_record(record: Record, text: Arc<str>, way: Option<usize>, volatile: bool) -> Message {
        let d = record.draft;
        Message {
            row: (!volatile).then_some(record.row),
            key: d.key.into(),
            digest: d.digest,
            to: d.to.into(),
            text,
            class: d.class,
            account: d.account.map(Into::into),
            domain: d.domain.map(Into::into),
            report: d.report,
            flash: d.flash,
            submitted_ms: d.submitted_ms,
            deadline_ms: d.deadline_ms,
            reference: record.reference,
            parts: record
                .parts
                .into_iter()
                .map(|row| Part { numbered: row.state != PartState::Planned || row.unknowns > 0, row })
                .collect(),
            state: record.state,
            at_ms: record.at_ms,
            possible_duplicate: record.possible_duplicate,
            way,
            reason: record.reason,
            way_refused: None,
            attempts: 0,
            due_ms: 0,
            fair: 0,
            flying: 0,
            closing: None,
        }
    }

    /// Waits for its turn or is under way; otherwise it has ended or waits for a report only.
    pub(super) fn unfinished(&self) -> bool {
        matches!(self.state, SmsState::Queued | SmsState::Sending | SmsState::Waiting)
    }

    pub(super) fn next_planned(&self) -> Option<usize> {
        self.parts.iter().position(|p| p.row.state == PartState::Planned)
    }

    pub(super) fn accepted(&self) -> u8 {
        let n = self.parts.iter().filter(|p| was_accepted(&p.row)).count();
        u8::try_from(n).unwrap_or(u8::MAX)
    }

    /// Something of it may have left by its way.
    pub(super) fn begun(&self) -> bool {
        self.flying > 0 || self.parts.iter().any(|p| p.row.unknowns > 0 || p.row.state != PartState::Planned)
    }

    /// Parts that were handed out when the process ended may have been accepted: they go again, as possible duplicates.
    /// Gives the most unknown outcomes that one part has had.
    pub(super) fn take_unknown(&mut self) -> u8 {
        for part in &mut self.parts {
            if part.row.state == PartState::Handed {
                part.row.state = PartState::Planned;
                part.row.unknowns = part.row.unknowns.saturating_add(1);
            }
        }
        self.parts.iter().filter(|p| p.row.state == PartState::Planned).map(|p| p.row.unknowns).max().unwrap_or(0)
    }

    pub(super) fn change(&self, row: i64, way: Option<String>, open: bool) -> Change {
        Change {
            row,
            state: self.state,
            at_ms: self.at_ms,
            possible_duplicate: self.possible_duplicate,
            way,
            reason: self.reason.clone(),
            open,
            forget_text: !self.unfinished(),
        }
    }

    pub(super) fn status(&self) -> Status {
        let waits_for_report = self.state == SmsState::Accepted && self.report;
        status_of(
            &self.key,
            self.state,
            self.parts.iter().map(|p| &p.row),
            self.possible_duplicate,
            self.reason.clone(),
            self.at_ms,
            self.unfinished() || waits_for_report,
        )
    }
}

/// The network accepted it, whatever came later.
fn was_accepted(part: &PartRow) -> bool {
    part.reference.is_some() && matches!(part.state, PartState::Accepted | PartState::Delivered | PartState::Failed)
}

/// The status of a message that is only in the book.
pub(crate) fn status_of_record(record: &Record, more: bool) -> Status {
    status_of(
        &record.draft.key,
        record.state,
        record.parts.iter(),
        record.possible_duplicate,
        record.reason.clone(),
        record.at_ms,
        more,
    )
}

fn status_of<'a>(
    key: &str,
    state: SmsState,
    parts: impl Iterator<Item = &'a PartRow> + Clone,
    possible_duplicate: bool,
    reason: Option<Reason>,
    at_ms: i64,
    more: bool,
) -> Status {
    let small = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
    Status {
        key: key.to_owned(),
        state,
        parts: small(parts.clone().count()),
        accepted: small(parts.clone().filter(|p| was_accepted(p)).count()),
        possible_duplicate,
        references: parts
            .filter_map(|p| match &p.reference {
                Some(Reference::Mr(mr)) if was_accepted(p) => Some(*mr),
                _ => None,
            })
            .collect(),
        reason,
        at_ms,
        more,
    }
}
