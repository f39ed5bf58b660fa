use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_bus::{Checkpoint, CloudEvents, Last};
use headwater_core::{Error, Partition, RecordedEvent, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::client::{self, Context, Held, MAX_MESSAGE_BYTES, PATIENCE, blocking, failed, failed_with};
use crate::options::KafkaOptions;
use crate::reader::LOOK_AGAIN;
use crate::reference::Reference;
use crate::wire;

/// How long the brokers may acknowledge nothing before the caller is told. librdkafka itself would wait without end.
const STALLED: Duration = Duration::from_secs(30);

/// After an acknowledgement as fresh as this it is not looked again where the topic ends.
const FRESH: Duration = Duration::from_millis(20);

/// librdkafka's own limit of a batch.
const BATCH_BYTES: usize = 1_000_000;

/// The bytes of headers that have a limit, more or less.
const MANY_HEADERS: usize = 16 << 10;

/// Publishes to one partition.
///
/// A producer is used by one call at a time, which owns it meanwhile and gives it back when all is acknowledged. A call that fails or is
/// dropped takes the producer with it, and what waits in it: the next one starts with an empty queue. What was on its way already may still
/// land, beside what the next producer sends. Both send positions without a hole, from one that follows what is there, so whichever
/// is first, what is seen for the first time is in order.
///
/// Kafka takes no condition with a message, so before each publish it is looked whether the topic still ends where it should. A topic that is deleted
/// and made again while messages are on their way may begin with those.
pub(crate) struct Publisher {
    partition: Partition,
    idle: Mutex<Option<Producer>>,
    known: Mutex<Known>,
    seen: Mutex<Option<Seen>>,
}

/// What was found when the partition was looked through: it holds while the partition ends there.
struct Seen {
    checkpoint: Checkpoint,
    last: Last,
    end: i64,
}

/// What is known of the partition on the topic.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Where it ends, at least.
    end: i64,
    /// The largest batch that is taken.
    limit: Option<usize>,
}

impl Publisher {
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition, idle: Mutex::new(None), known: Mutex::default(), seen: Mutex::default() }
    }

    /// What was seen of the partition: nothing is missing up to `end`.
    pub(crate) fn goes_on(&self, end: i64, limit: Option<usize>) {
        *lock(&self.known) = Known { end, limit };
    }

    /// With `checkpoint`, the partition was seen to hold all up to `last`, and to end at `end`.
    pub(crate) fn has_seen(&self, checkpoint: &Checkpoint, last: Last, end: i64) {
        *lock(&self.seen) = Some(Seen { checkpoint: checkpoint.clone(), last, end });
    }

    /// What was seen with this checkpoint, and where the partition ended then.
    pub(crate) fn seen(&self, checkpoint: &Checkpoint) -> Option<(Last, i64)> {
        let seen = lock(&self.seen);
        seen.as_ref().filter(|seen| seen.checkpoint == *checkpoint).map(|seen| (seen.last, seen.end))
    }

    /// The event of `checkpoint`, if it was published here last, and the partition ends with it: then nothing need be looked through.
    ///
    /// # Errors
    /// As [`headwater_bus::Bus::reached`].
    pub(crate) async fn at_end(
        &self,
        options: &KafkaOptions,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Last>> {
        let Some(reference) = checkpoint.reference.as_ref().map(Reference::read).transpose()?.flatten()
        else {
            return Ok(None);
        };
        if reference.topic != options.topic {
            return Ok(None);
        }
        let is_of =
            |sent: &Sent| sent.offset == reference.offset && sent.event.position == checkpoint.position;
        let Some(producer) = lock(&self.idle).take_if(|idle| idle.last.as_ref().is_some_and(is_of)) else {
            return Ok(None);
        };
        let Ok(end) = producer.end().await else { return Ok(None) };
        let event = producer.last.filter(|_| end == reference.offset + 1).map(|sent| sent.event);
        if end > reference.offset {
            *lock(&self.idle) = Some(producer);
        }
        Ok(event)
    }

    /// As [`headwater_bus::Bus::publish`].
    pub(crate) async fn publish(
        &self,
        options: &KafkaOptions,
        wire: &CloudEvents,
        events: &[RecordedEvent],
    ) -> Result<Reference> {
        let known = *lock(&self.known);
        let limit = known.limit.unwrap_or(MAX_MESSAGE_BYTES).min(MAX_MESSAGE_BYTES);
        let fitting = events.iter().position(|event| !fits(wire, event, limit)).unwrap_or(events.len());
        let (fitting, rest) = events.split_at(fitting);
        let idle = lock(&self.idle).take();
        let mut producer = match idle {
            Some(producer) => producer,
            None => Producer::new(options, self.partition, limit)?,
        };
        producer.check_end(known.end).await?;
        if !fitting.is_empty() {
            let offset = producer.publish(wire, fitting).await?;
            lock(&self.known).end = offset + 1;
        }
        let error = rest.first().map(|event| producer.too_large(event, wire::size(wire, event), limit));
        let last = producer.last.map(|sent| sent.offset);
        *lock(&self.idle) = Some(producer);
        match (error, last) {
            (Some(error), _) => Err(error),
            (None, Some(offset)) => Ok(Reference { topic: options.topic.clone(), offset }),
            (None, None) => Err(Error::internal("a relay published nothing; please report this")),
        }
    }
}

