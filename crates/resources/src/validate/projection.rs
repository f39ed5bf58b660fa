//! Projections: every name that a rule uses is there, every expression fits its column, and the result does not depend on
//! the order in which partitions are read.

use std::collections::{BTreeMap, HashMap};

use headwater_expr::{Scope, Type};

use super::{expression, scope, table};
use crate::event_stream::EventStream;
use crate::fault::{Path, Problem, list, suggest};
use crate::projection::{Projection, ProjectionRule, RuleType, StartFromType, Table, Writers};
use crate::shared::Cel;

/// All that is wrong with a projection. Without its event stream, the data of events is not known, and the checks that
/// need it or the number of partitions are left out.
pub fn projection(projection: &Projection, stream: Option<&EventStream>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = Path::root().field("spec");
    table::check(&projection.spec.tables, &spec.field("tables"), &mut problems);
    start_from(projection, stream, &spec.field("startFrom"), &mut problems);
    let mut checker = Checker { tables: &projection.spec.tables, stream, problems: &mut problems };
    let rules = spec.field("rules");
    for (index, rule) in projection.spec.rules.iter().enumerate() {
        checker.rule(rule, &rules.index(index));
    }
    names(&projection.spec.rules, &rules, &mut problems);
    set_or_incremented(&projection.spec.rules, &rules, &mut problems);
    problems
}

fn start_from(
    projection: &Projection,
    stream: Option<&EventStream>,
    path: &Path,
    problems: &mut Vec<Problem>,
) {
    let start = &projection.spec.start_from;
    if start.r#type != StartFromType::Position {
        return;
    }
    let Some(stream) = stream else { return };
    for (index, position) in start.position.iter().flatten().enumerate() {
        if position.partition >= stream.spec.partitions {
            let message = format!("there is no partition {}", position.partition);
            let remedy = format!("the event stream has 0 to {}", stream.spec.partitions - 1);
            problems.push(Problem::new(
                path.field("position").index(index).field("partition"),
                message,
                remedy,
            ));
        }
    }
}

fn names(rules: &[ProjectionRule], path: &Path, problems: &mut Vec<Problem>) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let Some(name) = &rule.name else { continue };
        if let Some(first) = seen.insert(name, index) {
            let message = format!("{path}[{first}] is called \"{name}\" too");
            problems.push(Problem::new(
                path.index(index).field("name"),
                message,
                "give each rule its own name",
            ));
        }
    }
}

/// A column is either set or incremented by all rules, so that the order of two rules does not matter.
fn set_or_incremented(rules: &[ProjectionRule], path: &Path, problems: &mut Vec<Problem>) {
    let mut set: HashMap<(&str, &str), usize> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        for column in rule.set.keys() {
            set.entry((&rule.table, column)).or_insert(index);
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        for column in rule.by.keys() {
            if let Some(setter) = set.get(&(rule.table.as_str(), column.as_str())) {
                let message = format!(
                    "the column \"{column}\" is set by {path}[{setter}] and incremented here; a column is either set or incremented"
                );
                let remedy = "let it begin at its default, or keep what is added in another column";
                problems.push(
                    Problem::new(path.index(index).field("by").field(column), message, remedy).of_key(),
                );
            }
        }
    }
}

