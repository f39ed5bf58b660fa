//! Cells as the text of a hash's fields: what people read with `redis-cli`. A null is a field that is not there.

use headwater_core::{Error, Result};
use headwater_view::{Cell, Column, ColumnType};
use rust_decimal::Decimal;

/// The field's text; `None`: there is none.
pub(crate) fn encode(cell: &Cell) -> Option<String> {
    (!cell.is_null()).then(|| cell.to_string())
}

/// The cell of a field's text.
///
/// # Errors
/// `Corrupt` for what this column could not have been given.
pub(crate) fn decode(column: &Column, text: Option<Vec<u8>>) -> Result<Cell> {
    let Some(text) = text else { return Ok(Cell::Null) };
    let broken = || {
        Error::corrupt(format!(
            "reading the field \"{}\" in Redis: it holds no {}, so somebody else has written it; rebuild the projection",
            column.field(),
            column.column_type.name()
        ))
    };
    let text = String::from_utf8(text).map_err(|_| broken())?;
    Ok(match column.column_type {
        ColumnType::Text => Cell::Text(text),
        ColumnType::Json => Cell::Json(text),
        ColumnType::Integer => Cell::Integer(text.parse().map_err(|_| broken())?),
        ColumnType::Decimal => Cell::Decimal(decimal(&text).ok_or_else(broken)?),
        ColumnType::Boolean => Cell::Boolean(text.parse().map_err(|_| broken())?),
        ColumnType::Timestamp => Cell::Timestamp(text.parse().map_err(|_| broken())?),
    })
}

/// All digits of a decimal.
fn decimal(text: &str) -> Option<Decimal> {
    // A negative zero keeps its sign in a cell; the crate's parser drops it.
    let number = Decimal::from_str_exact(text).ok()?;
    Some(if text.starts_with('-') && number.is_zero() { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_somebody_else_has_written_is_named() {
        let column = |column_type| Column::new("paid", column_type, Cell::Null);
        for column_type in
            [ColumnType::Integer, ColumnType::Decimal, ColumnType::Boolean, ColumnType::Timestamp]
        {
            let error = decode(&column(column_type), Some(b"yes".to_vec())).unwrap_err();
            assert!(
                matches!(&error, Error::Corrupt { message } if message.contains("field \"paid\"")),
                "{error}"
            );
        }
        assert!(decode(&column(ColumnType::Text), Some(vec![0xff])).is_err());
        assert_eq!(decode(&column(ColumnType::Text), None).unwrap(), Cell::Null);
    }
}
