//! How an event looks on a broker: CloudEvents 1.0 in binary mode. The body is the event's data and nothing else; all else is attributes,
//! which an adapter writes as headers in the way that its protocol's binding says.

use std::borrow::Cow;
use std::str::FromStr;

use bytes::Bytes;
use headwater_core::{
    Error, EventType, LogId, Metadata, Partition, Position, RecordedEvent, Result, StreamId, Version,
};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::Last;

/// The version of CloudEvents.
const SPEC_VERSION: &str = "1.0";

/// What a URN takes as it is, besides letters and digits.
const NOT_IN_URN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Metadata that consumers who know nothing of Headwater look for, by the key in the metadata and the attribute's name.
const WELL_KNOWN: [(&str, &str); 3] =
    [("correlation_id", "correlationid"), ("causation_id", "causationid"), ("traceparent", "traceparent")];

/// The events of one log, as CloudEvents.
///
/// | attribute | holds |
/// |---|---|
/// | `id`, `type`, `subject`, `time` | the event's id, type, stream id, and when the log took it |
/// | `source` | `/headwater/NAMESPACE/STREAM` |
/// | `datacontenttype`, `dataschema` | media type of the data; `urn:headwater:NAMESPACE:STREAM:TYPE:VERSION` |
/// | `partition`, `position`, `streamversion` | where the event stands, as decimal digits |
/// | `logid` | the log's identity: what has another one is not of this log, whatever its source says |
/// | `correlationid`, `causationid`, `traceparent` | from the metadata, where they are text |
/// | `metadata` | the whole metadata as it was written, where there is any |
/// | `omitted` | which of the optional ones were left out, because the broker takes no more: the log has them |
#[derive(Debug, Clone)]
pub struct CloudEvents {
    /// As text.
    log_id: String,
    source: String,
    schemas: String,
}

/// Names the attributes that a message should have and does not.
pub const OMITTED: &str = "omitted";

/// Where a message belongs in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: Partition,
    /// Its number within the partition.
    pub position: Position,
    /// Its event's id.
    pub id: Uuid,
}

impl From<Place> for Last {
    fn from(place: Place) -> Self {
        Self { position: place.position, id: Some(place.id) }
    }
}

impl CloudEvents {
    /// Those of the log `log_id`, which is the event stream `stream` of `namespace`.
    pub fn new(namespace: &str, stream: &str, log_id: LogId) -> Self {
        Self {
            log_id: log_id.to_string(),
            source: format!("/headwater/{namespace}/{stream}"),
            schemas: format!("urn:headwater:{namespace}:{stream}"),
        }
    }

