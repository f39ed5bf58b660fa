use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use headwater_core::{PartitionCount, Position, RecordedEvent};

use crate::page::size;
use crate::{PartitionPage, ReadPartition};

/// Events that are kept of one partition at most, and over all partitions: about what their readers are behind one another at the live edge.
const EVENTS: (usize, usize) = (4_096, 65_536);
/// And bytes of data and metadata.
const BYTES: (usize, usize) = (16 << 20, 64 << 20);
/// What a partition may keep however many there are.
const LEAST: (usize, usize) = (64, 64 << 10);

/// The newest events of one partition, in memory: those who follow closely read them here instead of in the store.
///
/// What it holds is one run of positions without a hole. Events never change, so a page of it is true for as long as the log is not set back; who
/// owns the tail says how far the log is, and a log that ends before the tail does is not read from it.
#[derive(Debug)]
pub struct Tail {
    newest: Mutex<Newest>,
    most_events: usize,
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Newest {
    events: VecDeque<RecordedEvent>,
    bytes: usize,
}

impl Tail {
    /// One for each partition of a log, which share out what may be kept.
    pub fn of_partitions(partitions: PartitionCount) -> Vec<Self> {
        let share = |most: (usize, usize), least| (most.1 / partitions.get()).clamp(least, most.0);
        let (most_events, most_bytes) = (share(EVENTS, LEAST.0), share(BYTES, LEAST.1));
        partitions.partitions().map(|_| Self { newest: Mutex::default(), most_events, most_bytes }).collect()
    }

    /// Adds events in position order without a hole. Where they do not follow those that are kept, these are forgotten; what is older than those
    /// that are kept is left out.
    pub fn push(&self, events: impl IntoIterator<Item = RecordedEvent>) {
        let mut newest = self.enter();
        for event in events {
            match newest.events.back().map(|last| last.position) {
                Some(last) if event.position <= last => continue,
                Some(last) if event.position != last.next() => *newest = Newest::default(),
                _ => {}
            }
            newest.bytes += size(&event);
            newest.events.push_back(event);
        }
        while newest.events.len() > self.most_events || newest.bytes > self.most_bytes {
            let Some(oldest) = newest.events.pop_front() else { break };
            newest.bytes -= size(&oldest);
        }
    }

    /// Forgets all events.
    pub fn clear(&self) {
        *self.enter() = Newest::default();
    }

    /// The page that `request` asks for of a log that has at least `head`, if the first event that it would hold is kept.
    pub fn page(&self, request: &ReadPartition, head: Position) -> Option<PartitionPage> {
        let newest = self.enter();
        let (first, last) = (newest.events.front()?.position, newest.events.back()?.position);
        if request.after.next() < first || request.after >= last || last > head {
            return None;
        }
        let skipped = (request.after.next().get() - first.get()) as usize;
        let up_to = request.up_to.unwrap_or(last);
        let mut page = PartitionPage { events: Vec::new(), reached: request.after, head };
        let mut bytes = 0;
        for event in newest.events.range(skipped..) {
            if event.position > up_to || page.events.len() >= request.limit {
                break;
            }
            if request.filter.matches(event.event_type.as_str(), event.stream_id.as_str()) {
                bytes += size(event);
                if bytes > request.max_bytes && !page.events.is_empty() {
                    break;
                }
                page.events.push(event.clone());
            }
            page.reached = event.position;
        }
        Some(page)
    }

