//! Joining the parts of concatenated messages.
//!
//! Contract: at most `SETS` unfinished messages and `PARTS` parts are kept; parts come in any order and more than once. Parts belong together
//! when sender, reference, size of the reference and total agree. When room is wanted, the message that has waited longest since its last
//! part is given up, and so are those older than `expire` is told: each of its parts is handed back as `Lost`, nothing disappears.
//! `T` is what the caller keeps of a part (its text, or the row of its store); equal parts are told from other ones by `PartialEq`.
//! Nothing fails.

use crate::address::Address;
use crate::header::Concatenation;

/// Unfinished messages.
#[derive(Debug)]
pub struct Joiner<T, const SETS: usize, const PARTS: usize> {
    sets: [Option<Set>; SETS],
    parts: [Option<Held<T>>; PARTS],
}

#[derive(Clone, Debug)]
struct Set {
    from: Address,
    wide: bool,
    reference: u16,
    total: u8,
    have: u8,
    /// Time of the last part.
    at_s: i64,
}

#[derive(Debug)]
struct Held<T> {
    set: usize,
    number: u8,
    item: T,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// The message is complete: `Joiner::take` gives its parts.
    Complete(Complete),
    /// Kept; more are wanted.
    Waiting {
        /// Parts that are there.
        have: u8,
        /// Parts in all.
        total: u8,
    },
    /// The same part came before; here it is back.
    Duplicate(T),
}

/// A complete message, to be taken from its joiner at once.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub struct Complete {
    set: usize,
    /// Parts in all.
    pub total: u8,
}

/// A part of a message that was given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost<T> {
    /// Sender.
    pub from: Address,
    /// Reference of the message.
    pub reference: u16,
    /// This part.
    pub number: u8,
    /// Parts in all.
    pub total: u8,
    /// What was kept of it.
    pub item: T,
}

impl<T: PartialEq, const SETS: usize, const PARTS: usize> Default for Joiner<T, SETS, PARTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: PartialEq, const SETS: usize, const PARTS: usize> Joiner<T, SETS, PARTS> {
    /// Empty. At least one message and one part must fit.
    #[must_use]
    pub fn new() -> Self {
        const { assert!(SETS > 0 && PARTS > 0, "room for something") };
        Self { sets: [const { None }; SETS], parts: [const { None }; PARTS] }
    }

    /// Takes a part that came at `now_s`. `lost` gets the parts of messages given up for it.
    pub fn push(
        &mut self,
        from: &Address,
        concatenation: Concatenation,
        now_s: i64,
        item: T,
        mut lost: impl FnMut(Lost<T>),
    ) -> Pushed<T> {
        let Concatenation { wide, reference, total, number } = concatenation;
        let same = |set: &Set| set.wide == wide && set.reference == reference && set.total == total && set.from == *from;
        let mut found = self.sets.iter().position(|set| set.as_ref().is_some_and(same));
        if let Some(set) = found
            && let Some(held) = self.parts.iter().flatten().find(|held| held.set == set && held.number == number)
        {
            if held.item == item {
                return Pushed::Duplicate(item);
            }
            // The sender has come round to the same reference: the old message will never be complete.
            self.give_up(set, &mut lost);
            found = None;
        }
        let set = match found {
            Some(set) => set,
            None => self.open(Set { from: from.clone(), wide, reference, total, have: 0, at_s: now_s }, &mut lost),
        };
        let Some(room) = self.room(set, &mut lost) else {
            // The joiner is smaller than this one message: it can never be complete.
            self.give_up(set, &mut lost);
            lost(Lost { from: from.clone(), reference, number, total, item });
            return Pushed::Waiting { have: 0, total };
        };
        self.parts[room] = Some(Held { set, number, item });
        let Some(entry) = &mut self.sets[set] else {
            return Pushed::Waiting { have: 0, total };
        };
        entry.have += 1;
        entry.at_s = now_s;
        if entry.have == total { Pushed::Complete(Complete { set, total }) } else { Pushed::Waiting { have: entry.have, total } }
    }

    /// Takes the parts of a complete message out, in order.
    #[allow(clippy::needless_pass_by_value)] // the token is spent
    pub fn take(&mut self, complete: Complete) -> impl Iterator<Item = T> + '_ {
        let Complete { set, total } = complete;
        // A token kept too long may point at another message by now: that one stays.
        let whole = self.sets[set].take_if(|set| set.have == total && set.total == total).is_some();
        Taken { parts: &mut self.parts, set, number: 0, total: if whole { total } else { 0 }, whole }
    }

    /// Gives up messages whose last part came before `before_s`.
    pub fn expire(&mut self, before_s: i64, mut lost: impl FnMut(Lost<T>)) {
        for set in 0..SETS {
            if self.sets[set].as_ref().is_some_and(|set| set.at_s < before_s) {
                self.give_up(set, &mut lost);
            }
        }
    }

    /// Unfinished messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sets.iter().flatten().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&mut self, new: Set, lost: &mut impl FnMut(Lost<T>)) -> usize {
        let free = self.sets.iter().position(Option::is_none);
        let set = free.or_else(|| self.oldest(None)).unwrap_or(0);
        self.give_up(set, lost);
        self.sets[set] = Some(new);
        set
    }

    /// A free place for a part; the oldest other message makes room.
    fn room(&mut self, set: usize, lost: &mut impl FnMut(Lost<T>)) -> Option<usize> {
        loop {
            if let Some(free) = self.parts.iter().position(Option::is_none) {
                return Some(free);
            }
            let oldest = self.oldest(Some(set))?;
            self.give_up(oldest, lost);
        }
    }

    fn oldest(&self, but: Option<usize>) -> Option<usize> {
        let sets = self.sets.iter().enumerate().filter(|(at, _)| Some(*at) != but);
        sets.filter_map(|(at, set)| set.as_ref().map(|set| (set.at_s, at))).min().map(|(_, at)| at)
    }

    fn give_up(&mut self, set: usize, lost: &mut impl FnMut(Lost<T>)) {
        let Some(Set { from, reference, total, .. }) = self.sets[set].take() else {
            return;
        };
        for part in &mut self.parts {
            if part.as_ref().is_some_and(|held| held.set == set)
                && let Some(Held { number, item, .. }) = part.take()
            {
                lost(Lost { from: from.clone(), reference, number, total, item });
            }
        }
    }
}

/// The parts of a complete message; those not taken are dropped with it.
struct Taken<'a, T> {
    parts: &'a mut [Option<Held<T>>],
    set: usize,
    number: u8,
    total: u8,
    whole: bool,
}

impl<T> Iterator for Taken<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.number >= self.total {
            return None;
        }
        self.number += 1;
        let wanted = |held: &Held<T>| held.set == self.set && held.number == self.number;
        let place = self.parts.iter_mut().find(|part| part.as_ref().is_some_and(wanted))?;
        place.take().map(|held| held.item)
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        for part in self.parts.iter_mut().filter(|_| self.whole) {
            if part.as_ref().is_some_and(|held| held.set == self.set) {
                *part = None;
            }
        }
    }
}
