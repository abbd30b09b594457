//! The selected mailbox as one session sees it: the state that its client was told, and the way to the newest.
//!
//! Contract: sequence numbers always mean the state that was last told. [`View::advance`] goes to the newest state and returns
//! exactly what the client must hear to come along. Where the protocol forbids EXPUNGE (RFC 9051 7.5.1), messages that are gone
//! stay in the view, under their numbers, and the rest is told; the next call that may tell expunges does. Pure: no I/O.

use std::sync::Arc;
use tokio::sync::watch;
use twinpost_message::view::{Change, Entry, Snapshot};
use twinpost_message::{Flags, Uid};

/// The view of one session on its mailbox.
#[derive(Debug)]
pub(crate) struct View {
    told: Snapshot,
    newest: watch::Receiver<Arc<Snapshot>>,
}

/// A message whose flags or modseq are not what the client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Sequence number after all expunges of the same [`Step`].
    pub seq: u32,
    /// As it is.
    pub entry: Entry,
    /// The flags that the client knew.
    pub before: Flags,
}

/// What a client must hear to come along, in the order in which it must hear it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Gone: sequence number and UID, highest number first, so that each number is right when its turn comes.
    pub expunged: Vec<(u32, Uid)>,
    /// The number of messages grew to this.
    pub exists: Option<u32>,
    /// The mailbox has new keywords.
    pub keywords: bool,
    /// Flags or modseq changed.
    pub changed: Vec<Changed>,
}

impl Step {
    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        self.expunged.is_empty() && self.exists.is_none() && !self.keywords && self.changed.is_empty()
    }
}

impl View {
    /// A view that begins at the newest state, which the caller tells its client by the answer to SELECT.
    pub fn new(mut newest: watch::Receiver<Arc<Snapshot>>) -> Self {
        let told = Snapshot::clone(&newest.borrow_and_update());
        Self { told, newest }
    }

    /// The state that the client knows.
    pub fn told(&self) -> &Snapshot {
        &self.told
    }

    /// The mailbox was deleted, or its store closed.
    pub fn is_gone(&self) -> bool {
        self.newest.borrow().gone || self.newest.has_changed().is_err()
    }

    /// A receiver to wait with: it wakes when there may be something to tell.
    pub fn waiter(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.newest.clone()
    }

    /// Whether a message is still in the newest state.
    pub fn still_there(&self, uid: Uid) -> bool {
        self.newest.borrow().find(uid).is_some()
    }

