//! The task that keeps one partition of one revision up to date.
//!
//! ```text
//!         ┌────────────────────────── Checkpoint, Conflict ◀──┐
//!         ▼                                                   │
//!  open: where is the checkpoint ──▶ page ──▶ fold and apply ─┴─▶ page …
//!         ▲                                       │
//!         ├── after a while ◀── the sink or the log failed, or a rule halts (until it is skipped or retried)
//!         └── leased again  ◀── the lease has run out: before each page
//! ```

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use headwater_core::{EventType, Partition, Position, Positions, RetryPolicy};
use headwater_log::{Filter, LogReader, PartitionPage, ReadPartition, say_failure};
use headwater_resources::projection::ErrorPolicy;
use headwater_runtime::{span, trace};
use headwater_view::{ApplyError, Decisions, Progress, Revision, RowState, RowWrite, ViewSink};
use serde::{Deserialize, Serialize};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::fold::Failure;
use crate::folder::{Applied, Folder};
use crate::leases::Leases;
use crate::limiter::Limiter;
use crate::pages::{PageSize, Pages};
use crate::plan::Plan;

/// How a sink or a log that fails is tried again: for ever, at last every 10 seconds.
const RETRY: RetryPolicy = RetryPolicy {
    name: "fold",
    attempts: u32::MAX,
    initial: Duration::from_millis(100),
    max: Duration::from_secs(10),
};

/// How often the log's head is looked at where nothing is folded.
const HEAD_EVERY: Duration = Duration::from_millis(200);

/// How often a worker for which no event comes looks whether the checkpoint is still its own: a sink that was set back to an older state is folded
/// into again from there, and nobody else would notice.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Conflicts in a row after which a worker waits a little: others are writing the same rows.
const PATIENCE: u32 = 3;

/// A row as a batch left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowChange {
    /// The revision that it is in.
    pub revision: Revision,
    /// The table's name.
    pub table: String,
    /// The row's key, as a query's path shows it.
    pub key: String,
    /// The row's columns and cells; `None`: the row is gone.
    pub row: Option<Vec<(String, headwater_view::Cell)>>,
}

/// What a worker is doing. Part of what processes tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Activity {
    /// Finding out where it stands.
    Starting,
    /// Folding, or waiting for events.
    Running,
    /// A rule failed under `onError: Halt`, or too many events are parked.
    Halted(Box<Failure>),
    /// The sink or the log failed; it is tried again.
    Failing(String),
    /// It has ended.
    Ended,
}

/// How far a worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerStatus {
    pub(crate) progress: Option<Progress>,
    /// The partition's head when it was last seen.
    pub(crate) head: Option<Position>,
    pub(crate) activity: Activity,
}

/// What all workers of a projection share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) reader: Arc<dyn LogReader>,
    pub(crate) sink: Arc<dyn ViewSink>,
    pub(crate) policy: watch::Receiver<ErrorPolicy>,
    /// The revision whose row changes are told, as a number; 0: none.
    pub(crate) active: AtomicU32,
    /// See [`ProjectionService::era`](crate::ProjectionService).
    pub(crate) era: AtomicU64,
    pub(crate) changes: broadcast::Sender<RowChange>,
    /// Told whenever a worker has moved.
    pub(crate) moved: watch::Sender<u64>,
    pub(crate) folded: Folded,
    /// Told when a person has decided something: halted workers try again.
    pub(crate) decided: Notify,
    /// Which partitions are folded here.
    pub(crate) leases: Leases,
    pub(crate) tally: Tally,
}

/// Events that were folded here.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whose batch was applied.
    pub(crate) kept: AtomicU64,
    /// Whose batch was refused, or failed: they are folded again, here or elsewhere.
    pub(crate) lost: AtomicU64,
}

/// How far the workers of this process have folded each revision, so that whoever waits for a position need not ask the sink at every move.
#[derive(Default)]
pub(crate) struct Folded(Mutex<HashMap<(Revision, Partition), Position>>);

impl Folded {
    fn note(&self, revision: Revision, partition: Partition, position: Position) {
        self.enter().insert((revision, partition), position);
    }

    /// Nobody here folds that partition any more.
    fn forget(&self, revision: Revision, partition: Partition) {
        self.enter().remove(&(revision, partition));
    }

