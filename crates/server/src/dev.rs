//! Everything in one process: what is declared is started, and what is saved takes effect.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_api::Credentials;
use headwater_core::{Error, Result};
use headwater_log::{Filter, StartFrom, Subscription};
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, ProjectionSpec, SagaSpec};
use headwater_saga::{Calls, Counts};
use headwater_sql::Database;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bus::{BusFlag, BusPlace};
use crate::claim::claim;
use crate::data_dir::DataDir;
use crate::listen::Listen;
use crate::load::{LoadError, Loaded, load};
use crate::notice::{Notice, ProjectionAt, Ready, SagaAt, StreamAt};
use crate::port::Port;
use crate::projection::{RunningProjection, ViewPlace};
use crate::queries::Queries;
use crate::saga::{Around, FileSurroundings, RunningSaga};
use crate::stream::{RelayTo, RunningStream};
use crate::tell;
use crate::watch::Watch;
use crate::written_log::Place;

mod ports;
mod reload;

use ports::Ports;

/// How long the first build of a projection may hold up the start: an empty log takes milliseconds, a long one goes on
/// building while everything else serves.
const FIRST_BUILD: Duration = Duration::from_secs(2);

/// The namespace of everything that `dev` runs: the one that `kubectl apply` takes when none is said.
const NAMESPACE: &str = "default";

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the manifests are.
    pub directories: Vec<PathBuf>,
    /// Where the data is.
    pub data_dir: PathBuf,
    /// The URL of a database that keeps the logs of event streams and sagas, and read models, instead.
    pub database: Option<String>,
    /// Where event streams are relayed to that declare a bus of its kind.
    pub bus: Option<BusFlag>,
    /// The first event store.
    pub listen: Listen,
    /// The query API.
    pub query_listen: Listen,
    /// Whether saved manifests take effect.
    pub watch: bool,
    /// Whether stored events and changed rows are told.
    pub tell_changes: bool,
    /// When the process began its work.
    pub begun: Instant,
}

/// All that runs.
pub struct Dev {
    options: Options,
    data: DataDir,
    streams: BTreeMap<String, RunningStream>,
    projections: BTreeMap<String, RunningProjection>,
    sagas: BTreeMap<String, RunningSaga>,
    surroundings: Arc<FileSurroundings>,
    /// Sends for all sagas: one pool of connections.
    calls: Arc<Calls>,
    /// Where the event streams listen.
    ports: Ports,
    queries: Queries,
    watch: Option<Watch>,
    notices: mpsc::Sender<Notice>,
    /// Those who tell what happens.
    tellers: TaskTracker,
    stop_telling: CancellationToken,
    /// Cancelled when something ends that should not.
    ended: CancellationToken,
}

impl Dev {
    /// Starts what `loaded` declares. Until everything is known to fit (addresses, ports, data directory) nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an address beyond loopback; `FailedPrecondition` for a port or a data directory in use, and for data that
    /// was made from other manifests; `Corrupt` for data of a newer version.
    pub async fn start(options: Options, loaded: Loaded, notices: mpsc::Sender<Notice>) -> Result<Self> {
        options.listen.check()?;
        options.query_listen.check()?;
        if let Some(flag) = &options.bus {
            flag.kind()?;
        }
        let streams = specs(&loaded.manifests.event_streams);
        let surroundings = Arc::<FileSurroundings>::default();
        let calls = Arc::new(Calls::new(surroundings.clone())?);
        let mut data = DataDir::claim(&options.data_dir)?;
        let mut ports = Ports::new(options.listen);
        let listeners = ports.bind_all(streams.keys(), options.query_listen).await?;
        let query = options.query_listen.bind("the query API").await?;
        data.prepare()?;
        let watch = if options.watch { Some(Watch::new(&options.directories)?) } else { None };
        let ended = CancellationToken::new();
        let queries = Queries::serve(query, data.scratch(), ended.clone())?;
        let mut dev = Self {
            data,
            streams: BTreeMap::new(),
            projections: BTreeMap::new(),
            sagas: BTreeMap::new(),
            surroundings,
            calls,
            ports,
            queries,
            watch,
            notices,
            tellers: TaskTracker::new(),
            stop_telling: CancellationToken::new(),
            ended,
            options,
        };
        match dev.begin(streams, listeners, &loaded).await {
            Ok(()) => Ok(dev),
            Err(error) => {
                // The first error is what matters.
                let _ = dev.stop().await;
                Err(error)
            }
        }
    }

