//! One event stream in a process of its own; several such processes share its partitions in a database.
//!
//! ```text
//! clients ──▶ event store ──▶ database          each partition is written by one of them
//!                 │  ▲
//!                 ▼  │ what the other writes
//!             event store ──▶ database
//! ```

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use axum::response::IntoResponse;
use headwater_api::{Credentials, Problem};
use headwater_core::{Error, LogId, Result};
use headwater_log::Sharing;
use headwater_resources::EventStreamSpec;
use headwater_resources::manifest::specs;
use headwater_runtime::{Metrics, Readiness, health};
use headwater_sql::Database;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::arguments::{ClientArguments, SecurityArguments};
use crate::bus::{BusFlag, BusPlace};
use crate::chosen::{choose, until_it_begins};
use crate::claim::claim;
use crate::data_dir::DataDir;
use crate::database::DatabaseAddress;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::needs;
use crate::port::{Port, Protection, local_address};
use crate::stream::{RelayTo, RunningStream};
use crate::written_log::Place;

/// A log whose database answers is open by then. Who connects before that waits for it, instead of being answered by a server that is
/// replaced a moment later.
const SOON: Duration = Duration::from_secs(2);

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
    /// The namespace of the EventStream, which its events name as their source, and whose service accounts may call.
    pub namespace: String,
    /// How what it serves is protected.
    pub security: SecurityArguments,
    /// What it proves to be to the other event stores of the stream.
    pub client: ClientArguments,
    /// The host name that their certificates have. `None`: that of the address where each is reached.
    pub peer_name: Option<String>,
    /// The log that becomes the event stream's, whoever has it.
    pub adopt: Option<LogId>,
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

/// Where in the database `at` the log of the event stream `name` is.
pub(crate) fn log_database(at: &DatabaseAddress, name: &str, spec: &EventStreamSpec) -> Database {
    let mut database = at.at(|url| Database::of_stream(url, name));
    if let Some(declared) = &spec.database {
        database.max_connections = declared.max_connections;
        if let Some(schema) = &declared.schema {
            database.schema.clone_from(schema);
        }
    }
    database
}

/// Whether others can reach, at this address, an event store that serves `scheme`.
fn check_advertised(address: &str, scheme: &str) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::invalid(
            "advertise",
            format!(
                "{address:?} is no address where others reach this event store: {why}; give {scheme}://HOST:PORT"
            ),
        ))
    };
    let Ok(uri) = address.parse::<http::Uri>() else { return refused("it cannot be read") };
    let Some(host) = uri.host() else { return refused("it has no host") };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if uri.scheme_str() != Some(scheme) {
        return refused(&format!("{scheme} is served"));
    }
    if uri.port_u16().is_none() {
        return refused("it has no port");
    }
    if address.contains('@') || uri.path() != "/" || uri.query().is_some() {
        return refused("it has more than a host and a port");
    }
    if bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return refused("that is any address, on whatever machine asks");
    }
    Ok(())
}

/// An event store that listens, and serves once [`run`](Self::run).
pub struct EventStoreProcess {
    name: String,
    spec: EventStreamSpec,
    place: Place,
    bus: Option<BusPlace>,
    namespace: String,
    listener: TcpListener,
    protection: Protection,
    credentials: Credentials,
    url: String,
    /// Held for as long as the log is open.
    _data: Option<DataDir>,
}

