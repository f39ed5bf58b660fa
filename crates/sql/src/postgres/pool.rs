//! Connections, lent for a statement or a transaction each, and never waited for without a bound.
//!
//! ```text
//! read ── name, work ──▶ lend ──▶ work, within a patience ──▶ rolled back, lost? again, a limited number of times
//!                        ▲           │ no answer, or broken
//!                        └─ others   └──▶ closed; those that nothing has been heard of since are not lent any more
//! ```
//!
//! A peer that is gone without a word leaves a connection that looks well, and TCP takes a quarter of an hour to doubt it: only the lack
//! of an answer shows it. What nobody has an answer to may have been done all the same: it is ambiguous, as after a lost connection.

use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headwater_core::Error;
use headwater_log::Backoff;
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};

use super::database::{explain, is_ambiguous, is_lost, is_rolled_back, silence};

/// How long a connection is waited for, when all are in use or the server does not answer.
pub(crate) const ACQUIRE: Duration = Duration::from_secs(5);

/// How long an answer is waited for. Statements of ours take milliseconds, and a second where the disk is slow.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// How long the answer to a change of tables is: an index on a large table takes its time.
const CHANGE_OF_TABLES: Duration = Duration::from_hours(1);

/// How long a connection is waited for that is given back.
const RETURN: Duration = Duration::from_secs(5);

/// Tries of a transaction that the database rolled back because of others: beyond this, they do not let it through.
pub(crate) const TRIES: u32 = 10;

/// Connections whose names are those of one schema. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    connections: PgPool,
    /// Where that is, for messages; no password.
    pub(crate) place: String,
    doubt: Doubt,
    answer: Duration,
}

/// When a connection was last found to be of no more use: those that have been idle since before may be of none, either.
#[derive(Debug, Clone, Default)]
struct Doubt(Arc<Mutex<Option<Instant>>>);

impl Doubt {
    fn cast(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether nothing has been heard since of a connection that has been idle for so long.
    fn is_on(&self, idle_for: Duration) -> bool {
        let doubt = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doubt.is_some_and(|since| since.elapsed() < idle_for)
    }
}

impl Pool {
    /// Connects, at most so many times at once.
    pub(crate) async fn connect(
        options: PgConnectOptions,
        max_connections: u32,
        place: String,
    ) -> sqlx::Result<Self> {
        let doubt = Doubt::default();
        let doubted = doubt.clone();
        let connections = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let is_well = !doubted.is_on(connection.idle_for);
                Box::pin(async move { Ok(is_well) })
            })
            .connect_with(options)
            .await?;
        Ok(Self { connections, place, doubt, answer: ANSWER })
    }

    /// The same connections, of which an answer is waited for no longer than `answer`.
    pub(crate) fn within(&self, answer: Duration) -> Self {
        Self { answer, ..self.clone() }
    }

    /// The same connections, for what changes tables.
    pub(crate) fn patient(&self) -> Self {
        self.within(CHANGE_OF_TABLES)
    }

    /// Closes the connections. What is under way is finished first.
    pub(crate) async fn close(&self) {
        self.connections.close().await;
    }

    /// Does `work`, again where the database has rolled it back because of others, a limited number of times.
    pub(crate) async fn retry<T, F>(&self, name: &'static str, work: impl Fn(Lent) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        self.repeat(name, is_rolled_back, work).await
    }

    /// Does `work`, which does no harm when it is done twice, again also where the connection was lost.
    pub(crate) async fn read<T, F>(&self, name: &'static str, work: impl Fn(Lent) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        self.repeat(name, |error| is_rolled_back(error) || is_ambiguous(error), work).await
    }

    async fn repeat<T, F>(
        &self,
        name: &'static str,
        may_pass: impl Fn(&sqlx::Error) -> bool,
        work: impl Fn(Lent) -> F,
    ) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        let mut tries = Tries::new(name, self.answer);
        loop {
            match self.once(&work).await {
                Err(error) if may_pass(&error) && tries.again(&error).await => {}
                result => return result,
            }
        }
    }

    async fn once<T, F>(&self, work: impl Fn(Lent) -> F) -> sqlx::Result<T>
    where
        F: Future<Output = sqlx::Result<T>>,
    {
        let lent = self.lend().await?;
        let fate = lent.fate.clone();
        let mut answer = pin!(work(lent));
        // What failed is told before the connection is dropped with what waited for it.
        let answer = tokio::time::timeout(self.answer, &mut answer).await;
        answer.unwrap_or_else(|_| Err(silence(self.answer))).inspect_err(|error| fate.failed(error))
    }

    /// A connection, for what is more than one statement. Who waits for it, and does not any more, says so by [`Lent::failed`].
    pub(crate) async fn lend(&self) -> sqlx::Result<Lent> {
        let connection = match tokio::time::timeout(self.answer, self.connections.acquire()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        Ok(Lent { connection, fate: Fate { doubt: self.doubt.clone(), is_lost: Arc::default() } })
    }

    /// How long an answer is waited for.
    pub(crate) const fn answer(&self) -> Duration {
        self.answer
    }

    /// That what is there contradicts itself.
    pub(crate) fn broken(&self, what: &str, error: impl std::fmt::Display) -> Error {
        Error::corrupt(format!("{} is damaged: {what}: {error}; restore it from a backup", self.place))
    }

    /// What `error` means to our callers.
    pub(crate) fn explain(&self, doing: &str, error: &sqlx::Error) -> Error {
        explain(doing, &self.place, error)
    }
}

