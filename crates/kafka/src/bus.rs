use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use headwater_bus::{BrokerReference, Bus, Checkpoint, CloudEvents, Consumer, Reached, Removal};
use headwater_core::{Error, Partition, Position, RecordedEvent, Result};

use crate::client::MAX_MESSAGE_BYTES;
use crate::consumer::KafkaConsumer;
use crate::options::{KafkaOptions, Provision};
use crate::publisher::Publisher;
use crate::reader::Reader;
use crate::scan::Scan;
use crate::topic;

/// A log's events on a topic.
pub struct KafkaBus {
    options: KafkaOptions,
    wire: CloudEvents,
    publishers: Vec<Publisher>,
    /// The limit of messages that was last warned of.
    told: AtomicUsize,
    /// Looks where partitions end that nothing is published to.
    looker: tokio::sync::Mutex<Option<Reader>>,
}

impl KafkaBus {
    /// The bus over the topic that `options` name, for the log of `wire`. Nothing is connected to before it is used.
    ///
    /// # Errors
    /// `Invalid` by the field that cannot be so.
    pub fn new(options: KafkaOptions, wire: CloudEvents) -> Result<Self> {
        options.check()?;
        let publishers = options.partitions.partitions().map(Publisher::new).collect();
        Ok(Self {
            options,
            wire,
            publishers,
            told: AtomicUsize::new(0),
            looker: tokio::sync::Mutex::default(),
        })
    }

    /// Deletes the topic, if it was to be made, and the oldest and the newest messages in it are this log's: whoever has not read the events by
    /// then gets them from nobody.
    ///
    /// # Errors
    /// `Unavailable` when no broker answers.
    pub async fn remove(&self) -> Result<Removal> {
        if !matches!(self.options.provision, Provision::Create { .. }) {
            return Ok(Removal::Nothing);
        }
        let count = Reader::open(&self.options, Partition::ZERO)?.partitions().await?;
        let Some(count) = count else { return Ok(Removal::Nothing) };
        let mut has_ours = false;
        for number in 0..count {
            let partition = Partition::new(u16::try_from(number).unwrap_or(u16::MAX));
            let reader = Reader::open(&self.options, partition)?;
            match self.scan(&reader, partition).is_ours().await? {
                Some(false) => {
                    return Ok(Removal::Left(format!(
                        "partition {partition} has messages that are not this log's"
                    )));
                }
                Some(true) => has_ours = true,
                None => {}
            }
        }
        if !has_ours {
            return Ok(Removal::Left(
                "it holds nothing, so nothing says that it was made for this log".to_owned(),
            ));
        }
        let is_removed = topic::remove(&self.options, &Reader::open(&self.options, Partition::ZERO)?).await?;
        Ok(if is_removed { Removal::Removed } else { Removal::Nothing })
    }

    fn publisher(&self, partition: Partition) -> Result<&Publisher> {
        self.publishers.get(partition.index()).ok_or_else(|| {
            Error::invalid(
                "partition",
                format!("there is no partition {partition}; there are {}", self.publishers.len()),
            )
        })
    }

    /// Says, once, that some events are larger than what the topic takes.
    fn tell(&self, limit: Option<usize>) {
        let Some(limit) = limit.filter(|limit| *limit < MAX_MESSAGE_BYTES) else { return };
        if self.told.swap(limit, Ordering::Relaxed) != limit {
            tracing::warn!(
                topic = self.options.topic,
                "the topic {:?} takes messages of up to {limit} bytes (max.message.bytes), and events may need {MAX_MESSAGE_BYTES}: a larger event stops \
                 the relay until that is raised",
                self.options.topic
            );
        }
    }

    /// Where `partition` ends, asked over one connection for all of them. `None`: it cannot be told.
    async fn end_of(&self, partition: Partition) -> Option<i64> {
        let mut looker = self.looker.lock().await;
        if looker.is_none() {
            *looker = Reader::open(&self.options, partition).ok();
        }
        let end = looker.as_ref()?.end_of(partition).await;
        if let Err(error) = &end {
            // Whoever asked looks through the partition, and says what is wrong.
            tracing::debug!(%error, "the end of a partition cannot be told");
            *looker = None;
        }
        end.ok()
    }

    fn scan<'a>(&'a self, reader: &'a Reader, partition: Partition) -> Scan<'a> {
        Scan { reader, wire: &self.wire, partition, topic: &self.options.topic }
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn publish(&self, events: &[RecordedEvent]) -> Result<BrokerReference> {
        let Some(first) = events.first() else {
            return Err(Error::internal("a relay published nothing; please report this"));
        };
        let publisher = self.publisher(first.partition)?;
        Ok(publisher.publish(&self.options, &self.wire, events).await?.write())
    }

    async fn reached(&self, partition: Partition, checkpoint: &Checkpoint) -> Result<Reached> {
        let publisher = self.publisher(partition)?;
        if let Some(last) = publisher.at_end(&self.options, checkpoint).await? {
            return Ok(Reached::UpTo(last));
        }
        if let Some((last, end)) = publisher.seen(checkpoint)
            && self.end_of(partition).await.is_some_and(|now| now == end)
        {
            return Ok(Reached::UpTo(last));
        }
        let reader = Reader::open(&self.options, partition)?;
        let scan = self.scan(&reader, partition);
        let limit = topic::provide(&self.options, &reader, &scan).await?;
        self.tell(limit);
        let (reached, end) = scan.reached(checkpoint).await?;
        publisher.goes_on(end, limit);
        if let Reached::UpTo(last) = reached {
            publisher.has_seen(checkpoint, last, end);
        }
        Ok(reached)
    }

    async fn consume(&self, partition: Partition, after: Position) -> Result<Box<dyn Consumer>> {
        self.publisher(partition)?;
        let reader = Reader::open(&self.options, partition)?;
        let topic = &self.options.topic;
        match reader.partitions().await? {
            None => {
                return Err(Error::unavailable(format!(
                    "there is no topic {topic:?} yet at {}; whoever relays the events makes it",
                    self.options.bootstrap_servers.join(",")
                )));
            }
            Some(count) if count != self.publishers.len() => {
                return Err(Error::failed_precondition(format!(
                    "the topic {topic:?} has {count} partitions, and the event stream {}: name another topic, or make this one anew",
                    self.publishers.len()
                )));
            }
            Some(_) => {}
        }
        let start = self.scan(&reader, partition).start(after).await?;
        reader.seek(start).await?;
        Ok(Box::new(KafkaConsumer { reader, wire: self.wire.clone(), partition, after, failed: None }))
    }
}

impl std::fmt::Debug for KafkaBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaBus").field("topic", &self.options.topic).finish_non_exhaustive()
    }
}
