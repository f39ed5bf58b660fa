//! The fold: events and rows in, rows out. Pure: no clock, no store, no chance.
//!
//! ```text
//! events ──views()──▶ views ──prepare()──▶ steps with keys ──▶ what rows are needed ──load──▶ Rows
//!                                             └────────────────fold()◀───────────────────────┘
//!                                                               │
//!                              rows to write, events set aside, how far
//! ```

mod change;
mod rows;

use std::collections::{HashMap, HashSet};

use headwater_core::{Position, RecordedEvent, StreamId};
use headwater_expr::{EvaluationError, EventView, Expression, Object, Value, Variables};
use headwater_resources::projection::ErrorPolicy;
use headwater_view::{Cell, Key, Park, ParkChange, ParkVersion, ParkedEvent, TableSchema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::convert::to_cell;
use crate::plan::{Plan, Rule};

use change::change;
pub(crate) use rows::Rows;

/// Why a rule could not be folded over an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{place}: {message}")]
pub struct RuleError {
    /// Rule and member, for example `rule created, set.amount`; or `data`, when the event cannot be read.
    pub place: String,
    /// What failed: the expression, and why.
    pub message: String,
}

impl RuleError {
    fn new(rule: &Rule, member: &str, message: impl Into<String>) -> Self {
        Self { place: format!("rule {}, {member}", rule.name), message: message.into() }
    }

    fn evaluating(rule: &Rule, member: &str, error: &EvaluationError) -> Self {
        Self::new(rule, member, error.to_string())
    }
}

/// An event that could not be folded, for status and logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The event's id.
    pub event_id: Uuid,
    /// What happened.
    pub event_type: String,
    /// Its stream id.
    pub stream_id: String,
    /// Its partition.
    pub partition: u16,
    /// Its position, as text.
    pub position: String,
    /// Why.
    #[serde(flatten)]
    pub error: RuleError,
}

impl Failure {
    fn new(event: &RecordedEvent, error: RuleError) -> Self {
        Self {
            event_id: event.id,
            event_type: event.event_type.to_string(),
            stream_id: event.stream_id.to_string(),
            partition: event.partition.get(),
            position: event.position.to_string(),
            error,
        }
    }
}

/// What is known before events are folded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    /// What happens when a rule fails.
    pub(crate) policy: ErrorPolicy,
    /// Stream ids that have parked events.
    pub(crate) parked: HashMap<StreamId, ParkVersion>,
    /// How many events are parked in the partition.
    pub(crate) parked_events: u64,
    /// Events that people skipped.
    pub(crate) skips: HashSet<Uuid>,
}

/// Parked events a partition can have: beyond it, something is wrong with the rules, not with single events.
pub(crate) const MAX_PARKED: u64 = 100_000;

/// What a fold makes of events.
#[derive(Debug, Default)]
pub(crate) struct Folded {
    /// Events to set aside.
    pub(crate) parks: Vec<Park>,
    /// Events skipped.
    pub(crate) skipped: u64,
    /// The first events that failed by themselves, each once, and what it was.
    pub(crate) failures: Vec<Failure>,
    /// The event that stops the partition: neither it nor what follows has been folded.
    pub(crate) halted: Option<(usize, Failure)>,
}

/// The events of a page that have rules, read and brought up to date; by index in the page.
pub(crate) type View<'e> = (usize, Result<EventView<'e>, RuleError>);

/// One event's operations: which rows, by which rules.
#[derive(Debug)]
pub(crate) struct Step<'v, 'e> {
    index: usize,
    event: &'e RecordedEvent,
    work: Result<(&'v EventView<'e>, Vec<Op>), RuleError>,
}

/// One rule over one row.
#[derive(Debug, Clone, Copy)]
struct Op {
    rule: usize,
    /// Which element of the rule's `forEach`.
    item: Option<usize>,
    slot: usize,
}

/// Reads the events that the plan has rules for.
pub(crate) fn views<'e>(plan: &Plan, events: &'e [RecordedEvent]) -> Vec<View<'e>> {
    events
        .iter()
        .enumerate()
        .filter(|(_, event)| plan.by_event.contains_key(event.event_type.as_str()))
        .map(|(index, event)| {
            (
                index,
                EventView::new(event, &plan.upcasts).map_err(|(place, message)| RuleError { place, message }),
            )
        })
        .collect()
}

/// Finds out which rows each event is about.
pub(crate) fn prepare<'v, 'e>(
    plan: &Plan,
    events: &'e [RecordedEvent],
    views: &'v [View<'e>],
    rows: &mut Rows,
) -> Vec<Step<'v, 'e>> {
    views
        .iter()
        .map(|(index, view)| Step {
            index: *index,
            event: &events[*index],
            work: match view {
                Ok(view) => operations(plan, view, rows).map(|ops| (view, ops)),
                Err(error) => Err(error.clone()),
            },
        })
        .collect()
}

