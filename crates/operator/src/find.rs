//! Finds what a resource refers to: in what is watched, or by reading it once a version. Of Secrets, only names, keys and digests are kept, and what certificates say to everybody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_api::tls::certificates;
use headwater_resources::{Projection, Saga};
use headwater_runtime::tls::not_after;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource as _, ResourceExt};

use crate::children::scaled_object;
use crate::digest::digest;
use crate::found::{Found, SecretFound};
use crate::kinds::Kept;
use crate::naming::{Names, Place, What};
use crate::packed::Packed;
use crate::part::{Kind, Owner, Resource};
use crate::references::References;
use crate::seen::Rollout;
use crate::settings::TokenIssuer;
use crate::watched::Watched;

/// What has been read of Secrets and ConfigMaps, as long as they do not change.
#[derive(Default)]
pub struct Read {
    secrets: Mutex<HashMap<Name, (String, SecretRead)>>,
    config_maps: Mutex<HashMap<Name, (String, Values)>>,
}

/// A namespace, and a name in it.
type Name = (String, String);

/// What a ConfigMap has.
type Values = BTreeMap<String, String>;

/// A Secret, and when the certificate in it ends.
#[derive(Clone)]
struct SecretRead {
    found: SecretFound,
    ends: Option<Timestamp>,
}

/// Where things are found: what is watched, and the API server for the rest.
pub struct Finder<'c> {
    /// The API server.
    pub client: &'c Client,
    /// What is watched.
    pub watched: &'c Watched,
    /// What has been read before.
    pub read: &'c Read,
}

