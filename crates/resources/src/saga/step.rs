//! The steps of a saga.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::action::{Action, Compensation};
use crate::shared::{Cel, Duration};

/// What a step means for undoing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Role {
    /// It can be undone.
    #[default]
    Compensatable,
    /// The step that decides: after it, the saga only goes forward.
    Pivot,
    /// A step after the pivot: repeated until it succeeds.
    Retriable,
}

/// A step: an action, or several branches side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.action) != has(self.parallel)").message("a step has either action or parallel; write one of them"))]
pub struct Step {
    /// The step's name; part of its idempotency key.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What is done, unless it is parallel.
    #[serde(flatten)]
    pub work: Work,
    /// Steps that are done side by side. The next step begins when all of them are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel: Option<Parallel>,
}

impl Step {
    /// What is done side by side, each by the name that its key has: the branches, or the step itself.
    pub fn works(&self) -> Vec<(&str, &Work)> {
        match &self.parallel {
            None => vec![(&self.name, &self.work)],
            Some(parallel) => {
                parallel.steps.iter().map(|branch| (branch.name.as_str(), &branch.work)).collect()
            }
        }
    }
}

/// Steps that are done side by side, one level deep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parallel {
    /// The branches.
    #[schemars(length(min = 2, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Branch>,
}

/// One of the steps that are done side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.action)").message("a step within parallel needs an action; add it: parallel is one level deep"))]
pub struct Branch {
    /// The step's name; part of its idempotency key.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// What is done.
    #[serde(flatten)]
    pub work: Work,
}

/// What a step does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// What is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// A later event that says how it went, instead of the call's own result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub await_reply: Option<AwaitReply>,
    /// What is kept of the result for later: an expression for each variable. Variables: those of the saga, and
    /// `response` (status, headers, body) or `event`, the reply. Result: anything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub capture: BTreeMap<String, Cel>,
    /// How long one attempt may take, the wait for its reply included. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How it is repeated, under the same idempotency key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Compensatable can be undone; Pivot decides, and after it the saga only goes forward; Retriable follows the pivot and
    /// is repeated until it succeeds. Default: Compensatable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How it is undone. For the role Compensatable, which needs it; type None says that there is nothing to undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compensation: Option<Compensation>,
}

/// A later event that says how a step went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwaitReply {
    /// Types of event that mean success.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub success: Vec<String>,
    /// Types of event that mean failure.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)), extend("x-kubernetes-list-type" = "set"))]
    pub failure: Vec<String>,
    /// How an event is known to be the reply to this instance.
    pub correlate: Correlate,
}

/// Two expressions; the event is the reply where both have the same value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Correlate {
    /// Of the event. Variables: `event`. Result: text or a number.
    pub event: Cel,
    /// Of the instance. Variables: those of the saga. Result: text or a number.
    pub instance: Cel,
}

/// How a step is repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Attempts in all.
    #[schemars(range(min = 1, max = 1000))]
    pub max_attempts: u32,
    /// Wait before the second attempt; it doubles each time.
    pub initial_backoff: Duration,
    /// Longest wait.
    pub max_backoff: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
        }
    }
}
