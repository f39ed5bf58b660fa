//! A projection that is added to a log that is there already: the time from the saved
//! manifest to an answer that covers all of it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::write;
use headwater_testkit::event_store::QueryWorker;
use headwater_testkit::http::Http;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use headwater_testkit::redis::Redis;
use serde_json::Value;

use crate::Load;
use crate::figures::{Figure, Target as Goal};
use crate::target::{ByItself, Target};
use crate::usage::resident_megabytes;

const EVENTS: u64 = 300_000;

pub(crate) const MANIFEST: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: measured}
spec:
  streamRef: {name: bench}
  tables:
  - name: measured
    key: [id]
    columns:
    - {name: id, type: Text}
    - {name: amount, type: Decimal}
  rules:
  - {events: [Measured], type: Upsert, table: measured, key: {id: event.data.id}, set: {amount: event.data.amount}}
";

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let mut rates = Vec::new();
    for _ in 0..load.runs {
        let mut target = Target::start().await?;
        target.fill(EVENTS, 100).await?;
        let token = target.token().await?;
        let start = Instant::now();
        write(target.folder.path(), "projection.yaml", MANIFEST)?;
        target.dev.process().line("that the projection serves", |line| serves(line).then_some(())).await?;
        // Serving is not enough: the first revision serves while it catches up. An answer that covers the log's end is.
        let queries = target.dev.queries();
        let url = format!("{queries}/v1/projections/measured/measured?limit=1&timeout=60s&min_token={token}");
        target.dev.http("bench")?.json::<Value>(&url).await?;
        let elapsed = start.elapsed();
        check(&target.dev.http("bench")?).await?;
        rates.push(EVENTS as f64 / elapsed.as_secs_f64());
    }
    let work = "projection built from the beginning, one upsert and one new row an event, from saved manifest to an answer that covers the log";
    Ok(vec![Figure::new(work, "events/s", rates).with_target(Goal::AtLeast(30_000.0))])
}

/// The same by a query worker of its own, over an event store, both over PostgreSQL.
pub(crate) async fn measure_postgres(load: Load) -> Result<Vec<Figure>> {
    let server = Postgres::start()?;
    let start = async || ByItself::over(&server).await;
    let sink = || format!("{{sql: {{schema: {}}}}}", Postgres::schema());
    by_itself(load, start, sink, &server.url(), "PostgreSQL", 20_000.0).await
}

/// The same with the read model in Redis, which syncs its append-only file every second, as it does by default, and over a file of events.
pub(crate) async fn measure_redis(load: Load) -> Result<Vec<Figure>> {
    let server = Redis::start()?;
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"])?;
    let sink = || {
        let prefix = Redis::prefix();
        format!("{{type: Redis, redis: {{urlSecretRef: {{name: r, key: url}}, keyPrefix: {prefix}}}}}")
    };
    by_itself(load, ByItself::alone, sink, &server.url(), "Redis (appendfsync everysec)", 30_000.0).await
}

/// A query worker that keeps its read model in what `sink` says, at `url`.
async fn by_itself(
    load: Load,
    start: impl AsyncFn() -> Result<ByItself>,
    sink: impl Fn() -> String,
    url: &str,
    over: &str,
    goal: f64,
) -> Result<Vec<Figure>> {
    let (mut rates, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..load.runs {
        let target = start().await?;
        target.fill(EVENTS, 100).await?;
        let token = target.token().await?;
        let with_sink = format!("  streamRef: {{name: bench}}\n  sink: {}", sink());
        let manifest = MANIFEST.replace("  streamRef: {name: bench}", &with_sink);
        write(target.folder.path(), "projection.yaml", &manifest)?;
        let start = Instant::now();
        let worker = QueryWorker::over(target.folder.path(), target.store.url(), url).await?;
        let http = Http::new(target.store.url(), worker.url());
        answer(&http, worker.url(), &token).await?;
        let elapsed = start.elapsed();
        sizes.push(resident_megabytes(worker.process().id()?)?);
        check(&http).await?;
        rates.push(EVENTS as f64 / elapsed.as_secs_f64());
    }
    let work = format!(
        "projection built from the beginning by a query worker, {over}, one upsert and one new row an event, from the start to an answer that covers the log"
    );
    Ok(vec![
        Figure::new(work, "events/s", rates).with_target(Goal::AtLeast(goal)),
        Figure::new("`headwater-query-worker` after that, resident", "MB", sizes)
            .with_target(Goal::AtMost(150.0)),
    ])
}

/// Waits for an answer that covers `token`: the projection is not there before it is declared.
pub(crate) async fn answer(http: &Http, queries: &str, token: &str) -> Result<()> {
    let url = format!("{queries}/v1/projections/measured/measured?limit=1&timeout=60s&min_token={token}");
    let began = Instant::now();
    while let Err(error) = http.json::<Value>(&url).await {
        ensure!(began.elapsed() < PATIENCE, "{error:#}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Ok(())
}

fn serves(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .is_ok_and(|line| line["kind"] == "rollout" && line["state"] == "serving")
}

/// Every event has its row, with its amount.
async fn check(http: &Http) -> Result<()> {
    let (events, token) = http.all_events().await?;
    let rows = http.rows("measured", "measured", &token).await?;
    ensure!(
        rows.len() as u64 == EVENTS && events.len() as u64 == EVENTS,
        "{} rows for {} events",
        rows.len(),
        events.len()
    );
    let amounts: std::collections::HashMap<&str, &str> =
        rows.iter().filter_map(|row| Some((row["id"].as_str()?, row["amount"].as_str()?))).collect();
    for event in &events {
        let id = event.data["id"].as_str().context("an id")?;
        let amount = event.data["amount"].to_string();
        ensure!(
            amounts.get(id) == Some(&amount.as_str()),
            "row {id} has {:?}, its event says {amount}",
            amounts.get(id)
        );
    }
    Ok(())
}