impl Finder<'_> {
    /// All that `resource`, and the event streams that it names, refer to. `rollout` is its Deployment.
    ///
    /// # Errors
    /// What the API server says; that something is not there is none.
    pub async fn find(
        &self,
        owner: &Owner,
        resource: &Resource,
        rollout: Option<&Rollout>,
        issuer: TokenIssuer,
    ) -> kube::Result<Found> {
        let naming = &self.watched.naming;
        let place =
            |kind, name: &str| Place { kind, namespace: owner.namespace.clone(), name: name.to_owned() };
        // What others name is as it was seen last; what it names itself, as it is.
        let mut names = Names::from(&resource.references());
        let mut found = Found {
            secrets: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            streams: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            followers: Vec::new(),
            issuer,
            running: None,
            count: rollout.map(|it| it.count),
            log_id: None,
            has_keda: resource.scales_by_lag() && self.has_keda().await?,
        };
        if let Some(running) = rollout.and_then(|it| it.running.as_ref()) {
            // Others could not be made of what is not there any more.
            let is_there = self.is_there("ConfigMap", owner, &running.manifests).await?;
            found.running = is_there.then(|| running.clone());
        }
        let named = match resource {
            Resource::Saga(saga) => saga.spec.streams().into_iter().map(str::to_owned).collect(),
            _ => names.streams.clone(),
        };
        for name in named {
            let stream = self.watched.streams.get(&ObjectRef::new(&name).within(&owner.namespace));
            match stream.map(|it| it.open()) {
                Some(Ok(stream)) => {
                    let theirs = naming.of(&place(Kind::EventStream, &name));
                    names.secrets.extend(theirs.secrets);
                    names.config_maps.extend(theirs.config_maps);
                    found.streams.insert(name, stream);
                }
                Some(Err(unreadable)) => {
                    found.unreadable.insert(name, unreadable.error);
                }
                None => {}
            }
        }
        for name in &names.secrets {
            if let Some(secret) = self.secret(&owner.namespace, name).await? {
                found.secrets.insert(name.clone(), secret);
            }
        }
        for name in &names.config_maps {
            if let Some(values) = self.config_map(&owner.namespace, name).await? {
                found.config_maps.insert(name.clone(), values);
            }
        }
        let stream = match resource {
            Resource::EventStream(it) => Some(&**it),
            Resource::Projection(it) => found.streams.get(&it.spec.stream_ref.name),
            Resource::Saga(_) => None,
        };
        found.log_id = stream.and_then(|it| it.status.as_ref()?.log_id.clone());
        if let Resource::EventStream(stream) = resource
            && !stream.spec.access.is_empty()
        {
            found.followers = self.followers(owner).await?;
        }
        Ok(found)
    }

    async fn is_there(&self, kind: &str, owner: &Owner, name: &str) -> kube::Result<bool> {
        if self.watched.version(kind, &owner.namespace, name).is_some() {
            return Ok(true);
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &owner.namespace);
        Ok(maps.get_metadata_opt(name).await?.is_some())
    }

    async fn secret(&self, namespace: &str, name: &str) -> kube::Result<Option<SecretFound>> {
        let at = (namespace.to_owned(), name.to_owned());
        let seen = self.watched.version("Secret", namespace, name);
        let known = lock(&self.read.secrets).get(&at).cloned();
        let read = match known {
            Some((version, read)) if seen.as_ref() == Some(&version) => read,
            _ => {
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let Some(secret) = secrets.get_opt(name).await? else {
                    lock(&self.read.secrets).remove(&at);
                    return Ok(None);
                };
                let read = of_secret(&secret);
                let version = secret.resource_version().unwrap_or_default();
                lock(&self.read.secrets).insert(at, (version, read.clone()));
                read
            }
        };
        let expired = read.ends.filter(|end| *end < Timestamp::now());
        Ok(Some(SecretFound { expired, ..read.found }))
    }

    async fn config_map(&self, namespace: &str, name: &str) -> kube::Result<Option<Values>> {
        let at = (namespace.to_owned(), name.to_owned());
        let seen = self.watched.version("ConfigMap", namespace, name);
        let known = lock(&self.read.config_maps).get(&at).cloned();
        if let Some((version, values)) = known
            && seen == Some(version)
        {
            return Ok(Some(values));
        }
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let Some(map) = maps.get_opt(name).await? else {
            lock(&self.read.config_maps).remove(&at);
            return Ok(None);
        };
        let version = map.resource_version().unwrap_or_default();
        let values = map.data.unwrap_or_default();
        lock(&self.read.config_maps).insert(at, (version, values.clone()));
        Ok(Some(values))
    }

    /// What follows the event stream, or appends to it, also where it cannot be read in full.
    async fn followers(&self, owner: &Owner) -> kube::Result<Vec<(Kind, String)>> {
        let places = self.watched.naming.who_names(What::Stream, &owner.namespace, &owner.name);
        // What went while the watch was interrupted is named for longer.
        let there = places.into_iter().filter(|place| self.watched.has(place));
        let mut followers: Vec<_> = there.map(|it| (it.kind, it.name)).collect();
        for (kind, has_unreadable, resource) in [
            (
                Kind::Projection,
                has_unreadable(&self.watched.projections, owner),
                ApiResource::erase::<Projection>(&()),
            ),
            (Kind::Saga, has_unreadable(&self.watched.sagas, owner), ApiResource::erase::<Saga>(&())),
        ] {
            if !has_unreadable {
                continue;
            }
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &owner.namespace, &resource);
            for it in api.list(&ListParams::default()).await? {
                if References::of(&it.data["spec"]).streams.contains(&owner.name) {
                    followers.push((kind, it.name_any()));
                }
            }
        }
        followers.sort();
        followers.dedup();
        Ok(followers)
    }

    /// Whether the API server knows KEDA's definitions, which may come at any time.
    async fn has_keda(&self) -> kube::Result<bool> {
        let known = scaled_object();
        match self.client.list_api_group_resources(&known.api_version).await {
            Ok(kinds) => Ok(kinds.resources.iter().any(|it| it.kind == known.kind)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn has_unreadable<K: Kept>(resources: &Store<Packed<K>>, owner: &Owner) -> bool {
    resources.find(|it| !it.is_readable() && it.meta().namespace.as_ref() == Some(&owner.namespace)).is_some()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_secret(secret: &Secret) -> SecretRead {
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    // Whoever sees digests sees not what a Secret is called by the API server, and cannot try passwords.
    let salt = secret.uid().unwrap_or_default();
    let digest_of = |key: &str, value: &ByteString| digest(&format!("{salt}\n{key}\n{:?}", value.0));
    let found = SecretFound {
        keys: data.iter().map(|(key, value)| (key.clone(), digest_of(key, value))).collect(),
        authorities: data.get("ca.crt").and_then(|pem| String::from_utf8(pem.0.clone()).ok()),
        expired: None,
    };
    SecretRead { found, ends: data.get("tls.crt").and_then(|pem| end(&pem.0)) }
}

/// Until when the first certificate in `pem` holds. What cannot be read is for those to say who use it.
fn end(pem: &[u8]) -> Option<Timestamp> {
    let chain = certificates(pem, "tls.crt").ok()?;
    Timestamp::from_second(not_after(chain.first()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(data: &serde_json::Value, version: &str) -> SecretFound {
        let metadata = json!({"name": "db", "uid": "1", "resourceVersion": version});
        of_secret(&serde_json::from_value(json!({ "metadata": metadata, "data": data })).unwrap()).found
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
