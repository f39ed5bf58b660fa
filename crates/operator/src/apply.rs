//! Makes the children be there as they are to be. Writes only where something differs.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::dynamic::DynamicObject;
use kube::core::{ApiResource, ObjectMeta};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::children::deletion;
use crate::children::{Child, Children, MANAGER, kind};
use crate::part::Owner;
use crate::seen::{Rollout, Seen};
use crate::watched::Watched;

/// Why children are not as they are to be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of that name belongs to somebody else.
    #[error("{0}")]
    Conflict(String),
    /// The API server refuses a child as it is: the spec asks for what cannot be.
    #[error("{0}")]
    Invalid(String),
    /// The API server does not allow a child now: a quota is used up, or the operator lacks a right.
    #[error("{0}")]
    Forbidden(String),
    /// The Deployment is another than the one for which its children were made: what is watched comes later.
    #[error("what is watched is not up to date")]
    Stale,
    /// The API server failed, or was away.
    #[error("{what}: {error}")]
    Api {
        /// What was being done.
        what: String,
        /// What it said.
        error: Box<kube::Error>,
    },
}

impl ApplyError {
    fn of(doing: &str, resource: &ApiResource, name: &str) -> impl FnOnce(kube::Error) -> Self {
        let what = format!("{doing} {} \"{name}\"", resource.kind);
        move |error| match &error {
            kube::Error::Api(status) => match status.code {
                // 500: an object that cannot be converted to what is stored.
                400 | 413 | 422 => Self::Invalid(format!("{what}: {}", status.message)),
                500 if status.message.contains("failed to convert")
                    || status.message.contains("quantities must") =>
                {
                    Self::Invalid(format!("{what}: {}", status.message))
                }
                403 => Self::Forbidden(format!("{what}: {}", status.message)),
                _ => Self::Api { what, error: Box::new(error) },
            },
            _ => Self::Api { what, error: Box::new(error) },
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Objects made or changed.
    pub applied: usize,
    /// Objects deleted.
    pub deleted: usize,
    /// The Deployment, as it is then.
    pub rollout: Option<Arc<Seen<Rollout>>>,
}

/// A child, as it is.
enum There {
    /// As it is to be, as it was when it was looked at last.
    AsWanted,
    /// Not there.
    Not,
    /// What the API server says.
    Read(Box<DynamicObject>),
}

/// Makes `children` of `owner` be there, and what is not wanted not. They were made where its Deployment was `rollout`.
///
/// # Errors
/// The first that cannot be; those before it are as they are to be.
pub async fn apply(
    client: &Client,
    watched: &Watched,
    owner: &Owner,
    children: &Children,
    rollout: Option<&Arc<Seen<Rollout>>>,
) -> Result<Applied, ApplyError> {
    // Reads go side by side; writes in order, so that a pod finds what it mounts.
    let reads = children.wanted.iter().map(|child| look(client, watched, owner, child));
    let there = futures_util::future::try_join_all(reads).await?;
    // Before anything is written: what is in conflict changes nothing.
    for (child, there) in children.wanted.iter().zip(&there) {
        if let There::Read(there) = there {
            check_owner(owner, child, there)?;
        }
    }
    let mut done = Applied { rollout: rollout.cloned(), ..Applied::default() };
    // First: of two autoscalers, KEDA refuses to be the second.
    for (resource, name) in &children.unwanted {
        let is_known = watched.version(&resource.kind, &owner.namespace, name).is_some()
            || watched.written.version(&resource.kind, &owner.namespace, name).is_some();
        // What is not watched may be left of what an operator made before this one.
        let may_be_left = !watched.has_kind(&resource.kind) && rollout.is_some();
        if !is_known && !may_be_left {
            continue;
        }
        let api = api(client, owner, resource);
        let there = get(&api, name).await.map_err(ApplyError::of("reading", resource, name))?;
        // What is somebody else's is left alone.
        if let Some(there) = there.filter(|there| is_ours(owner, there))
            && delete(&api, name, there.uid()).await.map_err(ApplyError::of("deleting", resource, name))?
        {
            done.deleted += 1;
        }
        watched.written.forget(&resource.kind, &owner.namespace, name);
    }
    for (child, there) in children.wanted.iter().zip(there) {
        let is_deployment = child.resource.kind == "Deployment";
        let object = match there {
            There::AsWanted => continue,
            There::Read(there) if is_as_wanted(&child.object, &there) => *there,
            There::Read(there)
                if is_deployment && rollout.map(|it| &it.version) != version(&there).as_ref() =>
            {
                watched.written.doubt(&owner.namespace, child);
                return Err(ApplyError::Stale);
            }
            There::Not if is_deployment && rollout.is_some() => return Err(ApplyError::Stale),
            There::Not | There::Read(_) => {
                done.applied += 1;
                let parameters = PatchParams::apply(MANAGER).force();
                let api = api(client, owner, &child.resource);
                api.patch(&child.name, &parameters, &Patch::Apply(child.dynamic()))
                    .await
                    .map_err(ApplyError::of("applying", &child.resource, &child.name))?
            }
        };
        if let Some(version) = version(&object) {
            watched.written.note(&owner.namespace, child, version);
        }
        if is_deployment {
            done.rollout = deployment(&object).map(|it| Arc::new(Seen::rollout(&it)));
        }
    }
    Ok(done)
}

/// What there is of a child. What is not watched may be somebody else's.
async fn look(client: &Client, watched: &Watched, owner: &Owner, child: &Child) -> Result<There, ApplyError> {
    let seen = watched.version(&child.resource.kind, &owner.namespace, &child.name);
    if seen.is_some_and(|seen| watched.written.is_as_wanted(&owner.namespace, child, &seen)) {
        return Ok(There::AsWanted);
    }
    let api = api(client, owner, &child.resource);
    let there = get(&api, &child.name).await;
    let there = there.map_err(ApplyError::of("reading", &child.resource, &child.name))?;
    Ok(there.map_or(There::Not, |there| There::Read(Box::new(there))))
}

/// The version of an object, as what is watched has it.
fn version(object: &DynamicObject) -> Option<String> {
    if object.types.as_ref().is_some_and(|types| types.kind == "Deployment") {
        return deployment(object).map(|it| Seen::rollout(&it).version);
    }
    object.resource_version()
}

fn deployment(object: &DynamicObject) -> Option<Deployment> {
    object.clone().try_parse().ok()
}

/// Deletes the manifests of earlier makes, which no pod of `owner` reads any more now that all are of `rollout`.
///
/// # Errors
/// What the API server says.
pub async fn tidy(client: &Client, watched: &Watched, owner: &Owner, rollout: &Rollout) -> kube::Result<()> {
    let Some(running) = &rollout.running else { return Ok(()) };
    let api = api(client, owner, &kind::<ConfigMap>());
    for there in watched.manifests(owner) {
        if there.name != running.manifests {
            delete(&api, &there.name, Some(there.uid.clone())).await?;
        }
    }
    Ok(())
}

/// The object, if it is there. Where there is no such kind, the API server says so in plain words.
async fn get(api: &Api<DynamicObject>, name: &str) -> kube::Result<Option<DynamicObject>> {
    match api.get(name).await {
        Ok(there) => Ok(Some(there)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether it was there to be deleted.
async fn delete(api: &Api<DynamicObject>, name: &str, uid: Option<String>) -> kube::Result<bool> {
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::background()
    };
    match api.delete(name, &parameters).await {
        // Another of the same name came after it.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(false),
        other => other.map(|_| true),
    }
}

fn api(client: &Client, owner: &Owner, resource: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &owner.namespace, resource)
}

/// Whether an object with this metadata belongs to `owner`, and goes with it.
pub(crate) fn is_controlled(owner: &Owner, meta: &ObjectMeta) -> bool {
    meta.owner_references.iter().flatten().any(|it| it.controller == Some(true) && it.uid == owner.uid)
}

fn is_ours(owner: &Owner, there: &DynamicObject) -> bool {
    is_controlled(owner, &there.metadata)
        // Left by one that had the name before: it is of nobody else's.
        || (there.owner_references().is_empty() && there.labels().contains_key(deletion::OF))
}

fn check_owner(owner: &Owner, child: &Child, there: &DynamicObject) -> Result<(), ApplyError> {
    if is_ours(owner, there) {
        return Ok(());
    }
    let of = there.owner_references().iter().find(|it| it.controller == Some(true)).map_or_else(
        || "is not the operator's".to_owned(),
        |it| format!("belongs to {} \"{}\"", it.kind, it.name),
    );
    Err(ApplyError::Conflict(format!(
        "{} \"{}\" is there and {of}: rename or delete it, or give this {} another name",
        child.resource.kind,
        child.name,
        owner.kind.as_str()
    )))
}

/// Whether all that is wanted is there. What the API server adds does not count; what was wanted once and is not any more shows in the digest.
fn is_as_wanted(wanted: &Value, there: &DynamicObject) -> bool {
    let Ok(there) = serde_json::to_value(there) else { return false };
    holds(&there, wanted)
}

/// Whether `there` has all of `wanted`: fields by name, elements by place.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match there.get(name) {
                Some(there) => holds(there, wanted),
                // The API server does not keep what is empty.
                None => is_empty(wanted),
            })
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| holds(there, wanted))
        }
        // It writes quantities in its own way: 500m for 0.5, 1Gi for 1024Mi.
        (Value::String(there), Value::String(wanted)) => {
            there == wanted || quantity(there).is_some_and(|there| quantity(wanted) == Some(there))
        }
        _ => there == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A quantity in billionths: `0.5`, `500m`, `1Gi`.
