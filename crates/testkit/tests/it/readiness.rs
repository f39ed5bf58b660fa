//! When a query worker is sent requests: as soon as it follows its event store, however far its read model is.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::{EventStore, QueryWorker};
use headwater_testkit::http::{Http, Outcome};
use headwater_testkit::process::PATIENCE;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A worker over an event store of its own, whose projection says `more` in its spec.
struct Ground {
    directory: TempDir,
    store: EventStore,
}

impl Ground {
    async fn new(more: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        counters::write_manifests(directory.path())?;
        let text = std::fs::read_to_string(directory.path().join("projection.yaml"))?;
        ensure!(text.contains("spec:\n"), "{text}");
        write(
            directory.path(),
            "projection.yaml",
            &text.replacen("spec:\n", &format!("spec:\n  {more}\n"), 1),
        )?;
        let data = directory.path().join("store");
        let store = EventStore::alone(directory.path(), &data, "127.0.0.1:0").await?;
        Ok(Self { directory, store })
    }

    async fn append(&self, data: &Value) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        let stored = self.store.http().append("counter-1", &json!("any"), &id, "Added", data).await?;
        ensure!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
        Ok(())
    }

    /// A worker, once it is ready.
    async fn ready(&self) -> Result<QueryWorker> {
        let data = self.directory.path().join("worker");
        let worker = QueryWorker::start(self.directory.path(), self.store.url(), &data).await?;
        let began = Instant::now();
        loop {
            let answer = reqwest::get(format!("{}/readyz", worker.url())).await?;
            if answer.status().is_success() {
                return Ok(worker);
            }
            let said = answer.text().await?;
            ensure!(began.elapsed() < PATIENCE, "it is not ready: {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The detail of the problem that a query is answered with, which says that nothing is built.
async fn not_built(worker: &QueryWorker) -> Result<String> {
    let answer = reqwest::get(format!("{}/v1/projections/totals/totals", worker.url())).await?;
    let (status, kind) = (answer.status(), answer.headers().get("content-type").cloned());
    let problem: Value = answer.json().await?;
    ensure!(status == 503, "{status}: {problem}");
    ensure!(kind.is_some_and(|kind| kind == "application/problem+json"), "{problem}");
    Ok(problem["detail"].as_str().unwrap_or_default().to_owned())
}

/// As in a Deployment, which would take a first build of more than its deadline for one that has failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_the_first_build_it_is_ready_and_says_how_far_that_is() -> Result<()> {
    let ground = Ground::new("onError: {policy: Halt}").await?;
    for _ in 0..3 {
        ground.append(&counters::added(2)).await?;
    }
    // At this event the build stops, so that it is still under way whenever somebody looks.
    ground.append(&json!({"amount": "many"})).await?;
    let worker = ground.ready().await?;
    let began = Instant::now();
    loop {
        let said = not_built(&worker).await?;
        if said.contains("has no revision that answers yet (Replaying 75%)") {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Who wants to know whether it is built asks for its state, on a listener that is there as well.
    let status = format!("{}/v1/admin/projections/totals", worker.admin_url());
    let status: Value = Http::new(ground.store.url(), worker.url()).json(&status).await?;
    ensure!(status["active"].is_null() && status["candidate"]["percent"] == 75, "{status}");
    ensure!(worker.into_process().terminate().await?.success(), "the worker does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_starts_paused_is_ready_and_says_that_it_is_paused() -> Result<()> {
    let ground = Ground::new("state: Paused").await?;
    ground.append(&counters::added(2)).await?;
    let worker = ground.ready().await?;
    let said = not_built(&worker).await?;
    ensure!(said.contains("has no revision that answers yet (Paused"), "{said}");
    ensure!(worker.into_process().terminate().await?.success(), "the worker does not end well");
    Ok(())
}
