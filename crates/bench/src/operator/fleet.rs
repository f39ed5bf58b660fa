//! Many resources: the orders of `examples/orders`, under many names.

use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cluster::{Cluster, apply, until};

const STREAM: &str = include_str!("../../../../examples/orders/eventstream.yaml");
const PROJECTION: &str = include_str!("../../../../examples/orders/projection.yaml");
const SAGA: &str = include_str!("../../../../examples/orders/saga.yaml");

/// Children of what follows an event stream: Deployment, Service, ServiceAccount, two ConfigMaps.
pub(super) const OF_A_FOLLOWER: usize = 5;
/// An event stream has a binding, too.
pub(super) const OF_A_STREAM: usize = 6;

/// Requests under way, from one client: as many as the operator has passes over resources of all kinds.
pub(super) const AT_ONCE: usize = 48;

/// How many resources there are.
#[derive(Clone, Copy)]
pub(super) struct Size {
    streams: usize,
    projections: usize,
    sagas: usize,
}

pub(super) const SIZE: Size = Size { streams: 10, projections: 900, sagas: 90 };

impl Size {
    pub(super) const fn resources(self) -> usize {
        self.streams + self.projections + self.sagas
    }

    pub(super) const fn children(self) -> usize {
        self.streams * OF_A_STREAM + (self.projections + self.sagas) * OF_A_FOLLOWER
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { streams, projections, sagas } = self;
        write!(f, "{streams} EventStreams, {projections} Projections, {sagas} Sagas")
    }
}

/// Resources in a namespace of their own.
pub(super) struct Fleet {
    pub(super) client: Client,
    pub(super) namespace: String,
}

/// Children as they are made.
pub(super) struct Made {
    seen: mpsc::UnboundedReceiver<(&'static str, String, Instant)>,
    _watches: JoinSet<()>,
    all: HashSet<(&'static str, String)>,
}

impl Fleet {
    pub(super) async fn new(cluster: &Cluster, namespace: &str) -> Result<Self> {
        let client = cluster.client.clone();
        let metadata = json!({ "name": namespace });
        apply(&client, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await?;
        let metadata = json!({"name": "orders-db", "namespace": namespace});
        let data = json!({"uri": "postgresql://orders@nowhere/orders"});
        apply(
            &client,
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}),
        )
        .await?;
        Ok(Self { client, namespace: namespace.to_owned() })
    }

    pub(super) async fn stream(&self, name: &str) -> Result<()> {
        let mut object = self.named(STREAM, name)?;
        object["spec"]["database"]["schema"] = json!(format!("hw_{}", name.replace('-', "_")));
        apply(&self.client, &object).await
    }

    pub(super) async fn projection(&self, name: &str, stream: &str) -> Result<()> {
        let mut object = self.named(PROJECTION, name)?;
        object["spec"]["streamRef"]["name"] = json!(stream);
        apply(&self.client, &object).await
    }

    async fn saga(&self, name: &str, stream: &str) -> Result<()> {
        let mut object = self.named(SAGA, name)?;
        object["spec"]["streamRef"]["name"] = json!(stream);
        apply(&self.client, &object).await
    }

    fn named(&self, text: &str, name: &str) -> Result<Value> {
        let mut object: Value = serde_saphyr::from_str(text).context("a manifest of examples/orders")?;
        object["metadata"] = json!({"name": name, "namespace": self.namespace});
        Ok(object)
    }

    /// Applies all of them, event streams first.
    pub(super) async fn apply(&self) -> Result<()> {
        let stream = |number: usize| format!("orders-{}", number % SIZE.streams);
        for number in 0..SIZE.streams {
            self.stream(&stream(number)).await?;
        }
        stream::iter(0..SIZE.projections + SIZE.sagas)
            .map(Ok)
            .try_for_each_concurrent(AT_ONCE, |number| async move {
                match number.checked_sub(SIZE.projections) {
                    None => self.projection(&format!("view-{number}"), &stream(number)).await,
                    Some(number) => self.saga(&format!("saga-{number}"), &stream(number)).await,
                }
            })
            .await
    }

    /// Sees children from now on.
    pub(super) fn watch(&self) -> Made {
        let (sender, seen) = mpsc::unbounded_channel();
        let mut watches = JoinSet::new();
        watches.spawn(self.watching::<Deployment>(sender.clone()));
        watches.spawn(self.watching::<Service>(sender.clone()));
        watches.spawn(self.watching::<ServiceAccount>(sender.clone()));
        watches.spawn(self.watching::<ConfigMap>(sender.clone()));
        watches.spawn(self.watching::<Secret>(sender));
        Made { seen, _watches: watches, all: HashSet::new() }
    }

    fn watching<K>(
        &self,
        sender: mpsc::UnboundedSender<(&'static str, String, Instant)>,
    ) -> impl Future<Output = ()> + Send + use<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + k8s_openapi::Resource
            + Clone
            + DeserializeOwned
            + std::fmt::Debug
            + Send
            + 'static,
    {
        let api: Api<PartialObjectMeta<K>> = Api::namespaced(self.client.clone(), &self.namespace);
        let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=headwater-operator");
        async move {
            let mut objects = std::pin::pin!(watcher(api, ours).default_backoff().applied_objects());
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                // Who counts has seen enough.
                if sender
                    .send((<K as k8s_openapi::Resource>::KIND, object.name_any(), Instant::now()))
                    .is_err()
                {
                    return;
                }
            }
        }
    }

    /// Waits until all that there is is Ready.
    pub(super) async fn until_ready(&self) -> Result<()> {
        for kind in ["EventStream", "Projection", "Saga"] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("headwater.dev", "v1alpha1", kind));
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            until(&format!("each {kind} is Ready"), || async {
                let all = api.list(&ListParams::default()).await?;
                Ok(all.iter().all(is_ready))
            })
            .await?;
        }
        Ok(())
    }
}

fn is_ready(resource: &DynamicObject) -> bool {
    let conditions = resource.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True")
}

impl Made {
    /// Waits for that many more children than there were, and says when the last was seen.
    pub(super) async fn all(&mut self, more: usize) -> Result<Instant> {
        let expected = self.all.len() + more;
        let mut last = Instant::now();
        while self.all.len() < expected {
            let seen = tokio::time::timeout(super::PATIENCE, self.seen.recv()).await;
            let seen = seen.with_context(|| format!("{} of {expected} children", self.all.len()))?;
            let (kind, name, at) = seen.context("a watch")?;
            if self.all.insert((kind, name)) {
                last = at;
            }
        }
        Ok(last)
    }
}
