//! What one rule does to one row.

use headwater_core::RecordedEvent;
use headwater_expr::{Decimal, EventView, Object, Variables};
use headwater_resources::projection::RuleType;
use headwater_view::{Cell, Row, RowState, Stamp, TableSchema, Writers};

use super::rows::Slot;
use super::{RuleError, cell_of, passes};
use crate::convert::RowView;
use crate::plan::{Plan, Rule};

/// Runs a rule over a row: all that it does, or nothing.
pub(super) fn change<'a>(
    plan: &Plan,
    rule: &'a Rule,
    view: &'a EventView<'_>,
    variables: Variables<'a>,
    slot: &mut Slot,
) -> Result<(), RuleError> {
    let schema = &plan.tables[rule.table];
    let event = view.event;
    let is_there = matches!(slot.state, Some(RowState::Live(_)));
    let writes = is_there || matches!(rule.kind, RuleType::Upsert | RuleType::Increment);
    if writes || rule.reads_row {
        check_writer(rule, schema, slot, event)?;
    }
    let Some(cells) = assigned(rule, schema, variables, slot)? else { return Ok(()) };
    if !writes {
        return Ok(());
    }
    slot.touched = true;
    if rule.kind == RuleType::Delete {
        slot.state = (schema.writers == Writers::OneStream)
            .then(|| RowState::Deleted { writer: event.stream_id.clone() });
        return Ok(());
    }
    if !is_there {
        let stamps = if schema.writers == Writers::ManyStreams {
            vec![None; schema.columns.len()]
        } else {
            Vec::new()
        };
        let writer = (schema.writers == Writers::OneStream).then(|| event.stream_id.clone());
        slot.state = Some(RowState::Live(Row { cells: schema.new_row(&slot.key), writer, stamps }));
    }
    if let Some(RowState::Live(row)) = &mut slot.state {
        assign(rule, row, cells, event);
    }
    Ok(())
}

/// The values that the rule assigns, if its condition on the row holds. All that can fail happens here, before anything changes.
fn assigned<'a>(
    rule: &'a Rule,
    schema: &TableSchema,
    mut variables: Variables<'a>,
    slot: &Slot,
) -> Result<Option<Vec<(usize, Cell)>>, RuleError> {
    let row = match &slot.state {
        Some(RowState::Live(row)) => Some(row),
        _ => None,
    };
    let view = if rule.reads_row { row.map(|row| RowView::new(schema, &row.cells)) } else { None };
    let values = |variables: &Variables<'_>| {
        if !passes(rule, variables, true)? {
            return Ok(None);
        }
        if row.is_none() && rule.kind == RuleType::Update {
            return Ok(Some(Vec::new()));
        }
        let member = if rule.kind == RuleType::Increment { "by" } else { "set" };
        let mut cells = Vec::with_capacity(rule.assign.len());
        for (column, expression) in &rule.assign {
            let mut cell = cell_of(rule, member, schema, *column, expression, variables)?;
            if rule.kind == RuleType::Increment {
                let present = row.map_or(&schema.columns[*column].default, |row| &row.cells[*column]);
                cell = sum(present, &cell).map_err(|why| {
                    let place = format!("by.{}", schema.columns[*column].name);
                    RuleError::new(rule, &place, format!("`{}` {why}", expression.source()))
                })?;
            }
            cells.push((*column, cell));
        }
        Ok(Some(cells))
    };
    if !rule.reads_row {
        return values(&variables);
    }
    let row_value = view.as_ref().map(|view| view as &dyn Object);
    // The row lives shorter than the other variables.
    let mut with_row: Variables<'_> = std::mem::take(&mut variables);
    with_row.set("row", row_value);
    values(&with_row)
}

/// In a table whose rows belong to one stream id each, the row must belong to the event's.
fn check_writer(
    rule: &Rule,
    schema: &TableSchema,
    slot: &Slot,
    event: &RecordedEvent,
) -> Result<(), RuleError> {
    let owner = match &slot.state {
        Some(RowState::Live(row)) => row.writer.as_ref(),
        Some(RowState::Deleted { writer }) => Some(writer),
        None => None,
    };
    match owner {
        Some(owner) if schema.writers == Writers::OneStream && *owner != event.stream_id => {
            Err(RuleError::new(
                rule,
                &format!("row {} of table {}", slot.key, schema.name),
                format!(
                    "it is written from stream \"{owner}\", and now also from \"{}\": with several partitions the result would depend on which \
                 comes first; declare `writers: ManyStreams` for the table, or put what belongs together in one stream",
                    event.stream_id
                ),
            ))
        }
        _ => Ok(()),
    }
}

fn assign(rule: &Rule, row: &mut Row, cells: Vec<(usize, Cell)>, event: &RecordedEvent) {
    let stamp =
        Stamp { recorded_at: event.recorded_at, partition: event.partition, position: event.position.get() };
    for (column, cell) in cells {
        if rule.kind != RuleType::Increment
            && let Some(last) = row.stamps.get_mut(column)
        {
            if last.is_some_and(|last| last > stamp) {
                continue;
            }
            *last = Some(stamp);
        }
        row.cells[column] = cell;
    }
}

/// The exact sum. Nothing counts as 0, and adding nothing is an error: it would hide a missing amount.
fn sum(present: &Cell, by: &Cell) -> Result<Cell, String> {
    match (present, by) {
        (_, Cell::Null) => {
            Err("gives null, which cannot be added; use has(…) in `when`, or a value for what is missing"
                .to_owned())
        }
        (Cell::Null, by) => Ok(by.clone()),
        (Cell::Integer(a), Cell::Integer(b)) => a.checked_add(*b).map(Cell::Integer).ok_or_else(|| {
            format!("adds {b} to {a}, which does not fit in 64 bits; make the column Decimal")
        }),
        (Cell::Decimal(a), Cell::Decimal(b)) => exact_sum(*a, *b)
            .map(Cell::Decimal)
            .ok_or_else(|| format!("adds {b} to {a}, whose sum has more digits than an exact decimal holds")),
        _ => Err("adds what is no number".to_owned()),
    }
}

/// The sum, unless it had to be rounded: then it would depend on the order of additions.
fn exact_sum(a: Decimal, b: Decimal) -> Option<Decimal> {
    let sum = a.checked_add(b)?;
    if sum.scale() >= a.scale().max(b.scale()) {
        return Some(sum);
    }
    (sum.checked_sub(a) == Some(b) && sum.checked_sub(b) == Some(a)).then_some(sum)
}
