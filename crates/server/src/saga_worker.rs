//! One saga in a process of its own, over an event store elsewhere; with its own log in a database, others of its kind stand by.
//!
//! ```text
//! event store ──gRPC──▶ RemoteLog ─▶ coordinator ─▶ participants
//!      ▲                                │  ▲
//!      └──────── appends ───────────────┤  └─ API: HTTP, gRPC, health, readiness, metrics
//!                                       └─▶ its own log: a database, or sagas/NAME.db
//!                                                  ▲
//!                         stands by ── reads ──────┘  and takes over when it has the leases of the whole log
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_api::{Client, Credentials, RemoteLog};
use headwater_core::{Error, Partition, Result};
use headwater_log::{Holder, LogWriter, Sharing};
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_runtime::{Gate, Metrics, Readiness, telemetry};
use headwater_saga::{Calls, Coordinator, Counts, SagaCatalog, SagaMetrics, SagaService};
use headwater_sql::Database;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::arguments::{AdminArguments, ClientArguments, SecurityArguments};
use crate::bus::{Brought, BusFlag, BusPlace};
use crate::chosen::{choose, follow, live, stream, until_it_begins};
use crate::claim::claim;
use crate::data_dir::DataDir;
use crate::database::DatabaseAddress;
use crate::event_store::Keep;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::needs;
use crate::port::{Port, Protection};
use crate::saga::{Around, FileSurroundings, open_log};
use crate::saga_api;
use crate::traced::TracedWriter;
use crate::written_log::{Place, WrittenLog};

/// How often the event stream is asked whether it answers.
const EVERY: Duration = Duration::from_millis(500);
/// How long its answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Silence that may pass by itself: an event store that is started again.
const SILENCE: Duration = Duration::from_secs(5);

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
    pub event_stores: Vec<(String, String)>,
    /// Where its log is kept.
    pub keep: Keep,
    /// What the others call it. `None`: where its API is.
    pub worker: Option<String>,
    /// Where its API listens.
    pub listen: Listen,
    /// Where it is administered.
    pub admin: AdminArguments,
    /// How what it serves is protected.
    pub security: SecurityArguments,
    /// What it proves to be to the event stores.
    pub client: ClientArguments,
}

/// A saga that listens, and coordinates once [`run`](Self::run).
pub struct SagaWorker {
    name: String,
    spec: SagaSpec,
    stream: EventStreamSpec,
    namespace: String,
    bus: Option<BusPlace>,
    clients: BTreeMap<String, Client>,
    place: Place,
    /// Held for as long as the log is open.
    _data: Option<DataDir>,
    surroundings: Arc<FileSurroundings>,
    catalog: SagaCatalog,
    metrics: SagaMetrics,
    brought: Brought,
    server: HttpServer,
    admin: HttpServer,
    readiness: Readiness,
    /// Opened when it coordinates, or looks on.
    gate: Gate,
    /// Closed while the event stream does not answer.
    silence: Gate,
    ended: CancellationToken,
}

