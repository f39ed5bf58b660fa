//! The API of sagas, as its clients see it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId};
use headwater_log::{Clock, LogReader, LogStore, LogWriter, MemoryStore, Sequencer, SequencerOptions};
use headwater_resources::manifest::read_texts;
use headwater_runtime::Metrics;
use headwater_saga::{
    Answer, Call, Caller, Counts, Json, Parts, SagaCatalog, SagaMetrics, SagaService, router,
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// Longest that anything here may take; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(30);

const MANIFEST: &str = r"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec: {eventTypes: [{name: OrderCreated}]}
---
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place-order}
spec:
  streamRef: {name: orders}
  startOn: {events: [OrderCreated]}
  variables: {number: event.data.number}
  steps:
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: 'http://stock/${instance}'}}
    retry: {maxAttempts: 1000, initialBackoff: 1h, maxBackoff: 1h}
    compensation: {type: HTTP, http: {method: DELETE, url: 'http://stock/${instance}'}}
  - name: charge
    role: Pivot
    action: {type: HTTP, http: {method: POST, url: 'http://cards/${instance}'}}
  - name: ship
    role: Retriable
    action: {type: HTTP, http: {method: POST, url: 'http://ships/${instance}'}}
";

/// Answers as it was told, by `INSTANCE STEP DIRECTION`; else that it is done.
#[derive(Default)]
pub(crate) struct Script(Mutex<HashMap<String, Answer>>);

impl Script {
    pub(crate) fn says(&self, what: &str, answer: Answer) {
        self.0.lock().unwrap().insert(what.to_owned(), answer);
    }
}

#[async_trait]
impl Caller for Script {
    async fn call(&self, call: &Call) -> Answer {
        // NAMESPACE/SAGA/INSTANCE/EVENT/STEP/DIRECTION, and an instance may have slashes.
        let mut parts = call.key.splitn(3, '/').nth(2).unwrap().rsplitn(4, '/');
        let (direction, step) = (parts.next().unwrap(), parts.next().unwrap());
        let instance = parts.nth(1).unwrap();
        let what = format!("{instance} {step} {direction}");
        self.0.lock().unwrap().get(&what).cloned().unwrap_or_else(|| {
            let value = Json::parse(r#"{"status": 200, "headers": {}, "body": null}"#).unwrap();
            Answer::Success(headwater_saga::Response { summary: "200 OK".to_owned(), value })
        })
    }
}

pub(crate) fn nobody() -> Answer {
    Answer::Unanswered { reason: "nobody answers".to_owned() }
}

pub(crate) fn no(reason: &str) -> Answer {
    Answer::Failure { reason: reason.to_owned(), response: None }
}

pub(crate) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
    body: Value,
}

impl Reply {
    async fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(body.to_vec()).unwrap(),
            body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        }
    }

    #[track_caller]
    fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if status >= 400 {
            assert_eq!(self.headers["content-type"], "application/problem+json");
        }
        self
    }

    #[track_caller]
    fn says(&self, part: &str) -> &Self {
        assert!(self.body["detail"].as_str().unwrap().contains(part), "{}", self.text);
        self
    }

    /// Of each instance, `NAME STATE`.
    fn instances(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let instances = self.body["instances"].as_array().unwrap();
        instances.iter().map(|it| format!("{} {}", text(&it["instance"]), text(&it["state"]))).collect()
    }

    fn next(&self) -> &str {
        self.body["next"].as_str().unwrap()
    }
}

