//! Servers that are killed, and servers that are set back to an older state.

use std::sync::Arc;
use std::time::Duration;

use headwater_redis::RedisView;
use headwater_testkit::redis::Redis;
use headwater_view::{ApplyError, Cell, Change, Query, RowVersion, ViewAdmin, ViewReader, ViewSink};
use uuid::Uuid;

use crate::support::{account, accounts, batch, create, new_revision, position, promote};

/// Rows of a batch.
const ROWS: u64 = 300;

/// Every batch brings new rows and writes the same account. What is there after each kill is a whole number of batches, and those that were
/// answered are among them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_in_mid_batch_holds_whole_batches() {
    let server = Arc::new(Redis::start().unwrap());
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    promote(&store, revision).await;
    let mut query =
        Query::by_key(revision, 0, &accounts(), &headwater_view::Key::new(vec![Cell::Text("sum".into())]));
    for _ in 0..6 {
        let mut at = position(&store, revision).await;
        let load = headwater_view::Load { revision, rows: vec![(0, vec![sum_key()])] };
        let mut version: Option<RowVersion> =
            store.load(&load).await.unwrap()[0][0].as_ref().map(|(_, version)| *version);
        let killer = tokio::task::spawn_blocking({
            let server = server.clone();
            move || {
                // The moment of the kill is the input of this test, not a wait for something.
                std::thread::sleep(Duration::from_millis((Uuid::new_v4().as_u128() % 150) as u64));
                server.kill().unwrap();
                server.resume().unwrap();
            }
        });
        let answered = loop {
            let mut rows: Vec<_> = (0..ROWS).map(|row| account(&format!("{at}-{row}"), "1", None)).collect();
            rows.push(account("sum", &(at + 1).to_string(), version));
            match store.apply(batch(revision, at, at + 1, rows)).await {
                Ok(written) => {
                    version = Some(RowVersion(written.version));
                    at += 1;
                }
                Err(ApplyError::Failed(error)) => {
                    assert!(error.is_retryable(), "{error}");
                    break at;
                }
                Err(other) => panic!("{other}"),
            }
        };
        killer.await.unwrap();
        let found = position(&store, revision).await;
        assert!(found == answered || found == answered + 1, "{found}, and {answered} were answered");
        let sum = store.query(&query).await.unwrap();
        let shown = sum.rows.first().map(|row| row[2].to_string());
        assert_eq!(shown, (found > 0).then(|| found.to_string()));
        query.limit = 1;
        let rows = server.cli(&["ZCARD", "{p}:hw:g1:order:accounts"]).unwrap();
        let wanted = if found == 0 { 0 } else { found * ROWS + 1 };
        assert_eq!(rows.trim(), wanted.to_string());
        let keys = server.cli(&["EVAL", "return #redis.call('KEYS', '{p}:g1:*')", "0"]).unwrap();
        assert_eq!(keys.trim(), wanted.to_string());
        assert_eq!(server.cli(&["ZCARD", "{p}:hw:g1:index:accounts:1"]).unwrap().trim(), wanted.to_string());
    }
}

