//! What is in `deploy/`, the chart and the Tiltfile, before the judges of those who use it: programs of `tools/gitops`, and Helm.

use anyhow::{Result, ensure};
use headwater_testkit::judges::{WATCHED, ask, metrics_in, render, workspace};
use serde_json::{Value, json};

/// That this is refused, with these words in what is said.
fn refused(result: Result<String>, words: &str) -> Result<()> {
    match result {
        Ok(said) => anyhow::bail!("{words:?} was not said: {said}"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(said.contains(words), "{words:?} is not in {said}");
            Ok(())
        }
    }
}

#[test]
fn argo_cd_tells_how_resources_stand_and_offers_what_can_be_done() -> Result<()> {
    let scripts = ["test", "deploy/argocd/argocd-cm.yaml", "deploy/argocd/resource_customizations"];
    let said = ask("argocd", &scripts, "")?;
    let count: usize = said.split(' ').next().unwrap_or_default().parse()?;
    ensure!(count > 40, "{said}");
    Ok(())
}

/// The documents of a kind that only an operator of others knows.
fn of_others(manifests: &str) -> String {
    let documents = manifests.split("\n---\n").filter(|it| it.contains("apiVersion: monitoring.coreos.com/"));
    documents.collect::<Vec<_>>().join("\n---\n")
}

#[test]
fn manifests_for_flux_and_prometheus_are_of_their_types() -> Result<()> {
    let flux = ["headwater.yaml", "orders.yaml", "platform.yaml"]
        .map(|file| std::fs::read_to_string(workspace().join("deploy/flux").join(file)))
        .into_iter()
        .collect::<Result<Vec<_>, _>>()?
        .join("\n---\n");
    let seen = ask("shapes", &[], &flux)?;
    for what in [
        "GitRepository/headwater",
        "HelmRelease/headwater",
        "Kustomization/headwater",
        "Kustomization/orders",
    ] {
        ensure!(seen.lines().any(|it| it == what), "{seen}");
    }
    refused(ask("shapes", &[], &flux.replace("dependsOn", "dependOn")), "unknown field \"dependOn\"")?;

    let watched = of_others(&render(&WATCHED)?);
    let seen = ask("shapes", &[], &watched)?;
    let kinds = ["PodMonitor/headwater-operator-workers", "PrometheusRule/headwater-operator"];
    for what in [&kinds[..], &["ServiceMonitor/headwater-operator"]].concat() {
        ensure!(seen.lines().any(|it| it == what), "{seen}");
    }
    refused(ask("shapes", &[], &watched.replace("interval: 30s", "every: 30s")), "unknown field")
}

#[test]
fn alerts_and_the_dashboard_are_of_promql_and_alerts_can_be_left_out() -> Result<()> {
    let watched = render(&WATCHED)?;
    let metrics = metrics_in(&watched)?;
    for name in ["headwater_condition", "headwater_append_seconds_bucket", "headwater_saga_instances"] {
        ensure!(metrics.contains_key(name), "{name} is not in {metrics:?}");
    }
    refused(ask("promql", &[], &watched.replacen("[10m]))", "[10m])", 1)), "parse error")?;

    let without = ["--set", "prometheusRule.disabled={HeadwaterOperatorDown,HeadwaterProjectionLags}"];
    let fewer = render(&[&WATCHED[..], &without].concat())?;
    for alert in ["HeadwaterOperatorDown", "HeadwaterProjectionLags"] {
        ensure!(watched.contains(alert) && !fewer.contains(alert), "{alert}");
    }
    ensure!(fewer.contains("HeadwaterProjectionHalted"), "{fewer}");
    for (set, words) in [
        ("podMonitor.intervall=1s", "intervall"),
        ("prometheusRule.disabled={all}", "does not match pattern"),
        ("grafanaDashboard.labels=none", "want object"),
    ] {
        refused(render(&["--set", set]), words)?;
    }
    Ok(())
}

