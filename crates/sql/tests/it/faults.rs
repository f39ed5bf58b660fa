//! The log and the view on PostgreSQL, behind a proxy that answers, cuts off and is silent as a bad network and a busy database are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_core::PartitionCount;
use headwater_log::conformance::{Fixture, LeaseFixture, LogFixture};
use headwater_log::{Clock, LogReader};
use headwater_sql::{Database, PostgresLog};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::proxy::{Fault, PostgresFaults, Proxy};

/// The database through a proxy.
pub(crate) struct Behind {
    /// Lives as long as the proxy.
    _server: Arc<Postgres>,
    pub(crate) proxy: Proxy,
    pub(crate) faults: Arc<PostgresFaults>,
    pub(crate) database: Database,
}

impl Behind {
    /// One in five statements that it can become of gets one of the faults.
    pub(crate) fn new(faults: &[Fault]) -> Self {
        Self::one_in(5, faults)
    }

    pub(crate) fn one_in(statements: u64, faults: &[Fault]) -> Self {
        let server = Postgres::shared().unwrap();
        let faults = Arc::new(PostgresFaults::new(faults, statements, 7));
        let proxy = Proxy::with_faults(([127, 0, 0, 1], server.port()).into(), &faults).unwrap();
        let database = Database {
            url: server.url_at(proxy.address().port()),
            schema: Postgres::schema(),
            max_connections: 8,
            tls: None,
        };
        Self { _server: server, proxy, faults, database }
    }

    async fn log(&self, partitions: PartitionCount) -> PostgresLog {
        PostgresLog::open(&self.database, "orders", partitions).await.unwrap()
    }
}

const ROLLED_BACK: Fault = Fault::Refused("40001");
const DEADLOCK: Fault = Fault::Refused("40P01");
const UNKNOWN: Fault = Fault::Ambiguous("40003");

/// A log whose answers are those of a sequencer: who writes to the store itself is told what is unknown, and settles it.
async fn sequenced(partitions: PartitionCount, faults: &[Fault]) -> LogFixture {
    let behind = Behind::new(faults);
    let log = behind.log(partitions).await;
    Fixture { store: Arc::new(log), keep: Box::new(behind) }.sequenced()
}

mod rolled_back {
    use super::*;

    async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
        let behind = Behind::new(&[ROLLED_BACK, DEADLOCK]);
        let log = behind.log(partitions).await.with_clock(clock);
        Fixture { store: Arc::new(log), keep: Box::new(behind) }
    }

    headwater_log::store_conformance!(make);

    mod leases {
        use super::*;

        async fn make(partitions: PartitionCount, clock: Clock) -> LeaseFixture {
            let behind = Behind::new(&[ROLLED_BACK, DEADLOCK]);
            let log = behind.log(partitions).await.with_clock(clock);
            LeaseFixture { store: Arc::new(log), keep: Box::new(behind) }
        }

        headwater_log::lease_conformance!(make);
    }
}

mod ambiguous {
    use super::*;

    async fn make(partitions: PartitionCount) -> LogFixture {
        sequenced(partitions, &[UNKNOWN]).await
    }

    headwater_log::log_conformance!(make);
}

mod cut_at_commit {
    use super::*;

    async fn make(partitions: PartitionCount) -> LogFixture {
        sequenced(partitions, &[Fault::CutBefore, Fault::CutAfter]).await
    }

