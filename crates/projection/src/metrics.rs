//! What is to be measured of projections, read from their statuses whenever metrics are asked for.

use std::fmt;

use headwater_runtime::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::catalog::Catalog;
use crate::status::{ProjectionStatus, RevisionStatus};

/// Has `metrics` show the projections of `catalog`: `headwater_projection_…`, by projection; what is so of revisions by the revision's role
/// (`active`, `candidate`, `previous`), wherever it is folded; what is done here by what became of it.
pub fn register(metrics: &Metrics, catalog: Catalog) {
    metrics.register_collector(Box::new(Projections(catalog)));
}

struct Projections(Catalog);

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Projections")
    }
}

/// A number of a revision: name, help, unit, and how to read it.
type Reading = (&'static str, &'static str, Option<Unit>, fn(&RevisionStatus) -> Option<i64>);

const READINGS: [Reading; 6] = [
    ("projection_lag_events", "Events not yet folded", None, |it| it.lag.map(|lag| lag.events as i64)),
    ("projection_lag", "Age of the last folded event while there are more", Some(Unit::Seconds), |it| {
        it.lag.map(|lag| lag.seconds as i64)
    }),
    ("projection_parked_events", "Events set aside", None, |it| Some(it.parked as i64)),
    ("projection_skipped_events", "Events left out", None, |it| Some(it.skipped as i64)),
    ("projection_halted_partitions", "Partitions that a failing rule has halted", None, |it| {
        count(it, "Halted")
    }),
    ("projection_failing_partitions", "Partitions whose log or sink fails", None, |it| count(it, "Failing")),
];

#[allow(clippy::unnecessary_wraps, reason = "one shape for all readings")]
fn count(revision: &RevisionStatus, state: &str) -> Option<i64> {
    Some(revision.partitions.iter().filter(|partition| partition.state == state).count() as i64)
}

fn roles(status: &ProjectionStatus) -> impl Iterator<Item = (&'static str, &RevisionStatus)> {
    let roles =
        [("active", &status.active), ("candidate", &status.candidate), ("previous", &status.previous)];
    roles.into_iter().filter_map(|(role, revision)| Some((role, revision.as_ref()?)))
}

impl Collector for Projections {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let statuses: Vec<_> = self
            .0
            .projections()
            .iter()
            .map(|service| (service.name().to_owned(), service.status()))
            .collect();
        for (name, help, unit, read) in &READINGS {
            let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
            for (projection, status) in &statuses {
                for (role, revision) in roles(status) {
                    if let Some(number) = read(revision) {
                        let labels = [("projection", projection.as_str()), ("role", role)];
                        ConstGauge::new(number).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let help =
            "Events not yet folded by the revision that answers or the one to come, whichever lacks more";
        let mut family =
            encoder.encode_descriptor("projection_backlog_events", help, None, MetricType::Gauge)?;
        for (projection, status) in &statuses {
            if let Some(events) = backlog(status) {
                let labels = [("projection", projection.as_str())];
                ConstGauge::new(events as i64).encode(family.encode_family(&labels)?)?;
            }
        }
        self.encode_counts(&mut encoder)
    }
}

/// What more processes would be for. One that was before is folded on the side.
fn backlog(status: &ProjectionStatus) -> Option<u64> {
    let folded = [&status.active, &status.candidate];
    folded.into_iter().flatten().filter_map(|it| Some(it.lag?.events)).max()
}

impl Projections {
    /// What this process does.
    fn encode_counts(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts: Vec<_> = self
            .0
            .projections()
            .iter()
            .map(|service| (service.name().to_owned(), service.counts()))
            .collect();
        let help = "Partitions that this process folds";
        let mut family =
            encoder.encode_descriptor("projection_partitions_held", help, None, MetricType::Gauge)?;
        for (projection, counts) in &counts {
            let labels = [("projection", projection.as_str())];
            ConstGauge::new(counts.held as i64).encode(family.encode_family(&labels)?)?;
        }
        let help = "Partitions that came to this process, or went to others";
        let mut family =
            encoder.encode_descriptor("projection_lease_moves", help, None, MetricType::Counter)?;
        for (projection, counts) in &counts {
            let labels = [("projection", projection.as_str())];
            ConstCounter::new(counts.moves).encode(family.encode_family(&labels)?)?;
        }
        let help = "Events that this process folded, by whether their batch was applied or refused";
        let mut family =
            encoder.encode_descriptor("projection_folded_events", help, None, MetricType::Counter)?;
        for (projection, counts) in &counts {
            for (result, number) in [("applied", counts.kept), ("refused", counts.lost)] {
                let labels = [("projection", projection.as_str()), ("result", result)];
                ConstCounter::new(number).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
