//! What an API server does to a resource after it has looked at its structure: defaults, then the schema's own rules.

use headwater_expr::{Expression, Scope, Type, Value as ExprValue, Variables};
use serde_json::{Map, Value};

use crate::fault::{Path, Problem};

/// Puts in the defaults of fields that are absent, all the way down.
pub(crate) fn apply_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                if let Some(default) = property.get("default")
                    && !fields.contains_key(name)
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for (name, field) in fields.iter_mut() {
                let inner = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                if inner.is_object() {
                    apply_defaults(field, inner);
                }
            }
        }
        Value::Array(elements) => {
            for element in elements {
                apply_defaults(element, &schema["items"]);
            }
        }
        _ => {}
    }
}

/// Evaluates the schema's `x-kubernetes-validations`, all the way down. Rules about a change (`oldSelf`) need an older
/// state, and are an API server's alone.
pub(crate) fn check_rules(value: &Value, schema: &Value, path: &Path, problems: &mut Vec<Problem>) {
    let rules = schema["x-kubernetes-validations"].as_array();
    if let Some(rules) = rules {
        let own = known(value, schema);
        for rule in rules {
            check_rule(&own, rule, path, problems);
        }
    }
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let inner = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                if inner.is_object() {
                    check_rules(field, inner, &path.field(name), problems);
                }
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                check_rules(element, &schema["items"], &path.index(index), problems);
            }
        }
        _ => {}
    }
}

fn check_rule(own: &Value, rule: &Value, path: &Path, problems: &mut Vec<Problem>) {
    let source = rule["rule"].as_str().unwrap_or_default();
    if source.contains("oldSelf") {
        return;
    }
    let message =
        rule["message"].as_str().map_or_else(|| format!("does not meet the rule {source}"), str::to_owned);
    // A rule about the name stands on the whole resource: an API server has no schema of metadata to hold it.
    let (path, message) = match message.strip_prefix("metadata.name ") {
        Some(rest) => (path.field("metadata").field("name"), rest.to_owned()),
        None => (path.clone(), message),
    };
    match holds(source, own) {
        Ok(true) => {}
        Ok(false) => problems.push(Problem::new(path, message, "")),
        Err(error) => problems.push(Problem::new(path, message, error)),
    }
}

fn holds(source: &str, own: &Value) -> Result<bool, String> {
    let scope = Scope::new().with("self", Type::Any).with_escaped_names();
    let expression = Expression::compile_as(source, &scope, &Type::Bool)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    let value = ExprValue::try_from(own).map_err(|error| error.to_string())?;
    let variables = Variables::new().with("self", value);
    match expression.evaluate(&variables) {
        Ok(ExprValue::Bool(holds)) => Ok(holds),
        Ok(other) => Err(format!("the rule gave {other}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The value as Kubernetes shows it to CEL: nothing that the schema does not know.
fn known(value: &Value, schema: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let known = fields.iter().filter_map(|(name, field)| {
                let inner = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                inner.is_object().then(|| (name.clone(), known(field, inner)))
            });
            Value::Object(known.collect::<Map<_, _>>())
        }
        Value::Array(elements) => {
            Value::Array(elements.iter().map(|element| known(element, &schema["items"])).collect())
        }
        other => other.clone(),
    }
}
