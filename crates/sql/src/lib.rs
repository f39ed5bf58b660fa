//! The log and the view on SQLite.

mod connection;
mod sqlite;
mod sqlite_view;

pub use sqlite::{DataLock, OpenLog, SqliteLog};
pub use sqlite_view::SqliteView;
