//! What a sequencer asks its store never holds up what it has to answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{
    Append, EventType, Expected, NewEvent, Partition, PartitionCount, Position, Result, StreamId, Version,
};
use headwater_log::{
    Batch, CommitError, Committed, Head, LogDescriptor, LogReader, LogStore, LogWriter, MemoryStore,
    PartitionPage, ReadPartition, ReadStream, Sequencer, SequencerOptions, StoredEvent, StreamPage,
};
use jiff::Timestamp;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Only a failing test waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A store whose commits each wait for a permit, and whose look-ups wait for one of the connections.
struct Gated {
    store: MemoryStore,
    commits: Semaphore,
    /// Given back after each look-up.
    connections: Semaphore,
    /// Whether the next commit meets an id that is taken.
    duplicate: AtomicBool,
    versions_asked: AtomicUsize,
    ids_asked: AtomicUsize,
}

impl Gated {
    fn new(connections: usize, duplicate: bool) -> Arc<Self> {
        Arc::new(Self {
            store: MemoryStore::new(PartitionCount::ONE),
            commits: Semaphore::new(0),
            connections: Semaphore::new(connections),
            duplicate: AtomicBool::new(duplicate),
            versions_asked: AtomicUsize::new(0),
            ids_asked: AtomicUsize::new(0),
        })
    }
}

/// Waits until something has been asked for so many times.
async fn asked(counter: &AtomicUsize, times: usize) {
    let asked = async {
        while counter.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap();
}

#[async_trait]
impl LogReader for Gated {
    fn descriptor(&self) -> LogDescriptor {
        self.store.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.store.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.store.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.store.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.store.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.store.wait_beyond(partition, position).await
    }
}

#[async_trait]
impl LogStore for Gated {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        self.store.acquire(partition).await
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        self.commits.acquire().await.unwrap().forget();
        if self.duplicate.swap(false, Ordering::SeqCst) {
            return Err(CommitError::Duplicate);
        }
        self.store.commit(batch).await
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.versions_asked.fetch_add(1, Ordering::SeqCst);
        let _connection = self.connections.acquire().await.unwrap();
        self.store.stream_versions(partition, stream_ids).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        self.ids_asked.fetch_add(1, Ordering::SeqCst);
        let _connection = self.connections.acquire().await.unwrap();
        self.store.find(ids).await
    }
}

fn append(stream_id: &str) -> Append {
    let event = NewEvent::json(EventType::new("Created").unwrap(), b"{}".to_vec());
    Append { stream_id: StreamId::new(stream_id).unwrap(), expected: Expected::NoStream, events: vec![event] }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_what_the_next_batch_needs() {
    let store = Gated::new(1, false);
    let log = Sequencer::start(store.clone(), SequencerOptions::default());
    let spawn = |stream_id: &'static str| {
        let log = log.clone();
        tokio::spawn(async move { log.append(append(stream_id)).await })
    };
    let first = spawn("a");
    asked(&store.versions_asked, 1).await;
    // The versions for the second are asked for while the first is being committed, and do not come.
    let busy = store.connections.acquire().await.unwrap();
    let second = spawn("b");
    asked(&store.versions_asked, 2).await;
    store.commits.add_permits(1);
    let answered = tokio::time::timeout(PATIENCE, first).await.expect("it is answered when it is durable");
    assert_eq!(answered.unwrap().unwrap().position, Position::new(1));

    drop(busy);
    store.commits.add_permits(10);
    let answered = tokio::time::timeout(PATIENCE, second).await.expect("what was asked for has come");
    assert_eq!(answered.unwrap().unwrap().position, Position::new(2));
    log.shutdown().await;
}

/// The one connection is promised to a look-up for the next batch, when the lane has to look something up for this one.
#[tokio::test]
async fn a_look_up_for_the_next_batch_does_not_hold_up_this_one() {
    let store = Gated::new(1, true);
    let log = Sequencer::start(store.clone(), SequencerOptions::default());
    let spawn = |stream_id: &'static str| {
        let log = log.clone();
        tokio::spawn(async move { log.append(append(stream_id)).await })
    };
    let first = spawn("a");
    asked(&store.versions_asked, 1).await;
    let busy = store.connections.acquire().await.unwrap();
    let second = spawn("b");
    asked(&store.versions_asked, 2).await;
    store.commits.add_permits(10);
    // The first meets an id that is taken and is looked for, behind what the second needs.
    asked(&store.ids_asked, 1).await;
    drop(busy);
    for append in [first, second] {
        tokio::time::timeout(PATIENCE, append).await.expect("nobody waits for himself").unwrap().unwrap();
    }
    log.shutdown().await;
}
