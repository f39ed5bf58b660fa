//! What is watched, and what a change of it leads to.
//!
//! ```text
//! resource (spec, annotations) ─┐
//! its children ─────────────────┤
//! Secrets that it names ────────┼──▶ reconcile
//! EventStreams that it names ───┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{Action, Config};
use kube::runtime::predicates;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::children::MANAGER;
use crate::kinds::Kept;
use crate::reconcile::{Context, reconcile};

/// Passes at a time over resources of one kind: they wait for the API server most of the time.
const CONCURRENCY: u16 = 8;

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How soon a pass that failed is tried again, and by how much that is spread: an API server that is back is not met by all at once.
const AGAIN: (Duration, u64) = (Duration::from_secs(2), 3_000);

/// Where resources are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// In every namespace.
    All,
    /// In one.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        match self {
            Self::All => Api::all(client.clone()),
            Self::Namespace(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

/// Keeps all resources in `scope` until `stop`; passes that have begun are finished.
pub async fn run(context: Context, scope: &Scope, stop: &CancellationToken) {
    tokio::join!(
        keep::<EventStream>(context.clone(), scope, stop),
        keep::<Projection>(context.clone(), scope, stop),
        keep::<Saga>(context, scope, stop),
    );
}

async fn keep<K: Kept>(context: Context, scope: &Scope, stop: &CancellationToken) {
    let client = context.client.clone();
    let (reader, writer) = store();
    // What only the status says is the operator's own.
    let filter = predicates::generation::<DeserializeGuard<K>>;
    let resources =
        reflector(writer, watcher(scope.api::<DeserializeGuard<K>>(&client), watcher::Config::default()))
            .default_backoff()
            .touched_objects()
            .predicate_filter(filter.combine(predicates::annotations), PredicateConfig::default());
    let ours = watcher::Config::default().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
    let mut controller = Controller::for_stream(resources, reader.clone())
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY));
    macro_rules! owns {
        ($($child:ty),*) => {
            $(
                let children = watcher(scope.api::<PartialObjectMeta<$child>>(&client), ours.clone());
                controller = controller.owns_stream(children.default_backoff().touched_objects());
            )*
        };
    }
    owns!(
        Deployment,
        Service,
        ConfigMap,
        ServiceAccount,
        Secret,
        PodDisruptionBudget,
        HorizontalPodAutoscaler
    );
    let named = reader.clone();
    let secrets = watcher(scope.api::<PartialObjectMeta<Secret>>(&client), watcher::Config::default());
    controller = controller.watches_stream(
        secrets.default_backoff().touched_objects(),
        move |secret: PartialObjectMeta<Secret>| naming(&named, &secret, Named::Secret),
    );
    let named = reader.clone();
    let streams = watcher(scope.api::<PartialObjectMeta<EventStream>>(&client), watcher::Config::default());
    controller = controller.watches_stream(
        streams
            .default_backoff()
            .touched_objects()
            .predicate_filter(predicates::generation, PredicateConfig::default()),
        move |stream: PartialObjectMeta<EventStream>| naming(&named, &stream, Named::Stream),
    );
    let stopped = stop.clone();
    controller
        .graceful_shutdown_on(async move { stopped.cancelled().await })
        .run(reconcile::<K>, try_again, Arc::new(context))
        .for_each(async |pass| {
            if let Err(error) = pass {
                tracing::debug!(kind = K::KIND.as_str(), %error, "a pass is tried again");
            }
        })
        .await;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Secret,
    Stream,
}

/// The resources that name `object`.
fn naming<K: Kept, O: Resource>(
    resources: &Store<DeserializeGuard<K>>,
    object: &O,
    kind: Named,
) -> Vec<ObjectRef<DeserializeGuard<K>>> {
    let (namespace, name) = (object.namespace(), object.name_any());
    let all = resources.state();
    let names_it = |resource: &&Arc<DeserializeGuard<K>>| {
        if resource.namespace() != namespace {
            return false;
        }
        let Ok(resource) = &resource.0 else { return false };
        let references = resource.resource().references();
        match kind {
            // An event stream's Secrets are also those of what follows it.
            Named::Secret => {
                references.secrets.iter().any(|it| it.name == name) || !references.streams.is_empty()
            }
            Named::Stream => references.streams.contains(&name),
        }
    };
    all.iter().filter(names_it).map(|resource| ObjectRef::from_obj(&**resource)).collect()
}

fn try_again<K: Kept>(
    resource: Arc<DeserializeGuard<K>>,
    error: &crate::reconcile::Error,
    _: Arc<Context>,
) -> Action {
    tracing::warn!(
        kind = K::KIND.as_str(), namespace = resource.namespace(), name = %resource.name_any(), %error,
        "a pass failed, and is tried again"
    );
    let spread =
        resource.name_any().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Action::requeue(AGAIN.0 + Duration::from_millis(spread % AGAIN.1))
}
