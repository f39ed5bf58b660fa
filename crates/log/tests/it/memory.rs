use headwater_core::PartitionCount;
use headwater_log::conformance::Fixture;
use headwater_log::{Clock, MemoryStore};

async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
    Fixture::new(MemoryStore::with_clock(partitions, clock))
}

headwater_log::store_conformance!(make);
