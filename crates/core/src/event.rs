use bytes::Bytes;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::json::check_json;
use crate::name::check_name;
use crate::{Error, EventType, Metadata, Partition, Position, Result, StreamId, Version};

/// The version of the shape of an event's data, from 1, and whether its writer said it.
///
/// What the writer did not say is no part of the event's content: the event stream may declare another version before a request
/// whose answer was lost is sent again, and it is the same request all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaVersion {
    /// The writer said it.
    Given(u32),
    /// The writer did not say: what the event stream declares for the type when it takes the event, or 1.
    Assumed(u32),
}

impl SchemaVersion {
    /// The version.
    pub const fn get(self) -> u32 {
        match self {
            Self::Given(version) | Self::Assumed(version) => version,
        }
    }

    /// What the writer said, if anything.
    pub const fn given(self) -> Option<u32> {
        match self {
            Self::Given(version) => Some(version),
            Self::Assumed(_) => None,
        }
    }
}

impl Default for SchemaVersion {
    fn default() -> Self {
        Self::Assumed(1)
    }
}

impl From<Option<u32>> for SchemaVersion {
    fn from(given: Option<u32>) -> Self {
        given.map_or_else(Self::default, Self::Given)
    }
}

/// An event as a writer gives it, before a log has numbered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Unique in the log for ever; the key of idempotency.
    pub id: Uuid,
    /// What happened.
    pub event_type: EventType,
    /// The version of the data's shape.
    pub schema_version: SchemaVersion,
    /// Media type of `data`; see [`NewEvent::JSON`].
    pub content_type: String,
    /// The payload, kept as it came.
    pub data: Bytes,
    /// A JSON object about the event.
    pub metadata: Metadata,
}

impl NewEvent {
    /// The media type of data that says none.
    pub const JSON: &str = "application/json";

    /// A JSON event that says no schema version, with a new time-ordered id and no metadata.
    pub fn json(event_type: EventType, data: impl Into<Bytes>) -> Self {
        Self {
            id: Uuid::now_v7(),
            event_type,
            schema_version: SchemaVersion::default(),
            content_type: Self::JSON.to_owned(),
            data: data.into(),
            metadata: Metadata::empty(),
        }
    }

    /// Whether `data` is JSON.
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }

    /// Checks what the types cannot: the content type, that JSON is JSON, the schema version.
    pub(crate) fn check(&self) -> Result<()> {
        check_name("content_type", "content type", &self.content_type)?;
        let schema_version = self.schema_version.get();
        if schema_version == 0 || schema_version > i32::MAX as u32 {
            return Err(Error::invalid(
                "schema_version",
                format!("{schema_version} is no schema version; give 1 to {}, or none", i32::MAX),
            ));
        }
        if self.id.is_nil() {
            return Err(Error::invalid(
                "id",
                "the nil UUID cannot name an event; give a UUID of its own, or none to have one made",
            ));
        }
        if self.is_json() {
            check_json(&self.data).map_err(|fault| {
                Error::invalid("data", format!("{fault}; send other bytes than JSON with their content type"))
            })?;
        }
        Ok(())
    }

    /// What must be equal for a repeated id to count as the same event: all but the metadata, and but a schema version that the
    /// writer did not say, which counts as 1.
    pub fn content_digest(&self, stream_id: &StreamId) -> ContentDigest {
        let mut hasher = Sha256::new();
        for part in
            [stream_id.as_str().as_bytes(), self.event_type.as_str().as_bytes(), self.content_type.as_bytes()]
        {
            hasher.update((part.len() as u32).to_be_bytes());
            hasher.update(part);
        }
        hasher.update(self.schema_version.given().unwrap_or(1).to_be_bytes());
        hasher.update(&self.data);
        let digest: [u8; 32] = hasher.finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        ContentDigest(half)
    }
}

/// Whether `content_type` is JSON: `application/json` or any `+json`, parameters aside.
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let suffix = essence.as_bytes().last_chunk::<5>();
    essence.eq_ignore_ascii_case(NewEvent::JSON)
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(b"+json"))
}

/// A digest of an event's content: stream id, type, schema version as the writer said it, content type and data. The first half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest(pub [u8; 16]);

/// An event as a log holds it. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Unique in the log.
    pub id: Uuid,
    /// The aggregate that it belongs to.
    pub stream_id: StreamId,
    /// What happened.
    pub event_type: EventType,
    /// Its number within the stream id, from 1.
    pub version: Version,
    /// The partition that holds the stream id.
    pub partition: Partition,
    /// Its number within the partition, from 1.
    pub position: Position,
    /// The version of the data's shape, from 1.
    pub schema_version: u32,
    /// Media type of `data`.
    pub content_type: String,
    /// The payload, as it came.
    pub data: Bytes,
    /// A JSON object about the event.
    pub metadata: Metadata,
    /// When the log took it, UTC with microseconds; never decreases with the position.
    pub recorded_at: Timestamp,
}

impl RecordedEvent {
    /// Whether `data` is JSON.
    pub fn is_json(&self) -> bool {
        is_json(&self.content_type)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> NewEvent {
        NewEvent::json(EventType::new("OrderCreated").unwrap(), &b"{\"a\":1}"[..])
    }

    #[test]
    fn json_is_checked_and_other_bytes_are_not() {
        assert!(event().check().is_ok());
        let broken = NewEvent { data: Bytes::from_static(b"{\"a\":"), ..event() };
        assert!(broken.check().unwrap_err().to_string().starts_with("data: not JSON"));
        let half = NewEvent { data: Bytes::from_static(br#"{"a":"\ud800"}"#), ..event() };
        assert!(half.check().unwrap_err().to_string().starts_with("data: the escape \\ud800"));
        assert!(
            NewEvent { content_type: "application/vnd.order+json; v=1".into(), ..broken.clone() }
                .check()
                .is_err()
        );
        assert!(NewEvent { content_type: "application/protobuf".into(), ..broken }.check().is_ok());
        assert!(NewEvent { content_type: "\u{fc}+json".into(), ..event() }.check().is_ok());
        assert!(NewEvent { content_type: "\u{e9}\u{e9}\u{e9}\u{e9}".into(), ..event() }.check().is_ok());
    }

    #[test]
    fn the_digest_covers_the_content_and_not_the_metadata() {
        let stream = StreamId::new("order-1").unwrap();
        let digest = event().content_digest(&stream);
        assert_eq!(
            NewEvent { metadata: Metadata::new(Bytes::from_static(b"{\"x\":1}")).unwrap(), ..event() }
                .content_digest(&stream),
            digest
        );
        // Nor a version that somebody else than the writer has put in.
        for schema_version in [SchemaVersion::Assumed(2), SchemaVersion::Given(1)] {
            assert_eq!(NewEvent { schema_version, ..event() }.content_digest(&stream), digest);
        }
        for other in [
            NewEvent { event_type: EventType::new("OrderRejected").unwrap(), ..event() },
            NewEvent { schema_version: SchemaVersion::Given(2), ..event() },
            NewEvent { content_type: "text/plain".into(), ..event() },
            NewEvent { data: Bytes::from_static(b"{\"a\":2}"), ..event() },
        ] {
            assert_ne!(other.content_digest(&stream), digest);
        }
        assert_ne!(event().content_digest(&StreamId::new("order-2").unwrap()), digest);
        // Golden: the digest is stored with every event.
        assert_eq!(digest.0, GOLDEN);
    }

    const GOLDEN: [u8; 16] = [100, 59, 36, 172, 29, 223, 153, 168, 0, 50, 215, 193, 201, 61, 161, 43];
}
