//! A `headwater dev` with one saga, its participant, and who waits for its instances to end.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use futures_util::StreamExt;
use headwater_api::{Client, Filter, Subscribe};
use headwater_core::{Append, EventType, Expected, NewEvent, StreamId};
use headwater_testkit::dev::{Dev, DevOptions, write};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::participant::Participant;

/// An instance that takes longer than this has been lost.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who waits for which instance; and why nothing comes any more, if so.
type Waiting = Arc<Mutex<Result<HashMap<u64, oneshot::Sender<()>>, String>>>;

pub(super) struct Running {
    pub(super) dev: Dev,
    pub(super) participant: Participant,
    client: Client,
    waiting: Waiting,
    listening: JoinHandle<()>,
    _folder: TempDir,
}

impl Running {
    /// Starts what `manifests` declare: an event stream and a saga, both called `bench`, that is started by `Begun` and appends `Done`,
    /// each with the number of the instance as `id`.
    pub(super) async fn start(manifests: &str) -> Result<Self> {
        let participant = Participant::start().await?;
        let folder = tempfile::tempdir()?;
        write(folder.path(), "bench.yaml", manifests)?;
        let services = format!("services.participant = \"{}\"\n", participant.address);
        write(folder.path(), "dev.toml", &services)?;
        let dev = Dev::start(&DevOptions::new(folder.path(), folder.path().join("data"))).await?;
        let client = Client::new(dev.stream("bench")?)?;
        let waiting = Waiting::new(Mutex::new(Ok(HashMap::new())));
        let listening = tokio::spawn({
            let (client, waiting) = (client.clone(), Arc::clone(&waiting));
            async move {
                let ended = listen(&client, &waiting).await;
                let reason = ended.map_or_else(|error| error, |()| anyhow!("the subscription ended"));
                // Drops those who wait: they ask why.
                *lock(&waiting) = Err(format!("{reason:#}"));
            }
        });
        Ok(Self { dev, participant, client, waiting, listening, _folder: folder })
    }

    /// Appends one event about each of the instances.
    pub(super) async fn append(&self, event_type: &str, instances: &[u64]) -> Result<()> {
        let [first, ..] = instances else { return Ok(()) };
        let events = instances.iter().map(|number| {
            Ok(NewEvent::json(EventType::new(event_type)?, json!({ "id": number }).to_string()))
        });
        let append = Append {
            stream_id: StreamId::new(format!("begun-{first}"))?,
            expected: Expected::Any,
            events: events.collect::<Result<_>>()?,
        };
        self.client.append(&append).await?;
        Ok(())
    }

    /// Begins the instance `number` and waits until its end is told.
    pub(super) async fn complete(&self, number: u64) -> Result<()> {
        let ended = self.wait_for(number)?;
        self.append("Begun", &[number]).await?;
        self.ended(number, ended).await
    }

    /// Listens for the end of instance `number`.
    pub(super) fn wait_for(&self, number: u64) -> Result<oneshot::Receiver<()>> {
        let (tell, ended) = oneshot::channel();
        match &mut *lock(&self.waiting) {
            Ok(waiting) => {
                waiting.insert(number, tell);
                Ok(ended)
            }
            Err(reason) => bail!("{reason}"),
        }
    }

    /// Waits for the end of instance `number`.
    pub(super) async fn ended(&self, number: u64, ended: oneshot::Receiver<()>) -> Result<()> {
        let told = tokio::time::timeout(PATIENCE, ended).await;
        if told.with_context(|| format!("instance {number} has not ended in {PATIENCE:?}"))?.is_ok() {
            return Ok(());
        }
        match &*lock(&self.waiting) {
            Ok(_) => bail!("nobody tells of instance {number} any more"),
            Err(reason) => bail!("{reason}"),
        }
    }

    /// Waits until the saga has started `started` instances, of which `open` have not ended, and nothing was wrong. An instance's end is
    /// told before it is recorded, so this comes a little later.
    pub(super) async fn settled(&self, started: u64, open: u64) -> Result<()> {
        let (http, url) = (self.dev.http("bench")?, format!("{}/v1/sagas/bench", self.dev.queries()));
        let expected = json!({
            "started": started, "running": open, "compensating": 0, "needs_attention": 0, "ignored": 0, "not_started": 0,
        });
        let deadline = Instant::now() + PATIENCE;
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            let mut status: Value = http.json(&url).await?;
            if let Some(status) = status.as_object_mut() {
                status.retain(|field, _| expected.get(field).is_some());
            }
            if status == expected {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the saga stands at {status}, not {expected}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Tells those who wait for what has ended.
async fn listen(client: &Client, waiting: &Waiting) -> Result<()> {
    let event_types = [EventType::new("Done")?].into_iter().collect();
    let filter = Filter { event_types, ..Filter::default() };
    let mut batches = pin!(client.subscribe(Subscribe { filter, ..Subscribe::default() }));
    while let Some(batch) = batches.next().await {
        for event in batch?.events {
            let data: Value = serde_json::from_slice(&event.data)?;
            let number = data["id"].as_u64().context("an id")?;
            let told = match &mut *lock(waiting) {
                Ok(waiting) => waiting.remove(&number),
                Err(reason) => bail!("{reason}"),
            };
            let told = told.with_context(|| format!("instance {number} ended twice, or was never begun"))?;
            // Whoever waited has given up.
            let _ = told.send(());
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
