//! What is in `deploy/`, the chart and the Tiltfile, before the judges of those who use it: programs of `tools/gitops`, and Helm.

use anyhow::{Result, ensure};
use headwater_testkit::judges::{WATCHED, ask, metrics_in, render, workspace};

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
