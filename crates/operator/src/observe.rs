//! What a Deployment, and its pods, say of themselves. Pure.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::children::selector;
use crate::part::Owner;
use crate::seen::{Rollout, Seen, Worker};
use crate::status::Pods;

/// How the pods of a Deployment are, and where, those that are ready first.
pub fn pods(rollout: &Rollout, workers: &[Arc<Seen<Worker>>]) -> (Pods, Vec<IpAddr>) {
    let mut pods = rollout.pods.clone();
    if pods.there == 0 {
        return (pods, Vec::new());
    }
    // One of a newer make that does not come up is one more than is wanted.
    if pods.ready < pods.there.max(pods.wanted) || pods.updated < pods.wanted {
        pods.last_words = workers.iter().find_map(|it| it.of.last_words.clone()).or(pods.last_words);
    }
    let (ready, others): (Vec<_>, Vec<_>) = workers.iter().partition(|it| it.of.is_ready);
    let at = ready.into_iter().chain(others).filter_map(|it| it.of.address).collect();
    (pods, at)
}

/// Where a pod is that runs.
pub(crate) fn address(pod: &Pod) -> Option<IpAddr> {
    let status = pod.status.as_ref()?;
    let runs = status.phase.as_deref() == Some("Running") && pod.metadata.deletion_timestamp.is_none();
    status.pod_ip.as_ref().filter(|_| runs)?.parse().ok()
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// The label selector of `owner`'s pods, as a status says it.
pub fn labels(owner: &Owner) -> String {
    selector(owner).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

pub(crate) fn counted(deployment: &Deployment) -> Pods {
    let spec = deployment.spec.as_ref();
    let status = deployment.status.clone().unwrap_or_default();
    let gave_up = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "Progressing"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    let unmade =
        status.conditions.iter().flatten().find(|it| it.type_ == "ReplicaFailure" && it.status == "True");
    let unmade = unmade.and_then(|it| it.message.clone());
    Pods {
        wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        there: status.replicas.unwrap_or_default(),
        ready: status.ready_replicas.unwrap_or_default(),
        updated: status.updated_replicas.unwrap_or_default(),
        is_observed: status.observed_generation >= deployment.metadata.generation,
        gave_up: gave_up.map(|_| "no progress within ten minutes".to_owned()),
        last_words: unmade.map(|why| format!("no pod can be made: {why}")),
    }
}

/// Why a pod does not run: that it fits no node, what stands in its container's way, or what the program said last.
pub(crate) fn last_words(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.message.is_some()
    });
    if let Some(condition) = unscheduled {
        return Some(format!("no node takes a pod: {}", condition.message.as_deref().unwrap_or_default()));
    }
    status.container_statuses.iter().flatten().find_map(container_words)
}

fn container_words(container: &ContainerStatus) -> Option<String> {
    if container.ready {
        return None;
    }
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let ended = [&container.last_state, &container.state]
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref());
    let mut words = String::new();
    if let Some(message) = ended.and_then(|ended| ended.message.as_deref()) {
        // The last line is why it ended; those before are its log.
        words.push_str(message.trim().lines().last().unwrap_or_default());
    }
    let waiting = waiting.filter(|waiting| {
        !matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing"))
    });
    if let Some(waiting) = waiting
        && words.is_empty()
    {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        // Writing to a text does not fail.
        let _ = write!(words, "{reason}: {}", waiting.message.as_deref().unwrap_or_default());
    }
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({ "status": status })).unwrap()
    }

    #[test]
    fn what_a_program_said_last_is_told() {
        let crashing = pod(json!({"containerStatuses": [{
            "name": "x", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
            "lastState": {"terminated": {"exitCode": 1, "message": "{\"level\":\"INFO\"}\nerror: database.urlSecretRef: no\n"}},
        }]}));
        assert_eq!(last_words(&crashing).unwrap(), "error: database.urlSecretRef: no");
        let pulling = pod(json!({"containerStatuses": [{
            "name": "x", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}},
        }]}));
        assert_eq!(last_words(&pulling).unwrap(), "ErrImagePull: no such image");
        let starting = pod(json!({"containerStatuses": [{
            "name": "x", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ContainerCreating"}},
        }]}));
        assert_eq!(last_words(&starting), None);
        let homeless =
            pod(json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}));
        assert_eq!(last_words(&homeless).unwrap(), "no node takes a pod: 0/1 nodes");
    }

    #[test]
    fn what_a_newer_make_says_is_told_though_the_one_before_answers() {
        let rollout = Rollout {
            running: None,
            count: crate::found::Count { replicas: 1, is_scaled: false },
            pods: Pods { wanted: 1, there: 2, ready: 1, updated: 1, is_observed: true, ..Pods::default() },
        };
        let worker = |last_words: Option<&str>| {
            let of = Worker {
                address: None,
                is_ready: last_words.is_none(),
                last_words: last_words.map(str::to_owned),
            };
            let name = String::new();
            Arc::new(Seen {
                namespace: name.clone(),
                uid: name.clone(),
                version: name.clone(),
                name,
                owner: None,
                of,
            })
        };
        let (seen, _) = pods(&rollout, &[worker(None), worker(Some("password authentication failed"))]);
        assert_eq!(seen.last_words.as_deref(), Some("password authentication failed"));
    }
}
