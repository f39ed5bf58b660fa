use anyhow::{Context, Result};

use crate::support::{Folder, Running};

async fn with_orders(folder: &Folder) -> Result<(Running, String)> {
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "12.50"}"#).await?;
    running.append("order-2", "OrderCreated", r#"{"amount": "7.00"}"#).await?;
    let before = running.append("order-3", "OrderCreated", r#"{"amount": "3"}"#).await?;
    running.append("order-1", "OrderApproved", "{}").await?;
    let head = running.run(&["read", "--all"]).await?.succeeded()?.err;
    let token = head.trim().rsplit(' ').next().context("a token")?.to_owned();
    anyhow::ensure!(before != token, "the token has moved");
    Ok((running, token))
}

#[tokio::test]
async fn rows_are_queried_as_tables_that_line_up() -> Result<()> {
    let folder = Folder::orders()?;
    let (running, token) = with_orders(&folder).await?;
    let all = running
        .run(&["query", "orders/orders", "--min-token", &token, "--order-by", "id"])
        .await?
        .succeeded()?;
    assert_eq!(
        all.out,
        "ID        AMOUNT   STATUS\n\
         order-1   12.50    Approved\n\
         order-2   7.00     Pending\n\
         order-3   3        Pending\n"
    );
    let one = running.run(&["query", "orders/orders/order-1"]).await?.succeeded()?;
    assert_eq!(one.out, "COLUMN   VALUE\nid       order-1\namount   12.50\nstatus   Approved\n");
    let approved =
        running.run(&["--output", "json", "query", "orders/orders", "--where", "status=Approved"]).await?;
    assert_eq!(
        approved.json()?["rows"],
        serde_json::json!([{"id": "order-1", "amount": "12.50", "status": "Approved"}])
    );
    let first = running
        .run(&["query", "orders/orders", "--order-by", "-amount", "--limit", "1"])
        .await?
        .succeeded()?;
    assert!(first.out.contains("12.50") && !first.out.contains("7.00"), "{}", first.out);
    let next = first.err.split("--after ").nth(1).context("more rows")?.trim();
    let rest = running
        .run(&["query", "orders/orders", "--order-by", "-amount", "--after", next])
        .await?
        .succeeded()?;
    assert!(rest.out.contains("7.00") && !rest.out.contains("12.50"), "{}", rest.out);

    running.run(&["query", "orders/orders/order-9"]).await?.failed(4, "no row \"order-9\"");
    running.run(&["query", "orders/lines"]).await?.failed(4, "lines");
    running.run(&["query", "shop/orders"]).await?.failed(4, "there is \"orders\"");
    running.run(&["query", "orders/orders", "--where", "colour=red"]).await?.failed(2, "colour");
    running.run(&["query", "orders/orders/.."]).await?.failed(2, "cannot stand in the path of a URL");
    running.run(&["query", "orders/orders/order-1", "--limit", "1"]).await?.failed(2, "a key names one row");
    Ok(())
}

#[tokio::test]
async fn rows_are_queried_as_they_were() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "1"}"#).await?;
    let before = running.run(&["read", "--all"]).await?.succeeded()?.err;
    let before = before.trim().rsplit(' ').next().context("a token")?;
    let after = running.append("order-1", "OrderApproved", "{}").await?;
    let status =
        |done: crate::support::Done| Ok::<_, anyhow::Error>(done.succeeded()?.json()?["status"].clone());
    let query = ["--output", "json", "query", "orders/orders/order-1"];
    assert_eq!(status(running.run(&[&query[..], &["--as-of", before]].concat()).await?)?, "Pending");
    assert_eq!(status(running.run(&[&query[..], &["--min-token", &after]].concat()).await?)?, "Approved");
    Ok(())
}

#[tokio::test]
async fn a_projection_is_rebuilt_and_rolled_back() -> Result<()> {
    let folder = Folder::orders()?;
    let (running, token) = with_orders(&folder).await?;
    let list = running.run(&["projections", "list"]).await?.succeeded()?.out;
    assert!(list.starts_with("NAME     STATE     REVISION   LAG"), "{list}");
    let rebuilt = running.run(&["projections", "rebuild", "orders", "--wait"]).await?.succeeded()?;
    assert!(rebuilt.out.contains("2          active"), "{}", rebuilt.out);
    let rolled_back =
        running.run(&["--output", "json", "projections", "rollback", "orders"]).await?.succeeded()?;
    assert_eq!(rolled_back.json()?["active"]["revision"], "1");
    running.run(&["projections", "promote", "orders"]).await?.succeeded()?;
    let shown =
        running.run(&["--output", "json", "projections", "show", "orders"]).await?.succeeded()?.json()?;
    assert_eq!(shown["active"]["revision"], "2");
    running.run(&["query", "orders/orders/order-1", "--min-token", &token]).await?.succeeded()?;
    running.run(&["projections", "show", "shop"]).await?.failed(4, "there is \"orders\"");
    Ok(())
}

