//! Spans, sent to a collector in batches by a thread of their own.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Key, Value};
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData};

use super::Error;

/// What is left at the end has so long. Within what an orchestrator waits for a process, beside all else that it has to finish.
const GRACE: Duration = Duration::from_secs(3);

/// How often it is said that traces are lost.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// The samplers of the specification that there are.
const SAMPLERS: [&str; 6] = [
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
];

/// Traces that are sent to a collector, by OTLP over gRPC.
///
/// Where to, what is sampled and how much is queued is what the variables of OpenTelemetry say, read from the environment by its own crates:
/// `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_MAX_QUEUE_SIZE`, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// `service.name` where neither `OTEL_SERVICE_NAME` nor `OTEL_RESOURCE_ATTRIBUTES` says it.
    service: &'static str,
}

impl Traces {
    /// What `variable` says of the traces of `service`; `None` when they go nowhere: without an endpoint, with `OTEL_SDK_DISABLED=true` or with
    /// `OTEL_TRACES_EXPORTER=none`.
    ///
    /// # Errors
    /// [`Error::Variable`] for what would not be done as it is asked.
    pub fn from_environment(
        service: &'static str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let said = |name: &str| variable(name).map(|it| it.trim().to_owned()).filter(|it| !it.is_empty());
        let is_disabled = said("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
        let endpoint =
            said("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| said("OTEL_EXPORTER_OTLP_ENDPOINT"));
        if is_disabled || endpoint.is_none() {
            return Ok(None);
        }
        match said("OTEL_TRACES_EXPORTER").as_deref() {
            None | Some("otlp") => {}
            Some("none") => return Ok(None),
            Some(other) => {
                return Err(wrong(
                    "OTEL_TRACES_EXPORTER",
                    format!("{other:?} is not there; set otlp, or none"),
                ));
            }
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match said(name) {
                None => {}
                Some(protocol) if protocol == "grpc" => break,
                Some(protocol) => {
                    let why = format!(
                        "{protocol:?} is not spoken; set grpc, and the endpoint to where the collector takes gRPC, usually port 4317"
                    );
                    return Err(wrong(name, why));
                }
            }
        }
        if let Some(sampler) = said("OTEL_TRACES_SAMPLER") {
            if !SAMPLERS.contains(&sampler.as_str()) {
                return Err(wrong(
                    "OTEL_TRACES_SAMPLER",
                    format!("{sampler:?} is not there; set one of {}", SAMPLERS.join(", ")),
                ));
            }
            let ratio = said("OTEL_TRACES_SAMPLER_ARG");
            let is_ratio = |it: &String| it.parse::<f64>().is_ok_and(|it| (0.0..=1.0).contains(&it));
            if sampler.ends_with("traceidratio") && !ratio.as_ref().is_some_and(is_ratio) {
                let why = format!(
                    "{:?} is no share of traces; set a number from 0 to 1, for OTEL_TRACES_SAMPLER={sampler}",
                    ratio.unwrap_or_default()
                );
                return Err(wrong("OTEL_TRACES_SAMPLER_ARG", why));
            }
        }
        Ok(Some(Self { service }))
    }

    pub(super) fn provider(&self) -> Result<SdkTracerProvider, Error> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
            .build()
            .map_err(|error| Error::Exporter(error.to_string()))?;
        Ok(SdkTracerProvider::builder()
            .with_batch_exporter(Told { inner: exporter, lost: Mutex::default() })
            .with_resource(self.resource())
            .build())
    }

    fn resource(&self) -> Resource {
        let said = Resource::builder().build();
        let is_named = said.get(&Key::from_static_str("service.name")).is_some_and(
            |it| matches!(&it, Value::String(it) if !it.as_str().starts_with("unknown_service")),
        );
        if is_named { said } else { Resource::builder().with_service_name(self.service).build() }
    }
}

fn wrong(variable: &'static str, why: String) -> Error {
    Error::Variable { variable, why }
}

pub(super) fn tracer(provider: &SdkTracerProvider) -> SdkTracer {
    provider.tracer("headwater")
}

/// Sends what is left.
pub(super) fn stop(provider: &SdkTracerProvider) {
    if let Err(error) = provider.shutdown_with_timeout(GRACE) {
        tracing::warn!(%error, "the last traces were not sent");
    }
}

/// An exporter that says what it has lost, and not too often.
struct Told {
    inner: SpanExporter,
    lost: Mutex<Lost>,
}

#[derive(Default)]
struct Lost {
    /// Since it was said last.
    spans: usize,
    said: Option<Instant>,
}

impl Lost {
    /// How many to speak of, if it is time to.
    fn add(&mut self, spans: usize, now: Instant) -> Option<usize> {
        self.spans += spans;
        if self.said.is_some_and(|said| now.duration_since(said) < TELL_EVERY) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.spans))
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl opentelemetry_sdk::trace::SpanExporter for Told {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.inner.export(batch).await;
        if let Err(error) = &exported {
            let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).add(spans, Instant::now());
            if let Some(spans) = lost {
                tracing::warn!(
                    spans, %error,
                    "spans were lost: the collector does not take them; all else goes on, and this is said once a minute at most"
                );
            }
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(variables: &[(&str, &str)]) -> Result<Option<Traces>, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Traces::from_environment("test", variable).map_err(|error| error.to_string())
    }

