//! A log that is followed by way of a bus.

use std::time::Duration;

use super::mended::{Running, relay};
use super::*;
use crate::{FeedOptions, LiveReader};
use headwater_log::{EventBatch, Filter, ReadPartition, StartFrom, Subscription};

fn live(log: &Log, bus: &Arc<dyn Bus>) -> Arc<LiveReader> {
    live_for(log, bus, FeedOptions::default().idle)
}

fn live_for(log: &Log, bus: &Arc<dyn Bus>, idle: Duration) -> Arc<LiveReader> {
    let options = FeedOptions {
        silence: Duration::from_millis(50),
        pause: (Duration::from_micros(100), Duration::from_millis(1)),
        idle,
    };
    Arc::new(LiveReader::new(log.reader(), Arc::clone(bus), options))
}

/// Follows from the beginning to `last`; what comes must be each position once and in order.
async fn follow(reader: Arc<dyn LogReader>, filter: Filter, last: u64) -> Vec<RecordedEvent> {
    let mut subscription = Subscription::open(reader, &StartFrom::Beginning, filter).await.unwrap();
    let mut all: Vec<RecordedEvent> = Vec::new();
    loop {
        let EventBatch { events, token, .. } = subscription.next_batch(100, 1 << 20).await.unwrap();
        all.extend(events);
        if token.positions.get(Partition::ZERO).get() >= last {
            return all;
        }
    }
}

pub async fn those_who_follow_the_log_get_what_comes_from_the_bus(
    make: impl AsyncFn(LogDescriptor) -> Fixture,
) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(100).await;
    let running = Running::start(relay(&log, &fixture.bus, &Arc::default()), Partition::ZERO, 1);
    running.reaches(Partition::ZERO, 100).await;
    let live = live(&log, &fixture.bus);
    let some = Filter { stream_id_prefix: Some("s7".to_owned()), ..Filter::default() };
    let followers = [Filter::default(), Filter::default(), some.clone()].map(|filter| {
        let reader = Arc::clone(&live) as Arc<dyn LogReader>;
        tokio::spawn(follow(reader, filter, 700))
    });
    for grown in (105..=700).step_by(5) {
        log.grow(5).await;
        running.reaches(Partition::ZERO, grown).await;
    }
    let events = log.events(Partition::ZERO).await;
    let [all, again, of_some] = followers;
    assert_eq!(all.await.unwrap(), events);
    assert_eq!(again.await.unwrap(), events);
    let matching = events.iter().filter(|event| some.matches("", event.stream_id.as_str()));
    assert_eq!(of_some.await.unwrap(), matching.cloned().collect::<Vec<_>>());
    let stats = live.stats();
    assert!(stats.from_bus > 0, "{stats:?}");
    assert!(
        stats.from_bus + stats.from_log <= 700,
        "however many follow, each event is brought once: {stats:?}"
    );

    // Pages are cut as they are asked for.
    let page = live
        .read_partition(ReadPartition {
            partition: Partition::ZERO,
            after: Position::new(690),
            up_to: Some(Position::new(695)),
            filter: Filter::default(),
            limit: 3,
            max_bytes: usize::MAX,
        })
        .await
        .unwrap();
    assert_eq!(page.events, events[690..693]);
    assert_eq!((page.reached, page.head), (Position::new(693), Position::new(700)));
    running.stop().await;
}

pub async fn those_who_follow_the_log_see_no_hole_over_a_bus_that_fails(
    make: impl AsyncFn(LogDescriptor) -> Fixture,
) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    let bus: Arc<dyn Bus> = Arc::new(FaultyBus::new(Arc::clone(&fixture.bus), 7, 20));
    let running = Running::start(relay(&log, &bus, &Arc::default()), Partition::ZERO, 1);
    let live = live(&log, &bus);
    let follower = tokio::spawn(follow(live.clone(), Filter::default(), 400));
    for grown in (20..=400).step_by(20) {
        log.grow(20).await;
        running.reaches(Partition::ZERO, grown).await;
    }
    assert_eq!(follower.await.unwrap(), log.events(Partition::ZERO).await);
    running.stop().await;
}

pub async fn a_partition_is_followed_while_somebody_waits_for_it(
    make: impl AsyncFn(LogDescriptor) -> Fixture,
) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    let live = live_for(&log, &fixture.bus, Duration::from_millis(100));
    assert_eq!(live.followed(), 0);
    let waiting = |position: u64| {
        let live = Arc::clone(&live);
        tokio::spawn(async move { live.wait_beyond(Partition::ZERO, Position::new(position)).await.unwrap() })
    };
    let until = async |followed: usize| {
        let began = std::time::Instant::now();
        while live.followed() != followed {
            assert!(began.elapsed() < Duration::from_secs(30), "{} are followed", live.followed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let running = Running::start(relay(&log, &fixture.bus, &Arc::default()), Partition::ZERO, 1);
    let first = waiting(5);
    until(1).await;
    log.grow(10).await;
    assert!(first.await.unwrap() > Position::new(5));
    // It goes to another process.
    until(0).await;
    let before = live.stats();
    log.grow(10).await;
    running.reaches(Partition::ZERO, 20).await;
    assert_eq!(live.stats(), before, "nothing is brought any more, and what was is counted still");
    // And comes back: it goes on from where the log is.
    let again = waiting(20);
    until(1).await;
    log.grow(10).await;
    assert!(again.await.unwrap() > Position::new(20));
    running.stop().await;
}
