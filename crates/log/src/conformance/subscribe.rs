//! Subscriptions, over any [`LogReader`].

use std::collections::HashMap;

use super::*;
use crate::{EventBatch, StartFrom, Subscription};
use headwater_core::{Error, LogId, Positions, Token};

const MUCH: usize = 1 << 20;

async fn open(log: &LogFixture, start: StartFrom) -> Subscription {
    Subscription::open(Arc::clone(&log.reader), &start, Filter::default()).await.unwrap()
}

/// Appends one event and gives its position.
async fn put(log: &LogFixture, id: &StreamId) -> Position {
    log.writer.append(append(id.as_str(), Expected::Any, events(1))).await.unwrap().position
}

/// Pulls until `number` events have come, which must follow one another from `after` in each partition.
async fn pull(subscription: &mut Subscription, number: usize, after: &Positions) -> Vec<RecordedEvent> {
    let mut reached = after.clone();
    let mut all = Vec::new();
    while all.len() < number {
        let EventBatch { events, token, .. } = subscription.next_batch(64, MUCH).await.unwrap();
        for event in &events {
            assert_eq!(
                event.position,
                reached.get(event.partition).next(),
                "in order, without holes or repeats"
            );
            reached.set(event.partition, event.position);
        }
        assert_eq!(token.positions, reached, "a token says what has been given");
        all.extend(events);
    }
    assert_eq!(all.len(), number, "and no more");
    all
}

pub async fn a_subscription_has_no_seam(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    const WRITERS: usize = 6;
    const EACH: usize = 150;
    const TOTAL: usize = 40 + 4 + WRITERS * EACH;
    let log = make(count(3)).await;
    for number in 0..40 {
        put(&log, &stream(&format!("old{number}"))).await;
    }
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let writer = Arc::clone(&log.writer);
        writers.push(tokio::spawn(async move {
            for index in 0..EACH {
                let id = format!("s{number}-{}", index % 11);
                writer.append(append(&id, Expected::Any, events(1))).await.unwrap();
            }
        }));
    }
    // Several readers that start at different moments of the load, each from the beginning.
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut subscription = open(&log, StartFrom::Beginning).await;
        readers.push(tokio::spawn(async move {
            pull(&mut subscription, TOTAL, &Positions::default()).await.len()
        }));
        put(&log, &stream("between")).await;
    }
    // First: without all events, readers wait for ever.
    for writer in writers {
        writer.await.unwrap();
    }
    for reader in readers {
        assert_eq!(reader.await.unwrap(), TOTAL);
    }
}

pub async fn a_subscription_starts_where_it_is_told(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    let here = stream_in(count(2), Partition::ZERO, 0);
    let there = stream_in(count(2), Partition::new(1), 0);
    for _ in 0..3 {
        put(&log, &here).await;
        put(&log, &there).await;
    }
    let log_id = log.reader.descriptor().log_id;
    let mut from_end = open(&log, StartFrom::End).await;
    let EventBatch { events, token, caught_up } = from_end.next_batch(10, MUCH).await.unwrap();
    assert!(events.is_empty() && caught_up, "at the end one is caught up, and told so");
    assert_eq!(token, from_end.token());

    let one = Positions::one(Partition::ZERO, Position::new(2));
    let mut from_token = open(&log, StartFrom::After(Token::new(log_id, one.clone()))).await;
    let given = pull(&mut from_token, 1 + 3, &one).await;
    assert_eq!(given.iter().filter(|event| event.partition == Partition::ZERO).count(), 1);

    let times: Vec<_> = read_log(&*log.reader).await.into_iter().map(|event| event.recorded_at).collect();
    let time = times[4];
    let mut from_time = open(&log, StartFrom::Time(time)).await;
    let after = from_time.token().positions;
    let wanted = times.iter().filter(|recorded_at| **recorded_at >= time).count();
    let given = pull(&mut from_time, wanted, &after).await;
    assert!(given.iter().all(|event| event.recorded_at >= time));

    put(&log, &there).await;
    let end: Positions =
        [(Partition::ZERO, Position::new(3)), (Partition::new(1), Position::new(3))].into_iter().collect();
    assert_eq!(pull(&mut from_end, 1, &end).await[0].position, Position::new(4));

    let foreign = StartFrom::After(Token::new(LogId::generate(), Positions::default()));
    let refused = Subscription::open(Arc::clone(&log.reader), &foreign, Filter::default()).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "a token of another log");
}

pub async fn a_subscription_resumes_from_any_token(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(3)).await;
    for number in 0..60 {
        put(&log, &stream(&format!("s{}", number % 13))).await;
    }
    let mut seen = Vec::new();
    let mut token = Token::new(log.reader.descriptor().log_id, Positions::default());
    while seen.len() < 60 {
        // As after a crash: all that is known is the token's text.
        let start = StartFrom::After(token.to_string().parse().unwrap());
        let batch = open(&log, start).await.next_batch(7, MUCH).await.unwrap();
        assert!(batch.events.len() <= 7);
        assert!(batch.token.positions.cover(&token.positions));
        seen.extend(batch.events);
        token = batch.token;
    }
    seen.sort_by_key(|event| (event.partition, event.position));
    assert_eq!(seen, read_log(&*log.reader).await);
}

