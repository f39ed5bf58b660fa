//! The oracle of the log: what clients were told, held against what the log holds.
//!
//! [`History`] knows what was sent and acknowledged. A [`record::Recorder`] knows when, and what was read and refused as well, so that
//! [`check`](check::check) can tell whether the log is linearizable.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Result, bail, ensure};

use crate::http::{Event, Stored};

pub mod check;
pub mod prefix;
pub mod record;

/// What the clients of a log did and were told.
#[derive(Debug, Default)]
pub struct History {
    sent: HashSet<String>,
    acknowledged: HashMap<String, Stored>,
}

impl History {
    /// A client is about to send the event `id`.
    pub fn sends(&mut self, id: &str) {
        self.sent.insert(id.to_owned());
    }

    /// The log has answered that the event `id` is stored.
    ///
    /// # Errors
    /// When it has answered something else for the same id before.
    pub fn acknowledges(&mut self, id: &str, stored: Stored) -> Result<()> {
        match self.acknowledged.insert(id.to_owned(), stored.clone()) {
            Some(before) if before != stored => {
                bail!("event {id} was first acknowledged as {before:?} and then as {stored:?}")
            }
            _ => Ok(()),
        }
    }

    /// How many events were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Checks everything that must hold of the whole log, given all its events in the order read.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check(&self, events: &[Event]) -> Result<()> {
        let mut heads: BTreeMap<u16, u64> = BTreeMap::new();
        let mut versions: HashMap<&str, u64> = HashMap::new();
        let mut partitions: HashMap<&str, u16> = HashMap::new();
        let mut by_id: HashMap<&str, &Event> = HashMap::new();
        for event in events {
            let head = heads.entry(event.partition).or_default();
            ensure!(
                event.position()? == *head + 1,
                "partition {} goes from position {head} to {}",
                event.partition,
                event.position
            );
            *head += 1;
            let version = versions.entry(&event.stream_id).or_default();
            ensure!(
                event.version == *version + 1,
                "stream {} goes from version {version} to {}",
                event.stream_id,
                event.version
            );
            *version += 1;
            let partition = *partitions.entry(&event.stream_id).or_insert(event.partition);
            ensure!(
                partition == event.partition,
                "stream {} is in partitions {partition} and {}",
                event.stream_id,
                event.partition
            );
            ensure!(by_id.insert(&event.id, event).is_none(), "event {} is there twice", event.id);
            ensure!(self.sent.contains(&event.id), "event {} was never sent", event.id);
        }
        for (id, stored) in &self.acknowledged {
            let Some(event) = by_id.get(id.as_str()) else {
                bail!("event {id} was acknowledged as {stored:?} and is lost")
            };
            ensure!(
                (&event.stream_id, event.version, event.partition, &event.position)
                    == (&stored.stream_id, stored.version, stored.partition, &stored.position),
                "event {id} was acknowledged as {stored:?} and is {event:?}"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event(id: &str, stream_id: &str, version: u64, partition: u16, position: u64) -> Event {
        Event {
            id: id.into(),
            stream_id: stream_id.into(),
            event_type: "T".into(),
            version,
            partition,
            position: position.to_string(),
            recorded_at: jiff::Timestamp::UNIX_EPOCH,
            data: Value::Null,
        }
    }

    fn stored(stream_id: &str, version: u64, position: u64) -> Stored {
        Stored {
            stream_id: stream_id.into(),
            version,
            partition: 0,
            position: position.to_string(),
            token: String::new(),
        }
    }

    fn history() -> History {
        let mut history = History::default();
        for id in ["a", "b", "c"] {
            history.sends(id);
        }
        history.acknowledges("a", stored("s", 1, 1)).unwrap();
        history.acknowledges("b", stored("s", 2, 2)).unwrap();
        history
    }

    #[test]
    fn a_good_history_passes_and_an_unanswered_event_may_be_there_or_not() {
        let known = [event("a", "s", 1, 0, 1), event("b", "s", 2, 0, 2)];
        history().check(&known).unwrap();
        let [a, b] = known;
        history().check(&[a, b, event("c", "t", 1, 1, 1)]).unwrap();
    }

    #[test]
    fn bad_histories_are_seen() {
        fn check(events: &[Event], fault: &str) {
            let error = history().check(events).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        check(&[event("a", "s", 1, 0, 1)], "event b was acknowledged");
        check(&[event("a", "s", 1, 0, 1), event("b", "s", 2, 0, 3)], "goes from position 1 to 3");
        check(&[event("a", "s", 1, 0, 1), event("b", "s", 3, 0, 2)], "goes from version 1 to 3");
        check(&[event("a", "s", 1, 0, 1), event("b", "s", 2, 1, 1)], "is in partitions 0 and 1");
        check(&[event("a", "s", 1, 0, 1), event("a", "s", 2, 0, 2)], "is there twice");
        check(&[event("x", "s", 1, 0, 1)], "was never sent");
        check(&[event("b", "s", 1, 0, 1), event("a", "s", 2, 0, 2)], "was acknowledged as");
        assert!(history().acknowledges("a", stored("s", 1, 2)).is_err());
    }
}
