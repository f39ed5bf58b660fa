//! What a [`Sequencer`] makes of a store.

use super::*;
use crate::Clock;
use futures_util::future::BoxFuture;
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

pub async fn what_is_queued_at_a_shutdown_is_written(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let batch = queue(
        &fixture,
        [],
        vec![append("a", Expected::Any, events(2)), append("b", Expected::Any, events(1))],
    )
    .await;
    let mut shutdown = Box::pin(batch.sequencer.shutdown());
    assert!(futures_util::poll!(&mut shutdown).is_pending());
    let late = batch.sequencer.append(append("late", Expected::Any, events(1))).await;
    assert!(matches!(late, Err(Error::Cancelled)), "{late:?}");
    batch.store.release();
    shutdown.await;
    for answer in batch.answers.await {
        answer.unwrap();
    }
    assert_eq!(read_log(&*fixture.store).await.len(), 4);
}

/// Requests that wait in a queue and will share a batch.
struct Queued {
    store: Arc<FaultyStore>,
    sequencer: Sequencer,
    answers: BoxFuture<'static, Vec<Result<Appended>>>,
}

/// Queues `requests`, in order, behind a commit of one event that is held. `script`: how the commits after it fail.
async fn queue(
    fixture: &Fixture,
    script: impl IntoIterator<Item = Option<Fault>>,
    requests: Vec<Append>,
) -> Queued {
    let store =
        Arc::new(FaultyStore::scripted(Arc::clone(&fixture.store), std::iter::once(None).chain(script)));
    let options =
        SequencerOptions { pause: std::time::Duration::from_micros(10), ..SequencerOptions::default() };
    let sequencer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, options);
    let handle = sequencer.clone();
    let mut held =
        Box::pin(async move { handle.append(append("held", Expected::Any, events(1))).await.unwrap() });
    assert!(futures_util::poll!(&mut held).is_pending());
    store.held_commits(1).await;
    let mut answers: BoxFuture<'static, _> = {
        let sequencer = sequencer.clone();
        Box::pin(async move {
            let appends = requests.into_iter().map(|request| sequencer.append(request));
            futures_util::future::join(held, futures_util::future::join_all(appends)).await.1
        })
    };
    // Polled once, an append is in the queue.
    assert!(futures_util::poll!(&mut answers).is_pending());
    Queued { store, sequencer, answers }
}

pub async fn a_commit_of_unknown_fate_is_settled(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    use Fault::{Duplicate, Failed, Fenced, Late, Lost, Unanswered};
    let repeats = SequencerOptions::default().repeats as usize;
    for script in [
        vec![Lost],
        vec![Unanswered],
        vec![Late],
        vec![Unanswered, Lost, Lost, Lost, Lost, Lost, Lost],
        // For longer than it would be planned anew: it is looked for, and not found by being stored once more.
        [vec![Unanswered], vec![Lost; 10 * (1 + repeats)]].concat(),
        vec![Unanswered, Failed],
        vec![Unanswered, Duplicate],
        vec![Lost, Failed],
        vec![Lost, Fenced],
        vec![Late, Failed],
    ] {
        // What expects a version would be refused once it is there, and is looked for; what expects none is planned once more.
        for [first, second] in [[at(0), at(2)], [Expected::Any; 2]] {
            let fixture = make(PartitionCount::ONE, Clock::system()).await;
            let requests = vec![append("a", first, events(2)), append("a", second, events(1))];
            let batch = queue(&fixture, script.iter().copied().map(Some), requests.clone()).await;
            batch.store.release();
            let answers = batch.answers.await;
            batch.sequencer.shutdown().await;
            let read = read_log(&*fixture.store).await;
            assert_eq!(read.len(), 4, "{script:?}: each event once");
            for (request, answer) in requests.iter().zip(answers) {
                let answer = answer.unwrap_or_else(|error| panic!("{script:?}: {error}"));
                assert_is_there(&read, request, &answer);
            }
        }
    }
}

pub async fn a_failure_after_a_lost_commit_does_not_say_that_nothing_was_stored(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    use Fault::{Blind, Full, Lost, Unanswered};
    let repeats = SequencerOptions::default().repeats as usize;
    let planned_anew_on_a_full_disk = [vec![Lost; 1 + repeats], vec![Full]].concat();
    for (script, is_stored) in [
        (planned_anew_on_a_full_disk, false),
        (vec![Unanswered, Blind], true),
        (vec![Unanswered, Lost, Blind], true),
    ] {
        let fixture = make(PartitionCount::ONE, Clock::system()).await;
        let request = append("a", Expected::Any, events(2));
        let batch = queue(&fixture, script.iter().copied().map(Some), vec![request.clone()]).await;
        batch.store.release();
        let answers = batch.answers.await;
        let stored = read_log(&*fixture.store).await.len();
        assert_eq!(stored, if is_stored { 3 } else { 1 }, "{script:?}");
        assert!(matches!(answers[..], [Err(Error::Unavailable { .. })]), "{script:?}: {answers:?}");
        let appended = batch.sequencer.append(request.clone()).await.unwrap();
        assert_is_there(&read_log(&*fixture.store).await, &request, &appended);
    }
}