fn operations(plan: &Plan, view: &EventView<'_>, rows: &mut Rows) -> Result<Vec<Op>, RuleError> {
    let mut ops = Vec::new();
    for number in plan.by_event.get(view.event.event_type.as_str()).into_iter().flatten() {
        let rule = &plan.rules[*number];
        let event = Variables::new().with("event", view as &dyn Object);
        let Some(each) = &rule.for_each else {
            if passes(rule, &event, false)? {
                let slot = rows.slot(rule.table, key(plan, rule, &event)?);
                ops.push(Op { rule: *number, item: None, slot });
            }
            continue;
        };
        let list =
            each.list.evaluate(&event).map_err(|error| RuleError::evaluating(rule, "forEach.in", &error))?;
        for (item, element) in elements(rule, &list)?.iter().enumerate() {
            let variables = item_variables(view, rule, element, item);
            if passes(rule, &variables, false)? {
                let slot = rows.slot(rule.table, key(plan, rule, &variables)?);
                ops.push(Op { rule: *number, item: Some(item), slot });
            }
        }
    }
    Ok(ops)
}

fn elements<'l, 'a>(rule: &Rule, list: &'l Value<'a>) -> Result<&'l [Value<'a>], RuleError> {
    list.as_list().ok_or_else(|| {
        RuleError::new(rule, "forEach.in", format!("it gives a {}, not a list", list.type_name()))
    })
}

fn item_variables<'a>(
    view: &'a EventView<'_>,
    rule: &'a Rule,
    element: &Value<'a>,
    item: usize,
) -> Variables<'a> {
    let mut variables = Variables::new().with("event", view as &dyn Object);
    if let Some(each) = &rule.for_each {
        variables.set(&each.item, element.clone());
        if let Some(index) = &each.index {
            variables.set(index, item as u64);
        }
    }
    variables
}

/// Whether `when` holds. Without the row, what reads it is left for later.
fn passes(rule: &Rule, variables: &Variables<'_>, with_row: bool) -> Result<bool, RuleError> {
    let Some(when) = &rule.when else { return Ok(true) };
    if when.reads("row") != with_row {
        return Ok(true);
    }
    let value = when.evaluate(variables).map_err(|error| RuleError::evaluating(rule, "when", &error))?;
    value.as_bool().ok_or_else(|| {
        RuleError::new(rule, "when", format!("`{}` gives a {}, not a bool", when.source(), value.type_name()))
    })
}

fn key(plan: &Plan, rule: &Rule, variables: &Variables<'_>) -> Result<Key, RuleError> {
    let schema = &plan.tables[rule.table];
    let mut cells = Vec::with_capacity(rule.key.len());
    for (column, expression) in schema.key.iter().zip(&rule.key) {
        let cell = cell_of(rule, "key", schema, *column, expression, variables)?;
        if cell.is_null() {
            let member = format!("key.{}", schema.columns[*column].name);
            return Err(RuleError::new(
                rule,
                &member,
                format!("`{}` gives null, which names no row", expression.source()),
            ));
        }
        cells.push(cell);
    }
    Ok(Key::new(cells))
}

fn cell_of(
    rule: &Rule,
    member: &str,
    schema: &TableSchema,
    column: usize,
    expression: &Expression,
    variables: &Variables<'_>,
) -> Result<Cell, RuleError> {
    let column = &schema.columns[column];
    let place = || format!("{member}.{}", column.name);
    let value =
        expression.evaluate(variables).map_err(|error| RuleError::evaluating(rule, &place(), &error))?;
    to_cell(&value, column.column_type)
        .map_err(|why| RuleError::new(rule, &place(), format!("`{}` {why}", expression.source())))
}

