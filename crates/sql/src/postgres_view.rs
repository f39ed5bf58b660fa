//! A projection's read model in one schema of a PostgreSQL database.
//!
//! ```text
//! worker ──apply──▶ one transaction a batch, one statement a table ──▶ r3_orders, hw_checkpoints, …
//! query ──────────▶ a snapshot each                                ──▶ r3_orders
//! a person ───────▶ psql: select * from hw_orders_view.orders      ──▶ view orders = r3_orders, while revision 3 is active
//! ```
//!
//! Batches of one projection are applied one after the other, whoever folds them: each begins by counting itself in the rollout's row, which
//! it holds to its commit. So what a batch was folded from is compared with what is there, and nothing can come between.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use headwater_core::{BackendFault, Error, Partition, Result, StreamId};
use headwater_view::{
    Answer, ApplyError, Batch, Change, ChangeError, Load, LoadedRow, ParkedStream, PartitionState, Progress,
    Query, QueryError, Revision, Rollout, RolloutVersion, ViewAdmin, ViewReader, ViewSink, Written,
};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::postgres::Database;
use crate::postgres::database::{is_ambiguous, is_rolled_back, silence};
use crate::postgres::pool::{Pool, Tries};
use crate::postgres::schema;

mod batch;
mod cells;
mod leases;
mod parked;
mod query;
mod rollout;
mod table;

use table::TableSql;

/// The number of the tables' form. A newer one gets another.
const FORMAT: i64 = 3;

/// What makes each format of the one before, from the first on.
const FORMATS: [&str; FORMAT as usize] = [
    include_str!("postgres_view/v1.sql"),
    include_str!("postgres_view/v2.sql"),
    include_str!("postgres_view/v3.sql"),
];

/// How long a whole transaction may take. People query by columns that have no index, and a batch waits for those before it.
const ANSWER: Duration = Duration::from_secs(30);

/// Reads what one snapshot shows.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// What a row holds that we did not write.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// A [`ViewStore`](headwater_view::ViewStore) in one schema. Cheap to clone.
#[derive(Clone)]
pub struct PostgresView(Arc<Inner>);

struct Inner {
    pool: Pool,
    /// The statements of each revision's tables, made when first needed.
    tables: RwLock<Vec<(Revision, Arc<[TableSql]>)>>,
}

/// Why a transaction was given up.
enum Stop<E> {
    /// The database refused something.
    Sql(sqlx::Error),
    /// We do.
    Other(E),
}

impl<E> From<sqlx::Error> for Stop<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

fn other<E: From<Error>>(error: Error) -> Stop<E> {
    Stop::Other(E::from(error))
}

impl PostgresView {
    /// Opens the read model of the projection `name`, making its tables when they are not there.
    ///
    /// # Errors
    /// `FailedPrecondition` when the schema holds something else, and for what is missing in the database; `Corrupt` when a newer Headwater made the tables; `Unavailable` when the
    /// database cannot be reached.
    pub async fn open(database: &Database, name: &str) -> Result<Self> {
        let pool = database.connect().await?;
        schema::ensure(&pool, database).await?;
        let holds_a_log: bool = pool
            .read("describe", |mut connection| async move {
                sqlx::query_scalar("SELECT to_regclass('partition_head') IS NOT NULL")
                    .fetch_one(&mut *connection)
                    .await
            })
            .await
            .map_err(|error| pool.explain("opening", &error))?;
        if holds_a_log {
            return Err(Error::failed_precondition(format!(
                "{} holds the events of an event stream or a saga; nothing was changed: give projection \"{name}\" another schema, by sink.sql.schema",
                pool.place
            )));
        }
        schema::run(&pool, FORMATS[0]).await?;
        let (format, kept): (i64, String) = pool
            .read("describe", |mut connection| async move {
                sqlx::query("UPDATE hw_rollout SET name = $1 WHERE name IS NULL")
                    .bind(name)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query_as("SELECT format, name FROM hw_rollout").fetch_one(&mut *connection).await
            })
            .await
            .map_err(|error| pool.explain("opening", &error))?;
        if format > FORMAT {
            return Err(Error::corrupt(format!(
                "{} was made {} (its format is {format}, this one knows {FORMAT}): use the newer one; nothing was changed",
                pool.place,
                BackendFault::Newer.words()
            )));
        }
        if kept != name {
            return Err(Error::failed_precondition(format!(
                "{} holds the read model of projection \"{kept}\", and not of \"{name}\"; nothing was changed: give another schema, by \
                 sink.sql.schema, or the old name",
                pool.place
            )));
        }
        if format < FORMAT {
            upgrade(&pool, format).await?;
        }
        let pool = pool.within(ANSWER);
        Ok(Self(Arc::new(Inner { pool, tables: RwLock::default() })))
    }

