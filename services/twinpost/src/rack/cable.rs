//! What can be wrong with a cable: cut in one direction or both, losing datagrams, garbling bytes.
//!
//! Contract: a [`Cable`] is shared by the task that carries its traffic and by the control socket; a change counts from the next
//! datagram or byte on. Chance comes from a seeded generator, so that a run with faults can be told apart by its seed.

use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// From which node to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From node a to node b.
    ToB,
    /// From node b to node a.
    ToA,
}

impl Way {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToB, Self::ToA];

    /// As it is written in orders.
    pub fn name(self) -> &'static str {
        match self {
            Self::ToB => "a>b",
            Self::ToA => "b>a",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::ToB => 0,
            Self::ToA => 1,
        }
    }
}

/// A small generator (SplitMix64, Steele, Lea, Flood 2014): good enough for faults, and the same on every machine.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with this probability.
    fn falls(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        uniform < probability
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    passed: u64,
    cut: u64,
    lost: u64,
    garbled: u64,
}

#[derive(Debug)]
struct State {
    cut: [bool; 2],
    loss: [f64; 2],
    garble: [f64; 2],
    counts: [Counts; 2],
    seed: u64,
    dice: Dice,
}

/// One cable between the two nodes.
#[derive(Clone, Debug)]
pub struct Cable {
    name: &'static str,
    state: Arc<Mutex<State>>,
    /// Wakes those who wait for the end of a cut.
    changed: Arc<tokio::sync::Notify>,
}

impl Cable {
    /// A sound cable.
    pub fn new(name: &'static str, seed: u64) -> Self {
        let state =
            State { cut: [false; 2], loss: [0.0; 2], garble: [0.0; 2], counts: [Counts::default(); 2], seed, dice: Dice(seed) };
        Self { name, state: Arc::new(Mutex::new(state)), changed: Arc::default() }
    }

    /// Its name in orders.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Cuts it in these directions.
    pub fn cut(&self, ways: &[Way]) {
        let mut state = self.state.lock();
        ways.iter().for_each(|way| state.cut[way.index()] = true);
    }

    /// It is sound again in these directions: no cut, no loss, no garbling.
    pub fn mend(&self, ways: &[Way]) {
        let mut state = self.state.lock();
        for way in ways {
            let i = way.index();
            (state.cut[i], state.loss[i], state.garble[i]) = (false, 0.0, 0.0);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// It loses this share of datagrams (0 to 1) in these directions.
    pub fn lose(&self, share: f64, ways: &[Way]) {
        let mut state = self.state.lock();
        ways.iter().for_each(|way| state.loss[way.index()] = share);
    }

    /// Each byte is changed with this probability in these directions.
    pub fn garble(&self, probability: f64, ways: &[Way]) {
        let mut state = self.state.lock();
        ways.iter().for_each(|way| state.garble[way.index()] = probability);
    }

    /// Chance begins anew from this seed.
    pub fn seed(&self, seed: u64) {
        let mut state = self.state.lock();
        (state.seed, state.dice) = (seed, Dice(seed));
    }

    /// Whether this datagram passes; counts it.
    pub fn passes(&self, way: Way) -> bool {
        let mut state = self.state.lock();
        let i = way.index();
        if state.cut[i] {
            state.counts[i].cut += 1;
            return false;
        }
        let loss = state.loss[i];
        if loss > 0.0 && state.dice.falls(loss) {
            state.counts[i].lost += 1;
            return false;
        }
        state.counts[i].passed += 1;
        true
    }

    /// Sends bytes through a line: changes what is garbled, counts, and says whether they arrive at all.
    pub fn through(&self, way: Way, bytes: &mut [u8]) -> bool {
        let mut state = self.state.lock();
        let i = way.index();
        let count = bytes.len() as u64;
        if state.cut[i] {
            state.counts[i].cut += count;
            return false;
        }
        let garble = state.garble[i];
        if garble > 0.0 {
            for byte in bytes.iter_mut() {
                if state.dice.falls(garble) {
                    // Any other value: 1 to 255 by exclusive or.
                    *byte ^= (state.dice.next() % 255) as u8 + 1;
                    state.counts[i].garbled += 1;
                }
            }
        }
        state.counts[i].passed += count;
        true
    }

    /// What is heard of these bytes at another speed.
    pub fn noise(&self, bytes: &mut [u8]) {
        let dice = &mut self.state.lock().dice;
        bytes.iter_mut().for_each(|byte| *byte = dice.next() as u8);
    }

    /// Waits until it is not cut in this direction.
    pub async fn whole(&self, way: Way) {
        loop {
            let changed = self.changed.notified();
            if !self.is_cut(way) {
                return;
            }
            // A mend between the look and the wait is not missed: `notified` was made before the look, and it is enough
            // to look again now and then.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), changed).await;
        }
    }

    /// Whether it is cut in this direction.
    pub fn is_cut(&self, way: Way) -> bool {
        self.state.lock().cut[way.index()]
    }

    /// What `show` says of it.
    pub fn show(&self) -> Value {
        let state = self.state.lock();
        let side = |way: Way| {
            let (i, counts) = (way.index(), state.counts[way.index()]);
            json!({
                "cut": state.cut[i], "loss_percent": state.loss[i] * 100.0, "garble": state.garble[i],
                "passed": counts.passed, "dropped_by_cut": counts.cut, "lost": counts.lost, "garbled": counts.garbled,
            })
        };
        json!({ "a>b": side(Way::ToB), "b>a": side(Way::ToA), "seed": state.seed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_counts_for_its_direction_only_and_is_mended() {
        let cable = Cable::new("eth1", 1);
        cable.cut(&[Way::ToB]);
        assert!(!cable.passes(Way::ToB) && cable.passes(Way::ToA));
        assert!(cable.is_cut(Way::ToB) && !cable.is_cut(Way::ToA));
        cable.mend(&Way::BOTH);
        assert!(cable.passes(Way::ToB));
        let shown = cable.show();
        assert_eq!((shown["a>b"]["dropped_by_cut"].as_u64(), shown["a>b"]["passed"].as_u64()), (Some(1), Some(1)));
    }

    #[test]
    fn loss_is_near_its_share_and_the_same_seed_gives_the_same_losses() {
        let run = |seed| {
            let cable = Cable::new("lan", seed);
            cable.lose(0.2, &Way::BOTH);
            (0..10_000).map(|_| cable.passes(Way::ToA)).collect::<Vec<_>>()
        };
        let (first, again, other) = (run(7), run(7), run(8));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let lost = first.iter().filter(|passed| !**passed).count();
        assert!((1800..2200).contains(&lost), "{lost} of 10000 at 20 %");
    }

    #[test]
    fn garbling_changes_bytes_and_never_their_number() {
        let cable = Cable::new("serial", 3);
        let mut bytes = [0x55; 4096];
        assert!(cable.through(Way::ToB, &mut bytes));
        assert_eq!(bytes, [0x55; 4096]);
        cable.garble(0.5, &[Way::ToB]);
        assert!(cable.through(Way::ToB, &mut bytes));
        let changed = bytes.iter().filter(|b| **b != 0x55).count();
        assert!((1800..2300).contains(&changed), "{changed} of 4096 at one half");
    }
}
