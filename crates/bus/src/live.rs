use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, Result};
use headwater_log::{
    Backoff, Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage, Tail,
    say_failure,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Bus, Feed, FeedBatch, FeedOptions, FeedStats};

/// Taken from the feed at once.
const BATCH: (usize, usize) = (1_024, 4 << 20);
/// The first pause after the log failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How often a feed that nobody waits for looks whether somebody does.
const AWAITED: Duration = Duration::from_millis(100);

/// A log as those see it who follow it: the past is read from the log itself, and what comes is brought by the bus, once a partition however many
/// read it.
///
/// ```text
///                      ┌── behind ──▶ the log
/// read_partition(after)┤
///                      └── near the end ──▶ the newest events ◀──▶ Feed ──▶ bus (and the log, for what the bus leaves out)
/// wait_beyond ─────────────────────────────────▲
/// ```
///
/// A page may end where the bus has got to, and not where the log ends: whoever needs what was just appended asks the log. A partition is
/// consumed from when somebody first waits for it, until nobody has for a while.
pub struct LiveReader {
    log: Arc<dyn LogReader>,
    bus: Arc<dyn Bus>,
    options: FeedOptions,
    edges: Vec<Arc<Edge>>,
}

/// The live end of one partition.
struct Edge {
    newest: Tail,
    stats: Mutex<Stats>,
    state: watch::Sender<State>,
    feeding: Mutex<Option<JoinHandle<()>>>,
}

/// What feeds have brought.
#[derive(Default)]
struct Stats {
    now: FeedStats,
    /// Of feeds that have ended.
    before: FeedStats,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// All up to here was brought; `None` before the feed has begun.
    reached: Option<Position>,
    /// The log has at least this.
    head: Position,
    /// Why nothing comes now.
    fault: Option<Error>,
}

/// How long a bus may bring nothing before the log is asked as well: one that is away says so only after seconds.
const SILENCE: Duration = Duration::from_secs(1);

impl LiveReader {
    /// Follows `log` by way of `bus`.
    pub fn new(log: Arc<dyn LogReader>, bus: Arc<dyn Bus>, options: FeedOptions) -> Self {
        let edge = |newest| {
            Arc::new(Edge {
                newest,
                stats: Mutex::default(),
                state: watch::Sender::default(),
                feeding: Mutex::default(),
            })
        };
        let edges = Tail::of_partitions(log.descriptor().partitions).into_iter().map(edge).collect();
        Self { log, bus, options, edges }
    }

    /// What was brought so far, over all partitions.
    pub fn stats(&self) -> FeedStats {
        self.edges.iter().fold(FeedStats::default(), |sum, edge| {
            let Stats { now, before } = *edge.stats();
            sum.and(before).and(now)
        })
    }

    /// How many partitions are followed now.
    pub fn followed(&self) -> usize {
        let is_followed =
            |edge: &&Arc<Edge>| edge.feeding.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.edges.iter().filter(is_followed).count()
    }

    fn edge(&self, partition: Partition) -> Result<&Arc<Edge>> {
        self.log.descriptor().partitions.check(u32::from(partition.get()))?;
        self.edges
            .get(partition.index())
            .ok_or_else(|| Error::internal("a partition without an edge; please report this"))
    }

    /// Sees to it that `partition` is consumed.
    fn begin(&self, partition: Partition, edge: &Arc<Edge>) {
        let mut feeding = edge.feeding.lock().unwrap_or_else(PoisonError::into_inner);
        if feeding.is_none() {
            let (log, bus, options) = (Arc::clone(&self.log), Arc::clone(&self.bus), self.options.clone());
            *feeding = Some(tokio::spawn(Arc::clone(edge).feed(log, bus, partition, options)));
        }
    }
}

