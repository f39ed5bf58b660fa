//! The rollout's row, and what a change means for tables and names.

use headwater_core::{Error, LogId, PartitionCount, Positions, Result, Token};
use headwater_view::{
    Change, ChangeError, Previous, Revision, RevisionRecord, Rollout, RolloutVersion, TableSchema,
};
use jiff::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use super::table::TableSql;
use super::{Broken, Stop, other};

fn corrupt(what: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("reading {what} of the read model: {why}; rebuild it in an empty place"))
}

/// A stored moment.
pub(super) fn moment(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt("a moment", error))
}

/// Whether `revision` is there.
pub(super) async fn exists(connection: &mut PgConnection, revision: Revision) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM hw_revisions WHERE revision = $1)")
        .bind(i64::from(revision.0))
        .fetch_one(connection)
        .await
}

/// The tables of `revision`, which is there.
pub(super) async fn schemas<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
) -> Result<Vec<TableSchema>, Stop<E>> {
    let text: String = sqlx::query_scalar("SELECT tables FROM hw_revisions WHERE revision = $1")
        .bind(i64::from(revision.0))
        .fetch_one(connection)
        .await?;
    parse_schemas(&text).map_err(other)
}

pub(super) fn parse_schemas(text: &str) -> Result<Vec<TableSchema>> {
    let schemas: Vec<TableSchema> =
        serde_json::from_str(text).map_err(|error| corrupt("a revision's tables", error))?;
    schemas.iter().try_for_each(TableSchema::check).map_err(|error| corrupt("a revision's tables", error))?;
    Ok(schemas)
}

fn revision_at(row: &PgRow, name: &str) -> Result<Option<Revision>, Broken> {
    let number: Option<i64> = row.try_get(name)?;
    Ok(number.map(u32::try_from).transpose()?.map(Revision))
}

/// The row without what is counted in it; by name, as a newer format has more.
const ROW: &str = "SELECT version, log_id, partitions, start, active, candidate, previous, previous_until, declared, held_digest, last_revision \
                   FROM hw_rollout";

/// The row, and the revisions apart.
fn read(row: &PgRow, revisions: Vec<RevisionRecord>) -> Result<Rollout, Broken> {
    let log_id: Option<Uuid> = row.try_get("log_id")?;
    let partitions: Option<i64> = row.try_get("partitions")?;
    let log = match (log_id, partitions) {
        (Some(id), Some(count)) => Some((LogId::from_uuid(id), PartitionCount::new(u32::try_from(count)?)?)),
        _ => None,
    };
    let start = match row.try_get::<Option<String>, _>("start")? {
        Some(token) => token.parse::<Token>()?.positions,
        None => Positions::default(),
    };
    let until: Option<i64> = row.try_get("previous_until")?;
    let previous = match (revision_at(row, "previous")?, until) {
        (Some(revision), Some(until)) => Some(Previous { revision, until: moment(until)? }),
        _ => None,
    };
    let last: i64 = row.try_get("last_revision")?;
    let version: i64 = row.try_get("version")?;
    Ok(Rollout {
        version: RolloutVersion(version as u64),
        log,
        start,
        active: revision_at(row, "active")?,
        candidate: revision_at(row, "candidate")?,
        previous,
        declared: row
            .try_get::<Option<String>, _>("declared")?
            .as_deref()
            .map(serde_json::from_str)
            .transpose()?,
        held_digest: row.try_get("held_digest")?,
        last_revision: u32::try_from(last)?,
        revisions,
    })
}

fn record(row: &PgRow) -> Result<RevisionRecord, Broken> {
    let revision: i64 = row.try_get("revision")?;
    let tables: String = row.try_get("tables")?;
    Ok(RevisionRecord {
        revision: Revision(u32::try_from(revision)?),
        digest: row.try_get("digest")?,
        definition: row.try_get("definition")?,
        tables: parse_schemas(&tables)?,
        created_at: moment(row.try_get("created_at")?)?,
    })
}

/// Reads the rollout.
pub(super) async fn load<E: From<Error>>(connection: &mut PgConnection) -> Result<Rollout, Stop<E>> {
    let row = sqlx::query(ROW).fetch_one(&mut *connection).await?;
    let revisions = sqlx::query(
        "SELECT revision, digest, definition, tables, created_at FROM hw_revisions ORDER BY revision",
    )
    .fetch_all(connection)
    .await?;
    let broken = |error: Broken| other(corrupt("the rollout", error));
    let revisions = revisions.iter().map(record).collect::<Result<_, _>>().map_err(broken)?;
    read(&row, revisions).map_err(broken)
}

