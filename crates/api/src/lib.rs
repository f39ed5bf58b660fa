//! The wire: generated messages and services, the conversions at its edge, the only map between error kinds and
//! gRPC or HTTP status, the shapes of the HTTP API, and the typed client, which is also a log to read from.
//!
//! ```text
//! Client, RemoteLog ──gRPC──▶ eventstore           core types ◀─convert─▶ v1 messages
//! curl ──────────────HTTP──▶ eventstore            core types ◀──model──▶ JSON
//!                                                  core Error ◀─errors──▶ Status, Problem
//! ```

mod client;
mod codec;
pub mod convert;
mod credentials;
pub mod errors;
pub mod expected;
pub mod model;
pub mod tls;
mod url_path;

pub use client::{
    Batch, Client, HeadAt, LogHead, PartitionHead, Read, ReadStream, RemoteLog, StreamBatch, StreamHead,
    Subscribe,
};
pub use credentials::{CredentialFiles, Credentials};
pub use errors::Problem;
pub use url_path::UrlPath;

pub use headwater_log::{Direction, Filter, StartFrom};

/// The messages and services of package `headwater.eventstore.v1`.
#[allow(clippy::pedantic, clippy::all, missing_docs, unreachable_pub, reason = "generated from proto/")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/headwater.eventstore.v1.rs"));
}

/// The messages and the service of package `eventstore`: the API of the published article.
#[allow(clippy::pedantic, clippy::all, missing_docs, unreachable_pub, reason = "generated from proto/")]
pub mod seed {
    include!(concat!(env!("OUT_DIR"), "/eventstore.rs"));
}

/// The messages and the service of package `headwater.saga.v1`.
#[allow(clippy::pedantic, clippy::all, missing_docs, unreachable_pub, reason = "generated from proto/")]
pub mod saga_v1 {
    include!(concat!(env!("OUT_DIR"), "/headwater.saga.v1.rs"));
}

/// The descriptors of what an event store serves, for gRPC reflection: both of its packages.
pub const EVENT_STORE_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/eventstore.bin"));

/// The descriptors of `headwater.saga.v1`, for gRPC reflection.
pub const SAGA_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/saga.bin"));

/// Metadata of an append that one event store sends to another which holds the partition: it is written there or refused, and goes no
/// further.
pub const FORWARDED: &str = "headwater-forwarded";

/// Bytes that one gRPC message may have: a request's 4 MiB of data and metadata, and the names around 1,000 events.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;