/// What the operator makes of its tests' resources, and the chart's own; no network plug-in is asked.
#[test]
fn network_policies_let_in_whom_they_are_for_and_nobody_else() -> Result<()> {
    let made = std::fs::read_to_string(workspace().join("crates/operator/tests/it/golden/everything.yaml"))?;
    let monitoring = r#"networkPolicy={"enabled": true, "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]}"#;
    let chart = render(&["--set", "crds.install=false", "--set-json", monitoring])?;
    let closed = render(&["--set", "crds.install=false,networkPolicy.enabled=true"])?;
    let policies = |manifests: &str| -> Result<Vec<Value>> {
        let all: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
        Ok(all.into_iter().filter(|it| it["kind"] == "NetworkPolicy").collect())
    };
    let pod = |namespace: &str, name: &str, instance: &str| json!({"namespace": namespace, "labels": {"app": name, "app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}});
    let other = |namespace: &str, name: &str| pod(namespace, name, "other");
    let address = |ip: &str| json!({ "ip": ip });
    let check = |policies: &[Value], calls: &[(Value, &Value, u16, bool)]| -> Result<()> {
        let asked: Vec<Value> =
            calls.iter().map(|(from, to, port, _)| json!({"from": from, "to": to, "port": port})).collect();
        let said = ask("reach", &[], &json!({"policies": policies, "calls": asked}).to_string())?;
        ensure!(said.lines().count() == calls.len(), "{said}");
        for (said, (from, to, port, is_allowed)) in said.lines().zip(calls) {
            ensure!((said == "allowed") == *is_allowed, "{from} to {to} at {port}: {said}");
        }
        Ok(())
    };

    let operator = pod("headwater", "headwater-operator", "headwater");
    let store = pod("shop", "headwater-eventstore", "sales");
    let saga = pod("shop", "headwater-saga", "ship");
    let projection = pod("shop", "headwater-query-worker", "totals");
    let all = policies(&format!("{made}\n---\n{chart}"))?;
    ensure!(all.len() == 3, "{all:?}");
    check(
        &all,
        &[
            (other("shop", "till"), &store, 50051, true),
            (store.clone(), &store, 50051, true),
            (other("shop", "till"), &store, 9999, false),
            (other("stock", "anything"), &store, 50051, true),
            (other("office", "anything"), &store, 50051, false),
            (operator.clone(), &store, 50051, true),
            (other("headwater", "anything"), &store, 50051, false),
            (other("office", "headwater-operator"), &store, 50051, false),
            (other("monitoring", "prometheus"), &store, 50051, true),
            (other("monitoring", "anything"), &store, 50051, false),
            (address("10.1.3.4"), &store, 50051, true),
            (address("10.1.2.4"), &store, 50051, false),
            (address("192.0.2.1"), &store, 50051, false),
            // Who asks for lag, where lag is asked for.
            (other("keda", "keda-operator"), &saga, 8081, true),
            (other("keda", "keda-operator"), &store, 50051, false),
            (other("keda", "anything"), &saga, 8081, false),
            (other("stock", "anything"), &saga, 8081, false),
            (operator.clone(), &saga, 8081, true),
            // What asks for no policy has none; nor has what is called out.
            (other("office", "anything"), &projection, 8082, true),
            (store.clone(), &address("192.0.2.1"), 5432, true),
            (other("monitoring", "prometheus"), &operator, 8080, true),
            (other("office", "anything"), &operator, 8080, false),
        ],
    )?;
    let monitoring = (other("monitoring", "prometheus"), &operator, 8080, false);
    check(&policies(&closed)?, &[monitoring, (operator.clone(), &store, 50051, true)])?;
    refused(render(&["--set-json", r#"networkPolicy={"from": [{"podSelektor": {}}]}"#]), "podSelektor")
}

const BASE: &str = "\
# Rendered from charts/headwater by a test, which refuses what differs. Refresh it by:
# UPDATE=1 cargo test --release --package headwater-testkit --test it -- gitops::the_base
";

#[test]
fn the_base_for_kustomize_is_the_chart() -> Result<()> {
    let rendered = render(&["--set", "crds.install=false"])?;
    // What says that Helm keeps it is left out.
    let is_of_helm = |line: &str| {
        ["app.kubernetes.io/managed-by: Helm", "helm.sh/chart: "]
            .iter()
            .any(|it| line.trim_start().starts_with(it))
    };
    let lines = rendered.lines().skip_while(|line| line.is_empty()).filter(|line| !is_of_helm(line));
    let text = lines.fold(BASE.to_owned(), |text, line| text + line.trim_end() + "\n");
    let path = workspace().join("deploy/operator/operator.yaml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text)?;
    }
    ensure!(
        std::fs::read_to_string(&path)? == text,
        "{} is stale: its head says how to refresh it",
        path.display()
    );
    Ok(())
}

#[test]
fn the_tiltfile_says_what_is_there() -> Result<()> {
    let helm = headwater_testkit::tools::helm()?;
    let said = ask("tiltfile", &["Tiltfile", helm.to_str().unwrap_or_default()], "")?;
    for resource in ["headwater-operator", "eventstream", "projection", "saga", "seed", "rebuild"] {
        ensure!(said.contains(resource), "{said}");
    }
    Ok(())
}
