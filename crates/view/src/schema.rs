use headwater_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::{Cell, Key};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ColumnType {
    /// UTF-8, ordered by code point.
    Text,
    /// A signed 64-bit integer.
    Integer,
    /// An exact decimal of up to 28 digits.
    Decimal,
    /// True or false.
    Boolean,
    /// A moment, UTC, with microseconds.
    Timestamp,
    /// Any JSON value; cannot be a key, filtered on or ordered by.
    Json,
}

impl ColumnType {
    /// The type's name as manifests spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "Text",
            Self::Integer => "Integer",
            Self::Decimal => "Decimal",
            Self::Boolean => "Boolean",
            Self::Timestamp => "Timestamp",
            Self::Json => "Json",
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, an identifier.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// What a new row has in it, where the rule that makes the row does not say.
    pub default: Cell,
    /// What it is called in a sink whose rows have fields of any name; `None`: as the column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Column {
    /// A column whose field has its name.
    pub fn new(name: impl Into<String>, column_type: ColumnType, default: Cell) -> Self {
        Self { name: name.into(), column_type, default, field: None }
    }

    /// The field's name in a sink whose rows have fields of any name.
    pub fn field(&self) -> &str {
        self.field.as_deref().unwrap_or(&self.name)
    }
}

/// Columns that are searched together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// Numbers of the columns.
    pub columns: Vec<usize>,
}

/// Who may write a row, which decides how writes from several partitions are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Writers {
    /// Anybody: the log has one partition, so the order is total.
    Free,
    /// The events of one stream id. The row remembers which, also after it is deleted.
    OneStream,
    /// Events of any stream id, by sets (of which the latest stays, column by column) and increments. The row keeps a [`Stamp`](crate::Stamp)
    /// for each column that was set.
    ManyStreams,
}

/// A table of a read model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSchema {
    /// Its name, an identifier.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// Numbers of the columns that name a row; at least one.
    pub key: Vec<usize>,
    /// Further indexes.
    pub indexes: Vec<Index>,
    /// Who may write a row.
    pub writers: Writers,
}

impl TableSchema {
    /// The number of the column `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The key of the row `cells`.
    pub fn key_of(&self, cells: &[Cell]) -> Key {
        Key::new(self.key.iter().map(|column| cells[*column].clone()).collect())
    }

    /// A row with key `key` and the columns' defaults.
    pub fn new_row(&self, key: &Key) -> Vec<Cell> {
        let mut cells: Vec<Cell> = self.columns.iter().map(|column| column.default.clone()).collect();
        for (column, cell) in self.key.iter().zip(key.cells()) {
            cells[*column] = cell.clone();
        }
        cells
    }

