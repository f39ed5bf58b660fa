//! Ten thousand sagas against participants that lose, delay, refuse and repeat, while the coordinator is killed: money is conserved.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::{StreamExt, TryStreamExt};
use headwater_api::{Client, Filter, Subscribe};
use headwater_core::{Append, EventType, Expected, NewEvent, RetryPolicy, StreamId};
use headwater_testkit::dev::{Dev, DevOptions, write};
use serde_json::{Value, json};
use uuid::Uuid;

const ORDERS: usize = 10_000;
const KILLS: usize = 6;
/// Everything, kills included; only a failing test needs it.
const PATIENCE: Duration = Duration::from_mins(3);

const MANIFESTS: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec: {partitions: 2}
---
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
    requests: u32,
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

async fn place_all(client: &Client) -> Result<()> {
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
    futures_util::stream::iter((0..ORDERS).map(place)).buffer_unordered(64).try_collect().await
}

/// Waits until every order is approved or rejected, and gives those that are approved.
async fn all_ended(client: &Client) -> Result<BTreeSet<usize>> {
    let event_types = ["Approved", "Rejected"].map(EventType::new).into_iter().collect::<Result<_, _>>()?;
    let filter = Filter { event_types, ..Filter::default() };
    let mut batches = pin!(client.subscribe(Subscribe { filter, ..Subscribe::default() }));
    let (mut approved, mut ended) = (BTreeSet::new(), BTreeSet::new());
    while ended.len() < ORDERS {
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

async fn run(directory: &Path, data: &Path) -> Result<BTreeSet<usize>> {
    let mut options = DevOptions::new(directory, data);
    let mut dev = Dev::start(&options).await?;
    options = options.succeeding(&dev)?;
    let retry = RetryPolicy {
        name: "test",
        attempts: 1_000,
        initial: Duration::from_millis(20),
        max: Duration::from_millis(200),
    };
    let client = Client::new(dev.stream("orders")?)?.with_retry(retry);
    let placing = {
        let client = client.clone();
        tokio::spawn(async move { place_all(&client).await })
    };
    for _ in 0..KILLS {
        // The moment of the kill is the input of this test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(600 + (Uuid::new_v4().as_u128() % 900) as u64)).await;
        dev.kill().await?;
        dev = Dev::start(&options).await?;
    }
    placing.await??;
    let approved = all_ended(&client).await?;
    ensure!(dev.terminate().await?.success(), "dev does not end well");
    Ok(approved)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_sagas_conserve_money_while_the_coordinator_is_killed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    write(directory.path(), "all.yaml", MANIFESTS)?;
    write(directory.path(), "dev.yaml", &format!("services: {{bank: \"{}\"}}\n", listener.local_addr()?))?;
    let ledger = Ledger::default();
    let serving = tokio::spawn(axum::serve(listener, participants(ledger.clone())).into_future());

    let data = directory.path().join("data");
    let run = run(directory.path(), &data);
    let approved = tokio::time::timeout(PATIENCE, run).await.context("not all sagas ended in time")??;
    serving.abort();

    let ledger = ledger.lock().expect("no participant panicked");
    let (mut paid, mut due) = (0, 0);
    for number in 0..ORDERS {
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
    assert_eq!(paid, due, "money is conserved");
    let declined = ORDERS / 10 * 2;
    assert!(
        approved.len() <= ORDERS - declined && approved.len() > ORDERS / 2,
        "{} approved",
        approved.len()
    );
    assert!(ledger.values().any(|entry| entry.requests > 2), "some were asked again");
    Ok(())
}
