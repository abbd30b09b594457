//! `verify`: every record against its checksum and its name, every row against what it stands on. Runs beside mail.
//!
//! Contract: reads only. What is wrong is told in the report, one sentence a fault, with everything an operator needs to
//! find it; an error is returned only when looking itself was impossible. Nothing is reported that concurrent mail explains:
//! rows are read before the pack that they point into is scanned, a body that does not match is looked up and read once more
//! before it counts, and each comparison of rows with rows is one statement, which sees one state of the index.
//! Records that no row points to are counted, not reported: they are what deletion and failed batches leave for compaction.

mod index;
mod packs;

use crate::{Error, Store};
use serde::Serialize;

/// Faults that a report lists one by one; further ones are counted.
const FAULTS_MAX: usize = 10_000;
/// Messages that a fault lists; further ones are counted.
const PLACES_MAX: usize = 20;

/// What sort of fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The record of a body is not what was written: its messages are shown as damaged.
    DamagedRecord,
    /// A body row points to a place where no such record is.
    MissingRecord,
    /// A range of a pack that is no record, and that no body row points into.
    DamagedRange,
    /// A record says something else than its row: hash or size.
    Mismatch,
    /// A row that names a body, mailbox or entry that is not there.
    Dangling,
    /// A counter that differs from the rows it counts.
    Counter,
    /// A number that must be above others and is not: UIDNEXT, HIGHESTMODSEQ, the head of the change log.
    Order,
}

/// A message that a fault concerns.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// Whose.
    pub account: i64,
    /// In which mailbox.
    pub mailbox: String,
    /// As which UID.
    pub uid: u32,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyFault {
    /// Of which sort.
    pub kind: FaultKind,
    /// What is wrong and what it concerns, in a sentence.
    pub text: String,
    /// In which pack.
    pub pack: Option<u32>,
    /// At which byte of it.
    pub offset: Option<u64>,
    /// Which body.
    pub body: Option<i64>,
    /// Messages that it concerns, at most 20.
    pub messages: Vec<Place>,
}

impl VerifyFault {
    fn of_index(kind: FaultKind, text: String) -> Self {
        Self { kind, text, pack: None, offset: None, body: None, messages: Vec::new() }
    }
}

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Packs that were read.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records of bodies that are whole.
    pub records: u64,
    /// Records that tell `rebuild` where bodies belong.
    pub placement_records: u64,
    /// Whole records of bodies that no row points to. No fault: compaction takes them away.
    pub orphan_records: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Body rows.
    pub bodies: u64,
    /// Messages in mailboxes.
    pub messages: u64,
    /// Mailboxes.
    pub mailboxes: u64,
    /// Entries of the outbound queue.
    pub queue_entries: u64,
    /// What is wrong, at most 10,000 of them.
    pub faults: Vec<VerifyFault>,
    /// How many there are.
    pub faults_total: u64,
}

impl VerifyReport {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults_total == 0
    }

    fn add(&mut self, fault: VerifyFault) {
        self.faults_total += 1;
        tracing::error!(fault = %fault.text, "verify");
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }
}

impl Store {
    /// Checks everything that is stored. `progress` hears how many bytes of packs are done, and of how many.
    ///
    /// # Errors
    /// [`Error::Pack`] when the packs cannot be listed or the disk does not answer; faults of the index's engine.
    pub async fn verify(&self, mut progress: impl FnMut(u64, u64) + Send) -> Result<VerifyReport, Error> {
        let mut report = VerifyReport::default();
        packs::check(self, &mut report, &mut progress).await?;
        index::check(self, &mut report).await?;
        Ok(report)
    }
}
