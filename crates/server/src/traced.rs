//! Ports, with what they do said to traces.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_api::Client;
use headwater_bus::{BrokerReference, Bus, Checkpoint, Consumer, Reached};
use headwater_core::{Append, Appended, Partition, Position, RecordedEvent, Result};
use headwater_log::LogWriter;
use headwater_runtime::span;
use headwater_runtime::trace::{self, Traceparent};
use tracing::Instrument;
use tracing::field::Empty;

/// A bus whose publishing is traced: a span a batch, linked to where its events were appended.
pub(crate) struct TracedBus {
    bus: Arc<dyn Bus>,
    event_stream: String,
    system: &'static str,
}

impl TracedBus {
    pub(crate) fn new(bus: Arc<dyn Bus>, event_stream: &str, system: &'static str) -> Self {
        Self { bus, event_stream: event_stream.to_owned(), system }
    }
}

#[async_trait]
impl Bus for TracedBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        let span = span!(
            parent: None,
            "publish",
            otel.name = format_args!("publish {}", self.event_stream),
            // A consumer goes on from the append, whose context the events carry, not from here.
            otel.kind = "client",
            messaging.system = self.system,
            messaging.operation.name = "publish",
            messaging.operation.type = "send",
            messaging.destination.name = self.event_stream.as_str(),
            messaging.batch.message_count = events.len(),
            headwater.partition = events.first().map(|event| event.partition.get()),
            headwater.position = events.last().map(|event| event.position.get()),
            otel.status_code = Empty,
            error.type = Empty,
        );
        trace::link(&span, events.iter().map(|event| &event.metadata));
        let published = self.bus.publish(events).instrument(span.clone()).await;
        if let Err(error) = &published {
            trace::fail_by(&span, error);
        }
        published
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        self.bus.reached(partition, checkpoint).await
    }

    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>> {
        self.bus.consume(partition, after).await
    }
}

/// Appends to an event store elsewhere, as part of the trace that this process is in.
pub(crate) struct TracedWriter(pub(crate) Client);

#[async_trait]
impl LogWriter for TracedWriter {
    async fn append(&self, request: Append) -> Result<Appended> {
        let place = Traceparent::current();
        self.0.clone().in_trace(place.as_ref().map(Traceparent::as_str)).append(&request).await
    }
}
