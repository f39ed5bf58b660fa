//! What becomes of data when resources are deleted whose `deletionPolicy` is Delete.

use std::process::Command;

use anyhow::{Result, ensure};
use headwater_testkit::process::program;

use crate::kubectl::{Namespace, kubectl, run};
use crate::orders::Orders;

const ALL: [&str; 3] = ["eventstream/orders", "projection/orders", "saga/place-order"];

/// The orders, one of which is placed, and whose data go with them.
async fn to_be_deleted() -> Result<Orders> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let caller = namespace.caller()?;
    let store = namespace.url("orders-eventstore")?;
    caller.post(&format!("{store}/v1/streams/order-1/events"), &crate::orders::append("1")?).await?;
    for what in ALL {
        let patch = r#"{"spec": {"deletionPolicy": "Delete"}}"#;
        namespace.kubectl(&["patch", what, "--type=merge", "--patch", patch])?;
        let is_held = || {
            let finalizers = namespace.get(what)?["metadata"]["finalizers"].take();
            Ok((finalizers[0] == "headwater.dev/cleanup").then_some(()))
        };
        namespace.until(&format!("the finalizer of {what}"), is_held).await?;
    }
    for (name, word) in [
        // Of which log is known when that is in the event stream's status.
        ("orders-eventstore", "--delete-data="),
        ("orders-projection", "--delete-data="),
        ("place-order-saga", "--delete-data"),
    ] {
        let is_told = || {
            let map = namespace.get(&format!("configmap/{name}-deletion")).ok();
            let job = map.and_then(|map| map["data"]["job.json"].as_str().map(str::to_owned));
            Ok(job.filter(|job| job.contains(word)).map(drop))
        };
        namespace.until("how data are deleted", is_told).await?;
    }
    Ok(orders)
}

fn schemas(orders: &Orders) -> Result<Vec<String>> {
    let names =
        orders.database.query("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'hw\\_%' ORDER BY 1")?;
    Ok(names.lines().map(str::to_owned).collect())
}

/// What events say of a resource that is gone: reason and message.
async fn told(namespace: &Namespace, what: &str, reason: &str) -> Result<String> {
    let (kind, name) = what.split_once('/').unwrap_or_default();
    let find = || {
        let path = format!("/apis/events.k8s.io/v1/namespaces/{}/events", namespace.name);
        let all: serde_json::Value = serde_json::from_str(&kubectl(&["get", "--raw", &path], "")?)?;
        let of_it = all["items"].as_array().into_iter().flatten().find(|event| {
            event["reason"] == reason
                && event["regarding"]["name"] == name
                && event["regarding"]["kind"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind))
        });
        Ok(of_it.map(|event| event["note"].as_str().unwrap_or_default().to_owned()))
    };
    namespace.until(&format!("{reason} of {what}"), find).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_are_deleted_with_their_resources_in_whatever_order_these_go() -> Result<()> {
    let orders = to_be_deleted().await?;
    let namespace = &orders.namespace;
    ensure!(
        schemas(&orders)? == ["hw_orders", "hw_orders_view", "hw_saga_place_order"],
        "{:?}",
        schemas(&orders)?
    );
    // As GitOps tools do: what belongs to them is deleted first.
    for what in ALL {
        namespace.kubectl(&["delete", what, "--cascade=foreground", "--wait=false"])?;
    }
    for what in ALL {
        told(namespace, what, "DataDeleted").await?;
        namespace.until(&format!("no {what}"), || Ok(namespace.get(what).is_err().then_some(()))).await?;
    }
    ensure!(schemas(&orders)?.is_empty(), "{:?}", schemas(&orders)?);
    let nothing_left = || {
        let all = namespace.kubectl(&["get", "deployments,jobs,configmaps,services", "--output", "name"])?;
        let ours = all.lines().any(|line| line.contains("orders-") || line.contains("place-order-"));
        Ok((!ours).then_some(()))
    };
    namespace.until("nothing that is left", nothing_left).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_deleted_is_left_and_said_and_a_person_drops_it() -> Result<()> {
    let orders = to_be_deleted().await?;
    let namespace = &orders.namespace;
    // Kept after all, as its spec says.
    namespace.kubectl(&[
        "patch",
        "saga/place-order",
        "--type=merge",
        "--patch",
        r#"{"spec": {"deletionPolicy": "Retain"}}"#,
    ])?;
    let is_free = || {
        let saga = namespace.get("saga/place-order")?;
        let map = namespace.get("configmap/place-order-saga-deletion");
        Ok((saga["metadata"]["finalizers"].is_null() && map.is_err()).then_some(()))
    };
    namespace.until("a saga without a finalizer", is_free).await?;
    namespace.kubectl(&["delete", "saga/place-order"])?;

    namespace.kubectl(&["delete", "secret/orders-db"])?;
    for what in ["projection/orders", "eventstream/orders"] {
        namespace.kubectl(&["delete", what, "--wait=false"])?;
        let why = told(namespace, what, "DataLeft").await?;
        ensure!(
            why.contains("Secret \"orders-db\" is gone") && why.contains("headwater schemas list"),
            "{why}"
        );
        namespace.until(&format!("no {what}"), || Ok(namespace.get(what).is_err().then_some(()))).await?;
    }
    ensure!(
        schemas(&orders)? == ["hw_orders", "hw_orders_view", "hw_saga_place_order"],
        "{:?}",
        schemas(&orders)?
    );
    let url = orders.database.url();
    let headwater = |words: &[&str]| {
        run(Command::new(program("headwater")?).args(["schemas"]).args(words).args(["--database", &url]), "")
    };
    let list = headwater(&["list"])?;
    ensure!(list.contains(&format!("EventStream {}/orders", namespace.name)), "{list}");
    // Their processes have ended, and say so within seconds.
    for schema in ["hw_orders", "hw_orders_view", "hw_saga_place_order"] {
        let dropped = || Ok(headwater(&["drop", schema, "--yes"]).ok());
        let said = namespace.until(&format!("{schema} dropped"), dropped).await?;
        ensure!(said.contains("is dropped"), "{said}");
    }
    ensure!(schemas(&orders)?.is_empty(), "{:?}", schemas(&orders)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_deleted_though_data_cannot_be() -> Result<()> {
    let orders = to_be_deleted().await?;
    let namespace = &orders.namespace;
    kubectl(&["delete", "namespace", &namespace.name, "--wait=false"], "")?;
    let is_gone = || Ok(kubectl(&["get", "namespace", &namespace.name], "").is_err().then_some(()));
    namespace.until("no namespace", is_gone).await
}
