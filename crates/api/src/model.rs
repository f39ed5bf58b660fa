//! The shapes of the HTTP/JSON API, as `/openapi.json` describes them.
//!
//! An event's JSON data and its metadata travel as they were written, byte for byte: `1.10` stays `1.10`. Positions are strings,
//! since they may pass what a double holds. Data of another content type travels as base64 in `data_base64`, beside its
//! `content_type`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use headwater_core::{
    Append, Appended, Error, EventType, Expected, Metadata, NewEvent, RecordedEvent, Result, StreamId,
    Version,
};
use headwater_log::Direction;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{convert, expected};

/// The body of an append.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppendBody<'a> {
    #[serde(default)]
    expected: ExpectedBody,
    #[serde(borrow)]
    events: Vec<NewEventBody<'a>>,
}

/// One event of an append.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEventBody<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(default)]
    schema_version: Option<u32>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
}

/// Makes a `null` that is there something else than nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Debug)]
struct ExpectedBody(Expected);

impl Default for ExpectedBody {
    fn default() -> Self {
        Self(Expected::Any)
    }
}

impl<'de> Deserialize<'de> for ExpectedBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrVersion;

        impl Visitor<'_> for TextOrVersion {
            type Value = ExpectedBody;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"any\", \"no_stream\", \"exists\", or a version such as 3, in `expected`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ExpectedBody, E> {
                match expected::from_text(text) {
                    Ok(Expected::Version(_)) | Err(_) => {
                        Err(E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                    Ok(expected) => Ok(ExpectedBody(expected)),
                }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ExpectedBody, E> {
                convert::version_from(number, "expected")
                    .map(|version| ExpectedBody(Expected::Version(version)))
                    .map_err(E::custom)
            }
        }

        deserializer.deserialize_any(TextOrVersion)
    }
}

/// Reads the body of an append to `stream_id`. Data and metadata are as they were written: slices of `body`, where they are most of it.
///
/// # Errors
/// `Invalid` with line and column where it is not JSON or not of this shape, or with the path of the field.
pub fn parse_append(stream_id: StreamId, body: &Bytes) -> Result<Append> {
    let parsed: AppendBody<'_> = serde_json::from_slice(body).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "not an append",
            _ => "not JSON",
        };
        Error::invalid(
            "body",
            format!(
                "{what}: {error}; send {{\"expected\": \"any\", \"events\": [{{\"type\": \"OrderCreated\", \"data\": {{}}}}]}}"
            ),
        )
    })?;
    let events = parsed
        .events
        .iter()
        .enumerate()
        .map(|(index, event)| {
            new_event(event, body).map_err(|error| error.within(&format!("events[{index}]")))
        })
        .collect::<Result<_>>()?;
    let mut append = Append { stream_id, expected: parsed.expected.0, events };
    // A slice holds all of its body, which may be mostly white space: the queue would count a part of what it keeps.
    if append.size() < body.len() / 2 {
        for event in &mut append.events {
            event.data = Bytes::copy_from_slice(&event.data);
            event.metadata = Metadata::from_stored(Bytes::copy_from_slice(event.metadata.as_bytes()));
        }
    }
    Ok(append)
}

fn new_event(event: &NewEventBody<'_>, body: &Bytes) -> Result<NewEvent> {
    let raw = |raw: &RawValue| body.slice_ref(raw.get().as_bytes());
    let data = match (event.data, &event.data_base64) {
        (Some(data), None) => raw(data),
        (None, Some(text)) => STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(|error| {
            Error::invalid(
                "data_base64",
                format!("not base64: {error}; send the standard alphabet with padding"),
            )
        })?,
        (Some(_), Some(_)) => {
            return Err(Error::invalid(
                "data_base64",
                "data is there as well; send JSON in data, or other bytes in data_base64 with their content_type",
            ));
        }
        (None, None) => {
            return Err(Error::invalid(
                "data",
                "it is missing; send JSON in data, or other bytes in data_base64 with their content_type",
            ));
        }
    };
    let written_as_json = event.data.is_some();
    let event = NewEvent {
        id: match &event.id {
            Some(id) => convert::event_id(id)?,
            None => Uuid::now_v7(),
        },
        event_type: EventType::new(&event.event_type)?,
        schema_version: event.schema_version.into(),
        content_type: event.content_type.as_deref().unwrap_or(NewEvent::JSON).to_owned(),
        data,
        metadata: event
            .metadata
            .map_or_else(|| Ok(Metadata::empty()), |metadata| Metadata::new(raw(metadata)))?,
    };
    if written_as_json && !event.is_json() {
        return Err(Error::invalid(
            "data",
            format!(
                "it is JSON, but content_type is {}; send the content's bytes in data_base64, or leave content_type out",
                event.content_type
            ),
        ));
    }
    Ok(event)
}

