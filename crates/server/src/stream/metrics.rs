//! What a sequencer has done, read whenever metrics are asked for.

use std::fmt;
use std::sync::Arc;

use headwater_log::{Replica, Sequencer, SequencerStats};
use headwater_runtime::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Has `metrics` show what `sequencer` does: `headwater_log_…`.
pub(super) fn register(metrics: &Metrics, sequencer: Sequencer) {
    metrics.register_collector(Box::new(Commits(sequencer)));
}

#[derive(Debug)]
struct Commits(Sequencer);

/// Name, help, and how to read it.
type Reading = (&'static str, &'static str, fn(&SequencerStats) -> u64);

const COUNTERS: [Reading; 9] = [
    ("log_requests", "Append requests that the log has answered", |stats| stats.requests),
    ("log_repeats", "Append requests answered with the result of an earlier one", |stats| stats.repeated),
    ("log_refusals", "Append requests answered with an error", |stats| stats.refused),
    ("log_batches", "Batches committed", |stats| stats.batches),
    ("log_events", "Events committed", |stats| stats.events),
    ("log_bytes", "Bytes of data and metadata committed", |stats| stats.bytes),
    ("log_fenced", "Batches that met another writer", |stats| stats.fenced),
    ("log_taken", "Batches that met an event id or a version that was taken", |stats| stats.duplicates),
    ("log_unknown", "Commits whose fate was unknown at first", |stats| stats.unknown),
];

impl Collector for Commits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.0.stats();
        for (name, help, read) in &COUNTERS {
            let counter = ConstCounter::new(read(&stats));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let seconds = ConstCounter::new(stats.commit_micros as f64 / 1e6);
        let help = "Time spent in commits";
        let unit = Some(&Unit::Seconds);
        seconds.encode(encoder.encode_descriptor("log_commit", help, unit, seconds.metric_type())?)?;
        let largest = ConstGauge::new(stats.largest_batch as i64);
        let help = "Events of the largest batch";
        largest.encode(encoder.encode_descriptor(
            "log_largest_batch_events",
            help,
            None,
            largest.metric_type(),
        )?)
    }
}

/// Has `metrics` show how many partitions are written here.
pub(super) fn register_leases(metrics: &Metrics, replica: Arc<Replica>) {
    metrics.register_collector(Box::new(Leases(replica)));
}

#[derive(Debug)]
struct Leases(Arc<Replica>);

impl Collector for Leases {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let held = ConstGauge::new(self.0.held() as i64);
        let help = "Partitions that this process writes";
        held.encode(encoder.encode_descriptor("log_partitions_held", help, None, held.metric_type())?)
    }
}
