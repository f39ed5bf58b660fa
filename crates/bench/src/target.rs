//! What is measured: one event stream of one partition, in `headwater dev` or in an event store over PostgreSQL, and how it is loaded and
//! read back.

use std::ops::Deref;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use headwater_api::MAX_MESSAGE_BYTES;
use headwater_api::v1::event_store_client::EventStoreClient;
use headwater_api::v1::{AppendRequest, Filter, GetHeadRequest, NewEvent, ReadRequest};
use headwater_testkit::dev::{Dev, DevOptions, write};
use headwater_testkit::event_store::EventStore;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::proxy::Proxy;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// Bytes of an event's data in every benchmark.
pub(crate) const EVENT_BYTES: usize = 256;

const MANIFEST: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: bench}
spec:
  database: {type: PostgreSQL, urlSecretRef: {name: bench-db, key: uri}}
---
apiVersion: v1
kind: Secret
metadata: {name: bench-db}
stringData: {uri: postgres://bench@db/bench}
";

/// A client of the event store, on a connection of its own.
pub(crate) type Client = EventStoreClient<Channel>;

/// A running `dev` with an empty log in a folder of its own.
pub(crate) struct Target {
    pub(crate) dev: Dev,
    pub(crate) folder: TempDir,
    log: Log,
}

impl Target {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        write(folder.path(), "eventstream.yaml", MANIFEST)?;
        let dev = Dev::start(&DevOptions::new(folder.path(), folder.path().join("data"))).await?;
        let log = Log { url: dev.stream("bench")?.to_owned() };
        Ok(Self { dev, folder, log })
    }
}

impl Deref for Target {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

/// A running event store with an empty log: in a schema of its own, or in a file.
pub(crate) struct ByItself {
    pub(crate) store: EventStore,
    pub(crate) folder: TempDir,
    log: Log,
}

impl ByItself {
    pub(crate) async fn over(server: &Postgres) -> Result<Self> {
        Self::with_bus(server, "{type: None}").await
    }

    /// With this in the manifest, and without a relay.
    pub(crate) async fn with_bus(server: &Postgres, bus: &str) -> Result<Self> {
        Self::told(server, bus, &[]).await
    }

    /// With this in the manifest, and with more arguments.
    pub(crate) async fn told(server: &Postgres, bus: &str, more: &[String]) -> Result<Self> {
        Self::at(&server.url(), bus, more).await
    }

    /// By way of `proxy`, which makes the database one that is further away.
    pub(crate) async fn behind(proxy: &Proxy, server: &Postgres) -> Result<Self> {
        Self::at(&server.url_at(proxy.address().port()), "{type: None}", &[]).await
    }

    async fn at(database: &str, bus: &str, more: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let schema = format!("schema: {}, urlSecretRef", Postgres::schema());
        let manifest =
            MANIFEST.replace("urlSecretRef", &schema).replace("spec:\n", &format!("spec:\n  bus: {bus}\n"));
        write(folder.path(), "eventstream.yaml", &manifest)?;
        let store = EventStore::told(folder.path(), database, more).await?;
        let log = Log { url: store.url().to_owned() };
        Ok(Self { store, folder, log })
    }

    pub(crate) async fn alone() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        write(folder.path(), "eventstream.yaml", MANIFEST)?;
        let store = EventStore::alone(folder.path(), &folder.path().join("data"), "127.0.0.1:0").await?;
        let log = Log { url: store.url().to_owned() };
        Ok(Self { store, folder, log })
    }
}

impl Deref for ByItself {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.log
    }
}

/// The log, as a client of its event store sees it.
pub(crate) struct Log {
    url: String,
}

impl Log {
    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let channel = Endpoint::from_shared(self.url.clone())?
            .tcp_nodelay(true)
            .connect()
            .await
            .context("connecting to the event store")?;
        Ok(EventStoreClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Reads everything, checks that it is the `expected` number of events without a hole, and says how long it took.
    pub(crate) async fn read_back(&self, expected: u64) -> Result<Duration> {
        let mut client = self.connect().await?;
        let start = Instant::now();
        let request = ReadRequest { filter: Some(Filter::default()), ..ReadRequest::default() };
        let mut pages = client.read(request).await?.into_inner();
        let mut position = 0;
        while let Some(page) = pages.message().await? {
            for event in page.events {
                position += 1;
                ensure!(event.position == position, "position {} follows {}", event.position, position - 1);
                ensure!(
                    event.data.len() == EVENT_BYTES,
                    "event {position} came back with {} bytes",
                    event.data.len()
                );
            }
        }
        ensure!(position == expected, "{position} events are in the log, {expected} were acknowledged");
        Ok(start.elapsed())
    }

    /// The position of the last event.
    pub(crate) async fn head(&self) -> Result<u64> {
        let head = self.connect().await?.get_head(GetHeadRequest::default()).await?.into_inner();
        Ok(head.partitions.iter().map(|partition| partition.position).sum())
    }

    /// The place where the log ends now.
    pub(crate) async fn token(&self) -> Result<String> {
        Ok(self.connect().await?.get_head(GetHeadRequest::default()).await?.into_inner().token)
    }

    /// Appends `count` events in batches of 1,000 over a few connections, each event to one of `streams` stream ids.
    pub(crate) async fn fill(&self, count: u64, streams: u64) -> Result<()> {
        const WRITERS: u64 = 4;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let mut client = self.connect().await?;
            writers.spawn(async move {
                for batch in (writer..count.div_ceil(1000)).step_by(WRITERS as usize) {
                    let events = 1000.min(count - batch * 1000);
                    client
                        .append(request(&format!("stream-{}", batch % streams), events as usize, batch))
                        .await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(writer) = writers.join_next().await {
            writer??;
        }
        ensure!(self.head().await? == count, "the log holds {} of {count} events", self.head().await?);
        Ok(())
    }
}

/// A request to append `count` events of [`EVENT_BYTES`] to `stream_id`, whatever its version.
pub(crate) fn request(stream_id: &str, count: usize, number: u64) -> AppendRequest {
    let events = (0..count)
        .map(|index| NewEvent {
            id: Uuid::now_v7().to_string(),
            r#type: "Measured".to_owned(),
            data: data(number * 1000 + index as u64),
            ..NewEvent::default()
        })
        .collect();
    AppendRequest { stream_id: stream_id.to_owned(), expected: None, events }
}

/// JSON of [`EVENT_BYTES`] that names `number`.
fn data(number: u64) -> Bytes {
    let mut text = format!("{{\"id\":\"{number:012}\",\"amount\":{},\"note\":\"", number % 10_000);
    while text.len() < EVENT_BYTES - 2 {
        text.push('x');
    }
    text.push_str("\"}");
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_size_that_the_figures_name() {
        for number in [0, 1, 9_999_999_999] {
            let data = data(number);
            assert_eq!(data.len(), EVENT_BYTES);
            serde_json::from_slice::<serde_json::Value>(&data).unwrap();
        }
    }
}