    /// Checks what every sink relies on: identifiers, unique names, a key of columns that are there and are not JSON, defaults that fit.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the path within the table.
    pub fn check(&self) -> Result<()> {
        check_identifier("name", &self.name)?;
        if self.name.len() > MAX_TABLE_BYTES {
            return Err(Error::invalid(
                "name",
                format!("a table's name has at most {MAX_TABLE_BYTES} bytes; shorten \"{}\"", self.name),
            ));
        }
        if is_reserved(&self.name) {
            return Err(Error::invalid(
                "name",
                format!(
                    "\"{}\" is kept for Headwater's own tables (hw_…, sqlite_…, r1_…); use another name",
                    self.name
                ),
            ));
        }
        if self.columns.is_empty() {
            return Err(Error::invalid("columns", "there are none; a table has at least its key's columns"));
        }
        for (index, column) in self.columns.iter().enumerate() {
            let at = format!("columns[{index}]");
            check_identifier("name", &column.name).map_err(|error| error.within(&at))?;
            if self.columns[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
                return Err(Error::invalid(
                    format!("{at}.name"),
                    format!(
                        "\"{}\" is there twice (letter case does not count); give each column a name of its own",
                        column.name
                    ),
                ));
            }
            if !column.default.fits(column.column_type) {
                return Err(Error::invalid(
                    format!("{at}.default"),
                    format!("not a {}", column.column_type.name()),
                ));
            }
            if self.columns[..index].iter().any(|other| other.field() == column.field()) {
                return Err(Error::invalid(
                    format!("{at}.field"),
                    format!("\"{}\" is there twice; give each column a field of its own", column.field()),
                ));
            }
        }
        if self.key.is_empty() {
            return Err(Error::invalid("key", "there is none; name the columns that identify a row"));
        }
        for (index, number) in self.key.iter().enumerate() {
            match self.columns.get(*number) {
                Some(column) if column.column_type == ColumnType::Json => {
                    return Err(Error::invalid(
                        format!("key[{index}]"),
                        format!(
                            "\"{}\" is of type Json, which cannot identify a row; use another type",
                            column.name
                        ),
                    ));
                }
                Some(_) if !self.key[..index].contains(number) => {}
                Some(column) => {
                    return Err(Error::invalid(
                        format!("key[{index}]"),
                        format!("\"{}\" is there twice", column.name),
                    ));
                }
                None => return Err(Error::invalid(format!("key[{index}]"), "there is no such column")),
            }
        }
        for (index, columns) in self.indexes.iter().map(|index| &index.columns).enumerate() {
            if columns.is_empty() || columns.iter().any(|column| *column >= self.columns.len()) {
                return Err(Error::invalid(
                    format!("indexes[{index}]"),
                    "an index names at least one column of the table",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a table's name could be that of a store's own table, or of another table in one of its revisions.
fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let of_a_revision = name
        .strip_prefix('r')
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(digits, _)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
    name.starts_with("hw_") || name.starts_with("sqlite_") || of_a_revision
}

/// Longest name of a column: what every database that is supported takes.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// Longest name of a table: leaves room for a revision's prefix.
const MAX_TABLE_BYTES: usize = 48;

/// Checks that `name` can stand for a table or column in every sink: a letter, then letters, digits and `_`, at most 63 bytes.
///
/// # Errors
/// [`Error::Invalid`] for `field` when it cannot.
pub fn check_identifier(field: &str, name: &str) -> Result<()> {
    let fits = name.len() <= MAX_IDENTIFIER_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if fits {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        format!(
            "{name:?} cannot name a table or column; use a letter, then letters, digits and '_', at most {MAX_IDENTIFIER_BYTES} in all"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TableSchema {
        let column = |name: &str, column_type, default| Column::new(name, column_type, default);
        TableSchema {
            name: "orders".into(),
            columns: vec![
                column("id", ColumnType::Text, Cell::Null),
                column("amount", ColumnType::Decimal, Cell::Decimal("0".parse().unwrap())),
                column("extra", ColumnType::Json, Cell::Null),
            ],
            key: vec![0],
            indexes: vec![Index { columns: vec![1, 0] }],
            writers: Writers::OneStream,
        }
    }

    #[test]
    fn faults_have_a_path() {
        fn check(change: impl Fn(&mut TableSchema), fault: &str) {
            let mut table = table();
            change(&mut table);
            let error = table.check().unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
        assert!(table().check().is_ok());
        check(|table| table.name = "drop table".into(), "name: \"drop table\" cannot name");
        check(|table| table.name = "_hidden".into(), "name: ");
        check(|table| table.name = "R12_orders".into(), "name: \"R12_orders\" is kept for");
        check(|table| table.name = "hw_skips".into(), "name: \"hw_skips\" is kept for");
        check(|table| table.columns[1].name = "ID".into(), "columns[1].name: \"ID\" is there twice");
        check(|table| table.columns[1].name = "a\"b".into(), "columns[1].name: ");
        check(|table| table.columns[1].default = Cell::Boolean(true), "columns[1].default: not a Decimal");
        check(|table| table.columns[1].field = Some("id".into()), "columns[1].field: \"id\" is there twice");
        check(|table| table.key = vec![], "key: there is none");
        check(|table| table.key = vec![2], "key[0]: \"extra\" is of type Json");
        check(|table| table.key = vec![0, 0], "key[1]: \"id\" is there twice");
        check(|table| table.key = vec![9], "key[0]: there is no such column");
        check(|table| table.indexes[0].columns = vec![7], "indexes[0]: ");
        check(|table| table.columns.clear(), "columns: there are none");
    }

    #[test]
    fn a_stored_schema_says_nothing_of_a_field_that_is_called_as_its_column() {
        let stored = serde_json::to_string(&table().columns[0]).unwrap();
        assert_eq!(stored, r#"{"name":"id","type":"Text","default":"Null"}"#);
        assert_eq!(serde_json::from_str::<Column>(&stored).unwrap(), table().columns[0]);
        let named = Column { field: Some("Id".into()), ..table().columns[0].clone() };
        assert_eq!((named.field(), table().columns[0].field()), ("Id", "id"));
        let stored = serde_json::to_string(&named).unwrap();
        assert_eq!(serde_json::from_str::<Column>(&stored).unwrap(), named);
    }

    #[test]
    fn a_new_row_has_its_key_and_the_defaults() {
        let key = Key::new(vec![Cell::Text("a".into())]);
        let row = table().new_row(&key);
        assert_eq!(row, [Cell::Text("a".into()), Cell::Decimal("0".parse().unwrap()), Cell::Null]);
        assert_eq!(table().key_of(&row), key);
    }
}