/// Folds the steps, in order, over the rows. Events that fail change nothing.
pub(crate) fn fold(plan: &Plan, steps: &[Step<'_, '_>], rows: &mut Rows, context: &mut Context) -> Folded {
    let mut folded = Folded::default();
    let mut parks: HashMap<StreamId, usize> = HashMap::new();
    for step in steps {
        let event = step.event;
        if context.skips.contains(&event.id) {
            folded.skipped += 1;
            continue;
        }
        let is_parked = parks.contains_key(&event.stream_id) || context.parked.contains_key(&event.stream_id);
        let error = match &step.work {
            _ if is_parked => None,
            Ok((view, ops)) => match fold_event(plan, view, ops, rows) {
                Ok(()) => continue,
                Err(error) => Some(error),
            },
            Err(error) => Some(error.clone()),
        };
        let failure = error.map(|error| Failure::new(event, error));
        match (context.policy, failure) {
            (ErrorPolicy::Halt, Some(failure)) => {
                folded.halted = Some((step.index, failure));
                break;
            }
            (ErrorPolicy::Skip, Some(failure)) => {
                folded.skipped += 1;
                folded.failures.push(failure);
            }
            // An event behind a parked one is parked, whatever the policy is now: it must not overtake.
            (_, failure) => {
                if context.parked_events >= MAX_PARKED {
                    let error = RuleError {
                        place: "onError".to_owned(),
                        message: format!(
                            "{MAX_PARKED} events of the partition are parked; mend the rules, then replay or rebuild"
                        ),
                    };
                    folded.halted = Some((step.index, Failure::new(event, error)));
                    break;
                }
                context.parked_events += 1;
                set_aside(event, failure.as_ref(), context, &mut parks, &mut folded.parks);
                folded.failures.extend(failure);
            }
        }
    }
    folded
}

fn set_aside(
    event: &RecordedEvent,
    failure: Option<&Failure>,
    context: &Context,
    by_stream: &mut HashMap<StreamId, usize>,
    parks: &mut Vec<Park>,
) {
    let parked =
        ParkedEvent { position: event.position, id: event.id, event_type: event.event_type.to_string() };
    let at = *by_stream.entry(event.stream_id.clone()).or_insert_with(|| {
        parks.push(Park {
            stream_id: event.stream_id.clone(),
            partition: event.partition,
            expected: context.parked.get(&event.stream_id).copied(),
            change: ParkChange::Append {
                events: Vec::new(),
                reason: failure.map(|failure| failure.error.to_string()).unwrap_or_default(),
            },
        });
        parks.len() - 1
    });
    if let ParkChange::Append { events, .. } = &mut parks[at].change {
        events.push(parked);
    }
}

/// Folds the parked events of one stream id, in order, until one fails. Answers how many were folded or skipped, how many of them
/// were skipped, and the failure.
pub(crate) fn fold_released(
    plan: &Plan,
    steps: &[Step<'_, '_>],
    rows: &mut Rows,
    skips: &HashSet<Uuid>,
) -> (usize, u64, Option<Failure>) {
    let mut skipped = 0;
    for (done, step) in steps.iter().enumerate() {
        if skips.contains(&step.event.id) {
            skipped += 1;
            continue;
        }
        let result = match &step.work {
            Ok((view, ops)) => fold_event(plan, view, ops, rows),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = result {
            return (done, skipped, Some(Failure::new(step.event, error)));
        }
    }
    (steps.len(), skipped, None)
}

/// Folds one event: all of its operations, or none.
fn fold_event(plan: &Plan, view: &EventView<'_>, ops: &[Op], rows: &mut Rows) -> Result<(), RuleError> {
    // One operation computes all that it needs before it changes anything, so only several need a way back.
    let before: Vec<_> = if ops.len() > 1 {
        ops.iter()
            .map(|op| (op.slot, rows.slots[op.slot].state.clone(), rows.slots[op.slot].touched))
            .collect()
    } else {
        Vec::new()
    };
    let result = ops.iter().try_for_each(|op| run(plan, view, *op, rows));
    if result.is_err() {
        for (slot, state, touched) in before.into_iter().rev() {
            let slot = &mut rows.slots[slot];
            slot.state = state;
            slot.touched = touched;
        }
    }
    result
}

fn run(plan: &Plan, view: &EventView<'_>, op: Op, rows: &mut Rows) -> Result<(), RuleError> {
    let rule = &plan.rules[op.rule];
    let slot = &mut rows.slots[op.slot];
    let Some(item) = op.item else {
        return change(plan, rule, view, Variables::new().with("event", view as &dyn Object), slot);
    };
    let Some(each) = &rule.for_each else { return Ok(()) };
    let event = Variables::new().with("event", view as &dyn Object);
    let list =
        each.list.evaluate(&event).map_err(|error| RuleError::evaluating(rule, "forEach.in", &error))?;
    match elements(rule, &list)?.get(item) {
        Some(element) => change(plan, rule, view, item_variables(view, rule, element, item), slot),
        None => Ok(()),
    }
}

/// The place up to which a page took effect: all that it looked at, or up to before the event that halted it.
pub(crate) fn reached(
    events: &[RecordedEvent],
    halted_at: Option<usize>,
    page_reached: Position,
) -> Position {
    match halted_at.and_then(|index| events.get(index)) {
        None => page_reached,
        Some(event) => Position::new(event.position.get().saturating_sub(1)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
