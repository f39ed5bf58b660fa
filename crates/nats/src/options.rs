use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::shown;

/// Which JetStream stream carries the events, and how it is reached.
#[derive(Clone)]
pub struct NatsOptions {
    /// The servers, for example `nats://nats:4222`; user and password may stand in them.
    pub servers: Vec<String>,
    /// The JetStream stream.
    pub stream_name: String,
    /// The subject of an event, with `{stream}`, `{partition}` and `{type}` for its own.
    pub subject: String,
    /// The name that stands for `{stream}`.
    pub event_stream: String,
    /// The event types that are declared: what a subject that begins with `{type}` is made from.
    pub event_types: Vec<String>,
    /// Whether the stream is made.
    pub provision: Provision,
    /// Who we are, if not by the servers' addresses.
    pub credentials: Option<Credentials>,
    /// How connections are protected. `None`: as the servers ask, by the system's authorities.
    pub tls: Option<Tls>,
}

/// TLS of the connections, which must be.
#[derive(Debug, Clone)]
pub struct Tls(pub Arc<async_nats::rustls::ClientConfig>);

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsOptions")
            .field("servers", &shown(&self.servers))
            .field("stream_name", &self.stream_name)
            .field("subject", &self.subject)
            .field("provision", &self.provision)
            .finish_non_exhaustive()
    }
}

/// The text of a NATS credentials file.
#[derive(Clone)]
pub struct Credentials(pub String);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Whether the stream is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provision {
    /// It is made, and kept as described.
    Create(Made),
    /// It is there, and only checked.
    Observe,
}

/// A stream that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Copies that JetStream keeps.
    pub replicas: u32,
    /// Whether it is kept in memory alone.
    pub in_memory: bool,
    /// How long messages are kept. `None`: as the stream has it; a new one keeps them for ever.
    pub max_age: Option<Duration>,
    /// How many bytes are kept. As `max_age`.
    pub max_bytes: Option<u64>,
}
