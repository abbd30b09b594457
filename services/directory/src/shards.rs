//! A hash map that is cheap to copy: many small maps, each shared until it is changed.
//!
//! Readers hold a whole old copy and are never locked out; one change of a directory of 100,000 accounts copies one
//! shard (a few hundred pointers) instead of everything.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

const SHARDS: usize = 256;

pub(crate) struct Shards<K, V> {
    hasher: RandomState,
    parts: Vec<Arc<HashMap<K, V>>>,
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { hasher: self.hasher.clone(), parts: self.parts.clone() }
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::new());
        Self { hasher: RandomState::new(), parts: vec![empty; SHARDS] }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    fn at<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The low bits choose a bucket inside a map with another hasher, so any bits serve here.
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0)
    }
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts[self.at(key)].get(key)
    }
    pub(crate) fn insert(&mut self, key: K, value: V) {
        let at = self.at(&key);
        Arc::make_mut(&mut self.parts[at]).insert(key, value);
    }
    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let at = self.at(key);
        if self.parts[at].contains_key(key) {
            Arc::make_mut(&mut self.parts[at]).remove(key);
        }
    }
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.parts.iter().flat_map(|p| p.values())
    }
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }
    /// Gives back what growing left over; worth it after a load.
    pub(crate) fn shrink(&mut self) {
        for part in &mut self.parts {
            Arc::make_mut(part).shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_copy_is_like_a_map_and_the_old_one_stays(ops in proptest::collection::vec((0u8..40, proptest::option::of(0u8..9)), 0..200)) {
            let (mut map, mut shards) = (HashMap::new(), Shards::default());
            for (key, value) in ops {
                let (old_map, old) = (map.clone(), shards.clone());
                match value {
                    Some(v) => { map.insert(key, v); shards.insert(key, v); }
                    None => { map.remove(&key); shards.remove(&key); }
                }
                for k in 0..40 {
                    proptest::prop_assert_eq!(shards.get(&k), map.get(&k));
                    proptest::prop_assert_eq!(old.get(&k), old_map.get(&k));
                }
                proptest::prop_assert_eq!(shards.len(), map.len());
            }
        }
    }
}
