//! Publishing a batch, so that nothing stands in the stream before what comes before it:
//!
//! - many events as one, all of them or none, where the stream allows it. JetStream keeps such a batch aside until it is complete, in a store of
//!   its own, which takes it some milliseconds however few there are;
//! - few events in a row, each told what must be the last one before it. That is known where the stream carries one partition alone;
//! - else one event after the other.
//!
//! Each time the first is told where the last message must be, so that nothing is added to a stream that was made anew before what is missing there.

use async_nats::client::PublishErrorKind;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_MESSAGE_ID, NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{self, Context};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::{HeaderMap, Request, RequestErrorKind};
use headwater_bus::CloudEvents;
use headwater_core::{Error, RecordedEvent, Result};

use crate::connect::PATIENCE;
use crate::headers::{encode, wire_len};
use crate::subject::Subjects;

/// The most that JetStream takes as one is 1,000.
const MOST_TOGETHER: usize = 500;
/// Fewer are quicker in a row, or one after the other (`examples/nats_speed.rs`).
const TOGETHER_FROM: usize = 16;
const TOGETHER_FROM_ELSE: usize = 8;

/// Names the subjects that the expectation is about.
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// JetStream's own codes for what it says to a batch.
mod code {
    pub(super) const DISABLED: u64 = 10_174;
    pub(super) const TOO_LARGE: u64 = 10_199;
    pub(super) const HAS_DUPLICATE: u64 = 10_201;
    pub(super) const TOO_MANY: u64 = 10_210;
}

/// Besides its own, a message may have headers of a batch and of what is expected: this many bytes of them, rounded up.
const EXTRA_HEADER_BYTES: usize = 1_024;
/// JetStream takes no more of headers.
const MOST_HEADER_BYTES: usize = 1 << 16;

/// Who publishes, and how.
pub(crate) struct Publisher<'a> {
    pub(crate) context: &'a Context,
    pub(crate) events: &'a CloudEvents,
    pub(crate) subjects: &'a Subjects,
    /// Whether a batch can be all or nothing.
    pub(crate) is_atomic: bool,
    /// Whether nobody else, and no other partition, publishes to the stream.
    pub(crate) is_alone: bool,
    /// The largest message that the stream takes, headers included.
    pub(crate) max_message: Option<usize>,
}

/// How far publishing has got, and what is expected of the stream meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The subjects of which `place` tells the last message; `None`: of the whole stream.
    pub(crate) subjects: Option<String>,
    /// Where the last message must be, for the next one to be taken; `None`: anywhere.
    pub(crate) place: Option<u64>,
    /// Events that are there.
    pub(crate) count: usize,
    /// Where the last of them is.
    pub(crate) last: Option<u64>,
}

impl Progress {
    fn expect(&self, headers: &mut HeaderMap) {
        let Some(place) = self.place else { return };
        match &self.subjects {
            Some(subjects) => {
                headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, place.to_string());
                headers.insert(EXPECTED_SUBJECT, subjects.as_str());
            }
            None => headers.insert(NATS_EXPECTED_LAST_SEQUENCE, place.to_string()),
        }
    }

    fn taken(&mut self, count: usize, ack: &PublishAck) {
        self.count += count;
        self.last = Some(ack.sequence);
        // A repeat is where it was, and so is the last message.
        if !ack.duplicate && self.place.is_some() {
            self.place = Some(ack.sequence);
        }
    }
}

/// Why not all is published.
pub(crate) enum Failure {
    /// The last message is another one than was expected.
    Elsewhere,
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Elsewhere => wrong_place(),
            Failure::Other(error) => error,
        }
    }
}