struct Checker<'a> {
    tables: &'a [Table],
    stream: Option<&'a EventStream>,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, path: Path, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(path, message, remedy));
    }

    fn rule(&mut self, rule: &ProjectionRule, path: &Path) {
        self.events(rule, path);
        let data = scope::data(self.stream, rule.events.iter().map(String::as_str));
        let scope = Scope::new().with("event", headwater_expr::event_type(data));
        let scope = self.for_each(rule, scope, path);
        let table = self.tables.iter().find(|table| table.name == rule.table);
        let Some(table) = table else {
            let known = self.tables.iter().map(|table| table.name.as_str());
            let remedy = suggest(&rule.table, known);
            return self.problem(
                path.field("table"),
                format!("there is no table \"{}\"", rule.table),
                remedy,
            );
        };
        self.writers(rule, table, path);
        self.key(rule, table, &scope, &path.field("key"));

        let with_row = scope.with("row", scope::row(table));
        if let Some(when) = &rule.when {
            let path = path.field("when");
            let compiled = expression::condition(when, &with_row, &path, self.problems);
            if compiled.is_some_and(|compiled| compiled.reads("row")) {
                self.row_is_read(table, &path);
            }
        }
        self.columns(&rule.set, table, &with_row, &path.field("set"), false);
        self.columns(&rule.by, table, &with_row, &path.field("by"), true);
    }

    fn events(&mut self, rule: &ProjectionRule, path: &Path) {
        let Some(stream) = self.stream else { return };
        let declared: Vec<&str> =
            stream.spec.event_types.iter().map(|declared| declared.name.as_str()).collect();
        if declared.is_empty() {
            return;
        }
        for (index, event) in rule.events.iter().enumerate() {
            if !declared.contains(&event.as_str()) {
                let stream = stream.metadata.name.as_deref().unwrap_or_default();
                let message = format!("the EventStream \"{stream}\" declares no event type \"{event}\"");
                let remedy = suggest(event, declared.iter().copied());
                self.problems
                    .push(Problem::new(path.field("events").index(index), message, remedy).warning());
            }
        }
    }

    /// The scope with the variables of `forEach`.
    fn for_each(&mut self, rule: &ProjectionRule, scope: Scope, path: &Path) -> Scope {
        let Some(for_each) = &rule.for_each else { return scope };
        let path = path.field("forEach");
        let mut element = Type::Any;
        if let Some(list) = expression::compile(&for_each.r#in, &scope, &path.field("in"), self.problems) {
            match list.result().non_null() {
                Type::List(inner) => element = (**inner).clone(),
                Type::Any => {}
                other => {
                    let message = format!("gives {other}, but a list is needed");
                    self.problem(path.field("in"), message, "name a field of the event that is a list");
                }
            }
        }
        for (field, name) in [("as", Some(&for_each.item)), ("index", for_each.index.as_ref())] {
            let Some(name) = name else { continue };
            if name == "event" || name == "row" || (field == "index" && *name == for_each.item) {
                let message = format!("the variable \"{name}\" is there already");
                self.problem(path.field(field), message, "call it something else");
            }
        }
        let scope = scope.with(for_each.item.clone(), element);
        match &for_each.index {
            Some(index) => scope.with(index.clone(), Type::Number),
            None => scope,
        }
    }

    /// Whether events that write a row may come in more than one order.
    fn is_unordered(&self, table: &Table) -> bool {
        let several = self.stream.is_some_and(|stream| stream.spec.partitions > 1);
        table.writers == Writers::ManyStreams && several
    }

    fn writers(&mut self, rule: &ProjectionRule, table: &Table, path: &Path) {
        if self.is_unordered(table) && matches!(rule.r#type, RuleType::Update | RuleType::Delete) {
            let message = format!(
                "{} is not possible in the table \"{}\", whose rows are written from many streams: their order over partitions is not defined",
                rule.r#type.as_str(),
                table.name
            );
            self.problem(
                path.field("type"),
                message,
                "use Upsert or Increment, or declare writers: OneStream and a key that holds to one stream id",
            );
        }
    }

    fn row_is_read(&mut self, table: &Table, path: &Path) {
        if self.is_unordered(table) {
            let message = format!(
                "row cannot be read in the table \"{}\", whose rows are written from many streams: their order over partitions is not defined",
                table.name
            );
            self.problem(path.clone(), message, "use the event alone, or declare writers: OneStream");
        }
    }

    fn key(&mut self, rule: &ProjectionRule, table: &Table, scope: &Scope, path: &Path) {
        let missing: Vec<&str> =
            table.key.iter().filter(|name| !rule.key.contains_key(*name)).map(String::as_str).collect();
        if !missing.is_empty() {
            let message = format!("{} of the key of the table \"{}\" is missing", list(missing), table.name);
            self.problem(path.clone(), message, "give an expression for each column of the key");
        }
        for (name, source) in &rule.key {
            let path = path.field(name);
            if !table.is_key(name) {
                let message = match table.column(name) {
                    Some(_) => format!(
                        "the column \"{name}\" is not part of the key of the table \"{}\"",
                        table.name
                    ),
                    None => table::no_column(table, name),
                };
                let remedy = format!("the key is {}", list(table.key.iter().map(String::as_str)));
                self.problems.push(Problem::new(path.clone(), message, remedy).of_key());
            }
            self.value(source, name, table, scope, &path);
        }
    }

    fn columns(
        &mut self,
        sources: &BTreeMap<String, Cel>,
        table: &Table,
        scope: &Scope,
        path: &Path,
        increment: bool,
    ) {
        for (name, source) in sources {
            let path = path.field(name);
            match table.column(name) {
                None => {
                    let problem = Problem::new(
                        path.clone(),
                        table::no_column(table, name),
                        table::near_column(table, name),
                    );
                    self.problems.push(problem.of_key());
                }
                Some(_) if table.is_key(name) => {
                    let message =
                        format!("the column \"{name}\" is part of the key, which says which row it is");
                    self.problems.push(Problem::new(path.clone(), message, "remove it here").of_key());
                }
                Some(column) if increment && !column.r#type.is_number() => {
                    let message = format!(
                        "the column \"{name}\" is {}, which cannot be added to",
                        column.r#type.as_str()
                    );
                    self.problems
                        .push(Problem::new(path.clone(), message, "make it Integer or Decimal").of_key());
                    continue;
                }
                Some(_) => {}
            }
            self.value(source, name, table, scope, &path);
        }
    }

    /// Checks an expression whose value goes into a column.
    fn value(&mut self, source: &Cel, column: &str, table: &Table, scope: &Scope, path: &Path) {
        let Some(compiled) = expression::compile(source, scope, path, self.problems) else { return };
        if compiled.reads("row") {
            self.row_is_read(table, path);
        }
        let Some(column) = table.column(column) else { return };
        let wanted = scope::column(column.r#type);
        let wanted = if table.is_key(&column.name) { wanted } else { Type::nullable(wanted) };
        if !compiled.result().could_be(&wanted) {
            let message = format!(
                "gives {}, but the column \"{}\" of the table \"{}\" is {}",
                compiled.result(),
                column.name,
                table.name,
                column.r#type.as_str()
            );
            let remedy = expression::conversion(compiled.result(), &wanted, source);
            self.problem(path.clone(), message, remedy);
        }
    }
}
