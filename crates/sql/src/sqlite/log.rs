use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use headwater_core::{
    Error, LogId, Partition, PartitionCount, Position, RecordedEvent, Result, StreamId, Version,
};
use headwater_log::{
    Batch, Clock, CommitError, Committed, Direction, Epoch, Filter, Head, Heads, LogDescriptor, LogReader,
    LogStore, PartitionPage, ReadPartition, ReadStream, StoredEvent, StreamPage,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::lock::DataLock;
use super::readers::{ReadError, Readers};
use super::rows::{self, Decoder, FORMAT, MAX_POSITION, place};
use super::writer::{Command, Writer};
use crate::connection::{self, Synchronous, damaged, explain};

/// Page cache of the writing connection. Index pages of the last few thousand streams fit.
const WRITER_CACHE_KIB: u32 = 8 << 10;
/// Pages of write-ahead log after which a commit also writes them back into the file: some 32 MiB. Larger means fewer
/// pages written twice; smaller means shorter pauses and a smaller file beside the data.
const CHECKPOINT_PAGES: u32 = 8_000;
/// Page cache of each reading connection: the operating system caches the file anyway.
const READER_CACHE_KIB: u32 = 1 << 10;
/// Page cache of the sequencer's look-ups: the upper pages of the indexes over ids and stream ids.
const LOOK_UP_CACHE_KIB: u32 = 2 << 10;
/// Reading connections of clients' pages at most.
const READERS: usize = 4;
/// Connections for the sequencer's look-ups alone, so that an append never waits for pages that clients read. They take microseconds.
const LOOK_UPS: usize = 1;
/// Commands that wait for the writer; each partition has at most one.
const QUEUE: usize = 64;
/// Rows that a page with a filter looks at, at most: some milliseconds.
const LOOK_AT: u64 = 10_000;

/// Which log a file is to hold.
#[derive(Debug, Clone)]
pub struct OpenLog {
    /// The event stream's name. A file keeps the name that it was made with.
    pub name: String,
    /// The event stream's partitions. A file keeps the number that it was made with.
    pub partitions: PartitionCount,
    /// Tells `recorded_at`.
    pub clock: Clock,
    /// Largest size that the file may grow to, in pages of 4 KiB; `None`: what the disk holds.
    pub max_pages: Option<u32>,
}

impl OpenLog {
    /// The log of the event stream `name`, by the system's clock, as large as the disk allows.
    pub fn new(name: impl Into<String>, partitions: PartitionCount) -> Self {
        Self { name: name.into(), partitions, clock: Clock::system(), max_pages: None }
    }
}

/// The event log in a SQLite file: durable (WAL, `synchronous = FULL`), for one process.
pub struct SqliteLog {
    descriptor: LogDescriptor,
    heads: Arc<Heads>,
    readers: Readers,
    look_ups: Readers,
    /// `None` once closed.
    writer: Mutex<Option<mpsc::Sender<Command>>>,
    closed: watch::Receiver<bool>,
}

impl SqliteLog {
    /// Opens the log in the file at `path`, making it when it is not there; its directory must be.
    ///
    /// # Errors
    /// `FailedPrecondition` when another process uses it, or it is another event stream's or has another number of
    /// partitions: nothing is changed then. `Corrupt` when it is no log, damaged, or a newer Headwater's. `Unavailable` when it cannot
    /// be read or written.
    pub async fn open(path: impl Into<PathBuf>, options: OpenLog) -> Result<Self> {
        let path = path.into();
        tokio::task::spawn_blocking(move || Self::open_now(&path, options)).await.unwrap_or_else(|cause| {
            Err(Error::internal(format!("opening a log: {cause}; please report this")))
        })
    }

    fn open_now(path: &Path, options: OpenLog) -> Result<Self> {
        let lock = DataLock::acquire(path)?;
        let connection = connection::open(path, Synchronous::Full, FORMAT)?;
        let failed = |cause: rusqlite::Error| explain("opening", path, cause);
        let descriptor = describe(&connection, path, &options)?;
        connection
            .pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))
            .and_then(|()| connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES))
            .map_err(failed)?;
        let heads = load_heads(&connection, path)?;
        if heads.len() != descriptor.partitions.get() {
            let what = format!("{} heads for {} partitions", heads.len(), descriptor.partitions.get());
            return Err(damaged(path, &what));
        }
        if let Some(pages) = options.max_pages {
            connection.execute_batch(&format!("PRAGMA max_page_count = {pages}")).map_err(failed)?;
        }
        let heads = Arc::new(Heads::new(heads));
        let (sender, inbox) = mpsc::channel(QUEUE);
        let (ended, closed) = watch::channel(false);
        let writer = Writer {
            path: path.to_owned(),
            connection,
            clock: options.clock,
            heads: Arc::clone(&heads),
            inbox,
            wal_limit: Writer::WAL_LIMIT,
            _lock: lock,
        };
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || {
                writer.run();
                ended.send_replace(true);
            })
            .map_err(|cause| Error::exhausted(format!("starting the writer's thread: {cause}")))?;
        let readers = Readers::new(path, READERS, READER_CACHE_KIB);
        let look_ups = Readers::new(path, LOOK_UPS, LOOK_UP_CACHE_KIB);
        Ok(Self { descriptor, heads, readers, look_ups, writer: Mutex::new(Some(sender)), closed })
    }

    /// Writes what is queued, refuses everything else as `Cancelled`, closes the file and releases it for others.
    /// Dropping does the same without waiting for it.
    pub async fn close(&self) {
        self.readers.close();
        self.look_ups.close();
        drop(self.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        // An error means that the thread is gone, and with it the file.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Whether the thread that writes is there, for a process's readiness to follow.
    ///
    /// # Errors
    /// `Cancelled` after [`close`](Self::close). `Internal` when the thread has ended by itself, by a panic: nothing is written
    /// any more, and the process has to be started again.
    pub fn check_writer(&self) -> Result<()> {
        match &*self.writer.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Err(Error::Cancelled),
            Some(writer) if writer.is_closed() => Err(self.writer_ended()),
            Some(_) => Ok(()),
        }
    }

    /// Waits until nothing can be written any more, and says as [`check_writer`](Self::check_writer) why.
    ///
    /// # Errors
    /// Always.
    pub async fn ended(&self) -> Result<()> {
        // An error means that the thread has panicked.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
        self.check_writer()
    }

    async fn command<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Unanswered> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let writer = writer.ok_or(Unanswered::Refused(Error::Cancelled))?;
        let (answer, answered) = oneshot::channel();
        // While there is a sender, only a panic ends the thread.
        writer.send(command(answer)).await.map_err(|_| Unanswered::Refused(self.writer_ended()))?;
        answered.await.map_err(|_| Unanswered::Dropped(self.writer_ended()))
    }

    fn writer_ended(&self) -> Error {
        Error::internal(format!(
            "the thread that writes log {} has ended by itself; start the process again, and report this with its log",
            self.descriptor.log_id
        ))
    }

    fn check(&self, partition: Partition) -> Result<()> {
        self.descriptor.partitions.check(u32::from(partition.get())).map(|_| ())
    }
}

