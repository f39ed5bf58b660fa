//! One line of a load.

use bytes::Bytes;
use headwater_core::{
    Append, AppendLimits, Error, EventType, Expected, Metadata, NewEvent, Result, StreamId,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// An event to be stored, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    pub(super) stream_id: StreamId,
    pub(super) expected: Expected,
    pub(super) event: NewEvent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    stream_id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(borrow)]
    data: &'a RawValue,
    id: Option<Uuid>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    expected: Option<ExpectedField>,
    content_type: Option<String>,
    schema_version: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "\"any\", \"no_stream\", \"exists\", or a version")]
enum ExpectedField {
    Word(String),
    Version(u64),
}

/// The namespace of the ids of lines that have none.
const LINES: Uuid = Uuid::from_u128(0x6f0f_7a3c_55d1_4c1e_9a35_7d0c_92ab_4e11);

/// What the ids of lines without one are made from: equal for equal names.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadId(Uuid);

impl LoadId {
    pub(super) fn new(name: &str) -> Self {
        Self(Uuid::new_v5(&LINES, name.as_bytes()))
    }

    fn event_id(self, number: u64) -> Uuid {
        Uuid::new_v5(&self.0, &number.to_be_bytes())
    }
}

/// Reads line `number`.
///
/// # Errors
/// `Invalid` that names the field.
pub(super) fn parse(text: &[u8], number: u64, load: LoadId) -> Result<Line> {
    let fields: Fields<'_> = serde_json::from_slice(text).map_err(|error| {
        // The line and column of the document are those of the line.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        Error::invalid(format!("column {}", error.column()), what)
    })?;
    let content_type = fields.content_type.unwrap_or_else(|| NewEvent::JSON.to_owned());
    let mut event = NewEvent {
        id: fields.id.unwrap_or_else(|| load.event_id(number)),
        event_type: EventType::new(&fields.event_type)?,
        schema_version: fields.schema_version.into(),
        content_type,
        data: Bytes::copy_from_slice(fields.data.get().as_bytes()),
        metadata: match fields.metadata {
            Some(metadata) => Metadata::new(Bytes::copy_from_slice(metadata.get().as_bytes()))?,
            None => Metadata::empty(),
        },
    };
    if !event.is_json() {
        let text: String = serde_json::from_str(fields.data.get()).map_err(|_| {
            Error::invalid(
                "data",
                format!("content of type {} is given as a JSON string", event.content_type),
            )
        })?;
        event.data = text.into();
    }
    let expected = match fields.expected {
        None => Expected::Any,
        Some(ExpectedField::Word(word)) => headwater_api::expected::from_text(&word)?,
        Some(ExpectedField::Version(version)) => headwater_api::expected::from_text(&version.to_string())?,
    };
    let line = Line { number, stream_id: StreamId::new(&fields.stream_id)?, expected, event };
    // The same check that the server makes, so that the line is named before anything is sent.
    one(&line).check(&AppendLimits::default()).map_err(|error| match error {
        Error::Invalid { field, message } => {
            Error::Invalid { field: field.trim_start_matches("events[0].").to_owned(), message }
        }
        other => other,
    })?;
    Ok(line)
}

/// A request that stores only `line`.
pub(super) fn one(line: &Line) -> Append {
    Append { stream_id: line.stream_id.clone(), expected: line.expected, events: vec![line.event.clone()] }
}

#[cfg(test)]
mod tests {
    use headwater_core::{SchemaVersion, Version};

    use super::*;

    fn read(text: &str) -> Result<Line> {
        parse(text.as_bytes(), 7, LoadId::new("a"))
    }

    #[test]
    fn a_line_is_an_event() {
        let line = read(r#"{"stream_id":"order-1","type":"OrderCreated","data":{"amount":1.50}}"#).unwrap();
        assert_eq!((line.number, line.stream_id.as_str(), line.expected), (7, "order-1", Expected::Any));
        assert_eq!(line.event.data.as_ref(), br#"{"amount":1.50}"#, "kept as it came");
        let line = read(r#"{"stream_id":"a","type":"b","data":1,"id":"6c26ee4b-9a4c-4a58-a1f5-3a8b6f1ac7e2","metadata":{"c":2},"expected":3,"schema_version":2}"#)
            .unwrap();
        assert_eq!(line.expected, Expected::Version(Version::new(3)));
        assert_eq!(line.event.schema_version, SchemaVersion::Given(2));
        assert_eq!(line.event.metadata.as_bytes().as_ref(), br#"{"c":2}"#);
        let line = read(
            r#"{"stream_id":"a","type":"b","data":"x","content_type":"text/plain","expected":"no_stream"}"#,
        )
        .unwrap();
        assert_eq!((line.event.data.as_ref(), line.expected), (&b"x"[..], Expected::NoStream));
    }

    #[test]
    fn ids_are_made_from_the_load_and_the_line() {
        let text = br#"{"stream_id":"a","type":"b","data":1}"#;
        let id = |load: &str, number| parse(text, number, LoadId::new(load)).unwrap().event.id;
        assert_eq!(id("a", 1), id("a", 1));
        assert_ne!(id("a", 1), id("a", 2));
        assert_ne!(id("a", 1), id("b", 1));
        // Golden: a load may be resumed by a newer version.
        assert_eq!(id("a", 1).to_string(), "f9a3567d-d33f-575e-94e6-ac4e628c4376");
    }

    #[test]
    fn what_is_wrong_with_a_line_is_named() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        check("{", "column 1: EOF while parsing");
        check(r#"{"stream_id":"a","type":"b"}"#, "missing field `data`");
        check(r#"{"stream_id":"a","type":"b","data":1,"stream":2}"#, "unknown field `stream`");
        check(r#"{"stream_id":"","type":"b","data":1}"#, "stream_id: the stream id is empty");
        check(
            r#"{"stream_id":"a","type":"b","data":1,"expected":"new"}"#,
            "expected: \"new\" is no expectation",
        );
        check(
            r#"{"stream_id":"a","type":"b","data":1,"expected":-1}"#,
            "\"any\", \"no_stream\", \"exists\", or a version",
        );
        check(r#"{"stream_id":"a","type":"b","data":1,"metadata":[]}"#, "metadata: not a JSON object");
        check(r#"{"stream_id":"a","type":"b","data":1,"id":"x"}"#, "column 45: UUID parsing failed");
        check(
            r#"{"stream_id":"a","type":"b","data":1,"schema_version":0}"#,
            "schema_version: 0 is no schema version",
        );
        check(
            r#"{"stream_id":"a","type":"b","data":1,"content_type":"text/plain"}"#,
            "data: content of type text/plain",
        );
    }
}
