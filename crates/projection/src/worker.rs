//! The task that keeps one partition of one revision up to date.
//!
//! ```text
//!         ┌────────────────────────── Checkpoint, Conflict ◀──┐
//!         ▼                                                   │
//!  open: where is the checkpoint ──▶ page ──▶ fold and apply ─┴─▶ page …
//!         ▲                                       │
//!         └── after a while ◀── the sink or the log failed, or a rule halts (until it is skipped or retried)
//! ```

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use headwater_core::{EventType, Partition, Position, RetryPolicy};
use headwater_log::{LogReader, PartitionPage};
use headwater_resources::projection::ErrorPolicy;
use headwater_view::{ApplyError, Progress, Revision, RowState, RowWrite, ViewSink};
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify, broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fold::Failure;
use crate::folder::{Applied, Folder};
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

/// What a worker is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub(crate) changes: broadcast::Sender<RowChange>,
    /// Told whenever a worker has moved.
    pub(crate) moved: watch::Sender<u64>,
    /// Told when a person has decided something: halted workers try again.
    pub(crate) decided: Notify,
}

/// What all workers of a revision share.
pub(crate) struct RevisionWork {
    pub(crate) revision: Revision,
    pub(crate) plan: Arc<Plan>,
    pub(crate) event_types: Vec<EventType>,
    pub(crate) limiter: Limiter,
    /// See [`Folder`].
    pub(crate) turn: Option<Arc<Mutex<()>>>,
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
    Halted(Box<Failure>),
    Failed(String),
    /// The checkpoint is beyond the log's end, which is there.
    Ahead(Position),
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
                End::Halted(failure) => {
                    self.say_halted(&failure);
                    self.set(Activity::Halted(failure));
                    tokio::select! {
                        () = decided => {}
                        () = self.follow_head() => {}
                        () = self.stop.cancelled() => {}
                    }
                    None
                }
                End::Ahead(head) => {
                    let message = format!(
                        "the read model has folded events up to position {}, and the log ends at {head}: it was restored from an older backup; \
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
                    if failures == 1 {
                        tracing::warn!(
                            projection = self.shared.name, revision = %self.work.revision, partition = %self.partition, %message,
                            "folding has stopped for now and is tried again"
                        );
                    }
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
        self.shared.moved.send_modify(|count| *count += 1);
        // A log that has lost events, to an older backup say: those that come in their place must not be skipped.
        match shared.reader.heads().await {
            Ok(heads) => {
                let head = heads.get(self.partition.index()).map(|head| head.position).unwrap_or_default();
                if progress.position > head {
                    return End::Ahead(head);
                }
            }
            Err(error) => return End::Failed(error.to_string()),
        }
        let size = PageSize::new();
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
            let passes_at = self.work.limiter.pass_at(page.events.len(), Instant::now());
            tokio::select! {
                () = self.stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep_until(passes_at) => {}
            }
            let policy = *shared.policy.borrow();
            let started = Instant::now();
            let applied = match folder.fold(&page, policy).await {
                Ok(applied) => applied,
                Err(error) => return self.end_of(error),
            };
            size.took(page.events.len(), started.elapsed());
            if let Some(halted) = self.tell(folder.progress(), &page, applied) {
                return End::Halted(Box::new(halted));
            }
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
            status.activity = Activity::Running;
        });
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
