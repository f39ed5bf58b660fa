//! A follower of the log's database: a replica that has what its primary had a moment ago.
//!
//! ```text
//! page ──▶ Connected ──▶ the follower, within a moment ──fails──▶ NotBefore ──time──▶ Connecting, beside ──▶ Connected
//!             └ any other state: nobody waits, the page is read from the database itself
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_core::{Error, Position, Result};
use headwater_log::{Filter, LogDescriptor, PartitionPage, ReadPartition};
use tokio::time::Instant;

use super::database::Database;
use super::log::read_heads;
use super::page;
use super::pool::Pool;
use super::schema;

/// How long one that failed is left alone.
const PAUSE: Duration = Duration::from_secs(10);
/// How long its answer is waited for: a page takes milliseconds, and the database itself has it as well.
const ANSWER: Duration = Duration::from_secs(1);

/// A follower. Who reads never waits for a connection to it.
pub(super) struct Follower(Arc<Inner>);

struct Inner {
    database: Database,
    descriptor: LogDescriptor,
    /// The database that it follows.
    primary: Pool,
    state: Mutex<State>,
    is_failing: AtomicBool,
}

enum State {
    Connected(Pool),
    Connecting,
    NotBefore(Instant),
    Closed,
}

impl Follower {
    /// Connects to it. Where that fails it is said, and tried again later.
    pub(super) async fn open(database: Database, descriptor: LogDescriptor, primary: Pool) -> Self {
        let inner = Inner {
            database,
            descriptor,
            primary,
            state: Mutex::new(State::Connecting),
            is_failing: AtomicBool::new(false),
        };
        inner.connect().await;
        Self(Arc::new(inner))
    }

    /// The page, where all of it is there and more follows. `None`: it is to be read from the log's own database.
    pub(super) async fn page(&self, request: &ReadPartition) -> Option<PartitionPage> {
        let pool = self.pool()?;
        match page::read(&pool, request).await {
            // What the follower's end is, is not the log's.
            Ok(page) => (page.reached < page.head).then_some(page),
            Err(error) => {
                self.0.fails(&error);
                None
            }
        }
    }

    pub(super) async fn close(&self) {
        let before = std::mem::replace(&mut *self.0.lock(), State::Closed);
        if let State::Connected(pool) = before {
            pool.close().await;
        }
    }

    fn pool(&self) -> Option<Pool> {
        let mut state = self.0.lock();
        match &*state {
            State::Connected(pool) => return Some(pool.clone()),
            State::NotBefore(time) if *time <= Instant::now() => {}
            State::NotBefore(_) | State::Connecting | State::Closed => return None,
        }
        *state = State::Connecting;
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move { inner.connect().await });
        None
    }
}

impl Inner {
    /// Every change is whole before the lock is let go.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) {
        let pool = match self.try_connect().await {
            Ok(pool) => pool,
            Err(error) => return self.fails(&error),
        };
        {
            let mut state = self.lock();
            if matches!(*state, State::Connecting) {
                *state = State::Connected(pool);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("the follower is read again");
                }
                return;
            }
        }
        pool.close().await;
    }

    async fn try_connect(&self) -> Result<Pool> {
        let pool = self.database.connect().await?.within(ANSWER);
        let checked = self.check(&pool).await;
        if checked.is_err() {
            pool.close().await;
        }
        checked.map(|()| pool)
    }

    /// Whether it has what the database has, as far as it has come.
    async fn check(&self, pool: &Pool) -> Result<()> {
        let refused = |why: String| {
            Err(Error::failed_precondition(format!(
                "{} is no follower of the event stream's database: {why}; mend database.readURLSecretRef",
                pool.place
            )))
        };
        let log_id = self.descriptor.log_id;
        match schema::id(pool).await? {
            Some(found) if found == log_id => {}
            Some(found) => return refused(format!("it has log {found}, and not {log_id}")),
            None => return refused(format!("it has no log, and not {log_id}")),
        }
        // A database that was restored to an older state has the same log, and others of the events that came after.
        for (partition, head) in
            self.descriptor.partitions.partitions().zip(read_heads(pool, self.descriptor).await?)
        {
            if head.position == Position::ZERO {
                continue;
            }
            let last = ReadPartition {
                partition,
                after: Position::new(head.position.get() - 1),
                up_to: Some(head.position),
                filter: Filter::default(),
                limit: 1,
                max_bytes: 1,
            };
            let [here, there] = [page::read(pool, &last).await?, page::read(&self.primary, &last).await?];
            if here.events != there.events {
                return refused(format!(
                    "position {} of partition {partition} is another event there, or none: one of the two was restored from a backup",
                    head.position
                ));
            }
        }
        Ok(())
    }

    fn fails(&self, error: &Error) {
        {
            let mut state = self.lock();
            if !matches!(*state, State::Closed) {
                *state = State::NotBefore(Instant::now() + PAUSE);
            }
        }
        if !self.is_failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the follower cannot be read; all is read from the database itself");
        }
    }
}
