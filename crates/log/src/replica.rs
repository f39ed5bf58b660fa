//! One of several processes that write a log together.
//!
//! ```text
//! every half second:  renew ─▶ who is alive, who holds what ─▶ more than my share? release
//!                                                         └──▶ less?               claim what is free
//! Sequencer ──▶ Leased (refuses what is not held here) ──▶ LeaseStore
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{Error, Partition, Position, Result, Share, StreamId, Version};
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Batch, CommitError, Committed, Head, Holdings, LeaseStore, LogDescriptor, LogReader, LogStore, Member,
    PartitionPage, ReadPartition, ReadStream, StoredEvent, StreamPage,
};

/// How long leases last, and how often is looked.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTimes {
    /// A lease that is not renewed ends after this: so long nobody writes what a process held that was killed.
    pub term: Duration,
    /// Leases are renewed, and the others looked at, this often.
    pub look: Duration,
    /// The holder counts its lease as ended so much earlier than the others do.
    pub margin: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            term: Duration::from_secs(4),
            look: Duration::from_millis(500),
            margin: Duration::from_millis(500),
        }
    }
}

/// How the partitions are divided among the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each writes about as many as any other.
    Evenly,
    /// One writes all, and the others stand by.
    OneHasAll,
}

/// How soon a look that is asked for is taken.
const SOON: Duration = Duration::from_millis(20);

/// Who writes a partition now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// This process.
    Us,
    /// Another.
    Other(Member),
    /// Nobody; somebody will soon.
    Nobody,
}

/// This process among those that write a log together. Dropped without [`leave`](Self::leave), its leases run out.
pub struct Replica {
    shared: Arc<Shared>,
    looking: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    store: Arc<dyn LeaseStore>,
    member: Member,
    sharing: Sharing,
    /// It leaves everything to the others for now.
    stands_back: AtomicBool,
    times: LeaseTimes,
    view: watch::Sender<View>,
    nudge: Notify,
    stop: CancellationToken,
}

#[derive(Debug, Clone, Default)]
struct View {
    /// By partition.
    holders: Vec<Option<Member>>,
    /// Until when those that are ours are.
    until: Option<Instant>,
    /// While all are ours without a break: cancelled when one is not any more.
    tenure: Option<CancellationToken>,
    /// Why nobody could look, if that is so.
    fault: Option<Error>,
}

impl View {
    fn end_tenure(&mut self) {
        if let Some(tenure) = self.tenure.take() {
            tenure.cancel();
        }
    }
}

