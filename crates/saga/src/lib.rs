//! Business transactions over several services that finish or are voided.
//!
//! ```text
//! event stream ─▶ intake ─▶ the saga's log ─▶ drive ─▶ Caller ─▶ participants, event streams
//!                              │      ▲         │
//!                 Instance ◀───┘      └─────────┘     recorded before it is sent, at the version that was decided on
//!              (the fold of its history)
//! ```
//! The coordinator is event-sourced itself: an instance is a stream of the saga's log, which lies beside the event stream's. What is
//! sent follows from that history alone and carries a key that never changes, so whoever takes an instance up, after whatever crash,
//! sends the same. `decide` is the whole of what follows from what; everything else reads, records, sends and waits.

mod call;
mod catalog;
mod decide;
mod definition;
mod drive;
mod graph;
pub mod grpc;
mod history;
mod http;
mod instance;
mod intake;
mod journal;
mod json;
mod metrics;
mod paging;
mod plan;
mod service;
mod show;
mod table;
mod traced;
mod variables;

pub use call::{
    Answer, AppendRequest, Call, Caller, Calls, GrpcRequest, HeaderValue, HttpRequest, Request, Response,
    Surroundings, Trace,
};
pub use catalog::SagaCatalog;
pub use definition::Definition;
pub use drive::Told;
pub use graph::mermaid;
pub use history::{
    AttemptUnanswered, AttentionNeeded, Cause, Command, Commanded, Direction, Ended, Entry, ReplySeen,
    Started, StepBegun, StepFailed, StepSent, StepSucceeded, StepUnknown, Turned, WaitsFor, Why,
};
pub use http::router;
pub use instance::State;
pub use intake::Counts;
pub use journal::NotStarted;
pub use json::Json;
pub use metrics::SagaMetrics;
pub use service::{Coordinator, Generation, Leads, Parts, SagaService, SagaStatus};
pub use show::{Instance, Line, Summary};
