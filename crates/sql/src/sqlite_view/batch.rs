//! What workers load and apply.

use std::collections::{HashMap, HashSet};

use headwater_core::{Error, Partition, Position, Positions, Result, StreamId, Token};
use headwater_view::{
    Advance, ApplyError, Batch, Cell, Decisions, Key, Load, LoadedRow, ParkChange, ParkVersion,
    PartitionState, Progress, Revision, Row, RowState, RowVersion, RowWrite, Writers, Written,
};
use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::table::TableSql;
use super::{Inner, cells, parked, rollout};
use crate::stamps::{decode_stamps, encode_stamps};

/// Where a partition stands that no batch has moved.
fn start(inner: &Inner, snapshot: &Transaction<'_>) -> Result<(u32, Positions)> {
    let (partitions, start) = rollout::starts(snapshot).map_err(|error| inner.explain("reading", error))?;
    let positions = match start {
        Some(token) => token.parse::<Token>()?.positions,
        None => Positions::default(),
    };
    Ok((partitions.unwrap_or(0), positions))
}

fn checkpoint(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    revision: Revision,
    partition: Partition,
) -> Result<Progress> {
    let explain = |error| inner.explain("reading", error);
    let found = snapshot
        .prepare_cached("SELECT position, recorded_at, parked, skipped FROM hw_checkpoints WHERE revision = ?1 AND partition = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![revision.0, partition.get()], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
                })
                .optional()
        })
        .map_err(explain)?;
    let Some((position, recorded_at, parked, skipped)) = found else {
        let position = start(inner, snapshot)?.1.get(partition);
        return Ok(Progress { partition, position, recorded_at: None, parked: 0, skipped: 0 });
    };
    Ok(Progress {
        partition,
        position: Position::new(position as u64),
        recorded_at: recorded_at.map(rollout::moment).transpose()?,
        parked: parked as u64,
        skipped: skipped as u64,
    })
}

fn gone(revision: Revision) -> Error {
    Error::not_found(format!("there is no revision {revision}"))
}

pub(super) fn require(inner: &Inner, snapshot: &Transaction<'_>, revision: Revision) -> Result<()> {
    let is_there = rollout::exists(snapshot, revision).map_err(|error| inner.explain("reading", error))?;
    if is_there { Ok(()) } else { Err(gone(revision)) }
}

pub(super) fn progress(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    revision: Revision,
) -> Result<Vec<Progress>> {
    require(inner, snapshot, revision)?;
    let (partitions, _) = start(inner, snapshot)?;
    (0..partitions)
        .map(|partition| checkpoint(inner, snapshot, revision, Partition::new(partition as u16)))
        .collect()
}

pub(super) fn partition(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    revision: Revision,
    partition: Partition,
) -> Result<PartitionState, ApplyError> {
    if !rollout::exists(snapshot, revision).map_err(|error| inner.explain("reading", error))? {
        return Err(ApplyError::Gone { revision });
    }
    let progress = checkpoint(inner, snapshot, revision, partition)?;
    let read = || -> rusqlite::Result<_> {
        let mut parked = HashMap::new();
        let mut statement = snapshot.prepare_cached(
            "SELECT stream_id, version FROM hw_parked_streams WHERE revision = ?1 AND partition = ?2",
        )?;
        let mut rows = statement.query(params![revision.0, partition.get()])?;
        while let Some(row) = rows.next()? {
            parked.insert(row.get::<_, String>(0)?, ParkVersion(row.get::<_, i64>(1)? as u64));
        }
        let mut statement = snapshot.prepare_cached("SELECT event_id FROM hw_skips")?;
        let skips = statement
            .query_map([], |row| row.get::<_, [u8; 16]>(0).map(Uuid::from_bytes))?
            .collect::<rusqlite::Result<HashSet<_>>>()?;
        let decisions: i64 =
            snapshot.prepare_cached("SELECT decisions FROM hw_rollout")?.query_row([], |row| row.get(0))?;
        Ok((parked, skips, Decisions(decisions as u64)))
    };
    let (parked, skips, decisions) = read().map_err(|error| inner.explain("reading", error))?;
    let parked =
        parked.into_iter().map(|(id, version)| Ok((StreamId::new(id)?, version))).collect::<Result<_>>()?;
    Ok(PartitionState { progress, parked, skips, decisions })
}