/// Why a command has no answer.
enum Unanswered {
    /// It was not taken.
    Refused(Error),
    /// It was taken; what became of it is unknown.
    Dropped(Error),
}

/// The log that the file holds, which must be the one that is asked for; makes it when the file is new.
fn describe(connection: &Connection, path: &Path, options: &OpenLog) -> Result<LogDescriptor> {
    let failed = |cause: rusqlite::Error| explain("opening", path, cause);
    let found: Option<(Uuid, String, u32)> = connection
        .query_row("SELECT log_id, name, partitions FROM log", [], |row| {
            let log_id = Uuid::from_slice(row.get_ref(0)?.as_blob()?)
                .map_err(|cause| rusqlite::Error::ToSqlConversionFailure(Box::new(cause)))?;
            Ok((log_id, row.get(1)?, row.get(2)?))
        })
        .optional()
        .map_err(failed)?;
    let Some((log_id, name, partitions)) = found else {
        return create(connection, options).map_err(failed);
    };
    if name != options.name {
        return Err(Error::failed_precondition(format!(
            "{} holds the events of event stream \"{name}\", and not of \"{}\"; nothing was changed: give another path, or the old name",
            path.display(),
            options.name
        )));
    }
    if partitions as usize != options.partitions.get() {
        return Err(Error::failed_precondition(format!(
            "{} was made with {partitions} partitions, and {} are asked for; a log keeps its number, and nothing was changed: say {partitions} again, or start a new log elsewhere",
            path.display(),
            options.partitions.get()
        )));
    }
    Ok(LogDescriptor { log_id: LogId::from_uuid(log_id), partitions: options.partitions })
}

