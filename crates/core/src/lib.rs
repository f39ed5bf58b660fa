//! The words of Headwater, without input or output: what an event is, how it is addressed and ordered,
//! what an append may expect, and the closed set of ways in which an operation can fail.
//!
//! ```text
//! stream id ──murmur2──▶ partition        event = (stream id, version) = (partition, position)
//! token     = log id + position by partition
//! ```
//!
//! Every type here is checked by its constructor, so that the rest of the workspace need not look twice.

mod append;
mod backend_fault;
mod error;
mod event;
mod json;
mod metadata;
mod name;
mod partition;
mod retry;
mod share;
mod token;

pub use append::{Append, AppendLimits, Appended, Expected};
pub use backend_fault::BackendFault;
pub use error::{Error, Result};
pub use event::{ContentDigest, NewEvent, RecordedEvent, SchemaVersion};
pub use metadata::Metadata;
pub use name::{EventType, StreamId};
pub use partition::{Partition, PartitionCount, Position, Version, murmur2};
pub use retry::RetryPolicy;
pub use share::Share;
pub use token::{LogId, Positions, Token};
