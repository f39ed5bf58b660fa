use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use headwater_api::seed::event_store_server::EventStoreServer as ArticleServer;
use headwater_api::v1::event_store_server::EventStoreServer;
use headwater_api::{DESCRIPTORS, MAX_MESSAGE_BYTES};
use headwater_core::{Error, Result};
use headwater_log::{LogReader, LogWriter};
use headwater_runtime::{Metrics, Readiness};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::EventTypes;
use crate::grpc::Grpc;
use crate::seed::Article;
use crate::store::Store;

/// What is finished within this time of a shutdown is answered; connections that are still busy then are cut.
const GRACE: Duration = Duration::from_secs(10);

/// A client may open one stream for each request that it has under way, on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 1_024;

/// What a client may send ahead: one large append on a stream, several on a connection.
const STREAM_WINDOW: u32 = 1 << 20;

/// How often a silent connection is probed, so that subscriptions of clients that are gone end.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// The event store over one log.
///
/// ```no_run
/// # async fn run(reader: std::sync::Arc<dyn headwater_log::LogReader>, writer: std::sync::Arc<dyn headwater_log::LogWriter>) -> headwater_core::Result<()> {
/// use headwater_eventstore::EventStore;
/// use headwater_runtime::{Metrics, Readiness};
///
/// let store = EventStore::new(reader, writer, Metrics::default(), Readiness::default());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:50051").await.expect("a free port");
/// store.serve(listener, tokio_util::sync::CancellationToken::new()).await
/// # }
/// ```
#[derive(Clone)]
pub struct EventStore {
    store: Arc<Store>,
    metrics: Metrics,
    readiness: Readiness,
}

impl EventStore {
    /// An event store that reads and writes one log. Counts into `metrics`; says at `/readyz` and in its health service what
    /// `readiness` says.
    pub fn new(
        reader: Arc<dyn LogReader>,
        writer: Arc<dyn LogWriter>,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Self {
        Self { store: Arc::new(Store::new(reader, writer, &metrics)), metrics, readiness }
    }

    /// Checks appends against `event_types` from now on, and upcasts by them. Until then every type is accepted as it comes.
    pub fn set_event_types(&self, event_types: EventTypes) {
        self.store.set_event_types(event_types);
    }

    /// Serves on `listener` until `shutdown` is cancelled; then ends subscriptions, finishes what is under way, and returns, at the
    /// latest after 10 seconds. Once for each event store.
    ///
    /// # Errors
    /// `Internal` when the transport fails.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) -> Result<()> {
        let health = HealthReporter::new();
        let router = self.router(&health)?;
        let stop = self.store.shutdown.clone();
        let server = Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(8 * STREAM_WINDOW)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .serve_with_incoming_shutdown(
                router,
                TcpIncoming::from(listener).with_nodelay(Some(true)),
                stop.clone().cancelled_owned(),
            );
        let watch = watch_health(health, self.readiness.clone(), stop.clone());
        let overdue = async {
            shutdown.cancelled().await;
            stop.cancel();
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            (served, ()) = async { tokio::join!(server, watch) } => served.map_err(|error| {
                Error::internal(format!("the event store's server failed: {error}"))
            }),
            () = overdue => {
                tracing::warn!("connections were still busy {GRACE:?} after the shutdown began; cut");
                Ok(())
            }
        }
    }

    fn router(&self, health: &HealthReporter) -> Result<Router> {
        let grpc = EventStoreServer::new(Grpc(Arc::clone(&self.store)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let article = ArticleServer::new(Article(Arc::clone(&self.store)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(2 * MAX_MESSAGE_BYTES);
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(health.clone()),
        );
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let broken = |error: tonic_reflection::server::Error| {
            Error::internal(format!("the descriptors of the gRPC services cannot be read: {error}"))
        };
        let routes = tonic::service::Routes::new(grpc)
            .add_service(article)
            .add_service(health)
            .add_service(reflection().build_v1().map_err(broken)?)
            .add_service(reflection().build_v1alpha().map_err(broken)?);
        Ok(routes
            .into_axum_router()
            .reset_fallback()
            .merge(headwater_runtime::health::router(self.readiness.clone(), self.metrics.clone()))
            .merge(crate::http::router(Arc::clone(&self.store))))
    }
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Lets the health service say what readiness says, until the end.
async fn watch_health(health: HealthReporter, readiness: Readiness, stop: CancellationToken) {
    let mut waiting = readiness.watch();
    loop {
        let ready = waiting.borrow_and_update().is_empty() && !stop.is_cancelled();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", name::<EventStoreServer<Grpc>>(), name::<ArticleServer<Article>>()] {
            health.set_service_status(service, status).await;
        }
        if stop.is_cancelled() {
            return;
        }
        tokio::select! {
            changed = waiting.changed() => if changed.is_err() { stop.cancelled().await },
            () = stop.cancelled() => {}
        }
    }
}

fn name<S: NamedService>() -> &'static str {
    S::NAME
}
