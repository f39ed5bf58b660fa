//! Sagas of two HTTP steps against a participant in this process: how many complete, how soon, and what waiting ones cost.

mod participant;
mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use tokio::task::JoinSet;

use crate::Load;
use crate::figures::{Figure, Latencies, Target as Goal};
use crate::usage::{cpu_time, resident_megabytes};
use participant::STEPS;
use running::Running;

/// Instances in flight in the closed load.
const IN_FLIGHT: usize = 64;
/// Instances that wait for a reply.
const WAITING: u64 = 100_000;
/// Of those that wait, how many are answered in the end, to see that they do.
const ANSWERED: u64 = 1_000;
/// Events an append when those that wait are begun.
const BATCH: usize = 500;
/// After the last answer, before the cost of waiting is read.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the cost of waiting is read.
const IDLE: Duration = Duration::from_secs(10);

const STREAM: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: bench}
spec: {}
---
";

const TWO_STEPS: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: bench}
spec:
  streamRef: {name: bench}
  startOn: {events: [Begun]}
  instance: "${event.data.id}"
  variables: {id: event.data.id}
  steps:
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: "http://participant/reserve", body: {id: id}}}
    compensation: {type: HTTP, http: {method: POST, url: "http://participant/release", body: {id: id}}}
  - name: charge
    action: {type: HTTP, http: {method: POST, url: "http://participant/charge", body: {id: id}}}
    compensation: {type: HTTP, http: {method: POST, url: "http://participant/refund", body: {id: id}}}
  onCompleted: {append: {streamId: "done-${id}", type: Done, data: {id: id}}}
"#;

const ONE_THAT_WAITS: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: bench}
spec:
  streamRef: {name: bench}
  startOn: {events: [Begun]}
  instance: "${event.data.id}"
  variables: {id: event.data.id}
  timeout: 24h
  steps:
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: "http://participant/reserve", body: {id: id}}}
    awaitReply: {success: [Reserved], correlate: {event: event.data.id, instance: id}}
    timeout: 12h
    compensation: {type: HTTP, http: {method: POST, url: "http://participant/release", body: {id: id}}}
  onCompleted: {append: {streamId: "done-${id}", type: Done, data: {id: id}}}
"#;

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let closed = closed(load).await?;
    let rate = closed.median / 2.0;
    let mut figures = vec![closed];
    figures.extend(open(load, rate).await?);
    figures.extend(waiting().await?);
    Ok(figures)
}

/// As many as complete with so many in flight.
async fn closed(load: Load) -> Result<Figure> {
    let mut rates = Vec::new();
    let mut latencies = Latencies::new();
    for _ in 0..load.runs {
        let running = Arc::new(Running::start(&format!("{STREAM}{TWO_STEPS}")).await?);
        let next = Arc::new(AtomicU64::new(0));
        // Connections, caches and the files' first pages are not what is measured.
        run_closed(&running, &next, Duration::from_millis(500)).await?;
        let before = next.load(Ordering::Relaxed);
        let start = Instant::now();
        let timed = run_closed(&running, &next, Duration::from_secs(load.seconds.into())).await?;
        let elapsed = start.elapsed();
        let all = next.load(Ordering::Relaxed);
        check_all(&running, all).await?;
        rates.push((all - before) as f64 / elapsed.as_secs_f64());
        latencies.add(&timed);
    }
    let work = format!(
        "sagas of two HTTP steps, {IN_FLIGHT} in flight, from the event that begins one to the one that ends it"
    );
    Ok(Figure::new(work, "instances/s", rates).with_latencies(&latencies).with_target(Goal::AtLeast(1_000.0)))
}

