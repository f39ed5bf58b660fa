//! The one thread that writes: everything that has queued goes into one transaction, so that partitions share the sync.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Error, Partition, Position, Result};
use headwater_log::{Batch, Clock, CommitError, Committed, Epoch, Head, Heads};
use rusqlite::{Connection, OptionalExtension, ffi, params};
use tokio::sync::{mpsc, oneshot};

use super::lock::DataLock;
use super::rows::{self, MAX_POSITION, place, time};
use crate::connection::{BUSY_TIMEOUT, damaged, explain};

/// Events of one transaction: the last batch to join may go over. More would let the first wait for the last.
const GROUP_EVENTS: usize = 4_000;

/// Size of the write-ahead log above which readers are waited for, so that it can be emptied: twice what a checkpoint
/// leaves to it, so that this is needed only when reads overlap without end.
const WAL_BYTES: u64 = 64 << 20;

/// How long appends wait for readers to leave the write-ahead log. Our own reads take milliseconds.
const WAL_PATIENCE: Duration = Duration::from_millis(200);

pub(super) enum Command {
    Commit(Arc<Batch>, oneshot::Sender<Result<Committed, CommitError>>),
    Acquire(Partition, oneshot::Sender<Result<Head>>),
}

impl Command {
    fn events(&self) -> usize {
        match self {
            Self::Commit(batch, _) => batch.events.len(),
            Self::Acquire(..) => 1,
        }
    }
}

pub(super) struct Writer {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) clock: Clock,
    pub(super) heads: Arc<Heads>,
    pub(super) inbox: mpsc::Receiver<Command>,
    pub(super) wal_limit: u64,
    /// Held until the connection is closed.
    pub(super) _lock: DataLock,
}

/// What one command did within the transaction: the partition's new head.
type Effect = Result<(Partition, Head), CommitError>;

impl Writer {
    pub(super) const WAL_LIMIT: u64 = WAL_BYTES;

    /// Writes until the queue is closed and empty; then closes the file.
    pub(super) fn run(mut self) {
        while let Some(first) = self.inbox.blocking_recv() {
            let mut events = first.events();
            let mut group = vec![first];
            while events < GROUP_EVENTS {
                let Ok(next) = self.inbox.try_recv() else { break };
                events += next.events();
                group.push(next);
            }
            self.write(group);
            self.bound_wal();
        }
    }

    /// One transaction for the group; when that fails as a whole, one for each, so that none suffers for another.
    fn write(&mut self, mut group: Vec<Command>) {
        match self.transact(&group) {
            Ok(effects) => {
                for (partition, head) in effects.iter().flatten() {
                    self.heads.publish(*partition, *head);
                }
                for (command, effect) in group.into_iter().zip(effects) {
                    answer(command, effect);
                }
            }
            Err(failure) => {
                if group.len() == 1 {
                    answer(group.remove(0), Err(failure));
                } else {
                    for command in group {
                        self.write(vec![command]);
                    }
                }
            }
        }
    }

