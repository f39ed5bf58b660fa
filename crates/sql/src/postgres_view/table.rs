//! The statements of one table of one revision. Each does its work for any number of rows.

use std::fmt::Write;

use headwater_view::{ColumnType, Revision, TableSchema, Writers};

use super::cells::sql_type;
use crate::view_sql::{join, quote};

/// A table's statements, by name of what they do. Parameters are arrays, one element a row.
pub(super) struct TableSql {
    pub(super) schema: TableSchema,
    /// Parameters: the key. Gives the row's number among those asked for, its version, its columns, and what its writers' kind adds.
    pub(super) select: String,
    /// Parameters: the columns, what the writers' kind adds, and, as one number, the version.
    pub(super) insert: String,
    /// Parameters: as `insert`, and the expected versions.
    pub(super) update: String,
    /// Parameters: the key and the expected versions.
    pub(super) delete: String,
    /// Parameters: the key. Gives how many of the rows are there.
    pub(super) count: String,
    /// `SELECT` of the columns of the rows that people see, to be continued with ` AND …`.
    pub(super) rows: String,
    physical: String,
}

impl TableSql {
    pub(super) fn new(revision: Revision, schema: TableSchema) -> Self {
        let physical = quote(&format!("r{revision}_{}", schema.name));
        let extra = Self::extra(schema.writers);
        let name = |column: usize| quote(&schema.columns[column].name);
        let columns = join(0..schema.columns.len(), ", ", name);
        // Of arrays: the key alone, and all that is written.
        let key_arrays = join(schema.key.iter().enumerate(), ", ", |(number, column)| {
            format!("${}::{} []", number + 1, sql_type(schema.columns[*column].column_type))
        });
        let key_names = join(0..schema.key.len(), ", ", |number| format!("k{number}"));
        let by_key = join(schema.key.iter().enumerate(), " AND ", |(number, column)| {
            format!("t.{} = e.k{number}", name(*column))
        });
        let types: Vec<&str> = schema
            .columns
            .iter()
            .map(|column| sql_type(column.column_type))
            .chain(extra.iter().map(|(_, stored, _)| *stored))
            .collect();
        let written: Vec<String> = (0..schema.columns.len())
            .map(name)
            .chain(extra.iter().map(|(name, ..)| (*name).to_owned()))
            .collect();
        let arrays =
            join(types.iter().enumerate(), ", ", |(number, stored)| format!("${}::{stored} []", number + 1));
        let names = join(0..types.len(), ", ", |number| format!("c{number}"));
        let version = types.len() + 1;
        let expected = types.len() + 2;
        let key_expected = schema.key.len() + 1;
        let written_key = join(&schema.key, " AND ", |column| format!("t.{} = e.c{column}", name(*column)));
        let extra_names = join(extra, "", |(name, ..)| format!(", t.{name}"));
        let live = if schema.writers == Writers::OneStream { "_hw_live" } else { "TRUE" };
        Self {
            select: format!(
                "SELECT e.number, t._hw_version, {}{extra_names} FROM unnest({key_arrays}) WITH ORDINALITY AS e ({key_names}, number) \
                 JOIN {physical} AS t ON {by_key}",
                join(0..schema.columns.len(), ", ", |column| format!("t.{}", name(column)))
            ),
            insert: format!(
                "INSERT INTO {physical} ({}, _hw_version) SELECT {}, ${version}::BIGINT FROM unnest({arrays}) AS e ({names}) \
                 ON CONFLICT DO NOTHING",
                written.join(", "),
                join(0..types.len(), ", ", |number| format!("e.c{number}"))
            ),
            update: format!(
                "UPDATE {physical} AS t SET {}, _hw_version = ${version}::BIGINT FROM unnest({arrays}, ${expected}::BIGINT []) \
                 AS e ({names}, expected) WHERE {written_key} AND t._hw_version = e.expected",
                join(written.iter().enumerate(), ", ", |(number, name)| format!("{name} = e.c{number}"))
            ),
            delete: format!(
                "DELETE FROM {physical} AS t USING unnest({key_arrays}, ${key_expected}::BIGINT []) AS e ({key_names}, expected) \
                 WHERE {by_key} AND t._hw_version = e.expected"
            ),
            count: format!(
                "SELECT count(*) FROM unnest({key_arrays}) AS e ({key_names}) JOIN {physical} AS t ON {by_key}"
            ),
            rows: format!("SELECT {columns} FROM {physical} WHERE {live}"),
            physical,
            schema,
        }
    }

