//! The event log: what a reader, a writer and a store of one must promise; the sequencer that makes any store a fast
//! writer; subscriptions; a store in memory; and the conformance suite that every implementation passes.
//!
//! ```text
//! eventstore, projection ──▶ LogReader ◀────────────────────┐
//! eventstore ──────────────▶ LogWriter ◀── Sequencer ──▶ LogStore ◀── memory · sql
//!                                          (group commit)
//! ```
//!
//! ```
//! use std::sync::Arc;
//!
//! use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId};
//! use headwater_log::{Filter, LogWriter, MemoryStore, Sequencer, SequencerOptions, StartFrom, Subscription};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> headwater_core::Result<()> {
//! let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
//! let log = Sequencer::start(store.clone(), SequencerOptions::default());
//!
//! let created = NewEvent::json(EventType::new("OrderCreated")?, r#"{"amount": "12.50"}"#);
//! let request =
//!     Append { stream_id: StreamId::new("order-1")?, expected: Expected::NoStream, events: vec![created] };
//! let appended = log.append(request.clone()).await?;
//! assert_eq!(log.append(request).await?, appended, "the same ids: the first result");
//!
//! let mut subscription = Subscription::open(store, &StartFrom::Beginning, Filter::default()).await?;
//! let batch = subscription.next_batch(100, 1 << 20).await?;
//! assert_eq!(batch.events.len(), 1);
//! assert_eq!(batch.token, appended.token());
//! log.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod clock;
pub mod conformance;
mod heads;
mod lease;
mod memory;
mod page;
mod reader;
mod recent;
mod replica;
mod sequencer;
mod store;
mod subscription;
mod tail;
mod writer;

pub use backoff::Backoff;
pub use clock::Clock;
pub use heads::Heads;
pub use lease::{Holdings, LeaseStore, Member};
pub use memory::MemoryStore;
pub use page::{AllPage, ReadAll, end, read_all};
pub use reader::{
    Direction, Filter, Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage,
};
pub use replica::{Holder, LeaseTimes, Replica, Sharing};
pub use sequencer::{Sequencer, SequencerOptions, SequencerStats};
pub use store::{Batch, BatchEvent, CommitError, Committed, Epoch, LogStore, StoredEvent};
pub use subscription::{EventBatch, StartFrom, Subscription};
pub use tail::Tail;
pub use writer::LogWriter;
