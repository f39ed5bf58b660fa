//! The view on PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_sql::{Database, PostgresView};
use headwater_testkit::postgres::Postgres;
use headwater_view::ViewStore;
use headwater_view::conformance::Place;

struct Schema {
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
        };
        Self { server, database }
    }
}

#[async_trait]
impl Place for Schema {
    async fn open(&self) -> Arc<dyn ViewStore> {
        assert!(self.server.port() > 0);
        Arc::new(PostgresView::open(&self.database).await.expect("a store"))
    }
}

headwater_view::view_conformance!(Schema::new(""));

mod serializable {
    use super::Schema;

    headwater_view::view_conformance!(Schema::new(
        "?options=-c%20default_transaction_isolation%3Dserializable"
    ));
}