/// How often, and how long, something is tried again.
pub(crate) struct Tries {
    name: &'static str,
    attempt: u32,
    backoff: Backoff,
    began: Instant,
    /// After this nothing is tried again.
    limit: Duration,
}

impl Tries {
    /// For the transaction `name`, of which an answer is waited for so long: what failed by the lack of one is tried once more.
    pub(crate) fn new(name: &'static str, answer: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));
        Self { name, attempt: 1, backoff, began: Instant::now(), limit: answer + answer / 2 }
    }

    /// Waits for its next try. False: there is none.
    pub(crate) async fn again(&mut self, error: &sqlx::Error) -> bool {
        if self.attempt >= TRIES || self.began.elapsed() > self.limit {
            return false;
        }
        tracing::debug!(transaction = self.name, attempt = self.attempt, %error, "trying again");
        tokio::time::sleep(self.backoff.pause()).await;
        self.attempt += 1;
        true
    }
}

/// A connection that is given back when it is dropped.
pub(crate) struct Lent {
    connection: PoolConnection<Postgres>,
    fate: Fate,
}

/// What becomes of a connection that is lent.
#[derive(Clone)]
struct Fate {
    doubt: Doubt,
    is_lost: Arc<AtomicBool>,
}

impl Fate {
    fn failed(&self, error: &sqlx::Error) {
        if is_lost(error) {
            self.doubt.cast();
            self.is_lost.store(true, Ordering::Release);
        }
    }
}

impl Lent {
    /// What was done ended with `error`: a connection that was lost is not given back.
    pub(crate) fn failed(&self, error: &sqlx::Error) {
        self.fate.failed(error);
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.fate.is_lost.load(Ordering::Acquire) {
            self.connection.close_on_drop();
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // The server is asked whether the connection is well: by sqlx without a bound, and the place in the pool would be lost with it.
        let (returning, doubt) = (self.connection.return_to_pool(), self.fate.doubt.clone());
        runtime.spawn(async move {
            if tokio::time::timeout(RETURN, returning).await.is_err() {
                doubt.cast();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubt_is_cast_on_what_has_been_idle_since_before() {
        let doubt = Doubt::default();
        assert!(!doubt.is_on(Duration::from_hours(1)));
        doubt.cast();
        assert!(doubt.is_on(Duration::from_hours(1)));
        assert!(!doubt.is_on(Duration::ZERO));
    }

    #[tokio::test]
    async fn tries_end_by_number_and_by_time() {
        let mut tries = Tries::new("test", ANSWER);
        for _ in 1..TRIES {
            assert!(tries.again(&sqlx::Error::PoolTimedOut).await);
        }
        assert!(!tries.again(&sqlx::Error::PoolTimedOut).await);
        let mut late = Tries::new("test", Duration::ZERO);
        assert!(!late.again(&sqlx::Error::PoolTimedOut).await);
    }
}
