//! How far a log was relayed, kept beside it.

use std::sync::Arc;

use headwater_bus::RelayState;
use headwater_bus::conformance::checkpoints_are_moved_by_the_newest_relay_alone;
use headwater_core::{PartitionCount, Position};
use headwater_log::Epoch;
use headwater_sql::{Database, PostgresLog, SqliteRelayState};
use headwater_testkit::postgres::Postgres;

#[tokio::test]
async fn checkpoints_in_a_sqlite_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay.db");
    checkpoints_are_moved_by_the_newest_relay_alone(async || {
        Arc::new(SqliteRelayState::open(path.clone()).await.unwrap()) as Arc<dyn RelayState>
    })
    .await;
}

async fn log(database: &Database) -> Arc<PostgresLog> {
    Arc::new(PostgresLog::open(database, "orders", PartitionCount::new(2).unwrap()).await.unwrap())
}

#[tokio::test]
async fn checkpoints_in_postgres() {
    let server = Postgres::shared().unwrap();
    // A space is escaped for the server, and the backslash for the URL.
    for level in ["read%5C%20committed", "serializable"] {
        let url = format!("{}?options=-c%20default_transaction_isolation%3D{level}", server.url());
        let database = Database { url, schema: Postgres::schema(), max_connections: 4, tls: None };
        checkpoints_are_moved_by_the_newest_relay_alone(async || log(&database).await as Arc<dyn RelayState>)
            .await;
    }
}

#[tokio::test]
async fn a_log_in_postgres_from_before_there_were_relays_gets_a_place_for_theirs() {
    let server = Postgres::shared().unwrap();
    let database = Database { url: server.url(), schema: Postgres::schema(), max_connections: 4, tls: None };
    drop(log(&database).await);
    server
        .query(&format!(
            "DROP TABLE {0}.relay, {0}.log_owner; UPDATE {0}.log SET format = 2",
            database.schema
        ))
        .unwrap();
    let log = log(&database).await;
    let checkpoint = log.load(headwater_core::Partition::ZERO, Epoch(1)).await.unwrap();
    assert_eq!(checkpoint.position, Position::ZERO);
    let format = server.query(&format!("SELECT format FROM {}.log", database.schema)).unwrap();
    assert_eq!(format.trim(), "4");
}
