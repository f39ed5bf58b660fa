//! A log that this process writes, alone or with others: where it is kept, and what brings appends into order.

use std::path::PathBuf;
use std::sync::Arc;

use headwater_bus::RelayState;
use headwater_core::{Error, PartitionCount, Result};
use headwater_log::{LeaseTimes, LogReader, LogStore, Replica, Sequencer, SequencerOptions, Sharing};
use headwater_runtime::{Gate, Readiness};
use headwater_sql::{Claim, Database, OpenLog, PostgresLog, SqliteLog, SqliteRelayState};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// Where a log is kept.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In this file.
    File(PathBuf),
    /// In this schema of a database.
    Database(Database, Claim),
    /// There, and written by several processes, of which this one is known to the others by its address.
    Shared {
        database: Database,
        /// Whose it is.
        claim: Claim,
        /// Where what is long past is read.
        follower: Option<Database>,
        address: String,
        sharing: Sharing,
    },
}

#[derive(Clone)]
enum Store {
    /// With the file that says how far it was relayed.
    Sqlite(Arc<SqliteLog>, PathBuf),
    Postgres(Arc<PostgresLog>),
}

impl Store {
    fn log(&self) -> Arc<dyn LogStore> {
        match self {
            Self::Sqlite(log, _) => log.clone(),
            Self::Postgres(log) => log.clone(),
        }
    }

    /// Waits until nothing can be written any more, and says why. A database that is gone may come back.
    async fn ended(&self) -> Result<()> {
        match self {
            Self::Sqlite(log, _) => log.ended().await,
            Self::Postgres(_) => std::future::pending().await,
        }
    }

    async fn close(&self) {
        match self {
            Self::Sqlite(log, _) => log.close().await,
            Self::Postgres(log) => log.close().await,
        }
    }
}

/// An open log and its sequencer.
pub(crate) struct WrittenLog {
    store: Store,
    sequencer: Sequencer,
    /// Where others write as well.
    replica: Option<Arc<Replica>>,
    stop: CancellationToken,
    /// Why nothing was written any more before the stop, if so.
    followed: JoinHandle<Result<()>>,
}

impl WrittenLog {
    /// Opens the log called `name` at `place`. When it can be written no more without having been closed, `readiness` is withdrawn and `ended`
    /// is cancelled: only a new process can write it again.
    ///
    /// # Errors
    /// As [`SqliteLog::open`] and [`PostgresLog::open_for`].
    pub(crate) async fn open(
        place: Place,
        name: &str,
        partitions: PartitionCount,
        readiness: &Readiness,
        ended: CancellationToken,
    ) -> Result<Self> {
        match place {
            Place::File(path) => {
                let relayed = path.with_extension("relay.db");
                let log = SqliteLog::open(path, OpenLog::new(name, partitions)).await?;
                Ok(Self::start(Store::Sqlite(Arc::new(log), relayed), None, readiness, ended))
            }
            Place::Database(database, claim) => {
                let log = Box::pin(PostgresLog::open_for(&claim, &database, name, partitions)).await?;
                Ok(Self::start(Store::Postgres(Arc::new(log)), None, readiness, ended))
            }
            Place::Shared { database, claim, follower, address, sharing } => {
                let log = Box::pin(PostgresLog::open_for(&claim, &database, name, partitions)).await?;
                let log = Arc::new(match follower {
                    Some(follower) => log.with_follower(follower).await,
                    None => log,
                });
                let replica = Replica::join(log.clone(), address, sharing, LeaseTimes::default()).await?;
                Ok(Self::start(Store::Postgres(log), Some(Arc::new(replica)), readiness, ended))
            }
        }
    }

    fn start(
        store: Store,
        replica: Option<Arc<Replica>>,
        readiness: &Readiness,
        ended: CancellationToken,
    ) -> Self {
        let written = replica.as_ref().map_or_else(|| store.log(), |replica| replica.store());
        let sequencer = Sequencer::start(written, SequencerOptions::default());
        let gate = readiness.wait_for("what writes the log, which has ended: start the process again");
        let stop = CancellationToken::new();
        let followed = tokio::spawn(follow(store.clone(), sequencer.clone(), gate, ended, stop.clone()));
        if let Some(replica) = &replica {
            let gate = readiness.wait_for("the database, in which nobody can be asked who writes what");
            tokio::spawn(follow_leases(Arc::clone(replica), gate, stop.clone()));
        }
        Self { store, sequencer, replica, stop, followed }
    }

    /// What this process is among those that write the log, if there are others.
    pub(crate) fn replica(&self) -> Option<&Arc<Replica>> {
        self.replica.as_ref()
    }

    /// Lets others write, if there are any. What was not written by now is refused.
    pub(crate) async fn leave(&self) {
        if let Some(replica) = &self.replica
            && !replica.has_left()
            && let Err(error) = replica.leave().await
        {
            tracing::warn!(%error, "the partitions could not be given up: others take them when the leases run out");
        }
    }

    /// Where it is kept how far the log was relayed.
    ///
    /// # Errors
    /// As [`SqliteRelayState::open`].
    pub(crate) async fn relay_state(&self) -> Result<Arc<dyn RelayState>> {
        Ok(match &self.store {
            Store::Sqlite(_, path) => Arc::new(SqliteRelayState::open(path).await?),
            Store::Postgres(log) => Arc::clone(log) as Arc<dyn RelayState>,
        })
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
        self.leave().await;
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

/// Ready for as long as it is known who writes what.
async fn follow_leases(replica: Arc<Replica>, gate: Gate, stop: CancellationToken) {
    loop {
        let is_ok = replica.check().is_ok();
        if is_ok {
            gate.open();
        } else {
            gate.close();
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = replica.checked(!is_ok) => {}
        }
    }
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
        let log = SqliteLog::open(&path, options).await.unwrap();
        let store = Store::Sqlite(Arc::new(log), path.with_extension("relay.db"));
        let log = WrittenLog::start(store, None, &readiness, ended.clone());
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
