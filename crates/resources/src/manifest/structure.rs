//! Whether a value has the structure that a CRD's schema asks for: the subset of OpenAPI v3 that CRDs use.
//!
//! All problems are found, not only the first. As an API server does, fields that the schema does not know are cut off,
//! so that what is left can be looked at further; unlike it, each is a problem.

use std::collections::{HashMap, HashSet};

use regex::Regex;
use serde_json::Value;

use crate::fault::{Path, Problem, suggest};
use crate::manifest::patterns::words;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// All problems, in the order of the value.
    pub(crate) problems: Vec<Problem>,
    /// Whether there are some that leave no doubt-free value: then nothing can be built from it. Unknown fields do not, and neither does
    /// what was surely meant.
    pub(crate) broken: bool,
    patterns: HashMap<String, Option<Regex>>,
}

/// Checks `value` against `schema`, and cuts off fields that it does not know.
pub(crate) fn check(value: &mut Value, schema: &Value, path: &Path) -> Findings {
    let mut findings = Findings::default();
    findings.value(value, schema, path);
    findings
}

impl Findings {
    fn broken(&mut self, path: &Path, message: impl Into<String>, remedy: impl Into<String>) {
        self.broken = true;
        self.problems.push(Problem::new(path.clone(), message, remedy));
    }

    /// A problem of which it is plain what was meant: the rest is looked at as if it stood there.
    fn corrected(&mut self, value: &mut Value, meant: Value, path: &Path, message: String, remedy: String) {
        self.problems.push(Problem::new(path.clone(), message, remedy));
        *value = meant;
    }

    fn value(&mut self, value: &mut Value, schema: &Value, path: &Path) {
        if value.is_null() {
            if schema.get("type").is_some() {
                self.broken(path, "has no value", "give one, or remove the line");
            }
            return;
        }
        if schema["x-kubernetes-int-or-string"] == true {
            if !value.is_string() && !value.is_i64() && !value.is_u64() {
                self.broken(path, format!("is {}, but a text or whole number is needed", what(value)), "");
            }
            return;
        }
        let wanted = schema["type"].as_str().unwrap_or_default();
        if !is_of(value, wanted) {
            let (needed, remedy) = match wanted {
                "string" if value.is_number() || value.is_boolean() => {
                    ("a text", format!("quote it: \"{value}\""))
                }
                "string" => ("a text", String::new()),
                "integer" => ("a whole number", remove_quotes(value)),
                "number" => ("a number", remove_quotes(value)),
                "boolean" => ("true or false", remove_quotes(value)),
                "array" => (
                    "a list",
                    format!("write {}: [...], or one element a line after \"- \"", path.last_name()),
                ),
                "object" => ("a map", format!("write fields below {}:", path.last_name())),
                other => (other, String::new()),
            };
            let message = format!("is {}, but {needed} is needed", what(value));
            return match meant(value, wanted) {
                Some(meant) => self.corrected(value, meant, path, message, remedy),
                None => self.broken(path, message, remedy),
            };
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let allowed: Vec<&str> = allowed.iter().filter_map(Value::as_str).collect();
            let given = value.as_str().unwrap_or_default();
            let remedy = match suggest(given, allowed.iter().copied()) {
                near if near.starts_with("did") => near,
                _ => String::new(),
            };
            let message = format!("\"{given}\" is none of {}", allowed.join(", "));
            let meant = allowed.into_iter().find(|name| remedy.contains(&format!("\"{name}\"")));
            return match meant.map(Value::from) {
                Some(meant) => self.corrected(value, meant, path, message, remedy),
                None => self.broken(path, message, remedy),
            };
        }
        match value {
            Value::String(text) => self.text(text, schema, path),
            Value::Number(_) => self.number(value, schema, path),
            Value::Array(elements) => self.list(elements, schema, path),
            Value::Object(_) => self.map(value, schema, path),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn text(&mut self, text: &str, schema: &Value, path: &Path) {
        let length = text.chars().count() as u64;
        if let Some(least) = schema["minLength"].as_u64()
            && length < least
        {
            if length == 0 {
                return self.broken(path, "is empty", purpose(schema));
            }
            return self.broken(path, format!("has {length} characters; at least {least} are needed"), "");
        }
        if let Some(most) = schema["maxLength"].as_u64()
            && length > most
        {
            return self.broken(
                path,
                format!("has {length} characters; at most {most} are allowed"),
                "shorten it",
            );
        }
        if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
            return self.broken(
                path,
                format!("\"{text}\" is no time"),
                "write it as \"2026-01-31T12:00:00Z\"",
            );
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            let regex = self.patterns.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
            if regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
                let form = match words(pattern) {
                    Some(words) => format!("write {words}"),
                    None => purpose(schema),
                };
                self.broken(path, format!("\"{text}\" is not allowed here"), form);
            }
        }
    }

    fn number(&mut self, value: &Value, schema: &Value, path: &Path) {
        // Bounds and values are whole numbers of at most 64 bits, so these comparisons are exact.
        let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
        let Some(number) = number else { return };
        if let Some(least) = schema["minimum"].as_i64()
            && number < i128::from(least)
        {
            return self.broken(path, format!("{number} is too small"), format!("give at least {least}"));
        }
        let most = schema["maximum"].as_i64().or_else(|| match schema["format"].as_str() {
            Some("int32") => Some(i64::from(i32::MAX)),
            Some("int64") => Some(i64::MAX),
            _ => None,
        });
        if let Some(most) = most
            && number > i128::from(most)
        {
            self.broken(path, format!("{number} is too large"), format!("give at most {most}"));
        }
    }

