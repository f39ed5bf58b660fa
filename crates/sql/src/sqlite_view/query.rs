//! Queries as SQL: every value is a parameter, every name a quoted column of the schema.

use std::fmt::Write;

use headwater_core::{Error, Positions};
use headwater_view::{Answer, Cell, ColumnType, Query, QueryError, Revision};
use rusqlite::Transaction;
use rusqlite::types::ToSqlOutput;

use super::table::TableSql;
use super::{Inner, batch, cells};
use crate::view_sql::normal;

/// A statement and the cells of its parameters.
struct Select {
    sql: String,
    cells: Vec<Cell>,
}

impl Select {
    fn parameter(&mut self, cell: Cell) -> usize {
        self.cells.push(cell);
        self.cells.len()
    }
}

pub(super) fn answer(inner: &Inner, snapshot: &Transaction<'_>, query: &Query) -> Result<Answer, QueryError> {
    let explain = |error| inner.explain("reading", error);
    if query.active {
        let active: Option<u32> = snapshot
            .prepare_cached("SELECT active FROM hw_rollout")
            .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
            .map_err(explain)?;
        if active != Some(query.revision.0) {
            return Err(QueryError::NotActive { active: active.map(Revision) });
        }
    }
    let progress = batch::progress(inner, snapshot, query.revision)?;
    let tables = inner.tables(snapshot, query.revision)?;
    let table = tables.as_ref().and_then(|tables| tables.get(query.table)).ok_or_else(|| {
        Error::not_found(format!("revision {} has no table number {}", query.revision, query.table))
    })?;
    query.check(&table.schema)?;

    let select = select(table, query);
    let mut statement = snapshot.prepare_cached(&select.sql).map_err(explain)?;
    let parameters: Vec<ToSqlOutput<'_>> = select.cells.iter().map(cells::bind).collect();
    let mut found = statement.query(rusqlite::params_from_iter(parameters)).map_err(explain)?;
    let mut rows = Vec::new();
    let mut more = false;
    while let Some(row) = found.next().map_err(explain)? {
        if rows.len() == query.limit {
            more = true;
            break;
        }
        rows.push(batch::row_cells(inner, row, table)?);
    }
    Ok(Answer {
        positions: progress
            .iter()
            .map(|progress| (progress.partition, progress.position))
            .collect::<Positions>(),
        parked: progress.iter().map(|progress| progress.parked).sum(),
        rows,
        more,
    })
}

fn select(table: &TableSql, query: &Query) -> Select {
    let mut select = Select { sql: table.rows.clone(), cells: Vec::new() };
    for (column, cell) in &query.filter {
        let cell = if table.schema.key.contains(column) { normal(cell) } else { cell.clone() };
        let parameter = select.parameter(cell);
        let _ = write!(select.sql, " AND {} IS ?{parameter}", table.equatable(*column));
    }
    if let Some(after) = &query.after {
        add_after(&mut select, table, query, after);
    }
    select.sql.push_str(" ORDER BY ");
    for (number, order) in query.order.iter().enumerate() {
        let separator = if number > 0 { ", " } else { "" };
        let direction = if order.descending { " DESC" } else { "" };
        let _ = write!(select.sql, "{separator}{}{direction}", table.comparable(order.column));
    }
    // One more than asked for tells whether there is more.
    let _ = write!(select.sql, " LIMIT {}", query.limit.saturating_add(1).min(i64::MAX as usize));
    select
}

/// Rows beyond the cursor: beyond it in the first column, or equal there and beyond it in the second, and so on. Nulls come first.
fn add_after(select: &mut Select, table: &TableSql, query: &Query, after: &[Cell]) {
    let parameters: Vec<usize> = after.iter().map(|cell| select.parameter(cell.clone())).collect();
    let column = |number: usize| table.comparable(query.order[number].column);
    let beyond = |number: usize| {
        let (column, parameter) = (column(number), parameters[number]);
        match (after[number].is_null(), query.order[number].descending) {
            (true, false) => format!("{column} IS NOT NULL"),
            (true, true) => "0".to_owned(),
            (false, false) => format!("{column} > ?{parameter}"),
            (false, true) => format!("({column} < ?{parameter} OR {column} IS NULL)"),
        }
    };
    let alternatives: Vec<String> = (0..after.len())
        .map(|last| {
            let mut terms: Vec<String> =
                (0..last).map(|number| format!("{} IS ?{}", column(number), parameters[number])).collect();
            terms.push(beyond(last));
            format!("({})", terms.join(" AND "))
        })
        .collect();
    let _ = write!(select.sql, " AND ({})", alternatives.join(" OR "));
    // What follows from the above, in a form that an index on the first column serves.
    if !after[0].is_null()
        && !query.order[0].descending
        && table.schema.columns[query.order[0].column].column_type != ColumnType::Json
    {
        let _ = write!(select.sql, " AND {} >= ?{}", column(0), parameters[0]);
    }
}
