//! What is needed to delete what a resource has kept, when the resource and all that is its own may be gone already.
//!
//! It lies in a ConfigMap of its own, which belongs to no owner: whoever deletes in the foreground, as GitOps tools do, deletes what has one before
//! its owner is gone. In it are what the program read, and the Job that runs it once more, with `--delete-data`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use super::{Child, child, pod};
use crate::found::Found;
use crate::part::{Owner, Part};
use crate::settings::Settings;

/// The key of the ConfigMap under which the Job is.
pub(crate) const JOB: &str = "job.json";

/// The label of what belongs to a resource by no owner reference.
pub(crate) const OF: &str = "headwater.dev/deletion-of";

/// Seconds after which a Job ends by itself, though nobody waits for it any more.
const AT_MOST_SECONDS: u32 = 180;

/// Seconds for which a Job that has ended may be looked at.
const KEPT_SECONDS: u32 = 3_600;

/// What the ConfigMap and the Job are called.
pub(crate) fn name(owner: &Owner) -> String {
    format!("{}-deletion", owner.kind.child(&owner.name))
}

pub(super) fn config_map(part: &Part, found: &Found, settings: &Settings) -> Child {
    let name = name(&part.owner);
    let job = unowned(child::<Job>(part, &name, job(part, found, &name, settings)), &part.owner);
    let data = json!({"data": {"manifests.yaml": part.manifests.text, JOB: job.object.to_string()}});
    unowned(child::<ConfigMap>(part, &name, data), &part.owner)
}

fn unowned(mut child: Child, owner: &Owner) -> Child {
    let metadata = &mut child.object["metadata"];
    metadata["labels"][OF] = json!(owner.uid);
    if let Some(fields) = metadata.as_object_mut() {
        fields.shift_remove("ownerReferences");
    }
    child
}

/// Suspended: it begins when nobody uses any more what it deletes.
fn job(part: &Part, found: &Found, name: &str, settings: &Settings) -> Value {
    // By what users have their pods be told, and never as one that works.
    let mut labels = part.workload.pod_labels.clone();
    labels.extend(
        [
            ("app.kubernetes.io/name", "headwater-deletion"),
            ("app.kubernetes.io/instance", &part.owner.name),
            ("app.kubernetes.io/part-of", "headwater"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    let metadata = json!({"labels": labels, "annotations": part.workload.pod_annotations});
    json!({"spec": {
        "suspend": true,
        "backoffLimit": 10,
        "activeDeadlineSeconds": AT_MOST_SECONDS,
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": {"metadata": metadata, "spec": pod::deletion(part, found, name, settings)},
    }})
}
