//! Saved manifests take effect: all of them or, when one has a fault, none.

use std::collections::BTreeMap;

use headwater_core::Result;
use headwater_resources::manifest::specs;
use headwater_resources::{EventStreamSpec, ProjectionSpec, SagaSpec, digest};

use super::{Dev, LoadError, Loaded, Notice};
use crate::notice::Change;

impl Dev {
    /// Takes over what the files say now.
    pub(super) async fn reload(&mut self, loaded: Result<Loaded, LoadError>) {
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(LoadError::Faults(faults)) => {
                for fault in &faults {
                    self.tell(fault.into()).await;
                }
                return self.note("the manifests have faults: what runs goes on as it was").await;
            }
            Err(error) => return self.note(format!("{error}: what runs goes on as it was")).await,
        };
        let manifests = &loaded.manifests;
        let (streams, projections) = (specs(&manifests.event_streams), specs(&manifests.projections));
        let sagas = specs(&manifests.sagas);
        // What is gone first: its ports are free then for what comes.
        self.remove_projections(&projections).await;
        self.remove_sagas(&sagas).await;
        self.remove_streams(&streams).await;
        for (name, spec) in &streams {
            self.reload_stream(name, spec, &loaded).await;
        }
        for (name, spec) in projections {
            self.reload_projection(&name, spec).await;
        }
        self.surroundings.load(&loaded);
        self.know_streams();
        for (name, spec) in sagas {
            self.reload_saga(&name, spec, &loaded).await;
        }
    }

    async fn reload_stream(&mut self, name: &str, spec: &EventStreamSpec, loaded: &Loaded) {
        let resource = format!("EventStream {name}");
        let Some(running) = self.streams.get_mut(name) else {
            let (change, message) = match self.add_stream(name, spec.clone(), loaded).await {
                Ok(url) => (Change::Added, format!("serves at {url}")),
                Err(error) => (Change::Refused, error.to_string()),
            };
            return self.changed(resource, change, message).await;
        };
        if running.spec == *spec {
            return;
        }
        if running.spec.partitions != spec.partitions {
            let message = format!(
                "partitions cannot be changed from {} to {}: they decide where the events of a stream id are; make another EventStream. It goes on as it was",
                running.spec.partitions, spec.partitions
            );
            return self.changed(resource, Change::Refused, message).await;
        }
        let new_types = running.spec.event_types != spec.event_types;
        let (change, message) = match running.update(spec.clone()) {
            Ok(()) if new_types => {
                (Change::Changed, "appends are checked against the new eventTypes".to_owned())
            }
            Ok(()) => (Change::Changed, "what changed is for clusters, and without effect here".to_owned()),
            Err(error) => (Change::Refused, error.to_string()),
        };
        self.changed(resource, change, message).await;
        if new_types && change == Change::Changed {
            self.reconcile_readers(name).await;
        }
    }

    async fn add_stream(&mut self, name: &str, spec: EventStreamSpec, loaded: &Loaded) -> Result<String> {
        let relay = self.relay(name, &spec, loaded)?;
        let listener = self.ports.bind(name).await?;
        let port = listener.local_addr().map(|address| address.port());
        self.start_stream(name, spec, relay, listener, loaded).await?;
        if let Ok(port) = port {
            self.ports.remember(name, port);
        }
        Ok(self.streams.get(name).map(|stream| stream.url.clone()).unwrap_or_default())
    }

    /// Upcasts are part of what a projection is made from.
    async fn reconcile_readers(&mut self, stream_name: &str) {
        let Some(stream) = self.streams.get(stream_name) else { return };
        let mut refused = Vec::new();
        for (name, projection) in &mut self.projections {
            if projection.spec.stream_ref.name == stream_name
                && let Err(error) = projection.update(projection.spec.clone(), &stream.spec).await
            {
                refused.push((format!("Projection {name}"), error.to_string()));
            }
        }
        for (name, saga) in &mut self.sagas {
            if saga.spec.stream_ref.name == stream_name
                && let Err(error) = saga.update(saga.spec.clone(), &stream.spec).await
            {
                refused.push((format!("Saga {name}"), error.to_string()));
            }
        }
        for (resource, message) in refused {
            self.changed(resource, Change::Refused, message).await;
        }
    }

    async fn reload_projection(&mut self, name: &str, spec: ProjectionSpec) {
        let resource = format!("Projection {name}");
        let Some(running) = self.projections.get_mut(name) else {
            let (change, message) = match self.start_projection(name, spec).await {
                Ok(()) => (Change::Added, "is built, and answers queries then".to_owned()),
                Err(error) => (Change::Refused, error.to_string()),
            };
            self.changed(resource, change, message).await;
            if let Some(projection) = self.projections.get(name) {
                self.tell_rollouts(projection);
            }
            return;
        };
        if running.spec == spec {
            return;
        }
        if let Some(field) = immutable(&running.spec, &spec) {
            let message = format!("{field} cannot be changed: make another Projection. It goes on as it was");
            return self.changed(resource, Change::Refused, message).await;
        }
        let Some(stream) = self.streams.get(&spec.stream_ref.name) else { return };
        let rebuilt =
            digest::projection(&running.spec, &stream.spec) != digest::projection(&spec, &stream.spec);
        let (change, message) = match running.update(spec, &stream.spec).await {
            Ok(()) if rebuilt => (
                Change::Changed,
                "a new revision takes the place of the one that serves, once it is built".to_owned(),
            ),
            Ok(()) => (Change::Changed, "in force, without a new revision".to_owned()),
            Err(error) => (Change::Refused, format!("{error}. It goes on as it was")),
        };
        self.changed(resource, change, message).await;
    }

    async fn remove_projections(&mut self, wanted: &BTreeMap<String, ProjectionSpec>) {
        let gone: Vec<String> =
            self.projections.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(projection) = self.projections.remove(&name) {
                self.queries.remove(&name);
                projection.service.stop().await;
                let message =
                    format!("stopped; its read model stays in {}", self.data.projection(&name).display());
                self.changed(format!("Projection {name}"), Change::Removed, message).await;
            }
        }
    }

    async fn reload_saga(&mut self, name: &str, spec: SagaSpec, loaded: &Loaded) {
        let resource = format!("Saga {name}");
        let Some(running) = self.sagas.get_mut(name) else {
            let (change, message) = match self.start_saga(name, spec, loaded).await {
                Ok(()) => (Change::Added, "is started by events from now on".to_owned()),
                Err(error) => (Change::Refused, error.to_string()),
            };
            return self.changed(resource, change, message).await;
        };
        if running.spec == spec {
            return;
        }
        if running.spec.stream_ref != spec.stream_ref {
            let message = "streamRef cannot be changed: make another Saga. It goes on as it was".to_owned();
            return self.changed(resource, Change::Refused, message).await;
        }
        let Some(stream) = self.streams.get(&spec.stream_ref.name) else { return };
        let (change, message) = match running.update(spec, &stream.spec).await {
            Ok(()) => (
                Change::Changed,
                "new instances follow it; those that have started end as they began".to_owned(),
            ),
            Err(error) => (Change::Refused, format!("{error}. It goes on as it was")),
        };
        self.changed(resource, change, message).await;
    }

    async fn remove_sagas(&mut self, wanted: &BTreeMap<String, SagaSpec>) {
        let gone: Vec<String> =
            self.sagas.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            if let Some(saga) = self.sagas.remove(&name) {
                self.queries.remove_saga(&name);
                let mut message = format!(
                    "stopped; its instances stay where they are, in {}",
                    self.data.saga(&name).display()
                );
                if let Err(error) = saga.stop().await {
                    message = format!("{message}; {error}");
                }
                self.changed(format!("Saga {name}"), Change::Removed, message).await;
            }
        }
    }

    async fn remove_streams(&mut self, wanted: &BTreeMap<String, EventStreamSpec>) {
        let gone: Vec<String> =
            self.streams.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            let resource = format!("EventStream {name}");
            let projection = self.projections.iter().find(|(_, reader)| reader.spec.stream_ref.name == name);
            let saga = self.sagas.iter().find(|(_, reader)| reader.spec.stream_ref.name == name);
            let reader = projection
                .map(|(name, _)| format!("Projection {name}"))
                .or_else(|| saga.map(|(name, _)| format!("Saga {name}")));
            if let Some(reader) = reader {
                let message = format!("{reader} still reads it; it goes on");
                self.changed(resource, Change::Refused, message).await;
                continue;
            }
            if let Some(stream) = self.streams.remove(&name) {
                let mut message =
                    format!("stopped; its events stay in {}", self.data.stream(&name).display());
                if let Err(error) = stream.stop().await {
                    message = format!("{message}; {error}");
                }
                self.changed(resource, Change::Removed, message).await;
            }
        }
    }

    async fn changed(&self, resource: String, change: Change, message: String) {
        self.tell(Notice::Changed { resource, change, message }).await;
    }
}

/// The first field that differs and may not.
fn immutable(old: &ProjectionSpec, new: &ProjectionSpec) -> Option<&'static str> {
    if old.stream_ref != new.stream_ref {
        Some("streamRef")
    } else if old.sink != new.sink {
        Some("sink")
    } else if old.start_from != new.start_from {
        Some("startFrom")
    } else {
        None
    }
}
