//! What a saga does, as part of the trace of the event that started an instance.
//!
//! ```text
//! starting event's context ──┬─▶ process (consumer)
//!                            └─▶ SAGA/STEP (client), each attempt ──▶ headers, metadata of appended events
//! ```
//! The context is in the instance's history, so its trace goes on after a restart.

use headwater_runtime::span;
use headwater_runtime::trace::{self, Traceparent};
use http::Uri;
use tracing::Span;
use tracing::field::Empty;

use crate::call::{Answer, Call, Request};
use crate::history::{Cause, Direction};

/// The span of taking an event of `event_stream` in.
pub(crate) fn process(event_stream: &str, saga: &str, event: &Cause) -> Span {
    let span = span!(
        parent: None,
        "process",
        otel.name = format_args!("process {event_stream}"),
        otel.kind = "consumer",
        messaging.system = "headwater",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = event_stream,
        messaging.consumer.group.name = saga,
        messaging.message.id = display(event.id),
        headwater.event_type = trace::bounded(&event.event_type),
        headwater.partition = event.partition,
        headwater.position = event.position,
        otel.status_code = Empty,
        error.type = Empty,
    );
    trace::set_parent(&span, context(event.traceparent.as_deref(), &span).as_ref());
    span
}

/// The span of one attempt of a step, whose context the call carries from now on.
pub(crate) fn attempt(saga: &str, step: &str, direction: Direction, call: &mut Call) -> Span {
    let way = match direction {
        Direction::Do => "",
        Direction::Undo => " undo",
    };
    let span = span!(
        parent: None,
        "step",
        otel.name = format_args!("{saga}/{step}{way}"),
        otel.kind = "client",
        headwater.saga.name = saga,
        headwater.saga.step = step,
        headwater.saga.direction = direction.as_str(),
        headwater.saga.start_event_id = call.trace.causation_id.as_str(),
        server.address = Empty,
        server.port = Empty,
        http.request.method = Empty,
        http.response.status_code = Empty,
        rpc.system.name = Empty,
        rpc.method = Empty,
        messaging.system = Empty,
        messaging.operation.type = Empty,
        messaging.destination.name = Empty,
        otel.status_code = Empty,
        error.type = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    trace::set_parent(&span, context(call.trace.traceparent.as_deref(), &span).as_ref());
    // A URL's path and query may be made of an event's data, and are not said.
    match &call.request {
        Request::Http(http) => {
            span.record("http.request.method", http.method.as_str());
            server(&span, &http.url);
        }
        Request::Grpc(grpc) => {
            span.record("rpc.system.name", "grpc");
            span.record("rpc.method", trace::bounded(&grpc.method));
            server(&span, &grpc.address);
        }
        Request::Append(append) => {
            span.record("messaging.system", "headwater");
            span.record("messaging.operation.type", "send");
            span.record("messaging.destination.name", append.stream.as_str());
        }
    }
    if let Some(place) = Traceparent::of_span(&span) {
        call.trace.traceparent = Some(place.as_str().to_owned());
    }
    span
}

/// What came of it.
pub(crate) fn answered(span: &Span, request: &Request, answer: &Answer) {
    if span.is_disabled() {
        return;
    }
    let (response, failed) = match answer {
        Answer::Success(response) => (Some(response), None),
        Answer::Failure { response, .. } => (response.as_ref(), Some("failure")),
        Answer::Unanswered { .. } => (None, Some("unanswered")),
        Answer::NotTried { .. } => (None, Some("not_tried")),
    };
    // A summary begins with the status.
    let status = response
        .filter(|_| matches!(request, Request::Http(_)))
        .and_then(|it| it.summary.split(' ').next()?.parse::<u16>().ok());
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    match (failed, status) {
        (Some(_), Some(status)) => trace::fail(span, &status.to_string()),
        (Some(how), None) => trace::fail(span, how),
        (None, _) => {}
    }
}

/// The context of an event, where it matters.
fn context(traceparent: Option<&str>, span: &Span) -> Option<Traceparent> {
    traceparent.filter(|_| !span.is_disabled()).and_then(Traceparent::parse)
}

fn server(span: &Span, url: &str) {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let Ok(uri) = authority.parse::<Uri>() else { return };
    if let Some(host) = uri.host() {
        span.record("server.address", trace::bounded(host));
    }
    if let Some(port) = uri.port_u16() {
        span.record("server.port", port);
    }
}
