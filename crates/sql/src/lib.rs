//! The log on SQLite, and on PostgreSQL and CockroachDB; the view on SQLite.

mod connection;
mod postgres;
mod sqlite;
mod sqlite_view;

pub use postgres::{Database, PostgresLog};
pub use sqlite::{DataLock, OpenLog, SqliteLog};
pub use sqlite_view::SqliteView;
