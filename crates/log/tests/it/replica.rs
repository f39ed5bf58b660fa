//! Several that write one log together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{
    Append, Error, EventType, Expected, NewEvent, Partition, PartitionCount, Position, Result, StreamId,
    Version,
};
use headwater_log::{
    Batch, Clock, CommitError, Committed, Head, Holder, Holdings, LeaseStore, LeaseTimes, LogDescriptor,
    LogReader, LogStore, LogWriter, Member, MemoryStore, PartitionPage, ReadPartition, ReadStream, Replica,
    Sequencer, SequencerOptions, Sharing, StoredEvent, StreamPage,
};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// A log of six partitions whose time is the test's.
fn log() -> Arc<MemoryStore> {
    let (began, epoch) = (Instant::now(), Timestamp::from_second(1_800_000_000).unwrap());
    let clock = Clock::new(move || epoch + began.elapsed());
    Arc::new(MemoryStore::with_clock(PartitionCount::new(6).unwrap(), clock))
}

async fn join(log: &Arc<MemoryStore>, name: &str) -> Replica {
    join_as(log, name, Sharing::Evenly).await
}

async fn join_as(log: &Arc<MemoryStore>, name: &str, sharing: Sharing) -> Replica {
    let store = Arc::clone(log) as Arc<dyn LeaseStore>;
    Replica::join(store, format!("http://{name}:1"), sharing, LeaseTimes::default()).await.unwrap()
}

