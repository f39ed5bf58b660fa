//! What a step does to the world: a request that is complete, and what came of sending it.
//!
//! ```text
//! instance + definition ──▶ Call ──▶ Caller ──▶ a participant, or an event stream
//!                            key        │
//! the instance's history ◀── Answer ◀───┘      success · failure · no answer
//! ```
//! A [`Call`] is a pure function of the instance's history, so it is the same however often it is sent.

mod answers;
mod append;
mod calls;
mod connections;
mod grpc;
mod http;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::Result;
use headwater_log::LogWriter;
use headwater_resources::saga::HttpMethod;
use headwater_resources::shared::{ClientTls, DataRef, SecretKeyRef};

pub use calls::Calls;

use crate::json::Json;

/// One thing to do, with the key that makes it count once.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The same for every attempt of one step in one direction: `NAMESPACE/SAGA/INSTANCE/START-EVENT-ID/STEP/DIRECTION`. It travels as
    /// the header `Idempotency-Key`, as the gRPC metadata `idempotency-key`, or as an event's metadata and, hashed, its id.
    pub key: String,
    /// How long one attempt may take, connecting included.
    pub timeout: Duration,
    /// What the call belongs to, for whoever follows it through the services.
    pub trace: Trace,
    /// What is sent.
    pub request: Request,
}

/// What a call belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// `correlation_id` of the event that started the instance, or its id.
    pub correlation_id: String,
    /// The id of the event that started the instance.
    pub causation_id: String,
    /// W3C trace context of that event, where it has one.
    pub traceparent: Option<String>,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// An HTTP request with JSON.
    Http(HttpRequest),
    /// A unary gRPC call.
    Grpc(GrpcRequest),
    /// An event that is appended.
    Append(AppendRequest),
}

/// An HTTP request.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// The method.
    pub method: HttpMethod,
    /// Where to, as the manifest names it: a service's address on this machine is looked up when it is sent.
    pub url: String,
    /// Headers besides those that are always sent.
    pub headers: Vec<(String, HeaderValue)>,
    /// The JSON that is sent, if any.
    pub body: Option<Json>,
    /// TLS of the connection; `None`: what the URL's scheme says.
    pub tls: Option<ClientTls>,
}

/// The value of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// This.
    Text(String),
    /// What the Secret holds when the request is sent; never stored or logged.
    Secret(SecretKeyRef),
}

/// A unary gRPC call.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpcRequest {
    /// Host and port, as the manifest names it.
    pub address: String,
    /// `package.Service/Method`.
    pub method: String,
    /// The message, in the JSON form of Protobuf.
    pub message: Json,
    /// Where the descriptor set is that describes the method; `None`: the server's reflection.
    pub descriptor: Option<DataRef>,
    /// TLS of the connection; `None`: plain text.
    pub tls: Option<ClientTls>,
}

/// An event that is appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// The EventStream.
    pub stream: String,
    /// The stream id.
    pub stream_id: String,
    /// The event's type.
    pub event_type: String,
    /// The event's data.
    pub data: Json,
}

/// What came of sending a call once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It took effect.
    Success(Response),
    /// It did not take effect, and never will under this key.
    Failure {
        /// Why, for people: `409 Conflict: insufficient funds`.
        reason: String,
        /// What was answered, where something was.
        response: Option<Response>,
    },
    /// Nobody knows whether it took effect: no answer in time, or one that says to come again.
    Unanswered {
        /// Why, for people.
        reason: String,
    },
    /// This process could not begin to send it: it has no file, port or memory left. That says nothing of the participant, and is no attempt.
    NotTried {
        /// Why, for people.
        reason: String,
    },
}

impl Answer {
    fn failure(reason: impl Into<String>) -> Self {
        Self::Failure { reason: reason.into(), response: None }
    }

    fn unanswered(reason: impl Into<String>) -> Self {
        Self::Unanswered { reason: reason.into() }
    }

    /// With `what` before the reason, where there is one.
    fn about(self, what: impl std::fmt::Display) -> Self {
        match self {
            Self::Failure { reason, response } => {
                Self::Failure { reason: format!("{what}: {reason}"), response }
            }
            Self::Unanswered { reason } => Self::Unanswered { reason: format!("{what}: {reason}") },
            Self::NotTried { reason } => Self::NotTried { reason: format!("{what}: {reason}") },
            success @ Self::Success(_) => success,
        }
    }
}

/// What a participant answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// In short, for people: `201 Created`, `OK`, `version 3 of order-1`.
    pub summary: String,
    /// What expressions see as `response`: a JSON object with `status`, `headers` and `body` (HTTP: the status code, header names in
    /// small letters, and the body if it is JSON, else its text; gRPC: `"OK"`, metadata, and the message; append: the place of the event).
    pub value: Json,
}

/// Sends calls.
///
/// Implementations MUST:
/// - answer [`Answer::Failure`] only when the participant said so, for this key, or when nothing was sent and never can be;
/// - answer [`Answer::Unanswered`] for everything that may pass, a time-out included, within the call's time-out;
/// - answer [`Answer::NotTried`] only when certainly nothing was sent, for a reason that is this process's own and may pass;
/// - never put a Secret's value into an answer or a log.
#[async_trait]
pub trait Caller: Send + Sync + 'static {
    /// Sends the call once. Dropping the future may leave it sent.
    async fn call(&self, call: &Call) -> Answer;
}

/// What calls need besides what definitions say. Asked at each call, so that what is rotated counts at once.
pub trait Surroundings: Send + Sync + 'static {
    /// The value of a key of a Secret.
    ///
    /// # Errors
    /// `NotFound`, with what is missing and where it should be.
    fn secret(&self, key: &SecretKeyRef) -> Result<Vec<u8>>;

    /// The value of a key of a Secret or ConfigMap.
    ///
    /// # Errors
    /// As [`secret`](Self::secret).
    fn data(&self, key: &DataRef) -> Result<Vec<u8>>;

    /// Where the service that manifests call `host` listens, as `HOST:PORT`, when that is not what `host` says.
    fn address(&self, host: &str) -> Option<String>;

    /// The event stream that appends go to; `None`: there is none of this name now.
    fn stream(&self, name: &str) -> Option<Arc<dyn LogWriter>>;
}
