//! What a [`Sequencer`] makes of a store.

use super::*;
use crate::Clock;
use headwater_core::Error;

fn sequencer(fixture: &Fixture, options: SequencerOptions) -> Sequencer {
    Sequencer::start(Arc::clone(&fixture.store), options)
}

pub async fn repeats_are_known_to_a_new_writer(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(count(2), Clock::system()).await;
    let first = append("a", Expected::NoStream, events(3));
    let old = sequencer(&fixture, SequencerOptions::default());
    let appended = old.append(first.clone()).await.unwrap();
    for expected in [Expected::NoStream, Expected::Any, at(17)] {
        let new = sequencer(&fixture, SequencerOptions::default());
        assert_eq!(new.append(Append { expected, ..first.clone() }).await.unwrap(), appended, "{expected}");
        assert_eq!(new.stats().repeated, 1);
    }
    let new = sequencer(&fixture, SequencerOptions::default());
    // One batch: a repeat that is not cached, its neighbours, and a request with ids of both.
    let mut mixed = first.clone();
    mixed.events.push(event("A", "1"));
    let elsewhere = append("b", Expected::Any, first.events.clone());
    let fresh = append("a", at(3), events(2));
    let (repeated, mixed, elsewhere, written) = tokio::join!(
        new.append(first.clone()),
        new.append(mixed),
        new.append(elsewhere),
        new.append(fresh.clone())
    );
    assert_eq!(repeated.unwrap(), appended);
    assert!(matches!(mixed, Err(Error::AlreadyExists { .. })), "{mixed:?}");
    assert!(matches!(elsewhere, Err(Error::AlreadyExists { .. })), "{elsewhere:?}");
    let read = read_log(&*fixture.store).await;
    assert_eq!(read.len(), 5);
    assert_is_there(&read, &fresh, &written.unwrap());
}

pub async fn two_writers_lose_and_double_nothing(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let one = sequencer(&fixture, SequencerOptions::default());
    let two = sequencer(&fixture, SequencerOptions::default());
    let mut writers = Vec::new();
    for number in 0..8 {
        let ours = if number % 2 == 0 { one.clone() } else { two.clone() };
        let theirs = if number % 2 == 0 { two.clone() } else { one.clone() };
        writers.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..15 {
                let request = append(&format!("s{}", number % 3), Expected::Any, events(2));
                // A client that gets no answer goes to the other replica with the same ids.
                let mut appended = ours.append(request.clone()).await;
                while appended.as_ref().is_err_and(Error::is_retryable) {
                    appended = theirs.append(request.clone()).await;
                }
                answers.push((appended.unwrap(), request));
            }
            answers
        }));
    }
    let mut answers = Vec::new();
    for writer in writers {
        answers.extend(writer.await.unwrap());
    }
    let read = read_log(&*fixture.store).await;
    assert_eq!(read.len(), 8 * 15 * 2);
    for (appended, request) in &answers {
        assert_is_there(&read, request, appended);
    }
    assert!(one.stats().fenced + two.stats().fenced > 0, "they did meet");
}

pub async fn a_fenced_writer_refuses_nothing_by_what_it_remembers(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let old = sequencer(&fixture, SequencerOptions::default());
    old.append(append("a", Expected::NoStream, events(1))).await.unwrap();
    let new = sequencer(&fixture, SequencerOptions::default());
    new.append(append("a", at(1), events(1))).await.unwrap();
    // The old one remembers version 1.
    let appended = old.append(append("a", at(2), events(1))).await.unwrap();
    assert_eq!(appended.version, Version::new(3));
    match new.append(append("a", at(2), events(1))).await {
        Err(Error::WrongVersion { current, .. }) => assert_eq!(current, Version::new(3)),
        other => panic!("{other:?}"),
    }
}

