//! What a test says of the network, and the connections that fare so.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::postgres::PostgresFaults;
use super::{Counter, Direction, connection};

/// How new connections are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    Silent,
    Closed,
}

/// Tries to have a port again that somebody else may have for a moment.
const REBIND: Duration = Duration::from_millis(5);

pub(super) struct Network {
    pub(super) upstream: SocketAddr,
    pub(super) faults: Option<Arc<PostgresFaults>>,
    pub(super) taken: Counter,
    pub(super) swallowed: Counter,
    gate: watch::Sender<Gate>,
    /// Nanoseconds.
    to_server: AtomicU64,
    to_client: AtomicU64,
    links: Mutex<Vec<Weak<Link>>>,
}

/// How one connection fares.
#[derive(Debug, Default)]
pub(super) struct Link {
    silent: AtomicBool,
    cut: Notify,
}

impl Link {
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }

    /// Waits until it is cut.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }
}

impl Network {
    pub(super) fn new(upstream: SocketAddr, faults: Option<Arc<PostgresFaults>>) -> Self {
        Self {
            upstream,
            faults,
            taken: Counter::default(),
            swallowed: Counter::default(),
            gate: watch::Sender::new(Gate::Open),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            links: Mutex::default(),
        }
    }

    fn delay_of(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    pub(super) fn delay(&self, direction: Direction, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.delay_of(direction).store(nanos, Ordering::Relaxed);
    }

    /// When what is taken now is to be given on; `None` is at once.
    pub(super) fn due(&self, direction: Direction) -> Option<Instant> {
        let nanos = self.delay_of(direction).load(Ordering::Relaxed);
        (nanos > 0).then(|| Instant::now() + Duration::from_nanos(nanos))
    }

    pub(super) fn set(&self, gate: Gate) {
        // Under the lock of the connections: none slips through between what is said of new ones and what becomes of the others.
        let _links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        self.gate.send_replace(gate);
    }

    pub(super) fn cut(&self) -> usize {
        self.each(|link| link.cut.notify_one())
    }

    pub(super) fn silence(&self) -> usize {
        self.each(|link| link.silent.store(true, Ordering::Release))
    }

    fn each(&self, say: impl Fn(&Link)) -> usize {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).map(|link| say(&link)).count()
    }

    /// Takes connections at `address`, for ever.
    pub(super) async fn listen(self: &Arc<Self>, listener: std::net::TcpListener, address: SocketAddr) {
        let mut gate = self.gate.subscribe();
        let mut connections = JoinSet::new();
        let mut listener = TcpListener::from_std(listener).ok();
        loop {
            if *gate.borrow_and_update() == Gate::Closed {
                listener = None;
                // The sender is ours.
                let _ = gate.changed().await;
                continue;
            }
            let Some(listening) = &listener else {
                listener = TcpListener::bind(address).await.ok();
                if listener.is_none() {
                    tokio::time::sleep(REBIND).await;
                }
                continue;
            };
            tokio::select! {
                _ = gate.changed() => {}
                taken = listening.accept() => {
                    if let Ok((client, _)) = taken {
                        self.take(client, &mut connections);
                    }
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    fn take(self: &Arc<Self>, client: TcpStream, connections: &mut JoinSet<()>) {
        let link = Arc::new(Link::default());
        {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            match *self.gate.borrow() {
                Gate::Open => {}
                Gate::Silent => link.silent.store(true, Ordering::Release),
                Gate::Closed => {
                    connection::reset(&client);
                    return;
                }
            }
            links.push(Arc::downgrade(&link));
        }
        self.taken.add(1);
        let network = Arc::clone(self);
        connections.spawn(async move { connection::serve(client, &network, &link).await });
    }
}
