//! What comes from a diverged store: see [`crate::merge`].

use super::batch::Batch;
use super::committer::{Committer, NewEntry};
use crate::merge::{MergeItem, MergeKey, MergeOutcome, MergeWhat};
use crate::types::{FlagAction, FlagNames, SetFlags};
use crate::{Error, merge};

impl Committer {
    /// Takes items in one by one. A refusal concerns its item only and leaves nothing of it; a fault fails the batch.
    pub(super) async fn merge(&mut self, batch: &mut Batch, items: Vec<MergeItem>) -> Result<Vec<MergeOutcome>, Error> {
        let keys: Vec<MergeKey> = items.iter().map(|i| i.key).collect();
        let known = merge::known(&batch.db, &keys).await?;
        let mut outcomes = Vec::with_capacity(items.len());
        for item in items {
            // Also what another operation of this batch brought.
            if known.contains(&item.key) || batch.merged.contains(&item.key) {
                outcomes.push(MergeOutcome::Known);
                continue;
            }
            match self.merge_one(batch, item.what).await {
                Ok(outcome) => {
                    batch.merged.insert(item.key);
                    outcomes.push(outcome);
                }
                Err(error) if error.is_internal() => return Err(error),
                Err(error) => outcomes.push(MergeOutcome::Refused(error)),
            }
        }
        Ok(outcomes)
    }

    async fn merge_one(&mut self, batch: &mut Batch, what: MergeWhat) -> Result<MergeOutcome, Error> {
        match what {
            MergeWhat::Message { mailbox, message } => {
                self.need(batch, mailbox).await?;
                let flags = self.flags_of(batch, mailbox, &message.flags, true).await?;
                let body = self.body(batch, &message.body)?;
                let (size_bytes, received_s) = (message.body.size_bytes(), message.received_s);
                let entry = self.add(batch, mailbox, NewEntry { body, flags, size_bytes, received_s })?;
                Ok(MergeOutcome::Stored(entry.uid))
            }
            MergeWhat::Flags { mailbox, uid, flags } => {
                let set = |flags| SetFlags { mailbox, uids: vec![uid], action: FlagAction::Add, flags, unchanged_since: None };
                let system = FlagNames::system(flags.system);
                let done = match self.set_flags(batch, set(flags)).await {
                    // No room for the names of more keywords: the rest of the flags all the same.
                    Err(Error::TooMany { .. }) => self.set_flags(batch, set(system)).await?,
                    done => done?,
                };
                Ok(MergeOutcome::Flagged(!done.changed.is_empty()))
            }
            MergeWhat::Queue { body, trace, spool } => {
                let size_bytes = body.size_bytes();
                let id = self.body(batch, &body)?;
                Ok(MergeOutcome::Queued(self.enqueue(batch, id, size_bytes, trace, &spool)))
            }
        }
    }
}
