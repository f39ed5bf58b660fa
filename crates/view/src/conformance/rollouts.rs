//! Revisions, and the store after a restart.

use super::parking::append;
#[allow(clippy::wildcard_imports, reason = "one suite in several files")]
use super::*;
use crate::{Declared, Generation, SpecGeneration};

/// A revision has rows, checkpoints and parked events of its own; queries see the active one.
pub async fn revisions_are_apart(place: &dyn Place) {
    let store = place.open().await;
    let none = store.query(&Query { active: true, ..all(Revision(1), 0) }).await;
    assert!(matches!(none, Err(QueryError::NotActive { active: None })));
    let one = create(&*store, "a").await;
    let mut first = batch(one, P0, 0, 5, vec![write("a", "1", None)]);
    first.parks = vec![append("bad", None, [3])];
    store.apply(Arc::new(first)).await.unwrap();
    assert_eq!(promote(&*store, one).await.active, Some(one));

    let two = create(&*store, "b").await;
    assert!(two > one);
    assert_eq!(position(&*store, two, P0).await, 0);
    assert!(store.parked(two, None, 10, 10).await.unwrap().is_empty());
    store.apply(batch(two, P0, 0, 2, vec![write("b", "1", None)]).into()).await.unwrap();
    assert_eq!(ids(&*store, &Query { active: true, ..all(one, 0) }).await, ["a"]);
    let not_yet = store.query(&Query { active: true, ..all(two, 0) }).await;
    assert!(matches!(not_yet, Err(QueryError::NotActive { active: Some(revision) }) if revision == one));

    let rollout = promote(&*store, two).await;
    assert_eq!((rollout.active, rollout.candidate), (Some(two), None));
    let previous = rollout.previous.unwrap();
    assert_eq!((previous.revision, previous.until), (one, at(100)));
    assert_eq!(ids(&*store, &Query { active: true, ..all(two, 0) }).await, ["b"]);
    // The previous one goes on.
    store.apply(batch(one, P0, 5, 6, vec![write("c", "1", None)]).into()).await.unwrap();
    assert_eq!(ids(&*store, &all(one, 0)).await, ["a", "c"]);
}

/// Two decisions on the same version: one is taken.
pub async fn only_one_decision_is_taken_on_a_rollout(place: &dyn Place) {
    let store = place.open().await;
    let version = store.rollout().await.unwrap().version;
    let tasks: Vec<_> = (0..4)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                store.change(version, &Change::Create(new_revision(&format!("d{number}")))).await
            })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(rollout) => {
                taken += 1;
                assert_eq!(rollout.candidate, Some(Revision(1)));
            }
            Err(ChangeError::Stale { found }) => assert!(found > version),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(taken, 1);
    assert_eq!(store.rollout().await.unwrap().revisions.len(), 1);
}

/// What [`Rollout::after`] refuses is refused, and nothing changes.
pub async fn illegal_changes_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    let refuse = async |change: Change, why: &str| {
        let before = store.rollout().await.expect("a rollout");
        match store.change(before.version, &change).await {
            Err(ChangeError::Failed(error)) => assert!(error.to_string().contains(why), "{error}"),
            other => panic!("{change:?} gave {other:?}"),
        }
        assert_eq!(store.rollout().await.expect("a rollout"), before);
    };
    refuse(Change::Create(new_revision("b")), "revision 1 is already being built").await;
    refuse(
        Change::Promote { revision: Revision(9), keep_until: at(1), hold: None },
        "neither the candidate nor the previous",
    )
    .await;
    refuse(Change::Drop { revision: Revision(9) }, "no such revision").await;
    promote(&*store, one).await;
    refuse(Change::Drop { revision: one }, "answers queries").await;
    refuse(
        Change::Promote { revision: one, keep_until: at(1), hold: None },
        "neither the candidate nor the previous",
    )
    .await;
    let foreign = NewRevision { log_id: LogId::from_uuid(Uuid::from_u128(8)), ..new_revision("c") };
    refuse(Change::Create(foreign), "the read model here is built from log").await;
    let later = NewRevision { start: Positions::default(), ..new_revision("d") };
    let version = store.rollout().await.unwrap().version;
    let rollout = store.change(version, &Change::Create(later)).await.unwrap();
    assert_eq!(rollout.start, new_revision("d").start, "a later revision starts where the first did");
}

/// A dropped revision takes nothing and answers nothing, and its number does not come again.
pub async fn a_dropped_revision_is_gone(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    let mut first = batch(one, P0, 0, 1, vec![write("a", "1", None)]);
    first.parks = vec![append("bad", None, [1])];
    store.apply(Arc::new(first)).await.unwrap();
    let rollout = change(&*store, Change::Drop { revision: one }).await;
    assert!(rollout.revisions.is_empty() && rollout.candidate.is_none());
    assert!(matches!(store.partition(one, P0).await, Err(ApplyError::Gone { revision }) if revision == one));
    assert!(matches!(store.load(&Load { revision: one, rows: vec![] }).await, Err(ApplyError::Gone { .. })));
    assert!(matches!(store.apply(batch(one, P0, 1, 2, vec![]).into()).await, Err(ApplyError::Gone { .. })));
    let not_found = |error| matches!(error, headwater_core::Error::NotFound { .. });
    assert!(not_found(store.progress(one).await.unwrap_err()));
    assert!(not_found(store.parked(one, None, 1, 1).await.unwrap_err()));
    assert!(not_found(store.parked_stream(one, &stream("bad"), 1).await.unwrap_err()));
    assert!(
        matches!(store.query(&all(one, 0)).await, Err(QueryError::Failed(error)) if not_found(error.clone()))
    );
    let two = create(&*store, "a").await;
    assert!(two > one);
    assert!(ids(&*store, &all(two, 0)).await.is_empty());
    assert!(store.parked(two, None, 10, 10).await.unwrap().is_empty());
}

