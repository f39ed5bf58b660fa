//! Connections to participants, kept while they are of use.
//!
//! ```text
//! URI ──▶ Connections ──▶ Client (pool) ──▶ TLS, for the URI's host ──▶ TCP, to where Surroundings say it is
//! ```

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use headwater_api::tls;
use headwater_core::Result;
use headwater_resources::shared::{ClientTls, TlsMode};
use http::Uri;
use http::uri::{Authority, Scheme};
use hyper_rustls::{DefaultServerNameResolver, FixedServerNameResolver, HttpsConnector};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tonic::body::Body;
use tower::{BoxError, Service};

use super::tls::Files;
use super::{Answer, Surroundings};

/// Routes whose connections are kept. Definitions name few; an old definition's are let go when there are many.
const MAX_ROUTES: usize = 256;

/// How long a connection is kept that nobody uses. Shorter than what servers usually allow, so that they seldom close first.
const IDLE: Duration = Duration::from_secs(30);

/// How long one connection may take, whatever the call's own time-out is.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection of HTTP/2 with open calls is asked whether it lives, and how long it has to say so. Without, a host that
/// is gone would hold all calls on it until their time-outs, again and again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Bytes of an answer's headers: they are kept in the history.
const MAX_HEADERS: u32 = 64 << 10;

/// Sends requests over connections that it keeps.
pub(super) type Client = legacy::Client<HttpsConnector<Towards>, Body>;

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    /// HTTP/1.1, or HTTP/2 where TLS agrees on it.
    Http,
    /// HTTP/2.
    Grpc,
}

/// What connections have in common: they may stand in for one another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Route {
    protocol: Protocol,
    address: Option<Authority>,
    tls: Option<ClientTls>,
}

/// The clients by route.
pub(super) struct Connections {
    surroundings: Arc<dyn Surroundings>,
    /// For connections in plain text, which their connector wants to be told as well: it trusts nobody.
    plain: Arc<ClientConfig>,
    /// With the digest of the files that a client was made with.
    clients: Mutex<HashMap<Route, ([u8; 32], Client)>>,
}

impl Connections {
    pub(super) fn new(surroundings: Arc<dyn Surroundings>) -> Result<Self> {
        let plain = tls::builder()?.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Ok(Self { surroundings, plain: Arc::new(plain), clients: Mutex::default() })
    }

    /// What sends requests to `uri`, and where it connects to when that is not the URI's host.
    ///
    /// # Errors
    /// What to answer instead.
    pub(super) fn client(
        &self,
        protocol: Protocol,
        uri: &Uri,
        tls: Option<&ClientTls>,
    ) -> Result<(Client, Option<Authority>), Answer> {
        let address = self.address(uri)?;
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let tls = match tls {
            _ if !secure => None,
            Some(tls) => Some(tls.clone()),
            None => Some(ClientTls {
                mode: TlsMode::VerifyFull,
                ca_ref: None,
                client_cert_secret_ref: None,
                server_name: None,
            }),
        };
        let files = match &tls {
            Some(tls) => Files::read(tls, &*self.surroundings).map_err(|error| {
                Answer::unanswered(format!("the connection's TLS is not complete: {error}"))
            })?,
            None => Files::default(),
        };
        let digest = files.digest();
        let route = Route { protocol, address: address.clone(), tls };

        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, client)) = clients.get(&route)
            && *of == digest
        {
            return Ok((client.clone(), address));
        }
        let client = self.connect(&route, &files)?;
        if clients.len() >= MAX_ROUTES {
            clients.clear();
        }
        clients.insert(route, (digest, client.clone()));
        Ok((client, address))
    }

    /// Where the URI's host is, when that is not what it says.
    fn address(&self, uri: &Uri) -> Result<Option<Authority>, Answer> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        let port = uri.port_u16().unwrap_or(if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
        let Some(address) =
            self.surroundings.address(&format!("{host}:{port}")).or_else(|| self.surroundings.address(host))
        else {
            return Ok(None);
        };
        match address.parse::<Authority>() {
            Ok(authority) if authority.port_u16().is_some() => Ok(Some(authority)),
            _ => Err(Answer::unanswered(format!(
                "{host} is said to be at \"{address}\", which is no HOST:PORT"
            ))),
        }
    }

    fn connect(&self, route: &Route, files: &Files) -> Result<Client, Answer> {
        let protocols: &[&[u8]] = match route.protocol {
            Protocol::Http => &[b"h2", b"http/1.1"],
            Protocol::Grpc => &[b"h2"],
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let address = route.address.as_ref().map(|address| {
            Uri::builder().scheme(Scheme::HTTP).authority(address.clone()).path_and_query("/").build()
        });
        let address = address.transpose().map_err(|error| Answer::unanswered(error.to_string()))?;
        let towards = Towards { tcp, address };
        let config = match &route.tls {
            None => self.plain.clone(),
            Some(tls) => match files.config(tls.mode, protocols) {
                Ok(config) => Arc::new(config),
                Err(fault) => return Err(Answer::unanswered(format!("the connection's TLS: {fault}"))),
            },
        };
        let names: Arc<dyn hyper_rustls::ResolveServerName + Send + Sync> =
            match route.tls.as_ref().and_then(|tls| tls.server_name.as_ref()) {
                None => Arc::new(DefaultServerNameResolver::default()),
                Some(name) => Arc::new(FixedServerNameResolver::new(
                    ServerName::try_from(name.clone())
                        .map_err(|_| Answer::failure(format!("tls.serverName \"{name}\" is no host name")))?,
                )),
            };
        let connector = HttpsConnector::new(towards, config, false, names);
        Ok(legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http1_max_buf_size(MAX_HEADERS as usize)
            .http2_max_header_list_size(MAX_HEADERS)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_only(route.protocol == Protocol::Grpc)
            .build(connector))
    }
}

/// Connects to where a host is, which may be elsewhere than its name says.
#[derive(Clone)]
pub(super) struct Towards {
    tcp: HttpConnector,
    address: Option<Uri>,
}

impl Service<Uri> for Towards {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(self.address.clone().unwrap_or(uri));
        Box::pin(async move { connecting.await.map_err(Into::into) })
    }
}