/// What an append answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppendedBody {
    /// Where the events are.
    pub stream_id: String,
    /// Version of the last event.
    pub version: u64,
    /// The partition of the stream id.
    pub partition: u16,
    /// Position of the last event.
    #[serde(with = "text")]
    pub position: u64,
    /// The place just after these events.
    pub token: String,
}

impl AppendedBody {
    /// The answer to an append to `stream_id`.
    pub fn new(stream_id: &StreamId, appended: &Appended) -> Self {
        Self {
            stream_id: stream_id.to_string(),
            version: appended.version.get(),
            partition: appended.partition.get(),
            position: appended.position.get(),
            token: appended.token().to_string(),
        }
    }
}

/// An event.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventBody<'a> {
    /// A UUID.
    pub id: Uuid,
    /// The aggregate.
    #[serde(borrow)]
    pub stream_id: Cow<'a, str>,
    /// What happened.
    #[serde(rename = "type", borrow)]
    pub event_type: Cow<'a, str>,
    /// Its number within the stream id.
    pub version: u64,
    /// Its partition.
    pub partition: u16,
    /// Its number within the partition.
    #[serde(with = "text")]
    pub position: u64,
    /// The version of the data's shape.
    pub schema_version: u32,
    /// Only where it is not `application/json`.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Cow<'a, str>>,
    /// JSON data, as it was written.
    #[serde(default, borrow, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a RawValue>,
    /// Data that is not JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
    /// The metadata object, as it was written.
    #[serde(borrow)]
    pub metadata: &'a RawValue,
    /// When the log took it: RFC 3339, UTC, always with six digits of a second, so that texts sort as times do.
    #[serde(with = "micros")]
    pub recorded_at: jiff::Timestamp,
}

impl<'a> EventBody<'a> {
    /// The body that shows `event`.
    ///
    /// # Errors
    /// `Corrupt` when data or metadata that were JSON when they were stored are not now.
    pub fn new(event: &'a RecordedEvent) -> Result<Self> {
        let raw = |what: &str, bytes: &'a [u8]| {
            serde_json::from_slice::<&RawValue>(bytes).map_err(|error| {
                Error::corrupt(format!(
                    "the {what} of event {} at partition {}, position {} is not JSON any more: {error}",
                    event.id, event.partition, event.position
                ))
            })
        };
        let (data, data_base64) = if event.is_json() {
            (Some(raw("data", &event.data)?), None)
        } else {
            (None, Some(STANDARD.encode(&event.data)))
        };
        Ok(Self {
            id: event.id,
            stream_id: Cow::Borrowed(event.stream_id.as_str()),
            event_type: Cow::Borrowed(event.event_type.as_str()),
            version: event.version.get(),
            partition: event.partition.get(),
            position: event.position.get(),
            schema_version: event.schema_version,
            content_type: (event.content_type != NewEvent::JSON)
                .then_some(Cow::Borrowed(event.content_type.as_str())),
            data,
            data_base64,
            metadata: raw("metadata", event.metadata.as_bytes())?,
            recorded_at: event.recorded_at,
        })
    }
}

/// A page of events of the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventsBody<'a> {
    /// In position order within each partition.
    #[serde(borrow)]
    pub events: Vec<EventBody<'a>>,
    /// Where to read on: a token.
    pub next: String,
    /// Whether the log ended here when it was read.
    pub caught_up: bool,
}

/// A page of events of one stream id.
#[derive(Debug, Serialize, Deserialize)]
pub struct StreamEventsBody<'a> {
    /// In the direction asked for.
    #[serde(borrow)]
    pub events: Vec<EventBody<'a>>,
    /// Where to read on: a `from_version`. Backwards, 0 when all has been read.
    #[serde(with = "text")]
    pub next: u64,
    /// The stream id's version; 0: it has no events.
    pub version: u64,
}

