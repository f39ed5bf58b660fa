//! The promises of a [`LogWriter`].

use super::*;
use headwater_core::{AppendLimits, Error, SchemaVersion};

pub async fn what_is_appended_is_read_back_as_it_was(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    let long = "x".repeat(255);
    let all = vec![
        event("OrderCreated", "{ \"spaced\" : 1.50 , \"spaced\": \"\\u00e9\" }"),
        with_metadata(event("Wïdget 🏦", "null"), "{\"correlation_id\": \"c\", \"n\" : 1.0}"),
        NewEvent {
            schema_version: SchemaVersion::Given(7),
            content_type: "application/vnd.order+json; v=1".into(),
            ..event("A", "[]")
        },
        NewEvent {
            content_type: "application/octet-stream".into(),
            data: Bytes::from((0..=255).collect::<Vec<u8>>()),
            ..event("A", "1")
        },
        NewEvent { content_type: "text/plain".into(), data: Bytes::new(), ..event(&long, "1") },
        NewEvent {
            content_type: "text/plain".into(),
            data: Bytes::from(vec![b'y'; 1 << 20]),
            ..with_metadata(event("Large", "1"), &format!("{{\"a\":\"{}\"}}", "z".repeat(60_000)))
        },
    ];
    let request = append(&"ü".repeat(127), Expected::NoStream, all.clone());
    let before = jiff::Timestamp::now();
    let appended = log.writer.append(request.clone()).await.unwrap();
    assert_eq!(appended.log_id, log.reader.descriptor().log_id);
    assert_eq!((appended.version, appended.position), (Version::new(6), Position::new(6)));
    let read = read_log(&*log.reader).await;
    for (index, (event, new)) in read.iter().zip(&all).enumerate() {
        let number = index as u64 + 1;
        assert_eq!(
            *event,
            RecordedEvent {
                id: new.id,
                stream_id: request.stream_id.clone(),
                event_type: new.event_type.clone(),
                version: Version::new(number),
                partition: Partition::ZERO,
                position: Position::new(number),
                schema_version: new.schema_version.get(),
                content_type: new.content_type.clone(),
                data: new.data.clone(),
                metadata: new.metadata.clone(),
                recorded_at: event.recorded_at,
            }
        );
        assert_eq!(event.recorded_at, read[0].recorded_at, "one time a batch");
        assert_eq!(event.recorded_at.subsec_nanosecond() % 1_000, 0, "microseconds");
    }
    // The store's clock may be another machine's.
    assert!(read[0].recorded_at.duration_since(before).abs() < jiff::SignedDuration::from_mins(5));
}

pub async fn an_expectation_is_met_or_nothing_is_stored(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(3)).await;
    for (existing, expected, allowed) in [
        (0, Expected::Any, true),
        (0, Expected::NoStream, true),
        (0, Expected::Exists, false),
        (0, at(0), true),
        (0, at(1), false),
        (2, Expected::Any, true),
        (2, Expected::NoStream, false),
        (2, Expected::Exists, true),
        (2, at(0), false),
        (2, at(1), false),
        (2, at(2), true),
        (2, at(3), false),
    ] {
        let id = format!("{existing}-{expected}");
        if existing > 0 {
            log.writer.append(append(&id, Expected::NoStream, events(existing))).await.unwrap();
        }
        let before = read_log(&*log.reader).await.len();
        let request = append(&id, expected, events(2));
        match log.writer.append(request.clone()).await {
            Ok(appended) => {
                assert!(allowed, "{id}");
                assert_eq!(appended.version, Version::new(existing as u64 + 2));
                assert_is_there(&read_log(&*log.reader).await, &request, &appended);
            }
            Err(Error::WrongVersion { stream_id, expected: said, current }) => {
                assert!(!allowed, "{id}");
                assert_eq!((stream_id, said), (stream(&id), expected));
                assert_eq!(current, Version::new(existing as u64));
                assert_eq!(read_log(&*log.reader).await.len(), before, "nothing was stored");
            }
            Err(other) => panic!("{id}: {other:?}"),
        }
    }
}

