//! How cells are stored. Part of the tables' format.
//!
//! Decimals are text, all their digits, and compared as `NUMERIC`; moments are microseconds. The views for people show both as what they
//! are. A text's U+0000, which PostgreSQL cannot hold, is written as U+10FFFF and `0`, and U+10FFFF as itself twice.

use headwater_core::{Error, Result};
use headwater_view::{Cell, ColumnType};
use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;

use super::Broken;

/// Stands before what stands for U+0000.
const ESCAPE: char = '\u{10FFFF}';

/// One column of many rows, as one parameter.
#[derive(Debug)]
pub(super) enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Column {
    /// An empty one for cells of this type.
    pub(super) const fn of(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Text | ColumnType::Decimal | ColumnType::Json => Self::Text(Vec::new()),
            ColumnType::Integer | ColumnType::Timestamp => Self::Integer(Vec::new()),
            ColumnType::Boolean => Self::Boolean(Vec::new()),
        }
    }

    /// Adds a cell, which fits.
    pub(super) fn push(&mut self, cell: &Cell) {
        match (self, cell) {
            (Self::Text(values), cell) => values.push(text(cell)),
            (Self::Integer(values), Cell::Integer(number)) => values.push(Some(*number)),
            (Self::Integer(values), Cell::Timestamp(moment)) => values.push(Some(moment.as_microsecond())),
            (Self::Boolean(values), Cell::Boolean(value)) => values.push(Some(*value)),
            (Self::Integer(values), _) => values.push(None),
            (Self::Boolean(values), _) => values.push(None),
            (Self::Bytes(values), _) => values.push(None),
        }
    }

    pub(super) fn bind(self, query: Query<'_, Postgres, PgArguments>) -> Query<'_, Postgres, PgArguments> {
        match self {
            Self::Text(values) => query.bind(values),
            Self::Integer(values) => query.bind(values),
            Self::Boolean(values) => query.bind(values),
            Self::Bytes(values) => query.bind(values),
        }
    }
}

/// The type of a column's array, for the statement.
pub(super) const fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text | ColumnType::Decimal | ColumnType::Json => "TEXT",
        ColumnType::Integer | ColumnType::Timestamp => "BIGINT",
        ColumnType::Boolean => "BOOLEAN",
    }
}

fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Text(text) if text.contains(['\0', ESCAPE]) => Some(escape(text)),
        cell => Some(cell.to_string()),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '\0' => escaped.extend([ESCAPE, '0']),
            ESCAPE => escaped.extend([ESCAPE, ESCAPE]),
            char => escaped.push(char),
        }
    }
    escaped
}

fn unescape(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            ESCAPE if chars.next() == Some('0') => '\0',
            char => char,
        });
    }
    plain
}

/// One cell as a parameter of its own.
pub(super) fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    cell: &Cell,
) -> Query<'q, Postgres, PgArguments> {
    match cell {
        Cell::Integer(number) => query.bind(*number),
        Cell::Timestamp(moment) => query.bind(moment.as_microsecond()),
        Cell::Boolean(value) => query.bind(*value),
        cell => query.bind(text(cell)),
    }
}

/// The cell at `index` of a row.
pub(super) fn parse(row: &PgRow, index: usize, column_type: ColumnType) -> Result<Cell> {
    read(row, index, column_type).map_err(|why| {
        Error::corrupt(format!(
            "reading a cell of type {}: {why}; rebuild the projection",
            column_type.name()
        ))
    })
}

fn read(row: &PgRow, index: usize, column_type: ColumnType) -> Result<Cell, Broken> {
    Ok(match column_type {
        ColumnType::Text => {
            row.try_get::<Option<String>, _>(index)?.map_or(Cell::Null, |it| Cell::Text(unescape(it)))
        }
        ColumnType::Json => row.try_get::<Option<String>, _>(index)?.map_or(Cell::Null, Cell::Json),
        ColumnType::Integer => row.try_get::<Option<i64>, _>(index)?.map_or(Cell::Null, Cell::Integer),
        ColumnType::Boolean => row.try_get::<Option<bool>, _>(index)?.map_or(Cell::Null, Cell::Boolean),
        ColumnType::Decimal => match row.try_get::<Option<String>, _>(index)? {
            None => Cell::Null,
            Some(text) => {
                let number =
                    crate::stamps::decimal(&text).ok_or_else(|| format!("\"{text}\" is no decimal"))?;
                Cell::Decimal(number)
            }
        },
        ColumnType::Timestamp => match row.try_get::<Option<i64>, _>(index)? {
            None => Cell::Null,
            Some(micros) => Cell::timestamp(Timestamp::from_microsecond(micros)?).ok_or("out of range")?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_the_database_cannot_hold_come_back() {
        for plain in ["", "a", "nul \0 inside", "\0\0", "\u{10FFFF}0", "\u{10FFFF}\0\u{10FFFF}"] {
            let escaped = escape(plain);
            assert!(!escaped.contains('\0'), "{escaped:?}");
            assert_eq!(unescape(escaped), plain);
        }
    }
}
