//! One connection through the proxy.
//!
//! ```text
//! client ──take──▶ (tap) ──line──▶ give──▶ server
//!        ◀──give──line── (tap) ◀──take──
//! ```

use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Direction;
use super::line::{PARCELS, Parcel, give};
use super::network::{Link, Network};
use super::tap::{Moves, Tap};

/// What is read at once.
const CHUNK: usize = 64 << 10;

/// Where what is taken goes.
struct Lines<'n> {
    network: &'n Network,
    link: &'n Link,
    tap: Option<Mutex<Tap>>,
    to_server: mpsc::Sender<Parcel>,
    to_client: mpsc::Sender<Parcel>,
}

/// Serves `client` until both ends have ended, one of them has broken off, or the test has it cut.
pub(super) async fn serve(mut client: TcpStream, network: &Network, link: &Link) {
    let Ok(mut server) = TcpStream::connect(network.upstream).await else {
        // The client sees what it would see of a host on which nobody listens any more.
        reset(&client);
        return;
    };
    // Where it cannot be set the connection is broken, which is met below.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let is_cut = {
        let (to_server, from_client) = mpsc::channel(PARCELS);
        let (to_client, from_server) = mpsc::channel(PARCELS);
        let tap = network.faults.clone().map(|faults| Mutex::new(Tap::new(faults)));
        let lines = Lines { network, link, tap, to_server, to_client };
        let (mut client_reads, mut client_writes) = client.split();
        let (mut server_reads, mut server_writes) = server.split();
        let both = async {
            tokio::try_join!(
                lines.take(Direction::ToServer, &mut client_reads),
                lines.take(Direction::ToClient, &mut server_reads),
                give(from_client, &mut server_writes, link),
                give(from_server, &mut client_writes, link),
            )
        };
        tokio::select! {
            done = both => done.is_err(),
            () = link.cut() => true,
        }
    };
    if is_cut {
        reset(&client);
        reset(&server);
    }
}

/// Has the connection reset when it is dropped.
pub(super) fn reset(stream: &TcpStream) {
    // It fails only on a connection that is gone.
    let _ = stream.set_zero_linger();
}

impl Lines<'_> {
    /// Takes what one end sends, until it ends.
    ///
    /// # Errors
    /// When the connection is broken off: by the end, or by the tap.
    async fn take(&self, direction: Direction, from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = from.read(&mut buffer).await?;
            if self.link.is_silent() {
                self.network.swallowed.add(read as u64);
                if read == 0 {
                    // The other end is not told.
                    return Ok(());
                }
                continue;
            }
            if read == 0 {
                return self.send(direction, Parcel::End(self.network.due(direction))).await;
            }
            let moves = match &self.tap {
                None => Moves::along(direction, buffer[..read].to_vec()),
                Some(tap) => {
                    let mut tap = tap.lock().unwrap_or_else(PoisonError::into_inner);
                    tap.hear(direction, &buffer[..read])
                }
            };
            for (direction, bytes) in
                [(Direction::ToServer, moves.to_server), (Direction::ToClient, moves.to_client)]
            {
                if !bytes.is_empty() {
                    self.send(direction, Parcel::Bytes(self.network.due(direction), bytes)).await?;
                }
            }
            if moves.cut {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
        }
    }

    async fn send(&self, direction: Direction, parcel: Parcel) -> std::io::Result<()> {
        let line = match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        };
        // Its reader has ended with what the sender ended with: the rest is for nobody.
        let _ = line.send(parcel).await;
        Ok(())
    }
}
