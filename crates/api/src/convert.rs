//! Wire to core and back, here and nowhere else. Out is infallible; in checks everything and names the field.

use bytes::Bytes;
use headwater_core::{
    Append, Appended, Error, EventType, Expected, LogId, Metadata, NewEvent, Partition, Position,
    RecordedEvent, Result, StreamId, Token, Version,
};
use headwater_log::{Direction, Filter, StartFrom};
use jiff::Timestamp;
use uuid::Uuid;

use crate::v1;

/// The request that says `append`.
pub fn append_to_wire(append: &Append) -> v1::AppendRequest {
    use v1::expected::Expected as Wire;
    let expected = match append.expected {
        Expected::Any => Wire::Any(()),
        Expected::NoStream => Wire::NoStream(()),
        Expected::Exists => Wire::Exists(()),
        Expected::Version(version) => Wire::Version(version.get()),
    };
    v1::AppendRequest {
        stream_id: append.stream_id.to_string(),
        expected: Some(v1::Expected { expected: Some(expected) }),
        events: append.events.iter().map(new_event_to_wire).collect(),
    }
}

fn new_event_to_wire(event: &NewEvent) -> v1::NewEvent {
    v1::NewEvent {
        id: event.id.to_string(),
        r#type: event.event_type.to_string(),
        data: event.data.clone(),
        metadata: metadata_to_wire(&event.metadata),
        content_type: content_type_to_wire(&event.content_type),
        schema_version: event.schema_version.given().unwrap_or(0),
    }
}

/// The append that a request asks for. Limits are for the log to check.
///
/// # Errors
/// `Invalid` with the path of the field.
pub fn append_from_wire(request: v1::AppendRequest) -> Result<Append> {
    use v1::expected::Expected as Wire;
    let expected = match request.expected {
        None => Expected::Any,
        Some(v1::Expected { expected: None }) => {
            return Err(unknown("expected", "any, no_stream, exists or version, or leave it out for any"));
        }
        Some(v1::Expected { expected: Some(expected) }) => match expected {
            Wire::Any(()) => Expected::Any,
            Wire::NoStream(()) => Expected::NoStream,
            Wire::Exists(()) => Expected::Exists,
            Wire::Version(version) => Expected::Version(version_from(version, "expected.version")?),
        },
    };
    let stream_id = StreamId::new(request.stream_id)?;
    let events = request
        .events
        .into_iter()
        .enumerate()
        .map(|(index, event)| {
            new_event_from_wire(event).map_err(|error| error.within(&format!("events[{index}]")))
        })
        .collect::<Result<_>>()?;
    Ok(Append { stream_id, expected, events })
}

/// A choice that is there, but nothing that is known is chosen: what a newer client may say must not be taken for a default.
fn unknown(field: &str, choices: &str) -> Error {
    Error::invalid(
        field,
        format!(
            "it says nothing that this server knows; give {choices}; a newer client may need a newer server"
        ),
    )
}

fn new_event_from_wire(event: v1::NewEvent) -> Result<NewEvent> {
    Ok(NewEvent {
        id: if event.id.is_empty() { Uuid::now_v7() } else { event_id(&event.id)? },
        event_type: EventType::new(event.r#type)?,
        schema_version: (event.schema_version > 0).then_some(event.schema_version).into(),
        content_type: content_type_from_wire(event.content_type),
        data: event.data,
        metadata: Metadata::new(event.metadata)?,
    })
}

/// The UUID that `text` is.
///
/// # Errors
/// `Invalid` on field `id`.
pub fn event_id(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|_| {
        Error::invalid(
            "id",
            format!("{text:?} is no UUID; give one such as {}, or none to have one made", Uuid::nil()),
        )
    })
}

/// The answer that says `appended`.
pub fn appended_to_wire(appended: &Appended) -> v1::AppendResponse {
    v1::AppendResponse {
        version: appended.version.get(),
        partition: u32::from(appended.partition.get()),
        position: appended.position.get(),
        token: appended.token().to_string(),
    }
}

/// What an append answered.
///
/// # Errors
/// `Internal` when the server's answer makes no sense.
pub fn appended_from_wire(response: &v1::AppendResponse) -> Result<Appended> {
    let token: Token = response.token.parse().map_err(|error| senseless(&error))?;
    Ok(Appended {
        log_id: token.log_id,
        partition: partition_from(response.partition).map_err(|error| senseless(&error))?,
        version: Version::new(response.version),
        position: Position::new(response.position),
    })
}

