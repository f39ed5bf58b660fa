//! The Orders example's projection, event by event.

use crate::support::{Log, Sink, caught_up, desired, rows, start};

pub(crate) const MANIFEST: &str = concat!(
    include_str!("../../../../examples/orders/eventstream.yaml"),
    "\n---\n",
    include_str!("../../../../examples/orders/projection.yaml")
);

pub(crate) async fn create(log: &Log, order: &str, amount: &str) -> headwater_core::Token {
    let data = format!(
        r#"{{"order_id":"{order}","customer_id":"c-1","restaurant_id":"r-1","amount":{amount},"order_items":[
            {{"code":"pizza","name":"Pizza","unit_price":7.50,"quantity":2}},{{"code":"cola","name":"Cola","unit_price":2.10,"quantity":1}}]}}"#
    );
    log.append(&format!("order-{order}"), "order-created", &data).await.1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_and_its_items_follow_its_events() {
    let log = Log::new(1);
    let sink = Sink::sqlite();
    let store = sink.open();
    let service = start(&log, store.clone(), desired(MANIFEST)).await;
    create(&log, "1", "17.10").await;
    create(&log, "2", "20").await;
    log.append("order-1", "order-payment-debited", r#"{"order_id":"1","customer_id":"c-1","amount":17.10}"#)
        .await;
    log.append("order-1", "order-approved", r#"{"order_id":"1"}"#).await;
    log.append("order-3", "order-approved", r#"{"order_id":"3"}"#).await;
    log.append("order-2", "order-rejected", r#"{"order_id":"2","reason":"sold out"}"#).await;
    caught_up(&log, &service).await;

    let orders = rows(&*store, "orders").await;
    assert_eq!(orders.keys().collect::<Vec<_>>(), ["1", "2"], "an update makes no row");
    assert_eq!(orders["1"][..7], ["1", "c-1", "r-1", "17.10", "Approved", "", "Debited"]);
    assert_eq!(orders["2"][3..7], ["20", "Rejected", "sold out", "None"]);
    let items = rows(&*store, "order_items").await;
    assert_eq!(items.keys().collect::<Vec<_>>(), ["1/1", "1/2", "2/1", "2/2"]);
    assert_eq!(items["1/1"], ["1", "1", "pizza", "Pizza", "7.50", "2"]);
    service.stop().await;
}
