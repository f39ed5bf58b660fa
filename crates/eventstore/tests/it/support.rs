//! An event store on a free port, over a log in memory, and what tests ask it with.

use std::net::SocketAddr;
use std::sync::Arc;

use headwater_api::Client;
use headwater_core::{Append, EventType, Expected, NewEvent, PartitionCount, StreamId, Version};
use headwater_eventstore::{EventStore, EventTypes};
use headwater_log::{LogReader, LogWriter, MemoryStore, Sequencer, SequencerOptions};
use headwater_runtime::{Listener, Metrics, Readiness};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running event store. Ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) log: Arc<dyn LogReader>,
    pub(crate) readiness: Readiness,
    pub(crate) store: EventStore,
    shutdown: DropGuard,
    serving: JoinHandle<headwater_core::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with_partitions(1).await
    }

    pub(crate) async fn with_partitions(partitions: u32) -> Self {
        let log = Arc::new(MemoryStore::new(PartitionCount::new(partitions).unwrap()));
        let writer = Sequencer::start(log.clone(), SequencerOptions::default());
        Self::over("127.0.0.1:0", log, Arc::new(writer)).await
    }

    /// A server at `address` over a log and a writer.
    pub(crate) async fn over(address: &str, log: Arc<dyn LogReader>, writer: Arc<dyn LogWriter>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::new(listener, None);
        let readiness = Readiness::default();
        let store = EventStore::new(log.clone(), writer, Metrics::default(), readiness.clone());
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(store.clone().serve(listener, shutdown.clone()));
        Self { address, log, readiness, store, shutdown: shutdown.drop_guard(), serving }
    }

    /// Declares event types, as an EventStream's `eventTypes`.
    pub(crate) fn declare(&self, event_types: Value) {
        let specs: Vec<_> = serde_json::from_value(event_types).unwrap();
        self.store.set_event_types(EventTypes::compile(&specs).unwrap());
    }

    /// Shuts it down and waits until it has ended.
    pub(crate) async fn stop(self) {
        drop(self.shutdown);
        self.serving.await.unwrap().unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.address.to_string()).unwrap()
    }

    /// A channel for generated clients.
    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        tonic::transport::Endpoint::from_shared(self.url("")).unwrap().connect().await.unwrap()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(reqwest::get(self.url(path)).await.unwrap()).await
    }

    /// Posts JSON.
    pub(crate) async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = reqwest::Client::new().post(self.url(path)).header("content-type", "application/json");
        Answer::of(request.body(body).send().await.unwrap()).await
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(response: reqwest::Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem of this kind and status, whose detail has `text`.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, kind: &str, text: &str) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["type"], format!("urn:headwater:problem:{kind}"), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(text), "{text:?} is not in {problem}");
        problem
    }
}

pub(crate) fn stream(id: &str) -> StreamId {
    StreamId::new(id).unwrap()
}

pub(crate) fn event(event_type: &str, data: &str) -> NewEvent {
    NewEvent::json(EventType::new(event_type).unwrap(), data.as_bytes().to_vec())
}

pub(crate) fn append(stream_id: &str, expected: Expected, events: Vec<NewEvent>) -> Append {
    Append { stream_id: stream(stream_id), expected, events }
}

/// An append of one event.
pub(crate) fn one(stream_id: &str, event_type: &str) -> Append {
    append(stream_id, Expected::Any, vec![event(event_type, "{}")])
}

pub(crate) fn at(version: u64) -> Expected {
    Expected::Version(Version::new(version))
}
