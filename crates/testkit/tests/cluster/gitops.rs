//! What tools that know none of our kinds tell of live resources: kstatus, by which Helm and Flux wait; and Argo CD, by our scripts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use headwater_testkit::judges::{WATCHED, ask, metrics_in, render, workspace};
use serde_json::{Value, json};

use crate::kubectl::{Namespace, kubectl, operator};
use crate::orders::{Orders, append};

const ALL: [&str; 3] = ["eventstream/orders", "projection/orders", "saga/place-order"];

const SCRIPTS: &str = "deploy/argocd/argocd-cm.yaml";

/// Waits until kstatus and Argo CD say this of a resource; what Argo CD offers to do, and whether it is disabled.
async fn told(namespace: &Namespace, what: &str, kstatus: &str, health: &str) -> Result<Value> {
    let seen = || {
        let object = namespace.get(what)?.to_string();
        let said = ask("kstatus", &[], &object)?;
        let line: Value = serde_json::from_str(&ask("argocd", &["judge", SCRIPTS], &object)?)?;
        let is_so = said.split(' ').nth(1) == Some(kstatus) && line["health"]["status"] == health;
        if !is_so {
            return Ok(None);
        }
        let message = line["health"]["message"].as_str().unwrap_or_default();
        ensure!(!message.is_empty(), "Argo CD says nothing of {object}");
        Ok(Some(line["actions"].clone()))
    };
    namespace.until(&format!("{kstatus} and {health} of {what}"), seen).await
}

/// Does what Argo CD does when somebody asks for an action.
fn act(namespace: &Namespace, what: &str, action: &str) -> Result<()> {
    let object = namespace.get(what)?;
    let made: Value = serde_json::from_str(&ask("argocd", &["act", SCRIPTS, action], &object.to_string())?)?;
    ensure!(made["spec"] != object["spec"], "{action} changes nothing of {what}");
    let patch = json!({"spec": made["spec"]}).to_string();
    namespace.kubectl(&["patch", what, "--type=merge", "--patch", &patch]).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kstatus_and_argo_cd_tell_how_live_resources_stand() -> Result<()> {
    let orders = Orders::placed().await?;
    let namespace = &orders.namespace;
    for what in ALL {
        namespace.condition(what, "Ready", "False", "DependencyNotReady").await?;
        told(namespace, what, "InProgress", "Progressing").await?;
    }
    orders.give_secret()?;
    for what in ALL {
        namespace.condition(what, "Ready", "True", "Available").await?;
        told(namespace, what, "Current", "Healthy").await?;
    }

    // Argo CD's buttons.
    for what in ["projection/orders", "saga/place-order"] {
        act(namespace, what, "pause")?;
        namespace.condition(what, "Ready", "True", "Paused").await?;
        let actions = told(namespace, what, "Current", "Suspended").await?;
        ensure!(actions["pause"] == true && actions["resume"] == false, "{actions}");
    }
    for what in ALL {
        act(namespace, what, "stop")?;
        namespace.condition(what, "Ready", "True", "Stopped").await?;
        let actions = told(namespace, what, "Current", "Suspended").await?;
        ensure!(actions["stop"] == true && actions["resume"] == false, "{actions}");
    }
    for what in ALL {
        act(namespace, what, "resume")?;
        namespace.condition(what, "Ready", "True", "Available").await?;
        told(namespace, what, "Current", "Healthy").await?;
    }
    act(namespace, "projection/orders", "rebuild")?;
    let rebuilt = || {
        let active = namespace.get("projection/orders")?["status"]["active"]["revision"].clone();
        Ok((active == "2").then_some(()))
    };
    namespace.until("one more revision of the same spec", rebuilt).await?;
    told(namespace, "projection/orders", "Current", "Healthy").await?;

    // A person has to look: for tools that wait it is done, for Argo CD it is not well.
    let store = namespace.url("orders-eventstore")?;
    namespace.caller()?.post(&format!("{store}/v1/streams/order-1/events"), &append("1")?).await?;
    namespace.condition("saga/place-order", "NeedsAttention", "True", "InstancesStuck").await?;
    told(namespace, "saga/place-order", "Current", "Degraded").await?;

    // What goes is not done until it is gone.
    let hold = r#"{"metadata": {"finalizers": ["headwater.dev/test"]}}"#;
    namespace.kubectl(&["patch", "saga/place-order", "--type=merge", "--patch", hold])?;
    namespace.kubectl(&["delete", "saga/place-order", "--wait=false"])?;
    let said = ask("kstatus", &[], &namespace.get("saga/place-order")?.to_string())?;
    ensure!(said.split(' ').nth(1) == Some("Terminating"), "{said}");
    let let_go = r#"{"metadata": {"finalizers": null}}"#;
    namespace.kubectl(&["patch", "saga/place-order", "--type=merge", "--patch", let_go])?;
    Ok(())
}

/// What the API server takes, and the operator cannot run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kstatus_and_argo_cd_tell_that_a_spec_is_wrong() -> Result<()> {
    let _operator = operator().await?;
    let namespace = Namespace::new("wrong")?;
    namespace.secret("orders-db", "uri", "postgres://nowhere/orders")?;
    let file = |name: &str| std::fs::read_to_string(workspace().join("examples/orders").join(name));
    for (what, manifest, is, is_not) in [
        (
            "eventstream/orders",
            file("eventstream.yaml")?,
            "type: number, minimum: 0",
            "type: numeric, minimum: 0",
        ),
        ("projection/orders", file("projection.yaml")?, "event.data.amount", "event.data.amount +"),
        ("saga/place-order", file("saga.yaml")?, "order: event.data", "order: event.datum"),
    ] {
        ensure!(manifest.contains(is), "{is} is not in {manifest}");
        let wrong = manifest.replacen(is, is_not, 1);
        kubectl(&["apply", "--namespace", &namespace.name, "--filename", "-"], &wrong)?;
        namespace.condition(what, "Stalled", "True", "InvalidSpec").await?;
        told(&namespace, what, "Failed", "Degraded").await?;
    }
    Ok(())
}

