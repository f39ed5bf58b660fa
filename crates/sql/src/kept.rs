//! What is kept in the schemas of a database, and its end.
//!
//! ```text
//! list ──▶ each schema with a log or a read model ──▶ KeptSchema
//! remove ──▶ is it there? whose is it? does somebody use it? ──▶ its tables, in one transaction ──▶ the schema, if nothing else is in it
//! ```

use headwater_core::{Error, LogId, Result};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::postgres::database::{Database, code, is_identifier};
use crate::postgres::owner::{self, Owner};
use crate::postgres::pool::Pool;
use crate::postgres_view::drop_statements;

/// How long others who read or write may keep tables from being dropped.
const OTHERS: &str = "20s";

/// What the table of processes is called while it is removed.
const REMOVED: &str = "hw_removed";

/// The schema that every database has.
const DEFAULT: &str = "public";

/// The tables of a log, and its view; none needs one before it.
const LOG: [&str; 7] = [
    "DROP VIEW IF EXISTS events_json",
    "DROP TABLE IF EXISTS relay",
    "DROP TABLE IF EXISTS member",
    "DROP TABLE IF EXISTS log_owner",
    "DROP TABLE IF EXISTS events",
    "DROP TABLE IF EXISTS partition_head",
    "DROP TABLE IF EXISTS log",
];

/// What a schema of ours holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// The log of an event stream or a saga.
    Log,
    /// The read model of a projection.
    ReadModel,
}

/// A schema in which something of ours is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptSchema {
    /// The schema.
    pub schema: String,
    /// What it holds.
    pub keeps: Keeps,
    /// The event stream's, the saga's or the projection's name. `None`: it is not taken yet.
    pub name: Option<String>,
    /// The log, or that which the read model was built from.
    pub log_id: Option<LogId>,
    /// The resource that has the log, where one has.
    pub owner: Option<Owner>,
    /// Events, of a log.
    pub events: Option<u64>,
    /// On disk, in bytes, where the database says it.
    pub bytes: Option<u64>,
    /// The processes that have it now.
    pub used_by: Vec<String>,
}

/// Whose a schema must be to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoveAs {
    /// Whoever's: a person has looked.
    Person,
    /// That of this resource, whose log it is.
    Log {
        /// The resource.
        owner: Owner,
        /// The log, where it is known.
        log_id: Option<LogId>,
    },
    /// That of a projection, by its name and the log that it folds. A read model that was built from a log is of nobody for whom that is not known.
    ReadModel {
        /// The projection's.
        name: String,
        /// The event stream's.
        log_id: Option<LogId>,
    },
}

/// What is kept in the database that `database` is in; its schema does not count.
///
/// # Errors
/// As the database.
pub async fn list(database: &Database) -> Result<Vec<KeptSchema>> {
    let pool = database.connect().await?;
    let names: Vec<String> = pool
        .read("list the schemas", |mut connection| async move {
            sqlx::query_scalar(
                "SELECT DISTINCT n.nspname::TEXT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                 WHERE c.relkind = 'r' AND c.relname IN ('partition_head', 'hw_rollout') ORDER BY 1",
            )
            .fetch_all(&mut *connection)
            .await
        })
        .await
        .map_err(|error| pool.explain("listing the schemas beside", &error))?;
    pool.close().await;
    let mut kept = Vec::new();
    // Others may have tables called like ours in schemas that we would not make.
    for schema in names.into_iter().filter(|name| is_identifier(name)) {
        let database = Database { schema, max_connections: 1, ..database.clone() };
        kept.extend(find(&database).await?);
    }
    Ok(kept)
}

/// What the schema holds, if it is anything of ours.
///
/// # Errors
/// As the database.
pub async fn find(database: &Database) -> Result<Option<KeptSchema>> {
    let pool = database.connect().await?;
    let found = look(&pool, &database.schema).await;
    pool.close().await;
    found
}

/// What the schema holds, if it is anything of ours that may be removed now.
///
/// # Errors
/// As [`remove`].
pub async fn may_remove(database: &Database, by: &RemoveAs) -> Result<Option<KeptSchema>> {
    let pool = database.connect().await?;
    let found = look(&pool, &database.schema).await;
    pool.close().await;
    let found = found?;
    found.as_ref().map_or(Ok(()), |kept| check(&pool, kept, by))?;
    Ok(found)
}

