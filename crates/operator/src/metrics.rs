//! What the operator counts, and how its resources stand, for whoever is to be told of it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use headwater_runtime::Metrics;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::kinds::Kept;
use crate::packed::Packed;
use crate::part::Kind;

/// What the operator counts.
pub struct OperatorMetrics {
    conditions: Conditions,
    passes: Family<KindLabel, Histogram, fn() -> Histogram>,
    failures: Family<KindLabel, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// How a condition stands, in the manner of kube-state-metrics.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    kind: &'static str,
    namespace: String,
    name: String,
    r#type: String,
    status: String,
}

/// A pass that is under way; dropped, it has ended.
pub struct Pass {
    passes: Histogram,
    began: Instant,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.passes.observe(self.began.elapsed().as_secs_f64());
    }
}

impl OperatorMetrics {
    /// Counts into `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let conditions = Conditions::default();
        metrics.register_collector(Box::new(conditions.clone()));
        let buckets = || Histogram::new(exponential_buckets(0.005, 2.0, 12));
        let passes = Family::new_with_constructor(buckets as fn() -> Histogram);
        let passes = metrics.register(
            "operator_reconcile_seconds",
            "Time of a pass over a resource, by its kind",
            passes,
        );
        let failures = metrics.register(
            "operator_reconcile_errors",
            "Passes that failed and were tried again, by the kind of their resource",
            Family::default(),
        );
        Self { conditions, passes, failures }
    }

    /// A pass begins.
    pub fn pass(&self, kind: Kind) -> Pass {
        let passes = self.passes.get_or_create_owned(&KindLabel { kind: kind.as_str() });
        Pass { passes, began: Instant::now() }
    }

    /// A pass has failed.
    pub fn failed(&self, kind: Kind) {
        self.failures.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    /// Has the conditions of what is in `resources` told.
    pub fn tell_conditions<K: Kept>(&self, resources: Store<Packed<K>>) {
        let read = move || {
            let resources = resources.state();
            let of = |it: &Arc<Packed<K>>| {
                it.conditions().iter().map(|condition| labels(&**it, condition)).collect::<Vec<_>>()
            };
            resources.iter().flat_map(of).collect()
        };
        self.conditions.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(read));
    }
}

type Read = Box<dyn Fn() -> Vec<ConditionLabels> + Send + Sync>;

/// Where conditions are read, kind by kind.
#[derive(Clone, Default)]
struct Conditions(Arc<Mutex<Vec<Read>>>);

impl fmt::Debug for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Conditions")
    }
}

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let one = ConstGauge::new(1_i64);
        let help = "1: the condition of the resource has this status";
        let mut family = encoder.encode_descriptor("condition", help, None, one.metric_type())?;
        for read in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for labels in read() {
                one.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn labels<K: Kept>(resource: &Packed<K>, condition: &Condition) -> ConditionLabels {
    ConditionLabels {
        kind: K::KIND.as_str(),
        namespace: resource.namespace().unwrap_or_default(),
        name: resource.name_any(),
        r#type: condition.type_.clone(),
        status: condition.status.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use headwater_resources::Saga;
    use kube::runtime::reflector::store;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;

    #[test]
    fn how_resources_stand_is_told_while_they_are_there() {
        let metrics = Metrics::default();
        let counted = OperatorMetrics::new(&metrics);
        let (reader, mut writer) = store::<Packed<Saga>>();
        counted.tell_conditions(reader);
        drop(counted.pass(Kind::Saga));
        counted.failed(Kind::Saga);
        let saga = json!({
            "apiVersion": "headwater.dev/v1alpha1", "kind": "Saga",
            "metadata": {"name": "pay", "namespace": "shop"},
            "spec": {
                "streamRef": {"name": "orders"}, "startOn": {"events": ["Made"]},
                "steps": [{"name": "a", "action": {"type": "HTTP", "http": {"method": "POST", "url": "http://a/b"}}}],
            },
            "status": {"conditions": [{
                "type": "Ready", "status": "True", "reason": "Available", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        let saga: Packed<Saga> = serde_json::from_value(saga).unwrap();
        assert!(saga.is_readable(), "{:?}", saga.open());
        writer.apply_watcher_event(&Event::Apply(saga.clone()));
        let told = metrics.render().unwrap();
        let line =
            r#"headwater_condition{kind="Saga",namespace="shop",name="pay",type="Ready",status="true"} 1"#;
        assert!(told.contains(line), "{told}");
        assert!(told.contains(r#"headwater_operator_reconcile_errors_total{kind="Saga"} 1"#), "{told}");
        assert!(told.contains(r#"headwater_operator_reconcile_seconds_count{kind="Saga"} 1"#), "{told}");
        writer.apply_watcher_event(&Event::Delete(saga));
        assert!(!metrics.render().unwrap().contains("name=\"pay\""));
    }
}
