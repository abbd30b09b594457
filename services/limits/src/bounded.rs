//! A bounded state store for governor: what has recovered fully, and then what is nearest to it, is forgotten first.

use crate::clock::Clock;
use governor::nanos::Nanos;
use governor::state::StateStore;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

const SHARDS: usize = 16;

/// Theoretical arrival times by key, at most a fixed number of them.
pub(crate) struct BoundedStore<K> {
    shards: [Mutex<HashMap<K, u64>>; SHARDS],
    hasher: RandomState,
    per_shard_max: usize,
    clock: Clock,
    start: u64,
}

impl<K: Hash + Eq + Clone> BoundedStore<K> {
    pub(crate) fn new(keys_max: usize, clock: Clock) -> Self {
        let start = nanos(&clock);
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            per_shard_max: (keys_max / SHARDS).max(4),
            clock,
            start,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().len()).sum()
    }

    fn make_room(&self, shard: &mut HashMap<K, u64>) {
        // Arrival times count from the limiter's start.
        let now = nanos(&self.clock).saturating_sub(self.start);
        shard.retain(|_, arrival| *arrival > now);
        if shard.len() >= self.per_shard_max {
            let mut arrivals: Vec<u64> = shard.values().copied().collect();
            let quarter = arrivals.len() / 4;
            let (_, cut, _) = arrivals.select_nth_unstable(quarter);
            let cut = *cut;
            shard.retain(|_, arrival| *arrival > cut);
        }
        shard.shrink_to(self.per_shard_max / 2);
    }
}

fn nanos(clock: &Clock) -> u64 {
    u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl<K: Hash + Eq + Clone> StateStore for BoundedStore<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let index = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[index].lock();
        if let Some(arrival) = shard.get_mut(key) {
            let (value, next) = f(Some((*arrival).into()))?;
            *arrival = next.into();
            return Ok(value);
        }
        let (value, next) = f(None)?;
        if shard.len() >= self.per_shard_max {
            self.make_room(&mut shard);
        }
        shard.insert(key.clone(), next.into());
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::Quota;
    use std::num::NonZeroU32;
    use std::time::Duration;

    #[test]
    fn a_flood_of_sources_stays_bounded_and_the_busiest_is_remembered() {
        let clock = Clock::manual();
        let ten = NonZeroU32::new(10).unwrap();
        let rate: crate::Rate<u32> = crate::rate(Quota::per_minute(ten), 1600, &clock);
        for _ in 0..10 {
            rate.check_key(&0u32).unwrap();
        }
        rate.check_key(&0).unwrap_err();
        for source in 1..100_000u32 {
            rate.check_key(&source).unwrap();
        }
        rate.check_key(&0).unwrap_err();
        clock.advance(Duration::from_secs(3600));
        rate.check_key(&0).unwrap();
        let kept = rate.into_state_store().len();
        assert!(kept <= 1600, "{kept}");
    }
}
