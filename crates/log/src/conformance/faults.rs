//! A store that fails, and what must hold nevertheless.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::{Clock, LogDescriptor, PartitionPage, ReadStream, SequencerStats, StoredEvent, StreamPage};
use async_trait::async_trait;
use headwater_core::Error;
use jiff::Timestamp;
use tokio::sync::{Semaphore, watch};

/// Wraps a store and lets about every third call fail, in every way that a store may: before the commit, after it, unknown, fenced by
/// another writer, or as a duplicate that is none.
pub struct FaultyStore {
    inner: Arc<dyn LogStore>,
    dice: Dice,
    /// Faults in a hundred calls.
    percent: u64,
    /// Whether a batch may be sent behind another.
    behind: bool,
    /// Commits wait for a turn here.
    turns: Semaphore,
    /// How many do.
    waiting: watch::Sender<usize>,
    /// How the next commits fail, if they do; after them, chance decides.
    script: Mutex<VecDeque<Option<Fault>>>,
    /// The next look-up of ids fails.
    blind: AtomicBool,
    /// On its way.
    kept: Mutex<Option<Arc<Batch>>>,
}

/// A way for a commit to fail.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing is stored, and the store says so.
    Failed,
    /// Nothing is stored, because the disk is full.
    Full,
    /// An id is said to be taken that is not, and looking it up fails.
    Blind,
    /// The store panics.
    Panic,
    /// Nothing is stored, and nobody knows.
    Lost,
    /// All is stored, and nobody knows.
    Unanswered,
    /// Nothing is stored yet, and nobody knows; it arrives later, or never.
    Late,
    /// Nothing is stored yet, and nobody knows; it arrives when the test says.
    Kept,
    /// Another writer comes first.
    Fenced,
    /// An id is said to be taken that is not.
    Duplicate,
}

impl FaultyStore {
    pub fn new(inner: Arc<dyn LogStore>, seed: u64, percent: u64) -> Self {
        let turns = Semaphore::new(Semaphore::MAX_PERMITS);
        Self {
            inner,
            dice: Dice::new(seed),
            percent,
            behind: true,
            turns,
            waiting: watch::Sender::new(0),
            script: Mutex::default(),
            blind: AtomicBool::new(false),
            kept: Mutex::default(),
        }
    }

    /// One without faults that lets no commit begin until [`release`](Self::release), and takes one batch at a time.
    pub fn held(inner: Arc<dyn LogStore>) -> Self {
        Self { turns: Semaphore::new(0), behind: false, ..Self::new(inner, 0, 0) }
    }

    /// As [`scripted`](Self::scripted), where a batch may be sent behind the first.
    pub fn scripted_behind(
        inner: Arc<dyn LogStore>,
        script: impl IntoIterator<Item = Option<Fault>>,
    ) -> Self {
        Self { behind: true, ..Self::scripted(inner, script) }
    }

    /// Held, and without faults but for those of the first commits, where the script has one.
    pub fn scripted(inner: Arc<dyn LogStore>, script: impl IntoIterator<Item = Option<Fault>>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()), ..Self::held(inner) }
    }

    fn fault(&self) -> Option<Fault> {
        let scripted = self.script.lock().unwrap().pop_front();
        scripted
            .unwrap_or_else(|| self.fails().then(|| FAULTS[self.dice.throw(FAULTS.len() as u64) as usize]))
    }

    /// Waits until `number` commits are held.
    pub async fn held_commits(&self, number: usize) {
        let mut waiting = self.waiting.subscribe();
        waiting.wait_for(|waiting| *waiting >= number).await.expect("the sender is borrowed");
    }

    /// Lets all commits begin from now on.
    pub fn release(&self) {
        self.turns.add_permits(Semaphore::MAX_PERMITS);
    }

    /// Has the batch that was kept arrive.
    pub async fn arrives(&self) -> Result<Committed, CommitError> {
        let kept = self.kept.lock().unwrap().take().expect("a batch is kept");
        self.inner.commit(kept).await
    }

    fn fails(&self) -> bool {
        self.dice.throw(100) < self.percent
    }

    fn gone() -> Error {
        Error::unavailable("the store is gone, by injection")
    }

    fn full() -> Error {
        Error::exhausted("the disk is full, by injection")
    }

    /// Every kind of error that a store may give.
    fn trouble(&self) -> Error {
        match self.dice.throw(4) {
            0 => Self::full(),
            1 => Error::corrupt("the store is damaged, by injection"),
            _ => Self::gone(),
        }
    }
}

