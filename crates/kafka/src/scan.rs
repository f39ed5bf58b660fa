//! What of a log a topic's partition holds, told from the messages themselves. Others may write to the topic too: theirs are passed over.

use std::borrow::Cow;
use std::ops::ControlFlow;

use headwater_bus::{Checkpoint, CloudEvents, Last, Reached};
use headwater_core::{Error, Partition, Position, Result};
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
    /// The event of `message`, if it is of this partition of this log.
    fn event(&self, message: &BorrowedMessage<'_>) -> Result<Option<Last>> {
        let place = wire::place(self.wire, message)?;
        Ok(place.filter(|place| place.partition == self.partition).map(Last::from))
    }

    /// # Errors
    /// `FailedPrecondition` when the oldest message is of another event stream: those who consume the topic could not tell them apart.
    pub(crate) async fn check_owner(&self) -> Result<()> {
        let Bounds { low, end } = self.reader.bounds().await?;
        let oldest = |message: &BorrowedMessage<'_>| {
            Ok(ControlFlow::Break(wire::stranger(self.wire, message).map(Cow::into_owned)))
        };
        match self.reader.scan(low, end, oldest).await?.flatten() {
            None => Ok(()),
            Some(owner) => Err(Error::failed_precondition(format!(
                "the topic {:?} carries the events of {owner}, and not of {}: give each event stream a topic of its own in bus.kafka.topic, or delete this \
                 one if it is of no more use",
                self.topic,
                self.wire.source()
            ))),
        }
    }

    /// Whether the oldest and the newest message are of this log. `None`: there is none.
    pub(crate) async fn is_ours(&self) -> Result<Option<bool>> {
        let Bounds { low, end } = self.reader.bounds().await?;
        let oldest =
            self.reader.scan(low, end, |message| Ok(ControlFlow::Break(self.event(message)?.is_some())));
        let Some(oldest) = oldest.await? else { return Ok(None) };
        let mut newest = oldest;
        let nothing: Option<()> = self
            .reader
            .scan((end - NEWEST).max(low), end, |message| {
                newest = self.event(message)?.is_some();
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        debug_assert!(nothing.is_none(), "nothing breaks");
        Ok(Some(oldest && newest))
    }

    /// As [`headwater_bus::Bus::reached`], with the end that was looked up to.
    pub(crate) async fn reached(&self, checkpoint: &Checkpoint) -> Result<(Reached, i64)> {
        let bounds = self.reader.bounds().await?;
        Ok((self.reached_within(bounds, checkpoint).await?, bounds.end))
    }

    async fn reached_within(&self, bounds: Bounds, checkpoint: &Checkpoint) -> Result<Reached> {
        let Some(reference) = &checkpoint.reference else {
            let newest = self.newest(bounds).await?;
            return Ok(if newest.position >= checkpoint.position {
                Reached::UpTo(newest)
            } else {
                Reached::Lost(newest)
            });
        };
        if let Some(Reference { topic, offset }) = Reference::read(reference)?
            && topic == self.topic
            && offset < bounds.end
            && let Some(last) = self.after(bounds, offset, checkpoint.position).await?
        {
            return Ok(Reached::UpTo(last));
        }
        Ok(Reached::Lost(self.newest(bounds).await?))
    }

    /// How far the log is there without a hole, where the event at `position` is at `offset`; `None` when it is not.
    async fn after(&self, bounds: Bounds, offset: i64, position: Position) -> Result<Option<Last>> {
        // What has expired was there, and so was all between it and the first that is left.
        let expired = offset < bounds.low;
        let mut jumps = expired;
        let mut proven = expired;
        let mut reached = Last::at(position);
        let other = self
            .reader
            .scan(offset.max(bounds.low), bounds.end, |message| {
                let found = self.event(message)?;
                if !proven {
                    proven =
                        message.offset() == offset && found.is_some_and(|found| found.position == position);
                    reached = found.filter(|_| proven).unwrap_or(reached);
                    return Ok(if proven { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
                }
                if let Some(found) = found {
                    // Beyond a hole may stand what a relay that was superseded left.
                    if found.position == reached.position.next()
                        || (jumps && found.position > reached.position)
                    {
                        reached = found;
                    }
                    jumps = false;
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok((other.is_none() && proven).then_some(reached))
    }

    /// The event of the greatest position among the newest messages; none when there is none, or when the topic does not begin where it should.
    async fn newest(&self, bounds: Bounds) -> Result<Last> {
        let mut before = bounds.end;
        let mut many = NEWEST;
        let mut newest: Option<Last> = None;
        while newest.is_none() && before > bounds.low {
            let from = (bounds.end - many).max(bounds.low);
            let nothing: Option<()> = self
                .reader
                .scan(from, before, |message| {
                    newest =
                        self.event(message)?.map(|event| event.max(newest.unwrap_or_default())).or(newest);
                    Ok(ControlFlow::Continue(()))
                })
                .await?;
            debug_assert!(nothing.is_none(), "nothing breaks");
            before = from;
            many *= 2;
        }
        let Some(newest) = newest else { return Ok(Last::default()) };
        // From a topic that nothing was removed from yet, the beginning of the log is missing only if the topic was made anew
        // under a relay that went on.
        if bounds.low == 0
            && let Some((_, first)) = self.first(0, bounds.end).await?
            && first > Position::ZERO.next()
        {
            return Ok(Last::default());
        }
        Ok(newest)
    }

    /// The first event of the log from `from` to before `end`, and its offset.
    async fn first(&self, from: i64, end: i64) -> Result<Option<(i64, Position)>> {
        self.reader
            .scan(from, end, |message| {
                Ok(match self.event(message)? {
                    Some(event) => ControlFlow::Break((message.offset(), event.position)),
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
