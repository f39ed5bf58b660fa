//! What is kept of objects that are watched: no more than passes ask for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use kube::runtime::reflector::Lookup;
use serde_json::json;

use crate::children::deletion;
use crate::children::{MANAGER, MANIFESTS_OF, running};
use crate::digest::digest;
use crate::found::{Count, Running};
use crate::observe;
use crate::part::Kind;
use crate::status::Pods;

/// An object of the cluster, of which `T` is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// Changes with all that it is to be, and not with what else is said of it, as far as its kind tells them apart.
    pub version: String,
    /// The resource that it belongs to, if it is one of ours.
    pub owner: Option<OwnedBy>,
    /// What is kept of it.
    pub of: T,
}

/// The resource that an object belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedBy {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
}

/// What is kept of an object of which passes ask only whether it is there, and whether it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    /// Whether pods find their manifests in it.
    pub is_manifests: bool,
}

/// What is kept of a Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// What its pods were made of.
    pub running: Option<Running>,
    /// How many it asks for.
    pub count: Count,
    /// How far it is.
    pub pods: Pods,
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Where it is, while it runs.
    pub address: Option<IpAddr>,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Why it does not run, or what it said last.
    pub last_words: Option<String>,
}

impl<T> Seen<T> {
    fn new(meta: &ObjectMeta, version: String, of: T) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version,
            owner: owned_by(meta),
            of,
        }
    }

    /// Whether it belongs to the resource `uid`.
    pub fn is_of(&self, uid: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner.uid == uid)
    }
}

impl Seen<Plain> {
    /// Of an object with this metadata. The kinds of which this is kept count all that changes in one version.
    pub fn plain(meta: &ObjectMeta) -> Self {
        let is_manifests = meta.labels.iter().flatten().any(|(key, _)| key == MANIFESTS_OF);
        Self::new(meta, meta.resource_version.clone().unwrap_or_default(), Plain { is_manifests })
    }
}

impl Seen<Rollout> {
    /// Of a Deployment.
    pub fn rollout(deployment: &Deployment) -> Self {
        let replicas = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
        let is_scaled = deployment.managed_fields().iter().any(|by| {
            let fields = by.fields_v1.as_ref().map(|fields| &fields.0);
            by.manager.as_deref() != Some(MANAGER)
                && fields.is_some_and(|fields| !fields["f:spec"]["f:replicas"].is_null())
        });
        let rollout = Rollout {
            running: running(deployment.annotations()),
            count: Count { replicas: u32::try_from(replicas).unwrap_or_default(), is_scaled },
            pods: observe::counted(deployment),
        };
        Self::new(&deployment.metadata, version(deployment), rollout)
    }
}

impl Seen<Worker> {
    /// Of a pod. What it belongs to shows in its labels.
    pub fn worker(pod: &Pod) -> Self {
        let of = Worker {
            address: observe::address(pod),
            is_ready: observe::is_ready(pod),
            last_words: observe::last_words(pod),
        };
        let mut seen = Self::new(&pod.metadata, String::new(), of);
        seen.owner = named_by_labels(&pod.metadata);
        seen
    }
}

/// Its generation counts what its spec says, and nothing of its status; what its metadata says is counted here.
fn version(deployment: &Deployment) -> String {
    let meta = &deployment.metadata;
    // The controller of Deployments writes its own.
    let is_ours = |key: &&String| !key.starts_with("deployment.kubernetes.io/");
    let annotations: BTreeMap<_, _> =
        meta.annotations.iter().flatten().filter(|(key, _)| is_ours(key)).collect();
    let said = json!([meta.uid, meta.generation, meta.labels, annotations, meta.owner_references]);
    digest(&said.to_string())
}

fn owned_by(meta: &ObjectMeta) -> Option<OwnedBy> {
    let Some(owner) = meta.owner_references.iter().flatten().find(|it| it.controller == Some(true)) else {
        let uid = meta.labels.as_ref()?.get(deletion::OF)?.clone();
        return Some(OwnedBy { uid, ..named_by_labels(meta)? });
    };
    let is_group = owner.api_version.split('/').next() == Some(headwater_resources::GROUP);
    let kind = Kind::ALL.into_iter().find(|kind| is_group && kind.as_str() == owner.kind)?;
    Some(OwnedBy { kind, name: owner.name.clone(), uid: owner.uid.clone() })
}

/// The resource that the labels of an object name, without its identity.
fn named_by_labels(meta: &ObjectMeta) -> Option<OwnedBy> {
    let labels = meta.labels.as_ref()?;
    let program = labels.get("app.kubernetes.io/name")?;
    let kind = Kind::ALL.into_iter().find(|kind| program == kind.program())?;
    Some(OwnedBy { kind, name: labels.get("app.kubernetes.io/instance")?.clone(), uid: String::new() })
}

impl<T> Lookup for Seen<T> {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        "Seen".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "".into()
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }

    fn namespace(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.namespace))
    }

    // A store does not ask for these.
    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn deployment(change: &Value) -> Seen<Rollout> {
        let mut object = json!({
            "metadata": {
                "name": "orders-projection", "namespace": "shop", "uid": "2", "generation": 3, "resourceVersion": "7",
                "labels": {"a": "b"},
                "ownerReferences": [{"apiVersion": "headwater.dev/v1alpha1", "kind": "Projection", "name": "orders",
                    "uid": "1", "controller": true}],
            },
            "spec": {"replicas": 2, "selector": {}, "template": {}},
        });
        for (pointer, value) in change.as_object().unwrap() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        Seen::rollout(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_deployments_version_changes_with_what_it_is_to_be_alone() {
        let before = deployment(&json!({}));
        assert_eq!(before.owner.as_ref().unwrap().kind, Kind::Projection);
        assert!(before.is_of("1"));
        for (change, is_other) in [
            (
                json!({"/metadata/resourceVersion": "8", "/status": {"replicas": 2, "readyReplicas": 2}}),
                false,
            ),
            (json!({"/metadata/annotations": {"deployment.kubernetes.io/revision": "1"}}), false),
            (json!({"/metadata/generation": 4}), true),
            (json!({"/metadata/uid": "3"}), true),
            (json!({"/metadata/labels": {"a": "c"}}), true),
            (json!({"/metadata/annotations": {"headwater.dev/digest": "x"}}), true),
            (json!({"/metadata/ownerReferences": []}), true),
        ] {
            assert_eq!(deployment(&change).version != before.version, is_other, "{change}");
        }
    }

    #[test]
    fn who_scales_a_deployment_is_known_by_who_owns_the_field() {
        let by = |manager: &str| {
            deployment(&json!({"/metadata/managedFields": [
                {"manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}))
        };
        assert_eq!(by("kube-controller-manager").of.count, Count { replicas: 2, is_scaled: true });
        assert!(!by(MANAGER).of.count.is_scaled);
    }

    #[test]
    fn a_pod_belongs_to_the_resource_that_its_labels_name() {
        let pod = json!({"metadata": {"name": "x", "namespace": "shop", "labels": {
            "app.kubernetes.io/name": "headwater-query-worker", "app.kubernetes.io/instance": "orders"}}});
        let owner = Seen::worker(&serde_json::from_value(pod).unwrap()).owner.unwrap();
        assert_eq!((owner.kind, owner.name.as_str()), (Kind::Projection, "orders"));
    }
}
