//! One saga in a process of its own: it follows an event store elsewhere, and keeps its own log here.
//!
//! ```text
//! event store ──gRPC──▶ RemoteLog ─▶ coordinator ─▶ participants
//!      ▲                                │  ▲
//!      └──────── appends ───────────────┤  └─ API: HTTP, gRPC, health, readiness, metrics
//!                                       └─▶ sagas/NAME.db
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_api::{Client, RemoteLog};
use headwater_core::{Error, Result};
use headwater_log::LogWriter;
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_runtime::{Gate, Metrics, Readiness};
use headwater_saga::{Calls, SagaCatalog, SagaMetrics};
use tokio_util::sync::CancellationToken;

use crate::bus::{Brought, BusFlag, BusPlace};
use crate::chosen::{choose, follow, live, stream, until_it_begins};
use crate::data_dir::DataDir;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::saga::{Around, FileSurroundings, RunningSaga};
use crate::saga_api;
use crate::written_log::Place;

/// How to run a saga by itself.
#[derive(Debug, Clone)]
pub struct SagaWorkerOptions {
    /// Which of the sagas in the manifests. `None`: the only one.
    pub saga: Option<String>,
    /// The namespace of its resource.
    pub namespace: String,
    /// What brings it what comes.
    pub bus: BusFlag,
    /// Where the event stores of event streams are, by the stream's name.
    pub event_stores: BTreeMap<String, String>,
    /// Where its log is kept.
    pub data_dir: PathBuf,
    /// Where its API listens.
    pub listen: Listen,
}

/// A saga that listens, and coordinates once [`run`](Self::run).
pub struct SagaWorker {
    name: String,
    spec: SagaSpec,
    stream: EventStreamSpec,
    namespace: String,
    bus: Option<BusPlace>,
    clients: BTreeMap<String, Client>,
    data: DataDir,
    surroundings: Arc<FileSurroundings>,
    catalog: SagaCatalog,
    metrics: SagaMetrics,
    brought: Brought,
    server: HttpServer,
    /// Opened when it coordinates.
    gate: Gate,
    ended: CancellationToken,
}

impl SagaWorker {
    /// Takes the data directory and the port. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use; `Corrupt`
    /// for data of a newer version.
    pub async fn start(options: SagaWorkerOptions, loaded: &Loaded) -> Result<Self> {
        options.listen.check()?;
        let (name, spec) = choose("Saga", "saga", specs(&loaded.manifests.sagas), options.saga)?;
        let stream_name = spec.stream_ref.name.clone();
        let stream = stream(loaded, &stream_name, &format!("saga \"{name}\""))?;
        let bus = BusPlace::choose(&stream_name, &stream, loaded, &options.bus)?;
        let clients = connect(&name, &spec, &options.event_stores)?;
        let mut data = DataDir::claim(&options.data_dir)?;
        let listener = options.listen.bind("the API of sagas").await?;
        data.prepare()?;
        let surroundings = Arc::<FileSurroundings>::default();
        surroundings.load(loaded);
        let (metrics, readiness) = (Metrics::default(), Readiness::default());
        let gate = readiness.wait_for(format!("the event stream \"{stream_name}\""));
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let catalog = SagaCatalog::default();
        let saga_metrics = SagaMetrics::new(&metrics, catalog.clone());
        let brought = Brought::register(&metrics);
        let routes = saga_api::routes(catalog.clone(), metrics, readiness, stop.clone())?;
        let server = HttpServer::serve("the API of sagas", listener, routes, stop, ended.clone())?;
        Ok(Self {
            name,
            spec,
            stream,
            namespace: options.namespace,
            bus,
            clients,
            data,
            surroundings,
            catalog,
            metrics: saga_metrics,
            brought,
            server,
            gate,
            ended,
        })
    }

