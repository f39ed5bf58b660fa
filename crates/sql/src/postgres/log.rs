use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, PartitionCount, Position, RecordedEvent, Result, StreamId, Version};
use headwater_log::{
    Batch, Clock, CommitError, Committed, Direction, Epoch, Head, Heads, LogDescriptor, LogReader, LogStore,
    PartitionPage, ReadPartition, ReadStream, StoredEvent, StreamPage, Tail,
};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::sync::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::database::{Database, code, is_ambiguous, is_rolled_back};
use super::follower::Follower;
use super::owner::Claim;
use super::page;
use super::pool::Pool;
use super::rows::{self, Broken, Columns};
use super::schema;

/// How soon what other processes have written is looked for, and how seldom when nothing comes.
const SOONEST_LOOK: Duration = Duration::from_millis(2);
const LATEST_LOOK: Duration = Duration::from_millis(100);

/// The event log in PostgreSQL or CockroachDB.
///
/// ```text
/// commit ──one statement──▶ partition_head (epoch, head) + events            one round trip, one transaction
/// read ────one statement──▶ both, in one snapshot                            never beyond the head
/// past ────from a follower, where there is one
/// tail ── what this process has just written is read in memory, so that who follows closely asks the database nothing
/// wait ── own commits at once; those of others by looking at the heads, more seldom while nothing comes
/// ```
pub struct PostgresLog {
    pub(super) pool: Pool,
    descriptor: LogDescriptor,
    /// As far as this process has seen.
    seen: Heads,
    /// By partition: what this process has just written.
    tails: Option<Vec<Tail>>,
    looked: Mutex<Instant>,
    /// Where what is long past is read.
    follower: Option<Follower>,
    /// Instead of the database's clock.
    clock: Option<Clock>,
}

impl PostgresLog {
    /// Opens the log of the event stream `name`, making it when it is not there.
    ///
    /// # Errors
    /// `FailedPrecondition` when the schema holds another event stream's, or one with another number of partitions, and for what is
    /// missing in the database: nothing is changed then. `Corrupt` when a newer Headwater made it. `Unavailable` when the database
    /// cannot be reached.
    pub async fn open(database: &Database, name: &str, partitions: PartitionCount) -> Result<Self> {
        Self::claimed(database, name, partitions, None).await
    }

    /// The same for a resource, whose it is from then on.
    ///
    /// # Errors
    /// As [`open`](Self::open); `Invalid`, beginning with [`SCHEMA_OWNED`](super::owner::SCHEMA_OWNED), when it is another's.
    pub async fn open_for(
        claim: &Claim,
        database: &Database,
        name: &str,
        partitions: PartitionCount,
    ) -> Result<Self> {
        Self::claimed(database, name, partitions, Some(claim)).await
    }

    async fn claimed(
        database: &Database,
        name: &str,
        partitions: PartitionCount,
        claim: Option<&Claim>,
    ) -> Result<Self> {
        let pool = database.connect().await?;
        let descriptor = schema::describe(&pool, database, name, partitions, claim).await?;
        let heads = read_heads(&pool, descriptor).await?;
        Ok(Self {
            pool,
            descriptor,
            seen: Heads::new(heads),
            tails: Some(Tail::of_partitions(partitions)),
            looked: Mutex::new(Instant::now()),
            follower: None,
            clock: None,
        })
    }

    /// Reads what is more than a page behind the log's end from a follower of its database, while that can be reached and has it.
    ///
    /// Events never change, so nobody sees a difference but in the load: the end is always read from the database itself.
    pub async fn with_follower(self, database: Database) -> Self {
        let follower = Box::pin(Follower::open(database, self.descriptor, self.pool.clone())).await;
        Self { follower: Some(follower), ..self }
    }

    /// Records events by `clock` instead of the database's: for tests.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Reads everything from the database, also what this process has just written: for tests.
    #[must_use]
    pub fn without_tail(self) -> Self {
        Self { tails: None, ..self }
    }

    /// Closes the connections. What is under way is finished first.
    pub async fn close(&self) {
        self.pool.close().await;
        if let Some(follower) = &self.follower {
            follower.close().await;
        }
    }

