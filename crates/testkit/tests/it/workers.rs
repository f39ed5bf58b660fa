//! A query worker by itself, over an event store by itself.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::counters::{self, PROJECTION};
use headwater_testkit::dev::write;
use headwater_testkit::event_store::{EventStore, QueryWorker};
use headwater_testkit::http::{Event, Http, Outcome};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{PATIENCE, program};
use headwater_testkit::redis::Redis;
use serde_json::json;
use uuid::Uuid;

use crate::load::Load;

const KILLS: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_folds_each_event_once() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let data = directory.path().join("worker");
    let start = || QueryWorker::start(directory.path(), store.url(), &data);
    killed_under_load(&store, start).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_each_event_is_folded_once_by_two_of_which_one_is_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let server = Postgres::start()?;
    let store = EventStore::start(directory.path(), &server.url()).await?;
    let url = server.url();
    let start = || QueryWorker::over(directory.path(), store.url(), &url);
    let other = start().await?;
    let (events, token) = killed_under_load(&store, start).await?;
    // The other answers the same, and so does the view for people.
    let rows = Http::new(store.url(), other.url()).rows(PROJECTION, "totals", &token).await?;
    counters::check_rows(&events, &rows, "total")?;
    let sum: i64 = server.query("SELECT sum(total)::BIGINT FROM hw_totals_view.totals")?.trim().parse()?;
    assert_eq!(sum, 3 * events.len() as i64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_each_event_is_folded_once_by_two_of_which_one_is_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let server = Redis::start()?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let url = server.url();
    let start = || QueryWorker::over(directory.path(), store.url(), &url);
    let other = start().await?;
    let (events, token) = killed_under_load(&store, start).await?;
    // The other answers the same, and so does Redis.
    let rows = Http::new(store.url(), other.url()).rows(PROJECTION, "totals", &token).await?;
    counters::check_rows(&events, &rows, "total")?;
    for row in &rows {
        let text = |column: &str| row[column].as_str().unwrap_or_default().to_owned();
        let fields = server.hash(&format!("{{totals}}:g1:totals:{}", text("id")))?;
        let expected = ["events", "id", "total"].map(|column| (column.to_owned(), text(column)));
        assert_eq!(fields, expected);
    }
    Ok(())
}

/// The example as it is, in the Redis of its Secret: under the names that it gives to prefix and fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bank_is_kept_in_redis_as_its_manifests_say_however_often_its_worker_is_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/banku");
    for file in ["eventstream.yaml", "projection.yaml"] {
        write(directory.path(), file, &std::fs::read_to_string(example.join(file))?)?;
    }
    let server = Redis::start()?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let refused = QueryWorker::as_declared(directory.path(), store.url()).await.err();
    let said = refused.context("a worker without its Secret")?.to_string();
    ensure!(said.contains("sink.redis.urlSecretRef") && said.contains("banku-redis"), "{said}");
    let secret = |url: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: banku-redis}}\nstringData: {{url: \"{url}\"}}\n"
        )
    };
    write(directory.path(), "secret.yaml", &secret("postgres://me:secret@db/banku"))?;
    let refused = QueryWorker::as_declared(directory.path(), store.url()).await.err();
    let said = refused.context("a worker with a URL of PostgreSQL")?.to_string();
    ensure!(said.contains("sink.redis.urlSecretRef") && said.contains("write redis://"), "{said}");
    ensure!(!said.contains("me:secret"), "{said}");
    write(directory.path(), "secret.yaml", &secret(&server.url()))?;

    let http = store.http();
    let send = async |account: u64, kind: &str, data: serde_json::Value| -> Result<()> {
        let id = Uuid::new_v4().to_string();
        match http.append(&format!("account-{account}"), &json!("any"), &id, kind, &data).await? {
            Outcome::Stored(_) => Ok(()),
            other => bail!("{other:?}"),
        }
    };
    let mut balances = [0_u64; 4];
    for (account, name) in ["Ada", "Grace", "Edsger", "Barbara"].iter().enumerate() {
        let data = json!({"AccId": format!("a-{account}"), "Type": "CreateEvent", "AccName": name});
        send(account as u64, "CreateEvent", data).await?;
    }
    for round in 0..4 {
        let mut worker = QueryWorker::as_declared(directory.path(), store.url()).await?;
        worker.answers().await?;
        for number in 0..60_u64 {
            let (account, amount) = (number % 4, round + number);
            let data = json!({"AccId": format!("a-{account}"), "Type": "DepositEvent", "Amount": amount + 1});
            send(account, "DepositEvent", data).await?;
            balances[account as usize] += amount + 1;
        }
        // It is behind by some of them.
        worker.into_process().kill().await?;
    }
    let worker = QueryWorker::as_declared(directory.path(), store.url()).await?;
    until_ready(worker.url(), None).await?;
    let (_, token) = http.all_events().await?;
    let rows = Http::new(store.url(), worker.url()).rows("accounts", "accounts", &token).await?;
    assert_eq!(server.cli(&["GET", "{banku}:active"])?.trim(), "1");
    for (account, balance) in balances.iter().enumerate() {
        let row = rows.iter().find(|row| row["id"] == format!("a-{account}")).context("a row")?;
        assert_eq!(row["balance"], balance.to_string());
        let fields = server.hash(&format!("{{banku}}:g1:accounts:a-{account}"))?;
        let expected = [("Balance", "balance"), ("Id", "id"), ("Name", "name")]
            .map(|(field, column)| (field.to_owned(), row[column].as_str().unwrap_or_default().to_owned()));
        assert_eq!(fields, expected);
    }
    assert!(worker.into_process().terminate().await?.success());
    Ok(())
}

