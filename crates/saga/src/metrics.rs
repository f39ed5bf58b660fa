//! What sagas are measured by: `headwater_saga_…`.
//!
//! ```text
//! saga_instances{saga, state}                     that have not ended
//! saga_backlog_instances{saga}                    of these, those that are not a person's
//! saga_finished_total{saga, outcome}              completed, compensated
//! saga_calls_total{saga, way, kind, outcome}      each attempt of a step: success, failure, unanswered
//! saga_call_seconds{saga, kind}                   how long it took
//! saga_coordinates{saga}                          1, or 0 where it stands by
//! saga_started_total{saga}, …                     what came of the event stream's events
//! ```

use std::fmt;
use std::time::Duration;

use headwater_runtime::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::call::{Answer, Request};
use crate::catalog::SagaCatalog;
use crate::history::Direction;
use crate::instance::State;
use crate::service::{SagaService, SagaStatus};

/// What all sagas of a process count together. A cheap handle.
#[derive(Debug, Clone)]
pub struct SagaMetrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    finished: Family<FinishedLabels, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    saga: String,
    way: &'static str,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    saga: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FinishedLabels {
    saga: String,
    outcome: &'static str,
}

impl SagaMetrics {
    /// Registers in `metrics` what is counted, and how the sagas of `catalog` stand.
    pub fn new(metrics: &Metrics, catalog: SagaCatalog) -> Self {
        metrics.register_collector(Box::new(Standing(catalog)));
        Self {
            calls: metrics.register(
                "saga_calls",
                "Attempts of steps, by way (do, undo), kind (http, grpc, append) and outcome",
                Family::default(),
            ),
            call_seconds: metrics.register(
                "saga_call_seconds",
                "Time from sending a step's request to its answer, or to giving up",
                Family::new_with_constructor(call_seconds as fn() -> Histogram),
            ),
            finished: metrics.register("saga_finished", "Instances that have ended", Family::default()),
        }
    }

    pub(crate) fn called(
        &self,
        saga: &str,
        request: &Request,
        direction: Direction,
        answer: &Answer,
        took: Duration,
    ) {
        let (saga, kind) = (saga.to_owned(), kind(request));
        let outcome = match answer {
            Answer::Success(_) => "success",
            Answer::Failure { .. } => "failure",
            Answer::Unanswered { .. } => "unanswered",
            Answer::NotTried { .. } => "not_tried",
        };
        self.call_seconds.get_or_create(&KindLabels { saga: saga.clone(), kind }).observe(took.as_secs_f64());
        self.calls.get_or_create(&CallLabels { saga, way: direction.as_str(), kind, outcome }).inc();
    }

    pub(crate) fn finished(&self, saga: &str, state: State) {
        self.finished.get_or_create(&FinishedLabels { saga: saga.to_owned(), outcome: state.as_str() }).inc();
    }
}

/// 0.5 ms to 33 s: from a participant next door to a step's usual time-out.
fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_5, 2.0, 17))
}

const fn kind(request: &Request) -> &'static str {
    match request {
        Request::Http(_) => "http",
        Request::Grpc(_) => "grpc",
        Request::Append(_) => "append",
    }
}

/// How sagas stand, read whenever metrics are asked for.
#[derive(Debug)]
struct Standing(SagaCatalog);

/// Name, help, and how to read it.
type Reading = (&'static str, &'static str, fn(&SagaStatus) -> u64);

const COUNTERS: [Reading; 5] = [
    ("saga_started", "Instances started", |status| status.started),
    ("saga_ignored", "Events that would have started an instance of a name that there was", |status| {
        status.ignored
    }),
    ("saga_not_started", "Events that should have started an instance and could not", |status| {
        status.not_started
    }),
    ("saga_replies", "Replies taken in", |status| status.replies),
    ("saga_unmatched", "Events of an awaited type that nobody waited for", |status| status.unmatched),
];

/// Name of the state, and how many are in it.
type Open = (State, fn(&SagaStatus) -> usize);

const OPEN: [Open; 3] = [
    (State::Running, |status| status.running),
    (State::Compensating, |status| status.compensating),
    (State::NeedsAttention, |status| status.needs_attention),
];

impl Collector for Standing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let statuses: Vec<SagaStatus> = self.0.sagas().iter().map(SagaService::status).collect();
        let help = "Instances that have not ended";
        let mut family = encoder.encode_descriptor("saga_instances", help, None, MetricType::Gauge)?;
        for status in &statuses {
            for (state, read) in OPEN {
                let labels = [("saga", status.name.as_str()), ("state", state.as_str())];
                let gauge = ConstGauge::new(read(status) as i64);
                gauge.encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Instances that go forward or are being undone";
        let mut family =
            encoder.encode_descriptor("saga_backlog_instances", help, None, MetricType::Gauge)?;
        for status in &statuses {
            let labels = [("saga", status.name.as_str())];
            let gauge = ConstGauge::new((status.running + status.compensating) as i64);
            gauge.encode(family.encode_family(&labels)?)?;
        }
        let help = "Seconds since the oldest instance that has not ended was started";
        let mut family =
            encoder.encode_descriptor("saga_oldest_instance_seconds", help, None, MetricType::Gauge)?;
        for status in &statuses {
            let labels = [("saga", status.name.as_str())];
            let gauge = ConstGauge::new(status.oldest_running_seconds.unwrap_or_default() as i64);
            gauge.encode(family.encode_family(&labels)?)?;
        }
        let help = "1 where this process coordinates the saga, 0 where it stands by";
        let mut family = encoder.encode_descriptor("saga_coordinates", help, None, MetricType::Gauge)?;
        for status in &statuses {
            let labels = [("saga", status.name.as_str())];
            ConstGauge::new(i64::from(status.coordinates)).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, read) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for status in &statuses {
                let labels = [("saga", status.name.as_str())];
                let encoder: MetricEncoder<'_> = family.encode_family(&labels)?;
                ConstCounter::new(read(status)).encode(encoder)?;
            }
        }
        Ok(())
    }
}