/// Makes a change, with its tables and names.
pub(super) async fn change(
    connection: &mut PgConnection,
    version: RolloutVersion,
    change: &Change,
) -> Result<Rollout, Stop<ChangeError>> {
    // Held to the commit: batches and other changes wait.
    sqlx::query("SELECT version FROM hw_rollout FOR UPDATE").execute(&mut *connection).await?;
    let before: Rollout = load(connection).await?;
    if before.version != version {
        return Err(Stop::Other(ChangeError::Stale { found: before.version }));
    }
    let after = before.after(change, Timestamp::now()).map_err(|error| Stop::Other(error.into()))?;
    store(connection, &after).await?;
    rearrange(connection, &before, &after).await?;
    Ok(after)
}

async fn store(connection: &mut PgConnection, rollout: &Rollout) -> Result<(), Stop<ChangeError>> {
    let declared = rollout.declared.as_ref().map(serde_json::to_string).transpose();
    let declared =
        declared.map_err(|error| other(Error::internal(format!("writing the rollout: {error}"))))?;
    let number = |revision: Option<Revision>| revision.map(|revision| i64::from(revision.0));
    sqlx::query(
        "UPDATE hw_rollout SET version = $1, log_id = $2, partitions = $3, start = $4, active = $5, candidate = $6, previous = $7, \
         previous_until = $8, declared = $9, held_digest = $10, last_revision = $11",
    )
    .bind(rollout.version.0 as i64)
    .bind(rollout.log.map(|(log_id, _)| log_id.as_uuid()))
    .bind(rollout.log.map(|(_, count)| count.get() as i64))
    .bind(rollout.log.map(|(log_id, _)| Token::new(log_id, rollout.start.clone()).to_string()))
    .bind(number(rollout.active))
    .bind(number(rollout.candidate))
    .bind(number(rollout.previous.map(|previous| previous.revision)))
    .bind(rollout.previous.map(|previous| previous.until.as_microsecond()))
    .bind(declared)
    .bind(rollout.held_digest.as_deref())
    .bind(i64::from(rollout.last_revision))
    .execute(connection)
    .await?;
    Ok(())
}

/// Makes the tables and names what `after` says.
async fn rearrange(
    connection: &mut PgConnection,
    before: &Rollout,
    after: &Rollout,
) -> Result<(), Stop<ChangeError>> {
    let sql = |record: &RevisionRecord| -> Vec<TableSql> {
        record.tables.iter().map(|schema| TableSql::new(record.revision, schema.clone())).collect()
    };
    let mut statements = Vec::new();
    if before.active != after.active {
        statements
            .extend(before.active_record().map(sql).unwrap_or_default().iter().map(TableSql::drop_view));
    }
    for gone in before.revisions.iter().filter(|record| after.record(record.revision).is_none()) {
        sqlx::query("DELETE FROM hw_revisions WHERE revision = $1")
            .bind(i64::from(gone.revision.0))
            .execute(&mut *connection)
            .await?;
        statements.extend(sql(gone).iter().map(TableSql::drop));
    }
    for new in after.revisions.iter().filter(|record| before.record(record.revision).is_none()) {
        let tables = serde_json::to_string(&new.tables)
            .map_err(|error| other(Error::internal(format!("writing a revision's tables: {error}"))))?;
        sqlx::query(
            "INSERT INTO hw_revisions (revision, digest, definition, tables, created_at) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(i64::from(new.revision.0))
        .bind(&new.digest)
        .bind(&new.definition)
        .bind(tables)
        .bind(new.created_at.as_microsecond())
        .execute(&mut *connection)
        .await?;
        statements.extend(sql(new).iter().flat_map(TableSql::create));
    }
    if before.active != after.active {
        statements
            .extend(after.active_record().map(sql).unwrap_or_default().iter().map(TableSql::create_view));
    }
    for statement in statements {
        // Every name in it is quoted, and has been checked.
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The log's partitions and where revisions start in them.
pub(super) async fn starts<E: From<Error>>(
    connection: &mut PgConnection,
) -> Result<(u16, Positions), Stop<E>> {
    let (partitions, start): (Option<i64>, Option<String>) =
        sqlx::query_as("SELECT partitions, start FROM hw_rollout").fetch_one(connection).await?;
    start_of(partitions, start).map_err(other)
}

/// How many partitions there are, and where revisions start, as they are stored.
pub(super) fn start_of(partitions: Option<i64>, start: Option<String>) -> Result<(u16, Positions)> {
    let positions = match start {
        Some(token) => token.parse::<Token>()?.positions,
        None => Positions::default(),
    };
    let partitions = u16::try_from(partitions.unwrap_or(0)).map_err(|error| corrupt("the log", error))?;
    Ok((partitions, positions))
}