    const HERE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    #[test]
    fn traces_are_sent_where_a_collector_is_named_and_nothing_speaks_against_it() {
        let is_on = |variables: &[(&str, &str)]| said(variables).unwrap().is_some();
        assert!(!is_on(&[]));
        assert!(!is_on(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
        assert!(!is_on(&[("OTEL_TRACES_EXPORTER", "otlp")]));
        assert!(is_on(&[HERE]));
        assert!(is_on(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4317")]));
        assert!(!is_on(&[HERE, ("OTEL_SDK_DISABLED", "true")]));
        assert!(!is_on(&[HERE, ("OTEL_TRACES_EXPORTER", "none")]));
        let of_traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc");
        assert!(is_on(&[HERE, of_traces, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]));
        assert!(is_on(&[
            HERE,
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5")
        ]));
    }

    #[test]
    fn what_would_not_be_done_as_asked_is_refused_by_its_name() {
        #[track_caller]
        fn check(more: &[(&str, &str)], start: &str) {
            let error = said(&[&[HERE], more].concat()).unwrap_err();
            assert!(error.starts_with(start), "{error}");
        }
        check(&[("OTEL_TRACES_EXPORTER", "zipkin")], "OTEL_TRACES_EXPORTER: \"zipkin\" is not there");
        check(
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            "OTEL_EXPORTER_OTLP_PROTOCOL: \"http/protobuf\" is not spoken; set grpc",
        );
        check(&[("OTEL_TRACES_SAMPLER", "some")], "OTEL_TRACES_SAMPLER: \"some\" is not there");
        let ratio = ("OTEL_TRACES_SAMPLER", "traceidratio");
        check(&[ratio], "OTEL_TRACES_SAMPLER_ARG: \"\" is no share");
        check(
            &[ratio, ("OTEL_TRACES_SAMPLER_ARG", "1.5")],
            "OTEL_TRACES_SAMPLER_ARG: \"1.5\" is no share of traces",
        );
    }

    #[test]
    fn losses_are_counted_and_told_once_a_minute() {
        let (mut lost, begin) = (Lost::default(), Instant::now());
        assert_eq!(lost.add(3, begin), Some(3));
        assert_eq!(lost.add(4, begin + Duration::from_secs(30)), None);
        assert_eq!(lost.add(5, begin + Duration::from_secs(61)), Some(9));
        assert_eq!(lost.add(1, begin + Duration::from_secs(62)), None);
    }
}
