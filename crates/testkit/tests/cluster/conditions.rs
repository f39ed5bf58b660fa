//! What conditions say, of what is away, refused, scaled or renewed; and what goes on meanwhile.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::kubectl::{alone, helm, install, kubectl};
use crate::orders::{Load, Orders};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_and_a_bus_that_are_away_are_told_of_until_they_are_back() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let is = async |of: &str, status: &str, reason: &str| {
        namespace.condition("eventstream/orders", of, status, reason).await
    };
    is("DatabaseReady", "True", "Connected").await?;
    is("BusReady", "True", "Connected").await?;
    let partitions = namespace.get("eventstream/orders")?["status"]["partitions"].take();
    ensure!(partitions[0]["relayed"] == "0" && partitions[0]["epoch"] != "0", "{partitions}");

    orders.broker.kill()?;
    let message = is("BusReady", "False", "Unreachable").await?;
    ensure!(message.contains("NATS") || message.contains("JetStream"), "{message}");
    is("DatabaseReady", "True", "Connected").await?;
    orders.broker.resume()?;
    is("BusReady", "True", "Connected").await?;

    orders.database.kill()?;
    let message = is("DatabaseReady", "False", "Unreachable").await?;
    ensure!(message.contains("database"), "{message}");
    orders.database.resume()?;
    is("DatabaseReady", "True", "Connected").await?;
    is("Ready", "True", "Available").await?;

    // A Secret that changes to what is of no use: the pods of before go on, and it is told all the same.
    namespace.secret("orders-db", "uri", "postgres://nobody@db:5432/postgres")?;
    let message = is("DatabaseReady", "False", "AuthenticationFailed").await?;
    ensure!(message.contains("\"nobody\""), "{message}");
    orders.give_secret()?;
    is("DatabaseReady", "True", "Connected").await?;
    is("Ready", "True", "Available").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_api_server_refuses_to_make_is_said_and_what_runs_goes_on() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let patch = |patch: &str| {
        namespace.kubectl(&["patch", "eventstream/orders", "--type=merge", "--patch", patch]).map(drop)
    };
    patch(r#"{"spec": {"workload": {"podLabels": {"team": "a b"}}}}"#)?;
    let message = namespace.condition("eventstream/orders", "Stalled", "True", "InvalidSpec").await?;
    ensure!(message.contains("\"a b\"") && message.contains("spec.workload"), "{message}");
    namespace.condition("eventstream/orders", "Ready", "False", "InvalidSpec").await?;
    let status = namespace.get("eventstream/orders")?["status"].take();
    ensure!(status["replicasReady"] == "1/1" && status["address"]["url"].is_string(), "{status}");
    patch(r#"{"spec": {"workload": null}}"#)?;
    namespace.condition("eventstream/orders", "Ready", "True", "Available").await?;

    // Another key of a Secret starts nothing anew.
    let generation =
        || anyhow::Ok(namespace.get("deployment/orders-eventstore")?["metadata"]["generation"].clone());
    let before = generation()?;
    namespace.secret("orders-db", "note", "x")?;
    namespace.until_repaired("orders-eventstore").await?;
    ensure!(generation()? == before, "it was made anew");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_autoscaler_takes_over_as_many_pods_as_there_are() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let patch = |patch: serde_json::Value| {
        let patch = patch.to_string();
        namespace.kubectl(&["patch", "eventstream/orders", "--type=merge", "--patch", &patch]).map(drop)
    };
    patch(json!({"spec": {"replicas": 2}}))?;
    namespace.until_rolled_out("orders-eventstore").await?;
    let deployment = || namespace.get("deployment/orders-eventstore");
    let generation = deployment()?["metadata"]["generation"].clone();
    patch(json!({"spec": {"autoscaling": {"minReplicas": 1, "maxReplicas": 4}}}))?;
    // Without metrics, the autoscaler takes what it finds.
    namespace
        .until("an autoscaler that has looked", || {
            let autoscaler = namespace.get("hpa/orders-eventstore").ok();
            Ok(autoscaler.filter(|it| it["status"]["conditions"].is_array()).map(drop))
        })
        .await?;
    let after = deployment()?;
    ensure!(after["spec"]["replicas"] == 2 && after["metadata"]["generation"] == generation, "{after}");
    patch(json!({"spec": {"autoscaling": null}}))?;
    let is_gone = || Ok(namespace.get("hpa/orders-eventstore").is_err().then_some(()));
    namespace.until("no autoscaler", is_gone).await?;
    ensure!(deployment()?["spec"]["replicas"] == 2, "as replicas says");
    Ok(())
}

/// Every pod is started anew by another version of the chart, and nobody is kept from work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_under_load_loses_nothing_and_fails_no_request_twice() -> Result<()> {
    let all = alone().await?;
    let orders = Orders::ready_with(None).await?;
    let namespace = &orders.namespace;
    namespace.kubectl(&["delete", "saga/place-order"])?;
    let two = r#"{"spec": {"replicas": 2}}"#;
    for what in ["eventstream/orders", "projection/orders"] {
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", two])?;
    }
    let deployments = ["orders-eventstore", "orders-projection"];
    for deployment in deployments {
        namespace.until_rolled_out(deployment).await?;
    }
    let load = Load::on(namespace)?;
    helm("upgrade", &["--set", "image.pullPolicy=Never"])?;
    for deployment in deployments {
        let is_told = || {
            let template = namespace.get(&format!("deployment/{deployment}"))?["spec"]["template"].take();
            Ok((template["spec"]["containers"][0]["imagePullPolicy"] == "Never").then_some(()))
        };
        namespace.until(&format!("{deployment} as the new operator makes it"), is_told).await?;
        namespace.until_rolled_out(deployment).await?;
    }
    load.end(&orders).await?;
    install()?;
    drop(all);
    Ok(())
}

/// A node is emptied for maintenance, as by an upgrade of the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_drained_under_load_takes_nothing_with_it() -> Result<()> {
    let all = alone().await?;
    let orders = Orders::ready_with(None).await?;
    let namespace = &orders.namespace;
    namespace.kubectl(&["delete", "saga/place-order"])?;
    let two = r#"{"spec": {"replicas": 2}}"#;
    let deployments = ["orders-eventstore", "orders-projection"];
    for (what, deployment) in ["eventstream/orders", "projection/orders"].into_iter().zip(deployments) {
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", two])?;
        namespace.until_rolled_out(deployment).await?;
    }
    let on = |node: &str| -> Result<usize> {
        let field = format!("--field-selector=spec.nodeName={node}");
        Ok(namespace.kubectl(&["get", "pods", &field, "--output", "name"])?.lines().count())
    };
    ensure!(
        on("node-2")? > 0,
        "something is on each node: {}",
        namespace.kubectl(&["get", "pods", "--output", "wide"])?
    );
    let load = Load::on(namespace)?;
    let drained = kubectl(
        &["drain", "node-2", "--force", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"],
        "",
    );
    let left = on("node-2")?;
    for deployment in deployments {
        namespace.until_rolled_out(deployment).await?;
    }
    kubectl(&["uncordon", "node-2"], "")?;
    drained?;
    ensure!(left == 0, "{left} pods are left there");
    load.end(&orders).await?;
    drop(all);
    Ok(())
}
