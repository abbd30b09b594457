//! Sequence sets as clients write them (RFC 9051 9 `sequence-set`): numbers, ranges, `*`, `$`.
//!
//! Contract: parsing is linear, never panics, and takes at most [`RANGES_MAX`] ranges. What a set means in a mailbox is
//! said by [`SequenceSet::uids`] and [`SequenceSet::seqs`], as [`Ranges`].

use crate::algorithm::ranges::Ranges;
use twinpost_message::view::Snapshot;

/// Ranges in one set at most: a line of 64 KB has room for less.
pub const RANGES_MAX: usize = 32_768;

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A number, not 0.
    Number(u32),
    /// `*`: the highest number in the mailbox.
    Star,
}

/// A set as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SequenceSet {
    /// `$`: what the last SEARCH saved (RFC 5182).
    Saved,
    /// Ranges in the client's order; an end may be below its start (RFC 9051 9 `seq-range`).
    Ranges(Vec<(Bound, Bound)>),
}

/// A sequence number is above the number of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no message number {0}")]
pub struct NoSuchNumber(pub u32);

impl SequenceSet {
    /// The set of one number.
    #[must_use]
    pub fn one(number: u32) -> Self {
        Self::Ranges(vec![(Bound::Number(number), Bound::Number(number))])
    }

    /// Reads a whole text as a set.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text == b"$" {
            return Some(Self::Saved);
        }
        let mut ranges = Vec::new();
        for item in text.split(|b| *b == b',') {
            if ranges.len() == RANGES_MAX {
                return None;
            }
            ranges.push(match memchr::memchr(b':', item) {
                Some(colon) => (bound(&item[..colon])?, bound(&item[colon + 1..])?),
                None => {
                    let b = bound(item)?;
                    (b, b)
                }
            });
        }
        Some(Self::Ranges(ranges))
    }

    /// It names `*` or `$` or nothing but numbers: true for the last.
    #[must_use]
    pub fn is_numbers(&self) -> bool {
        match self {
            Self::Saved => false,
            Self::Ranges(r) => r.iter().all(|(a, b)| *a != Bound::Star && *b != Bound::Star),
        }
    }

    fn resolve(&self, highest: u32) -> Option<Ranges> {
        let Self::Ranges(ranges) = self else { return None };
        let number = |b: &Bound| match b {
            Bound::Number(n) => *n,
            Bound::Star => highest,
        };
        Some(Ranges::from_pairs(ranges.iter().map(|(a, b)| (number(a), number(b))).map(|(a, b)| (a.min(b), a.max(b)))))
    }

    /// The UIDs that this set means; they need not exist. `*` is the highest UID in the mailbox (RFC 9051 9: so `999:*`
    /// always holds the last message). `saved` is the result of the last SEARCH, as UIDs.
    #[must_use]
    pub fn uids(&self, snapshot: &Snapshot, saved: &Ranges) -> Ranges {
        let highest = snapshot.iter().next_back().map_or(0, |e| e.uid.0);
        self.resolve(highest).map_or_else(|| saved.clone(), super::super::algorithm::ranges::Ranges::without_zero)
    }

    /// The sequence numbers that this set means.
    ///
    /// # Errors
    /// [`NoSuchNumber`] if a number is above the number of messages (RFC 9051 6.4.5 and 9: BAD). SEARCH does not mind:
    /// use [`SequenceSet::seqs_lenient`] there.
    pub fn seqs(&self, snapshot: &Snapshot, saved: &Ranges) -> Result<Ranges, NoSuchNumber> {
        let count = u32::try_from(snapshot.len()).unwrap_or(u32::MAX);
        let Some(r) = self.resolve(count) else { return Ok(saved_seqs(snapshot, saved)) };
        match r.highest() {
            // `1:*` in an empty mailbox: real clients send it and mean "all".
            Some(_) if count == 0 && self.has_star() => Ok(Ranges::default()),
            Some(n) if n > count => Err(NoSuchNumber(n)),
            _ => Ok(r.without_zero()),
        }
    }

    /// As [`SequenceSet::seqs`], numbers that do not exist are passed over.
    #[must_use]
    pub fn seqs_lenient(&self, snapshot: &Snapshot, saved: &Ranges) -> Ranges {
        let count = u32::try_from(snapshot.len()).unwrap_or(u32::MAX);
        match self.resolve(count) {
            None => saved_seqs(snapshot, saved),
            Some(_) if count == 0 => Ranges::default(),
            Some(r) => r.intersection(&Ranges::from_pairs([(1, count)])),
        }
    }

    fn has_star(&self) -> bool {
        matches!(self, Self::Ranges(r) if r.iter().any(|(a, b)| *a == Bound::Star || *b == Bound::Star))
    }

    /// Writes the set as a client would.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self::Ranges(ranges) = self else {
            out.push(b'$');
            return;
        };
        let put = |out: &mut Vec<u8>, b: &Bound| match b {
            Bound::Number(n) => crate::algorithm::ranges::put_u64(out, u64::from(*n)),
            Bound::Star => out.push(b'*'),
        };
        for (i, (a, b)) in ranges.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            put(out, a);
            if a != b {
                out.push(b':');
                put(out, b);
            }
        }
    }
}

