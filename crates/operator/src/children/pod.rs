//! The Deployment: pods that meet the restricted Pod Security Standard.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{CONFIGURATION, selector};
use crate::digest::digest;
use crate::found::{Count, Found, Running};
use crate::part::{Autoscaler, Part, at};
use crate::settings::{AUDIENCE, Settings};

/// Seconds that a token holds; it is renewed when four fifths have passed.
const TOKEN_SECONDS: u32 = 3_600;

/// Seconds in which a process finishes what it has begun and hands over.
const GRACE_SECONDS: u32 = 30;

/// Seconds for which a pod that is to end still serves: until then its address may be given to callers.
const LAME_DUCK_SECONDS: u32 = 2;

/// Nobody, in the image.
const USER: u32 = 65_532;

pub(super) fn deployment(part: &Part, running: &Running, count: Option<Count>, settings: &Settings) -> Value {
    let workload = &part.workload;
    let mut labels = selector(&part.owner);
    labels.extend(workload.pod_labels.clone());
    // The operator's own win: by them the pods are found.
    labels.extend(selector(&part.owner));
    let mut annotations = workload.pod_annotations.clone();
    annotations.insert(CONFIGURATION.to_owned(), running.configuration.clone());
    let mut spec = json!({
        "serviceAccountName": part.owner.kind.child(&part.owner.name),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": security(),
        "containers": [container(part, settings)],
        "volumes": volumes(part, &running.manifests),
    });
    place(&mut spec, part, settings);
    spec["topologySpreadConstraints"] = if workload.topology_spread_constraints.is_empty() {
        // So that one node does not take all of them with it.
        json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(&part.owner)},
        }])
    } else {
        json!(workload.topology_spread_constraints)
    };
    let mut deployment = json!({"spec": {
        "selector": {"matchLabels": selector(&part.owner)},
        "revisionHistoryLimit": 2,
        "progressDeadlineSeconds": 600,
        // One more is there before one goes, so that somebody always answers.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec},
    }});
    if let Some(replicas) = replicas(part, count) {
        deployment["spec"]["replicas"] = json!(replicas);
    }
    deployment
}

/// A pod that runs the program once, to delete what it keeps. It needs nothing of what belongs to the resource, and proves nothing to anybody.
pub(super) fn deletion(part: &Part, found: &Found, manifests: &str, settings: &Settings) -> Value {
    let mut container = container(part, settings);
    if let Some(fields) = container.as_object_mut() {
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            fields.shift_remove(field);
        }
    }
    if let Some(arguments) = container["args"].as_array_mut() {
        arguments.push(json!(match &found.log_id {
            Some(log_id) => format!("--delete-data={log_id}"),
            None => "--delete-data".to_owned(),
        }));
    }
    // What its manifests name, and no certificate to serve with.
    let secrets = projected("secrets", "secret", &part.files.secrets(false));
    if let Some(mounts) = container["volumeMounts"].as_array_mut() {
        mounts.retain(|it| it["name"] == "manifests" || (it["name"] == "secrets" && secrets.is_some()));
    }
    let mut volumes = volumes(part, manifests);
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.retain(|it| it["name"] == "manifests");
        volumes.extend(secrets);
    }
    let mut spec = json!({
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": security(),
        "containers": [container],
        "volumes": volumes,
    });
    place(&mut spec, part, settings);
    spec
}

/// Says where a pod may be, and what pulls its image.
fn place(spec: &mut Value, part: &Part, settings: &Settings) {
    let workload = &part.workload;
    if !settings.image_pull_secrets.is_empty() {
        let names = settings.image_pull_secrets.iter().map(|name| json!({ "name": name }));
        spec["imagePullSecrets"] = json!(names.collect::<Vec<_>>());
    }
    if !workload.node_selector.is_empty() {
        spec["nodeSelector"] = json!(workload.node_selector);
    }
    if !workload.tolerations.is_empty() {
        spec["tolerations"] = json!(workload.tolerations);
    }
    if let Some(affinity) = &workload.affinity {
        spec["affinity"] = json!(affinity);
    }
    if let Some(class) = &workload.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
}

fn security() -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// How many pods there are to be. `None`: what scales them has said so, and owns their number from then on. Until it has, nothing may take
/// away from those that there are: a number that nobody owns is one.
fn replicas(part: &Part, count: Option<Count>) -> Option<u32> {
    let Some(Autoscaler { least, most, .. }) = part.scale.autoscaling else {
        return Some(part.scale.replicas);
    };
    match count {
        Some(Count { is_scaled: true, replicas: 1.. }) => None,
        Some(Count { replicas: replicas @ 1.., .. }) => Some(replicas.clamp(least, most)),
        _ => Some(part.scale.replicas.clamp(least, most)),
    }
}

