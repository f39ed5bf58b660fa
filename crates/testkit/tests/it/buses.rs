//! Events on a real broker, as those see them who know nothing of Headwater, while event stores and the broker are killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt as _;
use headwater_testkit::counters::{self, PROJECTION};
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::event_store::QueryWorker;
use headwater_testkit::history::History;
use headwater_testkit::http::{Event, Http};
use headwater_testkit::kafka::Kafka;
use headwater_testkit::nats::Nats;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use rustix::process::Signal;
use serde_json::json;
use tokio::sync::watch;

use crate::cluster::{Cluster, PARTITIONS, STORES, until_taken, write};
use crate::replicas::BEYOND_A_LEASE;

/// How long the broker is away.
const OUTAGE: Duration = Duration::from_secs(4);

/// What stands on the bus of one partition, in the order in which it stands there.
type OnTheBus = BTreeMap<u16, Vec<(u64, String, Vec<u8>)>>;

/// Reads the stream with a stock client until each partition has come as far as `heads`.
async fn read(server: &Nats, stream: &str, source: &str, heads: &BTreeMap<u16, u64>) -> Result<OnTheBus> {
    let client = async_nats::connect(server.url()).await?;
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream(stream).await?;
    let mut messages = stream.create_consumer(OrderedConfig::default()).await?.messages().await?;
    let mut bus = OnTheBus::new();
    while !has_reached(&bus, heads) {
        let message = tokio::time::timeout(PATIENCE, messages.next()).await;
        let message = message.with_context(|| format!("only this is on the bus: {:?}", far(&bus)))?;
        let message = message.context("the consumer ended")??;
        let headers = message.headers.as_ref().context("headers")?;
        let header = |name: &str| {
            headers.get(name).map(async_nats::HeaderValue::as_str).with_context(|| format!("no {name}"))
        };
        ensure!(header("ce-specversion")? == "1.0", "{headers:?}");
        ensure!(header("ce-source")? == source, "{headers:?}");
        ensure!(header("content-type")? == "application/json", "{headers:?}");
        let (partition, position): (u16, u64) =
            (header("ce-partition")?.parse()?, header("ce-position")?.parse()?);
        let subject = format!("hw.counters.{partition}.{}", header("ce-type")?);
        ensure!(message.subject.as_str() == subject, "{}", message.subject);
        let id = header("ce-id")?.to_owned();
        bus.entry(partition).or_default().push((position, id, message.payload.to_vec()));
    }
    Ok(bus)
}

fn has_reached(bus: &OnTheBus, heads: &BTreeMap<u16, u64>) -> bool {
    heads.iter().all(|(partition, head)| {
        bus.get(partition).is_some_and(|messages| messages.iter().any(|message| message.0 == *head))
    })
}

fn far(bus: &OnTheBus) -> Vec<(u16, Option<u64>)> {
    bus.iter()
        .map(|(partition, messages)| (*partition, messages.iter().map(|message| message.0).max()))
        .collect()
}

/// Each event of the log is there; those that come for the first time come in order of position; the rest are repeats of the same.
fn check(bus: &OnTheBus, events: &[Event]) -> Result<usize> {
    let mut repeats = 0;
    for (partition, messages) in bus {
        let mut log: Vec<&Event> = events.iter().filter(|event| event.partition == *partition).collect();
        log.sort_by_key(|event| event.position().unwrap_or_default());
        let mut reached = 0;
        for (position, id, payload) in messages {
            let event = log.get(*position as usize - 1).with_context(|| format!("no event {position}"))?;
            ensure!(event.id == *id, "{position} is {id} on the bus, and {} in the log", event.id);
            ensure!(serde_json::from_slice::<serde_json::Value>(payload)? == event.data, "{position}");
            if *position <= reached {
                repeats += 1;
                continue;
            }
            ensure!(*position == reached + 1, "partition {partition}: {position} comes after {reached}");
            reached = *position;
        }
        ensure!(reached == log.len() as u64, "partition {partition}: {reached} of {}", log.len());
    }
    Ok(repeats)
}

/// A broker that can be killed and resumed.
trait Broker {
    fn kill(&self) -> Result<()>;
    fn resume(&self) -> Result<()>;
}

impl Broker for Nats {
    fn kill(&self) -> Result<()> {
        Self::kill(self)
    }

    fn resume(&self) -> Result<()> {
        Self::resume(self)
    }
}

impl Broker for Kafka {
    fn kill(&self) -> Result<()> {
        Self::kill(self)
    }

    fn resume(&self) -> Result<()> {
        Self::resume(self)
    }
}

