//! `kubectl headwater`, as its users have it: found by `kubectl`, with their kubeconfig.

use anyhow::{Result, ensure};
use headwater_testkit::process::Process;
use serde_json::Value;

use crate::orders::{Orders, append};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_shown_and_administered_by_kubectl() -> Result<()> {
    let orders = Orders::ready().await?;
    let namespace = &orders.namespace;
    let headwater = |words: &[&str]| namespace.plugin(words);
    let store = namespace.url("orders-eventstore")?;
    namespace.caller()?.post(&format!("{store}/v1/streams/order-1/events"), &append("1")?).await?;
    namespace.condition("projection/orders", "CaughtUp", "True", "Current").await?;
    namespace.condition("saga/place-order", "NeedsAttention", "True", "InstancesStuck").await?;

    let shown = headwater(&["status"])?;
    for line in ["EventStream orders", "├─ Projection orders", "└─ Saga place-order", "revision 1"] {
        ensure!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    ensure!(shown.contains("Saga place-order: 1 instances cannot go on"), "{shown}");
    let rows = headwater(&["query", "orders/orders", "--output", "json"])?;
    ensure!(rows.contains(r#""order_id":"1""#), "{rows}");
    let stuck = headwater(&["sagas", "list", "place-order", "--state", "needs-attention"])?;
    ensure!(stuck.contains("debit-payment"), "{stuck}");

    // What was built anew answers; and then what was there before.
    headwater(&["rebuild", "orders", "--wait"])?;
    let shown = headwater(&["show", "orders", "--output", "json"])?;
    ensure!(serde_json::from_str::<Value>(&shown)?["active"]["revision"] == "2", "{shown}");
    headwater(&["rollback", "orders"])?;
    let shown = headwater(&["show", "orders", "--output", "json"])?;
    ensure!(serde_json::from_str::<Value>(&shown)?["active"]["revision"] == "1", "{shown}");
    let parked = headwater(&["parked", "orders"])?;
    ensure!(!parked.contains("order-1"), "{parked}");
    let said = headwater(&["logs", "projection/orders", "--tail", "3"])?;
    ensure!(
        said.lines().count() > 0 && said.lines().all(|it| it.starts_with("orders-projection-")),
        "{said}"
    );

    // Whoever follows is told of what is said from then on.
    let folder = tempfile::tempdir()?;
    let follow = ["logs", "saga/place-order", "--follow", "--tail", "0"];
    let mut following = Process::start(namespace.plugin_command(folder.path(), &follow)?.into())?;
    namespace.caller()?.post(&format!("{store}/v1/streams/order-2/events"), &append("2")?).await?;
    following.line("the second order", |line| line.contains(r#""instance":"2""#).then_some(())).await?;
    following.kill().await?;

    for (words, part) in [
        (&["show", "bills"][..], "there is no Projection \"bills\" in namespace"),
        (&["logs", "pod/orders"], "none of eventstream, projection, saga"),
        (&["sagas", "list"], "say which"),
        (&["status", "--context", "nowhere"], "nowhere"),
        (&["status", "bills"], "there is no resource \"bills\""),
    ] {
        match headwater(words) {
            Err(refused) => ensure!(format!("{refused:#}").contains(part), "{words:?}: {refused:#}"),
            Ok(said) => anyhow::bail!("{words:?} was not refused: {said}"),
        }
    }
    Ok(())
}