impl Edge {
    fn stats(&self) -> std::sync::MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what comes, from the log's end on, until nobody has waited for it for a while.
    async fn feed(
        self: Arc<Self>,
        log: Arc<dyn LogReader>,
        bus: Arc<dyn Bus>,
        partition: Partition,
        options: FeedOptions,
    ) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut feed = None;
        let mut forsaken = pin!(self.forsaken(options.idle));
        loop {
            let brought = tokio::select! {
                brought = self.bring(&mut feed, &log, &bus, partition, &options) => brought,
                () = &mut forsaken => return,
            };
            let fault = match brought {
                Ok(()) => {
                    if backoff.reset() {
                        tracing::info!(%partition, "the event stream is followed again");
                    }
                    continue;
                }
                Err(fault) => fault,
            };
            let is_first = backoff.is_unused();
            let pause = backoff.pause();
            say_failure!(is_first, %partition, error = %fault, ?pause, "the event stream cannot be followed for now, and is tried again");
            self.state.send_modify(|state| state.fault = Some(fault));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut forsaken => return,
            }
        }
    }

    /// Ends only when nobody has waited for so long; then nothing of the feed is left, and the next to wait begins another.
    async fn forsaken(&self, idle: Duration) {
        loop {
            self.state.closed().await;
            if tokio::time::timeout(idle, self.awaited()).await.is_ok() {
                continue;
            }
            // Whoever begins one holds this, and waits already.
            let mut feeding = self.feeding.lock().unwrap_or_else(PoisonError::into_inner);
            if self.state.receiver_count() > 0 {
                continue;
            }
            *feeding = None;
            self.newest.clear();
            let mut stats = self.stats();
            *stats = Stats { now: FeedStats::default(), before: stats.before.and(stats.now) };
            self.state.send_replace(State::default());
            return;
        }
    }

    /// Waits until somebody waits.
    async fn awaited(&self) {
        while self.state.receiver_count() == 0 {
            tokio::time::sleep(AWAITED).await;
        }
    }

    async fn bring(
        &self,
        feed: &mut Option<Feed>,
        log: &Arc<dyn LogReader>,
        bus: &Arc<dyn Bus>,
        partition: Partition,
        options: &FeedOptions,
    ) -> Result<()> {
        let feed = if let Some(feed) = feed {
            feed
        } else {
            let heads = log.heads().await?;
            let end = heads.get(partition.index()).map(|head| head.position).unwrap_or_default();
            self.state.send_modify(|state| *state = State { reached: Some(end), head: end, fault: None });
            feed.insert(Feed::new(Arc::clone(log), Arc::clone(bus), partition, end, options.clone()))
        };
        let (events, bytes) = BATCH;
        let FeedBatch { events, .. } = feed.next_batch(events, bytes).await?;
        let reached = feed.position();
        self.stats().now = feed.stats();
        self.newest.push(events);
        let head = feed.head().max(reached);
        self.state.send_modify(|state| *state = State { reached: Some(reached), head, fault: None });
        Ok(())
    }
}

impl Drop for LiveReader {
    fn drop(&mut self) {
        for edge in &self.edges {
            if let Some(feeding) = edge.feeding.lock().unwrap_or_else(PoisonError::into_inner).take() {
                feeding.abort();
            }
        }
    }
}

#[async_trait]
impl LogReader for LiveReader {
    fn descriptor(&self) -> LogDescriptor {
        self.log.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.log.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        let edge = self.edge(request.partition)?;
        let head = {
            // One guard: a second one would wait behind a writer that waits for the first.
            let state = edge.state.borrow();
            state.reached.unwrap_or_default().max(state.head)
        };
        match edge.newest.page(&request, head) {
            Some(page) => {
                // Nothing here waits: whoever asks again and again still lets others run.
                tokio::task::consume_budget().await;
                Ok(page)
            }
            None => self.log.read_partition(request).await,
        }
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.log.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.log.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        let edge = self.edge(partition)?;
        let mut state = edge.state.subscribe();
        self.begin(partition, edge);
        let is_brought = |state: &State| {
            state.fault.is_none() && state.reached.is_some_and(|reached| reached.max(state.head) > position)
        };
        let gone =
            |_| Error::internal("a partition's edge is gone while it is waited for; please report this");
        let told = state.wait_for(|state| state.fault.is_some() || is_brought(state));
        if let Ok(state) = tokio::time::timeout(SILENCE, told).await {
            let state = state.map_err(gone)?;
            if state.fault.is_none() {
                return Ok(state.head);
            }
        }
        // Nothing comes by the bus for now, whether it says so or not: the log itself is asked beside it.
        tokio::select! {
            biased;
            brought = state.wait_for(is_brought) => brought.map(|state| state.head).map_err(gone),
            beyond = self.log.wait_beyond(partition, position) => beyond,
        }
    }
}

impl std::fmt::Debug for LiveReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveReader").field("log", &self.log.descriptor()).finish_non_exhaustive()
    }
}
