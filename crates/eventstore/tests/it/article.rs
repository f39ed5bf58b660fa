//! The article's API, with the article's events.

use futures_util::TryStreamExt;
use headwater_api::seed::event_store_client::EventStoreClient;
use headwater_api::seed::{CreateEventRequest, Event, GetEventsRequest};
use headwater_core::Metadata;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::{Server, one};

const ORDER: &str = "010c16c3-cdfa-4d4f-a73e-f15f0d341a62";

/// The rows of the article's Figure 4, with data as its services write it.
fn article() -> Vec<Event> {
    [
        (
            "087a83cc-171b-49cc-bf22-96fd2c930476",
            "order-created",
            r#"{"order_id":"010c16c3-cdfa-4d4f-a73e-f15f0d341a62","customer_id":"cust101", "amount":1.10}"#,
        ),
        (
            "18f3cdfc-6f74-425a-9a7a-3f51f108b6aa",
            "order-payment-debited",
            r#"{"order_id":"010c16c3-cdfa-4d4f-a73e-f15f0d341a62"}"#,
        ),
        ("562778b9-2c95-4c8d-9782-563de6467fb9", "order-approved", "{}"),
    ]
    .map(|(id, event_type, data)| Event {
        event_id: id.into(),
        event_type: event_type.into(),
        aggregate_id: ORDER.into(),
        aggregate_type: "order".into(),
        event_data: data.into(),
        stream: format!("ORDERS.{event_type}"),
    })
    .to_vec()
}

async fn create(client: &mut EventStoreClient<Channel>, event: Event) -> Result<bool, tonic::Status> {
    let response = client.create_event(CreateEventRequest { event: Some(event) }).await?.into_inner();
    assert_eq!(response.error, "");
    Ok(response.is_success)
}

async fn get(client: &mut EventStoreClient<Channel>, event_id: &str, aggregate_id: &str) -> Vec<Event> {
    let request = GetEventsRequest { event_id: event_id.into(), aggregate_id: aggregate_id.into() };
    let listed = client.get_events(request.clone()).await.unwrap().into_inner().events;
    let streamed: Vec<Event> =
        client.get_events_stream(request).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(listed, streamed);
    listed
}

#[tokio::test]
async fn the_articles_three_events_are_stored_once_and_given_back_as_they_came() {
    let server = Server::with_partitions(3).await;
    let mut client = EventStoreClient::new(server.channel().await);
    for event in article() {
        assert!(create(&mut client, event.clone()).await.unwrap());
        // A client that did not get the answer sends it again.
        assert!(create(&mut client, event).await.unwrap());
    }
    assert_eq!(get(&mut client, "", ORDER).await, article());
    assert_eq!(get(&mut client, "18F3CDFC-6f74-425a-9a7a-3f51f108b6aa", "").await, article()[1..2]);
    assert_eq!(get(&mut client, "18f3cdfc-6f74-425a-9a7a-3f51f108b6aa", "other").await, []);
    assert_eq!(get(&mut client, "", "").await.len(), 3);

    // The same events over the other APIs: the data is byte for byte what was sent.
    let page = server.get(&format!("/v1/streams/order-{ORDER}/events")).await;
    assert!(page.text.contains(&format!("\"data\":{}", article()[0].event_data)), "{}", page.text);
    assert_eq!(page.json()["events"][1]["type"], "order-payment-debited");
    assert_eq!(
        page.json()["events"][1]["metadata"]["headwater.dev/article-channel"],
        "ORDERS.order-payment-debited"
    );
}

#[tokio::test]
async fn ids_that_are_no_uuids_and_data_that_is_no_json_are_kept() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let odd = Event {
        event_id: "event #1".into(),
        event_type: "noted".into(),
        aggregate_id: "a-1".into(),
        aggregate_type: "purchase-order".into(),
        event_data: "not {json".into(),
        stream: String::new(),
    };
    assert!(create(&mut client, odd.clone()).await.unwrap());
    assert!(create(&mut client, odd.clone()).await.unwrap());
    let stored = std::slice::from_ref(&odd);
    assert_eq!(get(&mut client, "event #1", "").await, stored);
    assert_eq!(get(&mut client, "", "a-1").await, stored);
    let page = server.get("/v1/streams/purchase-order-a-1/events").await.json();
    assert_eq!(page["version"], 1);
    assert_eq!(page["events"][0]["content_type"], "text/plain; charset=utf-8");

    let other = Event { event_data: "other".into(), ..odd.clone() };
    let status = create(&mut client, other).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists, "{status}");
    // Without an id, each is an event of its own.
    for _ in 0..2 {
        create(&mut client, Event { event_id: String::new(), ..odd.clone() }).await.unwrap();
    }
    assert_eq!(get(&mut client, "", "a-1").await.len(), 3);
}

