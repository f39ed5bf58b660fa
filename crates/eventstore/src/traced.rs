//! An append as part of its caller's trace.
//!
//! ```text
//! header traceparent ──▶ server span ──▶ producer span ──▶ metadata.traceparent of the events that have none ──▶ consumers
//!          └── nothing is exported: as it came ───────────────────▲
//! ```

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use headwater_api::{seed, v1};
use headwater_core::{Append, AppendLimits, Appended, Result};
use headwater_runtime::span;
use headwater_runtime::trace::{self, TRACEPARENT, Traceparent};
use http::{Extensions, Method};
use tonic::{Code, Status};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::metrics::Api;

/// The trace that a caller goes on with, if it said so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Caller(Option<Traceparent>);

impl Caller {
    /// As [`follow`] found it.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_default()
    }
}

/// Which API a request that appends came by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Http,
    /// `package.Service/Method`.
    Grpc(String),
}

impl Operation {
    fn of(request: &Request) -> Option<Self> {
        let path = request.uri().path();
        if request.method() != Method::POST {
            return None;
        }
        if path.starts_with("/v1/streams/") && path.ends_with("/events") {
            return Some(Self::Http);
        }
        let path = path.strip_prefix('/')?;
        let (service, method) = path.split_once('/')?;
        let appends = match service {
            v1::event_store_server::SERVICE_NAME => matches!(method, "Append" | "AppendStream"),
            seed::event_store_server::SERVICE_NAME => method == "CreateEvent",
            _ => false,
        };
        appends.then(|| Self::Grpc(path.to_owned()))
    }

    fn span(&self) -> Span {
        match self {
            Self::Http => span!(
                parent: None,
                "http",
                otel.name = "POST /v1/streams/{stream_id}/events",
                otel.kind = "server",
                http.request.method = "POST",
                http.route = "/v1/streams/{stream_id}/events",
                http.response.status_code = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            ),
            Self::Grpc(method) => span!(
                parent: None,
                "grpc",
                otel.name = method.as_str(),
                otel.kind = "server",
                rpc.system.name = "grpc",
                rpc.method = method.as_str(),
                rpc.response.status_code = Empty,
                otel.status_code = Empty,
                error.type = Empty,
            ),
        }
    }

    /// Only what the server is to blame for is its error: the conventions say so.
    fn answered(&self, span: &Span, response: &Response) {
        match self {
            Self::Http => {
                let status = response.status();
                span.record("http.response.status_code", status.as_u16());
                if status.is_server_error() {
                    trace::fail(span, status.as_str());
                }
            }
            Self::Grpc(_) => {
                // A call that fails says so in its headers; of a stream the outcomes come later, each with its own span.
                let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |it| it.code());
                let name = format!("{code:?}");
                span.record("rpc.response.status_code", name.as_str());
                if matches!(
                    code,
                    Code::Unknown
                        | Code::DeadlineExceeded
                        | Code::Unimplemented
                        | Code::Internal
                        | Code::Unavailable
                        | Code::DataLoss
                ) {
                    trace::fail(span, &name);
                }
            }
        }
    }
}

/// Goes on with the trace of whoever appends.
pub(crate) async fn follow(mut request: Request, next: Next) -> Response {
    let Some(operation) = Operation::of(&request) else { return next.run(request).await };
    let caller = Traceparent::of_headers(request.headers());
    let span = operation.span();
    trace::set_parent(&span, caller.as_ref());
    if caller.is_some() {
        request.extensions_mut().insert(Caller(caller));
    }
    let response = next.run(request).instrument(span.clone()).await;
    if !span.is_disabled() {
        operation.answered(&span, &response);
    }
    response
}

