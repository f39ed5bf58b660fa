use std::sync::Mutex;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{RawMessageError, RawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use headwater_bus::{BrokerReference, Bus, Checkpoint, CloudEvents, Consumer, Last, Place, Reached, Removal};
use headwater_core::{Error, Partition, PartitionCount, Position, RecordedEvent, Result};

use crate::connect::{PATIENCE, address, connect};
use crate::consumer::{AHEAD, NatsConsumer};
use crate::headers::attribute;
use crate::provision::{find, is_made_for, provide, remove, shared, source};
use crate::publish::{Failure, Progress, Publisher, wrong_place};
use crate::reference::Reference;
use crate::scan::{Scan, config, place};
use crate::subject::Subjects;
use crate::{NatsOptions, Provision};

/// Carries the events of one log in a JetStream stream. Connects when it is first used.
pub struct NatsBus {
    options: NatsOptions,
    events: CloudEvents,
    partitions: PartitionCount,
    subjects: Subjects,
    context: tokio::sync::Mutex<Option<Context>>,
    /// What was seen of the stream when it was last looked at.
    known: Mutex<Option<Known>>,
    order: Order,
    /// By partition: where the last message is that is known to be there, before which nothing is missing.
    seen: Vec<Mutex<Option<Seen>>>,
    /// Whose turn it is, where partitions are not told apart.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Known {
    created: i128,
    is_atomic: bool,
    max_message: Option<usize>,
}

/// Of what the last message is known, so that the next one is only taken after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Of the partition: its subjects are its own.
    OfPartition,
    /// Of the stream: nobody else publishes there.
    OfStream,
    /// Of the stream, where it is looked up each time, since other partitions, or others, publish there too.
    Shared,
}

#[derive(Clone, Copy)]
struct Seen {
    /// When the stream was made, in which nothing is missing.
    created: i128,
    sequence: u64,
}

/// How often publishing is tried again because others were faster.
const MOST_TURNS: usize = 50;

impl NatsBus {
    /// A bus for the log of `events`, which has so many partitions.
    ///
    /// # Errors
    /// `Invalid` for options that make no sense.
    pub fn new(options: NatsOptions, events: CloudEvents, partitions: PartitionCount) -> Result<Self> {
        let subjects = Subjects::new(&options.subject, &options.event_stream)
            .map_err(|error| error.within("bus.nats"))?;
        options.servers.iter().try_for_each(|server| address(server).map(drop))?;
        let order = if subjects.names_partition() {
            Order::OfPartition
        } else if partitions == PartitionCount::ONE && matches!(options.provision, Provision::Create(_)) {
            Order::OfStream
        } else {
            Order::Shared
        };
        Ok(Self {
            order,
            seen: partitions.partitions().map(|_| Mutex::default()).collect(),
            turn: tokio::sync::Mutex::default(),
            options,
            events,
            partitions,
            subjects,
            context: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        })
    }

    async fn context(&self) -> Result<Context> {
        let mut context = self.context.lock().await;
        if let Some(context) = &*context {
            return Ok(context.clone());
        }
        let client = connect(&self.options).await?;
        let connected = jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(client);
        *context = Some(connected.clone());
        Ok(connected)
    }

    /// Deletes the stream, if it was made for the events of this log: whoever has not read them by then gets them from nobody.
    ///
    /// # Errors
    /// `Unavailable` when JetStream does not answer.
    pub async fn remove(&self) -> Result<Removal> {
        if !matches!(self.options.provision, Provision::Create(_)) {
            return Ok(Removal::Nothing);
        }
        let context = self.context().await?;
        let Some(stream) = find(&context, &self.options).await? else { return Ok(Removal::Nothing) };
        if !is_made_for(&stream.cached_info().config, self.events.source()) {
            return Ok(Removal::Left(format!("it was not made for {}", self.events.source())));
        }
        // Another cluster's event stream may be called the same.
        let first = stream.cached_info().state.first_sequence.max(1);
        if let Some(None) = self.at(&stream, first).await? {
            return Ok(Removal::Left("its oldest message is of another log".to_owned()));
        }
        let is_removed = remove(&context, &self.options).await?;
        Ok(if is_removed { Removal::Removed } else { Removal::Nothing })
    }

