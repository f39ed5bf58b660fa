//! Events that are set aside.

use headwater_core::{Partition, Position, Result, StreamId};
use headwater_view::{Park, ParkChange, ParkVersion, ParkedEvent, ParkedStream, Revision};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::batch::require;
use super::{Inner, rollout};

/// Makes a change of parked events and answers by how many their number changed. `None`: the entry is another than expected.
pub(super) fn park(
    transaction: &Transaction<'_>,
    revision: Revision,
    park: &Park,
    version: u64,
) -> rusqlite::Result<Option<i64>> {
    let found: Option<i64> = transaction
        .prepare_cached("SELECT version FROM hw_parked_streams WHERE revision = ?1 AND stream_id = ?2")?
        .query_row(params![revision.0, park.stream_id.as_str()], |row| row.get(0))
        .optional()?;
    if found.map(|version| ParkVersion(version as u64)) != park.expected {
        return Ok(None);
    }
    match &park.change {
        ParkChange::Append { events, reason } => {
            transaction
                .prepare_cached(
                    "INSERT INTO hw_parked_streams (revision, stream_id, partition, version, count, reason, since) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                     ON CONFLICT (revision, stream_id) DO UPDATE SET version = excluded.version, count = count + excluded.count",
                )?
                .execute(params![
                    revision.0,
                    park.stream_id.as_str(),
                    park.partition.get(),
                    version as i64,
                    events.len() as i64,
                    reason,
                    Timestamp::now().as_microsecond()
                ])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO hw_parked_events (revision, stream_id, position, event_id, event_type) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for event in events {
                insert.execute(params![
                    revision.0,
                    park.stream_id.as_str(),
                    event.position.get() as i64,
                    event.id.into_bytes(),
                    event.event_type
                ])?;
            }
            Ok(Some(events.len() as i64))
        }
        ParkChange::Release { through, reason, .. } => {
            let released = transaction
                .prepare_cached(
                    "DELETE FROM hw_parked_events WHERE revision = ?1 AND stream_id = ?2 AND position <= ?3",
                )?
                .execute(params![revision.0, park.stream_id.as_str(), through.get() as i64])?
                as i64;
            transaction
                .prepare_cached(
                    "UPDATE hw_parked_streams SET version = ?3, count = count - ?4, reason = ?5 WHERE revision = ?1 AND stream_id = ?2",
                )?
                .execute(params![revision.0, park.stream_id.as_str(), version as i64, released, reason])?;
            transaction
                .prepare_cached(
                    "DELETE FROM hw_parked_streams WHERE revision = ?1 AND stream_id = ?2 AND count = 0",
                )?
                .execute(params![revision.0, park.stream_id.as_str()])?;
            Ok(Some(-released))
        }
    }
}

pub(super) fn parked(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    revision: Revision,
    after: Option<&StreamId>,
    limit: usize,
    events: usize,
) -> Result<Vec<ParkedStream>> {
    require(inner, snapshot, revision)?;
    // No stream id is empty, so all come after the empty text.
    let after = after.map_or("", StreamId::as_str);
    let ids = snapshot
        .prepare_cached("SELECT stream_id FROM hw_parked_streams WHERE revision = ?1 AND stream_id > ?2 ORDER BY stream_id LIMIT ?3")
        .and_then(|mut statement| {
            statement
                .query_map(params![revision.0, after, limit as i64], |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(|error| inner.explain("reading", error))?;
    let mut streams = Vec::with_capacity(ids.len());
    for id in ids {
        streams.extend(parked_stream(inner, snapshot, revision, &StreamId::new(id)?, events)?);
    }
    Ok(streams)
}

pub(super) fn parked_stream(
    inner: &Inner,
    snapshot: &Transaction<'_>,
    revision: Revision,
    stream_id: &StreamId,
    events: usize,
) -> Result<Option<ParkedStream>> {
    require(inner, snapshot, revision)?;
    let explain = |error| inner.explain("reading", error);
    let entry = snapshot
        .prepare_cached(
            "SELECT partition, version, count, reason, since FROM hw_parked_streams WHERE revision = ?1 AND stream_id = ?2",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![revision.0, stream_id.as_str()], |row| {
                    Ok((
                        row.get::<_, u16>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, i64>(2)?,
                        row.get::<_, String>(3)?,
                        row.get::<_, i64>(4)?,
                    ))
                })
                .optional()
        })
        .map_err(explain)?;
    let Some((partition, version, count, reason, since)) = entry else { return Ok(None) };
    let events = snapshot
        .prepare_cached(
            "SELECT position, event_id, event_type FROM hw_parked_events WHERE revision = ?1 AND stream_id = ?2 ORDER BY position LIMIT ?3",
        )
        .and_then(|mut statement| {
            statement
                .query_map(params![revision.0, stream_id.as_str(), events as i64], |row| {
                    Ok(ParkedEvent {
                        position: Position::new(row.get::<_, i64>(0)? as u64),
                        id: Uuid::from_bytes(row.get(1)?),
                        event_type: row.get(2)?,
                    })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(explain)?;
    Ok(Some(ParkedStream {
        stream_id: stream_id.clone(),
        partition: Partition::new(partition),
        version: ParkVersion(version as u64),
        reason,
        since: rollout::moment(since)?,
        count: count as u64,
        events,
    }))
}