    /// Whether a worker of this process folds `revision` and is not where `minimum` is yet.
    pub(crate) fn is_behind(&self, revision: Revision, minimum: &Positions) -> bool {
        let folded = self.enter();
        minimum.iter().any(|(partition, least)| {
            folded.get(&(revision, partition)).is_some_and(|reached| *reached < least)
        })
    }

    // Each change is whole.
    fn enter(&self) -> MutexGuard<'_, HashMap<(Revision, Partition), Position>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all workers of a revision share.
pub(crate) struct RevisionWork {
    pub(crate) revision: Revision,
    pub(crate) plan: Arc<Plan>,
    pub(crate) event_types: Vec<EventType>,
    pub(crate) limiter: Limiter,
    /// See [`Folder`].
    pub(crate) turn: Option<Arc<tokio::sync::Mutex<()>>>,
}

/// One worker.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) work: Arc<RevisionWork>,
    pub(crate) partition: Partition,
    pub(crate) status: watch::Sender<WorkerStatus>,
    pub(crate) stop: CancellationToken,
}

/// Why a session ended.
enum End {
    Stopped,
    Again,
    /// A person has decided something: what is known of the revision's state is old.
    Decided,
    /// Until people decide something else than these.
    Halted(Box<Failure>, Decisions),
    Failed(String),
    /// The lease has run out.
    NotHeld,
    /// The log is not the one that was folded: what is different.
    Restored(String),
}

impl Worker {
    /// Folds until it is stopped or the revision is gone.
    pub(crate) async fn run(self) {
        let mut failures = 0;
        let mut conflicts = 0;
        while !self.stop.is_cancelled() {
            let before = self.position();
            // Before the session, so that a decision that is made while it ends is not missed.
            let mut decided = pin!(self.shared.decided.notified());
            decided.as_mut().enable();
            let end = self.session(decided.as_mut()).await;
            if self.position() != before {
                failures = 0;
                conflicts = 0;
            }
            let wait = match end {
                End::Stopped => break,
                End::Decided => None,
                End::Again => {
                    conflicts += 1;
                    (conflicts > PATIENCE).then(|| RETRY.delay(conflicts - PATIENCE)).flatten()
                }
                End::NotHeld => {
                    self.shared.folded.forget(self.work.revision, self.partition);
                    self.set(Activity::Starting);
                    tokio::select! {
                        () = self.shared.leases.until_held(self.partition) => {}
                        () = self.stop.cancelled() => {}
                    }
                    None
                }
                End::Halted(failure, decisions) => {
                    self.say_halted(&failure);
                    self.set(Activity::Halted(failure));
                    tokio::select! {
                        () = decided => {}
                        () = self.decided_elsewhere(decisions) => {}
                        () = self.follow_head() => {}
                        () = self.stop.cancelled() => {}
                    }
                    None
                }
                End::Restored(what) => {
                    let message = format!(
                        "the read model has folded events up to position {}, and {what}: it was restored from an older backup; \
                         build the read model anew with `headwater projections rebuild {}`",
                        self.position().unwrap_or_default(),
                        self.shared.name
                    );
                    tracing::error!(projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, "{message}");
                    self.set(Activity::Failing(message));
                    // When the log has grown past the checkpoint, it still holds other events below it.
                    self.stop.cancelled().await;
                    None
                }
                End::Failed(message) => {
                    failures += 1;
                    say_failure!(
                        failures == 1,
                        projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, %message,
                        "folding has stopped for now and is tried again"
                    );
                    self.set(Activity::Failing(message));
                    RETRY.delay(failures)
                }
            };
            if let Some(wait) = wait {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.follow_head() => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
        self.shared.folded.forget(self.work.revision, self.partition);
        self.set(Activity::Ended);
    }

    /// Says how far the log is while nothing is folded, so that people see how far behind the partition is. Never ends.
    async fn follow_head(&self) {
        let mut failures = 0;
        loop {
            let known = self.status.borrow().head.unwrap_or_default();
            match self.shared.reader.wait_beyond(self.partition, known).await {
                Ok(head) => {
                    failures = 0;
                    self.status.send_modify(|status| status.head = Some(head));
                    self.shared.moved.send_modify(|count| *count += 1);
                    // The next one matters to people only.
                    tokio::time::sleep(HEAD_EVERY).await;
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(projection = self.shared.name, partition = %self.partition, %error, "the log's head is not known");
                    tokio::time::sleep(RETRY.delay(failures).unwrap_or(RETRY.max)).await;
                }
            }
        }
    }

    /// Waits until people have decided something by way of another process.
    async fn decided_elsewhere(&self, known: Decisions) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            match self.shared.sink.partition(self.work.revision, self.partition).await {
                Ok(state) if state.decisions == known => {}
                // Where the revision is gone, the session finds that out.
                Ok(_) | Err(ApplyError::Gone { .. }) => return,
                Err(error) => {
                    tracing::debug!(projection = self.shared.name, partition = %self.partition, %error, "what people decided is not known");
                }
            }
        }
    }

