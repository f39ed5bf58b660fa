//! What of a log a topic's partition holds, told from the messages themselves. Others may write to the topic too: theirs are passed over.

use std::ops::ControlFlow;

use headwater_bus::{Checkpoint, CloudEvents, Reached};
use headwater_core::{Partition, Position, Result};
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use crate::reader::{Bounds, Reader};
use crate::reference::Reference;
use crate::wire;

/// How many of the newest messages are looked at first; twice as many each time that none is of this log.
const NEWEST: i64 = 2_000;

/// How far before a known event a consumer starts: a relay repeats its last batch at most, so what comes first is not further back.
const REPEATS: i64 = 4_000;

/// One partition of a log, in a topic.
pub(crate) struct Scan<'a> {
    pub(crate) reader: &'a Reader,
    pub(crate) wire: &'a CloudEvents,
    pub(crate) partition: Partition,
    pub(crate) topic: &'a str,
}

impl Scan<'_> {
    /// The position of `message`, if it is of this partition of this log.
    fn position(&self, message: &BorrowedMessage<'_>) -> Result<Option<Position>> {
        let place = wire::place(self.wire, message)?;
        Ok(place.filter(|place| place.partition == self.partition).map(|place| place.position))
    }

    /// As [`headwater_bus::Bus::reached`].
    pub(crate) async fn reached(&self, checkpoint: &Checkpoint) -> Result<Reached> {
        let bounds = self.reader.bounds().await?;
        let Some(reference) = &checkpoint.reference else {
            let newest = self.newest(bounds).await?;
            return Ok(if newest >= checkpoint.position {
                Reached::UpTo(newest)
            } else {
                Reached::Lost(newest)
            });
        };
        if let Some(Reference { topic, offset }) = Reference::read(reference)?
            && topic == self.topic
            && offset < bounds.end
            && let Some(position) = self.after(bounds, offset, checkpoint.position).await?
        {
            return Ok(Reached::UpTo(position));
        }
        Ok(Reached::Lost(self.newest(bounds).await?))
    }

    /// How far the log is there without a hole, where the event at `position` is at `offset`; `None` when it is not.
    async fn after(&self, bounds: Bounds, offset: i64, position: Position) -> Result<Option<Position>> {
        // What has expired was there, and so was all between it and the first that is left.
        let expired = offset < bounds.low;
        let mut jumps = expired;
        let mut proven = expired;
        let mut reached = position;
        let other = self
            .reader
            .scan(offset.max(bounds.low), bounds.end, |message| {
                let found = self.position(message)?;
                if !proven {
                    proven = message.offset() == offset && found == Some(position);
                    return Ok(if proven { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
                }
                if let Some(found) = found {
                    // Beyond a hole may stand what a relay that was superseded left.
                    if found == reached.next() || (jumps && found > reached) {
                        reached = found;
                    }
                    jumps = false;
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok((other.is_none() && proven).then_some(reached))
    }

    /// The greatest position among the newest messages; 0 when there is none, or when the topic does not begin where it should.
    async fn newest(&self, bounds: Bounds) -> Result<Position> {
        let mut before = bounds.end;
        let mut many = NEWEST;
        let mut newest = None;
        while newest.is_none() && before > bounds.low {
            let from = (bounds.end - many).max(bounds.low);
            let nothing: Option<()> = self
                .reader
                .scan(from, before, |message| {
                    newest = newest.max(self.position(message)?);
                    Ok(ControlFlow::Continue(()))
                })
                .await?;
            debug_assert!(nothing.is_none(), "nothing breaks");
            before = from;
            many *= 2;
        }
        let Some(newest) = newest else { return Ok(Position::ZERO) };
        // From a topic that nothing was removed from yet, the beginning of the log is missing only if the topic was made anew
        // under a relay that went on.
        if bounds.low == 0
            && let Some((_, first)) = self.first(0, bounds.end).await?
            && first > Position::ZERO.next()
        {
            return Ok(Position::ZERO);
        }
        Ok(newest)
    }

    /// The first event of the log from `from` to before `end`, and its offset.
    async fn first(&self, from: i64, end: i64) -> Result<Option<(i64, Position)>> {
        self.reader
            .scan(from, end, |message| {
                Ok(match self.position(message)? {
                    Some(position) => ControlFlow::Break((message.offset(), position)),
                    None => ControlFlow::Continue(()),
                })
            })
            .await
    }

    /// An offset from which on all that comes after `position` is still to come, for the first time.
    pub(crate) async fn start(&self, position: Position) -> Result<i64> {
        let Bounds { low, end } = self.reader.bounds().await?;
        let mut before = end;
        let mut back = 64;
        while position > Position::ZERO && before > low {
            let from = (end - back).max(low);
            if let Some((offset, found)) = self.first(from, before).await?
                && found <= position
            {
                return Ok((offset - REPEATS).max(low));
            }
            before = from;
            back *= 4;
        }
        Ok(low)
    }
}