    fn list(&mut self, elements: &mut [Value], schema: &Value, path: &Path) {
        let count = elements.len() as u64;
        if let Some(least) = schema["minItems"].as_u64()
            && count < least
        {
            self.broken(path, format!("has {count} elements; at least {least} needed"), purpose(schema));
        }
        if let Some(most) = schema["maxItems"].as_u64()
            && count > most
        {
            return self.broken(path, format!("has {count} elements; at most {most} are allowed"), "");
        }
        for (index, element) in elements.iter_mut().enumerate() {
            self.value(element, &schema["items"], &path.index(index));
        }
        self.duplicates(elements, schema, path);
    }

    fn duplicates(&mut self, elements: &[Value], schema: &Value, path: &Path) {
        let mut seen: HashMap<String, usize> = HashMap::new();
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => {
                for (index, element) in elements.iter().enumerate() {
                    if let Some(first) = seen.insert(element.to_string(), index) {
                        self.broken(
                            &path.index(index),
                            format!("{element} is also element {first} of the list"),
                            "remove one of them",
                        );
                    }
                }
            }
            Some("map") => {
                let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                for (index, element) in elements.iter().enumerate() {
                    let Some(values) = keys.iter().map(|key| element.get(key)).collect::<Option<Vec<_>>>()
                    else {
                        continue;
                    };
                    let name = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    if let Some(first) = seen.insert(name.clone(), index) {
                        self.broken(
                            &path.index(index).field(keys[0]),
                            format!("{name} is also the {} of {path}[{first}]", keys.join(", ")),
                            "give each its own",
                        );
                    }
                }
            }
            _ => {}
        }
    }

    fn map(&mut self, value: &mut Value, schema: &Value, path: &Path) {
        let Value::Object(fields) = value else { return };
        let none = serde_json::Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let count = fields.len() as u64;
        if let Some(least) = schema["minProperties"].as_u64()
            && count < least
        {
            self.broken(path, "is empty", purpose(schema));
        }
        if let Some(most) = schema["maxProperties"].as_u64()
            && count > most
        {
            self.broken(path, format!("has {count} entries; at most {most} are allowed"), "");
        }
        let required = || schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let mut unknown = HashSet::new();
        for (name, field) in fields.iter_mut() {
            let path = path.field(name);
            if let Some(property) = properties.get(name) {
                let before = std::mem::take(&mut self.broken);
                self.value(field, property, &path);
                // Without it, the rest can be looked at: nothing else hangs on a single value that need not be there.
                if self.broken && !field.is_object() && !field.is_array() && !required().any(|it| it == name)
                {
                    unknown.insert(name.clone());
                }
                self.broken |= before;
            } else if schema["additionalProperties"].is_object() {
                self.value(field, &schema["additionalProperties"], &path);
            } else if schema["x-kubernetes-preserve-unknown-fields"] != true {
                let remedy = suggest(name, properties.keys().map(String::as_str));
                self.problems.push(Problem::new(path, "no such field", remedy).of_key());
                unknown.insert(name.clone());
            }
        }
        fields.retain(|name, _| !unknown.contains(name));
        for name in required() {
            let defaulted = properties.get(name).is_some_and(|property| property.get("default").is_some());
            if !fields.contains_key(name) && !defaulted {
                let purpose = properties.get(name).map(purpose).unwrap_or_default();
                let remedy =
                    if purpose.is_empty() { "add it".to_owned() } else { format!("add it; {purpose}") };
                self.broken = true;
                self.problems.push(Problem::new(path.field(name), "is missing", remedy).of_key());
            }
        }
    }
}

/// What a field is for, the first sentence of its description: that says best what to write.
fn purpose(schema: &Value) -> String {
    let description = schema["description"].as_str().unwrap_or_default();
    let sentence = description.split(". ").next().unwrap_or_default().trim_end_matches('.');
    let mut characters = sentence.chars();
    match (characters.next(), characters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            format!("it is {}{}", first.to_lowercase(), &sentence[first.len_utf8()..])
        }
        (Some(_), _) => format!("it is {sentence}"),
        _ => String::new(),
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    match wanted {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

/// What was surely meant by a value of another type: a text without quotes, a number in quotes.
fn meant(value: &Value, wanted: &str) -> Option<Value> {
    match (value, wanted) {
        (Value::Number(number), "string") => Some(number.to_string().into()),
        (Value::Bool(value), "string") => Some(value.to_string().into()),
        (Value::String(text), _) => Some(super::plain::resolve(text)).filter(|plain| is_of(plain, wanted)),
        _ => None,
    }
}

fn what(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text \"{text}\""),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
    }
}

fn remove_quotes(value: &Value) -> String {
    let plain = value.as_str().map(super::plain::resolve);
    match plain {
        Some(Value::Number(_) | Value::Bool(_)) => "remove the quotes".to_owned(),
        _ => String::new(),
    }
}
