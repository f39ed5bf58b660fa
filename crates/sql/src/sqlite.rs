//! SQLite: the log, for one process.
//!
//! ```text
//! lanes ──▶ commit ──▶ bounded queue ──▶ writer thread ──▶ one transaction, one sync ──▶ file.db-wal ──▶ file.db
//!   ▲                                         │                                              ▲
//!   └──────── answers, heads ◀────────────────┘                     a few read connections ──┘
//! ```
//!
//! The file is locked for one process, so the heads in memory are the truth for its readers: they are published
//! after the sync, and every page of a partition is bounded by them. A page of one stream id needs no bound: what its
//! reader finds is committed, and versions have no gaps.

mod lock;
mod log;
mod readers;
mod relay;
mod rows;
mod writer;

pub use lock::DataLock;
pub use log::{OpenLog, SqliteLog};
pub use relay::SqliteRelayState;
