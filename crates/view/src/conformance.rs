//! What every [`ViewStore`] must pass, as one test a promise. An implementation names its [`Place`]:
//!
//! ```text
//! headwater_view::view_conformance!(MyPlace::new());
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::{LogId, Partition, PartitionCount, Position, Positions, StreamId};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    Advance, ApplyError, Batch, Cell, Change, ChangeError, Column, ColumnType, Decisions, Durability, Index,
    Key, Load, LoadedRow, NewRevision, Order, Park, ParkChange, ParkedEvent, Query, QueryError, Revision,
    Rollout, Row, RowState, RowVersion, RowWrite, Skip, Stamp, TableSchema, ViewStore, Writers,
};

/// Where a store is kept: opened a second time, it is the same store after a restart.
#[async_trait]
pub trait Place: Send + Sync {
    /// Opens the store that is kept here; an empty one at first.
    async fn open(&self) -> Arc<dyn ViewStore>;
}

/// Makes one test of each promise for the [`Place`] that the expression makes.
#[macro_export]
macro_rules! view_conformance {
    ($place:expr) => {
        $crate::view_conformance!(@each $place;
            a_batch_takes_effect_as_a_whole,
            of_two_batches_for_one_position_one_is_applied,
            a_changed_row_refuses_the_batch,
            a_row_made_again_is_another_row,
            every_cell_is_kept_exactly,
            writers_and_stamps_are_kept,
            parked_events_move_with_the_checkpoint,
            parked_events_are_taken_back_under_their_version,
            a_skip_is_known_to_every_revision_and_fences_those_who_have_not_seen_it,
            rows_are_filtered_ordered_and_paged,
            decimals_are_compared_as_numbers,
            an_answer_is_of_one_snapshot,
            revisions_are_apart,
            only_one_decision_is_taken_on_a_rollout,
            illegal_changes_are_refused,
            a_dropped_revision_is_gone,
            a_rollback_holds_the_digest,
            everything_is_there_after_a_restart,
            bad_schemas_are_refused,
        );
    };
    (@each $place:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::conformance::$case(&$place).await;
            }
        )*
    };
}

const P0: Partition = Partition::new(0);
const P1: Partition = Partition::new(1);

/// Table 0: rows of one stream id each, with a column of every type. Table 1: many streams. Table 2: a key of two columns.
fn tables() -> Vec<TableSchema> {
    let column = |name: &str, column_type, default| Column { name: name.into(), column_type, default };
    vec![
        TableSchema {
            name: "orders".into(),
            columns: vec![
                column("id", ColumnType::Text, Cell::Null),
                column("number", ColumnType::Integer, Cell::Integer(7)),
                column("amount", ColumnType::Decimal, Cell::Decimal("0".parse().expect("a decimal"))),
                column("paid", ColumnType::Boolean, Cell::Boolean(false)),
                column("at", ColumnType::Timestamp, Cell::Null),
                column("extra", ColumnType::Json, Cell::Null),
            ],
            key: vec![0],
            indexes: vec![Index { columns: vec![1, 2] }, Index { columns: vec![4] }],
            writers: Writers::OneStream,
        },
        TableSchema {
            name: "totals".into(),
            columns: vec![
                column("day", ColumnType::Text, Cell::Null),
                column("name", ColumnType::Text, Cell::Null),
                column("total", ColumnType::Decimal, Cell::Decimal("0".parse().expect("a decimal"))),
            ],
            key: vec![0],
            indexes: vec![],
            writers: Writers::ManyStreams,
        },
        TableSchema {
            name: "order".into(),
            columns: vec![
                column("select", ColumnType::Decimal, Cell::Null),
                column("line", ColumnType::Integer, Cell::Null),
                column("from", ColumnType::Text, Cell::Null),
            ],
            key: vec![0, 1],
            indexes: vec![],
            writers: Writers::Free,
        },
    ]
}

fn new_revision(digest: &str) -> NewRevision {
    NewRevision {
        digest: digest.into(),
        definition: format!("{{\"of\":\"{digest}\"}}"),
        tables: tables(),
        log_id: LogId::from_uuid(Uuid::from_u128(7)),
        partitions: PartitionCount::new(2).expect("two partitions"),
        start: Positions::one(P1, Position::new(10)),
    }
}

async fn create(store: &dyn ViewStore, digest: &str) -> Revision {
    let version = store.rollout().await.expect("a rollout").version;
    let rollout = store.change(version, &Change::Create(new_revision(digest))).await.expect("a revision");
    rollout.candidate.expect("a candidate")
}

async fn change(store: &dyn ViewStore, change: Change) -> Rollout {
    let version = store.rollout().await.expect("a rollout").version;
    store.change(version, &change).await.expect("a legal change")
}

async fn promote(store: &dyn ViewStore, revision: Revision) -> Rollout {
    change(store, Change::Promote { revision, keep_until: at(100), hold: None }).await
}

fn at(second: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second)
}

