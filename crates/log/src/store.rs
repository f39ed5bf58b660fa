use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::{
    ContentDigest, Error, NewEvent, Partition, Position, RecordedEvent, Result, StreamId, Version,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{Head, LogReader};

/// The fencing number of a partition's writer: whoever acquired the partition last has the greatest, and only that one commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// Events for one partition, in order, to be committed as one.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Which partition.
    pub partition: Partition,
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The head that the writer believes in; the first event gets the position after it.
    pub head: Position,
    /// At least one.
    pub events: Vec<BatchEvent>,
}

impl Batch {
    /// Its events as a reader sees them once it is committed.
    pub fn recorded(&self, recorded_at: Timestamp) -> impl Iterator<Item = RecordedEvent> + '_ {
        self.events.iter().zip(1..).map(move |(new, number)| RecordedEvent {
            id: new.event.id,
            stream_id: new.stream_id.clone(),
            event_type: new.event.event_type.clone(),
            version: new.version,
            partition: self.partition,
            position: self.head.plus(number),
            schema_version: new.event.schema_version.get(),
            content_type: new.event.content_type.clone(),
            data: new.event.data.clone(),
            metadata: new.event.metadata.clone(),
            recorded_at,
        })
    }
}

/// One event of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchEvent {
    /// The aggregate.
    pub stream_id: StreamId,
    /// Its number within the stream id.
    pub version: Version,
    /// Its content's digest.
    pub digest: ContentDigest,
    /// The event.
    pub event: NewEvent,
}

/// A batch is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The new head: the position of the batch's last event.
    pub head: Position,
    /// `recorded_at` of all its events.
    pub recorded_at: Timestamp,
}

/// Why a batch was not, or perhaps not, committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// The partition's epoch or head is another: somebody else writes. Nothing was stored. Acquire again before writing more.
    #[error("another writer has taken over the partition")]
    Fenced,
    /// An event id, or a stream id's version, is taken. Nothing was stored. Find the ids and write the rest again.
    #[error("an event id or a version of the batch is taken")]
    Duplicate,
    /// Certainly nothing was stored.
    #[error("the batch was not stored: {0}")]
    Failed(Error),
    /// It may have been stored: repeat the same batch until the answer is another.
    #[error("it is unknown whether the batch was stored: {0}")]
    Unknown(Error),
}

/// Where an event id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The id.
    pub id: Uuid,
    /// Its content's digest.
    pub digest: ContentDigest,
    /// The aggregate.
    pub stream_id: StreamId,
    /// Its number within the stream id.
    pub version: Version,
    /// Its partition.
    pub partition: Partition,
    /// Its number within the partition.
    pub position: Position,
}

/// The storage under a sequencer: commits batches, fenced by epoch, and answers what a sequencer needs to know.
///
/// ```text
/// head row:  partition ─ epoch ─ head ─ last_recorded_at
///            └ commit: UPDATE … WHERE epoch = mine AND head = believed, then INSERT events, COMMIT, sync
/// ```
///
/// Implementations MUST:
/// - move the head row and insert the events in one transaction, durable before the answer;
/// - refuse as [`CommitError::Fenced`], storing nothing, when the epoch or the head is another;
/// - set `recorded_at` to the greater of the store's clock and the head's, once a batch;
/// - refuse a second event with the same id, or the same stream id and version, as [`CommitError::Duplicate`], storing nothing;
/// - never give a position that is not the next.
#[async_trait]
pub trait LogStore: LogReader {
    /// Takes the partition over: raises its epoch, so that every earlier writer is fenced, and answers where it stands.
    async fn acquire(&self, partition: Partition) -> Result<Head>;

    /// Commits one batch. Dropping the future does not take the batch back.
    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError>;

    /// Whether a batch may be sent while the one before it is under way, with the head that that one leaves: worth it where a commit waits for a
    /// network. One that comes before the other has stored anything waits for it, or is [`CommitError::Fenced`].
    fn takes_batches_behind(&self) -> bool {
        false
    }

    /// The versions that the stream ids are at, in the order asked; 0 for one without events.
    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>>;

    /// Where those of `ids` that are stored are, in any order.
    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>>;
}
