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

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    use super::*;
    use crate::http_server::HttpServer;
    use crate::port::Port;

    #[tokio::test]
    async fn the_port_has_health_that_follows_readiness_and_reflection_of_what_it_serves() {
        let (readiness, stop) = (Readiness::default(), CancellationToken::new());
        let gate = readiness.wait_for("a test");
        let routes = routes(SagaCatalog::default(), Metrics::default(), readiness, stop.clone()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server =
            HttpServer::serve("a test", Port::open(listener), routes, stop, CancellationToken::new())
                .unwrap();
        let channel = Endpoint::from_shared(server.url().to_owned()).unwrap().connect().await.unwrap();

        let mut health = HealthClient::new(channel.clone());
        for service in ["", headwater_saga::grpc::SERVICE] {
            let mut watch =
                health.watch(HealthCheckRequest { service: service.to_owned() }).await.unwrap().into_inner();
            let mut now = async || watch.message().await.unwrap().unwrap().status();
            let mut status = now().await;
            gate.open();
            while status != ServingStatus::Serving {
                status = now().await;
            }
            gate.close();
            assert_eq!(now().await, ServingStatus::NotServing);
        }

        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let answers = reflection.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        let mut services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
        services.sort();
        assert_eq!(
            services,
            ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "headwater.saga.v1.Sagas"]
        );
        drop((health, reflection));
        server.stop().await.unwrap();
    }
}
