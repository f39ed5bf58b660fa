//! The tables of a log: made where they are not there, and checked where they are.

use headwater_core::{BackendFault, Error, LogId, PartitionCount, Result};
use headwater_log::LogDescriptor;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::database::{Database, code};
use super::owner::{self, Claim, Taking};
use super::pool::Pool;

/// The number of the tables' form. A newer one gets another.
const FORMAT: i64 = 4;

/// What makes each format of the one before, from the first on.
const FORMATS: [&str; FORMAT as usize] = [
    include_str!("log/0001.sql"),
    include_str!("log/0002.sql"),
    include_str!("log/0003.sql"),
    include_str!("log/0004.sql"),
];

/// The log that the schema holds, which must be the one that is asked for; makes it when there is none. With a claim it is the claimant's
/// from then on.
///
/// # Errors
/// `FailedPrecondition` when it is called otherwise, or has another number of partitions; `Invalid` when it is another's; `Corrupt` when a
/// newer Headwater made it; else as the database.
pub(super) async fn describe(
    pool: &Pool,
    database: &Database,
    name: &str,
    partitions: PartitionCount,
    claim: Option<&Claim>,
) -> Result<LogDescriptor> {
    let found = if let Some(found) = find(pool).await? {
        found
    } else {
        ensure(pool, database).await?;
        for tables in FORMATS {
            run(pool, tables).await?;
        }
        insert(pool, name, partitions).await?;
        find(pool).await?.ok_or_else(|| {
            Error::internal(format!("{} has no log after one was made; please report this", pool.place))
        })?
    };
    found.check_format(pool)?;
    let log_id = LogId::from_uuid(found.log_id);
    let taking = match claim {
        Some(claim) => owner::look(pool, claim, log_id).await?,
        None => Taking::Nothing,
    };
    // The log of an event stream that is adopted by one of another name is called like that one from then on.
    let is_renamed = matches!((&taking, claim), (Taking::Adopt(before), Some(claim)) if before.name == found.name && claim.owner.name == name);
    let descriptor = found.check(pool, if is_renamed { found.name.as_str() } else { name }, partitions)?;
    if found.format < FORMAT {
        upgrade(pool, found.format).await?;
    }
    if let Some(claim) = claim {
        owner::take(pool, claim, log_id).await?;
    }
    Ok(descriptor)
}

/// The id of the log that the schema holds, if it holds one.
pub(super) async fn id(pool: &Pool) -> Result<Option<LogId>> {
    Ok(find(pool).await?.map(|found| LogId::from_uuid(found.log_id)))
}

struct Found {
    format: i64,
    log_id: uuid::Uuid,
    name: String,
    partitions: i64,
}

async fn find(pool: &Pool) -> Result<Option<Found>> {
    let row = pool
        .read("describe", |mut connection| async move {
            sqlx::query("SELECT format, log_id, name, partitions FROM log")
                .fetch_optional(&mut *connection)
                .await
        })
        .await;
    let found = |row: sqlx::postgres::PgRow| -> sqlx::Result<Found> {
        Ok(Found {
            format: row.try_get(0)?,
            log_id: row.try_get(1)?,
            name: row.try_get(2)?,
            partitions: row.try_get(3)?,
        })
    };
    match row {
        Ok(row) => row.map(found).transpose().map_err(|error| pool.explain("reading", &error)),
        // No such table, or schema.
        Err(error) if matches!(code(&error).as_deref(), Some("42P01" | "3F000")) => Ok(None),
        Err(error) => Err(pool.explain("opening", &error)),
    }
}

impl Found {
    fn check_format(&self, pool: &Pool) -> Result<()> {
        if self.format > FORMAT {
            return Err(Error::corrupt(format!(
                "{} was made {} (its format is {}, this one knows {FORMAT}): use the newer one; nothing was changed",
                pool.place,
                BackendFault::Newer.words(),
                self.format
            )));
        }
        Ok(())
    }

    fn check(&self, pool: &Pool, name: &str, partitions: PartitionCount) -> Result<LogDescriptor> {
        let Self { log_id, name: kept, partitions: count, .. } = self;
        if kept != name {
            return Err(Error::failed_precondition(format!(
                "{} holds the events of event stream \"{kept}\", and not of \"{name}\"; nothing was changed: give another schema, or the old name",
                pool.place
            )));
        }
        if usize::try_from(*count).ok() != Some(partitions.get()) {
            return Err(Error::failed_precondition(format!(
                "{} was made with {count} partitions, and {} are asked for; a log keeps its number, and nothing was changed: say {count} again, or start a new log elsewhere",
                pool.place,
                partitions.get()
            )));
        }
        Ok(LogDescriptor { log_id: LogId::from_uuid(*log_id), partitions })
    }
}