    /// The attributes of `event`, by name, without a binding's prefix.
    pub fn attributes<'a>(&'a self, event: &'a RecordedEvent) -> Vec<(&'static str, Cow<'a, str>)> {
        let owned = |text: String| Cow::Owned(text);
        let event_type = event.event_type.as_str();
        let mut attributes = Vec::with_capacity(16);
        attributes.extend([
            ("specversion", Cow::Borrowed(SPEC_VERSION)),
            ("id", owned(event.id.to_string())),
            ("source", Cow::Borrowed(self.source.as_str())),
            ("type", Cow::Borrowed(event_type)),
            ("subject", Cow::Borrowed(event.stream_id.as_str())),
            ("time", owned(event.recorded_at.to_string())),
            ("datacontenttype", Cow::Borrowed(event.content_type.as_str())),
            (
                "dataschema",
                owned(format!(
                    "{}:{}:{}",
                    self.schemas,
                    utf8_percent_encode(event_type, NOT_IN_URN),
                    event.schema_version
                )),
            ),
            ("partition", owned(event.partition.to_string())),
            ("position", owned(event.position.to_string())),
            ("streamversion", owned(event.version.to_string())),
            ("logid", Cow::Borrowed(self.log_id.as_str())),
        ]);
        if !event.metadata.is_empty()
            && let Ok(text) = std::str::from_utf8(event.metadata.as_bytes())
        {
            let known: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(text).unwrap_or_default();
            for (key, name) in WELL_KNOWN {
                // An attribute's value has no control characters and is not empty; what does not fit is in the metadata.
                if let Some(value) = known.get(key).and_then(serde_json::Value::as_str)
                    && !value.is_empty()
                    && !value.contains(char::is_control)
                {
                    attributes.push((name, owned(value.to_owned())));
                }
            }
            attributes.push(("metadata", Cow::Borrowed(text)));
        }
        attributes
    }

    /// Whether an adapter may leave the attribute `name` out where its broker takes no more, and say so in [`OMITTED`].
    pub fn is_optional(name: &str) -> bool {
        name == "metadata" || WELL_KNOWN.iter().any(|(_, known)| *known == name)
    }

    /// Whose events these are: `/headwater/NAMESPACE/STREAM`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The source of a message that has these attributes, if it carries an event of another event stream. (Another log of the same one was there
    /// before this.)
    pub fn stranger<'a>(&self, attribute: impl Fn(&str) -> Option<Cow<'a, str>>) -> Option<Cow<'a, str>> {
        let source = attribute("source")?;
        (source.starts_with("/headwater/") && source != self.source && attribute("logid").is_some())
            .then_some(source)
    }

    /// Where a message belongs, which has these attributes. `None`: it is not of this log.
    ///
    /// # Errors
    /// `Corrupt` when it says that it is, and has no place.
    pub fn place<'a>(&self, attribute: impl Fn(&str) -> Option<Cow<'a, str>>) -> Result<Option<Place>> {
        if attribute("logid").as_deref() != Some(self.log_id.as_str()) {
            return Ok(None);
        }
        Ok(Some(Place {
            partition: Partition::new(number(&attribute, "partition")?),
            position: Position::new(number(&attribute, "position")?),
            id: parse::<Uuid>("id", &text(&attribute, "id")?)?,
        }))
    }

    /// The event that a message carries, which has these attributes. `None`: it is not of this log, or it is not whole and has to be read
    /// from the log.
    ///
    /// # Errors
    /// `Corrupt` when it says that it is, and an attribute is missing or has no meaning.
    pub fn event<'a>(
        &self,
        attribute: impl Fn(&str) -> Option<Cow<'a, str>>,
        data: Bytes,
    ) -> Result<Option<RecordedEvent>> {
        let Some(Place { partition, position, id }) = self.place(&attribute)? else { return Ok(None) };
        if attribute(OMITTED).is_some() {
            return Ok(None);
        }
        let schema = text(&attribute, "dataschema")?;
        let schema_version = schema.rsplit(':').next().unwrap_or_default();
        let metadata = match attribute("metadata") {
            Some(text) => Metadata::from_stored(Bytes::from(text.into_owned())),
            None => Metadata::empty(),
        };
        let named = |error: Error| Error::corrupt(format!("a message on the bus: {error}"));
        Ok(Some(RecordedEvent {
            id,
            stream_id: StreamId::new(text(&attribute, "subject")?).map_err(named)?,
            event_type: EventType::new(text(&attribute, "type")?).map_err(named)?,
            version: Version::new(number(&attribute, "streamversion")?),
            partition,
            position,
            schema_version: parse("dataschema", schema_version)?,
            content_type: text(&attribute, "datacontenttype")?.into_owned(),
            data,
            metadata,
            recorded_at: parse::<Timestamp>("time", &text(&attribute, "time")?)?,
        }))
    }
}

fn text<'a>(attribute: impl Fn(&str) -> Option<Cow<'a, str>>, name: &str) -> Result<Cow<'a, str>> {
    attribute(name).ok_or_else(|| {
        Error::corrupt(format!("a message on the bus has no CloudEvents attribute \"{name}\""))
    })
}

fn parse<T: FromStr>(name: &str, text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        Error::corrupt(format!(
            "a message on the bus has the CloudEvents attribute \"{name}\" {text:?}, which is not what Headwater writes"
        ))
    })
}

