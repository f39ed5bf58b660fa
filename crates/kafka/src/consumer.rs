use std::ops::ControlFlow;

use async_trait::async_trait;
use headwater_bus::{CloudEvents, Consumer};
use headwater_core::{Error, Partition, Position, RecordedEvent, Result};

use crate::reader::Reader;
use crate::wire;

/// Messages that are looked at in one go, and bytes of data that are given at once.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 << 20;

/// One consumer of one partition.
pub(crate) struct KafkaConsumer {
    pub(crate) reader: Reader,
    pub(crate) wire: CloudEvents,
    pub(crate) partition: Partition,
    /// What is not beyond this was there before the consumer.
    pub(crate) after: Position,
    /// What came after the events that were given last.
    pub(crate) failed: Option<Error>,
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        loop {
            let mut events = Vec::new();
            let mut bytes = 0;
            let taken = self
                .reader
                .take(BATCH, |message| {
                    if let Some(event) = wire::event(&self.wire, message)?
                        && event.partition == self.partition
                        && event.position > self.after
                    {
                        bytes += event.data.len() + event.metadata.as_bytes().len();
                        events.push(event);
                    }
                    Ok(if bytes < BATCH_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                })
                .await;
            match taken {
                Err(error) if events.is_empty() => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    return Ok(events);
                }
                Ok(()) if !events.is_empty() => return Ok(events),
                // Messages of others may be many, and come without a wait.
                Ok(()) => tokio::task::yield_now().await,
            }
        }
    }
}
