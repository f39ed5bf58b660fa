//! A log to relay, and what the tests of Kafka have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_bus::{Bus, CloudEvents, Consumer, MemoryRelayState, Relay, RelayOptions, RelayState};
use headwater_core::{
    Append, EventType, Expected, LogId, NewEvent, Partition, PartitionCount, Position, RecordedEvent,
    StreamId,
};
use headwater_kafka::{KafkaBus, KafkaOptions, Provision, Retention};
use headwater_log::{
    Epoch, Filter, LogReader, LogStore, LogWriter, MemoryStore, ReadPartition, Sequencer, SequencerOptions,
};
use headwater_testkit::kafka::Kafka;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const ZERO: Partition = Partition::ZERO;

/// A topic of one's own on `kafka`. It keeps all: the events of tests are older than the broker's own retention.
pub(crate) fn options(kafka: &Kafka, partitions: PartitionCount) -> KafkaOptions {
    KafkaOptions {
        bootstrap_servers: vec![kafka.address()],
        topic: Kafka::topic(),
        partitions,
        provision: Provision::Create {
            replication_factor: 1,
            config: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
            retention: Retention::default(),
        },
        sasl: None,
        tls: None,
    }
}

pub(crate) fn bus(options: KafkaOptions, log_id: LogId) -> KafkaBus {
    KafkaBus::new(options, CloudEvents::new("shop", "orders", log_id)).unwrap()
}

/// A log in memory with one partition.
pub(crate) struct Log {
    store: Arc<MemoryStore>,
    writer: Sequencer,
}

impl Log {
    pub(crate) fn new() -> Self {
        let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
        let writer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
        Self { store, writer }
    }

    pub(crate) fn id(&self) -> LogId {
        self.store.descriptor().log_id
    }

    pub(crate) async fn grow(&self, number: usize) {
        for index in 0..number {
            let event = NewEvent::json(EventType::new("Counted").unwrap(), format!("{{\"n\":{index}}}"));
            let stream_id = StreamId::new(format!("s{}", index % 23)).unwrap();
            let request = Append { stream_id, expected: Expected::Any, events: vec![event] };
            self.writer.append(request).await.unwrap();
        }
    }

    pub(crate) async fn append(&self, event_type: &str, data: String) {
        let events = vec![NewEvent::json(EventType::new(event_type).unwrap(), data)];
        let stream_id = StreamId::new("one").unwrap();
        self.writer.append(Append { stream_id, expected: Expected::Any, events }).await.unwrap();
    }

    pub(crate) async fn events(&self) -> Vec<RecordedEvent> {
        let request = ReadPartition {
            partition: ZERO,
            after: Position::ZERO,
            up_to: None,
            filter: Filter::default(),
            limit: usize::MAX,
            max_bytes: usize::MAX,
        };
        self.store.read_partition(request).await.unwrap().events
    }

    /// A relay of this log that runs until it is stopped.
    pub(crate) fn relay(&self, bus: &Arc<KafkaBus>, state: &Arc<MemoryRelayState>, epoch: u64) -> Running {
        self.relay_that_looks(bus, state, epoch, Duration::from_mins(10))
    }

    /// A relay that asks every so often whether Kafka has everything.
    pub(crate) fn relay_that_looks(
        &self,
        bus: &Arc<KafkaBus>,
        state: &Arc<MemoryRelayState>,
        epoch: u64,
        look_every: Duration,
    ) -> Running {
        let options = RelayOptions {
            look_every,
            batch_events: 50,
            pause: (Duration::from_millis(10), Duration::from_millis(200)),
            ..RelayOptions::default()
        };
        let bus = Arc::clone(bus) as Arc<dyn Bus>;
        let state = Arc::clone(state) as Arc<dyn RelayState>;
        let relay = Arc::new(Relay::new(Arc::clone(&self.store) as Arc<dyn LogReader>, bus, state, options));
        let stop = CancellationToken::new();
        let task = {
            let (relay, stop) = (Arc::clone(&relay), stop.clone());
            tokio::spawn(async move { relay.run(ZERO, Epoch(epoch), &stop).await })
        };
        Running { relay, stop, task }
    }
}

