//! What only this bus promises.

use std::sync::Arc;
use std::time::Duration;

use headwater_bus::{Bus, Checkpoint, MemoryRelayState, Reached, Relay, RelayOptions, RelayState, Removal};
use headwater_core::{
    Append, Error, EventType, Expected, LogId, Metadata, NewEvent, Partition, PartitionCount, Position,
    RecordedEvent, StreamId,
};
use headwater_log::{
    Epoch, Filter, LogDescriptor, LogReader, LogStore, LogWriter, MemoryStore, ReadPartition, Sequencer,
    SequencerOptions,
};
use headwater_nats::{Credentials, Made, NatsBus, NatsOptions, Provision};
use headwater_testkit::nats::Nats;
use tokio_util::sync::CancellationToken;

use super::{bus, options};

const ZERO: Partition = Partition::ZERO;

/// A log of one partition with `number` events of these types, in turn.
async fn log(number: usize, types: &[&str], data: impl Fn(usize) -> Vec<u8>) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let sequencer = Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
    for index in 0..number {
        let event_type = EventType::new(types[index % types.len()]).unwrap();
        let mut event = NewEvent::json(event_type, data(index));
        event.metadata = Metadata::new("{\"correlation_id\":\"c 1\"}".into()).unwrap();
        let stream_id = StreamId::new(format!("order-{}", index % 5)).unwrap();
        sequencer.append(Append { stream_id, expected: Expected::Any, events: vec![event] }).await.unwrap();
    }
    store
}

async fn events(store: &MemoryStore) -> Vec<RecordedEvent> {
    let request = ReadPartition {
        partition: ZERO,
        after: Position::ZERO,
        up_to: None,
        filter: Filter::default(),
        limit: usize::MAX,
        max_bytes: usize::MAX,
    };
    store.read_partition(request).await.unwrap().events
}

/// The positions of the stream's messages, as they stand there.
async fn positions(server: &Nats, options: &NatsOptions) -> Vec<u64> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream(&options.stream_name).await.unwrap();
    let mut positions = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        positions.push(message.headers.get("ce-position").unwrap().as_str().parse().unwrap());
    }
    positions
}

#[tokio::test]
async fn nats_carries_cloud_events_that_any_client_reads() {
    let server = Nats::start("").unwrap();
    let options = options(&server);
    let log = log(1, &["order.created"], |_| b"{\"total\": 9.50}".to_vec()).await;
    let bus = bus(options.clone(), log.descriptor());
    let event = events(&log).await.remove(0);
    bus.publish(std::slice::from_ref(&event)).await.unwrap();
    let (headers, body) = server.raw_message(&options.stream_name, 1).unwrap();
    let header = |name: &str| {
        let start = format!("{name}: ");
        let line = headers.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("no {name} in {headers}")).to_owned()
    };
    assert_eq!(body, b"{\"total\": 9.50}", "the data, to the byte");
    assert_eq!(header("ce-specversion"), "1.0");
    assert_eq!(header("ce-id"), event.id.to_string());
    assert_eq!(header("ce-source"), format!("/headwater/shop/{}", options.event_stream));
    assert_eq!(header("ce-type"), "order.created");
    assert_eq!(header("ce-subject"), "order-0");
    assert_eq!(header("ce-time"), event.recorded_at.to_string());
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(
        (header("ce-partition"), header("ce-position"), header("ce-streamversion")),
        ("0".into(), "1".into(), "1".into())
    );
    assert_eq!(header("ce-correlationid"), "c%201");
    assert_eq!(header("Nats-Msg-Id"), event.id.to_string());
    assert_eq!(header("Nats-Subject"), format!("hw.{}.0.order.created", options.event_stream));
}

