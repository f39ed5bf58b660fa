//! Prometheus metrics.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::registry::{Metric, Registry};

/// The metrics of one process: registered where they are counted, rendered at `/metrics`. Clones share one registry.
///
/// Names begin with `headwater_`; labels are from closed sets.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("headwater"))))
    }
}

impl Metrics {
    /// The media type of what [`render`](Self::render) gives.
    pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Registers `metric` as `headwater_NAME`, and gives it back to be counted with. `help` ends without a full stop: one is added.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        self.with(|registry| registry.register(name, help, metric.clone()));
        metric
    }

    /// Registers what is asked for its numbers whenever metrics are rendered.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.with(|registry| registry.register_collector(collector));
    }

    /// All metrics in the OpenMetrics text format.
    ///
    /// # Errors
    /// When a collector fails.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        self.with(|registry| prometheus_client::encoding::text::encode(&mut text, registry))?;
        Ok(text)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Registry) -> T) -> T {
        // Numbers stay true when somebody else has panicked.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::default();
        let counter: Counter = metrics.clone().register("appends", "Appends", Counter::default());
        counter.inc_by(3);
        let text = metrics.render().unwrap();
        assert!(text.contains("# HELP headwater_appends Appends.\n"), "{text}");
        assert!(text.contains("headwater_appends_total 3\n") && text.ends_with("# EOF\n"), "{text}");
    }
}
