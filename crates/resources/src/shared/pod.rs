//! How many pods, what kind, and who reaches them: scaling, placement, and the shapes that are Kubernetes' own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::one;

/// Scaling by processor use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas is at most maxReplicas; lower it, or raise maxReplicas"))]
pub struct Autoscaling {
    /// Least number of pods.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub min_replicas: u32,
    /// Greatest number of pods.
    #[schemars(range(min = 1, max = 256))]
    pub max_replicas: u32,
    /// Processor use, in percent of what the pods request, that is aimed at.
    #[serde(rename = "targetCPUPercent", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_percent: Option<u32>,
}

/// Scaling by lag or by processor use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas is at most maxReplicas; lower it, or raise maxReplicas"))]
pub struct LagAutoscaling {
    /// Least number of pods.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub min_replicas: u32,
    /// Greatest number of pods. More than the event stream has partitions are of no use, and are cut.
    #[schemars(range(min = 1, max = 256))]
    pub max_replicas: u32,
    /// Lag a pod that is aimed at: events not yet folded, or instances of the saga under way. Needs KEDA in the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub target_lag: Option<u32>,
    /// Processor use, in percent of what the pods request, that is aimed at.
    #[serde(rename = "targetCPUPercent", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_percent: Option<u32>,
}

/// What the pods are like. The fields are those of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The container image. Default: the one that the operator was installed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub image: Option<String>,
    /// Requests and limits of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resources_schema")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "tolerations_schema")]
    pub tolerations: Vec<Toleration>,
    /// Attraction to nodes and pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "affinity_schema")]
    pub affinity: Option<Affinity>,
    /// How pods are spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "spread_schema")]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The pods' priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Labels that the pods get besides the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels_schema")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations that the pods get besides the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations_schema")]
    pub pod_annotations: BTreeMap<String, String>,
}

/// Who reaches the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, kube::KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.from) || self.from.all(it, has(it.ipBlock) != (has(it.podSelector) || has(it.namespaceSelector)))").message("each of from has either ipBlock, or podSelector and namespaceSelector, or one of these; give one of the two"))]
pub struct NetworkPolicy {
    /// Who may call besides: gateways, those who collect metrics, applications of other namespaces. They are peers as a
    /// Kubernetes NetworkPolicy has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "peers_schema")]
    pub from: Vec<NetworkPolicyPeer>,
}

fn labels_schema(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 63 },
        "maxProperties": 64,
    })
}

fn annotations_schema(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 16384 },
        "maxProperties": 64,
    })
}

/// What the format of a schema begins with that stands for one of Kubernetes' own types.
const PLACEHOLDER: &str = "kubernetes:";

/// Stands for the schema of one of Kubernetes' own types until [`foreign_schema`] takes its place: `kube` rewrites schemas
/// level by level, which takes a tenth of a second for those.
fn placeholder(name: &str) -> Schema {
    schemars::json_schema!({ "type": "object", "format": format!("{PLACEHOLDER}{name}") })
}

/// The schema of a status's conditions, one for each type.
pub(crate) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("conditions")
}

fn resources_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("resources")
}

fn tolerations_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("tolerations")
}

fn affinity_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("affinity")
}

fn spread_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("spread")
}

fn peers_schema(_: &mut SchemaGenerator) -> Schema {
    placeholder("peers")
}

/// The schema that a placeholder's format stands for.
pub(crate) fn foreign_schema(format: &str) -> Option<Value> {
    Some(match format.strip_prefix(PLACEHOLDER)? {
        "conditions" => {
            let mut schema = foreign::<Vec<Condition>>();
            schema["x-kubernetes-list-type"] = "map".into();
            schema["x-kubernetes-list-map-keys"] = vec!["type"].into();
            schema
        }
        "resources" => foreign::<ResourceRequirements>(),
        "tolerations" => foreign::<Vec<Toleration>>(),
        "affinity" => foreign::<Affinity>(),
        "spread" => foreign::<Vec<TopologySpreadConstraint>>(),
        "peers" => foreign::<Vec<NetworkPolicyPeer>>(),
        _ => return None,
    })
}

/// The schema of one of Kubernetes' own types: bounded, as theirs are not, and without their long descriptions, which
/// `kubectl explain pod.spec` has.
fn foreign<T: JsonSchema>() -> Value {
    let mut generator =
        SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true).into_generator();
    let mut schema = T::json_schema(&mut generator).to_value();
    bound(&mut schema);
    schema
}

fn bound(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    fields.shift_remove("description");
    match fields.get("type").and_then(Value::as_str) {
        Some("string") if !fields.contains_key("enum") => {
            fields.entry("maxLength").or_insert(32_768.into());
        }
        Some("array") => {
            fields.entry("maxItems").or_insert(64.into());
        }
        Some("object") if !fields.contains_key("properties") => {
            fields.entry("maxProperties").or_insert(64.into());
        }
        _ => {}
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(bound);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            bound(inner);
        }
    }
}
