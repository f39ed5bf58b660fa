use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{
    ContentDigest, Error, LogId, Partition, PartitionCount, Position, RecordedEvent, Result, StreamId,
    Version,
};
use jiff::Timestamp;
use uuid::Uuid;

use crate::page::size;
use crate::{
    Batch, Clock, CommitError, Committed, Direction, Epoch, Head, Heads, Holdings, LeaseStore, LogDescriptor,
    LogReader, LogStore, Member, PartitionPage, ReadPartition, ReadStream, StoredEvent, StreamPage,
};

/// A log in memory: for tests, and the plainest reading of the contract. Nothing survives the process.
#[derive(Debug)]
pub struct MemoryStore {
    descriptor: LogDescriptor,
    clock: Clock,
    heads: Heads,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By partition, in position order: position `n` is at index `n - 1`.
    events: Vec<Vec<Stored>>,
    /// Indexes into the partition's events, in version order.
    streams: HashMap<StreamId, Vec<usize>>,
    ids: HashMap<Uuid, (Partition, usize)>,
    members: BTreeMap<Uuid, Leased>,
    /// By partition.
    leases: Vec<Option<Leased>>,
}

/// A member, and until when it is alive, or holds a partition.
#[derive(Debug, Clone)]
struct Leased {
    member: Member,
    until: Timestamp,
}

#[derive(Debug)]
struct Stored {
    event: RecordedEvent,
    digest: ContentDigest,
}

impl MemoryStore {
    /// An empty log that tells the time by the system's clock.
    pub fn new(partitions: PartitionCount) -> Self {
        Self::with_clock(partitions, Clock::system())
    }

    /// An empty log that tells the time by `clock`.
    pub fn with_clock(partitions: PartitionCount, clock: Clock) -> Self {
        let empty = Head { position: Position::ZERO, epoch: Epoch(0), last_recorded_at: None };
        let mut state = State::default();
        state.events.resize_with(partitions.get(), Vec::new);
        state.leases.resize_with(partitions.get(), || None);
        Self {
            descriptor: LogDescriptor { log_id: LogId::generate(), partitions },
            clock,
            heads: Heads::new(partitions.partitions().map(|_| empty)),
            state: RwLock::new(state),
        }
    }

    // A panic while the lock is held cannot leave half a batch: everything is checked before anything is changed.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the state locked for writing.
    fn raise(&self, partition: Partition) -> Head {
        let mut head = self.heads.get(partition);
        head.epoch = Epoch(head.epoch.0 + 1);
        self.heads.publish(partition, head);
        head
    }

    fn until(&self, term: Duration) -> Timestamp {
        self.clock.now().checked_add(term).unwrap_or(Timestamp::MAX)
    }

    fn check(&self, partition: Partition) -> Result<()> {
        self.descriptor.partitions.check(u32::from(partition.get())).map(|_| ())
    }
}

impl State {
    fn holder(&self, partition: Partition, now: Timestamp) -> Option<&Member> {
        let lease = self.leases[partition.index()].as_ref()?;
        (lease.until > now).then_some(&lease.member)
    }

    fn version(&self, stream_id: &StreamId) -> Version {
        Version::new(self.streams.get(stream_id).map_or(0, Vec::len) as u64)
    }

    fn takes(&self, batch: &Batch) -> bool {
        let mut ids = std::collections::HashSet::new();
        let mut versions = HashMap::new();
        batch.events.iter().all(|event| {
            let next =
                versions.entry(&event.stream_id).or_insert_with(|| self.version(&event.stream_id).next());
            let fits = event.version == *next;
            *next = next.next();
            fits && ids.insert(event.event.id) && !self.ids.contains_key(&event.event.id)
        })
    }
}

#[async_trait]
impl LogReader for MemoryStore {
    fn descriptor(&self) -> LogDescriptor {
        self.descriptor
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        let state = self.read();
        let partition = self.descriptor.partitions.partition_of(&request.stream_id);
        let indexes = state.streams.get(&request.stream_id).map_or(&[][..], Vec::as_slice);
        let last = indexes.len() as u64;
        let event = |index: &usize| state.events[partition.index()][*index].event.clone();
        let mut bytes = 0;
        let fits = |event: &RecordedEvent| {
            let fits = bytes == 0 || bytes < request.max_bytes;
            bytes += size(event);
            fits
        };
        let events = match request.direction {
            Direction::Forwards => {
                let from = request.from.map_or(1, Version::get).max(1) - 1;
                let indexes = indexes.iter().skip(from.min(last) as usize);
                indexes.take(request.limit).map(event).take_while(fits).collect()
            }
            Direction::Backwards => {
                let from = request.from.map_or(last, Version::get).min(last);
                let indexes = indexes[..from as usize].iter().rev();
                indexes.take(request.limit).map(event).take_while(fits).collect()
            }
        };
        Ok(StreamPage { events, version: Version::new(last) })
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.check(request.partition)?;
        // Nothing here waits: whoever asks again and again still lets others run.
        tokio::task::consume_budget().await;
        let state = self.read();
        let stored = &state.events[request.partition.index()];
        let head = Position::new(stored.len() as u64);
        let end = request.up_to.map_or(head, |up_to| up_to.min(head));
        let mut page = PartitionPage { events: Vec::new(), reached: request.after, head };
        let mut bytes = 0;
        for position in request.after.get()..end.get() {
            if page.events.len() >= request.limit || (bytes >= request.max_bytes && !page.events.is_empty()) {
                break;
            }
            let event = &stored[position as usize].event;
            page.reached = event.position;
            if request.filter.matches(event.event_type.as_str(), event.stream_id.as_str()) {
                bytes += size(event);
                page.events.push(event.clone());
            }
        }
        Ok(page)
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        tokio::task::consume_budget().await;
        Ok(self.heads.all())
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.check(partition)?;
        let state = self.read();
        let events = &state.events[partition.index()];
        Ok(Position::new(events.partition_point(|stored| stored.event.recorded_at < time) as u64))
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.check(partition)?;
        Ok(self.heads.wait_beyond(partition, position).await)
    }
}

