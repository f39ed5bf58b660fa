//! The operator itself: what it may do, what happens without it, and who takes over.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::kubectl::{Namespace, alone, helm, install, kubectl, operator};
use crate::orders::Orders;

const ACCOUNT: &str = "system:serviceaccount:headwater:headwater-operator";

/// Whether the account may do it, as the API server says.
fn can(account: &str, words: &[&str]) -> Result<bool> {
    // A no is said on standard output, too, and by the exit code.
    match kubectl(&[&["auth", "can-i"], words, &["--as", account]].concat(), "") {
        Ok(said) => Ok(said.trim() == "yes"),
        Err(said) if format!("{said:#}").contains(": no\n") => Ok(false),
        Err(error) => Err(error),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_may_do_what_they_need_and_no_more() -> Result<()> {
    let _operator = operator().await?;
    let namespace = Namespace::new("accounts")?;
    let within = ["--namespace", namespace.name.as_str()];
    for (words, is_allowed) in [
        (&["list", "eventstreams.headwater.dev", "--all-namespaces"][..], true),
        (&["patch", "projections.headwater.dev", "--subresource=status", "--all-namespaces"], true),
        (&["create", "deployments.apps", "--all-namespaces"], true),
        (&["get", "secrets", "--all-namespaces"], true),
        (&["delete", "configmaps", "--all-namespaces"], true),
        (&["delete", "networkpolicies.networking.k8s.io", "--all-namespaces"], true),
        (&["delete", "secrets", "--all-namespaces"], false),
        (&["delete", "deployments.apps", "--all-namespaces"], true),
        (&["create", "jobs.batch", "--all-namespaces"], true),
        (&["update", "deployments.apps", "--all-namespaces"], false),
        (&["watch", "pods", "--all-namespaces"], true),
        (&["get", "pods", "--all-namespaces"], false),
        // Of what users write, the finalizer.
        (&["patch", "projections.headwater.dev", "--all-namespaces"], true),
        (&["update", "projections.headwater.dev", "--all-namespaces"], false),
        (&["create", "eventstreams.headwater.dev", "--all-namespaces"], false),
        (&["delete", "sagas.headwater.dev", "--all-namespaces"], false),
        // Nothing that leads to more rights, to others' pods, or beyond namespaces.
        (&["create", "pods", "--all-namespaces"], false),
        (&["create", "pods", "--subresource=exec", "--all-namespaces"], false),
        (&["create", "rolebindings.rbac.authorization.k8s.io", "--all-namespaces"], false),
        (&["escalate", "clusterroles.rbac.authorization.k8s.io"], false),
        (&["impersonate", "users"], false),
        (&["update", "customresourcedefinitions.apiextensions.k8s.io"], false),
        (&["delete", "namespaces"], false),
        (&["get", "nodes"], false),
        (&["create", "serviceaccounts", "--subresource=token", "--all-namespaces"], false),
        (
            &["create", "serviceaccounts/headwater-operator", "--subresource=token", "--namespace=headwater"],
            true,
        ),
    ] {
        ensure!(can(ACCOUNT, words)? == is_allowed, "{words:?}: {}", !is_allowed);
    }
    // What runs resources has no rights at the API server at all.
    let worker = format!("system:serviceaccount:{}:orders-projection", namespace.name);
    for words in
        [["get", "secrets"], ["list", "pods"], ["get", "projections.headwater.dev"], ["create", "events"]]
    {
        ensure!(!can(&worker, &[&words[..], &within].concat())?, "{words:?}");
    }
    Ok(())
}

/// Alone, since others would find no operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_operator_takes_over_and_without_any_what_runs_goes_on_and_can_be_deleted() -> Result<()> {
    let all = alone().await?;
    let orders = Orders::ready_with(None).await?;
    let namespace = &orders.namespace;
    let within = ["--namespace", "headwater"];
    let leader = || -> Result<String> {
        let lease = kubectl(
            &[
                &["get", "lease", "headwater-operator", "--output", "jsonpath={.spec.holderIdentity}"][..],
                &within,
            ]
            .concat(),
            "",
        )?;
        Ok(lease.trim().to_owned())
    };
    let pods = || {
        kubectl(
            &[
                &[
                    "get",
                    "pods",
                    "--selector=app.kubernetes.io/name=headwater-operator",
                    "--field-selector=status.phase=Running",
                    "--output=name",
                ][..],
                &within,
            ]
            .concat(),
            "",
        )
    };
    helm("upgrade", &["--set", "replicas=2"])?;
    let first = leader()?;
    // It gives the lease back when it ends.
    kubectl(&[&["delete", "pod", &first, "--wait=false"][..], &within].concat(), "")?;
    let taken = || Ok(Some(leader()?).filter(|it| *it != first && !it.is_empty()));
    let second = namespace.until("another leader", taken).await?;
    let took = namespace.until_repaired("orders-eventstore").await?;
    ensure!(took < Duration::from_secs(5), "after it was ended, it took {took:?}");
    // And where it cannot, the lease runs out.
    namespace.until("two operators", || Ok((pods()?.lines().count() == 2).then_some(()))).await?;
    kubectl(&[&["delete", "pod", &second, "--grace-period=0", "--force"][..], &within].concat(), "")?;
    let took = namespace.until_repaired("orders-eventstore").await?;
    ensure!(took < Duration::from_secs(25), "after it was killed, it took {took:?}");

    // Without any, what runs goes on, and all of it can be deleted.
    helm("upgrade", &["--set", "replicas=0"])?;
    namespace.until("no operator", || Ok(pods()?.is_empty().then_some(()))).await?;
    let store = namespace.url("orders-eventstore")?;
    namespace.caller()?.get(&format!("{store}/v1/head")).await?;
    kubectl(&["delete", "namespace", &namespace.name, "--timeout=90s"], "")?;

    // The chart goes, and leaves the definitions, with all resources.
    let other = Orders::place_with(None)?;
    helm("uninstall", &["--wait"])?;
    ensure!(other.namespace.get("eventstream/orders")?["spec"]["partitions"] == 1, "it is there");
    install()?;
    other.namespace.condition("eventstream/orders", "ResolvedRefs", "False", "SecretNotFound").await?;
    let said = helm("test", &[])?;
    ensure!(said.contains("Succeeded"), "{said}");
    drop(all);
    Ok(())
}
