//! The promises of a [`LogStore`] itself.

use std::sync::Mutex;

use super::*;
use crate::{Clock, Epoch};
use jiff::{SignedDuration, Timestamp};

const ZERO: Partition = Partition::ZERO;

pub async fn acquiring_fences_the_writer_before(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(count(2), Clock::system()).await;
    let store = &*fixture.store;
    let id = stream_in(count(2), ZERO, 0);
    let first = store.acquire(ZERO).await.unwrap();
    let other = store.acquire(Partition::new(1)).await.unwrap();
    commit(store, ZERO, first, vec![batch_event(&id, 1, event("A", "1"))]).await.unwrap();
    let second = store.acquire(ZERO).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(second.position, Position::new(1), "the new writer starts where the old one ended");
    let late = Head { position: Position::new(1), ..first };
    let refused = commit(store, ZERO, late, vec![batch_event(&id, 2, event("A", "2"))]).await;
    assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
    commit(store, ZERO, second, vec![batch_event(&id, 2, event("A", "3"))]).await.unwrap();
    let elsewhere = stream_in(count(2), Partition::new(1), 0);
    commit(store, Partition::new(1), other, vec![batch_event(&elsewhere, 1, event("A", "4"))])
        .await
        .expect("other partitions are not fenced");
    assert_eq!(read_log(store).await.len(), 3);
    assert_eq!(store.heads().await.unwrap()[0].epoch, second.epoch);
}

pub async fn another_head_is_fenced_and_stores_nothing(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let store = &*fixture.store;
    let head = store.acquire(ZERO).await.unwrap();
    for wrong in [
        Head { position: Position::new(1), ..head },
        Head { epoch: Epoch(head.epoch.0 + 1), ..head },
        Head { epoch: Epoch(head.epoch.0 - 1), ..head },
    ] {
        let refused = commit(store, ZERO, wrong, vec![batch_event(&stream("a"), 1, event("A", "1"))]).await;
        assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
    }
    assert!(read_log(store).await.is_empty());
    let batch = vec![batch_event(&stream("a"), 1, event("A", "1"))];
    let committed = commit(store, ZERO, head, batch.clone()).await.unwrap();
    assert_eq!(committed.head, Position::new(1));
    let repeated = commit(store, ZERO, head, batch).await;
    assert!(repeated.is_err(), "the same batch commits once: {repeated:?}");
    assert_eq!(read_log(store).await.len(), 1);
}

pub async fn positions_are_the_next_and_partitions_are_apart(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let partitions = count(3);
    let fixture = make(partitions, Clock::system()).await;
    let store = &*fixture.store;
    assert_eq!(store.heads().await.unwrap().len(), 3);
    for partition in partitions.partitions() {
        let id = stream_in(partitions, partition, 0);
        let mut head = store.acquire(partition).await.unwrap();
        assert_eq!((head.position, head.last_recorded_at), (Position::ZERO, None));
        let mut version = 0;
        for size in [1, 3, 2] {
            let batch = events(size)
                .into_iter()
                .map(|event| {
                    version += 1;
                    batch_event(&id, version, event)
                })
                .collect();
            let committed = commit(store, partition, head, batch).await.unwrap();
            assert_eq!(committed.head, head.position.plus(size as u64));
            head.position = committed.head;
            head.last_recorded_at = Some(committed.recorded_at);
            assert_eq!(store.heads().await.unwrap()[partition.index()], head);
        }
        assert_eq!(read_partition(store, partition).await.len(), 6);
    }
    read_log(store).await;
}

pub async fn a_taken_id_is_refused_and_stores_nothing(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let partitions = count(2);
    let fixture = make(partitions, Clock::system()).await;
    let store = &*fixture.store;
    let (one, two) = (Partition::ZERO, Partition::new(1));
    let (here, there) = (stream_in(partitions, one, 0), stream_in(partitions, two, 0));
    let head = store.acquire(one).await.unwrap();
    let taken = event("A", "1");
    let committed = commit(store, one, head, vec![batch_event(&here, 1, taken.clone())]).await.unwrap();
    let head = Head { position: committed.head, ..head };
    let twin = event("B", "2");
    for batch in [
        vec![batch_event(&here, 2, event("B", "1")), batch_event(&here, 3, taken.clone())],
        vec![batch_event(&here, 2, twin.clone()), batch_event(&here, 3, twin)],
    ] {
        let refused = commit(store, one, head, batch).await;
        assert!(matches!(refused, Err(CommitError::Duplicate)), "{refused:?}");
    }
    let elsewhere = store.acquire(two).await.unwrap();
    let refused = commit(store, two, elsewhere, vec![batch_event(&there, 1, taken)]).await;
    assert!(
        matches!(refused, Err(CommitError::Duplicate)),
        "ids are unique over all partitions: {refused:?}"
    );
    assert_eq!(read_log(store).await.len(), 1);
    commit(store, one, head, vec![batch_event(&here, 2, event("B", "3"))])
        .await
        .expect("and the writer goes on");
}