    /// The columns that a row has besides the user's and its version: name, type, and whether null is kept out.
    pub(super) const fn extra(writers: Writers) -> &'static [(&'static str, &'static str, bool)] {
        match writers {
            Writers::Free => &[],
            Writers::OneStream => &[("_hw_writer", "TEXT", true), ("_hw_live", "BOOLEAN", true)],
            Writers::ManyStreams => &[("_hw_stamps", "BYTEA", true)],
        }
    }

    /// The statements that make the table and its indexes.
    pub(super) fn create(&self) -> Vec<String> {
        let mut sql = format!("CREATE TABLE {} (", self.physical);
        for (number, column) in self.schema.columns.iter().enumerate() {
            // Ordered by code point, whatever the database's own order.
            let collation = if sql_type(column.column_type) == "TEXT" { " COLLATE \"C\"" } else { "" };
            let not_null = if self.schema.key.contains(&number) { " NOT NULL" } else { "" };
            let _ = write!(
                sql,
                "{} {}{collation}{not_null}, ",
                quote(&column.name),
                sql_type(column.column_type)
            );
        }
        sql.push_str("_hw_version BIGINT NOT NULL, ");
        for (name, stored, not_null) in Self::extra(self.schema.writers) {
            let _ = write!(sql, "{name} {stored}{}, ", if *not_null { " NOT NULL" } else { "" });
        }
        let key = join(&self.schema.key, ", ", |column| quote(&self.schema.columns[*column].name));
        let _ = write!(sql, "PRIMARY KEY ({key}))");
        let mut statements = vec![sql];
        for (number, index) in self.schema.indexes.iter().enumerate() {
            // Not a name that a table could have: those that begin so are reserved.
            let name = format!("hw_index_{}_{number}", self.physical.trim_matches('"'));
            let columns =
                join(&index.columns, ", ", |column| format!("{} NULLS FIRST", self.comparable(*column)));
            statements.push(format!("CREATE INDEX {} ON {} ({columns})", quote(&name), self.physical));
        }
        statements
    }

    /// The statement that removes the table.
    pub(super) fn drop(&self) -> String {
        format!("DROP TABLE {}", self.physical)
    }

    /// The statement that gives the table its plain name for people, and its columns the types that they have for them.
    pub(super) fn create_view(&self) -> String {
        let live = if self.schema.writers == Writers::OneStream { " WHERE _hw_live" } else { "" };
        let columns = join(&self.schema.columns, ", ", |column| {
            let name = quote(&column.name);
            match column.column_type {
                ColumnType::Text | ColumnType::Integer | ColumnType::Boolean => name,
                ColumnType::Decimal => format!("{name}::NUMERIC AS {name}"),
                ColumnType::Json => format!("{name}::JSON AS {name}"),
                ColumnType::Timestamp => format!(
                    "TIMESTAMPTZ 'epoch' + ({name} / 1000000) * INTERVAL '1 second' \
                     + ({name} % 1000000) * INTERVAL '1 microsecond' AS {name}"
                ),
            }
        });
        format!("CREATE VIEW {} AS SELECT {columns} FROM {}{live}", quote(&self.schema.name), self.physical)
    }

    /// The statement that takes the plain name away.
    pub(super) fn drop_view(&self) -> String {
        format!("DROP VIEW IF EXISTS {}", quote(&self.schema.name))
    }

    /// The column as it is compared and ordered by.
    pub(super) fn comparable(&self, column: usize) -> String {
        let column = &self.schema.columns[column];
        let name = quote(&column.name);
        if column.column_type == ColumnType::Decimal { format!("(({name})::NUMERIC)") } else { name }
    }

    /// The column as it is stored.
    pub(super) fn equatable(&self, column: usize) -> String {
        quote(&self.schema.columns[column].name)
    }

    /// A parameter as such a column is compared with it.
    pub(super) fn parameter(&self, column: usize, number: usize) -> String {
        match self.schema.columns[column].column_type {
            ColumnType::Decimal => format!("${number}::TEXT::NUMERIC"),
            column_type => format!("${number}::{}", sql_type(column_type)),
        }
    }
}
