//! The promises of a [`LogReader`].

use super::*;
use crate::{Direction, ReadAll, ReadStream, end, read_all};
use headwater_core::Positions;

const MUCH: usize = 1 << 20;

pub async fn an_append_is_seen_by_the_reads_that_follow(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(3)).await;
    for number in 0..50 {
        let id = format!("s{}", number % 5);
        let request = append(&id, Expected::Any, events(1));
        let appended = log.writer.append(request.clone()).await.unwrap();
        let heads = log.reader.heads().await.unwrap();
        assert_eq!(heads[appended.partition.index()].position, appended.position);
        let read = ReadStream {
            stream_id: stream(&id),
            from: Some(appended.version),
            direction: Direction::Forwards,
            limit: 10,
            max_bytes: MUCH,
        };
        let by_stream = log.reader.read_stream(read).await.unwrap();
        assert_eq!(
            (ids(&by_stream.events), by_stream.version),
            (vec![request.events[0].id], appended.version)
        );
        let before = Position::new(appended.position.get() - 1);
        let by_partition = log.reader.read_partition(page(appended.partition, before, 10)).await.unwrap();
        assert_eq!(by_partition.events, by_stream.events);
    }
}

pub async fn a_stream_is_read_both_ways_by_pages(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(2)).await;
    log.writer.append(append("a", Expected::Any, events(3))).await.unwrap();
    log.writer.append(append("ab", Expected::Any, events(2))).await.unwrap();
    log.writer.append(append("a", Expected::Any, events(4))).await.unwrap();
    for (from, direction, limit, versions) in [
        (None, Direction::Forwards, 100, vec![1, 2, 3, 4, 5, 6, 7]),
        (None, Direction::Forwards, 2, vec![1, 2]),
        (Some(0), Direction::Forwards, 2, vec![1, 2]),
        (Some(3), Direction::Forwards, 2, vec![3, 4]),
        (Some(7), Direction::Forwards, 9, vec![7]),
        (Some(8), Direction::Forwards, 9, vec![]),
        (Some(u64::MAX), Direction::Forwards, 9, vec![]),
        (None, Direction::Backwards, 100, vec![7, 6, 5, 4, 3, 2, 1]),
        (None, Direction::Backwards, 2, vec![7, 6]),
        (Some(3), Direction::Backwards, 2, vec![3, 2]),
        (Some(1), Direction::Backwards, 2, vec![1]),
        (Some(0), Direction::Backwards, 2, vec![]),
        (None, Direction::Forwards, 0, vec![]),
        (None, Direction::Backwards, 0, vec![]),
        (Some(u64::MAX), Direction::Backwards, 1, vec![7]),
    ] {
        let request = ReadStream {
            stream_id: stream("a"),
            from: from.map(Version::new),
            direction,
            limit,
            max_bytes: MUCH,
        };
        let read = log.reader.read_stream(request.clone()).await.unwrap();
        let found: Vec<u64> = read.events.iter().map(|event| event.version.get()).collect();
        assert_eq!(found, versions, "{request:?}");
        assert_eq!(read.version, Version::new(7));
        assert!(read.events.iter().all(|event| event.stream_id.as_str() == "a"));
    }
    let none = ReadStream {
        stream_id: stream("b"),
        from: None,
        direction: Direction::Backwards,
        limit: 5,
        max_bytes: MUCH,
    };
    let none = log.reader.read_stream(none).await.unwrap();
    assert_eq!((none.events.len(), none.version), (0, Version::ZERO));
}

pub async fn a_page_of_a_stream_is_bounded_by_its_bytes(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    // With the two bytes of its metadata, each counts for a thousand.
    let data = format!("\"{}\"", "x".repeat(996));
    let events = (0..20).map(|_| event("A", &data)).collect();
    log.writer.append(append("a", Expected::Any, events)).await.unwrap();
    for direction in [Direction::Forwards, Direction::Backwards] {
        for (limit, max_bytes, wanted) in
            [(20, 1, 1..=1), (20, 0, 1..=1), (20, 5_000, 5..=6), (3, 5_000, 3..=3), (20, usize::MAX, 20..=20)]
        {
            let request = ReadStream { stream_id: stream("a"), from: None, direction, limit, max_bytes };
            let read = log.reader.read_stream(request.clone()).await.unwrap();
            assert!(wanted.contains(&read.events.len()), "{request:?} gave {}", read.events.len());
            assert_eq!(read.version, Version::new(20));
            for (index, event) in read.events.iter().enumerate() {
                let index = index as u64;
                let version = if direction == Direction::Forwards { index + 1 } else { 20 - index };
                assert_eq!(event.version.get(), version, "{request:?}");
            }
        }
    }
}