    /// Closes the connections. What is under way is finished first.
    pub async fn close(&self) {
        self.0.pool.close().await;
    }

    /// Runs `work` in a transaction, again where the database rolls it back because of others.
    async fn write<T, E: From<Error>>(
        &self,
        name: &'static str,
        work: impl for<'t> Fn(&'t mut PgConnection) -> BoxFuture<'t, Result<T, Stop<E>>>,
    ) -> Result<T, E> {
        self.transact(name, Some("BEGIN"), "writing", is_rolled_back, work).await
    }

    /// Runs `work` in a snapshot, again also where the connection was lost.
    async fn read<T, E: From<Error>>(
        &self,
        name: &'static str,
        work: impl for<'t> Fn(&'t mut PgConnection) -> BoxFuture<'t, Result<T, Stop<E>>>,
    ) -> Result<T, E> {
        self.transact(name, Some(SNAPSHOT), "reading", may_be_read_again, work).await
    }

    async fn transact<T, E: From<Error>>(
        &self,
        name: &'static str,
        begin: Option<&'static str>,
        doing: &str,
        may_pass: impl Fn(&sqlx::Error) -> bool,
        work: impl for<'t> Fn(&'t mut PgConnection) -> BoxFuture<'t, Result<T, Stop<E>>>,
    ) -> Result<T, E> {
        let pool = &self.0.pool;
        let mut tries = Tries::new(name, pool.answer());
        loop {
            let once = async {
                let mut connection = pool.lend().await?;
                let done = tokio::time::timeout(pool.answer(), async {
                    let Some(begin) = begin else { return work(&mut connection).await };
                    let mut transaction = connection.begin_with(begin).await?;
                    let value = work(&mut transaction).await?;
                    transaction.commit().await?;
                    Ok(value)
                });
                let done = done.await.unwrap_or_else(|_| Err(Stop::Sql(silence(pool.answer()))));
                if let Err(Stop::Sql(error)) = &done {
                    connection.failed(error);
                }
                done
            };
            match once.await {
                Ok(value) => return Ok(value),
                Err(Stop::Other(error)) => return Err(error),
                Err(Stop::Sql(error)) if may_pass(&error) && tries.again(&error).await => {}
                Err(Stop::Sql(error)) => return Err(pool.explain(doing, &error).into()),
            }
        }
    }

    /// The statements of the revision's tables. `None`: there is no such revision in the transaction's snapshot.
    async fn tables<E: From<Error>>(
        &self,
        connection: &mut PgConnection,
        revision: Revision,
    ) -> Result<Option<Arc<[TableSql]>>, Stop<E>> {
        if !rollout::exists(connection, revision).await? {
            return Ok(None);
        }
        self.tables_of(connection, revision).await.map(Some)
    }

    /// The same of a revision that is there.
    async fn tables_of<E: From<Error>>(
        &self,
        connection: &mut PgConnection,
        revision: Revision,
    ) -> Result<Arc<[TableSql]>, Stop<E>> {
        let known = self.known(revision);
        if let Some(known) = known {
            return Ok(known);
        }
        let schemas = rollout::schemas(connection, revision).await?;
        let tables: Arc<[TableSql]> =
            schemas.into_iter().map(|schema| TableSql::new(revision, schema)).collect();
        let mut known = self.0.tables.write().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(known, _)| *known != revision);
        known.push((revision, tables.clone()));
        Ok(tables)
    }

    fn known(&self, revision: Revision) -> Option<Arc<[TableSql]>> {
        let known = self.0.tables.read().unwrap_or_else(PoisonError::into_inner);
        known.iter().find(|(known, _)| *known == revision).map(|(_, tables)| tables.clone())
    }
}

fn may_be_read_again(error: &sqlx::Error) -> bool {
    is_rolled_back(error) || is_ambiguous(error)
}

