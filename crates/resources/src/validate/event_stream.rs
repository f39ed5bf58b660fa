//! Event streams: JSON Schemas that are some, upcasts that can be evaluated, a bus that can be reached.

use std::collections::HashSet;

use headwater_expr::{Scope, Type};
use serde_json::Value;

use super::{bus, expression};
use crate::event_stream::{EventStream, EventTypeSpec};
use crate::fault::{Path, Problem, suggest};

/// What `type` may say in a JSON Schema.
const JSON_TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// All that is wrong with an event stream.
pub fn event_stream(stream: &EventStream) -> Vec<Problem> {
    let mut problems = Vec::new();
    let spec = Path::root().field("spec");
    bus::bus(&stream.spec, &spec.field("bus"), &mut problems);
    let types = spec.field("eventTypes");
    let mut names = HashSet::new();
    for (index, event_type) in stream.spec.event_types.iter().enumerate() {
        let path = types.index(index);
        if !names.insert(&event_type.name) {
            let message = format!("there is another event type \"{}\"", event_type.name);
            problems.push(Problem::new(path.field("name"), message, "describe each type once"));
        }
        if let Some(schema) = &event_type.schema {
            check_schema(schema, &path.field("schema"), &mut problems);
        }
        upcasts(event_type, &path.field("upcast"), &mut problems);
    }
    problems
}

fn upcasts(event_type: &EventTypeSpec, path: &Path, problems: &mut Vec<Problem>) {
    // The data of an older version is not described.
    let scope = Scope::new().with("event", headwater_expr::event_type(Type::Any));
    for (index, upcast) in event_type.upcast.iter().enumerate() {
        for (field, source) in &upcast.set {
            let path = path.index(index).field("set").field(field);
            expression::compile(source, &scope, &path, problems);
        }
    }
}

/// Checks that `schema` is a JSON Schema that needs nothing from elsewhere.
fn check_schema(schema: &Value, path: &Path, problems: &mut Vec<Problem>) {
    let before = problems.len();
    remote_references(schema, path, problems);
    if problems.len() > before {
        return;
    }
    let Ok(validator) = jsonschema::meta::validator_for(schema) else {
        let message = format!("{} is no known draft of JSON Schema", schema["$schema"]);
        let remedy = "write https://json-schema.org/draft/2020-12/schema, or leave it out";
        return problems.push(Problem::new(path.field("$schema"), message, remedy));
    };
    let mut seen = HashSet::new();
    for error in validator.iter_errors(schema) {
        let pointer = error.instance_path().as_str().to_owned();
        if !seen.insert(pointer.clone()) {
            continue;
        }
        let (message, remedy) = if pointer.ends_with("/type") || pointer.contains("/type/") {
            let given = error.instance().to_string();
            let known = error.instance().as_str().map(|name| suggest(name, JSON_TYPES)).unwrap_or_default();
            (format!("{given} is no type of JSON Schema"), known)
        } else {
            (error.to_string(), "correct the JSON Schema".to_owned())
        };
        problems.push(Problem::new(path.pointer_from(&pointer), message, remedy));
    }
    if problems.len() > before {
        return;
    }
    if let Err(error) = jsonschema::validator_for(schema) {
        let place = path.pointer_from(error.instance_path().as_str());
        problems.push(Problem::new(place, error.to_string(), "correct the JSON Schema"));
    }
}

/// References that lead out of the schema: events would be refused or accepted by what somebody else serves.
fn remote_references(schema: &Value, path: &Path, problems: &mut Vec<Problem>) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                let path = path.field(name);
                match (name.as_str(), field) {
                    ("$ref" | "$dynamicRef", Value::String(reference)) if !reference.starts_with('#') => {
                        let message = format!("\"{reference}\" leads out of the schema");
                        problems.push(Problem::new(
                            path,
                            message,
                            "put it under $defs, and refer to it as \"#/$defs/NAME\"",
                        ));
                    }
                    ("enum" | "const" | "default" | "examples", _) => {}
                    _ => remote_references(field, &path, problems),
                }
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                remote_references(element, &path.index(index), problems);
            }
        }
        _ => {}
    }
}
