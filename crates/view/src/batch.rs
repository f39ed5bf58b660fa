use std::collections::{HashMap, HashSet};

use headwater_core::{Error, Partition, Position, StreamId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Cell, Key, Revision};

/// Where an event stands among those of all partitions, for columns that several stream ids set: the greatest one's value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// When the log took the event.
    pub recorded_at: Timestamp,
    /// Its partition.
    pub partition: Partition,
    /// Its position.
    pub position: u64,
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// By column.
    pub cells: Vec<Cell>,
    /// In a table of [`Writers::OneStream`](crate::Writers): the stream id that writes the row.
    pub writer: Option<StreamId>,
    /// In a table of [`Writers::ManyStreams`](crate::Writers): by column, the last set. Empty in others.
    pub stamps: Vec<Option<Stamp>>,
}

/// What a store holds for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowState {
    /// A row that queries see.
    Live(Row),
    /// A row that was deleted in a table of [`Writers::OneStream`](crate::Writers): nobody sees it, but it still belongs to its writer.
    Deleted {
        /// The stream id that the key belongs to.
        writer: StreamId,
    },
}

impl RowState {
    /// Rough size in memory and on disk, in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Live(row) => row.cells.iter().map(Cell::size).sum(),
            Self::Deleted { writer } => writer.as_str().len(),
        }
    }
}

/// Which write of a key this is, so that a change computed from an older one is refused. Given by the store, never twice for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowVersion(pub u64);

/// Which write of a stream id's parked events this is. As [`RowVersion`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParkVersion(pub u64);

/// Counts what people decided about events (skips), so that a worker that has not seen the last decision is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decisions(pub u64);

/// What a worker must know of its partition before it folds, in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// How far it is.
    pub progress: Progress,
    /// The stream ids of the partition that have parked events.
    pub parked: HashMap<StreamId, ParkVersion>,
    /// Events that people skipped, of any partition and in any revision.
    pub skips: HashSet<Uuid>,
    /// The number of the last decision in `skips`.
    pub decisions: Decisions,
}

/// How far a partition of a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub partition: Partition,
    /// Up to where effects are committed.
    pub position: Position,
    /// When the log took the event there; `None` at the start.
    pub recorded_at: Option<Timestamp>,
    /// Events parked now.
    pub parked: u64,
    /// Events skipped so far, by policy or by a person.
    pub skipped: u64,
}

/// Which rows a worker is about to change.
#[derive(Debug, Clone)]
pub struct Load {
    /// The revision.
    pub revision: Revision,
    /// Keys by table: number of the table and the keys wanted.
    pub rows: Vec<(usize, Vec<Key>)>,
}

/// A row as it was loaded; `None`: the store holds nothing for the key.
pub type LoadedRow = Option<(RowState, RowVersion)>;

/// One key's new state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowWrite {
    /// Number of the table.
    pub table: usize,
    /// The key.
    pub key: Key,
    /// What was loaded; another version in the store refuses the batch.
    pub expected: Option<RowVersion>,
    /// What is to be there; `None`: nothing. Absolute, never relative to what the store holds.
    pub state: Option<RowState>,
}

/// A checkpoint's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// Which partition.
    pub partition: Partition,
    /// Where the checkpoint must be.
    pub from: Position,
    /// Where it goes: beyond `from`.
    pub to: Position,
    /// When the log took the last event that was read, where one was.
    pub recorded_at: Option<Timestamp>,
    /// Events in between that were skipped, by policy or because a person decided it before.
    pub skipped: u64,
}

/// An event set aside. Only where it is: the log has the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its number within its partition.
    pub position: Position,
    /// Its id.
    pub id: Uuid,
    /// What happened.
    pub event_type: String,
}

/// A stream id's parked events. Every later event of the stream id joins them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedStream {
    /// The stream id.
    pub stream_id: StreamId,
    /// Its partition.
    pub partition: Partition,
    /// The version to name in a [`Park`].
    pub version: ParkVersion,
    /// Why the first one could not be folded: rule, expression and what went wrong.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// How many there are in all.
    pub count: u64,
    /// The first of them, in order; as many as were asked for.
    pub events: Vec<ParkedEvent>,
}

/// A change of a stream id's parked events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Park {
    /// The stream id.
    pub stream_id: StreamId,
    /// Its partition.
    pub partition: Partition,
    /// The version that was seen; `None`: nothing of the stream id was parked. Another refuses the batch.
    pub expected: Option<ParkVersion>,
    /// What to do.
    pub change: ParkChange,
}

/// See [`Park`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParkChange {
    /// Sets events aside, after those that are.
    Append {
        /// In position order; at least one.
        events: Vec<ParkedEvent>,
        /// Why the first could not be folded. Kept from before where there is an entry.
        reason: String,
    },
    /// Takes events back: their rows are in the same batch, or a person skips them.
    Release {
        /// All up to this position.
        through: Position,
        /// How many of them a person skips.
        skipped: u64,
        /// Why the first that stays could not be folded, where any stays.
        reason: String,
    },
}

/// A person's decision that an event has no effect, in this revision and in later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The event.
    pub id: Uuid,
    /// Its partition.
    pub partition: Partition,
    /// Its position.
    pub position: Position,
}

/// Whether power loss may take a transaction back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// It may, as a whole: folding repeats it from the log.
    #[default]
    Repeatable,
    /// It may not: a person decided it.
    Durable,
}

/// Changes that take effect together or not at all.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// The checkpoint's move; `None` where parked events are taken back.
    pub advance: Option<Advance>,
    /// Rows, each key at most once.
    pub rows: Vec<RowWrite>,
    /// Parked events, each stream id at most once.
    pub parks: Vec<Park>,
    /// Events that a person skips.
    pub skips: Vec<Skip>,
    /// The last decision that was known when the batch was folded.
    pub decisions: Decisions,
    /// How much it must survive.
    pub durability: Durability,
}

impl Batch {
    /// A batch for `revision` that changes nothing yet.
    pub const fn new(revision: Revision, decisions: Decisions) -> Self {
        Self {
            revision,
            advance: None,
            rows: Vec::new(),
            parks: Vec::new(),
            skips: Vec::new(),
            decisions,
            durability: Durability::Repeatable,
        }
    }
}

/// How much a batch should hold, for a store in which a larger one holds up everybody. What cannot be taken apart may be larger: a single event's
/// effect is never split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// Rows.
    pub rows: usize,
    /// Bytes, roughly.
    pub bytes: usize,
}

impl BatchLimit {
    /// As much as there is.
    pub const NONE: Self = Self { rows: usize::MAX, bytes: usize::MAX };
}

/// What a batch's transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The version of every row and parked stream id that it wrote.
    pub version: u64,
    /// The number of the last decision, with the batch's own.
    pub decisions: Decisions,
}

/// Why a batch was not applied. Nothing was changed, but for [`ApplyError::Failed`] with a retryable error: there, find out by the checkpoint.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// The checkpoint is elsewhere: ahead when another worker was there, behind when the sink was restored to an older state. Go on from it.
    #[error("the checkpoint is at position {found}, not where the batch starts")]
    Checkpoint {
        /// Where it is.
        found: Position,
    },
    /// A row, a parked stream id or a decision is not as the batch expected: load again and fold again.
    #[error("{what} was changed by another since it was loaded")]
    Conflict {
        /// What it is.
        what: String,
    },
    /// The revision was dropped: stop.
    #[error("revision {revision} is gone")]
    Gone {
        /// Which.
        revision: Revision,
    },
    /// The store could not do it.
    #[error(transparent)]
    Failed(#[from] Error),
}
