use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures_util::stream::unfold;
use headwater_api::seed::event_store_server::EventStoreServer as ArticleServer;
use headwater_api::v1::event_store_server::EventStoreServer;
use headwater_api::{EVENT_STORE_DESCRIPTORS, MAX_MESSAGE_BYTES};
use headwater_core::{Append, Appended, Error, Result};
use headwater_log::{LogReader, LogWriter};
use headwater_runtime::auth::Guard;
use headwater_runtime::{Listener, Metrics, Readiness, grpc};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic_health::server::HealthReporter;

use crate::budget::{self, Budget};
use crate::connection::Connection;
use crate::grpc::Grpc;
use crate::metrics::Api;
use crate::seed::Article;
use crate::store::Store;
use crate::traced::{self, Caller};
use crate::{EventTypes, Relays, ReplicatedWriter};

/// Appends that are durable within this time of a shutdown are answered.
const GRACE: Duration = Duration::from_secs(8);

/// After that, or when there are none, what has been answered is sent for so long; connections that are still busy then are cut.
/// They are those of clients that do not read.
const READERS_GRACE: Duration = Duration::from_secs(2);

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
/// use headwater_runtime::{Listener, Metrics, Readiness};
///
/// let store = EventStore::new(reader, writer, Metrics::default(), Readiness::default());
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:50051").await.expect("a free port");
/// let listener = Listener::new(listener, None);
/// store.serve(listener, tokio_util::sync::CancellationToken::new()).await
/// # }
/// ```
#[derive(Clone)]
pub struct EventStore {
    store: Arc<Store>,
    metrics: Metrics,
    readiness: Readiness,
    guard: Option<Guard>,
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
        let local = Arc::clone(&writer);
        Self { store: Arc::new(Store::new(reader, writer, local, &metrics)), metrics, readiness, guard: None }
    }

    /// One of several event stores that write the log together.
    pub fn replicated(
        reader: Arc<dyn LogReader>,
        writer: Arc<ReplicatedWriter>,
        metrics: Metrics,
        readiness: Readiness,
    ) -> Self {
        let local = writer.local();
        Self { store: Arc::new(Store::new(reader, writer, local, &metrics)), metrics, readiness, guard: None }
    }

    /// The same, where `guard` lets callers through. Without one, whoever reaches the port may call.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Has its traces say which event stream it is. Once.
    #[must_use]
    pub fn named(self, event_stream: &str) -> Self {
        // A second name would be of the same event stream: a store has one.
        let _ = self.store.name.set(event_stream.to_owned());
        self
    }

    /// Has it say how far partitions are on the bus. Once.
    #[must_use]
    pub fn relayed_by(self, relays: Arc<dyn Relays>) -> Self {
        // As with its name.
        let _ = self.store.relays.set(relays);
        self
    }

    /// Checks appends against `event_types` from now on, and upcasts by them. Until then every type is accepted as it comes.
    pub fn set_event_types(&self, event_types: EventTypes) {
        self.store.set_event_types(event_types);
    }

    /// Serves on `listener` until `shutdown` is cancelled; then ends subscriptions, finishes the appends that are under way,
    /// and returns: at the latest after 10 seconds, and after 2 where only clients that do not read keep it. No connection outlives
    /// it. Once for each event store.
    ///
    /// # Errors
    /// `Internal` when the transport fails.
    pub async fn serve(self, listener: Listener, shutdown: CancellationToken) -> Result<()> {
        let health = HealthReporter::new();
        let router = self.router(&health)?;
        let (stop, appends) = (self.store.shutdown.clone(), self.store.tasks.clone());
        let cut = CancellationToken::new();
        let incoming = unfold((listener, cut.clone()), |(mut listener, cut)| async move {
            let connection = Connection::new(listener.next().await, &cut);
            Some((Ok::<_, std::io::Error>(connection), (listener, cut)))
        });
        let server = Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(8 * STREAM_WINDOW)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .serve_with_incoming_shutdown(router, incoming, stop.clone().cancelled_owned());
        let services = [name::<EventStoreServer<Grpc>>(), name::<ArticleServer<Article>>()];
        let watch = grpc::watch_health(health, &services, self.readiness.clone(), stop.clone());
        let mut serving = std::pin::pin!(async {
            let (served, ()) = tokio::join!(server, watch);
            served.map_err(|error| Error::internal(format!("the event store's server failed: {error}")))
        });
        let overdue = async {
            shutdown.cancelled().await;
            stop.cancel();
            appends.close();
            if tokio::time::timeout(GRACE, appends.wait()).await.is_err() {
                tracing::warn!("appends were still under way {GRACE:?} after the shutdown began");
            }
            tokio::time::sleep(READERS_GRACE).await;
        };
        tokio::select! {
            served = &mut serving => {
                // A call may be gone before what it began.
                appends.close();
                let _ = tokio::time::timeout(GRACE, appends.wait()).await;
                served
            }
            () = overdue => {
                tracing::warn!("connections were still busy at the end of the shutdown, and are cut");
                cut.cancel();
                serving.await
            }
        }
    }

    fn router(&self, health: &HealthReporter) -> Result<Router> {
        let service = EventStoreServer::new(Grpc(Arc::clone(&self.store)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let article = ArticleServer::new(Article(Arc::clone(&self.store)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(2 * MAX_MESSAGE_BYTES);
        let routes = tonic::service::Routes::new(service).add_service(article);
        let routes = grpc::with_health_and_reflection(routes, health, EVENT_STORE_DESCRIPTORS)?;
        let router = routes
            .into_axum_router()
            .reset_fallback()
            .merge(
                headwater_runtime::health::router(self.readiness.clone(), self.metrics.clone())
                    .method_not_allowed_fallback(crate::http::method_not_allowed),
            )
            .merge(crate::http::router(Arc::clone(&self.store)))
            .layer(axum::middleware::from_fn(traced::follow))
            .layer(axum::middleware::from_fn_with_state(Budget::default(), budget::count));
        // Outermost: what is refused is not even read.
        Ok(match &self.guard {
            Some(guard) => router.layer(axum::middleware::from_fn_with_state(guard.clone(), Guard::check)),
            None => router,
        })
    }
}

/// Appends of this process: what an event stream declares holds for them as for any other.
#[async_trait::async_trait]
impl LogWriter for EventStore {
    async fn append(&self, request: Append) -> Result<Appended> {
        self.store.append(Api::saga, &Caller::default(), request).await
    }
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

fn name<S: NamedService>() -> &'static str {
    S::NAME
}
