use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{BackendFault, Error, Partition, Position, Result};
use headwater_log::{Backoff, Epoch, Filter, LogReader, PartitionPage, ReadPartition, say_failure};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Checkpoint, Last, Reached, RelayState};

/// How long a relay that is to stop waits for its last checkpoint to be saved.
const LAST_SAVE: Duration = Duration::from_secs(1);

/// How a [`Relay`] goes about it.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Events that are published at once.
    pub batch_events: usize,
    /// Bytes of them.
    pub batch_bytes: usize,
    /// The shortest time from one saved checkpoint to the next.
    pub save_every: Duration,
    /// The first pause after a failure, and the longest.
    pub pause: (Duration, Duration),
    /// How long nothing may be published before the bus is asked whether it still has what it had.
    pub look_every: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch_events: 500,
            batch_bytes: 4 << 20,
            // A tenth of a second of events is looked through in milliseconds.
            save_every: Duration::from_millis(100),
            pause: (Duration::from_millis(50), Duration::from_secs(5)),
            // A question or two to the broker for each partition.
            look_every: Duration::from_secs(20),
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
    /// Failed attempts, whatever for.
    pub failures: u64,
}

/// Publishes a log's events to a bus: each partition in position order, at least once, from a checkpoint.
///
/// ```text
/// load checkpoint ─▶ ask the broker what it holds ─▶ read after it ─▶ publish ─▶ wait for more ─┐
///                            ▲                          ▲               │          │            │
///                            └──── it has less than it had, or failed ──│──────────┘            │
///                                                       └───────────────│───────────────────────┘
///                                                                       └─▶ save checkpoint, now and then
/// ```
///
/// A checkpoint that is behind costs the next relay a look at what came after it, and nobody a repeat; so it is saved beside the publishing,
/// and not in its way. What is published meanwhile by one that was superseded comes in order too: every relay carries the same log.
///
/// The log does not wait for it: while a broker is down, events are stored, and published afterwards.
pub struct Relay {
    reader: Arc<dyn LogReader>,
    bus: Arc<dyn Bus>,
    state: Arc<dyn RelayState>,
    options: RelayOptions,
    relayed: Vec<watch::Sender<Position>>,
    told: Vec<Mutex<Told>>,
    published: AtomicU64,
    lost: AtomicU64,
    failures: AtomicU64,
}

