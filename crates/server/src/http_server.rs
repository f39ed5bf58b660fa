//! A router on a port, until it is stopped.

use std::fmt::Display;
use std::time::Duration;

use axum::Router;
use futures_util::stream::unfold;
use headwater_core::{Error, Result};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use crate::port::Port;

/// Answers that are under way at a shutdown have this long.
const GRACE: Duration = Duration::from_secs(5);

/// A connection without a sign of life is given up: twice this after the last one.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Calls at a time over one connection of HTTP/2.
const MAX_CONCURRENT_STREAMS: u32 = 1_024;

/// A server of HTTP and gRPC.
pub(crate) struct HttpServer {
    what: &'static str,
    url: String,
    stop: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl HttpServer {
    /// Serves `router` at `port`, to whom its guard lets through, until `stop`; `what` it is goes into messages. When it ends by itself, `ended` is cancelled.
    ///
    /// # Errors
    /// `Internal` when the listener has no address.
    pub(crate) fn serve(
        what: &'static str,
        port: Port,
        router: Router,
        stop: CancellationToken,
        ended: CancellationToken,
    ) -> Result<Self> {
        let (url, router) = (port.url()?, port.guarding(router));
        let incoming = unfold(port.listen(), |mut listener| async move {
            Some((Ok::<_, std::io::Error>(listener.next().await), listener))
        });
        // The transport of gRPC serves axum's routes as well, and has time limits for clients that say nothing.
        let server = Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .serve_with_incoming_shutdown(router, incoming, stop.clone().cancelled_owned());
        let served = tokio::spawn(async move {
            let _ended = ended.drop_guard();
            server.await
        });
        Ok(Self { what, url, stop, served })
    }

    /// The same of what people decide, at a port that only the machine itself reaches.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub(crate) fn administration(port: Port, router: Router, ended: CancellationToken) -> Result<Self> {
        Self::serve("administration", port, router, CancellationToken::new(), ended)
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        &self.url
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
        let failed =
            |error: &dyn Display| Error::internal(format!("the server of {} failed: {error}", self.what));
        match tokio::time::timeout(GRACE, self.served).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(failed(&error)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                tracing::warn!("{} was still busy {GRACE:?} after the shutdown began; cut", self.what);
                Ok(())
            }
        }
    }
}
