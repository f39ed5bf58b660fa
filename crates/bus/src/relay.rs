use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, Result};
use headwater_log::{Backoff, Epoch, Filter, LogReader, PartitionPage, ReadPartition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Checkpoint, Reached, RelayState};

/// How a [`Relay`] goes about it.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Events that are published before the checkpoint moves.
    pub batch_events: usize,
    /// Bytes of them.
    pub batch_bytes: usize,
    /// The first pause after a failure, and the longest.
    pub pause: (Duration, Duration),
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch_events: 500,
            batch_bytes: 4 << 20,
            pause: (Duration::from_millis(50), Duration::from_secs(5)),
        }
    }
}

/// What a relay has done since it started, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RelayStats {
    /// Events that were published, repeats included.
    pub published: u64,
    /// Times that the broker had lost what it had acknowledged.
    pub lost: u64,
    /// Failed attempts.
    pub failures: u64,
}

/// Publishes a log's events to a bus: each partition in position order, at least once, from a checkpoint.
///
/// ```text
/// load checkpoint ─▶ ask the broker what it holds ─▶ read after it ─▶ publish ─▶ save checkpoint ─┐
///                                                       ▲                                         │
///                                                       └──────────── wait for more ◀─────────────┘
/// ```
///
/// The log does not wait for it: while a broker is down, events are stored, and published afterwards.
pub struct Relay {
    reader: Arc<dyn LogReader>,
    bus: Arc<dyn Bus>,
    state: Arc<dyn RelayState>,
    options: RelayOptions,
    relayed: Vec<watch::Sender<Position>>,
    published: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
}

impl Relay {
    /// A relay from `reader` to `bus`; [`run`](Self::run) starts one partition.
    pub fn new(
        reader: Arc<dyn LogReader>,
        bus: Arc<dyn Bus>,
        state: Arc<dyn RelayState>,
        options: RelayOptions,
    ) -> Self {
        let partitions = reader.descriptor().partitions.partitions();
        let relayed = partitions.map(|_| watch::Sender::new(Position::ZERO)).collect();
        let (published, lost, failures) = Default::default();
        Self { reader, bus, state, options, relayed, published, lost, failures }
    }

    /// How far `partition` has been relayed by this relay; changes are announced. 0 until it has loaded its checkpoint.
    pub fn relayed(&self, partition: Partition) -> watch::Receiver<Position> {
        self.relayed[partition.index()].subscribe()
    }

    /// What has been done so far, over all partitions.
    pub fn stats(&self) -> RelayStats {
        RelayStats {
            published: self.published.load(Ordering::Relaxed),
            lost: self.lost.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Relays `partition` under `epoch` until `stop`. What can be retried is, without end. When it stops, nothing more is handed to the
    /// broker; what is in flight may still arrive.
    ///
    /// # Errors
    /// What cannot be retried: `FailedPrecondition` when another relay has taken over, or the broker is not as it must be.
    pub async fn run(&self, partition: Partition, epoch: Epoch, stop: &CancellationToken) -> Result<()> {
        let (first, longest) = self.options.pause;
        let mut backoff = Backoff::new(first, longest);
        loop {
            let before = *self.relayed[partition.index()].borrow();
            let failed = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                Err(error) = self.session(partition, epoch) => error,
            };
            if !failed.is_retryable() {
                return Err(failed);
            }
            self.failures.fetch_add(1, Ordering::Relaxed);
            if *self.relayed[partition.index()].borrow() > before {
                backoff = Backoff::new(first, longest);
            }
            let pause = backoff.pause();
            tracing::warn!(%partition, error = %failed, ?pause, "relaying failed and will be tried again");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A log that was restored from an older backup writes other events at positions that the bus has already carried.
    async fn check_head(&self, partition: Partition, relayed: Position) -> Result<()> {
        let heads = self.reader.heads().await?;
        let head = heads.get(partition.index()).map(|head| head.position).unwrap_or_default();
        if relayed > head {
            return Err(Error::failed_precondition(format!(
                "the bus has events of partition {partition} up to position {relayed}, and the log ends at {head}: it was restored from an older \
                 backup; give the event stream a topic or stream of another name on the bus, so that consumers see where it parts"
            )));
        }
        Ok(())
    }

    /// From the checkpoint on, until something fails.
    async fn session(&self, partition: Partition, epoch: Epoch) -> Result<std::convert::Infallible> {
        let mut checkpoint = self.state.load(partition, epoch).await?;
        match self.bus.reached(partition, &checkpoint).await? {
            Reached::UpTo(position) => checkpoint.position = position,
            Reached::Lost(position) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %partition, acknowledged = %checkpoint.position, there = %position,
                    "the broker has lost events that it had acknowledged; they are published again"
                );
                checkpoint.position = position;
            }
        }
        self.check_head(partition, checkpoint.position).await?;
        let relayed = &self.relayed[partition.index()];
        relayed.send_replace(checkpoint.position);
        let mut page = self.read(partition, checkpoint.position).await?;
        loop {
            let Some(last) = page.events.last() else {
                self.reader.wait_beyond(partition, checkpoint.position).await?;
                page = self.read(partition, checkpoint.position).await?;
                continue;
            };
            let reference = self.bus.publish(&page.events).await?;
            self.published.fetch_add(page.events.len() as u64, Ordering::Relaxed);
            checkpoint = Checkpoint { position: last.position, reference: Some(reference) };
            // What comes next is not published before it is known that this relay is still the one.
            let saving = self.state.save(partition, epoch, checkpoint.clone());
            let ((), next) = tokio::try_join!(saving, self.read(partition, checkpoint.position))?;
            relayed.send_replace(checkpoint.position);
            page = next;
        }
    }

    async fn read(&self, partition: Partition, after: Position) -> Result<PartitionPage> {
        let request = ReadPartition {
            partition,
            after,
            up_to: None,
            filter: Filter::default(),
            limit: self.options.batch_events,
            max_bytes: self.options.batch_bytes,
        };
        self.reader.read_partition(request).await
    }
}

/// What a relay is told that another has taken over from.
pub fn superseded(partition: Partition, epoch: Epoch) -> Error {
    Error::failed_precondition(format!(
        "the relay of partition {partition} runs under epoch {}, and a newer one has taken over; stop this one",
        epoch.0
    ))
}

/// Checkpoints in memory: for a bus that lives no longer than the process, and for tests.
#[derive(Debug, Default)]
pub struct MemoryRelayState(Mutex<HashMap<Partition, (Epoch, Checkpoint)>>);

impl MemoryRelayState {
    fn enter<T>(
        &self,
        partition: Partition,
        epoch: Epoch,
        with: impl FnOnce(&mut Checkpoint) -> T,
    ) -> Result<T> {
        let mut checkpoints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (newest, checkpoint) = checkpoints.entry(partition).or_default();
        if epoch < *newest {
            return Err(superseded(partition, epoch));
        }
        *newest = epoch;
        Ok(with(checkpoint))
    }
}

#[async_trait]
impl RelayState for MemoryRelayState {
    async fn load(&self, partition: Partition, epoch: Epoch) -> Result<Checkpoint> {
        self.enter(partition, epoch, |checkpoint| checkpoint.clone())
    }

    async fn save(&self, partition: Partition, epoch: Epoch, checkpoint: Checkpoint) -> Result<()> {
        self.enter(partition, epoch, |stored| *stored = checkpoint)
    }
}
