//! Whether what was seen of a list that only grows can be explained by each of its items having been added at one moment.
//!
//! ```text
//! time ────────────────────────────────────────────────▶
//! append of a      ├──────┤                                 a was added within
//! append of b          ├───────── no answer                 b was added after it began, if at all
//! read of [a]                ├──────┤                       at some moment within, a was there and b was not
//! ```
//!
//! What the list is in the end is known, so the order of the items is, and its states are its prefixes. An operation then says no more than
//! when an item can have been added at the earliest and at the latest: who saw `n` items saw the `n`th added before the operation ended,
//! and the next one after it began. All can be explained, which is to say is linearizable, exactly if moments can be chosen between these
//! bounds that do not decrease along the list. No search is needed; a search checks this in the tests.

use anyhow::{Result, ensure};

/// A moment of a history's clock.
pub type Moment = u64;

/// When each item of a list can have been added.
#[derive(Debug, Clone)]
pub struct Prefix {
    what: String,
    /// By item: the bounds, and what sets them.
    items: Vec<(Bound, Bound)>,
    /// Items that are added with the one after them.
    joined: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Bound {
    moment: Moment,
    why: String,
}

impl Prefix {
    /// A list, named in messages, that has `length` items in the end, of which nothing is known yet.
    pub fn new(what: impl Into<String>, length: usize) -> Self {
        let bound = |moment| Bound { moment, why: String::new() };
        Self {
            what: what.into(),
            items: vec![(bound(Moment::MIN), bound(Moment::MAX)); length],
            joined: vec![false; length],
        }
    }

    /// The item `index` was not added before `moment`. Beyond the list it never was.
    pub fn not_before(&mut self, index: usize, moment: Moment, why: impl FnOnce() -> String) {
        if let Some((earliest, _)) = self.items.get_mut(index)
            && moment > earliest.moment
        {
            *earliest = Bound { moment, why: why() };
        }
    }

    /// The item `index` was there at `moment`.
    ///
    /// # Errors
    /// When it never was.
    pub fn there_by(&mut self, index: usize, moment: Moment, why: impl FnOnce() -> String) -> Result<()> {
        let Some((_, latest)) = self.items.get_mut(index) else {
            anyhow::bail!(
                "{} has {} items in the end, and item {} was there: {}",
                self.what,
                self.joined.len(),
                index + 1,
                why()
            );
        };
        if moment < latest.moment {
            *latest = Bound { moment, why: why() };
        }
        Ok(())
    }

    /// Somebody saw exactly `length` items, between `began` and `ended`.
    ///
    /// # Errors
    /// When the list never was so long, or never ended there.
    pub fn seen(
        &mut self,
        length: usize,
        began: Moment,
        ended: Moment,
        why: impl Fn() -> String,
    ) -> Result<()> {
        if let Some(last) = length.checked_sub(1) {
            self.there_by(last, ended, &why)?;
            ensure!(
                !self.joined[last],
                "{}: part of what was appended at once was seen: {}",
                self.what,
                why()
            );
        }
        self.not_before(length, began, why);
        Ok(())
    }

    /// The items from `first` on, so many, were added at once.
    pub fn join(&mut self, first: usize, count: usize) {
        if let Some(joined) = self.joined.get_mut(first..(first + count).saturating_sub(1)) {
            joined.fill(true);
        }
    }