    async fn begin(
        &mut self,
        streams: BTreeMap<String, EventStreamSpec>,
        listeners: Vec<TcpListener>,
        loaded: &Loaded,
    ) -> Result<()> {
        for ((name, spec), listener) in streams.into_iter().zip(listeners) {
            let relay = self.relay(&name, &spec, loaded)?;
            self.start_stream(&name, spec, relay, listener, loaded).await?;
        }
        for (name, spec) in specs(&loaded.manifests.projections) {
            self.start_projection(&name, spec).await?;
        }
        self.surroundings.load(loaded);
        self.know_streams();
        for (name, spec) in specs(&loaded.manifests.sagas) {
            self.start_saga(&name, spec, loaded).await?;
        }
        for projection in self.projections.values() {
            // Not in time: it is built while everything else serves, and said to be.
            let _ = tokio::time::timeout(FIRST_BUILD, projection.first_build()).await;
        }
        self.tell(Notice::Ready(self.ready())).await;
        for projection in self.projections.values() {
            self.tell_rollouts(projection);
        }
        self.introduce(loaded).await;
        Ok(())
    }

    /// Where the event stream is relayed to: nowhere, unless its bus is of the kind that the flag says where to find.
    fn relay(&self, name: &str, spec: &EventStreamSpec, loaded: &Loaded) -> Result<Option<RelayTo>> {
        let Some(flag) = &self.options.bus else { return Ok(None) };
        if flag.kind()? != Some(spec.bus.r#type) {
            return Ok(None);
        }
        let bus = BusPlace::choose(name, spec, loaded, flag)?;
        Ok(bus.map(|bus| RelayTo { bus, namespace: NAMESPACE.to_owned() }))
    }

    async fn start_stream(
        &mut self,
        name: &str,
        spec: EventStreamSpec,
        relay: Option<RelayTo>,
        listener: TcpListener,
        loaded: &Loaded,
    ) -> Result<()> {
        let place = self.place(name, &spec, loaded)?;
        let (port, credentials) = (Port::open(listener), Credentials::default());
        let stream =
            RunningStream::start(name, spec, place, relay, port, credentials, self.ended.clone()).await?;
        if self.options.tell_changes {
            let subscription =
                Subscription::open(stream.reader(), &StartFrom::End, Filter::default()).await?;
            self.spawn_teller(tell::events(name.to_owned(), subscription, self.notices.clone()));
        }
        self.streams.insert(name.to_owned(), stream);
        Ok(())
    }

    async fn start_projection(&mut self, name: &str, spec: ProjectionSpec) -> Result<()> {
        let stream_name = &spec.stream_ref.name;
        let stream = self.streams.get(stream_name).ok_or_else(|| {
            Error::not_found(format!(
                "the event stream \"{stream_name}\" of projection \"{name}\" does not run"
            ))
        })?;
        let place = match &self.options.database {
            Some(url) => ViewPlace::in_database(&url.as_str().into(), name, &spec),
            None => ViewPlace::File(self.data.projection(name)),
        };
        let (reader, worker) = (stream.reader(), self.queries.url());
        // One process: whatever it reads is the newest.
        let generation = None;
        let projection =
            RunningProjection::start(name, spec, &stream.spec, generation, reader, place, worker).await?;
        let service = projection.service.clone();
        if self.options.tell_changes {
            self.spawn_teller(tell::rows(name.to_owned(), service.changes(), self.notices.clone()));
        }
        self.queries.add(service);
        self.projections.insert(name.to_owned(), projection);
        Ok(())
    }

    async fn start_saga(&mut self, name: &str, spec: SagaSpec, loaded: &Loaded) -> Result<()> {
        let stream_name = &spec.stream_ref.name;
        let stream = self.streams.get(stream_name).ok_or_else(|| {
            Error::not_found(format!("the event stream \"{stream_name}\" of saga \"{name}\" does not run"))
        })?;
        let around = Around {
            namespace: NAMESPACE.to_owned(),
            stream: stream.spec.clone(),
            events: stream.reader(),
            calls: Arc::clone(&self.calls),
            metrics: self.queries.saga_metrics(),
            counts: Counts::default(),
        };
        let place = match &self.options.database {
            Some(url) => {
                let all = loaded.manifests.sagas.iter().map(|it| &it.metadata);
                Place::Database(Database::of_saga(url, name), claim("Saga", all, name, NAMESPACE, None)?)
            }
            None => Place::File(self.data.saga(name)),
        };
        let saga = RunningSaga::start(name, spec, &around, place, self.ended.clone()).await?;
        if self.options.tell_changes {
            self.spawn_teller(tell::steps(name.to_owned(), saga.service.listen(), self.notices.clone()));
        }
        self.queries.add_saga(saga.service.clone());
        self.sagas.insert(name.to_owned(), saga);
        Ok(())
    }

