//! A real broker: how fast a log is relayed to it, and how soon what is appended is seen in a read model that the broker feeds.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt as _;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::{EventStore, QueryWorker};
use headwater_testkit::http::Http;
use headwater_testkit::nats::Nats;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::Load;
use crate::figures::{Figure, Latencies, Target as Goal};
use crate::projection::{MANIFEST, answer};
use crate::target::{ByItself, request};
use crate::usage::resident_megabytes;

/// Events that are there before the relay starts.
const EVENTS: u64 = 300_000;
/// Events appended in a second while it is timed how soon they are seen, and every how many-th is.
const RATE: u64 = 1_000;
const TIMED: u64 = 5;

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let (database, broker) = (Postgres::start()?, Nats::start("")?);
    let mut figures = relay(load, &database, &broker).await?;
    figures.extend(seen(load, &database, &broker).await?);
    Ok(figures)
}

/// A JetStream stream called `name`, in a manifest.
fn bus(name: &str) -> String {
    format!(
        "{{type: NATS, nats: {{servers: ['nats://nats:4222'], streamName: {name}, subject: '{name}.{{partition}}.{{type}}'}}}}"
    )
}

async fn relay(load: Load, database: &Postgres, broker: &Nats) -> Result<Vec<Figure>> {
    let (mut rates, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..load.runs {
        let name = Postgres::schema();
        let target = ByItself::with_bus(database, &bus(&name)).await?;
        target.fill(EVENTS, 100).await?;
        let ByItself { store, folder, .. } = target;
        ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
        let told = ["--bus".to_owned(), broker.url()];
        let start = Instant::now();
        let store = EventStore::told(folder.path(), &database.url(), &told).await?;
        until_there(broker, &name).await?;
        let elapsed = start.elapsed();
        sizes.push(resident_megabytes(store.process().id()?)?);
        check(broker, &name).await?;
        rates.push(EVENTS as f64 / elapsed.as_secs_f64());
    }
    let work = "relay of a log in PostgreSQL to NATS JetStream (file, sync always), 256-byte events, one partition, from the start of the event store to the last event on the bus";
    Ok(vec![
        Figure::new(work, "events/s", rates).with_target(Goal::AtLeast(30_000.0)),
        Figure::new("`headwater-eventstore` after that, resident", "MB", sizes)
            .with_target(Goal::AtMost(150.0)),
    ])
}

async fn until_there(broker: &Nats, name: &str) -> Result<()> {
    let client = async_nats::connect(broker.url()).await?;
    let context = async_nats::jetstream::new(client);
    let began = Instant::now();
    loop {
        // The relay makes the stream.
        let messages = match context.get_stream(name).await {
            Ok(stream) => stream.cached_info().state.messages,
            Err(_) => 0,
        };
        if messages >= EVENTS {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE * 2, "{messages} of {EVENTS} events are on the bus");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each event is there once, in order.
async fn check(broker: &Nats, name: &str) -> Result<()> {
    let client = async_nats::connect(broker.url()).await?;
    let stream = async_nats::jetstream::new(client).get_stream(name).await?;
    let config = OrderedConfig { headers_only: true, ..OrderedConfig::default() };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    for expected in 1..=EVENTS {
        let message = messages.next().await.context("a message")??;
        let position = message.headers.as_ref().and_then(|headers| headers.get("ce-position"));
        let position: u64 = position.context("a position")?.as_str().parse()?;
        ensure!(position == expected, "position {position} stands where {expected} should");
    }
    Ok(())
}

/// From the call of an append to its answer, to the message on the bus, and to an answer of the query API that covers it.
async fn seen(load: Load, database: &Postgres, broker: &Nats) -> Result<Vec<Figure>> {
    let (mut answered, mut carried, mut seen) = (Latencies::new(), Latencies::new(), Latencies::new());
    let mut rates = Vec::new();
    for _ in 0..load.runs {
        let name = Postgres::schema();
        let told = ["--bus".to_owned(), broker.url()];
        let target = ByItself::told(database, &bus(&name), &told).await?;
        let schema =
            format!("  streamRef: {{name: bench}}\n  sink: {{sql: {{schema: {}}}}}", Postgres::schema());
        let manifest = MANIFEST.replace("  streamRef: {name: bench}", &schema);
        write(target.folder.path(), "projection.yaml", &manifest)?;
        let folder = target.folder.path();
        let worker = QueryWorker::fed_by(folder, target.store.url(), &database.url(), &broker.url()).await?;
        let http = Http::new(target.store.url(), worker.url());
        answer(&http, worker.url(), &target.token().await?).await?;

        let count = RATE * u64::from(load.seconds);
        let (start, every) = (Instant::now(), Duration::from_secs(1) / RATE as u32);
        let client = target.connect().await?;
        let messages = async_nats::connect(broker.url()).await?.subscribe(format!("{name}.>")).await?;
        let carrying = tokio::spawn(arrivals(messages, start, every, count));
        let mut running = JoinSet::new();
        for number in 0..count {
            let due = start + every * number as u32;
            tokio::time::sleep_until(due.into()).await;
            let (mut client, http, queries) = (client.clone(), http.clone(), worker.url().to_owned());
            running.spawn(async move {
                let append = request(&format!("stream-{}", number % 100), 1, number);
                let stored = client.append(append).await?.into_inner();
                let answer = due.elapsed();
                if number % TIMED > 0 {
                    return Ok((answer, None));
                }
                let url = format!(
                    "{queries}/v1/projections/measured/measured/{number:09}000?timeout=10s&min_token={}",
                    stored.token
                );
                let row: Value = http.json(&url).await?;
                ensure!(row["id"] == format!("{number:09}000"), "{row}");
                // Measured from when it should have begun: a queue in front counts.
                anyhow::Ok((answer, Some(due.elapsed())))
            });
        }
        while let Some(done) = running.join_next().await {
            let (answer, row) = done??;
            answered.record(answer);
            if let Some(row) = row {
                seen.record(row);
            }
        }
        carried.add(&carrying.await??);
        rates.push(count as f64 / start.elapsed().as_secs_f64());
        target.read_back(count).await?;
    }
    let work = "1,000 appends/s to an event store over PostgreSQL, through NATS to a query worker over PostgreSQL: from the call to an answer that shows the row, every fifth timed";
    let stages = [
        (work, &seen),
        ("the same, from the call to the append's answer", &answered),
        ("the same, from the call to a NATS subscriber", &carried),
    ];
    Ok(stages
        .map(|(work, latencies)| Figure::new(work, "events/s", rates.clone()).with_latencies(latencies))
        .into())
}

/// When the messages of `count` events come, each of which was due `every` so long after `start`.
async fn arrivals(
    mut messages: async_nats::Subscriber,
    start: Instant,
    every: Duration,
    count: u64,
) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for _ in 0..count {
        let message = messages.next().await.context("a message")?;
        let event: Value = serde_json::from_slice(&message.payload)?;
        let number: u32 =
            event["id"].as_str().context("an id")?.parse::<u64>()?.div_euclid(1_000).try_into()?;
        latencies.record((start + every * number).elapsed());
    }
    Ok(latencies)
}