pub async fn a_token_ahead_of_the_head_waits(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    let here = stream_in(count(2), Partition::ZERO, 0);
    let there = stream_in(count(2), Partition::new(1), 0);
    put(&log, &here).await;
    let ahead = Positions::one(Partition::ZERO, Position::new(3));
    let start = StartFrom::After(Token::new(log.reader.descriptor().log_id, ahead.clone()));
    let mut subscription = open(&log, start).await;
    assert!(subscription.next_batch(10, MUCH).await.unwrap().events.is_empty());
    put(&log, &here).await;
    put(&log, &there).await;
    put(&log, &here).await;
    put(&log, &here).await;
    let given = pull(&mut subscription, 2, &ahead).await;
    let of_zero: Vec<_> = given.iter().filter(|event| event.partition == Partition::ZERO).collect();
    assert_eq!(of_zero.len(), 1, "what came before the token's place is not given");
    assert_eq!(of_zero[0].position, Position::new(4));
}

pub async fn a_dropped_call_loses_nothing(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(3)).await;
    for number in 0..100 {
        put(&log, &stream(&format!("s{}", number % 11))).await;
    }
    let writer = Arc::clone(&log.writer);
    let load = tokio::spawn(async move {
        for number in 0..100 {
            writer.append(append(&format!("s{}", number % 11), Expected::Any, events(1))).await.unwrap();
        }
    });
    let mut subscription = open(&log, StartFrom::Beginning).await;
    let mut reached = Positions::default();
    let mut seen = 0;
    let mut polls = 0;
    while seen < 200 {
        polls += 1;
        // Given up after a few polls, most often in the middle.
        let mut tries = polls % 4;
        let batch = {
            let next = subscription.next_batch(50, MUCH);
            tokio::pin!(next);
            std::future::poll_fn(|context| match next.as_mut().poll(context) {
                std::task::Poll::Ready(batch) => std::task::Poll::Ready(Some(batch)),
                std::task::Poll::Pending if tries == 0 => std::task::Poll::Ready(None),
                std::task::Poll::Pending => {
                    tries -= 1;
                    std::task::Poll::Pending
                }
            })
            .await
        };
        let Some(batch) = batch else {
            tokio::task::yield_now().await;
            continue;
        };
        for event in batch.unwrap().events {
            assert_eq!(event.position, reached.get(event.partition).next());
            reached.set(event.partition, event.position);
            seen += 1;
        }
    }
    load.await.unwrap();
}

pub async fn no_partition_starves(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let partitions = count(3);
    let log = make(partitions).await;
    let large = stream_in(partitions, Partition::ZERO, 0);
    for _ in 0..4 {
        log.writer.append(append(large.as_str(), Expected::Any, events(500))).await.unwrap();
    }
    let mut subscription = open(&log, StartFrom::Beginning).await;
    let mut seen: HashMap<Partition, usize> = HashMap::new();
    subscription.next_batch(10, MUCH).await.unwrap();
    // The others were at their end, and known to be; now they move, behind a backlog in the first.
    for partition in [Partition::new(1), Partition::new(2)] {
        let id = stream_in(partitions, partition, 1);
        log.writer.append(append(id.as_str(), Expected::Any, events(50))).await.unwrap();
    }
    // On a network the news takes its time, but not as long as the backlog.
    for _ in 0..190 {
        for event in subscription.next_batch(10, MUCH).await.unwrap().events {
            *seen.entry(event.partition).or_default() += 1;
        }
    }
    assert_eq!(seen.get(&Partition::new(1)), Some(&50), "{seen:?}");
    assert_eq!(seen.get(&Partition::new(2)), Some(&50), "{seen:?}");
    assert!(seen[&Partition::ZERO] > 1_500, "nor does the backlog: {seen:?}");
}

pub async fn a_filtered_subscription_moves_on(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    log.writer.append(append("a", Expected::Any, events(30))).await.unwrap();
    let filter = Filter { event_types: vec![EventType::new("Wanted").unwrap()], ..Filter::default() };
    let mut subscription =
        Subscription::open(Arc::clone(&log.reader), &StartFrom::Beginning, filter).await.unwrap();
    let mut caught_up = false;
    while !caught_up {
        let batch = subscription.next_batch(10, MUCH).await.unwrap();
        assert!(batch.events.is_empty());
        caught_up = batch.caught_up;
    }
    let passed = subscription.token().positions.get(Partition::ZERO);
    assert_eq!(passed, Position::new(30), "what is filtered out need not be looked at again");
    let request =
        append("a", Expected::Any, vec![event("Other", "1"), event("Wanted", "2"), event("Other", "3")]);
    log.writer.append(request.clone()).await.unwrap();
    let mut found = Vec::new();
    while subscription.token().positions.get(Partition::ZERO) < Position::new(33) {
        found.extend(subscription.next_batch(10, MUCH).await.unwrap().events);
    }
    assert_eq!(ids(&found), [request.events[1].id]);
}
