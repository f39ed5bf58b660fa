//! Between cells and the values of expressions.

use headwater_expr::{Decimal, Numbers, Object, Type, Value, parse_moment};
use headwater_view::{Cell, ColumnType, TableSchema};

/// The type that expressions see in a column.
pub(crate) fn type_of(column_type: ColumnType) -> Type {
    match column_type {
        ColumnType::Text => Type::Text,
        ColumnType::Integer | ColumnType::Decimal => Type::Number,
        ColumnType::Boolean => Type::Bool,
        ColumnType::Timestamp => Type::Timestamp,
        ColumnType::Json => Type::Any,
    }
}

/// Whether a value of type `result` could be stored in the column. Numbers and moments may come as text, as they do in JSON.
pub(crate) fn could_hold(column_type: ColumnType, result: &Type) -> bool {
    match column_type {
        ColumnType::Json => true,
        ColumnType::Text | ColumnType::Boolean => result.could_be(&type_of(column_type)),
        ColumnType::Integer | ColumnType::Decimal | ColumnType::Timestamp => {
            result.could_be(&type_of(column_type)) || result.could_be(&Type::Text)
        }
    }
}

/// The type of `row` in a table's rules.
pub(crate) fn row_type(schema: &TableSchema) -> Type {
    Type::nullable(Type::object(schema.columns.iter().enumerate().map(|(number, column)| {
        let known = type_of(column.column_type);
        let known = if schema.key.contains(&number) { known } else { Type::nullable(known) };
        (column.name.clone(), known)
    })))
}

/// The cell that a column of `column_type` holds for `value`.
///
/// # Errors
/// What is wrong with the value and what to do, as the end of a sentence about it.
pub(crate) fn to_cell(value: &Value<'_>, column_type: ColumnType) -> Result<Cell, String> {
    let mismatch = |remedy: &str| {
        Err(format!("gives {} where the column is {}{remedy}", describe(value), column_type.name()))
    };
    match (column_type, value) {
        (ColumnType::Json, value) => Ok(match value {
            Value::Null => Cell::Null,
            value => Cell::Json(value.to_json(Numbers::Exact)),
        }),
        (_, Value::Null) => Ok(Cell::Null),
        (ColumnType::Text, Value::Text(text)) => Ok(Cell::Text(text.as_ref().to_owned())),
        (ColumnType::Text, _) => mismatch("; write string(…) around it"),
        (ColumnType::Boolean, Value::Bool(value)) => Ok(Cell::Boolean(*value)),
        (ColumnType::Decimal, value) => match number(value) {
            Some(number) => Ok(Cell::Decimal(number)),
            None => mismatch("; give a number, or text that is one"),
        },
        (ColumnType::Integer, value) => match number(value) {
            Some(number) => whole(number).map(Cell::Integer),
            None => mismatch("; give a whole number, or text that is one"),
        },
        (ColumnType::Timestamp, Value::Timestamp(moment)) => Cell::timestamp(*moment)
            .ok_or_else(|| format!("gives {moment}, which is outside the years 0 to 9999")),
        (ColumnType::Timestamp, Value::Text(text)) => match parse_moment(text) {
            Ok(moment) => Cell::timestamp(moment)
                .ok_or_else(|| format!("gives {moment}, which is outside the years 0 to 9999")),
            Err(fault) => mismatch(&format!(", and it {fault}")),
        },
        (ColumnType::Boolean | ColumnType::Timestamp, _) => mismatch(""),
    }
}

/// A number, or text that is one: JSON has no other way for large numbers.
fn number(value: &Value<'_>) -> Option<Decimal> {
    match value {
        Value::Number(number) => Some(*number),
        Value::Text(text) => Decimal::from_str_exact(text).ok(),
        _ => None,
    }
}

fn whole(number: Decimal) -> Result<i64, String> {
    if !number.fract().is_zero() {
        return Err(format!(
            "gives {number}, which is no whole number, where the column is Integer; round it, or make the column Decimal"
        ));
    }
    i64::try_from(number.trunc())
        .map_err(|_| format!("gives {number}, which does not fit in 64 bits; make the column Decimal"))
}

/// The value for a message: its type, and itself where it is short.
fn describe(value: &Value<'_>) -> String {
    match value.to_text() {
        Some(text) if text.len() <= 60 => format!("the {} {:?}", value.type_name(), text),
        _ => format!("a {}", value.type_name()),
    }
}

/// The value that expressions see for a cell.
pub(crate) fn to_value(cell: &Cell) -> Value<'_> {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => Value::from(text.as_str()),
        Cell::Integer(number) => Value::from(*number),
        Cell::Decimal(number) => Value::from(*number),
        Cell::Boolean(value) => Value::from(*value),
        Cell::Timestamp(moment) => Value::from(*moment),
        // Written by `to_cell`, so it is JSON with exact numbers.
        Cell::Json(text) => Value::parse_json(text.as_bytes()).unwrap_or_default(),
    }
}

