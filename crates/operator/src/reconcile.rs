//! One pass over one resource: find, part, children, apply, observe, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_resources::shared::ConditionType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Client, Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::apply::{ApplyError, apply, tidy};
use crate::ask::{Address, Answer, Workers};
use crate::children::{MANAGER, children};
use crate::cleanup::{self, Cleanup};
use crate::find::{Finder, Read};
use crate::found::Found;
use crate::kinds::{Kept, Stand};
use crate::metrics::OperatorMetrics;
use crate::observe;
use crate::packed::Packed;
use crate::part::{Owner, Part, Refused};
use crate::seen::{Rollout, Seen};
use crate::settings::{Settings, TokenIssuer};
use crate::status::{Facts, Wants, conditions, is_ready, is_true};
use crate::tell::Teller;
use crate::watched::Watched;

/// The annotation that stops the operator's work on a resource.
pub const RECONCILE: &str = "headwater.dev/reconcile";

/// How soon what pods say of themselves is looked at again while something is under way, and at rest.
const SOON: Duration = Duration::from_secs(3);
const AT_REST: Duration = Duration::from_secs(30);

/// How soon the next step of a deletion is taken.
const NEXT_STEP: Duration = Duration::from_secs(1);

/// How soon a pass is made again that has seen less than was written.
const LATER: Duration = Duration::from_millis(100);

/// How long what the cluster says of its tokens is believed.
const ISSUER_HOLDS: Duration = Duration::from_mins(10);

/// Why a pass failed. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server said no, or nothing.
    #[error("{what}: {error}")]
    Api {
        /// What was being done.
        what: &'static str,
        /// What it said.
        error: Box<kube::Error>,
    },
    /// A child cannot be as it is to be.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The API server says of its tokens what cannot be read.
    #[error("the API server's OpenID configuration: {0}")]
    Issuer(serde_json::Error),
}

fn api(what: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |error| Error::Api { what, error: Box::new(error) }
}

/// What every pass needs.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What is watched of the cluster.
    pub watched: Arc<Watched>,
    /// What children are made with.
    pub settings: Arc<Settings>,
    /// Who asks workers.
    pub workers: Workers,
    /// Who publishes events.
    pub teller: Teller,
    /// What is counted.
    pub metrics: Arc<OperatorMetrics>,
    issuer: Arc<Mutex<Option<(Instant, TokenIssuer)>>>,
    read: Arc<Read>,
}

impl Context {
    /// For `client`.
    pub fn new(
        client: Client,
        watched: Arc<Watched>,
        settings: Settings,
        workers: Workers,
        teller: Teller,
        metrics: OperatorMetrics,
    ) -> Self {
        let (settings, metrics) = (Arc::new(settings), Arc::new(metrics));
        Self {
            client,
            watched,
            settings,
            workers,
            teller,
            metrics,
            issuer: Arc::default(),
            read: Arc::default(),
        }
    }

    /// How the cluster's tokens are checked.
    async fn issuer(&self) -> Result<TokenIssuer, Error> {
        let mut known = self.issuer.lock().await;
        if let Some((since, issuer)) = &*known
            && since.elapsed() < ISSUER_HOLDS
        {
            return Ok(issuer.clone());
        }
        let get = async |path: &str| {
            let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError);
            self.client
                .request_text(request.map_err(api("asking the API server"))?)
                .await
                .map_err(api("reading how tokens are checked"))
        };
        let configuration: Value =
            serde_json::from_str(&get("/.well-known/openid-configuration").await?).map_err(Error::Issuer)?;
        let keys: Value = serde_json::from_str(&get("/openid/v1/jwks").await?).map_err(Error::Issuer)?;
        let issuer = TokenIssuer {
            issuer: configuration["issuer"].as_str().unwrap_or_default().to_owned(),
            jwks: keys.to_string(),
        };
        *known = Some((Instant::now(), issuer.clone()));
        Ok(issuer)
    }
}

/// A pass over a resource, as far as it could be read.
///
/// # Errors
/// What keeps it from being done now. It is tried again.
pub async fn reconcile<K: Kept>(resource: Arc<Packed<K>>, context: Arc<Context>) -> Result<Action, Error> {
    let _timed = context.metrics.pass(K::KIND);
    let is_past = context.watched.written.is_past(
        resource.meta().uid.as_deref().unwrap_or_default(),
        resource.meta().resource_version.as_deref(),
    );
    if is_past {
        return Ok(Action::requeue(LATER));
    }
    match resource.open() {
        Ok(resource) => match pass(&resource, &context).await {
            Err(Error::Apply(ApplyError::Stale)) => Ok(Action::requeue(LATER)),
            done => done,
        },
        Err(unreadable) => refuse::<K>(&unreadable, &context).await,
    }
}