#[async_trait]
impl LogStore for MemoryStore {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        self.check(partition)?;
        let state = self.write();
        match state.holder(partition, self.clock.now()) {
            None => Ok(self.raise(partition)),
            Some(member) => Err(held(partition, member)),
        }
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        self.check(batch.partition).map_err(CommitError::Failed)?;
        let mut state = self.write();
        let before = self.heads.get(batch.partition);
        if before.epoch != batch.epoch || before.position != batch.head {
            return Err(CommitError::Fenced);
        }
        if !state.takes(&batch) {
            return Err(CommitError::Duplicate);
        }
        let now = self.clock.now();
        let recorded_at = before.last_recorded_at.map_or(now, |last| last.max(now));
        let position = batch.head.plus(batch.events.len() as u64);
        for (event, new) in batch.recorded(recorded_at).zip(&batch.events) {
            let index = state.events[batch.partition.index()].len();
            state.ids.insert(event.id, (batch.partition, index));
            state.streams.entry(event.stream_id.clone()).or_default().push(index);
            state.events[batch.partition.index()].push(Stored { event, digest: new.digest });
        }
        self.heads.publish(
            batch.partition,
            Head { position, epoch: batch.epoch, last_recorded_at: Some(recorded_at) },
        );
        Ok(Committed { head: position, recorded_at })
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.check(partition)?;
        let state = self.read();
        Ok(stream_ids.iter().map(|stream_id| state.version(stream_id)).collect())
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        let state = self.read();
        let places = ids.iter().filter_map(|id| state.ids.get(id));
        Ok(places.map(|(partition, index)| state.events[partition.index()][*index].place()).collect())
    }
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn renew(&self, member: &Member, term: Duration) -> Result<Holdings> {
        let (now, until) = (self.clock.now(), self.until(term));
        let mut state = self.write();
        let mine = Leased { member: member.clone(), until };
        state.members.insert(member.id, mine.clone());
        for lease in state.leases.iter_mut().flatten() {
            if lease.member.id == member.id && lease.until > now {
                *lease = mine.clone();
            }
        }
        let alive = state.members.values().filter(|it| it.until > now).map(|it| it.member.clone());
        let partitions = self.descriptor.partitions.partitions();
        let holders = partitions.map(|partition| state.holder(partition, now).cloned());
        Ok(Holdings { members: alive.collect(), holders: holders.collect() })
    }

    async fn claim(
        &self,
        member: &Member,
        partitions: &[Partition],
        term: Duration,
    ) -> Result<Vec<Partition>> {
        let (now, until) = (self.clock.now(), self.until(term));
        let mut state = self.write();
        let mut got = Vec::new();
        for partition in partitions {
            self.check(*partition)?;
            if state.holder(*partition, now).is_none() {
                state.leases[partition.index()] = Some(Leased { member: member.clone(), until });
                self.raise(*partition);
                got.push(*partition);
            }
        }
        Ok(got)
    }

    async fn release(&self, member: Uuid, partitions: &[Partition]) -> Result<()> {
        let mut state = self.write();
        for partition in partitions {
            self.check(*partition)?;
            let lease = &mut state.leases[partition.index()];
            if lease.as_ref().is_some_and(|lease| lease.member.id == member) {
                *lease = None;
            }
        }
        Ok(())
    }

    async fn leave(&self, member: Uuid) -> Result<()> {
        let mut state = self.write();
        state.members.remove(&member);
        for lease in &mut state.leases {
            if lease.as_ref().is_some_and(|lease| lease.member.id == member) {
                *lease = None;
            }
        }
        Ok(())
    }

    async fn acquire_as(&self, partition: Partition, member: Uuid) -> Result<Head> {
        self.check(partition)?;
        let state = self.write();
        match state.holder(partition, self.clock.now()) {
            Some(holder) if holder.id == member => Ok(self.raise(partition)),
            Some(holder) => Err(held(partition, holder)),
            None => Err(Error::unavailable(format!("the lease of partition {partition} has ended"))),
        }
    }
}

fn held(partition: Partition, member: &Member) -> Error {
    Error::unavailable(format!("partition {partition} is written by the event store at {}", member.address))
}

impl Stored {
    fn place(&self) -> StoredEvent {
        StoredEvent {
            id: self.event.id,
            digest: self.digest,
            stream_id: self.event.stream_id.clone(),
            version: self.event.version,
            partition: self.event.partition,
            position: self.event.position,
        }
    }
}
