//! Random histories against a second reading of the contract, written by hand and without the code under test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use headwater_core::{EventType, NewEvent, StreamId};
use headwater_log::LogReader;
use headwater_projection::{ProjectionService, SkipWhat};
use headwater_view::{ViewAdmin, ViewStore};
use proptest::prelude::*;

use crate::faults::Flaky;
use crate::support::{Log, Sink, caught_up, desired, rows, start, until};

/// `items` are written from one stream id each, with a rule that reads the row, and one that divides; `totals` from many.
fn manifest(partitions: u32, policy: &str) -> String {
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
  rollout: {{maxLag: 0}}
  tables:
  - name: items
    key: [id]
    columns:
    - {{name: id, type: Text}}
    - {{name: share, type: Decimal}}
    - {{name: count, type: Integer, default: "0"}}
  - name: totals
    key: [name]
    writers: ManyStreams
    columns:
    - {{name: name, type: Text}}
    - {{name: sum, type: Decimal}}
    - {{name: last, type: Text}}
  - name: lines
    key: [id, line]
    columns:
    - {{name: id, type: Text}}
    - {{name: line, type: Integer}}
    - {{name: text, type: Text}}
  rules:
  - {{events: [Set], type: Increment, table: totals, key: {{name: event.data.name}}, by: {{sum: event.data.n}}}}
  - {{name: share, events: [Set], type: Upsert, table: items, key: {{id: event.streamId}}, set: {{share: 100 / event.data.n, count: "(row == null ? 0 : row.count) + 1"}}}}
  - {{events: [Set], type: Upsert, table: totals, key: {{name: event.data.name}}, set: {{last: event.id}}}}
  - {{events: [Touch], when: "row != null && row.count > 1", type: Update, table: items, key: {{id: event.streamId}}, set: {{count: row.count * 2}}}}
  - {{events: [Drop], type: Delete, table: items, key: {{id: event.streamId}}}}
  - {{events: [Lines], forEach: {{in: event.data.lines, as: text, index: at}}, type: Upsert, table: lines, key: {{id: event.streamId, line: at}}, set: {{text: text}}}}
"#
    )
}

