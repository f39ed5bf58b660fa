//! Appends over gRPC: closed loops, each client on a connection of its own, each waiting for its answer.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::proxy::Proxy;
use tokio::task::JoinSet;

use crate::Load;
use crate::figures::{Figure, Latencies, Target as Goal};
use crate::target::{ByItself, EVENT_BYTES, Log, Target, request};
use crate::usage::resident_megabytes;

/// What a database that is replicated elsewhere adds to each question and its answer.
const ROUND_TRIP: Duration = Duration::from_millis(2);

/// How one kind of append is done.
struct Shape {
    clients: usize,
    batch: usize,
    goal: Option<Goal>,
}

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let dev = async || Target::start().await;
    let alone = figure(load, &Shape { clients: 1, batch: 1, goal: None }, "", dev).await?;
    // Group commit works when 64 clients are at least five times as fast as one.
    let goal = (alone.median * 5.0).max(12_000.0);
    let many =
        figure(load, &Shape { clients: 64, batch: 1, goal: Some(Goal::AtLeast(goal)) }, "", dev).await?;
    let batches =
        figure(load, &Shape { clients: 8, batch: 100, goal: Some(Goal::AtLeast(60_000.0)) }, "", dev).await?;
    Ok(vec![alone, many, batches])
}

/// The same to an event store over PostgreSQL, whose `fsync` is on.
pub(crate) async fn measure_postgres(load: Load) -> Result<Vec<Figure>> {
    let server = Postgres::start()?;
    let mut figures = Vec::new();
    let mut sizes = Vec::new();
    for (clients, batch, goal) in
        [(1, 1, None), (32, 1, Some(17_000.0)), (128, 1, Some(22_000.0)), (8, 100, Some(60_000.0))]
    {
        let shape = Shape { clients, batch, goal: goal.map(Goal::AtLeast) };
        let start = async || ByItself::over(&server).await;
        figures.push(figure(load, &shape, ", PostgreSQL", start).await?);
    }
    // A database that answers when two more of its replicas have what was written.
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    let proxy = Proxy::with_round_trip(address, ROUND_TRIP)?;
    let shape = Shape { clients: 64, batch: 1, goal: Some(Goal::AtLeast(15_000.0)) };
    let over = format!(", PostgreSQL {ROUND_TRIP:?} away");
    figures.push(figure(load, &shape, &over, async || ByItself::behind(&proxy, &server).await).await?);
    for _ in 0..load.runs {
        let target = ByItself::over(&server).await?;
        run(&target, &Shape { clients: 128, batch: 1, goal: None }, Duration::from_secs(load.seconds.into()))
            .await?;
        sizes.push(resident_megabytes(target.store.process().id()?)?);
    }
    figures.push(
        Figure::new("`headwater-eventstore` after 128 clients, resident", "MB", sizes)
            .with_target(Goal::AtMost(150.0)),
    );
    Ok(figures)
}

async fn figure<T: Deref<Target = Log>>(
    load: Load,
    shape: &Shape,
    over: &str,
    start: impl AsyncFn() -> Result<T>,
) -> Result<Figure> {
    let mut rates = Vec::new();
    let mut latencies = Latencies::new();
    for _ in 0..load.runs {
        let target = start().await?;
        // Connections, caches and the file's first pages are not what is measured.
        run(&target, shape, Duration::from_millis(500)).await?;
        let before = target.head().await?;
        let (events, elapsed, timed) = run(&target, shape, Duration::from_secs(load.seconds.into())).await?;
        ensure!(
            target.head().await? == before + events,
            "acknowledged {events} events, the head moved by {}",
            target.head().await? - before
        );
        target.read_back(before + events).await?;
        rates.push(events as f64 / elapsed.as_secs_f64());
        latencies.add(&timed);
    }
    let clients =
        if shape.clients == 1 { "1 client".to_owned() } else { format!("{} clients", shape.clients) };
    let batch =
        if shape.batch == 1 { "one by one".to_owned() } else { format!("in batches of {}", shape.batch) };
    let figure = Figure::new(
        format!("append over gRPC{over}, {EVENT_BYTES} B, {clients}, {batch}, synced"),
        "events/s",
        rates,
    )
    .with_latencies(&latencies);
    Ok(match shape.goal {
        Some(goal) => figure.with_target(goal),
        None => figure,
    })
}

/// Events acknowledged, the time it took, and the latency of each request.
async fn run(target: &Log, shape: &Shape, time: Duration) -> Result<(u64, Duration, Latencies)> {
    let mut clients = Vec::new();
    for _ in 0..shape.clients {
        clients.push(target.connect().await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let batch = shape.batch;
        tasks.spawn(async move {
            let (mut events, mut latencies) = (0, Latencies::new());
            let stream_id = format!("stream-{number}");
            while start.elapsed() < time {
                let request = request(&stream_id, batch, events);
                let sent = Instant::now();
                client.append(request).await?;
                latencies.record(sent.elapsed());
                events += batch as u64;
            }
            anyhow::Ok((events, latencies))
        });
    }
    let (mut events, mut latencies) = (0, Latencies::new());
    while let Some(done) = tasks.join_next().await {
        let (count, timed) = done??;
        events += count;
        latencies.add(&timed);
    }
    Ok((events, start.elapsed(), latencies))
}