/// A row as expressions read it.
#[derive(Debug)]
pub(crate) struct RowView<'a> {
    schema: &'a TableSchema,
    names: Vec<&'a str>,
    cells: &'a [Cell],
}

impl<'a> RowView<'a> {
    pub(crate) fn new(schema: &'a TableSchema, cells: &'a [Cell]) -> Self {
        Self { schema, names: schema.columns.iter().map(|column| column.name.as_str()).collect(), cells }
    }
}

impl Object for RowView<'_> {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        self.schema.column(name).map(|column| to_value(&self.cells[column]))
    }

    fn names(&self) -> &[&str] {
        &self.names
    }
}

/// Reads a column's default, or a key or filter in a URL: text as people write a value of the column.
///
/// # Errors
/// What is wrong with it and what to write.
pub(crate) fn parse_text(text: &str, column_type: ColumnType) -> Result<Cell, String> {
    let wrong = |example: &str| format!("{text:?} is no {}; write it as {example}", column_type.name());
    match column_type {
        ColumnType::Text => Ok(Cell::Text(text.to_owned())),
        ColumnType::Integer => text.parse().map(Cell::Integer).map_err(|_| wrong("-12")),
        ColumnType::Decimal => Decimal::from_str_exact(text).map(Cell::Decimal).map_err(|_| wrong("12.50")),
        ColumnType::Boolean => match text {
            "true" => Ok(Cell::Boolean(true)),
            "false" => Ok(Cell::Boolean(false)),
            _ => Err(wrong("true or false")),
        },
        ColumnType::Timestamp => match parse_moment(text) {
            Ok(moment) => {
                Cell::timestamp(moment).ok_or_else(|| format!("{text:?} is outside the years 0 to 9999"))
            }
            Err(fault) => Err(format!("{text:?} {fault}")),
        },
        ColumnType::Json => match Value::parse_json(text.as_bytes()) {
            Ok(value) => Ok(Cell::Json(value.to_json(Numbers::Exact))),
            Err(error) => Err(format!("not JSON: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_cells_exactly_or_not_at_all() {
        fn check(json: &str, column_type: ColumnType, expected: Result<&str, &str>) {
            let value = Value::parse_json(json.as_bytes()).unwrap();
            match (to_cell(&value, column_type), expected) {
                (Ok(cell), Ok(text)) => assert_eq!(cell.to_string(), text, "{json}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{json}: {error}"),
                (result, _) => panic!("{json} as {column_type:?} gave {result:?}"),
            }
        }
        check("\"a\"", ColumnType::Text, Ok("a"));
        check("1", ColumnType::Text, Err("gives the number \"1\" where the column is Text; write string(…)"));
        check("59.70", ColumnType::Decimal, Ok("59.70"));
        check("\"59.70\"", ColumnType::Decimal, Ok("59.70"));
        check("\"much\"", ColumnType::Decimal, Err("give a number"));
        check("true", ColumnType::Decimal, Err("give a number"));
        check("12.0", ColumnType::Integer, Ok("12"));
        check("12.5", ColumnType::Integer, Err("no whole number"));
        check("9223372036854775808", ColumnType::Integer, Err("does not fit in 64 bits"));
        check("\"9223372036854775807\"", ColumnType::Integer, Ok("9223372036854775807"));
        check("\"2026-01-02T03:04:05Z\"", ColumnType::Timestamp, Ok("2026-01-02T03:04:05.000000Z"));
        check("\"yesterday\"", ColumnType::Timestamp, Err("RFC 3339"));
        check("\"-0100-01-01T00:00:00Z\"", ColumnType::Timestamp, Err("where the column is Timestamp"));
        check("false", ColumnType::Boolean, Ok("false"));
        check("0", ColumnType::Boolean, Err("where the column is Boolean"));
        check("{\"a\": [1.10, null]}", ColumnType::Json, Ok("{\"a\":[1.10,null]}"));
        for column_type in [ColumnType::Text, ColumnType::Json, ColumnType::Integer, ColumnType::Boolean] {
            check("null", column_type, Ok("null"));
        }
    }

    #[test]
    fn text_of_defaults_and_urls_is_read_strictly() {
        fn check(text: &str, column_type: ColumnType, expected: Option<&str>) {
            assert_eq!(
                parse_text(text, column_type).ok().map(|cell| cell.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
        check("007", ColumnType::Integer, Some("7"));
        check("1.5", ColumnType::Integer, None);
        check("1.50", ColumnType::Decimal, Some("1.50"));
        check("1e3", ColumnType::Decimal, None);
        check("yes", ColumnType::Boolean, None);
        check("2026-01-02T03:04:05+01:00", ColumnType::Timestamp, Some("2026-01-02T02:04:05.000000Z"));
        check("[1, 2]", ColumnType::Json, Some("[1,2]"));
        check("[1", ColumnType::Json, None);
    }
}
