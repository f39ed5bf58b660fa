//! Pages of rows: which way a query takes through the sorted sets, and the script's call.
//!
//! ```text
//! filter names the whole key ─────────────────────▶ the row
//! an order begins with filtered columns, and
//!   goes on as the query wants, or the other way ─▶ its part from the cursor on, a page of it
//! otherwise ──────────────────────────────────────▶ all that has the filtered columns, sorted here; at most 10,000 rows
//! ```

use std::sync::Arc;

use headwater_core::{Error, Positions, Result};
use headwater_view::{Answer, Cell, Query, QueryError, Revision};

use crate::batch::{read_cells, read_progress};
use crate::call::Call;
use crate::keys::row_name;
use crate::order::push_cell;
use crate::view::{Inner, Layout, Missing, Table};

/// Rows that a script looks at, at most: some tens of milliseconds in which Redis answers nobody else.
const LOOKED_AT: usize = 10_000;
/// Rows of a page at most. A longer one is cut, and says that there are more.
const PAGE: usize = 10_000;
/// Bytes of a page, or of rows that are to be sorted.
const BYTES: usize = 32 << 20;

/// A way to a query's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// By its name.
    Row(Vec<u8>),
    /// Through the sorted set number `order`, from `low` to `high`.
    Through { order: usize, descending: bool, low: Vec<u8>, high: Vec<u8>, sort: bool },
}

/// Answers a query.
pub(crate) async fn answer(view: &Inner, query: &Query) -> Result<Answer, QueryError> {
    let layout = match view.layout(query.revision).await {
        Ok(layout) => layout,
        // Which one is active comes first.
        Err(missing) => return Err(not_there(view, query, missing).await),
    };
    if let Err(error) = check(&layout, query) {
        // What was active may be another: its schema is not the caller's.
        let active = active(view).await?;
        return Err(if query.active && active != Some(query.revision) {
            QueryError::NotActive { active }
        } else {
            error.into()
        });
    }
    let table = layout.table(query.table)?;
    for way in ways(table, query) {
        if let Some(answer) = run(view, &layout, table, query, &way).await? {
            return Ok(answer);
        }
    }
    Err(too_many(table, query).into())
}

fn check(layout: &Arc<Layout>, query: &Query) -> Result<()> {
    query.check(&layout.table(query.table)?.schema)
}

async fn active(view: &Inner) -> Result<Option<Revision>> {
    let mut ask = redis::cmd("HMGET");
    ask.arg(view.keys.state()).arg("active");
    let active = view.link.ask("reading the active revision", &ask).await?.maybe_number()?;
    Ok(active.map(Revision))
}

async fn not_there(view: &Inner, query: &Query, missing: Missing) -> QueryError {
    if !query.active {
        return missing.into();
    }
    match (active(view).await, missing) {
        (Ok(active), Missing::Gone(_)) if active != Some(query.revision) => QueryError::NotActive { active },
        (Err(error), _) => error.into(),
        (_, missing) => missing.into(),
    }
}

/// The ways to try, the best first.
fn ways(table: &Table, query: &Query) -> Vec<Way> {
    if let Some(key) = whole_key(table, query) {
        return vec![Way::Row(key)];
    }
    let filtered = |column: usize| query.filter.iter().find(|(known, _)| *known == column);
    // How many columns at an order's beginning are filtered.
    let fixed = |order: &[usize]| order.iter().take_while(|column| filtered(**column).is_some()).count();
    let mut by_fixed: Vec<usize> = (0..table.orders.len()).collect();
    by_fixed.sort_by_key(|number| std::cmp::Reverse(fixed(&table.orders[*number])));
    let mut ways = Vec::new();
    let through = |number: usize, descending: bool, sort: bool| {
        let order = &table.orders[number];
        let mut beginning = Vec::new();
        for (_, cell) in order[..fixed(order)].iter().filter_map(|column| filtered(*column)) {
            push_cell(&mut beginning, cell);
        }
        let mut low = bound(b'[', &beginning, false);
        let mut high = bound(b'(', &beginning, true);
        if let Some(after) = query.after.as_deref().filter(|_| !sort) {
            let (mut cursor, including) = cursor(order, query, after);
            if cursor.len() < beginning.len() {
                // It is decided before the order's own columns come.
                cursor.clone_from(&beginning);
            }
            if descending {
                high = bound(b'(', &cursor, including);
            } else {
                low = bound(b'[', &cursor, !including);
            }
        }
        Way::Through { order: number, descending, low, high, sort }
    };
    for number in &by_fixed {
        if let Some(descending) = direction(&table.orders[*number], query) {
            ways.push(through(*number, descending, false));
            break;
        }
    }
    if let Some(best) = by_fixed.first() {
        ways.push(through(*best, false, true));
    }
    ways
}

