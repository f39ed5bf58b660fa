//! A collector of traces, by OpenTelemetry's own generated service: what comes is what any collector would get.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as wire};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::process::PATIENCE;

/// A span as it was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `service.name` of the process that it is of.
    pub service: String,
    /// Its name.
    pub name: String,
    /// What it is to others.
    pub kind: SpanKind,
    /// The trace, in hexadecimal digits, as are all ids.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// Its parent; empty: it has none.
    pub parent: String,
    /// What it is linked to: traces and spans.
    pub links: Vec<(String, String)>,
    /// Its attributes, as text.
    pub attributes: BTreeMap<String, String>,
    /// It says that it failed.
    pub failed: bool,
}

impl Span {
    /// Where it is, as a W3C trace context says it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace, self.id)
    }
}

type Spans = Arc<watch::Sender<Vec<Span>>>;

/// A collector on a free port. It ends when dropped.
pub struct Collector {
    endpoint: String,
    spans: Spans,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Collector {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Spans::new(watch::Sender::default());
        let service = TraceServiceServer::new(Service(Arc::clone(&spans)));
        let serving = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
        Ok(Self { endpoint, spans, serving: tokio::spawn(serving) })
    }

    /// Where it takes spans, as `OTEL_EXPORTER_OTLP_ENDPOINT` says it.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// What has come.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until a span has come for which `wanted` holds, and gives it.
    ///
    /// # Errors
    /// When none does in time; with all that came.
    pub async fn span(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Result<Span> {
        let mut came = self.spans.subscribe();
        let found = tokio::time::timeout(PATIENCE, came.wait_for(|spans| spans.iter().any(&wanted))).await;
        let Ok(found) = found else { bail!("no span {what} came; these did: {:#?}", self.spans()) };
        let found = found.context("the collector has ended")?;
        found.iter().find(|span| wanted(span)).cloned().context("the span that was found")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

struct Service(Spans);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let came = request.into_inner().resource_spans.into_iter().flat_map(of_resource);
        self.0.send_modify(|spans| spans.extend(came));
        Ok(Response::new(ExportTraceServiceResponse { partial_success: None }))
    }
}

fn of_resource(came: wire::ResourceSpans) -> Vec<Span> {
    let resource = attributes(came.resource.unwrap_or_default().attributes);
    let service = resource.get("service.name").cloned().unwrap_or_default();
    let spans = came.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans
        .map(|span| Span {
            service: service.clone(),
            kind: span.kind(),
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
            attributes: attributes(span.attributes),
            failed: span.status.is_some_and(|status| status.code() == StatusCode::Error),
        })
        .collect()
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, text(pair.value.unwrap_or_default()))).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        None => String::new(),
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        Some(other) => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
