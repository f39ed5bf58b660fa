//! What workers load and apply.

use headwater_core::{Error, Partition, Position, Result, StreamId};
use headwater_view::{
    ApplyError, Batch, Decisions, Durability, Load, LoadedRow, ParkVersion, PartitionState, Progress,
    Revision, Row, RowState, RowWrite, Written,
};
use jiff::Timestamp;

use crate::call::{Call, Reply};
use crate::keys::row_name;
use crate::order::{place, place_by_key};
use crate::view::{Inner, Layout, Missing, Table};
use crate::{cells, parked, versions};

fn moment(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(|error| {
        Error::corrupt(format!("reading a moment in Redis: {error}; rebuild the projection"))
    })
}

/// What is kept of a partition's progress, as it is read field by field.
#[derive(Default)]
struct Kept {
    position: Option<u64>,
    recorded_at: Option<i64>,
    parked: u64,
    skipped: u64,
}

impl Kept {
    fn progress(&self, partition: Partition) -> Result<Progress> {
        let position = self.position.ok_or_else(|| {
            Error::corrupt(format!(
                "reading the checkpoint of partition {partition} in Redis: it is not there, and Headwater has not removed it; rebuild the projection"
            ))
        })?;
        Ok(Progress {
            partition,
            position: Position::new(position),
            recorded_at: self.recorded_at.map(moment).transpose()?,
            parked: self.parked,
            skipped: self.skipped,
        })
    }
}

/// Reads `position:P`, `recorded_at:P`, … of all partitions.
pub(crate) fn read_progress(reply: Reply) -> Result<Vec<Progress>> {
    let broken =
        || Error::corrupt("reading the checkpoints in Redis: not Headwater's; rebuild the projection");
    let mut all: std::collections::BTreeMap<u16, Kept> = std::collections::BTreeMap::new();
    for (field, value) in reply.pairs()? {
        let (what, partition) = field.split_once(':').ok_or_else(broken)?;
        let kept = all.entry(partition.parse().map_err(|_| broken())?).or_default();
        match what {
            "position" => kept.position = Some(value.parse().map_err(|_| broken())?),
            "recorded_at" => kept.recorded_at = Some(value.parse().map_err(|_| broken())?),
            "parked" => kept.parked = value.parse().map_err(|_| broken())?,
            "skipped" => kept.skipped = value.parse().map_err(|_| broken())?,
            _ => return Err(broken()),
        }
    }
    all.into_iter().map(|(partition, kept)| kept.progress(Partition::new(partition))).collect()
}

pub(crate) async fn progress(view: &Inner, revision: Revision) -> Result<Vec<Progress>> {
    let layout = view.layout(revision).await?;
    let call = layout.call(&view.keys).key(view.keys.progress(revision));
    let reply = view.link.read("reading checkpoints", &view.scripts.progress, &call).await?;
    let (_, mut reply) = view.ended(&layout, reply)?;
    read_progress(reply.list()?)
}

pub(crate) async fn partition(
    view: &Inner,
    revision: Revision,
    partition: Partition,
) -> Result<PartitionState, ApplyError> {
    let layout = view.layout(revision).await?;
    let call = layout
        .call(&view.keys)
        .key(view.keys.progress(revision))
        .key(view.keys.skips())
        .key(view.keys.parked(revision))
        .number(u64::from(partition.get()));
    let reply = view.link.read("reading a checkpoint", &view.scripts.partition, &call).await?;
    let (_, mut reply) = view.ended(&layout, reply)?;
    let mut kept = reply.list()?;
    let kept = Kept {
        position: kept.maybe_number()?,
        recorded_at: kept.maybe_number()?,
        parked: kept.maybe_number()?.unwrap_or(0),
        skipped: kept.maybe_number()?.unwrap_or(0),
    };
    let decisions = Decisions(reply.maybe_number()?.unwrap_or(0));
    let mut ids = reply.list()?;
    let mut skips = std::collections::HashSet::new();
    while !ids.is_empty() {
        skips.insert(ids.number()?);
    }
    let mut streams = reply.list()?;
    let mut parked = std::collections::HashMap::new();
    while !streams.is_empty() {
        parked.insert(StreamId::new(streams.text()?)?, ParkVersion(streams.number()?));
    }
    Ok(PartitionState { progress: kept.progress(partition)?, parked, skips, decisions })
}

