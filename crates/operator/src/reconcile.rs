//! One pass over one resource: find, part, children, apply, observe, status.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::apply::{ApplyError, apply, tidy};
use crate::ask::Workers;
use crate::children::{MANAGER, children};
use crate::find::find;
use crate::kinds::{Kept, Stand};
use crate::observe;
use crate::part::Owner;
use crate::settings::{Settings, TokenIssuer};
use crate::status::{Facts, conditions};
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
    issuer: Arc<Mutex<Option<(Instant, TokenIssuer)>>>,
}

impl Context {
    /// For `client`.
    pub fn new(client: Client, settings: Settings, workers: Workers, teller: Teller) -> Self {
        Self { client, settings: Arc::new(settings), workers, teller, issuer: Arc::default() }
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
    match &resource.0 {
        Ok(resource) => pass(resource, &context).await,
        // Its CRD has checked it: another version of the operator wrote it. It is left alone, and so are its children.
        Err(error) => {
            tracing::warn!(
                kind = K::KIND.as_str(), name = %resource.name_any(), %error, "a resource cannot be read, and is left as it is"
            );
            Ok(Action::await_change())
        }
    }
}

async fn pass<K: Kept>(resource: &K, context: &Context) -> Result<Action, Error> {
    let Some(owner) = owner_of(resource) else { return Ok(Action::await_change()) };
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
    let mut answers_at = None;
    match common.part(owner.clone(), &found, &context.settings) {
        Err(refused) => facts.refused = Some(refused),
        Ok(part) => {
            answers_at = Some(part.url());
            if !facts.is_left_alone {
                let wanted = children(&part, &found, &context.settings);
                match apply(client, &owner, &wanted).await {
                    Ok(written) if written.applied + written.deleted > 0 => {
                        tracing::info!(
                            kind = owner.kind.as_str(), namespace = %owner.namespace, name = %owner.name,
                            applied = written.applied, deleted = written.deleted, "children changed"
                        );
                    }
                    Ok(_) => {}
                    Err(ApplyError::Conflict(conflict)) => facts.conflict = Some(conflict),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    facts.pods = observe::pods(client, &owner).await.map_err(api("looking at its pods"))?;
    let answers = facts.pods.as_ref().is_some_and(|pods| pods.ready > 0);
    let mut state = None;
    if answers {
        match K::ask(&context.workers, &owner).await {
            Ok(said) => {
                resource.conclude(&said, &mut facts);
                state = Some(said);
            }
            Err(error) => {
                tracing::debug!(kind = owner.kind.as_str(), name = %owner.name, %error, "its pods do not answer");
            }
        }
    }
    let generation = resource.meta().generation.unwrap_or_default();
    let stand = Stand {
        generation,
        conditions: conditions(owner.kind, &facts, generation, resource.conditions(), Timestamp::now()),
        url: answers_at,
        pods: facts.pods.as_ref().map(|pods| (pods.there, pods.ready, pods.wanted)),
        owner: Some(owner.clone()),
    };
    let is_ready =
        |conditions: &[Condition]| conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    let is_at_rest = is_ready(&stand.conditions);
    // Before it is said to be ready, so that it is not forgotten.
    if is_at_rest && !is_ready(resource.conditions()) {
        tidy(client, &owner).await.map_err(api("deleting what it read before"))?;
    }
    let status = resource.next(&stand, state.as_ref());
    if status != resource.status() {
        write_status::<K>(client, &owner, &status).await.map_err(api("writing its status"))?;
        context.teller.changes(resource, resource.conditions(), &stand.conditions).await;
    }
    Ok(Action::requeue(if is_at_rest { AT_REST } else { SOON }))
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

fn owner_of<K: Kept>(resource: &K) -> Option<Owner> {
    let meta = resource.meta();
    Some(Owner {
        kind: K::KIND,
        namespace: meta.namespace.clone()?,
        name: meta.name.clone()?,
        uid: meta.uid.clone()?,
    })
}
