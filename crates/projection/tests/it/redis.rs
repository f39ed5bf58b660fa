//! A projection over a Redis that is killed, and one that is set back to an older state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_core::{EventType, NewEvent};
use headwater_redis::RedisView;
use headwater_testkit::redis::Redis;
use headwater_view::ViewStore;
use uuid::Uuid;

use crate::support::{Log, PATIENCE, caught_up, desired, start, try_rows};

/// `sums` are added up; `items` have a rule that reads the row; some events give several rows.
const MANIFEST: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: s}
spec: {partitions: 2}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: p}
spec:
  streamRef: {name: s}
  tables:
  - name: sums
    key: [name]
    writers: ManyStreams
    columns:
    - {name: name, type: Text}
    - {name: sum, type: Integer}
  - name: items
    key: [id]
    indexes: [{columns: [count]}]
    columns:
    - {name: id, type: Text}
    - {name: count, type: Integer, default: "0"}
  - name: lines
    key: [id, line]
    columns:
    - {name: id, type: Text}
    - {name: line, type: Integer}
  rules:
  - {events: [Added], type: Increment, table: sums, key: {name: event.data.name}, by: {sum: event.data.n}}
  - {events: [Added], type: Upsert, table: items, key: {id: event.streamId}, set: {count: "(row == null ? 0 : row.count) + event.data.n"}}
  - {events: [Added], forEach: {in: event.data.lines, as: line}, type: Upsert, table: lines, key: {id: event.streamId, line: line}}
"#;

/// Appends `count` events, and adds up what they give.
async fn append(log: &Log, count: u64, expected: &mut [BTreeMap<String, i64>; 3]) {
    for number in 0..count {
        let (stream, name, n) =
            (format!("item-{}", number % 7), format!("n{}", number % 3), number as i64 % 5);
        let lines: Vec<u64> = (0..number % 4).collect();
        let data = serde_json::json!({ "name": name, "n": n, "lines": lines });
        let event = NewEvent::json(EventType::new("Added").unwrap(), data.to_string());
        log.append_all(&stream, vec![event]).await;
        *expected[0].entry(name).or_default() += n;
        *expected[1].entry(stream.clone()).or_default() += n;
        for line in lines {
            expected[2].insert(format!("{stream}/{line}"), line as i64);
        }
    }
}

async fn found(store: &dyn ViewStore) -> [BTreeMap<String, i64>; 3] {
    try_found(store).await.unwrap()
}

async fn try_found(store: &dyn ViewStore) -> Option<[BTreeMap<String, i64>; 3]> {
    let mut found = [BTreeMap::new(), BTreeMap::new(), BTreeMap::new()];
    for (of, table) in found.iter_mut().zip(["sums", "items", "lines"]) {
        for (key, row) in try_rows(store, table).await? {
            of.insert(key, row.last().unwrap().parse().unwrap());
        }
    }
    Some(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_set_back_is_folded_into_again_from_there() {
    let server = Redis::start().unwrap();
    let store: Arc<dyn ViewStore> = Arc::new(RedisView::open(&server.url(), "p", "p").await.unwrap());
    let log = Log::new(2);
    let service = start(&log, store.clone(), desired(MANIFEST)).await;
    let mut expected = Default::default();
    append(&log, 200, &mut expected).await;
    caught_up(&log, &service).await;
    let snapshot = server.snapshot().unwrap();
    let before = found(&*store).await;
    append(&log, 200, &mut expected).await;
    caught_up(&log, &service).await;
    assert_ne!(found(&*store).await, before);

    // Once with no event to come, and once with some.
    for more in [0, 100] {
        server.restore(&snapshot).unwrap();
        append(&log, more, &mut expected).await;
        caught_up(&log, &service).await;
        assert_eq!(found(&*store).await, expected, "with {more} more");
    }
    service.stop().await;
    // Another process finds the same.
    let again = start(&log, store.clone(), desired(MANIFEST)).await;
    caught_up(&log, &again).await;
    assert_eq!(found(&*store).await, expected);
    again.stop().await;
}

/// Waits until the store holds all of `expected`, and nothing else.
async fn until_found(store: &dyn ViewStore, expected: &[BTreeMap<String, i64>; 3], what: &str) {
    let began = Instant::now();
    loop {
        let found = try_found(store).await;
        if found.as_ref() == Some(expected) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {found:?} and not {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two processes share it out, and neither is started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_is_built_anew_wholly() {
    let server = Redis::start().unwrap();
    let open = async || Arc::new(RedisView::open(&server.url(), "p", "p").await.unwrap());
    let stores: [Arc<dyn ViewStore>; 2] = [open().await, open().await];
    let log = Log::new(2);
    let services = [
        start(&log, stores[0].clone(), desired(MANIFEST)).await,
        start(&log, stores[1].clone(), desired(MANIFEST)).await,
    ];
    let mut expected = Default::default();
    append(&log, 200, &mut expected).await;
    for store in &stores {
        until_found(&**store, &expected, "at first").await;
    }
    // Once with no event to come, and then with some, while they are folded.
    for more in [0, 100, 100] {
        let during = append(&log, more, &mut expected);
        let empty = async { server.cli(&["FLUSHALL"]).unwrap() };
        tokio::join!(during, empty);
        for (store, service) in stores.iter().zip(&services) {
            until_found(&**store, &expected, &format!("with {more} more")).await;
            caught_up(&log, service).await;
        }
    }
    for service in services {
        service.stop().await;
    }
    // It has its name and its format again.
    let again = start(&log, open().await, desired(MANIFEST)).await;
    caught_up(&log, &again).await;
    until_found(&*stores[0], &expected, "at the end").await;
    again.stop().await;
}

/// Nothing that was there is missed then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_before_anything_is_built_is_taken_again() {
    let server = Redis::start().unwrap();
    let store: Arc<dyn ViewStore> = Arc::new(RedisView::open(&server.url(), "p", "p").await.unwrap());
    let log = Log::new(2);
    let mut expected = Default::default();
    append(&log, 20, &mut expected).await;
    server.cli(&["FLUSHALL"]).unwrap();
    let service = start(&log, Arc::clone(&store), desired(MANIFEST)).await;
    until_found(&*store, &expected, "it was empty").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_while_events_are_folded_doubles_nothing() {
    let server = Arc::new(Redis::start().unwrap());
    let store: Arc<dyn ViewStore> = Arc::new(RedisView::open(&server.url(), "p", "p").await.unwrap());
    let log = Log::new(2);
    let service = start(&log, store.clone(), desired(MANIFEST)).await;
    let mut expected = Default::default();
    append(&log, 10, &mut expected).await;
    caught_up(&log, &service).await;
    let killer = tokio::task::spawn_blocking({
        let server = server.clone();
        move || {
            for _ in 0..4 {
                // The moment of the kill is the input of this test, not a wait for something.
                std::thread::sleep(Duration::from_millis((Uuid::new_v4().as_u128() % 100) as u64));
                server.kill().unwrap();
                server.resume().unwrap();
            }
        }
    });
    let mut batches = 0;
    while !killer.is_finished() || batches == 0 {
        append(&log, 50, &mut expected).await;
        batches += 1;
    }
    killer.await.unwrap();
    caught_up(&log, &service).await;
    assert_eq!(found(&*store).await, expected);
    service.stop().await;
}