impl Publisher<'_> {
    /// Publishes events of one partition in order. After an error, `progress` tells which are known to be there; the one after them may be, too.
    pub(crate) async fn publish(
        &self,
        events: &[RecordedEvent],
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let fitting = events.iter().position(|event| !self.fits(event)).unwrap_or(events.len());
        for part in events[..fitting].chunks(MOST_TOGETHER) {
            let together = if self.is_alone { TOGETHER_FROM } else { TOGETHER_FROM_ELSE };
            if self.is_atomic && part.len() >= together && self.together(part, progress).await? {
                continue;
            }
            if self.is_alone && part.len() > 1 {
                self.in_a_row(part, progress).await?;
            } else {
                self.one_by_one(part, progress).await?;
            }
        }
        events.get(fitting).map_or(Ok(()), |event| Err(self.too_large(event).into()))
    }

    /// `false`: JetStream does not take these as a batch.
    async fn together(&self, events: &[RecordedEvent], progress: &mut Progress) -> Result<bool, Failure> {
        let Some((last, others)) = events.split_last() else { return Ok(true) };
        let client = self.context.client();
        let batch = uuid::Uuid::new_v4().simple().to_string();
        let headers = |event: &RecordedEvent, number: usize| {
            let mut headers = encode(self.events, event);
            headers.insert(NATS_BATCH_ID, batch.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, number.to_string());
            if number == 1 {
                progress.expect(&mut headers);
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
            Ok(ack) => {
                progress.taken(events.len(), &ack);
                Ok(true)
            }
            Err(error) => match error.error_code().0 {
                code::DISABLED | code::TOO_LARGE | code::HAS_DUPLICATE | code::TOO_MANY => {
                    tracing::debug!(%error, "a batch is published event by event");
                    Ok(false)
                }
                _ => Err(not_taken(&error)),
            },
        }
    }

    /// Sends events without waiting for the answers between them. What JetStream has not taken because something else was the last, it has taken
    /// nothing after either; that is published one by one.
    async fn in_a_row(&self, events: &[RecordedEvent], progress: &mut Progress) -> Result<(), Failure> {
        let mut answers = Vec::with_capacity(events.len());
        let mut before: Option<&RecordedEvent> = None;
        for event in events {
            let mut headers = encode(self.events, event);
            match before {
                Some(before) => headers.insert(NATS_EXPECTED_LAST_MESSAGE_ID, before.id.to_string()),
                None => progress.expect(&mut headers),
            }
            before = Some(event);
            let message = PublishMessage::build().headers(headers).payload(event.data.clone());
            let sent = self.context.send_publish(self.subjects.of(event), message).await;
            answers.push(sent.map_err(|error| self.not_published(event, &error))?);
        }
        for (index, answer) in answers.into_iter().enumerate() {
            match answer.await {
                Ok(ack) => progress.taken(1, &ack),
                Err(error) if index > 0 && error.kind() == context::PublishErrorKind::WrongLastMessageId => {
                    tracing::debug!(%error, "what is left of a batch is published event by event");
                    return self.one_by_one(&events[index..], progress).await;
                }
                Err(error) => return Err(self.not_published(&events[index], &error)),
            }
        }
        Ok(())
    }

    async fn one_by_one(&self, events: &[RecordedEvent], progress: &mut Progress) -> Result<(), Failure> {
        for event in events {
            let mut headers = encode(self.events, event);
            progress.expect(&mut headers);
            let ack = self.ask(event, headers).await?.map_err(|error| not_taken(&error))?;
            progress.taken(1, &ack);
        }
        Ok(())
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
            RequestErrorKind::NoResponders => no_stream(&subject),
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

    fn not_published(&self, event: &RecordedEvent, error: &context::PublishError) -> Failure {
        match error.kind() {
            context::PublishErrorKind::WrongLastSequence => Failure::Elsewhere,
            context::PublishErrorKind::MaxPayloadExceeded => self.too_large(event).into(),
            context::PublishErrorKind::StreamNotFound => no_stream(&self.subjects.of(event)).into(),
            _ => Error::unavailable(format!("publishing to NATS: {error}")).into(),
        }
    }

    /// The largest message that is taken, headers included, and what to raise for more.
    fn limit(&self) -> (usize, &'static str) {
        let servers = (self.context.client().max_payload(), "max_payload of the NATS servers");
        match self.max_message {
            Some(stream) if stream < servers.0 => (stream, "max_msg_size of the JetStream stream"),
            _ => servers,
        }
    }

    fn fits(&self, event: &RecordedEvent) -> bool {
        let (limit, _) = self.limit();
        // Nearly every event is far below, and need not be measured.
        event.data.len() + MOST_HEADER_BYTES <= limit || self.size(event) <= limit
    }

    fn size(&self, event: &RecordedEvent) -> usize {
        event.data.len() + wire_len(&encode(self.events, event)) + EXTRA_HEADER_BYTES
    }

    fn too_large(&self, event: &RecordedEvent) -> Error {
        let (limit, raise) = self.limit();
        Error::unavailable(format!(
            "publishing to NATS: event {} (partition {}, position {}, {} bytes of data) needs a message of {} bytes, and {limit} are taken: \
             raise {raise}; the relay waits for that, and all before it is published",
            event.id,
            event.partition,
            event.position,
            event.data.len(),
            self.size(event)
        ))
    }
}

fn no_stream(subject: &str) -> Error {
    Error::unavailable(format!(
        "publishing to NATS: no JetStream stream takes the subject \"{subject}\"; see bus.nats.streamName and bus.nats.subject"
    ))
}

fn not_taken(error: &async_nats::jetstream::Error) -> Failure {
    match error.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
            Failure::Elsewhere
        }
        _ => Error::unavailable(format!("publishing to NATS: JetStream says {error}")).into(),
    }
}

pub(crate) fn wrong_place() -> Error {
    Error::unavailable(
        "publishing to NATS: the message is not where it should be; it is looked at again what JetStream has",
    )
}
