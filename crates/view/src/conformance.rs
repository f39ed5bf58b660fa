//! What every [`ViewStore`] must pass, as one test a promise. An implementation names its [`Place`]:
//!
//! ```text
//! headwater_view::view_conformance!(MyPlace::new());
//! ```

mod batches;
mod leases;
mod parking;
mod queries;
mod rollouts;

pub use batches::*;
pub use leases::*;
pub use parking::*;
pub use queries::*;
pub use rollouts::*;

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
            what_was_declared_is_kept,
            everything_is_there_after_a_restart,
            bad_schemas_are_refused,
            a_partition_has_one_holder_at_a_time,
            what_is_not_named_is_free_at_once,
            a_lease_ends_with_its_term_unless_it_is_renewed,
            what_a_member_says_is_what_others_read,
            of_several_that_take_a_partition_at_once_one_gets_it,
            a_batch_needs_no_lease,
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
    let column = |name: &str, column_type, default| Column::new(name, column_type, default);
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

fn advance(partition: Partition, from: u64, to: u64) -> Advance {
    Advance {
        partition,
        from: Position::new(from),
        to: Position::new(to),
        recorded_at: Some(at(to as i64)),
        skipped: 0,
    }
}

fn batch(revision: Revision, partition: Partition, from: u64, to: u64, rows: Vec<RowWrite>) -> Batch {
    Batch { advance: Some(advance(partition, from, to)), rows, ..Batch::new(revision, Decisions(0)) }
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