pub(super) fn load(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    load: &Load,
) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
    let tables =
        inner.tables(snapshot, load.revision)?.ok_or(ApplyError::Gone { revision: load.revision })?;
    let mut all = Vec::with_capacity(load.rows.len());
    for (number, keys) in &load.rows {
        let table = table_at(&tables, *number)?;
        let mut statement =
            snapshot.prepare_cached(&table.select).map_err(|error| inner.explain("reading", error))?;
        let rows =
            keys.iter().map(|key| load_row(inner, &mut statement, table, key)).collect::<Result<_>>()?;
        all.push(rows);
    }
    Ok(all)
}

fn table_at(tables: &[TableSql], number: usize) -> Result<&TableSql> {
    tables.get(number).ok_or_else(|| Error::internal(format!("the revision has no table number {number}")))
}

fn bind_key(key: &Key) -> impl Iterator<Item = ToSqlOutput<'_>> {
    key.cells().iter().map(cells::bind)
}

fn load_row(
    inner: &Inner,
    statement: &mut CachedStatement<'_>,
    table: &TableSql,
    key: &Key,
) -> Result<LoadedRow> {
    let explain = |error| inner.explain("reading", error);
    let mut rows = statement.query(rusqlite::params_from_iter(bind_key(key))).map_err(explain)?;
    let Some(row) = rows.next().map_err(explain)? else { return Ok(None) };
    let version = RowVersion(row.get::<_, i64>(0).map_err(explain)? as u64);
    let columns = &table.schema.columns;
    let extra = columns.len() + 1;
    let mut writer = None;
    let mut stamps = Vec::new();
    match table.schema.writers {
        Writers::Free => {}
        Writers::OneStream => {
            let id = StreamId::new(row.get::<_, String>(extra).map_err(explain)?)?;
            if !row.get::<_, bool>(extra + 1).map_err(explain)? {
                return Ok(Some((RowState::Deleted { writer: id }, version)));
            }
            writer = Some(id);
        }
        Writers::ManyStreams => match row.get_ref(extra).map_err(explain)? {
            ValueRef::Blob(bytes) => stamps = decode_stamps(bytes)?,
            _ => stamps = decode_stamps(&[])?,
        },
    }
    let mut found = Vec::with_capacity(columns.len());
    for (number, column) in columns.iter().enumerate() {
        found.push(cells::parse(row.get_ref(number + 1).map_err(explain)?, column.column_type)?);
    }
    Ok(Some((RowState::Live(Row { cells: found, writer, stamps }), version)))
}

pub(super) fn apply(
    inner: &Inner,
    transaction: &Transaction<'_>,
    batch: &Batch,
) -> Result<Written, ApplyError> {
    let explain = |error| ApplyError::Failed(inner.explain("writing", error));
    let revision = batch.revision;
    let tables = inner.tables(transaction, revision)?.ok_or(ApplyError::Gone { revision })?;
    let (version, decisions) = count(transaction).map_err(explain)?;
    let mut progress: HashMap<Partition, Progress> = HashMap::new();
    if let Some(advance) = &batch.advance {
        progress.insert(advance.partition, advanced(inner, transaction, revision, advance)?);
    }
    if decisions != batch.decisions {
        return Err(ApplyError::Conflict { what: "the list of skipped events".to_owned() });
    }
    write_rows(inner, transaction, &tables, &batch.rows, version)?;

    let mut touched = |partition| -> Result<(), ApplyError> {
        if let std::collections::hash_map::Entry::Vacant(entry) = progress.entry(partition) {
            entry.insert(checkpoint(inner, transaction, revision, partition)?);
        }
        Ok(())
    };
    for partition in batch.parks.iter().map(|park| park.partition) {
        touched(partition)?;
    }
    for write in &batch.parks {
        let change = parked::park(transaction, revision, write, version).map_err(explain)?;
        let change = change.ok_or_else(|| ApplyError::Conflict {
            what: format!("the list of parked events of stream \"{}\"", write.stream_id),
        })?;
        if let Some(progress) = progress.get_mut(&write.partition) {
            progress.parked = progress.parked.saturating_add_signed(change);
            if let ParkChange::Release { skipped, .. } = write.change {
                progress.skipped += skipped;
            }
        }
    }
    let mut new_skips = 0;
    for skip in &batch.skips {
        new_skips += transaction
            .prepare_cached("INSERT INTO hw_skips (event_id, partition, position, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING")
            .and_then(|mut statement| {
                let at = Timestamp::now().as_microsecond();
                statement.execute(params![skip.id.into_bytes(), skip.partition.get(), skip.position.get() as i64, at])
            })
            .map_err(explain)? as u64;
    }
    if new_skips > 0 {
        transaction
            .execute("UPDATE hw_rollout SET decisions = decisions + ?1", [new_skips as i64])
            .map_err(explain)?;
    }
    for progress in progress.values() {
        store_checkpoint(transaction, revision, progress).map_err(explain)?;
    }
    Ok(Written { version, decisions: Decisions(decisions.0 + new_skips) })
}

