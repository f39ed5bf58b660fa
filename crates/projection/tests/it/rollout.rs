//! Revisions: built beside, swapped in, swapped back.

use std::sync::Arc;

use headwater_core::{Error, Token};
use headwater_projection::{Desired, ProjectionService};
use headwater_view::{Generation, Query, QueryError, SpecGeneration, ViewStore};
use tokio_util::sync::CancellationToken;

use crate::support::{Log, Sink, caught_up, desired, rows, start, until};

fn manifest(factor: u32, rollout: &str, extra: &str) -> String {
    format!(
        r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {{name: s}}
spec:
  partitions: 2
  eventTypes:
  - name: Add
    schemaVersion: 3
    upcast:
    - {{from: 1, set: {{"n": event.data.number}}}}
    - {{from: 2, set: {{"n": event.data.n * 10}}}}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {{name: p}}
spec:
  streamRef: {{name: s}}
  rollout: {{{rollout}}}
  {extra}
  tables:
  - {{name: sums, key: [id], columns: [{{name: id, type: Text}}, {{name: sum, type: Decimal}}]}}
  rules:
  - {{events: [Add], type: Increment, table: sums, key: {{id: event.streamId}}, by: {{sum: event.data.n * {factor}}}}}
"#
    )
}

fn times(factor: u32) -> Desired {
    desired(&manifest(factor, "", ""))
}

