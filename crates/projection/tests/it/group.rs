//! Several processes that fold one projection: here, services over one store.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, Result};
use headwater_log::{Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage};
use headwater_projection::{ProjectionService, ProjectionStatus};
use headwater_view::ViewStore;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::support::{Log, Sink, caught_up, desired, rows, until};

const MANIFEST: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: s}
spec: {partitions: 4}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: p}
spec:
  streamRef: {name: s}
  onError: {policy: Halt}
  tables:
  - {name: sums, key: [id], columns: [{name: id, type: Text}, {name: sum, type: Decimal}]}
  rules:
  - {name: add, events: [Added], type: Increment, table: sums, key: {id: event.streamId}, by: {sum: "12 / event.data.n"}}
"#;

async fn add(log: &Log, stream: &str, n: u64) -> uuid::Uuid {
    log.append(stream, "Added", &format!(r#"{{"n":{n}}}"#)).await.0
}

/// One of the services, called `name`.
async fn join(log: Arc<dyn LogReader>, store: &Arc<dyn ViewStore>, name: &str) -> ProjectionService {
    let service =
        ProjectionService::start("p", name, log, Arc::clone(store), CancellationToken::new()).await.unwrap();
    service.reconcile(desired(MANIFEST)).await.unwrap();
    service
}

/// How many partitions each of the workers holds, by name, as `status` shows it.
fn shares(status: &ProjectionStatus) -> Vec<(&str, usize)> {
    status.workers.iter().map(|worker| (worker.name.as_str(), worker.partitions.len())).collect()
}

/// The partition of the active revision that has halted, who folds it, and at which event.
fn halted(status: &ProjectionStatus) -> Option<(u16, String, uuid::Uuid)> {
    let partition = status.active.as_ref()?.partitions.iter().find(|it| it.state == "Halted")?;
    Some((partition.partition, partition.worker.clone()?, partition.failure.as_ref()?.event_id))
}

async fn sums(store: &dyn ViewStore) -> Vec<(String, String)> {
    rows(store, "sums").await.into_iter().map(|(id, row)| (id, row[1].clone())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_are_shared_out_and_come_back() {
    let log = Log::new(4);
    let store = Sink::memory().open();
    let a = join(log.reader(), &store, "a").await;
    until(&a, "it has all", |status| shares(status) == [("a", 4)]).await;
    let b = join(log.reader(), &store, "b").await;
    let c = join(log.reader(), &store, "c").await;
    for number in 0..40 {
        add(&log, &format!("s-{number}"), 1).await;
    }
    for service in [&a, &b, &c] {
        let status = until(service, "each has its share", |status| {
            let mut held: Vec<_> = shares(status).into_iter().map(|(_, held)| held).collect();
            held.sort_unstable();
            held == [1, 1, 2]
        })
        .await;
        let all: BTreeSet<u16> = status.workers.iter().flat_map(|it| it.partitions.clone()).collect();
        assert_eq!(all.len(), 4, "no partition has two: {status:#?}");
        // Each answers for all partitions, and knows of all how far they are.
        caught_up(&log, service).await;
        until(service, "it sees all to be folded", |status| {
            status.active.as_ref().is_some_and(|active| {
                active.lag.is_some_and(|lag| lag.events == 0)
                    && active.partitions.iter().all(|it| it.state == "Running" && it.worker.is_some())
            })
        })
        .await;
    }
    assert_eq!(sums(&*store).await.len(), 40);

    // One that is paused folds nothing, and the others have its share.
    b.pause().await.unwrap();
    until(&a, "the others have what it had", |status| shares(status) == [("a", 2), ("b", 0), ("c", 2)]).await;
    assert_eq!(a.status().workers[1].standing, "watches");
    b.resume().await.unwrap();
    until(&a, "it has some again", |status| shares(status).iter().all(|(_, held)| (1..=2).contains(held)))
        .await;
    // Those that end give up what they have.
    a.stop().await;
    b.stop().await;
    until(&c, "the last has all", |status| shares(status) == [("c", 4)]).await;
    add(&log, "s-1", 1).await;
    caught_up(&log, &c).await;
    c.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_shared_out_and_any_worker_may_be_asked_for_it() {
    let log = Log::new(4);
    let store = Sink::memory().open();
    let (a, b) = (join(log.reader(), &store, "a").await, join(log.reader(), &store, "b").await);
    for number in 0..40 {
        add(&log, &format!("s-{number}"), 3).await;
    }
    until(&b, "each has its share", |status| shares(status) == [("a", 2), ("b", 2)]).await;
    caught_up(&log, &b).await;
    let before = sums(&*store).await;
    b.rebuild().await.unwrap();
    for service in [&a, &b] {
        let status = until(service, "the second revision serves", |status| {
            status.active.as_ref().is_some_and(|active| active.revision == "2")
        })
        .await;
        let active = status.active.as_ref().unwrap();
        let workers: BTreeSet<_> = active.partitions.iter().filter_map(|it| it.worker.clone()).collect();
        assert_eq!(workers.len(), 2, "{status:#?}");
    }
    assert_eq!(sums(&*store).await, before);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_has_halted_elsewhere_is_seen_and_helped_from_here() {
    let log = Log::new(4);
    let store = Sink::memory().open();
    let (a, b) = (join(log.reader(), &store, "a").await, join(log.reader(), &store, "b").await);
    until(&a, "each has its share", |status| shares(status) == [("a", 2), ("b", 2)]).await;
    let poison = add(&log, "s-1", 0).await;
    add(&log, "s-1", 4).await;
    let seen = until(&a, "a sees it", |status| halted(status).is_some()).await;
    let (_, holder, event) = halted(&seen).unwrap();
    assert_eq!(event, poison);
    until(&b, "b sees it", |status| halted(status) == halted(&seen)).await;
    // The one that does not fold it is asked to skip.
    let other = if holder == "a" { &b } else { &a };
    other.skip_event(poison).await.unwrap();
    caught_up(&log, other).await;
    assert_eq!(sums(&*store).await, [("s-1".to_owned(), "3".to_owned())]);
    for service in [&a, &b] {
        until(service, "it is seen to run again", |status| halted(status).is_none()).await;
    }
    a.stop().await;
    b.stop().await;
}

/// A log that can be out of reach.
struct Cut(Arc<dyn LogReader>, AtomicBool);

impl Cut {
    fn check(&self) -> Result<()> {
        if self.1.load(Ordering::SeqCst) { Err(Error::unavailable("out of reach")) } else { Ok(()) }
    }
}

#[async_trait]
impl LogReader for Cut {
    fn descriptor(&self) -> LogDescriptor {
        self.0.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.check()?;
        self.0.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.check()?;
        self.0.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.check()?;
        self.0.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.check()?;
        self.0.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.check()?;
        self.0.wait_beyond(partition, position).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cut_off_from_the_log_leaves_its_share_to_others() {
    let log = Log::new(4);
    let store = Sink::memory().open();
    let cut = Arc::new(Cut(log.reader(), AtomicBool::new(false)));
    let a = join(Arc::clone(&cut) as Arc<dyn LogReader>, &store, "a").await;
    let b = join(log.reader(), &store, "b").await;
    until(&b, "each has its share", |status| shares(status) == [("a", 2), ("b", 2)]).await;
    cut.1.store(true, Ordering::SeqCst);
    let status = until(&b, "the other has all", |status| shares(status) == [("a", 0), ("b", 4)]).await;
    assert_eq!(status.workers[0].standing, "reserve");
    for number in 0..8 {
        add(&log, &format!("s-{number}"), 1).await;
    }
    caught_up(&log, &b).await;
    // Where there is no other, it goes on trying.
    b.stop().await;
    until(&a, "it has all", |status| shares(status) == [("a", 4)]).await;
    cut.1.store(false, Ordering::SeqCst);
    add(&log, "s-1", 1).await;
    caught_up(&log, &a).await;
    assert_eq!(sums(&*store).await.len(), 8);
    a.stop().await;
}
