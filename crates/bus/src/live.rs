use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, RecordedEvent, Result};
use headwater_log::{
    Backoff, Head, LogDescriptor, LogReader, PartitionPage, ReadPartition, ReadStream, StreamPage,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{Bus, Feed, FeedBatch, FeedOptions, FeedStats};

/// The newest events that are kept of each partition: what its readers are behind one another, at the live edge.
const KEPT_EVENTS: usize = 4_096;
/// And bytes of them.
const KEPT_BYTES: usize = 16 << 20;
/// Taken from the feed at once.
const BATCH: (usize, usize) = (1_024, 4 << 20);
/// The first pause after the log failed, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

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
/// consumed from when somebody first waits for it.
pub struct LiveReader {
    log: Arc<dyn LogReader>,
    bus: Arc<dyn Bus>,
    options: FeedOptions,
    edges: Vec<Arc<Edge>>,
}

/// The live end of one partition.
#[derive(Default)]
struct Edge {
    newest: Mutex<Newest>,
    state: watch::Sender<State>,
    feeding: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Newest {
    events: VecDeque<RecordedEvent>,
    bytes: usize,
    stats: FeedStats,
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

impl LiveReader {
    /// Follows `log` by way of `bus`.
    pub fn new(log: Arc<dyn LogReader>, bus: Arc<dyn Bus>, options: FeedOptions) -> Self {
        let edges = log.descriptor().partitions.partitions().map(|_| Arc::default()).collect();
        Self { log, bus, options, edges }
    }

    /// What was brought so far, over all partitions.
    pub fn stats(&self) -> FeedStats {
        let mut sum = FeedStats::default();
        for edge in &self.edges {
            let FeedStats { from_bus, from_log, repeats, holes, failures } = edge.newest().stats;
            sum.from_bus += from_bus;
            sum.from_log += from_log;
            sum.repeats += repeats;
            sum.holes += holes;
            sum.failures += failures;
        }
        sum
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
    // What is kept is whole after every push.
    fn newest(&self) -> std::sync::MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings what comes, from the log's end on. Never ends.
    async fn feed(
        self: Arc<Self>,
        log: Arc<dyn LogReader>,
        bus: Arc<dyn Bus>,
        partition: Partition,
        options: FeedOptions,
    ) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        let mut feed = None;
        loop {
            let brought = self.bring(&mut feed, &log, &bus, partition, &options).await;
            let fault = match brought {
                Ok(()) => {
                    backoff = Backoff::new(PAUSE.0, PAUSE.1);
                    continue;
                }
                Err(fault) => fault,
            };
            let pause = backoff.pause();
            tracing::warn!(%partition, error = %fault, ?pause, "the event stream cannot be followed for now, and is tried again");
            self.state.send_modify(|state| state.fault = Some(fault));
            tokio::time::sleep(pause).await;
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
        {
            let mut newest = self.newest();
            newest.stats = feed.stats();
            for event in events {
                newest.bytes += size(&event);
                newest.events.push_back(event);
            }
            while newest.events.len() > KEPT_EVENTS || newest.bytes > KEPT_BYTES {
                let Some(oldest) = newest.events.pop_front() else { break };
                newest.bytes -= size(&oldest);
            }
        }
        let head = feed.head().max(reached);
        self.state.send_modify(|state| *state = State { reached: Some(reached), head, fault: None });
        Ok(())
    }

    /// The page that `request` asks for, if all of it is kept.
    fn page(&self, request: &ReadPartition) -> Option<PartitionPage> {
        let newest = self.newest();
        let (first, last) = (newest.events.front()?.position, newest.events.back()?.position);
        if request.after < Position::new(first.get() - 1) || request.after >= last {
            return None;
        }
        let skipped = (request.after.get() + 1 - first.get()) as usize;
        let up_to = request.up_to.unwrap_or(last).min(last);
        let mut page = PartitionPage {
            events: Vec::new(),
            reached: request.after,
            head: self.state.borrow().head.max(last),
        };
        let mut bytes = 0;
        for event in newest.events.range(skipped..) {
            if event.position > up_to || page.events.len() >= request.limit {
                break;
            }
            if request.filter.matches(event.event_type.as_str(), event.stream_id.as_str()) {
                bytes += size(event);
                if bytes > request.max_bytes && !page.events.is_empty() {
                    break;
                }
                page.events.push(event.clone());
            }
            page.reached = event.position;
        }
        Some(page)
    }
}

fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.as_bytes().len()
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
        match self.edge(request.partition)?.page(&request) {
            Some(page) => Ok(page),
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
        let is_told = |state: &State| {
            state.fault.is_some() || state.reached.is_some_and(|reached| reached.max(state.head) > position)
        };
        let gone =
            |_| Error::internal("a partition's edge is gone while it is waited for; please report this");
        let state = state.wait_for(is_told).await.map_err(gone)?;
        match &state.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(state.head),
        }
    }
}

impl std::fmt::Debug for LiveReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveReader").field("log", &self.log.descriptor()).finish_non_exhaustive()
    }
}