/// What is kept is whole, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fits(wire: &CloudEvents, event: &RecordedEvent, limit: usize) -> bool {
    // Nearly every event is far below, and need not be measured.
    event.data.len() + 2 * event.metadata.as_bytes().len() + MANY_HEADERS <= limit
        || wire::size(wire, event) <= limit
}

struct Producer {
    client: Held<FutureProducer<Context>>,
    context: Context,
    topic: String,
    partition: Partition,
    servers: String,
    /// What was acknowledged last.
    last: Option<Sent>,
}

#[derive(Clone, Copy)]
struct Sent {
    event: Last,
    offset: i64,
    /// When it was acknowledged.
    heard: Instant,
}

impl Producer {
    fn new(options: &KafkaOptions, partition: Partition, limit: usize) -> Result<Self> {
        let mut config = client::config(options);
        config.set("enable.idempotence", "true");
        config.set("enable.gapless.guarantee", "true");
        config.set("acks", "all");
        config.set("message.timeout.ms", "0");
        config.set("message.max.bytes", MAX_MESSAGE_BYTES.to_string());
        // Brokers measure the batch.
        config.set("batch.size", BATCH_BYTES.min(limit).to_string());
        config.set("linger.ms", "1");
        config.set("queue.buffering.max.messages", "10000");
        config.set("queue.buffering.max.kbytes", "16384");
        config.set("retry.backoff.max.ms", "500");
        let context = Context::default();
        let client = client::create(&config, context.clone())?;
        let (topic, servers) = (options.topic.clone(), options.bootstrap_servers.join(","));
        Ok(Self { client, context, topic, partition, servers, last: None })
    }

    /// Where the partition ends now.
    async fn end(&self) -> Result<i64> {
        use RDKafkaErrorCode as Code;
        let began = Instant::now();
        loop {
            let (client, topic) = (Arc::clone(&self.client), self.topic.clone());
            let partition = i32::from(self.partition.get());
            let bounds = move || client.client().fetch_watermarks(&topic, partition, PATIENCE);
            match blocking(bounds).await? {
                Ok((_, end)) => return Ok(end),
                // While leaders change.
                Err(KafkaError::MetadataFetch(Code::NotLeaderForPartition | Code::LeaderNotAvailable))
                    if began.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(failed(&self.doing(), &error, &self.context)),
            }
        }
    }

    /// Whether nothing is missing before what is published next.
    async fn check_end(&self, least: i64) -> Result<()> {
        if least == 0 || self.last.is_some_and(|sent| sent.heard.elapsed() < FRESH) {
            return Ok(());
        }
        let end = self.end().await?;
        if end < least {
            return Err(Error::unavailable(format!(
                "{}: it ends at offset {end}, and had ended at {least}; the topic was made anew, or has lost messages",
                self.doing()
            )));
        }
        Ok(())
    }

