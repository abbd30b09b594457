//! The one owner of all state: every change of the store goes through here.
//!
//! Contract: operations that wait are gathered into a batch without any fixed sleep. Stage 1 ([`packer`]) appends the new
//! bodies of a batch to the packs and syncs them once; stage 2 ([`committer`]) makes all its changes of the index in one
//! transaction, publishes snapshots, then answers. The stages are two tasks with a short queue between them: while batch N
//! commits, batch N+1 is appended and synced. Operations without a body go to stage 2 directly.
//!
//! Failure classes: an operation that cannot be done (quota, unknown mailbox) fails alone and changes nothing. A batch
//! whose append, sync or transaction fails, fails as a whole; what was cached is read again, and the next batch is tried
//! as if nothing had been. Bodies of a failed batch are dead bytes in a pack, which compaction takes away.
//!
//! Every number that must never be given twice (log positions, bodies, mailboxes, queue entries) comes from one counter,
//! and each batch that takes numbers ends with a row in the change log: the log's last position is where to go on.

pub(crate) mod batch;
mod boxes;
mod committer;
mod deliver;
mod entries;
mod merge;
mod packer;
mod queue;
pub(crate) mod state;

pub(crate) use committer::{Committer, Published, load, now_s};
pub(crate) use deliver::queue_rows;
pub(crate) use packer::{Packer, hash_of};

use crate::Error;
use crate::merge::{MergeItem, MergeOutcome};
use crate::pack::Location;
use crate::spool::{SpoolAction, SpoolUpdate};
use crate::types::{
    Annotation, Append, Appended, Delivered, Delivery, Expunged, FlagsSet, Prepared, SetFlags, SpecialUse, Transfer, Transferred,
};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use twinpost_message::view::Snapshot;
use twinpost_message::{AccountId, BodyHash, BodyId, DomainId, MailboxId, QueueId, Uid};

/// Where an answer goes. A caller that went away does not stop its operation.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// One change of the store.
pub(crate) enum Op {
    Deliver(Box<Delivery>, Answer<Delivered>),
    Append(Box<Append>, Answer<Appended>),
    SetFlags(SetFlags, Answer<FlagsSet>),
    Expunge {
        mailbox: MailboxId,
        uids: Vec<Uid>,
        only_deleted: bool,
        answer: Answer<Expunged>,
    },
    Transfer(Transfer, Answer<Transferred>),
    SpoolUpdate(Box<SpoolUpdate>, Answer<Vec<Delivered>>),
    /// A recipient of an entry is of this site: its copies, and that they were made, in one commit. None: they were made before.
    SpoolDeliver {
        id: QueueId,
        n: u32,
        delivery: Box<Delivery>,
        answer: Answer<Option<Delivered>>,
    },
    SpoolAction(QueueId, SpoolAction, Answer<()>),
    /// Mail, flags and queue entries of a diverged store, each once for ever.
    Merge(Vec<MergeItem>, Answer<Vec<MergeOutcome>>),
    /// Makes a snapshot the live one, brought up to date; none loads it here.
    Attach(MailboxId, Option<Snapshot>, Answer<()>),
    Furnish {
        account: AccountId,
        domain: DomainId,
        answer: Answer<()>,
    },
    Create {
        account: AccountId,
        name: String,
        special_use: Option<SpecialUse>,
        answer: Answer<MailboxId>,
    },
    Subscribe {
        account: AccountId,
        name: String,
        subscribed: bool,
        answer: Answer<()>,
    },
    SpecialUse {
        mailbox: MailboxId,
        special_use: Option<SpecialUse>,
        answer: Answer<()>,
    },
    Annotate {
        account: AccountId,
        annotations: Vec<Annotation>,
        answer: Answer<()>,
    },
    Alone(Alone),
}

/// Rare operations on many rows: each is a batch of its own and forgets what was cached.
pub(crate) enum Alone {
    Rename {
        mailbox: MailboxId,
        name: String,
        answer: Answer<()>,
    },
    Delete {
        mailbox: MailboxId,
        answer: Answer<()>,
    },
    DeleteAccount {
        account: AccountId,
        answer: Answer<()>,
    },
    Restore {
        account: AccountId,
        ids: Vec<i64>,
        answer: Answer<Vec<(MailboxId, Uid)>>,
    },
    Purge {
        before_s: i64,
        answer: Answer<u64>,
    },
    /// Forgets bodies that nothing refers to; answers how many.
    Collect {
        answer: Answer<u64>,
    },
    /// Points bodies to other records, where they still point to the old ones.
    Relocate {
        moves: Vec<(BodyId, Location, Location)>,
        answer: Answer<u64>,
    },
    /// Writes a value into `meta`.
    Note {
        key: &'static str,
        value: String,
        answer: Answer<()>,
    },
    /// Answers how many bodies point into this pack, behind everything that was sent before.
    CountPack {
        pack: u32,
        answer: Answer<u64>,
    },
}

