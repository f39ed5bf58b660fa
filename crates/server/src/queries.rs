//! The query API of all projections and their administration, on one port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Error, Result};
use headwater_projection::{Catalog, ProjectionService, TravelOptions, admin_router, query_router};
use headwater_runtime::{Metrics, Readiness};
use headwater_saga::{SagaCatalog, SagaService};
use headwater_sql::SqliteView;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stream::local_address;

/// Answers that are under way at a shutdown have this long.
const GRACE: Duration = Duration::from_secs(5);

/// The server of the query API.
pub(crate) struct Queries {
    url: String,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
    catalog: Catalog,
    sagas: SagaCatalog,
}

impl Queries {
    /// Serves on `listener`, with read models of the past in the folder `scratch`. When it ends by itself, `ended` is cancelled.
    ///
    /// # Errors
    /// `Internal` when the listener has no address.
    pub(crate) fn serve(listener: TcpListener, scratch: PathBuf, ended: CancellationToken) -> Result<Self> {
        let url = format!("http://{}", local_address(&listener)?);
        let stop = CancellationToken::new();
        let catalog = Catalog::new(TravelOptions {
            scratch: Arc::new(move || Ok(Arc::new(SqliteView::temporary(&scratch)?))),
            ..TravelOptions::default()
        });
        let sagas = SagaCatalog::default();
        // Whoever reaches the loopback address may administer here, so one port does for both.
        let router = query_router(catalog.clone())
            .merge(admin_router(catalog.clone()).reset_fallback())
            .merge(headwater_saga::router(sagas.clone()).reset_fallback())
            .merge(headwater_runtime::health::router(Readiness::default(), Metrics::default()));
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let served = tokio::spawn(async move {
            let _ended = ended.drop_guard();
            server.await
        });
        Ok(Self { url, stop, served, catalog, sagas })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
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

    /// Takes no further connections.
    pub(crate) fn begin_to_stop(&self) {
        self.stop.cancel();
    }

    /// Finishes what is under way.
    ///
    /// # Errors
    /// Why serving had ended before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let failed = |error: &dyn std::fmt::Display| {
            Error::internal(format!("the query API's server failed: {error}"))
        };
        match tokio::time::timeout(GRACE, self.served).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(failed(&error)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                tracing::warn!("queries were still busy {GRACE:?} after the shutdown began; cut");
                Ok(())
            }
        }
    }
}
