//! The NetworkPolicy: who reaches the pods. What they reach themselves is not restricted.
//!
//! Whoever may call is checked by the pods in any case: namespaces are as near as a NetworkPolicy comes to service accounts. A node reaches its
//! own pods past every policy, so that probes, and `kubectl port-forward`, need no word here.

use serde_json::{Value, json};

use super::selector;
use crate::part::{Callers, Part};
use crate::settings::{PROGRAM, Settings};

/// The label of a namespace that has its name, which the API server gives.
const NAMESPACE: &str = "kubernetes.io/metadata.name";

/// The label of KEDA's pods that ask for lag, wherever it is installed.
const KEDA: (&str, &str) = ("app", "keda-operator");

pub(super) fn policy(part: &Part, callers: &Callers, settings: &Settings) -> Value {
    let mut from = vec![
        json!({"podSelector": {}}),
        json!({
            "namespaceSelector": {"matchLabels": {NAMESPACE: settings.operator.namespace}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": PROGRAM}},
        }),
    ];
    from.extend(
        callers
            .namespaces
            .iter()
            .filter(|name| **name != part.owner.namespace)
            .map(|name| json!({"namespaceSelector": {"matchLabels": {NAMESPACE: name}}})),
    );
    if part.scale.autoscaling.is_some_and(|scaler| scaler.lag.is_some()) {
        from.push(json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {KEDA.0: KEDA.1}}}));
    }
    from.extend(callers.peers.iter().map(|peer| json!(peer)));
    json!({"spec": {
        "podSelector": {"matchLabels": selector(&part.owner)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": [{"port": part.owner.kind.port(), "protocol": "TCP"}]}],
    }})
}