pub async fn a_partition_is_read_by_pages(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    for _ in 0..5 {
        log.writer.append(append("a", Expected::Any, events(5))).await.unwrap();
    }
    let read = async |after: u64, up_to: Option<u64>, limit, max_bytes| {
        let request = ReadPartition {
            up_to: up_to.map(Position::new),
            max_bytes,
            ..page(Partition::ZERO, Position::new(after), limit)
        };
        let page = log.reader.read_partition(request).await.unwrap();
        assert_eq!(page.head, Position::new(25));
        let positions: Vec<u64> = page.events.iter().map(|event| event.position.get()).collect();
        (positions, page.reached.get())
    };
    assert_eq!(read(0, None, 3, MUCH).await, (vec![1, 2, 3], 3));
    assert_eq!(read(3, None, 3, MUCH).await, (vec![4, 5, 6], 6));
    assert_eq!(read(23, None, 100, MUCH).await, (vec![24, 25], 25));
    assert_eq!(read(25, None, 100, MUCH).await, (vec![], 25));
    assert_eq!(read(40, None, 100, MUCH).await, (vec![], 40), "ahead of the head there is nothing");
    assert_eq!(read(2, Some(4), 100, MUCH).await, (vec![3, 4], 4));
    assert_eq!(read(2, Some(2), 100, MUCH).await, (vec![], 2));
    assert_eq!(read(22, Some(99), 100, MUCH).await, (vec![23, 24, 25], 25));
    let (positions, reached) = read(0, None, 100, 1).await;
    assert_eq!(positions[0], 1, "one event, whatever its size");
    assert!(positions.len() < 25 && positions.len() as u64 == reached);
}

