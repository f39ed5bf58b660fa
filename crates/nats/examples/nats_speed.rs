//! How long JetStream takes for a batch, by its size: `cargo run --release -p headwater-nats --example nats_speed [PARTITIONS] [SECONDS]`.
//!
//! One partition's events are published to a server of its own that syncs every message, to a file. Each batch's answer is waited for before the
//! next; before a figure is printed, the stream is asked whether it holds them all.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_bus::{Bus, Checkpoint, CloudEvents};
use headwater_core::{
    EventType, LogId, Metadata, NewEvent, Partition, PartitionCount, Position, RecordedEvent, StreamId,
    Version,
};
use headwater_nats::{Made, NatsBus, NatsOptions, Provision};
use headwater_testkit::nats::Nats;
use jiff::Timestamp;

/// Bytes of data an event.
const SIZE: usize = 256;

#[tokio::main]
async fn main() -> Result<()> {
    let argument = |index: usize| std::env::args().nth(index).and_then(|text| text.parse().ok());
    let partitions = PartitionCount::new(argument(1).unwrap_or(1))?;
    let seconds = Duration::from_secs(argument(2).unwrap_or(2).into());
    let server = Nats::start("")?;
    println!("events of {SIZE} bytes, {} partitions, a file, sync_interval: always", partitions.get());
    for size in [1, 2, 4, 8, 16, 32, 64, 128, 500] {
        let name = format!("S{size}");
        let options = NatsOptions {
            servers: vec![server.url()],
            stream_name: name.clone(),
            subject: "{stream}.{partition}.{type}".to_owned(),
            event_stream: name.clone(),
            event_types: Vec::new(),
            provision: Provision::Create(Made {
                replicas: 1,
                in_memory: false,
                max_age: None,
                max_bytes: None,
            }),
            credentials: None,
            tls: None,
        };
        let bus = NatsBus::new(options, CloudEvents::new("speed", &name, LogId::generate()), partitions)?;
        bus.reached(Partition::ZERO, &Checkpoint::default()).await?;
        let (start, mut count, mut batches) = (Instant::now(), 0, 0);
        while start.elapsed() < seconds {
            let events: Vec<RecordedEvent> =
                (1..=size).map(|index| event(count + index)).collect::<Result<_>>()?;
            bus.publish(&events).await?;
            count += size;
            batches += 1;
        }
        let elapsed = start.elapsed();
        let context = async_nats::jetstream::new(async_nats::connect(server.url()).await?);
        let messages = context.get_stream(&name).await.context("the stream")?.cached_info().state.messages;
        ensure!(messages == count, "{messages} of {count} events are there");
        println!(
            "{size:>4} at once: {:>7.2} ms a batch, {:>7.0} events/s",
            elapsed.as_secs_f64() * 1_000.0 / f64::from(batches),
            count as f64 / elapsed.as_secs_f64()
        );
    }
    Ok(())
}

fn event(position: u64) -> Result<RecordedEvent> {
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(SIZE - 11));
    Ok(RecordedEvent {
        id: NewEvent::json(EventType::new("Measured")?, "1").id,
        stream_id: StreamId::new("stream-1")?,
        event_type: EventType::new("Measured")?,
        version: Version::new(position),
        partition: Partition::ZERO,
        position: Position::new(position),
        schema_version: 1,
        content_type: NewEvent::JSON.to_owned(),
        data: data.into(),
        metadata: Metadata::empty(),
        recorded_at: Timestamp::now(),
    })
}
