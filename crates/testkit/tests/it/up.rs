//! The examples on real servers, from the same manifests as on a laptop, unchanged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::http::{Http, Outcome};
use headwater_testkit::process::{PATIENCE, Process, program};
use rustix::process::Signal;
use serde_json::{Value, json};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

/// What `up` says when all runs: where what is.
async fn ready(up: &mut Process) -> Result<BTreeMap<String, String>> {
    let mut places = BTreeMap::new();
    up.line_within(3 * PATIENCE, "that it is ready", |line| {
        if line.contains('│') {
            return None;
        }
        let (what, place) = line.split_once("  ")?;
        // The first of several.
        places.entry(what.to_owned()).or_insert_with(|| place.trim().to_owned());
        (what == "ready").then_some(())
    })
    .await?;
    Ok(places)
}

async fn end(up: Process) -> Result<()> {
    up.signal(Signal::INT)?;
    let ended = up.wait().await?;
    ensure!(ended.success(), "{ended}");
    Ok(())
}

fn ask(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bank_on_kafka_postgres_and_redis() -> Result<()> {
    let banku = example("banku");
    let banku = banku.to_str().context("a path of UTF-8")?;
    let mut up = Process::spawn(program("up")?, [banku, "--free-ports"])?;
    let places = ready(&mut up).await?;
    let http = Http::new(&places["event store of banku"], &places["projection accounts"]);
    let id = "cd371b90-2b3c-4d5e-8f90-1a2b3c4d5e6f";
    let mut token = String::new();
    for (number, (event_type, data)) in [
        ("CreateEvent", json!({"AccId": id, "Type": "CreateEvent", "AccName": "Jane Doe"})),
        ("DepositEvent", json!({"AccId": id, "Type": "DepositEvent", "Amount": 3})),
    ]
    .into_iter()
    .enumerate()
    {
        let event = uuid::Uuid::new_v4().to_string();
        let stored = http.append(id, &json!(number), &event, event_type, &data).await?;
        let Outcome::Stored(stored) = stored else { anyhow::bail!("{stored:?}") };
        token = stored.token;
    }
    let rows = http.rows("accounts", "accounts", &token).await?;
    assert_eq!(rows.len(), 1, "{rows:?}");
    let key = format!("{{banku}}:g1:accounts:{id}");
    let hash = ask("redis-cli", &["-u", &places["Redis"], "HGETALL", &key])?;
    assert_eq!(hash.lines().collect::<Vec<_>>(), ["Id", id, "Name", "Jane Doe", "Balance", "3"]);
    end(up).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_orders_on_nats_and_postgres() -> Result<()> {
    let directory = tempfile::tempdir()?;
    for file in std::fs::read_dir(example("orders"))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            std::fs::copy(&path, directory.path().join(path.file_name().context("a name")?))?;
        }
    }
    // Where the services are is not of the manifests; here it is where no other test is.
    let listeners = [0; 3].map(|_| std::net::TcpListener::bind("127.0.0.1:0"));
    let mut free = Vec::new();
    for listener in listeners {
        free.push(listener?.local_addr()?.to_string());
    }
    let dev = format!("[services]\npayments = \"{}\"\nrestaurants = \"{}\"\n", free[1], free[2]);
    write(directory.path(), "dev.toml", &dev)?;
    let manifests = directory.path().to_str().context("a path of UTF-8")?;
    let mut up = Process::spawn(
        program("up")?,
        [
            manifests,
            "--free-ports",
            "--",
            "orders",
            "all",
            "--server",
            "{event-store}",
            "--query-server",
            "{query-server}",
            "--data",
            "{data}",
            "--listen",
            &free[0],
            "--payment-listen",
            &free[1],
            "--restaurant-listen",
            &free[2],
        ],
    )?;
    let places = ready(&mut up).await?;
    let client = reqwest::Client::new();
    let order = json!({"customer_id": "me", "restaurant_id": "luigi", "order_items": [
        {"code": "PIZZA-01", "name": "Pizza Margherita", "unit_price": 19.90, "quantity": 2}]});
    let api = format!("http://{}/api/orders", free[0]);
    let began = Instant::now();
    let answer = loop {
        // It is started last, and may not listen yet.
        match client.post(&api).json(&order).send().await {
            Ok(answer) => break answer,
            Err(error) => ensure!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    ensure!(answer.status().is_success(), "{}", answer.status());
    let placed: Value = answer.json().await?;
    let id = placed["order_id"].as_str().with_context(|| placed.to_string())?.to_owned();
    let sql = format!("SELECT status FROM hw_orders_view.orders WHERE order_id = '{id}'");
    let began = Instant::now();
    loop {
        let status = ask("psql", &["--no-psqlrc", "-tAc", &sql, &places["PostgreSQL"]])?;
        if status.trim() == "Approved" {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "the order is {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What the saga has done is on the bus for everybody.
    let context = async_nats::jetstream::new(async_nats::connect(&places["NATS"]).await?);
    let stream = context.get_stream("ORDERS").await?;
    let last = stream.get_last_raw_message_by_subject("hw.orders.*.order-approved").await?;
    let data: Value = serde_json::from_slice(&last.payload)?;
    assert_eq!(data["order_id"], id.as_str());
    end(up).await
}

/// A process, as the system sees it: its parent, its group, and whether it runs.
struct Seen {
    id: u32,
    parent: u32,
    group: u32,
    runs: bool,
}

fn processes() -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        let (_, fields) = stat.rsplit_once(") ").context("a name in brackets")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let runs = !matches!(fields[0], "Z" | "X");
        seen.push(Seen { id, parent: fields[1].parse()?, group: fields[2].parse()?, runs });
    }
    Ok(seen)
}

/// What `up` has started: programs and servers, each in a group that a terminal does not reach.
fn started_by(up: u32) -> Result<Vec<u32>> {
    let children: Vec<Seen> = processes()?.into_iter().filter(|process| process.parent == up).collect();
    for child in &children {
        ensure!(child.group == child.id, "{} is in group {}", child.id, child.group);
    }
    Ok(children.into_iter().map(|child| child.id).collect())
}

async fn until_none_runs(ids: &[u32]) -> Result<()> {
    let began = Instant::now();
    loop {
        let left: Vec<u32> = processes()?
            .into_iter()
            .filter(|process| process.runs && ids.contains(&process.id))
            .map(|process| process.id)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{left:?} run on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_up_has_started_over_postgres_ends_with_it_however_it_ends() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    // Where the database is, `up` says.
    let stream = std::fs::read_to_string(directory.path().join("eventstream.yaml"))?;
    write(directory.path(), "eventstream.yaml", stream.split("---").next().context("a resource")?)?;
    let manifests = directory.path().to_str().context("a path of UTF-8")?;
    for signal in [Signal::INT, Signal::KILL] {
        let mut up = Process::spawn(program("up")?, [manifests, "--free-ports"])?;
        let places = ready(&mut up).await?;
        let ids = started_by(up.id()?)?;
        // PostgreSQL, two event stores, and a query worker.
        ensure!(ids.len() == 4, "{ids:?}");
        ensure!(places["look"].contains("--query-server 127.0.0.1:"), "{places:?}");
        if signal == Signal::KILL {
            up.kill().await?;
        } else {
            up.signal(signal)?;
            let order = ["totals │ ends", "counters-1 │ ends", "counters-0 │ ends"];
            for end in order {
                up.line("in order what ends", |line| line.contains(end).then_some(())).await?;
            }
            let ended = up.wait().await?;
            ensure!(ended.success(), "{ended}");
        }
        until_none_runs(&ids).await?;
    }
    Ok(())
}
