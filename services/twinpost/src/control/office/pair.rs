//! Orders about diverged data: what differs, and the merge.
//!
//! What a node that gave way had is a folder: the newest below `aside/` in this node's own folder, or the one that the order names.

use super::{Failure, Office, ProgressSender, shown, tell};
use crate::cli::{ConflictOrder, PairOrder};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use twinpost_merge::{Directories, Options, Progress, Sides, Step, Watch, differences, merge};

impl Office {
    /// What `twinpost ctl` and the pair daemon did not answer by themselves.
    pub(super) async fn pair(&self, order: PairOrder, progress: ProgressSender) -> Result<Value, Failure> {
        let PairOrder::Conflict(order) = order else {
            return Err(Failure::because("this is answered by the pair daemon"));
        };
        match order {
            ConflictOrder::List { aside } => {
                let (sides, watch) = (Box::pin(self.sides(aside)).await?, watch(progress));
                shown(Box::pin(differences(&sides, &watch)).await.map_err(Failure::because)?)
            }
            ConflictOrder::Merge { aside, hold_queue, .. } => {
                let (sides, watch) = (Box::pin(self.sides(aside)).await?, watch(progress));
                shown(Box::pin(merge(&sides, Options { hold_queue }, &watch)).await.map_err(Failure::because)?)
            }
            ConflictOrder::GiveWay(_) => Err(Failure::because("this is answered by the pair daemon")),
        }
    }

    async fn sides(&self, aside: Option<PathBuf>) -> Result<Sides, Failure> {
        let aside = match aside {
            Some(aside) => aside,
            None => newest_in(&self.folder.aside()).ok_or_else(|| {
                Failure::because(format!(
                    "nothing was set aside in {}; name the folder with --aside",
                    self.folder.aside().display()
                ))
            })?,
        };
        let data = self.folder.data();
        let people = Directories::open(self.directory.clone(), &aside, &data).await.map_err(Failure::because)?;
        Ok(Sides { store: self.store.clone(), aside, data, people: Arc::new(people) })
    }
}

/// The folders are named so that the newest sorts last.
fn newest_in(dir: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(dir).ok()?;
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).max()
}

fn watch(progress: ProgressSender) -> Watch {
    let hear = move |Progress { step, done, total }: Progress| {
        let text = match step {
            Step::Open => "making the other side readable",
            Step::Compare => "comparing",
            Step::Take => "taking in",
        };
        tell(&progress, text, done, total);
    };
    Watch { progress: Some(Arc::new(hear)), stop: CancellationToken::new() }
}