#[tokio::test]
async fn nats_streams_of_others_that_do_not_fit_are_refused_with_the_remedy() {
    let server = Nats::shared().unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let log = log(0, &["A"], |_| Vec::new()).await;
    let check = async |change: fn(&mut async_nats::jetstream::stream::Config), part: &str| {
        let options = NatsOptions { provision: Provision::Observe, ..options(&server) };
        let mut config = async_nats::jetstream::stream::Config {
            name: options.stream_name.clone(),
            subjects: vec![format!("hw.{}.>", options.event_stream)],
            ..Default::default()
        };
        change(&mut config);
        context.create_stream(config).await.unwrap();
        let error = bus(options, log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap_err();
        assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
        assert!(error.to_string().contains(part), "{error}");
    };
    check(|config| config.max_messages_per_subject = 1, "max_msgs_per_subject").await;
    check(
        |config| config.retention = async_nats::jetstream::stream::RetentionPolicy::WorkQueue,
        "retention \"limits\"",
    )
    .await;
    check(|config| config.no_ack = true, "streamName").await;

    let nowhere = NatsOptions { provision: Provision::Observe, ..options(&server) };
    let error = bus(nowhere, log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("bus.provision: Create"), "{error}");

    // Its storage cannot be changed, and what can is kept as it is declared.
    let declared = options(&server);
    bus(declared.clone(), log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap();
    let made = |in_memory: bool, max_age: Option<Duration>| NatsOptions {
        provision: Provision::Create(Made { replicas: 1, in_memory, max_age, max_bytes: Some(1 << 30) }),
        ..declared.clone()
    };
    let error =
        bus(made(true, None), log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap_err();
    assert!(error.to_string().contains("kept in files"), "{error}");
    let day = Duration::from_hours(24);
    bus(made(false, Some(day)), log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap();
    let stream = context.get_stream(&declared.stream_name).await.unwrap();
    assert_eq!((stream.cached_info().config.max_age, stream.cached_info().config.max_bytes), (day, 1 << 30));
}

#[tokio::test]
async fn nats_streams_without_batches_are_published_to_event_by_event() {
    let server = Nats::start("").unwrap();
    let options = NatsOptions { provision: Provision::Observe, ..options(&server) };
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let config = async_nats::jetstream::stream::Config {
        name: options.stream_name.clone(),
        subjects: vec![format!("hw.{}.>", options.event_stream)],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let log = log(50, &["A", "B"], |index| index.to_string().into_bytes()).await;
    let bus = bus(options.clone(), log.descriptor());
    bus.publish(&events(&log).await).await.unwrap();
    assert_eq!(positions(&server, &options).await, (1..=50).collect::<Vec<u64>>());
}

#[tokio::test]
async fn nats_takes_no_late_batch_of_a_relay_that_was_superseded() {
    let server = Nats::start("").unwrap();
    let options = options(&server);
    let log = log(30, &["A"], |index| index.to_string().into_bytes()).await;
    let (old, new) = (bus(options.clone(), log.descriptor()), bus(options.clone(), log.descriptor()));
    let all = events(&log).await;
    old.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let reference = old.publish(&all[..10]).await.unwrap();
    // The new one has taken over, and gone on.
    let saved = Checkpoint { position: Position::new(10), reference: Some(reference) };
    assert_eq!(new.reached(ZERO, &saved).await.unwrap(), Reached::UpTo((&all[9]).into()));
    new.publish(&all[10..20]).await.unwrap();
    let late = old.publish(&all[20..30]).await.unwrap_err();
    assert!(late.is_retryable(), "{late:?}");
    assert_eq!(
        positions(&server, &options).await,
        (1..=20).collect::<Vec<u64>>(),
        "nothing has overtaken anything"
    );
}

#[tokio::test]
async fn nats_that_comes_back_without_its_newest_messages_is_filled_in() {
    let server = Nats::start("").unwrap();
    let options = options(&server);
    let log = log(40, &["A", "B"], |index| index.to_string().into_bytes()).await;
    let bus = Arc::new(bus(options.clone(), log.descriptor()));
    let all = events(&log).await;
    bus.reached(ZERO, &Checkpoint::default()).await.unwrap();
    bus.publish(&all[..25]).await.unwrap();
    // What it had then is what it comes back with.
    server.kill().unwrap();
    let backup = tempfile::tempdir().unwrap();
    Nats::copy_data(&server.data(), &backup.path().join("data")).unwrap();
    server.resume().unwrap();

    let state = Arc::new(MemoryRelayState::default());
    let start = |epoch: u64| {
        let relay = Arc::new(Relay::new(
            log.clone(),
            Arc::clone(&bus) as Arc<dyn Bus>,
            Arc::clone(&state) as Arc<dyn RelayState>,
            RelayOptions {
                pause: (Duration::from_millis(10), Duration::from_millis(200)),
                ..RelayOptions::default()
            },
        ));
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (relay, stop) = (Arc::clone(&relay), stop.clone());
            async move { relay.run(ZERO, Epoch(epoch), &stop).await }
        });
        (relay, stop, running)
    };
    let reaches = async |relay: &Relay| {
        relay.relayed(ZERO).wait_for(|relayed| relayed.get() == 40).await.unwrap();
    };
    let (relay, stop, running) = start(1);
    reaches(&relay).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(positions(&server, &options).await, (1..=40).collect::<Vec<u64>>());

    server.kill().unwrap();
    std::fs::remove_dir_all(server.data()).unwrap();
    Nats::copy_data(&backup.path().join("data"), &server.data()).unwrap();
    server.resume().unwrap();
    let (relay, stop, running) = start(2);
    reaches(&relay).await;
    assert_eq!(relay.stats().lost, 1, "and it is counted");
    assert_eq!(positions(&server, &options).await, (1..=40).collect::<Vec<u64>>());
    stop.cancel();
    running.await.unwrap().unwrap();

    // A stream that was deleted is made again, with everything.
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    context.delete_stream(&options.stream_name).await.unwrap();
    let (relay, stop, running) = start(3);
    reaches(&relay).await;
    assert_eq!(relay.stats().lost, 1);
    assert_eq!(positions(&server, &options).await, (1..=40).collect::<Vec<u64>>());
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A log of three partitions that grows, and its relays.
struct Three {
    store: Arc<MemoryStore>,
    sequencer: Sequencer,
    relay: Arc<Relay>,
    stop: CancellationToken,
}

impl Three {
    /// Relays to `bus`, which is asked every so often whether it has everything.
    async fn start(options: &NatsOptions, look_every: Duration) -> Self {
        let store = Arc::new(MemoryStore::new(PartitionCount::new(3).unwrap()));
        let sequencer =
            Sequencer::start(Arc::clone(&store) as Arc<dyn LogStore>, SequencerOptions::default());
        let relay = Arc::new(Relay::new(
            store.clone(),
            Arc::new(bus(options.clone(), store.descriptor())),
            Arc::new(MemoryRelayState::default()),
            RelayOptions {
                pause: (Duration::from_millis(10), Duration::from_millis(200)),
                look_every,
                ..RelayOptions::default()
            },
        ));
        let stop = CancellationToken::new();
        for partition in store.descriptor().partitions.partitions() {
            let (relay, stop) = (Arc::clone(&relay), stop.clone());
            tokio::spawn(async move { relay.run(partition, Epoch(1), &stop).await });
        }
        let three = Self { store, sequencer, relay, stop };
        for _ in 0..10 {
            three.grow().await;
        }
        three.is_relayed().await;
        three
    }

    /// One event more in each partition.
    async fn grow(&self) {
        let partitions = self.store.descriptor().partitions;
        for partition in partitions.partitions() {
            let named = |number: u32| StreamId::new(format!("s{number}")).unwrap();
            let stream_id = (0..100).map(named).find(|id| partitions.partition_of(id) == partition).unwrap();
            let events = vec![NewEvent::json(EventType::new("Counted").unwrap(), "1")];
            self.sequencer.append(Append { stream_id, expected: Expected::Any, events }).await.unwrap();
        }
    }

    async fn is_relayed(&self) {
        for (partition, head) in
            self.store.descriptor().partitions.partitions().zip(self.store.heads().await.unwrap())
        {
            let mut relayed = self.relay.relayed(partition);
            relayed.wait_for(|relayed| *relayed == head.position).await.unwrap();
        }
    }

    /// Waits until the stream has every event, and sees whether each partition's come in order for the first time.
    async fn is_all_there(&self, server: &Nats, options: &NatsOptions, each: u64) {
        let began = std::time::Instant::now();
        loop {
            let mut reached = [0_u64; 3];
            for (partition, position) in places(server, options).await {
                let reached = &mut reached[partition];
                assert!(position <= *reached + 1, "{position} of partition {partition} came after {reached}");
                *reached = position.max(*reached);
            }
            if reached == [each; 3] {
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{reached:?} of {each} are there");
            tokio::task::yield_now().await;
        }
    }
}

/// Partition and position of each message, as they stand in the stream; none without a stream.
async fn places(server: &Nats, options: &NatsOptions) -> Vec<(usize, u64)> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let Ok(stream) = async_nats::jetstream::new(client).get_stream(&options.stream_name).await else {
        return Vec::new();
    };
    let mut places = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let number = |name: &str| message.headers.get(name).unwrap().as_str().parse::<u64>().unwrap();
        places.push((number("ce-partition") as usize, number("ce-position")));
    }
    places
}

#[tokio::test]
async fn nats_that_has_lost_its_stream_gets_every_partition_again() {
    let server = Nats::start("").unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    for subject in ["hw.{stream}.{partition}.{type}", "hw.{stream}.{type}"] {
        let options = NatsOptions { subject: subject.to_owned(), ..options(&server) };
        let log = Three::start(&options, Duration::from_mins(10)).await;
        context.delete_stream(&options.stream_name).await.unwrap();
        log.grow().await;
        log.is_all_there(&server, &options, 11).await;
        log.is_relayed().await;
        // Somebody who was faster has made it anew.
        context.delete_stream(&options.stream_name).await.unwrap();
        let other = bus(options.clone(), log.store.descriptor());
        drop(other.consume(ZERO, Position::ZERO).await.unwrap());
        log.grow().await;
        log.is_all_there(&server, &options, 12).await;
        assert_eq!(log.relay.stats().lost, 6, "{subject}: and it is counted, for each partition");
        log.stop.cancel();
    }
}

#[tokio::test]
async fn nats_without_its_newest_messages_gets_them_again_for_every_partition() {
    let server = Nats::start("").unwrap();
    let options = options(&server);
    let log = Three::start(&options, Duration::from_mins(10)).await;
    server.kill().unwrap();
    let backup = tempfile::tempdir().unwrap();
    Nats::copy_data(&server.data(), &backup.path().join("data")).unwrap();
    server.resume().unwrap();
    for _ in 0..10 {
        log.grow().await;
    }
    log.is_relayed().await;
    server.kill().unwrap();
    std::fs::remove_dir_all(server.data()).unwrap();
    Nats::copy_data(&backup.path().join("data"), &server.data()).unwrap();
    server.resume().unwrap();
    // What the first partition gets again is as much as what the others lack.
    log.grow().await;
    log.is_all_there(&server, &options, 21).await;
    log.stop.cancel();
}

#[tokio::test]
async fn nats_gets_again_what_it_has_lost_though_nothing_is_appended() {
    let server = Nats::shared().unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let options = options(&server);
    let log = Three::start(&options, Duration::from_millis(100)).await;
    context.delete_stream(&options.stream_name).await.unwrap();
    log.is_all_there(&server, &options, 10).await;
    assert_eq!(log.relay.stats().lost, 3);
    log.stop.cancel();
}

#[tokio::test]
async fn nats_streams_of_others_are_left_as_they_are() {
    let server = Nats::shared().unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let log = log(3, &["A"], |_| b"1".to_vec()).await;
    let refused = async |options: &NatsOptions, parts: &[&str]| {
        let before = context.get_stream(&options.stream_name).await.unwrap().cached_info().config.clone();
        let error =
            bus(options.clone(), log.descriptor()).reached(ZERO, &Checkpoint::default()).await.unwrap_err();
        assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
        for part in [&options.stream_name, "bus.nats.streamName"].iter().chain(parts) {
            assert!(error.to_string().contains(part), "{part} is not in: {error}");
        }
        let after = context.get_stream(&options.stream_name).await.unwrap().cached_info().config.clone();
        assert_eq!(after, before, "nothing is changed");
    };

    // One that was made by hand, for something else.
    let foreign = options(&server);
    let config = async_nats::jetstream::stream::Config {
        name: foreign.stream_name.clone(),
        subjects: vec![format!("{}.>", foreign.event_stream)],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    refused(&foreign, &[&format!("{}.>", foreign.event_stream), "provision: Observe"]).await;

    // One that another event stream has, whoever makes it, and whatever its subjects.
    let ours = options(&server);
    let first = bus(ours.clone(), log.descriptor());
    first.reached(ZERO, &Checkpoint::default()).await.unwrap();
    let second = NatsOptions { event_stream: "bills".to_owned(), ..ours.clone() };
    refused(&second, &[&format!("/headwater/shop/{}", ours.event_stream), "/headwater/shop/bills"]).await;
    first.reached(ZERO, &Checkpoint::default()).await.unwrap();

    // One that is only observed is told by what is in it.
    let both = format!("both.{}.{{partition}}", ours.event_stream);
    let name = format!("{}O", ours.stream_name);
    let config = async_nats::jetstream::stream::Config {
        name: name.clone(),
        subjects: vec![format!("both.{}.*", ours.event_stream)],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    let observed = |options: &NatsOptions| NatsOptions {
        stream_name: name.clone(),
        subject: both.clone(),
        provision: Provision::Observe,
        ..options.clone()
    };
    bus(observed(&ours), log.descriptor()).publish(&events(&log).await).await.unwrap();
    refused(&observed(&second), &[&format!("/headwater/shop/{}", ours.event_stream)]).await;
}

#[tokio::test]
async fn nats_gets_all_that_comes_before_an_event_that_is_too_large() {
    let server = Nats::start("max_payload: 64KB").unwrap();
    let log = log(30, &["A"], |index| {
        let size = if index == 19 { 64_000 } else { 10 };
        format!("\"{}\"", "x".repeat(size)).into_bytes()
    })
    .await;
    let options = options(&server);
    let relay = Arc::new(Relay::new(
        log.clone(),
        Arc::new(bus(options.clone(), log.descriptor())),
        Arc::new(MemoryRelayState::default()),
        RelayOptions {
            pause: (Duration::from_millis(5), Duration::from_millis(10)),
            ..RelayOptions::default()
        },
    ));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (relay, stop) = (Arc::clone(&relay), stop.clone());
        async move { relay.run(ZERO, Epoch(1), &stop).await }
    });
    let began = std::time::Instant::now();
    while relay.stats().failures < 5 {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", relay.stats());
        tokio::task::yield_now().await;
    }
    assert_eq!(positions(&server, &options).await, (1..=19).collect::<Vec<u64>>());
    let fault = relay.fault(ZERO).unwrap().to_string();
    let large = events(&log).await[19].id.to_string();
    assert!(fault.contains(&large) && fault.contains("raise max_payload"), "{fault}");
    assert_eq!(relay.stats().lost, 0, "what is tried again is no loss");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn nats_that_takes_no_event_so_large_is_told_as_such() {
    let server = Nats::start("max_payload: 64KB").unwrap();
    let log = log(2, &["A"], |index| format!("\"{}\"", "x".repeat(index * 70_000)).into_bytes()).await;
    let bus = bus(options(&server), log.descriptor());
    let error = bus.publish(&events(&log).await).await.unwrap_err();
    assert!(error.is_retryable(), "it waits for the remedy");
    assert!(
        error.to_string().contains("raise max_payload") && error.to_string().contains("position 2"),
        "{error}"
    );
}

#[tokio::test]
async fn nats_that_refuses_us_says_why_and_shows_no_secret() {
    let server = Nats::start("authorization { user: hw, password: secret }").unwrap();
    let log = log(1, &["A"], |_| b"1".to_vec()).await;
    let at = |servers: Vec<String>, credentials: Option<Credentials>| {
        bus(NatsOptions { servers, credentials, ..options(&server) }, log.descriptor())
    };
    let port = server.port();
    let wrong = at(vec![format!("nats://hw:wrong-secret@127.0.0.1:{port}")], None);
    let error = wrong.reached(ZERO, &Checkpoint::default()).await.unwrap_err();
    assert!(error.is_retryable(), "the server's users may change");
    assert!(error.to_string().contains("look at the credentials"), "{error}");
    assert!(!format!("{error} {wrong:?}").contains("wrong-secret"), "{error} {wrong:?}");

    let right = at(vec![format!("nats://hw:secret@127.0.0.1:{port}")], None);
    right.publish(&events(&log).await).await.unwrap();

    let garbled = at(vec![server.url()], Some(Credentials("not a file".to_owned())));
    let error = garbled.reached(ZERO, &Checkpoint::default()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Invalid { field, .. } if field == "bus.nats.credentialsSecretRef"),
        "{error}"
    );
    let nobody = at(vec!["nats://127.0.0.1:1".to_owned()], None);
    let error = nobody.reached(ZERO, &Checkpoint::default()).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("nats://127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_stream_of_nats_is_removed_by_its_event_stream_alone() {
    let server = Nats::shared().unwrap();
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let log = log(3, &["A"], |_| b"1".to_vec()).await;
    let ours = options(&server);
    let first = bus(ours.clone(), log.descriptor());
    assert_eq!(first.remove().await.unwrap(), Removal::Nothing, "it is not there yet");
    first.reached(ZERO, &Checkpoint::default()).await.unwrap();
    first.publish(&events(&log).await).await.unwrap();
    let other = NatsOptions { event_stream: "bills".to_owned(), ..ours.clone() };
    let left = async |bus: &NatsBus, part: &str| {
        let left = bus.remove().await.unwrap();
        assert!(matches!(&left, Removal::Left(why) if why.contains(part)), "{left:?}");
    };
    left(&bus(other, log.descriptor()), "/headwater/shop/bills").await;
    // Of another cluster's.
    let descriptor = LogDescriptor { log_id: LogId::generate(), ..log.descriptor() };
    left(&bus(ours.clone(), descriptor), "another log").await;
    let observed = NatsOptions { provision: Provision::Observe, ..ours.clone() };
    let observed = bus(observed, log.descriptor()).remove().await.unwrap();
    assert_eq!(observed, Removal::Nothing, "what is only observed is somebody's");
    assert_eq!(positions(&server, &ours).await, [1, 2, 3]);
    assert_eq!(first.remove().await.unwrap(), Removal::Removed);
    context.get_stream(&ours.stream_name).await.unwrap_err();

    // One that was made by hand.
    let config = async_nats::jetstream::stream::Config {
        name: ours.stream_name.clone(),
        subjects: vec![format!("hw.{}.>", ours.event_stream)],
        ..Default::default()
    };
    context.create_stream(config).await.unwrap();
    left(&first, "was not made for").await;
    context.get_stream(&ours.stream_name).await.unwrap();
}