    /// The outer error: nothing of the group was stored, or, for `Unknown`, perhaps everything.
    fn transact(&self, group: &[Command]) -> Result<Vec<Effect>, CommitError> {
        let failed =
            |cause: rusqlite::Error| CommitError::Failed(explain("writing events", &self.path, cause));
        self.connection
            .prepare_cached("BEGIN IMMEDIATE")
            .and_then(|mut begin| begin.execute([]))
            .map_err(failed)?;
        let result = self.apply_all(group).map_err(failed).and_then(|effects| {
            // What failed alone, or what all failed, is rolled back as a whole.
            if effects.iter().all(Result::is_err) {
                return Ok(effects);
            }
            let commit = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
            commit.map(|_| effects).map_err(|cause| self.commit_failed(cause))
        });
        if !self.connection.is_autocommit() {
            // Should this fail too, the next BEGIN says so.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        result
    }

    /// A full disk is noticed before anything counts; after a failed sync nobody knows what a power loss would leave.
    fn commit_failed(&self, cause: rusqlite::Error) -> CommitError {
        let error = explain("committing events", &self.path, cause);
        match error {
            Error::Unavailable { .. } => CommitError::Unknown(error),
            _ => CommitError::Failed(error),
        }
    }

    /// Alone, a command has the transaction for itself; only neighbours need savepoints, which copy every page before it changes.
    fn apply_all(&self, group: &[Command]) -> rusqlite::Result<Vec<Effect>> {
        if let [only] = group {
            return Ok(vec![self.apply(only)?]);
        }
        let run = |sql: &str| self.connection.prepare_cached(sql)?.execute([]);
        let mut effects = Vec::with_capacity(group.len());
        for command in group {
            run("SAVEPOINT command")?;
            let effect = self.apply(command)?;
            if effect.is_err() {
                run("ROLLBACK TO command")?;
            }
            run("RELEASE command")?;
            effects.push(effect);
        }
        Ok(effects)
    }

    fn apply(&self, command: &Command) -> rusqlite::Result<Effect> {
        match command {
            Command::Commit(batch, _) => self.append(batch),
            Command::Acquire(partition, _) => Ok(Ok((*partition, self.acquire(*partition)?))),
        }
    }

    fn acquire(&self, partition: Partition) -> rusqlite::Result<Head> {
        let mut acquire = self.connection.prepare_cached(include_str!("log/acquire.sql"))?;
        acquire.query_row([partition.get()], |row| {
            Ok(Head {
                epoch: Epoch(row.get::<_, i64>(0)? as u64),
                position: Position::new(row.get::<_, i64>(1)? as u64),
                last_recorded_at: row.get::<_, Option<i64>>(2)?.map(time).transpose()?,
            })
        })
    }

    fn append(&self, batch: &Batch) -> rusqlite::Result<Effect> {
        let Batch { partition, epoch, head, events } = batch;
        let position = head.plus(events.len() as u64);
        if position.get() > MAX_POSITION {
            return Ok(Err(CommitError::Failed(Error::exhausted(format!(
                "partition {partition} has reached position {MAX_POSITION}, the last that SQLite's log can hold"
            )))));
        }
        let mut move_head = self.connection.prepare_cached(include_str!("log/move_head.sql"))?;
        let recorded_at: Option<i64> = move_head
            .query_row(
                params![
                    partition.get(),
                    epoch.0 as i64,
                    head.get() as i64,
                    events.len() as i64,
                    self.clock.now().as_microsecond()
                ],
                |row| row.get(0),
            )
            .optional()?;
        let Some(recorded_at) = recorded_at else {
            return Ok(Err(CommitError::Fenced));
        };
        let mut insert = self.connection.prepare_cached(include_str!("log/insert.sql"))?;
        let mut next = place(*partition, *head);
        for event in events {
            next += 1;
            match rows::insert(&mut insert, event, next, recorded_at) {
                Ok(_) => {}
                Err(cause) => match cause.sqlite_error().map(|cause| cause.extended_code) {
                    Some(ffi::SQLITE_CONSTRAINT_UNIQUE) => return Ok(Err(CommitError::Duplicate)),
                    Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_ROWID) => {
                        let what = format!("partition {partition} has events beyond its head {head}");
                        return Ok(Err(CommitError::Failed(damaged(&self.path, &what))));
                    }
                    _ => return Err(cause),
                },
            }
        }
        Ok(Ok((*partition, Head { position, epoch: *epoch, last_recorded_at: Some(time(recorded_at)?) })))
    }

    /// SQLite writes the log back by itself after commits, but starts it over only when no reader is in it. Under reads
    /// without end that never is; then new ones are held off for a moment.
    fn bound_wal(&mut self) {
        let mut wal = self.path.as_os_str().to_owned();
        wal.push("-wal");
        let size = std::fs::metadata(wal).map_or(0, |wal| wal.len());
        if size <= self.wal_limit {
            return;
        }
        let _ = self.connection.busy_timeout(WAL_PATIENCE);
        let busy =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        let _ = self.connection.busy_timeout(BUSY_TIMEOUT);
        if matches!(busy, Ok(false)) {
            self.wal_limit = Self::WAL_LIMIT;
            return;
        }
        // Somebody reads for long (a sqlite3 shell): ask again when it has grown by half, not after each commit.
        self.wal_limit = size + size / 2;
        tracing::warn!(
            file = %self.path.display(),
            bytes = size,
            "the write-ahead log cannot be emptied, because a long read or a full disk is in the way; it goes on growing"
        );
    }
}

fn answer(command: Command, effect: Effect) {
    // Who gave up waiting needs no answer.
    match command {
        Command::Commit(_, answer) => {
            let committed = effect.and_then(|(_, head)| {
                let recorded_at = head.last_recorded_at.ok_or_else(|| {
                    CommitError::Failed(Error::internal("a committed batch has no time; please report this"))
                })?;
                Ok(Committed { head: head.position, recorded_at })
            });
            let _ = answer.send(committed);
        }
        Command::Acquire(_, answer) => {
            let head = effect.map(|(_, head)| head).map_err(|failure| match failure {
                CommitError::Failed(error) | CommitError::Unknown(error) => error,
                other => Error::internal(format!("acquiring a partition: {other}; please report this")),
            });
            let _ = answer.send(head);
        }
    }
}
