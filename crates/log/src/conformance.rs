//! What every log must do, as tests: run against each implementation by one line.
//!
//! ```text
//! headwater_log::store_conformance!(make)    a LogStore by itself, under a Sequencer, and with faults injected between them
//! headwater_log::lease_conformance!(make)    a LeaseStore
//! headwater_log::log_conformance!(make)      any LogReader with any LogWriter, for example over a network
//! ```
//!
//! `make` is an `async fn(PartitionCount, Clock) -> Fixture`, or `async fn(PartitionCount) -> LogFixture`; each test asks for a log
//! of its own. The functions panic where the contract is broken, as tests do; they are for tests alone.
#![allow(missing_docs, reason = "each function's name is the sentence that it proves")]
#![allow(clippy::wildcard_imports, reason = "the suite's modules share one set of helpers")]

mod append;
mod faults;
mod lease;
mod model;
mod read;
mod sequenced;
mod store;
mod subscribe;

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use headwater_core::{
    Append, Appended, EventType, Expected, Metadata, NewEvent, Partition, PartitionCount, Position,
    RecordedEvent, Result, StreamId, Version,
};
use uuid::Uuid;

use crate::{
    Batch, BatchEvent, CommitError, Committed, Filter, Head, LogReader, LogStore, LogWriter, ReadPartition,
    Sequencer, SequencerOptions,
};

pub use append::*;
pub use faults::*;
pub use lease::*;
pub use model::*;
pub use read::*;
pub use sequenced::*;
pub use store::*;
pub use subscribe::*;

/// A store to be tested, empty, and what must live as long as it does.
pub struct Fixture {
    pub store: Arc<dyn LogStore>,
    pub keep: Box<dyn Any + Send + Sync>,
}

impl Fixture {
    pub fn new(store: impl LogStore) -> Self {
        Self { store: Arc::new(store), keep: Box::new(()) }
    }

    /// The store under a sequencer.
    pub fn sequenced(self) -> LogFixture {
        let writer = Sequencer::start(Arc::clone(&self.store), SequencerOptions::default());
        LogFixture { reader: self.store, writer: Arc::new(writer), keep: self.keep }
    }
}

/// A log to be tested, empty, and what must live as long as it does.
pub struct LogFixture {
    pub reader: Arc<dyn LogReader>,
    pub writer: Arc<dyn LogWriter>,
    pub keep: Box<dyn Any + Send + Sync>,
}

/// A test for each thing that a [`LogStore`] must do; `$make` is an `async fn(PartitionCount, Clock) -> Fixture`.
#[macro_export]
macro_rules! store_conformance {
    ($make:ident) => {
        $crate::conformance_tests!($make;
            acquiring_fences_the_writer_before
            another_head_is_fenced_and_stores_nothing
            positions_are_the_next_and_partitions_are_apart
            a_taken_id_is_refused_and_stores_nothing
            a_taken_version_is_refused_and_stores_nothing
            a_batch_that_fails_does_not_spoil_its_neighbours
            recorded_at_never_decreases
            a_time_is_one_cut
            versions_and_ids_are_found
            a_partition_that_is_not_there_is_refused
            repeats_are_known_to_a_new_writer
            two_writers_lose_and_double_nothing
            a_fenced_writer_refuses_nothing_by_what_it_remembers
            a_batch_that_is_sent_behind_another_is_there_only_with_it
            what_does_not_write_is_not_sent_behind_another
            a_batch_that_comes_long_after_it_was_given_up_is_fenced
            what_is_found_for_one_request_counts_for_its_neighbours
            small_caches_change_no_answer
            shutting_down_writes_what_is_queued_and_refuses_the_rest
            appends_that_come_during_a_commit_share_the_next
            what_is_queued_at_a_shutdown_is_written
            a_commit_of_unknown_fate_is_settled
            a_failure_after_a_lost_commit_does_not_say_that_nothing_was_stored
            a_failure_says_what_it_is
            a_lane_that_ends_by_itself_is_no_shutdown
            a_refusal_that_rests_on_a_failed_commit_is_not_given
            faults_lose_and_double_nothing
        );
        mod sequenced {
            async fn make(partitions: ::headwater_core::PartitionCount) -> $crate::conformance::LogFixture {
                super::$make(partitions, $crate::Clock::system()).await.sequenced()
            }
            $crate::log_conformance!(make);
        }
    };
}

/// A test for each thing that a [`LeaseStore`](crate::LeaseStore) must do; `$make` is an `async fn(PartitionCount, Clock) -> LeaseFixture`.
#[macro_export]
macro_rules! lease_conformance {
    ($make:ident) => {
        $crate::conformance_tests!($make;
            a_partition_has_one_holder_at_a_time
            a_lease_that_has_ended_is_claimed_anew_by_its_holder_too
            a_new_holder_fences_the_one_before
            what_is_given_up_is_free_at_once
            who_holds_no_lease_writes_only_what_nobody_holds
        );
    };
}