/// The span of an append to `event_stream`, within that of the request. What another event store has forwarded was produced there.
pub(crate) fn append(event_stream: &str, api: Api, append: &Append) -> Span {
    let span = span!(
        "append",
        otel.name = format_args!("append {event_stream}"),
        otel.kind = if api == Api::replica { "internal" } else { "producer" },
        messaging.system = "headwater",
        messaging.operation.name = "append",
        messaging.operation.type = "send",
        messaging.destination.name = event_stream,
        messaging.batch.message_count = append.events.len(),
        messaging.message.id = Empty,
        headwater.stream_id = trace::bounded(append.stream_id.as_str()),
        headwater.partition = Empty,
        headwater.position = Empty,
        otel.status_code = Empty,
        error.type = Empty,
    );
    if let ([event], false) = (&append.events[..], span.is_disabled()) {
        span.record("messaging.message.id", tracing::field::display(event.id));
    }
    span
}

/// What came of it.
pub(crate) fn appended(span: &Span, result: &Result<Appended>) {
    match result {
        Ok(appended) => {
            span.record("headwater.partition", appended.partition.get());
            span.record("headwater.position", appended.position.get());
        }
        Err(error) => trace::fail_by(span, error),
    }
}

/// Writes where the append is in its trace into the metadata of its events: where nothing is exported, what the caller said. An event that
/// has a context keeps it; one that would be too large with it goes without.
pub(crate) fn carry(span: &Span, caller: &Caller, append: &mut Append) {
    let Some(place) = Traceparent::of_span(span).or_else(|| caller.0.clone()) else { return };
    let limits = AppendLimits::default();
    let mut room = limits.request_bytes.saturating_sub(append.size());
    for event in &mut append.events {
        let Some(metadata) = event.metadata.with_new(TRACEPARENT, place.as_str()) else { continue };
        let added = metadata.as_bytes().len() - event.metadata.as_bytes().len();
        if added <= room && metadata.as_bytes().len() <= limits.metadata_bytes {
            room -= added;
            event.metadata = metadata;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use bytes::Bytes;
    use headwater_core::{EventType, Expected, Metadata, NewEvent, StreamId};

    use super::*;

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn event(metadata: String, data: usize) -> NewEvent {
        NewEvent {
            metadata: Metadata::new(Bytes::from(metadata)).unwrap(),
            ..NewEvent::json(EventType::new("Placed").unwrap(), vec![b'1'; data])
        }
    }

    fn carried(events: Vec<NewEvent>) -> Vec<Option<String>> {
        let stream_id = StreamId::new("order-1").unwrap();
        let mut append = Append { stream_id, expected: Expected::Any, events };
        carry(&Span::none(), &Caller(Traceparent::parse(CONTEXT)), &mut append);
        append.events.iter().map(|event| event.metadata.text(TRACEPARENT)).collect()
    }

    #[test]
    fn events_without_a_context_get_the_callers() {
        let own = format!(r#"{{"traceparent": "{}"}}"#, CONTEXT.replace("b7", "c7"));
        let ours = Some(CONTEXT.to_owned());
        assert_eq!(
            carried(vec![event(String::new(), 1), event(own, 1), event(r#"{"a":1}"#.to_owned(), 1)]),
            [ours.clone(), Some(CONTEXT.replace("b7", "c7")), ours]
        );
    }

    #[test]
    fn a_context_makes_no_event_too_large() {
        let full = format!(r#"{{"a":"{}"}}"#, "x".repeat((64 << 10) - 20));
        assert_eq!(carried(vec![event(full, 1), event(String::new(), 1)])[0], None);
        let most: Vec<_> = (0..4).map(|_| event(String::new(), (1 << 20) - 30)).collect();
        let carried = carried(most);
        assert_eq!(carried.iter().flatten().count(), 1, "{carried:?}");
    }

    #[test]
    fn requests_that_append_are_known() {
        let of = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            Operation::of(&request)
        };
        assert_eq!(of(Method::POST, "/v1/streams/order-1/events"), Some(Operation::Http));
        assert_eq!(of(Method::GET, "/v1/streams/order-1/events"), None);
        for method in [
            "headwater.eventstore.v1.EventStore/Append",
            "headwater.eventstore.v1.EventStore/AppendStream",
            "eventstore.EventStore/CreateEvent",
        ] {
            assert_eq!(of(Method::POST, &format!("/{method}")), Some(Operation::Grpc(method.to_owned())));
        }
        assert_eq!(of(Method::POST, "/headwater.eventstore.v1.EventStore/Read"), None);
    }
}