/// The digest of what a program reads at its start alone.
pub(super) fn configuration(part: &Part) -> String {
    let named = part.files.named.iter();
    let versions: Vec<String> = named.map(|(name, named)| format!("\n{name} {}", named.version)).collect();
    digest(&format!("{}{}", part.manifests.digest, versions.concat()))
}

fn container(part: &Part, settings: &Settings) -> Value {
    let kind = part.owner.kind;
    let scheme = if part.server.tls.is_some() { "HTTPS" } else { "HTTP" };
    let probe = |path: &str| json!({"path": path, "port": "api", "scheme": scheme});
    let mut arguments = vec![at::MANIFESTS.to_owned()];
    arguments.extend(part.flags.iter().cloned());
    arguments.push(format!("--namespace={}", part.owner.namespace));
    arguments.push("--log-json".to_owned());
    let field =
        |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    let mut mounts = vec![
        json!({"name": "manifests", "mountPath": at::MANIFESTS, "readOnly": true}),
        json!({"name": "issuer", "mountPath": at::ISSUER, "readOnly": true}),
        json!({"name": "token", "mountPath": at::TOKEN, "readOnly": true}),
    ];
    if !part.files.secrets(true).is_empty() {
        arguments.push(format!("--secrets={}", at::SECRETS));
        mounts.push(json!({"name": "secrets", "mountPath": at::SECRETS, "readOnly": true}));
    }
    if !part.files.config_maps.is_empty() {
        mounts.push(json!({"name": "config-maps", "mountPath": at::CONFIG_MAPS, "readOnly": true}));
    }
    if part.files.bearer_tokens.is_some() {
        arguments.push(format!("--bearer-tokens={}", at::BEARER_TOKENS));
        mounts.push(json!({"name": "bearer-tokens", "mountPath": at::BEARER_TOKENS, "readOnly": true}));
    }
    let resources = part.workload.resources.as_ref().map_or_else(
        || json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}}),
        |resources| json!(resources),
    );
    json!({
        "name": kind.suffix(),
        "image": part.workload.image.as_ref().unwrap_or(&settings.image),
        "imagePullPolicy": settings.image_pull_policy,
        "command": [format!("/{}", kind.program())],
        "args": arguments,
        "env": [field("POD_IP", "status.podIP"), field("POD_NAME", "metadata.name")],
        "ports": [{"name": "api", "containerPort": kind.port(), "protocol": "TCP"}],
        "livenessProbe": {"httpGet": probe("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {"httpGet": probe("/readyz"), "periodSeconds": 2, "timeoutSeconds": 2},
        "startupProbe": {"httpGet": probe("/healthz"), "periodSeconds": 1, "failureThreshold": 60},
        "lifecycle": {"preStop": {"sleep": {"seconds": LAME_DUCK_SECONDS}}},
        "resources": resources,
        // What a program says last is shown where people look first.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    })
}

fn volumes(part: &Part, manifests: &str) -> Value {
    let issuer = part.owner.kind.child(&part.owner.name);
    let item = |map: &str, key: &str| json!({"name": map, "items": [{"key": key, "path": key}]});
    let mut volumes = vec![
        json!({"name": "manifests", "configMap": item(manifests, "manifests.yaml")}),
        json!({"name": "issuer", "configMap": item(&issuer, "jwks.json")}),
        json!({"name": "token", "projected": {"sources": [{"serviceAccountToken": {
            "audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}}]}}),
    ];
    volumes.extend(projected("secrets", "secret", &part.files.secrets(true)));
    volumes.extend(projected("config-maps", "configMap", &part.files.config_maps));
    if let Some(name) = &part.files.bearer_tokens {
        volumes.push(json!({"name": "bearer-tokens", "secret": {"secretName": name}}));
    }
    json!(volumes)
}

/// One volume of all these keys, so that all change at once: NAME/KEY. `None`: there are none.
fn projected<K: AsRef<str>, S: AsRef<str>>(
    volume: &str,
    kind: &str,
    of: &BTreeMap<K, BTreeSet<S>>,
) -> Option<Value> {
    let sources = of.iter().map(|(name, keys)| {
        let name = name.as_ref();
        let item = |key: &S| json!({"key": key.as_ref(), "path": format!("{name}/{}", key.as_ref())});
        json!({ (kind): {"name": name, "items": keys.iter().map(item).collect::<Vec<_>>()} })
    });
    let sources: Vec<Value> = sources.collect();
    (!sources.is_empty()).then(|| json!({"name": volume, "projected": {"sources": sources}}))
}
