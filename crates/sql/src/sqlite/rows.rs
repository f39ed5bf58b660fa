//! Between rows and events.

use std::path::Path;

use bytes::Bytes;
use headwater_core::{
    ContentDigest, EventType, Metadata, NewEvent, Partition, Position, RecordedEvent, StreamId, Version,
};
use headwater_log::{BatchEvent, Filter, StoredEvent};
use jiff::Timestamp;
use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{CachedStatement, Row, params};
use uuid::Uuid;

use super::readers::ReadError;
use crate::connection::{Format, damaged};

/// The kind of file that holds a log: "HWLG".
pub(super) const FORMAT: Format =
    Format { application_id: 0x4857_4c47, what: "an event log", migrations: &[include_str!("log/0001.sql")] };

/// Partition and position as one integer: positions have 48 bits.
pub(super) const fn place(partition: Partition, position: Position) -> i64 {
    ((partition.get() as i64) << 48) | position.get() as i64
}

fn split(place: i64) -> (Partition, Position) {
    (Partition::new((place >> 48) as u16), Position::new((place & ((1 << 48) - 1)) as u64))
}

/// Greatest position that [`place`] can hold; at a million events a second it is reached after nine years.
pub(super) const MAX_POSITION: u64 = (1 << 48) - 1;

/// A time as microseconds since 1970.
pub(super) fn time(micros: i64) -> Result<Timestamp, rusqlite::Error> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Integer, Box::new(error)))
}

/// Inserts one event by the statement `insert.sql`.
pub(super) fn insert(
    statement: &mut CachedStatement<'_>,
    event: &BatchEvent,
    place: i64,
    recorded_at: i64,
) -> rusqlite::Result<usize> {
    let BatchEvent { stream_id, version, digest, event } = event;
    let content_type = (event.content_type != NewEvent::JSON).then_some(event.content_type.as_str());
    let metadata = (!event.metadata.is_empty()).then_some(event.metadata.as_bytes().as_ref());
    statement.execute(params![
        place,
        event.id.as_bytes().as_slice(),
        stream_id.as_str(),
        version.get() as i64,
        event.event_type.as_str(),
        event.schema_version.get(),
        content_type,
        recorded_at,
        digest.0.as_slice(),
        metadata,
        event.data.as_ref(),
    ])
}

/// Makes events of rows, sharing the names that repeat within a page.
pub(super) struct Decoder<'a> {
    path: &'a Path,
    types: Vec<EventType>,
    stream_id: Option<StreamId>,
}

/// Event types that a page shares; most logs have fewer.
const SHARED_TYPES: usize = 32;

impl<'a> Decoder<'a> {
    pub(super) const fn new(path: &'a Path) -> Self {
        Self { path, types: Vec::new(), stream_id: None }
    }

    /// Where the row is, and the event unless `filter` leaves it out.
    pub(super) fn event(
        &mut self,
        row: &Row<'_>,
        filter: &Filter,
    ) -> Result<(Position, Option<RecordedEvent>), ReadError> {
        let (partition, position) = split(row.get(0)?);
        let stream_id = text(row, 2)?;
        let event_type = text(row, 4)?;
        if !filter.is_empty() && !filter.matches(event_type, stream_id) {
            return Ok((position, None));
        }
        let broken = |error: headwater_core::Error| {
            damaged(self.path, &format!("position {position} of partition {partition}: {error}"))
        };
        let stream_id = match &self.stream_id {
            Some(last) if last.as_str() == stream_id => last.clone(),
            _ => StreamId::new(stream_id).map_err(broken)?,
        };
        let event_type = match self.types.iter().find(|known| known.as_str() == event_type) {
            Some(known) => known.clone(),
            None => EventType::new(event_type).map_err(broken)?,
        };
        if self.types.len() < SHARED_TYPES && !self.types.iter().any(|known| known == &event_type) {
            self.types.push(event_type.clone());
        }
        self.stream_id = Some(stream_id.clone());
        let content_type = match row.get_ref(6)? {
            ValueRef::Null => NewEvent::JSON.to_owned(),
            value => value.as_str().map_err(|error| conversion(6, error))?.to_owned(),
        };
        let metadata = match row.get_ref(8)? {
            ValueRef::Null => Metadata::empty(),
            value => Metadata::from_stored(Bytes::copy_from_slice(
                value.as_blob().map_err(|error| conversion(8, error))?,
            )),
        };
        let event = RecordedEvent {
            id: uuid(row, 1)?,
            stream_id,
            event_type,
            version: Version::new(row.get::<_, i64>(3)? as u64),
            partition,
            position,
            schema_version: row.get(5)?,
            content_type,
            data: Bytes::copy_from_slice(blob(row, 9)?),
            metadata,
            recorded_at: time(row.get(7)?)?,
        };
        Ok((position, Some(event)))
    }
}

/// A row of `find.sql`.
pub(super) fn stored(id: Uuid, row: &Row<'_>, path: &Path) -> Result<StoredEvent, ReadError> {
    let digest = blob(row, 0)?;
    let digest = digest
        .try_into()
        .map_err(|_| damaged(path, &format!("event {id} has a digest of {} bytes", digest.len())))?;
    let (partition, position) = split(row.get(3)?);
    Ok(StoredEvent {
        id,
        digest: ContentDigest(digest),
        stream_id: StreamId::new(text(row, 1)?)
            .map_err(|error| damaged(path, &format!("event {id}: {error}")))?,
        version: Version::new(row.get::<_, i64>(2)? as u64),
        partition,
        position,
    })
}

fn conversion(column: usize, error: FromSqlError) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error))
}

fn text<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row str> {
    row.get_ref(column)?.as_str().map_err(|error| conversion(column, error))
}

fn blob<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<&'row [u8]> {
    row.get_ref(column)?.as_blob().map_err(|error| conversion(column, error))
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    Uuid::from_slice(blob(row, column)?)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Blob, Box::new(error)))
}
