//! How long an event stream takes from its manifest to its first event.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headwater_testkit::postgres::Postgres;
use serde_json::json;

use crate::kubectl::{Namespace, alone, apply, url_for_pods};
use crate::orders::append;

/// With the image on the node.
const AT_MOST: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_stream_takes_its_first_event_within_ten_seconds() -> Result<()> {
    // What other tests have the nodes do is not what is measured.
    let _alone = alone().await?;
    let database = Postgres::start()?;
    let mut took = Vec::new();
    for _ in 0..3 {
        let mut namespace = Namespace::new("first")?;
        namespace.reach("db", 5432, database.port())?;
        let url = url_for_pods(&database, "db");
        namespace.secret("orders-db", "uri", &url)?;
        let caller = namespace.caller()?;
        // Each has a schema of its own.
        let schema = Postgres::schema();
        let stream = json!({
            "apiVersion": "headwater.dev/v1alpha1",
            "kind": "EventStream",
            "metadata": {"name": "orders", "namespace": namespace.name},
            "spec": {"database": {"type": "PostgreSQL", "schema": schema, "urlSecretRef": {"name": "orders-db", "key": "uri"}}},
        });
        let began = Instant::now();
        apply(&stream)?;
        let event = append("1")?;
        let is_appended = async || {
            let Ok(store) = namespace.url("orders-eventstore") else { return Ok(None) };
            Ok(caller.post(&format!("{store}/v1/streams/order-1/events"), &event).await.ok())
        };
        namespace.eventually("the first event", is_appended).await?;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("from the apply of an EventStream to its first event: {took:?}");
    ensure!(took[1] <= AT_MOST, "{took:?}");
    Ok(())
}
