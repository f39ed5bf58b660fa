//! One Saga that runs, and what its calls find around them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use headwater_core::{Error, PartitionCount, Result};
use headwater_log::{Clock, LogReader, LogWriter};
use headwater_resources::manifest::{ConfigMaps, Secrets};
use headwater_resources::shared::{DataKind, DataRef, SecretKeyRef};
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_runtime::Readiness;
use headwater_saga::{Calls, Parts, SagaMetrics, SagaService, Surroundings};
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
}

impl RunningSaga {
    /// Opens the saga's log and has it follow the event stream. When its log can be written no more without having been stopped,
    /// `ended` is cancelled.
    ///
    /// # Errors
    /// As [`SqliteLog::open`](headwater_sql::SqliteLog::open); `Invalid` when it cannot be compiled.
    pub(crate) async fn start(
        name: &str,
        spec: SagaSpec,
        around: Around,
        place: Place,
        ended: CancellationToken,
    ) -> Result<Self> {
        let Around { namespace, stream, events, calls, metrics } = around;
        let partitions = PartitionCount::new(stream.partitions)?;
        let log_name = format!("saga {name} of {}", spec.stream_ref.name);
        let log = WrittenLog::open(place, &log_name, partitions, &Readiness::default(), ended).await?;
        let parts = Parts {
            namespace,
            name: name.to_owned(),
            events,
            log: log.reader(),
            writer: Arc::new(log.sequencer().clone()),
            caller: calls,
            clock: Clock::system(),
            metrics,
        };
        match SagaService::start(parts, &spec, &stream).await {
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