/// Makes the newest format of an older one. Several processes may do so at once; the number comes last.
async fn upgrade(pool: &Pool, from: i64) -> Result<()> {
    for tables in FORMATS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        schema::run(pool, tables).await?;
    }
    pool.read("upgrade", |mut connection| async move {
        sqlx::query("UPDATE hw_rollout SET format = $1 WHERE format < $1")
            .bind(FORMAT)
            .execute(&mut *connection)
            .await
    })
    .await
    .map(drop)
    .map_err(|error| pool.explain("upgrading", &error))
}

/// The statements that remove the read model of the pool's schema.
///
/// # Errors
/// As the database.
pub(crate) async fn drop_statements(pool: &Pool) -> Result<Vec<String>> {
    let revisions: Vec<(i64, String)> = pool
        .read("list the tables", |mut connection| async move {
            sqlx::query_as("SELECT revision, tables FROM hw_revisions").fetch_all(&mut *connection).await
        })
        .await
        .map_err(|error| pool.explain("reading", &error))?;
    let mut tables = Vec::new();
    for (revision, text) in revisions {
        let revision = u32::try_from(revision).map_err(|error| pool.broken("a revision's number", error))?;
        let schemas = rollout::parse_schemas(&text)?;
        tables.extend(schemas.into_iter().map(|schema| TableSql::new(Revision(revision), schema)));
    }
    let ours = [
        "parked_events",
        "parked_streams",
        "skips",
        "checkpoints",
        "revisions",
        "members",
        "leases",
        "rollout",
    ];
    let views = tables.iter().map(TableSql::drop_view);
    let statements = views.chain(tables.iter().map(TableSql::drop));
    Ok(statements.chain(ours.map(|name| format!("DROP TABLE IF EXISTS hw_{name}"))).collect())
}

impl std::fmt::Debug for PostgresView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresView").field("place", &self.0.pool.place).finish_non_exhaustive()
    }
}

#[async_trait]
impl ViewSink for PostgresView {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        self.read("partition", |connection| Box::pin(batch::partition(connection, revision, partition))).await
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        let load = Arc::new(load.clone());
        // The rows of one table are one statement, which needs no snapshot around it: two round trips less.
        let begin = (load.rows.len() > 1).then_some(SNAPSHOT);
        self.transact("load", begin, "reading", may_be_read_again, |connection| {
            let (view, load) = (self.clone(), Arc::clone(&load));
            Box::pin(async move { batch::load(&view, connection, &load).await })
        })
        .await
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        self.write("apply", |connection| {
            let (view, batch) = (self.clone(), Arc::clone(&batch));
            Box::pin(async move { batch::apply(&view, connection, &batch).await })
        })
        .await
    }
}

#[async_trait]
impl ViewReader for PostgresView {
    async fn query(&self, query: &Query) -> Result<Answer, QueryError> {
        let query = Arc::new(query.clone());
        self.read("query", |connection| {
            let (view, query) = (self.clone(), Arc::clone(&query));
            Box::pin(async move { query::answer(&view, connection, &query).await })
        })
        .await
    }
}

#[async_trait]
impl ViewAdmin for PostgresView {
    async fn rollout(&self) -> Result<Rollout> {
        self.read("rollout", |connection| Box::pin(rollout::load(connection))).await
    }

    async fn change(&self, version: RolloutVersion, change: &Change) -> Result<Rollout, ChangeError> {
        let change = Arc::new(change.clone());
        self.write("change", |connection| {
            let change = Arc::clone(&change);
            Box::pin(async move { rollout::change(connection, version, &change).await })
        })
        .await
    }

    async fn progress(&self, revision: Revision) -> Result<Vec<Progress>> {
        self.read("progress", |connection| Box::pin(batch::progress(connection, revision))).await
    }

    async fn parked(
        &self,
        revision: Revision,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<Vec<ParkedStream>> {
        let after = after.cloned();
        self.read("parked", |connection| {
            let after = after.clone();
            Box::pin(async move { parked::parked(connection, revision, after.as_ref(), limit, events).await })
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
        self.read("parked stream", |connection| {
            let stream_id = stream_id.clone();
            Box::pin(async move { parked::parked_stream(connection, revision, &stream_id, events).await })
        })
        .await
    }
}