impl Replica {
    /// Joins those that write the log.
    ///
    /// # Errors
    /// As the store, when it cannot be looked at.
    pub async fn join(
        store: Arc<dyn LeaseStore>,
        address: String,
        sharing: Sharing,
        times: LeaseTimes,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            store,
            member: Member { id: Uuid::new_v4(), address },
            sharing,
            stands_back: AtomicBool::new(false),
            times,
            view: watch::Sender::default(),
            nudge: Notify::new(),
            stop: CancellationToken::new(),
        });
        shared.look().await?;
        let looking = tokio::spawn(Arc::clone(&shared).keep_looking());
        Ok(Self { shared, looking: Mutex::new(Some(looking)) })
    }

    /// What a sequencer is to write: it refuses partitions that are not held here as `Unavailable`, before anything is stored.
    pub fn store(&self) -> Arc<dyn LogStore> {
        Arc::new(Leased(Arc::clone(&self.shared)))
    }

    /// Who writes `partition`.
    pub fn holder(&self, partition: Partition) -> Holder {
        self.shared.holder(partition)
    }

    /// The partitions that are held here.
    pub fn held(&self) -> usize {
        let partitions = self.shared.store.descriptor().partitions;
        partitions.partitions().filter(|partition| self.holder(*partition) == Holder::Us).count()
    }

    /// Waits until all partitions are held here, and gives what is cancelled as soon as it is known that one was not any more, even if it is
    /// again by then: others may have written in between.
    pub async fn has_all(&self) -> CancellationToken {
        let mut view = self.shared.view.subscribe();
        loop {
            if let Some(tenure) = &view.borrow_and_update().tenure {
                return tenure.clone();
            }
            // The sender is ours.
            let _ = view.changed().await;
        }
    }

    /// Leaves all partitions to the others for as long as it is told so: they can do what this process cannot.
    pub fn stand_back(&self, stands_back: bool) {
        if self.shared.stands_back.swap(stands_back, Ordering::Relaxed) != stands_back {
            self.look_soon();
        }
    }

    /// Looks anew soon: what was known has turned out to be wrong.
    pub fn look_soon(&self) {
        self.shared.nudge.notify_one();
    }

    /// Whether it gives up its partitions, or has.
    pub fn has_left(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Waits until somebody else than `holder` writes `partition`.
    pub async fn changed(&self, partition: Partition, holder: &Holder) {
        let mut view = self.shared.view.subscribe();
        loop {
            view.borrow_and_update();
            if self.holder(partition) != *holder {
                return;
            }
            // The sender is ours. A lease of ours ends by the clock alone.
            tokio::select! {
                _ = view.changed() => {}
                () = tokio::time::sleep(self.shared.times.margin), if *holder == Holder::Us => {}
            }
        }
    }

    /// Whether it is known who writes what.
    ///
    /// # Errors
    /// Why the store could not be looked at the last time.
    pub fn check(&self) -> Result<()> {
        self.shared.view.borrow().fault.clone().map_or(Ok(()), Err)
    }

    /// Waits until [`check`](Self::check) is a success, or none.
    pub async fn checked(&self, is_ok: bool) {
        // The sender is ours.
        let _ = self.shared.view.subscribe().wait_for(|view| view.fault.is_none() == is_ok).await;
    }

    fn take(&self) -> Option<JoinHandle<()>> {
        self.looking.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives up all partitions, so that others take them at once.
    ///
    /// # Errors
    /// As the store: then the leases run out by themselves.
    pub async fn leave(&self) -> Result<()> {
        self.shared.stop.cancel();
        self.shared.view.send_modify(|view| {
            view.until = None;
            view.end_tenure();
        });
        // A look that is under way may claim something: it is finished first.
        let looking = self.take();
        if let Some(looking) = looking
            && let Err(error) = looking.await
        {
            tracing::error!(%error, "the task that renews leases has panicked");
        }
        self.shared.store.leave(self.shared.member.id).await
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(looking) = self.take() {
            looking.abort();
        }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("member", &self.shared.member).finish_non_exhaustive()
    }
}

impl Shared {
    fn holder(&self, partition: Partition) -> Holder {
        let view = self.view.borrow();
        match view.holders.get(partition.index()).and_then(Option::as_ref) {
            Some(member) if member.id == self.member.id => {
                if view.until.is_some_and(|until| Instant::now() < until) {
                    Holder::Us
                } else {
                    Holder::Nobody
                }
            }
            Some(member) => Holder::Other(member.clone()),
            None => Holder::Nobody,
        }
    }

    async fn keep_looking(self: Arc<Self>) {
        let mut fails = false;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(self.times.look) => {}
                // Many may ask at once, and one look answers them all.
                () = self.nudge.notified() => tokio::time::sleep(SOON).await,
            }
            // A look that has begun is finished: what it claims must be known.
            match self.look().await {
                Ok(()) if fails => {
                    fails = false;
                    tracing::info!("who writes which partition can be looked at again");
                }
                Ok(()) => {}
                Err(error) => {
                    crate::say_failure!(!fails, %error, "who writes which partition cannot be looked at, and is tried again");
                    fails = true;
                    self.view.send_modify(|view| view.fault = Some(error));
                }
            }
        }
    }

    /// Renews what is held, and takes or gives up what is not this process's share.
    async fn look(&self) -> Result<()> {
        // Before the store can have counted from.
        let until = Instant::now() + self.times.term.saturating_sub(self.times.margin);
        let mut holdings = self.store.renew(&self.member, self.times.term).await?;
        if !self.has_all(&holdings) {
            // Before any of it is claimed again.
            self.view.send_if_modified(|view| {
                view.end_tenure();
                false
            });
        }
        let mut share = self.share(&holdings);
        if !share.too_many.is_empty() {
            for partition in &share.too_many {
                holdings.holders[partition.index()] = None;
            }
            // Nothing new is begun before it is given up.
            self.publish(&holdings, until);
            self.store.release(self.member.id, &share.too_many).await?;
        }
        while !share.wanted.is_empty() {
            let claimed = self.store.claim(&self.member, &share.wanted, self.times.term).await?;
            if claimed.is_empty() {
                break;
            }
            for partition in claimed {
                holdings.holders[partition.index()] = Some(self.member.clone());
            }
            share = self.share(&holdings);
        }
        self.publish(&holdings, until);
        Ok(())
    }

    fn share(&self, holdings: &Holdings) -> Share {
        let id = |member: &Member| member.id;
        let holders: Vec<_> = holdings.holders.iter().map(|holder| holder.as_ref().map(id)).collect();
        let members: Vec<_> = holdings.members.iter().map(id).collect();
        if self.stands_back.load(Ordering::Relaxed) {
            return Share::of(&holders, &[], self.member.id);
        }
        match self.sharing {
            Sharing::Evenly => Share::of(&holders, &members, self.member.id),
            Sharing::OneHasAll => Share::all_or_none(&holders, self.member.id),
        }
    }

    fn has_all(&self, holdings: &Holdings) -> bool {
        holdings
            .holders
            .iter()
            .all(|holder| holder.as_ref().is_some_and(|holder| holder.id == self.member.id))
    }

    fn publish(&self, holdings: &Holdings, until: Instant) {
        self.view.send_if_modified(|view| {
            // Whoever leaves says so first, and then here.
            if self.stop.is_cancelled() {
                return false;
            }
            let has_all = self.has_all(holdings);
            let begins = has_all && view.tenure.is_none();
            if begins {
                view.tenure = Some(CancellationToken::new());
            } else if !has_all {
                view.end_tenure();
            }
            let is_new = begins || view.holders != holdings.holders || view.fault.is_some();
            view.holders.clone_from(&holdings.holders);
            view.until = Some(until);
            view.fault = None;
            is_new
        });
    }
}

