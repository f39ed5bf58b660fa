//! What a run measured: latencies, rates, and how they are shown.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of one kind of operation, to three digits, up to a minute.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 60_000_000, 3).expect("fixed bounds that the histogram allows"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("histograms of equal bounds");
    }

    /// In milliseconds.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// One line of the answer.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What was done: clients, event size, batch, durability.
    pub(crate) work: String,
    /// What the number counts, for example `events/s`.
    pub(crate) unit: &'static str,
    /// The median of the runs.
    pub(crate) median: f64,
    /// The least and the greatest of the runs.
    pub(crate) range: [f64; 2],
    /// Latencies in milliseconds at 50, 99 and 99.9 per cent, where operations were timed one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_ms: Option<[f64; 3]>,
    /// The figure to reach: at least this, or at most, where less is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<Target>,
}

/// What a figure has to reach.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(target) => value >= target,
            Self::AtMost(target) => value <= target,
        }
    }
}

impl Figure {
    /// The median of `runs`.
    pub(crate) fn new(work: impl Into<String>, unit: &'static str, mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        let range = [runs.first().copied().unwrap_or_default(), runs.last().copied().unwrap_or_default()];
        Self {
            work: work.into(),
            unit,
            median: runs.get(runs.len() / 2).copied().unwrap_or_default(),
            range,
            latency_ms: None,
            target: None,
        }
    }

    pub(crate) fn with_latencies(mut self, latencies: &Latencies) -> Self {
        self.latency_ms = Some([0.5, 0.99, 0.999].map(|quantile| latencies.at(quantile)));
        self
    }

    pub(crate) fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }
}

/// The figures as a table for people.
pub(crate) fn table(figures: &[Figure]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["work", "median", "range", "unit", "p50 ms", "p99 ms", "p99.9 ms", "target"]);
    for figure in figures {
        let [p50, p99, p999] =
            figure.latency_ms.map_or_else(<[String; 3]>::default, |ms| ms.map(|ms| format!("{ms:.2}")));
        let target = match figure.target {
            None => String::new(),
            Some(target) => {
                let (word, number) = match target {
                    Target::AtLeast(number) => ("≥", number),
                    Target::AtMost(number) => ("≤", number),
                };
                format!(
                    "{word} {} {}",
                    thousands(number),
                    if target.is_met(figure.median) { "✓" } else { "missed" }
                )
            }
        };
        let range = format!("{} – {}", thousands(figure.range[0]), thousands(figure.range[1]));
        table.add_row([
            figure.work.clone(),
            thousands(figure.median),
            range,
            figure.unit.to_owned(),
            p50,
            p99,
            p999,
            target,
        ]);
    }
    for column in [1, 2, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// `1234567.8` as `1,234,568`, and small numbers with one digit behind the point.
fn thousands(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in
            [(0.25, "0.2"), (99.96, "100.0"), (999.4, "999"), (1000.0, "1,000"), (1_234_567.8, "1,234,568")]
        {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn a_figure_is_the_median_with_its_range() {
        let figure = Figure::new("append", "events/s", vec![3.0, 1.0, 2.0]);
        assert!((figure.median - 2.0).abs() < f64::EPSILON);
        assert_eq!(figure.range.map(|it| it as u64), [1, 3]);
    }

    #[test]
    fn targets_are_met_or_missed() {
        assert!(Target::AtLeast(2.0).is_met(2.0) && !Target::AtLeast(2.0).is_met(1.9));
        assert!(Target::AtMost(2.0).is_met(2.0) && !Target::AtMost(2.0).is_met(2.1));
    }
}
