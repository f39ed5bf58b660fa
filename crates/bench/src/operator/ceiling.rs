//! How long the API server takes for the children alone, applied by a client that does nothing else.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::cluster::{Cluster, apply};
use super::fleet::{AT_ONCE, Fleet};

/// Applies the children of `fleet` in a namespace of their own; how many, and how long it took.
pub(super) async fn measure(cluster: &Cluster, fleet: &Fleet) -> Result<(usize, Duration)> {
    let beside = Fleet::new(cluster, "ceiling").await?;
    let mut objects = Vec::new();
    for resource in [
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<Secret>(&()),
        ApiResource::erase::<Deployment>(&()),
    ] {
        let api: Api<DynamicObject> = Api::namespaced_with(fleet.client.clone(), &fleet.namespace, &resource);
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=headwater-operator");
        for object in api.list(&ours).await? {
            objects.push(alone(&resource, &object, &beside.namespace)?);
        }
    }
    let began = Instant::now();
    stream::iter(&objects)
        .map(Ok)
        .try_for_each_concurrent(AT_ONCE, |object| apply(&beside.client, object))
        .await?;
    Ok((objects.len(), began.elapsed()))
}

/// The object in another namespace, as it was applied: without what the API server added, and without an owner.
fn alone(resource: &ApiResource, object: &DynamicObject, namespace: &str) -> Result<Value> {
    let mut value = serde_json::to_value(object)?;
    let (labels, annotations) = (&object.metadata.labels, &object.metadata.annotations);
    value["apiVersion"] = json!(resource.api_version);
    value["kind"] = json!(resource.kind);
    value["metadata"] = json!({
        "name": object.metadata.name, "namespace": namespace, "labels": labels, "annotations": annotations,
    });
    if let Value::Object(fields) = &mut value {
        fields.remove("status");
        if let Some(Value::Object(spec)) = fields.get_mut("spec") {
            // Of a Service: they are another's.
            spec.remove("clusterIP");
            spec.remove("clusterIPs");
        }
    }
    Ok(value)
}
