//! The bus's contract, kept within one process.

use std::sync::Arc;

use headwater_bus::conformance::{Fixture, checkpoints_are_moved_by_the_newest_relay_alone};
use headwater_bus::{Bus, InProcessBus, MemoryRelayState, RelayState};
use headwater_core::{Partition, PartitionCount, Position};
use headwater_log::LogDescriptor;

async fn make(log: LogDescriptor) -> Fixture {
    Fixture::new(InProcessBus::new(log.partitions, 4_096))
}

headwater_bus::bus_conformance!(make);

#[tokio::test]
async fn a_relays_checkpoints_in_memory() {
    let state: Arc<dyn RelayState> = Arc::new(MemoryRelayState::default());
    checkpoints_are_moved_by_the_newest_relay_alone(async || Arc::clone(&state)).await;
}

mod ring {
    use super::*;
    use headwater_bus::{Feed, FeedOptions};
    use headwater_core::{Append, EventType, Expected, NewEvent, StreamId};
    use headwater_log::{
        Filter, LogReader, LogWriter, MemoryStore, ReadPartition, Sequencer, SequencerOptions,
    };

    /// A log of 100 events.
    async fn log() -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
        let sequencer = Sequencer::start(store.clone(), SequencerOptions::default());
        let events = (0..100)
            .map(|index: u32| NewEvent::json(EventType::new("Counted").unwrap(), index.to_string()))
            .collect();
        let stream_id = StreamId::new("a").unwrap();
        sequencer.append(Append { stream_id, expected: Expected::Any, events }).await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_consumer_slower_than_the_ring_sees_a_hole_and_mends_it_from_the_log() {
        let store = log().await;
        let request = ReadPartition {
            partition: Partition::ZERO,
            after: Position::ZERO,
            up_to: None,
            filter: Filter::default(),
            limit: 100,
            max_bytes: usize::MAX,
        };
        let events = store.read_partition(request).await.unwrap().events;
        let bus = Arc::new(InProcessBus::new(PartitionCount::ONE, 10));
        let mut consumer = bus.consume(Partition::ZERO, Position::ZERO).await.unwrap();
        bus.publish(&events[..5]).await.unwrap();
        assert_eq!(consumer.next().await.unwrap(), events[..5]);
        bus.publish(&events[5..]).await.unwrap();
        assert_eq!(consumer.next().await.unwrap(), events[90..], "the ring keeps the newest");

        let mut feed = Feed::new(store, bus, Partition::ZERO, Position::ZERO, FeedOptions::default());
        let mut given = Vec::new();
        while given.len() < 100 {
            given.extend(feed.next_batch(30, 1 << 20).await.unwrap().events);
        }
        assert_eq!(given, events);
    }
}
