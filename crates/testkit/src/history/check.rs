//! Whether a recorded history is one of a log.
//!
//! - The log in the end: per partition 1..head without a hole, per stream id 1..version, no id twice, `recorded_at` never decreases.
//! - Every read showed events as they are in the end: the same event at each place.
//! - Appends and reads of a stream id are linearizable, and so are appends and reads of a partition.
//! - What was acknowledged is where it was said to be, what was refused is not there unless a repetition of it was taken, and each was
//!   taken or refused as its expectation says.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};

use super::prefix::{Moment, Prefix};
use super::record::{Call, Expected, Operation, Told};
use crate::http::{Event, Stored};

/// Checks `operations` against all events of the log in the end, of every partition in order.
///
/// # Errors
/// The first thing that does not hold.
pub fn check(operations: &[Operation], log: &[Event]) -> Result<()> {
    let mut checker = Checker::new(log)?;
    for operation in operations {
        checker.take(operation).with_context(|| format!("{operation:?}"))?;
    }
    checker.finish()
}

/// A list of the log, and what was seen of it.
struct List<'e> {
    events: Vec<&'e Event>,
    prefix: Prefix,
}

struct Checker<'e> {
    partitions: BTreeMap<u16, List<'e>>,
    streams: BTreeMap<&'e str, List<'e>>,
    by_id: HashMap<&'e str, &'e Event>,
    /// By an event's id: who may have added it.
    senders: HashMap<&'e str, Sender>,
}

/// Those who sent an event and were not refused.
struct Sender {
    /// When the first of them did.
    earliest: Moment,
    /// Whether the expectation of one of them held.
    is_expected: bool,
}