/// A saga that runs, and its API.
pub(crate) struct Shop {
    events: Sequencer,
    pub(crate) script: Arc<Script>,
    service: SagaService,
    pub(crate) catalog: SagaCatalog,
    pub(crate) metrics: Metrics,
    router: Router,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let manifests = read_texts([("shop.yaml", MANIFEST)]);
        assert!(manifests.is_valid(), "{:?}", manifests.faults);
        let log = || {
            let store = Arc::new(MemoryStore::new(PartitionCount::new(2).unwrap()));
            let writer =
                Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
            (store as Arc<dyn LogReader>, writer)
        };
        let ((events, events_writer), (log, writer)) = (log(), log());
        let script = Arc::new(Script::default());
        let (metrics, catalog) = (Metrics::default(), SagaCatalog::default());
        let parts = Parts {
            namespace: "default".to_owned(),
            name: "place-order".to_owned(),
            events,
            log,
            writer: Arc::new(writer),
            caller: Arc::clone(&script) as Arc<dyn Caller>,
            clock: Clock::system(),
            metrics: SagaMetrics::new(&metrics, catalog.clone()),
            counts: Counts::default(),
            leads: Arc::new(|| true),
        };
        let (saga, stream) = (&manifests.sagas[0].spec, &manifests.event_streams[0].spec);
        let service = SagaService::start(parts, saga, stream).await.unwrap();
        catalog.add(service.clone());
        let router = router(catalog.clone());
        Self { events: events_writer, script, service, catalog, metrics, router }
    }

    pub(crate) async fn order(&self, id: &str, data: Value) {
        let event = NewEvent::json(EventType::new("OrderCreated").unwrap(), data.to_string());
        let append =
            Append { stream_id: StreamId::new(id).unwrap(), expected: Expected::Any, events: vec![event] };
        let positions = self.events.append(append).await.unwrap().token().positions;
        tokio::time::timeout(PATIENCE, self.service.taken_in(&positions)).await.expect("taken in in time");
    }

    async fn get(&self, rest: &str) -> Reply {
        let request = Request::get(format!("/v1/sagas{rest}")).body(Body::empty()).unwrap();
        Reply::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn post(&self, rest: &str, body: &str) -> Reply {
        let request = Request::post(format!("/v1/sagas/place-order/instances/{rest}"));
        let request = request.body(Body::from(body.to_owned())).unwrap();
        Reply::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// The instance, as soon as something in its history says `what` and it is in `state`.
    pub(crate) async fn until(&self, instance: &str, state: &str, what: &str) -> Value {
        let began = Instant::now();
        loop {
            let reply = self.get(&format!("/place-order/instances/{instance}")).await;
            let history = reply.body["history"].as_array();
            let happened = history.is_some_and(|lines| lines.iter().any(|line| line["what"] == what));
            if happened && reply.body["state"] == state {
                return reply.body;
            }
            assert!(began.elapsed() < PATIENCE, "not {state} with {what} in time: {}", reply.text);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The list, as soon as it is `wanted`.
    pub(crate) async fn lists(&self, query: &str, wanted: &[&str]) -> Reply {
        let began = Instant::now();
        loop {
            let reply = self.get(&format!("/place-order/instances{query}")).await;
            if reply.is(200).instances() == wanted {
                return reply;
            }
            assert!(began.elapsed() < PATIENCE, "not {wanted:?} in time: {}", reply.text);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sagas_are_listed_and_drawn() {
    let shop = Shop::open().await;
    let list = shop.get("").await;
    assert_eq!(list.is(200).body["sagas"].as_array().unwrap().len(), 1);
    let status = shop.get("/place-order").await;
    assert_eq!(status.is(200).body, list.body["sagas"][0]);
    assert_eq!((&status.body["name"], &status.body["needs_attention"]), (&json!("place-order"), &json!(0)));
    let graph = shop.get("/place-order/graph").await;
    assert_eq!(graph.is(200).headers["content-type"], "text/plain; charset=utf-8");
    assert!(graph.text.starts_with("flowchart TD\n    start([\"place-order<br/>"), "{}", graph.text);

    shop.get("/none").await.is(404).says("there is no saga \"none\"; there is \"place-order\"");
    for rest in ["/instances", "/instances/a", "/not-started", "/graph"] {
        shop.get(&format!("/none{rest}")).await.is(404).says("\"place-order\"");
    }
    shop.get("/place-order/colours").await.is(404).says("nothing at /v1/sagas/place-order/colours");
    shop.get("/place-order/instances/a/retry").await.is(405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_is_shown_with_its_history() {
    let shop = Shop::open().await;
    shop.order("order/1 %", json!({"number": 1})).await;
    let shown = shop.until("order%2F1%20%25", "completed", "Completed").await;
    assert_eq!((&shown["instance"], &shown["saga"]), (&json!("order/1 %"), &json!("place-order")));
    assert_eq!(shown["event"]["type"], "OrderCreated");
    let steps: Vec<String> = shown["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| format!("{} {}", line["what"].as_str().unwrap(), line["step"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(
        steps,
        [
            "Started -",
            "StepBegun reserve",
            "StepSucceeded reserve",
            "StepBegun charge",
            "StepSucceeded charge",
            "StepBegun ship",
            "StepSucceeded ship",
            "Completed -"
        ]
    );
    let key = shown["history"][1]["key"].as_str().unwrap();
    assert!(key.starts_with("default/place-order/order/1 %/") && key.ends_with("/reserve/do"), "{key}");
    assert_eq!(shown["next"], json!([]));
    shop.get("/place-order/instances/order-9").await.is(404).says("has no instance \"order-9\"");
    shop.post("order-9/abort", "").await.is(404).says("has no instance \"order-9\"");
    shop.post("order%2F1%20%25/abort", "").await.is(409).says("has ended (completed)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_listed_by_state_and_by_pages() {
    let shop = Shop::open().await;
    for number in 1..=3 {
        shop.order(&format!("done-{number}"), json!({"number": number})).await;
        shop.script.says(&format!("open-{number} reserve do"), nobody());
        shop.order(&format!("open-{number}"), json!({"number": number})).await;
    }
    shop.lists("", &["open-1 running", "open-2 running", "open-3 running"]).await;
    let first = shop.lists("?limit=2", &["open-1 running", "open-2 running"]).await;
    let rest = shop.get(&format!("/place-order/instances?limit=2&after={}", first.next())).await;
    assert_eq!(rest.is(200).instances(), ["open-3 running"]);
    assert_eq!(rest.body["next"], Value::Null);
    assert_eq!(first.body["instances"][0]["at"], json!(["reserve"]));
    shop.lists("?state=compensating&state=needs-attention&state=compensated", &[]).await;

    // Open ones first, then ended ones: every one of them once, whatever the size of the pages.
    for number in 1..=3 {
        shop.until(&format!("done-{number}"), "completed", "Completed").await;
    }
    for limit in 1..=7 {
        let base = format!("/place-order/instances?state=completed&state=running&limit={limit}");
        let (mut all, mut url) = (Vec::new(), base.clone());
        loop {
            let page = shop.get(&url).await;
            let instances = page.is(200).instances();
            assert!(instances.len() <= limit);
            all.extend(instances);
            if page.body["next"].is_null() {
                break;
            }
            url = format!("{base}&after={}", page.next());
        }
        assert_eq!(all[..3], ["open-1 running", "open-2 running", "open-3 running"]);
        all[3..].sort();
        assert_eq!(all[3..], ["done-1 completed", "done-2 completed", "done-3 completed"], "limit {limit}");
    }

    shop.get("/place-order/instances?state=done").await.is(400).says("needs-attention");
    shop.get(&format!("/place-order/instances?state=running&after={}", first.next()))
        .await
        .is(400)
        .says("other states");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_aborted_before_the_pivot_is_undone() {
    let shop = Shop::open().await;
    shop.script.says("order-1 reserve do", nobody());
    shop.order("order-1", json!({"number": 1})).await;
    shop.until("order-1", "running", "AttemptUnanswered").await;
    shop.post("order-1/abort", r#"{"step": "reserve"}"#).await.is(400).says("give no step");
    shop.post("order-1/abort", r#"{"why": "x"}"#).await.is(400).says("unknown field `why`");
    shop.post("order-1/frobnicate", "").await.is(404);
    let aborted = shop.post("order-1/abort", r#"{"reason": "the customer changed her mind"}"#).await;
    let said = aborted.is(200).body["history"].as_array().unwrap().iter();
    assert_eq!(
        said.clone().filter(|line| line["what"] == "Commanded").map(|line| &line["text"]).collect::<Vec<_>>(),
        ["abort: the customer changed her mind"]
    );
    let undone = shop.until("order-1", "compensated", "Compensated").await;
    assert_eq!(undone["reason"], "the customer changed her mind");
    assert!(
        undone["history"].as_array().unwrap().iter().any(|line| line["what"] == "StepSucceeded"
            && line["step"] == "reserve"
            && line["direction"] == "undo"),
        "{undone:#}"
    );
    shop.lists("?state=compensated", &["order-1 compensated"]).await;
    shop.post("order-1/abort", "").await.is(409).says("has ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_pivot_a_step_is_retried_or_skipped_and_nothing_is_aborted() {
    let shop = Shop::open().await;
    for order in ["order-1", "order-2"] {
        shop.script.says(&format!("{order} ship do"), no("409 Conflict: no ship"));
        shop.order(order, json!({"number": 1})).await;
        shop.until(order, "needs-attention", "AttentionNeeded").await;
    }
    let list = shop.lists("?state=needs-attention&limit=1", &["order-1 needs-attention"]).await;
    assert!(list.body["instances"][0]["reason"].as_str().unwrap().contains("no ship"), "{}", list.text);
    shop.post("order-1/abort", "").await.is(409).says("only goes forward");
    let wrong = shop.post("order-1/skip", r#"{"step": "reserve"}"#).await;
    wrong.is(400).says("is not at step \"reserve\"; it is at ship");
    assert_eq!(wrong.body["field"], "step");

    shop.post("order-1/skip", r#"{"step": "ship", "reason": "by hand"}"#).await.is(200);
    let skipped = shop.until("order-1", "completed", "Completed").await;
    let last = skipped["history"].as_array().unwrap().iter().rev().nth(1).unwrap();
    assert_eq!(last["text"], "skipped by command");

    shop.post("order-2/retry", "").await.is(200);
    shop.until("order-2", "needs-attention", "Commanded").await;
    shop.script.0.lock().unwrap().clear();
    shop.post("order-2/resume", "{}").await.is(200);
    shop.until("order-2", "completed", "Completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_could_start_nothing_are_listed_by_pages() {
    let shop = Shop::open().await;
    for number in 1..=3 {
        shop.order(&format!("order-{number}"), json!({"no": number})).await;
    }
    let first = shop.get("/place-order/not-started?limit=2").await;
    let ids = |reply: &Reply| {
        let events = reply.body["events"].as_array().unwrap();
        events.iter().map(|it| it["event"]["stream_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(first.is(200).body["events"][0]["reason"].as_str().unwrap().contains("number"), "{}", first.text);
    let rest = shop.get(&format!("/place-order/not-started?limit=2&after={}", first.next())).await;
    assert_eq!([ids(&first), ids(&rest)].concat(), ["order-1", "order-2", "order-3"]);
    assert_eq!(rest.body["next"], Value::Null);
    shop.get("/place-order/not-started?after=x").await.is(400).says("`next` of the page before");
}