/// Waits until each holds as many as `wanted`, at most `within`.
async fn hold(replicas: &[&Replica], wanted: &[usize], within: Duration) {
    let began = Instant::now();
    loop {
        let held: Vec<usize> = replicas.iter().map(|replica| replica.held()).collect();
        if held == wanted {
            return;
        }
        assert!(began.elapsed() <= within, "{held:?}, and not {wanted:?}, after {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn in_partition(log: &MemoryStore, partition: Partition) -> Append {
    let partitions = log.descriptor().partitions;
    let mut names = (0..).map(|number| StreamId::new(format!("s-{number}")).unwrap());
    let stream_id = names.find(|stream_id| partitions.partition_of(stream_id) == partition).unwrap();
    let event = NewEvent::json(EventType::new("Written").unwrap(), "{}");
    Append { stream_id, expected: Expected::Any, events: vec![event] }
}

#[tokio::test(start_paused = true)]
async fn partitions_are_spread_and_move_when_somebody_comes_leaves_or_is_gone() {
    let log = log();
    let looks = 3 * LeaseTimes::default().look;
    let a = join(&log, "a").await;
    hold(&[&a], &[6], Duration::ZERO).await;
    let b = join(&log, "b").await;
    hold(&[&a, &b], &[3, 3], looks).await;
    let c = join(&log, "c").await;
    hold(&[&a, &b, &c], &[2, 2, 2], looks).await;
    for partition in log.descriptor().partitions.partitions() {
        let ours = [&a, &b, &c].into_iter().filter(|it| it.holder(partition) == Holder::Us).count();
        assert_eq!(ours, 1, "partition {partition}");
    }
    // Who leaves is followed within a look.
    b.leave().await.unwrap();
    assert_eq!(b.held(), 0);
    hold(&[&a, &c], &[3, 3], looks).await;
    // Who is gone without a word is followed when its leases have run out.
    drop(c);
    hold(&[&a], &[6], LeaseTimes::default().term + looks).await;
    for partition in log.descriptor().partitions.partitions() {
        assert_eq!(a.holder(partition), Holder::Us);
    }
}

/// A log as a process sees it that is stopped at times: it looks at no lease then.
struct Stopped {
    store: Arc<MemoryStore>,
    running: watch::Sender<bool>,
}

impl Stopped {
    async fn run(&self) {
        self.running.subscribe().wait_for(|running| *running).await.unwrap();
    }
}

#[async_trait]
impl LogReader for Stopped {
    fn descriptor(&self) -> LogDescriptor {
        self.store.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.store.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.store.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.store.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.store.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.store.wait_beyond(partition, position).await
    }
}

#[async_trait]
impl LogStore for Stopped {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        self.store.acquire(partition).await
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        self.store.commit(batch).await
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.store.stream_versions(partition, stream_ids).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        self.store.find(ids).await
    }
}

#[async_trait]
impl LeaseStore for Stopped {
    async fn renew(&self, member: &Member, term: Duration) -> Result<Holdings> {
        self.run().await;
        self.store.renew(member, term).await
    }

    async fn claim(
        &self,
        member: &Member,
        partitions: &[Partition],
        term: Duration,
    ) -> Result<Vec<Partition>> {
        self.store.claim(member, partitions, term).await
    }

    async fn release(&self, member: Uuid, partitions: &[Partition]) -> Result<()> {
        self.store.release(member, partitions).await
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        self.store.leave(member).await
    }

    async fn acquire_as(&self, partition: Partition, member: Uuid) -> Result<Head> {
        self.store.acquire_as(partition, member).await
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_wakes_after_its_leases_writes_nothing() {
    let log = log();
    let stopped = Stopped { store: Arc::clone(&log), running: watch::channel(true).0 };
    let stopped = Arc::new(stopped);
    let store = Arc::clone(&stopped) as Arc<dyn LeaseStore>;
    let a = Replica::join(store, "http://a:1".into(), Sharing::Evenly, LeaseTimes::default()).await.unwrap();
    let sequencer = Sequencer::start(a.store(), SequencerOptions::default());
    let first = in_partition(&log, Partition::ZERO);
    sequencer.append(first.clone()).await.unwrap();
    // As a process that is stopped: it renews nothing, and its clock goes on.
    stopped.running.send_replace(false);
    tokio::time::advance(LeaseTimes::default().term).await;
    let b = join(&log, "b").await;
    hold(&[&b], &[6], Duration::ZERO).await;
    let before = log.heads().await.unwrap();
    let refused = sequencer.append(in_partition(&log, Partition::ZERO)).await.unwrap_err();
    assert!(
        matches!(&refused, Error::Unavailable { message, .. } if message.contains("nothing was stored")),
        "{refused}"
    );
    assert_eq!(log.heads().await.unwrap(), before, "its epochs are those of b, too");
    // The new holder answers a repeat as the first time.
    let others = Sequencer::start(b.store(), SequencerOptions::default());
    assert_eq!(others.append(first).await.unwrap().version.get(), 1);
    // Awake, it takes its part again.
    stopped.running.send_replace(true);
    hold(&[&a, &b], &[3, 3], 3 * LeaseTimes::default().look).await;
    for partition in [Partition::ZERO, Partition::new(5)] {
        let mine = if a.holder(partition) == Holder::Us { &sequencer } else { &others };
        mine.append(in_partition(&log, partition)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_has_all_partitions_and_the_next_takes_all_of_them() {
    let log = log();
    let looks = 3 * LeaseTimes::default().look;
    let a = join_as(&log, "a", Sharing::OneHasAll).await;
    let first = a.has_all().await;
    let b = join_as(&log, "b", Sharing::OneHasAll).await;
    let c = join_as(&log, "c", Sharing::OneHasAll).await;
    tokio::time::sleep(4 * LeaseTimes::default().term).await;
    hold(&[&a, &b, &c], &[6, 0, 0], Duration::ZERO).await;
    assert!(!first.is_cancelled(), "it was never another's");
    let begun = Instant::now();
    let next = tokio::spawn(async move {
        let tenure = tokio::select! {
            tenure = b.has_all() => tenure,
            tenure = c.has_all() => tenure,
        };
        let all = [&b, &c].map(Replica::held);
        (tenure, all)
    });
    a.leave().await.unwrap();
    assert!(first.is_cancelled());
    let (tenure, held) = next.await.unwrap();
    assert!(held == [6, 0] || held == [0, 6], "{held:?}");
    assert!(begun.elapsed() <= looks && !tenure.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn one_that_stands_back_leaves_all_to_the_next_and_takes_it_when_nobody_else_does() {
    let log = log();
    let looks = 3 * LeaseTimes::default().look;
    let a = join_as(&log, "a", Sharing::OneHasAll).await;
    let b = join_as(&log, "b", Sharing::OneHasAll).await;
    let tenure = a.has_all().await;
    a.stand_back(true);
    hold(&[&a, &b], &[0, 6], looks).await;
    assert!(tenure.is_cancelled());
    b.stand_back(true);
    hold(&[&a, &b], &[0, 0], looks).await;
    a.stand_back(false);
    hold(&[&a, &b], &[6, 0], looks).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_had_all_and_slept_is_told_even_when_it_has_all_again() {
    let log = log();
    let stopped = Stopped { store: Arc::clone(&log), running: watch::channel(true).0 };
    let stopped = Arc::new(stopped);
    let store = Arc::clone(&stopped) as Arc<dyn LeaseStore>;
    let a =
        Replica::join(store, "http://a:1".into(), Sharing::OneHasAll, LeaseTimes::default()).await.unwrap();
    let first = a.has_all().await;
    stopped.running.send_replace(false);
    tokio::time::advance(LeaseTimes::default().term).await;
    // Nobody else came.
    stopped.running.send_replace(true);
    tokio::time::timeout(2 * LeaseTimes::default().term, first.cancelled()).await.unwrap();
    let second = a.has_all().await;
    assert!(!second.is_cancelled());
    assert_eq!(a.held(), 6);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_change_is_told() {
    let log = log();
    let a = join(&log, "a").await;
    let b = join(&log, "b").await;
    hold(&[&a, &b], &[3, 3], 3 * LeaseTimes::default().look).await;
    let partitions = log.descriptor().partitions;
    let of_a = partitions.partitions().find(|partition| a.holder(*partition) == Holder::Us).unwrap();
    let known = b.holder(of_a);
    assert!(matches!(&known, Holder::Other(member) if member.address == "http://a:1"), "{known:?}");
    let waiting = tokio::spawn(async move {
        b.changed(of_a, &known).await;
        b
    });
    a.leave().await.unwrap();
    let b = waiting.await.unwrap();
    b.changed(of_a, &Holder::Nobody).await;
    assert_eq!(b.holder(of_a), Holder::Us);
    b.check().unwrap();
}
