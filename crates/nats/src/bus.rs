use std::sync::Mutex;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context};
use async_trait::async_trait;
use headwater_bus::{BrokerReference, Bus, Checkpoint, CloudEvents, Consumer, Reached};
use headwater_core::{Error, Partition, PartitionCount, Position, RecordedEvent, Result};

use crate::NatsOptions;
use crate::connect::{PATIENCE, address, connect};
use crate::consumer::{AHEAD, NatsConsumer};
use crate::provision::{find, provide, source};
use crate::publish::{Chain, Publisher, wrong_place};
use crate::reference::Reference;
use crate::scan::{Scan, config};
use crate::subject::Subjects;

/// Carries the events of one log in a JetStream stream. Connects when it is first used.
pub struct NatsBus {
    options: NatsOptions,
    events: CloudEvents,
    partitions: PartitionCount,
    subjects: Subjects,
    context: tokio::sync::Mutex<Option<Context>>,
    /// What was seen of the stream when it was last looked at.
    known: Mutex<Option<Known>>,
    /// By partition: where the last message is that is known to be there.
    last: Vec<Mutex<Option<u64>>>,
}

#[derive(Clone, Copy)]
struct Known {
    created: i128,
    is_atomic: bool,
}

impl NatsBus {
    /// A bus for the log of `events`, which has so many partitions.
    ///
    /// # Errors
    /// `Invalid` for options that make no sense.
    pub fn new(options: NatsOptions, events: CloudEvents, partitions: PartitionCount) -> Result<Self> {
        let subjects = Subjects::new(&options.subject, &options.event_stream)
            .map_err(|error| error.within("bus.nats"))?;
        options.servers.iter().try_for_each(|server| address(server).map(drop))?;
        Ok(Self {
            last: partitions.partitions().map(|_| Mutex::default()).collect(),
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

    fn check(&self, partition: Partition) -> Result<&Mutex<Option<u64>>> {
        self.last.get(partition.index()).ok_or_else(|| {
            let count = self.partitions.get();
            Error::invalid("partition", format!("there is no partition {partition}; this bus has {count}"))
        })
    }

    /// Sees to it that the stream is there, and remembers what it is.
    async fn provide(&self, context: &Context) -> Result<(Stream, Known)> {
        let stream = provide(context, &self.options, &self.subjects)
            .await
            .map_err(|error| error.within("bus.nats"))?;
        let info = stream.cached_info();
        let known = Known {
            created: info.created.unix_timestamp_nanos(),
            is_atomic: info.config.allow_atomic_publish,
        };
        *lock(&self.known) = Some(known);
        Ok((stream, known))
    }

    /// Where the last message of `partition` is, whoever wrote it.
    async fn last_sequence(&self, stream: &Stream, filter: &str) -> Result<u64> {
        match stream.get_last_raw_message_by_subject(filter).await {
            Ok(message) => Ok(message.sequence),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(0),
            Err(error) => Err(Error::unavailable(format!(
                "looking at JetStream stream \"{}\": {error}{}",
                self.options.stream_name,
                source(&error)
            ))),
        }
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        let Some(first) = events.first() else {
            return Err(Error::internal("a relay published nothing; please report this"));
        };
        let last = self.check(first.partition)?;
        let context = self.context().await?;
        let known = *lock(&self.known);
        let known = match known {
            Some(known) => known,
            None => self.provide(&context).await?.1,
        };
        // Until it is known what has become of these, nothing is known of where the last one is.
        let before = lock(last).take();
        let chain = before
            .filter(|_| self.subjects.names_partition())
            .map(|last| Chain { subjects: self.subjects.of_partition(first.partition), last });
        let publisher = Publisher {
            context: &context,
            events: &self.events,
            subjects: &self.subjects,
            is_atomic: known.is_atomic,
        };
        let stored = publisher.publish(events, chain).await?.ok_or_else(wrong_place)?;
        if !stored.is_repeat {
            // A stream that was made anew counts from 1 again.
            if before.is_some_and(|before| stored.sequence <= before) {
                return Err(wrong_place());
            }
            *lock(last) = Some(stored.sequence);
        }
        Ok(Reference { created: known.created, sequence: stored.sequence }.into())
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        let last = self.check(partition)?;
        let context = self.context().await?;
        let (stream, known) = self.provide(&context).await?;
        let filter = self.subjects.of_partition(partition);
        let is_apart = self.subjects.names_partition();
        // Before the look: what comes in between is found out when something is published.
        let chained = if is_apart { Some(self.last_sequence(&stream, &filter).await?) } else { None };
        let state = &stream.cached_info().state;
        let scan = Scan { stream: &stream, events: &self.events, filter: &filter, partition };
        let reference = checkpoint.reference.as_ref().map(Reference::read);
        let reached = match reference {
            Some(Some(there)) if there.created == known.created && there.sequence <= state.last_sequence => {
                let beyond = scan.greatest(there.sequence + 1, state.last_sequence).await?;
                Reached::UpTo(beyond.unwrap_or_default().max(checkpoint.position))
            }
            Some(_) => Reached::Lost(
                scan.newest(state.first_sequence, state.last_sequence).await?.unwrap_or_default(),
            ),
            None => {
                let newest = scan.newest(state.first_sequence, state.last_sequence).await?;
                Reached::UpTo(newest.unwrap_or_default().max(checkpoint.position))
            }
        };
        *lock(last) = chained;
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
