use std::time::Duration;

use headwater_core::Error;
use headwater_runtime::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// What the event store counts.
pub(crate) struct Counters {
    appends: Family<Outcome, Counter>,
    events_appended: Counter,
    append_seconds: Histogram,
    events_read: Counter,
    subscriptions: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    api: Api,
    outcome: &'static str,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "label values as they are rendered")]
pub(crate) enum Api {
    grpc,
    http,
    article,
    saga,
    /// Forwarded by another event store.
    replica,
}

/// Counts a subscription for as long as it lives.
pub(crate) struct Subscribed(Gauge);

impl Drop for Subscribed {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Counters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        // 0.25 ms to 8 s: from a commit in memory to a disk in trouble.
        let buckets = exponential_buckets(0.000_25, 2.0, 16);
        Self {
            appends: metrics.register("appends", "Append requests, by outcome", Family::default()),
            events_appended: metrics.register(
                "events_appended",
                "Events of successful appends",
                Counter::default(),
            ),
            append_seconds: metrics.register(
                "append_seconds",
                "Time from an append's arrival to its durable answer",
                Histogram::new(buckets),
            ),
            events_read: metrics.register(
                "events_read",
                "Events given to readers and subscribers",
                Counter::default(),
            ),
            subscriptions: metrics.register("subscriptions", "Open subscriptions", Gauge::default()),
        }
    }

    pub(crate) fn appended(&self, api: Api, events: usize, took: Duration, error: Option<&Error>) {
        self.appends.get_or_create(&Outcome { api, outcome: error.map_or("ok", Error::kind) }).inc();
        if error.is_none() {
            self.events_appended.inc_by(events as u64);
            self.append_seconds.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn read(&self, events: usize) {
        self.events_read.inc_by(events as u64);
    }

    pub(crate) fn subscribed(&self) -> Subscribed {
        self.subscriptions.inc();
        Subscribed(self.subscriptions.clone())
    }
}
