use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull;
use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _};
use headwater_bus::{CloudEvents, Consumer};
use headwater_core::{Error, Partition, Position, RecordedEvent, Result};

use crate::headers::attribute;

/// Events that are given at once.
const BATCH: usize = 512;

/// Messages, and bytes of them, that JetStream sends before it is asked again.
pub(crate) const AHEAD: (usize, usize) = (1_000, 8 << 20);

/// Reads one partition from a JetStream consumer.
pub(crate) struct NatsConsumer {
    pub(crate) messages: pull::Stream,
    pub(crate) events: CloudEvents,
    pub(crate) partition: Partition,
    /// What is up to here is not given.
    pub(crate) after: Position,
    /// Why nothing more comes.
    pub(crate) failed: Option<Error>,
}

#[async_trait]
impl Consumer for NatsConsumer {
    async fn next(&mut self) -> Result<Vec<RecordedEvent>> {
        let mut events = Vec::new();
        while events.is_empty() {
            if let Some(error) = &self.failed {
                return Err(error.clone());
            }
            let mut item = Some(self.messages.next().await);
            // Nothing waits from here on, so nothing that was taken is lost.
            while let Some(taken) = item.take() {
                match taken {
                    Some(Ok(message)) => events.extend(self.event(message)),
                    Some(Err(error)) => self.failed = Some(ended(&error)),
                    None => self.failed = Some(ended(&"it is gone")),
                }
                if self.failed.is_none() && events.len() < BATCH {
                    item = self.messages.next().now_or_never();
                }
            }
        }
        Ok(events)
    }
}

impl NatsConsumer {
    /// The event that a message carries, if it is one that is asked for. What makes no sense is as if it were not there: the log has it.
    fn event(&self, message: Message) -> Option<RecordedEvent> {
        let message = message.message;
        let headers = message.headers.as_ref()?;
        match self.events.event(|name| attribute(headers, name), message.payload) {
            Ok(event) => {
                event.filter(|event| event.partition == self.partition && event.position > self.after)
            }
            Err(error) => {
                tracing::warn!(%error, subject = %message.subject, "a message is read from the log instead");
                None
            }
        }
    }
}

fn ended(reason: &dyn std::fmt::Display) -> Error {
    Error::unavailable(format!("reading from JetStream: {reason}"))
}