fn not_held(partition: Partition) -> Error {
    Error::unavailable(format!(
        "nothing was stored: partition {partition} is not written here now; try again"
    ))
}

/// The store, for what is held here.
struct Leased(Arc<Shared>);

#[async_trait]
impl LogReader for Leased {
    fn descriptor(&self) -> LogDescriptor {
        self.0.store.descriptor()
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        self.0.store.read_stream(request).await
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        self.0.store.read_partition(request).await
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        self.0.store.heads().await
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.0.store.position_before(partition, time).await
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        self.0.store.wait_beyond(partition, position).await
    }
}

#[async_trait]
impl LogStore for Leased {
    async fn acquire(&self, partition: Partition) -> Result<Head> {
        match self.0.holder(partition) {
            Holder::Us => self.0.store.acquire_as(partition, self.0.member.id).await,
            Holder::Other(_) | Holder::Nobody => Err(not_held(partition)),
        }
    }

    async fn commit(&self, batch: Arc<Batch>) -> Result<Committed, CommitError> {
        match self.0.holder(batch.partition) {
            Holder::Us => self.0.store.commit(batch).await,
            Holder::Other(_) | Holder::Nobody => Err(CommitError::Failed(not_held(batch.partition))),
        }
    }

    fn takes_batches_behind(&self) -> bool {
        self.0.store.takes_batches_behind()
    }

    async fn stream_versions(&self, partition: Partition, stream_ids: &[StreamId]) -> Result<Vec<Version>> {
        self.0.store.stream_versions(partition, stream_ids).await
    }

    async fn find(&self, ids: &[Uuid]) -> Result<Vec<StoredEvent>> {
        self.0.store.find(ids).await
    }
}
