//! A port whose connections are TLS or plain text, for tonic's server.
//!
//! ```text
//! TcpListener ──▶ accept ──▶ handshakes, side by side ──▶ Connection {bytes, Peer} ──▶ server
//! ```

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::server::Connected;

use crate::tls::{Tls, names};

/// Handshakes take some milliseconds; who takes longer holds a place that others want.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Handshakes at a time. Further clients wait in the system's queue.
const HANDSHAKES: usize = 4_096;
/// After an error that is not one connection's, such as too many open files.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The other end's address.
    pub address: SocketAddr,
    /// What the client's certificate names it, verified; empty without one.
    pub names: Arc<[String]>,
}

/// Accepts connections. Dropped, it accepts no more.
#[derive(Debug)]
pub struct Listener {
    accepted: mpsc::Receiver<Connection>,
    _accepting: AbortOnDropHandle<()>,
}

impl Listener {
    /// Accepts on `listener`: TLS if there is `tls`, else plain text.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        let (sender, accepted) = mpsc::channel(1);
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, tls, sender)));
        Self { accepted, _accepting: accepting }
    }

    /// The next connection, ready to be served.
    pub async fn next(&mut self) -> Connection {
        match self.accepted.recv().await {
            Some(connection) => connection,
            // The runtime ends.
            None => std::future::pending().await,
        }
    }
}

async fn accept(listener: TcpListener, tls: Option<Tls>, accepted: mpsc::Sender<Connection>) {
    let mut handshakes = JoinSet::new();
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    let mut fails = false;
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => {
                if std::mem::take(&mut fails) {
                    tracing::info!("connections are accepted again");
                }
                accepted
            }
            Err(error) if is_of_connection(&error) => continue,
            Err(error) => {
                // Each try would say the same.
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(%error, "connections cannot be accepted; look at the limit of open files (ulimit -n)");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Without it, small answers wait for the other side's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "a connection was gone before it was served");
            continue;
        }
        let Some(tls) = &tls else {
            let peer = Peer { address, names: Arc::from([]) };
            if accepted.send(Connection { io: Io::Plain(stream), peer }).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (acceptor, accepted) = (TlsAcceptor::from(tls.current()), accepted.clone());
        handshakes.spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            match shaken {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let names = certificates.and_then(|it| it.first()).map(names).unwrap_or_default();
                    let peer = Peer { address, names: names.into() };
                    // Nobody takes it any more only when the server ends.
                    let _ = accepted.send(Connection { io: Io::Tls(Box::new(stream)), peer }).await;
                }
                Ok(Err(error)) => tracing::info!(%address, %error, "a connection has not come to TLS"),
                Err(_) => tracing::info!(%address, "a connection has not come to TLS within {HANDSHAKE:?}"),
            }
        });
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    io: Io,
    peer: Peer,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Plain(stream) => stream.is_write_vectored(),
            Io::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Io::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
