//! The query API of all projections, the API of all sagas, and the administration of both, on one port.

use std::path::PathBuf;
use std::sync::Arc;

use headwater_core::Result;
use headwater_projection::{Catalog, ProjectionService, TravelOptions, admin_router, query_router};
use headwater_runtime::{Metrics, Readiness, telemetry};
use headwater_saga::{SagaCatalog, SagaMetrics, SagaService};
use headwater_sql::SqliteView;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http_server::HttpServer;
use crate::port::Port;
use crate::saga_api;

/// The server of the query API.
pub(crate) struct Queries {
    server: HttpServer,
    catalog: Catalog,
    sagas: SagaCatalog,
    saga_metrics: SagaMetrics,
}

impl Queries {
    /// Serves on `listener`, with read models of the past in the folder `scratch`. When it ends by itself, `ended` is cancelled.
    ///
    /// # Errors
    /// `Internal` when the listener has no address.
    pub(crate) fn serve(listener: TcpListener, scratch: PathBuf, ended: CancellationToken) -> Result<Self> {
        let catalog = Catalog::new(TravelOptions {
            scratch: Arc::new(move || Ok(Arc::new(SqliteView::temporary(&scratch)?))),
            ..TravelOptions::default()
        });
        let sagas = SagaCatalog::default();
        let (metrics, readiness, stop) = (Metrics::default(), Readiness::default(), CancellationToken::new());
        headwater_projection::register_metrics(&metrics, catalog.clone());
        telemetry::register_metrics(&metrics);
        let saga_metrics = SagaMetrics::new(&metrics, sagas.clone());
        // Whoever reaches the loopback address may administer here, so one port does for both.
        let router = query_router(catalog.clone())
            .merge(admin_router(catalog.clone()).reset_fallback())
            .merge(saga_api::routes(sagas.clone(), metrics, readiness, stop.clone())?.reset_fallback());
        let server = HttpServer::serve("the query API", Port::open(listener), router, stop, ended)?;
        Ok(Self { server, catalog, sagas, saga_metrics })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        self.server.url()
    }

    /// Answers for `service` too.
    pub(crate) fn add(&self, service: ProjectionService) {
        self.catalog.add(service);
    }

    /// Answers no longer for the projection `name`.
    pub(crate) fn remove(&self, name: &str) {
        self.catalog.remove(name);
    }

    /// Answers for the saga of `service` too.
    pub(crate) fn add_saga(&self, service: SagaService) {
        self.sagas.add(service);
    }

    /// Answers no longer for the saga `name`.
    pub(crate) fn remove_saga(&self, name: &str) {
        self.sagas.remove(name);
    }

    /// What sagas count with, to be shown here.
    pub(crate) fn saga_metrics(&self) -> SagaMetrics {
        self.saga_metrics.clone()
    }

    /// Takes no further connections.
    pub(crate) fn begin_to_stop(&self) {
        self.server.begin_to_stop();
    }

    /// Finishes what is under way.
    ///
    /// # Errors
    /// Why serving had ended before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.server.stop().await
    }
}