#[tokio::test]
async fn failures_are_errors() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let good = article().remove(0);
    for (event, text) in [
        (None, "event: it is missing"),
        (Some(Event { event_type: String::new(), ..good.clone() }), "event.event_type: it is empty"),
        (Some(Event { aggregate_id: String::new(), ..good.clone() }), "event.aggregate_id: it is empty"),
        (Some(Event { aggregate_type: String::new(), ..good.clone() }), "event.aggregate_type: it is empty"),
        (
            Some(Event { event_type: "x".repeat(256), ..good.clone() }),
            "event.event_type: the event type has 256 bytes",
        ),
        (
            Some(Event { event_data: format!("\"{}\"", "x".repeat(1 << 20)), ..good.clone() }),
            "event.event_data: 1048578 bytes",
        ),
        (
            Some(Event { event_id: uuid::Uuid::nil().to_string(), ..good.clone() }),
            "event.event_id: the nil UUID",
        ),
        (
            Some(Event { aggregate_id: "1".repeat(300), ..good.clone() }),
            "event.aggregate_id: the stream id has 306 bytes",
        ),
        (Some(Event { stream: "x".repeat(65 << 10), ..good.clone() }), "event: "),
    ] {
        let status = client.create_event(CreateEventRequest { event }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(text), "{status}");
    }
    assert_eq!(get(&mut client, "", "").await, []);
}

#[tokio::test]
async fn events_of_the_other_apis_are_given_too() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    server.client().append(&one("order-7", "A")).await.unwrap();
    server.client().append(&one("plain", "B")).await.unwrap();
    let events = get(&mut client, "", "7").await;
    assert_eq!((events[0].aggregate_type.as_str(), events[0].event_type.as_str()), ("order", "A"));
    assert_eq!(get(&mut client, "", "plain").await[0].aggregate_type, "");
}

/// What writers put into metadata for themselves is theirs, whatever they call it.
#[tokio::test]
async fn metadata_of_others_changes_no_field() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let mut event = crate::support::event("A", "{}");
    let id = event.id.to_string();
    let metadata = br#"{"event_id":"mine","channel":"sales","aggregate_type":"x","headwater.dev/article-event-id":"mine"}"#;
    event.metadata = Metadata::new(bytes::Bytes::from_static(metadata)).unwrap();
    let append = crate::support::append("order-7", headwater_core::Expected::Any, vec![event]);
    server.client().append(&append).await.unwrap();
    for (event_id, aggregate_id) in [("", "7"), (id.as_str(), "")] {
        let events = get(&mut client, event_id, aggregate_id).await;
        assert_eq!((events[0].event_id.as_str(), events[0].stream.as_str()), (id.as_str(), ""));
    }
    assert_eq!(get(&mut client, "mine", "").await, []);
}

/// What is listed at all is small enough for a client that sets no limits.
#[tokio::test]
async fn a_list_is_never_larger_than_clients_take() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let (event_type, data) = ("T".repeat(255), format!("\"{}\"", "x".repeat(200)));
    for _ in 0..9 {
        let events = (0..1_000).map(|_| crate::support::event(&event_type, &data)).collect();
        let append = crate::support::append("order-9", headwater_core::Expected::Any, events);
        server.client().append(&append).await.unwrap();
        let request = GetEventsRequest { event_id: String::new(), aggregate_id: "9".into() };
        if let Err(status) = client.get_events(request).await {
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        }
    }
}

#[tokio::test]
async fn more_than_one_answer_holds_has_to_be_streamed() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    for _ in 0..11 {
        let events = (0..1_000).map(|_| crate::support::event("A", "1")).collect();
        server
            .client()
            .append(&crate::support::append("a-1", headwater_core::Expected::Any, events))
            .await
            .unwrap();
    }
    let request = GetEventsRequest { event_id: String::new(), aggregate_id: "1".into() };
    let status = client.get_events(request.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("use GetEventsStream"), "{status}");
    let streamed: Vec<_> =
        client.get_events_stream(request).await.unwrap().into_inner().try_collect().await.unwrap();
    assert_eq!(streamed.len(), 11_000);
}