async fn pass<K: Kept>(resource: &K, context: &Context) -> Result<Action, Error> {
    let Some(owner) = owner_of::<K>(resource.meta()) else { return Ok(Action::await_change()) };
    let common = resource.resource();
    if resource.meta().deletion_timestamp.is_some() {
        let reference = resource.object_ref(&());
        return let_go::<K>(&owner, resource.meta(), reference, common.deletes_data(), context).await;
    }
    let (client, watched) = (&context.client, &*context.watched);
    let mut facts = Facts {
        wants: resource.wants(),
        is_left_alone: resource.annotations().get(RECONCILE).is_some_and(|value| value == "disabled"),
        ..Facts::default()
    };
    if !facts.is_left_alone {
        let holding = cleanup::hold::<K>(client, resource.meta(), common.deletes_data()).await;
        holding.map_err(api("seeing to its finalizer"))?;
    }
    let mut rollout = watched.rollout(client, &owner).await.map_err(api("reading its Deployment"))?;
    let finder = Finder { client, watched, read: &context.read };
    let issuer = context.issuer().await?;
    let found = finder.find(&owner, &common, rollout.as_deref().map(|it| &it.of), issuer).await;
    let found = found.map_err(api("reading what it refers to"))?;
    let fingerprint = found.fingerprint(resource.meta());
    let is_settled = !facts.is_left_alone && watched.is_settled(&owner, fingerprint);
    // Nothing has changed of what its children follow from, nor of them.
    if !is_settled {
        facts.refused = match common.part(owner.clone(), &found, &context.settings) {
            Err(refused) => Some(refused),
            Ok(_) if facts.is_left_alone => None,
            Ok(part) => make(context, &part, &found, fingerprint, &mut rollout).await?,
        };
    }
    let (mut answer, mut is_asked) = (Answer::Silent, false);
    if let Some(rollout) = &rollout {
        let (pods, at) = observe::pods(&rollout.of, &watched.workers(&owner));
        facts.pods = Some(pods);
        if !at.is_empty() && facts.wants != Wants::Stopped {
            let at = Address { owner: owner.clone(), pods: at, tls: common.tls(&found) };
            answer = K::ask(&context.workers, &at).await;
            is_asked = true;
        }
    }
    if facts.wants != Wants::Stopped {
        resource.conclude(&answer, &mut facts);
    }
    let generation = resource.meta().generation.unwrap_or_default();
    let stand = Stand {
        generation,
        conditions: conditions(owner.kind, &facts, generation, resource.conditions(), Timestamp::now()),
        url: common.url(&owner),
        pods: facts.pods.as_ref().map(|pods| (pods.there, pods.ready, pods.wanted)),
        owner: owner.clone(),
    };
    let is_at_rest = is_ready(&stand.conditions) && !is_true(&stand.conditions, ConditionType::Reconciling);
    // Before it is said to be ready, so that it is not forgotten.
    if is_at_rest
        && !is_ready(resource.conditions())
        && let Some(rollout) = &rollout
    {
        tidy(client, watched, &owner, &rollout.of).await.map_err(api("deleting what it read before"))?;
    }
    let state = match &answer {
        Answer::Said(state) => Some(state),
        Answer::Refused(_) | Answer::Silent => None,
    };
    let status = resource.next(&stand, state);
    if status != resource.status() {
        let after = write_status::<K>(client, &owner, &status).await.map_err(api("writing its status"))?;
        let before = resource.resource_version();
        if let Some(before) = before.filter(|before| after.is_some_and(|after| after != *before)) {
            watched.written.overwrote(&owner.uid, before);
        }
        context.teller.changes(resource.object_ref(&()), resource.conditions(), &stand.conditions).await;
    }
    // All else that may change is watched.
    let is_unwatched =
        is_asked || matches!(facts.refused, Some(Refused::Conflict(_) | Refused::Forbidden(_)));
    Ok(Action::requeue(if is_at_rest || !is_unwatched { AT_REST } else { SOON }))
}

/// Has what a resource kept that is being deleted go with it, if it is to.
async fn let_go<K: Kept>(
    owner: &Owner,
    meta: &ObjectMeta,
    reference: ObjectReference,
    deletes_data: bool,
    context: &Context,
) -> Result<Action, Error> {
    let client = &context.client;
    if !cleanup::has_finalizer(meta) {
        return Ok(Action::await_change());
    }
    if deletes_data {
        let left = match cleanup::step(client, owner, meta).await.map_err(api("deleting what it keeps"))? {
            Cleanup::Waiting => return Ok(Action::requeue(NEXT_STEP)),
            Cleanup::Done => None,
            Cleanup::Left(why) => Some(why),
        };
        let (kind, namespace, name) = (owner.kind.as_str(), &owner.namespace, &owner.name);
        match &left {
            None => tracing::info!(kind, %namespace, %name, "what it kept is deleted"),
            Some(why) => tracing::warn!(kind, %namespace, %name, %why, "what it kept is left"),
        }
        context.teller.deleted(reference, left.as_deref()).await;
    }
    // What is left of it here is the past from now on.
    if let Some(version) = meta.resource_version.clone() {
        context.watched.written.overwrote(&owner.uid, version);
    }
    let ended = cleanup::end::<K>(client, owner, meta).await.map_err(api("letting go of it"));
    if ended.is_err() {
        context.watched.written.unsettle(&owner.uid);
    }
    ended?;
    Ok(Action::await_change())
}

