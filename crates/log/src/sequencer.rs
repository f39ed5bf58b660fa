//! Makes any [`LogStore`] a fast [`LogWriter`](crate::LogWriter).
//!
//! ```text
//!            check limits, digest                 one lane per partition
//! append ──▶ wait for room ──▶ bounded queue ──▶ gather while the last batch commits
//!    ▲                                            load versions that are not cached
//!    │                                            plan: repeat? expectation? versions and positions
//!    └──────────── answer ◀── durable ◀────────── one commit per batch, another on its way behind it
//! ```
//!
//! A lane is the only writer of its partition (the store's epochs see to it), so it checks expectations in memory
//! against the versions that it remembers. What it remembers is never trusted to refuse: before a request is refused,
//! its event ids and the version of its stream id are looked up in the store.

mod ahead;
mod commit;
mod lane;
mod plan;
mod stats;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Append, AppendLimits, Appended, Error, Partition, PartitionCount, Result};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::lane::Lane;
use self::plan::Request;
use self::stats::Counters;
pub use self::stats::SequencerStats;
use crate::{LogStore, LogWriter};

/// How much a [`Sequencer`] takes at once, and how much it remembers.
#[derive(Debug, Clone)]
pub struct SequencerOptions {
    /// What one append may hold.
    pub limits: AppendLimits,
    /// Requests that wait, per partition; further appends wait for room.
    pub queue_requests: usize,
    /// Bytes that wait, over all partitions; further appends wait for room.
    pub queue_bytes: usize,
    /// Events per commit. One request over it is still committed as one.
    pub batch_events: usize,
    /// Bytes per commit. One request over it is still committed as one.
    pub batch_bytes: usize,
    /// How long a commit takes during which another is sent behind it, where the store takes such.
    pub long_commit: Duration,
    /// Stream ids whose version is remembered, over all partitions.
    pub cached_streams: usize,
    /// Event ids that are remembered, over all partitions.
    pub cached_ids: usize,
    /// How often a batch is repeated whose fate is unknown, before the partition is acquired again to find out.
    pub repeats: u32,
    /// The pause before the first repetition; doubled, with jitter, up to a hundred times.
    pub pause: Duration,
}

impl Default for SequencerOptions {
    fn default() -> Self {
        Self {
            limits: AppendLimits::default(),
            queue_requests: 1_024,
            // A batch in flight, one that is gathered, and room for callers to prepare the next ones.
            queue_bytes: 64 << 20,
            // Some 20 ms of work for SQLite: more per commit gains nothing and lets the others wait longer.
            batch_events: 2_000,
            batch_bytes: 8 << 20,
            // Below, more is gained by more callers that share a commit.
            long_commit: Duration::from_micros(1_500),
            // About 10 MiB when full.
            cached_streams: 65_536,
            // About 3 MiB when full. A client that repeats does so soon.
            cached_ids: 16_384,
            repeats: 5,
            pause: Duration::from_millis(10),
        }
    }
}

/// Appends to a store with group commit. A cheap handle: clones share the lanes.
///
/// Call [`shutdown`](Self::shutdown) to finish what is queued and to join the lanes; when all handles are dropped instead, the
/// lanes finish by themselves.
#[derive(Clone)]
pub struct Sequencer(Arc<Shared>);

struct Shared {
    store: Arc<dyn LogStore>,
    partitions: PartitionCount,
    limits: AppendLimits,
    room: Arc<Semaphore>,
    most: u32,
    lanes: Vec<mpsc::Sender<Request>>,
    counters: Arc<Counters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sequencer {
    /// Starts one lane per partition on the current Tokio runtime. A lane acquires its partition with the first append.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(store: Arc<dyn LogStore>, options: SequencerOptions) -> Self {
        let descriptor = store.descriptor();
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let most = options.queue_bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        let lanes = descriptor
            .partitions
            .partitions()
            .map(|partition| {
                let (lane, inbox) = mpsc::channel(options.queue_requests.max(1));
                let store = Arc::clone(&store);
                tasks.spawn(
                    Lane::new(partition, store, &options, Arc::clone(&counters), stop.clone(), inbox).run(),
                );
                lane
            })
            .collect();
        tasks.close();
        Self(Arc::new(Shared {
            store,
            partitions: descriptor.partitions,
            limits: options.limits,
            room: Arc::new(Semaphore::new(most)),
            most: most as u32,
            lanes,
            counters,
            stop,
            tasks,
        }))
    }

    /// The log that is written, for reading.
    pub fn store(&self) -> &Arc<dyn LogStore> {
        &self.0.store
    }

    /// What one append may hold.
    pub fn limits(&self) -> &AppendLimits {
        &self.0.limits
    }

    /// What has been done so far.
    pub fn stats(&self) -> SequencerStats {
        self.0.counters.read()
    }

    /// Whether all lanes are there, for a process's readiness to follow.
    ///
    /// # Errors
    /// `Cancelled` after [`shutdown`](Self::shutdown). `Internal` when a lane has ended by itself, by a panic in the store: its
    /// partition takes no append any more, and the process has to be started again.
    pub fn check(&self) -> Result<()> {
        let ended =
            self.0.lanes.iter().zip(self.0.partitions.partitions()).find(|(lane, _)| lane.is_closed());
        match ended {
            _ if self.0.stop.is_cancelled() => Err(Error::Cancelled),
            Some((_, partition)) => Err(ended_by_itself(partition)),
            None => Ok(()),
        }
    }

    /// Waits until a lane has ended, whether by [`shutdown`](Self::shutdown) or by itself, and says as [`check`](Self::check) why.
    ///
    /// # Errors
    /// Always.
    pub async fn ended(&self) -> Result<()> {
        let lanes = self.0.lanes.iter().map(|lane| Box::pin(lane.closed()));
        futures_util::future::select_all(lanes).await;
        self.check()
    }

    /// Refuses new appends as `Cancelled`, writes those that are queued, and returns when all lanes have ended.
    pub async fn shutdown(&self) {
        self.0.room.close();
        self.0.stop.cancel();
        self.0.tasks.wait().await;
    }
}

/// A lane ends when it is told to; else it has met a panic.
fn ended_by_itself(partition: Partition) -> Error {
    Error::internal(format!(
        "nothing was stored: the task that writes partition {partition} has ended by itself; start the process again, and report this with its log"
    ))
}

#[async_trait]
impl LogWriter for Sequencer {
    async fn append(&self, request: Append) -> Result<Appended> {
        let shared = &*self.0;
        request.check(&shared.limits)?;
        let partition = shared.partitions.partition_of(&request.stream_id);
        let lane = &shared.lanes[partition.index()];
        // Digests are made here, by many callers at once, not in the lane.
        let digests = request.events.iter().map(|event| event.content_digest(&request.stream_id)).collect();
        let weight = Request::weight(&request).min(shared.most as usize) as u32;
        let room = Arc::clone(&shared.room).acquire_many_owned(weight).await.map_err(|_| Error::Cancelled)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { append: request, digests, answer, unsettled: false, _room: room };
        lane.send(request).await.map_err(|_| {
            if shared.stop.is_cancelled() { Error::Cancelled } else { ended_by_itself(partition) }
        })?;
        answered.await.unwrap_or_else(|_| {
            Err(Error::unavailable(
                "the append was taken, but the task that writes the partition ended before it answered; the events may have been stored: send them again with the same ids",
            ))
        })
    }
}

impl std::fmt::Debug for Sequencer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sequencer").field("partitions", &self.0.partitions).finish_non_exhaustive()
    }
}