/// The name of the row whose whole key the filter gives.
fn whole_key(table: &Table, query: &Query) -> Option<Vec<u8>> {
    let schema = &table.schema;
    let cell = |column: &usize| {
        let (_, cell) = query.filter.iter().find(|(known, cell)| known == column && !cell.is_null())?;
        Some(cell.clone())
    };
    let cells = schema.key.iter().map(cell).collect::<Option<Vec<_>>>()?;
    // A page after the only row is empty: the sorted set knows.
    query.after.is_none().then(|| row_name(&headwater_view::Key::new(cells)))
}

/// Whether the rows that pass the filter stand in `order` as the query wants them (`false`), or the other way round (`true`).
fn direction(order: &[usize], query: &Query) -> Option<bool> {
    let is_free = |column: &usize| !query.filter.iter().any(|(known, _)| known == column);
    let wanted = query.order.iter().filter(|order| is_free(&order.column));
    let mut given = order.iter().filter(|column| is_free(column));
    let mut descending = None;
    for order in wanted {
        if given.next() != Some(&order.column)
            || *descending.get_or_insert(order.descending) != order.descending
        {
            return None;
        }
    }
    Some(descending.unwrap_or(false))
}

/// Where in `order` the rows after the cursor `after` begin: the cells that they stand behind, and whether those that begin with these cells are
/// themselves after it.
fn cursor(order: &[usize], query: &Query, after: &[Cell]) -> (Vec<u8>, bool) {
    let of_filter = |column: usize| query.filter.iter().find(|(known, _)| *known == column);
    let mut bytes = Vec::new();
    let mut columns = order.iter();
    for (wanted, cell) in query.order.iter().zip(after) {
        if let Some((_, filter)) = of_filter(wanted.column) {
            // All rows have the filter's cell here, so where the cursor has another, it alone decides.
            match if wanted.descending { cell.cmp(filter) } else { filter.cmp(cell) } {
                std::cmp::Ordering::Equal => continue,
                unequal => return (bytes, unequal.is_gt()),
            }
        }
        for column in columns.by_ref() {
            if let Some((_, filter)) = of_filter(*column) {
                push_cell(&mut bytes, filter);
            } else {
                push_cell(&mut bytes, cell);
                break;
            }
        }
    }
    (bytes, false)
}

/// A bound of a sorted set: `[` at or `(` before some bytes, or, where `beyond`, all that begins with them.
fn bound(sign: u8, bytes: &[u8], beyond: bool) -> Vec<u8> {
    let mut bound = vec![sign];
    bound.extend(bytes);
    if beyond {
        bound.push(0xff);
    }
    bound
}