fn stream(text: &str) -> StreamId {
    StreamId::new(text).expect("a stream id")
}

fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

fn decimal(text: &str) -> Cell {
    Cell::Decimal(text.parse().expect("a decimal"))
}

fn key(cells: impl Into<Vec<Cell>>) -> Key {
    Key::new(cells.into())
}

fn order(id: &str, amount: &str, writer: &str) -> Row {
    Row {
        cells: vec![text(id), Cell::Integer(1), decimal(amount), Cell::Boolean(true), Cell::Null, Cell::Null],
        writer: Some(stream(writer)),
        stamps: vec![],
    }
}

fn write(id: &str, amount: &str, expected: Option<RowVersion>) -> RowWrite {
    RowWrite { table: 0, key: key([text(id)]), expected, state: Some(RowState::Live(order(id, amount, "s"))) }
}

fn advance(partition: Partition, from: u64, to: u64) -> Option<Advance> {
    Some(Advance {
        partition,
        from: Position::new(from),
        to: Position::new(to),
        recorded_at: Some(at(to as i64)),
        skipped: 0,
    })
}

fn batch(revision: Revision, partition: Partition, from: u64, to: u64, rows: Vec<RowWrite>) -> Batch {
    Batch { advance: advance(partition, from, to), rows, ..Batch::new(revision, Decisions(0)) }
}

async fn load(store: &dyn ViewStore, revision: Revision, table: usize, keys: Vec<Key>) -> Vec<LoadedRow> {
    store.load(&Load { revision, rows: vec![(table, keys)] }).await.expect("rows").remove(0)
}

async fn position(store: &dyn ViewStore, revision: Revision, partition: Partition) -> u64 {
    store.partition(revision, partition).await.expect("a partition").progress.position.get()
}

fn all(revision: Revision, table: usize) -> Query {
    Query {
        revision,
        active: false,
        table,
        filter: vec![],
        order: Query::total_order(&tables()[table], &[]),
        after: None,
        limit: 100,
    }
}

/// The text cells of the first column of a query's rows.
async fn ids(store: &dyn ViewStore, query: &Query) -> Vec<String> {
    store.query(query).await.expect("an answer").rows.iter().map(|row| row[0].to_string()).collect()
}

/// Rows, checkpoint and parked events come together, and a refused batch leaves nothing.
pub async fn a_batch_takes_effect_as_a_whole(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    assert_eq!(position(&*store, revision, P0).await, 0);
    assert_eq!(position(&*store, revision, P1).await, 10, "a partition begins where the rollout starts");

    let written = store
        .apply(batch(revision, P0, 0, 3, vec![write("a", "1.50", None), write("b", "2", None)]).into())
        .await
        .unwrap();
    let loaded =
        load(&*store, revision, 0, vec![key([text("b")]), key([text("none")]), key([text("a")])]).await;
    let expected = |row: Row| Some((RowState::Live(row), RowVersion(written.version)));
    assert_eq!(loaded, [expected(order("b", "2", "s")), None, expected(order("a", "1.50", "s"))]);
    assert_eq!(position(&*store, revision, P0).await, 3);

    // The second row's version is wrong, so neither the first row nor the checkpoint changes.
    let version = Some(RowVersion(written.version));
    let refused = batch(
        revision,
        P0,
        3,
        5,
        vec![write("a", "9", version), write("b", "9", None), write("c", "9", None)],
    );
    assert!(matches!(store.apply(Arc::new(refused)).await, Err(ApplyError::Conflict { .. })));
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [expected(order("a", "1.50", "s"))]);
    assert_eq!(load(&*store, revision, 0, vec![key([text("c")])]).await, [None]);
    assert_eq!(position(&*store, revision, P0).await, 3);

    let removal = RowWrite { table: 0, key: key([text("a")]), expected: version, state: None };
    store.apply(batch(revision, P0, 3, 4, vec![removal]).into()).await.unwrap();
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [None]);
}