#[tokio::test]
async fn parked_events_are_shown_replayed_and_skipped() -> Result<()> {
    let folder = Folder::orders()?;
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "not a number"}"#).await?;
    running.append("order-1", "OrderApproved", "{}").await?;
    let token = running.append("order-2", "OrderCreated", r#"{"amount": "2"}"#).await?;
    let head = running.run(&["read", "--all"]).await?.succeeded()?.err;
    let head = head.trim().rsplit(' ').next().context("a token")?;
    anyhow::ensure!(head != token, "a token of all partitions");
    let query = running.run(&["query", "orders/orders", "--min-token", head]).await?.succeeded()?;
    assert!(query.out.contains("order-2") && !query.out.contains("order-1"), "{}", query.out);
    assert!(query.err.contains("warning: 2 of the events up to here are set aside"), "{}", query.err);

    let parked = running.run(&["projections", "parked", "orders"]).await?.succeeded()?.out;
    for part in ["order-1", "OrderCreated", "set.amount"] {
        assert!(parked.contains(part), "{part} is not in\n{parked}");
    }
    let replayed = running.run(&["projections", "replay", "orders", "order-1"]).await?;
    replayed.failed(3, "1 stream id could not be folded");
    assert!(replayed.out.contains("set.amount"), "still the same fault:\n{}", replayed.out);
    running
        .run(&["projections", "replay", "orders", "--all"])
        .await?
        .failed(3, "1 stream id could not be folded");
    let skipped =
        running.run(&["--output", "json", "projections", "skip", "orders", "order-1"]).await?.succeeded()?;
    let skipped = &skipped.json_lines()?[0];
    assert_eq!((skipped["skipped"].as_u64(), skipped["folded"].as_u64()), (Some(1), Some(1)), "{skipped}");
    let nothing = running.run(&["projections", "parked", "orders"]).await?.succeeded()?.out;
    assert_eq!(nothing, "nothing is parked\n");
    running.run(&["projections", "replay", "orders", "order-1"]).await?.failed(4, "no parked events");
    Ok(())
}

#[tokio::test]
async fn a_build_may_wait_for_a_person() -> Result<()> {
    let folder = Folder::orders()?;
    folder.edit(
        "orders.yaml",
        "  streamRef: {name: orders}\n",
        "  streamRef: {name: orders}\n  rollout: {promotion: Manual}\n",
    )?;
    let running = folder.dev().await?;
    let rebuilt = running
        .run(&["--output", "json", "projections", "rebuild", "orders", "--wait"])
        .await?
        .succeeded()?;
    assert_eq!(rebuilt.json()?["rollout"], "AwaitingPromotion");
    assert!(rebuilt.err.contains("headwater projections promote orders"), "{}", rebuilt.err);
    let promoted =
        running.run(&["--output", "json", "projections", "promote", "orders"]).await?.succeeded()?;
    assert_eq!(promoted.json()?["active"]["revision"], "2");
    Ok(())
}

#[tokio::test]
async fn a_projection_that_has_halted_says_so_and_nothing_waits_for_it() -> Result<()> {
    let folder = Folder::orders()?;
    folder.edit("orders.yaml", "  tables:", "  onError: {policy: Halt}\n  tables:")?;
    let running = folder.dev().await?;
    running.append("order-1", "OrderCreated", r#"{"amount": "12.50"}"#).await?;
    running.append("order-2", "OrderCreated", r#"{"amount": "much"}"#).await?;
    let began = std::time::Instant::now();
    loop {
        let list = running.run(&["projections", "list"]).await?.succeeded()?.out;
        if list.contains("Halted") {
            break;
        }
        anyhow::ensure!(began.elapsed() < std::time::Duration::from_secs(30), "{list}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let rebuilt = running.run(&["projections", "rebuild", "orders", "--wait"]).await?;
    rebuilt.failed(1, "has halted: ");
    let metrics = reqwest::get(format!("{}/metrics", running.dev.queries())).await?.text().await?;
    let halted = "headwater_projection_halted_partitions{projection=\"orders\"";
    assert!(metrics.contains(halted), "{metrics}");
    Ok(())
}

#[tokio::test]
async fn a_json_column_is_shown_with_every_digit() -> Result<()> {
    let folder = Folder::orders()?;
    folder.edit(
        "orders.yaml",
        "    - {name: status, type: Text}",
        "    - {name: status, type: Text}\n    - {name: doc, type: Json}",
    )?;
    folder.edit("orders.yaml", "status: \"'Pending'\"}", "status: \"'Pending'\", doc: event.data}")?;
    let running = folder.dev().await?;
    let data = r#"{"amount":"1","exact":12345678901234567890.1234,"z":0.10}"#;
    let token = running.append("order-1", "OrderCreated", data).await?;
    for more in [&["--output", "table"][..], &["--output", "json"]] {
        let query = ["query", "orders/orders/order-1", "--min-token", &token];
        let row = running.run(&[&query[..], more].concat()).await?.succeeded()?.out;
        assert!(row.contains("12345678901234567890.1234") && row.contains("0.10"), "{row}");
    }
    Ok(())
}
