//! A log that was restored from an older backup, and has grown since.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::{Partition, Position, Result};
use headwater_log::{Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage};
use headwater_projection::ProjectionService;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::support::{Log, Sink, caught_up, desired, rows, start, until};

const MANIFEST: &str = r"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: s}
spec: {}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: p}
spec:
  streamRef: {name: s}
  tables:
  - {name: sums, key: [id], columns: [{name: id, type: Text}, {name: sum, type: Decimal}]}
  rules:
  - {name: add, events: [Added], type: Increment, table: sums, key: {id: event.streamId}, by: {sum: event.data.n}}
";

/// Another log under the identity of the first.
struct Restored {
    descriptor: LogDescriptor,
    now: Arc<dyn LogReader>,
}

#[async_trait]
impl LogReader for Restored {
    fn descriptor(&self) -> LogDescriptor {
        self.descriptor
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.now.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.now.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.now.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.now.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.now.wait_beyond(partition, position).await
    }
}

async fn check(sink: Sink) {
    let store = sink.open();
    let log = Log::new(1);
    for _ in 0..3 {
        log.append("a", "Added", r#"{"n":1}"#).await;
    }
    // The rules are not about what comes last.
    log.append("a", "Told", "{}").await;
    let service = start(&log, Arc::clone(&store), desired(MANIFEST)).await;
    caught_up(&log, &service).await;
    service.stop().await;

    // The same log is folded on, all of it.
    log.append("a", "Added", r#"{"n":1}"#).await;
    let service = start(&log, Arc::clone(&store), desired(MANIFEST)).await;
    caught_up(&log, &service).await;
    service.stop().await;
    assert_eq!(rows(&*store, "sums").await["a"][1], "4");

    let restored = Log::new(1);
    for _ in 0..9 {
        restored.append("a", "Added", r#"{"n":5}"#).await;
    }
    let reader = Restored { descriptor: log.reader().descriptor(), now: restored.reader() };
    let stop = CancellationToken::new();
    let service =
        ProjectionService::start("test", "here", Arc::new(reader), Arc::clone(&store), stop).await.unwrap();
    service.reconcile(desired(MANIFEST)).await.unwrap();
    until(&service, "it says so", |status| format!("{status:?}").contains("restored from an older backup"))
        .await;
    assert_eq!(rows(&*store, "sums").await["a"][1], "4", "nothing is folded on");
    service.stop().await;
}

#[tokio::test]
async fn a_restored_log_that_has_grown_is_not_folded_on_in_memory() {
    check(Sink::memory()).await;
}

#[tokio::test]
async fn a_restored_log_that_has_grown_is_not_folded_on_sqlite() {
    check(Sink::sqlite()).await;
}
