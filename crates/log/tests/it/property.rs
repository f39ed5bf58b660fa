use std::sync::Arc;

use headwater_core::PartitionCount;
use headwater_log::conformance::{Fixture, agrees_with_the_model, step};
use headwater_log::{Clock, LogStore, MemoryStore};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(
        numbers in prop::collection::vec(prop::collection::vec(any::<[u8; 5]>(), 0..12), 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let steps: Vec<_> = numbers.iter().map(|numbers| step(numbers)).collect();
        // What is in memory outlives its writers only.
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::new(PartitionCount::ONE));
        let open = async |_: PartitionCount, _: Clock| Fixture { store: Arc::clone(&store), keep: Box::new(()) };
        runtime.block_on(agrees_with_the_model(&steps, open, async |_| {}));
    }
}
