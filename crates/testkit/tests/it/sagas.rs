//! Ten thousand sagas against participants that lose, delay, refuse and repeat, while the coordinator is killed: money is conserved.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, TryStreamExt};
use headwater_api::{Client, Filter, Subscribe};
use headwater_core::{Append, EventType, Expected, NewEvent, RetryPolicy, StreamId};
use headwater_testkit::dev::{Dev, DevOptions, write};
use headwater_testkit::event_store::EventStore;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::{self, Process, program};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;
use uuid::Uuid;

const KILLS: usize = 6;
/// Everything, kills included; only a failing test needs it.
const PATIENCE: Duration = Duration::from_mins(3);

const STREAM: &str = "
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec: {partitions: 2}
";

const SAGA: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place}
spec:
  streamRef: {name: orders}
  startOn: {events: [Placed]}
  instance: "${event.data.id}"
  variables: {id: event.data.id, amount: event.data.amount}
  steps:
  - name: pay
    action: {type: HTTP, http: {method: POST, url: "http://bank/pay/do", body: {id: id, amount: amount}}}
    timeout: 400ms
    retry: {maxAttempts: 3, initialBackoff: 5ms, maxBackoff: 50ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://bank/pay/undo", body: {id: id}}}
  - name: approve
    action: {type: HTTP, http: {method: POST, url: "http://bank/approve/do", body: {id: id}}}
    timeout: 400ms
    retry: {maxAttempts: 3, initialBackoff: 5ms, maxBackoff: 50ms}
    compensation: {type: HTTP, http: {method: POST, url: "http://bank/approve/undo", body: {id: id}}}
  onCompleted: {append: {streamId: "order-${id}", type: Approved, data: {id: id}}}
  onCompensated: {append: {streamId: "order-${id}", type: Rejected, data: {id: id, reason: failure.reason}}}
"#;

/// One step of one order.
#[derive(Debug, Default, Clone)]
struct Entry {
    done: bool,
    undone: bool,
    effects: u32,
    keys: HashMap<&'static str, BTreeSet<String>>,
    requests: usize,
}

type Ledger = Arc<Mutex<HashMap<(String, &'static str), Entry>>>;

fn participants(ledger: Ledger) -> Router {
    let route = |step: &'static str, direction: &'static str| {
        move |State(ledger): State<Ledger>, headers: HeaderMap, Json(body): Json<Value>| async move {
            serve(&ledger, step, direction, &headers, &body).await
        }
    };
    Router::new()
        .route("/pay/do", post(route("pay", "do")))
        .route("/pay/undo", post(route("pay", "undo")))
        .route("/approve/do", post(route("approve", "do")))
        .route("/approve/undo", post(route("approve", "undo")))
        .with_state(ledger)
}

/// A participant as the guide asks for, on a bad day: one request in five meets some fault.
async fn serve(
    ledger: &Ledger,
    step: &'static str,
    direction: &'static str,
    headers: &HeaderMap,
    body: &Value,
) -> (StatusCode, Json<Value>) {
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    let fault = Uuid::new_v4().as_u128() % 100;
    let unavailable = (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"detail": "by injection"})));
    if fault < 6 {
        return unavailable;
    }
    let answer = {
        let mut ledger = ledger.lock().expect("no participant panicked");
        let entry = ledger.entry((id.clone(), step)).or_default();
        entry.keys.entry(direction).or_default().insert(key);
        entry.requests += 1;
        // What an order's services decide is its own matter, and the same whenever they are asked.
        let number: usize = id.parse().unwrap_or_default();
        let declines = direction == "do" && number % 10 == usize::from(step == "approve");
        if direction == "undo" {
            entry.undone = true;
            (StatusCode::OK, Json(json!({})))
        } else if declines {
            (StatusCode::CONFLICT, Json(json!({"detail": "declined"})))
        } else if entry.undone && !entry.done {
            (StatusCode::CONFLICT, Json(json!({"detail": "it was withdrawn before"})))
        } else {
            if !entry.done {
                entry.done = true;
                entry.effects += 1;
            }
            (StatusCode::OK, Json(json!({"receipt": id})))
        }
    };
    match fault {
        6..=12 => unavailable,
        13 => {
            // The answer comes after the step's time-out.
            tokio::time::sleep(Duration::from_millis(500)).await;
            answer
        }
        _ => answer,
    }
}