    /// The newest state, told or not.
    pub fn newest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.newest.borrow())
    }

    /// Goes to the newest state. Without `tell_expunges`, messages that are gone stay in the view.
    pub fn advance(&mut self, tell_expunges: bool) -> Step {
        let newest = Arc::clone(&self.newest.borrow_and_update());
        self.advance_to(&newest, tell_expunges)
    }

    fn advance_to(&mut self, newest: &Snapshot, tell_expunges: bool) -> Step {
        let mut step = Step { keywords: newest.keywords != self.told.keywords, ..Step::default() };
        let mut changes = newest.since(&self.told);
        let expunges = changes.iter().any(|c| matches!(c, Change::Expunged { .. }));
        let next = if expunges && !tell_expunges {
            // The list as the client may know it: nothing gone, the rest as it is now.
            let mut updated: Vec<Entry> = Vec::new();
            let mut added: Vec<Entry> = Vec::new();
            for change in &changes {
                match change {
                    Change::Expunged { .. } => {}
                    Change::Flags { entry, .. } => updated.push(*entry),
                    Change::Added { entry, .. } => added.push(*entry),
                }
            }
            let mut merged = self.told.apply(&updated, &[], &added, newest.highest_modseq);
            merged.uid_next = newest.uid_next;
            merged.keywords = Arc::clone(&newest.keywords);
            changes = merged.since(&self.told);
            merged
        } else {
            newest.clone()
        };
        for change in changes {
            match change {
                Change::Expunged { seq, entry } => step.expunged.push((seq, entry.uid)),
                Change::Flags { seq, entry } => {
                    let before = self.told.find(entry.uid).map_or(entry.flags, |(_, e)| e.flags);
                    step.changed.push(Changed { seq, entry, before });
                }
                Change::Added { .. } => step.exists = Some(u32::try_from(next.len()).unwrap_or(u32::MAX)),
            }
        }
        self.told = next;
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use twinpost_message::{BodyId, ModSeq, UidValidity};

    fn entry(uid: u32, flags: u64, modseq: u64) -> Entry {
        Entry {
            uid: Uid(uid),
            flags: Flags(flags),
            modseq: ModSeq(modseq),
            body: BodyId(i64::from(uid)),
            size_bytes: 1,
            received_s: 0,
            saved_s: 0,
        }
    }

    fn empty() -> (watch::Sender<Arc<Snapshot>>, View) {
        let first = Snapshot::new(UidValidity(1), Uid(1), ModSeq(1), vec![], &[]);
        let (sender, receiver) = watch::channel(Arc::new(first));
        (sender, View::new(receiver))
    }

    proptest! {
        /// A client that only hears the steps has the same list as the store whenever expunges may be told, and its numbers
        /// never mean another message than the server's.
        #[test]
        fn a_client_that_hears_the_steps_knows_the_truth(
            ops in prop::collection::vec((0u8..5, prop::collection::btree_set(1u32..400, 0..30), any::<bool>()), 1..60),
        ) {
            let (sender, mut view) = empty();
            let mut truth: BTreeMap<u32, u64> = BTreeMap::new();
            let mut client: Vec<(Option<u32>, u64)> = Vec::new();
            let mut modseq = 1;
            for (kind, uids, may) in ops {
                modseq += 1;
                let now = sender.borrow().clone();
                let next = match kind {
                    0 | 1 => {
                        let added: Vec<Entry> = (0..u32::try_from(uids.len()).unwrap()).map(|k| entry(now.uid_next.0 + k, 0, modseq)).collect();
                        truth.extend(added.iter().map(|e| (e.uid.0, 0)));
                        now.apply(&[], &[], &added, ModSeq(modseq))
                    }
                    2 => {
                        let updated: Vec<Entry> = uids.iter().map(|u| entry(*u, modseq, modseq)).collect();
                        for u in &uids { if let Some(f) = truth.get_mut(u) { *f = modseq; } }
                        now.apply(&updated, &[], &[], ModSeq(modseq))
                    }
                    3 => {
                        let removed: Vec<Uid> = uids.iter().map(|u| Uid(*u)).collect();
                        for u in &uids { truth.remove(u); }
                        now.apply(&[], &removed, &[], ModSeq(modseq))
                    }
                    _ => {
                        let step = view.advance(may);
                        prop_assert!(may || step.expunged.is_empty(), "an expunge where none may be told");
                        for (seq, uid) in &step.expunged {
                            let gone = client.remove(*seq as usize - 1);
                            prop_assert!(gone.0.is_none_or(|u| u == uid.0));
                        }
                        if let Some(n) = step.exists { client.resize(n as usize, (None, 0)); }
                        for c in &step.changed {
                            let slot = &mut client[c.seq as usize - 1];
                            prop_assert!(slot.0.is_none_or(|u| u == c.entry.uid.0));
                            prop_assert_eq!(slot.1, c.before.0);
                            *slot = (Some(c.entry.uid.0), c.entry.flags.0);
                        }
                        // It fetches what it does not know yet, by the numbers it knows.
                        for (i, slot) in client.iter_mut().enumerate() {
                            if slot.0.is_none() {
                                let e = view.told().at(u32::try_from(i + 1).unwrap()).unwrap();
                                *slot = (Some(e.uid.0), e.flags.0);
                            }
                        }
                        prop_assert_eq!(client.len(), view.told().len());
                        if may {
                            let heard: Vec<(u32, u64)> = client.iter().map(|(u, f)| (u.unwrap(), *f)).collect();
                            let want: Vec<(u32, u64)> = truth.clone().into_iter().collect();
                            prop_assert_eq!(heard, want);
                            prop_assert!(view.advance(true).is_empty());
                        }
                        continue;
                    }
                };
                sender.send_replace(Arc::new(next));
            }
        }
    }

    #[test]
    fn a_mailbox_that_is_deleted_shows() {
        let (sender, view) = empty();
        assert!(!view.is_gone());
        let mut deleted = Snapshot::clone(&sender.borrow());
        deleted.gone = true;
        sender.send_replace(Arc::new(deleted));
        assert!(view.is_gone());
        let (sender, view) = empty();
        drop(sender);
        assert!(view.is_gone());
    }
}
