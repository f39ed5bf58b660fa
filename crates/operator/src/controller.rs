//! What is watched, and what a change of it leads to.
//!
//! ```text
//! resource (spec, annotations) ─┐
//! its children ─────────────────┤
//! Secrets, ConfigMaps and       │
//! EventStreams that it names ───┼──▶ reconcile
//! what follows it ──────────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use headwater_resources::{EventStream, Projection, Saga};
use headwater_runtime::Readiness;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Api;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::predicates;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{Controller, Predicate, PredicateConfig, WatchStreamExt, reflector, watcher};
use kube::{Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::children::MANAGER;
use crate::kinds::Kept;
use crate::part::Kind;
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

/// Keeps all resources in `scope` until `stop`; passes that have begun are finished. `readiness` waits for each kind to be seen.
pub async fn run(context: Context, scope: &Scope, readiness: &Readiness, stop: &CancellationToken) {
    tokio::join!(
        keep::<EventStream>(context.clone(), scope, readiness, stop),
        keep::<Projection>(context.clone(), scope, readiness, stop),
        keep::<Saga>(context, scope, readiness, stop),
    );
}

async fn keep<K: Kept>(context: Context, scope: &Scope, readiness: &Readiness, stop: &CancellationToken) {
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
        HorizontalPodAutoscaler,
        NetworkPolicy
    );
    let named = reader.clone();
    let secrets = watcher(scope.api::<PartialObjectMeta<Secret>>(&client), watcher::Config::default());
    controller = controller.watches_stream(
        secrets.default_backoff().touched_objects(),
        move |secret: PartialObjectMeta<Secret>| naming(&named, &secret, Named::Secret),
    );
    let named = reader.clone();
    let maps = watcher(scope.api::<PartialObjectMeta<ConfigMap>>(&client), watcher::Config::default());
    controller = controller.watches_stream(
        maps.default_backoff().touched_objects(),
        move |map: PartialObjectMeta<ConfigMap>| naming(&named, &map, Named::ConfigMap),
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
    if K::KIND == Kind::EventStream {
        // Who may call is written into what the event store reads.
        macro_rules! followed_by {
            ($($follower:ty),*) => {
                $(
                    let named = reader.clone();
                    let followers =
                        watcher(scope.api::<PartialObjectMeta<$follower>>(&client), watcher::Config::default());
                    controller = controller.watches_stream(
                        followers
                            .default_backoff()
                            .touched_objects()
                            .predicate_filter(predicates::generation, PredicateConfig::default()),
                        move |it: PartialObjectMeta<$follower>| naming(&named, &it, Named::Follower),
                    );
                )*
            };
        }
        followed_by!(Projection, Saga);
    }
    context.metrics.tell_conditions(reader.clone());
    let seen = readiness.wait_for(format!("the {}s of the cluster", K::KIND.as_str()));
    let seeing = async {
        // Where the API server has no such definition, it is never.
        if reader.wait_until_ready().await.is_ok() {
            seen.open();
        }
    };
    let stopped = stop.clone();
    let kept = controller
        .graceful_shutdown_on(async move { stopped.cancelled().await })
        .run(reconcile::<K>, try_again, Arc::new(context))
        .for_each(async |pass| {
            match pass {
                // Said where it is tried again.
                Ok(_) | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(kind = K::KIND.as_str(), %error, "the cluster cannot be watched, and it is tried again"),
            }
        });
    tokio::join!(kept, seeing);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Secret,
    ConfigMap,
    Stream,
    /// Not what is named, but what may name it.
    Follower,
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
            Named::ConfigMap => {
                references.config_maps.iter().any(|it| it.name == name) || !references.streams.is_empty()
            }
            Named::Stream => references.streams.contains(&name),
            Named::Follower => true,
        }
    };
    all.iter().filter(names_it).map(|resource| ObjectRef::from_obj(&**resource)).collect()
}

fn try_again<K: Kept>(
    resource: Arc<DeserializeGuard<K>>,
    error: &crate::reconcile::Error,
    context: Arc<Context>,
) -> Action {
    context.metrics.failed(K::KIND);
    tracing::warn!(
        kind = K::KIND.as_str(), namespace = resource.namespace(), name = %resource.name_any(), %error,
        "a pass failed, and is tried again"
    );
    let spread =
        resource.name_any().bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Action::requeue(AGAIN.0 + Duration::from_millis(spread % AGAIN.1))
}
