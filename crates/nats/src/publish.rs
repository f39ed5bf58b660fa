//! Publishing a batch: all of it or nothing where the stream allows it, else one event after the other.

use async_nats::client::PublishErrorKind;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use async_nats::jetstream::Context;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Request, RequestErrorKind};
use headwater_bus::CloudEvents;
use headwater_core::{Error, RecordedEvent, Result};

use crate::connect::PATIENCE;
use crate::headers::encode;
use crate::subject::Subjects;

/// The most that JetStream takes as one is 1,000.
const MOST_TOGETHER: usize = 500;

/// Names the subjects that the expectation is about.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// JetStream's own codes for what it says to a batch.
mod code {
    pub(super) const DISABLED: u64 = 10_174;
    pub(super) const TOO_LARGE: u64 = 10_199;
    pub(super) const HAS_DUPLICATE: u64 = 10_201;
    pub(super) const TOO_MANY: u64 = 10_210;
}

/// Who publishes, and how.
pub(crate) struct Publisher<'a> {
    pub(crate) context: &'a Context,
    pub(crate) events: &'a CloudEvents,
    pub(crate) subjects: &'a Subjects,
    /// Whether a batch can be all or nothing.
    pub(crate) is_atomic: bool,
}

/// Where the last message of a partition must be, for a batch to be taken.
pub(crate) struct Chain {
    pub(crate) subjects: String,
    pub(crate) last: u64,
}

/// A message that is there.
pub(crate) struct Stored {
    pub(crate) sequence: u64,
    /// It was there before.
    pub(crate) is_repeat: bool,
}

impl Publisher<'_> {
    /// Publishes events of one partition in order, and tells where the last one is.
    ///
    /// # Errors
    /// `Unavailable`; what was there before the one that failed may be stored.
    pub(crate) async fn publish(
        &self,
        events: &[RecordedEvent],
        mut chain: Option<Chain>,
    ) -> Result<Option<Stored>> {
        let mut last = None;
        for part in events.chunks(MOST_TOGETHER) {
            let stored = match part {
                [_, _, ..] if self.is_atomic => self.together(part, chain.as_ref()).await?,
                _ => None,
            };
            let stored = match stored {
                Some(stored) => Some(stored),
                None => self.one_by_one(part).await?,
            };
            // A repeat is where it was, and something else may be the last.
            chain = chain
                .zip(stored.as_ref().filter(|stored| !stored.is_repeat))
                .map(|(chain, stored)| Chain { last: stored.sequence, ..chain });
            last = stored.or(last);
        }
        Ok(last)
    }

    /// `None`: JetStream does not take these as a batch.
    async fn together(&self, events: &[RecordedEvent], chain: Option<&Chain>) -> Result<Option<Stored>> {
        let Some((last, others)) = events.split_last() else { return Ok(None) };
        let client = self.context.client();
        let batch = uuid::Uuid::new_v4().simple().to_string();
        let headers = |event: &RecordedEvent, number: usize| {
            let mut headers = encode(self.events, event);
            headers.insert(NATS_BATCH_ID, batch.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, number.to_string());
            if let Some(chain) = chain.filter(|_| number == 1) {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, chain.last.to_string());
                headers.insert(EXPECTED_SUBJECT, chain.subjects.as_str());
            }
            headers
        };
        for (index, event) in others.iter().enumerate() {
            client
                .publish_with_headers(self.subjects.of(event), headers(event, index + 1), event.data.clone())
                .await
                .map_err(|error| match error.kind() {
                    PublishErrorKind::MaxPayloadExceeded => self.too_large(event),
                    _ => Error::unavailable(format!("publishing to NATS: {error}")),
                })?;
        }
        let mut headers = headers(last, events.len());
        headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        match self.ask(last, headers).await? {
            Ok(ack) => Ok(Some(Stored { sequence: ack.sequence, is_repeat: ack.duplicate })),
            Err(error) => match error.error_code().0 {
                code::DISABLED | code::TOO_LARGE | code::HAS_DUPLICATE | code::TOO_MANY => {
                    tracing::debug!(%error, "a batch is published event by event");
                    Ok(None)
                }
                _ => Err(not_taken(&error)),
            },
        }
    }

    async fn one_by_one(&self, events: &[RecordedEvent]) -> Result<Option<Stored>> {
        let mut last: Option<Stored> = None;
        for event in events {
            let ack =
                self.ask(event, encode(self.events, event)).await?.map_err(|error| not_taken(&error))?;
            last = Some(Stored { sequence: ack.sequence, is_repeat: ack.duplicate });
        }
        Ok(last)
    }

    /// Sends a message and waits for what JetStream says to it.
    async fn ask(
        &self,
        event: &RecordedEvent,
        headers: HeaderMap,
    ) -> Result<Result<PublishAck, async_nats::jetstream::Error>> {
        let request = Request::new().headers(headers).payload(event.data.clone()).timeout(Some(PATIENCE));
        let subject = self.subjects.of(event);
        let answer = self.context.client().send_request(subject.clone(), request).await;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::MaxPayloadExceeded => self.too_large(event),
            RequestErrorKind::NoResponders => Error::unavailable(format!(
                "publishing to NATS: no JetStream stream takes the subject \"{subject}\"; see bus.nats.streamName and bus.nats.subject"
            )),
            _ => Error::unavailable(format!("publishing to NATS: {error}")),
        })?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::Ok(ack)) => Ok(Ok(ack)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => Err(Error::unavailable(format!(
                "publishing to NATS: subject \"{subject}\" is answered by something else than JetStream ({error})"
            ))),
        }
    }

    fn too_large(&self, event: &RecordedEvent) -> Error {
        Error::unavailable(format!(
            "publishing to NATS: event {} (partition {}, position {}, {} bytes of data) is larger than the servers take, {} bytes with its headers: \
             raise max_payload of the NATS servers; the relay waits for that",
            event.id,
            event.partition,
            event.position,
            event.data.len(),
            self.context.client().max_payload()
        ))
    }
}

fn not_taken(error: &async_nats::jetstream::Error) -> Error {
    Error::unavailable(format!("publishing to NATS: JetStream says {error}"))
}

pub(crate) fn wrong_place() -> Error {
    Error::unavailable(
        "publishing to NATS: the message is not where it should be; it is looked at again what JetStream has",
    )
}
