//! Connections of a client, in plain text or by TLS.

use std::sync::Arc;

use headwater_core::{Error, Result};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::credentials::Credentials;
use crate::errors::to_status;
use crate::tls;

/// What gRPC is spoken over.
const HTTP2: &[&[u8]] = &[b"h2"];

/// Where a server is.
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// Its address, where it is spoken to by TLS.
    secured: Option<Uri>,
}

impl Place {
    /// The server at `url`.
    ///
    /// # Errors
    /// Why it is no address.
    pub(super) fn of(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        if uri.scheme_str() != Some("https") {
            let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|error| error.to_string())?;
            return Ok(Self { endpoint, secured: None });
        }
        // An endpoint of https asks for the transport's own TLS, which cannot renew what it shows.
        let mut parts = uri.clone().into_parts();
        parts.scheme = Some(http::uri::Scheme::HTTP);
        let plain = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        let endpoint = Endpoint::from(plain).origin(uri.clone());
        Ok(Self { endpoint, secured: Some(uri) })
    }

    /// A channel that connects when it is first used, with what `credentials` hold by then.
    pub(super) fn channel(self, credentials: &Credentials) -> Channel {
        let Some(uri) = self.secured else { return self.endpoint.connect_lazy() };
        let credentials = credentials.clone();
        self.endpoint.connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let (uri, credentials) = (uri.clone(), credentials.clone());
            async move { secured(&uri, &credentials).await.map(TokioIo::new) }
        }))
    }
}

async fn secured(uri: &Uri, credentials: &Credentials) -> Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default();
    let name =
        tls::server_name(credentials.server_name(host)).map_err(|fault| Error::invalid("server", fault))?;
    let config = credentials.tls(HTTP2)?;
    let failed = |error: std::io::Error| Error::unavailable(error.to_string());
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)
}

/// Puts the token into each call.
#[derive(Debug, Clone)]
pub(super) struct Proof(pub(super) Credentials);

impl Interceptor for Proof {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = self.0.authorization().map_err(|error| to_status(&error))? {
            let mut value = MetadataValue::try_from(value.as_bytes())
                .map_err(|_| to_status(&Error::internal("a token that is no header's value")))?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}
