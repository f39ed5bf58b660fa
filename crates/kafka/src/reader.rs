use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use headwater_core::{Error, Partition, Result};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::client::{self, Context, Held, PATIENCE, blocking, failed};
use crate::options::KafkaOptions;

/// One partition of the topic, to be read from any offset: by assignment, so that no group is joined.
pub(crate) struct Reader {
    consumer: Held<StreamConsumer<Context>>,
    context: Context,
    topic: String,
    partition: i32,
    assigned: AtomicBool,
    /// What is being done, for messages.
    doing: String,
}

/// The oldest offset that is there, and the one that the next message will have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) low: i64,
    pub(crate) end: i64,
}

impl Reader {
    /// Reads `partition`. Nothing is sent yet.
    pub(crate) fn open(options: &KafkaOptions, partition: Partition) -> Result<Self> {
        let mut config = client::config(options);
        // librdkafka assigns only under the name of a group. It is not joined, and nothing is committed.
        config.set("group.id", "headwater");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("enable.partition.eof", "true");
        // Our own messages are in no transaction; somebody else's open one must not hide them.
        config.set("isolation.level", "read_uncommitted");
        // Bounds the memory of one consumer; the default is 64 MiB.
        config.set("queued.max.messages.kbytes", "8192");
        config.set("queued.min.messages", "2000");
        config.set("fetch.wait.max.ms", "100");
        config.set("fetch.queue.backoff.ms", "10");
        config.set("fetch.error.backoff.ms", "100");
        let context = Context::default();
        let consumer = client::create(&config, context.clone())?;
        let (topic, partition) = (options.topic.clone(), i32::from(partition.get()));
        let doing = format!(
            "reading partition {partition} of Kafka's topic {topic:?} at {}",
            options.bootstrap_servers.join(",")
        );
        Ok(Self { consumer, context, topic, partition, assigned: AtomicBool::new(false), doing })
    }

