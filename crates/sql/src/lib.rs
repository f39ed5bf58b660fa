//! The log and a relay's checkpoints on SQLite, and on PostgreSQL and CockroachDB; the view on SQLite and PostgreSQL.

mod connection;
mod kept;
mod postgres;
mod postgres_view;
mod sqlite;
mod sqlite_view;
mod stamps;
mod view_sql;

pub use kept::{Keeps, KeptSchema, RemoveAs, find, list, may_remove, remove};
pub use postgres::{Claim, Database, DatabaseTls, Owner, PostgresLog, SCHEMA_OWNED};
pub use postgres_view::PostgresView;
pub use sqlite::{DataLock, OpenLog, SqliteLog, SqliteRelayState};
pub use sqlite_view::SqliteView;
