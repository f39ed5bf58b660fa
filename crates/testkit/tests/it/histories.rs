//! Concurrent clients of several event stores over one database, whose recorded history must be that of one log: while stores are killed,
//! stopped and lose their leases, while the database is away, and while the network between them does what networks do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use headwater_testkit::counters;
use headwater_testkit::history::check::check;
use headwater_testkit::history::record::{Call, Expected, Recorder, Told};
use headwater_testkit::http::{Event, Http, Outcome};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use headwater_testkit::proxy::{Fault, PostgresFaults, Proxy};
use reqwest::StatusCode;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::cluster::{Addresses, Cluster, PARTITIONS, STORES};
use crate::replicas::BEYOND_A_LEASE;

const CLIENTS: usize = 8;
/// Stream ids that are written to at the same time: few, so that clients meet.
const AT_ONCE: u128 = 5;
/// Operations of a client, after which all go on to new stream ids: a whole stream fits a page.
const GENERATION: usize = 60;
/// How often a client sends an append again that had no answer.
const ATTEMPTS: usize = 8;
/// Events that must be stored after each fault.
const AFTER_A_FAULT: usize = 150;

/// A number below `sides`.
fn throw(sides: u128) -> u128 {
    Uuid::new_v4().as_u128() % sides
}

/// How often faults happen: more with HEADWATER_SOAK, which says how many times as often.
fn rounds() -> Result<usize> {
    match std::env::var("HEADWATER_SOAK") {
        Ok(times) => times.parse().context("HEADWATER_SOAK: a number of rounds"),
        Err(_) => Ok(1),
    }
}

/// One of many who append and read.
struct Client {
    stores: Addresses,
    recorder: Recorder,
    /// How far it has read all partitions.
    after: Vec<u64>,
    token: String,
}

impl Client {
    fn store(&self) -> Http {
        let stores = self.stores.lock().expect("nobody panicked");
        stores[throw(stores.len() as u128) as usize].clone()
    }

    async fn work(mut self, stop: watch::Receiver<bool>) -> Result<()> {
        let mut number = 0;
        while !*stop.borrow() {
            let stream_id = format!("history-{}-{}", number / GENERATION, throw(AT_ONCE));
            number += 1;
            match throw(10) {
                0..6 => self.append(&stream_id).await?,
                6 | 7 => self.read(stream_id).await?,
                8 => self.read_last(stream_id).await?,
                _ => self.read_page().await?,
            }
        }
        Ok(())
    }

