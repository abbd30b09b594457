//! Mail of a node that went its own way, taken back: what only its data holds is found by comparison and put, message by
//! message, into the mailboxes of the node that goes on serving.
//!
//! Contract: two sets of data that were one may have diverged (an administrator forced a takeover). One goes on (here), the other
//! was set aside (there) and is only read, even if its index is lost. [`differences`] says what only the other side has; [`merge`]
//! takes it in while mail is served. Nothing is deleted or replaced on either side: messages and mailboxes that are missing
//! come, flags are added, outbound mail that still waits there is queued here once. A merge can be stopped at any point, also
//! by a power cut, and begun again: each thing comes once ([`twinpost_store::MergeKey`]). Every run leaves a report.
//!
//! What is the same message on both sides: one that was there before they parted, wherever it was moved since; or the same
//! delivery (the same bytes with the same trace id) into the same mailbox. The same bytes handed in on both sides without a
//! trace id (APPEND) are two messages, and both are kept.
//!
//! Failure classes: [`Error`]. A foreign store is refused before anything is done. A message that cannot be read there is told in
//! the report and tried again by the next run. A full disk stops the merge; what was taken in stays.

mod compare;
mod error;
mod kept;
mod paths;
mod people;
mod queue;
mod report;
mod same;
mod sentences;
mod take;

pub use error::Error;
pub use kept::{Kept, report, reports};
pub use people::{Directories, Found, Home, People};
pub use report::{
    AccountDifference, Counts, IndexUsed, MailboxDifference, Outbound, QueueDifference, Report, Run, Sample, Totals,
};
pub use same::fuzz;
pub use sentences::Tongue;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use twinpost_store::Store;

/// What is compared.
#[derive(Clone)]
pub struct Sides {
    /// The store that goes on, open, serving or not.
    pub store: Store,
    /// The folder of data that was set aside: holds `store/` and `directory.sqlite`, or is the `data` folder's parent. Never written.
    pub aside: PathBuf,
    /// The folder of data that goes on: reports come into `merge/` in it, working copies into `merge/work/`.
    pub data: PathBuf,
    /// Whose mail it is.
    pub people: Arc<dyn People>,
}

/// Choices of a merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Outbound mail that is queued again waits until an operator releases it.
    pub hold_queue: bool,
}

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes the other side readable: copies its index, or makes one from its packs. In bytes.
    Open,
    /// Looks for what only the other side has. In changes of its log.
    Compare,
    /// Takes in. In messages, flag changes and queue entries.
    Take,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does.
    pub step: Step,
    /// How much is done.
    pub done: u64,
    /// Of how much; 0: not known yet.
    pub total: u64,
}

/// Follows a run and can stop it.
#[derive(Clone, Default)]
pub struct Watch {
    /// Hears of progress, several times a second at most a batch.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// Stops the run at the next batch: [`Error::Stopped`].
    pub stop: CancellationToken,
}

impl Watch {
    pub(crate) fn tell(&self, step: Step, done: u64, total: u64) {
        if let Some(hear) = &self.progress {
            hear(Progress { step, done, total });
        }
    }
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        if self.stop.is_cancelled() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// Says what only the other side has. Changes nothing, and keeps no report.
///
/// # Errors
/// [`Error::Foreign`], [`Error::Nothing`], [`Error::Busy`], [`Error::Stopped`], faults of stores and folders.
pub async fn differences(sides: &Sides, watch: &Watch) -> Result<Report, Error> {
    let work = paths::Work::take(&sides.data)?;
    let other = compare::Other::open(sides, &work, watch).await?;
    let compared = Box::pin(compare::compare(sides, &other, watch)).await;
    other.close().await;
    Ok(compared?.report)
}

/// Takes in what only the other side has, and keeps the report.
///
/// # Errors
/// As [`differences`]; [`Error::Store`] with a full disk or another fault: what was taken in stays, the report of the part is kept,
/// and the next call goes on.
pub async fn merge(sides: &Sides, options: Options, watch: &Watch) -> Result<Report, Error> {
    let work = paths::Work::take(&sides.data)?;
    let other = compare::Other::open(sides, &work, watch).await?;
    let run = async {
        let mut plan = Box::pin(compare::compare(sides, &other, watch)).await?;
        let taken = Box::pin(take::take(sides, &other, options, watch, &mut plan)).await;
        plan.report.run = match &taken {
            Ok(()) => Run::Merged,
            Err(error) => Run::Stopped { why: error.to_string() },
        };
        plan.report.ended_s = Some(paths::now_s());
        let kept = kept::keep(&sides.data, &plan.report);
        taken?;
        kept.map(|()| plan.report)
    };
    let done = run.await;
    other.close().await;
    done
}

/// The store's folder in a folder of data that was set aside.
#[must_use]
pub fn store_of(aside: &Path) -> PathBuf {
    paths::data_of(aside).join("store")
}