pub async fn small_caches_change_no_answer(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let options = SequencerOptions {
        cached_streams: 2,
        cached_ids: 2,
        batch_events: 3,
        batch_bytes: 64,
        queue_requests: 1,
        queue_bytes: 2_000,
        ..SequencerOptions::default()
    };
    let sequencer = sequencer(&fixture, options);
    let mut writers = Vec::new();
    for number in 0..16 {
        let sequencer = sequencer.clone();
        writers.push(tokio::spawn(async move {
            let mut answers = Vec::new();
            for version in 0..20 {
                let request = append(&format!("s{number}"), at(version * 2), events(2));
                let appended = sequencer.append(request.clone()).await.unwrap();
                assert_eq!(appended.version, Version::new(version * 2 + 2));
                answers.push((request, appended));
            }
            for (request, appended) in &answers {
                assert_eq!(sequencer.append(request.clone()).await.unwrap(), *appended);
            }
            // More than the whole queue holds at once still passes.
            sequencer.append(append("large", Expected::Any, events(100))).await.unwrap();
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let stats = sequencer.stats();
    assert_eq!((stats.events, stats.repeated, stats.refused), (16 * (40 + 100), 16 * 20, 0));
    assert_eq!(read_log(&*fixture.store).await.len() as u64, stats.events);
}

pub async fn shutting_down_writes_what_is_queued_and_refuses_the_rest(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(count(2), Clock::system()).await;
    let sequencer =
        sequencer(&fixture, SequencerOptions { queue_requests: 4, ..SequencerOptions::default() });
    let mut writers = Vec::new();
    for number in 0..200 {
        let request = append(&format!("s{number}"), Expected::Any, events(1));
        let sequencer = sequencer.clone();
        writers.push(tokio::spawn(async move { (sequencer.append(request.clone()).await, request) }));
    }
    // The first is written, so that some are before the shutdown and some after it.
    sequencer.append(append("first", Expected::Any, events(1))).await.unwrap();
    sequencer.shutdown().await;
    let read = read_log(&*fixture.store).await;
    let mut acknowledged = 1;
    for writer in writers {
        match writer.await.unwrap() {
            (Ok(appended), request) => {
                acknowledged += 1;
                assert_is_there(&read, &request, &appended);
            }
            (Err(error), _) => assert!(matches!(error, Error::Cancelled), "{error:?}"),
        }
    }
    assert_eq!(read.len(), acknowledged, "after a shutdown nothing more is written");
    let refused = sequencer.append(append("late", Expected::Any, events(1))).await;
    assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");
}

pub async fn appends_that_come_during_a_commit_share_the_next(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let store = Arc::new(FaultyStore::held(Arc::clone(&fixture.store)));
    let sequencer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
    let mut appends: Vec<_> = (0..64)
        .map(|number| sequencer.append(append(&format!("s{number}"), Expected::Any, events(1))))
        .collect();
    // Polled once, an append is in the queue. The first alone gets to the store, which does not go on.
    assert!(futures_util::poll!(&mut appends[0]).is_pending());
    store.held_commits(1).await;
    for append in &mut appends[1..] {
        assert!(futures_util::poll!(append).is_pending());
    }
    store.release();
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    let stats = sequencer.stats();
    assert_eq!((stats.requests, stats.events, stats.batches, stats.largest_batch), (64, 64, 2, 63));
    assert_eq!(read_log(&*fixture.store).await.len(), 64);
}

pub async fn what_is_found_for_one_request_counts_for_its_neighbours(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let there = append("x", Expected::Any, events(3));
    sequencer(&fixture, SequencerOptions::default()).append(there.clone()).await.unwrap();
    let [p, q, r] = &there.events[..] else { panic!() };

    // A writer that remembers none of that, and three requests in one batch.
    let store = Arc::new(FaultyStore::held(Arc::clone(&fixture.store)));
    let sequencer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
    let mut before = sequencer.append(append("y", Expected::Any, events(1)));
    assert!(futures_util::poll!(&mut before).is_pending());
    store.held_commits(1).await;
    let (a, b) = (event("A", "1"), event("B", "1"));
    let mut requests = [
        // Looks new, until the next one is searched for and `p` is found.
        append("z", Expected::Any, vec![a, b.clone(), p.clone()]),
        append("w", Expected::Any, vec![b, p.clone(), q.clone()]),
        // Its stream id is there only if the first is written; and its id is taken.
        append("z", Expected::Exists, vec![r.clone()]),
    ]
    .map(|request| sequencer.append(request));
    for append in &mut requests {
        assert!(futures_util::poll!(append).is_pending());
    }
    store.release();
    before.await.unwrap();
    for answer in futures_util::future::join_all(requests).await {
        assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{answer:?}");
    }
    assert_eq!(read_log(&*fixture.store).await.len(), 4);
}