pub async fn repeating_an_append_answers_the_first_result(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    let first = append("a", Expected::NoStream, events(3));
    let appended = log.writer.append(first.clone()).await.unwrap();
    let later = append("a", at(3), events(2));
    let later_appended = log.writer.append(later.clone()).await.unwrap();
    for expected in [Expected::NoStream, Expected::Any, Expected::Exists, at(0), at(3), at(99)] {
        let repeat = Append { expected, ..first.clone() };
        assert_eq!(log.writer.append(repeat).await.unwrap(), appended, "{expected}");
    }
    let other_metadata =
        first.events.iter().map(|event| with_metadata(event.clone(), "{\"retry\": 1}")).collect();
    let repeat = Append { events: other_metadata, ..first.clone() };
    assert_eq!(log.writer.append(repeat).await.unwrap(), appended, "metadata does not count");
    let both = Append { events: [first.events.clone(), later.events.clone()].concat(), ..first.clone() };
    assert_eq!(log.writer.append(both).await.unwrap(), later_appended, "the place of the last event");
    let single = Append { events: first.events[1..2].to_vec(), ..first.clone() };
    assert_eq!(log.writer.append(single).await.unwrap().version, Version::new(2));
    let read = read_log(&*log.reader).await;
    assert_eq!(
        ids(&read),
        first.events.iter().chain(&later.events).map(|event| event.id).collect::<Vec<_>>()
    );
}

pub async fn ids_that_are_taken_are_refused(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let partitions = count(3);
    let log = make(partitions).await;
    let first = append("a", Expected::NoStream, events(2));
    log.writer.append(first.clone()).await.unwrap();
    let neighbour = stream_in(partitions, partitions.partition_of(&first.stream_id), 1);
    let far = stream_in(
        partitions,
        partitions.partitions().find(|other| *other != partitions.partition_of(&first.stream_id)).unwrap(),
        2,
    );
    let [one, two] = &first.events[..] else { panic!() };
    let other_type = NewEvent { event_type: EventType::new("Other").unwrap(), ..one.clone() };
    let other_schema = NewEvent { schema_version: SchemaVersion::Given(2), ..one.clone() };
    let other_content_type = NewEvent { content_type: "text/plain".into(), ..one.clone() };
    let other_data = NewEvent { data: Bytes::from_static(b" 0"), ..one.clone() };
    for (case, id, events) in [
        ("some are there", "a", vec![one.clone(), two.clone(), event("A", "1")]),
        ("the last is there", "a", vec![event("A", "1"), two.clone()]),
        ("another type", "a", vec![other_type]),
        ("another schema version", "a", vec![other_schema, two.clone()]),
        ("another content type", "a", vec![other_content_type]),
        ("other data", "a", vec![other_data]),
        ("a stream id of the same partition", neighbour.as_str(), vec![one.clone()]),
        ("a stream id of another partition", far.as_str(), vec![one.clone(), two.clone()]),
    ] {
        for expected in [Expected::Any, at(2), at(9)] {
            let refused = log.writer.append(append(id, expected, events.clone())).await;
            let Err(Error::AlreadyExists { message }) = &refused else { panic!("{case}: {refused:?}") };
            assert!(
                first.events.iter().any(|event| message.contains(&event.id.to_string())),
                "{case}: {message}"
            );
        }
    }
    assert_eq!(read_log(&*log.reader).await.len(), 2, "nothing was stored");
}

