//! Calls as clients make them.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use headwater_api::v1::event_store_client::EventStoreClient;
use headwater_api::{Batch, HeadAt, Read, ReadStream, Subscribe, v1};
use headwater_core::{
    Append, Appended, Error, Expected, Partition, PartitionCount, Position, Result, Version,
};
use headwater_log::{Direction, Filter, LogWriter, MemoryStore, Sequencer, SequencerOptions, StartFrom};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use uuid::Uuid;

use crate::support::{Server, append, at, event, one, stream};

/// The positions of the events of a read.
async fn positions(server: &Server, read: Read) -> Vec<u64> {
    let batches: Vec<Batch> = server.client().read(read).try_collect().await.unwrap();
    batches.iter().flat_map(|batch| &batch.events).map(|event| event.position.get()).collect()
}

#[tokio::test]
async fn appends_of_one_call_are_answered_in_order_each_by_itself() {
    let server = Server::start().await;
    let appends = vec![
        append("a", Expected::NoStream, vec![event("A", "1"), event("A", "2")]),
        append("b", Expected::NoStream, vec![event("A", "1")]),
        append("a", at(1), vec![event("A", "3")]),
        append("a", at(2), vec![event("A", "3")]),
        append("a", Expected::Any, vec![]),
        append("a", at(3), vec![event("A", "4")]),
    ];
    let outcomes: Vec<_> = server.client().append_stream(futures_util::stream::iter(appends)).collect().await;
    let shown: Vec<String> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(appended) => format!("version {}", appended.version),
            Err(Error::WrongVersion { current, .. }) => format!("at {current}"),
            Err(error) => error.to_string(),
        })
        .collect();
    assert_eq!(
        shown,
        [
            "version 2",
            "version 1",
            "at 2",
            "version 3",
            "events: there are none; give at least one event",
            "version 4"
        ]
    );
}

/// Takes every other append up late, so that they would overtake each other.
struct Dawdling(Sequencer, AtomicUsize);

#[async_trait::async_trait]
impl LogWriter for Dawdling {
    async fn append(&self, request: Append) -> Result<Appended> {
        if self.1.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        self.0.append(request).await
    }
}

#[tokio::test]
async fn many_appends_of_one_call_keep_the_order_of_each_stream_id() {
    let log = Arc::new(MemoryStore::new(PartitionCount::new(3).unwrap()));
    let writer = Sequencer::start(log.clone(), SequencerOptions::default());
    let server = Server::over("127.0.0.1:0", log, Arc::new(Dawdling(writer, AtomicUsize::new(0)))).await;
    let appends: Vec<_> = (0..2_000_u64)
        .map(|index| {
            let id = format!("s{}", index % 7);
            append(&id, at(index / 7), vec![event("A", &index.to_string())])
        })
        .collect();
    let outcomes: Vec<_> = server.client().append_stream(futures_util::stream::iter(appends)).collect().await;
    assert_eq!(outcomes.len(), 2_000);
    for (index, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap().version.get(), index as u64 / 7 + 1);
    }
}

/// A client that sends and never reads an outcome holds up itself alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_outcomes_holds_up_nobody_else() {
    const REQUESTS: u64 = 50_000;
    let log = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let options = SequencerOptions { queue_requests: 4, queue_bytes: 4_096, ..SequencerOptions::default() };
    let writer = Sequencer::start(log.clone(), options);
    let server = Server::over("127.0.0.1:0", log, Arc::new(writer)).await;
    let channel = tonic::transport::Endpoint::from_shared(server.url(""))
        .unwrap()
        .initial_stream_window_size(1_024)
        .connect()
        .await
        .unwrap();
    let requests = (0..REQUESTS)
        .map(|index| headwater_api::convert::append_to_wire(&one(&format!("unread-{index}"), "A")));
    let outcomes =
        EventStoreClient::new(channel).append_stream(futures_util::stream::iter(requests)).await.unwrap();

    // Others go on while it is being stopped, and when it stands still.
    let client = server.client();
    let (mut others, mut unread) = (0, None);
    loop {
        for _ in 0..50 {
            let append = one("other", "A");
            let appended = tokio::time::timeout(Duration::from_secs(10), client.append(&append)).await;
            appended.expect("another client waits for the one that does not read").unwrap();
            others += 1;
        }
        let all = client.get_head(HeadAt::Now).await.unwrap().partitions[0].position.get();
        if unread == Some(all - others) {
            break;
        }
        unread = Some(all - others);
    }
    assert!(unread < Some(REQUESTS), "its outcomes fit into what the transport holds: nothing was tried");
    drop(outcomes);
}