/// Removes what the schema holds, and the schema when nothing else is in it. What it was; `None`: it holds nothing of ours, or never was.
///
/// # Errors
/// `FailedPrecondition`, and nothing is changed, when it is another's, when a process has it, and when something of somebody else's depends on
/// it; else as the database.
pub async fn remove(database: &Database, by: &RemoveAs) -> Result<Option<KeptSchema>> {
    let pool = database.connect().await?;
    let removed = remove_from(&pool, &database.schema, by).await;
    pool.close().await;
    removed
}

async fn remove_from(pool: &Pool, schema: &str, by: &RemoveAs) -> Result<Option<KeptSchema>> {
    let Some(kept) = look(pool, schema).await? else { return Ok(None) };
    check(pool, &kept, by)?;
    let keeps = kept.keeps;
    let statements = match keeps {
        Keeps::Log => LOG.map(str::to_owned).to_vec(),
        Keeps::ReadModel => drop_statements(pool).await?,
    };
    let statements = &statements;
    let used_by = pool
        .patient()
        .read("drop the tables", |mut connection| async move {
            let mut transaction = connection.begin().await?;
            run(&mut transaction, &format!("SET LOCAL lock_timeout = '{OTHERS}'")).await?;
            // Who would come or write does so before this, or finds nothing: to rename a table is to have it alone.
            let members = members(keeps);
            run(&mut transaction, &format!("ALTER TABLE IF EXISTS {members} RENAME TO {REMOVED}")).await?;
            let used_by = used_by(&mut transaction, REMOVED, keeps).await?;
            if !used_by.is_empty() {
                return Ok(used_by);
            }
            for statement in statements {
                run(&mut transaction, statement).await?;
            }
            run(&mut transaction, &format!("DROP TABLE IF EXISTS {REMOVED}")).await?;
            transaction.commit().await?;
            Ok(used_by)
        })
        .await
        .map_err(|error| refusal(pool, &error))?;
    // Somebody came just now.
    check(pool, &KeptSchema { used_by, ..kept.clone() }, by)?;
    if schema == DEFAULT {
        return Ok(Some(kept));
    }
    let emptied = pool
        .read("drop the schema", |mut connection| async move {
            run(&mut connection, &format!("DROP SCHEMA IF EXISTS {schema} RESTRICT")).await
        })
        .await;
    match emptied {
        // Something of others is in it, or it was made by them.
        Err(error) if matches!(code(&error).as_deref(), Some("2BP01" | "42501")) => {
            tracing::info!(schema, "the schema stays: it is not Headwater's alone");
        }
        other => other.map_err(|error| refusal(pool, &error))?,
    }
    Ok(Some(kept))
}

fn check(pool: &Pool, kept: &KeptSchema, by: &RemoveAs) -> Result<()> {
    let place = &pool.place;
    let is_its_own = match by {
        RemoveAs::Person => true,
        RemoveAs::Log { owner, log_id } => {
            kept.keeps == Keeps::Log
                && log_id.is_none_or(|log_id| kept.log_id == Some(log_id))
                && match &kept.owner {
                    Some(known) => known.is(owner),
                    // Of an older Headwater.
                    None => kept.name.as_ref() == Some(&owner.name),
                }
        }
        RemoveAs::ReadModel { name, log_id } => {
            let is_of_log = kept.log_id.is_none() || kept.log_id == *log_id;
            kept.keeps == Keeps::ReadModel && kept.name.as_ref().is_none_or(|kept| kept == name) && is_of_log
        }
    };
    if !is_its_own {
        let (log_id, name) = (kept.log_id, kept.name.as_deref().unwrap_or_default());
        let of = match (&kept.owner, kept.keeps, log_id) {
            (Some(owner), _, _) => format!("the log of {owner}"),
            (None, Keeps::Log, _) => format!("the log of \"{name}\""),
            (None, Keeps::ReadModel, Some(log_id)) => {
                format!("the read model of projection \"{name}\", built from log {log_id}")
            }
            (None, Keeps::ReadModel, None) => format!("the read model of projection \"{name}\""),
        };
        return Err(Error::failed_precondition(match (by, log_id) {
            (RemoveAs::ReadModel { name: asked, log_id: None }, Some(log_id)) if name == asked => format!(
                "{place} holds {of}, and that is not known to be yours; nothing was changed: say so with --delete-data={log_id}"
            ),
            _ => format!("{place} holds {of}, which is another's; nothing was changed"),
        }));
    }
    match &kept.used_by[..] {
        [] => Ok(()),
        used_by => Err(Error::failed_precondition(format!(
            "{place} is in use by {}; nothing was changed: end that first, and where it was killed, wait for some seconds",
            used_by.join(", ")
        ))),
    }
}

