use async_trait::async_trait;
use headwater_core::{
    EventType, LogId, Partition, PartitionCount, Position, RecordedEvent, Result, StreamId, Version,
};
use jiff::Timestamp;

use crate::Epoch;

/// What never changes about a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogDescriptor {
    /// Its identity.
    pub log_id: LogId,
    /// Its partitions.
    pub partitions: PartitionCount,
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Position of the last event; 0 when there is none.
    pub position: Position,
    /// The fencing number of the writer that may append.
    pub epoch: Epoch,
    /// `recorded_at` of the last event.
    pub last_recorded_at: Option<Timestamp>,
}

/// Which events of a partition are wanted. The default wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Any of these types; empty: all types.
    pub event_types: Vec<EventType>,
    /// Stream ids that begin with this.
    pub stream_id_prefix: Option<String>,
}

impl Filter {
    /// Whether every event passes.
    pub fn is_empty(&self) -> bool {
        self.event_types.is_empty() && self.stream_id_prefix.is_none()
    }

    /// Whether an event of `event_type` in `stream_id` is wanted.
    pub fn matches(&self, event_type: &str, stream_id: &str) -> bool {
        (self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted.as_str() == event_type))
            && self.stream_id_prefix.as_ref().is_none_or(|prefix| stream_id.starts_with(prefix.as_str()))
    }
}

/// The way to read a stream id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From older to newer.
    #[default]
    Forwards,
    /// From newer to older.
    Backwards,
}

/// A page of one stream id's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadStream {
    /// Which.
    pub stream_id: StreamId,
    /// The first version to return. `None`: the first forwards, the last backwards.
    pub from: Option<Version>,
    /// Which way.
    pub direction: Direction,
    /// Events at most.
    pub limit: usize,
    /// Bytes of data and metadata, roughly; at least one event is returned whatever its size. `limit` 0 returns none.
    pub max_bytes: usize,
}

/// The answer to [`ReadStream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPage {
    /// In the direction asked for, without holes.
    pub events: Vec<RecordedEvent>,
    /// The stream id's version in the same snapshot; 0: it has no events.
    pub version: Version,
}

/// A page of one partition's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPartition {
    /// Which.
    pub partition: Partition,
    /// Only events beyond this position.
    pub after: Position,
    /// Only events up to and including this position.
    pub up_to: Option<Position>,
    /// Only these.
    pub filter: Filter,
    /// Events at most, and, where there is a filter, an implementation may also stop after having looked at some multiple of it.
    pub limit: usize,
    /// Bytes of data and metadata, roughly; at least one event is returned whatever its size.
    pub max_bytes: usize,
}

/// The answer to [`ReadPartition`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionPage {
    /// In position order; without holes when there is no filter.
    pub events: Vec<RecordedEvent>,
    /// How far this page has looked: read on after it. At least the last event's position, and beyond it when what follows is filtered out.
    pub reached: Position,
    /// The partition's head in the same snapshot: there is more while `reached < head`.
    pub head: Position,
}

/// Reads a log.
///
/// Implementations MUST:
/// - give events in position order, each exactly as it was appended, without holes (but for what the filter leaves out);
/// - bound every page by the head of the same snapshot: no reader ever sees position `n + 1` before `n`;
/// - give what an acknowledged append stored to every read that starts afterwards;
/// - hold no lock or snapshot between calls.
///
/// # Errors
/// All methods: `Unavailable` when the store cannot be reached, `Corrupt` when what it holds contradicts itself,
/// `Invalid` for a partition that is not there.
#[async_trait]
pub trait LogReader: Send + Sync + 'static {
    /// What never changes about this log.
    fn descriptor(&self) -> LogDescriptor;

    /// A page of one stream id. A stream id without events is an empty page at version 0, not an error.
    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage>;

    /// A page of one partition.
    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage>;

    /// The heads of all partitions, by partition.
    async fn heads(&self) -> Result<Vec<Head>>;

    /// The position of the last event of `partition` recorded before `time`: reading after it gives all events from `time` on.
    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position>;

    /// Waits until the head of `partition` is beyond `position` and gives the head. Cancel-safe. No time limit of its own.
    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position>;
}
