//! One EventStream that runs.

use std::sync::Arc;

use headwater_core::{PartitionCount, Result};
use headwater_eventstore::{EventStore, EventTypes};
use headwater_log::{LogReader, Sequencer, SequencerOptions};
use headwater_resources::EventStreamSpec;
use headwater_runtime::{Metrics, Readiness};
use headwater_sql::{OpenLog, SqliteLog};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::data_dir::DataDir;

/// The log of an EventStream, and the event store that serves it.
pub(crate) struct RunningStream {
    pub(crate) spec: EventStreamSpec,
    pub(crate) url: String,
    log: Arc<SqliteLog>,
    sequencer: Sequencer,
    store: EventStore,
    stop: CancellationToken,
    served: JoinHandle<Result<()>>,
}

impl RunningStream {
    /// Opens the log and serves it on `listener`. When it ends without being stopped, `ended` is cancelled.
    ///
    /// # Errors
    /// As [`SqliteLog::open`].
    pub(crate) async fn start(
        name: &str,
        spec: EventStreamSpec,
        data: &DataDir,
        listener: TcpListener,
        ended: CancellationToken,
    ) -> Result<Self> {
        let types = EventTypes::compile(&spec.event_types)?;
        let partitions = PartitionCount::new(spec.partitions)?;
        let url = format!("http://{}", local_address(&listener)?);
        let log = Arc::new(SqliteLog::open(data.stream(name), OpenLog::new(name, partitions)).await?);
        let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
        let store = EventStore::new(
            log.clone(),
            Arc::new(sequencer.clone()),
            Metrics::default(),
            Readiness::default(),
        );
        store.set_event_types(types);
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
        Ok(Self { spec, url, log, sequencer, store, stop, served })
    }

    /// For reading.
    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        self.log.clone()
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
    /// Why serving had ended before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let served = self.served.await;
        self.sequencer.shutdown().await;
        self.log.close().await;
        served.unwrap_or_else(|error| {
            Err(headwater_core::Error::internal(format!("the event store's server panicked: {error}")))
        })
    }
}

pub(crate) fn local_address(listener: &TcpListener) -> Result<std::net::SocketAddr> {
    listener.local_addr().map_err(|error| {
        headwater_core::Error::internal(format!("the address of a listening socket is not known: {error}"))
    })
}