    headwater_log::log_conformance!(make);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_under_all_faults_at_once() {
    let behind = Behind::new(&[ROLLED_BACK, DEADLOCK, UNKNOWN, Fault::CutBefore, Fault::CutAfter]);
    let partitions = PartitionCount::new(2).unwrap();
    let log = Arc::new(behind.log(partitions).await);
    crate::postgres_log::write_and_check(&log, partitions, async || {}).await;
    assert!(behind.faults.injected() > 50, "only {} faults", behind.faults.injected());
    log.close().await;
}

/// What the log promises to notice within, and as much again for two busy cores.
const NOTICED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_silent_are_noticed_and_replaced() {
    let behind = Behind::new(&[UNKNOWN]);
    behind.faults.turn(false);
    let partitions = PartitionCount::new(2).unwrap();
    let log = Arc::new(behind.log(partitions).await);
    let began = std::sync::Mutex::new(None);
    crate::postgres_log::write_and_check(&log, partitions, async || {
        // In the middle of it.
        let waiting = Instant::now();
        while log.heads().await.unwrap().iter().map(|head| head.position.get()).sum::<u64>() < 300 {
            assert!(waiting.elapsed() < NOTICED, "nothing is written");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(behind.proxy.silence() > 0);
        behind.proxy.heal();
        *began.lock().unwrap() = Some(Instant::now());
    })
    .await;
    let took = began.into_inner().unwrap().unwrap().elapsed();
    assert!(took < NOTICED, "it took {took:?}");
    assert!(behind.proxy.swallowed() > 0, "nothing was lost");
    log.close().await;
}

mod view {
    use async_trait::async_trait;
    use headwater_sql::PostgresView;
    use headwater_view::ViewStore;
    use headwater_view::conformance::Place;

    use super::*;

    #[async_trait]
    impl Place for Behind {
        async fn open(&self) -> Arc<dyn ViewStore> {
            Arc::new(PostgresView::open(&self.database, "orders").await.expect("a store"))
        }
    }

    // Of 60 statements: a transaction here has up to 20, so that about one in four is rolled back.
    headwater_view::view_conformance!(Behind::one_in(60, &[ROLLED_BACK, DEADLOCK]));
}

#[tokio::test]
async fn the_proxy_does_to_a_stock_client_what_it_says() {
    use sqlx::{Connection, PgConnection};

    async fn count(connection: &mut PgConnection) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(connection).await.unwrap()
    }
    let sqlstate = |error: sqlx::Error| error.as_database_error().unwrap().code().unwrap().into_owned();
    let server = Postgres::shared().unwrap();
    let table = Postgres::schema();
    server.query(&format!("CREATE SCHEMA {table}; CREATE TABLE {table}.t (n BIGINT PRIMARY KEY)")).unwrap();
    let search = format!("?options=-c%20search_path%3D{table}");
    let mut direct = PgConnection::connect(&format!("{}{search}", server.url())).await.unwrap();
    let mut n = 0_i64;
    for fault in [ROLLED_BACK, UNKNOWN, Fault::CutBefore, Fault::CutAfter] {
        for in_transaction in [false, true] {
            let faults = Arc::new(PostgresFaults::new(&[fault], 1, 0));
            let proxy = Proxy::with_faults(([127, 0, 0, 1], server.port()).into(), &faults).unwrap();
            let url = format!("{}{search}", server.url_at(proxy.address().port()));
            let mut connection = PgConnection::connect(&url).await.unwrap();
            let before = count(&mut direct).await;
            n += 1;
            let insert = sqlx::query("INSERT INTO t VALUES ($1)").bind(n);
            let error = if in_transaction {
                let mut transaction = connection.begin().await.unwrap();
                faults.turn(fault != ROLLED_BACK);
                insert.execute(&mut *transaction).await.unwrap();
                faults.turn(true);
                transaction.commit().await.unwrap_err()
            } else {
                insert.execute(&mut connection).await.unwrap_err()
            };
            assert_eq!(faults.injected(), 1, "{fault:?}");
            let is_there = count(&mut direct).await > before;
            assert_eq!(is_there, matches!(fault, Fault::Ambiguous(_) | Fault::CutAfter), "{fault:?}");
            faults.turn(false);
            match fault {
                Fault::Refused(code) | Fault::Ambiguous(code) => {
                    assert_eq!(sqlstate(error), code);
                    // The connection is as well as before.
                    assert_eq!(count(&mut connection).await > before, is_there);
                }
                Fault::CutBefore | Fault::CutAfter => {
                    assert!(matches!(error, sqlx::Error::Io(_)), "{error}");
                }
            }
        }
    }
}