pub async fn filters_leave_out_the_rest(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    for (id, event_type) in [
        ("order-1", "Created"),
        ("order-2", "Created"),
        ("order-1", "Paid"),
        ("payment-1", "Paid"),
        ("order_3", "Created"),
        ("order-2", "paid"),
        ("Order-1", "Created"),
        ("ordér-1", "Created"),
    ] {
        log.writer.append(append(id, Expected::Any, vec![event(event_type, "1")])).await.unwrap();
    }
    for (types, prefix, wanted) in [
        (vec![], None, vec![1, 2, 3, 4, 5, 6, 7, 8]),
        (vec!["Paid"], None, vec![3, 4]),
        (vec!["Paid", "paid"], None, vec![3, 4, 6]),
        (vec![], Some("order-"), vec![1, 2, 3, 6]),
        (vec![], Some("ordér"), vec![8]),
        (vec!["Created"], Some("order-"), vec![1, 2]),
        (vec!["Created"], Some("order_%"), vec![]),
        (vec!["Gone"], None, vec![]),
        (vec![], Some(""), vec![1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        let filter = Filter {
            event_types: types.iter().map(|name| EventType::new(name).unwrap()).collect(),
            stream_id_prefix: prefix.map(str::to_owned),
        };
        for limit in [1, 2, 100] {
            let mut found = Vec::new();
            let mut after = Position::ZERO;
            while after.get() < 8 {
                let request = ReadPartition { filter: filter.clone(), ..page(Partition::ZERO, after, limit) };
                let page = log.reader.read_partition(request).await.unwrap();
                assert!(page.reached > after, "a page looks at something");
                assert!(page.events.len() <= limit);
                after = page.reached;
                found.extend(page.events.iter().map(|event| event.position.get()));
            }
            assert_eq!(found, wanted, "{filter:?}");
        }
    }
}

pub async fn a_page_has_no_holes_while_writers_append(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(PartitionCount::ONE).await;
    let mut writers = Vec::new();
    for number in 0..8 {
        let writer = Arc::clone(&log.writer);
        writers.push(tokio::spawn(async move {
            for _ in 0..60 {
                writer
                    .append(append(&format!("s{number}"), Expected::Any, events(1 + number % 3)))
                    .await
                    .unwrap();
            }
        }));
    }
    let total: u64 = (0..8).map(|number| 60 * (1 + number % 3)).sum();
    let mut after = Position::ZERO;
    while after.get() < total {
        let read = log.reader.read_partition(page(Partition::ZERO, after, 50)).await.unwrap();
        for event in &read.events {
            assert_eq!(event.position, after.next(), "no reader sees a hole");
            after = event.position;
        }
        assert_eq!(after, read.reached);
        assert!(read.reached <= read.head, "a page ends at its head");
        let backwards = ReadStream {
            stream_id: stream("s2"),
            from: None,
            direction: Direction::Backwards,
            limit: 9,
            max_bytes: MUCH,
        };
        let tail = log.reader.read_stream(backwards).await.unwrap();
        for (index, event) in tail.events.iter().enumerate() {
            assert_eq!(event.version.get(), tail.version.get() - index as u64, "nor one in a stream");
        }
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

pub async fn all_partitions_are_read_by_pages(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let log = make(count(4)).await;
    for number in 0..60 {
        let name = if number % 3 == 0 { "Third" } else { "Other" };
        let request = append(&format!("s{}", number % 17), Expected::Any, vec![event(name, "1")]);
        log.writer.append(request).await.unwrap();
    }
    let all = read_log(&*log.reader).await;
    let third = Filter { event_types: vec![EventType::new("Third").unwrap()], ..Filter::default() };
    for (filter, wanted) in [(Filter::default(), 60), (third, 20)] {
        for limit in [1, 7, 1_000] {
            let mut after = Positions::default();
            let mut found = Vec::new();
            loop {
                let request =
                    ReadAll { after: after.clone(), filter: filter.clone(), limit, max_bytes: 1 << 20 };
                let page = read_all(&*log.reader, request).await.unwrap();
                assert!(page.next.cover(&after), "never back");
                assert!(page.events.len() <= limit);
                after = page.next;
                found.extend(page.events);
                if page.caught_up {
                    break;
                }
            }
            assert_eq!(found.len(), wanted);
            found.sort_by_key(|event| (event.partition, event.position));
            let passing: Vec<_> = all
                .iter()
                .filter(|event| filter.matches(event.event_type.as_str(), event.stream_id.as_str()))
                .collect();
            assert_eq!(found.iter().collect::<Vec<_>>(), passing);
            assert!(after.cover(&end(&*log.reader).await.unwrap()));
        }
    }
    let ahead = Positions::one(Partition::ZERO, Position::new(1_000_000));
    let request =
        ReadAll { after: ahead.clone(), filter: Filter::default(), limit: 1_000, max_bytes: 1 << 20 };
    let page = read_all(&*log.reader, request).await.unwrap();
    assert!(page.events.iter().all(|event| event.partition != Partition::ZERO), "ahead there is nothing");
    assert!(page.next.cover(&ahead), "and it stays there");
}

pub async fn waiting_ends_when_the_head_moves(make: impl AsyncFn(PartitionCount) -> LogFixture) {
    let partitions = count(2);
    let log = make(partitions).await;
    let (one, two) = (Partition::ZERO, Partition::new(1));
    let id = stream_in(partitions, one, 0);
    let reader = Arc::clone(&log.reader);
    let waiting = tokio::spawn(async move { reader.wait_beyond(one, Position::new(2)).await.unwrap() });
    log.writer.append(append(id.as_str(), Expected::Any, events(2))).await.unwrap();
    assert_eq!(log.reader.wait_beyond(one, Position::ZERO).await.unwrap(), Position::new(2), "at once");
    assert!(!waiting.is_finished(), "position 2 is not beyond position 2");
    let other = {
        let reader = Arc::clone(&log.reader);
        tokio::spawn(async move { reader.wait_beyond(two, Position::ZERO).await })
    };
    log.writer.append(append(id.as_str(), Expected::Any, events(1))).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Position::new(3));
    assert!(!other.is_finished(), "another partition has not moved");
    other.abort();
    // A wait that is dropped takes nothing along.
    drop(log.reader.wait_beyond(one, Position::new(3)));
    log.writer.append(append(id.as_str(), Expected::Any, events(1))).await.unwrap();
    assert_eq!(log.reader.wait_beyond(one, Position::new(3)).await.unwrap(), Position::new(4));
}
