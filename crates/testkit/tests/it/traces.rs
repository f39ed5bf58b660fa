//! One trace, from an append through a saga's calls to the events that it appends, as a collector gets it from the real programs.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::StreamExt as _;
use headwater_api::{Client, Filter, Subscribe};
use headwater_core::{Append, EventType, Expected, NewEvent, RecordedEvent, StreamId};
use headwater_testkit::collector::{Collector, Span};
use headwater_testkit::dev::write;
use headwater_testkit::nats::Nats;
use headwater_testkit::process::{Process, program};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a caller sends.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// In the event's data and in a Secret's header: no span may say it.
const SECRET: &str = "hush-4711";

const STREAM: &str = "
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec:
  partitions: 2
  bus: {type: NATS, nats: {servers: [nats://nats:4222], streamName: TRACED, replicas: 1}}
";

const PROJECTION: &str = "
apiVersion: headwater.dev/v1alpha1
kind: Projection
metadata: {name: spending}
spec:
  streamRef: {name: orders}
  tables:
  - name: orders
    key: [id]
    columns: [{name: id, type: Text}, {name: amount, type: Integer}]
  rules:
  - {type: Upsert, events: [Placed], table: orders, key: {id: event.streamId}, set: {amount: event.data.amount}}
";

const SAGA: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place}
spec:
  streamRef: {name: orders}
  startOn: {events: [Placed]}
  variables: {amount: event.data.amount, card: event.data.card}
  steps:
  - name: pay
    action:
      type: HTTP
      http:
        method: POST
        url: "http://bank/pay/${card}"
        headers: [{name: x-token, valueFrom: {secretKeyRef: {name: bank, key: token}}}]
        body: {amount: amount}
    timeout: 60s
    compensation: {type: None}
  onCompleted: {append: {streamId: "done-${instance}", type: Approved, data: {amount: amount}}}
---
apiVersion: v1
kind: Secret
metadata: {name: bank}
stringData: {token: hush-4711}
"#;

/// What the bank was sent, call by call; it answers from the second on.
type Calls = Arc<watch::Sender<Vec<HeaderMap>>>;

async fn pay(State(calls): State<Calls>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let mut first = false;
    calls.send_modify(|calls| {
        first = calls.is_empty();
        calls.push(headers);
    });
    if first {
        // The saga is killed while it waits.
        std::future::pending::<()>().await;
    }
    (StatusCode::OK, Json(json!({})))
}

/// The manifests, a bank that listens, and what the programs are told about traces.
struct World {
    folder: TempDir,
    environment: Vec<(&'static str, String)>,
    calls: Calls,
    bank: JoinHandle<std::io::Result<()>>,
}

impl World {
    async fn open(environment: &[(&'static str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        write(folder.path(), "all.yaml", &[STREAM, PROJECTION, SAGA].join("---"))?;
        write(folder.path(), "dev.toml", &format!("services.bank = \"{}\"\n", listener.local_addr()?))?;
        let calls = Calls::new(watch::Sender::default());
        let routes = Router::new().route("/pay/{card}", post(pay)).with_state(Arc::clone(&calls));
        let bank = tokio::spawn(axum::serve(listener, routes).into_future());
        let environment = environment.iter().map(|(name, value)| (*name, (*value).to_owned()));
        Ok(Self { folder, environment: environment.collect(), calls, bank })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a program over the manifests with its data in the folder `data`, and says where it listens.
    async fn start(&self, name: &str, data: &str, words: &[&str]) -> Result<(Process, String)> {
        let mut command = Command::new(program(name)?);
        command.arg(self.folder.path()).arg("--data-dir").arg(self.path(data));
        command.args(["--listen", "127.0.0.1:0"]).args(words);
        command.env("OTEL_BSP_SCHEDULE_DELAY", "50").envs(self.environment.iter().cloned());
        let mut process = Process::start(command)?;
        let url = |line: &str| line.split_once("listening on ").map(|(_, url)| url.to_owned());
        let url = process.line("where it listens", url).await?;
        Ok((process, url))
    }

    async fn store(&self, words: &[&str]) -> Result<(Process, String)> {
        self.store_in("store", words).await
    }

    async fn store_in(&self, data: &str, words: &[&str]) -> Result<(Process, String)> {
        let (mut store, url) = self.start("headwater-eventstore", data, words).await?;
        store.line("that it serves", |line| line.contains("serves").then_some(())).await?;
        Ok((store, url))
    }

    async fn saga(&self, store: &str) -> Result<Process> {
        let at = format!("orders={store}");
        let (mut saga, _) = self.start("headwater-saga", "saga", &["--event-store", &at]).await?;
        saga.line("that it coordinates", |line| line.contains("coordinates").then_some(())).await?;
        Ok(saga)
    }

    /// Waits until the bank has been called so often, and gives the trace context of each call.
    async fn called(&self, times: usize) -> Result<Vec<String>> {
        let mut calls = self.calls.subscribe();
        let calls = tokio::time::timeout(
            headwater_testkit::process::PATIENCE,
            calls.wait_for(|calls| calls.len() >= times),
        );
        let calls = calls.await.context("the bank is not called")??;
        let context = |headers: &HeaderMap| {
            headers.get("traceparent").and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned()
        };
        Ok(calls.iter().map(context).collect())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.bank.abort();
    }
}

/// Appends over HTTP, with this trace context.
async fn place(store: &str, stream_id: &str, traceparent: Option<&str>) -> Result<()> {
    let data = json!({"amount": 5, "card": SECRET});
    let body =
        json!({"expected": "any", "events": [{"type": "Placed", "data": data, "metadata": {"by": "test"}}]});
    let mut request =
        reqwest::Client::new().post(format!("{store}/v1/streams/{stream_id}/events")).json(&body);
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.send().await?.error_for_status()?;
    Ok(())
}

/// The trace context of an event.
fn context_of(event: &RecordedEvent) -> Option<String> {
    event.metadata.text("traceparent")
}

/// The first event of this type.
async fn event(store: &str, event_type: &str) -> Result<RecordedEvent> {
    let filter =
        Filter { event_types: [EventType::new(event_type)?].into_iter().collect(), ..Filter::default() };
    let client = Client::new(store)?;
    let mut batches = pin!(client.subscribe(Subscribe { filter, ..Subscribe::default() }));
    loop {
        let next = tokio::time::timeout(headwater_testkit::process::PATIENCE, batches.next()).await;
        let batch =
            next.with_context(|| format!("no {event_type} comes"))?.context("the subscription ended")??;
        if let Some(event) = batch.events.into_iter().next() {
            return Ok(event);
        }
    }
}

#[track_caller]
fn is_of(span: &Span, service: &str, kind: SpanKind, trace: &str, parent: &str) {
    assert_eq!((span.service.as_str(), span.kind), (service, kind), "{span:#?}");
    assert_eq!((span.trace.as_str(), span.parent.as_str()), (trace, parent), "{span:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_goes_from_an_append_through_a_saga_that_is_killed_to_what_it_appends() -> Result<()> {
    let collector = Collector::start().await?;
    let world = World::open(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())]).await?;
    let (store, url) = world.store(&[]).await?;
    let (folds, _) = world.start("headwater-query-worker", "worker", &["--event-store", &url]).await?;
    let first = world.saga(&url).await?;

    place(&url, "order-1", Some(&format!("00-{TRACE}-{CALLER}-01"))).await?;
    world.called(1).await?;
    // A span that has ended and was not sent yet dies with its process.
    collector.span("of taking the order", |span| span.name == "process orders").await?;
    first.kill().await?;
    let second = world.saga(&url).await?;
    let approved = event(&url, "Approved").await?;
    let placed = event(&url, "Placed").await?;
    collector
        .span("of folding the first", |span| {
            span.name == "process spending"
                && span.links.iter().any(|(_, id)| context_of(&placed).is_some_and(|it| it.contains(id)))
        })
        .await?;
    for process in [second, folds, store] {
        ensure!(process.terminate().await?.success(), "a program does not end well");
    }
    // All of them have sent what they had.
    let spans = collector.spans();
    let named = |name: &str| -> Result<Vec<&Span>> {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        ensure!(!found.is_empty(), "no span {name} in {spans:#?}");
        Ok(found)
    };

    let requests = named("POST /v1/streams/{stream_id}/events")?;
    is_of(requests[0], "headwater-eventstore", SpanKind::Server, TRACE, CALLER);
    assert_eq!(requests[0].attributes["http.response.status_code"], "201");
    let appends = named("append orders")?;
    let append = *appends.iter().find(|span| span.parent == requests[0].id).context("the append's span")?;
    is_of(append, "headwater-eventstore", SpanKind::Producer, TRACE, &requests[0].id);
    assert_eq!(append.attributes["messaging.message.id"], placed.id.to_string());
    assert_eq!(append.attributes["headwater.position"], placed.position.to_string());
    assert_eq!(context_of(&placed), Some(append.traceparent()));
    assert_eq!(placed.metadata.text("by").as_deref(), Some("test"));

    let folded = named("process spending")?;
    let folded = *folded
        .iter()
        .find(|span| span.links.contains(&(TRACE.to_owned(), append.id.clone())))
        .context("a fold that is linked to the append")?;
    assert_eq!((folded.service.as_str(), folded.kind), ("headwater-query-worker", SpanKind::Consumer));

    let taken = named("process orders")?;
    is_of(taken[0], "headwater-saga", SpanKind::Consumer, TRACE, &append.id);
    // The first attempt's span died with its process; the second goes on from the history.
    let called = world.called(2).await?;
    let pay = named("place/pay")?;
    ensure!(pay.len() == 1 && called.len() == 2, "{pay:#?} {called:?}");
    is_of(pay[0], "headwater-saga", SpanKind::Client, TRACE, &append.id);
    assert_eq!(called[1], pay[0].traceparent());
    ensure!(called[0].starts_with(&format!("00-{TRACE}-")) && called[0] != called[1], "{called:?}");
    assert_eq!(pay[0].attributes["http.response.status_code"], "200");

    let completed = spans
        .iter()
        .find(|span| Some(span.traceparent()) == context_of(&approved))
        .with_context(|| format!("a span at {:?} in {spans:#?}", context_of(&approved)))?;
    is_of(completed, "headwater-saga", SpanKind::Client, TRACE, &append.id);
    let forwarded = named("headwater.eventstore.v1.EventStore/Append")?;
    is_of(forwarded[0], "headwater-eventstore", SpanKind::Server, TRACE, &completed.id);

    for span in &spans {
        ensure!(!span.attributes.values().any(|value| value.contains(SECRET)), "{span:#?}");
        ensure!(!span.failed, "{span:#?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_linked_to_its_appends_and_failures_say_their_kind() -> Result<()> {
    let collector = Collector::start().await?;
    let broker = Nats::shared()?;
    let world = World::open(&[("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())]).await?;
    let (store, url) = world.store(&["--bus", &broker.url()]).await?;
    let client = Client::new(&url)?.in_trace(Some(&format!("00-{TRACE}-{CALLER}-01")));
    let append = |expected| -> Result<Append> {
        let events =
            (0..3).map(|_| Ok(NewEvent::json(EventType::new("Placed")?, "1"))).collect::<Result<_>>()?;
        Ok(Append { stream_id: StreamId::new("order-1")?, expected, events })
    };
    client.append(&append(Expected::NoStream)?).await?;
    ensure!(client.append(&append(Expected::NoStream)?).await.is_err(), "a second first append");
    let published = collector.span("of publishing", |span| span.name == "publish orders").await?;
    ensure!(store.terminate().await?.success(), "the event store does not end well");
    let spans = collector.spans();
    let appends: Vec<_> = spans.iter().filter(|span| span.name == "append orders").collect();
    let [first, second] = appends[..] else { anyhow::bail!("{appends:#?}") };
    // Three events of one append come from one place.
    assert_eq!(published.links, [(TRACE.to_owned(), first.id.clone())]);
    assert_eq!((published.kind, published.parent.as_str()), (SpanKind::Client, ""));
    assert_eq!(published.attributes["messaging.system"], "nats");
    assert_eq!(published.attributes["messaging.batch.message_count"], "3");
    assert_eq!((first.failed, second.failed), (false, true));
    assert_eq!(second.attributes["error.type"], "wrong_version");
    // The server is not to blame for what a client expects.
    ensure!(!spans.iter().any(|span| span.kind == SpanKind::Server && span.failed), "{spans:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_down_costs_a_warning_and_nothing_else() -> Result<()> {
    let nobody = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let world = World::open(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{nobody}"))]).await?;
    let (mut store, url) = world.store(&[]).await?;
    place(&url, "order-1", None).await?;
    store.line("what is lost", |line| line.contains("spans were lost").then_some(())).await?;
    for number in 0..20 {
        place(&url, &format!("order-{number}"), None).await?;
    }
    let context = context_of(&event(&url, "Placed").await?).context("a trace goes on elsewhere")?;
    ensure!(context.len() == 55 && context.ends_with("-01"), "{context}");
    let begun = std::time::Instant::now();
    store.signal(rustix::process::Signal::TERM)?;
    let output = {
        while store.line("its end", |_| Some(())).await.is_ok() {}
        store.output()
    };
    ensure!(store.wait().await?.success(), "{output}");
    ensure!(begun.elapsed() < std::time::Duration::from_secs(15), "it took {:?} to end", begun.elapsed());
    assert_eq!(output.matches("spans were lost").count(), 1, "{output}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_is_not_exported_and_its_context_travels_all_the_same() -> Result<()> {
    let collector = Collector::start().await?;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint());
    let caller = format!("00-{TRACE}-{CALLER}-01");
    let world = World::open(&[endpoint, ("OTEL_TRACES_SAMPLER", "always_off")]).await?;
    let (store, url) = world.store(&[]).await?;
    place(&url, "order-1", Some(&caller)).await?;
    let context = context_of(&event(&url, "Placed").await?).context("no context")?;
    ensure!(context.starts_with(&format!("00-{TRACE}-")) && context.ends_with("-00"), "{context}");
    ensure!(store.terminate().await?.success(), "the event store does not end well");
    assert_eq!(collector.spans(), []);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_a_callers_context_travels_as_it_came() -> Result<()> {
    let caller = format!("00-{TRACE}-{CALLER}-01");
    let world = World::open(&[]).await?;
    let (store, url) = world.store(&[]).await?;
    let saga = world.saga(&url).await?;
    place(&url, "order-1", Some(&caller)).await?;
    assert_eq!(world.called(1).await?, std::slice::from_ref(&caller));
    assert_eq!(context_of(&event(&url, "Placed").await?), Some(caller));
    for process in [saga, store] {
        ensure!(process.terminate().await?.success(), "a program does not end well");
    }
    let (store, url) = world.store_in("other", &[]).await?;
    place(&url, "order-2", Some("00-no-trace")).await?;
    assert_eq!(context_of(&event(&url, "Placed").await?), None);
    ensure!(store.terminate().await?.success(), "the event store does not end well");
    Ok(())
}

#[tokio::test]
async fn variables_that_would_not_be_followed_are_refused() -> Result<()> {
    let world = World::open(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
    ])
    .await?;
    let mut command = Command::new(program("headwater-eventstore")?);
    command.arg(world.folder.path()).arg("--data-dir").arg(world.path("store"));
    let output = command.envs(world.environment.iter().cloned()).output().await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        !output.status.success() && said.contains("OTEL_EXPORTER_OTLP_PROTOCOL: \"http/protobuf\""),
        "{said}"
    );
    ensure!(!world.path("store").exists(), "the data directory was made");
    Ok(())
}