async fn run_closed(running: &Arc<Running>, next: &Arc<AtomicU64>, time: Duration) -> Result<Latencies> {
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (running, next) = (Arc::clone(running), Arc::clone(next));
        clients.spawn(async move {
            let mut latencies = Latencies::new();
            while start.elapsed() < time {
                let begun = Instant::now();
                running.complete(next.fetch_add(1, Ordering::Relaxed)).await?;
                latencies.record(begun.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    gather(clients).await
}

/// Sagas that come at `rate` a second, however many are in flight: how long the slow ones take.
async fn open(load: Load, rate: f64) -> Result<Vec<Figure>> {
    let mut slowest = Vec::new();
    let mut latencies = Latencies::new();
    for _ in 0..load.runs {
        let running = Arc::new(Running::start(&format!("{STREAM}{TWO_STEPS}")).await?);
        let warm = (rate / 2.0) as u64;
        run_open(&running, 0..warm, rate).await?;
        let all = warm + (rate * f64::from(load.seconds)) as u64;
        let timed = run_open(&running, warm..all, rate).await?;
        check_all(&running, all).await?;
        slowest.push(timed.at(0.99));
        latencies.add(&timed);
    }
    let work =
        format!("the same at {rate:.0} new ones a second, half of that: the 99th percentile, end to end");
    Ok(vec![Figure::new(work, "ms", slowest).with_latencies(&latencies).with_target(Goal::AtMost(100.0))])
}

async fn run_open(running: &Arc<Running>, numbers: std::ops::Range<u64>, rate: f64) -> Result<Latencies> {
    let start = Instant::now();
    let mut instances = JoinSet::new();
    for (index, number) in numbers.enumerate() {
        // Timed from when it should have come: a stall of the load itself is not hidden.
        let due = start + Duration::from_secs_f64(index as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let running = Arc::clone(running);
        instances.spawn(async move {
            running.complete(number).await?;
            let mut latencies = Latencies::new();
            latencies.record(due.elapsed());
            anyhow::Ok(latencies)
        });
    }
    gather(instances).await
}

async fn gather(mut timed: JoinSet<Result<Latencies>>) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    while let Some(one) = timed.join_next().await {
        latencies.add(&one??);
    }
    Ok(latencies)
}

/// All of them have ended, and each step was done under one key.
async fn check_all(running: &Running, count: u64) -> Result<()> {
    running.settled(count, 0).await?;
    running.participant.check(count, STEPS.len())
}

/// What those that wait for a reply cost.
async fn waiting() -> Result<Vec<Figure>> {
    let mut running = Running::start(&format!("{STREAM}{ONE_THAT_WAITS}")).await?;
    let numbers: Vec<u64> = (0..WAITING).collect();
    let begin = |batch: Vec<u64>| {
        let running = &running;
        async move { running.append("Begun", &batch).await }
    };
    let batches: Vec<Vec<u64>> = numbers.chunks(BATCH).map(<[u64]>::to_vec).collect();
    futures_util::stream::iter(batches.into_iter().map(begin))
        .buffer_unordered(4)
        .try_collect::<()>()
        .await?;
    running.participant.has_kept(WAITING).await?;
    tokio::time::sleep(SETTLE).await;
    let process = running.dev.process().id()?;
    let (before, start) = (cpu_time(process)?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let used = cpu_time(process)?.saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64();
    let resident = resident_megabytes(process)?;
    running.settled(WAITING, WAITING).await?;
    running.participant.check(WAITING, 1)?;

    // They do wait: those that are answered end, and no others.
    let answered: Vec<u64> = (0..WAITING).step_by((WAITING / ANSWERED) as usize).collect();
    ensure!(answered.len() as u64 == ANSWERED, "{} are answered", answered.len());
    let ends = answered.iter().map(|number| Ok((*number, running.wait_for(*number)?)));
    let ends = ends.collect::<Result<Vec<_>>>()?;
    running.append("Reserved", &answered).await?;
    for (number, end) in ends {
        running.ended(number, end).await?;
    }
    running.settled(WAITING, WAITING - ANSWERED).await?;
    Ok(vec![
        Figure::new("100,000 sagas that wait for a reply, `headwater dev` resident", "MB", vec![resident])
            .with_target(Goal::AtMost(200.0)),
        Figure::new("the same, of one core", "%", vec![used * 100.0]).with_target(Goal::AtMost(2.0)),
    ])
}