fn quantity(text: &str) -> Option<i128> {
    const BILLION: i128 = 1_000_000_000;
    let end = text.find(|it: char| !it.is_ascii_digit() && it != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor: i128 = match suffix {
        "n" => 1,
        "u" => 1_000,
        "m" => 1_000_000,
        "" => BILLION,
        "k" => BILLION * 1_000,
        "M" => BILLION * 1_000_000,
        "G" => BILLION * 1_000_000_000,
        "T" => BILLION * 1_000_000_000_000,
        "Ki" => BILLION << 10,
        "Mi" => BILLION << 20,
        "Gi" => BILLION << 30,
        "Ti" => BILLION << 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // What is finer than a billionth is no quantity that the API server keeps.
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?);
    let value = format!("{whole}{fraction}").parse::<i128>().ok()?;
    value.checked_mul(factor)?.checked_div(scale)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::holds;

    #[test]
    fn what_the_api_server_adds_does_not_count_and_what_is_changed_does() {
        let wanted =
            json!({"spec": {"replicas": 2, "ports": [{"port": 1}]}, "metadata": {"labels": {"a": "b"}}});
        let same = json!({"spec": {"replicas": 2, "ports": [{"port": 1, "protocol": "TCP"}], "clusterIP": "x"},
            "metadata": {"labels": {"a": "b", "c": "d"}, "uid": "1"}});
        assert!(holds(&same, &wanted));
        let written = json!({"resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}, "limits": {}}, "tolerations": []});
        let kept = json!({"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}});
        assert!(holds(&kept, &written));
        for (other, wanted) in [("500m", "0.6"), ("1Gi", "1000Mi"), ("a", "b"), ("1", "1x")] {
            assert!(!holds(&json!({ "a": other }), &json!({ "a": wanted })), "{other} {wanted}");
        }
        assert!(!holds(&json!({}), &json!({"a": {"b": "c"}})));
        for (pointer, value) in [
            ("/spec/replicas", json!(3)),
            ("/spec/ports", json!([{"port": 1}, {"port": 2}])),
            ("/spec/ports/0/port", json!(2)),
            ("/metadata/labels", json!({})),
        ] {
            let mut other = same.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            assert!(!holds(&other, &wanted), "{pointer}");
        }
    }
}