    fn check(&self, partition: Partition) -> Result<&Mutex<Option<Seen>>> {
        self.seen.get(partition.index()).ok_or_else(|| {
            let count = self.partitions.get();
            Error::invalid("partition", format!("there is no partition {partition}; this bus has {count}"))
        })
    }

    /// Sees to it that the stream is there, and remembers what it is.
    async fn provide(&self, context: &Context) -> Result<(Stream, Known)> {
        let stream = provide(context, &self.options, &self.subjects, self.events.source())
            .await
            .map_err(|error| error.within("bus.nats"))?;
        let info = stream.cached_info();
        let known = Known {
            created: info.created.unix_timestamp_nanos(),
            is_atomic: info.config.allow_atomic_publish,
            max_message: usize::try_from(info.config.max_message_size).ok().filter(|most| *most > 0),
        };
        *lock(&self.known) = Some(known);
        Ok((stream, known))
    }

    /// Where the last message of `partition` is, whoever wrote it.
    async fn last_sequence(&self, stream: &Stream, filter: &str) -> Result<u64> {
        let last = self.answered(stream.get_last_raw_message_by_subject(filter).await)?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    /// What is said of the event at `sequence`: `None` when it was removed.
    async fn at(&self, stream: &Stream, sequence: u64) -> Result<Option<Option<Place>>> {
        if sequence < stream.cached_info().state.first_sequence {
            return Ok(None);
        }
        let message = self.answered(stream.get_raw_message(sequence).await)?;
        Ok(message.map(|message| place(&self.events, Some(&message.headers))))
    }

    /// # Errors
    /// `FailedPrecondition` when the oldest message of `filter` is of another event stream: what is mixed cannot be told apart by those who read it.
    async fn check_owner(&self, stream: &Stream, filter: &str) -> Result<()> {
        let first = stream.cached_info().state.first_sequence.max(1);
        let oldest = self.answered(stream.get_first_raw_message_by_subject(filter, first).await)?;
        let Some(oldest) = oldest else { return Ok(()) };
        match self.events.stranger(|name| attribute(&oldest.headers, name)) {
            None => Ok(()),
            Some(owner) => Err(shared(&self.options, &owner, self.events.source())),
        }
    }

    fn answered(&self, answer: Result<StreamMessage, RawMessageError>) -> Result<Option<StreamMessage>> {
        match answer {
            Ok(message) => Ok(Some(message)),
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(Error::unavailable(format!(
                "looking at JetStream stream \"{}\": {error}{}",
                self.options.stream_name,
                source(&error)
            ))),
        }
    }

    /// Publishes where others may, too: in turn, and after what is there at that moment.
    async fn publish_in_turn(
        &self,
        publisher: &Publisher<'_>,
        created: i128,
        events: &[RecordedEvent],
        progress: &mut Progress,
    ) -> Result<()> {
        let _turn = self.turn.lock().await;
        for _ in 0..MOST_TURNS {
            let stream = find(publisher.context, &self.options).await?.ok_or_else(wrong_place)?;
            let info = stream.cached_info();
            if info.created.unix_timestamp_nanos() != created {
                return Err(wrong_place());
            }
            progress.place = Some(info.state.last_sequence);
            let rest = &events[progress.count..];
            match publisher.publish(rest, progress).await {
                Err(Failure::Elsewhere) => tokio::task::yield_now().await,
                done => return Ok(done?),
            }
        }
        Err(Error::unavailable(format!(
            "publishing to NATS: others publish to JetStream stream \"{}\" all the time, and were faster {MOST_TURNS} times: name the partition in \
             bus.nats.subject, or give the event stream a stream of its own",
            self.options.stream_name
        )))
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        let Some(first) = events.first() else {
            return Err(Error::internal("a relay published nothing; please report this"));
        };
        let seen = self.check(first.partition)?;
        let context = self.context().await?;
        let known = *lock(&self.known);
        let known = match known {
            Some(known) => known,
            None => self.provide(&context).await?.1,
        };
        // Until it is known what has become of these, nothing is known of where the last one is.
        let before = lock(seen).take();
        // Another partition's relay has met another stream, and this partition is missing there.
        if before.is_some_and(|before| before.created != known.created) {
            return Err(wrong_place());
        }
        let publisher = Publisher {
            context: &context,
            events: &self.events,
            subjects: &self.subjects,
            is_atomic: known.is_atomic,
            is_alone: self.partitions == PartitionCount::ONE
                && matches!(self.options.provision, Provision::Create(_)),
            max_message: known.max_message,
        };
        let mut progress = Progress {
            subjects: (self.order == Order::OfPartition).then(|| self.subjects.of_partition(first.partition)),
            place: before.map(|before| before.sequence),
            ..Progress::default()
        };
        if self.order == Order::Shared {
            self.publish_in_turn(&publisher, known.created, events, &mut progress).await?;
        } else {
            publisher.publish(events, &mut progress).await?;
        }
        let sequence = progress.last.ok_or_else(wrong_place)?;
        *lock(seen) = progress.place.map(|sequence| Seen { created: known.created, sequence });
        Ok(Reference { created: known.created, sequence }.into())
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        let seen = self.check(partition)?;
        let context = self.context().await?;
        let (stream, known) = self.provide(&context).await?;
        let filter = self.subjects.of_partition(partition);
        self.check_owner(&stream, &filter).await?;
        let state = &stream.cached_info().state;
        // Before the look: what comes in between is found out when something is published.
        let sequence = match self.order {
            Order::OfPartition => self.last_sequence(&stream, &filter).await?,
            Order::OfStream | Order::Shared => state.last_sequence,
        };
        let scan = Scan { stream: &stream, events: &self.events, filter: &filter, partition };
        let newest = async || {
            Ok::<_, Error>(scan.newest(state.first_sequence, state.last_sequence).await?.unwrap_or_default())
        };
        let reached = match &checkpoint.reference {
            None => {
                let newest = newest().await?;
                let is_empty = state.last_sequence == 0;
                if newest.position < checkpoint.position && (is_empty || newest.id.is_some()) {
                    Reached::Lost(newest)
                } else {
                    Reached::UpTo(newest.max(Last::at(checkpoint.position)))
                }
            }
            Some(reference) => {
                let there = Reference::read(reference)
                    .filter(|there| there.created == known.created && there.sequence <= state.last_sequence);
                let last = match there {
                    None => None,
                    Some(there) => match self.at(&stream, there.sequence).await? {
                        // It has expired.
                        None => Some((there, Last::at(checkpoint.position))),
                        Some(Some(place))
                            if place.partition == partition && place.position == checkpoint.position =>
                        {
                            Some((there, place.into()))
                        }
                        // The stream came back without it, and others have published since.
                        Some(_) => None,
                    },
                };
                match last {
                    Some((there, last)) => {
                        let beyond = scan.greatest(there.sequence + 1, state.last_sequence).await?;
                        Reached::UpTo(beyond.map_or(last, |beyond| beyond.max(last)))
                    }
                    None => Reached::Lost(newest().await?),
                }
            }
        };
        *lock(seen) = Some(Seen { created: known.created, sequence });
        Ok(reached)
    }

    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>> {
        self.check(partition)?;
        let context = self.context().await?;
        // Whoever consumes changes nothing about a stream that is there.
        let stream = match find(&context, &self.options).await? {
            Some(stream) => stream,
            None => self.provide(&context).await?.0,
        };
        let filter = self.subjects.of_partition(partition);
        let state = &stream.cached_info().state;
        let scan = Scan { stream: &stream, events: &self.events, filter: &filter, partition };
        let from = scan.start(state.first_sequence, state.last_sequence, after).await?;
        let failed = |error: &dyn std::error::Error| {
            Error::unavailable(format!("reading from JetStream: {error}{}", source(error)))
        };
        let consumer = stream.create_consumer(config(&filter, from)).await.map_err(|error| failed(&error))?;
        let (messages, bytes) = AHEAD;
        let messages = consumer
            .stream()
            .max_messages_per_batch(messages)
            .max_bytes_per_batch(bytes)
            .messages()
            .await
            .map_err(|error| failed(&error))?;
        Ok(Box::new(NatsConsumer { messages, events: self.events.clone(), partition, after, failed: None }))
    }
}

/// What is kept is whole, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl std::fmt::Debug for NatsBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NatsBus").field("options", &self.options).finish_non_exhaustive()
    }
}
