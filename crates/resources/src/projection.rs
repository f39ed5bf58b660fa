//! Projection: a read model, declared as rules from events to rows.

mod rule;
mod sink;
mod status;
mod table;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use rule::{ForEach, Rule as ProjectionRule, RuleType};
pub use sink::{RedisSink, Sink, SinkType, SqlSink};
pub use status::{ActiveRevision, CandidateRevision, Lag, PreviousRevision, ProjectionStatus};
pub use table::{Column, ColumnType, Index, QUERY_PARAMETERS, Table, Writers};

use crate::shared::{
    AccessRule, Count, DeletionPolicy, Duration, LagAutoscaling, NetworkPolicy, Server, StreamRef,
    TIME_PATTERN, WorkState, Workload, one,
};

/// What a read model is to be: tables, and the rules that write their rows from events.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "headwater.dev",
    version = "v1alpha1",
    kind = "Projection",
    plural = "projections",
    shortname = "proj",
    category = "headwater",
    namespaced,
    status = "ProjectionStatus",
    derive = "PartialEq",
    doc = "A read model, declared as rules from events to rows, kept up to date exactly once and served for queries.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name is at most 40 lower-case letters, digits and '-', begins with a letter and does not end with '-'"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether its active revision answers"),
    printcolumn(name = "Stream", type_ = "string", json_path = ".spec.streamRef.name", description = "The EventStream that it reads"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.active.revision", description = "The build that answers queries"),
    printcolumn(name = "Lag", type_ = "string", json_path = ".status.lag.events", description = "Events not yet folded"),
    printcolumn(name = "Rollout", type_ = "string", json_path = ".status.rollout", description = "What becomes of the newest build"),
    printcolumn(name = "Parked", type_ = "integer", json_path = ".status.parked", description = "Events set aside"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicasReady", description = "Pods that are ready, of those wanted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Sink", type_ = "string", json_path = ".spec.sink.type", description = "Where the rows are", priority = 1),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.address.url", description = "Where it answers", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "What is being done, or to be done", priority = 1)
)]
pub struct ProjectionSpec {
    /// The EventStream that is read. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("streamRef cannot be changed: make another Projection"))]
    pub stream_ref: StreamRef,
    /// Where the rows are kept. Default: in the event stream's own database. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("sink cannot be changed: make another Projection"))]
    pub sink: Sink,
    /// The tables of the read model.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tables: Vec<Table>,
    /// What events do to rows. The rules of an event run in this order, each seeing what those before it wrote.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub rules: Vec<ProjectionRule>,
    /// Where the first build begins to read. Resolved once, and used by every later build too. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("startFrom cannot be changed: make another Projection"))]
    pub start_from: StartFrom,
    /// What happens when a rule fails on an event.
    #[serde(default)]
    pub on_error: OnError,
    /// How a changed declaration takes the place of the old one.
    #[serde(default)]
    pub rollout: Rollout,
    /// Any change asks for one more build of the same spec.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub rebuild_token: String,
    /// The query API.
    #[serde(default)]
    pub query: Query,
    /// How queries are served: TLS and authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// Who may do what. Default: the service accounts of this namespace may do all but Admin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub access: Vec<AccessRule>,
    /// Number of pods. Each folds some of the partitions, and all answer queries.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 256))]
    pub replicas: u32,
    /// Scaling of the number of pods; `replicas` is then only the first count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<LagAutoscaling>,
    /// What the pods are like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// Keeps everybody from the pods by a NetworkPolicy but this namespace, the namespaces of service accounts that
    /// `access` names, the operator, and whom it names itself. Default: none is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// Running; Paused, which answers queries and folds nothing; or Stopped, which keeps the rows.
    #[serde(default)]
    pub state: WorkState,
    /// What becomes of the rows when the resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// A kind of place to begin at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum StartFromType {
    /// The first event.
    #[default]
    Beginning,
    /// What comes after the event that was last when the first build began.
    End,
    /// What comes after given positions.
    Position,
    /// What was recorded from a time on.
    Time,
}

/// Where the first build begins to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.position) == (self.type == 'Position')").message("position is needed for type Position, and for no other; write both, or neither"),
    validation = Rule::new("has(self.time) == (self.type == 'Time')").message("time is needed for type Time, and for no other; write both, or neither")
)]
pub struct StartFrom {
    /// Beginning is the first event, End what comes after the last one there is, Position what comes after given
    /// positions, Time what was recorded from a time on.
    #[serde(default)]
    pub r#type: StartFromType,
    /// The last position, by partition, that is not read. A partition that is not named is read from its beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["partition"]))]
    pub position: Option<Vec<StartPosition>>,
    /// The time from which on events are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("pattern" = TIME_PATTERN))]
    pub time: Option<Time>,
}

/// A position of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartPosition {
    /// The partition, from 0.
    #[schemars(range(min = 0, max = 255))]
    pub partition: u32,
    /// The last position that is not read.
    pub position: Count,
}

/// What happens when a rule fails on an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ErrorPolicy {
    /// The event is set aside, with every later one of its stream id.
    #[default]
    Park,
    /// The partition stops.
    Halt,
    /// The event is left out and counted.
    Skip,
}

/// What happens when a rule fails on an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnError {
    /// Park sets the event aside, with every later one of its stream id, until it is replayed or skipped; Halt stops the
    /// partition; Skip leaves the event out and counts it.
    #[serde(default)]
    pub policy: ErrorPolicy,
}

/// Who promotes a build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Promotion {
    /// The build that has caught up is promoted by itself.
    #[default]
    Automatic,
    /// A person promotes it.
    Manual,
}

/// How a changed declaration takes the place of the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Automatic promotes the new build once it has caught up; Manual waits for a person.
    pub promotion: Promotion,
    /// Lag, in events, within which a build has caught up.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_lag: u32,
    /// For how long the build before goes on folding, so that rolling back is a swap.
    pub keep_previous: Duration,
    /// Speed limit of a build, in events a second. 0 is none.
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_events_per_second: u32,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            promotion: Promotion::Automatic,
            max_lag: 100,
            keep_previous: Duration::from_secs(24 * 60 * 60),
            max_events_per_second: 0,
        }
    }
}

/// Whether the query API answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum QueryState {
    /// It answers.
    #[default]
    Enabled,
    /// It does not; rows are read from the sink directly.
    Disabled,
}

/// The query API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Query {
    /// Enabled, or Disabled for those who read the sink directly.
    #[serde(default)]
    pub state: QueryState,
}
