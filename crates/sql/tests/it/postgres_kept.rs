//! What is kept in a PostgreSQL database, and its end.

use std::time::Duration;

use headwater_core::{Error, LogId, PartitionCount, Positions};
use headwater_log::{LeaseStore, LogReader};
use headwater_sql::{
    Claim, Database, Keeps, KeptSchema, Owner, PostgresLog, PostgresView, RemoveAs, find, list, remove,
};
use headwater_testkit::postgres::Postgres;
use headwater_view::{
    Cell, Change, Column, ColumnType, Index, Look, Member, NewRevision, SinkLeases, Standing, TableSchema,
    ViewAdmin, Writers,
};
use jiff::Timestamp;
use uuid::Uuid;

fn database(server: &Postgres) -> Database {
    Database { url: server.url(), schema: Postgres::schema(), max_connections: 4, tls: None }
}

fn owner(name: &str, uid: &str) -> Owner {
    Owner {
        namespace: "shop".into(),
        kind: "EventStream".into(),
        name: name.into(),
        uid: Some(uid.to_owned()),
    }
}

async fn log(database: &Database) -> PostgresLog {
    let claim = Claim { owner: owner("orders", "a"), adopt: None };
    PostgresLog::open_for(&claim, database, "orders", PartitionCount::ONE).await.unwrap()
}

/// A read model with two revisions, the first of which is active.
async fn read_model(database: &Database, log_id: LogId) -> PostgresView {
    let view = PostgresView::open(database, "orders").await.unwrap();
    let new = |digest: &str| NewRevision {
        digest: digest.into(),
        definition: "{}".into(),
        tables: vec![TableSchema {
            name: "order".into(),
            columns: vec![Column::new("id", ColumnType::Text, Cell::Null)],
            key: vec![0],
            indexes: vec![Index { columns: vec![0] }],
            writers: Writers::Free,
        }],
        log_id,
        partitions: PartitionCount::ONE,
        start: Positions::default(),
    };
    let mut version = view.rollout().await.unwrap().version;
    let rollout = view.change(version, &Change::Create(new("a"))).await.unwrap();
    version = rollout.version;
    let promote =
        Change::Promote { revision: rollout.candidate.unwrap(), keep_until: Timestamp::now(), hold: None };
    version = view.change(version, &promote).await.unwrap().version;
    view.change(version, &Change::Create(new("b"))).await.unwrap();
    view
}

fn as_log(owner: Owner) -> RemoveAs {
    RemoveAs::Log { owner, log_id: None }
}

fn relations(server: &Postgres, database: &Database) -> String {
    let line =
        format!("SELECT count(*) FROM pg_class WHERE relnamespace = '{}'::regnamespace", database.schema);
    server.query(&line).unwrap().trim().to_owned()
}

fn schemas(server: &Postgres, database: &Database) -> String {
    let line = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{}'", database.schema);
    server.query(&line).unwrap().trim().to_owned()
}

#[track_caller]
fn refused(removed: Result<Option<KeptSchema>, Error>, part: &str) {
    let said = removed.unwrap_err();
    assert!(
        matches!(&said, Error::FailedPrecondition { message } if message.contains(part) && message.contains("nothing was changed")),
        "{said}"
    );
}

#[tokio::test]
async fn what_a_database_keeps_is_listed_with_whose_it_is_and_who_uses_it() {
    let server = Postgres::shared().unwrap();
    let (of_log, of_view) = (database(&server), database(&server));
    let log = log(&of_log).await;
    let log_id = log.descriptor().log_id;
    let member = headwater_log::Member { id: Uuid::new_v4(), address: "http://10.0.0.1:50051".into() };
    log.renew(&member, Duration::from_mins(1)).await.unwrap();
    let view = read_model(&of_view, log_id).await;
    let all = Box::pin(list(&Database { schema: "public".into(), ..of_log.clone() })).await.unwrap();
    let of = |database: &Database| all.iter().find(|it| it.schema == database.schema).unwrap().clone();
    let kept = of(&of_log);
    assert_eq!(
        KeptSchema { bytes: None, ..kept.clone() },
        KeptSchema {
            schema: of_log.schema.clone(),
            keeps: Keeps::Log,
            name: Some("orders".into()),
            log_id: Some(log_id),
            owner: Some(owner("orders", "a")),
            events: Some(0),
            bytes: None,
            used_by: vec!["http://10.0.0.1:50051".into()],
        }
    );
    assert!(kept.bytes.unwrap() > 0, "{kept:?}");
    let kept = of(&of_view);
    assert_eq!(
        (kept.keeps, kept.name.as_deref(), kept.log_id, kept.events, &kept.used_by[..]),
        (Keeps::ReadModel, Some("orders"), Some(log_id), None, &[][..])
    );
    assert_eq!(find(&of_view).await.unwrap(), Some(kept));
    assert_eq!(find(&database(&server)).await.unwrap(), None, "there is no such schema");
    log.close().await;
    view.close().await;
}

