use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

/// A bounded map that forgets what has not been used for longest, roughly: entries live in a young and an old half; use
/// moves one to the young half, and when that is full the old half is dropped and the young one becomes old.
/// No links, no clocks: what has been used among the last `capacity / 2` different keys is there.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    half: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Holds at most `capacity` entries, but at least two.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    pub(crate) fn get<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            std::mem::swap(&mut self.young, &mut self.old);
            // Clearing keeps the table, so that a full cache allocates no more.
            self.young.clear();
        }
        self.young.insert(key, value);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten() {
        let mut recent = Recent::new(8);
        for key in 0..100 {
            recent.insert(key, key);
            assert_eq!(recent.get(&0), Some(0), "in use");
            assert!(recent.young.len() + recent.old.len() <= 8);
        }
        assert_eq!(recent.get(&99), Some(99));
        assert_eq!(recent.get(&50), None);
    }

    #[test]
    fn the_newest_value_wins() {
        let mut recent = Recent::new(4);
        for round in 0..10 {
            for key in 0..2 {
                recent.insert(key, round);
                assert_eq!(recent.get(&key), Some(round));
            }
        }
        recent.clear();
        assert_eq!(recent.get(&0), None);
    }
}
