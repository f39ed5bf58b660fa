//! A projection's read model in one SQLite file.
//!
//! ```text
//! worker ──apply──▶ writer (one connection, one transaction a batch) ──▶ r3_orders, hw_checkpoints, …
//! query ──────────▶ readers (a snapshot each, beside the writer)     ──▶ r3_orders
//! a person ───────▶ sqlite3 FILE 'select * from orders'              ──▶ view orders = r3_orders, while revision 3 is active
//! ```
//!
//! Folded batches commit without waiting for the disk: rows and checkpoint are one transaction, so power loss takes both back and the worker
//! folds again. What people decide waits for the disk.
//!
//! Decimals are text, ordered by a collation of our own: other programs read all tables, but `VACUUM` and integrity checks of a file with an
//! index over a decimal need a connection that knows the collation.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use async_trait::async_trait;
use headwater_core::{Error, Partition, Result, StreamId};
use headwater_view::{
    Answer, ApplyError, Batch, Change, ChangeError, Durability, Holdings, Load, LoadedRow, LocalLeases, Look,
    ParkedStream, PartitionState, Progress, Query, QueryError, Revision, Rollout, RolloutVersion, SinkLeases,
    ViewAdmin, ViewReader, ViewSink, Written,
};
use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::connection::{self, Format, Synchronous};

mod batch;
mod cells;
mod parked;
mod query;
mod rollout;
mod table;

use table::TableSql;

/// "HWvw".
const FORMAT: Format = Format {
    application_id: 0x4857_7677,
    what: "a read model",
    migrations: &[include_str!("sqlite_view/v1.sql"), include_str!("sqlite_view/v2.sql")],
};

/// Snapshots that are read at once; more wait.
const READERS: usize = 4;

/// Pages of the write-ahead log after which it is written back: fewer, longer write-backs than SQLite's default of 1,000, as a fold
/// writes the same pages again and again.
const CHECKPOINT_PAGES: i64 = 8_000;

/// KiB that the writer keeps of the file's pages in memory.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// A [`ViewStore`](headwater_view::ViewStore) in one SQLite file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteView(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Whether the files go with the store.
    is_temporary: bool,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    reading: Semaphore,
    /// The statements of each revision's tables, made when first needed.
    tables: RwLock<Vec<(Revision, Arc<[TableSql]>)>>,
    /// Not in the file: no other process has it, and what a process holds ends with it.
    leases: LocalLeases,
}

impl SqliteView {
    /// Opens the file, and makes it if it is not there. Blocks while it does.
    ///
    /// # Errors
    /// `Corrupt` when the file is something else, damaged, or written by a newer version; `Unavailable` when it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::make(path.as_ref().to_owned(), false)
    }

    /// A store in a file of its own in `directory`, which goes when the last handle is dropped. Blocks while it is made.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn temporary(directory: impl AsRef<Path>) -> Result<Self> {
        Self::make(directory.as_ref().join(format!("scratch-{}.sqlite", Uuid::new_v4())), true)
    }

    fn make(path: PathBuf, is_temporary: bool) -> Result<Self> {
        let writer = connection::open(&path, Synchronous::Normal, FORMAT)?;
        let settings = || {
            table::prepare(&writer)?;
            writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
            writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)
        };
        settings().map_err(|error| connection::explain("opening", &path, error))?;
        Ok(Self(Arc::new(Inner {
            path,
            is_temporary,
            writer: Mutex::new(writer),
            readers: Mutex::default(),
            reading: Semaphore::new(READERS),
            tables: RwLock::default(),
            leases: LocalLeases::default(),
        })))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Runs `work` in a transaction of the writer and commits it when it answers `Ok`.
    async fn write<T, E>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Inner, &Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let inner = self.0.clone();
        blocking(move || {
            let mut writer = lock(&inner.writer);
            let explain = |error| E::from(connection::explain("writing", &inner.path, error));
            if durability == Durability::Durable {
                Synchronous::Full.set(&writer).map_err(explain)?;
            }
            let result = (|| {
                let transaction =
                    writer.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
                let value = work(&inner, &transaction)?;
                transaction.commit().map_err(explain)?;
                Ok(value)
            })();
            if durability == Durability::Durable {
                Synchronous::Normal.set(&writer).map_err(explain)?;
            }
            result
        })
        .await
    }

    /// Runs `work` in a snapshot.
    async fn read<T, E>(
        &self,
        work: impl FnOnce(&Inner, &Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let inner = self.0.clone();
        let _permit = inner.reading.acquire().await.map_err(|_| Error::Cancelled)?;
        let inner = self.0.clone();
        blocking(move || {
            let reader = lock(&inner.readers).pop();
            let mut reader = match reader {
                Some(reader) => reader,
                None => inner.new_reader()?,
            };
            let result = (|| {
                let transaction = reader
                    .transaction_with_behavior(TransactionBehavior::Deferred)
                    .map_err(|error| connection::explain("reading", &inner.path, error))?;
                work(&inner, &transaction)
            })();
            lock(&inner.readers).push(reader);
            result
        })
        .await
    }
}