pub async fn a_taken_version_is_refused_and_stores_nothing(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let fixture = make(PartitionCount::ONE, Clock::system()).await;
    let store = &*fixture.store;
    let head = store.acquire(ZERO).await.unwrap();
    let committed =
        commit(store, ZERO, head, vec![batch_event(&stream("a"), 1, event("A", "1"))]).await.unwrap();
    let head = Head { position: committed.head, ..head };
    let batch =
        vec![batch_event(&stream("b"), 1, event("A", "2")), batch_event(&stream("a"), 1, event("A", "3"))];
    let refused = commit(store, ZERO, head, batch).await;
    assert!(matches!(refused, Err(CommitError::Duplicate)), "{refused:?}");
    assert_eq!(read_log(store).await.len(), 1);
}

pub async fn a_batch_that_fails_does_not_spoil_its_neighbours(
    make: impl AsyncFn(PartitionCount, Clock) -> Fixture,
) {
    let partitions = count(8);
    let fixture = make(partitions, Clock::system()).await;
    let mut writers = Vec::new();
    for partition in partitions.partitions() {
        let store = Arc::clone(&fixture.store);
        writers.push(tokio::spawn(async move {
            let id = stream_in(partitions, partition, 0);
            let mut head = store.acquire(partition).await.unwrap();
            for version in 1..=20 {
                let next = event("A", "1");
                let fenced = Head { epoch: Epoch(head.epoch.0 + 7), ..head };
                let refused =
                    commit(&*store, partition, fenced, vec![batch_event(&id, version, next.clone())]).await;
                assert!(matches!(refused, Err(CommitError::Fenced)), "{refused:?}");
                let double = vec![
                    batch_event(&id, version, next.clone()),
                    batch_event(&id, version + 1, next.clone()),
                ];
                let refused = commit(&*store, partition, head, double).await;
                assert!(matches!(refused, Err(CommitError::Duplicate)), "{refused:?}");
                head.position = commit(&*store, partition, head, vec![batch_event(&id, version, next)])
                    .await
                    .unwrap()
                    .head;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(read_log(&*fixture.store).await.len(), 8 * 20);
}

/// A clock that a test moves.
fn moved_clock(start: Timestamp) -> (Clock, Arc<Mutex<Timestamp>>) {
    let now = Arc::new(Mutex::new(start));
    let hand = Arc::clone(&now);
    (Clock::new(move || *now.lock().unwrap()), hand)
}

pub async fn recorded_at_never_decreases(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let noon: Timestamp = "2026-03-01T12:00:00.123456789Z".parse().unwrap();
    let (clock, hand) = moved_clock(noon);
    let fixture = make(PartitionCount::ONE, clock).await;
    let store = &*fixture.store;
    let mut head = store.acquire(ZERO).await.unwrap();
    let mut times = Vec::new();
    for (version, minutes) in [(1, 0), (2, 5), (3, -60), (4, 6)] {
        *hand.lock().unwrap() = noon + SignedDuration::from_mins(minutes);
        let committed = commit(store, ZERO, head, vec![batch_event(&stream("a"), version, event("A", "1"))])
            .await
            .unwrap();
        head.position = committed.head;
        times.push(committed.recorded_at);
    }
    let recorded: Vec<Timestamp> = read_log(store).await.iter().map(|event| event.recorded_at).collect();
    assert_eq!(recorded, times, "an answer says what is stored");
    assert_eq!(recorded[0].to_string(), "2026-03-01T12:00:00.123456Z", "microseconds");
    assert_eq!(recorded[2], recorded[1], "a clock that goes back does not take the log along");
    assert!(recorded[3] > recorded[2]);
    assert_eq!(store.heads().await.unwrap()[0].last_recorded_at, Some(recorded[3]));
    let again = store.acquire(ZERO).await.unwrap();
    assert_eq!(again.last_recorded_at, Some(recorded[3]));
}

pub async fn a_time_is_one_cut(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let noon: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    let (clock, hand) = moved_clock(noon);
    let fixture = make(PartitionCount::ONE, clock).await;
    let store = &*fixture.store;
    assert_eq!(store.position_before(ZERO, noon).await.unwrap(), Position::ZERO, "nothing is there");
    let mut head = store.acquire(ZERO).await.unwrap();
    let mut version = 0;
    // 40 batches, a second apart, of one to three events: three share a time.
    for second in 0..40 {
        *hand.lock().unwrap() = noon + SignedDuration::from_secs(second);
        let batch = events(1 + second as usize % 3)
            .into_iter()
            .map(|event| {
                version += 1;
                batch_event(&stream("a"), version, event)
            })
            .collect();
        head.position = commit(store, ZERO, head, batch).await.unwrap().head;
    }
    let all = read_log(store).await;
    for half_second in -1..=81 {
        let time = noon + SignedDuration::from_millis(500 * half_second);
        let before = all.iter().take_while(|event| event.recorded_at < time).count() as u64;
        assert_eq!(store.position_before(ZERO, time).await.unwrap(), Position::new(before), "{time}");
    }
    let just_after = noon + SignedDuration::from_nanos(1);
    assert_eq!(store.position_before(ZERO, just_after).await.unwrap(), Position::new(1), "nanoseconds count");
    assert_eq!(store.position_before(ZERO, Timestamp::MIN).await.unwrap(), Position::ZERO);
    assert_eq!(store.position_before(ZERO, Timestamp::MAX).await.unwrap(), head.position);
}

pub async fn versions_and_ids_are_found(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let partitions = count(2);
    let fixture = make(partitions, Clock::system()).await;
    let store = &*fixture.store;
    let (one, two) = (Partition::ZERO, Partition::new(1));
    let (a, b, c) =
        (stream_in(partitions, one, 1), stream_in(partitions, one, 2), stream_in(partitions, two, 3));
    let (first, second, third) = (event("A", "1"), event("B", "2"), event("C", "3"));
    let head = store.acquire(one).await.unwrap();
    let batch = vec![batch_event(&a, 1, first.clone()), batch_event(&a, 2, second.clone())];
    commit(store, one, head, batch).await.unwrap();
    let head = store.acquire(two).await.unwrap();
    commit(store, two, head, vec![batch_event(&c, 1, third.clone())]).await.unwrap();

    let versions = store.stream_versions(one, &[b, a.clone()]).await.unwrap();
    assert_eq!(versions, [Version::ZERO, Version::new(2)], "in the order asked");
    assert!(store.stream_versions(one, &[]).await.unwrap().is_empty());

    let mut found = store.find(&[Uuid::now_v7(), third.id, second.id]).await.unwrap();
    found.sort_by_key(|event| event.partition);
    let [at_one, at_two] = &found[..] else { panic!("{found:?}") };
    assert_eq!(
        (at_one.id, &at_one.stream_id, at_one.version, at_one.partition, at_one.position, at_one.digest),
        (second.id, &a, Version::new(2), one, Position::new(2), second.content_digest(&a))
    );
    assert_eq!(
        (at_two.id, &at_two.stream_id, at_two.position, at_two.digest),
        (third.id, &c, Position::new(1), third.content_digest(&c))
    );
    assert!(store.find(&[]).await.unwrap().is_empty());
}

pub async fn a_partition_that_is_not_there_is_refused(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let fixture = make(count(2), Clock::system()).await;
    let store = &*fixture.store;
    let two = Partition::new(2);
    let invalid = |error: headwater_core::Error| {
        assert!(error.to_string().contains("there is no partition 2"), "{error}");
    };
    invalid(store.acquire(two).await.unwrap_err());
    invalid(store.read_partition(page(two, Position::ZERO, 1)).await.unwrap_err());
    invalid(store.position_before(two, Timestamp::now()).await.unwrap_err());
    invalid(store.wait_beyond(two, Position::ZERO).await.unwrap_err());
    invalid(store.stream_versions(two, &[stream("a")]).await.unwrap_err());
}
