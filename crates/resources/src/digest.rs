//! The digest of what a projection's rows depend on.
//!
//! Two specs with the same digest give the same rows, so a revision that was built from one serves the other. It covers the
//! tables, the rules without their names, the sink, the upcasts of the events that the rules are for, and the rebuild token.
//! Fields that say what is the default anyway are left out, so a field that a later version adds changes no digest.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::crd;
use crate::event_stream::EventStreamSpec;
use crate::projection::ProjectionSpec;

/// The form of the digest. A newer form gets another, and never equals one of this.
const VERSION: &str = "v1";

/// A digest, written `v1:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    /// As it is stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The digest of a projection of this event stream.
pub fn projection(projection: &ProjectionSpec, stream: &EventStreamSpec) -> Digest {
    let text = canonical(projection, stream).to_string();
    let hash = Sha256::digest(format!("headwater projection {VERSION}\n{text}"));
    let mut digest = format!("{VERSION}:");
    for byte in hash {
        // Writing to a String cannot fail.
        let _ = write!(digest, "{byte:02x}");
    }
    Digest(digest)
}

/// What is digested: keys in order, defaults left out.
fn canonical(projection: &ProjectionSpec, stream: &EventStreamSpec) -> Value {
    let schema = |kind: &str| {
        let definition = crd::definitions().iter().find(|definition| definition.kind == kind);
        definition.map_or(&Value::Null, |definition| &definition.schema()["properties"]["spec"])
    };

    let mut spec = to_value(projection);
    reduce(&mut spec, schema("Projection"));
    let mut digested = Map::new();
    for field in ["tables", "rules", "sink", "rebuildToken"] {
        if let Some(value) = spec.get_mut(field) {
            digested.insert(field.to_owned(), value.take());
        }
    }
    for rule in digested.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(rule) = rule {
            rule.shift_remove("name");
        }
    }

    let events: BTreeSet<&str> =
        projection.rules.iter().flat_map(|rule| rule.events.iter().map(String::as_str)).collect();
    let mut upcasts = Map::new();
    for event_type in &stream.event_types {
        if events.contains(event_type.name.as_str()) && !event_type.upcast.is_empty() {
            let mut steps = event_type.upcast.clone();
            steps.sort_by_key(|step| step.from);
            let mut steps = to_value(&steps);
            reduce(
                &mut steps,
                &schema("EventStream")["properties"]["eventTypes"]["items"]["properties"]["upcast"],
            );
            upcasts
                .insert(event_type.name.clone(), json!({ "steps": steps, "to": event_type.schema_version }));
        }
    }
    if !upcasts.is_empty() {
        digested.insert("upcasts".to_owned(), Value::Object(upcasts));
    }
    sorted(Value::Object(digested))
}

fn to_value(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("a spec has string keys, so it has a JSON form")
}

/// Leaves out fields that have their default.
fn reduce(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, field| {
                let inner = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                reduce(field, inner);
                let mut default = inner.get("default").cloned();
                if let Some(default) = &mut default {
                    reduce(default, inner);
                }
                default.as_ref() != Some(field)
            });
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| reduce(element, &schema["items"])),
        _ => {}
    }
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> =
                fields.into_iter().map(|(name, field)| (name, sorted(field))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(elements) => Value::Array(elements.into_iter().map(sorted).collect()),
        other => other,
    }
}
