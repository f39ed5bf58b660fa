//! The log on PostgreSQL and CockroachDB.

pub(crate) mod database;
mod follower;
mod lease;
mod log;
pub(crate) mod owner;
mod page;
pub(crate) mod pool;
mod relay;
mod rows;
pub(crate) mod schema;

pub use database::{Database, DatabaseTls};
pub use log::PostgresLog;
pub use owner::{Claim, Owner, SCHEMA_OWNED};