    // What is kept is whole after every change.
    fn enter(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headwater_core::{EventType, NewEvent, Partition, StreamId, Version};
    use jiff::Timestamp;

    use super::*;
    use crate::store::{Batch, BatchEvent};
    use crate::{Epoch, Filter};

    /// Events of the positions `from` to `to`.
    fn events(from: u64, to: u64) -> Vec<RecordedEvent> {
        let event = |position: u64| BatchEvent {
            stream_id: StreamId::new(format!("order-{}", position % 2)).unwrap(),
            version: Version::new(position),
            digest: NewEvent::json(EventType::new("Made").unwrap(), "1")
                .content_digest(&StreamId::new("order-1").unwrap()),
            event: NewEvent::json(EventType::new("Made").unwrap(), format!("\"{position:0100}\"")),
        };
        let batch = Arc::new(Batch {
            partition: Partition::ZERO,
            epoch: Epoch(1),
            head: Position::new(from - 1),
            events: (from..=to).map(event).collect(),
        });
        batch.recorded(Timestamp::UNIX_EPOCH).collect()
    }

    fn ask(after: u64) -> ReadPartition {
        ReadPartition {
            partition: Partition::ZERO,
            after: Position::new(after),
            up_to: None,
            filter: Filter::default(),
            limit: 1_000,
            max_bytes: 1 << 20,
        }
    }

    fn tail(partitions: usize) -> Tail {
        Tail::of_partitions(PartitionCount::new(partitions as u32).unwrap()).remove(0)
    }

    fn positions(page: Option<PartitionPage>) -> Option<Vec<u64>> {
        page.map(|page| page.events.iter().map(|event| event.position.get()).collect())
    }

    #[test]
    fn gives_what_follows_a_position_that_it_still_knows() {
        let tail = tail(1);
        let head = Position::new(9);
        assert_eq!(tail.page(&ask(0), head), None, "nothing is kept yet");
        tail.push(events(5, 9));
        assert_eq!(tail.page(&ask(3), head), None, "4 is not kept");
        assert_eq!(positions(tail.page(&ask(4), head)), Some(vec![5, 6, 7, 8, 9]));
        assert_eq!(positions(tail.page(&ask(8), head)), Some(vec![9]));
        assert_eq!(tail.page(&ask(9), head), None, "whether there is more, only the log knows");
        assert_eq!(tail.page(&ask(20), head), None);
    }

    #[test]
    fn keeps_to_limit_bytes_end_and_filter() {
        let tail = tail(1);
        let head = Position::new(12);
        tail.push(events(1, 9));
        let page = tail.page(&ReadPartition { limit: 2, ..ask(0) }, head).unwrap();
        assert_eq!((page.reached.get(), page.head.get()), (2, 12));
        let page = tail.page(&ReadPartition { max_bytes: 250, ..ask(0) }, head).unwrap();
        assert_eq!((page.events.len(), page.reached.get()), (2, 2));
        let page = tail.page(&ReadPartition { max_bytes: 1, ..ask(0) }, head).unwrap();
        assert_eq!(page.events.len(), 1, "one event at least");
        let page = tail.page(&ReadPartition { up_to: Some(Position::new(3)), ..ask(0) }, head).unwrap();
        assert_eq!((page.events.len(), page.reached.get()), (3, 3));
        let filter = Filter { stream_id_prefix: Some("order-1".to_owned()), ..Filter::default() };
        let page = tail.page(&ReadPartition { filter, ..ask(0) }, head).unwrap();
        assert_eq!((page.events.len(), page.reached.get()), (5, 9), "it says how far it has looked");
    }

    #[test]
    fn is_one_run_without_a_hole() {
        let tail = tail(1);
        let head = Position::new(99);
        tail.push(events(1, 3));
        tail.push(events(2, 5));
        assert_eq!(positions(tail.page(&ask(0), head)), Some(vec![1, 2, 3, 4, 5]));
        tail.push(events(8, 9));
        assert_eq!(tail.page(&ask(4), head), None, "6 and 7 are missing");
        assert_eq!(positions(tail.page(&ask(7), head)), Some(vec![8, 9]));
        assert_eq!(tail.page(&ask(7), Position::new(8)), None, "the log was set back");
        tail.clear();
        assert_eq!(tail.page(&ask(7), head), None);
    }

    #[test]
    fn many_partitions_keep_less_each() {
        for (partitions, kept) in [(1, 4_096), (256, 256)] {
            let tail = tail(partitions);
            tail.push(events(1, 5_000));
            assert_eq!(tail.page(&ask(5_000 - kept - 1), Position::new(5_000)), None);
            let page = tail.page(&ask(5_000 - kept), Position::new(5_000)).unwrap();
            assert_eq!(page.events.len(), kept.min(1_000) as usize);
        }
    }
}