/// Makes the children of `part`, whose Deployment is `rollout` before and after; what keeps them from being made, where it is for its owner to
/// mend.
async fn make(
    context: &Context,
    part: &Part,
    found: &Found,
    fingerprint: u64,
    rollout: &mut Option<Arc<Seen<Rollout>>>,
) -> Result<Option<Refused>, Error> {
    let owner = &part.owner;
    let children = children(part, found, &context.settings);
    match apply(&context.client, &context.watched, owner, &children, rollout.as_ref()).await {
        Ok(done) => {
            if done.applied + done.deleted > 0 {
                tracing::info!(
                    kind = owner.kind.as_str(), namespace = %owner.namespace, name = %owner.name,
                    applied = done.applied, deleted = done.deleted, "children changed"
                );
            }
            *rollout = done.rollout;
            let missing = part.misses(found);
            // What waits for something is looked at again.
            if missing.is_none() {
                context.watched.written.settle(&owner.uid, fingerprint, &children);
            }
            Ok(missing.map(Refused::Missing))
        }
        Err(ApplyError::Conflict(why)) => Ok(Some(Refused::Conflict(why))),
        Err(ApplyError::Invalid(why)) => Ok(Some(Refused::Invalid(format!(
            "{why}; correct what the spec says of it, most likely in spec.workload or spec.networkPolicy"
        )))),
        Err(ApplyError::Forbidden(why)) => Ok(Some(Refused::Forbidden(why))),
        Err(error @ (ApplyError::Stale | ApplyError::Api { .. })) => Err(error.into()),
    }
}

/// Says of a resource that cannot be read that it cannot. It passed its definition, so another version of the operator knows it: what is made of
/// it is left as it is.
async fn refuse<K: Kept>(unreadable: &InvalidObject, context: &Context) -> Result<Action, Error> {
    let meta = &unreadable.metadata;
    let Some(owner) = owner_of::<K>(meta) else { return Ok(Action::await_change()) };
    let reference = ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(owner.name.clone()),
        namespace: Some(owner.namespace.clone()),
        uid: Some(owner.uid.clone()),
        ..ObjectReference::default()
    };
    if meta.deletion_timestamp.is_some() {
        // It had the finalizer because it said so.
        return let_go::<K>(&owner, meta, reference, true, context).await;
    }
    let objects: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &owner.namespace, &ApiResource::erase::<K>(&()));
    let what = "saying that it cannot be read";
    let Some(there) = objects.get_opt(&owner.name).await.map_err(api(what))? else {
        return Ok(Action::await_change());
    };
    let before: Vec<Condition> =
        serde_json::from_value(there.data["status"]["conditions"].clone()).unwrap_or_default();
    let generation = there.metadata.generation.unwrap_or_default();
    let why =
        format!("it cannot be read: {}; correct it, or use the operator that knows it", unreadable.error);
    let facts = Facts { refused: Some(Refused::Invalid(why)), ..Facts::default() };
    let after = conditions(owner.kind, &facts, generation, &before, Timestamp::now());
    if after != before {
        tracing::warn!(
            kind = K::KIND.as_str(), namespace = %owner.namespace, name = %owner.name, error = %unreadable.error,
            "a resource cannot be read, and is left as it is"
        );
        let status = json!({"observedGeneration": generation, "conditions": after});
        let patch = Patch::Merge(json!({ "metadata": {"uid": owner.uid}, "status": status }));
        objects.patch_status(&owner.name, &PatchParams::default(), &patch).await.map_err(api(what))?;
        context.teller.changes(reference, &before, &after).await;
    }
    Ok(Action::await_change())
}

/// The version of the resource then, if it is still there.
async fn write_status<K: Kept>(
    client: &Client,
    owner: &Owner,
    status: &Value,
) -> kube::Result<Option<String>> {
    let api: Api<K> = Api::namespaced(client.clone(), &owner.namespace);
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // Somebody else's of the same name gets none of it.
        "metadata": {"uid": owner.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    match api.patch_status(&owner.name, &parameters, &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        other => other.map(|it| it.resource_version()),
    }
}

fn owner_of<K: Kept>(meta: &ObjectMeta) -> Option<Owner> {
    Some(Owner {
        kind: K::KIND,
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
    })
}
