//! Looking through a stream: by headers alone, from its end backwards in windows that grow, since what is looked for is near the end.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt as _;
use headwater_bus::{CloudEvents, Last, Place};
use headwater_core::{Error, Partition, Position, Result};

use crate::connect::PATIENCE;
use crate::headers::attribute;

/// Messages of the first window.
const FIRST_WINDOW: u64 = 256;

/// A consumer that nobody uses goes after this.
const UNUSED: Duration = Duration::from_secs(30);

/// What is looked through: the messages of one partition of one log.
pub(crate) struct Scan<'a> {
    pub(crate) stream: &'a Stream,
    pub(crate) events: &'a CloudEvents,
    pub(crate) filter: &'a str,
    pub(crate) partition: Partition,
}

/// A consumer that acknowledges nothing and leaves nothing behind.
pub(crate) fn config(filter: &str, from: u64) -> pull::Config {
    pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
        ack_policy: AckPolicy::None,
        filter_subject: filter.to_owned(),
        inactive_threshold: UNUSED,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

impl Scan<'_> {
    /// The event of the greatest position from sequence `from` to `to`, if there is any.
    pub(crate) async fn greatest(&self, from: u64, to: u64) -> Result<Option<Last>> {
        let mut greatest: Option<Last> = None;
        self.each(from, to, |_, place| {
            greatest = Some(greatest.map_or(place.into(), |greatest| greatest.max(place.into())));
        })
        .await?;
        Ok(greatest)
    }

    /// The greatest position of the newest messages from `first` to `last`: as many as it takes to find one. What comes after it may be there as well,
    /// but nothing between.
    pub(crate) async fn newest(&self, first: u64, last: u64) -> Result<Option<Last>> {
        let (mut to, mut width) = (last, FIRST_WINDOW);
        while to >= first && to > 0 {
            let from = to.saturating_sub(width - 1).max(first);
            let greatest = self.greatest(from, to).await?;
            if greatest.is_some() {
                return Ok(greatest);
            }
            (to, width) = (from - 1, width * 2);
        }
        Ok(None)
    }

    /// Where to begin to read what is beyond `after`, in the messages from `first` to `last`: nothing beyond it stands before there for the first time.
    pub(crate) async fn start(&self, first: u64, last: u64, after: Position) -> Result<u64> {
        if after == Position::ZERO {
            return Ok(first);
        }
        let (mut to, mut width) = (last, FIRST_WINDOW);
        while to >= first && to > 0 {
            let from = to.saturating_sub(width - 1).max(first);
            let mut known = None;
            self.each(from, to, |sequence, place| {
                if place.position <= after {
                    known = Some(sequence);
                }
            })
            .await?;
            if let Some(known) = known {
                return Ok(known + 1);
            }
            (to, width) = (from - 1, width * 2);
        }
        Ok(first)
    }

    async fn each(&self, from: u64, to: u64, mut see: impl FnMut(u64, Place)) -> Result<()> {
        if from > to {
            return Ok(());
        }
        let config = pull::Config { headers_only: true, ..config(self.filter, from) };
        let consumer = self.stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        // What comes later is beyond `to`.
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(1_000)
            .messages()
            .await
            .map_err(|error| failed(&error))?;
        while left > 0 {
            left -= 1;
            let message = tokio::time::timeout(PATIENCE, messages.next())
                .await
                .map_err(|_| failed(&"nothing comes"))?
                .ok_or_else(|| failed(&"the consumer ended"))?
                .map_err(|error| failed(&error))?;
            let sequence = message.info().map_err(|error| failed(&error))?.stream_sequence;
            if sequence > to {
                break;
            }
            if let Some(place) = place(self.events, message.headers.as_ref())
                && place.partition == self.partition
            {
                see(sequence, place);
            }
        }
        drop(messages);
        if let Err(error) = self.stream.delete_consumer(&consumer.cached_info().name).await {
            tracing::debug!(%error, "a consumer could not be deleted, and goes by itself");
        }
        Ok(())
    }
}

/// Where a message belongs; `None` for those that are not of this log, or make no sense.
pub(crate) fn place(events: &CloudEvents, headers: Option<&HeaderMap>) -> Option<Place> {
    let headers = headers?;
    events.place(|name| attribute(headers, name)).ok().flatten()
}

fn failed(reason: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!("looking through the JetStream stream: {reason}"))
}
