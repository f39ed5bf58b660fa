//! One projection in a process of its own: it follows an event store elsewhere, keeps its read model, and answers queries.
//!
//! ```text
//! event store ──gRPC──▶ RemoteLog ─▶ workers ─▶ projections/NAME.db, a database, or Redis ─▶ query API, metrics
//!                                                                                          └─▶ administration, on the machine itself
//! ```

use std::sync::Arc;

use headwater_api::Client;
use headwater_core::{Error, Result};
use headwater_projection::{Catalog, TravelOptions, admin_router, query_router};
use headwater_resources::manifest::{Manifests, specs};
use headwater_resources::projection::SinkType;
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_runtime::{Gate, Metrics, Readiness, health, telemetry};
use headwater_sql::SqliteView;
use headwater_view::{Generation, SpecGeneration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio_util::sync::CancellationToken;

use crate::arguments::{AdminArguments, ClientArguments, SecurityArguments};
use crate::bus::{Brought, BusFlag, BusPlace};
use crate::chosen::{choose, follow, live, ready_while_it_answers, stream, until_it_begins, url_in};
use crate::data_dir::DataDir;
use crate::database::DatabaseAddress;
use crate::event_store::Keep;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::needs;
use crate::port::{Port, Protection};
use crate::projection::{RunningProjection, ViewPlace};

/// How to run a projection by itself.
#[derive(Debug, Clone)]
pub struct QueryWorkerOptions {
    /// Which of the projections in the manifests. `None`: the only one.
    pub projection: Option<String>,
    /// Where the event store of its event stream is.
    pub event_store: String,
    /// Where its read model is kept.
    pub keep: Keep,
    /// What brings it what comes.
    pub bus: BusFlag,
    /// The namespace of its resource.
    pub namespace: String,
    /// Where it answers queries.
    pub listen: Listen,
    /// Where it is administered.
    pub admin: AdminArguments,
    /// How what it serves is protected.
    pub security: SecurityArguments,
    /// What it proves to be to the event store.
    pub client: ClientArguments,
    /// What others that fold the projection show it as. `None`: where it answers queries.
    pub worker: Option<String>,
}

/// A projection that listens, and folds once [`run`](Self::run).
pub struct QueryWorker {
    name: String,
    spec: ProjectionSpec,
    stream: EventStreamSpec,
    generation: Option<SpecGeneration>,
    client: Client,
    bus: Option<BusPlace>,
    namespace: String,
    worker: String,
    place: ViewPlace,
    /// Held for as long as the read model is open.
    _data: Option<DataDir>,
    catalog: Catalog,
    brought: Brought,
    server: HttpServer,
    admin: HttpServer,
    readiness: Readiness,
    /// Opened when it follows the event store. How far the read model is, is no part of it: a first build takes as long as the log is, a paused one
    /// for ever, and the projection's state, which says it, is asked only of who is ready.
    following: Gate,
    ended: CancellationToken,
}

impl QueryWorker {
    /// Takes the data directory and the port. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use; `Corrupt`
    /// for data of a newer version.
    pub async fn start(options: QueryWorkerOptions, loaded: &Loaded) -> Result<Self> {
        let security = options.security.protect(&options.listen)?;
        let admin = options.admin.beside(&options.listen)?;
        let projections = specs(&loaded.manifests.projections);
        let (name, spec) = choose("Projection", "projection", projections, options.projection)?;
        let stream_name = &spec.stream_ref.name;
        let stream = stream(loaded, stream_name, &format!("projection \"{name}\""))?;
        let generation = generation(loaded, &name, stream_name);
        let client = Client::with_credentials(
            &options.event_store,
            &options.client.credentials(options.security.allows_plain_text_calls())?,
        )?;
        let bus = BusPlace::choose(stream_name, &stream, loaded, &options.bus)?;
        let shared = place_of(&options.keep, &name, &spec, &stream, loaded)?;
        let mut data = match &options.keep {
            Keep::Directory(path) => Some(DataDir::claim(path)?),
            Keep::Manifest | Keep::Database(_) => None,
        };
        let listener = options.listen.bind("the query API").await?;
        let admin = Port::open(admin.bind("administration").await?);
        if let Some(data) = &mut data {
            data.prepare()?;
        }
        let place = match (shared, &data) {
            (Some(place), _) => place,
            (None, Some(data)) => ViewPlace::File(data.projection(&name)),
            (None, None) => return Err(Error::internal("a query worker without a place for its read model")),
        };
        // Read models of the past go when nobody asks for them any more.
        let scratch = data.as_ref().map_or_else(std::env::temp_dir, DataDir::scratch);
        let catalog = Catalog::new(TravelOptions {
            scratch: Arc::new(move || Ok(Arc::new(SqliteView::temporary(&scratch)?))),
            ..TravelOptions::default()
        });
        let (metrics, readiness) = (Metrics::default(), Readiness::default());
        let following = readiness.wait_for(format!("the event stream \"{stream_name}\""));
        let brought = Brought::register(&metrics);
        headwater_projection::register_metrics(&metrics, catalog.clone());
        security.register(&metrics);
        telemetry::register_metrics(&metrics);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let platform = health::router(readiness.clone(), metrics);
        // Whoever may administer may query.
        let routes = query_router(catalog.clone())
            .merge(admin_router(catalog.clone()).reset_fallback())
            .merge(platform);
        let admin = HttpServer::administration(admin, routes.clone(), ended.clone())?;
        // The guard lets look, and refuses decisions by name.
        let namespace = options.namespace;
        let at = admin.url().to_owned();
        let declared = (spec.server.as_ref(), &spec.access[..]);
        let protection = Protection::new(security, needs::QUERIES, declared, &namespace, at);
        let port = Port { listener, protection: Some(protection) };
        let server = HttpServer::serve("the query API", port, routes, stop, ended.clone())?;
        let worker = options.worker.unwrap_or_else(|| options.listen.name(server.url()));
        Ok(Self {
            name,
            spec,
            stream,
            generation,
            client,
            bus,
            namespace,
            worker,
            place,
            _data: data,
            catalog,
            brought,
            server,
            admin,
            readiness,
            following,
            ended,
        })
    }

    /// The projection that it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Where it is administered.
    pub fn admin_url(&self) -> &str {
        self.admin.url()
    }

    /// Folds and answers until `shutdown`. Waits for an event store that does not answer yet; `/readyz` says so.
    ///
    /// # Errors
    /// When the event store is another one than the manifest's or the read model's, or something ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut running = None;
        let begun = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            begun = until_it_begins(&self.name, &self.readiness, || self.begin()) => begun.map(|projection| running = Some(projection)),
        };
        if let Some(projection) = &running {
            self.catalog.add(projection.service.clone());
            self.following.open();
            tracing::info!(projection = self.name, "folds");
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.ended.cancelled() => {}
                () = ready_while_it_answers(&self.readiness, projection.service.silence()) => {}
                () = async {
                    projection.first_build().await;
                    tracing::info!(projection = self.name, "answers queries");
                    std::future::pending::<()>().await;
                } => {}
            }
            self.following.close();
        }
        self.server.begin_to_stop();
        self.admin.begin_to_stop();
        if let Some(projection) = running {
            projection.service.stop().await;
        }
        let served = self.server.stop().await.and(self.admin.stop().await);
        begun.and(served)
    }

    /// Starts the projection.
    async fn begin(&self) -> Result<RunningProjection> {
        let stream_name = &self.spec.stream_ref.name;
        let log = follow(self.client.clone(), stream_name, &self.stream).await?;
        let log = live(log, self.bus.as_ref(), &self.namespace, stream_name, &self.brought)?;
        let (spec, place) = (self.spec.clone(), self.place.clone());
        let (stream, generation, worker) = (&self.stream, self.generation, &self.worker);
        RunningProjection::start(&self.name, spec, stream, generation, log, place, worker).await
    }
}

