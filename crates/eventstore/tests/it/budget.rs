//! What clients send ahead of the log is bounded, all of it together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use headwater_core::{Append, Appended, Error, Expected, PartitionCount, Result};
use headwater_log::{LogWriter, MemoryStore, Sequencer, SequencerOptions};
use tokio::sync::Semaphore;

use crate::support::{Answer, Server, append, event};

/// A log that writes nothing until it is let.
struct Held {
    log: Sequencer,
    gate: Semaphore,
}

#[async_trait]
impl LogWriter for Held {
    async fn append(&self, request: Append) -> Result<Appended> {
        let _pass = self.gate.acquire().await.unwrap();
        self.log.append(request).await
    }
}

async fn held() -> (Server, Arc<Held>) {
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let log = Sequencer::start(store.clone(), SequencerOptions::default());
    let writer = Arc::new(Held { log, gate: Semaphore::new(0) });
    (Server::over("127.0.0.1:0", store, writer.clone()).await, writer)
}

/// Nearly 4 MiB in four events.
fn large() -> Vec<headwater_core::NewEvent> {
    let text = format!("\"{}\"", "x".repeat((1 << 20) - 64));
    (0..4).map(|_| event("A", &text)).collect()
}

fn body() -> String {
    let data = "x".repeat((1 << 20) - 64);
    let events: Vec<_> = (0..4).map(|_| serde_json::json!({"type": "A", "data": data})).collect();
    serde_json::json!({"expected": "any", "events": events}).to_string()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_comes_through_later() {
    let (server, writer) = held().await;
    let http = reqwest::Client::new();
    let url = server.url("/v1/streams/a/events");
    let body = bytes::Bytes::from(body());
    let mut posts: FuturesUnordered<_> = (0..40)
        .map(|_| {
            let post = http.post(&url).header("content-type", "application/json").body(body.clone());
            async move { Answer::of(post.send().await.unwrap()).await }
        })
        .collect();
    // 128 MiB are taken and wait; those for which there is no room are told so at once.
    for _ in 0..9 {
        let refused = posts.next().await.unwrap();
        refused.is_problem(503, "unavailable", "nothing was stored");
        assert_eq!(refused.header("retry-after"), "1");
    }
    // Over gRPC too, whoever asks; only what is read goes on.
    let client = server.client();
    let refused = client.append(&append("b", Expected::Any, large())).await;
    let Err(Error::Unavailable { message, retry_after }) = refused else { panic!("{refused:?}") };
    assert!(message.contains("128 MiB of appends"), "{message}");
    assert_eq!(retry_after, Some(Duration::from_secs(1)));
    assert_eq!(server.get("/v1/head").await.status, 200);

    writer.gate.add_permits(1);
    let mut stored = 0;
    while let Some(answer) = posts.next().await {
        assert_eq!(answer.status, 201, "{answer:?}");
        stored += 1;
    }
    assert_eq!(stored, 31);
    // All of it was given back.
    for number in 0..40 {
        client.append(&append(&format!("c{number}"), Expected::NoStream, large())).await.unwrap();
    }
    server.stop().await;
}

/// In a call of many appends each gives back its own: a load of any length goes through.
#[tokio::test]
async fn a_long_call_holds_only_what_is_under_way() {
    let (server, writer) = held().await;
    writer.gate.add_permits(1);
    let appends = (0..100).map(|_| append("a", Expected::Any, large()));
    let mut outcomes = std::pin::pin!(server.client().append_stream(futures_util::stream::iter(appends)));
    let mut stored = 0;
    while let Some(outcome) = outcomes.next().await {
        outcome.unwrap();
        stored += 1;
    }
    assert_eq!(stored, 100, "400 MiB in all");
    server.stop().await;
}
