//! What every bus must do, and what the relay and the feed make of one that fails: run against each implementation by one line.
//!
//! ```text
//! headwater_bus::bus_conformance!(make)     make: async fn(LogDescriptor) -> Fixture
//! ```
//!
//! The functions panic where the contract is broken, as tests do; they are for tests alone.
#![allow(missing_docs, reason = "each function's name is the sentence that it proves")]
#![allow(clippy::wildcard_imports, reason = "the suite's modules share one set of helpers")]

mod bus;
mod faults;
mod live;
mod mended;
mod state;

use std::any::Any;
use std::sync::Arc;

use headwater_core::{
    Append, EventType, Expected, NewEvent, Partition, PartitionCount, Position, RecordedEvent, StreamId,
};
use headwater_log::{
    Epoch, LogDescriptor, LogReader, LogStore, LogWriter, MemoryStore, Sequencer, SequencerOptions,
};

use crate::{Bus, Checkpoint, Consumer, Last, Reached, RelayState};

pub use bus::*;
pub use faults::FaultyBus;
pub use live::*;
pub use mended::*;
pub use state::*;

/// A bus to be tested, empty, and what must live as long as it does.
pub struct Fixture {
    pub bus: Arc<dyn Bus>,
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    pub fn new(bus: impl Bus) -> Self {
        Self { bus: Arc::new(bus), keep: Box::new(()) }
    }
}

/// A test for each thing that a [`Bus`] must do; `$make` is an `async fn(LogDescriptor) -> Fixture`.
#[macro_export]
macro_rules! bus_conformance {
    ($make:ident) => {
        $crate::bus_conformance!($make;
            what_is_published_is_delivered_as_it_was_and_in_order
            partitions_are_apart
            every_consumer_gets_everything
            a_consumer_starts_after_its_position
            a_dropped_wait_loses_nothing
            what_the_broker_holds_is_known
            a_relay_carries_the_log_in_order
            a_relay_goes_on_after_its_checkpoint
            a_relay_that_was_superseded_moves_no_checkpoint
            a_relay_fills_in_what_the_broker_has_lost
            a_relay_does_not_carry_on_what_another_log_began
            a_feed_gives_each_position_once_and_in_order
            faults_of_the_bus_are_mended_from_the_log
            a_bus_that_is_down_stops_nothing
            what_the_bus_drops_last_is_noticed
            those_who_follow_the_log_get_what_comes_from_the_bus
            those_who_follow_the_log_see_no_hole_over_a_bus_that_fails
            a_partition_is_followed_while_somebody_waits_for_it
        );
    };
    ($make:ident; $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::conformance::$name($make).await;
            }
        )+
    };
}

/// A log in memory, and a writer to it.
struct Log {
    store: Arc<MemoryStore>,
    writer: Sequencer,
}

impl Log {
    fn new(partitions: u32) -> Self {
        let store = Arc::new(MemoryStore::new(count(partitions)));
        let writer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
        Self { store, writer }
    }

    fn descriptor(&self) -> LogDescriptor {
        self.store.descriptor()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.store) as Arc<dyn LogReader>
    }

    /// Appends `number` events, one by one, over several stream ids.
    async fn grow(&self, number: usize) {
        for index in 0..number {
            let event = NewEvent::json(EventType::new("Counted").unwrap(), index.to_string());
            let stream_id = StreamId::new(format!("s{}", index % 23)).unwrap();
            let request = Append { stream_id, expected: Expected::Any, events: vec![event] };
            self.writer.append(request).await.unwrap();
        }
    }

    /// All events of a partition.
    async fn events(&self, partition: Partition) -> Vec<RecordedEvent> {
        let request = headwater_log::ReadPartition {
            partition,
            after: Position::ZERO,
            up_to: None,
            filter: headwater_log::Filter::default(),
            limit: usize::MAX,
            max_bytes: usize::MAX,
        };
        self.store.read_partition(request).await.unwrap().events
    }
}

fn count(partitions: u32) -> PartitionCount {
    PartitionCount::new(partitions).unwrap()
}

/// Consumes until the position `last` has come. First occurrences must come in order from after `after`.
async fn consume_to(consumer: &mut dyn Consumer, after: Position, last: Position) -> Vec<RecordedEvent> {
    let mut reached = after;
    let mut first = Vec::new();
    while reached < last {
        let events = consumer.next().await.unwrap();
        assert!(!events.is_empty(), "at least one");
        for event in events {
            if event.position > reached {
                assert_eq!(event.position, reached.next(), "first occurrences come in order");
                reached = event.position;
                first.push(event);
            }
        }
    }
    first
}
