//! A log that this process alone writes: its file, and what brings appends into order.

use std::path::PathBuf;
use std::sync::Arc;

use headwater_core::{Error, PartitionCount, Result};
use headwater_log::{LogReader, LogStore, Sequencer, SequencerOptions};
use headwater_runtime::{Gate, Readiness};
use headwater_sql::{Database, OpenLog, PostgresLog, SqliteLog};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Where a log is kept.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In this file.
    File(PathBuf),
    /// In this schema of a database.
    Database(Database),
}

#[derive(Clone)]
enum Store {
    Sqlite(Arc<SqliteLog>),
    Postgres(Arc<PostgresLog>),
}

impl Store {
    fn log(&self) -> Arc<dyn LogStore> {
        match self {
            Self::Sqlite(log) => log.clone(),
            Self::Postgres(log) => log.clone(),
        }
    }

    /// Waits until nothing can be written any more, and says why. A database that is gone may come back.
    async fn ended(&self) -> Result<()> {
        match self {
            Self::Sqlite(log) => log.ended().await,
            Self::Postgres(_) => std::future::pending().await,
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(log) => log.close().await,
            Self::Postgres(log) => log.close().await,
        }
    }
}

/// An open log and its sequencer.
pub(crate) struct WrittenLog {
    store: Store,
    sequencer: Sequencer,
    stop: CancellationToken,
    /// Why nothing was written any more before the stop, if so.
    followed: JoinHandle<Result<()>>,
}

impl WrittenLog {
    /// Opens the log called `name` at `place`. When it can be written no more without having been closed, `readiness` is withdrawn and `ended`
    /// is cancelled: only a new process can write it again.
    ///
    /// # Errors
    /// As [`SqliteLog::open`] and [`PostgresLog::open`].
    pub(crate) async fn open(
        place: Place,
        name: &str,
        partitions: PartitionCount,
        readiness: &Readiness,
        ended: CancellationToken,
    ) -> Result<Self> {
        let store = match place {
            Place::File(path) => {
                Store::Sqlite(Arc::new(SqliteLog::open(path, OpenLog::new(name, partitions)).await?))
            }
            Place::Database(database) => {
                let log = Box::pin(PostgresLog::open(&database, name, partitions)).await?;
                Store::Postgres(Arc::new(log))
            }
        };
        Ok(Self::start(store, readiness, ended))
    }

    fn start(store: Store, readiness: &Readiness, ended: CancellationToken) -> Self {
        let sequencer = Sequencer::start(store.log(), SequencerOptions::default());
        let gate = readiness.wait_for("what writes the log, which has ended: start the process again");
        let stop = CancellationToken::new();
        let followed = tokio::spawn(follow(store.clone(), sequencer.clone(), gate, ended, stop.clone()));
        Self { store, sequencer, stop, followed }
    }

    /// For reading.
    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        self.store.log()
    }

    /// For appending.
    pub(crate) fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// Writes what is queued, closes the file.
    ///
    /// # Errors
    /// Why nothing was written any more before.
    pub(crate) async fn close(self) -> Result<()> {
        self.stop.cancel();
        self.sequencer.shutdown().await;
        self.store.close().await;
        self.followed.await.unwrap_or_else(|error| Err(panicked(&error)))
    }
}

async fn follow(
    store: Store,
    sequencer: Sequencer,
    gate: Gate,
    ended: CancellationToken,
    stop: CancellationToken,
) -> Result<()> {
    gate.open();
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        result = sequencer.ended() => result,
        result = store.ended() => result,
    };
    gate.close();
    ended.cancel();
    result
}

/// What a task that panicked is reported as.
pub(crate) fn panicked(error: &JoinError) -> Error {
    Error::internal(format!("a task of the event store panicked: {error}; please report this"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId};
    use headwater_log::{Clock, LogWriter};

    use super::*;

    #[tokio::test]
    async fn a_log_that_cannot_be_written_withdraws_readiness_and_ends_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let clock = Clock::new({
            let broken = Arc::clone(&broken);
            move || {
                assert!(!broken.load(Ordering::Relaxed), "the clock is broken, by injection");
                jiff::Timestamp::UNIX_EPOCH
            }
        });
        let options = OpenLog { clock, ..OpenLog::new("orders", PartitionCount::ONE) };
        let (readiness, ended) = (Readiness::default(), CancellationToken::new());
        let path = directory.path().join("log.db");
        let store = Store::Sqlite(Arc::new(SqliteLog::open(path, options).await.unwrap()));
        let log = WrittenLog::start(store, &readiness, ended.clone());
        let append = || Append {
            stream_id: StreamId::new("order-1").unwrap(),
            expected: Expected::Any,
            events: vec![NewEvent::json(EventType::new("Created").unwrap(), b"{}".to_vec())],
        };
        log.sequencer().append(append()).await.unwrap();
        assert!(readiness.waiting_for().is_empty());
        assert!(!ended.is_cancelled());

        broken.store(true, Ordering::Relaxed);
        log.sequencer().append(append()).await.unwrap_err();
        ended.cancelled().await;
        assert!(
            readiness.waiting_for()[0].starts_with("what writes the log"),
            "{:?}",
            readiness.waiting_for()
        );
        let reason = log.close().await.unwrap_err().to_string();
        assert!(reason.contains("has ended by itself; start the process again"), "{reason}");
    }
}
