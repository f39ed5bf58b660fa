//! What happens when a rule fails: the stream id waits, the partition waits, or the event is left out.

use headwater_core::{Error, StreamId};
use headwater_projection::SkipWhat;
use headwater_view::ViewStore;

use crate::support::{Log, Sink, caught_up, desired, rows, start, until};

fn manifest(partitions: u32, policy: &str, share: &str, when: &str) -> String {
    format!(
        r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {{name: s}}
spec: {{partitions: {partitions}}}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {{name: p}}
spec:
  streamRef: {{name: s}}
  onError: {{policy: {policy}}}
  tables:
  - {{name: items, key: [id], columns: [{{name: id, type: Text}}, {{name: share, type: Decimal}}, {{name: count, type: Integer}}]}}
  rules:
  - {{name: count, events: [Set], type: Increment, table: items, key: {{id: event.data.id}}, by: {{count: "1"}}}}
  - {{name: share, events: [Set], when: "{when}", type: Upsert, table: items, key: {{id: event.data.id}}, set: {{share: "{share}"}}}}
"#
    )
}

async fn set(log: &Log, stream: &str, n: i64) -> uuid::Uuid {
    log.append(stream, "Set", &format!(r#"{{"id":"{stream}","n":{n}}}"#)).await.0
}

async fn counts(store: &dyn ViewStore) -> Vec<(String, String)> {
    rows(store, "items").await.into_iter().map(|(id, row)| (id, row[2].clone())).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, count)| ((*id).to_owned(), (*count).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_stream_waits_and_others_go_on() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let store = sink.open();
    let service =
        start(&log, store.clone(), desired(&manifest(1, "Park", "100 / event.data.n", "true"))).await;
    set(&log, "a", 1).await;
    let poison = set(&log, "a", 0).await;
    set(&log, "b", 1).await;
    set(&log, "a", 2).await;
    caught_up(&log, &service).await;
    // The event's first rule alone took no effect either.
    assert_eq!(counts(&*store).await, pairs(&[("a", "1"), ("b", "1")]));
    let status = until(&service, "two events are parked", |status| status.parked == 2).await;
    assert_eq!(status.active.as_ref().unwrap().partitions[0].state, "Running");
    let (_, parked) = service.parked(None, None, 10, 10).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].count, parked[0].events[0].id), (2, poison));
    assert!(
        parked[0].reason.starts_with("rule share, set.share: `100 / event.data.n`"),
        "{}",
        parked[0].reason
    );
    assert!(parked[0].reason.contains("zero"), "{}", parked[0].reason);

    // A replay that fails again changes nothing and says why.
    let a = StreamId::new("a").unwrap();
    let released = service.replay(&a).await.unwrap();
    assert_eq!((released[0].folded, released[0].remaining), (0, 2));
    assert_eq!(released[0].failure.as_ref().unwrap().event_id, poison);
    assert_eq!(counts(&*store).await, pairs(&[("a", "1"), ("b", "1")]));

    let released = service.skip(&a, &SkipWhat::First).await.unwrap();
    assert_eq!((released[0].folded, released[0].skipped, released[0].remaining), (1, 1, 0));
    assert_eq!(counts(&*store).await, pairs(&[("a", "2"), ("b", "1")]));
    assert!(matches!(service.replay(&a).await, Err(Error::NotFound { .. })));
    // The status says so at once, not with the next event.
    let status = until(&service, "nothing is parked any more", |status| status.parked == 0).await;
    assert_eq!(status.active.as_ref().unwrap().skipped, 1);
    // The stream goes on by itself.
    set(&log, "a", 5).await;
    caught_up(&log, &service).await;
    assert_eq!(counts(&*store).await, pairs(&[("a", "3"), ("b", "1")]));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_events_survive_a_restart_and_a_mended_rule_folds_them() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let wanted = desired(&manifest(1, "Park", "100 / event.data.n", "true"));
    let service = start(&log, sink.open(), wanted.clone()).await;
    set(&log, "a", 0).await;
    set(&log, "a", 2).await;
    caught_up(&log, &service).await;
    service.stop().await;
    let store = sink.open();
    let service = start(&log, store.clone(), wanted).await;
    set(&log, "a", 3).await;
    caught_up(&log, &service).await;
    assert_eq!(service.parked(None, None, 10, 10).await.unwrap().1[0].count, 3);
    assert!(rows(&*store, "items").await.is_empty());
    // A mended rule is another revision, which parks nothing.
    service
        .reconcile(desired(&manifest(1, "Park", "100 / event.data.n", "event.data.n != 0")))
        .await
        .unwrap();
    until(&service, "the mended revision answers", |status| {
        status.active.as_ref().is_some_and(|active| active.revision == "2")
    })
    .await;
    caught_up(&log, &service).await;
    assert_eq!(counts(&*store).await, pairs(&[("a", "3")]));
    assert!(service.parked(None, None, 10, 10).await.unwrap().1.is_empty());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halt_stops_at_the_event_and_says_which() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let store = sink.open();
    let service =
        start(&log, store.clone(), desired(&manifest(1, "Halt", "100 / event.data.n", "true"))).await;
    set(&log, "a", 1).await;
    caught_up(&log, &service).await;
    let poison = set(&log, "a", 0).await;
    set(&log, "b", 1).await;
    let is_halted = |status: &headwater_projection::ProjectionStatus| {
        status.active.as_ref().is_some_and(|active| active.partitions[0].state == "Halted")
    };
    let status = until(&service, "it has halted", is_halted).await;
    let partition = &status.active.as_ref().unwrap().partitions[0];
    let failure = partition.failure.as_ref().unwrap();
    assert_eq!(
        (failure.event_id, failure.position.as_str(), partition.position.as_str()),
        (poison, "2", "1")
    );
    assert!(failure.error.message.contains("`100 / event.data.n`"), "{}", failure.error);
    // How far it is behind goes on to be said.
    for n in 1..=3 {
        set(&log, "b", n).await;
    }
    until(&service, "the lag grows", |status| status.lag.is_some_and(|lag| lag.events == 5)).await;
    assert_eq!(counts(&*store).await, pairs(&[("a", "1")]));
    // Trying again halts again; skipping the event lets all that follows through.
    service.resume().await.unwrap();
    assert!(matches!(service.skip_event(uuid::Uuid::new_v4()).await, Err(Error::NotFound { .. })));
    until(&service, "it has halted again", is_halted).await;
    service.skip_event(poison).await.unwrap();
    caught_up(&log, &service).await;
    assert_eq!(counts(&*store).await, pairs(&[("a", "1"), ("b", "4")]));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skip_leaves_the_event_out_and_counts_it() {
    let log = Log::new(1);
    let store = Sink::memory().open();
    let service =
        start(&log, store.clone(), desired(&manifest(1, "Skip", "100 / event.data.n", "true"))).await;
    for n in [1, 0, 2, 0] {
        set(&log, "a", n).await;
    }
    caught_up(&log, &service).await;
    assert_eq!(counts(&*store).await, pairs(&[("a", "2")]));
    until(&service, "two are counted", |status| {
        status.active.as_ref().is_some_and(|active| active.skipped == 2)
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_two_streams_is_refused_with_what_to_declare() {
    let log = Log::new(2);
    let store = Sink::memory().open();
    let service =
        start(&log, store.clone(), desired(&manifest(2, "Park", "100 / event.data.n", "true"))).await;
    log.append("one", "Set", r#"{"id":"same","n":1}"#).await;
    caught_up(&log, &service).await;
    log.append("two", "Set", r#"{"id":"same","n":1}"#).await;
    caught_up(&log, &service).await;
    assert_eq!(counts(&*store).await, pairs(&[("same", "1")]));
    let (_, parked) = service.parked(None, None, 10, 10).await.unwrap();
    assert_eq!(parked[0].stream_id.as_str(), "two");
    assert!(parked[0].reason.contains("declare `writers: ManyStreams`"), "{}", parked[0].reason);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_and_workers_meet_without_loss() {
    let log = Log::new(1);
    let store = Sink::sqlite();
    let view = store.open();
    let service =
        start(&log, view.clone(), desired(&manifest(1, "Park", "100 / event.data.n", "true"))).await;
    set(&log, "a", 0).await;
    caught_up(&log, &service).await;
    // Events come in while the stream is taken back.
    let appends = async {
        for n in 0..200 {
            set(&log, "a", n + 1).await;
        }
    };
    let a = StreamId::new("a").unwrap();
    let ((), released) = tokio::join!(appends, service.skip(&a, &SkipWhat::First));
    released.unwrap();
    caught_up(&log, &service).await;
    if !service.parked(None, None, 1, 0).await.unwrap().1.is_empty() {
        service.replay(&a).await.unwrap();
    }
    assert_eq!(counts(&*view).await, pairs(&[("a", "200")]));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_about_a_later_event_holds_when_its_turn_comes() {
    let log = Log::new(1);
    let store = Sink::memory().open();
    let service =
        start(&log, store.clone(), desired(&manifest(1, "Park", "100 / event.data.n", "true"))).await;
    set(&log, "a", 0).await;
    set(&log, "a", 1).await;
    let later = set(&log, "a", 2).await;
    caught_up(&log, &service).await;
    let released = service.skip_event(later).await.unwrap();
    assert_eq!((released[0].folded, released[0].skipped, released[0].remaining), (0, 0, 3));
    let released = service.skip(&StreamId::new("a").unwrap(), &SkipWhat::First).await.unwrap();
    assert_eq!((released[0].folded, released[0].skipped, released[0].remaining), (1, 2, 0));
    assert_eq!(counts(&*store).await, pairs(&[("a", "1")]));
    service.stop().await;
}
