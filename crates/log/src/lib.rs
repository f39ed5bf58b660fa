//! The event log: what a reader, a writer and a store of one must promise; the sequencer that makes any store a fast
//! writer; subscriptions; a store in memory; and the conformance suite that every implementation passes.
//!
//! ```text
//! eventstore, projection ──▶ LogReader ◀────────────────────┐
//! eventstore ──────────────▶ LogWriter ◀── Sequencer ──▶ LogStore ◀── memory · sql
//!                                          (group commit)
//! ```

mod reader;
mod store;
mod writer;

pub use reader::{Direction, Filter, Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage};
pub use store::{Batch, BatchEvent, CommitError, Committed, Epoch, LogStore, StoredEvent};
pub use writer::LogWriter;
