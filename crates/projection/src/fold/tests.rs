//! The fold by itself: no store, no tasks.

use headwater_core::{EventType, Metadata, Partition, PartitionCount, Version};
use headwater_resources::manifest::read_texts;
use headwater_view::{RowState, RowVersion};
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::definition::Definition;

pub(crate) fn plan(partitions: u32, writers: &str, rules: &str) -> Plan {
    let yaml = format!(
        "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: s}}\nspec: {{partitions: {partitions}}}\n---\n\
         apiVersion: headwater.dev/v1alpha1\nkind: Projection\nmetadata: {{name: p}}\nspec:\n  streamRef: {{name: s}}\n  tables:\n  \
         - name: t\n    key: [id]\n    writers: {writers}\n    columns: [{{name: id, type: Text}}, {{name: v, type: Text}}, \
         {{name: sum, type: Decimal}}, {{name: count, type: Integer}}]\n  rules:\n{rules}"
    );
    let manifests = read_texts([("t.yaml", yaml.as_str())]);
    let faults: Vec<String> = manifests.errors().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    let definition =
        Definition::new(&manifests.projections[0].spec, &manifests.event_streams[0].spec.event_types);
    Plan::compile(&definition, PartitionCount::new(partitions).unwrap()).unwrap()
}

pub(crate) fn event(partition: u16, position: u64, second: i64, stream: &str, data: &str) -> RecordedEvent {
    RecordedEvent {
        id: Uuid::from_u128(u128::from(position) * 1000 + u128::from(partition)),
        stream_id: StreamId::new(stream).unwrap(),
        event_type: EventType::new("E").unwrap(),
        version: Version::new(1),
        partition: Partition::new(partition),
        position: Position::new(position),
        schema_version: 1,
        content_type: "application/json".to_owned(),
        data: data.to_owned().into(),
        metadata: Metadata::empty(),
        recorded_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second),
    }
}

/// Folds the events onto nothing, and gives the outcome and the live rows as text.
fn run(plan: &Plan, context: &mut Context, events: &[RecordedEvent]) -> (Folded, Vec<Vec<String>>) {
    let views = views(plan, events);
    let mut rows = Rows::new(plan);
    let steps = prepare(plan, events, &views, &mut rows);
    let folded = fold(plan, &steps, &mut rows, context);
    let rows = rows
        .into_writes()
        .into_iter()
        .filter_map(|write| match write.state {
            Some(RowState::Live(row)) => Some(row.cells.iter().map(ToString::to_string).collect()),
            _ => None,
        })
        .collect();
    (folded, rows)
}

pub(crate) const SET: &str =
    "  - {events: [E], type: Upsert, table: t, key: {id: event.data.id}, set: {v: event.data.v}}\n";
const ADD: &str =
    "  - {events: [E], type: Increment, table: t, key: {id: event.data.id}, by: {sum: event.data.n}}\n";

