//! Parked events: taken back in order, folded or skipped, in one transaction with their rows.

use std::collections::HashSet;
use std::sync::Arc;

use headwater_core::{Error, Position, RecordedEvent, Result, RetryPolicy, StreamId};
use headwater_log::{Filter, LogReader, ReadPartition};
use headwater_view::{
    ApplyError, Batch, Durability, Load, Park, ParkChange, ParkedStream, Revision, Skip, ViewStore,
};
use serde::Serialize;
use uuid::Uuid;

use crate::fold::{self, Failure, Rows};
use crate::plan::Plan;

/// Parked events that are taken back in one transaction; the rest follows in further ones, in order.
const CHUNK: usize = 500;

/// How a release that meets a worker at work is tried again.
const RETRY: RetryPolicy = RetryPolicy {
    name: "release",
    attempts: 50,
    initial: std::time::Duration::from_millis(5),
    max: std::time::Duration::from_millis(500),
};

/// Which of a stream id's parked events have no effect, by decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipWhat {
    /// None: all are folded again.
    Nothing,
    /// The first, which is the one that failed.
    First,
    /// These.
    Events(HashSet<Uuid>),
    /// All that are parked now.
    All,
}

/// What became of a stream id's parked events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Released {
    /// The revision, as text.
    pub revision: String,
    /// The stream id.
    pub stream_id: String,
    /// Events that were folded.
    pub folded: u64,
    /// Events that were skipped.
    pub skipped: u64,
    /// Events that are still parked.
    pub remaining: u64,
    /// Why the first of those cannot be folded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Takes back what is parked of `stream_id` in `revision`, as far as its rules go. `None`: nothing is parked.
pub(crate) async fn release(
    store: &dyn ViewStore,
    reader: &dyn LogReader,
    plan: &Plan,
    revision: Revision,
    stream_id: &StreamId,
    skip: &SkipWhat,
) -> Result<Option<Released>> {
    let mut released = Released {
        revision: revision.to_string(),
        stream_id: stream_id.to_string(),
        folded: 0,
        skipped: 0,
        remaining: 0,
        failure: None,
    };
    let mut attempt = 0;
    let mut skip = skip.clone();
    let mut was_there = false;
    loop {
        let Some(entry) = store.parked_stream(revision, stream_id, CHUNK).await? else {
            return Ok(was_there.then_some(released));
        };
        was_there = true;
        match release_chunk(store, reader, plan, revision, &entry, &skip).await {
            Ok(chunk) => {
                released.folded += chunk.folded;
                released.skipped += chunk.skipped;
                released.remaining = entry.count.saturating_sub(chunk.folded + chunk.skipped);
                released.failure = chunk.failure;
                if released.failure.is_some() || released.remaining == 0 {
                    return Ok(Some(released));
                }
                // The first is gone; those after it are not meant.
                if skip == SkipWhat::First {
                    skip = SkipWhat::Nothing;
                }
                attempt = 0;
            }
            Err(ApplyError::Conflict { .. }) => {
                attempt += 1;
                let Some(delay) = RETRY.delay(attempt) else {
                    return Err(Error::unavailable(format!(
                        "releasing the parked events of stream \"{stream_id}\": others write the same rows all the time; try again"
                    )));
                };
                tokio::time::sleep(delay).await;
            }
            Err(ApplyError::Gone { revision }) => {
                return Err(Error::not_found(format!("there is no revision {revision}")));
            }
            Err(ApplyError::Checkpoint { .. }) => {
                return Err(Error::internal("a release moved a checkpoint"));
            }
            Err(ApplyError::Failed(error)) => return Err(error),
        }
    }
}

struct Chunk {
    folded: u64,
    skipped: u64,
    failure: Option<Failure>,
}

async fn release_chunk(
    store: &dyn ViewStore,
    reader: &dyn LogReader,
    plan: &Plan,
    revision: Revision,
    entry: &ParkedStream,
    skip: &SkipWhat,
) -> Result<Chunk, ApplyError> {
    let state = store.partition(revision, entry.partition).await?;
    let new_skips: Vec<Skip> = entry
        .events
        .iter()
        .enumerate()
        .filter(|(number, event)| match skip {
            SkipWhat::Nothing => false,
            SkipWhat::First => *number == 0,
            SkipWhat::Events(ids) => ids.contains(&event.id),
            SkipWhat::All => true,
        })
        .map(|(_, event)| Skip { id: event.id, partition: entry.partition, position: event.position })
        .collect();
    let mut skips = state.skips;
    skips.extend(new_skips.iter().map(|skip| skip.id));

    let events = read(reader, entry).await?;
    let views = fold::views(plan, &events);
    let mut rows = Rows::new(plan);
    let steps = fold::prepare(plan, &events, &views, &mut rows);
    let load = Load { revision, rows: rows.wanted() };
    if !load.rows.is_empty() {
        let loaded = store.load(&load).await?;
        rows.fill(&load.rows, loaded);
    }
    let (done, skipped, failure) = fold::fold_released(plan, &steps, &mut rows, &skips);
    let failure_reason = failure.as_ref().map(|failure| failure.error.to_string());
    // Every parked event has rules, so steps and parked events are the same events.
    let through = match done.checked_sub(1) {
        Some(last) => entry.events[last].position,
        None => Position::ZERO,
    };
    let batch = Batch {
        rows: rows.into_writes(),
        parks: vec![Park {
            stream_id: entry.stream_id.clone(),
            partition: entry.partition,
            expected: Some(entry.version),
            change: ParkChange::Release {
                through,
                skipped,
                reason: failure_reason.unwrap_or_else(|| entry.reason.clone()),
            },
        }],
        // Also those behind an event that still fails: what a person decided holds when their turn comes.
        skips: new_skips,
        durability: Durability::Durable,
        ..Batch::new(revision, state.decisions)
    };
    store.apply(Arc::new(batch)).await?;
    Ok(Chunk { folded: done as u64 - skipped, skipped, failure })
}

/// The parked events, as the log has them.
async fn read(reader: &dyn LogReader, entry: &ParkedStream) -> Result<Vec<RecordedEvent>> {
    let mut events = Vec::with_capacity(entry.events.len());
    for parked in &entry.events {
        let page = reader
            .read_partition(ReadPartition {
                partition: entry.partition,
                after: Position::new(parked.position.get().saturating_sub(1)),
                up_to: Some(parked.position),
                filter: Filter::default(),
                limit: 1,
                max_bytes: usize::MAX,
            })
            .await?;
        match page.events.into_iter().next() {
            Some(event) if event.id == parked.id => events.push(event),
            _ => {
                return Err(Error::corrupt(format!(
                    "reading the parked event {} at partition {}, position {}: the log holds another there, or none; \
                     the read model is of another log, rebuild it",
                    parked.id, entry.partition, parked.position
                )));
            }
        }
    }
    Ok(events)
}
