use std::fmt::{self, Write};

use headwater_core::{Error, NewEvent};
use jsonschema::Validator;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// Failures that one refusal tells: enough to mend a record at once, and no flood.
const MOST_FAILURES: usize = 10;

/// What is shown of one failure, which holds the offending value.
const FAILURE_BYTES: usize = 200;

/// JSON whose objects have each key once: of a key that is there twice, a schema would see one value and a reader maybe the other.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OnceEach).map(Self)
    }
}

struct OnceEach;

impl<'de> Visitor<'de> for OnceEach {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unambiguous(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Unambiguous(value))) = fields.next_entry::<String, _>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the key {name:?} is there twice")));
            }
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

/// A JSON Schema, compiled.
#[derive(Debug)]
pub(super) struct Schema(Validator);

impl Schema {
    /// Compiles a schema, of draft 2020-12 where it names no other. References lead into the schema itself only.
    pub(super) fn compile(schema: &Value) -> headwater_core::Result<Self> {
        jsonschema::options().offline().build(schema).map(Self).map_err(|error| {
            Error::invalid(
                "schema",
                format!("it is no JSON Schema: at {:?}: {error}", error.instance_path().as_str()),
            )
        })
    }

    /// Checks an event's data. What is wrong, with the paths within the data, where it does not meet the schema.
    pub(super) fn check(&self, event: &NewEvent, schema_version: u32) -> Result<(), String> {
        if !event.is_json() {
            return Err(format!(
                "{} is declared with a JSON Schema, and the event's content type is {}; send JSON",
                event.event_type, event.content_type
            ));
        }
        let Unambiguous(data) = serde_json::from_slice(&event.data).map_err(|error| {
            format!("it is no JSON that a schema can be applied to: {error}; correct the data")
        })?;
        if self.0.is_valid(&data) {
            return Ok(());
        }
        let mut message =
            format!("it does not meet the schema of {} (version {schema_version}):", event.event_type);
        let mut failures = self.0.iter_errors(&data);
        for failure in failures.by_ref().take(MOST_FAILURES) {
            let path = failure.instance_path().as_str();
            let text = failure.to_string();
            let cut = &text[..text.floor_char_boundary(FAILURE_BYTES)];
            let dots = if cut.len() < text.len() { "…" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(message, " {}: {cut}{dots};", if path.is_empty() { "/" } else { path });
        }
        if failures.next().is_some() {
            message.push_str(" and more;");
        }
        message.push_str(" correct the data");
        Err(message)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_core::EventType;
    use serde_json::json;

    use super::*;

    fn event(data: &'static str) -> NewEvent {
        NewEvent::json(EventType::new("Paid").unwrap(), data)
    }

    fn schema() -> Schema {
        Schema::compile(&json!({
            "type": "object",
            "required": ["amount"],
            "properties": {"amount": {"type": "string"}, "lines": {"items": {"type": "integer"}}},
            "additionalProperties": false
        }))
        .unwrap()
    }

    #[test]
    fn data_that_fails_says_where() {
        #[track_caller]
        fn check(data: &'static str, faults: &[&str]) {
            let message = schema().check(&event(data), 2).unwrap_err();
            for fault in faults {
                assert!(message.contains(fault), "{message}");
            }
        }
        assert_eq!(schema().check(&event(r#"{"amount":"1.10","lines":[1,2]}"#), 2), Ok(()));
        check(
            r#"{"amount":1.1,"lines":[1,"x"]}"#,
            &["schema of Paid (version 2)", " /amount: 1.1 is not", " /lines/1: \"x\" is not"],
        );
        check("{}", &[" /: \"amount\" is a required property"]);
        check(r#"{"amount":"1","x":1}"#, &["'x' was unexpected"]);
        check("{", &["no JSON that a schema can be applied to", "EOF"]);
        check(r#"{"amount":1,"amount":"1"}"#, &["the key \"amount\" is there twice at line 1 column 25"]);
        check(r#"{"amount":"1","lines":[{"a":1,"\u0061":2}]}"#, &["the key \"a\" is there twice"]);
        check(
            r#"{"amount":"1","lines":["a","b","c","d","e","f","g","h","i","j","k"]}"#,
            &["/lines/9", "and more"],
        );
        let plain = NewEvent { content_type: "text/plain".into(), data: Bytes::new(), ..event("1") };
        assert!(schema().check(&plain, 1).unwrap_err().contains("content type is text/plain"));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let error = Schema::compile(&json!({"type": "strin"})).unwrap_err().to_string();
        assert!(error.starts_with("schema: it is no JSON Schema: at \"/type\""), "{error}");
        let error = Schema::compile(&json!({"$ref": "https://example.com/a.json"})).unwrap_err().to_string();
        assert!(error.starts_with("schema: it is no JSON Schema"), "{error}");
    }
}
