//! Read models: what a sink must promise to those who fold events into it, to those who query it and to those who
//! administer it; a sink in memory; and the conformance suite that every sink passes.
//!
//! ```text
//! worker ──load, apply──▶ ViewSink ┐
//! query API ───query────▶ ViewReader ├─ ViewStore: one projection's tables, checkpoints, parked events, revisions, leases
//! service ──change, …───▶ ViewAdmin  │             ◀── memory · sql · redis
//! workers ──look────────▶ SinkLeases ┘
//! ```
//!
//! One store holds one projection. Each of its revisions has tables and checkpoints of its own; the [`Rollout`] says which of them
//! answers queries. Whatever belongs together changes in one transaction: a batch of rows with the checkpoint that covers it,
//! a parked event with the checkpoint that passes it, a promotion with the names under which people find the tables.

#![warn(missing_docs)]

mod batch;
mod cell;
pub mod conformance;
mod lease;
mod memory;
mod query;
mod rollout;
mod schema;
mod store;

pub use batch::{
    Advance, ApplyError, Batch, BatchLimit, Decisions, Durability, Load, LoadedRow, Park, ParkChange,
    ParkVersion, ParkedEvent, ParkedStream, PartitionState, Progress, Row, RowState, RowVersion, RowWrite,
    Skip, Stamp, Written,
};
pub use cell::{Cell, Key};
pub use lease::{Holdings, LocalLeases, Look, Member, SinkLeases, Standing};
pub use memory::MemoryView;
pub use query::{Answer, Order, Query, QueryError};
pub use rollout::{
    Change, ChangeError, Declared, Generation, NewRevision, Previous, Revision, RevisionRecord, Rollout,
    RolloutVersion, SpecGeneration,
};
pub use schema::{Column, ColumnType, Index, TableSchema, Writers, check_identifier};
pub use store::{ViewAdmin, ViewReader, ViewSink, ViewStore};