    /// Publishes all, and answers the offset of the last.
    async fn publish(&mut self, wire: &CloudEvents, events: &[RecordedEvent]) -> Result<i64> {
        let mut waiting: VecDeque<(&RecordedEvent, DeliveryFuture)> = VecDeque::with_capacity(events.len());
        for event in events {
            loop {
                match self.send(wire, event) {
                    Ok(delivery) => {
                        waiting.push_back((event, delivery));
                        break;
                    }
                    Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => {
                        let Some((event, delivery)) = waiting.pop_front() else {
                            return Err(Error::internal(format!(
                                "{}: the queue is full, and nothing is in it; please report this",
                                self.doing()
                            )));
                        };
                        self.acknowledged(event, delivery).await?;
                    }
                    Err(error) => return Err(self.failed(event, &error)),
                }
            }
        }
        while let Some((event, delivery)) = waiting.pop_front() {
            self.acknowledged(event, delivery).await?;
        }
        let last = self.last.map(|sent| sent.offset);
        last.ok_or_else(|| Error::internal("a relay published nothing; please report this"))
    }

    fn send(&self, wire: &CloudEvents, event: &RecordedEvent) -> Result<DeliveryFuture, KafkaError> {
        let record = FutureRecord::to(&self.topic)
            .partition(i32::from(self.partition.get()))
            .key(event.stream_id.as_str())
            .payload(&event.data[..])
            .timestamp(event.recorded_at.as_millisecond())
            .headers(wire::headers(wire, event));
        self.client.send_result(record).map_err(|(error, _)| error)
    }

    async fn acknowledged(&mut self, event: &RecordedEvent, delivery: DeliveryFuture) -> Result<()> {
        let answer = tokio::time::timeout(STALLED, delivery).await.map_err(|_| {
            failed_with(
                &format!("{}: nothing was acknowledged for {} s", self.doing(), STALLED.as_secs()),
                RDKafkaErrorCode::OperationTimedOut,
                &self.context,
            )
        })?;
        let delivered = match answer {
            Ok(Ok(delivered)) => delivered,
            Ok(Err((error, _))) => return Err(self.failed(event, &error)),
            Err(_) => return Err(Error::unavailable(format!("{}: the producer is gone", self.doing()))),
        };
        // An acknowledgement of what had landed before may come without the offset; the relay looks what is there.
        if delivered.offset < 0 {
            return Err(Error::unavailable(format!("{}: it is not known at which offset", self.doing())));
        }
        if let Some(last) = self.last.map(|sent| sent.offset).filter(|last| delivered.offset <= *last) {
            return Err(Error::unavailable(format!(
                "{}: offset {} came after {last}; the topic was made anew, or has lost messages",
                self.doing(),
                delivered.offset
            )));
        }
        self.last = Some(Sent { event: event.into(), offset: delivered.offset, heard: Instant::now() });
        Ok(())
    }

    fn too_large(&self, event: &RecordedEvent, size: usize, limit: usize) -> Error {
        let doing = format!(
            "{}: event {} (position {}) has {} bytes of data and needs a message of {size}, and {limit} are taken; all before it is published",
            self.doing(),
            event.id,
            event.position,
            event.data.len()
        );
        failed_with(&doing, RDKafkaErrorCode::MessageSizeTooLarge, &self.context)
    }

    fn failed(&self, event: &RecordedEvent, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
        let doing = match (code, self.client.client().fatal_error()) {
            (RDKafkaErrorCode::MessageSizeTooLarge, _) => {
                format!("{}: event {} has {} bytes", self.doing(), event.id, event.data.len())
            }
            (RDKafkaErrorCode::Fatal, Some((_, why))) => format!("{}: {why}", self.doing()),
            _ => self.doing(),
        };
        failed_with(&doing, code, &self.context)
    }

    fn doing(&self) -> String {
        format!(
            "publishing to partition {} of Kafka's topic {:?} at {}",
            self.partition, self.topic, self.servers
        )
    }
}
