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

mod silence {
    use std::time::Duration;

    use async_trait::async_trait;
    use headwater_bus::{BrokerReference, Checkpoint, Consumer, FeedOptions, LiveReader, Reached};
    use headwater_core::{Append, Error, EventType, Expected, NewEvent, RecordedEvent, Result, StreamId};
    use headwater_log::{LogReader, LogWriter, MemoryStore, Sequencer, SequencerOptions};

    use super::*;

    /// One that is away: it is said at once, or never.
    struct Away {
        says_so: bool,
    }

    #[async_trait]
    impl Bus for Away {
        async fn publish(&self, _: &[RecordedEvent]) -> Result<BrokerReference> {
            Err(Error::unavailable("away"))
        }

        async fn reached(&self, _: Partition, _: &Checkpoint) -> Result<Reached> {
            Err(Error::unavailable("away"))
        }

        async fn consume(&self, _: Partition, _: Position) -> Result<Box<dyn Consumer>> {
            if self.says_so {
                return Err(Error::unavailable("away"));
            }
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_bus_is_away_the_log_itself_is_waited_for() {
        for says_so in [false, true] {
            let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
            let sequencer = Sequencer::start(store.clone(), SequencerOptions::default());
            let live = Arc::new(LiveReader::new(store, Arc::new(Away { says_so }), FeedOptions::default()));
            let waiting = {
                let live = Arc::clone(&live);
                tokio::spawn(async move { live.wait_beyond(Partition::ZERO, Position::ZERO).await })
            };
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert!(!waiting.is_finished(), "there is nothing yet");
            let appended = tokio::time::Instant::now();
            let event = NewEvent::json(EventType::new("Made").unwrap(), "1");
            let stream_id = StreamId::new("a").unwrap();
            sequencer
                .append(Append { stream_id, expected: Expected::Any, events: vec![event] })
                .await
                .unwrap();
            let head =
                tokio::time::timeout(Duration::from_secs(2), waiting).await.expect("it comes").unwrap();
            assert_eq!(head.unwrap(), Position::new(1));
            assert!(appended.elapsed() < Duration::from_secs(1), "{:?}", appended.elapsed());
        }
    }
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
