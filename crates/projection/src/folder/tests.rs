//! Pages that are more than a sink would have at once.

use std::sync::{Mutex as Lock, PoisonError};

use async_trait::async_trait;
use headwater_core::{LogId, PartitionCount, Positions};
use headwater_view::{
    BatchLimit, Change, LoadedRow, MemoryView, NewRevision, PartitionState, RowState, ViewAdmin, Written,
};

use super::*;
use crate::fold::tests::{SET, event, plan};

/// A store that says how much it would have, and keeps note of what it gets: rows, and where the checkpoint goes.
struct Narrow {
    inner: MemoryView,
    limit: BatchLimit,
    batches: Lock<Vec<(usize, u64)>>,
}

#[async_trait]
impl ViewSink for Narrow {
    async fn partition(
        &self,
        revision: Revision,
        partition: Partition,
    ) -> Result<PartitionState, ApplyError> {
        self.inner.partition(revision, partition).await
    }

    async fn load(&self, load: &Load) -> Result<Vec<Vec<LoadedRow>>, ApplyError> {
        self.inner.load(load).await
    }

    async fn apply(&self, batch: Arc<Batch>) -> Result<Written, ApplyError> {
        let to = batch.advance.as_ref().map_or(0, |advance| advance.to.get());
        self.batches.lock().unwrap_or_else(PoisonError::into_inner).push((batch.rows.len(), to));
        self.inner.apply(batch).await
    }

    fn batch_limit(&self) -> BatchLimit {
        self.limit
    }
}

const LINES: &str = "  - {events: [E], forEach: {in: event.data.lines, as: line}, type: Upsert, table: t, key: {id: line}, set: {v: event.data.v}}\n";

/// Folds the events as one page that looked up to position 20, and gives the batches and the rows that are written.
async fn fold(rules: &str, limit: BatchLimit, data: &[String]) -> (Vec<(usize, u64)>, Vec<String>) {
    let plan = Arc::new(plan(1, "OneStream", rules));
    let sink = Arc::new(Narrow { inner: MemoryView::new(), limit, batches: Lock::default() });
    let new = NewRevision {
        digest: "a".to_owned(),
        definition: "{}".to_owned(),
        tables: plan.tables().to_vec(),
        log_id: LogId::generate(),
        partitions: PartitionCount::ONE,
        start: Positions::default(),
    };
    let version = sink.inner.rollout().await.unwrap().version;
    let revision = sink.inner.change(version, &Change::Create(new)).await.unwrap().candidate.unwrap();
    let events: Vec<RecordedEvent> =
        data.iter().zip(1..).map(|(data, position)| event(0, position, position as i64, "s", data)).collect();
    let page = PartitionPage { events, reached: Position::new(20), head: Position::new(20) };
    let mut folder = Folder::open(sink.clone(), plan, revision, Partition::ZERO, None).await.unwrap();
    let applied = folder.fold(&page, ErrorPolicy::Park).await.unwrap();
    assert_eq!(folder.progress().position, Position::new(20));
    folder.is_where_it_was().await.unwrap();
    let rows = applied
        .rows
        .iter()
        .filter(|write| matches!(write.state, Some(RowState::Live(_))))
        .map(|write| write.key.to_string())
        .collect();
    let batches = sink.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (batches, rows)
}

#[tokio::test]
async fn a_page_of_many_rows_is_several_batches_at_the_ends_of_events() {
    let data: Vec<String> = (0..7).map(|id| format!(r#"{{"id": "{id}", "v": "x"}}"#)).collect();
    let ids = ["0", "1", "2", "3", "4", "5", "6"];
    let (batches, rows) = fold(SET, BatchLimit::NONE, &data).await;
    assert_eq!((batches, rows), (vec![(7, 20)], ids.map(str::to_owned).to_vec()));
    let (batches, rows) = fold(SET, BatchLimit { rows: 3, ..BatchLimit::NONE }, &data).await;
    assert_eq!((batches, rows), (vec![(2, 2), (2, 4), (2, 6), (1, 20)], ids.map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn a_page_of_many_bytes_is_several_batches() {
    let data: Vec<String> =
        (0..4).map(|id| format!(r#"{{"id": "{id}", "v": "{}"}}"#, "x".repeat(100))).collect();
    let (batches, _) = fold(SET, BatchLimit { bytes: 300, ..BatchLimit::NONE }, &data).await;
    assert_eq!(batches, [(2, 2), (2, 20)]);
}

#[tokio::test]
async fn one_event_is_never_split() {
    let data =
        [r#"{"lines": ["a", "b", "c", "d"], "v": "x"}"#, r#"{"lines": ["e"], "v": "x"}"#].map(str::to_owned);
    let (batches, _) = fold(LINES, BatchLimit { rows: 2, bytes: 1 }, &data).await;
    assert_eq!(batches, [(4, 1), (1, 20)]);
}