/// Runs the script. `None`: there are too many rows on this way.
async fn run(
    view: &Inner,
    layout: &Arc<Layout>,
    table: &Table,
    query: &Query,
    way: &Way,
) -> Result<Option<Answer>, QueryError> {
    let (keys, schema) = (&view.keys, &table.schema);
    let prefix = keys.rows(query.revision, &schema.name);
    let page = query.limit.min(PAGE);
    let (call, sort) = match way {
        Way::Row(name) => {
            let key = [prefix.as_bytes(), name].concat();
            (start(view, layout, query).key(key).arg("row").arg("").arg(""), false)
        }
        Way::Through { order, descending, low, high, sort } => {
            let key = keys.order(query.revision, &schema.name, *order);
            let way = if *descending { "down" } else { "up" };
            (start(view, layout, query).key(key).arg(way).arg(low).arg(high), *sort)
        }
    };
    // What only passes a page by costs a look at each row; what fills it does not count.
    let looked_at = if sort || !query.filter.is_empty() { LOOKED_AT } else { PAGE + 1 };
    let mut call = call
        .arg(&prefix)
        .number(if sort { LOOKED_AT + 1 } else { page + 1 } as u64)
        .number(looked_at.max(page + 1) as u64)
        .number(BYTES as u64)
        .arg(if sort { "1" } else { "0" })
        .number(query.filter.len() as u64);
    for (column, cell) in &query.filter {
        let (test, value) = match cell {
            Cell::Null => ("null", String::new()),
            // As `query.lua` writes what it finds.
            Cell::Decimal(number) if number.is_zero() => ("decimal", "0".to_owned()),
            Cell::Decimal(number) => ("decimal", number.normalize().to_string()),
            other => ("text", other.to_string()),
        };
        call = call.number(*column as u64 + 1).arg(test).arg(value);
    }
    schema.columns.iter().for_each(|column| call.args.push(column.field()));
    let reply = view.link.read("querying", &view.scripts.query, &call).await?;
    let (end, mut reply) = view.ended(layout, reply)?;
    match end.as_str() {
        "limit" => return Ok(None),
        "active" => {
            return Err(QueryError::NotActive { active: reply.maybe_number()?.map(Revision) });
        }
        _ => {}
    }
    let progress = read_progress(reply.list()?)?;
    let rows = reply.list()?.lists().map(|row| read_cells(table, row?));
    let mut rows = rows.collect::<Result<Vec<Vec<Cell>>>>()?;
    let cut = reply.text()? == "1";
    if sort {
        rows.retain(|row| query.after.as_ref().is_none_or(|after| query.compare(row, after).is_gt()));
        rows.sort_by(|a, b| query.compare(a, &query.cursor(b)));
    }
    let more = cut || rows.len() > page;
    rows.truncate(page);
    Ok(Some(Answer {
        positions: progress.iter().map(|one| (one.partition, one.position)).collect::<Positions>(),
        parked: progress.iter().map(|one| one.parked).sum(),
        rows,
        more,
    }))
}

fn start(view: &Inner, layout: &Layout, query: &Query) -> Call {
    layout.call(&view.keys).key(view.keys.progress(query.revision)).arg(if query.active { "1" } else { "" })
}

/// The refusal of a query that no order serves.
fn too_many(table: &Table, query: &Query) -> Error {
    let name = |column: usize| table.schema.columns[column].name.clone();
    let served = table.orders.iter().any(|order| direction(order, query).is_some());
    let by_order =
        query.order.iter().find(|order| !query.filter.iter().any(|(known, _)| *known == order.column));
    let by_filter = query.filter.first().map(|(column, _)| *column);
    let (column, doing) = match (served, by_order, by_filter) {
        (false, Some(order), _) => (order.column, "ordering by it"),
        (_, _, Some(column)) => (column, "filtering on it"),
        (_, order, None) => (order.map_or(table.schema.key[0], |order| order.column), "ordering by it"),
    };
    let mut wanted: Vec<String> = query.filter.iter().map(|(column, _)| name(*column)).collect();
    for order in query.order.iter().filter(|order| !table.schema.key.contains(&order.column)) {
        let name = name(order.column);
        if !wanted.contains(&name) {
            wanted.push(name);
        }
    }
    Error::invalid(
        name(column),
        format!(
            "{doing} would have Redis look at more than {LOOKED_AT} rows at once, in which it answers nobody else: declare an index of table \"{}\" with columns: \
             [{}], all in one direction, or filter on more",
            table.schema.name,
            wanted.join(", ")
        ),
    )
}
