//! What workers load and apply.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use headwater_core::{Error, Partition, Position, Positions, Result, StreamId};
use headwater_view::{
    Advance, ApplyError, Batch, Cell, Decisions, Key, Load, LoadedRow, ParkChange, ParkVersion,
    PartitionState, Progress, Revision, Row, RowState, RowVersion, RowWrite, Writers, Written,
};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use uuid::Uuid;

use super::cells::Column;
use super::table::TableSql;
use super::{Broken, PostgresView, Stop, cells, other, parked, rollout};
use crate::stamps::{decode_stamps, encode_stamps};

type Stored = (i64, i64, Option<i64>, i64, i64);

fn progress_of((partition, position, recorded_at, parked, skipped): Stored) -> Result<Progress> {
    Ok(Progress {
        partition: Partition::new(partition as u16),
        position: Position::new(position as u64),
        recorded_at: recorded_at.map(rollout::moment).transpose()?,
        parked: parked as u64,
        skipped: skipped as u64,
    })
}

/// Where a partition stands that no batch has moved.
fn unmoved(partition: Partition, start: &Positions) -> Progress {
    Progress { partition, position: start.get(partition), recorded_at: None, parked: 0, skipped: 0 }
}

async fn checkpoint<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
    partition: Partition,
) -> Result<Progress, Stop<E>> {
    match moved(connection, revision, partition).await? {
        Some(progress) => Ok(progress),
        None => Ok(unmoved(partition, &rollout::starts(connection).await?.1)),
    }
}

/// Where a partition stands, if a batch has moved it.
async fn moved<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
    partition: Partition,
) -> Result<Option<Progress>, Stop<E>> {
    let found: Option<Stored> = sqlx::query_as(
        "SELECT partition, position, recorded_at, parked, skipped FROM hw_checkpoints WHERE revision = $1 AND partition = $2",
    )
    .bind(i64::from(revision.0))
    .bind(i64::from(partition.get()))
    .fetch_optional(connection)
    .await?;
    found.map(progress_of).transpose().map_err(other)
}

/// What a snapshot says of a revision that is there.
pub(super) struct Standing {
    pub(super) active: Option<i64>,
    /// By partition.
    pub(super) progress: Vec<Progress>,
}

/// In one round trip: every query asks for it. `Err`: the revision is not there, and this one is active.
pub(super) async fn standing<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
) -> Result<Result<Standing, Option<i64>>, Stop<E>> {
    let rows = sqlx::query(
        "SELECT r.active, r.partitions, r.start, EXISTS (SELECT 1 FROM hw_revisions WHERE revision = $1), \
         c.partition, c.position, c.recorded_at, c.parked, c.skipped \
         FROM hw_rollout AS r LEFT JOIN hw_checkpoints AS c ON c.revision = $1",
    )
    .bind(i64::from(revision.0))
    .fetch_all(connection)
    .await?;
    let first = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let active: Option<i64> = first.try_get(0)?;
    if !first.try_get::<bool, _>(3)? {
        return Ok(Err(active));
    }
    let (partitions, start) = rollout::start_of(first.try_get(1)?, first.try_get(2)?).map_err(other)?;
    let mut progress: Vec<Progress> =
        (0..partitions).map(|number| unmoved(Partition::new(number), &start)).collect();
    for row in &rows {
        let Some(partition) = row.try_get::<Option<i64>, _>(4)? else { break };
        let stored = (partition, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, row.try_get(8)?);
        let moved = progress_of(stored).map_err(other)?;
        if let Some(known) = progress.get_mut(moved.partition.index()) {
            *known = moved;
        }
    }
    Ok(Ok(Standing { active, progress }))
}

pub(super) async fn progress<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
) -> Result<Vec<Progress>, Stop<E>> {
    match standing(connection, revision).await? {
        Ok(standing) => Ok(standing.progress),
        Err(_) => Err(no_revision(revision)),
    }
}

pub(super) fn no_revision<E: From<Error>>(revision: Revision) -> Stop<E> {
    other(Error::not_found(format!("there is no revision {revision}")))
}

pub(super) async fn require<E: From<Error>>(
    connection: &mut PgConnection,
    revision: Revision,
) -> Result<(), Stop<E>> {
    if rollout::exists(connection, revision).await? { Ok(()) } else { Err(no_revision(revision)) }
}

