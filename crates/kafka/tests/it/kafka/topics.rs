//! The topic: made, kept, checked; and brokers that refuse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_bus::{Bus, Checkpoint, CloudEvents, Last, MemoryRelayState, Reached, Removal};
use headwater_core::{Error, Partition, PartitionCount, Position};
use headwater_kafka::{KafkaBus, KafkaOptions, Password, Provision, Retention, Sasl, SaslMechanism};
use headwater_testkit::kafka::{Kafka, USER};

use super::support::{Log, Operator, ZERO, bus, consume_to, options};

async fn asked(options: KafkaOptions) -> Result<Reached, Error> {
    bus(options, Log::new().id()).reached(ZERO, &Checkpoint::default()).await
}

fn observed(kafka: &Kafka, partitions: u32) -> KafkaOptions {
    let partitions = PartitionCount::new(partitions).unwrap();
    KafkaOptions { provision: Provision::Observe, ..options(kafka, partitions) }
}

fn refused(answer: Result<Reached, Error>, words: &[&str]) {
    let Err(Error::FailedPrecondition { message }) = answer else { panic!("{answer:?}") };
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observed_topic_must_be_there_and_fit_kafka() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let missing = observed(&kafka, 1);
    let name = missing.topic.clone();
    let consumed = bus(missing.clone(), Log::new().id()).consume(ZERO, Position::ZERO).await;
    assert!(matches!(consumed.err(), Some(Error::Unavailable { .. })), "not there yet");
    refused(asked(missing.clone()).await, &[&name, "provision: Create"]);
    assert!(!operator.exists(&name), "asking has not made it, although the broker would");

    operator.create(&name, 1, &[]).await;
    assert_eq!(asked(missing.clone()).await.unwrap(), Reached::UpTo(Last::default()));

    let other = observed(&kafka, 4);
    operator.create(&other.topic, 3, &[]).await;
    refused(asked(other.clone()).await, &[&other.topic, "3 partitions", "4"]);
    let consumed = bus(other, Log::new().id()).consume(ZERO, Position::ZERO).await;
    assert!(matches!(consumed.err(), Some(Error::FailedPrecondition { .. })));

    let compacted = observed(&kafka, 1);
    operator.create(&compacted.topic, 1, &[("cleanup.policy", "compact")]).await;
    refused(asked(compacted.clone()).await, &[&compacted.topic, "cleanup.policy=compact", "delete"]);

    let zstd = observed(&kafka, 1);
    operator.create(&zstd.topic, 1, &[("compression.type", "zstd")]).await;
    refused(asked(zstd).await, &["zstd"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_is_made_and_kept_as_described() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let mut options = options(&kafka, PartitionCount::new(2).unwrap());
    let topic = options.topic.clone();
    let described = |hours: u64, config: &[(&str, &str)]| Provision::Create {
        replication_factor: 1,
        config: config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        retention: Retention { max_age: Some(Duration::from_hours(hours)), max_bytes: Some(1 << 30) },
    };
    options.provision = described(24, &[("compression.type", "lz4")]);
    asked(options.clone()).await.unwrap();
    for (name, value) in [
        ("cleanup.policy", "delete"),
        ("max.message.bytes", "2097152"),
        ("retention.ms", "86400000"),
        ("retention.bytes", "536870912"),
        ("compression.type", "lz4"),
    ] {
        operator.until_set(&topic, name, value).await;
    }
    // What is not described any more stays as it is; what is described otherwise is changed.
    options.provision = described(48, &[("segment.bytes", "2097152")]);
    asked(options.clone()).await.unwrap();
    for (name, value) in
        [("retention.ms", "172800000"), ("segment.bytes", "2097152"), ("compression.type", "lz4")]
    {
        operator.until_set(&topic, name, value).await;
    }
    options.partitions = PartitionCount::new(3).unwrap();
    refused(asked(options).await, &[&topic, "2 partitions", "3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_others_in_the_topic_of_kafka_are_passed_over() {
    let kafka = Kafka::shared().unwrap();
    let options = options(&kafka, PartitionCount::ONE);
    let (ours, theirs) = (Log::new(), Log::new());
    ours.grow(30).await;
    theirs.grow(5_000).await;
    let bus = |log: &Log| bus(options.clone(), log.id());
    bus(&ours).reached(ZERO, &Checkpoint::default()).await.unwrap();
    bus(&ours).publish(&ours.events().await[..20]).await.unwrap();
    bus(&theirs).publish(&theirs.events().await).await.unwrap();
    // Further back than is looked at first.
    let reached = bus(&ours).reached(ZERO, &Checkpoint::default()).await.unwrap();
    assert_eq!(reached, Reached::UpTo((&ours.events().await[19]).into()));
    let mut consumer = bus(&ours).consume(ZERO, Position::new(20)).await.unwrap();
    bus(&ours).publish(&ours.events().await[20..]).await.unwrap();
    assert_eq!(consumer.next().await.unwrap()[0].position, Position::new(21));
    let mut consumer = bus(&ours).consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 30).await, ours.events().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_at_the_end_hide_nothing_from_a_consumer_of_kafka() {
    let kafka = Kafka::shared().unwrap();
    let log = Log::new();
    log.grow(300).await;
    let events = log.events().await;
    let bus = bus(options(&kafka, PartitionCount::ONE), log.id());
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    bus.publish(&events).await.unwrap();
    // As a relay does that does not know what has landed.
    bus.publish(&events[100..200]).await.unwrap();
    let mut consumer = bus.consume(ZERO, Position::new(200)).await.unwrap();
    let next = tokio::time::timeout(Duration::from_mins(1), consumer.next()).await;
    assert_eq!(next.expect("it is there").unwrap()[0].position, Position::new(201));
    let reached = bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    assert_eq!(reached, Reached::UpTo((&events[299]).into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_kafka_refuses_is_named_and_stops_no_other() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    log.grow(20).await;
    let mut events = log.events().await;
    let options = observed(&kafka, 1);
    operator.create(&options.topic, 1, &[("max.message.bytes", "50000")]).await;
    let bus = bus(options, log.id());
    bus.publish(&events[..5]).await.unwrap();
    let small = events[5].data.clone();
    events[5].data = vec![b'x'; 200_000].into();
    let Err(Error::FailedPrecondition { message }) = bus.publish(&events[5..6]).await else {
        panic!("200 kB are not taken")
    };
    for word in [events[5].id.to_string().as_str(), "200000 bytes", "max.message.bytes"] {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    events[5].data = small;
    bus.publish(&events[5..]).await.unwrap();
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 20).await, events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_gets_all_that_comes_before_an_event_that_is_too_large() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    log.grow(19).await;
    log.append("Counted", format!("\"{}\"", "x".repeat(60_000))).await;
    log.grow(10).await;
    let options = observed(&kafka, 1);
    operator.create(&options.topic, 1, &[("max.message.bytes", "50000")]).await;
    let bus = Arc::new(bus(options, log.id()));
    let state = Arc::<MemoryRelayState>::default();
    let large = log.events().await[19].id.to_string();
    for epoch in 1..=3 {
        let mut running = log.relay(&bus, &state, epoch);
        let fault = running.ends().await;
        for part in [large.as_str(), "position 20", "max.message.bytes"] {
            assert!(fault.to_string().contains(part), "{part} is not in: {fault}");
        }
        let stats = running.relay.stats();
        assert_eq!((stats.lost, stats.failures), (0, 1), "what is tried again is no loss");
    }
    let mut consumer = bus.consume(ZERO, Position::ZERO).await.unwrap();
    assert_eq!(consume_to(&mut *consumer, 19).await, log.events().await[..19]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_carries_one_event_stream() {
    let kafka = Kafka::shared().unwrap();
    let operator = Operator::of(&kafka);
    let log = Log::new();
    log.grow(3).await;
    let options = options(&kafka, PartitionCount::ONE);
    let ours = bus(options.clone(), log.id());
    ours.reached(ZERO, &Checkpoint::default()).await.unwrap();
    ours.publish(&log.events().await).await.unwrap();
    let mut others = options.clone();
    others.provision = Provision::Create {
        replication_factor: 1,
        config: [("retention.ms".to_owned(), "1".to_owned())].into(),
        retention: Retention::default(),
    };
    let theirs = KafkaBus::new(others, CloudEvents::new("shop", "bills", Log::new().id())).unwrap();
    refused(
        theirs.reached(ZERO, &Checkpoint::default()).await,
        &[&options.topic, "/headwater/shop/orders", "/headwater/shop/bills", "bus.kafka.topic"],
    );
    assert_ne!(
        operator.setting(&options.topic, "retention.ms").await.as_deref(),
        Some("1"),
        "nothing is changed"
    );
    ours.reached(ZERO, &Checkpoint::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_topic_of_kafka_is_made_that_could_not_be_read() {
    let kafka = Kafka::shared().unwrap();
    let mut options = options(&kafka, PartitionCount::ONE);
    options.provision = Provision::Create {
        replication_factor: 1,
        config: [("compression.type".to_owned(), "zstd".to_owned())].into(),
        retention: Retention::default(),
    };
    let made = KafkaBus::new(options.clone(), CloudEvents::new("shop", "orders", Log::new().id()));
    assert!(
        matches!(made.as_ref().err(), Some(Error::Invalid { field, .. }) if field == "config.compression.type"),
        "{made:?}"
    );
    assert!(!Operator::of(&kafka).exists(&options.topic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kafka_expired_is_not_lost() {
    let kafka = Kafka::shared().unwrap();
    let options = options(&kafka, PartitionCount::ONE);
    let log = Log::new();
    log.grow(30).await;
    let bus = bus(options.clone(), log.id());
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let events = log.events().await;
    let reference = bus.publish(&events[..10]).await.unwrap();
    let checkpoint = Checkpoint { position: Position::new(10), reference: Some(reference) };
    bus.publish(&events[10..20]).await.unwrap();
    let operator = Operator::of(&kafka);
    operator.expire(&options.topic, 15).await;
    let reached = || bus.reached(ZERO, &checkpoint);
    assert_eq!(reached().await.unwrap(), Reached::UpTo((&events[19]).into()), "some expired");
    operator.expire(&options.topic, 20).await;
    assert_eq!(reached().await.unwrap(), Reached::UpTo((&events[19]).into()), "all expired, and was seen");
    let other = self::bus(options.clone(), log.id());
    let seen = other.reached(ZERO, &checkpoint).await.unwrap();
    assert_eq!(seen, Reached::UpTo(Last::at(Position::new(10))), "all expired before it came");
    bus.publish(&events[20..]).await.unwrap();
    let mut consumer = bus.consume(ZERO, Position::new(5)).await.unwrap();
    assert_eq!(consumer.next().await.unwrap()[0].position, Position::new(21), "as far as Kafka still has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_told_who_we_are() {
    let kafka = Kafka::shared().unwrap();
    let mut options = options(&kafka, PartitionCount::ONE);
    options.bootstrap_servers = vec![kafka.sasl_address()];
    let sasl = |password: &str| Sasl {
        mechanism: SaslMechanism::Plain,
        username: USER.0.to_owned(),
        password: Password(password.to_owned()),
    };
    options.sasl = Some(sasl("wrong-horse"));
    let began = Instant::now();
    let error = asked(options.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("Authentication failed") && !said.contains("wrong-horse"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    options.sasl = Some(sasl(USER.1));
    assert_eq!(asked(options).await.unwrap(), Reached::UpTo(Last::default()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_that_is_not_there_is_unavailable_soon() {
    let kafka = Kafka::shared().unwrap();
    let mut options = options(&kafka, PartitionCount::ONE);
    // Nothing listens on the port of what was dropped.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    options.bootstrap_servers = vec![format!("127.0.0.1:{port}")];
    let nobody = bus(options, Log::new().id());
    let asked = nobody.reached(ZERO, &Checkpoint::default()).await.err();
    let consumed = nobody.consume(Partition::ZERO, Position::ZERO).await.err();
    for error in [asked, consumed] {
        let error = error.unwrap();
        assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().contains("refused"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_kafka_is_removed_by_its_event_stream_alone() {
    let kafka = Kafka::shared().unwrap();
    let log = Log::new();
    log.grow(3).await;
    let options = options(&kafka, PartitionCount::ONE);
    let ours = bus(options.clone(), log.id());
    assert_eq!(ours.remove().await.unwrap(), Removal::Nothing, "it is not there yet");
    ours.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let left = async |bus: &KafkaBus, part: &str| {
        let left = bus.remove().await.unwrap();
        assert!(matches!(&left, Removal::Left(why) if why.contains(part)), "{left:?}");
    };
    left(&ours, "it holds nothing").await;
    ours.publish(&log.events().await).await.unwrap();
    left(&bus(options.clone(), Log::new().id()), "not this log's").await;
    let observed = KafkaOptions { provision: Provision::Observe, ..options.clone() };
    let observed = bus(observed, log.id()).remove().await.unwrap();
    assert_eq!(observed, Removal::Nothing, "what is only observed is somebody's");
    let topics = Operator::of(&kafka);
    assert!(topics.exists(&options.topic));
    assert_eq!(ours.remove().await.unwrap(), Removal::Removed);
    while topics.exists(&options.topic) {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(ours.remove().await.unwrap(), Removal::Nothing, "it is gone");
}
