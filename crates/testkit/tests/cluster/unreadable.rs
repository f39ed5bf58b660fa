//! A resource that the operator cannot read, as another version may have left it.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::kubectl::{Namespace, kubectl};
use crate::orders::Orders;

/// To the API server this is a time; to the operator there is none so late.
const BEYOND: &str = "9999-12-31T23:59:59Z";

/// Since when its revision answers, as the status says.
fn set_since(namespace: &Namespace, what: &str, since: &Value) -> Result<()> {
    let patch = json!({"status": {"active": {"since": since}}}).to_string();
    namespace.kubectl(&["patch", what, "--subresource=status", "--type=merge", "--patch", &patch]).map(drop)
}

fn scale(namespace: &Namespace, what: &str, replicas: u32) -> Result<()> {
    let patch = json!({"spec": {"replicas": replicas}}).to_string();
    namespace.kubectl(&["patch", what, "--type=merge", "--patch", &patch]).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resource_that_cannot_be_read_goes_on_as_it_is_and_the_others_are_kept() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let (odd, what) = ("odd", "projection/odd");
    let spec = namespace.get("projection/orders")?["spec"].take();
    let resource = json!({"apiVersion": "headwater.dev/v1alpha1", "kind": "Projection", "metadata": {"name": odd}, "spec": spec});
    kubectl(&["apply", "--namespace", &namespace.name, "--filename", "-"], &resource.to_string())?;
    namespace.condition(what, "CaughtUp", "True", "Current").await?;
    let since = namespace.get(what)?["status"]["active"]["since"].take();
    ensure!(since.is_string(), "{since}");

    set_since(namespace, what, &json!(BEYOND))?;
    scale(namespace, what, 2)?;
    let message = namespace.condition(what, "Stalled", "True", "InvalidSpec").await?;
    ensure!(message.contains("it cannot be read"), "{message}");
    scale(namespace, "projection/orders", 2)?;
    scale(namespace, "eventstream/orders", 2)?;
    for deployment in ["orders-projection", "orders-eventstore"] {
        let has_two = || {
            let status = namespace.get(&format!("deployment/{deployment}"))?["status"].take();
            Ok((status["readyReplicas"] == 2).then_some(()))
        };
        namespace.until(&format!("two pods of {deployment}"), has_two).await?;
    }
    let deployment = format!("deployment/{odd}-projection");
    ensure!(namespace.get(&deployment)?["spec"]["replicas"] == 1, "it is left as it is");
    ensure!(namespace.get(&deployment)?["status"]["readyReplicas"] == 1, "and works");

    set_since(namespace, what, &since)?;
    // It is looked at again when what it is to be is another.
    scale(namespace, what, 3)?;
    namespace.condition(what, "Ready", "True", "Available").await?;
    ensure!(namespace.get(&deployment)?["spec"]["replicas"] == 3, "it is kept again");
    Ok(())
}
