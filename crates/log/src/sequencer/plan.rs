//! What a batch will hold and what each request will be answered: pure, so that it can be made again when the store objects.

use std::collections::{HashMap, HashSet};

use headwater_core::{
    Append, Appended, ContentDigest, Error, Partition, Position, Result, StreamId, Version,
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use crate::{BatchEvent, StoredEvent};

/// What an event weighs in the queue beside its data and metadata: its id, digest, names and the lists that hold it.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// An append that has passed the limits and waits for its answer.
pub(super) struct Request {
    pub(super) append: Append,
    /// By event.
    pub(super) digests: Vec<ContentDigest>,
    pub(super) answer: oneshot::Sender<Result<Appended>>,
    /// Whether a batch with it was sent of which nobody knows what became.
    pub(super) unsettled: bool,
    /// Its share of the queue, given back when it is answered.
    pub(super) _room: OwnedSemaphorePermit,
}

impl Request {
    /// Bytes that it takes in the queue.
    pub(super) fn weight(append: &Append) -> usize {
        append.size() + append.events.len() * EVENT_OVERHEAD_BYTES
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Uuid> + '_ {
        self.append.events.iter().map(|event| event.id)
    }
}

/// What is known for sure while a batch is planned.
#[derive(Default)]
pub(super) struct Facts {
    /// Versions before this batch of the stream ids that it names.
    pub(super) versions: HashMap<StreamId, Version>,
    /// Events of the batch's requests that are stored already, as far as known.
    pub(super) stored: HashMap<Uuid, StoredEvent>,
    /// Requests, by index, all of whose ids have been looked up in the store.
    pub(super) searched: HashSet<usize>,
}

/// The place of a request's last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    pub(super) position: Position,
}

/// What becomes of one request.
pub(super) struct Verdict {
    pub(super) answer: Result<Place>,
    /// The answer holds only when the batch is committed.
    pub(super) on_commit: bool,
    /// The request's events are (or, on commit, will be) those of an earlier request.
    pub(super) repeat: bool,
}

#[derive(Default)]
pub(super) struct Plan {
    /// By request.
    pub(super) verdicts: Vec<Verdict>,
    /// What to commit.
    pub(super) events: Vec<BatchEvent>,
    /// Requests that would be refused, but whose ids have not been looked up in the store. While there are any, the plan is
    /// provisional.
    pub(super) suspects: Vec<usize>,
}

/// Goes through `requests` in order, as if each were alone, with the events of those before it already there.
pub(super) fn plan(requests: &[Request], partition: Partition, head: Position, facts: &Facts) -> Plan {
    let mut plan = Plan::default();
    let mut touched: HashMap<&StreamId, Version> = HashMap::new();
    let mut written: HashMap<Uuid, StoredEvent> = HashMap::new();
    for (index, request) in requests.iter().enumerate() {
        let append = &request.append;
        let base = facts.versions.get(&append.stream_id).copied().unwrap_or_default();
        let current = touched.get(&append.stream_id).copied();
        let mut on_commit = current.is_some();
        let current = current.unwrap_or(base);

        let mut there = Vec::new();
        for id in request.ids() {
            if let Some(event) = written.get(&id) {
                on_commit = true;
                there.push(event);
            } else if let Some(event) = facts.stored.get(&id) {
                there.push(event);
            }
        }
        let searched = facts.searched.contains(&index);
        let mut repeat = false;
        let answer = if there.len() == append.events.len() {
            repeat = true;
            same_events(request, &there)
        } else if there.is_empty() && append.expected.allows(current) {
            let mut place = Place { version: current, position: head.plus(plan.events.len() as u64) };
            for (event, digest) in append.events.iter().zip(&request.digests) {
                place = Place { version: place.version.next(), position: place.position.next() };
                written.insert(
                    event.id,
                    StoredEvent {
                        id: event.id,
                        digest: *digest,
                        stream_id: append.stream_id.clone(),
                        version: place.version,
                        partition,
                        position: place.position,
                    },
                );
                plan.events.push(BatchEvent {
                    stream_id: append.stream_id.clone(),
                    version: place.version,
                    digest: *digest,
                    event: event.clone(),
                });
            }
            touched.insert(&append.stream_id, place.version);
            on_commit = true;
            Ok(place)
        } else {
            if !searched {
                plan.suspects.push(index);
            }
            Err(if there.is_empty() {
                Error::WrongVersion {
                    stream_id: append.stream_id.clone(),
                    expected: append.expected,
                    current,
                }
            } else {
                partly_there(request, &there)
            })
        };
        plan.verdicts.push(Verdict { answer, on_commit, repeat });
    }
    plan
}

/// The first result of a request all of whose ids are there, provided that they are the same events.
fn same_events(request: &Request, there: &[&StoredEvent]) -> Result<Place> {
    if let Some(error) = difference(request, there) {
        return Err(error);
    }
    let version = there.iter().map(|event| event.version).max().unwrap_or_default();
    let position = there.iter().map(|event| event.position).max().unwrap_or_default();
    Ok(Place { version, position })
}

fn partly_there(request: &Request, there: &[&StoredEvent]) -> Error {
    difference(request, there).unwrap_or_else(|| {
        let first = there[0];
        Error::already_exists(format!(
            "{} of the {} events of this append to stream \"{}\" are stored already, the first as event {} at version {}, and the others are not; nothing was stored: repeat a request with exactly the events that it had, and give new events ids of their own",
            there.len(),
            request.append.events.len(),
            request.append.stream_id,
            first.id,
            first.version,
        ))
    })
}

/// How an event that is there differs from the one of the same id in the request.
fn difference(request: &Request, there: &[&StoredEvent]) -> Option<Error> {
    let digests: HashMap<Uuid, ContentDigest> = request.ids().zip(request.digests.iter().copied()).collect();
    there.iter().find_map(|event| {
        let how = if event.stream_id != request.append.stream_id {
            format!("in stream \"{}\", and not in \"{}\"", event.stream_id, request.append.stream_id)
        } else if digests.get(&event.id) != Some(&event.digest) {
            "with another type, schema version, content type or data".to_owned()
        } else {
            return None;
        };
        Some(Error::already_exists(format!(
            "event id {} is taken: it is version {} of stream \"{}\", {how}; nothing was stored: give each event an id of its own",
            event.id, event.version, event.stream_id
        )))
    })
}
