//! The log on PostgreSQL: at each isolation level, and over a server that is killed.

mod read_committed {
    use headwater_core::PartitionCount;
    use headwater_log::Clock;
    use headwater_log::conformance::Fixture;
    use headwater_sql::PostgresLog;

    /// Each page is read from the database.
    async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
        super::make(partitions, clock, "", PostgresLog::without_tail).await
    }

    headwater_log::store_conformance!(make);
}

mod serializable {
    use headwater_core::PartitionCount;
    use headwater_log::Clock;
    use headwater_log::conformance::Fixture;

    async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
        let options = "?options=-c%20default_transaction_isolation%3Dserializable";
        super::make(partitions, clock, options, std::convert::identity).await
    }

    headwater_log::store_conformance!(make);
}

mod leases {
    use std::sync::Arc;

    use headwater_core::PartitionCount;
    use headwater_log::Clock;
    use headwater_log::conformance::LeaseFixture;
    use headwater_sql::PostgresLog;
    use headwater_testkit::postgres::Postgres;

    async fn make(partitions: PartitionCount, clock: Clock) -> LeaseFixture {
        let server = Postgres::shared().unwrap();
        let database = super::database(&server, "?options=-c%20default_transaction_isolation%3Dserializable");
        let log = PostgresLog::open(&database, "orders", partitions).await.unwrap();
        LeaseFixture { store: Arc::new(log.with_clock(clock)), keep: Box::new(server) }
    }

    headwater_log::lease_conformance!(make);
}

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::{
    Append, Error, EventType, Expected, NewEvent, Partition, PartitionCount, Position, StreamId, Version,
};
use headwater_log::conformance::Fixture;
use headwater_log::{
    Batch, BatchEvent, Clock, Filter, LogReader, LogStore, LogWriter, ReadPartition, Sequencer,
    SequencerOptions,
};
use headwater_sql::{Database, PostgresLog, PostgresView};
use headwater_testkit::postgres::Postgres;
use uuid::Uuid;

fn database(server: &Postgres, options: &str) -> Database {
    Database {
        url: format!("{}{options}", server.url()),
        schema: Postgres::schema(),
        max_connections: 8,
        tls: None,
    }
}

async fn make(
    partitions: PartitionCount,
    clock: Clock,
    options: &str,
    change: fn(PostgresLog) -> PostgresLog,
) -> Fixture {
    let server = Postgres::shared().unwrap();
    let log = PostgresLog::open(&database(&server, options), "orders", partitions).await.unwrap();
    Fixture { store: Arc::new(change(log.with_clock(clock))), keep: Box::new(server) }
}

#[tokio::test]
async fn a_schema_keeps_the_log_that_it_was_made_for() {
    let server = Postgres::shared().unwrap();
    let database = database(&server, "");
    let two = PartitionCount::new(2).unwrap();
    // Several processes may open a log for the first time at once.
    let opened =
        futures_util::future::join_all((0..4).map(|_| PostgresLog::open(&database, "orders", two))).await;
    let ids: Vec<_> = opened.into_iter().map(|log| log.unwrap().descriptor().log_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");

    let other = PostgresLog::open(&database, "bills", two).await.unwrap_err();
    assert!(
        matches!(&other, Error::FailedPrecondition { message } if message.contains("of event stream \"orders\", and not of \"bills\"")),
        "{other}"
    );
    let more = PostgresLog::open(&database, "orders", PartitionCount::new(3).unwrap()).await.unwrap_err();
    assert!(
        matches!(&more, Error::FailedPrecondition { message } if message.contains("made with 2 partitions")),
        "{more}"
    );

    let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
    let newer = sqlx::AssertSqlSafe(format!("UPDATE {}.log SET format = 5", database.schema));
    sqlx::query(newer).execute(&pool).await.unwrap();
    let newer = PostgresLog::open(&database, "orders", two).await.unwrap_err();
    assert!(matches!(&newer, Error::Corrupt { message } if message.contains("newer Headwater")), "{newer}");
}

#[tokio::test]
async fn what_is_missing_is_said_with_the_remedy() {
    let server = Postgres::shared().unwrap();
    let open = async |url: String| {
        let database = Database { url, ..database(&server, "") };
        PostgresLog::open(&database, "orders", PartitionCount::ONE).await.unwrap_err()
    };
    let error = open(server.url().replace("/postgres", "/nowhere")).await;
    assert!(
        matches!(&error, Error::FailedPrecondition { message } if message.contains("create it")),
        "{error}"
    );
    let error = open(server.url().replace("headwater@", "nobody@")).await;
    assert!(
        matches!(&error, Error::FailedPrecondition { message } if message.contains("correct user")),
        "{error}"
    );
    let error = open(format!("{}?options=-c%20default_transaction_read_only%3Don", server.url())).await;
    assert!(
        matches!(&error, Error::Unavailable { message, .. } if message.contains("takes writes")),
        "{error}"
    );
    let error = open(server.url_at(1)).await;
    assert!(
        matches!(&error, Error::Unavailable { message, .. } if message.contains("can be reached")),
        "{error}"
    );
}

#[tokio::test]
async fn who_may_make_no_schema_uses_one_of_its_own() {
    let server = Postgres::shared().unwrap();
    let role = format!("limited_{}", Uuid::new_v4().simple());
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let run = async |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    run(format!("CREATE ROLE {role} LOGIN")).await;
    let url = server.url().replace("headwater@", &format!("{role}@"));
    let (log, view) = (Postgres::schema(), Postgres::schema());
    let database =
        |schema: &str| Database { url: url.clone(), schema: schema.into(), max_connections: 2, tls: None };
    let refused = PostgresLog::open(&database(&log), "orders", PartitionCount::ONE).await.unwrap_err();
    assert!(
        matches!(&refused, Error::FailedPrecondition { message } if message.contains("let the user own it")),
        "{refused}"
    );
    for schema in [&log, &view] {
        run(format!("CREATE SCHEMA {schema} AUTHORIZATION {role}")).await;
    }
    PostgresLog::open(&database(&log), "orders", PartitionCount::ONE).await.unwrap();
    PostgresView::open(&database(&view), "orders").await.unwrap();
}

#[tokio::test]
async fn a_batch_waits_for_the_one_before_it_that_is_being_committed() {
    let server = Postgres::shared().unwrap();
    for options in ["", "?options=-c%20default_transaction_isolation%3Dserializable"] {
        let database = database(&server, options);
        let log = PostgresLog::open(&database, "orders", PartitionCount::ONE).await.unwrap();
        let head = log.acquire(Partition::ZERO).await.unwrap();
        let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
        let mut before = pool.begin().await.unwrap();
        let moved = format!("UPDATE {}.partition_head SET head = head + 3", database.schema);
        sqlx::query(sqlx::AssertSqlSafe(moved)).execute(&mut *before).await.unwrap();

        let stream_id = StreamId::new("order-1").unwrap();
        let event = NewEvent::json(EventType::new("Placed").unwrap(), "1");
        let digest = event.content_digest(&stream_id);
        let events = vec![BatchEvent { stream_id, version: Version::new(1), digest, event }];
        let (partition, epoch) = (Partition::ZERO, head.epoch);
        let batch = Arc::new(Batch { partition, epoch, head: Position::new(3), events });
        let mut commit = log.commit(batch);
        let holder: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *before).await.unwrap();
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))";
        let is_waiting = async {
            while !sqlx::query_scalar::<_, bool>(waits).bind(holder).fetch_one(&pool).await.unwrap() {}
        };
        tokio::select! {
            biased;
            early = &mut commit => panic!("it does not wait: {early:?}"),
            () = is_waiting => {}
        }
        before.commit().await.unwrap();
        assert_eq!(commit.await.unwrap().head, Position::new(4), "{options}");
    }
}