impl Op {
    /// The bodies that must be on the disk before its commit.
    fn bodies<'a>(&'a self, mut each: impl FnMut(&'a Prepared)) {
        match self {
            Self::Deliver(d, _) => each(&d.body),
            Self::SpoolDeliver { delivery, .. } => each(&delivery.body),
            Self::Append(a, _) => a.messages.iter().for_each(|m| each(&m.body)),
            Self::SpoolUpdate(u, _) => u.deliver.iter().for_each(|d| each(&d.body)),
            Self::Merge(items, _) => items.iter().filter_map(MergeItem::body).for_each(each),
            _ => {}
        }
    }

    /// It has a body, so it goes through stage 1.
    pub fn has_body(&self) -> bool {
        let mut any = false;
        self.bodies(|_| any = true);
        any
    }

    /// How many rows it makes, about: bounds a batch.
    fn weight(&self) -> usize {
        match self {
            Self::Deliver(d, _) => 1 + d.targets.len() + d.spool.as_ref().map_or(0, |s| s.rcpts.len()),
            Self::SpoolDeliver { delivery, .. } => 2 + delivery.targets.len(),
            Self::Append(a, _) => a.messages.len(),
            Self::SetFlags(s, _) => s.uids.len(),
            Self::Merge(items, _) => items.len(),
            Self::Expunge { uids, .. } => uids.len(),
            Self::Transfer(t, _) => t.uids.len(),
            Self::SpoolUpdate(u, _) => u.rcpts.len() + u.deliver.iter().map(|d| 1 + d.targets.len()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Answers with a fault.
    pub fn fail(self, error: Error) {
        // The caller may have gone: then nobody waits for the answer.
        match self {
            Self::Deliver(_, a) => drop(a.send(Err(error))),
            Self::Append(_, a) => drop(a.send(Err(error))),
            Self::SetFlags(_, a) => drop(a.send(Err(error))),
            Self::Expunge { answer, .. } => drop(answer.send(Err(error))),
            Self::Transfer(_, a) => drop(a.send(Err(error))),
            Self::SpoolUpdate(_, a) => drop(a.send(Err(error))),
            Self::Merge(_, a) => drop(a.send(Err(error))),
            Self::SpoolDeliver { answer, .. } => drop(answer.send(Err(error))),
            Self::SpoolAction(_, _, a) | Self::Attach(_, _, a) => drop(a.send(Err(error))),
            Self::Furnish { answer, .. }
            | Self::Subscribe { answer, .. }
            | Self::SpecialUse { answer, .. }
            | Self::Annotate { answer, .. } => drop(answer.send(Err(error))),
            Self::Create { answer, .. } => drop(answer.send(Err(error))),
            Self::Alone(alone) => match alone {
                Alone::Rename { answer, .. }
                | Alone::Delete { answer, .. }
                | Alone::DeleteAccount { answer, .. }
                | Alone::Note { answer, .. } => {
                    drop(answer.send(Err(error)));
                }
                Alone::Restore { answer, .. } => drop(answer.send(Err(error))),
                Alone::Purge { answer, .. }
                | Alone::Collect { answer }
                | Alone::Relocate { answer, .. }
                | Alone::CountPack { answer, .. } => drop(answer.send(Err(error))),
            },
        }
    }
}

/// What stage 1 hands to stage 2, and what goes there directly.
pub(crate) enum Work {
    Op(Op),
    /// Operations whose bodies are on the disk, and where.
    Packed {
        ops: Vec<Op>,
        places: Arc<HashMap<BodyHash, Location>>,
        /// Those that were written now. They have no row in the index; true: they replace a damaged record and may have one.
        fresh: HashMap<BodyHash, bool>,
        /// Pack and place of their record of arrivals; none: it is decided with a later one.
        arrived: Option<(u32, u64)>,
        /// Stage 1 writes the next batch when this is let go: see [`packer`].
        turn: Option<OwnedSemaphorePermit>,
    },
    /// The last of all.
    Close(oneshot::Sender<()>),
}

/// What stage 1 takes.
pub(crate) enum Intake {
    Op(Op),
    /// Records of a pack to be written again at the end of the newest one.
    Copy(Vec<crate::pack::record::EncodedRecord>, Answer<Vec<Location>>),
    /// Forgets what it knows of a pack; then it can be removed when nothing in the index points to it.
    Forget(u32, oneshot::Sender<()>),
    /// Removes a pack.
    Retire(u32, Answer<()>),
    /// The last of all.
    Close(oneshot::Sender<()>),
}

/// Rows of one transaction, about.
const BATCH_WEIGHT_MAX: usize = 20_000;
/// Operations of one batch.
const BATCH_OPS_MAX: usize = 512;
/// Bytes of bodies in one batch, about.
const BATCH_BYTES_MAX: usize = 32 << 20;
