use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::support::{Folder, Running, run};

const SAGA: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place-order}
spec:
  streamRef: {name: orders}
  startOn: {events: [OrderCreated]}
  steps:
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: 'http://127.0.0.1:1/${instance}'}}
    retry: {maxAttempts: 1000, initialBackoff: 1h, maxBackoff: 1h}
    compensation: {type: HTTP, http: {method: DELETE, url: 'http://127.0.0.1:1/${instance}'}}
  - name: approve
    role: Pivot
    action: {type: Append, append: {streamId: '${instance}', type: OrderApproved, data: {}}}
";

#[tokio::test]
async fn a_saga_is_drawn_from_its_manifest() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("saga.yaml", SAGA)?;
    let directory = folder.path().to_str().context("a path in UTF-8")?;
    let graph = ["sagas", "graph", "place-order", "--directory", directory];
    let chart = run(&graph).await?.succeeded()?.out;
    assert!(chart.starts_with("flowchart TD\n"), "{chart}");
    assert!(chart.contains("step1{{\"approve (pivot)<br/>append OrderApproved to orders\"}}\n"), "{chart}");
    assert!(chart.ends_with("    undo0 -.-> compensated\n"), "{chart}");
    let json = run(&[&graph[..], &["--output", "json"]].concat()).await?.succeeded()?.json()?;
    assert_eq!(json["saga"], "place-order");
    assert_eq!(json["mermaid"], chart);
    run(&["sagas", "graph", "other", "--directory", directory])
        .await?
        .failed(4, "has no saga \"other\"; there is \"place-order\"");
    folder.edit("saga.yaml", "role: Pivot", "role: Retriable")?;
    run(&graph).await?.failed(2, "1 fault in the manifests");
    Ok(())
}

/// What is shown of the instance, as soon as it has `part`.
async fn shows(running: &Running, part: &str) -> Result<String> {
    let began = Instant::now();
    loop {
        let done = running.run(&["sagas", "show", "place-order", "order-1"]).await?;
        if done.out.contains(part) {
            return Ok(done.out);
        }
        anyhow::ensure!(
            began.elapsed() < Duration::from_secs(30),
            "{part} is not in\n{}{}",
            done.out,
            done.err
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_instance_is_shown_aborted_and_skipped() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("saga.yaml", SAGA)?;
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "1"}"#).await?;
    let shown = shows(&running, "AttemptUnanswered").await?;
    assert!(shown.contains("state       running") && shown.contains("\nNEXT\n"), "{shown}");
    let list = running.run(&["sagas", "list"]).await?.succeeded()?.out;
    assert!(list.starts_with("NAME          RUNNING"), "{list}");
    let list = running.run(&["sagas", "list", "place-order", "--limit", "1"]).await?.succeeded()?.out;
    assert!(list.contains("order-1    running   reserve"), "{list}");
    let graph = running.run(&["sagas", "graph", "place-order"]).await?.succeeded()?.out;
    assert!(graph.starts_with("flowchart TD\n"), "{graph}");

    let step = ["sagas", "skip", "place-order", "order-1", "--step", "approve"];
    running.run(&step).await?.failed(2, "it is at reserve");
    running
        .run(&["sagas", "abort", "place-order", "order-1", "--reason", "she called"])
        .await?
        .succeeded()?;
    shows(&running, "reserve (undo)").await?;
    running.run(&["sagas", "abort", "place-order", "order-1"]).await?.failed(3, "is being undone already");
    running.run(&["sagas", "skip", "place-order", "order-1", "--step", "reserve"]).await?.succeeded()?;
    let undone = shows(&running, "state       compensated").await?;
    assert!(undone.contains("reason      she called") && !undone.contains("NEXT"), "{undone}");
    let ended = ["--output", "json", "sagas", "list", "place-order", "--state", "compensated"];
    let ended = running.run(&ended).await?.succeeded()?.json()?;
    assert_eq!(ended["instances"][0]["instance"], "order-1");
    running.run(&["sagas", "show", "place-order", "order-9"]).await?.failed(4, "no instance \"order-9\"");
    running.run(&["sagas", "show", "shop", "order-1"]).await?.failed(4, "there is \"place-order\"");
    Ok(())
}

#[tokio::test]
async fn what_could_not_start_is_listed_with_the_reason() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("saga.yaml", SAGA)?;
    folder.edit("saga.yaml", "  steps:", "  instance: '${event.data.number}'\n  steps:")?;
    let running = folder.dev().await?;
    let not_started = ["sagas", "not-started", "place-order"];
    let none = running.run(&not_started).await?.succeeded()?.out;
    assert_eq!(none, "every event that should start an instance did\n");
    for order in ["order-1", "order-2"] {
        running.append(order, "OrderCreated", r#"{"amount": "1"}"#).await?;
    }
    let began = Instant::now();
    let found = loop {
        let found = running.run(&not_started).await?.succeeded()?.out;
        if found.contains("order-1") && found.contains("order-2") {
            break found;
        }
        anyhow::ensure!(began.elapsed() < Duration::from_secs(30), "{found}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        found.starts_with("TIME") && found.contains("OrderCreated") && found.contains("number"),
        "{found}"
    );
    let first = running.run(&[&not_started[..], &["--limit", "1", "--output", "json"]].concat()).await?;
    let first = first.succeeded()?.json()?;
    assert_eq!(first["events"].as_array().context("events")?.len(), 1);
    let next = first["next"].as_str().context("there is more")?;
    let rest = running.run(&[&not_started[..], &["--after", next]].concat()).await?.succeeded()?.out;
    let orders = |text: &str| ["order-1", "order-2"].iter().filter(|order| text.contains(**order)).count();
    assert_eq!((orders(&first["events"].to_string()), orders(&rest)), (1, 1), "{first} {rest}");
    running.run(&["sagas", "not-started", "shop"]).await?.failed(4, "there is \"place-order\"");
    running
        .run(&["sagas", "not-started", "place-order", "--after", "x"])
        .await?
        .failed(2, "no place in the list");
    Ok(())
}
