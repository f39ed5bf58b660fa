//! Many clients at once against one `headwater dev`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use headwater_testkit::counters::{self, PROJECTION, STREAM};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::history::History;
use headwater_testkit::http::Outcome;
use reqwest::StatusCode;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

const WRITERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_writers_that_expect_a_version_exactly_one_wins_each() -> Result<()> {
    const VERSIONS: u64 = 400;
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let dev = Dev::start(&DevOptions::new(directory.path(), directory.path().join("data"))).await?;
    let winners: Arc<Mutex<BTreeMap<u64, Vec<String>>>> = Arc::default();
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (http, winners) = (dev.http(STREAM)?, winners.clone());
        writers.spawn(async move {
            let mut current = 0;
            while current < VERSIONS {
                let id = Uuid::new_v4().to_string();
                match http.append("counter-1", &json!(current), &id, "Added", &counters::added(1)).await? {
                    Outcome::Stored(stored) => {
                        assert_eq!(
                            stored.version,
                            current + 1,
                            "an append gets the version after the one that it expected"
                        );
                        winners
                            .lock()
                            .expect("no writer panicked")
                            .entry(stored.version)
                            .or_default()
                            .push(id);
                        current = stored.version;
                    }
                    Outcome::Refused { status: StatusCode::CONFLICT, problem } => {
                        let now = problem["current_version"]
                            .as_u64()
                            .with_context(|| format!("current_version in {problem}"))?;
                        assert!(
                            now > current,
                            "refused at {current}, although that is the version: {problem}"
                        );
                        current = now;
                    }
                    other => bail!("{other:?}"),
                }
            }
            Ok(())
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let (events, _) = dev.http(STREAM)?.all_events().await?;
    let winners = winners.lock().expect("no writer panicked");
    assert_eq!(events.len(), winners.len());
    for event in events {
        assert_eq!(
            winners.get(&event.version),
            Some(&vec![event.id.clone()]),
            "version {} has one winner, the stored one",
            event.version
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_projection_that_changes_under_load_loses_and_doubles_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let mut dev = Dev::start(&DevOptions::new(directory.path(), directory.path().join("data"))).await?;
    let http = dev.http(STREAM)?;
    let history = Arc::new(Mutex::new(History::default()));
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (http, history, stopped) = (http.clone(), history.clone(), stopped.clone());
        writers.spawn(async move {
            let counter = format!("counter-{writer}");
            while !*stopped.borrow() {
                let id = Uuid::new_v4().to_string();
                history.lock().expect("no writer panicked").sends(&id);
                match http.append(&counter, &json!("any"), &id, "Added", &counters::added(3)).await? {
                    Outcome::Stored(stored) => {
                        history.lock().expect("no writer panicked").acknowledges(&id, stored)?;
                    }
                    other => bail!("{other:?}"),
                }
            }
            Ok(())
        });
    }
    for column in ["sum", "amount", "total"] {
        counters::write_projection(directory.path(), column)?;
        dev.process().line("that the new revision serves", |line| serves(line).then_some(())).await?;
    }
    stop.send_replace(true);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let (events, token) = http.all_events().await?;
    history.lock().expect("no writer panicked").check(&events)?;
    counters::check_rows(&events, &http.rows(PROJECTION, "totals", &token).await?, "total")
}

fn serves(line: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(line)
        .is_ok_and(|line| line["kind"] == "rollout" && line["state"] == "serving")
}