impl EventStoreProcess {
    /// Takes the port, and the data directory if there is one. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use.
    pub async fn start(options: EventStoreOptions, loaded: &Loaded) -> Result<Self> {
        let security = options.security.protect(&options.listen)?;
        let credentials =
            options.client.credentials_for(options.peer_name, options.security.allows_plain_text_calls())?;
        let (name, spec) =
            choose("EventStream", "stream", specs(&loaded.manifests.event_streams), options.stream)?;
        let kept_at = match &options.keep {
            Keep::Manifest => Some(DatabaseAddress::of_stream(&name, &spec, loaded)?),
            Keep::Database(url) => Some(DatabaseAddress::instead_of(&spec, url)),
            Keep::Directory(_) => None,
        };
        if kept_at.is_some() && options.advertise.is_none() && options.listen.address.ip().is_unspecified() {
            return Err(Error::invalid(
                "advertise",
                format!(
                    "the other event stores of \"{name}\" cannot reach this one at {}: say at which address of this machine they do, with \
                     --advertise {}://HOST:{}",
                    options.listen.address,
                    security.scheme(),
                    options.listen.address.port()
                ),
            ));
        }
        let bus = BusPlace::choose(&name, &spec, loaded, &options.bus)?;
        let mut data = match &options.keep {
            Keep::Directory(path) => Some(DataDir::claim(path)?),
            Keep::Manifest | Keep::Database(_) => None,
        };
        let listener = options.listen.bind("the event store").await?;
        let at = format!("{}://{}", security.scheme(), local_address(&listener)?);
        if let Some(data) = &mut data {
            data.prepare()?;
        }
        let place = match (kept_at, &data) {
            (Some(kept_at), _) => {
                let database = log_database(&kept_at, &name, &spec);
                let advertised = options.advertise.unwrap_or_else(|| at.clone());
                // It would be found out by the others only.
                check_advertised(&advertised, security.scheme())?;
                database.check(kept_at.field)?;
                let follower = kept_at.read_url.clone().map(|url| Database { url, ..database.clone() });
                if let Some(follower) = &follower {
                    follower.check("database.readURLSecretRef")?;
                }
                let all = loaded.manifests.event_streams.iter().map(|it| &it.metadata);
                let claim = claim("EventStream", all, &name, &options.namespace, options.adopt)?;
                Place::Shared { database, claim, follower, address: advertised, sharing: Sharing::Evenly }
            }
            (None, Some(data)) => Place::File(data.stream(&name)),
            (None, None) => return Err(Error::internal("an event store without a place for its log")),
        };
        let namespace = options.namespace;
        // What there is to decide is decided at the projections and sagas.
        let administration = "the query workers and sagas of this event stream".to_owned();
        let declared = (spec.server.as_ref(), &spec.access[..]);
        let protection = Protection::new(security, needs::EVENT_STORE, declared, &namespace, administration);
        Ok(Self {
            name,
            spec,
            place,
            bus,
            namespace,
            listener,
            protection,
            credentials,
            url: at,
            _data: data,
        })
    }

    /// The event stream that it serves.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Serves until `shutdown`. Waits for a database that does not answer yet; `/readyz` says so.
    ///
    /// # Errors
    /// When the database holds another event stream's log, or that of one of another namespace, or something ended by itself.
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

    /// Opens the log, as soon as the database answers. Where that takes a while, only health is served until then.
    async fn open(&self, ended: CancellationToken) -> Result<RunningStream> {
        let readiness = Readiness::default();
        let mut opening = pin!(until_it_begins(&self.name, &readiness, async || {
            let (spec, place) = (self.spec.clone(), self.place.clone());
            let relay = self.bus.clone().map(|bus| RelayTo { bus, namespace: self.namespace.clone() });
            let (port, credentials) = (self.port()?, self.credentials.clone());
            RunningStream::start(&self.name, spec, place, relay, port, credentials, ended.clone()).await
        }));
        // Whoever connects meanwhile waits.
        if let Ok(opened) = tokio::time::timeout(SOON, &mut opening).await {
            return opened;
        }
        let _gate = readiness.wait_for("the database");
        let why = readiness.clone();
        let routes = health::router(readiness.clone(), Metrics::default()).fallback(async move || {
            let waiting = why.waiting_for().join("; ");
            Problem::from(Error::unavailable(format!("the event store waits for {waiting}; try again")))
                .into_response()
        });
        let waiting = HttpServer::serve(
            "health",
            self.port()?,
            routes,
            CancellationToken::new(),
            CancellationToken::new(),
        )?;
        let opened = opening.await;
        waiting.stop().await?;
        opened
    }

    /// The port once more.
    fn port(&self) -> Result<Port> {
        let failed = |error: std::io::Error| Error::internal(format!("the listening socket: {error}"));
        let listener = self.listener.as_fd().try_clone_to_owned().map_err(failed)?;
        let listener = TcpListener::from_std(listener.into()).map_err(failed)?;
        Ok(Port { listener, protection: Some(self.protection.clone()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_reach_it_where_it_says() {
        for (address, scheme) in [
            ("http://10.0.0.7:50051", "http"),
            ("https://store-0.store.shop.svc:50051", "https"),
            ("https://[fd00::7]:50051", "https"),
        ] {
            check_advertised(address, scheme).unwrap();
        }
        for (address, why) in [
            ("http://store:50051", "https is served"),
            ("notaurl", "https is served"),
            ("https://0.0.0.0:1", "that is any address"),
            ("https://[::]:1", "that is any address"),
            ("https://store", "no port"),
            ("https://me:pw@store:1", "more than a host and a port"),
            ("https://store:1/path", "more than a host and a port"),
            ("https://store:1/?a", "more than a host and a port"),
            ("", "cannot be read"),
        ] {
            let error = check_advertised(address, "https").unwrap_err().to_string();
            assert!(error.starts_with("advertise: ") && error.contains(why), "{address}: {error}");
        }
    }
}
