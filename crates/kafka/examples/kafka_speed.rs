//! How fast a relay publishes to Kafka on this machine: `cargo run --release -p headwater-kafka --example kafka_speed [EVENTS] [RUNS]`.
//!
//! A log in memory is relayed from its beginning, one partition, to a broker of its own (one node, Kafka's own settings: it acknowledges what
//! the system has, and does not wait for the disk). Each run has a topic of its own, and is read back to the last event before its figure is
//! printed: each position once, in order, as it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_bus::{Bus, CloudEvents, MemoryRelayState, Relay, RelayOptions};
use headwater_core::{
    Append, EventType, Expected, NewEvent, Partition, PartitionCount, Position, RecordedEvent, StreamId,
};
use headwater_kafka::{KafkaBus, KafkaOptions, Provision, Retention};
use headwater_log::{
    Epoch, Filter, LogReader, LogStore, LogWriter, MemoryStore, ReadPartition, Sequencer, SequencerOptions,
};
use headwater_testkit::kafka::Kafka;
use tokio_util::sync::CancellationToken;

/// Bytes of data an event.
const SIZE: usize = 256;
const ZERO: Partition = Partition::ZERO;

#[tokio::main]
async fn main() -> Result<()> {
    let argument = |index: usize| std::env::args().nth(index).and_then(|text| text.parse().ok());
    let (events, runs): (u64, u64) = (argument(1).unwrap_or(200_000), argument(2).unwrap_or(3));
    let log = log(events).await?;
    let all = read(&log).await?;
    let kafka = Kafka::start()?;
    println!("{events} events of {SIZE} bytes, 1 partition, acks=all, batches of up to 500 events");
    for run in 1..=runs {
        let (published, consumed) = measure(&kafka, &log, &all).await?;
        let rate = |time: Duration| events as f64 / time.as_secs_f64();
        println!(
            "run {run}: relayed {:>7.0} events/s, consumed {:>7.0} events/s",
            rate(published),
            rate(consumed)
        );
    }
    Ok(())
}

async fn log(events: u64) -> Result<Arc<MemoryStore>> {
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let writer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(SIZE - 11));
    ensure!(data.len() == SIZE, "an event has {} bytes", data.len());
    for batch in 0..events.div_ceil(1_000) {
        let number = (events - batch * 1_000).min(1_000);
        let event = || Ok(NewEvent::json(EventType::new("Measured")?, data.clone()));
        writer
            .append(Append {
                stream_id: StreamId::new(format!("stream-{}", batch % 100))?,
                expected: Expected::Any,
                events: (0..number).map(|_| event()).collect::<Result<_>>()?,
            })
            .await?;
    }
    Ok(store)
}

async fn read(log: &MemoryStore) -> Result<Vec<RecordedEvent>> {
    let request = ReadPartition {
        partition: ZERO,
        after: Position::ZERO,
        up_to: None,
        filter: Filter::default(),
        limit: usize::MAX,
        max_bytes: usize::MAX,
    };
    Ok(log.read_partition(request).await?.events)
}

/// How long the relay took, and a consumer afterwards.
async fn measure(
    kafka: &Kafka,
    log: &Arc<MemoryStore>,
    all: &[RecordedEvent],
) -> Result<(Duration, Duration)> {
    let options = KafkaOptions {
        bootstrap_servers: vec![kafka.address()],
        topic: Kafka::topic(),
        partitions: PartitionCount::ONE,
        provision: Provision::Create {
            replication_factor: 1,
            config: BTreeMap::new(),
            retention: Retention::default(),
        },
        sasl: None,
        tls: None,
    };
    let wire = CloudEvents::new("bench", "speed", log.descriptor().log_id);
    let bus = Arc::new(KafkaBus::new(options, wire)?);
    let relay = Relay::new(
        Arc::clone(log) as Arc<dyn LogReader>,
        Arc::clone(&bus) as Arc<dyn Bus>,
        Arc::new(MemoryRelayState::default()),
        RelayOptions::default(),
    );
    let last = all.last().context("no events")?.position;
    let stop = CancellationToken::new();
    let mut relayed = relay.relayed(ZERO);
    let began = Instant::now();
    let published = async {
        relayed.wait_for(|position| *position >= last).await?;
        let published = began.elapsed();
        stop.cancel();
        anyhow::Ok(published)
    };
    let (ran, published) = tokio::join!(relay.run(ZERO, Epoch(1), &stop), published);
    ran?;
    let stats = relay.stats();
    ensure!(stats.published == all.len() as u64 && stats.failures == 0, "not without faults: {stats:?}");

    let began = Instant::now();
    let mut consumer = bus.consume(ZERO, Position::ZERO).await?;
    let mut seen = 0;
    while seen < all.len() {
        for event in consumer.next().await? {
            ensure!(all.get(seen) == Some(&event), "event {} is not what was relayed", event.position);
            seen += 1;
        }
    }
    Ok((published?, began.elapsed()))
}