/// Where a stream id stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamBody {
    /// Which.
    pub stream_id: String,
    /// Its partition.
    pub partition: u16,
    /// Version of its last event.
    pub version: u64,
    /// Position of its last event.
    #[serde(with = "text")]
    pub position: u64,
    /// When its last event was recorded.
    #[serde(with = "micros")]
    pub recorded_at: jiff::Timestamp,
}

/// Where the log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadBody {
    /// The log's id.
    pub log_id: Uuid,
    /// The place after all events.
    pub token: String,
    /// By partition.
    pub partitions: Vec<PartitionHeadBody>,
}

/// Where a partition ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionHeadBody {
    /// Which.
    pub partition: u16,
    /// Position of its last event; 0: there is none.
    #[serde(with = "text")]
    pub position: u64,
    /// When its last event was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "micros::option")]
    pub recorded_at: Option<jiff::Timestamp>,
}

/// How the partitions of a log stand, as one of its event stores knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionsBody {
    /// The log's id.
    pub log_id: Uuid,
    /// By partition.
    pub partitions: Vec<PartitionBody>,
}

/// How a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionBody {
    /// Which.
    pub partition: u16,
    /// Position of its last event; 0: there is none.
    #[serde(with = "text")]
    pub position: u64,
    /// The fencing number of whoever writes it.
    #[serde(with = "text")]
    pub epoch: u64,
    /// How far it is on the bus, where this event store relays it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayBody>,
}

/// How far a partition is on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayBody {
    /// Position of the last event that the bus has.
    #[serde(with = "text")]
    pub position: u64,
    /// Why nothing gets there, where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A number as text: JSON's readers keep numbers as doubles.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A time with all its microseconds.
mod micros {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{time:.6}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }

    /// As above, where there may be none.
    pub(super) mod option {
        use super::{Deserialize, Deserializer, Serializer, Timestamp};

        #[allow(clippy::ref_option, reason = "serde's signature")]
        pub(crate) fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}

