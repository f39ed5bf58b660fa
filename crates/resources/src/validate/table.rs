//! The tables of a projection.

use std::collections::{HashMap, HashSet};

use headwater_expr::Decimal;

use crate::fault::{Path, Problem, suggest};
use crate::projection::{Column, ColumnType, QUERY_PARAMETERS, Table};

/// What names of tables and columns must not begin with: it is for what Headwater keeps beside them.
const RESERVED_PREFIX: &str = "hw_";

pub(super) fn check(tables: &[Table], path: &Path, problems: &mut Vec<Problem>) {
    let mut names = HashSet::new();
    for (index, table) in tables.iter().enumerate() {
        let path = path.index(index);
        if !names.insert(&table.name) {
            let message = format!("there is another table \"{}\"", table.name);
            problems.push(Problem::new(path.field("name"), message, "give each its own name"));
        }
        identifier(&table.name, &path.field("name"), problems);
        table_name(&table.name, &path.field("name"), problems);
        columns(table, &path, problems);
        key(table, &path.field("key"), problems);
        for (at, index) in table.indexes.iter().enumerate() {
            let path = path.field("indexes").index(at).field("columns");
            known_columns(table, &index.columns, &path, problems);
            for (at, name) in index.columns.iter().enumerate() {
                if table.column(name).is_some_and(|column| column.r#type == ColumnType::Json) {
                    let message = format!("the column \"{name}\" is Json, which has no order");
                    problems.push(Problem::new(
                        path.index(at),
                        message,
                        "keep what you look for in a column of its own",
                    ));
                }
            }
        }
    }
}

fn columns(table: &Table, path: &Path, problems: &mut Vec<Problem>) {
    let mut names = HashSet::new();
    let mut fields: HashMap<&str, &str> = HashMap::new();
    for (index, column) in table.columns.iter().enumerate() {
        let path = path.field("columns").index(index);
        if !names.insert(&column.name) {
            let message = format!("there is another column \"{}\"", column.name);
            problems.push(Problem::new(path.field("name"), message, "give each its own name"));
        }
        identifier(&column.name, &path.field("name"), problems);
        if QUERY_PARAMETERS.contains(&column.name.as_str()) {
            let message = format!(
                "\"{}\" is a parameter of every query, so rows could not be looked for by it",
                column.name
            );
            problems.push(Problem::new(path.field("name"), message, "call it something else"));
        }
        let field = column.field.as_deref().unwrap_or(&column.name);
        if let Some(other) = fields.insert(field, &column.name)
            && *other != column.name
        {
            let message = format!("the column \"{other}\" has the field \"{field}\" too");
            problems.push(Problem::new(path.field("field"), message, "give each column its own field"));
        }
        if let Some(default) = &column.default
            && let Err(remedy) = default_fits(column, default)
        {
            let message = format!("\"{default}\" is no {}", column.r#type.as_str());
            problems.push(Problem::new(path.field("default"), message, remedy));
        }
    }
}

fn key(table: &Table, path: &Path, problems: &mut Vec<Problem>) {
    known_columns(table, &table.key, path, problems);
    for (at, name) in table.key.iter().enumerate() {
        if table.column(name).is_some_and(|column| column.r#type == ColumnType::Json) {
            let message = format!("the column \"{name}\" is Json, which cannot identify a row");
            problems.push(Problem::new(
                path.index(at),
                message,
                "use Text, Integer, Decimal, Boolean or Timestamp",
            ));
        }
    }
}

fn known_columns(table: &Table, names: &[String], path: &Path, problems: &mut Vec<Problem>) {
    let mut seen = HashSet::new();
    for (at, name) in names.iter().enumerate() {
        if table.column(name).is_none() {
            problems.push(Problem::new(path.index(at), no_column(table, name), near_column(table, name)));
        }
        if !seen.insert(name) {
            let message = format!("the column \"{name}\" stands twice here");
            problems.push(Problem::new(path.index(at), message, "remove one of them"));
        }
    }
}

/// Where Kubernetes has not looked at the pattern: in what an older definition has let through.
fn identifier(name: &str, path: &Path, problems: &mut Vec<Problem>) {
    if name.starts_with(RESERVED_PREFIX) {
        let message = format!("names that begin with \"{RESERVED_PREFIX}\" are Headwater's own");
        problems.push(Problem::new(path.clone(), message, "call it something else"));
    }
}

/// A revision's tables are called `r1_NAME` beside the view of that name.
fn table_name(name: &str, path: &Path, problems: &mut Vec<Problem>) {
    let of_a_revision = name
        .strip_prefix('r')
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(digits, _)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if of_a_revision || name.starts_with("sqlite_") {
        let message = "names such as \"r1_…\" and \"sqlite_…\" are for tables that Headwater and databases make themselves";
        problems.push(Problem::new(path.clone(), message, "call it something else"));
    }
}

pub(super) fn no_column(table: &Table, name: &str) -> String {
    format!("the table \"{}\" has no column \"{name}\"", table.name)
}

pub(super) fn near_column(table: &Table, name: &str) -> String {
    suggest(name, table.columns.iter().map(|column| column.name.as_str()))
}

/// Whether the text can be read as the column's type; else what to write.
fn default_fits(column: &Column, text: &str) -> Result<(), &'static str> {
    let (fits, remedy) = match column.r#type {
        ColumnType::Text => (true, ""),
        ColumnType::Integer => {
            (text.parse::<i64>().is_ok(), "write a whole number of 64 bits, for example \"0\"")
        }
        ColumnType::Decimal => (
            Decimal::from_str_exact(text).is_ok(),
            "write a decimal of at most 28 digits, for example \"0.00\"",
        ),
        ColumnType::Boolean => (matches!(text, "true" | "false"), "write \"true\" or \"false\""),
        ColumnType::Timestamp => {
            (text.parse::<jiff::Timestamp>().is_ok(), "write a time, for example \"2026-01-31T12:00:00Z\"")
        }
        ColumnType::Json => (
            serde_json::from_str::<serde_json::Value>(text).is_ok(),
            "write JSON, for example '{}' or '\"text\"'",
        ),
    };
    if fits { Ok(()) } else { Err(remedy) }
}
