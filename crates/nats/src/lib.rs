//! The bus on NATS JetStream: one stream carries one event stream's events, each partition in position order.
//!
//! ```text
//! Relay ──publish──▶ NatsBus ──a batch, all or nothing──▶ JetStream stream ──▶ NatsConsumer ──▶ Feed
//!       ──reached──▶    │  └─ makes or checks the stream                   └─▶ anybody's NATS client
//!                       └──── looks through what is there, headers alone
//! ```
//!
//! A batch is published atomically where the stream allows it (NATS 2.12 and later; streams that are made here do): either all of it is there or
//! nothing, so no event can overtake one before it. Elsewhere, each event waits until the one before is acknowledged, which is slower.

mod bus;
mod connect;
mod consumer;
mod headers;
mod options;
mod provision;
mod publish;
mod reference;
mod scan;
mod subject;

pub use bus::NatsBus;
pub use options::{Credentials, Made, NatsOptions, Provision, Tls};