/// The `next` of a page of one stream id, by what was asked for and the version of the last event given.
pub fn next_version(direction: Direction, from: Option<Version>, last_given: Option<Version>) -> u64 {
    match (direction, last_given) {
        (Direction::Forwards, Some(last)) => last.get() + 1,
        (Direction::Forwards, None) => from.map_or(1, |from| from.get().max(1)),
        (Direction::Backwards, Some(last)) => last.get().saturating_sub(1),
        (Direction::Backwards, None) => 0,
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::{Partition, Position};

    use super::*;

    fn parse(body: &str) -> Result<Append> {
        parse_append(StreamId::new("order-1").unwrap(), &Bytes::copy_from_slice(body.as_bytes()))
    }

    fn recorded(event: NewEvent) -> RecordedEvent {
        RecordedEvent {
            id: event.id,
            stream_id: StreamId::new("order-1").unwrap(),
            event_type: event.event_type,
            version: Version::new(1),
            partition: Partition::ZERO,
            position: Position::MAX,
            schema_version: event.schema_version.get(),
            content_type: event.content_type,
            data: event.data,
            metadata: event.metadata,
            recorded_at: "2026-01-02T03:04:05.00002Z".parse().unwrap(),
        }
    }

    /// What a writer wrote is what a reader reads, to the byte.
    #[test]
    fn json_is_kept_as_it_was_written() {
        for data in ["{ \"amount\":1.10, \"n\" : 12345678901234567890123 }", "null", "[1e400]", "\"\\u00fc\""]
        {
            let append = parse(&format!(
                "{{\"expected\":3,\"events\":[{{\"type\":\"A\",\"metadata\":{{ \"x\":1.0}},\"data\": {data} }}]}}"
            ))
            .unwrap();
            assert_eq!(append.expected, Expected::Version(Version::new(3)));
            let event = recorded(append.events[0].clone());
            assert_eq!(event.data, data);
            let json = serde_json::to_string(&EventBody::new(&event).unwrap()).unwrap();
            assert!(json.contains(&format!("\"data\":{data},\"metadata\":{{ \"x\":1.0}}")), "{json}");
            assert!(json.contains("\"position\":\"9223372036854775807\""), "{json}");
            assert!(json.contains("\"recorded_at\":\"2026-01-02T03:04:05.000020Z\""), "{json}");
            let back: EventBody<'_> = serde_json::from_str(&json).unwrap();
            assert_eq!(back.data.unwrap().get(), data);
        }
    }

    #[test]
    fn a_small_event_does_not_keep_a_large_body() {
        let event = r#"{"type":"A","data":[1],"metadata":{"a":1}}"#;
        let body = Bytes::from(format!("{{\"events\":[{event}]}}{}", " ".repeat(1 << 20)));
        let append = parse_append(StreamId::new("order-1").unwrap(), &body).unwrap();
        assert_eq!(append.events[0].data, "[1]");
        assert_eq!(append.events[0].metadata.as_bytes(), "{\"a\":1}");
        assert!(body.is_unique(), "the event holds on to the body");
    }

    #[test]
    fn other_bytes_travel_as_base64() {
        let append = parse(
            r#"{"events":[{"type":"A","content_type":"application/protobuf","data_base64":"/wA=","schema_version":2}]}"#,
        )
        .unwrap();
        assert_eq!(append.expected, Expected::Any);
        let event = recorded(append.events[0].clone());
        assert_eq!((event.data.as_ref(), event.schema_version), (&[0xff, 0][..], 2));
        let json = serde_json::to_value(EventBody::new(&event).unwrap()).unwrap();
        assert_eq!(json["data_base64"], "/wA=");
        assert_eq!(json["content_type"], "application/protobuf");
        assert!(json.get("data").is_none());
    }

    #[test]
    fn faults_name_their_place() {
        #[track_caller]
        fn check(body: &str, faults: &[&str]) {
            let error = parse(body).unwrap_err().to_string();
            for fault in faults {
                assert!(error.contains(fault), "{body}: {error}");
            }
        }
        check("{\n\"events\":[}", &["body: not JSON", "line 2 column 11"]);
        check("", &["body: not JSON", "line 1 column 0"]);
        check(r#"{"event":[]}"#, &["body: not an append", "unknown field `event`", "line 1 column 8"]);
        check(r#"{"events":[{"type":"A","data":1,"dat":2}]}"#, &["unknown field `dat`"]);
        check(r#"{"events":[{"data":1}]}"#, &["missing field `type`"]);
        check(
            r#"{"expected":"3","events":[]}"#,
            &["expected \"any\", \"no_stream\", \"exists\", or a version"],
        );
        check(r#"{"expected":-1,"events":[]}"#, &["or a version such as 3"]);
        check(r#"{"expected":1.5,"events":[]}"#, &["or a version such as 3"]);
        check(r#"{"events":[{"type":"A"}]}"#, &["events[0].data: it is missing"]);
        check(r#"{"events":[{"type":"","data":1}]}"#, &["events[0].type: the event type is empty"]);
        check(
            r#"{"events":[{"type":"A","data":1,"data_base64":""}]}"#,
            &["events[0].data_base64: data is there as well"],
        );
        check(
            r#"{"events":[{"type":"A","data":"hello","content_type":"text/plain"}]}"#,
            &["events[0].data: it is JSON, but content_type is text/plain; send", "data_base64"],
        );
        check(r#"{"events":[{"type":"A","data_base64":"?"}]}"#, &["events[0].data_base64: not base64"]);
        check(
            r#"{"events":[{"type":"A","data":1},{"id":"1","type":"A","data":1}]}"#,
            &["events[1].id: \"1\" is no UUID"],
        );
        check(
            r#"{"events":[{"type":"A","data":1,"metadata":[]}]}"#,
            &["events[0].metadata: not a JSON object"],
        );
    }

    #[test]
    fn stored_data_that_is_not_json_any_more_is_corruption() {
        let mut event = recorded(NewEvent::json(EventType::new("A").unwrap(), &b"{}"[..]));
        event.data = Bytes::from_static(b"{");
        assert!(matches!(EventBody::new(&event), Err(Error::Corrupt { .. })));
    }

    #[test]
    fn next_is_where_to_read_on() {
        use Direction::{Backwards, Forwards};
        for (direction, from, last, next) in [
            (Forwards, None, Some(5), 6),
            (Forwards, None, None, 1),
            (Forwards, Some(9), None, 9),
            (Backwards, None, Some(5), 4),
            (Backwards, Some(3), Some(1), 0),
            (Backwards, None, None, 0),
        ] {
            assert_eq!(next_version(direction, from.map(Version::new), last.map(Version::new)), next);
        }
    }
}