/// Many workers at one position: one of them moves it, the others are told where it is.
pub async fn of_two_batches_for_one_position_one_is_applied(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    for round in 0..10_u64 {
        let tasks: Vec<_> = (0..8)
            .map(|worker| {
                let store = store.clone();
                let rows = vec![write(&format!("{round}-{worker}"), "1", None)];
                tokio::spawn(
                    async move { store.apply(batch(revision, P0, round, round + 1, rows).into()).await },
                )
            })
            .collect();
        let mut applied = 0;
        for task in tasks {
            match task.await.expect("no panic") {
                Ok(_) => applied += 1,
                Err(ApplyError::Checkpoint { found }) => assert_eq!(found.get(), round + 1),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(applied, 1);
    }
    assert_eq!(ids(&*store, &all(revision, 0)).await.len(), 10);
    let behind = batch(revision, P0, 3, 4, vec![]);
    assert!(
        matches!(store.apply(Arc::new(behind)).await, Err(ApplyError::Checkpoint { found }) if found.get() == 10)
    );
}

/// A row changed since it was loaded refuses the batch, whichever way it was changed.
pub async fn a_changed_row_refuses_the_batch(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let first = store.apply(batch(revision, P0, 0, 1, vec![write("a", "1", None)]).into()).await.unwrap();
    let second = store
        .apply(batch(revision, P1, 10, 11, vec![write("a", "2", Some(RowVersion(first.version)))]).into())
        .await
        .unwrap();
    assert!(second.version > first.version);
    for expected in [None, Some(RowVersion(first.version)), Some(RowVersion(second.version + 1))] {
        for state in [
            Some(RowState::Live(order("a", "3", "s"))),
            Some(RowState::Deleted { writer: stream("s") }),
            None,
        ] {
            let write = RowWrite { table: 0, key: key([text("a")]), expected, state };
            let refused = store.apply(batch(revision, P0, 1, 2, vec![write]).into()).await;
            assert!(matches!(refused, Err(ApplyError::Conflict { .. })), "{expected:?} gave {refused:?}");
        }
    }
    let absent = RowWrite { table: 0, key: key([text("none")]), expected: Some(RowVersion(1)), state: None };
    assert!(matches!(
        store.apply(batch(revision, P0, 1, 2, vec![absent]).into()).await,
        Err(ApplyError::Conflict { .. })
    ));
}

/// A version never comes again, not even after the row was removed.
pub async fn a_row_made_again_is_another_row(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let first = store.apply(batch(revision, P0, 0, 1, vec![write("a", "1", None)]).into()).await.unwrap();
    let removal =
        RowWrite { table: 0, key: key([text("a")]), expected: Some(RowVersion(first.version)), state: None };
    store.apply(batch(revision, P0, 1, 2, vec![removal]).into()).await.unwrap();
    store.apply(batch(revision, P0, 2, 3, vec![write("a", "1", None)]).into()).await.unwrap();
    let old = batch(revision, P0, 3, 4, vec![write("a", "2", Some(RowVersion(first.version)))]);
    assert!(matches!(store.apply(Arc::new(old)).await, Err(ApplyError::Conflict { .. })));
}

/// What is read is what was written, to the digit, the microsecond and the byte.
pub async fn every_cell_is_kept_exactly(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let columns: [Vec<Cell>; 5] = [
        vec![Cell::Integer(i64::MIN), Cell::Integer(i64::MAX), Cell::Integer(0), Cell::Null],
        ["0", "-0.00", "1.50", "79228162514264337593543950335", "-0.0000000000000000000000000001", "100.000"]
            .map(decimal)
            .to_vec(),
        vec![Cell::Boolean(true), Cell::Boolean(false), Cell::Null],
        [
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "2026-02-28T12:00:00.000001Z",
            "9999-12-30T21:59:59.999999Z",
        ]
        .map(|text| Cell::timestamp(text.parse().expect("a moment")).expect("in range"))
        .to_vec(),
        vec![
            Cell::Json("{\"a\":[1.10,null,\"\u{e9}\"]}".into()),
            Cell::Json("\"\"".into()),
            Cell::Json("null".into()),
            Cell::Null,
        ],
    ];
    let names =
        ["", "plain", "\u{1F3E6} \u{e9} \u{65}\u{301}", "quote ' \" ; -- %", "nul \0 inside", "new\nline"];
    let mut rows = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let mut cells = vec![text(name)];
        cells.extend(columns.iter().map(|column| column[number % column.len()].clone()));
        rows.push(Row { cells, writer: Some(stream(&format!("w-{number}"))), stamps: vec![] });
    }
    let writes = rows.iter().map(|row| RowWrite {
        table: 0,
        key: key([row.cells[0].clone()]),
        expected: None,
        state: Some(RowState::Live(row.clone())),
    });
    store.apply(batch(revision, P0, 0, 1, writes.collect()).into()).await.unwrap();
    let store = place.open().await;
    let loaded =
        load(&*store, revision, 0, rows.iter().map(|row| key([row.cells[0].clone()])).collect()).await;
    for (row, loaded) in rows.iter().zip(loaded) {
        let Some((RowState::Live(found), _)) = loaded else { panic!("{row:?} is gone") };
        assert_eq!(found.writer, row.writer);
        // Equality of cells is by value; the spelling must be kept too.
        let spelling =
            |row: &Row| row.cells.iter().map(|cell| format!("{cell:?} {cell}")).collect::<Vec<_>>();
        assert_eq!(spelling(&found), spelling(row));
    }
    let queried = store.query(&all(revision, 0)).await.unwrap().rows;
    assert_eq!(queried.len(), rows.len());
    for row in &rows {
        assert!(queried.contains(&row.cells), "{row:?}");
    }
}

/// Who writes a row, and when each column was set, comes back; a deleted row is seen by nobody but its writer.
pub async fn writers_and_stamps_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let stamp = Stamp {
        recorded_at: "2026-01-01T00:00:00.000001Z".parse().expect("a moment"),
        partition: P1,
        position: 9,
    };
    let total = Row {
        cells: vec![text("mon"), text("x"), decimal("5")],
        writer: None,
        stamps: vec![None, Some(stamp), None],
    };
    let written = store
        .apply(
            batch(
                revision,
                P0,
                0,
                1,
                vec![
                    RowWrite {
                        table: 0,
                        key: key([text("gone")]),
                        expected: None,
                        state: Some(RowState::Deleted { writer: stream("w") }),
                    },
                    RowWrite {
                        table: 1,
                        key: key([text("mon")]),
                        expected: None,
                        state: Some(RowState::Live(total.clone())),
                    },
                ],
            )
            .into(),
        )
        .await
        .unwrap();
    let version = RowVersion(written.version);
    assert_eq!(
        load(&*store, revision, 0, vec![key([text("gone")])]).await,
        [Some((RowState::Deleted { writer: stream("w") }, version))]
    );
    assert_eq!(
        load(&*store, revision, 1, vec![key([text("mon")])]).await,
        [Some((RowState::Live(total), version))]
    );
    assert!(ids(&*store, &all(revision, 0)).await.is_empty());
    // It lives again, and is deleted again.
    let again =
        store.apply(batch(revision, P0, 1, 2, vec![write("gone", "1", Some(version))]).into()).await.unwrap();
    assert_eq!(ids(&*store, &all(revision, 0)).await, ["gone"]);
    let deleted = RowWrite {
        table: 0,
        key: key([text("gone")]),
        expected: Some(RowVersion(again.version)),
        state: Some(RowState::Deleted { writer: stream("w") }),
    };
    store.apply(batch(revision, P0, 2, 3, vec![deleted]).into()).await.unwrap();
    assert!(ids(&*store, &all(revision, 0)).await.is_empty());
}

