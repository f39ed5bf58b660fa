//! What a Projection is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::{Address, Count, conditions_schema};

/// What a Projection is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled, ResolvedRefs, CaughtUp, Rebuilding, NeedsAttention, ReconciliationPaused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// Where queries are answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The build that answers queries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveRevision>,
    /// The build that is to take its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<CandidateRevision>,
    /// The build before, which can be rolled back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousRevision>,
    /// The digest of what was rolled back by command: not promoted again until the spec or the token changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub held_digest: Option<String>,
    /// What becomes of the newest build, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub rollout: Option<String>,
    /// How far the active build is behind: coarse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// Events set aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<i64>,
    /// The last rebuild token that was acted on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_handled_rebuild_token: Option<String>,
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

/// The build that answers queries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActiveRevision {
    /// Its number.
    pub revision: Count,
    /// The digest of what it was built from.
    #[schemars(length(max = 128))]
    pub digest: String,
    /// Since when it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// The build that is to take its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CandidateRevision {
    /// Its number.
    pub revision: Count,
    /// The digest of what it is built from.
    #[schemars(length(max = 128))]
    pub digest: String,
    /// How much of the past is folded, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
    /// For how long it will be at it, going by its speed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<crate::shared::Duration>,
    /// When the build began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
}

/// The build before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousRevision {
    /// Its number.
    pub revision: Count,
    /// Until when it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// How far the active build is behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Events not yet folded.
    pub events: Count,
    /// Seconds since the oldest of them was recorded.
    pub seconds: i64,
}
