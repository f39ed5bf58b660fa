//! The bus on Apache Kafka: one topic for each event stream, one of its partitions for each of ours.
//!
//! ```text
//! Relay ──publish──▶ Publisher ──▶ an idempotent producer of its own for each partition ──▶ topic/partition
//!       ──reached──▶ Topic (makes or checks it) ─▶ scan: what is there, by the messages themselves
//! Feed  ──consume──▶ scan: where to start ─▶ KafkaConsumer, by assignment: no group is joined, no offset committed
//! ```
//!
//! An event is a CloudEvent in Kafka's binary mode: attributes are headers `ce_NAME` (`content-type` for the data's), the key is the stream
//! id, the body is the event's data and nothing else. Whoever consumes the topic needs nothing of Headwater.
//!
//! librdkafka works in threads of its own, and none of its calls that block is made on one of tokio's.

mod bus;
mod client;
mod consumer;
mod options;
mod publisher;
mod reader;
mod reference;
mod scan;
mod topic;
mod wire;

pub use bus::KafkaBus;
pub use options::{Identity, KafkaOptions, Password, Provision, Retention, Sasl, SaslMechanism, Tls};
