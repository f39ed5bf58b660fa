use async_trait::async_trait;
use headwater_bus::{BrokerReference, Bus, Checkpoint, CloudEvents, Consumer, Reached};
use headwater_core::{Error, Partition, Position, RecordedEvent, Result};

use crate::consumer::KafkaConsumer;
use crate::options::KafkaOptions;
use crate::publisher::Publisher;
use crate::reader::Reader;
use crate::scan::Scan;
use crate::topic;

/// A log's events on a topic.
pub struct KafkaBus {
    options: KafkaOptions,
    wire: CloudEvents,
    publishers: Vec<Publisher>,
}

impl KafkaBus {
    /// The bus over the topic that `options` name, for the log of `wire`. Nothing is connected to before it is used.
    ///
    /// # Errors
    /// `Invalid` by the field that cannot be so.
    pub fn new(options: KafkaOptions, wire: CloudEvents) -> Result<Self> {
        options.check()?;
        let publishers = options.partitions.partitions().map(Publisher::new).collect();
        Ok(Self { options, wire, publishers })
    }

    fn publisher(&self, partition: Partition) -> Result<&Publisher> {
        self.publishers.get(partition.index()).ok_or_else(|| {
            Error::invalid(
                "partition",
                format!("there is no partition {partition}; there are {}", self.publishers.len()),
            )
        })
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
        self.publisher(partition)?;
        let reader = Reader::open(&self.options, partition)?;
        topic::provide(&self.options, &reader).await?;
        self.scan(&reader, partition).reached(checkpoint).await
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
