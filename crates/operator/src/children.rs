//! The objects that a part becomes. Pure: the same part gives the same objects, to the byte.
//!
//! ```text
//! Part ──▶ ServiceAccount ─ ConfigMaps ─ Service ─ Deployment           always
//!          NetworkPolicy ─ PodDisruptionBudget ─ HorizontalPodAutoscaler or ScaledObject ─ binding      where they make sense; else they
//!                                                                                                       are deleted
//!          what deletes its data                                        where deletionPolicy is Delete
//! ```
//!
//! What a program reads at its start lies in a ConfigMap that is named after its content, and never changes: pods of one make read the same,
//! also those that replace others while the next make is rolled out.

pub(crate) mod deletion;
mod pod;
mod reach;
mod scaling;

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::{NamespaceResourceScope, Resource};
use kube::core::ObjectMeta;
use kube::core::dynamic::DynamicObject;
use kube::core::{ApiResource, TypeMeta};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use self::scaling::scaled_object;
use crate::digest::digest;
use crate::found::{Found, Running};
use crate::part::{Kind, Owner, Part};
use crate::settings::Settings;

/// Who made an object, as a label.
pub const MANAGER: &str = "headwater-operator";

/// The annotation that holds the digest of what an object is to be.
pub const DIGEST: &str = "headwater.dev/digest";

/// The annotation of a Deployment that names the ConfigMap in which its pods find their manifests.
const MANIFESTS: &str = "headwater.dev/manifests";

/// The label of such a ConfigMap, by which all of a Deployment are found.
pub(crate) const MANIFESTS_OF: &str = "headwater.dev/manifests-of";

/// The annotation of a Deployment, and of its pods, that changes when what their program reads at its start does.
const CONFIGURATION: &str = "headwater.dev/configuration";

/// Digits of a digest in a name: two that are kept at a time differ in them.
const DIGITS: usize = 10;

/// An object that is to be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its kind.
    pub resource: ApiResource,
    /// Its name.
    pub name: String,
    /// The object.
    pub object: Value,
}

/// What there is to be of a part, and what is not.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Children {
    /// In the order in which they are made.
    pub wanted: Vec<Child>,
    /// What an earlier spec may have left.
    pub unwanted: Vec<(ApiResource, String)>,
}

/// The kinds of children, for whoever watches them. KEDA's is not among them, which is not in every cluster.
pub fn kinds() -> [ApiResource; 8] {
    [
        kind::<ServiceAccount>(),
        kind::<ConfigMap>(),
        kind::<Secret>(),
        kind::<Service>(),
        kind::<Deployment>(),
        kind::<PodDisruptionBudget>(),
        kind::<HorizontalPodAutoscaler>(),
        kind::<NetworkPolicy>(),
    ]
}

pub(crate) fn kind<K: Resource<Scope = NamespaceResourceScope> + k8s_openapi::Metadata<Ty = ObjectMeta>>()
-> ApiResource {
    ApiResource::erase::<K>(&())
}

