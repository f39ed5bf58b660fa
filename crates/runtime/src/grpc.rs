//! What every gRPC port has beside its own services: the standard health service, and reflection.

use headwater_core::{Error, Result};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};

use crate::Readiness;

/// Adds health, which `health` sets, and reflection of what `descriptors` describe.
///
/// # Errors
/// `Internal` when the descriptors cannot be read.
pub fn with_health_and_reflection(
    routes: Routes,
    health: &HealthReporter,
    descriptors: &'static [u8],
) -> Result<Routes> {
    let health = tonic_health::pb::health_server::HealthServer::new(HealthService::from_health_reporter(
        health.clone(),
    ));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let broken = |error: tonic_reflection::server::Error| {
        Error::internal(format!("the descriptors of the gRPC services cannot be read: {error}"))
    };
    Ok(routes
        .add_service(health)
        .add_service(reflection().build_v1().map_err(broken)?)
        .add_service(reflection().build_v1alpha().map_err(broken)?))
}

/// Lets the health service say of the server, and of each of its `services`, what readiness says, until `stop`.
pub async fn watch_health(
    mut health: HealthReporter,
    services: &[&'static str],
    readiness: Readiness,
    stop: CancellationToken,
) {
    let services = || services.iter().copied().chain([""]);
    let mut waiting = readiness.watch();
    loop {
        let ready = waiting.borrow_and_update().is_empty() && !stop.is_cancelled();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in services() {
            health.set_service_status(service, status).await;
        }
        if stop.is_cancelled() {
            // A watch ends when its service is gone; until then its connection would be kept.
            for service in services() {
                health.clear_service_status(service).await;
            }
            return;
        }
        tokio::select! {
            changed = waiting.changed() => if changed.is_err() { stop.cancelled().await },
            () = stop.cancelled() => {}
        }
    }
}
