//! The bus: carries the log's events to consumers by way of a broker. The log is the truth; what the bus loses, repeats or
//! disorders, its consumers mend from the log.
//!
//! ```text
//! LogReader ──▶ Relay ──publish──▶ Bus ──consume──▶ Feed ──▶ a consumer: each position once, in order
//!    │            │ checkpoint                        ▲
//!    │            ▼                                   │ holes, and all that came before
//!    │        RelayState                              │
//!    └────────────────────────────────────────────────┘
//! ```
//! [`LiveReader`] puts a feed behind a [`LogReader`](headwater_log::LogReader), so that whoever follows a log follows the bus.
//!
//! Within one process a bus brings nothing that [`LogReader::wait_beyond`](headwater_log::LogReader::wait_beyond) does not, so
//! `headwater dev` has its workers subscribe to the log ([`headwater_log::Subscription`]); [`InProcessBus`] is the plainest reading of the port,
//! and what the relay and the feed are tested with. Brokers come as adapters, in crates of their own.

mod cloud_events;
pub mod conformance;
mod feed;
mod in_process;
mod live;
mod port;
mod relay;

pub use cloud_events::{CloudEvents, OMITTED, Place};
pub use feed::{Feed, FeedBatch, FeedOptions, FeedStats};
pub use in_process::InProcessBus;
pub use live::LiveReader;
pub use port::{BrokerReference, Bus, Checkpoint, Consumer, Last, Reached, RelayState, Removal};
pub use relay::{MemoryRelayState, Relay, RelayOptions, RelayStats, superseded};
