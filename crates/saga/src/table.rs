//! The instances that have not ended: who works on each, who waits for a turn, and when the others wake.
//!
//! An instance that waits costs its name and a time: its state is read from the log when it wakes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use crate::instance::State;

/// Handles are of one and the same table.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
    /// There is somebody in the queue.
    pub(crate) queued: Notify,
    /// The first time to wake has changed.
    pub(crate) timed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Arc<str>, Slot>,
    queue: VecDeque<Arc<str>>,
    /// May hold times that are no longer meant.
    times: BinaryHeap<Reverse<(Timestamp, Arc<str>)>>,
    counts: HashMap<State, usize>,
    /// How many follow each definition, of those that are known.
    definitions: HashMap<Arc<str>, usize>,
    /// How many were started when, of those that are known.
    ages: BTreeMap<Timestamp, usize>,
    ended: Ended,
}

/// Instances that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) completed: u64,
    pub(crate) compensated: u64,
}

/// What there is, at one time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    /// How many are in each state.
    pub(crate) states: HashMap<State, usize>,
    /// How many follow each definition.
    pub(crate) definitions: BTreeMap<Arc<str>, usize>,
    /// When the oldest was started.
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) ended: Ended,
}

#[derive(Debug)]
struct Slot {
    state: State,
    at: At,
    /// Its definition, and when it was started, once that has been seen in the saga's log.
    origin: Option<(Arc<str>, Timestamp)>,
    /// Why it cannot be worked on, if that is so.
    stuck: Option<Box<str>>,
}

impl Slot {
    fn becomes(&mut self, state: State, counts: &mut HashMap<State, usize>) {
        *counts.entry(self.state).or_default() -= 1;
        *counts.entry(state).or_default() += 1;
        self.state = state;
    }
}

