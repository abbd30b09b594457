//! Sets of message numbers as sorted ranges.
//!
//! Contract: ranges are inclusive, sorted, and do not touch; every operation is linear in ranges, never in numbers (except
//! the iterators). Failure classes: none.

use twinpost_message::view::{Entry, Snapshot};

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// From inclusive ranges in any order that may overlap; a range whose end is below its start is passed over.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut all: Vec<(u32, u32)> = pairs.into_iter().filter(|(a, b)| a <= b).collect();
        all.sort_unstable();
        let mut out: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (a, b) in all {
            match out.last_mut() {
                Some(last) if a <= last.1.saturating_add(1) => last.1 = last.1.max(b),
                _ => out.push((a, b)),
            }
        }
        Self(out)
    }
    /// From numbers in any order.
    pub fn from_numbers(numbers: impl IntoIterator<Item = u32>) -> Self {
        let mut out = Self::default();
        let mut late = Vec::new();
        for n in numbers {
            if out.0.last().is_none_or(|last| n >= last.0) {
                out.push(n);
            } else {
                late.push((n, n));
            }
        }
        if late.is_empty() { out } else { Self::from_pairs(late.into_iter().chain(out.0)) }
    }
    /// Adds a number that is not below the start of the last range (numbers in rising order).
    pub fn push(&mut self, n: u32) {
        match self.0.last_mut() {
            Some(last) if n >= last.0 && n <= last.1.saturating_add(1) => last.1 = last.1.max(n),
            Some(last) if n < last.0 => *self = self.union(&Self(vec![(n, n)])),
            _ => self.0.push((n, n)),
        }
    }
    /// No number.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// How many numbers.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(a, b)| u64::from(b - a) + 1).sum()
    }
    /// The ranges.
    #[must_use]
    pub fn as_slice(&self) -> &[(u32, u32)] {
        &self.0
    }
    /// Lowest number.
    #[must_use]
    pub fn lowest(&self) -> Option<u32> {
        self.0.first().map(|r| r.0)
    }
    /// Highest number.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.0.last().map(|r| r.1)
    }
    /// The number is in the set.
    #[must_use]
    pub fn contains(&self, n: u32) -> bool {
        let i = self.0.partition_point(|r| r.1 < n);
        self.0.get(i).is_some_and(|r| r.0 <= n)
    }
    /// All numbers, rising. The caller bounds it: a set may hold four thousand million.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().flat_map(|(a, b)| *a..=*b)
    }
    /// Numbers of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::from_pairs(self.0.iter().chain(&other.0).copied())
    }
    /// Numbers of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut i, mut j) = (0, 0);
        let mut out = Vec::new();
        while let (Some(x), Some(y)) = (self.0.get(i), other.0.get(j)) {
            let (from, to) = (x.0.max(y.0), x.1.min(y.1));
            if from <= to {
                out.push((from, to));
            }
            if x.1 < y.1 { i += 1 } else { j += 1 }
        }
        Self(out)
    }
    /// Numbers of self that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        let mut j = 0;
        for &(a, b) in &self.0 {
            let mut from = u64::from(a);
            while other.0.get(j).is_some_and(|r| r.1 < a) {
                j += 1;
            }
            let mut k = j;
            while let Some(&(x, y)) = other.0.get(k).filter(|r| r.0 <= b) {
                if from < u64::from(x) {
                    out.push((u32::try_from(from).unwrap_or(u32::MAX), x - 1));
                }
                from = u64::from(y) + 1;
                k += 1;
            }
            if from <= u64::from(b) {
                out.push((u32::try_from(from).unwrap_or(u32::MAX), b));
            }
        }
        Self(out)
    }
    /// The set without the number 0, which no message has.
    #[must_use]
    pub fn without_zero(mut self) -> Self {
        if let Some(first) = self.0.first_mut().filter(|r| r.0 == 0) {
            first.0 = 1;
            if first.1 == 0 {
                self.0.remove(0);
            }
        }
        self
    }
    /// The messages whose UIDs are in the set, with their sequence numbers, in order. One walk from the lowest to the highest:
    /// a client may name 20,000 UIDs one by one.
    pub fn select_uids<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (u32, &'a Entry)> + 'a {
        let from = self.lowest().and_then(|uid| snapshot.first_from(twinpost_message::Uid(uid)));
        let from = from.map_or(u32::MAX, |(seq, _)| seq);
        let mut among = self.walk();
        snapshot.iter_from(from).take_while(|(_, e)| Some(e.uid.0) <= self.highest()).filter(move |(_, e)| among(e.uid.0))
    }
    /// The messages whose sequence numbers are in the set, in order.
    pub fn select_seqs<'a>(&'a self, snapshot: &'a Snapshot) -> impl Iterator<Item = (u32, &'a Entry)> + 'a {
        let from = self.lowest().map_or(u32::MAX, |seq| seq.max(1));
        let mut among = self.walk();
        snapshot.iter_from(from).take_while(|(seq, _)| Some(*seq) <= self.highest()).filter(move |(seq, _)| among(*seq))
    }
    /// Membership of numbers that are asked for in rising order.
    fn walk(&self) -> impl FnMut(u32) -> bool + '_ {
        let mut rest = self.0.as_slice();
        move |n| {
            while rest.first().is_some_and(|r| r.1 < n) {
                rest = &rest[1..];
            }
            rest.first().is_some_and(|r| r.0 <= n)
        }
    }
    /// `1:3,5` (RFC 9051 9 `sequence-set`); nothing for the empty set.
    pub fn write(&self, out: &mut Vec<u8>) {
        for (i, (a, b)) in self.0.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            put_u64(out, u64::from(*a));
            if b > a {
                out.push(b':');
                put_u64(out, u64::from(*b));
            }
        }
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<T: IntoIterator<Item = u32>>(iter: T) -> Self {
        Self::from_numbers(iter)
    }
}

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";

