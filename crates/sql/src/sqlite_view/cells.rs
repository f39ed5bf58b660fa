//! How cells, writers and stamps are stored. Part of the file's format.

use headwater_core::{Error, Partition, Result};
use headwater_view::{Cell, ColumnType, Stamp};
use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

/// First byte of stored stamps.
const STAMPS_FORMAT: u8 = 1;

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
            super::table::decimal(&text).map(Cell::Decimal).ok_or(format!("\"{text}\" is no decimal"))
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

/// Stamps by column as bytes: format, then for each column 0, or 1 and its moment, partition and position in big-endian.
pub(super) fn encode_stamps(stamps: &[Option<Stamp>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + stamps.len() * 19);
    bytes.push(STAMPS_FORMAT);
    for stamp in stamps {
        match stamp {
            None => bytes.push(0),
            Some(stamp) => {
                bytes.push(1);
                bytes.extend_from_slice(&stamp.recorded_at.as_microsecond().to_be_bytes());
                bytes.extend_from_slice(&stamp.partition.get().to_be_bytes());
                bytes.extend_from_slice(&stamp.position.to_be_bytes());
            }
        }
    }
    bytes
}

/// What [`encode_stamps`] encoded.
pub(super) fn decode_stamps(bytes: &[u8]) -> Result<Vec<Option<Stamp>>> {
    let corrupt = || {
        Error::corrupt(
            "reading a row's stamps: they are cut off or of a newer format; rebuild the projection",
        )
    };
    let (format, mut rest) = bytes.split_first().ok_or_else(corrupt)?;
    if *format != STAMPS_FORMAT {
        return Err(corrupt());
    }
    let mut stamps = Vec::new();
    while let Some((there, after)) = rest.split_first() {
        rest = after;
        if *there == 0 {
            stamps.push(None);
            continue;
        }
        let (moment, after) = rest.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let (partition, after) = after.split_first_chunk::<2>().ok_or_else(corrupt)?;
        let (position, after) = after.split_first_chunk::<8>().ok_or_else(corrupt)?;
        rest = after;
        stamps.push(Some(Stamp {
            recorded_at: Timestamp::from_microsecond(i64::from_be_bytes(*moment)).map_err(|_| corrupt())?,
            partition: Partition::new(u16::from_be_bytes(*partition)),
            position: u64::from_be_bytes(*position),
        }));
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_have_a_golden_form() {
        let stamp = Stamp {
            recorded_at: Timestamp::from_microsecond(-2).unwrap(),
            partition: Partition::new(258),
            position: 772,
        };
        let stamps = vec![None, Some(stamp), None];
        let golden = [1, 0, 1, 255, 255, 255, 255, 255, 255, 255, 254, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0];
        assert_eq!(encode_stamps(&stamps), golden);
        assert_eq!(decode_stamps(&golden).unwrap(), stamps);
        assert!(decode_stamps(&golden[..9]).is_err());
        assert!(decode_stamps(&[2]).is_err());
        assert!(decode_stamps(&[]).is_err());
    }
}