fn sum_key() -> headwater_view::Key {
    headwater_view::Key::new(vec![Cell::Text("sum".into())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_set_back_says_where_it_is_and_never_repeats_a_version() {
    let server = Redis::start().unwrap();
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    let first = store.apply(batch(revision, 0, 5, vec![account("a", "1", None)])).await.unwrap();
    let snapshot = server.snapshot().unwrap();
    let version = Some(RowVersion(first.version));
    let second = store.apply(batch(revision, 5, 9, vec![account("a", "2", version)])).await.unwrap();
    server.restore(&snapshot).unwrap();

    // The first call finds its connection cut; a worker that knows nothing of it is told where to go on.
    let version = Some(RowVersion(second.version));
    let told = loop {
        match store.apply(batch(revision, 9, 10, vec![account("a", "3", version)])).await {
            Err(ApplyError::Failed(error)) if error.is_retryable() => {}
            other => break other,
        }
    };
    assert!(matches!(told, Err(ApplyError::Checkpoint { found }) if found.get() == 5), "{told:?}");
    let version = Some(RowVersion(first.version));
    let again = store.apply(batch(revision, 5, 9, vec![account("a", "2", version)])).await.unwrap();
    assert!(again.version > second.version, "versions go on, also where the last is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_was_made_anew_in_redis_is_not_taken_for_the_one_before() {
    let server = Redis::start().unwrap();
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let empty = server.snapshot().unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await.unwrap();
    server.restore(&empty).unwrap();
    let gone = loop {
        match store.apply(batch(revision, 0, 2, vec![])).await {
            Err(ApplyError::Failed(error)) if error.is_retryable() => {}
            other => break other,
        }
    };
    assert!(matches!(gone, Err(ApplyError::Gone { .. })), "{gone:?}");

    // Nor is it afterwards, for whoever has not begun again.
    let anew = create(&store, "a", vec![accounts()]).await;
    assert_eq!(anew, revision);
    let refused = store.apply(batch(revision, 0, 1, vec![])).await;
    assert!(
        matches!(&refused, Err(ApplyError::Failed(error)) if error.to_string().contains("was made anew since")),
        "{refused:?}"
    );
    server.restore(&empty).unwrap();
    while store.begin_again().await.is_err_and(|error| error.is_retryable()) {}

    // It is made anew by another, whom this one has not seen.
    let keeps_the_old = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let anew = create(&keeps_the_old, "a", vec![accounts()]).await;
    assert_eq!(anew, revision);
    store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await.unwrap();
    server.restore(&empty).unwrap();
    let other = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    create(&other, "b", vec![accounts()]).await;
    let refused = loop {
        match store.apply(batch(revision, 0, 1, vec![])).await {
            // The first call finds its connection cut.
            Err(ApplyError::Failed(error)) if !error.to_string().contains("was made anew since") => {
                assert!(error.is_retryable(), "{error}");
            }
            other => break other,
        }
    };
    assert!(matches!(&refused, Err(ApplyError::Failed(_))), "{refused:?}");
    assert_eq!(position(&other, revision).await, 0);
    // Whoever begins again is where the other is.
    store.begin_again().await.unwrap();
    assert_eq!(position(&store, revision).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_emptied_is_nobodys_until_it_is_taken_again() {
    let server = Redis::start().unwrap();
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    let version = store.rollout().await.unwrap().version;
    server.cli(&["FLUSHALL"]).unwrap();

    // Nothing is written into it without its name and format: a later start could not tell what it is.
    let change = Change::Create(new_revision("a", vec![accounts()]));
    let refused = store.change(store.rollout().await.unwrap().version, &change).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("was emptied"), "{refused}");
    assert_eq!(server.cli(&["DBSIZE"]).unwrap().trim(), "0");

    store.begin_again().await.unwrap();
    assert_eq!(create(&store, "a", vec![accounts()]).await, revision);
    assert_ne!(store.rollout().await.unwrap().version, version, "decisions on what was there are refused");
    RedisView::open(&server.url(), "p", "accounts").await.unwrap();

    server.cli(&["FLUSHALL"]).unwrap();
    let other = RedisView::open(&server.url(), "p", "others").await.unwrap();
    create(&other, "b", vec![accounts()]).await;
    let refused = store.rollout().await.unwrap_err().to_string();
    assert!(
        refused.contains("projection \"others\"") && refused.contains("sink.redis.keyPrefix"),
        "{refused}"
    );
    let refused = store.begin_again().await.unwrap_err().to_string();
    assert!(refused.contains("sink.redis.keyPrefix"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_is_waited_for_by_those_who_read() {
    let server = Arc::new(Redis::start().unwrap());
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    server.kill().unwrap();
    let error = store.rollout().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    server.resume().unwrap();
    assert_eq!(store.rollout().await.unwrap().candidate, Some(revision));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_memory_is_full_refuses_a_batch_whole_and_says_what_to_do() {
    let server = Redis::start().unwrap();
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await;
    match refused {
        Err(ApplyError::Failed(error)) if error.is_retryable() => {
            assert!(error.to_string().contains("raise maxmemory"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(position(&store, revision).await, 0);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await.unwrap();
}
