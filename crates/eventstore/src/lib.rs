//! The event store: one log, served over gRPC and HTTP on one port.
//!
//! ```text
//!                            ┌─ gRPC  headwater.eventstore.v1 ─┐              ┌─▶ LogWriter (sequencer)
//! writers, readers ── port ──┼─ gRPC  eventstore (the article) ┼──▶ Store ────┤                   or ReplicatedWriter
//!                            ├─ HTTP  /v1/…  JSON, SSE ────────┘   schemas    └─▶ LogReader
//!                            └─ gRPC  health, reflection; HTTP /healthz /readyz /metrics /openapi.json
//! ```
//!
//! An append goes through the schemas of the event types to the writer and is answered when it is durable. Reads and subscriptions
//! go to the reader; data travels as it was written, unless a reader asks for upcasts.

mod budget;
mod connection;
mod event_types;
mod grpc;
mod http;
mod metrics;
mod paging;
mod relays;
mod replicated;
mod seed;
mod server;
mod store;
mod traced;

pub use event_types::EventTypes;
pub use relays::{Relayed, Relays};
pub use replicated::ReplicatedWriter;
pub use server::EventStore;
