//! The promises of a [`Bus`] itself.

use super::*;
use headwater_core::Error;

const ZERO: Partition = Partition::ZERO;

pub async fn what_is_published_is_delivered_as_it_was_and_in_order(
    make: impl AsyncFn(LogDescriptor) -> Fixture,
) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(100).await;
    let events = log.events(ZERO).await;
    let mut early = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    for chunk in events.chunks(7) {
        fixture.bus.publish(chunk).await.unwrap();
    }
    assert_eq!(consume_to(&mut *early, Position::ZERO, Position::new(100)).await, events);
    // Repeats are the relay's right: nothing breaks, and what follows still comes.
    fixture.bus.publish(&events[90..]).await.unwrap();
    log.grow(5).await;
    let more = &log.events(ZERO).await[100..];
    fixture.bus.publish(more).await.unwrap();
    assert_eq!(consume_to(&mut *early, Position::new(100), Position::new(105)).await, more);
}

pub async fn partitions_are_apart(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(3);
    let fixture = make(log.descriptor()).await;
    log.grow(60).await;
    let mut consumers = Vec::new();
    for partition in count(3).partitions() {
        consumers.push((partition, fixture.bus.consume(partition, Position::ZERO).await.unwrap()));
        fixture.bus.publish(&log.events(partition).await).await.unwrap();
    }
    for (partition, mut consumer) in consumers {
        let events = log.events(partition).await;
        let last = events.last().unwrap().position;
        assert_eq!(consume_to(&mut *consumer, Position::ZERO, last).await, events);
    }
    let none = fixture.bus.consume(Partition::new(3), Position::ZERO).await;
    assert!(matches!(none.err(), Some(Error::Invalid { .. })), "a partition that is not there");
}

pub async fn every_consumer_gets_everything(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(50).await;
    let events = log.events(ZERO).await;
    let mut consumers = Vec::new();
    for _ in 0..4 {
        let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
        consumers.push(tokio::spawn(async move {
            consume_to(&mut *consumer, Position::ZERO, Position::new(50)).await
        }));
    }
    fixture.bus.publish(&events).await.unwrap();
    for consumer in consumers {
        assert_eq!(consumer.await.unwrap(), events);
    }
}

pub async fn a_consumer_starts_after_its_position(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(40).await;
    let events = log.events(ZERO).await;
    fixture.bus.publish(&events[..30]).await.unwrap();
    for after in [0, 1, 29, 30] {
        let after = Position::new(after);
        let mut consumer = fixture.bus.consume(ZERO, after).await.unwrap();
        if after < Position::new(30) {
            let given = consume_to(&mut *consumer, after, Position::new(30)).await;
            assert_eq!(given, events[after.get() as usize..30]);
        }
    }
    let mut at_end = fixture.bus.consume(ZERO, Position::new(30)).await.unwrap();
    fixture.bus.publish(&events[30..]).await.unwrap();
    assert_eq!(consume_to(&mut *at_end, Position::new(30), Position::new(40)).await, events[30..]);
}

pub async fn a_dropped_wait_loses_nothing(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(1);
    let fixture = make(log.descriptor()).await;
    log.grow(40).await;
    let events = log.events(ZERO).await;
    let mut consumer = fixture.bus.consume(ZERO, Position::ZERO).await.unwrap();
    let publishing = {
        let (bus, events) = (Arc::clone(&fixture.bus), events.clone());
        tokio::spawn(async move {
            for chunk in events.chunks(3) {
                bus.publish(chunk).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let mut reached = 0;
    while reached < 40 {
        // A poll or two, and given up.
        let given = tokio::select! {
            biased;
            given = consumer.next() => given.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        for event in given {
            assert!(event.position.get() <= reached + 1, "{} came after {reached}", event.position);
            reached = reached.max(event.position.get());
        }
    }
    publishing.await.unwrap();
}

pub async fn what_the_broker_holds_is_known(make: impl AsyncFn(LogDescriptor) -> Fixture) {
    let log = Log::new(2);
    let fixture = make(log.descriptor()).await;
    log.grow(30).await;
    let nothing = Checkpoint::default();
    let reached = fixture.bus.reached(ZERO, &nothing).await.unwrap();
    assert_eq!(reached, Reached::UpTo(Last::default()), "an empty broker");
    let events = log.events(ZERO).await;
    let reference = fixture.bus.publish(&events[..3]).await.unwrap();
    let saved = Checkpoint { position: Position::new(3), reference: Some(reference) };
    assert_eq!(fixture.bus.reached(ZERO, &saved).await.unwrap(), Reached::UpTo((&events[2]).into()));
    // Published, but the relay died before it saved that.
    fixture.bus.publish(&events[3..5]).await.unwrap();
    assert_eq!(fixture.bus.reached(ZERO, &saved).await.unwrap(), Reached::UpTo((&events[4]).into()));
    assert_eq!(fixture.bus.reached(ZERO, &nothing).await.unwrap(), Reached::UpTo((&events[4]).into()));
    assert_eq!(
        fixture.bus.reached(Partition::new(1), &nothing).await.unwrap(),
        Reached::UpTo(Last::default())
    );
}
