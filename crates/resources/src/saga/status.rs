//! What a Saga is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{Count, conditions_schema};

/// Most definitions that a status has.
pub const GENERATIONS: usize = 64;

/// What a Saga is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SagaStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, ResolvedRefs, NeedsAttention, ReconciliationPaused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Instances that go forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<i64>,
    /// Instances that are being undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensating: Option<i64>,
    /// Instances that were completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed: Option<Count>,
    /// Instances that were undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensated: Option<Count>,
    /// Instances that a person has to look at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs_attention: Option<i64>,
    /// The definitions that instances at work were started with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = GENERATIONS), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["digest"]))]
    pub generations: Vec<Generation>,
    /// Age of the oldest instance at work, in seconds, by its first digit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_running_seconds: Option<i64>,
    /// Pods that there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Pods that are ready, of those wanted: `2/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub replicas_ready: Option<String>,
    /// Which pods they are, a label selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,
}

/// A definition that instances at work were started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    /// The definition's digest.
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Instances at work that have it.
    pub running: i64,
}
