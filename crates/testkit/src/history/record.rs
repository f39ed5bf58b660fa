//! What the clients of a log did, when, and what they were told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::prefix::Moment;
use crate::http::{Event, Stored};

/// What a stream id must be at for an append to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// There is no event.
    NoStream,
    /// There is one.
    Exists,
    /// The last event has this version.
    Version(u64),
}

impl Expected {
    /// Whether it holds at this version; 0 is none.
    pub const fn holds(self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => version == 0,
            Self::Exists => version > 0,
            Self::Version(wanted) => version == wanted,
        }
    }
}

impl From<Expected> for serde_json::Value {
    fn from(expected: Expected) -> Self {
        match expected {
            Expected::Any => "any".into(),
            Expected::NoStream => "no_stream".into(),
            Expected::Exists => "exists".into(),
            Expected::Version(version) => version.into(),
        }
    }
}

/// What a client was told of an append.
#[derive(Debug, Clone)]
pub enum Told {
    /// It is stored: its last event is here.
    Stored(Stored),
    /// It is not: the stream id is at this version.
    Refused(u64),
    /// Nothing: it is stored now, later, or never.
    Nothing,
}

/// One request, and its answer.
#[derive(Debug, Clone)]
pub enum Call {
    /// Events to one stream id. Who has no answer may send the same again, as another call.
    Append {
        /// The stream id.
        stream_id: String,
        /// The expectation.
        expected: Expected,
        /// The events' ids: the same for the same request.
        ids: Vec<String>,
        /// What came of it.
        told: Told,
    },
    /// The whole of a stream id.
    ReadStream {
        /// The stream id.
        stream_id: String,
        /// All its events.
        events: Vec<Event>,
    },
    /// The last event of a stream id.
    ReadLast {
        /// The stream id.
        stream_id: String,
        /// Its last event; `None`: it has none.
        last: Option<Event>,
    },
    /// A page of all partitions.
    ReadPage {
        /// How far each partition had been read before, by partition.
        after: Vec<u64>,
        /// What comes next, in each.
        events: Vec<Event>,
        /// Nothing more was there.
        is_end: bool,
    },
}

/// A request with its times.
#[derive(Debug, Clone)]
pub struct Operation {
    /// When it was sent.
    pub began: Moment,
    /// When the answer was there; for an append without one, nothing.
    pub ended: Moment,
    /// The request.
    pub call: Call,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.call {
            Call::Append { stream_id, expected, ids, told } => {
                write!(f, "an append of {} to {stream_id} at {expected:?} was told {told:?}", ids.join(", "))
            }
            Call::ReadStream { stream_id, events } => {
                write!(f, "a read of {stream_id} showed {} events", events.len())
            }
            Call::ReadLast { stream_id, last } => {
                write!(
                    f,
                    "a read of the last of {stream_id} showed version {:?}",
                    last.as_ref().map(|last| last.version)
                )
            }
            Call::ReadPage { after, events, is_end } => {
                let end = if *is_end { "the end" } else { "more" };
                write!(f, "a page after {after:?} showed {} events and {end}", events.len())
            }
        }?;
        write!(f, " from {} to {}", self.began, self.ended)
    }
}

/// Collects operations of many clients. A cheap handle.
#[derive(Debug, Clone)]
pub struct Recorder {
    start: Instant,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { start: Instant::now(), operations: Arc::default() }
    }
}

impl Recorder {
    /// The moment now: nanoseconds of a clock that all clients share.
    pub fn now(&self) -> Moment {
        self.start.elapsed().as_nanos() as Moment
    }

    /// A request that was sent at `began` has its answer now.
    pub fn answered(&self, began: Moment, call: Call) {
        let operation = Operation { began, ended: self.now(), call };
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// How many appends were stored.
    pub fn stored(&self) -> usize {
        let is_stored =
            |operation: &&Operation| matches!(operation.call, Call::Append { told: Told::Stored(_), .. });
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(is_stored).count()
    }

    /// All that was recorded.
    pub fn operations(&self) -> Vec<Operation> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
