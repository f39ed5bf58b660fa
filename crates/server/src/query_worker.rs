//! One projection in a process of its own: it follows an event store elsewhere, keeps its read model here, and answers queries.
//!
//! ```text
//! event store ──gRPC──▶ RemoteLog ─▶ workers ─▶ projections/NAME.db ─▶ query API, administration, metrics
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_api::Client;
use headwater_core::Result;
use headwater_log::Backoff;
use headwater_projection::{Catalog, TravelOptions, admin_router, query_router};
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, ProjectionSpec};
use headwater_runtime::{Gate, Metrics, Readiness, health};
use headwater_sql::SqliteView;
use tokio_util::sync::CancellationToken;

use crate::chosen::{choose, follow, stream};
use crate::data_dir::DataDir;
use crate::http_server::HttpServer;
use crate::listen::Listen;
use crate::load::Loaded;
use crate::projection::RunningProjection;

/// How to run a projection by itself.
#[derive(Debug, Clone)]
pub struct QueryWorkerOptions {
    /// Which of the projections in the manifests. `None`: the only one.
    pub projection: Option<String>,
    /// Where the event store of its event stream is.
    pub event_store: String,
    /// Where its read model is kept.
    pub data_dir: PathBuf,
    /// Where it answers queries.
    pub listen: Listen,
}

/// A projection that listens, and folds once [`run`](Self::run).
pub struct QueryWorker {
    name: String,
    spec: ProjectionSpec,
    stream: EventStreamSpec,
    client: Client,
    data: DataDir,
    catalog: Catalog,
    server: HttpServer,
    /// Opened when it follows the event store.
    following: Gate,
    /// Opened when a revision answers.
    built: Gate,
    ended: CancellationToken,
}

impl QueryWorker {
    /// Takes the data directory and the port. Until everything is known to fit, nothing is changed.
    ///
    /// # Errors
    /// `Invalid` for an option that does not fit the manifests; `FailedPrecondition` for a port or a data directory in use; `Corrupt`
    /// for data of a newer version.
    pub async fn start(options: QueryWorkerOptions, loaded: &Loaded) -> Result<Self> {
        options.listen.check()?;
        let projections = specs(&loaded.manifests.projections);
        let (name, spec) = choose("Projection", "projection", projections, options.projection)?;
        let stream_name = &spec.stream_ref.name;
        let stream = stream(loaded, stream_name, &format!("projection \"{name}\""))?;
        let client = Client::new(&options.event_store)?;
        let mut data = DataDir::claim(&options.data_dir)?;
        let listener = options.listen.bind("the query API").await?;
        data.prepare()?;
        let scratch = data.scratch();
        let catalog = Catalog::new(TravelOptions {
            scratch: Arc::new(move || Ok(Arc::new(SqliteView::temporary(&scratch)?))),
            ..TravelOptions::default()
        });
        let (metrics, readiness) = (Metrics::default(), Readiness::default());
        let following = readiness.wait_for(format!("the event stream \"{stream_name}\""));
        let built = readiness.wait_for("the first build of the read model");
        headwater_projection::register_metrics(&metrics, catalog.clone());
        // Whoever reaches the loopback address may administer here, so one port does for both.
        let routes = query_router(catalog.clone())
            .merge(admin_router(catalog.clone()).reset_fallback())
            .merge(health::router(readiness, metrics));
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let server = HttpServer::serve("the query API", listener, routes, stop, ended.clone())?;
        Ok(Self { name, spec, stream, client, data, catalog, server, following, built, ended })
    }

    /// The projection that it runs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it answers.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Folds and answers until `shutdown`. Waits for an event store that does not answer yet; `/readyz` says so.
    ///
    /// # Errors
    /// When the event store is another one than the manifest's or the read model's, or something ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut running = None;
        let begun = tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            begun = self.begin() => begun.map(|projection| running = Some(projection)),
        };
        if let Some(projection) = &running {
            self.catalog.add(projection.service.clone());
            self.following.open();
            tracing::info!(projection = self.name, "folds");
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.ended.cancelled() => {}
                () = async {
                    projection.first_build().await;
                    self.built.open();
                    tracing::info!(projection = self.name, "answers queries");
                    std::future::pending::<()>().await;
                } => {}
            }
            self.following.close();
        }
        self.server.begin_to_stop();
        if let Some(projection) = running {
            projection.service.stop().await;
        }
        begun.and(self.server.stop().await)
    }

    /// Starts the projection, as soon as its event store answers.
    async fn begin(&self) -> Result<RunningProjection> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let stream_name = &self.spec.stream_ref.name;
            let begun = match follow(self.client.clone(), stream_name, &self.stream).await {
                Ok(log) => {
                    let spec = self.spec.clone();
                    RunningProjection::start(&self.name, spec, &self.stream, log, &self.data).await
                }
                Err(error) => Err(error),
            };
            match begun {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(projection = self.name, %error, "cannot begin yet, and tries again");
                    tokio::time::sleep(backoff.pause()).await;
                }
                result => return result,
            }
        }
    }
}
