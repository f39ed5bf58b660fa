//! Parked and skipped events.

#[allow(clippy::wildcard_imports, reason = "one suite in several files")]
use super::*;

pub(super) fn parked(positions: impl IntoIterator<Item = u64>) -> Vec<ParkedEvent> {
    positions
        .into_iter()
        .map(|position| ParkedEvent {
            position: Position::new(position),
            id: Uuid::from_u128(u128::from(position)),
            event_type: "Created".into(),
        })
        .collect()
}

pub(super) fn append(id: &str, expected: Option<u64>, positions: impl IntoIterator<Item = u64>) -> Park {
    Park {
        stream_id: stream(id),
        partition: P0,
        expected: expected.map(crate::ParkVersion),
        change: ParkChange::Append { events: parked(positions), reason: "1 / 0".into() },
    }
}

pub(super) fn release(id: &str, expected: u64, through: u64) -> Park {
    Park {
        stream_id: stream(id),
        partition: P0,
        expected: Some(crate::ParkVersion(expected)),
        change: ParkChange::Release {
            through: Position::new(through),
            skipped: 1,
            reason: "still bad".into(),
        },
    }
}

/// Events are set aside in the transaction that passes them, and counted.
pub async fn parked_events_move_with_the_checkpoint(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let mut first = batch(revision, P0, 0, 4, vec![]);
    first.parks = vec![append("bad", None, [2, 4]), append("worse", None, [3])];
    let first = store.apply(Arc::new(first)).await.unwrap().version;

    let state = store.partition(revision, P0).await.unwrap();
    assert_eq!((state.progress.position.get(), state.progress.parked, state.parked.len()), (4, 3, 2));
    assert_eq!(state.parked[&stream("bad")].0, first);
    assert!(store.partition(revision, P1).await.unwrap().parked.is_empty());

    // A worker that has not seen the entry is refused; one that has appends, and the first reason stays.
    for expected in [None, Some(first + 1)] {
        let mut refused = batch(revision, P0, 4, 5, vec![write("a", "1", None)]);
        refused.parks = vec![append("bad", expected, [5])];
        assert!(matches!(store.apply(Arc::new(refused)).await, Err(ApplyError::Conflict { .. })));
    }
    assert_eq!(position(&*store, revision, P0).await, 4);
    let mut more = batch(revision, P0, 4, 6, vec![]);
    let append_more = Park {
        change: ParkChange::Append { events: parked([5, 6]), reason: "it was parked".into() },
        ..append("bad", Some(first), [])
    };
    more.parks = vec![append_more];
    let second = store.apply(Arc::new(more)).await.unwrap().version;

    let shown = store.parked(revision, None, 10, 3).await.unwrap();
    assert_eq!(shown.iter().map(|entry| entry.stream_id.as_str()).collect::<Vec<_>>(), ["bad", "worse"]);
    let bad = &shown[0];
    assert_eq!((bad.count, bad.reason.as_str(), bad.version.0, bad.partition), (4, "1 / 0", second, P0));
    assert_eq!(bad.events, parked([2, 4, 5]), "as many as were asked for");
    assert_eq!(
        store.parked(revision, Some(&stream("bad")), 10, 0).await.unwrap()[0].stream_id,
        stream("worse")
    );
    assert_eq!(store.parked(revision, None, 1, 0).await.unwrap().len(), 1);
    assert_eq!(store.parked_stream(revision, &stream("none"), 1).await.unwrap(), None);
    let progress = store.progress(revision).await.unwrap();
    assert_eq!(
        progress.iter().map(|p| (p.partition, p.position.get(), p.parked)).collect::<Vec<_>>(),
        [(P0, 6, 5), (P1, 10, 0)]
    );
    assert_eq!(progress[0].recorded_at, Some(at(6)));
    assert_eq!(store.query(&all(revision, 0)).await.unwrap().parked, 5);
}

/// A replay writes rows and takes events back as one, unless the entry was changed meanwhile.
pub async fn parked_events_are_taken_back_under_their_version(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    let mut first = batch(revision, P0, 0, 9, vec![]);
    first.parks = vec![append("bad", None, [2, 4, 9])];
    let first = store.apply(Arc::new(first)).await.unwrap().version;

    let replay = |expected, through, rows| Batch {
        parks: vec![release("bad", expected, through)],
        rows,
        durability: Durability::Durable,
        ..Batch::new(revision, Decisions(0))
    };
    let refused = store.apply(replay(first + 1, 9, vec![write("a", "1", None)]).into()).await;
    assert!(matches!(refused, Err(ApplyError::Conflict { .. })));
    assert_eq!(load(&*store, revision, 0, vec![key([text("a")])]).await, [None]);

    let second = store.apply(replay(first, 4, vec![write("a", "1", None)]).into()).await.unwrap().version;
    let left = store.parked_stream(revision, &stream("bad"), 10).await.unwrap().unwrap();
    assert_eq!(
        (left.events, left.count, left.reason.as_str(), left.version.0),
        (parked([9]), 1, "still bad", second)
    );
    assert_eq!(ids(&*store, &all(revision, 0)).await, ["a"]);
    assert_eq!(position(&*store, revision, P0).await, 9, "a replay moves no checkpoint");

    store.apply(replay(second, 9, vec![]).into()).await.unwrap();
    assert_eq!(store.parked_stream(revision, &stream("bad"), 10).await.unwrap(), None);
    let state = store.partition(revision, P0).await.unwrap();
    assert_eq!((state.progress.parked, state.parked.len()), (0, 0));
    assert_eq!(store.progress(revision).await.unwrap()[0].skipped, 2);
    let gone = store.apply(replay(second, 9, vec![]).into()).await;
    assert!(matches!(gone, Err(ApplyError::Conflict { .. })));
}

/// A skipped event is skipped by every revision, and a batch folded without knowing of it is refused.
pub async fn a_skip_is_known_to_every_revision_and_fences_those_who_have_not_seen_it(place: &dyn Place) {
    let store = place.open().await;
    let revision = create(&*store, "a").await;
    promote(&*store, revision).await;
    let other = create(&*store, "b").await;
    let id = Uuid::from_u128(5);
    let skip = Batch {
        skips: vec![Skip { id, partition: P0, position: Position::new(5) }],
        durability: Durability::Durable,
        ..Batch::new(revision, Decisions(0))
    };
    let decisions = store.apply(Arc::new(skip)).await.unwrap().decisions;
    assert!(decisions > Decisions(0));
    for revision in [revision, other] {
        let state = store.partition(revision, P1).await.unwrap();
        assert_eq!((state.skips.contains(&id), state.skips.len(), state.decisions), (true, 1, decisions));
        assert!(matches!(
            store.apply(batch(revision, P0, 0, 1, vec![]).into()).await,
            Err(ApplyError::Conflict { .. })
        ));
        let mut seen = batch(revision, P0, 0, 1, vec![]);
        seen.decisions = decisions;
        store.apply(Arc::new(seen)).await.unwrap();
    }
    change(&*store, Change::Drop { revision: other }).await;
    assert!(place.open().await.partition(revision, P0).await.unwrap().skips.contains(&id));
}