pub async fn repeats_at_the_same_time_store_once(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    for round in 0..10 {
        let request = append(&format!("s{round}"), Expected::NoStream, events(1 + round % 3));
        let mut writers = Vec::new();
        for _ in 0..16 {
            let (writer, request) = (Arc::clone(&log.writer), request.clone());
            writers.push(tokio::spawn(async move { writer.append(request).await.unwrap() }));
        }
        let mut answers = Vec::new();
        for writer in writers {
            answers.push(writer.await.unwrap());
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        assert_is_there(&read_log(&*log.reader).await, &request, &answers[0]);
    }
    assert_eq!(read_log(&*log.reader).await.len(), 1 + 2 + 3 + 1 + 2 + 3 + 1 + 2 + 3 + 1);
}

pub async fn one_of_many_writers_wins_each_version(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    const WRITERS: usize = 64;
    const VERSIONS: u64 = 200;
    let log = make(count(2)).await;
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        let writer = Arc::clone(&log.writer);
        writers.push(tokio::spawn(async move {
            let mut won = Vec::new();
            let mut known = 0;
            while known < VERSIONS {
                let request = append("contended", at(known), vec![event("A", &format!("{number}"))]);
                match writer.append(request.clone()).await {
                    Ok(appended) => {
                        assert_eq!(appended.version, Version::new(known + 1));
                        won.push((appended.version, request.events[0].id));
                        known += 1;
                    }
                    Err(Error::WrongVersion { current, .. }) => {
                        assert!(current.get() > known, "a refusal tells of what is newer");
                        known = current.get();
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            won
        }));
    }
    let mut won = Vec::new();
    for writer in writers {
        won.extend(writer.await.unwrap());
    }
    won.sort_unstable();
    let read = read_log(&*log.reader).await;
    let there: Vec<_> = read.iter().map(|event| (event.version, event.id)).collect();
    assert_eq!(there, won, "each version has one winner, and it was told so");
}

pub async fn a_request_that_fails_is_refused_alone(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    let taken = append("taken", Expected::NoStream, events(1));
    log.writer.append(taken.clone()).await.unwrap();
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for number in 0..40 {
        let request = append(&format!("s{}", number % 7), Expected::Any, events(1 + number % 3));
        let writer = Arc::clone(&log.writer);
        good.push(tokio::spawn(async move { (writer.append(request.clone()).await, request) }));
        let request = match number % 4 {
            0 => append("taken", Expected::NoStream, events(1)),
            1 => append("fresh", Expected::Exists, events(1)),
            2 => append("other", Expected::Any, taken.events.clone()),
            _ => append("taken", Expected::Any, vec![taken.events[0].clone(), event("A", "1")]),
        };
        let writer = Arc::clone(&log.writer);
        bad.push(tokio::spawn(async move { writer.append(request).await }));
    }
    for (number, refused) in bad.into_iter().enumerate() {
        match (number % 4, refused.await.unwrap()) {
            (0 | 1, Err(Error::WrongVersion { .. })) | (2 | 3, Err(Error::AlreadyExists { .. })) => {}
            (_, other) => panic!("{number}: {other:?}"),
        }
    }
    let mut stored = 1;
    let mut answers = Vec::new();
    for written in good {
        let (appended, request) = written.await.unwrap();
        stored += request.events.len();
        answers.push((appended.unwrap(), request));
    }
    let read = read_log(&*log.reader).await;
    assert_eq!(read.len(), stored);
    for (appended, request) in answers {
        assert_is_there(&read, &request, &appended);
    }
}

pub async fn a_request_over_the_limits_is_refused(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    let limits = AppendLimits::default();
    let large = |size: usize| NewEvent {
        content_type: "text/plain".into(),
        data: Bytes::from(vec![b'x'; size]),
        ..event("A", "1")
    };
    for (events, field) in [
        (vec![], "events"),
        (events(limits.events + 1), "events"),
        (vec![event("A", "1"), large(limits.data_bytes + 1)], "events[1].data"),
        (vec![large(1 << 20), large(1 << 20), large(1 << 20), large(1 << 20), large(1)], "events"),
        (vec![event("A", "{")], "events[0].data"),
    ] {
        match log.writer.append(append("a", Expected::Any, events)).await {
            Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    assert!(read_log(&*log.reader).await.is_empty());
    let most = append("a", Expected::Any, events(limits.events));
    let appended = log.writer.append(most).await.unwrap();
    assert_eq!(appended.version, Version::new(1_000));
    // The metadata of each counts two bytes: an empty object.
    let full = append("b", Expected::Any, (0..4).map(|_| large((1 << 20) - 2)).collect());
    log.writer.append(full).await.unwrap();
    assert_eq!(read_log(&*log.reader).await.len(), 1_004);
}

pub async fn all_events_of_a_request_are_stored_or_none(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    let mut writers = Vec::new();
    for number in 0..8 {
        let writer = Arc::clone(&log.writer);
        writers.push(tokio::spawn(async move {
            for _ in 0..20 {
                writer.append(append(&format!("s{}", number % 3), Expected::Any, events(5))).await.unwrap();
            }
        }));
    }
    // What a reader sees in the meantime is whole requests: the head moves by five.
    let mut seen = 0;
    while seen < 8 * 20 * 5 {
        let heads = log.reader.heads().await.unwrap();
        assert!(heads.iter().all(|head| head.position.get() % 5 == 0), "{heads:?}");
        seen = heads.iter().map(|head| head.position.get()).sum();
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for events in read_log(&*log.reader).await.chunks(5) {
        let data: Vec<&[u8]> = events.iter().map(|event| event.data.as_ref()).collect();
        assert_eq!(data, [b"0", b"1", b"2", b"3", b"4"]);
        assert!(events.iter().all(|event| event.stream_id == events[0].stream_id), "a request is one block");
    }
}