#[derive(Debug, Clone)]
enum Step {
    /// stream, name, n: n of 0 divides by zero
    Set(u8, u8, i64),
    Touch(u8),
    Drop(u8),
    Lines(u8, Vec<String>),
    /// Stop, and start on the reopened sink.
    Restart,
    Rebuild,
    /// Wait until all is folded, so that what follows is live.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..6_u8, 0..4_u8, 0..12_i64).prop_map(|(stream, name, n)| Step::Set(stream, name, n - 1)),
        3 => (0..6_u8).prop_map(Step::Touch),
        2 => (0..6_u8).prop_map(Step::Drop),
        2 => (0..6_u8, prop::collection::vec("[a-z]{0,3}", 0..3)).prop_map(|(stream, lines)| Step::Lines(stream, lines)),
        1 => Just(Step::Restart),
        1 => Just(Step::Rebuild),
        2 => Just(Step::Settle),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Policy {
    Park,
    Skip,
}

type Tables = [BTreeMap<String, Vec<String>>; 3];

/// What the events in the log give, by hand.
async fn expected(log: &Log, policy: Policy, skipped: &BTreeSet<uuid::Uuid>) -> Tables {
    struct Item {
        share: String,
        count: i64,
    }
    let mut items: BTreeMap<String, Item> = BTreeMap::new();
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    let mut lasts = BTreeMap::new();
    let mut lines = BTreeMap::new();
    let mut parked: BTreeSet<String> = BTreeSet::new();
    for partition in log.store.descriptor().partitions.partitions() {
        let page = log
            .store
            .read_partition(headwater_log::ReadPartition {
                partition,
                after: headwater_core::Position::ZERO,
                up_to: None,
                filter: headwater_log::Filter::default(),
                limit: 100_000,
                max_bytes: usize::MAX,
            })
            .await
            .unwrap();
        for event in page.events {
            let id = event.stream_id.to_string();
            if skipped.contains(&event.id) || parked.contains(&id) {
                continue;
            }
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            match event.event_type.as_str() {
                "Set" => {
                    let (name, n) = (data["name"].as_str().unwrap().to_owned(), data["n"].as_i64().unwrap());
                    if n == 0 {
                        if policy == Policy::Park {
                            parked.insert(id);
                        }
                        continue;
                    }
                    *sums.entry(name.clone()).or_default() += n;
                    let share = (rust_decimal::Decimal::from(100) / rust_decimal::Decimal::from(n))
                        .normalize()
                        .to_string();
                    let item = items.entry(id).or_insert(Item { share: String::new(), count: 0 });
                    item.share = share;
                    item.count += 1;
                    let stamp = (event.recorded_at, partition, event.position);
                    let last = lasts.entry(name).or_insert((stamp, event.id));
                    *last = (*last).max((stamp, event.id));
                }
                "Touch" => {
                    if let Some(item) = items.get_mut(&id).filter(|item| item.count > 1) {
                        item.count *= 2;
                    }
                }
                "Drop" => {
                    items.remove(&id);
                }
                "Lines" => {
                    for (at, text) in data["lines"].as_array().unwrap().iter().enumerate() {
                        lines.insert(
                            format!("{id}/{at}"),
                            vec![id.clone(), at.to_string(), text.as_str().unwrap().to_owned()],
                        );
                    }
                }
                other => panic!("{other}"),
            }
        }
    }
    let items = items
        .into_iter()
        .map(|(id, item)| (id.clone(), vec![id, item.share, item.count.to_string()]))
        .collect();
    let totals = sums
        .into_iter()
        .map(|(name, sum)| (name.clone(), vec![name.clone(), sum.to_string(), lasts[&name].1.to_string()]))
        .collect();
    [items, totals, lines]
}

/// What the projection holds; shares without trailing zeros, as the oracle has them.
async fn found(store: &dyn ViewStore) -> Tables {
    let mut tables = [rows(store, "items").await, rows(store, "totals").await, rows(store, "lines").await];
    for row in tables[0].values_mut() {
        row[1] = row[1].parse::<rust_decimal::Decimal>().unwrap().normalize().to_string();
    }
    tables
}

async fn append(log: &Log, step: &Step) {
    let (stream, kind, data) = match step {
        Step::Set(stream, name, n) => {
            (stream, "Set", serde_json::json!({ "name": format!("n{name}"), "n": n }))
        }
        Step::Touch(stream) => (stream, "Touch", serde_json::json!({})),
        Step::Drop(stream) => (stream, "Drop", serde_json::json!({})),
        Step::Lines(stream, lines) => (stream, "Lines", serde_json::json!({ "lines": lines })),
        Step::Restart | Step::Rebuild | Step::Settle => return,
    };
    let event = NewEvent::json(EventType::new(kind).unwrap(), data.to_string());
    log.append_all(&format!("item-{stream}"), vec![event]).await;
}

/// Rebuilds and waits until the rebuild answers.
async fn rebuild(service: &ProjectionService) {
    service.rebuild().await.unwrap();
    let candidate = service.status();
    let built = candidate.candidate.as_ref().or(candidate.active.as_ref()).unwrap().revision.clone();
    until(service, "the rebuild answers", |status| {
        status
            .active
            .as_ref()
            .is_some_and(|active| active.revision.parse::<u32>().unwrap() >= built.parse().unwrap())
    })
    .await;
}

async fn history(steps: Vec<Step>, partitions: u32, policy: Policy, sink: Sink, flaky: Option<u64>) {
    let manifest = manifest(partitions, if policy == Policy::Park { "Park" } else { "Skip" });
    let wanted = desired(&manifest);
    let log = Log::new(partitions);
    let open = || -> Arc<dyn ViewStore> {
        match flaky {
            Some(seed) => Arc::new(Flaky::new(sink.open(), 6, seed)),
            None => sink.open(),
        }
    };
    let mut service = start(&log, open(), wanted.clone()).await;
    for step in &steps {
        append(&log, step).await;
        match step {
            Step::Restart => {
                service.stop().await;
                service = start(&log, open(), wanted.clone()).await;
            }
            // A store that fails may refuse; the next step comes anyway.
            Step::Rebuild => drop(service.rebuild().await),
            Step::Settle => caught_up(&log, &service).await,
            _ => {}
        }
    }
    service.stop().await;

    // What is there now is what the events give, and so is what is built anew.
    let store = sink.open();
    let service = start(&log, store.clone(), wanted.clone()).await;
    caught_up(&log, &service).await;
    let nothing = BTreeSet::new();
    let wanted_rows = expected(&log, policy, &nothing).await;
    assert_eq!(found(&*store).await, wanted_rows, "live");
    rebuild(&service).await;
    caught_up(&log, &service).await;
    assert_eq!(found(&*store).await, wanted_rows, "rebuilt");

    // Parked events that are skipped let those behind them through, here and in what is built later.
    let mut skipped = BTreeSet::new();
    loop {
        let (_, parked) = service.parked(None, None, 100, 1).await.unwrap();
        let Some(entry) = parked.first() else { break };
        skipped.insert(entry.events[0].id);
        let again = service.replay(&StreamId::new(entry.stream_id.as_str()).unwrap()).await.unwrap();
        assert!(again.iter().all(|released| released.folded == 0 && released.failure.is_some()), "{again:?}");
        service.skip(&entry.stream_id, &SkipWhat::First).await.unwrap();
    }
    if policy == Policy::Park {
        let wanted_rows = expected(&log, policy, &skipped).await;
        assert_eq!(found(&*store).await, wanted_rows, "skipped");
        rebuild(&service).await;
        caught_up(&log, &service).await;
        assert_eq!(found(&*store).await, wanted_rows, "rebuilt with skips");
    }
    service.stop().await;
}

fn run(history: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(history);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn live_is_rebuilt_is_folded_by_hand_in_memory(steps in steps(), partitions in 1..4_u32, park in any::<bool>()) {
        run(history(steps, partitions, if park { Policy::Park } else { Policy::Skip }, Sink::memory(), None));
    }

    #[test]
    fn live_is_rebuilt_is_folded_by_hand_on_sqlite(steps in steps(), partitions in 1..4_u32) {
        run(history(steps, partitions, Policy::Park, Sink::sqlite(), None));
    }

    #[test]
    fn a_sink_that_loses_answers_doubles_nothing(steps in steps(), partitions in 1..4_u32, seed in any::<u64>()) {
        run(history(steps, partitions, Policy::Park, Sink::memory(), Some(seed)));
    }
}

proptest! {
    // Each case is some hundred transactions that wait for the disk.
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn live_is_rebuilt_is_folded_by_hand_on_postgres(steps in steps(), partitions in 1..4_u32) {
        run(async { history(steps, partitions, Policy::Park, Sink::postgres().await, None).await });
    }

    #[test]
    fn live_is_rebuilt_is_folded_by_hand_on_redis(steps in steps(), partitions in 1..4_u32) {
        run(async { history(steps, partitions, Policy::Park, Sink::redis().await, None).await });
    }

    #[test]
    fn a_redis_that_loses_answers_doubles_nothing(steps in steps(), partitions in 1..4_u32, seed in any::<u64>()) {
        run(async { history(steps, partitions, Policy::Park, Sink::redis().await, Some(seed)).await });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_sink_double_nothing() {
    two_processes(Sink::memory(), false).await;
    two_processes(Sink::memory(), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_database_double_nothing() {
    two_processes(Sink::postgres().await, false).await;
    two_processes(Sink::postgres().await, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_redis_double_nothing() {
    two_processes(Sink::redis().await, false).await;
    two_processes(Sink::redis().await, true).await;
}

/// They share the partitions out, or each folds all of them, where `alone` has both believe that nobody else is there.
async fn two_processes(sink: Sink, alone: bool) {
    let log = Log::new(3);
    let wanted = desired(&manifest(3, "Park"));
    let open =
        || -> Arc<dyn ViewStore> { if alone { Arc::new(Flaky::alone(sink.open())) } else { sink.open() } };
    let one = start(&log, open(), wanted.clone()).await;
    let two = start(&log, open(), wanted.clone()).await;
    for number in 0..600_u32 {
        append(&log, &Step::Set((number % 6) as u8, (number % 4) as u8, i64::from(number % 11) + 1)).await;
    }
    caught_up(&log, &one).await;
    caught_up(&log, &two).await;
    assert_eq!(found(&*sink.open()).await, expected(&log, Policy::Park, &BTreeSet::new()).await);
    assert_eq!(sink.open().rollout().await.unwrap().revisions.len(), 1, "both wanted the same revision");
    one.stop().await;
    two.stop().await;
}

#[test]
fn the_oracle_notices_a_lost_and_a_doubled_event() {
    run(async {
        let log = Log::new(1);
        append(&log, &Step::Set(1, 1, 5)).await;
        let before = expected(&log, Policy::Park, &BTreeSet::new()).await;
        append(&log, &Step::Set(1, 1, 5)).await;
        assert_ne!(expected(&log, Policy::Park, &BTreeSet::new()).await, before);
        let flaky = Flaky::new(Sink::memory().open(), 2, 1);
        for _ in 0..20 {
            let _ =
                flaky.change(headwater_view::RolloutVersion(9), &headwater_view::Change::ReleaseHold).await;
        }
        assert!(flaky.failures.load(Ordering::SeqCst) > 3, "the store that fails does fail");
    });
}