    /// The time that rows get, if it is not the database's.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock.now().as_microsecond())
    }

    pub(super) fn partitions(&self) -> usize {
        self.descriptor.partitions.get()
    }

    /// Raises the epoch of a partition that nobody holds, or that `member` does.
    pub(super) async fn take(&self, partition: Partition, member: Option<Uuid>) -> Result<Head> {
        let number = self.check(partition)?;
        let row = self
            .pool
            .read("acquire", |mut connection| async move {
                let query = match member {
                    None => sqlx::query(include_str!("log/acquire.sql")).bind(number).bind(self.now()),
                    Some(member) => sqlx::query(include_str!("log/acquire_as.sql"))
                        .bind(number)
                        .bind(self.now())
                        .bind(member.to_string()),
                };
                query.fetch_optional(&mut *connection).await
            })
            .await
            .map_err(|error| self.pool.explain("taking over a partition of", &error))?;
        let Some(row) = row else {
            return Err(Error::unavailable(format!(
                "nothing was stored: another event store writes partition {partition} of {} now",
                self.pool.place
            )));
        };
        let head = head(&row, 0).map_err(|error| self.broken(&format!("partition {partition}"), error))?;
        // A database that was set back holds other events now.
        if let Some(tail) = self.tail(partition) {
            tail.clear();
        }
        self.seen.raise(partition, head);
        Ok(head)
    }

    pub(super) fn check(&self, partition: Partition) -> Result<i64> {
        self.descriptor.partitions.check(u32::from(partition.get())).map(|_| partition.get().into())
    }

    pub(super) fn broken(&self, what: &str, error: impl std::fmt::Display) -> Error {
        self.pool.broken(what, error)
    }

    fn tail(&self, partition: Partition) -> Option<&Tail> {
        self.tails.as_ref().map(|tails| &tails[partition.index()])
    }

    /// Looks at all heads, unless somebody just has.
    async fn look(&self, fresh: Duration) -> Result<()> {
        let mut looked = self.looked.lock().await;
        if looked.elapsed() < fresh {
            return Ok(());
        }
        for (partition, head) in self.descriptor.partitions.partitions().zip(self.heads().await?) {
            self.seen.raise(partition, head);
        }
        *looked = Instant::now();
        Ok(())
    }

    async fn try_commit(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
        columns: &Columns<'_>,
    ) -> sqlx::Result<Option<(i64, i64)>> {
        let row = sqlx::query(include_str!("log/commit.sql"))
            .bind(i64::from(batch.partition.get()))
            .bind(batch.epoch.0 as i64)
            .bind(batch.head.get() as i64)
            .bind(batch.events.len() as i64)
            .bind(self.now())
            .bind(&columns.ids)
            .bind(&columns.stream_ids)
            .bind(&columns.versions)
            .bind(&columns.types)
            .bind(&columns.schema_versions)
            .bind(&columns.content_types)
            .bind(&columns.sizes)
            .bind(&columns.digests)
            .bind(&columns.metadata)
            .bind(&columns.data)
            .fetch_optional(connection)
            .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    fn commit_failed(&self, batch: &Batch, error: &sqlx::Error) -> CommitError {
        if code(error).as_deref() == Some("23505") {
            let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
            if constraint.is_some_and(|name| name.ends_with("_pkey")) {
                let what = format!("partition {} has events beyond its head {}", batch.partition, batch.head);
                return CommitError::Failed(self.broken(&what, error));
            }
            return CommitError::Duplicate;
        }
        let explained = self.pool.explain("writing events to", error);
        if is_rolled_back(error) || !is_ambiguous(error) {
            return CommitError::Failed(explained);
        }
        CommitError::Unknown(explained)
    }
}

pub(super) async fn read_heads(pool: &Pool, descriptor: LogDescriptor) -> Result<Vec<Head>> {
    let rows = pool
        .read("heads", |mut connection| async move {
            sqlx::query(include_str!("log/heads.sql")).fetch_all(&mut *connection).await
        })
        .await
        .map_err(|error| pool.explain("reading", &error))?;
    let heads: Vec<Head> = rows
        .iter()
        .map(|row| head(row, 1))
        .collect::<Result<_, Broken>>()
        .map_err(|error| Error::corrupt(format!("{} is damaged: its heads: {error}", pool.place)))?;
    if heads.len() != descriptor.partitions.get() {
        return Err(Error::corrupt(format!(
            "{} is damaged: {} heads for {} partitions; restore it from a backup",
            pool.place,
            heads.len(),
            descriptor.partitions.get()
        )));
    }
    Ok(heads)
}

/// Epoch, head and time, from the column `first` on.
fn head(row: &PgRow, first: usize) -> Result<Head, Broken> {
    Ok(Head {
        epoch: Epoch(row.try_get::<i64, _>(first)? as u64),
        position: Position::new(row.try_get::<i64, _>(first + 1)? as u64),
        last_recorded_at: row.try_get::<Option<i64>, _>(first + 2)?.map(rows::time).transpose()?,
    })
}