fn parked(positions: impl IntoIterator<Item = u64>) -> Vec<ParkedEvent> {
    positions
        .into_iter()
        .map(|position| ParkedEvent {
            position: Position::new(position),
            id: Uuid::from_u128(u128::from(position)),
            event_type: "Created".into(),
        })
        .collect()
}

fn append(id: &str, expected: Option<u64>, positions: impl IntoIterator<Item = u64>) -> Park {
    Park {
        stream_id: stream(id),
        partition: P0,
        expected: expected.map(crate::ParkVersion),
        change: ParkChange::Append { events: parked(positions), reason: "1 / 0".into() },
    }
}

fn release(id: &str, expected: u64, through: u64) -> Park {
    Park {
        stream_id: stream(id),
        partition: P0,
        expected: Some(crate::ParkVersion(expected)),
        change: ParkChange::Release {
            through: Position::new(through),
            skipped: 1,
            reason: "still bad".into(),
        },
    }
}

/// Events are set aside in the transaction that passes them, and counted.
pub async fn parked_events_move_with_the_checkpoint(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let mut first = batch(revision, P0, 0, 4, vec![]);
    first.parks = vec![append("bad", None, [2, 4]), append("worse", None, [3])];
    let first = store.apply(Arc::new(first)).await.unwrap().version;

    let state = store.partition(revision, P0).await.unwrap();
    assert_eq!((state.progress.position.get(), state.progress.parked, state.parked.len()), (4, 3, 2));
    assert_eq!(state.parked[&stream("bad")].0, first);
    assert!(store.partition(revision, P1).await.unwrap().parked.is_empty());

    // A worker that has not seen the entry is refused; one that has appends, and the first reason stays.
    for expected in [None, Some(first + 1)] {
        let mut refused = batch(revision, P0, 4, 5, vec![write("a", "1", None)]);
        refused.parks = vec![append("bad", expected, [5])];
        assert!(matches!(store.apply(Arc::new(refused)).await, Err(ApplyError::Conflict { .. })));
    }
    assert_eq!(position(&*store, revision, P0).await, 4);
    let mut more = batch(revision, P0, 4, 6, vec![]);
    let append_more = Park {
        change: ParkChange::Append { events: parked([5, 6]), reason: "it was parked".into() },
        ..append("bad", Some(first), [])
    };
    more.parks = vec![append_more];
    let second = store.apply(Arc::new(more)).await.unwrap().version;

    let shown = store.parked(revision, None, 10, 3).await.unwrap();
    assert_eq!(shown.iter().map(|entry| entry.stream_id.as_str()).collect::<Vec<_>>(), ["bad", "worse"]);
    let bad = &shown[0];
    assert_eq!((bad.count, bad.reason.as_str(), bad.version.0, bad.partition), (4, "1 / 0", second, P0));
    assert_eq!(bad.events, parked([2, 4, 5]), "as many as were asked for");
    assert_eq!(
        store.parked(revision, Some(&stream("bad")), 10, 0).await.unwrap()[0].stream_id,
        stream("worse")
    );
    assert_eq!(store.parked(revision, None, 1, 0).await.unwrap().len(), 1);
    assert_eq!(store.parked_stream(revision, &stream("none"), 1).await.unwrap(), None);
    let progress = store.progress(revision).await.unwrap();
    assert_eq!(
        progress.iter().map(|p| (p.partition, p.position.get(), p.parked)).collect::<Vec<_>>(),
        [(P0, 6, 5), (P1, 10, 0)]
    );
    assert_eq!(progress[0].recorded_at, Some(at(6)));
    assert_eq!(store.query(&all(revision, 0)).await.unwrap().parked, 5);
}

