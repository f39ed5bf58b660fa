//! `headwater dev` is killed in the middle of a load, again and again; nothing acknowledged is lost, nothing is there twice.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use headwater_testkit::counters::{self, PROJECTION, STREAM};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::history::History;
use headwater_testkit::http::{Http, Outcome};
use headwater_testkit::postgres::Postgres;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

const KILLS: usize = 20;
const WRITERS: usize = 16;
const COUNTERS: u128 = 40;

/// An event whose answer has not come: it is sent again, as it was, to the next process.
#[derive(Clone)]
struct Pending {
    id: String,
    counter: String,
    amount: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_twenty_times_under_load_it_loses_and_doubles_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let options = DevOptions::new(directory.path(), directory.path().join("data"));
    survive(directory.path(), &options, KILLS, || Ok(())).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_it_loses_and_doubles_nothing_when_both_are_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let server = Postgres::start()?;
    let options = DevOptions::new(directory.path(), directory.path().join("data"))
        .with("--database")
        .with(server.url());
    survive(directory.path(), &options, 6, || server.kill().and_then(|()| server.resume())).await
}

/// Kills `dev` so many times, and has `interrupt` happen before each start.
async fn survive(
    directory: &Path,
    options: &DevOptions,
    kills: usize,
    interrupt: impl Fn() -> Result<()>,
) -> Result<()> {
    counters::write_manifests(directory)?;
    let history = Arc::new(Mutex::new(History::default()));
    let mut pending: Vec<Vec<Pending>> = vec![Vec::new(); WRITERS];

    for round in 0..kills {
        interrupt()?;
        pending =
            load_and_kill(options, &history, pending).await.with_context(|| format!("round {round}"))?;
    }

    let dev = Dev::start(options).await?;
    let http = dev.http(STREAM)?;
    for event in pending.into_iter().flatten() {
        if !send(&http, &history, &event).await? {
            bail!("event {} gets no answer from a process that is well", event.id);
        }
    }
    let (events, token) = http.all_events().await?;
    let rows = http.rows(PROJECTION, "totals", &token).await?;
    let history = history.lock().expect("no writer panicked");
    assert!(
        history.acknowledged() > kills * WRITERS,
        "only {} events were acknowledged",
        history.acknowledged()
    );
    history.check(&events)?;
    counters::check_rows(&events, &rows, "total")
}

/// Writes with all writers, kills the process at a random moment, and gives what was left without an answer.
async fn load_and_kill(
    options: &DevOptions,
    history: &Arc<Mutex<History>>,
    pending: Vec<Vec<Pending>>,
) -> Result<Vec<Vec<Pending>>> {
    let dev = Dev::start(options).await?;
    let http = dev.http(STREAM)?;
    let (stored, mut progress) = watch::channel(0_u64);
    let mut writers = JoinSet::new();
    for left in pending {
        let (http, history, stored) = (http.clone(), history.clone(), stored.clone());
        writers.spawn(async move {
            let mut left = left;
            loop {
                let event = left.pop().unwrap_or_else(new_event);
                if !send(&http, &history, &event).await? {
                    left.push(event);
                    return anyhow::Ok(left);
                }
                stored.send_modify(|stored| *stored += 1);
            }
        });
    }
    progress.wait_for(|stored| *stored > WRITERS as u64).await?;
    let moment = Duration::from_millis((Uuid::new_v4().as_u128() % 250) as u64);
    // The moment of the kill is the input of this test, not a wait for something.
    tokio::time::sleep(moment).await;
    dev.kill().await?;
    let mut pending = Vec::new();
    while let Some(left) = writers.join_next().await {
        pending.push(left??);
    }
    Ok(pending)
}

fn new_event() -> Pending {
    let random = Uuid::new_v4().as_u128();
    Pending {
        id: Uuid::new_v4().to_string(),
        counter: format!("counter-{}", random % COUNTERS),
        amount: (random >> 64) as u64 % 1000,
    }
}

/// Sends the event; false when no answer came.
async fn send(http: &Http, history: &Mutex<History>, event: &Pending) -> Result<bool> {
    history.lock().expect("no writer panicked").sends(&event.id);
    match http
        .append(&event.counter, &json!("any"), &event.id, "Added", &counters::added(event.amount))
        .await?
    {
        Outcome::Stored(stored) => {
            history.lock().expect("no writer panicked").acknowledges(&event.id, stored)?;
            Ok(true)
        }
        Outcome::Unknown => Ok(false),
        Outcome::Refused { status, problem } => bail!("{status}: {problem}"),
    }
}