#[derive(Debug)]
enum At {
    Asleep(Option<Timestamp>),
    Queued,
    /// Somebody works on it; whether it has news, and how to tell.
    Active(bool, Arc<Notify>),
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is whole before the lock is let go.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is news of an instance, or it is new.
    pub(crate) fn wake(&self, name: &str) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        match inner.slots.get_mut(name) {
            None => {
                let name: Arc<str> = name.into();
                inner.slots.insert(
                    Arc::clone(&name),
                    Slot { state: State::Running, at: At::Queued, origin: None, stuck: None },
                );
                *inner.counts.entry(State::Running).or_default() += 1;
                inner.queue.push_back(name);
            }
            Some(slot) => match &mut slot.at {
                At::Asleep(_) => {
                    slot.at = At::Queued;
                    inner.queue.push_back(name.into());
                }
                At::Queued => {}
                At::Active(news, notify) => {
                    *news = true;
                    notify.notify_one();
                }
            },
        }
        self.queued.notify_one();
    }

    /// The next one in the queue, now worked on by the caller, and how it is told of news.
    pub(crate) fn next(&self) -> Option<(Arc<str>, Arc<Notify>)> {
        let mut inner = self.lock();
        loop {
            let name = inner.queue.pop_front()?;
            let Some(slot) = inner.slots.get_mut(&name) else { continue };
            let notify = Arc::new(Notify::new());
            slot.at = At::Active(false, Arc::clone(&notify));
            slot.stuck = None;
            return Some((name, notify));
        }
    }

    /// Whoever works on an instance has read its history to the end: older news is no news.
    pub(crate) fn is_read(&self, name: &str) {
        if let Some(Slot { at: At::Active(news, _), .. }) = self.lock().slots.get_mut(name) {
            *news = false;
        }
    }

    /// Nobody works on it any more until it wakes, or there is news.
    pub(crate) fn rest(&self, name: &Arc<str>, state: State, wake: Option<Timestamp>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(slot) = inner.slots.get_mut(name) else { return };
        slot.becomes(state, &mut inner.counts);
        if matches!(slot.at, At::Active(true, _)) {
            slot.at = At::Queued;
            inner.queue.push_back(Arc::clone(name));
            self.queued.notify_one();
            return;
        }
        slot.at = At::Asleep(wake);
        if let Some(wake) = wake {
            let first = inner.times.peek().is_none_or(|Reverse((time, _))| wake < *time);
            inner.times.push(Reverse((wake, Arc::clone(name))));
            if first {
                self.timed.notify_one();
            }
        }
    }

    /// It cannot be worked on, and a person has to look. It is tried again when there is news.
    pub(crate) fn stick(&self, name: &Arc<str>, reason: &str) {
        if let Some(slot) = self.lock().slots.get_mut(name) {
            slot.stuck = Some(reason.into());
        }
        self.rest(name, State::NeedsAttention, None);
    }

    /// Why an instance cannot be worked on, if that is so.
    pub(crate) fn stuck(&self, name: &str) -> Option<String> {
        self.lock().slots.get(name)?.stuck.as_deref().map(str::to_owned)
    }

    /// What it is doing, while somebody works on it.
    pub(crate) fn is_doing(&self, name: &str, state: State) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(slot) = inner.slots.get_mut(name) {
            slot.becomes(state, &mut inner.counts);
        }
    }

    /// It has ended.
    pub(crate) fn remove(&self, name: &str) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(slot) = inner.slots.remove(name) {
            *inner.counts.entry(slot.state).or_default() -= 1;
            if let Some((definition, started_at)) = slot.origin {
                less(inner.definitions.get_mut(&definition));
                inner.definitions.retain(|_, count| *count > 0);
                if less(inner.ages.get_mut(&started_at)) == Some(0) {
                    inner.ages.remove(&started_at);
                }
            }
        }
    }

    /// The saga's log says which definition it follows, and when it was started.
    pub(crate) fn is_of(&self, name: &str, definition: &str, started_at: Timestamp) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(slot @ Slot { origin: None, .. }) = inner.slots.get_mut(name) else { return };
        let known = inner.definitions.get_key_value(definition).map(|(known, _)| Arc::clone(known));
        let definition = known.unwrap_or_else(|| definition.into());
        *inner.definitions.entry(Arc::clone(&definition)).or_default() += 1;
        *inner.ages.entry(started_at).or_default() += 1;
        slot.origin = Some((definition, started_at));
    }

    /// So many more have ended, as the saga's log says.
    pub(crate) fn have_ended(&self, more: Ended) {
        let ended = &mut self.lock().ended;
        ended.completed += more.completed;
        ended.compensated += more.compensated;
    }

    /// Whether it has started, and not ended.
    pub(crate) fn is_open(&self, name: &str) -> bool {
        self.lock().slots.contains_key(name)
    }

    /// It has ended elsewhere: forgotten unless somebody works on it here, who will see.
    pub(crate) fn ended_elsewhere(&self, name: &str) {
        let active = matches!(self.lock().slots.get(name), Some(Slot { at: At::Active(..), .. }));
        if !active {
            self.remove(name);
        }
    }

    /// Queues those whose time has come, and gives the next time.
    pub(crate) fn wake_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        while let Some(Reverse((time, _))) = inner.times.peek() {
            if *time > now {
                return Some(*time);
            }
            let Some(Reverse((time, name))) = inner.times.pop() else { break };
            if let Some(slot) = inner.slots.get_mut(&name)
                && matches!(slot.at, At::Asleep(Some(wake)) if wake == time)
            {
                slot.at = At::Queued;
                inner.queue.push_back(name);
                self.queued.notify_one();
            }
        }
        None
    }

    /// What there is now.
    pub(crate) fn census(&self) -> Census {
        let inner = self.lock();
        Census {
            states: inner.counts.clone(),
            definitions: inner
                .definitions
                .iter()
                .map(|(digest, count)| (Arc::clone(digest), *count))
                .collect(),
            oldest: inner.ages.keys().next().copied(),
            ended: inner.ended,
        }
    }

    /// The names of those in one of the `states`, in order, after `after`.
    pub(crate) fn names(&self, states: &[State], after: Option<&str>, limit: usize) -> Vec<Arc<str>> {
        let inner = self.lock();
        let wanted = |(name, slot): (&Arc<str>, &Slot)| {
            (states.contains(&slot.state) && after.is_none_or(|after| &**name > after))
                .then(|| Arc::clone(name))
        };
        let mut names: Vec<Arc<str>> = inner.slots.iter().filter_map(wanted).collect();
        names.sort_unstable();
        names.truncate(limit);
        names
    }
}

/// One less than there were.
fn less(count: Option<&mut usize>) -> Option<usize> {
    let count = count?;
    *count -= 1;
    Some(*count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_that_of_those_that_have_not_ended() {
        let table = Table::default();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (name, definition, started) in
            [("a", "one", 5), ("b", "two", 3), ("c", "two", 3), ("d", "one", 9)]
        {
            table.wake(name);
            table.is_of(name, definition, at(started));
            // Told again, it is counted once.
            table.is_of(name, "other", at(1));
        }
        table.is_of("nobody", "one", at(0));
        let known = |table: &Table| {
            let census = table.census();
            let definitions: Vec<String> =
                census.definitions.iter().map(|(digest, count)| format!("{digest} {count}")).collect();
            (definitions.join(", "), census.oldest.map(Timestamp::as_second))
        };
        assert_eq!(known(&table), ("one 2, two 2".to_owned(), Some(3)));
        table.remove("b");
        assert_eq!(known(&table), ("one 2, two 1".to_owned(), Some(3)));
        table.remove("c");
        assert_eq!(known(&table), ("one 2".to_owned(), Some(5)));
        for name in ["a", "d", "d"] {
            table.remove(name);
        }
        assert_eq!(known(&table), (String::new(), None));
        // What is not known of is counted in its state alone.
        table.wake("e");
        assert_eq!(known(&table), (String::new(), None));
        assert_eq!(table.census().states[&State::Running], 1);
    }
}