pub(crate) struct Running {
    pub(crate) relay: Arc<Relay>,
    stop: CancellationToken,
    task: JoinHandle<headwater_core::Result<()>>,
}

impl Running {
    pub(crate) async fn reaches(&self, position: u64) {
        let mut relayed = self.relay.relayed(ZERO);
        relayed.wait_for(|relayed| relayed.get() >= position).await.unwrap();
    }

    /// Why it has ended.
    pub(crate) async fn ends(&mut self) -> headwater_core::Error {
        let ended = tokio::time::timeout(Duration::from_mins(1), &mut self.task).await;
        ended.expect("it ends").unwrap().unwrap_err()
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Consumes until `last` has come. First occurrences must come in order, from the first position on.
pub(crate) async fn consume_to(consumer: &mut dyn Consumer, last: u64) -> Vec<RecordedEvent> {
    let mut first: Vec<RecordedEvent> = Vec::new();
    while (first.len() as u64) < last {
        for event in consumer.next().await.unwrap() {
            if event.position.get() > first.len() as u64 {
                assert_eq!(event.position.get(), first.len() as u64 + 1, "first occurrences come in order");
                first.push(event);
            }
        }
    }
    first
}

/// Whoever runs the broker.
pub(crate) struct Operator(AdminClient<DefaultClientContext>);

impl Operator {
    pub(crate) fn of(kafka: &Kafka) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.address());
        config.set("allow.auto.create.topics", "false");
        Self(config.create().unwrap())
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = settings
            .iter()
            .fold(NewTopic::new(topic, partitions, TopicReplication::Fixed(1)), |new, (name, value)| {
                new.set(name, value)
            });
        let made = self.0.create_topics([&new], &AdminOptions::new()).await.unwrap();
        for result in made {
            result.unwrap();
        }
    }

    /// Deletes a topic; until the broker, too, has it no more.
    pub(crate) async fn delete(&self, topic: &str) {
        let gone = self.0.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        for result in gone {
            result.unwrap();
        }
        while self.end(topic).is_some() {
            tokio::task::yield_now().await;
        }
    }

    /// Makes a topic that is being deleted, as soon as it is gone; until the broker, too, has the new one.
    pub(crate) async fn create_when_gone(&self, topic: &str) {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        loop {
            match self.0.create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0) {
                Ok(_) => break,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error:?}"),
            }
        }
        while self.end(topic) != Some(0) {
            tokio::task::yield_now().await;
        }
    }

    /// Removes what is before `offset`, as retention does.
    pub(crate) async fn expire(&self, topic: &str, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
        self.0.delete_records(&before, &AdminOptions::new()).await.unwrap();
    }

    /// The offset that the next message of a topic's first partition will have.
    fn end(&self, topic: &str) -> Option<i64> {
        self.0.inner().fetch_watermarks(topic, 0, Duration::from_secs(10)).ok().map(|(_, end)| end)
    }

    pub(crate) fn exists(&self, topic: &str) -> bool {
        let metadata = self.0.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        metadata.topics().iter().any(|found| found.name() == topic)
    }

    /// Waits until the broker has a setting of a topic: it learns of changes from the controller, a moment later.
    pub(crate) async fn until_set(&self, topic: &str, name: &str, value: &str) {
        let mut found = None;
        let waiting = async {
            while found.as_deref() != Some(value) {
                found = self.setting(topic, name).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
        assert!(waited.is_ok(), "{name} is {found:?}, and not {value}");
    }

    /// A setting of a topic.
    pub(crate) async fn setting(&self, topic: &str, name: &str) -> Option<String> {
        let resource = rdkafka::admin::ResourceSpecifier::Topic(topic);
        let described = self.0.describe_configs([&resource], &AdminOptions::new()).await.unwrap();
        let resource = described.into_iter().next().unwrap().unwrap();
        resource.entries.into_iter().find(|entry| entry.name == name).unwrap().value
    }
}
