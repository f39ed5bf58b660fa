//! Reads what a resource refers to. Of Secrets, only names, keys and digests are kept, and what certificates say to everybody.

use std::collections::{BTreeMap, BTreeSet};

use headwater_api::tls::certificates;
use headwater_resources::{EventStream, Projection, Saga};
use headwater_runtime::tls::not_after;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DeserializeGuard, DynamicObject};
use kube::{Client, ResourceExt};

use crate::children::{MANAGER, running, scaled_object};
use crate::digest::digest;
use crate::found::{Count, Found, SecretFound};
use crate::part::{Kind, Owner, Resource};
use crate::references::{Reference, References};
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
        unreadable: BTreeMap::new(),
        followers: Vec::new(),
        issuer,
        running: None,
        count: None,
        has_keda: resource.scales_by_lag() && has_keda(client).await?,
    };
    of_deployment(client, owner, &mut found).await?;
    let streams: Api<DeserializeGuard<EventStream>> = Api::namespaced(client.clone(), &owner.namespace);
    let named = match resource {
        Resource::Saga(saga) => saga.spec.streams().into_iter().map(str::to_owned).collect(),
        _ => references.streams.clone(),
    };
    for name in named {
        let Some(stream) = streams.get_opt(&name).await? else { continue };
        match stream.0 {
            Ok(stream) => {
                references.add(&Resource::EventStream(Box::new(stream.clone())).references());
                found.streams.insert(name, stream);
            }
            Err(unreadable) => {
                found.unreadable.insert(name, unreadable.error.clone());
            }
        }
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &owner.namespace);
    for name in names(&references.secrets) {
        if let Some(secret) = secrets.get_opt(name).await? {
            found.secrets.insert(name.to_owned(), of_secret(&secret));
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

/// What the pods that there are were made of, and how many there are to be.
async fn of_deployment(client: &Client, owner: &Owner, found: &mut Found) -> kube::Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &owner.namespace);
    let Some(deployment) = deployments.get_opt(&owner.kind.child(&owner.name)).await? else { return Ok(()) };
    let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let is_scaled = deployment.managed_fields().iter().any(|by| {
        let fields = by.fields_v1.as_ref().map(|fields| &fields.0);
        by.manager.as_deref() != Some(MANAGER)
            && fields.is_some_and(|fields| !fields["f:spec"]["f:replicas"].is_null())
    });
    found.count = Some(Count { replicas: u32::try_from(replicas).unwrap_or_default(), is_scaled });
    let Some(running) = running(deployment.annotations()) else { return Ok(()) };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &owner.namespace);
    // Others could not be made of what is not there any more.
    found.running = maps.get_metadata_opt(&running.manifests).await?.map(|_| running);
    Ok(())
}

/// Whether the API server knows KEDA's definitions.
async fn has_keda(client: &Client) -> kube::Result<bool> {
    let known = scaled_object();
    match client.list_api_group_resources(&known.api_version).await {
        Ok(kinds) => Ok(kinds.resources.iter().any(|it| it.kind == known.kind)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

fn of_secret(secret: &Secret) -> SecretFound {
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    // Whoever sees digests sees not what a Secret is called by the API server, and cannot try passwords.
    let salt = secret.uid().unwrap_or_default();
    let digest_of = |key: &str, value: &ByteString| digest(&format!("{salt}\n{key}\n{:?}", value.0));
    SecretFound {
        keys: data.iter().map(|(key, value)| (key.clone(), digest_of(key, value))).collect(),
        authorities: data.get("ca.crt").and_then(|pem| String::from_utf8(pem.0.clone()).ok()),
        expired: data.get("tls.crt").and_then(|pem| end(&pem.0)).filter(|end| *end < Timestamp::now()),
    }
}

/// Until when the first certificate in `pem` holds. What cannot be read is for those to say who use it.
fn end(pem: &[u8]) -> Option<Timestamp> {
    let chain = certificates(pem, "tls.crt").ok()?;
    Timestamp::from_second(not_after(chain.first()?).ok()?).ok()
}

fn names(references: &[Reference]) -> BTreeSet<&str> {
    references.iter().map(|reference| reference.name.as_str()).collect()
}

/// What follows the event stream, or appends to it, also where it cannot be read in full.
async fn followers(client: &Client, owner: &Owner) -> kube::Result<Vec<(Kind, String)>> {
    let mut followers = Vec::new();
    for (kind, resource) in [
        (Kind::Projection, ApiResource::erase::<Projection>(&())),
        (Kind::Saga, ApiResource::erase::<Saga>(&())),
    ] {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &owner.namespace, &resource);
        for it in api.list(&ListParams::default()).await? {
            if References::of(&it.data["spec"]).streams.contains(&owner.name) {
                followers.push((kind, it.name_any()));
            }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(data: &serde_json::Value, version: &str) -> SecretFound {
        let metadata = json!({"name": "db", "uid": "1", "resourceVersion": version});
        of_secret(&serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap())
    }

    #[test]
    fn a_secret_changes_with_the_values_that_are_asked_for() {
        let keys = ["uri".to_owned()];
        let before = secret(&json!({"uri": "YQ=="}), "1");
        let others = secret(&json!({"uri": "YQ==", "note": "YQ=="}), "2");
        assert_eq!(before.version(&keys), others.version(&keys));
        assert_ne!(before.version(&keys), secret(&json!({"uri": "Yg=="}), "1").version(&keys));
        assert!(!format!("{before:?}").contains("YQ=="));
    }
}
