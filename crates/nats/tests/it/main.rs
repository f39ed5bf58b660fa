//! The bus's contract on a real NATS server.

mod suite;

use headwater_bus::CloudEvents;
use headwater_bus::conformance::Fixture;
use headwater_log::LogDescriptor;
use headwater_nats::{Made, NatsBus, NatsOptions, Provision};
use headwater_testkit::nats::Nats;

/// A stream that no other test has.
fn options(server: &Nats) -> NatsOptions {
    let name = format!("T{}", uuid::Uuid::new_v4().simple());
    NatsOptions {
        servers: vec![server.url()],
        subject: "hw.{stream}.{partition}.{type}".to_owned(),
        event_stream: name.to_lowercase(),
        stream_name: name,
        event_types: Vec::new(),
        provision: Provision::Create(Made { replicas: 1, in_memory: false, max_age: None, max_bytes: None }),
        credentials: None,
        tls: None,
    }
}

fn bus(options: NatsOptions, log: LogDescriptor) -> NatsBus {
    let events = CloudEvents::new("shop", &options.event_stream, log.log_id);
    NatsBus::new(options, events, log.partitions).unwrap()
}

mod nats {
    use super::*;

    async fn make(log: LogDescriptor) -> Fixture {
        let server = Nats::shared().unwrap();
        let bus = bus(options(&server), log);
        Fixture { bus: std::sync::Arc::new(bus), keep: Box::new(server) }
    }

    headwater_bus::bus_conformance!(make);
}

/// Where subjects do not tell partitions apart.
mod nats_with_types_alone {
    use super::*;

    async fn make(log: LogDescriptor) -> Fixture {
        let server = Nats::shared().unwrap();
        let options = NatsOptions { subject: "hw.{stream}.{type}".to_owned(), ..options(&server) };
        Fixture { bus: std::sync::Arc::new(bus(options, log)), keep: Box::new(server) }
    }

    headwater_bus::bus_conformance!(make);
}
