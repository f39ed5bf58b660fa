//! Appends to a real log.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::{Append, Appended, Error, Expected, PartitionCount, Result, StreamId, Version};
use headwater_log::{Direction, LogReader, LogWriter, MemoryStore, ReadStream, Sequencer, SequencerOptions};
use headwater_saga::{AppendRequest, Caller, Calls, Json, Request};

use crate::support::{KEY, assert_has, call, calls, failure, success, unanswered};

fn request(data: &str) -> AppendRequest {
    AppendRequest {
        stream: "orders".into(),
        stream_id: "order-1".into(),
        event_type: "OrderRejected".into(),
        data: Json::parse(data).unwrap(),
    }
}

async fn append(calls: &Calls, request: AppendRequest) -> headwater_saga::Answer {
    calls.call(&call(Request::Append(request))).await
}

#[tokio::test]
async fn an_event_is_appended_once_however_often_it_is_sent() {
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let (calls, world) = calls();
    world.add_stream("orders", Arc::new(Sequencer::start(store.clone(), SequencerOptions::default())));

    let first = success(append(&calls, request(r#"{"amount":12345678901234567890.10}"#)).await);
    assert_eq!(first.summary, "version 1 of order-1");
    assert_eq!(first.value.as_str(), r#"{"status":"OK","version":1,"partition":0,"position":"1"}"#);
    let again = success(append(&calls, request(r#"{"amount":12345678901234567890.10}"#)).await);
    assert_eq!(again, first);
    let mut other = call(Request::Append(request("{}")));
    other.key = format!("{KEY}2");
    assert_eq!(success(calls.call(&other).await).summary, "version 2 of order-1");
    // The same key for another event is a fault that no repeat mends.
    let reason = failure(append(&calls, request("{}")).await);
    assert_has(&reason, &["append of OrderRejected to order-1 in event stream \"orders\""]);

    let page = store
        .read_stream(ReadStream {
            stream_id: StreamId::new("order-1").unwrap(),
            from: Some(Version::new(1)),
            direction: Direction::Forwards,
            limit: 10,
            max_bytes: 1 << 20,
        })
        .await
        .unwrap();
    assert_eq!(page.events.len(), 2);
    let event = &page.events[0];
    // Golden: another id would make repeats of calls that older programs sent new events.
    assert_eq!(event.id.to_string(), "506486ad-7185-5e8a-ad17-aec055c32109");
    assert_eq!(event.data, r#"{"amount":12345678901234567890.10}"#);
    assert_eq!(event.event_type.as_str(), "OrderRejected");
    for (key, value) in [
        ("correlation_id", "c-1"),
        ("causation_id", "0190a7c8-6f5e-7cc0-8000-000000000001"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("idempotency_key", KEY),
    ] {
        assert_eq!(event.metadata.text(key).as_deref(), Some(value), "{key}");
    }
}

#[tokio::test]
async fn an_event_that_can_never_be_is_a_failure() {
    let (calls, world) = calls();
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    world.add_stream("orders", Arc::new(Sequencer::start(store, SequencerOptions::default())));
    let no_id = AppendRequest { stream_id: String::new(), ..request("{}") };
    assert_has(&failure(append(&calls, no_id).await), &["event stream \"orders\""]);
    let no_type = AppendRequest { event_type: "x".repeat(300), ..request("{}") };
    failure(append(&calls, no_type).await);
    let large = request(&format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)));
    assert_has(&failure(append(&calls, large).await), &["events[0].data"]);
}

#[tokio::test]
async fn a_stream_that_is_not_there_may_come() {
    let (calls, _) = calls();
    assert_has(&unanswered(append(&calls, request("{}")).await), &["\"orders\"", "no such event stream now"]);
}

/// A log that has one thing to say.
struct Saying(Error);

#[async_trait]
impl LogWriter for Saying {
    async fn append(&self, request: Append) -> Result<Appended> {
        assert_eq!(request.expected, Expected::Any);
        Err(self.0.clone())
    }
}

#[tokio::test]
async fn errors_are_failures_or_no_answer_by_what_their_kind_says() {
    let (calls, world) = calls();
    for error in [
        Error::invalid("events", "no"),
        Error::not_found("no"),
        Error::already_exists("no"),
        Error::failed_precondition("no"),
    ] {
        world.add_stream("orders", Arc::new(Saying(error.clone())));
        assert_has(&failure(append(&calls, request("{}")).await), &[&error.to_string()]);
    }
    for error in [
        Error::exhausted("full"),
        Error::unavailable("away"),
        Error::DeadlineExceeded { message: "late".into(), reached: None },
        Error::Cancelled,
        Error::corrupt("odd"),
        Error::internal("odd"),
    ] {
        world.add_stream("orders", Arc::new(Saying(error.clone())));
        assert_has(&unanswered(append(&calls, request("{}")).await), &[&error.to_string()]);
    }
}

/// A log that never answers.
struct Silent;

#[async_trait]
impl LogWriter for Silent {
    async fn append(&self, _: Append) -> Result<Appended> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_silent_is_no_answer() {
    let (calls, world) = calls();
    world.add_stream("orders", Arc::new(Silent));
    assert_has(&unanswered(append(&calls, request("{}")).await), &["append of ", "no answer within 20s"]);
}
