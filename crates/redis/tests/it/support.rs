//! A read model of accounts, and what tests do with it.

use std::sync::Arc;

use headwater_core::{LogId, Partition, PartitionCount, Position, Positions};
use headwater_redis::RedisView;
use headwater_view::{
    Advance, Batch, Cell, Change, Column, ColumnType, Decisions, Index, Key, NewRevision, Revision, Row,
    RowState, RowVersion, RowWrite, TableSchema, ViewAdmin, ViewStore, Writers,
};
use jiff::Timestamp;
use uuid::Uuid;

/// `accounts` as people see it: one column has another name in Redis.
pub(crate) fn accounts() -> TableSchema {
    let column = |name: &str, column_type| Column::new(name, column_type, Cell::Null);
    TableSchema {
        name: "accounts".into(),
        columns: vec![
            column("id", ColumnType::Text),
            Column { field: Some("Owner name".into()), ..column("name", ColumnType::Text) },
            column("balance", ColumnType::Decimal),
            column("open", ColumnType::Boolean),
            column("since", ColumnType::Timestamp),
            column("extra", ColumnType::Json),
        ],
        key: vec![0],
        indexes: vec![Index { columns: vec![2] }],
        writers: Writers::Free,
    }
}

pub(crate) fn text(text: &str) -> Cell {
    Cell::Text(text.into())
}

pub(crate) fn new_revision(digest: &str, tables: Vec<TableSchema>) -> NewRevision {
    NewRevision {
        digest: digest.into(),
        definition: "{}".into(),
        tables,
        log_id: LogId::from_uuid(Uuid::from_u128(7)),
        partitions: PartitionCount::ONE,
        start: Positions::default(),
    }
}

/// Creates a revision of `tables`.
pub(crate) async fn create(store: &dyn ViewStore, digest: &str, tables: Vec<TableSchema>) -> Revision {
    let rollout = change(store, Change::Create(new_revision(digest, tables))).await;
    rollout.candidate.unwrap()
}

pub(crate) async fn change(store: &dyn ViewStore, change: Change) -> headwater_view::Rollout {
    store.change(store.rollout().await.unwrap().version, &change).await.unwrap()
}

pub(crate) async fn promote(store: &dyn ViewStore, revision: Revision) {
    change(store, Change::Promote { revision, keep_until: Timestamp::UNIX_EPOCH, hold: None }).await;
}

/// An account with this balance and nothing else.
pub(crate) fn account(id: &str, balance: &str, expected: Option<RowVersion>) -> RowWrite {
    let balance = Cell::Decimal(balance.parse().unwrap());
    write(vec![text(id), Cell::Null, balance, Cell::Null, Cell::Null, Cell::Null], expected)
}

pub(crate) fn write(cells: Vec<Cell>, expected: Option<RowVersion>) -> RowWrite {
    RowWrite {
        table: 0,
        key: Key::new(vec![cells[0].clone()]),
        expected,
        state: Some(RowState::Live(Row { cells, writer: None, stamps: vec![] })),
    }
}

pub(crate) fn batch(revision: Revision, from: u64, to: u64, rows: Vec<RowWrite>) -> Arc<Batch> {
    let advance = Advance {
        partition: Partition::ZERO,
        from: Position::new(from),
        to: Position::new(to),
        recorded_at: None,
        skipped: 0,
    };
    Arc::new(Batch { advance: Some(advance), rows, ..Batch::new(revision, Decisions(0)) })
}

pub(crate) async fn position(store: &RedisView, revision: Revision) -> u64 {
    store.progress(revision).await.unwrap()[0].position.get()
}
