//! Server-sent events, as an `EventSource` reads them.

use crate::support::{Server, append, event, one};
use futures_util::StreamExt;
use headwater_core::Expected;

/// A message of the stream.
#[derive(Debug, Clone, PartialEq, Default)]
struct Message {
    event: String,
    id: String,
    data: String,
}

/// Reads as the standard says: fields up to an empty line; comments are left out; without data there is no message, but the id counts.
struct Source {
    response: reqwest::Response,
    text: String,
    last_id: String,
}

impl Source {
    async fn open(server: &Server, query: &str, last_event_id: Option<&str>) -> Self {
        let mut request = reqwest::Client::new().get(server.url(&format!("/v1/events/stream{query}")));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new(), last_id: String::new() }
    }

    /// The next message; `None` at the end.
    async fn next(&mut self) -> Option<Message> {
        loop {
            let Some((block, rest)) = self.text.split_once("\n\n") else {
                let chunk = self.response.chunk().await.unwrap()?;
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
                continue;
            };
            let (mut message, mut data) = (Message::default(), Vec::new());
            for line in block.lines() {
                match line.split_once(": ").unwrap_or((line, "")) {
                    ("event", value) => value.clone_into(&mut message.event),
                    ("id", value) => value.clone_into(&mut self.last_id),
                    ("data", value) => data.push(value),
                    ("retry", "1000") | ("", _) => {}
                    other => panic!("{other:?}"),
                }
            }
            message.id.clone_from(&self.last_id);
            message.data = data.join("\n");
            let read = self.text.len() - rest.len();
            self.text.drain(..read);
            if !message.data.is_empty() {
                return Some(message);
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<String> {
        let mut data = Vec::new();
        while data.len() < count {
            let message = self.next().await.unwrap();
            if message.event.is_empty() {
                let event: serde_json::Value = serde_json::from_str(&message.data).unwrap();
                data.push(event["data"].to_string());
            }
        }
        data
    }
}

async fn write(server: &Server, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let id = format!("s{}", number % 5);
        let event = event(if number % 2 == 0 { "Even" } else { "Odd" }, &number.to_string());
        server.client().append(&append(&id, Expected::Any, vec![event])).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_there_comes_then_caught_up_then_what_is_new() {
    let server = Server::start().await;
    write(&server, 0..3).await;
    let mut source = Source::open(&server, "", None).await;
    assert_eq!(source.take(3).await, ["0", "1", "2"]);
    let caught_up = source.next().await.unwrap();
    assert_eq!(caught_up.event, "caught-up");
    let head = server.get("/v1/head").await.json();
    assert_eq!(caught_up.id, head["token"].as_str().unwrap());
    assert_eq!(caught_up.data, format!("{{\"token\":\"{}\"}}", caught_up.id));
    write(&server, 3..5).await;
    assert_eq!(source.take(2).await, ["3", "4"]);
}

/// From the id of every message, what follows is what follows, over all partitions.
#[tokio::test]
async fn every_id_resumes_without_a_gap_or_a_repeat() {
    let server = Server::with_partitions(3).await;
    write(&server, 0..20).await;
    let mut source = Source::open(&server, "", None).await;
    let (mut ids, mut order) = (Vec::new(), Vec::new());
    while order.len() < 20 {
        let message = source.next().await.unwrap();
        let event: serde_json::Value = serde_json::from_str(&message.data).unwrap();
        order.push(event["data"].as_u64().unwrap());
        ids.push(message.id);
    }
    for (index, id) in ids.iter().enumerate() {
        let mut rest: Vec<String> = order[index + 1..].iter().map(ToString::to_string).collect();
        let mut resumed = Source::open(&server, "?from=end", Some(id)).await.take(rest.len()).await;
        rest.sort_unstable();
        resumed.sort_unstable();
        assert_eq!(resumed, rest);
    }
    // `from` does the same.
    let mut source = Source::open(&server, &format!("?from={}", ids[18]), None).await;
    assert_eq!(source.take(1).await, [order[19].to_string()]);
}

#[tokio::test]
async fn filters_leave_out_the_rest_and_the_id_moves_on() {
    let server = Server::start().await;
    write(&server, 0..10).await;
    let mut source = Source::open(&server, "?type=Even&prefix=s2", None).await;
    assert_eq!(source.take(1).await, ["2"]);
    while source.next().await.unwrap().event != "caught-up" {}
    assert_eq!(source.last_id, server.get("/v1/head").await.json()["token"]);
}

#[tokio::test]
async fn data_over_several_lines_comes_as_json() {
    let server = Server::start().await;
    let data = "{\n  \"a\":\r\n 1.10 }";
    server.client().append(&append("a", Expected::Any, vec![event("A", data)])).await.unwrap();
    let mut source = Source::open(&server, "", None).await;
    let message = source.next().await.unwrap();
    let event: serde_json::Value = serde_json::from_str(&message.data).unwrap();
    assert_eq!(event["data"]["a"].to_string(), "1.1");
    assert!(message.data.contains("1.10 }"), "{}", message.data);
}

#[tokio::test]
async fn a_shutdown_ends_the_stream() {
    let server = Server::start().await;
    server.client().append(&one("a", "A")).await.unwrap();
    let mut source = Source::open(&server, "", None).await;
    assert_eq!(source.take(1).await.len(), 1);
    let ((), ()) = tokio::join!(async { while source.next().await.is_some() {} }, server.stop());
}

/// One event that cannot be brought up to date does not keep back those before it, over either API.
#[tokio::test]
async fn what_comes_before_an_event_that_has_no_new_shape_is_given() {
    let server = Server::start().await;
    for data in ["{\"amount\":1}", "{\"amount\":2}", "[]", "{\"amount\":3}"] {
        server.client().append(&append("a", Expected::Any, vec![event("Paid", data)])).await.unwrap();
    }
    server.declare(serde_json::json!([
        {"name": "Paid", "schemaVersion": 2, "upcast": [{"from": 1, "set": {"total": "event.data.amount * 2"}}]}
    ]));
    let mut source = Source::open(&server, "?upcast=true", None).await;
    let given = source.take(2).await;
    assert_eq!(given, ["{\"amount\":1,\"total\":2}", "{\"amount\":2,\"total\":4}"]);
    let problem = source.next().await.unwrap();
    assert_eq!(problem.event, "problem");
    assert!(problem.data.contains("position 3"), "{}", problem.data);
    assert_eq!(source.next().await, None);
    // From the last id the others come as they were written.
    assert_eq!(Source::open(&server, "", Some(&problem.id)).await.take(2).await[0], "[]");

    let subscribe = headwater_api::Subscribe { upcast: true, ..headwater_api::Subscribe::default() };
    let mut batches = std::pin::pin!(server.client().subscribe(subscribe));
    let batch = batches.next().await.unwrap().unwrap();
    assert_eq!((batch.events.len(), batch.caught_up), (2, false));
    assert_eq!(batch.token.to_string(), problem.id);
    let error = batches.next().await.unwrap().unwrap_err();
    assert!(matches!(error, headwater_core::Error::FailedPrecondition { .. }), "{error}");
}

#[tokio::test]
async fn a_bad_start_is_refused() {
    let server = Server::start().await;
    let request = reqwest::Client::new().get(server.url("/v1/events/stream")).header("Last-Event-ID", "x");
    let answer = crate::support::Answer::of(request.send().await.unwrap()).await;
    answer.is_problem(400, "invalid", "Last-Event-ID: not a token");
    let other = Server::start().await;
    let head = other.get("/v1/head").await.json();
    let token = head["token"].as_str().unwrap();
    let request = reqwest::Client::new().get(server.url("/v1/events/stream")).header("Last-Event-ID", token);
    let answer = crate::support::Answer::of(request.send().await.unwrap()).await;
    answer.is_problem(400, "invalid", "Last-Event-ID: the token is of log");
}
