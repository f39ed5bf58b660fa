//! The event stream cannot be read for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, Result};
use headwater_log::{
    Head, LogDescriptor, LogReader, MemoryStore, PartitionPage, ReadPartition, ReadStream, StreamPage,
};
use headwater_saga::SagaService;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::outcomes::TWO;
use crate::shop::{Does, Killer, World, ended};

/// Reads nothing while it is broken, and has lost all events once it is restored.
struct Breaking {
    store: Arc<MemoryStore>,
    broken: AtomicBool,
    restored: AtomicBool,
    failures: AtomicUsize,
}

#[async_trait]
impl LogReader for Breaking {
    fn descriptor(&self) -> LogDescriptor {
        self.store.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.store.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        if self.broken.load(Ordering::SeqCst) {
            self.failures.fetch_add(1, Ordering::SeqCst);
            return Err(Error::unavailable("the disk is gone, by injection"));
        }
        self.store.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        let mut heads = self.store.heads().await?;
        if self.restored.load(Ordering::SeqCst) {
            for head in &mut heads {
                head.position = Position::ZERO;
            }
        }
        Ok(heads)
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.store.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.store.wait_beyond(partition, position).await
    }
}

/// How long it takes from the last of `failures` failures on until `order` has ended.
async fn outage(
    world: &World,
    events: &Breaking,
    service: &SagaService,
    order: &str,
    failures: usize,
) -> Duration {
    let before = events.failures.load(Ordering::SeqCst);
    events.broken.store(true, Ordering::SeqCst);
    world.place(order).await;
    while events.failures.load(Ordering::SeqCst) < before + failures || service.status().message.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let message = service.status().message.unwrap_or_default();
    assert!(message.contains("the disk is gone"), "{message}");
    events.broken.store(false, Ordering::SeqCst);
    let healed = Instant::now();
    ended(service, order).await;
    assert_eq!(service.status().message, None);
    healed.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_was_wrong_is_said_until_it_has_passed_and_the_next_outage_begins_anew() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let events = Arc::new(Breaking {
        store: Arc::clone(&world.events),
        broken: AtomicBool::new(false),
        restored: AtomicBool::new(false),
        failures: AtomicUsize::new(0),
    });
    let reader = Arc::clone(&events) as Arc<dyn LogReader>;
    let service = world.coordinator_over(reader, &Killer::never(), world.spec()).await;
    outage(&world, &events, &service, "1", 9).await;
    // After a long outage the next pause would be of seconds.
    let short = outage(&world, &events, &service, "2", 1).await;
    assert!(short < Duration::from_millis(200), "{short:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_saga_does_not_follow_an_older_backup_of_its_log() {
    let world = World::new(TWO, |_, _, _| Does::Answer);
    let events = Arc::new(Breaking {
        store: Arc::clone(&world.events),
        broken: AtomicBool::new(false),
        restored: AtomicBool::new(false),
        failures: AtomicUsize::new(0),
    });
    let reader = || Arc::clone(&events) as Arc<dyn LogReader>;
    let service = world.coordinator_over(reader(), &Killer::never(), world.spec()).await;
    world.place("1").await;
    ended(&service, "1").await;
    service.stop().await;
    events.restored.store(true, Ordering::SeqCst);
    match world.try_coordinator("default", reader(), &Killer::never(), world.spec()).await {
        Err(Error::FailedPrecondition { message }) => assert!(message.contains("older backup"), "{message}"),
        other => panic!("{other:?}"),
    }
}