/// A replay writes rows and takes events back as one, unless the entry was changed meanwhile.
pub async fn parked_events_are_taken_back_under_their_version(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let mut first = batch(revision, P0, 0, 9, vec![]);
    first.parks = vec![append("bad", None, [2, 4, 9])];
    let first = store.apply(Arc::new(first)).await.unwrap().version;

    let replay = |expected, through, rows| Batch {
        parks: vec![release("bad", expected, through)],
        rows,
        durability: Durability::Durable,
        ..Batch::new(revision, Decisions(0))
    };
    let refused = store.apply(replay(first + 1, 9, vec![write("a", "1", None)]).into()).await;
    assert!(matches!(refused, Err(ApplyError::Conflict { .. })));
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [None]);

    let second = store.apply(replay(first, 4, vec![write("a", "1", None)]).into()).await.unwrap().version;
    let left = store.parked_stream(revision, &stream("bad"), 10).await.unwrap().unwrap();
    assert_eq!(
        (left.events, left.count, left.reason.as_str(), left.version.0),
        (parked([9]), 1, "still bad", second)
    );
    assert_eq!(ids(&*store, &all(revision, 0)).await, ["a"]);
    assert_eq!(position(&*store, revision, P0).await, 9, "a replay moves no checkpoint");

    store.apply(replay(second, 9, vec![]).into()).await.unwrap();
    assert_eq!(store.parked_stream(revision, &stream("bad"), 10).await.unwrap(), None);
    let state = store.partition(revision, P0).await.unwrap();
    assert_eq!((state.progress.parked, state.parked.len()), (0, 0));
    assert_eq!(store.progress(revision).await.unwrap()[0].skipped, 2);
    let gone = store.apply(replay(second, 9, vec![]).into()).await;
    assert!(matches!(gone, Err(ApplyError::Conflict { .. })));
}

/// A skipped event is skipped by every revision, and a batch folded without knowing of it is refused.
pub async fn a_skip_is_known_to_every_revision_and_fences_those_who_have_not_seen_it(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    promote(&*store, revision).await;
    let other = create(&*store, "b").await;
    let id = Uuid::from_u128(5);
    let skip = Batch {
        skips: vec![Skip { id, partition: P0, position: Position::new(5) }],
        durability: Durability::Durable,
        ..Batch::new(revision, Decisions(0))
    };
    let decisions = store.apply(Arc::new(skip)).await.unwrap().decisions;
    assert!(decisions > Decisions(0));
    for revision in [revision, other] {
        let state = store.partition(revision, P1).await.unwrap();
        assert_eq!((state.skips.contains(&id), state.skips.len(), state.decisions), (true, 1, decisions));
        assert!(matches!(
            store.apply(batch(revision, P0, 0, 1, vec![]).into()).await,
            Err(ApplyError::Conflict { .. })
        ));
        let mut seen = batch(revision, P0, 0, 1, vec![]);
        seen.decisions = decisions;
        store.apply(Arc::new(seen)).await.unwrap();
    }
    change(&*store, Change::Drop { revision: other }).await;
    assert!(place.open().await.partition(revision, P0).await.unwrap().skips.contains(&id));
}