fn amount(number: usize) -> u64 {
    (number % 97) as u64 + 1
}

async fn place_all(client: &Client, orders: usize) -> Result<()> {
    let place = |number: usize| async move {
        let data = json!({"id": number.to_string(), "amount": amount(number)}).to_string();
        let append = Append {
            stream_id: StreamId::new(format!("order-{number}"))?,
            expected: Expected::Any,
            events: vec![NewEvent::json(EventType::new("Placed")?, data)],
        };
        client.append(&append).await?;
        anyhow::Ok(())
    };
    futures_util::stream::iter((0..orders).map(place)).buffer_unordered(64).try_collect().await
}

/// Waits until every order is approved or rejected, and gives those that are approved.
async fn all_ended(client: &Client, orders: usize) -> Result<BTreeSet<usize>> {
    let event_types = ["Approved", "Rejected"].map(EventType::new).into_iter().collect::<Result<_, _>>()?;
    let filter = Filter { event_types, ..Filter::default() };
    let mut batches = pin!(client.subscribe(Subscribe { filter, ..Subscribe::default() }));
    let (mut approved, mut ended) = (BTreeSet::new(), BTreeSet::new());
    while ended.len() < orders {
        let batch = batches.next().await.context("the subscription ended")??;
        for event in batch.events {
            let data: Value = serde_json::from_slice(&event.data)?;
            let number: usize = data["id"].as_str().context("an id")?.parse()?;
            ensure!(ended.insert(number), "order {number} ended twice");
            if event.event_type.as_str() == "Approved" {
                approved.insert(number);
            }
        }
    }
    Ok(approved)
}

/// A client that outlives the event store's process.
fn patient(url: &str) -> Result<Client> {
    let retry = RetryPolicy {
        name: "test",
        attempts: 1_000,
        initial: Duration::from_millis(20),
        max: Duration::from_millis(200),
    };
    Ok(Client::new(url)?.with_retry(retry))
}

/// The moment of a kill is the input of these tests, not a wait for something.
async fn moment() {
    tokio::time::sleep(Duration::from_millis(600 + (Uuid::new_v4().as_u128() % 900) as u64)).await;
}

/// Participants that listen, and the folder of manifests that know where.
struct World {
    folder: TempDir,
    ledger: Ledger,
    serving: JoinHandle<std::io::Result<()>>,
}