async fn add(log: &Log, stream: &str, n: i64) -> Token {
    let mut event = headwater_core::NewEvent::json(
        headwater_core::EventType::new("Add").unwrap(),
        format!(r#"{{"n":{n}}}"#),
    );
    event.schema_version = headwater_core::SchemaVersion::Given(3);
    log.append_all(stream, vec![event]).await
}

async fn active(service: &ProjectionService, revision: &str) {
    until(service, &format!("revision {revision} answers"), |status| {
        status.active.as_ref().is_some_and(|active| active.revision == revision)
    })
    .await;
}

async fn sum(store: &dyn ViewStore, stream: &str) -> String {
    rows(store, "sums").await[stream][1].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_projection_is_swapped_in_under_load_without_loss() {
    let log = Arc::new(Log::new(2));
    let sink = Sink::sqlite();
    let store = sink.open();
    for n in 0..200 {
        add(&log, &format!("s{}", n % 5), 1).await;
    }
    let service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;

    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        async move {
            let mut appended = 200_u32;
            while !stop.is_cancelled() {
                add(&log, &format!("s{}", appended % 5), 1).await;
                appended += 1;
                tokio::task::yield_now().await;
            }
            appended
        }
    });
    // Queries see whole revisions: each sum is a multiple of the active revision's factor.
    let reader = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move {
            let mut answers = 0;
            while !stop.is_cancelled() {
                let rollout = store.rollout().await.unwrap();
                let record = rollout.active_record().unwrap();
                let order = Query::total_order(&record.tables[0], &[]);
                let query = Query {
                    revision: record.revision,
                    active: true,
                    table: 0,
                    filter: vec![],
                    order,
                    after: None,
                    limit: 10,
                };
                match store.query(&query).await {
                    Ok(answer) => {
                        assert_eq!(answer.rows.len(), 5);
                        let sum: u64 =
                            answer.rows.iter().map(|row| row[1].to_string().parse::<u64>().unwrap()).sum();
                        let events: u64 = answer.positions.iter().map(|(_, position)| position.get()).sum();
                        assert_eq!(
                            sum,
                            events * u64::from(record.revision.0),
                            "revision {}",
                            record.revision
                        );
                        answers += 1;
                    }
                    Err(QueryError::NotActive { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            answers
        }
    });
    for factor in 2..=4 {
        service.reconcile(times(factor)).await.unwrap();
        active(&service, &factor.to_string()).await;
    }
    stop.cancel();
    let appended = writer.await.unwrap();
    assert!(reader.await.unwrap() > 0);
    caught_up(&log, &service).await;
    let all: u32 = rows(&*store, "sums").await.values().map(|row| row[1].parse::<u32>().unwrap()).sum();
    assert_eq!(all, appended * 4);
    // One before is kept, the others are gone.
    let rollout = store.rollout().await.unwrap();
    assert_eq!(rollout.previous.map(|previous| previous.revision.0), Some(3));
    until(&service, "older revisions are dropped", |status| status.candidate.is_none()).await;
    service.stop().await;
    assert_eq!(store.rollout().await.unwrap().revisions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_spec_builds_nothing_and_the_previous_one_is_swapped_back() {
    let log = Log::new(2);
    let sink = Sink::sqlite();
    let store = sink.open();
    add(&log, "a", 1).await;
    let service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;
    service.reconcile(times(1)).await.unwrap();
    service.reconcile(times(2)).await.unwrap();
    active(&service, "2").await;
    // The previous one has gone on meanwhile.
    add(&log, "a", 1).await;
    service.reconcile(times(1)).await.unwrap();
    active(&service, "1").await;
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "a").await, "2");
    assert_eq!(store.rollout().await.unwrap().last_revision, 2, "nothing was replayed");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_holds_until_the_spec_changes_or_somebody_promotes() {
    let log = Log::new(2);
    let sink = Sink::sqlite();
    let mut store = sink.open();
    add(&log, "a", 1).await;
    let mut service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;
    assert!(matches!(service.rollback().await, Err(Error::FailedPrecondition { .. })));
    assert!(matches!(service.promote().await, Err(Error::FailedPrecondition { .. })));
    service.reconcile(times(2)).await.unwrap();
    active(&service, "2").await;
    service.rollback().await.unwrap();
    let status = service.status();
    assert_eq!(
        (status.active.as_ref().unwrap().revision.as_str(), status.rollout.as_str()),
        ("1", "RolledBack")
    );
    assert_eq!(status.held_digest.as_ref(), Some(&times(2).digest));

    // Neither the same spec nor a restart brings it back.
    service.reconcile(times(2)).await.unwrap();
    service.stop().await;
    store = sink.open();
    service = start(&log, store.clone(), times(2)).await;
    add(&log, "a", 1).await;
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "a").await, "2");
    // A person does.
    until(&service, "the held one follows", |status| {
        status.previous.as_ref().is_some_and(|previous| previous.lag.is_some_and(|lag| lag.events == 0))
    })
    .await;
    service.promote().await.unwrap();
    active(&service, "2").await;
    assert_eq!(service.status().held_digest, None);
    assert_eq!(sum(&*store, "a").await, "4");
    // And a changed spec does too.
    service.rollback().await.unwrap();
    active(&service, "1").await;
    service.reconcile(times(3)).await.unwrap();
    active(&service, "3").await;
    assert_eq!(sum(&*store, "a").await, "6");
    service.stop().await;
}

/// While a deployment is rolled out, processes with the old spec and with the new one run side by side.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_process_with_a_newer_spec_an_older_one_follows() {
    fn spec(factor: u32, number: i64) -> Desired {
        let projection = Generation { created_at: 10, number };
        times(factor).of(Some(SpecGeneration { projection, ..SpecGeneration::default() }))
    }
    async fn outdated(service: &ProjectionService) {
        until(service, "a newer one decides", |status| status.rollout == "Outdated").await;
        let message = service.status().message.clone().unwrap();
        assert!(message.contains("headwater projections rebuild test"), "{message}");
    }
    let log = Log::new(2);
    let store = Sink::memory().open();
    add(&log, "a", 1).await;
    let old = start(&log, store.clone(), spec(1, 1)).await;
    active(&old, "1").await;
    let new = start(&log, store.clone(), spec(2, 2)).await;
    active(&new, "2").await;
    outdated(&old).await;
    active(&old, "2").await;
    // Also while it is the only one: what is new is not taken back.
    new.stop().await;
    add(&log, "a", 1).await;
    caught_up(&log, &old).await;
    assert_eq!(sum(&*store, "a").await, "4");
    // It was scaled, or only its place in the cluster changed: who wants the same decides as well.
    let scaled = start(&log, store.clone(), spec(2, 3)).await;
    active(&scaled, "2").await;
    let same = start(&log, store.clone(), spec(2, 2)).await;
    until(&same, "it is current", |status| status.rollout == "Current").await;
    scaled.stop().await;
    same.stop().await;
    // The edit is reverted, and what was kept answers at once.
    let reverted = start(&log, store.clone(), spec(1, 4)).await;
    active(&reverted, "1").await;
    caught_up(&log, &reverted).await;
    assert_eq!(sum(&*store, "a").await, "2");
    until(&old, "it wants what the newest wants", |status| status.rollout == "Current").await;
    old.stop().await;
    reverted.stop().await;
    assert_eq!(store.rollout().await.unwrap().last_revision, 2, "no other was ever made");

    // A cluster that was restored counts from less: a person says that it decides all the same.
    let restored = start(&log, store.clone(), spec(3, 2)).await;
    outdated(&restored).await;
    restored.rebuild().await.unwrap();
    active(&restored, "3").await;
    let unnumbered = start(&log, store.clone(), times(4)).await;
    outdated(&unnumbered).await;
    restored.stop().await;
    unnumbered.rebuild().await.unwrap();
    active(&unnumbered, "4").await;
    assert_eq!(store.rollout().await.unwrap().declared, None);
    unnumbered.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manual_promotion_waits_for_a_person() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    let manual = |factor| desired(&manifest(factor, "promotion: Manual, maxLag: 0", ""));
    add(&log, "a", 1).await;
    let service = start(&log, store.clone(), manual(1)).await;
    active(&service, "1").await;
    service.reconcile(manual(2)).await.unwrap();
    let status = until(&service, "it waits", |status| status.rollout == "AwaitingPromotion").await;
    assert_eq!(status.candidate.as_ref().unwrap().percent, Some(100));
    assert_eq!(sum(&*store, "a").await, "1");
    service.promote().await.unwrap();
    active(&service, "2").await;
    assert_eq!(sum(&*store, "a").await, "2");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_parks_more_than_the_active_one_is_not_promoted_by_itself() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    add(&log, "a", 0).await;
    add(&log, "b", 1).await;
    let service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;
    let dividing = manifest(1, "", "").replace("event.data.n * 1", "1 / event.data.n");
    service.reconcile(desired(&dividing)).await.unwrap();
    let status = until(&service, "it is blocked", |status| status.rollout == "Blocked").await;
    assert_eq!(status.candidate.as_ref().unwrap().parked, 1);
    let message = status.message.as_deref().unwrap();
    assert!(message.contains("projections parked test --revision 2"), "{message}");
    let (_, parked) = service.parked(Some(headwater_view::Revision(2)), None, 10, 10).await.unwrap();
    assert_eq!(parked.iter().map(|it| it.stream_id.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(status.active.as_ref().unwrap().revision, "1");
    // A person may say that it is fine.
    service.promote().await.unwrap();
    active(&service, "2").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_spec_replaces_a_candidate_that_is_still_built() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    for n in 0..50 {
        add(&log, &format!("s{n}"), 1).await;
    }
    let service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;
    // So slow that it never arrives.
    service.reconcile(desired(&manifest(2, "maxLag: 0, maxEventsPerSecond: 1", ""))).await.unwrap();
    for n in 0..50 {
        add(&log, &format!("s{n}"), 1).await;
    }
    until(&service, "the slow one is being built", |status| {
        status.candidate.as_ref().is_some_and(|it| it.revision == "2")
    })
    .await;
    service.reconcile(times(3)).await.unwrap();
    active(&service, "3").await;
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "s7").await, "6");
    assert!(store.rollout().await.unwrap().record(headwater_view::Revision(2)).is_none());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_no_faster_than_it_may_be_from_its_first_event_on() {
    let log = Log::new(1);
    let store = Sink::memory().open();
    for n in 0..30 {
        add(&log, &format!("s{n}"), 1).await;
    }
    let service = start(&log, store.clone(), times(1)).await;
    active(&service, "1").await;
    let began = std::time::Instant::now();
    service.reconcile(desired(&manifest(2, "maxLag: 0, maxEventsPerSecond: 20", ""))).await.unwrap();
    active(&service, "2").await;
    // Twenty at once, and the others a second later.
    assert!(began.elapsed() >= std::time::Duration::from_millis(900), "{:?}", began.elapsed());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_data_is_brought_up_to_date_before_rules_see_it() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    let service = start(&log, store.clone(), times(1)).await;
    for (version, data) in [(1, r#"{"number":1}"#), (2, r#"{"n":2}"#), (3, r#"{"n":3}"#)] {
        let mut event = headwater_core::NewEvent::json(headwater_core::EventType::new("Add").unwrap(), data);
        event.schema_version = headwater_core::SchemaVersion::Given(version);
        log.append_all("a", vec![event]).await;
    }
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "a").await, "33", "10 and 20 and 3");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_build_starts_where_the_first_did() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    let from_end = |factor| desired(&manifest(factor, "", "startFrom: {type: End}"));
    add(&log, "a", 1).await;
    let service = start(&log, store.clone(), from_end(1)).await;
    active(&service, "1").await;
    add(&log, "a", 1).await;
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "a").await, "1");
    service.reconcile(from_end(2)).await.unwrap();
    active(&service, "2").await;
    caught_up(&log, &service).await;
    assert_eq!(sum(&*store, "a").await, "2");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paused_answers_and_folds_nothing() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    add(&log, "a", 1).await;
    let service = start(&log, store.clone(), times(1)).await;
    caught_up(&log, &service).await;
    service.pause().await.unwrap();
    assert_eq!(service.status().state, "Paused");
    let token = add(&log, "a", 1).await;
    let reader = log.reader();
    assert_eq!(reader.heads().await.unwrap().iter().map(|head| head.position.get()).sum::<u64>(), 2);
    assert_eq!(sum(&*store, "a").await, "1");
    service.resume().await.unwrap();
    service.wait_for(&token).await.unwrap();
    assert_eq!(sum(&*store, "a").await, "2");
    // What the manifest says stands above a command.
    let paused = manifest(1, "", "state: Paused");
    service.reconcile(desired(&paused)).await.unwrap();
    let refused = service.resume().await.unwrap_err().to_string();
    assert!(refused.contains("its manifest says `state: Paused`"), "{refused}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_log_and_a_spec_that_does_not_compile_are_refused() {
    let log = Log::new(2);
    let sink = Sink::memory();
    add(&log, "a", 1).await;
    let service = start(&log, sink.open(), times(1)).await;
    active(&service, "1").await;
    let mut broken = times(2);
    broken.definition.rules[0].table = "totals".into();
    match service.reconcile(broken).await {
        Err(Error::Invalid { field, message }) => {
            assert_eq!(field, "rules[0].table");
            assert!(message.contains("there is \"sums\""), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(sum(&*sink.open(), "a").await, "1");
    service.stop().await;

    let other = Log::new(2);
    let refused =
        ProjectionService::start("p", "here", other.reader(), sink.open(), CancellationToken::new()).await;
    assert!(matches!(refused, Err(Error::FailedPrecondition { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_start_at_a_time_to_come_is_waited_for() {
    let log = Log::new(2);
    add(&log, "a", 1).await;
    let soon = jiff::Timestamp::now() + std::time::Duration::from_secs(2);
    let from = format!("startFrom: {{type: Time, time: \"{soon}\"}}");
    let service = start(&log, Sink::memory().open(), desired(&manifest(1, "", &from))).await;
    let status = until(&service, "it says what it waits for", |status| status.message.is_some()).await;
    let message = status.message.as_deref().unwrap();
    assert!(message.contains("startFrom.time") && message.contains("still to come"), "{message}");
    assert!(status.candidate.is_none() && status.active.is_none());

    active(&service, "1").await;
    assert!(jiff::Timestamp::now() >= soon);
    add(&log, "b", 1).await;
    caught_up(&log, &service).await;
    let sums = rows(&**service.store(), "sums").await;
    assert_eq!(sums.keys().collect::<Vec<_>>(), ["b"], "what was there before the time is left out");
}