/// Where Argo CD is installed, there are other keys in its ConfigMap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripts_for_argo_cd_are_applied_beside_what_else_is_there() -> Result<()> {
    let namespace = Namespace::new("argocd")?;
    namespace.kubectl(&[
        "create",
        "configmap",
        "argocd-cm",
        "--from-literal=url=https://argocd.example.com",
    ])?;
    let scripts = std::fs::read_to_string(workspace().join(SCRIPTS))?;
    let ours = scripts.replace("namespace: argocd", &format!("namespace: {}", namespace.name));
    kubectl(&["apply", "--server-side", "--field-manager", "headwater", "--filename", "-"], &ours)?;
    let data = namespace.get("configmap/argocd-cm")?["data"].take();
    ensure!(data["url"] == "https://argocd.example.com", "{data}");
    let keys =
        data.as_object().context("data")?.keys().filter(|it| it.starts_with("resource.customizations."));
    ensure!(keys.count() == 6, "{data}");
    Ok(())
}

/// Labels that are set when a pod is scraped, and of a histogram's buckets.
const SET_BY_PROMETHEUS: [&str; 5] = ["job", "le", "namespace", "pod", "resource"];

/// What is there only when it has happened once: failures, and the end of a saga, for which there are no participants here.
const RARE: [&str; 2] = ["headwater_operator_reconcile_errors_total", "headwater_saga_finished_total"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_and_the_dashboard_ask_for_metrics_and_labels_that_are_there() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let store = namespace.url("orders-eventstore")?;
    namespace.caller()?.post(&format!("{store}/v1/streams/order-1/events"), &append("1")?).await?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    namespace.condition("saga/place-order", "NeedsAttention", "True", "InstancesStuck").await?;

    let service = kubectl(
        &[
            "get",
            "service/headwater-operator",
            "--namespace",
            "headwater",
            "--output=jsonpath={.spec.clusterIP}",
        ],
        "",
    )?;
    let operator = format!("http://{}:8080", service.trim());
    let others = [namespace.url("orders-projection")?, namespace.url("place-order-saga")?];
    let mut there: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for url in [&[store, operator][..], &others].concat() {
        let text = reqwest::get(format!("{url}/metrics")).await?.error_for_status()?.text().await?;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let end = line.find(['{', ' ']).context("a sample")?;
            let labels =
                line[end..].strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |it| it.0);
            // No value of ours has a comma.
            let names = labels.split(',').filter_map(|it| Some(it.split_once('=')?.0.to_owned()));
            there.entry(line[..end].to_owned()).or_default().extend(names);
        }
    }
    let asked = metrics_in(&render(&WATCHED)?)?;
    let mut faults = Vec::new();
    // `up` is Prometheus's own.
    for (metric, labels) in asked.iter().filter(|(metric, _)| *metric != "up") {
        match there.get(metric) {
            None if RARE.contains(&metric.as_str()) => {}
            None => faults.push(format!("nobody counts {metric}")),
            Some(known) => faults.extend(
                labels
                    .iter()
                    .filter(|it| !known.contains(*it) && !SET_BY_PROMETHEUS.contains(&it.as_str()))
                    .map(|label| format!("{metric} has no label {label}")),
            ),
        }
    }
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}
