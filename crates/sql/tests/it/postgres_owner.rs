//! Whose a log on PostgreSQL is.

use headwater_core::{Error, LogId, Partition, PartitionCount, Position};
use headwater_log::{Filter, LogReader, ReadPartition};
use headwater_sql::{Claim, Database, Owner, PostgresLog, SCHEMA_OWNED};
use headwater_testkit::postgres::Postgres;

fn database(server: &Postgres) -> Database {
    Database { url: server.url(), schema: Postgres::schema(), max_connections: 4, tls: None }
}

fn owner(namespace: &str, name: &str, uid: Option<&str>) -> Owner {
    let uid = uid.map(str::to_owned);
    Owner { namespace: namespace.to_owned(), kind: "EventStream".to_owned(), name: name.to_owned(), uid }
}

const fn claim(owner: Owner) -> Claim {
    Claim { owner, adopt: None }
}

async fn open(database: &Database, claim: &Claim) -> Result<LogId, Error> {
    let log = PostgresLog::open_for(claim, database, &claim.owner.name, PartitionCount::ONE).await?;
    let id = log.descriptor().log_id;
    log.close().await;
    Ok(id)
}

#[track_caller]
fn refused(opened: Result<LogId, Error>, part: &str) {
    let said = opened.unwrap_err().to_string();
    assert!(said.starts_with(SCHEMA_OWNED) && said.contains(part), "{said}");
}

fn recorded(server: &Postgres, database: &Database) -> String {
    let line = format!("SELECT namespace, kind, name, uid FROM {}.log_owner", database.schema);
    server.query(&line).unwrap().trim().to_owned()
}

#[tokio::test]
async fn of_several_who_come_to_a_new_log_at_once_one_resource_has_it() {
    let server = Postgres::shared().unwrap();
    let database = database(&server);
    let shop = claim(owner("shop", "orders", Some("a")));
    let other = claim(owner("other", "orders", Some("b")));
    let claims = [&shop, &other, &shop, &other];
    let opened = futures_util::future::join_all(claims.map(|claim| open(&database, claim))).await;
    let has_it: Vec<bool> = opened.iter().map(Result::is_ok).collect();
    assert!(has_it == [true, false, true, false] || has_it == [false, true, false, true], "{opened:?}");
    for refusal in opened.into_iter().filter(Result::is_err) {
        refused(refusal, "nothing was changed: give another schema");
    }
}

/// As after an update: several processes come, and none of them has said before whose the log is.
#[tokio::test]
async fn a_log_of_the_third_format_is_brought_up_to_date_and_is_the_first_ones_who_comes() {
    const THIRD: &str = include_str!("golden/postgres_log_3.sql");
    let server = Postgres::shared().unwrap();
    let database = database(&server);
    let schema = &database.schema;
    let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
    let made = format!("CREATE SCHEMA {schema}; SET search_path TO {schema}; {THIRD}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(made)).execute(&pool).await.unwrap();
    let format = format!("SELECT format FROM {schema}.log");
    let bills = open(&database, &claim(owner("shop", "bills", None))).await.unwrap_err();
    assert!(
        matches!(&bills, Error::FailedPrecondition { message } if message.contains("\"orders\"")),
        "{bills}"
    );
    assert_eq!(server.query(&format).unwrap().trim(), "3", "nothing was changed");

    let orders = claim(owner("shop", "orders", Some("a")));
    let (one, two) = tokio::join!(open(&database, &orders), open(&database, &orders));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(server.query(&format).unwrap().trim(), "4");
    assert_eq!(recorded(&server, &database), "shop|EventStream|orders|a");
    refused(
        open(&database, &claim(owner("other", "orders", None))).await,
        "of EventStream \"orders\" of namespace \"shop\" (uid a)",
    );

    let log = PostgresLog::open_for(&orders, &database, "orders", PartitionCount::ONE).await.unwrap();
    let page = ReadPartition {
        partition: Partition::ZERO,
        after: Position::ZERO,
        up_to: None,
        filter: Filter::default(),
        limit: 10,
        max_bytes: 1 << 20,
    };
    let page = log.read_partition(page).await.unwrap();
    let data: Vec<&[u8]> = page.events.iter().map(|event| &event.data[..]).collect();
    assert_eq!(data, [br#"{"n":1}"#, br#"{"n":2}"#]);
}

#[tokio::test]
async fn a_log_that_is_adopted_is_the_new_owners_under_its_name() {
    let server = Postgres::shared().unwrap();
    let database = database(&server);
    let orders = claim(owner("shop", "orders", None));
    let id = open(&database, &orders).await.unwrap();
    // Who exactly it is becomes known.
    open(&database, &claim(owner("shop", "orders", Some("a")))).await.unwrap();
    assert_eq!(recorded(&server, &database), "shop|EventStream|orders|a");
    open(&database, &orders).await.unwrap();
    refused(open(&database, &claim(owner("shop", "orders", Some("b")))).await, "(uid b) asks for it;");

    let bills = claim(owner("other", "bills", None));
    let foreign = LogId::generate();
    let wrong = Claim { adopt: Some(foreign), ..bills.clone() };
    refused(open(&database, &wrong).await, &format!("is to adopt log {foreign}"));
    let adopting = Claim { adopt: Some(id), ..bills.clone() };
    assert_eq!(open(&database, &adopting).await.unwrap(), id);
    assert_eq!(recorded(&server, &database), "other|EventStream|bills|");
    assert_eq!(open(&database, &bills).await.unwrap(), id);
    // It stays in the manifest, where it does no harm.
    assert_eq!(open(&database, &adopting).await.unwrap(), id);
    refused(open(&database, &orders).await, "namespace \"other\"");

    // The log of one kind is of no use to another.
    let saga = Claim { owner: Owner { kind: "Saga".to_owned(), ..bills.owner.clone() }, adopt: Some(id) };
    let said = open(&database, &saga).await.unwrap_err().to_string();
    assert!(
        said.starts_with(SCHEMA_OWNED) && said.ends_with("nothing was changed: give another schema"),
        "{said}"
    );
}
