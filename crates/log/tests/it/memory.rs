use std::sync::Arc;

use headwater_core::PartitionCount;
use headwater_log::conformance::{Fixture, LogFixture};
use headwater_log::{Clock, MemoryStore};

async fn make(partitions: PartitionCount, clock: Clock) -> Fixture {
    Fixture::new(MemoryStore::with_clock(partitions, clock))
}

headwater_log::store_conformance!(make);

/// Reads that take their time, as over a network: calls that are dropped are dropped in the middle.
mod slow {
    use super::*;
    use headwater_log::conformance::FaultyStore;

    async fn make(partitions: PartitionCount) -> LogFixture {
        let fixture = super::make(partitions, Clock::system()).await;
        let reader = Arc::new(FaultyStore::new(Arc::clone(&fixture.store), 0, 0));
        LogFixture { reader, ..fixture.sequenced() }
    }

    headwater_log::log_conformance!(make);
}

mod leases {
    use std::sync::Arc;

    use headwater_core::PartitionCount;
    use headwater_log::conformance::LeaseFixture;
    use headwater_log::{Clock, MemoryStore};

    async fn make(partitions: PartitionCount, clock: Clock) -> LeaseFixture {
        LeaseFixture { store: Arc::new(MemoryStore::with_clock(partitions, clock)), keep: Box::new(()) }
    }

    headwater_log::lease_conformance!(make);
}
