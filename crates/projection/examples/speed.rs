//! How fast a projection folds: one upsert an event, from a log in memory, on SQLite, through the whole worker.
//!
//! ```text
//! cargo run --release -p headwater-projection --example speed [EVENTS] [PARTITIONS] [KEYS]
//! ```
//!
//! It checks its own result before it prints a figure.

use std::sync::Arc;
use std::time::Instant;

use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId, Token};
use headwater_log::{LogReader, LogStore, LogWriter, MemoryStore, Sequencer, SequencerOptions};
use headwater_projection::{Desired, ProjectionService};
use headwater_resources::manifest::read_texts;
use headwater_sql::SqliteView;
use headwater_view::{Query, ViewAdmin, ViewReader};
use tokio_util::sync::CancellationToken;

const MANIFEST: &str = r"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: shop}
spec: {partitions: PARTITIONS}
---
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: orders}
spec:
  streamRef: {name: shop}
  tables:
  - name: orders
    key: [order_id]
    columns:
    - {name: order_id, type: Text}
    - {name: customer, type: Text}
    - {name: amount, type: Decimal}
    - {name: created_on, type: Timestamp}
  rules:
  - events: [OrderCreated]
    type: Upsert
    table: orders
    key: {order_id: event.data.order_id}
    set: {customer: event.data.customer, amount: event.data.amount, created_on: event.time}
";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let events = arguments.next().unwrap_or(300_000);
    let partitions = arguments.next().unwrap_or(1);
    let keys = arguments.next().unwrap_or(events);

    let count = PartitionCount::new(partitions as u32).expect("a number of partitions");
    let log = Arc::new(MemoryStore::new(count));
    let writer = Sequencer::start(Arc::clone(&log) as Arc<dyn LogStore>, SequencerOptions::default());
    let order_created = EventType::new("OrderCreated").expect("a type");
    for number in 0..events {
        let order = number % keys;
        let data = format!(
            r#"{{"order_id":"0192f0c1-7b5e-7c3a-9d42-{order:012}","customer":"customer-{}","amount":{}.50,"note":"{}"}}"#,
            order % 1000,
            number % 500,
            "n".repeat(120)
        );
        let append = Append {
            stream_id: StreamId::new(format!("order-{order}")).expect("a stream id"),
            expected: Expected::Any,
            events: vec![NewEvent::json(order_created.clone(), data)],
        };
        writer.append(append).await.expect("an append");
    }

    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(SqliteView::open(directory.path().join("view.sqlite")).expect("a store"));
    let manifests =
        read_texts([("speed.yaml", MANIFEST.replace("PARTITIONS", &partitions.to_string()).as_str())]);
    let desired = Desired::new(&manifests.projections[0].spec, &manifests.event_streams[0].spec);
    let end = headwater_log::end(&*log).await.expect("the end");
    let token = Token::new(log.descriptor().log_id, end);

    let started = Instant::now();
    let service =
        ProjectionService::start("orders", "here", log.clone(), store.clone(), CancellationToken::new())
            .await
            .expect("a service");
    service.reconcile(desired).await.expect("a projection");
    service.wait_for(&token).await.expect("all events");
    let elapsed = started.elapsed();
    service.stop().await;

    let rollout = store.rollout().await.expect("a rollout");
    let record = rollout.active_record().expect("an active revision");
    let query = Query {
        revision: record.revision,
        active: true,
        table: 0,
        filter: vec![],
        order: Query::total_order(&record.tables[0], &[]),
        after: None,
        limit: usize::MAX >> 1,
    };
    let rows = store.query(&query).await.expect("rows").rows.len() as u64;
    assert_eq!(rows, keys.min(events), "the read model is not what was appended");
    let size = std::fs::metadata(store.path()).expect("the file").len();
    println!(
        "{events} events of ~240 bytes, one upsert each, {keys} keys, {partitions} partition(s), SQLite (WAL): {:.2} s, {:.0} events/s, {:.1} MB",
        elapsed.as_secs_f64(),
        events as f64 / elapsed.as_secs_f64(),
        size as f64 / 1e6
    );
}
