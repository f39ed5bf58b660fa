//! The bus's contract, kept by a real broker; and what is Kafka's own.

mod faults;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod topics;
mod wire;

use headwater_bus::conformance::Fixture;
use headwater_bus::{Bus, Checkpoint};
use headwater_core::Partition;
use headwater_log::LogDescriptor;
use headwater_testkit::kafka::Kafka;

use support::{bus, options};

async fn make(log: LogDescriptor) -> Fixture {
    let kafka = Kafka::shared().unwrap();
    let bus = bus(options(&kafka, log.partitions), log.log_id);
    // As a relay does first: the topic is made.
    bus.reached(Partition::ZERO, &Checkpoint::default()).await.unwrap();
    Fixture { keep: Box::new(kafka), ..Fixture::new(bus) }
}

headwater_bus::bus_conformance!(make);
