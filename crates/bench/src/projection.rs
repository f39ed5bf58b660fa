//! A projection that is added to a log that is there already: the time from the saved
//! manifest to an answer that covers all of it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::write;
use serde_json::Value;

use crate::Load;
use crate::figures::{Figure, Target as Goal};
use crate::target::Target;

const EVENTS: u64 = 300_000;

const MANIFEST: &str = "\
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
        check(&target).await?;
        rates.push(EVENTS as f64 / elapsed.as_secs_f64());
    }
    let work = "projection built from the beginning, one upsert and one new row an event, from saved manifest to an answer that covers the log";
    Ok(vec![Figure::new(work, "events/s", rates).with_target(Goal::AtLeast(30_000.0))])
}

fn serves(line: &str) -> bool {
    serde_json::from_str::<Value>(line)
        .is_ok_and(|line| line["kind"] == "rollout" && line["state"] == "serving")
}

/// Every event has its row, with its amount.
async fn check(target: &Target) -> Result<()> {
    let http = target.dev.http("bench")?;
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
