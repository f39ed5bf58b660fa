//! How an event is a Kafka message: CloudEvents' binding for Kafka, in binary mode.

use std::borrow::Cow;

use bytes::Bytes;
use headwater_bus::{CloudEvents, Place};
use headwater_core::{RecordedEvent, Result};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};

/// What the binding puts before an attribute's name.
const PREFIX: &str = "ce_";
/// What the lengths of a header take, and what there is of a batch and a record besides, at most.
const HEADER_BYTES: usize = 6;
const RECORD_BYTES: usize = 96;
/// The header that it has for the attribute `datacontenttype`.
const CONTENT_TYPE: &str = "content-type";

/// The headers of a message that carries `event`.
pub(crate) fn headers(wire: &CloudEvents, event: &RecordedEvent) -> OwnedHeaders {
    let attributes = wire.attributes(event);
    let mut name = String::with_capacity(32);
    attributes.iter().fold(
        OwnedHeaders::new_with_capacity(attributes.len()),
        |headers, (attribute, value)| {
            name.clear();
            if *attribute == "datacontenttype" {
                name.push_str(CONTENT_TYPE);
            } else {
                name.push_str(PREFIX);
                name.push_str(attribute);
            }
            headers.insert(Header { key: &name, value: Some(value.as_bytes()) })
        },
    )
}

/// How large the message of `event` is on its own, as the brokers count it, or a little more.
pub(crate) fn size(wire: &CloudEvents, event: &RecordedEvent) -> usize {
    let headers = wire.attributes(event);
    let headers: usize =
        headers.iter().map(|(name, value)| PREFIX.len() + name.len() + value.len() + HEADER_BYTES).sum();
    headers + event.stream_id.as_str().len() + event.data.len() + RECORD_BYTES
}

/// The source of `message`, if it carries an event of another event stream.
pub(crate) fn stranger<'a>(wire: &CloudEvents, message: &'a BorrowedMessage<'_>) -> Option<Cow<'a, str>> {
    wire.stranger(|name| attribute(message, name))
}

/// Where `message` belongs in the log; `None` when it is not of this log.
///
/// # Errors
/// As [`CloudEvents::place`].
pub(crate) fn place(wire: &CloudEvents, message: &BorrowedMessage<'_>) -> Result<Option<Place>> {
    wire.place(|name| attribute(message, name))
}

/// The event that `message` carries; `None` when it is not of this log.
///
/// # Errors
/// As [`CloudEvents::event`].
pub(crate) fn event(wire: &CloudEvents, message: &BorrowedMessage<'_>) -> Result<Option<RecordedEvent>> {
    // A log's own messages alone are worth a copy.
    if place(wire, message)?.is_none() {
        return Ok(None);
    }
    let data = Bytes::copy_from_slice(message.payload().unwrap_or_default());
    wire.event(|name| attribute(message, name), data)
}

fn attribute<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<Cow<'a, str>> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| {
        if name == "datacontenttype" {
            header.key == CONTENT_TYPE
        } else {
            header.key.strip_prefix(PREFIX) == Some(name)
        }
    })?;
    std::str::from_utf8(header.value?).ok().map(Cow::Borrowed)
}