/// Rows come in the order asked for, nulls first, and page by page without loss or repeat.
pub async fn rows_are_filtered_ordered_and_paged(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let at = |second| Cell::timestamp(at(second)).expect("in range");
    let rows = [
        ("a", Cell::Integer(2), true, at(5)),
        ("b", Cell::Integer(1), true, Cell::Null),
        ("c", Cell::Integer(2), false, at(3)),
        ("d", Cell::Null, true, at(5)),
        ("e", Cell::Integer(-1), true, Cell::Null),
        ("f", Cell::Null, true, at(4)),
    ];
    let writes = rows.iter().map(|(id, number, paid, at)| {
        let cells =
            vec![text(id), number.clone(), decimal("1"), Cell::Boolean(*paid), at.clone(), Cell::Null];
        RowWrite {
            table: 0,
            key: key([text(id)]),
            expected: None,
            state: Some(RowState::Live(Row { cells, writer: Some(stream("s")), stamps: vec![] })),
        }
    });
    store.apply(batch(revision, P0, 0, 1, writes.collect()).into()).await.unwrap();

    let schema = &tables()[0];
    let by =
        |column: &str, descending| Order { column: schema.column(column).expect("a column"), descending };
    let check = async |filter: Vec<(usize, Cell)>, order: &[Order], expected: &[&str]| {
        let mut query = Query { filter, order: Query::total_order(schema, order), ..all(revision, 0) };
        assert_eq!(ids(&*store, &query).await, expected, "{order:?}");
        for limit in 1..=3 {
            query.limit = limit;
            query.after = None;
            let mut seen = Vec::new();
            loop {
                let answer = store.query(&query).await.expect("an answer");
                seen.extend(answer.rows.iter().map(|row| row[0].to_string()));
                if !answer.more {
                    break;
                }
                assert_eq!(answer.rows.len(), limit);
                query.after = answer.rows.last().map(|row| query.cursor(row));
            }
            assert_eq!(seen, expected, "{order:?} in pages of {limit}");
        }
    };
    check(vec![], &[], &["a", "b", "c", "d", "e", "f"]).await;
    check(vec![], &[by("id", true)], &["f", "e", "d", "c", "b", "a"]).await;
    check(vec![], &[by("number", false)], &["d", "f", "e", "b", "a", "c"]).await;
    check(vec![], &[by("number", true), by("id", true)], &["c", "a", "b", "e", "f", "d"]).await;
    check(vec![], &[by("at", false), by("number", true)], &["b", "e", "c", "f", "a", "d"]).await;
    check(vec![], &[by("at", true)], &["a", "d", "f", "c", "b", "e"]).await;
    check(vec![(3, Cell::Boolean(true))], &[by("number", false)], &["d", "f", "e", "b", "a"]).await;
    check(vec![(1, Cell::Null)], &[], &["d", "f"]).await;
    check(vec![(1, Cell::Integer(2)), (3, Cell::Boolean(false))], &[], &["c"]).await;
    check(vec![(4, at(5))], &[by("id", true)], &["d", "a"]).await;
    check(vec![(0, text("A"))], &[], &[]).await;

    let refuse = async |query: Query, name: &str| match store.query(&query).await {
        Err(QueryError::Failed(headwater_core::Error::Invalid { field, .. })) => assert_eq!(field, name),
        other => panic!("{other:?}"),
    };
    refuse(Query { filter: vec![(5, Cell::Null)], ..all(revision, 0) }, "extra").await;
    refuse(Query { filter: vec![(1, text("2"))], ..all(revision, 0) }, "number").await;
    refuse(Query { order: Query::total_order(schema, &[by("extra", false)]), ..all(revision, 0) }, "extra")
        .await;
    refuse(Query { after: Some(vec![]), ..all(revision, 0) }, "after").await;
}

/// 9 is less than 10, and 1.5 is 1.50, whatever their text.
pub async fn decimals_are_compared_as_numbers(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let amounts = [
        "10",
        "9",
        "-1.5",
        "1.50",
        "1.5",
        "0",
        "-10",
        "0.0000000000000000000000000001",
        "79228162514264337593543950335",
    ];
    let rows = amounts.iter().enumerate().map(|(number, amount)| write(&format!("{number}"), amount, None));
    store.apply(batch(revision, P0, 0, 1, rows.collect()).into()).await.unwrap();
    let schema = &tables()[0];
    let ascending = Query {
        order: Query::total_order(schema, &[Order { column: 2, descending: false }]),
        ..all(revision, 0)
    };
    assert_eq!(ids(&*store, &ascending).await, ["6", "2", "5", "7", "3", "4", "1", "0", "8"]);
    let after = Query { after: Some(vec![decimal("1.500"), text("3")]), ..ascending };
    assert_eq!(ids(&*store, &after).await, ["4", "1", "0", "8"]);
    let equal = Query { filter: vec![(2, decimal("1.500"))], ..all(revision, 0) };
    assert_eq!(ids(&*store, &equal).await, ["3", "4"]);

    // As keys, equal decimals are one row.
    let line = |amount: &str, from: &str, expected| RowWrite {
        table: 2,
        key: key([decimal(amount), Cell::Integer(1)]),
        expected,
        state: Some(RowState::Live(Row {
            cells: vec![decimal(amount), Cell::Integer(1), text(from)],
            writer: None,
            stamps: vec![],
        })),
    };
    let written = store.apply(batch(revision, P0, 1, 2, vec![line("1.50", "x", None)]).into()).await.unwrap();
    let again = vec![
        line("1.5", "y", Some(RowVersion(written.version))),
        line("10", "z", None),
        line("9", "z", None),
    ];
    store.apply(batch(revision, P0, 2, 3, again).into()).await.unwrap();
    let rows = store.query(&all(revision, 2)).await.unwrap().rows;
    assert_eq!(rows.iter().map(|row| row[2].to_string()).collect::<Vec<_>>(), ["y", "z", "z"]);
    let one = Query {
        active: false,
        ..Query::by_key(revision, 2, &tables()[2], &key([decimal("1.5000"), Cell::Integer(1)]))
    };
    assert_eq!(store.query(&one).await.unwrap().rows.len(), 1);
}

