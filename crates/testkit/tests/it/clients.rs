//! Programs of others read Headwater, by what it says of itself: the CloudEvents SDK, and grpcurl.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_testkit::counters;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::http::{Event, Http, Outcome};
use headwater_testkit::kafka::Kafka;
use headwater_testkit::nats::Nats;
use headwater_testkit::process::PATIENCE;
use headwater_testkit::tools;
use serde_json::{Value, json};
use tokio::process::Command;
use uuid::Uuid;

const EVENTS: usize = 12;

/// What a program of others prints.
async fn ask(program: &str, arguments: &[&str]) -> Result<String> {
    let path = tools::clients()?.join(program);
    ensure!(path.is_file(), "there is no {}: `cargo xtask test` builds it", path.display());
    // It has as much patience itself, and says why it has none any more.
    let asked = Command::new(path).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(2 * PATIENCE, asked).await.context("no answer, and no reason")??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// An event store that relays to the bus at `url`, with some events in it; and these.
async fn relaying(directory: &Path, bus: &str, url: &str) -> Result<(EventStore, Vec<Event>)> {
    counters::write_manifests_with_bus(directory, bus)?;
    let words = ["--bus", url, "--namespace", "shop"].map(str::to_owned);
    let store = EventStore::secured(directory, &directory.join("data"), &words).await?;
    let events = append(&store.http()).await?;
    Ok((store, events))
}

async fn append(http: &Http) -> Result<Vec<Event>> {
    for number in 0..EVENTS {
        let (id, data) = (Uuid::from_u128(number as u128 + 1).to_string(), json!({"amount": number}));
        let stored =
            http.append(&format!("counter-{}", number % 5), &json!("any"), &id, "Added", &data).await?;
        ensure!(matches!(stored, Outcome::Stored(_)), "{stored:?}");
    }
    Ok(http.all_events().await?.0)
}

/// That CloudEvents, one a line, are these events of the log.
fn check(lines: &str, events: &[Event]) -> Result<()> {
    let read: BTreeMap<String, Value> = lines
        .lines()
        .map(|line| {
            let event: Value = serde_json::from_str(line)?;
            Ok((event["id"].as_str().context("an id")?.to_owned(), event))
        })
        .collect::<Result<_>>()?;
    ensure!(read.len() == events.len(), "{} of {} events:\n{lines}", read.len(), events.len());
    for event in events {
        let seen = &read[&event.id];
        let time: jiff::Timestamp = seen["time"].as_str().context("a time")?.parse()?;
        ensure!(time == event.recorded_at, "{seen} {event:?}");
        let said = |name: &str| seen[name].as_str().unwrap_or_default().to_owned();
        for (name, is) in [
            ("specversion", "1.0"),
            ("source", "/headwater/shop/counters"),
            ("type", event.event_type.as_str()),
            ("subject", event.stream_id.as_str()),
            ("datacontenttype", "application/json"),
            ("partition", &event.partition.to_string()),
            ("position", &event.position),
            ("streamversion", &event.version.to_string()),
        ] {
            ensure!(said(name) == is, "{name} is {:?} and not {is:?} in {seen}", said(name));
        }
        ensure!(seen["data"] == event.data, "{seen} {event:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_read_by_others_by_the_cloudevents_sdk() -> Result<()> {
    let (broker, directory) = (Nats::start("")?, tempfile::tempdir()?);
    let bus = "{type: NATS, nats: {servers: ['nats://nats:4222']}}";
    let (store, events) = relaying(directory.path(), bus, &broker.url()).await?;
    let lines = ask("cloudevents", &["nats", &broker.url(), "COUNTERS", &EVENTS.to_string()]).await?;
    check(&lines, &events)?;
    ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_read_by_others_by_the_cloudevents_sdk() -> Result<()> {
    let (broker, directory) = (Kafka::shared()?, tempfile::tempdir()?);
    let topic = format!("clients-{}", Uuid::new_v4());
    let bus = format!("{{type: Kafka, kafka: {{bootstrapServers: ['kafka:9092'], topic: {topic}}}}}");
    let url = format!("kafka://{}", broker.address());
    let (store, events) = relaying(directory.path(), &bus, &url).await?;
    let mut lines = String::new();
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for event in &events {
        *counts.entry(event.partition).or_default() += 1;
    }
    for (partition, count) in counts {
        let (partition, count) = (partition.to_string(), count.to_string());
        lines += &ask("cloudevents", &["kafka", &broker.address(), &topic, &partition, &count]).await?;
    }
    check(&lines, &events)?;
    ensure!(store.into_process().terminate().await?.success(), "the event store does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_is_called_by_others_by_reflection() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let words = ["--bus", "none"].map(str::to_owned);
    let store = EventStore::secured(directory.path(), &directory.path().join("data"), &words).await?;
    let address = store.url().strip_prefix("http://").context("a plain address")?;

    let services = ask("grpcurl", &["-plaintext", address, "list"]).await?;
    let named: Vec<&str> = services.lines().collect();
    for service in ["headwater.eventstore.v1.EventStore", "grpc.health.v1.Health"] {
        ensure!(named.contains(&service), "{services}");
    }
    let described =
        ask("grpcurl", &["-plaintext", address, "describe", "headwater.eventstore.v1.EventStore.Append"])
            .await?;
    ensure!(described.contains("rpc Append ( .headwater.eventstore.v1.AppendRequest )"), "{described}");

    let call = async |method: &str, request: &Value| {
        let (request, method) = (request.to_string(), format!("headwater.eventstore.v1.EventStore/{method}"));
        let lines = ask("grpcurl", &["-plaintext", "-d", &request, address, &method]).await?;
        anyhow::Ok(serde_json::from_str::<Value>(&lines)?)
    };
    // Bytes are base64 in JSON.
    let event = json!({"type": "Added", "data": "eyJhbW91bnQiOjd9"});
    let stored =
        call("Append", &json!({"stream_id": "counter-1", "expected": {"no_stream": {}}, "events": [event]}))
            .await?;
    ensure!(stored["version"] == "1", "{stored}");
    let read = call("ReadStream", &json!({"stream_id": "counter-1"})).await?;
    ensure!(read["events"][0]["data"] == "eyJhbW91bnQiOjd9", "{read}");
    let health = ask("grpcurl", &["-plaintext", address, "grpc.health.v1.Health/Check"]).await?;
    ensure!(health.contains("SERVING"), "{health}");
    Ok(())
}