fn saved_seqs(snapshot: &Snapshot, saved: &Ranges) -> Ranges {
    let mut out = Ranges::default();
    for (seq, entry) in saved.select_uids(snapshot) {
        out.push(seq);
        debug_assert!(saved.contains(entry.uid.0));
    }
    out
}

fn bound(text: &[u8]) -> Option<Bound> {
    if text == b"*" {
        return Some(Bound::Star);
    }
    if text.is_empty() || text.len() > 10 || text[0] == b'0' || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n = text.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    u32::try_from(n).ok().map(Bound::Number)
}

/// Any bytes: what is read is written back as the same set.
pub fn fuzz(data: &[u8]) {
    if let Some(set) = SequenceSet::parse(data) {
        let mut out = Vec::new();
        set.write(&mut out);
        assert_eq!(SequenceSet::parse(&out), Some(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use twinpost_message::view::Entry;
    use twinpost_message::{BodyId, Flags, ModSeq, Uid, UidValidity};

    fn mailbox(uids: &[u32]) -> Snapshot {
        let entry = |uid: &u32| Entry {
            uid: Uid(*uid),
            flags: Flags::default(),
            modseq: ModSeq(1),
            body: BodyId(1),
            size_bytes: 1,
            received_s: 0,
            saved_s: 0,
        };
        let entries: Vec<Entry> = uids.iter().map(entry).collect();
        Snapshot::new(UidValidity(1), Uid(uids.last().map_or(1, |u| u + 1)), ModSeq(1), vec![], &entries)
    }

    fn set(text: &str) -> SequenceSet {
        SequenceSet::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_a_set() {
        for good in ["1", "*", "$", "1:*", "*:1", "2,4:7,9,12:*", "4294967295"] {
            assert!(SequenceSet::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in ["", "0", "1:", ":1", "1,,2", ",1", "1,", "01", "4294967296", "1:2:3", "-1", "$1", "1,$", "a", "1 2", "**"] {
            assert!(SequenceSet::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(SequenceSet::parse("1,".repeat(RANGES_MAX).as_bytes()).is_none());
    }

    #[test]
    fn what_a_set_means() {
        let (m, none, saved) = (mailbox(&[5, 9, 20]), mailbox(&[]), Ranges::from_numbers([9, 10, 20]));
        let pairs = |r: &Ranges| r.as_slice().to_vec();
        // RFC 9051 9 seq-range: the last message is always in `n:*`
        assert_eq!(pairs(&set("559:*").uids(&m, &saved)), [(20, 559)]);
        assert_eq!(pairs(&set("6:3,*").uids(&m, &saved)), [(3, 6), (20, 20)]);
        assert_eq!(set("$").uids(&m, &saved), saved);
        assert_eq!(pairs(&set("$").seqs(&m, &saved).unwrap()), [(2, 3)]);
        assert_eq!(pairs(&set("3:1").seqs(&m, &saved).unwrap()), [(1, 3)]);
        assert_eq!(set("2:4").seqs(&m, &saved), Err(NoSuchNumber(4)));
        assert_eq!(pairs(&set("2:4,7").seqs_lenient(&m, &saved)), [(2, 3)]);
        assert_eq!(set("1:*").seqs(&none, &saved), Ok(Ranges::default()));
        assert_eq!(set("1").seqs(&none, &saved), Err(NoSuchNumber(1)));
        assert_eq!(set("1:*").seqs_lenient(&none, &saved), Ranges::default());
        assert!(set("*").uids(&none, &saved).is_empty());
        let picked: Vec<u32> = set("1:*").uids(&m, &saved).select_uids(&m).map(|(seq, _)| seq).collect();
        assert_eq!(picked, [1, 2, 3]);
        let picked: Vec<u32> = Ranges::from_pairs([(2, 9)]).select_seqs(&m).map(|(_, e)| e.uid.0).collect();
        assert_eq!(picked, [9, 20]);
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) { fuzz(&data); }
        #[test]
        fn any_set(text in "[0-9:,*]{1,30}") { fuzz(text.as_bytes()); }

        /// Ranges pick exactly the messages whose numbers are in them.
        #[test]
        fn selection_agrees_with_membership(
            uids in prop::collection::btree_set(1u32..500, 0..300),
            ranges in prop::collection::vec((1u32..600, 0u32..80), 0..10),
        ) {
            let uids: Vec<u32> = uids.into_iter().collect();
            let m = mailbox(&uids);
            let r = Ranges::from_pairs(ranges.iter().map(|(a, l)| (*a, a + l)));
            let by_uid: Vec<u32> = r.select_uids(&m).map(|(_, e)| e.uid.0).collect();
            prop_assert_eq!(by_uid, uids.iter().copied().filter(|u| r.contains(*u)).collect::<Vec<_>>());
            let by_seq: Vec<u32> = r.select_seqs(&m).map(|(seq, _)| seq).collect();
            prop_assert_eq!(by_seq, (1..=u32::try_from(uids.len()).unwrap()).filter(|s| r.contains(*s)).collect::<Vec<_>>());
        }
    }
}
