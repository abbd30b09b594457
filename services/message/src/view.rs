//! What a session sees of a mailbox: a snapshot that never changes, shared by all who look at the same state.
//!
//! A snapshot is a spine of chunks. A change copies the spine and the chunks it touches and shares the rest, so the
//! difference of two snapshots is found by comparing pointers first: `O(changed chunks)`, not `O(messages)`. Sessions
//! hold one `Arc` and no list of their own: 2,000 idle sessions on one mailbox hold one list.

use crate::{BodyId, Flags, ModSeq, Uid, UidValidity};
use std::sync::Arc;

/// What the list knows of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Identifier in the mailbox.
    pub uid: Uid,
    /// Flags and keywords.
    pub flags: Flags,
    /// Change-log position of its last change.
    pub modseq: ModSeq,
    /// Its body.
    pub body: BodyId,
    /// Size of the plain message in bytes (RFC822.SIZE).
    pub size_bytes: u32,
    /// INTERNALDATE, seconds since 1970 UTC.
    pub received_s: i64,
    /// When it came into this mailbox (RFC 8514 SAVEDATE), seconds since 1970 UTC.
    pub saved_s: i64,
}

/// Entries in a chunk at most.
pub const CHUNK_MAX: usize = 128;

/// One state of one mailbox. Entries are in UID order.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The UID that the next message gets.
    pub uid_next: Uid,
    /// Highest change-log position that touched the mailbox.
    pub highest_modseq: ModSeq,
    /// Names of the keywords by bit (`Flags::keyword(index)`).
    pub keywords: Arc<Vec<String>>,
    /// The mailbox was deleted or renamed away: the session must close it.
    pub gone: bool,
    spine: Arc<Vec<Arc<Vec<Entry>>>>,
    len: usize,
}

/// One difference between two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Gone. `seq` is its sequence number in the OLD snapshot.
    Expunged {
        /// Sequence number in the old snapshot, from 1.
        seq: u32,
        /// The entry as it was.
        entry: Entry,
    },
    /// Flags differ. `seq` is its sequence number in the NEW snapshot.
    Flags {
        /// Sequence number in the new snapshot, from 1.
        seq: u32,
        /// The entry as it is.
        entry: Entry,
    },
    /// New at the end.
    Added {
        /// Sequence number in the new snapshot, from 1.
        seq: u32,
        /// The entry.
        entry: Entry,
    },
}

