//! The view on PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, LogId, Partition, PartitionCount, Positions};
use headwater_sql::{Database, PostgresLog, PostgresView};
use headwater_testkit::postgres::Postgres;
use headwater_view::conformance::Place;
use headwater_view::{
    Batch, Cell, Change, Column, ColumnType, Decisions, Index, Key, Look, Member, NewRevision, Row, RowState,
    RowWrite, Standing, TableSchema, ViewStore, Writers,
};
use jiff::Timestamp;
use uuid::Uuid;

struct Schema {
    /// Lives as long as the place.
    server: Arc<Postgres>,
    database: Database,
}

impl Schema {
    fn new(options: &str) -> Self {
        let server = Postgres::shared().unwrap();
        let database = Database {
            url: format!("{}{options}", server.url()),
            schema: Postgres::schema(),
            max_connections: 8,
            tls: None,
        };
        Self { server, database }
    }
}

#[async_trait]
impl Place for Schema {
    async fn open(&self) -> Arc<dyn ViewStore> {
        Arc::new(PostgresView::open(&self.database, "orders").await.expect("a store"))
    }
}

headwater_view::view_conformance!(Schema::new(""));

#[tokio::test]
async fn a_schema_keeps_what_it_was_made_for() {
    let place = Schema::new("");
    place.open().await;
    let other = PostgresView::open(&place.database, "bills").await.unwrap_err();
    assert!(
        matches!(&other, Error::FailedPrecondition { message } if message.contains("of projection \"orders\", and not of \"bills\"")),
        "{other}"
    );
    let pool = sqlx::PgPool::connect(&place.database.url).await.unwrap();
    let newer = sqlx::AssertSqlSafe(format!("UPDATE {}.hw_rollout SET format = 4", place.database.schema));
    sqlx::query(newer).execute(&pool).await.unwrap();
    let newer = PostgresView::open(&place.database, "orders").await.unwrap_err();
    assert!(matches!(&newer, Error::Corrupt { message } if message.contains("newer Headwater")), "{newer}");

    let log = Schema::new("");
    PostgresLog::open(&log.database, "orders", PartitionCount::ONE).await.unwrap();
    let refused = PostgresView::open(&log.database, "orders").await.unwrap_err();
    assert!(
        matches!(&refused, Error::FailedPrecondition { message } if message.contains("give projection \"orders\" another schema")),
        "{refused}"
    );
}

#[tokio::test]
async fn people_read_the_active_revision_with_the_types_that_they_expect() {
    let place = Schema::new("");
    let store = place.open().await;
    let column = |name: &str, column_type| Column::new(name, column_type, Cell::Null);
    let new = NewRevision {
        digest: "a".into(),
        definition: "{}".into(),
        tables: vec![TableSchema {
            name: "order".into(),
            columns: vec![
                column("id", ColumnType::Text),
                column("amount", ColumnType::Decimal),
                column("at", ColumnType::Timestamp),
                column("extra", ColumnType::Json),
            ],
            key: vec![0],
            indexes: vec![Index { columns: vec![1, 2] }],
            writers: Writers::Free,
        }],
        log_id: LogId::generate(),
        partitions: PartitionCount::ONE,
        start: Positions::default(),
    };
    let rollout = store.change(store.rollout().await.unwrap().version, &Change::Create(new)).await.unwrap();
    let cells = vec![
        Cell::Text("o-1".into()),
        Cell::Decimal("19.90".parse().unwrap()),
        Cell::timestamp("9999-12-30T21:59:59.999999Z".parse().unwrap()).unwrap(),
        Cell::Json(r#"{"a":[1]}"#.into()),
    ];
    let write = RowWrite {
        table: 0,
        key: Key::new(vec![cells[0].clone()]),
        expected: None,
        state: Some(RowState::Live(Row { cells, writer: None, stamps: vec![] })),
    };
    let revision = rollout.candidate.unwrap();
    let batch = Batch { rows: vec![write], ..Batch::new(revision, Decisions(0)) };
    store.apply(Arc::new(batch)).await.unwrap();
    let promote = Change::Promote { revision, keep_until: Timestamp::now(), hold: None };
    store.change(rollout.version, &promote).await.unwrap();
    let view = format!("{}.\"order\"", place.database.schema);
    let line = "SELECT id, amount * 2, pg_typeof(at), extract(microseconds FROM at AT TIME ZONE 'UTC'), extra -> 'a' ->> 0";
    let shown = place.server.query(&format!("{line} FROM {view}")).unwrap();
    assert_eq!(shown.trim(), "o-1|39.80|timestamp with time zone|59999999|1");
}

/// A schema as the first Headwater with read models in PostgreSQL made it is opened, brought up to date and folded on.
#[tokio::test]
async fn a_schema_of_the_first_format_is_brought_up_to_date() {
    // As it was released: what the program makes now may be written otherwise.
    const FIRST: &str = include_str!("golden/postgres_view_1.sql");
    let place = Schema::new("");
    let schema = &place.database.schema;
    let pool = sqlx::PgPool::connect(&place.database.url).await.unwrap();
    let made = format!(
        "CREATE SCHEMA {schema}; SET search_path TO {schema}; {FIRST}; UPDATE hw_rollout SET name = 'orders', last_revision = 4, version = 9"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(made)).execute(&pool).await.unwrap();
    let other = PostgresView::open(&place.database, "bills").await.unwrap_err();
    assert!(matches!(&other, Error::FailedPrecondition { .. }), "{other}");
    let format = format!("SELECT format FROM {schema}.hw_rollout");
    assert_eq!(place.server.query(&format).unwrap().trim(), "1");

    // Several at once, as when a deployment is updated.
    let (one, two) = tokio::join!(place.open(), place.open());
    assert_eq!(place.server.query(&format).unwrap().trim(), "3");
    let rollout = one.rollout().await.unwrap();
    assert_eq!((rollout.last_revision, rollout.declared), (4, None));
    let member =
        Member { id: Uuid::new_v4(), name: "a".into(), standing: Standing::Folds, report: String::new() };
    let look = Look {
        hold: vec![Partition::ZERO],
        partitions: PartitionCount::ONE,
        term: Duration::from_mins(1),
        member: member.clone(),
    };
    assert_eq!(two.look(&look).await.unwrap().holders, [Some(member.id)]);
}

mod serializable {
    use super::Schema;

    headwater_view::view_conformance!(Schema::new(
        "?options=-c%20default_transaction_isolation%3Dserializable"
    ));
}