    /// The saga that it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its API is.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Coordinates until `shutdown`. Waits for event stores that do not answer yet; `/readyz` says so.
    ///
    /// # Errors
    /// When the event store is another one than the manifest's, or something ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut running = None;
        let begun = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            begun = until_it_begins(&self.name, || self.begin()) => begun.map(|saga| running = Some(saga)),
        };
        if let Some(saga) = &running {
            self.catalog.add(saga.service.clone());
            self.gate.open();
            tracing::info!(saga = self.name, "coordinates");
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.ended.cancelled() => {}
            }
            self.gate.close();
        }
        self.server.begin_to_stop();
        let stopped = match running {
            Some(saga) => saga.stop().await,
            None => Ok(()),
        };
        begun.and(stopped).and(self.server.stop().await)
    }

    /// Starts the saga.
    async fn begin(&self) -> Result<RunningSaga> {
        let stream_name = &self.spec.stream_ref.name;
        let mut logs: BTreeMap<String, Arc<RemoteLog>> = BTreeMap::new();
        for (name, client) in &self.clients {
            let log = if name == stream_name {
                follow(client.clone(), name, &self.stream).await?
            } else {
                Arc::new(RemoteLog::connect(client.clone()).await?)
            };
            logs.insert(name.clone(), log);
        }
        let log = Arc::clone(&logs[stream_name]);
        let events = live(log, self.bus.as_ref(), &self.namespace, stream_name, &self.brought)?;
        self.surroundings.set_streams(
            logs.iter().map(|(name, log)| (name.clone(), Arc::clone(log) as Arc<dyn LogWriter>)),
        );
        let around = Around {
            namespace: self.namespace.clone(),
            stream: self.stream.clone(),
            events,
            calls: Arc::new(Calls::new(self.surroundings.clone())?),
            metrics: self.metrics.clone(),
        };
        let place = Place::File(self.data.saga(&self.name));
        RunningSaga::start(&self.name, self.spec.clone(), around, place, self.ended.clone()).await
    }
}

/// A client for each event stream that the saga uses.
fn connect(
    name: &str,
    spec: &SagaSpec,
    addresses: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Client>> {
    let streams = spec.streams();
    if let Some(other) = addresses.keys().find(|stream| !streams.contains(stream.as_str())) {
        let used = streams.iter().map(|stream| format!("\"{stream}\"")).collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(
            "event-store",
            format!("saga \"{name}\" uses no event stream \"{other}\"; it uses {used}"),
        ));
    }
    let client = |stream: &str| {
        let address = addresses.get(stream).ok_or_else(|| {
            Error::invalid(
                "event-store",
                format!("saga \"{name}\" uses event stream \"{stream}\": say where it is, with --event-store {stream}=http://HOST:PORT"),
            )
        })?;
        Ok((stream.to_owned(), Client::new(address)?))
    };
    streams.into_iter().map(client).collect()
}

#[cfg(test)]
mod tests {
    use headwater_resources::manifest::read_texts;

    use super::*;

    fn sagas(names: &[&str]) -> BTreeMap<String, SagaSpec> {
        let saga = |name: &&str| {
            format!(
                "apiVersion: headwater.dev/v1alpha1\nkind: Saga\nmetadata: {{name: {name}}}\nspec:\n  streamRef: {{name: orders}}\n  \
                 startOn: {{events: [Placed]}}\n  steps:\n  - name: one\n    action: {{type: Append, append: {{streamRef: {{name: audit}}, streamId: a, type: A, data: {{}}}}}}\n    \
                 compensation: {{type: None}}\n"
            )
        };
        let stream = |name: &str| {
            format!(
                "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: {name}}}\nspec: {{}}\n"
            )
        };
        let texts: Vec<String> = names.iter().map(saga).chain(["orders", "audit"].map(stream)).collect();
        let manifests = read_texts([("test.yaml", texts.join("---\n").as_str())]);
        let faults: Vec<String> = manifests.errors().map(ToString::to_string).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        specs(&manifests.sagas)
    }

    #[track_caller]
    fn refused<T>(result: Result<T>, field: &str, part: &str) {
        match result {
            Err(Error::Invalid { field: wrong, message }) => {
                assert_eq!(wrong, field);
                assert!(message.contains(part), "{message}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{part} was not refused"),
        }
    }

    #[tokio::test]
    async fn every_event_stream_of_the_saga_needs_an_address_and_no_other_has_one() {
        let spec = &sagas(&["a"])["a"];
        let addresses = |names: &[&str]| -> BTreeMap<String, String> {
            names.iter().map(|name| ((*name).to_owned(), "http://127.0.0.1:1".to_owned())).collect()
        };
        let clients = connect("a", spec, &addresses(&["orders", "audit"])).unwrap();
        assert_eq!(clients.keys().collect::<Vec<_>>(), ["audit", "orders"]);
        refused(connect("a", spec, &addresses(&["orders"])), "event-store", "--event-store audit=");
        refused(
            connect("a", spec, &addresses(&["orders", "audit", "x"])),
            "event-store",
            "no event stream \"x\"",
        );
    }
}