#[test]
fn of_two_sets_the_later_recorded_stays_whatever_comes_first() {
    let plan = plan(3, "ManyStreams", SET);
    let events = [
        event(0, 5, 10, "a", r#"{"id":"x","v":"second 10, partition 0"}"#),
        event(1, 1, 10, "b", r#"{"id":"x","v":"second 10, partition 1, position 1"}"#),
        event(1, 2, 10, "b", r#"{"id":"x","v":"second 10, partition 1, position 2"}"#),
        event(2, 9, 9, "c", r#"{"id":"x","v":"second 9, partition 2"}"#),
    ];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
        let shuffled = order.map(|index| events[index].clone());
        let (_, rows) = run(&plan, &mut Context::default(), &shuffled);
        assert_eq!(rows[0][1], "second 10, partition 1, position 2", "{order:?}");
    }
}

#[test]
fn an_event_that_fails_leaves_nothing_of_itself() {
    let failing = format!(
        "{ADD}{}",
        "  - {name: bad, events: [E], type: Upsert, table: t, key: {id: \"'other'\"}, set: {count: event.data.n}}\n"
    );
    let plan = plan(1, "OneStream", &failing);
    let events = [event(0, 1, 1, "a", r#"{"id":"x","n":1}"#), event(0, 2, 1, "a", r#"{"id":"x","n":1.5}"#)];
    let mut context = Context { policy: ErrorPolicy::Skip, ..Context::default() };
    let (folded, rows) = run(&plan, &mut context, &events);
    assert_eq!(folded.skipped, 1);
    assert_eq!(folded.failures[0].error.place, "rule bad, set.count");
    assert!(
        folded.failures[0].error.message.contains("1.5, which is no whole number"),
        "{}",
        folded.failures[0].error
    );
    assert_eq!(rows.iter().map(|row| row[2].clone()).collect::<Vec<_>>(), ["1", "0"]);
}

#[test]
fn sums_are_exact_or_refused() {
    let plan = plan(1, "OneStream", ADD);
    let sum = |amounts: &[&str]| {
        let events: Vec<_> = amounts
            .iter()
            .enumerate()
            .map(|(index, amount)| {
                event(0, index as u64 + 1, 1, "a", &format!(r#"{{"id":"x","n":{amount}}}"#))
            })
            .collect();
        let (folded, rows) = run(&plan, &mut Context::default(), &events);
        (rows[0][2].clone(), folded.failures.len())
    };
    assert_eq!(sum(&["0.10", "0.2", "-0.30"]), ("0.00".to_owned(), 0));
    assert_eq!(sum(&["79228162514264337593543950335", "1"]), ("79228162514264337593543950335".to_owned(), 1));
    assert_eq!(sum(&["7922816251426433759354395033", "0.0001"]).1, 1, "it would have to be rounded");
}

#[test]
fn a_missing_amount_is_an_error_and_a_null_key_too() {
    let plan = plan(1, "OneStream", ADD);
    for (data, place, part) in [
        (r#"{"id":"x","n":null}"#, "by.sum", "cannot be added"),
        (r#"{"id":"x"}"#, "by.sum", "n"),
        (r#"{"id":null,"n":1}"#, "key.id", "names no row"),
        (r#"{"id":1,"n":1}"#, "key.id", "string("),
    ] {
        let (folded, rows) = run(&plan, &mut Context::default(), &[event(0, 1, 1, "a", data)]);
        let error = &folded.failures[0].error;
        assert!(error.place.ends_with(place) && error.message.contains(part), "{data}: {error}");
        assert!(rows.is_empty());
    }
    let broken = event(0, 1, 1, "a", "not json");
    let (folded, _) = run(&plan, &mut Context::default(), &[broken]);
    assert_eq!(folded.failures[0].error.place, "data");
}

#[test]
fn too_many_parked_events_halt_the_partition() {
    let plan = plan(1, "OneStream", ADD);
    let mut context = Context { parked_events: MAX_PARKED - 1, ..Context::default() };
    let bad = |position| event(0, position, 1, "a", r#"{"id":"x"}"#);
    let (folded, _) = run(&plan, &mut context, &[bad(1), bad(2), bad(3)]);
    let (index, failure) = folded.halted.unwrap();
    assert_eq!((index, context.parked_events), (1, MAX_PARKED));
    assert!(failure.error.message.contains("100000 events"), "{}", failure.error);
}

#[test]
fn what_was_loaded_is_what_a_write_expects() {
    let plan = plan(1, "OneStream", ADD);
    let events = [event(0, 1, 1, "a", r#"{"id":"x","n":1}"#), event(0, 2, 1, "a", r#"{"id":"y","n":1}"#)];
    let views = views(&plan, &events);
    let mut rows = Rows::new(&plan);
    let steps = prepare(&plan, &events, &views, &mut rows);
    let wanted = rows.wanted();
    let keys: Vec<String> = wanted[0].1.iter().map(ToString::to_string).collect();
    assert_eq!((wanted.len(), keys), (1, vec!["x".to_owned(), "y".to_owned()]));
    let stored = headwater_view::Row {
        cells: vec![Cell::Text("x".into()), Cell::Null, Cell::Decimal(41.into()), Cell::Null],
        writer: None,
        stamps: vec![],
    };
    rows.fill(&wanted, vec![vec![Some((RowState::Live(stored), RowVersion(7))), None]]);
    assert!(rows.wanted().is_empty());
    fold(&plan, &steps, &mut rows, &mut Context::default());
    let writes = rows.into_writes();
    assert_eq!(writes.iter().map(|write| write.expected).collect::<Vec<_>>(), [Some(RowVersion(7)), None]);
    assert!(
        matches!(&writes[0].state, Some(RowState::Live(row)) if row.cells[2] == Cell::Decimal(42.into()))
    );
}
