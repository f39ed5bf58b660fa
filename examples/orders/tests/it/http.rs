//! The HTTP service: what it takes, what it refuses, and that one reads what one wrote.

use anyhow::{Context, Result};
use headwater_testkit::dev::Dev;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{Folder, STREAM, Shop, order};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_read_as_soon_as_it_is_placed() -> Result<()> {
    let folder = Folder::new()?;
    let dev = Dev::start(&folder.options()).await?;
    let (_service, http) = Shop::of(&folder, &dev)?.start_http().await?;
    for _ in 0..20 {
        let placed = http
            .post(
                r#"{"customer_id": "customer-adam", "restaurant_id": "luigi", "status": "Delivered", "order_items": [
                    {"code": "PIZZA-01", "name": "Pizza Margherita", "unit_price": 19.90, "quantity": 3},
                    {"code": "MINT-01", "name": "Mint", "unit_price": "0.10", "quantity": 1}]}"#,
            )
            .await?;
        assert_eq!(placed.status(), StatusCode::CREATED);
        let location = placed.headers()["location"].to_str()?.to_owned();
        let placed: Value = placed.json().await?;
        let order_id = placed["order_id"].as_str().context("order_id")?.to_owned();
        assert_eq!(
            placed,
            json!({"order_id": order_id, "customer_id": "customer-adam", "restaurant_id": "luigi", "status": "Pending", "amount": "59.80"})
        );

        let found = http.get(&location).await?;
        assert_eq!(found.status(), StatusCode::OK);
        let found: Value = found.json().await?;
        assert_eq!(found["amount"], "59.80");
        assert_eq!(found["status"], "Pending");
        let line = |line: &str, code, name, price, quantity: &str| json!({"order_id": order_id, "line": line, "code": code, "name": name, "unit_price": price, "quantity": quantity});
        assert_eq!(
            found["order_items"],
            json!([
                line("1", "PIZZA-01", "Pizza Margherita", "19.90", "3"),
                line("2", "MINT-01", "Mint", "0.10", "1")
            ])
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_sent_again_is_the_same_order() -> Result<()> {
    let folder = Folder::new()?;
    let dev = Dev::start(&folder.options()).await?;
    let (_service, http) = Shop::of(&folder, &dev)?.start_http().await?;
    let order_id = Uuid::new_v4();
    let first = http.post(order(order_id, "luigi", "7.50")).await?;
    let again = http.post(order(order_id, "luigi", "7.50")).await?;
    assert_eq!((first.status(), again.status()), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(first.headers()["headwater-token"], again.headers()["headwater-token"]);
    let other = http.post(order(order_id, "luigi", "8.50")).await?;
    assert_eq!(other.status(), StatusCode::CONFLICT);
    let (events, _) = dev.http(STREAM)?.all_events().await?;
    assert_eq!(events.len(), 1, "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_order_is_refused_with_the_field() -> Result<()> {
    let folder = Folder::new()?;
    let dev = Dev::start(&folder.options()).await?;
    let (_service, http) = Shop::of(&folder, &dev)?.start_http().await?;
    let item = r#"{"code": "P", "name": "Pizza", "unit_price": 19.90, "quantity": 2}"#;
    for (body, detail) in [
        ("{".to_owned(), "body: no order: "),
        (r#"{"customer_id": "c", "order_items": []}"#.to_owned(), "missing field `restaurant_id`"),
        (
            format!(r#"{{"customer_id": "c", "restaurant_id": "r", "amount": 40, "order_items": [{item}]}}"#),
            "amount: 40, but the lines come to 39.80",
        ),
        (
            format!(r#"{{"customer_id": "", "restaurant_id": "r", "order_items": [{item}]}}"#),
            "customer_id: 0 bytes",
        ),
        (
            r#"{"customer_id": "c", "restaurant_id": "r", "order_items": [{"code": "P", "name": "Pizza", "unit_price": -1, "quantity": 2}]}"#.to_owned(),
            "-1 is no amount",
        ),
    ] {
        let answer = http.post(body.clone()).await?;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Value = answer.json().await?;
        let found = problem["detail"].as_str().context("detail")?;
        assert!(found.contains(detail), "{body}: {found}");
    }
    let missing = http.get(&format!("/api/orders/{}", Uuid::new_v4())).await?;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    let (events, _) = dev.http(STREAM)?.all_events().await?;
    assert_eq!(events, []);
    Ok(())
}