/// While a worker writes, every answer's rows are exactly those of its positions.
pub async fn an_answer_is_of_one_snapshot(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    promote(&*store, revision).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut version = None;
            for position in 0..200_u64 {
                let rows = vec![
                    write("counter", &(position + 1).to_string(), version),
                    write(&format!("r{position}"), "0", None),
                ];
                let written = store
                    .apply(batch(revision, P0, position, position + 1, rows).into())
                    .await
                    .expect("a write");
                version = Some(RowVersion(written.version));
            }
        })
    };
    let query = Query { active: true, limit: 1_000, ..all(revision, 0) };
    loop {
        let done = writer.is_finished();
        let answer = store.query(&query).await.expect("an answer");
        let position = answer.positions.get(P0).get();
        assert_eq!(answer.rows.len() as u64, if position == 0 { 0 } else { position + 1 });
        if position > 0 {
            let counter = answer.rows.iter().find(|row| row[0] == text("counter")).expect("a counter");
            assert_eq!(counter[2], decimal(&position.to_string()));
        }
        assert_eq!(answer.positions.get(P1).get(), 10);
        if done {
            break;
        }
    }
    writer.await.expect("no panic");
}

/// A revision has rows, checkpoints and parked events of its own; queries see the active one.
pub async fn revisions_are_apart(place: &dyn Place) {
    let store = place.open().await;
    let none = store.query(&Query { active: true, ..all(Revision(1), 0) }).await;
    assert!(matches!(none, Err(QueryError::NotActive { active: None })));
    let one = create(&*store, "a").await;
    let mut first = batch(one, P0, 0, 5, vec![write("a", "1", None)]);
    first.parks = vec![append("bad", None, [3])];
    store.apply(Arc::new(first)).await.unwrap();
    assert_eq!(promote(&*store, one).await.active, Some(one));

    let two = create(&*store, "b").await;
    assert!(two > one);
    assert_eq!(position(&*store, two, P0).await, 0);
    assert!(store.parked(two, None, 10, 10).await.unwrap().is_empty());
    store.apply(batch(two, P0, 0, 2, vec![write("b", "1", None)]).into()).await.unwrap();
    assert_eq!(ids(&*store, &Query { active: true, ..all(one, 0) }).await, ["a"]);
    let not_yet = store.query(&Query { active: true, ..all(two, 0) }).await;
    assert!(matches!(not_yet, Err(QueryError::NotActive { active: Some(revision) }) if revision == one));

    let rollout = promote(&*store, two).await;
    assert_eq!((rollout.active, rollout.candidate), (Some(two), None));
    let previous = rollout.previous.unwrap();
    assert_eq!((previous.revision, previous.until), (one, at(100)));
    assert_eq!(ids(&*store, &Query { active: true, ..all(two, 0) }).await, ["b"]);
    // The previous one goes on.
    store.apply(batch(one, P0, 5, 6, vec![write("c", "1", None)]).into()).await.unwrap();
    assert_eq!(ids(&*store, &all(one, 0)).await, ["a", "c"]);
}

/// Two decisions on the same version: one is taken.
pub async fn only_one_decision_is_taken_on_a_rollout(place: &dyn Place) {
    let store = place.open().await;
    let version = store.rollout().await.unwrap().version;
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store.change(version, &Change::Create(new_revision(&format!("d{number}")))).await
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(rollout) => {
                taken += 1;
                assert_eq!(rollout.candidate, Some(Revision(1)));
            }
            Err(ChangeError::Stale { found }) => assert!(found > version),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(store.rollout().await.unwrap().revisions.len(), 1);
}

/// What [`Rollout::after`] refuses is refused, and nothing changes.
pub async fn illegal_changes_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    let refuse = async |change: Change, why: &str| {
        let before = store.rollout().await.expect("a rollout");
        match store.change(before.version, &change).await {
            Err(ChangeError::Failed(error)) => assert!(error.to_string().contains(why), "{error}"),
            other => panic!("{change:?} gave {other:?}"),
        }
        assert_eq!(store.rollout().await.expect("a rollout"), before);
    };
    refuse(Change::Create(new_revision("b")), "revision 1 is already being built").await;
    refuse(
        Change::Promote { revision: Revision(9), keep_until: at(1), hold: None },
        "neither the candidate nor the previous",
    )
    .await;
    refuse(Change::Drop { revision: Revision(9) }, "no such revision").await;
    promote(&*store, one).await;
    refuse(Change::Drop { revision: one }, "answers queries").await;
    refuse(
        Change::Promote { revision: one, keep_until: at(1), hold: None },
        "neither the candidate nor the previous",
    )
    .await;
    let foreign = NewRevision { log_id: LogId::from_uuid(Uuid::from_u128(8)), ..new_revision("c") };
    refuse(Change::Create(foreign), "the read model here is built from log").await;
    let later = NewRevision { start: Positions::default(), ..new_revision("d") };
    let version = store.rollout().await.unwrap().version;
    let rollout = store.change(version, &Change::Create(later)).await.unwrap();
    assert_eq!(rollout.start, new_revision("d").start, "a later revision starts where the first did");
}

