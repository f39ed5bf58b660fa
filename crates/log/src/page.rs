use headwater_core::{Partition, Position, Positions, RecordedEvent, Result};

use crate::{Filter, LogReader, ReadPartition};

/// Most events that one call looks at in search of those that a filter lets pass.
const MOST_LOOKED_AT: u64 = 100_000;

/// A page over all partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAll {
    /// Only events beyond these.
    pub after: Positions,
    /// Only these.
    pub filter: Filter,
    /// Events at most.
    pub limit: usize,
    /// Bytes of data and metadata, roughly; at least one event is returned whatever its size.
    pub max_bytes: usize,
}

/// The answer to [`ReadAll`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllPage {
    /// In position order within each partition; partitions follow one another.
    pub events: Vec<RecordedEvent>,
    /// How far this page has looked: read on after it. At least what was asked for.
    pub next: Positions,
    /// The page ends where the log ended. Otherwise there may be more, even when `events` is empty because of the filter.
    pub caught_up: bool,
}

/// Reads a page over all partitions, those first that `after` has read least of, so that none is starved by others that grow.
/// A position ahead of the head gives nothing.
///
/// # Errors
/// As [`LogReader::read_partition`].
pub async fn read_all(reader: &dyn LogReader, request: ReadAll) -> Result<AllPage> {
    let ReadAll { after, filter, limit, max_bytes } = request;
    let mut page = AllPage { events: Vec::new(), next: after, caught_up: true };
    let mut order: Vec<Partition> = reader.descriptor().partitions.partitions().collect();
    order.sort_by_key(|partition| page.next.get(*partition));
    let (mut bytes, mut looked) = (0, 0);
    for partition in order {
        loop {
            if page.events.len() >= limit || looked >= MOST_LOOKED_AT || (bytes >= max_bytes && bytes > 0) {
                page.caught_up = false;
                return Ok(page);
            }
            let after = page.next.get(partition);
            let read = reader
                .read_partition(ReadPartition {
                    partition,
                    after,
                    up_to: None,
                    filter: filter.clone(),
                    limit: limit - page.events.len(),
                    max_bytes: max_bytes.saturating_sub(bytes),
                })
                .await?;
            looked += read.reached.get().saturating_sub(after.get());
            bytes += read.events.iter().map(size).sum::<usize>();
            page.events.extend(read.events);
            page.next.set(partition, read.reached.max(after));
            if read.reached >= read.head || read.reached <= after {
                break;
            }
        }
    }
    Ok(page)
}

/// What an event counts for against a limit of bytes.
pub(crate) fn size(event: &RecordedEvent) -> usize {
    event.data.len() + event.metadata.as_bytes().len()
}

/// The heads as positions: the end of the log.
///
/// # Errors
/// As [`LogReader::heads`].
pub async fn end(reader: &dyn LogReader) -> Result<Positions> {
    let heads = reader.heads().await?;
    Ok(by_partition(heads.into_iter().map(|head| head.position)))
}

/// Positions from a list by partition.
pub(crate) fn by_partition(positions: impl IntoIterator<Item = Position>) -> Positions {
    positions
        .into_iter()
        .enumerate()
        .map(|(index, position)| (Partition::new(index as u16), position))
        .collect()
}
