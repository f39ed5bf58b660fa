//! The rollout's row, and what a change means for tables and names.

use headwater_core::{Error, LogId, PartitionCount, Positions, Result, Token};
use headwater_view::{
    Change, ChangeError, Previous, Revision, RevisionRecord, Rollout, RolloutVersion, TableSchema,
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::Inner;
use super::table::TableSql;

fn corrupt(what: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("reading {what} of the read model: {why}; rebuild it in an empty place"))
}

/// A stored moment.
pub(super) fn moment(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| corrupt("a moment", error))
}

/// Whether `revision` is there.
pub(super) fn exists(connection: &Connection, revision: Revision) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM hw_revisions WHERE revision = ?1")?.exists([revision.0])
}

/// The tables of `revision`.
pub(super) fn schemas(
    inner: &Inner,
    connection: &Connection,
    revision: Revision,
) -> Result<Vec<TableSchema>> {
    let text: String = connection
        .query_row("SELECT tables FROM hw_revisions WHERE revision = ?1", [revision.0], |row| row.get(0))
        .map_err(|error| inner.explain("reading", error))?;
    parse_schemas(&text)
}

fn parse_schemas(text: &str) -> Result<Vec<TableSchema>> {
    let schemas: Vec<TableSchema> =
        serde_json::from_str(text).map_err(|error| corrupt("a revision's tables", error))?;
    schemas.iter().try_for_each(TableSchema::check).map_err(|error| corrupt("a revision's tables", error))?;
    Ok(schemas)
}

/// The stored row, before its parts are checked.
struct Stored {
    version: i64,
    log_id: Option<Uuid>,
    partitions: Option<u32>,
    start: Option<String>,
    active: Option<u32>,
    candidate: Option<u32>,
    previous: Option<u32>,
    previous_until: Option<i64>,
    declared: Option<String>,
    held_digest: Option<String>,
    last_revision: u32,
}

impl Stored {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let log_id: Option<[u8; 16]> = row.get("log_id")?;
        Ok(Self {
            version: row.get("version")?,
            log_id: log_id.map(Uuid::from_bytes),
            partitions: row.get("partitions")?,
            start: row.get("start")?,
            active: row.get("active")?,
            candidate: row.get("candidate")?,
            previous: row.get("previous")?,
            previous_until: row.get("previous_until")?,
            declared: row.get("declared")?,
            held_digest: row.get("held_digest")?,
            last_revision: row.get("last_revision")?,
        })
    }
}

/// Reads the rollout.
pub(super) fn load(inner: &Inner, connection: &rusqlite::Transaction<'_>) -> Result<Rollout> {
    let explain = |error| inner.explain("reading", error);
    let stored = connection.query_row("SELECT * FROM hw_rollout", [], Stored::read).map_err(explain)?;
    let mut statement = connection
        .prepare_cached(
            "SELECT revision, digest, definition, tables, created_at FROM hw_revisions ORDER BY revision",
        )
        .map_err(explain)?;
    let mut rows = statement.query([]).map_err(explain)?;
    let mut revisions = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        let read = || -> rusqlite::Result<(u32, String, String, String, i64)> {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        };
        let (revision, digest, definition, tables, created_at) = read().map_err(explain)?;
        revisions.push(RevisionRecord {
            revision: Revision(revision),
            digest,
            definition,
            tables: parse_schemas(&tables)?,
            created_at: moment(created_at)?,
        });
    }
    let log = match (stored.log_id, stored.partitions) {
        (Some(id), Some(count)) => Some((
            LogId::from_uuid(id),
            PartitionCount::new(count).map_err(|error| corrupt("the log", error))?,
        )),
        _ => None,
    };
    let start = match &stored.start {
        Some(token) => token.parse::<Token>().map_err(|error| corrupt("the start", error))?.positions,
        None => Positions::default(),
    };
    let previous = match (stored.previous, stored.previous_until) {
        (Some(revision), Some(until)) => {
            Some(Previous { revision: Revision(revision), until: moment(until)? })
        }
        _ => None,
    };
    Ok(Rollout {
        version: RolloutVersion(stored.version as u64),
        log,
        start,
        active: stored.active.map(Revision),
        candidate: stored.candidate.map(Revision),
        previous,
        declared: stored
            .declared
            .as_deref()
            .map(serde_json::from_str)
            .transpose()
            .map_err(|error| corrupt("the spec that decides", error))?,
        held_digest: stored.held_digest,
        last_revision: stored.last_revision,
        revisions,
    })
}

