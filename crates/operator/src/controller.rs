//! A controller for each kind of resource: passes over those that a change concerns.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use headwater_resources::{EventStream, Projection, Saga};
use headwater_runtime::Readiness;
use kube::ResourceExt;
use kube::runtime::Controller;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio_util::sync::CancellationToken;

use crate::kinds::Kept;
use crate::naming::Place;
use crate::packed::Packed;
use crate::part::Kind;
use crate::reconcile::{Context, reconcile};
use crate::watched::Watches;

/// Passes at a time over resources of one kind: they wait for the API server and for workers most of the time.
const CONCURRENCY: u16 = 16;

/// Changes that come within this time are one.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// How soon a pass that failed is tried again, and by how much that is spread: an API server that is back is not met by all at once.
const AGAIN: (Duration, u64) = (Duration::from_secs(2), 3_000);

/// Keeps all resources that are watched until `stop`; passes that have begun are finished. `readiness` waits for each kind to be seen.
pub async fn run(context: Context, mut watches: Watches, readiness: &Readiness, stop: &CancellationToken) {
    let watched = context.watched.clone();
    let [streams, projections, sagas] = Kind::ALL.map(|kind| watches.changes(kind));
    let kept = async {
        tokio::join!(
            keep::<EventStream>(&context, watched.streams.clone(), streams, readiness, stop),
            keep::<Projection>(&context, watched.projections.clone(), projections, readiness, stop),
            keep::<Saga>(&context, watched.sagas.clone(), sagas, readiness, stop),
        )
    };
    tokio::select! {
        _ = kept => {}
        () = watches.run() => {}
    }
}

async fn keep<K: Kept>(
    context: &Context,
    resources: Store<Packed<K>>,
    changes: impl Stream<Item = Place> + Send + 'static,
    readiness: &Readiness,
    stop: &CancellationToken,
) {
    context.metrics.tell_conditions(resources.clone());
    let seen = readiness.wait_for(format!("the {}s of the cluster", K::KIND.as_str()));
    let seeing = async {
        // Where the API server has no such definition, it is never.
        context.watched.has_seen(K::KIND.as_str()).await;
        seen.open();
        std::future::pending::<()>().await;
    };
    let [stopped, stopping] = [stop.clone(), stop.clone()];
    // What waits for its turn when it is to end is the next operator's.
    let pass = move |resource, context: Arc<Context>| {
        let stopping = stopping.clone();
        async move {
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Ok(Action::await_change()),
                () = context.watched.ready() => {}
            }
            reconcile::<K>(resource, context).await
        }
    };
    let kept = Controller::for_stream(futures_util::stream::pending(), resources.clone())
        .reconcile_on(changes.map(|place| ObjectRef::new(&place.name).within(&place.namespace)))
        .with_config(Config::default().debounce(DEBOUNCE).concurrency(CONCURRENCY))
        .graceful_shutdown_on(async move { stopped.cancelled().await })
        .run(pass, try_again, Arc::new(context.clone()))
        .for_each(async |pass| {
            match pass {
                // Said where it is tried again.
                Ok(_)
                | Err(controller::Error::ReconcilerFailed(..) | controller::Error::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(kind = K::KIND.as_str(), %error, "a pass was not begun"),
            }
        });
    tokio::select! {
        () = kept => {}
        () = seeing => {}
    }
}

fn try_again<K: Kept>(
    resource: Arc<Packed<K>>,
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