pub async fn a_failure_says_what_it_is(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let request = append("a", Expected::Any, events(2));
    let batch = queue(&fixture, [Some(Fault::Full)], vec![request]).await;
    batch.store.release();
    let answers = batch.answers.await;
    assert!(matches!(answers[..], [Err(Error::Exhausted { .. })]), "{answers:?}");
}

pub async fn a_lane_that_ends_by_itself_is_no_shutdown(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let request = append("a", Expected::Any, events(1));
    let batch = queue(&fixture, [Some(Fault::Panic)], vec![request.clone()]).await;
    assert!(batch.sequencer.check().is_ok());
    batch.store.release();
    let answers = batch.answers.await;
    assert!(matches!(answers[..], [Err(Error::Unavailable { .. })]), "its fate is unknown: {answers:?}");
    // The answer is dropped a moment before the lane is.
    while batch.sequencer.check().is_ok() {
        tokio::task::yield_now().await;
    }
    let refused = batch.sequencer.append(request.clone()).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");
    assert!(matches!(batch.sequencer.check(), Err(Error::Internal { .. })));
    batch.sequencer.shutdown().await;
    let refused = batch.sequencer.append(request).await;
    assert!(matches!(refused, Err(Error::Cancelled)), "{refused:?}");
    assert!(matches!(batch.sequencer.check(), Err(Error::Cancelled)));
}

pub async fn a_refusal_that_rests_on_a_failed_commit_is_not_given(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let first = append("a", Expected::NoStream, events(1));
    let second = append("a", Expected::NoStream, events(1));
    let repeat = first.clone();
    let other = append("b", Expected::Exists, events(1));
    let batch = queue(&fixture, [Some(Fault::Failed)], vec![first, second.clone(), repeat, other]).await;
    batch.store.release();
    let answers = batch.answers.await;
    let [first, refused, repeat, other] = &answers[..] else { panic!("{answers:?}") };
    for answer in [first, refused, repeat] {
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "the first was not stored: {answer:?}");
    }
    assert!(
        matches!(other, Err(Error::WrongVersion { .. })),
        "this one has nothing to do with it: {other:?}"
    );
    assert_eq!(batch.sequencer.append(second).await.unwrap().version, Version::new(1));
}

pub async fn appends_that_come_during_a_commit_share_the_next(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let requests = (0..63).map(|number| append(&format!("s{number}"), Expected::Any, events(1))).collect();
    let batch = queue(&fixture, [], requests).await;
    batch.store.release();
    for appended in batch.answers.await {
        appended.unwrap();
    }
    let stats = batch.sequencer.stats();
    assert_eq!((stats.requests, stats.events, stats.batches, stats.largest_batch), (64, 64, 2, 63));
    assert_eq!(read_log(&*fixture.store).await.len(), 64);
}

/// Sequencer and store, `first` on its way, and `others` as well behind it; none has come there yet.
async fn sent_behind(
    fixture: &Fixture,
    script: impl IntoIterator<Item = Option<Fault>>,
    first: Append,
    others: Vec<Append>,
) -> Queued {
    let store = Arc::new(FaultyStore::scripted_behind(Arc::clone(&fixture.store), script));
    let options = SequencerOptions {
        pause: std::time::Duration::from_micros(10),
        long_commit: std::time::Duration::ZERO,
        ..SequencerOptions::default()
    };
    let sequencer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, options);
    let handle = sequencer.clone();
    let mut first = Box::pin(async move { handle.append(first).await });
    assert!(futures_util::poll!(&mut first).is_pending());
    store.held_commits(1).await;
    let handle = sequencer.clone();
    let mut answers: BoxFuture<'static, _> = Box::pin(async move {
        let others = others.into_iter().map(|request| handle.append(request));
        let (first, others) = futures_util::future::join(first, futures_util::future::join_all(others)).await;
        std::iter::once(first).chain(others).collect()
    });
    assert!(futures_util::poll!(&mut answers).is_pending());
    store.held_commits(2).await;
    Queued { store, sequencer, answers }
}

