//! Who reaches pods. No network plug-in here enforces it: what is there is looked at.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::orders::Orders;

const ALL: [(&str, &str); 3] = [
    ("eventstream/orders", "orders-eventstore"),
    ("projection/orders", "orders-projection"),
    ("saga/place-order", "place-order-saga"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_policy_is_there_while_it_is_asked_for_and_starts_no_pod_anew() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let patch = |what: &str, policy: Value| {
        let patch = json!({"spec": {"networkPolicy": policy}}).to_string();
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", &patch]).map(drop)
    };
    let policy = |child: &str| namespace.get(&format!("networkpolicy/{child}"));
    for (what, child) in ALL {
        ensure!(policy(child).is_err(), "{child} has one that nobody asked for");
        let generation = || {
            let deployment = namespace.get(&format!("deployment/{child}"))?;
            anyhow::Ok(deployment["metadata"]["generation"].clone())
        };
        let before = generation()?;
        patch(what, json!({}))?;
        let there = namespace.until("a policy", || Ok(policy(child).ok())).await?;
        // It selects the pods that there are.
        let labels = there["spec"]["podSelector"]["matchLabels"].as_object().cloned().unwrap_or_default();
        let selector =
            labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
        let selector = selector.collect::<Vec<_>>().join(",");
        let pods = namespace.kubectl(&["get", "pods", "--selector", &selector, "--output", "name"])?;
        ensure!(pods.starts_with(&format!("pod/{child}-")), "{selector}: {pods}");
        ensure!(there["spec"]["policyTypes"] == json!(["Ingress"]), "{there}");
        namespace.condition(what, "Ready", "True", "Available").await?;

        // A pass over what has not changed writes nothing, and one over what somebody has deleted makes it again.
        namespace.until_repaired(child).await?;
        ensure!(
            policy(child)?["metadata"]["resourceVersion"] == there["metadata"]["resourceVersion"],
            "{child}"
        );
        namespace.kubectl(&["delete", "networkpolicy", child])?;
        namespace.until("the policy again", || Ok(policy(child).ok())).await?;
        ensure!(generation()? == before, "{child} was made anew");
    }

    let (what, child) = ALL[0];
    patch(what, json!({"from": [{"ipBlock": {"cidr": "anywhere"}}]}))?;
    let message = namespace.condition(what, "Stalled", "True", "InvalidSpec").await?;
    ensure!(message.contains("anywhere") && message.contains("spec.networkPolicy"), "{message}");
    patch(what, json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}))?;
    namespace.condition(what, "Ready", "True", "Available").await?;
    ensure!(policy(child)?.to_string().contains("10.0.0.0/8"));
    for (what, child) in ALL {
        patch(what, Value::Null)?;
        namespace.until("no policy", || Ok(policy(child).is_err().then_some(()))).await?;
    }
    Ok(())
}
