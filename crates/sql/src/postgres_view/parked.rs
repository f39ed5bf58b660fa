//! Events that are set aside.

use headwater_core::{Error, Partition, Position, Result, StreamId};
use headwater_view::{Park, ParkChange, ParkVersion, ParkedEvent, ParkedStream, Revision};
use jiff::Timestamp;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::batch::require;
use super::{Stop, other, rollout};

/// Makes a change of parked events and answers by how many their number changed. `None`: the entry is another than expected.
pub(super) async fn park(
    connection: &mut PgConnection,
    revision: Revision,
    park: &Park,
    version: u64,
) -> sqlx::Result<Option<i64>> {
    let (number, stream_id) = (i64::from(revision.0), park.stream_id.as_str());
    let found: Option<i64> =
        sqlx::query_scalar("SELECT version FROM hw_parked_streams WHERE revision = $1 AND stream_id = $2")
            .bind(number)
            .bind(stream_id)
            .fetch_optional(&mut *connection)
            .await?;
    if found.map(|version| ParkVersion(version as u64)) != park.expected {
        return Ok(None);
    }
    match &park.change {
        ParkChange::Append { events, reason } => {
            sqlx::query(
                "INSERT INTO hw_parked_streams AS s (revision, stream_id, partition, version, count, reason, since) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (revision, stream_id) DO UPDATE SET version = excluded.version, count = s.count + excluded.count",
            )
            .bind(number)
            .bind(stream_id)
            .bind(i64::from(park.partition.get()))
            .bind(version as i64)
            .bind(events.len() as i64)
            .bind(reason.replace('\0', "\u{fffd}"))
            .bind(Timestamp::now().as_microsecond())
            .execute(&mut *connection)
            .await?;
            let positions: Vec<i64> = events.iter().map(|event| event.position.get() as i64).collect();
            let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
            let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
            sqlx::query(
                "INSERT INTO hw_parked_events (revision, stream_id, position, event_id, event_type) \
                 SELECT $1, $2, e.position, e.id, e.type FROM unnest($3::BIGINT [], $4::UUID [], $5::TEXT []) AS e (position, id, type)",
            )
            .bind(number)
            .bind(stream_id)
            .bind(positions)
            .bind(ids)
            .bind(types)
            .execute(connection)
            .await?;
            Ok(Some(events.len() as i64))
        }
        ParkChange::Release { through, reason, .. } => {
            let released = sqlx::query(
                "DELETE FROM hw_parked_events WHERE revision = $1 AND stream_id = $2 AND position <= $3",
            )
            .bind(number)
            .bind(stream_id)
            .bind(through.get() as i64)
            .execute(&mut *connection)
            .await?
            .rows_affected() as i64;
            sqlx::query(
                "UPDATE hw_parked_streams SET version = $3, count = count - $4, reason = $5 WHERE revision = $1 AND stream_id = $2",
            )
            .bind(number)
            .bind(stream_id)
            .bind(version as i64)
            .bind(released)
            .bind(reason.replace('\0', "\u{fffd}"))
            .execute(&mut *connection)
            .await?;
            sqlx::query("DELETE FROM hw_parked_streams WHERE revision = $1 AND stream_id = $2 AND count = 0")
                .bind(number)
                .bind(stream_id)
                .execute(connection)
                .await?;
            Ok(Some(-released))
        }
    }
}

pub(super) async fn parked(
    connection: &mut PgConnection,
    revision: Revision,
    after: Option<&StreamId>,
    limit: usize,
    events: usize,
) -> Result<Vec<ParkedStream>, Stop<Error>> {
    require(connection, revision).await?;
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT stream_id FROM hw_parked_streams WHERE revision = $1 AND stream_id > $2 ORDER BY stream_id LIMIT $3",
    )
    .bind(i64::from(revision.0))
    // No stream id is empty, so all come after the empty text.
    .bind(after.map_or("", StreamId::as_str))
    .bind(limit as i64)
    .fetch_all(&mut *connection)
    .await?;
    let mut streams = Vec::with_capacity(ids.len());
    for id in ids {
        let stream_id = StreamId::new(id).map_err(other)?;
        streams.extend(entry(connection, revision, &stream_id, events).await?);
    }
    Ok(streams)
}

pub(super) async fn parked_stream(
    connection: &mut PgConnection,
    revision: Revision,
    stream_id: &StreamId,
    events: usize,
) -> Result<Option<ParkedStream>, Stop<Error>> {
    require(connection, revision).await?;
    entry(connection, revision, stream_id, events).await
}

async fn entry(
    connection: &mut PgConnection,
    revision: Revision,
    stream_id: &StreamId,
    events: usize,
) -> Result<Option<ParkedStream>, Stop<Error>> {
    let found: Option<(i64, i64, i64, String, i64)> = sqlx::query_as(
        "SELECT partition, version, count, reason, since FROM hw_parked_streams WHERE revision = $1 AND stream_id = $2",
    )
    .bind(i64::from(revision.0))
    .bind(stream_id.as_str())
    .fetch_optional(&mut *connection)
    .await?;
    let Some((partition, version, count, reason, since)) = found else { return Ok(None) };
    let events: Vec<(i64, Uuid, String)> = sqlx::query_as(
        "SELECT position, event_id, event_type FROM hw_parked_events WHERE revision = $1 AND stream_id = $2 ORDER BY position LIMIT $3",
    )
    .bind(i64::from(revision.0))
    .bind(stream_id.as_str())
    .bind(i64::try_from(events).unwrap_or(i64::MAX))
    .fetch_all(connection)
    .await?;
    Ok(Some(ParkedStream {
        stream_id: stream_id.clone(),
        partition: Partition::new(partition as u16),
        version: ParkVersion(version as u64),
        reason,
        since: rollout::moment(since).map_err(other)?,
        count: count as u64,
        events: events
            .into_iter()
            .map(|(position, id, event_type)| ParkedEvent {
                position: Position::new(position as u64),
                id,
                event_type,
            })
            .collect(),
    }))
}