pub async fn a_batch_that_is_sent_behind_another_is_there_only_with_it(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    use Fault::{Duplicate, Failed, Fenced, Late, Lost, Unanswered};
    let fates = [None, Some(Failed), Some(Lost), Some(Unanswered), Some(Late), Some(Fenced), Some(Duplicate)];
    for (one, two) in fates.iter().flat_map(|one| fates.iter().map(move |two| (*one, *two))) {
        let fixture = make(PartitionCount::ONE, Clock::system()).await;
        let requests = vec![
            append("a", Expected::NoStream, events(2)),
            append("a", at(2), events(2)),
            append("b", Expected::Any, events(1)),
            append("a", at(4), events(1)),
        ];
        let batch = sent_behind(&fixture, [one, two], requests[0].clone(), requests[1..].to_vec()).await;
        batch.store.release();
        let answers = batch.answers.await;
        let read = read_log(&*fixture.store).await;
        let (mut there, mut missing) = (0, false);
        for (request, answer) in requests.iter().zip(&answers) {
            match answer {
                Ok(appended) => {
                    there += request.events.len();
                    assert_is_there(&read, request, appended);
                }
                // What should be there before it is not.
                Err(Error::WrongVersion { .. }) => assert!(missing, "{one:?} {two:?}: {answer:?}"),
                Err(error) => {
                    let says = matches!(error, Error::Unavailable { .. });
                    assert!(says && [one, two].iter().any(|fate| matches!(fate, Some(Failed))), "{error}");
                    missing = true;
                }
            }
        }
        assert_eq!(read.len(), there, "{one:?} {two:?}: what is there was acknowledged: {answers:?}");
        // Whatever came of them, what is sent again is there once.
        for request in &requests {
            let appended = batch.sequencer.append(request.clone()).await.unwrap();
            assert_is_there(&read_log(&*fixture.store).await, request, &appended);
        }
        batch.sequencer.shutdown().await;
        assert_eq!(read_log(&*fixture.store).await.len(), 6, "{one:?} {two:?}");
    }
}

pub async fn a_batch_that_comes_long_after_it_was_given_up_is_fenced(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let first = append("a", Expected::NoStream, events(2));
    let script = [Some(Fault::Failed), Some(Fault::Kept)];
    let batch = sent_behind(&fixture, script, first, vec![append("a", at(2), events(1))]).await;
    batch.store.release();
    let answers = batch.answers.await;
    assert!(
        matches!(&answers[..], [Err(Error::Unavailable { .. }), Err(Error::WrongVersion { .. })]),
        "{answers:?}"
    );
    // As many as those that it was sent behind: by its head alone, it would fit.
    batch.sequencer.append(append("b", Expected::Any, events(2))).await.unwrap();
    let late = batch.store.arrives().await;
    assert!(matches!(late, Err(CommitError::Fenced)), "{late:?}");
    assert_eq!(read_log(&*fixture.store).await.len(), 2);
}

pub async fn what_does_not_write_is_not_sent_behind_another(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let first = append("a", Expected::NoStream, events(1));
    let others = vec![
        append("a", at(1), events(1)),
        // From here on nothing goes ahead.
        first.clone(),
        append("a", Expected::NoStream, events(1)),
        append("a", at(2), events(1)),
    ];
    let batch = sent_behind(&fixture, [], first.clone(), others.clone()).await;
    batch.store.release();
    let answers = batch.answers.await;
    let [one, two, repeated, refused, last] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(repeated.as_ref().unwrap(), one.as_ref().unwrap());
    assert!(
        matches!(refused, Err(Error::WrongVersion { current, .. }) if *current == Version::new(2)),
        "{refused:?}"
    );
    let read = read_log(&*fixture.store).await;
    assert_eq!(read.len(), 3);
    for (request, answer) in [(&first, one), (&others[0], two), (&others[3], last)] {
        assert_is_there(&read, request, answer.as_ref().unwrap());
    }
    let stats = batch.sequencer.stats();
    assert_eq!((stats.batches, stats.ahead), (3, 1), "{stats:?}");
}

pub async fn what_is_found_for_one_request_counts_for_its_neighbours(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let there = append("x", Expected::Any, events(3));
    sequencer(&fixture, SequencerOptions::default()).append(there.clone()).await.unwrap();
    let [p, q, r] = &there.events[..] else { panic!() };
    let (new, shared) = (event("A", "1"), event("B", "1"));
    // A writer that remembers none of that, and three requests in one batch.
    let requests = vec![
        // Looks new, until the next one is searched for and `p` is found.
        append("z", Expected::Any, vec![new, shared.clone(), p.clone()]),
        append("w", Expected::Any, vec![shared, p.clone(), q.clone()]),
        // Its stream id is there only if the first is written; and its id is taken.
        append("z", Expected::Exists, vec![r.clone()]),
    ];
    let batch = queue(&fixture, [], requests).await;
    batch.store.release();
    for answer in batch.answers.await {
        assert!(matches!(answer, Err(Error::AlreadyExists { .. })), "{answer:?}");
    }
    assert_eq!(read_log(&*fixture.store).await.len(), 4);
}
