//! One pass over one resource: find, part, children, apply, observe, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_resources::shared::ConditionType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::core::error_boundary::InvalidObject;
use kube::core::{ApiResource, DeserializeGuard, DynamicObject, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::apply::{ApplyError, apply, tidy};
use crate::ask::{Address, Answer, Workers};
use crate::children::{MANAGER, children};
use crate::find::find;
use crate::found::Found;
use crate::kinds::{Kept, Stand};
use crate::metrics::OperatorMetrics;
use crate::observe;
use crate::part::{Owner, Part, Refused};
use crate::settings::{Settings, TokenIssuer};
use crate::status::{Facts, Wants, conditions, is_ready, is_true};
use crate::tell::Teller;

/// The annotation that stops the operator's work on a resource.
pub const RECONCILE: &str = "headwater.dev/reconcile";

/// How soon what pods say of themselves is looked at again while something is under way, and at rest.
const SOON: Duration = Duration::from_secs(3);
const AT_REST: Duration = Duration::from_secs(30);

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
    /// What children are made with.
    pub settings: Arc<Settings>,
    /// Who asks workers.
    pub workers: Workers,
    /// Who publishes events.
    pub teller: Teller,
    /// What is counted.
    pub metrics: Arc<OperatorMetrics>,
    issuer: Arc<Mutex<Option<(Instant, TokenIssuer)>>>,
}

impl Context {
    /// For `client`.
    pub fn new(
        client: Client,
        settings: Settings,
        workers: Workers,
        teller: Teller,
        metrics: OperatorMetrics,
    ) -> Self {
        let (settings, metrics) = (Arc::new(settings), Arc::new(metrics));
        Self { client, settings, workers, teller, metrics, issuer: Arc::default() }
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
pub async fn reconcile<K: Kept>(
    resource: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let _timed = context.metrics.pass(K::KIND);
    match &resource.0 {
        Ok(resource) => pass(resource, &context).await,
        Err(unreadable) => refuse::<K>(unreadable, &context).await,
    }
}

async fn pass<K: Kept>(resource: &K, context: &Context) -> Result<Action, Error> {
    let Some(owner) = owner_of::<K>(resource.meta()) else { return Ok(Action::await_change()) };
    if resource.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let client = &context.client;
    let mut facts = Facts {
        wants: resource.wants(),
        is_left_alone: resource.annotations().get(RECONCILE).is_some_and(|value| value == "disabled"),
        ..Facts::default()
    };
    let common = resource.resource();
    let found = find(client, &owner, &common, context.issuer().await?)
        .await
        .map_err(api("reading what it refers to"))?;
    facts.refused = match common.part(owner.clone(), &found, &context.settings) {
        Err(refused) => Some(refused),
        Ok(_) if facts.is_left_alone => None,
        Ok(part) => make(client, &part, &found, &context.settings).await?,
    };
    let observed = observe::pods(client, &owner).await.map_err(api("looking at its pods"))?;
    let mut answer = Answer::Silent;
    if let Some((pods, at)) = observed {
        facts.pods = Some(pods);
        if !at.is_empty() && facts.wants != Wants::Stopped {
            let at = Address { owner: owner.clone(), pods: at, tls: common.tls(&found) };
            answer = K::ask(&context.workers, &at).await;
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
    if is_at_rest && !is_ready(resource.conditions()) {
        tidy(client, &owner).await.map_err(api("deleting what it read before"))?;
    }
    let state = match &answer {
        Answer::Said(state) => Some(state),
        Answer::Refused(_) | Answer::Silent => None,
    };
    let status = resource.next(&stand, state);
    if status != resource.status() {
        write_status::<K>(client, &owner, &status).await.map_err(api("writing its status"))?;
        context.teller.changes(resource.object_ref(&()), resource.conditions(), &stand.conditions).await;
    }
    Ok(Action::requeue(if is_at_rest { AT_REST } else { SOON }))
}

/// Makes the children of `part`; what keeps them from being made, where it is for its owner to mend.
async fn make(
    client: &Client,
    part: &Part,
    found: &Found,
    settings: &Settings,
) -> Result<Option<Refused>, Error> {
    let owner = &part.owner;
    match apply(client, owner, &children(part, found, settings)).await {
        Ok(written) => {
            if written.applied + written.deleted > 0 {
                tracing::info!(
                    kind = owner.kind.as_str(), namespace = %owner.namespace, name = %owner.name,
                    applied = written.applied, deleted = written.deleted, "children changed"
                );
            }
            Ok(part.misses(found).map(Refused::Missing))
        }
        Err(ApplyError::Conflict(why)) => Ok(Some(Refused::Conflict(why))),
        Err(ApplyError::Invalid(why)) => Ok(Some(Refused::Invalid(format!(
            "{why}; correct what the spec says of it, most likely in spec.workload or spec.networkPolicy"
        )))),
        Err(ApplyError::Forbidden(why)) => Ok(Some(Refused::Forbidden(why))),
        Err(error @ ApplyError::Api { .. }) => Err(error.into()),
    }
}

/// Says of a resource that cannot be read that it cannot. It passed its definition, so another version of the operator knows it: what is made of
/// it is left as it is.
async fn refuse<K: Kept>(unreadable: &InvalidObject, context: &Context) -> Result<Action, Error> {
    let Some(owner) = owner_of::<K>(&unreadable.metadata) else { return Ok(Action::await_change()) };
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
        let reference = ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            name: Some(owner.name.clone()),
            namespace: Some(owner.namespace.clone()),
            uid: Some(owner.uid.clone()),
            ..ObjectReference::default()
        };
        context.teller.changes(reference, &before, &after).await;
    }
    Ok(Action::await_change())
}

async fn write_status<K: Kept>(client: &Client, owner: &Owner, status: &Value) -> kube::Result<()> {
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
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        other => other.map(drop),
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
