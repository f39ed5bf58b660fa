//! The bus over a real Kafka.

mod kafka;
