//! One Saga that runs, and what its calls find around them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use headwater_core::{Error, Partition, PartitionCount, Result};
use headwater_log::{Clock, Holder, LogReader, LogWriter};
use headwater_resources::manifest::{ConfigMaps, Secrets};
use headwater_resources::shared::{DataKind, DataRef, SecretKeyRef};
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_runtime::Readiness;
use headwater_saga::{Calls, Counts, Parts, SagaMetrics, SagaService, Surroundings};
use tokio_util::sync::CancellationToken;

use crate::load::Loaded;
use crate::written_log::{Place, WrittenLog};

/// The Secrets and services, as the files have them now, and the event streams that this process reaches.
#[derive(Default)]
pub(crate) struct FileSurroundings(RwLock<Known>);

#[derive(Default)]
struct Known {
    secrets: Secrets,
    config_maps: ConfigMaps,
    services: BTreeMap<String, String>,
    streams: HashMap<String, Arc<dyn LogWriter>>,
}

impl FileSurroundings {
    /// Takes over what the files say.
    pub(crate) fn load(&self, loaded: &Loaded) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.secrets = loaded.manifests.secrets.clone();
        known.config_maps = loaded.manifests.config_maps.clone();
        known.services = loaded.dev_file.services.clone();
    }

    /// Takes over which event streams there are, and how to append to each.
    pub(crate) fn set_streams(&self, streams: impl IntoIterator<Item = (String, Arc<dyn LogWriter>)>) {
        let streams = streams.into_iter().collect();
        self.0.write().unwrap_or_else(PoisonError::into_inner).streams = streams;
    }

    fn read<T>(&self, what: impl FnOnce(&Known) -> T) -> T {
        what(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Surroundings for FileSurroundings {
    fn secret(&self, key: &SecretKeyRef) -> Result<Vec<u8>> {
        self.read(|known| known.secrets.get(&key.name, &key.key).map(<[u8]>::to_vec))
            .map_err(|missing| Error::not_found(missing.to_string()))
    }

    fn data(&self, key: &DataRef) -> Result<Vec<u8>> {
        self.read(|known| match key.kind {
            DataKind::Secret => known.secrets.get(&key.name, &key.key).map(<[u8]>::to_vec),
            DataKind::ConfigMap => known.config_maps.get(&key.name, &key.key).map(<[u8]>::to_vec),
        })
        .map_err(|missing| Error::not_found(missing.to_string()))
    }

    fn address(&self, host: &str) -> Option<String> {
        self.read(|known| known.services.get(host).cloned())
    }

    fn stream(&self, name: &str) -> Option<Arc<dyn LogWriter>> {
        self.read(|known| known.streams.get(name).cloned())
    }
}

/// A saga, its log, and what it was made from.
pub(crate) struct RunningSaga {
    pub(crate) spec: SagaSpec,
    pub(crate) service: SagaService,
    log: WrittenLog,
}

/// What a saga runs with, beside its own log.
#[derive(Clone)]
pub(crate) struct Around {
    /// The namespace of its resource.
    pub(crate) namespace: String,
    /// What the event stream is to be.
    pub(crate) stream: EventStreamSpec,
    /// The event stream.
    pub(crate) events: Arc<dyn LogReader>,
    /// Sends what steps send.
    pub(crate) calls: Arc<Calls>,
    pub(crate) metrics: SagaMetrics,
    /// What has been taken in so far.
    pub(crate) counts: Counts,
}

impl Around {
    /// All that the saga `name` needs to run over its own `log`.
    pub(crate) fn parts(&self, name: &str, log: &WrittenLog) -> Parts {
        let replica = log.replica().cloned();
        Parts {
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            events: Arc::clone(&self.events),
            log: log.reader(),
            writer: Arc::new(log.sequencer().clone()),
            caller: self.calls.clone(),
            clock: Clock::system(),
            metrics: self.metrics.clone(),
            counts: self.counts.clone(),
            // Its leases may have ended while it slept, before anything else tells it.
            leads: Arc::new(move || {
                replica.as_ref().is_none_or(|replica| replica.holder(Partition::ZERO) == Holder::Us)
            }),
        }
    }
}

/// Opens the own log of the saga `name`. When it can be written no more without having been closed, `readiness` is withdrawn and
/// `ended` is cancelled.
///
/// # Errors
/// As [`WrittenLog::open`].
pub(crate) async fn open_log(
    name: &str,
    spec: &SagaSpec,
    stream: &EventStreamSpec,
    place: Place,
    readiness: &Readiness,
    ended: CancellationToken,
) -> Result<WrittenLog> {
    let partitions = PartitionCount::new(stream.partitions)?;
    let log_name = format!("saga {name} of {}", spec.stream_ref.name);
    WrittenLog::open(place, &log_name, partitions, readiness, ended).await
}

impl RunningSaga {
    /// Opens the saga's log, which nobody else writes, and has it follow the event stream. When its log can be written no more without having
    /// been stopped, `ended` is cancelled.
    ///
    /// # Errors
    /// As [`open_log`]; `Invalid` when it cannot be compiled.
    pub(crate) async fn start(
        name: &str,
        spec: SagaSpec,
        around: &Around,
        place: Place,
        ended: CancellationToken,
    ) -> Result<Self> {
        // What cannot be written ends the process that it runs in.
        let log = open_log(name, &spec, &around.stream, place, &Readiness::default(), ended).await?;
        match SagaService::start(around.parts(name, &log), &spec, &around.stream).await {
            Ok(service) => Ok(Self { spec, service, log }),
            Err(error) => {
                // Why the saga cannot start is what matters.
                let _ = log.close().await;
                Err(error)
            }
        }
    }

    /// Has new instances follow `spec`, over events as `stream` declares them.
    ///
    /// # Errors
    /// `Invalid` when it cannot be compiled: what runs goes on.
    pub(crate) async fn update(&mut self, spec: SagaSpec, stream: &EventStreamSpec) -> Result<()> {
        self.service.reconcile(&spec, stream).await?;
        self.spec = spec;
        Ok(())
    }

    /// Stops coordinating, writes what is queued, closes the log.
    ///
    /// # Errors
    /// Why nothing was written any more before.
    pub(crate) async fn stop(self) -> Result<()> {
        self.service.stop().await;
        self.log.close().await
    }
}
