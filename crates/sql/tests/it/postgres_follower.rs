//! A log that is read from a follower of its database: a real one, by streaming replication.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_core::{
    Append, Error, EventType, Expected, NewEvent, Partition, PartitionCount, Position, RecordedEvent,
    StreamId,
};
use headwater_log::{
    Filter, LogReader, LogWriter, PartitionPage, ReadPartition, Sequencer, SequencerOptions,
};
use headwater_sql::{Database, PostgresLog};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::proxy::Proxy;

const PAGE: usize = 100;
const EVENTS: usize = 1_000;

fn database(server: &Postgres, schema: &str) -> Database {
    Database { url: server.url(), schema: schema.to_owned(), max_connections: 4, tls: None }
}

async fn open(server: &Postgres, schema: &str) -> PostgresLog {
    PostgresLog::open(&database(server, schema), "orders", PartitionCount::ONE).await.unwrap()
}

async fn append(log: PostgresLog, events: usize) {
    let log = Arc::new(log);
    let writer = Sequencer::start(log.clone(), SequencerOptions::default());
    for number in 0..events / PAGE {
        let event = || NewEvent::json(EventType::new("Made").unwrap(), format!("{number}"));
        let append = Append {
            stream_id: StreamId::new(format!("order-{}", number % 7)).unwrap(),
            expected: Expected::Any,
            events: (0..PAGE).map(|_| event()).collect(),
        };
        writer.append(append).await.unwrap();
    }
    writer.shutdown().await;
    log.close().await;
}

async fn page(log: &PostgresLog, after: u64) -> Result<PartitionPage, Error> {
    log.read_partition(ReadPartition {
        partition: Partition::ZERO,
        after: Position::new(after),
        up_to: None,
        filter: Filter::default(),
        limit: PAGE,
        max_bytes: 1 << 20,
    })
    .await
}

async fn all(log: &PostgresLog) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    loop {
        let mut page = page(log, events.len() as u64).await.unwrap();
        events.append(&mut page.events);
        if page.reached >= page.head {
            return events;
        }
    }
}

/// Waits until the follower has as many events.
fn until_it_has(follower: &Postgres, schema: &str, events: usize) {
    let began = Instant::now();
    let count = || follower.query(&format!("SELECT count(*) FROM {schema}.events")).unwrap_or_default();
    while count().trim() != events.to_string() {
        assert!(began.elapsed() < Duration::from_mins(1), "the follower has {} events", count());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_past_comes_from_the_follower_of_postgres_and_the_end_from_itself() {
    let primary = Postgres::start().unwrap();
    let schema = Postgres::schema();
    append(open(&primary, &schema).await, EVENTS).await;
    let follower = Postgres::follower_of(&primary).unwrap();
    until_it_has(&follower, &schema, EVENTS);

    let log = open(&primary, &schema).await.with_follower(database(&follower, &schema)).await;
    let events = all(&log).await;
    assert_eq!(events.len(), EVENTS);

    // Without the primary the past is there, and the end is not.
    primary.kill().unwrap();
    assert_eq!(page(&log, 0).await.unwrap().events, events[..PAGE]);
    let end = page(&log, EVENTS as u64 - PAGE as u64).await;
    assert!(matches!(&end, Err(Error::Unavailable { .. })), "{end:?}");
    primary.resume().unwrap();

    // Without the follower nothing changes for who reads; and what it has not got yet is not missing.
    follower.kill().unwrap();
    assert_eq!(all(&log).await, events);
    append(open(&primary, &schema).await, EVENTS).await;
    let log = open(&primary, &schema).await.with_follower(database(&follower, &schema)).await;
    assert_eq!(all(&log).await.len(), 2 * EVENTS);
    follower.resume().unwrap();
    let log = open(&primary, &schema).await.with_follower(database(&follower, &schema)).await;
    assert_eq!(all(&log).await.len(), 2 * EVENTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_silent_holds_nobody_up_for_long() {
    let server = Postgres::shared().unwrap();
    let schema = Postgres::schema();
    append(open(&server, &schema).await, EVENTS).await;
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port()))).unwrap();
    // The database itself does for a follower: it has all that it has.
    let follower = Database { url: server.url_at(proxy.address().port()), ..database(&server, &schema) };
    let log = open(&server, &schema).await.with_follower(follower).await;
    let events = all(&log).await;
    assert!(proxy.connections() > 0, "it is read from");
    proxy.silence();
    let began = Instant::now();
    for _ in 0..10 {
        assert_eq!(all(&log).await, events);
    }
    // Ten times ten pages: one of them waited for an answer, and all others for nothing.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_postgres_of_before_a_restore_is_not_read() {
    let server = Postgres::shared().unwrap();
    let (schema, old) = (Postgres::schema(), Postgres::schema());
    append(open(&server, &schema).await, EVENTS).await;
    // The same log, whose last event is another one, and whose first would be seen if it were read.
    let tables =
        server.query(&format!("SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'")).unwrap();
    server.query(&format!("CREATE SCHEMA {old}")).unwrap();
    for table in tables.split_whitespace() {
        server.query(&format!("CREATE TABLE {old}.{table} AS TABLE {schema}.{table}")).unwrap();
    }
    server.query(&format!("UPDATE {old}.events SET data = '0' WHERE position IN (1, {EVENTS})")).unwrap();
    let log = open(&server, &schema).await;
    let expected = all(&log).await;
    let log = log.with_follower(database(&server, &old)).await;
    assert_eq!(all(&log).await, expected);
    log.close().await;
    server.query(&format!("UPDATE {old}.events SET data = (SELECT data FROM {schema}.events WHERE position = {EVENTS}) WHERE position = {EVENTS}")).unwrap();
    let log = open(&server, &schema).await.with_follower(database(&server, &old)).await;
    assert_eq!(&*all(&log).await[0].data, b"0", "one that ends as it should is read");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_no_follower_of_postgres_is_not_read() {
    let (server, other) = (Postgres::shared().unwrap(), Postgres::shared().unwrap());
    let (schema, wrong) = (Postgres::schema(), Postgres::schema());
    append(open(&server, &schema).await, EVENTS).await;
    append(open(&other, &wrong).await, EVENTS).await;
    let expected = all(&open(&server, &schema).await).await;
    for at in [wrong, Postgres::schema()] {
        let log = open(&server, &schema).await.with_follower(database(&other, &at)).await;
        assert_eq!(all(&log).await, expected);
    }
}