/// Appends one event after the other to a stream id of its own, each until it is acknowledged.
async fn write(log: Arc<Sequencer>, number: usize) -> Vec<Uuid> {
    let stream_id = StreamId::new(format!("writer-{number}")).unwrap();
    let mut stored = Vec::new();
    for version in 0..EVENTS {
        let event = NewEvent::json(EventType::new("Written").unwrap(), format!("{{\"n\": {version}}}"));
        let id = event.id;
        let expected =
            if version == 0 { Expected::NoStream } else { Expected::Version(Version::new(version)) };
        let append = Append { stream_id: stream_id.clone(), expected, events: vec![event] };
        loop {
            match log.append(append.clone()).await {
                Ok(appended) => {
                    assert_eq!(appended.version, Version::new(version + 1));
                    break;
                }
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stored.push(id);
    }
    stored
}

const EVENTS: u64 = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_while_the_server_is_killed() {
    const KILLS: usize = 3;
    let server = Arc::new(Postgres::start().unwrap());
    let partitions = PartitionCount::new(2).unwrap();
    let log = Arc::new(PostgresLog::open(&database(&server, ""), "orders", partitions).await.unwrap());
    write_and_check(&log, partitions, async || {
        for _ in 0..KILLS {
            // The moment of the kill is the input of this test, not a wait for something.
            tokio::time::sleep(Duration::from_millis(100 + (Uuid::new_v4().as_u128() % 200) as u64)).await;
            let server = Arc::clone(&server);
            tokio::task::spawn_blocking(move || server.kill().and_then(|()| server.resume()))
                .await
                .unwrap()
                .unwrap();
        }
    })
    .await;
    log.close().await;
}

/// Writers append until each of their events is acknowledged, while `happens` does; then each must be there once.
pub(crate) async fn write_and_check(
    log: &Arc<PostgresLog>,
    partitions: PartitionCount,
    happens: impl AsyncFnOnce(),
) {
    const WRITERS: usize = 8;
    let sequencer = Arc::new(Sequencer::start(log.clone(), SequencerOptions::default()));
    let writers: Vec<_> =
        (0..WRITERS).map(|number| tokio::spawn(write(Arc::clone(&sequencer), number))).collect();
    happens().await;
    let mut acknowledged = HashSet::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let mut stored = Vec::new();
    for partition in partitions.partitions() {
        let mut after = Position::ZERO;
        loop {
            let page = log
                .read_partition(ReadPartition {
                    partition,
                    after,
                    up_to: None,
                    filter: Filter::default(),
                    limit: 1_000,
                    max_bytes: 1 << 20,
                })
                .await
                .unwrap();
            stored.extend(page.events.iter().map(|event| event.id));
            after = page.reached;
            if after == page.head {
                break;
            }
        }
    }
    assert_eq!(stored.len(), WRITERS * EVENTS as usize, "each is there once");
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), acknowledged);
    sequencer.shutdown().await;
}