    /// Appends events at some expectation; the same again, to any store, while there is no answer.
    async fn append(&self, stream_id: &str) -> Result<()> {
        let expected = match throw(6) {
            0 => Expected::NoStream,
            1 => Expected::Exists,
            2 => Expected::Any,
            _ => {
                let Some(last) = self.store().stream(stream_id, 1, "backwards").await? else { return Ok(()) };
                Expected::Version(last.first().map_or(0, |event| event.version))
            }
        };
        let ids: Vec<String> = (0..=throw(3)).map(|_| Uuid::new_v4().to_string()).collect();
        for _ in 0..ATTEMPTS {
            let began = self.recorder.now();
            let data = counters::added(1);
            let outcome = self.store().append_all(stream_id, &expected.into(), &ids, "Added", &data).await?;
            let told = match outcome {
                Outcome::Stored(stored) => Told::Stored(stored),
                Outcome::Refused { status: StatusCode::CONFLICT, problem } => {
                    let current = problem["current_version"].as_u64();
                    Told::Refused(current.with_context(|| format!("no current version in {problem}"))?)
                }
                Outcome::Unknown => Told::Nothing,
                other @ Outcome::Refused { .. } => bail!("{other:?}"),
            };
            let is_answered = !matches!(told, Told::Nothing);
            let (stream_id, ids) = (stream_id.to_owned(), ids.clone());
            self.recorder.answered(began, Call::Append { stream_id, expected, ids, told });
            if is_answered {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn read(&self, stream_id: String) -> Result<()> {
        let began = self.recorder.now();
        if let Some(events) = self.store().stream(&stream_id, 1_000, "forwards").await? {
            ensure!(events.len() < 1_000, "stream {stream_id} does not fit a page");
            self.recorder.answered(began, Call::ReadStream { stream_id, events });
        }
        Ok(())
    }

    async fn read_last(&self, stream_id: String) -> Result<()> {
        let began = self.recorder.now();
        if let Some(events) = self.store().stream(&stream_id, 1, "backwards").await? {
            let last = events.into_iter().next();
            self.recorder.answered(began, Call::ReadLast { stream_id, last });
        }
        Ok(())
    }

    async fn read_page(&mut self) -> Result<()> {
        let began = self.recorder.now();
        let Some((events, next)) = self.store().page(&self.token, 200).await? else { return Ok(()) };
        let after = self.after.clone();
        for event in &events {
            self.after[usize::from(event.partition)] = event.position()?;
        }
        self.token = next;
        let is_end = events.is_empty();
        self.recorder.answered(began, Call::ReadPage { after, events, is_end });
        Ok(())
    }
}

/// Clients at work.
struct Load {
    recorder: Recorder,
    stop: watch::Sender<bool>,
    clients: JoinSet<Result<()>>,
}

impl Load {
    fn start(cluster: &Cluster) -> Self {
        let recorder = Recorder::default();
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (stores, recorder) = (Arc::clone(&cluster.addresses), recorder.clone());
            let client = Client { stores, recorder, after: vec![0; PARTITIONS], token: String::new() };
            clients.spawn(client.work(stopped.clone()));
        }
        Self { recorder, stop, clients }
    }

    /// Waits until appends are taken again, and says after how long.
    async fn goes_on(&mut self) -> Result<Duration> {
        let (began, before) = (Instant::now(), self.recorder.stored());
        let mut first = None;
        while self.recorder.stored() < before + AFTER_A_FAULT {
            if self.recorder.stored() > before && first.is_none() {
                first = Some(began.elapsed());
            }
            ensure!(began.elapsed() < PATIENCE, "events are not taken any more");
            if let Some(ended) = self.clients.try_join_next() {
                ended??;
                bail!("a client has ended");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(first.unwrap_or_default())
    }

    /// Ends the clients, and checks what they saw against what each store shows in the end.
    async fn check(mut self, cluster: &Cluster) -> Result<()> {
        self.stop.send_replace(true);
        while let Some(client) = self.clients.join_next().await {
            client??;
        }
        let operations = self.recorder.operations();
        let (mut unknown, mut refused, mut reads) = (0, 0, 0);
        for operation in &operations {
            match &operation.call {
                Call::Append { told: Told::Nothing, .. } => unknown += 1,
                Call::Append { told: Told::Refused(_), .. } => refused += 1,
                Call::Append { told: Told::Stored(_), .. } => {}
                Call::ReadStream { .. } | Call::ReadLast { .. } | Call::ReadPage { .. } => reads += 1,
            }
        }
        ensure!(refused > 0 && reads > 0, "{refused} refusals and {reads} reads say little");
        let mut events: Vec<Event> = Vec::new();
        for store in &cluster.stores {
            let (all, _) = store.http().all_events().await?;
            // What had no answer may still be stored meanwhile; what was there stays.
            let places: HashMap<(u16, &str), &Event> =
                all.iter().map(|event| ((event.partition, event.position.as_str()), event)).collect();
            let lost = events.iter().find(|event| {
                places.get(&(event.partition, event.position.as_str())).is_none_or(|there| there != event)
            });
            ensure!(lost.is_none(), "one store shows {lost:?}, and another, later, does not");
            events = all;
        }
        println!(
            "{} operations, {} stored, {refused} refused, {unknown} without an answer, {reads} reads, {} events",
            operations.len(),
            self.recorder.stored(),
            events.len()
        );
        check(&operations, &events)
    }
}

/// The stores over the database behind the proxy.
async fn behind(proxy: &Proxy, server: &Postgres) -> Result<Cluster> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    Cluster::at(directory, server.url_at(proxy.address().port()), &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_stores_that_are_killed_stopped_and_robbed_of_leases_keep_one_history() -> Result<()> {
    let server = Postgres::start()?;
    let mut cluster = Cluster::start(&server).await?;
    let mut load = Load::start(&cluster);
    load.goes_on().await?;
    for _ in 0..rounds()? {
        let victim = throw(STORES as u128) as usize;
        cluster.remove(victim).into_process().kill().await?;
        cluster.add().await?;
        load.goes_on().await.context("a store was killed")?;

        let victim = throw(STORES as u128) as usize;
        cluster.stores[victim].process().signal(Signal::STOP)?;
        tokio::time::sleep(BEYOND_A_LEASE).await;
        cluster.stores[victim].process().signal(Signal::CONT)?;
        load.goes_on().await.context("a store was stopped")?;

        // Each partition is another's, who learns of it when it looks, as the one before does.
        server.query(
            "UPDATE hw_counters.partition_head AS head SET epoch = epoch + 1, (holder, holder_address) = \
             (SELECT id, address FROM hw_counters.member WHERE id <> head.holder ORDER BY id LIMIT 1) \
             WHERE (SELECT count(*) FROM hw_counters.member WHERE id <> head.holder) > 0",
        )?;
        load.goes_on().await.context("leases were stolen")?;
    }
    load.check(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_database_that_restarts_and_is_away_keeps_one_history() -> Result<()> {
    const AWAY: Duration = Duration::from_secs(10);
    let server = Postgres::start()?;
    let cluster = Cluster::start(&server).await?;
    let mut load = Load::start(&cluster);
    load.goes_on().await?;
    for _ in 0..rounds()? {
        server.kill()?;
        server.resume()?;
        load.goes_on().await.context("the database was restarted")?;
        server.kill()?;
        tokio::time::sleep(AWAY).await;
        server.resume()?;
        load.goes_on().await.context("the database was away")?;
    }
    load.check(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_database_that_rolls_back_and_breaks_off_keeps_one_history() -> Result<()> {
    let server = Postgres::start()?;
    let faults = [
        Fault::Refused("40001"),
        Fault::Refused("40P01"),
        Fault::Ambiguous("40003"),
        Fault::CutBefore,
        Fault::CutAfter,
    ];
    let faults = Arc::new(PostgresFaults::new(&faults, 5, 11));
    let proxy = Proxy::with_faults(([127, 0, 0, 1], server.port()).into(), &faults)?;
    let cluster = behind(&proxy, &server).await?;
    let mut load = Load::start(&cluster);
    for _ in 0..10 * rounds()? {
        load.goes_on().await?;
    }
    ensure!(faults.injected() > 100, "only {} faults", faults.injected());
    faults.turn(false);
    println!("{} faults", faults.injected());
    load.check(&cluster).await
}

/// After this, a store must have given up connections that are silent: 10 s without an answer, and as much for what two busy cores do.
const NOTICED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_connections_that_go_silent_are_noticed_and_keep_one_history() -> Result<()> {
    let server = Postgres::start()?;
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into())?;
    let cluster = behind(&proxy, &server).await?;
    let mut load = Load::start(&cluster);
    load.goes_on().await?;
    for _ in 0..rounds()? {
        ensure!(proxy.silence() >= STORES, "the stores have no connections");
        proxy.heal();
        let took = load.goes_on().await.context("connections were silent")?;
        ensure!(took < NOTICED, "it took {took:?}");
        println!("noticed after {took:?}");
        // Longer than a lease: nobody can renew one, and new connections fare no better.
        proxy.silence();
        tokio::time::sleep(BEYOND_A_LEASE).await;
        proxy.heal();
        let took = load.goes_on().await.context("the network was silent")?;
        ensure!(took < NOTICED, "it took {took:?}");
    }
    ensure!(proxy.swallowed() > 0, "nothing was lost");
    load.check(&cluster).await
}
