//! Between rows and events.

use bytes::Bytes;
use headwater_core::{
    ContentDigest, EventType, Metadata, NewEvent, Partition, Position, RecordedEvent, StreamId, Version,
};
use headwater_log::{Batch, StoredEvent};
use jiff::Timestamp;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// What a row holds that no event of ours can be.
pub(super) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The events of a batch by column, as one statement takes them.
#[derive(Debug, Default)]
pub(super) struct Columns<'b> {
    pub(super) ids: Vec<Uuid>,
    pub(super) stream_ids: Vec<&'b str>,
    pub(super) versions: Vec<i64>,
    pub(super) types: Vec<&'b str>,
    pub(super) schema_versions: Vec<i64>,
    pub(super) content_types: Vec<Option<&'b str>>,
    pub(super) sizes: Vec<i64>,
    pub(super) digests: Vec<&'b [u8]>,
    pub(super) metadata: Vec<Option<&'b [u8]>>,
    pub(super) data: Vec<&'b [u8]>,
}

impl<'b> Columns<'b> {
    pub(super) fn of(batch: &'b Batch) -> Self {
        let mut columns = Self::default();
        for one in &batch.events {
            let event = &one.event;
            let metadata = (!event.metadata.is_empty()).then_some(event.metadata.as_bytes().as_ref());
            columns.ids.push(event.id);
            columns.stream_ids.push(one.stream_id.as_str());
            columns.versions.push(one.version.get() as i64);
            columns.types.push(event.event_type.as_str());
            columns.schema_versions.push(event.schema_version.get().into());
            columns
                .content_types
                .push((event.content_type != NewEvent::JSON).then_some(event.content_type.as_str()));
            columns.sizes.push((event.data.len() + metadata.map_or(0, <[u8]>::len)) as i64);
            columns.digests.push(one.digest.0.as_slice());
            columns.metadata.push(metadata);
            columns.data.push(&event.data);
        }
        columns
    }
}

/// A time as microseconds since 1970.
pub(super) fn time(micros: i64) -> Result<Timestamp, Broken> {
    Ok(Timestamp::from_microsecond(micros)?)
}

/// The event of a row that has all its columns.
pub(super) fn event(row: &PgRow, partition: Partition, position: Position) -> Result<RecordedEvent, Broken> {
    let content_type: Option<String> = row.try_get("content_type")?;
    let metadata: Option<Vec<u8>> = row.try_get("metadata")?;
    Ok(RecordedEvent {
        id: row.try_get("event_id")?,
        stream_id: StreamId::new(row.try_get::<&str, _>("stream_id")?)?,
        event_type: EventType::new(row.try_get::<&str, _>("type")?)?,
        version: Version::new(row.try_get::<i64, _>("version")? as u64),
        partition,
        position,
        schema_version: u32::try_from(row.try_get::<i64, _>("schema_version")?)?,
        content_type: content_type.unwrap_or_else(|| NewEvent::JSON.to_owned()),
        data: Bytes::from(row.try_get::<Vec<u8>, _>("data")?),
        metadata: metadata.map_or_else(Metadata::empty, |bytes| Metadata::from_stored(Bytes::from(bytes))),
        recorded_at: time(row.try_get("recorded_at")?)?,
    })
}

/// A row of `find.sql`.
pub(super) fn stored(row: &PgRow) -> Result<StoredEvent, Broken> {
    Ok(StoredEvent {
        id: row.try_get("event_id")?,
        digest: ContentDigest(row.try_get::<&[u8], _>("digest")?.try_into()?),
        stream_id: StreamId::new(row.try_get::<&str, _>("stream_id")?)?,
        version: Version::new(row.try_get::<i64, _>("version")? as u64),
        partition: Partition::new(u16::try_from(row.try_get::<i64, _>("partition")?)?),
        position: Position::new(row.try_get::<i64, _>("position")? as u64),
    })
}
