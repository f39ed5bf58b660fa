//! One EventStream that runs.

mod metrics;

use std::sync::Arc;
use std::time::Duration;

use headwater_api::Credentials;
use headwater_core::{PartitionCount, Result};
use headwater_eventstore::{EventStore, EventTypes, ReplicatedWriter};
use headwater_log::{LogReader, LogWriter};
use headwater_resources::EventStreamSpec;
use headwater_runtime::{Metrics, Readiness, telemetry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::bus::BusPlace;
use crate::port::Port;
use crate::relaying::Relaying;
use crate::traced::TracedBus;
use crate::written_log::{Place, WrittenLog, panicked};

/// What is under way at a stop has so long before others may write the partitions.
const LEAVE_AFTER: Duration = Duration::from_millis(500);

/// Where a log is relayed to, and the namespace that its events are said to come from.
pub(crate) struct RelayTo {
    pub(crate) bus: BusPlace,
    pub(crate) namespace: String,
}

/// The log of an EventStream, and the event store that serves it.
pub(crate) struct RunningStream {
    pub(crate) spec: EventStreamSpec,
    pub(crate) url: String,
    log: WrittenLog,
    store: EventStore,
    stop: CancellationToken,
    served: JoinHandle<Result<()>>,
    relaying: Option<Relaying>,
}

impl RunningStream {
    /// Opens the log, serves it at `port`, and relays it to the bus if there is one. It shows `credentials` to
    /// other event stores of the stream. When it ends without being stopped, `ended` is cancelled.
    ///
    /// # Errors
    /// As [`SqliteLog::open`].
    pub(crate) async fn start(
        name: &str,
        spec: EventStreamSpec,
        place: Place,
        relay: Option<RelayTo>,
        port: Port,
        credentials: Credentials,
        ended: CancellationToken,
    ) -> Result<Self> {
        let types = EventTypes::compile(&spec.event_types)?;
        let partitions = PartitionCount::new(spec.partitions)?;
        let url = port.url()?;
        let (counted, readiness) = (Metrics::default(), Readiness::default());
        let metrics = counted.clone();
        let log = WrittenLog::open(place, name, partitions, &readiness, ended.clone()).await?;
        metrics::register(&counted, log.sequencer().clone());
        telemetry::register_metrics(&counted);
        let sequencer = log.sequencer().clone();
        let store = match log.replica() {
            None => EventStore::new(log.reader(), Arc::new(sequencer), counted, readiness),
            Some(replica) => {
                metrics::register_leases(&counted, Arc::clone(replica));
                let writer = ReplicatedWriter::new(Arc::clone(replica), sequencer, credentials, &counted);
                EventStore::replicated(log.reader(), Arc::new(writer), counted, readiness)
            }
        };
        let store = store.named(name);
        store.set_event_types(types);
        if let Some(protection) = &port.protection {
            protection.security.register(&metrics);
        }
        let mut store = store.guarded(port.guard());
        let listener = port.listen();
        let relaying = match relay {
            None => None,
            Some(RelayTo { bus, namespace }) => {
                tracing::info!(event_stream = name, bus = bus.describe(), "events are relayed");
                let opened = bus.open(&namespace, name, log.reader().descriptor())?;
                let bus = Arc::new(TracedBus::new(opened, name, bus.system()));
                let replica = log.replica().cloned();
                let state = log.relay_state().await?;
                let relaying = Relaying::start(log.reader(), bus, state, replica, &metrics);
                store = store.relayed_by(relaying.relays());
                Some(relaying)
            }
        };
        let stop = CancellationToken::new();
        let served = tokio::spawn({
            let (store, stop) = (store.clone(), stop.clone());
            async move {
                let ended = ended.drop_guard();
                let served = store.serve(listener, stop.clone()).await;
                if stop.is_cancelled() {
                    ended.disarm();
                }
                served
            }
        });
        Ok(Self { spec, url, log, store, stop, served, relaying })
    }

    /// For reading.
    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        self.log.reader()
    }

    /// For appending, as any other client.
    pub(crate) fn writer(&self) -> Arc<dyn LogWriter> {
        Arc::new(self.store.clone())
    }

    /// Takes over what may change while it runs: the event types.
    ///
    /// # Errors
    /// `Invalid` when they cannot be compiled: then nothing is changed.
    pub(crate) fn update(&mut self, spec: EventStreamSpec) -> Result<()> {
        self.store.set_event_types(EventTypes::compile(&spec.event_types)?);
        self.spec = spec;
        Ok(())
    }

    /// Answers what is under way, writes what is queued, closes the file.
    ///
    /// # Errors
    /// Why serving, or writing, had ended before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        // The next to write a partition relays it, from where this one got to.
        if let Some(relaying) = &self.relaying {
            relaying.stop().await;
        }
        let mut serving = self.served;
        let served = if let Ok(served) = tokio::time::timeout(LEAVE_AFTER, &mut serving).await {
            served
        } else {
            // Others need not wait for clients that are slow to go.
            self.log.leave().await;
            serving.await
        };
        let served = served.unwrap_or_else(|error| Err(panicked(&error)));
        served.and(self.log.close().await)
    }
}
