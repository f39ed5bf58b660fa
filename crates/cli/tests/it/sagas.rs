use anyhow::{Context, Result};

use crate::support::{Folder, run};

const SAGA: &str = "\
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place-order}
spec:
  streamRef: {name: orders}
  startOn: {events: [OrderCreated]}
  steps:
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: 'http://stock/${instance}'}}
    compensation: {type: HTTP, http: {method: DELETE, url: 'http://stock/${instance}'}}
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