/// Counts the batch, and answers its number and the last decision's.
fn count(transaction: &Transaction<'_>) -> rusqlite::Result<(u64, Decisions)> {
    transaction
        .prepare_cached("UPDATE hw_rollout SET writes = writes + 1 RETURNING writes, decisions")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)? as u64, Decisions(row.get::<_, i64>(1)? as u64))))
}

/// The compare of the checkpoint's compare-and-set.
fn advanced(
    inner: &Inner,
    transaction: &Transaction<'_>,
    revision: Revision,
    advance: &Advance,
) -> Result<Progress, ApplyError> {
    let mut progress = checkpoint(inner, transaction, revision, advance.partition)?;
    if progress.position != advance.from {
        return Err(ApplyError::Checkpoint { found: progress.position });
    }
    progress.position = advance.to;
    progress.recorded_at = advance.recorded_at.or(progress.recorded_at);
    progress.skipped += advance.skipped;
    Ok(progress)
}

fn store_checkpoint(
    transaction: &Transaction<'_>,
    revision: Revision,
    progress: &Progress,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO hw_checkpoints (revision, partition, position, recorded_at, parked, skipped) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (revision, partition) DO UPDATE SET position = excluded.position, recorded_at = excluded.recorded_at, \
             parked = excluded.parked, skipped = excluded.skipped",
        )?
        .execute(params![
            revision.0,
            progress.partition.get(),
            progress.position.get() as i64,
            progress.recorded_at.map(Timestamp::as_microsecond),
            progress.parked as i64,
            progress.skipped as i64,
        ])?;
    Ok(())
}

/// Writes rows, each under the version that it was computed from.
fn write_rows(
    inner: &Inner,
    transaction: &Transaction<'_>,
    tables: &[TableSql],
    writes: &[RowWrite],
    version: u64,
) -> Result<(), ApplyError> {
    let explain = |error| ApplyError::Failed(inner.explain("writing", error));
    // Statements are borrowed once a table and not once a row.
    let mut statements: Vec<Option<Statements<'_>>> = tables.iter().map(|_| None).collect();
    for write in writes {
        let table = table_at(tables, write.table)?;
        let slot = &mut statements[write.table];
        let statements = match slot {
            Some(statements) => statements,
            None => slot.insert(Statements::prepare(transaction, table).map_err(explain)?),
        };
        let changed = match (&write.state, write.expected) {
            (Some(state), None) => {
                bind_row(&mut statements.insert, table, &write.key, state, version).map_err(explain)?;
                statements.insert.raw_execute().map_err(explain)?
            }
            (Some(state), Some(expected)) => {
                let next =
                    bind_row(&mut statements.update, table, &write.key, state, version).map_err(explain)?;
                bind_expected(&mut statements.update, next, &write.key, expected).map_err(explain)?;
                statements.update.raw_execute().map_err(explain)?
            }
            (None, Some(expected)) => {
                bind_expected(&mut statements.delete, 1, &write.key, expected).map_err(explain)?;
                statements.delete.raw_execute().map_err(explain)?
            }
            (None, None) => {
                let absent = !statements
                    .select
                    .exists(rusqlite::params_from_iter(bind_key(&write.key)))
                    .map_err(explain)?;
                usize::from(absent)
            }
        };
        if changed == 0 {
            return Err(ApplyError::Conflict {
                what: format!("row {} of table {}", write.key, table.schema.name),
            });
        }
    }
    Ok(())
}