pub(super) async fn partition(
    connection: &mut PgConnection,
    revision: Revision,
    partition: Partition,
) -> Result<PartitionState, Stop<ApplyError>> {
    if !rollout::exists(connection, revision).await? {
        return Err(Stop::Other(ApplyError::Gone { revision }));
    }
    let progress = checkpoint(connection, revision, partition).await?;
    let streams: Vec<(String, i64)> = sqlx::query_as(
        "SELECT stream_id, version FROM hw_parked_streams WHERE revision = $1 AND partition = $2",
    )
    .bind(i64::from(revision.0))
    .bind(i64::from(partition.get()))
    .fetch_all(&mut *connection)
    .await?;
    let mut parked = HashMap::with_capacity(streams.len());
    for (id, version) in streams {
        parked.insert(StreamId::new(id).map_err(other)?, ParkVersion(version as u64));
    }
    let skips: Vec<Uuid> =
        sqlx::query_scalar("SELECT event_id FROM hw_skips").fetch_all(&mut *connection).await?;
    let decisions: i64 = sqlx::query_scalar("SELECT decisions FROM hw_rollout").fetch_one(connection).await?;
    Ok(PartitionState {
        progress,
        parked,
        skips: skips.into_iter().collect::<HashSet<_>>(),
        decisions: Decisions(decisions as u64),
    })
}

pub(super) async fn load(
    view: &PostgresView,
    connection: &mut PgConnection,
    load: &Load,
) -> Result<Vec<Vec<LoadedRow>>, Stop<ApplyError>> {
    let gone = || Stop::Other(ApplyError::Gone { revision: load.revision });
    let tables = view.tables(connection, load.revision).await?.ok_or_else(gone)?;
    let mut all = Vec::with_capacity(load.rows.len());
    for (number, keys) in &load.rows {
        let table = table_at(&tables, *number).map_err(other)?;
        let mut rows: Vec<LoadedRow> = vec![None; keys.len()];
        let mut statement = sqlx::query(AssertSqlSafe(table.select.as_str()));
        for column in key_columns(table, keys.iter()) {
            statement = column.bind(statement);
        }
        for row in statement.fetch_all(&mut *connection).await? {
            let (at, loaded) = loaded(&row, table).map_err(|error| {
                other(Error::corrupt(format!(
                    "reading a row of table {}: {error}; rebuild the projection",
                    table.schema.name
                )))
            })?;
            if let Some(slot) = rows.get_mut(at) {
                *slot = Some(loaded);
            }
        }
        all.push(rows);
    }
    Ok(all)
}

fn table_at(tables: &[TableSql], number: usize) -> Result<&TableSql> {
    tables.get(number).ok_or_else(|| Error::internal(format!("the revision has no table number {number}")))
}

/// The row's number among those asked for, and what it is.
fn loaded(row: &PgRow, table: &TableSql) -> Result<(usize, (RowState, RowVersion)), Broken> {
    let number: i64 = row.try_get(0)?;
    let version = RowVersion(row.try_get::<i64, _>(1)? as u64);
    let extra = 2 + table.schema.columns.len();
    let mut writer = None;
    let mut stamps = Vec::new();
    match table.schema.writers {
        Writers::Free => {}
        Writers::OneStream => {
            let id = StreamId::new(row.try_get::<String, _>(extra)?)?;
            if !row.try_get::<bool, _>(extra + 1)? {
                return Ok(((number - 1) as usize, (RowState::Deleted { writer: id }, version)));
            }
            writer = Some(id);
        }
        Writers::ManyStreams => stamps = decode_stamps(row.try_get::<&[u8], _>(extra)?)?,
    }
    let cells = row_cells(row, 2, table)?;
    Ok(((number - 1) as usize, (RowState::Live(Row { cells, writer, stamps }), version)))
}

/// The cells of a row as `columns` order them, from the column `first` on.
pub(super) fn row_cells(row: &PgRow, first: usize, table: &TableSql) -> Result<Vec<Cell>> {
    let columns = table.schema.columns.iter().enumerate();
    columns.map(|(number, column)| cells::parse(row, first + number, column.column_type)).collect()
}

fn key_columns<'k>(table: &TableSql, keys: impl Iterator<Item = &'k Key>) -> Vec<Column> {
    let types = table.schema.key.iter().map(|column| table.schema.columns[*column].column_type);
    let mut columns: Vec<Column> = types.map(Column::of).collect();
    for key in keys {
        for (column, cell) in columns.iter_mut().zip(key.cells()) {
            column.push(cell);
        }
    }
    columns
}

