//! Logs, to standard error; and traces, to a collector.
//!
//! ```text
//! events ──▶ filter ──▶ a bounded queue ──▶ standard error
//! spans of trace::TARGET ──▶ sampler ──▶ a bounded queue ──▶ OTLP over gRPC     only where a collector is named
//! ```

mod export;
mod lines;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

pub use export::Traces;

use crate::Metrics;
use crate::trace::TARGET;
use lines::Lines;

/// How long the last lines may take to be read, before a process ends without it.
const LAST_LINES: Duration = Duration::from_secs(1);

/// What to say about what the process does. The environment is read by whoever makes this.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Lines for people or for programs.
    pub format: Format,
    /// What to log, in the syntax of `RUST_LOG`: `info`, or `headwater_eventstore=debug,warn`.
    pub filter: String,
    /// Where traces go. `None`: nowhere, and they cost nothing.
    pub traces: Option<Traces>,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logs or traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("{filter:?} is no log filter: {why}; give one such as info, or headwater_eventstore=debug,warn")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// A variable of the environment says what cannot be done.
    #[error("{variable}: {why}")]
    Variable {
        /// Which.
        variable: &'static str,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The collector's address cannot be used.
    #[error(
        "traces cannot be sent: {0}; see the variables OTEL_EXPORTER_OTLP_*, or set OTEL_SDK_DISABLED=true"
    )]
    Exporter(String),
    /// Standard error cannot be written by a thread of its own.
    #[error("logs cannot be written: {0}")]
    Lines(#[from] std::io::Error),
    /// Something else of this process has set logs up already.
    #[error("logs are set up already: {0}")]
    Twice(String),
}

/// Logs and traces that are set up.
#[must_use = "what was traced and logged last is sent by stop"]
pub struct Running {
    traces: Option<SdkTracerProvider>,
    last_lines: LastLines,
}

impl Running {
    /// Sends what was traced and logged, and not sent yet. A collector that does not answer is waited for 3 seconds, and one second whoever
    /// should read standard error.
    pub async fn stop(self) {
        let last_lines = self.last_lines;
        let stopped = tokio::task::spawn_blocking(move || {
            if let Some(traces) = &self.traces {
                export::stop(traces);
            }
            drop(last_lines);
        });
        if let Err(error) = stopped.await {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Written when it is dropped.
struct LastLines(Lines);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// Registers what is counted of the log's lines.
pub fn register_metrics(metrics: &Metrics) {
    let help = "Log lines that are lost, since nobody has read standard error";
    metrics.register("telemetry_log_lines_lost", help, lines::lost());
}

/// Says why the process ends, on standard error. Where nobody reads that, it ends without.
pub fn last_words(text: &str) {
    let line = format!("{text}\n");
    let (done, written) = mpsc::channel();
    let write = move || {
        // Nobody is left to be told that it failed.
        let _ = std::io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = written.recv_timeout(LAST_LINES);
    }
}

/// Sets logs and traces up for the process. Once, and within a Tokio runtime where there are traces.
///
/// # Errors
/// See [`Error`].
pub fn init(telemetry: &Telemetry) -> Result<Running, Error> {
    let invalid = |why: String| Error::Filter { filter: telemetry.filter.clone(), why };
    let filter = EnvFilter::try_new(&telemetry.filter).map_err(|error| invalid(error.to_string()))?;
    // Spans of traces are not for logs: without this, those would take note of them even where nothing is exported.
    let no_spans = format!("{TARGET}=off").parse().map_err(|error: ParseError| invalid(error.to_string()))?;
    // Not by way of the standard library's handle: whoever waits in there has it locked for all others.
    let out = File::from(std::io::stderr().as_fd().try_clone_to_owned()?);
    let lines = Lines::to(out, |lost| {
        tracing::warn!(lost, "{lost} log lines are lost: standard error was not read in time");
    })?;
    let last_lines = LastLines(lines.clone());
    let logs = tracing_subscriber::fmt::layer().with_writer(move || lines.clone()).log_internal_errors(false);
    let logs = match telemetry.format {
        Format::Text => logs.with_ansi(std::io::stderr().is_terminal()).with_target(false).boxed(),
        Format::Json => logs.json().flatten_event(true).boxed(),
    };
    let registry = Registry::default().with(logs.with_filter(filter.add_directive(no_spans)));
    let twice = |error: tracing_subscriber::util::TryInitError| Error::Twice(error.to_string());
    let Some(traces) = &telemetry.traces else {
        registry.try_init().map_err(twice)?;
        return Ok(Running { traces: None, last_lines });
    };
    let provider = traces.provider()?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(export::tracer(&provider))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false);
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
    let spans = spans.with_filter(ours.with_max_level_hint(LevelFilter::INFO));
    registry.with(spans).try_init().map_err(twice)?;
    Ok(Running { traces: Some(provider), last_lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let telemetry = Telemetry { format: Format::Text, filter: "a=b=c".into(), traces: None };
        let error = init(&telemetry).map(drop).unwrap_err().to_string();
        assert!(error.starts_with("\"a=b=c\" is no log filter: "), "{error}");
    }
}
