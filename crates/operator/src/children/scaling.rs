//! What scales the pods: Kubernetes' own autoscaler by the use of processors, KEDA by lag.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::part::{Autoscaler, Kind, Part};

/// The kind of KEDA's that has it scale something.
pub(crate) fn scaled_object() -> ApiResource {
    let kind = GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    ApiResource::from_gvk_with_plural(&kind, "scaledobjects")
}

/// What a HorizontalPodAutoscaler is to do.
pub(super) fn by_use(name: &str, scaler: &Autoscaler) -> Value {
    json!({"spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicas": scaler.least,
        "maxReplicas": scaler.most,
        "metrics": [{"type": "Resource", "resource": {
            "name": "cpu", "target": {"type": "Utilization", "averageUtilization": scaler.percent}}}],
    }})
}

/// A ScaledObject. KEDA reads the lag from the pods' own metrics, which anybody may read and every pod has of the whole: neither a Prometheus
/// nor a password is needed.
pub(super) fn by_lag(part: &Part, name: &str, scaler: &Autoscaler, lag: u32, metadata: &Value) -> Value {
    let kind = scaled_object();
    let measure = match part.owner.kind {
        Kind::Saga => "headwater_saga_backlog_instances",
        Kind::EventStream | Kind::Projection => "headwater_projection_backlog_events",
    };
    let mut triggers = vec![json!({
        "type": "metrics-api",
        "metricType": "AverageValue",
        "metadata": {
            "url": format!("{}/metrics", part.url()),
            "format": "prometheus",
            "valueLocation": measure,
            "targetValue": lag.to_string(),
        },
    })];
    triggers.extend(scaler.percent.map(|percent| {
        json!({"type": "cpu", "metricType": "Utilization", "metadata": {"value": percent.to_string()}})
    }));
    json!({
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicaCount": scaler.least,
            "maxReplicaCount": scaler.most,
            "triggers": triggers,
        },
    })
}
