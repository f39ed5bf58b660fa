//! Brokers that die, stay away and forget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_bus::{Bus, Checkpoint, Last, MemoryRelayState, Reached, RelayState};
use headwater_core::{Error, PartitionCount, Position};
use headwater_log::Epoch;
use headwater_testkit::kafka::Kafka;

use super::support::{Log, Operator, ZERO, bus, consume_to, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_is_killed_in_mid_publish_loses_nothing() {
    let kafka = Arc::new(Kafka::start().unwrap());
    let log = Log::new();
    let bus = Arc::new(bus(options(&kafka, PartitionCount::ONE), log.id()));
    let running = log.relay(&bus, &Arc::default(), 1);
    log.grow(2_000).await;
    running.reaches(500).await;
    for round in 1..=2_u64 {
        let killing = {
            let kafka = Arc::clone(&kafka);
            tokio::task::spawn_blocking(move || {
                kafka.kill().unwrap();
                kafka.resume().unwrap();
            })
        };
        // Appends go on meanwhile.
        log.grow(1_000).await;
        killing.await.unwrap();
        running.reaches(2_000 + round * 1_000).await;
    }
    assert_eq!(running.relay.stats().lost, 0);
    running.stop().await;
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 4_000).await, log.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_is_gone_for_a_while_stops_no_append() {
    let kafka = Arc::new(Kafka::start().unwrap());
    let log = Log::new();
    let bus = Arc::new(bus(options(&kafka, PartitionCount::ONE), log.id()));
    let running = log.relay(&bus, &Arc::default(), 1);
    log.grow(100).await;
    running.reaches(100).await;
    let mut consumer = bus.consume(ZERO, Position::new(100)).await.unwrap();
    kafka.kill().unwrap();
    log.grow(500).await;
    // A consumer at the end does not wait in silence.
    let error = consumer.next().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let asked = bus.reached(ZERO, &Checkpoint::default()).await;
    assert!(matches!(asked, Err(Error::Unavailable { .. })), "{asked:?}");
    assert_eq!(*running.relay.relayed(ZERO).borrow(), Position::new(100));
    let back = Arc::clone(&kafka);
    tokio::task::spawn_blocking(move || back.resume()).await.unwrap().unwrap();
    running.reaches(600).await;
    running.stop().await;
    // Longer than a publish waits: it says so, and why.
    kafka.kill().unwrap();
    log.grow(100).await;
    let events = log.events().await;
    let error = bus.publish(&events[600..]).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    let back = Arc::clone(&kafka);
    tokio::task::spawn_blocking(move || back.resume()).await.unwrap().unwrap();
    bus.publish(&events[600..]).await.unwrap();
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 700).await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_that_was_deleted_is_filled_in_again() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    let options = options(&kafka, PartitionCount::ONE);
    let bus = Arc::new(bus(options.clone(), log.id()));
    let running = log.relay(&bus, &Arc::default(), 1);
    log.grow(300).await;
    running.reaches(300).await;
    let mut before = bus.consume(ZERO, Position::new(300)).await.unwrap();
    operator.delete(&options.topic).await;
    log.grow(1).await;
    running.reaches(301).await;
    assert_eq!(running.relay.stats().lost, 1, "and it is counted");
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 301).await, log.events().await);
    // Whoever consumed is told, or gets what is new.
    let told = tokio::time::timeout(Duration::from_mins(1), before.next()).await.expect("never in silence");
    match told {
        Ok(events) => assert!(events.iter().any(|event| event.position == Position::new(301))),
        Err(error) => assert!(matches!(error, Error::Unavailable { .. }), "{error:?}"),
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_that_was_made_anew_behind_the_relay_is_filled_in_again() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    let options = options(&kafka, PartitionCount::ONE);
    let bus = Arc::new(bus(options.clone(), log.id()));
    let state = Arc::<MemoryRelayState>::default();
    let running = log.relay(&bus, &state, 1);
    log.grow(300).await;
    running.reaches(300).await;
    operator.delete(&options.topic).await;
    operator.create_when_gone(&options.topic).await;
    log.grow(1).await;
    running.reaches(301).await;
    assert_eq!(running.relay.stats().lost, 1, "and it is counted");
    running.stop().await;
    // A relay that comes next sees what is there.
    let checkpoint = state.load(ZERO, Epoch(2)).await.unwrap();
    assert_eq!(checkpoint.position, Position::new(301));
    let reached = bus.reached(ZERO, &checkpoint).await.unwrap();
    assert_eq!(reached.last().position, Position::new(301));
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 301).await, log.events().await);
    // Nor is anything else first there when the relay had published nothing yet to what was deleted.
    let running = log.relay(&bus, &state, 3);
    running.reaches(301).await;
    operator.delete(&options.topic).await;
    operator.create_when_gone(&options.topic).await;
    log.grow(1).await;
    running.reaches(302).await;
    running.stop().await;
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 302).await, log.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_gets_again_what_it_has_lost_though_nothing_is_appended() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    let options = options(&kafka, PartitionCount::ONE);
    let bus = Arc::new(bus(options.clone(), log.id()));
    let running = log.relay_that_looks(&bus, &Arc::default(), 1, Duration::from_millis(200));
    log.grow(100).await;
    running.reaches(100).await;
    operator.delete(&options.topic).await;
    let began = Instant::now();
    let mut consumer = loop {
        match bus.consume(ZERO, Position::ZERO).await {
            Ok(consumer) => break consumer,
            Err(error) => assert!(began.elapsed() < Duration::from_mins(1), "{error}"),
        }
    };
    let filled = tokio::time::timeout(Duration::from_mins(1), consume_to(&mut *consumer, 100)).await;
    assert_eq!(filled.expect("it is filled in"), log.events().await);
    assert_eq!(running.relay.stats().lost, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_messages_where_the_last_one_of_kafka_was_are_not_taken_for_it() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let (log, theirs) = (Log::new(), Log::new());
    log.grow(20).await;
    theirs.grow(50).await;
    let events = log.events().await;
    let options = options(&kafka, PartitionCount::ONE);
    let ours = bus(options.clone(), log.id());
    ours.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let reference = ours.publish(&events).await.unwrap();
    let checkpoint = Checkpoint { position: Position::new(20), reference: Some(reference) };
    operator.delete(&options.topic).await;
    operator.create_when_gone(&options.topic).await;
    let anew = bus(options.clone(), log.id());
    anew.publish(&events[..5]).await.unwrap();
    bus(options, theirs.id()).publish(&theirs.events().await).await.unwrap();
    let reached = anew.reached(ZERO, &checkpoint).await.unwrap();
    assert_eq!(reached, Reached::Lost((&events[4]).into()), "the offset is there, and the event is not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_to_kafka_that_was_dropped_breaks_no_later_one() {
    let kafka = Kafka::shared().unwrap();
    let log = Log::new();
    log.grow(2_000).await;
    let events = log.events().await;
    let bus = bus(options(&kafka, PartitionCount::ONE), log.id());
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let mut from = 0;
    while from < events.len() {
        let batch = &events[from..events.len().min(from + 200)];
        // Given up after a few polls, as a relay is that stops; the next one does not know what has landed.
        let mut publish = std::pin::pin!(bus.publish(batch));
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            match publish.as_mut().poll(context) {
                std::task::Poll::Pending if polls < 3 => std::task::Poll::Pending,
                _ => std::task::Poll::Ready(()),
            }
        })
        .await;
        let Reached::UpTo(Last { position: reached, .. }) =
            bus.reached(ZERO, &Checkpoint::default()).await.unwrap()
        else {
            panic!("nothing was lost")
        };
        let reference = bus.publish(&events[reached.get() as usize..from + batch.len()]).await;
        if reached.get() as usize == from + batch.len() {
            assert!(reference.is_err(), "nothing was left to publish");
        } else {
            reference.unwrap();
        }
        from += batch.len();
    }
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 2_000).await, events);
}
