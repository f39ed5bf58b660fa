use std::fmt::Write;

use headwater_core::{Error, NewEvent, Result};
use jsonschema::Validator;
use serde_json::Value;

/// Failures that one refusal tells: enough to mend a record at once, and no flood.
const MOST_FAILURES: usize = 10;

/// What is shown of one failure, which holds the offending value.
const FAILURE_BYTES: usize = 200;

/// A JSON Schema, compiled.
#[derive(Debug)]
pub(super) struct Schema(Validator);

impl Schema {
    /// Compiles a schema, of draft 2020-12 where it names no other. References lead into the schema itself only.
    pub(super) fn compile(schema: &Value) -> Result<Self> {
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
        let data: Value =
            serde_json::from_slice(&event.data).map_err(|error| format!("not JSON: {error}; send JSON"))?;
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
        check("{", &["not JSON"]);
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
