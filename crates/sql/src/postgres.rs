//! The log on PostgreSQL and CockroachDB.

pub(crate) mod database;
mod lease;
mod log;
mod relay;
mod rows;
pub(crate) mod schema;

pub use database::Database;
pub use log::PostgresLog;
