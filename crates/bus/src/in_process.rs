use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use headwater_core::{Error, Partition, PartitionCount, Position, RecordedEvent, Result};
use tokio::sync::watch;

use crate::{BrokerReference, Bus, Checkpoint, Consumer, Last, Reached};

/// A bus within one process: a bounded ring per partition. A consumer that is slower than the ring sees a hole, and nothing waits for it.
#[derive(Debug)]
pub struct InProcessBus {
    rings: Vec<Arc<Ring>>,
    capacity: usize,
}

#[derive(Debug)]
struct Ring {
    kept: Mutex<Kept>,
    /// How many messages there have been.
    published: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest messages, oldest first; the last is message number `published`.
    messages: VecDeque<RecordedEvent>,
    published: u64,
    /// The greatest position that was published.
    reached: Last,
}

/// Messages that a consumer is given at once.
const BATCH: usize = 256;

impl InProcessBus {
    /// A bus that keeps the last `capacity` messages of each partition, at least one.
    pub fn new(partitions: PartitionCount, capacity: usize) -> Self {
        let ring = || Arc::new(Ring { kept: Mutex::default(), published: watch::Sender::new(0) });
        Self { rings: partitions.partitions().map(|_| ring()).collect(), capacity: capacity.max(1) }
    }

    fn ring(&self, partition: Partition) -> Result<&Arc<Ring>> {
        self.rings.get(partition.index()).ok_or_else(|| {
            Error::invalid(
                "partition",
                format!("there is no partition {partition}; this bus has {}", self.rings.len()),
            )
        })
    }
}

impl Ring {
    // A panic while the lock is held leaves whole messages.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bus for InProcessBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        let Some(first) = events.first() else {
            return Err(Error::internal("a relay published nothing; please report this"));
        };
        let ring = self.ring(first.partition)?;
        let published = {
            let mut kept = ring.kept();
            for event in events {
                if kept.messages.len() >= self.capacity {
                    kept.messages.pop_front();
                }
                kept.messages.push_back(event.clone());
                kept.published += 1;
                kept.reached = kept.reached.max(event.into());
            }
            kept.published
        };
        ring.published.send_replace(published);
        Ok(BrokerReference(published.to_string()))
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        let reached = self.ring(partition)?.kept().reached;
        Ok(if reached.position >= checkpoint.position {
            Reached::UpTo(reached)
        } else {
            Reached::Lost(reached)
        })
    }

    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>> {
        let ring = Arc::clone(self.ring(partition)?);
        let seen = {
            let kept = ring.kept();
            let newer = kept.messages.iter().position(|event| event.position > after);
            kept.published - newer.map_or(0, |index| (kept.messages.len() - index) as u64)
        };
        let published = ring.published.subscribe();
        Ok(Box::new(RingConsumer { ring, published, seen }))
    }
}

struct RingConsumer {
    ring: Arc<Ring>,
    published: watch::Receiver<u64>,
    /// The number of the last message that was given or skipped.
    seen: u64,
}

#[async_trait]
impl Consumer for RingConsumer {
    async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        let seen = self.seen;
        let gone = || Error::unavailable("the in-process bus is gone");
        self.published.wait_for(|published| *published > seen).await.map_err(|_| gone())?;
        let kept = self.ring.kept();
        let oldest = kept.published - kept.messages.len() as u64;
        let from = self.seen.max(oldest);
        let events: Vec<RecordedEvent> =
            kept.messages.iter().skip((from - oldest) as usize).take(BATCH).cloned().collect();
        self.seen = from + events.len() as u64;
        Ok(events)
    }
}
