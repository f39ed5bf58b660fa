//! What becomes of the file: opened again, by the wrong one, by two, damaged, full, under load.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use headwater_core::{
    Append, Error, EventType, Expected, NewEvent, Partition, PartitionCount, Position, StreamId, Version,
};
use headwater_log::{
    Batch, BatchEvent, Clock, CommitError, Filter, LogReader, LogStore, LogWriter, ReadPartition, Sequencer,
    SequencerOptions,
};
use headwater_sql::{OpenLog, SqliteLog};

fn options() -> OpenLog {
    OpenLog::new("orders", PartitionCount::new(2).unwrap())
}

fn append(stream_id: &str, data: &str) -> Append {
    let event = NewEvent::json(EventType::new("Created").unwrap(), data.as_bytes().to_vec());
    Append { stream_id: StreamId::new(stream_id).unwrap(), expected: Expected::Any, events: vec![event] }
}

/// JSON text of `size` bytes.
fn large(size: usize) -> String {
    format!("\"{}\"", "x".repeat(size - 2))
}

async fn read(
    log: &SqliteLog,
    partition: Partition,
    after: u64,
    filter: Filter,
) -> headwater_core::Result<(usize, u64)> {
    let request = ReadPartition {
        partition,
        after: Position::new(after),
        up_to: None,
        filter,
        limit: 1_000,
        max_bytes: 4 << 20,
    };
    log.read_partition(request).await.map(|page| (page.events.len(), page.reached.get()))
}

/// A log with `number` events of `size` bytes, closed.
async fn written(path: &Path, number: usize, size: usize) {
    let log = Arc::new(SqliteLog::open(path, options()).await.unwrap());
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    for index in 0..number {
        sequencer.append(append(&format!("order-{index}"), &large(size))).await.unwrap();
    }
    sequencer.shutdown().await;
    log.close().await;
}

async fn refused(path: &Path, options: OpenLog) -> Error {
    SqliteLog::open(path, options).await.expect_err("it must be refused")
}

#[tokio::test]
async fn everything_is_there_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    written(&path, 5, 10).await;
    let log = SqliteLog::open(&path, options()).await.unwrap();
    let (log_id, heads) = (log.descriptor().log_id, log.heads().await.unwrap());
    assert_eq!(heads.iter().map(|head| head.position.get()).sum::<u64>(), 5);
    log.close().await;
    let again = SqliteLog::open(&path, options()).await.unwrap();
    assert_eq!(again.descriptor().log_id, log_id);
    assert_eq!(again.heads().await.unwrap(), heads);
    let id = StreamId::new("order-3").unwrap();
    let partition = again.descriptor().partitions.partition_of(&id);
    assert_eq!(again.stream_versions(partition, &[id]).await.unwrap(), [Version::new(1)]);
}

#[tokio::test]
async fn a_closed_log_refuses_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(directory.path().join("log.db"), options()).await.unwrap();
    log.close().await;
    assert!(matches!(log.acquire(Partition::ZERO).await, Err(Error::Cancelled)));
    assert!(matches!(log.find(&[]).await, Err(Error::Cancelled)));
    log.close().await;
}

#[tokio::test]
async fn another_stream_or_another_number_of_partitions_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    written(&path, 3, 10).await;
    let before = fs::read(&path).unwrap();
    for (options, says) in [
        (
            OpenLog::new("payments", PartitionCount::new(2).unwrap()),
            "of event stream \"orders\", and not of \"payments\"",
        ),
        (
            OpenLog::new("orders", PartitionCount::new(3).unwrap()),
            "made with 2 partitions, and 3 are asked for",
        ),
    ] {
        let error = refused(&path, options).await;
        assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    SqliteLog::open(&path, options()).await.expect("the right one opens it");
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_first_ones_id() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let first = SqliteLog::open(&path, options()).await.unwrap();
    let error = refused(&path, options()).await;
    assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
    let pid = std::process::id();
    assert!(
        error.to_string().contains(&format!("is in use by another process of Headwater (pid {pid})")),
        "{error}"
    );
    first.close().await;
    SqliteLog::open(&path, options()).await.expect("a closed log is released");
}

