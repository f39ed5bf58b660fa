//! The log on PostgreSQL: at each isolation level, and over a server that is killed.

mod read_committed {
    use headwater_core::PartitionCount;
    use headwater_log::Clock;
    use headwater_log::conformance::Fixture;

    async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
        super::make(partitions, clock, "").await
    }

    headwater_log::store_conformance!(make);
}

mod serializable {
    use headwater_core::PartitionCount;
    use headwater_log::Clock;
    use headwater_log::conformance::Fixture;

    async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
        super::make(partitions, clock, "?options=-c%20default_transaction_isolation%3Dserializable").await
    }

    headwater_log::store_conformance!(make);
}

use std::sync::Arc;

use headwater_core::{Error, PartitionCount};
use headwater_log::conformance::Fixture;
use headwater_log::{Clock, LogReader};
use headwater_sql::{Database, PostgresLog};
use headwater_testkit::postgres::Postgres;

fn database(server: &Postgres, options: &str) -> Database {
    Database { url: format!("{}{options}", server.url()), schema: Postgres::schema(), max_connections: 8 }
}

async fn make(partitions: PartitionCount, clock: Clock, options: &str) -> Fixture {
    let server = Postgres::shared().unwrap();
    let log = PostgresLog::open(&database(&server, options), "orders", partitions).await.unwrap();
    Fixture { store: Arc::new(log.with_clock(clock)), keep: Box::new(server) }
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
    let newer = sqlx::AssertSqlSafe(format!("UPDATE {}.log SET format = 2", database.schema));
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