    fn say_halted(&self, failure: &Failure) {
        tracing::error!(
            projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, position = failure.position,
            event_id = %failure.event_id, event_type = failure.event_type, stream_id = failure.stream_id, error = %failure.error,
            "a rule failed and the partition has halted; mend the rule, or skip the event"
        );
    }

    fn position(&self) -> Option<Position> {
        self.status.borrow().progress.map(|progress| progress.position)
    }

    fn set(&self, activity: Activity) {
        self.status.send_modify(|status| status.activity = activity);
        self.shared.moved.send_modify(|count| *count += 1);
    }

    async fn session(&self, mut decided: Pin<&mut Notified<'_>>) -> End {
        let shared = &self.shared;
        if !shared.leases.holds(self.partition) {
            return End::NotHeld;
        }
        let folder = Folder::open(
            Arc::clone(&shared.sink),
            Arc::clone(&self.work.plan),
            self.work.revision,
            self.partition,
            self.work.turn.clone(),
        );
        let mut folder = match folder.await {
            Ok(folder) => folder,
            Err(error) => return self.end_of(error),
        };
        let progress = *folder.progress();
        self.status.send_modify(|status| status.progress = Some(progress));
        shared.folded.note(self.work.revision, self.partition, progress.position);
        self.shared.moved.send_modify(|count| *count += 1);
        // A log that has lost events, to an older backup say: those that come in their place must not be skipped.
        match self.restored(&progress).await {
            Ok(None) => {}
            Ok(Some(what)) => return End::Restored(what),
            Err(error) => return End::Failed(error.to_string()),
        }
        let size = PageSize::of_at_most(self.work.limiter.at_once());
        let mut pages = Pages::read(
            Arc::clone(&shared.reader),
            self.partition,
            progress.position,
            self.work.event_types.clone(),
            size.clone(),
        );
        loop {
            let page = tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                () = decided.as_mut() => return End::Decided,
                page = pages.next() => page,
                () = tokio::time::sleep(LOOK_EVERY) => match folder.is_where_it_was().await {
                    Ok(()) => continue,
                    Err(error) => return self.end_of(error),
                },
            };
            let page = match page {
                Some(Ok(page)) => page,
                Some(Err(error)) => return End::Failed(error.to_string()),
                None => return End::Again,
            };
            size.be_at_most(self.work.limiter.at_once());
            tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                () = self.work.limiter.pass(page.events.len()) => {}
            }
            // Whoever was stopped for longer than its lease finds that out here, or else by the checkpoint.
            if !shared.leases.holds(self.partition) {
                return End::NotHeld;
            }
            let policy = *shared.policy.borrow();
            let started = Instant::now();
            let span = self.span(&page);
            let result = folder.fold(&page, policy).instrument(span.clone()).await;
            self.count(&page, folder.progress().position, result.is_err());
            let applied = match result {
                Ok(applied) => applied,
                Err(error) => {
                    trace::fail(&span, failure_kind(&error));
                    return self.end_of(error);
                }
            };
            drop(span);
            size.took(page.events.len(), started.elapsed());
            if let Some(halted) = self.tell(folder.progress(), &page, applied) {
                return End::Halted(Box::new(halted), folder.decisions());
            }
        }
    }

    /// How the log differs from the one that was folded up to `progress`, as far as that shows.
    async fn restored(&self, progress: &Progress) -> headwater_core::Result<Option<String>> {
        let reader = &self.shared.reader;
        let heads = reader.heads().await?;
        let head = heads.get(self.partition.index()).map(|head| head.position).unwrap_or_default();
        if progress.position > head {
            return Ok(Some(format!("the log ends at {head}")));
        }
        // A log that has grown since has events at these positions, which were recorded later. The time is that of the last event that the rules are
        // about, which need not be the one at the checkpoint.
        let Some(folded) = progress.recorded_at else { return Ok(None) };
        let request = ReadPartition {
            partition: self.partition,
            after: reader.position_before(self.partition, folded).await?,
            up_to: Some(progress.position),
            filter: Filter::default(),
            limit: 1,
            max_bytes: 1,
        };
        let page = reader.read_partition(request).await?;
        let is_there = page
            .events
            .first()
            .is_some_and(|event| event.recorded_at.as_microsecond() == folded.as_microsecond());
        Ok((!is_there).then(|| format!("the log has no event of {folded} up to there, which was folded")))
    }

    /// The span of folding a page, linked to where its events were appended. A page without events is none's.
    fn span(&self, page: &PartitionPage) -> Span {
        if page.events.is_empty() {
            return Span::none();
        }
        let span = span!(
            parent: None,
            "process",
            otel.name = format_args!("process {}", self.shared.name),
            otel.kind = "consumer",
            messaging.system = "headwater",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.consumer.group.name = self.shared.name,
            messaging.batch.message_count = page.events.len(),
            headwater.revision = self.work.revision.0,
            headwater.partition = self.partition.get(),
            headwater.position = page.reached.get(),
            otel.status_code = Empty,
            error.type = Empty,
        );
        trace::link(&span, page.events.iter().map(|event| &event.metadata));
        span
    }

    /// Counts the events of a page: those up to `reached` were folded for good, and where it `failed`, those behind them in vain.
    fn count(&self, page: &PartitionPage, reached: Position, failed: bool) {
        let kept = page.events.partition_point(|event| event.position <= reached);
        self.shared.tally.kept.fetch_add(kept as u64, Ordering::Relaxed);
        if failed {
            self.shared.tally.lost.fetch_add((page.events.len() - kept) as u64, Ordering::Relaxed);
        }
    }

    /// Tells those who watch what a page did, and gives what halted it.
    fn tell(&self, progress: &Progress, page: &PartitionPage, applied: Applied) -> Option<Failure> {
        for failure in &applied.failures {
            tracing::warn!(
                projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, position = failure.position,
                event_id = %failure.event_id, event_type = failure.event_type, stream_id = failure.stream_id, error = %failure.error,
                "a rule failed; the event was set aside or skipped"
            );
        }
        if self.shared.active.load(Ordering::Relaxed) == self.work.revision.0
            && self.shared.changes.receiver_count() > 0
        {
            for write in &applied.rows {
                // Nobody listening any more is fine.
                let _ = self.shared.changes.send(self.row_change(write));
            }
        }
        self.status.send_modify(|status| {
            status.progress = Some(*progress);
            status.head = Some(page.head);
            if matches!(std::mem::replace(&mut status.activity, Activity::Running), Activity::Failing(_)) {
                tracing::info!(
                    projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, "folding goes on"
                );
            }
        });
        self.shared.folded.note(self.work.revision, self.partition, progress.position);
        self.shared.moved.send_modify(|count| *count += 1);
        applied.halted
    }

    fn row_change(&self, write: &RowWrite) -> RowChange {
        let schema = &self.work.plan.tables()[write.table];
        let row = match &write.state {
            Some(RowState::Live(row)) => Some(
                schema
                    .columns
                    .iter()
                    .map(|column| column.name.clone())
                    .zip(row.cells.iter().cloned())
                    .collect(),
            ),
            _ => None,
        };
        RowChange {
            revision: self.work.revision,
            table: schema.name.clone(),
            key: write.key.to_string(),
            row,
        }
    }

    fn end_of(&self, error: ApplyError) -> End {
        match error {
            ApplyError::Gone { .. } => End::Stopped,
            ApplyError::Conflict { what } => {
                tracing::debug!(projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, what, "folding again");
                End::Again
            }
            ApplyError::Checkpoint { found } => {
                tracing::info!(
                    projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, position = %found,
                    "the checkpoint is elsewhere: another worker was here, or the read model was restored; going on from there"
                );
                End::Again
            }
            ApplyError::Failed(error) => End::Failed(error.to_string()),
        }
    }
}

/// How folding failed, as traces say it.
const fn failure_kind(error: &ApplyError) -> &'static str {
    match error {
        ApplyError::Gone { .. } => "gone",
        ApplyError::Conflict { .. } => "conflict",
        ApplyError::Checkpoint { .. } => "checkpoint",
        ApplyError::Failed(error) => error.kind(),
    }
}
