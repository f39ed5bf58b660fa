//! The relay and the feed over a bus, whole or failing.

use std::time::Duration;

use super::*;
use crate::{Feed, FeedOptions, FeedStats, MemoryRelayState, Relay, RelayOptions};
use headwater_core::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ZERO: Partition = Partition::ZERO;
const MUCH: usize = 1 << 20;

pub(super) fn relay(log: &Log, bus: &Arc<dyn Bus>, state: &Arc<MemoryRelayState>) -> Arc<Relay> {
    let options = RelayOptions {
        batch_events: 10,
        pause: (Duration::from_micros(100), Duration::from_millis(1)),
        ..RelayOptions::default()
    };
    Arc::new(Relay::new(log.reader(), Arc::clone(bus), Arc::clone(state) as Arc<dyn RelayState>, options))
}

fn feed(log: &Log, bus: &Arc<dyn Bus>, partition: Partition, after: u64) -> Feed {
    let options = FeedOptions {
        silence: Duration::from_millis(20),
        pause: (Duration::from_micros(100), Duration::from_millis(1)),
        ..FeedOptions::default()
    };
    Feed::new(log.reader(), Arc::clone(bus), partition, Position::new(after), options)
}

/// A relay that runs until it is stopped.
pub(super) struct Running {
    relay: Arc<Relay>,
    stop: CancellationToken,
    task: JoinHandle<headwater_core::Result<()>>,
}

impl Running {
    pub(super) fn start(relay: Arc<Relay>, partition: Partition, epoch: u64) -> Self {
        let stop = CancellationToken::new();
        let task = {
            let (relay, stop) = (Arc::clone(&relay), stop.clone());
            tokio::spawn(async move { relay.run(partition, Epoch(epoch), &stop).await })
        };
        Self { relay, stop, task }
    }

