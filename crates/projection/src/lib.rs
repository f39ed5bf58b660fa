//! Projections: read models declared as rules from events to rows, kept up to date exactly once, rolled out revision by revision,
//! and served for queries.
//!
//! ```text
//!  Projection ──▶ Definition ──▶ Plan ─┐
//!                                      ▼
//!  LogReader ──pages──▶ worker: fold(plan, rows, events) ──▶ ViewSink::apply (rows + checkpoint, one transaction)
//!                         ▲ one for each partition, of those that are leased to this process, of each revision that is active,
//!                         │ candidate or previous
//!  ProjectionService ─────┘ creates, promotes, rolls back, drops; replays and skips parked events
//!        ▲         ▲
//!  administration  query API ──▶ ViewReader, and TimeTravel: the same fold up to a past place, into a throw-away store
//! ```
//!
//! The fold is one pure function; live, rebuilt and travelled revisions are what it makes of the same events.

#![warn(missing_docs)]

mod answers;
mod catalog;
mod convert;
mod definition;
mod desired;
mod event;
mod fold;
mod folder;
mod heads;
mod http;
mod leases;
mod limiter;
mod manager;
mod metrics;
mod pages;
mod parking;
mod plan;
mod report;
mod rollout;
mod service;
mod status;
mod travel;
mod worker;

pub use catalog::Catalog;
pub use definition::Definition;
pub use desired::Desired;
pub use fold::{Failure, RuleError};
pub use http::{admin_router, query_router};
pub use metrics::register as register_metrics;
pub use parking::{Released, SkipWhat};
pub use plan::{Fault, Plan};
pub use service::ProjectionService;
pub use status::{LagStatus, PartitionStatus, ProjectionStatus, RevisionStatus, WorkerShare};
pub use travel::{ScratchStores, TravelOptions};
pub use worker::RowChange;
