//! The log on PostgreSQL and CockroachDB.

mod database;
mod lease;
mod log;
mod rows;
mod schema;

pub use database::Database;
pub use log::PostgresLog;