pub(super) async fn apply(
    view: &PostgresView,
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<Written, Stop<ApplyError>> {
    let revision = batch.revision;
    // Held to the commit: no other batch, and no change of the rollout, comes between.
    let (version, decisions): (i64, i64) =
        sqlx::query_as("UPDATE hw_rollout SET writes = writes + 1 RETURNING writes, decisions")
            .fetch_one(&mut *connection)
            .await?;
    let (version, decisions) = (version as u64, Decisions(decisions as u64));
    let gone = || Stop::Other(ApplyError::Gone { revision });
    let mut progress: BTreeMap<Partition, Progress> = BTreeMap::new();
    let tables = if let Some(advance) = &batch.advance {
        // A revision that has a checkpoint is there.
        progress.insert(advance.partition, advanced(connection, revision, advance).await?);
        view.tables_of(connection, revision).await?
    } else {
        view.tables(connection, revision).await?.ok_or_else(gone)?
    };
    if decisions != batch.decisions {
        return Err(conflict("the list of skipped events".to_owned()));
    }
    write_rows(connection, &tables, &batch.rows, version).await?;

    for park in &batch.parks {
        let progress = match progress.entry(park.partition) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(checkpoint(connection, revision, park.partition).await?),
        };
        let change = parked::park(connection, revision, park, version).await?;
        let change = change
            .ok_or_else(|| conflict(format!("the list of parked events of stream \"{}\"", park.stream_id)))?;
        progress.parked = progress.parked.saturating_add_signed(change);
        if let ParkChange::Release { skipped, .. } = park.change {
            progress.skipped += skipped;
        }
    }
    let mut new_skips = 0;
    for skip in &batch.skips {
        new_skips += sqlx::query(
            "INSERT INTO hw_skips (event_id, partition, position, at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(skip.id)
        .bind(i64::from(skip.partition.get()))
        .bind(skip.position.get() as i64)
        .bind(Timestamp::now().as_microsecond())
        .execute(&mut *connection)
        .await?
        .rows_affected();
    }
    if new_skips > 0 {
        sqlx::query("UPDATE hw_rollout SET decisions = decisions + $1")
            .bind(new_skips as i64)
            .execute(&mut *connection)
            .await?;
    }
    for progress in progress.values() {
        store_checkpoint(connection, revision, progress).await?;
    }
    Ok(Written { version, decisions: Decisions(decisions.0 + new_skips) })
}

fn conflict(what: String) -> Stop<ApplyError> {
    Stop::Other(ApplyError::Conflict { what })
}

/// The compare of the checkpoint's compare-and-set.
async fn advanced(
    connection: &mut PgConnection,
    revision: Revision,
    advance: &Advance,
) -> Result<Progress, Stop<ApplyError>> {
    let mut progress = match moved(connection, revision, advance.partition).await? {
        Some(progress) => progress,
        None if rollout::exists(connection, revision).await? => {
            unmoved(advance.partition, &rollout::starts(connection).await?.1)
        }
        None => return Err(Stop::Other(ApplyError::Gone { revision })),
    };
    if progress.position != advance.from {
        return Err(Stop::Other(ApplyError::Checkpoint { found: progress.position }));
    }
    progress.position = advance.to;
    progress.recorded_at = advance.recorded_at.or(progress.recorded_at);
    progress.skipped += advance.skipped;
    Ok(progress)
}

async fn store_checkpoint(
    connection: &mut PgConnection,
    revision: Revision,
    progress: &Progress,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO hw_checkpoints (revision, partition, position, recorded_at, parked, skipped) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (revision, partition) DO UPDATE SET position = excluded.position, recorded_at = excluded.recorded_at, \
         parked = excluded.parked, skipped = excluded.skipped",
    )
    .bind(i64::from(revision.0))
    .bind(i64::from(progress.partition.get()))
    .bind(progress.position.get() as i64)
    .bind(progress.recorded_at.map(Timestamp::as_microsecond))
    .bind(progress.parked as i64)
    .bind(progress.skipped as i64)
    .execute(connection)
    .await
    .map(drop)
}

/// The writes of one table, by what they do.
#[derive(Default)]
struct Writes<'b> {
    inserts: Vec<(&'b Key, &'b RowState)>,
    updates: Vec<(&'b Key, &'b RowState, RowVersion)>,
    deletes: Vec<(&'b Key, RowVersion)>,
    absent: Vec<&'b Key>,
}

