//! The relays of an event stream's partitions: each runs where its partition is written.
//!
//! ```text
//! do we write it? ──no──▶ wait
//!       │ yes
//!       ▼
//! relay under the partition's epoch ──▶ until the lease ends, or the process
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_bus::{Bus, Relay, RelayOptions, RelayState};
use headwater_core::{Error, Partition, Result};
use headwater_eventstore::{Relayed, Relays};
use headwater_log::{Backoff, Epoch, Holder, LogReader, Replica};
use headwater_runtime::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often it is looked how far behind the relays are.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The first pause after a relay has ended, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The relays that run here. Dropped without [`stop`](Self::stop), they stop soon.
pub(crate) struct Relaying {
    stop: CancellationToken,
    tasks: TaskTracker,
    shared: Arc<Shared>,
}

struct Shared {
    relay: Relay,
    reader: Arc<dyn LogReader>,
    /// Where others write as well.
    replica: Option<Arc<Replica>>,
    /// By partition, of those that are relayed here: events that the bus lacks.
    lag: Vec<AtomicU64>,
}

impl Relaying {
    /// Relays those partitions of `reader` that are written here to `bus`.
    pub(crate) fn start(
        reader: Arc<dyn LogReader>,
        bus: Arc<dyn Bus>,
        state: Arc<dyn RelayState>,
        replica: Option<Arc<Replica>>,
        metrics: &Metrics,
    ) -> Self {
        let partitions = reader.descriptor().partitions;
        let shared = Arc::new(Shared {
            relay: Relay::new(Arc::clone(&reader), bus, state, RelayOptions::default()),
            reader,
            replica,
            lag: partitions.partitions().map(|_| AtomicU64::new(0)).collect(),
        });
        metrics.register_collector(Box::new(Readings(Arc::clone(&shared))));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        for partition in partitions.partitions() {
            tasks.spawn(Arc::clone(&shared).relay(partition, stop.clone()));
        }
        tasks.spawn(Arc::clone(&shared).look(stop.clone()));
        tasks.close();
        Self { stop, tasks, shared }
    }

    /// Who says how far partitions are on the bus.
    pub(crate) fn relays(&self) -> Arc<dyn Relays> {
        Arc::clone(&self.shared) as Arc<dyn Relays>
    }