#[tokio::test]
async fn a_log_is_removed_for_its_owner_alone_and_when_nobody_uses_it() {
    let server = Postgres::shared().unwrap();
    let database = database(&server);
    let log = log(&database).await;
    let log_id = log.descriptor().log_id;
    let before = relations(&server, &database);
    let others = [
        as_log(owner("orders", "b")),
        as_log(owner("bills", "a")),
        as_log(Owner { kind: "Saga".into(), ..owner("orders", "a") }),
        RemoveAs::ReadModel { name: "orders".into(), log_id: Some(log_id) },
        RemoveAs::Log { owner: owner("orders", "a"), log_id: Some(LogId::generate()) },
    ];
    for other in &others {
        refused(remove(&database, other).await, "which is another's");
    }
    let own = as_log(owner("orders", "a"));
    let member = headwater_log::Member { id: Uuid::new_v4(), address: "http://10.0.0.1:50051".into() };
    log.renew(&member, Duration::from_mins(1)).await.unwrap();
    for by in [&own, &RemoveAs::Person] {
        refused(remove(&database, by).await, "is in use by http://10.0.0.1:50051");
    }
    assert_eq!(relations(&server, &database), before);
    log.leave(member.id).await.unwrap();
    log.close().await;
    assert_eq!(remove(&database, &own).await.unwrap().unwrap().log_id, Some(log_id));
    assert_eq!(schemas(&server, &database), "0");
    assert_eq!(remove(&database, &own).await.unwrap(), None, "it is gone");
    let claim = Claim { owner: owner("bills", "c"), adopt: None };
    let new = PostgresLog::open_for(&claim, &database, "bills", PartitionCount::ONE).await.unwrap();
    assert_ne!(new.descriptor().log_id, log_id);
}

#[tokio::test]
async fn a_read_model_is_removed_with_all_its_revisions_for_its_projection_alone() {
    let server = Postgres::shared().unwrap();
    let database = database(&server);
    let log_id = LogId::generate();
    let view = read_model(&database, log_id).await;
    let before = relations(&server, &database);
    let of = |name: &str, log_id: Option<LogId>| RemoveAs::ReadModel { name: name.into(), log_id };
    refused(remove(&database, &of("bills", Some(log_id))).await, "of projection \"orders\"");
    refused(remove(&database, &of("orders", Some(LogId::generate()))).await, "which is another's");
    refused(remove(&database, &as_log(owner("orders", "a"))).await, "which is another's");
    let member =
        Member { id: Uuid::new_v4(), name: "w-1".into(), standing: Standing::Folds, report: String::new() };
    let look = Look { member, hold: vec![], partitions: PartitionCount::ONE, term: Duration::from_mins(1) };
    view.look(&look).await.unwrap();
    refused(remove(&database, &of("orders", Some(log_id))).await, "is in use by w-1");
    view.leave(look.member.id).await.unwrap();
    view.close().await;

    // What people have made of it is theirs.
    let theirs = format!("CREATE VIEW public.v_{0} AS SELECT id FROM {0}.r1_order", database.schema);
    server.query(&theirs).unwrap();
    refused(remove(&database, &of("orders", Some(log_id))).await, "v_test_");
    assert_eq!(relations(&server, &database), before);
    server.query(&format!("DROP VIEW public.v_{}", database.schema)).unwrap();
    server.query(&format!("CREATE TABLE {}.theirs (id BIGINT)", database.schema)).unwrap();
    // One of another namespace has its name, and no log of its own.
    refused(remove(&database, &of("orders", None)).await, &format!("--delete-data={log_id}"));
    assert!(remove(&database, &of("orders", Some(log_id))).await.unwrap().is_some());
    assert_eq!(relations(&server, &database), "1", "theirs");
    assert_eq!(remove(&database, &of("orders", None)).await.unwrap(), None);
}