/// Appends a number in decimal. Written by hand because FETCH of 20,000 flags is mostly this.
pub fn put_u64(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = 20;
    while n >= 100 {
        let pair = usize::try_from(n % 100).unwrap_or(0) * 2;
        n /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    let last = usize::try_from(n).unwrap_or(0);
    if last >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[last * 2..last * 2 + 2]);
    } else {
        at -= 1;
        digits[at] = b'0' + u8::try_from(n).unwrap_or(0);
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn model(r: &Ranges) -> BTreeSet<u32> {
        r.iter().collect()
    }

    proptest! {
        #[test]
        fn set_operations_agree_with_sets(a in prop::collection::vec((0u32..200, 0u32..12), 0..20), b in prop::collection::vec((0u32..200, 0u32..12), 0..20)) {
            let (x, y) = (Ranges::from_pairs(a.iter().map(|(s, l)| (*s, s + l))), Ranges::from_pairs(b.iter().map(|(s, l)| (*s, s + l))));
            let (mx, my) = (model(&x), model(&y));
            prop_assert_eq!(model(&x.union(&y)), &mx | &my);
            prop_assert_eq!(model(&x.intersection(&y)), &mx & &my);
            prop_assert_eq!(model(&x.difference(&y)), &mx - &my);
            prop_assert_eq!(x.count(), mx.len() as u64);
            prop_assert!((0..220).all(|n| x.contains(n) == mx.contains(&n)));
            // ranges never touch
            prop_assert!(x.union(&y).as_slice().windows(2).all(|w| w[0].1 + 1 < w[1].0));
            prop_assert_eq!(Ranges::from_numbers(mx.iter().rev().copied()), x.clone());
            prop_assert_eq!(Ranges::from_numbers(mx.iter().copied()), x);
        }
        #[test]
        fn numbers_are_written_as_fmt_does(n in any::<u64>(), shift in 0u32..64) {
            let mut out = Vec::new();
            put_u64(&mut out, n >> shift);
            prop_assert_eq!(String::from_utf8(out).unwrap(), (n >> shift).to_string());
        }
    }

    #[test]
    fn edges_of_the_number_space() {
        let all = Ranges::from_pairs([(1, u32::MAX)]);
        assert_eq!(all.difference(&all), Ranges::default());
        assert_eq!(all.difference(&Ranges::from_pairs([(u32::MAX, u32::MAX)])).highest(), Some(u32::MAX - 1));
        assert_eq!(all.union(&Ranges::from_pairs([(0, 0)])).without_zero(), all);
        assert_eq!(Ranges::from_pairs([(0, 0)]).without_zero(), Ranges::default());
        let mut out = Vec::new();
        Ranges::from_numbers([5, 1, 2, 3, 9, 10]).write(&mut out);
        assert_eq!(out, b"1:3,5,9:10");
    }
}
