//! CloudEvents' attributes as NATS headers: `ce-NAME`, percent-encoded, as CloudEvents' binding to NATS says.

use std::borrow::Cow;

use async_nats::HeaderMap;
use headwater_bus::{CloudEvents, OMITTED};
use headwater_core::RecordedEvent;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What stands otherwise in a header's value, besides everything that is not ASCII.
const NOT_IN_HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// JetStream takes at most 65,535 bytes of headers. Its own need some of them.
const MAX_HEADER_BYTES: usize = 60_000;

/// The headers of the message that carries `event`.
pub(crate) fn encode(events: &CloudEvents, event: &RecordedEvent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut bytes = 0;
    let mut omitted = Vec::new();
    for (name, value) in events.attributes(event) {
        let value = utf8_percent_encode(&value, NOT_IN_HEADER).to_string();
        let size = name.len() + value.len() + "ce-: \r\n".len();
        if CloudEvents::is_optional(name) && bytes + size > MAX_HEADER_BYTES {
            omitted.push(name);
            continue;
        }
        bytes += size;
        headers.insert(header(name).as_ref(), value);
    }
    if !omitted.is_empty() {
        headers.insert(header(OMITTED).as_ref(), omitted.join(","));
    }
    // Where a message is already there, JetStream does not take it again for some time.
    headers.insert(async_nats::header::NATS_MESSAGE_ID, event.id.to_string());
    headers
}

/// The attribute `name`.
pub(crate) fn attribute<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
    let value = headers.get(header(name).as_ref())?.as_str();
    if value.contains('%') {
        percent_decode_str(value).decode_utf8().ok()
    } else {
        Some(Cow::Borrowed(value))
    }
}

/// The bytes that headers have on the way.
pub(crate) fn wire_len(headers: &HeaderMap) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let bytes: usize =
        lines.map(|(name, value)| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4).sum();
    bytes + "NATS/1.0\r\n\r\n".len()
}

fn header(attribute: &str) -> Cow<'static, str> {
    match attribute {
        "datacontenttype" => Cow::Borrowed("content-type"),
        other => Cow::Owned(format!("ce-{other}")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use headwater_core::{EventType, LogId, Metadata, Partition, Position, StreamId, Version};

    use super::*;

    fn events() -> CloudEvents {
        CloudEvents::new("shop", "orders", LogId::from_uuid(uuid::Uuid::from_u128(1)))
    }

    fn event(metadata: String) -> RecordedEvent {
        RecordedEvent {
            id: uuid::Uuid::from_u128(2),
            stream_id: StreamId::new("order \u{e9}%41").unwrap(),
            event_type: EventType::new("Created").unwrap(),
            version: Version::new(1),
            partition: Partition::ZERO,
            position: Position::new(1),
            schema_version: 1,
            content_type: "application/json".into(),
            data: Bytes::from_static(b"{}"),
            metadata: Metadata::new(Bytes::from(metadata)).unwrap(),
            recorded_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn values_are_percent_encoded_and_come_back() {
        let event = event("{\"a\":\n\"\u{e9}\"}".to_owned());
        let headers = encode(&events(), &event);
        let value = |name: &str| headers.get(name).unwrap().as_str();
        assert_eq!(value("ce-subject"), "order%20%C3%A9%2541");
        assert_eq!(value("ce-metadata"), "{%22a%22:%0A%22%C3%A9%22}");
        assert_eq!(value("content-type"), "application/json");
        assert_eq!(value("Nats-Msg-Id"), "00000000-0000-0000-0000-000000000002");
        assert!(headers.get("ce-datacontenttype").is_none());
        let read = events().event(|name| attribute(&headers, name), event.data.clone()).unwrap();
        assert_eq!(read, Some(event));
    }

    #[test]
    fn metadata_that_nats_does_not_take_stays_in_the_log() {
        let event = event(format!("{{\"correlation_id\":\"c\",\"a\":\"{}\"}}", "\u{e9}".repeat(20_000)));
        let headers = encode(&events(), &event);
        assert_eq!(headers.get("ce-omitted").unwrap().as_str(), "metadata");
        assert_eq!(headers.get("ce-correlationid").unwrap().as_str(), "c");
        let read = events().event(|name| attribute(&headers, name), Bytes::new()).unwrap();
        assert_eq!(read, None, "it is not whole");
        let place = events().place(|name| attribute(&headers, name)).unwrap();
        assert_eq!(place.unwrap().position, Position::new(1));
    }
}
