//! A TCP proxy on the loopback address, in front of any server, that a test tells how the network is.
//!
//! ```text
//! client ──▶ Proxy ──▶ server      delay       what comes later by some time, pipelined: latency, and no limit of the rate
//!        ◀──       ◀──             cut         connections are reset
//!             ▲                    silence     connections stay open, and nothing comes through them any more
//!            test                  refuse      nobody listens
//!                                  heal        new connections are well again
//! ```
//!
//! It runs on a thread of its own, so that it takes no part in what the runtime of the test does, and keeps time by the kernel's timers
//! of a nanosecond, where tokio's are of a millisecond. With [`PostgresFaults`] it also reads what is said.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::oneshot;

mod connection;
mod frames;
mod line;
mod network;
mod postgres;
mod tap;

use network::{Gate, Network};
pub use postgres::{Fault, PostgresFaults};

/// The way that bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// A proxy in front of one server. Its connections are reset when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    /// Nothing is sent: the thread ends when this is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port for the server at `upstream`, and passes on what comes.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(upstream: SocketAddr) -> Result<Self> {
        Self::new(Ipv4Addr::LOCALHOST, upstream, None)
    }

    /// The same at another address of this machine, such as one that pods of a cluster here reach.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn reached_at(address: Ipv4Addr, upstream: SocketAddr) -> Result<Self> {
        Self::new(address, upstream, None)
    }

    /// The same, with so much more time for a question and its answer: half of it each way.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_round_trip(upstream: SocketAddr, time: Duration) -> Result<Self> {
        let proxy = Self::start(upstream)?;
        proxy.delay(Direction::ToServer, time / 2);
        proxy.delay(Direction::ToClient, time / 2);
        Ok(proxy)
    }

    /// In front of a PostgreSQL server, some of whose statements fare as `faults` says. Connections are not encrypted.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn with_faults(upstream: SocketAddr, faults: &Arc<PostgresFaults>) -> Result<Self> {
        Self::new(Ipv4Addr::LOCALHOST, upstream, Some(Arc::clone(faults)))
    }

    fn new(at: Ipv4Addr, upstream: SocketAddr, faults: Option<Arc<PostgresFaults>>) -> Result<Self> {
        let listener = TcpListener::bind((at, 0)).context("a port for a proxy")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let network = Arc::new(Network::new(upstream, faults));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("proxy".to_owned()).spawn({
            let network = Arc::clone(&network);
            move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = network.listen(listener, address) => {}
                        // An error means that the handle is gone, which is what is waited for.
                        _ = stopped => {}
                    }
                });
            }
        })?;
        Ok(Self { address, network, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes in `direction` comes so much later, from now on.
    pub fn delay(&self, direction: Direction, time: Duration) {
        self.network.delay(direction, time);
    }

    /// Resets all connections, and says how many. New ones are taken.
    pub fn cut(&self) -> usize {
        self.network.cut()
    }

    /// Half-open: the connections that there are stay open, and what is sent through them is lost, whichever way, for good; new ones are
    /// accepted and fare the same until [`heal`](Self::heal). Says how many there are.
    pub fn silence(&self) -> usize {
        self.network.set(Gate::Silent);
        self.network.silence()
    }

    /// Nobody listens any more; the connections that there are are reset. Says how many there were.
    pub fn refuse(&self) -> usize {
        self.network.set(Gate::Closed);
        self.network.cut()
    }

    /// New connections are taken and well; delays are no more. Connections that went silent stay so.
    pub fn heal(&self) {
        self.network.delay(Direction::ToServer, Duration::ZERO);
        self.network.delay(Direction::ToClient, Duration::ZERO);
        self.network.set(Gate::Open);
    }

    /// How many connections were taken since it started.
    pub fn connections(&self) -> u64 {
        self.network.taken.get()
    }

    /// How many bytes were lost in silent connections since it started.
    pub fn swallowed(&self) -> u64 {
        self.network.swallowed.get()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the thread of a proxy has panicked");
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    /// Adds to it, and gives what it was.
    fn add(&self, by: u64) -> u64 {
        self.0.fetch_add(by, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;

    /// Far more than anything here takes.
    const LONG: Duration = Duration::from_secs(20);

    /// Sends back what comes, on a thread for each connection, until all clients are gone.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut back = stream.try_clone().unwrap();
                stream.set_nodelay(true).unwrap();
                std::thread::spawn(move || {
                    // A connection that is reset ends it too.
                    let _ = std::io::copy(&mut stream, &mut back);
                    let _ = back.shutdown(std::net::Shutdown::Write);
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn round_trip(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<()> {
        stream.write_all(text)?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back)?;
        assert_eq!(back, text);
        Ok(())
    }

    fn is_silent(stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let read = round_trip(stream, b"hello?").map_err(|error| error.kind());
        read == Err(ErrorKind::WouldBlock)
    }

    #[test]
    fn what_is_sent_arrives_both_ways_and_so_does_the_end() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        let text: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761) as u8).collect();
        let mut writer = stream.try_clone().unwrap();
        let sent = text.clone();
        let writing = std::thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == text);
        assert_eq!(proxy.connections(), 1);
    }

    #[test]
    fn a_delay_is_latency_and_no_limit_of_the_rate() {
        let proxy = Proxy::with_round_trip(echo(), Duration::from_millis(2)).unwrap();
        let mut stream = connect(&proxy);
        round_trip(&mut stream, b"first").unwrap();
        let mut times: Vec<Duration> = (0..100)
            .map(|_| {
                let began = Instant::now();
                round_trip(&mut stream, b"ping").unwrap();
                began.elapsed()
            })
            .collect();
        times.sort();
        assert!(times[0] >= Duration::from_millis(2), "it was faster than the network: {:?}", times[0]);
        // The best of many is that of an idle moment: timers of a millisecond would give 4 ms.
        assert!(times[5] < Duration::from_micros(2_900), "{times:?}");

        // 200 questions that do not wait for one another take far less than 200 round trips.
        proxy.delay(Direction::ToServer, Duration::from_millis(100));
        let began = Instant::now();
        let mut writer = stream.try_clone().unwrap();
        let text = vec![7; 200 * 10_000];
        let writing =
            std::thread::spawn(move || text.chunks(10_000).for_each(|part| writer.write_all(part).unwrap()));
        let mut back = vec![0; 200 * 10_000];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn connections_are_cut_and_new_ones_taken() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = connect(&proxy);
        round_trip(&mut stream, b"hello").unwrap();
        assert_eq!(proxy.cut(), 1);
        let error = stream.read(&mut [0; 10]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        round_trip(&mut connect(&proxy), b"again").unwrap();
    }

    #[test]
    fn a_silent_connection_stays_silent_and_new_ones_are_well_after_healing() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut old = connect(&proxy);
        round_trip(&mut old, b"hello").unwrap();
        assert_eq!(proxy.silence(), 1);
        assert!(is_silent(&mut old));
        let mut meanwhile = connect(&proxy);
        assert!(is_silent(&mut meanwhile));
        proxy.heal();
        assert!(is_silent(&mut old) && is_silent(&mut meanwhile));
        round_trip(&mut connect(&proxy), b"again").unwrap();
        assert!(proxy.swallowed() >= 24);
    }

    #[test]
    fn nobody_listens_until_it_is_healed() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut old = connect(&proxy);
        round_trip(&mut old, b"hello").unwrap();
        proxy.refuse();
        assert_eq!(old.read(&mut [0; 10]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        let refused = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        let began = Instant::now();
        while !TcpStream::connect(proxy.address()).as_ref().is_err_and(refused) {
            assert!(began.elapsed() < LONG, "it still listens");
        }
        proxy.heal();
        while TcpStream::connect(proxy.address()).is_err() {
            assert!(began.elapsed() < LONG, "it does not listen again");
            std::thread::yield_now();
        }
        round_trip(&mut connect(&proxy), b"again").unwrap();
    }
}