impl<'e> Checker<'e> {
    fn new(log: &'e [Event]) -> Result<Self> {
        let mut partitions: BTreeMap<u16, Vec<&Event>> = BTreeMap::new();
        let mut streams: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        let mut by_id = HashMap::new();
        for event in log {
            let partition = partitions.entry(event.partition).or_default();
            let position = event.position()?;
            ensure!(
                position == partition.len() as u64 + 1,
                "partition {} goes from position {} to {position}",
                event.partition,
                partition.len()
            );
            if let Some(before) = partition.last() {
                ensure!(
                    before.recorded_at <= event.recorded_at,
                    "recorded_at of partition {} decreases at position {position}: {} after {}",
                    event.partition,
                    event.recorded_at,
                    before.recorded_at
                );
            }
            partition.push(event);
            let stream = streams.entry(&event.stream_id).or_default();
            ensure!(
                event.version == stream.len() as u64 + 1,
                "stream {} goes from version {} to {}",
                event.stream_id,
                stream.len(),
                event.version
            );
            ensure!(
                stream.iter().all(|other| other.partition == event.partition),
                "stream {} is in several partitions",
                event.stream_id
            );
            stream.push(event);
            ensure!(by_id.insert(event.id.as_str(), event).is_none(), "event {} is there twice", event.id);
        }
        let list = |what: String, events: Vec<&'e Event>| {
            let prefix = Prefix::new(what, events.len());
            List { events, prefix }
        };
        let partitions = partitions
            .into_iter()
            .map(|(number, events)| (number, list(format!("partition {number}"), events)));
        let streams = streams.into_iter().map(|(id, events)| (id, list(format!("stream {id}"), events)));
        Ok(Self {
            partitions: partitions.collect(),
            streams: streams.collect(),
            by_id,
            senders: HashMap::new(),
        })
    }

    fn take(&mut self, operation: &Operation) -> Result<()> {
        let Operation { began, ended, call } = operation;
        let why = || operation.to_string();
        match call {
            Call::Append { stream_id, expected, ids, told } => {
                self.append(operation, stream_id, *expected, ids, told)
            }
            Call::ReadStream { stream_id, events } => {
                let Some(list) = self.streams.get_mut(stream_id.as_str()) else {
                    ensure!(events.is_empty(), "stream {stream_id} has no events in the end");
                    return Ok(());
                };
                same(&list.events, 0, events)?;
                list.prefix.seen(events.len(), *began, *ended, why)
            }
            Call::ReadLast { stream_id, last } => {
                let version = last.as_ref().map_or(0, |event| event.version as usize);
                let Some(list) = self.streams.get_mut(stream_id.as_str()) else {
                    ensure!(last.is_none(), "stream {stream_id} has no events in the end");
                    return Ok(());
                };
                if let Some(last) = last {
                    same(&list.events, version - 1, std::slice::from_ref(last))?;
                }
                list.prefix.seen(version, *began, *ended, why)
            }
            Call::ReadPage { after, events, is_end } => {
                for (number, list) in &mut self.partitions {
                    let after = after.get(usize::from(*number)).copied().unwrap_or_default() as usize;
                    let page: Vec<Event> =
                        events.iter().filter(|event| event.partition == *number).cloned().collect();
                    same(&list.events, after, &page)?;
                    let reached = after + page.len();
                    if let Some(last) = reached.checked_sub(1).filter(|_| !page.is_empty()) {
                        list.prefix.there_by(last, *ended, why)?;
                    }
                    if *is_end {
                        list.prefix.not_before(reached, *began, why);
                    }
                }
                Ok(())
            }
        }
    }

    fn append(
        &mut self,
        operation: &Operation,
        stream_id: &str,
        expected: Expected,
        ids: &[String],
        told: &Told,
    ) -> Result<()> {
        let Operation { began, ended, .. } = operation;
        let why = || operation.to_string();
        let there: Vec<&'e Event> =
            ids.iter().filter_map(|id| self.by_id.get(id.as_str()).copied()).collect();
        ensure!(
            there.is_empty() || there.len() == ids.len(),
            "some of its events are there, and some are not"
        );
        let first = there.first().map(|event| event.version as usize - 1);
        if let Some(event) = there.iter().find(|event| event.stream_id != stream_id) {
            bail!("its event is in another stream: {event:?}");
        }
        if let Some(event) = there.first() {
            for (list, index) in self.lists(event)? {
                let block = list.events.get(index..index + ids.len());
                ensure!(
                    block
                        .is_some_and(|block| block.iter().zip(&there).all(|(one, other)| one.id == other.id)),
                    "its events are not there as one block"
                );
                list.prefix.join(index, ids.len());
            }
        }
        match told {
            Told::Stored(stored) => acknowledged(&there, stored)?,
            Told::Refused(current) => {
                ensure!(
                    !expected.holds(*current),
                    "it was refused at version {current}, as which it is to be taken"
                );
                ensure!(
                    first.is_none_or(|first| first >= *current as usize),
                    "it was refused at version {current}, when its events were there"
                );
                match self.streams.get_mut(stream_id) {
                    Some(list) => list.prefix.seen(*current as usize, *began, *ended, why)?,
                    None => ensure!(*current == 0, "stream {stream_id} has no events in the end"),
                }
            }
            Told::Nothing => {}
        }
        let Some(first) = first else { return Ok(()) };
        // Who was refused has added nothing; anybody else may be the one who has.
        if !matches!(told, Told::Refused(_)) {
            for event in &there {
                let sender = self.senders.entry(&event.id);
                let sender = sender.or_insert(Sender { earliest: Moment::MAX, is_expected: false });
                sender.earliest = sender.earliest.min(*began);
                sender.is_expected |= expected.holds(first as u64);
                for (list, index) in self.lists(event)? {
                    if matches!(told, Told::Stored(_)) {
                        list.prefix.there_by(index, *ended, why)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The lists that have the event, and its place there.
    fn lists(&mut self, event: &Event) -> Result<[(&mut List<'e>, usize); 2]> {
        let position = event.position()? as usize - 1;
        let partition = self.partitions.get_mut(&event.partition).context("the event's partition")?;
        let stream = self.streams.get_mut(event.stream_id.as_str()).context("the event's stream")?;
        Ok([(partition, position), (stream, event.version as usize - 1)])
    }

    fn finish(mut self) -> Result<()> {
        let events: Vec<&'e Event> = self.by_id.values().copied().collect();
        for event in events {
            let Some(Sender { earliest, is_expected }) = self.senders.remove(event.id.as_str()) else {
                bail!("nobody sent {event:?}, or only in vain");
            };
            ensure!(is_expected, "{event:?} was stored against the expectation of all who sent it");
            for (list, index) in self.lists(event)? {
                list.prefix.not_before(index, earliest, || format!("it was first sent at {earliest}"));
            }
        }
        for list in self.partitions.values_mut().chain(self.streams.values_mut()) {
            list.prefix.check()?;
        }
        Ok(())
    }
}

/// Checks that what was read from `after` on is what is there in the end.
fn same(list: &[&Event], after: usize, read: &[Event]) -> Result<()> {
    for (offset, event) in read.iter().enumerate() {
        let there = list.get(after + offset);
        ensure!(
            there.is_some_and(|there| *there == event),
            "{event:?} was read where {there:?} is in the end, at number {}",
            after + offset + 1
        );
    }
    Ok(())
}

fn acknowledged(there: &[&Event], stored: &Stored) -> Result<()> {
    let Some(last) = there.last() else { bail!("it was acknowledged and is lost") };
    ensure!(
        (&last.stream_id, last.version, last.partition, &last.position)
            == (&stored.stream_id, stored.version, stored.partition, &stored.position),
        "it was acknowledged as {stored:?} and is {last:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, stream_id: &str, version: u64, partition: u16, position: u64) -> Event {
        Event {
            id: id.into(),
            stream_id: stream_id.into(),
            event_type: "T".into(),
            version,
            partition,
            position: position.to_string(),
            recorded_at: jiff::Timestamp::from_second(position as i64 / 2).unwrap(),
            data: serde_json::Value::Null,
        }
    }

    /// a, b and c in stream s, and t in a stream of its own between them.
    fn log() -> Vec<Event> {
        vec![
            event("a", "s", 1, 0, 1),
            event("t", "t", 1, 0, 2),
            event("b", "s", 2, 0, 3),
            event("c", "s", 3, 0, 4),
        ]
    }

    fn append(began: Moment, ended: Moment, ids: &[&str], expected: Expected, told: Told) -> Operation {
        let stream_id = if ids == ["t"] { "t" } else { "s" }.to_owned();
        let ids = ids.iter().map(|id| (*id).to_owned()).collect();
        Operation { began, ended, call: Call::Append { stream_id, expected, ids, told } }
    }

    fn stored(stream_id: &str, version: u64, position: u64) -> Told {
        Told::Stored(Stored {
            stream_id: stream_id.into(),
            version,
            partition: 0,
            position: position.to_string(),
            token: String::new(),
        })
    }

    fn read(began: Moment, ended: Moment, events: &[Event]) -> Operation {
        let events = events.iter().filter(|event| event.stream_id == "s").cloned().collect();
        Operation { began, ended, call: Call::ReadStream { stream_id: "s".into(), events } }
    }

    fn page(began: Moment, ended: Moment, after: u64, events: &[Event], is_end: bool) -> Operation {
        let call = Call::ReadPage { after: vec![after], events: events.to_vec(), is_end };
        Operation { began, ended, call }
    }

    /// One after the other: a, t, and b and c, of which b had no answer at first.
    fn good() -> Vec<Operation> {
        vec![
            append(0, 10, &["a"], Expected::NoStream, stored("s", 1, 1)),
            append(20, 30, &["t"], Expected::Any, stored("t", 1, 2)),
            append(40, 41, &["b"], Expected::Version(1), Told::Nothing),
            append(42, 50, &["b"], Expected::Version(1), stored("s", 2, 3)),
            append(60, 70, &["c"], Expected::Exists, stored("s", 3, 4)),
            append(60, 70, &["x"], Expected::Version(1), Told::Refused(2)),
            append(60, 70, &["y"], Expected::Any, Told::Nothing),
        ]
    }

    fn with(more: Operation) -> Vec<Operation> {
        good().into_iter().chain([more]).collect()
    }

    #[track_caller]
    fn is_bad(operations: &[Operation], log: &[Event], fault: &str) {
        let error = format!("{:#}", check(operations, log).expect_err("it is bad"));
        assert!(error.contains(fault), "no {fault:?} in: {error}");
    }

    #[test]
    fn good_histories_pass() {
        let log = log();
        check(&good(), &log).unwrap();
        // While something is appended it may be seen or not; what had no answer may have come late.
        for seen in [&log[..1], &log[..3]] {
            check(&with(read(40, 45, seen)), &log).unwrap();
        }
        check(&with(page(40, 45, 0, &log[..2], true)), &log).unwrap();
        check(&with(page(80, 90, 1, &log[1..2], false)), &log).unwrap();
        check(&with(append(80, 90, &["b"], Expected::Version(1), stored("s", 2, 3))), &log).unwrap();
        let last = Call::ReadLast { stream_id: "s".into(), last: Some(log[3].clone()) };
        check(&with(Operation { began: 65, ended: 66, call: last }), &log).unwrap();
    }

    #[test]
    fn a_stale_read_is_seen() {
        let log = log();
        is_bad(&with(read(51, 55, &log[..1])), &log, "stream s: item 2 was there by");
        is_bad(&with(page(51, 55, 0, &log[..1], true)), &log, "partition 0");
        let last = Call::ReadLast { stream_id: "s".into(), last: None };
        is_bad(&with(Operation { began: 80, ended: 81, call: last }), &log, "stream s: item 1 was there by");
        is_bad(&with(append(80, 90, &["z"], Expected::NoStream, Told::Refused(1))), &log, "stream s");
    }

    #[test]
    fn a_read_of_the_future_is_seen() {
        let log = log();
        is_bad(&with(read(30, 39, &log[..3])), &log, "it was first sent at 40");
        is_bad(&with(page(0, 19, 0, &log[..2], false)), &log, "it was first sent at 20");
    }

    #[test]
    fn a_read_that_goes_back_is_seen() {
        // b has no answer by then: seen first, and then not.
        let log = log();
        let mut operations = with(read(42, 43, &log[..3]));
        operations.push(read(44, 45, &log[..1]));
        is_bad(&operations, &log, "stream s: item 2 was there by 43");
    }

    #[test]
    fn a_lost_update_is_seen() {
        let log = log();
        is_bad(&good(), &log[..3], "it was acknowledged and is lost");
        is_bad(
            &with(read(80, 90, &[log.clone(), vec![event("d", "s", 4, 0, 5)]].concat())),
            &log,
            "was read where None",
        );
    }

    #[test]
    fn two_winners_of_one_version_are_seen() {
        let log = log();
        is_bad(&with(append(40, 50, &["w"], Expected::Version(1), stored("s", 2, 3))), &log, "is lost");
        // Both are there, and only one of them can have met what it expected.
        let mut operations = good();
        operations[4] = append(60, 70, &["c"], Expected::Version(1), stored("s", 3, 4));
        is_bad(&operations, &log, "against the expectation");
        operations[4] = append(60, 70, &["c"], Expected::Exists, stored("s", 2, 3));
        is_bad(&operations, &log, "it was acknowledged as");
    }

    #[test]
    fn a_refusal_that_is_wrong_is_seen() {
        let log = log();
        is_bad(&with(append(80, 90, &["x"], Expected::Version(3), Told::Refused(3))), &log, "is to be taken");
        is_bad(
            &with(append(80, 90, &["a"], Expected::NoStream, Told::Refused(3))),
            &log,
            "when its events were there",
        );
        let mut operations = good();
        operations[4] = append(60, 70, &["c"], Expected::NoStream, Told::Refused(2));
        is_bad(&operations, &log, "nobody sent");
    }

    #[test]
    fn a_hole_a_repeated_id_and_another_order_are_seen() {
        let at = |index: usize, change: fn(&mut Event)| {
            let mut log = log();
            change(&mut log[index]);
            log
        };
        is_bad(&good(), &at(3, |event| event.position = "5".into()), "goes from position 3 to 5");
        is_bad(&good(), &at(3, |event| event.version = 4), "goes from version 2 to 4");
        is_bad(&good(), &at(3, |event| event.id = "a".into()), "event a is there twice");
        is_bad(
            &good(),
            &at(3, |event| event.recorded_at = jiff::Timestamp::UNIX_EPOCH),
            "decreases at position 4",
        );
        let other = with(page(80, 90, 0, &[log()[0].clone(), log()[2].clone()], false));
        is_bad(&other, &log(), "was read where");
        // b before a, though a was acknowledged before b was sent.
        let swapped = [event("b", "s", 1, 0, 1), event("a", "s", 2, 0, 2)];
        let operations = [
            append(0, 10, &["a"], Expected::Any, stored("s", 2, 2)),
            append(20, 30, &["b"], Expected::Any, stored("s", 1, 1)),
        ];
        is_bad(&operations, &swapped, "item 2 was there by 10");
    }

    #[test]
    fn a_request_is_there_as_a_whole() {
        let log = log();
        let both = append(40, 70, &["b", "c"], Expected::Version(1), stored("s", 3, 4));
        let operations = [good()[0].clone(), good()[1].clone(), both];
        check(&operations, &log).unwrap();
        let part = [operations.to_vec(), vec![read(50, 60, &log[..3])]].concat();
        is_bad(&part, &log, "part of what was appended at once");
        is_bad(&operations, &log[..3], "some of its events are there");
    }
}
