//! The statements of one table of one revision.

use std::cmp::Ordering;
use std::fmt::Write;

use headwater_view::{ColumnType, Revision, TableSchema, Writers};
use rusqlite::Connection;

use crate::stamps::decimal;
use crate::view_sql::{join, quote};

/// Orders decimals by value; named in our own statements and indexes alone, so that other programs can read the tables without it.
const DECIMAL: &str = "headwater_decimal";

/// Makes a connection know what the statements use.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.create_collation(DECIMAL, |a: &str, b: &str| match (decimal(a), decimal(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (None, None) => a.cmp(b),
    })
}

/// A table's statements, by name of what they do.
pub(super) struct TableSql {
    pub(super) schema: TableSchema,
    /// Parameters: the key.
    pub(super) select: String,
    /// Parameters: the columns, the version, then what the writers' kind adds.
    pub(super) insert: String,
    /// Parameters: as `insert`, then the key and the expected version.
    pub(super) update: String,
    /// Parameters: the key and the expected version.
    pub(super) delete: String,
    /// `SELECT` of the columns of the rows that people see, to be continued with ` AND …`.
    pub(super) rows: String,
    physical: String,
}

impl TableSql {
    pub(super) fn new(revision: Revision, schema: TableSchema) -> Self {
        let physical = quote(&format!("r{revision}_{}", schema.name));
        let columns = join(&schema.columns, ", ", |column| quote(&column.name));
        let key = |offset: usize| {
            join(schema.key.iter().enumerate(), " AND ", |(number, column)| {
                format!("{} = ?{}", quote(&schema.columns[*column].name), offset + number + 1)
            })
        };
        let extra = Self::extra(schema.writers);
        let written: Vec<String> = schema
            .columns
            .iter()
            .map(|column| quote(&column.name))
            .chain(["_hw_version".to_owned()])
            .chain(extra.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        let extra_names = join(extra, "", |(name, _)| format!(", {name}"));
        let live = if schema.writers == Writers::OneStream { "_hw_live" } else { "1" };
        Self {
            select: format!("SELECT _hw_version, {columns}{extra_names} FROM {physical} WHERE {}", key(0)),
            insert: format!(
                "INSERT INTO {physical} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
                written.join(", "),
                join(1..=written.len(), ", ", |number| format!("?{number}"))
            ),
            update: format!(
                "UPDATE {physical} SET {} WHERE {} AND _hw_version = ?{}",
                join(written.iter().enumerate(), ", ", |(number, name)| format!("{name} = ?{}", number + 1)),
                key(written.len()),
                written.len() + schema.key.len() + 1
            ),
            delete: format!(
                "DELETE FROM {physical} WHERE {} AND _hw_version = ?{}",
                key(0),
                schema.key.len() + 1
            ),
            rows: format!("SELECT {columns} FROM {physical} WHERE {live}"),
            physical,
            schema,
        }
    }

    /// The columns that a row has besides the user's and its version.
    const fn extra(writers: Writers) -> &'static [(&'static str, &'static str)] {
        match writers {
            Writers::Free => &[],
            Writers::OneStream => &[("_hw_writer", "TEXT NOT NULL"), ("_hw_live", "INTEGER NOT NULL")],
            Writers::ManyStreams => &[("_hw_stamps", "BLOB NOT NULL")],
        }
    }

    /// The statements that make the table and its indexes.
    pub(super) fn create(&self) -> String {
        let mut sql = format!("CREATE TABLE {} (", self.physical);
        for (number, column) in self.schema.columns.iter().enumerate() {
            let stored = match column.column_type {
                ColumnType::Integer | ColumnType::Boolean => "INTEGER",
                ColumnType::Text | ColumnType::Decimal | ColumnType::Timestamp | ColumnType::Json => "TEXT",
            };
            let not_null = if self.schema.key.contains(&number) { " NOT NULL" } else { "" };
            let _ = write!(sql, "{} {stored}{not_null}, ", quote(&column.name));
        }
        sql.push_str("_hw_version INTEGER NOT NULL, ");
        for (name, stored) in Self::extra(self.schema.writers) {
            let _ = write!(sql, "{name} {stored}, ");
        }
        let key = join(&self.schema.key, ", ", |column| quote(&self.schema.columns[*column].name));
        let _ = writeln!(sql, "PRIMARY KEY ({key})) STRICT, WITHOUT ROWID;");
        for (number, index) in self.schema.indexes.iter().enumerate() {
            // Not a name that a table could have: those that begin so are reserved.
            let name = format!("hw_index_{}_{number}", self.physical.trim_matches('"'));
            let columns = join(&index.columns, ", ", |column| self.comparable(*column));
            let _ = writeln!(sql, "CREATE INDEX {} ON {} ({columns});", quote(&name), self.physical);
        }
        sql
    }

