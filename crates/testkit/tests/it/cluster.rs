//! Several event stores that share an event stream in a database, and those who write to them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use headwater_testkit::counters;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::history::History;
use headwater_testkit::http::{Http, Outcome};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) const STORES: usize = 3;
pub(crate) const WRITERS: usize = 12;
/// Of the fixture's event stream.
pub(crate) const PARTITIONS: usize = 3;
/// Streams that fall into all three partitions.
pub(crate) const STREAMS: usize = 24;

/// Where the stores are now.
pub(crate) type Addresses = Arc<Mutex<Vec<Http>>>;

fn any(stores: &Addresses) -> Http {
    let stores = stores.lock().expect("nobody panicked");
    stores[(Uuid::new_v4().as_u128() % stores.len() as u128) as usize].clone()
}

/// Sends one event until it is stored, to any store each time, and says as what.
async fn store(
    stores: &Addresses,
    history: &Mutex<History>,
    counter: &str,
    expected: &mut Value,
) -> Result<()> {
    let id = Uuid::new_v4().to_string();
    history.lock().expect("nobody panicked").sends(&id);
    let began = Instant::now();
    loop {
        match any(stores).append(counter, expected, &id, "Added", &counters::added(1)).await? {
            Outcome::Stored(stored) => {
                if expected.is_number() {
                    let wanted = expected.as_u64().unwrap_or_default() + 1;
                    ensure!(
                        stored.version == wanted,
                        "{id} expected {expected}, and is at version {}",
                        stored.version
                    );
                }
                return history.lock().expect("nobody panicked").acknowledges(&id, stored);
            }
            // Refused for good: nothing was stored, and the next try is another event.
            Outcome::Refused { status: StatusCode::CONFLICT, problem } if expected.is_number() => {
                *expected = problem["current_version"].clone();
                return Ok(());
            }
            Outcome::Unknown => {
                ensure!(began.elapsed() < PATIENCE, "event {id} has had no answer for {PATIENCE:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            other @ Outcome::Refused { .. } => bail!("{other:?}"),
        }
    }
}

/// Writers, half of which expect versions, until they are told to end.
pub(crate) fn write(
    stores: &Addresses,
    history: &Arc<Mutex<History>>,
    stop: &watch::Receiver<bool>,
) -> JoinSet<Result<()>> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (stores, history, stop) = (Arc::clone(stores), Arc::clone(history), stop.clone());
        writers.spawn(async move {
            let mut number = writer;
            let mut expected = if writer % 2 == 0 { json!("any") } else { json!(0) };
            while !*stop.borrow() {
                // Those that expect versions meet on few streams.
                let counter = if expected.is_number() { writer % 4 } else { number % STREAMS };
                number += 1;
                store(&stores, &history, &format!("counter-{counter}"), &mut expected).await?;
                if let Some(version) = expected.as_u64().filter(|_| number % 7 == 0) {
                    // Somebody may have been faster, or not.
                    expected = json!(version + 1);
                }
            }
            Ok(())
        });
    }
    writers
}

/// Waits until `more` events have been taken beyond `before`: a fault is over.
pub(crate) async fn until_taken(
    history: &Mutex<History>,
    before: usize,
    more: usize,
    writers: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let began = Instant::now();
    while history.lock().expect("nobody panicked").acknowledged() < before + more {
        ensure!(began.elapsed() < PATIENCE, "events are not taken any more");
        if let Some(ended) = writers.try_join_next() {
            ended??;
            bail!("a writer has ended");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub(crate) struct Cluster {
    pub(crate) directory: tempfile::TempDir,
    database: String,
    pub(crate) stores: Vec<EventStore>,
    pub(crate) addresses: Addresses,
    /// What each store is told besides.
    more: Vec<String>,
}

impl Cluster {
    pub(crate) async fn start(server: &Postgres) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        counters::write_manifests(directory.path())?;
        Self::over(directory, server, &[]).await
    }

    /// The event stream in `directory`, with this said to each store.
    pub(crate) async fn over(directory: tempfile::TempDir, server: &Postgres, more: &[&str]) -> Result<Self> {
        Self::at(directory, server.url(), more).await
    }

    /// The same over the database of this URL.
    pub(crate) async fn at(directory: tempfile::TempDir, database: String, more: &[&str]) -> Result<Self> {
        let mut cluster = Self {
            directory,
            database,
            stores: Vec::new(),
            addresses: Addresses::default(),
            more: more.iter().map(|&word| word.to_owned()).collect(),
        };
        for _ in 0..STORES {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    pub(crate) async fn add(&mut self) -> Result<()> {
        self.stores.push(EventStore::told(self.directory.path(), &self.database, &self.more).await?);
        self.publish();
        Ok(())
    }

    pub(crate) fn remove(&mut self, number: usize) -> EventStore {
        let store = self.stores.remove(number);
        self.publish();
        store
    }

    fn publish(&self) {
        let https = self.stores.iter().map(|store| store.http().within(Duration::from_secs(2))).collect();
        *self.addresses.lock().expect("nobody panicked") = https;
    }

    /// Waits until each of the stores writes as many partitions as any other.
    pub(crate) async fn spread(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let mut held = Vec::new();
            for store in &self.stores {
                held.push(store.metric("headwater_log_partitions_held").await? as usize);
            }
            if held.iter().all(|held| *held == PARTITIONS / self.stores.len()) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the stores write {held:?} partitions");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