/// Makes a change, with its tables and names.
pub(super) fn change(
    inner: &Inner,
    transaction: &rusqlite::Transaction<'_>,
    version: RolloutVersion,
    change: &Change,
) -> Result<Rollout, ChangeError> {
    let before = load(inner, transaction)?;
    if before.version != version {
        return Err(ChangeError::Stale { found: before.version });
    }
    let after = before.after(change, Timestamp::now())?;
    let declared = after.declared.as_ref().map(serde_json::to_string).transpose();
    let declared = declared.map_err(|error| Error::internal(format!("writing the rollout: {error}")))?;
    store(transaction, &after, declared).map_err(|error| inner.explain("writing", error))?;
    rearrange(inner, transaction, &before, &after)?;
    Ok(after)
}

fn store(
    transaction: &rusqlite::Transaction<'_>,
    rollout: &Rollout,
    declared: Option<String>,
) -> rusqlite::Result<()> {
    let start = rollout.log.map(|(log_id, _)| Token::new(log_id, rollout.start.clone()).to_string());
    transaction
        .prepare_cached(
            "UPDATE hw_rollout SET version = ?1, log_id = ?2, partitions = ?3, start = ?4, active = ?5, candidate = ?6, previous = ?7, \
             previous_until = ?8, declared = ?9, held_digest = ?10, last_revision = ?11",
        )?
        .execute(params![
            rollout.version.0 as i64,
            rollout.log.map(|(log_id, _)| log_id.as_uuid().into_bytes()),
            rollout.log.map(|(_, count)| count.get() as i64),
            start,
            rollout.active.map(|revision| revision.0),
            rollout.candidate.map(|revision| revision.0),
            rollout.previous.map(|previous| previous.revision.0),
            rollout.previous.map(|previous| previous.until.as_microsecond()),
            declared,
            rollout.held_digest,
            rollout.last_revision,
        ])?;
    Ok(())
}

/// Makes the tables and names what `after` says.
fn rearrange(
    inner: &Inner,
    transaction: &rusqlite::Transaction<'_>,
    before: &Rollout,
    after: &Rollout,
) -> Result<()> {
    let explain = |error| inner.explain("writing", error);
    let sql = |record: &RevisionRecord| -> Vec<TableSql> {
        record.tables.iter().map(|schema| TableSql::new(record.revision, schema.clone())).collect()
    };
    let mut script = String::new();
    if before.active != after.active {
        for table in before.active_record().map(sql).unwrap_or_default() {
            script.push_str(&table.drop_view());
        }
        for table in after.active_record().map(sql).unwrap_or_default() {
            script.push_str(&table.create_view());
        }
    }
    for gone in before.revisions.iter().filter(|record| after.record(record.revision).is_none()) {
        transaction
            .execute("DELETE FROM hw_revisions WHERE revision = ?1", [gone.revision.0])
            .map_err(explain)?;
        for table in sql(gone) {
            script.push_str(&table.drop());
        }
    }
    for new in after.revisions.iter().filter(|record| before.record(record.revision).is_none()) {
        let tables = serde_json::to_string(&new.tables)
            .map_err(|error| Error::internal(format!("writing a revision's tables: {error}")))?;
        transaction
            .execute(
                "INSERT INTO hw_revisions (revision, digest, definition, tables, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![new.revision.0, new.digest, new.definition, tables, new.created_at.as_microsecond()],
            )
            .map_err(explain)?;
        for table in sql(new) {
            script.push_str(&table.create());
        }
    }
    transaction.execute_batch(&script).map_err(explain)
}

/// The log's partitions and where revisions start in them.
pub(super) fn starts(connection: &Connection) -> rusqlite::Result<(Option<u32>, Option<String>)> {
    connection
        .prepare_cached("SELECT partitions, start FROM hw_rollout")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map(Option::unwrap_or_default)
}