    /// The statement that removes the table.
    pub(super) fn drop(&self) -> String {
        format!("DROP TABLE {};", self.physical)
    }

    /// The statement that gives the table its plain name for people.
    pub(super) fn create_view(&self) -> String {
        let live = if self.schema.writers == Writers::OneStream { " WHERE _hw_live" } else { "" };
        let columns = join(&self.schema.columns, ", ", |column| quote(&column.name));
        format!("CREATE VIEW {} AS SELECT {columns} FROM {}{live};", quote(&self.schema.name), self.physical)
    }

    /// The statement that takes the plain name away.
    pub(super) fn drop_view(&self) -> String {
        format!("DROP VIEW IF EXISTS {};", quote(&self.schema.name))
    }

    /// The column as it is compared and ordered by.
    pub(super) fn comparable(&self, column: usize) -> String {
        let column = &self.schema.columns[column];
        let collation = if column.column_type == ColumnType::Decimal {
            format!(" COLLATE {DECIMAL}")
        } else {
            String::new()
        };
        format!("{}{collation}", quote(&column.name))
    }

    /// The column as equality uses it: a key's decimals are normal, so their text decides, and the key's index serves.
    pub(super) fn equatable(&self, column: usize) -> String {
        if self.schema.key.contains(&column) {
            quote(&self.schema.columns[column].name)
        } else {
            self.comparable(column)
        }
    }
}

#[cfg(test)]
mod tests {
    use headwater_view::{Cell, Column, Index};

    use super::*;

    /// Statements for people to read: what is in a file that others wrote must stay readable.
    #[test]
    fn tables_and_names_have_a_golden_form() {
        let column = |name: &str, column_type| Column::new(name, column_type, Cell::Null);
        let schema = TableSchema {
            name: "order".into(),
            columns: vec![
                column("id", ColumnType::Text),
                column("total", ColumnType::Decimal),
                column("at", ColumnType::Timestamp),
            ],
            key: vec![0],
            indexes: vec![Index { columns: vec![1, 2] }],
            writers: Writers::OneStream,
        };
        let table = TableSql::new(Revision(3), schema.clone());
        assert_eq!(
            table.create(),
            "CREATE TABLE \"r3_order\" (\"id\" TEXT NOT NULL, \"total\" TEXT, \"at\" TEXT, _hw_version INTEGER NOT NULL, \
             _hw_writer TEXT NOT NULL, _hw_live INTEGER NOT NULL, PRIMARY KEY (\"id\")) STRICT, WITHOUT ROWID;\n\
             CREATE INDEX \"hw_index_r3_order_0\" ON \"r3_order\" (\"total\" COLLATE headwater_decimal, \"at\");\n"
        );
        assert_eq!(
            table.create_view(),
            "CREATE VIEW \"order\" AS SELECT \"id\", \"total\", \"at\" FROM \"r3_order\" WHERE _hw_live;"
        );
        let many = TableSql::new(
            Revision(3),
            TableSchema { writers: Writers::ManyStreams, indexes: vec![], ..schema },
        );
        assert_eq!(
            many.create(),
            "CREATE TABLE \"r3_order\" (\"id\" TEXT NOT NULL, \"total\" TEXT, \"at\" TEXT, _hw_version INTEGER NOT NULL, \
             _hw_stamps BLOB NOT NULL, PRIMARY KEY (\"id\")) STRICT, WITHOUT ROWID;\n"
        );
        assert_eq!(
            many.create_view(),
            "CREATE VIEW \"order\" AS SELECT \"id\", \"total\", \"at\" FROM \"r3_order\";"
        );
    }
}
