//! A definition compiled: every name resolved, every expression checked, once.

use std::collections::{HashMap, HashSet};
use std::fmt;

use headwater_core::{Error, EventType, PartitionCount};
use headwater_expr::{Expression, Scope, Type, Upcasts, event_type};
use headwater_resources::projection::{
    ColumnType as SpecType, ProjectionRule, RuleType, Table, Writers as SpecWriters,
};
use headwater_view::{Cell, Column, ColumnType, Index, TableSchema, Writers};

use crate::convert::{could_hold, parse_text, row_type};
use crate::definition::Definition;
use crate::event::upcasts;

/// Something wrong in a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path within the Projection's spec, for example `rules[2].set.amount`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// The faults of a definition, gathered so that all are shown at once.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, path: &str, message: impl Into<String>) {
        self.0.push(Fault { path: path.to_owned(), message: message.into() });
    }

    /// Compiles the expression at `path`; its faults join the others.
    pub(crate) fn compile(
        &mut self,
        path: &str,
        source: &str,
        scope: &Scope,
        wanted: &Type,
    ) -> Option<Expression> {
        match Expression::compile_as(source, scope, wanted) {
            Ok(expression) => Some(expression),
            Err(faults) => {
                for fault in faults {
                    self.add(path, fault.to_string());
                }
                None
            }
        }
    }

    /// As [`compile`](Self::compile), for a place whose value a column takes.
    fn compile_for(
        &mut self,
        path: &str,
        source: &str,
        scope: &Scope,
        column: &Column,
    ) -> Option<Expression> {
        let expression = self.compile(path, source, scope, &Type::Any)?;
        if could_hold(column.column_type, expression.result()) {
            return Some(expression);
        }
        self.add(
            path,
            format!(
                "`{source}` gives {}, and column \"{}\" is {}; convert it, or change the column's type",
                expression.result(),
                column.name,
                column.column_type.name()
            ),
        );
        None
    }
}

/// The faults of a definition as an error: all of them in its message, the first one's path as its field.
pub(crate) fn faults_error(faults: &[Fault]) -> Error {
    match faults {
        [] => Error::internal("a definition was refused without a fault"),
        [first, rest @ ..] => {
            let all: Vec<String> =
                [first.message.clone()].into_iter().chain(rest.iter().map(ToString::to_string)).collect();
            Error::invalid(first.path.clone(), all.join("\n"))
        }
    }
}

/// A compiled definition: what the fold runs.
#[derive(Debug)]
pub struct Plan {
    pub(crate) tables: Vec<TableSchema>,
    pub(crate) rules: Vec<Rule>,
    /// Numbers of the rules for an event type, in order.
    pub(crate) by_event: HashMap<String, Vec<usize>>,
    pub(crate) upcasts: Upcasts,
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Its name, or its index.
    pub(crate) name: String,
    pub(crate) table: usize,
    pub(crate) kind: RuleType,
    pub(crate) when: Option<Expression>,
    /// Whether any of its expressions reads the row.
    pub(crate) reads_row: bool,
    pub(crate) for_each: Option<ForEach>,
    /// In the order of the table's key.
    pub(crate) key: Vec<Expression>,
    /// Columns, and what to set or add.
    pub(crate) assign: Vec<(usize, Expression)>,
}

/// A compiled `forEach`.
#[derive(Debug)]
pub(crate) struct ForEach {
    pub(crate) list: Expression,
    pub(crate) item: String,
    pub(crate) index: Option<String>,
}

impl Plan {
    /// Compiles `definition` for a log of `partitions`.
    ///
    /// # Errors
    /// All faults that can be found.
    pub fn compile(definition: &Definition, partitions: PartitionCount) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let incremented = incremented_columns(definition, &mut faults);
        let mut tables: Vec<TableSchema> = Vec::with_capacity(definition.tables.len());
        for (index, table) in definition.tables.iter().enumerate() {
            let path = format!("tables[{index}]");
            if tables.iter().any(|other| other.name.eq_ignore_ascii_case(&table.name)) {
                faults.add(
                    &format!("{path}.name"),
                    format!("\"{}\" is there twice; give each table a name of its own", table.name),
                );
            }
            tables.push(schema(table, &path, &incremented, partitions, &mut faults));
        }
        let mut rules = Vec::with_capacity(definition.rules.len());
        let mut by_event: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, rule) in definition.rules.iter().enumerate() {
            for event in &rule.events {
                by_event.entry(event.clone()).or_default().push(index);
            }
            rules.extend(compile_rule(rule, index, &tables, partitions, &mut faults));
        }
        if partitions == PartitionCount::ONE {
            free_tables(&mut tables, &rules);
        }
        let upcasts = upcasts(&definition.event_types, &mut faults);
        if faults.0.is_empty() { Ok(Self { tables, rules, by_event, upcasts }) } else { Err(faults.0) }
    }

    /// The tables that it writes.
    pub fn tables(&self) -> &[TableSchema] {
        &self.tables
    }

    /// The event types that it reads.
    ///
    /// # Errors
    /// A rule's event type that no log can hold.
    pub(crate) fn event_types(&self) -> Result<Vec<EventType>, Error> {
        let mut types: Vec<EventType> = self.by_event.keys().map(EventType::new).collect::<Result<_, _>>()?;
        types.sort_unstable();
        Ok(types)
    }
}