/// A test for each thing that a [`LogReader`] with a [`LogWriter`] must do; `$make` is an `async fn(PartitionCount) -> LogFixture`.
#[macro_export]
macro_rules! log_conformance {
    ($make:ident) => {
        $crate::conformance_tests!($make;
            what_is_appended_is_read_back_as_it_was
            an_expectation_is_met_or_nothing_is_stored
            repeating_an_append_answers_the_first_result
            ids_that_are_taken_are_refused
            repeats_at_the_same_time_store_once
            one_of_many_writers_wins_each_version
            a_request_that_fails_is_refused_alone
            a_request_over_the_limits_is_refused
            all_events_of_a_request_are_stored_or_none
            an_append_is_seen_by_the_reads_that_follow
            a_stream_is_read_both_ways_by_pages
            a_page_of_a_stream_is_bounded_by_its_bytes
            a_partition_is_read_by_pages
            filters_leave_out_the_rest
            a_page_has_no_holes_while_writers_append
            all_partitions_are_read_by_pages
            waiting_ends_when_the_head_moves
            a_subscription_has_no_seam
            a_subscription_starts_where_it_is_told
            a_subscription_resumes_from_any_token
            a_token_ahead_of_the_head_waits
            a_dropped_call_loses_nothing
            no_partition_starves
            a_filtered_subscription_moves_on
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($make:ident; $($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::conformance::$name($make).await;
            }
        )+
    };
}

fn count(partitions: u32) -> PartitionCount {
    PartitionCount::new(partitions).unwrap()
}

fn stream(name: &str) -> StreamId {
    StreamId::new(name).unwrap()
}

fn event(event_type: &str, data: &str) -> NewEvent {
    NewEvent::json(EventType::new(event_type).unwrap(), data.as_bytes().to_vec())
}

/// `number` events whose data counts from 0.
fn events(number: usize) -> Vec<NewEvent> {
    (0..number).map(|index| event("Counted", &index.to_string())).collect()
}

fn append(stream_id: &str, expected: Expected, events: Vec<NewEvent>) -> Append {
    Append { stream_id: stream(stream_id), expected, events }
}

fn at(version: u64) -> Expected {
    Expected::Version(Version::new(version))
}

/// A stream id that lives in `partition`.
fn stream_in(partitions: PartitionCount, partition: Partition, salt: usize) -> StreamId {
    let mut ids = (0..100_000).map(|index| stream(&format!("s{salt}-{index}")));
    ids.find(|id| partitions.partition_of(id) == partition).unwrap()
}

/// All events of a partition, page by page, which must be gapless from 1 to the head.
async fn read_partition(reader: &dyn LogReader, partition: Partition) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    let mut after = Position::ZERO;
    loop {
        let page = reader.read_partition(page(partition, after, 97)).await.unwrap();
        after = page.reached;
        all.extend(page.events);
        if page.reached >= page.head {
            break;
        }
    }
    for (index, event) in all.iter().enumerate() {
        assert_eq!(event.position.get(), index as u64 + 1, "positions of partition {partition} are gapless");
        assert_eq!(event.partition, partition);
    }
    all
}

/// All events of all partitions.
async fn read_log(reader: &dyn LogReader) -> Vec<RecordedEvent> {
    let mut all = Vec::new();
    for partition in reader.descriptor().partitions.partitions() {
        all.extend(read_partition(reader, partition).await);
    }
    assert_versions_are_gapless(&all);
    all
}

/// Within each stream id, versions must count from 1 in position order, and ids be unique.
fn assert_versions_are_gapless(events: &[RecordedEvent]) {
    let mut versions = std::collections::HashMap::new();
    let mut ids = std::collections::HashSet::new();
    for event in events {
        let version = versions.entry(event.stream_id.clone()).or_insert(Version::ZERO);
        *version = version.next();
        assert_eq!(event.version, *version, "versions of {} are gapless", event.stream_id);
        assert!(ids.insert(event.id), "{} is there once", event.id);
    }
}

fn page(partition: Partition, after: Position, limit: usize) -> ReadPartition {
    ReadPartition { partition, after, up_to: None, filter: Filter::default(), limit, max_bytes: usize::MAX }
}

/// One event of a batch, as a sequencer makes it.
fn batch_event(stream_id: &StreamId, version: u64, event: NewEvent) -> BatchEvent {
    BatchEvent {
        stream_id: stream_id.clone(),
        version: Version::new(version),
        digest: event.content_digest(stream_id),
        event,
    }
}

async fn commit(
    store: &dyn LogStore,
    partition: Partition,
    head: Head,
    events: Vec<BatchEvent>,
) -> Result<Committed, CommitError> {
    store.commit(Arc::new(Batch { partition, epoch: head.epoch, head: head.position, events })).await
}

fn with_metadata(event: NewEvent, metadata: &str) -> NewEvent {
    NewEvent { metadata: Metadata::new(Bytes::from(metadata.to_owned())).unwrap(), ..event }
}

fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

/// Asserts that `appended` says where the events of `request` are in `log`: as one block, in order.
fn assert_is_there(log: &[RecordedEvent], request: &Append, appended: &Appended) {
    let last = log
        .iter()
        .position(|event| event.partition == appended.partition && event.position == appended.position)
        .unwrap_or_else(|| panic!("{appended:?} was acknowledged and is not there"));
    let there = &log[last + 1 - request.events.len()..=last];
    assert_eq!(there[there.len() - 1].version, appended.version);
    for (event, wanted) in there.iter().zip(&request.events) {
        assert_eq!((event.id, &event.stream_id, &event.data), (wanted.id, &request.stream_id, &wanted.data));
    }
}
