use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use headwater_core::{Error, Partition, Position, Positions, Result, StreamId, Token};
use headwater_log::{Backoff, LeaseTimes, LogDescriptor, LogReader};
use headwater_resources::projection::{ErrorPolicy, QueryState};
use headwater_view::{Batch, Durability, ParkedStream, Revision, RevisionRecord, Rollout, Skip, ViewStore};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::answers::Answers;
use crate::definition::Definition;
use crate::desired::Desired;
use crate::leases::Leases;
use crate::manager::{Command, Manager, Parts, Request};
use crate::parking::{Released, SkipWhat, release};
use crate::plan::{Plan, faults_error};
use crate::status::ProjectionStatus;
use crate::worker::{Folded, RowChange, Shared, Tally};

/// Requests that wait for the manager; whoever sends more waits.
const REQUESTS: usize = 16;

/// Row changes that a slow listener may be behind before it loses the oldest.
const CHANGES: usize = 1024;

/// How soon, and how often at last, whoever waits looks whether another process's workers have moved: what is just written is there soon, and what
/// is far away costs little.
pub(crate) const OTHERS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// One projection, kept as its spec wants it. A cheap handle: clones are the same projection.
#[derive(Clone)]
pub struct ProjectionService(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    store: Arc<dyn ViewStore>,
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Arc<ProjectionStatus>>,
    query: watch::Receiver<QueryState>,
    answers: Answers,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl ProjectionService {
    /// Starts keeping the projection `name` in `store`, from the events of `reader`, beside other processes or not: `worker` is what people call
    /// this one. It folds nothing until it is [reconciled](Self::reconcile) with what it is to be.
    ///
    /// # Errors
    /// `Unavailable` or `Corrupt` when the store cannot be read; `FailedPrecondition` when it was built from another log.
    pub async fn start(
        name: impl Into<String>,
        worker: impl Into<String>,
        reader: Arc<dyn LogReader>,
        store: Arc<dyn ViewStore>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let name = name.into();
        let LogDescriptor { log_id, partitions } = reader.descriptor();
        let rollout = store.rollout().await?;
        if let Some((known, count)) = rollout.log
            && (known, count) != (log_id, partitions)
        {
            return Err(Error::failed_precondition(format!(
                "starting projection \"{name}\": its read model was built from log {known} of {} partitions, and the event stream is log {log_id} \
                 of {} partitions; point it at that log, or give it an empty place for its read model",
                count.get(),
                partitions.get()
            )));
        }
        let (policy, policy_receiver) = watch::channel(ErrorPolicy::default());
        let (query, query_receiver) = watch::channel(QueryState::default());
        let (status, status_receiver) =
            watch::channel(Arc::new(ProjectionStatus { name: name.clone(), ..ProjectionStatus::default() }));
        let (requests, request_receiver) = mpsc::channel(REQUESTS);
        let sink = Arc::clone(&store) as Arc<dyn headwater_view::SinkLeases>;
        let leases = Leases::join(&name, sink, partitions, worker.into(), LeaseTimes::default());
        let shared = Arc::new(Shared {
            name,
            reader,
            sink: Arc::clone(&store) as Arc<dyn headwater_view::ViewSink>,
            policy: policy_receiver,
            active: AtomicU32::new(0),
            era: AtomicU64::new(0),
            changes: broadcast::channel(CHANGES).0,
            moved: watch::channel(0).0,
            folded: Folded::default(),
            decided: Notify::new(),
            leases,
            tally: Tally::default(),
        });
        let stop = stop.child_token();
        let manager = Manager::new(Parts {
            shared: Arc::clone(&shared),
            store: Arc::clone(&store),
            requests: request_receiver,
            status,
            policy,
            query,
            stop: stop.clone(),
        });
        let answers = Answers::follow(shared.name.clone(), Arc::clone(&store));
        let task = tokio::spawn(manager.run());
        Ok(Self(Arc::new(Inner {
            shared,
            store,
            requests,
            status: status_receiver,
            query: query_receiver,
            answers,
            stop,
            task: Mutex::new(Some(task)),
        })))
    }

    /// The projection's name.
    pub fn name(&self) -> &str {
        &self.0.shared.name
    }

    /// The log that it reads.
    pub fn reader(&self) -> &Arc<dyn LogReader> {
        &self.0.shared.reader
    }

    /// Where its rows are.
    pub fn store(&self) -> &Arc<dyn ViewStore> {
        &self.0.store
    }

    /// Makes the projection what `desired` says: answers once that is accepted, and rolls it out from then on.
    ///
    /// # Errors
    /// `Invalid` with all faults when it cannot be compiled; what runs goes on.
    pub async fn reconcile(&self, desired: Desired) -> Result<()> {
        self.ask(Command::Reconcile(Box::new(desired))).await
    }

    /// Promotes the candidate, or what was rolled back from.
    ///
    /// # Errors
    /// `FailedPrecondition` when there is none, or it has not caught up.
    pub async fn promote(&self) -> Result<()> {
        self.ask(Command::Promote).await
    }

    /// Makes the previous revision the active one again, and holds the digest of the one that was.
    ///
    /// # Errors
    /// `FailedPrecondition` when there is none.
    pub async fn rollback(&self) -> Result<()> {
        self.ask(Command::Rollback).await
    }

    /// Builds what the spec says once more, beside what is there.
    ///
    /// # Errors
    /// `FailedPrecondition` before the first reconcile; what the store says.
    pub async fn rebuild(&self) -> Result<()> {
        self.ask(Command::Rebuild).await
    }

    /// Stops folding; queries go on. Until [`resume`](Self::resume), a changed `state`, or the end of the process.
    ///
    /// # Errors
    /// `Cancelled` when the projection is stopping.
    pub async fn pause(&self) -> Result<()> {
        self.ask(Command::Pause(true)).await
    }

    /// Folds again, and has halted partitions try again.
    ///
    /// # Errors
    /// `Cancelled` when the projection is stopping.
    pub async fn resume(&self) -> Result<()> {
        self.ask(Command::Pause(false)).await
    }

    async fn ask(&self, command: Command) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.0.requests.send((command, answer)).await.map_err(|_| Error::Cancelled)?;
        answered.await.map_err(|_| Error::Cancelled)?
    }

    /// The projection as it was a moment ago.
    pub fn status(&self) -> Arc<ProjectionStatus> {
        self.0.status.borrow().clone()
    }

    /// The projection as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<ProjectionStatus>> {
        self.0.status.clone()
    }

    /// The active revision's rows as they change; a listener that is too slow loses the oldest.
    pub fn changes(&self) -> broadcast::Receiver<RowChange> {
        self.0.shared.changes.subscribe()
    }

    /// Why the read model's store does not answer, for as long as it has not for seconds.
    pub fn silence(&self) -> watch::Receiver<Option<String>> {
        self.0.answers.silence()
    }

    /// Whether queries are answered.
    pub fn is_queryable(&self) -> bool {
        *self.0.query.borrow() == QueryState::Enabled
    }

    /// To wait for workers' moves.
    pub(crate) fn moves(&self) -> Moves {
        Moves {
            moved: self.0.shared.moved.subscribe(),
            others: Backoff::new(OTHERS.0, OTHERS.1),
            stop: self.0.stop.clone(),
        }
    }

    /// The partitions that are folded here now; how many have come and gone; events folded whose batch was applied, and whose was not.
    pub(crate) fn counts(&self) -> Counts {
        let (held, moves) = self.0.shared.leases.count();
        let tally = &self.0.shared.tally;
        Counts {
            held,
            moves,
            kept: tally.kept.load(Ordering::Relaxed),
            lost: tally.lost.load(Ordering::Relaxed),
        }
    }

    /// Whether workers of this process fold `revision` and are not where `minimum` is yet.
    pub(crate) fn is_behind(&self, revision: Revision, minimum: &Positions) -> bool {
        self.0.shared.folded.is_behind(revision, minimum)
    }

    /// How often the store was emptied, or set back, under it: what was read of revisions before is of others now.
    pub(crate) fn era(&self) -> u64 {
        self.0.shared.era.load(Ordering::Acquire)
    }

    /// What happens when a rule fails.
    pub(crate) fn policy(&self) -> ErrorPolicy {
        *self.0.shared.policy.borrow()
    }

    /// Waits until the active revision covers `token`. Has no time limit of its own.
    ///
    /// # Errors
    /// `Invalid` for a token of another log; what the store says.
    pub async fn wait_for(&self, token: &Token) -> Result<()> {
        let LogDescriptor { log_id, partitions } = self.reader().descriptor();
        let minimum = token.positions_in(log_id, partitions)?.clone();
        let mut moves = self.moves();
        loop {
            moves.seen();
            if let Some(active) = self.0.store.rollout().await?.active {
                let progress = self.0.store.progress(active).await?;
                let reached = progress
                    .iter()
                    .map(|progress| (progress.partition, progress.position))
                    .collect::<headwater_core::Positions>();
                if reached.cover(&minimum) {
                    return Ok(());
                }
            }
            moves.next().await?;
        }
    }

    /// The compiled definition of a revision.
    pub(crate) fn plan(&self, record: &RevisionRecord) -> Result<Plan> {
        let partitions = self.reader().descriptor().partitions;
        Plan::compile(&Definition::decode(&record.definition)?, partitions)
            .map_err(|faults| faults_error(&faults))
    }

    /// Parked stream ids after `after`, in order, each with its first `events` events: of `revision`, or else the active one, or else
    /// the candidate.
    ///
    /// # Errors
    /// `NotFound` when there is no such revision.
    pub async fn parked(
        &self,
        revision: Option<Revision>,
        after: Option<&StreamId>,
        limit: usize,
        events: usize,
    ) -> Result<(Revision, Vec<ParkedStream>)> {
        let rollout = self.0.store.rollout().await?;
        let revision = revision
            .or(rollout.active)
            .or(rollout.candidate)
            .ok_or_else(|| Error::not_found(format!("projection \"{}\" has no revision yet", self.name())))?;
        Ok((revision, self.0.store.parked(revision, after, limit, events).await?))
    }

    /// Folds the parked events of `stream_id` again, in every revision that has some.
    ///
    /// # Errors
    /// `NotFound` when nothing of it is parked; `Unavailable` to be repeated.
    pub async fn replay(&self, stream_id: &StreamId) -> Result<Vec<Released>> {
        self.release(stream_id, &SkipWhat::Nothing).await
    }

    /// Skips parked events of `stream_id` for good, in this and later revisions, and folds those behind them.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub async fn skip(&self, stream_id: &StreamId, what: &SkipWhat) -> Result<Vec<Released>> {
        let what = self.by_id(stream_id, what).await?;
        self.release(stream_id, &what).await
    }

    /// The events that are meant, by what is parked in the revision that people see: a skip holds for every revision, and in another one
    /// the first that is parked may be another event.
    async fn by_id(&self, stream_id: &StreamId, what: &SkipWhat) -> Result<SkipWhat> {
        let most = match what {
            SkipWhat::First => 1,
            SkipWhat::All => usize::MAX >> 1,
            SkipWhat::Nothing | SkipWhat::Events(_) => return Ok(what.clone()),
        };
        let rollout = self.0.store.rollout().await?;
        for record in with_role(&rollout) {
            if let Some(parked) = self.0.store.parked_stream(record.revision, stream_id, most).await? {
                let ids = parked.events.iter().take(most).map(|event| event.id);
                return Ok(SkipWhat::Events(ids.collect()));
            }
        }
        Ok(SkipWhat::Nothing)
    }

    async fn release(&self, stream_id: &StreamId, what: &SkipWhat) -> Result<Vec<Released>> {
        let rollout = self.0.store.rollout().await?;
        let mut all = Vec::new();
        for record in with_role(&rollout) {
            let plan = self.plan(record)?;
            let released =
                release(&*self.0.store, &**self.reader(), &plan, record.revision, stream_id, what).await?;
            all.extend(released);
        }
        // What was skipped may be what a partition has halted at.
        self.0.shared.decided.notify_waiters();
        self.0.shared.moved.send_modify(|count| *count += 1);
        if all.is_empty() {
            return Err(Error::not_found(format!(
                "projection \"{}\" has no parked events of stream \"{stream_id}\"; see `projections parked`",
                self.name()
            )));
        }
        Ok(all)
    }

    /// Skips one event for good, in this and later revisions: one that halts a partition, or one that is parked.
    ///
    /// # Errors
    /// `NotFound` when it neither halts a partition nor is parked.
    pub async fn skip_event(&self, id: Uuid) -> Result<Vec<Released>> {
        let rollout = self.0.store.rollout().await?;
        for record in with_role(&rollout) {
            if let Some(stream_id) = self.find_parked(record.revision, id).await? {
                return self.release(&stream_id, &SkipWhat::Events(HashSet::from([id]))).await;
            }
        }
        let (revision, partition, position) = self.find_halted(id).ok_or_else(|| {
            Error::not_found(format!(
                "projection \"{}\": event {id} neither halts a partition nor is parked; see `projections show`",
                self.name()
            ))
        })?;
        let state = self
            .0
            .store
            .partition(revision, partition)
            .await
            .map_err(|error| Error::unavailable(error.to_string()))?;
        let batch = Batch {
            skips: vec![Skip { id, partition, position }],
            durability: Durability::Durable,
            ..Batch::new(revision, state.decisions)
        };
        self.0.store.apply(Arc::new(batch)).await.map_err(|error| Error::unavailable(error.to_string()))?;
        self.0.shared.decided.notify_waiters();
        Ok(Vec::new())
    }

    async fn find_parked(&self, revision: Revision, id: Uuid) -> Result<Option<StreamId>> {
        const PAGE: usize = 100;
        let mut after: Option<StreamId> = None;
        loop {
            let page = self.0.store.parked(revision, after.as_ref(), PAGE, usize::MAX >> 1).await?;
            if let Some(entry) = page.iter().find(|entry| entry.events.iter().any(|event| event.id == id)) {
                return Ok(Some(entry.stream_id.clone()));
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = Some(last.stream_id.clone()),
                _ => return Ok(None),
            }
        }
    }

    fn find_halted(&self, id: Uuid) -> Option<(Revision, Partition, Position)> {
        let status = self.status();
        [&status.active, &status.candidate, &status.previous].into_iter().flatten().find_map(|revision| {
            let failure = revision
                .partitions
                .iter()
                .filter_map(|partition| partition.failure.as_ref())
                .find(|failure| failure.event_id == id)?;
            Some((
                Revision(revision.revision.parse().ok()?),
                Partition::new(failure.partition),
                Position::new(failure.position.parse().ok()?),
            ))
        })
    }

    /// Stops: finishes the batches that are being folded, and waits for it.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(projection = self.name(), %error, "the projection's manager has panicked");
        }
    }
}

/// What a service counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) held: usize,
    pub(crate) moves: u64,
    pub(crate) kept: u64,
    pub(crate) lost: u64,
}

/// Waits until a worker may have moved.
pub(crate) struct Moves {
    moved: watch::Receiver<u64>,
    others: Backoff,
    stop: CancellationToken,
}

impl Moves {
    /// What has moved so far is known.
    pub(crate) fn seen(&mut self) {
        self.moved.borrow_and_update();
    }

    /// Waits for the next move: of a worker of this process, or, after a while, of another's.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let pause = self.others.pause();
        tokio::select! {
            moved = self.moved.changed() => moved.map_err(|_| Error::Cancelled),
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.stop.cancelled() => Err(Error::Cancelled),
        }
    }
}

/// The revisions that are kept up to date: the active one first.
fn with_role(rollout: &Rollout) -> Vec<&RevisionRecord> {
    let previous = rollout.previous.map(|previous| previous.revision);
    [rollout.active, rollout.candidate, previous]
        .into_iter()
        .flatten()
        .filter_map(|revision| rollout.record(revision))
        .collect()
}

impl std::fmt::Debug for ProjectionService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProjectionService").field("name", &self.name()).finish_non_exhaustive()
    }
}
