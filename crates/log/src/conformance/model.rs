//! The log against a model that is obviously right: random requests, in bursts that share batches, with repeated ids, random
//! expectations, reads and reopening.

use std::collections::HashMap;

use super::*;
use crate::{Clock, Direction, ReadStream};
use headwater_core::Error;

/// Steps of a random history. Requests of one burst are queued together, in order.
#[derive(Debug, Clone)]
pub enum Step {
    Burst(Vec<Append>),
    Reopen,
}

/// A step from what a generator of random numbers gives; equal numbers give equal steps, so that a failing history can be shrunk.
pub fn step(numbers: &[[u8; 5]]) -> Step {
    match numbers {
        [] => Step::Reopen,
        numbers => Step::Burst(numbers.iter().copied().map(request).collect()),
    }
}

fn request([id, expected, first, length, content]: [u8; 5]) -> Append {
    let expected = match expected % 8 {
        0..=2 => Expected::Any,
        3 => Expected::NoStream,
        4 => Expected::Exists,
        _ => at(u64::from(expected / 8 % 12)),
    };
    // Few ids and few stream ids, so that requests often repeat others, wholly or in part.
    let events = (0..=u128::from(length % 3)).map(|offset| NewEvent {
        id: Uuid::from_u128(1 + (u128::from(first) + offset) % 96),
        ..event("Modelled", &u8::from(content % 16 == 0).to_string())
    });
    append(&format!("s{}", id % 5), expected, events.collect())
}

/// What the log should hold.
#[derive(Default)]
struct Model {
    /// By partition.
    log: HashMap<Partition, Vec<(StreamId, Version, NewEvent)>>,
    versions: HashMap<StreamId, Version>,
    places: HashMap<Uuid, (StreamId, Bytes, Version, Position)>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Done(Version, Position),
    WrongVersion(Version),
    AlreadyExists,
}

impl Model {
    fn append(&mut self, partitions: PartitionCount, request: &Append) -> Answer {
        let there: Vec<_> = request.events.iter().filter_map(|event| self.places.get(&event.id)).collect();
        if there.len() == request.events.len() {
            let same = request.events.iter().all(|event| {
                let (stream_id, data, ..) = &self.places[&event.id];
                *stream_id == request.stream_id && *data == event.data
            });
            if !same {
                return Answer::AlreadyExists;
            }
            let version = there.iter().map(|place| place.2).max().unwrap();
            return Answer::Done(version, there.iter().map(|place| place.3).max().unwrap());
        }
        if !there.is_empty() {
            return Answer::AlreadyExists;
        }
        let version = self.versions.entry(request.stream_id.clone()).or_default();
        if !request.expected.allows(*version) {
            return Answer::WrongVersion(*version);
        }
        let log = self.log.entry(partitions.partition_of(&request.stream_id)).or_default();
        for event in &request.events {
            *version = version.next();
            log.push((request.stream_id.clone(), *version, event.clone()));
            let position = Position::new(log.len() as u64);
            self.places.insert(event.id, (request.stream_id.clone(), event.data.clone(), *version, position));
        }
        Answer::Done(*version, Position::new(log.len() as u64))
    }
}

/// Plays `steps` on a log with one partition (so that the order of a burst is the order of its effects) that `open` opens, and
/// `close` releases for the next `open`; compares every answer and, at the end, all that can be read.
pub async fn agrees_with_the_model(
    steps: &[Step],
    open: impl AsyncFn(PartitionCount, Clock) -> Fixture,
    close: impl AsyncFn(Fixture),
) {
    let partitions = PartitionCount::ONE;
    let mut model = Model::default();
    let mut fixture = open(partitions, Clock::system()).await;
    let mut sequencer = Sequencer::start(Arc::clone(&fixture.store), SequencerOptions::default());
    for step in steps {
        match step {
            Step::Burst(requests) => {
                let answers = futures_util::future::join_all(
                    requests.iter().map(|request| sequencer.append(request.clone())),
                )
                .await;
                for (request, answer) in requests.iter().zip(answers) {
                    let answer = match answer {
                        Ok(appended) => Answer::Done(appended.version, appended.position),
                        Err(Error::WrongVersion { current, .. }) => Answer::WrongVersion(current),
                        Err(Error::AlreadyExists { .. }) => Answer::AlreadyExists,
                        Err(other) => panic!("{request:?}: {other:?}"),
                    };
                    assert_eq!(answer, model.append(partitions, request), "{request:?}");
                }
            }
            Step::Reopen => {
                sequencer.shutdown().await;
                drop(sequencer);
                close(fixture).await;
                fixture = open(partitions, Clock::system()).await;
                sequencer = Sequencer::start(Arc::clone(&fixture.store), SequencerOptions::default());
            }
        }
    }
    sequencer.shutdown().await;
    compare(&model, &*fixture.store).await;
    drop(sequencer);
    close(fixture).await;
}

async fn compare(model: &Model, store: &dyn LogStore) {
    let read = read_log(store).await;
    let there: Vec<_> = read
        .iter()
        .map(|event| (event.stream_id.clone(), event.version, event.id, event.data.clone()))
        .collect();
    let wanted: Vec<_> = model
        .log
        .values()
        .flatten()
        .map(|(stream_id, version, event)| (stream_id.clone(), *version, event.id, event.data.clone()))
        .collect();
    assert_eq!(there, wanted);
    for (stream_id, version) in &model.versions {
        for direction in [Direction::Forwards, Direction::Backwards] {
            let request = ReadStream {
                stream_id: stream_id.clone(),
                from: None,
                direction,
                limit: 1_000,
                max_bytes: usize::MAX,
            };
            let page = store.read_stream(request).await.unwrap();
            assert_eq!(page.version, *version);
            let mut wanted: Vec<_> =
                read.iter().filter(|event| event.stream_id == *stream_id).cloned().collect();
            if direction == Direction::Backwards {
                wanted.reverse();
            }
            assert_eq!(page.events, wanted);
        }
    }
}
