//! The log and the view on SQLite.

mod connection;
mod sqlite;

pub use sqlite::{DataLock, OpenLog, SqliteLog};
mod sqlite_view;

pub use sqlite_view::SqliteView;
