//! Reads over several pages that end.

use std::collections::VecDeque;

use headwater_core::{
    Error, Partition, Position, Positions, RecordedEvent, Result, StreamId, Token, Version,
};
use headwater_log::{Direction, Filter, ReadPartition, ReadStream, StartFrom, end};

use crate::store::{PAGE_BYTES, PAGE_EVENTS, Store};

/// What to read of the log.
pub(crate) struct Scan {
    pub(crate) from: StartFrom,
    pub(crate) up_to: Option<Token>,
    pub(crate) filter: Filter,
    pub(crate) partition: Option<Partition>,
    pub(crate) limit: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
}

impl Scan {
    /// All events there are.
    pub(crate) fn all() -> Self {
        Self {
            from: StartFrom::Beginning,
            up_to: None,
            filter: Filter::default(),
            partition: None,
            limit: None,
            max_bytes: None,
        }
    }
}

/// Reads the log page after page, its partitions in turn, up to where it ended when this began.
pub(crate) struct Pages {
    filter: Filter,
    /// What is still to be read, and up to where.
    parts: VecDeque<(Partition, Position)>,
    reached: Positions,
    /// Where the partitions that are read ended when this began.
    pub(crate) head: Positions,
    limit: u64,
    max_bytes: u64,
    begun: bool,
}

/// One page of [`Pages`].
pub(crate) struct Page {
    pub(crate) events: Vec<RecordedEvent>,
    pub(crate) reached: Positions,
}

impl Pages {
    pub(crate) async fn open(store: &Store, scan: Scan) -> Result<Self> {
        let reader = &*store.reader;
        let descriptor = reader.descriptor();
        if let Some(partition) = scan.partition {
            descriptor.partitions.check(u32::from(partition.get()))?;
        }
        let up_to = match &scan.up_to {
            Some(token) => Some(
                token
                    .positions_in(descriptor.log_id, descriptor.partitions)
                    .map_err(|error| renamed(error, "up_to"))?
                    .clone(),
            ),
            None => None,
        };
        // The heads first: a start at the end is then never before them.
        let heads = end(reader).await?;
        let reached = scan.from.resolve(reader).await.map_err(|error| renamed(error, "from"))?;
        let wanted = |partition: &Partition| scan.partition.is_none_or(|only| only == *partition);
        let head: Positions = heads.iter().filter(|(partition, _)| wanted(partition)).collect();
        let parts = descriptor
            .partitions
            .partitions()
            .filter(wanted)
            .map(|partition| {
                let bound = up_to
                    .as_ref()
                    .map(|up_to| up_to.get(partition))
                    .filter(|bound| *bound > Position::ZERO)
                    .unwrap_or(Position::MAX);
                (partition, bound.min(head.get(partition)))
            })
            .filter(|(partition, bound)| reached.get(*partition) < *bound)
            .collect();
        Ok(Self {
            filter: scan.filter,
            parts,
            reached,
            head,
            limit: scan.limit.unwrap_or(u64::MAX),
            max_bytes: scan.max_bytes.unwrap_or(u64::MAX),
            begun: false,
        })
    }

    /// The next page; there is at least one. `None`: that was the last.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<Page>> {
        let first = !std::mem::replace(&mut self.begun, true);
        let nothing_left = self.limit == 0 || (self.max_bytes == 0 && !first);
        let Some((partition, bound)) = self.parts.pop_front().filter(|_| !nothing_left) else {
            return Ok(first.then(|| Page { events: Vec::new(), reached: self.reached.clone() }));
        };
        let page = store
            .reader
            .read_partition(ReadPartition {
                partition,
                after: self.reached.get(partition),
                up_to: Some(bound),
                filter: self.filter.clone(),
                limit: self.limit.min(PAGE_EVENTS as u64) as usize,
                max_bytes: self.max_bytes.min(PAGE_BYTES as u64) as usize,
            })
            .await?;
        let reached = page.reached.min(bound);
        if reached <= self.reached.get(partition) {
            return Err(Error::internal(format!(
                "reading partition {partition} stays at position {reached}, below {bound}"
            )));
        }
        self.reached.set(partition, reached);
        self.limit -= page.events.len() as u64;
        self.max_bytes = self.max_bytes.saturating_sub(size(&page.events));
        if reached < bound {
            self.parts.push_back((partition, bound));
        }
        Ok(Some(Page { events: page.events, reached: self.reached.clone() }))
    }
}

/// Reads one stream id page after page, up to the version that it had when this began.
pub(crate) struct StreamPages {
    stream_id: StreamId,
    direction: Direction,
    from: Option<Version>,
    limit: u64,
    max_bytes: u64,
    /// The stream id's version, once known.
    version: Option<Version>,
    done: bool,
}

impl StreamPages {
    pub(crate) fn new(
        stream_id: StreamId,
        direction: Direction,
        from: Option<Version>,
        limit: Option<u64>,
        max_bytes: Option<u64>,
    ) -> Self {
        let (limit, max_bytes) = (limit.unwrap_or(u64::MAX), max_bytes.unwrap_or(u64::MAX));
        Self { stream_id, direction, from, limit, max_bytes, version: None, done: false }
    }

    /// The next page and the stream id's version; there is at least one. `None`: that was the last.
    pub(crate) async fn next(&mut self, store: &Store) -> Result<Option<(Vec<RecordedEvent>, Version)>> {
        if self.done {
            return Ok(None);
        }
        let mut page = store
            .reader
            .read_stream(ReadStream {
                stream_id: self.stream_id.clone(),
                from: self.from,
                direction: self.direction,
                limit: self.limit.min(PAGE_EVENTS as u64) as usize,
                max_bytes: self.max_bytes.min(PAGE_BYTES as u64) as usize,
            })
            .await?;
        let version = *self.version.get_or_insert(page.version);
        // What was appended since is not of this read.
        page.events.retain(|event| event.version <= version);
        self.limit -= page.events.len() as u64;
        self.max_bytes = self.max_bytes.saturating_sub(size(&page.events));
        self.from = match (page.events.last(), self.direction) {
            (Some(last), Direction::Forwards) if last.version < version => Some(last.version.next()),
            (Some(last), Direction::Backwards) if last.version.get() > 1 => {
                Some(Version::new(last.version.get() - 1))
            }
            _ => {
                self.done = true;
                None
            }
        };
        self.done |= self.limit == 0 || self.max_bytes == 0;
        Ok(Some((page.events, version)))
    }
}

/// Bytes of data and metadata.
pub(crate) fn size(events: &[RecordedEvent]) -> u64 {
    events.iter().map(|event| (event.data.len() + event.metadata.as_bytes().len()) as u64).sum()
}

/// An invalid token, under the name that the request has for it.
pub(crate) fn renamed(error: Error, field: &str) -> Error {
    match error {
        Error::Invalid { message, .. } => Error::invalid(field, message),
        other => other,
    }
}