    /// Checks that moments can be chosen.
    ///
    /// # Errors
    /// Two operations that contradict each other.
    pub fn check(&self) -> Result<()> {
        let mut earliest = Bound { moment: Moment::MIN, why: String::new() };
        let mut start = 0;
        while start < self.items.len() {
            let end = start + self.joined[start..].iter().take_while(|joined| **joined).count() + 1;
            let group = &self.items[start..end.min(self.items.len())];
            for (bound, _) in group {
                if bound.moment > earliest.moment {
                    earliest = bound.clone();
                }
            }
            for (offset, (_, latest)) in group.iter().enumerate() {
                ensure!(
                    earliest.moment <= latest.moment,
                    "{}: item {} was there by {}, because {}; and it was not before {}, because {}",
                    self.what,
                    start + offset + 1,
                    latest.moment,
                    latest.why,
                    earliest.moment,
                    earliest.why
                );
            }
            start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;

    use super::*;

    /// What somebody did, between two moments.
    #[derive(Debug, Clone)]
    enum Did {
        /// Added the item, without having been told if there is no end.
        Add(usize),
        Saw(usize),
    }

    type Operation = (Moment, Moment, Did);

    fn prefix(length: usize, operations: &[Operation]) -> Result<()> {
        let mut prefix = Prefix::new("the list", length);
        for (began, ended, did) in operations {
            let why = || format!("{did:?} from {began} to {ended}");
            match *did {
                Did::Add(index) => {
                    prefix.not_before(index, *began, why);
                    prefix.there_by(index, *ended, why)?;
                }
                Did::Saw(seen) => prefix.seen(seen, *began, *ended, why)?,
            }
        }
        prefix.check()
    }

    /// As the definition has it (Wing and Gong): some order of the operations, in which none comes before one that had ended when it
    /// began, makes each do what it did.
    fn search(length: usize, operations: &[Operation]) -> bool {
        fn go(left: &mut Vec<&Operation>, length: usize) -> bool {
            let Some(first_end) = left.iter().map(|operation| operation.1).min() else { return true };
            for index in 0..left.len() {
                let operation = left[index];
                let after = match operation.2 {
                    Did::Add(item) if item == length => length + 1,
                    Did::Saw(seen) if seen == length => length,
                    Did::Add(_) | Did::Saw(_) => continue,
                };
                if operation.0 > first_end {
                    continue;
                }
                left.remove(index);
                let found = go(left, after);
                left.insert(index, operation);
                if found {
                    return true;
                }
            }
            false
        }
        let mut left: Vec<&Operation> = operations.iter().collect();
        let adds = operations.iter().filter(|operation| matches!(operation.2, Did::Add(_))).count();
        adds == length && go(&mut left, 0)
    }

    fn histories() -> impl Strategy<Value = (usize, Vec<Operation>)> {
        (1..4_usize).prop_flat_map(|length| {
            let adds = proptest::collection::vec((0..12_u64, 0..6_u64), length);
            let reads = proptest::collection::vec((0..12_u64, 0..6_u64, 0..=length), 0..4);
            (adds, reads).prop_map(move |(adds, reads)| {
                let adds =
                    adds.into_iter().enumerate().map(|(item, (at, time))| (at, at + time, Did::Add(item)));
                let reads = reads.into_iter().map(|(at, time, seen)| (at, at + time, Did::Saw(seen)));
                (length, adds.chain(reads).collect())
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

        #[test]
        fn bounds_decide_as_a_search_does((length, operations) in histories()) {
            prop_assert_eq!(prefix(length, &operations).is_ok(), search(length, &operations), "{:?}", operations);
        }
    }

    #[test]
    fn the_search_decides_both_ways() {
        // Both verdicts are frequent among what is generated, or the property would say little.
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let tree = |runner: &mut proptest::test_runner::TestRunner| {
            let (length, operations) = histories().new_tree(runner).unwrap().current();
            search(length, &operations)
        };
        let good = (0..1_000).filter(|_| tree(&mut runner)).count();
        assert!((100..900).contains(&good), "{good} of 1000 are good");
    }

    #[test]
    fn what_is_added_at_once_is_seen_as_a_whole() {
        let mut prefix = Prefix::new("the list", 3);
        prefix.join(1, 2);
        prefix.seen(1, 0, 1, String::new).unwrap();
        prefix.seen(3, 2, 3, String::new).unwrap();
        let error = prefix.clone().seen(2, 2, 3, || "a read".into()).unwrap_err();
        assert!(error.to_string().contains("part of what was appended at once"), "{error}");
        prefix.check().unwrap();
        // The first of the two was there by 1, and the second not before 2.
        prefix.there_by(1, 1, String::new).unwrap();
        prefix.not_before(2, 2, String::new);
        prefix.check().unwrap_err();
    }
}