    pub(super) async fn reaches(&self, partition: Partition, position: u64) {
        let mut relayed = self.relay.relayed(partition);
        relayed.wait_for(|relayed| relayed.get() >= position).await.unwrap();
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Pulls up to `last`; every batch must follow the one before.
async fn pull(feed: &mut Feed, last: u64) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    while feed.position().get() < last {
        let mut expected = feed.position();
        let batch = feed.next_batch(50, MUCH).await.unwrap();
        assert!(!batch.events.is_empty());
        for event in &batch.events {
            expected = expected.next();
            assert_eq!(event.position, expected, "each position once, in order");
        }
        assert_eq!(feed.position(), expected);
        all.extend(batch.events);
    }
    all
}

pub async fn a_relay_carries_the_log_in_order(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(95).await;
    let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    let running = Running::start(relay(&log, &fixture.bus, &Arc::default()), ZERO, 1);
    log.grow(30).await;
    let given = consume_to(&mut *consumer, Position::ZERO, Position::new(125)).await;
    assert_eq!(given, log.events(ZERO).await);
    running.reaches(ZERO, 125).await;
    assert_eq!(running.relay.stats().published, 125, "and without faults, once");
    running.stop().await;
}

pub async fn a_relay_goes_on_after_its_checkpoint(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(20).await;
    let state = Arc::default();
    let running = Running::start(relay(&log, &fixture.bus, &state), ZERO, 1);
    running.reaches(ZERO, 20).await;
    running.stop().await;
    log.grow(10).await;
    // Published by the relay before it died, and not saved.
    fixture.bus.publish(&log.events(ZERO).await[20..24]).await.unwrap();
    let next = Running::start(relay(&log, &fixture.bus, &state), ZERO, 2);
    next.reaches(ZERO, 30).await;
    assert_eq!(next.relay.stats().published, 6, "what the broker holds is not published again");
    assert_eq!(next.relay.stats().lost, 0);
    next.stop().await;
    assert_eq!(state.load(ZERO, Epoch(2)).await.unwrap().position, Position::new(30));
    let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    let given = consume_to(&mut *consumer, Position::ZERO, Position::new(30)).await;
    assert_eq!(given, log.events(ZERO).await);
}

pub async fn a_relay_that_was_superseded_moves_no_checkpoint(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    let state = Arc::default();
    let old = Running::start(relay(&log, &fixture.bus, &state), ZERO, 1);
    log.grow(5).await;
    old.reaches(ZERO, 5).await;
    let before = state.load(ZERO, Epoch(2)).await.unwrap();
    log.grow(5).await;
    let ended = old.task.await.unwrap();
    assert!(matches!(ended, Err(Error::FailedPrecondition { .. })), "{ended:?}");
    assert_eq!(state.load(ZERO, Epoch(2)).await.unwrap(), before);
}

pub async fn a_relay_fills_in_what_the_broker_has_lost(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    log.grow(40).await;
    let state = Arc::default();
    let lost = make(log.descriptor()).await;
    let running = Running::start(relay(&log, &lost.bus, &state), ZERO, 1);
    running.reaches(ZERO, 40).await;
    running.stop().await;
    // The broker comes back without its newest messages.
    let fixture = make(log.descriptor()).await;
    fixture.bus.publish(&log.events(ZERO).await[..25]).await.unwrap();
    let running = Running::start(relay(&log, &fixture.bus, &state), ZERO, 2);
    log.grow(5).await;
    let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    let given = consume_to(&mut *consumer, Position::ZERO, Position::new(45)).await;
    assert_eq!(given, log.events(ZERO).await);
    assert_eq!(running.relay.stats().lost, 1, "and it is counted");
    running.stop().await;
}

pub async fn a_relay_does_not_carry_on_what_another_log_began(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(20).await;
    // As a log had it that was restored from a backup since, and has written other events.
    let mut lost = log.events(ZERO).await;
    let ours = lost[11].id;
    for event in &mut lost[8..12] {
        event.id = uuid::Uuid::new_v4();
    }
    fixture.bus.publish(&lost[..8]).await.unwrap();
    fixture.bus.publish(&lost[8..12]).await.unwrap();
    let refused = async |state: &Arc<MemoryRelayState>| {
        let relay = relay(&log, &fixture.bus, state);
        let stop = CancellationToken::new();
        let ended = tokio::time::timeout(Duration::from_mins(1), relay.run(ZERO, Epoch(1), &stop)).await;
        let refused = ended.expect("it ends").unwrap_err();
        assert!(matches!(refused, Error::FailedPrecondition { .. }), "{refused:?}");
        for part in ["position 12", &lost[11].id.to_string(), &ours.to_string(), "another name"] {
            assert!(refused.to_string().contains(part), "{part} is not in: {refused}");
        }
        assert_eq!(relay.stats().published, 0);
        assert_eq!(relay.stats().failures, 1, "what cannot be tried again is counted, too");
        assert_eq!(relay.fault(ZERO).map(|fault| fault.kind()), Some("failed_precondition"));
    };
    refused(&Arc::default()).await;
    // Nor does one whose checkpoint was restored with the log.
    let reached = fixture.bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    assert_eq!(reached, Reached::UpTo((&lost[11]).into()));
    let reference = fixture.bus.publish(&lost[11..12]).await.unwrap();
    let state = Arc::<MemoryRelayState>::default();
    let checkpoint = Checkpoint { position: Position::new(12), reference: Some(reference) };
    state.save(ZERO, Epoch(1), checkpoint).await.unwrap();
    refused(&state).await;
}

pub async fn a_feed_gives_each_position_once_and_in_order(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(300).await;
    let running = Running::start(relay(&log, &fixture.bus, &Arc::default()), ZERO, 1);
    let mut feeds = Vec::new();
    for after in [0, 150, 299, 300, 400] {
        let mut feed = feed(&log, &fixture.bus, ZERO, after);
        feeds.push(tokio::spawn(async move { (after, pull(&mut feed, 600).await, feed.stats()) }));
    }
    log.grow(300).await;
    for feed in feeds {
        let (after, given, stats) = feed.await.unwrap();
        assert_eq!(given, log.events(ZERO).await[after as usize..], "after {after}");
        assert_eq!(stats.from_bus + stats.from_log, 600 - after);
    }
    // At the live edge the bus alone carries it.
    let mut live = feed(&log, &fixture.bus, ZERO, 600);
    let growing = async {
        log.grow(50).await;
    };
    tokio::join!(pull(&mut live, 650), growing);
    running.stop().await;
}

pub async fn faults_of_the_bus_are_mended_from_the_log(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let mut met = FeedStats::default();
    for (seed, percent) in [(1, 5), (2, 30), (3, 60)] {
        let log = Log::new(1);
        let fixture = make(log.descriptor()).await;
        let bus: Arc<dyn Bus> = Arc::new(FaultyBus::new(Arc::clone(&fixture.bus), seed, percent));
        let running = Running::start(relay(&log, &bus, &Arc::default()), ZERO, 1);
        log.grow(100).await;
        let feeds: Vec<_> = [0, 60, 100]
            .map(|after| {
                let mut feed = feed(&log, &bus, ZERO, after);
                tokio::spawn(async move { (after, pull(&mut feed, 500).await, feed.stats()) })
            })
            .into();
        // A broker is slower than a log in memory: given time, the feeds are at the live edge.
        for grown in (120..=500).step_by(20) {
            log.grow(20).await;
            running.reaches(ZERO, grown).await;
        }
        for feed in feeds {
            let (after, given, stats) = feed.await.unwrap();
            assert_eq!(given, log.events(ZERO).await[after as usize..], "seed {seed}");
            met.from_bus += stats.from_bus;
            met.repeats += stats.repeats;
            met.holes += stats.holes;
            met.failures += stats.failures;
        }
        running.reaches(ZERO, 500).await;
        running.stop().await;
        let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
        let relayed = consume_to(&mut *consumer, Position::ZERO, Position::new(500)).await;
        assert_eq!(relayed, log.events(ZERO).await, "seed {seed}: the relay repeats, and leaves nothing out");
    }
    assert!(met.from_bus > 0 && met.repeats > 0 && met.holes > 0 && met.failures > 0, "{met:?}");
}

pub async fn a_bus_that_is_down_stops_nothing(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    let faulty = Arc::new(FaultyBus::new(Arc::clone(&fixture.bus), 1, 0));
    let bus = Arc::clone(&faulty) as Arc<dyn Bus>;
    let running = Running::start(relay(&log, &bus, &Arc::default()), ZERO, 1);
    log.grow(20).await;
    running.reaches(ZERO, 20).await;
    faulty.set_down(true);
    let mut feed = feed(&log, &bus, ZERO, 0);
    // Appends go on, and so does the feed, by the log alone.
    log.grow(100).await;
    assert_eq!(pull(&mut feed, 120).await, log.events(ZERO).await);
    assert_eq!(feed.stats().from_bus, 0);
    assert_eq!(*running.relay.relayed(ZERO).borrow(), Position::new(20));
    faulty.set_down(false);
    running.reaches(ZERO, 120).await;
    let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    let given = consume_to(&mut *consumer, Position::ZERO, Position::new(120)).await;
    assert_eq!(given, log.events(ZERO).await);
    running.stop().await;
}

pub async fn what_the_bus_drops_last_is_noticed(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(10).await;
    fixture.bus.publish(&log.events(ZERO).await).await.unwrap();
    let mut feed = feed(&log, &fixture.bus, ZERO, 0);
    pull(&mut feed, 10).await;
    // Nobody relays this, and nothing follows it.
    log.grow(1).await;
    assert_eq!(pull(&mut feed, 11).await.len(), 1);
}
