use std::sync::{Arc, Mutex};

use headwater_core::PartitionCount;
use headwater_log::conformance::{Fixture, agrees_with_the_model, step};
use headwater_log::{Clock, LogStore};
use headwater_sql::{OpenLog, SqliteLog};
use proptest::prelude::*;

async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let options = OpenLog { clock, ..OpenLog::new("orders", partitions) };
    let log = SqliteLog::open(directory.path().join("log.db"), options).await.unwrap();
    Fixture { store: Arc::new(log), keep: Box::new(directory) }
}

headwater_log::store_conformance!(make);

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model_and_survives_reopening(
        numbers in prop::collection::vec(prop::collection::vec(any::<[u8; 5]>(), 0..12), 1..10),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let steps: Vec<_> = numbers.iter().map(|numbers| step(numbers)).collect();
        let directory = tempfile::tempdir().unwrap();
        let opened: Mutex<Option<Arc<SqliteLog>>> = Mutex::default();
        let open = async |partitions: PartitionCount, clock: Clock| {
            let options = OpenLog { clock, ..OpenLog::new("orders", partitions) };
            let log = Arc::new(SqliteLog::open(directory.path().join("log.db"), options).await.unwrap());
            *opened.lock().unwrap() = Some(Arc::clone(&log));
            Fixture { store: log as Arc<dyn LogStore>, keep: Box::new(()) }
        };
        let close = async |_: Fixture| {
            let log = opened.lock().unwrap().take().unwrap();
            log.close().await;
        };
        runtime.block_on(agrees_with_the_model(&steps, open, close));
    }
}
