//! How cells are stored. Part of the file's format.

use headwater_core::{Error, Result};
use headwater_view::{Cell, ColumnType};
use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// The value that stands for `cell`.
pub(super) fn bind(cell: &Cell) -> ToSqlOutput<'_> {
    match cell {
        Cell::Null => ToSqlOutput::Owned(Value::Null),
        Cell::Text(text) | Cell::Json(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
        Cell::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
        Cell::Boolean(value) => ToSqlOutput::Owned(Value::Integer(i64::from(*value))),
        Cell::Decimal(_) | Cell::Timestamp(_) => ToSqlOutput::Owned(Value::Text(cell.to_string())),
    }
}

/// The cell that `value` stands for in a column of `column_type`.
pub(super) fn parse(value: ValueRef<'_>, column_type: ColumnType) -> Result<Cell> {
    let text =
        |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| error.to_string());
    let cell = match (value, column_type) {
        (ValueRef::Null, _) => Ok(Cell::Null),
        (ValueRef::Text(bytes), ColumnType::Text) => text(bytes).map(Cell::Text),
        (ValueRef::Text(bytes), ColumnType::Json) => text(bytes).map(Cell::Json),
        (ValueRef::Integer(number), ColumnType::Integer) => Ok(Cell::Integer(number)),
        (ValueRef::Integer(number), ColumnType::Boolean) => Ok(Cell::Boolean(number != 0)),
        (ValueRef::Text(bytes), ColumnType::Decimal) => text(bytes).and_then(|text| {
            crate::stamps::decimal(&text).map(Cell::Decimal).ok_or(format!("\"{text}\" is no decimal"))
        }),
        (ValueRef::Text(bytes), ColumnType::Timestamp) => text(bytes)
            .and_then(|text| text.parse::<Timestamp>().map_err(|error| error.to_string()))
            .and_then(|moment| Cell::timestamp(moment).ok_or("out of range".to_owned())),
        (other, _) => Err(format!("it is of SQLite's type {}", other.data_type())),
    };
    cell.map_err(|why| {
        Error::corrupt(format!(
            "reading a cell of type {}: {why}; rebuild the projection",
            column_type.name()
        ))
    })
}