struct Statements<'a> {
    select: CachedStatement<'a>,
    insert: CachedStatement<'a>,
    update: CachedStatement<'a>,
    delete: CachedStatement<'a>,
}

impl<'a> Statements<'a> {
    fn prepare(transaction: &'a Transaction<'_>, table: &TableSql) -> rusqlite::Result<Self> {
        Ok(Self {
            select: transaction.prepare_cached(&table.select)?,
            insert: transaction.prepare_cached(&table.insert)?,
            update: transaction.prepare_cached(&table.update)?,
            delete: transaction.prepare_cached(&table.delete)?,
        })
    }
}

/// Binds a row as `insert` and `update` want it, and answers the number of the next parameter.
fn bind_row(
    statement: &mut CachedStatement<'_>,
    table: &TableSql,
    key: &Key,
    state: &RowState,
    version: u64,
) -> rusqlite::Result<usize> {
    let schema = &table.schema;
    let mut next = 1;
    let mut bind = |value: ToSqlOutput<'_>| {
        next += 1;
        statement.raw_bind_parameter(next - 1, value)
    };
    match state {
        RowState::Live(row) => {
            for (number, cell) in row.cells.iter().enumerate() {
                // A key's cells are stored as the key has them, so that they are found again.
                let of_key = schema.key.iter().position(|column| *column == number);
                bind(cells::bind(of_key.map_or(cell, |at| &key.cells()[at])))?;
            }
        }
        RowState::Deleted { .. } => {
            for number in 0..schema.columns.len() {
                let of_key = schema.key.iter().position(|column| *column == number);
                bind(of_key.map_or(ToSqlOutput::Owned(Value::Null), |at| cells::bind(&key.cells()[at])))?;
            }
        }
    }
    bind(ToSqlOutput::Owned(Value::Integer(version as i64)))?;
    match (schema.writers, state) {
        (Writers::Free, _) => {}
        (Writers::OneStream, RowState::Live(row)) => {
            bind(row.writer.as_ref().map_or(ToSqlOutput::Owned(Value::Null), text))?;
            bind(ToSqlOutput::Owned(Value::Integer(1)))?;
        }
        (Writers::OneStream, RowState::Deleted { writer }) => {
            bind(text(writer))?;
            bind(ToSqlOutput::Owned(Value::Integer(0)))?;
        }
        (Writers::ManyStreams, RowState::Live(row)) => {
            bind(ToSqlOutput::Owned(Value::Blob(encode_stamps(&row.stamps))))?;
        }
        (Writers::ManyStreams, RowState::Deleted { .. }) => {
            bind(ToSqlOutput::Owned(Value::Null))?;
        }
    }
    Ok(next)
}

fn text(stream_id: &StreamId) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(ValueRef::Text(stream_id.as_str().as_bytes()))
}

fn bind_expected(
    statement: &mut CachedStatement<'_>,
    first: usize,
    key: &Key,
    expected: RowVersion,
) -> rusqlite::Result<()> {
    for (number, value) in bind_key(key).enumerate() {
        statement.raw_bind_parameter(first + number, value)?;
    }
    statement.raw_bind_parameter(first + key.cells().len(), expected.0 as i64)
}

/// The cells of a row as `columns` order them.
pub(super) fn row_cells(inner: &Inner, row: &rusqlite::Row<'_>, table: &TableSql) -> Result<Vec<Cell>> {
    let mut found = Vec::with_capacity(table.schema.columns.len());
    for (number, column) in table.schema.columns.iter().enumerate() {
        let value = row.get_ref(number).map_err(|error| inner.explain("reading", error))?;
        found.push(cells::parse(value, column.column_type)?);
    }
    Ok(found)
}
