//! Real processes, builders, oracles and histories for tests; the end-to-end tests lie in `tests/`.

pub mod collector;
pub mod counters;
pub mod dev;
pub mod event_store;
pub mod history;
pub mod http;
pub mod judges;
pub mod kafka;
pub mod nats;
pub mod postgres;
pub mod process;
pub mod proofs;
pub mod proxy;
pub mod redis;
mod server_process;
pub mod tools;
pub mod tour;
