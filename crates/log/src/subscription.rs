use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use headwater_core::{Partition, Position, Positions, RecordedEvent, Result, Token};
use jiff::Timestamp;

use crate::page::{by_partition, end, size};
use crate::{Filter, LogDescriptor, LogReader, ReadPartition};

/// Where a subscription starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// With the first event.
    #[default]
    Beginning,
    /// With the first event appended after the subscription was opened.
    End,
    /// After the place that a token names; a partition that it does not name, from its beginning. A place ahead of the head
    /// is waited for.
    After(Token),
    /// With the first event recorded at this time or later, in each partition. A [`Subscription`] waits for a time to come.
    Time(Timestamp),
}

impl StartFrom {
    /// The positions after which to start, in the log as it is now.
    ///
    /// # Errors
    /// `Invalid` for a token of another log; else as [`LogReader`].
    pub async fn resolve(&self, reader: &dyn LogReader) -> Result<Positions> {
        let LogDescriptor { log_id, partitions } = reader.descriptor();
        match self {
            Self::Beginning => Ok(Positions::default()),
            Self::End => end(reader).await,
            Self::After(token) => token.positions_in(log_id, partitions).cloned(),
            Self::Time(time) => {
                let mut positions = Vec::with_capacity(partitions.get());
                for partition in partitions.partitions() {
                    positions.push(reader.position_before(partition, *time).await?);
                }
                Ok(by_partition(positions))
            }
        }
    }
}

/// What [`Subscription::next_batch`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    /// In position order within each partition. May be empty: what was there did not pass the filter, or there is nothing
    /// yet and `caught_up` has changed.
    pub events: Vec<RecordedEvent>,
    /// The place after these events, all partitions: start from here to go on.
    pub token: Token,
    /// All that was there has been given.
    pub caught_up: bool,
}

/// Reads a log by pull: first what is there, then what comes, without a seam, over all partitions in turn.
///
/// ```text
/// position < head: read_partition(after position) ──▶ page (and the head of the same snapshot)
/// position ≥ head: wait_beyond(position) ──▶ the next head
/// ```
///
/// There is no seam because both sides speak of positions only: nothing is handed from a reader to a listener. What is not
/// pulled is not read, so a slow consumer costs nothing but its lag.
pub struct Subscription {
    reader: Arc<dyn LogReader>,
    descriptor: LogDescriptor,
    filter: Filter,
    parts: Vec<Part>,
    /// Events recorded before this are not given: with a time to come, they are appended after the start was resolved.
    since: Option<Timestamp>,
    /// The partition to begin with, so that a large backlog in one does not hold up the others.
    turn: usize,
    waits: FuturesUnordered<BoxFuture<'static, (Partition, Result<Position>)>>,
    /// Told with the last batch.
    was_caught_up: bool,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    /// All up to here has been given.
    position: Position,
    /// The head as last seen.
    head: Position,
    /// A wait for a head beyond `position` is under way.
    waiting: bool,
}

impl Subscription {
    /// Opens a subscription; the start is resolved now. A [`StartFrom::Time`] holds for this subscription: a token says how far
    /// it has looked, not what it leaves out.
    ///
    /// # Errors
    /// As [`StartFrom::resolve`].
    pub async fn open(reader: Arc<dyn LogReader>, start: &StartFrom, filter: Filter) -> Result<Self> {
        let positions = start.resolve(&*reader).await?;
        let descriptor = reader.descriptor();
        let heads = reader.heads().await?;
        let parts = heads
            .iter()
            .zip(descriptor.partitions.partitions())
            .map(|(head, partition)| Part {
                position: positions.get(partition),
                head: head.position,
                waiting: false,
            })
            .collect();
        let since = match start {
            StartFrom::Time(time) => Some(*time),
            StartFrom::Beginning | StartFrom::End | StartFrom::After(_) => None,
        };
        let waits = FuturesUnordered::new();
        Ok(Self { reader, descriptor, filter, parts, since, turn: 0, waits, was_caught_up: false })
    }