#[tokio::test]
async fn a_file_that_is_no_log_of_ours_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let sqlite = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();

    sqlite("CREATE TABLE mine (x); INSERT INTO mine VALUES (1);");
    let before = fs::read(&path).unwrap();
    let error = refused(&path, options()).await;
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("another database"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::remove_file(&path).unwrap();
    written(&path, 2, 10).await;
    sqlite("PRAGMA user_version = 7");
    let before = fs::read(&path).unwrap();
    let error = refused(&path, options()).await;
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("made by a newer Headwater (format 7, this one knows 1)"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::write(&path, "this is a letter, and not a database, however long it may be".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    let error = refused(&path, options()).await;
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let error = refused(&directory.path().join("gone").join("log.db"), options()).await;
    assert!(matches!(error, Error::FailedPrecondition { .. }), "{error:?}");
}

#[tokio::test]
async fn damage_is_reported_with_the_file_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let is_damage = |error: &Error| {
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        for part in [path.display().to_string().as_str(), "is damaged", "restore a backup"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    let sqlite = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();

    written(&path, 20, 10).await;
    sqlite("UPDATE partition_head SET head = head + 1 WHERE partition = 1");
    is_damage(&refused(&path, options()).await);
    sqlite("UPDATE partition_head SET head = head - 1 WHERE partition = 1");
    sqlite("DELETE FROM events WHERE place = 3");
    let log = SqliteLog::open(&path, options()).await.unwrap();
    let error = read(&log, Partition::ZERO, 0, Filter::default()).await.unwrap_err();
    is_damage(&error);
    assert!(error.to_string().contains("no event at position 3"), "{error}");
    log.close().await;

    fs::remove_file(&path).unwrap();
    written(&path, 200, 1_000).await;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let found = match SqliteLog::open(&path, options()).await {
        Err(error) => error,
        Ok(log) => {
            let mut errors = Vec::new();
            for partition in log.descriptor().partitions.partitions() {
                errors.extend(read(&log, partition, 0, Filter::default()).await.err());
            }
            errors.pop().expect("half of the file is gone")
        }
    };
    is_damage(&found);
}

#[tokio::test]
async fn a_full_disk_refuses_and_the_log_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let log = SqliteLog::open(&path, OpenLog { max_pages: Some(300), ..options() }).await.unwrap();
    let log = Arc::new(log);
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    let mut stored = 0;
    let error = loop {
        match sequencer.append(append("order-1", &large(100_000))).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert!((5..20).contains(&stored), "{stored}");
    assert!(matches!(error, Error::Exhausted { .. }), "{error:?}");
    assert!(error.to_string().contains("make room"), "{error}");
    let (fits, does_not) = tokio::join!(
        sequencer.append(append("order-1", "1")),
        sequencer.append(append("order-2", &large(900_000)))
    );
    assert!(matches!(does_not, Err(Error::Exhausted { .. })), "{does_not:?}");
    let appended = match fits {
        Ok(appended) => appended,
        // Both may have shared a commit; alone, the small one has room.
        Err(_) => sequencer.append(append("order-1", "1")).await.unwrap(),
    };
    assert_eq!(appended.version, Version::new(stored + 1), "what was refused has left nothing");
    sequencer.shutdown().await;
    log.close().await;

    let log = Arc::new(SqliteLog::open(&path, options()).await.unwrap());
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    let appended = sequencer.append(append("order-1", &large(900_000))).await.expect("there is room again");
    assert_eq!(appended.version, Version::new(stored + 2));
}

#[tokio::test]
async fn people_read_events_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let log = Arc::new(SqliteLog::open(&path, options()).await.unwrap());
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    let request = append("order-1", r#"{"amount": "12.50"}"#);
    let appended = sequencer.append(request.clone()).await.unwrap();
    // While it is in use, as a person would.
    let shell = rusqlite::Connection::open(&path).unwrap();
    let row: (u16, i64, String, i64, String, String, String, String) = shell
        .query_row(
            "SELECT partition, position, stream_id, version, type, id, data ->> '$.amount', metadata FROM events_json",
            [],
            |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?, row.get(7)?))
            },
        )
        .unwrap();
    let id = request.events[0].id.to_string();
    let wanted =
        (appended.partition.get(), 1, "order-1".into(), 1, "Created".into(), id, "12.50".into(), "{}".into());
    assert_eq!(row, wanted);
    let recorded_at: String =
        shell.query_row("SELECT recorded_at FROM events_json", [], |row| row.get(0)).unwrap();
    let stored = log.heads().await.unwrap()[appended.partition.index()].last_recorded_at.unwrap();
    assert_eq!(recorded_at.parse::<jiff::Timestamp>().unwrap(), stored);
}

