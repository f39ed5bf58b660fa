//! The variables of expressions, and their types.

use headwater_expr::Type;

use crate::event_stream::EventStream;
use crate::projection::{ColumnType, Table};

/// The type of the data of events of these types: known where all of them declare a JSON Schema.
pub fn data<'a>(stream: Option<&EventStream>, types: impl IntoIterator<Item = &'a str>) -> Type {
    let Some(stream) = stream else { return Type::Any };
    types
        .into_iter()
        .map(|name| {
            let declared = stream.spec.event_types.iter().find(|declared| declared.name == name);
            let schema = declared.and_then(|declared| declared.schema.as_ref());
            schema.map_or(Type::Any, Type::from_json_schema)
        })
        .reduce(|known, next| known.join(&next))
        .unwrap_or(Type::Any)
}

/// The type of a column's values, without null.
pub fn column(r#type: ColumnType) -> Type {
    match r#type {
        ColumnType::Text => Type::Text,
        ColumnType::Integer | ColumnType::Decimal => Type::Number,
        ColumnType::Boolean => Type::Bool,
        ColumnType::Timestamp => Type::Timestamp,
        ColumnType::Json => Type::Any,
    }
}

/// The type of `row` in rules of this table: its columns, or null where there is no row.
pub fn row(table: &Table) -> Type {
    let columns = table.columns.iter().map(|column| {
        let known = self::column(column.r#type);
        let known = if table.is_key(&column.name) { known } else { Type::nullable(known) };
        (column.name.clone(), known)
    });
    Type::nullable(Type::object(columns))
}
