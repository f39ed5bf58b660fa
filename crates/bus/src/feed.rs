use std::sync::Arc;
use std::time::Duration;

use headwater_core::{Error, Partition, Position, RecordedEvent, Result};
use headwater_log::{Backoff, Filter, LogReader, ReadPartition, say_failure};
use tokio::time::Instant;

use crate::{Bus, Consumer};

/// How a [`Feed`] goes about it.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// How long the bus may be silent before the log is asked whether there is more: what the bus drops last is noticed so.
    pub silence: Duration,
    /// The first pause after the bus has failed, and the longest; the log is read meanwhile.
    pub pause: (Duration, Duration),
    /// How long a partition that nobody waits for any more is followed still: it may have gone to another process.
    pub idle: Duration,
}

impl Default for FeedOptions {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(5),
            pause: (Duration::from_millis(100), Duration::from_secs(5)),
            idle: Duration::from_secs(30),
        }
    }
}

/// What a feed has done since it was opened, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedStats {
    /// Events that were taken from the bus.
    pub from_bus: u64,
    /// Events that were read from the log: the past, and what the bus left out.
    pub from_log: u64,
    /// Messages that came again, and were dropped.
    pub repeats: u64,
    /// Holes in what the bus delivered.
    pub holes: u64,
    /// Failures of the bus.
    pub failures: u64,
}

impl FeedStats {
    /// Both together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            from_bus: self.from_bus + other.from_bus,
            from_log: self.from_log + other.from_log,
            repeats: self.repeats + other.repeats,
            holes: self.holes + other.holes,
            failures: self.failures + other.failures,
        }
    }
}

/// What [`Feed::next_batch`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedBatch {
    /// At least one, each following the one before.
    pub events: Vec<RecordedEvent>,
    /// All that is known to be there has been given.
    pub caught_up: bool,
}

/// One partition of a log, each position once and in order, by way of a bus that repeats, disorders and drops.
///
/// ```text
/// behind the log's head ──▶ read the log
/// at the head           ──▶ join the bus (then look at the head once more, so that nothing falls between)
/// from the bus: position ≤ given ▶ drop · next ▶ give · beyond ▶ a hole: the log is read up to there
/// ```
///
/// What arrives beyond a hole is not kept, but read again with what was missing: nothing is queued, so memory is bounded.
pub struct Feed {
    reader: Arc<dyn LogReader>,
    bus: Arc<dyn Bus>,
    partition: Partition,
    options: FeedOptions,
    /// All up to here has been given.
    position: Position,
    /// The log has at least this.
    head: Position,
    consumer: Option<Box<dyn Consumer>>,
    /// When the bus may be asked again after a failure.
    bus_from: Instant,
    backoff: Backoff,
    /// When the log was last asked for its head.
    checked: Option<Instant>,
    stats: FeedStats,
}

impl Feed {
    /// Feeds from after `position`, which may be ahead of the head: then it waits.
    pub fn new(
        reader: Arc<dyn LogReader>,
        bus: Arc<dyn Bus>,
        partition: Partition,
        after: Position,
        options: FeedOptions,
    ) -> Self {
        let backoff = Backoff::new(options.pause.0, options.pause.1);
        Self {
            reader,
            bus,
            partition,
            options,
            position: after,
            head: Position::ZERO,
            consumer: None,
            bus_from: Instant::now(),
            backoff,
            checked: None,
            stats: FeedStats::default(),
        }
    }

    /// All up to here has been given.
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The log has at least this.
    pub const fn head(&self) -> Position {
        self.head
    }

    /// What has been done so far.
    pub const fn stats(&self) -> FeedStats {
        self.stats
    }

    /// Waits for the next events: at least one, about `max_events` and `max_bytes` at most. Cancel-safe: a dropped call has given and
    /// moved nothing.
    ///
    /// # Errors
    /// Those of the log; call again to go on. Failures of the bus are counted and survived: the log has everything.
    pub async fn next_batch(&mut self, max_events: usize, max_bytes: usize) -> Result<FeedBatch> {
        loop {
            if self.position < self.head {
                return self.read_log(max_events, max_bytes).await;
            }
            // In this order: what is stored after the head was read is delivered to a consumer that was there before.
            let joined = self.join().await?;
            if joined || self.checked.is_none_or(|checked| checked.elapsed() >= self.options.silence) {
                self.look().await?;
                continue;
            }
            if let Some(batch) = self.take_from_bus().await? {
                return Ok(batch);
            }
        }
    }