/// Writes rows, each under the version that it was computed from: a statement for each table and kind.
async fn write_rows(
    connection: &mut PgConnection,
    tables: &[TableSql],
    rows: &[RowWrite],
    version: u64,
) -> Result<(), Stop<ApplyError>> {
    let mut by_table: BTreeMap<usize, Writes<'_>> = BTreeMap::new();
    for row in rows {
        let writes = by_table.entry(row.table).or_default();
        match (&row.state, row.expected) {
            (Some(state), None) => writes.inserts.push((&row.key, state)),
            (Some(state), Some(expected)) => writes.updates.push((&row.key, state, expected)),
            (None, Some(expected)) => writes.deletes.push((&row.key, expected)),
            (None, None) => writes.absent.push(&row.key),
        }
    }
    for (number, writes) in by_table {
        let table = table_at(tables, number).map_err(other)?;
        let Writes { inserts, updates, deletes, absent } = writes;
        let changed = |changed: u64, wanted: usize| {
            if changed == wanted as u64 {
                Ok(())
            } else {
                Err(conflict(format!("a row of table {}", table.schema.name)))
            }
        };
        if !inserts.is_empty() {
            let mut statement = sqlx::query(AssertSqlSafe(table.insert.as_str()));
            for column in row_columns(table, inserts.iter().copied()) {
                statement = column.bind(statement);
            }
            let done = statement.bind(version as i64).execute(&mut *connection).await?;
            changed(done.rows_affected(), inserts.len())?;
        }
        if !updates.is_empty() {
            let mut statement = sqlx::query(AssertSqlSafe(table.update.as_str()));
            for column in row_columns(table, updates.iter().map(|(key, state, _)| (*key, *state))) {
                statement = column.bind(statement);
            }
            let expected: Vec<i64> = updates.iter().map(|(.., expected)| expected.0 as i64).collect();
            let done = statement.bind(version as i64).bind(expected).execute(&mut *connection).await?;
            changed(done.rows_affected(), updates.len())?;
        }
        if !deletes.is_empty() {
            let mut statement = sqlx::query(AssertSqlSafe(table.delete.as_str()));
            for column in key_columns(table, deletes.iter().map(|(key, _)| *key)) {
                statement = column.bind(statement);
            }
            let expected: Vec<i64> = deletes.iter().map(|(_, expected)| expected.0 as i64).collect();
            let done = statement.bind(expected).execute(&mut *connection).await?;
            changed(done.rows_affected(), deletes.len())?;
        }
        if !absent.is_empty() {
            let mut statement = sqlx::query(AssertSqlSafe(table.count.as_str()));
            for column in key_columns(table, absent.into_iter()) {
                statement = column.bind(statement);
            }
            let there: i64 = statement.fetch_one(&mut *connection).await?.try_get(0)?;
            changed(there as u64, 0)?;
        }
    }
    Ok(())
}

/// Rows as `insert` and `update` want them.
fn row_columns<'b>(table: &TableSql, rows: impl Iterator<Item = (&'b Key, &'b RowState)>) -> Vec<Column> {
    let schema = &table.schema;
    let mut columns: Vec<Column> =
        schema.columns.iter().map(|column| Column::of(column.column_type)).collect();
    let (mut writers, mut live, mut stamps) = (Vec::new(), Vec::new(), Vec::new());
    for (key, state) in rows {
        for (number, column) in columns.iter_mut().enumerate() {
            // A key's cells are stored as the key has them, so that they are found again.
            let of_key = schema.key.iter().position(|column| *column == number).map(|at| &key.cells()[at]);
            let cell = match state {
                RowState::Live(row) => of_key.unwrap_or(&row.cells[number]),
                RowState::Deleted { .. } => of_key.unwrap_or(&Cell::Null),
            };
            column.push(cell);
        }
        match state {
            RowState::Live(row) => {
                writers.push(row.writer.as_ref().map(ToString::to_string));
                live.push(Some(true));
                stamps.push(Some(encode_stamps(&row.stamps)));
            }
            RowState::Deleted { writer } => {
                writers.push(Some(writer.to_string()));
                live.push(Some(false));
                stamps.push(None);
            }
        }
    }
    match schema.writers {
        Writers::Free => {}
        Writers::OneStream => columns.extend([Column::Text(writers), Column::Boolean(live)]),
        Writers::ManyStreams => columns.push(Column::Bytes(stamps)),
    }
    columns
}
