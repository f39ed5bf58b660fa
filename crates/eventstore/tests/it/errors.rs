//! Every failure of a log reaches a client as it was, over both APIs.

use std::sync::Arc;
use std::time::Duration;

use headwater_api::Problem;
use headwater_core::{Append, Appended, Error, PartitionCount, Result, RetryPolicy};
use headwater_log::{LogWriter, MemoryStore};
use prost::Message;
use tonic::Code;

use crate::support::{Server, append, at, event, one, stream};

/// A log that fails in one way.
struct Failing(Error);

#[async_trait::async_trait]
impl LogWriter for Failing {
    async fn append(&self, _: Append) -> Result<Appended> {
        Err(self.0.clone())
    }
}

const ONCE: RetryPolicy =
    RetryPolicy { name: "once", attempts: 1, initial: Duration::ZERO, max: Duration::ZERO };

#[tokio::test]
async fn every_failure_is_told_as_it_was() {
    let message = "what, where and why \u{fc}".to_owned();
    for error in [
        Error::invalid("events[0].data", "no good"),
        Error::not_found(&message),
        Error::WrongVersion {
            stream_id: stream("a"),
            expected: at(1),
            current: headwater_core::Version::new(3),
        },
        Error::already_exists(&message),
        Error::failed_precondition(&message),
        Error::exhausted(&message),
        Error::DeadlineExceeded { message: message.clone(), reached: None },
        Error::Unavailable { message: message.clone(), retry_after: Some(Duration::from_millis(1500)) },
        Error::Cancelled,
        Error::corrupt(&message),
        Error::internal(&message),
    ] {
        let log = Arc::new(MemoryStore::new(PartitionCount::ONE));
        let server = Server::over("127.0.0.1:0", log, Arc::new(Failing(error.clone()))).await;
        let told = server.client().with_retry(ONCE).append(&one("a", "A")).await.unwrap_err();
        assert_eq!(format!("{told:?}"), format!("{error:?}"));

        let answer = server.post("/v1/streams/a/events", r#"{"events":[{"type":"A","data":1}]}"#).await;
        let problem: Problem = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answer.status, problem.status);
        assert_eq!(format!("{:?}", problem.into_error()), format!("{error:?}"));
        if let Error::Unavailable { .. } = error {
            assert_eq!(answer.header("retry-after"), "2");
        }
        let metrics = server.get("/metrics").await.text;
        assert!(metrics.contains("headwater_appends_total{api=\"grpc\",outcome="), "{metrics}");
    }
}

#[tokio::test]
async fn a_wrong_version_says_the_current_one() {
    let server = Server::start().await;
    let client = server.client();
    client.append(&one("a", "A")).await.unwrap();
    let error = client.append(&append("a", at(0), vec![event("A", "{}")])).await.unwrap_err();
    let Error::WrongVersion { stream_id, current, .. } = error else { panic!("{error}") };
    assert_eq!((stream_id.as_str(), current.get()), ("a", 1));
    let answer = server
        .post("/v1/streams/a/events", r#"{"expected":"no_stream","events":[{"type":"A","data":1}]}"#)
        .await;
    let problem = answer.is_problem(409, "wrong-version", "is at version 1");
    assert_eq!((&problem["current_version"], &problem["stream_id"]), (&1.into(), &"a".into()));
}

/// `AppendRequest` with bytes where text should be.
#[derive(Clone, PartialEq, Message)]
struct RawAppend {
    #[prost(bytes = "vec", tag = "1")]
    stream_id: Vec<u8>,
}

#[tokio::test]
async fn text_that_is_not_utf8_is_the_callers_fault() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<RawAppend, ()>::default();
    let path = "/headwater.eventstore.v1.EventStore/Append".parse().unwrap();
    let request = tonic::Request::new(RawAppend { stream_id: b"order-\xff".to_vec() });
    let status = grpc.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let error = headwater_api::errors::from_status(&status).to_string();
    assert!(error.starts_with("stream_id: data is not UTF-8 encoded; send"), "{error}");

    let answer = server.get("/v1/streams/order-%ff/events").await;
    answer.is_problem(400, "invalid", "stream_id: it cannot be read from the path");
    let answer = server.get("/v1/events?prefix=order-%ff").await;
    answer.is_problem(400, "invalid", "prefix: it is not UTF-8");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    // A port that was free a moment ago.
    let address = Server::start().await.address;
    let client = headwater_api::Client::new(&address.to_string()).unwrap().with_retry(ONCE);
    let error = loop {
        // Until the server that was there has ended.
        if let Err(error) = client.append(&one("a", "A")).await {
            break error;
        }
    };
    assert!(error.is_retryable(), "{error:?}");
    for fault in ["ftp://x", "http://", "a b", "https://"] {
        let error = headwater_api::Client::new(fault).unwrap_err().to_string();
        assert!(error.starts_with("server: ") && error.contains("is no address"), "{error}");
    }
}
