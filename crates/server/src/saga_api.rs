//! The API of sagas, as one port has it: HTTP, gRPC with health and reflection, and what platforms ask for.

use axum::Router;
use headwater_api::SAGA_DESCRIPTORS;
use headwater_core::Result;
use headwater_runtime::{Metrics, Readiness, grpc, health};
use headwater_saga::SagaCatalog;
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

/// The routes for the sagas of `catalog`. Until `stop`, the health service says what `readiness` says. Other services on the same port
/// that `metrics` count and `readiness` covers are merged by the caller.
///
/// # Errors
/// `Internal` when the gRPC descriptors cannot be read.
pub(crate) fn routes(
    catalog: SagaCatalog,
    metrics: Metrics,
    readiness: Readiness,
    stop: CancellationToken,
) -> Result<Router> {
    let reporter = HealthReporter::new();
    let services = headwater_saga::grpc::routes(catalog.clone());
    let services = grpc::with_health_and_reflection(services, &reporter, SAGA_DESCRIPTORS)?;
    tokio::spawn({
        let readiness = readiness.clone();
        async move { grpc::watch_health(reporter, &[headwater_saga::grpc::SERVICE], readiness, stop).await }
    });
    Ok(headwater_saga::router(catalog)
        .merge(services.into_axum_router().reset_fallback())
        .merge(health::router(readiness, metrics)))
}
