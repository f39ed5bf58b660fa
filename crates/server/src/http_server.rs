//! A router on a port, until it is stopped.

use std::fmt::Display;
use std::time::Duration;

use axum::Router;
use headwater_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stream::local_address;

/// Answers that are under way at a shutdown have this long.
const GRACE: Duration = Duration::from_secs(5);

/// A server of HTTP and gRPC.
pub(crate) struct HttpServer {
    what: &'static str,
    url: String,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl HttpServer {
    /// Serves `router` on `listener` until `stop`; `what` it is goes into messages. When it ends by itself, `ended` is cancelled.
    ///
    /// # Errors
    /// `Internal` when the listener has no address.
    pub(crate) fn serve(
        what: &'static str,
        listener: TcpListener,
        router: Router,
        stop: CancellationToken,
        ended: CancellationToken,
    ) -> Result<Self> {
        let url = format!("http://{}", local_address(&listener)?);
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let served = tokio::spawn(async move {
            let _ended = ended.drop_guard();
            server.await
        });
        Ok(Self { what, url, stop, served })
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
