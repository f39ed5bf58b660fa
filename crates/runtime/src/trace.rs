//! Spans, and the context that ties those of several processes to one trace.
//!
//! ```text
//! a caller's header, an event's metadata ──Traceparent──▶ span ──▶ exporter
//!                                                          └──Traceparent──▶ an event's metadata, a header
//! ```
//! Spans are `tracing`'s, made by [`span!`](crate::span) under a target of their own: they go to the exporter alone, never to the logs. Where
//! nothing is exported they are disabled, and their fields are not even looked at. Names and attributes follow the semantic conventions of
//! OpenTelemetry; no attribute holds an event's data or a header's value.

use std::collections::{HashMap, HashSet};
use std::fmt;

use headwater_core::{Error, Metadata};
use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of all spans that are exported.
pub const TARGET: &str = "headwater::trace";

/// The header, the key of an event's metadata, and the attribute of a message that carry a [`Traceparent`].
pub const TRACEPARENT: &str = "traceparent";

/// Contexts that one span is linked to: a batch may have thousands, and SDKs keep so many.
const MOST_LINKS: usize = 128;

/// Bytes of a context: 55 in version 00 of the W3C's specification; later versions may have more.
const MOST_BYTES: usize = 128;

/// Characters of an attribute that others choose: ids, names.
const MOST_CHARACTERS: usize = 256;

/// Makes a span that is exported: `span!(parent: None, "process", otel.kind = "consumer", …)`.
#[macro_export]
macro_rules! span {
    (parent: $parent:expr, $($rest:tt)+) => {
        ::tracing::info_span!(target: $crate::trace::TARGET, parent: $parent, $($rest)+)
    };
    ($($rest:tt)+) => {
        ::tracing::info_span!(target: $crate::trace::TARGET, $($rest)+)
    };
}

/// Where in a trace something happens, as the W3C writes it: `00-TRACE-SPAN-FLAGS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent {
    text: String,
    context: SpanContext,
}

impl Traceparent {
    /// Reads one; `None` for what is none. Others write it, and a fault in it is no reason to refuse what comes with it.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MOST_BYTES {
            return None;
        }
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), text.to_owned())]);
        let context = TraceContextPropagator::new().extract(&carrier).span().span_context().clone();
        context.is_valid().then(|| Self { text: text.to_owned(), context })
    }

    /// What a request's headers say.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
    }

    /// What an event's metadata say.
    pub fn of_event(metadata: &Metadata) -> Option<Self> {
        Self::parse(&metadata.text(TRACEPARENT)?)
    }

    /// The place of `span`; `None` when nothing is exported.
    pub fn of_span(span: &Span) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        let context = span.context();
        let mut carrier = HashMap::new();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        let text = carrier.remove(TRACEPARENT)?;
        Some(Self { text, context: context.span().span_context().clone() })
    }

    /// The place of the span that this task is in; `None` when nothing is exported.
    pub fn current() -> Option<Self> {
        Self::of_span(&Span::current())
    }

    /// As it travels.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Has `span`, which was not entered yet, go on where `parent` is.
pub fn set_parent(span: &Span, parent: Option<&Traceparent>) {
    let Some(parent) = parent else { return };
    if span.is_disabled() {
        return;
    }
    let context = opentelemetry::Context::new().with_remote_span_context(parent.context.clone());
    // A span that is not exported has no parent to set.
    let _ = span.set_parent(context);
}

/// Links `span` to where the events with these metadata came from: a batch has many parents. 128 of them at most.
pub fn link<'m>(span: &Span, events: impl IntoIterator<Item = &'m Metadata>) {
    if span.is_disabled() {
        return;
    }
    let mut seen = HashSet::new();
    for origin in events.into_iter().filter_map(Traceparent::of_event) {
        if seen.insert((origin.context.trace_id(), origin.context.span_id())) {
            span.add_link(origin.context);
        }
        if seen.len() == MOST_LINKS {
            return;
        }
    }
}

/// Has `span`, which declares `otel.status_code` and `error.type`, say that it failed, and how: by kind, for a message may quote data.
pub fn fail(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// The same by an error.
pub fn fail_by(span: &Span, error: &Error) {
    fail(span, error.kind());
}

/// Text that others choose, at a length that an attribute may have.
pub fn bounded(text: &str) -> &str {
    text.char_indices().nth(MOST_CHARACTERS).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_as_it_is_written() {
        assert_eq!(Traceparent::parse(GOOD).map(|it| it.to_string()).as_deref(), Some(GOOD));
        let later = format!("01{}-more", &GOOD[2..]);
        assert!(Traceparent::parse(&later).is_some(), "a later version may have more fields");
        for bad in [
            "",
            "x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(Traceparent::parse(bad), None, "{bad}");
        }
        assert_eq!(Traceparent::parse(&format!("01{}-{}", &GOOD[2..], "x".repeat(MOST_BYTES))), None);
    }

    #[test]
    fn without_an_exporter_a_span_has_no_place() {
        assert_eq!(Traceparent::of_span(&crate::span!("append")), None);
        assert_eq!(Traceparent::current(), None);
    }

    #[test]
    fn an_attribute_is_bounded_by_whole_characters() {
        assert_eq!(bounded("order-1"), "order-1");
        assert_eq!(bounded(&"\u{e9}".repeat(300)), "\u{e9}".repeat(MOST_CHARACTERS));
    }
}
