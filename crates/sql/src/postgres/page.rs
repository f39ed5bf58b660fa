//! Pages of a partition, from the log's database or from a follower of it.

use headwater_core::{Position, RecordedEvent, Result};
use headwater_log::{PartitionPage, ReadPartition};
use sqlx::Row;

use super::pool::Pool;
use super::rows;

/// Positions that a page with a filter looks at, at most: some milliseconds.
const LOOK_AT: u64 = 10_000;

/// The page that `request` asks for, in one snapshot.
pub(super) async fn read(pool: &Pool, request: &ReadPartition) -> Result<PartitionPage> {
    let &ReadPartition { partition, after, up_to, ref filter, limit, max_bytes } = request;
    let number = i64::from(partition.get());
    let look_at = if filter.is_empty() { limit as u64 } else { LOOK_AT };
    let window = Position::new(after.get().saturating_add(look_at).min(Position::MAX.get()));
    let end = up_to.map_or(window, |up_to| up_to.min(window));
    let types: &Vec<&str> = &filter.event_types.iter().map(headwater_core::EventType::as_str).collect();
    let rows = pool
        .read("read a partition", |mut connection| async move {
            sqlx::query(include_str!("log/page.sql"))
                .bind(number)
                .bind(after.get() as i64)
                .bind(end.get() as i64)
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .bind(types)
                .bind(filter.stream_id_prefix.as_deref())
                .bind(i64::try_from(max_bytes.max(1)).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await
        })
        .await
        .map_err(|error| pool.explain("reading", &error))?;
    let damaged = |error: &dyn std::fmt::Display| pool.broken(&format!("partition {partition}"), error);
    let Some(first) = rows.first() else {
        return Err(damaged(&"it has no head"));
    };
    let head = first.try_get::<i64, _>("head").map_err(|error| damaged(&error))?;
    let head = Position::new(head as u64);
    let mut page = PartitionPage { events: Vec::with_capacity(rows.len()), reached: after, head };
    for row in &rows {
        let position: Option<i64> = row.try_get("position").map_err(|error| damaged(&error))?;
        // The one row of a page without an event.
        let Some(position) = position else { break };
        let position = Position::new(position as u64);
        if filter.is_empty() && position != page.reached.next() {
            let what = format!("it has no event at position {}, below its head {head}", page.reached.next());
            return Err(damaged(&what));
        }
        page.reached = position;
        page.events.push(rows::event(row, partition, position).map_err(|error| damaged(&error))?);
    }
    let size = |event: &RecordedEvent| event.data.len() + event.metadata.as_bytes().len();
    let is_cut = page.events.len() >= limit || page.events.iter().map(size).sum::<usize>() >= max_bytes;
    if !filter.is_empty() && !is_cut {
        // Nothing else of the window passes.
        page.reached = end.min(head).max(after);
    }
    Ok(page)
}