/// `event` for the wire.
pub fn event_to_wire(event: RecordedEvent) -> v1::RecordedEvent {
    v1::RecordedEvent {
        id: event.id.to_string(),
        stream_id: event.stream_id.to_string(),
        r#type: event.event_type.to_string(),
        version: event.version.get(),
        partition: u32::from(event.partition.get()),
        position: event.position.get(),
        metadata: metadata_to_wire(&event.metadata),
        data: event.data,
        content_type: content_type_to_wire(&event.content_type),
        schema_version: event.schema_version,
        recorded_at_micros: event.recorded_at.as_microsecond(),
    }
}

/// `event` from the wire.
///
/// # Errors
/// `Internal` when the server's answer makes no sense.
pub fn event_from_wire(event: v1::RecordedEvent) -> Result<RecordedEvent> {
    let id = event_id(&event.id).map_err(|error| senseless(&error))?;
    Ok(RecordedEvent {
        id,
        stream_id: StreamId::new(event.stream_id).map_err(|error| senseless(&error))?,
        event_type: EventType::new(event.r#type).map_err(|error| senseless(&error))?,
        version: Version::new(event.version),
        partition: partition_from(event.partition).map_err(|error| senseless(&error))?,
        position: Position::new(event.position),
        schema_version: event.schema_version,
        content_type: content_type_from_wire(event.content_type),
        data: event.data,
        metadata: Metadata::from_stored(event.metadata),
        recorded_at: time_from_micros(event.recorded_at_micros)?,
    })
}

/// A server's answer that no server of ours gives.
pub(crate) fn senseless(error: &Error) -> Error {
    Error::internal(format!(
        "the server's answer makes no sense ({error}); is it a Headwater event store, and as new as this client?"
    ))
}

/// The time `micros` microseconds after 1970.
pub(crate) fn time_from_micros(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| senseless(&Error::invalid("recorded_at_micros", error.to_string())))
}

fn metadata_to_wire(metadata: &Metadata) -> Bytes {
    if metadata.is_empty() { Bytes::new() } else { metadata.as_bytes().clone() }
}

/// The usual content type is not sent: it would be a tenth of a small event.
fn content_type_to_wire(content_type: &str) -> String {
    if content_type == NewEvent::JSON { String::new() } else { content_type.to_owned() }
}

fn content_type_from_wire(content_type: String) -> String {
    if content_type.is_empty() { NewEvent::JSON.to_owned() } else { content_type }
}

/// A version as a request names one.
///
/// # Errors
/// `Invalid` on `field` when it is larger than any.
pub fn version_from(version: u64, field: &str) -> Result<Version> {
    number(version, field).map(Version::new)
}

/// A position as a request names one.
///
/// # Errors
/// `Invalid` on `field` when it is larger than any.
pub fn position_from(position: u64, field: &str) -> Result<Position> {
    number(position, field).map(Position::new)
}

fn number(number: u64, field: &str) -> Result<u64> {
    if number <= Version::MAX.get() {
        return Ok(number);
    }
    Err(Error::invalid(field, format!("{number} is too large; give at most {}", Version::MAX)))
}

/// A partition's number, which is still to be checked against the log's.
pub(crate) fn partition_from(partition: u32) -> Result<Partition> {
    u16::try_from(partition)
        .map(Partition::new)
        .map_err(|_| Error::invalid("partition", format!("there is no partition {partition}")))
}

/// `filter` for the wire.
pub fn filter_to_wire(filter: &Filter) -> v1::Filter {
    v1::Filter {
        types: filter.event_types.iter().map(ToString::to_string).collect(),
        stream_id_prefix: filter.stream_id_prefix.clone().unwrap_or_default(),
    }
}

/// Types that one filter may name.
const MAX_FILTER_TYPES: usize = 256;

/// The filter that a request asks for.
///
/// # Errors
/// `Invalid` with the path of the field.
pub fn filter_from_wire(filter: Option<v1::Filter>) -> Result<Filter> {
    let filter = filter.unwrap_or_default();
    filter_from(filter.types.iter().map(String::as_str), Some(filter.stream_id_prefix.as_str()))
        .map_err(|error| error.within("filter"))
}

