//! The event log: what a reader, a writer and a store of one must promise; the sequencer that makes any store a fast
//! writer; subscriptions; a store in memory; and the conformance suite that every implementation passes.
//!
//! ```text
//! eventstore, projection ──▶ LogReader ◀────────────────────┐
//! eventstore ──────────────▶ LogWriter ◀── Sequencer ──▶ LogStore ◀── memory · sql
//!                                          (group commit)
//! ```

mod backoff;
mod clock;
pub mod conformance;
mod heads;
mod memory;
mod page;
mod reader;
mod recent;
mod sequencer;
mod store;
mod subscription;
mod writer;

pub use backoff::Backoff;
pub use clock::Clock;
pub use heads::Heads;
pub use memory::MemoryStore;
pub use page::{AllPage, ReadAll, end, read_all};
pub use reader::{
    Direction, Filter, Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage,
};
pub use sequencer::{Sequencer, SequencerOptions, SequencerStats};
pub use store::{Batch, BatchEvent, CommitError, Committed, Epoch, LogStore, StoredEvent};
pub use subscription::{EventBatch, StartFrom, Subscription};
pub use writer::LogWriter;
