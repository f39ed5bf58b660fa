//! A client of the article's own gRPC API: its event goes the same way as any other.

use anyhow::{Context, Result};
use headwater_api::seed::event_store_client::EventStoreClient;
use headwater_api::seed::{CreateEventRequest, Event, GetEventsRequest};
use headwater_testkit::dev::Dev;
use headwater_testkit::process::PATIENCE;
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::shop::{Folder, Log, STREAM, Shop};

/// What the article's order service puts into `event_data`: it computes amounts as floats, and 3 × 19.9 is a little less than 59.7.
fn event_data(order_id: &str) -> String {
    format!(
        r#"{{"order_id":"{order_id}","customer_id":"customer-adam","status":"Pending","created_on":1534204800,"restaurant_id":"luigi","amount":59.699999999999996,"order_items":[{{"code":"PIZZA-01","name":"Pizza Margherita","unit_price":19.9,"quantity":3}}]}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_of_the_articles_client_is_paid_approved_and_in_the_read_model() -> Result<()> {
    let folder = Folder::new()?;
    let dev = Dev::start(&folder.options()).await?;
    let shop = Shop::of(&folder, &dev)?;
    let (_service, http) = shop.start_http().await?;
    let (_payment, _restaurant) = (shop.start("payment").await?, shop.start("restaurant").await?);

    let channel = Endpoint::from_shared(dev.stream(STREAM)?.to_owned())?.connect().await?;
    let mut store = EventStoreClient::new(channel);
    let order_id = "010c16c3-cdfa-4d4f-a73e-f15f0d341a62".to_owned();
    let event = Event {
        event_id: Uuid::new_v4().to_string(),
        event_type: "order-created".to_owned(),
        aggregate_id: order_id.clone(),
        aggregate_type: "order".to_owned(),
        event_data: event_data(&order_id),
        stream: "order-created".to_owned(),
    };
    for _ in 0..2 {
        let created =
            store.create_event(CreateEventRequest { event: Some(event.clone()) }).await?.into_inner();
        assert!(created.is_success && created.error.is_empty(), "{created:?}");
    }

    let mut log = Log::of(&dev)?;
    timeout(PATIENCE, log.until(|log| log.ended(&order_id)))
        .await
        .context("the order is never approved")??;
    let request = GetEventsRequest { event_id: String::new(), aggregate_id: order_id.clone() };
    let events = store.get_events(request).await?.into_inner().events;
    let types: Vec<_> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["order-created", "order-payment-debited", "order-approved"], "the article's figure 4");
    assert_eq!(events[0], event);
    assert!(events.iter().all(|event| event.aggregate_id == order_id && event.aggregate_type == "order"));

    let token = log.token().context("a token")?;
    let found: Value = http.get(&format!("/api/orders/{order_id}?min_token={token}")).await?.json().await?;
    assert_eq!(found["status"], "Approved", "{found}");
    assert_eq!(found["amount"], "59.699999999999996", "kept as it was written");
    let debit = folder.ledger("payment")?.join("\n");
    assert!(debit.contains(r#""amount":59.699999999999996"#), "through the saga too: {debit}");
    assert_eq!(found["order_items"][0]["unit_price"], "19.9");

    let wrong = Event { event_id: Uuid::new_v4().to_string(), event_data: json!({}).to_string(), ..event };
    let refused = store.create_event(CreateEventRequest { event: Some(wrong) }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("order_id"), "{refused}");
    Ok(())
}