impl Snapshot {
    /// A snapshot of these entries.
    ///
    /// # Panics
    /// If the entries are not in strictly rising UID order: the index gives them so.
    #[must_use]
    pub fn new(
        uid_validity: UidValidity,
        uid_next: Uid,
        highest_modseq: ModSeq,
        keywords: Vec<String>,
        entries: &[Entry],
    ) -> Self {
        assert!(entries.windows(2).all(|w| w[0].uid < w[1].uid), "entries are in UID order");
        Self {
            uid_validity,
            uid_next,
            highest_modseq,
            keywords: Arc::new(keywords),
            gone: false,
            spine: Arc::new(entries.chunks(CHUNK_MAX).map(|c| Arc::new(c.to_vec())).collect()),
            len: entries.len(),
        }
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }
    /// No messages.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// All entries in UID order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.spine.iter().flat_map(|chunk| chunk.iter())
    }
    /// Entries with their sequence numbers from 1, beginning at sequence number `from`.
    pub fn iter_from(&self, from: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let mut skip = (from.max(1) - 1) as usize;
        let mut first = self.spine.len();
        for (i, chunk) in self.spine.iter().enumerate() {
            if skip < chunk.len() {
                first = i;
                break;
            }
            skip -= chunk.len();
        }
        self.spine[first..].iter().flat_map(|chunk| chunk.iter()).skip(skip).zip(from.max(1)..).map(|(e, seq)| (seq, e))
    }
    /// The entry at this sequence number (from 1).
    #[must_use]
    pub fn at(&self, seq: u32) -> Option<&Entry> {
        let mut index = (seq as usize).checked_sub(1)?;
        for chunk in self.spine.iter() {
            if index < chunk.len() {
                return Some(&chunk[index]);
            }
            index -= chunk.len();
        }
        None
    }
    /// Sequence number and entry of this UID.
    #[must_use]
    pub fn find(&self, uid: Uid) -> Option<(u32, &Entry)> {
        let (seq, entry) = self.first_from(uid)?;
        (entry.uid == uid).then_some((seq, entry))
    }
    /// Sequence number and entry of the first message with this UID or a later one.
    #[must_use]
    pub fn first_from(&self, uid: Uid) -> Option<(u32, &Entry)> {
        let mut before = 0usize;
        for chunk in self.spine.iter() {
            if chunk.last().is_some_and(|last| last.uid >= uid) {
                let at = chunk.partition_point(|e| e.uid < uid);
                return Some((u32::try_from(before + at + 1).ok()?, &chunk[at]));
            }
            before += chunk.len();
        }
        None
    }

    /// The snapshot after these changes: flags of known entries replaced, UIDs removed, entries added at the end.
    /// `updated` and `removed` are in UID order; UIDs that are not there are passed over.
    ///
    /// # Panics
    /// If an added entry is not above all others.
    #[must_use]
    pub fn apply(&self, updated: &[Entry], removed: &[Uid], added: &[Entry], highest_modseq: ModSeq) -> Self {
        let mut spine: Vec<Arc<Vec<Entry>>> = (*self.spine).clone();
        let mut len = self.len;
        for entry in updated {
            let i = spine.partition_point(|c| c.last().is_some_and(|e| e.uid < entry.uid));
            let Some(at) = spine.get(i).and_then(|c| c.binary_search_by_key(&entry.uid, |e| e.uid).ok()) else { continue };
            Arc::make_mut(&mut spine[i])[at] = *entry;
        }
        for uid in removed {
            let i = spine.partition_point(|c| c.last().is_some_and(|e| e.uid < *uid));
            let Some(at) = spine.get(i).and_then(|c| c.binary_search_by_key(uid, |e| e.uid).ok()) else { continue };
            let chunk = Arc::make_mut(&mut spine[i]);
            chunk.remove(at);
            len -= 1;
            if chunk.is_empty() {
                spine.remove(i);
            }
        }
        let mut uid_next = self.uid_next;
        for entry in added {
            assert!(entry.uid >= uid_next, "a new UID {} is below UIDNEXT {}", entry.uid, uid_next);
            uid_next = Uid(entry.uid.0 + 1);
            match spine.last_mut() {
                Some(chunk) if chunk.len() < CHUNK_MAX => Arc::make_mut(chunk).push(*entry),
                _ => spine.push(Arc::new(vec![*entry])),
            }
            len += 1;
        }
        Self {
            uid_validity: self.uid_validity,
            uid_next,
            highest_modseq: highest_modseq.max(self.highest_modseq),
            keywords: self.keywords.clone(),
            gone: self.gone,
            spine: Arc::new(spine),
            len,
        }
    }

    /// What changed from `old` to `self`: expunges first (highest sequence number first, so that each number is right
    /// when they are reported one after the other), then flag changes, then additions.
    #[must_use]
    pub fn since(&self, old: &Self) -> Vec<Change> {
        if Arc::ptr_eq(&self.spine, &old.spine) {
            return Vec::new();
        }
        let (mut expunged, mut flags, mut added) = (Vec::new(), Vec::new(), Vec::new());
        let (mut i, mut j) = (0, 0); // chunk index in old and new
        let (mut old_seq, mut new_seq) = (0u32, 0u32);
        let (mut a, mut b) = (0usize, 0usize); // position inside the chunk
        loop {
            if a == 0 && b == 0 {
                while let (Some(x), Some(y)) = (old.spine.get(i), self.spine.get(j)) {
                    if !Arc::ptr_eq(x, y) {
                        break;
                    }
                    old_seq += u32::try_from(x.len()).unwrap_or(u32::MAX);
                    new_seq += u32::try_from(x.len()).unwrap_or(u32::MAX);
                    i += 1;
                    j += 1;
                }
            }
            let x = old.spine.get(i).map(|c| c[a]);
            let y = self.spine.get(j).map(|c| c[b]);
            let (step_old, step_new) = match (x, y) {
                (None, None) => break,
                (Some(x), Some(y)) if x.uid == y.uid => {
                    if x != y {
                        flags.push(Change::Flags { seq: new_seq + 1, entry: y });
                    }
                    (true, true)
                }
                (Some(x), y) if y.is_none_or(|y| x.uid < y.uid) => {
                    expunged.push(Change::Expunged { seq: old_seq + 1, entry: x });
                    (true, false)
                }
                (_, Some(y)) => {
                    added.push(Change::Added { seq: new_seq + 1, entry: y });
                    (false, true)
                }
                (Some(_), None) => unreachable!("covered by the guard above: y is none"),
            };
            if step_old {
                old_seq += 1;
                a += 1;
                if a == old.spine[i].len() {
                    (i, a) = (i + 1, 0);
                }
            }
            if step_new {
                new_seq += 1;
                b += 1;
                if b == self.spine[j].len() {
                    (j, b) = (j + 1, 0);
                }
            }
        }
        expunged.reverse();
        expunged.append(&mut flags);
        expunged.append(&mut added);
        expunged
    }

    /// The same list with another keyword table or `gone` mark.
    #[must_use]
    pub fn with_keywords(&self, keywords: Vec<String>) -> Self {
        Self { keywords: Arc::new(keywords), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(uid: u32, flags: u64) -> Entry {
        Entry {
            uid: Uid(uid),
            flags: Flags(flags),
            modseq: ModSeq(1),
            body: BodyId(i64::from(uid)),
            size_bytes: 1,
            received_s: 0,
            saved_s: 0,
        }
    }

    fn list(snapshot: &Snapshot) -> Vec<(u32, u64)> {
        snapshot.iter().map(|e| (e.uid.0, e.flags.0)).collect()
    }

    proptest! {
        #[test]
        fn changes_lead_from_old_to_new(
            start in 0u32..600,
            steps in prop::collection::vec((prop::collection::btree_set(1u32..700, 0..20), prop::collection::btree_set(1u32..700, 0..20), 0u32..40), 1..6),
        ) {
            let first: Vec<Entry> = (1..=start).map(|u| entry(u, 0)).collect();
            let old = Snapshot::new(UidValidity(1), Uid(start + 1), ModSeq(1), vec![], &first);
            let mut model: std::collections::BTreeMap<u32, u64> = (1..=start).map(|u| (u, 0)).collect();
            let mut now = old.clone();
            for (n, (updates, removals, adds)) in steps.iter().enumerate() {
                let updated: Vec<Entry> = updates.iter().map(|u| entry(*u, n as u64 + 1)).collect();
                let removed: Vec<Uid> = removals.iter().map(|u| Uid(*u)).collect();
                let added: Vec<Entry> = (0..*adds).map(|k| entry(now.uid_next.0 + k, 0)).collect();
                for u in updates { if let Some(f) = model.get_mut(u) { *f = n as u64 + 1; } }
                for u in removals { model.remove(u); }
                for e in &added { model.insert(e.uid.0, 0); }
                now = now.apply(&updated, &removed, &added, ModSeq(n as u64 + 2));
            }
            let want: Vec<(u32, u64)> = model.into_iter().collect();
            prop_assert_eq!(list(&now), want.clone());
            prop_assert_eq!(now.len(), want.len());
            // A client that only hears the changes ends with the same list.
            let mut client: Vec<(u32, u64)> = list(&old);
            for change in now.since(&old) {
                match change {
                    Change::Expunged { seq, entry } => { let gone = client.remove(seq as usize - 1); prop_assert_eq!(gone.0, entry.uid.0); }
                    Change::Flags { seq, entry } => { prop_assert_eq!(client[seq as usize - 1].0, entry.uid.0); client[seq as usize - 1].1 = entry.flags.0; }
                    Change::Added { seq, entry } => { prop_assert_eq!(seq as usize, client.len() + 1); client.push((entry.uid.0, entry.flags.0)); }
                }
            }
            prop_assert_eq!(client, want.clone());
            for (i, (uid, _)) in want.iter().enumerate() {
                let seq = u32::try_from(i + 1).unwrap();
                prop_assert_eq!(now.at(seq).map(|e| e.uid.0), Some(*uid));
                prop_assert_eq!(now.find(Uid(*uid)).map(|(s, _)| s), Some(seq));
                prop_assert_eq!(now.iter_from(seq).next().map(|(s, e)| (s, e.uid.0)), Some((seq, *uid)));
            }
        }
    }
}