/// The labels by which pods of a part are found.
pub fn selector(owner: &Owner) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", owner.kind.program().to_owned()),
        ("app.kubernetes.io/instance", owner.name.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

/// What the pods of a Deployment with these annotations were made of.
pub fn running(annotations: &BTreeMap<String, String>) -> Option<Running> {
    let [configuration, manifests] = [CONFIGURATION, MANIFESTS].map(|key| annotations.get(key).cloned());
    Some(Running { configuration: configuration?, manifests: manifests? })
}

/// The objects of `part`.
pub fn children(part: &Part, found: &Found, settings: &Settings) -> Children {
    let name = part.owner.kind.child(&part.owner.name);
    let mut children = Children::default();
    let configuration = pod::configuration(part);
    let running = match &found.running {
        // What differs in nothing that decides is not made again, so that no pod is started anew.
        Some(running) if running.configuration == configuration => running.clone(),
        _ => {
            let manifests = format!("{name}-{}", &digest(&part.manifests.text)[..DIGITS]);
            let data = json!({"immutable": true, "data": {"manifests.yaml": part.manifests.text}});
            let mut child = child::<ConfigMap>(part, &manifests, data);
            child.object["metadata"]["labels"][MANIFESTS_OF] = json!(name);
            children.wanted.push(child);
            Running { configuration, manifests }
        }
    };
    let mut add = |child: Child| children.wanted.push(child);
    add(child::<ServiceAccount>(part, &name, json!({"automountServiceAccountToken": false})));
    add(child::<ConfigMap>(part, &name, json!({"data": {"jwks.json": found.issuer.jwks}})));
    add(child::<Service>(part, &name, service(part)));
    if let Some(callers) = &part.callers {
        // Before there is a pod that it protects.
        add(child::<NetworkPolicy>(part, &name, reach::policy(part, callers, settings)));
    }
    let mut deployment =
        child::<Deployment>(part, &name, pod::deployment(part, &running, found.count, settings));
    let annotations = &mut deployment.object["metadata"]["annotations"];
    annotations[CONFIGURATION] = json!(running.configuration);
    annotations[MANIFESTS] = json!(running.manifests);
    add(deployment);

    let budget = kind::<PodDisruptionBudget>();
    let least = part.scale.autoscaling.map_or(part.scale.replicas, |scaler| scaler.least);
    if least >= 2 {
        let spec = json!({"maxUnavailable": 1, "selector": {"matchLabels": selector(&part.owner)}});
        children.wanted.push(child::<PodDisruptionBudget>(part, &name, json!({ "spec": spec })));
    } else {
        children.unwanted.push((budget, name.clone()));
    }
    if part.callers.is_none() {
        children.unwanted.push((kind::<NetworkPolicy>(), name.clone()));
    }
    // What is to be scaled by KEDA, which is not there, is left to what scales it.
    if part.misses(found).is_none() {
        scale(&mut children, part, &name);
    }
    if part.deletes_data {
        children.wanted.push(deletion::config_map(part, found, settings));
    } else {
        children.unwanted.push((kind::<ConfigMap>(), deletion::name(&part.owner)));
    }
    if part.owner.kind == Kind::EventStream {
        children.wanted.push(binding(part));
    }
    children
}

/// Of two that scale the same pods, each would undo what the other does.
fn scale(children: &mut Children, part: &Part, name: &str) {
    let lag = part.scale.autoscaling.and_then(|scaler| scaler.lag);
    let by_use = part.scale.autoscaling.filter(|_| lag.is_none());
    match by_use {
        Some(scaler) => {
            children.wanted.push(child::<HorizontalPodAutoscaler>(
                part,
                name,
                scaling::by_use(name, &scaler),
            ));
        }
        None => children.unwanted.push((kind::<HorizontalPodAutoscaler>(), name.to_owned())),
    }
    match (part.scale.autoscaling, lag) {
        (Some(scaler), Some(lag)) => {
            let object = scaling::by_lag(part, name, &scaler, lag, &metadata(part, name));
            children.wanted.push(Child::new(scaled_object(), name, object));
        }
        // It never had one.
        _ if part.owner.kind == Kind::EventStream => {}
        _ => children.unwanted.push((scaled_object(), name.to_owned())),
    }
}

/// What applications mount to find the event store, in the shape of the Service Binding specification. They prove who they are by
/// service-account tokens, so it holds no password.
fn binding(part: &Part) -> Child {
    let owner = &part.owner;
    let (host, port) = (owner.kind.host(&owner.name, &owner.namespace), owner.kind.port());
    let data: BTreeMap<&str, String> = [
        ("type", "headwater"),
        ("provider", "headwater"),
        ("host", &host),
        ("port", &port.to_string()),
        ("uri", &part.url()),
    ]
    .map(|(key, value)| (key, STANDARD.encode(value)))
    .into();
    let object = json!({"type": "servicebinding.io/headwater", "data": data});
    child::<Secret>(part, &binding_name(&owner.name), object)
}

/// What the binding of the event stream `name` is called.
pub fn binding_name(name: &str) -> String {
    format!("{name}-eventstore-binding")
}

fn service(part: &Part) -> Value {
    let port = part.owner.kind.port();
    let protocol = if part.server.tls.is_some() { "https" } else { "kubernetes.io/h2c" };
    json!({"spec": {
        "selector": selector(&part.owner),
        "ports": [{"name": "api", "port": port, "targetPort": "api", "protocol": "TCP", "appProtocol": protocol}],
    }})
}

/// An object of the kind `K`, with what all have. What the kind does not know is dropped, which a test looks for.
fn child<K>(part: &Part, name: &str, content: Value) -> Child
where
    K: Resource<Scope = NamespaceResourceScope>
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned,
{
    let mut object = content;
    object["metadata"] = metadata(part, name);
    let typed: K = serde_json::from_value(object)
        .unwrap_or_else(|error| unreachable!("a {} is made as its kind says: {error}", K::KIND));
    let object = serde_json::to_value(typed)
        .unwrap_or_else(|error| unreachable!("a {} has a JSON form: {error}", K::KIND));
    Child::new(kind::<K>(), name, object)
}

/// What all have.
fn metadata(part: &Part, name: &str) -> Value {
    let mut labels = selector(&part.owner);
    labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "headwater".to_owned());
    json!({
        "name": name,
        "namespace": part.owner.namespace,
        "labels": labels,
        "ownerReferences": [{
            "apiVersion": format!("{}/{}", headwater_resources::GROUP, headwater_resources::VERSION),
            "kind": part.owner.kind.as_str(),
            "name": part.owner.name,
            "uid": part.owner.uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }],
    })
}

impl Child {
    /// The digest of what it is to be.
    pub fn digest(&self) -> &str {
        self.object["metadata"]["annotations"][DIGEST].as_str().unwrap_or_default()
    }

    fn new(resource: ApiResource, name: &str, mut object: Value) -> Self {
        let digest = digest(&object.to_string());
        object["metadata"]["annotations"] = json!({ (DIGEST): digest });
        Self { resource, name: name.to_owned(), object }
    }

    /// It as an object for the API server.
    pub fn dynamic(&self) -> DynamicObject {
        let metadata = self.object["metadata"].clone();
        let mut data = self.object.clone();
        if let Value::Object(fields) = &mut data {
            for field in ["apiVersion", "kind", "metadata"] {
                fields.shift_remove(field);
            }
        }
        DynamicObject {
            types: Some(TypeMeta {
                api_version: self.resource.api_version.clone(),
                kind: self.resource.kind.clone(),
            }),
            metadata: serde_json::from_value(metadata)
                .unwrap_or_else(|error| unreachable!("metadata is made as it is to be: {error}")),
            data,
        }
    }
}
