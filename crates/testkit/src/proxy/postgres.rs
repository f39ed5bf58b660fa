//! What becomes of some statements on their way to PostgreSQL and back.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Counter;

/// What may become of a statement. A commit is a `COMMIT`, or a statement outside of a transaction that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Any statement but `BEGIN` and `ROLLBACK`: it is not executed, and its transaction is rolled back; the answer is this SQLSTATE.
    Refused(&'static str),
    /// A commit: the server has executed it, and the answer is this SQLSTATE all the same.
    Ambiguous(&'static str),
    /// A commit: the connection is reset before the server hears of it.
    CutBefore,
    /// A commit: the connection is reset when the server has executed it, before its answer comes through.
    CutAfter,
}

/// Which statements fare how, decided by a seed and the number of the statement. Counts what it did.
#[derive(Debug)]
pub struct PostgresFaults {
    faults: Vec<Fault>,
    one_in: u64,
    seed: u64,
    is_on: AtomicBool,
    /// Statements that a fault was thought of for.
    seen: Counter,
    injected: Counter,
}

impl PostgresFaults {
    /// One in `one_in` statements, of those that it can become of, gets one of `faults`.
    ///
    /// # Panics
    /// When there are no faults, or one in none.
    pub fn new(faults: &[Fault], one_in: u64, seed: u64) -> Self {
        assert!(!faults.is_empty() && one_in > 0, "faults to inject, into one in some statements");
        Self {
            faults: faults.to_vec(),
            one_in,
            seed,
            is_on: AtomicBool::new(true),
            seen: Counter::default(),
            injected: Counter::default(),
        }
    }

    /// Injects faults from now on, or none.
    pub fn turn(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// How many faults were injected.
    pub fn injected(&self) -> u64 {
        self.injected.get()
    }

    pub(super) fn has_injected(&self) {
        self.injected.add(1);
    }

    /// What becomes of the next statement.
    pub(super) fn fault(&self, is_commit: bool) -> Option<Fault> {
        let may_be = |fault: &&Fault| is_commit || matches!(fault, Fault::Refused(_));
        let faults: Vec<Fault> = self.faults.iter().filter(may_be).copied().collect();
        if faults.is_empty() || !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let thrown = throw(self.seed, self.seen.add(1));
        if !thrown.is_multiple_of(self.one_in) {
            return None;
        }
        faults.get((thrown / self.one_in) as usize % faults.len()).copied()
    }
}

/// The number of a die's throw (SplitMix64).
fn throw(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_depend_on_the_seed_and_hit_as_often_as_is_said() {
        let faults = |seed| {
            let faults = PostgresFaults::new(&[Fault::Refused("40001"), Fault::CutAfter], 5, seed);
            (0..1_000).map(|_| faults.fault(true)).collect::<Vec<_>>()
        };
        let (one, same, other) = (faults(1), faults(1), faults(2));
        assert_eq!(one, same);
        assert_ne!(one, other);
        let hits = one.iter().flatten().count();
        assert!((150..250).contains(&hits), "{hits}");
        for fault in [Fault::Refused("40001"), Fault::CutAfter] {
            assert!(one.iter().flatten().filter(|hit| **hit == fault).count() > 50);
        }
    }

    #[test]
    fn only_commits_are_cut_off() {
        let faults = PostgresFaults::new(&[Fault::CutBefore, Fault::Ambiguous("40003")], 1, 0);
        assert!((0..10).all(|_| faults.fault(false).is_none() && faults.fault(true).is_some()));
        faults.turn(false);
        assert_eq!(faults.fault(true), None);
    }
}
