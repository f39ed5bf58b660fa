//! The adapters against their ports' conformance suites, and what only they promise.

mod faults;
mod log;
mod log_files;
mod postgres_follower;
mod postgres_kept;
mod postgres_log;
mod postgres_owner;
mod postgres_view;
mod relay_states;
mod view;