#[tokio::test]
async fn a_filter_that_matches_nothing_looks_at_a_bounded_number_of_rows() {
    let directory = tempfile::tempdir().unwrap();
    let log =
        SqliteLog::open(directory.path().join("log.db"), OpenLog::new("orders", PartitionCount::ONE)).await;
    let log = Arc::new(log.unwrap());
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    for _ in 0..25 {
        let mut request = append("order-1", "1");
        request.events = (0..1_000).flat_map(|_| append("order-1", "1").events).collect();
        sequencer.append(request).await.unwrap();
    }
    let filter = Filter { event_types: vec![EventType::new("Gone").unwrap()], ..Filter::default() };
    let mut pages = Vec::new();
    let mut after = 0;
    while after < 25_000 {
        let (events, reached) = read(&log, Partition::ZERO, after, filter.clone()).await.unwrap();
        assert_eq!(events, 0);
        after = reached;
        pages.push(reached);
    }
    assert_eq!(pages, [10_000, 20_000, 25_000]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_write_ahead_log_stays_bounded_under_reads_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log.db");
    let log = Arc::new(SqliteLog::open(&path, OpenLog::new("orders", PartitionCount::ONE)).await.unwrap());
    let sequencer = Sequencer::start(log.clone(), SequencerOptions::default());
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    read(&log, Partition::ZERO, 0, Filter::default()).await.unwrap();
                }
            })
        })
        .collect();
    let mut largest = 0;
    for index in 0..300 {
        sequencer.append(append(&format!("order-{index}"), &large(1 << 20))).await.unwrap();
        largest = largest.max(fs::metadata(directory.path().join("log.db-wal")).unwrap().len());
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
    // 300 MiB were written; the limit is 64 MiB, and the last batch goes over it.
    assert!(largest < 80 << 20, "{largest} bytes");
}

#[tokio::test]
async fn a_writer_that_ends_by_itself_is_no_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let clock = {
        let broken = broken.clone();
        Clock::new(move || {
            assert!(!broken.load(Ordering::Relaxed), "the clock is broken, by injection");
            jiff::Timestamp::UNIX_EPOCH
        })
    };
    let log = SqliteLog::open(directory.path().join("log.db"), OpenLog { clock, ..options() }).await.unwrap();
    let head = log.acquire(Partition::ZERO).await.unwrap();
    let Append { stream_id, events, .. } = append("order-1", "{}");
    let event = |event: NewEvent| BatchEvent {
        digest: event.content_digest(&stream_id),
        stream_id: stream_id.clone(),
        version: Version::new(1),
        event,
    };
    let events = events.into_iter().map(event).collect();
    let batch =
        Arc::new(Batch { partition: Partition::ZERO, epoch: head.epoch, head: head.position, events });
    log.check_writer().unwrap();

    broken.store(true, Ordering::Relaxed);
    let unanswered = log.commit(batch.clone()).await;
    assert!(matches!(unanswered, Err(CommitError::Unknown(_))), "it was taken: {unanswered:?}");
    // The answer is dropped a moment before the thread's end of the queue is.
    while log.check_writer().is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(log.check_writer(), Err(Error::Internal { .. })));
    let refused = log.commit(batch.clone()).await;
    assert!(matches!(refused, Err(CommitError::Failed(Error::Internal { .. }))), "{refused:?}");
    let refused = log.acquire(Partition::ZERO).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "{refused:?}");

    log.close().await;
    let refused = log.commit(batch).await;
    assert!(matches!(refused, Err(CommitError::Failed(Error::Cancelled))), "{refused:?}");
    assert!(matches!(log.check_writer(), Err(Error::Cancelled)));
}
