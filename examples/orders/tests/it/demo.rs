//! The demo, as `headwater dev examples/orders --demo` plays it.

use anyhow::{Context, Result};
use headwater_testkit::process::{Process, program};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::shop::{Folder, free_address};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_an_order_of_each_outcome_with_exact_amounts() -> Result<()> {
    // Away from its workspace, the services are those that are built, as for anybody without the sources.
    let folder = Folder::new()?;
    let environment = folder.environment();
    let service = free_address()?;
    let mut dev = Command::new(program("headwater")?);
    dev.args(["--output", "json", "dev"])
        .arg(folder.path())
        .args(["--listen", "127.0.0.1:0", "--query-listen", "127.0.0.1:0", "--demo", "--exit"])
        .args(["--var", &format!("orders=http://{service}")])
        .args(["--var", &format!("payments=http://{}", environment["ORDERS_PAYMENT_LISTEN"])])
        .args(["--var", &format!("restaurants=http://{}", environment["ORDERS_RESTAURANT_LISTEN"])])
        .envs(environment)
        .env("ORDERS_LISTEN", &service);
    let mut dev = Process::start(dev)?;
    let demo = |line: &str| parse(line).filter(|line| line["kind"] == "demo");
    let demo = dev.line("the end of the demo", demo).await?;
    assert_eq!(demo["failed"], 0, "{}", dev.output());
    dev.line("its end", |line| parse(line).filter(|line| line["kind"] == "stopped")).await?;
    let output = dev.output();
    assert_eq!(dev.wait().await?.code(), Some(0), "{output}");

    let lines: Vec<Value> = output.lines().filter_map(parse).collect();
    let table = |name: &str| -> Result<Vec<Value>> {
        let table = lines.iter().rfind(|line| line["kind"] == "table" && line["table"] == name);
        table
            .and_then(|table| table["rows"].as_array().cloned())
            .with_context(|| format!("table {name}: {output}"))
    };
    let text = |row: &Value, column: &str| row[column].as_str().unwrap_or_default().to_owned();
    let mut orders: Vec<_> = table("orders")?
        .iter()
        .map(|row| ["amount", "status", "payment"].map(|column| text(row, column)))
        .collect();
    orders.sort();
    assert_eq!(
        json!(orders),
        json!([
            ["0.30", "Approved", "Debited"],
            ["1000.01", "Rejected", "None"],
            ["4.20", "Rejected", "Voided"],
            ["59.70", "Approved", "Debited"],
            ["7.00", "Rejected", "Voided"],
        ])
    );
    let mut items: Vec<_> = table("order_items")?
        .iter()
        .map(|row| ["code", "unit_price", "quantity"].map(|column| text(row, column)))
        .collect();
    items.sort();
    assert_eq!(
        json!(items),
        json!([
            ["GUM-01", "0.20", "1"],
            ["MINT-01", "0.10", "1"],
            ["OATS-02", "4.20", "1"],
            ["PIZZA-01", "19.90", "2"],
            ["ROLL-03", "3.50", "2"],
            ["TRUFFLE-01", "1000.01", "1"],
            ["VINO-07", "19.90", "1"],
        ])
    );
    let unknown = lines.iter().any(|line| line["kind"] == "step" && line["step"] == "approve-order undo");
    assert!(unknown, "the steps are shown as they happen: {output}");
    let approvals = lines.iter().filter(|line| line["kind"] == "event" && line["type"] == "order-approved");
    assert_eq!(approvals.count(), 2, "the events are shown as they happen");
    Ok(())
}

fn parse(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}
