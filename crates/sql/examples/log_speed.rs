//! How fast a log is on this machine, durable: `cargo run --release -p headwater-sql --example log_speed [SECONDS] [postgres]`.
//!
//! Each run starts with an empty log, in a new directory under the current one or in a schema of a PostgreSQL server of its own, and checks
//! at the end that all is there, in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_core::{
    Append, EventType, Expected, NewEvent, Partition, PartitionCount, Position, StreamId, Version,
};
use headwater_log::{Filter, LogReader, LogStore, LogWriter, ReadPartition, Sequencer, SequencerOptions};
use headwater_sql::{Database, OpenLog, PostgresLog, SqliteLog};
use headwater_testkit::postgres::Postgres;
use uuid::Uuid;

/// Bytes of data an event.
const SIZE: usize = 256;

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    tasks: usize,
    batch: usize,
    streams: usize,
    random_ids: bool,
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3.0);
    let server =
        std::env::args().any(|word| word == "postgres").then(|| Postgres::start().expect("a server"));
    let base =
        Load { name: "1 client, single events", tasks: 1, batch: 1, streams: 1_000, random_ids: false };
    for load in [
        base,
        Load { name: "32 clients, single events", tasks: 32, ..base },
        Load { name: "64 clients, single events", tasks: 64, ..base },
        Load { name: "128 clients, single events", tasks: 128, ..base },
        Load { name: "64 clients, single events, random ids", tasks: 64, random_ids: true, ..base },
        Load { name: "64 clients, single events, new streams", tasks: 64, streams: usize::MAX, ..base },
        Load { name: "8 clients, batches of 100", tasks: 8, batch: 100, ..base },
        Load {
            name: "8 clients, batches of 100, random ids",
            tasks: 8,
            batch: 100,
            random_ids: true,
            ..base
        },
    ] {
        Box::pin(run(load, Duration::from_secs_f64(seconds), server.as_ref())).await;
    }
}

async fn run(load: Load, time: Duration, server: Option<&Postgres>) {
    let directory = tempfile::tempdir_in(".").expect("a directory beside this one");
    let log: Arc<dyn LogStore> = match server {
        None => {
            let path = directory.path().join("log.db");
            let log = SqliteLog::open(&path, OpenLog::new("speed", PartitionCount::ONE)).await;
            Arc::new(log.expect("a new log"))
        }
        Some(server) => {
            let database =
                Database { url: server.url(), schema: Postgres::schema(), max_connections: 8, tls: None };
            Arc::new(PostgresLog::open(&database, "speed", PartitionCount::ONE).await.expect("a new log"))
        }
    };
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    let start = Instant::now();
    let tasks: Vec<_> = (0..load.tasks)
        .map(|task| tokio::spawn(client(sequencer.clone(), load, task, start + time)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a client that ends"));
    }
    let took = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let stats = sequencer.stats();
    let percentile = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    println!(
        "{:<42} {:>8.0} events/s  {:>6.1} events/commit  commit {:>5.2} ms  p50 {:>6.2} ms  p99 {:>6.2} ms",
        load.name,
        stats.events as f64 / took,
        stats.events as f64 / stats.batches as f64,
        stats.commit_micros as f64 / stats.batches as f64 / 1e3,
        percentile(0.5),
        percentile(0.99),
    );
    for page in [1_000, 100] {
        let start = Instant::now();
        let read = read(&*log, page).await;
        assert_eq!(read, stats.events, "everything is there");
        println!(
            "    read by pages of {page:<5} {:>31.0} events/s",
            read as f64 / start.elapsed().as_secs_f64()
        );
    }
    sequencer.shutdown().await;
}

async fn client(sequencer: Sequencer, load: Load, task: usize, end: Instant) -> Vec<u64> {
    let event_type = EventType::new("OrderCreated").expect("a name");
    let data = format!("{{\"text\":\"{}\"}}", "x".repeat(SIZE - 11));
    let mut latencies = Vec::new();
    let mut number = 0;
    while Instant::now() < end {
        let stream = (task + number * load.tasks) % load.streams;
        number += 1;
        let events = (0..load.batch)
            .map(|_| {
                let mut event = NewEvent::json(event_type.clone(), data.clone());
                if load.random_ids {
                    event.id = Uuid::new_v4();
                }
                event
            })
            .collect();
        let stream_id = StreamId::new(format!("order-{stream:012}")).expect("a name");
        let start = Instant::now();
        let appended = sequencer.append(Append { stream_id, expected: Expected::Any, events }).await;
        assert!(appended.expect("an append").version > Version::ZERO);
        latencies.push(start.elapsed().as_micros() as u64);
    }
    latencies
}

async fn read(log: &dyn LogReader, limit: usize) -> u64 {
    let mut after = Position::ZERO;
    loop {
        let page = log
            .read_partition(ReadPartition {
                partition: Partition::ZERO,
                after,
                up_to: None,
                filter: Filter::default(),
                limit,
                max_bytes: 4 << 20,
            })
            .await
            .expect("a page");
        for event in &page.events {
            assert_eq!(event.position, after.next(), "in order, without holes");
            assert_eq!(event.data.len(), SIZE);
            after = event.position;
        }
        if after == page.head {
            return after.get();
        }
    }
}