    /// Where the log of the event stream `name` is kept: in the database, if there is one, in its schema or the one by its name; else in a
    /// file.
    fn place(&self, name: &str, spec: &EventStreamSpec, loaded: &Loaded) -> Result<Place> {
        let Some(url) = &self.options.database else { return Ok(Place::File(self.data.stream(name))) };
        let mut database = Database::of_stream(url, name);
        if let Some(schema) = spec.database.as_ref().and_then(|database| database.schema.as_ref()) {
            database.schema.clone_from(schema);
        }
        let all = loaded.manifests.event_streams.iter().map(|it| &it.metadata);
        Ok(Place::Database(database, claim("EventStream", all, name, NAMESPACE, None)?))
    }

    /// Lets sagas append to the event streams that run.
    fn know_streams(&self) {
        let streams = self.streams.iter().map(|(name, stream)| (name.clone(), stream.writer()));
        self.surroundings.set_streams(streams);
    }

    fn tell_rollouts(&self, projection: &RunningProjection) {
        self.spawn_teller(tell::rollouts(projection.service.watch(), self.notices.clone()));
    }

    fn spawn_teller(&self, teller: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop_telling.clone();
        self.tellers.spawn(async move {
            // Whatever else a teller waits for.
            stop.run_until_cancelled(teller).await;
        });
    }

    /// What a newcomer should know, once.
    async fn introduce(&self, loaded: &Loaded) {
        let kept = match &self.options.database {
            None => "in SQLite",
            Some(_) => "in the database of --database",
        };
        let carried = match &self.options.bus {
            None => "carries events within the process",
            Some(_) => "relays events to the bus of --bus, where a manifest declares one of its kind",
        };
        self.note(format!("dev keeps everything {kept} and {carried}, whatever database, bus and sink say"))
            .await;
        for ignored in &loaded.manifests.ignored {
            self.tell(ignored.into()).await;
        }
        for warning in loaded.manifests.warnings() {
            self.tell(warning.into()).await;
        }
    }

    /// What serves where.
    pub fn ready(&self) -> Ready {
        let streams = self.streams.iter().map(|(name, stream)| StreamAt {
            name: name.clone(),
            url: stream.url.clone(),
            partitions: stream.spec.partitions as usize,
        });
        let projections = self.projections.iter().map(|(name, projection)| ProjectionAt {
            name: name.clone(),
            stream: projection.spec.stream_ref.name.clone(),
            tables: projection.spec.tables.iter().map(|table| table.name.clone()).collect(),
        });
        let sagas = self
            .sagas
            .iter()
            .map(|(name, saga)| SagaAt { name: name.clone(), stream: saga.spec.stream_ref.name.clone() });
        Ready {
            streams: streams.collect(),
            query: self.queries.url().to_owned(),
            projections: projections.collect(),
            sagas: sagas.collect(),
            data_dir: self.data.path().to_owned(),
            startup_ms: self.options.begun.elapsed().as_millis() as u64,
        }
    }

    /// Runs until `shutdown`, then stops everything in order.
    ///
    /// # Errors
    /// When something ended by itself.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.ended.cancelled() => break,
                () = saved(&mut self.watch) => {
                    let directories = self.options.directories.clone();
                    match tokio::task::spawn_blocking(move || load(&directories)).await {
                        Ok(loaded) => self.reload(loaded).await,
                        Err(error) => tracing::error!("reading the manifests: {error}"),
                    }
                }
            }
        }
        self.stop().await
    }

    /// Queries, sagas and folding first, then the logs that they read.
    async fn stop(self) -> Result<()> {
        self.queries.begin_to_stop();
        let mut result = Ok(());
        for (name, saga) in self.sagas {
            keep(&mut result, &format!("the saga \"{name}\""), saga.stop().await);
        }
        for projection in self.projections.values() {
            projection.service.stop().await;
        }
        keep(&mut result, "the query API", self.queries.stop().await);
        self.stop_telling.cancel();
        self.tellers.close();
        self.tellers.wait().await;
        for (name, stream) in self.streams {
            keep(&mut result, &format!("the event stream \"{name}\""), stream.stop().await);
        }
        result
    }

    async fn note(&self, message: impl Into<String>) {
        self.tell(Notice::Note { message: message.into() }).await;
    }

    async fn tell(&self, notice: Notice) {
        // Nobody listens any more only when the process ends.
        let _ = self.notices.send(notice).await;
    }
}

/// Logs why `what` had ended, if so, and keeps the first such reason.
fn keep(first: &mut Result<()>, what: &str, stopped: Result<()>) {
    if let Err(error) = stopped {
        tracing::error!("stopping {what}: {error}");
        if first.is_ok() {
            *first = Err(error);
        }
    }
}

async fn saved(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.saved().await,
        None => std::future::pending().await,
    }
}