/// How new the manifests of `projection` and its event stream are, where a cluster has said it.
fn generation(loaded: &Loaded, projection: &str, event_stream: &str) -> Option<SpecGeneration> {
    fn of<'m>(mut all: impl Iterator<Item = &'m ObjectMeta>, name: &str) -> Option<Generation> {
        let metadata = all.find(|metadata| metadata.name.as_deref() == Some(name))?;
        let created_at = metadata.creation_timestamp.as_ref()?.0.as_second();
        Some(Generation { created_at, number: metadata.generation? })
    }
    let Manifests { projections, event_streams, .. } = &loaded.manifests;
    Some(SpecGeneration {
        projection: of(projections.iter().map(|it| &it.metadata), projection)?,
        event_stream: of(event_streams.iter().map(|it| &it.metadata), event_stream)?,
    })
}

/// Where the read model of the projection `name` is. `None`: in a file.
///
/// # Errors
/// `Invalid` for what makes no sense, or is not in the Secrets.
pub(crate) fn place_of(
    keep: &Keep,
    name: &str,
    spec: &ProjectionSpec,
    stream: &EventStreamSpec,
    loaded: &Loaded,
) -> Result<Option<ViewPlace>> {
    Ok(match keep {
        Keep::Manifest => Some(in_sink(name, spec, stream, loaded)?),
        Keep::Database(url) if is_redis(url) => Some(ViewPlace::in_redis(url, "database", name, spec)?),
        Keep::Database(url) => Some(ViewPlace::in_database(&url.as_str().into(), name, spec)),
        Keep::Directory(_) => None,
    })
}

/// Whether a URL is meant for Redis.
fn is_redis(url: &str) -> bool {
    ["redis", "rediss", "redis+unix", "unix", "valkey", "valkeys"]
        .iter()
        .any(|scheme| url.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(scheme)))
}

/// Where the projection's sink says; where it names no database, that of its event stream.
fn in_sink(
    name: &str,
    spec: &ProjectionSpec,
    stream: &EventStreamSpec,
    loaded: &Loaded,
) -> Result<ViewPlace> {
    match (spec.sink.r#type, &spec.sink.redis) {
        (SinkType::Redis, Some(redis)) => {
            let field = "sink.redis.urlSecretRef";
            ViewPlace::in_redis(&url_in(&redis.url_secret_ref, field, loaded)?, field, name, spec)
        }
        (SinkType::Redis, None) => Err(Error::invalid(
            "sink.redis",
            format!(
                "projection \"{name}\" is to be in Redis, and the manifest does not say in which: name a Secret, by urlSecretRef"
            ),
        )),
        (SinkType::Sql, _) => {
            let at = match spec.sink.sql.as_ref().and_then(|sql| sql.url_secret_ref.as_ref()) {
                Some(key) => url_in(key, "sink.sql.urlSecretRef", loaded)?.as_str().into(),
                None => DatabaseAddress::of_stream(&spec.stream_ref.name, stream, loaded)?,
            };
            if is_redis(&at.url) {
                return Err(Error::invalid(
                    "sink.type",
                    format!(
                        "projection \"{name}\" is SQL, and its URL is one of Redis: say `type: Redis`, and give the Secret at sink.redis.urlSecretRef"
                    ),
                ));
            }
            Ok(ViewPlace::in_database(&at, name, spec))
        }
    }
}
