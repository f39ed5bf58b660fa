use anyhow::Result;
use serde_json::Value;

use crate::support::{Folder, line, line_where, run};

fn query(ready: &Value, rest: &str) -> Vec<String> {
    let address = ready["query"].as_str().unwrap_or_default().to_owned();
    ["--output", "json", "query", rest, "--query-server", &address].map(str::to_owned).to_vec()
}

async fn row(arguments: &[String]) -> Result<Value> {
    run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await?.succeeded()?.json()
}

#[tokio::test]
async fn a_saved_projection_is_rolled_out_while_the_old_one_serves() -> Result<()> {
    let folder = Folder::orders()?;
    let mut process = folder.start(&[])?;
    let ready = line(&mut process, "ready").await?;
    let server = ready["streams"][0]["url"].as_str().unwrap_or_default();
    let append =
        ["append", "order-1", "--type", "OrderCreated", "--data", r#"{"amount": "1"}"#, "--server", server];
    run(&append).await?.succeeded()?;

    folder.edit("orders.yaml", "'Pending'", "'Open'")?;
    let changed = line(&mut process, "changed").await?;
    assert_eq!(
        (changed["resource"].as_str(), changed["change"].as_str()),
        (Some("Projection orders"), Some("changed"))
    );
    line_where(&mut process, "rollout", |rollout| {
        rollout["revision"] == "2" && rollout["state"] == "serving"
    })
    .await?;
    assert_eq!(row(&query(&ready, "orders/orders/order-1")).await?["status"], "Open");

    // Back again: the previous revision is swapped in, nothing is built.
    folder.edit("orders.yaml", "'Open'", "'Pending'")?;
    line_where(&mut process, "rollout", |rollout| {
        rollout["state"] == "serving" && rollout["revision"] == "1"
    })
    .await?;
    assert_eq!(row(&query(&ready, "orders/orders/order-1")).await?["status"], "Pending");
    assert!(process.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn faults_and_immutable_changes_leave_what_runs_as_it_was() -> Result<()> {
    let folder = Folder::orders()?;
    let mut process = folder.start(&[])?;
    let ready = line(&mut process, "ready").await?;

    folder.edit("orders.yaml", "type: Upsert", "type: Upsret")?;
    let fault = line(&mut process, "fault").await?;
    assert_eq!(fault["line"], 24, "{fault}");
    line_where(&mut process, "note", |note| {
        note["message"].as_str().is_some_and(|text| text.contains("goes on"))
    })
    .await?;
    folder.edit("orders.yaml", "type: Upsret", "type: Upsert")?;

    folder.edit("orders.yaml", "partitions: 2", "partitions: 4")?;
    let refused = line(&mut process, "changed").await?;
    assert_eq!(
        (refused["resource"].as_str(), refused["change"].as_str()),
        (Some("EventStream orders"), Some("refused"))
    );
    let server = ready["streams"][0]["url"].as_str().unwrap_or_default();
    run(&["append", "order-1", "--type", "Noted", "--data", "1", "--server", server]).await?.succeeded()?;
    assert!(process.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn resources_come_and_go_and_their_data_stays() -> Result<()> {
    let audit = "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: audit}\nspec: {}\n";
    let folder = Folder::orders()?;
    let mut process = folder.start(&[])?;
    line(&mut process, "ready").await?;
    folder.write("audit.yaml", audit)?;
    let added = line(&mut process, "changed").await?;
    assert_eq!(added["change"], "added");
    let url =
        added["message"].as_str().and_then(|text| text.rsplit(' ').next()).unwrap_or_default().to_owned();
    run(&["append", "a", "--type", "Noted", "--data", "1", "--server", &url]).await?.succeeded()?;

    std::fs::remove_file(folder.join("audit.yaml"))?;
    let removed = line(&mut process, "changed").await?;
    assert_eq!(removed["change"], "removed");
    folder.write("audit.yaml", audit)?;
    let again = line(&mut process, "changed").await?;
    let url =
        again["message"].as_str().and_then(|text| text.rsplit(' ').next()).unwrap_or_default().to_owned();
    let read = run(&["--output", "json", "read", "a", "--server", &url]).await?.succeeded()?;
    assert_eq!(read.json_lines()?.len(), 1);
    assert!(process.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn event_types_take_effect_when_saved() -> Result<()> {
    let folder = Folder::orders()?;
    let mut process = folder.start(&[])?;
    let ready = line(&mut process, "ready").await?;
    let server = ready["streams"][0]["url"].as_str().unwrap_or_default();
    let append =
        ["append", "order-1", "--type", "OrderCreated", "--data", r#"{"total": "1"}"#, "--server", server];
    run(&append).await?.failed(2, "data");
    folder.edit(
        "orders.yaml",
        "required: [amount], properties: {amount:",
        "required: [total], properties: {total:",
    )?;
    let changed = line(&mut process, "changed").await?;
    assert_eq!(changed["resource"], "EventStream orders");
    run(&append).await?.succeeded()?;
    assert!(process.terminate().await?.success());
    Ok(())
}
