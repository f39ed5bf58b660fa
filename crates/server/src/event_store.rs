//! One event stream in a process of its own; several such processes share its partitions in a database.
//!
//! ```text
//! clients ──▶ event store ──▶ database          each partition is written by one of them
//!                 │  ▲
//!                 ▼  │ what the other writes
//!             event store ──▶ database
//! ```

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use axum::response::IntoResponse;
use headwater_api::Problem;
use headwater_core::{Error, Result};
use headwater_resources::EventStreamSpec;
use headwater_resources::manifest::specs;
use headwater_runtime::{Metrics, Readiness, health};
use headwater_sql::Database;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::bus::{BusFlag, BusPlace};
use crate::chosen::{choose, database_url, until_it_begins};
use crate::data_dir::DataDir;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::stream::{RelayTo, RunningStream, local_address};
use crate::written_log::Place;

/// How to run the event store of one event stream by itself.
#[derive(Debug, Clone)]
pub struct EventStoreOptions {
    /// Which of the event streams in the manifests. `None`: the only one.
    pub stream: Option<String>,
    /// Where the log is kept.
    pub keep: Keep,
    /// Where it listens.
    pub listen: Listen,
    /// Where the other event stores of the stream reach it. `None`: where it listens.
    pub advertise: Option<String>,
    /// Where events are relayed to.
    pub bus: BusFlag,
    /// The namespace of the EventStream, which its events name as their source.
    pub namespace: String,
}

/// Where an event store keeps its log, or a query worker its read model.
#[derive(Debug, Clone)]
pub enum Keep {
    /// In the database that the manifest names, shared with others of its kind.
    Manifest,
    /// In the database of this URL, likewise.
    Database(String),
    /// In this directory, alone.
    Directory(PathBuf),
}

impl Keep {
    /// What the flags say.
    pub fn of(database: Option<String>, data_dir: Option<PathBuf>) -> Self {
        match (database, data_dir) {
            (Some(url), _) => Self::Database(url),
            (None, Some(path)) => Self::Directory(path),
            (None, None) => Self::Manifest,
        }
    }
}

/// An event store that listens, and serves once [`run`](Self::run).
pub struct EventStoreProcess {
    name: String,
    spec: EventStreamSpec,
    place: Place,
    bus: Option<BusPlace>,
    namespace: String,
    listener: TcpListener,
    address: SocketAddr,
    /// Held for as long as the log is open.
    _data: Option<DataDir>,
}

impl EventStoreProcess {
    /// Takes the port, and the data directory if there is one. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use.
    pub async fn start(options: EventStoreOptions, loaded: &Loaded) -> Result<Self> {
        options.listen.check()?;
        let (name, spec) =
            choose("EventStream", "stream", specs(&loaded.manifests.event_streams), options.stream)?;
        let url = match &options.keep {
            Keep::Manifest => Some(database_url(&name, &spec, loaded)?),
            Keep::Database(url) => Some(url.clone()),
            Keep::Directory(_) => None,
        };
        let bus = BusPlace::choose(&name, &spec, loaded, &options.bus)?;
        let mut data = match &options.keep {
            Keep::Directory(path) => Some(DataDir::claim(path)?),
            Keep::Manifest | Keep::Database(_) => None,
        };
        let listener = options.listen.bind("the event store").await?;
        let address = local_address(&listener)?;
        if let Some(data) = &mut data {
            data.prepare()?;
        }
        let place = match (url, &data) {
            (Some(url), _) => {
                let mut database = Database::of_stream(url, &name);
                if let Some(declared) = &spec.database {
                    database.max_connections = declared.max_connections;
                    if let Some(schema) = &declared.schema {
                        database.schema.clone_from(schema);
                    }
                }
                let advertised = options.advertise.unwrap_or_else(|| format!("http://{address}"));
                // It would be found out by the others only.
                headwater_api::Client::new(&advertised).map_err(|error| match error {
                    Error::Invalid { message, .. } => Error::invalid("advertise", message),
                    other => other,
                })?;
                Place::Shared(database, advertised)
            }
            (None, Some(data)) => Place::File(data.stream(&name)),
            (None, None) => return Err(Error::internal("an event store without a place for its log")),
        };
        Ok(Self { name, spec, place, bus, namespace: options.namespace, listener, address, _data: data })
    }

    /// The event stream that it serves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `shutdown`. Waits for a database that does not answer yet; `/readyz` says so.
    ///
    /// # Errors
    /// When the database holds another event stream's log, or something ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let ended = CancellationToken::new();
        let stream = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            stream = self.open(ended.clone()) => stream?,
        };
        tracing::info!(event_stream = self.name, url = stream.url, "serves");
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = ended.cancelled() => {}
        }
        stream.stop().await
    }

    /// Opens the log, as soon as the database answers. Until then only health is served.
    async fn open(&self, ended: CancellationToken) -> Result<RunningStream> {
        let readiness = Readiness::default();
        let _gate = readiness.wait_for("the database");
        let routes = health::router(readiness, Metrics::default()).fallback(async || {
            Problem::from(Error::unavailable("the event store waits for its database; try again"))
                .into_response()
        });
        let waiting = HttpServer::serve(
            "health",
            self.listener()?,
            routes,
            CancellationToken::new(),
            CancellationToken::new(),
        )?;
        let opened = until_it_begins(&self.name, async || {
            let (spec, place) = (self.spec.clone(), self.place.clone());
            let relay = self.bus.clone().map(|bus| RelayTo { bus, namespace: self.namespace.clone() });
            RunningStream::start(&self.name, spec, place, relay, self.listener()?, ended.clone()).await
        });
        let opened = opened.await;
        waiting.stop().await?;
        opened
    }

    /// The port once more.
    fn listener(&self) -> Result<TcpListener> {
        let failed = |error: std::io::Error| Error::internal(format!("the listening socket: {error}"));
        let listener = self.listener.as_fd().try_clone_to_owned().map_err(failed)?;
        TcpListener::from_std(listener.into()).map_err(failed)
    }
}
