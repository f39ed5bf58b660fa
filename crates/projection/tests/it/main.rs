//! Projections over real logs and real sinks: what is live, what is rebuilt and what is folded in one go are the same.

mod banku;
mod faults;
mod group;
mod http;
mod oracle;
mod orders;
mod parking;
mod redis;
mod restored;
mod rollout;
mod support;
mod travel;