/// A dropped revision takes nothing and answers nothing, and its number does not come again.
pub async fn a_dropped_revision_is_gone(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    let mut first = batch(one, P0, 0, 1, vec![write("a", "1", None)]);
    first.parks = vec![append("bad", None, [1])];
    store.apply(Arc::new(first)).await.unwrap();
    let rollout = change(&*store, Change::Drop { revision: one }).await;
    assert!(rollout.revisions.is_empty() && rollout.candidate.is_none());
    assert!(matches!(store.partition(one, P0).await, Err(ApplyError::Gone { revision }) if revision == one));
    assert!(matches!(store.load(&Load { revision: one, rows: vec![] }).await, Err(ApplyError::Gone { .. })));
    assert!(matches!(store.apply(batch(one, P0, 1, 2, vec![]).into()).await, Err(ApplyError::Gone { .. })));
    let not_found = |error| matches!(error, headwater_core::Error::NotFound { .. });
    assert!(not_found(store.progress(one).await.unwrap_err()));
    assert!(not_found(store.parked(one, None, 1, 1).await.unwrap_err()));
    assert!(not_found(store.parked_stream(one, &stream("bad"), 1).await.unwrap_err()));
    assert!(
        matches!(store.query(&all(one, 0)).await, Err(QueryError::Failed(error)) if not_found(error.clone()))
    );
    let two = create(&*store, "a").await;
    assert!(two > one);
    assert!(ids(&*store, &all(two, 0)).await.is_empty());
    assert!(store.parked(two, None, 10, 10).await.unwrap().is_empty());
}

/// Swapping back keeps both revisions and remembers what is not wanted.
pub async fn a_rollback_holds_the_digest(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    promote(&*store, one).await;
    let two = create(&*store, "b").await;
    promote(&*store, two).await;
    let rollout =
        change(&*store, Change::Promote { revision: one, keep_until: at(50), hold: Some("b".into()) }).await;
    assert_eq!(rollout.active, Some(one));
    assert_eq!(rollout.previous.map(|previous| (previous.revision, previous.until)), Some((two, at(50))));
    assert_eq!(rollout.held_digest.as_deref(), Some("b"));
    assert_eq!(change(&*store, Change::ReleaseHold).await.held_digest, None);
}

/// A store opened again is where it was.
pub async fn everything_is_there_after_a_restart(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    promote(&*store, one).await;
    let two = create(&*store, "b").await;
    promote(&*store, two).await;
    change(&*store, Change::Promote { revision: one, keep_until: at(9), hold: Some("b".into()) }).await;
    let three = create(&*store, "c").await;
    let mut first = batch(three, P0, 0, 7, vec![write("a", "1.50", None)]);
    first.parks = vec![append("bad", None, [3, 7])];
    store.apply(Arc::new(first)).await.unwrap();
    let before = (
        store.rollout().await.unwrap(),
        store.progress(three).await.unwrap(),
        store.parked(three, None, 9, 9).await.unwrap(),
    );
    let rows = store.query(&all(three, 0)).await.unwrap();
    drop(store);
    let store = place.open().await;
    assert_eq!(before.0, store.rollout().await.unwrap());
    assert_eq!(before.1, store.progress(three).await.unwrap());
    assert_eq!(before.2, store.parked(three, None, 9, 9).await.unwrap());
    assert_eq!(rows, store.query(&all(three, 0)).await.unwrap());
    let record = before.0.record(three).unwrap();
    assert_eq!((record.digest.as_str(), record.definition.as_str()), ("c", "{\"of\":\"c\"}"));
    assert_eq!(record.tables, tables());
    // It goes on, with versions that were not given before.
    let (_, version) = load(&*store, three, 0, vec![key([text("a")])]).await.remove(0).unwrap();
    let written =
        store.apply(batch(three, P0, 7, 8, vec![write("a", "2", Some(version))]).into()).await.unwrap();
    assert!(written.version > version.0);
}

/// A schema that some sink could not hold is refused by all, with the path of the fault.
pub async fn bad_schemas_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let refuse = async |change: fn(&mut Vec<TableSchema>), path: &str| {
        let mut new = new_revision("a");
        change(&mut new.tables);
        let version = store.rollout().await.expect("a rollout").version;
        match store.change(version, &Change::Create(new)).await {
            Err(ChangeError::Failed(headwater_core::Error::Invalid { field, .. })) => assert_eq!(field, path),
            other => panic!("{other:?}"),
        }
    };
    refuse(|tables| tables[0].name = "a; drop table b".into(), "tables[0].name").await;
    refuse(|tables| tables[1].name = "ORDERS".into(), "tables[1].name").await;
    refuse(|tables| tables[0].columns[1].name = "a b".into(), "tables[0].columns[1].name").await;
    refuse(|tables| tables[0].key = vec![5], "tables[0].key[0]").await;
    assert!(store.rollout().await.unwrap().revisions.is_empty());
}
