//! What a subscription does about times and readers that only a test can make.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use headwater_core::{
    Append, EventType, Expected, NewEvent, Partition, PartitionCount, Position, Result, StreamId,
};
use headwater_log::{
    Clock, Filter, Head, LogDescriptor, LogReader, LogWriter, MemoryStore, PartitionPage, ReadPartition,
    ReadStream, Sequencer, SequencerOptions, StartFrom, StreamPage, Subscription,
};
use jiff::Timestamp;

const MUCH: usize = 1 << 20;

fn append(stream_id: &str) -> Append {
    let event = NewEvent::json(EventType::new("Created").unwrap(), b"{}".to_vec());
    Append { stream_id: StreamId::new(stream_id).unwrap(), expected: Expected::Any, events: vec![event] }
}

#[tokio::test]
async fn a_time_to_come_is_waited_for() {
    let second = Arc::new(AtomicI64::new(100));
    let clock = Arc::clone(&second);
    let clock = Clock::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
    let store = Arc::new(MemoryStore::with_clock(PartitionCount::ONE, clock));
    let writer = Sequencer::start(store.clone(), SequencerOptions::default());
    writer.append(append("before")).await.unwrap();

    let start = StartFrom::Time(Timestamp::from_second(102).unwrap());
    let mut subscription = Subscription::open(store, &start, Filter::default()).await.unwrap();
    assert!(subscription.next_batch(10, MUCH).await.unwrap().caught_up);
    let mut given = Vec::new();
    for (now, stream_id) in [(101, "early"), (102, "on time"), (103, "later")] {
        second.store(now, Ordering::Relaxed);
        let appended = writer.append(append(stream_id)).await.unwrap();
        let batch = subscription.next_batch(10, MUCH).await.unwrap();
        assert_eq!(batch.token.positions.get(Partition::ZERO), appended.position, "it moves on in any case");
        given.extend(batch.events.into_iter().map(|event| event.stream_id.to_string()));
    }
    assert_eq!(given, ["on time", "later"]);
    writer.shutdown().await;
}

/// Says at first that the log ends beyond what its pages then hold, as when a replica answers that is behind.
struct Behind {
    store: Arc<MemoryStore>,
    ahead: Position,
    pages: AtomicU64,
}

#[async_trait]
impl LogReader for Behind {
    fn descriptor(&self) -> LogDescriptor {
        self.store.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.store.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        let pages = self.pages.fetch_add(1, Ordering::Relaxed);
        assert!(pages < 100, "it reads for ever");
        self.store.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        let heads = self.store.heads().await?;
        Ok(heads.into_iter().map(|head| Head { position: self.ahead, ..head }).collect())
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.store.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.store.wait_beyond(partition, position).await
    }
}

#[tokio::test]
async fn a_head_that_goes_back_is_waited_for() {
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let writer = Sequencer::start(store.clone(), SequencerOptions::default());
    for _ in 0..3 {
        writer.append(append("a")).await.unwrap();
    }
    let reader = Arc::new(Behind { store, ahead: Position::new(5), pages: AtomicU64::new(0) });
    let mut subscription =
        Subscription::open(reader, &StartFrom::Beginning, Filter::default()).await.unwrap();
    let batch = subscription.next_batch(10, MUCH).await.unwrap();
    assert_eq!((batch.events.len(), batch.caught_up), (3, true));
    assert!(subscription.next_batch(10, MUCH).now_or_never().is_none(), "there is nothing to give");
    writer.append(append("a")).await.unwrap();
    let batch = subscription.next_batch(10, MUCH).await.unwrap();
    assert_eq!((batch.events.len(), batch.caught_up), (1, true));
    writer.shutdown().await;
}