    /// The place after all that has been given.
    pub fn token(&self) -> Token {
        self.token_at(self.parts.iter().map(|part| part.position))
    }

    fn token_at(&self, positions: impl Iterator<Item = Position>) -> Token {
        Token::new(self.descriptor.log_id, by_partition(positions))
    }

    /// The next events: at most `max_events` (but at least one, if any), and no further page once there are `max_bytes` of data and metadata.
    ///
    /// Returns when it has moved on, if only over events that the filter leaves out, and when it has caught up; otherwise
    /// waits. Cancel-safe: a dropped call has given nothing and moved nothing.
    ///
    /// # Errors
    /// As [`LogReader`]. The subscription stays where it was; call again to go on.
    pub async fn next_batch(&mut self, max_events: usize, max_bytes: usize) -> Result<EventBatch> {
        loop {
            self.watch();
            // What has come to a partition that was at its end is seen even when others always have more.
            while let Some(Some((partition, head))) = self.waits.next().now_or_never() {
                self.seen(partition, head)?;
            }
            if let Some(batch) = self.read(max_events.max(1), max_bytes).await? {
                return Ok(batch);
            }
            if let Some((partition, head)) = self.waits.next().await {
                self.seen(partition, head)?;
            }
        }
    }

    /// One pass over the partitions that have more. `None`: none has, and that is known.
    async fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Option<EventBatch>> {
        let mut parts: Vec<(Position, Position)> =
            self.parts.iter().map(|part| (part.position, part.head)).collect();
        let count = parts.len();
        let mut turn = self.turn;
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut moved = false;
        for step in 0..count {
            let index = (self.turn + step) % count;
            let (position, head) = parts[index];
            if position >= head {
                continue;
            }
            if events.len() >= max_events || (bytes >= max_bytes && !events.is_empty()) {
                break;
            }
            let mut page = self
                .reader
                .read_partition(ReadPartition {
                    partition: Partition::new(index as u16),
                    after: position,
                    up_to: None,
                    filter: self.filter.clone(),
                    limit: max_events - events.len(),
                    max_bytes: max_bytes.saturating_sub(bytes),
                })
                .await?;
            if let Some(since) = self.since {
                page.events.retain(|event| event.recorded_at >= since);
            }
            bytes += page.events.iter().map(size).sum::<usize>();
            moved |= page.reached > position;
            parts[index] = (page.reached.max(position), page.head);
            turn = (index + 1) % count;
            if events.is_empty() {
                events = page.events;
            } else {
                events.extend(page.events);
            }
        }
        // No await from here on: what has been read is given, or the call was dropped and nothing has moved.
        let caught_up = parts.iter().all(|(position, head)| position >= head);
        let news = moved || caught_up != self.was_caught_up;
        self.turn = turn;
        for (part, (position, head)) in self.parts.iter_mut().zip(parts) {
            part.position = position;
            // As the page has it, even when it is lower than before (another replica answered): a head that no page confirms
            // would be read for again and again; one that is reached is waited for.
            part.head = head;
        }
        if !news {
            return Ok(None);
        }
        self.was_caught_up = caught_up;
        Ok(Some(EventBatch { events, token: self.token(), caught_up }))
    }

    /// Sees to it that every partition that is at its end is waited for.
    fn watch(&mut self) {
        for (index, part) in self.parts.iter_mut().enumerate() {
            if part.waiting || part.position < part.head {
                continue;
            }
            part.waiting = true;
            let reader = Arc::clone(&self.reader);
            let (partition, position) = (Partition::new(index as u16), part.position);
            self.waits
                .push(Box::pin(async move { (partition, reader.wait_beyond(partition, position).await) }));
        }
    }

    fn seen(&mut self, partition: Partition, head: Result<Position>) -> Result<()> {
        let part = &mut self.parts[partition.index()];
        part.waiting = false;
        part.head = head?;
        Ok(())
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("parts", &self.parts).finish_non_exhaustive()
    }
}