fn refusal(pool: &Pool, error: &sqlx::Error) -> Error {
    match code(error).as_deref() {
        Some("2BP01") => {
            let database_error = error.as_database_error();
            let detail = database_error.and_then(|error| {
                error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().and_then(|error| error.detail())
            });
            Error::failed_precondition(format!(
                "{}: {}; nothing was changed: drop first what depends on it",
                pool.place,
                detail.map_or_else(|| error.to_string(), |detail| detail.replace('\n', ", "))
            ))
        }
        Some("55P03") => Error::unavailable(format!(
            "{}: others have been reading or writing it for {OTHERS}; nothing was changed: try again when they have ended",
            pool.place
        )),
        _ => pool.explain("removing", error),
    }
}

async fn look(pool: &Pool, schema: &str) -> Result<Option<KeptSchema>> {
    let owner = owner::find(pool).await?;
    let row = pool
        .read("look at the schema", |mut connection| async move {
            let (has_log, has_read_model): (bool, bool) = sqlx::query_as(
                "SELECT to_regclass('partition_head') IS NOT NULL, to_regclass('hw_rollout') IS NOT NULL",
            )
            .fetch_one(&mut *connection)
            .await?;
            let (keeps, what) = match (has_log, has_read_model) {
                (true, _) => (
                    Keeps::Log,
                    "SELECT name, log_id, (SELECT coalesce(sum(head), 0)::BIGINT FROM partition_head) FROM log",
                ),
                (false, true) => {
                    (Keeps::ReadModel, "SELECT name, log_id, NULL::BIGINT FROM hw_rollout")
                }
                (false, false) => return Ok(None),
            };
            // A log whose making was interrupted has no row.
            let row = sqlx::query(AssertSqlSafe(what)).fetch_optional(&mut *connection).await?;
            let used_by = used_by(&mut connection, members(keeps), keeps).await?;
            let bytes = bytes(&mut connection).await?;
            Ok(Some((keeps, row, used_by, bytes)))
        })
        .await
        .map_err(|error| pool.explain("reading", &error))?;
    let Some((keeps, row, used_by, bytes)) = row else { return Ok(None) };
    let said = |row: PgRow| -> sqlx::Result<(Option<String>, Option<LogId>, Option<i64>)> {
        let log_id: Option<uuid::Uuid> = row.try_get(1)?;
        Ok((row.try_get(0)?, log_id.map(LogId::from_uuid), row.try_get(2)?))
    };
    let said = row.map(said).transpose().map_err(|error| pool.explain("reading", &error))?;
    let (name, log_id, events) = said.unwrap_or_default();
    let schema = schema.to_owned();
    Ok(Some(KeptSchema {
        schema,
        keeps,
        name,
        log_id,
        owner,
        events: events.map(i64::unsigned_abs),
        bytes,
        used_by,
    }))
}

/// The table of the processes that have what a schema holds.
const fn members(keeps: Keeps) -> &'static str {
    match keeps {
        Keeps::Log => "member",
        Keeps::ReadModel => "hw_members",
    }
}

/// The addresses or names of the processes that have it.
async fn used_by(connection: &mut PgConnection, table: &str, keeps: Keeps) -> sqlx::Result<Vec<String>> {
    let called = if keeps == Keeps::Log { "address" } else { "name" };
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(table)
        .fetch_one(&mut *connection)
        .await?;
    if !is_there {
        return Ok(Vec::new());
    }
    let members = format!(
        "SELECT DISTINCT {called} FROM {table} WHERE alive_until > (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT ORDER BY 1"
    );
    sqlx::query_scalar(AssertSqlSafe(members)).fetch_all(connection).await
}

/// What the schema takes, where the database says it: CockroachDB does not.
async fn bytes(connection: &mut PgConnection) -> sqlx::Result<Option<u64>> {
    let size: sqlx::Result<Option<i64>> = sqlx::query_scalar(
        "SELECT sum(pg_total_relation_size(c.oid))::BIGINT FROM pg_catalog.pg_class AS c \
         JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind = 'r'",
    )
    .fetch_one(connection)
    .await;
    match size {
        Err(error) if code(&error).as_deref() == Some("42883") => Ok(None),
        other => Ok(other?.map(i64::unsigned_abs)),
    }
}

async fn run(connection: &mut PgConnection, statement: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(connection).await.map(drop)
}
