use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_bus::CloudEvents;
use headwater_core::{Error, Partition, RecordedEvent, Result};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};

use crate::client::{self, Context, Held, MAX_MESSAGE_BYTES, failed_with};
use crate::options::KafkaOptions;
use crate::reference::Reference;
use crate::wire;

/// How long the brokers may acknowledge nothing before the caller is told. librdkafka itself would wait without end.
const STALLED: Duration = Duration::from_secs(30);

/// Publishes to one partition.
///
/// A producer is used by one call at a time, which owns it meanwhile and gives it back when all is acknowledged. A call that fails or is
/// dropped takes the producer with it, and what waits in it: the next one starts with an empty queue. What was on its way already may still
/// land, beside what the next producer sends. Both send positions without a hole, from one that follows what is there, so whichever
/// is first, what is seen for the first time is in order.
pub(crate) struct Publisher {
    partition: Partition,
    idle: Mutex<Option<Producer>>,
}

impl Publisher {
    pub(crate) fn new(partition: Partition) -> Self {
        Self { partition, idle: Mutex::new(None) }
    }

    /// As [`headwater_bus::Bus::publish`].
    pub(crate) async fn publish(
        &self,
        options: &KafkaOptions,
        wire: &CloudEvents,
        events: &[RecordedEvent],
    ) -> Result<Reference> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut producer = match idle {
            Some(producer) => producer,
            None => Producer::new(options, self.partition)?,
        };
        let offset = producer.publish(wire, events).await?;
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(producer);
        Ok(Reference { topic: options.topic.clone(), offset })
    }
}

struct Producer {
    client: Held<FutureProducer<Context>>,
    context: Context,
    topic: String,
    partition: Partition,
    servers: String,
    /// Where the last acknowledged event is.
    last: Option<i64>,
}

impl Producer {
    fn new(options: &KafkaOptions, partition: Partition) -> Result<Self> {
        let mut config = client::config(options);
        config.set("enable.idempotence", "true");
        config.set("enable.gapless.guarantee", "true");
        config.set("acks", "all");
        config.set("message.timeout.ms", "0");
        config.set("message.max.bytes", MAX_MESSAGE_BYTES);
        config.set("linger.ms", "1");
        config.set("queue.buffering.max.messages", "10000");
        config.set("queue.buffering.max.kbytes", "16384");
        config.set("retry.backoff.max.ms", "500");
        let context = Context::default();
        let client = client::create(&config, context.clone())?;
        let (topic, servers) = (options.topic.clone(), options.bootstrap_servers.join(","));
        Ok(Self { client, context, topic, partition, servers, last: None })
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
        self.last.ok_or_else(|| Error::internal("a relay published nothing; please report this"))
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
        if let Some(last) = self.last.filter(|last| delivered.offset <= *last) {
            return Err(Error::unavailable(format!(
                "{}: offset {} came after {last}; the topic was made anew, or has lost messages",
                self.doing(),
                delivered.offset
            )));
        }
        self.last = Some(delivered.offset);
        Ok(())
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
