//! One EventStream that runs.

mod metrics;

use std::sync::Arc;

use headwater_core::{Error, PartitionCount, Result};
use headwater_eventstore::{EventStore, EventTypes};
use headwater_log::{LogReader, LogWriter, Sequencer, SequencerOptions};
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
    /// Why nothing was written any more before the stop, if so.
    written: JoinHandle<Result<()>>,
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
        let (counted, readiness) = (Metrics::default(), Readiness::default());
        metrics::register(&counted, sequencer.clone());
        let writer = Arc::new(sequencer.clone());
        let store = EventStore::new(log.clone(), writer, counted, readiness.clone());
        store.set_event_types(types);
        let stop = CancellationToken::new();
        let written = tokio::spawn(follow_writers(
            Arc::clone(&log),
            sequencer.clone(),
            readiness,
            ended.clone(),
            stop.clone(),
        ));
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
        Ok(Self { spec, url, log, sequencer, store, stop, served, written })
    }

    /// For reading.
    pub(crate) fn reader(&self) -> Arc<dyn LogReader> {
        self.log.clone()
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
    /// Why serving had ended before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let served = self.served.await;
        self.sequencer.shutdown().await;
        self.log.close().await;
        let panicked = |error| {
            Err(Error::internal(format!("a task of the event store panicked: {error}; please report this")))
        };
        served.unwrap_or_else(panicked).and(self.written.await.unwrap_or_else(panicked))
    }
}

/// Closes the readiness of an event store that can write no more, and has the process end: only a new one can write again.
async fn follow_writers(
    log: Arc<SqliteLog>,
    sequencer: Sequencer,
    readiness: Readiness,
    ended: CancellationToken,
    stop: CancellationToken,
) -> Result<()> {
    let gate = readiness.wait_for("what writes the log, which has ended: start the process again");
    gate.open();
    let result = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        result = sequencer.ended() => result,
        result = log.ended() => result,
    };
    gate.close();
    ended.cancel();
    result
}

pub(crate) fn local_address(listener: &TcpListener) -> Result<std::net::SocketAddr> {
    listener
        .local_addr()
        .map_err(|error| Error::internal(format!("the address of a listening socket is not known: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use headwater_core::{Append, EventType, Expected, NewEvent, StreamId};
    use headwater_log::Clock;

    use super::*;

    #[tokio::test]
    async fn an_event_store_that_cannot_write_is_not_ready_and_ends_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let clock = Clock::new({
            let broken = Arc::clone(&broken);
            move || {
                assert!(!broken.load(Ordering::Relaxed), "the clock is broken, by injection");
                jiff::Timestamp::UNIX_EPOCH
            }
        });
        let options = OpenLog { clock, ..OpenLog::new("orders", PartitionCount::ONE) };
        let log = Arc::new(SqliteLog::open(directory.path().join("log.db"), options).await.unwrap());
        let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
        let (readiness, ended) = (Readiness::default(), CancellationToken::new());
        let following = tokio::spawn(follow_writers(
            log,
            sequencer.clone(),
            readiness.clone(),
            ended.clone(),
            CancellationToken::new(),
        ));
        let append = || Append {
            stream_id: StreamId::new("order-1").unwrap(),
            expected: Expected::Any,
            events: vec![NewEvent::json(EventType::new("Created").unwrap(), b"{}".to_vec())],
        };
        sequencer.append(append()).await.unwrap();
        assert!(readiness.waiting_for().is_empty());

        broken.store(true, Ordering::Relaxed);
        sequencer.append(append()).await.unwrap_err();
        ended.cancelled().await;
        assert!(
            readiness.waiting_for()[0].starts_with("what writes the log"),
            "{:?}",
            readiness.waiting_for()
        );
        let reason = following.await.unwrap().unwrap_err().to_string();
        assert!(reason.contains("has ended by itself; start the process again"), "{reason}");
    }
}