#[async_trait]
impl LogReader for PostgresLog {
    fn descriptor(&self) -> LogDescriptor {
        self.descriptor
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        // Events never change, so what is at or below a version that was seen stays as it is: no snapshot is needed.
        let request = &request;
        let versions =
            self.stream_versions(Partition::ZERO, std::slice::from_ref(&request.stream_id)).await?;
        let version = versions.first().copied().unwrap_or_default();
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
        let rows = self
            .pool
            .read("read a stream", |mut connection| async move {
                sqlx::query(sql)
                    .bind(request.stream_id.as_str())
                    .bind(from.min(Version::MAX).get() as i64)
                    .bind(to.get() as i64)
                    .bind(i64::try_from(request.limit).unwrap_or(i64::MAX))
                    .bind(i64::try_from(request.max_bytes.max(1)).unwrap_or(i64::MAX))
                    .fetch_all(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("reading", &error))?;
        let events = rows
            .iter()
            .map(|row| {
                let partition = Partition::new(u16::try_from(row.try_get::<i64, _>("partition")?)?);
                rows::event(row, partition, Position::new(row.try_get::<i64, _>("position")? as u64))
            })
            .collect::<Result<Vec<RecordedEvent>, Broken>>()
            .map_err(|error| self.broken(&format!("stream id \"{}\"", request.stream_id), error))?;
        Ok(StreamPage { events, version })
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.check(request.partition)?;
        let seen = self.seen.get(request.partition).position;
        if let Some(page) = self.tail(request.partition).and_then(|tail| tail.page(&request, seen)) {
            // Nothing here waits: whoever asks again and again still lets others run.
            tokio::task::consume_budget().await;
            return Ok(page);
        }
        if let Some(follower) = &self.follower
            && seen > request.after.plus(request.limit as u64)
            && let Some(page) = follower.page(&request).await
        {
            return Ok(page);
        }
        page::read(&self.pool, &request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        read_heads(&self.pool, self.descriptor).await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        let number = self.check(partition)?;
        let head = self.heads().await?[partition.index()].position;
        // Times have microseconds: an event is before `time` if it is before the next whole one.
        let cut =
            time.as_nanosecond().div_euclid(1_000) + i128::from(time.as_nanosecond().rem_euclid(1_000) > 0);
        // `recorded_at` never decreases with the position, so a binary search finds the cut without an index.
        let (mut before, mut after) = (0, head.get() + 1);
        while after - before > 1 {
            let middle = before + (after - before) / 2;
            let recorded_at: i64 = self
                .pool
                .read("find a time", |mut connection| async move {
                    sqlx::query_scalar(include_str!("log/recorded_at.sql"))
                        .bind(number)
                        .bind(middle as i64)
                        .fetch_one(&mut *connection)
                        .await
                })
                .await
                .map_err(|error| match error {
                    sqlx::Error::RowNotFound => {
                        self.broken(&format!("partition {partition}"), format!("it has no event at {middle}"))
                    }
                    error => self.pool.explain("reading", &error),
                })?;
            if i128::from(recorded_at) < cut {
                before = middle;
            } else {
                after = middle;
            }
        }
        Ok(Position::new(before))
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.check(partition)?;
        let mut pause = SOONEST_LOOK;
        loop {
            tokio::select! {
                reached = self.seen.wait_beyond(partition, position) => return Ok(reached),
                // Both at once: who has written here is not kept waiting by a look at what others have.
                looked = async {
                    tokio::time::sleep(pause).await;
                    self.look(pause).await
                } => looked?,
            }
            pause = LATEST_LOOK.min(pause * 2);
        }
    }
}

#[async_trait]
impl LogStore for PostgresLog {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        self.take(partition, None).await
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        let batch = &*batch;
        let columns = &Columns::of(batch);
        let committed = self
            .pool
            .retry("commit", |mut connection| async move {
                self.try_commit(&mut connection, batch, columns).await
            })
            .await
            .map_err(|error| self.commit_failed(batch, &error))?;
        let Some((recorded_at, inserted)) = committed else { return Err(CommitError::Fenced) };
        if inserted != batch.events.len() as i64 {
            let what = format!("{inserted} of {} events were stored; please report this", batch.events.len());
            return Err(CommitError::Unknown(Error::internal(what)));
        }
        let recorded_at = rows::time(recorded_at)
            .map_err(|error| CommitError::Unknown(self.broken("the time of a commit", error)))?;
        let position = batch.head.plus(batch.events.len() as u64);
        let head = Head { position, epoch: batch.epoch, last_recorded_at: Some(recorded_at) };
        // Before it is told how far the log is: who is woken by that finds the events.
        if let Some(tail) = self.tail(batch.partition) {
            tail.push(batch.recorded(recorded_at));
        }
        self.seen.raise(batch.partition, head);
        Ok(Committed { head: position, recorded_at })
    }

    fn takes_batches_behind(&self) -> bool {
        true
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.check(partition)?;
        let ids: &Vec<&str> = &stream_ids.iter().map(StreamId::as_str).collect();
        let versions: Vec<i64> = self
            .pool
            .read("versions", |mut connection| async move {
                sqlx::query_scalar(include_str!("log/stream_versions.sql"))
                    .bind(ids)
                    .fetch_all(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| self.pool.explain("reading", &error))?;
        Ok(versions.into_iter().map(|version| Version::new(version as u64)).collect())
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        let rows = self
            .pool
            .read("find", |mut connection| async move {
                sqlx::query(include_str!("log/find.sql")).bind(ids).fetch_all(&mut *connection).await
            })
            .await
            .map_err(|error| self.pool.explain("reading", &error))?;
        rows.iter()
            .map(rows::stored)
            .collect::<Result<_, Broken>>()
            .map_err(|error| self.broken("an event", error))
    }
}

impl std::fmt::Debug for PostgresLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresLog").field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}
