use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::BrokerReference;
use async_trait::async_trait;
use headwater_core::{Error, Result};
use headwater_log::conformance::Dice;

/// Wraps a bus and does to it what brokers, networks and restarts do: publishes in part, loses the answer, delivers twice, out of order
/// and not at all, and hangs up.
pub struct FaultyBus {
    inner: Arc<dyn Bus>,
    dice: Arc<Dice>,
    /// Faults in a hundred.
    percent: u64,
    down: Arc<AtomicBool>,
}

impl FaultyBus {
    pub fn new(inner: Arc<dyn Bus>, seed: u64, percent: u64) -> Self {
        Self { inner, dice: Arc::new(Dice::new(seed)), percent, down: Arc::default() }
    }

    /// Whether nothing gets through at all.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    fn fails(&self) -> bool {
        self.down.load(Ordering::Relaxed) || self.dice.throw(100) < self.percent
    }
}

fn gone() -> Error {
    Error::unavailable("the broker is gone, by injection")
}

#[async_trait]
impl Bus for FaultyBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        if !self.fails() {
            return self.inner.publish(events).await;
        }
        let part = self.dice.throw(events.len() as u64 + 1) as usize;
        if part > 0 && !self.down.load(Ordering::Relaxed) {
            self.inner.publish(&events[..part]).await?;
        }
        Err(gone())
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        if self.fails() {
            return Err(gone());
        }
        // As an adapter that knows only what its reference says: what was published in part is published again.
        match self.inner.reached(partition, checkpoint).await? {
            Reached::UpTo(_) if self.dice.throw(2) == 0 => Ok(Reached::UpTo(Last::at(checkpoint.position))),
            reached => Ok(reached),
        }
    }

    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>> {
        if self.fails() {
            return Err(gone());
        }
        Ok(Box::new(FaultyConsumer {
            inner: self.inner.consume(partition, after).await?,
            dice: Arc::clone(&self.dice),
            percent: self.percent,
            down: Arc::clone(&self.down),
            given: VecDeque::new(),
            failed: false,
        }))
    }
}

struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    dice: Arc<Dice>,
    percent: u64,
    down: Arc<AtomicBool>,
    /// The last few that were given, to be repeated.
    given: VecDeque<RecordedEvent>,
    failed: bool,
}

#[async_trait]
impl Consumer for FaultyConsumer {
    async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        loop {
            if self.failed || self.down.load(Ordering::Relaxed) {
                return Err(gone());
            }
            let mut events = self.inner.next().await?;
            if self.dice.throw(400) < self.percent {
                self.failed = true;
                continue;
            }
            events.retain(|_| self.dice.throw(100) >= self.percent / 2);
            for index in 1..events.len() {
                if self.dice.throw(100) < self.percent {
                    events.swap(index - 1, index);
                }
            }
            if self.dice.throw(100) < self.percent {
                events.extend(self.given.iter().cloned());
            }
            self.given.extend(events.iter().cloned());
            while self.given.len() > 5 {
                self.given.pop_front();
            }
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }
}
