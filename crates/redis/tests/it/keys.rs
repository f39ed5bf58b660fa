//! What people find in Redis, and what others may have put there.

use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Error, LogId, PartitionCount};
use headwater_redis::{RedisView, remove};
use headwater_testkit::redis::Redis;
use headwater_view::{
    ApplyError, Cell, Change, ChangeError, Look, Member, RowVersion, RowWrite, SinkLeases, Standing,
    ViewAdmin, ViewSink,
};
use uuid::Uuid;

use crate::support::{
    account, accounts, batch, change, create, new_revision, position, promote, text, write,
};

async fn open() -> (Arc<Redis>, String, RedisView) {
    let (server, prefix) = (Redis::shared().unwrap(), Redis::prefix());
    let store = RedisView::open(&server.url(), &prefix, "accounts").await.unwrap();
    (server, prefix, store)
}

/// Renames a key, if it is there.
fn rename(server: &Redis, from: &str, to: &str) {
    if server.cli(&["EXISTS", from]).unwrap().trim() == "1" {
        server.cli(&["RENAME", from, to]).unwrap();
    }
}

fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn people_read_the_active_revision_with_redis_cli() {
    let (server, prefix, store) = open().await;
    let revision = create(&store, "a", vec![accounts()]).await;
    let active = format!("{{{prefix}}}:active");
    assert_eq!(server.cli(&["EXISTS", &active]).unwrap().trim(), "0", "nothing serves yet");
    let cells = vec![
        text("cd371b90"),
        text("Ada"),
        Cell::Decimal("1500.50".parse().unwrap()),
        Cell::Boolean(true),
        Cell::timestamp("2026-01-02T03:04:05.5Z".parse().unwrap()).unwrap(),
        Cell::Json(r#"{"a":[1.10]}"#.into()),
    ];
    let written = store.apply(batch(revision, 0, 1, vec![write(cells, None)])).await.unwrap();
    promote(&store, revision).await;
    assert_eq!(server.cli(&["GET", &active]).unwrap().trim(), "1");
    let row = format!("{{{prefix}}}:g1:accounts:cd371b90");
    let whole = [
        ("Owner name", "Ada"),
        ("balance", "1500.50"),
        ("extra", r#"{"a":[1.10]}"#),
        ("id", "cd371b90"),
        ("open", "true"),
        ("since", "2026-01-02T03:04:05.500000Z"),
    ];
    assert_eq!(server.hash(&row).unwrap(), fields(&whole));

    // A null is a field that is not there, and a row that is removed leaves nothing.
    let version = Some(RowVersion(written.version));
    let written =
        store.apply(batch(revision, 1, 2, vec![account("cd371b90", "-0.10", version)])).await.unwrap();
    assert_eq!(server.hash(&row).unwrap(), fields(&[("balance", "-0.10"), ("id", "cd371b90")]));
    let version = Some(RowVersion(written.version));
    let removal = RowWrite { state: None, ..account("cd371b90", "0", version) };
    store.apply(batch(revision, 2, 3, vec![removal])).await.unwrap();
    assert_eq!(server.cli(&["EXISTS", &row]).unwrap().trim(), "0");
}

#[tokio::test]
async fn a_key_of_another_kind_refuses_the_whole_batch_in_redis() {
    let (server, prefix, store) = open().await;
    let revision = create(&store, "a", vec![accounts()]).await;
    let written = store.apply(batch(revision, 0, 1, vec![account("b", "1", None)])).await.unwrap();
    let version = Some(RowVersion(written.version));
    let rows = || vec![account("a", "1", None), account("b", "2", version), account("c", "3", None)];
    // In the way of a new row: anything. In the way of one that is there, and of what belongs to the table: another kind.
    let index = format!("{{{prefix}}}:hw:g1:index:accounts:1");
    let was = server.cli(&["ZRANGE", &index, "0", "-1"]).unwrap();
    for (key, put, kind) in [
        ("g1:accounts:c", &["SET", "mine"][..], "string"),
        ("g1:accounts:a", &["HSET", "id", "mine"], "hash"),
        ("g1:accounts:b", &["SET", "mine"], "string"),
        ("hw:skips", &["SET", "mine"], "string"),
        ("hw:g1:entries:accounts:1", &["SET", "mine"], "string"),
    ] {
        let key = format!("{{{prefix}}}:{key}");
        let kept = format!("{key}:kept");
        rename(&server, &key, &kept);
        let mut command = vec![put[0], &key];
        command.extend(&put[1..]);
        server.cli(&command).unwrap();
        match store.apply(batch(revision, 1, 2, rows())).await {
            Err(ApplyError::Failed(Error::FailedPrecondition { message })) => {
                assert!(message.contains(&format!("the key {key} holds a {kind} ")), "{message}");
            }
            other => panic!("{key}: {other:?}"),
        }
        server.cli(&["DEL", &key]).unwrap();
        rename(&server, &kept, &key);
        assert_eq!(position(&store, revision).await, 1);
        assert_eq!(server.cli(&["EXISTS", &format!("{{{prefix}}}:g1:accounts:a")]).unwrap().trim(), "0");
        let balance = server.cli(&["HGET", &format!("{{{prefix}}}:g1:accounts:b"), "balance"]).unwrap();
        assert_eq!(balance.trim(), "1");
        assert_eq!(server.cli(&["ZRANGE", &index, "0", "-1"]).unwrap(), was);
    }
    store.apply(batch(revision, 1, 2, rows())).await.unwrap();
}

#[tokio::test]
async fn memory_that_is_short_refuses_the_whole_batch_in_redis() {
    let server = Redis::start().unwrap();
    let store = RedisView::open(&server.url(), "p", "accounts").await.unwrap();
    let revision = create(&store, "a", vec![accounts()]).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let refused = store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await;
    match refused {
        Err(ApplyError::Failed(error)) => {
            assert!(error.is_retryable() && error.to_string().contains("OOM"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(position(&store, revision).await, 0);
    assert_eq!(server.cli(&["KEYS", "{p}:g1:*"]).unwrap().trim(), "");
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    store.apply(batch(revision, 0, 1, vec![account("a", "1", None)])).await.unwrap();
}

#[tokio::test]
async fn a_prefix_in_redis_keeps_what_it_was_made_for() {
    let (server, prefix, store) = open().await;
    create(&store, "a", vec![accounts()]).await;
    let url = server.url();
    let refused = async |prefix: &str, name: &str, part: &str| {
        let error = RedisView::open(&url, prefix, name).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(&prefix, "bills", "of projection \"accounts\", and not of \"bills\"").await;
    let state = format!("{{{prefix}}}:hw:state");
    server.cli(&["HSET", &state, "format", "2"]).unwrap();
    refused(&prefix, "accounts", "written by a newer Headwater (its format is 2, this one knows 1)").await;
    server.cli(&["DEL", &state]).unwrap();
    server.cli(&["SET", &state, "mine"]).unwrap();
    refused(&prefix, "accounts", "is not Headwater's; nothing was changed").await;
    refused("a}b", "accounts", "keyPrefix").await;
}

#[tokio::test]
async fn what_a_person_left_at_a_new_revision_in_redis_is_not_overwritten() {
    let (server, prefix, store) = open().await;
    server.cli(&["SET", &format!("{{{prefix}}}:hw:g1:progress"), "mine"]).unwrap();
    let create = Change::Create(new_revision("a", vec![accounts()]));
    let refused = store.change(store.rollout().await.unwrap().version, &create).await;
    assert!(
        matches!(&refused, Err(ChangeError::Failed(Error::FailedPrecondition { message })) if message.contains(":hw:g1:progress holds a string")),
        "{refused:?}"
    );
    assert!(store.rollout().await.unwrap().revisions.is_empty());
}

#[tokio::test]
async fn addresses_that_are_none_and_a_redis_that_is_not_there_say_what_to_do() {
    for url in ["postgres://me@db/banku", "redis://:secret@host:port", "127.0.0.1:6379"] {
        let error = RedisView::open(url, "p", "accounts").await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("write redis://[USER:PASSWORD@]HOST"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = RedisView::open(&format!("redis://:secret@{closed}"), "p", "accounts").await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let said = error.to_string();
    assert!(said.contains(&format!("Redis at {closed}, database 0")) && !said.contains("secret"), "{said}");
}

#[tokio::test]
async fn a_redis_that_wants_a_password_says_so() {
    let server = Redis::start().unwrap();
    server.cli(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    for (user, what) in [("", "without"), (":wrong@", "with a wrong one")] {
        let url = server.url().replace("redis://", &format!("redis://{user}"));
        let error = RedisView::open(&url, "p", "accounts").await.unwrap_err();
        assert!(matches!(&error, Error::FailedPrecondition { .. }), "{what}: {error}");
        assert!(error.to_string().contains("in the URL"), "{what}: {error}");
    }
    let url = server.url().replace("redis://", "redis://:secret@");
    RedisView::open(&url, "p", "accounts").await.unwrap();
}

#[tokio::test]
async fn a_dropped_revision_leaves_no_key_in_redis_even_when_it_was_cut_off() {
    let (server, prefix, store) = open().await;
    let revision = create(&store, "a", vec![accounts()]).await;
    for position in 0..30 {
        let rows = (0..1000).map(|row| account(&format!("{position}-{row}"), "1", None));
        store.apply(batch(revision, position, position + 1, rows.collect())).await.unwrap();
    }
    let count = |what: &str| {
        server.cli(&["EVAL", "return #redis.call('KEYS', ARGV[1])", "0", what]).unwrap().trim().to_owned()
    };
    let (rows, own) = (format!("{{{prefix}}}:g1:*"), format!("{{{prefix}}}:hw:g1:*"));
    assert_eq!((count(&rows), count(&own)), ("30000".into(), "5".into()));
    let dropping = tokio::spawn({
        let store = store.clone();
        async move { change(&store, Change::Drop { revision }).await }
    });
    // It is unlisted first; the rest goes step by step.
    let state = format!("{{{prefix}}}:hw:state");
    while server.cli(&["HEXISTS", &state, "dropped:1"]).unwrap().trim() == "0" {
        tokio::task::yield_now().await;
    }
    dropping.abort();
    let ended = dropping.await;
    assert!(ended.is_err_and(|error| error.is_cancelled()), "it was not cut off");
    assert!(store.rollout().await.unwrap().revisions.is_empty());
    assert!(matches!(store.apply(batch(revision, 30, 31, vec![])).await, Err(ApplyError::Gone { .. })));
    assert_ne!(count(&own), "0", "something is left");
    let again = RedisView::open(&server.url(), &prefix, "accounts").await.unwrap();
    assert_eq!((count(&rows), count(&own)), ("0".into(), "0".into()));
    assert!(again.rollout().await.unwrap().revisions.is_empty());
}

#[tokio::test]
async fn a_read_model_in_redis_is_removed_for_its_projection_alone_and_leaves_no_key() {
    let (server, prefix, store) = open().await;
    let url = server.url();
    let revision = create(&store, "a", vec![accounts()]).await;
    let rows = (0..2_500).map(|row| account(&row.to_string(), "1", None));
    store.apply(batch(revision, 0, 1, rows.collect())).await.unwrap();
    promote(&store, revision).await;
    create(&store, "b", vec![accounts()]).await;
    let log_id = store.rollout().await.unwrap().log.unwrap().0;
    for theirs in ["theirs", "g20x:y"] {
        server.cli(&["SET", &format!("{{{prefix}}}:{theirs}"), "1"]).unwrap();
    }
    let count = || {
        let all = format!("{{{prefix}}}:*");
        server.cli(&["EVAL", "return #redis.call('KEYS', ARGV[1])", "0", &all]).unwrap().trim().to_owned()
    };
    let before = count();
    let refused = async |name: &str, log_id: Option<LogId>, part: &str| {
        let said = remove(&url, &prefix, name, log_id).await.unwrap_err();
        assert!(
            matches!(&said, Error::FailedPrecondition { message } if message.contains(part) && message.contains("nothing was changed")),
            "{said}"
        );
        assert_eq!(count(), before);
    };
    refused("bills", None, "of projection \"accounts\"").await;
    refused("accounts", Some(LogId::generate()), "which is another's").await;
    refused("accounts", None, &format!("--delete-data={log_id}")).await;
    let member =
        Member { id: Uuid::new_v4(), name: "w-1".into(), standing: Standing::Folds, report: String::new() };
    let look = Look { member, hold: vec![], partitions: PartitionCount::ONE, term: Duration::from_mins(1) };
    store.look(&look).await.unwrap();
    let said = remove(&url, &prefix, "accounts", Some(log_id)).await.unwrap_err().to_string();
    assert!(said.contains("in use by w-1"), "{said}");
    store.leave(look.member.id).await.unwrap();

    assert!(remove(&url, &prefix, "accounts", Some(log_id)).await.unwrap());
    assert_eq!(count(), "2", "what is theirs");
    assert!(!remove(&url, &prefix, "accounts", Some(log_id)).await.unwrap(), "it is gone");
    RedisView::open(&url, &prefix, "bills").await.unwrap();
}

#[tokio::test]
async fn nobody_takes_a_prefix_in_redis_before_all_of_it_is_gone() {
    let (server, prefix, store) = open().await;
    let revision = create(&store, "a", vec![accounts()]).await;
    let rows = (0..100_000).map(|row| account(&row.to_string(), "1", None));
    for (position, rows) in rows.collect::<Vec<_>>().chunks(1_000).enumerate() {
        store.apply(batch(revision, position as u64, position as u64 + 1, rows.to_vec())).await.unwrap();
    }
    let url = server.url();
    let log_id = store.rollout().await.unwrap().log.map(|(log_id, _)| log_id);
    let removing = tokio::spawn({
        let (url, prefix) = (url.clone(), prefix.clone());
        async move { remove(&url, &prefix, "accounts", log_id).await }
    });
    let state = format!("{{{prefix}}}:hw:state");
    while server.cli(&["HEXISTS", &state, "removing"]).unwrap().trim() == "0" {
        tokio::task::yield_now().await;
    }
    removing.abort();
    let ended = removing.await;
    assert!(ended.is_err_and(|error| error.is_cancelled()), "it was not cut off");
    let said = RedisView::open(&url, &prefix, "accounts").await.unwrap_err();
    assert!(
        matches!(&said, Error::FailedPrecondition { message } if message.contains("is being removed")),
        "{said}"
    );
    assert!(remove(&url, &prefix, "accounts", log_id).await.unwrap());
    let all = format!("{{{prefix}}}:*");
    let left = server.cli(&["EVAL", "return #redis.call('KEYS', ARGV[1])", "0", &all]).unwrap();
    assert_eq!(left.trim(), "0");
    RedisView::open(&url, &prefix, "accounts").await.unwrap();
}