/// The filter of these types and this prefix; empty texts are no filter.
///
/// # Errors
/// `Invalid` on field `types` or `stream_id_prefix`.
pub fn filter_from<'a>(types: impl Iterator<Item = &'a str>, prefix: Option<&str>) -> Result<Filter> {
    let event_types = types
        .enumerate()
        .map(|(index, name)| {
            EventType::new(name).map_err(|error| match error {
                Error::Invalid { message, .. } => Error::invalid(format!("types[{index}]"), message),
                other => other,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if event_types.len() > MAX_FILTER_TYPES {
        return Err(Error::invalid(
            "types",
            format!(
                "{} types; give at most {MAX_FILTER_TYPES}, or none and choose among what comes",
                event_types.len()
            ),
        ));
    }
    let stream_id_prefix = prefix.filter(|prefix| !prefix.is_empty()).map(str::to_owned);
    if let Some(prefix) = stream_id_prefix.as_ref().filter(|prefix| !matches!(prefix.as_str(), "." | "..")) {
        // What begins no stream id is a mistake. Dots alone name none, and yet begin some.
        StreamId::new(prefix).map_err(|error| match error {
            Error::Invalid { message, .. } => Error::invalid("stream_id_prefix", message),
            other => other,
        })?;
    }
    Ok(Filter { event_types, stream_id_prefix })
}

/// `start` for the wire.
pub fn start_to_wire(start: &StartFrom) -> v1::Start {
    use v1::start::At;
    let at = match start {
        StartFrom::Beginning => At::Beginning(()),
        StartFrom::End => At::End(()),
        StartFrom::After(token) => At::Token(token.to_string()),
        StartFrom::Time(time) => At::Time(time_to_wire(*time)),
    };
    v1::Start { at: Some(at) }
}

/// The start that a request asks for.
///
/// # Errors
/// `Invalid` with the path of the field.
pub fn start_from_wire(start: Option<v1::Start>) -> Result<StartFrom> {
    use v1::start::At;
    let Some(start) = start else { return Ok(StartFrom::Beginning) };
    let at = start
        .at
        .ok_or_else(|| unknown("from", "beginning, end, token or time, or leave it out for the beginning"))?;
    Ok(match at {
        At::Beginning(()) => StartFrom::Beginning,
        At::End(()) => StartFrom::End,
        At::Token(token) => StartFrom::After(token.parse::<Token>().map_err(|error| error.within("from"))?),
        At::Time(time) => StartFrom::Time(time_from_wire(time, "from.time")?),
    })
}

/// `time` for the wire.
pub fn time_to_wire(time: Timestamp) -> prost_types::Timestamp {
    let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
    // jiff signs the fraction as the seconds; Protobuf counts it forwards.
    if nanos < 0 {
        prost_types::Timestamp { seconds: seconds - 1, nanos: nanos + 1_000_000_000 }
    } else {
        prost_types::Timestamp { seconds, nanos }
    }
}

/// The time that a request names.
///
/// # Errors
/// `Invalid` on `field` when it is none.
pub fn time_from_wire(time: prost_types::Timestamp, field: &str) -> Result<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).map_err(|error| {
        Error::invalid(field, format!("not a time: {error}; give a google.protobuf.Timestamp"))
    })
}

/// `direction` for the wire.
pub fn direction_to_wire(direction: Direction) -> v1::Direction {
    match direction {
        Direction::Forwards => v1::Direction::Forwards,
        Direction::Backwards => v1::Direction::Backwards,
    }
}

/// The direction that a request asks for.
///
/// # Errors
/// `Invalid` on field `direction` when it is none.
pub fn direction_from_wire(direction: i32) -> Result<Direction> {
    match v1::Direction::try_from(direction) {
        Ok(v1::Direction::Unspecified | v1::Direction::Forwards) => Ok(Direction::Forwards),
        Ok(v1::Direction::Backwards) => Ok(Direction::Backwards),
        Err(_) => Err(Error::invalid(
            "direction",
            format!("{direction} is no direction; give DIRECTION_FORWARDS or DIRECTION_BACKWARDS"),
        )),
    }
}

/// The log id that an answer names.
///
/// # Errors
/// `Internal` when it is none.
pub(crate) fn log_id_from_wire(text: &str) -> Result<LogId> {
    Uuid::parse_str(text)
        .map(LogId::from_uuid)
        .map_err(|error| senseless(&Error::invalid("log_id", error.to_string())))
}

#[cfg(test)]
mod tests {
    use headwater_core::SchemaVersion;

    use super::*;

    fn new_event() -> NewEvent {
        NewEvent {
            schema_version: SchemaVersion::Given(1),
            metadata: Metadata::new(Bytes::from_static(br#"{ "n": 1.0 }"#)).unwrap(),
            ..NewEvent::json(EventType::new("Erstellt-\u{fc}").unwrap(), &b"{ \"a\" : 1.50 }"[..])
        }
    }

    #[test]
    fn appends_come_back_as_they_went() {
        for expected in
            [Expected::Any, Expected::NoStream, Expected::Exists, Expected::Version(Version::new(7))]
        {
            let plain = NewEvent {
                schema_version: SchemaVersion::default(),
                content_type: "text/plain".into(),
                metadata: Metadata::empty(),
                ..new_event()
            };
            let append = Append {
                stream_id: StreamId::new("order/1").unwrap(),
                expected,
                events: vec![new_event(), plain],
            };
            assert_eq!(append_from_wire(append_to_wire(&append)).unwrap(), append);
        }
    }

    #[test]
    fn events_come_back_as_they_went() {
        let new = new_event();
        let event = RecordedEvent {
            id: new.id,
            stream_id: StreamId::new("order/1").unwrap(),
            event_type: new.event_type,
            version: Version::new(2),
            partition: Partition::new(255),
            position: Position::MAX,
            schema_version: 3,
            content_type: new.content_type,
            data: new.data,
            metadata: new.metadata,
            recorded_at: "2026-01-02T03:04:05.678901Z".parse().unwrap(),
        };
        assert_eq!(event_from_wire(event_to_wire(event.clone())).unwrap(), event);
    }

    #[test]
    fn faults_name_their_field() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut v1::AppendRequest), fault: &str) {
            let mut request = append_to_wire(&Append {
                stream_id: StreamId::new("order-1").unwrap(),
                expected: Expected::Any,
                events: vec![new_event(), new_event()],
            });
            change(&mut request);
            let error = append_from_wire(request).unwrap_err().to_string();
            assert!(error.starts_with(fault), "{error}");
        }
        check(|request| request.stream_id.clear(), "stream_id: the stream id is empty");
        check(|request| request.events[1].id = "x".into(), "events[1].id: \"x\" is no UUID");
        check(|request| request.events[1].r#type.clear(), "events[1].type: the event type is empty");
        check(|request| request.events[0].metadata = "[]".into(), "events[0].metadata: not a JSON object");
        let expected = v1::expected::Expected::Version(u64::MAX);
        check(
            |request| request.expected = Some(v1::Expected { expected: Some(expected) }),
            "expected.version: 18446744073709551615 is too large",
        );
    }

    #[test]
    fn what_a_newer_client_may_mean_is_not_taken_for_a_default() {
        let mut request = append_to_wire(&Append {
            stream_id: StreamId::new("order-1").unwrap(),
            expected: Expected::NoStream,
            events: vec![new_event()],
        });
        request.expected = Some(v1::Expected { expected: None });
        let error = append_from_wire(request.clone()).unwrap_err().to_string();
        assert!(error.starts_with("expected: it says nothing that this server knows"), "{error}");
        request.expected = None;
        assert_eq!(append_from_wire(request).unwrap().expected, Expected::Any);
        let error = start_from_wire(Some(v1::Start { at: None })).unwrap_err().to_string();
        assert!(error.starts_with("from: it says nothing that this server knows"), "{error}");
        assert_eq!(start_from_wire(None).unwrap(), StartFrom::Beginning);
    }

    #[test]
    fn starts_filters_and_times_come_back_as_they_went() {
        let token = Token::new(LogId::generate(), headwater_core::Positions::default());
        for time in ["1969-12-31T23:59:58.25Z", "2026-01-02T03:04:05.678901Z"] {
            for start in [
                StartFrom::Beginning,
                StartFrom::End,
                StartFrom::After(token.clone()),
                StartFrom::Time(time.parse().unwrap()),
            ] {
                assert_eq!(start_from_wire(Some(start_to_wire(&start))).unwrap(), start);
            }
        }
        let filter = Filter {
            event_types: vec![EventType::new("A").unwrap()],
            stream_id_prefix: Some("order-".into()),
        };
        assert_eq!(filter_from_wire(Some(filter_to_wire(&filter))).unwrap(), filter);
        assert_eq!(filter_from_wire(None).unwrap(), Filter::default());
        assert!(filter_from([].into_iter(), Some(".")).is_ok());
        let many = v1::Filter { types: vec!["A".into(); 257], ..v1::Filter::default() };
        assert!(filter_from_wire(Some(many)).unwrap_err().to_string().starts_with("filter.types: 257 types"));
        assert!(direction_from_wire(7).is_err());
    }
}