pub(crate) async fn load(view: &Inner, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
    let layout = view.layout(load.revision).await?;
    let mut call = layout.call(&view.keys);
    for (number, keys) in &load.rows {
        let schema = &layout.table(*number)?.schema;
        let prefix = view.keys.rows(load.revision, &schema.name).into_bytes();
        call.keys.push(view.keys.versions(load.revision, &schema.name));
        call.args.push_number(keys.len() as u64);
        call.args.push_number(schema.columns.len() as u64);
        for key in keys {
            let name = row_name(key);
            call.keys.push([&prefix[..], &name].concat());
            call.args.push(name);
        }
        schema.columns.iter().for_each(|column| call.args.push(column.field()));
    }
    let reply = view.link.read("reading rows", &view.scripts.load, &call).await?;
    let (_, mut reply) = view.ended(&layout, reply)?;
    let mut rows = reply.list()?.lists();
    let mut all = Vec::with_capacity(load.rows.len());
    for (number, keys) in &load.rows {
        let table = layout.table(*number)?;
        let loaded = rows.by_ref().take(keys.len()).map(|row| read_row(table, row?));
        all.push(loaded.collect::<Result<Vec<_>>>()?);
    }
    Ok(all)
}

fn read_row(table: &Table, mut reply: Reply) -> Result<LoadedRow> {
    if reply.is_empty() {
        return Ok(None);
    }
    let stored = versions::decode(&reply.text()?)?;
    if stored.is_live {
        let cells = read_cells(table, reply)?;
        return Ok(Some((
            RowState::Live(Row { cells, writer: stored.writer, stamps: stored.stamps }),
            stored.version,
        )));
    }
    let writer = stored.writer.ok_or_else(|| {
        Error::corrupt("reading a deleted row in Redis: its writer is missing; rebuild the projection")
    })?;
    Ok(Some((RowState::Deleted { writer }, stored.version)))
}

/// A row's cells, by column.
pub(crate) fn read_cells(table: &Table, reply: Reply) -> Result<Vec<headwater_view::Cell>> {
    let columns = &table.schema.columns;
    let cells = columns.iter().zip(reply.all_bytes()).map(|(column, text)| cells::decode(column, text?));
    let cells = cells.collect::<Result<Vec<_>>>()?;
    // The key's columns are never null.
    let is_whole =
        cells.len() == columns.len() && table.schema.key.iter().all(|column| !cells[*column].is_null());
    if !is_whole {
        return Err(Error::corrupt(format!(
            "reading a row of table \"{}\" in Redis: it is not there, and Headwater has not removed it; rebuild the projection",
            table.schema.name
        )));
    }
    Ok(cells)
}

pub(crate) async fn apply(view: &Inner, batch: &Batch) -> Result<Written, ApplyError> {
    let layout = view.layout(batch.revision).await?;
    let call = apply_call(view, &layout, batch)?;
    let durable = batch.durability == Durability::Durable;
    let reply = view.link.write("applying a batch", &view.scripts.apply, &call, durable).await?;
    let (end, mut reply) = view.ended(&layout, reply)?;
    match end.as_str() {
        "ok" => Ok(Written { version: reply.number()?, decisions: Decisions(reply.number()?) }),
        "checkpoint" => {
            let partition = batch.advance.as_ref().map_or(Partition::ZERO, |advance| advance.partition);
            let kept = Kept { position: reply.maybe_number()?, ..Kept::default() };
            Err(ApplyError::Checkpoint { found: kept.progress(partition)?.position })
        }
        "conflict" => Err(ApplyError::Conflict { what: reply.text()? }),
        "clash" => Err(ApplyError::Failed(clash("applying a batch", view, reply)?)),
        other => Err(ApplyError::Failed(Error::corrupt(format!(
            "applying a batch in {}: {other} {}; nothing was changed: rebuild the projection",
            view.link.place(),
            reply.maybe_text()?.unwrap_or_default()
        )))),
    }
}

