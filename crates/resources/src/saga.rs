//! Saga: a business transaction over several services, declared as steps with compensations.

mod action;
mod status;
mod step;

use std::collections::{BTreeMap, BTreeSet};

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use action::{
    Action, ActionType, AppendAction, Compensation, CompensationType, FRAMING_HEADERS, GrpcAction, Header,
    HeaderSource, HttpAction, HttpMethod,
};
pub use status::{GENERATIONS, Generation, SagaStatus};
pub use step::{AwaitReply, Branch, Correlate, Parallel, Retry, Role, Step, Work};

use crate::shared::{
    AccessRule, Cel, DeletionPolicy, Duration, LagAutoscaling, NetworkPolicy, Server, StreamRef,
    TemplateText, WorkState, Workload, one,
};

/// What a business transaction is to be: what starts it, its steps, how they are undone, and what is said at the end.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "headwater.dev",
    version = "v1alpha1",
    kind = "Saga",
    plural = "sagas",
    category = "headwater",
    namespaced,
    status = "SagaStatus",
    derive = "PartialEq",
    doc = "A business transaction over several services, declared as steps with compensations.",
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name is at most 40 lower-case letters, digits and '-', begins with a letter and does not end with '-'"),
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether its coordinators are at work"),
    printcolumn(name = "Stream", type_ = "string", json_path = ".spec.streamRef.name", description = "The EventStream that starts it"),
    printcolumn(name = "Running", type_ = "integer", json_path = ".status.running", description = "Instances that go forward"),
    printcolumn(name = "Compensating", type_ = "integer", json_path = ".status.compensating", description = "Instances that are being undone"),
    printcolumn(name = "Attention", type_ = "integer", json_path = ".status.needsAttention", description = "Instances that a person has to look at"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicasReady", description = "Pods that are ready, of those wanted"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", description = "What is being done, or to be done", priority = 1)
)]
pub struct SagaSpec {
    /// The EventStream whose events start it. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("streamRef cannot be changed: make another Saga"))]
    pub stream_ref: StreamRef,
    /// What starts an instance.
    pub start_on: StartOn,
    /// The instance's name: a template. Variables: `event`, the starting one. Default: the starting event's stream id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<TemplateText>,
    /// How long an instance may take. Before the pivot it is then compensated; after it, a person has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// What is kept of the start for later: an expression for each variable. Variables: `event`, the starting one.
    /// Result: anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub variables: BTreeMap<String, Cel>,
    /// The steps, one after the other.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Step>,
    /// What is said when all steps are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_completed: Option<Ending>,
    /// What is said when the steps that were done have been undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_compensated: Option<Ending>,
    /// Instances at work at a time, in one pod; others wait.
    #[serde(default = "SagaSpec::default_max_in_flight")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_in_flight: u32,
    /// How the coordinator is served: TLS and authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// Who may do what. Default: the service accounts of this namespace may do all but Admin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "atomic"))]
    pub access: Vec<AccessRule>,
    /// Number of pods. Each coordinates some of the partitions.
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
    /// Running; Paused, which starts no instance; or Stopped, which leaves instances where they are.
    #[serde(default)]
    pub state: WorkState,
    /// What becomes of the instances' history when the resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

impl SagaSpec {
    fn default_max_in_flight() -> u32 {
        500
    }

    /// The event streams that it needs: the one that starts it, and those that it appends to.
    pub fn streams(&self) -> BTreeSet<&str> {
        let works = self.steps.iter().flat_map(Step::works);
        let actions = works.flat_map(|(_, work)| {
            let action = work.action.as_ref().and_then(|action| action.append.as_ref());
            let compensation = work.compensation.as_ref().and_then(|action| action.append.as_ref());
            action.into_iter().chain(compensation)
        });
        let endings = [&self.on_completed, &self.on_compensated].into_iter().flatten();
        let appends = actions.chain(endings.map(|ending| &ending.append));
        let others = appends.filter_map(|append| append.stream_ref.as_ref());
        others.chain([&self.stream_ref]).map(|stream| stream.name.as_str()).collect()
    }
}

/// What starts an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StartOn {
    /// The types of event that start it.
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub events: Vec<String>,
    /// Whether the event starts it. Variables: `event`. Result: bool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Cel>,
}

/// What is said at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// An event that is appended.
    pub append: AppendAction,
}