/// Swapping back keeps both revisions and remembers what is not wanted.
pub async fn a_rollback_holds_the_digest(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    promote(&*store, one).await;
    let two = create(&*store, "b").await;
    promote(&*store, two).await;
    let rollout =
        change(&*store, Change::Promote { revision: one, keep_until: at(50), hold: Some("b".into()) }).await;
    assert_eq!(rollout.active, Some(one));
    assert_eq!(rollout.previous.map(|previous| (previous.revision, previous.until)), Some((two, at(50))));
    assert_eq!(rollout.held_digest.as_deref(), Some("b"));
    assert_eq!(change(&*store, Change::ReleaseHold).await.held_digest, None);
}

/// The spec that decides is known to all, before there is a revision and after.
pub async fn what_was_declared_is_kept(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.rollout().await.unwrap().declared, None);
    let declared = |number| Declared {
        generation: SpecGeneration {
            projection: Generation { created_at: 1_790_000_000, number },
            event_stream: Generation { created_at: -1, number: i64::MAX },
        },
        digest: format!("{number} \" 'ü"),
    };
    let before = store.rollout().await.unwrap().version;
    let after = change(&*store, Change::Declare(Some(declared(2)))).await;
    assert_eq!(after.declared, Some(declared(2)));
    let stale = store.change(before, &Change::Declare(Some(declared(9)))).await;
    assert!(matches!(stale, Err(ChangeError::Stale { .. })), "{stale:?}");
    let one = create(&*store, "a").await;
    promote(&*store, one).await;
    assert_eq!(store.rollout().await.unwrap().declared, Some(declared(2)));
    // Who may is for those to know who declare.
    assert_eq!(change(&*store, Change::Declare(Some(declared(1)))).await.declared, Some(declared(1)));
    drop(store);
    let store = place.open().await;
    assert_eq!(store.rollout().await.unwrap().declared, Some(declared(1)));
    assert_eq!(change(&*store, Change::Declare(None)).await.declared, None);
}

/// A store opened again is where it was.
pub async fn everything_is_there_after_a_restart(place: &dyn Place) {
    let store = place.open().await;
    let one = create(&*store, "a").await;
    promote(&*store, one).await;
    let two = create(&*store, "b").await;
    promote(&*store, two).await;
    change(&*store, Change::Promote { revision: one, keep_until: at(9), hold: Some("b".into()) }).await;
    let three = create(&*store, "c").await;
    let mut first = batch(three, P0, 0, 7, vec![write("a", "1.50", None)]);
    first.parks = vec![append("bad", None, [3, 7])];
    store.apply(Arc::new(first)).await.unwrap();
    let before = (
        store.rollout().await.unwrap(),
        store.progress(three).await.unwrap(),
        store.parked(three, None, 9, 9).await.unwrap(),
    );
    let rows = store.query(&all(three, 0)).await.unwrap();
    drop(store);
    let store = place.open().await;
    assert_eq!(before.0, store.rollout().await.unwrap());
    assert_eq!(before.1, store.progress(three).await.unwrap());
    assert_eq!(before.2, store.parked(three, None, 9, 9).await.unwrap());
    assert_eq!(rows, store.query(&all(three, 0)).await.unwrap());
    let record = before.0.record(three).unwrap();
    assert_eq!((record.digest.as_str(), record.definition.as_str()), ("c", "{\"of\":\"c\"}"));
    assert_eq!(record.tables, tables());
    // It goes on, with versions that were not given before.
    let (_, version) = load(&*store, three, 0, vec![key([text("a")])]).await.remove(0).unwrap();
    let written =
        store.apply(batch(three, P0, 7, 8, vec![write("a", "2", Some(version))]).into()).await.unwrap();
    assert!(written.version > version.0);
}

/// A schema that some sink could not hold is refused by all, with the path of the fault.
pub async fn bad_schemas_are_refused(place: &dyn Place) {
    let store = place.open().await;
    let refuse = async |change: fn(&mut Vec<TableSchema>), path: &str| {
        let mut new = new_revision("a");
        change(&mut new.tables);
        let version = store.rollout().await.expect("a rollout").version;
        match store.change(version, &Change::Create(new)).await {
            Err(ChangeError::Failed(headwater_core::Error::Invalid { field, .. })) => assert_eq!(field, path),
            other => panic!("{other:?}"),
        }
    };
    refuse(|tables| tables[0].name = "a; drop table b".into(), "tables[0].name").await;
    refuse(|tables| tables[1].name = "ORDERS".into(), "tables[1].name").await;
    refuse(|tables| tables[0].columns[1].name = "a b".into(), "tables[0].columns[1].name").await;
    refuse(|tables| tables[0].key = vec![5], "tables[0].key[0]").await;
    assert!(store.rollout().await.unwrap().revisions.is_empty());
}