fn create(connection: &Connection, options: &OpenLog) -> rusqlite::Result<LogDescriptor> {
    let log_id = LogId::generate();
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(
        "INSERT INTO log (singleton, log_id, name, partitions, created_at) VALUES (1, ?1, ?2, ?3, ?4)",
        params![
            log_id.as_uuid().as_bytes().as_slice(),
            options.name,
            options.partitions.get() as i64,
            options.clock.now().as_microsecond()
        ],
    )?;
    for partition in options.partitions.partitions() {
        transaction.execute(
            "INSERT INTO partition_head (partition, epoch, head) VALUES (?1, 0, 0)",
            [partition.get()],
        )?;
    }
    transaction.commit()?;
    Ok(LogDescriptor { log_id, partitions: options.partitions })
}

/// The heads, each of which must be where the events end.
fn load_heads(connection: &Connection, path: &Path) -> Result<Vec<Head>> {
    let failed = |cause: rusqlite::Error| explain("opening", path, cause);
    let mut statement = connection.prepare(include_str!("log/heads.sql")).map_err(failed)?;
    let rows = statement.query_map([], |row| {
        let head = Head {
            epoch: Epoch(row.get::<_, i64>(1)? as u64),
            position: Position::new(row.get::<_, i64>(2)? as u64),
            last_recorded_at: row.get::<_, Option<i64>>(3)?.map(rows::time).transpose()?,
        };
        Ok((row.get::<_, u16>(0)?, head, row.get::<_, i64>(4)? as u64))
    });
    let mut heads = Vec::new();
    for row in rows.map_err(failed)? {
        let (partition, head, last) = row.map_err(failed)?;
        if head.position.get() != last {
            let what = format!(
                "the head of partition {partition} is {}, but its last event is at {last}",
                head.position
            );
            return Err(damaged(path, &what));
        }
        heads.push(head);
    }
    Ok(heads)
}

#[async_trait]
impl LogReader for SqliteLog {
    fn descriptor(&self) -> LogDescriptor {
        self.descriptor
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.readers
            .run("reading a stream", move |connection, path| read_stream(connection, path, &request))
            .await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.check(request.partition)?;
        let head = self.heads.get(request.partition).position;
        let end = request.up_to.map_or(head, |up_to| up_to.min(head));
        if request.after >= end || request.limit == 0 {
            // Answered without waiting for anything: whoever asks again and again still lets others run.
            tokio::task::consume_budget().await;
            return Ok(PartitionPage { events: Vec::new(), reached: request.after, head });
        }
        self.readers
            .run("reading a partition", move |connection, path| {
                read_partition(connection, path, &request, head, end)
            })
            .await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        tokio::task::consume_budget().await;
        Ok(self.heads.all())
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.check(partition)?;
        let head = self.heads.get(partition).position;
        self.readers
            .run("finding a time", move |connection, _| position_before(connection, partition, head, time))
            .await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.check(partition)?;
        Ok(self.heads.wait_beyond(partition, position).await)
    }
}

#[async_trait]
impl LogStore for SqliteLog {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        self.check(partition)?;
        match self.command(|answer| Command::Acquire(partition, answer)).await {
            Ok(head) => head,
            // Whether an epoch was raised that nobody has seen makes no difference.
            Err(Unanswered::Refused(error) | Unanswered::Dropped(error)) => Err(error),
        }
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        self.check(batch.partition).map_err(CommitError::Failed)?;
        match self.command(|answer| Command::Commit(batch, answer)).await {
            Ok(committed) => committed,
            Err(Unanswered::Refused(error)) => Err(CommitError::Failed(error)),
            Err(Unanswered::Dropped(error)) => Err(CommitError::Unknown(error)),
        }
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.check(partition)?;
        let stream_ids = stream_ids.to_vec();
        self.look_ups
            .run("reading versions", move |connection, _| {
                let version = |stream_id| stream_version(connection, stream_id);
                Ok(stream_ids.iter().map(version).collect::<rusqlite::Result<_>>()?)
            })
            .await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        let ids = ids.to_vec();
        self.look_ups
            .run("looking up event ids", move |connection, path| {
                let mut find = connection.prepare_cached(include_str!("log/find.sql"))?;
                let mut found = Vec::new();
                for id in ids {
                    let mut rows = find.query([id.as_bytes().as_slice()])?;
                    if let Some(row) = rows.next()? {
                        found.push(rows::stored(id, row, path)?);
                    }
                }
                Ok(found)
            })
            .await
    }
}