/// Fails what says so, once each, as if the store were away for a moment.
struct Flickering(Sequencer, Mutex<HashSet<Uuid>>);

#[async_trait::async_trait]
impl LogWriter for Flickering {
    async fn append(&self, request: Append) -> Result<Appended> {
        let event = &request.events[0];
        if event.event_type.as_str() == "Flicker" && self.1.lock().unwrap().insert(event.id) {
            return Err(Error::unavailable("away for a moment"));
        }
        self.0.append(request).await
    }
}

#[tokio::test]
async fn nothing_overtakes_what_failed_for_now_in_the_same_call() {
    let log = Arc::new(MemoryStore::new(PartitionCount::ONE));
    let writer = Flickering(Sequencer::start(log.clone(), SequencerOptions::default()), Mutex::default());
    let server = Server::over("127.0.0.1:0", log, Arc::new(writer)).await;
    let client = server.client();
    let requests: Vec<Append> =
        [("a", "A"), ("a", "Flicker"), ("a", "B"), ("b", "A"), ("a", "C"), ("b", "B")]
            .map(|(stream_id, event_type)| one(stream_id, event_type))
            .to_vec();
    let (send, receive) = tokio::sync::mpsc::channel(16);
    let mut outcomes = pin!(client.append_stream(tokio_stream::wrappers::ReceiverStream::new(receive)));
    for request in &requests[..4] {
        send.send(request.clone()).await.unwrap();
    }
    let mut shown = Vec::new();
    for _ in 0..4 {
        shown.push(outcomes.next().await.unwrap().map(|appended| appended.version.get()));
    }
    // Also what is sent when the failure has been told.
    for request in &requests[4..] {
        send.send(request.clone()).await.unwrap();
    }
    drop(send);
    while let Some(outcome) = outcomes.next().await {
        shown.push(outcome.map(|appended| appended.version.get()));
    }
    let shown: Vec<String> = shown
        .into_iter()
        .map(|outcome| match outcome {
            Ok(version) => version.to_string(),
            Err(error @ Error::Unavailable { .. }) => {
                error.to_string().split(&[':', ' '][..]).next().unwrap().to_owned()
            }
            Err(error) => panic!("{error}"),
        })
        .collect();
    assert_eq!(shown, ["1", "away", "not", "1", "not", "2"]);

    // Sent again, they stand in the order of the requests.
    for request in &requests {
        client.append(request).await.unwrap();
    }
    let events = client.read_stream(&ReadStream::all(stream("a"))).await.unwrap().events;
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(types, ["A", "Flicker", "B", "C"]);
}