    /// How many partitions the topic has; `None` when there is no such topic.
    pub(crate) async fn partitions(&self) -> Result<Option<usize>> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        let counted = blocking(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let Some(found) = found else { return Ok(None) };
            let count = found.partitions().len();
            match found.error().map(RDKafkaErrorCode::from) {
                None => Ok(Some(count)),
                Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(None),
                // It is being made.
                Some(RDKafkaErrorCode::LeaderNotAvailable) if count > 0 => Ok(Some(count)),
                Some(code) => Err(KafkaError::MetadataFetch(code)),
            }
        });
        counted.await?.map_err(|error| self.failed(&error))
    }

    /// What is there now.
    pub(crate) async fn bounds(&self) -> Result<Bounds> {
        self.bounds_of(self.partition).await
    }

    /// Those of another partition: no more is asked of the brokers than of its own.
    pub(crate) async fn end_of(&self, partition: Partition) -> Result<i64> {
        self.bounds_of(i32::from(partition.get())).await.map(|bounds| bounds.end)
    }

    async fn bounds_of(&self, partition: i32) -> Result<Bounds> {
        use RDKafkaErrorCode as Code;
        let began = Instant::now();
        loop {
            let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
            let bounds = blocking(move || consumer.fetch_watermarks(&topic, partition, PATIENCE)).await?;
            match bounds {
                Ok((low, end)) => return Ok(Bounds { low, end }),
                // Of a topic that was just made, or of a change of leaders, not every broker knows yet.
                Err(KafkaError::MetadataFetch(
                    Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownTopicOrPartition,
                )) if began.elapsed() < PATIENCE => tokio::time::sleep(LOOK_AGAIN).await,
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// What is read next is at `offset`, or the first after it.
    pub(crate) async fn seek(&self, offset: i64) -> Result<()> {
        let offset = Offset::Offset(offset);
        // librdkafka ends the process when a partition is assigned again while it still stops reading it as it was assigned before
        // (confluentinc/librdkafka#5573); so it is assigned once.
        let moved = if self.assigned.swap(true, Ordering::Relaxed) {
            let (consumer, topic, partition) =
                (Arc::clone(&self.consumer), self.topic.clone(), self.partition);
            blocking(move || consumer.seek(&topic, partition, offset, PATIENCE)).await?
        } else {
            let mut assignment = TopicPartitionList::new();
            assignment
                .add_partition_offset(&self.topic, self.partition, offset)
                .and_then(|()| self.consumer.assign(&assignment))
        };
        moved.map_err(|error| self.failed(&error))
    }

    /// Shows `look` every message from `from` to before `end`, until it breaks.
    pub(crate) async fn scan<T>(
        &self,
        from: i64,
        end: i64,
        mut look: impl FnMut(&BorrowedMessage<'_>) -> Result<ControlFlow<T>>,
    ) -> Result<Option<T>> {
        if from >= end {
            return Ok(None);
        }
        self.seek(from).await?;
        let mut stream = self.consumer.stream();
        loop {
            let next = tokio::time::timeout(PATIENCE, stream.next()).await.map_err(|_| self.silent())?;
            match next {
                Some(Ok(message)) => {
                    if message.offset() >= end {
                        return Ok(None);
                    }
                    if let ControlFlow::Break(found) = look(&message)? {
                        return Ok(Some(found));
                    }
                    if message.offset() + 1 >= end {
                        return Ok(None);
                    }
                }
                // What is last may be no message but the mark of a transaction.
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(None),
                Some(Err(error)) => self.pass(&error)?,
                None => return Err(self.silent()),
            }
        }
    }

    /// Waits for a message, and shows `look` it and those that are there already, up to `most`, until it breaks. Cancel-safe: a dropped call has shown
    /// nothing.
    pub(crate) async fn take(
        &self,
        most: usize,
        mut look: impl FnMut(&BorrowedMessage<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut stream = self.consumer.stream();
        let mut next = loop {
            match stream.next().await {
                Some(Ok(message)) => break message,
                Some(Err(error)) => self.pass(&error)?,
                None => return Err(self.silent()),
            }
        };
        for _ in 1..most {
            if look(&next)?.is_break() {
                return Ok(());
            }
            next = loop {
                match stream.next().now_or_never() {
                    Some(Some(Ok(message))) => break message,
                    Some(Some(Err(error))) => self.pass(&error)?,
                    Some(None) | None => return Ok(()),
                }
            };
        }
        look(&next).map(|_| ())
    }

    /// `Ok`: an error that librdkafka tells of and mends by itself.
    fn pass(&self, error: &KafkaError) -> Result<()> {
        use RDKafkaErrorCode as Code;
        match error {
            // One broker of several, or the coordinator of the group that is not joined. That all are gone is said by itself.
            KafkaError::PartitionEOF(_)
            | KafkaError::MessageConsumption(
                Code::BrokerTransportFailure | Code::Resolve | Code::GroupAuthorizationFailed,
            ) => Ok(()),
            other => Err(self.failed(other)),
        }
    }

    fn failed(&self, error: &KafkaError) -> Error {
        // What librdkafka says of its connections comes by the queue, which nobody may have looked at.
        let mut said = self.consumer.stream();
        for _ in 0..QUEUED {
            let _ = said.next().now_or_never();
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Error::unavailable(format!(
                    "{}: what comes next is not there any more: it has expired, or the topic was made anew",
                    self.doing
                ))
            }
            _ => failed(&self.doing, error, &self.context),
        }
    }

    fn silent(&self) -> Error {
        let error = KafkaError::Global(RDKafkaErrorCode::OperationTimedOut);
        failed(&self.doing, &error, &self.context)
    }
}

/// More than a client says in a few seconds.
const QUEUED: usize = 200;

/// How long to wait between two looks at what the brokers tell each other, where nothing can be waited for.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);
