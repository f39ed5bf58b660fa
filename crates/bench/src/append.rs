//! Appends over gRPC: closed loops, each client on a connection of its own, each waiting for its answer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::Load;
use crate::figures::{Figure, Latencies, Target as Goal};
use crate::target::{EVENT_BYTES, Target, request};

/// How one kind of append is done.
struct Shape {
    clients: usize,
    batch: usize,
    goal: Option<Goal>,
}

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let alone = figure(load, &Shape { clients: 1, batch: 1, goal: None }).await?;
    // Group commit works when 64 clients are at least five times as fast as one.
    let goal = (alone.median * 5.0).max(12_000.0);
    let many = figure(load, &Shape { clients: 64, batch: 1, goal: Some(Goal::AtLeast(goal)) }).await?;
    let batches =
        figure(load, &Shape { clients: 8, batch: 100, goal: Some(Goal::AtLeast(60_000.0)) }).await?;
    Ok(vec![alone, many, batches])
}

async fn figure(load: Load, shape: &Shape) -> Result<Figure> {
    let mut rates = Vec::new();
    let mut latencies = Latencies::new();
    for _ in 0..load.runs {
        let target = Target::start().await?;
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
        format!("append over gRPC, {EVENT_BYTES} B, {clients}, {batch}, synced"),
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
async fn run(target: &Target, shape: &Shape, time: Duration) -> Result<(u64, Duration, Latencies)> {
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