impl Inner {
    fn new_reader(&self) -> Result<Connection> {
        let reader = connection::open_reader(&self.path)?;
        table::prepare(&reader).map_err(|error| self.explain("opening", error))?;
        Ok(reader)
    }

    fn explain(&self, doing: &str, error: rusqlite::Error) -> Error {
        connection::explain(doing, &self.path, error)
    }

    /// The statements of the revision's tables. `None`: there is no such revision in the transaction's snapshot.
    fn tables(&self, connection: &Connection, revision: Revision) -> Result<Option<Arc<[TableSql]>>> {
        if !rollout::exists(connection, revision).map_err(|error| self.explain("reading", error))? {
            return Ok(None);
        }
        let known = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tables)) = known.iter().find(|(known, _)| *known == revision) {
            return Ok(Some(tables.clone()));
        }
        drop(known);
        let schemas = rollout::schemas(self, connection, revision)?;
        let tables: Arc<[TableSql]> =
            schemas.into_iter().map(|schema| TableSql::new(revision, schema)).collect();
        let mut known = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| *known != revision);
        known.push((revision, tables.clone()));
        Ok(Some(tables))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.is_temporary {
            return;
        }
        for suffix in ["", "-wal", "-shm"] {
            let mut file = self.path.clone().into_os_string();
            file.push(suffix);
            if let Err(error) = std::fs::remove_file(&file)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(file = %file.display(), %error, "a temporary read model could not be removed");
            }
        }
    }
}

/// Runs what blocks on a thread for it.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            Err(Error::internal(format!("a SQLite operation panicked: {error}")).into())
        }
        Err(_) => Err(Error::Cancelled.into()),
    }
}

/// A panic within a transaction rolled it back, so the connection is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ViewSink for SqliteView {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        self.read(move |inner, snapshot| batch::partition(inner, snapshot, revision, partition)).await
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        let load = load.clone();
        self.read(move |inner, snapshot| batch::load(inner, snapshot, &load)).await
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        self.write(batch.durability, move |inner, transaction| batch::apply(inner, transaction, &batch)).await
    }
}

#[async_trait]
impl ViewReader for SqliteView {
    async fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        let query = query.clone();
        self.read(move |inner, snapshot| query::answer(inner, snapshot, &query)).await
    }
}

#[async_trait]
impl ViewAdmin for SqliteView {
    async fn rollout(&self) -> Result<Rollout> {
        self.read(rollout::load).await
    }

    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError> {
        let change = change.clone();
        self.write(Durability::Durable, move |inner, transaction| {
            rollout::change(inner, transaction, version, &change)
        })
        .await
    }

    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        self.read(move |inner, snapshot| batch::progress(inner, snapshot, revision)).await
    }

    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>> {
        let after = after.cloned();
        self.read(move |inner, snapshot| {
            parked::parked(inner, snapshot, revision, after.as_ref(), limit, events)
        })
        .await
    }

    async fn parked_stream(
        &self,
        revision: Revision,
        stream_id: &StreamId,
        events: usize,
    ) -> Result<Option<ParkedStream>> {
        let stream_id = stream_id.clone();
        self.read(move |inner, snapshot| parked::parked_stream(inner, snapshot, revision, &stream_id, events))
            .await
    }
}

#[async_trait]
impl SinkLeases for SqliteView {
    async fn look(&self, look: &Look) -> Result<Holdings> {
        self.0.leases.look(look).await
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        self.0.leases.leave(member).await
    }
}
