//! The log and the view on SQLite.