/// Something lies where only we put something.
pub(crate) fn clash(doing: &str, view: &Inner, mut reply: Reply) -> Result<Error> {
    let (key, found) = (reply.text()?, reply.text()?);
    Ok(Error::failed_precondition(format!(
        "{doing} in {}: the key {key} holds a {found} that Headwater has not written; nothing was changed: remove it (redis-cli DEL '{key}'), or give the \
         projection another prefix, by sink.redis.keyPrefix",
        view.link.place()
    )))
}

fn apply_call(view: &Inner, layout: &Layout, batch: &Batch) -> Result<Call, Missing> {
    let (keys, revision) = (&view.keys, batch.revision);
    let mut call = layout
        .call(keys)
        .key(keys.progress(revision))
        .key(keys.skips())
        .key(keys.parked(revision))
        .key(keys.parked_streams(revision))
        .key(keys.parked_events(revision))
        .number(batch.decisions.0);
    match &batch.advance {
        Some(advance) => {
            call.args.push_number(u64::from(advance.partition.get()));
            call.args.push_number(advance.from.get());
            call.args.push_number(advance.to.get());
            let micros = advance.recorded_at.map(|moment| moment.as_microsecond().to_string());
            call.args.push(micros.unwrap_or_default());
            call.args.push_number(advance.skipped);
        }
        None => (0..5).for_each(|_| call.args.push("")),
    }
    let mut by_table: Vec<Vec<&RowWrite>> = layout.tables.iter().map(|_| Vec::new()).collect();
    for write in &batch.rows {
        layout.table(write.table)?;
        by_table[write.table].push(write);
    }
    call.args.push_number(by_table.iter().filter(|rows| !rows.is_empty()).count() as u64);
    for (table, rows) in layout.tables.iter().zip(&by_table).filter(|(_, rows)| !rows.is_empty()) {
        push_table(view, revision, table, rows, &mut call)?;
    }
    call.args.push_number(batch.parks.len() as u64);
    batch.parks.iter().for_each(|park| parked::push(park, &mut call.args));
    call.args.push_number(batch.skips.len() as u64);
    batch.skips.iter().for_each(|skip| call.args.push(skip.id.to_string()));
    Ok(call)
}

/// One table's rows, as `apply.lua` takes them.
fn push_table(
    view: &Inner,
    revision: Revision,
    table: &Table,
    rows: &[&RowWrite],
    call: &mut Call,
) -> Result<()> {
    let name = &table.schema.name;
    call.keys.push(view.keys.versions(revision, name));
    call.keys.push(view.keys.order(revision, name, 0));
    for number in 1..table.orders.len() {
        call.keys.push(view.keys.order(revision, name, number));
        call.keys.push(view.keys.entries(revision, name, number));
    }
    call.args.push_number(rows.len() as u64);
    call.args.push_number(table.orders.len() as u64 - 1);
    let prefix = view.keys.rows(revision, name).into_bytes();
    for row in rows {
        let name = row_name(&row.key);
        call.keys.push([&prefix[..], &name].concat());
        call.args.push(name);
    }
    for row in rows {
        let (kind, beside) = versions::encode(row.state.as_ref())?;
        call.args.push_number(row.expected.map(|version| version.0));
        call.args.push(kind);
        call.args.push(beside);
        call.args.push(place_by_key(&row.key));
        let Some(RowState::Live(live)) = &row.state else { continue };
        let name = row_name(&row.key);
        for columns in &table.orders[1..] {
            call.args.push(place(columns.iter().map(|column| &live.cells[*column]), &name));
        }
        let fields = table.schema.columns.iter().zip(&live.cells);
        let nulls = fields.clone().filter(|(_, cell)| cell.is_null());
        call.args.push_number(nulls.clone().count() as u64);
        nulls.for_each(|(column, _)| call.args.push(column.field()));
        let texts: Vec<_> =
            fields.filter_map(|(column, cell)| Some((column, cells::encode(cell)?))).collect();
        call.args.push_number(2 * texts.len() as u64);
        for (column, text) in texts {
            call.args.push(column.field());
            call.args.push(text);
        }
    }
    Ok(())
}