fn number<'a, T: FromStr>(attribute: impl Fn(&str) -> Option<Cow<'a, str>>, name: &str) -> Result<T> {
    parse(name, &text(attribute, name)?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn log_id() -> LogId {
        LogId::from_uuid(Uuid::from_u128(0x0a0b))
    }

    fn wire() -> CloudEvents {
        CloudEvents::new("shop", "orders", log_id())
    }

    fn event(metadata: &'static str) -> RecordedEvent {
        RecordedEvent {
            id: Uuid::from_u128(0xff),
            stream_id: StreamId::new("order-\u{e9} 1").unwrap(),
            event_type: EventType::new("order created").unwrap(),
            version: Version::new(3),
            partition: Partition::new(2),
            position: Position::new(u64::MAX >> 1),
            schema_version: 7,
            content_type: "application/json".into(),
            data: Bytes::from_static(b"{\"a\": 1}"),
            metadata: Metadata::new(Bytes::from_static(metadata.as_bytes())).unwrap(),
            recorded_at: "2026-01-02T03:04:05.000006Z".parse().unwrap(),
        }
    }

    fn headers(event: &RecordedEvent) -> HashMap<&'static str, String> {
        let wire = wire();
        wire.attributes(event).into_iter().map(|(name, value)| (name, value.into_owned())).collect()
    }

    fn read(headers: &HashMap<&'static str, String>, data: Bytes) -> Result<Option<RecordedEvent>> {
        wire().event(|name| headers.get(name).map(|value| Cow::Borrowed(value.as_str())), data)
    }

    /// The form lasts: what an older program wrote is read by a newer one.
    #[test]
    fn an_event_has_these_attributes() {
        let metadata = "{\"correlation_id\": \"c-1\",\n \"causation_id\": 5, \"traceparent\": \"a\\u0000b\", \"user\": \"\u{e9}\"}";
        let event = event(metadata);
        let wire = wire();
        let attributes = wire.attributes(&event);
        let attributes: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        assert_eq!(
            attributes,
            [
                ("specversion", "1.0"),
                ("id", "00000000-0000-0000-0000-0000000000ff"),
                ("source", "/headwater/shop/orders"),
                ("type", "order created"),
                ("subject", "order-\u{e9} 1"),
                ("time", "2026-01-02T03:04:05.000006Z"),
                ("datacontenttype", "application/json"),
                ("dataschema", "urn:headwater:shop:orders:order%20created:7"),
                ("partition", "2"),
                ("position", "9223372036854775807"),
                ("streamversion", "3"),
                ("logid", "00000000-0000-0000-0000-000000000a0b"),
                ("correlationid", "c-1"),
                ("metadata", metadata),
            ]
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for metadata in ["{}", "{ \"a\":\t1.50 }", "{\"correlation_id\":\"x\"}"] {
            let event = event(metadata);
            assert_eq!(read(&headers(&event), event.data.clone()).unwrap(), Some(event));
        }
    }

    #[test]
    fn what_another_log_wrote_is_told_apart() {
        let event = event("{}");
        let mut headers = headers(&event);
        headers.insert("logid", Uuid::from_u128(1).to_string());
        assert_eq!(read(&headers, Bytes::new()).unwrap(), None);
        headers.remove("logid");
        assert_eq!(read(&headers, Bytes::new()).unwrap(), None, "a message of somebody else");
    }

    #[test]
    fn a_message_that_is_not_whole_has_a_place_and_gives_no_event() {
        let mut headers = headers(&event("{\"a\":1}"));
        headers.remove("metadata");
        headers.insert(OMITTED, "metadata".to_owned());
        assert_eq!(read(&headers, Bytes::new()).unwrap(), None);
        let place =
            wire().place(|name| headers.get(name).map(|value| Cow::Borrowed(value.as_str()))).unwrap();
        assert_eq!(place.unwrap().partition, Partition::new(2));
        assert!(CloudEvents::is_optional("metadata") && CloudEvents::is_optional("traceparent"));
        assert!(!CloudEvents::is_optional("subject"));
    }

    #[test]
    fn a_damaged_message_is_named() {
        for (name, value) in
            [("position", "-1"), ("partition", "x"), ("id", ""), ("time", "noon"), ("dataschema", "urn:x:")]
        {
            let mut headers = headers(&event("{}"));
            headers.insert(name, value.to_owned());
            let error = read(&headers, Bytes::new()).unwrap_err();
            assert!(matches!(error, Error::Corrupt { .. }), "{error}");
            assert!(error.to_string().contains(name), "{error}");
            headers.remove(name);
            assert!(read(&headers, Bytes::new()).unwrap_err().to_string().contains(name));
        }
    }
}
