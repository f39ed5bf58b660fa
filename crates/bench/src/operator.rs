//! The operator on a real API server: how soon children are there, how long a thousand resources take, and what rest costs. `cargo xtask bench
//! operator` starts the cluster, which has no node of its own: KWOK has nodes and pods, and this process answers where pods would.
//!
//! ```text
//! bench ──apply──▶ kube-apiserver ◀──▶ headwater-operator (a process of its own, with the rights that the chart gives it)
//!   ▲                   ▲                      │
//!   │ watches children ─┘    KWOK: pods        │ asks workers
//!   └───────────── 10.244.N.N:50051, 8082, 8081 ◀┘
//! ```

mod ceiling;
mod cluster;
mod fleet;
mod workers;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::figures::{Figure, Latencies, Target as Goal};
use crate::usage::{cpu_time, resident_megabytes};
use cluster::{Cluster, Operator};
use fleet::{Fleet, SIZE};

/// Resources that are applied one by one, to see how soon their children are there.
const ONE_BY_ONE: usize = 100;

/// For how long an operator at rest is looked at.
const REST: Duration = Duration::from_mins(1);

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_mins(8);

/// Megabytes in a mebibyte: limits of memory are said in these.
const MEBIBYTE: f64 = 1.048_576;

pub(crate) async fn measure() -> Result<Vec<Figure>> {
    let cluster = Cluster::prepare().await?;
    let answering = workers::serve()?;
    let mut figures = Vec::new();
    let operator = cluster.operator("one").await?;
    cluster.until_quiet(&operator).await?;
    let idle = resident_megabytes(operator.process.id()?)?;
    figures.push(one_by_one(&cluster).await?);

    let fleet = Fleet::new(&cluster, "fleet").await?;
    let began = Instant::now();
    let mut made = fleet.watch();
    fleet.apply().await?;
    let applied = began.elapsed();
    let children = made.all(SIZE.children()).await?;
    let took = children - began;
    let work = format!("{SIZE}, from nothing to their {} children", SIZE.children());
    figures.push(Figure::new(work, "s", vec![took.as_secs_f64()]).with_target(Goal::AtMost(180.0)));
    let work = "the same, until the client's applies of the resources are answered";
    figures.push(Figure::new(work, "s", vec![applied.as_secs_f64()]));
    fleet.until_ready().await?;
    let work = "the same, until all are Ready, with Kubernetes' controllers and scheduler";
    figures.push(Figure::new(work, "s", vec![began.elapsed().as_secs_f64()]));

    cluster.until_quiet(&operator).await?;
    figures.extend(at_rest(&cluster, &operator).await?);
    let full = resident_megabytes(operator.process.id()?)?;
    for (work, size, most) in [
        ("`headwater-operator` idle, resident", idle, 30.0),
        ("`headwater-operator` with 1,000 resources, resident", full, 60.0),
    ] {
        figures.push(Figure::new(work, "MB", vec![size]).with_target(Goal::AtMost(most * MEBIBYTE)));
    }
    let last = handed_over(&cluster, operator, &mut figures).await?;
    last.process.terminate().await?;

    let (objects, took) = ceiling::measure(&cluster, &fleet).await?;
    ensure!(objects == SIZE.children(), "{objects} children were there");
    let work = format!("{objects} such children, applied by a client alone, as many at a time");
    figures.push(Figure::new(work, "s", vec![took.as_secs_f64()]));
    drop(answering);
    Ok(figures)
}

/// From the apply of a Projection to its children, with nothing else to do.
async fn one_by_one(cluster: &Cluster) -> Result<Figure> {
    let fleet = Fleet::new(cluster, "idle").await?;
    let mut made = fleet.watch();
    fleet.stream("orders").await?;
    made.all(fleet::OF_A_STREAM).await?;
    let mut latencies = Latencies::new();
    for number in 0..ONE_BY_ONE {
        let name = format!("one-{number}");
        fleet.until_ready().await?;
        let began = Instant::now();
        fleet.projection(&name, "orders").await?;
        latencies.record(made.all(fleet::OF_A_FOLLOWER).await? - began);
    }
    let work = "apply of a Projection to its five children, one by one";
    Ok(Figure::new(work, "ms (p99)", vec![latencies.at(0.99)])
        .with_latencies(&latencies)
        .with_target(Goal::AtMost(250.0)))
}

/// Writes of an operator with nothing to do, and what a pass costs that finds all as it is to be.
async fn at_rest(cluster: &Cluster, operator: &Operator) -> Result<Vec<Figure>> {
    let process = operator.process.id()?;
    let (writes, passes, used) = (cluster.writes()?, operator.passes().await?, cpu_time(process)?);
    // What it does meanwhile is what is measured.
    tokio::time::sleep(REST).await;
    let written = cluster.writes()?.of_resources - writes.of_resources;
    let renewed = cluster.writes()?.of_leases - writes.of_leases;
    ensure!(renewed > 0, "the audit log has no renewal of the lease: it would have no other write, either");
    let passes = operator.passes().await? - passes;
    let used = cpu_time(process)?.saturating_sub(used);
    ensure!(passes as usize >= SIZE.resources(), "{passes} passes over {} resources", SIZE.resources());
    let seconds = REST.as_secs_f64();
    Ok(vec![
        Figure::new(
            format!("writes of the operator in {seconds} s at rest, 1,000 resources, beside {renewed} renewals of its lease"),
            "writes",
            vec![written as f64],
        )
        .with_target(Goal::AtMost(0.0)),
        Figure::new("passes at rest that find all as it is to be, a second of processor time", "passes/s", vec![
            passes as f64 / used.as_secs_f64(),
        ])
        .with_target(Goal::AtLeast(100.0)),
        Figure::new("`headwater-operator` at rest, of one core", "%", vec![
            used.as_secs_f64() / seconds * 100.0,
        ]),
    ])
}

/// From the end of the one that leads to another's name in the lease: when it is asked to end, and when it is killed. The last that leads.
async fn handed_over(cluster: &Cluster, first: Operator, figures: &mut Vec<Figure>) -> Result<Operator> {
    let second = cluster.candidate("two").await?;
    let began = Instant::now();
    let (ended, led) = tokio::join!(first.process.terminate(), async {
        cluster.until_led_by("two").await?;
        anyhow::Ok(began.elapsed())
    });
    ended?;
    let took = led?;
    let work = "the lease is another's after SIGTERM, 1,000 resources";
    figures.push(Figure::new(work, "s", vec![took.as_secs_f64()]).with_target(Goal::AtMost(1.0)));
    second.until_ready().await?;
    let third = cluster.candidate("three").await?;
    let began = Instant::now();
    second.process.kill().await?;
    cluster.until_led_by("three").await?;
    let work = "the lease is another's after SIGKILL";
    figures.push(Figure::new(work, "s", vec![began.elapsed().as_secs_f64()]).with_target(Goal::AtMost(20.0)));
    third.until_ready().await?;
    Ok(third)
}