    async fn read_log(&mut self, max_events: usize, max_bytes: usize) -> Result<FeedBatch> {
        let page = self
            .reader
            .read_partition(ReadPartition {
                partition: self.partition,
                after: self.position,
                up_to: None,
                filter: Filter::default(),
                limit: max_events.max(1),
                max_bytes,
            })
            .await?;
        if page.events.is_empty() {
            return Err(Error::corrupt(format!(
                "partition {} gives nothing after position {}, although its head is {}; the bus carries another log, or the log was restored to an older state",
                self.partition, self.position, self.head
            )));
        }
        self.position = page.reached;
        self.head = self.head.max(page.head);
        self.stats.from_log += page.events.len() as u64;
        Ok(FeedBatch { events: page.events, caught_up: self.position >= self.head })
    }

    /// Becomes a consumer of the bus, if it is none and may; true when it has just become one.
    async fn join(&mut self) -> Result<bool> {
        if self.consumer.is_some() || Instant::now() < self.bus_from {
            return Ok(false);
        }
        match self.bus.consume(self.partition, self.position).await {
            Ok(consumer) => {
                self.consumer = Some(consumer);
                Ok(true)
            }
            Err(error) => {
                self.bus_failed(&error);
                Ok(false)
            }
        }
    }

    async fn look(&mut self) -> Result<()> {
        let heads = self.reader.heads().await?;
        if let Some(head) = heads.get(self.partition.index()) {
            self.head = self.head.max(head.position);
        }
        self.checked = Some(Instant::now());
        Ok(())
    }

    /// What the bus delivers next, or `None` when that is only news of a hole, a repeat, a failure, or silence.
    async fn take_from_bus(&mut self) -> Result<Option<FeedBatch>> {
        let look_at = self.checked.map_or_else(Instant::now, |checked| checked + self.options.silence);
        let Some(consumer) = &mut self.consumer else {
            // Without the bus, the log is asked as often as the bus would be tried.
            tokio::time::sleep_until(self.bus_from.min(look_at)).await;
            self.checked = None;
            return Ok(None);
        };
        let delivered = tokio::select! {
            biased;
            delivered = consumer.next() => delivered,
            () = tokio::time::sleep_until(look_at) => return Ok(None),
        };
        let delivered = match delivered {
            Ok(delivered) => delivered,
            Err(error) => {
                self.bus_failed(&error);
                return Ok(None);
            }
        };
        if self.backoff.reset() {
            tracing::info!(partition = %self.partition, "the bus is back");
        }
        let mut events = Vec::with_capacity(delivered.len());
        for event in delivered {
            if event.partition != self.partition {
                return Err(Error::corrupt(format!(
                    "the bus delivered an event of partition {} to a consumer of partition {}; see that no two event streams share a topic",
                    event.partition, self.partition
                )));
            }
            if event.position <= self.position {
                self.stats.repeats += 1;
            } else if event.position == self.position.next() {
                self.position = event.position;
                events.push(event);
            } else if event.position > self.head {
                self.stats.holes += 1;
                self.head = event.position;
            }
        }
        self.head = self.head.max(self.position);
        self.stats.from_bus += events.len() as u64;
        let caught_up = self.position >= self.head;
        Ok((!events.is_empty()).then_some(FeedBatch { events, caught_up }))
    }

    fn bus_failed(&mut self, error: &Error) {
        self.consumer = None;
        self.stats.failures += 1;
        let is_first = self.backoff.is_unused();
        let pause = self.backoff.pause();
        if error.is_retryable() || !is_first {
            say_failure!(is_first, partition = %self.partition, %error, ?pause, "the bus failed; the log is read until it is back");
        } else {
            tracing::error!(partition = %self.partition, %error, ?pause, "the bus cannot be used as it is; the log is read until it can");
        }
        self.bus_from = Instant::now() + pause;
        self.checked = None;
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed")
            .field("partition", &self.partition)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
