//! Scaling by lag, which is KEDA's. Its own definition is installed, and no KEDA: what it would be told is looked at, and what it would read.

use anyhow::{Context, Result, ensure};
use headwater_testkit::judges::ask;
use headwater_testkit::tools;
use serde_json::{Value, json};

use crate::kubectl::kubectl;
use crate::orders::Orders;

const DEFINITION: &str = "scaledobjects.keda.sh";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_scaled_by_lag_waits_for_keda_and_is_keda_s_from_then_on() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let patch = |what: &str, autoscaling: Value| {
        let patch = json!({"spec": {"autoscaling": autoscaling}}).to_string();
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", &patch]).map(drop)
    };
    let all = [("projection/orders", "orders-projection"), ("saga/place-order", "place-order-saga")];
    // By a test before, on a cluster that was kept.
    kubectl(&["delete", "customresourcedefinition", DEFINITION, "--ignore-not-found"], "")?;
    patch(all[0].0, json!({"maxReplicas": 3}))?;
    let by_use = || namespace.get("hpa/orders-projection");
    namespace.until("an autoscaler by use", || Ok(by_use().ok())).await?;
    for (what, _) in all {
        patch(what, json!({"maxReplicas": 3, "targetLag": 100}))?;
        let message = namespace.condition(what, "ResolvedRefs", "False", "AutoscalerNotInstalled").await?;
        ensure!(message.contains("KEDA") && message.contains("spec.autoscaling.targetLag"), "{message}");
        namespace.condition(what, "Ready", "False", "DependencyNotReady").await?;
        namespace.condition(what, "Reconciling", "True", "WaitingForDependency").await?;
    }
    // Meanwhile, what there is goes on.
    by_use()?;
    let queries = namespace.url("orders-projection")?;
    namespace.caller()?.get(&format!("{queries}/v1/projections/orders/orders?limit=1")).await?;

    let file = tools::keda_definition()?;
    let file = file.to_str().context("a path of UTF-8")?;
    kubectl(&["apply", "--server-side", "--filename", file], "")?;
    for (what, child) in all {
        namespace.condition(what, "ResolvedRefs", "True", "Resolved").await?;
        namespace.condition(what, "Ready", "True", "Available").await?;
        let scaled = || namespace.get(&format!("scaledobjects.keda.sh/{child}"));
        let there = scaled()?;
        // As many as the event stream has partitions.
        ensure!(
            there["spec"]["maxReplicaCount"] == 1 && there["spec"]["scaleTargetRef"]["name"] == child,
            "{there}"
        );
        let trigger = &there["spec"]["triggers"][0];
        ensure!(trigger["metadata"]["targetValue"] == "100", "{trigger}");

        // What KEDA would read, with no token, from any pod.
        let told = trigger["metadata"]["url"].as_str().context("a URL")?;
        let host = format!("http://{child}.{}.svc", namespace.name);
        let (path, url) = (told.strip_prefix(&host).context("its Service")?, namespace.url(child)?);
        let (_, path) = path.split_once('/').context("a path")?;
        let answer = reqwest::get(format!("{url}/{path}")).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let measure = trigger["metadata"]["valueLocation"].as_str().context("a measure")?;
        let lag = ask("measure", &[measure], &answer.text().await?)?;
        ensure!(lag.trim() == "0", "{measure}: {lag}");

        namespace.until_repaired(child).await?;
        let after = scaled()?;
        ensure!(after["metadata"]["resourceVersion"] == there["metadata"]["resourceVersion"], "{after}");
    }
    ensure!(by_use().is_err(), "one scales, not two");

    patch(all[0].0, json!({"targetLag": null}))?;
    namespace.until("an autoscaler by use again", || Ok(by_use().ok())).await?;
    for (what, child) in all {
        patch(what, Value::Null)?;
        let is_gone = || Ok(namespace.get(&format!("scaledobjects.keda.sh/{child}")).is_err().then_some(()));
        namespace.until("no ScaledObject", is_gone).await?;
        namespace.condition(what, "Ready", "True", "Available").await?;
    }
    kubectl(&["delete", "customresourcedefinition", DEFINITION], "")?;
    Ok(())
}
