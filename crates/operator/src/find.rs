//! Reads what a resource refers to. Of Secrets, only names, keys and versions are kept.

use std::collections::{BTreeMap, BTreeSet};

use headwater_resources::{EventStream, Projection, Saga};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use crate::children::running;
use crate::found::{Found, Running, SecretFound};
use crate::part::{Kind, Owner, Resource};
use crate::references::References;
use crate::settings::TokenIssuer;

/// All that `resource`, and the event streams that it names, refer to.
///
/// # Errors
/// What the API server says; that something is not there is none.
pub async fn find(
    client: &Client,
    owner: &Owner,
    resource: &Resource,
    issuer: TokenIssuer,
) -> kube::Result<Found> {
    let mut references = resource.references();
    let mut found = Found {
        secrets: BTreeMap::new(),
        config_maps: BTreeMap::new(),
        streams: BTreeMap::new(),
        followers: Vec::new(),
        issuer,
        running: of_pods(client, owner).await?,
    };
    let streams: Api<EventStream> = Api::namespaced(client.clone(), &owner.namespace);
    let named = match resource {
        Resource::Saga(saga) => saga.spec.streams().into_iter().map(str::to_owned).collect(),
        _ => references.streams.clone(),
    };
    for name in named {
        if let Some(stream) = streams.get_opt(&name).await? {
            references.add(&Resource::EventStream(Box::new(stream.clone())).references());
            found.streams.insert(name, stream);
        }
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &owner.namespace);
    for name in names(&references.secrets) {
        if let Some(secret) = secrets.get_opt(name).await? {
            let version = secret.resource_version().unwrap_or_default();
            let keys = secret.data.unwrap_or_default().into_keys().collect();
            found.secrets.insert(name.to_owned(), SecretFound { version, keys });
        }
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &owner.namespace);
    for name in names(&references.config_maps) {
        if let Some(map) = maps.get_opt(name).await? {
            found.config_maps.insert(name.to_owned(), map.data.unwrap_or_default());
        }
    }
    if let Resource::EventStream(stream) = resource
        && !stream.spec.access.is_empty()
    {
        found.followers = followers(client, owner).await?;
    }
    Ok(found)
}

/// What the pods that there are were made of. `None` where its ConfigMap is not there: others could not be made of it.
async fn of_pods(client: &Client, owner: &Owner) -> kube::Result<Option<Running>> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &owner.namespace);
    let deployment = deployments.get_metadata_opt(&owner.kind.child(&owner.name)).await?;
    let Some(running) = deployment.as_ref().and_then(|it| running(it.annotations())) else { return Ok(None) };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &owner.namespace);
    Ok(maps.get_metadata_opt(&running.manifests).await?.map(|_| running))
}

fn names(references: &[crate::references::Reference]) -> BTreeSet<&str> {
    references.iter().map(|reference| reference.name.as_str()).collect()
}

async fn followers(client: &Client, owner: &Owner) -> kube::Result<Vec<(Kind, String)>> {
    let all = ListParams::default();
    let projections: Api<Projection> = Api::namespaced(client.clone(), &owner.namespace);
    let sagas: Api<Saga> = Api::namespaced(client.clone(), &owner.namespace);
    let mut followers = Vec::new();
    for projection in projections.list(&all).await? {
        if projection.spec.stream_ref.name == owner.name {
            followers.push((Kind::Projection, projection.name_any()));
        }
    }
    for saga in sagas.list(&all).await? {
        if saga.spec.streams().contains(owner.name.as_str()) {
            followers.push((Kind::Saga, saga.name_any()));
        }
    }
    followers.sort();
    Ok(followers)
}

impl References {
    fn add(&mut self, others: &Self) {
        self.secrets.extend(others.secrets.iter().cloned());
        self.config_maps.extend(others.config_maps.iter().cloned());
    }
}