/// What is told of a partition.
#[derive(Debug, Default)]
struct Told {
    /// Why nothing has been published since.
    fault: Option<Error>,
    /// From which checkpoint a loss was counted: what is tried again is no other loss.
    lost: Option<Checkpoint>,
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
        let told = reader.descriptor().partitions.partitions().map(|_| Mutex::default()).collect();
        let (published, lost, failures) = Default::default();
        Self { reader, bus, state, options, relayed, told, published, lost, failures }
    }

    /// How far `partition` has been relayed by this relay; changes are announced. 0 until it has loaded its checkpoint.
    pub fn relayed(&self, partition: Partition) -> watch::Receiver<Position> {
        self.relayed[partition.index()].subscribe()
    }

    /// Why the last attempt to relay `partition` failed; `None` once something was published, or there was nothing to publish.
    pub fn fault(&self, partition: Partition) -> Option<Error> {
        self.told(partition).fault.clone()
    }

    fn told(&self, partition: Partition) -> MutexGuard<'_, Told> {
        // What is kept is whole, whoever panicked.
        self.told[partition.index()].lock().unwrap_or_else(PoisonError::into_inner)
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
        let published = watch::Sender::new(None);
        loop {
            let before = *self.relayed[partition.index()].borrow();
            let failed = tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.save_last(partition, epoch, &published).await;
                    return Ok(());
                }
                Err(error) = self.session(partition, epoch, &published) => error,
            };
            self.failures.fetch_add(1, Ordering::Relaxed);
            self.told(partition).fault = Some(failed.clone());
            if !failed.is_retryable() {
                return Err(failed);
            }
            if *self.relayed[partition.index()].borrow() > before {
                backoff.reset();
            }
            let is_first = backoff.is_unused();
            let pause = backoff.pause();
            say_failure!(is_first, %partition, error = %failed, ?pause, "relaying failed and will be tried again");
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Where the next one goes on. It would find out by itself, so a failure matters little.
    async fn save_last(
        &self,
        partition: Partition,
        epoch: Epoch,
        published: &watch::Sender<Option<Checkpoint>>,
    ) {
        let last = published.borrow().clone();
        let Some(checkpoint) = last else { return };
        let saving = self.state.save(partition, epoch, checkpoint);
        match tokio::time::timeout(LAST_SAVE, saving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%partition, %error, "the relay's last checkpoint was not saved");
            }
            Err(_) => tracing::debug!(%partition, "the relay's last checkpoint was not saved in time"),
        }
    }

    /// A log that was restored from an older backup writes other events at positions that the bus has already carried.
    async fn check_log(&self, partition: Partition, last: Last) -> Result<()> {
        const REMEDY: &str = "it was restored from an older backup; give the event stream a topic or stream of another name on the bus, so that consumers \
             see where it parts";
        let relayed = last.position;
        let heads = self.reader.heads().await?;
        let head = heads.get(partition.index()).map(|head| head.position).unwrap_or_default();
        if relayed > head {
            return Err(Error::failed_precondition(format!(
                "the bus has events of partition {partition} up to position {relayed}, and the log ends at {head}: {REMEDY}"
            )));
        }
        let Some(id) = last.id else { return Ok(()) };
        let before = Position::new(relayed.get().saturating_sub(1));
        let page = self.read_at_most(partition, before, 1).await?;
        match page.events.first() {
            Some(event) if event.position == relayed && event.id != id => {
                Err(Error::failed_precondition(format!(
                    "at position {relayed} of partition {partition} the bus has event {id}, and the log has event {}: {REMEDY}",
                    event.id
                )))
            }
            _ => Ok(()),
        }
    }

    /// From the checkpoint on, until something fails.
    async fn session(
        &self,
        partition: Partition,
        epoch: Epoch,
        published: &watch::Sender<Option<Checkpoint>>,
    ) -> Result<Infallible> {
        let mut checkpoint = self.state.load(partition, epoch).await?;
        let last = match self.bus.reached(partition, &checkpoint).await? {
            // Of what is beyond the checkpoint it is not known where it is: what is saved stays as it was.
            Reached::UpTo(last) => last,
            Reached::Lost(last) => {
                self.count_lost(partition, &checkpoint, last);
                checkpoint = Checkpoint { position: last.position, reference: None };
                last
            }
        };
        self.check_log(partition, last).await?;
        self.relayed[partition.index()].send_replace(last.position);
        published.send_replace(Some(checkpoint));
        let publishing = self.publish(partition, last.position, published);
        let saving = self.save(partition, epoch, published.subscribe());
        tokio::try_join!(publishing, saving).map(|(never, _)| never)
    }

    fn count_lost(&self, partition: Partition, acknowledged: &Checkpoint, last: Last) {
        let mut told = self.told(partition);
        if told.lost.as_ref() == Some(acknowledged) {
            return;
        }
        told.lost = Some(acknowledged.clone());
        self.lost.fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            %partition, acknowledged = %acknowledged.position, there = %last.position,
            "the broker has lost events that it had acknowledged; they are published again"
        );
    }

    /// Whether the bus still has all up to `position`, while nothing is published that would show it.
    async fn look(
        &self,
        partition: Partition,
        position: Position,
        published: &watch::Sender<Option<Checkpoint>>,
    ) -> Result<()> {
        let checkpoint = published.borrow().clone().unwrap_or_default();
        match self.bus.reached(partition, &checkpoint).await? {
            Reached::UpTo(last) if last.position >= position => Ok(()),
            Reached::UpTo(last) | Reached::Lost(last) => Err(Error::unavailable(format!(
                "the bus had events of partition {partition} up to position {position}, and has them up to {} now: {}",
                last.position,
                BackendFault::Lost.words()
            ))),
        }
    }

    /// Publishes what comes after `position`.
    async fn publish(
        &self,
        partition: Partition,
        mut position: Position,
        published: &watch::Sender<Option<Checkpoint>>,
    ) -> Result<Infallible> {
        let mut page = self.read(partition, position).await?;
        loop {
            let Some(last) = page.events.last() else {
                if self.told(partition).fault.take().is_some() {
                    tracing::info!(%partition, "relaying goes on");
                }
                let more = self.reader.wait_beyond(partition, position);
                match tokio::time::timeout(self.options.look_every, more).await {
                    Ok(more) => more.map(drop)?,
                    Err(_) => self.look(partition, position, published).await?,
                }
                page = self.read(partition, position).await?;
                continue;
            };
            position = last.position;
            let (reference, next) =
                tokio::try_join!(self.bus.publish(&page.events), self.read(partition, position))?;
            if self.told(partition).fault.take().is_some() {
                tracing::info!(%partition, "relaying goes on");
            }
            self.published.fetch_add(page.events.len() as u64, Ordering::Relaxed);
            self.relayed[partition.index()].send_replace(position);
            published.send_replace(Some(Checkpoint { position, reference: Some(reference) }));
            page = next;
        }
    }

    /// Saves the newest checkpoint whenever it has changed and some time has passed.
    async fn save(
        &self,
        partition: Partition,
        epoch: Epoch,
        mut published: watch::Receiver<Option<Checkpoint>>,
    ) -> Result<Infallible> {
        loop {
            published.changed().await.map_err(|_| {
                Error::internal("a relay's checkpoint is gone while it is saved; please report this")
            })?;
            let Some(checkpoint) = published.borrow_and_update().clone() else { continue };
            self.state.save(partition, epoch, checkpoint).await?;
            tokio::time::sleep(self.options.save_every).await;
        }
    }

    async fn read(&self, partition: Partition, after: Position) -> Result<PartitionPage> {
        self.read_at_most(partition, after, self.options.batch_events).await
    }

    async fn read_at_most(
        &self,
        partition: Partition,
        after: Position,
        limit: usize,
    ) -> Result<PartitionPage> {
        let request = ReadPartition {
            partition,
            after,
            up_to: None,
            filter: Filter::default(),
            limit,
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