#[tokio::test]
async fn a_call_whose_client_breaks_off_is_told_after_what_came_before() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let good = headwater_api::convert::append_to_wire(&one("a", "A"));
    let bad = v1::AppendRequest { stream_id: String::new(), ..good.clone() };
    let outcomes = client.append_stream(futures_util::stream::iter([good, bad])).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_inner().try_collect().await.unwrap();
    assert!(matches!(outcomes[0].outcome, Some(v1::append_stream_response::Outcome::Appended(_))));
    match &outcomes[1].outcome {
        Some(v1::append_stream_response::Outcome::Failure(failure)) => {
            assert_eq!(failure.code, Code::InvalidArgument as i32);
            assert!(failure.message.starts_with("stream_id: the stream id is empty"), "{failure:?}");
        }
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn reads_are_bounded_filtered_and_go_on_by_token() {
    let server = Server::with_partitions(3).await;
    let client = server.client();
    for index in 0..30 {
        client.append(&one(&format!("s{index}"), if index % 2 == 0 { "Even" } else { "Odd" })).await.unwrap();
    }
    let all = positions(&server, Read::default()).await;
    assert_eq!(all.len(), 30);

    // By pages of four, over all partitions.
    let mut read = Read { limit: Some(4), ..Read::default() };
    let mut ids = std::collections::HashSet::new();
    loop {
        let batches: Vec<Batch> = client.read(read.clone()).try_collect().await.unwrap();
        let last = batches.last().unwrap();
        let count: usize = batches.iter().map(|batch| batch.events.len()).sum();
        assert!(count <= 4);
        for event in batches.iter().flat_map(|batch| &batch.events) {
            assert!(ids.insert(event.id), "twice");
        }
        read.from = StartFrom::After(last.token.clone());
        if last.token.positions.cover(&last.head.as_ref().unwrap().positions) {
            break;
        }
    }
    assert_eq!(ids.len(), 30);

    let even =
        Filter { event_types: vec!["Even"].into_iter().map(event_type).collect(), stream_id_prefix: None };
    assert_eq!(positions(&server, Read { filter: even, ..Read::default() }).await.len(), 15);
    let prefix = Filter { event_types: vec![], stream_id_prefix: Some("s1".into()) };
    assert_eq!(positions(&server, Read { filter: prefix, ..Read::default() }).await.len(), 11);
    let partition = Partition::new(1);
    let own = positions(&server, Read { partition: Some(partition), ..Read::default() }).await;
    assert_eq!(own, (1..=own.len() as u64).collect::<Vec<_>>());
    let head = client.get_head(HeadAt::Now).await.unwrap();
    let rest = Read { from: StartFrom::After(head.token), ..Read::default() };
    assert_eq!(positions(&server, rest).await, [0_u64; 0]);
    assert_eq!(positions(&server, Read { limit: Some(0), ..Read::default() }).await, [0_u64; 0]);
}

fn event_type(name: &str) -> headwater_core::EventType {
    headwater_core::EventType::new(name).unwrap()
}

#[tokio::test]
async fn a_stream_of_large_events_comes_whole() {
    let server = Server::start().await;
    let client = server.client();
    let data = format!("\"{}\"", "x".repeat(900_000));
    for _ in 0..5 {
        client
            .append(&append("big", Expected::Any, (0..4).map(|_| event("A", &data)).collect()))
            .await
            .unwrap();
    }
    let all = client.read_stream(&ReadStream::all(stream("big"))).await.unwrap();
    assert_eq!((all.events.len(), all.version), (20, Version::new(20)));
    assert!(all.events.iter().all(|event| event.data == data));
    assert_eq!(positions(&server, Read::default()).await.len(), 20);
    let back = ReadStream {
        direction: Direction::Backwards,
        from: Some(Version::new(3)),
        limit: Some(2),
        ..ReadStream::all(stream("big"))
    };
    let versions: Vec<u64> =
        client.read_stream(&back).await.unwrap().events.iter().map(|event| event.version.get()).collect();
    assert_eq!(versions, [3, 2]);
}

/// Zero is a number like any other, and not a way to say nothing.
#[tokio::test]
async fn zero_is_not_all() {
    let server = Server::start().await;
    server
        .client()
        .append(&append("a", Expected::Any, (0..3).map(|_| event("A", "1")).collect()))
        .await
        .unwrap();
    let mut client = EventStoreClient::new(server.channel().await);
    let backwards = v1::Direction::Backwards.into();
    let request = v1::ReadStreamRequest { stream_id: "a".into(), ..v1::ReadStreamRequest::default() };
    for (request, wanted) in [
        (request.clone(), vec![1, 2, 3]),
        (v1::ReadStreamRequest { from_version: Some(0), ..request.clone() }, vec![1, 2, 3]),
        (v1::ReadStreamRequest { direction: backwards, ..request.clone() }, vec![3, 2, 1]),
        (v1::ReadStreamRequest { from_version: Some(0), direction: backwards, ..request.clone() }, vec![]),
        (v1::ReadStreamRequest { limit: Some(0), ..request.clone() }, vec![]),
        (v1::ReadStreamRequest { max_bytes: Some(0), ..request.clone() }, vec![1]),
    ] {
        let pages: Vec<v1::ReadStreamResponse> =
            client.read_stream(request.clone()).await.unwrap().into_inner().try_collect().await.unwrap();
        assert!(pages.iter().all(|page| page.version == 3), "{request:?}");
        let versions: Vec<u64> =
            pages.iter().flat_map(|page| &page.events).map(|event| event.version).collect();
        assert_eq!(versions, wanted, "{request:?}");
    }
    for (limit, max_bytes, wanted) in [(None, None, 3), (Some(0), None, 0), (None, Some(0), 1)] {
        let request = v1::ReadRequest { limit, max_bytes, ..v1::ReadRequest::default() };
        let pages: Vec<v1::ReadResponse> =
            client.read(request).await.unwrap().into_inner().try_collect().await.unwrap();
        assert_eq!(pages.iter().map(|page| page.events.len()).sum::<usize>(), wanted);
        assert!(!pages.last().unwrap().token.is_empty());
    }
}

#[tokio::test]
async fn heads_say_where_stream_ids_and_the_log_are() {
    let server = Server::with_partitions(2).await;
    let client = server.client();
    let error = client.get_stream(&stream("konto-\u{fc}/1")).await.unwrap_err();
    assert!(
        matches!(error, Error::NotFound { .. }) && error.to_string().contains("konto-\u{fc}/1"),
        "{error}"
    );
    let appended = client.append(&one("konto-\u{fc}/1", "A")).await.unwrap();
    let head = client.get_stream(&stream("konto-\u{fc}/1")).await.unwrap();
    assert_eq!((head.version.get(), head.position.get(), head.partition), (1, 1, appended.partition));

    let log = client.get_head(HeadAt::Now).await.unwrap();
    assert_eq!(log.log_id, server.log.descriptor().log_id);
    assert_eq!(log.token, appended.token());
    assert_eq!(log.partitions[appended.partition.index()].recorded_at, Some(head.recorded_at));
    assert!(log.partitions.iter().all(|head| head.recorded_at.is_some() == (head.position > Position::ZERO)));
    let before = client.get_head(HeadAt::Before(head.recorded_at)).await.unwrap();
    assert_eq!(before.token.positions.get(appended.partition), Position::ZERO);
}

#[tokio::test]
async fn waiting_for_the_head_ends_with_the_next_append() {
    let server = Server::start().await;
    let client = server.client();
    let wait = tokio::spawn({
        let client = client.clone();
        async move { client.get_head(HeadAt::WaitBeyond(Partition::ZERO, Position::ZERO)).await }
    });
    client.append(&one("a", "A")).await.unwrap();
    assert_eq!(wait.await.unwrap().unwrap().partitions[0].position.get(), 1);
    let error = client.get_head(HeadAt::WaitBeyond(Partition::new(9), Position::ZERO)).await.unwrap_err();
    assert!(error.to_string().starts_with("wait_beyond.partition: there is no partition 9"), "{error}");
}

#[tokio::test]
async fn a_subscription_says_when_it_has_caught_up_and_goes_on() {
    let server = Server::start().await;
    let client = server.client();
    for _ in 0..3 {
        client.append(&one("a", "A")).await.unwrap();
    }
    let mut batches = pin!(client.subscribe(Subscribe { max_batch: Some(1), ..Subscribe::default() }));
    let mut seen = Vec::new();
    loop {
        let batch = batches.next().await.unwrap().unwrap();
        assert!(batch.events.len() <= 1);
        seen.extend(batch.events.iter().map(|event| event.position.get()));
        if batch.caught_up {
            break;
        }
    }
    assert_eq!(seen, [1, 2, 3]);
    client.append(&one("a", "A")).await.unwrap();
    loop {
        let batch = batches.next().await.unwrap().unwrap();
        if let Some(event) = batch.events.first() {
            assert_eq!(event.position.get(), 4);
            assert_eq!(batch.token.positions.get(Partition::ZERO), Position::new(4));
            break;
        }
    }
}

/// Readers that join while others write see every event once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_have_no_seam_under_load() {
    const EVENTS: usize = 3_000;
    let server = Server::with_partitions(3).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let client = server.client();
            tokio::spawn(async move {
                for index in 0..EVENTS / 8 {
                    client.append(&one(&format!("s{writer}-{}", index % 5), "A")).await.unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let client = server.client();
            tokio::spawn(async move {
                let mut batches = pin!(client.subscribe(Subscribe::default()));
                let (mut count, mut reached) = (0, [0_u64; 3]);
                while count < EVENTS {
                    let batch = batches.next().await.unwrap().unwrap();
                    for event in &batch.events {
                        let reached = &mut reached[event.partition.index()];
                        assert_eq!(event.position.get(), *reached + 1);
                        *reached += 1;
                        count += 1;
                    }
                    for (index, reached) in reached.iter().enumerate() {
                        assert_eq!(batch.token.positions.get(Partition::new(index as u16)).get(), *reached);
                    }
                }
            })
        })
        .collect();
    for task in writers.into_iter().chain(readers) {
        task.await.unwrap();
    }
}

/// Of many writers that expect the same version, one wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_win_each_version_once() {
    let server = Server::start().await;
    let writers: Vec<_> = (0..64)
        .map(|_| {
            let client = server.client();
            tokio::spawn(async move {
                let mut won = Vec::new();
                let mut version = 0;
                while version < 30 {
                    match client.append(&append("hot", at(version), vec![event("A", "{}")])).await {
                        Ok(appended) => {
                            assert_eq!(appended.version.get(), version + 1);
                            won.push(version + 1);
                            version += 1;
                        }
                        Err(Error::WrongVersion { current, .. }) => version = current.get(),
                        Err(error) => panic!("{error}"),
                    }
                }
                won
            })
        })
        .collect();
    let mut won = Vec::new();
    for writer in writers {
        won.extend(writer.await.unwrap());
    }
    won.sort_unstable();
    assert_eq!(won, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_token_of_another_log_is_refused() {
    let (server, other) = (Server::start().await, Server::start().await);
    let token = other.client().append(&one("a", "A")).await.unwrap().token();
    let from = StartFrom::After(token.clone());
    let subscribe = Subscribe { from: from.clone(), ..Subscribe::default() };
    let errors = [
        server.client().read(Read { from, ..Read::default() }).try_collect::<Vec<_>>().await.unwrap_err(),
        server
            .client()
            .read(Read { up_to: Some(token), ..Read::default() })
            .try_collect::<Vec<_>>()
            .await
            .unwrap_err(),
        server.client().subscribe(subscribe).try_collect::<Vec<_>>().await.unwrap_err(),
    ];
    for (error, field) in errors.iter().zip(["from", "up_to", "from"]) {
        let text = error.to_string();
        assert!(text.starts_with(field) && text.contains("but this event stream is log"), "{text}");
    }
}

#[tokio::test]
async fn health_follows_readiness() {
    let server = Server::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let gate = server.readiness.wait_for("something");
    let request = || HealthCheckRequest { service: "headwater.eventstore.v1.EventStore".into() };
    let mut changes = health.watch(request()).await.unwrap().into_inner();
    // SERVING is 1 and NOT_SERVING is 2.
    while changes.message().await.unwrap().unwrap().status != 2 {}
    assert_eq!(server.get("/readyz").await.text, "waiting for something\n");
    gate.open();
    while changes.message().await.unwrap().unwrap().status != 1 {}
    assert_eq!(health.check(request()).await.unwrap().into_inner().status, 1);
    let unknown = health.check(HealthCheckRequest { service: "x".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_the_services_and_their_files() {
    let server = Server::start().await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let ask = |message| tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let requests = futures_util::stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("headwater.eventstore.v1.EventStore".into())),
        ask(MessageRequest::FileContainingSymbol("eventstore.EventStore".into())),
    ]);
    let answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    let answers: Vec<_> =
        answers.map_ok(|answer| answer.message_response.unwrap()).try_collect().await.unwrap();
    let MessageResponse::ListServicesResponse(services) = &answers[0] else { panic!("{answers:?}") };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in [
        "headwater.eventstore.v1.EventStore",
        "eventstore.EventStore",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    for answer in &answers[1..] {
        assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn what_is_no_service_is_unimplemented() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = "/headwater.eventstore.v2.EventStore/Append".parse().unwrap();
    let status = grpc.unary(tonic::Request::new(()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("/headwater.eventstore.v2.EventStore/Append"), "{status:?}");
}

/// Nobody who only looks on keeps a server from ending, and no connection outlives it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_waits_neither_for_readers_that_do_not_read_nor_for_watches() {
    let server = Server::start().await;
    let data = format!("\"{}\"", "x".repeat(1_000_000));
    server.client().append(&append("a", Expected::Any, vec![event("A", &data)])).await.unwrap();
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, 1);
    // Takes a thousandth of the first message, and no more.
    let endpoint = tonic::transport::Endpoint::from_shared(server.url("")).unwrap();
    let channel = endpoint.initial_stream_window_size(1_024).connect().await.unwrap();
    let unread = EventStoreClient::new(channel).subscribe(v1::SubscribeRequest::default()).await;
    let mut unread = unread.unwrap().into_inner();
    while !server.get("/metrics").await.text.contains("headwater_events_read_total 1\n") {}

    let stopped = tokio::time::timeout(Duration::from_secs(6), server.stop());
    stopped.await.expect("the server waits for those who only look on");
    assert_eq!(watch.message().await.unwrap().unwrap().status, 2, "not serving");
    assert_eq!(watch.message().await.unwrap(), None);
    assert!(unread.message().await.is_err(), "the connection has outlived the server");
}

#[tokio::test]
async fn a_shutdown_ends_subscriptions_and_answers_what_is_under_way() {
    let server = Server::start().await;
    let mut client = EventStoreClient::new(server.channel().await);
    let mut batches = client.subscribe(v1::SubscribeRequest::default()).await.unwrap().into_inner();
    assert!(batches.message().await.unwrap().unwrap().caught_up);
    let ended = tokio::time::timeout(Duration::from_secs(5), server.stop());
    let (status, ended) = tokio::join!(batches.message(), ended);
    let error = headwater_api::errors::from_status(&status.unwrap_err());
    assert!(matches!(error, Error::Cancelled), "{error}");
    ended.expect("the server waited for a subscription");
}