/// Writes to the event store while workers are killed, and gives its events, and the place behind them.
async fn killed_under_load<F>(store: &EventStore, start: impl Fn() -> F) -> Result<(Vec<Event>, String)>
where
    F: Future<Output = Result<QueryWorker>>,
{
    let load = Load::on(store);
    for _ in 0..KILLS {
        let mut worker = start().await?;
        worker.answers().await?;
        let moment = Duration::from_millis((Uuid::new_v4().as_u128() % 300) as u64);
        // The moment of the kill is the input of this test, not a wait for something.
        tokio::time::sleep(moment).await;
        worker.into_process().kill().await?;
    }
    let (events, token) = load.stop(store).await?;
    let worker = start().await?;
    until_ready(worker.url(), None).await?;
    let rows = Http::new(store.url(), worker.url()).rows(PROJECTION, "totals", &token).await?;
    counters::check_rows(&events, &rows, "total")?;
    assert!(worker.into_process().terminate().await?.success());
    Ok((events, token))
}

/// Waits until `/readyz` says `part` of what is waited for, or that nothing is.
async fn until_ready(url: &str, part: Option<&str>) -> Result<()> {
    let began = Instant::now();
    loop {
        let answer = reqwest::get(format!("{url}/readyz")).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        if part.map_or(status.is_success(), |part| text.contains(part)) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{status}: {text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_its_event_store_and_goes_on_when_that_is_back() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let listen = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let address = format!("http://{listen}");
    let worker = QueryWorker::start(directory.path(), &address, &directory.path().join("worker")).await?;
    until_ready(worker.url(), Some("waiting for the event stream \"counters\"")).await?;
    let data = directory.path().join("store");
    let mut events = 0;
    for _ in 0..2 {
        let store = EventStore::alone(directory.path(), &data, &listen).await?;
        until_ready(worker.url(), None).await?;
        let id = Uuid::new_v4().to_string();
        let Outcome::Stored(stored) =
            store.http().append("counter-1", &json!("any"), &id, "Added", &counters::added(2)).await?
        else {
            bail!("it is not stored");
        };
        events += 1;
        let rows = Http::new(&address, worker.url()).rows(PROJECTION, "totals", &stored.token).await?;
        assert_eq!(rows[0]["total"], (2 * events).to_string());
        store.into_process().kill().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let data = directory.path().join("worker");
    let refused = |manifests: &Path, more: &[&str], part: &str| -> Result<()> {
        let output = Command::new(program("headwater-query-worker")?)
            .arg(manifests)
            .args(["--event-store", store.url(), "--listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(&data)
            .args(more)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(part), "no {part:?} in {said:?}");
        Ok(())
    };
    refused(directory.path(), &["--projection", "sums"], "no Projection \"sums\"; they declare \"totals\"")?;
    // Another stream's manifest: the event store has three partitions.
    let other = tempfile::tempdir()?;
    counters::write_manifests(other.path())?;
    let manifest = other.path().join("eventstream.yaml");
    let text = std::fs::read_to_string(&manifest).context("the manifest")?;
    write(other.path(), "eventstream.yaml", &text.replace("partitions: 3", "partitions: 2"))?;
    refused(other.path(), &[], "has 3 partitions, and the manifest of EventStream \"counters\" says 2")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_restored_from_an_older_backup_is_not_folded_on() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let (data, backup) = (directory.path().join("store"), directory.path().join("backup"));
    let worker_data = directory.path().join("worker");
    let store = EventStore::alone(directory.path(), &data, "127.0.0.1:0").await?;
    add(&store, 1).await?;
    assert!(store.into_process().terminate().await?.success());
    ensure!(Command::new("cp").arg("-r").args([&data, &backup]).status()?.success(), "copying");
    let store = EventStore::alone(directory.path(), &data, "127.0.0.1:0").await?;
    add(&store, 3).await?;
    let worker = QueryWorker::start(directory.path(), store.url(), &worker_data).await?;
    until_ready(worker.url(), None).await?;
    let (_, token) = store.http().all_events().await?;
    Http::new(store.url(), worker.url()).rows(PROJECTION, "totals", &token).await?;
    assert!(worker.into_process().terminate().await?.success());
    assert!(store.into_process().terminate().await?.success());

    std::fs::remove_dir_all(&data)?;
    std::fs::rename(&backup, &data)?;
    let store = EventStore::alone(directory.path(), &data, "127.0.0.1:0").await?;
    let worker = QueryWorker::start(directory.path(), store.url(), &worker_data).await?;
    let status = format!("{}/v1/admin/projections/totals", worker.admin_url());
    let http = Http::new(store.url(), worker.url());
    says(&http, &status, "restored from an older backup").await?;
    // Also when the log has grown past the checkpoint since.
    add(&store, 5).await?;
    says(&http, &status, "restored from an older backup").await?;
    let rebuild = format!("{}/v1/admin/projections/totals/rebuild", worker.admin_url());
    ensure!(reqwest::Client::new().post(rebuild).send().await?.status().is_success(), "rebuilding");
    let (events, token) = store.http().all_events().await?;
    let began = Instant::now();
    while http.json::<serde_json::Value>(&status).await?["active"]["revision"] != "2" {
        ensure!(began.elapsed() < PATIENCE, "it is not built anew");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    counters::check_rows(&events, &http.rows(PROJECTION, "totals", &token).await?, "total")
}

async fn add(store: &EventStore, events: usize) -> Result<()> {
    for _ in 0..events {
        let id = Uuid::new_v4().to_string();
        let stored =
            store.http().append("counter-1", &json!("any"), &id, "Added", &counters::added(1)).await?;
        ensure!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
    }
    Ok(())
}

/// Waits until the JSON at `url` says `part` somewhere.
async fn says(http: &Http, url: &str, part: &str) -> Result<()> {
    let began = Instant::now();
    loop {
        if let Ok(said) = http.json::<serde_json::Value>(url).await {
            if said.to_string().contains(part) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "no {part:?} in {said}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Where nobody can be answered, nobody is to be sent; and one failed try is no reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_not_ready_while_its_redis_or_postgres_is_away_and_says_so() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let redis = Redis::start()?;
    let postgres = Postgres::start()?;
    let over_redis = QueryWorker::over(directory.path(), store.url(), &redis.url()).await?;
    let over_postgres = QueryWorker::over(directory.path(), store.url(), &postgres.url()).await?;
    for worker in [&over_redis, &over_postgres] {
        until_ready(worker.url(), None).await?;
    }
    redis.kill()?;
    postgres.kill()?;
    for worker in [&over_redis, &over_postgres] {
        until_ready(worker.url(), Some("waiting for the read model: ")).await?;
    }
    redis.resume()?;
    postgres.resume()?;
    for worker in [&over_redis, &over_postgres] {
        until_ready(worker.url(), None).await?;
    }
    Ok(())
}

/// While it begins, the database's silence is not taken for the event store's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_over_redis_waits_for_at_its_beginning_is_said() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let redis = Redis::start()?;
    redis.kill()?;
    let worker = QueryWorker::over(directory.path(), store.url(), &redis.url()).await?;
    until_ready(worker.url(), Some("waiting for the next try: opening a read model in Redis at ")).await?;
    redis.resume()?;
    until_ready(worker.url(), None).await
}

/// All of a Redis is lost under two workers, which are not started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_redis_that_is_emptied_all_is_built_anew() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let server = Redis::start()?;
    let store = EventStore::alone(directory.path(), &directory.path().join("store"), "127.0.0.1:0").await?;
    let url = server.url();
    let workers = [
        QueryWorker::over(directory.path(), store.url(), &url).await?,
        QueryWorker::over(directory.path(), store.url(), &url).await?,
    ];
    for worker in &workers {
        until_ready(worker.url(), None).await?;
    }
    let load = Load::on(&store);
    for _ in 0..3 {
        // The moment is the input of this test, not a wait for something.
        tokio::time::sleep(Duration::from_millis((Uuid::new_v4().as_u128() % 300) as u64)).await;
        server.cli(&["FLUSHALL"])?;
    }
    let (events, token) = load.stop(&store).await?;
    for worker in &workers {
        let http = Http::new(store.url(), worker.url());
        let began = Instant::now();
        let rows = loop {
            match http.rows(PROJECTION, "totals", &token).await {
                Ok(rows) => break rows,
                // It is being built.
                Err(error) => ensure!(began.elapsed() < PATIENCE, "{error:#}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        counters::check_rows(&events, &rows, "total")?;
    }
    // Whoever is started now finds a read model that says whose it is.
    let third = QueryWorker::over(directory.path(), store.url(), &url).await?;
    until_ready(third.url(), None).await
}