/// Three event stores over PostgreSQL that relay to the broker at `url`, and a query worker that it feeds; all of them and both servers are killed and
/// stopped under load. Gives the stores, which go on relaying, and the events that are in the log then.
async fn through_kills_stops_and_outages(
    broker: &impl Broker,
    bus: &str,
    url: &str,
) -> Result<(Postgres, Cluster, Vec<Event>)> {
    let database = Postgres::start()?;
    let directory = tempfile::tempdir()?;
    counters::write_manifests_with_bus(directory.path(), bus)?;
    let told = ["--bus", url, "--namespace", "shop"];
    let mut cluster = Cluster::over(directory, &database, &told).await?;
    let mut worker =
        QueryWorker::fed_by(cluster.directory.path(), cluster.stores[0].url(), &database.url(), url).await?;
    worker.answers().await?;

    let history = Arc::new(Mutex::new(History::default()));
    let (stop, stopped) = watch::channel(false);
    let mut writers = write(&cluster.addresses, &history, &stopped);
    for round in 0..6 {
        let before = history.lock().expect("nobody panicked").acknowledged();
        // Not the first: the query worker reads from it.
        let victim = 1 + round % (STORES - 1);
        match round {
            0 | 4 => {
                cluster.remove(victim).into_process().kill().await?;
                cluster.add().await?;
            }
            1 => {
                cluster.stores[victim].process().signal(Signal::STOP)?;
                tokio::time::sleep(BEYOND_A_LEASE).await;
                cluster.stores[victim].process().signal(Signal::CONT)?;
            }
            2 => {
                broker.kill()?;
                tokio::time::sleep(OUTAGE).await;
                broker.resume()?;
            }
            3 => {
                let ended = cluster.remove(victim).into_process().terminate().await?;
                ensure!(ended.success(), "{ended}");
                cluster.add().await?;
            }
            _ => {
                database.kill()?;
                database.resume()?;
            }
        }
        until_taken(&history, before, 300, &mut writers).await.with_context(|| format!("round {round}"))?;
    }
    stop.send_replace(true);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    let (events, token) = cluster.stores[0].http().all_events().await?;
    history.lock().expect("nobody panicked").check(&events)?;
    let rows = Http::new(cluster.stores[0].url(), worker.url()).rows(PROJECTION, "totals", &token).await?;
    counters::check_rows(&events, &rows, "total")?;
    Ok((database, cluster, events))
}

/// Waits until the stores say that all is on the bus, where it has been found.
async fn no_lag(cluster: &Cluster) -> Result<()> {
    let began = Instant::now();
    loop {
        let mut lag = 0.0;
        for store in &cluster.stores {
            for partition in 0..PARTITIONS {
                lag +=
                    store.metric(&format!("headwater_relay_lag_events{{partition=\"{partition}\"}}")).await?;
            }
        }
        if lag == 0.0 {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "{lag} events are said to lack");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn heads(events: &[Event]) -> Result<BTreeMap<u16, u64>> {
    let mut heads = BTreeMap::new();
    for event in events {
        let head = heads.entry(event.partition).or_insert(0);
        *head = event.position()?.max(*head);
    }
    ensure!(heads.len() == PARTITIONS, "events are in {} partitions", heads.len());
    Ok(heads)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nats_and_postgres_all_comes_in_order_through_kills_stops_and_outages() -> Result<()> {
    let broker = Nats::start("")?;
    let bus = "{type: NATS, nats: {servers: ['nats://nats:4222']}}";
    let (_database, cluster, events) = through_kills_stops_and_outages(&broker, bus, &broker.url()).await?;
    let on_the_bus = read(&broker, "COUNTERS", "/headwater/shop/counters", &heads(&events)?).await?;
    let repeats = check(&on_the_bus, &events)?;
    println!("{} events, {repeats} repeats", events.len());
    no_lag(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_kafka_and_postgres_all_comes_in_order_through_kills_stops_and_outages() -> Result<()> {
    let broker = Kafka::start()?;
    let bus = "{type: Kafka, kafka: {bootstrapServers: ['kafka:9092']}}";
    let url = format!("kafka://{}", broker.address());
    let (_database, cluster, events) = through_kills_stops_and_outages(&broker, bus, &url).await?;
    let (heads, began) = (heads(&events)?, Instant::now());
    let mut on_the_bus = consume(&broker)?;
    while !has_reached(&on_the_bus, &heads) {
        ensure!(began.elapsed() < PATIENCE, "only this is on the bus: {:?}", far(&on_the_bus));
        on_the_bus = consume(&broker)?;
    }
    let repeats = check(&on_the_bus, &events)?;
    println!("{} events, {repeats} repeats", events.len());
    no_lag(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_relays_to_nats_what_declares_it_and_goes_on_after_a_kill() -> Result<()> {
    let broker = Nats::start("")?;
    let directory = tempfile::tempdir()?;
    counters::write_manifests_with_bus(
        directory.path(),
        "{type: NATS, nats: {servers: ['nats://nats:4222']}}",
    )?;
    let options = DevOptions::new(directory.path(), directory.path().join("data"));
    let mut events = Vec::new();
    for round in 1..=3 {
        let dev = Dev::start(&options.clone().with("--bus").with(broker.url())).await?;
        let http = dev.http(counters::STREAM)?;
        for number in 0..20 {
            let id = uuid::Uuid::new_v4().to_string();
            let counter = format!("counter-{number}");
            http.append(&counter, &json!("any"), &id, "Added", &counters::added(1)).await?;
        }
        events = http.all_events().await?.0;
        assert_eq!(events.len(), 20 * round);
        let on_the_bus = read(&broker, "COUNTERS", "/headwater/default/counters", &heads(&events)?).await?;
        check(&on_the_bus, &events)?;
        dev.kill().await?;
    }
    assert_eq!(events.len(), 60);
    Ok(())
}

/// What Kafka's own console consumer prints of the topic.
fn consume(broker: &Kafka) -> Result<OnTheBus> {
    let mut bus = OnTheBus::new();
    for message in broker.messages("counters")? {
        ensure!(message.header("ce_specversion")? == "1.0", "{message:?}");
        ensure!(message.header("ce_source")? == "/headwater/shop/counters", "{message:?}");
        ensure!(message.header("ce_subject")? == message.key, "{message:?}");
        ensure!(message.header("ce_partition")? == message.partition.to_string(), "{message:?}");
        bus.entry(message.partition).or_default().push((
            message.header("ce_position")?.parse()?,
            message.header("ce_id")?.to_owned(),
            message.value.into_bytes(),
        ));
    }
    Ok(bus)
}