fn stream_version(connection: &Connection, stream_id: &StreamId) -> rusqlite::Result<Version> {
    let mut statement = connection.prepare_cached(include_str!("log/stream_version.sql"))?;
    statement
        .query_row([stream_id.as_str()], |row| row.get::<_, i64>(0))
        .map(|version| Version::new(version as u64))
}

/// Events never change, so what is at or below a version that was seen stays as it is: no snapshot is needed.
fn read_stream(connection: &Connection, path: &Path, request: &ReadStream) -> Result<StreamPage, ReadError> {
    let version = stream_version(connection, &request.stream_id)?;
    let (sql, from, to) = match request.direction {
        Direction::Forwards => {
            (include_str!("log/stream_forwards.sql"), request.from.unwrap_or_default(), version)
        }
        Direction::Backwards => (
            include_str!("log/stream_backwards.sql"),
            Version::ZERO,
            request.from.map_or(version, |from| from.min(version)),
        ),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
    let from = from.min(Version::MAX);
    let mut rows =
        statement.query(params![request.stream_id.as_str(), from.get() as i64, to.get() as i64, limit])?;
    let mut decoder = Decoder::new(path);
    let mut events: Vec<RecordedEvent> = Vec::new();
    let mut bytes = 0;
    while (bytes < request.max_bytes || events.is_empty())
        && let Some(row) = rows.next()?
    {
        let (_, event) = decoder.event(row, &Filter::default())?;
        bytes += event.as_ref().map_or(0, size);
        events.extend(event);
    }
    Ok(StreamPage { events, version })
}

/// What an event counts for against a limit of bytes.
fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.as_bytes().len()
}

fn read_partition(
    connection: &Connection,
    path: &Path,
    request: &ReadPartition,
    head: Position,
    end: Position,
) -> Result<PartitionPage, ReadError> {
    let ReadPartition { partition, after, filter, limit, max_bytes, .. } = request;
    let look_at = if filter.is_empty() { *limit as u64 } else { LOOK_AT };
    let end = end.min(Position::new(after.get().saturating_add(look_at)));
    let mut statement = connection.prepare_cached(include_str!("log/page.sql"))?;
    let mut rows = statement.query(params![place(*partition, *after), place(*partition, end)])?;
    let mut decoder = Decoder::new(path);
    let mut page = PartitionPage { events: Vec::with_capacity((*limit).min(1_024)), reached: *after, head };
    let mut bytes = 0;
    while page.reached < end && page.events.len() < *limit && (bytes < *max_bytes || page.events.is_empty()) {
        let row = rows.next()?;
        let found = row.map(|row| decoder.event(row, filter)).transpose()?;
        let expected = page.reached.next();
        let Some((position, event)) = found.filter(|(position, _)| *position == expected) else {
            let what =
                format!("partition {partition} has no event at position {expected}, below its head {head}");
            return Err(damaged(path, &what).into());
        };
        page.reached = position;
        if let Some(event) = event {
            bytes += size(&event);
            page.events.push(event);
        }
    }
    Ok(page)
}

/// `recorded_at` never decreases with the position, so a binary search finds the cut without an index.
fn position_before(
    connection: &Connection,
    partition: Partition,
    head: Position,
    time: Timestamp,
) -> Result<Position, ReadError> {
    let mut statement = connection.prepare_cached("SELECT recorded_at FROM events WHERE place = ?1")?;
    // Times have microseconds: an event is before `time` if it is before the next whole one.
    let cut = time.as_nanosecond().div_euclid(1_000) + i128::from(time.as_nanosecond().rem_euclid(1_000) > 0);
    let (mut before, mut after) = (0, head.get().min(MAX_POSITION) + 1);
    while after - before > 1 {
        let middle = before + (after - before) / 2;
        let recorded_at: i64 =
            statement.query_row([place(partition, Position::new(middle))], |row| row.get(0))?;
        if i128::from(recorded_at) < cut {
            before = middle;
        } else {
            after = middle;
        }
    }
    Ok(Position::new(before))
}

impl std::fmt::Debug for SqliteLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteLog").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}
