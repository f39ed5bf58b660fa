//! Several event stores share an event stream in a database, and are killed, stopped and replaced under load.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::counters;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::history::History;
use headwater_testkit::http::Outcome;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use crate::cluster::{Cluster, STORES, STREAMS, until_taken, write};

/// A lease, and a little more: so long a store is stopped that is to lose its partitions.
pub(crate) const BEYOND_A_LEASE: Duration = Duration::from_secs(5);
/// Alone on this machine it takes less than 2 s; here other tests run beside it.
const HAND_OVER: Duration = Duration::from_secs(4);
/// The same of 4 s of a lease and half a second to notice.
const LEASES_RUN_OUT: Duration = Duration::from_secs(9);
impl Cluster {
    /// How long it takes until each partition takes an event again, at this store.
    async fn all_take_events(&self, number: usize) -> Result<Duration> {
        let http = self.stores[number].http();
        let began = Instant::now();
        for stream in 0..STREAMS {
            let id = Uuid::new_v4().to_string();
            loop {
                match http
                    .append(&format!("probe-{stream}"), &json!("any"), &id, "Added", &counters::added(1))
                    .await?
                {
                    Outcome::Stored(_) => break,
                    Outcome::Unknown => {
                        ensure!(began.elapsed() < PATIENCE, "nobody takes events of probe-{stream}");
                    }
                    other @ Outcome::Refused { .. } => bail!("{other:?}"),
                }
            }
        }
        Ok(began.elapsed())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_partitions_move_when_a_store_leaves_or_is_gone() -> Result<()> {
    let server = Postgres::start()?;
    let mut cluster = Cluster::start(&server).await?;
    cluster.spread().await?;
    // Any store takes any event.
    for number in 0..STORES {
        cluster.all_take_events(number).await?;
    }
    assert!(cluster.stores[0].metric("headwater_appends_forwarded_total").await? > 0.0);
    // Told to end, it hands over at once.
    let leaving = cluster.remove(0);
    let (took, ended) = tokio::join!(cluster.all_take_events(0), leaving.into_process().terminate());
    assert!(ended?.success());
    let took = took?;
    assert!(took < HAND_OVER, "it took {took:?}");
    // Gone without a word, its leases run out.
    let gone = cluster.remove(0);
    gone.into_process().kill().await?;
    let took = cluster.all_take_events(0).await?;
    assert!(took < LEASES_RUN_OUT, "it took {took:?}");
    cluster.add().await?;
    cluster.add().await?;
    cluster.spread().await?;
    // The database is away, and comes back.
    server.kill()?;
    until_ready(&cluster.stores[0], false).await?;
    server.resume()?;
    until_ready(&cluster.stores[0], true).await?;
    cluster.all_take_events(1).await?;
    Ok(())
}

async fn until_ready(store: &EventStore, wanted: bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = reqwest::get(format!("{}/readyz", store.url())).await?;
        if answer.status().is_success() == wanted {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{}: {}", answer.status(), answer.text().await?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_three_stores_under_faults_lose_and_double_nothing() -> Result<()> {
    let server = Postgres::start()?;
    let mut cluster = Cluster::start(&server).await?;
    let history = Arc::new(Mutex::new(History::default()));
    let (stop, stopped) = watch::channel(false);
    let mut writers = write(&cluster.addresses, &history, &stopped);
    for round in 0..8 {
        let before = history.lock().expect("nobody panicked").acknowledged();
        let victim = (Uuid::new_v4().as_u128() % STORES as u128) as usize;
        match round % 4 {
            0 => {
                cluster.remove(victim).into_process().kill().await?;
                cluster.add().await?;
            }
            1 => {
                // It wakes when others have its partitions, in the middle of what it was doing.
                cluster.stores[victim].process().signal(Signal::STOP)?;
                tokio::time::sleep(BEYOND_A_LEASE).await;
                cluster.stores[victim].process().signal(Signal::CONT)?;
            }
            2 => {
                let status = cluster.remove(victim).into_process().terminate().await?;
                ensure!(status.success(), "{status}");
                cluster.add().await?;
            }
            _ => {
                server.kill()?;
                server.resume()?;
            }
        }
        until_taken(&history, before, 200, &mut writers).await.with_context(|| format!("round {round}"))?;
    }
    stop.send_replace(true);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    for store in &cluster.stores {
        let (events, _) = store.http().all_events().await?;
        history.lock().expect("nobody panicked").check(&events)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_before_anything_is_changed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let refused = async |more: &[&str], part: &str| -> Result<()> {
        let mut arguments = vec![directory.path().to_string_lossy().into_owned()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let output = std::process::Command::new(headwater_testkit::process::program("headwater-eventstore")?)
            .args(arguments)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(part), "no {part:?} in {said:?}");
        Ok(())
    };
    let data = directory.path().join("data");
    let data = Path::new(&data).to_string_lossy().into_owned();
    refused(
        &["--stream", "orders", "--data-dir", &data],
        "no EventStream \"orders\"; they declare \"counters\"",
    )
    .await?;
    refused(&["--listen", "0.0.0.0:50051", "--data-dir", &data], "without authentication").await?;
    refused(&["--database", "mysql://h/d"], "it does not begin with postgres://").await?;
    refused(&["--database", "postgres://h/d", "--data-dir", &data], "cannot be used with").await?;
    refused(
        &["--database", "postgres://h/d", "--advertise", "tcp://h", "--listen", "127.0.0.1:0"],
        "advertise: ",
    )
    .await?;
    ensure!(!Path::new(&data).exists(), "{data} was made");
    Ok(())
}