/// The columns that rules add to, as table and column; a column that is also set is a fault.
fn incremented_columns<'d>(definition: &'d Definition, faults: &mut Faults) -> HashSet<(&'d str, &'d str)> {
    let incremented: HashSet<_> = definition
        .rules
        .iter()
        .flat_map(|rule| rule.by.keys().map(|column| (rule.table.as_str(), column.as_str())))
        .collect();
    for (index, rule) in definition.rules.iter().enumerate() {
        for column in
            rule.set.keys().filter(|column| incremented.contains(&(rule.table.as_str(), column.as_str())))
        {
            faults.add(
                &format!("rules[{index}].set.{column}"),
                format!("another rule adds to column \"{column}\"; a column is either set or added to, by all rules: use two columns"),
            );
        }
    }
    incremented
}

fn schema(
    table: &Table,
    path: &str,
    incremented: &HashSet<(&str, &str)>,
    partitions: PartitionCount,
    faults: &mut Faults,
) -> TableSchema {
    let columns: Vec<Column> = table
        .columns
        .iter()
        .enumerate()
        .map(|(number, column)| {
            let path = format!("{path}.columns[{number}]");
            let column_type = column_type(column.r#type);
            let is_incremented = incremented.contains(&(table.name.as_str(), column.name.as_str()));
            let default = match (&column.default, is_incremented) {
                (Some(text), _) => parse_text(text, column_type).unwrap_or_else(|why| {
                    faults.add(&format!("{path}.default"), why);
                    Cell::Null
                }),
                (None, true) => parse_text("0", column_type).unwrap_or(Cell::Null),
                (None, false) => Cell::Null,
            };
            Column { name: column.name.clone(), column_type, default, field: column.field.clone() }
        })
        .collect();
    let mut number = |name: &String, path: String| {
        let found = columns.iter().position(|column| column.name == *name);
        if found.is_none() {
            faults.add(
                &path,
                format!(
                    "there is no column \"{name}\"; there is {}",
                    names(columns.iter().map(|column| &*column.name))
                ),
            );
        }
        found
    };
    let key = table
        .key
        .iter()
        .enumerate()
        .filter_map(|(at, name)| number(name, format!("{path}.key[{at}]")))
        .collect();
    let indexes = table
        .indexes
        .iter()
        .enumerate()
        .map(|(at, index)| Index {
            columns: index
                .columns
                .iter()
                .filter_map(|name| number(name, format!("{path}.indexes[{at}].columns")))
                .collect(),
        })
        .collect();
    let writers = match (table.writers, partitions) {
        (SpecWriters::ManyStreams, _) => Writers::ManyStreams,
        // One partition is one total order: every rule is free.
        (SpecWriters::OneStream, PartitionCount::ONE) => Writers::Free,
        (SpecWriters::OneStream, _) => Writers::OneStream,
    };
    let schema = TableSchema { name: table.name.clone(), columns, key, indexes, writers };
    if let Err(Error::Invalid { field, message }) = schema.check() {
        faults.add(&format!("{path}.{field}"), message);
    }
    schema
}

/// In one total order, rows that many streams write may have any rule. Those that have only commuting ones keep their stamps all the
/// same: parked events that are folded later then give what they would have given in time.
fn free_tables(tables: &mut [TableSchema], rules: &[Rule]) {
    for rule in rules {
        let commutes = !rule.reads_row && matches!(rule.kind, RuleType::Upsert | RuleType::Increment);
        if !commutes {
            tables[rule.table].writers = Writers::Free;
        }
    }
}

const fn column_type(spec: SpecType) -> ColumnType {
    match spec {
        SpecType::Text => ColumnType::Text,
        SpecType::Integer => ColumnType::Integer,
        SpecType::Decimal => ColumnType::Decimal,
        SpecType::Boolean => ColumnType::Boolean,
        SpecType::Timestamp => ColumnType::Timestamp,
        SpecType::Json => ColumnType::Json,
    }
}

/// Names for a message.
pub(crate) fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn compile_rule(
    rule: &ProjectionRule,
    index: usize,
    tables: &[TableSchema],
    partitions: PartitionCount,
    faults: &mut Faults,
) -> Option<Rule> {
    let path = format!("rules[{index}]");
    let Some(table) = tables.iter().position(|table| table.name == rule.table) else {
        faults.add(
            &format!("{path}.table"),
            format!(
                "there is no table \"{}\"; there is {}",
                rule.table,
                names(tables.iter().map(|table| &*table.name))
            ),
        );
        return None;
    };
    let schema = &tables[table];
    let many = schema.writers == Writers::ManyStreams && partitions != PartitionCount::ONE;
    if many && matches!(rule.r#type, RuleType::Update | RuleType::Delete) {
        faults.add(
            &format!("{path}.type"),
            format!(
                "{} on table \"{}\", whose rows many streams write: the result would depend on which event comes first; \
                 use Upsert or Increment, or a table with writers: OneStream",
                rule.r#type.as_str(),
                schema.name
            ),
        );
    }

    let event = Scope::new().with("event", event_type(Type::Any));
    let mut of_item = event.clone();
    let mut for_each = None;
    if let Some(each) = &rule.for_each {
        let list = faults.compile(&format!("{path}.forEach.in"), &each.r#in, &event, &Type::list(Type::Any));
        let item_type = match list.as_ref().map(|list| list.result().non_null()) {
            Some(Type::List(element)) => (**element).clone(),
            _ => Type::Any,
        };
        of_item = of_item.with(each.item.as_str(), item_type);
        if let Some(index) = &each.index {
            of_item = of_item.with(index.as_str(), Type::Number);
        }
        for_each = list.map(|list| ForEach { list, item: each.item.clone(), index: each.index.clone() });
    }
    let with_row = if many { of_item.clone() } else { of_item.clone().with("row", row_type(schema)) };

    let when = rule
        .when
        .as_ref()
        .and_then(|source| faults.compile(&format!("{path}.when"), source, &with_row, &Type::Bool));
    let key = compile_key(rule, &path, schema, &of_item, faults);
    let (member, sources) =
        if rule.r#type == RuleType::Increment { ("by", &rule.by) } else { ("set", &rule.set) };
    let mut assign = Vec::with_capacity(sources.len());
    for (name, source) in sources {
        let path = format!("{path}.{member}.{name}");
        let Some(column) = schema.column(name) else {
            let known = names(schema.columns.iter().map(|column| &*column.name));
            faults
                .add(&path, format!("table \"{}\" has no column \"{name}\"; there is {known}", schema.name));
            continue;
        };
        let known = &schema.columns[column];
        if schema.key.contains(&column) {
            faults.add(
                &path,
                format!("\"{name}\" is part of the key, which `key` gives; take it out of `{member}`"),
            );
        }
        if member == "by" && !matches!(known.column_type, ColumnType::Integer | ColumnType::Decimal) {
            faults.add(
                &path,
                format!(
                    "column \"{name}\" is {}, and only Integer and Decimal can be added to",
                    known.column_type.name()
                ),
            );
        }
        assign.extend(
            faults.compile_for(&path, source, &with_row, known).map(|expression| (column, expression)),
        );
    }
    let reads_row = when
        .iter()
        .chain(assign.iter().map(|(_, expression)| expression))
        .any(|expression| expression.reads("row"));
    Some(Rule {
        name: rule.name.clone().unwrap_or_else(|| index.to_string()),
        table,
        kind: rule.r#type,
        when,
        reads_row,
        for_each,
        key,
        assign,
    })
}

fn compile_key(
    rule: &ProjectionRule,
    path: &str,
    schema: &TableSchema,
    scope: &Scope,
    faults: &mut Faults,
) -> Vec<Expression> {
    let key_names: Vec<&str> =
        schema.key.iter().map(|column| schema.columns[*column].name.as_str()).collect();
    for name in rule.key.keys().filter(|name| !key_names.contains(&name.as_str())) {
        faults.add(
            &format!("{path}.key.{name}"),
            format!(
                "\"{name}\" is not part of the key of table \"{}\", which is {}",
                schema.name,
                names(key_names.iter().copied())
            ),
        );
    }
    let mut key = Vec::with_capacity(key_names.len());
    for column in &schema.key {
        let column = &schema.columns[*column];
        match rule.key.get(&column.name) {
            Some(source) => {
                key.extend(faults.compile_for(&format!("{path}.key.{}", column.name), source, scope, column));
            }
            None => faults.add(
                &format!("{path}.key"),
                format!(
                    "\"{}\" is missing; give an expression for each column of the key: {}",
                    column.name,
                    names(key_names.iter().copied())
                ),
            ),
        }
    }
    key
}

#[cfg(test)]
mod tests;