    /// Hands nothing more to the bus.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

impl Drop for Relaying {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    async fn relay(self: Arc<Self>, partition: Partition, stop: CancellationToken) {
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.until(partition, true) => {}
            }
            let ended = tokio::select! {
                ended = self.session(partition, &stop) => ended,
                // What is in flight may still arrive, as a repeat.
                () = self.until(partition, false) => Ok(()),
            };
            let Err(error) = ended else {
                backoff = Backoff::new(PAUSE.0, PAUSE.1);
                continue;
            };
            let is_first = backoff.is_unused();
            let pause = backoff.pause();
            if is_first {
                tracing::error!(%partition, %error, ?pause, "events are not relayed to the bus; they are stored, and relayed once this is mended");
            } else {
                tracing::debug!(%partition, %error, ?pause, "events are not relayed to the bus still");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn session(&self, partition: Partition, stop: &CancellationToken) -> Result<()> {
        let heads = self.reader.heads().await?;
        let epoch = heads.get(partition.index()).map_or(Epoch(0), |head| head.epoch);
        self.relay.run(partition, epoch, stop).await
    }

    fn is_ours(&self, partition: Partition) -> bool {
        self.replica.as_ref().is_none_or(|replica| replica.holder(partition) == Holder::Us)
    }

    /// By partition, of those that are relayed here: why nothing gets to the bus.
    fn faults(&self) -> Vec<Option<Error>> {
        let partitions = self.reader.descriptor().partitions.partitions();
        partitions.map(|it| self.relayed(it)?.fault).collect()
    }

    /// Waits until the partition is written here, or is not.
    async fn until(&self, partition: Partition, ours: bool) {
        let Some(replica) = &self.replica else {
            if !ours {
                std::future::pending::<()>().await;
            }
            return;
        };
        loop {
            let holder = replica.holder(partition);
            if (holder == Holder::Us) == ours {
                return;
            }
            replica.changed(partition, &holder).await;
        }
    }

    /// Sees how far behind the relays are, also while the bus is down.
    async fn look(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let heads = match self.reader.heads().await {
                Ok(heads) => heads,
                Err(error) => {
                    tracing::debug!(%error, "how far the bus is behind is not known");
                    continue;
                }
            };
            for (partition, head) in self.reader.descriptor().partitions.partitions().zip(heads) {
                let relayed = self.relay.relayed(partition).borrow().get();
                let behind =
                    if self.is_ours(partition) { head.position.get().saturating_sub(relayed) } else { 0 };
                self.lag[partition.index()].store(behind, Ordering::Relaxed);
            }
        }
    }
}

impl Relays for Shared {
    fn relayed(&self, partition: Partition) -> Option<Relayed> {
        let position = *self.relay.relayed(partition).borrow();
        self.is_ours(partition).then(|| Relayed { position, fault: self.relay.fault(partition) })
    }
}

#[derive(Clone)]
struct Readings(Arc<Shared>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    partition: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BlockedLabels {
    partition: u32,
    /// An error's kind, or "none".
    reason: &'static str,
}

impl fmt::Debug for Readings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Readings")
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.relay.stats();
        let counters = [
            ("relay_published", "Events published to the bus, repeats included", stats.published),
            ("relay_lost", "Times that the bus had lost what it had acknowledged", stats.lost),
            ("relay_failures", "Failed attempts to publish to the bus", stats.failures),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let gauge = ConstGauge::new(0_i64);
        let help = "Events that are stored and not on the bus yet, of partitions that are written here";
        let mut lags = encoder.encode_descriptor("relay_lag_events", help, None, gauge.metric_type())?;
        for (number, lag) in self.0.lag.iter().enumerate() {
            let labels = Labels { partition: number as u32 };
            let gauge = ConstGauge::new(lag.load(Ordering::Relaxed) as i64);
            gauge.encode(lags.encode_family(&labels)?)?;
        }
        let help = "1: nothing gets to the bus since the last attempt failed, for this kind of reason; the log says which";
        let mut blocked = encoder.encode_descriptor("relay_blocked", help, None, gauge.metric_type())?;
        for (number, fault) in self.0.faults().into_iter().enumerate() {
            let reason = fault.as_ref().map_or("none", Error::kind);
            let labels = BlockedLabels { partition: number as u32, reason };
            let gauge = ConstGauge::new(i64::from(fault.is_some()));
            gauge.encode(blocked.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use headwater_bus::{BrokerReference, Checkpoint, Consumer, MemoryRelayState, Reached};
    use headwater_core::{PartitionCount, Position, RecordedEvent};
    use headwater_log::MemoryStore;

    use super::*;

    /// A broker that does not let us in.
    struct Refusing;

    #[async_trait]
    impl Bus for Refusing {
        async fn publish(&self, _: &[RecordedEvent]) -> Result<BrokerReference> {
            Err(Error::failed_precondition("not allowed"))
        }

        async fn reached(&self, _: Partition, _: &Checkpoint) -> Result<Reached> {
            Err(Error::failed_precondition("not allowed"))
        }

        async fn consume(&self, _: Partition, _: Position) -> Result<Box<dyn Consumer>> {
            Err(Error::failed_precondition("not allowed"))
        }
    }

    #[tokio::test]
    async fn a_bus_that_refuses_is_told_by_metrics() {
        let metrics = Metrics::default();
        let reader = Arc::new(MemoryStore::new(PartitionCount::ONE));
        let state = Arc::new(MemoryRelayState::default());
        let relaying = Relaying::start(reader, Arc::new(Refusing), state, None, &metrics);
        let began = std::time::Instant::now();
        let told = loop {
            let told = metrics.render().unwrap();
            if told.contains("relay_blocked{partition=\"0\",reason=\"failed_precondition\"} 1") {
                break told;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{told}");
            tokio::task::yield_now().await;
        };
        let failures = told.lines().find(|line| line.starts_with("headwater_relay_failures_total "));
        let failures: u64 = failures.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
        assert!(failures > 0, "{told}");
        relaying.stop().await;
    }
}
