//! Taking in what another store, which has diverged from this one, was told: each thing once for ever.
//!
//! Contract: every item has a key that names it in the store it comes from; the key is written in the commit that takes the
//! item in, and an item whose key is known changes nothing. So a merge can stop anywhere and be begun again. Nothing here
//! removes or replaces anything, and no quota holds it up: what two nodes promised is kept. Keys are told in the placement
//! records and come back with `rebuild`.

use crate::db::{self, Value};
use crate::spool::NewSpool;
use crate::types::{AppendMessage, FlagNames, Prepared};
use crate::writer::Op;
use crate::{Error, Store};
use std::collections::HashSet;
use twinpost_message::{BodyHash, MailboxId, QueueId, TraceId, Uid};

/// Name of a thing in the store that it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MergeKey(pub [u8; 16]);

impl MergeKey {
    /// The key of what these bytes describe.
    #[must_use]
    pub fn of(description: &[u8]) -> Self {
        let mut key = [0; 16];
        key.copy_from_slice(&BodyHash::of(description).0[..16]);
        Self(key)
    }
}

/// What is to be taken in.
#[derive(Clone, Debug)]
pub enum MergeWhat {
    /// A message into a mailbox.
    Message {
        /// The mailbox.
        mailbox: MailboxId,
        /// The message with its flags and INTERNALDATE.
        message: AppendMessage,
    },
    /// Flags that a message gets beside those it has.
    Flags {
        /// Its mailbox.
        mailbox: MailboxId,
        /// Its UID.
        uid: Uid,
        /// The flags.
        flags: FlagNames,
    },
    /// An entry of the outbound queue.
    Queue {
        /// Its message.
        body: Prepared,
        /// Its name in logs: it keeps it.
        trace: TraceId,
        /// Envelope and recipients.
        spool: NewSpool,
    },
}

/// One thing with its key.
#[derive(Clone, Debug)]
pub struct MergeItem {
    /// Its name where it comes from.
    pub key: MergeKey,
    /// The thing.
    pub what: MergeWhat,
}

impl MergeItem {
    pub(crate) fn body(&self) -> Option<&Prepared> {
        match &self.what {
            MergeWhat::Message { message, .. } => Some(&message.body),
            MergeWhat::Queue { body, .. } => Some(body),
            MergeWhat::Flags { .. } => None,
        }
    }
    pub(crate) fn mailbox(&self) -> Option<MailboxId> {
        match self.what {
            MergeWhat::Message { mailbox, .. } | MergeWhat::Flags { mailbox, .. } => Some(mailbox),
            MergeWhat::Queue { .. } => None,
        }
    }
}

/// What became of an item.
#[derive(Clone, Debug)]
pub enum MergeOutcome {
    /// It was taken in before.
    Known,
    /// The message has this UID.
    Stored(Uid),
    /// The message has the flags; false: it had them, or is gone.
    Flagged(bool),
    /// The queue entry has this number.
    Queued(QueueId),
    /// It could not be taken in (its mailbox went meanwhile, or can hold no more): it is as if it had not been asked.
    Refused(Error),
}

impl Store {
    /// Takes in these items in one commit. Best some hundreds at once.
    ///
    /// # Errors
    /// Faults of the store: then nothing was taken in.
    pub async fn merge(&self, items: Vec<MergeItem>) -> Result<Vec<MergeOutcome>, Error> {
        self.ask(|answer| Op::Merge(items, answer)).await
    }

    /// Which of these were taken in.
    ///
    /// # Errors
    /// Faults of the index.
    pub async fn merged(&self, keys: &[MergeKey]) -> Result<HashSet<MergeKey>, Error> {
        known(&self.inner.db, keys).await
    }
}

pub(crate) async fn known(db: &twinpost_sql::Database, keys: &[MergeKey]) -> Result<HashSet<MergeKey>, Error> {
    let list: Vec<Value> = keys.iter().map(|k| k.0.to_vec().into()).collect();
    let mut found = HashSet::new();
    for row in db::fetch_in(db, "SELECT key FROM merged WHERE key", &[], &list, "").await? {
        // One that is not of this size is none of ours.
        if let Ok(key) = row.blob(0)?.try_into() {
            found.insert(MergeKey(key));
        }
    }
    Ok(found)
}