impl World {
    async fn open() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let services = format!("services.bank = \"{}\"\n", listener.local_addr()?);
        for (directory, manifests) in [("stream", &[STREAM][..]), ("all", &[STREAM, SAGA])] {
            let directory = folder.path().join(directory);
            std::fs::create_dir(&directory)?;
            write(&directory, "all.yaml", &manifests.join("---"))?;
            write(&directory, "dev.toml", &services)?;
        }
        let ledger = Ledger::default();
        let serving = tokio::spawn(axum::serve(listener, participants(ledger.clone())).into_future());
        Ok(Self { folder, ledger, serving })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Money is conserved, and nothing took effect twice.
    fn check(self, orders: usize, approved: &BTreeSet<usize>) -> Result<()> {
        self.serving.abort();
        let ledger = self.ledger.lock().expect("no participant panicked");
        let (mut paid, mut due) = (0, 0);
        for number in 0..orders {
            let entry = |step| ledger.get(&(number.to_string(), step)).cloned().unwrap_or_default();
            let (pay, approve) = (entry("pay"), entry("approve"));
            for (step, entry) in [("pay", &pay), ("approve", &approve)] {
                ensure!(entry.effects <= 1, "{step} of order {number} took effect {} times", entry.effects);
                for (direction, keys) in &entry.keys {
                    ensure!(keys.len() == 1, "{step} {direction} of order {number} came under {keys:?}");
                }
                let in_effect = entry.done && !entry.undone;
                if in_effect != approved.contains(&number) {
                    bail!("order {number}, approved: {}, {step}: {entry:?}", approved.contains(&number));
                }
            }
            paid += if pay.done && !pay.undone { amount(number) } else { 0 };
            due += if approved.contains(&number) { amount(number) } else { 0 };
        }
        ensure!(paid == due, "{paid} was paid, {due} is due");
        let declined = orders / 10 * 2;
        ensure!(
            approved.len() <= orders - declined && approved.len() > orders / 2,
            "{} approved",
            approved.len()
        );
        let again = |entry: &Entry| entry.requests > entry.keys.len();
        ensure!(ledger.values().any(again), "none was asked again");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sagas_conserve_money_while_the_coordinator_is_killed() -> Result<()> {
    const ORDERS: usize = 10_000;
    let world = World::open().await?;
    let run = async {
        let mut options = DevOptions::new(world.path("all"), world.path("data"));
        let mut dev = Dev::start(&options).await?;
        options = options.succeeding(&dev)?;
        let client = patient(dev.stream("orders")?)?;
        let placing = {
            let client = client.clone();
            tokio::spawn(async move { place_all(&client, ORDERS).await })
        };
        for _ in 0..KILLS {
            moment().await;
            dev.kill().await?;
            dev = Dev::start(&options).await?;
        }
        placing.await??;
        let approved = all_ended(&client, ORDERS).await?;
        ensure!(dev.terminate().await?.success(), "dev does not end well");
        anyhow::Ok(approved)
    };
    let approved = tokio::time::timeout(PATIENCE, run).await.context("not all sagas ended in time")??;
    world.check(ORDERS, &approved)
}

/// `headwater-saga` over the event store at `event_store`, and where its API is.
async fn worker(world: &World, event_store: &str, listen: &str) -> Result<(Process, String)> {
    let words = [
        world.path("all").into_os_string(),
        "--data-dir".into(),
        world.path("worker").into_os_string(),
        "--event-store".into(),
        format!("orders={event_store}").into(),
        "--listen".into(),
        listen.into(),
        "--admin-listen".into(),
        "127.0.0.1:0".into(),
    ];
    let mut worker = Process::spawn(program("headwater-saga")?, words)?;
    let url = |line: &str| line.split_once("listening on ").map(|(_, url)| url.to_owned());
    let url = worker.line("where it listens", url).await?;
    Ok((worker, url))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_in_a_process_of_its_own_conserves_money_while_it_and_the_event_store_are_killed() -> Result<()>
{
    const ORDERS: usize = 10_000;
    let world = World::open().await?;
    let run = async {
        let mut options = DevOptions::new(world.path("stream"), world.path("data"));
        let mut dev = Dev::start(&options).await?;
        options = options.succeeding(&dev)?;
        let event_store = dev.stream("orders")?.to_owned();
        dev.kill().await?;

        // It says what it waits for, and begins when that is there.
        let (mut saga, url) = worker(&world, &event_store, "127.0.0.1:0").await?;
        let listen = url.trim_start_matches("http://").to_owned();
        let ready = async || anyhow::Ok(reqwest::get(format!("{url}/readyz")).await?.text().await?);
        let waits = ready().await?;
        ensure!(waits.contains("waiting for the event stream \"orders\""), "{waits}");
        dev = Dev::start(&options).await?;
        saga.line("that it coordinates", |line| line.contains("coordinates").then_some(())).await?;
        ensure!(ready().await? == "ready\n", "{}", ready().await?);

        let client = patient(&event_store)?;
        let placing = {
            let client = client.clone();
            tokio::spawn(async move { place_all(&client, ORDERS).await })
        };
        for kill in 0..KILLS {
            moment().await;
            if kill % 2 == 0 {
                saga.kill().await?;
                (saga, _) = worker(&world, &event_store, &listen).await?;
            } else {
                dev.kill().await?;
                dev = Dev::start(&options).await?;
            }
        }
        placing.await??;
        let approved = all_ended(&client, ORDERS).await?;
        let metrics = reqwest::get(format!("{url}/metrics")).await?.text().await?;
        let open = r#"headwater_saga_instances{saga="place",state="needs-attention"} 0"#;
        ensure!(metrics.lines().any(|line| line == open), "{metrics}");
        ensure!(saga.terminate().await?.success(), "headwater-saga does not end well");
        ensure!(dev.terminate().await?.success(), "dev does not end well");
        anyhow::Ok(approved)
    };
    let approved = tokio::time::timeout(PATIENCE, run).await.context("not all sagas ended in time")??;
    world.check(ORDERS, &approved)
}

/// A coordinator whose log is in a database.
struct Coordinator {
    process: Process,
    url: String,
    admin: String,
}

impl Coordinator {
    async fn start(world: &World, event_store: &str, database: &str) -> Result<Self> {
        let words = [
            world.path("all").into_os_string(),
            "--database".into(),
            database.into(),
            "--event-store".into(),
            format!("orders={event_store}").into(),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--admin-listen".into(),
            "127.0.0.1:0".into(),
        ];
        let mut process = Process::spawn(program("headwater-saga")?, words)?;
        let after =
            |words: &'static str| move |line: &str| line.split_once(words).map(|(_, url)| url.to_owned());
        let url = process.line("where it listens", after("listening on ")).await?;
        let admin = process.line("where it is administered", after("administered at ")).await?;
        Ok(Self { process, url, admin })
    }

    async fn get(&self, path: &str) -> Result<String> {
        Ok(reqwest::get(format!("{}{path}", self.url)).await?.text().await?)
    }

    async fn coordinates(&self) -> Result<bool> {
        let metrics = self.get("/metrics").await?;
        Ok(metrics.lines().any(|line| line == r#"headwater_saga_coordinates{saga="place"} 1"#))
    }
}

/// Waits until one of `coordinators` coordinates and all others stand by, and gives which, and how long that took.
async fn one_coordinates(coordinators: &[Coordinator]) -> Result<(usize, Duration)> {
    let began = Instant::now();
    loop {
        let mut active = Vec::new();
        let mut ready = 0;
        for (number, coordinator) in coordinators.iter().enumerate() {
            if coordinator.coordinates().await? {
                active.push(number);
            }
            ready += usize::from(coordinator.get("/readyz").await? == "ready\n");
        }
        ensure!(active.len() < 2, "{active:?} coordinate at once");
        if active.len() == 1 && ready == coordinators.len() {
            return Ok((active[0], began.elapsed()));
        }
        ensure!(
            began.elapsed() < process::PATIENCE,
            "{active:?} coordinate, and {ready} of {} are ready",
            coordinators.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_another_coordinator_takes_over_and_money_is_conserved() -> Result<()> {
    const ORDERS: usize = 6_000;
    /// As for event stores: a lease, half a second to notice, and what other tests take beside it.
    const LEASES_RUN_OUT: Duration = Duration::from_secs(9);
    let world = World::open().await?;
    let server = Postgres::start()?;
    let run = async {
        let dev = Dev::start(&DevOptions::new(world.path("stream"), world.path("data"))).await?;
        let event_store = dev.stream("orders")?.to_owned();
        let start = async || Coordinator::start(&world, &event_store, &server.url()).await;
        let mut all = vec![start().await?, start().await?, start().await?];
        one_coordinates(&all).await?;
        let client = patient(&event_store)?;
        let placing = {
            let client = client.clone();
            tokio::spawn(async move { place_all(&client, ORDERS).await })
        };

        moment().await;
        let (active, _) = one_coordinates(&all).await?;
        all.swap_remove(active).process.kill().await?;
        let (active, took) = one_coordinates(&all).await?;
        println!("after a kill, another coordinates within {took:?}");
        ensure!(took < LEASES_RUN_OUT, "it took {took:?}");
        all.push(start().await?);

        moment().await;
        let stopped = all.swap_remove(active);
        stopped.process.signal(Signal::STOP)?;
        let (_, took) = one_coordinates(&all).await?;
        println!("after one is stopped, another coordinates within {took:?}");
        stopped.process.signal(Signal::CONT)?;
        // It wakes in the middle of what it was doing, and stands by.
        all.push(stopped);
        let (active, _) = one_coordinates(&all).await?;
        ensure!(active != all.len() - 1, "it is another's now");

        moment().await;
        let leaving = all.swap_remove(active);
        ensure!(leaving.process.terminate().await?.success(), "headwater-saga does not end well");
        let (_, took) = one_coordinates(&all).await?;
        println!("after one has left, another coordinates within {took:?}");
        ensure!(took < Duration::from_secs(3), "it took {took:?}");

        moment().await;
        server.kill()?;
        moment().await;
        server.resume()?;
        let (active, _) = one_coordinates(&all).await?;

        // Those that stand by answer what is asked, and leave decisions to the other.
        placing.await??;
        let approved = all_ended(&client, ORDERS).await?;
        let standby = all.iter().position(|one| one.url != all[active].url).context("one that stands by")?;
        let listed: Value = serde_json::from_str(&all[standby].get("/v1/sagas").await?)?;
        ensure!(listed["sagas"][0]["coordinated_by"] == all[active].url, "{listed}");
        let shown: Value = serde_json::from_str(&all[standby].get("/v1/sagas/place/instances/7").await?)?;
        ensure!(shown["state"] == "completed", "{shown}");
        let abort = format!("{}/v1/sagas/place/instances/7/abort", all[standby].admin);
        let refused = reqwest::Client::new().post(abort).json(&json!({})).send().await?;
        let (status, text) = (refused.status(), refused.text().await?);
        ensure!(status.is_client_error() && text.contains(&all[active].url), "{status}: {text}");

        for coordinator in all {
            ensure!(coordinator.process.terminate().await?.success(), "headwater-saga does not end well");
        }
        ensure!(dev.terminate().await?.success(), "dev does not end well");
        anyhow::Ok(approved)
    };
    let approved = tokio::time::timeout(PATIENCE, run).await.context("not all sagas ended in time")??;
    world.check(ORDERS, &approved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_coordinator_whose_event_store_is_gone_leaves_the_saga_to_another() -> Result<()> {
    const ORDERS: usize = 100;
    let world = World::open().await?;
    let server = Postgres::start()?;
    let run = async {
        let mut stores = Vec::new();
        for _ in 0..2 {
            stores.push(EventStore::told(&world.path("stream"), &server.url(), &[]).await?);
        }
        let start = async |store: &EventStore| Coordinator::start(&world, store.url(), &server.url()).await;
        let all = [start(&stores[0]).await?, start(&stores[1]).await?];
        let (active, _) = one_coordinates(&all).await?;
        stores.remove(active).into_process().kill().await?;
        let other = &all[1 - active];
        let began = Instant::now();
        while !other.coordinates().await? || all[active].coordinates().await? {
            ensure!(began.elapsed() < process::PATIENCE, "nobody else coordinates");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("another coordinates within {:?}", began.elapsed());
        let waits = all[active].get("/readyz").await?;
        ensure!(waits.contains("waiting for an answer of the event stream"), "{waits}");
        let client = patient(stores[0].url())?;
        place_all(&client, ORDERS).await?;
        all_ended(&client, ORDERS).await
    };
    let approved = tokio::time::timeout(PATIENCE, run).await.context("not all sagas ended in time")??;
    world.check(ORDERS, &approved)
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_changed() -> Result<()> {
    let world = World::open().await?;
    for (words, part) in [
        (
            &["all"][..],
            "uses event stream \"orders\": say where it is, with --event-store orders=http://HOST:PORT",
        ),
        (
            &["all", "--event-store", "orders=http://127.0.0.1:1", "--event-store", "x=http://127.0.0.1:1"],
            "uses no event stream \"x\"",
        ),
        (&["all", "--event-store", "orders=ftp://x"], "is no address of an event store"),
        (&["all", "--event-store", "orders"], "give STREAM=URL"),
        (
            &["all", "--event-store", "orders=http://127.0.0.1:1", "--saga", "x"],
            "no Saga \"x\"; they declare \"place\"",
        ),
        (
            &["all", "--event-store", "orders=http://127.0.0.1:1", "--listen", "0.0.0.0:1"],
            "reachable from other machines",
        ),
        (&["stream", "--event-store", "orders=http://127.0.0.1:1"], "declare no Saga"),
        (&["none"], "none"),
    ] {
        let output = Command::new(program("headwater-saga")?)
            .current_dir(world.folder.path())
            .args(words)
            .args(["--data-dir", "worker"])
            .output()
            .await?;
        let said = String::from_utf8(output.stderr)?;
        assert!(!output.status.success() && said.contains(part), "{words:?}: {said}");
        assert!(!world.path("worker").exists(), "{words:?} made the data directory");
    }
    Ok(())
}