/// Makes the newest format of an older one. Several processes may do so at once; the number comes last.
async fn upgrade(pool: &Pool, from: i64) -> Result<()> {
    for tables in FORMATS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        run(pool, tables).await?;
    }
    pool.read("upgrade", |mut connection| async move {
        sqlx::query("UPDATE log SET format = $1 WHERE format < $1")
            .bind(FORMAT)
            .execute(&mut *connection)
            .await
    })
    .await
    .map_err(|error| pool.explain("upgrading", &error))?;
    tracing::info!(from, to = FORMAT, place = pool.place, "the log's tables have been brought up to date");
    Ok(())
}

/// Makes the schema, unless it is there: who may not make one may own one.
pub(crate) async fn ensure(pool: &Pool, database: &Database) -> Result<()> {
    let there: bool = pool
        .read("find the schema", |mut connection| async move {
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1)")
                .bind(&database.schema)
                .fetch_one(&mut *connection)
                .await
        })
        .await
        .map_err(|error| pool.explain("opening", &error))?;
    if there {
        return Ok(());
    }
    // The name has been checked to be an identifier.
    run(pool, &format!("CREATE SCHEMA IF NOT EXISTS {}", database.schema)).await
}

/// One statement after the other, each a transaction of its own, as CockroachDB wants it; several processes may do so at once.
pub(crate) async fn run(pool: &Pool, statements: &str) -> Result<()> {
    for statement in statements.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        let run = async || {
            pool.patient()
                .read("create", |mut connection| async move {
                    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *connection).await
                })
                .await
        };
        let mut done = run().await;
        // Somebody else made the same just now.
        if let Err(error) = &done
            && matches!(code(error).as_deref(), Some("23505" | "42P06" | "42P07" | "42710"))
        {
            done = run().await;
        }
        done.map_err(|error| pool.explain("making the tables of a log in", &error))?;
    }
    Ok(())
}

/// The first to insert decides which log it is.
async fn insert(pool: &Pool, name: &str, partitions: PartitionCount) -> Result<()> {
    let log_id = LogId::generate();
    pool.read("insert the log", |mut connection| async move {
        let mut transaction = connection.begin().await?;
        let inserted = sqlx::query(
            "INSERT INTO log (singleton, format, log_id, name, partitions, created_at) \
             VALUES (1, $1, $2, $3, $4, (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT) ON CONFLICT DO NOTHING",
        )
        .bind(FORMAT)
        .bind(log_id.as_uuid())
        .bind(name)
        .bind(partitions.get() as i64)
        .execute(&mut *transaction)
        .await?;
        if inserted.rows_affected() > 0 {
            let all: Vec<i64> = partitions.partitions().map(|partition| partition.get().into()).collect();
            sqlx::query(
                "INSERT INTO partition_head (partition, epoch, head) \
                 SELECT p.partition, 0, 0 FROM unnest($1::BIGINT []) AS p (partition)",
            )
            .bind(all)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await
    })
    .await
    .map_err(|error| pool.explain("making a log in", &error))
}

#[cfg(test)]
mod tests {
    /// What PostgreSQL and CockroachDB do not both do, or do so that order would depend on it.
    const FORBIDDEN: [&str; 14] = [
        "advisory",
        "listen ",
        "notify",
        "nextval",
        "serial",
        "plpgsql",
        "trigger",
        "xid",
        "temporary",
        "temp table",
        "on commit",
        "savepoint",
        "jsonb[]",
        "skip locked",
    ];

    #[test]
    fn statements_are_those_of_both_databases() {
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut folders = vec![source.join("postgres"), source.join("postgres_view")];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "sql") {
                    let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
                    let statements: String = text
                        .lines()
                        .map(|line| line.split("--").next().unwrap_or_default())
                        .collect::<Vec<_>>()
                        .join("\n");
                    for word in FORBIDDEN {
                        assert!(!statements.contains(word), "{} has {word:?}", path.display());
                    }
                    files += 1;
                }
            }
        }
        assert!(files >= 25, "{files} files");
    }
}