/// A small pseudo-random sequence that many tasks draw from (SplitMix64).
pub struct Dice(AtomicU64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// A number below `sides`.
    pub fn throw(&self, sides: u64) -> u64 {
        let mut z =
            self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// Those that chance draws from.
const FAULTS: [Fault; 7] = [
    Fault::Failed,
    Fault::Full,
    Fault::Lost,
    Fault::Unanswered,
    Fault::Late,
    Fault::Fenced,
    Fault::Duplicate,
];

#[async_trait]
impl LogReader for FaultyStore {
    fn descriptor(&self) -> LogDescriptor {
        self.inner.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.inner.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        // As over a network: nothing is there at once.
        tokio::task::yield_now().await;
        self.inner.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.inner.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.inner.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.inner.wait_beyond(partition, position).await
    }
}

#[async_trait]
impl LogStore for FaultyStore {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        if self.fails() { Err(self.trouble()) } else { self.inner.acquire(partition).await }
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        // In the order in which they are sent, whoever has a turn first.
        let fault = self.fault();
        self.waiting.send_modify(|waiting| *waiting += 1);
        let _turn = self.turns.acquire().await.expect("it is never closed");
        self.waiting.send_modify(|waiting| *waiting -= 1);
        // A batch that is sent behind another may come there before it.
        if self.behind && self.percent > 0 {
            for _ in 0..self.dice.throw(8) {
                tokio::task::yield_now().await;
            }
        }
        let Some(fault) = fault else {
            return self.inner.commit(batch).await;
        };
        match fault {
            Fault::Failed => Err(CommitError::Failed(Self::gone())),
            Fault::Full => Err(CommitError::Failed(Self::full())),
            Fault::Panic => panic!("the store panics, by injection"),
            Fault::Lost => Err(CommitError::Unknown(Self::gone())),
            Fault::Unanswered => match self.inner.commit(batch).await {
                Ok(_) => Err(CommitError::Unknown(Self::gone())),
                refused => refused,
            },
            Fault::Late => {
                let (inner, late) = (Arc::clone(&self.inner), self.dice.throw(20));
                tokio::spawn(async move {
                    for _ in 0..late {
                        tokio::task::yield_now().await;
                    }
                    let _ = inner.commit(batch).await;
                });
                Err(CommitError::Unknown(Self::gone()))
            }
            Fault::Kept => {
                *self.kept.lock().unwrap() = Some(batch);
                Err(CommitError::Unknown(Self::gone()))
            }
            Fault::Fenced => {
                self.inner.acquire(batch.partition).await.map_err(CommitError::Failed)?;
                Err(CommitError::Fenced)
            }
            Fault::Duplicate => Err(CommitError::Duplicate),
            Fault::Blind => {
                self.blind.store(true, Ordering::Relaxed);
                Err(CommitError::Duplicate)
            }
        }
    }

    fn takes_batches_behind(&self) -> bool {
        self.behind
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        if self.fails() {
            Err(self.trouble())
        } else {
            self.inner.stream_versions(partition, stream_ids).await
        }
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        if self.blind.swap(false, Ordering::Relaxed) {
            return Err(Self::full());
        }
        if self.fails() { Err(self.trouble()) } else { self.inner.find(ids).await }
    }
}

/// Clients that repeat while they are told that their events may have been stored, over stores that fail more and more often.
pub async fn faults_lose_and_double_nothing(make: impl AsyncFn(PartitionCount, Clock) -> Fixture) {
    let mut met = SequencerStats::default();
    for (seed, percent) in [(1, 5), (2, 30), (3, 30), (4, 30), (5, 60), (6, 60)] {
        let fixture = make(count(2), Clock::system()).await;
        let store = Arc::new(FaultyStore::new(Arc::clone(&fixture.store), seed, percent));
        let options = SequencerOptions {
            pause: std::time::Duration::from_micros(10),
            repeats: 3,
            long_commit: std::time::Duration::ZERO,
            cached_ids: 16,
            ..SequencerOptions::default()
        };
        let sequencer = Sequencer::start(store, options);
        let mut clients = Vec::new();
        for number in 0..12 {
            let sequencer = sequencer.clone();
            clients.push(tokio::spawn(client(sequencer, seed, number)));
        }
        let mut answers = Vec::new();
        for client in clients {
            answers.extend(client.await.unwrap());
        }
        sequencer.shutdown().await;
        let read = read_log(&*fixture.store).await;
        let mut acknowledged = 0;
        for (request, answer) in &answers {
            match answer {
                Ok(appended) => {
                    acknowledged += request.events.len();
                    assert_is_there(&read, request, appended);
                }
                // Each of these says that nothing was stored.
                Err(error) => {
                    assert!(
                        matches!(
                            error,
                            Error::WrongVersion { .. } | Error::Exhausted { .. } | Error::Corrupt { .. }
                        ),
                        "seed {seed}: {error:?}"
                    );
                    let there =
                        request.events.iter().filter(|event| read.iter().any(|read| read.id == event.id));
                    assert_eq!(there.count(), 0, "seed {seed}: a refused request is not stored");
                }
            }
        }
        assert_eq!(read.len(), acknowledged, "seed {seed}: what is stored was acknowledged in the end");
        let stats = sequencer.stats();
        met.unknown += stats.unknown;
        met.fenced += stats.fenced;
        met.duplicates += stats.duplicates;
        met.ahead += stats.ahead;
        met.overtook += stats.overtook;
    }
    assert!(met.unknown > 0 && met.fenced > 0 && met.duplicates > 0, "{met:?}");
    assert!(met.ahead > 0 && met.overtook > 0, "{met:?}");
}

async fn client(sequencer: Sequencer, seed: u64, number: u64) -> Vec<(Append, Result<Appended>)> {
    let dice = Dice::new(seed * 1_000 + number);
    let mut answers = Vec::new();
    for _ in 0..25 {
        let expected = match dice.throw(4) {
            0 => at(dice.throw(30)),
            1 => Expected::Exists,
            _ => Expected::Any,
        };
        let id = format!("s{}", dice.throw(4));
        let request = append(&id, expected, events(1 + dice.throw(3) as usize));
        let mut answer = sequencer.append(request.clone()).await;
        if matches!(answer, Err(Error::Unavailable { .. })) {
            // It may have been stored: from here on, only these say what became of it.
            while !matches!(answer, Ok(_) | Err(Error::WrongVersion { .. })) {
                answer = sequencer.append(request.clone()).await;
            }
        }
        answers.push((request, answer));
    }
    answers
}