impl SagaWorker {
    /// Takes the data directory and the port. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use; `Corrupt`
    /// for data of a newer version.
    pub async fn start(options: SagaWorkerOptions, loaded: &Loaded) -> Result<Self> {
        let security = options.security.protect(&options.listen)?;
        let admin = options.admin.beside(&options.listen)?;
        let (name, spec) = choose("Saga", "saga", specs(&loaded.manifests.sagas), options.saga)?;
        let stream_name = spec.stream_ref.name.clone();
        let stream = stream(loaded, &stream_name, &format!("saga \"{name}\""))?;
        let bus = BusPlace::choose(&stream_name, &stream, loaded, &options.bus)?;
        let clients = connect(
            &name,
            &spec,
            &options.event_stores,
            &options.client.credentials(options.security.allows_plain_text_calls())?,
        )?;
        let kept_at = match &options.keep {
            Keep::Manifest => Some(DatabaseAddress::of_stream(&stream_name, &stream, loaded)?),
            Keep::Database(url) => Some(DatabaseAddress::instead_of(&stream, url)),
            Keep::Directory(_) => None,
        };
        if let Some(kept_at) = &kept_at {
            kept_at.at(|url| Database::of_saga(url, &name)).check(kept_at.field)?;
        }
        let all = loaded.manifests.sagas.iter().map(|it| &it.metadata);
        let claim = claim("Saga", all, &name, &options.namespace, None)?;
        let mut data = match &options.keep {
            Keep::Directory(path) => Some(DataDir::claim(path)?),
            Keep::Manifest | Keep::Database(_) => None,
        };
        let listener = options.listen.bind("the API of sagas").await?;
        let admin = Port::open(admin.bind("administration").await?);
        if let Some(data) = &mut data {
            data.prepare()?;
        }
        let surroundings = Arc::<FileSurroundings>::default();
        surroundings.load(loaded);
        let (metrics, readiness) = (Metrics::default(), Readiness::default());
        let gate = readiness.wait_for(format!("the event stream \"{stream_name}\""));
        let silence = readiness.wait_for(format!("an answer of the event stream \"{stream_name}\""));
        silence.open();
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let catalog = SagaCatalog::default();
        let saga_metrics = SagaMetrics::new(&metrics, catalog.clone());
        let brought = Brought::register(&metrics);
        security.register(&metrics);
        telemetry::register_metrics(&metrics);
        let routes = saga_api::routes(catalog.clone(), metrics, readiness.clone(), stop.clone())?;
        let admin = HttpServer::administration(admin, routes.clone(), ended.clone())?;
        let namespace = options.namespace;
        let at = admin.url().to_owned();
        let declared = (spec.server.as_ref(), &spec.access[..]);
        let protection = Protection::new(security, needs::SAGAS, declared, &namespace, at);
        let port = Port { listener, protection: Some(protection) };
        let server = HttpServer::serve("the API of sagas", port, routes, stop, ended.clone())?;
        let place = match (kept_at, &data) {
            (Some(kept_at), _) => Place::Shared {
                database: kept_at.at(|url| Database::of_saga(url, &name)),
                claim,
                follower: None,
                address: options.worker.unwrap_or_else(|| options.listen.name(server.url())),
                sharing: Sharing::OneHasAll,
            },
            (None, Some(data)) => Place::File(data.saga(&name)),
            (None, None) => return Err(Error::internal("a saga without a place for its log")),
        };
        Ok(Self {
            name,
            spec,
            stream,
            namespace,
            bus,
            clients,
            place,
            _data: data,
            surroundings,
            catalog,
            metrics: saga_metrics,
            brought,
            server,
            admin,
            readiness,
            gate,
            silence,
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

    /// Where it is administered.
    pub fn admin_url(&self) -> &str {
        self.admin.url()
    }

    /// Coordinates until `shutdown`, or looks on while another does. Waits for event stores and a database that do not answer yet; `/readyz`
    /// says so.
    ///
    /// # Errors
    /// When the event store is another one than the manifest's, or something ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut opened = None;
        let begun = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            begun = until_it_begins(&self.name, &self.readiness, || self.open()) => begun.map(|both| opened = Some(both)),
        };
        let worked = match &opened {
            Some((around, log)) => {
                tokio::select! {
                    // What runs is dropped, and stops at once: what it has recorded is taken up by whoever comes next.
                    () = shutdown.cancelled() => Ok(()),
                    () = self.ended.cancelled() => Ok(()),
                    worked = self.take_turns(around, log) => worked,
                    () = self.follow_events(around, log) => Ok(()),
                }
            }
            None => Ok(()),
        };
        self.gate.close();
        self.server.begin_to_stop();
        self.admin.begin_to_stop();
        if let Some(service) = self.catalog.remove(&self.name) {
            service.stop().await;
        }
        let closed = match opened {
            Some((_, log)) => log.close().await,
            None => Ok(()),
        };
        let served = self.server.stop().await.and(self.admin.stop().await);
        begun.and(worked).and(closed).and(served)
    }

    /// Coordinates whenever the whole log is its own to write, and looks on otherwise.
    async fn take_turns(&self, around: &Around, log: &WrittenLog) -> Result<()> {
        let (name, spec, stream) = (&self.name, &self.spec, &self.stream);
        let coordinate = async || SagaService::start(around.parts(name, log), spec, stream).await;
        let Some(replica) = log.replica() else {
            self.answer_by(until_it_begins(name, &self.readiness, coordinate).await?).await;
            tracing::info!(saga = name, "coordinates");
            return std::future::pending().await;
        };
        loop {
            let coordinator = Arc::clone(replica);
            let coordinator: Coordinator = Arc::new(move || match coordinator.holder(Partition::ZERO) {
                Holder::Other(member) => Some(member.address),
                Holder::Us | Holder::Nobody => None,
            });
            let look_on = async || {
                SagaService::stand_by(around.parts(name, log), spec, stream, Arc::clone(&coordinator)).await
            };
            self.answer_by(until_it_begins(name, &self.readiness, look_on).await?).await;
            tracing::info!(saga = name, "stands by");
            let tenure = replica.has_all().await;
            let begun = tenure.run_until_cancelled(until_it_begins(name, &self.readiness, coordinate)).await;
            if let Some(begun) = begun {
                let service = begun?;
                self.answer_by(service.clone()).await;
                tracing::info!(saga = name, "coordinates");
                tenure.cancelled().await;
                tracing::warn!(saga = name, "coordinates no more: its leases have ended");
                service.stop().await;
            }
        }
    }

    /// Leaves the saga to others while the event stream is silent for this process, and is not ready then. Never ends.
    async fn follow_events(&self, around: &Around, log: &WrittenLog) {
        let mut failing: Option<Instant> = None;
        let mut was_silent = false;
        loop {
            let asked = Instant::now();
            let answer = tokio::time::timeout(ANSWER, around.events.heads()).await;
            failing = if matches!(answer, Ok(Ok(_))) { None } else { failing.or(Some(asked)) };
            let is_silent = failing.is_some_and(|since| since.elapsed() >= SILENCE);
            match (was_silent, is_silent) {
                (false, true) => {
                    tracing::warn!(
                        saga = self.name,
                        "the event stream does not answer: another may coordinate"
                    );
                    self.silence.close();
                }
                (true, false) => {
                    tracing::info!(saga = self.name, "the event stream answers again");
                    self.silence.open();
                }
                (false, false) | (true, true) => {}
            }
            if let Some(replica) = log.replica() {
                replica.stand_back(is_silent);
            }
            was_silent = is_silent;
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Answers by `service` from now on. What ran before has ended then.
    async fn answer_by(&self, service: SagaService) {
        if let Some(before) = self.catalog.add(service) {
            before.stop().await;
        }
        self.gate.open();
    }

    /// Reaches the event streams, and opens its own log.
    async fn open(&self) -> Result<(Around, WrittenLog)> {
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
        self.surroundings.set_streams(logs.iter().map(|(name, log)| {
            (name.clone(), Arc::new(TracedWriter(log.client().clone())) as Arc<dyn LogWriter>)
        }));
        let around = Around {
            namespace: self.namespace.clone(),
            stream: self.stream.clone(),
            events,
            calls: Arc::new(Calls::new(self.surroundings.clone())?),
            metrics: self.metrics.clone(),
            counts: Counts::default(),
        };
        let (place, ended) = (self.place.clone(), self.ended.clone());
        let log = open_log(&self.name, &self.spec, &self.stream, place, &self.readiness, ended).await?;
        Ok((around, log))
    }
}

/// A client for each event stream that the saga uses.
fn connect(
    name: &str,
    spec: &SagaSpec,
    addresses: &[(String, String)],
    credentials: &Credentials,
) -> Result<BTreeMap<String, Client>> {
    let streams = spec.streams();
    let mut known = BTreeMap::new();
    for (stream, address) in addresses {
        if known.insert(stream.as_str(), address).is_some() {
            return Err(Error::invalid(
                "event-store",
                format!("there are two addresses of \"{stream}\": give one"),
            ));
        }
    }
    if let Some(other) = known.keys().find(|stream| !streams.contains(**stream)) {
        let used = streams.iter().map(|stream| format!("\"{stream}\"")).collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(
            "event-store",
            format!("saga \"{name}\" uses no event stream \"{other}\"; it uses {used}"),
        ));
    }
    let address = |stream: &&str| {
        let address = known.get(*stream).ok_or_else(|| {
            Error::invalid(
                "event-store",
                format!("saga \"{name}\" uses event stream \"{stream}\": say where it is, with --event-store {stream}=http://HOST:PORT"),
            )
        })?;
        Ok(address.as_str())
    };
    let addresses: Vec<&str> = streams.iter().map(address).collect::<Result<_>>()?;
    let clients = Client::all_with_credentials(&addresses, credentials)?;
    Ok(streams.into_iter().map(str::to_owned).zip(clients).collect())
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
        let addresses = |names: &[&str]| -> Vec<(String, String)> {
            names.iter().map(|name| ((*name).to_owned(), "http://127.0.0.1:1".to_owned())).collect()
        };
        let connect =
            |addresses: Vec<(String, String)>| connect("a", spec, &addresses, &Credentials::default());
        let clients = connect(addresses(&["orders", "audit"])).unwrap();
        assert_eq!(clients.keys().collect::<Vec<_>>(), ["audit", "orders"]);
        refused(connect(addresses(&["orders"])), "event-store", "--event-store audit=");
        refused(connect(addresses(&["orders", "audit", "x"])), "event-store", "no event stream \"x\"");
        refused(
            connect(addresses(&["orders", "audit", "orders"])),
            "event-store",
            "two addresses of \"orders\"",
        );
    }
}
