//! What `dev` tells while it runs. `docs/dev.md` lists the JSON, which scripts read.

use std::path::PathBuf;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Something that a person or a script wants to know.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Notice {
    /// Everything answers.
    Ready(Ready),
    /// In words.
    Note {
        /// For people.
        message: String,
    },
    /// A manifest of a kind that is not run here.
    Ignored {
        /// Where.
        file: String,
        /// Kind and name.
        resource: String,
    },
    /// Something is wrong in a file.
    Fault {
        /// Where.
        file: String,
        /// From 1; `None`: the whole file.
        line: Option<usize>,
        /// Whether it stands in the way.
        severity: Severity,
        /// What, and what to do.
        message: String,
    },
    /// A file was saved, and this came of it.
    Changed {
        /// Kind and name.
        resource: String,
        /// What happened.
        change: Change,
        /// In words.
        message: String,
    },
    /// A revision of a projection.
    Rollout {
        /// Which.
        projection: String,
        /// Its number.
        revision: String,
        /// Where it stands.
        state: &'static str,
        /// In words.
        message: String,
    },
    /// An event was stored.
    Event(Event),
    /// Something happened to an instance of a saga.
    Step {
        /// The saga.
        saga: String,
        /// The instance.
        instance: String,
        /// What happened, in a word.
        what: String,
        /// Which step, and which way: `debit-payment`, `debit-payment undo`.
        step: String,
        /// In words.
        text: String,
    },
    /// A row changed.
    Row {
        /// Of which projection.
        projection: String,
        /// Of which table.
        table: String,
        /// What happened to it.
        change: &'static str,
        /// Its key, as a query's path has it.
        key: String,
        /// The row; `None`: it is gone.
        row: Option<Map<String, Value>>,
    },
}

/// How bad a fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It stands in the way.
    Error,
    /// It does not; it is probably not what was meant.
    Warning,
}

/// What a saved file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It runs now.
    Added,
    /// It runs as it is now.
    Changed,
    /// It was stopped; its data stays.
    Removed,
    /// It cannot be; what ran goes on.
    Refused,
}

/// What serves where.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    /// In order of name.
    pub streams: Vec<StreamAt>,
    /// URL of the query API.
    pub query: String,
    /// In order of name.
    pub projections: Vec<ProjectionAt>,
    /// In order of name.
    pub sagas: Vec<SagaAt>,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// From the start of the process's work to here.
    pub startup_ms: u64,
}

/// An event store.
#[derive(Debug, Clone, Serialize)]
pub struct StreamAt {
    /// Of the EventStream.
    pub name: String,
    /// gRPC and HTTP.
    pub url: String,
    /// How many.
    pub partitions: usize,
}

/// A projection.
#[derive(Debug, Clone, Serialize)]
pub struct ProjectionAt {
    /// Its name.
    pub name: String,
    /// Of which EventStream.
    pub stream: String,
    /// Its tables.
    pub tables: Vec<String>,
}

/// A saga.
#[derive(Debug, Clone, Serialize)]
pub struct SagaAt {
    /// Its name.
    pub name: String,
    /// Of which EventStream.
    pub stream: String,
}

/// A stored event.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Of which EventStream.
    pub stream: String,
    /// Which aggregate.
    pub stream_id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Within the stream id.
    pub version: u64,
    /// Where.
    pub partition: u16,
    /// Within the partition.
    pub position: String,
    /// As it was written; `None`: not JSON.
    pub data: Option<Box<RawValue>>,
}
