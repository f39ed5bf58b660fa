//! Queries as SQL: every value is a parameter, every name a quoted column of the schema.

use std::fmt::Write;

use headwater_core::{Error, Positions};
use headwater_view::{Answer, Cell, Query, QueryError, Revision};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::table::TableSql;
use super::{PostgresView, Stop, batch, cells, other};
use crate::view_sql::normal;

/// A statement and the cells of its parameters.
struct Select {
    sql: String,
    cells: Vec<Cell>,
}

impl Select {
    /// A parameter for `cell`, as `column` is compared with it.
    fn parameter(&mut self, table: &TableSql, column: usize, cell: Cell) -> String {
        self.cells.push(cell);
        table.parameter(column, self.cells.len())
    }
}

pub(super) async fn answer(
    view: &PostgresView,
    connection: &mut PgConnection,
    query: &Query,
) -> Result<Answer, Stop<QueryError>> {
    let standing = batch::standing(connection, query.revision).await?;
    if query.active {
        let active = standing.as_ref().map_or_else(|active| *active, |standing| standing.active);
        let active = active.and_then(|active| u32::try_from(active).ok()).map(Revision);
        if active != Some(query.revision) {
            return Err(Stop::Other(QueryError::NotActive { active }));
        }
    }
    let progress = match standing {
        Ok(standing) => standing.progress,
        Err(_) => return Err(batch::no_revision(query.revision)),
    };
    let tables = view.tables_of(connection, query.revision).await?;
    let table = tables.get(query.table).ok_or_else(|| {
        other(Error::not_found(format!("revision {} has no table number {}", query.revision, query.table)))
    })?;
    query.check(&table.schema).map_err(other)?;

    let select = select(table, query);
    // Every name in it is quoted, and has been checked.
    let mut statement = sqlx::query(AssertSqlSafe(select.sql));
    for cell in &select.cells {
        statement = cells::bind(statement, cell);
    }
    let found = statement.fetch_all(connection).await?;
    let more = found.len() > query.limit;
    let rows = found
        .iter()
        .take(query.limit)
        .map(|row| batch::row_cells(row, 0, table))
        .collect::<Result<_, _>>()
        .map_err(other)?;
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
        let compared = table.comparable(*column);
        if cell.is_null() {
            let _ = write!(select.sql, " AND {compared} IS NULL");
            continue;
        }
        if table.schema.key.contains(column) {
            // A key's cells are normal, so their stored form decides, and the key's index serves.
            let stored = table.equatable(*column);
            select.cells.push(normal(cell));
            let _ = write!(select.sql, " AND {stored} = ${}", select.cells.len());
        } else {
            let parameter = select.parameter(table, *column, cell.clone());
            let _ = write!(select.sql, " AND {compared} = {parameter}");
        }
    }
    if let Some(after) = &query.after {
        add_after(&mut select, table, query, after);
    }
    select.sql.push_str(" ORDER BY ");
    for (number, order) in query.order.iter().enumerate() {
        let separator = if number > 0 { ", " } else { "" };
        // Null is smaller than all else.
        let direction = if order.descending { "DESC NULLS LAST" } else { "ASC NULLS FIRST" };
        let _ = write!(select.sql, "{separator}{} {direction}", table.comparable(order.column));
    }
    // One more than asked for tells whether there is more.
    let _ = write!(select.sql, " LIMIT {}", query.limit.saturating_add(1).min(i64::MAX as usize));
    select
}

/// Rows beyond the cursor: beyond it in the first column, or equal there and beyond it in the second, and so on. Nulls come first.
fn add_after(select: &mut Select, table: &TableSql, query: &Query, after: &[Cell]) {
    let mut parameters = Vec::with_capacity(after.len());
    for (order, cell) in query.order.iter().zip(after) {
        let parameter =
            if cell.is_null() { String::new() } else { select.parameter(table, order.column, cell.clone()) };
        parameters.push(parameter);
    }
    let column = |number: usize| table.comparable(query.order[number].column);
    let equal = |number: usize| {
        if after[number].is_null() {
            format!("{} IS NULL", column(number))
        } else {
            format!("{} = {}", column(number), parameters[number])
        }
    };
    let beyond = |number: usize| {
        let (column, parameter) = (column(number), &parameters[number]);
        match (after[number].is_null(), query.order[number].descending) {
            (true, false) => format!("{column} IS NOT NULL"),
            (true, true) => "FALSE".to_owned(),
            (false, false) => format!("{column} > {parameter}"),
            (false, true) => format!("({column} < {parameter} OR {column} IS NULL)"),
        }
    };
    let alternatives: Vec<String> = (0..after.len())
        .map(|last| {
            let mut terms: Vec<String> = (0..last).map(equal).collect();
            terms.push(beyond(last));
            format!("({})", terms.join(" AND "))
        })
        .collect();
    let _ = write!(select.sql, " AND ({})", alternatives.join(" OR "));
    // What follows from the above, in a form that an index on the first column serves.
    if !after[0].is_null() && !query.order[0].descending {
        let _ = write!(select.sql, " AND {} >= {}", column(0), parameters[0]);
    }
}
